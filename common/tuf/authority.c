#include "tuf/client.h"
#include "tuf/keyring.h"

#include "base/err.h"
#include "base/text.h"
#include "crypto/certificate.h"
#include "json/json.h"

#include <stdio.h>
#include <string.h>

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

static int take_trusted(const struct json *list, struct tuf_ca *out)
{
	const size_t count = json_count(list);

	if (count == 0 || count > TUF_CA_TRUSTED_MAX)
		return -ERR_FIELD_VALUE;
	for (size_t i = 0; i < count; i++) {
		struct certificate_bundle one = { .count = 0 };
		struct certificate_info info = { .is_ca = false };
		const char *pem = json_string(json_at(list, i));
		int r = pem ? certificate_bundle_read(pem, &one) : -ERR_FIELD_TYPE;

		if (r == 0 && (one.count != 1 || certificate_bundle_find(&out->trusted, one.items[0].sha256)))
			r = -ERR_FIELD_VALUE;
		if (r == 0)
			r = certificate_read(one.items[0].pem, &info);
		if (r == 0 && !info.is_ca)
			r = -ERR_FIELD_VALUE; /* a server's own certificate here would trust that server for ever */
		if (r < 0) {
			certificate_bundle_done(&one);
			return r;
		}
		out->trusted.items[out->trusted.count++] = one.items[0];
	}
	return 0;
}

static int take_retired(const struct json *list, struct tuf_ca *out)
{
	const size_t count = json_count(list);

	if (count > TUF_CA_RETIRED_MAX)
		return -ERR_FIELD_VALUE;
	for (size_t i = 0; i < count; i++) {
		const char *text = json_string(json_at(list, i));
		uint8_t digest[SHA256_BYTES];
		int r = text ? hex_decode(digest, sizeof(digest), text, false) : -ERR_FIELD_TYPE;

		if (r == 0 && certificate_bundle_find(&out->trusted, text))
			r = -ERR_FIELD_VALUE; /* trusted and not: whoever signed that meant something else */
		if (r < 0)
			return r;
		(void) snprintf(out->retired[out->retired_count++], sizeof(out->retired[0]), "%s", text);
	}
	return 0;
}

int tuf_ca_load(const struct json *x_selfright, struct tuf_ca *ret)
{
	const struct json *ca = json_get(x_selfright, "ca"), *trusted = NULL;
	struct tuf_ca out = { .retired_count = 0 };
	int r;

	if (!ca)
		return -ERR_NOT_LISTED;
	r = json_need(ca, "trusted", JSON_ARRAY, &trusted);
	if (r == 0)
		r = take_trusted(trusted, &out);
	if (r == 0)
		r = take_retired(json_get(ca, "retired"), &out);
	if (r < 0) {
		tuf_ca_done(&out);
		return r;
	}
	*ret = out;
	return 0;
}

void tuf_ca_done(struct tuf_ca *c)
{
	if (!c)
		return;
	certificate_bundle_done(&c->trusted);
	c->retired_count = 0;
}

bool tuf_ca_is_retired(const struct tuf_ca *c, const char *sha256)
{
	for (size_t i = 0; i < c->retired_count; i++)
		if (str_eq(c->retired[i], sha256))
			return true;
	return false;
}
