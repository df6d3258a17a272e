#include "base/err.h"
#include "base/log.h"
#include "json/build.h"
#include "json/json.h"
#include "mqtt/mqtt.h"
#include "os/durable.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/serve.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_audit.h"
#include "server-stub/ingest/db_events.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/repo/repo.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { CERTIFICATE_LIFE_MIN_S = 10, CERTIFICATE_LIFE_MAX_S = 90 * 86400 };
enum { TICK_MS = 1000, FDS = WEB_LISTENERS_MAX + 2 };

int64_t serve_now(const struct serve *s)
{
	return s->os->clock_real(s->os);
}

uint64_t serve_now_ms(const struct serve *s)
{
	return s->os->clock_boot_ms(s->os);
}

const char *serve_public_host(const struct serve *s)
{
	return s->options.name_count ? s->options.names[0] : s->options.listen;
}

int serve_new_id(const struct serve *s, const char *prefix, char ret[static ID_MAX + 1])
{
	uint8_t bytes[8];
	char hex[2 * sizeof(bytes) + 1];
	int r = s->os->random(s->os, bytes, sizeof(bytes));

	if (r < 0)
		return r;
	hex_encode(hex, bytes, sizeof(bytes));
	snprintf(ret, ID_MAX + 1, "%s-%s", prefix, hex);
	return 0;
}

int serve_record(struct serve *s, const char *kind, const char *node, const char *component, const char *text,
		 const char *by, const char *action, const char *detail)
{
	int r = db_event_add(s->db, &(struct db_event){ .at = serve_now(s),
							.kind = kind,
							.node = node,
							.component = component,
							.text = text });

	return r < 0 ? r : db_audit(s->db, serve_now(s), by, action, detail);
}

/* The ports of the last time: nodes know them. */
static void recall_ports(struct serve *s)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	uint64_t https = 0, broker = 0;

	if (file_read(s->os, s->serve_dirfd, "serve.json", 4096, &text) < 0 ||
	    json_parse(text.data, text.len, &json_limits_default, &doc) < 0)
		return;
	if (json_optional_u64(doc, "https_port", 1, 65535, &https) == 0 && s->options.http_port == 0)
		s->options.http_port = (unsigned) https;
	if (json_optional_u64(doc, "broker_port", 1, 65535, &broker) == 0 && s->options.broker_port == 0)
		s->options.broker_port = (unsigned) broker;
}

static int note_ports(struct serve *s)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096);
	int r;

	node_integer(json_build_root(b), "https_port", s->https_port);
	node_integer(json_build_root(b), "broker_port", s->broker_port);
	node_integer(json_build_root(b), "pid", getpid());
	r = json_build_text(b, false, &text);
	return r < 0 ? r : durable_write_file(s->os, s->serve_dirfd, "serve.json", text.data, text.len, 0644);
}

/* One controller per folder. */
static int lock_folder(struct serve *s)
{
	int fd = s->os->openat(s->os, s->serve_dirfd, "lock", O_RDWR | O_CREAT, 0600);

	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		(void) s->os->close(s->os, fd);
		return -EBUSY;
	}
	return 0; /* held until this process ends */
}

static int open_folders(struct serve *s, const struct cli *c)
{
	int dirfd, r;

	if (snprintf(s->serve_dir, sizeof(s->serve_dir), "%s/serve", s->options.dir) >=
		    (int) sizeof(s->serve_dir) ||
	    snprintf(s->repo_dir, sizeof(s->repo_dir), "%s/repo", s->options.dir) >= (int) sizeof(s->repo_dir))
		return cli_fail(c, CLI_FAILED, "%s: the path is too long", s->options.dir);
	dirfd = s->os->openat(s->os, AT_FDCWD, s->options.dir, O_RDONLY | O_DIRECTORY, 0);
	if (dirfd < 0)
		return cli_fail_error(c, dirfd, "%s", s->options.dir);
	r = durable_mkdir(s->os, dirfd, "serve", 0750);
	if (r == 0) {
		s->serve_dirfd = dir_open(s->os, dirfd, "serve");
		s->repo_dirfd = dir_open(s->os, dirfd, "repo");
		r = s->serve_dirfd < 0 ? s->serve_dirfd : s->repo_dirfd < 0 ? s->repo_dirfd : 0;
	}
	(void) s->os->close(s->os, dirfd);
	if (r == -EACCES)
		return cli_fail_error(c, r, "%s belongs to another user; serve runs as its owner", s->options.dir);
	return r < 0 ? cli_fail_error(c, r, "%s: not a fleet's folder; make one with: selfright repo init %s",
				      s->options.dir, s->options.dir)
		     : -1;
}

