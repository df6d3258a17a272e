#include "base/err.h"
#include "base/log.h"
#include "fetch/relay.h"
#include "fetch/tls.h"
#include "json/json.h"
#include "model/collection.h"
#include "model/enrolment.h"
#include "os/durable.h"
#include "mqtt/mqtt.h"
#include "server-stub/cli/broker_files.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/serve.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/ingest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	GRACE_MS = 3000,
	PEM_MAX = 64 * 1024,
	CONFIG_MAX = 16 * 1024,
	ACCESS_MAX = 16 * 1024 * 1024,
	READY_MS = 5000,
	STABLE_MS = 60000,
	LOG_MAX = 1024 * 1024, /* of mosquitto.log, and of the one before it */
	RETRY_OWN_MS = 2000, /* between attempts, at most: nothing is in the way to our own broker, */
	RETRY_OUTSIDE_MS = 5000, /* and at any other we are one client, for whom a whole fleet waits */
	COMPARE_MS = 15000, /* how long a start waits for a broker before it signs without having heard it */
};

#define CONTROLLER BROKER_CONTROLLER
#define CANARY "canary" /* we to ourselves */
#define BROKER_USER "mosquitto"

static const char *const programs[] = { "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto" };
static const char *const password_tools[] = { "/usr/bin/mosquitto_passwd", "/usr/local/bin/mosquitto_passwd" };

static const char *first_program(const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (access(list[i], X_OK) == 0)
			return list[i];
	return NULL;
}

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static in_port_t *port_of(union address *a)
{
	return a->any.sa_family == AF_INET ? &a->v4.sin_port : &a->v6.sin6_port;
}

/* 0 in `port`: whatever the system gives. */
static int try_port(const union address *address, socklen_t len, unsigned port, unsigned *ret)
{
	union address a = *address;
	int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), r = 0;

	if (fd < 0)
		return -errno;
	*port_of(&a) = htons((uint16_t) port);
	if (bind(fd, &a.any, len) < 0 || getsockname(fd, &a.any, &len) < 0)
		r = -errno;
	else
		*ret = ntohs(*port_of(&a));
	close(fd);
	return r;
}

int broker_free_port(const struct os *os, const char *address, unsigned *ret)
{
	enum { LOWEST = 10000, COUNT = 20000, TRIES = 100 }; /* Linux gives from 32768 on */
	union address a = { 0 };
	socklen_t len;

	if (inet_pton(AF_INET, address, &a.v4.sin_addr) == 1) {
		a.v4.sin_family = AF_INET;
		len = sizeof(a.v4);
	} else if (inet_pton(AF_INET6, address, &a.v6.sin6_addr) == 1) {
		a.v6.sin6_family = AF_INET6;
		len = sizeof(a.v6);
	} else {
		return -EINVAL;
	}
	for (int i = 0; i < TRIES; i++) {
		uint32_t random = 0;

		if (os->random(os, &random, sizeof(random)) < 0)
			break;
		if (try_port(&a, len, LOWEST + random % COUNT, ret) == 0)
			return 0;
	}
	return try_port(&a, len, 0, ret);
}

/* Who the broker becomes when root starts it. */
struct owner {
	bool drops;
	uid_t uid;
	gid_t gid;
};

static int find_owner(struct owner *ret)
{
	const struct passwd *p;

	*ret = (struct owner){ false, 0, 0 };
	if (geteuid() != 0)
		return 0;
	p = getpwnam(BROKER_USER);
	if (!p) {
		log_error("broker-user", "the user " BROKER_USER " does not exist: install the package mosquitto");
		return -ENOENT;
	}
	*ret = (struct owner){ true, p->pw_uid, p->pw_gid };
	return 0;
}

/* A file only the broker and we may read. */
static int write_private(struct serve *s, int dirfd, const char *name, const struct owner *owner, const void *data,
			 size_t len)
{
	int r = durable_write_file(s->os, dirfd, name, data, len, owner->drops ? 0640 : 0600);

	if (r == 0 && owner->drops)
		r = s->os->fchownat(s->os, dirfd, name, 0, owner->gid);
	return r;
}

