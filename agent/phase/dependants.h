/*
 * dependants - who runs here and needs what an update moves (model/dependants.h), by the manifests kept here.
 */
#ifndef SELFRIGHT_PHASE_DEPENDANTS_H
#define SELFRIGHT_PHASE_DEPENDANTS_H

#include "base/attr.h"

#include <stdbool.h>

struct node;

/*
 * Who runs here and would miss what it needs once the update has moved goes along, to what it was before
 * (`back`: the parts move to `from`, as a way back does). Never the agent.
 */
NODISCARD int update_add_dependants(struct node *n, bool back);
/* The same as a refusal: a rollout that would break what runs here is not taken. Said with update_fail. */
NODISCARD int update_check_dependants(struct node *n);

#endif
