/* Rollouts, their index, inventory, approvals and shares: each field good, wrong and at its limit. */
#include "model_document.h"

#include "crypto/digest.h"
#include "model/approval.h"
#include "model/rollout.h"

static const char good[] =
	"{'format':1,'id':'web-110','seq':7,'component':'web','release':{'path':'web/1.1.0/"
	"release.json','sha256':'" A64
	"'},'with':[{'component':'waf','path':'waf/2.0.0/release.json','sha256':'" Z64 "'}],'kind':'patch',"
	"'state':'halted','undo':['canary'],'stages':[{'name':'canary','select':{'nodes':['n1','n2']},'open':true,"
	"'approvals':[{'expires':'2026-12-01T00:00:00Z','signatures':[]}],'comment':'kept'},"
	"{'name':'half','select':{'labels':{'site':'oslo'},'share':5000}},{'name':'rest','select':{}}],"
	"'window':'02:00-04:00','blackout':[{'from':'x'}],'notice':60,'disruption':{'label':'site','maximum':2}"
	","
	"'spread':3600,'overrides':['window','spread'],'deadline':'2026-12-24T00:00:00Z','must':['stages'],'new':"
	"1}";

static void parse_good(struct rollout *ret)
{
	CLEANUP(json_freep)
	struct json *doc = json_replaced(good, "{", "{");
	char *error = NULL;

	if (rollout_parse(doc, ret, &error) < 0)
		fail_msg("%s", error);
}

static void test_every_field_is_read(void **state)
{
	CLEANUP(rollout_done)
	struct rollout r = { 0 };

	(void) state;
	parse_good(&r);
	assert_string_equal(r.id, "web-110");
	assert_int_equal(r.seq, 7);
	assert_string_equal(r.component, "web");
	assert_string_equal(r.release.component, "web");
	assert_string_equal(r.release.version, "1.1.0");
	assert_string_equal(r.release.path, "web/1.1.0/release.json");
	assert_int_equal(r.release.sha256[0], 0xaa);
	assert_int_equal(r.with_count, 1);
	assert_string_equal(r.with[0].version, "2.0.0");
	assert_int_equal(r.kind, ROLLOUT_PATCH);
	assert_int_equal(r.state, ROLLOUT_HALTED);
	assert_true(string_list_has(&r.undo, "canary"));
	assert_int_equal(r.stage_count, 3);
	assert_true(r.stages[0].by_nodes);
	assert_true(r.stages[0].open);
	assert_int_equal(json_count(r.stages[0].approvals), 1);
	assert_null(json_get(r.stages[0].bare, "open"));
	assert_null(json_get(r.stages[0].bare, "approvals"));
	assert_string_equal(json_string(json_get(r.stages[0].bare, "comment")), "kept");
	assert_false(r.stages[1].by_nodes);
	assert_false(r.stages[1].open);
	assert_int_equal(r.stages[1].share, 5000);
	assert_string_equal(labels_get(&r.stages[1].labels, "site"), "oslo");
	assert_int_equal(r.stages[2].share, SHARE_ALL);
	assert_non_null(r.window);
	assert_int_equal(json_count(r.blackout), 1);
	assert_int_equal(r.notice_s, 60);
	assert_int_equal(r.spread_s, 3600);
	assert_string_equal(r.disruption.label, "site");
	assert_int_equal(r.disruption.maximum, 2);
	assert_true(string_list_has(&r.overrides, "spread"));
	assert_int_equal(r.deadline, 1798070400);
	assert_ptr_equal(rollout_release(&r, "web"), &r.release);
	assert_ptr_equal(rollout_release(&r, "waf"), &r.with[0]);
	assert_null(rollout_release(&r, "other"));
}

