/* Selectors: what Prometheus means by them, and what is refused rather than misread. */
#include "base/err.h"
#include "model/selector.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *code_of(const void *user, const char *label)
{
	return strcmp(label, "code") == 0 ? user : NULL;
}

static bool selects(const char *text, const char *name, const char *code)
{
	struct selector s;

	if (selector_parse(text, &s) < 0)
		fail_msg("%s is no selector", text);
	return selector_matches(&s, name, code_of, code);
}

static void test_names_and_labels(void **state)
{
	(void) state;
	assert_true(selects("up", "up", NULL));
	assert_false(selects("up", "upper", NULL));
	assert_true(selects(" up { } ", "up", "200"));
	assert_true(selects("node:load:1{code=\"200\"}", "node:load:1", "200"));
	assert_false(selects("a{code=\"200\"}", "a", "404"));
	assert_true(selects("a{code!=\"200\",}", "a", "404"));
	assert_true(selects("a{code=\"\"}", "a", NULL)); /* a missing label is empty */
	assert_true(selects("a{other=\"\"}", "a", "200"));
	assert_false(selects("a{code=\"200\",other=\"x\"}", "a", "200"));
	assert_true(selects("a{code=\"say \\\"hi\\\"\\n\\\\\"}", "a", "say \"hi\"\n\\"));
	assert_true(selects("a{code=~\"5..\"}", "a", "503"));
	assert_false(selects("a{code=~\"5..\"}", "a", "5030")); /* the whole value */
	assert_true(selects("a{code!~\"5..\"}", "a", "200"));
	assert_true(selects("a{code=~\"4..|5..\"}", "a", "404"));
}

static void test_patterns(void **state)
{
	static const struct {
		const char *pattern, *text;
		bool matches;
	} cases[] = {
		{ "", "", true },	   { "", "a", false },		 { "a", "a", true },
		{ ".*", "", true },	   { ".+", "", false },		 { ".+", "x", true },
		{ "a.*b", "ab", true },	   { "a.*b", "axxb", true },	 { "a.*b", "axxbc", false },
		{ "a.+b", "ab", false },   { "a.+b", "axb", true },	 { ".*a.*b", "xayabzab", true },
		{ ".*ab", "aab", true },   { "a\\.b", "a.b", true },	 { "a\\.b", "axb", false },
		{ "a\\|b", "a|b", true },  { "a|b|", "", true },	 { "a|b", "c", false },
		{ "x.*|.*y", "zy", true }, { ".*.*", "anything", true }, { ".+.+", "a", false },
		{ ".+.+", "ab", true },	   { "a.", "a", false },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (selector_pattern_matches(cases[i].pattern, cases[i].text) != cases[i].matches)
			fail_msg("'%s' on '%s'", cases[i].pattern, cases[i].text);
}

/* What costs other matchers minutes must cost nothing here. */
static void test_a_hostile_pattern_ends(void **state)
{
	char text[1001];

	(void) state;
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_false(selector_pattern_matches(".*a.*a.*a.*a.*a.*a.*a.*a.*a.*a.*b", text));
}

static void test_what_is_no_selector(void **state)
{
	static const char *const bad[] = {
		"",
		"{code=\"200\"}",
		"9a",
		"a b",
		"a{",
		"a{code}",
		"a{code=}",
		"a{code=200}",
		"a{code=\"200}",
		"a{code=\"200\"",
		"a{code==\"\"}",
		"a{=\"\"}",
		"a{code=\"a\"}x",
		"a{code=\"\\x\"}",
		"a{code=\"a\" b=\"c\"}",
		"a{code=~\"a*\"}",
		"a{code=~\"[0-9]\"}",
		"a{code=~\"a{2}\"}",
		"a{code=~\"(a)\"}",
		"a{code=~\"^a$\"}",
		"a{code=~\"a?\"}",
		"a{code=~\"\\\\\"}",
		"sum(a)",
		"a[5m]",
		"a{a-b=\"c\"}",
	};
	char many[2048] = "a{", name[300];
	struct selector s;

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (selector_parse(bad[i], &s) != -ERR_SYNTAX)
			fail_msg("%s was taken", bad[i]);
	for (int i = 0; i < SELECTOR_LABELS_MAX + 1; i++)
		(void) strcat(many, "a=\"\",");
	(void) strcat(many, "}");
	assert_int_equal(selector_parse(many, &s), -ERR_TOO_LARGE);
	memset(many, 'a', sizeof(many) - 1);
	many[sizeof(many) - 1] = '\0';
	assert_int_equal(selector_parse(many, &s), -ERR_TOO_LARGE);
	memset(name, 'a', SELECTOR_NAME_MAX + 1);
	name[SELECTOR_NAME_MAX + 1] = '\0';
	assert_int_equal(selector_parse(name, &s), -ERR_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_and_labels),
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_a_hostile_pattern_ends),
		cmocka_unit_test(test_what_is_no_selector),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
