/* Plans that are read, and broken ones: file, line and what was expected. */
#include "base/err.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "model/opening.h"
#include "server-stub/rollout/documents.h"
#include "server-stub/rollout/plan.h"
#include "server-stub/rollout/rebuild.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char whole[] = "component: web\n"
			    "version: 1.1.0\n"
			    "kind: patch\n"
			    "with: {waf: 2.0.0, dns: 1.2.3}\n"
			    "stages:\n"
			    "  - name: canary\n"
			    "    nodes: [n1, n2]\n"
			    "    soak: 12h\n"
			    "  - name: oslo\n"
			    "    labels: {site: oslo, role: edge}\n"
			    "    share: 12.5%\n"
			    "  - name: rest\n"
			    "    all: true\n"
			    "    by_zone: true\n"
			    "    first_zone: Asia/Tokyo\n"
			    "    soak: 5s\n"
			    "gates: {max_failures: 2, max_node_failures: 3, silent_after: 5m, on_failure: pause}\n"
			    "min_age: 0s\n"
			    "window: Mon-Fri 22:00-04:00; Sat,Sun 00:00-24:00\n"
			    "blackout:\n"
			    "  - {from: 2026-12-24T00:00:00Z, until: 2026-12-27T00:00:00Z}\n"
			    "  - Fri 12:00-24:00\n"
			    "notice: 2h\n"
			    "spread: 30m\n"
			    "disruption: {label: site, maximum: 3}\n"
			    "overrides: [window, notice]\n"
			    "deadline: 2026-12-31T00:00:00Z\n";

static void a_whole_plan_is_read(void **state)
{
	struct conf_error e;
	struct plan p;

	(void) state;
	assert_int_equal(plan_parse(whole, strlen(whole), "plan.yaml", &p, &e), 0);
	assert_string_equal(p.component, "web");
	assert_string_equal(p.version, "1.1.0");
	assert_int_equal(p.kind, ROLLOUT_PATCH);
	assert_int_equal(p.with_count, 2);
	assert_string_equal(p.with[0].component, "dns"); /* sorted, as approvals name them */
	assert_string_equal(p.with[1].version, "2.0.0");
	assert_true(plan_concerns(&p, "waf") && plan_concerns(&p, "web"));
	assert_false(plan_concerns(&p, "mail"));
	assert_int_equal(p.stage_count, 3);
	assert_true(p.stages[0].by_nodes);
	assert_int_equal(p.stages[0].nodes.count, 2);
	assert_int_equal(p.stages[0].soak_s, 12 * 3600);
	assert_false(p.stages[1].by_nodes);
	assert_string_equal(labels_get(&p.stages[1].labels, "site"), "oslo");
	assert_int_equal(p.stages[1].share, 1250);
	assert_int_equal(p.stages[2].share, SHARE_ALL);
	assert_int_equal(p.stages[2].labels.count, 0);
	assert_int_equal(p.max_failures, 2);
	assert_int_equal(p.max_node_failures, 3);
	assert_int_equal(p.silent_after_s, 300);
	assert_int_equal(p.on_failure, PLAN_PAUSE);
	assert_int_equal(p.min_age_s, 0);
	assert_string_equal(p.limits.window, "Mon-Fri 22:00-04:00; Sat,Sun 00:00-24:00");
	assert_int_equal(p.limits.blackout_count, 2);
	assert_null(p.limits.blackouts[0].weekly);
	assert_int_equal(p.limits.blackouts[0].until - p.limits.blackouts[0].from, 3 * 86400);
	assert_string_equal(p.limits.blackouts[1].weekly, "Fri 12:00-24:00");
	assert_int_equal(p.limits.notice_s, 7200);
	assert_int_equal(p.limits.spread_s, 1800);
	assert_string_equal(p.limits.disruption_label, "site");
	assert_int_equal(p.limits.disruption_maximum, 3);
	assert_int_equal(p.limits.overrides.count, 2);
	assert_int_equal(p.limits.deadline, 1798675200);
	assert_true(plan_covers_all(&p));
	plan_done(&p);
	plan_done(&p);
}

static void defaults_are_the_careful_ones(void **state)
{
	static const char text[] = "component: web\nversion: 1.0.0\nstages: [{name: a, nodes: [n1]}]\n";
	struct conf_error e;
	struct plan p;

	(void) state;
	assert_int_equal(plan_parse(text, strlen(text), "p", &p, &e), 0);
	assert_int_equal(p.kind, ROLLOUT_REGULAR);
	assert_int_equal(p.max_failures, 0);
	assert_int_equal(p.max_node_failures, 10);
	assert_int_equal(p.silent_after_s, 1800);
	assert_int_equal(p.on_failure, PLAN_HALT);
	assert_int_equal(p.min_age_s, 86400);
	assert_null(p.limits.window);
	assert_null(p.limits.disruption_label);
	assert_int_equal(p.limits.deadline, 0);
	assert_false(plan_covers_all(&p));
	plan_done(&p);
}

static void what_is_written_is_read_again(void **state)
{
	struct json_build *a = json_build_new(), *b = json_build_new();
	struct buf first = BUF_INIT(100000), second = BUF_INIT(100000);
	struct conf_error e;
	struct plan p, q;

	(void) state;
	assert_int_equal(plan_parse(whole, strlen(whole), "p", &p, &e), 0);
	plan_write(&p, json_build_root(a));
	assert_int_equal(json_build_text(a, false, &first), 0);
	assert_int_equal(plan_parse(first.data, first.len, "json", &q, &e), 0);
	plan_write(&q, json_build_root(b));
	assert_int_equal(json_build_text(b, false, &second), 0);
	assert_string_equal(buf_str(&first), buf_str(&second));
	plan_done(&p);
	plan_done(&q);
	json_build_free(a);
	json_build_free(b);
	buf_done(&first);
	buf_done(&second);
}

