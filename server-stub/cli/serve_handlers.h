/*
 * serve_handlers - what answers which request; serve_api.c holds the table, with who may ask and how much.
 *
 * `user` is the controller. Every handler answers or complains, but for those that wait (web_wait). "by" in a body names the
 * person for the audit trail; what changes something takes a "reason" unless it says otherwise.
 */
#ifndef SELFRIGHT_CLI_SERVE_HANDLERS_H
#define SELFRIGHT_CLI_SERVE_HANDLERS_H

struct web_request;

/* --- serve_published.c --- */
/* GET /metadata/<file>, /targets/<file>: for nodes. */
void metadata_get(void *user, struct web_request *rq);
void targets_get(void *user, struct web_request *rq);
/* PUT /v1/upload/<sha256>: an artifact; web/upload.h stored it already. */
void upload_put(void *user, struct web_request *rq);
/* POST /v1/publish {"role","metadata","by"}: signed metadata of a team; no reason. */
void publish_post(void *user, struct web_request *rq);
/* GET /v1/target?path=: a document some trusted role lists. */
void target_get(void *user, struct web_request *rq);
/* POST /v1/bundle {"valid"}: what is published, signed for so many seconds; `selfright bundle` packs it. */
void bundle_post(void *user, struct web_request *rq);

/* --- serve_reports.c --- */
/* POST /v1/node/<node>/report: a node's own. POST /v1/nodes/<node>/report: the same of a stick, brought by a person. */
void report_post(void *user, struct web_request *rq);
void report_of_stick_post(void *user, struct web_request *rq);

/* --- serve_lease.c --- */
/* POST /v1/node/<node>/lease: it asks for a place. DELETE /v1/nodes/<node>/lease: a person frees it. */
void lease_post(void *user, struct web_request *rq);
void lease_delete(void *user, struct web_request *rq);

/* --- serve_enrol.c --- */
/* POST /v1/enrol: a node asks for a certificate. */
void enrol_post(void *user, struct web_request *rq);
/* POST /v1/nodes/<node>/release {"reason","refuse","by"}: the key that waits is this node now, or never. */
void enrol_release_post(void *user, struct web_request *rq);

/* --- serve_collect.c --- */
/* POST /v1/node/<node>/put */
void collect_put(void *user, struct web_request *rq);
/* GET /v1/nodes/<node>/collections: what was asked for, and what is here; /<order>: its tar. */
void collections_get(void *user, struct web_request *rq);
void collection_get(void *user, struct web_request *rq);

/* --- serve_status.c --- */
/* GET /v1/status as JSON, GET /metrics for Prometheus. */
void status_get(void *user, struct web_request *rq);
void metrics_get(void *user, struct web_request *rq);

/* --- serve_check.c --- */
/* POST /v1/check; GET /v1/releases/<component>/<version>; POST .../evidence {"release_sha256","evidence","by"} */
void check_post(void *user, struct web_request *rq);
void release_get(void *user, struct web_request *rq);
void evidence_post(void *user, struct web_request *rq);

/* --- serve_ca.c --- */
/* GET /v1/ca: the CAs, and which nodes trust and use them. POST /v1/ca {"do":"begin"|"switch"|"retire","sha256","by","reason"}; the command asks for the reason. */
void ca_get(void *user, struct web_request *rq);
void ca_post(void *user, struct web_request *rq);

/* --- serve_broker_api.c --- */
/* GET /v1/broker: what `selfright broker-config` needs. POST /v1/broker {"public","names","by"}: a certificate for a broker. */
void broker_get(void *user, struct web_request *rq);
void broker_post(void *user, struct web_request *rq);

/* --- serve_nodes.c --- */
/* GET /v1/nodes; /v1/nodes/<node>: with its report, its orders and its newest results. */
void nodes_get(void *user, struct web_request *rq);
void node_get(void *user, struct web_request *rq);

/* --- serve_roster.c --- */
/*
 * POST /v1/nodes {"node","labels"}: a one-time secret, to be enrolled with; with {"identity_public","transport_public"}
 * a node at once, in the place of another one of that name if {"replace","reason"} says so.
 */
