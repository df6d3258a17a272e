#include "tuf/client.h"
#include "tuf/keyring.h"

#include "base/err.h"
#include "json/json.h"

int tuf_approvers_load(const struct json *x_selfright, const char *approver, struct tuf_keyring **ret)
{
	const struct json *entry = json_get(json_get(x_selfright, "approvers"), approver);

	return entry ? tuf_keyring_load(entry, ret) : -ERR_NOT_LISTED;
}

int tuf_team_keyring(const struct tuf_client *c, const char *role, struct tuf_keyring **ret)
{
	const struct json *delegation;

	if (!c->targets)
		return -ERR_UNTRUSTED;
	delegation = client_delegation(c, role);
	if (!delegation)
		return -ERR_NOT_LISTED;
	return keyring_of_role(json_get(json_get(c->targets->body, "delegations"), "keys"), delegation, ret);
}

int tuf_control_keyring(const struct tuf_client *c, struct tuf_keyring **ret)
{
	const struct json *control;

	if (!c->targets)
		return -ERR_UNTRUSTED;
	control = json_get(json_get(c->targets->body, "x-selfright"), "control");
	return control ? tuf_keyring_load(control, ret) : -ERR_NOT_LISTED;
}
