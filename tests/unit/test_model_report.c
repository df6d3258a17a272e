/* Reports, acknowledgements, grants and events: good, wrong, at their limits, and with hostile output inside. */
#include "model_document.h"

#include "model/report.h"

static const char good[] =
	"{'_type':'selfright-report','format':1,'fleet':'demo','node':'n1','boot_id':"
	"'6f9c1f8e-0000-4000-8000-000000000001','agent':'0.1.0','sequence':42,'at':'2026-11-21T09:30:00Z',"
	"'generation':7,'trust':{'root':1,'timestamp':9,'snapshot':8,'targets':2},'timestamp':{'signed':{'version'"
	":9}},"
	"'labels':{'site':'oslo'},'own_labels':{'site':'rome'},'means':{'vars':['port'],'secrets':{'folder':'/"
	"s','names':['key']},"
	"'zone_data':'2025b','free_bytes':7},'ca':{'trusted':['" A64 "'],'issuer':'" A64
	"'},'components':[{'component':'web','version':'1.1.0',"
	"'previous':'1.0.0','denied':[{'version':'1.2.0','cause':'unfit','seq':5}],'rollout':'r1','stage':'canary'"
	","
	"'seq':4,'why':'window','why_detail':'opens at 02:00','wants':'1.3.0'},{'component':'waf'}],'results':[{"
	"'update':'r1/web/"
	"1','component':'web','from':'1.0.0','to':'1.1.0','rollout':'r1','stage':'canary','seq':4,"
	"'release_sha256':'" A64 "','number':100,'name':'good','class':'none','detail':'fine','log_tail':'a\\nb',"
	"'at':'2026-11-21T09:29:00Z','duration_ms':1500,'pause_ms':30,'sequence':41}],'checks':[{'component':'web'"
	","
	"'name':'answers','kind':'httpGet','state':'passing','detail':'HTTP 200'}],'orders':[{'id':'pin-1',"
	"'component':'web','number':500,'name':'order-refused','detail':'never "
	"good','at':'2026-11-21T09:28:00Z'}],"
	"'metrics':[{'component':'web','version':'1.1.0','name':'errors','hours':[{'hour':498760,'mean':'0.25',"
	"'samples':12},{'hour':498761,'mean':'-1.5e-07','samples':3}]},{'component':'waf','version':'2.0.0',"
	"'name':'memory','hours':[]}],"
	"'update':{'id':'r2/web/1',"
	"'component':'web','to':'1.3.0','state':'staging','bytes_done':10,'bytes_total':100},"
	"'nonce':'00112233445566778899aabbccddeeff'}";