static int start_web(struct serve *s, const struct cli *c, const char *key, const char *cert)
{
	char socket_path[PATH_MAX];
	struct web_options o = { .os = s->os,
				 .routes = serve_routes,
				 .user = s,
				 .before = serve_before,
				 .upload_dir = repo_upload_dir(s->repo),
				 .max_connections = 2000,
				 .max_per_address = 1000 };
	unsigned port = s->options.http_port;
	int r = web_open(&o, &s->web);

	if (r < 0)
		return cli_fail_error(c, r, "the web server");
	r = port == 0 ? broker_free_port(s->os, s->options.listen, &port) : 0;
	if (r == 0)
		r = web_listen_tls(s->web, s->options.listen, port, key, cert, &s->https_port);
	if (r < 0)
		return cli_fail_error(c, r, "cannot listen on %s port %u; choose another with --http-port",
				      s->options.listen, port);
	if (snprintf(socket_path, sizeof(socket_path), "%s/control.sock", s->serve_dir) >=
	    (int) sizeof(socket_path))
		return cli_fail(c, CLI_FAILED, "%s: the path is too long", s->serve_dir);
	r = web_listen_unix(s->web, socket_path);
	if (r < 0)
		return cli_fail_error(c, r, "cannot listen on %s", socket_path);
	return -1;
}

/* The broker's user may pass the folder: what is in it keeps its own modes. SQLite's side files take them from the first. */
static int open_database(struct serve *s, const char *path)
{
	int fd = s->os->openat(s->os, s->serve_dirfd, "selfright.db", O_RDWR | O_CREAT, 0600);

	if (fd < 0)
		return fd;
	(void) s->os->close(s->os, fd);
	return db_open(path, &s->db);
}

/* What a part failed with, and where it says more, if it came so far. */
static int fail_with_log(const struct cli *c, int r, const char *part, const char *dir, const char *file)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", dir, file) < (int) sizeof(path) && access(path, R_OK) == 0)
		return cli_fail_error(c, r, "%s; see %s", part, path);
	return cli_fail_error(c, r, "%s", part);
}

/* A command may hold the folder for a moment; a signer of its own may be just starting. */
static bool is_on_its_way(const struct serve *s, int r)
{
	return r == -EBUSY || (s->options.no_signer && (r == -ENOENT || r == -ECONNREFUSED));
}

static int start_signer(struct serve *s)
{
	int r = trust_start(s);

	for (unsigned waited = 0; is_on_its_way(s, r) && waited < SIGNER_WAIT_MS && !cli_stopped_by();
	     waited += SIGNER_AGAIN_MS) {
		const struct timespec moment = { 0, SIGNER_AGAIN_MS * 1000 * 1000 };

		if (waited == 0)
			log_notice("signer-waits", "%s",
				   s->options.no_signer
					   ? "no signer answers yet; waiting for it"
					   : "another signer holds the folder; waiting for it to end");
		(void) nanosleep(&moment, NULL); /* shorter is fine */
		r = trust_start(s);
	}
	return r;
}

