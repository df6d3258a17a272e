#include "conf/conf.h"

#include "base/err.h"
#include "base/text.h"

#include <yaml.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	TEXT_MAX = 1024 * 1024,
	DEPTH_MAX = 16,
	VALUES_MAX = 100000,
	ASKED_MAX = 64, /* keys remembered per map for suggestions */
	QUOTE_MAX = 80, /* of a value in a complaint */
};

static const uint64_t seconds_max = 36525ull * 24 * 3600; /* a hundred years */

/* The keys somebody asked a map for: the known ones. Best effort beyond `seen`, which decides. */
struct asked {
	char *names[ASKED_MAX];
	size_t count;
	bool seen[]; /* by member: asked for */
};

struct conf {
	enum conf_kind kind;
	unsigned line; /* of its key, if it is a member */
	bool quoted;
	char *key; /* of a member */
	char *text; /* of a scalar */
	const struct conf_file *file;
	struct conf *items;
	uint32_t *order; /* of a map: indexes sorted by key */
	size_t count;
	struct asked *asked; /* of a map: what conf_get() notes down */
};

struct conf_file {
	char *name;
	struct conf root;
};

struct reader {
	yaml_parser_t parser;
	yaml_event_t event;
	bool has_event;
	const char *text;
	size_t len;
	struct conf_file *file;
	struct conf_error *error;
	size_t values;
};

static int vfail(const char *file, unsigned line, struct conf_error *e, const char *fmt, va_list ap)
	PRINTF_LIKE(4, 0);
static int vfail(const char *file, unsigned line, struct conf_error *e, const char *fmt, va_list ap)
{
	int n = 0;

	if (file)
		n = line > 0 ? snprintf(e->text, sizeof(e->text), "%s:%u: ", file, line)
			     : snprintf(e->text, sizeof(e->text), "%s: ", file);
	if (n < 0 || (size_t) n >= sizeof(e->text)) /* a name that fills it all: the sentence matters more */
		n = 0;
	(void) vsnprintf(e->text + n, sizeof(e->text) - (size_t) n, fmt, ap); /* a longer one is cut */
	return -ERR_CONFIG;
}

int conf_fail(const struct conf *where, struct conf_error *e, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vfail(where ? where->file->name : NULL, where ? where->line : 0, e, fmt, ap);
	va_end(ap);
	return r;
}

static int fail_at(const char *file, unsigned line, struct conf_error *e, const char *fmt, ...) PRINTF_LIKE(4, 5);
static int fail_at(const char *file, unsigned line, struct conf_error *e, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vfail(file, line, e, fmt, ap);
	va_end(ap);
	return r;
}

static int out_of_memory(const char *file, struct conf_error *e)
{
	(void) fail_at(file, 0, e, "out of memory"); /* -ENOMEM says more than its answer */
	return -ENOMEM;
}

/* Text from outside for a complaint: quoted, without control bytes, cut when long. */
static const char *quote(char out[static QUOTE_MAX], const char *text)
{
	size_t n = 0;

	out[n++] = '\'';
	for (; *text && n < QUOTE_MAX - 5; text++)
		out[n++] = (unsigned char) *text < 0x20 || *text == 0x7f ? '?' : *text;
	if (*text) {
		while (n > 1 && ((unsigned char) out[n - 1] & 0xc0) == 0x80) /* not within a character */
			n--;
		if (n > 1 && (unsigned char) out[n - 1] >= 0xc0)
			n--;
		memcpy(out + n, "...", 3);
		n += 3;
	}
	out[n++] = '\'';
	out[n] = '\0';
	return out;
}

static unsigned line_of(yaml_mark_t mark)
{
	return (unsigned) mark.line + 1;
}

static unsigned line_of_offset(const struct reader *r, size_t offset)
{
	unsigned line = 1;

	for (size_t i = 0; i < offset && i < r->len; i++)
		line += r->text[i] == '\n';
	return line;
}

static int parser_failed(struct reader *r)
{
	const char *problem = r->parser.problem ? r->parser.problem : "malformed";

	switch (r->parser.error) {
	case YAML_MEMORY_ERROR:
		return out_of_memory(r->file->name, r->error);
	case YAML_READER_ERROR: /* bytes that are no text: it knows no line yet */
		return fail_at(r->file->name, line_of_offset(r, r->parser.problem_offset), r->error,
			       "not a text file in UTF-8: %s", problem);
	default:
		return fail_at(r->file->name, line_of(r->parser.problem_mark), r->error, "not valid YAML: %s%s%s",
			       problem, r->parser.context ? " " : "", r->parser.context ? r->parser.context : "");
	}
}

