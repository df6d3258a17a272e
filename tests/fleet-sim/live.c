#include "tests/fleet-sim/live.h"

#include "base/err.h"
#include "base/text.h"
#include "crypto/digest.h"
#include "json/json.h"
#include "model/catalogue.h"
#include "model/decide.h"
#include "mqtt/mqtt.h"
#include "os/os.h"
#include "os/process.h"
#include "pack/pack.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/rollout/plan.h"
#include "tests/fleet-sim/voice.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	CONNECTIONS_MAX = 512,
	INFLATED_MAX = 1024 * 1024,
	TICK_MS = 20,
	STAGING_MS = 500, /* at most; a node's own moment in it by its number */
	PROBATION_MS = 1000,
	CANARIES = 10,
	DOCUMENTS_MAX = 64,
};

enum phase { PHASE_IDLE, PHASE_STAGING, PHASE_PROBATION };

struct vnode {
	struct voice voice;
	struct labels labels;
	const char *version;
	enum phase phase;
	uint64_t due_ms;
	uint64_t acknowledged; /* sequence */
	uint64_t good_sequence; /* of the report that told of 1.1.0; 0: not yet */
	const struct rollout *target;
	const char *stage;
};

struct live;

struct connection {
	struct live *live;
	struct mqtt *mqtt;
	size_t number;
	bool connected;
	uint64_t halted_ms; /* when it heard of the halt */
};

struct live {
	const struct live_options *o;
	struct live_result *result;
	struct vnode *nodes;
	struct connection *connections;
	struct rollout documents[DOCUMENTS_MAX]; /* newest last; the old stay for those who go by them */
	size_t document_count;
	uint8_t heard[DOCUMENTS_MAX][SHA256_BYTES]; /* announcements */
	size_t heard_count;
	size_t connected, acknowledged, good;
	uint64_t announced_ms; /* the rollout, first */
	uint64_t opened_ms; /* its second stage */
	uint64_t last_good_ms;
	size_t moving; /* how many nodes may go: the first so many stay out of 1.2.0 altogether */
	int error;
};

static uint64_t now_ms(void)
{
	return os_posix.clock_boot_ms(&os_posix);
}

/* --- processes --- */

/* Clock ticks of processor, and resident kB. */
static bool look_at(int pid, double *ret_cpu_s, uint64_t *ret_kb)
{
	char path[64], text[1024], *p;
	unsigned long long user, kernel;
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return false;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	p = strrchr(text, ')');
	if (!p || sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &kernel) != 2)
		return false;
	*ret_cpu_s = (double) (user + kernel) / (double) sysconf(_SC_CLK_TCK);
	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	f = fopen(path, "r");
	if (!f)
		return false;
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	if (sscanf(text, "%*u %llu", &user) != 1)
		return false;
	*ret_kb = user * (unsigned long long) sysconf(_SC_PAGESIZE) / 1024;
	return true;
}

/* The controller's own number, as it noted it; 0: none. */
static int controller_pid(const struct live_options *o)
{
	char path[PATH_MAX], text[4096];
	CLEANUP(json_freep)
	struct json *doc = NULL;
	int64_t pid = 0;
	FILE *f;
	size_t n;

	if (snprintf(path, sizeof(path), "%s/serve/serve.json", o->dir) >= (int) sizeof(path))
		return 0;
	f = fopen(path, "r");
	if (!f)
		return 0;
	n = fread(text, 1, sizeof(text), f);
	fclose(f);
	if (json_parse(text, n, &json_limits_default, &doc) < 0 || !json_integer(json_get(doc, "pid"), &pid))
		return 0;
	return (int) pid;
}

