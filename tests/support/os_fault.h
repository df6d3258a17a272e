/*
 * os_fault - a system whose calls fail on demand.
 *
 *   struct os_fault f;
 *   os_fault_init(&f, &os_posix);
 *   os_fault_arm(&f, 3, ENOSPC, false);     the third call fails, once
 *   r = durable_write_file(&f.os, ...);
 *   if (f.fired) ...                         it came that far
 *
 * Every operation counts except the clocks. A failing close closes nevertheless,
 * as the kernel does.
 */
#ifndef SELFRIGHT_SUPPORT_OS_FAULT_H
#define SELFRIGHT_SUPPORT_OS_FAULT_H

#include "os/os.h"

#include <stdbool.h>

struct os_fault {
	struct os os; /* hand this to the code under test */
	const struct os *below;
	unsigned calls; /* so far */
	unsigned at; /* the call that fails, from 1; 0: none */
	int error; /* the errno it fails with */
	bool sticky; /* all from then on */
	bool short_io; /* reads and writes do half of what they are asked, at least one byte */
	unsigned fired; /* how many failed */
};

void os_fault_init(struct os_fault *f, const struct os *below);

/* Count anew; let call `at` fail with errno `error`, and all later ones if `sticky`. */
void os_fault_arm(struct os_fault *f, unsigned at, int error, bool sticky);

#endif
