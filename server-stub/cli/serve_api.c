/*
 * Which request goes where: the roads of nodes first, then those of `selfright`.
 */
#include "model/collection.h"
#include "model/enrolment.h"
#include "model/report.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_handlers.h"

enum { LEASE_BODY_MAX = 16 * 1024 };

void serve_before(void *user, const struct web_route *route)
{
	if (route->handler != report_post)
		broker_settle(user);
}

const struct web_route serve_routes[] = {
	{ "GET", "/metadata/**", WEB_ANY, 0, metadata_get, 0 },
	{ "GET", "/targets/**", WEB_ANY, 0, targets_get, 0 },
	{ "POST", "/v1/node/*/report", WEB_ANY, REPORT_MAX_BYTES, report_post, 0 },
	{ "POST", "/v1/node/*/lease", WEB_ANY, LEASE_BODY_MAX, lease_post, 0 },
	{ "POST", "/v1/enrol", WEB_ANY, ENROLMENT_MAX_BYTES, enrol_post, 0 },
	{ "POST", "/v1/node/*/put", WEB_ANY, PUT_MESSAGE_MAX, collect_put, 0 },
	{ "GET", "/v1/status", WEB_UNIX, 0, status_get, 0 },
	{ "GET", "/metrics", WEB_UNIX, 0, metrics_get, 0 },
	{ "PUT", "/v1/upload/*", WEB_UNIX, 0, upload_put, WEB_UPLOAD },
	{ "POST", "/v1/bundle", WEB_UNIX, SERVE_BODY_MAX, bundle_post, 0 },
	{ "POST", "/v1/publish", WEB_UNIX, SERVE_METADATA_MAX, publish_post, 0 },
	{ "GET", "/v1/target", WEB_UNIX, 0, target_get, 0 },
	{ "POST", "/v1/check", WEB_UNIX, SERVE_BODY_MAX, check_post, 0 },
	{ "GET", "/v1/releases/*/*", WEB_UNIX, 0, release_get, 0 },
	{ "POST", "/v1/releases/*/*/evidence", WEB_UNIX, SERVE_BODY_MAX, evidence_post, 0 },
	{ "GET", "/v1/ca", WEB_UNIX, 0, ca_get, 0 },
	{ "POST", "/v1/ca", WEB_UNIX, SERVE_BODY_MAX, ca_post, 0 },
	{ "GET", "/v1/broker", WEB_UNIX, 0, broker_get, 0 },
	{ "POST", "/v1/broker", WEB_UNIX, SERVE_BODY_MAX, broker_post, 0 },
	{ "GET", "/v1/nodes", WEB_UNIX, 0, nodes_get, 0 },
	{ "POST", "/v1/nodes", WEB_UNIX, SERVE_BODY_MAX, node_post, 0 },
	{ "GET", "/v1/held", WEB_UNIX, 0, held_get, 0 },
	{ "GET", "/v1/nodes/*", WEB_UNIX, 0, node_get, 0 },
	{ "DELETE", "/v1/nodes/*", WEB_UNIX, SERVE_BODY_MAX, node_delete, 0 },
	{ "POST", "/v1/nodes/*/rollback", WEB_UNIX, SERVE_BODY_MAX, orders_rollback_post, 0 },
	{ "DELETE", "/v1/nodes/*/rollback", WEB_UNIX, SERVE_BODY_MAX, orders_rollback_delete, 0 },
	{ "POST", "/v1/nodes/*/pin", WEB_UNIX, SERVE_BODY_MAX, orders_pin_post, 0 },
	{ "DELETE", "/v1/nodes/*/pin", WEB_UNIX, SERVE_BODY_MAX, orders_pin_delete, 0 },
	{ "POST", "/v1/nodes/*/hold", WEB_UNIX, SERVE_BODY_MAX, orders_hold_post, 0 },
	{ "DELETE", "/v1/nodes/*/hold", WEB_UNIX, SERVE_BODY_MAX, orders_hold_delete, 0 },
	{ "DELETE", "/v1/nodes/*/lease", WEB_UNIX, SERVE_BODY_MAX, lease_delete, 0 },
	{ "GET", "/v1/orders", WEB_UNIX, 0, orders_get, 0 },
	{ "POST", "/v1/orders/*/*", WEB_UNIX, SERVE_BODY_MAX, orders_post, 0 },
	{ "POST", "/v1/nodes/*/retry", WEB_UNIX, SERVE_BODY_MAX, orders_retry_post, 0 },
	{ "POST", "/v1/nodes/*/report", WEB_UNIX, REPORT_MAX_BYTES, report_of_stick_post, 0 },
	{ "POST", "/v1/nodes/*/collect", WEB_UNIX, SERVE_BODY_MAX, orders_collect_post, 0 },
	{ "DELETE", "/v1/nodes/*/collect", WEB_UNIX, SERVE_BODY_MAX, orders_collect_delete, 0 },
	{ "GET", "/v1/nodes/*/collections", WEB_UNIX, 0, collections_get, 0 },
	{ "GET", "/v1/nodes/*/collections/*", WEB_UNIX, 0, collection_get, 0 },
	{ "POST", "/v1/nodes/*/trust", WEB_UNIX, SERVE_BODY_MAX, trust_post, 0 },
	{ "POST", "/v1/nodes/*/release", WEB_UNIX, SERVE_BODY_MAX, enrol_release_post, 0 },
	{ "GET", "/v1/rollouts", WEB_UNIX, 0, rollouts_get, 0 },
	{ "POST", "/v1/rollouts", WEB_UNIX, SERVE_BODY_MAX, rollout_post, 0 },
	{ "GET", "/v1/rollouts/*", WEB_UNIX, 0, rollout_get, 0 },
	{ "GET", "/v1/rollouts/*/explain", WEB_UNIX, 0, explain_get, 0 },
	{ "POST", "/v1/rollouts/*/approvals", WEB_UNIX, SERVE_BODY_MAX, approvals_post, 0 },
	{ "POST", "/v1/rollouts/*/answer", WEB_UNIX, SERVE_BODY_MAX, gates_post, 0 },
	{ "POST", "/v1/rollouts/*/skip", WEB_UNIX, SERVE_BODY_MAX, skip_post, 0 },
	{ "POST", "/v1/rollouts/*/*", WEB_UNIX, SERVE_BODY_MAX, rollout_verb_post, 0 },
	{ "GET", "/v1/freeze", WEB_UNIX, 0, freezes_get, 0 },
	{ "POST", "/v1/freeze", WEB_UNIX, SERVE_BODY_MAX, freeze_post, 0 },
	{ "DELETE", "/v1/freeze", WEB_UNIX, SERVE_BODY_MAX, freeze_delete, 0 },
	{ "GET", "/v1/events", WEB_UNIX, 0, events_get, 0 },
	{ "GET", "/v1/notify", WEB_UNIX, 0, notify_get, 0 },
	{ "POST", "/v1/notify/*/test", WEB_UNIX, SERVE_BODY_MAX, notify_test_post, 0 },
	{ "GET", "/v1/audit", WEB_UNIX, 0, audit_get, 0 },
	{ NULL, NULL, 0, 0, NULL, 0 },
};