static int child_of(int parent)
{
	DIR *proc = opendir("/proc");
	struct dirent *e;
	int found = 0;

	while (proc && !found && (e = readdir(proc))) {
		char path[300], text[512], *p;
		int of = 0;
		FILE *f;
		size_t n;

		if (e->d_name[0] < '0' || e->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", e->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		n = fread(text, 1, sizeof(text) - 1, f);
		fclose(f);
		text[n] = '\0';
		p = strrchr(text, ')');
		if (p && sscanf(p + 2, "%*c %d", &of) == 1 && of == parent)
			found = atoi(e->d_name);
	}
	if (proc)
		closedir(proc);
	return found;
}

struct usage {
	int pids[LIVE_PROCESSES];
	double cpu_s[LIVE_PROCESSES];
	uint64_t since_ms;
};

static void usage_begin(const struct live *l, struct usage *u)
{
	uint64_t kb;

	u->pids[0] = controller_pid(l->o);
	u->pids[1] = child_of(u->pids[0]);
	u->pids[2] = l->o->broker_pid;
	u->since_ms = now_ms();
	for (size_t i = 0; i < LIVE_PROCESSES; i++)
		if (!look_at(u->pids[i], &u->cpu_s[i], &kb))
			u->cpu_s[i] = 0;
}

static void usage_end(const struct usage *u, double *ret_cpu, uint64_t *ret_kb)
{
	double seconds = (double) (now_ms() - u->since_ms) / 1000, cpu;

	for (size_t i = 0; i < LIVE_PROCESSES; i++)
		if (look_at(u->pids[i], &cpu, &ret_kb[i]) && seconds > 0)
			ret_cpu[i] = (cpu - u->cpu_s[i]) / seconds;
}

/* --- the nodes --- */

static struct connection *connection_of(struct live *l, size_t i)
{
	return &l->connections[i % l->o->connections];
}

static void send_report(struct live *l, size_t i, const struct voice_words *w, const struct buf *ready)
{
	CLEANUP(buf_done)
	struct buf envelope = BUF_INIT(REPORT_MAX_BYTES);
	struct vnode *n = &l->nodes[i];
	char topic[256];
	int r = ready ? 0 : voice_report(&n->voice, l->o->fleet, w, &envelope);

	snprintf(topic, sizeof(topic), "selfright/v1/%s/node/%s/report", l->o->fleet, n->voice.node);
	if (!ready)
		ready = &envelope;
	if (r == 0)
		r = mqtt_publish(connection_of(l, i)->mqtt, topic, ready->data, ready->len, 1, true);
	if (r < 0 && l->error == 0)
		l->error = r;
}

static struct voice_words words_of(const struct live *l, const struct vnode *n, char update[static 200])
{
	struct voice_words w = { .version = n->version,
				 .at = os_posix.clock_real(&os_posix),
				 .why = "up-to-date" };

	if (!n->target)
		return w;
	snprintf(update, 200, "%s/%s/1", n->target->id, l->o->component);
	w.rollout = n->target->id;
	w.stage = n->stage;
	w.seq = n->target->seq;
	w.update = update;
	w.from = "1.0.0";
	return w;
}

static const struct rollout *newest(const struct live *l, const char *version)
{
	for (size_t i = l->document_count; i > 0; i--)
		if (strcmp(l->documents[i - 1].release.version, version) == 0)
			return &l->documents[i - 1];
	return NULL;
}

/* What the real decide() says to the newest documents. */
static void node_decides(struct live *l, size_t i)
{
	static const struct rollout_index no_freezes;
	struct vnode *n = &l->nodes[i];
	struct rollout_facts facts[2];
	const struct local_facts local = {
		.node = n->voice.node, .labels = &n->labels, .now = os_posix.clock_real(&os_posix), .fresh = true
	};
	const struct component_facts component = { .component = l->o->component, .version = n->version };
	const struct rollout *documents[2] = { newest(l, "1.1.0"), newest(l, "1.2.0") };
	struct decision d;
	size_t count = 0;

	for (size_t k = 0; k < ARRAY_LEN(documents); k++) {
		if (!documents[k])
			continue;
		facts[count] = (struct rollout_facts){
			.rollout = documents[k], .in_window = true, .spread_passed = true, .notice_passed = true
		};
		if (plan_share(documents[k]->id, n->voice.node, &facts[count].share) < 0)
			return;
		for (size_t j = 0; j < documents[k]->stage_count; j++)
			facts[count].approved[j] = true;
		count++;
	}
	if (n->phase != PHASE_IDLE)
		return;
	d = decide(&local, &component, facts, count, &no_freezes, NULL);
	if (d.kind != DECIDE_TARGET || strcmp(d.version, "1.1.0") != 0)
		return; /* 1.2.0 is there to be halted, not to be taken */
	n->target = d.rollout;
	n->stage = d.stage->name;
	n->phase = PHASE_STAGING;
	n->due_ms = now_ms() + i * STAGING_MS / l->o->nodes;
}

static void node_goes_on(struct live *l, size_t i)
{
	struct vnode *n = &l->nodes[i];
	char update[200];
	struct voice_words w = words_of(l, n, update);

	if (n->phase == PHASE_STAGING) {
		w.to = "1.1.0";
		w.state = "probation";
		w.result = 0;
		n->phase = PHASE_PROBATION;
		n->due_ms = now_ms() + PROBATION_MS;
	} else {
		n->version = w.version = "1.1.0";
		w.previous = "1.0.0";
		w.result = RESULT_GOOD;
		n->phase = PHASE_IDLE;
		n->good_sequence = n->voice.sequence + 1;
	}
	send_report(l, i, &w, NULL);
}

static void nodes_go_on(struct live *l)
{
	uint64_t now = now_ms();

	for (size_t i = 0; i < l->o->nodes; i++)
		if (l->nodes[i].phase != PHASE_IDLE && l->nodes[i].due_ms <= now)
			node_goes_on(l, i);
}

/* --- what arrives --- */

static int take_document(struct live *l, const char *text, size_t *ret_bytes)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct rollout r;
	char *error = NULL;
	int e = json_parse(text, strlen(text), &json_limits_default, &doc);

	if (e == 0)
		e = rollout_parse(doc, &r, &error);
	free(error);
	if (e < 0)
		return e;
	*ret_bytes = strlen(text);
	if (l->document_count == DOCUMENTS_MAX) {
		rollout_done(&r);
		return -ERR_TOO_LARGE;
	}
	l->documents[l->document_count++] = r;
	return 0;
}

