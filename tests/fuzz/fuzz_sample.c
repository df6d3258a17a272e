/*
 * The doctor follows names in documents that nobody verified: every file it asks for is the input itself.
 */
#include "agent/link/sample.h"
#include "base/text.h"

#include <stdlib.h>

struct echo {
	struct fetcher fetcher; /* first */
	const uint8_t *data;
	size_t len;
	unsigned asked;
};

static int get(struct fetcher *f, const char *name, uint64_t max, struct buf *ret)
{
	struct echo *e = (struct echo *) f;

	if (!guard_path(name) || e->asked++ > 1000)
		abort(); /* out of the repository, or without end */
	return e->len > max ? -1 : buf_add(ret, e->data, e->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct echo e = { .fetcher = { .get = get }, .data = data, .len = size };
	struct sample found = { .length = 0 };

	if (sample_find(&e.fetcher, data, size, &found) == 0 && !guard_path(found.name))
		abort();
	return 0;
}
