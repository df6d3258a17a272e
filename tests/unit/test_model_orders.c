/* nodes/<id>.json: each order good, wrong and at its limit; and labels, which everything selects by. */
#include "model_document.h"

#include "model/rollout.h"

static const char good[] =
	"{'format':1,'node':'n1','rollback':[{'id':'o1','component':'web','from':'1.1.0','to':'1.0.0','reason':'"
	"slow',"
	"'by':'ann','issued':'2026-11-21T09:30:00Z','data':'restore'}],'pin':[{'id':'o2','component':'waf','"
	"version':'2.0.0',"
	"'reason':'test','by':'bob'}],'hold':{'until':'2026-11-28T00:00:00Z','reason':'audit','by':'ann'},"
	"'retry':[{'id':'o3','component':'web','issued':'2026-11-21T09:30:00Z','expires':'2026-11-22T09:30:00Z'}],"
	"'collect':[{'id':'o4','set':'logs','issued':'2026-11-21T09:30:00Z','expires':'2026-11-22T09:30:00Z'}],'x'"
	":1}";

static const struct wrong wrongs[] = {
	{ "'format':1", "'format':2", -ERR_AGENT_TOO_OLD, "format: is 2" },
	{ "'x':1", "'must':['x']", -ERR_AGENT_TOO_OLD, "must: names" },
	{ "'node':'n1'", "'node':'n2'", -ERR_DISAGREE, "node: is \"n2\"" },
	{ "'node':'n1',", "", -ERR_FIELD_MISSING, "node: is missing" },
	{ "'rollback':[", "'rollback':{},'y':[", -ERR_FIELD_TYPE, "rollback: must be an array" },
	{ "'id':'o1'", "'id':'o 1'", -ERR_FIELD_VALUE, "rollback[0].id: must be an id" },
	{ "'from':'1.1.0'", "'from':'*'", -ERR_FIELD_VALUE, "rollback[0].from: must be a version" },
	{ "'from':'1.1.0',", "", -ERR_FIELD_MISSING, "rollback[0].from: is missing" },
	{ "'to':'1.0.0'", "'to':''", -ERR_FIELD_VALUE, "rollback[0].to: must be a version" },
	{ "'to':'1.0.0'", "'to':'1.1.0'", -ERR_FIELD_VALUE, "rollback[0].to: must differ" },
	{ "'reason':'slow'", "'reason':null", -ERR_FIELD_TYPE, "rollback[0].reason: must be a string" },
	{ "'by':'ann',", "", -ERR_FIELD_MISSING, "rollback[0].by: is missing" },
	{ "'rollback':[{",
	  "'rollback':[{'id':'o9','component':'web','from':'2.0.0','to':'1.0.0','reason':'','by':''},{",
	  -ERR_FIELD_VALUE, "rollback[1].component: has two rollbacks" },
	{ "'version':'2.0.0'", "'version':'2'", -ERR_FIELD_VALUE, "pin[0].version: must be a version" },
	{ "'pin':[{", "'pin':[{'id':'o9','component':'waf','version':'1.0.0','reason':'','by':''},{",
	  -ERR_FIELD_VALUE, "pin[1].component: has two pins" },
	{ "'until':'2026-11-28T00:00:00Z',", "", -ERR_FIELD_MISSING, "hold.until: is missing" },
	{ "'reason':'audit'", "'reason':7", -ERR_FIELD_TYPE, "hold.reason: must be a string" },
	{ "'hold':{", "'hold':[],'y':{", -ERR_FIELD_TYPE, "hold: must be an object" },
	{ "'component':'web','issued'", "'issued'", -ERR_FIELD_MISSING, "retry[0].component: is missing" },
	{ "'expires':'2026-11-22T09:30:00Z'}],'collect'", "'expires':'never'}],'collect'", -ERR_FIELD_VALUE,
	  "retry[0].expires: must be a time" },
	{ "'set':'logs'", "'set':'../etc'", -ERR_FIELD_VALUE, "collect[0].set: must be an id" },
	{ "'set':'logs',", "", -ERR_FIELD_MISSING, "collect[0].set: is missing" },
};

