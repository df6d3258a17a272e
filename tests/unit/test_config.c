/* config.h: every complaint names file and line; the defaults are those of the contract. */
#include "agent/local/config.h"
#include "base/err.h"
#include "base/timestamp.h"
#include "conf/conf.h"
#include "os/os.h"
#include "zone/zone.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the four above */
#include <cmocka.h>

#define MINIMAL "fleet: demo\nnode: n1\n"

static char dir[64];

static void put(const char *name, const char *text, mode_t mode)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static int setup(void **state)
{
	char path[256];

	(void) state;
	snprintf(dir, sizeof(dir), "/tmp/selfright-config-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/components.d", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/vars.d", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/collect.d", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = { "components.d/web.yaml",
					     "components.d/We b.yaml",
					     "components.d/readme.txt",
					     "vars.d/a.yaml",
					     "vars.d/b.yaml",
					     "agent.yaml",
					     "collect.d/logs.yaml",
					     "components.d",
					     "collect.d",
					     "vars.d",
					     "" };
	char path[256];

	(void) state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		(void) remove(path);
	}
	return 0;
}

static void refused(const char *agent, const char *where, const char *what)
{
	struct config c = { .keep_versions = 77 };
	struct conf_error e = { "" };

	put("agent.yaml", agent, 0644);
	assert_int_equal(config_load(dir, &c, &e), -ERR_CONFIG);
	if (!strstr(e.text, where) || !strstr(e.text, what))
		fail_msg("'%s' should name %s and say '%s'", e.text, where, what);
	assert_int_equal(c.keep_versions, 77); /* untouched */
}

static void loads(struct config *c)
{
	struct conf_error e = { "" };
	int r = config_load(dir, c, &e);

	if (r < 0)
		fail_msg("%s", e.text);
}

static void test_defaults(void **state)
{
	struct config c = { 0 };

	(void) state;
	put("agent.yaml", MINIMAL, 0644);
	loads(&c);
	assert_string_equal(c.fleet, "demo");
	assert_string_equal(c.node, "n1");
	assert_string_equal(c.root, "/var/lib/selfright");
	assert_string_equal(c.run, "/run/selfright");
	assert_null(c.broker.host);
	assert_int_equal(c.urls.count, 0);
	assert_string_equal(c.users.link, "selfright");
	assert_string_equal(c.users.stage, "selfright-stage");
	assert_string_equal(c.users.component, "nobody");
	assert_int_equal(c.poll.with_broker_s, 6 * 3600);
	assert_int_equal(c.poll.without_broker_s, 15 * 60);
	assert_int_equal(c.keep_versions, 3);
	assert_int_equal(c.max_swaps_per_day, 6);
	assert_int_equal(c.probation_cap_s, 0);
	assert_int_equal(c.link_deadline_s, 30 * 60);
	assert_int_equal(c.report_s, 15 * 60);
	assert_int_equal(c.handover_s, 5 * 60);
	assert_false(c.demo_single_key_agent);
	config_done(&c);
	config_done(&c); /* twice is fine */
}

