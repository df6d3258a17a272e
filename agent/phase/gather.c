/*
 * gather - files that support asked for: an order `collect` names a set, local configuration says which files that is.
 *
 * It goes on beside updates, a slice a turn. What was gathered is kept in <root>/collected until the controller's signed
 * receipt, the order's end or another order; a restart goes on with it.
 */
#include "agent/link/protocol.h"
#include "agent/local/gather.h"
#include "agent/phase/node.h"
#include "agent/phase/phase.h"
#include "agent/store/space.h"
#include "base/err.h"
#include "base/log.h"
#include "json/build.h"
#include "json/json.h"
#include "model/collection.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { TELL_MS = 60 * 1000, FOLDER_MODE = 0700 };

static const char folder_name[] = "collected";

struct gather {
	char order[ID_MAX + 1], set[ID_MAX + 1];
	int dirfd;
	struct gathering *gathering; /* under way; NULL: it is whole */
	int fd; /* the tar; -1: not yet */
	struct buf statement; /* its envelope */
	struct collection what;
	uint32_t id;
	uint64_t told_ms;
	uint64_t rate; /* the ceiling that the link was told */
};

static void close_gather(struct node *n, struct gather *g)
{
	if (!g)
		return;
	gathering_free(g->gathering);
	if (g->fd >= 0)
		(void) n->os->close(n->os, g->fd); /* only read */
	if (g->dirfd >= 0)
		(void) n->os->close(n->os, g->dirfd); /* only looked up in */
	buf_done(&g->statement);
	free(g);
}

void gather_close(struct node *n)
{
	close_gather(n, n->gather);
	n->gather = NULL;
}

/* Nobody wants it any more. */
static void drop(struct node *n)
{
	if (!n->gather)
		return;
	node_link_send(n, LINK_PUT_STOP, 0, NULL, 0);
	gather_close(n);
	if (tree_remove(n->os, n->dirs->root, folder_name) < 0)
		log_warning("collected-not-removed", "the gathered files take up space until the next time");
}

/* What became of the order, which every report tells while it is listed. */
static int finish(struct node *n, const char *order, enum result number, const char *fmt, ...) PRINTF_LIKE(4, 5);
static int finish(struct node *n, const char *order, enum result number, const char *fmt, ...)
{
	struct node_order done = { .result = number, .at = n->os->clock_real(n->os) };
	char text[STATE_DETAIL_SIZE];
	va_list ap;
	int r;

	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof(text), fmt, ap); /* a longer sentence is cut */
	va_end(ap);
	STATE_SET(done.id, order); /* may be of what is dropped below */
	STATE_SET(done.detail, text);
	state_order_add(n->state, &done);
	if (number == RESULT_GOOD)
		log_notice("collected-files", "order=%s detail=\"%s\"", order, text);
	else
		log_warning("order-refused", "order=%s detail=\"%s\"", order, text);
	n->report_wanted = true;
	r = node_save(n);
	if (n->gather && str_eq(n->gather->order, done.id))
		drop(n);
	return r;
}

static int open_folder(struct node *n)
{
	int r = n->os->mkdirat(n->os, n->dirs->root, folder_name, FOLDER_MODE);

	return r < 0 && r != -EEXIST ? r : dir_open(n->os, n->dirs->root, folder_name);
}

static void name_of(const char *order, const char *suffix, char out[static ID_MAX + 8])
{
	(void) snprintf(out, ID_MAX + 8, "%s%s", order, suffix); /* ".tar" or ".json" */
}

