#include "agent/link/puts.h"

#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "model/collection.h"
#include "pack/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TRIES = 3, PAUSE_MS = 60 * 1000 };

struct puts {
	struct puts_options o;
	bool active, connected;
	uint32_t id;
	char order[ID_MAX + 1], sha256[SHA256_HEX + 1];
	uint64_t length;
	struct buf statement;
	bool by_mqtt; /* the road it is on */
	bool avoid_first; /* the road that comes first did not go */
	bool opened; /* the statement was answered on this road */
	bool posting, wanting; /* a post, a block of the engine is waited for */
	uint64_t next, sent; /* all blocks before `next` are there; `sent` is the next to go out */
	unsigned tries;
	uint64_t again_ms; /* the statement is said again then */
	uint64_t rate; /* bytes per second; 0: no ceiling */
	uint64_t paced_ms,
		paced_bytes; /* when the last block went out, and how large it was: the next waits for it */
};

static uint64_t now_ms(const struct puts *p)
{
	return p->o.os->clock_boot_ms(p->o.os);
}

static unsigned window(const struct puts *p)
{
	return p->by_mqtt ? PUTS_WINDOW : 1;
}

static int send(struct puts *p, const struct put *put)
{
	CLEANUP(buf_done)
	struct buf message = BUF_INIT(PUT_MESSAGE_MAX);
	int r = put_write(put, &message);

	if (r == 0)
		r = p->by_mqtt ? p->o.publish(p->o.user, message.data, message.len)
			       : p->o.post(p->o.user, message.data, message.len);
	if (r == 0 && !p->by_mqtt)
		p->posting = true;
	return r;
}

static struct put head_of(const struct puts *p)
{
	struct put put = { .opens = true };

	memcpy(put.order, p->order, sizeof(put.order));
	memcpy(put.sha256, p->sha256, sizeof(put.sha256));
	return put;
}

/* The first of the configured roads that goes now; where it was tried in vain, the other. */
static bool choose_road(struct puts *p)
{
	bool mqtt = p->o.mqtt && p->connected, https = p->o.https, first = p->o.mqtt_first != p->avoid_first;

	if (!mqtt && !https)
		return false;
	p->by_mqtt = mqtt && (first || !https);
	return true;
}

/* Say what it is; the answer tells where it goes on. */
static void open_again(struct puts *p)
{
	struct put put = head_of(p);

	p->opened = p->wanting = false;
	p->again_ms = now_ms(p) + PUTS_SILENCE_MS;
	if (p->posting || !choose_road(p))
		return; /* the post under way ends by itself; without a road it is looked at again */
	put.data = p->statement.data;
	put.len = p->statement.len;
	(void) send(p, &put); /* lost: said again when the silence is over */
}

/* When the next block may go out. One that is sent again counts as well: the road is what is to be spared. */
static uint64_t paced_until_ms(const struct puts *p)
{
	return p->rate == 0 ? 0 : p->paced_ms + (p->paced_bytes * 1000 + p->rate - 1) / p->rate;
}

static bool may_send(const struct puts *p)
{
	return p->opened && !p->wanting && !p->posting && p->sent < put_blocks(p->length) &&
	       p->sent < p->next + window(p);
}

/* It waits for the ceiling and for nothing else: no answer is under way whose absence would say something. */
static bool is_pacing(const struct puts *p)
{
	return may_send(p) && p->sent == p->next && now_ms(p) < paced_until_ms(p);
}

static void pump(struct puts *p)
{
	if (!may_send(p) || now_ms(p) < paced_until_ms(p))
		return;
	p->wanting = true;
	p->again_ms = now_ms(p) + PUTS_SILENCE_MS;
	p->o.want(p->o.user, p->id, p->sent);
}

/* The road did not go: the other one, and after all of them a pause. */
static void failed(struct puts *p)
{
	p->opened = p->wanting = false;
	if (++p->tries % TRIES == 0)
		p->avoid_first = !p->avoid_first;
	p->again_ms = now_ms(p) + (p->tries < 2 * TRIES ? PUTS_BUSY_MS : PAUSE_MS);
}

int puts_begin(struct puts *p, uint32_t id, const char *order, const char *sha256, uint64_t length,
	       const void *statement, size_t len)
{
	int r;

	if (!guard_id(order) || strlen(sha256) != SHA256_HEX || length == 0 || length > COLLECTION_MAX_BYTES ||
	    len > COLLECTION_STATEMENT_MAX)
		return -ERR_PROTOCOL;
	if (p->active && str_eq(p->order, order) && str_eq(p->sha256, sha256)) {
		p->id = id;
		p->wanting = false; /* an engine that was started again knows nothing of what was wanted */
		pump(p);
		return 0;
	}
	puts_stop(p);
	buf_init(&p->statement, COLLECTION_STATEMENT_MAX);
	r = buf_add(&p->statement, statement, len);
	if (r < 0)
		return r;
	memcpy(p->order, order, strlen(order) + 1);
	memcpy(p->sha256, sha256, SHA256_HEX + 1);
	p->id = id;
	p->length = length;
	p->active = true;
	p->avoid_first = false;
	p->tries = 0;
	p->next = p->sent = 0;
	open_again(p);
	return 0;
}

