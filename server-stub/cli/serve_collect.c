/*
 * Collections: files that support asked a node for, as they come in (model/collection.h), kept in
 * DIR/serve/collections/<node>/ and handed out.
 *
 *   <sha256>.open    the node's signed statement of what is on its way; verified before it was written
 *   <sha256>.part    the bytes so far: a hint, all of them are hashed at the end
 *   <order>.json     the statement of what is there
 *   <order>.tar      the bytes, as signed
 *
 * Only what a live order asked this very node for is taken, at most one at a time of each node, and never more than
 * its signed length, than a node may have here, than all may have, or than the disk has to spare.
 */
#include "base/err.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "crypto/digest.h"
#include "json/build.h"
#include "json/json.h"
#include "model/collection.h"
#include "os/durable.h"
#include "pack/pack.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db_budget.h"
#include "server-stub/ingest/db_events.h"
#include "server-stub/ingest/db_orders.h"
#include "server-stub/ingest/ingest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum {
	KEEP_COUNT = 20, /* of one node, the newest */
	KEEP_NODE_BYTES = 256 * 1024 * 1024, /* the same */
	FREE_BYTES = 256 * 1024 * 1024, /* of the disk, for the database and for what is published */
	KEEP_S = 30 * 86400,
	NAME_BYTES = SHA256_HEX + 8,
};

static const uint64_t ALL_BYTES = UINT64_C(10240) * 1024 * 1024; /* of all nodes, where nothing is said */

static const char folder_name[] = "collections";

/* --- the folder of a node --- */

static int open_folder(struct serve *s, const char *node, bool make)
{
	int dirfd, fd, r = make ? s->os->mkdirat(s->os, s->serve_dirfd, folder_name, 0700) : 0;

	if (r < 0 && r != -EEXIST)
		return r;
	dirfd = dir_open(s->os, s->serve_dirfd, folder_name);
	if (dirfd < 0)
		return dirfd;
	r = make ? s->os->mkdirat(s->os, dirfd, node, 0700) : 0; /* ids are names */
	fd = r < 0 && r != -EEXIST ? r : dir_open(s->os, dirfd, node);
	(void) s->os->close(s->os, dirfd); /* only looked up in */
	return fd;
}

static const char *name_of(char out[static NAME_BYTES], const char *base, const char *suffix)
{
	(void) snprintf(out, NAME_BYTES, "%s%s", base, suffix); /* ids and digests are at most 64 */
	return out;
}

/* A statement that was verified when it was written here. */
static int read_statement(struct serve *s, int dirfd, const char *base, const char *suffix, struct collection *ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(COLLECTION_STATEMENT_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	char name[NAME_BYTES];
	int r = file_read(s->os, dirfd, name_of(name, base, suffix), text.max, &text);

	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, &doc);
	return r < 0 ? r : collection_parse(json_get(doc, "signed"), ret);
}

static int size_of(struct serve *s, int dirfd, const char *base, const char *suffix, uint64_t *ret,
		   int64_t *ret_mtime)
{
	char name[NAME_BYTES];
	struct stat st;
	int r = s->os->fstatat(s->os, dirfd, name_of(name, base, suffix), &st);

	if (r < 0 || !S_ISREG(st.st_mode))
		return r < 0 ? r : -ERR_NAME;
	*ret = (uint64_t) st.st_size;
	if (ret_mtime)
		*ret_mtime = st.st_mtim.tv_sec;
	return 0;
}

static void remove_file(struct serve *s, int dirfd, const char *base, const char *suffix)
{
	char name[NAME_BYTES];

	(void) s->os->unlinkat(s->os, dirfd, name_of(name, base, suffix),
			       0); /* looked at again with the next one */
}

/* Is it there, whole? */
static bool is_here(struct serve *s, int dirfd, const char *order, const char *sha256)
{
	struct collection c;
	uint64_t size = 0;

	return read_statement(s, dirfd, order, ".json", &c) == 0 && (!sha256 || str_eq(c.sha256, sha256)) &&
	       size_of(s, dirfd, order, ".tar", &size, NULL) == 0 && size == c.length;
}

static bool ends_with(const char *name, const char *suffix)
{
	size_t len = strlen(name), n = strlen(suffix);

	return len > n && strcmp(name + len - n, suffix) == 0;
}

