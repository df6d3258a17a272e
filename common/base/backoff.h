/*
 * backoff - full jitter: rand(0, min(cap, base * 2^n)) (MQTT.md 1.4).
 */
#ifndef SELFRIGHT_BASE_BACKOFF_H
#define SELFRIGHT_BASE_BACKOFF_H

#include <stdint.h>

struct backoff {
	uint64_t base_ms, cap_ms;
	unsigned failures;
};

/* Count one failure and answer how long to wait; `random` is any 64 random bits. */
uint64_t backoff_next_ms(struct backoff *b, uint64_t random);

/* It worked, and for long enough. */
void backoff_reset(struct backoff *b);

#endif
