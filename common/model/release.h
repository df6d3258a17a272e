/*
 * release - the signed statement that component C at version V is these artifacts
 * with these checks: <component>/<version>/release.json (DESIGN.md section 5).
 */
#ifndef SELFRIGHT_MODEL_RELEASE_H
#define SELFRIGHT_MODEL_RELEASE_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"
#include "model/labels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct json_node;

enum { RELEASE_MAX_BYTES = 256 * 1024, RELEASE_FORMAT = 1, POLICY_MAX_BYTES = 64 * 1024, POLICY_FORMAT = 1 };
enum {
	RELEASE_ARTIFACTS_MAX = 64,
	RELEASE_SERVICES_MAX = 32,
	RELEASE_CHECKS_MAX = 64,
	RELEASE_DATA_MAX = 32,
	RELEASE_REQUIRES_MAX = 64, /* each of components, files, vars */
	RELEASE_ARGV_MAX = 64,
	RELEASE_SERVICE_FILES_MAX = 64,
	CHECK_HEADERS_MAX = 16, /* of an httpGet */
	CHECK_WORDS_MAX = 32, /* each of match and ignore of a log */
	POLICY_REVOKED_MAX = 1024,
	POLICY_APPROVALS_MAX = 32,
};

struct string_list {
	char **items;
	size_t count;
};
void string_list_done(struct string_list *l);
NODISCARD int string_list_add(struct string_list *l, const char *s);
bool string_list_has(const struct string_list *l, const char *s);

struct release_artifact {
	char *path; /* "web/1.1.0/web.tar.zst": below the release's own folder */
	uint64_t length;
	uint8_t sha256[SHA256_BYTES];
	bool is_delta;
	char *from; /* version, deltas only */
	char *media; /* "application/x-tar+zstd" ... */
};

/*
 * A program: argv[0] is relative to the release's own tree or absolute; arguments may hold
 * ${vars.NAME}, ${node.id}, ${root}. Never through a shell. `user` is a wish that local
 * configuration must allow; NULL: the component's default user.
 */
struct release_command {
	struct string_list argv;
	char *user;
	uint64_t timeout_s; /* 60 */
};

/* Exactly one of `unit` (a service manager's) and `start` (a program of our own, kept in the foreground). */
struct release_service {
	char *name; /* an id, unique on the component */
	char *unit;
	struct release_command start; /* argv.count 0: unit */
	struct release_command reload; /* argv.count 0: none; then a swap restarts it */
	char *stop_signal; /* "SIGTERM" by default; "SIGQUIT" ... */
	uint64_t stop_timeout_s; /* 10 */
	bool stop_before_swap; /* false: restarted (or reloaded) after the swap */
	/*
	 * Files and folders of the tree the service depends on. Where they and this declaration are
	 * as in the version before, the service is not touched. Empty: every version restarts it.
	 */
	struct string_list files;
};

enum check_kind {
	CHECK_EXEC,
	CHECK_HTTP_GET,
	CHECK_TCP_SOCKET,
	CHECK_UNIT,
	CHECK_METRIC,
	CHECK_LOG,
	CHECK_LINK,
	CHECK_STATUS,
	CHECK_KIND_COUNT
};

struct release_header {
	char *name, *value;
};

/* Where an HTTP answer comes from and what it must be: httpGet, and metric over HTTP. */
struct release_http {
	char *scheme, *host, *port, *path; /* http, 127.0.0.1; host, port and path may hold ${vars.NAME} */
	char *unix_socket; /* asked instead of host and port, as the component's user; NULL: none */
	struct release_header *headers;
	size_t header_count;
	char *expect_status; /* "200-299,404"; NULL: 200-399 */
	char *expect_body; /* a substring, NULL: any */
	/* https verifies: against `ca` (a file of the tree, or absolute), else the system's authorities. */
	char *ca, *server_name; /* server_name: what the certificate must be for; NULL: host */
	bool insecure_skip_verify;
};

/* Samples in Prometheus' text form, from `http` or `file`, summed over a selector. Bounds are decimal numbers. */
struct release_metric {
	char *file; /* NULL: http */
	char *select, *of; /* selectors (model/selector.h); of: the value is select's increase per of's */
	bool rate; /* the value is the increase per second */
	bool absent_is_zero; /* no series of `select` is 0, not "no data"; always so with `of` */
	char *min, *max; /* NULL: no bound */
	char *min_of_before, *max_of_before; /* times its own value before the swap */
	uint64_t min_samples; /* increases of `of`, else answers; fewer prove nothing */
	uint64_t before_s; /* for at most so long it is watched before the swap */
};

/* Lines of a unit's journal or of a file. */
struct release_log {
	char *unit, *file; /* exactly one */
	struct string_list match, ignore; /* an error line holds one of match (any case) and none of ignore */
	uint64_t max_per_minute; /* UINT64_MAX: any */
	uint64_t
		max_new_kinds; /* kinds of error lines that did not stand there before the swap; UINT64_MAX: any */
};

