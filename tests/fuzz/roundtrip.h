/*
 * roundtrip - for fuzzers of documents: what was accepted is written, accepted again,
 * and written the same.
 */
#ifndef SELFRIGHT_TESTS_FUZZ_ROUNDTRIP_H
#define SELFRIGHT_TESTS_FUZZ_ROUNDTRIP_H

#include "base/buf.h"
#include "json/build.h"
#include "json/json.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void expect(bool holds)
{
	if (!holds)
		abort();
}

/* Parse `doc` and write what it said; negative if it was refused, and then *ret_error must hold a sentence. */
typedef int document_again(const struct json *doc, struct json_node *object, char **ret_error);

static inline int write_again(const struct json *doc, document_again *again, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	char *error = NULL;
	int r = again(doc, json_build_root(b), &error);

	expect((r < 0) == (error != NULL));
	free(error);
	if (r < 0)
		return r;
	expect(json_build_text(b, false, out) == 0);
	return 0;
}

static inline void roundtrip(const struct json *doc, document_again *again)
{
	CLEANUP(buf_done)
	struct buf first = BUF_INIT(1 << 25), second = BUF_INIT(1 << 25);
	CLEANUP(json_freep)
	struct json *written = NULL;

	if (write_again(doc, again, &first) < 0)
		return;
	expect(json_parse(first.data, first.len, &json_limits_default, &written) == 0);
	expect(write_again(written, again, &second) == 0);
	expect(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
}

#endif
