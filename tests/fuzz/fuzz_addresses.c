/* Any bytes as the file of kept addresses: what is taken from it are hosts and addresses, within their limits. */
#include "fetch/resolve.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct resolve_kept kept;
	unsigned char bytes[16];
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	resolve_kept_parse(text, &kept);
	free(text);
	expect(kept.count <= RESOLVE_HOSTS_MAX);
	for (size_t i = 0; i < kept.count; i++) {
		const struct resolve_list *l = &kept.hosts[i].list;

		expect(kept.hosts[i].host[0] && !strpbrk(kept.hosts[i].host, " \n"));
		expect(l->count > 0 && l->count <= RESOLVE_ADDRESSES_MAX);
		for (size_t j = 0; j < l->count; j++)
			expect(inet_pton(AF_INET, l->items[j], bytes) == 1 ||
			       inet_pton(AF_INET6, l->items[j], bytes) == 1);
	}
	return 0;
}
