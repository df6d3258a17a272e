#include "server-stub/repo/component.h"

#include "base/err.h"
#include "base/version.h"
#include "json/build.h"
#include "json/json.h"
#include "model/release.h"
#include "os/durable.h"
#include "pack/pack.h"
#include "tree/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct component {
	char folder[PATH_MAX];
	struct conf_file *file;
	const char *name, *team, *tree, *kind; /* of `file` */
};

/* Every reader below takes the map it reads, the node it writes to, and where to complain. */

static int copy_text(const struct conf *map, const char *key, struct json_node *o, struct conf_error *e)
{
	const char *text;
	int r = conf_optional_text(map, key, NULL, &text, e);

	if (r >= 0 && text && *text)
		node_string(o, key, text);
	return r;
}

static int copy_seconds(const struct conf *map, const char *key, struct json_node *o, struct conf_error *e)
{
	uint64_t seconds = UINT64_MAX;
	int r = conf_optional_seconds(map, key, UINT64_MAX, &seconds, e);

	if (r >= 0 && seconds != UINT64_MAX)
		node_integer(o, key, (int64_t) seconds);
	return r;
}

static int copy_bool(const struct conf *map, const char *key, struct json_node *o, struct conf_error *e)
{
	bool value = false;
	int r;

	if (conf_kind(conf_get(map, key)) == CONF_MISSING)
		return 0;
	r = conf_optional_bool(map, key, false, &value, e);
	if (r >= 0)
		node_bool(o, key, value);
	return r;
}

static int copy_number(const struct conf *map, const char *key, struct json_node *o, struct conf_error *e)
{
	uint64_t n = UINT64_MAX;
	int r = conf_optional_u64(map, key, 0, INT64_MAX, UINT64_MAX, &n, e);

	if (r >= 0 && n != UINT64_MAX)
		node_integer(o, key, (int64_t) n);
	return r;
}

static int copy_texts(const struct conf *map, const char *key, struct json_node *o, struct conf_error *e)
{
	const struct conf *list = conf_get(map, key);
	struct json_node *out;

	if (conf_kind(list) == CONF_MISSING)
		return 0;
	if (conf_kind(list) != CONF_LIST)
		return conf_fail(list, e, "%s is a list: [one, two]", key);
	out = node_array(o, key);
	for (size_t i = 0; i < conf_count(list); i++) {
		if (!conf_text(conf_at(list, i)))
			return conf_fail(conf_at(list, i), e, "%s holds text only", key);
		node_string(out, NULL, conf_text(conf_at(list, i)));
	}
	return 0;
}

static int copy_pairs(const struct conf *map, const char *key, struct json_node *o, struct conf_error *e)
{
	const struct conf *pairs = conf_get(map, key);
	struct json_node *out;

	if (conf_kind(pairs) == CONF_MISSING)
		return 0;
	if (conf_kind(pairs) != CONF_MAP)
		return conf_fail(pairs, e, "%s is a map: {name: value}", key);
	out = node_object(o, key);
	for (size_t i = 0; i < conf_count(pairs); i++) {
		const struct conf *value = conf_get(pairs, conf_key_at(pairs, i));

		if (!conf_text(value))
			return conf_fail(value, e, "%s holds text only", key);
		node_string(out, conf_key_at(pairs, i), conf_text(value));
	}
	return 0;
}

static bool is_empty_list(const struct conf *c)
{
	return conf_kind(c) == CONF_LIST && conf_count(c) == 0;
}

/* [program, argument...] or {command: [...], user:, timeout:}; an empty list is no command. */
static int copy_command(const struct conf *map, const char *key, struct json_node *o, struct conf_error *e)
{
	const struct conf *c = conf_get(map, key);
	struct json_node *out, *argv;
	int r;

	if (conf_kind(c) == CONF_MISSING || is_empty_list(c))
		return 0;
	if (conf_kind(c) == CONF_SCALAR)
		return conf_fail(c, e, "%s is a list, [program, argument, ...]; no shell reads it", key);
	out = node_object(o, key);
	if (conf_kind(c) == CONF_MAP) {
		r = copy_texts(c, "command", out, e);
		if (r >= 0)
			r = copy_text(c, "user", out, e);
		if (r >= 0)
			r = copy_seconds(c, "timeout", out, e);
		return r < 0 ? r : conf_reject_unknown(c, e);
	}
	argv = node_array(out, "command");
	for (size_t i = 0; i < conf_count(c); i++) {
		if (!conf_text(conf_at(c, i)))
			return conf_fail(conf_at(c, i), e, "%s holds text only", key);
		node_string(argv, NULL, conf_text(conf_at(c, i)));
	}
	return 0;
}

