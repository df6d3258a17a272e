/*
 * config - what this node is and what components may do here, from people's files.
 *
 * <dir>/agent.yaml, <dir>/components.d/<component>.yaml, <dir>/collect.d/<set>.yaml, and the *.yaml of <dir>/vars.d
 * (flat maps, merged in the order of their names, later files win). Every complaint
 * names file and line; a key nobody knows is one. The tree is read once; the
 * strings live until config_done().
 */
#ifndef SELFRIGHT_LOCAL_CONFIG_H
#define SELFRIGHT_LOCAL_CONFIG_H

#include "base/attr.h"
#include "base/text.h"
#include "model/labels.h"
#include "model/release.h"
#include "zone/window.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf_error;
struct zone;

#define CONFIG_DIR_DEFAULT "/etc/selfright"
#define CONFIG_ROOT_DEFAULT "/var/lib/selfright"
#define CONFIG_RUN_DEFAULT "/run/selfright"
#define CONFIG_PROGRAMS_DEFAULT "/usr/libexec/selfright"

/* What a component may do on this node; the absence of a file gives the defaults. */
struct config_component {
	char *name; /* NULL in the default */
	struct string_list kinds; /* "tree" */
	char *user; /* of its services, hooks and checks; NULL: users.component */
	struct string_list users; /* further ones a release may ask for */
	struct string_list units; /* of the service manager */
	struct string_list data; /* prefixes */
	bool restore_data; /* an order may put data back that was copied before a swap */
};

/* What support may ask for by its name, and nothing else of this machine (collect.d). */
enum { CONFIG_SET_DEFAULT_BYTES = 8 * 1024 * 1024, CONFIG_SET_MAX_BYTES = 60 * 1024 * 1024 };
struct config_set {
	char *name;
	struct string_list files; /* absolute; the last part may be a pattern of fnmatch(3) */
	uint64_t max_bytes; /* of all of them */
};

/* A ceiling, and another one for some hours. */
struct config_pace {
	uint64_t rate, busy_rate; /* bytes per second; 0: no ceiling */
	struct windows busy; /* when busy_rate holds instead, by the clock of the node's zone */
};

struct config {
	char *dir;
	char fleet[ID_MAX + 1], node[ID_MAX + 1];
	char *root, *run;
	struct string_list urls; /* https, each with a '/' at its end */
	struct string_list mirrors; /* the same, asked first for what is named by version or hash */
	struct {
		struct config_pace pace;
		uint64_t stall_s; /* a server that brings next to nothing for so long is left */
		uint64_t slow_rate,
			slow_for_s; /* one that brings less, for so long, is left for another; 0: none is */
		uint64_t spread_s; /* nodes begin within it, each at its own moment; 0: at once */
	} download;
	struct config_pace upload; /* of collections; that of downloads where agent.yaml says nothing */
	struct string_list
		redirect_hosts; /* where a server may send on to besides itself: "host" or "host:port" */
	struct string_list folders; /* absolute; each the repository's tree, or a tar of one */
	struct string_list roads; /* to files, in order: "file", "https", "mqtt"; each once, never empty */
	struct {
		char *host; /* NULL: no broker */
		unsigned port;
		struct string_list addresses; /* go there instead of asking a resolver */
		char *alpn; /* NULL: "mqtt" on port 443, else none */
		unsigned keepalive_s; /* 0: adaptive */
		uint64_t retry_base_s, retry_cap_s, refused_cap_s, after_stable_s;
	} broker;
	struct labels labels, vars;
	struct {
		char *link, *stage, *component;
	} users;
	struct {
		uint64_t with_broker_s, without_broker_s;
	} poll;
	unsigned zone_data_months; /* older zone data is told; 0: never */
	char *metrics_file; /* a Prometheus textfile the agent writes; NULL: none */
	uint64_t metrics_every_s;
	uint64_t measure_every_s; /* how often metrics that releases declare are read for reports; 0: never */
	struct string_list inhibit_users; /* who may hold off updates, besides root */
	unsigned keep_versions, max_swaps_per_day;
	uint64_t quota_bytes; /* of the whole root folder; 0: none */
	uint64_t probation_cap_s; /* 0: none */
	uint64_t link_deadline_s, report_s;
	bool rehearse; /* `selfright-agent rehearse` may make an update fail or kill the agent */
	uint64_t offline_grace_s; /* how long expired online metadata still count from a bundle; 0: not at all */
	uint64_t handover_s; /* how long a new agent may take to prove itself */
	bool demo_single_key_agent; /* take agent releases that one key signs */
	char *programs; /* NULL: looked for by config_program */
	char *proxy; /* "http://[user:password@]host[:port]" or socks5h; NULL: the environment's, if it names one */
	struct string_list no_proxy; /* hosts that are reached without it */
	struct config_component *components;
	size_t component_count;
	struct config_component otherwise; /* for components without a file */
	struct config_set *sets;
	size_t set_count;
};

/* Read the whole folder. -ERR_CONFIG with the sentence in *ret_error; *ret is untouched then. */
NODISCARD int config_load(const char *dir, struct config *ret, struct conf_error *ret_error);
void config_done(struct config *c);

/* NULL: this node defines no such set. */
const struct config_set *config_set(const struct config *c, const char *name);

/* Never NULL. */
const struct config_component *config_component(const struct config *c, const char *component);

/* The user that runs this component's commands when the release names none. */
const char *config_component_user(const struct config *c, const char *component);

/* May a command of this component run as `user` (NULL: its default)? */
bool config_allows_user(const struct config *c, const char *component, const char *user);

/* Do the users exist that processes are to run as? Asked when started as root. -ERR_CONFIG. */
NODISCARD int config_check_users(const struct config *c, struct conf_error *ret_error);

/*
 * The absolute path of one of our programs ("selfright-link"): for an agent of a release in
 * the store its own libexec/selfright, and nothing else; else in `programs`, else beside
 * the running program, in ../libexec/selfright from there, where it was installed, or in
 * CONFIG_PROGRAMS_DEFAULT. -ENOENT with every path tried in *ret_error. Free it.
 */
NODISCARD int config_program(const struct config *c, const char *name, char **ret, struct conf_error *ret_error);

/* How fast it may be at `now`; 0: no ceiling. In a zone that is not known here (NULL), the slower of the two. */
uint64_t config_pace_at(const struct config_pace *p, const struct zone *zone, int64_t now);

/* May files come by this road, "file", "https" or "mqtt"? */
bool config_road_is_open(const struct config *c, const char *road);

/*
 * The environment of the processes that go out: a clean one, with https_proxy and no_proxy of
 * the configuration, else of our own environment. Never as arguments: a proxy may have a
 * password, and everybody can read those.
 */
struct road_environment {
	char *items[8]; /* "NAME=value", the one after the last NULL */
	size_t count;
};
NODISCARD int config_road_environment(const struct config *c, struct road_environment *ret);
void road_environment_done(struct road_environment *e);

/* "host:port" of the proxy, without user and password. False: there is none. */
bool config_proxy_address(const struct config *c, char *out, size_t size);

/* Is a proxy in force for `host`? */
bool config_uses_proxy(const struct config *c, const char *host);
/* The one that is; NULL: none. Borrowed from the configuration or the environment. */
const char *config_proxy(const struct config *c, const char *host);

/* "<run>/agent.sock". Free it; NULL when out of memory. */
char *config_socket_path(const struct config *c);

#endif