static void test_everything(void **state)
{
	struct config c = { 0 };
	struct conf_error e = { "" };
	char *path;

	(void) state;
	put("agent.yaml",
	    MINIMAL "root: /srv/sr\nrun: /srv/run\nurls: [https://a:1/, 'https://b:2/x']\n"
		    "broker: {host: 127.0.0.1, port: 1883}\nlabels: {site: oslo, zone: Europe/Oslo}\n"
		    "users: {link: l, stage: s, component: c}\npoll: {with_broker: 2h, without_broker: 30s}\n"
		    "keep_versions: 5\nmax_swaps_per_day: 9\nprobation_cap: 1h\nlink_deadline: 5m\nreport: 1m\n"
		    "programs: /nowhere\nhandover: 90s\ndemo_single_key_agent: yes\n"
		    "metrics: {file: /var/lib/x/selfright.prom, every: 30s}\n"
		    "zone_data_months: 6\n"
		    "inhibitors: [backup]\n",
	    0644);
	put("vars.d/a.yaml", "port: '80'\nname: first\n", 0644);
	put("vars.d/b.yaml", "name: second\n", 0644);
	put("components.d/web.yaml", "user: www\nusers: [a, b]\nunits: [nginx.service]\ndata: [data/web]\n", 0644);
	put("components.d/readme.txt", "not: [yaml", 0644); /* not ours to read */
	loads(&c);
	assert_string_equal(c.urls.items[0], "https://a:1/");
	assert_string_equal(c.urls.items[1], "https://b:2/x/");
	assert_string_equal(c.broker.host, "127.0.0.1");
	assert_int_equal(c.broker.port, 1883);
	assert_string_equal(labels_get(&c.labels, "zone"), "Europe/Oslo");
	assert_string_equal(labels_get(&c.vars, "port"), "80");
	assert_string_equal(labels_get(&c.vars, "name"), "second"); /* later files win */
	assert_int_equal(c.poll.without_broker_s, 30);
	assert_int_equal(c.handover_s, 90);
	assert_true(c.demo_single_key_agent);
	assert_string_equal(c.metrics_file, "/var/lib/x/selfright.prom");
	assert_int_equal(c.metrics_every_s, 30);
	assert_int_equal(c.zone_data_months, 6);
	assert_true(string_list_has(&c.inhibit_users, "backup"));
	assert_string_equal(config_component_user(&c, "web"), "www");
	assert_true(config_allows_user(&c, "web", "a"));
	assert_true(config_allows_user(&c, "web", NULL));
	assert_true(config_allows_user(&c, "web", "www"));
	assert_false(config_allows_user(&c, "web", "root"));
	assert_true(string_list_has(&config_component(&c, "web")->units, "nginx.service"));
	assert_true(string_list_has(&config_component(&c, "web")->kinds, "tree"));
	/* the absence of a file gives the defaults */
	assert_string_equal(config_component_user(&c, "other"), "c");
	assert_false(config_allows_user(&c, "other", "www"));
	assert_int_equal(config_component(&c, "other")->units.count, 0);
	assert_int_equal(config_program(&c, "selfright-link", &path, &e), -ENOENT);
	assert_non_null(strstr(e.text, "selfright-link"));
	assert_non_null(strstr(e.text, "/nowhere/selfright-link")); /* and no other place: people named this one */
	assert_null(strstr(e.text, ","));
	path = config_socket_path(&c);
	assert_string_equal(path, "/srv/run/agent.sock");
	free(path);
	config_done(&c);
}