static int start(struct serve *s, const struct cli *c)
{
	CLEANUP(buf_done)
	struct buf key = BUF_INIT(64 * 1024), cert = BUF_INIT(64 * 1024);
	char path[PATH_MAX];
	int r;

	r = lock_folder(s);
	if (r < 0)
		return cli_fail_error(c, r, "another `selfright serve` runs on %s", s->options.dir);
	recall_ports(s);
	if (snprintf(path, sizeof(path), "%s/selfright.db", s->serve_dir) >= (int) sizeof(path))
		return cli_fail(c, CLI_FAILED, "%s: the path is too long", s->serve_dir);
	r = open_database(s, path);
	/* Who went away while nobody listened did not say so here; the broker tells again who is there. */
	if (r == 0)
		r = db_presence_forget(s->db);
	if (r == 0)
		r = control_begin(s);
	if (r < 0)
		return cli_fail_error(c, r, "%s", path);
	r = start_signer(s);
	if (r == -EBUSY)
		return cli_fail_error(c, r,
				      "another signer holds %s: a command that does not end, or a "
				      "selfright-signer that was started by hand",
				      s->options.dir);
	if (r < 0 && is_on_its_way(s, r))
		return cli_fail(c, CLI_FAILED,
				"no signer answers in %s: start selfright-signer there, or leave --no-signer away",
				s->options.dir);
	if (r == -EACCES && s->options.no_signer)
		return cli_fail_error(c, r, "the signer of %s answers only its own user and that of its --client",
				      s->options.dir);
	if (r < 0)
		return fail_with_log(c, r, "the signer or the published folder", s->options.dir,
				     "signer/signer.log");
	r = trust_server_certificate(s, &key, &cert);
	if (r < 0)
		return cli_fail_error(c, r, "the server's certificate");
	r = start_web(s, c, buf_str(&key), buf_str(&cert));
	if (r >= 0)
		return r;
	s->broker_port = s->options.broker_host ? s->options.external_port : s->options.broker_port;
	if (s->broker_port == 0) {
		r = broker_free_port(s->os, s->options.listen, &s->broker_port);
		if (r < 0)
			return cli_fail_error(c, r, "no free port for the broker on %s", s->options.listen);
	}
	r = broker_start(s);
	if (r < 0)
		return fail_with_log(c, r, "the broker", s->serve_dir, "mosquitto/mosquitto.log");
	r = broker_connect(s);
	if (r < 0)
		return cli_fail_error(c, r, "the connection to the broker");
	r = note_ports(s);
	if (r < 0)
		return cli_fail_error(c, r, "%s/serve.json", s->serve_dir);
	return -1;
}

static int loop(struct serve *s, const struct cli *c, int stop_fd)
{
	while (!cli_stopped_by()) {
		struct pollfd fds[FDS];
		size_t web_count, mqtt_at = 0, stop_at;
		int timeout = TICK_MS;

		web_count = web_poll_prepare(s->web, fds, &timeout);
		mqtt_at = web_count;
		mqtt_poll_prepare(s->mqtt, &fds[mqtt_at], &timeout);
		stop_at = mqtt_at + 1;
		fds[stop_at] = (struct pollfd){ .fd = stop_fd, .events = POLLIN };
		control_shorten(s, &timeout);
		looks_shorten(s, &timeout);
		notify_shorten(s, &timeout);
		if (poll(fds, stop_at + 1, timeout < 0 ? TICK_MS : timeout) < 0 && errno != EINTR)
			return cli_fail_error(c, -errno, "poll");
		if (cli_stopped_by())
			break;
		mqtt_poll_done(s->mqtt, fds[mqtt_at].revents);
		broker_settle(s);
		web_poll_done(s->web);
		/* Reports that came by HTTPS at once: one wait for the disk, then their answers. */
		broker_settle(s);
		if (s->posted || s->goes_on) {
			s->posted = s->goes_on = false;
			web_wake(s->web);
		}
		broker_tick(s);
		trust_tick(s);
		trust_certificate_tick(s);
		looks_tick(s);
		notify_tick(s);
		control_tick(s);
	}
	return CLI_OK;
}

static void finish(struct serve *s)
{
	web_close(s->web);
	looks_done(s);
	notify_done(s);
	control_done(s);
	broker_stop(s);
	trust_stop(s);
	db_close(s->db);
	if (s->serve_dirfd >= 0)
		close(s->serve_dirfd);
	if (s->repo_dirfd >= 0)
		close(s->repo_dirfd);
}

