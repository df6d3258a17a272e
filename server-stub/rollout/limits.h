/*
 * limits - when and how many at once: the part of a plan that nodes obey by themselves
 * (DESIGN.md section 5 "Rollouts"), as people write it:
 *
 *   window: Mon-Fri 22:00-04:00           # each node's own local time (zone/window.h)
 *   blackout:                             # never in these, whatever the window says
 *     - {from: 2026-12-24T00:00:00Z, until: 2026-12-27T00:00:00Z}
 *     - Fri 12:00-24:00
 *   notice: 2h                            # from when a node announces it until it may swap
 *   disruption: {label: site, maximum: 1} # at most so many nodes down of those with one value of the label
 *   spread: 30m                           # starts are spread over this time
 *   overrides: [window, notice]           # what a patch passes, if it is approved
 *   deadline: 2026-12-20T00:00:00Z        # nobody begins after it
 *
 * Complaints name file and line, and what was expected.
 */
#ifndef SELFRIGHT_ROLLOUT_LIMITS_H
#define SELFRIGHT_ROLLOUT_LIMITS_H

#include "base/attr.h"
#include "model/rollout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf;
struct conf_error;
struct json_node;

struct plan_blackout {
	char *weekly; /* a window's text, else NULL and the two times */
	int64_t from, until;
};

struct plan_limits {
	char *window; /* NULL: always */
	struct plan_blackout *blackouts;
	size_t blackout_count;
	uint64_t notice_s, spread_s;
	char *disruption_label; /* NULL: no limit */
	uint64_t disruption_maximum;
	struct string_list overrides;
	int64_t deadline; /* 0: none */
};

/* From the plan's map. `ret` has to be done with limits_done also after a failure. -ERR_CONFIG, -ENOMEM. */
NODISCARD int limits_read(const struct conf *plan, enum rollout_kind kind, struct plan_limits *ret,
			  struct conf_error *e);
void limits_done(struct plan_limits *l);

/* limits_read(write(l)) equals l; what is not there is not written. */
void limits_write(const struct plan_limits *l, struct json_node *plan);

/* Into the document that nodes read: window and blackout become the document's (rollout_done frees them). */
NODISCARD int limits_document(const struct plan_limits *l, struct rollout *document);

#endif
