/*
 * POST /v1/rollouts/<id>/skip: a person who looked at a node says that this rollout does not wait for it. What is
 * known of it by then counts no more, for or against the release; it still takes the release when it can, and a
 * failure by the release that it reports later counts like any other.
 */
#include "base/err.h"
#include "base/log.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_members.h"
#include "server-stub/ingest/db_rollouts.h"

#include <errno.h>
#include <stdio.h>

struct skipped {
	char component[ID_MAX + 1];
};

static int read_component(void *user, const struct db_rollout *row)
{
	struct skipped *k = user;

	snprintf(k->component, sizeof(k->component), "%s", row->component);
	return 0;
}

static int store(struct serve *s, const char *id, const struct skipped *k, const char *node, bool withdraw,
		 const char *reason, const char *by, unsigned *ret_count)
{
	char text[1300];
	int r = db_begin(s->db);

	*ret_count = 1;
	if (r == 0)
		r = withdraw ? db_skip_withdraw(s->db, id, node, ret_count)
			     : db_skip(s->db, id, node, reason, by, serve_now(s));
	snprintf(text, sizeof(text), "rollout %s %s this node: %s", id,
		 withdraw ? "waits again for" : "does not wait for", reason);
	if (r == 0 && *ret_count > 0)
		r = serve_record(s, "skipped", node, k->component, text, by, withdraw ? "unskip" : "skip", text);
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	return r;
}

void skip_post(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *id = doc ? id_arg(rq, 0, "rollout") : NULL, *node, *reason;
	bool withdraw = json_bool(json_get(doc, "withdraw"), false);
	struct skipped k;
	unsigned count;
	int r;

	if (!doc || !id)
		return;
	node = json_string(json_get(doc, "node"));
	if (!guard_id(node)) {
		web_fail(rq, 400, "'node' is needed, the name of one");
		return;
	}
	if (!node_is_known(s, rq, node))
		return;
	reason = text_field(rq, doc, "reason");
	if (!reason)
		return;
	r = db_rollouts(s->db, id, read_component, &k);
	if (r == -ENOENT) {
		web_fail(rq, 404, "there is no rollout '%s'; selfright rollout list shows all", id);
		return;
	}
	if (r == 0)
		r = store(s, id, &k, node, withdraw, reason, by_of(doc), &count);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	if (count == 0) {
		web_fail(rq, 409, "the rollout '%s' does not skip '%s'", id, node);
		return;
	}
	log_notice("node-skipped", "rollout=%s node=%s withdrawn=%d", id, node, withdraw);
	node_string(json_build_root(b), "id", id);
	node_string(json_build_root(b), "node", node);
	node_string(json_build_root(b), "now", withdraw ? "waited for" : "skipped");
	publish_and_answer(s, rq, 200, b);
}
