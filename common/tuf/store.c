#include "tuf/store.h"

#include "tuf/tuf.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "os/durable.h"
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>

enum { FILE_MODE = 0644, FLOOR_BYTES_MAX = 128 * 1024, LONG_NAME_KEPT = 150 };

static const char lock_name[] = "lock";
static const char floor_name[] = "time-floor";

int tuf_file_name(const char *name, const char *suffix, struct buf *ret)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~";
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(4 * 1024);
	bool dots_only = !*suffix && name[strspn(name, ".")] == '\0';
	int r = 0;

	if (!*name)
		return -ERR_NAME;
	for (const char *p = name; *p && r >= 0; p++)
		if (strchr(plain, *p) && !(*p == '.' && dots_only))
			r = buf_add_byte(&out, (uint8_t) *p);
		else
			r = buf_addf(&out, "%%%02X", (unsigned) (uint8_t) *p);
	if (r < 0)
		return r;

	/* No encoded name holds "%~", so a name cut short never meets a whole one. */
	if (out.len + strlen(suffix) > NAME_MAX) {
		char hex[SHA256_HEX + 1];

		r = sha256_hex(name, strlen(name), hex);
		if (r < 0)
			return r;
		out.len = LONG_NAME_KEPT;
		r = buf_addf(&out, "%%~%s", hex);
		if (r < 0)
			return r;
	}
	r = buf_add(ret, out.data, out.len);
	return r < 0 ? r : buf_add_str(ret, suffix);
}

/* What a power cut left of durable_write_file(); we hold the lock, so nobody is writing. */
static void sweep(const struct os *os, int dirfd)
{
	static const char suffix[] = ".pending";
	struct name_list list = { 0 };

	if (dir_list(os, dirfd, ".", &list) < 0)
		return; /* they cost space only */
	for (size_t i = 0; i < list.count; i++) {
		size_t len = strlen(list.names[i]);

		if (list.names[i][0] == '.' && len > sizeof(suffix) &&
		    str_eq(list.names[i] + len - (sizeof(suffix) - 1), suffix))
			(void) os->unlinkat(os, dirfd, list.names[i], 0); /* tried again at the next start */
	}
	name_list_done(&list);
}

int tuf_store_open(struct tuf_store *s, const struct os *os, int dirfd)
{
	int fd;

	fd = os->openat(os, dirfd, lock_name, O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int r = errno == EWOULDBLOCK ? -EBUSY : -errno;

		(void) os->close(os, fd); /* nothing was written */
		return r;
	}
	*s = (struct tuf_store){ .os = os, .dirfd = dirfd, .lock = fd };
	sweep(os, dirfd);
	return 0;
}

void tuf_store_close(struct tuf_store *s)
{
	if (s->lock >= 0)
		(void) s->os->close(s->os, s->lock); /* an empty file; closing gives up the lock */
	s->lock = -1;
}

int tuf_store_load(const struct tuf_store *s, const char *role, uint64_t max, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(NAME_MAX);
	int r;

	r = tuf_file_name(role, ".json", &name);
	if (r < 0)
		return r;
	return file_read(s->os, s->dirfd, buf_str(&name), max < SIZE_MAX ? (size_t) max : SIZE_MAX, ret);
}

int tuf_store_save(const struct tuf_store *s, const char *role, const void *bytes, size_t len)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(NAME_MAX);
	int r;

	r = tuf_file_name(role, ".json", &name);
	if (r < 0)
		return r;
	return durable_write_file(s->os, s->dirfd, buf_str(&name), bytes, len, FILE_MODE);
}

int tuf_store_load_floor(const struct tuf_store *s, struct buf *ret)
{
	return file_read(s->os, s->dirfd, floor_name, FLOOR_BYTES_MAX, ret);
}

int tuf_store_save_floor(const struct tuf_store *s, const void *bytes, size_t len)
{
	return durable_write_file(s->os, s->dirfd, floor_name, bytes, len, FILE_MODE);
}