/* It is read once; every connection lets its own nodes decide. */
static int read_announcement(struct live *l, const void *payload, size_t len)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(INFLATED_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct json *files;
	struct live_result *ret = l->result;
	int r = gzip_expand(payload, len, &text);

	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, &doc);
	files = json_get(doc, "files");
	for (size_t i = 0; r == 0 && i < json_count(files); i++) {
		const char *name = json_name_at(files, i), *bytes = json_string(json_at(files, i));

		if (!bytes)
			continue;
		if (strstr(name, ".snapshot.json"))
			ret->snapshot_bytes = strlen(bytes);
		if (!str_starts(name, "targets/rollouts/"))
			continue;
		if (strstr(name, ".index.json"))
			ret->index_bytes = strlen(bytes);
		else
			r = take_document(l, bytes, &ret->document_bytes);
	}
	return r;
}

static void note_what_is_open(struct live *l, size_t len)
{
	const struct rollout *r = newest(l, "1.1.0");

	if (!r)
		return;
	if (!l->announced_ms)
		l->announced_ms = now_ms();
	if (!l->opened_ms && r->stage_count > 1 && r->stages[1].open) {
		l->opened_ms = now_ms();
		l->result->announcement_bytes = len;
	}
}

/* The first of all connections to hear it? They are not in step, and an old one must not become the newest. */
static bool is_news(struct live *l, const void *payload, size_t len)
{
	uint8_t digest[SHA256_BYTES];

	if (sha256_of(payload, len, digest) < 0)
		return false;
	for (size_t i = 0; i < l->heard_count && i < DOCUMENTS_MAX; i++)
		if (memcmp(l->heard[i], digest, sizeof(digest)) == 0)
			return false;
	memcpy(l->heard[l->heard_count++ % DOCUMENTS_MAX], digest, sizeof(digest));
	return true;
}

static void take_announcement(struct connection *c, const void *payload, size_t len)
{
	struct live *l = c->live;
	const struct rollout *r;

	if (is_news(l, payload, len)) {
		int e = read_announcement(l, payload, len);

		if (e < 0 && l->error == 0)
			l->error = e;
		note_what_is_open(l, len);
	}
	r = newest(l, "1.2.0");
	if (r && r->state == ROLLOUT_HALTED && !c->halted_ms)
		c->halted_ms = now_ms();
	for (size_t i = c->number; i < l->o->nodes; i += l->o->connections)
		node_decides(l, i);
}

