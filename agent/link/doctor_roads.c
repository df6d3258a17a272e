#include "agent/link/blobs.h"
#include "agent/link/doctor_steps.h"
#include "base/err.h"
#include "base/text.h"
#include "crypto/digest.h"
#include "fetch/bundle.h"
#include "fetch/fetch.h"
#include "fetch/relay.h"
#include "json/json.h"
#include "mqtt/mqtt.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	TIMESTAMP_MAX = 64 * 1024,
	REQUEST_MS = 30 * 1000,
	PIECE_BYTES = 64 * 1024,
	ANSWER_MS =
		12 *
		1000, /* of the controller over the broker: longer than it is waited for before it is asked again */
	HASH_MAX = 64 * 1024 * 1024, /* more of a stick is not read for a look */
	CHUNK = 64 * 1024,
};

static const char timestamp_name[] = "metadata/timestamp.json";

/* --- https: the addresses and the mirrors --- */

static const char *advise_https(int r, long status, long proxy)
{
	if (r < 0 && proxy >= 300) {
		const struct relay_state road = { .proxy_status = proxy };

		return doctor_advise_dial(&road);
	}
	if (r == -ERR_TLS)
		return "see `tls` above: the same holds here; ca.crt must be the CA of the repository's "
		       "certificate";
	if (r < 0)
		return "ask for this address to be opened outwards, or name a proxy in agent.yaml";
	return status == 404 ? "nothing is published at this address: compare urls: in agent.yaml"
			     : "the server or the proxy refuses; its log says why";
}

