/* Any bytes: parse, canonicalize; the canonical form reads back as itself, or is no JSON for its control bytes. */
#include "base/err.h"
#include "json/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

static void check_tree(const struct json *j)
{
	for (size_t i = 0; i < json_count(j); i++) {
		const char *name = json_name_at(j, i);

		expect(!name || json_get(j, name) == json_at(j, i));
		check_tree(json_at(j, i));
	}
	expect(!json_is(j, JSON_STRING) || json_string(j) != NULL);
}

static bool has_control(const struct buf *b)
{
	for (size_t i = 0; i < b->len; i++)
		if (b->data[i] < 0x20)
			return true;
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(buf_done)
	struct buf first = BUF_INIT(1 << 24), second = BUF_INIT(1 << 24);
	CLEANUP(json_freep)
	struct json *j = NULL, *copy = NULL, *again = NULL;
	int r;

	if (json_parse(data, size, NULL, &j) < 0)
		return 0;
	check_tree(j);
	expect(json_canonical(j, &first) == 0);
	expect(json_copy(j, &copy) == 0);
	check_tree(copy);
	expect(json_canonical(copy, &second) == 0);
	expect(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
	r = json_parse(first.data, first.len, NULL, &again);
	expect((r == 0) == !has_control(&first));
	if (r < 0) {
		expect(r == -ERR_ENCODING);
		return 0;
	}
	buf_clear(&second);
	expect(json_canonical(again, &second) == 0);
	expect(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
	return 0;
}
