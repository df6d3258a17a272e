#include "agent/link/blobs.h"

#include "base/err.h"
#include "base/text.h"
#include "model/blob.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	FIRST_WINDOW = 2,
	QUICK_MS = 1000, /* a window that takes less grows */
	SLOW_MS = 3000, /* one that takes more shrinks */
	BUSY_MS = 5000,
	OFFLINE_MS = 10 * 60 * 1000, /* how long an artifact waits for a connection */
	MEMORY_OFFLINE_MS = 30 * 1000, /* the engine waits for a minute */
};

struct transfer {
	bool active, saving, looking;
	uint32_t id;
	char key[BLOB_ID_HEX + 1], name[BLOB_NAME_MAX + 1];
	uint64_t length; /* of the file; in memory: known with the first block */
	bool length_known;
	uint64_t max;
	uint64_t base; /* all blocks before it are here */
	uint16_t got; /* bit n: block base + n is here too */
	uint16_t asked; /* bit n: it is part of the request under way */
	unsigned window, tries;
	uint64_t begun_ms, asked_ms, again_ms, offline_ms; /* 0: connected */
	uint64_t pause_ms; /* nothing is asked for before it, for the ceiling's sake; 0: no pause */
	struct buf body;
	int fd;
	char map_name[SHA256_HEX + 8];
};

struct blobs {
	struct blobs_options o;
	struct transfer memory, file, look;
	uint64_t rate; /* of the file, bytes per second; 0: no ceiling */
};

static uint64_t now_ms(const struct blobs *b)
{
	return b->o.os->clock_boot_ms(b->o.os);
}

static uint64_t blocks_of(uint64_t length)
{
	return length == 0 ? 1 : (length + BLOB_BLOCK_BYTES - 1) / BLOB_BLOCK_BYTES;
}

/* --- the file of an artifact --- */

/* A hint: a wrong one costs a download, since whoever wanted the file looks at every byte. Not synced for that reason. */
static void save_map(struct blobs *b, const struct transfer *t)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%" PRIu64 "\n", t->base);
	int dirfd = dir_open(b->o.os, b->o.dirfd, "blobs"), fd;

	if (dirfd < 0)
		return;
	fd = b->o.os->openat(b->o.os, dirfd, t->map_name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd >= 0) {
		(void) !file_write_all(b->o.os, fd, text, (size_t) n);
		(void) b->o.os->close(b->o.os, fd);
	}
	(void) b->o.os->close(b->o.os, dirfd); /* only looked up in */
}

static uint64_t load_map(struct blobs *b, int dirfd, const struct transfer *t)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(32);
	uint64_t base = 0;
	struct stat st;

	if (file_read(b->o.os, dirfd, t->map_name, text.max, &text) < 0)
		return 0;
	if (text.len > 0)
		text.data[strcspn(buf_str(&text), "\n")] = '\0';
	if (parse_u64(buf_str(&text), &base) < 0 || b->o.os->fstat(b->o.os, t->fd, &st) < 0 ||
	    (uint64_t) st.st_size < base * BLOB_BLOCK_BYTES || base >= blocks_of(t->length))
		return 0;
	return base;
}

static int remove_others(struct blobs *b, int dirfd, const char *hex)
{
	struct name_list names = { 0 };
	int r = dir_list(b->o.os, dirfd, ".", &names);

	for (size_t i = 0; r == 0 && i < names.count; i++)
		if (strncmp(names.names[i], hex, SHA256_HEX) != 0)
			r = tree_remove(b->o.os, dirfd, names.names[i]);
	name_list_done(&names);
	return r;
}

static int open_file(struct blobs *b, struct transfer *t, const char *hex)
{
	char part[SHA256_HEX + 8];
	int dirfd, r = b->o.os->mkdirat(b->o.os, b->o.dirfd, "blobs", 0700);

	if (r < 0 && r != -EEXIST)
		return r;
	dirfd = dir_open(b->o.os, b->o.dirfd, "blobs");
	if (dirfd < 0)
		return dirfd;
	(void) snprintf(part, sizeof(part), "%.64s.part", hex);
	(void) snprintf(t->map_name, sizeof(t->map_name), "%.64s.map", hex);
	r = remove_others(b, dirfd, hex);
	if (r == 0) {
		t->fd = b->o.os->openat(b->o.os, dirfd, part, O_RDWR | O_CREAT, 0600);
		r = t->fd < 0 ? t->fd : 0;
	}
	if (r == 0)
		t->base = load_map(b, dirfd, t);
	(void) b->o.os->close(b->o.os, dirfd); /* only looked up in */
	return r;
}

