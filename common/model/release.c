#include "model/release.h"

#include "base/err.h"
#include "base/version.h"
#include "json/build.h"
#include "json/json.h"
#include "model/check.h"
#include "model/field.h"
#include "model/variables.h"
#include "model/write.h"
#include "zone/zone.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const risks[] = { "low", "medium", "high" };
static const char *const forms[] = { "full", "delta" };
static const char *const data_moves[] = { "keep", "restore" };

/* What must[] may name. */
static const char *const known_fields[] = { "format",
					    "component",
					    "version",
					    "kind",
					    "compatible",
					    "requires",
					    "artifacts",
					    "tree",
					    "services",
					    "hooks",
					    "checks",
					    "probation",
					    "watch",
					    "boot_attempts",
					    "data",
					    "data_compatible_back",
					    "must",
					    "changes",
					    "risk",
					    "known_issues",
					    "post_deploy_checks",
					    "expected_duration",
					    NULL };

/* --- the guards of this document --- */

static bool is_signal(const char *s)
{
	static const char *const signals[] = { "SIGTERM", "SIGINT",  "SIGQUIT", "SIGHUP",
					       "SIGUSR1", "SIGUSR2", "SIGKILL" };

	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (strcmp(signals[i], s) == 0)
			return true;
	return false;
}

/* systemd.unit(5): names of units, without what a shell or a path could misread. */
static bool is_unit(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@");

	return n > 0 && s[n] == '\0' && s[0] != '-' && s[0] != '.' && strchr(s, '.');
}

static bool is_user(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-");

	return n > 0 && s[n] == '\0' && s[0] != '-' && !(s[0] >= '0' && s[0] <= '9');
}

static bool is_absolute_path(const char *s)
{
	return s[0] == '/' && guard_path(s + 1);
}

static bool is_label_name(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-._/");

	return n > 0 && n <= LABEL_NAME_MAX && s[n] == '\0' && !strchr("-._/", s[0]);
}

#define WITH_VARIABLES "without ${...} other than ${vars.NAME}, ${node.id} and ${root}"

static const struct text_rule rule_argument = { 4096, variables_are_fine, WITH_VARIABLES };
static const struct text_rule rule_signal = { 16, is_signal,
					      "one of SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, "
					      "SIGUSR2, SIGKILL" };
const struct text_rule rule_unit = { 255, is_unit, "the name of a unit" };
static const struct text_rule rule_user = { 32, is_user, "the name of a user" };
static const struct text_rule rule_absolute = { 1024, is_absolute_path, "an absolute path without \"..\"" };
static const struct text_rule rule_label_name = { LABEL_NAME_MAX, is_label_name, "a name [a-z0-9][a-z0-9-._/]*" };
static const struct text_rule rule_zone_edition = { 8, zone_is_edition,
						    "an edition of the zone database as \"2025b\"" };

/* --- parsing --- */

void command_fields_parse(struct fields *c, bool required, struct release_command *ret)
{
	field_text_list(c, "command", &rule_argument, required ? 1 : 0, RELEASE_ARGV_MAX, &ret->argv);
	if (ret->argv.count > 0 && ret->argv.items[0][0] == '\0')
		field_fail(c, -ERR_FIELD_VALUE, "command[0]", "must name a program");
	ret->user = field_text(c, "user", &rule_user, false);
	ret->timeout_s = field_u64(c, "timeout", 1, 24 * 3600, 60);
}

/* Absent: no command. */
static void parse_command(struct fields *f, const char *name, struct release_command *ret)
{
	struct fields c;

	if (!field_has(f, name))
		return;
	c = field_object(f, name, true);
	command_fields_parse(&c, true, ret);
}

static void parse_artifact(struct fields *f, struct release_artifact *ret)
{
	ret->path = field_text(f, "path", &rule_path, true);
	ret->length = field_need_u64(f, "length", 0, INT64_C(1) << 42);
	field_digest(f, "sha256", ret->sha256);
	ret->is_delta = field_choice(f, "form", forms, ARRAY_LEN(forms), 0) == 1;
	ret->from = field_text(f, "from", &rule_version, ret->is_delta);
	if (ret->from && !ret->is_delta)
		field_fail(f, -ERR_FIELD_VALUE, "from", "belongs to deltas only");
	ret->media = field_text(f, "media", &rule_word, true);
}