struct kept {
	char order[ID_MAX + 1];
	int64_t at;
	uint64_t size;
};

static int compare_kept(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;

	return x->at == y->at ? 0 : x->at < y->at ? 1 : -1;
}

/* Was it on its way, and is nobody's any more: under another digest than what comes now, or from long ago? */
static bool is_abandoned(struct serve *s, int dirfd, const char *name, const char *base, const char *coming)
{
	const char *suffix = ends_with(name, ".part") ? ".part" : ends_with(name, ".open") ? ".open" : NULL;
	int64_t mtime = 0;
	uint64_t size;

	if (!suffix || (coming && str_eq(base, coming)))
		return false;
	return coming || (size_of(s, dirfd, base, suffix, &size, &mtime) == 0 && mtime + KEEP_S <= serve_now(s));
}

/* What is too old, or too much; and what was on its way. */
static int tidy(struct serve *s, int dirfd, const char *coming)
{
	struct name_list names = { 0 };
	struct kept *kept;
	size_t count = 0;
	uint64_t together = 0;
	int r = dir_list(s->os, dirfd, ".", &names);

	kept = r == 0 ? calloc(names.count + 1, sizeof(*kept)) : NULL;
	if (r == 0 && !kept)
		r = -ENOMEM;
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		char base[NAME_BYTES];
		size_t len = strcspn(names.names[i], ".");

		(void) snprintf(base, sizeof(base), "%.*s", len < NAME_BYTES ? (int) len : 0, names.names[i]);
		if (is_abandoned(s, dirfd, names.names[i], base, coming))
			r = s->os->unlinkat(s->os, dirfd, names.names[i], 0);
		else if (ends_with(names.names[i], ".tar") && guard_id(base) &&
			 size_of(s, dirfd, base, ".tar", &kept[count].size, &kept[count].at) == 0)
			memcpy(kept[count++].order, base, ID_MAX + 1);
	}
	if (count > 0)
		qsort(kept, count, sizeof(*kept), compare_kept);
	for (size_t i = 0; r == 0 && i < count; i++) {
		together += kept[i].size;
		if (i < KEEP_COUNT && together <= KEEP_NODE_BYTES && kept[i].at + KEEP_S > serve_now(s))
			continue;
		remove_file(s, dirfd, kept[i].order, ".tar");
		remove_file(s, dirfd, kept[i].order, ".json");
	}
	free(kept);
	name_list_done(&names);
	return r;
}

/* What a node's files take, or will when what is on its way is here. */
static int add_folder(struct serve *s, int dirfd, const char *node, uint64_t *sum)
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };
	int fd = dir_open(s->os, dirfd, node), r;

	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? 0 : fd; /* removed meanwhile, or none of ours */
	r = tidy(s, fd, NULL);
	if (r == 0)
		r = dir_list(s->os, fd, ".", &names);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		struct collection coming = { .length = 0 };
		char base[NAME_BYTES];
		struct stat st;
		size_t len = strcspn(names.names[i], ".");

		(void) snprintf(base, sizeof(base), "%.*s", len < NAME_BYTES ? (int) len : 0, names.names[i]);
		if (ends_with(names.names[i], ".open") && read_statement(s, fd, base, ".open", &coming) == 0)
			*sum += coming.length;
		else if (!ends_with(names.names[i], ".part") &&
			 s->os->fstatat(s->os, fd, names.names[i], &st) == 0)
			*sum += (uint64_t) st.st_size;
	}
	(void) s->os->close(s->os, fd); /* only looked at */
	return r;
}

static int count_all(struct serve *s, uint64_t *ret)
{
	CLEANUP(name_list_done)
	struct name_list nodes = { 0 };
	uint64_t sum = 0;
	int dirfd = dir_open(s->os, s->serve_dirfd, folder_name), r;

	if (dirfd < 0)
		return dirfd;
	r = dir_list(s->os, dirfd, ".", &nodes);
	for (size_t i = 0; r == 0 && i < nodes.count; i++)
		r = add_folder(s, dirfd, nodes.names[i], &sum);
	(void) s->os->close(s->os, dirfd); /* only looked at */
	if (r == 0)
		*ret = sum;
	return r;
}

