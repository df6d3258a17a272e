#include "server-stub/rollout/plan.h"

#include "base/err.h"
#include "base/version.h"
#include "conf/conf.h"
#include "crypto/digest.h"
#include "json/build.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SOAK_MAX_S = 90 * 86400, FAILURES_MAX = 1000000, SILENT_MIN_S = 1 };
enum { MAX_NODE_FAILURES_DEFAULT = 10, SILENT_AFTER_DEFAULT_S = 30 * 60, MIN_AGE_DEFAULT_S = 24 * 3600 };

static const char *const on_failure_names[] = { [PLAN_HALT] = "halt", [PLAN_PAUSE] = "pause" };
static const char *const undo_names[] = { [PLAN_UNDO_ASK] = "ask", [PLAN_UNDO_FAILED_STAGE] = "failed-stage" };

static void stage_done(struct plan_stage *s)
{
	free(s->name);
	string_list_done(&s->nodes);
	labels_done(&s->labels);
	labels_done(&s->prefer);
	free(s->zone);
	free(s->first_zone);
}

void plan_done(struct plan *p)
{
	if (!p)
		return;
	free(p->component);
	free(p->version);
	for (size_t i = 0; i < p->with_count; i++) {
		free(p->with[i].component);
		free(p->with[i].version);
	}
	free(p->with);
	for (size_t i = 0; i < p->stage_count; i++)
		stage_done(&p->stages[i]);
	free(p->stages);
	for (size_t i = 0; i < p->gate_count; i++)
		gate_done(&p->gates[i]);
	free(p->gates);
	limits_done(&p->limits);
	*p = (struct plan){ 0 };
}

