/* Tree listings from hostile hands: what parses must be listed with the same bytes again. */
#include "tree/tree.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(tree_done)
	struct tree t = { 0 };
	CLEANUP(buf_done)
	struct buf again = BUF_INIT(TREE_LISTING_MAX);

	if (tree_parse(data, size, &t) < 0)
		return 0;
	for (size_t i = 0; i < t.count; i++)
		if (!tree_entry_is_allowed(&t.entries[i]))
			abort();
	if (tree_listing(&t, &again) < 0 || again.len != size || (size > 0 && memcmp(again.data, data, size) != 0))
		abort();
	return 0;
}
