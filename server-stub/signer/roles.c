#include "server-stub/signer/roles.h"

#include "base/text.h"
#include "server-stub/signer/signer.h"

#include <string.h>

const struct signer_rule signer_rules[SIGNER_ROLE_COUNT] = {
	[SIGNER_ROLLOUTS] = { "rollouts", "targets", "rollouts/", SIGNER_ROLE_LIFE },
	[SIGNER_SUPPORT] = { "support", "targets", "nodes/", SIGNER_ROLE_LIFE },
	[SIGNER_INVENTORY] = { "inventory", "targets", "inventory/", SIGNER_ROLE_LIFE },
	[SIGNER_SNAPSHOT] = { "snapshot", "snapshot", NULL, SIGNER_ROLE_LIFE },
	[SIGNER_TIMESTAMP] = { "timestamp", "timestamp", NULL, SIGNER_TIMESTAMP_LIFE },
};

int signer_role_find(const char *name)
{
	for (int i = 0; i < SIGNER_ROLE_COUNT; i++)
		if (str_eq(name, signer_rules[i].name))
			return i;
	return -1;
}

bool signer_rule_permits(const struct signer_rule *rule, const char *path)
{
	static const char suffix[] = ".json";
	char id[ID_MAX + 1];
	size_t len;

	if (!rule->folder || !str_starts(path, rule->folder))
		return false;
	path += strlen(rule->folder);
	len = strlen(path);
	if (len <= strlen(suffix) || len - strlen(suffix) > ID_MAX || !str_eq(path + len - strlen(suffix), suffix))
		return false;
	memcpy(id, path, len - strlen(suffix));
	id[len - strlen(suffix)] = '\0';
	return guard_id(id);
}