static int copy_text(const char *text, char **ret)
{
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int read_nodes(const struct conf *list, struct plan_stage *s, struct conf_error *e)
{
	if (conf_kind(list) != CONF_LIST || conf_count(list) == 0)
		return conf_fail(list, e, "expected a list of node ids, e.g. nodes: [n1, n2]");
	if (conf_count(list) > PLAN_NODES_MAX)
		return conf_fail(list, e, "expected at most %d nodes; select the others by labels or share",
				 PLAN_NODES_MAX);
	for (size_t i = 0; i < conf_count(list); i++) {
		const struct conf *item = conf_at(list, i);
		const char *node = conf_text(item);
		int r;

		if (!guard_id(node))
			return conf_fail(item, e, "expected a node id ([a-z0-9-], at most 63), found '%s'",
					 node ? node : "");
		if (string_list_has(&s->nodes, node))
			return conf_fail(item, e, "the node '%s' stands twice in this stage", node);
		r = string_list_add(&s->nodes, node);
		if (r < 0)
			return r;
	}
	s->by_nodes = true;
	return 0;
}

static int read_labels(const struct conf *map, struct labels *ret, struct conf_error *e)
{
	if (conf_kind(map) != CONF_MAP || conf_count(map) == 0)
		return conf_fail(map, e, "expected labels as name: value, e.g. {site: oslo}");
	for (size_t i = 0; i < conf_count(map); i++) {
		const struct conf *item = conf_at(map, i);
		const char *value = conf_text(item);
		int r;

		(void) conf_get(map, conf_key_at(map, i)); /* any name is known here */
		if (!value)
			return conf_fail(item, e, "expected a text as value of the label '%s'",
					 conf_key_at(map, i));
		r = labels_set(ret, conf_key_at(map, i), value);
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			return conf_fail(
				item, e,
				"expected a label name ([a-z0-9-./]) and a printable value, found '%s: %s'",
				conf_key_at(map, i), value);
	}
	return 0;
}

/* "25%", "12.5%", "33.33%" as parts of ten thousand. */
static bool parse_share(const char *text, uint64_t *ret)
{
	uint64_t whole = 0, part = 0, digits = 0;
	const char *p = text;

	if (!p || *p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9' && whole <= 100; p++)
		whole = whole * 10 + (uint64_t) (*p - '0');
	if (*p == '.')
		for (p++; *p >= '0' && *p <= '9' && digits < 2; p++, digits++)
			part = part * 10 + (uint64_t) (*p - '0');
	if (digits == 1)
		part *= 10;
	if (strcmp(p, "%") != 0 || whole > 100 || (whole == 100 && part > 0) || whole + part == 0)
		return false;
	*ret = whole * 100 + part;
	return true;
}

/* by_zone, first_zone, and zone, which is what the first two become. */
static int read_zones(const struct conf *map, struct plan_stage *s, struct conf_error *e)
{
	const struct conf *first = conf_get(map, "first_zone"), *zone = conf_get(map, "zone");
	int r = conf_optional_bool(map, "by_zone", false, &s->by_zone, e);

	if (r < 0)
		return r;
	if (first && !s->by_zone)
		return conf_fail(first, e, "expected by_zone: true beside first_zone");
	if (zone && s->by_zone)
		return conf_fail(zone, e, "expected a zone, or by_zone for a stage of each, not both");
	if (s->by_zone && (s->by_nodes || s->by_choice))
		return conf_fail(conf_get(map, "by_zone"), e,
				 "expected labels, a share without preference, or all: true beside by_zone");
	for (int i = 0; i < 2; i++) {
		const struct conf *item = i ? zone : first;
		const char *name = conf_text(item);

		if (item && (!name || !*name || strlen(name) > LABEL_VALUE_MAX))
			return conf_fail(item, e, "expected a time zone like Europe/Oslo");
	}
	if (first)
		r = copy_text(conf_text(first), &s->first_zone);
	if (r == 0 && zone)
		r = copy_text(conf_text(zone), &s->zone);
	return r;
}

/* Names that explain and answer use of what every plan has. */
static const char *const built_in_names[] = { "nodes", "failures", "node-failures", "silent", "soak" };

/* A list of gates: of every stage, or of one. */
static int add_gates(const struct conf *list, size_t stage, struct plan *p, struct conf_error *e)
{
	void *gates;

	if (!list)
		return 0;
	if (conf_kind(list) != CONF_LIST)
		return conf_fail(list, e,
				 "expected a list of gates, e.g. [{http: {url: https://www.example.org/}}]");
	if (p->gate_count + conf_count(list) > GATES_MAX)
		return conf_fail(list, e, "expected at most %d gates in all", GATES_MAX);
	gates = realloc(p->gates, (p->gate_count + conf_count(list) + 1) * sizeof(*p->gates));
	if (!gates)
		return -ENOMEM;
	p->gates = gates;
	for (size_t i = 0; i < conf_count(list); i++) {
		struct gate *g = &p->gates[p->gate_count++];
		int r = gate_read(conf_at(list, i), stage, g, e);

		if (r < 0)
			return r;
		for (size_t k = 0; k < ARRAY_LEN(built_in_names); k++)
			if (strcmp(g->name, built_in_names[k]) == 0)
				return conf_fail(conf_at(list, i), e,
						 "expected another name than '%s', which every "
						 "stage has",
						 g->name);
		for (size_t k = 0; k + 1 < p->gate_count; k++)
			if (strcmp(p->gates[k].name, g->name) == 0 &&
			    (p->gates[k].stage == stage || p->gates[k].stage == GATE_EVERY_STAGE ||
			     stage == GATE_EVERY_STAGE))
				return conf_fail(
					conf_at(list, i), e,
					"the gate's name '%s' is used twice; give one of them another name",
					g->name);
	}
	return 0;
}

static int read_stage(const struct conf *map, struct plan *p, size_t index, struct conf_error *e)
{
	struct plan_stage *s = &p->stages[index];
	const struct conf *nodes, *labels, *share, *count, *prefer;
	const char *name;
	bool all;
	int r;

	if (conf_kind(map) != CONF_MAP)
		return conf_fail(map, e, "expected a stage, e.g. - {name: canary, nodes: [n1], soak: 1h}");
	s->line = conf_line(map);
	r = conf_need_text(map, "name", &name, e);
	if (r < 0)
		return r;
	if (!guard_id(name))
		return conf_fail(conf_get(map, "name"), e,
				 "expected a stage name ([a-z0-9-], at most 63), found '%s'", name);
	r = copy_text(name, &s->name);
	if (r < 0)
		return r;
	r = conf_optional_bool(map, "all", false, &all, e);
	if (r < 0)
		return r;
	nodes = conf_get(map, "nodes");
	labels = conf_get(map, "labels");
	share = conf_get(map, "share");
	count = conf_get(map, "count");
	prefer = conf_get(map, "prefer");
	if ((nodes != NULL) + (labels || share || count) + all != 1)
		return conf_fail(
			map, e,
			"expected one of nodes, labels with share or count, or all: true in the stage '%s'", name);
	if (count && share)
		return conf_fail(count, e, "expected a count or a share in the stage '%s', not both", name);
	if (prefer && !count && !share)
		return conf_fail(prefer, e,
				 "expected a count or a share beside prefer: which of them all comes first?");
	s->share = SHARE_ALL;
	r = nodes ? read_nodes(nodes, s, e) : labels ? read_labels(labels, &s->labels, e) : 0;
	if (r == 0 && prefer)
		r = read_labels(prefer, &s->prefer, e);
	if (r == 0 && count)
		r = conf_optional_u64(map, "count", 1, ROLLOUT_NODES_MAX, 1, &s->count, e);
	s->by_choice = count || prefer;
	if (r < 0)
		return r;
	if (share && !parse_share(conf_text(share), &s->share))
		return conf_fail(share, e, "expected a share like 25%% or 12.5%%, found '%s'",
				 conf_text(share) ? conf_text(share) : "");
	r = read_zones(map, s, e);
	if (r == 0)
		r = conf_optional_seconds(map, "soak", 0, &s->soak_s, e);
	if (r < 0)
		return r;
	if (s->soak_s > SOAK_MAX_S)
		return conf_fail(conf_get(map, "soak"), e, "expected a soak of at most 90d");
	r = add_gates(conf_get(map, "gates"), index, p, e);
	return r < 0 ? r : conf_reject_unknown(map, e);
}

static bool same_labels(const struct labels *a, const struct labels *b)
{
	return a->count == b->count && labels_match(a, b);
}

/* Shares are cumulative: with the same labels, a later one has to be larger to select anybody. */
static int check_shares(const struct plan *p, const struct conf *list, struct conf_error *e)
{
	for (size_t i = 0; i < p->stage_count; i++)
		for (size_t k = 0; k < i; k++) {
			const struct plan_stage *now = &p->stages[i], *before = &p->stages[k];

			if (!now->by_nodes && !before->by_nodes && !now->by_choice && !before->by_choice &&
			    same_labels(&now->labels, &before->labels) && now->share <= before->share)
				return conf_fail(
					conf_at(list, i), e,
					"expected more than the stage '%s' selects already: shares are cumulative",
					before->name);
		}
	return 0;
}

static int read_stages(const struct conf *map, struct plan *p, struct conf_error *e)
{
	const struct conf *list = conf_get(map, "stages");
	size_t count = conf_count(list);

	if (conf_kind(list) != CONF_LIST || count == 0)
		return conf_fail(list ? list : map, e,
				 "expected a list of stages, e.g. stages: [{name: all, all: true}]");
	if (count > PLAN_STAGES_MAX)
		return conf_fail(list, e, "expected at most %d stages, found %zu", PLAN_STAGES_MAX, count);
	p->stages_line = conf_line(list);
	p->stages = calloc(count, sizeof(*p->stages));
	if (!p->stages)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		int r;

		p->stage_count = i + 1;
		r = read_stage(conf_at(list, i), p, i, e);
		if (r < 0)
			return r;
		for (size_t k = 0; k < i; k++)
			if (strcmp(p->stages[k].name, p->stages[i].name) == 0)
				return conf_fail(conf_at(list, i), e, "the stage name '%s' is used twice",
						 p->stages[i].name);
	}
	return check_shares(p, list, e);
}

/* --- profiles --- */

#define REGULAR_GATES                                                                                             \
	"require:\n"                                                                                              \
	"  - {health: {max_failing: 0, max_restarting: 0}, deadline: 24h}\n"                                      \
	"  - {approvals: true}\n"
#define PATCH_GATES                                                                                               \
	"require:\n"                                                                                              \
	"  - {health: {max_failing: 0, max_restarting: 0}, on_inconclusive: ask, deadline: 1h}\n"                 \
	"  - {approvals: true}\n"

/* Numbers of DESIGN.md section 10; whatever the plan says itself stands instead. */
static const struct profile {
	const char *name, *window; /* NULL: any time */
	enum rollout_kind kind;
	uint64_t min_age_s;
	uint64_t max_silent_share, silent_deadline_s;
	const char *gates; /* NULL: none but what every plan has */
	const char *stages;
} profiles[] = {
	{ "weekly", NULL, ROLLOUT_REGULAR, MIN_AGE_DEFAULT_S, 500, 24 * 3600, REGULAR_GATES,
	  "stages:\n"
	  "  - {name: first, count: 2, prefer: {traffic: low}, soak: 12h}\n"
	  "  - {name: few, count: 8, prefer: {traffic: low}, soak: 24h}\n"
	  "  - {name: third, share: 33.33%, soak: 24h}\n"
	  "  - {name: two-thirds, share: 66.67%, soak: 24h}\n"
	  "  - {name: all, all: true}\n" },
	{ "train", "01:00-05:00", ROLLOUT_REGULAR, MIN_AGE_DEFAULT_S, 500, 24 * 3600, REGULAR_GATES,
	  "stages:\n"
	  "  - {name: dev, labels: {env: dev}, soak: 1h}\n"
	  "  - {name: staging, labels: {env: staging}, soak: 12h}\n"
	  "  - {name: canary, labels: {env: production}, count: 2, prefer: {traffic: low}, soak: 24h}\n"
	  "  - {name: all, all: true}\n" },
	/* Hours, not days: what is silent is left behind, and a person hears of it soon. */
	{ "patch", NULL, ROLLOUT_PATCH, MIN_AGE_DEFAULT_S, 2000, 3600, PATCH_GATES,
	  "stages:\n"
	  "  - {name: first, count: 2, prefer: {traffic: low}, soak: 30m}\n"
	  "  - {name: few, count: 8, prefer: {traffic: low}, soak: 1h}\n"
	  "  - {name: third, share: 33.33%, soak: 1h}\n"
	  "  - {name: two-thirds, share: 66.67%, soak: 1h}\n"
	  "  - {name: all, all: true}\n" },
	/* Back in minutes: nothing is waited for but the nodes. */
	{ "downgrade", NULL, ROLLOUT_DOWNGRADE, 0, 2000, 0, NULL, "stages: [{name: all, all: true}]\n" },
};

static int read_profile(const struct conf *root, const struct profile **ret, struct conf_error *e)
{
	const struct conf *item = conf_get(root, "profile");

	*ret = NULL;
	if (!item)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(profiles); i++)
		if (str_eq(conf_text(item), profiles[i].name))
			*ret = &profiles[i];
	return *ret ? 0
		    : conf_fail(item, e, "expected weekly, train, patch or downgrade, found '%s'",
				conf_text(item) ? conf_text(item) : "");
}

