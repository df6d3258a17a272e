/*
 * selfright-agent - the engine (`run`), and the commands of the person at the console.
 */
#include "agent/engine.h"
#include "agent/install.h"
#include "agent/local/config.h"
#include "agent/local/control.h"
#include "agent/local/join.h"
#include "agent/local/supervisor.h"
#include "agent/metrics.h"
#include "agent/screen.h"
#include "agent/trust.h"
#include "agent/verify.h"
#include "base/err.h"
#include "base/log.h"
#include "base/program.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CALL_DEADLINE_MS = 120 * 1000, REPAIR_DEADLINE_MS = 3600 * 1000, TRIAL_TURNS = 600 };

struct arguments {
	const char *config_dir, *root, *run, *to, *reason, *why;
	const char *operand; /* component or file */
	const char *second; /* version */
	const char *bundle;
	char **program; /* of inhibit, NULL-terminated; NULL: none */
	int64_t until; /* 0: not said */
	const char *output; /* -o */
	bool prometheus;
	uint64_t for_s;
	uint64_t limit;
	bool json, force, release, help;
	bool config_given; /* --config-dir was */
	bool repair, restore_data;
};

struct command {
	const char *name, *summary, *usage, *example;
	int (*main)(const struct arguments *a);
};

static const struct command commands[];

static const char exit_codes[] =
	"Exit codes: 0 done, 1 error, 2 wrong usage, 3 the agent is not running, 4 refused.\n";

static const char install_exit_codes[] =
	"Exit codes: 0 good, or nothing to do; 1 nothing has changed (failed, refused, or it waits: the\n"
	"sentence says for what); 2 wrong usage; 3 undone: the version before runs again; 4 refused; 5 stuck.\n";

