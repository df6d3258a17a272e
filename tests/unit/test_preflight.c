/* preflight.h and difference.h: what passes, what fails and why, and that a large fleet's answer stays small. */
#include "server-stub/rollout/preflight.h"

#include "conf/conf.h"
#include "model_document.h"
#include "server-stub/repo/difference.h"

#include <errno.h>

#define ARTIFACT "'artifacts':[{'path':'web/1.1.0/w','length':700,'sha256':'" Z64 "','media':'m'}]"
#define TREE "'tree':{'digest':'" Z64 "','installed_size':10,'files':1}"
#define CHECK "'checks':[{'name':'a','exec':{'command':['/bin/true']}}]"
static const char plain[] =
	"{'format':1,'component':'web','version':'1.1.0'," ARTIFACT "," TREE ",'changes':'faster'," CHECK "}";

struct world {
	struct release release;
	struct policy policy;
	struct rules rules;
	struct plan plan;
	struct preflight_approver approvers[4];
	struct preflight_result results[4];
	struct preflight_subject subject;
	struct preflight preflight;
};

static void read_release(const char *text, struct release *ret)
{
	CLEANUP(json_freep)
	struct json *doc = json_replaced(text, "{", "{");
	char *error = NULL;

	if (release_parse(doc, ret, &error) < 0)
		fail_msg("%s", error);
}

/* A release, rules and a plan (NULL: none), as texts. */
static void begin(struct world *w, const char *release, const char *rules, const char *plan)
{
	struct conf_error e = { "" };

	memset(w, 0, sizeof(*w));
	read_release(release, &w->release);
	w->policy.owner = strdup("web people");
	if (rules_parse(rules, strlen(rules), "r", "web", &w->rules, &e) < 0)
		fail_msg("%s", e.text);
	if (plan && plan_parse(plan, strlen(plan), "p", &w->plan, &e) < 0)
		fail_msg("%s", e.text);
	w->subject = (struct preflight_subject){ .component = "web",
						 .version = w->release.version,
						 .release = &w->release,
						 .says_risk = strstr(release, "'risk'") != NULL,
						 .policy = &w->policy,
						 .rules = &w->rules,
						 .plan = plan ? &w->plan : NULL,
						 .kind = plan ? w->plan.kind : ROLLOUT_REGULAR,
						 .role = "team-web",
						 .role_expires = 2000000,
						 .approvers = w->approvers,
						 .results = w->results,
						 .plan_file = plan ? "p.yaml" : NULL,
						 .now = 1000000 };
}

static void judge(struct world *w)
{
	assert_int_equal(preflight_begin(&w->preflight, &w->subject), 0);
}

static void done(struct world *w)
{
	preflight_done(&w->preflight);
	release_done(&w->release);
	policy_done(&w->policy);
	rules_done(&w->rules);
	plan_done(&w->plan);
}

static bool found(const struct world *w, enum preflight_item item, enum preflight_outcome outcome,
		  const char *text)
{
	for (size_t i = 0; i < w->preflight.finding_count; i++) {
		const struct preflight_finding *f = &w->preflight.findings[i];

		if (f->item == item && f->outcome == outcome && strstr(f->text, text))
			return true;
	}
	return false;
}

static void expect(const struct world *w, enum preflight_item item, enum preflight_outcome outcome,
		   const char *text)
{
	if (!found(w, item, outcome, text)) {
		for (size_t i = 0; i < w->preflight.finding_count; i++)
			print_message("found: %s\n", w->preflight.findings[i].text);
		fail_msg("not found: '%s'", text);
	}
}

/* A node's report: its version of web, of dns, its agent and one label; NULL: none. */
static void node(struct world *w, const char *name, const char *web, const char *dns, const char *agent,
		 const char *arch)
{
	char *texts[] = { strdup("web"), web ? strdup(web) : NULL, strdup("dns"), dns ? strdup(dns) : NULL,
			  strdup(agent ? agent : "0.1.0") };
	struct report_component components[2] = { { .component = texts[0], .version = texts[1] },
						  { .component = texts[2], .version = texts[3] } };
	struct report report = { .agent = texts[4], .components = components, .component_count = 2 };

	if (arch)
		assert_int_equal(labels_set(&report.labels, "arch", arch), 0);
	assert_int_equal(preflight_node(&w->preflight, name, &report), 0);
	labels_done(&report.labels);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		free(texts[i]);
}