static int copy_service(const struct conf *c, struct json_node *o, struct conf_error *e)
{
	int r = copy_text(c, "name", o, e);

	if (r >= 0)
		r = copy_text(c, "unit", o, e);
	if (r >= 0)
		r = copy_command(c, "start", o, e);
	if (r >= 0)
		r = copy_command(c, "reload", o, e);
	if (r >= 0)
		r = copy_text(c, "stop_signal", o, e);
	if (r >= 0)
		r = copy_seconds(c, "stop_timeout", o, e);
	if (r >= 0)
		r = copy_bool(c, "stop_before_swap", o, e);
	if (r >= 0)
		r = copy_texts(c, "files", o, e);
	return r < 0 ? r : conf_reject_unknown(c, e);
}

/* What stands in the maps of httpGet and metric alike. */
static int copy_http(const struct conf *body, struct json_node *out, struct conf_error *e)
{
	static const char *const texts[] = { "scheme",	     "host",	   "port", "path",	"unixSocket",
					     "expectStatus", "expectBody", "ca",   "serverName" };
	const struct conf *headers = conf_get(body, "httpHeaders");
	struct json_node *list;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(texts); i++)
		r = copy_text(body, texts[i], out, e);
	if (r >= 0)
		r = copy_bool(body, "insecureSkipVerify", out, e);
	if (r < 0 || conf_kind(headers) == CONF_MISSING)
		return r;
	if (conf_kind(headers) != CONF_LIST)
		return conf_fail(headers, e, "httpHeaders is a list: [{name: Host, value: example.com}]");
	list = node_array(out, "httpHeaders");
	for (size_t i = 0; r >= 0 && i < conf_count(headers); i++) {
		const struct conf *h = conf_at(headers, i);
		struct json_node *o = node_object(list, NULL);

		if (conf_kind(h) != CONF_MAP)
			return conf_fail(h, e, "each of httpHeaders is a map: {name: Host, value: example.com}");
		r = copy_text(h, "name", o, e);
		if (r >= 0)
			r = copy_text(h, "value", o, e);
		if (r >= 0)
			r = conf_reject_unknown(h, e);
	}
	return r;
}

static int copy_metric(const struct conf *body, struct json_node *out, struct conf_error *e)
{
	static const char *const texts[] = { "file", "select", "of", "min", "max", "minOfBefore", "maxOfBefore" };
	int r = copy_http(body, out, e);

	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(texts); i++)
		r = copy_text(body, texts[i], out, e);
	if (r >= 0)
		r = copy_bool(body, "rate", out, e);
	if (r >= 0)
		r = copy_bool(body, "absentIsZero", out, e);
	if (r >= 0)
		r = copy_number(body, "minSamples", out, e);
	return r < 0 ? r : copy_seconds(body, "beforeSeconds", out, e);
}

static int copy_log(const struct conf *body, struct json_node *out, struct conf_error *e)
{
	int r = copy_text(body, "unit", out, e);

	if (r >= 0)
		r = copy_text(body, "file", out, e);
	if (r >= 0)
		r = copy_texts(body, "match", out, e);
	if (r >= 0)
		r = copy_texts(body, "ignore", out, e);
	if (r >= 0)
		r = copy_number(body, "maxPerMinute", out, e);
	return r < 0 ? r : copy_number(body, "maxNewKinds", out, e);
}

static int copy_status(const struct conf *body, struct json_node *out, struct conf_error *e)
{
	int r = copy_text(body, "file", out, e);

	if (r >= 0)
		r = copy_texts(body, "command", out, e);
	if (r >= 0)
		r = copy_text(body, "user", out, e);
	if (r >= 0)
		r = copy_seconds(body, "timeout", out, e);
	return r < 0 ? r : copy_bool(body, "acceptDegraded", out, e);
}

static int copy_tcp(const struct conf *body, struct json_node *out, struct conf_error *e)
{
	int r = copy_text(body, "host", out, e);

	return r < 0 ? r : copy_text(body, "port", out, e);
}

static int copy_nothing(const struct conf *body, struct json_node *out, struct conf_error *e)
{
	(void) body;
	(void) out;
	(void) e;
	return 0;
}