static void say_error(const struct arguments *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say_error(const struct arguments *a, const char *fmt, ...)
{
	char sentence[1200];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(sentence, sizeof(sentence), fmt, ap); /* a longer one is cut */
	va_end(ap);
	if (a->json) {
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(8192);

		control_refuse(&text, CONTROL_ERROR, "%s", sentence);
		puts(buf_str(&text));
	} else {
		text_tame(sentence, "\n\t");
		fprintf(stderr, "selfright-agent: %s\n", sentence);
	}
}

/* Servers, releases and programs wrote part of it: nothing of theirs steers the terminal. */
static void say(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void say(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return; /* without memory a line is missing */
	text_tame(text, "\n\t");
	(void) fputs(text, stdout);
	free(text);
}

/* --- asking the agent --- */

static int call(const struct arguments *a, struct json_build *b, struct json **ret)
{
	CLEANUP(buf_done)
	struct buf request = BUF_INIT(64 * 1024);
	struct config config = { 0 };
	struct conf_error error;
	char *path;
	int r = config_load(a->config_dir, &config, &error);

	if (r < 0) {
		say_error(a, "%s", error.text);
		return CONTROL_ERROR;
	}
	path = config_socket_path(&config);
	r = path ? json_build_text(b, false, &request) : -ENOMEM;
	if (r == 0)
		r = control_call(path, request.data, request.len, CALL_DEADLINE_MS, ret);
	if (r == -ENOENT || r == -ECONNREFUSED)
		say_error(a, "no agent is running at %s (start it with: selfright-agent run --config-dir %s)",
			  path, a->config_dir);
	else if (r < 0)
		say_error(a, "%s: %s", path ? path : config.run, err_text(r));
	free(path);
	config_done(&config);
	if (r == -ENOENT || r == -ECONNREFUSED)
		return CONTROL_NOT_RUNNING;
	return r < 0 ? CONTROL_ERROR : CONTROL_OK;
}

/* Ask, print with --json or on a refusal; *ret is the answer to show to a person, NULL if all is said. */
static int ask(const struct arguments *a, struct json_build *b, struct json **ret)
{
	CLEANUP(json_freep)
	struct json *answer = NULL;
	int64_t code = CONTROL_ERROR;
	int exit_code = call(a, b, &answer);
	bool ok;

	if (exit_code != CONTROL_OK)
		return exit_code;
	ok = json_bool(json_get(answer, "ok"), false);
	if (a->json) {
		CLEANUP(json_build_freep)
		struct json_build *pretty = json_build_new();
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(2 * CONTROL_MAX_BYTES);

		for (size_t i = 0; i < json_count(answer); i++)
			node_copy(json_build_root(pretty), json_name_at(answer, i), json_at(answer, i));
		if (json_build_text(pretty, true, &text) < 0) {
			say_error(a, "out of memory");
			return CONTROL_ERROR;
		}
		puts(buf_str(&text));
	} else if (!ok) {
		const char *sentence = json_string(json_get(answer, "error"));

		say_error(a, "%s", sentence ? sentence : "refused without a reason");
	}
	if (!ok) {
		if (!json_integer(json_get(answer, "code"), &code) || code <= 0 || code > 255)
			code = CONTROL_ERROR;
		return (int) code;
	}
	if (!a->json) {
		*ret = answer;
		answer = NULL;
	}
	return CONTROL_OK;
}

/* --- showing it --- */

static const char *text_of(const struct json *object, const char *name, const char *otherwise)
{
	const char *s = json_string(json_get(object, name));

	return s ? s : otherwise;
}

static int64_t number_of(const struct json *object, const char *name)
{
	int64_t n = 0;

	return json_integer(json_get(object, name), &n) ? n : 0;
}

static void show_why(const struct json *answer)
{
	const struct json *components = json_get(answer, "components");

	if (json_count(components) == 0)
		say("no component is known here: nothing is installed and no rollout selects this node\n");
	for (size_t i = 0; i < json_count(components); i++) {
		const struct json *c = json_at(components, i);

		say("%s %s", text_of(c, "component", "?"), text_of(c, "version", "absent"));
		if (json_string(json_get(c, "wants")))
			say(" -> %s", text_of(c, "wants", ""));
		if (json_string(json_get(c, "rollout")))
			say(" by %s", text_of(c, "rollout", ""));
		say("\n  why:     %s (%s)\n", text_of(c, "sentence", "?"), text_of(c, "reason", "?"));
		if (text_of(c, "detail", "")[0])
			say("  detail:  %s\n", text_of(c, "detail", ""));
		say("  changes: %s\n", text_of(c, "change", "?"));
		if (json_string(json_get(c, "until")))
			say("  until:   %s\n", text_of(c, "until", ""));
		if (!json_bool(json_get(c, "data_compatible_back"), true))
			say("  data:    the version before cannot read it; a later rollback leaves it as it "
			    "is\n");
	}
}

/* What a failed step printed, line by line; the node kept nothing but text of it. */
static void show_words(const char *words)
{
	while (*words) {
		size_t len = strcspn(words, "\n");

		if (len > 0)
			say("    | %.*s\n", (int) len, words);
		words += len + (words[len] == '\n');
	}
}

static void show_history(const struct json *answer)
{
	const struct json *history = json_get(answer, "history");

	if (json_count(history) == 0)
		say("nothing has happened here yet\n");
	for (size_t i = 0; i < json_count(history); i++) {
		const struct json *h = json_at(history, i);

		say("%s  %-12s %s -> %s  %s", text_of(h, "at", ""), text_of(h, "component", "?"),
		    text_of(h, "from", "absent"), text_of(h, "to", "absent"), text_of(h, "name", "?"));
		if (number_of(h, "duration_ms") > 0)
			say(" in %.1f s", (double) number_of(h, "duration_ms") / 1000);
		if (number_of(h, "pause_ms") > 0)
			say(" (services away %.1f s)", (double) number_of(h, "pause_ms") / 1000);
		if (json_string(json_get(h, "rollout")))
			say(", rollout %s", text_of(h, "rollout", ""));
		else if (json_string(json_get(h, "order")))
			say(", order %s", text_of(h, "order", ""));
		if (text_of(h, "detail", "")[0])
			say(": %s", text_of(h, "detail", ""));
		say("\n");
		show_words(text_of(h, "log_tail", ""));
	}
}

/* --- the commands --- */

static int command_run(const struct arguments *a)
{
	int r = engine_main(a->config_dir);

	return r < 0 ? CONTROL_ERROR : r > 0 ? SUPERVISOR_HANDOVER : CONTROL_OK;
}

static int command_join(const struct arguments *a)
{
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(JOIN_MAX_BYTES);
	struct join_options o = {
		.os = &os_posix,
		.config_dir = a->config_dir,
		.root = a->root,
		.run = a->run,
		.force = a->force,
	};
	struct join_error error = { "" };
	int r;

	if (!a->operand) {
		say_error(a, "join needs the join file (see selfright-agent join --help)");
		return CONTROL_USAGE;
	}
	if ((a->root && a->root[0] != '/') || (a->run && a->run[0] != '/')) {
		say_error(a, "--root and --run take absolute paths");
		return CONTROL_USAGE;
	}
	r = file_read(&os_posix, AT_FDCWD, a->operand, JOIN_MAX_BYTES, &file);
	if (r < 0) {
		say_error(a, "%s: %s", a->operand, err_text(r));
		return CONTROL_ERROR;
	}
	r = join_apply(&o, file.data, file.len, &error);
	if (r < 0) {
		say_error(a, "%s", error.text);
		return r == -EEXIST ? CONTROL_REFUSED : CONTROL_ERROR;
	}
	if (a->json)
		puts("{\"ok\":true}");
	else if (str_eq(a->config_dir, CONFIG_DIR_DEFAULT) && access("/run/systemd/system", F_OK) == 0)
		printf("joined: %s is written. Start it, now and at boot:\n"
		       "  systemctl enable --now selfright-recover selfright-agent\n",
		       a->config_dir);
	else
		printf("joined: %s is written. Start it with: selfright-agent run --config-dir %s\n"
		       "(at boot, and so that it can update itself: selfright-recover --start, see "
		       "selfright-recover(8))\n",
		       a->config_dir, a->config_dir);
	return CONTROL_OK;
}

static int command_show(const struct arguments *a, const char *command, void (*show)(const struct json *answer))
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	int exit_code;

	node_string(json_build_root(b), "command", command);
	if (a->operand)
		node_string(json_build_root(b), "component", a->operand);
	if (a->limit)
		node_integer(json_build_root(b), "limit", (int64_t) a->limit);
	exit_code = ask(a, b, &answer);
	if (answer)
		show(answer);
	return exit_code;
}

static void show_status(const struct json *status)
{
	struct screen s = screen_of_stdout();

	screen_status(&s, status);
}

static int show_metrics(const struct arguments *a, const struct json *status)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(METRICS_MAX_BYTES);
	int r = metrics_of_status(status, &text);

	if (r == 0 && a->output)
		r = metrics_write(&os_posix, a->output, &text);
	else if (r == 0)
		(void) fputs(buf_str(&text), stdout);
	if (r < 0)
		say_error(a, "%s: %s", a->output ? a->output : "metrics", err_text(r));
	return r < 0 ? CONTROL_ERROR : CONTROL_OK;
}

static int command_status(const struct arguments *a)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	int exit_code;

	if (!a->prometheus)
		return command_show(a, "status", show_status);
	if (a->json) {
		say_error(a, "--prometheus and --json are two forms of the same answer: choose one");
		return CONTROL_USAGE;
	}
	node_string(json_build_root(b), "command", "status");
	exit_code = ask(a, b, &answer);
	return answer ? show_metrics(a, answer) : exit_code;
}

static int command_why(const struct arguments *a)
{
	return command_show(a, "why", show_why);
}

static int command_history(const struct arguments *a)
{
	return command_show(a, "history", show_history);
}

