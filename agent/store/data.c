#include "agent/store/data.h"

#include "base/err.h"
#include "base/version.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RECORD "record"
#define RESTORED "restored"
#define SINCE "since"
#define FIRST_LINE "selfright-data 1"
#define PARTIAL ".partial"

enum {
	DEPTH_MAX = 128,
	PATH_SIZE = 1024 + 1,
	LINK_SIZE = 4096,
	CHUNK = 256 * 1024,
	BLOCK = 4096, /* what counts as a hole, and what the last bytes of a file take at least */
	RECORD_MAX = 512 * 1024,
	DISPLACED_MAX = 100,
	ITEM_NAME_SIZE = 32,
	NAME_SIZE = DATA_NAME_SIZE + sizeof(PARTIAL),
};

/* --- what there is to copy ------------------------------------------------------------------------- */

struct entry {
	char *path; /* below the item, "" for itself */
	size_t item;
	char type; /* 'f', 'd', 'l' */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec times[2];
};

struct scan {
	const struct os *os;
	int data_fd;
	dev_t device;
	struct entry *entries; /* a folder before what it holds */
	size_t count, capacity;
	size_t item;
	bool present[DATA_ITEMS_MAX];
	struct data_size size;
};

static void scan_done(struct scan *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->entries[i].path);
	free(s->entries);
	s->entries = NULL;
	s->count = s->capacity = 0;
}

static uint64_t size_of_copy(const struct stat *st)
{
	uint64_t whole = ((uint64_t) st->st_size + BLOCK - 1) / BLOCK * BLOCK;
	uint64_t held = (uint64_t) st->st_blocks * 512;

	return held < whole && held > 0 ? held : whole;
}

static int add_entry(struct scan *s, const char *path, char type, const struct stat *st)
{
	struct entry *e;

	if (s->count >= DATA_ENTRIES_MAX)
		return -ERR_TOO_LARGE;
	if (s->count == s->capacity) {
		size_t more = s->capacity ? s->capacity * 2 : 64;
		struct entry *longer = reallocarray(s->entries, more, sizeof(*longer));

		if (!longer)
			return -ENOMEM;
		s->entries = longer;
		s->capacity = more;
	}
	e = &s->entries[s->count];
	*e = (struct entry){
		.path = strdup(path),
		.item = s->item,
		.type = type,
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.times = { st->st_atim, st->st_mtim },
	};
	if (!e->path)
		return -ENOMEM;
	s->count++;
	s->size.files++;
	s->size.bytes += type == 'f' ? size_of_copy(st) : BLOCK;
	return 0;
}

static int scan_entry(struct scan *s, int dirfd, const char *name, const char *path, unsigned depth);

static int scan_content(struct scan *s, int dirfd, const char *name, const char *path, unsigned depth)
{
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	int fd, r;

	if (depth >= DEPTH_MAX)
		return -ERR_TOO_DEEP;
	fd = s->os->openat(s->os, dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	r = dir_list(s->os, fd, ".", &names);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		char inner[PATH_SIZE];

		if (snprintf(inner, sizeof(inner), "%s%s%s", path, *path ? "/" : "", names.names[i]) >=
		    (int) sizeof(inner))
			r = -ENAMETOOLONG;
		else
			r = scan_entry(s, fd, names.names[i], inner, depth + 1);
	}
	(void) s->os->close(s->os, fd); /* a folder opened for reading */
	return r;
}

static int scan_entry(struct scan *s, int dirfd, const char *name, const char *path, unsigned depth)
{
	struct stat st;
	int r = s->os->fstatat(s->os, dirfd, name, &st);

	if (r < 0)
		return r;
	if (st.st_dev != s->device)
		return -EXDEV;
	if (S_ISREG(st.st_mode))
		return add_entry(s, path, 'f', &st);
	if (S_ISLNK(st.st_mode))
		return add_entry(s, path, 'l', &st);
	if (S_ISSOCK(st.st_mode) || S_ISFIFO(st.st_mode))
		return 0; /* whoever serves them makes them */
	if (!S_ISDIR(st.st_mode))
		return -ERR_ARCHIVE_ENTRY;
	r = add_entry(s, path, 'd', &st);
	return r < 0 ? r : scan_content(s, dirfd, name, path, depth);
}

/* The folder that holds data/<component>/<path>, and the last part of the path. */
static int open_parent(const struct os *os, int data_fd, const char *component, const char *path,
		       const char **ret_name)
{
	char folder[STATE_ID_SIZE + PATH_SIZE];
	const char *slash = strrchr(path, '/');

	if (!guard_id(component) || !guard_path(path))
		return -ERR_NAME;
	(void) snprintf(folder, sizeof(folder), "%s%s%.*s", component, slash ? "/" : "",
			slash ? (int) (slash - path) : 0, path); /* both are bounded by their guards */
	*ret_name = slash ? slash + 1 : path;
	return dir_open(os, data_fd, folder);
}