/* `require: []` in the plan leaves out those of the profile. */
static int read_own_or_profiled_gates(const struct conf *map, const struct profile *profile, struct plan *p,
				      struct conf_error *e)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	const struct conf *own = conf_get(map, "require");
	int r;

	if (own || !profile || !profile->gates)
		return add_gates(own, GATE_EVERY_STAGE, p, e);
	r = conf_parse(profile->gates, strlen(profile->gates), profile->name, &f, e);
	return r < 0 ? r : add_gates(conf_get(conf_root(f), "require"), GATE_EVERY_STAGE, p, e);
}

static int read_own_or_profiled_stages(const struct conf *root, const struct profile *profile, struct plan *p,
				       struct conf_error *e)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	int r;

	if (!profile || conf_get(root, "stages"))
		return read_stages(root, p, e);
	r = conf_parse(profile->stages, strlen(profile->stages), profile->name, &f, e);
	if (r == 0)
		r = read_stages(conf_root(f), p, e);
	/* Whoever complains of them means the line that asked for the profile. */
	p->stages_line = conf_line(conf_get(root, "profile"));
	for (size_t i = 0; i < p->stage_count; i++)
		p->stages[i].line = p->stages_line;
	return r;
}

static int read_on(const struct conf *map, const char *name, enum plan_on_failure otherwise,
		   enum plan_on_failure *ret, struct conf_error *e)
{
	const char *text;
	int r = conf_optional_text(map, name, on_failure_names[otherwise], &text, e);