static void what_is_asked_for_nothing_passes(void **state)
{
	struct world w;
	uint64_t nodes;

	(void) state;
	begin(&w, plain, "", NULL);
	judge(&w);
	node(&w, "n1", "1.0.0", NULL, "0.1.0", NULL);
	preflight_end(&w.preflight);
	assert_int_equal(preflight_verdict(&w.preflight), PREFLIGHT_PASS);
	assert_int_equal(w.preflight.finding_count, 0);
	assert_string_equal(preflight_running(&w.preflight, &nodes), "1.0.0");
	assert_int_equal(nodes, 1);
	done(&w);
}

static void signatures_have_to_be_possible(void **state)
{
	struct world w;

	(void) state;
	begin(&w, plain, "", NULL);
	w.subject.role_expires = w.subject.now;
	w.policy.security_floor = strdup("2.0.0");
	w.approvers[0] = (struct preflight_approver){ "qa", 2 };
	w.approvers[1] = (struct preflight_approver){ "ghost", 0 };
	w.subject.approver_count = 2;
	judge(&w);
	expect(&w, PREFLIGHT_SIGNATURES, PREFLIGHT_FAIL, "role team-web signed has expired");
	expect(&w, PREFLIGHT_SIGNATURES, PREFLIGHT_FAIL, "forbids 1.1.0");
	expect(&w, PREFLIGHT_SIGNATURES, PREFLIGHT_FAIL, "approval of ghost, and nobody is named so");
	assert_false(found(&w, PREFLIGHT_SIGNATURES, PREFLIGHT_FAIL, "of qa"));
	done(&w);
}

static void every_field_can_be_asked_for(void **state)
{
	static const char all[] =
		"require: [changes, risk, known_issues, post_deploy_checks, expected_duration, checks, "
		"owner, on_call]\n";
	static const char bare[] = "{'format':1,'component':'web','version':'1.1.0'," ARTIFACT "," TREE
				   ",'changes':' ','checks':[{'name':'l','link':{}}]}";
	static const char full[] = "{'format':1,'component':'web','version':'1.1.0'," ARTIFACT "," TREE "," CHECK
				   ",'changes':'x','risk':'low','known_issues':'none','post_deploy_checks':'look',"
				   "'expected_duration':60}";
	struct world w;

	(void) state;
	begin(&w, bare, all, NULL);
	judge(&w);
	for (int f = 0; f < RULE_FIELD_COUNT; f++) {
		char text[100];

		if (f == RULE_FIELD_OWNER)
			continue;
		(void) snprintf(text, sizeof(text), "says no '%s'", rule_field_name((enum rule_field) f));
		expect(&w, PREFLIGHT_FIELDS, PREFLIGHT_FAIL, text);
	}
	assert_int_equal(w.preflight.finding_count, RULE_FIELD_COUNT - 1);
	done(&w);
	begin(&w, full, all, NULL);
	w.policy.on_call = strdup("555");
	judge(&w);
	assert_int_equal(w.preflight.finding_count, 0);
	done(&w);
	begin(&w, full, all, NULL);
	w.subject.policy = NULL;
	judge(&w);
	expect(&w, PREFLIGHT_FIELDS, PREFLIGHT_FAIL, "the policy says no 'owner' (r:1 asks for it)");
	done(&w);
}

static void a_release_may_not_take_too_long(void **state)
{
	static const char slow[] =
		"{'format':1,'component':'web','version':'1.1.0'," ARTIFACT "," TREE ",'expected_duration':1801}";
	struct world w;

	(void) state;
	begin(&w, slow, "expected_duration: 30m\n", NULL);
	judge(&w);
	expect(&w, PREFLIGHT_DURATION, PREFLIGHT_FAIL, "expects to take 1801 s; r:1 allows 1800");
	done(&w);
	begin(&w, plain, "expected_duration: 30m\n", NULL);
	judge(&w);
	expect(&w, PREFLIGHT_DURATION, PREFLIGHT_WARN, "does not say how long");
	done(&w);
}

#define RISKY                                                                                                     \
	"{'format':1,'component':'web','version':'1.1.0'," ARTIFACT "," TREE                                      \
	",'risk':'high','changes':'x'," CHECK "}"
