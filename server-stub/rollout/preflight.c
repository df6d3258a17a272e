#include "server-stub/rollout/preflight.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "json/build.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name, *sentence;
} items[] = {
#define PREFLIGHT_ROW_(id, name, sentence) [PREFLIGHT_##id] = { name, sentence },
	PREFLIGHT_ITEMS(PREFLIGHT_ROW_)
#undef PREFLIGHT_ROW_
};
static const char *const outcome_names[] = {
	[PREFLIGHT_PASS] = "pass", [PREFLIGHT_WARN] = "warn", [PREFLIGHT_FAIL] = "fail"
};

const char *preflight_item_name(enum preflight_item item)
{
	return items[item].name;
}

int preflight_item_parse(const char *name)
{
	for (int i = 0; i < PREFLIGHT_ITEM_COUNT; i++)
		if (str_eq(name, items[i].name))
			return i;
	return -1;
}

const char *preflight_outcome_name(enum preflight_outcome o)
{
	return outcome_names[o];
}

/* vsnprintf that ends between characters: a cut one would be no JSON any more. */
static void PRINTF_LIKE(2, 0) write_text(char text[static PREFLIGHT_TEXT_MAX], const char *fmt, va_list ap)
{
	int n = vsnprintf(text, PREFLIGHT_TEXT_MAX, fmt, ap);
	size_t len = PREFLIGHT_TEXT_MAX - 1;

	if (n < PREFLIGHT_TEXT_MAX)
		return;
	while (len > 0 && ((unsigned char) text[len - 1] & 0xc0) == 0x80)
		len--;
	if (len > 0 && (unsigned char) text[len - 1] >= 0xc0)
		len--;
	text[len] = '\0';
}

void preflight_find(struct preflight *p, enum preflight_item item, enum preflight_outcome outcome, const char *fmt,
		    ...)
{
	struct preflight_finding *f;
	va_list ap;

	if (outcome > p->outcomes[item])
		p->outcomes[item] = outcome;
	if (p->finding_count == PREFLIGHT_FINDINGS_MAX) {
		p->findings_dropped++;
		return;
	}
	f = &p->findings[p->finding_count++];
	f->item = item;
	f->outcome = outcome;
	va_start(ap, fmt);
	write_text(f->text, fmt, ap);
	va_end(ap);
}

/* --- what needs no node --- */

static void judge_signatures(struct preflight *p)
{
	const struct preflight_subject *s = &p->subject;
	char stamp[TIMESTAMP_LEN + 1];

	timestamp_format(stamp, s->role_expires);
	if (s->role_expires <= s->now)
		preflight_find(p, PREFLIGHT_SIGNATURES, PREFLIGHT_FAIL,
			       "what the role %s signed has expired (%s): nodes take nothing new from it", s->role,
			       stamp);
	if (!policy_permits(s->policy, s->version))
		preflight_find(p, PREFLIGHT_SIGNATURES, PREFLIGHT_FAIL,
			       "the policy of %s forbids %s: it is below the floor or revoked", s->component,
			       s->version);
	for (size_t i = 0; i < s->approver_count; i++)
		if (s->approvers[i].threshold == 0)
			preflight_find(p, PREFLIGHT_SIGNATURES, PREFLIGHT_FAIL,
				       "the policy of %s asks for the approval of %s, and nobody is named so: no "
				       "node would ever take it",
				       s->component, s->approvers[i].name);
}

static bool is_blank(const char *text)
{
	return !text || !text[strspn(text, " \t\r\n")];
}

static bool proves_itself(const struct release *r)
{
	for (size_t i = 0; i < r->check_count; i++)
		if (r->checks[i].required && r->checks[i].kind != CHECK_LINK)
			return true;
	return false;
}

static bool is_said(const struct preflight_subject *s, enum rule_field f)
{
	const struct release *r = s->release;

	switch (f) {
	case RULE_FIELD_CHANGES:
		return !is_blank(r->changes);
	case RULE_FIELD_RISK:
		return s->says_risk;
	case RULE_FIELD_KNOWN_ISSUES:
		return !is_blank(r->known_issues);
	case RULE_FIELD_POST_DEPLOY_CHECKS:
		return !is_blank(r->post_deploy_checks);
	case RULE_FIELD_EXPECTED_DURATION:
		return r->expected_duration_s > 0;
	case RULE_FIELD_CHECKS:
		return proves_itself(r);
	case RULE_FIELD_OWNER:
		return s->policy && !is_blank(s->policy->owner);
	case RULE_FIELD_ON_CALL:
		return s->policy && !is_blank(s->policy->on_call);
	case RULE_FIELD_COUNT:
		break;
	}
	return false;
}

