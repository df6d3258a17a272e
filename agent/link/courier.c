#include "agent/link/courier.h"

#include "base/err.h"
#include "base/text.h"
#include "fetch/bundle.h"
#include "fetch/fetch.h"
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A file is waited for by the engine for a minute (FETCH_DEADLINE_MS); what comes later blocks the way for the others. */
enum { FILE_MS = 60 * 1000, FILE_LEAST_MS = 5 * 1000 };
enum { JOBS_MAX = 64, ANSWER_MAX = 64 * 1024, REQUEST_TIMEOUT_MS = 60 * 1000, URLS_MAX = 12, FOLDERS_MAX = 4 };

struct job {
	struct job *next;
	struct courier_result result; /* what is known of it at first: kind and id */
	char *name;
	uint64_t max;
	struct buf request;
};

struct queue {
	struct job *first, **end;
	size_t count;
};

/* An address. What it asked to be left alone with is a kind of request: reports may be too much for it where files are not. */
struct road {
	struct http *http;
	uint64_t held_until_ms[COURIER_LANES];
};

struct courier {
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows, up to the blank line */
	pthread_cond_t wake;
	struct queue jobs, done;
	bool stopping;
	struct road roads[URLS_MAX]; /* mirrors, then the origin's addresses; the lock is for what they ask */

	int fd; /* eventfd: results wait */
	size_t road_count, mirror_count;
	uint64_t hold_max_ms;
	char *folders[FOLDERS_MAX];
	size_t folder_count;
};

static void queue_init(struct queue *q)
{
	*q = (struct queue){ .end = &q->first };
}

static void queue_put(struct queue *q, struct job *job)
{
	job->next = NULL;
	*q->end = job;
	q->end = &job->next;
	q->count++;
}

static struct job *queue_take(struct queue *q)
{
	struct job *job = q->first;

	if (!job)
		return NULL;
	q->first = job->next;
	if (!q->first)
		q->end = &q->first;
	q->count--;
	return job;
}

static void job_free(struct job *job)
{
	if (!job)
		return;
	free(job->name);
	buf_done(&job->request);
	buf_done(&job->result.body);
	free(job);
}

static int get_from(struct http *road, struct job *job)
{
	struct http_fetcher fetcher;

	http_fetcher_init(&fetcher, road);
	return fetcher_get(&fetcher.fetcher, job->name, job->max, &job->result.body);
}

static int post_to(struct http *road, struct job *job)
{
	struct http_response response = { 0 };
	int r = http_request(road, "POST", job->name, "application/json", job->request.data, job->request.len,
			     REQUEST_TIMEOUT_MS, &response, &job->result.body);

	if (r < 0)
		return r;
	job->result.status = response.status;
	/* One that is out of order, or is no controller: the next may know better. */
	if (job->result.kind == COURIER_ASK)
		return response.status < 500 && response.status != 404 ? 0 : -ERR_HTTP_STATUS;
	return response.status == 200 ? 0 : -ERR_HTTP_STATUS;
}

/* targets/.../<64 hex digits>.<name>: a stale or a wrong copy shows. */
static bool is_named_by_hash(const char *name)
{
	const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;

	return str_starts(name, "targets/") && strspn(base, "0123456789abcdef") == SHA256_HEX &&
	       base[SHA256_HEX] == '.';
}