	if (r < 0)
		return r;
	if (strcmp(text, "halt") != 0 && strcmp(text, "pause") != 0)
		return conf_fail(conf_get(map, name), e, "expected halt or pause, found '%s'", text);
	*ret = strcmp(text, "halt") == 0 ? PLAN_HALT : PLAN_PAUSE;
	return 0;
}

static int read_limit_share(const struct conf *map, const char *name, uint64_t otherwise, uint64_t *ret,
			    struct conf_error *e)
{
	const struct conf *item = conf_get(map, name);

	*ret = otherwise;
	if (item && !parse_share(conf_text(item), ret))
		return conf_fail(item, e, "expected a share like 5%% or 0.5%%, found '%s'",
				 conf_text(item) ? conf_text(item) : "");
	return 0;
}

/* A number of nodes, and a share; the share alone replaces the number. */
static int read_limit(const struct conf *map, const char *count_name, const char *share_name, uint64_t otherwise,
		      uint64_t *ret_count, uint64_t *ret_share, struct conf_error *e)
{
	int r = read_limit_share(map, share_name, 0, ret_share, e);

	if (r < 0)
		return r;
	return conf_optional_u64(map, count_name, 0, FAILURES_MAX, *ret_share == 0 ? otherwise : FAILURES_MAX,
				 ret_count, e);
}