static void judge_fields(struct preflight *p)
{
	const struct preflight_subject *s = &p->subject;

	for (int f = 0; f < RULE_FIELD_COUNT; f++) {
		bool of_policy = f == RULE_FIELD_OWNER || f == RULE_FIELD_ON_CALL;

		if (!s->rules->require[f] || is_said(s, (enum rule_field) f))
			continue;
		preflight_find(p, PREFLIGHT_FIELDS, PREFLIGHT_FAIL,
			       f == RULE_FIELD_CHECKS ? "%s says no '%s': none that is required looks at the "
							"component itself (%s:%u asks for it)"
						      : "%s says no '%s' (%s:%u asks for it)",
			       of_policy ? "the policy" : "the release", rule_field_name((enum rule_field) f),
			       s->rules->file, s->rules->require_line);
	}
}

static void judge_duration(struct preflight *p)
{
	const struct preflight_subject *s = &p->subject;

	if (s->rules->duration_max_s == 0)
		return;
	if (s->release->expected_duration_s == 0)
		preflight_find(p, PREFLIGHT_DURATION, PREFLIGHT_WARN,
			       "it does not say how long it takes ('expected_duration'; %s:%u allows %" PRIu64
			       " s)",
			       s->rules->file, s->rules->duration_line, s->rules->duration_max_s);
	else if (s->release->expected_duration_s > s->rules->duration_max_s)
		preflight_find(p, PREFLIGHT_DURATION, PREFLIGHT_FAIL,
			       "it expects to take %" PRIu64 " s; %s:%u allows %" PRIu64,
			       s->release->expected_duration_s, s->rules->file, s->rules->duration_line,
			       s->rules->duration_max_s);
}

/* "plan.yaml:9: ", or nothing. Returns `out`. */
static const char *at_line(const struct preflight *p, unsigned line, char *out, size_t size)
{
	out[0] = '\0';
	if (p->subject.plan_file && line > 0)
		(void) snprintf(out, size, "%s:%u: ", p->subject.plan_file, line); /* cut to fit */
	return out;
}

/* Batches by zone are one stage of what was written. */
static bool goes_on(const struct plan_stage *a, const struct plan_stage *b)
{
	return a->zone && b->zone && a->line == b->line && a->soak_s == b->soak_s;
}

static void judge_stages(struct preflight *p, const struct rule_minimum *m)
{
	const struct preflight_subject *s = &p->subject;
	const struct plan *plan = s->plan;
	size_t stages = plan->stage_count;
	char where[160];

	for (size_t k = 0; k + 1 < plan->stage_count; k++) {
		const struct plan_stage *stage = &plan->stages[k];

		if (goes_on(stage, stage + 1))
			stages--;
		/* In an emergency the same steps are taken, only quicker. */
		else if (s->kind == ROLLOUT_REGULAR && stage->soak_s < m->soak_s)
			preflight_find(p, PREFLIGHT_RISK, PREFLIGHT_FAIL,
				       "%sexpected a soak of at least %" PRIu64
				       " s in the stage '%s' for a release of risk %s (%s:%u), found %" PRIu64,
				       at_line(p, stage->line, where, sizeof(where)), m->soak_s, stage->name,
				       s->release->risk, s->rules->file, m->line, stage->soak_s);
	}
	if (stages < m->stages)
		preflight_find(p, PREFLIGHT_RISK, PREFLIGHT_FAIL,
			       "%sexpected at least %" PRIu64
			       " stages for a release of risk %s (%s:%u), found %zu",
			       at_line(p, plan->stages_line, where, sizeof(where)), m->stages, s->release->risk,
			       s->rules->file, m->line, stages);
}