static void parse_good(struct node_orders *ret)
{
	CLEANUP(json_freep)
	struct json *doc = json_replaced(good, "{", "{");
	char *error = NULL;

	if (orders_parse(doc, "n1", ret, &error) < 0)
		fail_msg("%s", error);
}

static void test_every_order_is_read(void **state)
{
	CLEANUP(orders_done)
	struct node_orders o = { 0 };

	(void) state;
	parse_good(&o);
	assert_string_equal(o.node, "n1");
	assert_int_equal(o.rollback_count, 1);
	assert_string_equal(o.rollbacks[0].from, "1.1.0");
	assert_string_equal(o.rollbacks[0].to, "1.0.0");
	assert_string_equal(o.rollbacks[0].by, "ann");
	assert_int_equal(o.rollbacks[0].issued, 1795253400);
	assert_true(o.rollbacks[0].restore_data);
	assert_string_equal(o.pins[0].version, "2.0.0");
	assert_int_equal(o.hold.until, 1795824000);
	assert_string_equal(o.hold.reason, "audit");
	assert_string_equal(o.retries[0].component, "web");
	assert_null(o.retries[0].set);
	assert_string_equal(o.collects[0].set, "logs");
	assert_null(o.collects[0].component);
	assert_int_equal(o.collects[0].expires, 1795339800);
}

static void test_every_wrong_field_is_named(void **state)
{
	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(wrongs); i++) {
		CLEANUP(orders_done)
		struct node_orders o = { 0 };
		CLEANUP(json_freep)
		struct json *doc = json_replaced(good, wrongs[i].from, wrongs[i].to);
		char *error = NULL;

		expect_error(&wrongs[i], orders_parse(doc, "n1", &o, &error), &error);
		assert_null(o.node);
		free(error);
	}
}

static void test_no_orders_at_all(void **state)
{
	CLEANUP(json_freep)
	struct json *doc = json_replaced("{'format':1,'node':'n1'}", "{", "{");
	CLEANUP(orders_done)
	struct node_orders o = { 0 };

	(void) state;
	assert_int_equal(orders_parse(doc, "n1", &o, NULL), 0);
	assert_int_equal(o.rollback_count + o.pin_count + o.retry_count + o.collect_count, 0);
	assert_int_equal(o.hold.until, 0);
}

static void test_limits(void **state)
{
	(void) state;
	for (size_t over = 0; over < 2; over++) {
		CLEANUP(orders_done)
		struct node_orders o = { 0 };
		CLEANUP(json_freep)
		struct json *doc = NULL;
		CLEANUP(buf_done)
		struct buf to = BUF_INIT(1024 * 1024);
		struct wrong w = { .to = "pins", .error = over ? -ERR_FIELD_VALUE : 0, .names = "pin: must have" };
		char *pins = many("{'id':'p','component':'c%zu','version':'1.0.0','reason':'','by':''}",
				  ORDERS_MAX + over);
		char *error = NULL;

		assert_int_equal(buf_addf(&to, "'pin':[%s],'was':[", pins), 0);
		doc = json_replaced(good, "'pin':[", buf_str(&to));
		expect_error(&w, orders_parse(doc, "n1", &o, &error), &error);
		free(pins);
		free(error);
	}
}

static void write_canonical(const struct node_orders *o, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	orders_write(o, json_build_root(b));
	assert_int_equal(json_build_canonical(b, out), 0);
}