static void test_complaints(void **state)
{
	(void) state;
	refused("node: n1\n", "agent.yaml", "fleet");
	refused("fleet: demo\nnode: N1\n", "agent.yaml:2", "N1");
	refused(MINIMAL "polls: 3\n", "agent.yaml:3", "polls");
	refused(MINIMAL "root: relative\n", "agent.yaml:3", "absolute");
	refused(MINIMAL "urls: [http://plain/]\n", "agent.yaml:3", "https");
	refused(MINIMAL "urls: https://a/\n", "agent.yaml:3", "list");
	refused(MINIMAL "broker: {port: 1}\n", "agent.yaml:3", "host");
	refused(MINIMAL "broker: {host: a, port: 70000}\n", "agent.yaml:3", "port");
	refused(MINIMAL "broker: {host: a, prot: 7}\n", "agent.yaml:3", "prot");
	refused(MINIMAL "metrics: /x.prom\n", "agent.yaml:3", "map");
	refused(MINIMAL "metrics: {file: /x.txt}\n", "agent.yaml:3", ".prom");
	refused(MINIMAL "metrics: {file: x.prom}\n", "agent.yaml:3", "absolute");
	refused(MINIMAL "metrics: {every: 60s}\n", "agent.yaml:3", ".prom");
	refused(MINIMAL "metrics: {file: /x.prom, every: 0}\n", "agent.yaml:3", "second");
	refused(MINIMAL "metrics: {file: /x.prom, often: 1}\n", "agent.yaml:3", "often");
	refused(MINIMAL "zone_data_months: many\n", "agent.yaml:3", "zone_data_months");
	refused(MINIMAL "inhibitors: backup\n", "agent.yaml:3", "list");
	refused(MINIMAL "keep_versions: 0\n", "agent.yaml:3", "keep_versions");
	refused(MINIMAL "quota: much\n", "agent.yaml:3", "quota");
	refused(MINIMAL "poll: {with_broker: soon}\n", "agent.yaml:3", "soon");
	refused(MINIMAL "poll: {with_broker: 0}\n", "agent.yaml:3", "second");
	refused(MINIMAL "handover: 0\n", "agent.yaml:3", "second");
	refused(MINIMAL "handover: 2d\n", "agent.yaml:3", "day");
	refused(MINIMAL "demo_single_key_agent: maybe\n", "agent.yaml:3", "demo_single_key_agent");
	refused(MINIMAL "proxy: proxy:3128\n", "agent.yaml:3", "http://");
	refused(MINIMAL "proxy: http://\n", "agent.yaml:3", "http://");
	refused(MINIMAL "proxy: 'http://a b'\n", "agent.yaml:3", "http://");
	refused(MINIMAL "no_proxy: a\n", "agent.yaml:3", "list");
	refused(MINIMAL "no_proxy: ['a,b']\n", "agent.yaml:3", "a,b");
	refused(MINIMAL "labels: [a]\n", "agent.yaml:3", "labels");
	refused(MINIMAL "labels: {Site: a}\n", "agent.yaml:3", "Site");
	refused(MINIMAL "labels: {site: [a]}\n", "agent.yaml:3", "site");
}

static bool has_item(const struct road_environment *e, const char *item)
{
	for (size_t i = 0; i < e->count; i++)
		if (strcmp(e->items[i], item) == 0)
			return true;
	return false;
}

static void test_the_road_to_the_broker(void **state)
{
	struct config c = { 0 };

	(void) state;
	put("agent.yaml", MINIMAL "broker: {host: b.example}\n", 0644);
	loads(&c);
	assert_null(c.broker.alpn);
	assert_int_equal(c.broker.keepalive_s, 0);
	assert_int_equal(c.broker.retry_base_s, 1);
	assert_int_equal(c.broker.retry_cap_s, 300);
	assert_int_equal(c.broker.refused_cap_s, 3600);
	assert_int_equal(c.broker.after_stable_s, 30);
	/* Without addresses of a repository there is one road. */
	assert_true(config_road_is_open(&c, "mqtt") && !config_road_is_open(&c, "https") &&
		    !config_road_is_open(&c, "file"));
	config_done(&c);
	put("agent.yaml",
	    MINIMAL "urls: [https://a/]\nroads: [mqtt]\nproxy: socks5h://joe:x@p:1080\n"
		    "broker: {host: b.example, port: 443, addresses: [192.0.2.1, '2001:db8::1'], keepalive: 2m,\n"
		    "  retry: {base: 2, cap: 10, refused: 20, spread: 5}}\n",
	    0644);
	loads(&c);
	assert_string_equal(c.broker.alpn, "mqtt"); /* on the port that HTTPS shares */
	assert_int_equal(c.broker.addresses.count, 2);
	assert_int_equal(c.broker.keepalive_s, 120);
	assert_int_equal(c.broker.after_stable_s, 5);
	assert_true(config_road_is_open(&c, "mqtt") && !config_road_is_open(&c, "https"));
	assert_string_equal(config_proxy(&c, "b.example"), "socks5h://joe:x@p:1080");
	config_done(&c);
	refused(MINIMAL "broker: {host: a, addresses: [here]}\n", "agent.yaml:3", "here");
	refused(MINIMAL "broker: {host: a, tls: no}\n", "agent.yaml:3", "tls"); /* always, and by the fleet's CA */
	refused(MINIMAL "broker: {host: a, keepalive: 1}\n", "agent.yaml:3", "5 s");
	refused(MINIMAL "broker: {host: a, retry: {base: 0}}\n", "agent.yaml:3", "caps");
	refused(MINIMAL "broker: {host: a, retry: {cap: 1, base: 2}}\n", "agent.yaml:3", "caps");
	refused(MINIMAL "broker: {host: a, retry: {bass: 2}}\n", "agent.yaml:3", "bass");
	refused(MINIMAL "roads: [mqtt, pigeon]\n", "agent.yaml:3", "pigeon");
	refused(MINIMAL "roads: [mqtt, https, mqtt]\n", "agent.yaml:3", "twice");
	refused(MINIMAL "proxy: ftp://p\n", "agent.yaml:3", "socks5h");
}

