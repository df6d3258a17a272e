#include "tree/tree.h"

#include "base/err.h"
#include "crypto/digest.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

enum { CHUNK_BYTES = 256 * 1024, TARGET_MAX = 1024 };

static void entry_done(struct tree_entry *e)
{
	free(e->path);
	free(e->target);
	e->path = e->target = NULL;
}

void tree_done(struct tree *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->count; i++)
		entry_done(&t->entries[i]);
	free(t->entries);
	*t = (struct tree){ 0 };
}

static int make_room(struct tree *t)
{
	struct tree_entry *entries;
	size_t capacity;

	if (t->count < t->capacity)
		return 0;
	if (t->count >= TREE_FILES_MAX)
		return -ERR_TOO_LARGE;
	capacity = t->capacity ? t->capacity * 2 : 64;
	entries = realloc(t->entries, capacity * sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	t->entries = entries;
	t->capacity = capacity;
	return 0;
}

int tree_add(struct tree *t, const struct tree_entry *e)
{
	struct tree_entry copy = *e;
	int r;

	r = make_room(t);
	if (r < 0)
		return r;
	if (e->type == 'f' && e->size > UINT64_MAX - t->total_bytes)
		return -ERR_TOO_LARGE;
	copy.path = strdup(e->path);
	copy.target = e->type == 'l' ? strdup(e->target) : NULL;
	if (!copy.path || (e->type == 'l' && !copy.target)) {
		entry_done(&copy);
		return -ENOMEM;
	}
	t->entries[t->count++] = copy;
	if (e->type == 'f') {
		t->files++;
		t->total_bytes += e->size;
	}
	return 0;
}

static int compare_entries(const void *a, const void *b)
{
	/* strcmp compares as unsigned bytes, which is the order of the listing. */
	return strcmp(((const struct tree_entry *) a)->path, ((const struct tree_entry *) b)->path);
}

void tree_sort(struct tree *t)
{
	if (t->count > 1)
		qsort(t->entries, t->count, sizeof(*t->entries), compare_entries);
}

/*
 * ".." only in front: behind a name it would step up from wherever that name's own
 * link leads, and two links that each look harmless would leave the tree together
 * (a/up -> .. and a/out -> up/../../etc).
 */
bool tree_link_stays_inside(const char *path, const char *target)
{
	size_t depth = 0;
	bool named = false;

	if (!target || !*target || *target == '/' || strlen(target) > TARGET_MAX)
		return false;
	for (const char *p = path; *p; p++)
		depth += *p == '/';
	for (const char *p = target; *p;) {
		size_t len = strcspn(p, "/");

		for (size_t i = 0; i < len; i++)
			if ((unsigned char) p[i] < 0x20 || p[i] == 0x7f)
				return false;
		if (len == 2 && p[0] == '.' && p[1] == '.') {
			if (named || depth == 0)
				return false;
			depth--;
		} else if (len > 0 && !(len == 1 && p[0] == '.')) {
			named = true;
		}
		p += len;
		p += *p == '/';
	}
	return true;
}

bool tree_entry_is_allowed(const struct tree_entry *e)
{
	if (!guard_path(e->path))
		return false;
	switch (e->type) {
	case 'f':
		return (e->mode & ~0755u) == 0 && (e->mode & 0444) == 0444;
	case 'd':
		return (e->mode & ~0755u) == 0 && e->size == 0;
	case 'l':
		return e->mode == 0777 && e->target && e->size == strlen(e->target) &&
		       tree_link_stays_inside(e->path, e->target);
	default:
		return false;
	}
}

/* What the listing says of a file or folder that is published: only the executable bit counts, as in git. */
static unsigned published_mode(unsigned mode, bool is_dir)
{
	return is_dir || (mode & 0111) ? 0755 : 0644;
}

struct scan {
	const struct os *os;
	int root;
	uid_t owner;
	tree_known_digest *known;
	void *user;
	struct tree tree;
	uint64_t listing_bytes;
	struct sha256 *hash;
	uint8_t *chunk;
	char *offender;
};

static void scan_done(struct scan *s)
{
	tree_done(&s->tree);
	sha256_free(s->hash);
	free(s->chunk);
	free(s->offender);
}

static int refuse(struct scan *s, const char *path, int r)
{
	free(s->offender);
	s->offender = strdup(path);
	return r;
}

/*
 * The label of SELinux is put on every file by the machine itself. Attributes on
 * links are not looked for: the kernel gives users none there.
 */
static int check_attributes(int fd)
{
	char names[1024];
	ssize_t n = flistxattr(fd, names, sizeof(names));

	if (n < 0)
		return errno == ENOTSUP ? 0 : errno == ERANGE ? -ERR_ARCHIVE_ENTRY : -errno;
	for (const char *p = names; p < names + n; p += strlen(p) + 1)
		if (strcmp(p, "security.selinux") != 0)
			return -ERR_ARCHIVE_ENTRY;
	return 0;
}

static int check_stat(const struct scan *s, const struct stat *st)
{
	if (s->owner != (uid_t) -1 && st->st_uid != s->owner)
		return -ERR_ARCHIVE_ENTRY;
	if (!S_ISLNK(st->st_mode) && (st->st_mode & 07002))
		return -ERR_ARCHIVE_ENTRY;
	return 0;
}

static int hash_file(struct scan *s, int fd, struct tree_entry *e)
{
	int r;

	r = sha256_reset(s->hash);
	if (r < 0)
		return r;
	e->size = 0;
	for (;;) {
		ssize_t n = s->os->read(s->os, fd, s->chunk, CHUNK_BYTES);

		if (n < 0)
			return (int) n;
		if (n == 0)
			return sha256_end(s->hash, e->sha256);
		r = sha256_add(s->hash, s->chunk, (size_t) n);
		if (r < 0)
			return r;
		e->size += (uint64_t) n;
	}
}

static int scan_open_file(struct scan *s, int fd, struct tree_entry *e)
{
	struct stat st;
	int r;

	r = s->os->fstat(s->os, fd, &st);
	if (r < 0)
		return r;
	if (!S_ISREG(st.st_mode))
		return -ERR_ARCHIVE_ENTRY; /* swapped since we looked */
	r = check_stat(s, &st);
	if (r < 0)
		return r;
	r = check_attributes(fd);
	if (r < 0)
		return r;
	e->mode = s->owner == (uid_t) -1 ? published_mode(st.st_mode, false) : st.st_mode & 07777;
	e->size = (uint64_t) st.st_size;
	if (s->known && s->known(s->user, e->path, fd, e->sha256) == 0)
		return 0;
	return hash_file(s, fd, e);
}

static int scan_file(struct scan *s, int dirfd, const char *name, struct tree_entry *e)
{
	/* O_NONBLOCK: a fifo put there since we looked must not hold us. */
	int fd = s->os->openat(s->os, dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0), r;

	if (fd < 0)
		return fd == -ELOOP ? -ERR_ARCHIVE_ENTRY : fd;
	r = scan_open_file(s, fd, e);
	(void) s->os->close(s->os, fd); /* only read */
	return r;
}

static int scan_link(struct scan *s, int dirfd, const char *name, struct tree_entry *e,
		     char target[TARGET_MAX + 2])
{
	ssize_t n = s->os->readlinkat(s->os, dirfd, name, target, TARGET_MAX + 1);

	if (n < 0)
		return (int) n;
	if (n > TARGET_MAX)
		return -ERR_ARCHIVE_ENTRY;
	target[n] = '\0';
	e->type = 'l';
	e->mode = 0777;
	e->size = (uint64_t) n;
	e->target = target;
	return 0;
}

static int scan_entry(struct scan *s, int dirfd, const char *name, char *path)
{
	struct tree_entry e = { .path = path };
	char target[TARGET_MAX + 2];
	struct stat st;
	int r;

	r = s->os->fstatat(s->os, dirfd, name, &st);
	if (r < 0)
		return r;
	r = check_stat(s, &st);
	if (r < 0)
		return r;
	if (S_ISREG(st.st_mode)) {
		e.type = 'f';
		r = scan_file(s, dirfd, name, &e);
	} else if (S_ISLNK(st.st_mode)) {
		r = scan_link(s, dirfd, name, &e, target);
	} else if (S_ISDIR(st.st_mode)) {
		e.type = 'd';
		e.mode = s->owner == (uid_t) -1 ? published_mode(st.st_mode, true) : st.st_mode & 07777;
	} else {
		r = -ERR_ARCHIVE_ENTRY;
	}
	if (r < 0)
		return r;
	if (!tree_entry_is_allowed(&e))
		return -ERR_ARCHIVE_ENTRY;
	s->listing_bytes += strlen(path) + (e.target ? strlen(e.target) : 0) + SHA256_HEX + 32;
	if (s->listing_bytes > TREE_LISTING_MAX)
		return -ERR_TOO_LARGE;
	return tree_add(&s->tree, &e);
}

/* All of one folder; its folders are appended to the tree, which is the queue of what is still to be read. */
static int scan_folder(struct scan *s, int dirfd, const char *folder)
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };
	int r;

	r = check_attributes(dirfd);
	if (r < 0)
		return refuse(s, folder ? folder : ".", r);
	r = dir_list(s->os, dirfd, ".", &names);
	if (r < 0)
		return refuse(s, folder ? folder : ".", r);
	for (size_t i = 0; i < names.count; i++) {
		CLEANUP(buf_done)
		struct buf path = BUF_INIT(64 * 1024);

		if (folder)
			r = buf_addf(&path, "%s/%s", folder, names.names[i]);
		else
			r = buf_add_str(&path, names.names[i]);
		if (r < 0)
			return r;
		r = scan_entry(s, dirfd, names.names[i], (char *) path.data);
		if (r < 0)
			return refuse(s, buf_str(&path), r);
	}
	return 0;
}