static void parse_service(struct fields *f, struct release_service *ret)
{
	ret->name = field_text(f, "name", &rule_id, true);
	ret->unit = field_text(f, "unit", &rule_unit, false);
	parse_command(f, "start", &ret->start);
	parse_command(f, "reload", &ret->reload);
	ret->stop_signal = field_text_or(f, "stop_signal", &rule_signal, "SIGTERM");
	ret->stop_timeout_s = field_u64(f, "stop_timeout", 1, 3600, 10);
	ret->stop_before_swap = field_bool(f, "stop_before_swap", false);
	field_text_list(f, "files", &rule_path, 0, RELEASE_SERVICE_FILES_MAX, &ret->files);
	if (field_ok(f) && (ret->unit != NULL) == (ret->start.argv.count > 0))
		field_fail(f, -ERR_FIELD_VALUE, NULL, "needs exactly one of unit and start");
}

static void parse_requires_components(struct fields *f, struct release *out)
{
	const struct json *map;
	struct fields components = field_object(f, "components", false);

	map = components.object;
	if (json_count(map) > RELEASE_REQUIRES_MAX) {
		field_fail(f, -ERR_FIELD_VALUE, "components", "must have at most %d members",
			   RELEASE_REQUIRES_MAX);
		return;
	}
	out->requires_components = field_alloc(f, json_count(map), sizeof(*out->requires_components));
	for (size_t i = 0; i < json_count(map) && field_ok(f); i++) {
		struct release_requirement *q = &out->requires_components[out->requires_component_count++];
		const char *name = json_name_at(map, i);

		if (!guard_id(name)) {
			field_fail(&components, -ERR_NAME, NULL, "must name components by their ids");
			return;
		}
		q->component = field_strdup(f, name);
		q->range = field_text(&components, name, &rule_range, true);
	}
}

static void parse_requires(struct fields *f, struct release *out)
{
	struct fields q = field_object(f, "requires", false);

	out->requires_agent = field_text(&q, "agent", &rule_range, false);
	parse_requires_components(&q, out);
	field_text_list(&q, "files", &rule_absolute, 0, RELEASE_REQUIRES_MAX, &out->requires_files);
	field_text_list(&q, "vars", &rule_label_name, 0, RELEASE_REQUIRES_MAX, &out->requires_vars);
	out->requires_free_bytes = field_u64(&q, "free_bytes", 0, INT64_C(1) << 50, 0);
	out->requires_zone_data = field_text(&q, "zone_data", &rule_zone_edition, false);
	out->requires_from = field_text(&q, "from", &rule_version, false);
}

static void parse_artifacts(struct fields *f, struct release *out)
{
	size_t n = fields_count(f, "artifacts", 1, RELEASE_ARTIFACTS_MAX);
	bool full = false;

	out->artifacts = field_alloc(f, n, sizeof(*out->artifacts));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields a = field_element(f, "artifacts", i);

		parse_artifact(&a, &out->artifacts[out->artifact_count++]);
		full = full || !out->artifacts[i].is_delta;
	}
	if (!full) /* a node that lost the old version must still get there */
		field_fail(f, -ERR_FIELD_VALUE, "artifacts", "must hold a full artifact, not deltas only");
}

static void parse_services(struct fields *f, struct release *out)
{
	size_t n = fields_count(f, "services", 0, RELEASE_SERVICES_MAX);

	out->services = field_alloc(f, n, sizeof(*out->services));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields s = field_element(f, "services", i);

		parse_service(&s, &out->services[out->service_count++]);
		for (size_t k = 0; k < i && field_ok(f); k++)
			if (strcmp(out->services[k].name, out->services[i].name) == 0)
				field_fail(&s, -ERR_FIELD_VALUE, "name", "stands twice");
	}
}

/* Declared order: no check waits for one below it, so none waits in a circle. */
static bool stands_before(const struct release *r, size_t index, const char *name)
{
	for (size_t i = 0; i < index; i++)
		if (strcmp(r->checks[i].name, name) == 0)
			return true;
	return false;
}

