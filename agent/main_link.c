/*
 * selfright-link - the process that speaks to the outside for the engine.
 *
 * Started by the engine with its end of a socketpair as descriptor 3; it holds the
 * transport key, never the identity, and nothing it brings is trusted.
 */
#include "agent/link/doctor.h"
#include "agent/link/link.h"
#include "agent/link/protocol.h"
#include "agent/local/ca.h"
#include "agent/local/config.h"
#include "agent/local/pair.h"
#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "conf/conf.h"
#include "json/json.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	PATH_BYTES = 4096,
	HOLD_MAX_S = 3600,
	LOG_BURST = 30, /* lines of one event at once, */
	LOG_PER_MINUTE = 20, /* and then: a broker may send what is worth a line as often as it likes */
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void) sig;
	stop = 1;
}

static void usage(FILE *out)
{
	fputs("usage: selfright-link --config-dir DIR [--time-floor SECONDS] [--next-pair] [--next-ca]\n"
	      "       selfright-link --config-dir DIR --doctor [--connected [--tried JSON]] [--json]\n"
	      "                      [--time-floor SECONDS]\n"
	      "\n"
	      "Started by selfright-agent with a socket as descriptor 3; not for use by hand.\n"
	      "\n"
	      "  --config-dir DIR      the folder of agent.yaml\n"
	      "  --time-floor SECONDS  it is not earlier than that, in seconds since 1970\n"
	      "  --next-pair           use the renewed key and certificate, while they are there\n"
	      "  --next-ca             trust only the CAs that are to be trusted from now on\n"
	      "  --doctor              walk the roads and say what fails (selfright-agent doctor)\n"
	      "  --connected           the agent's own connection stands: open no second one\n"
	      "  --tried JSON          what that connection's link told of it\n"
	      "  --json                the doctor's words as JSON\n"
	      "  --help                print this\n",
	      out);
}

/* What the process could still do if it were taken over: as little as we can say from here. */
static int confine(void)
{
	const struct rlimit no_core = { 0, 0 };
	struct sigaction action = { .sa_handler = on_signal };

	if (setrlimit(RLIMIT_CORE, &no_core) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	if (sigaction(SIGTERM, &action, NULL) < 0 || sigaction(SIGINT, &action, NULL) < 0)
		return -errno;
	action.sa_handler = SIG_IGN;
	if (sigaction(SIGPIPE, &action, NULL) < 0)
		return -errno;
	return 0;
}

static int read_boot_id(char out[static 37])
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(64);
	int r = file_read(&os_posix, AT_FDCWD, "/proc/sys/kernel/random/boot_id", b.max, &b);

	if (r < 0)
		return r;
	snprintf(out, 37, "%.36s", buf_str(&b));
	return 0;
}

struct arguments {
	const char *config_dir, *tried;
	int64_t time_floor;
	bool doctor, connected, json, help, next_pair, next_ca;
};

static int run_link(struct link_options *o, const char *folder)
{
	int r;

	o->outbox_dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (o->outbox_dirfd < 0) {
		r = -errno;
		log_error("link-outbox", "%s: %s", folder, err_text(r));
		return r;
	}
	r = link_run(o);
	if (r < 0)
		log_error("link-ended", "%s", err_text(r));
	(void) close(o->outbox_dirfd); /* a folder opened for reading */
	return r;
}

static size_t order_roads(const struct config *config, enum link_road ret[static LINK_ROAD_COUNT])
{
	static const char *const words[] = {
		[LINK_ROAD_HTTPS] = "https", [LINK_ROAD_MQTT] = "mqtt", [LINK_ROAD_FILE] = "file"
	};
	size_t count = 0;

	for (size_t i = 0; i < config->roads.count; i++)
		for (size_t k = 0; k < ARRAY_LEN(words); k++)
			if (str_eq(config->roads.items[i], words[k]) && config_road_is_open(config, words[k]))
				ret[count++] = (enum link_road) k;
	return count;
}

static int run_doctor(const struct link_options *o, const struct arguments *a)
{
	CLEANUP(json_freep)
	struct json *tried = NULL;
	struct doctor_options d = {
		.link = o,
		.url_proxy = getenv("https_proxy"),
		.connected = a->connected,
		.json = a->json,
		.out = stdout,
	};

	/* What cannot be read is as good as not asked for. */
	if (a->tried && json_parse(a->tried, strlen(a->tried), &json_limits_default, &tried) == 0)
		d.tried = tried;
	return doctor_run(&d);
}

