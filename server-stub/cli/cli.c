#include "server-stub/cli/cli.h"

#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "fetch/fetch.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "os/process.h"
#include "os/unixsock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIGNER_USER "selfright-signer"

enum { REQUEST_TIMEOUT_MS = 60000, SIGNER_START_MS = 10000, CELL_MAX = 1024, NAMES_MAX = 64 };

/* --- saying things --- */

static void complain(const struct cli *c, const char *sentence)
{
	if (c && c->json) {
		CLEANUP(json_build_freep)
		struct json_build *b = json_build_new();
		CLEANUP(buf_done)
		struct buf text = BUF_INIT(64 * 1024);

		node_string(json_build_root(b), "error", sentence);
		if (json_build_text(b, false, &text) >= 0) {
			(void) fprintf(stderr, "%s\n", buf_str(&text)); /* nowhere else to say it */
			return;
		}
	}
	(void) fprintf(stderr, "selfright: %s\n", sentence); /* the same */
}

/* One of our own colours at `p`: its length, or 0. */
static size_t colour_at(const struct cli *c, const char *p)
{
	for (enum cli_colour i = CLI_PLAIN; c->colour && *p == '\033' && i <= CLI_BOLD; i++)
		if (str_starts(p, cli_colour(c, i)))
			return strlen(cli_colour(c, i));
	return 0;
}

/* Nodes and servers wrote part of it: nothing of theirs steers the terminal, and our own colours stay. */
static void print_tamed(const struct cli *c, char *text)
{
	while (*text) {
		size_t colour = colour_at(c, text), len = colour;
		char after;

		while (colour == 0 && text[len] && (len == 0 || colour_at(c, text + len) == 0))
			len++;
		after = text[len];
		text[len] = '\0';
		if (colour == 0)
			text_tame(text, "\n\t");
		(void) fputs(text, stdout); /* a closed pipe ends us */
		text += len;
		*text = after;
	}
}

int cli_fail(const struct cli *c, int code, const char *fmt, ...)
{
	char text[4096];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof(text), fmt, ap); /* cut to fit */
	va_end(ap);
	text_tame(text, "\n\t");
	complain(c, text);
	return code;
}

int cli_fail_error(const struct cli *c, int r, const char *fmt, ...)
{
	char text[2048], all[4096];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof(text), fmt, ap); /* cut to fit */
	va_end(ap);
	(void) snprintf(all, sizeof(all), "%s: %s", text, err_text(r));
	complain(c, all);
	return CLI_FAILED;
}

void cli_say(const struct cli *c, const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;
	int n;

	if (c->json)
		return;
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n >= 0)
		print_tamed(c, text);
	free(n >= 0 ? text : NULL); /* without memory a line is missing */
	(void) putchar('\n');
	(void) fflush(stdout);
}

void cli_print_json(const char *text)
{
	(void) printf("%s\n", text); /* a closed pipe ends us */
	(void) fflush(stdout);
}

const char *cli_colour(const struct cli *c, enum cli_colour colour)
{
	static const char *const codes[] = {
		[CLI_PLAIN] = "\033[0m", [CLI_GREEN] = "\033[32m", [CLI_YELLOW] = "\033[33m",
		[CLI_RED] = "\033[31m",	 [CLI_DIM] = "\033[2m",	   [CLI_BOLD] = "\033[1m",
	};

	return c->colour ? codes[colour] : "";
}

const char *cli_span(char *out, size_t size, int64_t seconds)
{
	long long s = seconds < 0 ? -seconds : seconds;
	const char *sign = seconds < 0 ? "-" : "";

	if (s < 120)
		(void) snprintf(out, size, "%s%llds", sign, s);
	else if (s < 7200)
		(void) snprintf(out, size, "%s%lldm", sign, s / 60);
	else if (s < 86400)
		(void) snprintf(out, size, "%s%lldh %lldm", sign, s / 3600, s / 60 % 60);
	else if (s < 10 * 86400)
		(void) snprintf(out, size, "%s%lldd %lldh", sign, s / 86400, s / 3600 % 24);
	else
		(void) snprintf(out, size, "%s%lldd", sign, s / 86400);
	return out;
}

