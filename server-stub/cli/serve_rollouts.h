/*
 * serve_rollouts - a rollout of the database, looked up and told, for those who show, start and change one.
 */
#ifndef SELFRIGHT_CLI_SERVE_ROLLOUTS_H
#define SELFRIGHT_CLI_SERVE_ROLLOUTS_H

#include "base/attr.h"
#include "base/text.h"
#include "server-stub/rollout/plan.h"

#include <stdbool.h>
#include <stddef.h>

struct evaluated_member;
struct evaluation;
struct json_node;
struct serve;
struct web_request;

struct found_rollout {
	struct serve *serve;
	struct json_node *o; /* told into it; NULL: only looked up */
	char *plan; /* JSON, the caller's (free) */
	char component[ID_MAX + 1], undo[4096];
	enum rollout_state state;
};
/* Found, or a complaint was sent (false). `id` NULL: complained of already. */
NODISCARD bool rollout_is_known(struct serve *s, struct web_request *rq, const char *id,
				struct found_rollout *ret);

/* "with", "stages" with their nodes, "why" and "wake_at". */
void evaluation_write(const struct serve *s, struct json_node *o, const struct evaluation *e);
/* Successes of nodes that joined a moment ago do not count yet. */
bool member_is_young(const struct serve *s, const struct evaluation *e, const struct evaluated_member *m);

/* Would taking these stages (a JSON list) back leave nodes without the component? *ret_list names them. serve_change.c */
NODISCARD int undo_leaves_bare(struct serve *s, const char *id, const struct evaluation *e, const char *undo,
			       char *ret_list, size_t size, size_t *ret_count);

#endif