static int command_rollback(const struct arguments *a)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	struct json_node *o = json_build_root(b);
	int exit_code;

	if (!a->operand || !a->reason || !a->reason[0]) {
		say_error(a, "rollback needs a component and --reason (see selfright-agent rollback --help)");
		return CONTROL_USAGE;
	}
	node_string(o, "command", "rollback");
	node_string(o, "component", a->operand);
	node_string(o, "reason", a->reason);
	if (a->to)
		node_string(o, "to", a->to);
	if (a->restore_data)
		node_bool(o, "restore_data", true);
	exit_code = ask(a, b, &answer);
	if (answer)
		printf("going back: %s %s -> %s%s (update %s; follow it with: selfright-agent status)\n",
		       a->operand, text_of(answer, "from", "absent"), text_of(answer, "to", "absent"),
		       json_bool(json_get(answer, "restores_data"), false) ? ", with its data" : "",
		       text_of(answer, "update", "?"));
	return exit_code;
}

static int command_hold(const struct arguments *a)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	struct json_node *o = json_build_root(b);
	int exit_code;

	if (a->release == (a->for_s > 0)) {
		say_error(a, "hold needs either --for TIME with --reason, or --release");
		return CONTROL_USAGE;
	}
	if (!a->release && (!a->reason || !a->reason[0])) {
		say_error(a, "hold needs --reason: the next person at this console will ask");
		return CONTROL_USAGE;
	}
	node_string(o, "command", "hold");
	node_bool(o, "release", a->release);
	if (!a->release) {
		node_integer(o, "for_s", (int64_t) a->for_s);
		node_string(o, "reason", a->reason);
	}
	exit_code = ask(a, b, &answer);
	if (answer && a->release)
		printf("released: updates go on\n");
	else if (answer)
		printf("held until %s; updates wait, the node's own fallback does not\n",
		       text_of(answer, "until", "?"));
	return exit_code;
}

static void show_deferral(const struct json *answer)
{
	const struct json *sooner = json_get(answer, "sooner");

	printf("deferred until %s; security patches that may override it, and the node's own fallback, do not "
	       "wait\n",
	       text_of(answer, "until", "?"));
	for (size_t i = 0; i < json_count(sooner); i++) {
		const struct json *r = json_at(sooner, i);

		printf("rollout %s goes on at %s: it has to be done by %s\n", text_of(r, "rollout", "?"),
		       text_of(r, "until", "?"), text_of(r, "deadline", "?"));
	}
}

static int command_defer(const struct arguments *a)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	struct json_node *o = json_build_root(b);
	int exit_code;

	if (a->release + (a->for_s > 0) + (a->until > 0) != 1) {
		say_error(a, "defer needs one of --for TIME, --until TIME and --release");
		return CONTROL_USAGE;
	}
	node_string(o, "command", "defer");
	if (a->operand)
		node_string(o, "component", a->operand);
	if (a->release)
		node_bool(o, "release", true);
	else if (a->for_s > 0)
		node_integer(o, "for_s", (int64_t) a->for_s);
	else
		node_integer(o, "until", a->until);
	if (a->reason)
		node_string(o, "reason", a->reason);
	exit_code = ask(a, b, &answer);
	if (answer && a->release)
		printf("no longer deferred\n");
	else if (answer)
		show_deferral(answer);
	return exit_code;
}

/* Take the lock for this process. 1: it is held, but an update is under way; 0: held; else as ask(), negated. */
static int take_lock(const struct arguments *a, bool *told)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	struct json_node *o = json_build_root(b);
	int exit_code;

	node_string(o, "command", "inhibit");
	node_string(o, "why", a->why);
	exit_code = ask(a, b, &answer);
	if (exit_code != CONTROL_OK)
		return -exit_code;
	if (!text_of(answer, "under_way", "")[0])
		return 0;
	if (!*told)
		fprintf(stderr, "selfright-agent: %s; waiting for its verdict\n",
			text_of(answer, "under_way", ""));
	*told = true;
	return 1;
}

/* The lock is this process's, and exec leaves it the process it is: it ends when the program does. */
static int command_inhibit(const struct arguments *a)
{
	static const struct timespec second = { .tv_sec = 1 };
	bool told = false;
	int r;

	if (!a->program || !a->why || !a->why[0]) {
		say_error(a, "inhibit needs --why, and a command after --");
		return CONTROL_USAGE;
	}
	while ((r = take_lock(a, &told)) > 0)
		(void) nanosleep(&second, NULL); /* cut short it only asks sooner */
	if (r < 0) {
		say_error(a, "%s was not run", a->program[0]);
		return -r;
	}
	(void) execvp(a->program[0], a->program);
	say_error(a, "%s: %s", a->program[0], err_text(-errno));
	return errno == ENOENT ? 127 : 126;
}

/* --- a bundle --- */

static void print_installed(const struct arguments *a, int code, const char *sentence)
{
	static const struct {
		int code;
		const char *name;
	} names[] = { { INSTALL_GOOD, "good" },
		      { INSTALL_UNCHANGED, "unchanged" },
		      { INSTALL_UNDONE, "undone" },
		      { INSTALL_STUCK, "stuck" } };
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(16 * 1024);
	const char *name = "unchanged";

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (names[i].code == code)
			name = names[i].name;
	if (!a->json) {
		say("%s: %s\n", name, sentence);
		return;
	}
	node_bool(json_build_root(b), "ok", code == INSTALL_GOOD);
	node_integer(json_build_root(b), "code", code);
	node_string(json_build_root(b), "result", name);
	node_string(json_build_root(b), "detail", sentence);
	if (json_build_text(b, true, &text) == 0)
		puts(buf_str(&text));
}

/* Silent; *ret is owned by the caller. CONTROL_NOT_RUNNING: nobody answers. */
static int call_quietly(const struct config *config, const char *command, const char *bundle, struct json **ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf request = BUF_INIT(64 * 1024);
	char *path = config_socket_path(config);
	int r = path ? 0 : -ENOMEM;

	node_string(json_build_root(b), "command", command);
	if (bundle)
		node_string(json_build_root(b), "bundle", bundle);
	if (r == 0)
		r = json_build_text(b, false, &request);
	if (r == 0)
		r = control_call(path, request.data, request.len, CALL_DEADLINE_MS, ret);
	free(path);
	return r;
}