void puts_set_rate(struct puts *p, uint64_t bytes_per_second)
{
	p->rate = bytes_per_second;
}

void puts_stop(struct puts *p)
{
	buf_done(&p->statement);
	p->active = p->opened = p->wanting = false;
}

void puts_block(struct puts *p, uint64_t index, const void *data, size_t len)
{
	CLEANUP(buf_done)
	struct buf packed = BUF_INIT(PUT_MESSAGE_MAX);
	struct put put = head_of(p);
	int r;

	if (!p->active || !p->wanting || index != p->sent)
		return; /* wanted of an earlier road */
	p->wanting = false;
	if (!p->opened || len != put_block_length(p->length, index))
		return; /* the statement is said again, and it goes on from there */
	r = gzip_compress(data, len, &packed);
	put.opens = false;
	put.index = index;
	put.data = packed.data;
	put.len = packed.len;
	if (r == 0)
		r = send(p, &put);
	if (r < 0) {
		failed(p);
		return;
	}
	p->sent++;
	p->paced_ms = now_ms(p);
	p->paced_bytes = packed.len;
	p->again_ms = now_ms(p) + PUTS_SILENCE_MS;
	pump(p);
}

static void take(struct puts *p, const struct put_answer *a)
{
	switch (a->state) {
	case PUT_BUSY:
		p->opened = false;
		p->again_ms = now_ms(p) + PUTS_BUSY_MS;
		return;
	case PUT_REFUSED:
		/* Not signed, so it may be a carrier's word: it is tried again for as long as the order stands. */
		if (p->opened || p->tries == 0)
			log_warning("collection-refused", "order=%s reason=%s", p->order, a->reason);
		p->opened = p->wanting = false;
		p->tries++;
		p->again_ms = now_ms(p) + PUTS_REFUSED_MS;
		return;
	case PUT_DONE:
		p->opened = p->wanting = false;
		p->again_ms = now_ms(p) + PAUSE_MS; /* unless the engine believes it and ends this */
		p->o.receipt(p->o.user, a->receipt, a->len);
		return;
	case PUT_MORE:
		break;
	}
	if (!p->opened) {
		p->opened = true;
		p->next = p->sent = a->next;
	} else if (a->next > p->next && a->next <= p->sent) {
		p->next = a->next;
	} else {
		return; /* doubled, or late: a silence follows if something is missing */
	}
	p->tries = 0;
	p->again_ms = now_ms(p) + PUTS_SILENCE_MS;
	pump(p);
}

bool puts_take(struct puts *p, const void *message, size_t len)
{
	struct put_answer a;

	if (put_answer_parse(message, len, &a) < 0)
		return false;
	if (p->active && str_eq(a.order, p->order) && str_eq(a.sha256, p->sha256))
		take(p, &a);
	return true;
}

void puts_posted(struct puts *p, int error, const void *body, size_t len)
{
	p->posting = false;
	if (!p->active)
		return;
	if (p->by_mqtt) {
		return; /* it went over to the other road meanwhile */
	}
	if (error < 0 || !puts_take(p, body, len)) {
		failed(p);
		return;
	}
	pump(p);
}

void puts_connected(struct puts *p)
{
	p->connected = true;
	if (p->active && (p->by_mqtt || !p->opened))
		open_again(p);
}

void puts_step(struct puts *p, bool connected)
{
	bool lost = p->connected && !connected && p->by_mqtt;

	p->connected = connected;
	if (!p->active)
		return;
	if (lost) {
		open_again(p);
		return;
	}
	pump(p); /* the ceiling may have been what it waited for */
	if (now_ms(p) < p->again_ms || is_pacing(p))
		return;
	if (p->opened)
		failed(p); /* nothing came for the whole silence */
	else if (++p->tries % TRIES == 0)
		p->avoid_first = !p->avoid_first;
	open_again(p);
	if (p->tries >= 2 * TRIES)
		p->again_ms = now_ms(p) + PAUSE_MS;
}

uint64_t puts_next_ms(const struct puts *p)
{
	if (!p->active)
		return UINT64_MAX;
	if (is_pacing(p))
		return paced_until_ms(p);
	/* With more under way, the next may go out before the silence is over. */
	return may_send(p) && paced_until_ms(p) < p->again_ms ? paced_until_ms(p) : p->again_ms;
}

int puts_new(const struct puts_options *o, struct puts **ret)
{
	struct puts *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->o = *o;
	*ret = p;
	return 0;
}

void puts_free(struct puts *p)
{
	if (!p)
		return;
	buf_done(&p->statement);
	free(p);
}