static const char high[] = "\nrisk: {high: {stages: 3, soak: 1h, approvals: 3}}\n";

static void high_risk_asks_for_more(void **state)
{
	struct world w;

	(void) state;
	begin(&w, RISKY, high,
	      "component: web\nversion: 1.1.0\nstages:\n  - {name: a, count: 1, soak: 30m}\n  - {name: b, all: "
	      "true}\n");
	w.approvers[0] = (struct preflight_approver){ "qa", 2 };
	w.subject.approver_count = 1;
	judge(&w);
	expect(&w, PREFLIGHT_RISK, PREFLIGHT_FAIL,
	       "p.yaml:3: expected at least 3 stages for a release of risk high (r:2), found 2");
	expect(&w, PREFLIGHT_RISK, PREFLIGHT_FAIL,
	       "p.yaml:4: expected a soak of at least 3600 s in the stage 'a' for a release of risk high (r:2), "
	       "found 1800");
	expect(&w, PREFLIGHT_RISK, PREFLIGHT_FAIL,
	       "needs at least 3 approvals (r:2); the policy of web asks for 2");
	assert_int_equal(w.preflight.finding_count, 3); /* the last stage needs no soak */
	done(&w);
	begin(&w, RISKY, high,
	      "component: web\nversion: 1.1.0\nstages: [{name: a, count: 1, soak: 1h}, {name: b, count: 1, soak: "
	      "1h}, "
	      "{name: c, all: true}]\n");
	w.approvers[0] = (struct preflight_approver){ "qa", 2 };
	w.approvers[1] = (struct preflight_approver){ "team", 1 };
	w.subject.approver_count = 2;
	judge(&w);
	assert_int_equal(w.preflight.finding_count, 0);
	done(&w);
}

static void batches_by_zone_are_one_stage(void **state)
{
	static const char plan[] =
		"component: web\nversion: 1.1.0\nwindow: 01:00-05:00\n"
		"stages: [{name: a, count: 1, soak: 1h}, {name: b, by_zone: true, all: true}]\n";
	static const char *const zones[] = { "Asia/Tokyo", "Europe/Oslo", "America/New_York" };
	struct world w;

	(void) state;
	begin(&w, RISKY, "\nrisk: {high: {stages: 3, soak: 1h}}\n", plan);
	/* As plan_split_zones() leaves it. */
	w.plan.stages = realloc(w.plan.stages, 4 * sizeof(*w.plan.stages));
	assert_non_null(w.plan.stages);
	for (size_t i = 2; i < 4; i++) {
		w.plan.stages[i] = w.plan.stages[1];
		w.plan.stages[i].name = strdup(i == 2 ? "c" : "d");
	}
	w.plan.stage_count = 4;
	for (size_t i = 0; i < 3; i++)
		w.plan.stages[i + 1].zone = strdup(zones[i]);
	judge(&w);
	expect(&w, PREFLIGHT_RISK, PREFLIGHT_FAIL, "at least 3 stages for a release of risk high (r:2), found 2");
	assert_int_equal(w.preflight.finding_count, 1); /* between batches nobody has to soak */
	done(&w);
}

static void a_patch_is_quicker_and_a_downgrade_free(void **state)
{
	struct world w;

	(void) state;
	begin(&w, RISKY, high,
	      "component: web\nversion: 1.1.0\nkind: patch\nstages: [{name: a, count: 1, soak: 1s}, {name: b, "
	      "all: true}]\n");
	w.approvers[0] = (struct preflight_approver){ "qa", 3 };
	w.subject.approver_count = 1;
	judge(&w);
	expect(&w, PREFLIGHT_RISK, PREFLIGHT_FAIL, "at least 3 stages");
	assert_int_equal(w.preflight.finding_count, 1);
	done(&w);
	begin(&w, RISKY, high, "component: web\nversion: 1.1.0\nprofile: downgrade\n");
	judge(&w);
	assert_int_equal(w.preflight.finding_count, 0);
	done(&w);
	begin(&w, RISKY, high, NULL);
	w.approvers[0] = (struct preflight_approver){ "qa", 3 };
	w.subject.approver_count = 1;
	judge(&w);
	expect(&w, PREFLIGHT_RISK, PREFLIGHT_WARN, "judged with a plan only");
	done(&w);
}

