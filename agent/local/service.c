#include "agent/local/service.h"

#include "agent/local/command.h"
#include "agent/local/config.h"
#include "agent/local/service_log.h"
#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "base/version.h"
#include "json/build.h"
#include "json/json.h"
#include "model/release.h"
#include "os/durable.h"
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	RECORD_MAX = 4096,
	KILL_WAIT_MS = 5000,
	PROVEN_MS = 1000, /* a service that ends sooner did not start */
	STABLE_MS = 60000, /* after this its next restart is quick again */
	RESTART_BASE_MS = 1000,
	RESTART_CAP_MS = 60000,
	TROUBLE_MS = 10000, /* the service is away meanwhile */
	TROUBLE_AGAIN_MS = 500,
	EXITS_MAX = 2, /* unexpected ends under one version before it counts as failed */
	SYSTEMCTL_TIMEOUT_S = 120,
};

enum actual { DOWN, RUNNING, STOPPING, KILLING, RELOADING, UNIT_BUSY };

struct slot {
	bool used, known; /* known: somebody said what is wanted */
	char component[ID_MAX + 1], name[ID_MAX + 1];

	bool wanted, stop_before_swap;
	char version[VERSION_MAX + 1]; /* wanted */
	struct command_line start, reload; /* reload.argc 0: none */
	char *unit;
	int stop_signal;
	uint64_t stop_timeout_s;
	size_t order; /* its place among the component's: it starts after those before it, and stops before them */
	bool kept; /* the next version's is the same: see services_keep() */

	enum actual actual;
	struct process process;
	int pidfd; /* -1: none */
	char running[VERSION_MAX + 1]; /* the version it was started (or reloaded) for; units: applied */
	char reread[VERSION_MAX + 1]; /* units: the version whose files the service manager has read */
	bool rereading; /* ... and does at the moment */
	int running_signal;
	uint64_t running_timeout_s;
	uint64_t started_ms, deadline_ms, next_start_ms;
	uint64_t trouble_ms; /* it could not be started for want of something, since then; 0: no trouble */
	struct service_log log;
	struct command command; /* systemctl or reload */
	unsigned exits, restarts;
	int failure; /* -ERR_CHILD, -ERR_UNIT under the wanted version; 0: none */
};

#define SLOT_INIT                                                                                                 \
	{                                                                                                         \
		.pidfd = -1, .log = SERVICE_LOG_INIT, .command = COMMAND_INIT                                     \
	}

struct services {
	const struct os *os;
	int dirfd;
	char boot_id[40];
	const struct config *config; /* of the last apply; NULL before */
	struct slot slots[SERVICES_MAX];
};

static void file_name(const struct slot *k, const char *suffix, char *out, size_t size)
{
	(void) snprintf(out, size, "%s.%s.%s", k->component, k->name, suffix);
}

static bool is_unit(const struct slot *k)
{
	return k->unit != NULL;
}

static int signal_of(const char *name)
{
	if (name && str_starts(name, "SIG"))
		for (int i = 1; i < 32; i++)
			if (str_eq(sigabbrev_np(i), name + 3))
				return i;
	return SIGTERM;
}

static void wish_done(struct slot *k)
{
	command_line_done(&k->start);
	command_line_done(&k->reload);
	free(k->unit);
	k->unit = NULL;
}

static void slot_done(struct slot *k)
{
	wish_done(k);
	command_done(&k->command);
	if (k->pidfd >= 0)
		close(k->pidfd);
	service_log_done(&k->log);
	*k = (struct slot) SLOT_INIT;
}

static struct slot *slot_find(struct services *s, const char *component, const char *name)
{
	for (size_t i = 0; i < SERVICES_MAX; i++)
		if (s->slots[i].used && str_eq(s->slots[i].component, component) && str_eq(s->slots[i].name, name))
			return &s->slots[i];
	return NULL;
}

static struct slot *slot_add(struct services *s, const char *component, const char *name)
{
	for (size_t i = 0; i < SERVICES_MAX; i++) {
		struct slot *k = &s->slots[i];

		if (k->used)
			continue;
		*k = (struct slot) SLOT_INIT;
		k->used = true;
		(void) snprintf(k->component, sizeof(k->component), "%s", component);
		(void) snprintf(k->name, sizeof(k->name), "%s", name);
		return k;
	}
	return NULL;
}

/* --- records: who runs, so that a restarted agent knows its services again --- */

