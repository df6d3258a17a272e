/*
 * The controller in numbers, for people and for Prometheus.
 */
#include "base/version.h"
#include "json/build.h"
#include "mqtt/mqtt.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db_events.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/db_rollouts.h"

#include <inttypes.h>
#include <string.h>

enum { SILENT_S = 86400 };

struct counts {
	struct db_node_counts of;
	uint64_t running;
};

static int count_rollout(void *user, const struct db_rollout *row)
{
	struct counts *c = user;

	c->running += strcmp(row->state, "running") == 0;
	return 0;
}

static int count_all(struct serve *s, struct counts *c)
{
	int r = db_node_count(s->db, serve_now(s) - SILENT_S, &c->of);

	return r < 0 ? r : db_rollouts(s->db, NULL, count_rollout, c);
}

void status_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);
	struct serve *s = user;
	struct counts c = { 0 };
	int r = count_all(s, &c);

	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	node_string(o, "fleet", s->fleet);
	node_string(o, "version", SELFRIGHT_VERSION);
	node_integer(o, "https_port", s->https_port);
	node_integer(o, "broker_port", s->broker_port);
	node_bool(o, "broker_connected", s->mqtt && s->past_is_over && mqtt_is_connected(s->mqtt));
	node_bool(o, "signer_connected", s->repo != NULL);
	node_bool(o, "publish_due", s->publish_due);
	node_integer(o, "nodes", (int64_t) c.of.nodes);
	node_integer(o, "online", (int64_t) c.of.online);
	node_integer(o, "quarantined", (int64_t) c.of.quarantined);
	node_integer(o, "rollouts_running", (int64_t) c.running);
	node_integer(o, "last_event", db_last_event(s->db));
	answer(rq, 200, b);
}

void metrics_get(void *user, struct web_request *rq)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	struct serve *s = user;
	struct web_stats web;
	struct mqtt_stats mqtt = { 0 };
	struct counts c = { 0 };
	int r = count_all(s, &c);

	web_stats(s->web, &web);
	if (s->mqtt)
		mqtt_stats(s->mqtt, &mqtt);
	if (r == 0)
		r = buf_addf(&text,
			     "# TYPE selfright_nodes gauge\nselfright_nodes %" PRIu64 "\n"
			     "# TYPE selfright_nodes_online gauge\nselfright_nodes_online %" PRIu64 "\n"
			     "# TYPE selfright_nodes_quarantined gauge\nselfright_nodes_quarantined %" PRIu64 "\n"
			     "# TYPE selfright_nodes_silent_1d gauge\nselfright_nodes_silent_1d %" PRIu64 "\n"
			     "# TYPE selfright_rollouts_running gauge\nselfright_rollouts_running %" PRIu64 "\n"
			     "# TYPE selfright_hooks_failing gauge\nselfright_hooks_failing %u\n"
			     "# TYPE selfright_broker_connected gauge\nselfright_broker_connected %d\n"
			     "# TYPE selfright_broker_messages_in counter\nselfright_broker_messages_in %" PRIu64
			     "\n"
			     "# TYPE selfright_broker_messages_out counter\nselfright_broker_messages_out %" PRIu64
			     "\n"
			     "# TYPE selfright_http_requests counter\nselfright_http_requests %" PRIu64 "\n"
			     "# TYPE selfright_http_failures counter\nselfright_http_failures %" PRIu64 "\n"
			     "# TYPE selfright_http_connections gauge\nselfright_http_connections %u\n",
			     c.of.nodes, c.of.online, c.of.quarantined, c.of.silent, c.running, notify_failing(s),
			     s->mqtt && mqtt_is_connected(s->mqtt), mqtt.messages_in, mqtt.messages_out,
			     web.requests, web.failures, web.connections);
	if (r < 0)
		fail_database(s, rq, r);
	else
		web_reply(rq, 200, "text/plain; version=0.0.4", text.data, text.len);
}
