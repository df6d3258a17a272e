/*
 * helper - a program of ours that serve starts for one question and does not wait for.
 *
 * What talks to strangers is not the controller: it starts such a program with the question on standard input, goes on,
 * and reads the answer when it is there. One that takes too long, or says more than it may, is killed.
 */
#ifndef SELFRIGHT_CLI_HELPER_H
#define SELFRIGHT_CLI_HELPER_H

#include "base/attr.h"
#include "base/buf.h"
#include "os/process.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HELPER_BUSY_MS = 50 /* how often running ones are looked after */ };

struct helper {
	bool busy; /* from helper_start() to helper_done() */
	struct process process;
	int fd; /* its answer */
	struct buf answer;
	uint64_t end_ms;
};

/* Start `program` (cli_program) on `question`; it is killed at `end_ms`, or when its answer is longer than `answer_max`. */
NODISCARD int helper_start(const char *program, const struct buf *question, size_t answer_max, uint64_t end_ms,
			   struct helper *ret);
/* 0: it runs; 1: it has ended, h->answer is what it said; -ECHILD: it is lost. After anything but 0 comes helper_done(). */
NODISCARD int helper_poll(struct helper *h, uint64_t now_ms, int *ret_status);
/* Ended if it runs; free for another question. */
void helper_done(struct helper *h);

#endif
