/*
 * watched_file - a file of the operator's in DIR that is read again when it changes.
 */
#ifndef SELFRIGHT_CLI_WATCHED_FILE_H
#define SELFRIGHT_CLI_WATCHED_FILE_H

#include <stdbool.h>
#include <stdint.h>

struct watched_file { /* zeroed: never looked at */
	bool there;
	bool broken; /* the owner's: what is there could not be used */
	int64_t size, changed_s, changed_ns;
	uint64_t inode;
};

/* Is DIR/name another file than when this was asked last? Then `w` says what it is now. */
bool watched_file_changed(struct watched_file *w, const char *dir, const char *name);

#endif
