#include "pack/pack.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "pack/source.h"
#include "tree/tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { OVERHEAD_START = 4 * 1024 * 1024, OVERHEAD_ENTRY = 8 * 1024, OTHERS_PER_FILE = 4, OTHERS_START = 4096 };

struct lister {
	struct archive *archive;
	struct source source;
	struct sha256 *sha256;
	struct tree *tree;
	uint64_t bytes_left, files_left, others_left;
};

static int archive_error(const struct lister *l)
{
	if (l->source.error < 0)
		return l->source.error;
	return archive_errno(l->archive) == ENOMEM ? -ENOMEM : -ERR_ARCHIVE;
}

static int hash_content(struct lister *l, uint64_t size, uint8_t ret[static SHA256_BYTES])
{
	uint64_t end = 0;
	int r = sha256_reset(l->sha256);

	while (r == 0) {
		const void *data;
		size_t len;
		la_int64_t offset;
		int code = archive_read_data_block(l->archive, &data, &len, &offset);

		if (code == ARCHIVE_EOF)
			break;
		if (code != ARCHIVE_OK)
			return archive_error(l);
		/* What we pack has no holes. */
		if (offset < 0 || (uint64_t) offset != end || len > size - end)
			return -ERR_ARCHIVE;
		r = sha256_add(l->sha256, data, len);
		end += len;
	}
	if (r == 0 && end != size)
		r = -ERR_ARCHIVE;
	return r < 0 ? r : sha256_end(l->sha256, ret);
}

static int list_file(struct lister *l, struct archive_entry *e, struct tree_entry *out)
{
	int64_t size = archive_entry_size(e);

	if (!archive_entry_size_is_set(e) || size < 0 || archive_entry_hardlink(e))
		return -ERR_ARCHIVE_ENTRY;
	if (l->files_left == 0 || (uint64_t) size > l->bytes_left)
		return -ERR_TOO_LARGE;
	l->files_left--;
	l->bytes_left -= (uint64_t) size;
	out->type = 'f';
	out->mode = (archive_entry_perm(e) & 0111) ? 0755 : 0644;
	out->size = (uint64_t) size;
	return hash_content(l, out->size, out->sha256);
}

static int list_entry(struct lister *l, struct archive_entry *e)
{
	const char *text = archive_entry_pathname(e), *target = archive_entry_symlink(e);
	struct tree_entry out = { 0 };
	size_t len = text ? strlen(text) : 0;
	mode_t type = archive_entry_filetype(e);
	int r = 0;

	if (len > 1 && text[len - 1] == '/')
		len--;
	out.path = text ? strndup(text, len) : NULL;
	if (text && !out.path)
		return -ENOMEM;
	if (!guard_path(out.path)) {
		r = -ERR_ARCHIVE_ENTRY;
	} else if (type == AE_IFREG) {
		r = list_file(l, e, &out);
	} else if (l->others_left == 0) {
		r = -ERR_TOO_LARGE;
	} else if (type == AE_IFDIR) {
		out.type = 'd';
		out.mode = 0755;
	} else if (type == AE_IFLNK && target && tree_link_stays_inside(out.path, target)) {
		out.type = 'l';
		out.mode = 0777;
		out.size = strlen(target);
		out.target = strdup(target);
		r = out.target ? 0 : -ENOMEM;
	} else {
		r = -ERR_ARCHIVE_ENTRY;
	}
	if (r == 0 && type != AE_IFREG)
		l->others_left--;
	if (r == 0)
		r = tree_add(l->tree, &out);
	free(out.path);
	free(out.target);
	return r;
}

static int list_all(struct lister *l)
{
	for (;;) {
		struct archive_entry *e;
		int r = archive_read_next_header(l->archive, &e);

		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK)
			return archive_error(l);
		r = list_entry(l, e);
		if (r < 0)
			return r;
	}
}

static uint64_t bounded(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t product, sum;

	if (__builtin_mul_overflow(b, c, &product) || __builtin_add_overflow(a, product, &sum))
		return UINT64_MAX;
	return sum;
}

static int list(struct lister *l, const struct os *os, int in_fd, const struct pack_limits *limits)
{
	uint64_t entries;
	int r;

	l->bytes_left = limits->max_bytes;
	l->files_left = limits->max_files;
	l->others_left = bounded(OTHERS_START, limits->max_files, OTHERS_PER_FILE);
	entries = bounded(l->others_left, limits->max_files, 1);
	r = source_init(&l->source, os, in_fd, true,
			bounded(bounded(OVERHEAD_START, entries, OVERHEAD_ENTRY), limits->max_bytes, 1));
	if (r == 0)
		r = sha256_new(&l->sha256);
	if (r < 0)
		return r;
	l->archive = archive_read_new();
	if (!l->archive)
		return -ENOMEM;
	if (archive_read_support_format_tar(l->archive) != ARCHIVE_OK ||
	    source_open(&l->source, l->archive) != ARCHIVE_OK)
		return archive_error(l);
	r = list_all(l);
	if (r == 0)
		tree_sort(l->tree);
	return r;
}

int pack_list(const struct os *os, int in_fd, const struct pack_limits *limits, struct tree *ret)
{
	struct tree tree = { 0 };
	struct lister l = { .tree = &tree };
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0), before;
	int r;

	if (!utf8)
		return -ENOMEM;
	before = uselocale(utf8); /* names as they are (extract.c) */
	r = list(&l, os, in_fd, limits);
	(void) archive_read_free(l.archive); /* nothing left to lose */
	(void) uselocale(before); /* it was valid a moment ago */
	freelocale(utf8);
	source_done(&l.source);
	sha256_free(l.sha256);
	if (r < 0)
		tree_done(&tree);
	else
		*ret = tree;
	return r;
}
