#include "base/err.h"
#include "base/text.h"
#include "json/json.h"
#include "model/release.h"
#include "os/durable.h"
#include "os/os.h"
#include "server-stub/repo/component.h"
#include "support/fault_loop.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct folder {
	char path[256];
};

static int setup(void **state)
{
	static const char *const programs[] = { "start", "check", "status", "test", "prepare" };
	struct folder *f = calloc(1, sizeof(*f));
	char tree[512];

	assert_non_null(f);
	temp_folder(f->path, sizeof(f->path));
	(void) snprintf(tree, sizeof(tree), "%s/tree", f->path);
	assert_int_equal(0, mkdir(tree, 0755));
	(void) snprintf(tree, sizeof(tree), "%s/tree/hello", f->path);
	assert_int_equal(0, durable_write_file(os_quick(), AT_FDCWD, tree, "hello\n", 6, 0644));
	(void) snprintf(tree, sizeof(tree), "%s/tree/bin", f->path);
	assert_int_equal(0, mkdir(tree, 0755));
	for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
		(void) snprintf(tree, sizeof(tree), "%s/tree/bin/%s", f->path, programs[i]);
		assert_int_equal(0, durable_write_file(os_quick(), AT_FDCWD, tree, "#!/bin/sh\n", 10, 0755));
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct folder *f = *state;

	temp_folder_remove(f->path);
	free(f);
	return 0;
}

static void write_yaml(struct folder *f, const char *text)
{
	char path[512];

	(void) snprintf(path, sizeof(path), "%s/component.yaml", f->path);
	assert_int_equal(0, durable_write_file(os_quick(), AT_FDCWD, path, text, strlen(text), 0644));
}

static int load(struct folder *f, const char *text, struct component **ret, struct conf_error *e)
{
	write_yaml(f, text);
	return component_load(f->path, ret, e);
}

/* The release of the folder, parsed as a node does; the artifact's descriptor is closed. */
static void release_of(const struct component *c, struct release *ret, struct buf *text)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct conf_error e;
	struct artifact a;
	int fd = memfd_create("artifact", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(0, component_pack(os_quick(), c, 3, fd, &a, &e));
	assert_int_equal(a.length, lseek(fd, 0, SEEK_END));
	assert_int_equal(0, close(fd));
	assert_int_equal(0, component_release(c, "1.1.0", &a, NULL, text, &e));
	assert_int_equal(0, json_parse(text->data, text->len, &json_limits_default, &doc));
	assert_int_equal(0, release_parse(doc, ret, NULL));
}

static const char everything[] =
	"component: web\n"
	"team: web\n"
	"kind: tree\n"
	"tree: tree\n"
	"compatible: {site: oslo}\n"
	"requires: {vars: [port], files: [/etc/hosts], components: {base: \">=1.0.0\"}, free_bytes: 2M, from: "
	"1.0.0, agent: \">=0.1.0\"}\n"
	"services:\n"
	"  - name: nginx\n"
	"    start: [bin/start, \"${vars.port}\"]\n"
	"    reload: []\n"
	"    stop_signal: SIGQUIT\n"
	"    stop_timeout: 20s\n"
	"  - name: helper\n"
	"    unit: helper.service\n"
	"    stop_before_swap: true\n"
	"    files: [bin/app, etc]\n"
	"checks:\n"
	"  - name: answers\n"
	"    httpGet: {port: \"${vars.port}\", path: /healthz, expectBody: ok}\n"
	"    periodSeconds: 1\n"
	"    failureThreshold: 5\n"
	"  - name: listens\n"
	"    tcpSocket: {port: 8080}\n"
	"    required: false\n"
	"  - name: script\n"
	"    exec: {command: [bin/check], user: web, timeout: 5s}\n"
	"    timeoutSeconds: 6s\n"
	"  - name: unit-runs\n"
	"    unit: helper.service\n"
	"  - name: link\n"
	"    link: {}\n"
	"    required: true\n"
	"  - name: tls\n"
	"    httpGet:\n"
	"      scheme: https\n"
	"      port: 8443\n"
	"      httpHeaders: [{name: Host, value: a.example}]\n"
	"      expectStatus: 200-299\n"
	"      insecureSkipVerify: true\n"
	"    after: [answers, listens]\n"
	"    deadlineSeconds: 10m\n"
	"  - name: errors\n"
	"    metric:\n"
	"      port: 9100\n"
	"      path: /metrics\n"
	"      select: 'http_total{code=~\"5..\"}'\n"
	"      of: http_total\n"
	"      maxOfBefore: 1.5\n"
	"      max: 0.5\n"
	"      minSamples: 100\n"
	"      beforeSeconds: 2m\n"
	"      absentIsZero: true\n"
	"  - name: lines\n"
	"    log: {file: error.log, match: [\"[error]\"], ignore: [client], maxPerMinute: 5, maxNewKinds: 1}\n"
	"  - name: word\n"
	"    status: {command: [bin/status], timeout: 5s, acceptDegraded: true}\n"
	"probation: 10s\n"
	"watch: 2m\n"
	"boot_attempts: 4\n"
	"data:\n"
	"  - path: cache\n"
	"data_compatible_back: false\n"
	"hooks: {preflight: [bin/test], before_swap: {command: [bin/prepare], timeout: 1m}}\n"
	"changes: faster\n"
	"risk: medium\n"
	"known_issues: none\n"
	"expected_duration: 2m\n";

