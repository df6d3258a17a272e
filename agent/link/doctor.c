#include "agent/link/doctor.h"

#include "agent/link/sample.h"
#include "base/err.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "fetch/fetch.h"
#include "fetch/relay.h"
#include "fetch/tls.h"
#include "json/build.h"
#include "mqtt/mqtt.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

enum {
	DETAIL_MAX = 400,
	TOPIC_MAX = 256,
	TIMESTAMP_MAX = 64 * 1024,
	BROKER_MS = 40 * 1000, /* the longest of what mqtt.h and relay.h wait for, and some */
	METADATA_MS = 5 * 1000, /* what is retained comes right behind the SUBACK */
	REQUEST_MS = 30 * 1000,
	URLS_MAX = 8,
	PIECE_BYTES = 64 * 1024,
	STEPS_MAX = 8 + (2 + URLS_MAX) * URLS_MAX,
};

enum verdict { NOT_REACHED, FINE, NOTE, FAILED };

static const char *const verdict_words[] = {
	[NOT_REACHED] = "-", [FINE] = "ok", [NOTE] = "note", [FAILED] = "FAILED"
};

struct step {
	const char *name;
	enum verdict verdict;
	char detail[DETAIL_MAX];
	const char *advice; /* NULL: none needed */
};

struct doctor {
	const struct doctor_options *o;
	const struct os *os;
	struct step steps[STEPS_MAX];
	size_t count;
	struct tls_clock clock;
	struct tls *tls;
	struct relay *relay;
	struct mqtt *mqtt;
	bool up, over, metadata;
	char reason[256];
};

static struct step *say(struct doctor *d, const char *name, enum verdict verdict, const char *advice,
			const char *fmt, ...) PRINTF_LIKE(5, 6);
static struct step *say(struct doctor *d, const char *name, enum verdict verdict, const char *advice,
			const char *fmt, ...)
{
	struct step *s = &d->steps[d->count < STEPS_MAX ? d->count++ : STEPS_MAX - 1];
	va_list ap;

	s->name = name;
	s->verdict = verdict;
	s->advice = verdict == FAILED || verdict == NOTE ? advice : NULL;
	va_start(ap, fmt);
	(void) vsnprintf(s->detail, sizeof(s->detail), fmt, ap); /* a longer one is cut */
	va_end(ap);
	return s;
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
		say(d, "clock", NOTE, "set it, or let NTP out; until then signed time is used instead",
		    "%s here, but it is not earlier than %s", clock, floor);
	else
		say(d, "clock", FINE, NULL, "%s, %s; not earlier than %s", clock,
		    d->clock.synchronised ? "synchronised" : "set by nobody that the kernel knows of", floor);
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

	(void) topic;
	(void) payload;
	(void) retained;
	d->metadata = d->metadata || len > 0;
}

static void drive(struct doctor *d, uint64_t for_ms, const bool *until)
{
	uint64_t end = d->os->clock_boot_ms(d->os) + for_ms;

	while (!d->over && !*until && d->os->clock_boot_ms(d->os) < end) {
		struct pollfd p;
		int timeout = 200;

		mqtt_poll_prepare(d->mqtt, &p, &timeout);
		if (poll(&p, 1, timeout < 200 ? timeout : 200) < 0)
			p.revents = 0;
		mqtt_poll_done(d->mqtt, p.fd >= 0 ? p.revents : 0);
	}
}

static const char *advise_dial(const struct relay_state *road)
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