static void results_are_there_good_and_fresh(void **state)
{
	static const char rules[] = "commands:\n"
				    "  - {name: tests, run: [/bin/true], valid: 100s}\n"
				    "  - {name: scan, run: [/bin/true], required: false}\n"
				    "  - {name: ticket, run: [/bin/true]}\n"
				    "  - {name: old, run: [/bin/true], valid: 100s}\n"
				    "  - {name: fine, run: [/bin/true], valid: 100s}\n";
	struct world w;

	(void) state;
	begin(&w, plain, rules, NULL);
	w.results[0] = (struct preflight_result){ "tests", false, 999999 };
	w.results[1] = (struct preflight_result){ "old", true, 999899 };
	w.results[2] = (struct preflight_result){ "fine", true, 999900 };
	w.results[3] = (struct preflight_result){ "unheard-of", false, 999999 };
	w.subject.result_count = 4;
	judge(&w);
	expect(&w, PREFLIGHT_RESULTS, PREFLIGHT_FAIL, "'tests' failed at");
	expect(&w, PREFLIGHT_RESULTS, PREFLIGHT_WARN, "'scan' (r:3) has no result for this release");
	expect(&w, PREFLIGHT_RESULTS, PREFLIGHT_FAIL, "'ticket' (r:4) has no result");
	expect(&w, PREFLIGHT_RESULTS, PREFLIGHT_FAIL, "longer ago than r:5 lets count");
	assert_int_equal(w.preflight.finding_count, 4);
	done(&w);
}

static void no_rollback_by_accident(void **state)
{
	struct world w;

	(void) state;
	begin(&w, plain, "", NULL);
	judge(&w);
	node(&w, "n1", "1.2.0", NULL, NULL, NULL);
	node(&w, "n2", "1.2.0", NULL, NULL, NULL);
	node(&w, "n3", "1.0.0", NULL, NULL, NULL);
	preflight_end(&w.preflight);
	expect(&w, PREFLIGHT_VERSION, PREFLIGHT_FAIL, "2 of 3 nodes run a higher version, most of them 1.2.0");
	done(&w);
	/* A canary ahead of the others is none. */
	begin(&w, plain, "", NULL);
	judge(&w);
	node(&w, "n1", "1.2.0", NULL, NULL, NULL);
	node(&w, "n2", "1.0.0", NULL, NULL, NULL);
	preflight_end(&w.preflight);
	expect(&w, PREFLIGHT_VERSION, PREFLIGHT_WARN, "1 of 2 nodes run a higher version and will not take it");
	done(&w);
	begin(&w, plain, "", NULL);
	judge(&w);
	node(&w, "n1", "1.1.0", NULL, NULL, NULL);
	preflight_end(&w.preflight);
	expect(&w, PREFLIGHT_VERSION, PREFLIGHT_WARN, "every node that has web runs 1.1.0 already");
	done(&w);
	/* Meant. */
	begin(&w, plain, "", NULL);
	w.subject.kind = ROLLOUT_DOWNGRADE;
	judge(&w);
	node(&w, "n1", "1.2.0", NULL, NULL, NULL);
	preflight_end(&w.preflight);
	assert_int_equal(preflight_verdict(&w.preflight), PREFLIGHT_PASS);
	done(&w);
}

#define NEEDY                                                                                                     \
	"{'format':1,'component':'web','version':'1.1.0'," ARTIFACT "," TREE ",'compatible':{'arch':'x86_64'},"   \
	"'requires':{'agent':'>=0.2.0','components':{'dns':'>=2.0.0'},'from':'1.0.0'}}"