static void record_write(struct services *s, const struct slot *k, uint64_t ticks)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(RECORD_MAX);
	struct json_node *o = json_build_root(b);
	char name[2 * ID_MAX + 16];
	int r;

	node_string(o, "boot_id", s->boot_id);
	node_string(o, "component", k->component);
	node_string(o, "name", k->name);
	node_string(o, "version", k->running);
	node_integer(o, "pid", k->process.pid);
	node_integer(o, "start", (int64_t) ticks);
	node_integer(o, "stop_signal", k->running_signal);
	node_integer(o, "stop_timeout", (int64_t) k->running_timeout_s);
	node_integer(o, "log_pid", k->log.pid);
	node_integer(o, "log_start", (int64_t) k->log.start);
	file_name(k, "json", name, sizeof(name));
	r = json_build_text(b, false, &text);
	if (r == 0)
		r = durable_write_file(s->os, s->dirfd, name, text.data, text.len, 0644);
	if (r < 0)
		log_warning(
			"service-record",
			"a restarted agent will not know this service again: component=%s service=%s reason=%s",
			k->component, k->name, err_text(r));
}

static void record_remove(struct services *s, const struct slot *k)
{
	char name[2 * ID_MAX + 16];

	file_name(k, "json", name, sizeof(name));
	/* A record that stays names a process that is gone, which the start time shows. */
	(void) s->os->unlinkat(s->os, s->dirfd, name, 0);
}

/* Of a process that may run: what could not be looked at for a moment must not be started a second time. */
static int failure_of_look(int r)
{
	return err_class(r) == ERR_CLASS_RETRY || r == -EIO ? r : 0;
}

/* Take up a process a former run of the agent started, if it is still that one. An error: that is not known. */
static int record_adopt(struct services *s, const char *file)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(RECORD_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const char *boot_id = NULL, *component = NULL, *name = NULL, *version = NULL;
	uint64_t log_pid = 0, log_start = 0, pid = 0, ticks = 0, now_ticks = 0, stop_signal = SIGTERM,
		 stop_timeout = 10;
	struct slot *k;
	int fd, r;

	r = file_read(s->os, s->dirfd, file, RECORD_MAX, &text);
	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, &doc);
	if (r < 0)
		return failure_of_look(r);
	if (json_need_string(doc, "boot_id", &boot_id) < 0 || json_need_string(doc, "component", &component) < 0 ||
	    json_need_string(doc, "name", &name) < 0 || json_need_string(doc, "version", &version) < 0 ||
	    json_need_u64(doc, "pid", 2, 1 << 30, &pid) < 0 ||
	    json_need_u64(doc, "start", 0, 1ULL << 52, &ticks) < 0 ||
	    json_need_u64(doc, "stop_signal", 1, 31, &stop_signal) < 0 ||
	    json_need_u64(doc, "stop_timeout", 0, 86400, &stop_timeout) < 0 || !guard_id(component) ||
	    !guard_id(name) || !version_is_valid(version))
		return 0;
	if (!str_eq(boot_id, s->boot_id) || slot_find(s, component, name))
		return 0;
	/* The descriptor first: whatever the number means afterwards, the descriptor means the process looked at. */
	fd = process_open((pid_t) pid);
	if (fd < 0)
		return failure_of_look(fd);
	r = process_start_time((pid_t) pid, &now_ticks);
	if (r < 0 || now_ticks != ticks) {
		close(fd);
		return r < 0 ? failure_of_look(r) : 0;
	}
	k = slot_add(s, component, name);
	if (!k) {
		close(fd);
		return 0;
	}
	k->actual = RUNNING;
	k->process = (struct process){ .pid = (pid_t) pid, .group = (pid_t) pid };
	k->pidfd = fd;
	k->started_ms = s->os->clock_boot_ms(s->os);
	k->running_signal = (int) stop_signal;
	k->running_timeout_s = stop_timeout;
	(void) snprintf(k->running, sizeof(k->running), "%s", version);
	/* Records of 0.1.0 name none: what they started prints into its file. */
	if (json_need_u64(doc, "log_pid", 2, 1 << 30, &log_pid) == 0 &&
	    json_need_u64(doc, "log_start", 0, 1ULL << 52, &log_start) == 0)
		service_log_adopt(&k->log, (pid_t) log_pid, log_start);
	log_info("service-found", "component=%s service=%s version=%s pid=%d", component, name, version,
		 (int) pid);
	return 0;
}