/* Opened anew each time: a stick comes and goes. */
static int look_in(const char *folder, struct job *job)
{
	CLEANUP(bundle_closep)
	struct bundle *bundle = NULL;
	int fd = open(folder, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = bundle_open(&os_posix, fd, &bundle);
	if (r < 0) {
		(void) close(fd); /* only looked at */
		return r;
	}
	return fetcher_get(bundle_fetcher(bundle), job->name, job->max, &job->result.body);
}

static void look(struct courier *c, struct job *job)
{
	int r = -ENOENT;

	for (size_t i = 0; i < c->folder_count; i++) {
		buf_clear(&job->result.body);
		r = look_in(c->folders[i], job);
		if (r == 0)
			break;
		buf_clear(&job->result.body);
		(void) !buf_addf(&job->result.body, "%s: %s", c->folders[i], err_text(r)); /* words only */
	}
	job->result.error = r;
}

static uint64_t now_ms(void)
{
	return os_posix.clock_boot_ms(&os_posix);
}

static enum courier_lane lane_of(const struct job *job)
{
	if (job->result.kind == COURIER_GET)
		return COURIER_FILES;
	return job->result.kind == COURIER_ASK ? COURIER_ASKS : COURIER_POSTS + (job->result.id & 3);
}

static uint64_t held_ms(struct courier *c, const struct road *road, enum courier_lane lane)
{
	uint64_t until, now = now_ms();

	(void) pthread_mutex_lock(&c->lock);
	until = road->held_until_ms[lane];
	(void) pthread_mutex_unlock(&c->lock);
	return until > now ? until - now : 0;
}

/* It is not asked before that, by whoever wants something: the others on the list are. */
static void hold(struct courier *c, struct road *road, enum courier_lane lane)
{
	uint64_t wait = http_retry_after_s(road->http) * 1000;

	(void) pthread_mutex_lock(&c->lock);
	road->held_until_ms[lane] = wait == 0 ? 0 : now_ms() + (wait < c->hold_max_ms ? wait : c->hold_max_ms);
	(void) pthread_mutex_unlock(&c->lock);
}

static int ask(struct courier *c, struct road *road, struct job *job, uint64_t limit_ms)
{
	enum courier_lane lane = lane_of(job);
	uint64_t held = held_ms(c, road, lane);
	int r;

	job->result.status = 0; /* of the address before */
	buf_clear(&job->result.body);
	if (held > 0) {
		(void) !buf_addf(&job->result.body,
				 "%s: it asked to be left alone (Retry-After), for %" PRIu64 " s more",
				 http_host(road->http), (held + 999) / 1000); /* words only, as below */
		return -ERR_HTTP_STATUS;
	}
	http_limit_get(road->http, limit_ms);
	r = job->result.kind == COURIER_GET ? get_from(road->http, job) : post_to(road->http, job);
	hold(c, road, lane);
	if (r < 0) {
		buf_clear(&job->result.body);
		/* Words only: without them err_text. A request whose status is the failure has left none behind. */
		if (job->result.status != 0)
			(void) !buf_addf(&job->result.body, "%s: answered %ld", http_host(road->http),
					 job->result.status);
		else
			(void) !buf_add_str(&job->result.body, http_error(road->http));
	}
	return r;
}

/* Down the list until one brings it. "Not there" is the origin's answer, of a mirror it says nothing. */
static void run(struct courier *c, struct job *job)
{
	bool may_mirror = job->result.kind == COURIER_GET && is_named_by_hash(job->name);
	const uint64_t end = now_ms() + FILE_MS;
	int r = -ERR_NETWORK;

	for (size_t i = may_mirror ? 0 : c->mirror_count; i < c->road_count; i++) {
		/* Each has its share of what is left: the first that drips leaves the others theirs. */
		uint64_t now = now_ms(), share = now < end ? (end - now) / (c->road_count - i) : 0;

		r = ask(c, &c->roads[i], job, share > FILE_LEAST_MS ? share : FILE_LEAST_MS);
		if (r == 0 || ((r == -ENOENT || r == -ERR_TOO_LARGE) && i >= c->mirror_count))
			break;
	}
	job->result.error = r;
}

static void *work(void *user)
{
	struct courier *c = user;
	const uint64_t one = 1;

	for (;;) {
		struct job *job;

		(void) pthread_mutex_lock(&c->lock);
		while (!c->jobs.first && !c->stopping)
			(void) pthread_cond_wait(&c->wake, &c->lock);
		job = c->stopping ? NULL : queue_take(&c->jobs);
		(void) pthread_mutex_unlock(&c->lock);
		if (!job)
			return NULL;
		if (job->result.kind == COURIER_LOOK)
			look(c, job);
		else
			run(c, job);
		(void) pthread_mutex_lock(&c->lock);
		queue_put(&c->done, job);
		(void) pthread_mutex_unlock(&c->lock);
		(void) !write(c->fd, &one, sizeof(one)); /* an eventfd refuses only at 2^64 - 1 */
	}
}

static int open_road(struct courier *c, const struct courier_options *o, const char *url)
{
	const struct http_options options = {
		.base_url = url,
		.ca_pem = o->ca_pem,
		.clock = o->clock,
		.user_agent = o->user_agent,
		.redirect_hosts = o->redirect_hosts,
		.redirect_host_count = o->redirect_host_count,
	};
	int r = c->road_count < URLS_MAX ? http_open(&options, &c->roads[c->road_count].http) : 0;

	if (r == 0 && c->road_count < URLS_MAX)
		c->road_count++;
	return r;
}

static int open_roads(struct courier *c, const struct courier_options *o)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->mirror_count; i++)
		r = open_road(c, o, o->mirrors[i]);
	c->mirror_count = c->road_count;
	for (size_t i = 0; r == 0 && i < o->url_count; i++)
		r = open_road(c, o, o->urls[i]);
	for (size_t i = 0; r == 0 && i < o->folder_count && i < FOLDERS_MAX; i++) {
		c->folders[i] = strdup(o->folders[i]);
		r = c->folders[i] ? 0 : -ENOMEM;
		c->folder_count += r == 0;
	}
	return r;
}

