/*
 * service - the programs and units of the installed components.
 *
 * The caller says what should run (services_apply, services_stop); the set gets
 * there step by step without blocking, keeps what a release started running
 * (restarts with backoff 1 s to 60 s), and recognises it again after a restart of
 * the agent by process id and start time. Services outlive the agent: they are in
 * sessions of their own and end only when told to. A component's services start in
 * the order in which the release declares them and stop in the other; where several must
 * go and come back, all stop before the first starts. What they print is kept
 * (service_log.h). Signals go to the process itself, never to whoever has its number.
 */
#ifndef SELFRIGHT_LOCAL_SERVICE_H
#define SELFRIGHT_LOCAL_SERVICE_H

#include "base/attr.h"
#include "base/buf.h"
#include "os/os.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct command_context;
struct release;
struct services;

enum { SERVICES_MAX = 128, SERVICES_FDS_MAX = 3 * SERVICES_MAX };

/* Records and logs go below `run`/services, which is made. `boot_id` tells records of this boot from older ones. */
NODISCARD int services_open(const struct os *os, const char *run, const char *boot_id, struct services **ret);
/* Forget; nothing is stopped. */
void services_close(struct services *s);

/*
 * Let the component's services be those of this release: what runs under another
 * version, or is no longer declared, is stopped (or reloaded where the release says
 * how), the rest started; what runs under this version already is not touched.
 * `changed`: the tree below ${root} is another one than when they were started.
 * -ERR_FIELD_MISSING, -ERR_REFUSED (user or unit not allowed here) before anything is done.
 */
NODISCARD int services_apply(struct services *s, const struct command_context *c, const struct release *release);

/* Let nothing of the component run; `before_swap_only`: only what asks to be stopped before the swap. */
void services_stop(struct services *s, const char *component, bool before_swap_only);

/*
 * The service that runs is what `version` of the component declares too, with the same
 * files: it counts as that version's from now on, and is neither stopped nor started for it.
 */
void services_keep(struct services *s, const char *component, const char *name, const char *version);

/* Go on; returns the time of the next thing to do (UINT64_MAX: none). */
uint64_t services_step(struct services *s, uint64_t now_ms);

/* Descriptors that turn readable when a service ends; at most `max`. */
size_t services_prepare(const struct services *s, struct pollfd *fds, size_t max);

/*
 * 1: everything is as it should be; 0: not yet; -ERR_CHILD or -ERR_UNIT: a service
 * did not start, or did not stay; *ret_name (may be NULL) is borrowed until the next apply.
 */
NODISCARD int services_settled(const struct services *s, const char *component, const char **ret_name);

/* Is a process of the component still there that was told to go? *ret_name as above. */
bool services_are_leaving(const struct services *s, const char *component, const char **ret_name);

/* The newest output of one of the component's services that failed, else of any; appended. */
void services_log_tail(const struct services *s, const char *component, struct buf *out);

struct service_status {
	const char *component, *name, *state; /* "running", "starting", "stopping", "stopped", "failing", "unit" */
	int pid;
	unsigned restarts;
};
size_t services_count(const struct services *s);
bool services_at(const struct services *s, size_t index, struct service_status *ret);

#endif