static int run(const struct config *config, const struct arguments *a)
{
	CLEANUP(buf_done)
	struct buf ca = BUF_INIT(CA_FILE_MAX);
	char ca_file[PATH_BYTES], cert_file[PATH_BYTES], key_file[PATH_BYTES], next_cert_file[PATH_BYTES],
		next_key_file[PATH_BYTES], outbox[PATH_BYTES], boot_id[37] = "";
	enum link_road roads[LINK_ROAD_COUNT];
	struct link_options o = {
		.os = &os_posix,
		.engine_fd = LINK_FD,
		.fleet = config->fleet,
		.node = config->node,
		.boot_id = boot_id,
		.urls = (const char *const *) config->urls.items,
		.url_count = config->urls.count,
		.mirrors = (const char *const *) config->mirrors.items,
		.mirror_count = config->mirrors.count,
		.folders = (const char *const *) config->folders.items,
		.folder_count = config->folders.count,
		.redirect_hosts = (const char *const *) config->redirect_hosts.items,
		.redirect_host_count = config->redirect_hosts.count,
		.roads = roads,
		.road_count = order_roads(config, roads),
		.broker_host = config->broker.host,
		.broker_port = config->broker.port,
		.broker_addresses = (const char *const *) config->broker.addresses.items,
		.broker_address_count = config->broker.addresses.count,
		.broker_proxy = config->broker.host ? config_proxy(config, config->broker.host) : NULL,
		.alpn = config->broker.alpn,
		.time_floor = a->time_floor,
		/* Nobody who answers in a server's place makes this node deaf for longer than between two polls. */
		.hold_max_ms =
			(config->poll.without_broker_s < HOLD_MAX_S ? config->poll.without_broker_s : HOLD_MAX_S) *
			1000,
		.keepalive_s = config->broker.keepalive_s,
		.retry_base_ms = config->broker.retry_base_s * 1000,
		.retry_cap_ms = config->broker.retry_cap_s * 1000,
		.refused_cap_ms = config->broker.refused_cap_s * 1000,
		.after_stable_ms = config->broker.after_stable_s * 1000,
		.ca_file = ca_file,
		.cert_file = cert_file,
		.key_file = key_file,
		.stop = &stop,
	};
	int r;

	snprintf(ca_file, sizeof(ca_file), "%s/%s", config->dir, a->next_ca ? CA_NEXT_FILE : CA_FILE);
	snprintf(cert_file, sizeof(cert_file), "%s/" PAIR_CERTIFICATE, config->dir);
	snprintf(key_file, sizeof(key_file), "%s/" PAIR_KEY, config->dir);
	snprintf(next_cert_file, sizeof(next_cert_file), "%s/" PAIR_NEXT_CERTIFICATE, config->dir);
	snprintf(next_key_file, sizeof(next_key_file), "%s/" PAIR_NEXT_KEY, config->dir);
	if (a->next_pair) {
		o.next_cert_file = next_cert_file;
		o.next_key_file = next_key_file;
	}
	o.waits = !a->next_pair && access(cert_file, F_OK) < 0 && errno == ENOENT;
	snprintf(outbox, sizeof(outbox), "%s/outbox", config->root);
	r = file_read(&os_posix, AT_FDCWD, ca_file, ca.max, &ca);
	if (r < 0) {
		log_error("link-ca", "%s: %s", ca_file, err_text(r));
		return r;
	}
	o.ca_pem = buf_str(&ca);
	r = read_boot_id(boot_id);
	if (r < 0)
		log_warning("link-boot-id", "presence has no boot id: %s", err_text(r));
	if (a->doctor)
		return run_doctor(&o, a);
	return run_link(&o, outbox);
}

static const struct option options[] = {
	{ "config-dir", required_argument, NULL, 'c' },
	{ "time-floor", required_argument, NULL, 't' },
	{ "next-pair", no_argument, NULL, 'n' },
	{ "next-ca", no_argument, NULL, 'a' },
	{ "doctor", no_argument, NULL, 'd' },
	{ "connected", no_argument, NULL, 'u' },
	{ "tried", required_argument, NULL, 'r' },
	{ "json", no_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static bool parse_arguments(int argc, char **argv, struct arguments *a)
{
	uint64_t floor = 0;
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case 'c':
			a->config_dir = optarg;
			break;
		case 't':
			if (parse_u64(optarg, &floor) < 0 || floor > INT64_MAX)
				return false;
			a->time_floor = (int64_t) floor;
			break;
		case 'n':
			a->next_pair = true;
			break;
		case 'a':
			a->next_ca = true;
			break;
		case 'd':
			a->doctor = true;
			break;
		case 'u':
			a->connected = true;
			break;
		case 'r':
			a->tried = optarg;
			break;
		case 'j':
			a->json = true;
			break;
		case 'h':
			a->help = true;
			break;
		default:
			return false;
		}
	}
	return optind == argc && (a->config_dir || a->help);
}

int main(int argc, char **argv)
{
	struct config config = { 0 };
	struct conf_error error = { "" };
	struct arguments a = { .config_dir = NULL };
	struct stat st;
	int r;

	if (!parse_arguments(argc, argv, &a)) {
		usage(stderr);
		return 2;
	}
	if (a.help) {
		usage(stdout);
		return 0;
	}
	log_set_program("selfright-link");
	log_limit(LOG_BURST, LOG_PER_MINUTE);
	if (!a.doctor && (fstat(LINK_FD, &st) < 0 || !S_ISSOCK(st.st_mode))) {
		fputs("selfright-link: descriptor 3 is no socket; selfright-agent starts this program\n", stderr);
		return 2;
	}
	r = confine();
	if (r < 0) {
		log_error("link-confine", "%s", err_text(r));
		return 1;
	}
	r = config_load(a.config_dir, &config, &error);
	if (r < 0) {
		log_error("link-config", "%s", error.text[0] ? error.text : err_text(r));
		return 1;
	}
	r = run(&config, &a);
	config_done(&config);
	return r != 0 ? 1 : 0;
}