/* Is there room for another one? One that has begun was looked at then. */
static int judge_room(struct serve *s, int dirfd, const struct collection *c, char *ret_refusal, size_t size)
{
	const uint64_t most = s->options.collections_max_bytes ? s->options.collections_max_bytes : ALL_BYTES;
	uint64_t all = 0;
	struct statvfs v;
	int r = size_of(s, dirfd, c->sha256, ".part", &all, NULL);

	if (r == 0)
		return 0;
	r = s->os->fstatvfs(s->os, dirfd, &v);
	if (r == 0)
		r = count_all(s, &all);
	if (r < 0)
		return r;
	if (all + c->length > most)
		(void) snprintf(ret_refusal, size,
				"the controller keeps %" PRIu64
				" MiB of files of nodes and takes no more than %" PRIu64
				" (serve --collections-max); older ones must go",
				all >> 20, most >> 20); /* cut */
	else if ((uint64_t) v.f_bavail * v.f_frsize < c->length + FREE_BYTES)
		(void) snprintf(ret_refusal, size, "the controller's disk has no room for %" PRIu64 " bytes more",
				c->length); /* cut */
	if (ret_refusal[0])
		log_warning("collection-refused", "node=%s order=%s reason=\"%s\"", c->node, c->order,
			    ret_refusal);
	return 0;
}

/* --- taking it in --- */

struct asked {
	const char *order, *set;
	bool live;
};

static int compare_order(void *user, const struct db_order *row)
{
	struct asked *a = user;

	a->live = a->live || (str_eq(row->id, a->order) && str_eq(row->kind, "collect") &&
			      str_eq(row->component, a->set) && !row->unconfirmed);
	return 0;
}

static void write_receipt(const void *what, struct json_node *object)
{
	receipt_write(what, object);
}

static int answer_done(struct serve *s, const char *node, struct put_answer *a, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf envelope = BUF_INIT(COLLECTION_STATEMENT_MAX);
	struct receipt receipt = { .fleet = "" };
	int r;

	(void) snprintf(receipt.fleet, sizeof(receipt.fleet), "%s", s->fleet);
	(void) snprintf(receipt.node, sizeof(receipt.node), "%s", node);
	memcpy(receipt.order, a->order, sizeof(receipt.order));
	memcpy(receipt.sha256, a->sha256, sizeof(receipt.sha256));
	r = trust_sign(s, write_receipt, &receipt, &envelope);
	if (r < 0)
		return r; /* the node says it again */
	a->state = PUT_DONE;
	a->receipt = envelope.data;
	a->len = envelope.len;
	return put_answer_write(a, ret);
}

static int answer_refused(struct put_answer *a, const char *reason, struct buf *ret)
{
	a->state = PUT_REFUSED;
	(void) snprintf(a->reason, sizeof(a->reason), "%s", reason);
	return put_answer_write(a, ret);
}

static int answer_more(struct put_answer *a, uint64_t next, struct buf *ret)
{
	a->state = PUT_MORE;
	a->next = next;
	return put_answer_write(a, ret);
}

static int open_part(struct serve *s, int dirfd, const char *sha256)
{
	char name[NAME_BYTES];

	return s->os->openat(s->os, dirfd, name_of(name, sha256, ".part"), O_RDWR | O_CREAT, 0600);
}

/* The statement: who signed it, whether it was asked for, and where it goes on. */
static int take_statement(struct serve *s, const char *node, const struct put *put, struct put_answer *a,
			  struct buf *ret)
{
	struct collection c;
	struct asked asked = { .live = false };
	const char *refusal = NULL;
	char name[NAME_BYTES], no_room[PUT_REASON_MAX + 1] = "";
	uint64_t size = 0;
	int dirfd, fd, r = ingest_collection(s->db, s->fleet, node, put->data, put->len, &c, &refusal);