static const struct wrong wrongs[] = {
	{ "'format':1", "'format':0", -ERR_FIELD_VALUE, "format: must be from" },
	{ "'format':1", "'format':2", -ERR_AGENT_TOO_OLD, "format: is 2" },
	{ "'must':['stages']", "'must':['lunar-phase']", -ERR_AGENT_TOO_OLD, "must: names" },
	{ "'id':'web-110'", "'id':'web 110'", -ERR_FIELD_VALUE, "id: must be an id" },
	{ "'id':'web-110',", "", -ERR_FIELD_MISSING, "id: is missing" },
	{ "'seq':7", "'seq':0", -ERR_FIELD_VALUE, "seq: must be from 1" },
	{ "'seq':7", "'seq':'7'", -ERR_FIELD_TYPE, "seq: must be an integer" },
	{ "'component':'web'", "'component':'waf'", -ERR_DISAGREE, "release.path: must lie below" },
	{ "'release':{", "'release':[],'x':{", -ERR_FIELD_TYPE, "release: must be an object" },
	{ "web/1.1.0/release.json", "web/1.1.0/other.json", -ERR_FIELD_VALUE,
	  "release.path: must be <component>" },
	{ "web/1.1.0/release.json", "web/release.json", -ERR_FIELD_VALUE, "release.path: must be <component>" },
	{ "web/1.1.0/release.json", "web/1.1/release.json", -ERR_FIELD_VALUE,
	  "release.path: must be <component>" },
	{ "web/1.1.0/release.json", "web/x/1.1.0/release.json", -ERR_FIELD_VALUE,
	  "release.path: must be <component>" },
	{ "web/1.1.0/release.json", "web/../web/1.1.0/release.json", -ERR_FIELD_VALUE,
	  "release.path: must be a relative" },
	{ "'sha256':'aa", "'sha256':'zz", -ERR_FIELD_VALUE, "release.sha256: must be a SHA-256" },
	{ "'component':'waf'", "'component':'wax'", -ERR_DISAGREE, "with[0].path: must lie below" },
	{ "'component':'waf','path':'waf/2.0.0", "'path':'web/2.0.0", -ERR_FIELD_VALUE,
	  "with[0].path: names a component" },
	{ "'kind':'patch'", "'kind':'urgent'", -ERR_FIELD_VALUE,
	  "kind: must be one of regular, patch, downgrade" },
	{ "'kind':'patch',", "", -ERR_FIELD_MISSING, "kind: is missing" },
	{ "'state':'halted'", "'state':'half'", -ERR_FIELD_VALUE,
	  "state: must be one of running, paused, halted" },
	{ "'undo':['canary']", "'undo':['']", -ERR_FIELD_VALUE, "undo[0]: must be an id" },
	{ "'name':'half'", "'name':'canary'", -ERR_FIELD_VALUE, "stages[1].name: stands twice" },
	{ "'select':{'nodes':['n1','n2']},", "", -ERR_FIELD_MISSING, "stages[0].select: is missing" },
	{ "'nodes':['n1','n2']", "'nodes':['N1']", -ERR_FIELD_VALUE, "stages[0].select.nodes[0]: must be an id" },
	{ "'nodes':['n1','n2']", "'nodes':['n1'],'share':1", -ERR_FIELD_VALUE, "stages[0].select: has nodes, or" },
	{ "'share':5000", "'share':10001", -ERR_FIELD_VALUE, "stages[1].select.share: must be from 0 to 10000" },
	{ "'site':'oslo'", "'site':1", -ERR_FIELD_TYPE, "stages[1].select.labels: must be" },
	{ "'open':true", "'open':'yes'", -ERR_FIELD_TYPE, "stages[0].open: must be true or false" },
	{ "'approvals':[", "'approvals':{'x':[]},'y':[", -ERR_FIELD_TYPE,
	  "stages[0].approvals: must be an array" },
	{ "'window':'02:00-04:00'", "'window':7", -ERR_FIELD_TYPE, "window: must be a text" },
	{ "'blackout':[", "'blackout':{},'x':[", -ERR_FIELD_TYPE, "blackout: must be an array" },
	{ "'notice':60", "'notice':-1", -ERR_FIELD_VALUE, "notice: must be from 0" },
	{ "'label':'site',", "", -ERR_FIELD_MISSING, "disruption.label: is missing" },
	{ "'maximum':2", "'maximum':0", -ERR_FIELD_VALUE, "disruption.maximum: must be from 1" },
	{ "'overrides':['window'", "'overrides':['a b'", -ERR_FIELD_VALUE, "overrides[0]: must be an id" },
	{ "2026-12-24T00:00:00Z", "2026-13-24T00:00:00Z", -ERR_FIELD_VALUE, "deadline: must be a time" },
	{ "2026-12-24T00:00:00Z", "2026-12-24", -ERR_FIELD_VALUE, "deadline: must be a time" },
};

