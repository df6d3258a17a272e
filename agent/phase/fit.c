#include "agent/phase/fit.h"

#include "agent/phase/facts.h"
#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "agent/phase/self.h"
#include "agent/probe/probe.h"
#include "agent/store/agents.h"
#include "base/err.h"
#include "base/log.h"
#include "base/program.h"
#include "base/version.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int check_kind(struct node *n, const struct release *rel)
{
	if (!string_list_has(&config_component(n->config, rel->component)->kinds, rel->kind))
		return update_fail_as(n, RESULT_NOT_ALLOWED, -ERR_REFUSED,
				      "kind '%s' is not allowed for %s by components.d here", rel->kind,
				      rel->component);
	if (!str_eq(rel->kind, "tree"))
		return update_fail(n, -ERR_AGENT_TOO_OLD, "this agent knows no components of kind '%s'",
				   rel->kind);
	return 0;
}

static bool is_below(const char *path, const char *prefix)
{
	size_t len = strlen(prefix);

	while (len > 0 && prefix[len - 1] == '/')
		len--;
	return strncmp(path, prefix, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/*
 * What cannot be read by the version before must really come back with it: such a release has its data
 * copied and put back, or a preflight of its own that looked.
 */
static int check_data(struct node *n, const struct release *rel)
{
	const struct string_list *allowed = &config_component(n->config, rel->component)->data;
	bool restores = false;

	for (size_t i = 0; i < rel->data_count; i++) {
		bool fine = allowed->count == 0;

		for (size_t k = 0; !fine && k < allowed->count; k++)
			fine = is_below(rel->data[i].path, allowed->items[k]);
		if (!fine)
			return update_fail_as(n, RESULT_NOT_ALLOWED, -ERR_REFUSED,
					      "data[] names %s, which components.d does not allow for %s",
					      rel->data[i].path, rel->component);
		restores = restores || rel->data[i].restore_on_rollback;
	}
	if (!rel->data_compatible_back && !restores && rel->hooks.preflight.argv.count == 0)
		return update_fail_as(
			n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
			"the version before cannot read its data, and it neither has data put back on a "
			"rollback nor a preflight that looks");
	return 0;
}

/* What a component will be once this update has swapped. NULL: absent. */
static const char *version_after(struct node *n, const char *component)
{
	const struct node_component *c = state_component(n->state, component);
	const char *version = c ? c->version : "";

	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (str_eq(p.component, component))
			version = p.to;
	}
	return version[0] ? version : NULL;
}

/* Of the others, as they will be: those in the same rename count as what they become. */
static int check_ranges(struct node *n, const struct release *rel)
{
	for (size_t i = 0; i < rel->requires_component_count; i++) {
		const struct release_requirement *q = &rel->requires_components[i];
		const char *version = version_after(n, q->component);

		if (!version || !version_in_range(version, q->range))
			return update_fail_as(n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
					      "%s %s needs %s %s; here is %s", rel->component, rel->version,
					      q->component, q->range, version ? version : "none");
	}
	return 0;
}

/* It does not update from what is here: by another version in between, if a rollout offers one. */
static int step_first(struct node *n, const struct part *p)
{
	struct known_rollout *k = documents_rollout(&n->docs, n->state->update.rollout);
	struct decision d;

	if (k) {
		(void) snprintf(k->needs_component, sizeof(k->needs_component), "%s", p->component);
		(void) snprintf(k->needs_from, sizeof(k->needs_from), "%s", p->release->requires_from);
		d = node_decide(n, p->component);
		if (d.kind != DECIDE_STAY && d.cause == CAUSE_ROLLOUT && !str_eq(d.version, p->to)) {
			log_notice("update-steps", "update=%s component=%s from=%s by=%s to=%s",
				   n->state->update.id, p->component, p->from, d.version, p->to);
			return PHASE_DROP;
		}
	}
	return update_fail_as(
		n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
		"%s %s updates directly from %s or newer; here is %s, and no rollout offers a version "
		"between",
		p->component, p->to, p->release->requires_from, p->from);
}

static int check_requirements(struct node *n, const struct part *p)
{
	const struct release *rel = p->release;
	struct stat st;
	int r;

	if (rel->requires_agent && !version_in_range(program_version, rel->requires_agent))
		return update_fail(n, -ERR_AGENT_TOO_OLD, "it needs an agent %s; this is %s", rel->requires_agent,
				   program_version);
	if (n->state->update.cause != NODE_CAUSE_ROLLOUT)
		return 0; /* it was good here before: what it needs of the others was settled then */
	for (size_t i = 0; i < rel->compatible.count; i++) {
		const char *name = rel->compatible.items[i].name;
		const char *have = labels_get(&n->docs.labels, name);

		if (!str_eq(have, rel->compatible.items[i].value))
			return update_fail_as(n, RESULT_INCOMPATIBLE, -ERR_REFUSED,
					      "it is made for nodes labelled %s=%s; this one has %s", name,
					      rel->compatible.items[i].value, have ? have : "no such label");
	}
	r = check_ranges(n, rel);
	if (r < 0)
		return r;
	for (size_t i = 0; i < rel->requires_files.count; i++)
		if (stat(rel->requires_files.items[i], &st) < 0)
			return update_fail_as(n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
					      "it needs the file %s, which is not here",
					      rel->requires_files.items[i]);
	if (rel->requires_zone_data && strcmp(n->docs.zone_edition, rel->requires_zone_data) < 0)
		return update_fail_as(n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
				      "it needs the time zone tables of %s or newer; here are %s (update tzdata)",
				      rel->requires_zone_data,
				      n->docs.zone_edition[0] ? n->docs.zone_edition : "none that say");
	return rel->requires_from && p->from[0] && version_compare(p->from, rel->requires_from) < 0
		       ? step_first(n, p)
		       : 0;
}

static int check_variables(struct node *n, const struct release *rel)
{
	struct string_list used = { 0 };
	int r = release_variables(rel, &used);

	if (r < 0)
		r = update_fail(n, r, "it uses a variable of a form this agent does not know");
	for (size_t i = 0; r == 0 && i < rel->requires_vars.count; i++)
		if (!labels_get(&n->config->vars, rel->requires_vars.items[i]))
			r = update_fail_as(n, RESULT_VARIABLE_MISSING, -ERR_FIELD_MISSING,
					   "it needs the variable '%s', which vars.d does not define",
					   rel->requires_vars.items[i]);
	for (size_t i = 0; r == 0 && i < used.count; i++)
		if (!labels_get(&n->config->vars, used.items[i]))
			r = update_fail_as(n, RESULT_VARIABLE_MISSING, -ERR_FIELD_MISSING,
					   "it uses ${vars.%s}, which vars.d does not define", used.items[i]);
	string_list_done(&used);
	return r;
}

struct asked {
	struct node *n;
	const struct release *release;
};

static int check_user(void *context, const struct release_command *c, const char *what)
{
	const struct asked *a = context;
	const char *component = a->release->component;

	if (config_allows_user(a->n->config, component, c->user))
		return 0;
	return update_fail_as(a->n, RESULT_NOT_ALLOWED, -ERR_REFUSED,
			      "%s wants to run as '%s', which components.d does not allow for %s", what, c->user,
			      component);
}

/* Lines of a unit's journal travel with reports: only of units this component may speak of. */
static int check_log_unit(struct node *n, const struct release *rel, const struct release_check *check)
{
	if (check->kind != CHECK_LOG || !check->log.unit ||
	    string_list_has(&config_component(n->config, rel->component)->units, check->log.unit))
		return 0;
	return update_fail_as(n, RESULT_NOT_ALLOWED, -ERR_REFUSED,
			      "the log of the unit %s is not allowed for %s by components.d here", check->log.unit,
			      rel->component);
}

static int check_programs(struct node *n, const struct release *rel)
{
	const char *why = NULL;
	int r = release_commands(rel, check_user, &(struct asked){ n, rel });

	for (size_t i = 0; r == 0 && i < rel->service_count; i++) {
		const char *unit = rel->services[i].unit;

		if (unit && !string_list_has(&config_component(n->config, rel->component)->units, unit))
			r = update_fail_as(n, RESULT_NOT_ALLOWED, -ERR_REFUSED,
					   "the unit %s is not allowed for %s by components.d here", unit,
					   rel->component);
	}
	for (size_t i = 0; r == 0 && i < rel->check_count; i++) {
		r = check_log_unit(n, rel, &rel->checks[i]);
		if (r == 0 && !probe_supported(&rel->checks[i], &why))
			r = update_fail(n, -ERR_AGENT_TOO_OLD, "check %s: %s", rel->checks[i].name,
					why ? why : "");
	}
	return r;
}

int fit_check(struct node *n, const struct part *p)
{
	int r = check_kind(n, p->release);

	if (r == 0 && str_eq(p->component, AGENTS_COMPONENT))
		r = self_check(n, p->release);
	if (r == 0)
		r = check_data(n, p->release);
	if (r == 0)
		r = check_requirements(n, p);
	if (r == 0)
		r = check_variables(n, p->release);
	return r == 0 ? check_programs(n, p->release) : r;
}
