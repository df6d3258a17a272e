/*
 * roles - what each online role may say, as a table.
 */
#ifndef SELFRIGHT_SIGNER_ROLES_H
#define SELFRIGHT_SIGNER_ROLES_H

#include <stdbool.h>
#include <stdint.h>

enum signer_role {
	SIGNER_ROLLOUTS,
	SIGNER_SUPPORT,
	SIGNER_INVENTORY,
	SIGNER_SNAPSHOT,
	SIGNER_TIMESTAMP,
	SIGNER_ROLE_COUNT,
};

struct signer_rule {
	const char *name;
	const char *type; /* _type */
	const char *folder; /* the targets it may list: <folder><id>.json; NULL for snapshot and timestamp */
	int64_t life_s;
};

extern const struct signer_rule signer_rules[SIGNER_ROLE_COUNT];

/* -1: none of ours. */
int signer_role_find(const char *name);

/* May the role list this target path? */
bool signer_rule_permits(const struct signer_rule *rule, const char *path);

#endif