static void test_every_wrong_field_is_named(void **state)
{
	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(wrongs); i++) {
		CLEANUP(rollout_done)
		struct rollout r = { 0 };
		CLEANUP(json_freep)
		struct json *doc = json_replaced(good, wrongs[i].from, wrongs[i].to);
		char *error = NULL;

		expect_error(&wrongs[i], rollout_parse(doc, &r, &error), &error);
		assert_null(r.id);
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
		{ "'stages':[", "'stages':[", "{'name':'s%zu','select':{}}", "],'was':[", ROLLOUT_STAGES_MAX,
		  "stages: must have from 1" },
		{ "'with':[", "'with':[", "{'path':'c%zu/1.0.0/release.json','sha256':'" Z64 "'}",
		  "],'was_with':[", ROLLOUT_WITH_MAX, "with: must have" },
		{ "'nodes':[", "'nodes':[", "'m%zu'", "],'was_nodes':[", ROLLOUT_NODES_MAX,
		  "stages[0].select.nodes: must" },
		{ "'overrides':[", "'overrides':[", "'o%zu'", "],'was_overrides':[", ROLLOUT_OVERRIDES_MAX,
		  "overrides: must have" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(limits); i++)
		for (size_t over = 0; over < 2; over++) {
			CLEANUP(rollout_done)
			struct rollout r = { 0 };
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
			expect_error(&w, rollout_parse(doc, &r, &error), &error);
			free(elements);
			free(error);
		}
}

static void write_canonical(const struct rollout *r, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	assert_int_equal(rollout_write(r, json_build_root(b)), 0);
	assert_int_equal(json_build_canonical(b, out), 0);
}

static void test_what_is_written_reads_back(void **state)
{
	CLEANUP(rollout_done)
	struct rollout first = { 0 }, second = { 0 };
	CLEANUP(buf_done)
	struct buf a = BUF_INIT(ROLLOUT_MAX_BYTES), b = BUF_INIT(ROLLOUT_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;

	(void) state;
	parse_good(&first);
	write_canonical(&first, &a);
	doc = json_of(buf_str(&a));
	assert_int_equal(rollout_parse(doc, &second, NULL), 0);
	write_canonical(&second, &b);
	assert_string_equal(buf_str(&a), buf_str(&b));
	assert_non_null(strstr(buf_str(&a), "\"comment\":\"kept\"")); /* an approval signed it */
	assert_int_equal(rollout_write(&(struct rollout){ .id = NULL }, NULL), -ERR_FIELD_MISSING);
}

static void test_a_rollout_made_by_hand_is_written(void **state)
{
	char name[] = "all", id[] = "r1", component[] = "web", version[] = "1.0.0",
	     path[] = "web/1.0.0/release.json";
	struct stage stage = { .name = name, .share = 2500 };
	struct rollout r = { .id = id,
			     .seq = 1,
			     .component = component,
			     .release = { .component = component, .version = version, .path = path },
			     .stages = &stage,
			     .stage_count = 1 };
	CLEANUP(rollout_done)
	struct rollout back = { 0 };
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLLOUT_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;

	(void) state;
	write_canonical(&r, &text);
	doc = json_of(buf_str(&text));
	assert_int_equal(rollout_parse(doc, &back, NULL), 0);
	assert_int_equal(back.stages[0].share, 2500);
	assert_int_equal(back.state, ROLLOUT_RUNNING);
}

static void test_words(void **state)
{
	(void) state;
	for (int k = 0; k < ROLLOUT_KIND_COUNT; k++)
		assert_int_equal(rollout_kind_parse(rollout_kind_name((enum rollout_kind) k)), k);
	for (int s = 0; s < ROLLOUT_STATE_COUNT; s++)
		assert_int_equal(rollout_state_parse(rollout_state_name((enum rollout_state) s)), s);
	assert_int_equal(rollout_kind_parse("urgent"), -1);
	assert_int_equal(rollout_kind_parse(NULL), -1);
	assert_int_equal(rollout_state_parse(""), -1);
	assert_string_equal(rollout_kind_name(ROLLOUT_KIND_COUNT), "unknown");
	assert_string_equal(rollout_state_name(ROLLOUT_STATE_COUNT), "unknown");
}

/* --- shares --- */

/* Python: int.from_bytes(hashlib.sha256(rollout + b"\0" + node).digest()[:8], "big") % 10000 */
static const struct {
	const char *rollout, *node;
	uint64_t share;
} vectors[] = {
	{ "r1", "n1", 2903 },
	{ "r1", "n2", 6468 },
	{ "r2", "n1", 7333 },
	{ "web-1-1-0", "oslo-edge-001", 3394 },
	{ "a", "b", 2387 },
	{ "ab", "c", 5165 },
	{ "weekly-2026-47", "n-99999", 3077 },
	{ "0", "0", 9790 },
	{ "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
	  "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", 5917 },
	{ "patch-7", "rome-waf-12", 8797 },
};

static uint64_t share_of(const char *rollout, const char *node)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(200);
	uint8_t digest[SHA256_BYTES];

	assert_int_equal(buf_add(&bytes, rollout, strlen(rollout) + 1), 0);
	assert_int_equal(buf_add_str(&bytes, node), 0);
	assert_int_equal(sha256_of(bytes.data, bytes.len, digest), 0);
	return share_of_digest(digest);
}