/* What relay, TLS and MQTT reached, in the order in which they do. */
static void tell_broker(struct doctor *d)
{
	const struct link_options *l = d->o->link;
	struct relay_state road;
	bool subscribed = strstr(d->reason, "subscription") != NULL;

	relay_state(d->relay, &road);
	if (road.step == RELAY_RESOLVE && road.failed) {
		say(d, "resolver", FAILED,
		    "look at /etc/resolv.conf and the firewall for DNS, or give addresses: of the "
		    "broker in agent.yaml",
		    "%s", road.reason);
		return;
	}
	say(d, "resolver", FINE, NULL, "%s is found%s", l->broker_proxy ? "the proxy" : l->broker_host,
	    l->broker_address_count > 0 && !l->broker_proxy ? ": its address is configured" : "");
	if (road.step <= RELAY_DIAL) {
		say(d, l->broker_proxy ? "proxy" : "tcp", FAILED, advise_dial(&road), "%s",
		    road.reason[0] ? road.reason : "no connection");
		return;
	}
	say(d, l->broker_proxy ? "proxy" : "tcp", FINE, NULL, "%s:%u answers%s%s", l->broker_host, l->broker_port,
	    l->broker_proxy ? " through the proxy at " : " at ", road.address);
	if (d->tls && !tls_summary(d->tls)[0]) {
		say(d, "tls", FAILED, advise_tls(d->tls), "%s",
		    tls_reason(d->tls)[0] ? tls_reason(d->tls) : d->reason);
		return;
	}
	if (d->tls)
		say(d, "tls", FINE, NULL, "%s", tls_summary(d->tls));
	/* TLS 1.3 tells what it thinks of our certificate only after the handshake. */
	if (d->tls && tls_reason(d->tls)[0]) {
		say(d, "connack", FAILED, advise_tls(d->tls), "%s", tls_reason(d->tls));
		return;
	}
	if (!d->up && !subscribed) {
		say(d, "connack", FAILED,
		    "ask the fleet team whether this node is known, and whether its certificate is the one that "
		    "joined",
		    "%s", d->reason[0] ? d->reason : "no answer");
		return;
	}
	say(d, "connack", FINE, NULL, "accepted%s%s", d->up ? ", " : "", d->up ? d->reason : "");
	if (!d->up) {
		say(d, "suback", FAILED, "the broker's access list must let this node read its own topics", "%s",
		    d->reason);
		return;
	}
	say(d, "suback", FINE, NULL, "the node's topics may be read");
	if (d->metadata)
		say(d, "metadata", FINE, NULL, "the newest timestamp is retained there");
	else
		say(d, "metadata", NOTE, "the controller refills it; until then this node polls by HTTPS",
		    "nothing is retained at the broker");
}

static void walk_to_broker(struct doctor *d)
{
	const struct link_options *l = d->o->link;
	char topics[2][TOPIC_MAX];
	const char *subscriptions[2] = { topics[0], topics[1] };
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
		.subscription_count = 2,
		.on_state = on_state,
		.on_message = on_message,
		.user = d,
	};
	int r;

	(void) snprintf(topics[0], TOPIC_MAX, "selfright/v1/%s/timestamp", l->fleet);
	(void) snprintf(topics[1], TOPIC_MAX, "selfright/v1/%s/announce", l->fleet);
	r = mqtt_open(&options, &d->mqtt);
	if (r < 0) {
		say(d, "connack", FAILED, NULL, "%s", err_text(r));
		return;
	}
	drive(d, BROKER_MS, &d->up);
	if (d->up)
		drive(d, METADATA_MS, &d->metadata);
	tell_broker(d);
	mqtt_close(d->mqtt);
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
	char folder[] = "/tmp/selfright-doctor.XXXXXX";
	int dirfd, r;

	if (!d->o->link->broker_host) {
		say(d, "broker", NOTE, NULL, "none is configured: everything but push goes by HTTPS");
		return;
	}
	if (d->o->link->waits) {
		say(d, "broker", NOTE, NULL, "not called: there is no certificate yet");
		return;
	}
	if (d->o->connected) {
		say(d, "broker", FINE, NULL, "the agent's own connection to %s:%u stands", d->o->link->broker_host,
		    d->o->link->broker_port);
		return;
	}
	/* A folder of our own: the link's socket stays the link's. */
	if (!mkdtemp(folder)) {
		say(d, "broker", FAILED, NULL, "%s: %s", folder, err_text(-errno));
		return;
	}
	dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = dirfd < 0 ? -errno : open_road(d, dirfd);
	if (r == 0)
		walk_to_broker(d);
	else
		say(d, "broker", FAILED, NULL, "%s", err_text(r));
	relay_stop(d->relay);
	tls_free(d->tls);
	if (dirfd >= 0)
		(void) close(dirfd); /* opened for lookups */
	if (tree_remove(d->os, AT_FDCWD, folder) < 0)
		say(d, "broker", NOTE, NULL, "%s could not be removed", folder);
}

