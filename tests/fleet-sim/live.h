/*
 * live - many virtual nodes against a real controller and a real broker on this machine: signed reports,
 * the real decide() on announced documents, a few connections for all of them.
 *
 * What it leaves out of a real node: verifying what is announced (its broker is its own), artifacts, services.
 */
#ifndef SELFRIGHT_TESTS_FLEET_SIM_LIVE_H
#define SELFRIGHT_TESTS_FLEET_SIM_LIVE_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LIVE_PROCESSES = 3 }; /* controller, its signer, the broker */

struct live_options {
	const char *dir; /* the fleet's folder; `serve` must not run yet */
	const char *fleet,
		*component; /* its name, and what is rolled out: 1.0.0 to 1.1.0, 1.2.0 is published too */
	const char *selfright; /* the program */
	size_t nodes, connections;
	unsigned broker_port; /* on loopback, without TLS */
	const char *user, *password;
	int broker_pid;
	unsigned rest_s; /* how long to look at a controller at rest */
	unsigned deadline_s; /* for each part */
	bool quiet;
};

struct live_result {
	size_t nodes, connections;
	double first_reports_s, reports_per_s; /* from the first message to the last acknowledgement */
	double rest_cpu[LIVE_PROCESSES], rollout_cpu[LIVE_PROCESSES]; /* seconds of processor for each second */
	uint64_t rest_kb[LIVE_PROCESSES], rollout_kb[LIVE_PROCESSES]; /* resident, the highest seen */
	double start_s; /* from the command to the first announcement of the rollout */
	double stage_s; /* from the announcement of the open stage to the last node's acknowledged `good` */
	double halt_s; /* from the command to the last connection that heard it */
	size_t announcement_bytes, document_bytes, index_bytes, snapshot_bytes; /* of that stage's publication */
};

NODISCARD int live_run(const struct live_options *o, struct live_result *ret);

#endif
