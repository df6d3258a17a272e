/*
 * sources - what gates may ask and run, by leave of whoever runs the controller: DIR/gates.yaml
 *
 *   servers:
 *     main: {prometheus: https://prometheus.example.org:9090, ca_file: /etc/ssl/own.pem, token_file: /etc/selfright/token}
 *     pager: {alertmanager: https://alerts.example.org:9093}
 *   commands: {user: checks, folders: [/usr/local/lib/selfright-checks]}
 *   proxy: http://proxy.example.org:3128      # for http gates
 *
 * A plan names servers and programs; where they are, with which token and as whom, stands here alone: who may start
 * a rollout cannot send a secret elsewhere or run what is not meant for it.
 */
#ifndef SELFRIGHT_ROLLOUT_SOURCES_H
#define SELFRIGHT_ROLLOUT_SOURCES_H

#include "base/attr.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>

struct conf;
struct conf_error;
struct gate;

enum { SOURCES_MAX = 64, SOURCE_FOLDERS_MAX = 32 };

struct gate_server {
	char *name, *url, *ca_file, *token_file; /* ca_file NULL: the system's CAs; token_file NULL: none */
	bool is_alertmanager;
};

struct gate_sources {
	struct gate_server servers[SOURCES_MAX];
	size_t server_count;
	char *user; /* NULL: the controller's own, which must not be root */
	char *folders[SOURCE_FOLDERS_MAX];
	size_t folder_count; /* 0: no commands */
	char *proxy;
};

/* `ret` is the caller's (sources_done) only after 0. -ERR_CONFIG, -ENOMEM. */
NODISCARD int sources_read(const struct conf *root, struct gate_sources *ret, struct conf_error *e);
NODISCARD int sources_parse(const void *text, size_t len, const char *file, struct gate_sources *ret,
			    struct conf_error *e);
void sources_done(struct gate_sources *s);

const struct gate_server *sources_server(const struct gate_sources *s, const char *name); /* NULL: none */

/* May this gate be looked at? If not, `why` says what is missing. */
bool sources_allow(const struct gate_sources *s, const struct gate *g, char *why, size_t size);

#endif