int cli_parse_seconds(const char *text, uint64_t *ret)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
	size_t digits = strspn(text, "0123456789");
	uint64_t factor = text[digits] ? 0 : 1, n;
	char number[16];
	int r;

	if (digits == 0 || digits >= sizeof(number))
		return -ERR_NUMBER;
	memcpy(number, text, digits);
	number[digits] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (text[digits] == units[i].unit && !text[digits + 1])
			factor = units[i].seconds;
	r = parse_u64(number, &n);
	if (r < 0 || factor == 0 || n > UINT64_C(100) * 366 * 86400 / factor)
		return -ERR_NUMBER;
	*ret = n * factor;
	return 0;
}

/* --- tables --- */

struct cli_cell {
	char *text;
	enum cli_colour colour;
};

struct cli_table {
	size_t columns, count, capacity;
	struct cli_cell *cells; /* headings first */
	bool failed;
};

/* Characters a terminal shows, for aligning: bytes that do not continue a UTF-8 sequence. */
static size_t shown_width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char) *s & 0xc0) != 0x80;
	return n;
}

static void table_add(struct cli_table *t, enum cli_colour colour, const char *text)
{
	char safe[CELL_MAX];

	if (t->count == t->capacity) {
		size_t more = t->capacity ? 2 * t->capacity : 64;
		struct cli_cell *cells = reallocarray(t->cells, more, sizeof(*cells));

		if (!cells) {
			t->failed = true;
			return;
		}
		t->cells = cells;
		t->capacity = more;
	}
	/* Text from nodes must not move the reader's cursor. */
	(void) snprintf(safe, sizeof(safe), "%s", text); /* cut to fit */
	text_tame(safe, "");
	t->cells[t->count].text = strdup(safe);
	if (!t->cells[t->count].text) {
		t->failed = true;
		return;
	}
	t->cells[t->count++].colour = colour;
}

struct cli_table *cli_table_new(const char *const *headings, size_t columns)
{
	struct cli_table *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->columns = columns;
	for (size_t i = 0; i < columns; i++)
		table_add(t, CLI_BOLD, headings[i]);
	return t;
}

void cli_table_cell(struct cli_table *t, enum cli_colour colour, const char *fmt, ...)
{
	char text[CELL_MAX];
	va_list ap;

	if (!t)
		return;
	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof(text), fmt, ap); /* cut to fit */
	va_end(ap);
	table_add(t, colour, text);
}

static void print_cell(const struct cli *c, const struct cli_cell *cell, size_t width, bool last)
{
	size_t pad = last ? 0 : width - shown_width(cell->text) + 2;
	bool coloured = cell->colour != CLI_PLAIN && c->colour;

	(void) printf("%s%s%s%*s", coloured ? cli_colour(c, cell->colour) : "", cell->text,
		      coloured ? cli_colour(c, CLI_PLAIN) : "", (int) pad, ""); /* a closed pipe ends us */
}

/* By column, once: a fleet's table has a hundred thousand cells. NULL: there is no memory for it. */
static size_t *column_widths(const struct cli_table *t)
{
	size_t *widths = calloc(t->columns, sizeof(*widths));

	for (size_t i = 0; widths && i < t->count; i++) {
		size_t width = shown_width(t->cells[i].text), *widest = &widths[i % t->columns];

		*widest = width > *widest ? width : *widest;
	}
	return widths;
}

void cli_table_print(const struct cli *c, struct cli_table *t)
{
	size_t *widths = t && !t->failed ? column_widths(t) : NULL;

	if (!widths)
		(void) cli_fail(c, CLI_FAILED, "not enough memory for the table");
	else if (!c->json)
		for (size_t i = 0; i < t->count; i++) {
			size_t column = i % t->columns;

			print_cell(c, &t->cells[i], widths[column], column + 1 == t->columns);
			if (column + 1 == t->columns || i + 1 == t->count)
				(void) putchar('\n');
		}
	free(widths);
	for (size_t i = 0; t && i < t->count; i++)
		free(t->cells[i].text);
	if (t)
		free(t->cells);
	free(t);
	(void) fflush(stdout); /* a closed pipe ends us */
}

