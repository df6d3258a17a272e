/*
 * node - what the phases of an update work on: the node's durable state, what was
 * verified, and the part of the update under way that a restart makes anew.
 *
 * The engine owns one and drives it; phases change it and say how they ended. What
 * must survive is in `state` and saved before it is acted on.
 */
#ifndef SELFRIGHT_PHASE_NODE_H
#define SELFRIGHT_PHASE_NODE_H

#include "agent/local/command.h"
#include "agent/local/config.h"
#include "agent/local/supervisor.h"
#include "agent/phase/held.h"
#include "agent/probe/probe.h"
#include "agent/store/data.h"
#include "agent/store/state.h"
#include "agent/store/store.h"
#include "base/attr.h"
#include "base/fetcher.h"
#include "base/text.h"
#include "model/catalogue.h"
#include "model/decide.h"
#include "model/opening.h"
#include "model/report.h"
#include "os/frame.h"
#include "os/os.h"
#include "os/process.h"
#include "tuf/tuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bundle;
struct gather;
struct private_key;
struct rehearsal;
struct measures;
struct watches;
struct zone;
struct services;
struct inhibitors;

/* How a phase ended, when it did not fail (a negative error, said with update_fail). */
enum phase_end {
	PHASE_AGAIN, /* not yet: call again at attempt.wake_ms, or when something happens */
	PHASE_DONE,
	PHASE_DROP, /* before the swap only: the update is put aside without a result */
};

/* Of one update: the main component and with[]. */
enum { PARTS_MAX = 1 + STATE_WITH_MAX };

enum { STAGES_MAX = 32, FETCH_DEADLINE_MS = 60 * 1000, NOTED_MAX = 16, SPACE_MARGIN_BYTES = 16 * 1024 * 1024 };

/* A rollout that names this node's fleet, verified, with the facts beside it. */
struct known_rollout {
	struct rollout rollout;
	char sha256[SHA256_HEX + 1];
	uint64_t share;
	bool approved[STAGES_MAX], up_unapproved[STAGES_MAX]; /* as decide.h's */
	struct opening opening; /* its window and blackouts */
	int64_t notice_ms; /* since boot: its notice period counts from there (turn.c) */
	int64_t spread_ms; /* the same of spread: the opening of this node's stage */
	size_t spread_stage; /* 1 + index of that stage; 0: none is open */
	/* What one of its releases may update from: seen when that was refused, so that a step between is looked for. */
	char needs_component[ID_MAX + 1], needs_from[VERSION_MAX + 1];
	bool notified; /* the hook `notify` has run for its notice period */
	int error; /* it disagrees with something: an update by it is refused with this */
	char *trouble; /* the sentence for it */
	bool withheld; /* what its team signed cannot be had now: nobody begins with it, and it is asked for again */
};

struct known_policy {
	char component[ID_MAX + 1];
	char role[256]; /* that lists it */
	struct policy policy;
	bool present, broken; /* broken: listed, but nothing one can follow; nothing is approved then */
	bool withheld; /* broken because no road brings it; it is asked for again */
};

/* What `verify` made of the trusted metadata. */
struct documents {
	bool loaded;
	struct rollout_index index;
	struct known_rollout *rollouts;
	size_t rollout_count;
	struct node_orders orders;
	struct known_policy *policies;
	size_t policy_count;
	struct labels labels; /* inventory over the node's own */
	char zone_name[64]; /* the label `zone`, else UTC: where windows are read */
	struct zone *zone; /* NULL: it is not known here */
	int zone_error; /* why */
	char zone_edition[16]; /* of the zone database; "": unknown */
	int64_t zone_published; /* the earliest moment it can be of */
};
void documents_done(struct documents *d);
const struct known_policy *documents_policy(const struct documents *d, const char *component);
/* The one of this id, NULL: it names other nodes, or is over. NULL as an id names none. */
struct known_rollout *documents_rollout(const struct documents *d, const char *id);

/* What a check said last, kept when its set is gone. */
struct seen_check {
	char component[ID_MAX + 1], name[ID_MAX + 1], kind[16], state[16], detail[120];
	uint64_t runs, failures;
	int64_t at; /* seconds since 1970 */
};

