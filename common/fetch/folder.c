#include "fetch/fetch.h"

#include "base/err.h"
#include "base/text.h"
#include "os/durable.h"

#include <errno.h>

/* What is no file of ours is not there; what is in the way of a name is a name that is not there. */
static int folder_get(struct fetcher *f, const char *name, uint64_t max, struct buf *ret)
{
	const struct folder_fetcher *folder = (const struct folder_fetcher *) f;
	int r;

	if (!guard_path(name))
		return -ERR_NAME;
	r = file_read(&os_posix, folder->dirfd, name, max > SIZE_MAX ? SIZE_MAX : (size_t) max, ret);
	return r == -ENOTDIR ? -ENOENT : r;
}

void folder_fetcher_init(struct folder_fetcher *f, int dirfd)
{
	*f = (struct folder_fetcher){ .fetcher = { .get = folder_get }, .dirfd = dirfd };
}