/* --- arguments --- */

static void print_option(const char *name, const char *value, const char *help)
{
	char left[64];

	(void) snprintf(left, sizeof(left), "--%s%s%s", name, value ? " " : "", value ? value : "");
	(void) printf("  %-28s %s\n", left, help);
}

static int print_help(const struct cli_command *command)
{
	(void) printf("Usage: selfright %s\n\n%c%s.\n\nOptions:\n", command->usage,
		      command->summary[0] >= 'a' && command->summary[0] <= 'z' ? command->summary[0] - 'a' + 'A'
									       : command->summary[0],
		      command->summary + 1);
	for (const struct cli_option *o = command->options; o && o->name; o++)
		print_option(o->name, o->value, o->help);
	print_option("dir", "DIR", "the fleet's folder (or $SELFRIGHT_DIR)");
	print_option("json", NULL, "answer with JSON");
	print_option("help", NULL, "this");
	if (command->details)
		(void) printf("\n%s\n", command->details);
	(void) printf("\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 refused or not yet.\n\nExample: %s\n",
		      command->example);
	return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

static int usage_error(const struct cli *c, const struct cli_command *command, const char *fmt, const char *what)
{
	char text[512];

/* The formats are the literals below. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	(void) snprintf(text, sizeof(text), fmt, what);
#pragma GCC diagnostic pop
	return cli_fail(c, CLI_USAGE, "%s\nusage: selfright %s\n(--help says more)", text, command->usage);
}

static int take_value(const struct cli *c, const struct cli_command *command, const struct cli_option *o,
		      const char *value)
{
	if (o->text)
		*o->text = value;
	else if (o->values) {
		if (o->values->count == CLI_VALUES_MAX)
			return usage_error(c, command, "--%s is given too often", o->name);
		o->values->items[o->values->count++] = value;
	} else if (o->number && parse_u64(value, o->number) < 0)
		return usage_error(c, command, "%s is no whole number", value);
	else if (o->seconds && cli_parse_seconds(value, o->seconds) < 0)
		return usage_error(c, command, "%s is no time span (30s, 15m, 24h, 7d)", value);
	return -1;
}

static int unknown_option(const struct cli *c, const struct cli_command *command,
			  const struct cli_option *const *lists, size_t list_count, const char *word)
{
	const char *names[NAMES_MAX], *meant;
	char text[200];
	size_t count = 0;

	for (size_t k = 0; k < list_count; k++)
		for (const struct cli_option *o = lists[k]; o && o->name && count < ARRAY_LEN(names); o++)
			names[count++] = o->name;
	meant = str_starts(word, "--") ? text_nearest(word + 2, names, count) : NULL;
	if (!meant)
		return usage_error(c, command, "there is no option %s", word);
	(void) snprintf(text, sizeof(text), "%.100s; did you mean --%s?", word, meant);
	return usage_error(c, command, "there is no option %s", text);
}

/* An option at argv[*i]; moves *i over its value. */
static int take_option(struct cli *c, const struct cli_command *command, int argc, char **argv, int *i)
{
	const char *word = str_eq(argv[*i], "-o") ? "--output" : argv[*i], *equals = strchr(word, '=');
	const struct cli_option common[] = { { .name = "dir", .value = "DIR", .text = &c->dir },
					     { .name = "json", .flag = &c->json },
					     { 0 } };
	const struct cli_option *lists[] = { command->options, common };
	size_t len = equals ? (size_t) (equals - word) : strlen(word);

	if (str_eq(word, "--help") || str_eq(word, "-h"))
		return print_help(command);
	for (size_t k = 0; k < ARRAY_LEN(lists); k++)
		for (const struct cli_option *o = lists[k]; o && o->name; o++) {
			if (strlen(o->name) + 2 != len || !str_starts(word, "--") ||
			    strncmp(word + 2, o->name, len - 2) != 0)
				continue;
			if (o->flag) {
				if (equals)
					return usage_error(c, command, "%s takes no value", word);
				*o->flag = true;
				return -1;
			}
			if (!equals && *i + 1 >= argc)
				return usage_error(c, command, "%s needs a value", word);
			return take_value(c, command, o, equals ? equals + 1 : argv[++*i]);
		}
	return unknown_option(c, command, lists, ARRAY_LEN(lists), word);
}

static bool is_fleet_folder(const char *dir)
{
	char path[PATH_MAX];
	struct stat st;

	(void) snprintf(path, sizeof(path), "%s/fleet.json", dir);
	return stat(path, &st) == 0;
}

int cli_parse(const struct cli_command *command, int argc, char **argv, struct cli *ret)
{
	bool only_arguments = false;

	*ret = (struct cli){ .dir = NULL };
	ret->colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	/* Complaints before --json was reached are to be JSON as well. */
	for (int i = 1; i < argc && !str_eq(argv[i], "--"); i++)
		ret->json = ret->json || str_eq(argv[i], "--json");
	for (int i = 1; i < argc; i++) {
		if (!only_arguments && str_eq(argv[i], "--")) {
			only_arguments = true;
		} else if (!only_arguments && argv[i][0] == '-' && argv[i][1]) {
			int r = take_option(ret, command, argc, argv, &i);

			if (r >= 0)
				return r;
		} else if (ret->arg_count == CLI_ARGS_MAX || ret->arg_count == command->max_args) {
			return usage_error(ret, command, "%s is one argument too many", argv[i]);
		} else {
			ret->args[ret->arg_count++] = argv[i];
		}
	}
	if (ret->json)
		ret->colour = false;
	if (ret->arg_count < command->min_args)
		return usage_error(ret, command, "an argument is missing%s", "");
	if (!ret->dir || !*ret->dir)
		ret->dir = getenv("SELFRIGHT_DIR");
	if (!ret->dir || !*ret->dir)
		ret->dir = is_fleet_folder(".") ? "." : "";
	/* Programs that are started for us work in another folder. One that is not there keeps its name for the complaint. */
	if (*ret->dir && realpath(ret->dir, ret->dir_absolute))
		ret->dir = ret->dir_absolute;
	return -1;
}

int cli_need_dir(const struct cli *c)
{
	if (!*c->dir)
		return cli_fail(c, CLI_USAGE,
				"which fleet? Name its folder with --dir DIR or SELFRIGHT_DIR, or make one: "
				"selfright repo init DIR --fleet NAME");
	if (is_fleet_folder(c->dir))
		return -1;
	if (access(c->dir, X_OK) < 0 && errno == EACCES)
		return cli_fail(c, CLI_FAILED, "%s belongs to another user: be that one, or root", c->dir);
	return cli_fail(c, CLI_FAILED,
			"%s is no fleet's folder (there is no fleet.json): selfright repo init %s --fleet "
			"NAME makes one",
			c->dir, c->dir);
}

int cli_open(const struct cli_command *command, int argc, char **argv, struct cli *ret)
{
	int r = cli_parse(command, argc, argv, ret);

	return r < 0 ? cli_need_dir(ret) : r;
}

int cli_fleet_name(const struct cli *c, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(PATH_MAX), text = BUF_INIT(4096);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const char *fleet;
	int r;

	r = cli_need_dir(c);
	if (r >= 0)
		return r;
	r = buf_addf(&path, "%s/fleet.json", c->dir);
	if (r >= 0)
		r = file_read(&os_posix, AT_FDCWD, buf_str(&path), 4096, &text);
	if (r >= 0)
		r = json_parse(text.data, text.len, &json_limits_default, &doc);
	fleet = json_string(json_get(doc, "fleet"));
	if (r >= 0 && !guard_id(fleet))
		r = -ERR_NAME;
	if (r >= 0)
		r = buf_add_str(ret, fleet);
	return r < 0 ? cli_fail_error(c, r, "%s", buf_str(&path)) : -1;
}

static int dispatch_help(const char *word, const char *summary, const struct cli_sub *subs, FILE *to)
{
	(void) fprintf(to, "Usage: selfright %s COMMAND ...\n\n%s\n\nCommands:\n", word, summary);
	for (const struct cli_sub *s = subs; s->name; s++)
		(void) fprintf(to, "  %-14s %s\n", s->name, s->summary);
	(void) fprintf(to, "\n`selfright %s COMMAND --help` says more, with an example.\n", word);
	return fflush(to) == 0 ? CLI_OK : CLI_FAILED;
}

bool cli_asks_for_help(int argc, char **argv)
{
	static char option[] = "--help";

	if (!str_eq(argv[1], "--help") && !str_eq(argv[1], "-h") && !str_eq(argv[1], "help"))
		return false;
	if (argc < 3 || argv[2][0] == '-')
		return true;
	memmove(argv + 1, argv + 2, (size_t) (argc - 2) * sizeof(*argv));
	argv[argc - 1] = option;
	return false;
}

int cli_dispatch(const char *word, const char *summary, const struct cli_sub *subs, int argc, char **argv)
{
	const char *names[NAMES_MAX], *meant;
	size_t count = 0;

	if (argc < 2) {
		(void) dispatch_help(word, summary, subs, stderr);
		return CLI_USAGE;
	}
	if (cli_asks_for_help(argc, argv))
		return dispatch_help(word, summary, subs, stdout);
	for (const struct cli_sub *s = subs; s->name; s++) {
		if (str_eq(s->name, argv[1]))
			return s->run(argc - 1, argv + 1);
		if (count < ARRAY_LEN(names))
			names[count++] = s->name;
	}
	(void) fprintf(stderr, "selfright: there is no `selfright %s %s`", word, argv[1]);
	meant = text_nearest(argv[1], names, count);
	if (meant) {
		(void) fprintf(stderr, "; did you mean `selfright %s %s`? (selfright %s --help lists all)\n", word,
			       meant, word);
		return CLI_USAGE;
	}
	(void) fprintf(stderr, "\n\n");
	(void) dispatch_help(word, summary, subs, stderr);
	return CLI_USAGE;
}

/* --- the control socket --- */

static int socket_path(const struct cli *c, struct buf *ret)
{
	return buf_addf(ret, "%s/serve/control.sock", c->dir);
}

/* A socket nothing is written to; negative as connect() fails. */
static int server_answers(const struct cli *c)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(PATH_MAX);
	int fd, r = socket_path(c, &path);

	if (r < 0)
		return r;
	fd = unixsock_connect(buf_str(&path));
	if (fd < 0)
		return fd;
	(void) close(fd);
	return 0;
}

bool cli_server_runs(const struct cli *c)
{
	return server_answers(c) == 0;
}

int cli_request(const struct cli *c, const char *method, const char *path, const char *body, uint64_t timeout_ms,
		long *ret_status, struct buf *ret)
{
	CLEANUP(http_closep)
	struct http *http = NULL;
	CLEANUP(buf_done)
	struct buf socket = BUF_INIT(PATH_MAX);
	struct http_response response = { 0 };
	struct http_options options = { .base_url = "http://selfright/",
					.user_agent = "selfright",
					.allow_plain_http = true };
	int r;

	r = socket_path(c, &socket);
	if (r < 0)
		return r;
	options.unix_socket = buf_str(&socket);
	options.low_speed_seconds = (unsigned) (timeout_ms / 1000 + 1);
	r = http_open(&options, &http);
	if (r < 0)
		return r;
	r = http_request(http, method, *path == '/' ? path + 1 : path, body ? "application/json" : NULL, body,
			 body ? strlen(body) : 0, timeout_ms, &response, ret);
	if (r < 0)
		return r;
	*ret_status = response.status;
	return 0;
}

/* The server's sentence for a status that is no success. */
static int say_refusal(const struct cli *c, long status, const struct buf *answer)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const char *sentence = NULL, *detail = NULL;

	if (json_parse(answer->data, answer->len, &json_limits_default, &doc) >= 0) {
		sentence = json_string(json_get(doc, "error"));
		detail = json_string(json_get(doc, "detail"));
	}
	return cli_fail(c, status < 500 ? CLI_REFUSED : CLI_FAILED, "%s%s%s%s",
			sentence ? sentence : "the server answered without saying why", detail ? " (" : "",
			detail ? detail : "", detail ? ")" : "");
}

