#include "server-stub/rollout/rules.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "conf/conf.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DURATION_MAX_S = 30 * 86400, SOAK_MAX_S = 90 * 86400, STAGES_MAX = 32, APPROVALS_MAX = 32 };
enum { TIMEOUT_DEFAULT_S = 300, VALID_DEFAULT_S = 7 * 86400, VALID_MAX_S = 366 * 86400, ARGUMENT_MAX = 4096 };

static const char *const field_names[] = {
#define RULE_FIELD_NAME_(id, name) [RULE_FIELD_##id] = name,
	RULE_FIELDS(RULE_FIELD_NAME_)
#undef RULE_FIELD_NAME_
};
static const char *const risk_names[] = {
	[RULE_RISK_LOW] = "low", [RULE_RISK_MEDIUM] = "medium", [RULE_RISK_HIGH] = "high"
};
_Static_assert(ARRAY_LEN(risk_names) == RULE_RISK_COUNT, "every risk has its name");

const char *rule_field_name(enum rule_field f)
{
	return field_names[f];
}

int rule_risk_parse(const char *name)
{
	for (int i = 0; i < RULE_RISK_COUNT; i++)
		if (str_eq(name, risk_names[i]))
			return i;
	return -1;
}

static void commands_done(struct rules *r)
{
	for (size_t i = 0; i < r->command_count; i++) {
		free(r->commands[i].name);
		string_list_done(&r->commands[i].argv);
		string_list_done(&r->commands[i].environment);
	}
	free(r->commands);
	r->commands = NULL;
	r->command_count = 0;
}

void rules_done(struct rules *r)
{
	if (!r)
		return;
	free(r->file);
	commands_done(r);
	*r = (struct rules){ 0 };
}

static int read_require(const struct conf *list, struct rules *r, struct conf_error *e)
{
	if (conf_kind(list) != CONF_LIST)
		return conf_fail(list, e, "expected a list of what must be said, e.g. require: [changes, risk]");
	memset(r->require, 0, sizeof(r->require));
	r->require_line = conf_line(list);
	for (size_t i = 0; i < conf_count(list); i++) {
		const char *name = conf_text(conf_at(list, i));
		size_t f = 0;

		while (f < RULE_FIELD_COUNT && !str_eq(name, field_names[f]))
			f++;
		if (f == RULE_FIELD_COUNT)
			return conf_fail(conf_at(list, i), e,
					 "expected changes, risk, known_issues, post_deploy_checks, "
					 "expected_duration, checks, owner or on_call, found '%s'",
					 name ? name : "");
		r->require[f] = true;
	}
	return 0;
}

static int read_risk(const struct conf *map, struct rules *r, struct conf_error *e)
{
	if (conf_kind(map) != CONF_MAP || conf_count(map) == 0)
		return conf_fail(map, e, "expected minimums by risk, e.g. risk: {high: {stages: 4, soak: 12h}}");
	memset(r->risk, 0, sizeof(r->risk));
	for (size_t i = 0; i < RULE_RISK_COUNT; i++) {
		const struct conf *item = conf_get(map, risk_names[i]);
		struct rule_minimum *m = &r->risk[i];
		int f;

		if (!item)
			continue;
		if (conf_kind(item) != CONF_MAP || conf_count(item) == 0)
			return conf_fail(item, e, "expected stages, soak or approvals");
		m->line = conf_line(item);
		f = conf_optional_u64(item, "stages", 1, STAGES_MAX, 0, &m->stages, e);
		if (f == 0)
			f = conf_optional_u64(item, "approvals", 1, APPROVALS_MAX, 0, &m->approvals, e);
		if (f == 0)
			f = conf_optional_seconds(item, "soak", 0, &m->soak_s, e);
		if (f == 0 && m->soak_s > SOAK_MAX_S)
			f = conf_fail(conf_get(item, "soak"), e, "expected a soak of at most 90d");
		if (f == 0)
			f = conf_reject_unknown(item, e);
		if (f < 0)
			return f;
	}
	return conf_reject_unknown(map, e);
}