static int scan_all(struct scan *s)
{
	int r;

	r = sha256_new(&s->hash);
	if (r < 0)
		return r;
	s->chunk = malloc(CHUNK_BYTES);
	if (!s->chunk)
		return -ENOMEM;
	r = scan_folder(s, s->root, NULL);
	for (size_t i = 0; r == 0 && i < s->tree.count; i++) {
		char *folder;
		int fd;

		if (s->tree.entries[i].type != 'd')
			continue;
		/* The entry moves when the array grows, its path does not. */
		folder = s->tree.entries[i].path;
		fd = dir_open(s->os, s->root, folder);
		if (fd < 0)
			return refuse(s, folder, fd);
		r = scan_folder(s, fd, folder);
		(void) s->os->close(s->os, fd); /* only read */
	}
	tree_sort(&s->tree);
	return r;
}

int tree_scan(const struct os *os, int dirfd, uid_t owner, tree_known_digest *known, void *user, struct tree *ret,
	      char **ret_offender)
{
	CLEANUP(scan_done)
	struct scan s = { .os = os, .root = dirfd, .owner = owner, .known = known, .user = user };
	int r = scan_all(&s);

	if (r < 0) {
		if (ret_offender) {
			*ret_offender = s.offender;
			s.offender = NULL;
		}
		return r;
	}
	*ret = s.tree;
	s.tree = (struct tree){ 0 };
	return 0;
}

