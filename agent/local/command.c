#include "agent/local/command.h"

#include "agent/local/config.h"
#include "base/err.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGUMENT_MAX = 4096, TIMEOUT_DEFAULT_S = 60 };

void command_line_done(struct command_line *l)
{
	for (size_t i = 0; i < l->argc; i++)
		free(l->argv[i]);
	free(l->argv);
	for (size_t i = 0; i < COMMAND_ENV_MAX; i++)
		free(l->env[i]);
	free(l->directory);
	free(l->user);
	*l = (struct command_line){ 0 };
}

static struct variables variables_of(const struct command_context *c)
{
	return (struct variables){ .vars = &c->config->vars, .node_id = c->config->node, .root = c->root };
}

static int expand(const struct command_context *c, const char *text, char **ret)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(ARGUMENT_MAX);
	struct variables v = variables_of(c);
	int r = variables_expand(&v, text, &b);

	if (r < 0)
		return r;
	*ret = strdup(buf_str(&b));
	return *ret ? 0 : -ENOMEM;
}

static int add_env(struct command_line *l, size_t *n, const char *name, const char *value, const char *below)
{
	if (asprintf(&l->env[*n], "%s=%s%s", name, value, below) < 0) {
		l->env[*n] = NULL;
		return -ENOMEM;
	}
	(*n)++;
	return 0;
}

int command_environment(const struct command_context *c, struct command_line *ret)
{
	struct command_line l = { 0 };
	char below[8 + ID_MAX + 1];
	size_t n = 0;
	int r;

	(void) snprintf(below, sizeof(below), "/data/%s", c->component);
	r = add_env(&l, &n, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "");
	if (r == 0)
		r = add_env(&l, &n, "LANG", "C", "");
	if (r == 0)
		r = add_env(&l, &n, "SELFRIGHT_COMPONENT", c->component, "");
	if (r == 0)
		r = add_env(&l, &n, "SELFRIGHT_VERSION", c->version, "");
	if (r == 0)
		r = add_env(&l, &n, "SELFRIGHT_NODE", c->config->node, "");
	if (r == 0)
		r = add_env(&l, &n, "SELFRIGHT_ROOT", c->root, "");
	if (r == 0)
		r = add_env(&l, &n, "SELFRIGHT_CURRENT", c->config->root, "/current");
	if (r == 0)
		r = add_env(&l, &n, "SELFRIGHT_DATA", c->config->root, below);
	if (r < 0) {
		command_line_done(&l);
		return r;
	}
	*ret = l;
	return 0;
}

static int fill_argv(const struct command_context *c, const struct release_command *command,
		     struct command_line *l)
{
	l->argv = calloc(command->argv.count + 1, sizeof(*l->argv));
	if (!l->argv)
		return -ENOMEM;
	for (size_t i = 0; i < command->argv.count; i++) {
		int r = expand(c, command->argv.items[i], &l->argv[i]);

		if (r < 0)
			return r;
		l->argc++;
	}
	if (l->argv[0][0] != '/' && strchr(l->argv[0], '/')) {
		char *path = NULL;

		if (asprintf(&path, "%s/%s", c->root, l->argv[0]) < 0)
			return -ENOMEM;
		free(l->argv[0]);
		l->argv[0] = path;
	}
	return 0;
}

int command_expand(const struct command_context *c, const struct release_command *command,
		   struct command_line *ret)
{
	struct command_line l = { 0 };
	int r;

	if (command->argv.count == 0)
		return -ERR_FIELD_MISSING;
	if (!config_allows_user(c->config, c->component, command->user))
		return -ERR_REFUSED;
	r = command_environment(c, &l);
	if (r < 0)
		return r;
	r = fill_argv(c, command, &l);
	if (r == 0) {
		l.directory = strdup(c->root);
		if (!l.directory)
			r = -ENOMEM;
	}
	/* Users are changed by root alone; an ordinary user's agent runs everything as itself. */
	if (r == 0 && geteuid() == 0) {
		l.user = strdup(command->user ? command->user : config_component_user(c->config, c->component));
		if (!l.user)
			r = -ENOMEM;
	}
	if (r < 0) {
		command_line_done(&l);
		return r;
	}
	*ret = l;
	return 0;
}

int command_start(const struct command_line *line, uint64_t timeout_s, uint64_t now_ms, struct command *ret)
{
	struct command c = COMMAND_INIT;
	int pipefd[2], r;

	if (pipe2(pipefd, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	/* Programs expect blocking output; only our end must never block. */
	(void) fcntl(pipefd[1], F_SETFL, 0); /* a program that sees EAGAIN loses a log line, no more */
	r = process_start(
		&(struct process_options){
			.argv = (const char *const *) line->argv,
			.env = (const char *const *) line->env,
			.directory = line->directory,
			.user = line->user,
			.stdin_fd = -1,
			.stdout_fd = pipefd[1],
			.stderr_fd = pipefd[1],
			.no_new_privs = line->user != NULL,
		},
		&c.process);
	close(pipefd[1]);
	if (r < 0) {
		close(pipefd[0]);
		return r;
	}
	c.fd = pipefd[0];
	c.deadline_ms = now_ms + (timeout_s ? timeout_s : TIMEOUT_DEFAULT_S) * 1000;
	*ret = c;
	return 0;
}

void tail_add(struct buf *b, const void *data, size_t len)
{
	const uint8_t *p = data;

	if (len > b->max) {
		p += len - b->max;
		len = b->max;
	}
	if (b->len + len > b->max)
		buf_consume(b, b->len + len - b->max);
	(void) !buf_add(b, p, len); /* out of memory costs some of the log, not the update */
}

static void drain(struct command *c)
{
	char chunk[2048];
	ssize_t n = 1;

	if (c->fd < 0)
		return;
	/* A program that never stops talking must not keep us here: the rest waits in the pipe. */
	for (int i = 0; i < 64 && (n = read(c->fd, chunk, sizeof(chunk))) > 0; i++)
		tail_add(&c->output, chunk, (size_t) n);
	if (n != 0)
		return;
	/* One that closes its output and goes on: a pipe at its end would wake every poll at once. */
	close(c->fd);
	c->fd = -1;
}

int command_step(struct command *c, uint64_t now_ms)
{
	int r;

	drain(c);
	if (!c->ended) {
		r = process_poll(&c->process, &c->status);
		if (r < 0)
			return r;
		if (r == 0 && now_ms < c->deadline_ms)
			return 0;
		if (r == 0) {
			process_end(&c->process, 0);
			c->ended = true;
			drain(c);
			return -ERR_DEADLINE;
		}
		c->ended = true;
		/* What it left behind in its group is no service: nobody would ever end it. */
		process_kill(&c->process, SIGKILL);
		drain(c);
	}
	return WIFEXITED(c->status) && WEXITSTATUS(c->status) == 0 ? 1 : -ERR_CHILD;
}

void command_done(struct command *c)
{
	if (c->process.pid && !c->ended)
		process_end(&c->process, 0);
	if (c->fd >= 0)
		close(c->fd);
	buf_done(&c->output);
	*c = (struct command) COMMAND_INIT;
}
