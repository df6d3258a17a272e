/*
 * run - one run of one check: a program, or a conversation over TCP. Started, then
 * stepped until it says how it ended; nothing here waits.
 */
#ifndef SELFRIGHT_AGENT_PROBE_RUN_H
#define SELFRIGHT_AGENT_PROBE_RUN_H

#include "base/attr.h"
#include "base/buf.h"
#include "os/process.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Inconclusive: it ran, and says neither yes nor no. */
enum run_end { RUN_UNDER_WAY, RUN_HELD, RUN_FAILED, RUN_INCONCLUSIVE };

/* --- a program --- */
struct run_program {
	struct process process;
	int output_fd, pid_fd; /* -1: none */
	int status; /* of the last that ended, as waitpid has it */
	struct buf output; /* the tail, or with `head_max` the head */
	size_t head_max; /* set before a start: keep so much of the beginning, for whoever reads it */
};

/* Zeroed storage with descriptors -1 is "nothing runs". */
void run_program_init(struct run_program *p);
/* `o` without its streams; `input` (NULL: none, at most RUN_INPUT_MAX bytes) is what it reads. -errno: it could not be started. */
enum { RUN_INPUT_MAX = 48 * 1024 };
NODISCARD int run_program_start(struct run_program *p, const struct process_options *o, const struct buf *input);
/* It held if it exited with 0. `detail` gets the output's tail, or how it ended. */
enum run_end run_program_step(struct run_program *p, struct buf *detail);
/* Add the tail of what it said so far to `detail`. */
void run_program_tell(const struct run_program *p, struct buf *detail);
/* Kill the whole group; it is reaped by later steps (run_program_is_idle). */
void run_program_kill(struct run_program *p);
bool run_program_is_idle(const struct run_program *p);
/* Kill, reap, release. */
void run_program_done(struct run_program *p);

/* --- TCP, and HTTP over it --- */
enum { RUN_ADDRESSES_MAX = 2 };

struct run_address {
	struct sockaddr_storage address;
	socklen_t len;
};

/* Numeric addresses and "localhost" (which is 127.0.0.1, then ::1): how many, 0 if `host` is neither. */
size_t run_resolve(const char *host, uint16_t port, struct run_address ret[static RUN_ADDRESSES_MAX]);

struct run_talk {
	int fd; /* -1: none */
	struct run_address addresses[RUN_ADDRESSES_MAX];
	size_t address_count, address_next;
	const char *request; /* NULL: connecting is all (borrowed) */
	const struct http_expect *expect; /* borrowed */
	size_t sent;
	bool connected, ended; /* ended: the other side has said everything */
	struct buf answer;
};

/* What an HTTP answer must be. */
struct http_expect {
	const char *status; /* "200-299,404"; NULL: 200-399 */
	const char *body; /* a substring; NULL: any */
	bool whole; /* the whole body is wanted (http_body), not only whether it holds */
	size_t body_max; /* of a whole one; 0: PROBE_BODY_MAX */
};

void run_talk_init(struct run_talk *t);
void run_talk_start(struct run_talk *t, const struct run_address *addresses, size_t count, const char *request,
		    const struct http_expect *expect);
enum run_end run_talk_step(struct run_talk *t, struct buf *detail);
void run_talk_done(struct run_talk *t);

/*
 * What an HTTP answer so far says. Under way: more must come. `ended`: nothing more
 * will. Redirections are not followed.
 */
enum run_end http_judge(const struct buf *answer, bool ended, const struct http_expect *expect,
			struct buf *detail);
/* The body of an answer that held. -ERR_SYNTAX, -ERR_TOO_LARGE, -ENOMEM. */
NODISCARD int http_body(const struct buf *answer, struct buf *ret);

/* Replace `detail`; what does not fit, or finds no memory, is left out. */
void run_say(struct buf *detail, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
