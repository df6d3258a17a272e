/*
 * Disruption limits (DESIGN.md section 5 "Grant"): a node asks before it swaps, the answer is signed by `control`
 * over node and nonce. A place that was given is kept on disk before the answer leaves; it is freed by the node's
 * signed reports alone, or by a person.
 */
#include "base/err.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "model/report.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_events.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/db_places.h"
#include "server-stub/ingest/db_rollouts.h"
#include "server-stub/ingest/ingest.h"
#include "server-stub/signer/client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { START_WITHIN_S = 15 * 60 }; /* preflight, checks and drain happen in it */

/* --- what the limit is --- */

struct limit {
	bool known; /* the rollout is here, and its plan names a group */
	char label[LABEL_NAME_MAX + 1];
	uint64_t maximum, silent_after_s;
	char state[16];
};

static int read_limit(void *user, const struct db_rollout *row)
{
	struct limit *l = user;
	struct conf_error error;
	struct plan plan;
	int r = plan_parse(row->plan, strlen(row->plan), "plan", &plan, &error);

	if (r < 0)
		return r;
	snprintf(l->state, sizeof(l->state), "%s", row->state);
	if (plan.limits.disruption_label) {
		l->known = true;
		snprintf(l->label, sizeof(l->label), "%s", plan.limits.disruption_label);
		l->maximum = plan.limits.disruption_maximum;
		l->silent_after_s = plan.silent_after_s;
	}
	plan_done(&plan);
	return 0;
}

struct group {
	const char *label;
	char value[LABEL_VALUE_MAX + 1]; /* "": the nodes without the label are one group */
	bool quarantined;
};

static int read_group(void *user, const struct db_node *row)
{
	CLEANUP(json_freep)
	struct json *labels = NULL;
	struct group *g = user;
	const char *value;
	int r = json_parse(row->labels, strlen(row->labels), &json_limits_default, &labels);

	if (r < 0)
		return r;
	value = json_string(json_get(labels, g->label));
	snprintf(g->value, sizeof(g->value), "%s", value ? value : "");
	g->quarantined = row->quarantined;
	return 0;
}

struct down {
	uint64_t count;
	char first[ID_MAX + 48];
};

static int count_down(void *user, const struct db_down *row)
{
	struct down *d = user;

	if (d->count++ == 0)
		snprintf(d->first, sizeof(d->first), "%s %.40s", row->node, row->reason);
	return 0;
}

struct held {
	const char *update;
	bool held;
};

static int compare_place(void *user, const struct db_place *row)
{
	struct held *h = user;

	h->held = str_eq(row->update, h->update);
	return 0;
}

/* --- judging --- */

static int refuse(struct grant *g, const char *why)
{
	snprintf(g->reason, sizeof(g->reason), "%s", why);
	return 0;
}

int lease_judge(struct serve *s, const struct lease *asked, struct grant *ret)
{
	struct limit limit = { 0 };
	struct group group = { .label = limit.label };
	struct held held = { asked->update, false };
	struct down down = { 0 };
	char text[300];
	struct db_place place = { .node = asked->node,
				  .update = asked->update,
				  .rollout = asked->rollout,
				  .label = limit.label,
				  .value = group.value,
				  .sequence = asked->sequence,
				  .granted_at = serve_now(s) };
	int r;

	r = db_rollouts(s->db, asked->rollout, read_limit, &limit);
	if (r == -ENOENT)
		return refuse(ret, "this controller knows no such rollout");
	if (r == 0 && !limit.known)
		return refuse(ret, "the rollout has no limit that could be asked for");
	if (r == 0 && str_eq(limit.state, "paused"))
		return refuse(ret, "the rollout is paused");
	if (r == 0)
		r = db_nodes(s->db, asked->node, read_group, &group);
	if (r == 0 && group.quarantined)
		return refuse(ret, "the node is in quarantine");
	if (r == 0)
		r = db_down(s->db, limit.label, group.value, asked->node,
			    serve_now(s) - (int64_t) limit.silent_after_s, count_down, &down);
	/* The answer to the same request was lost, or the agent was started again: it has its place. */
	if (r == 0)
		r = db_places(s->db, asked->node, compare_place, &held);
	if (r < 0)
		return r;
	/* Nobody who holds a place has begun: a twin that died since counts against it. */
	if (down.count >= limit.maximum) {
		snprintf(ret->reason, sizeof(ret->reason),
			 "%" PRIu64 " of at most %" PRIu64 " of %.30s are down: %.50s", down.count, limit.maximum,
			 group.value[0] ? group.value : "those without the label", down.first);
		return 0;
	}
	r = db_place_put(s->db, &place);
	ret->granted = r == 0;
	ret->start_within_s = START_WITHIN_S;
	if (r < 0 || held.held)
		return r;
	snprintf(text, sizeof(text), "%s may be down now: %.60s %.100s, %" PRIu64 " of %" PRIu64, asked->node,
		 limit.label, group.value[0] ? group.value : "(without)", down.count + 1, limit.maximum);
	return db_event_add(s->db,
			    &(struct db_event){
				    .at = serve_now(s), .kind = "granted", .node = asked->node, .text = text });
}

