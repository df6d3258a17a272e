/*
 * Reports of nodes, by whichever road they came: stored, and answered when they are on the disk.
 */
#include "base/log.h"
#include "json/build.h"
#include "model/report.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/ingest.h"
#include "server-stub/signer/client.h"

enum { BATCH_WAIT_MS = 5000 /* it ends with this round of the loop */ };

static void write_ack(const void *what, struct json_node *object)
{
	ack_write(what, object);
}

int report_store(struct serve *s, const char *node, const void *data, size_t len, const char *road,
		 struct ingest_outcome *ret, bool *ret_refused)
{
	struct ingest_outcome o;
	int r = ingest_report(s->db, s->fleet, node, data, len, serve_now(s), &o);

	if (r < 0) {
		log_error("ingest-failed", "a report was not stored: node=%s error=%s", node, db_error(s->db));
		return r;
	}
	*ret = o;
	if (o.timestamp)
		restore_look(s, node, o.timestamp, data, len);
	*ret_refused = o.verdict == INGEST_UNKNOWN || o.verdict == INGEST_UNSIGNED ||
		       o.verdict == INGEST_MALFORMED || o.verdict == INGEST_QUARANTINED;
	if (*ret_refused)
		log_warning("report-refused", "node=%s road=%s verdict=%s: %s", node, road,
			    ingest_verdict_name(o.verdict), o.text);
	else
		log_debug("report-taken", "node=%s road=%s verdict=%s news=%u", node, road,
			  ingest_verdict_name(o.verdict), o.news);
	return 0;
}

int report_sign_ack(struct serve *s, const struct ack *ack, struct buf *ret)
{
	int r = trust_sign(s, write_ack, ack, ret);

	if (r < 0)
		log_error("ack-failed", "a report is stored, but its answer was not signed: node=%s error=%s",
			  ack->node, s->signer ? signer_error(s->signer) : "the signer is away");
	return r;
}

/* A report that waits for the end of its batch. */
struct posted {
	bool stored;
	uint64_t batch; /* 0: it is on the disk already */
	struct ingest_outcome outcome;
};

static void answer_posted(struct serve *s, struct web_request *rq, const struct posted *p)
{
	CLEANUP(buf_done)
	struct buf ack = BUF_INIT(16 * 1024);

	if ((p->batch && p->batch == s->failed_batch) ||
	    (p->outcome.acknowledge && report_sign_ack(s, &p->outcome.ack, &ack) < 0))
		web_fail(rq, 503, "the report cannot be answered now; send it again");
	else if (ack.len == 0)
		web_fail(rq, 409, "%s", p->outcome.text);
	else
		web_reply(rq, 200, "application/json", ack.data, ack.len);
}

/* Stored at the first call; answered once it, and what came with it, is on the disk. */
void report_post(void *user, struct web_request *rq)
{
	struct serve *s = user;
	const char *node = id_arg(rq, 0, "node");
	struct posted *p = node ? web_note(rq, sizeof(*p), NULL) : NULL;
	bool refused = false;
	const void *body;
	size_t len;

	if (!node)
		return;
	if (!p) {
		web_fail(rq, 503, "the report cannot be answered now; send it again");
		return;
	}
	if (!p->stored) {
		body = web_body(rq, &len);
		broker_begin_batch(s);
		if (report_store(s, node, body, len, "https", &p->outcome, &refused) < 0) {
			web_fail(rq, 503, "the report cannot be answered now; send it again");
			return;
		}
		if (refused) {
			web_fail(rq, 403, "%s", p->outcome.text);
			return;
		}
		p->stored = true;
		p->batch = s->batch ? s->batches : 0;
		if (p->batch && web_wait(rq, BATCH_WAIT_MS)) {
			s->posted = true;
			return;
		}
	}
	if (p->batch == s->batches)
		broker_settle(s);
	answer_posted(s, rq, p);
}

/* Of a stick, by hand: the same rules, and in words what came of it. Whoever sent it hears it the next time it is connected. */
void report_of_stick_post(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct ingest_outcome o = { .news = 0 };
	const char *node = id_arg(rq, 0, "node");
	bool refused = false;
	const void *body;
	size_t len;
	int r;

	if (!node)
		return;
	body = web_body(rq, &len);
	r = report_store(user, node, body, len, "stick", &o, &refused);
	if (r < 0) {
		fail_database(user, rq, r);
		return;
	}
	node_string(json_build_root(b), "node", node);
	node_string(json_build_root(b), "verdict", ingest_verdict_name(o.verdict));
	node_bool(json_build_root(b), "taken", !refused);
	node_integer(json_build_root(b), "news", o.news);
	node_string(json_build_root(b), "text", o.text);
	answer(rq, 200, b);
}
