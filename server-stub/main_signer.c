/*
 * selfright-signer - the process that holds the online role keys (DESIGN.md section 4).
 *
 * One thread, one socket, its own poll loop. It speaks to its own user and root
 * only; all rules are in signer/signer.c.
 */
#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "json/build.h"
#include "os/frame.h"
#include "os/os.h"
#include "os/process.h"
#include "os/unixsock.h"
#include "server-stub/signer/keys.h"
#include "server-stub/signer/signer.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 32, EXIT_BUSY = 3, SIGNER_CA_OWNED_MAX = 99 };

static const char usage[] =
	"Usage: selfright-signer --dir DIR [--user USER] [--client USER] [--quiet] [--roles-per-minute N] "
	"[--control-per-minute "
	"N]\n"
	"\n"
	"Hold the online role keys of the fleet in DIR and sign for `selfright serve` and `selfright repo`\n"
	"through DIR/signer/signer.sock. Normally `selfright serve` starts it.\n"
	"\n"
	"  --dir DIR               the folder made by `selfright repo init` (or $SELFRIGHT_DIR)\n"
	"  --user USER             become this user after taking the folder's keys (started as root)\n"
	"  --client USER           answer this user too, the controller's; with --user\n"
	"  --roles-per-minute N    most role signatures and certificates in a minute (600)\n"
	"  --control-per-minute N  most acknowledgements and grants in a minute (60000)\n"
	"  --quiet                 say warnings and errors only\n"
	"  --version, --help\n"
	"\n"
	"Signals: SIGHUP opens signer.log again; SIGTERM and SIGINT end it.\n"
	"Exit codes: 0 ended by a signal, 1 failed, 2 wrong usage, 3 another signer holds the folder.\n"
	"\n"
	"Example: selfright-signer --dir /var/lib/selfright-fleet --user selfright-signer\n";

static volatile sig_atomic_t stop_asked, reopen_asked;

static void on_signal(int sig)
{
	if (sig == SIGHUP)
		reopen_asked = 1;
	else
		stop_asked = 1;
}

struct connection {
	struct frame_conn frames;
	uid_t uid;
	bool open;
};

/* Who may ask besides root and ourselves. */
struct client {
	bool known;
	uid_t uid;
	gid_t gid;
};

struct server {
	struct signer *signer;
	int listener;
	struct client client;
	struct connection connections[CONNECTIONS_MAX];
};

struct arguments {
	const char *dir, *user, *client;
	bool quiet;
	uint64_t roles_per_minute, control_per_minute;
};

/* Negative: go on; else the exit code. */
static int parse_arguments(int argc, char **argv, struct arguments *a)
{
	a->dir = getenv("SELFRIGHT_DIR");
	for (int i = 1; i < argc; i++) {
		uint64_t *number = str_eq(argv[i], "--roles-per-minute")     ? &a->roles_per_minute
				   : str_eq(argv[i], "--control-per-minute") ? &a->control_per_minute
									     : NULL;
		const char **text = str_eq(argv[i], "--dir")	  ? &a->dir
				    : str_eq(argv[i], "--user")	  ? &a->user
				    : str_eq(argv[i], "--client") ? &a->client
								  : NULL;

		if (str_eq(argv[i], "--help"))
			return fputs(usage, stdout) < 0 ? 1 : 0;
		if (str_eq(argv[i], "--version"))
			return printf("selfright-signer %s\n", SELFRIGHT_VERSION) < 0 ? 1 : 0;
		if (str_eq(argv[i], "--quiet")) {
			a->quiet = true;
			continue;
		}
		if ((!text && !number) || i + 1 == argc) {
			(void) fprintf(stderr, "selfright-signer: %s %s; see --help\n",
				       text || number ? "no value behind" : "unknown argument", argv[i]);
			return 2;
		}
		i++;
		if (text)
			*text = argv[i];
		if (number && (parse_u64(argv[i], number) < 0 || *number == 0 || *number > 1000000)) {
			(void) fprintf(stderr, "selfright-signer: %s is no number from 1 to 1000000\n", argv[i]);
			return 2;
		}
	}
	if (!a->dir || !*a->dir) {
		(void) fputs("selfright-signer: name the fleet's folder with --dir DIR; see --help\n", stderr);
		return 2;
	}
	if (a->client && !a->user) {
		(void) fputs("selfright-signer: --client is for a signer that becomes another user, with --user\n",
			     stderr);
		return 2;
	}
	return -1;
}

static const struct passwd *user_named(const char *name)
{
	const struct passwd *p = getpwnam(name);

	if (!p)
		log_error("signer-user", "there is no user %s", name);
	return p;
}

/*
 * Give the key folder to `user` and become it: nothing but this process is to read the keys. Who may ask besides
 * (`client`) gets as far as the socket, by its group.
 */