/* The kinds of check that are maps. */
static int copy_kinds(const struct conf *c, struct json_node *o, struct conf_error *e)
{
	static const struct {
		const char *key;
		int (*copy)(const struct conf *body, struct json_node *out, struct conf_error *e);
	} kinds[] = { { "httpGet", copy_http }, { "tcpSocket", copy_tcp }, { "metric", copy_metric },
		      { "log", copy_log },	{ "status", copy_status }, { "link", copy_nothing } };
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(kinds); i++) {
		const struct conf *body = conf_get(c, kinds[i].key);

		if (conf_kind(body) == CONF_MISSING)
			continue;
		if (conf_kind(body) != CONF_MAP)
			return conf_fail(body, e, "%s is a map", kinds[i].key);
		r = kinds[i].copy(body, node_object(o, kinds[i].key), e);
		if (r >= 0)
			r = conf_reject_unknown(body, e);
	}
	return r;
}

static int copy_check(const struct conf *c, struct json_node *o, struct conf_error *e)
{
	static const char *const seconds[] = { "initialDelaySeconds", "periodSeconds", "timeoutSeconds",
					       "deadlineSeconds" };
	static const char *const numbers[] = { "successThreshold", "failureThreshold" };
	static const char *const flags[] = { "required", "must_fix" };
	int r = copy_text(c, "name", o, e);

	if (r >= 0)
		r = copy_command(c, "exec", o, e);
	if (r >= 0)
		r = copy_text(c, "unit", o, e);
	if (r >= 0)
		r = copy_kinds(c, o, e);
	if (r >= 0)
		r = copy_texts(c, "after", o, e);
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(seconds); i++)
		r = copy_seconds(c, seconds[i], o, e);
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(numbers); i++)
		r = copy_number(c, numbers[i], o, e);
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(flags); i++)
		r = copy_bool(c, flags[i], o, e);
	return r < 0 ? r : conf_reject_unknown(c, e);
}

static int copy_data(const struct conf *c, struct json_node *o, struct conf_error *e)
{
	int r = copy_text(c, "path", o, e);

	if (r >= 0)
		r = copy_text(c, "on_rollback", o, e);
	return r < 0 ? r : conf_reject_unknown(c, e);
}

static int copy_list(const struct conf *map, const char *key, struct json_node *o,
		     int (*copy)(const struct conf *, struct json_node *, struct conf_error *),
		     struct conf_error *e)
{
	const struct conf *list = conf_get(map, key);
	struct json_node *out = node_array(o, key);
	int r = 0;

	if (conf_kind(list) == CONF_MISSING)
		return 0;
	if (conf_kind(list) != CONF_LIST)
		return conf_fail(list, e, "%s is a list, each entry after a dash", key);
	for (size_t i = 0; r >= 0 && i < conf_count(list); i++) {
		if (conf_kind(conf_at(list, i)) != CONF_MAP)
			return conf_fail(conf_at(list, i), e, "each of %s is a map with a name", key);
		r = copy(conf_at(list, i), node_object(out, NULL), e);
	}
	return r;
}

static int copy_hooks(const struct conf *map, struct json_node *o, struct conf_error *e)
{
	static const char *const names[] = { "preflight", "before_swap", "after_swap", "after_rollback",
					     "notify" };
	const struct conf *hooks = conf_get(map, "hooks");
	struct json_node *out;
	int r = 0;

	if (conf_kind(hooks) == CONF_MISSING)
		return 0;
	if (conf_kind(hooks) != CONF_MAP)
		return conf_fail(hooks, e, "hooks is a map: {preflight: [program]}");
	out = node_object(o, "hooks");
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(names); i++)
		r = copy_command(hooks, names[i], out, e);
	return r < 0 ? r : conf_reject_unknown(hooks, e);
}

static int copy_requires(const struct conf *map, struct json_node *o, struct conf_error *e)
{
	const struct conf *q = conf_get(map, "requires");
	struct json_node *out;
	uint64_t bytes = 0;
	int r;

	if (conf_kind(q) == CONF_MISSING)
		return 0;
	if (conf_kind(q) != CONF_MAP)
		return conf_fail(q, e, "requires is a map: {vars: [port]}");
	out = node_object(o, "requires");
	r = copy_text(q, "agent", out, e);
	if (r >= 0)
		r = copy_pairs(q, "components", out, e);
	if (r >= 0)
		r = copy_texts(q, "files", out, e);
	if (r >= 0)
		r = copy_texts(q, "vars", out, e);
	if (r >= 0)
		r = conf_optional_bytes(q, "free_bytes", 0, &bytes, e);
	if (r >= 0 && bytes > 0)
		node_integer(out, "free_bytes", (int64_t) bytes);
	if (r >= 0)
		r = copy_text(q, "from", out, e);
	if (r >= 0)
		r = copy_text(q, "zone_data", out, e);
	return r < 0 ? r : conf_reject_unknown(q, e);
}

