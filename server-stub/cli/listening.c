#include "server-stub/cli/listening.h"

enum listening_news listening_turn(struct listening *l, int64_t now, uint64_t boot_ms, int64_t *ret_jump_s)
{
	int64_t offset = now - (int64_t) (boot_ms / 1000), jump = offset - l->offset_s;
	bool begun = l->since != 0, gap = boot_ms - l->turned_ms > LISTENING_GAP_S * UINT64_C(1000);

	/* Small steps add up to nothing: each is measured from the turn before. */
	l->offset_s = offset;
	l->turned_ms = boot_ms;
	if (!begun || gap || jump > LISTENING_JUMP_S || jump < -LISTENING_JUMP_S)
		l->since = now;
	if (!begun)
		return LISTENING_ON;
	if (jump > LISTENING_JUMP_S || jump < -LISTENING_JUMP_S) {
		*ret_jump_s = jump;
		return LISTENING_CLOCK_SET;
	}
	return gap ? LISTENING_AFTER_GAP : LISTENING_ON;
}