static void test_share_vectors(void **state)
{
	uint8_t high[SHA256_BYTES];

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
		assert_int_equal(share_of(vectors[i].rollout, vectors[i].node), vectors[i].share);
	memset(high, 0xff, sizeof(high));
	assert_int_equal(share_of_digest(high), UINT64_MAX % SHARE_ALL);
}

static void test_a_quarter_is_a_quarter(void **state)
{
	enum { NODES = 100000 };
	struct labels none = { 0 };
	struct stage quarter = { .share = 2500 }, half = { .share = 5000 };
	size_t in_quarter = 0, in_half = 0;

	(void) state;
	for (int i = 0; i < NODES; i++) {
		char node[32];
		uint64_t share;
		bool q, h;

		(void) snprintf(node, sizeof(node), "node-%d", i);
		share = share_of("weekly-47", node);
		q = stage_selects(&quarter, node, &none, share);
		h = stage_selects(&half, node, &none, share);
		assert_true(!q || h); /* shares are cumulative */
		in_quarter += q;
		in_half += h;
	}
	assert_in_range(in_quarter, NODES * 24 / 100, NODES * 26 / 100);
	assert_in_range(in_half, NODES * 49 / 100, NODES * 51 / 100);
}

static void test_whom_a_stage_selects(void **state)
{
	CLEANUP(rollout_done)
	struct rollout r = { 0 };
	CLEANUP(labels_done)
	struct labels oslo = { 0 }, none = { 0 };

	(void) state;
	parse_good(&r);
	assert_int_equal(labels_set(&oslo, "site", "oslo"), 0);
	assert_true(stage_selects(&r.stages[0], "n1", &none, 9999));
	assert_false(stage_selects(&r.stages[0], "n3", &oslo, 0));
	assert_true(stage_selects(&r.stages[1], "n3", &oslo, 4999));
	assert_false(stage_selects(&r.stages[1], "n3", &oslo, 5000));
	assert_false(stage_selects(&r.stages[1], "n3", &none, 0));
	assert_true(stage_selects(&r.stages[2], "n3", &none, 9999));
}

/* --- approvals --- */

static void test_the_bytes_an_approval_signs(void **state)
{
	CLEANUP(rollout_done)
	struct rollout r = { 0 };
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(APPROVAL_STATEMENT_MAX);
	static const char expected[] =
		"{'_type':'selfright-approval','expires':'2026-12-01T00:00:00Z','fleet':'demo','kind':'patch','"
		"overrides':["
		"'window','spread'],'releases':[{'component':'web','path':'web/1.1.0/release.json','sha256':'" A64
		"'},{'component':'waf','path':'waf/2.0.0/release.json','sha256':'" Z64
		"'}],'rollout':'web-110','stage':{'comment':'kept','name':'canary','select':{'nodes':['n1','n2']}}"
		"}";
	char *text = unquote(expected);

	(void) state;
	parse_good(&r);
	assert_int_equal(approval_statement("demo", &r, &r.stages[0], 1796083200, &bytes), 0);
	assert_string_equal(buf_str(&bytes), text);
	free(text);
}

