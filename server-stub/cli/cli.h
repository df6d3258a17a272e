/*
 * cli - what every `selfright` command shares: options, help, tables, the
 * control socket, and errors that say what to do next.
 *
 *   static const char *reason;
 *   static const struct cli_option options[] = {
 *           { "reason", "TEXT", "why, for the people who read it later", .text = &reason },
 *           { 0 },
 *   };
 *   static const struct cli_command command = {
 *           .usage = "rollout halt ID --reason TEXT",
 *           .summary = "stop a rollout; nodes that have not swapped yet stay as they are",
 *           .example = "selfright rollout halt web-1-2-0 --reason 'checkout is slow'",
 *           .options = options, .min_args = 1, .max_args = 1,
 *   };
 *
 *   int cmd_rollout_halt(int argc, char **argv)
 *   {
 *           struct cli c;
 *           int r = cli_parse(&command, argc, argv, &c);
 *
 *           if (r >= 0)
 *                   return r;
 *           ...
 *           return cli_call(&c, "POST", path, body, &answer);
 *   }
 *
 * Every command takes --dir DIR (or $SELFRIGHT_DIR), --json and --help. With
 * --json standard output holds exactly one JSON document (or one a line for those
 * that follow something); people's words about failures go to standard error.
 */
#ifndef SELFRIGHT_CLI_CLI_H
#define SELFRIGHT_CLI_CLI_H

#include "base/attr.h"
#include "base/buf.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct json_limits;
struct process;

/* What a command's process exits with. */
enum {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_REFUSED = 3, /* the server said no, or not yet */
};

enum { CLI_VALUES_MAX = 256, CLI_ARGS_MAX = 256, CLI_ANSWER_MAX = 64 * 1024 * 1024 };

/* All values of an option that may be given several times. */
struct cli_values {
	const char *items[CLI_VALUES_MAX];
	size_t count;
};

/* One of flag, text, number, seconds, values is set; the target keeps its initial value when the option is not given. */
struct cli_option {
	const char *name; /* without the dashes */
	const char *value; /* the word for its value in the help; NULL for a flag */
	const char *help;
	bool *flag;
	const char **text;
	uint64_t *number;
	uint64_t *seconds; /* "90", "90s", "15m", "24h", "7d" */
	struct cli_values *values;
};

struct cli_command {
	const char *usage; /* behind "selfright ": "node add NAME [-o FILE]" */
	const char *summary;
	const char *details; /* paragraphs behind the options, may be NULL */
	const char *example;
	const struct cli_option *options; /* ended by a row without name; NULL: none beyond the common ones */
	int min_args, max_args;
};

struct cli {
	const char *
		dir; /* never NULL: --dir, $SELFRIGHT_DIR, else the current folder if it is a fleet's, else ""; absolute if it is there */
	char dir_absolute[PATH_MAX]; /* what `dir` points to then */
	bool json;
	bool colour; /* standard output is a terminal, and NO_COLOR is not set */
	const char *args[CLI_ARGS_MAX + 1];
	int arg_count;
};

/*
 * Take argv (argv[0] is the command's last word) apart. Negative: go on. Otherwise
 * the exit code: CLI_OK after --help, CLI_USAGE after a complaint. "-o X" is
 * "--output X"; everything behind "--" is an argument. Missing --dir is no error
 * here: cli_need_dir().
 */
NODISCARD int cli_parse(const struct cli_command *command, int argc, char **argv, struct cli *ret);

/* Negative: c->dir is a fleet's folder. Otherwise the exit code, after saying how to name one. */
NODISCARD int cli_need_dir(const struct cli *c);

/* Both in one: how every command of a fleet begins. Negative: go on, in a fleet's folder; else the exit code. */
NODISCARD int cli_open(const struct cli_command *command, int argc, char **argv, struct cli *ret);

/* The fleet's name from DIR/fleet.json, appended. Negative: fine; else the exit code. */
NODISCARD int cli_fleet_name(const struct cli *c, struct buf *ret);

/* A word that chooses among commands: `selfright rollout start|halt|...`. */
struct cli_sub {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
};
/*
 * Does argv[1] ask for the help of what argv[0] names? `help WORD...` asks for that of WORD: argv becomes `WORD... --help`,
 * and the answer is no. argc is 2 at least.
 */
bool cli_asks_for_help(int argc, char **argv);
/* Run the one argv[1] names, with argv moved there; help and complaints otherwise. Ended by a row without name. */
int cli_dispatch(const char *word, const char *summary, const struct cli_sub *subs, int argc, char **argv);