static int next_event(struct reader *r)
{
	if (r->has_event)
		yaml_event_delete(&r->event);
	r->has_event = yaml_parser_parse(&r->parser, &r->event) == 1;
	return r->has_event ? 0 : parser_failed(r);
}

static int fail_here(struct reader *r, const char *sentence)
{
	return fail_at(r->file->name, line_of(r->event.start_mark), r->error, "%s", sentence);
}

static bool has_anchor_or_tag(const yaml_event_t *e)
{
	switch (e->type) {
	case YAML_SCALAR_EVENT:
		return e->data.scalar.anchor || e->data.scalar.tag;
	case YAML_SEQUENCE_START_EVENT:
		return e->data.sequence_start.anchor || e->data.sequence_start.tag;
	case YAML_MAPPING_START_EVENT:
		return e->data.mapping_start.anchor || e->data.mapping_start.tag;
	default:
		return false;
	}
}

/* The scalar of the current event, as a C string of its own. */
static int take_scalar(struct reader *r, char **ret)
{
	const char *value = (const char *) r->event.data.scalar.value;
	size_t len = r->event.data.scalar.length;
	char *text;

	if (memchr(value, '\0', len))
		return fail_here(r, "a NUL byte in a text");
	text = malloc(len + 1);
	if (!text)
		return out_of_memory(r->file->name, r->error);
	memcpy(text, value, len + 1);
	*ret = text;
	return 0;
}

static int add_item(struct reader *r, struct conf *container, size_t *capacity, struct conf **ret)
{
	if (container->count == *capacity) {
		size_t more = *capacity ? *capacity * 2 : 4;
		struct conf *items = realloc(container->items, more * sizeof(*items));

		if (!items)
			return out_of_memory(r->file->name, r->error);
		container->items = items;
		*capacity = more;
	}
	*ret = &container->items[container->count++];
	**ret = (struct conf){ .kind = CONF_SCALAR, .file = r->file };
	return 0;
}

static int compare_keys(const void *a, const void *b, void *items)
{
	const struct conf *list = items;
	uint32_t i = *(const uint32_t *) a, k = *(const uint32_t *) b;
	int c = strcmp(list[i].key, list[k].key);

	return c != 0 ? c : (i > k) - (i < k);
}

static int index_map(struct reader *r, struct conf *map)
{
	const struct conf *first = NULL, *second = NULL;
	char quoted[QUOTE_MAX];

	map->asked = calloc(1, sizeof(*map->asked) + map->count * sizeof(bool));
	map->order = malloc((map->count + 1) * sizeof(uint32_t));
	if (!map->asked || !map->order)
		return out_of_memory(r->file->name, r->error);
	for (uint32_t i = 0; i < map->count; i++)
		map->order[i] = i;
	if (map->count > 1)
		qsort_r(map->order, map->count, sizeof(*map->order), compare_keys, map->items);
	for (size_t i = 1; i < map->count; i++) {
		const struct conf *a = &map->items[map->order[i - 1]], *b = &map->items[map->order[i]];

		if (str_eq(a->key, b->key) && (!second || b < second)) {
			first = a;
			second = b;
		}
	}
	if (second)
		return conf_fail(second, r->error, "%s stands twice, first in line %u", quote(quoted, second->key),
				 first->line);
	return 0;
}

static int read_value(struct reader *r, struct conf *c, unsigned depth);

static int read_list(struct reader *r, struct conf *list, unsigned depth)
{
	size_t capacity = 0;
	struct conf *item = NULL;
	int e;

	list->kind = CONF_LIST;
	for (;;) {
		e = next_event(r);
		if (e < 0)
			return e;
		if (r->event.type == YAML_SEQUENCE_END_EVENT)
			return 0;
		e = add_item(r, list, &capacity, &item);
		if (e < 0)
			return e;
		item->line = line_of(r->event.start_mark);
		e = read_value(r, item, depth);
		if (e < 0)
			return e;
	}
}