static int add_record(const struct tree_entry *e, struct buf *out)
{
	char digest[SHA256_HEX + 1] = "-";
	int r;

	if (e->type == 'f')
		hex_encode(digest, e->sha256, SHA256_BYTES);
	r = buf_addf(out, "%c %04o %" PRIu64 " %s %s", e->type, e->mode, e->size, digest, e->path);
	if (r == 0)
		r = buf_add_byte(out, 0);
	if (r == 0 && e->target)
		r = buf_add_str(out, e->target);
	return r == 0 ? buf_add_byte(out, 0) : r;
}

int tree_listing(const struct tree *t, struct buf *out)
{
	size_t start = out->len;

	for (size_t i = 0; i < t->count; i++) {
		int r = add_record(&t->entries[i], out);

		if (r < 0) {
			out->len = start;
			return r;
		}
	}
	return 0;
}

int tree_digest(const struct tree *t, uint8_t ret[static SHA256_BYTES])
{
	CLEANUP(sha256_freep)
	struct sha256 *hash = NULL;
	CLEANUP(buf_done)
	struct buf records = BUF_INIT(CHUNK_BYTES);
	int r;

	r = sha256_new(&hash);
	for (size_t i = 0; r == 0 && i < t->count; i++) {
		r = add_record(&t->entries[i], &records);
		if (r == 0 && records.len > CHUNK_BYTES / 2) {
			r = sha256_add(hash, records.data, records.len);
			buf_clear(&records);
		}
	}
	if (r == 0 && records.len > 0)
		r = sha256_add(hash, records.data, records.len);
	return r == 0 ? sha256_end(hash, ret) : r;
}