/* The application's own word, from `file` or from the check's command. */
struct release_status {
	char *file; /* NULL: the command in `exec` */
	bool accept_degraded;
};

/* Kubernetes' fields and defaults: delay 0, period 10, timeout 1, success 1, failure 3 (probes in core/v1). */
struct release_check {
	char *name; /* an id, unique in the release */
	enum check_kind kind;
	struct release_command exec; /* status too */
	struct release_http http; /* metric too */
	struct {
		char *host, *port;
	} tcp;
	char *unit;
	struct release_metric metric;
	struct release_log log;
	struct release_status status;
	struct string_list after; /* it runs only while these, which stand above it, pass */
	uint64_t deadline_s; /* after so long without enough data it proves nothing; 300 */
	uint64_t initial_delay_s, period_s, timeout_s, success_threshold, failure_threshold;
	bool required; /* true by default */
	bool must_fix;
};

struct release_requirement {
	char *component, *range;
};

struct release_data {
	char *path;
	bool restore_on_rollback;
};

struct release {
	char *component, *version, *kind; /* "tree" */
	struct labels compatible;
	char *requires_agent; /* range, NULL: any */
	struct release_requirement *requires_components;
	size_t requires_component_count;
	struct string_list requires_files, requires_vars;
	uint64_t requires_free_bytes;
	char *requires_zone_data; /* oldest edition of the zone database, "2025b"; NULL: any */
	char *requires_from; /* oldest version that may update directly; NULL: any */
	struct release_artifact *artifacts;
	size_t artifact_count;
	uint8_t tree_digest[SHA256_BYTES];
	uint64_t installed_size, files;
	struct release_service *services;
	size_t service_count;
	struct {
		/* argv.count 0: none */
		struct release_command preflight, before_swap, after_swap, after_rollback, notify;
	} hooks;
	struct release_check *checks;
	size_t check_count;
	uint64_t probation_s, watch_s, boot_attempts; /* 60, 0, 3 */
	struct release_data *data;
	size_t data_count;
	bool data_compatible_back; /* true by default */
	char *changes, *risk, *known_issues, *post_deploy_checks; /* may be NULL except risk ("low") */
	uint64_t expected_duration_s; /* 0: not said */
};

/* Every field with its limits; unknown ones ignored, except those `must[]` names (-ERR_AGENT_TOO_OLD), as an unknown format is. *ret_error (free it, NULL fine) names the field. */
NODISCARD int release_parse(const struct json *doc, struct release *ret, char **ret_error);
void release_done(struct release *r);

/* Do path, component and version agree, and does every file lie below <component>/<version>/? -ERR_DISAGREE. */
NODISCARD int release_agrees(const struct release *r, const char *path);

/* The document again (for `selfright release`): parse(write(r)) equals r. */
void release_write(const struct release *r, struct json_node *object);

/* The variables it uses anywhere, ${vars.NAME} -> NAME, added to `ret` once each. -ERR_FIELD_VALUE for an unknown ${...}. */
NODISCARD int release_variables(const struct release *r, struct string_list *ret);

/*
 * Every command of a release: of its hooks, services and checks. `what` is words for people, "the hook
 * notify", "the service app", "the check ready". Ends with the first answer below 0, which it returns.
 */
typedef int release_command_fn(void *context, const struct release_command *command, const char *what);
int release_commands(const struct release *r, release_command_fn *f, void *context);

/*
 * The file in the release's own tree that a command runs: argv[0] with a '/' in it, or behind ${root}/.
 * NULL: it runs a program of the node, or where it lies only the node knows (a variable). Borrowed.
 */
const char *release_command_file(const struct release_command *command);

struct variables {
	const struct labels *vars;
	const char *node_id, *root;
};
/* `text` with its variables filled in, appended. -ERR_FIELD_MISSING for one that is not defined. */
NODISCARD int variables_expand(const struct variables *v, const char *text, struct buf *out);

/* Is it the same service: name, programs, users, signals and files? */
bool release_service_equal(const struct release_service *a, const struct release_service *b);

const char *check_kind_name(enum check_kind kind); /* "httpGet" ... */
/* Is `status` in "200-299,404"? NULL stands for 200-399. */
bool check_status_is_expected(const char *ranges, unsigned status);

/* --- policy: <component>/policy.json --- */
struct approval_rule {
	char *approver; /* "team", or a role of x-selfright approvers */
	struct string_list kinds; /* regular, patch, downgrade; empty: all */
	char *exempt_label; /* "name=value" of the node's own configuration, NULL: nobody */
};
struct policy {
	char *owner, *on_call, *security_floor; /* the last two may be NULL */
	struct string_list revoked;
	struct approval_rule *approvals;
	size_t approval_count;
	struct string_list lost_roots; /* SHA-256 hex */
};
NODISCARD int policy_parse(const struct json *doc, struct policy *ret, char **ret_error);
void policy_done(struct policy *p);
void policy_write(const struct policy *p, struct json_node *object);
/* Neither below the floor nor revoked? NULL permits everything. */
bool policy_permits(const struct policy *p, const char *version);

#endif
