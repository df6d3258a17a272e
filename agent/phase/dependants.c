#include "agent/phase/dependants.h"

#include "agent/phase/manifest.h"
#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "agent/store/agents.h"
#include "base/err.h"
#include "base/log.h"
#include "model/dependants.h"

#include <errno.h>
#include <stdlib.h>

struct needs {
	struct release releases[STATE_COMPONENTS_MAX];
	struct installed list[STATE_COMPONENTS_MAX];
	size_t count;
};

static void needs_free(struct needs *s)
{
	for (size_t i = 0; s && i < s->count; i++)
		release_done(&s->releases[i]);
	free(s);
}
DEFINE_FREEP(struct needs *, needs_free)

/* What runs and what that needs. One whose manifest is not here needs nothing we know of. */
static int needs_load(struct node *n, struct needs **ret)
{
	struct needs *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	for (size_t i = 0; i < n->state->component_count; i++) {
		const struct node_component *c = n->state->components[i];
		struct release *rel = &s->releases[s->count];

		if (!c->version[0])
			continue;
		if (manifest_load(n, c->name, c->version, rel) < 0)
			*rel = (struct release){ 0 };
		s->list[s->count++] = (struct installed){ .component = c->name,
							  .version = c->version,
							  .previous = c->previous,
							  .requires = rel->requires_components,
							  .requires_count = rel->requires_component_count };
	}
	*ret = s;
	return 0;
}

static size_t moves_of(struct node *n, bool back, struct component_move moves[static PARTS_MAX])
{
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		moves[i] = (struct component_move){ p.component, back ? p.from : p.to };
	}
	return update_part_count(n);
}

int update_add_dependants(struct node *n, bool back)
{
	CLEANUP(needs_freep)
	struct needs *s = NULL;
	struct node_update *u = &n->state->update;
	struct component_move moves[PARTS_MAX];
	size_t own = moves_of(n, back, moves), count;
	int r = needs_load(n, &s);

	if (r < 0)
		return r;
	count = dependants_add(s->list, s->count, moves, own, PARTS_MAX);
	for (size_t i = own; i < count; i++) {
		struct node_component *c = state_component(n->state, moves[i].component);
		struct node_with *w;

		if (!c || str_eq(c->name, AGENTS_COMPONENT))
			continue;
		w = &u->with[u->with_count++];
		*w = (struct node_with){ .component = "" };
		c->attempts++;
		STATE_SET(w->component, c->name);
		STATE_SET(w->from, back ? moves[i].to : c->version);
		STATE_SET(w->to, back ? c->version : moves[i].to);
		log_notice("dependant-goes-along", "update=%s component=%s from=%s to=%s", u->id, c->name,
			   c->version, moves[i].to[0] ? moves[i].to : "absent");
	}
	return 0;
}

int update_check_dependants(struct node *n)
{
	CLEANUP(needs_freep)
	struct needs *s = NULL;
	struct component_move moves[PARTS_MAX];
	size_t count = moves_of(n, false, moves);
	int r = needs_load(n, &s);

	if (r < 0)
		return update_fail(n, r, "what the others need could not be read: %s", err_text(r));
	for (size_t i = 0; i < s->count; i++) {
		const struct installed *one = &s->list[i];
		const struct release_requirement *q =
			update_concerns(n, one->component)
				? NULL
				: requirement_broken(s->list, s->count, one, moves, count);

		for (size_t k = 0; q && k < count; k++)
			if (str_eq(moves[k].component, q->component))
				return update_fail_as(n, RESULT_REQUIREMENT_MISSING, -ERR_REFUSED,
						      "%s %s, which runs here, needs %s %s; it would be %s",
						      one->component, one->version, q->component, q->range,
						      moves[k].to[0] ? moves[k].to : "absent");
	}
	return 0;
}
