/* Hostile envelopes against known keys, and hostile key rings. */
#include "base/err.h"
#include "base/text.h"
#include "json/json.h"
#include "tuf/tuf.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char pem[] = "-----BEGIN PUBLIC KEY-----\n"
			  "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEohqIdE+yTl4OxpX8ZxNUPrg3SL9H\n"
			  "BDnhZuceKkxy2oMhUOxhWweZeG3bfM1T4ZLnJimC6CAYVU5+F5jZCoftRw==\n"
			  "-----END PUBLIC KEY-----\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct tuf_keyring *known;
	CLEANUP(json_freep)
	struct json *opened = NULL;
	CLEANUP(json_freep)
	struct json *document = NULL;
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *approvers = NULL;
	unsigned valid = 0;

	if (!known && tuf_keyring_single(pem, &known) < 0)
		abort();
	/* The key signed nothing but what stands in the corpus. */
	if (tuf_envelope_open(data, size, known, &opened) >= 0 &&
	    !json_is(json_get(opened, "signed"), JSON_OBJECT))
		abort();
	if (json_parse(data, size, &json_limits_default, &document) < 0)
		return 0;
	if (tuf_keyring_load(document, &ring) >= 0) {
		if (tuf_keyring_threshold(ring) == 0)
			abort();
		if (tuf_keyring_count(ring, json_get(document, "signatures"), "message", 7, &valid) >= 0 &&
		    valid > 1024)
			abort();
	}
	(void) !tuf_approvers_load(document, "qa", &approvers);
	return 0;
}