static void what_nodes_lack_is_named_and_counted(void **state)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(100000);
	struct world w;

	(void) state;
	begin(&w, NEEDY, "", NULL);
	judge(&w);
	node(&w, "n1", "0.9.0", "2.1.0", "0.1.0", "x86_64");
	node(&w, "n2", NULL, NULL, "0.2.0", "armhf");
	node(&w, "n3", "1.0.0", "2.0.0", "0.3.0", "x86_64");
	node(&w, "n4", "1.1.0", NULL, "0.1.0", NULL); /* it does not take it */
	assert_int_equal(preflight_node(&w.preflight, "n5", NULL), 0);
	preflight_end(&w.preflight);
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_FAIL, "1 node does not have an agent >=0.2.0");
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_FAIL, "web 1.0.0 or newer to come from");
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_FAIL, "the label arch=x86_64");
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_FAIL, "dns >=2.0.0");
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_WARN, "1 of 5 nodes have never reported");
	assert_int_equal(w.preflight.missing_nodes, 2);
	assert_int_equal(w.preflight.miss_count, 2);
	assert_string_equal(w.preflight.misses[0].node, "n1");
	assert_int_equal(w.preflight.misses[0].count, 2);
	assert_string_equal(w.preflight.misses[1].node, "n2");
	preflight_write(&w.preflight, json_build_root(b));
	assert_int_equal(json_build_text(b, false, &text), 0);
	assert_non_null(strstr(buf_str(&text), "\"missing_something\":2"));
	assert_non_null(strstr(buf_str(&text), "\"verdict\":\"fail\""));
	done(&w);
}

#define MEANS                                                                                                     \
	"{'format':1,'component':'web','version':'1.1.0'," ARTIFACT "," TREE ",'checks':[{'name':'a','exec':{"    \
	"'command':['/bin/true','${vars.port}']}}],'requires':{'vars':['colour'],'files':['/s/key','/s/a/b',"     \
	"'/other'],'zone_data':'2025b','free_bytes':5000}}"

/* A report that says what the node has, or leaves it out. */
static void node_with(struct world *w, const char *name, const struct report_means *means)
{
	struct report report = { .agent = strdup("0.1.0"), .means = *means };

	assert_int_equal(preflight_node(&w->preflight, name, &report), 0);
	free(report.agent);
}

static void what_nodes_say_they_have_decides(void **state)
{
	struct report_means none = { 0 }, poor = { .told = true, .free_bytes = 4999 },
			    rich = { .told = true, .free_bytes = 5000 };
	struct world w;

	(void) state;
	poor.secrets_folder = rich.secrets_folder = strdup("/s");
	poor.zone_data = strdup("2025a");
	rich.zone_data = strdup("2025c");
	assert_int_equal(string_list_add(&rich.vars, "port"), 0);
	assert_int_equal(string_list_add(&rich.vars, "colour"), 0);
	assert_int_equal(string_list_add(&rich.secrets, "key"), 0);
	begin(&w, MEANS, "", NULL);
	judge(&w);
	node_with(&w, "n1", &rich);
	preflight_end(&w.preflight);
	/* What lies elsewhere nobody has said. */
	assert_int_equal(preflight_verdict(&w.preflight), PREFLIGHT_WARN);
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_WARN, "nobody knows whether 1 node has the file /other");
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_WARN, "the file /s/a/b");
	assert_int_equal(w.preflight.finding_count, 2);
	done(&w);
	begin(&w, MEANS, "", NULL);
	judge(&w);
	node_with(&w, "n2", &poor);
	node_with(&w, "n3", &none);
	preflight_end(&w.preflight);
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_FAIL, "1 node does not have the variable 'port'");
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_FAIL, "1 node does not have the variable 'colour'");
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_FAIL, "1 node does not have the file /s/key");
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_FAIL, "time zone tables of 2025b");
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_FAIL, "5000 bytes of free space");
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_WARN, "nobody knows whether 1 node has the variable 'port'");
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_WARN, "nobody knows whether 1 node has 5000 bytes");
	assert_int_equal(w.preflight.missing_nodes, 1);
	done(&w);
	free(poor.secrets_folder);
	free(poor.zone_data);
	free(rich.zone_data);
	string_list_done(&rich.vars);
	string_list_done(&rich.secrets);
}

static void what_the_plan_brings_along_counts(void **state)
{
	struct world w;

	(void) state;
	begin(&w, NEEDY, "",
	      "component: web\nversion: 1.1.0\nwith: {dns: 2.0.0}\nstages: [{name: all, all: true}]\n");
	judge(&w);
	node(&w, "n1", "1.0.0", "1.0.0", "0.2.0", "x86_64");
	preflight_end(&w.preflight);
	assert_int_equal(preflight_verdict(&w.preflight), PREFLIGHT_PASS);
	done(&w);
}

