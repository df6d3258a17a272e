/*
 * receive - bytes from outside into trusted metadata.
 *
 * Announcements are a cache for the TUF workflow and nothing more: what they hold is
 * verified as if it came from anywhere else, and what they lack is asked of the link.
 */
#include "agent/link/protocol.h"
#include "agent/phase/node.h"
#include "agent/phase/phase.h"
#include "base/err.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "fetch/bundle.h"
#include "json/json.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ANNOUNCEMENT_MAX = 1024 * 1024,
	PREFETCH_BYTES_MAX = 2 * 1024 * 1024,
	PREFETCH_FILES_MAX = 2048,
	FETCH_SLICE_MS = 1000,
};

static const char timestamp_name[] = "metadata/timestamp.json";

static void put_be(uint8_t *out, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		out[i] = (uint8_t) (value >> (8 * (bytes - 1 - i)));
}

/* --- the cache of announced files --- */

static void prefetch_clear(struct node *n)
{
	for (size_t i = 0; i < n->prefetched_count; i++) {
		free(n->prefetched[i].name);
		buf_done(&n->prefetched[i].bytes);
	}
	free(n->prefetched);
	n->prefetched = NULL;
	n->prefetched_count = n->prefetched_bytes = 0;
}

static struct prefetched *prefetch_find(const struct node *n, const char *name)
{
	for (size_t i = 0; i < n->prefetched_count; i++)
		if (str_eq(n->prefetched[i].name, name))
			return &n->prefetched[i];
	return NULL;
}

static void prefetch_forget(struct node *n, struct prefetched *p)
{
	n->prefetched_bytes -= p->bytes.len;
	free(p->name);
	buf_done(&p->bytes);
	*p = n->prefetched[--n->prefetched_count];
}

static int prefetch_add(struct node *n, const char *name, const void *bytes, size_t len)
{
	struct prefetched *p = prefetch_find(n, name), *longer;
	int r;

	if (p)
		prefetch_forget(n, p);
	if (n->prefetched_bytes + len > PREFETCH_BYTES_MAX || n->prefetched_count >= PREFETCH_FILES_MAX)
		return -ERR_TOO_LARGE;
	longer = realloc(n->prefetched, (n->prefetched_count + 1) * sizeof(*longer));
	if (!longer)
		return -ENOMEM;
	n->prefetched = longer;
	p = &longer[n->prefetched_count];
	p->name = strdup(name);
	if (!p->name)
		return -ENOMEM;
	buf_init(&p->bytes, len);
	r = buf_add(&p->bytes, bytes, len);
	if (r < 0) {
		free(p->name);
		return r;
	}
	n->prefetched_count++;
	n->prefetched_bytes += len;
	return 0;
}

/* --- pushed bytes --- */

static int64_t version_of(const void *bytes, size_t len)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	int64_t version = 0;

	if (json_parse(bytes, len, &json_limits_default, &doc) < 0)
		return 0;
	return json_integer(json_get(json_get(doc, "signed"), "version"), &version) ? version : 0;
}

/* Nothing here is believed: the number only saves the work of verifying what cannot be news. */
void receive_timestamp(struct node *n, const void *bytes, size_t len)
{
	const struct prefetched *have = prefetch_find(n, timestamp_name);
	int64_t version = len <= tuf_limits_default.timestamp ? version_of(bytes, len) : 0;
	struct tuf_state trusted = { 0 };

	tuf_client_state(n->tuf, &trusted);
	if (version <= 0 || (uint64_t) version < trusted.timestamp)
		return;
	if ((uint64_t) version == trusted.timestamp) {
		/* Known; but what came with it may be just what the last try lacked. */
		n->push_wanted = n->push_wanted || n->refresh_error < 0;
		return;
	}
	if (have && version_of(have->bytes.data, have->bytes.len) >= version)
		return;
	if (prefetch_add(n, timestamp_name, bytes, len) == 0)
		n->push_wanted = true;
}

static bool is_immutable_name(const char *name)
{
	const char *base = strrchr(name, '/');
	uint8_t digest[SHA256_BYTES];
	char hex[SHA256_HEX + 1];

	if (!guard_path(name) || !base)
		return false;
	base++;
	if (str_starts(name, "metadata/"))
		return base[0] >= '1' && base[0] <= '9';
	if (!str_starts(name, "targets/") || strlen(base) <= SHA256_HEX + 1 || base[SHA256_HEX] != '.')
		return false;
	(void) snprintf(hex, sizeof(hex), "%.*s", SHA256_HEX, base);
	return hex_decode(digest, sizeof(digest), hex, false) == 0;
}