static void test_opening_and_approving_change_no_bytes(void **state)
{
	CLEANUP(rollout_done)
	struct rollout before = { 0 }, after = { 0 };
	CLEANUP(json_freep)
	struct json *doc = json_replaced(good, "'open':true,'approvals':[{", "'approvals':[{'x':1,");
	CLEANUP(buf_done)
	struct buf a = BUF_INIT(APPROVAL_STATEMENT_MAX), b = BUF_INIT(APPROVAL_STATEMENT_MAX);

	(void) state;
	parse_good(&before);
	assert_int_equal(rollout_parse(doc, &after, NULL), 0);
	after.state = ROLLOUT_RUNNING;
	assert_int_equal(approval_statement("demo", &before, &before.stages[0], 5, &a), 0);
	assert_int_equal(approval_statement("demo", &after, &after.stages[0], 5, &b), 0);
	assert_string_equal(buf_str(&a), buf_str(&b));
}

/* Whatever an approver looked at must change the bytes. */
static void test_everything_else_changes_the_bytes(void **state)
{
	static const struct {
		const char *from, *to;
	} changes[] = {
		{ "'id':'web-110'", "'id':'web-111'" },
		{ "'kind':'patch'", "'kind':'regular'" },
		{ "web/1.1.0/release.json", "web/1.1.1/release.json" },
		{ "'sha256':'aa", "'sha256':'ab" },
		{ "waf/2.0.0/release.json", "waf/2.0.1/release.json" },
		{ "'nodes':['n1','n2']", "'nodes':['n1','n3']" },
		{ "'comment':'kept'", "'comment':'changed'" },
		{ "'overrides':['window','spread']", "'overrides':['window']" },
	};
	CLEANUP(rollout_done)
	struct rollout r = { 0 };
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(APPROVAL_STATEMENT_MAX), other = BUF_INIT(APPROVAL_STATEMENT_MAX);

	(void) state;
	parse_good(&r);
	assert_int_equal(approval_statement("demo", &r, &r.stages[0], 5, &bytes), 0);
	assert_int_equal(approval_statement("demo2", &r, &r.stages[0], 5, &other), 0);
	assert_string_not_equal(buf_str(&bytes), buf_str(&other));
	buf_clear(&other);
	assert_int_equal(approval_statement("demo", &r, &r.stages[0], 6, &other), 0);
	assert_string_not_equal(buf_str(&bytes), buf_str(&other));
	buf_clear(&other);
	assert_int_equal(approval_statement("demo", &r, &r.stages[1], 5, &other), 0);
	assert_string_not_equal(buf_str(&bytes), buf_str(&other));
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		CLEANUP(json_freep)
		struct json *doc = json_replaced(good, changes[i].from, changes[i].to);
		CLEANUP(rollout_done)
		struct rollout changed = { 0 };

		buf_clear(&other);
		assert_int_equal(rollout_parse(doc, &changed, NULL), 0);
		assert_int_equal(approval_statement("demo", &changed, &changed.stages[0], 5, &other), 0);
		assert_string_not_equal(buf_str(&bytes), buf_str(&other));
	}
}

static const char good_approval[] =
	"{'expires':'2026-12-01T00:00:00Z','signatures':[{'keyid':'" A64 "','sig':'00ff'}],'note':1}";

static void test_approvals(void **state)
{
	static const struct wrong approval_wrongs[] = {
		{ "'expires':'2026-12-01T00:00:00Z',", "", -ERR_FIELD_MISSING, "expires: is missing" },
		{ "[{", "[],'x':[{", -ERR_FIELD_VALUE, "signatures: must have from 1" },
		{ "'keyid':'aa", "'keyid':'a", -ERR_FIELD_VALUE, "signatures[0].keyid: must be a SHA-256" },
		{ "'sig':'00ff'", "'sig':'00f'", -ERR_FIELD_VALUE, "signatures[0].sig: must be lower-case hex" },
		{ "'sig':'00ff'", "'sig':''", -ERR_FIELD_VALUE, "signatures[0].sig: must be lower-case hex" },
	};
	CLEANUP(approval_done)
	struct approval a = { 0 };
	CLEANUP(json_freep)
	struct json *doc = json_replaced(good_approval, "{", "{");
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(1000);
	char *expected =
		unquote("{'expires':'2026-12-01T00:00:00Z','signatures':[{'keyid':'" A64 "','sig':'00ff'}]}");

	(void) state;
	assert_int_equal(approval_parse(doc, &a, NULL), 0);
	assert_int_equal(a.expires, 1796083200);
	assert_int_equal(a.signature_count, 1);
	assert_string_equal(a.signatures[0].sig, "00ff");
	approval_write(&a, json_build_root(b));
	assert_int_equal(json_build_canonical(b, &out), 0);
	assert_string_equal(buf_str(&out), expected);
	free(expected);
	for (size_t i = 0; i < ARRAY_LEN(approval_wrongs); i++) {
		CLEANUP(approval_done)
		struct approval bad = { 0 };
		CLEANUP(json_freep)
		struct json *wrong = json_replaced(good_approval, approval_wrongs[i].from, approval_wrongs[i].to);
		char *error = NULL;

		expect_error(&approval_wrongs[i], approval_parse(wrong, &bad, &error), &error);
		free(error);
	}
}