static int copy_tls(struct serve *s, int dirfd, const struct owner *owner)
{
	static const char *const names[] = { "server.key", "server.crt", "ca.crt" };
	int tls = dir_open(s->os, s->serve_dirfd, "tls"), r = 0;

	if (tls < 0)
		return tls;
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(names); i++) {
		CLEANUP(buf_done)
		struct buf pem = BUF_INIT(PEM_MAX);

		r = file_read(s->os, tls, names[i], PEM_MAX, &pem);
		if (r == 0)
			r = write_private(s, dirfd, names[i], owner, pem.data, pem.len);
	}
	(void) s->os->close(s->os, tls);
	return r;
}

/* A password of this start only, kept hashed on disk. */
static int write_password(struct serve *s, int dirfd, const struct owner *owner)
{
	CLEANUP(buf_done)
	struct buf line = BUF_INIT(256), output = BUF_INIT(4096);
	uint8_t bytes[16];
	char path[PATH_MAX];
	const char *tool = first_program(password_tools, ARRAY_LEN(password_tools));
	const char *argv[] = { tool, "-U", path, NULL };
	const struct process_options o = { .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
	int r, status = 0;

	if (!tool) {
		log_error("broker-missing", "mosquitto_passwd is not installed: apt-get install mosquitto");
		return -ENOENT;
	}
	r = s->os->random(s->os, bytes, sizeof(bytes));
	if (r < 0)
		return r;
	hex_encode(s->broker_password, bytes, sizeof(bytes));
	r = buf_addf(&line, CONTROLLER ":%s\n", s->broker_password);
	if (r == 0)
		r = durable_write_file(s->os, dirfd, "passwords", line.data, line.len, 0600);
	if (r < 0)
		return r;
	if (snprintf(path, sizeof(path), "%s/mosquitto/passwords", s->serve_dir) >= (int) sizeof(path))
		return -ENAMETOOLONG;
	r = process_run(&o, 30000, &status, &output);
	if (r == 0 && status != 0)
		r = -ERR_CHILD;
	if (r < 0) {
		char quoted[400];

		log_error("broker-password", "mosquitto_passwd failed: %s: %s", err_text(r),
			  log_quote(quoted, sizeof(quoted), buf_str(&output)));
		return r;
	}
	if (owner->drops)
		r = s->os->fchownat(s->os, dirfd, "passwords", 0, owner->gid);
	/* The tool may have made the file anew with another mode. */
	if (r == 0 && fchmodat(dirfd, "passwords", owner->drops ? 0640 : 0600, 0) < 0)
		r = -errno;
	return r;
}

static int add_removed(void *user, const char *node)
{
	return string_list_add(user, node);
}

/* What the generators need; `removed` is filled for the access list only. */
static int plan(const struct serve *s, const char *folder, struct string_list *removed, struct broker_plan *ret)
{
	static const struct string_list none;

	*ret = (struct broker_plan){
		.fleet = s->fleet,
		.folder = folder,
		.listen = s->options.listen,
		.port = s->broker_port,
		.controller_listen = "127.0.0.1",
		.controller_port = s->control_port,
		.user = BROKER_USER,
		.nodes = &none,
		.removed = removed ? removed : &none,
	};
	return removed ? db_removed(s->db, add_removed, removed) : 0;
}

static int write_access_list(struct serve *s, int dirfd, const struct owner *owner)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ACCESS_MAX);
	struct string_list removed = { 0 };
	struct broker_plan p;
	int r = plan(s, "", &removed, &p);

	if (r == 0)
		r = broker_mosquitto_access(&p, &text);
	string_list_done(&removed);
	return r < 0 ? r : write_private(s, dirfd, "acl", owner, text.data, text.len);
}

static int write_config(struct serve *s, int dirfd, const struct owner *owner)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CONFIG_MAX);
	char folder[PATH_MAX];
	struct broker_plan p;
	int r;

	if (snprintf(folder, sizeof(folder), "%s/mosquitto", s->serve_dir) >= (int) sizeof(folder))
		return -ENAMETOOLONG;
	r = plan(s, folder, NULL, &p);
	if (r == 0)
		r = broker_mosquitto_settings(&p, &text);
	return r < 0 ? r : write_private(s, dirfd, "mosquitto.conf", owner, text.data, text.len);
}

