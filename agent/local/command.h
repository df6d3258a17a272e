/*
 * command - what a release may start, with the environment every such program gets.
 *
 * No shell, variables filled in per argument, a clean environment, the working
 * folder ${root}: argv[0] with a '/' inside is relative to it, without one it is
 * looked up in PATH. Runs beside the caller's loop: start, step until it ended.
 */
#ifndef SELFRIGHT_LOCAL_COMMAND_H
#define SELFRIGHT_LOCAL_COMMAND_H

#include "base/attr.h"
#include "base/buf.h"
#include "model/release.h"
#include "os/process.h"

#include <stdbool.h>
#include <stdint.h>

struct config;

enum { COMMAND_TAIL_MAX = 4096, COMMAND_ENV_MAX = 12 };

/* Who runs what, where. All borrowed. */
struct command_context {
	const struct config *config;
	const char *component, *version;
	const char *root; /* ${root}: <root>/current/<component>, or the sealed new tree */
};

/* The arguments with variables filled in; NULL-terminated as exec takes them. */
struct command_line {
	char **argv;
	size_t argc;
	char *env[COMMAND_ENV_MAX + 1];
	char *directory;
	char *user; /* NULL: stay who we are */
};
void command_line_done(struct command_line *l);

/* -ERR_FIELD_MISSING: a variable this node does not define; -ERR_REFUSED: a user local configuration does not allow. */
NODISCARD int command_expand(const struct command_context *c, const struct release_command *command,
			     struct command_line *ret);

/* Only the environment, for checks. */
NODISCARD int command_environment(const struct command_context *c, struct command_line *ret);

struct command {
	struct process process; /* pid 0: none */
	int fd; /* its output, non-blocking; -1: none */
	uint64_t deadline_ms;
	struct buf output; /* the newest COMMAND_TAIL_MAX bytes */
	bool ended;
	int status;
};
#define COMMAND_INIT                                                                                              \
	{                                                                                                         \
		.fd = -1, .output = BUF_INIT(COMMAND_TAIL_MAX)                                                    \
	}

/* Start it; `timeout_s` 0: a minute. */
NODISCARD int command_start(const struct command_line *line, uint64_t timeout_s, uint64_t now_ms,
			    struct command *ret);

/* 0: it runs; 1: exited 0; -ERR_CHILD: it failed (status, output); -ERR_DEADLINE: killed. */
NODISCARD int command_step(struct command *c, uint64_t now_ms);

/* End what runs, with all it started, and free. Ready for command_start again. */
void command_done(struct command *c);

/* Keep the newest bytes of `b` when `len` more come. */
void tail_add(struct buf *b, const void *data, size_t len);

#endif
