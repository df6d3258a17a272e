#include "agent/store/supervise.h"

#include "agent/store/agents.h"
#include "agent/store/store.h"
#include "base/backoff.h"
#include "base/err.h"
#include "base/log.h"
#include "os/durable.h"
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum {
	LINE_MAX_BYTES = 256,
	PATH_BYTES = 4096,
	OURS = 4, /* variables */
	STOP_MS = 20 * 1000, /* what an agent may take to leave when it is told to */
	READY_MS =
		15 * 60 * 1000, /* what any agent may take to get to its work; hashing large trees again counts */
	TRIAL_PAUSE_MS = 1000,
	STABLE_MS = 60 * 1000,
	ENVIRONMENT_MAX = 512,
};

struct supervisor {
	const struct os *os;
	const struct supervise_options *o;
	struct agents agents;
	struct agents_choice choice;
	struct process process;
	int fd; /* our end; -1: none */
	char line[LINE_MAX_BYTES];
	size_t line_len;
	bool ready, confirmed;
	uint64_t started_ms;
	struct backoff backoff;
};

static volatile sig_atomic_t stop_signal;

static void on_stop(int sig)
{
	stop_signal = sig;
}

static void on_child(int sig)
{
	(void) sig; /* only to wake the wait */
}

static uint64_t now_ms(const struct supervisor *s)
{
	return s->os->clock_boot_ms(s->os);
}

static const char *name_of(const struct agents_choice *c)
{
	return c->version[0] ? c->version : "packaged";
}

/* --- what is known --- */

static void save(struct supervisor *s)
{
	int fd = dir_open(s->os, AT_FDCWD, s->o->root), r;

	if (fd == -ENOENT)
		return; /* before the node's first start */
	r = fd < 0 ? fd : agents_save(s->os, fd, &s->agents);
	/* An agent must start on a full disk too; then the count lives as long as we do. */
	if (r < 0)
		log_warning("agents-not-saved", "what is known of the agents could not be kept: %s", err_text(r));
	if (fd >= 0)
		(void) s->os->close(s->os, fd); /* a folder */
}

static void load(struct supervisor *s)
{
	int fd = dir_open(s->os, AT_FDCWD, s->o->root), r;

	if (fd == -ENOENT)
		return;
	r = fd < 0 ? fd : agents_load(s->os, fd, &s->agents);
	if (r != 0)
		log_warning("agents-not-read", "what was known of the agents is lost: %s",
			    r < 0 ? err_text(r) : "the file is damaged");
	if (fd >= 0)
		(void) s->os->close(s->os, fd); /* a folder */
}

/* What is broken is no reason to start none; what could not be looked at for a moment is no verdict on an agent. */
static int look(struct supervisor *s, struct store **store, struct node_state *state, struct agents_facts *f)
{
	int r = store_inspect(s->os, s->o->root, store);

	if (r < 0)
		return err_class(r) == ERR_CLASS_RETRY ? r : 0;
	r = store_load(*store, state);
	if (r == 0)
		f->state = state;
	else if (err_class(r) == ERR_CLASS_RETRY)
		return r;
	return agents_look(s->os, store_dirs(*store)->root, f);
}

static int choose(struct supervisor *s)
{
	CLEANUP(store_freep)
	struct store *store = NULL;
	struct agents_facts *f = calloc(1, sizeof(*f));
	struct node_state *state = calloc(1, sizeof(*state));
	int r = f && state ? 0 : -ENOMEM;

	if (r == 0 && access(s->o->agent, X_OK) == 0)
		f->packaged = s->o->version;
	if (r == 0)
		r = look(s, &store, state, f);
	if (r == 0)
		r = agents_choose(f, &s->agents, &s->choice);
	if (state)
		state_done(state);
	free(state);
	free(f);
	return r;
}

/* --- one agent --- */

static char *variable(const char *name, const char *value)
{
	char *text = NULL;

	return asprintf(&text, "%s=%s", name, value) < 0 ? NULL : text;
}