/* The folders on the way are ours; those above them are the administrator's, who is told. */
static int check_reachable(struct serve *s, const struct owner *owner)
{
	CLEANUP(buf_done)
	struct buf output = BUF_INIT(4096);
	char path[PATH_MAX];
	const char *argv[] = { "/usr/bin/test", "-r", path, NULL };
	const struct process_options o = {
		.argv = argv, .user = BROKER_USER, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1
	};
	struct stat st;
	int status = 0, r;

	if (!owner->drops)
		return 0;
	if (stat(s->options.dir, &st) == 0 && !(st.st_mode & S_IXOTH))
		(void) chmod(s->options.dir,
			     (st.st_mode & 07777) | S_IXOTH); /* the check below tells if it did not work */
	if (fstat(s->serve_dirfd, &st) == 0 && !(st.st_mode & S_IXOTH))
		(void) fchmod(s->serve_dirfd, (st.st_mode & 07777) | S_IXOTH); /* as above */
	if (snprintf(path, sizeof(path), "%s/mosquitto/mosquitto.conf", s->serve_dir) >= (int) sizeof(path))
		return -ENAMETOOLONG;
	r = process_run(&o, 10000, &status, &output);
	if (r < 0)
		return r;
	if (status == 0)
		return 0;
	log_error("broker-folder",
		  "the user " BROKER_USER " cannot read %s: let it pass the folders above (chmod o+x)", path);
	return -EACCES;
}

/* A broker that outlived a controller that was killed would keep the port. */
static void end_orphan(struct serve *s)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(128);
	unsigned long long ticks;
	uint64_t now_ticks;
	int pid;

	if (file_read(s->os, s->serve_dirfd, "mosquitto.pid", 128, &text) < 0 ||
	    sscanf(buf_str(&text), "%d %llu", &pid, &ticks) != 2 || pid <= 1 ||
	    process_start_time(pid, &now_ticks) < 0 || now_ticks != ticks)
		return;
	log_notice("broker-orphan", "a broker of an earlier start is ended: pid=%d", pid);
	(void) kill(pid, SIGTERM); /* it may have ended just now */
	for (int i = 0; i < 60 && process_start_time(pid, &now_ticks) == 0 && now_ticks == ticks; i++)
		(void) usleep(50000);
	if (process_start_time(pid, &now_ticks) == 0 && now_ticks == ticks)
		(void) kill(pid, SIGKILL); /* as above */
}

static bool port_answers(unsigned port)
{
	const struct sockaddr_in a = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t) port),
				       .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool answers = fd >= 0 && connect(fd, (const struct sockaddr *) &a, sizeof(a)) == 0;

	if (fd >= 0)
		close(fd);
	return answers;
}

static int launch(struct serve *s)
{
	CLEANUP(buf_done)
	struct buf note = BUF_INIT(128);
	char config[PATH_MAX];
	const char *argv[] = { first_program(programs, ARRAY_LEN(programs)), "-c", config, NULL };
	struct process_options o = { .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .die_with_parent = true };
	uint64_t ticks = 0;
	int dirfd, r;

	if (snprintf(config, sizeof(config), "%s/mosquitto/mosquitto.conf", s->serve_dir) >= (int) sizeof(config))
		return -ENAMETOOLONG;
	dirfd = dir_open(s->os, s->serve_dirfd, "mosquitto");
	if (dirfd < 0)
		return dirfd;
	o.stderr_fd = s->os->openat(s->os, dirfd, "mosquitto.log", O_WRONLY | O_CREAT | O_APPEND, 0640);
	(void) s->os->close(s->os, dirfd);
	if (o.stderr_fd < 0)
		return o.stderr_fd;
	r = process_start(&o, &s->broker);
	(void) s->os->close(s->os, o.stderr_fd);
	if (r < 0)
		return r;
	s->broker_since_ms = serve_now_ms(s);
	if (process_start_time(s->broker.pid, &ticks) == 0 &&
	    buf_addf(&note, "%d %llu\n", (int) s->broker.pid, (unsigned long long) ticks) == 0 &&
	    durable_write_file(s->os, s->serve_dirfd, "mosquitto.pid", note.data, note.len, 0644) < 0)
		log_warning("broker-note", "a broker left behind by a crash would not be recognised");
	return 0;
}

