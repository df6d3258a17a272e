/* preflight.yaml: what is read, and broken ones: file, line and what was expected. */
#include "base/buf.h"
#include "base/err.h"
#include "conf/conf.h"
#include "server-stub/rollout/rules.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char whole[] =
	"require: [changes, risk, checks, owner]\n"
	"expected_duration: 30m\n"
	"risk:\n"
	"  high: {stages: 4, soak: 12h, approvals: 2}\n"
	"  medium: {stages: 2}\n"
	"commands:\n"
	"  - name: tests\n"
	"    run: [/usr/local/bin/status, \"${component}-${version}\", \"${release_sha256}\", a$b]\n"
	"    environment: [TOKEN, _X9]\n"
	"    timeout: 5s\n"
	"    valid: 1d\n"
	"  - {name: scan, run: [/bin/true], required: false}\n"
	"components:\n"
	"  web: {require: [changes], commands: []}\n"
	"  dns: {risk: {low: {soak: 1m}}}\n";

static void read_for(const char *component, struct rules *r)
{
	struct conf_error e = { "" };

	if (rules_parse(whole, strlen(whole), "f", component, r, &e) < 0)
		fail_msg("%s", e.text);
}

static void all_that_is_asked_is_read(void **state)
{
	struct rules r;

	(void) state;
	read_for("other", &r);
	assert_string_equal(r.file, "f");
	assert_true(r.require[RULE_FIELD_CHANGES] && r.require[RULE_FIELD_RISK] && r.require[RULE_FIELD_CHECKS] &&
		    r.require[RULE_FIELD_OWNER]);
	assert_false(r.require[RULE_FIELD_ON_CALL] || r.require[RULE_FIELD_KNOWN_ISSUES]);
	assert_int_equal(r.require_line, 1);
	assert_int_equal(r.duration_max_s, 1800);
	assert_int_equal(r.risk[RULE_RISK_HIGH].stages, 4);
	assert_int_equal(r.risk[RULE_RISK_HIGH].soak_s, 12 * 3600);
	assert_int_equal(r.risk[RULE_RISK_HIGH].approvals, 2);
	assert_int_equal(r.risk[RULE_RISK_HIGH].line, 4);
	assert_int_equal(r.risk[RULE_RISK_MEDIUM].stages, 2);
	assert_int_equal(r.risk[RULE_RISK_LOW].line, 0);
	assert_int_equal(r.command_count, 2);
	assert_string_equal(r.commands[0].name, "tests");
	assert_int_equal(r.commands[0].argv.count, 4);
	assert_int_equal(r.commands[0].environment.count, 2);
	assert_int_equal(r.commands[0].timeout_s, 5);
	assert_int_equal(r.commands[0].valid_s, 86400);
	assert_true(r.commands[0].required);
	assert_int_equal(r.commands[0].line, 7);
	assert_false(r.commands[1].required);
	assert_int_equal(r.commands[1].timeout_s, 300);
	rules_done(&r);
	rules_done(&r);
}

static void a_component_says_it_key_by_key(void **state)
{
	struct rules r;

	(void) state;
	read_for("web", &r);
	assert_true(r.require[RULE_FIELD_CHANGES]);
	assert_false(r.require[RULE_FIELD_RISK]);
	assert_int_equal(r.command_count, 0);
	assert_int_equal(r.duration_max_s, 1800); /* not said, so the fleet's */
	assert_int_equal(r.risk[RULE_RISK_HIGH].stages, 4);
	rules_done(&r);
	read_for("dns", &r);
	assert_int_equal(r.risk[RULE_RISK_HIGH].line, 0); /* the whole key stands instead */
	assert_int_equal(r.risk[RULE_RISK_LOW].soak_s, 60);
	assert_int_equal(r.command_count, 2);
	rules_done(&r);
}

static void nothing_asks_for_nothing(void **state)
{
	char dir[] = "/tmp/test-rules-XXXXXX";
	struct conf_error e = { "" };
	struct rules r;

	(void) state;
	assert_int_equal(rules_parse("", 0, "f", "web", &r, &e), 0);
	assert_int_equal(r.command_count, 0);
	rules_done(&r);
	assert_non_null(mkdtemp(dir));
	assert_int_equal(rules_load(dir, "web", &r, &e), 0);
	assert_null(r.file);
	rules_done(&r);
	assert_int_equal(rmdir(dir), 0);
}

