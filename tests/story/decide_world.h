/*
 * decide_world - one node, one component ("web") and the documents around it, for the
 * tests of decide(). Everything starts as harmless as can be: fresh, no orders, no
 * freeze, every window open; a test changes what it is about.
 */
#ifndef SELFRIGHT_TESTS_DECIDE_WORLD_H
#define SELFRIGHT_TESTS_DECIDE_WORLD_H

#include "model/decide.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WORLD_MAX = 16 };

struct world {
	struct labels labels;
	struct local_facts local;
	struct component_facts component;
	struct string_list words; /* owns the texts that facts borrow */
	struct denial denials[WORLD_MAX];
	const char *good[WORLD_MAX];
	struct taken taken[WORLD_MAX];
	const char *joined[WORLD_MAX];
	struct rollout rollouts[WORLD_MAX];
	struct rollout_facts facts[WORLD_MAX];
	size_t rollout_count;
	struct rollout_index index;
	struct node_orders orders;
	struct policy policy;
};

/* A copy that lives as long as the world. */
static inline const char *world_keep(struct world *w, const char *s)
{
	assert_int_equal(string_list_add(&w->words, s), 0);
	return w->words.items[w->words.count - 1];
}

static inline char *world_copy(const char *s)
{
	char *copy = strdup(s);

	assert_non_null(copy);
	return copy;
}

static inline void world_init(struct world *w)
{
	*w = (struct world){ .local = { .now = 1800000000, .fresh = true, .max_swaps_per_day = 6, .node = "n1" } };
	w->local.labels = &w->labels;
	w->component = (struct component_facts){ .component = "web",
						 .denials = w->denials,
						 .good = w->good,
						 .taken = w->taken,
						 .joined = w->joined,
						 .policy = &w->policy };
}

static inline void world_done(struct world *w)
{
	labels_done(&w->labels);
	for (size_t i = 0; i < w->rollout_count; i++)
		rollout_done(&w->rollouts[i]);
	index_done(&w->index);
	orders_done(&w->orders);
	policy_done(&w->policy);
	string_list_done(&w->words);
}

static inline struct decision world_decide(const struct world *w)
{
	return decide(&w->local, &w->component, w->facts, w->rollout_count, &w->index, &w->orders);
}

static inline void world_label(struct world *w, const char *name, const char *value)
{
	assert_int_equal(labels_set(&w->labels, name, value), 0);
}

/* NULL: absent. */
static inline void world_installed(struct world *w, const char *version)
{
	w->component.version = version ? world_keep(w, version) : NULL;
}

static inline void world_good(struct world *w, const char *version)
{
	assert_true(w->component.good_count < WORLD_MAX);
	w->good[w->component.good_count++] = world_keep(w, version);
}

static inline void world_denied(struct world *w, const char *version, enum denial_cause cause, uint64_t seq)
{
	assert_true(w->component.denial_count < WORLD_MAX);
	w->denials[w->component.denial_count++] =
		(struct denial){ .version = world_keep(w, version), .cause = cause, .seq = seq };
}

/* Through a rollout's stage from what is installed to `version`. */
static inline void world_took(struct world *w, const char *rollout, const char *stage, uint64_t seq,
			      const char *version)
{
	assert_true(w->component.taken_count < WORLD_MAX && w->component.joined_count < WORLD_MAX);
	w->taken[w->component.taken_count++] =
		(struct taken){ .rollout = world_keep(w, rollout),
				.stage = world_keep(w, stage),
				.seq = seq,
				.version = world_keep(w, version),
				.previous = w->component.version ? w->component.version : "" };
	w->joined[w->component.joined_count++] = world_keep(w, rollout);
	world_installed(w, version);
}

static inline struct rollout_facts *world_rollout_named(struct world *w, const char *id)
{
	for (size_t i = 0; i < w->rollout_count; i++)
		if (strcmp(w->rollouts[i].id, id) == 0)
			return &w->facts[i];
	return NULL;
}

/* Without stages so far. */
static inline struct rollout_facts *world_rollout_bare(struct world *w, const char *id, uint64_t seq,
						       const char *version, enum rollout_kind kind,
						       enum rollout_state state)
{
	struct rollout *r = &w->rollouts[w->rollout_count];
	struct rollout_facts *f = &w->facts[w->rollout_count++];
	char path[160];