int cli_call(const struct cli *c, const char *method, const char *path, const char *body, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf answer = BUF_INIT(CLI_ANSWER_MAX);
	long status = 0;
	int r;

	r = cli_need_dir(c);
	if (r >= 0)
		return r;
	r = server_answers(c);
	if (r == -EACCES)
		return cli_fail(
			c, CLI_FAILED,
			"this user may not command the fleet in %s: be the user `selfright serve` runs as, "
			"or root",
			c->dir);
	if (r < 0)
		return cli_fail(c, CLI_FAILED,
				"no server answers for %s: start it with `selfright serve --dir %s`", c->dir,
				c->dir);
	r = cli_request(c, method, path, body, REQUEST_TIMEOUT_MS, &status, &answer);
	if (r < 0)
		return cli_fail_error(c, r, "the server did not answer %s %s", method, path);
	if (status < 200 || status > 299)
		return say_refusal(c, status, &answer);
	r = ret ? buf_add(ret, answer.data, answer.len) : 0;
	return r < 0 ? cli_fail_error(c, r, "the answer to %s %s", method, path) : CLI_OK;
}

const struct json_limits cli_answer_limits = { .max_bytes = CLI_ANSWER_MAX,
					       .max_depth = 32,
					       .max_values = 10000000 };

int cli_call_json(const struct cli *c, const char *method, const char *path, const char *body, struct json **ret)
{
	CLEANUP(buf_done)
	struct buf answer = BUF_INIT(CLI_ANSWER_MAX);
	int r = cli_call(c, method, path, body, &answer);

	if (r != CLI_OK)
		return r;
	r = json_parse(answer.data, answer.len, &cli_answer_limits, ret);
	return r < 0 ? cli_fail_error(c, r, "the answer to %s %s", method, path) : CLI_OK;
}

