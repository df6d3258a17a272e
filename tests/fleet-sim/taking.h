/*
 * taking - how many reports a second one controller takes: signed reports of many nodes through
 * ingest into a database on disk, and what of that is checking signatures.
 */
#ifndef SELFRIGHT_TESTS_FLEET_SIM_TAKING_H
#define SELFRIGHT_TESTS_FLEET_SIM_TAKING_H

#include "base/attr.h"

#include <stddef.h>

struct taking_result {
	size_t reports, bytes; /* of all envelopes */
	double make_s; /* keys and signatures, on the nodes' side */
	double verify_s; /* the signatures alone */
	double take_s; /* ingest, with verification and storage */
	double verify_cpu_s, take_cpu_s; /* the same on the processor: machines are rarely alone */
};

/* `batch`: so many reports share one wait for the disk, 0: each has its own. `folder`: where the database is made, and removed again. */
NODISCARD int taking_run(size_t nodes, size_t reports_each, size_t batch, const char *folder,
			 struct taking_result *ret);

#endif