static int scan_item(struct scan *s, const struct data_item *item)
{
	const char *name = NULL;
	int fd = open_parent(s->os, s->data_fd, item->component, item->path, &name), r;
	struct stat st;

	s->present[s->item] = false;
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	r = s->os->fstatat(s->os, fd, name, &st);
	if (r == 0) {
		size_t before = s->count;

		r = scan_entry(s, fd, name, "", 0);
		s->present[s->item] = s->count > before;
	}
	(void) s->os->close(s->os, fd); /* a folder opened for reading */
	return r == -ENOENT && !s->present[s->item] ? 0 : r;
}

static int scan_set(struct scan *s, const struct data_set *set)
{
	struct stat st;
	int r = s->os->fstat(s->os, s->data_fd, &st);

	if (r < 0)
		return r;
	s->device = st.st_dev;
	for (s->item = 0; r == 0 && s->item < set->item_count; s->item++)
		r = scan_item(s, &set->items[s->item]);
	return r;
}

int data_measure(const struct os *os, const struct store_dirs *dirs, const struct data_set *set,
		 struct data_size *ret)
{
	struct scan s = { .os = os, .data_fd = dirs->data };
	int r = scan_set(&s, set);

	scan_done(&s);
	if (r == 0)
		*ret = s.size;
	return r;
}