/* --- a transfer --- */

static void close_transfer(struct blobs *b, struct transfer *t)
{
	if (t->fd >= 0)
		(void) b->o.os->close(b->o.os, t->fd); /* what was not written shows in the digest */
	buf_done(&t->body);
	*t = (struct transfer){ .fd = -1 };
}

static void end(struct blobs *b, struct transfer *t, int error)
{
	struct transfer ended = *t;

	t->fd = -1;
	buf_init(&t->body, 0);
	close_transfer(b, t); /* first: the callback may begin the next */
	if (ended.looking)
		b->o.looked(b->o.user, ended.id, error, now_ms(b) - ended.begun_ms);
	else if (ended.saving)
		b->o.saved(b->o.user, ended.id, true, error, error == 0 ? ended.length : 0);
	else
		b->o.fetched(b->o.user, ended.id, error, ended.body.data, error == 0 ? ended.body.len : 0);
	close_transfer(b, &ended);
}

/* The blocks of the window that are not here yet; before the length is known, one. */
static uint16_t missing(const struct transfer *t)
{
	uint16_t wanted = 0;

	if (!t->length_known)
		return 1;
	for (unsigned i = 0; i < t->window && t->base + i < blocks_of(t->length); i++)
		if (!(t->got & 1u << i))
			wanted = (uint16_t) (wanted | 1u << i);
	return wanted;
}

static void ask(struct blobs *b, struct transfer *t)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(BLOB_REQUEST_MAX);
	struct blob_request q = { .first = t->base, .wanted = missing(t) };

	t->asked = q.wanted;
	memcpy(q.id, t->key, sizeof(q.id));
	memcpy(q.name, t->name, sizeof(q.name));
	t->pause_ms = 0;
	t->asked_ms = now_ms(b);
	t->again_ms = t->asked_ms + BLOBS_SILENCE_MS;
	if (blob_request_write(&q, &text) == 0)
		(void) b->o.ask(b->o.user, text.data, text.len); /* lost: asked again when the silence is over */
}

static int begin(struct blobs *b, struct transfer *t, uint32_t id, const char *name)
{
	uint8_t key[BLOB_ID_HEX / 2];
	int r = b->o.os->random(b->o.os, key, sizeof(key));

	if (r < 0)
		return r;
	if (strlen(name) > BLOB_NAME_MAX)
		return -ERR_NAME;
	hex_encode(t->key, key, sizeof(key));
	memcpy(t->name, name, strlen(name) + 1);
	t->id = id;
	t->begun_ms = now_ms(b);
	t->active = true;
	t->window = FIRST_WINDOW;
	return 0;
}

int blobs_fetch(struct blobs *b, uint32_t id, const char *name, uint64_t max)
{
	struct transfer *t = &b->memory;
	int r;

	close_transfer(b, t);
	r = begin(b, t, id, name);
	if (r < 0)
		return r;
	t->max = max;
	ask(b, t);
	return 0;
}

int blobs_look(struct blobs *b, uint32_t id, const char *name)
{
	struct transfer *t = &b->look;
	int r;

	close_transfer(b, t);
	r = begin(b, t, id, name);
	if (r < 0)
		return r;
	t->looking = true;
	ask(b, t);
	return 0;
}

static const char *hex_of(const char *name)
{
	const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
	uint8_t digest[SHA256_BYTES];
	char hex[SHA256_HEX + 1];

	if (strlen(base) <= SHA256_HEX || base[SHA256_HEX] != '.')
		return NULL;
	(void) snprintf(hex, sizeof(hex), "%.64s", base); /* exactly 64 */
	return hex_decode(digest, sizeof(digest), hex, false) == 0 ? base : NULL;
}