static void a_large_fleet_gives_a_small_answer(void **state)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(1000000);
	struct world w;

	(void) state;
	begin(&w, NEEDY, "", NULL);
	judge(&w);
	for (int i = 0; i < 10000; i++) {
		char name[20], version[20];

		(void) snprintf(name, sizeof(name), "n%d", i);
		(void) snprintf(version, sizeof(version), "0.%d.0", i);
		node(&w, name, version, "1.0.0", "0.1.0", "mips");
	}
	preflight_end(&w.preflight);
	expect(&w, PREFLIGHT_REQUIREMENTS, PREFLIGHT_FAIL, "10000 nodes do not have the label arch=x86_64");
	assert_int_equal(w.preflight.miss_count, PREFLIGHT_NODES_MAX);
	preflight_write(&w.preflight, json_build_root(b));
	assert_int_equal(json_build_text(b, false, &text), 0);
	assert_true(text.len < 32 * 1024);
	assert_non_null(strstr(buf_str(&text), "\"more\":9950"));
	done(&w);
}

static void many_different_wants_are_bounded_and_still_fail(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(100000);
	struct world w;

	(void) state;
	assert_int_equal(buf_add_str(&text, "{'format':1,'component':'web','version':'1.1.0'," ARTIFACT "," TREE
					    ",'compatible':{"),
			 0);
	for (int i = 0; i < 200; i++)
		assert_int_equal(buf_addf(&text, "%s'l%d':'x'", i ? "," : "", i), 0);
	assert_int_equal(buf_add_str(&text, "}}"), 0);
	begin(&w, buf_str(&text), "", NULL);
	judge(&w);
	node(&w, "n1", NULL, NULL, NULL, NULL);
	preflight_end(&w.preflight);
	assert_int_equal(w.preflight.outcomes[PREFLIGHT_REQUIREMENTS], PREFLIGHT_FAIL);
	assert_int_equal(w.preflight.what_count, PREFLIGHT_WHATS_MAX);
	assert_int_equal(w.preflight.finding_count, PREFLIGHT_FINDINGS_MAX);
	assert_int_equal(w.preflight.findings_dropped, 1);
	assert_int_equal(w.preflight.misses[0].count, PREFLIGHT_NODE_MISSES_MAX);
	assert_int_equal(w.preflight.misses[0].more, 200 - PREFLIGHT_NODE_MISSES_MAX);
	done(&w);
}

static void a_text_is_cut_between_characters(void **state)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(100000);
	char word[1024];
	struct world w;

	(void) state;
	for (size_t shift = 0; shift < 3; shift++) {
		memset(word, 'a', shift);
		for (size_t i = shift; i + 3 < sizeof(word); i += 3)
			memcpy(word + i, "\xe2\x82\xac", 4);
		begin(&w, plain, "", NULL);
		judge(&w);
		preflight_find(&w.preflight, PREFLIGHT_RISK, PREFLIGHT_FAIL, "%s", word);
		preflight_write(&w.preflight, json_build_root(b));
		assert_int_equal(json_build_text(b, false, &out), 0);
		buf_clear(&out);
		done(&w);
	}
}

static void names_are_not_those_of_a_plans_overrides(void **state)
{
	(void) state;
	for (int i = 0; i < PREFLIGHT_ITEM_COUNT; i++) {
		const char *name = preflight_item_name((enum preflight_item) i);
		char text[200];
		struct conf_error e;
		struct plan p;

		assert_int_equal(preflight_item_parse(name), i);
		(void) snprintf(text, sizeof(text),
				"component: web\nversion: 1.0.0\nkind: patch\noverrides: [%s]\nstages: [{name: a, "
				"all: true}]\n",
				name);
		assert_int_equal(plan_parse(text, strlen(text), "p", &p, &e), -ERR_CONFIG);
	}
	assert_int_equal(preflight_item_parse("window"), -1);
	assert_int_equal(preflight_item_parse(NULL), -1);
}

/* --- difference.h --- */

static void add_file(struct tree *t, const char *path, uint64_t size, uint8_t digest)
{
	struct tree_entry e = { .type = 'f', .mode = 0644, .size = size, .path = strdup(path) };

	memset(e.sha256, digest, sizeof(e.sha256));
	assert_int_equal(tree_add(t, &e), 0);
	free(e.path);
}