/* Everything of component.yaml that goes into a release. */
static int copy_release(const struct conf *map, struct json_node *o, struct conf_error *e)
{
	static const char *const people[] = { "changes", "risk", "known_issues", "post_deploy_checks" };
	int r;

	r = copy_pairs(map, "compatible", o, e);
	if (r >= 0)
		r = copy_requires(map, o, e);
	if (r >= 0)
		r = copy_list(map, "services", o, copy_service, e);
	if (r >= 0)
		r = copy_hooks(map, o, e);
	if (r >= 0)
		r = copy_list(map, "checks", o, copy_check, e);
	if (r >= 0)
		r = copy_seconds(map, "probation", o, e);
	if (r >= 0)
		r = copy_seconds(map, "watch", o, e);
	if (r >= 0)
		r = copy_number(map, "boot_attempts", o, e);
	if (r >= 0)
		r = copy_list(map, "data", o, copy_data, e);
	if (r >= 0)
		r = copy_bool(map, "data_compatible_back", o, e);
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(people); i++)
		r = copy_text(map, people[i], o, e);
	if (r >= 0)
		r = copy_seconds(map, "expected_duration", o, e);
	return r;
}

/* The document for a version; `words` lie over what the file says. */
static int write_release(const struct component *c, const char *version, const struct artifact *a,
			 const struct release_words *words, struct buf *ret, struct conf_error *e)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(512);
	struct json_node *o = json_build_root(b), *tree, *artifact;
	char hex[SHA256_HEX + 1];
	int r;

	node_integer(o, "format", RELEASE_FORMAT);
	node_string(o, "component", c->name);
	node_string(o, "version", version);
	node_string(o, "kind", c->kind);
	r = copy_release(conf_root(c->file), o, e);
	if (r < 0)
		return r;
	if (words && words->changes)
		node_string(o, "changes", words->changes);
	if (words && words->risk)
		node_string(o, "risk", words->risk);
	tree = node_object(o, "tree");
	hex_encode(hex, a->tree_digest, SHA256_BYTES);
	node_string(tree, "digest", hex);
	node_integer(tree, "installed_size", (int64_t) a->installed_size);
	node_integer(tree, "files", (int64_t) a->files);
	artifact = node_object(node_array(o, "artifacts"), NULL);
	r = component_artifact_path(c, version, &path);
	node_string(artifact, "path", buf_str(&path));
	node_integer(artifact, "length", (int64_t) a->length);
	hex_encode(hex, a->sha256, SHA256_BYTES);
	node_string(artifact, "sha256", hex);
	node_string(artifact, "form", "full");
	node_string(artifact, "media", pack_media_name(PACK_TAR_ZSTD));
	return r < 0 ? r : json_build_text(b, true, ret);
}

struct programs {
	const struct component *component;
	struct conf_error *error;
};

/* A release whose programs were forgotten can pass no check; nodes refuse it, here it is found earlier. */
static int judge_program(void *context, const struct release_command *command, const char *what)
{
	const struct programs *p = context;
	const char *file = release_command_file(command);
	char path[2 * PATH_MAX];
	struct stat st;

	if (!file)
		return 0;
	(void) snprintf(path, sizeof(path), "%s/%s/%s", p->component->folder, p->component->tree,
			file); /* a cut one is not there */
	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111))
		return 0;
	(void) snprintf(p->error->text, sizeof(p->error->text),
			"%.200s/component.yaml: %.80s runs %.100s, which in %.60s is %s", p->component->folder,
			what, file, p->component->tree,
			access(path, F_OK) < 0 ? "missing" : "no executable file (chmod +x)");
	return -ERR_CONFIG;
}