/* The text up to `end` at *p, as a C string in the listing's copy; NULL if `end` does not come. */
static char *take(char **p, char *limit, char end)
{
	char *start = *p, *stop = memchr(start, end, (size_t) (limit - start));

	if (!stop || (end != '\0' && memchr(start, '\0', (size_t) (stop - start))))
		return NULL; /* a NUL inside would hide what is behind it */
	*stop = '\0';
	*p = stop + 1;
	return start;
}

static int parse_mode(const char *text, unsigned *ret)
{
	unsigned mode = 0;

	if (strlen(text) != 4)
		return -ERR_SYNTAX;
	for (; *text; text++) {
		if (*text < '0' || *text > '7')
			return -ERR_SYNTAX;
		mode = mode * 8 + (unsigned) (*text - '0');
	}
	*ret = mode;
	return 0;
}

static int parse_size(const char *text, uint64_t *ret)
{
	if (text[0] == '0' && text[1] != '\0')
		return -ERR_SYNTAX; /* one way to write a number, so one listing per tree */
	return parse_u64(text, ret) < 0 ? -ERR_SYNTAX : 0;
}

static int parse_record(char **p, char *limit, struct tree_entry *e)
{
	char *type = take(p, limit, ' '), *mode = type ? take(p, limit, ' ') : NULL;
	char *size = mode ? take(p, limit, ' ') : NULL, *digest = size ? take(p, limit, ' ') : NULL;
	char *path = digest ? take(p, limit, '\0') : NULL, *target = path ? take(p, limit, '\0') : NULL;

	if (!target || strlen(type) != 1)
		return -ERR_SYNTAX;
	e->type = type[0];
	e->path = path;
	if (parse_mode(mode, &e->mode) < 0 || parse_size(size, &e->size) < 0)
		return -ERR_SYNTAX;
	if (e->type == 'f' ? hex_decode(e->sha256, SHA256_BYTES, digest, false) < 0 : strcmp(digest, "-") != 0)
		return -ERR_SYNTAX;
	if (e->type == 'l')
		e->target = target;
	else if (*target)
		return -ERR_SYNTAX;
	return tree_entry_is_allowed(e) ? 0 : -ERR_ARCHIVE_ENTRY;
}

/* Is the folder of `path` listed already? The tree is sorted so far. */
static bool folder_is_listed(const struct tree *t, char *path)
{
	struct tree_entry key = { .path = path };
	const struct tree_entry *found;
	char *slash = strrchr(path, '/');

	if (!slash)
		return true;
	if (t->count == 0)
		return false;
	*slash = '\0';
	found = bsearch(&key, t->entries, t->count, sizeof(key), compare_entries);
	*slash = '/';
	return found && found->type == 'd';
}

static void free_text(char **text)
{
	free(*text);
}

int tree_parse(const void *listing, size_t len, struct tree *ret)
{
	CLEANUP(tree_done)
	struct tree t = { 0 };
	CLEANUP(free_text)
	char *copy = NULL;
	char *p, *limit;
	int r;

	if (len > TREE_LISTING_MAX)
		return -ERR_TOO_LARGE;
	copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	if (len > 0)
		memcpy(copy, listing, len);
	copy[len] = '\0';
	for (p = copy, limit = copy + len; p < limit;) {
		struct tree_entry e = { 0 };

		r = parse_record(&p, limit, &e);
		if (r < 0)
			return r;
		if (t.count > 0 && compare_entries(&t.entries[t.count - 1], &e) >= 0)
			return -ERR_SYNTAX;
		if (!folder_is_listed(&t, e.path))
			return -ERR_ARCHIVE_ENTRY;
		r = tree_add(&t, &e);
		if (r < 0)
			return r;
	}
	*ret = t;
	t = (struct tree){ 0 };
	return 0;
}