bool data_can_share(const struct os *os, const struct store_dirs *dirs)
{
	static const char from[] = ".share-from.pending", to[] = ".share-to.pending";
	int a, b, r;

	/* Only trying tells: the file system, its age and its options decide. */
	a = os->openat(os, dirs->saved, from, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (a < 0)
		return false;
	r = file_write_all(os, a, from, sizeof(from));
	b = r < 0 ? r : os->openat(os, dirs->saved, to, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (b >= 0) {
		r = os->clone(os, b, a);
		(void) os->close(os, b); /* removed below */
	}
	(void) os->close(os, a); /* removed below */
	(void) os->unlinkat(os, dirs->saved, from, 0); /* overwritten by the next trial, and collected */
	(void) os->unlinkat(os, dirs->saved, to, 0); /* the same */
	return b >= 0 && r == 0;
}

/* --- the record ------------------------------------------------------------------------------------ */

static int make_record(const struct data_set *set, const bool *present, struct buf *out)
{
	int r = buf_addf(out, FIRST_LINE "\nat %" PRId64 "\n", set->at);

	for (size_t i = 0; r == 0 && i < set->move_count; i++)
		r = buf_addf(out, "move %s %s %s\n", set->moves[i].component,
			     set->moves[i].from[0] ? set->moves[i].from : "-",
			     set->moves[i].to[0] ? set->moves[i].to : "-");
	for (size_t i = 0; r == 0 && i < set->item_count; i++)
		r = buf_addf(out, "item %s %s %s %s\n", set->items[i].component,
			     set->items[i].restore ? "restore" : "keep", present[i] ? "present" : "absent",
			     set->items[i].path);
	return r < 0 ? r : buf_add_str(out, "end\n");
}

struct record {
	struct data_set set; /* its strings lie in `text` */
	bool present[DATA_ITEMS_MAX];
	bool restored;
	char *text;
};

static void record_free(struct record *rec)
{
	if (!rec)
		return;
	free(rec->text);
	free(rec);
}
DEFINE_FREEP(struct record *, record_free)

/* The word at *p, which moves behind it; NULL: there is none. */
static char *take_word(char **p)
{
	char *word = *p, *end;

	if (!word || !*word)
		return NULL;
	end = strchr(word, ' ');
	if (end)
		*end++ = '\0';
	*p = end;
	return word;
}

static bool take_version(char **p, const char **ret)
{
	char *word = take_word(p);

	if (!word || (strcmp(word, "-") != 0 && !version_is_valid(word)))
		return false;
	*ret = word[0] == '-' ? "" : word;
	return true;
}

static bool take_move(char *line, struct data_set *set)
{
	char *component = take_word(&line);

	if (set->move_count >= DATA_COMPONENTS_MAX || !component || !guard_id(component))
		return false;
	set->moves[set->move_count].component = component;
	if (!take_version(&line, &set->moves[set->move_count].from) ||
	    !take_version(&line, &set->moves[set->move_count].to) || line)
		return false;
	set->move_count++;
	return true;
}

static bool take_item(char *line, struct record *rec)
{
	char *component = take_word(&line), *how = take_word(&line), *there = take_word(&line);
	struct data_set *set = &rec->set;

	if (set->item_count >= DATA_ITEMS_MAX || !there || !line || !guard_id(component) || !guard_path(line) ||
	    (strcmp(how, "restore") != 0 && strcmp(how, "keep") != 0) ||
	    (strcmp(there, "present") != 0 && strcmp(there, "absent") != 0))
		return false;
	rec->present[set->item_count] = there[0] == 'p';
	set->items[set->item_count++] =
		(struct data_item){ .component = component, .path = line, .restore = how[0] == 'r' };
	return true;
}

/* Lines of a word we do not know are a successor's. */
static int parse_record(struct record *rec)
{
	char *line = rec->text, *rest = NULL;
	bool first = true, at = false;

	for (line = strtok_r(line, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		uint64_t number;

		if (first && strcmp(line, FIRST_LINE) != 0)
			return -ERR_TREE;
		if (strcmp(line, "end") == 0)
			return at ? 0 : -ERR_TREE;
		if (str_starts(line, "at ")) {
			if (parse_u64(line + 3, &number) < 0 || number > INT64_MAX)
				return -ERR_TREE;
			rec->set.at = (int64_t) number;
			at = true;
		} else if (str_starts(line, "move ") && !take_move(line + 5, &rec->set)) {
			return -ERR_TREE;
		} else if (str_starts(line, "item ") && !take_item(line + 5, rec)) {
			return -ERR_TREE;
		}
		first = false;
	}
	return -ERR_TREE;
}

/* -ENOENT: the folder holds none. */
static int read_record(const struct os *os, int fd, struct record **ret)
{
	CLEANUP(record_freep)
	struct record *rec = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(RECORD_MAX);
	int r;

	rec = calloc(1, sizeof(*rec));
	if (!rec)
		return -ENOMEM;
	r = file_read(os, fd, RECORD, RECORD_MAX, &text);
	if (r == -ENOENT) {
		r = file_read(os, fd, RESTORED, RECORD_MAX, &text);
		rec->restored = true;
	}
	if (r < 0)
		return r;
	if (text.len == 0 || memchr(text.data, '\0', text.len))
		return -ERR_TREE;
	rec->text = buf_take(&text);
	r = parse_record(rec);
	if (r < 0)
		return r;
	*ret = rec;
	rec = NULL;
	return 0;
}

/* A name of one part, as it stands in the journal. */
static bool name_is_fine(const char *name)
{
	return guard_path(name) && !strchr(name, '/') && name[0] != '.' && strlen(name) < DATA_NAME_SIZE;
}

static int open_save(const struct os *os, const struct store_dirs *dirs, const char *name)
{
	if (!name_is_fine(name))
		return -ERR_NAME;
	return dirs->saved < 0 ? -ENOENT : dir_open(os, dirs->saved, name);
}

/* --- saving ---------------------------------------------------------------------------------------- */

struct data_save {
	const struct os *os;
	const struct store_dirs *dirs;
	struct scan scan;
	struct buf record;
	char **components, **paths; /* of the items, ours: the set is the caller's */
	size_t item_count;
	char name[DATA_NAME_SIZE], partial[NAME_SIZE];
	int fd; /* of the partial folder, -1 */
	size_t next; /* entry */
	int in, out; /* of the file under way, -1 */
	struct stat source; /* what was opened as `in` */
	uint64_t offset; /* in it */
	bool as_root, committed;
	uint8_t *chunk;
};

static void item_name(char out[static ITEM_NAME_SIZE], const char *what, size_t i)
{
	(void) snprintf(out, ITEM_NAME_SIZE, "%s-%zu", what, i); /* always fits */
}

static int keep_items(struct data_save *s, const struct data_set *set)
{
	s->components = calloc(set->item_count + 1, sizeof(char *));
	s->paths = calloc(set->item_count + 1, sizeof(char *));
	if (!s->components || !s->paths)
		return -ENOMEM;
	for (size_t i = 0; i < set->item_count; i++) {
		s->components[i] = strdup(set->items[i].component);
		s->paths[i] = strdup(set->items[i].path);
		s->item_count++;
		if (!s->components[i] || !s->paths[i])
			return -ENOMEM;
	}
	return 0;
}

static int set_is_fine(const struct data_set *set)
{
	if (set->item_count > DATA_ITEMS_MAX || set->move_count > DATA_COMPONENTS_MAX || set->at < 0)
		return -EINVAL;
	for (size_t i = 0; i < set->move_count; i++)
		if (!guard_id(set->moves[i].component) ||
		    (set->moves[i].from[0] && !version_is_valid(set->moves[i].from)) ||
		    (set->moves[i].to[0] && !version_is_valid(set->moves[i].to)))
			return -ERR_NAME;
	for (size_t i = 0; i < set->item_count; i++)
		if (!guard_id(set->items[i].component) || !guard_path(set->items[i].path))
			return -ERR_NAME;
	return 0;
}

static int begin(struct data_save *s, const struct data_set *set)
{
	int r = data_remove(s->os, s->dirs, s->name);

	if (r == 0)
		r = keep_items(s, set);
	if (r == 0)
		r = scan_set(&s->scan, set);
	if (r == 0)
		r = make_record(set, s->scan.present, &s->record);
	if (r == 0)
		r = s->os->mkdirat(s->os, s->dirs->saved, s->partial, 0700);
	if (r < 0)
		return r;
	s->fd = s->os->openat(s->os, s->dirs->saved, s->partial, O_RDONLY | O_DIRECTORY, 0);
	s->chunk = malloc(CHUNK);
	return s->fd < 0 ? s->fd : s->chunk ? 0 : -ENOMEM;
}

int data_save_begin(const struct os *os, const struct store_dirs *dirs, const char *name,
		    const struct data_set *set, struct data_save **ret)
{
	CLEANUP(data_save_freep)
	struct data_save *s = NULL;
	int r = set_is_fine(set);

	if (r < 0)
		return r;
	if (!name_is_fine(name))
		return -ERR_NAME;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct data_save){
		.os = os,
		.dirs = dirs,
		.scan = { .os = os, .data_fd = dirs->data },
		.record = BUF_INIT(RECORD_MAX),
		.fd = -1,
		.in = -1,
		.out = -1,
		.as_root = geteuid() == 0,
	};
	(void) snprintf(s->name, sizeof(s->name), "%s", name); /* name_is_fine: fits */
	(void) snprintf(s->partial, sizeof(s->partial), "%s" PARTIAL, name);
	r = begin(s, set);
	if (r < 0)
		return r;
	*ret = s;
	s = NULL;
	return 0;
}

/* Its place in the partial folder. The links in there are ours and never part of a path. */
static void copy_path(const struct entry *e, char out[static ITEM_NAME_SIZE + PATH_SIZE])
{
	char name[ITEM_NAME_SIZE];

	item_name(name, "copy", e->item);
	(void) snprintf(out, ITEM_NAME_SIZE + PATH_SIZE, "%s%s%s", name, e->path[0] ? "/" : "", e->path);
}

/* The folder that holds the original, no part of which may be a link: its owner is not us. */
static int open_original(const struct data_save *s, const struct entry *e, const char **ret_name)
{
	char path[2 * PATH_SIZE];

	if (!e->path[0])
		return open_parent(s->os, s->dirs->data, s->components[e->item], s->paths[e->item], ret_name);
	(void) snprintf(path, sizeof(path), "%s/%s/%s", s->components[e->item], s->paths[e->item], e->path);
	*ret_name = strrchr(e->path, '/') ? strrchr(e->path, '/') + 1 : e->path;
	*strrchr(path, '/') = '\0';
	return dir_open(s->os, s->dirs->data, path);
}

static int set_attributes(const struct data_save *s, const struct entry *e, int fd)
{
	/* Owner first: changing it takes setuid away. */
	int r = s->as_root ? s->os->fchown(s->os, fd, e->uid, e->gid) : 0;

	if (r == 0)
		r = s->os->fchmod(s->os, fd, e->mode);
	return r < 0 ? r : s->os->futimens(s->os, fd, e->times);
}

/*
 * Those of the file whose bytes were read, not of the one that was seen under this name before: the folder is the
 * component's own user's, who could let it see root's setuid program there, and read a file of his own.
 */
static int set_attributes_of_file(const struct data_save *s)
{
	const struct stat *st = &s->source;
	const struct entry e = { .mode = st->st_mode & 07777,
				 .uid = st->st_uid,
				 .gid = st->st_gid,
				 .times = { st->st_atim, st->st_mtim } };

	return set_attributes(s, &e, s->out);
}

static void close_file(struct data_save *s)
{
	if (s->in >= 0)
		(void) s->os->close(s->os, s->in); /* opened for reading */
	if (s->out >= 0)
		(void) s->os->close(s->os, s->out); /* syncfs before the record says whether it reached the disk */
	s->in = s->out = -1;
}

static int open_file(struct data_save *s, const struct entry *e)
{
	char path[ITEM_NAME_SIZE + PATH_SIZE];
	const char *name = NULL;
	int dirfd = open_original(s, e, &name), r;

	if (dirfd < 0)
		return dirfd;
	s->in = s->os->openat(s->os, dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	(void) s->os->close(s->os, dirfd); /* a folder opened for reading */
	if (s->in < 0)
		return s->in;
	r = s->os->fstat(s->os, s->in, &s->source);
	if (r == 0 && (!S_ISREG(s->source.st_mode) || s->source.st_dev != s->scan.device))
		r = -EBUSY; /* exchanged under our hands */
	if (r < 0)
		return r;
	s->offset = 0;
	copy_path(e, path);
	s->out = s->os->openat(s->os, s->fd, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	return s->out < 0 ? s->out : 0;
}

static bool is_hole(const uint8_t *p, size_t len)
{
	return len > 0 && p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

/* Bytes at `offset`; blocks of zeros stay holes. */
static int put_bytes(const struct data_save *s, const uint8_t *p, size_t len, uint64_t offset)
{
	while (len > 0) {
		size_t n = len < BLOCK ? len : BLOCK;
		ssize_t done = is_hole(p, n) ? (ssize_t) n : s->os->pwrite(s->os, s->out, p, n, offset);

		if (done < 0)
			return (int) done;
		if (done == 0)
			return -EIO;
		p += done;
		len -= (size_t) done;
		offset += (uint64_t) done;
	}
	return 0;
}

static bool is_late(const struct data_save *s, uint64_t until_ms)
{
	return s->os->clock_boot_ms(s->os) >= until_ms;
}

/*
 * 1: the file is copied; 0: more another time. No further than it reached when it was opened: somebody who writes to it
 * without end must not keep the node in the middle of a swap.
 */
static int copy_bytes(struct data_save *s, uint64_t until_ms)
{
	struct stat st;

	do {
		uint64_t left = (uint64_t) s->source.st_size - s->offset;
		ssize_t n = s->os->pread(s->os, s->in, s->chunk, left < CHUNK ? (size_t) left : CHUNK, s->offset);
		int r;

		if (n < 0)
			return (int) n;
		r = n > 0 ? put_bytes(s, s->chunk, (size_t) n, s->offset) : s->os->fstat(s->os, s->out, &st);
		if (r < 0)
			return r;
		s->offset += (uint64_t) n;
		if (n > 0)
			continue;
		/* A hole at the end was never written. */
		r = (uint64_t) st.st_size < s->offset ? s->os->ftruncate(s->os, s->out, s->offset) : 0;
		return r < 0 ? r : 1;
	} while (!is_late(s, until_ms));
	return 0;
}

static int copy_file(struct data_save *s, const struct entry *e, uint64_t until_ms)
{
	int r = 0;

	if (s->in < 0) {
		r = open_file(s, e);
		if (r < 0)
			return r;
		r = s->os->clone(s->os, s->out, s->in) == 0; /* else it is copied */
	}
	if (r == 0)
		r = copy_bytes(s, until_ms);
	if (r == 1) {
		int done = set_attributes_of_file(s);

		close_file(s);
		return done < 0 ? done : 1;
	}
	return r;
}

static int copy_link(struct data_save *s, const struct entry *e)
{
	char path[ITEM_NAME_SIZE + PATH_SIZE], target[LINK_SIZE];
	const char *name = NULL;
	int dirfd = open_original(s, e, &name), r;
	ssize_t n;

	if (dirfd < 0)
		return dirfd;
	n = s->os->readlinkat(s->os, dirfd, name, target, sizeof(target) - 1);
	(void) s->os->close(s->os, dirfd); /* a folder opened for reading */
	if (n < 0)
		return (int) n;
	target[n] = '\0';
	copy_path(e, path);
	r = s->os->symlinkat(s->os, target, s->fd, path);
	if (r == 0 && s->as_root)
		r = s->os->fchownat(s->os, s->fd, path, e->uid, e->gid);
	return r < 0 ? r : 1;
}

/* 1: copied, 0: more another time. */
static int copy_entry(struct data_save *s, const struct entry *e, uint64_t until_ms)
{
	char path[ITEM_NAME_SIZE + PATH_SIZE];
	int r;

	if (e->type == 'f')
		return copy_file(s, e, until_ms);
	if (e->type == 'l')
		return copy_link(s, e);
	copy_path(e, path);
	r = s->os->mkdirat(s->os, s->fd, path, 0700);
	return r < 0 ? r : 1;
}

int data_save_step(struct data_save *s, uint64_t until_ms)
{
	while (s->next < s->scan.count) {
		int r = copy_entry(s, &s->scan.entries[s->next], until_ms);

		if (r < 0)
			return r;
		s->next += r == 1;
		if (s->next < s->scan.count && is_late(s, until_ms))
			return 0;
	}
	return 1;
}

/* Once they are filled: a folder may be one nobody can write to. */
static int finish_folders(struct data_save *s)
{
	int r = 0;

	for (size_t i = s->scan.count; r == 0 && i-- > 0;) {
		char path[ITEM_NAME_SIZE + PATH_SIZE];
		int fd;

		if (s->scan.entries[i].type != 'd')
			continue;
		copy_path(&s->scan.entries[i], path);
		fd = s->os->openat(s->os, s->fd, path, O_RDONLY | O_DIRECTORY, 0);
		if (fd < 0)
			return fd;
		r = set_attributes(s, &s->scan.entries[i], fd);
		(void) s->os->close(s->os, fd); /* a folder opened for reading */
	}
	return r;
}

int data_save_commit(struct data_save *s)
{
	int r = finish_folders(s);

	if (r == 0)
		r = s->os->syncfs(s->os, s->fd);
	if (r == 0)
		r = durable_write_file(s->os, s->fd, RECORD, s->record.data, s->record.len, 0600);
	if (r == 0)
		r = s->os->renameat(s->os, s->dirs->saved, s->partial, s->dirs->saved, s->name);
	if (r == 0)
		r = s->os->fsync(s->os, s->dirs->saved);
	s->committed = r == 0;
	return r;
}

void data_save_free(struct data_save *s)
{
	if (!s)
		return;
	close_file(s);
	if (s->fd >= 0)
		(void) s->os->close(s->os, s->fd); /* a folder opened for reading */
	if (!s->committed && s->partial[0])
		(void) !data_remove(s->os, s->dirs, s->name); /* collected if we cannot */
	scan_done(&s->scan);
	buf_done(&s->record);
	for (size_t i = 0; i < s->item_count; i++) {
		free(s->components[i]);
		free(s->paths[i]);
	}
	free(s->components);
	free(s->paths);
	free(s->chunk);
	free(s);
}

/* --- putting back ---------------------------------------------------------------------------------- */

/* One rename from folder to folder; after it the move is durable in both. */
static int move(const struct os *os, int from_fd, const char *from, int to_fd, const char *to)
{
	int r = os->renameat(os, from_fd, from, to_fd, to);

	if (r == 0)
		r = os->fsync(os, to_fd);
	return r < 0 ? r : os->fsync(os, from_fd);
}

static bool is_there(const struct os *os, int fd, const char *name, int *ret_error)
{
	struct stat st;
	int r = os->fstatat(os, fd, name, &st);

	if (r < 0 && r != -ENOENT && *ret_error == 0)
		*ret_error = r;
	return r == 0;
}

/* A name for what is displaced that is not taken: an earlier run may have displaced something too. */
static int free_name(const struct os *os, int fd, size_t i, char out[static ITEM_NAME_SIZE])
{
	int error = 0;

	item_name(out, "displaced", i);
	for (unsigned n = 2; n < DISPLACED_MAX && is_there(os, fd, out, &error); n++)
		(void) snprintf(out, ITEM_NAME_SIZE, "displaced-%zu.%u", i, n); /* always fits */
	return error < 0 ? error : is_there(os, fd, out, &error) ? -EEXIST : error;
}

/* The folder `path` of the component, made by us, to whoever owns the component's own; by its descriptor, for it is his to exchange. */
static int give_away(const struct os *os, int data_fd, const char *folder, const struct stat *own)
{
	int fd = dir_open(os, data_fd, folder), r;

	if (fd < 0)
		return fd;
	r = os->fchown(os, fd, own->st_uid, own->st_gid);
	(void) os->close(os, fd); /* a folder opened for reading */
	return r;
}

/* The folder may be gone with all else that was there; its owner is that of the component's own folder. */
static int make_parent(const struct os *os, int data_fd, const char *component, const char *path)
{
	char folder[STATE_ID_SIZE + PATH_SIZE];
	const char *slash = strrchr(path, '/');

	(void) snprintf(folder, sizeof(folder), "%s%s%.*s", component, slash ? "/" : "",
			slash ? (int) (slash - path) : 0, path);
	for (char *end = strchr(folder, '/');; end = strchr(end + 1, '/')) {
		struct stat own;
		int r;

		if (end)
			*end = '\0';
		r = os->fstatat(os, data_fd, folder, &own);
		if (r == -ENOENT) {
			r = durable_mkdir(os, data_fd, folder, 0750);
			if (r == 0 && geteuid() == 0 && os->fstatat(os, data_fd, component, &own) == 0)
				r = give_away(os, data_fd, folder, &own);
		}
		if (r < 0 || !end)
			return r;
		*end = '/';
	}
}

/*
 * What the version that goes has put in the way to an item, a link or a file where a folder was, is displaced like the
 * item itself: else a component could keep its node from getting back. 0 also where nothing stands there any more.
 */
static int clear_way(const struct os *os, const struct store_dirs *dirs, int save_fd, const struct data_item *item,
		     size_t i)
{
	char part[PATH_SIZE], displaced[ITEM_NAME_SIZE];
	int fd = dir_open(os, dirs->data, item->component), r = fd < 0 ? fd : 0;
	const char *p = item->path, *slash;

	for (; r == 0 && (slash = strchr(p, '/')); p = slash + 1) {
		struct stat st;
		int next;

		(void) snprintf(part, sizeof(part), "%.*s", (int) (slash - p), p); /* guard_path: short */
		r = os->fstatat(os, fd, part, &st);
		if (r == 0 && !S_ISDIR(st.st_mode)) {
			r = free_name(os, save_fd, i, displaced);
			if (r == 0)
				r = move(os, fd, part, save_fd, displaced);
			break;
		}
		next = r < 0 ? r : os->openat(os, fd, part, O_RDONLY | O_DIRECTORY, 0);
		if (next < 0) {
			r = next;
			break;
		}
		(void) os->close(os, fd); /* a folder opened for reading */
		fd = next;
	}
	if (fd >= 0)
		(void) os->close(os, fd); /* a folder; the move was synced */
	return r == -ENOENT ? 0 : r;
}

static int restore_item(const struct os *os, const struct store_dirs *dirs, int save_fd, const struct record *rec,
			size_t i)
{
	const struct data_item *item = &rec->set.items[i];
	char copy[ITEM_NAME_SIZE], displaced[ITEM_NAME_SIZE];
	const char *name = NULL;
	bool saved;
	int fd, r = 0;

	item_name(copy, "copy", i);
	saved = is_there(os, save_fd, copy, &r);
	if (r < 0 || (rec->present[i] && !saved))
		return r; /* it was put back by an earlier run */
	fd = open_parent(os, dirs->data, item->component, item->path, &name);
	if (fd == -ENOTDIR || fd == -ELOOP) {
		r = saved ? clear_way(os, dirs, save_fd, item, i) : 0;
		fd = r < 0 ? r : -ENOENT;
	}
	if (fd == -ENOENT && saved) {
		r = make_parent(os, dirs->data, item->component, item->path);
		fd = r < 0 ? r : open_parent(os, dirs->data, item->component, item->path, &name);
	}
	if (fd < 0)
		return fd == -ENOENT && !saved ? 0 : fd;
	if (is_there(os, fd, name, &r)) {
		r = free_name(os, save_fd, i, displaced);
		if (r == 0)
			r = move(os, fd, name, save_fd, displaced);
	}
	if (r == 0 && saved)
		r = move(os, save_fd, copy, fd, name);
	(void) os->close(os, fd); /* a folder opened for reading */
	return r;
}

int data_restore(const struct os *os, const struct store_dirs *dirs, const char *name, bool all)
{
	CLEANUP(record_freep)
	struct record *rec = NULL;
	int fd = open_save(os, dirs, name), r;

	if (fd < 0)
		return fd;
	r = read_record(os, fd, &rec);
	if (r == 0 && !rec->restored) {
		for (size_t i = 0; r == 0 && i < rec->set.item_count; i++)
			if (all || rec->set.items[i].restore)
				r = restore_item(os, dirs, fd, rec, i);
		/* A rename and no new file: the mark needs no space on a disk that is full. */
		if (r == 0)
			r = os->renameat(os, fd, RECORD, fd, RESTORED);
		if (r == 0)
			r = os->fsync(os, fd);
	}
	(void) os->close(os, fd); /* a folder opened for reading */
	return r == -ENOENT ? -ERR_TREE : r;
}

/* --- looking and collecting ------------------------------------------------------------------------ */

static int read_named(const struct os *os, const struct store_dirs *dirs, const char *name, struct record **ret)
{
	int fd = open_save(os, dirs, name), r;

	if (fd < 0)
		return fd;
	r = read_record(os, fd, ret);
	(void) os->close(os, fd); /* a folder opened for reading */
	return r;
}

static bool is_from_before(const struct record *rec, const char *component, const char *version)
{
	for (size_t i = 0; i < rec->set.move_count; i++)
		if (str_eq(rec->set.moves[i].component, component) && str_eq(rec->set.moves[i].from, version))
			return true;
	return false;
}

int data_find(const struct os *os, const struct store_dirs *dirs, const char *component, const char *version,
	      char ret[static DATA_NAME_SIZE])
{
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	int64_t newest = -1;
	int r = dirs->saved < 0 ? -ENOENT : dir_list(os, dirs->saved, ".", &names);

	if (r < 0)
		return r;
	for (size_t i = 0; i < names.count; i++) {
		CLEANUP(record_freep)
		struct record *rec = NULL;

		if (!name_is_fine(names.names[i]) || read_named(os, dirs, names.names[i], &rec) < 0 ||
		    rec->restored || rec->set.at < newest || !is_from_before(rec, component, version))
			continue;
		newest = rec->set.at;
		(void) snprintf(ret, DATA_NAME_SIZE, "%s", names.names[i]); /* name_is_fine: fits */
	}
	return newest < 0 ? -ENOENT : 0;
}

int data_items_of(const struct os *os, const struct store_dirs *dirs, const char *name, struct data_set *ret,
		  char **ret_text)
{
	CLEANUP(record_freep)
	struct record *rec = NULL;
	int r = read_named(os, dirs, name, &rec);

	if (r < 0)
		return r;
	if (ret->item_count + rec->set.item_count > DATA_ITEMS_MAX)
		return -ERR_TOO_LARGE;
	for (size_t i = 0; i < rec->set.item_count; i++)
		ret->items[ret->item_count++] = rec->set.items[i];
	*ret_text = rec->text;
	rec->text = NULL;
	return 0;
}

int data_remove(const struct os *os, const struct store_dirs *dirs, const char *name)
{
	char partial[NAME_SIZE];
	int r;

	if (!name_is_fine(name))
		return -ERR_NAME;
	(void) snprintf(partial, sizeof(partial), "%s" PARTIAL, name);
	r = tree_remove(os, dirs->saved, partial);
	if (r < 0)
		return r;
	/* First out of sight: half a copy must not look like a whole one. */
	r = os->renameat(os, dirs->saved, name, dirs->saved, partial);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = os->fsync(os, dirs->saved);
	return r < 0 ? r : tree_remove(os, dirs->saved, partial);
}

/* When the time of keeping began, by the clock of whoever collects: recover has none to trust. */
static int since(const struct os *os, const struct store_dirs *dirs, const char *name, int64_t now, int64_t *ret)
{
	CLEANUP(record_freep)
	struct record *rec = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64);
	uint64_t noted = 0;
	int fd = open_save(os, dirs, name), r;

	if (fd < 0)
		return fd;
	r = read_record(os, fd, &rec);
	if (r == 0)
		*ret = rec->set.at;
	if (r == 0 && rec->restored) {
		r = file_read(os, fd, SINCE, 64, &text);
		if (r == 0 && parse_u64(buf_str(&text), &noted) == 0 && noted <= INT64_MAX) {
			*ret = (int64_t) noted;
		} else {
			buf_clear(&text);
			r = buf_addf(&text, "%" PRId64, now);
			if (r == 0)
				r = durable_write_file(os, fd, SINCE, text.data, text.len, 0600);
			*ret = now;
		}
	}
	(void) os->close(os, fd); /* the note was synced on its own */
	return r;
}

static bool is_partial(const char *name)
{
	size_t n = strlen(name), m = strlen(PARTIAL);

	return n > m && strcmp(name + n - m, PARTIAL) == 0;
}

static bool is_in(const char *name, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq(name, list[i]))
			return true;
	return false;
}

int data_collect(const struct os *os, const struct store_dirs *dirs, int64_t now, const char *const *claimed,
		 size_t claimed_count, size_t *ret_removed)
{
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	size_t removed = 0;
	int r = dir_list(os, dirs->saved, ".", &names);

	for (size_t i = 0; r == 0 && i < names.count; i++) {
		const char *name = names.names[i];
		int64_t at = 0;

		if (is_in(name, claimed, claimed_count))
			continue;
		if (is_partial(name) || name[0] == '.') {
			r = tree_remove(os, dirs->saved, name);
			removed += r == 0;
			continue;
		}
		if (!name_is_fine(name))
			continue; /* not ours */
		/* What cannot be read is kept: somebody may still want it, and it says so by being there. */
		if (since(os, dirs, name, now, &at) < 0 || now < at || now - at < DATA_KEPT_S)
			continue;
		r = data_remove(os, dirs, name);
		removed += r == 0;
	}
	if (ret_removed)
		*ret_removed = removed;
	return r;
}

/* Does every component of `rec` have a newer copy among `all`? */
static bool has_newer(const struct record *rec, struct record *const *all, size_t count)
{
	for (size_t m = 0; m < rec->set.move_count; m++) {
		bool newer = false;

		for (size_t i = 0; !newer && i < count; i++)
			for (size_t k = 0; all[i] && all[i] != rec && k < all[i]->set.move_count; k++)
				newer = newer ||
					(all[i]->set.at > rec->set.at &&
					 str_eq(all[i]->set.moves[k].component, rec->set.moves[m].component));
		if (!newer)
			return false;
	}
	return true;
}

int data_give_up(const struct os *os, const struct store_dirs *dirs, const char *const *claimed,
		 size_t claimed_count, char ret[static DATA_NAME_SIZE])
{
	CLEANUP(name_list_done)
	struct name_list names = { NULL, 0 };
	struct record **all;
	size_t oldest = SIZE_MAX;
	int r = dirs->saved < 0 ? 0 : dir_list(os, dirs->saved, ".", &names);

	if (r < 0 || names.count == 0)
		return r;
	all = calloc(names.count, sizeof(struct record *));
	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < names.count; i++) {
		if (!name_is_fine(names.names[i]) || read_named(os, dirs, names.names[i], &all[i]) < 0 ||
		    !all[i]->restored)
			continue; /* what cannot be read is nobody's to give up */
		record_free(all[i]);
		all[i] = NULL;
	}
	for (size_t i = 0; i < names.count; i++)
		if (all[i] && !is_in(names.names[i], claimed, claimed_count) &&
		    has_newer(all[i], all, names.count) &&
		    (oldest == SIZE_MAX || all[i]->set.at < all[oldest]->set.at))
			oldest = i;
	if (oldest < SIZE_MAX) {
		(void) snprintf(ret, DATA_NAME_SIZE, "%s", names.names[oldest]); /* name_is_fine: fits */
		r = data_remove(os, dirs, names.names[oldest]);
	}
	for (size_t i = 0; i < names.count; i++)
		record_free(all[i]);
	free(all);
	return r < 0 ? r : oldest < SIZE_MAX;
}