int blobs_save(struct blobs *b, uint32_t id, const char *name, uint64_t length)
{
	struct transfer *t = &b->file;
	const char *hex = hex_of(name);
	int r;

	if (!hex)
		return -ERR_NAME;
	blobs_stop(b);
	r = begin(b, t, id, name);
	if (r < 0)
		return r;
	t->saving = true;
	t->max = t->length = length;
	t->length_known = true;
	r = open_file(b, t, hex);
	if (r < 0) {
		close_transfer(b, t);
		return r;
	}
	ask(b, t);
	return 0;
}

void blobs_stop(struct blobs *b)
{
	close_transfer(b, &b->file);
}

void blobs_set_rate(struct blobs *b, uint64_t bytes_per_second)
{
	struct transfer *t = &b->file;
	uint64_t wait = bytes_per_second > 0 ? (uint64_t) BLOB_BLOCK_BYTES * 1000 / bytes_per_second : 0;

	/* A pause that a slower pace made is not waited out at the faster one. */
	if (t->active && t->pause_ms != 0 && now_ms(b) + wait < t->pause_ms)
		t->pause_ms = now_ms(b) + wait;
	b->rate = bytes_per_second;
}

/* --- blocks --- */

static int take_length(struct transfer *t, uint64_t length)
{
	if (t->length_known)
		return length == t->length ? 0 : -ERR_LENGTH;
	if (length > t->max)
		return -ERR_TOO_LARGE;
	t->length = length;
	t->length_known = true;
	buf_init(&t->body, (size_t) length);
	if (length > 0) {
		int r = buf_reserve(&t->body, (size_t) length);

		if (r < 0)
			return r;
		memset(t->body.data, 0, (size_t) length + 1); /* blocks come in any order */
		t->body.len = (size_t) length;
	}
	return 0;
}

static int store(struct blobs *b, struct transfer *t, const struct blob_block *block)
{
	uint64_t offset = block->index * BLOB_BLOCK_BYTES;

	if (!t->saving) {
		if (block->len > 0)
			memcpy(t->body.data + offset, block->data, block->len);
		return 0;
	}
	for (size_t done = 0; done < block->len;) {
		ssize_t n = b->o.os->pwrite(b->o.os, t->fd, block->data + done, block->len - done, offset + done);

		if (n <= 0)
			return n < 0 ? (int) n : -EIO;
		done += (size_t) n;
	}
	return 0;
}

static uint64_t bytes_here(const struct transfer *t)
{
	uint64_t bytes = t->base * BLOB_BLOCK_BYTES;

	return bytes < t->length ? bytes : t->length;
}

static void slide(struct transfer *t)
{
	while (t->got & 1) {
		t->got = (uint16_t) (t->got >> 1);
		t->base++;
	}
}

/* What was asked for is here: the next window, as large as this one's time allows. */
static void advance(struct blobs *b, struct transfer *t)
{
	uint64_t took = now_ms(b) - t->asked_ms, came = (uint64_t) __builtin_popcount(t->asked) * BLOB_BLOCK_BYTES;

	slide(t);
	if (t->base >= blocks_of(t->length)) {
		end(b, t, 0);
		return;
	}
	if (took < QUICK_MS)
		t->window = t->window * 2 > BLOB_WINDOW ? BLOB_WINDOW : t->window * 2;
	else if (took > SLOW_MS && t->window > 1)
		t->window /= 2;
	if (t->saving) {
		save_map(b, t);
		b->o.saved(b->o.user, t->id, false, 0, bytes_here(t));
	}
	if (t->saving && b->rate > 0) {
		/* About a second's worth at a time, so that the ceiling is one and no burst. */
		uint64_t fits = b->rate / BLOB_BLOCK_BYTES;

		if (t->window > fits)
			t->window = fits > 0 ? (unsigned) fits : 1;
		t->pause_ms = t->asked_ms + came * 1000 / b->rate;
		if (t->pause_ms > now_ms(b))
			return;
	}
	ask(b, t);
}

