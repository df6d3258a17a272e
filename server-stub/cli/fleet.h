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

/* Send what was built; with --json print the answer. CLI_OK and *ret (may be NULL), or the exit code. */
NODISCARD int fleet_send(const struct cli *c, const char *method, const char *path, struct json_build *body,
			 struct json **ret);

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
