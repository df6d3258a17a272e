/* Any bytes as what targets say of CAs, and as a ca.crt that it is applied to: nobody is trusted who is not named. */
#include "agent/local/ca.h"
#include "base/err.h"
#include "crypto/certificate.h"
#include "json/json.h"
#include "roundtrip.h"
#include "tuf/tuf.h"

#include <stdlib.h>
#include <string.h>

static void apply(const char *present, const struct tuf_ca *said)
{
	CLEANUP(certificate_bundle_done)
	struct certificate_bundle have = { .count = 0 }, final = { .count = 0 };
	CLEANUP(ca_change_done)
	struct ca_change c = { .grows = false };

	if (certificate_bundle_read(present, &have) < 0 || ca_compose(present, said, &c) < 0)
		return;
	expect(certificate_bundle_read(buf_str(&c.final), &final) == 0);
	for (size_t i = 0; i < final.count; i++)
		expect(!tuf_ca_is_retired(said, final.items[i].sha256) &&
		       (certificate_bundle_find(&have, final.items[i].sha256) ||
			certificate_bundle_find(&said->trusted, final.items[i].sha256)));
	for (size_t i = 0; i < said->trusted.count; i++)
		expect(certificate_bundle_find(&final, said->trusted.items[i].sha256) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(tuf_ca_done)
	struct tuf_ca said = { .retired_count = 0 };
	char *text = malloc(size + 1);

	expect(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	apply(text, &said);
	/* A line's end, then a ca.crt: what is said of it comes first. */
	if (strchr(text, '\n')) {
		size_t line = strcspn(text, "\n");

		if (json_parse(text, line, &json_limits_default, &doc) == 0 && tuf_ca_load(doc, &said) == 0)
			apply(text + line, &said);
	}
	free(text);
	return 0;
}