static int read_map(struct reader *r, struct conf *map, unsigned depth)
{
	size_t capacity = 0;
	struct conf *item = NULL;
	int e;

	map->kind = CONF_MAP;
	for (;;) {
		e = next_event(r);
		if (e < 0)
			return e;
		if (r->event.type == YAML_MAPPING_END_EVENT)
			return index_map(r, map);
		if (has_anchor_or_tag(&r->event) || r->event.type == YAML_ALIAS_EVENT)
			return fail_here(r, "anchors, aliases and tags are not taken here");
		if (r->event.type != YAML_SCALAR_EVENT)
			return fail_here(r, "a key must be a plain word");
		if (r->event.data.scalar.length == 0)
			return fail_here(r, "a key is empty");
		e = add_item(r, map, &capacity, &item);
		if (e < 0)
			return e;
		item->line = line_of(r->event.start_mark);
		e = take_scalar(r, &item->key);
		if (e < 0)
			return e;
		e = next_event(r);
		if (e < 0)
			return e;
		e = read_value(r, item, depth);
		if (e < 0)
			return e;
	}
}

/* The current event begins the value; `depth` containers are around it. */
static int read_value(struct reader *r, struct conf *c, unsigned depth)
{
	if (++r->values > VALUES_MAX)
		return fail_here(r, "more than 100,000 values in one file");
	if (has_anchor_or_tag(&r->event) || r->event.type == YAML_ALIAS_EVENT)
		return fail_here(r, "anchors, aliases and tags are not taken here");
	if (r->event.type == YAML_SCALAR_EVENT) {
		c->quoted = r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
		return take_scalar(r, &c->text);
	}
	if (depth == DEPTH_MAX)
		return fail_here(r, "nested deeper than 16 levels");
	return r->event.type == YAML_MAPPING_START_EVENT ? read_map(r, c, depth + 1) : read_list(r, c, depth + 1);
}

/* The events around the one document. */
static int read_document(struct reader *r)
{
	struct conf *root = &r->file->root;
	int e;

	e = next_event(r); /* stream start */
	if (e < 0)
		return e;
	e = next_event(r);
	if (e < 0)
		return e;
	if (r->event.type == YAML_STREAM_END_EVENT) /* nothing but comments */
		return index_map(r, root);
	if (r->event.data.document_start.tag_directives.start != r->event.data.document_start.tag_directives.end)
		return fail_here(r, "anchors, aliases and tags are not taken here");
	e = next_event(r);
	if (e < 0)
		return e;
	if (r->event.type == YAML_SCALAR_EVENT && r->event.data.scalar.length == 0 &&
	    r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !has_anchor_or_tag(&r->event)) {
		e = index_map(r, root);
	} else if (r->event.type != YAML_MAPPING_START_EVENT) {
		return fail_here(r, "expected keys with values («key: value») at the top");
	} else {
		e = read_value(r, root, 0);
	}
	if (e < 0)
		return e;
	e = next_event(r); /* document end */
	if (e < 0)
		return e;
	e = next_event(r);
	if (e < 0)
		return e;
	return r->event.type == YAML_STREAM_END_EVENT ? 0 : fail_here(r, "a second document («---») in one file");
}

static void free_values(struct conf *c)
{
	for (size_t i = 0; i < c->count; i++)
		free_values(&c->items[i]);
	for (size_t i = 0; c->asked && i < c->asked->count; i++)
		free(c->asked->names[i]);
	free(c->asked);
	free(c->order);
	free(c->items);
	free(c->key);
	free(c->text);
}

int conf_parse(const void *text, size_t len, const char *file, struct conf_file **ret,
	       struct conf_error *ret_error)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	struct reader r = { .text = text, .len = len, .error = ret_error };
	int e;

	if (len > TEXT_MAX)
		return fail_at(file, 0, ret_error, "larger than 1 MiB");
	f = calloc(1, sizeof(*f));
	if (!f)
		return out_of_memory(file, ret_error);
	f->name = strdup(file);
	if (!f->name)
		return out_of_memory(file, ret_error);
	f->root = (struct conf){ .kind = CONF_MAP, .line = 1, .file = f };
	r.file = f;
	if (yaml_parser_initialize(&r.parser) != 1)
		return out_of_memory(file, ret_error);
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING); /* else it would guess UTF-16 */
	yaml_parser_set_input_string(&r.parser, text, len);
	e = read_document(&r);
	if (r.has_event)
		yaml_event_delete(&r.event);
	yaml_parser_delete(&r.parser);
	if (e < 0)
		return e;
	*ret = f;
	f = NULL;
	return 0;
}

static int read_file(int fd, struct buf *out)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	for (;;) {
		ssize_t n;
		int r = buf_reserve(out, 4096);

		if (r < 0)
			return r;
		n = read(fd, out->data + out->len, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		out->len += (size_t) n;
	}
}

