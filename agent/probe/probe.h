/*
 * probe - the checks of a release, run without ever blocking (DESIGN.md section 9).
 *
 * A set holds one probe per check of a release. In PROBE_BASELINE each runs at once,
 * against what runs before the swap, until it holds, or fails failureThreshold times
 * in a row (metrics and rates of log lines until they have a value; what the node cannot
 * start for its own lack stays PENDING, with the error); what failed
 * there is not blamed on the release. In PROBE_PROBATION they run as Kubernetes runs its probes:
 * initialDelaySeconds, then every periodSeconds, each run for at most
 * timeoutSeconds, successThreshold and failureThreshold runs in a row decide; what
 * fails two of five runs again and again fails as well. PROBE_WATCH is the same at a
 * slower pace, until something fails. A run may also say neither yes nor no (too few
 * samples, an application that is starting): that is waited for until the check's
 * deadlineSeconds, and then it has proven nothing.
 *
 *   r = probe_set_new(release, &context, PROBE_PROBATION, now, &set);
 *   probe_set_was_failing(set, "answers");    for each that failed in the baseline
 *   probe_set_before(set, "errors", value);   for each that had a value in it
 *   for (;;) {
 *           n = probe_set_prepare(set, fds, ARRAY_LEN(fds), now, &timeout_ms);
 *           poll(fds, n, timeout_ms);
 *           probe_set_step(set, now);
 *           verdict = probe_set_verdict(set, now, probation_ms, &why);
 *   }
 *
 * Times are milliseconds of a clock that never goes back (os->clock_boot_ms). No
 * threads, no DNS, no TLS and no files of an application in this process: what needs
 * them is asked by selfright-probe, as the component's user. Programs run in a process
 * group of their own, which is killed whole when the run ends, however it
 * ends; the set reaps exactly the processes it started. Release, context and what
 * they point to must outlive the set.
 */
#ifndef SELFRIGHT_AGENT_PROBE_PROBE_H
#define SELFRIGHT_AGENT_PROBE_PROBE_H

#include "base/attr.h"
#include "model/release.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PROBE_DETAIL_MAX = 4096,
	PROBE_BODY_MAX = 64 * 1024,
	PROBE_FDS_PER_CHECK = 2,
	PROBE_VALUE_MAX = 40, /* of a value for the journal, with its NUL */
	PROBE_HELPER_MISSING = 3, /* how selfright-probe ends where there is nothing to read */
};

struct probe_set;

enum probe_mode { PROBE_BASELINE, PROBE_PROBATION, PROBE_WATCH };

/* What the commands see and who they are. */
struct probe_context {
	struct variables variables; /* ${vars.NAME}, ${node.id}, ${root} */
	const char *root; /* working folder; argv[0] with a '/' inside is relative to it (the sealed new tree) */
	const char *const *env; /* the whole environment; NULL: process.h's clean one */
	const char *user; /* default user of programs; users count only while we are root */
	const char *systemctl, *journalctl; /* NULL: from PATH, and only where systemd runs */
	const char *helper; /* the path of selfright-probe; NULL: from PATH */
	const char *data; /* the component's data folder: where relative files are; NULL: they are refused */
	bool late; /* the swap was more than a minute ago: what a log holds by now did not come in the last minute */
	int64_t since_at; /* seconds since 1970: a status file that is older says nothing; 0: any */
};

enum probe_state { PROBE_PENDING, PROBE_PASSING, PROBE_FAILING, PROBE_NOT_BLAMED, PROBE_STATE_COUNT };
const char *probe_state_name(
	enum probe_state state); /* "pending", "passing", "failing", "not-blamed": a report's words */

/* Can this agent run this check? If not, *ret_why (static) says in a sentence what is missing; ask before downloading. */
bool probe_supported(const struct release_check *check, const char **ret_why);