int broker_start(struct serve *s)
{
	struct owner owner;
	int dirfd, r, status;

	if (s->options.broker_host)
		return 0;
	if (!first_program(programs, ARRAY_LEN(programs))) {
		log_error("broker-missing",
			  "mosquitto is not installed: apt-get install mosquitto, or give --broker HOST:PORT");
		return -ENOENT;
	}
	r = find_owner(&owner);
	if (r < 0)
		return r;
	end_orphan(s);
	r = durable_mkdir(s->os, s->serve_dirfd, "mosquitto", 0750);
	if (r < 0)
		return r;
	dirfd = dir_open(s->os, s->serve_dirfd, "mosquitto");
	if (dirfd < 0)
		return dirfd;
	r = durable_mkdir(s->os, dirfd, "data", 0700);
	if (r == 0 && owner.drops)
		r = s->os->fchownat(s->os, dirfd, "data", owner.uid, owner.gid);
	if (r == 0 && owner.drops)
		r = s->os->fchownat(s->os, s->serve_dirfd, "mosquitto", 0, owner.gid);
	if (r == 0)
		r = broker_free_port(s->os, "127.0.0.1", &s->control_port);
	if (r == 0)
		r = copy_tls(s, dirfd, &owner);
	if (r == 0)
		r = write_password(s, dirfd, &owner);
	if (r == 0)
		r = write_access_list(s, dirfd, &owner);
	if (r == 0)
		r = write_config(s, dirfd, &owner);
	(void) s->os->close(s->os, dirfd);
	if (r == 0)
		r = check_reachable(s, &owner);
	if (r == 0)
		r = launch(s);
	if (r < 0)
		return r;
	for (int i = 0; i < READY_MS / 20; i++) {
		if (port_answers(s->control_port))
			return 0;
		if (process_poll(&s->broker, &status) != 0) {
			s->broker = (struct process){ 0 };
			log_error("broker-ended",
				  "mosquitto does not start; it says why in %s/mosquitto/mosquitto.log",
				  s->serve_dir);
			return -ERR_CHILD;
		}
		(void) usleep(20000);
	}
	log_error("broker-silent", "mosquitto runs but does not listen");
	return -ERR_DEADLINE;
}

/* Some of what our own broker reads. Somebody else's is theirs to tell. */
static int write_again(struct serve *s, int (*write)(struct serve *s, int dirfd, const struct owner *owner))
{
	struct owner owner;
	int dirfd, r;

	if (s->options.broker_host)
		return 0;
	r = find_owner(&owner);
	if (r < 0)
		return r;
	dirfd = dir_open(s->os, s->serve_dirfd, "mosquitto");
	if (dirfd < 0)
		return dirfd;
	r = write(s, dirfd, &owner);
	(void) s->os->close(s->os, dirfd);
	return r;
}

int broker_access_changed(struct serve *s)
{
	int r = write_again(s, write_access_list);

	/* One that is away reads the list when it starts. */
	if (r == 0 && s->broker.pid > 0 && kill(s->broker.pid, SIGHUP) < 0)
		r = -errno;
	return r;
}

int broker_certificates_changed(struct serve *s)
{
	int r = write_again(s, copy_tls);

	if (r < 0 || s->broker.pid == 0)
		return r; /* one that is away reads them when it starts */
	/* SIGHUP would make it read its own certificate again, but not the CAs whose nodes it takes. */
	broker_settle(s);
	process_end(&s->broker, GRACE_MS);
	s->broker = (struct process){ 0 };
	r = launch(s);
	s->broker_retry_ms = serve_now_ms(s); /* else broker_tick() starts it */
	s->connect_again_ms = serve_now_ms(s) + 300;
	return r;
}

void broker_stop(struct serve *s)
{
	if (s->db)
		broker_settle(s);
	free(s->acks);
	s->acks = NULL;
	mqtt_close(s->mqtt);
	s->mqtt = NULL;
	relay_stop(s->relay);
	s->relay = NULL;
	tls_free(s->tls);
	s->tls = NULL;
	if (s->broker.pid > 0) {
		process_end(&s->broker, GRACE_MS);
		(void) s->os->unlinkat(s->os, s->serve_dirfd, "mosquitto.pid", 0); /* a stale note is recognised */
	}
}

/*
 * As logrotate's copytruncate: the broker writes its standard error there, by append, and cannot be told to open
 * another. A line that comes between the copy and the cut is lost.
 */