void node_post(void *user, struct web_request *rq);
/* DELETE /v1/nodes/<node>: its orders are withdrawn first. POST /v1/nodes/<node>/trust: out of quarantine. */
void node_delete(void *user, struct web_request *rq);
void trust_post(void *user, struct web_request *rq);

/* --- serve_held.c --- */
/* GET /v1/held */
void held_get(void *user, struct web_request *rq);

/* --- serve_orders.c --- */
/*
 * POST and DELETE /v1/nodes/<node>/<kind>: one live order of a kind and component, a newer one takes the older one's
 * place. POST answers the order's id and whether it replaced another, and that it is published.
 */
void orders_rollback_post(void *user,
			  struct web_request *rq); /* {component, to, from?, force?, restore_data?, reason} */
void orders_rollback_delete(void *user, struct web_request *rq); /* {component?} */
void orders_pin_post(void *user, struct web_request *rq); /* {component, version?, force?, reason} */
void orders_pin_delete(void *user, struct web_request *rq); /* {component?} */
void orders_hold_post(void *user, struct web_request *rq); /* {until, reason} */
void orders_hold_delete(void *user, struct web_request *rq);
void orders_retry_post(void *user, struct web_request *rq); /* {component} */
void orders_collect_post(void *user, struct web_request *rq); /* {set, expires?, reason} */
void orders_collect_delete(void *user, struct web_request *rq); /* {component?}: the set's name */
/* GET /v1/orders: those of a restored backup that wait for a person. POST /v1/orders/<id>/{confirm,withdraw} {"by"} */
void orders_get(void *user, struct web_request *rq);
void orders_post(void *user, struct web_request *rq);

/* --- serve_rollouts.c --- */
/* GET /v1/rollouts; /v1/rollouts/<id>: with its stages, nodes and approvals. */
void rollouts_get(void *user, struct web_request *rq);
void rollout_get(void *user, struct web_request *rq);

/* --- serve_start.c --- */
/* POST /v1/rollouts {"plan","id","replace","dry_run","preflight_override","override_reason","plan_lines","plan_file","by"} */
void rollout_post(void *user, struct web_request *rq);

/* --- serve_change.c --- */
/* POST /v1/rollouts/<id>/{pause,resume,halt,cancel,undo} {"reason","stages","yes","by"} */
void rollout_verb_post(void *user, struct web_request *rq);

/* --- serve_explain.c --- */
/* GET /v1/rollouts/<id>/explain?at=TIME */
void explain_get(void *user, struct web_request *rq);

/* --- serve_approval.c --- */
/* POST /v1/rollouts/<id>/approvals {"stage","expires","signatures":[{"keyid","sig"}],"by"} */
void approvals_post(void *user, struct web_request *rq);

/* --- serve_gate.c --- */
/* POST /v1/rollouts/<id>/answer {"gate","answer":pass|fail|waive,"stage","reason","by"} */
void gates_post(void *user, struct web_request *rq);

/* --- serve_skip.c --- */
/* POST /v1/rollouts/<id>/skip {"node","reason","withdraw","by"} */
void skip_post(void *user, struct web_request *rq);

/* --- serve_freezes.c --- */
/* GET and POST /v1/freeze {"labels","components","until","reason","by"}; DELETE {"id","reason","by"}: that one, or all. */
void freezes_get(void *user, struct web_request *rq);
void freeze_post(void *user, struct web_request *rq);
void freeze_delete(void *user, struct web_request *rq);

/* --- serve_notify.c --- */
/* GET /v1/notify: the hooks, and what does not get through; POST /v1/notify/<hook>/test {"by"}: a message, to be looked for there. */
void notify_get(void *user, struct web_request *rq);
void notify_test_post(void *user, struct web_request *rq);

/* --- serve_events.c --- */
/* GET /v1/events?after=ID&wait=SECONDS; GET /v1/audit?after=ID */
void events_get(void *user, struct web_request *rq);
void audit_get(void *user, struct web_request *rq);

#endif