/* What an earlier start gathered for the same order; -ENOENT: nothing, or nothing whole. */
static int take_up(struct node *n, struct gather *g)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	char name[ID_MAX + 8];
	struct stat st;
	int r;

	name_of(g->order, ".json", name);
	r = file_read(n->os, g->dirfd, name, COLLECTION_STATEMENT_MAX, &g->statement);
	if (r == 0)
		r = json_parse(g->statement.data, g->statement.len, &json_limits_default, &doc);
	if (r == 0)
		r = collection_parse(json_get(doc, "signed"), &g->what);
	if (r == 0 && (!str_eq(g->what.order, g->order) || !str_eq(g->what.set, g->set)))
		r = -ENOENT;
	if (r < 0)
		return -ENOENT;
	name_of(g->order, ".tar", name);
	g->fd = n->os->openat(n->os, g->dirfd, name, O_RDONLY, 0);
	if (g->fd >= 0 && n->os->fstat(n->os, g->fd, &st) == 0 && (uint64_t) st.st_size == g->what.length)
		return 0;
	if (g->fd >= 0)
		(void) n->os->close(n->os, g->fd); /* only looked at */
	g->fd = -1;
	return -ENOENT;
}

static int remove_all(struct node *n, int dirfd)
{
	struct name_list names = { 0 };
	int r = dir_list(n->os, dirfd, ".", &names);

	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = tree_remove(n->os, dirfd, names.names[i]);
	name_list_done(&names);
	return r;
}

/* Updates come first: what they may need is left alone, and the folder's quota holds for this too. */
static int check_space(struct node *n, int dirfd, uint64_t bytes)
{
	struct statvfs v;
	struct space used;
	int r = n->os->fstatvfs(n->os, dirfd, &v);

	if (r == 0 && n->config->quota_bytes > 0) {
		r = space_used(n->os, n->dirs->root, &used);
		if (r == 0 && used.bytes + bytes > n->config->quota_bytes)
			r = -EDQUOT;
	}
	if (r < 0)
		return r;
	return (uint64_t) v.f_bavail * v.f_frsize < bytes + SPACE_MARGIN_BYTES ? -ENOSPC : 0;
}

static int begin(struct node *n, struct gather *g, const struct config_set *set)
{
	char name[ID_MAX + 8];
	int r;

	g->dirfd = open_folder(n);
	if (g->dirfd < 0)
		return g->dirfd;
	r = take_up(n, g);
	if (r != -ENOENT)
		return r;
	buf_clear(&g->statement);
	r = remove_all(n, g->dirfd);
	if (r == 0)
		r = check_space(n, g->dirfd, set->max_bytes);
	name_of(g->order, ".tar", name);
	return r < 0 ? r : gathering_begin(n->os, set, g->dirfd, name, &g->gathering);
}

static const char *list_sets(const struct node *n, char *out, size_t size)
{
	size_t len = 0;

	(void) snprintf(out, size, "none");
	for (size_t i = 0; i < n->config->set_count && len < size; i++)
		len += (size_t) snprintf(out + len, size - len, "%s%s", i > 0 ? ", " : "",
					 n->config->sets[i].name); /* cut */
	return out;
}

static int start(struct node *n, const struct order_once *o)
{
	const struct config_set *set = config_set(n->config, o->set);
	struct gather *g;
	int r;

	g = calloc(1, sizeof(*g));
	if (!g)
		return -ENOMEM;
	g->fd = g->dirfd = -1;
	buf_init(&g->statement, COLLECTION_STATEMENT_MAX);
	(void) snprintf(g->order, sizeof(g->order), "%s", o->id);
	(void) snprintf(g->set, sizeof(g->set), "%s", o->set);
	n->gather = g;
	r = begin(n, g, set);
	if (r == -ENOENT)
		return finish(n, o->id, RESULT_ORDER_REFUSED, "no file of the set '%s' is here", o->set);
	if (r == -EDQUOT)
		return finish(n, o->id, RESULT_NO_SPACE,
			      "the set '%s' may take %" PRIu64
			      " bytes, more than the quota of this node's folder leaves",
			      o->set, set->max_bytes);
	if (r < 0)
		return finish(n, o->id, catalogue_from_error(r), "the set '%s' could not be gathered: %s", o->set,
			      err_text(r));
	return 0;
}

