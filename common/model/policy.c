#include "base/err.h"
#include "base/version.h"
#include "json/build.h"
#include "model/field.h"
#include "model/release.h"
#include "model/rollout.h"
#include "model/write.h"

#include <stdlib.h>
#include <string.h>

/* What must[] may name. */
static const char *const known_fields[] = { "format",	      "owner",	 "on_call",
					    "security_floor", "revoked", "approvals",
					    "lost_roots",     "must",	 NULL };

static bool is_kind(const char *s)
{
	return rollout_kind_parse(s) >= 0;
}

static bool is_pair(const char *s)
{
	const char *equals = strchr(s, '=');

	return equals && equals != s;
}

static const struct text_rule rule_kind = { 32, is_kind, "regular, patch or downgrade" };
static const struct text_rule rule_pair = { LABEL_NAME_MAX + 1 + LABEL_VALUE_MAX, is_pair, "name=value" };

static void parse_approvals(struct fields *f, struct policy *out)
{
	size_t n = fields_count(f, "approvals", 0, POLICY_APPROVALS_MAX);

	out->approvals = field_alloc(f, n, sizeof(*out->approvals));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields a = field_element(f, "approvals", i);
		struct approval_rule *rule = &out->approvals[out->approval_count++];

		rule->approver = field_text(&a, "approver", &rule_id, true);
		field_text_list(&a, "kinds", &rule_kind, 0, ROLLOUT_KIND_COUNT, &rule->kinds);
		rule->exempt_label = field_text(&a, "exempt_label", &rule_pair, false);
	}
}

int policy_parse(const struct json *doc, struct policy *ret, char **ret_error)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(doc, &error);
	struct policy out = { 0 };

	field_format(&f, POLICY_FORMAT, known_fields);
	out.owner = field_text(&f, "owner", &rule_line, true);
	out.on_call = field_text(&f, "on_call", &rule_line, false);
	out.security_floor = field_text(&f, "security_floor", &rule_version, false);
	field_text_list(&f, "revoked", &rule_version, 0, POLICY_REVOKED_MAX, &out.revoked);
	parse_approvals(&f, &out);
	field_text_list(&f, "lost_roots", &rule_sha256, 0, 64, &out.lost_roots);
	if (error.r < 0) {
		policy_done(&out);
		return field_error_take(&error, ret_error);
	}
	*ret = out;
	return 0;
}

void policy_done(struct policy *p)
{
	if (!p)
		return;
	free(p->owner);
	free(p->on_call);
	free(p->security_floor);
	string_list_done(&p->revoked);
	for (size_t i = 0; i < p->approval_count; i++) {
		free(p->approvals[i].approver);
		string_list_done(&p->approvals[i].kinds);
		free(p->approvals[i].exempt_label);
	}
	free(p->approvals);
	string_list_done(&p->lost_roots);
	*p = (struct policy){ 0 };
}

void policy_write(const struct policy *p, struct json_node *object)
{
	struct json_node *approvals;

	node_integer(object, "format", POLICY_FORMAT);
	node_string(object, "owner", p->owner);
	write_text(object, "on_call", p->on_call);
	write_text(object, "security_floor", p->security_floor);
	write_list(object, "revoked", &p->revoked);
	approvals = node_array(object, "approvals");
	for (size_t i = 0; i < p->approval_count; i++) {
		struct json_node *a = node_object(approvals, NULL);

		node_string(a, "approver", p->approvals[i].approver);
		write_list(a, "kinds", &p->approvals[i].kinds);
		write_text(a, "exempt_label", p->approvals[i].exempt_label);
	}
	write_list(object, "lost_roots", &p->lost_roots);
}

bool policy_permits(const struct policy *p, const char *version)
{
	if (!p)
		return true;
	if (p->security_floor && version_compare(version, p->security_floor) < 0)
		return false;
	return !string_list_has(&p->revoked, version);
}
