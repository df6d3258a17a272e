#include "fetch/resolve.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "os/durable.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FILE_MAX = 16 * 1024, THREAD_STACK = 256 * 1024 };

/* One question. Shared by who asks and the thread that waits for the answer; the last one frees it. */
struct lookup {
	pthread_mutex_t lock;
	pthread_cond_t answered;
	unsigned holders;
	bool done;
	int error;
	char host[RESOLVE_HOST_MAX + 1];
	struct resolve_list list;
	int (*ask)(const char *host, struct resolve_list *ret);
};

struct resolver {
	const struct os *os;
	int dirfd;
	int (*ask)(const char *host, struct resolve_list *ret);
	struct lookup *pending; /* one that took too long and may still answer */
	struct resolve_kept kept;
};

/* --- the file --- */

static bool is_address(const char *text)
{
	unsigned char bytes[16];

	return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static bool is_host(const char *text)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:";
	size_t len = strlen(text);

	return len > 0 && len <= RESOLVE_HOST_MAX && strspn(text, allowed) == len;
}

static bool list_has(const struct resolve_list *list, const char *address)
{
	for (size_t i = 0; i < list->count; i++)
		if (str_eq(list->items[i], address))
			return true;
	return false;
}

static void list_add(struct resolve_list *list, const char *address)
{
	size_t len = strlen(address);

	if (list->count < RESOLVE_ADDRESSES_MAX && len < RESOLVE_ADDRESS_TEXT && !list_has(list, address))
		memcpy(list->items[list->count++], address, len + 1);
}

static void parse_line(char *line, struct resolve_kept *ret)
{
	char *rest = NULL, *word = strtok_r(line, " ", &rest);

	if (!word || !is_host(word) || ret->count >= RESOLVE_HOSTS_MAX)
		return;
	memset(&ret->hosts[ret->count], 0, sizeof(ret->hosts[0]));
	memcpy(ret->hosts[ret->count].host, word, strlen(word) + 1);
	while ((word = strtok_r(NULL, " ", &rest)))
		if (is_address(word))
			list_add(&ret->hosts[ret->count].list, word);
	if (ret->hosts[ret->count].list.count > 0)
		ret->count++;
}

void resolve_kept_parse(const char *text, struct resolve_kept *ret)
{
	char line[RESOLVE_HOST_MAX + RESOLVE_ADDRESSES_MAX * RESOLVE_ADDRESS_TEXT + 2];

	ret->count = 0;
	while (*text) {
		size_t len = strcspn(text, "\n");

		if (len < sizeof(line)) {
			memcpy(line, text, len);
			line[len] = '\0';
			parse_line(line, ret);
		}
		text += len + (text[len] == '\n');
	}
}

static const struct resolve_list *kept_for(const struct resolver *r, const char *host)
{
	for (size_t i = 0; i < r->kept.count; i++)
		if (str_eq(r->kept.hosts[i].host, host))
			return &r->kept.hosts[i].list;
	return NULL;
}

/* A cache: a failure costs a later start its fallback, nothing now. durable_write_file leaves old or new. */
static void save(const struct resolver *r)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(FILE_MAX);

	for (size_t i = 0; i < r->kept.count; i++) {
		if (buf_add_str(&text, r->kept.hosts[i].host) < 0)
			return;
		for (size_t j = 0; j < r->kept.hosts[i].list.count; j++)
			if (buf_addf(&text, " %s", r->kept.hosts[i].list.items[j]) < 0)
				return;
		if (buf_add_byte(&text, '\n') < 0)
			return;
	}
	(void) !durable_write_file(r->os, r->dirfd, "addresses", text.data, text.len, 0600);
}

void resolver_keep(struct resolver *r, const char *host, const char *address, const struct resolve_list *list)
{
	const struct resolve_list *old = kept_for(r, host);
	struct resolve_list kept = { .count = 0 };
	size_t at = r->kept.count;

	if (r->dirfd < 0 || is_address(host) || !is_host(host) || !is_address(address))
		return;
	list_add(&kept, address);
	for (size_t i = 0; i < list->count; i++)
		list_add(&kept, list->items[i]);
	if (old && old->count == kept.count && memcmp(old->items, kept.items, sizeof(kept.items)) == 0)
		return;
	for (size_t i = 0; i < r->kept.count; i++)
		if (str_eq(r->kept.hosts[i].host, host))
			at = i;
	if (at == RESOLVE_HOSTS_MAX)
		at--; /* the oldest makes room */
	else if (at == r->kept.count)
		r->kept.count++;
	memmove(&r->kept.hosts[1], &r->kept.hosts[0], at * sizeof(r->kept.hosts[0]));
	memset(&r->kept.hosts[0], 0, sizeof(r->kept.hosts[0]));
	memcpy(r->kept.hosts[0].host, host, strlen(host) + 1);
	r->kept.hosts[0].list = kept;
	save(r);
}

/* --- asking --- */

static int ask_system(const char *host, struct resolve_list *ret)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
	struct addrinfo *all = NULL;
	char text[RESOLVE_ADDRESS_TEXT];
	int e = getaddrinfo(host, NULL, &hints, &all);

	if (e != 0)
		return e == EAI_NONAME ? -ENOENT : e == EAI_MEMORY ? -ENOMEM : -ERR_NETWORK;
	for (const struct addrinfo *a = all; a; a = a->ai_next)
		if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0 &&
		    !strchr(text, '%'))
			list_add(ret, text);
	freeaddrinfo(all);
	return ret->count > 0 ? 0 : -ENOENT;
}

