/* Any bytes as configuration: a tree to walk, or a complaint that names the file. */
#include "base/err.h"
#include "base/text.h"
#include "conf/conf.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

/* Answers whether it ends: the result of the typed readers is either a value or a sentence. */
static void check_member(const struct conf *map, const char *key)
{
	struct conf_error e = { "" };
	const char *text;
	uint64_t n;
	bool b;

	expect(conf_need_text(map, key, &text, &e) == 0 || e.text[0]);
	expect(conf_optional_u64(map, key, 1, 65535, 1, &n, &e) == 0 || e.text[0]);
	expect(conf_optional_bool(map, key, true, &b, &e) == 0 || e.text[0]);
	expect(conf_optional_seconds(map, key, 1, &n, &e) == 0 || e.text[0]);
	expect(conf_optional_bytes(map, key, 1, &n, &e) == 0 || e.text[0]);
}

static void check_tree(const struct conf *c, unsigned depth)
{
	struct conf_error e;

	expect(depth <= 17);
	expect(conf_line(c) > 0);
	expect((conf_kind(c) == CONF_SCALAR) == (conf_text(c) != NULL));
	if (conf_kind(c) == CONF_MAP) {
		(void) conf_get(c, "component");
		(void) conf_get(c, "probation");
		if (conf_count(c) > 0)
			(void) conf_reject_unknown(c, &e); /* either is right here */
	}
	for (size_t i = 0; i < conf_count(c); i++) {
		const char *key = conf_key_at(c, i);

		if (key) {
			expect(conf_get(c, key) == conf_at(c, i));
			check_member(c, key);
		}
		check_tree(conf_at(c, i), depth + 1);
	}
	expect(conf_kind(c) != CONF_MAP || conf_reject_unknown(c, &e) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	struct conf_error e = { "" };
	int r;

	r = conf_parse(data, size, "fuzz.yaml", &f, &e);
	if (r < 0) {
		expect(r == -ERR_CONFIG && str_starts(e.text, "fuzz.yaml:"));
		return 0;
	}
	check_tree(conf_root(f), 0);
	return 0;
}
