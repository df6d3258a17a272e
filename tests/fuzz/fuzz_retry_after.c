/* Any bytes as what an answer asks for: the first line its Retry-After, the rest its Date. Never more than the bound. */
#include "fetch/retry_after.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *rest;
	int64_t at = -1;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	rest = strchr(text, '\n');
	if (rest)
		*rest++ = '\0';
	if (retry_after_seconds(text, rest, 1763717400) > RETRY_AFTER_MAX_S ||
	    retry_after_seconds(text, NULL, INT64_MIN) > RETRY_AFTER_MAX_S ||
	    retry_after_seconds(text, NULL, INT64_MAX) > RETRY_AFTER_MAX_S)
		abort();
	if (http_date_parse(text, &at) == 0 && (at < 0 || at > INT64_C(253402300799)))
		abort();
	free(text);
	return 0;
}
