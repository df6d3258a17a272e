/*
 * sample - an artifact to try a road with, found as a node finds one: from the timestamp to the snapshot, a role, a
 * release, and what it names.
 *
 * No signature is looked at and nothing is believed: that each file is what the one before it
 * says only tells that the road brings files whole.
 */
#ifndef SELFRIGHT_AGENT_LINK_SAMPLE_H
#define SELFRIGHT_AGENT_LINK_SAMPLE_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/fetcher.h"

#include <stdint.h>

enum { SAMPLE_NAME_MAX = 1200 };

struct sample {
	char name[SAMPLE_NAME_MAX]; /* of the artifact; after a failure, the file that failed */
	uint64_t length;
};

/*
 * Follow the names from the bytes of timestamp.json. -ENODATA: no artifact is published; -ERR_DIGEST:
 * ret->name is not what names it; else the fetcher's error, or that of a file that cannot be read.
 */
NODISCARD int sample_find(struct fetcher *f, const void *timestamp, size_t len, struct sample *ret);

#endif