static void parse_checks(struct fields *f, struct release *out)
{
	size_t n = fields_count(f, "checks", 0, RELEASE_CHECKS_MAX);

	out->checks = field_alloc(f, n, sizeof(*out->checks));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields c = field_element(f, "checks", i);

		check_parse(&c, &out->checks[out->check_count++]);
		for (size_t k = 0; k < i && field_ok(f); k++)
			if (strcmp(out->checks[k].name, out->checks[i].name) == 0)
				field_fail(&c, -ERR_FIELD_VALUE, "name", "stands twice");
		for (size_t k = 0; field_ok(f) && k < out->checks[i].after.count; k++)
			if (!stands_before(out, i, out->checks[i].after.items[k]))
				field_fail(&c, -ERR_FIELD_VALUE, "after",
					   "must name checks that stand above this one");
	}
}

/* Copies of one within the other could not be put back in any order. */
static bool is_within(const char *path, const char *other)
{
	size_t len = strlen(other);

	return strncmp(path, other, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

static void parse_data(struct fields *f, struct release *out)
{
	size_t n = fields_count(f, "data", 0, RELEASE_DATA_MAX);

	out->data = field_alloc(f, n, sizeof(*out->data));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields d = field_element(f, "data", i);
		struct release_data *data = &out->data[out->data_count++];

		data->path = field_text(&d, "path", &rule_path, true);
		data->restore_on_rollback =
			field_choice(&d, "on_rollback", data_moves, ARRAY_LEN(data_moves), 0) == 1;
		for (size_t k = 0; k < i && field_ok(f); k++)
			if (is_within(data->path, out->data[k].path) || is_within(out->data[k].path, data->path))
				field_fail(&d, -ERR_FIELD_VALUE, "path", "lies within another one of data[]");
	}
}

static void parse_hooks(struct fields *f, struct release *out)
{
	struct fields h = field_object(f, "hooks", false);

	parse_command(&h, "preflight", &out->hooks.preflight);
	parse_command(&h, "before_swap", &out->hooks.before_swap);
	parse_command(&h, "after_swap", &out->hooks.after_swap);
	parse_command(&h, "after_rollback", &out->hooks.after_rollback);
	parse_command(&h, "notify", &out->hooks.notify);
}

static void parse_tree(struct fields *f, struct release *out)
{
	struct fields t = field_object(f, "tree", true);

	field_digest(&t, "digest", out->tree_digest);
	out->installed_size = field_need_u64(&t, "installed_size", 0, INT64_C(1) << 42);
	out->files = field_need_u64(&t, "files", 0, 10 * 1000 * 1000);
}

static void parse_people(struct fields *f, struct release *out)
{
	out->changes = field_text(f, "changes", &rule_text, false);
	out->known_issues = field_text(f, "known_issues", &rule_text, false);
	out->post_deploy_checks = field_text(f, "post_deploy_checks", &rule_text, false);
	out->risk = field_strdup(f, risks[field_choice(f, "risk", risks, ARRAY_LEN(risks), 0)]);
	out->expected_duration_s = field_u64(f, "expected_duration", 0, FIELD_SECONDS_MAX, 0);
}

int release_parse(const struct json *doc, struct release *ret, char **ret_error)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(doc, &error);
	struct release out = { 0 };

	field_format(&f, RELEASE_FORMAT, known_fields);
	out.component = field_text(&f, "component", &rule_id, true);
	out.version = field_text(&f, "version", &rule_version, true);
	out.kind = field_text_or(&f, "kind", &rule_id, "tree");
	field_labels(&f, "compatible", &out.compatible);
	parse_requires(&f, &out);
	parse_artifacts(&f, &out);
	parse_tree(&f, &out);
	parse_services(&f, &out);
	parse_hooks(&f, &out);
	parse_checks(&f, &out);
	out.probation_s = field_u64(&f, "probation", 0, 24 * 3600, 60);
	out.watch_s = field_u64(&f, "watch", 0, FIELD_SECONDS_MAX, 0);
	out.boot_attempts = field_u64(&f, "boot_attempts", 1, 10, 3);
	parse_data(&f, &out);
	out.data_compatible_back = field_bool(&f, "data_compatible_back", true);
	parse_people(&f, &out);
	if (error.r < 0) {
		release_done(&out);
		return field_error_take(&error, ret_error);
	}
	*ret = out;
	return 0;
}

