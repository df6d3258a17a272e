/*
 * variables - finding ${vars.NAME}, ${node.id} and ${root} in a text. Nothing else
 * may stand in ${}; a '$' without '{' is itself.
 */
#ifndef SELFRIGHT_MODEL_VARIABLES_H
#define SELFRIGHT_MODEL_VARIABLES_H

#include "model/labels.h"
#include "model/release.h"

enum variable_kind { VARIABLE_ROOT, VARIABLE_NODE_ID, VARIABLE_VARS };

struct variable {
	enum variable_kind kind;
	const char *before, *name; /* not terminated; name: of vars only */
	size_t before_len, name_len;
};

/* 1: found, and *text stands behind it; 0: none left; -ERR_FIELD_VALUE: an unknown or open one. */
NODISCARD int variable_next(const char **text, struct variable *ret);

/* Is everything in ${} known? */
bool variables_are_fine(const char *text);

#endif
