/*
 * listening - since when does this controller hear its nodes, and is its clock the one it was?
 *
 * A rollout counts hours: of soaks, of silence. Hours in which nobody listened (the controller was down, its host
 * slept) prove nothing, and those that a clock jumped over were never lived. Told both clocks at each turn of the
 * loop, this says what happened. No clock and no I/O of its own.
 */
#ifndef SELFRIGHT_CLI_LISTENING_H
#define SELFRIGHT_CLI_LISTENING_H

#include <stdbool.h>
#include <stdint.h>

enum {
	LISTENING_GAP_S = 60, /* a turn of the loop takes a second, its longest work some */
	LISTENING_JUMP_S = 120, /* what NTP does to a clock that runs is less */
};

struct listening {
	int64_t since; /* real time; 0: not begun */
	int64_t offset_s; /* of the real clock to the one since boot, at the last turn */
	uint64_t turned_ms; /* of the clock since boot: the last turn */
};

enum listening_news { LISTENING_ON, LISTENING_AFTER_GAP, LISTENING_CLOCK_SET };

/* A turn of the loop at `now`, `boot_ms` after the boot. *ret_jump_s: by how much the clock was set (LISTENING_CLOCK_SET). */
enum listening_news listening_turn(struct listening *l, int64_t now, uint64_t boot_ms, int64_t *ret_jump_s);

#endif
