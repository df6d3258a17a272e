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

/* Run until SIGTERM or SIGINT. 0, or a negative error after a line in the log that says what must be changed. */
NODISCARD int engine_main(const char *config_dir);

#endif