int services_open(const struct os *os, const char *run, const char *boot_id, struct services **ret)
{
	struct name_list names = { 0 };
	struct services *s;
	int rundir, r;

	rundir = os->openat(os, AT_FDCWD, run, O_RDONLY | O_DIRECTORY, 0);
	if (rundir < 0)
		return rundir;
	s = calloc(1, sizeof(*s));
	if (!s) {
		(void) os->close(os, rundir); /* nothing was written */
		return -ENOMEM;
	}
	s->os = os;
	(void) snprintf(s->boot_id, sizeof(s->boot_id), "%s", boot_id);
	for (size_t i = 0; i < SERVICES_MAX; i++)
		s->slots[i] = (struct slot) SLOT_INIT;
	r = durable_mkdir(os, rundir, "services", 0755);
	if (r == 0)
		r = s->dirfd = dir_open(os, rundir, "services");
	(void) os->close(os, rundir); /* nothing was written through it */
	if (r < 0) {
		free(s);
		return r;
	}
	r = dir_list(os, s->dirfd, ".", &names);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		size_t len = strlen(names.names[i]);

		if (len > 5 && strcmp(names.names[i] + len - 5, ".json") == 0)
			r = record_adopt(s, names.names[i]);
	}
	name_list_done(&names);
	if (r < 0) {
		services_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void services_close(struct services *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < SERVICES_MAX; i++)
		slot_done(&s->slots[i]);
	(void) s->os->close(s->os, s->dirfd); /* every write was synced on its own */
	free(s);
}

/* --- what is wanted --- */

static int wish_expand(const struct command_context *c, const struct release_service *v, struct slot *wish)
{
	int r;

	(void) snprintf(wish->version, sizeof(wish->version), "%s", c->version);
	wish->wanted = wish->known = true;
	wish->stop_before_swap = v->stop_before_swap;
	wish->stop_signal = signal_of(v->stop_signal);
	wish->stop_timeout_s = v->stop_timeout_s;
	if (v->reload.argv.count > 0) {
		r = command_expand(c, &v->reload, &wish->reload);
		if (r < 0)
			return r;
	}
	if (!v->unit)
		return command_expand(c, &v->start, &wish->start);
	if (!string_list_has(&config_component(c->config, c->component)->units, v->unit))
		return -ERR_REFUSED;
	wish->unit = strdup(v->unit);
	return wish->unit ? 0 : -ENOMEM;
}

static void wish_take(struct slot *k, struct slot *wish)
{
	if (!str_eq(k->version, wish->version) || !k->wanted) {
		k->failure = 0;
		k->exits = 0;
		k->next_start_ms = 0;
		k->trouble_ms = 0;
	}
	wish_done(k);
	k->known = true;
	k->wanted = true;
	k->stop_before_swap = wish->stop_before_swap;
	memcpy(k->version, wish->version, sizeof(k->version));
	k->start = wish->start;
	k->reload = wish->reload;
	k->unit = wish->unit;
	k->stop_signal = wish->stop_signal;
	k->stop_timeout_s = wish->stop_timeout_s;
	k->order = wish->order;
	k->kept = false;
	wish->start = wish->reload = (struct command_line){ 0 };
	wish->unit = NULL;
}

static void unwant(struct slot *k)
{
	k->known = true;
	k->wanted = false;
	k->failure = 0;
}

static bool declares(const struct release *release, const char *name)
{
	for (size_t i = 0; i < release->service_count; i++)
		if (str_eq(release->services[i].name, name))
			return true;
	return false;
}

int services_apply(struct services *s, const struct command_context *c, const struct release *release)
{
	struct slot *wishes;
	size_t places = 0;
	int r = 0;

	for (size_t i = 0; i < SERVICES_MAX; i++)
		places += !s->slots[i].used;
	if (places < release->service_count)
		return -ERR_TOO_LARGE;
	wishes = calloc(release->service_count + 1, sizeof(*wishes));
	if (!wishes)
		return -ENOMEM;
	s->config = c->config;
	for (size_t i = 0; r == 0 && i < release->service_count; i++) {
		wishes[i].order = i;
		r = wish_expand(c, &release->services[i], &wishes[i]);
	}
	if (r == 0) {
		for (size_t i = 0; i < SERVICES_MAX; i++)
			if (s->slots[i].used && str_eq(s->slots[i].component, c->component) &&
			    !declares(release, s->slots[i].name))
				unwant(&s->slots[i]);
		for (size_t i = 0; i < release->service_count; i++) {
			struct slot *k = slot_find(s, c->component, release->services[i].name);

			if (!k)
				k = slot_add(s, c->component, release->services[i].name);
			if (k)
				wish_take(k, &wishes[i]);
		}
	}
	for (size_t i = 0; i < release->service_count; i++)
		wish_done(&wishes[i]);
	free(wishes);
	return r;
}

