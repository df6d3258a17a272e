/*
 * fault_loop - run one thing with every call failing, and with the power cut at every change.
 *
 *   FAULT_TEST(link_is_never_missing) {
 *           .prep = make_old_link,      int (struct fault_case *): with the real system
 *           .body = replace_link,       int (struct fault_case *): with a failing one
 *           .check = old_or_new,        void (struct fault_case *, int r): what must hold then
 *   };
 *   ...
 *   fault_test_run(&link_is_never_missing);     every call fails once, then always
 *   crash_test_run(&link_is_never_missing, 8);  killed, and power cut, at every change
 *
 * Each round has a new folder, c->path, open as c->dirfd. `check` gets what body
 * returned; c->injected tells whether anything was made to fail. In crash rounds
 * r is -EIO if the machine died, and c->path is a copy of what the disk held.
 * Descriptors the body leaves open end the test.
 */
#ifndef SELFRIGHT_SUPPORT_FAULT_LOOP_H
#define SELFRIGHT_SUPPORT_FAULT_LOOP_H

#include "os/os.h"

#include <stdbool.h>

/* The real system, but for fsync and syncfs, which wait for nothing: tests are fast on any disk. */
const struct os *os_quick(void);

struct fault_case {
	const struct os *os; /* use this one */
	int dirfd;
	char path[256];
	bool injected; /* something was made to fail, or the machine died */
	bool died; /* a crash round: the code under test had no chance to clean up */
};

struct fault_test {
	const char *name;
	int (*prep)(struct fault_case *c); /* NULL: nothing */
	int (*body)(struct fault_case *c);
	void (*check)(struct fault_case *c, int r);
};

#define FAULT_TEST(test) static const struct fault_test test =

void fault_test_run(const struct fault_test *t);

/* `seeds` disks per cut, the first two of which lose all and lose nothing. */
void crash_test_run(const struct fault_test *t, unsigned seeds);

/* A new folder below $TMPDIR (else /dev/shm, else /tmp), and its removal with all it holds. */
void temp_folder(char *path, size_t size);
void temp_folder_remove(const char *path);

#endif