static int become(const char *dir, const struct passwd *p, const struct client *client)
{
	char path[4096];
	int fd, r = 0, with_parent = 0;
	pid_t parent = getppid();

	if (geteuid() == p->pw_uid)
		return 0;
	(void) snprintf(path, sizeof(path), "%s/signer/.", dir);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fchown(fd, p->pw_uid, client->known ? client->gid : p->pw_gid) < 0 ||
	    fchmod(fd, client->known ? 0710 : 0700) < 0)
		r = -errno;
	if (r >= 0) {
		static const char *const own[] = { "state",  "signer.log", "lock",
						   "ca.key", "ca.crt",	   SIGNER_CA_ISSUING };
		static const char *const roles[] = { "rollouts", "support",   "inventory",
						     "snapshot", "timestamp", "control" };

		for (size_t i = 0; i < ARRAY_LEN(own); i++)
			if (fchownat(fd, own[i], p->pw_uid, p->pw_gid, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
				r = -errno;
		for (unsigned n = 2; n <= SIGNER_CA_OWNED_MAX; n++) {
			static const char *const endings[] = { "key", "crt" };

			for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
				char name[32];

				signer_ca_file(name, n, endings[i]);
				if (fchownat(fd, name, p->pw_uid, p->pw_gid, AT_SYMLINK_NOFOLLOW) < 0 &&
				    errno != ENOENT)
					r = -errno;
			}
		}
		for (size_t i = 0; i < ARRAY_LEN(roles); i++)
			for (int n = 1; n <= 99; n++) {
				char name[64];

				(void) snprintf(name, sizeof(name), "%s-%d.pem", roles[i], n);
				if (fchownat(fd, name, p->pw_uid, p->pw_gid, AT_SYMLINK_NOFOLLOW) < 0 &&
				    errno != ENOENT)
					r = -errno;
			}
	}
	if (fd >= 0)
		(void) close(fd); /* only names below it were changed */
	/* Another user's process is no longer ended with its parent, unless it asks for that again. */
	if (r >= 0 && prctl(PR_GET_PDEATHSIG, &with_parent) < 0)
		r = -errno;
	if (r >= 0 &&
	    (setgroups(client->known ? 1 : 0, &client->gid) < 0 || setgid(p->pw_gid) < 0 || setuid(p->pw_uid) < 0))
		r = -errno;
	if (r >= 0 && with_parent && prctl(PR_SET_PDEATHSIG, with_parent) < 0)
		r = -errno;
	if (r >= 0 && with_parent && getppid() != parent)
		r = -ESRCH;
	if (r < 0)
		log_error("signer-user", "cannot become %s: %s", p->pw_name, err_text(r));
	return r;
}

/* Keys never reach a core file, a debugger of the same user, or a program started from here. */
static void confine(void)
{
	const struct rlimit none = { 0, 0 };

	(void) setrlimit(RLIMIT_CORE, &none); /* where it is refused the next line still holds */
	(void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* not there on odd kernels: nothing else to do */
	(void) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); /* the same */
	(void) umask(077);
}

static void answer_error(struct connection *c, uint32_t id, int r, const char *sentence)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096);

	node_integer(json_build_root(b), "code", -r);
	node_string(json_build_root(b), "sentence", sentence);
	if (json_build_text(b, false, &text) < 0 ||
	    frame_send(&c->frames, SIGNER_ERROR, id, text.data, text.len) < 0) {
		frame_conn_done(&c->frames); /* it learns from the closed socket */
		c->open = false;
	}
}

static void serve_requests(struct server *s, struct connection *c)
{
	struct frame f;
	int r;

	while (c->open && (r = frame_next(&c->frames, &f)) != 0) {
		CLEANUP(buf_done)
		struct buf answer = BUF_INIT(SIGNER_MAX_BYTES);
		uint32_t id;

		if (r < 0) {
			frame_conn_done(&c->frames);
			c->open = false;
			return;
		}
		id = f.id;
		r = signer_handle(s->signer, c->uid, f.type, f.data, f.len, &answer);
		if (r >= 0)
			r = frame_send(&c->frames, SIGNER_OK, id, answer.data, answer.len);
		if (r < 0)
			answer_error(c, id, r, signer_reason(s->signer));
	}
}

static void accept_one(struct server *s)
{
	uid_t uid = (uid_t) -1;
	pid_t pid;
	int fd = unixsock_accept(s->listener, &uid, &pid);

	if (fd < 0)
		return;
	if (uid != 0 && uid != geteuid() && !(s->client.known && uid == s->client.uid)) {
		log_warning("signer-peer", "uid=%u pid=%d turned away", (unsigned) uid, (int) pid);
		(void) close(fd); /* nothing was written to it */
		return;
	}
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		if (!s->connections[i].open) {
			s->connections[i].uid = uid;
			s->connections[i].open = true;
			frame_conn_init(&s->connections[i].frames, fd, SIGNER_MAX_BYTES);
			return;
		}
	log_warning("signer-peer", "more than %d connections", CONNECTIONS_MAX);
	(void) close(fd); /* the peer sees the end and tries again */
}