static int read_span(const struct conf *map, const char *name, uint64_t least, uint64_t otherwise, uint64_t *ret,
		     struct conf_error *e)
{
	int r = conf_optional_seconds(map, name, otherwise, ret, e);

	if (r == 0 && (*ret < least || *ret > SOAK_MAX_S))
		return conf_fail(conf_get(map, name), e, "expected a time from %" PRIu64 "s to 90d", least);
	return r;
}

static int read_gates(const struct conf *map, const struct profile *profile, struct plan *p, struct conf_error *e)
{
	const char *undo;
	int r;

	if (map && conf_kind(map) != CONF_MAP)
		return conf_fail(map, e, "expected gates, e.g. gates: {max_failures: 0, silent_after: 30m}");
	r = read_limit(map, "max_failures", "max_failure_share", 0, &p->max_failures, &p->max_failure_share, e);
	if (r == 0)
		r = read_limit(map, "max_node_failures", "max_node_failure_share", MAX_NODE_FAILURES_DEFAULT,
			       &p->max_node_failures, &p->max_node_failure_share, e);
	if (r == 0)
		r = read_span(map, "silent_after", SILENT_MIN_S, SILENT_AFTER_DEFAULT_S, &p->silent_after_s, e);
	if (r == 0)
		r = conf_optional_u64(map, "max_silent", 0, FAILURES_MAX, 0, &p->max_silent, e);
	if (r == 0)
		r = read_limit_share(map, "max_silent_share", profile ? profile->max_silent_share : 0,
				     &p->max_silent_share, e);
	if (r == 0)
		r = read_span(map, "silent_deadline", 0, profile ? profile->silent_deadline_s : 0,
			      &p->silent_deadline_s, e);
	if (r == 0)
		r = read_on(map, "on_failure", PLAN_HALT, &p->on_failure, e);
	if (r == 0)
		r = read_on(map, "on_node_failure", PLAN_PAUSE, &p->on_node_failure, e);
	if (r == 0)
		r = read_own_or_profiled_gates(map, profile, p, e);
	if (r == 0)
		r = conf_optional_text(map, "undo", "ask", &undo, e);
	if (r < 0)
		return r;
	if (strcmp(undo, "ask") != 0 && strcmp(undo, "failed-stage") != 0)
		return conf_fail(conf_get(map, "undo"), e, "expected ask or failed-stage, found '%s'", undo);
	p->undo = strcmp(undo, "ask") == 0 ? PLAN_UNDO_ASK : PLAN_UNDO_FAILED_STAGE;
	if (p->undo != PLAN_UNDO_ASK && p->on_failure == PLAN_PAUSE)
		return conf_fail(conf_get(map, "undo"), e, "expected on_failure: halt beside undo: failed-stage");
	return map ? conf_reject_unknown(map, e) : 0;
}