/* Ours after everybody's, so that what a person had in the environment cannot pass for it. */
static int start_with(struct supervisor *s, const char *program, int fd)
{
	const char *argv[] = { program, "run", "--config-dir", s->o->config_dir, NULL };
	const struct agents *a = &s->agents;
	bool failed = a->trial[0] && a->trial_failed;
	const char *env[ENVIRONMENT_MAX];
	char fd_text[8];
	char *ours[OURS];
	size_t count = 0;
	int r = 0;

	(void) snprintf(fd_text, sizeof(fd_text), "%d", SUPERVISE_FD);
	ours[0] = variable("SELFRIGHT_SUPERVISOR_FD", fd_text);
	ours[1] = variable("SELFRIGHT_PACKAGED_AGENT", access(s->o->agent, X_OK) == 0 ? s->o->version : "");
	ours[2] = variable("SELFRIGHT_FAILED_UPDATE", failed ? a->trial : "");
	ours[3] = variable("SELFRIGHT_FAILED_HOW", failed ? a->trial_how : "");
	for (char **e = environ; *e && count < ENVIRONMENT_MAX - OURS - 1; e++)
		if (!str_starts(*e, "SELFRIGHT_SUPERVISOR_FD=") && !str_starts(*e, "SELFRIGHT_PACKAGED_AGENT=") &&
		    !str_starts(*e, "SELFRIGHT_FAILED_"))
			env[count++] = *e;
	for (size_t i = 0; i < OURS; i++) {
		if (!ours[i])
			r = -ENOMEM;
		env[count++] = ours[i];
	}
	env[count] = NULL;
	if (r == 0)
		r = process_start(
			&(struct process_options){
				.argv = argv,
				.env = env,
				.killed_with_parent = true,
				.stdin_fd = -1,
				.stdout_fd = STDOUT_FILENO,
				.stderr_fd = STDERR_FILENO,
				.fds = { { fd, SUPERVISE_FD } },
				.fd_count = 1,
			},
			&s->process);
	for (size_t i = 0; i < OURS; i++)
		free(ours[i]);
	return r;
}

static int start(struct supervisor *s)
{
	char program[PATH_BYTES];
	int sv[2], r;

	if (s->choice.version[0])
		(void) snprintf(program, sizeof(program), "%s/store/%s/%s/bin/selfright-agent", s->o->root,
				AGENTS_COMPONENT, s->choice.version); /* a cut path is not there */
	else
		(void) snprintf(program, sizeof(program), "%s", s->o->agent);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	(void) fcntl(sv[0], F_SETFL, O_NONBLOCK); /* cannot fail on a socket of ours */
	r = start_with(s, program, sv[1]);
	close(sv[1]);
	if (r < 0) {
		close(sv[0]);
		return r;
	}
	s->fd = sv[0];
	s->line_len = 0;
	s->ready = s->confirmed = false;
	s->started_ms = now_ms(s);
	log_notice("agent-started", "version=%s pid=%d%s%s", name_of(&s->choice), (int) s->process.pid,
		   s->choice.update[0] ? " on trial for update=" : "", s->choice.update);
	return 0;
}

static void take_line(struct supervisor *s)
{
	static const char answer[] = "confirmed\n";

	if (str_eq(s->line, "ready")) {
		s->ready = true;
		agents_ready(&s->agents, &s->choice);
		save(s);
	} else if (str_eq(s->line, "confirm")) {
		agents_confirmed(&s->agents, &s->choice);
		save(s);
		s->ready = s->confirmed = true;
		log_notice("agent-confirmed", "version=%s", name_of(&s->choice));
		/* It asks again if this is lost: then it is dead, or we are. */
		(void) !send(s->fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
}

static void hear(struct supervisor *s)
{
	char chunk[LINE_MAX_BYTES];
	ssize_t n = read(s->fd, chunk, sizeof(chunk));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		/* It has closed its end; that it has ended the kernel tells us. */
		close(s->fd);
		s->fd = -1;
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (chunk[i] != '\n') {
			if (s->line_len + 1 < sizeof(s->line))
				s->line[s->line_len++] = chunk[i];
			continue;
		}
		s->line[s->line_len] = '\0';
		s->line_len = 0;
		take_line(s);
	}
}

/* When it must have said what we wait for; UINT64_MAX: never. */
static uint64_t limit_of(const struct supervisor *s)
{
	if (s->choice.update[0] && !s->confirmed)
		return s->started_ms + s->choice.limit_ms;
	return s->ready ? UINT64_MAX : s->started_ms + READY_MS;
}

/* Wait for the signals that are blocked everywhere else, for a word, or for `ms` (UINT64_MAX: for ever). */
static void wait_for(struct supervisor *s, uint64_t ms)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	struct timespec t = { .tv_sec = (time_t) (ms / 1000), .tv_nsec = (long) (ms % 1000) * 1000000 };

	if (process_ppoll(&p, 1, ms == UINT64_MAX ? NULL : &t) > 0 && s->fd >= 0)
		hear(s);
}

static void let_go(struct supervisor *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	s->process = (struct process){ 0 };
}

static void end_it(struct supervisor *s, int sig)
{
	uint64_t end = now_ms(s) + STOP_MS;
	int status;

	process_kill(&s->process, sig);
	while (process_poll(&s->process, &status) == 0) {
		uint64_t now = now_ms(s);

		if (now >= end) {
			process_kill(&s->process, SIGKILL);
			end = now + STOP_MS; /* one in uninterruptible sleep is killed again */
		}
		wait_for(s, 100);
	}
	let_go(s);
}

enum ending { ENDED_STOP, ENDED_HANDOVER, ENDED_BADLY };