/* The reader of the nodes has the last word; its complaint names the field. */
static int judge_release(const struct component *c, const char *version, const struct buf *text,
			 struct conf_error *e)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(512);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct string_list vars = { 0 };
	struct release release = { 0 };
	char *field = NULL;
	int r;

	r = text->len > RELEASE_MAX_BYTES ? -ERR_TOO_LARGE
					  : json_parse(text->data, text->len, &json_limits_default, &doc);
	if (r >= 0)
		r = release_parse(doc, &release, &field);
	if (r >= 0)
		r = component_release_path(c, version, &path);
	if (r >= 0)
		r = release_agrees(&release, buf_str(&path));
	if (r >= 0)
		r = release_variables(&release, &vars);
	for (size_t i = 0; r >= 0 && i < vars.count; i++)
		if (!string_list_has(&release.requires_vars, vars.items[i])) {
			r = -ERR_CONFIG;
			(void) snprintf(e->text, sizeof(e->text),
					"%.200s/component.yaml: ${vars.%.60s} is used, so requires: {vars: "
					"[%.60s]} must name it",
					c->folder, vars.items[i], vars.items[i]);
			goto out;
		}
	if (r >= 0) {
		r = release_commands(&release, judge_program, &(struct programs){ c, e });
		goto out;
	}
	/* Its complaint begins with the field's path, and what the file has there has the same names. */
	if (field)
		(void) conf_fail(conf_nearest(conf_root(c->file), field), e, "%.250s", field);
	else
		(void) snprintf(e->text, sizeof(e->text), "%.200s/component.yaml: %.250s", c->folder, err_text(r));
	r = r == -ENOMEM ? r : -ERR_CONFIG;
out:
	string_list_done(&vars);
	release_done(&release);
	free(field);
	return r;
}

int component_release(const struct component *c, const char *version, const struct artifact *a,
		      const struct release_words *words, struct buf *ret, struct conf_error *e)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4 * RELEASE_MAX_BYTES);
	int r;

	if (!version_is_valid(version)) {
		(void) snprintf(e->text, sizeof(e->text),
				"'%.70s' is no version: MAJOR.MINOR.PATCH, as in 1.4.0 or 2.0.0-rc.1", version);
		return -ERR_CONFIG;
	}
	r = write_release(c, version, a, words, &text, e);
	if (r >= 0)
		r = judge_release(c, version, &text, e);
	else if (r != -ERR_CONFIG)
		(void) snprintf(e->text, sizeof(e->text), "the release cannot be written: %s", err_text(r));
	return r < 0 ? r : buf_add(ret, text.data, text.len);
}

static int read_head(struct component *c, struct conf_error *e)
{
	const struct conf *map = conf_root(c->file);
	int r = conf_need_text(map, "component", &c->name, e);

	if (r >= 0 && !guard_id(c->name))
		r = conf_fail(conf_get(map, "component"), e,
			      "a component's name is [a-z0-9][a-z0-9-]*, at most %d", ID_MAX);
	if (r >= 0)
		r = conf_need_text(map, "team", &c->team, e);
	if (r >= 0 && !guard_id(c->team))
		r = conf_fail(conf_get(map, "team"), e, "a team's name is [a-z0-9][a-z0-9-]*");
	if (r >= 0)
		r = conf_optional_text(map, "kind", "tree", &c->kind, e);
	if (r >= 0 && !str_eq(c->kind, "tree"))
		r = conf_fail(conf_get(map, "kind"), e, "a component's kind is tree; there is no other yet");
	if (r >= 0)
		r = conf_optional_text(map, "tree", "tree", &c->tree, e);
	if (r >= 0 && !guard_path(c->tree))
		r = conf_fail(conf_get(map, "tree"), e, "tree is a folder below this file");
	return r;
}

int component_load(const char *folder, struct component **ret, struct conf_error *e)
{
	CLEANUP(component_freep)
	struct component *c = calloc(1, sizeof(*c));
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(PATH_MAX), text = BUF_INIT(4 * RELEASE_MAX_BYTES);
	const struct artifact none = { .length = 0 };
	int r;

	e->text[0] = '\0';
	if (!c)
		return -ENOMEM;
	if (strlen(folder) >= sizeof(c->folder))
		return -ENAMETOOLONG;
	(void) snprintf(c->folder, sizeof(c->folder), "%s", folder);
	r = buf_addf(&path, "%s/component.yaml", folder);
	if (r >= 0)
		r = conf_load(buf_str(&path), &c->file, e);
	if (r >= 0)
		r = read_head(c, e);
	/* A release of nothing: every complaint about the file comes here, before anything is packed. */
	if (r >= 0)
		r = component_release(c, "0.0.0", &none, NULL, &text, e);
	if (r >= 0)
		r = conf_reject_unknown(conf_root(c->file), e);
	if (r < 0) {
		if (!e->text[0])
			(void) snprintf(e->text, sizeof(e->text), "%.400s/component.yaml: %s", folder,
					err_text(r));
		return r;
	}
	*ret = c;
	c = NULL;
	return 0;
}

