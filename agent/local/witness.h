/*
 * witness - who answers on the network: resolver, gateway, proxy, broker, origin.
 *
 * When a node has lost its controller after a swap, this tells the release's doing from
 * the network's. It is asked before the swap too, for what did not answer then
 * proves nothing later. selfright-probe looks, as the link's user; nothing is sent
 * but connections that are closed again.
 *
 *   witness_start(config, as_root, now_ms, &command);
 *   while (command_step(&command, now_ms) == 0) ...
 *   answering = witness_read(&command);
 */
#ifndef SELFRIGHT_LOCAL_WITNESS_H
#define SELFRIGHT_LOCAL_WITNESS_H

#include "agent/local/command.h"
#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config;

enum witness {
	WITNESS_RESOLVER = 1,
	WITNESS_GATEWAY = 2,
	WITNESS_PROXY = 4,
	WITNESS_BROKER = 8,
	WITNESS_ORIGIN = 16,
};
/* Where the journal keeps who answered before the swap, beside the checks. */
#define WITNESS_BASELINE "(network)"

enum { WITNESS_TEXT_MAX = 64, WITNESS_CODE_MAX = 8 };

/* -ENOENT: selfright-probe is not here. */
NODISCARD int witness_start(const struct config *c, bool as_root, uint64_t now_ms, struct command *ret);
/* Who answered, of the command that ended; a sum of enum witness. */
unsigned witness_read(const struct command *c);

/* "resolver, gateway", for people; "nobody". */
const char *witness_text(unsigned who, char out[static WITNESS_TEXT_MAX]);
/* For the journal, and back; unknown letters are ignored. */
void witness_encode(unsigned who, char out[static WITNESS_CODE_MAX]);
unsigned witness_decode(const char *code);

#endif