static void limit_log(struct serve *s)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4 * LOG_MAX);
	struct stat st;
	int dirfd = dir_open(s->os, s->serve_dirfd, "mosquitto"), fd, r;

	if (dirfd < 0)
		return; /* nothing was ever started */
	if (s->os->fstatat(s->os, dirfd, "mosquitto.log", &st) == 0 && st.st_size > LOG_MAX) {
		r = file_read(s->os, dirfd, "mosquitto.log", text.max, &text);
		if (r == 0)
			r = durable_write_file(s->os, dirfd, "mosquitto.log.1", text.data, text.len, 0640);
		/* One that cannot be kept is cut all the same: the disk is for the fleet. */
		fd = s->os->openat(s->os, dirfd, "mosquitto.log", O_WRONLY | O_NOFOLLOW, 0);
		if (fd >= 0) {
			(void) s->os->ftruncate(s->os, fd, 0); /* with the next tick else */
			(void) s->os->close(s->os, fd);
		}
		if (r < 0)
			log_warning("broker-log", "mosquitto.log was cut and not kept: %s", err_text(r));
	}
	(void) s->os->close(s->os, dirfd);
}

/* All of what is retained goes out again, in slices. */
static void refill(struct serve *s, const char *why)
{
	log_warning("broker-forgot", "%s: everything is published again", why);
	canary_stop(&s->kept);
	s->refill = true;
	s->refilled[0] = '\0';
}

/* The timestamp stands for all: it is retained at every broker that retains anything. */
static void watch_kept(struct serve *s, uint64_t now)
{
	struct canary before = s->kept;
	char topic[TOPIC_MAX];

	switch (canary_step(&s->kept, now)) {
	case CANARY_ASK:
		snprintf(topic, sizeof(topic), "selfright/v1/%s/timestamp", s->fleet);
		if (!s->mqtt || mqtt_ask_retained(s->mqtt, topic) < 0)
			s->kept = before; /* with the next tick, or the connection ends */
		break;
	case CANARY_LOST:
		before = s->kept;
		refill(s, "the broker lost what it retained");
		s->kept = before; /* how often it did */
		break;
	case CANARY_NOTHING:
		break;
	}
}

void broker_tick(struct serve *s)
{
	uint64_t now = serve_now_ms(s), jitter = 0;
	char text[64];
	int status, r;

	if (!s->options.broker_host) {
		limit_log(s);
		if (s->broker.pid > 0 && process_poll(&s->broker, &status) != 0) {
			s->broker = (struct process){ 0 };
			log_error("broker-ended", "mosquitto %s; it is started again",
				  process_status_text(status, text, sizeof(text)));
			if (now - s->broker_since_ms > STABLE_MS)
				backoff_reset(&s->broker_backoff);
			(void) s->os->random(s->os, &jitter,
					     sizeof(jitter)); /* without it all wait equally long */
			s->broker_retry_ms = now + backoff_next_ms(&s->broker_backoff, jitter);
		}
		if (s->broker.pid == 0 && now >= s->broker_retry_ms) {
			r = launch(s);
			if (r < 0) {
				log_error("broker-failed", "mosquitto does not start: %s", err_text(r));
				s->broker_retry_ms = now + backoff_next_ms(&s->broker_backoff, now);
			} else {
				s->connect_again_ms = now + 300;
			}
		}
		/* Our own broker on loopback: no need to wait out a backoff made for networks. */
		if (s->mqtt && !mqtt_is_connected(s->mqtt) && s->broker.pid > 0 && s->connect_again_ms &&
		    now >= s->connect_again_ms && port_answers(s->control_port)) {
			mqtt_retry_now(s->mqtt);
			s->connect_again_ms = now + 2000;
		}
	}
	/* Not before what it kept was looked at: that would be the end of it. */
	if (s->refill && s->past_is_over && s->mqtt && mqtt_is_connected(s->mqtt) && s->repo) {
		trust_refill(s);
		if (!s->refill)
			canary_start(&s->kept, now);
	}
	watch_kept(s, now);
}

/* --- as a client of it --- */

/*
 * The session outlives a controller, and what nodes said meanwhile is delivered before anything that comes after the
 * connection. When our own message is back, the past is over.
 */
static void send_canary(struct serve *s)
{
	s->past_is_over = false;
	snprintf(s->canary, sizeof(s->canary), "%" PRIu64, serve_now_ms(s));
	broker_publish(s, CANARY, s->canary, strlen(s->canary), false);
}

bool broker_is_compared(struct serve *s)
{
	if (s->compared)
		return true;
	if (s->past_is_over) {
		s->compared = true;
	} else if (serve_now_ms(s) - s->started_ms >= COMPARE_MS) {
		log_warning("broker-not-compared",
			    "no broker: what it keeps is compared with what is published here once it is back");
		s->compared = true;
	}
	return s->compared;
}