void receive_announcement(struct node *n, const void *text, size_t len)
{
	struct json_limits limits = json_limits_default;
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct json *files, *timestamp = NULL;
	uint64_t format = 0;
	int r;

	limits.max_bytes = ANNOUNCEMENT_MAX;
	limits.max_values = 8192;
	r = json_parse(text, len, &limits, &doc);
	if (r == 0)
		r = json_need_u64(doc, "format", 1, 1, &format);
	if (r == 0)
		r = json_need(doc, "files", JSON_OBJECT, &files);
	if (r < 0) {
		log_warning("announcement-dropped", "an announcement was malformed: %s", err_text(r));
		return;
	}
	if (n->prefetched_bytes + len > PREFETCH_BYTES_MAX)
		prefetch_clear(n);
	for (size_t i = 0; i < json_count(files); i++) {
		const char *name = json_name_at(files, i), *bytes = json_string(json_at(files, i));

		if (!bytes)
			continue;
		if (str_eq(name, timestamp_name))
			timestamp = json_at(files, i);
		else if (is_immutable_name(name))
			(void) !prefetch_add(n, name, bytes, strlen(bytes)); /* what does not fit is fetched */
	}
	/* Last, so that everything is there when it starts a refresh. */
	if (timestamp)
		receive_timestamp(n, json_string(timestamp), strlen(json_string(timestamp)));
}

/* --- the fetcher --- */

static int from_documents(struct node *n, const char *name, uint64_t max, struct buf *ret)
{
	const char *base = strrchr(name, '/');
	char hex[SHA256_HEX + 1];

	if (!str_starts(name, "targets/") || !is_immutable_name(name))
		return -ENOENT;
	(void) snprintf(hex, sizeof(hex), "%.*s", SHA256_HEX, base + 1);
	return file_read(n->os, n->documents_fd, hex, (size_t) max, ret);
}

/* Is this what the hash in its name says? */
static bool is_named_so(const char *name, const uint8_t *bytes, size_t len)
{
	char hex[SHA256_HEX + 1];

	return sha256_hex(bytes, len, hex) == 0 && strncmp(strrchr(name, '/') + 1, hex, SHA256_HEX) == 0;
}

/*
 * A stick stands in for the network while it is asked for metadata; else it is one more
 * cache, of what is named by its hash: a bad file on it hides no good one elsewhere.
 */
static int from_bundle(struct node *n, const char *name, uint64_t max, struct buf *ret)
{
	bool metadata = str_starts(name, "metadata/");
	size_t before = ret->len;
	int r;

	if (!n->bundle || (metadata && !n->ask_bundle))
		return -ENOENT;
	r = fetcher_get(bundle_fetcher(n->bundle), name, max, ret);
	if (r < 0 || metadata)
		return r;
	if (is_immutable_name(name) && is_named_so(name, ret->data + before, ret->len - before))
		return 0;
	ret->len = before;
	log_warning("bundle-file-refused", "it is not what its name says: name=%s", name);
	return -ENOENT;
}

static int from_link(struct node *n, const char *name, uint64_t max, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf request = BUF_INIT(2048);
	uint64_t deadline = node_now_ms(n) + FETCH_DEADLINE_MS;
	uint8_t head[8];
	int r;

	if (!n->link)
		return -ERR_PEER_GONE;
	put_be(head, max, sizeof(head));
	r = buf_add(&request, head, sizeof(head));
	if (r == 0)
		r = buf_add_str(&request, name);
	if (r < 0)
		return r;
	n->fetch_id++;
	n->fetch_answered = false;
	r = frame_send(n->link, LINK_FETCH, n->fetch_id, request.data, request.len);
	while (r == 0 && !n->fetch_answered) {
		if (!n->link)
			r = -ERR_PEER_GONE;
		else if (node_now_ms(n) >= deadline)
			r = -ERR_DEADLINE;
		else
			n->pump(n, FETCH_SLICE_MS);
	}
	if (r == 0)
		r = n->fetch_error;
	if (r == 0 && n->fetch_bytes.len > max)
		r = -ERR_TOO_LARGE;
	if (r == 0 && n->fetch_bytes.len > 0)
		r = buf_add(ret, n->fetch_bytes.data, n->fetch_bytes.len);
	buf_done(&n->fetch_bytes);
	return r > 0 ? -ERR_PROTOCOL : r;
}

