/*
 * engine - the agent's main process: trust, decide, journal, seal, swap, services.
 *
 * One poll loop over the link's frames, the control socket, the stage process, the
 * checks and the services; no network socket of its own. While a file is awaited
 * from the link, readers at the console are served and nothing else changes.
 */
#ifndef SELFRIGHT_AGENT_ENGINE_H
#define SELFRIGHT_AGENT_ENGINE_H

#include "base/attr.h"

#include <stdbool.h>

/*
 * The lower end of the time floor (DESIGN.md section 4): no signed time before this
 * program existed can be now. Raised with every release.
 */
#define ENGINE_BUILD_TIME 1767225600 /* 2026-01-01 */

/*
 * Run until SIGTERM or SIGINT. 0; 1: another agent is to follow at once (phase/self.h); or a negative error
 * after a line in the log that says what must be changed.
 */
NODISCARD int engine_main(const char *config_dir);

/* The same without link and controller, from a bundle, until everything it leads to has ended. */
struct engine_install {
	const char *config_dir, *bundle; /* absolute */
	const char *root, *run; /* instead of the configuration's; NULL: those */
	const char *repair_component,
		*repair_version; /* only this stored version is fetched again; NULL: all of it */
	bool image; /* `root` is the top folder of another system, whose configuration this is */
};
struct engine_installed {
	int code; /* of agent/install.h */
	char sentence[1200];
};
/* 0 and *ret; negative, with *ret as well: it could not be begun, nothing has changed. */
NODISCARD int engine_install(const struct engine_install *o, struct engine_installed *ret);

#endif