static void take_block(struct blobs *b, struct transfer *t, const struct blob_block *block)
{
	uint64_t place = block->index - t->base;
	int r;

	if (block->status == BLOB_BUSY) {
		t->again_ms = now_ms(b) + BUSY_MS;
		return;
	}
	if (block->status == BLOB_NOT_FOUND) {
		end(b, t, -ENOENT);
		return;
	}
	if (t->looking) {
		if (block->index == 0)
			end(b, t, block->len > 0 ? 0 : -ERR_LENGTH);
		return;
	}
	r = take_length(t, block->length);
	if (r < 0) {
		end(b, t, r);
		return;
	}
	if (block->index < t->base || place >= BLOB_WINDOW || t->got & 1u << place)
		return; /* doubled, late, or never asked for */
	r = store(b, t, block);
	if (r < 0) {
		end(b, t, r);
		return;
	}
	t->got = (uint16_t) (t->got | 1u << place);
	t->tries = 0;
	t->again_ms = now_ms(b) + BLOBS_SILENCE_MS;
	if ((t->asked & ~t->got) == 0)
		advance(b, t);
}

void blobs_take(struct blobs *b, const void *message, size_t len)
{
	struct blob_block block;

	if (blob_block_parse(message, len, &block) < 0)
		return; /* as good as lost */
	if (b->memory.active && str_eq(block.id, b->memory.key))
		take_block(b, &b->memory, &block);
	else if (b->file.active && str_eq(block.id, b->file.key))
		take_block(b, &b->file, &block);
	else if (b->look.active && str_eq(block.id, b->look.key))
		take_block(b, &b->look, &block);
}

/* --- time --- */

void blobs_connected(struct blobs *b)
{
	struct transfer *all[] = { &b->memory, &b->file };

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (!all[i]->active)
			continue;
		all[i]->offline_ms = 0;
		slide(all[i]);
		ask(b, all[i]);
	}
}

static void step(struct blobs *b, struct transfer *t, bool connected)
{
	uint64_t now = now_ms(b), patience = t->saving ? OFFLINE_MS : MEMORY_OFFLINE_MS;

	if (!t->active)
		return;
	if (t->looking && (!connected || now - t->begun_ms >= BLOBS_LOOK_MS)) {
		end(b, t, connected ? -ERR_DEADLINE : -ERR_NETWORK);
		return;
	}
	if (!connected) {
		if (t->offline_ms == 0)
			t->offline_ms = now;
		if (now - t->offline_ms >= patience)
			end(b, t, -ERR_NETWORK);
		return;
	}
	t->offline_ms = 0;
	if (t->pause_ms != 0) {
		if (now >= t->pause_ms)
			ask(b, t);
		return;
	}
	if (now < t->again_ms)
		return;
	if (++t->tries >= BLOBS_TRIES) {
		end(b, t, -ERR_DEADLINE);
		return;
	}
	t->window = 1; /* whatever was lost, it was too much */
	slide(t);
	ask(b, t);
}

void blobs_step(struct blobs *b, bool connected)
{
	step(b, &b->memory, connected);
	step(b, &b->file, connected);
	step(b, &b->look, connected);
}

static uint64_t next_of(const struct transfer *t)
{
	uint64_t end = t->begun_ms + BLOBS_LOOK_MS;

	if (!t->active)
		return UINT64_MAX;
	if (t->looking)
		return t->again_ms < end ? t->again_ms : end;
	if (t->offline_ms)
		return t->offline_ms + (t->saving ? OFFLINE_MS : MEMORY_OFFLINE_MS);
	return t->pause_ms ? t->pause_ms : t->again_ms;
}

uint64_t blobs_next_ms(const struct blobs *b)
{
	uint64_t memory = next_of(&b->memory), file = next_of(&b->file), look = next_of(&b->look);
	uint64_t first = memory < file ? memory : file;

	return first < look ? first : look;
}

int blobs_new(const struct blobs_options *o, struct blobs **ret)
{
	struct blobs *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->o = *o;
	b->memory.fd = b->file.fd = b->look.fd = -1;
	*ret = b;
	return 0;
}

void blobs_free(struct blobs *b)
{
	if (!b)
		return;
	close_transfer(b, &b->memory);
	close_transfer(b, &b->file);
	close_transfer(b, &b->look);
	free(b);
}
