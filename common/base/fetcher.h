/*
 * fetcher - something that brings a named file, from anywhere.
 *
 * What it brings is not trusted. Names are paths of the repository tree
 * ("metadata/3.root.json", "targets/web/1.0.0/<sha256>.web.tar.zst").
 */
#ifndef SELFRIGHT_BASE_FETCHER_H
#define SELFRIGHT_BASE_FETCHER_H

#include "base/attr.h"
#include "base/buf.h"

#include <stdint.h>

struct fetcher {
	/*
	 * Append the file `name`, at most `max` bytes, to `ret` (its own limit holds too).
	 * -ENOENT: the other side says it is not there; -ERR_TOO_LARGE: longer than max;
	 * -ERR_NETWORK, -ERR_HTTP_STATUS, -ERR_TLS, -ERR_DEADLINE, -ERR_PEER_GONE otherwise.
	 */
	int (*get)(struct fetcher *f, const char *name, uint64_t max, struct buf *ret);
	/* Release it; NULL if there is nothing to release. */
	void (*close)(struct fetcher *f);
};

static inline NODISCARD int fetcher_get(struct fetcher *f, const char *name, uint64_t max, struct buf *ret)
{
	return f->get(f, name, max, ret);
}

static inline void fetcher_close(struct fetcher *f)
{
	if (f && f->close)
		f->close(f);
}

#endif