static int compare_with(const void *a, const void *b)
{
	const struct plan_with *x = a, *y = b;

	return strcmp(x->component, y->component);
}

/* with: {COMPONENT: VERSION}. */
static int read_with(const struct conf *map, struct plan *p, struct conf_error *e)
{
	if (!map || conf_kind(map) == CONF_MISSING)
		return 0;
	if (conf_kind(map) != CONF_MAP || conf_count(map) == 0)
		return conf_fail(map, e, "expected components and their versions, e.g. with: {waf: 2.0.0}");
	if (conf_count(map) > PLAN_WITH_MAX)
		return conf_fail(map, e, "expected at most %d further components", PLAN_WITH_MAX);
	p->with = calloc(conf_count(map), sizeof(*p->with));
	if (!p->with)
		return -ENOMEM;
	for (size_t i = 0; i < conf_count(map); i++) {
		const char *component = conf_key_at(map, i);
		const struct conf *item = conf_get(map, component);
		const char *version = conf_text(item);
		struct plan_with *w = &p->with[p->with_count];

		if (!guard_id(component))
			return conf_fail(item, e, "expected a component's name ([a-z0-9-]), found '%s'",
					 component);
		if (str_eq(component, p->component))
			return conf_fail(item, e, "expected another component than %s itself", component);
		/* It judges the others: nodes refuse to exchange it together with them. */
		if (str_eq(component, "agent") || str_eq(p->component, "agent"))
			return conf_fail(item, e, "expected no agent: it is updated alone");
		if (!version || !version_is_valid(version))
			return conf_fail(item, e, "expected a version like 1.2.3, found '%s'",
					 version ? version : "");
		p->with_count++;
		if (copy_text(component, &w->component) < 0 || copy_text(version, &w->version) < 0)
			return -ENOMEM;
	}
	qsort(p->with, p->with_count, sizeof(*p->with), compare_with);
	return 0;
}