struct broken {
	const char *text, *line, *expected;
};

#define HEAD "component: web\nversion: 1.0.0\n"
#define ALL HEAD "stages: [{name: a, all: true}]\n"

static void broken_plans_name_file_line_and_expectation(void **state)
{
	static const struct broken list[] = {
		{ "version: 1.0.0\nstages: []\n", "p.yaml:", "component" },
		{ "component: Web!\nversion: 1.0.0\nstages: [{name: a, all: true}]\n",
		  "p.yaml:1:", "component's name" },
		{ "component: web\nversion: one\nstages: [{name: a, all: true}]\n",
		  "p.yaml:2:", "version like 1.2.3" },
		{ HEAD "kind: urgent\nstages: [{name: a, all: true}]\n",
		  "p.yaml:3:", "regular, patch or downgrade" },
		{ HEAD, "p.yaml:", "list of stages" },
		{ HEAD "stages: []\n", "p.yaml:3:", "list of stages" },
		{ HEAD "stages: canary\n", "p.yaml:3:", "list of stages" },
		{ HEAD "stages: [canary]\n", "p.yaml:3:", "expected a stage" },
		{ HEAD "stages:\n  - nodes: [n1]\n", "p.yaml:4:", "name" },
		{ HEAD "stages:\n  - name: A B\n    all: true\n", "p.yaml:4:", "stage name" },
		{ HEAD "stages:\n  - name: a\n", "p.yaml:4:", "one of nodes, labels" },
		{ HEAD "stages:\n  - name: a\n    all: true\n    nodes: [n1]\n",
		  "p.yaml:4:", "one of nodes, labels" },
		{ HEAD "stages:\n  - name: a\n    nodes: [n1]\n    share: 10%\n",
		  "p.yaml:4:", "one of nodes, labels" },
		{ HEAD "stages:\n  - name: a\n    nodes: []\n", "p.yaml:5:", "list of node ids" },
		{ HEAD "stages:\n  - name: a\n    nodes: [n1, N2]\n", "p.yaml:5:", "found 'N2'" },
		{ HEAD "stages:\n  - name: a\n    nodes: [n1, n1]\n", "p.yaml:5:", "twice" },
		{ HEAD "stages:\n  - name: a\n    labels: {}\n", "p.yaml:5:", "labels" },
		{ HEAD "stages:\n  - name: a\n    labels: {SITE!: oslo}\n", "p.yaml:5:", "label name" },
		{ HEAD "stages:\n  - name: a\n    labels: {site: [oslo]}\n", "p.yaml:5:", "text as value" },
		{ HEAD "stages:\n  - name: a\n    share: 25\n", "p.yaml:5:", "share like 25%" },
		{ HEAD "stages:\n  - name: a\n    share: 0%\n", "p.yaml:5:", "share like 25%" },
		{ HEAD "stages:\n  - name: a\n    share: 100.01%\n", "p.yaml:5:", "share like 25%" },
		{ HEAD "stages:\n  - name: a\n    share: 101%\n", "p.yaml:5:", "share like 25%" },
		{ HEAD "stages:\n  - name: a\n    share: 1.234%\n", "p.yaml:5:", "share like 25%" },
		{ HEAD "stages:\n  - name: a\n    all: true\n    soak: soon\n", "p.yaml:6:", "soon" },
		{ HEAD "stages:\n  - name: a\n    all: true\n    soak: 400d\n", "p.yaml:6:", "90d" },
		{ HEAD "stages:\n  - {name: a, nodes: [n1]}\n  - {name: a, all: true}\n",
		  "p.yaml:5:", "used twice" },
		{ HEAD "stages:\n  - {name: a, share: 20%}\n  - {name: b, share: 10%}\n",
		  "p.yaml:5:", "cumulative" },
		{ HEAD "stages:\n  - {name: a, all: true}\n  - {name: b, all: true}\n",
		  "p.yaml:5:", "cumulative" },
		{ HEAD "stages: [{name: a, all: true, sok: 1h}]\n", "p.yaml:3:", "sok" },
		{ HEAD "stages: [{name: a, all: true}]\ngates: {max_failure: 1}\n", "p.yaml:4:", "max_failure" },
		{ HEAD "stages: [{name: a, all: true}]\ngates: {max_failures: many}\n", "p.yaml:4:", "many" },
		{ HEAD "stages: [{name: a, all: true}]\ngates: {max_failures: -1}\n", "p.yaml:4:", "-1" },
		{ HEAD "stages: [{name: a, all: true}]\ngates: {on_failure: shrug}\n",
		  "p.yaml:4:", "halt or pause" },
		{ HEAD "stages: [{name: a, all: true}]\ngates: {silent_after: 0s}\n", "p.yaml:4:", "1s to 90d" },
		{ HEAD "stages: [{name: a, all: true}]\ngates: none\n", "p.yaml:4:", "expected gates" },
		{ HEAD "stages: [{name: a, all: true}]\nmin_age: 1000d\n", "p.yaml:4:", "90d" },
		{ HEAD "stages: [{name: a, all: true}]\nunknown: 1\n", "p.yaml:4:", "unknown" },
		{ ALL "with: dns\n", "p.yaml:4:", "e.g. with: {waf: 2.0.0}" },
		{ ALL "with: {}\n", "p.yaml:4:", "e.g. with: {waf: 2.0.0}" },
		{ ALL "with: {web: 2.0.0}\n", "p.yaml:4:", "another component than web" },
		{ ALL "with: {agent: 2.0.0}\n", "p.yaml:4:", "updated alone" },
		{ ALL "with: {dns: new}\n", "p.yaml:4:", "found 'new'" },
		{ ALL "with: {DNS: 1.0.0}\n", "p.yaml:4:", "component's name" },
		{ HEAD "stages:\n  - {name: a, count: 0}\n", "p.yaml:4:", "0" },
		{ HEAD "stages:\n  - {name: a, count: 2, share: 10%}\n", "p.yaml:4:", "not both" },
		{ HEAD "stages:\n  - {name: a, nodes: [n1], count: 2}\n", "p.yaml:4:", "one of nodes" },
		{ HEAD "stages:\n  - {name: a, labels: {x: y}, prefer: {x: y}}\n", "p.yaml:4:", "comes first" },
		{ HEAD "stages:\n  - {name: a, count: 2, prefer: low}\n", "p.yaml:4:", "name: value" },
		{ ALL "gates: {undo: yes}\n", "p.yaml:4:", "ask or failed-stage" },
		{ ALL "gates: {undo: failed-stage, on_failure: pause}\n", "p.yaml:4:", "on_failure: halt" },
		{ HEAD "stages: [{name: a, all: true, by_zone: true}]\n", "p.yaml:", "expected a window" },
		{ HEAD "stages: [{name: a, all: true, zone: Europe/Oslo}]\n", "p.yaml:", "expected a window" },
		{ HEAD "stages:\n  - {name: a, nodes: [n1], by_zone: true}\n",
		  "p.yaml:4:", "all: true beside by_zone" },
		{ HEAD "stages:\n  - {name: a, count: 2, by_zone: true}\n",
		  "p.yaml:4:", "all: true beside by_zone" },
		{ HEAD "stages:\n  - {name: a, all: true, first_zone: UTC}\n",
		  "p.yaml:4:", "by_zone: true beside" },
		{ HEAD "stages:\n  - {name: a, all: true, by_zone: true, zone: UTC}\n", "p.yaml:4:", "not both" },
		{ HEAD "stages:\n  - {name: a, all: true, zone: [UTC]}\n", "p.yaml:4:", "time zone like" },
		{ HEAD "profile: fast\n", "p.yaml:3:", "found 'fast'" },
		{ HEAD "profile: [weekly]\n", "p.yaml:3:", "weekly, train" },
		{ ALL "window: at night\n", "p.yaml:4:", "window like Mon-Fri 22:00-04:00" },
		{ ALL "window: [Mon 01:00-02:00]\n", "p.yaml:4:", "window like" },
		{ ALL "blackout: Fri 12:00-24:00\n", "p.yaml:4:", "list of at most" },
		{ ALL "blackout: [Christmas]\n", "p.yaml:4:", "found 'Christmas'" },
		{ ALL "blackout: [[Fri 12:00-24:00]]\n", "p.yaml:4:", "expected a blackout" },
		{ ALL "blackout:\n  - {from: 2026-12-24T00:00:00Z}\n", "p.yaml:5:", "'until' as a time" },
		{ ALL "blackout:\n  - {from: 2026-12-24, until: 2026-12-27T00:00:00Z}\n",
		  "p.yaml:5:", "found '2026-12-24'" },
		{ ALL "blackout:\n  - {from: 2026-12-24T00:00:00Z, until: 2026-12-23T00:00:00Z}\n",
		  "p.yaml:5:", "ends after it begins" },
		{ ALL "blackout:\n  - {from: 2026-12-24T00:00:00Z, until: 2026-12-27T00:00:00Z, zone: Oslo}\n",
		  "p.yaml:5:", "zone" },
		{ ALL "notice: 100d\n", "p.yaml:4:", "90d" },
		{ ALL "spread: slowly\n", "p.yaml:4:", "slowly" },
		{ ALL "disruption: 1\n", "p.yaml:4:", "{label: site, maximum: 1}" },
		{ ALL "disruption: {maximum: 1}\n", "p.yaml:4:", "label" },
		{ ALL "disruption: {label: site}\n", "p.yaml:4:", "how many nodes of one site" },
		{ ALL "disruption: {label: A B, maximum: 1}\n", "p.yaml:4:", "found 'A B'" },
		{ ALL "disruption: {label: site, maximum: 0}\n", "p.yaml:4:", "0" },
		{ ALL "disruption: {label: site, maximum: 1, per: day}\n", "p.yaml:4:", "per" },
		{ ALL "overrides: [window]\n", "p.yaml:4:", "in a patch only" },
		{ ALL "kind: patch\noverrides: [floor]\n", "p.yaml:5:", "found 'floor'" },
		{ ALL "kind: patch\noverrides: [window, window]\n", "p.yaml:5:", "twice" },
		{ ALL "kind: patch\noverrides: window\n", "p.yaml:5:", "expected a list" },
		{ ALL "deadline: tomorrow\n", "p.yaml:4:", "found 'tomorrow'" },
		{ "[]\n", "p.yaml:", "" },
		{ "", "p.yaml:", "" },
		{ "component: [\n", "p.yaml:", "" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(list); i++) {
		struct conf_error e = { "" };
		struct plan p;
		int r = plan_parse(list[i].text, strlen(list[i].text), "p.yaml", &p, &e);

		if (r != -ERR_CONFIG || !strstr(e.text, list[i].line) || !strstr(e.text, list[i].expected))
			fail_msg("case %zu: %d '%s', expected %s %s", i, r, e.text, list[i].line,
				 list[i].expected);
	}
}

static void shares_follow_the_documented_hash(void **state)
{
	uint64_t a, b, counted = 0;
	char node[32];

	(void) state;
	assert_int_equal(plan_share("web-1-1-0", "n1", &a), 0);
	assert_int_equal(plan_share("web-1-1-0", "n1", &b), 0);
	assert_int_equal(a, b);
	/* int.from_bytes(hashlib.sha256(b'web-1-1-0\\0n1').digest()[:8], 'big') % 10000 */
	assert_int_equal(a, 7521);
	for (int i = 0; i < 4000; i++) {
		snprintf(node, sizeof(node), "node-%d", i);
		assert_int_equal(plan_share("r", node, &a), 0);
		assert_true(a < SHARE_ALL);
		counted += a < 2500;
	}
	assert_in_range(counted, 850, 1150);
}

static void stages_select_by_node_label_and_share(void **state)
{
	struct labels oslo = { 0 }, lima = { 0 };
	struct conf_error e;
	struct plan p;

	(void) state;
	assert_int_equal(labels_set(&oslo, "site", "oslo"), 0);
	assert_int_equal(labels_set(&oslo, "role", "edge"), 0);
	assert_int_equal(labels_set(&lima, "site", "lima"), 0);
	assert_int_equal(plan_parse(whole, strlen(whole), "p", &p, &e), 0);
	assert_true(plan_stage_selects(&p.stages[0], "n1", &lima, 9999));
	assert_false(plan_stage_selects(&p.stages[0], "n3", &lima, 0));
	assert_true(plan_stage_selects(&p.stages[1], "n3", &oslo, 1249));
	assert_false(plan_stage_selects(&p.stages[1], "n3", &oslo, 1250));
	assert_false(plan_stage_selects(&p.stages[1], "n3", &lima, 0));
	assert_true(plan_stage_selects(&p.stages[2], "any", &lima, 9999));
	plan_done(&p);
	labels_done(&oslo);
	labels_done(&lima);
}

static void documents_are_what_nodes_read(void **state)
{
	struct buf text = BUF_INIT(ROLLOUT_MAX_BYTES), again = BUF_INIT(ROLLOUT_MAX_BYTES);
	struct json *doc = NULL;
	bool open[3] = { true, false, false };
	struct rollout r;
	struct conf_error e;
	struct plan p;
	struct opening opening;
	char *error = NULL, why[200];

	(void) state;
	assert_int_equal(plan_parse(whole, strlen(whole), "p", &p, &e), 0);
	struct document_rollout in = { .id = "web-1-1-0",
				       .seq = 7,
				       .state = ROLLOUT_RUNNING,
				       .plan = &p,
				       .open = open,
				       .release_path = "web/1.1.0/release.json" };
	char paths[2][32] = { "dns/1.2.3/release.json", "waf/2.0.0/release.json" };
	const struct release_ref with[2] = {
		{ .component = p.with[0].component, .version = p.with[0].version, .path = paths[0] },
		{ .component = p.with[1].component, .version = p.with[1].version, .path = paths[1] },
	};
	in.with = with;
	memset(in.release_sha256, 0xab, SHA256_BYTES);
	assert_int_equal(document_rollout(&in, &text), 0);
	assert_int_equal(document_rollout(&in, &again), 0);
	assert_string_equal(buf_str(&text), buf_str(&again));
	assert_int_equal(json_parse(text.data, text.len, &json_limits_default, &doc), 0);
	assert_int_equal(rollout_parse(doc, &r, &error), 0);
	assert_string_equal(r.id, "web-1-1-0");
	assert_int_equal(r.seq, 7);
	assert_int_equal(r.kind, ROLLOUT_PATCH);
	assert_string_equal(r.release.version, "1.1.0");
	assert_int_equal(r.with_count, 2);
	assert_string_equal(r.with[1].path, "waf/2.0.0/release.json");
	assert_int_equal(r.stage_count, 3);
	assert_true(r.stages[0].open);
	assert_false(r.stages[1].open);
	assert_true(r.stages[0].by_nodes);
	assert_int_equal(r.stages[1].share, 1250);
	assert_int_equal(r.stages[2].share, SHARE_ALL);
	assert_int_equal(r.notice_s, 7200);
	assert_int_equal(r.spread_s, 1800);
	assert_string_equal(r.disruption.label, "site");
	assert_int_equal(r.disruption.maximum, 3);
	assert_true(string_list_has(&r.overrides, "notice"));
	assert_int_equal(r.deadline, p.limits.deadline);
	assert_int_equal(opening_parse(r.window, r.blackout, &opening, why, sizeof(why)), 0);
	assert_true(opening.has_window);
	assert_int_equal(opening.blackout_count, 2);
	assert_int_equal(opening.blackouts[0].from, p.limits.blackouts[0].from);
	assert_true(opening.blackouts[1].weekly);
	/* Node and controller agree on who is selected. */
	for (uint64_t share = 0; share < SHARE_ALL; share += 625) {
		struct labels l = { 0 };

		assert_int_equal(labels_set(&l, "site", "oslo"), 0);
		assert_int_equal(labels_set(&l, "role", "edge"), 0);
		for (size_t k = 0; k < 3; k++)
			assert_int_equal(stage_selects(&r.stages[k], "n2", &l, share),
					 plan_stage_selects(&p.stages[k], "n2", &l, share));
		labels_done(&l);
	}
	rollout_done(&r);
	json_free(doc);
	free(error);
	plan_done(&p);
	buf_done(&text);
	buf_done(&again);
}

static struct plan plan_of(const char *text)
{
	struct conf_error e = { "" };
	struct plan p = { 0 };

	if (plan_parse(text, strlen(text), "p", &p, &e) < 0)
		fail_msg("%s", e.text);
	return p;
}

static void a_plan_is_rebuilt_from_its_document(void **state)
{
	struct buf first = BUF_INIT(ROLLOUT_MAX_BYTES), second = BUF_INIT(ROLLOUT_MAX_BYTES),
		   plan = BUF_INIT(ROLLOUT_MAX_BYTES), undo = BUF_INIT(1000);
	struct json *doc = NULL;
	bool open[3] = { true, true, false };
	const int64_t opened_at[3] = { 1790000000, 1790003600, 0 };
	struct rollout r;
	struct conf_error e;
	struct plan p, q;
	char *error = NULL;
	struct release_ref with[2] = { { .component = (char *) (uintptr_t) "dns",
					 .version = (char *) (uintptr_t) "1.2.3",
					 .path = (char *) (uintptr_t) "dns/1.2.3/release.json" },
				       { .component = (char *) (uintptr_t) "waf",
					 .version = (char *) (uintptr_t) "2.0.0",
					 .path = (char *) (uintptr_t) "waf/2.0.0/release.json" } };

	(void) state;
	assert_int_equal(plan_parse(whole, strlen(whole), "p", &p, &e), 0);
	struct document_rollout in = { .id = "web-1-1-0",
				       .seq = 7,
				       .state = ROLLOUT_RUNNING,
				       .plan = &p,
				       .open = open,
				       .opened_at = opened_at,
				       .with = with,
				       .release_path = "web/1.1.0/release.json" };
	assert_int_equal(document_rollout(&in, &first), 0);
	assert_int_equal(json_parse(first.data, first.len, &json_limits_default, &doc), 0);
	assert_int_equal(rollout_parse(doc, &r, &error), 0);
	assert_int_equal(r.stages[1].opened_at, 1790003600);
	assert_int_equal(r.stages[2].opened_at, 0);
	/* Not a part of what approvers sign. */
	assert_null(json_get(r.stages[0].bare, "opened"));
	assert_int_equal(rebuild_plan(&r, &plan), 0);
	assert_int_equal(plan_parse(plan.data, plan.len, "rebuilt", &q, &e), 0);
	in.plan = &q;
	assert_int_equal(document_rollout(&in, &second), 0);
	assert_string_equal(buf_str(&first), buf_str(&second));
	/* The plan that lies beside the document is one of it; another rollout's, or none, is not. */
	assert_true(rebuild_agrees(&r, buf_str(&plan), plan.len));
	assert_true(rebuild_agrees(&r, whole, strlen(whole)));
	static const char *const others[][2] = { { "version: 1.1.0", "version: 1.1.1" },
						 { "component: web", "component: api" },
						 { "kind: patch", "kind: regular" },
						 { "name: oslo", "name: lima" },
						 { "dns: 1.2.3", "dns: 1.2.4" },
						 { "waf: 2.0.0, ", "" },
						 { "stages:", "stages: [" } };
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		CLEANUP(buf_done)
		struct buf other = BUF_INIT(ROLLOUT_MAX_BYTES);
		const char *at = strstr(whole, others[i][0]);

		assert_non_null(at);
		assert_int_equal(buf_addf(&other, "%.*s%s%s", (int) (at - whole), whole, others[i][1],
					  at + strlen(others[i][0])),
				 0);
		if (rebuild_agrees(&r, buf_str(&other), other.len))
			fail_msg("'%s' instead of '%s' passes", others[i][1], others[i][0]);
	}
	in.plan = &p;
	in.plan_sha256 = "00";
	buf_clear(&second);
	assert_int_equal(document_rollout(&in, &second), 0);
	assert_non_null(strstr(buf_str(&second), "\"plan_sha256\":\"00\""));
	/* What nodes are not told is careful again. */
	assert_int_equal(q.max_failures, 0);
	assert_int_equal(q.min_age_s, 24 * 3600);
	assert_int_equal(q.stages[0].soak_s, 0);
	assert_int_equal(string_list_add(&r.undo, "canary"), 0);
	assert_int_equal(string_list_add(&r.undo, "oslo"), 0);
	assert_int_equal(rebuild_undo(&r.undo, &undo), 0);
	assert_string_equal(buf_str(&undo), "[\"canary\",\"oslo\"]");
	rollout_done(&r);
	json_free(doc);
	plan_done(&p);
	plan_done(&q);
	buf_done(&first);
	buf_done(&second);
	buf_done(&plan);
	buf_done(&undo);
}