static void test_where_files_may_come_from(void **state)
{
	struct config c = { 0 };

	(void) state;
	put("agent.yaml", MINIMAL "urls: [https://a/]\n", 0644);
	loads(&c);
	assert_int_equal(c.download.stall_s, 30);
	assert_int_equal(c.download.spread_s, 0);
	assert_int_equal(c.download.slow_rate, 1024);
	assert_int_equal(c.download.slow_for_s, 300);
	assert_false(config_road_is_open(&c, "file"));
	config_done(&c);
	put("agent.yaml",
	    MINIMAL "urls: [https://a/]\nfolders: [/media/stick, /srv/fleet.tar]\n"
		    "redirect_hosts: [cdn.example.com, 'Cache.example.com:8443', '[2001:db8::1]:1']\n"
		    "download: {stall: 5s, spread: 10m, slow: 0, slow_for: 1h}\n",
	    0644);
	loads(&c);
	assert_true(config_road_is_open(&c, "file") && config_road_is_open(&c, "https"));
	assert_string_equal(c.roads.items[0], "file"); /* what lies at hand first */
	assert_int_equal(c.folders.count, 2);
	assert_int_equal(c.redirect_hosts.count, 3);
	assert_int_equal(c.download.stall_s, 5);
	assert_int_equal(c.download.spread_s, 600);
	assert_int_equal(c.download.slow_rate, 0);
	assert_int_equal(c.download.slow_for_s, 3600);
	config_done(&c);
	refused(MINIMAL "folders: [media]\n", "agent.yaml:3", "media");
	refused(MINIMAL "folders: [/1, /2, /3, /4, /5]\n", "agent.yaml:3", "at most 4");
	refused(MINIMAL "redirect_hosts: ['https://a/']\n", "agent.yaml:3", "https://a/");
	refused(MINIMAL "redirect_hosts: ['a:0']\n", "agent.yaml:3", "a:0");
	refused(MINIMAL "redirect_hosts: ['a:1x']\n", "agent.yaml:3", "a:1x");
	refused(MINIMAL "redirect_hosts: ['[::1']\n", "agent.yaml:3", "[::1");
	refused(MINIMAL "redirect_hosts: ['*']\n", "agent.yaml:3", "*");
	refused(MINIMAL "download: {stall: 0s}\n", "agent.yaml:3", "hour");
	refused(MINIMAL "download: {slow_for: 0s}\n", "agent.yaml:3", "hour");
	refused(MINIMAL "download: {slow_for: 2h}\n", "agent.yaml:3", "hour");
	refused(MINIMAL "download: {slow: -1}\n", "agent.yaml:3", "-1");
	refused(MINIMAL "download: {spread: 2d}\n", "agent.yaml:3", "a day");
}