static void test_which_approvals_are_needed(void **state)
{
	static const char text[] =
		"{'format':1,'owner':'o','approvals':[{'approver':'qa','kinds':['regular'],'exempt_label':'ring="
		"canary'},"
		"{'approver':'team'},{'approver':'board','kinds':['patch','downgrade'],'exempt_label':'x=a=b'}]}";
	CLEANUP(json_freep)
	struct json *doc = json_replaced(text, "{", "{");
	CLEANUP(policy_done)
	struct policy p = { 0 };
	CLEANUP(labels_done)
	struct labels plain = { 0 }, canary = { 0 };
	const struct approval_rule *rule;

	(void) state;
	assert_int_equal(policy_parse(doc, &p, NULL), 0);
	assert_int_equal(labels_set(&canary, "ring", "canary"), 0);
	assert_int_equal(labels_set(&canary, "x", "a=b"), 0);
	rule = approval_rule_next(&p, ROLLOUT_REGULAR, &plain, NULL);
	assert_string_equal(rule->approver, "qa");
	rule = approval_rule_next(&p, ROLLOUT_REGULAR, &plain, rule);
	assert_string_equal(rule->approver, "team");
	assert_null(approval_rule_next(&p, ROLLOUT_REGULAR, &plain, rule));
	rule = approval_rule_next(&p, ROLLOUT_REGULAR, &canary, NULL);
	assert_string_equal(rule->approver, "team");
	rule = approval_rule_next(&p, ROLLOUT_PATCH, &plain, rule);
	assert_string_equal(rule->approver, "board");
	assert_null(approval_rule_next(&p, ROLLOUT_PATCH, &canary, &p.approvals[1]));
	assert_null(approval_rule_next(NULL, ROLLOUT_PATCH, &canary, NULL));
	assert_true(policy_asks_approval(&p, ROLLOUT_DOWNGRADE));
	p.approval_count = 1;
	assert_false(policy_asks_approval(&p, ROLLOUT_DOWNGRADE));
	assert_true(policy_asks_approval(&p, ROLLOUT_REGULAR));
	assert_false(policy_asks_approval(NULL, ROLLOUT_REGULAR));
	p.approval_count = 3;
}

/* --- index and inventory --- */

static const char good_index[] =
	"{'format':1,'rollouts':[{'id':'r1','path':'rollouts/r1.json','seq':3,'components':['web','waf']}],"
	"'freeze':[{'labels':{'site':'oslo'},'components':['web'],'nodes':['n1'],'until':'2026-12-27T00:00:00Z',"
	"'reason':'holidays'},{'reason':'for ever'}],'later':0}";

static const struct wrong index_wrongs[] = {
	{ "'format':1", "'format':7", -ERR_AGENT_TOO_OLD, "format: is 7" },
	{ "'id':'r1'", "'id':'R1'", -ERR_FIELD_VALUE, "rollouts[0].id: must be an id" },
	{ "'path':'rollouts/r1.json'", "'path':'../r1.json'", -ERR_FIELD_VALUE,
	  "rollouts[0].path: must be a relative" },
	{ "'seq':3,", "", -ERR_FIELD_MISSING, "rollouts[0].seq: is missing" },
	{ "'components':['web','waf']", "'components':[]", -ERR_FIELD_VALUE,
	  "rollouts[0].components: must have from 1" },
	{ "'rollouts':[", "'rollouts':{},'x':[", -ERR_FIELD_TYPE, "rollouts: must be an array" },
	{ "'site':'oslo'", "'site':[]", -ERR_FIELD_TYPE, "freeze[0].labels: must be" },
	{ "2026-12-27T00:00:00Z", "soon", -ERR_FIELD_VALUE, "freeze[0].until: must be a time" },
	{ "'reason':'for ever'", "'x':1", -ERR_FIELD_MISSING, "freeze[1].reason: is missing" },
};