static void judge_risk(struct preflight *p)
{
	const struct preflight_subject *s = &p->subject;
	int risk = rule_risk_parse(s->release->risk);
	const struct rule_minimum *m = risk < 0 ? NULL : &s->rules->risk[risk];
	uint64_t signatures = 0;

	/* Getting back to what was approved before is not held up by what is bad about it. */
	if (!m || m->line == 0 || s->kind == ROLLOUT_DOWNGRADE)
		return;
	for (size_t i = 0; i < s->approver_count; i++)
		signatures += s->approvers[i].threshold;
	if (signatures < m->approvals)
		preflight_find(p, PREFLIGHT_RISK, PREFLIGHT_FAIL,
			       "a release of risk %s needs at least %" PRIu64
			       " approvals (%s:%u); the policy of %s asks for %" PRIu64 " signatures",
			       s->release->risk, m->approvals, s->rules->file, m->line, s->component, signatures);
	if (s->plan)
		judge_stages(p, m);
	else if (m->stages > 0 || m->soak_s > 0)
		preflight_find(p, PREFLIGHT_RISK, PREFLIGHT_WARN,
			       "its risk is %s: %s:%u asks for at least %" PRIu64 " stages and %" PRIu64
			       " s of soak, judged with a plan only",
			       s->release->risk, s->rules->file, m->line, m->stages, m->soak_s);
}

static void judge_results(struct preflight *p)
{
	const struct preflight_subject *s = &p->subject;

	for (size_t i = 0; i < s->rules->command_count; i++) {
		const struct rule_command *c = &s->rules->commands[i];
		enum preflight_outcome bad = c->required ? PREFLIGHT_FAIL : PREFLIGHT_WARN;
		const struct preflight_result *result = NULL;
		char stamp[TIMESTAMP_LEN + 1];

		for (size_t k = 0; k < s->result_count; k++)
			if (strcmp(s->results[k].name, c->name) == 0)
				result = &s->results[k];
		if (!result) {
			preflight_find(
				p, PREFLIGHT_RESULTS, bad,
				"'%s' (%s:%u) has no result for this release: selfright check %s %s runs it",
				c->name, s->rules->file, c->line, s->component, s->version);
			continue;
		}
		timestamp_format(stamp, result->at);
		if (!result->passed)
			preflight_find(p, PREFLIGHT_RESULTS, bad,
				       "'%s' failed at %s: selfright release show %s %s says more", c->name, stamp,
				       s->component, s->version);
		else if (s->now - result->at > (int64_t) c->valid_s)
			preflight_find(p, PREFLIGHT_RESULTS, bad,
				       "'%s' passed at %s, which is longer ago than %s:%u lets count", c->name,
				       stamp, s->rules->file, c->line);
	}
}

int preflight_begin(struct preflight *p, const struct preflight_subject *subject)
{
	int r;

	*p = (struct preflight){ .subject = *subject };
	r = release_variables(subject->release, &p->variables);
	for (size_t i = 0; r == 0 && i < subject->release->requires_vars.count; i++)
		if (!string_list_has(&p->variables, subject->release->requires_vars.items[i]))
			r = string_list_add(&p->variables, subject->release->requires_vars.items[i]);
	if (r < 0)
		return r;
	judge_signatures(p);
	judge_fields(p);
	judge_duration(p);
	judge_risk(p);
	judge_results(p);
	return 0;
}

/* --- nodes --- */

static void count_version(struct preflight *p, const char *version)
{
	size_t i = 0;
	int order = version_compare(version, p->subject.version);

	p->running++;
	p->above += order > 0;
	p->equal += order == 0;
	p->below += order < 0;
	while (i < p->version_count && strcmp(p->versions[i].version, version) != 0)
		i++;
	if (i == PREFLIGHT_VERSIONS_MAX)
		return;
	if (i == p->version_count) {
		(void) snprintf(p->versions[i].version, sizeof(p->versions[i].version), "%s", version);
		p->version_count++;
	}
	p->versions[i].nodes++;
}

static int count_what(struct preflight *p, const char *text, bool unknown)
{
	for (size_t i = 0; i < p->what_count; i++)
		if (p->whats[i].unknown == unknown && strcmp(p->whats[i].text, text) == 0) {
			p->whats[i].nodes++;
			return 0;
		}
	if (p->what_count == PREFLIGHT_WHATS_MAX) {
		p->whats_dropped++;
		return 0;
	}
	p->whats[p->what_count] = (struct preflight_what){ strdup(text), 1, unknown };
	return p->whats[p->what_count].text ? (p->what_count++, 0) : -ENOMEM;
}

struct looking {
	struct preflight *p;
	struct preflight_miss *miss; /* NULL: none so far, or no room to name another node */
	const char *node;
	bool missed;
	int r; /* the first failure */
};

