#include "agent/link/doctor.h"

#include "agent/link/blobs.h"
#include "agent/link/doctor_steps.h"
#include "base/err.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "fetch/relay.h"
#include "fetch/tls.h"
#include "json/build.h"
#include "json/json.h"
#include "mqtt/mqtt.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

enum {
	BROKER_MS = 40 * 1000, /* the longest of what mqtt.h and relay.h wait for, and some */
	METADATA_MS = 5 * 1000, /* what is retained comes right behind the SUBACK */
};

static const char *const verdict_words[] = {
	[NOT_REACHED] = "-", [FINE] = "ok", [NOTE] = "note", [FAILED] = "FAILED"
};

void doctor_say(struct doctor *d, const char *name, enum verdict verdict, const char *advice, const char *fmt, ...)
{
	struct step *s = &d->steps[d->count < DOCTOR_STEPS_MAX ? d->count++ : DOCTOR_STEPS_MAX - 1];
	va_list ap;

	s->name = name;
	s->verdict = verdict;
	s->advice = verdict == FINE ? NULL : advice;
	va_start(ap, fmt);
	(void) vsnprintf(s->detail, sizeof(s->detail), fmt, ap); /* a longer one is cut */
	va_end(ap);
}

/* --- the clock --- */

static void look_at_clock(struct doctor *d)
{
	char clock[TIMESTAMP_LEN + 1], floor[TIMESTAMP_LEN + 1];
	struct timex t = { .modes = 0 };

	d->clock.synchronised = adjtimex(&t) != TIME_ERROR;
	timestamp_format(clock, d->os->clock_real(d->os));
	timestamp_format(floor, d->clock.floor);
	if (d->os->clock_real(d->os) < d->clock.floor)
		doctor_say(d, "clock", NOTE, "set it, or let NTP out; until then signed time is used instead",
			   "%s here, but it is not earlier than %s", clock, floor);
	else
		doctor_say(d, "clock", FINE, NULL, "%s, %s; not earlier than %s", clock,
			   d->clock.synchronised ? "synchronised" : "set by nobody that the kernel knows of",
			   floor);
}

/* --- the broker --- */

static int make_tls(void *user, void **ret_ssl_ctx)
{
	return tls_context(((struct doctor *) user)->tls, ret_ssl_ctx);
}

static void explain(void *user, char *out, size_t size, bool *ret_refused)
{
	struct doctor *d = user;
	struct relay_state road;

	(void) ret_refused;
	relay_state(d->relay, &road);
	if (d->tls && tls_reason(d->tls)[0])
		(void) snprintf(out, size, "%s", tls_reason(d->tls));
	else if (road.failed)
		(void) snprintf(out, size, "%s", road.reason);
}

static void on_state(void *user, bool up, const char *reason)
{
	struct doctor *d = user;

	d->up = up;
	d->over = !up;
	(void) snprintf(d->reason, sizeof(d->reason), "%s", reason);
}

static void on_message(void *user, const char *topic, const void *payload, size_t len, bool retained)
{
	struct doctor *d = user;

	(void) retained;
	if (!str_eq(topic, d->blob_topic))
		d->metadata = d->metadata || len > 0;
	else if (d->blobs)
		blobs_take(d->blobs, payload, len);
}

void doctor_drive(struct doctor *d, uint64_t for_ms, const bool *until)
{
	uint64_t end = d->os->clock_boot_ms(d->os) + for_ms;

	while (!d->over && !*until && d->os->clock_boot_ms(d->os) < end) {
		struct pollfd p;
		int timeout = 200;

		mqtt_poll_prepare(d->mqtt, &p, &timeout);
		if (poll(&p, 1, timeout < 200 ? timeout : 200) < 0)
			p.revents = 0;
		mqtt_poll_done(d->mqtt, p.fd >= 0 ? p.revents : 0);
		if (d->blobs)
			blobs_step(d->blobs, d->up);
	}
}

const char *doctor_advise_dial(const struct relay_state *road)
{
	if (road->wants_ticket)
		return "give the user of selfright-link a client keytab (selfright-agent.yaml(5), proxy), or have "
		       "the "
		       "proxy let this node pass by its address";
	if (road->proxy_status == 407 || road->proxy_status == 401) /* tinyproxy says the latter */
		return "give the proxy's user and password in agent.yaml, proxy: http://USER:PASSWORD@HOST:PORT";
	if (road->proxy_status != 0)
		return "ask whoever keeps the proxy to allow CONNECT to this address and port, or use port 443";
	return "ask for this address and port to be opened outwards, name a proxy in agent.yaml, or use port 443";
}

static const char *advise_tls(const struct tls *t)
{
	if (tls_failed_by_date(t))
		return "set this node's clock, or renew the broker's certificate";
	if (tls_failed_by_issuer(t))
		return "ask for an exception from TLS inspection for this address; if there is none, compare "
		       "ca.crt with "
		       "the broker's CA";
	return "compare host: in agent.yaml with the broker's certificate, and this node's certificate with the "
	       "broker's "
	       "CA";
}