static void write_grant(const void *what, struct json_node *object)
{
	grant_write(what, object);
}

int lease_answer(struct serve *s, const char *node, const void *data, size_t len, struct buf *ret_grant,
		 const char **ret_refusal)
{
	struct lease asked;
	struct grant grant = { .granted = false };
	int r = ingest_lease(s->db, s->fleet, node, data, len, serve_now(s), &asked, ret_refusal);

	if (r == 0 && *ret_refusal) {
		log_debug("lease-refused", "node=%s: %s", node, *ret_refusal);
		return 0;
	}
	if (r == 0)
		r = db_begin(s->db);
	if (r == 0) {
		snprintf(grant.fleet, sizeof(grant.fleet), "%s", asked.fleet);
		snprintf(grant.node, sizeof(grant.node), "%s", asked.node);
		snprintf(grant.nonce, sizeof(grant.nonce), "%s", asked.nonce);
		snprintf(grant.update, sizeof(grant.update), "%s", asked.update);
		r = lease_judge(s, &asked, &grant);
	}
	/* On disk before anybody can act by it: a controller that starts again knows who may be down. */
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	if (r < 0) {
		log_error("lease-failed", "a request for a place was not answered: node=%s error=%s (%s)", node,
			  err_text(r), db_error(s->db));
		return r;
	}
	log_info("lease-answered", "node=%s update=%s granted=%d reason=%s", node, asked.update, grant.granted,
		 grant.reason);
	r = trust_sign(s, write_grant, &grant, ret_grant);
	if (r < 0)
		log_error("grant-failed", "a place is given, but its grant was not signed: node=%s error=%s", node,
			  s->signer ? signer_error(s->signer) : "the signer is away");
	return r;
}

void lease_post(void *user, struct web_request *rq)
{
	CLEANUP(buf_done)
	struct buf grant = BUF_INIT(16 * 1024);
	const char *node = web_arg(rq, 0), *refusal = NULL;
	const void *body;
	size_t len;

	body = web_body(rq, &len);
	if (lease_answer(user, node, body, len, &grant, &refusal) < 0)
		web_fail(rq, 503, "the request cannot be answered now; ask again");
	else if (refusal)
		web_fail(rq, 403, "%s", refusal);
	else
		web_reply(rq, 200, "application/json", grant.data, grant.len);
}

/* --- for people --- */

static int write_place(void *user, const struct db_place *row)
{
	struct json_node *o = node_object(user, "place");
	char stamp[TIMESTAMP_LEN + 1];

	timestamp_format(stamp, row->granted_at);
	node_string(o, "update", row->update);
	node_string(o, "rollout", row->rollout);
	node_string(o, "label", row->label);
	node_string(o, "value", row->value);
	node_string(o, "granted", stamp);
	return 0;
}

int lease_show(struct serve *s, const char *node, struct json_node *object)
{
	return db_places(s->db, node, write_place, object);
}

int lease_release(struct serve *s, const char *node, const char *reason, const char *by, unsigned *ret_count)
{
	char text[1200];
	int r = db_begin(s->db);

	*ret_count = 0;
	if (r == 0)
		r = db_place_free(s->db, node, ret_count);
	snprintf(text, sizeof(text), "%s no longer counts as down by leave: %s", node, reason);
	if (r == 0 && *ret_count > 0)
		r = serve_record(s, "place-freed", node, NULL, text, by, "release-lease", node);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	return r;
}

void lease_delete(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *node = doc ? id_arg(rq, 0, "node") : NULL, *reason;
	unsigned count = 0;
	int r;

	if (!doc || !node_is_known(s, rq, node))
		return;
	reason = text_field(rq, doc, "reason");
	if (!reason)
		return;
	r = lease_release(s, node, reason, by_of(doc), &count);
	if (r < 0) {
		fail_database(s, rq, r);
	} else if (count == 0) {
		web_fail(rq, 409, "%s holds no place: nothing waits for it", node);
	} else {
		node_string(json_build_root(b), "node", node);
		answer(rq, 200, b);
	}
}