/* --- files --- */

static int read_stdin(size_t max, struct buf *ret)
{
	for (;;) {
		uint8_t chunk[16384];
		ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		if (ret->len + (size_t) n > max)
			return -ERR_TOO_LARGE;
		r = buf_add(ret, chunk, (size_t) n);
		if (r < 0)
			return r;
	}
}

static volatile sig_atomic_t stop_signal;
static int stop_pipe[2] = { -1, -1 };

static void on_signal(int sig)
{
	int saved = errno;

	stop_signal = sig;
	(void) !write(stop_pipe[1], "", 1); /* a full pipe wakes the loop as well */
	errno = saved;
}

int cli_watch_stop(int *ret_fd)
{
	struct sigaction action = { .sa_handler = on_signal }, ignore = { .sa_handler = SIG_IGN };

	if (pipe2(stop_pipe, O_CLOEXEC | O_NONBLOCK) < 0 || sigaction(SIGTERM, &action, NULL) < 0 ||
	    sigaction(SIGINT, &action, NULL) < 0 || sigaction(SIGPIPE, &ignore, NULL) < 0)
		return -errno;
	*ret_fd = stop_pipe[0];
	return 0;
}

int cli_stopped_by(void)
{
	return stop_signal;
}

int cli_read_file(const struct cli *c, const char *path, size_t max, struct buf *ret)
{
	int r = str_eq(path, "-") ? read_stdin(max, ret) : file_read(&os_posix, AT_FDCWD, path, max, ret);

	return r < 0 ? cli_fail_error(c, r, "%s cannot be read", path) : CLI_OK;
}

