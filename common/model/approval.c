#include "model/approval.h"

#include "base/err.h"
#include "json/build.h"
#include "json/json.h"
#include "model/field.h"
#include "model/write.h"

#include <stdlib.h>
#include <string.h>

static bool rule_applies(const struct approval_rule *rule, enum rollout_kind kind)
{
	return rule->kinds.count == 0 || string_list_has(&rule->kinds, rollout_kind_name(kind));
}

/* "name=value": the value may hold further '='. */
static bool rule_exempts(const struct approval_rule *rule, const struct labels *own_labels)
{
	const char *pair = rule->exempt_label, *equals = pair ? strchr(pair, '=') : NULL;
	char name[LABEL_NAME_MAX + 1];

	if (!equals || (size_t) (equals - pair) >= sizeof(name))
		return false;
	memcpy(name, pair, (size_t) (equals - pair));
	name[equals - pair] = '\0';
	return str_eq(labels_get(own_labels, name), equals + 1);
}

const struct approval_rule *approval_rule_next(const struct policy *policy, enum rollout_kind kind,
					       const struct labels *own_labels,
					       const struct approval_rule *previous)
{
	size_t i;

	if (!policy)
		return NULL;
	for (i = previous ? (size_t) (previous - policy->approvals) + 1 : 0; i < policy->approval_count; i++)
		if (rule_applies(&policy->approvals[i], kind) && !rule_exempts(&policy->approvals[i], own_labels))
			return &policy->approvals[i];
	return NULL;
}

bool policy_asks_approval(const struct policy *policy, enum rollout_kind kind)
{
	for (size_t i = 0; policy && i < policy->approval_count; i++)
		if (rule_applies(&policy->approvals[i], kind))
			return true;
	return false;
}

static int compare_components(const void *a, const void *b)
{
	const struct release_ref *const *x = a, *const *y = b;

	return strcmp((*x)->component, (*y)->component);
}

static void write_ref(struct json_node *list, const struct release_ref *ref)
{
	struct json_node *o = node_object(list, NULL);

	node_string(o, "component", ref->component);
	node_string(o, "path", ref->path);
	write_digest(o, "sha256", ref->sha256);
}

int approval_statement(const char *fleet, const struct rollout *rollout, const struct stage *stage,
		       int64_t expires, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	const struct release_ref *with[ROLLOUT_WITH_MAX];
	struct json_node *o = json_build_root(b), *list;

	if (!stage->bare || rollout->with_count > ROLLOUT_WITH_MAX)
		return -ERR_FIELD_MISSING;
	node_string(o, "_type", "selfright-approval");
	node_string(o, "fleet", fleet);
	node_string(o, "rollout", rollout->id);
	node_string(o, "kind", rollout_kind_name(rollout->kind));
	list = node_array(o, "releases");
	write_ref(list, &rollout->release);
	for (size_t i = 0; i < rollout->with_count; i++)
		with[i] = &rollout->with[i];
	qsort(with, rollout->with_count, sizeof(with[0]), compare_components);
	for (size_t i = 0; i < rollout->with_count; i++)
		write_ref(list, with[i]);
	node_copy(o, "stage", stage->bare);
	write_list(o, "overrides", &rollout->overrides);
	write_time(o, "expires", expires);
	return json_build_canonical(b, out);
}

int approval_parse(const struct json *entry, struct approval *ret, char **ret_error)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(entry, &error);
	struct approval out = { 0 };
	size_t n;

	out.expires = field_time(&f, "expires", true);
	n = fields_count(&f, "signatures", 1, APPROVAL_SIGNATURES_MAX);
	out.signatures = field_alloc(&f, n, sizeof(*out.signatures));
	for (size_t i = 0; i < n && field_ok(&f); i++) {
		struct fields s = field_element(&f, "signatures", i);
		struct approval_signature *signature = &out.signatures[out.signature_count++];

		signature->keyid = field_text(&s, "keyid", &rule_sha256, true);
		signature->sig = field_text(&s, "sig", &rule_hex, true);
	}
	if (error.r < 0) {
		approval_done(&out);
		return field_error_take(&error, ret_error);
	}
	*ret = out;
	return 0;
}

void approval_done(struct approval *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->signature_count; i++) {
		free(a->signatures[i].keyid);
		free(a->signatures[i].sig);
	}
	free(a->signatures);
	*a = (struct approval){ 0 };
}

void approval_write(const struct approval *a, struct json_node *object)
{
	struct json_node *list;

	write_time(object, "expires", a->expires);
	list = node_array(object, "signatures");
	for (size_t i = 0; i < a->signature_count; i++) {
		struct json_node *s = node_object(list, NULL);

		node_string(s, "keyid", a->signatures[i].keyid);
		node_string(s, "sig", a->signatures[i].sig);
	}
}