/* The agent does it; we wait for the end. -ECONNREFUSED: no agent runs. */
static int install_by_agent(const struct arguments *a, const struct config *config, const char *bundle,
			    int *ret_code)
{
	static const struct timespec pause = { .tv_nsec = 200 * 1000 * 1000 };
	CLEANUP(json_freep)
	struct json *begun = NULL;
	int r = call_quietly(config, "install", bundle, &begun);

	if (r < 0)
		return r == -ENOENT ? -ECONNREFUSED : r;
	if (!json_bool(json_get(begun, "ok"), false)) {
		say_error(a, "%s", text_of(begun, "error", "refused without a reason"));
		*ret_code = (int) number_of(begun, "code");
		return 0;
	}
	for (;;) {
		CLEANUP(json_freep)
		struct json *status = NULL;

		(void) nanosleep(&pause, NULL); /* cut short it only asks sooner */
		r = call_quietly(config, "install-status", NULL, &status);
		if (r < 0)
			return r == -ECONNREFUSED || r == -ENOENT ? -ERR_PEER_GONE : r;
		if (json_bool(json_get(status, "over"), false)) {
			*ret_code = (int) number_of(status, "result");
			print_installed(a, *ret_code, text_of(status, "sentence", ""));
			return 0;
		}
		if (!json_bool(json_get(status, "active"), false))
			return -ERR_PEER_GONE; /* it was started anew meanwhile */
	}
}

/* The top folder of a system that does not run: its configuration lies in it. */
static bool is_image(const char *root, char *config_dir, size_t size)
{
	char file[PATH_MAX + 32];

	if ((size_t) snprintf(config_dir, size, "%s%s", root, CONFIG_DIR_DEFAULT) >= size)
		return false;
	(void) snprintf(file, sizeof(file), "%s/agent.yaml", config_dir);
	return access(file, F_OK) == 0;
}