static const struct wrong wrongs[] = {
	{ "selfright-report", "selfright-ack", -ERR_FIELD_VALUE, "_type: must be \"selfright-report\"" },
	{ "'format':1", "'format':2", -ERR_AGENT_TOO_OLD, "format: is 2" },
	{ "'fleet':'demo'", "'fleet':'Demo'", -ERR_FIELD_VALUE, "fleet: must be an id" },
	{ "'node':'n1',", "", -ERR_FIELD_MISSING, "node: is missing" },
	{ "'boot_id':'6f", "'boot_id':'xx", -ERR_FIELD_VALUE, "boot_id: must be a boot id" },
	{ "'agent':'0.1.0'", "'agent':'new'", -ERR_FIELD_VALUE, "agent: must be a version" },
	{ "'sequence':42,", "", -ERR_FIELD_MISSING, "sequence: is missing" },
	{ "'sequence':42", "'sequence':-1", -ERR_FIELD_VALUE, "sequence: must be from 0" },
	{ "'at':'2026-11-21T09:30:00Z'", "'at':1", -ERR_FIELD_TYPE, "at: must be a string" },
	{ "'generation':7", "'generation':'7'", -ERR_FIELD_TYPE, "generation: must be an integer" },
	{ "'timestamp':9", "'timestamp':-9", -ERR_FIELD_VALUE, "trust.timestamp: must be from 0" },
	{ "'timestamp':{", "'timestamp':'x','y':{", -ERR_FIELD_TYPE, "timestamp: must be an object" },
	{ "'labels':{'site':'oslo'}", "'labels':{'site':1}", -ERR_FIELD_TYPE, "labels: must be" },
	{ "'means':{", "'means':[],'y':{", -ERR_FIELD_TYPE, "means: must be" },
	{ "'vars':['port']", "'vars':['a b']", -ERR_FIELD_VALUE, "means.vars[0]: must be a word" },
	{ "'folder':'/s',", "", -ERR_FIELD_MISSING, "means.secrets.folder" },
	{ "'free_bytes':7", "'free_bytes':-7", -ERR_FIELD_VALUE, "means.free_bytes" },
	{ "'ca':{", "'ca':[],'y':{", -ERR_FIELD_TYPE, "ca: must be" },
	{ "'trusted':['", "'trusted':['A", -ERR_FIELD_VALUE, "ca.trusted[0]: must be at most 64" },
	{ "'issuer':'", "'issuer':'A", -ERR_FIELD_VALUE, "ca.issuer: must be at most 64" },
	{ "'own_labels':{", "'own_labels':[],'y':{", -ERR_FIELD_TYPE, "own_labels: must be" },
	{ "'component':'web','version'", "'version'", -ERR_FIELD_MISSING, "components[0].component: is missing" },
	{ "'version':'1.1.0'", "'version':'x'", -ERR_FIELD_VALUE, "components[0].version: must be a version" },
	{ "'version':'1.2.0'", "'version':2", -ERR_FIELD_TYPE,
	  "components[0].denied[0].version: must be a string" },
	{ "'why':'window'", "'why':'a b'", -ERR_FIELD_VALUE, "components[0].why: must be an id" },
	{ "'wants':'1.3.0'", "'wants':'?'", -ERR_FIELD_VALUE, "components[0].wants: must be a version" },
	{ "'update':'r1/web/1'", "'update':'../x'", -ERR_FIELD_VALUE, "results[0].update: must be" },
	{ "'release_sha256':'aa", "'release_sha256':'", -ERR_FIELD_VALUE, "results[0].release_sha256: must be" },
	{ "'number':100", "'number':0", -ERR_FIELD_VALUE, "results[0].number: must be from 1" },
	{ "'name':'good',", "", -ERR_FIELD_MISSING, "results[0].name: is missing" },
	{ "'log_tail':'a\\nb'", "'log_tail':[]", -ERR_FIELD_TYPE, "results[0].log_tail: must be a string" },
	{ "'duration_ms':1500", "'duration_ms':-1", -ERR_FIELD_VALUE, "results[0].duration_ms: must be" },
	{ "'kind':'httpGet'", "'kind':'a b'", -ERR_FIELD_VALUE, "checks[0].kind: must be a word" },
	{ "'state':'passing'", "'state':''", -ERR_FIELD_VALUE, "checks[0].state: must be an id" },
	{ "'id':'pin-1'", "'id':'Pin 1'", -ERR_FIELD_VALUE, "orders[0].id: must be an id" },
	{ "'name':'order-refused',", "", -ERR_FIELD_MISSING, "orders[0].name: is missing" },
	{ "'name':'errors'", "'name':'Errors'", -ERR_FIELD_VALUE, "metrics[0].name: must be an id" },
	{ "'version':'1.1.0','name':'errors',", "'name':'errors',", -ERR_FIELD_MISSING,
	  "metrics[0].version: is missing" },
	{ "'mean':'0.25'", "'mean':0", -ERR_FIELD_TYPE, "metrics[0].hours[0].mean: must be a string" },
	{ "'mean':'0.25'", "'mean':'nan'", -ERR_FIELD_VALUE, "metrics[0].hours[0].mean: must be a number" },
	{ "'mean':'0.25'", "'mean':'0x1'", -ERR_FIELD_VALUE, "metrics[0].hours[0].mean: must be a number" },
	{ "'mean':'0.25'", "'mean':'1e999'", -ERR_FIELD_VALUE, "metrics[0].hours[0].mean: out of range" },
	{ "'samples':12", "'samples':0", -ERR_FIELD_VALUE, "metrics[0].hours[0].samples: must be from 1" },
	{ "'hour':498761", "'hour':498760", -ERR_FIELD_VALUE, "metrics[0].hours[1].hour: must be later" },
	{ "'hour':498760", "'hour':-1", -ERR_FIELD_VALUE, "metrics[0].hours[0].hour: must be from 1" },
	{ "'id':'r2/web/1',", "", -ERR_FIELD_MISSING, "update.id: is missing" },
	{ "'bytes_done':10", "'bytes_done':'10'", -ERR_FIELD_TYPE, "update.bytes_done: must be an integer" },
	{ "'nonce':'00", "'nonce':'0", -ERR_FIELD_VALUE, "nonce: must be 32" },
	{ "'nonce':'00", "'nonce':'AA", -ERR_FIELD_VALUE, "nonce: must be 32" },
};