static void pump(struct server *s, struct connection *c, short events)
{
	if (frame_pump(&c->frames, events) < 0) {
		/* What came whole before the end is not answered: nobody reads it any more. */
		frame_conn_done(&c->frames);
		c->open = false;
		return;
	}
	serve_requests(s, c);
}

static int loop(struct server *s)
{
	sigset_t blocked;

	/* Signals arrive only while polling, so none is missed between the test and the wait. */
	(void) sigemptyset(&blocked);
	(void) sigaddset(&blocked, SIGTERM);
	(void) sigaddset(&blocked, SIGINT);
	(void) sigaddset(&blocked, SIGHUP);
	(void) sigprocmask(SIG_BLOCK, &blocked, NULL);
	while (!stop_asked) {
		struct pollfd fds[CONNECTIONS_MAX + 1] = { { .fd = s->listener, .events = POLLIN } };

		for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
			struct connection *c = &s->connections[i];

			fds[i + 1].fd = c->open ? c->frames.fd : -1;
			fds[i + 1].events =
				(short) (POLLIN | (c->open && frame_wants_write(&c->frames) ? POLLOUT : 0));
		}
		if (process_ppoll(fds, ARRAY_LEN(fds), NULL) < 0 && errno != EINTR)
			return -errno;
		if (reopen_asked) {
			reopen_asked = 0;
			if (signer_reopen_log(s->signer) < 0)
				log_error("signer-log", "%s", signer_reason(s->signer));
			continue;
		}
		for (size_t i = 0; i < CONNECTIONS_MAX; i++)
			if (s->connections[i].open && fds[i + 1].revents)
				pump(s, &s->connections[i], fds[i + 1].revents);
		if (fds[0].revents & POLLIN)
			accept_one(s);
	}
	return 0;
}

static int run(const struct arguments *a, const struct client *client)
{
	struct server *s = calloc(1, sizeof(*s));
	const struct signer_options options = {
		.os = &os_posix,
		.dir = a->dir,
		.roles_per_minute = a->roles_per_minute,
		.control_per_minute = a->control_per_minute,
	};
	char path[4096];
	int r;

	if (!s)
		return -ENOMEM;
	s->listener = -1;
	s->client = *client;
	r = signer_open(&options, &s->signer);
	if (r < 0)
		goto out;
	(void) snprintf(path, sizeof(path), "%s/signer/signer.sock", a->dir);
	s->listener = unixsock_listen(path, client->known ? 0660 : 0600);
	if (s->listener < 0)
		r = s->listener;
	else if (client->known && chown(path, (uid_t) -1, client->gid) < 0)
		r = -errno;
	if (r < 0) {
		log_error("signer-listen", "cannot listen at %s: %s", path, err_text(r));
		goto out;
	}
	log_notice("signer-ready", "dir=%s", a->dir);
	r = loop(s);
	(void) unlink(path); /* a socket left behind is replaced by the next signer */
out:
	if (s->listener >= 0)
		(void) close(s->listener); /* a socket */
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		if (s->connections[i].open)
			frame_conn_done(&s->connections[i].frames);
	signer_close(s->signer);
	free(s);
	return r;
}

int main(int argc, char **argv)
{
	const struct sigaction action = { .sa_handler = on_signal }, ignore = { .sa_handler = SIG_IGN };
	struct client client = { .known = false };
	struct arguments a = { 0 };
	int r;

	r = parse_arguments(argc, argv, &a);
	if (r >= 0)
		return r;
	log_set_program("selfright-signer");
	log_set(NULL, NULL, a.quiet ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO);
	confine();
	/* These fail only for bad signal numbers. */
	(void) sigaction(SIGTERM, &action, NULL);
	(void) sigaction(SIGINT, &action, NULL);
	(void) sigaction(SIGHUP, &action, NULL);
	(void) sigaction(SIGPIPE, &ignore, NULL);
	if (a.client) {
		const struct passwd *p = user_named(a.client);

		if (!p)
			return 1;
		client = (struct client){ .known = true, .uid = p->pw_uid, .gid = p->pw_gid };
	}
	if (a.user) {
		const struct passwd *p = user_named(a.user);

		r = p ? become(a.dir, p, &client) : -ENOENT;
	} else {
		r = 0;
	}
	if (r >= 0)
		r = run(&a, &client);
	return r == -EBUSY ? EXIT_BUSY : r < 0 ? 1 : 0;
}
