/*
 * internal - one probe, as prepare.c makes it, judge.c understands its answers and
 * probe.c runs it. Nobody outside of agent/probe includes this.
 */
#ifndef SELFRIGHT_AGENT_PROBE_INTERNAL_H
#define SELFRIGHT_AGENT_PROBE_INTERNAL_H

#include "agent/probe/log_lines.h"
#include "agent/probe/metric.h"
#include "agent/probe/probe.h"
#include "agent/probe/run.h"
#include "agent/probe/status.h"

/* How a probe gets its answer. */
enum road {
	ROAD_CALLER, /* link: the caller knows */
	ROAD_TALK, /* a socket of our own to a numeric address */
	ROAD_PROGRAM, /* a program of the release, systemctl, journalctl */
	ROAD_HELPER, /* selfright-probe, as the component's user: TLS, names, Unix sockets, files */
};

/* How far a log has been read. */
struct log_place {
	bool known;
	uint64_t inode, offset; /* of a file */
	uint64_t us; /* of the journal: the time of the newest entry seen */
};

struct probe {
	struct probe_status status;
	enum road road;
	char **argv; /* expanded, NULL-terminated; programs and the helper */
	struct buf input; /* what the helper reads */
	char *request; /* over a socket */
	char *expect_body;
	struct http_expect expect;
	struct run_address addresses[RUN_ADDRESSES_MAX];
	size_t address_count;

	struct selector *select, *of;
	struct metric_window *window;
	char before[PROBE_VALUE_MAX]; /* a metric's own value before the swap; "": not known */
	char value[PROBE_VALUE_MAX]; /* what a baseline found, for the journal */
	bool measured; /* by the last run of a metric: */
	double measured_value, measured_samples;
	struct log_kinds *kinds;
	struct log_place place;
	char *log_file;

	bool was_failing; /* in the baseline */
	bool settled; /* baseline: it has its result */
	unsigned starts_in_vain; /* baseline: the node could not start it */
	bool running, inconclusive; /* inconclusive: the last run was */
	uint64_t next_ms, started_ms; /* when the next run is due; when the one under way began */
	uint64_t passed_in_a_row;
	uint64_t history; /* of the last runs since the first that held, newest in bit 0; 1: failed */
	unsigned history_count;
	struct run_program program;
	struct run_talk talk;
	struct buf detail;
};

struct probe_set {
	const struct probe_context *context;
	enum probe_mode mode;
	uint64_t started_ms;
	struct probe *probes;
	size_t count;
};

/* prepare.c: everything that is known before the first run. */
NODISCARD int probe_prepare(const struct probe_context *c, struct probe *p);
void probe_release(struct probe *p);
/* The helper's command for a log goes on where the last run ended. */
NODISCARD int probe_prepare_log(const struct probe_context *c, struct probe *p);

/* judge.c: what the answer of a run that ended well means. */
enum run_end probe_judge(const struct probe_set *set, struct probe *p, const struct buf *answer, uint64_t now_ms);
/* The value that goes into the journal, and comes back after the swap. */
void probe_note_value(struct probe *p);
void probe_take_value(struct probe *p, const char *value);

#endif