static void parse_good(struct report *ret)
{
	CLEANUP(json_freep)
	struct json *doc = json_replaced(good, "{", "{");
	char *error = NULL;

	if (report_parse(doc, ret, &error) < 0)
		fail_msg("%s", error);
}

static void test_every_field_is_read(void **state)
{
	CLEANUP(report_done)
	struct report r = { 0 };

	(void) state;
	parse_good(&r);
	assert_string_equal(r.fleet, "demo");
	assert_string_equal(r.node, "n1");
	assert_string_equal(r.agent, "0.1.0");
	assert_int_equal(r.sequence, 42);
	assert_int_equal(r.at, 1795253400);
	assert_int_equal(r.generation, 7);
	assert_int_equal(r.root_version, 1);
	assert_int_equal(r.timestamp_version, 9);
	assert_int_equal(r.snapshot_version, 8);
	assert_int_equal(r.targets_version, 2);
	assert_non_null(json_get(r.timestamp, "signed"));
	assert_string_equal(labels_get(&r.labels, "site"), "oslo");
	assert_string_equal(labels_get(&r.own_labels, "site"), "rome");
	assert_true(r.means.told);
	assert_true(string_list_has(&r.means.vars, "port"));
	assert_string_equal(r.means.secrets_folder, "/s");
	assert_true(r.ca.told && string_list_has(&r.ca.trusted, A64));
	assert_string_equal(r.ca.issuer, A64);
	assert_true(string_list_has(&r.means.secrets, "key"));
	assert_string_equal(r.means.zone_data, "2025b");
	assert_int_equal(r.means.free_bytes, 7);
	assert_int_equal(r.component_count, 2);
	assert_string_equal(r.components[0].previous, "1.0.0");
	assert_string_equal(r.components[0].denied[0].cause, "unfit");
	assert_int_equal(r.components[0].denied[0].seq, 5);
	assert_string_equal(r.components[0].stage, "canary");
	assert_string_equal(r.components[0].why_detail, "opens at 02:00");
	assert_string_equal(r.components[0].wants, "1.3.0");
	assert_null(r.components[1].version);
	assert_string_equal(r.results[0].update, "r1/web/1");
	assert_int_equal(r.results[0].number, 100);
	assert_string_equal(r.results[0].log_tail, "a\nb");
	assert_int_equal(r.results[0].sequence, 41);
	assert_int_equal(r.results[0].pause_ms, 30);
	assert_string_equal(r.checks[0].state, "passing");
	assert_int_equal(r.order_count, 1);
	assert_string_equal(r.orders[0].id, "pin-1");
	assert_string_equal(r.orders[0].name, "order-refused");
	assert_int_equal(r.orders[0].number, 500);
	assert_int_equal(r.metric_count, 2);
	assert_string_equal(r.metrics[0].name, "errors");
	assert_string_equal(r.metrics[0].version, "1.1.0");
	assert_int_equal(r.metrics[0].hour_count, 2);
	assert_int_equal(r.metrics[0].hours[0].hour, 498760);
	assert_true(r.metrics[0].hours[0].mean > 0.2499 && r.metrics[0].hours[0].mean < 0.2501);
	assert_true(r.metrics[0].hours[1].mean < -1.49e-7 && r.metrics[0].hours[1].mean > -1.51e-7);
	assert_int_equal(r.metrics[0].hours[1].samples, 3);
	assert_int_equal(r.metrics[1].hour_count, 0);
	assert_string_equal(r.progress.update, "r2/web/1");
	assert_int_equal(r.progress.bytes_total, 100);
	assert_string_equal(r.nonce, "00112233445566778899aabbccddeeff");
}