static void destroy(struct courier *c)
{
	struct job *job;

	while ((job = queue_take(&c->jobs)))
		job_free(job);
	while ((job = queue_take(&c->done)))
		job_free(job);
	for (size_t i = 0; i < c->road_count; i++)
		http_close(c->roads[i].http);
	for (size_t i = 0; i < c->folder_count; i++)
		free(c->folders[i]);
	if (c->fd >= 0)
		(void) close(c->fd); /* nothing was written that could be lost */
	(void) pthread_cond_destroy(&c->wake);
	(void) pthread_mutex_destroy(&c->lock);
	free(c);
}

int courier_start(const struct courier_options *o, struct courier **ret)
{
	struct courier *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	queue_init(&c->jobs);
	queue_init(&c->done);
	c->hold_max_ms = o->hold_max_ms;
	(void) pthread_mutex_init(&c->lock, NULL); /* neither can fail on Linux */
	(void) pthread_cond_init(&c->wake, NULL);
	c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = c->fd < 0 ? -errno : open_roads(c, o);
	if (r == 0)
		r = -pthread_create(&c->thread, NULL, work, c);
	if (r < 0) {
		destroy(c);
		return r;
	}
	*ret = c;
	return 0;
}

void courier_stop(struct courier *c)
{
	if (!c)
		return;
	(void) pthread_mutex_lock(&c->lock);
	c->stopping = true;
	(void) pthread_cond_signal(&c->wake);
	(void) pthread_mutex_unlock(&c->lock);
	(void) pthread_join(c->thread, NULL); /* it is ours and joinable */
	destroy(c);
}

int courier_fd(const struct courier *c)
{
	return c->fd;
}

uint64_t courier_held_ms(struct courier *c, enum courier_lane lane)
{
	uint64_t least = UINT64_MAX;

	for (size_t i = c->mirror_count; i < c->road_count; i++) {
		uint64_t held = held_ms(c, &c->roads[i], lane);

		least = held < least ? held : least;
	}
	return least == UINT64_MAX ? 0 : least;
}

void courier_ask_again(struct courier *c)
{
	(void) pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < c->road_count; i++)
		memset(c->roads[i].held_until_ms, 0, sizeof(c->roads[i].held_until_ms));
	(void) pthread_mutex_unlock(&c->lock);
}

static int enqueue(struct courier *c, struct job *job)
{
	bool full;

	(void) pthread_mutex_lock(&c->lock);
	full = c->jobs.count >= JOBS_MAX;
	if (!full) {
		queue_put(&c->jobs, job);
		(void) pthread_cond_signal(&c->wake);
	}
	(void) pthread_mutex_unlock(&c->lock);
	if (full) {
		job_free(job);
		return -ENOBUFS;
	}
	return 0;
}

static struct job *job_new(enum courier_kind kind, uint32_t id, const char *name, uint64_t answer_max)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->result.kind = kind;
	job->result.id = id;
	job->max = answer_max;
	buf_init(&job->result.body,
		 answer_max > 4096 ? (size_t) answer_max : 4096); /* room for a reason in words */
	job->name = strdup(name);
	if (!job->name) {
		job_free(job);
		return NULL;
	}
	return job;
}

int courier_get(struct courier *c, uint32_t id, const char *name, uint64_t max)
{
	struct job *job = job_new(COURIER_GET, id, name, max);

	return job ? enqueue(c, job) : -ENOMEM;
}

int courier_look(struct courier *c, uint32_t id, const char *name, uint64_t max)
{
	struct job *job = job_new(COURIER_LOOK, id, name, max);

	return job ? enqueue(c, job) : -ENOMEM;
}

static int post(struct courier *c, enum courier_kind kind, uint32_t id, const char *path, const void *body,
		size_t len)
{
	struct job *job = job_new(kind, id, path, ANSWER_MAX);
	int r;

	if (!job)
		return -ENOMEM;
	buf_init(&job->request, len);
	r = buf_add(&job->request, body, len);
	if (r < 0) {
		job_free(job);
		return r;
	}
	return enqueue(c, job);
}

int courier_post(struct courier *c, uint32_t id, const char *path, const void *body, size_t len)
{
	return post(c, COURIER_POST, id, path, body, len);
}

int courier_ask(struct courier *c, uint32_t id, const char *path, const void *body, size_t len)
{
	return post(c, COURIER_ASK, id, path, body, len);
}

int courier_next(struct courier *c, struct courier_result *ret)
{
	struct job *job;
	uint64_t count;

	(void) pthread_mutex_lock(&c->lock);
	job = queue_take(&c->done);
	if (!job)
		(void) !read(c->fd, &count, sizeof(count)); /* empty now: readable again with the next result */
	(void) pthread_mutex_unlock(&c->lock);
	if (!job)
		return 0;
	*ret = job->result;
	buf_init(&job->result.body, 0); /* the body is the caller's */
	job_free(job);
	return 1;
}