static void take_ack(struct live *l, const char *topic, const void *payload, size_t len)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const char *name = strstr(topic, "/node/n");
	struct vnode *n;
	struct ack ack;
	size_t i;

	if (!name)
		return;
	i = (size_t) strtoul(name + strlen("/node/n"), NULL, 10);
	if (i >= l->o->nodes || json_parse(payload, len, &json_limits_default, &doc) < 0 ||
	    ack_parse(json_get(doc, "signed"), &ack) < 0)
		return;
	n = &l->nodes[i];
	if (n->acknowledged == 0)
		l->acknowledged++;
	if (n->good_sequence && n->acknowledged < n->good_sequence && ack.sequence >= n->good_sequence) {
		l->good++;
		l->last_good_ms = now_ms();
	}
	if (ack.sequence > n->acknowledged)
		n->acknowledged = ack.sequence;
}

static void on_message(void *user, const char *topic, const void *payload, size_t len, bool retained)
{
	struct connection *c = user;
	const char *last = strrchr(topic, '/');

	(void) retained;
	if (last && strcmp(last, "/announce") == 0 && len > 0)
		take_announcement(c, payload, len);
	else if (last && strcmp(last, "/ack") == 0)
		take_ack(c->live, topic, payload, len);
}

static void on_state(void *user, bool connected, const char *reason)
{
	struct connection *c = user;

	(void) reason;
	if (connected != c->connected)
		c->live->connected += connected ? 1 : (size_t) -1;
	c->connected = connected;
}

/* --- the loop --- */

static bool all_connected(const struct live *l)
{
	return l->connected == l->o->connections;
}

static bool all_acknowledged(const struct live *l)
{
	return l->acknowledged == l->o->nodes;
}

static bool all_good(const struct live *l)
{
	return l->good == l->o->nodes;
}

static bool is_announced(const struct live *l)
{
	return newest(l, "1.2.0") != NULL;
}

static bool all_heard_of_the_halt(const struct live *l)
{
	for (size_t i = 0; i < l->o->connections; i++)
		if (!l->connections[i].halted_ms)
			return false;
	return true;
}

static bool never(const struct live *l)
{
	(void) l;
	return false;
}

/* One round of the poll loop; at most `most_ms`. */
static void turn(struct live *l, int most_ms)
{
	struct pollfd fds[CONNECTIONS_MAX];

	for (size_t i = 0; i < l->o->connections; i++)
		mqtt_poll_prepare(l->connections[i].mqtt, &fds[i], &most_ms);
	if (poll(fds, l->o->connections, most_ms) < 0 && errno != EINTR)
		l->error = -errno;
	for (size_t i = 0; i < l->o->connections; i++)
		mqtt_poll_done(l->connections[i].mqtt, fds[i].revents);
	nodes_go_on(l);
}

static int until(struct live *l, bool (*is_true)(const struct live *l), unsigned seconds, const char *what)
{
	uint64_t end = now_ms() + seconds * UINT64_C(1000);

	while (l->error == 0 && !is_true(l)) {
		if (now_ms() >= end) {
			if (what)
				fprintf(stderr,
					"fleet-sim: after %u s still waiting for %s (%zu connected, %zu "
					"acknowledged, %zu good)\n",
					seconds, what, l->connected, l->acknowledged, l->good);
			return what ? -ERR_DEADLINE : 0;
		}
		turn(l, TICK_MS);
	}
	return l->error;
}

static void say(const struct live *l, const char *what)
{
	if (!l->o->quiet)
		fprintf(stderr, "fleet-sim: %s\n", what);
}

/* --- the parts --- */

static int enrol(struct live *l)
{
	CLEANUP(db_closep)
	struct db *db = NULL;
	char path[PATH_MAX];
	int r;

	if (snprintf(path, sizeof(path), "%s/serve", l->o->dir) >= (int) sizeof(path) - 20)
		return -ENAMETOOLONG;
	if (mkdir(path, 0750) < 0 && errno != EEXIST)
		return -errno;
	strncat(path, "/selfright.db", sizeof(path) - strlen(path) - 1);
	r = db_open(path, &db);
	if (r == 0)
		r = db_begin(db);
	for (size_t i = 0; r == 0 && i < l->o->nodes; i++) {
		CLEANUP(buf_done)
		struct buf pem = BUF_INIT(4096);

		r = voice_make(i, &l->nodes[i].voice);
		if (r == 0)
			r = voice_public(&l->nodes[i].voice, &pem);
		if (r == 0)
			r = labels_set(&l->nodes[i].labels, "site", l->nodes[i].voice.site);
		if (r == 0)
			r = db_node_add(db, l->nodes[i].voice.node, buf_str(&pem), "by fleet-sim", "{}",
					1700000000);
		l->nodes[i].version = "1.0.0";
	}
	return r < 0 ? r : db_commit(db);
}