static int run(const struct cli *c, const struct serve_options *options)
{
	CLEANUP(buf_done)
	struct buf fleet = BUF_INIT(ID_MAX);
	struct serve s = { .os = &os_posix,
			   .options = *options,
			   .kept = { .period_ms = options->canary_s * 1000 },
			   .serve_dirfd = -1,
			   .repo_dirfd = -1,
			   .signer_backoff = { .base_ms = 500, .cap_ms = 30000 },
			   .broker_backoff = { .base_ms = 500, .cap_ms = 30000 },
			   .publish_backoff = { .base_ms = 1000, .cap_ms = 30000 } };
	int stop_fd = -1, r;

	r = cli_fleet_name(c, &fleet);
	if (r >= 0)
		return r;
	snprintf(s.fleet, sizeof(s.fleet), "%s", buf_str(&fleet));
	s.started_ms = serve_now_ms(&s);
	r = cli_watch_stop(&stop_fd);
	if (r < 0)
		return cli_fail_error(c, r, "signals");
	r = open_folders(&s, c);
	if (r < 0)
		r = start(&s, c);
	if (r < 0) {
		if (c->json)
			printf("{\"ready\":true,\"https_port\":%u,\"broker_port\":%u,\"pid\":%d}\n", s.https_port,
			       s.broker_port, (int) getpid());
		else
			printf("ready: fleet %s, https://%s:%u/, mqtt %s:%u\n", s.fleet, serve_public_host(&s),
			       s.https_port, s.options.broker_host ? s.options.broker_host : serve_public_host(&s),
			       s.broker_port);
		fflush(stdout);
		r = loop(&s, c, stop_fd);
		log_notice("serve-stops", "ends by signal %d", cli_stopped_by());
	}
	finish(&s);
	return r;
}

/* "HOST:PORT" or "[ADDRESS]:PORT", split in place. */
static bool split_broker(char *text, const char **ret_host, unsigned *ret_port)
{
	char *colon = strrchr(text, ':');
	uint64_t port;

	if (!colon || parse_u64(colon + 1, &port) < 0 || port == 0 || port > 65535)
		return false;
	*colon = '\0';
	if (text[0] == '[' && colon > text + 1 && colon[-1] == ']') {
		colon[-1] = '\0';
		text++;
	}
	*ret_host = text;
	*ret_port = (unsigned) port;
	return text[0] != '\0';
}