/* It runs until it ends, or must not run any longer. */
static enum ending follow(struct supervisor *s)
{
	char how[AGENTS_HOW_SIZE];
	int status = 0;

	for (;;) {
		uint64_t limit, now = now_ms(s);

		if (stop_signal) {
			end_it(s, SIGTERM);
			return ENDED_STOP;
		}
		if (process_poll(&s->process, &status) != 0)
			break;
		limit = limit_of(s);
		if (now >= limit) {
			(void) snprintf(how, sizeof(how), "it did not %s within %" PRIu64 " s",
					s->choice.update[0] ? "confirm that it works" : "get ready",
					(limit - s->started_ms) / 1000);
			log_error("agent-hangs", "version=%s %s", name_of(&s->choice), how);
			end_it(s, SIGKILL);
			agents_ended(&s->agents, &s->choice, how, true);
			save(s);
			return ENDED_BADLY;
		}
		wait_for(s, limit == UINT64_MAX ? UINT64_MAX : limit - now);
	}
	while (s->fd >= 0) { /* what it said last */
		struct pollfd p = { .fd = s->fd, .events = POLLIN };

		if (poll(&p, 1, 0) <= 0)
			break;
		hear(s);
	}
	let_go(s);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SUPERVISE_HANDOVER) {
		log_notice("agent-handed-over", "version=%s", name_of(&s->choice));
		return ENDED_HANDOVER;
	}
	(void) process_status_text(status, how, sizeof(how));
	log_warning("agent-ended", "version=%s %s", name_of(&s->choice), how);
	if (!s->confirmed) {
		agents_ended(&s->agents, &s->choice, how, false);
		save(s);
	}
	return ENDED_BADLY;
}

/* Nothing that waiting helps: this program is not one for this machine. What the node lacks, or its disk, is no verdict. */
static bool is_fatal(int r)
{
	return err_class(r) != ERR_CLASS_RETRY && r != -ETXTBSY && r != -EIO;
}

static void pause_before_next(struct supervisor *s, bool trial)
{
	uint64_t random = 0, end, now = now_ms(s), wait = TRIAL_PAUSE_MS;

	if (now - s->started_ms > STABLE_MS)
		backoff_reset(&s->backoff);
	if (!trial && s->os->random(s->os, &random, sizeof(random)) == 0)
		wait += backoff_next_ms(&s->backoff, random);
	end = now + wait;
	while (!stop_signal && now_ms(s) < end)
		wait_for(s, end - now_ms(s));
}

static int one(struct supervisor *s)
{
	bool trial;
	int r = choose(s);

	if (r < 0 && err_class(r) == ERR_CLASS_RETRY) {
		log_warning("agents-not-looked-at",
			    "which agent to start cannot be found out, and is tried again: %s", err_text(r));
		s->started_ms = now_ms(s);
		pause_before_next(s, true);
		return 0;
	}
	if (r < 0) {
		log_error("no-agent", "no agent can be started: neither %s nor one in %s/store/agent: %s",
			  s->o->agent, s->o->root, err_text(r));
		return r;
	}
	trial = s->choice.update[0] != '\0';
	agents_started(&s->agents, &s->choice);
	save(s);
	r = start(s);
	if (r < 0) {
		char how[AGENTS_HOW_SIZE];

		(void) snprintf(how, sizeof(how), "it cannot be started: %s", err_text(r));
		log_error("agent-not-started", "version=%s %s", name_of(&s->choice), how);
		agents_ended(&s->agents, &s->choice, how, is_fatal(r));
		save(s);
		s->started_ms = now_ms(s);
		pause_before_next(s, trial);
		return 0;
	}
	if (follow(s) == ENDED_BADLY)
		pause_before_next(s, trial);
	return 0;
}

static void handle_signals(void)
{
	struct sigaction a = { .sa_handler = on_stop };
	sigset_t set;

	sigemptyset(&a.sa_mask);
	(void) sigaction(SIGTERM, &a, NULL); /* cannot fail with these arguments */
	(void) sigaction(SIGINT, &a, NULL);
	a.sa_handler = on_child;
	(void) sigaction(SIGCHLD, &a, NULL);
	a.sa_handler = SIG_IGN;
	(void) sigaction(SIGPIPE, &a, NULL);
	/* Delivered only while we wait, so that none falls between a look and the wait. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	(void) sigprocmask(SIG_BLOCK, &set, NULL);
}

int supervise(const struct os *os, const struct supervise_options *o)
{
	struct supervisor *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return -ENOMEM;
	*s = (struct supervisor){
		.os = os, .o = o, .fd = -1, .backoff = { .base_ms = 1000, .cap_ms = 60 * 1000 }
	};
	stop_signal = 0;
	handle_signals();
	load(s);
	while (r == 0 && !stop_signal)
		r = one(s);
	free(s);
	return r;
}
