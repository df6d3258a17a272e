#include "server-stub/rollout/sources.h"

#include "base/err.h"
#include "conf/conf.h"
#include "server-stub/rollout/gate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sources_done(struct gate_sources *s)
{
	for (size_t i = 0; i < s->server_count; i++) {
		free(s->servers[i].name);
		free(s->servers[i].url);
		free(s->servers[i].ca_file);
		free(s->servers[i].token_file);
	}
	for (size_t i = 0; i < s->folder_count; i++)
		free(s->folders[i]);
	free(s->user);
	free(s->proxy);
	*s = (struct gate_sources){ 0 };
}

static int copy_text(const char *text, char **ret)
{
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static bool is_url(const char *text)
{
	const char *host = !text			  ? NULL
			   : str_starts(text, "https://") ? text + 8
			   : str_starts(text, "http://")  ? text + 7
							  : NULL;

	return host && *host && *host != '/' && !strpbrk(text, " ?#@\\");
}

static int read_path(const struct conf *map, const char *name, char **ret, struct conf_error *e)
{
	const struct conf *item = conf_get(map, name);

	if (!item)
		return 0;
	if (!conf_text(item) || conf_text(item)[0] != '/')
		return conf_fail(item, e, "expected '%s' as an absolute path, found '%s'", name,
				 conf_text(item) ? conf_text(item) : "");
	return copy_text(conf_text(item), ret);
}

static int read_server(const struct conf *map, const char *name, struct gate_server *s, struct conf_error *e)
{
	const struct conf *prometheus, *alertmanager, *url;
	int r;

	if (conf_kind(map) != CONF_MAP || !guard_id(name))
		return conf_fail(map, e,
				 "expected a server, e.g. main: {prometheus: https://prometheus.example.org}");
	r = copy_text(name, &s->name);
	if (r < 0)
		return r;
	prometheus = conf_get(map, "prometheus");
	alertmanager = conf_get(map, "alertmanager");
	if (!prometheus == !alertmanager)
		return conf_fail(map, e, "expected one of prometheus and alertmanager, with its URL");
	url = prometheus ? prometheus : alertmanager;
	if (!is_url(conf_text(url)))
		return conf_fail(url, e, "expected a URL like https://prometheus.example.org:9090, found '%s'",
				 conf_text(url) ? conf_text(url) : "");
	s->is_alertmanager = alertmanager != NULL;
	r = copy_text(conf_text(url), &s->url);
	if (r == 0)
		r = read_path(map, "ca_file", &s->ca_file, e);
	if (r == 0)
		r = read_path(map, "token_file", &s->token_file, e);
	if (r < 0)
		return r;
	if (s->token_file && !str_starts(s->url, "https://"))
		return conf_fail(
			map, e, "expected https:// beside a token_file: anybody on the road could read the token");
	return conf_reject_unknown(map, e);
}

static int read_servers(const struct conf *map, struct gate_sources *s, struct conf_error *e)
{
	int r = 0;

	if (!map)
		return 0;
	if (conf_kind(map) != CONF_MAP || conf_count(map) > SOURCES_MAX)
		return conf_fail(map, e, "expected at most %d servers by name", SOURCES_MAX);
	for (size_t i = 0; r == 0 && i < conf_count(map); i++) {
		const char *name = conf_key_at(map, i);

		r = read_server(conf_get(map, name), name, &s->servers[s->server_count++], e);
	}
	return r;
}

static int read_commands(const struct conf *map, struct gate_sources *s, struct conf_error *e)
{
	const struct conf *list;
	const char *user = NULL;
	int r;

	if (!map)
		return 0;
	if (conf_kind(map) != CONF_MAP)
		return conf_fail(map, e,
				 "expected commands, e.g. {user: checks, folders: [/usr/local/lib/checks]}");
	r = conf_optional_text(map, "user", NULL, &user, e);
	if (r == 0 && user)
		r = copy_text(user, &s->user);
	if (r < 0)
		return r;
	list = conf_get(map, "folders");
	if (conf_kind(list) != CONF_LIST || conf_count(list) == 0 || conf_count(list) > SOURCE_FOLDERS_MAX)
		return conf_fail(list ? list : map, e,
				 "expected 'folders', a list of 1 to %d folders whose programs may be run",
				 SOURCE_FOLDERS_MAX);
	for (size_t i = 0; r == 0 && i < conf_count(list); i++) {
		const char *text = conf_text(conf_at(list, i));

		if (!text || text[0] != '/' || !guard_path(text + 1))
			return conf_fail(conf_at(list, i), e,
					 "expected an absolute path without '..' and a last '/', found '%s'",
					 text ? text : "");
		r = copy_text(text, &s->folders[s->folder_count]);
		s->folder_count += r == 0;
	}
	return r < 0 ? r : conf_reject_unknown(map, e);
}

int sources_read(const struct conf *root, struct gate_sources *ret, struct conf_error *e)
{
	struct gate_sources s = { 0 };
	const struct conf *proxy;
	int r = 0;

	if (conf_kind(root) != CONF_MAP)
		return conf_fail(root, e, "expected servers, commands or proxy");
	proxy = conf_get(root, "proxy");
	if (proxy && !is_url(conf_text(proxy)))
		r = conf_fail(proxy, e, "expected a URL like http://proxy.example.org:3128");
	if (r == 0 && proxy)
		r = copy_text(conf_text(proxy), &s.proxy);
	if (r == 0)
		r = read_servers(conf_get(root, "servers"), &s, e);
	if (r == 0)
		r = read_commands(conf_get(root, "commands"), &s, e);
	if (r == 0)
		r = conf_reject_unknown(root, e);
	if (r < 0) {
		sources_done(&s);
		return r;
	}
	*ret = s;
	return 0;
}

int sources_parse(const void *text, size_t len, const char *file, struct gate_sources *ret, struct conf_error *e)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	int r = conf_parse(text, len, file, &f, e);

	return r < 0 ? r : sources_read(conf_root(f), ret, e);
}