int conf_load(const char *path, struct conf_file **ret, struct conf_error *ret_error)
{
	/* One read more than may be: conf_parse() then says that it is too large. */
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(TEXT_MAX + 2 * 4096);
	int fd, r;

	/* Links are followed, they are the administrator's; O_NONBLOCK lest a FIFO there hang us. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		r = -errno;
	} else {
		r = read_file(fd, &text);
		(void) close(fd); /* only read from */
	}
	if (r < 0 && r != -ERR_TOO_LARGE) {
		(void) fail_at(path, 0, ret_error, "cannot be read: %s", err_text(r)); /* `r` says more */
		return r;
	}
	return conf_parse(text.data ? text.data : (const uint8_t *) "", r < 0 ? TEXT_MAX + 1 : text.len, path, ret,
			  ret_error);
}

void conf_file_free(struct conf_file *f)
{
	if (!f)
		return;
	free_values(&f->root);
	free(f->name);
	free(f);
}

const struct conf *conf_root(const struct conf_file *f)
{
	return f ? &f->root : NULL;
}

enum conf_kind conf_kind(const struct conf *c)
{
	return c ? c->kind : CONF_MISSING;
}

static const struct conf *find(const struct conf *map, const char *key)
{
	size_t low = 0, high = map->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct conf *item = &map->items[map->order[middle]];
		int c = strcmp(key, item->key);

		if (c == 0)
			return item;
		if (c < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

static void remember_name(struct asked *a, const char *key)
{
	for (size_t i = 0; i < a->count; i++)
		if (str_eq(a->names[i], key))
			return;
	if (a->count == ASKED_MAX)
		return;
	a->names[a->count] = strdup(key);
	if (a->names[a->count]) /* without it, only a suggestion is lost */
		a->count++;
}

const struct conf *conf_get(const struct conf *map, const char *key)
{
	const struct conf *item;

	if (conf_kind(map) != CONF_MAP)
		return NULL;
	item = find(map, key);
	if (item)
		map->asked->seen[item - map->items] = true;
	else
		remember_name(map->asked, key);
	return item;
}

size_t conf_count(const struct conf *c)
{
	return c ? c->count : 0;
}

const struct conf *conf_at(const struct conf *c, size_t i)
{
	return i < conf_count(c) ? &c->items[i] : NULL;
}

const char *conf_key_at(const struct conf *map, size_t i)
{
	return i < conf_count(map) ? map->items[i].key : NULL;
}

const char *conf_text(const struct conf *c)
{
	return c ? c->text : NULL;
}

bool conf_is_quoted(const struct conf *c)
{
	return c && c->quoted;
}

unsigned conf_line(const struct conf *c)
{
	return c ? c->line : 0;
}

/* "'key' expects <what>, found ..." */
static int wrong(const struct conf *c, struct conf_error *e, const char *what)
{
	char key[QUOTE_MAX], found[QUOTE_MAX];
	const char *kinds[] = { [CONF_MISSING] = "nothing", [CONF_LIST] = "a list", [CONF_MAP] = "a map" };

	if (c->kind != CONF_SCALAR)
		return conf_fail(c, e, "%s expects %s, found %s", quote(key, c->key), what, kinds[c->kind]);
	if (c->text[0] == '\0')
		return conf_fail(c, e, "%s expects %s, found nothing", quote(key, c->key), what);
	return conf_fail(c, e, "%s expects %s, found %s", quote(key, c->key), what, quote(found, c->text));
}

int conf_optional_text(const struct conf *map, const char *key, const char *otherwise, const char **ret,
		       struct conf_error *e)
{
	const struct conf *c = conf_get(map, key);

	if (!c) {
		*ret = otherwise;
		return 0;
	}
	if (c->kind != CONF_SCALAR || (c->text[0] == '\0' && !c->quoted)) /* "key:" is a value forgotten */
		return wrong(c, e, "a text");
	*ret = c->text;
	return 0;
}

int conf_need_text(const struct conf *map, const char *key, const char **ret, struct conf_error *e)
{
	if (!conf_get(map, key))
		return conf_fail(map, e, "'%s' is missing", key);
	return conf_optional_text(map, key, NULL, ret, e);
}

int conf_optional_u64(const struct conf *map, const char *key, uint64_t min, uint64_t max, uint64_t otherwise,
		      uint64_t *ret, struct conf_error *e)
{
	const struct conf *c = conf_get(map, key);
	char what[80];
	uint64_t v;

	if (!c) {
		*ret = otherwise;
		return 0;
	}
	if (c->kind != CONF_SCALAR || parse_u64(c->text, &v) < 0 || v < min || v > max) {
		(void) snprintf(what, sizeof(what), "a number from %llu to %llu", (unsigned long long) min,
				(unsigned long long) max);
		return wrong(c, e, what);
	}
	*ret = v;
	return 0;
}

int conf_optional_bool(const struct conf *map, const char *key, bool otherwise, bool *ret, struct conf_error *e)
{
	const struct conf *c = conf_get(map, key);

	if (!c)
		*ret = otherwise;
	else if (str_eq(c->text, "true") || str_eq(c->text, "yes"))
		*ret = true;
	else if (str_eq(c->text, "false") || str_eq(c->text, "no"))
		*ret = false;
	else
		return wrong(c, e, "true or false");
	return 0;
}

struct unit {
	char letter;
	uint64_t factor;
};

/* A number with at most one of the letters behind it; false beyond `max`. */
static bool parse_with_unit(const char *text, const struct unit *units, size_t unit_count, uint64_t max,
			    uint64_t *ret)
{
	char digits[24];
	size_t len = text ? strlen(text) : 0;
	uint64_t factor = 1, v;

	if (len == 0 || len >= sizeof(digits))
		return false;
	memcpy(digits, text, len + 1);
	for (size_t i = 0; i < unit_count; i++) {
		if (digits[len - 1] == units[i].letter) {
			factor = units[i].factor;
			digits[len - 1] = '\0';
			break;
		}
	}
	if (parse_u64(digits, &v) < 0 || v > max / factor)
		return false;
	*ret = v * factor;
	return true;
}

int conf_optional_seconds(const struct conf *map, const char *key, uint64_t otherwise, uint64_t *ret,
			  struct conf_error *e)
{
	static const struct unit units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 24 * 3600 } };
	const struct conf *c = conf_get(map, key);

	if (!c) {
		*ret = otherwise;
		return 0;
	}
	if (!parse_with_unit(c->text, units, ARRAY_LEN(units), seconds_max, ret))
		return wrong(c, e, "a time such as 90s, 15m, 24h or 7d");
	return 0;
}