static void nothing_goes_on_by_itself_after_a_backup(void **state)
{
	static const struct {
		enum rollout_state known, published, becomes;
	} rows[] = {
		{ ROLLOUT_RUNNING, ROLLOUT_RUNNING, ROLLOUT_PAUSED },
		{ ROLLOUT_RUNNING, ROLLOUT_HALTED, ROLLOUT_HALTED },
		{ ROLLOUT_HALTED, ROLLOUT_RUNNING, ROLLOUT_HALTED },
		{ ROLLOUT_RUNNING, ROLLOUT_DONE, ROLLOUT_DONE },
		{ ROLLOUT_PAUSED, ROLLOUT_RUNNING, ROLLOUT_PAUSED },
		{ ROLLOUT_DONE, ROLLOUT_HALTED, ROLLOUT_HALTED },
		{ ROLLOUT_HALTED, ROLLOUT_CANCELLED, ROLLOUT_CANCELLED },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(rebuild_state(rows[i].known, rows[i].published), rows[i].becomes);
	for (int a = 0; a < ROLLOUT_STATE_COUNT; a++)
		for (int b = 0; b < ROLLOUT_STATE_COUNT; b++)
			assert_int_not_equal(rebuild_state((enum rollout_state) a, (enum rollout_state) b),
					     ROLLOUT_RUNNING);
}

static void a_choice_is_stable_and_follows_the_preference(void **state)
{
	enum { NODES = 40 };
	static const char text[] = HEAD "stages:\n  - {name: a, count: 3, prefer: {traffic: low}}\n"
					"  - {name: b, share: 25%, prefer: {traffic: low}}\n"
					"  - {name: c, all: true}\n";
	struct plan_candidate list[NODES], reversed[NODES];
	struct labels labels[2] = { { 0 }, { 0 } };
	char names[NODES][16];
	size_t stage = 99;
	struct plan p = plan_of(text), q = plan_of(text);

	(void) state;
	assert_int_equal(labels_set(&labels[0], "traffic", "low"), 0);
	assert_int_equal(labels_set(&labels[1], "traffic", "high"), 0);
	for (size_t i = 0; i < NODES; i++) {
		snprintf(names[i], sizeof(names[i]), "n%zu", i);
		list[i] = (struct plan_candidate){ names[i], &labels[i % 4 != 0], i % 8 != 0, 0 };
		assert_int_equal(plan_share("r", names[i], &list[i].share), 0);
		reversed[NODES - 1 - i] = list[i];
	}
	assert_false(plan_stage_selects(&p.stages[0], "n4", &labels[0], 0));
	assert_int_equal(plan_choose(&p, list, NODES, &stage), 0);
	assert_int_equal(plan_choose(&q, reversed, NODES, &stage), 0);
	assert_true(p.stages[0].by_nodes && p.stages[1].by_nodes);
	assert_int_equal(p.stages[0].nodes.count, 3);
	assert_int_equal(p.stages[1].nodes.count, 7); /* ten, and three of them are in before */
	for (size_t k = 0; k < 2; k++)
		for (size_t i = 0; i < p.stages[k].nodes.count; i++)
			assert_string_equal(p.stages[k].nodes.items[i], q.stages[k].nodes.items[i]);
	for (size_t i = 0; i < 3; i++) {
		unsigned long n = strtoul(p.stages[0].nodes.items[i] + 1, NULL, 10);

		assert_int_equal(n % 8, 4); /* little traffic, and able to prove something */
		assert_false(string_list_has(&p.stages[1].nodes, p.stages[0].nodes.items[i]));
	}
	plan_done(&p);
	plan_done(&q);
	p = plan_of(HEAD "stages:\n  - {name: a, labels: {traffic: none}, count: 1}\n");
	assert_int_equal(plan_choose(&p, list, NODES, &stage), -ENOENT);
	assert_int_equal(stage, 0);
	assert_false(plan_covers_all(&p));
	plan_done(&p);
	labels_done(&labels[0]);
	labels_done(&labels[1]);
}

static void profiles_fill_in_what_the_plan_leaves_out(void **state)
{
	struct plan p = plan_of(HEAD "profile: weekly\n");

	(void) state;
	assert_int_equal(p.stage_count, 5);
	assert_int_equal(p.stages[0].count, 2);
	assert_string_equal(labels_get(&p.stages[0].prefer, "traffic"), "low");
	assert_int_equal(p.stages[1].soak_s, 24 * 3600);
	assert_int_equal(p.kind, ROLLOUT_REGULAR);
	assert_true(plan_covers_all(&p));
	plan_done(&p);
	p = plan_of(HEAD "profile: patch\nstages: [{name: own, all: true}]\n");
	assert_int_equal(p.kind, ROLLOUT_PATCH);
	assert_int_equal(p.stage_count, 1);
	plan_done(&p);
	p = plan_of(HEAD "profile: downgrade\n");
	assert_int_equal(p.kind, ROLLOUT_DOWNGRADE);
	assert_int_equal(p.min_age_s, 0);
	plan_done(&p);
	p = plan_of(HEAD "profile: train\n");
	assert_string_equal(p.limits.window, "01:00-05:00");
	assert_int_equal(p.stage_count, 4);
	plan_done(&p);
	p = plan_of(HEAD "profile: train\nwindow: Sat 10:00-12:00\nmin_age: 2h\n");
	assert_string_equal(p.limits.window, "Sat 10:00-12:00");
	assert_int_equal(p.min_age_s, 7200);
	plan_done(&p);
}

/* --- follow the moon --- */

struct moon {
	struct plan_candidate list[12];
	struct labels labels[12];
	char names[12][8];
	struct plan_zone zones[4];
};

/* Three nodes each in Tokyo, Oslo and New York, one in a zone nobody knows, two without one. */
static void moon_rises(struct moon *m)
{
	static const char *const zones[] = { "America/New_York", "Asia/Tokyo", "Europe/Oslo" };

	*m = (struct moon){ .zones = { { "America/New_York", -5 * 3600 },
				       { "Asia/Tokyo", 9 * 3600 },
				       { "Australia/Sydney", 11 * 3600 },
				       { "Europe/Oslo", 3600 } } };
	for (size_t i = 0; i < 12; i++) {
		snprintf(m->names[i], sizeof(m->names[i]), "n%zu", i);
		m->list[i] = (struct plan_candidate){ m->names[i], &m->labels[i], true, i * 800 };
		if (i < 9)
			assert_int_equal(labels_set(&m->labels[i], "zone", zones[i % 3]), 0);
		else if (i == 9)
			assert_int_equal(labels_set(&m->labels[i], "zone", "Mars/Olympus"), 0);
		assert_int_equal(labels_set(&m->labels[i], "site", i % 2 ? "odd" : "even"), 0);
	}
}

static void moon_sets(struct moon *m)
{
	for (size_t i = 0; i < 12; i++)
		labels_done(&m->labels[i]);
}

/* Names of the stages, one after the other. */
static const char *stages_text(const struct plan *p)
{
	static char text[600];

	text[0] = '\0';
	for (size_t k = 0; k < p->stage_count; k++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s ", p->stages[k].name);
	return text;
}

static void batches_follow_the_night(void **state)
{
	struct moon m;
	struct plan p =
		plan_of(HEAD "stages:\n  - {name: canary, nodes: [n2]}\n"
			     "  - {name: fleet, all: true, by_zone: true, soak: 1h}\nwindow: 01:00-05:00\n");
	size_t stage = 9, seen = 0;

	(void) state;
	moon_rises(&m);
	assert_int_equal(plan_split_zones(&p, m.list, 12, m.zones, 4, &stage), 0);
	/* From the east; none where nobody waits; itself for all others, also of zones that appear later. */
	assert_string_equal(stages_text(&p),
			    "canary fleet-asia-tokyo fleet-europe-oslo fleet-america-new-york fleet ");
	assert_string_equal(p.stages[1].zone, "Asia/Tokyo");
	assert_int_equal(p.stages[1].soak_s, 3600);
	assert_null(p.stages[4].zone);
	assert_true(plan_covers_all(&p));
	for (size_t i = 0; i < 12; i++)
		for (size_t k = 1; k < 4; k++)
			seen += plan_stage_selects(&p.stages[k], m.names[i], &m.labels[i], m.list[i].share);
	assert_int_equal(seen, 9);
	assert_true(plan_stage_selects(&p.stages[4], "n9", &m.labels[9], 0));
	assert_true(plan_stage_selects(&p.stages[4], "n11", &m.labels[11], 0));
	plan_done(&p);
	moon_sets(&m);
}

static void every_batch_has_the_gates_of_its_stage(void **state)
{
	struct moon m;
	struct plan p =
		plan_of(HEAD "stages:\n  - {name: a, nodes: [n2], gates: [{staffed: true}]}\n"
			     "  - {name: f, all: true, by_zone: true, gates: [{staffed: true}, {ask: fine?}]}\n"
			     "  - {name: z, nodes: [n1], gates: [{ask: all of it?}]}\n"
			     "gates: {require: [{command: {argv: [/bin/true]}}]}\nwindow: 01:00-05:00\n");
	size_t stage = 9, staffed[6] = { 0 }, asked[6] = { 0 }, everywhere = 0;

	(void) state;
	moon_rises(&m);
	assert_int_equal(plan_split_zones(&p, m.list, 12, m.zones, 4, &stage), 0);
	assert_string_equal(stages_text(&p), "a f-asia-tokyo f-europe-oslo f-america-new-york f z ");
	for (size_t i = 0; i < p.gate_count; i++) {
		const struct gate *g = &p.gates[i];

		if (g->stage == GATE_EVERY_STAGE) {
			everywhere++;
			continue;
		}
		assert_true(g->stage < 6);
		staffed[g->stage] += g->kind == GATE_STAFFED;
		asked[g->stage] += g->kind == GATE_PERSON;
		if (g->kind == GATE_PERSON)
			assert_string_equal(g->u.person.question, g->stage == 5 ? "all of it?" : "fine?");
	}
	assert_int_equal(everywhere, 1);
	for (size_t k = 0; k < 6; k++) {
		assert_int_equal(staffed[k], k < 5);
		assert_int_equal(asked[k], k > 0);
	}
	plan_done(&p);
	moon_sets(&m);
}

static void the_first_zone_may_be_named(void **state)
{
	struct moon m;
	struct plan p = plan_of(HEAD
				"stages: [{name: f, labels: {site: even}, share: 50%, by_zone: true, first_zone: "
				"Europe/Oslo}]\nwindow: 01:00-05:00\n"),
		    q = plan_of(HEAD
				"stages: [{name: f, all: true, by_zone: true, first_zone: Australia/Sydney}]\n"
				"window: 01:00-05:00\n");
	struct plan_zone many[40];
	size_t stage = 9;

	(void) state;
	moon_rises(&m);
	assert_int_equal(plan_split_zones(&p, m.list, 12, m.zones, 4, &stage), 0);
	assert_string_equal(stages_text(&p), "f-europe-oslo f-america-new-york f-asia-tokyo f ");
	assert_string_equal(labels_get(&p.stages[0].labels, "site"), "even");
	assert_int_equal(p.stages[0].share, SHARE_ALL / 2);
	assert_false(plan_stage_selects(&p.stages[0], "n5", &m.labels[5], 0)); /* odd */
	assert_int_equal(plan_split_zones(&q, m.list, 12, m.zones, 4, &stage), -ENOENT); /* nobody is there */
	assert_int_equal(stage, 0);
	assert_true(q.stages[0].by_zone);
	plan_done(&p);
	plan_done(&q);
	/* More zones than stages. */
	q = plan_of(HEAD "stages: [{name: f, all: true, by_zone: true}]\nwindow: 01:00-05:00\n");
	for (size_t i = 0; i < 40; i++)
		many[i] = (struct plan_zone){ "Asia/Tokyo", 0 };
	assert_int_equal(plan_split_zones(&q, m.list, 12, many, 40, &stage), -ERR_TOO_LARGE);
	plan_done(&q);
	moon_sets(&m);
}

static void the_index_lists_what_is_in_force(void **state)
{
	enum { DAY = 86400 };
	struct index_candidate list[] = {
		{ "web", NULL, 0, 1, ROLLOUT_DONE, true, false, false, 0 },
		{ "web", NULL, 0, 2, ROLLOUT_DONE, false, false, false, 0 },
		{ "web", NULL, 0, 3, ROLLOUT_HALTED, true, false, false, 0 },
		{ "web", NULL, 0, 4, ROLLOUT_DONE, true, false, false, 0 },
		{ "web", NULL, 0, 5, ROLLOUT_DONE, false, false, false, 0 },
		{ "web", NULL, 0, 6, ROLLOUT_RUNNING, true, false, false, 0 },
		{ "web", NULL, 0, 7, ROLLOUT_PAUSED, true, false, false, 0 },
		{ "web", NULL, 0, 8, ROLLOUT_CANCELLED, true, false, false, 0 },
		{ "web", NULL, 0, 9, ROLLOUT_CANCELLED, true, true, false, 0 },
		{ "web", NULL, 0, 10, ROLLOUT_HALTED, true, true, true, 0 },
		{ "web", NULL, 0, 11, ROLLOUT_HALTED, true, false, false, 0 },
		{ "dns", NULL, 0, 1, ROLLOUT_DONE, true, false, false, 0 },
	};
	static const bool expected[] = { false, false, false, true,  true, true,
					 true,	false, true,  false, true, true };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(list); i++)
		if (index_lists(&list[i], list, ARRAY_LEN(list), DAY) != expected[i])
			fail_msg("case %zu", i);
	assert_false(index_lists(&list[8], list, ARRAY_LEN(list), 90 * DAY));
	assert_false(index_lists(&list[10], list, ARRAY_LEN(list), 90 * DAY));
	assert_true(index_lists(&list[5], list, ARRAY_LEN(list), 900 * DAY));
}

static void a_rollout_of_several_stays_until_each_is_superseded(void **state)
{
	static char name[] = "dns";
	const struct plan_with dns[] = { { .component = name } };
	struct index_candidate list[] = {
		{ .component = "web",
		  .with = dns,
		  .with_count = 1,
		  .seq = 1,
		  .state = ROLLOUT_DONE,
		  .covers_all = true },
		{ .component = "web", .seq = 2, .state = ROLLOUT_DONE, .covers_all = true },
		{ .component = "dns", .seq = 3, .state = ROLLOUT_RUNNING, .covers_all = true },
		{ .component = "dns", .seq = 1, .state = ROLLOUT_DONE, .covers_all = true },
	};

	(void) state;
	assert_true(index_lists(&list[0], list, ARRAY_LEN(list), 0));
	list[2].state = ROLLOUT_DONE;
	assert_false(index_lists(&list[0], list, ARRAY_LEN(list), 0));
	/* What came with another one supersedes too. */
	list[0].seq = 9;
	assert_false(index_lists(&list[3], list, ARRAY_LEN(list), 0));
	assert_false(index_lists(&list[1], list, ARRAY_LEN(list), 0));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_plan_is_read),
		cmocka_unit_test(defaults_are_the_careful_ones),
		cmocka_unit_test(what_is_written_is_read_again),
		cmocka_unit_test(broken_plans_name_file_line_and_expectation),
		cmocka_unit_test(shares_follow_the_documented_hash),
		cmocka_unit_test(stages_select_by_node_label_and_share),
		cmocka_unit_test(documents_are_what_nodes_read),
		cmocka_unit_test(a_plan_is_rebuilt_from_its_document),
		cmocka_unit_test(nothing_goes_on_by_itself_after_a_backup),
		cmocka_unit_test(a_choice_is_stable_and_follows_the_preference),
		cmocka_unit_test(profiles_fill_in_what_the_plan_leaves_out),
		cmocka_unit_test(batches_follow_the_night),
		cmocka_unit_test(every_batch_has_the_gates_of_its_stage),
		cmocka_unit_test(the_first_zone_may_be_named),
		cmocka_unit_test(the_index_lists_what_is_in_force),
		cmocka_unit_test(a_rollout_of_several_stays_until_each_is_superseded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