static int read_plan(const struct conf *root, struct plan *p, struct conf_error *e)
{
	const struct profile *profile = NULL;
	const char *component, *version, *kind;
	int r, k;

	if (conf_kind(root) != CONF_MAP)
		return conf_fail(root, e, "expected a plan with component, version and stages");
	r = conf_need_text(root, "component", &component, e);
	if (r < 0)
		return r;
	if (!guard_id(component))
		return conf_fail(conf_get(root, "component"), e,
				 "expected a component's name ([a-z0-9-]), found '%s'", component);
	r = conf_need_text(root, "version", &version, e);
	if (r < 0)
		return r;
	if (!version_is_valid(version))
		return conf_fail(conf_get(root, "version"), e, "expected a version like 1.2.3, found '%s'",
				 version);
	r = read_profile(root, &profile, e);
	if (r < 0)
		return r;
	r = conf_optional_text(root, "kind", profile ? rollout_kind_name(profile->kind) : "regular", &kind, e);
	if (r < 0)
		return r;
	k = rollout_kind_parse(kind);
	if (k < 0)
		return conf_fail(conf_get(root, "kind"), e, "expected regular, patch or downgrade, found '%s'",
				 kind);
	p->kind = (enum rollout_kind) k;
	r = copy_text(component, &p->component);
	if (r < 0)
		return r;
	r = copy_text(version, &p->version);
	if (r < 0)
		return r;
	r = read_with(conf_get(root, "with"), p, e);
	if (r < 0)
		return r;
	r = read_own_or_profiled_stages(root, profile, p, e);
	if (r < 0)
		return r;
	r = read_gates(conf_get(root, "gates"), profile, p, e);
	if (r < 0)
		return r;
	/* Who has the release is told apart by the version that it brings. */
	for (size_t i = 0; i < p->gate_count; i++)
		if (p->gates[i].kind == GATE_METRIC && p->gates[i].u.metric.component &&
		    !plan_concerns(p, p->gates[i].u.metric.component))
			return conf_fail(
				conf_get(root, "gates") ? conf_get(root, "gates") : root, e,
				"the gate '%s': this plan brings no release of '%s', whose metric it compares",
				p->gates[i].name, p->gates[i].u.metric.component);
	r = conf_optional_seconds(root, "min_age", profile ? profile->min_age_s : MIN_AGE_DEFAULT_S, &p->min_age_s,
				  e);
	if (r < 0)
		return r;
	if (p->min_age_s > SOAK_MAX_S)
		return conf_fail(conf_get(root, "min_age"), e, "expected at most 90d");
	r = limits_read(root, p->kind, &p->limits, e);
	if (r == 0 && profile && profile->window && !p->limits.window)
		r = copy_text(profile->window, &p->limits.window);
	if (r < 0)
		return r;
	for (size_t i = 0; i < p->stage_count; i++)
		if ((p->stages[i].by_zone || p->stages[i].zone) && !p->limits.window)
			return conf_fail(
				root, e,
				"expected a window: the stage '%s' opens in that of its zone, e.g. window: "
				"01:00-05:00",
				p->stages[i].name);
	return conf_reject_unknown(root, e);
}

int plan_read(const struct conf *root, struct plan *ret, struct conf_error *e)
{
	struct plan p = { 0 };
	int r = read_plan(root, &p, e);

	if (r < 0) {
		plan_done(&p);
		return r;
	}
	*ret = p;
	return 0;
}

int plan_parse(const void *text, size_t len, const char *file, struct plan *ret, struct conf_error *e)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	int r = conf_parse(text, len, file, &f, e);

	return r < 0 ? r : plan_read(conf_root(f), ret, e);
}

int plan_load(const char *path, struct plan *ret, struct conf_error *e)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	int r = conf_load(path, &f, e);

	return r < 0 ? r : plan_read(conf_root(f), ret, e);
}

static void write_gates(const struct plan *p, size_t stage, struct json_node *o, const char *name)
{
	struct json_node *list = NULL;

	for (size_t i = 0; i < p->gate_count; i++) {
		if (p->gates[i].stage != stage)
			continue;
		list = list ? list : node_array(o, name);
		gate_write(&p->gates[i], node_object(list, NULL));
	}
}

static void write_limit_share(struct json_node *o, const char *name, uint64_t share)
{
	if (share > 0)
		node_stringf(o, name, "%" PRIu64 ".%02" PRIu64 "%%", share / 100, share % 100);
}