/* A whole system, and no node's folder: without a configuration of its own it would be filled by this machine's. */
static bool is_system(const char *root)
{
	char path[PATH_MAX + 8];
	struct stat st;

	(void) snprintf(path, sizeof(path), "%s/etc", root); /* always fits */
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int install_alone(const struct arguments *a, const struct engine_install *o)
{
	struct engine_installed done;

	(void) !engine_install(o, &done); /* what came of it is in `done` in any case */
	print_installed(a, done.code, done.sentence);
	return done.code;
}

/* The run files of a system that does not run are for nobody. */
static int install_image(const struct arguments *a, struct engine_install *o)
{
	char run[] = "/tmp/selfright-install-XXXXXX";
	int code;

	if (!mkdtemp(run)) {
		say_error(a, "%s: %s", run, err_text(-errno));
		return INSTALL_UNCHANGED;
	}
	o->run = run;
	code = install_alone(a, o);
	if (tree_remove(&os_posix, AT_FDCWD, run) < 0)
		say_error(a, "%s could not be removed", run);
	return code;
}

static int install_here(const struct arguments *a, struct engine_install *o)
{
	struct config config = { 0 };
	struct conf_error error;
	int code = INSTALL_UNCHANGED;
	int r = config_load(o->config_dir, &config, &error);

	if (r < 0) {
		say_error(a, "%s", error.text);
		return CONTROL_ERROR;
	}
	r = install_by_agent(a, &config, o->bundle, &code);
	config_done(&config);
	if (r == 0)
		return code;
	if (r == -ECONNREFUSED)
		return install_alone(a, o);
	say_error(a, "%s",
		  r == -ERR_PEER_GONE ? "the agent stopped meanwhile; the same command goes on where it was"
				      : err_text(r));
	return CONTROL_ERROR;
}

static int command_install(const struct arguments *a)
{
	char bundle[PATH_MAX], root[PATH_MAX], config_dir[PATH_MAX], image_dir[PATH_MAX];
	char run[PATH_MAX + 8];
	struct engine_install o = { .bundle = bundle, .run = a->run };

	if (!a->operand) {
		say_error(a, "install needs a bundle: a tar of `selfright bundle`, or a folder (see "
			     "selfright-agent install --help)");
		return CONTROL_USAGE;
	}
	if (!realpath(a->operand, bundle)) {
		say_error(a, "%s: %s", a->operand, err_text(-errno));
		return CONTROL_ERROR;
	}
	if (!realpath(a->config_dir, config_dir))
		(void) snprintf(config_dir, sizeof(config_dir), "%s", a->config_dir);
	o.config_dir = config_dir;
	if (!a->root)
		return install_here(a, &o);
	if (!realpath(a->root, root)) {
		say_error(a, "%s: %s", a->root, err_text(-errno));
		return CONTROL_ERROR;
	}
	o.root = root;
	if (!a->config_given && is_system(root) && !is_image(root, image_dir, sizeof(image_dir))) {
		say_error(a,
			  "%s%s/agent.yaml is missing: this image has joined no fleet; selfright-agent join FILE "
			  "--config-dir "
			  "%s%s comes first",
			  root, CONFIG_DIR_DEFAULT, root, CONFIG_DIR_DEFAULT);
		return INSTALL_UNCHANGED;
	}
	if (!a->config_given && is_image(root, image_dir, sizeof(image_dir))) {
		o.image = true;
		o.config_dir = image_dir;
		return install_image(a, &o);
	}
	/* Not the agent's own folder: what runs there is another node's. */
	if (!o.run) {
		(void) snprintf(run, sizeof(run), "%s/run", root);
		o.run = run;
	}
	return install_alone(a, &o);
}

/* Have the link that stands try its connection, and say in JSON what it found; "": nobody did. */
static void ask_for_trial(const struct config *config, char *out, size_t size, bool *ret_connected)
{
	const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
	CLEANUP(json_freep)
	struct json *begun = NULL;

	out[0] = '\0';
	if (call_quietly(config, "try", NULL, &begun) < 0 || !json_bool(json_get(begun, "ok"), false))
		return; /* only root and the agent's user may have it tried, and an older agent does not know how */
	for (unsigned i = 0; i < TRIAL_TURNS; i++) {
		CLEANUP(json_freep)
		struct json *answer = NULL;
		CLEANUP(json_build_freep)
		struct json_build *b = json_build_new();
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(16 * 1024);
		const struct json *tried;

		(void) nanosleep(&pause, NULL); /* cut short it only asks sooner */
		if (call_quietly(config, "trial", NULL, &answer) < 0)
			return;
		if (!json_bool(json_get(answer, "over"), false))
			continue;
		tried = json_get(answer, "tried");
		if (!tried)
			return; /* its process ended meanwhile */
		/* Lost while it was tried: the doctor takes nobody's place then, and walks by itself. */
		*ret_connected = json_bool(json_get(tried, "connected"), false);
		for (size_t k = 0; k < json_count(tried); k++)
			node_copy(json_build_root(b), json_name_at(tried, k), json_at(tried, k));
		if (json_build_text(b, false, &text) == 0 && text.len < size)
			memcpy(out, buf_str(&text), text.len + 1);
		return;
	}
}

/* What the running agent knows, if there is one: the doctor must not take its session over. */
static void ask_running(const struct config *config, bool *ret_connected, int64_t *ret_floor)
{
	CLEANUP(json_freep)
	struct json *status = NULL;

	if (call_quietly(config, "status", NULL, &status) < 0)
		return; /* a doctor is wanted most where no agent runs */
	*ret_connected = json_bool(json_get(json_get(status, "link"), "connected"), false);
	if (number_of(json_get(status, "metadata"), "time_floor") > *ret_floor)
		*ret_floor = number_of(json_get(status, "metadata"), "time_floor");
}

/* The link's program looks, as the link's user and in its environment: what it sees is what the link sees. */
static int run_doctor(const struct arguments *a, const struct config *config, const char *program)
{
	struct road_environment environment = { .count = 0 };
	int64_t time_floor = ENGINE_BUILD_TIME;
	bool connected = false;
	char floor[24], tried[16 * 1024] = "";
	const char *argv[11] = { program, "--config-dir", a->config_dir, "--doctor", "--time-floor", floor };
	size_t argc = 6;
	struct process process = { 0 };
	int status = 0, r;

	ask_running(config, &connected, &time_floor);
	(void) snprintf(floor, sizeof(floor), "%" PRId64, time_floor); /* always fits */
	if (connected)
		ask_for_trial(config, tried, sizeof(tried), &connected);
	if (connected)
		argv[argc++] = "--connected";
	if (connected && tried[0]) {
		argv[argc++] = "--tried";
		argv[argc++] = tried;
	}
	if (a->json)
		argv[argc++] = "--json";
	r = config_road_environment(config, &environment);
	if (r == 0)
		r = process_start(
			&(struct process_options){
				.argv = argv,
				.env = (const char *const *) environment.items,
				.user = geteuid() == 0 ? config->users.link : NULL,
				.die_with_parent = true,
				.stdin_fd = -1,
				.stdout_fd = STDOUT_FILENO,
				.stderr_fd = STDERR_FILENO,
				.no_new_privs = true,
			},
			&process);
	road_environment_done(&environment);
	while (r == 0 && process_poll(&process, &status) == 0)
		(void) poll(NULL, 0, 20);
	if (r < 0) {
		say_error(a, "%s: %s", program, err_text(r));
		return CONTROL_ERROR;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : CONTROL_ERROR;
}

static int command_doctor(const struct arguments *a)
{
	struct config config = { 0 };
	struct conf_error error = { "" };
	char *program = NULL;
	int code = CONTROL_ERROR, r = config_load(a->config_dir, &config, &error);

	if (r < 0) {
		say_error(a, "%s", error.text);
		return CONTROL_ERROR;
	}
	r = geteuid() == 0 ? config_check_users(&config, &error) : 0;
	if (r == 0)
		r = config_program(&config, "selfright-link", &program, &error);
	if (r < 0)
		say_error(a, "%s", error.text);
	else
		code = run_doctor(a, &config, program);
	free(program);
	config_done(&config);
	return code;
}

/* --- are the stored trees what was signed? --- */

struct verification {
	const struct arguments *a;
	const struct config *config;
	struct json_node *list;
	size_t sound, damaged, repaired;
};

/* By the agent that runs, from wherever it gets its files; without one, from --bundle. Negative or an exit code: not. */
static int repair_tree(const struct verification *v, const struct verified_tree *t, char *words, size_t size)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf request = BUF_INIT(64 * 1024);
	CLEANUP(json_freep)
	struct json *answer = NULL;
	struct engine_install o = { .config_dir = v->a->config_dir,
				    .bundle = v->a->bundle,
				    .repair_component = t->component,
				    .repair_version = t->version };
	struct engine_installed done;
	char *path = config_socket_path(v->config);
	int r = path ? 0 : -ENOMEM;

	node_string(json_build_root(b), "command", "repair");
	node_string(json_build_root(b), "component", t->component);
	node_string(json_build_root(b), "version", t->version);
	if (r == 0)
		r = json_build_text(b, false, &request);
	if (r == 0)
		r = control_call(path, request.data, request.len, REPAIR_DEADLINE_MS, &answer);
	free(path);
	if (r == 0) {
		bool ok = json_bool(json_get(answer, "ok"), false);

		(void) snprintf(words, size, "%s", ok ? "" : text_of(answer, "error", "refused without a reason"));
		return ok ? 0 : CONTROL_ERROR;
	}
	if (r != -ENOENT && r != -ECONNREFUSED) {
		(void) snprintf(words, size, "%s", err_text(r));
		return r;
	}
	if (!v->a->bundle) {
		(void) snprintf(words, size, "no agent runs that could fetch it; start it, or say --bundle FILE");
		return CONTROL_NOT_RUNNING;
	}
	r = engine_install(&o, &done);
	(void) snprintf(words, size, "%s", done.sentence);
	return r < 0 ? r : done.code;
}

static void show_tree(void *user, const struct verified_tree *t)
{
	struct verification *v = user;
	struct json_node *o = node_object(v->list, NULL);
	const char *state = t->result == 0 ? "sound" : "damaged";
	char words[1200] = "";
	int r = -1;

	if (t->result == 0) {
		v->sound++;
	} else {
		v->damaged++;
		(void) snprintf(words, sizeof(words), "%s%s%s", err_text(t->result), t->offender[0] ? ": " : "",
				t->offender);
		if (v->a->repair)
			r = repair_tree(v, t, words, sizeof(words));
		if (r == 0) {
			state = "repaired";
			v->repaired++;
			words[0] = '\0';
		}
	}
	node_string(o, "component", t->component);
	node_string(o, "version", t->version);
	node_bool(o, "current", t->current);
	node_string(o, "against", t->by_manifest ? "signed" : "recorded");
	node_string(o, "state", state);
	node_string(o, "detail", words);
	if (!v->a->json)
		say("%-10s %s %s%s%s%s\n", state, t->component, t->version, t->current ? " (current)" : "",
		    words[0] ? ": " : "", words);
}

static int command_verify(const struct arguments *a)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4 * 1024 * 1024);
	struct config config = { 0 };
	struct conf_error error;
	struct verification v = { .a = a, .config = &config, .list = node_array(json_build_root(b), "trees") };
	char bundle[PATH_MAX];
	struct arguments with = *a;
	int r = config_load(a->config_dir, &config, &error);

	if (r < 0) {
		say_error(a, "%s", error.text);
		return CONTROL_ERROR;
	}
	if (a->bundle && !realpath(a->bundle, bundle)) {
		say_error(a, "%s: %s", a->bundle, err_text(-errno));
		config_done(&config);
		return CONTROL_ERROR;
	}
	with.bundle = a->bundle ? bundle : NULL;
	v.a = &with;
	r = verify_trees(config.root, a->operand, a->second, show_tree, &v);
	if (r == -ENOENT)
		say_error(a, "%s%s%s is not stored in %s", a->operand ? a->operand : "nothing",
			  a->second ? " " : "", a->second ? a->second : "", config.root);
	else if (r < 0)
		say_error(a, "%s: %s", config.root, err_text(r));
	config_done(&config);
	if (r < 0)
		return CONTROL_ERROR;
	node_bool(json_build_root(b), "ok", v.damaged == v.repaired);
	if (a->json && json_build_text(b, true, &text) == 0)
		puts(buf_str(&text));
	return v.damaged == v.repaired ? CONTROL_OK : CONTROL_ERROR;
}

