/* A tar from a stick: whatever is on it, every file found lies within it, and reading it never leaves it. */
#include "base/err.h"
#include "fetch/bundle.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "metadata/timestamp.json", "metadata/1.root.json", "targets/a",
					     "targets/web/a" };
	CLEANUP(bundle_closep)
	struct bundle *b = NULL;
	int fd = memfd_create("bundle", MFD_CLOEXEC);

	if (fd < 0 || write(fd, data, size) != (ssize_t) size)
		abort();
	if (bundle_open(&os_posix, fd, &b) < 0) {
		close(fd);
		return 0;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		CLEANUP(buf_done)
		struct buf bytes = BUF_INIT(1024 * 1024);
		uint64_t offset = 0, length = 0;
		int found = -1;

		if (bundle_find(b, names[i], &found, &offset, &length) < 0)
			continue;
		close(found);
		if (offset > size || length > size - offset)
			abort();
		if (fetcher_get(bundle_fetcher(b), names[i], 1024 * 1024, &bytes) == 0 &&
		    (bytes.len != length || (length && memcmp(bytes.data, data + offset, (size_t) length))))
			abort();
	}
	return 0;
}