static void PRINTF_LIKE(2, 3) note_missing(struct looking *l, const char *fmt, ...)
{
	char text[PREFLIGHT_TEXT_MAX];
	struct preflight *p = l->p;
	va_list ap;

	if (l->r < 0)
		return;
	va_start(ap, fmt);
	write_text(text, fmt, ap);
	va_end(ap);
	if (!l->missed && p->miss_count < PREFLIGHT_NODES_MAX) {
		l->miss = &p->misses[p->miss_count++];
		(void) snprintf(l->miss->node, sizeof(l->miss->node), "%s", l->node); /* an id */
	}
	l->missed = true;
	l->r = count_what(p, text, false);
	if (l->r < 0 || !l->miss)
		return;
	if (l->miss->count == PREFLIGHT_NODE_MISSES_MAX) {
		l->miss->more++;
		return;
	}
	l->miss->texts[l->miss->count] = strdup(text);
	if (l->miss->texts[l->miss->count])
		l->miss->count++;
	else
		l->r = -ENOMEM;
}

static void PRINTF_LIKE(2, 3) note_unknown(struct looking *l, const char *fmt, ...)
{
	char text[PREFLIGHT_TEXT_MAX];
	va_list ap;

	if (l->r < 0)
		return;
	va_start(ap, fmt);
	write_text(text, fmt, ap);
	va_end(ap);
	l->r = count_what(l->p, text, true);
}

static const char *reported_version(const struct report *report, const char *component)
{
	for (size_t i = 0; i < report->component_count; i++)
		if (strcmp(report->components[i].component, component) == 0)
			return report->components[i].version;
	return NULL;
}

/* What a node will run beside it: what the plan brings along, else what it reported. */
static const char *version_beside(const struct preflight *p, const struct report *report, const char *component)
{
	const struct plan *plan = p->subject.plan;

	if (plan && str_eq(plan->component, component))
		return plan->version;
	for (size_t i = 0; plan && i < plan->with_count; i++)
		if (str_eq(plan->with[i].component, component))
			return plan->with[i].version;
	return reported_version(report, component);
}

static void look_at_labels(struct looking *l, const struct report *report)
{
	const struct labels *want = &l->p->subject.release->compatible;

	for (size_t i = 0; i < want->count; i++) {
		const char *have = labels_get(&report->labels, want->items[i].name);

		if (!str_eq(have, want->items[i].value))
			note_missing(l, "the label %s=%s", want->items[i].name, want->items[i].value);
	}
}

static void look_at_versions(struct looking *l, const struct report *report)
{
	const struct release *rel = l->p->subject.release;
	const char *runs = reported_version(report, l->p->subject.component);

	if (rel->requires_agent && report->agent && !version_in_range(report->agent, rel->requires_agent))
		note_missing(l, "an agent %s", rel->requires_agent);
	for (size_t i = 0; i < rel->requires_component_count; i++) {
		const struct release_requirement *q = &rel->requires_components[i];
		const char *have = version_beside(l->p, report, q->component);

		if (!have || !version_in_range(have, q->range))
			note_missing(l, "%s %s", q->component, q->range);
	}
	if (rel->requires_from && runs && version_compare(runs, rel->requires_from) < 0)
		note_missing(l, "%s %s or newer to come from", l->p->subject.component, rel->requires_from);
}

/* Only what lies in the folder that a node lists is known to be there, or not. */
static void look_at_file(struct looking *l, const struct report_means *m, const char *path)
{
	size_t len = m->secrets_folder ? strlen(m->secrets_folder) : 0;

	if (len == 0 || strncmp(path, m->secrets_folder, len) != 0 || path[len] != '/' ||
	    strchr(path + len + 1, '/'))
		note_unknown(l, "the file %s", path);
	else if (!string_list_has(&m->secrets, path + len + 1))
		note_missing(l, "the file %s", path);
}

/* As the agent counts before it downloads (agent/phase/room.c), but for the copy of the data, which nobody knows here. */
static void look_at_space(struct looking *l, const struct report_means *m)
{
	const struct release *rel = l->p->subject.release;
	uint64_t need = rel->installed_size;

	for (size_t i = 0; i < rel->artifact_count; i++)
		if (!rel->artifacts[i].is_delta && need <= UINT64_MAX / 2) {
			need += rel->artifacts[i].length;
			break;
		}
	if (need < rel->requires_free_bytes)
		need = rel->requires_free_bytes;
	if (need > m->free_bytes)
		note_missing(l, "%" PRIu64 " bytes of free space", need);
}