void services_stop(struct services *s, const char *component, bool before_swap_only)
{
	for (size_t i = 0; i < SERVICES_MAX; i++) {
		struct slot *k = &s->slots[i];

		if (k->used && str_eq(k->component, component) &&
		    (!before_swap_only || (k->stop_before_swap && !k->kept)))
			unwant(k);
	}
}

void services_keep(struct services *s, const char *component, const char *name, const char *version)
{
	struct slot *k = slot_find(s, component, name);
	uint64_t ticks = 0;

	if (!k || !k->known || !k->wanted || !k->running[0] || !str_eq(k->running, k->version) || k->failure)
		return;
	(void) snprintf(k->version, sizeof(k->version), "%s", version);
	memcpy(k->running, k->version, sizeof(k->running));
	k->kept = true;
	if (!is_unit(k) && process_start_time(k->process.pid, &ticks) == 0)
		record_write(s, k, ticks);
}

/* --- getting there --- */

/* `name` lives as long as the place. */
static struct service_log_place log_place(const struct services *s, const struct slot *k,
					  char name[static 2 * ID_MAX + 16])
{
	(void) snprintf(name, 2 * ID_MAX + 16, "%s.%s", k->component, k->name);
	return (struct service_log_place){
		.os = s->os, .dirfd = s->dirfd, .name = name, .config = s->config, .service_user = k->start.user
	};
}

static void count_exit(struct slot *k, uint64_t now_ms)
{
	uint64_t lived = now_ms - k->started_ms, delay = RESTART_BASE_MS;

	if (lived >= STABLE_MS)
		k->exits = 0;
	k->exits++;
	for (unsigned i = 1; i < k->exits && delay < RESTART_CAP_MS; i++)
		delay *= 2;
	k->next_start_ms = now_ms + (delay < RESTART_CAP_MS ? delay : RESTART_CAP_MS);
	if (lived < PROVEN_MS || k->exits >= EXITS_MAX)
		k->failure = -ERR_CHILD;
}

/*
 * The machine has no memory, descriptors or space for a moment: that is no word against the version, and it is tried
 * again before anything is concluded. If it stays so, the failure says what was missing.
 */
static bool waits_out(struct slot *k, int r, uint64_t now_ms)
{
	if (err_class(r) != ERR_CLASS_RETRY && r != -EIO)
		return false;
	if (k->trouble_ms == 0)
		k->trouble_ms = now_ms;
	if (now_ms - k->trouble_ms < TROUBLE_MS)
		k->next_start_ms = now_ms + TROUBLE_AGAIN_MS;
	else {
		count_exit(k, now_ms);
		k->failure = r;
		k->trouble_ms = 0;
	}
	return true;
}

struct newcomer {
	struct services *s;
	struct slot *k;
};

/*
 * Before its program runs: an agent that is killed here leaves a record or no process. One that nobody knows would hold
 * its port and files against the one that is started in its place, for ever.
 */
static void keep(void *user, const struct process *service)
{
	struct newcomer *c = user;
	struct slot *k = c->k;
	uint64_t ticks = 0;

	k->process = *service;
	k->running_signal = k->stop_signal;
	k->running_timeout_s = k->stop_timeout_s;
	memcpy(k->running, k->version, sizeof(k->running));
	if (process_start_time(service->pid, &ticks) == 0)
		record_write(c->s, k, ticks);
}