/* What was kept there when we came. Publications of our own come back as well, without the flag. */
static bool take_kept(struct serve *s, const char *topic, const void *payload, size_t len, bool retained)
{
	char prefix[TOPIC_MAX];

	snprintf(prefix, sizeof(prefix), "selfright/v1/%s/", s->fleet);
	if (!str_starts(topic, prefix))
		return false;
	topic += strlen(prefix);
	if (strcmp(topic, "timestamp") != 0 && strcmp(topic, "announce") != 0)
		return false;
	if (!retained && len == 0)
		refill(s, "somebody swept what the broker retains"); /* what we publish there is never empty */
	if (!retained || len == 0)
		return true;
	canary_heard(&s->kept, serve_now_ms(s));
	if (topic[0] == 't')
		restore_look_at_timestamp(s, payload, len);
	else
		restore_look_at_announcement(s, payload, len);
	return true;
}

static bool take_canary(struct serve *s, const char *topic, const void *payload, size_t len)
{
	char own[TOPIC_MAX];

	snprintf(own, sizeof(own), "selfright/v1/%s/" CANARY, s->fleet);
	if (!str_eq(topic, own))
		return false;
	if (len == strlen(s->canary) && memcmp(payload, s->canary, len) == 0)
		s->past_is_over = true;
	return true;
}

static void on_state(void *user, bool connected, const char *reason)
{
	struct serve *s = user;
	char quoted[200];

	canary_stop(&s->kept);
	if (connected) {
		log_notice("broker-connected", "connected to the broker");
		if (s->relay)
			relay_proved(s->relay);
		s->refill = true;
		s->refilled[0] = '\0';
		send_canary(s);
		s->connect_again_ms = 0;
	} else {
		log_warning("broker-lost", "no broker: %s; nodes fetch by HTTPS meanwhile",
			    log_quote(quoted, sizeof(quoted), reason ? reason : ""));
		s->connect_again_ms = serve_now_ms(s) + 500;
	}
}

/* "<node>/<kind>" behind the prefix, split into the two. */
static bool split_topic(const struct serve *s, const char *topic, char node[static ID_MAX + 1],
			const char **ret_kind)
{
	char prefix[TOPIC_MAX];
	const char *slash;
	size_t len;

	snprintf(prefix, sizeof(prefix), "selfright/v1/%s/node/", s->fleet);
	if (!str_starts(topic, prefix))
		return false;
	topic += strlen(prefix);
	slash = strchr(topic, '/');
	len = slash ? (size_t) (slash - topic) : 0;
	if (len == 0 || len > ID_MAX)
		return false;
	memcpy(node, topic, len);
	node[len] = '\0';
	*ret_kind = slash + 1;
	return guard_id(node);
}

static void acknowledge(struct serve *s)
{
	for (size_t i = 0; i < s->ack_count; i++) {
		CLEANUP(buf_done)
		struct buf ack = BUF_INIT(16 * 1024);
		char topic[TOPIC_MAX];

		if (report_sign_ack(s, &s->acks[i], &ack) < 0)
			continue; /* said there; the node asks again */
		snprintf(topic, sizeof(topic), "node/%s/ack", s->acks[i].node);
		broker_publish(s, topic, ack.data, ack.len, false);
	}
	s->ack_count = 0;
}

void broker_begin_batch(struct serve *s)
{
	if (s->batch)
		return;
	s->batch = db_batch_begin(s->db) == 0; /* without one, the report's own transaction is durable */
	s->batches += s->batch;
}

void broker_settle(struct serve *s)
{
	if (!s->batch)
		return;
	s->batch = false;
	if (db_batch_end(s->db) < 0) {
		/* Nothing of it is acknowledged, so it comes again. */
		log_error("ingest-failed", "%zu reports were not stored: %s", s->ack_count, db_error(s->db));
		s->ack_count = 0;
		s->failed_batch = s->batches;
	}
	acknowledge(s);
}

/* Into the batch of what came at once: the disk is waited for once, before the first acknowledgement leaves. */
static void take_report(struct serve *s, const char *node, const void *data, size_t len)
{
	struct ingest_outcome o;
	bool refused = false;

	if (s->ack_count == SERVE_BATCH_MAX)
		broker_settle(s);
	broker_begin_batch(s);
	if (report_store(s, node, data, len, "mqtt", &o, &refused) < 0 || !o.acknowledge)
		return;
	s->acks[s->ack_count++] = o.ack;
	if (!s->batch)
		acknowledge(s);
}

