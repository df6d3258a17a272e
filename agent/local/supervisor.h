/*
 * supervisor - the agent's end of what agent/store/supervise.h describes: who started us,
 * which agent we are, and the word that we work.
 */
#ifndef SELFRIGHT_LOCAL_SUPERVISOR_H
#define SELFRIGHT_LOCAL_SUPERVISOR_H

#include "base/attr.h"
#include "base/text.h"
#include "base/version.h"

#include <stdbool.h>
#include <stddef.h>

enum { SUPERVISOR_HANDOVER = 10, SUPERVISOR_UPDATE_SIZE = 200, SUPERVISOR_HOW_SIZE = 161 };

struct supervisor {
	int fd; /* -1: nobody supervises us */
	char running[VERSION_MAX + 1]; /* the version of the component we were started from; "": packaged */
	char packaged[VERSION_MAX + 1]; /* what would be started without the store; "": nothing */
	char failed_update[SUPERVISOR_UPDATE_SIZE]; /* whose new agent was given up; "": none */
	char failed_how[SUPERVISOR_HOW_SIZE]; /* "": it was cut off, nobody knows by what */
	bool asked, confirmed;
	char heard[32];
	size_t heard_len;
};

/* From the environment, which is cleared of it, and from where our program lies: below `root`'s store or not. */
void supervisor_open(struct supervisor *s, const char *root);
void supervisor_close(struct supervisor *s);

bool supervisor_is_there(const struct supervisor *s);

/* We have got as far as our work. */
void supervisor_ready(struct supervisor *s);

/* Say that we work: 1 once that is noted durably, 0 not yet (ask again), -ERR_PEER_GONE. */
NODISCARD int supervisor_confirm(struct supervisor *s);

/* The version's part of a path <root>/store/agent/<version>/bin/<program>; false if it is none. */
bool supervisor_version_of(const char *program, const char *root, char *ret, size_t size);

#endif