/* A downloaded file that has to be looked at before the network is asked: announcements (receive.c). */
struct prefetched {
	char *name;
	struct buf bytes;
};

/* The checks of one component of the update. */
struct part_checks {
	struct probe_set *set; /* NULL: none were begun */
	struct probe_context context; /* the set points to it */
	struct command_line environment;
	char *root; /* ${root} of the checks */
	char *data, *helper; /* the component's data folder; selfright-probe, NULL: not found */
};

/* What of one more component in the same update a restart makes anew. */
struct attempt_with {
	struct release release, old; /* as in struct attempt */
	bool has_release, has_old;
};

/* The part of the update under way that a restart makes anew. */
struct attempt {
	unsigned step; /* within the phase; 0 at entry */
	uint64_t entered_ms; /* this state */
	uint64_t started_ms; /* this update, or its resumption */
	uint64_t wake_ms; /* UINT64_MAX: nothing to wait for but events */
	uint64_t trouble_ms; /* the way back does not get on since then; 0: it does */
	struct release release; /* of `to`; has_release */
	struct release old; /* of `from`; has_old */
	bool has_release, has_old;
	bool resumed; /* this state was found in the journal at start */

	struct process stage; /* the stage process; pid 0: none */
	int stage_fd; /* its progress pipe, -1: none */
	struct buf stage_line;
	int stage_error; /* what it said; 0: nothing yet */
	char stage_detail[256];
	bool stage_done;
	uint64_t stage_rate; /* its ceiling, bytes per second; 0: none */
	bool slow; /* a place was left because it is much too slow */
	bool patient; /* no other road did better: now it is taken as it is */
	uint64_t bytes_done, bytes_total, progress_told_ms;
	uint32_t save_id; /* the artifact that the link saves over MQTT; 0: none */
	bool save_over, saved; /* it ended; and well: stage reads it from the outbox */
	int save_error;
	size_t road, road_end; /* of config->roads: those that are tried now */
	uint64_t spread_until_ms; /* the download begins then; 0: it need not wait */
	uint64_t leave_ms; /* whoever has the artifact asked to be left alone for so long; 0: nobody did */

	struct command command; /* a hook */
	size_t part; /* of those that are done one after the other: which one it is at */
	struct attempt_with with[STATE_WITH_MAX];
	struct part_checks checks[PARTS_MAX];
	char nonce[NONCE_HEX + 1]; /* asked of the controller; "": not asked */
	uint64_t nonce_ms;
	struct command witness; /* who answers on the network */
	bool witness_done;
	uint64_t asked_ms; /* since when the controller is waited for; 0: it is not */
	bool services_were_fine;
	uint64_t stopped_ms; /* when the service went away, 0: it did not */
	uint64_t refresh_asked_ms; /* 0: not asked */
	struct data_save *data; /* being copied */
	char *data_text; /* what update_data borrows of data_from */

	struct buf log_tail;
	bool lease_asked, lease_granted;
	char lease_nonce[NONCE_HEX + 1];
	uint64_t lease_until_ms;
	char lease_refusal[128];
};

/* An installation from a bundle (agent/install.h): under way, or how the last one ended. */
enum { INSTALL_SENTENCE_SIZE = 1200 };
struct installation {
	bool over; /* there was one, and it has ended */
	int code; /* then: 0 good or nothing to do, 1 nothing has changed, 3 undone, 5 stuck */
	unsigned good, undone, failed; /* updates that ended since it began */
	char sentence[INSTALL_SENTENCE_SIZE];
	char path[1024];
	int refresh_error; /* why its metadata were not taken; 0: they were, or ours are as new */
	char refresh_text[512];
	char watched[STATE_UPDATE_SIZE]; /* the update on watch after which everything was looked at again */
};

struct node {
	const struct os *os;
	const struct config *config;
	struct store *store;
	const struct store_dirs *dirs;
	struct node_state *state;
	struct tuf_client *tuf;
	struct private_key *identity;
	struct services *services;
	struct inhibitors *inhibitors;
	struct measures *measures; /* metrics of what runs (measures.h) */
	struct watches *watches; /* components watched while others move (watches.h) */
	struct supervisor supervisor;
	char boot_id[BOOT_ID_MAX + 1];
	bool as_root;
	int documents_fd, manifests_fd; /* <root>/documents, <root>/manifests */
	uid_t stage_uid; /* (uid_t) -1: stays ours */
	gid_t stage_gid;