static int command_rehearse(const struct arguments *a)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	int exit_code;

	if (!a->operand) {
		say_error(a, "rehearse needs STEP:FAULT (see selfright-agent rehearse --help)");
		return CONTROL_USAGE;
	}
	node_string(json_build_root(b), "command", "rehearse");
	node_string(json_build_root(b), "what", a->operand);
	exit_code = ask(a, b, &answer);
	if (answer)
		printf("the next update meets %s, once\n", a->operand);
	return exit_code;
}

static int command_version(const struct arguments *a)
{
	if (a->json)
		printf("{\"ok\":true,\"version\":\"%s\"}\n", program_version);
	else
		printf("selfright-agent %s\n", program_version);
	return CONTROL_OK;
}

static const struct command commands[] = {
	{ "run", "be the agent, in the foreground", "", "selfright-agent run --config-dir /etc/selfright",
	  command_run },
	{ "join", "make this a node of a fleet", "FILE.join [--root DIR] [--run DIR] [--force]",
	  "selfright-agent join n1.join", command_join },
	{ "status", "what runs here and what is under way", "[--prometheus [-o FILE]]", "selfright-agent status",
	  command_status },
	{ "why", "why a component is not updating, and what would change it", "[COMPONENT]",
	  "selfright-agent why web", command_why },
	{ "history", "what was installed, when, and how it ended", "[COMPONENT] [--limit N]",
	  "selfright-agent history --limit 10", command_history },
	{ "rollback", "go back to a version that was good here, and stay off the present one",
	  "COMPONENT [--to VERSION] [--restore-data] --reason TEXT",
	  "selfright-agent rollback web --reason 'errors since noon'", command_rollback },
	{ "hold", "let no update start here for a while", "--for TIME --reason TEXT | --release",
	  "selfright-agent hold --for 2h --reason 'trade fair'", command_hold },
	{ "defer", "let rollouts come later, up to a day before their deadline",
	  "[COMPONENT] --for TIME | --until TIME | --release [--reason TEXT]",
	  "selfright-agent defer web --until 2026-12-01T06:00:00Z --reason 'month-end closing'", command_defer },
	{ "inhibit", "run a command, and let no update begin before it has ended",
	  "--why TEXT -- COMMAND [ARGUMENT...]",
	  "selfright-agent inhibit --why 'nightly backup' -- /usr/local/sbin/backup", command_inhibit },
	{ "install", "apply a bundle from a stick, under the same rules as from the network",
	  "BUNDLE [--root DIR] [--run DIR]", "selfright-agent install /media/stick/demo.tar", command_install },
	{ "doctor", "walk the roads to broker and repository, and name the first step that fails", "",
	  "selfright-agent doctor", command_doctor },
	{ "verify", "hash stored versions against what was signed; restore what is damaged",
	  "[COMPONENT [VERSION]] [--repair] [--bundle FILE]", "selfright-agent verify web --repair",
	  command_verify },
	{ "rehearse", "let a step of the next update fail, or the agent be killed in it, once", "STEP:FAULT",
	  "selfright-agent rehearse swapping:kill", command_rehearse },
	{ "version", "the version of this agent", "", "selfright-agent version", command_version },
};