/* Texts of a list, none with control bytes, none endless. */
static int read_texts(const struct conf *list, const char *what, size_t min, size_t max, struct string_list *ret,
		      struct conf_error *e)
{
	if (conf_kind(list) != CONF_LIST || conf_count(list) < min || conf_count(list) > max)
		return conf_fail(list, e, "expected a list of %zu to %zu texts as '%s'", min, max, what);
	for (size_t i = 0; i < conf_count(list); i++) {
		const char *text = conf_text(conf_at(list, i));
		int r;

		if (!text || strlen(text) > ARGUMENT_MAX)
			return conf_fail(conf_at(list, i), e, "expected a text of at most %d bytes", ARGUMENT_MAX);
		for (const char *p = text; *p; p++)
			if ((unsigned char) *p < 0x20 || *p == 0x7f)
				return conf_fail(conf_at(list, i), e,
						 "expected a text without control characters");
		r = string_list_add(ret, text);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_variable_name(const char *s)
{
	size_t len = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");

	return len > 0 && len <= ID_MAX && !s[len] && (*s < '0' || *s > '9');
}

static int read_argv(const struct conf *map, struct rule_command *c, struct conf_error *e)
{
	const struct conf *run = conf_get(map, "run"), *environment = conf_get(map, "environment");
	const struct rule_words nobody = { "", "", "" };
	int r;

	if (!run)
		return conf_fail(map, e, "expected 'run', the program and its arguments");
	r = read_texts(run, "run", 1, RULES_ARGV_MAX, &c->argv, e);
	if (r < 0)
		return r;
	if (c->argv.items[0][0] != '/')
		return conf_fail(conf_at(run, 0), e, "expected an absolute path of a program, found '%s'",
				 c->argv.items[0]);
	for (size_t i = 0; i < c->argv.count; i++) {
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(2 * ARGUMENT_MAX);

		r = rule_argument(c->argv.items[i], &nobody, &text);
		if (r == -ENOMEM)
			return r;
		if (r < 0 || (i == 0 && strstr(c->argv.items[0], "${")))
			return conf_fail(conf_at(run, i), e,
					 "expected ${component}, ${version} or ${release_sha256}, as an argument "
					 "only");
	}
	if (!environment)
		return 0;
	r = read_texts(environment, "environment", 0, RULES_ENVIRONMENT_MAX, &c->environment, e);
	for (size_t i = 0; r == 0 && i < c->environment.count; i++)
		if (!is_variable_name(c->environment.items[i]))
			r = conf_fail(conf_at(environment, i), e, "expected the name of a variable, found '%s'",
				      c->environment.items[i]);
	return r;
}

static int read_command(const struct conf *map, struct rule_command *c, struct conf_error *e)
{
	const char *name;
	int r;

	if (conf_kind(map) != CONF_MAP)
		return conf_fail(map, e, "expected a command, e.g. - {name: tests, run: [/usr/bin/make, test]}");
	c->line = conf_line(map);
	r = conf_need_text(map, "name", &name, e);
	if (r < 0)
		return r;
	if (!guard_id(name))
		return conf_fail(conf_get(map, "name"), e, "expected a name ([a-z0-9-], at most 63), found '%s'",
				 name);
	c->name = strdup(name);
	if (!c->name)
		return -ENOMEM;
	r = read_argv(map, c, e);
	if (r == 0)
		r = conf_optional_bool(map, "required", true, &c->required, e);
	if (r == 0)
		r = conf_optional_seconds(map, "timeout", TIMEOUT_DEFAULT_S, &c->timeout_s, e);
	if (r == 0)
		r = conf_optional_seconds(map, "valid", VALID_DEFAULT_S, &c->valid_s, e);
	if (r < 0)
		return r;
	if (c->timeout_s < 1 || c->timeout_s > RULES_TIMEOUT_MAX_S)
		return conf_fail(conf_get(map, "timeout"), e, "expected a time from 1s to 1h");
	if (c->valid_s < 1 || c->valid_s > VALID_MAX_S)
		return conf_fail(conf_get(map, "valid"), e, "expected a time from 1s to 366d");
	return conf_reject_unknown(map, e);
}

static int read_commands(const struct conf *list, struct rules *r, struct conf_error *e)
{
	if (conf_kind(list) != CONF_LIST || conf_count(list) > RULES_COMMANDS_MAX)
		return conf_fail(list, e, "expected a list of at most %d commands", RULES_COMMANDS_MAX);
	commands_done(r);
	if (conf_count(list) == 0)
		return 0;
	r->commands = calloc(conf_count(list), sizeof(*r->commands));
	if (!r->commands)
		return -ENOMEM;
	for (size_t i = 0; i < conf_count(list); i++) {
		int f;

		r->command_count = i + 1;
		f = read_command(conf_at(list, i), &r->commands[i], e);
		if (f < 0)
			return f;
		for (size_t k = 0; k < i; k++)
			if (strcmp(r->commands[k].name, r->commands[i].name) == 0)
				return conf_fail(conf_at(list, i), e, "the name '%s' is used twice",
						 r->commands[i].name);
	}
	return 0;
}

/* The keys that are there, laid over what `r` holds. */
static int read_section(const struct conf *map, struct rules *r, struct conf_error *e)
{
	const struct conf *require = conf_get(map, "require"), *duration = conf_get(map, "expected_duration"),
			  *risk = conf_get(map, "risk"), *commands = conf_get(map, "commands");
	int f = require ? read_require(require, r, e) : 0;

	if (f == 0 && duration) {
		f = conf_optional_seconds(map, "expected_duration", 0, &r->duration_max_s, e);
		r->duration_line = conf_line(duration);
		if (f == 0 && r->duration_max_s > DURATION_MAX_S)
			f = conf_fail(duration, e, "expected a time of at most 30d");
	}
	if (f == 0 && risk)
		f = read_risk(risk, r, e);
	return f == 0 && commands ? read_commands(commands, r, e) : f;
}

/* Every component's section is read, also those nobody asked for: a mistake is found on the first day. */
static int read_components(const struct conf *map, const char *component, struct rules *r, struct conf_error *e)
{
	if (conf_kind(map) != CONF_MAP || conf_count(map) > RULES_COMPONENTS_MAX)
		return conf_fail(map, e, "expected at most %d components and what is asked of each",
				 RULES_COMPONENTS_MAX);
	for (size_t i = 0; i < conf_count(map); i++) {
		const char *name = conf_key_at(map, i);
		const struct conf *section = conf_get(map, name);
		struct rules other = { 0 };
		bool ours = str_eq(name, component);
		int f;

		if (!guard_id(name))
			return conf_fail(section, e, "expected a component's name ([a-z0-9-]), found '%s'", name);
		if (conf_kind(section) != CONF_MAP)
			return conf_fail(section, e, "expected what is asked of %s, e.g. {require: [changes]}",
					 name);
		f = read_section(section, ours ? r : &other, e);
		rules_done(&other);
		if (f == 0)
			f = conf_reject_unknown(section, e);
		if (f < 0)
			return f;
	}
	return 0;
}

static int read_root(const struct conf *root, const char *component, struct rules *r, struct conf_error *e)
{
	const struct conf *components;
	int f;

	if (conf_kind(root) != CONF_MAP)
		return conf_fail(root, e, "expected require, expected_duration, risk, commands or components");
	components = conf_get(root, "components");
	f = read_section(root, r, e);
	if (f == 0 && components)
		f = read_components(components, component, r, e);
	return f == 0 ? conf_reject_unknown(root, e) : f;
}

static int read_file(const struct conf_file *f, const char *name, const char *component, struct rules *ret,
		     struct conf_error *e)
{
	struct rules rules = { .file = strdup(name) };
	int r = rules.file ? read_root(conf_root(f), component, &rules, e) : -ENOMEM;

	if (r < 0) {
		rules_done(&rules);
		return r;
	}
	*ret = rules;
	return 0;
}

int rules_parse(const void *text, size_t len, const char *file, const char *component, struct rules *ret,
		struct conf_error *e)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	int r = conf_parse(text, len, file, &f, e);

	return r < 0 ? r : read_file(f, file, component, ret, e);
}

int rules_load(const char *dir, const char *component, struct rules *ret, struct conf_error *e)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	char path[PATH_MAX];
	int r;

	if (snprintf(path, sizeof(path), "%s/" RULES_FILE, dir) >= (int) sizeof(path))
		return -ENAMETOOLONG;
	r = conf_load(path, &f, e);
	if (r == -ENOENT) {
		*ret = (struct rules){ 0 };
		return 0;
	}
	return r < 0 ? r : read_file(f, RULES_FILE, component, ret, e);
}

int rule_argument(const char *argument, const struct rule_words *words, struct buf *out)
{
	const struct {
		const char *name, *value;
	} known[] = { { "${component}", words->component },
		      { "${version}", words->version },
		      { "${release_sha256}", words->release_sha256 } };
	int r = 0;

	while (r == 0 && *argument) {
		size_t plain = strcspn(argument, "$"), k = 0;

		if (plain == 0 && argument[1] != '{')
			plain = 1; /* a dollar of its own */
		if (plain > 0) {
			r = buf_add(out, argument, plain);
			argument += plain;
			continue;
		}
		while (k < ARRAY_LEN(known) && !str_starts(argument, known[k].name))
			k++;
		if (k == ARRAY_LEN(known))
			return -ERR_FIELD_VALUE;
		r = buf_add_str(out, known[k].value);
		argument += strlen(known[k].name);
	}
	return r;
}