int cmd_serve(int argc, char **argv)
{
	static const char *listen_on = "127.0.0.1", *broker, *broker_for_nodes, *broker_user, *broker_password;
	static uint64_t http_port, broker_port, canary, certificate_life, collections_mib;
	static bool verbose, no_signer;
	static struct cli_values names;
	static const struct cli_option options[] = {
		{ .name = "listen",
		  .value = "ADDRESS",
		  .help = "address for nodes (default 127.0.0.1; 0.0.0.0 for all)",
		  .text = &listen_on },
		{ .name = "name",
		  .value = "NAME",
		  .help = "name or address nodes use to reach this machine (repeat)",
		  .values = &names },
		{ .name = "http-port",
		  .value = "N",
		  .help = "HTTPS port (default: as before, else a free one)",
		  .number = &http_port },
		{ .name = "broker-port",
		  .value = "N",
		  .help = "MQTT port (default: as before, else a free one)",
		  .number = &broker_port },
		{ .name = "broker",
		  .value = "HOST:PORT",
		  .help = "use this broker instead of a private mosquitto",
		  .text = &broker },
		{ .name = "broker-for-nodes",
		  .value = "HOST:PORT",
		  .help = "where nodes reach it, if that is another address (join files name it)",
		  .text = &broker_for_nodes },
		{ .name = "broker-user", .value = "NAME", .help = "user there", .text = &broker_user },
		{ .name = "broker-password-file",
		  .value = "FILE",
		  .help = "and the password",
		  .text = &broker_password },
		{ .name = "broker-check",
		  .value = "TIME",
		  .help = "how often the broker is asked whether it still keeps what is retained (default 5m)",
		  .seconds = &canary },
		{ .name = "no-signer",
		  .help = "a selfright-signer runs there already, as a user of its own (its --client is ours)",
		  .flag = &no_signer },
		{ .name = "certificate-life",
		  .value = "TIME",
		  .help = "how long nodes' certificates are valid (default and at most 90d); they renew them at "
			  "two thirds",
		  .seconds = &certificate_life },
		{ .name = "collections-max",
		  .value = "MIB",
		  .help = "take no more files of nodes (node collect) than this in all (default 10240)",
		  .number = &collections_mib },
		{ .name = "verbose", .help = "log what an operator rarely needs", .flag = &verbose },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "serve --dir DIR [--listen ADDRESS] [--name NAME]",
		.summary = "the controller: publishes, follows the nodes, runs the rollouts",
		.details = "It starts the signer and a private mosquitto, and ends them with itself. It stays in "
			   "the\n"
			   "foreground; SIGTERM or Ctrl-C ends it, and a new start goes on where it was.",
		.example = "selfright serve --dir /srv/fleet --listen 0.0.0.0 --name updates.example.org",
		.options = options,
	};
	struct serve_options o = { 0 };
	char *broker_text = NULL, *nodes_text = NULL;
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (http_port > 65535 || broker_port > 65535)
		return cli_fail(&c, CLI_USAGE, "a port is at most 65535");
	if (names.count > SERVE_NAMES_MAX)
		return cli_fail(&c, CLI_USAGE, "at most %d names", SERVE_NAMES_MAX);
	if ((strcmp(listen_on, "0.0.0.0") == 0 || strcmp(listen_on, "::") == 0) && names.count == 0)
		return cli_fail(&c, CLI_USAGE,
				"with --listen %s also say how nodes reach this machine: --name NAME", listen_on);
	if (certificate_life &&
	    (certificate_life < CERTIFICATE_LIFE_MIN_S || certificate_life > CERTIFICATE_LIFE_MAX_S))
		return cli_fail(&c, CLI_USAGE, "a node's certificate lives for %d seconds to %d days",
				CERTIFICATE_LIFE_MIN_S, CERTIFICATE_LIFE_MAX_S / 86400);
	if (canary > CANARY_SELDOM_MS / 1000)
		return cli_fail(&c, CLI_USAGE, "--broker-check takes at most %d hours",
				CANARY_SELDOM_MS / 3600000);
	o.canary_s = canary;
	if (collections_mib > UINT32_MAX)
		return cli_fail(&c, CLI_USAGE, "--collections-max takes MiB, at most %u", UINT32_MAX);
	o.collections_max_bytes = collections_mib * 1024 * 1024;
	o.certificate_life_s = certificate_life;
	o.dir = c.dir;
	o.listen = listen_on;
	o.no_signer = no_signer;
	o.http_port = (unsigned) http_port;
	o.broker_port = (unsigned) broker_port;
	o.broker_user = broker_user;
	o.broker_password_file = broker_password;
	for (size_t i = 0; i < names.count; i++)
		o.names[i] = names.items[i];
	o.name_count = names.count;
	if (broker) {
		broker_text = strdup(broker);
		if (!broker_text || !split_broker(broker_text, &o.broker_host, &o.external_port)) {
			free(broker_text);
			return cli_fail(&c, CLI_USAGE, "--broker takes HOST:PORT, e.g. broker.example.org:8883");
		}
	}
	o.nodes_host = o.broker_host;
	o.nodes_port = o.external_port;
	if (broker_for_nodes) {
		nodes_text = strdup(broker_for_nodes);
		if (!broker || !nodes_text || !split_broker(nodes_text, &o.nodes_host, &o.nodes_port)) {
			free(broker_text);
			free(nodes_text);
			return cli_fail(&c, CLI_USAGE,
					"--broker-for-nodes takes HOST:PORT, and goes with --broker");
		}
	}
	log_set(NULL, NULL, verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	log_set_program("selfright");
	r = run(&c, &o);
	free(broker_text);
	free(nodes_text);
	return r;
}
