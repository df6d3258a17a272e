/*
 * phase - the verbs of an update, one per file. They do not call each other; the
 * table in agent/update.c says which comes after which.
 *
 * Each may be called again at any time: run twice it gives the result of once.
 */
#ifndef SELFRIGHT_PHASE_PHASE_H
#define SELFRIGHT_PHASE_PHASE_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct json;
struct json_build;
struct node;
struct release;

/* receive.c: bytes from outside, and the TUF workflow over them. */
void receive_init(struct node *n);
void receive_done(struct node *n);
void receive_forget(struct node *n); /* drop the announced files: nobody will ask for them any more */
void receive_announcement(struct node *n, const void *json, size_t len);
void receive_timestamp(struct node *n, const void *bytes, size_t len);
NODISCARD int phase_receive(struct node *n, bool pushed);
NODISCARD int phase_receive_bundle(struct node *n); /* from the installation's bundle alone */

/* verify.c: what the trusted metadata says, as documents one can decide by. */
NODISCARD int phase_verify(struct node *n);

/* plan.c: which update is next. */
NODISCARD int phase_plan(struct node *n);

/* check.c: may it run here, before a byte of it is fetched. */
NODISCARD int phase_check(struct node *n);

/* stage.c: the bytes into a sealed tree. */
NODISCARD int phase_stage(struct node *n);
/*
 * Fetch a stored version again, from the bundle or the repository, and put it in the place of
 * its damaged tree. Waits for the end of it. Negative with a sentence in `words`.
 */
NODISCARD int stage_repair(struct node *n, const char *component, const char *version, char *words, size_t size);
/* The repository's name of the release's whole artifact, appended. -ENOENT: it has none. */
NODISCARD int stage_artifact_name(const struct release *release, struct buf *out);

/* wait.c: is it time, and what must be known and done before anything stops. */
NODISCARD int phase_wait(struct node *n);

/* swap.c */
NODISCARD int phase_stop(struct node *n);
NODISCARD int phase_swap(struct node *n);
NODISCARD int phase_reboot(struct node *n);

/* health.c */
NODISCARD int phase_health(struct node *n);
NODISCARD int phase_watch(struct node *n);

/* commit.c: the ends. */
NODISCARD int phase_commit(struct node *n);
NODISCARD int phase_discard(struct node *n); /* failed: nothing has changed */

/* rollback.c */
NODISCARD int phase_rollback(struct node *n);
NODISCARD int phase_rolled_back(struct node *n);
NODISCARD int phase_stuck(struct node *n);

/* report.c: the truth, to the controller. */
NODISCARD int phase_report(struct node *n);
/* The same into the file <node>.json of a folder, in place of an older one: for a stick that goes back to the fleet. */
NODISCARD int phase_report_file(struct node *n, int dirfd);
/* A signed answer: what it acknowledges is dropped. */
void report_acknowledge(struct node *n, const void *bytes, size_t len);
/* A signed answer to a lease request. */
void report_grant(struct node *n, const void *bytes, size_t len);
void report_ask_lease(struct node *n);
/* The built object as an envelope, signed by this node's identity. */
NODISCARD int report_sign(struct node *n, struct json_build *b, struct buf *envelope);
/* Only the control key's word counts; whom it is about is the caller's to look at. -ERR_UNTRUSTED before the first refresh. */
NODISCARD int report_open_answer(struct node *n, const void *bytes, size_t len, struct json **ret);

/* gather.c: files that support asked for. */
/* A slice of it; when it wants to be called again, UINT64_MAX: not at all. */
uint64_t phase_gather(struct node *n);
void gather_close(struct node *n); /* what was gathered stays for the next start */
void gather_link_lost(struct node *n); /* a new one knows nothing of it */
void gather_block(struct node *n, uint32_t id, const void *data, size_t len); /* LINK_PUT_WANT */
void gather_receipt(struct node *n, const void *bytes, size_t len); /* LINK_RECEIPT */

#endif
