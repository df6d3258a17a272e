/*
 * timefloor - inside common/tuf: the time no clock can turn back (DESIGN.md section 4 "Time").
 *
 * The floor is the later of the build time and the x-issued of the newest accepted
 * timestamp. It belongs to the timestamp key ids of the root it was accepted under:
 * a root that lists others has a floor of its own, so a new root heals a poisoned one.
 */
#ifndef SELFRIGHT_TUF_TIMEFLOOR_H
#define SELFRIGHT_TUF_TIMEFLOOR_H

#include "base/attr.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct json;
struct metadata;

struct time_floor {
	int64_t issued; /* 0: none */
	struct buf keyids; /* of the root `issued` was accepted under, sorted, one per line */
	bool clock_ahead; /* the clock is known to run ahead: `ahead_base` plus monotonic time decides */
	int64_t ahead_base;
	uint64_t ahead_ms;
};

void time_floor_init(struct time_floor *t);
void time_floor_done(struct time_floor *t);

/* From the bytes of its file, untrusted as any; what cannot be read is no floor. */
void time_floor_load(struct time_floor *t, const struct buf *bytes);
NODISCARD int time_floor_save(const struct time_floor *t, struct buf *ret);

/* `issued` was accepted under `root`; it only ever rises under the same key ids. 1: changed, 0: as it was. */
NODISCARD int time_floor_raise(struct time_floor *t, const struct metadata *root, int64_t issued);

/* Was it accepted under a root with the same timestamp keys? */
bool time_floor_is_of(const struct time_floor *t, const struct metadata *root);

/* The floor under `root` (NULL: none yet), at least `build_time`. */
int64_t time_floor_value(const struct time_floor *t, const struct metadata *root, int64_t build_time);

/* The later of clock and floor; with a clock that runs ahead, the later of floor and the time that went by since. */
int64_t time_floor_now(const struct time_floor *t, int64_t floor, int64_t clock, uint64_t boot_ms);

#endif