int cli_write_file(const struct cli *c, const char *path, const void *data, size_t len, unsigned mode)
{
	int r = str_eq(path, "-") ? file_write_all(&os_posix, STDOUT_FILENO, data, len)
				  : durable_write_file(&os_posix, AT_FDCWD, path, data, len, (mode_t) mode);

	return r < 0 ? cli_fail_error(c, r, "%s cannot be written", path) : CLI_OK;
}

/* --- programs of ours --- */

int cli_program(const char *name, struct buf *ret)
{
	static const char *const folders[] = { "", "../libexec/selfright/", "../lib/selfright/" };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n <= 0)
		return -ENOENT;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return -ENOENT;
	slash[1] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		CLEANUP(buf_done)
		struct buf path = BUF_INIT(PATH_MAX);
		int r = buf_addf(&path, "%s%s%s", self, folders[i], name);

		if (r < 0)
			return r;
		if (access(buf_str(&path), X_OK) == 0)
			return buf_add(ret, path.data, path.len);
	}
	return -ENOENT;
}

static bool is_peer(int fd, pid_t pid)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid == pid;
}

/* May anybody pass every folder down to `dir`? Otherwise a user of its own could not read what is published. */
static bool anybody_may_pass(const char *dir)
{
	char path[PATH_MAX];
	struct stat st;

	if (snprintf(path, sizeof(path), "%s", dir) >= (int) sizeof(path))
		return false;
	for (;;) {
		char *slash;

		if (stat(path, &st) < 0 || !(st.st_mode & S_IXOTH))
			return false;
		slash = strrchr(path, '/');
		if (!slash || slash == path)
			return true;
		*slash = '\0';
	}
}