/* Complain on standard error ("selfright: ..."; with --json {"error": ...}); returns `code`. */
int cli_fail(const struct cli *c, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same, with the sentence of `r` behind it. CLI_FAILED. */
int cli_fail_error(const struct cli *c, int r, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* A line for people: standard output without --json, nowhere with it. */
void cli_say(const struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* One JSON document and a newline to standard output. */
void cli_print_json(const char *text);

enum cli_colour { CLI_PLAIN, CLI_GREEN, CLI_YELLOW, CLI_RED, CLI_DIM, CLI_BOLD };
/* "\033[32m" or "" */
const char *cli_colour(const struct cli *c, enum cli_colour colour);

/* A table with aligned columns; text from outside is shown with control bytes escaped. Errors stick until cli_table_print. */
struct cli_table;
struct cli_table *cli_table_new(const char *const *headings, size_t columns);
void cli_table_cell(struct cli_table *t, enum cli_colour colour, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Print and free. NULL is fine. */
void cli_table_print(const struct cli *c, struct cli_table *t);

/* "3s", "12m", "2h 5m", "9d": a time span for people. Returns `out`. */
const char *cli_span(char *out, size_t size, int64_t seconds);
/* What people write for a span. -ERR_NUMBER. */
NODISCARD int cli_parse_seconds(const char *text, uint64_t *ret);

/*
 * One request to `serve` over DIR/serve/control.sock. `body` is JSON text (NULL:
 * none). CLI_OK with the answer appended to `ret` (may be NULL); otherwise the
 * complaint was printed: CLI_REFUSED for the server's 4xx with its sentence,
 * CLI_FAILED when nobody answers (with how to start it) or for 5xx.
 */
NODISCARD int cli_call(const struct cli *c, const char *method, const char *path, const char *body,
		       struct buf *ret);
/* What an answer may be: whole fleets are listed. */
extern const struct json_limits cli_answer_limits;
/* The same with the answer parsed; the caller frees *ret. */
NODISCARD int cli_call_json(const struct cli *c, const char *method, const char *path, const char *body,
			    struct json **ret);
/* The same for long answers: `timeout_ms` for this request. Nothing is printed; 0 or a negative error, *ret_status. */
NODISCARD int cli_request(const struct cli *c, const char *method, const char *path, const char *body,
			  uint64_t timeout_ms, long *ret_status, struct buf *ret);
/* Does a server answer on the control socket? */
bool cli_server_runs(const struct cli *c);

/* For commands that stay: from now on SIGTERM and SIGINT make *ret_fd readable, which stays ours, and SIGPIPE does nothing. */
NODISCARD int cli_watch_stop(int *ret_fd);
/* The signal that came since; 0: none. */
int cli_stopped_by(void);

/* The whole file, at most `max` bytes, appended; "-" is standard input. CLI_OK or CLI_FAILED, said. */
NODISCARD int cli_read_file(const struct cli *c, const char *path, size_t max, struct buf *ret);
/* Write it durably, with `mode`; "-" is standard output. */
NODISCARD int cli_write_file(const struct cli *c, const char *path, const void *data, size_t len, unsigned mode);

/*
 * The absolute path of one of our programs: next to this one, or in
 * ../libexec/selfright. -ENOENT.
 */
NODISCARD int cli_program(const char *name, struct buf *ret);

/*
 * Start selfright-signer on `dir` and wait until it answers. The caller ends it by
 * process_end; it dies with us as well. -EBUSY: another one holds the folder, perhaps a command's for a
 * moment (SIGNER_WAIT_MS is patience enough). As root it becomes the user selfright-signer where there is one
 * that can reach the folder.
 */
enum { SIGNER_WAIT_MS = 15000, SIGNER_AGAIN_MS = 100 };
NODISCARD int cli_start_signer(const char *dir, struct process *ret);

/* --- the commands; each returns the exit code --- */
int cmd_key(int argc, char **argv);
int cmd_repo(int argc, char **argv);
int cmd_component(int argc, char **argv);
int cmd_pack(int argc, char **argv);
int cmd_release(int argc, char **argv);
int cmd_publish(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_tuf(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_rollout(int argc, char **argv);
int cmd_approve(int argc, char **argv);
int cmd_freeze(int argc, char **argv);
int cmd_bundle(int argc, char **argv);
int cmd_node(int argc, char **argv);
int cmd_broker_config(int argc, char **argv);
int cmd_ca(int argc, char **argv);
int cmd_watch(int argc, char **argv);
int cmd_notify(int argc, char **argv);
int cmd_desk(int argc, char **argv);

#endif