static void test_sets_of_files(void **state)
{
	static const struct {
		const char *text, *complaint;
	} bad[] = {
		{ "max_bytes: 1M\n", "expected files" },
		{ "files: [logs/a]\n", "logs/a" },
		{ "files: [/var/log/*/a.log]\n", "/var/log/*/a.log" },
		{ "files: [/var/log/../../etc/shadow]\n", "/var/log/../../etc/shadow" },
		{ "files: [/var/log/]\n", "/var/log/" },
		{ "files: [/a]\nmax_bytes: 100\n", "1K to 60M" },
		{ "files: [/a]\nmax_bytes: 100M\n", "1K to 60M" },
		{ "files: [/a]\ncommand: [/bin/sh]\n", "command" },
	};
	struct config c = { 0 };
	struct conf_error error = { "" };

	(void) state;
	put("agent.yaml", MINIMAL, 0644);
	loads(&c);
	assert_null(config_set(&c, "logs")); /* nothing, unless somebody here says so */
	config_done(&c);
	put("collect.d/logs.yaml", "files: [/var/log/app.log, '/var/log/app/*.log']\nmax_bytes: 1M\n", 0644);
	loads(&c);
	assert_int_equal(config_set(&c, "logs")->files.count, 2);
	assert_int_equal(config_set(&c, "logs")->max_bytes, 1024 * 1024);
	config_done(&c);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		put("collect.d/logs.yaml", bad[i].text, 0644);
		error.text[0] = '\0';
		assert_int_equal(config_load(dir, &c, &error), -ERR_CONFIG);
		if (!strstr(error.text, bad[i].complaint) || !strstr(error.text, "collect.d/logs.yaml"))
			fail_msg("%s: %s", bad[i].text, error.text);
	}
}

static void test_mirrors_and_rates(void **state)
{
	struct config c = { 0 };

	(void) state;
	put("agent.yaml",
	    MINIMAL "urls: [https://a/]\nmirrors: ['https://cache.site']\n"
		    "download: {rate: 2M, busy: 'Mon-Fri 08:00-18:00', busy_rate: 100K}\n",
	    0644);
	loads(&c);
	assert_string_equal(c.mirrors.items[0], "https://cache.site/");
	assert_int_equal(c.download.pace.rate, 2 * 1024 * 1024);
	assert_int_equal(c.download.pace.busy_rate, 100 * 1024);
	assert_int_equal(c.download.pace.busy.count, 1);
	/* What goes out is bound by the same, unless it is said. */
	assert_int_equal(c.upload.rate, 2 * 1024 * 1024);
	assert_int_equal(c.upload.busy_rate, 100 * 1024);
	assert_int_equal(c.upload.busy.count, 1);
	config_done(&c);
	put("agent.yaml",
	    MINIMAL "download: {rate: 2M, busy: 'Mon-Fri 08:00-18:00', busy_rate: 1K}\nupload: {rate: 64K}\n",
	    0644);
	loads(&c);
	assert_int_equal(c.upload.rate, 64 * 1024);
	assert_int_equal(c.upload.busy.count, 0);
	config_done(&c);
	put("agent.yaml", MINIMAL "upload: {busy: '08:00-18:00', busy_rate: 3K}\n", 0644);
	loads(&c);
	assert_int_equal(c.upload.rate, 0);
	assert_int_equal(c.upload.busy_rate, 3 * 1024);
	assert_int_equal(c.download.pace.busy.count, 0);
	config_done(&c);
	refused(MINIMAL "upload: {busy: '08:00-09:00'}\n", "agent.yaml:3", "together");
	refused(MINIMAL "upload: {stall: 3s}\n", "agent.yaml:3", "stall");
	refused(MINIMAL "upload: 3M\n", "agent.yaml:3", "upload");
	refused(MINIMAL "mirrors: ['http://cache.site']\n", "agent.yaml:3", "https://");
	refused(MINIMAL "mirrors: ['https://a', 'https://b', 'https://c', 'https://d', 'https://e']\n",
		"agent.yaml:3", "at most 4");
	refused(MINIMAL "download: {busy: noon, busy_rate: 1K}\n", "agent.yaml:3", "noon");
	refused(MINIMAL "download: {busy: '08:00-09:00'}\n", "agent.yaml:3", "together");
	refused(MINIMAL "download: {speed: 1K}\n", "agent.yaml:3", "speed");
}