static void tell_retained(struct doctor *d, bool retained)
{
	if (retained)
		doctor_say(d, "metadata", FINE, NULL, "the newest timestamp is retained there");
	else
		doctor_say(d, "metadata", NOTE, "the controller refills it; until then this node polls by HTTPS",
			   "nothing is retained at the broker");
}

/* What relay, TLS and MQTT reached, in the order in which they do. */
static void tell_broker(struct doctor *d)
{
	const struct link_options *l = d->o->link;
	struct relay_state road;
	bool subscribed = strstr(d->reason, "subscription") != NULL;

	relay_state(d->relay, &road);
	if (road.step == RELAY_RESOLVE && road.failed) {
		doctor_say(d, "resolver", FAILED,
			   "look at /etc/resolv.conf and the firewall for DNS, or give addresses: of the "
			   "broker in agent.yaml",
			   "%s", road.reason);
		return;
	}
	doctor_say(d, "resolver", FINE, NULL, "%s is found%s", l->broker_proxy ? "the proxy" : l->broker_host,
		   l->broker_address_count > 0 && !l->broker_proxy ? ": its address is configured" : "");
	if (road.step <= RELAY_DIAL) {
		doctor_say(d, l->broker_proxy ? "proxy" : "tcp", FAILED, doctor_advise_dial(&road), "%s",
			   road.reason[0] ? road.reason : "no connection");
		return;
	}
	doctor_say(d, l->broker_proxy ? "proxy" : "tcp", FINE, NULL, "%s:%u answers%s%s", l->broker_host,
		   l->broker_port, l->broker_proxy ? " through the proxy at " : " at ", road.address);
	if (d->tls && !tls_summary(d->tls)[0]) {
		doctor_say(d, "tls", FAILED, advise_tls(d->tls), "%s",
			   tls_reason(d->tls)[0] ? tls_reason(d->tls) : d->reason);
		return;
	}
	if (d->tls)
		doctor_say(d, "tls", FINE, NULL, "%s", tls_summary(d->tls));
	/* TLS 1.3 tells what it thinks of our certificate only after the handshake. */
	if (d->tls && tls_reason(d->tls)[0]) {
		doctor_say(d, "connack", FAILED, advise_tls(d->tls), "%s", tls_reason(d->tls));
		return;
	}
	if (!d->up && !subscribed) {
		doctor_say(d, "connack", FAILED,
			   "ask the fleet team whether this node is known, and whether its certificate is the one "
			   "that "
			   "joined",
			   "%s", d->reason[0] ? d->reason : "no answer");
		return;
	}
	doctor_say(d, "connack", FINE, NULL, "accepted%s%s", d->up ? ", " : "", d->up ? d->reason : "");
	if (!d->up) {
		doctor_say(d, "suback", FAILED, "the broker's access list must let this node read its own topics",
			   "%s", d->reason);
		return;
	}
	doctor_say(d, "suback", FINE, NULL, "the node's topics may be read");
	tell_retained(d, d->metadata);
}

/* What the agent's own link says of itself: it calls itself connected after the CONNACK and every SUBACK. */
static void tell_connected(struct doctor *d)
{
	const struct link_options *l = d->o->link;
	const struct json *words = json_get(d->o->tried, "words");
	int64_t for_s = 0;

	if (!json_integer(json_get(d->o->tried, "for_s"), &for_s) || !json_is(words, JSON_STRING)) {
		doctor_say(d, "broker", FINE, NULL, "the agent's own connection to %s:%u stands", l->broker_host,
			   l->broker_port);
		return;
	}
	doctor_say(d, "broker", FINE, NULL, "the agent's own connection to %s:%u stands for %" PRId64 " s",
		   l->broker_host, l->broker_port, for_s);
	doctor_say(d, "connack", FINE, NULL, "accepted, %s", json_string(words));
	doctor_say(d, "suback", FINE, NULL, "the node's topics may be read");
	tell_retained(d, json_bool(json_get(d->o->tried, "retained"), false));
}

static void walk_to_broker(struct doctor *d)
{
	const struct link_options *l = d->o->link;
	char topics[2][DOCTOR_TOPIC_MAX];
	const char *subscriptions[3] = { topics[0], topics[1], d->blob_topic };
	struct mqtt_options options = {
		.os = d->os,
		.host = l->broker_host,
		.port = l->broker_port,
		.client_id = l->node,
		.keepalive_s = 60,
		.road_path = relay_path(d->relay),
		.make_tls = d->tls ? make_tls : NULL,
		.free_tls = tls_context_free,
		.explain = explain,
		.subscriptions = subscriptions,
		.subscription_count = 3,
		.on_state = on_state,
		.on_message = on_message,
		.user = d,
	};
	int r;

	(void) snprintf(topics[0], DOCTOR_TOPIC_MAX, "selfright/v1/%s/timestamp", l->fleet);
	(void) snprintf(topics[1], DOCTOR_TOPIC_MAX, "selfright/v1/%s/announce", l->fleet);
	(void) snprintf(d->blob_topic, DOCTOR_TOPIC_MAX, "selfright/v1/%s/node/%s/blob", l->fleet, l->node);
	r = mqtt_open(&options, &d->mqtt);
	if (r < 0) {
		doctor_say(d, "connack", FAILED, NULL, "%s", err_text(r));
		return;
	}
	doctor_drive(d, BROKER_MS, &d->up);
	if (d->up)
		doctor_drive(d, METADATA_MS, &d->metadata);
	tell_broker(d);
}