static void start(struct services *s, struct slot *k, uint64_t now_ms)
{
	char name[2 * ID_MAX + 16];
	struct service_log_place place = log_place(s, k, name);
	struct newcomer newcomer = { s, k };
	int log, r;

	log = service_log_begin(&place, &k->log);
	if (log < 0)
		log_warning("service-log", "what it prints is lost: component=%s service=%s reason=%s",
			    k->component, k->name, err_text(log));
	r = process_start(
		&(struct process_options){
			.argv = (const char *const *) k->start.argv,
			.env = (const char *const *) k->start.env,
			.directory = k->start.directory,
			.user = k->start.user,
			.new_session = true,
			.stdin_fd = -1,
			.stdout_fd = log < 0 ? -1 : log,
			.stderr_fd = log < 0 ? -1 : log,
			.keep = keep,
			.keep_user = &newcomer,
		},
		&k->process);
	k->started_ms = now_ms;
	if (r < 0 && log >= 0)
		dprintf(log, "selfright: %s could not be started: %s\n", k->start.argv[0], err_text(r));
	if (log >= 0)
		(void) s->os->close(s->os, log); /* the service holds its own */
	if (r < 0) {
		if (k->process.pid > 0)
			record_remove(s, k);
		k->process = (struct process){ 0 };
		k->running[0] = '\0';
		log_warning("service-start-failed", "component=%s service=%s version=%s reason=%s", k->component,
			    k->name, k->version, err_text(r));
		if (!waits_out(k, r, now_ms))
			count_exit(k, now_ms);
		return;
	}
	k->trouble_ms = 0;
	k->actual = RUNNING;
	k->pidfd = process_open(k->process.pid); /* without it the end is seen by polling */
	log_notice("service-started", "component=%s service=%s version=%s pid=%d", k->component, k->name,
		   k->version, (int) k->process.pid);
}

/* Has the main process ended? It is nobody's child here; without a descriptor only its number can be asked. */
static bool has_ended(const struct slot *k)
{
	struct pollfd p = { .fd = k->pidfd, .events = POLLIN };

	/* A look that fails says nothing: who takes it for the end starts a second one beside the first. */
	if (k->pidfd < 0)
		return kill(k->process.pid, 0) < 0 && errno == ESRCH;
	return poll(&p, 1, 0) > 0;
}

static void forget_process(struct services *s, struct slot *k)
{
	/* What the main process left behind in its session would hold ports and files. */
	process_kill_left(k->pidfd, k->process.group);
	if (k->pidfd >= 0)
		close(k->pidfd);
	k->pidfd = -1;
	k->process = (struct process){ 0 };
	k->running[0] = '\0';
	k->actual = DOWN;
	record_remove(s, k);
}

static void stop(struct slot *k, uint64_t now_ms)
{
	/* One that is gone already is what we want; by its descriptor no other can be meant. */
	if (k->pidfd >= 0)
		(void) !process_signal(k->pidfd, k->running_signal);
	else
		(void) kill(k->process.pid, k->running_signal);
	k->actual = STOPPING;
	k->deadline_ms = now_ms + k->running_timeout_s * 1000;
	log_notice("service-stopping", "component=%s service=%s version=%s pid=%d", k->component, k->name,
		   k->running, (int) k->process.pid);
}

static void begin_reload(struct slot *k, uint64_t now_ms)
{
	int r = command_start(&k->reload, 0, now_ms, &k->command);

	if (r < 0) {
		/* A restart reaches the same. */
		stop(k, now_ms);
		return;
	}
	k->actual = RELOADING;
}

/* --- order: as declared up, the other way round down --- */

static bool is_up(const struct slot *k)
{
	return k->actual == (is_unit(k) ? DOWN : RUNNING) && str_eq(k->running, k->version);
}

/* Does it have to go, or to go and come back? A reload is no stop. */
static bool is_to_stop(const struct slot *k)
{
	if (k->actual == STOPPING || k->actual == KILLING)
		return true;
	/* A process whose service became a unit goes, whatever that unit could reload. */
	if (k->actual == RUNNING)
		return !k->wanted || (!str_eq(k->running, k->version) && (is_unit(k) || k->reload.argc == 0));
	return is_unit(k) && !k->wanted && (k->running[0] || k->actual == UNIT_BUSY);
}

static bool may_stop(const struct services *s, const struct slot *k)
{
	for (size_t i = 0; i < SERVICES_MAX; i++) {
		const struct slot *o = &s->slots[i];

		if (o->used && o->known && o->order > k->order && str_eq(o->component, k->component) &&
		    is_to_stop(o))
			return false;
	}
	return true;
}

/* What does not come up holds up nobody: its failure is told, and the rest may still be of use. */
static bool may_start(const struct services *s, const struct slot *k)
{
	for (size_t i = 0; i < SERVICES_MAX; i++) {
		const struct slot *o = &s->slots[i];

		if (o == k || !o->used || !o->known || !str_eq(o->component, k->component))
			continue;
		if (is_to_stop(o) || (o->order < k->order && o->wanted && !is_up(o) && !o->failure))
			return false;
	}
	return true;
}