	assert_true(w->rollout_count <= WORLD_MAX);
	(void) snprintf(path, sizeof(path), "web/%s/release.json", version);
	*r = (struct rollout){ .id = world_copy(id),
			       .seq = seq,
			       .component = world_copy("web"),
			       .release = { .component = world_copy("web"),
					    .version = world_copy(version),
					    .path = world_copy(path) },
			       .kind = kind,
			       .state = state };
	*f = (struct rollout_facts){
		.rollout = r, .in_window = true, .spread_passed = true, .notice_passed = true
	};
	r->stages = calloc(ROLLOUT_STAGES_MAX, sizeof(*r->stages));
	assert_non_null(r->stages);
	return f;
}

static inline struct stage *world_stage(struct rollout_facts *f, const char *name, bool open)
{
	struct rollout *r = (struct rollout *) (uintptr_t) f->rollout; /* the world's own */
	struct stage *s = &r->stages[r->stage_count];

	assert_true(r->stage_count < ROLLOUT_STAGES_MAX);
	f->approved[r->stage_count++] = true;
	*s = (struct stage){ .name = world_copy(name), .share = SHARE_ALL, .open = open };
	return s;
}

/* With one open stage "all" for every node. */
static inline struct rollout_facts *world_rollout(struct world *w, const char *id, uint64_t seq,
						  const char *version, enum rollout_kind kind,
						  enum rollout_state state)
{
	struct rollout_facts *f = world_rollout_bare(w, id, seq, version, kind, state);

	(void) world_stage(f, "all", true);
	return f;
}

static inline struct rollout *world_document(struct rollout_facts *f)
{
	return (struct rollout *) (uintptr_t) f->rollout; /* the world's own */
}

static inline void world_undo(struct rollout_facts *f, const char *stage)
{
	assert_int_equal(string_list_add(&world_document(f)->undo, stage), 0);
}

static inline void world_override(struct rollout_facts *f, const char *word)
{
	assert_int_equal(string_list_add(&world_document(f)->overrides, word), 0);
}

static inline void world_order_rollback(struct world *w, const char *from, const char *to)
{
	struct order_rollback *list =
		reallocarray(w->orders.rollbacks, w->orders.rollback_count + 1, sizeof(*list));

	assert_non_null(list);
	w->orders.rollbacks = list;
	list[w->orders.rollback_count++] = (struct order_rollback){ .id = world_copy("o1"),
								    .component = world_copy("web"),
								    .from = world_copy(from),
								    .to = world_copy(to) };
}

static inline void world_order_pin(struct world *w, const char *version)
{
	struct order_pin *list = reallocarray(w->orders.pins, w->orders.pin_count + 1, sizeof(*list));

	assert_non_null(list);
	w->orders.pins = list;
	list[w->orders.pin_count++] = (struct order_pin){ .id = world_copy("o2"),
							  .component = world_copy("web"),
							  .version = world_copy(version) };
}

static inline struct freeze *world_freeze(struct world *w)
{
	struct freeze *list = reallocarray(w->index.freezes, w->index.freeze_count + 1, sizeof(*list));

	assert_non_null(list);
	w->index.freezes = list;
	list[w->index.freeze_count] = (struct freeze){ .reason = world_copy("holidays") };
	return &list[w->index.freeze_count++];
}

static inline void world_floor(struct world *w, const char *version)
{
	free(w->policy.security_floor);
	w->policy.security_floor = world_copy(version);
}

static inline void world_revoke(struct world *w, const char *version)
{
	assert_int_equal(string_list_add(&w->policy.revoked, version), 0);
}

static inline struct approval_rule *world_approval(struct world *w, const char *approver)
{
	struct approval_rule *list =
		reallocarray(w->policy.approvals, w->policy.approval_count + 1, sizeof(*list));

	assert_non_null(list);
	w->policy.approvals = list;
	list[w->policy.approval_count] = (struct approval_rule){ .approver = world_copy(approver) };
	return &list[w->policy.approval_count++];
}

#endif