static int connect_all(struct live *l)
{
	char prefix[128], announce[160], acks[160];
	const char *subscriptions[] = { announce, acks };
	int r = 0;

	snprintf(prefix, sizeof(prefix), "selfright/v1/%s", l->o->fleet);
	snprintf(announce, sizeof(announce), "%s/announce", prefix);
	snprintf(acks, sizeof(acks), "%s/node/+/ack", prefix);
	for (size_t i = 0; r == 0 && i < l->o->connections; i++) {
		char client[32];
		struct mqtt_options o = { .os = &os_posix,
					  .host = "127.0.0.1",
					  .port = l->o->broker_port,
					  .client_id = client,
					  .username = l->o->user,
					  .password = l->o->password,
					  .session_expiry_s = 60,
					  .subscriptions = subscriptions,
					  .subscription_count = i == 0 ? 2 : 1, /* one hears the answers to all */
					  .retry_cap_ms = 1000,
					  .on_state = on_state,
					  .on_message = on_message,
					  .user = &l->connections[i] };

		snprintf(client, sizeof(client), "fleet-sim-%zu", i);
		l->connections[i].live = l;
		l->connections[i].number = i;
		r = mqtt_open(&o, &l->connections[i].mqtt);
	}
	return r < 0 ? r : until(l, all_connected, l->o->deadline_s, "the broker");
}

/* Signed before the clock starts: a fleet does that on its own processors. */
static int first_reports(struct live *l)
{
	struct buf *ready = calloc(l->o->nodes, sizeof(*ready));
	uint64_t from;
	char update[200];
	int r = ready ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < l->o->nodes; i++) {
		const struct voice_words w = words_of(l, &l->nodes[i], update);

		ready[i] = (struct buf) BUF_INIT(REPORT_MAX_BYTES);
		r = voice_report(&l->nodes[i].voice, l->o->fleet, &w, &ready[i]);
		if (i % 100 == 0)
			turn(l, 0); /* connections want their keepalives */
	}
	from = now_ms();
	for (size_t i = 0; r == 0 && i < l->o->nodes; i++) {
		send_report(l, i, NULL, &ready[i]);
		if (i % 50 == 49)
			turn(l, 0);
	}
	if (r == 0)
		r = until(l, all_acknowledged, l->o->deadline_s, "the acknowledgements of the first reports");
	l->result->first_reports_s = (double) (now_ms() - from) / 1000;
	l->result->reports_per_s = (double) l->o->nodes / l->result->first_reports_s;
	for (size_t i = 0; ready && i < l->o->nodes; i++)
		buf_done(&ready[i]);
	free(ready);
	return r;
}

static int command(struct live *l, const char *const *words)
{
	CLEANUP(buf_done)
	struct buf output = BUF_INIT(16 * 1024);
	char dir[PATH_MAX + 16];
	const char *env[] = { "PATH=/usr/bin:/bin", "LANG=C", dir, NULL };
	const struct process_options o = {
		.argv = words, .env = env, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1
	};
	int status = 0, r;

	snprintf(dir, sizeof(dir), "SELFRIGHT_DIR=%s", l->o->dir);
	r = process_run(&o, l->o->deadline_s * UINT64_C(1000), &status, &output);
	if (r == 0 && status != 0) {
		fprintf(stderr, "fleet-sim: %s", buf_str(&output));
		return -ERR_CHILD;
	}
	return r;
}

static int start_rollout(struct live *l, const char *version, const char *stages)
{
	char path[PATH_MAX];
	const char *const words[] = { l->o->selfright,
				      "rollout",
				      "start",
				      path,
				      "--replace",
				      "--id",
				      version[2] == '1' ? "sim-1" : "sim-2",
				      NULL };
	FILE *f;
	int r;

	if (snprintf(path, sizeof(path), "%s/fleet-sim-plan.yaml", l->o->dir) >= (int) sizeof(path))
		return -ENAMETOOLONG;
	f = fopen(path, "w");
	if (!f)
		return -errno;
	fprintf(f, "component: %s\nversion: %s\nmin_age: 0\nstages:\n%sgates: {silent_after: 1h}\n",
		l->o->component, version, stages);
	if (fclose(f) != 0)
		return -EIO;
	r = command(l, words);
	(void) unlink(path); /* a leftover plan does no harm */
	return r;
}