static void broken_ones_say_where_and_what(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "[a]\n", "f:1: " },
		{ "requires: [changes]\n", "f:1: " },
		{ "require: changes\n", "f:1: expected a list" },
		{ "require: [changes, beauty]\n", "found 'beauty'" },
		{ "expected_duration: soon\n", "f:1: " },
		{ "expected_duration: 31d\n", "at most 30d" },
		{ "\nrisk: {huge: {stages: 2}}\n", "f:2: " },
		{ "risk: {high: {}}\n", "expected stages, soak or approvals" },
		{ "risk: {high: {stages: 0}}\n", "f:1: " },
		{ "risk: {high: {stages: 33}}\n", "f:1: " },
		{ "risk: {high: {soak: 91d}}\n", "at most 90d" },
		{ "risk: {high: {approvals: 2, other: 1}}\n", "f:1: " },
		{ "commands: {}\n", "expected a list of at most 16 commands" },
		{ "commands: [x]\n", "expected a command" },
		{ "commands: [{name: A, run: [/bin/true]}]\n", "found 'A'" },
		{ "commands: [{name: a}]\n", "expected 'run'" },
		{ "commands: [{name: a, run: []}]\n", "1 to 32 texts" },
		{ "commands: [{name: a, run: true}]\n", "1 to 32 texts" },
		{ "commands: [{name: a, run: [make]}]\n", "absolute path of a program, found 'make'" },
		{ "commands: [{name: a, run: ['/bin/${component}']}]\n", "as an argument only" },
		{ "commands: [{name: a, run: [/bin/echo, '${vars.x}']}]\n", "expected ${component}" },
		{ "commands: [{name: a, run: [/bin/echo, \"a\\x1bb\"]}]\n", "without control characters" },
		{ "commands: [{name: a, run: [/bin/true], timeout: 0s}]\n", "from 1s to 1h" },
		{ "commands: [{name: a, run: [/bin/true], timeout: 2h}]\n", "from 1s to 1h" },
		{ "commands: [{name: a, run: [/bin/true], valid: 400d}]\n", "from 1s to 366d" },
		{ "commands: [{name: a, run: [/bin/true], environment: ['A=B']}]\n", "name of a variable" },
		{ "commands: [{name: a, run: [/bin/true], shell: true}]\n", "f:1: " },
		{ "commands: [{name: a, run: [/bin/true]}, {name: a, run: [/bin/true]}]\n", "used twice" },
		{ "components: [web]\n", "expected at most" },
		{ "components: {Web: {}}\n", "found 'Web'" },
		{ "components: {web: 1}\n", "expected what is asked of web" },
		/* Of a component nobody asked for, too. */
		{ "components:\n  dns:\n    require: [beauty]\n", "f:3: " },
		{ "components: {dns: {components: {}}}\n", "f:1: " },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct conf_error e = { "" };
		struct rules r;
		int got = rules_parse(cases[i].text, strlen(cases[i].text), "f", "web", &r, &e);

		if (got != -ERR_CONFIG || !strstr(e.text, cases[i].says))
			fail_msg("%s: %d, '%s', not '%s'", cases[i].text, got, e.text, cases[i].says);
	}
}

static void too_many_commands_are_refused(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(100000);
	struct conf_error e = { "" };
	struct rules r;

	(void) state;
	assert_int_equal(buf_add_str(&text, "commands:\n"), 0);
	for (int i = 0; i <= RULES_COMMANDS_MAX; i++)
		assert_int_equal(buf_addf(&text, "  - {name: c%d, run: [/bin/true]}\n", i), 0);
	assert_int_equal(rules_parse(text.data, text.len, "f", "web", &r, &e), -ERR_CONFIG);
}

static void arguments_are_filled_in(void **state)
{
	static const struct rule_words words = { "web", "1.0.0", "abc" };
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100), small = BUF_INIT(2);

	(void) state;
	assert_int_equal(rule_argument("${component}/${version}$ $x${release_sha256}", &words, &out), 0);
	assert_string_equal(buf_str(&out), "web/1.0.0$ $xabc");
	buf_clear(&out);
	assert_int_equal(rule_argument("${node.id}", &words, &out), -ERR_FIELD_VALUE);
	assert_int_equal(rule_argument("${component", &words, &out), -ERR_FIELD_VALUE);
	assert_int_equal(rule_argument("${component}", &words, &small), -ERR_TOO_LARGE);
}

static void names_go_both_ways(void **state)
{
	(void) state;
	for (int f = 0; f < RULE_FIELD_COUNT; f++)
		assert_non_null(rule_field_name((enum rule_field) f));
	assert_int_equal(rule_risk_parse("high"), RULE_RISK_HIGH);
	assert_int_equal(rule_risk_parse("extreme"), -1);
	assert_int_equal(rule_risk_parse(NULL), -1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_that_is_asked_is_read),
		cmocka_unit_test(a_component_says_it_key_by_key),
		cmocka_unit_test(nothing_asks_for_nothing),
		cmocka_unit_test(broken_ones_say_where_and_what),
		cmocka_unit_test(too_many_commands_are_refused),
		cmocka_unit_test(arguments_are_filled_in),
		cmocka_unit_test(names_go_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