static void every_field_reaches_the_release(void **state)
{
	CLEANUP(component_freep)
	struct component *c = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(1024 * 1024);
	struct conf_error e = { "" };
	struct release r;

	if (load(*state, everything, &c, &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal("web", component_name(c));
	assert_string_equal("web", component_team(c));
	release_of(c, &r, &text);
	assert_string_equal("web", r.component);
	assert_string_equal("1.1.0", r.version);
	assert_string_equal("oslo", labels_get(&r.compatible, "site"));
	assert_string_equal("port", r.requires_vars.items[0]);
	assert_string_equal("/etc/hosts", r.requires_files.items[0]);
	assert_string_equal("base", r.requires_components[0].component);
	assert_int_equal(2 * 1024 * 1024, r.requires_free_bytes);
	assert_string_equal("1.0.0", r.requires_from);
	assert_string_equal(">=0.1.0", r.requires_agent);
	assert_int_equal(2, r.service_count);
	assert_string_equal("bin/start", r.services[0].start.argv.items[0]);
	assert_string_equal("${vars.port}", r.services[0].start.argv.items[1]);
	assert_int_equal(0, r.services[0].reload.argv.count);
	assert_string_equal("SIGQUIT", r.services[0].stop_signal);
	assert_int_equal(20, r.services[0].stop_timeout_s);
	assert_string_equal("helper.service", r.services[1].unit);
	assert_true(r.services[1].stop_before_swap);
	assert_int_equal(r.services[1].files.count, 2);
	assert_int_equal(9, r.check_count);
	assert_int_equal(CHECK_HTTP_GET, r.checks[0].kind);
	assert_string_equal("/healthz", r.checks[0].http.path);
	assert_string_equal("ok", r.checks[0].http.expect_body);
	assert_int_equal(1, r.checks[0].period_s);
	assert_int_equal(5, r.checks[0].failure_threshold);
	assert_int_equal(CHECK_TCP_SOCKET, r.checks[1].kind);
	assert_string_equal("8080", r.checks[1].tcp.port);
	assert_false(r.checks[1].required);
	assert_int_equal(CHECK_EXEC, r.checks[2].kind);
	assert_string_equal("web", r.checks[2].exec.user);
	assert_int_equal(5, r.checks[2].exec.timeout_s);
	assert_int_equal(6, r.checks[2].timeout_s);
	assert_int_equal(CHECK_UNIT, r.checks[3].kind);
	assert_int_equal(CHECK_LINK, r.checks[4].kind);
	assert_true(r.checks[4].required);
	assert_string_equal("https", r.checks[5].http.scheme);
	assert_string_equal("a.example", r.checks[5].http.headers[0].value);
	assert_string_equal("200-299", r.checks[5].http.expect_status);
	assert_true(r.checks[5].http.insecure_skip_verify);
	assert_string_equal("listens", r.checks[5].after.items[1]);
	assert_int_equal(600, r.checks[5].deadline_s);
	assert_string_equal("http_total{code=~\"5..\"}", r.checks[6].metric.select);
	assert_string_equal("1.5", r.checks[6].metric.max_of_before);
	assert_int_equal(100, r.checks[6].metric.min_samples);
	assert_int_equal(120, r.checks[6].metric.before_s);
	assert_true(r.checks[6].metric.absent_is_zero);
	assert_string_equal("[error]", r.checks[7].log.match.items[0]);
	assert_int_equal(5, r.checks[7].log.max_per_minute);
	assert_int_equal(1, r.checks[7].log.max_new_kinds);
	assert_string_equal("bin/status", r.checks[8].exec.argv.items[0]);
	assert_true(r.checks[8].status.accept_degraded);
	assert_int_equal(10, r.probation_s);
	assert_int_equal(120, r.watch_s);
	assert_int_equal(4, r.boot_attempts);
	assert_string_equal("cache", r.data[0].path);
	assert_false(r.data_compatible_back);
	assert_string_equal("bin/test", r.hooks.preflight.argv.items[0]);
	assert_int_equal(60, r.hooks.before_swap.timeout_s);
	assert_string_equal("faster", r.changes);
	assert_string_equal("medium", r.risk);
	assert_int_equal(120, r.expected_duration_s);
	assert_string_equal("web/1.1.0/web.tar.zst", r.artifacts[0].path);
	assert_string_equal("application/x-tar+zstd", r.artifacts[0].media);
	assert_int_equal(6, r.files);
	assert_int_equal(56, r.installed_size);
	assert_int_equal(0, release_agrees(&r, "web/1.1.0/release.json"));
	release_done(&r);
}

static void the_same_folder_gives_the_same_bytes(void **state)
{
	CLEANUP(component_freep)
	struct component *c = NULL;
	CLEANUP(buf_done)
	struct buf one = BUF_INIT(1024 * 1024), two = BUF_INIT(1024 * 1024);
	struct conf_error e;
	struct release r;

	assert_int_equal(0, load(*state, everything, &c, &e));
	release_of(c, &r, &one);
	release_done(&r);
	release_of(c, &r, &two);
	release_done(&r);
	assert_int_equal(one.len, two.len);
	assert_memory_equal(one.data, two.data, one.len);
}

static void a_complaint_names_file_line_and_what_was_expected(void **state)
{
	static const struct {
		const char *text, *line, *says;
	} cases[] = {
		{ "team: web\n", "component.yaml:", "component" },
		{ "component: Web\nteam: web\n", "component.yaml:1:", "name" },
		{ "component: web\nteam: web\nprobation: soon\n", "component.yaml:3:", "soon" },
		{ "component: web\nteam: web\nprobtion: 1s\n", "component.yaml:3:", "probtion" },
		{ "component: web\nteam: web\ntree: ../up\n", "component.yaml:3:", "folder below" },
		{ "component: web\nteam: web\nservices:\n  - name: a\n    start: run me\n",
		  "component.yaml:5:", "list" },
		{ "component: web\nteam: web\nservices:\n  - name: a\n    strt: [x]\n",
		  "component.yaml:5:", "strt" },
		{ "component: web\nteam: web\nservices: nginx\n", "component.yaml:3:", "list" },
		{ "component: web\nteam: web\nservices:\n  - name: a\n", "component.yaml:", "unit and start" },
		{ "component: web\nteam: web\nchecks:\n  - name: a\n    httpGet: {prt: 80}\n",
		  "component.yaml:5:", "prt" },
		{ "component: web\nteam: web\nchecks:\n  - name: a\n    httpGet: {port: 99999}\n",
		  "component.yaml:", "port" },
		{ "component: web\nteam: web\nchecks:\n  - name: a\n", "component.yaml:", "kind" },
		{ "component: web\nteam: web\nchecks:\n  - name: a\n    metric: {port: 1, selct: up}\n",
		  "component.yaml:5:", "selct" },
		{ "component: web\nteam: web\nchecks:\n  - name: a\n    metric: {port: 1, select: sum(up), min: "
		  "1}\n",
		  "component.yaml:", "selector" },
		{ "component: web\nteam: web\nchecks:\n  - name: a\n    log: error.log\n",
		  "component.yaml:5:", "log is a map" },
		{ "component: web\nteam: web\nchecks:\n  - name: a\n    log: {file: a, maxPerMinute: few}\n",
		  "component.yaml:5:", "few" },
		{ "component: web\nteam: web\nchecks:\n  - name: a\n    status: {file: a, comand: [b]}\n",
		  "component.yaml:5:", "comand" },
		{ "component: web\nteam: web\nchecks:\n  - name: a\n    httpGet:\n      port: 1\n"
		  "      httpHeaders: {Host: a}\n",
		  "component.yaml:7:", "httpHeaders is a list" },
		{ "component: web\nteam: web\nchecks:\n  - name: a\n    httpGet:\n      port: 1\n"
		  "      httpHeaders: [{name: a, valu: b}]\n",
		  "component.yaml:7:", "valu" },
		{ "component: web\nteam: web\nrisk: enormous\n", "component.yaml:", "risk" },
		{ "component: web\nteam: web\nservices:\n  - name: a\n    start: [x, \"${vars.port}\"]\n",
		  "component.yaml:", "vars: [port]" },
		{ "component: web\nteam: web\nservices:\n  - name: a\n    start: [x, \"${env.PATH}\"]\n",
		  "component.yaml:", "${" },
		{ "component: web\nteam: web\nchecks:\n  - name: ok\n    exec: {command: [bin/none]}\n",
		  "component.yaml:", "the check ok runs bin/none, which in tree is missing" },
		{ "component: web\nteam: web\nservices:\n  - name: app\n    start: [\"${root}/hello\"]\n",
		  "component.yaml:", "the service app runs hello, which in tree is no executable file" },
		{ "component: web\nteam: web\nhooks: {after_swap: {command: [./bin]}}\n",
		  "component.yaml:", "the hook after_swap runs ./bin, which in tree is no executable file" },
		{ "component: [web\n", "component.yaml:", "" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct component *c = NULL;
		struct conf_error e = { "" };
		int r = load(*state, cases[i].text, &c, &e);

		if (r != -ERR_CONFIG || !strstr(e.text, cases[i].line) || !strstr(e.text, cases[i].says))
			fail_msg("%s -> %d %s", cases[i].text, r, e.text);
		assert_null(c);
	}
}

static void a_missing_file_says_so(void **state)
{
	struct folder *f = *state;
	struct component *c = NULL;
	struct conf_error e = { "" };

	assert_true(component_load(f->path, &c, &e) < 0);
	assert_non_null(strstr(e.text, "component.yaml"));
	assert_null(c);
}

static void a_version_is_a_version(void **state)
{
	CLEANUP(component_freep)
	struct component *c = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(1024 * 1024);
	static const char *const bad[] = { "", "1", "1.0", "v1.0.0", "1.0.0/../..", "01.0.0" };
	const struct artifact a = { .length = 1 };
	struct conf_error e = { "" };

	assert_int_equal(0, load(*state, "component: web\nteam: web\n", &c, &e));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(-ERR_CONFIG, component_release(c, bad[i], &a, NULL, &text, &e));
		assert_non_null(strstr(e.text, "MAJOR.MINOR.PATCH"));
	}
	assert_int_equal(0, component_release(c, "2.0.0-rc.1", &a, NULL, &text, &e));
}

static void words_on_the_command_line_win(void **state)
{
	CLEANUP(component_freep)
	struct component *c = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(1024 * 1024);
	const struct artifact a = { .length = 1 };
	const struct release_words words = { "said here", "high" };
	struct conf_error e = { "" };

	assert_int_equal(0, load(*state, "component: web\nteam: web\nchanges: said there\nrisk: low\n", &c, &e));
	assert_int_equal(0, component_release(c, "1.0.0", &a, &words, &text, &e));
	assert_non_null(strstr(buf_str(&text), "said here"));
	assert_non_null(strstr(buf_str(&text), "\"high\""));
	assert_null(strstr(buf_str(&text), "said there"));
}

static void what_a_tree_may_not_hold_is_named(void **state)
{
	CLEANUP(component_freep)
	struct component *c = NULL;
	struct folder *f = *state;
	struct conf_error e = { "" };
	struct artifact a;
	char path[512];
	int fd = memfd_create("artifact", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(0, load(f, "component: web\nteam: web\n", &c, &e));
	(void) snprintf(path, sizeof(path), "%s/tree/pipe", f->path);
	assert_int_equal(0, mkfifo(path, 0644));
	assert_int_equal(-ERR_ARCHIVE_ENTRY, component_pack(os_quick(), c, 3, fd, &a, &e));
	assert_non_null(strstr(e.text, "pipe"));
	assert_int_equal(0, unlink(path));
	assert_int_equal(0, symlink("/etc/passwd", path));
	assert_int_equal(-ERR_ARCHIVE_ENTRY, component_pack(os_quick(), c, 3, fd, &a, &e));
	assert_non_null(strstr(e.text, "pipe"));
	assert_int_equal(0, close(fd));
}

static void the_template_is_a_component(void **state)
{
	static const char *const units[] = { NULL, "nginx.service" };

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		CLEANUP(component_freep)
		struct component *c = NULL;
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(64 * 1024);
		struct conf_error e = { "" };

		assert_int_equal(0, component_template("web", "edge", units[i], &text));
		if (load(*state, buf_str(&text), &c, &e) < 0)
			fail_msg("%s", e.text);
		assert_string_equal("web", component_name(c));
		assert_string_equal("edge", component_team(c));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(every_field_reaches_the_release),
		T(the_same_folder_gives_the_same_bytes),
		T(a_complaint_names_file_line_and_what_was_expected),
		T(a_missing_file_says_so),
		T(a_version_is_a_version),
		T(words_on_the_command_line_win),
		T(what_a_tree_may_not_hold_is_named),
		T(the_template_is_a_component),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