static int roll_out(struct live *l)
{
	char stages[512] = "- {name: canary, nodes: [";
	struct usage u;
	uint64_t from = now_ms();
	int r;

	for (size_t i = 0; i < CANARIES && 2 * i < l->o->nodes; i++) {
		size_t len = strlen(stages);

		snprintf(stages + len, sizeof(stages) - len, "%s%s", i ? ", " : "", l->nodes[i].voice.node);
	}
	strncat(stages, "], soak: 1s}\n- {name: all, all: true}\n", sizeof(stages) - strlen(stages) - 1);
	usage_begin(l, &u);
	r = start_rollout(l, "1.1.0", stages);
	if (r == 0)
		r = until(l, all_good, l->o->deadline_s, "the nodes of the rollout");
	usage_end(&u, l->result->rollout_cpu, l->result->rollout_kb);
	l->result->start_s = (double) (l->announced_ms - from) / 1000;
	l->result->stage_s = (double) (l->last_good_ms - l->opened_ms) / 1000;
	return r;
}

static int halt(struct live *l)
{
	const char *const words[] = { l->o->selfright, "rollout", "halt", "sim-2", "--reason", "measured", NULL };
	uint64_t from, last = 0;
	int r = start_rollout(l, "1.2.0", "- {name: all, all: true}\n");

	if (r == 0)
		r = until(l, is_announced, l->o->deadline_s, "the second rollout");
	from = now_ms();
	if (r == 0)
		r = command(l, words);
	if (r == 0)
		r = until(l, all_heard_of_the_halt, l->o->deadline_s, "the halt");
	for (size_t i = 0; i < l->o->connections; i++)
		if (l->connections[i].halted_ms > last)
			last = l->connections[i].halted_ms;
	l->result->halt_s = (double) (last - from) / 1000;
	return r;
}

static int parts(struct live *l)
{
	struct usage u;
	char line[16];
	int r = enrol(l);

	if (r < 0)
		return r;
	printf("enrolled\n"); /* whoever started us may start the controller now */
	fflush(stdout);
	/* And say so when it is ready: what it does until then is not to be measured. */
	if (!fgets(line, sizeof(line), stdin))
		return -ERR_PEER_GONE;
	r = connect_all(l);
	say(l, "connected");
	if (r == 0)
		r = first_reports(l);
	say(l, "the first reports are acknowledged");
	if (r == 0)
		r = until(l, never, 3, NULL); /* what they set off is over */
	usage_begin(l, &u);
	if (r == 0)
		r = until(l, never, l->o->rest_s, NULL);
	usage_end(&u, l->result->rest_cpu, l->result->rest_kb);
	if (r == 0)
		r = roll_out(l);
	say(l, "every node is good");
	if (r == 0)
		r = halt(l);
	return r;
}

int live_run(const struct live_options *o, struct live_result *ret)
{
	struct live l = { .o = o, .result = ret };
	int r;

	*ret = (struct live_result){ .nodes = o->nodes, .connections = o->connections };
	if (o->connections > CONNECTIONS_MAX || o->connections == 0 || o->nodes < CANARIES)
		return -EINVAL;
	l.nodes = calloc(o->nodes, sizeof(*l.nodes));
	l.connections = calloc(o->connections, sizeof(*l.connections));
	r = l.nodes && l.connections ? parts(&l) : -ENOMEM;
	for (size_t i = 0; l.connections && i < o->connections; i++)
		mqtt_close(l.connections[i].mqtt);
	for (size_t i = 0; l.nodes && i < o->nodes; i++) {
		voice_done(&l.nodes[i].voice);
		labels_done(&l.nodes[i].labels);
	}
	for (size_t i = 0; i < l.document_count; i++)
		rollout_done(&l.documents[i]);
	free(l.nodes);
	free(l.connections);
	return r;
}