static int sign_statement(struct node *n, struct gather *g)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	g->what.at = n->os->clock_real(n->os);
	(void) snprintf(g->what.fleet, sizeof(g->what.fleet), "%s", n->config->fleet);
	(void) snprintf(g->what.node, sizeof(g->what.node), "%s", n->config->node);
	(void) snprintf(g->what.order, sizeof(g->what.order), "%s", g->order);
	(void) snprintf(g->what.set, sizeof(g->what.set), "%s", g->set);
	collection_write(&g->what, json_build_root(b));
	return report_sign(n, b, &g->statement);
}

/*
 * It is whole: durable before the statement names its digest, so that a start after a power cut that finds the
 * statement finds these bytes.
 */
static int complete(struct node *n, struct gather *g)
{
	char name[ID_MAX + 8];
	int r;

	gathering_result(g->gathering, &g->what.length, g->what.sha256, &g->what.files);
	r = n->os->fsync(n->os, gathering_fd(g->gathering));
	gathering_free(g->gathering);
	g->gathering = NULL;
	if (r == 0)
		r = sign_statement(n, g);
	name_of(g->order, ".json", name);
	if (r == 0)
		r = durable_write_file(n->os, g->dirfd, name, g->statement.data, g->statement.len, 0600);
	name_of(g->order, ".tar", name);
	if (r == 0) {
		g->fd = n->os->openat(n->os, g->dirfd, name, O_RDONLY, 0);
		r = g->fd < 0 ? g->fd : 0;
	}
	if (r < 0)
		return finish(n, g->order, catalogue_from_error(r), "the set '%s' could not be gathered: %s",
			      g->set, err_text(r));
	log_notice("collected", "order=%s set=%s files=%" PRIu64 " bytes=%" PRIu64, g->order, g->set,
		   g->what.files, g->what.length);
	return 0;
}

static uint64_t rate_now(const struct node *n)
{
	return config_pace_at(&n->config->upload, n->docs.zone, node_now(n));
}

static void tell_rate(struct node *n, struct gather *g)
{
	uint8_t text[8];

	g->rate = rate_now(n);
	for (int i = 0; i < 8; i++)
		text[i] = (uint8_t) (g->rate >> (56 - 8 * i));
	node_link_send(n, LINK_PUT_RATE, 0, text, sizeof(text));
}

/* Said again now and then: a link that was started meanwhile knows nothing of it. */
static void tell_link(struct node *n, struct gather *g)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(COLLECTION_STATEMENT_MAX + 256);
	uint8_t length[8];
	int r;

	for (int i = 0; i < 8; i++)
		length[i] = (uint8_t) (g->what.length >> (56 - 8 * i));
	r = buf_add(&text, length, sizeof(length));
	if (r == 0)
		r = buf_add_str(&text, g->what.sha256);
	if (r == 0)
		r = buf_add(&text, g->order, strlen(g->order) + 1);
	if (r == 0)
		r = buf_add(&text, g->statement.data, g->statement.len);
	if (r < 0)
		return; /* out of memory: said again */
	g->id = ++n->fetch_id;
	g->told_ms = node_now_ms(n);
	tell_rate(n, g); /* before there is something to send */
	node_link_send(n, LINK_PUT, g->id, text.data, text.len);
}

/* What can be said of an order at once is, whatever is under way. 1: it was. */
static int settle(struct node *n, const struct order_once *o)
{
	char sets[300];
	int r;

	if (o->expires <= node_now(n))
		r = finish(n, o->id, RESULT_ORDER_REFUSED,
			   "the order expired before its files were with the controller");
	else if (!config_set(n->config, o->set))
		r = finish(n, o->id, RESULT_ORDER_REFUSED,
			   "this node defines no set of files '%s' (collect.d); its sets: %s", o->set,
			   list_sets(n, sets, sizeof(sets)));
	else
		return 0;
	return r < 0 ? r : 1;
}

