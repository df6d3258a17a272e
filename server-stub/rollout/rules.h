/*
 * rules - what a release must bring before it may go anywhere: preflight.yaml in the fleet's folder, written by people.
 *
 *   require: [changes, risk, checks, owner]  # what release and policy must say
 *   expected_duration: 30m                   # a release that expects to take longer is refused
 *   risk:
 *     high: {stages: 4, soak: 12h, approvals: 2}
 *   commands:                                # run by `selfright check`, their results kept with the release
 *     - name: tests
 *       run: [/usr/local/bin/build-status, "${component}", "${version}"]
 *       timeout: 5m
 *       environment: [BUILD_TOKEN]           # names that are passed on; nothing else is
 *       required: true
 *       valid: 7d                            # older results do not count
 *   components:
 *     web: {require: [changes]}              # a key here stands instead of the same key above
 *
 * A missing file asks for nothing. Complaints name file and line, and what was expected.
 */
#ifndef SELFRIGHT_ROLLOUT_RULES_H
#define SELFRIGHT_ROLLOUT_RULES_H

#include "base/attr.h"
#include "model/release.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf_error;

#define RULES_FILE "preflight.yaml"

/* X(ID, "name in require") */
#define RULE_FIELDS(X)                                                                                            \
	X(CHANGES, "changes")                                                                                     \
	X(RISK, "risk")                                                                                           \
	X(KNOWN_ISSUES, "known_issues")                                                                           \
	X(POST_DEPLOY_CHECKS, "post_deploy_checks")                                                               \
	X(EXPECTED_DURATION, "expected_duration")                                                                 \
	X(CHECKS, "checks")                                                                                       \
	X(OWNER, "owner")                                                                                         \
	X(ON_CALL, "on_call")

enum rule_field {
#define RULE_FIELD_ENUM_(id, name) RULE_FIELD_##id,
	RULE_FIELDS(RULE_FIELD_ENUM_)
#undef RULE_FIELD_ENUM_
		RULE_FIELD_COUNT,
};
const char *rule_field_name(enum rule_field f);

enum rule_risk { RULE_RISK_LOW, RULE_RISK_MEDIUM, RULE_RISK_HIGH, RULE_RISK_COUNT };
int rule_risk_parse(const char *name); /* -1: none */

enum { RULES_COMMANDS_MAX = 16, RULES_ARGV_MAX = 32, RULES_ENVIRONMENT_MAX = 16, RULES_COMPONENTS_MAX = 1000 };
enum { RULES_TIMEOUT_MAX_S = 3600 };

struct rule_minimum {
	uint64_t stages, soak_s, approvals;
	unsigned line; /* 0: no rule for this risk */
};

struct rule_command {
	char *name; /* an id */
	struct string_list
		argv; /* argv[0] is absolute; ${component}, ${version}, ${release_sha256} are filled in */
	struct string_list environment;
	uint64_t timeout_s, valid_s;
	bool required;
	unsigned line;
};

struct rules {
	char *file; /* as complaints name it; NULL: there is none */
	bool require[RULE_FIELD_COUNT];
	unsigned require_line;
	uint64_t duration_max_s; /* 0: any */
	unsigned duration_line;
	struct rule_minimum risk[RULE_RISK_COUNT];
	struct rule_command *commands;
	size_t command_count;
};

/* What holds for one component; `file` is the name in complaints. `ret` is the caller's only after 0. -ERR_CONFIG, -ENOMEM. */
NODISCARD int rules_parse(const void *text, size_t len, const char *file, const char *component, struct rules *ret,
			  struct conf_error *e);
/* The same of DIR/preflight.yaml; where it is missing, of an empty one. */
NODISCARD int rules_load(const char *dir, const char *component, struct rules *ret, struct conf_error *e);
void rules_done(struct rules *r);

struct rule_words {
	const char *component, *version, *release_sha256;
};
/* One argument with its ${...} filled in, appended; -ERR_FIELD_VALUE for one that is not known. */
NODISCARD int rule_argument(const char *argument, const struct rule_words *words, struct buf *out);

#endif