static int get(struct fetcher *f, const char *name, uint64_t max, struct buf *ret)
{
	struct node *n = (struct node *) ((char *) f - offsetof(struct node, fetcher));
	const struct prefetched *p = prefetch_find(n, name);
	int r;

	/* A pushed timestamp says what is new, never that nothing is: polls ask the origin. */
	if (p && (n->use_pushed_timestamp || !str_eq(name, timestamp_name)) && p->bytes.len <= max)
		return buf_add(ret, p->bytes.data, p->bytes.len);
	if (from_documents(n, name, max, ret) == 0)
		return 0;
	r = from_bundle(n, name, max, ret);
	/* While the stick is asked, what it does not hold is not there: no next root, no road to wait for. */
	if (r == 0 || n->alone || (n->ask_bundle && str_starts(name, "metadata/")))
		return r;
	return from_link(n, name, max, ret);
}

void receive_init(struct node *n)
{
	n->fetcher = (struct fetcher){ .get = get };
	buf_init(&n->fetch_bytes, LINK_FRAME_MAX);
}

void receive_forget(struct node *n)
{
	prefetch_clear(n);
}

void receive_done(struct node *n)
{
	prefetch_clear(n);
	buf_done(&n->fetch_bytes);
}

/* --- the workflow --- */

int phase_receive(struct node *n, bool pushed)
{
	bool changed = false, was_broken = n->refresh_error < 0;
	char quoted[600];
	int r;

	n->use_pushed_timestamp = pushed;
	r = tuf_client_refresh(n->tuf, &n->fetcher, &changed);
	n->use_pushed_timestamp = false;
	n->refreshed_ms = node_now_ms(n);
	if (!pushed)
		n->polled_ms = n->refreshed_ms;
	if (r < 0) {
		bool road = r == -ERR_NETWORK || r == -ERR_TLS || r == -ERR_HTTP_STATUS;
		const char *words = road ? n->fetch_words : "", *said = tuf_client_error(n->tuf);
		struct prefetched *p = prefetch_find(n, timestamp_name);
		char text[sizeof(n->refresh_text)];

		(void) snprintf(text, sizeof(text), "%s%s%s%s", said[0] ? said : err_text(r), words[0] ? " (" : "",
				words, words[0] ? ")" : ""); /* a longer sentence is cut */

		if (pushed && p)
			prefetch_forget(n, p); /* it led nowhere: the next one is judged anew */
		if (n->refresh_error != r || !str_eq(n->refresh_text, text))
			log_warning("refresh-failed", "error=%s detail=%s", err_name(r),
				    log_quote(quoted, sizeof(quoted), text));
		memcpy(n->refresh_text, text, sizeof(text));
		n->refresh_error = r;
		n->replan = true;
		return r;
	}
	n->refreshed_at = n->os->clock_real(n->os);
	n->refresh_error = 0;
	n->refresh_text[0] = '\0';
	if (changed || was_broken) {
		struct tuf_state t = { 0 };

		tuf_client_state(n->tuf, &t);
		log_notice("refreshed", "root=%llu timestamp=%llu snapshot=%llu targets=%llu",
			   (unsigned long long) t.root, (unsigned long long) t.timestamp,
			   (unsigned long long) t.snapshot, (unsigned long long) t.targets);
		n->replan = true;
	}
	return changed ? 1 : 0;
}

int phase_receive_bundle(struct node *n)
{
	struct installation *i = &n->installation;
	bool changed = false;
	char quoted[600];
	int r;

	r = tuf_client_refresh(n->tuf, &n->fetcher, &changed);
	i->refresh_error = 0;
	i->refresh_text[0] = '\0';
	/* A stick older than what is known here is no offence: our own metadata say more, its files are as good. */
	if (r == -ERR_ROLLBACK && tuf_client_targets_signed(n->tuf)) {
		log_notice("bundle-older", "the metadata here are newer; it only brings files: path=%s", i->path);
		return 0;
	}
	if (r < 0) {
		const char *said = tuf_client_error(n->tuf);

		i->refresh_error = r;
		(void) snprintf(i->refresh_text, sizeof(i->refresh_text), "%s", said[0] ? said : err_text(r));
		log_warning("bundle-refused", "its metadata are not taken: error=%s detail=%s", err_name(r),
			    log_quote(quoted, sizeof(quoted), i->refresh_text));
		return r;
	}
	if (changed) {
		struct tuf_state t = { 0 };

		tuf_client_state(n->tuf, &t);
		log_notice("refreshed", "root=%llu timestamp=%llu snapshot=%llu targets=%llu from=bundle",
			   (unsigned long long) t.root, (unsigned long long) t.timestamp,
			   (unsigned long long) t.snapshot, (unsigned long long) t.targets);
		n->refreshed_at = n->os->clock_real(n->os);
	}
	n->replan = true;
	return changed ? 1 : 0;
}
