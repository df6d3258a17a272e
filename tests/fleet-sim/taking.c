#include "tests/fleet-sim/taking.h"

#include "base/err.h"
#include "json/json.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/ingest.h"
#include "tests/fleet-sim/voice.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double seconds(clockid_t clock)
{
	struct timespec t;

	(void) clock_gettime(clock, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

struct taking {
	struct voice *voices;
	struct buf *envelopes;
	char (*publics)[512];
	size_t nodes, each, batch;
	struct db *db;
};

/* A first report, then an update under way and its end, over and over. */
static struct voice_words words_of(size_t turn)
{
	struct voice_words w = { .version = turn % 3 == 2 ? "1.1.0" : "1.0.0",
				 .at = 1800000000,
				 .why = "up-to-date" };

	if (turn % 3 == 0)
		return w;
	w.rollout = "web-1-1-0";
	w.stage = "all";
	w.seq = 1;
	w.update = turn % 3 == 1 ? "web-1-1-0/web/1" : "web-1-1-0/web/2";
	w.from = "1.0.0";
	w.to = "1.1.0";
	w.state = turn % 3 == 1 ? "probation" : NULL;
	w.result = turn % 3 == 2 ? 100 : 0;
	return w;
}

static int prepare(struct taking *t)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < t->nodes; i++) {
		CLEANUP(buf_done)
		struct buf pem = BUF_INIT(sizeof(*t->publics));

		r = voice_make(i, &t->voices[i]);
		if (r == 0)
			r = voice_public(&t->voices[i], &pem);
		if (r == 0 && pem.len >= sizeof(*t->publics))
			r = -ERR_TOO_LARGE;
		if (r == 0)
			snprintf(t->publics[i], sizeof(*t->publics), "%s", buf_str(&pem));
		if (r == 0)
			r = db_node_add(t->db, t->voices[i].node, t->publics[i], "T", "{}", 1700000000);
	}
	for (size_t k = 0; r == 0 && k < t->each; k++)
		for (size_t i = 0; r == 0 && i < t->nodes; i++) {
			const struct voice_words w = words_of(k);

			t->envelopes[k * t->nodes + i] = (struct buf) BUF_INIT(REPORT_MAX_BYTES);
			r = voice_report(&t->voices[i], "demo", &w, &t->envelopes[k * t->nodes + i]);
		}
	return r;
}

static int verify_all(struct taking *t)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < t->nodes * t->each; i++) {
		CLEANUP(tuf_keyring_freep)
		struct tuf_keyring *ring = NULL;
		CLEANUP(json_freep)
		struct json *doc = NULL;

		r = tuf_keyring_single(t->publics[i % t->nodes], &ring);
		if (r == 0)
			r = tuf_envelope_open(t->envelopes[i].data, t->envelopes[i].len, ring, &doc);
	}
	return r;
}

static int take_all(struct taking *t)
{
	int e = t->batch ? db_batch_begin(t->db) : 0;

	for (size_t i = 0; i < t->nodes * t->each; i++) {
		const struct voice *v = &t->voices[i % t->nodes];
		struct ingest_outcome o;
		/* A minute goes by with each round, or nodes would have used up what they may send. */
		int r = ingest_report(t->db, "demo", v->node, t->envelopes[i].data, t->envelopes[i].len,
				      1800000000 + (int64_t) (i / t->nodes) * 60, &o);

		if (r < 0)
			return r;
		if (o.verdict != INGEST_STORED) {
			fprintf(stderr, "fleet-sim: a report was not stored: %s\n", o.text);
			return -ERR_REFUSED;
		}
		if (e == 0 && t->batch && i % t->batch == t->batch - 1) {
			e = db_batch_end(t->db);
			if (e == 0)
				e = db_batch_begin(t->db);
		}
		if (e < 0)
			return e;
	}
	return t->batch && e == 0 ? db_batch_end(t->db) : e;
}

static int timed(int (*what)(struct taking *t), struct taking *t, double *ret_s, double *ret_cpu_s)
{
	double at = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
	int r = what(t);

	*ret_s = seconds(CLOCK_MONOTONIC) - at;
	*ret_cpu_s = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	return r;
}

static int measure(struct taking *t, struct taking_result *ret)
{
	double cpu;
	int r;

	r = db_begin(t->db);
	if (r == 0)
		r = timed(prepare, t, &ret->make_s, &cpu);
	if (r == 0)
		r = db_commit(t->db);
	ret->reports = t->nodes * t->each;
	for (size_t i = 0; r == 0 && i < ret->reports; i++)
		ret->bytes += t->envelopes[i].len;
	if (r == 0)
		r = timed(verify_all, t, &ret->verify_s, &ret->verify_cpu_s);
	if (r == 0)
		r = timed(take_all, t, &ret->take_s, &ret->take_cpu_s);
	return r;
}

int taking_run(size_t nodes, size_t reports_each, size_t batch, const char *folder, struct taking_result *ret)
{
	struct taking t = { .nodes = nodes, .each = reports_each, .batch = batch };
	char path[PATH_MAX];
	int r = snprintf(path, sizeof(path), "%s/fleet-sim-%d.db", folder, (int) getpid());

	if (r < 0 || r >= (int) sizeof(path) - 8)
		return -ENAMETOOLONG;
	*ret = (struct taking_result){ 0 };
	t.voices = calloc(nodes, sizeof(*t.voices));
	t.publics = calloc(nodes, sizeof(*t.publics));
	t.envelopes = calloc(nodes * reports_each, sizeof(*t.envelopes));
	r = t.voices && t.publics && t.envelopes ? db_open(path, &t.db) : -ENOMEM;
	if (r == 0)
		r = measure(&t, ret);
	for (size_t i = 0; t.envelopes && i < nodes * reports_each; i++)
		buf_done(&t.envelopes[i]);
	for (size_t i = 0; t.voices && i < nodes; i++)
		voice_done(&t.voices[i]);
	free(t.envelopes);
	free(t.publics);
	free(t.voices);
	db_close(t.db);
	for (size_t i = 0; i < 3; i++) {
		static const char *const tails[] = { "", "-wal", "-shm" };
		char name[PATH_MAX + 8];

		snprintf(name, sizeof(name), "%s%s", path, tails[i]);
		(void) unlink(name); /* side files are gone after a clean close */
	}
	return r;
}