int conf_optional_bytes(const struct conf *map, const char *key, uint64_t otherwise, uint64_t *ret,
			struct conf_error *e)
{
	static const struct unit units[] = { { 'K', 1ull << 10 }, { 'M', 1ull << 20 }, { 'G', 1ull << 30 } };
	const struct conf *c = conf_get(map, key);

	if (!c) {
		*ret = otherwise;
		return 0;
	}
	if (!parse_with_unit(c->text, units, ARRAY_LEN(units), INT64_MAX, ret))
		return wrong(c, e, "a size such as 500K, 20M or 1G");
	return 0;
}

const struct conf *conf_nearest(const struct conf *root, const char *path)
{
	const struct conf *at = root;

	while (*path) {
		const struct conf *next = NULL;
		size_t len = strcspn(path, ".[: "), index;
		char *end;

		if (*path == '[') {
			index = strtoul(path + 1, &end, 10);
			next = *end == ']' && conf_kind(at) == CONF_LIST ? conf_at(at, index) : NULL;
			path = *end == ']' ? end + 1 : end;
		} else {
			for (size_t i = 0; conf_kind(at) == CONF_MAP && i < at->count; i++)
				if (strlen(at->items[i].key) == len && strncmp(at->items[i].key, path, len) == 0)
					next = &at->items[i];
			path += len;
		}
		if (!next)
			break;
		at = next;
		if (*path == '.')
			path++;
		else if (*path != '[')
			break;
	}
	return at;
}

int conf_reject_unknown(const struct conf *map, struct conf_error *e)
{
	char quoted[QUOTE_MAX];

	if (conf_kind(map) != CONF_MAP)
		return 0;
	for (size_t i = 0; i < map->count; i++) {
		const struct conf *item = &map->items[i];
		const char *meant;

		if (map->asked->seen[i])
			continue;
		meant = text_nearest(item->key, (const char *const *) map->asked->names, map->asked->count);
		if (meant)
			return conf_fail(item, e, "unknown key %s, did you mean '%s'?", quote(quoted, item->key),
					 meant);
		return conf_fail(item, e, "unknown key %s", quote(quoted, item->key));
	}
	return 0;
}
