/*
 * GET /v1/held: nodes that are left behind, component by component: somebody holds them, keeps them where they are,
 * puts the update off, or they deny what is open to them; what they would go to, who said so and until when.
 */
#include "base/err.h"
#include "json/build.h"
#include "model/decide.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/db_orders.h"

#include <string.h>

/* What only a person ends, here or at the node. */
static bool leaves_behind(const char *why)
{
	static const enum reason reasons[] = { REASON_SUPPORT_HOLD, REASON_SUPPORT_ROLLBACK,
					       REASON_SUPPORT_PIN,  REASON_LOCAL_HOLD,
					       REASON_DEFERRED,	    REASON_DENIED,
					       REASON_FROZEN,	    REASON_STUCK,
					       REASON_INHIBITED };

	for (size_t i = 0; why && i < ARRAY_LEN(reasons); i++)
		if (strcmp(why, reason_name(reasons[i])) == 0)
			return true;
	return false;
}

struct held {
	struct serve *serve;
	struct json_node *list;
	const struct db_node *node;
	const struct db_component *component;
	struct json_node *row;
};

static int write_order(void *user, const struct db_order *row)
{
	struct held *h = user;
	struct json_node *o;

	if (row->unconfirmed || strcmp(row->kind, "retry") == 0 ||
	    (row->component && strcmp(row->component, h->component->component) != 0))
		return 0;
	o = node_object(h->row, "order");
	node_string(o, "id", row->id);
	node_string(o, "kind", row->kind);
	node_string(o, "reason", row->reason);
	node_string(o, "by", row->by);
	node_time(o, "issued", row->issued);
	node_time(o, "until", row->until);
	return 1; /* the first is enough to know whom to ask */
}

static const char *sentence_of(const char *why)
{
	for (int r = 0; r < REASON_COUNT; r++)
		if (str_eq(why, reason_name((enum reason) r)))
			return reason_sentence((enum reason) r);
	return why;
}

static int write_component(void *user, const struct db_component *row)
{
	struct held *h = user;
	int r;

	if (!leaves_behind(row->why))
		return 0;
	h->component = row;
	h->row = node_object(h->list, NULL);
	node_string(h->row, "node", h->node->node);
	node_string(h->row, "component", row->component);
	node_string(h->row, "version", row->version);
	node_string(h->row, "wants", row->wants);
	node_string(h->row, "why", row->why);
	node_string(h->row, "detail",
		    row->why_detail && *row->why_detail ? row->why_detail : sentence_of(row->why));
	node_time(h->row, "reported", h->node->reported_at);
	r = db_orders(h->serve->db, h->node->node, serve_now(h->serve), write_order, h);
	return r < 0 ? r : 0;
}

static int write_node(void *user, const struct db_node *row)
{
	struct held *h = user;
	int r;

	h->node = row;
	r = db_components(h->serve->db, row->node, write_component, h);
	return r < 0 ? r : 0;
}

void held_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct serve *s = user;
	struct held h = { .serve = s, .list = node_array(json_build_root(b), "held") };
	int r = db_nodes(s->db, NULL, write_node, &h);

	if (r < 0)
		fail_database(s, rq, r);
	else
		answer(rq, 200, b);
}