static void test_a_pace_is_the_hours(void **state)
{
	struct config_pace pace = { .rate = 1000, .busy_rate = 10 };
	CLEANUP(zone_freep)
	struct zone *zone = NULL;
	int64_t eight;

	(void) state;
	assert_int_equal(zone_load(&os_posix, "Europe/Oslo", &zone), 0);
	assert_int_equal(timestamp_parse("2026-07-01T06:00:00Z", &eight), 0); /* 08:00 there */
	assert_int_equal(config_pace_at(&pace, zone, eight), 1000); /* no hours: one pace */
	assert_int_equal(config_pace_at(&pace, NULL, eight), 1000);
	assert_int_equal(windows_parse("08:00-18:00", &pace.busy), 0);
	assert_int_equal(config_pace_at(&pace, zone, eight - 1), 1000);
	assert_int_equal(config_pace_at(&pace, zone, eight), 10);
	assert_int_equal(config_pace_at(&pace, zone, eight + 10 * 3600 - 1), 10);
	assert_int_equal(config_pace_at(&pace, zone, eight + 10 * 3600), 1000);
	/* In winter it is 08:00 an hour later. */
	assert_int_equal(config_pace_at(&pace, zone, eight + 183 * 86400), 1000);
	assert_int_equal(config_pace_at(&pace, zone, eight + 183 * 86400 + 3600), 10);
	/* In a zone that is not known, the slower of the two, whichever that is; "0" is the fastest. */
	assert_int_equal(config_pace_at(&pace, NULL, eight - 1), 10);
	pace.busy_rate = 5000;
	assert_int_equal(config_pace_at(&pace, NULL, eight - 1), 1000);
	pace.rate = 0;
	assert_int_equal(config_pace_at(&pace, NULL, eight - 1), 5000);
}