static void print_help(FILE *out)
{
	fprintf(out, "Usage: selfright-agent COMMAND [ARGUMENTS] [--config-dir DIR] [--json]\n\n");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
	fprintf(out, "  %-9s %s\n", "trust", "what this node trusts: show, export, replace a lost root");
	fprintf(out,
		"\nselfright-agent COMMAND --help says more. The configuration is read from %s unless\n"
		"--config-dir names another folder.\n%s",
		CONFIG_DIR_DEFAULT, exit_codes);
}

static const struct {
	const char *name, *argument, *meaning;
} option_help[] = {
	{ "--root", "DIR", "where versions, data and state are kept (default " CONFIG_ROOT_DEFAULT ")" },
	{ "--run", "DIR", "where the control socket is (default " CONFIG_RUN_DEFAULT ")" },
	{ "--force", "", "take the place of an identity that is there already" },
	{ "--limit", "N", "the newest N lines, 1 to 10000 (default 50)" },
	{ "--to", "VERSION", "a version that was good here (default: the newest of them before this one)" },
	{ "--reason", "TEXT", "why, for the report and for whoever comes next" },
	{ "--for", "TIME", "how long, at most 90d: 90s, 15m, 2h, 7d" },
	{ "--until", "TIME", "until when, at most 90 days: 2026-12-01T06:00:00Z" },
	{ "--restore-data", "",
	  "its data too, as they were when that version was left (components.d has to allow it)" },
	{ "--repair", "", "fetch what is damaged again, by its signed digest, and put it in its place" },
	{ "--bundle", "FILE", "a bundle to take it from when no agent runs" },
	{ "--release", "", "end it now" },
	{ "--prometheus", "", "as metrics for node_exporter's textfile collector" },
	{ "-o", "FILE", "into this file, in one step" },
	{ "--why", "TEXT", "what the command is, for whoever asks why nothing updates" },
};

/* Does the usage name this option, and not only one that begins like it? */
static bool usage_has(const char *usage, const char *option)
{
	size_t len = strlen(option);

	for (const char *p = usage; (p = strstr(p, option)); p += len)
		if (p[len] == '\0' || strchr(" ]|", p[len]))
			return true;
	return false;
}

static void print_option_help(const char *name, const char *argument, const char *meaning)
{
	char left[64];

	(void) snprintf(left, sizeof(left), "%s%s%s", name, argument[0] ? " " : "", argument);
	printf("  %-18s %s\n", left, meaning);
}

static void print_command_help(const struct command *c)
{
	printf("selfright-agent %s: %s\n\nUsage: selfright-agent %s %s%s[--config-dir DIR] [--json]\nExample: "
	       "%s\n\nOptions:\n",
	       c->name, c->summary, c->name, c->usage, c->usage[0] ? " " : "", c->example);
	for (size_t i = 0; i < ARRAY_LEN(option_help); i++)
		if (usage_has(c->usage, option_help[i].name))
			print_option_help(option_help[i].name, option_help[i].argument, option_help[i].meaning);
	print_option_help("--config-dir", "DIR", "the configuration's folder (default " CONFIG_DIR_DEFAULT ")");
	print_option_help("--json", "", "the answer as JSON");
	if (c->main == command_rehearse)
		printf("\nSTEP is a state of an update: planned, staging, waiting, stopping, swapping, probation, "
		       "good or\n"
		       "rolling-back. FAULT is kill, or an error that changing a file answers there: ENOSPC, EIO, "
		       "EMFILE,\n"
		       "ENOMEM. agent.yaml has to say rehearse: true.\n");
	printf("\n%s", c->main == command_install ? install_exit_codes : exit_codes);
}

/* "90", "90s", "15m", "2h", "7d". */
static bool parse_seconds(const char *text, uint64_t *ret)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
	char digits[16];
	size_t len = strlen(text);
	uint64_t factor = 1, n = 0;

	if (len == 0 || len >= sizeof(digits))
		return false;
	memcpy(digits, text, len + 1);
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (digits[len - 1] == units[i].unit) {
			factor = units[i].seconds;
			digits[len - 1] = '\0';
			break;
		}
	}
	if (parse_u64(digits, &n) < 0 || n == 0 || n > 366 * 86400 / factor)
		return false;
	*ret = n * factor;
	return true;
}

enum option_id {
	OPT_CONFIG = 1000,
	OPT_BUNDLE,
	OPT_REPAIR,
	OPT_RESTORE_DATA,
	OPT_ROOT,
	OPT_RUN,
	OPT_TO,
	OPT_REASON,
	OPT_FOR,
	OPT_LIMIT,
	OPT_UNTIL,
	OPT_WHY
};

