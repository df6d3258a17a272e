/*
 * approval - which approvals a rollout needs on a node, and the bytes they sign
 * (DESIGN.md section 4).
 *
 * The node asks for each component of the rollout its own policy:
 *
 *   while ((rule = approval_rule_next(policy, rollout->kind, own_labels, rule)))
 *           rule->approver must have signed approval_statement() in one of the stage's
 *           approvals, with its threshold of keys, before it expires.
 *
 * Who the approvers' keys are, and whether a signature verifies, is the caller's.
 */
#ifndef SELFRIGHT_MODEL_APPROVAL_H
#define SELFRIGHT_MODEL_APPROVAL_H

#include "model/release.h"
#include "model/rollout.h"

enum { APPROVALS_MAX = 64, APPROVAL_SIGNATURES_MAX = 32, APPROVAL_STATEMENT_MAX = 512 * 1024 };

/* The rule behind `previous` (NULL: the first) that applies to this kind of rollout and does not exempt this node; NULL: no more. */
const struct approval_rule *approval_rule_next(const struct policy *policy, enum rollout_kind kind,
					       const struct labels *own_labels,
					       const struct approval_rule *previous);

/* Does any rule ask for an approval of this kind, whoever may be exempt? NULL asks for none. */
bool policy_asks_approval(const struct policy *policy, enum rollout_kind kind);

/* The canonical bytes an approval of this stage signs, appended. */
NODISCARD int approval_statement(const char *fleet, const struct rollout *rollout, const struct stage *stage,
				 int64_t expires, struct buf *out);

struct approval_signature {
	char *keyid, *sig; /* hex */
};
struct approval {
	int64_t expires;
	struct approval_signature *signatures;
	size_t signature_count;
};

/* One of stage->approvals: {"expires","signatures":[{"keyid","sig"}]}. */
NODISCARD int approval_parse(const struct json *entry, struct approval *ret, char **ret_error);
void approval_done(struct approval *a);
void approval_write(const struct approval *a, struct json_node *object);

#endif