	if (r < 0)
		return r;
	if (!refusal && (!str_eq(c.order, put->order) || !str_eq(c.sha256, put->sha256)))
		refusal = "the message and the statement in it disagree";
	if (refusal)
		return answer_refused(a, refusal, ret);
	dirfd = open_folder(s, node, true);
	if (dirfd < 0)
		return dirfd;
	if (is_here(s, dirfd, c.order, c.sha256)) {
		r = answer_done(s, node, a, ret);
		(void) s->os->close(s->os, dirfd); /* only looked up in */
		return r;
	}
	asked.order = c.order;
	asked.set = c.set;
	r = db_orders(s->db, node, serve_now(s), compare_order, &asked);
	if (r == 0 && !asked.live) {
		r = answer_refused(a, "nobody asks for this set under this order any more", ret);
	} else if (r == 0) {
		r = tidy(s, dirfd, c.sha256);
		if (r == 0)
			r = judge_room(s, dirfd, &c, no_room, sizeof(no_room));
	}
	if (r == 0 && no_room[0]) {
		r = answer_refused(a, no_room, ret);
	} else if (r == 0 && asked.live) {
		r = durable_write_file(s->os, dirfd, name_of(name, c.sha256, ".open"), put->data, put->len, 0600);
		fd = r == 0 ? open_part(s, dirfd, c.sha256) : r;
		if (fd >= 0) {
			(void) s->os->close(s->os, fd); /* nothing was written */
			r = size_of(s, dirfd, c.sha256, ".part", &size, NULL);
		}
		if (fd < 0)
			r = fd;
		if (r == 0)
			r = answer_more(a, size / PUT_BLOCK_BYTES, ret);
	}
	(void) s->os->close(s->os, dirfd); /* what was written there is synced */
	return r;
}

static int hash_part(struct serve *s, int fd, char ret[static SHA256_HEX + 1])
{
	CLEANUP(sha256_freep)
	struct sha256 *hash = NULL;
	uint8_t *chunk = malloc(PUT_BLOCK_BYTES), digest[SHA256_BYTES];
	uint64_t offset = 0;
	int r = chunk ? sha256_new(&hash) : -ENOMEM;

	while (r == 0) {
		ssize_t n = s->os->pread(s->os, fd, chunk, PUT_BLOCK_BYTES, offset);

		if (n < 0)
			r = (int) n;
		if (n <= 0)
			break;
		r = sha256_add(hash, chunk, (size_t) n);
		offset += (uint64_t) n;
	}
	free(chunk);
	if (r == 0)
		r = sha256_end(hash, digest);
	if (r == 0)
		hex_encode(ret, digest, sizeof(digest));
	return r;
}

/*
 * All of it is here. The bytes reach the disk before their name, and the name before the receipt by which the node
 * forgets its own copy.
 */
static int keep(struct serve *s, const char *node, int dirfd, int fd, const struct collection *c)
{
	CLEANUP(buf_done)
	struct buf statement = BUF_INIT(COLLECTION_STATEMENT_MAX);
	char from[NAME_BYTES], to[NAME_BYTES], text[400];
	int r = s->os->fsync(s->os, fd);

	if (r == 0)
		r = file_read(s->os, dirfd, name_of(from, c->sha256, ".open"), statement.max, &statement);
	if (r == 0)
		r = durable_write_file(s->os, dirfd, name_of(to, c->order, ".json"), statement.data, statement.len,
				       0600);
	if (r == 0)
		r = s->os->renameat(s->os, dirfd, name_of(from, c->sha256, ".part"), dirfd,
				    name_of(to, c->order, ".tar"));
	if (r == 0)
		r = s->os->fsync(s->os, dirfd);
	if (r < 0)
		return r;
	remove_file(s, dirfd, c->sha256, ".open");
	(void) snprintf(text, sizeof(text),
			"%s sent what it was asked for: %" PRIu64 " files of the set %s, %" PRIu64 " bytes", node,
			c->files, c->set, c->length);
	log_notice("collection-stored", "node=%s order=%s set=%s files=%" PRIu64 " bytes=%" PRIu64, node, c->order,
		   c->set, c->files, c->length);
	return db_event_add(s->db, &(struct db_event){
					   .at = serve_now(s), .kind = "collected", .node = node, .text = text });
}

static int take_last(struct serve *s, const char *node, int dirfd, int fd, const struct collection *c,
		     struct put_answer *a, struct buf *ret)
{
	char hex[SHA256_HEX + 1];
	int r = hash_part(s, fd, hex);

	if (r < 0)
		return r;
	if (!str_eq(hex, c->sha256)) {
		/* A part from before a power cut, or a carrier that changed a block: from the beginning. */
		log_warning("collection-damaged", "it is asked for anew: node=%s order=%s", node, c->order);
		r = s->os->ftruncate(s->os, fd, 0);
		return r < 0 ? r : answer_more(a, 0, ret);
	}
	r = keep(s, node, dirfd, fd, c);
	return r < 0 ? r : answer_done(s, node, a, ret);
}