/* What it says it has beside components and labels; older agents say nothing of it. */
static void look_at_means(struct looking *l, const struct report *report)
{
	const struct release *rel = l->p->subject.release;
	const struct report_means *m = &report->means;

	for (size_t i = 0; i < l->p->variables.count; i++)
		if (!m->told)
			note_unknown(l, "the variable '%s'", l->p->variables.items[i]);
		else if (!string_list_has(&m->vars, l->p->variables.items[i]))
			note_missing(l, "the variable '%s'", l->p->variables.items[i]);
	for (size_t i = 0; i < rel->requires_files.count; i++)
		look_at_file(l, m, rel->requires_files.items[i]);
	if (rel->requires_zone_data && !m->zone_data)
		note_unknown(l, "time zone tables of %s", rel->requires_zone_data);
	else if (rel->requires_zone_data && strcmp(m->zone_data, rel->requires_zone_data) < 0)
		note_missing(l, "time zone tables of %s", rel->requires_zone_data);
	if (m->told)
		look_at_space(l, m);
	else if (rel->requires_free_bytes > 0)
		note_unknown(l, "%" PRIu64 " bytes of free space", rel->requires_free_bytes);
}

int preflight_node(struct preflight *p, const char *node, const struct report *report)
{
	struct looking l = { .p = p, .node = node };
	const char *runs;

	p->nodes++;
	if (!report) {
		p->silent++;
		return 0;
	}
	runs = reported_version(report, p->subject.component);
	if (runs && version_is_valid(runs))
		count_version(p, runs);
	/* What runs it already, or is above it, does not take it. */
	if (runs && version_is_valid(runs) && version_compare(runs, p->subject.version) >= 0 &&
	    p->subject.kind != ROLLOUT_DOWNGRADE)
		return 0;
	look_at_labels(&l, report);
	look_at_versions(&l, report);
	look_at_means(&l, report);
	p->missing_nodes += l.missed;
	return l.r;
}

const char *preflight_running(const struct preflight *p, uint64_t *ret_nodes)
{
	const struct preflight_version *most = NULL;

	for (size_t i = 0; i < p->version_count; i++) {
		const struct preflight_version *v = &p->versions[i];

		if (!most || v->nodes > most->nodes ||
		    (v->nodes == most->nodes && version_compare(v->version, most->version) > 0))
			most = v;
	}
	*ret_nodes = most ? most->nodes : 0;
	return most ? most->version : NULL;
}

