#include "base/err.h"
#include "server-stub/rollout/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct ranked {
	const struct plan_candidate *candidate;
	size_t preferred; /* how many of the labels asked for it has */
};

static int compare(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->preferred != y->preferred)
		return x->preferred > y->preferred ? -1 : 1;
	if (x->candidate->able != y->candidate->able)
		return x->candidate->able ? -1 : 1;
	if (x->candidate->share != y->candidate->share)
		return x->candidate->share < y->candidate->share ? -1 : 1;
	return strcmp(x->candidate->node, y->candidate->node);
}

static size_t count_preferred(const struct labels *prefer, const struct labels *have)
{
	size_t n = 0;

	for (size_t i = 0; i < prefer->count; i++)
		n += str_eq(labels_get(have, prefer->items[i].name), prefer->items[i].value);
	return n;
}

static bool is_taken(const struct plan *p, size_t before, const struct plan_candidate *c)
{
	for (size_t k = 0; k < before; k++)
		if (plan_stage_selects(&p->stages[k], c->node, c->labels, c->share))
			return true;
	return false;
}

static int choose(struct plan *p, size_t k, const struct plan_candidate *list, size_t count)
{
	struct plan_stage *s = &p->stages[k];
	struct ranked *ranked = calloc(count + 1, sizeof(*ranked));
	size_t free_count = 0, matching = 0, wanted;
	int r = 0;

	if (!ranked)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (!labels_match(&s->labels, list[i].labels))
			continue;
		matching++;
		if (!is_taken(p, k, &list[i]))
			ranked[free_count++] =
				(struct ranked){ &list[i], count_preferred(&s->prefer, list[i].labels) };
	}
	qsort(ranked, free_count, sizeof(*ranked), compare);
	/* A share is cumulative: those of earlier stages are part of it. */
	wanted = (size_t) s->count;
	if (wanted == 0) {
		wanted = (size_t) ((matching * s->share + SHARE_ALL - 1) / SHARE_ALL);
		wanted -= wanted < matching - free_count ? wanted : matching - free_count;
	}
	if (wanted > free_count)
		wanted = free_count;
	if (wanted == 0)
		r = -ENOENT;
	else if (wanted > ROLLOUT_NODES_MAX)
		r = -ERR_TOO_LARGE;
	for (size_t i = 0; r == 0 && i < wanted; i++)
		r = string_list_add(&s->nodes, ranked[i].candidate->node);
	free(ranked);
	if (r < 0)
		return r;
	labels_done(&s->labels);
	labels_done(&s->prefer);
	s->count = 0;
	s->share = SHARE_ALL;
	s->by_choice = false;
	s->by_nodes = true;
	return 0;
}

int plan_choose(struct plan *p, const struct plan_candidate *list, size_t count, size_t *ret_stage)
{
	int r = 0;

	for (size_t k = 0; r == 0 && k < p->stage_count; k++)
		if (p->stages[k].by_choice) {
			*ret_stage = k;
			r = choose(p, k, list, count);
		}
	return r;
}