	struct documents docs;
	struct fetcher fetcher; /* looks into the caches, then asks the link */
	struct prefetched *prefetched;
	size_t prefetched_count, prefetched_bytes;
	bool use_pushed_timestamp; /* this refresh may take the pushed one */

	struct rehearsal *rehearsal; /* what an operator asked to fail */
	void (*entered)(struct node *n, enum update_state s); /* told of every state; NULL: nobody listens */
	struct bundle *bundle; /* an installation from it is under way; NULL: none */
	bool ask_bundle; /* metadata come from it just now */
	bool stopping; /* the process was told to end: long work is given up */
	bool alone; /* there is only the bundle: no link, no controller */
	bool image; /* the root belongs to another system: nothing of it is run here */
	struct installation installation;

	struct gather *gather; /* files that support asked for; NULL: none */

	/* --- asked of the engine --- */
	bool refresh_wanted; /* from the network, now */
	bool push_wanted; /* a newer timestamp was pushed */
	bool replan; /* something `decide` looks at has changed */
	bool report_wanted;
	bool handover_wanted; /* this process is to leave, another agent follows */
	bool link_restart_wanted; /* a fresh connection, to prove that one can be made */
	uint64_t plan_ms; /* decide again then */
	uint64_t mend_ms; /* a damaged fallback is fetched again from then on, when there is a road */

	/* --- the last refresh --- */
	uint64_t refreshed_ms; /* when one ended, well or not; 0: never */
	uint64_t polled_ms; /* when one ended that asked the origin */
	int64_t refreshed_at; /* the last good one, seconds since 1970; 0: never */
	int refresh_error;
	char refresh_text[512];

	/* --- the link --- */
	struct frame_conn *link; /* NULL: not running */
	bool link_connected;
	char link_reason[256];
	char enrolment[512]; /* why there is no certificate, or no newer one; "": nothing is missing */
	struct string_list ca_trusted; /* SHA-256 of the CAs in ca.crt */
	char ca_issuer[SHA256_HEX + 1], /* which of them issued our certificate; "": none */
		ca_issuing[SHA256_HEX + 1]; /* which issues by now, as targets say; "": they do not */
	char ca_note[256]; /* why one that is to go does not; "": nothing is wrong */
	bool certificate_changed; /* which CA it is of is looked up again */
	bool ca_trying; /* the link is tried without a CA that is to go */
	int64_t certificate_until; /* seconds since 1970; 0: there is none */
	char identity_fingerprint[SHA256_HEX + 1]; /* what people compare before they release a new key */
	uint32_t fetch_id; /* of the request under way */
	bool fetch_answered;
	int fetch_error;
	struct buf fetch_bytes;
	uint32_t trial_id; /* of the link's own connection (agent/trial.h); 0: never asked for */
	bool trial_over;
	struct json *trial; /* what the link told of it; NULL: nothing */
	char fetch_words[400]; /* of the last failure: the road's own ("response 407 from proxy"); "": none */
	void (*pump)(struct node *n, int timeout_ms); /* wait for frames, serving readers at the console */
	void *engine;

	/* --- reports --- */
	uint64_t reported_ms;
	uint64_t acked_sequence, acked_ms; /* the last verified answer; 0: none in this run */
	char report_nonce[NONCE_HEX + 1];
	char acked_nonce[NONCE_HEX + 1]; /* that it answered; "": none */
	uint64_t lease_again_ms; /* a refused lease is asked for again then */
	unsigned lease_refusals; /* in a row */
	char lease_refusal[128]; /* the last one's reason */

	struct seen_check seen[RELEASE_CHECKS_MAX]; /* of each component's last probation or watch in this run */
	size_t seen_count;

	char zone_told[16]; /* the edition of zone data that was called old */
	uint32_t noted[NOTED_MAX]; /* hashes of sentences update_note told, newest last */
	struct attempt attempt;
	struct held held; /* of artifacts' addresses, across attempts */
};