const struct gate_server *sources_server(const struct gate_sources *s, const char *name)
{
	for (size_t i = 0; i < s->server_count; i++)
		if (str_eq(s->servers[i].name, name))
			return &s->servers[i];
	return NULL;
}

static bool allow_server(const struct gate_sources *s, const struct gate *g, const char *name, bool any, char *why,
			 size_t size)
{
	const struct gate_server *server = sources_server(s, name);

	if (server && (any || !server->is_alertmanager))
		return true;
	snprintf(why, size,
		 server ? "the gate '%s' has a query, and '%s' in gates.yaml is an Alertmanager"
			: "the gate '%s' asks the server '%s', which gates.yaml does not name",
		 g->name, name);
	return false;
}

/* Directly in one of the folders, or below. */
static bool allow_command(const struct gate_sources *s, const struct gate *g, char *why, size_t size)
{
	const char *program = g->u.command.argv[0];

	for (size_t i = 0; i < s->folder_count; i++) {
		size_t len = strlen(s->folders[i]);

		if (strncmp(program, s->folders[i], len) == 0 && program[len] == '/')
			return true;
	}
	snprintf(why, size,
		 "the gate '%s' runs %s, which is in no folder that gates.yaml allows (commands: folders)",
		 g->name, program);
	return false;
}

bool sources_allow(const struct gate_sources *s, const struct gate *g, char *why, size_t size)
{
	switch (g->kind) {
	case GATE_PROMETHEUS:
		return allow_server(s, g, g->u.prometheus.server, false, why, size);
	case GATE_ALERTS:
		return allow_server(s, g, g->u.alerts.server, true, why, size);
	case GATE_COMMAND:
		return allow_command(s, g, why, size);
	default:
		return true;
	}
}