static int write_block(struct serve *s, int fd, uint64_t offset, const struct buf *block)
{
	for (size_t done = 0; done < block->len;) {
		ssize_t n = s->os->pwrite(s->os, fd, block->data + done, block->len - done, offset + done);

		if (n <= 0)
			return n < 0 ? (int) n : -EIO;
		done += (size_t) n;
	}
	return 0;
}

static int add_block(struct serve *s, const char *node, int dirfd, const struct put *put,
		     const struct collection *c, struct put_answer *a, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf block = BUF_INIT(PUT_BLOCK_BYTES); /* its limit bounds a bomb */
	uint64_t size = 0, next;
	int fd = open_part(s, dirfd, put->sha256), r;

	if (fd < 0)
		return fd;
	r = size_of(s, dirfd, put->sha256, ".part", &size, NULL);
	next = size / PUT_BLOCK_BYTES;
	if (r == 0 && put->index != next) {
		r = answer_more(a, next, ret); /* doubled, or one before it was lost */
	} else if (r == 0) {
		if (gzip_expand(put->data, put->len, &block) < 0 ||
		    block.len != put_block_length(c->length, put->index))
			r = answer_refused(a, "a block is damaged, or not as long as it must be", ret);
		else {
			r = s->os->ftruncate(s->os, fd, put->index * PUT_BLOCK_BYTES);
			if (r == 0)
				r = write_block(s, fd, put->index * PUT_BLOCK_BYTES, &block);
			if (r == 0)
				r = put->index + 1 == put_blocks(c->length)
					    ? take_last(s, node, dirfd, fd, c, a, ret)
					    : answer_more(a, put->index + 1, ret);
		}
	}
	(void) s->os->close(s->os, fd); /* synced where it matters; else it is a hint */
	return r;
}

static int take_block(struct serve *s, const char *node, const struct put *put, struct put_answer *a,
		      struct buf *ret)
{
	struct collection c;
	int dirfd = open_folder(s, node, false), r;

	if (dirfd < 0)
		return dirfd == -ENOENT ? 0 : dirfd; /* nothing was opened: it says its statement again */
	r = read_statement(s, dirfd, put->sha256, ".open", &c);
	if (r == 0 && str_eq(c.order, put->order))
		r = add_block(s, node, dirfd, put, &c, a, ret);
	else if (is_here(s, dirfd, put->order, put->sha256))
		r = answer_done(s, node, a, ret); /* its receipt was lost */
	else
		r = 0;
	(void) s->os->close(s->os, dirfd); /* only looked up in */
	return r;
}

int collect_take(struct serve *s, const char *node, const void *data, size_t len, struct buf *ret_answer)
{
	struct put put;
	struct put_answer a = { .len = 0 };
	int r;

	if (!guard_id(node) || put_parse(data, len, &put) < 0)
		return -ERR_SYNTAX;
	memcpy(a.order, put.order, sizeof(a.order));
	memcpy(a.sha256, put.sha256, sizeof(a.sha256));
	if (!db_budget(s->db, DB_BUDGET_PUTS, node, serve_now(s))) {
		a.state = PUT_BUSY;
		return put_answer_write(&a, ret_answer);
	}
	r = put.opens ? take_statement(s, node, &put, &a, ret_answer) : take_block(s, node, &put, &a, ret_answer);
	if (r < 0) {
		ret_answer->len = 0;
		log_error("collection-failed", "what a node sent was not stored: node=%s order=%s error=%s", node,
			  put.order, err_text(r));
	}
	return r;
}

void collect_put(void *user, struct web_request *rq)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(PUT_ANSWER_MAX);
	const void *body;
	size_t len;
	int r;

	body = web_body(rq, &len);
	r = collect_take(user, web_arg(rq, 0), body, len, &text);
	if (r == -ERR_SYNTAX)
		web_fail(rq, 400, "no part of a collection");
	else if (r < 0)
		web_fail(rq, 503, "it cannot be stored now; send it again");
	else if (text.len == 0)
		web_fail(rq, 409, "its statement comes first");
	else
		web_reply(rq, 200, "application/octet-stream", text.data, text.len);
}