/* --- the repository --- */

static const char *advise_https(int r, long status, long proxy)
{
	if (r < 0 && proxy >= 300) {
		const struct relay_state road = { .proxy_status = proxy };

		return advise_dial(&road);
	}
	if (r == -ERR_TLS)
		return "see `tls` above: the same holds here; ca.crt must be the CA of the repository's "
		       "certificate";
	if (r < 0)
		return "ask for this address to be opened outwards, or name a proxy in agent.yaml";
	return status == 404 ? "nothing is published at this address: compare urls: in agent.yaml"
			     : "the server or the proxy refuses; its log says why";
}

/* Enough of it, for a look. */
static int is_enough(void *user, uint64_t bytes)
{
	(void) user;
	return bytes >= PIECE_BYTES;
}

/* A piece of the artifact, then on from there, as after a download that broke off. */
static bool try_artifact(struct doctor *d, struct http *h, const char *url, const struct sample *s)
{
	char path[] = "/tmp/selfright-doctor.XXXXXX";
	char etag[128] = "", again[128];
	struct stat st = { .st_size = 0 };
	int fd = mkstemp(path), r;

	if (fd < 0) {
		say(d, "artifacts", FAILED, "make room in /tmp", "%s: %s", path, err_text(-errno));
		return false;
	}
	(void) unlink(path); /* it lives as long as its descriptor */
	r = http_save(h, s->name, s->length, fd, 0, etag, is_enough, NULL);
	if (r == -ECANCELED)
		r = 0;
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0) {
		say(d, "artifacts", FAILED,
		    "the metadata came from there, the artifact did not: look for a filter of types or sizes on "
		    "the "
		    "way, and at the server's log",
		    "%s: %s: %s", url, s->name, http_error(h));
		(void) close(fd); /* nothing in it is wanted, as below */
		return false;
	}
	memcpy(again, etag, sizeof(again));
	if (etag[0] && (uint64_t) st.st_size < s->length)
		r = http_save(h, s->name, s->length, fd, (uint64_t) st.st_size, again, is_enough, NULL);
	/* On a server without ranges it began anew, and shows more than the piece no sooner than at its end. */
	if (r < 0 && r != -ECANCELED)
		say(d, "artifacts", FAILED, "look at the server's log: it brings an artifact, and not its rest",
		    "%s: %s from byte %llu on: %s", url, s->name, (unsigned long long) st.st_size, http_error(h));
	else if (!etag[0])
		say(d, "artifacts", NOTE, "have the server send strong ETags",
		    "%s brings %s, but downloads that break off start over", url, s->name);
	else
		say(d, "artifacts", FINE, NULL,
		    "%s brings %s (%lld of %llu bytes tried); downloads that break off go on where they were", url,
		    s->name, (long long) st.st_size, (unsigned long long) s->length);
	(void) close(fd);
	return r == 0 || r == -ECANCELED;
}

static int open_url(struct doctor *d, const char *url, struct http **ret)
{
	const struct http_options options = {
		.base_url = url,
		.ca_pem = d->o->link->ca_pem,
		.clock = &d->clock,
		.user_agent = "selfright/" SELFRIGHT_VERSION,
	};

	return http_open(&options, ret);
}