/*
 * Nothing runs before the first probe_set_step. -ERR_FIELD_MISSING (a variable that
 * is not defined), -ERR_FIELD_VALUE (a host or port that is none), -ERR_AGENT_TOO_OLD
 * (a check that is not supported), -ENOMEM. A release without checks gives an empty set.
 */
NODISCARD int probe_set_new(const struct release *release, const struct probe_context *context,
			    enum probe_mode mode, uint64_t now_ms, struct probe_set **ret);
/* Ends and reaps what still runs (SIGKILL, so it does not wait for programs). NULL is fine. */
void probe_set_free(struct probe_set *set);
DEFINE_FREEP(struct probe_set *, probe_set_free)

/* This check failed in the baseline: it is not blamed, unless must_fix. An unknown name is ignored (a journal of another release). */
void probe_set_was_failing(struct probe_set *set, const char *check);

/* What a baseline found (a metric's value, how far a log was read), by the check's name. "" and unknown names are ignored. */
void probe_set_before(struct probe_set *set, const char *check, const char *value);
/* In a baseline that is done: the value to hand to probe_set_before after the swap; "": none. Borrowed. */
const char *probe_set_value(const struct probe_set *set, size_t index);
/* A metric's value as its last run found it, and how much stands behind it. False: that run found none. */
bool probe_set_measured(const struct probe_set *set, size_t index, double *ret_value, double *ret_samples);
/* How long a baseline may take. */
uint64_t probe_set_baseline_ms(const struct probe_set *set);

/*
 * Fill in the descriptors to wait for, at most `max` (PROBE_FDS_PER_CHECK per check
 * suffice), return how many, and lower *timeout_ms (-1: infinite) to the next moment
 * something is due. Calling step more often than told costs little and is never wrong.
 */
size_t probe_set_prepare(const struct probe_set *set, struct pollfd *fds, size_t max, uint64_t now_ms,
			 int *timeout_ms);

/* Start, continue and end runs, as far as it goes without waiting. */
void probe_set_step(struct probe_set *set, uint64_t now_ms);

/*
 * The `link` check is the caller's: it says when the node verified the controller's
 * answer to its own nonce on a connection made after the swap (true), or, in a
 * baseline, that it did or did not hold. `detail` may be NULL.
 */
void probe_set_link_result(struct probe_set *set, bool holds, const char *detail);
/* Is there a required and blamed link check that does not hold yet? Then the caller should ask the controller. */
bool probe_set_wants_link(const struct probe_set *set);

/* Baseline: has every check its one result? A link check without a word from the caller counts as not held after its timeout. */
bool probe_set_done(const struct probe_set *set);

struct probe_status {
	const struct release_check *check;
	enum probe_state state;
	const char *
		detail; /* the last run in words, or its output's tail; never NULL, borrowed until the next step */
	uint64_t runs, failures; /* in all */
	unsigned failed_in_a_row;
	int64_t changed_ms; /* when the state changed last */
	int error; /* why the last run could not be started: the node's own lack, perhaps; 0: it was started */
};
size_t probe_set_count(const struct probe_set *set);
const struct probe_status *probe_set_at(const struct probe_set *set, size_t index); /* NULL behind the last */

/*
 * Failed as soon as a required check that is blamed fails. Otherwise nothing before
 * `probation_ms` since the set was made; then passed when every one of them is passing
 * with no failure since its last success, unproven when no required check besides
 * `link` passed or one of them has said nothing by its deadline, ONLY_LINK while nothing but the link is missing (the caller extends
 * up to its link_deadline and judges then). *ret_why: the check that failed or is
 * waited for, else NULL.
 */
enum probe_verdict { PROBE_IN_PROGRESS, PROBE_PASSED, PROBE_UNPROVEN, PROBE_ONLY_LINK, PROBE_FAILED };
enum probe_verdict probe_set_verdict(const struct probe_set *set, uint64_t now_ms, uint64_t probation_ms,
				     const struct probe_status **ret_why);

#endif