static void test_every_place_of_a_program_is_named(void **state)
{
	struct config c = { 0 };
	struct conf_error e = { "" };
	char *path = NULL;

	(void) state;
	put("agent.yaml", MINIMAL, 0644);
	loads(&c);
	assert_int_equal(config_program(&c, "no-such-program", &path, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/tests/no-such-program")); /* beside this one */
	assert_non_null(strstr(e.text, "/libexec/selfright/no-such-program"));
	assert_non_null(strstr(e.text, CONFIG_PROGRAMS_DEFAULT "/no-such-program"));
	config_done(&c);
}

static void test_the_road_of_the_configuration(void **state)
{
	struct road_environment env = { .count = 0 };
	struct config c = { 0 };
	struct conf_error e = { "" };

	(void) state;
	assert_int_equal(setenv("https_proxy", "http://other:1", 1), 0);
	assert_int_equal(setenv("no_proxy", "elsewhere.example", 1), 0);
	put("agent.yaml",
	    MINIMAL "proxy: http://me:secret-word@proxy.example:3128\n"
		    "no_proxy: [127.0.0.1, .inside.example]\n",
	    0644);
	loads(&c);
	assert_int_equal(config_road_environment(&c, &env), 0);
	assert_true(has_item(&env, "https_proxy=http://me:secret-word@proxy.example:3128"));
	assert_true(has_item(&env, "no_proxy=127.0.0.1,.inside.example"));
	assert_true(has_item(&env, "LANG=C"));
	assert_null(env.items[env.count]);
	road_environment_done(&env);
	assert_true(config_uses_proxy(&c, "updates.example"));
	assert_true(config_uses_proxy(&c, "elsewhere.example"));
	assert_true(config_uses_proxy(&c, "notinside.example"));
	assert_false(config_uses_proxy(&c, "a.INSIDE.example"));
	assert_false(config_uses_proxy(&c, "inside.example"));
	assert_false(config_uses_proxy(&c, "127.0.0.1"));
	config_done(&c);
	/* a password is in no complaint */
	put("agent.yaml", MINIMAL "proxy: ftp://me:secret-word@proxy.example\n", 0644);
	assert_int_equal(config_load(dir, &c, &e), -ERR_CONFIG);
	assert_null(strstr(e.text, "secret-word"));
}

static void test_the_road_of_the_environment(void **state)
{
	struct road_environment env = { .count = 0 };
	struct config c = { 0 };

	(void) state;
	put("agent.yaml", MINIMAL, 0644);
	loads(&c);
	assert_int_equal(setenv("https_proxy", "", 1), 0);
	assert_int_equal(setenv("HTTPS_PROXY", "http://large:1", 1), 0);
	assert_int_equal(setenv("no_proxy", "a.example, b.example", 1), 0);
	assert_int_equal(config_road_environment(&c, &env), 0);
	assert_true(has_item(&env, "https_proxy=http://large:1"));
	assert_true(has_item(&env, "no_proxy=a.example, b.example"));
	road_environment_done(&env);
	assert_false(config_uses_proxy(&c, "b.example"));
	assert_true(config_uses_proxy(&c, "c.example"));
	assert_int_equal(setenv("no_proxy", "*", 1), 0);
	assert_false(config_uses_proxy(&c, "c.example"));
	assert_int_equal(unsetenv("HTTPS_PROXY"), 0);
	assert_int_equal(unsetenv("no_proxy"), 0);
	assert_false(config_uses_proxy(&c, "c.example"));
	assert_int_equal(config_road_environment(&c, &env), 0);
	for (size_t i = 0; i < env.count; i++)
		assert_null(strstr(env.items[i], "proxy"));
	road_environment_done(&env);
	config_done(&c);
}

static void test_missing_and_foreign(void **state)
{
	struct config c = { 0 };
	struct conf_error e = { "" };

	(void) state;
	assert_int_equal(config_load(dir, &c, &e), -ERR_CONFIG);
	assert_non_null(strstr(e.text, "agent.yaml"));
	put("agent.yaml", MINIMAL, 0666);
	assert_int_equal(config_load(dir, &c, &e), -ERR_CONFIG);
	assert_non_null(strstr(e.text, "chmod"));
	put("agent.yaml", MINIMAL, 0644);
	put("components.d/web.yaml", "user: root\n", 0664);
	assert_int_equal(config_load(dir, &c, &e), -ERR_CONFIG);
	assert_non_null(strstr(e.text, "web.yaml"));
	put("components.d/web.yaml", "usr: www\n", 0644);
	assert_int_equal(config_load(dir, &c, &e), -ERR_CONFIG);
	assert_non_null(strstr(e.text, "web.yaml:1"));
	put("components.d/web.yaml", "", 0644);
	put("components.d/We b.yaml", "", 0644);
	assert_int_equal(config_load(dir, &c, &e), -ERR_CONFIG);
	assert_non_null(strstr(e.text, "We b.yaml"));
}

static void test_users(void **state)
{
	struct config c = { 0 };
	struct conf_error e = { "" };

	(void) state;
	put("agent.yaml", MINIMAL "users: {link: root, stage: root, component: root}\n", 0644);
	loads(&c);
	assert_int_equal(config_check_users(&c, &e), 0);
	config_done(&c);
	put("agent.yaml", MINIMAL "users: {link: root, stage: no-such-user-here, component: root}\n", 0644);
	loads(&c);
	assert_int_equal(config_check_users(&c, &e), -ERR_CONFIG);
	assert_non_null(strstr(e.text, "no-such-user-here"));
	config_done(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
		cmocka_unit_test_setup_teardown(test_everything, setup, teardown),
		cmocka_unit_test_setup_teardown(test_complaints, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_road_to_the_broker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_where_files_may_come_from, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sets_of_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mirrors_and_rates, setup, teardown),
		cmocka_unit_test(test_a_pace_is_the_hours),
		cmocka_unit_test_setup_teardown(test_every_place_of_a_program_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_road_of_the_configuration, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_road_of_the_environment, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing_and_foreign, setup, teardown),
		cmocka_unit_test_setup_teardown(test_users, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