static void judge_version(struct preflight *p)
{
	uint64_t nodes;
	const char *running = preflight_running(p, &nodes);

	if (p->subject.kind == ROLLOUT_DOWNGRADE) {
		if (p->running > 0 && p->above == 0)
			preflight_find(p, PREFLIGHT_VERSION, PREFLIGHT_WARN,
				       "it is called a downgrade, and no node runs anything above it");
		return;
	}
	/* A canary that is ahead already is no accident; a fleet that is ahead would be thrown back. */
	if (p->above > 0 && 2 * p->above > p->running)
		preflight_find(
			p, PREFLIGHT_VERSION, PREFLIGHT_FAIL,
			"%" PRIu64 " of %" PRIu64
			" nodes run a higher version, most of them %s: going back is a downgrade, and has to "
			"be called so",
			p->above, p->running, running);
	else if (p->above > 0)
		preflight_find(p, PREFLIGHT_VERSION, PREFLIGHT_WARN,
			       "%" PRIu64 " of %" PRIu64 " nodes run a higher version and will not take it",
			       p->above, p->running);
	else if (p->running > 0 && p->equal == p->running)
		preflight_find(p, PREFLIGHT_VERSION, PREFLIGHT_WARN, "every node that has %s runs %s already",
			       p->subject.component, p->subject.version);
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

void preflight_end(struct preflight *p)
{
	judge_version(p);
	for (size_t i = 0; i < p->what_count; i++) {
		const struct preflight_what *w = &p->whats[i];

		if (w->unknown)
			preflight_find(p, PREFLIGHT_REQUIREMENTS, PREFLIGHT_WARN,
				       "nobody knows whether %" PRIu64 " node%s %s %s", w->nodes, plural(w->nodes),
				       w->nodes == 1 ? "has" : "have", w->text);
		else
			preflight_find(p, PREFLIGHT_REQUIREMENTS, PREFLIGHT_FAIL,
				       "%" PRIu64 " node%s %s not have %s", w->nodes, plural(w->nodes),
				       w->nodes == 1 ? "does" : "do", w->text);
	}
	if (p->whats_dropped > 0)
		preflight_find(p, PREFLIGHT_REQUIREMENTS, PREFLIGHT_FAIL,
			       "more than %d different things are missing or not known", PREFLIGHT_WHATS_MAX);
	if (p->silent > 0)
		preflight_find(p, PREFLIGHT_REQUIREMENTS, PREFLIGHT_WARN,
			       "%" PRIu64 " of %" PRIu64 " nodes have never reported: nothing is known of them",
			       p->silent, p->nodes);
}

void preflight_done(struct preflight *p)
{
	string_list_done(&p->variables);
	for (size_t i = 0; i < p->what_count; i++)
		free(p->whats[i].text);
	for (size_t i = 0; i < p->miss_count; i++)
		for (size_t k = 0; k < p->misses[i].count; k++)
			free(p->misses[i].texts[k]);
	p->what_count = p->miss_count = 0;
}

enum preflight_outcome preflight_verdict(const struct preflight *p)
{
	enum preflight_outcome worst = PREFLIGHT_PASS;

	for (int i = 0; i < PREFLIGHT_ITEM_COUNT; i++)
		if (p->outcomes[i] > worst)
			worst = p->outcomes[i];
	return worst;
}

/* --- words --- */

static void write_nodes(const struct preflight *p, struct json_node *o)
{
	struct json_node *list, *one, *texts;

	node_integer(o, "judged", (int64_t) p->nodes);
	node_integer(o, "never_reported", (int64_t) p->silent);
	node_integer(o, "running", (int64_t) p->running);
	node_integer(o, "above", (int64_t) p->above);
	node_integer(o, "equal", (int64_t) p->equal);
	node_integer(o, "below", (int64_t) p->below);
	node_integer(o, "missing_something", (int64_t) p->missing_nodes);
	list = node_array(o, "missing");
	for (size_t i = 0; i < p->what_count; i++) {
		one = node_object(list, NULL);
		node_string(one, "what", p->whats[i].text);
		node_bool(one, "known", !p->whats[i].unknown);
		node_integer(one, "nodes", (int64_t) p->whats[i].nodes);
	}
	list = node_array(o, "list");
	for (size_t i = 0; i < p->miss_count; i++) {
		one = node_object(list, NULL);
		node_string(one, "node", p->misses[i].node);
		texts = node_array(one, "missing");
		for (size_t k = 0; k < p->misses[i].count; k++)
			node_string(texts, NULL, p->misses[i].texts[k]);
		node_integer(one, "more", (int64_t) p->misses[i].more);
	}
	node_integer(o, "more", (int64_t) (p->missing_nodes - p->miss_count));
}

void preflight_write(const struct preflight *p, struct json_node *object)
{
	struct json_node *list, *o, *findings;
	uint64_t nodes;
	const char *running = preflight_running(p, &nodes);

	node_string(object, "component", p->subject.component);
	node_string(object, "version", p->subject.version);
	node_string(object, "kind", rollout_kind_name(p->subject.kind));
	node_string(object, "risk", p->subject.release->risk);
	node_string(object, "verdict", preflight_outcome_name(preflight_verdict(p)));
	if (running) {
		o = node_object(object, "running");
		node_string(o, "version", running);
		node_integer(o, "nodes", (int64_t) nodes);
	}
	list = node_array(object, "items");
	for (int i = 0; i < PREFLIGHT_ITEM_COUNT; i++) {
		o = node_object(list, NULL);
		node_string(o, "item", items[i].name);
		node_string(o, "outcome", preflight_outcome_name(p->outcomes[i]));
		node_string(o, "means", items[i].sentence);
		findings = node_array(o, "findings");
		for (size_t k = 0; k < p->finding_count; k++)
			if (p->findings[k].item == (enum preflight_item) i) {
				o = node_object(findings, NULL);
				node_string(o, "outcome", preflight_outcome_name(p->findings[k].outcome));
				node_string(o, "text", p->findings[k].text);
			}
	}
	node_integer(object, "findings_dropped", (int64_t) p->findings_dropped);
	list = node_array(object, "asks");
	for (size_t i = 0; i < p->subject.approver_count; i++) {
		o = node_object(list, NULL);
		node_string(o, "approver", p->subject.approvers[i].name);
		node_integer(o, "threshold", p->subject.approvers[i].threshold);
	}
	write_nodes(p, node_object(object, "nodes"));
}