static int open_road(struct doctor *d, int dirfd)
{
	const struct link_options *l = d->o->link;
	const struct relay_options road = {
		.os = d->os,
		.dirfd = dirfd,
		.host = l->broker_host,
		.port = l->broker_port,
		.addresses = l->broker_addresses,
		.address_count = l->broker_address_count,
		.proxy = l->broker_proxy,
	};
	const struct tls_options tls = {
		.clock = &d->clock,
		.host = l->broker_host,
		.port = l->broker_port,
		.ca_file = l->ca_file,
		.cert_file = l->cert_file,
		.key_file = l->key_file,
		.alpn = l->alpn,
	};
	int r = relay_start(&road, &d->relay);

	return r < 0 || !l->ca_file ? r : tls_new(&tls, &d->tls);
}

static void look_at_broker(struct doctor *d)
{
	int r;

	if (!d->o->link->broker_host) {
		doctor_say(d, "broker", NOTE, NULL, "none is configured: everything but push goes by HTTPS");
		return;
	}
	if (d->o->link->waits) {
		doctor_say(d, "broker", NOTE, NULL, "not called: there is no certificate yet");
		return;
	}
	if (d->o->connected) {
		tell_connected(d);
		return;
	}
	/* A folder of our own: the link's socket stays the link's. */
	(void) snprintf(d->folder, sizeof(d->folder), "/tmp/selfright-doctor.XXXXXX"); /* fits */
	if (!mkdtemp(d->folder)) {
		doctor_say(d, "broker", FAILED, "make room in /tmp", "%s: %s", d->folder, err_text(-errno));
		d->folder[0] = '\0';
		return;
	}
	d->dirfd = open(d->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = d->dirfd < 0 ? -errno : open_road(d, d->dirfd);
	if (r == 0)
		walk_to_broker(d);
	else
		doctor_say(d, "broker", FAILED, NULL, "%s", err_text(r));
}

/* The connection stood until now: files are asked for over it as well. */
static void leave_broker(struct doctor *d)
{
	mqtt_close(d->mqtt);
	blobs_free(d->blobs);
	relay_stop(d->relay);
	tls_free(d->tls);
	if (!d->folder[0])
		return;
	if (d->dirfd >= 0)
		(void) close(d->dirfd); /* opened for lookups */
	if (tree_remove(d->os, AT_FDCWD, d->folder) < 0)
		doctor_say(d, "broker", NOTE, NULL, "%s could not be removed", d->folder);
}

/* --- what came of it --- */

static const struct step *first_failure(const struct doctor *d)
{
	for (size_t i = 0; i < d->count; i++)
		if (d->steps[i].verdict == FAILED)
			return &d->steps[i];
	return NULL;
}

static void print_json(const struct doctor *d)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	struct json_node *root = json_build_root(b), *list;
	const struct step *failed = first_failure(d);

	node_bool(root, "ok", failed == NULL);
	if (failed)
		node_string(root, "failed", failed->name);
	list = node_array(root, "steps");
	for (size_t i = 0; i < d->count; i++) {
		struct json_node *s = node_object(list, NULL);

		node_string(s, "step", d->steps[i].name);
		node_string(s, "verdict",
			    d->steps[i].verdict == FAILED ? "failed" : verdict_words[d->steps[i].verdict]);
		node_string(s, "detail", d->steps[i].detail);
		if (d->steps[i].advice)
			node_string(s, "advice", d->steps[i].advice);
	}
	if (json_build_text(b, true, &text) == 0)
		(void) fprintf(d->o->out, "%s\n", buf_str(&text));
}

static void print_text(const struct doctor *d)
{
	const struct step *failed = first_failure(d);

	for (size_t i = 0; i < d->count; i++) {
		const struct step *s = &d->steps[i];

		(void) fprintf(d->o->out, "%-7s %-10s %s\n", verdict_words[s->verdict], s->name, s->detail);
		if (s->advice)
			(void) fprintf(d->o->out, "%18s -> %s\n", "", s->advice);
	}
	if (failed)
		(void) fprintf(d->o->out, "\nThe first step that failed is '%s'.\n", failed->name);
	else
		(void) fprintf(d->o->out, "\nNothing failed.\n");
}

int doctor_run(const struct doctor_options *o)
{
	struct doctor d = { .o = o, .os = o->link->os, .dirfd = -1 };

	tls_clock_init(&d.clock, d.os, o->link->time_floor);
	look_at_clock(&d);
	look_at_broker(&d);
	doctor_roads(&d);
	leave_broker(&d);
	/* Last: it comes by the addresses before. */
	if (o->link->waits)
		doctor_say(&d, "certificate", FAILED, "selfright-agent status says what it waits for",
			   "this machine is not enrolled yet");
	if (o->json)
		print_json(&d);
	else
		print_text(&d);
	return first_failure(&d) ? 1 : 0;
}