static void step_running(struct services *s, struct slot *k, uint64_t now_ms)
{
	if (has_ended(k)) {
		forget_process(s, k);
		if (!k->wanted)
			return;
		count_exit(k, now_ms);
		k->restarts++;
		log_warning("service-ended", "it is started again: component=%s service=%s version=%s exits=%u",
			    k->component, k->name, k->version, k->exits);
		return;
	}
	if (s->config) {
		char name[2 * ID_MAX + 16];
		struct service_log_place place = log_place(s, k, name);
		uint64_t ticks = 0;

		if (service_log_revive(&place, &k->log, now_ms) && process_start_time(k->process.pid, &ticks) == 0)
			record_write(s, k, ticks);
	}
	if (is_to_stop(k)) {
		if (may_stop(s, k))
			stop(k, now_ms);
	} else if (!str_eq(k->running, k->version) && may_start(s, k)) {
		begin_reload(k, now_ms);
	}
}

static void step_stopping(struct services *s, struct slot *k, uint64_t now_ms)
{
	if (has_ended(k)) {
		log_notice("service-stopped", "component=%s service=%s", k->component, k->name);
		forget_process(s, k);
		return;
	}
	if (now_ms < k->deadline_ms)
		return;
	if (k->pidfd >= 0)
		(void) !process_signal(k->pidfd, SIGKILL); /* what it started follows when it has ended */
	else
		process_kill(&k->process, SIGKILL);
	if (k->actual == KILLING)
		log_error("service-unkillable", "component=%s service=%s pid=%d", k->component, k->name,
			  (int) k->process.pid);
	k->actual = KILLING;
	k->deadline_ms = now_ms + KILL_WAIT_MS;
}

static void step_reloading(struct services *s, struct slot *k, uint64_t now_ms)
{
	uint64_t ticks = 0;
	int r = command_step(&k->command, now_ms);

	if (r == 0)
		return;
	command_done(&k->command);
	k->actual = RUNNING;
	if (r < 0) {
		log_warning("service-reload-failed", "component=%s service=%s version=%s reason=%s", k->component,
			    k->name, k->version, err_text(r));
		k->failure = -ERR_CHILD;
		memcpy(k->running, k->version, sizeof(k->running)); /* tried; the verdict is the caller's */
		return;
	}
	memcpy(k->running, k->version, sizeof(k->running));
	k->running_signal = k->stop_signal;
	k->running_timeout_s = k->stop_timeout_s;
	if (process_start_time(k->process.pid, &ticks) == 0)
		record_write(s, k, ticks);
	log_notice("service-reloaded", "component=%s service=%s version=%s", k->component, k->name, k->version);
}

/* --- units: the service manager keeps them running --- */

/* `systemctl VERB [UNIT]`, looked up where the agent's own PATH says. */
static int systemctl(struct slot *k, const char *verb, char *unit, uint64_t now_ms)
{
	const char *own = getenv("PATH");
	char name[] = "systemctl", arg[32], path[1024], *argv[] = { name, arg, unit, NULL };
	struct command_line line = { .argv = argv, .argc = unit ? 3 : 2 };
	int n = snprintf(path, sizeof(path), "PATH=%s", own ? own : "");
	int r;

	(void) snprintf(arg, sizeof(arg), "%s", verb);
	if (own && *own && n > 0 && (size_t) n < sizeof(path))
		line.env[0] = path; /* else the default is looked through */
	r = command_start(&line, SYSTEMCTL_TIMEOUT_S, now_ms, &k->command);
	if (r == 0)
		k->actual = UNIT_BUSY;
	return r;
}

/*
 * The unit may be a link into current/<component>/ (`systemctl link`), which the swap has just changed: its file is
 * read again before it is started by it.
 */
static bool unit_reread(struct slot *k, uint64_t now_ms)
{
	if (str_eq(k->reread, k->version))
		return false;
	memcpy(k->reread, k->version, sizeof(k->reread)); /* once is enough; a failure shows at the start */
	k->rereading = systemctl(k, "daemon-reload", NULL, now_ms) == 0;
	return k->rereading;
}

/*
 * A unit that does not start is the release's matter. That there is nobody who could start
 * units, or systemctl is not there, is the node's.
 */
