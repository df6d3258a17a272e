#include "server-stub/web/upload.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

int upload_begin(struct upload *u, const struct os *os, const char *dir, const char *name)
{
	uint8_t digest[SHA256_BYTES];
	uint64_t mark = 0;
	int r;

	*u = (struct upload){ .dirfd = -1, .fd = -1 };
	if (!name || hex_decode(digest, sizeof(digest), name, false) < 0)
		return -ERR_NAME;
	if (!dir)
		return -ENOTDIR;
	r = os->random(os, &mark, sizeof(mark));
	if (r < 0)
		return r;
	u->os = os;
	memcpy(u->name, name, sizeof(u->name));
	/* Two clients may send the same file at a time. */
	snprintf(u->part, sizeof(u->part), "%s.%016llx.part", name, (unsigned long long) mark);
	u->dirfd = os->openat(os, AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
	r = u->dirfd < 0 ? u->dirfd : 0;
	if (r == 0) {
		u->fd = os->openat(os, u->dirfd, u->part, O_WRONLY | O_CREAT | O_EXCL, 0644);
		r = u->fd < 0 ? u->fd : 0;
	}
	if (r == 0)
		r = sha256_new(&u->hash);
	if (r < 0)
		upload_abort(u);
	return r;
}

int upload_add(struct upload *u, const void *data, size_t len)
{
	int r = sha256_add(u->hash, data, len);

	return r < 0 ? r : file_write_all(u->os, u->fd, data, len);
}

int upload_end(struct upload *u)
{
	uint8_t digest[SHA256_BYTES];
	char hex[SHA256_HEX + 1];
	int r;

	r = sha256_end(u->hash, digest);
	if (r == 0) {
		hex_encode(hex, digest, sizeof(digest));
		r = strcmp(hex, u->name) == 0 ? 0 : -ERR_DIGEST;
	}
	if (r == 0)
		r = u->os->renameat(u->os, u->dirfd, u->part, u->dirfd, u->name);
	if (r == 0)
		u->part[0] = '\0';
	upload_abort(u);
	return r;
}

void upload_abort(struct upload *u)
{
	if (!u->os)
		return;
	sha256_free(u->hash);
	if (u->fd >= 0) {
		if (u->part[0])
			(void) u->os->unlinkat(u->os, u->dirfd, u->part,
					       0); /* a leftover is only a file nobody names */
		(void) u->os->close(u->os, u->fd);
	}
	if (u->dirfd >= 0)
		(void) u->os->close(u->os, u->dirfd);
	*u = (struct upload){ .dirfd = -1, .fd = -1 };
}