/* --- releasing --- */

void release_command_done(struct release_command *c)
{
	string_list_done(&c->argv);
	free(c->user);
}

static void service_done(struct release_service *s)
{
	free(s->name);
	free(s->unit);
	release_command_done(&s->start);
	release_command_done(&s->reload);
	free(s->stop_signal);
	string_list_done(&s->files);
}

static void requirements_done(struct release *r)
{
	free(r->requires_agent);
	for (size_t i = 0; i < r->requires_component_count; i++) {
		free(r->requires_components[i].component);
		free(r->requires_components[i].range);
	}
	free(r->requires_components);
	string_list_done(&r->requires_files);
	string_list_done(&r->requires_vars);
	free(r->requires_zone_data);
	free(r->requires_from);
}

static void hooks_done(struct release *r)
{
	release_command_done(&r->hooks.preflight);
	release_command_done(&r->hooks.before_swap);
	release_command_done(&r->hooks.after_swap);
	release_command_done(&r->hooks.after_rollback);
	release_command_done(&r->hooks.notify);
}

void release_done(struct release *r)
{
	if (!r)
		return;
	free(r->component);
	free(r->version);
	free(r->kind);
	labels_done(&r->compatible);
	requirements_done(r);
	for (size_t i = 0; i < r->artifact_count; i++) {
		free(r->artifacts[i].path);
		free(r->artifacts[i].from);
		free(r->artifacts[i].media);
	}
	free(r->artifacts);
	for (size_t i = 0; i < r->service_count; i++)
		service_done(&r->services[i]);
	free(r->services);
	hooks_done(r);
	for (size_t i = 0; i < r->check_count; i++)
		check_done(&r->checks[i]);
	free(r->checks);
	for (size_t i = 0; i < r->data_count; i++)
		free(r->data[i].path);
	free(r->data);
	free(r->changes);
	free(r->risk);
	free(r->known_issues);
	free(r->post_deploy_checks);
	*r = (struct release){ 0 };
}

/* --- agreement --- */

int release_agrees(const struct release *r, const char *path)
{
	/* An id, a version and the name of the file, with two slashes. */
	char folder[ID_MAX + VERSION_MAX + 4], own[sizeof(folder) + 16];

	(void) snprintf(folder, sizeof(folder), "%s/%s/", r->component,
			r->version); /* both are bounded by their rules */
	(void) snprintf(own, sizeof(own), "%srelease.json", folder);
	if (!path || strcmp(path, own) != 0)
		return -ERR_DISAGREE;
	for (size_t i = 0; i < r->artifact_count; i++)
		if (!str_starts(r->artifacts[i].path, folder) || !guard_path(r->artifacts[i].path))
			return -ERR_DISAGREE;
	return 0;
}

/* --- writing --- */

void command_fields_write(struct json_node *o, const struct release_command *c)
{
	write_list(o, "command", &c->argv);
	write_text(o, "user", c->user);
	write_u64(o, "timeout", c->timeout_s);
}

static void write_command(struct json_node *o, const char *name, const struct release_command *c)
{
	if (c->argv.count > 0)
		command_fields_write(node_object(o, name), c);
}

static void write_requires(struct json_node *object, const struct release *r)
{
	struct json_node *q = node_object(object, "requires"), *components;

	write_text(q, "agent", r->requires_agent);
	components = node_object(q, "components");
	for (size_t i = 0; i < r->requires_component_count; i++)
		node_string(components, r->requires_components[i].component, r->requires_components[i].range);
	write_list(q, "files", &r->requires_files);
	write_list(q, "vars", &r->requires_vars);
	write_u64(q, "free_bytes", r->requires_free_bytes);
	write_text(q, "zone_data", r->requires_zone_data);
	write_text(q, "from", r->requires_from);
}

