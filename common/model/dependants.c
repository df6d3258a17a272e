#include "model/dependants.h"

#include "base/version.h"

#include <stdbool.h>
#include <string.h>

static const struct component_move *move_of(const struct component_move *moves, size_t count,
					    const char *component)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(moves[i].component, component) == 0)
			return &moves[i];
	return NULL;
}

/* NULL: absent. */
static const char *version_of(const struct installed *list, size_t count, const char *component)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(list[i].component, component) == 0)
			return list[i].version;
	return NULL;
}

static bool holds(const char *version, const char *range)
{
	return version && version[0] && version_in_range(version, range);
}

const struct release_requirement *requirement_broken(const struct installed *list, size_t count,
						     const struct installed *one,
						     const struct component_move *moves, size_t move_count)
{
	for (size_t i = 0; i < one->requires_count; i++) {
		const struct release_requirement *q = &one->requires[i];
		const struct component_move *m = move_of(moves, move_count, q->component);

		if (m && holds(version_of(list, count, q->component), q->range) && !holds(m->to, q->range))
			return q;
	}
	return NULL;
}

size_t dependants_add(const struct installed *list, size_t count, struct component_move *moves, size_t move_count,
		      size_t max)
{
	bool again = true;

	while (again) {
		again = false;
		for (size_t i = 0; i < count && move_count < max; i++) {
			if (move_of(moves, move_count, list[i].component) ||
			    !requirement_broken(list, count, &list[i], moves, move_count))
				continue;
			moves[move_count++] = (struct component_move){ list[i].component, list[i].previous };
			again = true;
		}
	}
	return move_count;
}
