/*
 * rebuild - a rollout as its published document tells it, for a controller that came back from an old backup, or
 * without one (DESIGN.md section 4 "Versions and restored backups").
 *
 * What nodes obey stands in the document: releases, stages, windows, limits. Soaks, gates and what is borne stand in the
 * plan, which lies beside it (repo/plans.h); without that they are the careful defaults. A person decides whether it goes on.
 */
#ifndef SELFRIGHT_ROLLOUT_REBUILD_H
#define SELFRIGHT_ROLLOUT_REBUILD_H

#include "base/attr.h"
#include "base/buf.h"
#include "model/rollout.h"

#include <stdbool.h>

/* The plan as JSON (plan.h reads it), appended: of the document alone. */
NODISCARD int rebuild_plan(const struct rollout *document, struct buf *ret);

/* Is this text a plan of the rollout that the document tells: the same releases, of the same kind, in the same stages? */
bool rebuild_agrees(const struct rollout *document, const char *plan, size_t len);

/* The stages to be undone as a JSON list. */
NODISCARD int rebuild_undo(const struct string_list *undo, struct buf *ret);

/*
 * The state of a rollout that is `known` to be in one, and published in another one. What stopped it stays: a backup
 * does not know of a halt that came after it. Nothing goes on by itself.
 */
enum rollout_state rebuild_state(enum rollout_state known, enum rollout_state published);

#endif