/* The one under way, else the first; NULL: there is none. */
static const struct order_once *choose_order(struct node *n)
{
	const struct order_once *first = NULL, *current = NULL;

	for (size_t i = 0; n->docs.loaded && i < n->docs.orders.collect_count; i++) {
		const struct order_once *o = &n->docs.orders.collects[i];

		if (state_order(n->state, o->id) || settle(n, o) != 0)
			continue;
		first = first ? first : o;
		if (n->gather && str_eq(o->id, n->gather->order))
			current = o;
	}
	return current ? current : first;
}

uint64_t phase_gather(struct node *n)
{
	const struct order_once *o = n->alone ? NULL : choose_order(n);
	struct gather *g;
	int r = 0;

	if (n->gather && (!o || !str_eq(o->id, n->gather->order)))
		drop(n); /* withdrawn */
	if (!o)
		return UINT64_MAX;
	if (!n->gather) {
		r = start(n, o);
		return r < 0 ? node_now_ms(n) + TELL_MS : node_now_ms(n);
	}
	g = n->gather;
	if (g->gathering) {
		r = gathering_step(g->gathering);
		if (r == 1)
			r = complete(n, g);
		else if (r < 0)
			r = finish(n, g->order, catalogue_from_error(r), "the set '%s' could not be gathered: %s",
				   g->set, err_text(r));
		return r < 0 ? node_now_ms(n) + TELL_MS : node_now_ms(n);
	}
	if (n->link && (g->told_ms == 0 || node_now_ms(n) - g->told_ms >= TELL_MS))
		tell_link(n, g);
	else if (n->link && rate_now(n) != g->rate)
		tell_rate(n, g); /* the hour is another one */
	return node_now_ms(n) + TELL_MS;
}

void gather_link_lost(struct node *n)
{
	if (n->gather)
		n->gather->told_ms = 0;
}

void gather_block(struct node *n, uint32_t id, const void *data, size_t len)
{
	struct gather *g = n->gather;
	const uint8_t *bytes = data;
	uint8_t *frame;
	uint64_t index = 0;
	size_t want;

	if (!g || g->fd < 0 || id != g->id || len != 8)
		return;
	for (int i = 0; i < 8; i++)
		index = index << 8 | bytes[i];
	if (index >= put_blocks(g->what.length))
		return;
	want = put_block_length(g->what.length, index);
	frame = malloc(8 + want);
	if (!frame)
		return; /* it is wanted again */
	memcpy(frame, bytes, 8);
	if (n->os->pread(n->os, g->fd, frame + 8, want, index * PUT_BLOCK_BYTES) == (ssize_t) want)
		node_link_send(n, LINK_PUT_BLOCK, id, frame, 8 + want);
	free(frame);
}

void gather_receipt(struct node *n, const void *bytes, size_t len)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct gather *g = n->gather;
	struct receipt receipt;
	char order[ID_MAX + 1], set[ID_MAX + 1];
	uint64_t files, length;
	int r = report_open_answer(n, bytes, len, &doc);

	if (r == 0)
		r = receipt_parse(json_get(doc, "signed"), &receipt);
	if (r < 0) {
		log_warning("receipt-refused", "a receipt was not the controller's: %s", err_text(r));
		return;
	}
	if (!g || g->gathering || !str_eq(receipt.fleet, n->config->fleet) ||
	    !str_eq(receipt.node, n->config->node) || !str_eq(receipt.order, g->order) ||
	    !str_eq(receipt.sha256, g->what.sha256))
		return; /* of another collection */
	(void) snprintf(order, sizeof(order), "%s", g->order);
	(void) snprintf(set, sizeof(set), "%s", g->set);
	files = g->what.files;
	length = g->what.length;
	(void) !finish(n, order, RESULT_GOOD,
		       "%" PRIu64 " files of the set '%s', %" PRIu64 " bytes, are with the controller", files, set,
		       length); /* said; a state that cannot be saved says so itself */
}