uint64_t node_now_ms(const struct node *n);
int64_t node_now(const struct node *n); /* by which expiry is judged; never goes back */
bool node_is_fresh(const struct node *n);

/* Decide again at this time of node_now(), in an hour at the latest, unless it is done sooner anyway. */
void node_plan_at(struct node *n, int64_t at);
void node_plan_in(struct node *n, uint64_t in_ms); /* the same, by the boot clock */

/* Save the state; after a failure it says so once and returns it. */
NODISCARD int node_save(struct node *n);

/* 32 hex digits. */
NODISCARD int node_nonce(struct node *n, char ret[static NONCE_HEX + 1]);

/* Send to the link; without one the frame is dropped: everything is sent again by itself. */
void node_link_send(struct node *n, unsigned type, uint32_t id, const void *data, size_t len);

/* The absolute path of ${root} for a component: the current one, or a sealed version's. Free it; NULL: out of memory. */
char *node_current_root(const struct node *n, const char *component);
char *node_version_root(const struct node *n, const char *component, const char *version);
/* Is this version sealed in the store? */
bool node_has_version(const struct node *n, const char *component, const char *version);

/* Is the zone database older than this node's configuration accepts? False where nothing is known of it. */
bool node_zone_is_stale(const struct node *n);
/* Keep what the checks of the update under way say now. */
void node_see_checks(struct node *n);
/* The same for one component's; NULL: there are none, and what was seen stays. */
void node_see_set(struct node *n, const char *component, const struct probe_set *set);

/* --- the update under way --- */
bool update_is_active(const struct node *n);
bool node_is_busy(const struct node *n); /* between the stop of the old version and the verdict on the new one */
enum update_state update_state(const struct node *n);

/* One component of the update under way: the main one first, then with[]. Borrowed from state and attempt. */
struct part {
	const char *component, *from, *to; /* versions; "": absent */
	char *release_path, *release_sha256, *digest; /* STATE_PATH_SIZE, STATE_HEX_SIZE */
	struct release *release, *old; /* of `to` and `from`, if has_release, has_old */
	bool *has_release, *has_old;
	struct part_checks *checks;
};
size_t update_part_count(const struct node *n); /* 0: no update */
struct part update_part(struct node *n, size_t i);
bool update_concerns(const struct node *n, const char *component); /* is it one of the parts? */
/* What failed was this component's: of several it alone is denied. */
void update_blame(struct node *n, const char *component);

/* Begin the checks of a part, unless this is a baseline with what it found. */
NODISCARD int part_checks_begin(struct node *n, const struct part *p, enum probe_mode mode);
void part_checks_done(struct part_checks *c);

/* What the update copies before its swap, and the name of that save below saved/. False: nothing. */
bool update_data(struct node *n, struct data_set *ret, char name[static DATA_NAME_SIZE]);
/* What that takes on the disk: no bytes where files can share them and are not to be rewritten. An error is said with update_fail. */
NODISCARD int update_measure_data(struct node *n, struct data_size *ret);
/* Drop saves that have been kept long enough. */
void node_collect_data(struct node *n);
/* Drop downloads that nobody goes on with: the stage process removes its own, unless it cannot. */
void node_collect_spool(struct node *n);
/* What an update that has ended leaves to nobody: old generations but this one (0: none), old versions, leftovers. */
void node_collect(struct node *n, uint64_t generation);

/* Read the manifests of the update's versions from the store's side again (after a restart). */
NODISCARD int attempt_load(struct node *n);

/* Release what a restart makes anew. */
void attempt_done(struct attempt *a);
void attempt_init(struct attempt *a);

/* Tell the desk: a state change or progress. */
void update_event(struct node *n);

/* data/<component>, owned by the component's user. */
NODISCARD int node_prepare_component(struct node *n, const char *component);

/*
 * Let the services that `to` declares and holds as `from`, which runs, did be counted as
 * `to`'s: nothing is done to them (unchanged.c). Both are in the store.
 */
void node_keep_services(struct node *n, const struct release *from, const struct release *to);

/* Start a hook of this release; its command is then stepped by the phase. */
NODISCARD int hook_begin(struct node *n, const struct release *release, const struct release_command *hook,
			 const char *root);

#endif