void component_free(struct component *c)
{
	if (!c)
		return;
	conf_file_free(c->file);
	free(c);
}

const char *component_name(const struct component *c)
{
	return c->name;
}

const char *component_team(const struct component *c)
{
	return c->team;
}

int component_artifact_path(const struct component *c, const char *version, struct buf *ret)
{
	return buf_addf(ret, "%s/%s/%s.tar.zst", c->name, version, c->name);
}

int component_release_path(const struct component *c, const char *version, struct buf *ret)
{
	return buf_addf(ret, "%s/%s/release.json", c->name, version);
}

int component_pack(const struct os *os, const struct component *c, int level, int out_fd, struct artifact *ret,
		   struct conf_error *e)
{
	CLEANUP(tree_done)
	struct tree tree = { 0 };
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(PATH_MAX);
	struct artifact a = { .length = 0 };
	char *offender = NULL;
	int r, fd = -1;

	r = buf_addf(&path, "%s/%s", c->folder, c->tree);
	if (r >= 0) {
		fd = dir_open(os, AT_FDCWD, buf_str(&path));
		r = fd < 0 ? fd : 0;
	}
	if (r >= 0)
		r = tree_scan(os, fd, (uid_t) -1, NULL, NULL, &tree, &offender);
	if (r >= 0)
		r = tree_digest(&tree, a.tree_digest);
	if (r >= 0)
		r = pack_create(os, fd, &tree, level, out_fd, &a.length, a.sha256);
	if (fd >= 0)
		(void) os->close(os, fd); /* a folder */
	if (r < 0)
		(void) snprintf(e->text, sizeof(e->text), "%.250s%s%.100s: %.100s", buf_str(&path),
				offender ? "/" : "", offender ? offender : "", err_text(r));
	free(offender);
	if (r < 0)
		return r;
	a.installed_size = tree.total_bytes;
	a.files = tree.files;
	*ret = a;
	return 0;
}

int component_template(const char *name, const char *team, const char *unit, struct buf *ret)
{
	int r = buf_addf(ret,
			 "# What nodes must know about this component; `selfright release --help` says how it "
			 "becomes a release.\n"
			 "component: %s\n"
			 "team: %s                  # role team-%s signs its releases\n"
			 "kind: tree\n"
			 "tree: tree                # the folder with the files, beside this one\n",
			 name, team, team);

	if (r >= 0)
		r = unit ? buf_addf(ret,
				    "services:\n"
				    "  - name: %s\n"
				    "    # The node's own unit of this name. Where `systemctl link "
				    "/var/lib/selfright/current/%s/%s`\n"
				    "    # was run once, every version brings its own.\n"
				    "    unit: %s\n"
				    "checks:\n"
				    "  - name: running\n"
				    "    unit: %s\n"
				    "    periodSeconds: 2\n",
				    name, name, unit, unit, unit)
			 : buf_add_str(
				   ret,
				   "# services:\n"
				   "#   - name: example\n"
				   "#     start: [bin/start, \"${vars.port}\"]\n"
				   "#     stop_signal: SIGTERM\n"
				   "# requires: {vars: [port]}\n"
				   "# A check of the component itself proves an update; without one it ends as "
				   "good-unproven.\n"
				   "# checks of a service, for example:\n"
				   "#   - name: answers\n"
				   "#     httpGet: {port: \"${vars.port}\", path: /healthz}\n"
				   "#     periodSeconds: 1\n"
				   "#   - name: file\n"
				   "#     exec: {command: [test, -e, index.html]}\n"
				   "checks:\n"
				   "  - name: content        # the new tree holds something; replace it by what "
				   "users need\n"
				   "    exec: {command: [sh, -c, \"ls | grep -q .\"]}\n"
				   "    periodSeconds: 2\n");
	if (r >= 0)
		r = buf_add_str(ret, "  - name: link           # this node still reaches its controller\n"
				     "    link: {}\n"
				     "probation: 60s           # failing checks undo the swap for this long\n"
				     "watch: 0s\n"
				     "changes: first version\n"
				     "risk: low\n");
	return r;
}