/*
 * A captured controller must not read the online keys. Started as root the signer has
 * a user of its own, where that user exists (sysusers.d) and can reach the folder.
 */
static const char *signer_user(const char *dir)
{
	return geteuid() == 0 && process_user_exists(SIGNER_USER) && anybody_may_pass(dir) ? SIGNER_USER : NULL;
}

int cli_start_signer(const char *dir, struct process *ret)
{
	CLEANUP(buf_done)
	struct buf program = BUF_INIT(PATH_MAX), path = BUF_INIT(PATH_MAX);
	char absolute[PATH_MAX];
	const char *argv[] = { NULL, "--quiet", "--dir", absolute, NULL, NULL, NULL };
	struct process_options options = {
		.argv = argv, .die_with_parent = true, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = STDERR_FILENO
	};
	int r;

	if (!realpath(dir, absolute))
		return -errno;
	argv[5] = signer_user(absolute);
	argv[4] = argv[5] ? "--user" : NULL;
	r = cli_program("selfright-signer", &program);
	if (r >= 0)
		r = buf_addf(&path, "%s/signer/signer.sock", dir);
	if (r < 0)
		return r;
	argv[0] = buf_str(&program);
	r = process_start(&options, ret);
	if (r < 0)
		return r;
	for (unsigned waited = 0; waited < SIGNER_START_MS; waited += 10) {
		const struct timespec moment = { 0, 10 * 1000 * 1000 };
		int status, fd;

		if (process_poll(ret, &status) != 0) {
			*ret = (struct process){ 0 };
			/* 3 is its own code for a folder that is held. */
			return WIFEXITED(status) && WEXITSTATUS(status) == 3 ? -EBUSY : -ERR_CHILD;
		}
		/* Another signer may still answer there while ours finds the folder held. */
		fd = unixsock_connect(buf_str(&path));
		if (fd >= 0) {
			bool ours = is_peer(fd, ret->pid);

			(void) close(fd); /* a socket nothing was written to */
			if (ours)
				return 0;
		}
		(void) nanosleep(&moment, NULL); /* shorter is fine */
	}
	process_end(ret, 1000);
	return -ERR_DEADLINE;
}
