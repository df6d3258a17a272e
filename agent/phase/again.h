/*
 * again - how long what waits still waits, whatever somebody does to the time of day.
 *
 * A pause after a failure is counted by the boot clock. Over a restart of the agent the time of day is all there is,
 * and then, as for a hold or a watch, this holds: nothing waits for longer than it was meant to in all. A clock that
 * was far ahead when it began, and is right again, keeps nobody waiting for years.
 */
#ifndef SELFRIGHT_AGENT_PHASE_AGAIN_H
#define SELFRIGHT_AGENT_PHASE_AGAIN_H

#include <stdbool.h>
#include <stdint.h>

struct node;
struct node_retry;

/* It failed just now, and is left alone for `wait_ms`. The caller saves. */
void again_note(const struct node *n, struct node_retry *retry, uint64_t wait_ms);

/* For how long it is still left alone; 0: it may be tried. NULL is nothing that failed. */
uint64_t again_in_ms(const struct node *n, struct node_retry *retry);

/* Does the local hold last? */
bool again_is_held(const struct node *n);

/* What is left until `at`, at most the whole. */
uint64_t again_rest_s(int64_t at, int64_t now, uint64_t whole_s);

#endif
