#include "pack/pack.h"

#include <string.h>

static const char *const names[] = {
	[PACK_TAR_ZSTD] = "application/x-tar+zstd",
	[PACK_TAR_GZIP] = "application/x-tar+gzip",
	[PACK_TAR_XZ] = "application/x-tar+xz",
	[PACK_TAR] = "application/x-tar",
	[PACK_ZIP] = "application/zip",
};
_Static_assert(ARRAY_LEN(names) == PACK_ZIP + 1, "the last media type has a name");

const char *pack_media_name(enum pack_media media)
{
	return names[media];
}

int pack_media_parse(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_LEN(names); i++)
		if (strcmp(name, names[i]) == 0)
			return (int) i;
	return -1;
}