static void let_go(struct lookup *l)
{
	unsigned holders;

	(void) pthread_mutex_lock(&l->lock);
	holders = --l->holders;
	(void) pthread_mutex_unlock(&l->lock);
	if (holders > 0)
		return;
	(void) pthread_cond_destroy(&l->answered); /* nobody waits any more */
	(void) pthread_mutex_destroy(&l->lock);
	free(l);
}

static void *wait_for_resolver(void *user)
{
	struct lookup *l = user;
	struct resolve_list list = { .count = 0 };
	int error = l->ask(l->host, &list);

	(void) pthread_mutex_lock(&l->lock);
	l->list = list;
	l->error = error;
	l->done = true;
	(void) pthread_cond_signal(&l->answered);
	(void) pthread_mutex_unlock(&l->lock);
	let_go(l);
	return NULL;
}

static int start(struct resolver *r, const char *host, struct lookup **ret)
{
	struct lookup *l = calloc(1, sizeof(*l));
	pthread_condattr_t clock;
	pthread_attr_t attributes;
	pthread_t thread;
	int e;

	if (!l)
		return -ENOMEM;
	memcpy(l->host, host, strlen(host) + 1);
	l->ask = r->ask;
	l->holders = 2;
	(void) pthread_mutex_init(&l->lock, NULL); /* none of these can fail on Linux with these arguments */
	(void) pthread_condattr_init(&clock);
	(void) pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	(void) pthread_cond_init(&l->answered, &clock);
	(void) pthread_condattr_destroy(&clock);
	(void) pthread_attr_init(&attributes);
	(void) pthread_attr_setstacksize(&attributes, THREAD_STACK);
	(void) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	e = pthread_create(&thread, &attributes, wait_for_resolver, l);
	(void) pthread_attr_destroy(&attributes);
	if (e != 0) {
		l->holders = 1;
		let_go(l);
		return -e;
	}
	*ret = l;
	return 0;
}

static bool wait_until_done(struct lookup *l, uint64_t deadline_ms)
{
	struct timespec at;
	bool done;

	(void) clock_gettime(CLOCK_MONOTONIC, &at); /* cannot fail */
	at.tv_sec += (time_t) (deadline_ms / 1000);
	at.tv_nsec += (long) (deadline_ms % 1000) * 1000000;
	if (at.tv_nsec >= 1000000000) {
		at.tv_sec++;
		at.tv_nsec -= 1000000000;
	}
	(void) pthread_mutex_lock(&l->lock);
	while (!l->done && pthread_cond_timedwait(&l->answered, &l->lock, &at) == 0)
		;
	done = l->done;
	(void) pthread_mutex_unlock(&l->lock);
	return done;
}

/* The resolver's own answer, 0 and the list. One that hangs is asked nothing more until it answers. */
static int ask(struct resolver *r, const char *host, uint64_t deadline_ms, struct resolve_list *ret)
{
	struct lookup *l = r->pending;
	int e = 0;

	r->pending = NULL;
	if (l && !wait_until_done(l, deadline_ms)) {
		r->pending = l;
		return -ERR_DEADLINE;
	}
	if (l && (l->error < 0 || !str_eq(l->host, host))) {
		let_go(l); /* an answer that is worth nothing by now */
		l = NULL;
	}
	if (!l)
		e = start(r, host, &l);
	if (e < 0)
		return e;
	if (!wait_until_done(l, deadline_ms)) {
		r->pending = l;
		return -ERR_DEADLINE;
	}
	e = l->error;
	if (e == 0)
		*ret = l->list;
	let_go(l);
	return e;
}

int resolver_find(struct resolver *r, const char *host, uint64_t deadline_ms, struct resolve_list *ret)
{
	const struct resolve_list *kept;
	struct resolve_list list = { .count = 0 };
	int e;

	if (is_address(host)) {
		list_add(&list, host);
		list.fresh = true;
		*ret = list;
		return 0;
	}
	if (!is_host(host))
		return -ERR_NAME;
	e = ask(r, host, deadline_ms, &list);
	list.fresh = e == 0;
	list.late = e == -ERR_DEADLINE;
	kept = kept_for(r, host);
	for (size_t i = 0; kept && i < kept->count; i++)
		list_add(&list, kept->items[i]);
	if (list.count == 0)
		return e < 0 ? e : -ENOENT;
	*ret = list;
	return 0;
}

int resolver_new(const struct resolver_options *o, struct resolver **ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(FILE_MAX);
	struct resolver *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->os = o->os;
	r->dirfd = o->dirfd;
	r->ask = o->lookup ? o->lookup : ask_system;
	/* Without the file there is nothing to fall back to, which is how every node begins. */
	if (r->dirfd >= 0 && file_read(r->os, r->dirfd, "addresses", FILE_MAX, &text) == 0)
		resolve_kept_parse(buf_str(&text), &r->kept);
	*ret = r;
	return 0;
}

void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	if (r->pending)
		let_go(r->pending);
	free(r);
}
