/*
 * held - addresses of artifacts that asked to be left alone (Retry-After, as selfright-stage tells it), and for how long.
 *
 * For the configured mirrors and urls, in memory only: the wait before the next attempt is durable, and bounded as this is.
 * A server, or what answers in its place, delays a node by HELD_MAX_S at most, and by HELD_URGENT_MAX_S where somebody waits.
 */
#ifndef SELFRIGHT_PHASE_HELD_H
#define SELFRIGHT_PHASE_HELD_H

#include <stddef.h>
#include <stdint.h>

struct config;

enum { HELD_MAX_S = 3600, HELD_URGENT_MAX_S = 60, HELD_ADDRESSES_MAX = 16 };

struct held {
	struct {
		uint64_t told_ms, for_ms; /* 0: it asks for nothing */
	} items[HELD_ADDRESSES_MAX]; /* mirrors, then urls; what is beyond is never held */
};

/* `url` asks for so many seconds from `now_ms` on. One that is none of ours changes nothing. */
void held_note(struct held *h, const struct config *config, const char *url, uint64_t seconds, uint64_t now_ms);
/* How long this address is still left alone, if not longer than max_s since it asked; 0: it may be asked. */
uint64_t held_ms(const struct held *h, const struct config *config, const char *url, uint64_t max_s,
		 uint64_t now_ms);
/* The shortest of all of them; 0: one may be asked, or there is none. */
uint64_t held_all_ms(const struct held *h, const struct config *config, uint64_t max_s, uint64_t now_ms);

#endif