static void test_the_index(void **state)
{
	CLEANUP(index_done)
	struct rollout_index index = { 0 }, again = { 0 };
	CLEANUP(json_freep)
	struct json *doc = json_replaced(good_index, "{", "{"), *written = NULL;
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new(), *c = json_build_new();
	CLEANUP(buf_done)
	struct buf first = BUF_INIT(INDEX_MAX_BYTES), second = BUF_INIT(INDEX_MAX_BYTES);

	(void) state;
	assert_int_equal(index_parse(doc, &index, NULL), 0);
	assert_int_equal(index.entry_count, 1);
	assert_string_equal(index.entries[0].path, "rollouts/r1.json");
	assert_int_equal(index.entries[0].components.count, 2);
	assert_int_equal(index.freeze_count, 2);
	assert_int_equal(index.freezes[0].until, 1798329600);
	assert_int_equal(index.freezes[1].until, 0);
	index_write(&index, json_build_root(b));
	assert_int_equal(json_build_canonical(b, &first), 0);
	written = json_of(buf_str(&first));
	assert_int_equal(index_parse(written, &again, NULL), 0);
	index_write(&again, json_build_root(c));
	assert_int_equal(json_build_canonical(c, &second), 0);
	assert_string_equal(buf_str(&first), buf_str(&second));
	for (size_t i = 0; i < ARRAY_LEN(index_wrongs); i++) {
		CLEANUP(index_done)
		struct rollout_index bad = { 0 };
		CLEANUP(json_freep)
		struct json *wrong = json_replaced(good_index, index_wrongs[i].from, index_wrongs[i].to);
		char *error = NULL;

		expect_error(&index_wrongs[i], index_parse(wrong, &bad, &error), &error);
		free(error);
	}
}

static void test_the_inventory(void **state)
{
	static const char text[] = "{'format':1,'labels':{'site':'oslo'}}";
	static const struct wrong inventory_wrongs[] = {
		{ "'format':1", "'format':3", -ERR_AGENT_TOO_OLD, "format: is 3" },
		{ "'site':'oslo'", "'site':7", -ERR_FIELD_TYPE, "labels: must be" },
		{ "{'site':'oslo'}", "'oslo'", -ERR_FIELD_TYPE, "labels: must be" },
	};
	CLEANUP(labels_done)
	struct labels l = { 0 };
	CLEANUP(json_freep)
	struct json *doc = json_replaced(text, "{", "{");
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(1000);
	char *expected = unquote(text);

	(void) state;
	assert_int_equal(inventory_parse(doc, &l, NULL), 0);
	assert_string_equal(labels_get(&l, "site"), "oslo");
	inventory_write(&l, json_build_root(b));
	assert_int_equal(json_build_canonical(b, &out), 0);
	assert_string_equal(buf_str(&out), expected);
	free(expected);
	for (size_t i = 0; i < ARRAY_LEN(inventory_wrongs); i++) {
		CLEANUP(labels_done)
		struct labels bad = { 0 };
		CLEANUP(json_freep)
		struct json *wrong = json_replaced(text, inventory_wrongs[i].from, inventory_wrongs[i].to);
		char *error = NULL;

		expect_error(&inventory_wrongs[i], inventory_parse(wrong, &bad, &error), &error);
		free(error);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_field_is_read),
		cmocka_unit_test(test_every_wrong_field_is_named),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_what_is_written_reads_back),
		cmocka_unit_test(test_a_rollout_made_by_hand_is_written),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_share_vectors),
		cmocka_unit_test(test_a_quarter_is_a_quarter),
		cmocka_unit_test(test_whom_a_stage_selects),
		cmocka_unit_test(test_the_bytes_an_approval_signs),
		cmocka_unit_test(test_opening_and_approving_change_no_bytes),
		cmocka_unit_test(test_everything_else_changes_the_bytes),
		cmocka_unit_test(test_approvals),
		cmocka_unit_test(test_which_approvals_are_needed),
		cmocka_unit_test(test_the_index),
		cmocka_unit_test(test_the_inventory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
