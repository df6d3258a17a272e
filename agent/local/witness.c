#include "agent/local/witness.h"

#include "agent/local/config.h"
#include "base/text.h"
#include "conf/conf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARGS_MAX = 16, LOOK_S = 5, DEADLINE_S = 15 };

static const struct {
	const char *word;
	char letter;
	enum witness who;
} rows[] = {
	{ "resolver", 'r', WITNESS_RESOLVER }, { "gateway", 'g', WITNESS_GATEWAY },
	{ "proxy", 'p', WITNESS_PROXY },       { "broker", 'b', WITNESS_BROKER },
	{ "origin", 'o', WITNESS_ORIGIN },
};

static int add(struct command_line *l, const char *text)
{
	l->argv[l->argc] = strdup(text);
	return l->argv[l->argc++] ? 0 : -ENOMEM;
}

/* "--tcp", "broker=host:port" */
static int add_address(struct command_line *l, const char *who, const char *address)
{
	char *text = NULL;
	int r = add(l, "--tcp");

	if (r == 0)
		r = asprintf(&text, "%s=%s", who, address) < 0 ? -ENOMEM : 0;
	if (r == 0)
		r = add(l, text);
	free(text);
	return r;
}

/* "https://host:port/..." as "host:port", and the host alone. */
static bool split_origin(const char *url, char address[static 300], char host[static 256])
{
	const char *start = strstr(url, "://");
	size_t len, port;

	if (!start)
		return false;
	start += 3;
	len = strcspn(start, "/");
	port = len;
	while (port > 0 && start[port - 1] != ':' && start[port - 1] != ']')
		port--;
	if (port == 0 || start[port - 1] != ':')
		port = len + 1;
	if (len >= 256)
		return false;
	(void) snprintf(host, 256, "%.*s", (int) (port - 1), start);
	(void) snprintf(address, 300, "%.*s%s", (int) len, start, port > len ? ":443" : "");
	return true;
}

static int add_roads(const struct config *c, struct command_line *l)
{
	char origin[300], host[256], proxy[300], broker[300];
	bool has_origin = c->urls.count > 0 && split_origin(c->urls.items[0], origin, host);
	int r = 0;

	if (has_origin) {
		r = add(l, "--name");
		if (r == 0)
			r = add(l, host);
		if (r == 0 && config_uses_proxy(c, host))
			r = config_proxy_address(c, proxy, sizeof(proxy)) ? add_address(l, "proxy", proxy) : 0;
		else if (r == 0)
			r = add_address(l, "origin", origin);
	}
	/* Through a proxy nobody but the proxy is reached from here. */
	if (r == 0 && c->broker.host && !config_uses_proxy(c, c->broker.host)) {
		(void) snprintf(broker, sizeof(broker), "%.250s:%u", c->broker.host, c->broker.port);
		r = add_address(l, "broker", broker);
	}
	return r;
}

int witness_start(const struct config *c, bool as_root, uint64_t now_ms, struct command *ret)
{
	struct command_line l = { .argv = calloc(ARGS_MAX + 1, sizeof(char *)) };
	struct conf_error error = { "" };
	char *program = NULL, seconds[24];
	int r = l.argv ? config_program(c, "selfright-probe", &program, &error) : -ENOMEM;

	(void) snprintf(seconds, sizeof(seconds), "%d", LOOK_S);
	if (r == 0)
		r = add(&l, program);
	if (r == 0)
		r = add(&l, "network");
	if (r == 0)
		r = add(&l, "--timeout");
	if (r == 0)
		r = add(&l, seconds);
	if (r == 0)
		r = add_roads(c, &l);
	if (r == 0 && as_root) {
		l.user = strdup(c->users.link);
		r = l.user ? 0 : -ENOMEM;
	}
	if (r == 0)
		r = command_start(&l, DEADLINE_S, now_ms, ret);
	command_line_done(&l);
	free(program);
	return r;
}

unsigned witness_read(const struct command *c)
{
	const char *text = buf_str(&c->output);
	unsigned who = 0;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char line[32];
		const char *at;

		(void) snprintf(line, sizeof(line), "%s yes\n", rows[i].word);
		at = strstr(text, line);
		if (at && (at == text || at[-1] == '\n'))
			who |= rows[i].who;
	}
	return who;
}

const char *witness_text(unsigned who, char out[static WITNESS_TEXT_MAX])
{
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (who & rows[i].who)
			len += (size_t) snprintf(out + len, WITNESS_TEXT_MAX - len, "%s%s", len > 0 ? ", " : "",
						 rows[i].word); /* all five fit */
	return len > 0 ? out : "nobody";
}

void witness_encode(unsigned who, char out[static WITNESS_CODE_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (who & rows[i].who)
			out[n++] = rows[i].letter;
	out[n] = '\0';
}

unsigned witness_decode(const char *code)
{
	unsigned who = 0;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (strchr(code, rows[i].letter))
			who |= rows[i].who;
	return who;
}