static void take_lease(struct serve *s, const char *node, const void *data, size_t len)
{
	CLEANUP(buf_done)
	struct buf grant = BUF_INIT(16 * 1024);
	const char *refusal = NULL;
	char topic[TOPIC_MAX];

	if (lease_answer(s, node, data, len, &grant, &refusal) < 0 || grant.len == 0)
		return;
	snprintf(topic, sizeof(topic), "node/%s/grant", node);
	broker_publish(s, topic, grant.data, grant.len, false);
}

static void take_put(struct serve *s, const char *node, const void *data, size_t len)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(PUT_ANSWER_MAX);
	char topic[TOPIC_MAX];

	if (collect_take(s, node, data, len, &text) < 0 || text.len == 0)
		return; /* a failure of ours is said; the node sends it again */
	snprintf(topic, sizeof(topic), "node/%s/blob", node);
	broker_publish(s, topic, text.data, text.len, false);
}

/* A node whose road is the broker alone renews its certificate by it. The first one comes by HTTPS: who asks has none. */
static void take_enrolment(struct serve *s, const char *node, const void *data, size_t len)
{
	CLEANUP(buf_done)
	struct buf answer = BUF_INIT(2 * PEM_MAX);
	char topic[TOPIC_MAX], text[256];
	unsigned status = 0;

	if (len > ENROLMENT_MAX_BYTES ||
	    enrol_take(s, node, data, len, "mqtt", &answer, &status, text, sizeof(text)) < 0)
		return; /* said there; the node asks again */
	if (status != 200 && status != 202 && status != 403)
		return; /* no request, or one too many: nobody waits for the answer */
	snprintf(topic, sizeof(topic), "node/%s/certificate", node);
	broker_publish(s, topic, answer.data, answer.len, false);
}

/*
 * Our own broker starts with us, and nobody was connected to it before: who is kept or queued as online there said so
 * to the one before it, which may have been killed before it could tell of the end. Who is there now says so again.
 */
static bool is_stale(const struct serve *s, const void *payload, size_t len, bool retained)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;

	return (retained || !s->past_is_over) && !s->options.broker_host &&
	       json_parse(payload, len, &json_limits_default, &doc) == 0 &&
	       json_bool(json_get(doc, "online"), false);
}

static void on_message(void *user, const char *topic, const void *payload, size_t len, bool retained)
{
	struct serve *s = user;
	char node[ID_MAX + 1];
	const char *kind;
	int r = 0;

	if (take_canary(s, topic, payload, len) || take_kept(s, topic, payload, len, retained) ||
	    !split_topic(s, topic, node, &kind) || len == 0)
		return;
	if (strcmp(kind, "report") == 0)
		take_report(s, node, payload, len);
	else if (strcmp(kind, "lease") == 0 && s->past_is_over) { /* nobody waits for the answers of yesterday */
		broker_settle(s); /* a place is on the disk before the answer leaves */
		take_lease(s, node, payload, len);
	} else if (strcmp(kind, "enrol") == 0 && s->past_is_over) {
		broker_settle(s); /* what is kept of it is on the disk before the answer leaves */
		take_enrolment(s, node, payload, len);
	} else if (strcmp(kind, "get") == 0 && s->past_is_over)
		files_answer(s, node, payload, len);
	else if (strcmp(kind, "put") == 0 && s->past_is_over)
		take_put(s, node, payload, len);
	else if (strcmp(kind, "event") == 0)
		r = ingest_event(s->db, node, payload, len, serve_now(s), NULL);
	else if (strcmp(kind, "presence") == 0 && !is_stale(s, payload, len, retained))
		r = ingest_presence(s->db, node, payload, len, serve_now(s));
	if (r == 0 && !retained && s->past_is_over && strcmp(kind, "report") == 0)
		r = db_node_heard(s->db, node, serve_now(s));
	if (r < 0)
		log_error("ingest-failed", "news of a node was not stored: node=%s error=%s", node,
			  db_error(s->db));
}

void broker_publish_data(struct serve *s, const char *topic, const void *data, size_t len)
{
	char whole[TOPIC_MAX];

	if (!s->mqtt)
		return;
	snprintf(whole, sizeof(whole), "selfright/v1/%s/%s", s->fleet, topic);
	if (mqtt_publish(s->mqtt, whole, data, len, 0, false) < 0)
		log_debug("broker-data", "a block was not sent; the node asks again");
}

