/*
 * catalogue - every way an update can end or wait, once: number, name, class,
 * sentence, what to do. Numbers never change their meaning; the man page is
 * generated from this table.
 */
#ifndef SELFRIGHT_MODEL_CATALOGUE_H
#define SELFRIGHT_MODEL_CATALOGUE_H

#include <stddef.h>

enum result_class { CLASS_NONE, CLASS_RELEASE, CLASS_NODE, CLASS_NETWORK, CLASS_REJECTED };
const char *result_class_name(enum result_class c); /* "none", "release", ... */

/* clang-format off */
/* X(NUMBER, NAME, "name", CLASS, "sentence", "what to do") */
#define CATALOGUE(X)                                                                                                    \
	X(100, GOOD, "good", NONE, "the new version passed its probation", "nothing")                                    \
	X(101, GOOD_UNPROVEN, "good-unproven", NONE, "the new version runs, but no required check proved it", "look at the checks the release declares")  \
	X(102, REGRESSED, "regressed", RELEASE, "a check failed later, while the release was watched", "fix the release; this node went back")      \
	X(110, ROLLED_BACK, "rolled-back", NONE, "the node went back as it was asked to", "nothing")                     \
	X(111, BELOW_FLOOR, "below-floor", NONE, "the node fell back to a version below the security floor", "publish a good release soon")         \
	X(200, CHECK_FAILED, "check-failed", RELEASE, "a required check failed in probation", "read the check's output in the report")              \
	X(201, SERVICE_FAILED, "service-failed", RELEASE, "a service of the release did not start", "read the log tail in the report")              \
	X(202, HOOK_FAILED, "hook-failed", RELEASE, "a hook of the release failed", "read the log tail in the report")    \
	X(203, LINK_LOST, "link-lost", RELEASE, "the controller cannot be reached since the swap, although the network answers", "look at what the release does to the network") \
	X(204, PREFLIGHT_FAILED, "preflight-failed", RELEASE, "the release's own preflight said no", "read the log tail in the report")              \
	X(205, AGENT_FAILED, "agent-failed", RELEASE, "the new agent did not start, or did not prove itself in time", "read the detail, and the node's log")  \
	X(300, NO_SPACE, "no-space", NODE, "not enough free space", "free space or grow the disk; it is tried again")    \
	X(301, IO_ERROR, "io-error", NODE, "the disk or file system refused", "check the disk")                          \
	X(302, OUT_OF_RESOURCES, "out-of-resources", NODE, "out of memory, processes or descriptors", "it is tried again")                     \
	X(303, INTERRUPTED, "interrupted", NODE, "the node was restarted too often during probation", "check power and the watchdog")             \
	X(304, STUCK, "stuck", NODE, "rolling back failed", "verify --repair, or an order from support")                 \
	X(305, FALLBACK_DAMAGED, "fallback-damaged", NODE, "the version to go back to is damaged", "verify --repair")     \
	X(306, SERVICE_MANAGER, "service-manager", NODE, "the service manager refused", "read the log tail in the report")                     \
	X(307, CLOCK_AHEAD, "clock-ahead", NODE, "the clock here runs ahead of the signed time", "set the clock")         \
	X(400, DOWNLOAD_FAILED, "download-failed", NETWORK, "the artifact could not be fetched", "check the road with doctor; it is tried again")      \
	X(401, METADATA_UNREACHABLE, "metadata-unreachable", NETWORK, "no road brought the metadata", "check the road with doctor")               \
	X(402, METADATA_STALE, "metadata-stale", NETWORK, "the trusted metadata has expired", "check that the signer runs and the road works")          \
	X(500, SIGNATURE_INVALID, "signature-invalid", REJECTED, "metadata or document is not signed by enough trusted keys", "find out who serves it")   \
	X(501, METADATA_REJECTED, "metadata-rejected", REJECTED, "metadata breaks the rules of TUF", "find out who serves it")                      \
	X(502, ARTIFACT_DIGEST, "artifact-digest", REJECTED, "the artifact is not the one that was signed", "publish it again, or look at the carrier")    \
	X(503, ARTIFACT_LENGTH, "artifact-length", REJECTED, "the artifact has not the signed length", "publish it again, or look at the carrier")        \
	X(504, ARCHIVE_REFUSED, "archive-refused", REJECTED, "the archive is damaged or holds an entry that is not allowed", "pack it again")          \
	X(505, TREE_MISMATCH, "tree-mismatch", REJECTED, "the unpacked tree is not the one that was signed", "pack it again")                       \
	X(506, DISAGREEMENT, "disagreement", REJECTED, "path, component, version or hash disagree", "publish it again with a new version")              \
	X(507, MALFORMED, "malformed", REJECTED, "a signed document is malformed", "publish it again")                   \
	X(508, AGENT_TOO_OLD, "agent-too-old", REJECTED, "the document needs a newer agent", "update the agent first")    \
	X(509, INCOMPATIBLE, "incompatible", REJECTED, "the node's labels or components do not fit the release", "select other nodes")                \
	X(510, VARIABLE_MISSING, "variable-missing", REJECTED, "the node does not define a variable the release uses", "add it to vars.d")            \
	X(511, REQUIREMENT_MISSING, "requirement-missing", REJECTED, "a file, range or version the release requires is not here", "see the detail")    \
	X(512, NOT_ALLOWED, "not-allowed", REJECTED, "local configuration does not allow what the release asks for", "change the release, or components.d here") \
	X(513, NOT_APPROVED, "not-approved", REJECTED, "the policy's approvals are not all there", "have it approved")   \
	X(514, REVOKED, "revoked", REJECTED, "the version is revoked or below the security floor", "take a newer one")   \
	X(515, VERSION_CHANGED, "version-changed", REJECTED, "a published version has another digest than the one stored here", "publish a new version")  \
	X(516, ORDER_REFUSED, "order-refused", REJECTED, "the order names a version that is not permitted here", "see the detail")                    \
	X(600, SUPERSEDED, "superseded", NONE, "a newer decision replaced it before the swap", "nothing")                \
	X(601, WITHDRAWN, "withdrawn", NONE, "the rollout was halted, paused or cancelled before the swap", "nothing")    \
	X(700, INTERNAL, "internal", NODE, "the agent failed in a way it should not", "report it, with the log")
/* clang-format on */

enum result {
#define RESULT_ENUM_(number, id, name, class, sentence, advice) RESULT_##id = number,
	CATALOGUE(RESULT_ENUM_)
#undef RESULT_ENUM_
};

struct catalogue_row {
	int number;
	const char *name;
	enum result_class class;
	const char *sentence, *advice;
};

const struct catalogue_row *catalogue_find(int number); /* NULL: unknown */
const struct catalogue_row *catalogue_at(size_t index); /* NULL behind the last */

/*
 * What a step that failed with `r` says of the release, if it says anything: `number`, unless the node itself
 * had no space, memory or descriptors, or its disk refused. A good release is not denied for a full disk.
 */
enum result catalogue_blame(enum result number, int r);

/* The entry an error of err.h stands for when nothing better is known. */
enum result catalogue_from_error(int r);

#endif