static int unit_failure(void)
{
	struct stat st;

	return stat("/run/systemd/system", &st) == 0 ? -ERR_CHILD : -ERR_UNIT;
}

static void unit_call(struct slot *k, const char *verb, uint64_t now_ms)
{
	int r = systemctl(k, verb, k->unit, now_ms);

	if (r < 0) {
		log_warning("unit-failed", "component=%s unit=%s reason=%s", k->component, k->unit, err_text(r));
		k->failure = -ERR_UNIT;
		memcpy(k->running, k->version, sizeof(k->running)); /* tried; once is enough */
	}
}

static void step_unit(const struct services *s, struct slot *k, uint64_t now_ms)
{
	int r;

	if (k->actual == UNIT_BUSY) {
		r = command_step(&k->command, now_ms);
		if (r == 0)
			return;
		k->actual = DOWN;
		if (k->rereading) {
			k->rereading = false;
			if (r < 0)
				log_warning("unit-files-not-read", "component=%s unit=%s reason=%s", k->component,
					    k->unit, err_text(r));
			command_done(&k->command);
			return;
		}
		memcpy(k->running, k->wanted ? k->version : "", k->wanted ? sizeof(k->running) : 1);
		if (r < 0) {
			log_warning("unit-failed", "component=%s unit=%s reason=%s", k->component, k->unit,
				    err_text(r));
			k->failure = unit_failure();
		}
		command_done(&k->command);
		return;
	}
	if (k->wanted && !str_eq(k->running, k->version)) {
		if (!may_start(s, k))
			return;
		if (k->running[0] && k->reload.argc > 0) {
			r = command_start(&k->reload, 0, now_ms, &k->command);
			if (r == 0) {
				k->actual = UNIT_BUSY;
				return;
			}
		}
		if (unit_reread(k, now_ms))
			return;
		/* At the agent's first look the unit may well run what is right: start leaves it alone then. */
		unit_call(k, k->running[0] ? "restart" : "start", now_ms);
	} else if (!k->wanted && k->running[0] && may_stop(s, k)) {
		unit_call(k, "stop", now_ms);
	}
}

static void step_slot(struct services *s, struct slot *k, uint64_t now_ms)
{
	if (is_unit(k) && k->actual != RUNNING && k->actual != STOPPING && k->actual != KILLING) {
		step_unit(s, k, now_ms);
		return;
	}
	switch (k->actual) {
	case RUNNING:
		step_running(s, k, now_ms);
		break;
	case STOPPING:
	case KILLING:
		step_stopping(s, k, now_ms);
		break;
	case RELOADING:
		step_reloading(s, k, now_ms);
		break;
	case DOWN:
	case UNIT_BUSY:
		break;
	}
	if (k->actual == DOWN && k->wanted && !is_unit(k) && now_ms >= k->next_start_ms && may_start(s, k))
		start(s, k, now_ms);
}

static uint64_t slot_next(const struct services *s, const struct slot *k, uint64_t now_ms)
{
	switch (k->actual) {
	case STOPPING:
	case KILLING:
		return k->pidfd >= 0 ? k->deadline_ms : now_ms + 100;
	case RELOADING:
	case UNIT_BUSY:
		return now_ms + 50;
	case RUNNING:
		if (k->log.pidfd < 0 && k->log.again_ms < UINT64_MAX && k->log.again_ms > now_ms)
			return k->log.again_ms;
		return k->pidfd >= 0 ? UINT64_MAX : now_ms + 1000;
	case DOWN:
		break;
	}
	/* What waits for another is woken by that one's change. */
	return k->wanted && !is_unit(k) && may_start(s, k) ? k->next_start_ms : UINT64_MAX;
}

/* One round over all. True if something changed that another may have waited for. */
static bool step_all(struct services *s, uint64_t now_ms)
{
	bool changed = false;

	for (size_t i = 0; i < SERVICES_MAX; i++) {
		struct slot *k = &s->slots[i];
		enum actual before = k->actual;

		if (!k->used || !k->known)
			continue;
		step_slot(s, k, now_ms);
		changed = changed || k->actual != before;
		if (!k->wanted && k->actual == DOWN && !k->running[0]) {
			slot_done(k);
			changed = true;
		}
	}
	return changed;
}

