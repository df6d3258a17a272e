/*
 * fleet - what the commands about rollouts, nodes and freezes share.
 */
#ifndef SELFRIGHT_CLI_FLEET_H
#define SELFRIGHT_CLI_FLEET_H

#include "base/attr.h"
#include "base/buf.h"
#include "server-stub/cli/cli.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct json_build;
struct json_node;
struct labels;
struct plan;

/* Who gives the command: $SUDO_USER, or the user's name. */
const char *fleet_by(void);

/* "k=v" items as labels. Negative: fine; else the exit code, said. */
NODISCARD int fleet_labels(const struct cli *c, const char *option, const struct cli_values *values,
			   struct labels *ret);

/* Is it an id (of a node, component, rollout)? Negative: yes; else the exit code, said. */
NODISCARD int fleet_check_id(const struct cli *c, const char *what, const char *id);

/* The option that says why, into a static `const char *`; every command that changes something for others takes it. */
#define FLEET_REASON_OPTION(target)                                                                               \
	{                                                                                                         \
		.name = "reason", .value = "TEXT", .help = "why, for the people who read it later",               \
		.text = &(target)                                                                                 \
	}
/* Was it given? Negative: yes; else the exit code, said. */
NODISCARD int fleet_need_reason(const struct cli *c, const char *reason);

/*
 * How a command about one thing of the fleet begins: cli_open(), and its first argument is the id of a `first`, the one after it
 * of a `second` unless that is NULL. Negative: go on; else the exit code, said.
 */
NODISCARD int fleet_open(const struct cli_command *command, int argc, char **argv, const char *first,
			 const char *second, struct cli *ret);

/* Send what was built; with --json print the answer. CLI_OK and *ret (may be NULL), or the exit code. */
NODISCARD int fleet_send(const struct cli *c, const char *method, const char *path, struct json_build *body,
			 struct json **ret);

/*
 * A command that changes something of the fleet: what was said on its line, the request it makes of that, and the
 * answer. CLEANUP(change_done) struct change x = { 0 };
 */
struct change {
	struct cli c;
	struct json_build *build; /* of the request */
	struct json_node *request; /* its object */
	struct json *answer; /* once it was sent */
};
/* It begins as with fleet_open(); `first` NULL: its arguments are no ids, or may be missing. */
NODISCARD int change_open(const struct cli_command *command, int argc, char **argv, const char *first,
			  const char *second, struct change *ret);
/* Why: as with fleet_need_reason(), and it goes into the request. */
NODISCARD int change_need_reason(struct change *x, const char *reason);
/* Send it, as with fleet_send(), to the path. CLI_OK, or the exit code. */
NODISCARD int change_send(struct change *x, const char *method, const char *path, ...) PRINTF_LIKE(3, 4);
void change_done(struct change *x);

/* Where a plan's stages stand in the file it was read from, so that the controller's complaints can name them. */
void fleet_plan_lines(const struct plan *plan, const char *path, struct json_node *request);

/* After a change: say so if it is not published yet. */
void fleet_say_published(const struct cli *c, const struct json *answer);

/* A member's text, "" if it has none. */
const char *fleet_text(const struct json *object, const char *name);
/* "3m ago" of an RFC 3339 member, "never". Returns `out`. */
const char *fleet_ago(const struct json *object, const char *name, char *out, size_t size);
/* RFC 3339 of now + seconds. */
void fleet_after(uint64_t seconds, char out[static 21]);

#endif