static void keep_sample(struct doctor *d, int r, const struct sample *s)
{
	if (r < 0 || d->has_sample)
		return;
	d->sample = *s;
	d->has_sample = true;
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
		doctor_say(d, "artifacts", FAILED, "make room in /tmp", "%s: %s", path, err_text(-errno));
		return false;
	}
	(void) unlink(path); /* it lives as long as its descriptor */
	r = http_save(h, s->name, s->length, fd, 0, etag, is_enough, NULL);
	if (r == -ECANCELED)
		r = 0;
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0) {
		doctor_say(d, "artifacts", FAILED,
			   "the metadata came from there, the artifact did not: look for a filter of types or "
			   "sizes on "
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
		doctor_say(d, "artifacts", FAILED,
			   "look at the server's log: it brings an artifact, and not its rest",
			   "%s: %s from byte %llu on: %s", url, s->name, (unsigned long long) st.st_size,
			   http_error(h));
	else if (!etag[0])
		doctor_say(d, "artifacts", NOTE, "have the server send strong ETags",
			   "%s brings %s, but downloads that break off start over", url, s->name);
	else
		doctor_say(
			d, "artifacts", FINE, NULL,
			"%s brings %s (%lld of %llu bytes tried); downloads that break off go on where they were",
			url, s->name, (long long) st.st_size, (unsigned long long) s->length);
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
	for (size_t i = 0; i < d->o->link->mirror_count && i < DOCTOR_LIST_MAX; i++) {
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
			doctor_say(d, "mirror", NOTE,
				   "without it each file is asked for there in vain, then at the origin", "%s: %s",
				   url, h ? http_error(h) : err_text(r));
		else
			doctor_say(d, "mirror", FINE, NULL, "%s answers %ld to %s", url, response.status, s->name);
	}
}

static void look_at_artifacts(struct doctor *d, struct http *h, const char *url, const struct buf *timestamp)
{
	struct http_fetcher f;
	struct sample s = { .length = 0 };
	int r;

	http_fetcher_init(&f, h);
	r = sample_find(&f.fetcher, timestamp->data, timestamp->len, &s);
	keep_sample(d, r, &s);
	if (r == -ENODATA) {
		doctor_say(d, "artifacts", NOTE, NULL, "%s: no artifact is published yet, there is nothing to try",
			   url);
	} else if (r == -ERR_DIGEST) {
		doctor_say(d, "artifacts", FAILED,
			   "something on the way or at the server changes files: a filter, a cache, a half-copied "
			   "repository",
			   "%s: %s is not what the file before it names", url, s.name);
	} else if (r < 0) {
		doctor_say(d, "artifacts", FAILED, "look at the server's log; was the repository copied whole?",
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
		doctor_say(d, "https", FAILED, "urls: in agent.yaml takes addresses that begin with https://",
			   "%s: %s", url, err_text(r));
		return;
	}
	r = http_request(h, "GET", "metadata/timestamp.json", NULL, NULL, 0, REQUEST_MS, &response, &body);
	if (r < 0)
		doctor_say(d, "https", FAILED, advise_https(r, 0, http_proxy_status(h)), "%s", http_error(h));
	else if (response.status != 200)
		doctor_say(d, "https", FAILED, advise_https(0, response.status, 0),
			   "%s answered %ld to metadata/timestamp.json", url, response.status);
	else
		doctor_say(d, "https", FINE, NULL, "%s has a timestamp of %zu bytes%s", url, body.len,
			   d->o->url_proxy ? ", through the proxy" : "");
	if (r == 0 && response.status == 200)
		look_at_artifacts(d, h, url, &body);
}

/* Not only a road to files: reports, leases and certificates go there when there is no broker. */
static void walk_https(struct doctor *d, bool is_road)
{
	if (d->o->link->url_count == 0)
		doctor_say(d, "https", is_road ? FAILED : NOTE, "urls: in agent.yaml",
			   "no address of a repository is configured");
	for (size_t i = 0; i < d->o->link->url_count && i < DOCTOR_LIST_MAX; i++)
		look_at_url(d, d->o->link->urls[i]);
}

/* --- mqtt: in blocks over our own connection --- */

struct by_mqtt {
	struct fetcher fetcher; /* first */
	struct doctor *d;
	struct buf *ret; /* of the file that is asked for */
	bool done;
	int error;
	uint64_t saved; /* of the artifact, so far */
};

static int ask_broker(void *user, const void *request, size_t len)
{
	const struct doctor *d = ((struct by_mqtt *) user)->d;
	char topic[DOCTOR_TOPIC_MAX];

	(void) snprintf(topic, sizeof(topic), "selfright/v1/%s/node/%s/get", d->o->link->fleet, d->o->link->node);
	return mqtt_publish(d->mqtt, topic, request, len, 1, false);
}

static void on_fetched(void *user, uint32_t id, int error, const void *data, size_t len)
{
	struct by_mqtt *m = user;

	(void) id;
	m->done = true;
	m->error = error;
	if (error == 0)
		m->error = buf_add(m->ret, data, len);
}

/* The first window is enough. */
static void on_saved(void *user, uint32_t id, bool over, int error, uint64_t bytes)
{
	struct by_mqtt *m = user;

	(void) id;
	(void) over;
	m->done = true;
	m->error = error;
	m->saved = bytes;
}

static int wait_for_blocks(struct by_mqtt *m)
{
	doctor_drive(m->d, ANSWER_MS, &m->done);
	return m->done ? m->error : m->d->up ? -ERR_DEADLINE : -ERR_NETWORK;
}

static int get_by_mqtt(struct fetcher *f, const char *name, uint64_t max, struct buf *ret)
{
	struct by_mqtt *m = (struct by_mqtt *) f;
	int r;

	m->done = false;
	m->ret = ret;
	r = blobs_fetch(m->d->blobs, 1, name, max);
	return r < 0 ? r : wait_for_blocks(m);
}

static int save_by_mqtt(struct by_mqtt *m, const struct sample *s)
{
	int r;

	m->done = false;
	r = blobs_save(m->d->blobs, 1, s->name, s->length);
	if (r == 0)
		r = wait_for_blocks(m);
	blobs_stop(m->d->blobs);
	return r;
}

static void fail_mqtt(struct doctor *d, int r, const char *name)
{
	switch (r) {
	case -ERR_DEADLINE:
		doctor_say(d, "mqtt", FAILED,
			   "ask the fleet team: the controller is away from the broker, or the access list keeps "
			   "node/ID/get "
			   "or node/ID/blob from this node",
			   "%s was asked for over the broker, and nobody answered in %d s", name,
			   ANSWER_MS / 1000);
		return;
	case -ERR_DIGEST:
		doctor_say(d, "mqtt", FAILED, "ask the fleet team: what is published there is not whole",
			   "over the broker came a %s that is not what the file before it names", name);
		return;
	case -ENOENT:
		doctor_say(d, "mqtt", FAILED,
			   "ask the fleet team: is this the right controller, and is its folder whole?",
			   "the controller answered over the broker that it has no %s", name);
		return;
	default:
		doctor_say(d, "mqtt", FAILED, "the log of the broker and of the controller say more",
			   "%s over the broker: %s", name,
			   r == -ERR_NETWORK && d->reason[0] ? d->reason : err_text(r));
	}
}

static void try_mqtt(struct by_mqtt *m)
{
	CLEANUP(buf_done)
	struct buf timestamp = BUF_INIT(TIMESTAMP_MAX);
	struct sample s = { .length = 0 };
	int r;

	(void) snprintf(s.name, sizeof(s.name), "%s", timestamp_name); /* fits */
	r = get_by_mqtt(&m->fetcher, timestamp_name, TIMESTAMP_MAX, &timestamp);
	if (r == 0)
		r = sample_find(&m->fetcher, timestamp.data, timestamp.len, &s);
	if (r == -ENODATA) {
		doctor_say(m->d, "mqtt", NOTE, NULL,
			   "metadata come over the broker; no artifact is published yet to be tried");
		return;
	}
	keep_sample(m->d, r, &s);
	if (r == 0)
		r = save_by_mqtt(m, &s);
	if (r < 0)
		fail_mqtt(m->d, r, s.name);
	else
		doctor_say(m->d, "mqtt", FINE, NULL, "the controller brings %s over the broker, in blocks",
			   s.name);
}

/* Over the agent's own connection: the agent tried it for us. */
static void tell_tried(struct doctor *d)
{
	const struct json *files = json_get(d->o->tried, "files"), *last = NULL;
	size_t count = json_count(files);
	int64_t error = 0, ms = 0, heard_s = 0;
	const char *name;

	last = count > 0 ? json_at(files, count - 1) : NULL;
	name = json_string(json_get(last, "name"));
	if (!name || !json_integer(json_get(last, "error"), &error) || !json_integer(json_get(last, "ms"), &ms) ||
	    !json_integer(json_get(d->o->tried, "heard_s"), &heard_s)) {
		doctor_say(d, "mqtt", NOTE, "ask as root; or stop selfright-agent and ask again, to have it tried",
			   "not tried: it is the agent's own connection, which a second one would take the place "
			   "of, and "
			   "the agent did not try it for us");
		return;
	}
	if (error == ERR_DEADLINE && heard_s * 1000 >= BLOBS_LOOK_MS)
		doctor_say(d, "mqtt", FAILED,
			   "the agent gives it up by itself and connects anew; if it happens again, look for a "
			   "firewall "
			   "that forgets connections",
			   "%s was asked for over the agent's own connection, and the broker has said nothing for "
			   "%" PRId64 " s",
			   name, heard_s);
	else if (error == ENOENT && count > 1)
		doctor_say(
			d, "mqtt", NOTE, NULL,
			"metadata come over the broker; the controller keeps %s no longer, and nothing newer is "
			"installed here to be tried",
			name);
	else if (error != 0)
		fail_mqtt(d, error > 0 && error < INT_MAX ? -(int) error : -EIO, name);
	else if (count == 1)
		doctor_say(d, "mqtt", NOTE, NULL,
			   "metadata come over the agent's own connection, in %" PRId64
			   " ms; nothing is installed here whose artifact could be tried",
			   ms);
	else
		doctor_say(d, "mqtt", FINE, NULL,
			   "the controller brings %s over the agent's own connection, its first block in %" PRId64
			   " ms",
			   name, ms);
}

static void walk_mqtt(struct doctor *d)
{
	struct by_mqtt m = { .fetcher = { .get = get_by_mqtt }, .d = d };
	const struct blobs_options options = { .os = d->os,
					       .dirfd = d->dirfd,
					       .ask = ask_broker,
					       .fetched = on_fetched,
					       .saved = on_saved,
					       .user = &m };
	int r;

	if (d->o->connected) {
		tell_tried(d);
		return;
	}
	if (!d->up || d->over) {
		doctor_say(d, "mqtt", NOT_REACHED, NULL, "not tried: there is no connection to the broker");
		return;
	}
	r = blobs_new(&options, &d->blobs);
	if (r < 0) {
		doctor_say(d, "mqtt", FAILED, NULL, "%s", err_text(r));
		return;
	}
	try_mqtt(&m);
	blobs_free(d->blobs);
	d->blobs = NULL;
}

/* --- file: folders, and tars of one --- */

/* Nothing there is a stick that is not plugged in, where something else brings files. */
static void say_missing(struct doctor *d, const char *path, int r)
{
	bool alone = d->o->link->road_count == 1;

	if (r == -ENOENT)
		doctor_say(d, "file", alone ? FAILED : NOTE,
			   alone ? "plug it in or mount it, or name another road in agent.yaml"
				 : "if it is a stick that comes and goes this is as it should be",
			   "%s is not there", path);
	else if (r == -EACCES)
		doctor_say(d, "file", FAILED,
			   "let the users of selfright-link and selfright-stage read it (agent.yaml, users)",
			   "%s may not be read by this user", path);
	else if (r == -ERR_ARCHIVE || r == -ERR_DUPLICATE_NAME)
		doctor_say(d, "file", FAILED,
			   "write it again with selfright bundle, and unmount it before it is pulled out",
			   "%s is neither a folder nor a whole tar", path);
	else
		doctor_say(d, "file", FAILED, "look at the medium: dmesg(1) tells of its errors", "%s: %s", path,
			   err_text(r));
}

/* -ERR_DIGEST; other errors are those of the medium. */
static int hash_file(struct doctor *d, int fd, uint64_t offset, uint64_t size, const char *name)
{
	CLEANUP(sha256_freep)
	struct sha256 *hash = NULL;
	const char *slash = strrchr(name, '/');
	uint8_t *chunk = malloc(CHUNK), digest[SHA256_BYTES];
	char hex[SHA256_HEX + 1];
	int r = chunk ? sha256_new(&hash) : -ENOMEM;

	for (uint64_t done = 0; r == 0 && done < size;) {
		ssize_t n = d->os->pread(d->os, fd, chunk, size - done < CHUNK ? (size_t) (size - done) : CHUNK,
					 offset + done);

		r = n < 0 ? (int) n : n == 0 ? -ERR_LENGTH : sha256_add(hash, chunk, (size_t) n);
		done += n > 0 ? (uint64_t) n : 0;
	}
	free(chunk);
	if (r == 0)
		r = sha256_end(hash, digest);
	if (r < 0)
		return r;
	hex_encode(hex, digest, sizeof(digest));
	return slash && strncmp(slash + 1, hex, SHA256_HEX) == 0 ? 0 : -ERR_DIGEST;
}

static void try_file(struct doctor *d, const char *path, const struct bundle *b, const struct sample *s)
{
	uint64_t offset = 0, size = 0;
	int fd = -1, r = bundle_find(b, s->name, &fd, &offset, &size);

	if (r == -ENOENT) {
		doctor_say(d, "file", d->o->link->road_count == 1 ? FAILED : NOTE,
			   "write a newer bundle; until then the next road is asked", "%s lacks %s", path,
			   s->name);
		return;
	}
	if (r == 0 && size != s->length)
		r = -ERR_LENGTH;
	if (r == 0 && size <= HASH_MAX)
		r = hash_file(d, fd, offset, size, s->name);
	if (fd >= 0)
		(void) d->os->close(d->os, fd); /* only read */
	if (r == -ERR_DIGEST || r == -ERR_LENGTH)
		doctor_say(d, "file", FAILED,
			   "write it again, on another medium if it happens twice: it was copied by half, or the "
			   "medium fails",
			   "%s: %s is not what its name says", path, s->name);
	else if (r < 0)
		say_missing(d, path, r == -ENOENT ? -EIO : r);
	else
		doctor_say(d, "file", FINE, NULL, "%s brings %s, %" PRIu64 " bytes%s", path, s->name, size,
			   size <= HASH_MAX ? ", and whole" : "");
}

/* What its own metadata name; where it holds none, or none of an artifact, what another road told of. */
static void look_at_folder(struct doctor *d, const char *path)
{
	CLEANUP(bundle_closep)
	struct bundle *b = NULL;
	CLEANUP(buf_done)
	struct buf timestamp = BUF_INIT(TIMESTAMP_MAX);
	struct sample s = { .length = 0 };
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), r;

	r = fd < 0 ? -errno : bundle_open(d->os, fd, &b);
	if (r < 0) {
		if (fd >= 0)
			(void) close(fd); /* only looked at */
		say_missing(d, path, r);
		return;
	}
	r = fetcher_get(bundle_fetcher(b), timestamp_name, TIMESTAMP_MAX, &timestamp);
	if (r == 0)
		r = sample_find(bundle_fetcher(b), timestamp.data, timestamp.len, &s);
	keep_sample(d, r, &s);
	if (r == -ERR_DIGEST)
		doctor_say(d, "file", FAILED, "write it again: it was copied by half, or the medium fails",
			   "%s: %s is not what the file before it names", path, s.name);
	else if (r == 0)
		try_file(d, path, b, &s);
	else if (d->has_sample)
		try_file(d, path, b, &d->sample);
	else
		doctor_say(
			d, "file", NOTE, NULL,
			"%s can be read; it has no metadata that name an artifact, and no other road told of one",
			path);
}

static void walk_files(struct doctor *d)
{
	for (size_t i = 0; i < d->o->link->folder_count && i < DOCTOR_LIST_MAX; i++)
		look_at_folder(d, d->o->link->folders[i]);
}

/* A folder without metadata is tried with what another road knows: quietly, what is to be said of it comes in its turn. */
static void find_sample(struct doctor *d)
{
	for (size_t i = 0; i < d->o->link->url_count && i < DOCTOR_LIST_MAX && !d->has_sample; i++) {
		CLEANUP(http_closep)
		struct http *h = NULL;
		CLEANUP(buf_done)
		struct buf body = BUF_INIT(TIMESTAMP_MAX);
		struct http_fetcher f;
		struct sample s = { .length = 0 };
		int r = open_url(d, d->o->link->urls[i], &h);

		if (r < 0)
			continue;
		http_fetcher_init(&f, h);
		r = fetcher_get(&f.fetcher, timestamp_name, TIMESTAMP_MAX, &body);
		if (r == 0)
			r = sample_find(&f.fetcher, body.data, body.len, &s);
		keep_sample(d, r, &s);
	}
}

void doctor_roads(struct doctor *d)
{
	const struct link_options *l = d->o->link;
	bool https = false;

	for (size_t i = 0; i < l->road_count; i++) {
		switch (l->roads[i]) {
		case LINK_ROAD_HTTPS:
			https = true;
			walk_https(d, true);
			break;
		case LINK_ROAD_MQTT:
			walk_mqtt(d);
			break;
		default:
			if (!d->has_sample)
				find_sample(d);
			walk_files(d);
		}
	}
	if (!https)
		walk_https(d, l->road_count == 0);
}