static void a_difference_counts_files_bytes_and_checks(void **state)
{
	static const char old[] =
		"{'format':1,'component':'web','version':'1.0.0',"
		"'artifacts':[{'path':'web/1.0.0/w','length':7,'sha256':'" Z64 "','media':'m'}]," TREE
		",'checks':[{'name':'a','exec':{'command':['/bin/false']}},"
		"{'name':'gone','link':{}},{'name':'same','link':{}}]}";
	static const char new[] =
		"{'format':1,'component':'web','version':'1.1.0',"
		"'artifacts':[{'path':'web/1.1.0/w','length':700,'sha256':'" Z64 "','media':'m'},"
		"{'path':'web/1.1.0/d','length':9,'sha256':'" Z64
		"','media':'m','form':'delta','from':'1.0.0'}]," TREE
		",'checks':[{'name':'a','exec':{'command':['/bin/true']}},"
		"{'name':'same','link':{}},{'name':'new','link':{}}]}";
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(100000);
	struct release before = { 0 }, after = { 0 };
	struct tree x = { 0 }, y = { 0 };

	(void) state;
	read_release(old, &before);
	read_release(new, &after);
	add_file(&x, "a", 1, 1);
	add_file(&x, "b", 2, 2);
	add_file(&x, "c", 3, 3);
	add_file(&y, "b", 2, 9);
	add_file(&y, "c", 3, 3);
	add_file(&y, "d", 40, 4);
	assert_int_equal(difference_write(&(struct difference_side){ &before, &x },
					  &(struct difference_side){ &after, &y }, json_build_root(b)),
			 0);
	assert_int_equal(json_build_text(b, false, &text), 0);
	for (size_t i = 0; i < 2; i++) {
		static const char *const parts[] = {
			"\"added\":1,\"removed\":1,\"changed\":1,\"same\":1,\"not_shown\":0",
			"\"written\":42",
		};

		assert_non_null(strstr(buf_str(&text), parts[i]));
	}
	assert_non_null(strstr(buf_str(&text), "\"download\":{\"full\":700,\"delta\":9}"));
	assert_non_null(strstr(buf_str(&text),
			       "\"checks\":{\"added\":[\"new\"],\"removed\":[\"gone\"],\"changed\":[\"a\"]}"));
	assert_non_null(strstr(buf_str(&text), "{\"path\":\"a\",\"change\":\"removed\",\"before\":1}"));
	tree_done(&x);
	tree_done(&y);
	release_done(&before);
	release_done(&after);
}

static void a_long_difference_is_cut(void **state)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(100000);
	struct release r = { 0 };
	struct tree none = { 0 }, many = { 0 };

	(void) state;
	read_release(plain, &r);
	for (int i = 0; i < 5000; i++) {
		char name[20];

		(void) snprintf(name, sizeof(name), "f%04d", i);
		add_file(&many, name, 1, 1);
	}
	assert_int_equal(difference_write(&(struct difference_side){ &r, &none },
					  &(struct difference_side){ &r, &many }, json_build_root(b)),
			 0);
	assert_int_equal(json_build_text(b, false, &text), 0);
	assert_true(text.len < 16 * 1024);
	assert_non_null(strstr(buf_str(&text), "\"added\":5000"));
	assert_non_null(strstr(buf_str(&text), "\"not_shown\":4900"));
	tree_done(&many);
	release_done(&r);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_asked_for_nothing_passes),
		cmocka_unit_test(signatures_have_to_be_possible),
		cmocka_unit_test(every_field_can_be_asked_for),
		cmocka_unit_test(a_release_may_not_take_too_long),
		cmocka_unit_test(high_risk_asks_for_more),
		cmocka_unit_test(batches_by_zone_are_one_stage),
		cmocka_unit_test(a_patch_is_quicker_and_a_downgrade_free),
		cmocka_unit_test(results_are_there_good_and_fresh),
		cmocka_unit_test(no_rollback_by_accident),
		cmocka_unit_test(what_nodes_lack_is_named_and_counted),
		cmocka_unit_test(what_nodes_say_they_have_decides),
		cmocka_unit_test(what_the_plan_brings_along_counts),
		cmocka_unit_test(a_large_fleet_gives_a_small_answer),
		cmocka_unit_test(many_different_wants_are_bounded_and_still_fail),
		cmocka_unit_test(a_text_is_cut_between_characters),
		cmocka_unit_test(names_are_not_those_of_a_plans_overrides),
		cmocka_unit_test(a_difference_counts_files_bytes_and_checks),
		cmocka_unit_test(a_long_difference_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