/* What is named by its hash is asked of the mirrors first. They may lack it, but not be in the way. */
static void look_at_mirrors(struct doctor *d, const struct sample *s)
{
	for (size_t i = 0; i < d->o->link->mirror_count && i < URLS_MAX; i++) {
		CLEANUP(http_closep)
		struct http *h = NULL;
		CLEANUP(buf_done)
		struct buf body = BUF_INIT(TIMESTAMP_MAX);
		struct http_response response = { 0 };
		const char *url = d->o->link->mirrors[i];
		int r = open_url(d, url, &h);

		if (r == 0)
			r = http_request(h, "HEAD", s->name, NULL, NULL, 0, REQUEST_MS, &response, &body);
		if (r < 0)
			say(d, "mirror", NOTE,
			    "without it each file is asked for there in vain, then at the origin", "%s: %s", url,
			    h ? http_error(h) : err_text(r));
		else
			say(d, "mirror", FINE, NULL, "%s answers %ld to %s", url, response.status, s->name);
	}
}

static void look_at_artifacts(struct doctor *d, struct http *h, const char *url, const struct buf *timestamp)
{
	struct http_fetcher f;
	struct sample s = { .length = 0 };
	int r;

	http_fetcher_init(&f, h);
	r = sample_find(&f.fetcher, timestamp->data, timestamp->len, &s);
	if (r == -ENODATA) {
		say(d, "artifacts", NOTE, NULL, "%s: no artifact is published yet, there is nothing to try", url);
	} else if (r == -ERR_DIGEST) {
		say(d, "artifacts", FAILED,
		    "something on the way or at the server changes files: a filter, a cache, a half-copied "
		    "repository",
		    "%s: %s is not what the file before it names", url, s.name);
	} else if (r < 0) {
		say(d, "artifacts", FAILED, "look at the server's log; was the repository copied whole?",
		    "%s: %s: %s", url, s.name,
		    r == -ERR_NETWORK || r == -ERR_TLS || r == -ERR_HTTP_STATUS || r == -ERR_DEADLINE
			    ? http_error(h)
			    : err_text(r));
	} else {
		look_at_mirrors(d, &s);
		(void) try_artifact(d, h, url, &s); /* it said how that went */
	}
}

static void look_at_url(struct doctor *d, const char *url)
{
	CLEANUP(http_closep)
	struct http *h = NULL;
	CLEANUP(buf_done)
	struct buf body = BUF_INIT(TIMESTAMP_MAX);
	struct http_response response = { 0 };
	int r = open_url(d, url, &h);

	if (r < 0) {
		say(d, "https", FAILED, "urls: in agent.yaml takes addresses that begin with https://", "%s: %s",
		    url, err_text(r));
		return;
	}
	r = http_request(h, "GET", "metadata/timestamp.json", NULL, NULL, 0, REQUEST_MS, &response, &body);
	if (r < 0)
		say(d, "https", FAILED, advise_https(r, 0, http_proxy_status(h)), "%s", http_error(h));
	else if (response.status != 200)
		say(d, "https", FAILED, advise_https(0, response.status, 0),
		    "%s answered %ld to metadata/timestamp.json", url, response.status);
	else
		say(d, "https", FINE, NULL, "%s has a timestamp of %zu bytes%s", url, body.len,
		    d->o->url_proxy ? ", through the proxy" : "");
	if (r == 0 && response.status == 200)
		look_at_artifacts(d, h, url, &body);
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
	struct doctor d = { .o = o, .os = o->link->os };

	tls_clock_init(&d.clock, d.os, o->link->time_floor);
	look_at_clock(&d);
	look_at_broker(&d);
	if (o->link->url_count == 0)
		say(&d, "https", FAILED, "urls: in agent.yaml", "no address of a repository is configured");
	for (size_t i = 0; i < o->link->url_count && i < URLS_MAX; i++)
		look_at_url(&d, o->link->urls[i]);
	/* Last: it comes by the addresses before. */
	if (o->link->waits)
		say(&d, "certificate", FAILED, "selfright-agent status says what it waits for",
		    "this machine is not enrolled yet");
	if (o->json)
		print_json(&d);
	else
		print_text(&d);
	return first_failure(&d) ? 1 : 0;
}