static void test_what_is_written_reads_back(void **state)
{
	CLEANUP(orders_done)
	struct node_orders first = { 0 }, second = { 0 };
	CLEANUP(buf_done)
	struct buf a = BUF_INIT(ORDER_MAX_BYTES), b = BUF_INIT(ORDER_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;

	(void) state;
	parse_good(&first);
	write_canonical(&first, &a);
	doc = json_of(buf_str(&a));
	assert_int_equal(orders_parse(doc, "n1", &second, NULL), 0);
	write_canonical(&second, &b);
	assert_string_equal(buf_str(&a), buf_str(&b));
	assert_int_equal(second.hold.until, first.hold.until);
}

/* --- labels --- */

static void test_labels_are_sorted_and_unique(void **state)
{
	CLEANUP(labels_done)
	struct labels l = { 0 };

	(void) state;
	assert_int_equal(labels_set(&l, "site", "oslo"), 0);
	assert_int_equal(labels_set(&l, "role", "edge"), 0);
	assert_int_equal(labels_set(&l, "zone", "Europe/Oslo"), 0);
	assert_int_equal(labels_set(&l, "site", "rome"), 0);
	assert_int_equal(l.count, 3);
	assert_string_equal(l.items[0].name, "role");
	assert_string_equal(l.items[2].name, "zone");
	assert_string_equal(labels_get(&l, "site"), "rome");
	assert_null(labels_get(&l, "none"));
	assert_null(labels_get(&l, NULL));
	assert_null(labels_get(NULL, "site"));
}

static void test_names_and_values_of_labels(void **state)
{
	static const struct {
		const char *name, *value;
		int error;
	} cases[] = {
		{ "a", "", 0 },
		{ "0a-b.c/d_e", "x y", 0 },
		{ "a", "\xc3\xa5", 0 },
		{ "", "x", -ERR_NAME },
		{ "A", "x", -ERR_NAME },
		{ "-a", "x", -ERR_NAME },
		{ "_a", "x", -ERR_NAME },
		{ "a b", "x", -ERR_NAME },
		{ "a=b", "x", -ERR_NAME },
		{ "a", "x\n", -ERR_NAME },
		{ "a", "\x7f", -ERR_NAME },
		{ NULL, "x", -ERR_NAME },
		{ "a", NULL, -ERR_NAME },
	};
	char name[LABEL_NAME_MAX + 2], value[LABEL_VALUE_MAX + 2];

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP(labels_done)
		struct labels l = { 0 };

		assert_int_equal(labels_set(&l, cases[i].name, cases[i].value), cases[i].error);
		assert_int_equal(l.count, cases[i].error == 0);
	}
	memset(name, 'a', sizeof(name));
	memset(value, 'v', sizeof(value));
	name[sizeof(name) - 1] = value[sizeof(value) - 1] = '\0';
	for (size_t fits = 0; fits < 2; fits++) {
		CLEANUP(labels_done)
		struct labels l = { 0 };

		name[LABEL_NAME_MAX] = fits ? '\0' : 'a';
		value[LABEL_VALUE_MAX] = fits ? '\0' : 'v';
		assert_int_equal(labels_set(&l, name, "x"), fits ? 0 : -ERR_NAME);
		assert_int_equal(labels_set(&l, "a", value), fits ? 0 : -ERR_NAME);
	}
}

static void test_there_are_not_endless_labels(void **state)
{
	CLEANUP(labels_done)
	struct labels l = { 0 };

	(void) state;
	for (int i = 0; i <= LABELS_MAX; i++) {
		char name[32];

		(void) snprintf(name, sizeof(name), "l%d", i);
		assert_int_equal(labels_set(&l, name, "x"), i < LABELS_MAX ? 0 : -ERR_TOO_LARGE);
	}
	assert_int_equal(labels_set(&l, "l0", "y"), 0); /* replacing goes on */
}

static void test_matching_and_overlaying(void **state)
{
	CLEANUP(labels_done)
	struct labels want = { 0 }, have = { 0 }, copy = { 0 };

	(void) state;
	assert_true(labels_match(&want, &have));
	assert_int_equal(labels_set(&want, "site", "oslo"), 0);
	assert_false(labels_match(&want, &have));
	assert_int_equal(labels_set(&have, "site", "rome"), 0);
	assert_int_equal(labels_set(&have, "role", "edge"), 0);
	assert_false(labels_match(&want, &have));
	assert_int_equal(labels_overlay(&want, &have), 0);
	assert_true(labels_match(&want, &have));
	assert_string_equal(labels_get(&have, "role"), "edge");
	assert_int_equal(labels_copy(&have, &copy), 0);
	assert_int_equal(copy.count, 2);
	assert_true(labels_match(&have, &copy));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_order_is_read),
		cmocka_unit_test(test_every_wrong_field_is_named),
		cmocka_unit_test(test_no_orders_at_all),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_what_is_written_reads_back),
		cmocka_unit_test(test_labels_are_sorted_and_unique),
		cmocka_unit_test(test_names_and_values_of_labels),
		cmocka_unit_test(test_there_are_not_endless_labels),
		cmocka_unit_test(test_matching_and_overlaying),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
