/*
 * asking - when a node asks by itself what is new.
 *
 * Announcements are hints, and what a broker retains is a cache that it may have lost: a node asks now and then where it
 * is connected, more often where it is not, and once it is connected again. All return when the next question is due,
 * never later than `at`, when it was due before. Milliseconds of one clock; no clock and no I/O of their own.
 */
#ifndef SELFRIGHT_LOCAL_ASKING_H
#define SELFRIGHT_LOCAL_ASKING_H

#include <stdint.h>

/*
 * Connected: who has not asked for `often_ms` (`polled_ms`: when it did, 0: never) asks within a minute. Not at once, when
 * a whole fleet finds its broker again.
 */
uint64_t asking_when_connected(uint64_t at, uint64_t now, uint64_t polled_ms, uint64_t often_ms, uint64_t random);

/*
 * Some of what was announced did not arrive, too much came at once: within half a minute, but not within half a minute of
 * the last question (`polled_ms`, 0: never), however often that happens.
 */
uint64_t asking_when_missed(uint64_t at, uint64_t now, uint64_t polled_ms, uint64_t random);

/* Nothing is announced any more: as often as without a broker, from now on; a tenth apart. */
uint64_t asking_when_lost(uint64_t at, uint64_t now, uint64_t often_ms, uint64_t random);

#endif