static const struct option options[] = {
	{ "config-dir", required_argument, NULL, OPT_CONFIG },
	{ "root", required_argument, NULL, OPT_ROOT },
	{ "run", required_argument, NULL, OPT_RUN },
	{ "to", required_argument, NULL, OPT_TO },
	{ "reason", required_argument, NULL, OPT_REASON },
	{ "for", required_argument, NULL, OPT_FOR },
	{ "limit", required_argument, NULL, OPT_LIMIT },
	{ "until", required_argument, NULL, OPT_UNTIL },
	{ "why", required_argument, NULL, OPT_WHY },
	{ "prometheus", no_argument, NULL, 'p' },
	{ "output", required_argument, NULL, 'o' },
	{ "bundle", required_argument, NULL, OPT_BUNDLE },
	{ "repair", no_argument, NULL, OPT_REPAIR },
	{ "restore-data", no_argument, NULL, OPT_RESTORE_DATA },
	{ "json", no_argument, NULL, 'j' },
	{ "force", no_argument, NULL, 'f' },
	{ "release", no_argument, NULL, 'r' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static void say_unknown_option(const struct arguments *a, const char *command, const char *word)
{
	const char *names[ARRAY_LEN(options) - 1], *meant;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		names[i] = options[i].name;
	meant = str_starts(word, "--") ? text_nearest(word + 2, names, ARRAY_LEN(names)) : NULL;
	say_error(a, "there is no option %s%s%s%s (see selfright-agent %s --help)", word,
		  meant ? "; did you mean --" : "", meant ? meant : "", meant ? "?" : "", command);
}

static int parse_arguments(int argc, char **argv, struct arguments *a)
{
	char letter[3];
	int o;

	opterr = 0; /* what is wrong is said below, as everything else is */
	while ((o = getopt_long(argc, argv, ":ho:", options, NULL)) != -1) {
		switch (o) {
		case OPT_CONFIG:
			a->config_dir = optarg;
			a->config_given = true;
			break;
		case OPT_BUNDLE:
			a->bundle = optarg;
			break;
		case OPT_REPAIR:
			a->repair = true;
			break;
		case OPT_RESTORE_DATA:
			a->restore_data = true;
			break;
		case OPT_ROOT:
			a->root = optarg;
			break;
		case OPT_RUN:
			a->run = optarg;
			break;
		case OPT_TO:
			a->to = optarg;
			break;
		case OPT_REASON:
			a->reason = optarg;
			break;
		case OPT_FOR:
			if (!parse_seconds(optarg, &a->for_s)) {
				say_error(a, "--for takes a time such as 90s, 15m, 2h or 7d, not '%s'", optarg);
				return -1;
			}
			break;
		case OPT_LIMIT:
			if (parse_u64(optarg, &a->limit) < 0 || a->limit == 0 || a->limit > 10000) {
				say_error(a, "--limit takes a number from 1 to 10000, not '%s'", optarg);
				return -1;
			}
			break;
		case OPT_UNTIL:
			if (timestamp_parse(optarg, &a->until) < 0 || a->until <= 0) {
				say_error(a, "--until takes a time in UTC such as 2026-12-01T06:00:00Z, not '%s'",
					  optarg);
				return -1;
			}
			break;
		case OPT_WHY:
			a->why = optarg;
			break;
		case 'p':
			a->prometheus = true;
			break;
		case 'o':
			a->output = optarg;
			break;
		case 'j':
			a->json = true;
			break;
		case 'f':
			a->force = true;
			break;
		case 'r':
			a->release = true;
			break;
		case 'h':
			a->help = true;
			break;
		case ':':
			say_error(a, "%s needs a value (see selfright-agent %s --help)", argv[optind - 1],
				  argv[0]);
			return -1;
		default:
			(void) snprintf(letter, sizeof(letter), "-%c", optopt);
			say_unknown_option(a, argv[0],
					   str_starts(argv[optind - 1], "--") ? argv[optind - 1] : letter);
			return -1;
		}
	}
	if (str_eq(argv[0], "inhibit")) {
		/* Whatever follows is another program's; its options are not ours. */
		if (optind < argc && !str_eq(argv[optind - 1], "--")) {
			say_error(a, "the command to run stands after --");
			return -1;
		}
		a->program = optind < argc ? argv + optind : NULL;
		return 0;
	}
	if (optind < argc)
		a->operand = argv[optind++];
	if (optind < argc)
		a->second = argv[optind++];
	if (optind < argc) {
		say_error(a, "one argument too many: '%s'", argv[optind]);
		return -1;
	}
	return 0;
}

/* A word in capitals comes first, perhaps in brackets: "[COMPONENT] [--limit N]". */
static bool usage_takes_argument(const char *usage)
{
	const char *word = usage[0] == '[' ? usage + 1 : usage;

	return word[0] >= 'A' && word[0] <= 'Z';
}

static void say_unknown_command(const char *word)
{
	const char *names[ARRAY_LEN(commands) + 1], *meant;

	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		names[i] = commands[i].name;
	names[ARRAY_LEN(commands)] = "trust";
	meant = text_nearest(word, names, ARRAY_LEN(names));
	fprintf(stderr, "selfright-agent: there is no command '%s'%s%s%s (see selfright-agent --help)\n", word,
		meant ? "; did you mean '" : "", meant ? meant : "", meant ? "'?" : "");
}

int main(int argc, char **argv)
{
	static char config_dir[PATH_MAX], help_option[] = "--help";
	struct arguments a = { .config_dir = CONFIG_DIR_DEFAULT };
	const struct command *c = NULL;

	log_set_program("selfright-agent");
	if (argc < 2) {
		print_help(stderr);
		return CONTROL_USAGE;
	}
	if (str_eq(argv[1], "--help") || str_eq(argv[1], "-h") || str_eq(argv[1], "help")) {
		if (argc == 2) {
			print_help(stdout);
			return CONTROL_OK;
		}
		/* `help COMMAND` is `COMMAND --help`. */
		argv[1] = argv[2];
		argv[2] = help_option;
		argc = 3;
	}
	if (str_eq(argv[1], "--version"))
		return command_version(&a);
	if (str_eq(argv[1], "trust"))
		return trust_main(argc - 1, argv + 1);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (str_eq(commands[i].name, argv[1]))
			c = &commands[i];
	if (!c) {
		say_unknown_command(argv[1]);
		return CONTROL_USAGE;
	}
	if (parse_arguments(argc - 1, argv + 1, &a) < 0)
		return CONTROL_USAGE;
	if (a.help) {
		print_command_help(c);
		return CONTROL_OK;
	}
	if (a.operand && !usage_takes_argument(c->usage)) {
		say_error(&a, "%s takes no argument: '%s'", c->name, a.operand);
		return CONTROL_USAGE;
	}
	if (a.second && c->main != command_verify) {
		say_error(&a, "one argument too many: '%s'", a.second);
		return CONTROL_USAGE;
	}
	/* The processes it starts live in another folder. One that is not there yet is made by join, as it was named. */
	if (realpath(a.config_dir, config_dir))
		a.config_dir = config_dir;
	return c->main(&a);
}
