/*
 * measures - the metrics that installed releases declare, looked at all the time.
 *
 * A check of kind metric judges a release for the hours of its probation and watch. What the controller compares
 * needs more: what the metric was on all the days before, and on nodes that have no update at all. So the
 * metrics of what runs are read every `measure_every`, whatever they are, and their means by the hour stand in
 * reports. Nothing here judges; an application that does not answer has no value for that hour.
 */
#ifndef SELFRIGHT_PHASE_MEASURES_H
#define SELFRIGHT_PHASE_MEASURES_H

#include "base/attr.h"

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

struct node;
struct report;

enum { MEASURES_MAX = 8 }; /* components */

/* Begin what is due, go on with the rest, end what is over. Returns when to come again (UINT64_MAX: nothing to measure). */
uint64_t measures_step(struct node *n);

/* Descriptors to wait for; lowers *timeout_ms. */
size_t measures_prepare(const struct node *n, struct pollfd *fds, size_t max, int *timeout_ms);

/* -ENOMEM. */
NODISCARD int measures_report(const struct node *n, struct report *out);

void measures_free(struct node *n);

#endif