uint64_t services_step(struct services *s, uint64_t now_ms)
{
	uint64_t next = UINT64_MAX;

	for (size_t i = 0; i < SERVICES_MAX && step_all(s, now_ms); i++)
		;
	for (size_t i = 0; i < SERVICES_MAX; i++) {
		const struct slot *k = &s->slots[i];
		uint64_t at = k->used && k->known ? slot_next(s, k, now_ms) : UINT64_MAX;

		if (at < next)
			next = at;
	}
	return next;
}

size_t services_prepare(const struct services *s, struct pollfd *fds, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < SERVICES_MAX && n < max; i++) {
		const struct slot *k = &s->slots[i];

		if (k->used && k->pidfd >= 0)
			fds[n++] = (struct pollfd){ .fd = k->pidfd, .events = POLLIN };
		if (k->used && k->pidfd >= 0 && k->log.pidfd >= 0 && n < max)
			fds[n++] = (struct pollfd){ .fd = k->log.pidfd, .events = POLLIN };
		if (k->used && k->command.fd >= 0 && n < max)
			fds[n++] = (struct pollfd){ .fd = k->command.fd, .events = POLLIN };
	}
	return n;
}

int services_settled(const struct services *s, const char *component, const char **ret_name)
{
	bool settled = true;

	for (size_t i = 0; i < SERVICES_MAX; i++) {
		const struct slot *k = &s->slots[i];

		if (!k->used || !k->known || !str_eq(k->component, component))
			continue;
		if (k->failure && ret_name)
			*ret_name = k->name;
		if (k->failure)
			return k->failure;
		if (!k->wanted)
			settled = false; /* a slot that came to rest is gone */
		else
			settled = settled && is_up(k);
	}
	return settled ? 1 : 0;
}

bool services_are_leaving(const struct services *s, const char *component, const char **ret_name)
{
	for (size_t i = 0; i < SERVICES_MAX; i++) {
		const struct slot *k = &s->slots[i];

		if (!k->used || !str_eq(k->component, component) ||
		    (k->actual != STOPPING && k->actual != KILLING))
			continue;
		if (ret_name)
			*ret_name = k->name;
		return true;
	}
	return false;
}

static int tail_of(const struct services *s, const struct slot *k, struct buf *out)
{
	char name[2 * ID_MAX + 16], chunk[COMMAND_TAIL_MAX];
	struct service_log_place place = log_place(s, k, name);
	struct stat st;
	ssize_t n = 0;
	int fd;

	service_log_settle(&place, &k->log);
	file_name(k, "log", name, sizeof(name));
	fd = s->os->openat(s->os, s->dirfd, name, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	if (s->os->fstat(s->os, fd, &st) == 0) {
		uint64_t size = (uint64_t) st.st_size;

		n = s->os->pread(s->os, fd, chunk, sizeof(chunk), size > sizeof(chunk) ? size - sizeof(chunk) : 0);
	}
	(void) s->os->close(s->os, fd); /* read only */
	if (n > 0)
		tail_add(out, chunk, (size_t) n);
	return n > 0 ? 0 : -ENOENT;
}

void services_log_tail(const struct services *s, const char *component, struct buf *out)
{
	for (int only_failed = 1; only_failed >= 0; only_failed--) {
		for (size_t i = 0; i < SERVICES_MAX; i++) {
			const struct slot *k = &s->slots[i];

			if (k->used && str_eq(k->component, component) && (!only_failed || k->failure) &&
			    tail_of(s, k, out) == 0)
				return;
		}
	}
}

size_t services_count(const struct services *s)
{
	size_t n = 0;

	for (size_t i = 0; i < SERVICES_MAX; i++)
		n += s->slots[i].used;
	return n;
}

bool services_at(const struct services *s, size_t index, struct service_status *ret)
{
	static const char *const words[] = {
		[DOWN] = "stopped",	[RUNNING] = "running",	  [STOPPING] = "stopping",
		[KILLING] = "stopping", [RELOADING] = "starting", [UNIT_BUSY] = "starting",
	};

	for (size_t i = 0; i < SERVICES_MAX; i++) {
		const struct slot *k = &s->slots[i];

		if (!k->used || index-- > 0)
			continue;
		*ret = (struct service_status){
			.component = k->component,
			.name = k->name,
			.state = k->failure			   ? "failing"
				 : is_unit(k) && k->actual == DOWN ? "unit"
								   : words[k->actual],
			.pid = (int) k->process.pid,
			.restarts = k->restarts,
		};
		return true;
	}
	return false;
}