static void write_artifact(struct json_node *o, const struct release_artifact *a)
{
	node_string(o, "path", a->path);
	write_u64(o, "length", a->length);
	write_digest(o, "sha256", a->sha256);
	node_string(o, "form", forms[a->is_delta]);
	write_text(o, "from", a->from);
	node_string(o, "media", a->media);
}

static void write_service(struct json_node *o, const struct release_service *s)
{
	node_string(o, "name", s->name);
	write_text(o, "unit", s->unit);
	write_command(o, "start", &s->start);
	write_command(o, "reload", &s->reload);
	node_string(o, "stop_signal", s->stop_signal);
	write_u64(o, "stop_timeout", s->stop_timeout_s);
	node_bool(o, "stop_before_swap", s->stop_before_swap);
	if (s->files.count > 0)
		write_list(o, "files", &s->files);
}

static void write_hooks(struct json_node *object, const struct release *r)
{
	struct json_node *h = node_object(object, "hooks");

	write_command(h, "preflight", &r->hooks.preflight);
	write_command(h, "before_swap", &r->hooks.before_swap);
	write_command(h, "after_swap", &r->hooks.after_swap);
	write_command(h, "after_rollback", &r->hooks.after_rollback);
	write_command(h, "notify", &r->hooks.notify);
}

static void write_lists(struct json_node *object, const struct release *r)
{
	struct json_node *a = node_array(object, "artifacts");

	for (size_t i = 0; i < r->artifact_count; i++)
		write_artifact(node_object(a, NULL), &r->artifacts[i]);
	a = node_array(object, "services");
	for (size_t i = 0; i < r->service_count; i++)
		write_service(node_object(a, NULL), &r->services[i]);
	a = node_array(object, "checks");
	for (size_t i = 0; i < r->check_count; i++)
		check_write(&r->checks[i], node_object(a, NULL));
	a = node_array(object, "data");
	for (size_t i = 0; i < r->data_count; i++) {
		struct json_node *d = node_object(a, NULL);

		node_string(d, "path", r->data[i].path);
		node_string(d, "on_rollback", data_moves[r->data[i].restore_on_rollback]);
	}
}

void release_write(const struct release *r, struct json_node *object)
{
	struct json_node *tree;

	node_integer(object, "format", RELEASE_FORMAT);
	node_string(object, "component", r->component);
	node_string(object, "version", r->version);
	node_string(object, "kind", r->kind);
	labels_write(&r->compatible, object, "compatible");
	write_requires(object, r);
	tree = node_object(object, "tree");
	write_digest(tree, "digest", r->tree_digest);
	write_u64(tree, "installed_size", r->installed_size);
	write_u64(tree, "files", r->files);
	write_lists(object, r);
	write_hooks(object, r);
	write_u64(object, "probation", r->probation_s);
	write_u64(object, "watch", r->watch_s);
	write_u64(object, "boot_attempts", r->boot_attempts);
	node_bool(object, "data_compatible_back", r->data_compatible_back);
	write_text(object, "changes", r->changes);
	node_string(object, "risk", r->risk);
	write_text(object, "known_issues", r->known_issues);
	write_text(object, "post_deploy_checks", r->post_deploy_checks);
	if (r->expected_duration_s > 0)
		write_u64(object, "expected_duration", r->expected_duration_s);
}

static bool text_equal(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool list_equal(const struct string_list *a, const struct string_list *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	return true;
}

static bool command_equal(const struct release_command *a, const struct release_command *b)
{
	return list_equal(&a->argv, &b->argv) && text_equal(a->user, b->user) && a->timeout_s == b->timeout_s;
}

bool release_service_equal(const struct release_service *a, const struct release_service *b)
{
	return text_equal(a->name, b->name) && text_equal(a->unit, b->unit) &&
	       command_equal(&a->start, &b->start) && command_equal(&a->reload, &b->reload) &&
	       text_equal(a->stop_signal, b->stop_signal) && a->stop_timeout_s == b->stop_timeout_s &&
	       a->stop_before_swap == b->stop_before_swap && list_equal(&a->files, &b->files);
}
