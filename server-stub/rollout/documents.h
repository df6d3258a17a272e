/*
 * documents - what the controller publishes, built from what it decided:
 * rollouts/index.json, rollouts/<id>.json, nodes/<id>.json (DESIGN.md section 5).
 * JSON text, the same bytes for the same facts.
 */
#ifndef SELFRIGHT_ROLLOUT_DOCUMENTS_H
#define SELFRIGHT_ROLLOUT_DOCUMENTS_H

#include "base/attr.h"
#include "base/buf.h"
#include "model/rollout.h"
#include "server-stub/rollout/plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct document_rollout {
	const char *id;
	uint64_t seq;
	enum rollout_state state;
	const struct plan *plan;
	const bool *open; /* by stage */
	const int64_t *opened_at; /* the same; NULL: not said */
	const char *release_path;
	uint8_t release_sha256[SHA256_BYTES];
	const struct release_ref *with; /* as many as plan->with_count, in its order */
	const struct string_list *undo; /* stage names; NULL: none */
	struct json *const *approvals; /* by stage, each an array or NULL; NULL: none at all */
	const char *
		plan_sha256; /* of the plan that lies beside it (repo/plans.h): for a controller that lost its own; NULL: none */
};
NODISCARD int document_rollout(const struct document_rollout *in, struct buf *out);

/* The target path of a rollout: "rollouts/<id>.json". */
NODISCARD int document_rollout_path(const char *id, struct buf *out);
NODISCARD int document_orders_path(const char *node, struct buf *out);

NODISCARD int document_index(const struct rollout_index *index, struct buf *out);
NODISCARD int document_orders(const struct node_orders *orders, struct buf *out);

/* One rollout as far as the index cares. */
struct index_candidate {
	const char *component;
	const struct plan_with *with; /* further components */
	size_t with_count;
	uint64_t seq;
	enum rollout_state state;
	bool covers_all;
	bool undoes; /* has undo stages */
	bool undo_settled; /* every affected node has reported */
	int64_t state_at;
};
/*
 * Does it still stand in the index (DESIGN.md section 5 "Rollouts")? Running and paused ones do; a done one until
 * a done one with a higher seq for its component selects every node; halted or cancelled with undo until every
 * affected node has reported, halted ones without until superseded, all of these 90 days at most.
 */
bool index_lists(const struct index_candidate *c, const struct index_candidate *all, size_t count, int64_t now);

#endif
