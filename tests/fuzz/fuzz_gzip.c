/* Announcements arrive as gzip: whatever comes stays within the limit, and what we pack comes back. */
#include "pack/pack.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(buf_done)
	struct buf plain = BUF_INIT(64 * 1024), packed = BUF_INIT(1024 * 1024), back = BUF_INIT(size);

	if (gzip_expand(data, size, &plain) < 0 ? plain.len != 0 : plain.len > 64 * 1024)
		abort();
	if (gzip_compress(data, size, &packed) < 0)
		return 0;
	if (gzip_expand(packed.data, packed.len, &back) < 0 || back.len != size ||
	    (size > 0 && memcmp(back.data, data, size) != 0))
		abort();
	return 0;
}