static void write_stage(const struct plan *p, size_t index, struct json_node *o)
{
	const struct plan_stage *s = &p->stages[index];

	node_string(o, "name", s->name);
	if (s->by_nodes) {
		struct json_node *nodes = node_array(o, "nodes");

		for (size_t i = 0; i < s->nodes.count; i++)
			node_string(nodes, NULL, s->nodes.items[i]);
	} else if (s->labels.count == 0 && s->share == SHARE_ALL && !s->by_choice) {
		node_bool(o, "all", true);
	} else {
		if (s->labels.count)
			labels_write(&s->labels, o, "labels");
		if (s->share != SHARE_ALL)
			node_stringf(o, "share", "%" PRIu64 ".%02" PRIu64 "%%", s->share / 100, s->share % 100);
		if (s->count)
			node_integer(o, "count", (int64_t) s->count);
		if (s->prefer.count)
			labels_write(&s->prefer, o, "prefer");
	}
	if (s->zone)
		node_string(o, "zone", s->zone);
	if (s->by_zone)
		node_bool(o, "by_zone", true);
	if (s->first_zone)
		node_string(o, "first_zone", s->first_zone);
	node_integer(o, "soak", (int64_t) s->soak_s);
	write_gates(p, index, o, "gates");
}

void plan_write(const struct plan *p, struct json_node *object)
{
	struct json_node *stages, *gates;

	node_string(object, "component", p->component);
	node_string(object, "version", p->version);
	if (p->with_count > 0) {
		struct json_node *with = node_object(object, "with");

		for (size_t i = 0; i < p->with_count; i++)
			node_string(with, p->with[i].component, p->with[i].version);
	}
	node_string(object, "kind", rollout_kind_name(p->kind));
	stages = node_array(object, "stages");
	for (size_t i = 0; i < p->stage_count; i++)
		write_stage(p, i, node_object(stages, NULL));
	gates = node_object(object, "gates");
	node_integer(gates, "max_failures", (int64_t) p->max_failures);
	node_integer(gates, "max_node_failures", (int64_t) p->max_node_failures);
	node_integer(gates, "silent_after", (int64_t) p->silent_after_s);
	write_limit_share(gates, "max_failure_share", p->max_failure_share);
	write_limit_share(gates, "max_node_failure_share", p->max_node_failure_share);
	node_integer(gates, "max_silent", (int64_t) p->max_silent);
	write_limit_share(gates, "max_silent_share", p->max_silent_share);
	node_integer(gates, "silent_deadline", (int64_t) p->silent_deadline_s);
	node_string(gates, "on_failure", on_failure_names[p->on_failure]);
	node_string(gates, "undo", undo_names[p->undo]);
	node_string(gates, "on_node_failure", on_failure_names[p->on_node_failure]);
	write_gates(p, GATE_EVERY_STAGE, gates, "require");
	node_integer(object, "min_age", (int64_t) p->min_age_s);
	limits_write(&p->limits, object);
}

int plan_share(const char *rollout, const char *node, uint64_t *ret)
{
	uint8_t text[2 * (ID_MAX + 1)], digest[SHA256_BYTES];
	size_t first = strlen(rollout), second = strlen(node);
	int r;

	if (first > ID_MAX || second > ID_MAX)
		return -ERR_NAME;
	memcpy(text, rollout, first + 1);
	memcpy(text + first + 1, node, second);
	r = sha256_of(text, first + 1 + second, digest);
	if (r < 0)
		return r;
	*ret = share_of_digest(digest);
	return 0;
}

bool plan_stage_selects(const struct plan_stage *s, const char *node, const struct labels *labels, uint64_t share)
{
	if (s->by_nodes)
		return string_list_has(&s->nodes, node);
	if (s->by_choice)
		return false;
	return labels_match(&s->labels, labels) && share < s->share;
}

bool plan_covers_all(const struct plan *p)
{
	for (size_t i = 0; i < p->stage_count; i++)
		if (!p->stages[i].by_nodes && !p->stages[i].by_choice && p->stages[i].labels.count == 0 &&
		    p->stages[i].share == SHARE_ALL)
			return true;
	return false;
}

bool plan_concerns(const struct plan *p, const char *component)
{
	for (size_t i = 0; i < p->with_count; i++)
		if (str_eq(p->with[i].component, component))
			return true;
	return str_eq(p->component, component);
}