void collect_forget(struct serve *s, const char *node)
{
	int dirfd = dir_open(s->os, s->serve_dirfd, folder_name), r = dirfd;

	if (dirfd >= 0) {
		r = tree_remove(s->os, dirfd, node);
		(void) s->os->close(s->os, dirfd); /* only looked up in */
	}
	if (r < 0 && r != -ENOENT)
		log_warning("collections-left", "what a removed node sent is still there: node=%s error=%s", node,
			    err_text(r));
}

/* --- for people --- */

struct listing {
	struct serve *s;
	int dirfd; /* negative: nothing came yet */
	struct json_node *array;
};

/* How much of it is here, of an order that is on its way. */
static void write_arriving(struct listing *l, struct json_node *o, const char *order)
{
	struct name_list names = { 0 };
	uint64_t size = 0;

	if (l->dirfd < 0 || dir_list(l->s->os, l->dirfd, ".", &names) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		struct collection c;
		char base[NAME_BYTES];

		if (!ends_with(names.names[i], ".open"))
			continue;
		(void) snprintf(base, sizeof(base), "%.*s", SHA256_HEX, names.names[i]);
		if (read_statement(l->s, l->dirfd, base, ".open", &c) == 0 && str_eq(c.order, order) &&
		    size_of(l->s, l->dirfd, base, ".part", &size, NULL) == 0) {
			node_integer(o, "length", (int64_t) c.length);
			node_integer(o, "arrived", (int64_t) size);
		}
	}
	name_list_done(&names);
}

static int write_collection(void *user, const struct db_order *row)
{
	struct listing *l = user;
	struct json_node *o;
	struct collection c;
	char stamp[TIMESTAMP_LEN + 1];
	bool here;

	if (!str_eq(row->kind, "collect"))
		return 0;
	here = l->dirfd >= 0 && is_here(l->s, l->dirfd, row->id, NULL) &&
	       read_statement(l->s, l->dirfd, row->id, ".json", &c) == 0;
	o = node_object(l->array, NULL);
	node_string(o, "order", row->id);
	node_string(o, "set", row->component);
	node_string(o, "reason", row->reason);
	node_string(o, "by", row->by);
	timestamp_format(stamp, row->issued);
	node_string(o, "issued", stamp);
	node_string(o, "state",
		    here					  ? "here"
		    : row->withdrawn_at != 0			  ? "withdrawn"
		    : row->until && row->until <= serve_now(l->s) ? "expired"
								  : "asked");
	if (!here) {
		write_arriving(l, o, row->id);
		return 0;
	}
	timestamp_format(stamp, c.at);
	node_string(o, "collected", stamp);
	node_integer(o, "files", (int64_t) c.files);
	node_integer(o, "length", (int64_t) c.length);
	node_string(o, "sha256", c.sha256);
	return 0;
}

static const char *known_node(struct serve *s, struct web_request *rq)
{
	const char *node = id_arg(rq, 0, "node");

	return node && node_is_known(s, rq, node) ? node : NULL;
}

void collections_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct listing l = { .s = user, .dirfd = -1 };
	const char *node = known_node(user, rq);
	int r;

	if (!node)
		return;
	l.dirfd = open_folder(user, node, false);
	l.array = node_array(json_build_root(b), "collections");
	if (l.dirfd >= 0 && tidy(user, l.dirfd, NULL) < 0)
		log_warning("collections-not-tidied", "old ones stay until the next time: node=%s", node);
	r = db_orders(l.s->db, node, 0, write_collection, &l);
	if (l.dirfd >= 0)
		(void) l.s->os->close(l.s->os, l.dirfd); /* only looked up in */
	if (r < 0)
		fail_database(user, rq, r);
	else
		answer(rq, 200, b);
}

void collection_get(void *user, struct web_request *rq)
{
	struct serve *s = user;
	const char *node = known_node(s, rq), *order = node ? id_arg(rq, 1, "order") : NULL;
	char name[NAME_BYTES];
	int dirfd;

	if (!order)
		return;
	dirfd = open_folder(s, node, false);
	if (dirfd < 0 || !is_here(s, dirfd, order, NULL))
		web_fail(rq, 404, "nothing of order '%s' is here; selfright node collect %s lists what is", order,
			 node);
	else
		web_file(rq, dirfd, name_of(name, order, ".tar"));
	if (dirfd >= 0)
		(void) s->os->close(s->os, dirfd); /* the answer holds its own descriptor */
}