static void test_every_wrong_field_is_named(void **state)
{
	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(wrongs); i++) {
		CLEANUP(report_done)
		struct report r = { 0 };
		CLEANUP(json_freep)
		struct json *doc = json_replaced(good, wrongs[i].from, wrongs[i].to);
		char *error = NULL;

		expect_error(&wrongs[i], report_parse(doc, &r, &error), &error);
		assert_null(r.fleet);
		free(error);
	}
}

static void test_limits(void **state)
{
	static const struct {
		const char *from, *before, *element, *after;
		size_t max;
		const char *names;
	} limits[] = {
		{ "'components':[", "'components':[", "{'component':'c%zu'}", "],'was':[", REPORT_COMPONENTS_MAX,
		  "components: must have" },
		{ "'checks':[", "'checks':[", "{'component':'c','name':'n%zu','kind':'k','state':'s'}",
		  "],'was_checks':[", REPORT_CHECKS_MAX, "checks: must have" },
		{ "'orders':[", "'orders':[", "{'id':'o%zu','number':1,'name':'n','at':'2026-11-21T09:29:00Z'}",
		  "],'was_orders':[", REPORT_ORDERS_MAX, "orders: must have" },
		{ "'metrics':[", "'metrics':[", "{'component':'c','version':'1.0.%zu','name':'n'}",
		  "],'was_metrics':[", REPORT_METRICS_MAX, "metrics: must have" },
		{ "'hours':[{", "'hours':[", "{'hour':1000%zu,'mean':'1','samples':1}", "],'was_hours':[{",
		  REPORT_METRIC_HOURS_MAX, "metrics[0].hours: must have" },
		{ "'results':[", "'results':[",
		  "{'update':'r/c/"
		  "%zu','component':'c','number':1,'name':'n','class':'c','at':'2026-11-21T09:29:00Z'}",
		  "],'was_results':[", REPORT_RESULTS_MAX, "results: must have" },
		{ "'denied':[", "'denied':[", "{'version':'1.0.%zu','cause':'unfit'}", "],'was_denied':[",
		  REPORT_DENIED_MAX, "components[0].denied: must have" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(limits); i++)
		for (size_t over = 0; over < 2; over++) {
			CLEANUP(report_done)
			struct report r = { 0 };
			CLEANUP(json_freep)
			struct json *doc = NULL;
			CLEANUP(buf_done)
			struct buf to = BUF_INIT(1024 * 1024);
			struct wrong w = { .to = limits[i].names,
					   .error = over ? -ERR_FIELD_VALUE : 0,
					   .names = limits[i].names };
			char *elements = many(limits[i].element, limits[i].max + over), *error = NULL;

			assert_int_equal(buf_addf(&to, "%s%s%s", limits[i].before, elements, limits[i].after), 0);
			doc = json_replaced(good, limits[i].from, buf_str(&to));
			expect_error(&w, report_parse(doc, &r, &error), &error);
			free(elements);
			free(error);
		}
}

static int write_canonical(const struct report *r, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	int result = report_write(r, json_build_root(b));

	return result < 0 ? result : json_build_canonical(b, out);
}

static void test_what_is_written_reads_back(void **state)
{
	CLEANUP(report_done)
	struct report first = { 0 }, second = { 0 };
	CLEANUP(buf_done)
	struct buf a = BUF_INIT(REPORT_MAX_BYTES), b = BUF_INIT(REPORT_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = json_replaced(good, "'a\\nb'", "'one line'"), *again = NULL;

	(void) state;
	assert_int_equal(report_parse(doc, &first, NULL), 0);
	assert_int_equal(write_canonical(&first, &a), 0);
	again = json_of(buf_str(&a));
	assert_int_equal(report_parse(again, &second, NULL), 0);
	assert_int_equal(write_canonical(&second, &b), 0);
	assert_string_equal(buf_str(&a), buf_str(&b));
}

static void test_what_programs_said_is_cleaned_and_cut(void **state)
{
	CLEANUP(report_done)
	struct report r = { 0 }, back = { 0 };
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(REPORT_MAX_BYTES);
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = NULL;
	char *noise = malloc(LOG_TAIL_MAX * 3 + 1);

	(void) state;
	assert_non_null(noise);
	memset(noise, 0xfe, LOG_TAIL_MAX * 3);
	noise[LOG_TAIL_MAX * 3] = '\0';
	noise[LOG_TAIL_MAX * 3 - 1] = '\n';
	parse_good(&r);
	free(r.results[0].log_tail);
	r.results[0].log_tail = noise;
	free(r.checks[0].detail);
	r.checks[0].detail = strdup("\x1b[31mred\xff\"\\");
	assert_int_equal(report_write(&r, json_build_root(b)), 0);
	assert_int_equal(json_build_text(b, false, &text), 0);
	doc = json_of(buf_str(&text));
	assert_int_equal(report_parse(doc, &back, NULL), 0);
	assert_int_equal(strlen(back.results[0].log_tail), LOG_TAIL_MAX);
	assert_string_equal(back.results[0].log_tail + LOG_TAIL_MAX - 3, "??\n");
	assert_string_equal(back.checks[0].detail, "?[31mred?\"\\");
	assert_string_equal(back.orders[0].detail, "never good");
}

static void test_reports_that_cannot_be_written(void **state)
{
	CLEANUP(report_done)
	struct report r = { 0 };
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(REPORT_MAX_BYTES);
	char *node;

	(void) state;
	parse_good(&r);
	node = r.node;
	r.node = NULL;
	assert_int_equal(write_canonical(&r, &text), -ERR_FIELD_MISSING);
	r.node = node;
	r.sequence = UINT64_MAX; /* must not turn into a small or negative one */
	assert_int_equal(write_canonical(&r, &text), -ERR_NUMBER);
	r.sequence = 1;
	r.check_count = REPORT_CHECKS_MAX + 1;
	assert_int_equal(write_canonical(&r, &text), -ERR_TOO_LARGE);
	r.check_count = 1;
	r.metrics[1].hour_count = REPORT_METRIC_HOURS_MAX + 1;
	assert_int_equal(write_canonical(&r, &text), -ERR_TOO_LARGE);
	r.metrics[1].hour_count = 0;
	r.metrics[0].hours[0].samples = UINT64_MAX;
	assert_int_equal(write_canonical(&r, &text), -ERR_NUMBER);
}

static void test_absent_is_left_out(void **state)
{
	char empty[] = "", id[] = "web";
	struct report_component component = { .component = id, .version = empty, .previous = empty };
	char fleet[] = "f", node[] = "n", boot[] = "b", agent[] = "1.0.0";
	struct report r = { .fleet = fleet,
			    .node = node,
			    .boot_id = boot,
			    .agent = agent,
			    .components = &component,
			    .component_count = 1 };
	CLEANUP(report_done)
	struct report back = { 0 };
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(REPORT_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;

	(void) state;
	assert_int_equal(write_canonical(&r, &text), 0);
	doc = json_of(buf_str(&text));
	assert_int_equal(report_parse(doc, &back, NULL), 0);
	assert_null(back.components[0].version);
}

static void test_printable_tail(void **state)
{
	static const struct {
		const char *text;
		size_t max;
		const char *result;
	} cases[] = {
		{ "", 10, "" },
		{ "abc\n\tdef", 10, "abc\n\tdef" },
		{ "a\rb\x01\x7f", 10, "a?b??" },
		{ "\xc3\xa5\xe2\x82\xac\xf0\x9f\x98\x80", 10, "\xc3\xa5\xe2\x82\xac\xf0\x9f\x98\x80" },
		{ "x\xe2\x82\xac", 2, "" }, /* not half a character */
		{ "x\xe2\x82\xac", 3, "\xe2\x82\xac" },
		{ "\xc0\xaf\xed\xa0\x80", 10, "?????" }, /* overlong, surrogate */
		{ "\xf4\x90\x80\x80", 10, "????" }, /* beyond Unicode */
		{ "\xe2\x82", 10, "??" },
		{ "abcdef", 3, "def" },
		{ "\xc2\xa0\xc2\x9b"
		  "2J",
		  10, "\xc2\xa0??2J" }, /* a terminal takes U+009B for an escape sequence */
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP(buf_done)
		struct buf out = BUF_INIT(10);

		assert_int_equal(printable_tail(cases[i].text, strlen(cases[i].text), cases[i].max, &out), 0);
		assert_string_equal(buf_str(&out), cases[i].result);
	}
	for (size_t i = 0; i < 1; i++) {
		CLEANUP(buf_done)
		struct buf small = BUF_INIT(2);

		assert_int_equal(printable_tail("abc", 3, 10, &small), -ERR_TOO_LARGE);
		assert_int_equal(small.len, 0);
		assert_int_equal(printable_tail("a\0b", 3, 2, &small), 0);
		assert_string_equal(buf_str(&small), "?b");
	}
}

static void test_states(void **state)
{
	(void) state;
	for (int s = 0; s < STATE_COUNT; s++)
		assert_int_equal(update_state_parse(update_state_name((enum update_state) s)), s);
	assert_int_equal(update_state_parse("flying"), -1);
	assert_int_equal(update_state_parse(NULL), -1);
	assert_string_equal(update_state_name(STATE_COUNT), "unknown");
}

/* --- answers and news --- */

static void test_acks(void **state)
{
	static const char text[] = "{'_type':'selfright-ack','fleet':'demo','node':'n1','boot_id':'6f','nonce':"
				   "'00112233445566778899aabbccddeeff','sequence':42,'at':'2026-11-21T09:30:00Z'}";
	static const struct wrong ack_wrongs[] = {
		{ "selfright-ack", "selfright-report", -ERR_FIELD_VALUE, "" },
		{ "'node':'n1'", "'node':'N1'", -ERR_FIELD_VALUE, "" },
		{ "'sequence':42,", "", -ERR_FIELD_MISSING, "" },
		{ "'sequence':42", "'sequence':-42", -ERR_FIELD_VALUE, "" },
		{ "'nonce':'00", "'nonce':'000", -ERR_FIELD_VALUE, "" },
		{ "'boot_id':'6f'", "'boot_id':''", -ERR_FIELD_VALUE, "" },
		{ "'at':'2026-11-21T09:30:00Z'", "'at':'now'", -ERR_FIELD_VALUE, "" },
	};
	CLEANUP(json_freep)
	struct json *doc = json_replaced(text, "{", "{");
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(1000);
	CLEANUP(json_freep)
	struct json *again = NULL;
	struct ack a = { .at = 0 }, back = { .at = 0 };

	(void) state;
	assert_int_equal(ack_parse(doc, &a), 0);
	assert_int_equal(a.sequence, 42);
	assert_string_equal(a.nonce, "00112233445566778899aabbccddeeff");
	ack_write(&a, json_build_root(b));
	assert_int_equal(json_build_canonical(b, &out), 0);
	again = json_of(buf_str(&out));
	assert_int_equal(ack_parse(again, &back), 0);
	assert_string_equal(back.node, a.node);
	assert_string_equal(back.boot_id, a.boot_id);
	assert_string_equal(back.nonce, a.nonce);
	assert_int_equal(back.sequence, a.sequence);
	assert_int_equal(back.at, a.at);
	for (size_t i = 0; i < ARRAY_LEN(ack_wrongs); i++) {
		CLEANUP(json_freep)
		struct json *wrong = json_replaced(text, ack_wrongs[i].from, ack_wrongs[i].to);

		assert_int_equal(ack_parse(wrong, &back), ack_wrongs[i].error);
		assert_int_equal(back.sequence, 42); /* untouched */
	}
}

static void test_leases(void **state)
{
	static const char text[] =
		"{'_type':'selfright-lease','fleet':'demo','node':'n1','nonce':"
		"'00112233445566778899aabbccddeeff','update':'r1/web/1','rollout':'r1','sequence':7}";
	static const struct wrong lease_wrongs[] = {
		{ "selfright-lease", "selfright-grant", -ERR_FIELD_VALUE, "" },
		{ "'nonce':'00112233445566778899aabbccddeeff',", "", -ERR_FIELD_MISSING, "" },
		{ "'nonce':'0011", "'nonce':'XX11", -ERR_FIELD_VALUE, "" },
		{ "'update':'r1/web/1'", "'update':'../x'", -ERR_FIELD_VALUE, "" },
		{ "'rollout':'r1'", "'rollout':'R 1'", -ERR_FIELD_VALUE, "" },
		{ "'sequence':7", "'sequence':-7", -ERR_FIELD_VALUE, "" },
		{ "'sequence':7", "'sequence':'7'", -ERR_FIELD_TYPE, "" },
	};
	CLEANUP(json_freep)
	struct json *doc = json_replaced(text, "{", "{"), *again = NULL, *old = NULL;
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(1000);
	struct lease l = { .sequence = 0 }, back = { .sequence = 0 };

	(void) state;
	assert_int_equal(lease_parse(doc, &l), 0);
	assert_int_equal(l.sequence, 7);
	lease_write(&l, json_build_root(b));
	assert_int_equal(json_build_canonical(b, &out), 0);
	again = json_of(buf_str(&out));
	assert_int_equal(lease_parse(again, &back), 0);
	assert_string_equal(back.update, l.update);
	assert_string_equal(back.rollout, "r1");
	assert_int_equal(back.sequence, 7);
	/* The first release's agent says no number. */
	old = json_replaced(text, ",'sequence':7", "");
	assert_int_equal(lease_parse(old, &back), 0);
	assert_int_equal(back.sequence, 0);
	for (size_t i = 0; i < ARRAY_LEN(lease_wrongs); i++) {
		CLEANUP(json_freep)
		struct json *wrong = json_replaced(text, lease_wrongs[i].from, lease_wrongs[i].to);

		assert_int_equal(lease_parse(wrong, &back), lease_wrongs[i].error);
	}
}

static void test_grants(void **state)
{
	static const char text[] = "{'_type':'selfright-grant','fleet':'demo','node':'n1','nonce':"
				   "'00112233445566778899aabbccddeeff','update':'r1/web/1','granted':true,"
				   "'start_within':300,'reason':''}";
	static const struct wrong grant_wrongs[] = {
		{ "selfright-grant", "selfright-ack", -ERR_FIELD_VALUE, "" },
		{ "'nonce':'00112233445566778899aabbccddeeff',", "", -ERR_FIELD_MISSING, "" },
		{ "'granted':true", "'granted':1", -ERR_FIELD_TYPE, "" },
		{ "'update':'r1/web/1'", "'update':''", -ERR_FIELD_VALUE, "" },
		{ "'start_within':300", "'start_within':-300", -ERR_FIELD_VALUE, "" },
	};
	CLEANUP(json_freep)
	struct json *doc = json_replaced(text, "{", "{"), *again = NULL;
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(1000);
	struct grant g = { .granted = false }, back = { .granted = false };

	(void) state;
	assert_int_equal(grant_parse(doc, &g), 0);
	assert_true(g.granted);
	assert_int_equal(g.start_within_s, 300);
	grant_write(&g, json_build_root(b));
	assert_int_equal(json_build_canonical(b, &out), 0);
	again = json_of(buf_str(&out));
	assert_int_equal(grant_parse(again, &back), 0);
	assert_string_equal(back.update, g.update);
	for (size_t i = 0; i < ARRAY_LEN(grant_wrongs); i++) {
		CLEANUP(json_freep)
		struct json *wrong = json_replaced(text, grant_wrongs[i].from, grant_wrongs[i].to);

		assert_int_equal(grant_parse(wrong, &back), grant_wrongs[i].error);
	}
}

static void test_events(void **state)
{
	struct event e = { .node = "n1",
			   .update = "r1/web/1",
			   .component = "web",
			   .state = "staging",
			   .version = "1.1.0",
			   .detail = "x\x01y",
			   .at = 1795253400,
			   .bytes_done = 5,
			   .bytes_total = 10 },
		     back = { .at = 0 };
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(2000);
	CLEANUP(json_freep)
	struct json *doc = NULL;

	(void) state;
	event_write(&e, json_build_root(b));
	assert_int_equal(json_build_text(b, false, &out), 0);
	doc = json_of(buf_str(&out));
	assert_int_equal(event_parse(doc, &back), 0);
	assert_string_equal(back.detail, "x?y");
	assert_string_equal(back.update, "r1/web/1");
	assert_int_equal(back.at, e.at);
	assert_int_equal(back.bytes_done, 5);
	assert_int_equal(event_parse(NULL, &back), -ERR_FIELD_TYPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_field_is_read),
		cmocka_unit_test(test_every_wrong_field_is_named),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_what_is_written_reads_back),
		cmocka_unit_test(test_what_programs_said_is_cleaned_and_cut),
		cmocka_unit_test(test_reports_that_cannot_be_written),
		cmocka_unit_test(test_absent_is_left_out),
		cmocka_unit_test(test_printable_tail),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_acks),
		cmocka_unit_test(test_leases),
		cmocka_unit_test(test_grants),
		cmocka_unit_test(test_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