static int read_password(struct serve *s, struct buf *ret)
{
	int r = file_read(s->os, AT_FDCWD, s->options.broker_password_file, 1024, ret);

	while (r == 0 && ret->len > 0 && ret->data[ret->len - 1] == '\n')
		ret->data[--ret->len] = '\0';
	return r;
}

static int make_tls(void *user, void **ret_ssl_ctx)
{
	struct serve *s = user;

	return tls_context(s->tls, ret_ssl_ctx);
}

static void explain(void *user, char *out, size_t size, bool *ret_refused)
{
	struct serve *s = user;
	struct relay_state road = { .step = RELAY_IDLE };

	(void) ret_refused; /* a fleet waits for us: soon again, whatever it was */
	relay_state(s->relay, &road);
	if (tls_reason(s->tls)[0])
		(void) snprintf(out, size, "%s", tls_reason(s->tls));
	else if (road.failed && (road.step != RELAY_ENDED || mqtt_is_connected(s->mqtt)))
		(void) snprintf(out, size, "%s", road.reason);
}

/*
 * Somebody else's broker is reached through the relay, as nodes do: its name may resolve slowly, and nothing of that may
 * hold up this loop. Its certificate is of the fleet's CA, as its nodes expect it.
 */
static int open_road(struct serve *s, struct mqtt_options *o)
{
	char ca[PATH_MAX];
	const struct relay_options road = {
		.os = s->os, .dirfd = s->serve_dirfd, .host = o->host, .port = o->port
	};
	const struct tls_options tls = { .host = o->host, .port = o->port, .ca_file = ca };
	int r;

	if (snprintf(ca, sizeof(ca), "%s/tls/ca.crt", s->serve_dir) >= (int) sizeof(ca))
		return -ENAMETOOLONG;
	r = tls_new(&tls, &s->tls);
	if (r == 0)
		r = relay_start(&road, &s->relay);
	if (r < 0)
		return r;
	o->road_path = relay_path(s->relay);
	o->make_tls = make_tls;
	o->free_tls = tls_context_free;
	o->explain = explain;
	return 0;
}

int broker_connect(struct serve *s)
{
	static const char *const filters[] = { "node/+/report", "node/+/event", "node/+/presence", "node/+/lease",
					       "node/+/get",	"node/+/put",	"node/+/enrol",	   "timestamp",
					       "announce",	CANARY };
	CLEANUP(buf_done)
	struct buf password = BUF_INIT(1024);
	char topics[ARRAY_LEN(filters)][TOPIC_MAX], client[ID_MAX + 24];
	const char *subscriptions[ARRAY_LEN(topics)];
	bool external = s->options.broker_host != NULL;
	struct mqtt_options o = {
		.os = s->os,
		.host = external ? s->options.broker_host : "127.0.0.1",
		.port = external ? s->options.external_port : s->control_port,
		.client_id = client,
		.username = external ? s->options.broker_user : CONTROLLER,
		.password = external ? NULL : s->broker_password,
		.keepalive_s = 30,
		.session_expiry_s = 3600,
		.retry_cap_ms = external ? RETRY_OUTSIDE_MS : RETRY_OWN_MS,
		.subscriptions = subscriptions,
		.subscription_count = ARRAY_LEN(topics),
		.on_state = on_state,
		.on_message = on_message,
		.user = s,
	};
	int r;

	s->acks = calloc(SERVE_BATCH_MAX, sizeof(*s->acks));
	if (!s->acks)
		return -ENOMEM;
	snprintf(client, sizeof(client), "selfright-%s", s->fleet);
	for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
		snprintf(topics[i], sizeof(topics[i]), "selfright/v1/%s/%s", s->fleet, filters[i]);
		subscriptions[i] = topics[i];
	}
	if (external) {
		r = open_road(s, &o);
		if (r < 0)
			return r;
		if (s->options.broker_password_file) {
			r = read_password(s, &password);
			if (r < 0)
				return r;
			o.password = buf_str(&password);
		}
	}
	return mqtt_open(&o, &s->mqtt);
}

void broker_publish(struct serve *s, const char *topic, const void *data, size_t len, bool retain)
{
	char whole[TOPIC_MAX];
	int r;

	if (!s->mqtt)
		return;
	snprintf(whole, sizeof(whole), "selfright/v1/%s/%s", s->fleet, topic);
	r = mqtt_publish(s->mqtt, whole, data, len, 1, retain);
	if (r < 0 && retain)
		s->refill = true; /* once the connection is back */
}
