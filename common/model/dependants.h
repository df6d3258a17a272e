/*
 * dependants - who must go along when a component goes back (DESIGN.md section 8).
 *
 * A pure function: a component that needs a range of another one which that one leaves was
 * taken since, for it would not have been taken otherwise. It goes back too, to what it was before,
 * and so on for those that need it.
 */
#ifndef SELFRIGHT_MODEL_DEPENDANTS_H
#define SELFRIGHT_MODEL_DEPENDANTS_H

#include "model/release.h"

#include <stddef.h>

/* What runs; components that are absent are not listed. */
struct installed {
	const char *component, *version;
	const char *previous; /* what it was before; "": absent */
	const struct release_requirement *requires; /* of the version that runs */
	size_t requires_count;
};

struct component_move {
	const char *component, *to; /* "": absent */
};

/*
 * Does the version that runs need something that holds now and would not once the moves are made? The
 * requirement, else NULL. What does not hold now either is nobody's who moves.
 */
const struct release_requirement *requirement_broken(const struct installed *list, size_t count,
						     const struct installed *one,
						     const struct component_move *moves, size_t move_count);

/*
 * Add a move to its `previous` for every component whose requirement breaks, until none does; those in `moves` stay as
 * they are. Returns how many moves there are then, at most `max`: what does not fit is left out.
 */
size_t dependants_add(const struct installed *list, size_t count, struct component_move *moves, size_t move_count,
		      size_t max);

#endif
