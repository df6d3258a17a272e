#include "json/json.h"

#include "base/err.h"
#include "json/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_CAP = 32 }; /* the reader recurses, so no caller's limit goes beyond it */

static const int64_t integer_max = ((int64_t) 1 << 53) - 1;

const struct json_limits json_limits_default = {
	.max_bytes = 8 * 1024 * 1024,
	.max_depth = DEPTH_CAP,
	.max_values = 1000000,
};

/*
 * A value. Elements and members lie in one array in the order of the text; behind
 * the members of an object follows a table of their indexes sorted bytewise by
 * name, for look-ups, for finding doubles and for the canonical form.
 */
struct json {
	const char *name; /* of a member; in the document's strings */
	union {
		int64_t integer;
		const char *string; /* in the document's strings */
		struct json *items;
	} u;
	uint32_t count;
	uint8_t type;
	bool boolean;
};

/*
 * What json_parse() and json_copy() hand out is the root of one of these. A string
 * with its NUL is never longer than it was in the text with its quotes, so one
 * block of the text's length holds all of them.
 */
struct document {
	struct json root; /* first: json_free() gets its address */
	char strings[];
};

struct reader {
	const char *at, *end;
	char *strings; /* where the next one goes */
	size_t values_left;
	unsigned depth_left;
	bool foreign; /* numbers that we do not write are taken, as their text */
};

static uint32_t *order_of(const struct json *object)
{
	return (uint32_t *) (void *) (object->u.items + object->count);
}

static void free_items(struct json *items, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (items[i].type == JSON_ARRAY || items[i].type == JSON_OBJECT)
			free_items(items[i].u.items, items[i].count);
	free(items);
}

static void skip_space(struct reader *r)
{
	while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
		r->at++;
}

/* Step over white space and the byte `c`, if it is the next one. */
static bool take(struct reader *r, char c)
{
	skip_space(r);
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

static int read_hex4(struct reader *r, unsigned *ret)
{
	unsigned v = 0;

	if (r->end - r->at < 4)
		return -ERR_SYNTAX;
	for (int i = 0; i < 4; i++) {
		char c = *r->at++;

		if (c >= '0' && c <= '9')
			v = v << 4 | (unsigned) (c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (unsigned) (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			v = v << 4 | (unsigned) (c - 'A' + 10);
		else
			return -ERR_SYNTAX;
	}
	*ret = v;
	return 0;
}

static void put_utf8(struct reader *r, unsigned c)
{
	if (c < 0x80) {
		*r->strings++ = (char) c;
		return;
	}
	if (c < 0x800) {
		*r->strings++ = (char) (0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			*r->strings++ = (char) (0xe0 | c >> 12);
		} else {
			*r->strings++ = (char) (0xf0 | c >> 18);
			*r->strings++ = (char) (0x80 | (c >> 12 & 0x3f));
		}
		*r->strings++ = (char) (0x80 | (c >> 6 & 0x3f));
	}
	*r->strings++ = (char) (0x80 | (c & 0x3f));
}

/* What follows "\u". */
static int read_unicode_escape(struct reader *r)
{
	unsigned c, low;
	int e = read_hex4(r, &c);

	if (e < 0)
		return e;
	if (c == 0)
		return -ERR_ENCODING; /* a C string would end here: «ab\u0000cd» must not become «ab» */
	if (c >= 0xdc00 && c <= 0xdfff)
		return -ERR_ENCODING;
	if (c >= 0xd800 && c <= 0xdbff) {
		if (r->end - r->at < 2 || r->at[0] != '\\' || r->at[1] != 'u')
			return -ERR_ENCODING;
		r->at += 2;
		e = read_hex4(r, &low);
		if (e < 0)
			return e;
		if (low < 0xdc00 || low > 0xdfff)
			return -ERR_ENCODING;
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	put_utf8(r, c);
	return 0;
}

static int read_escape(struct reader *r)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found;

	if (r->at == r->end)
		return -ERR_SYNTAX;
	if (*r->at == 'u') {
		r->at++;
		return read_unicode_escape(r);
	}
	found = *r->at ? strchr(from, *r->at) : NULL;
	if (!found)
		return -ERR_SYNTAX;
	r->at++;
	*r->strings++ = to[found - from];
	return 0;
}

/* How many bytes from here on stand for themselves. */
static size_t plain_run(const struct reader *r)
{
	const char *p = r->at;

	while (p < r->end && (unsigned char) *p >= 0x20 && (unsigned char) *p < 0x80 && *p != '"' && *p != '\\')
		p++;
	return (size_t) (p - r->at);
}

/* The opening quote is the next byte. */
static int read_string(struct reader *r, const char **ret)
{
	const char *start = r->strings;
	int e;

	r->at++;
	while (r->at < r->end) {
		size_t n = plain_run(r);
		unsigned char c;

		/* Most strings are one run: a controller reads ten thousand reports to answer one question. */
		memcpy(r->strings, r->at, n);
		r->strings += n;
		r->at += n;
		if (r->at == r->end)
			break;
		c = (unsigned char) *r->at;
		if (c == '"') {
			r->at++;
			*r->strings++ = '\0';
			*ret = start;
			return 0;
		}
		if (c == '\\') {
			r->at++;
			e = read_escape(r);
			if (e < 0)
				return e;
			continue;
		}
		if (c < 0x20)
			return -ERR_ENCODING;
		n = utf8_length(r->at, (size_t) (r->end - r->at));
		if (n == 0)
			return -ERR_ENCODING;
		memcpy(r->strings, r->at, n);
		r->strings += n;
		r->at += n;
	}
	return -ERR_SYNTAX;
}

/* A digit or '-' is the next byte. Whatever looks like a number but is no integer within 2^53 is -ERR_NUMBER. */
static int read_integer(struct reader *r, int64_t *ret)
{
	bool negative = *r->at == '-';
	const char *digits;
	int64_t v = 0;

	if (negative)
		r->at++;
	digits = r->at;
	while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
		v = v * 10 + (*r->at++ - '0');
		if (v > integer_max)
			return -ERR_NUMBER;
	}
	if (r->at == digits)
		return -ERR_NUMBER;
	if (*digits == '0' && (r->at - digits > 1 || negative)) /* "01", "-0" */
		return -ERR_NUMBER;
	if (r->at < r->end && (*r->at == '.' || *r->at == 'e' || *r->at == 'E'))
		return -ERR_NUMBER;
	*ret = negative ? -v : v;
	return 0;
}

static const char *skip_digits(const struct reader *r, const char *p)
{
	while (p < r->end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

/*
 * Any number of RFC 8259: an integer if it is one that we have, else a string with its text. A number is followed by
 * a byte that is no string's, or ends the document, so there is room for the NUL.
 */
static int read_foreign_number(struct reader *r, struct json *j)
{
	struct reader plain = *r;
	const char *start = r->at, *p = start + (*start == '-'), *digits = p;

	if (read_integer(&plain, &j->u.integer) == 0) {
		r->at = plain.at;
		j->type = JSON_INTEGER;
		return 0;
	}
	p = skip_digits(r, p);
	if (p == digits || (*digits == '0' && p - digits > 1))
		return -ERR_NUMBER;
	if (p < r->end && *p == '.') {
		digits = p + 1;
		p = skip_digits(r, digits);
		if (p == digits)
			return -ERR_NUMBER;
	}
	if (p < r->end && (*p == 'e' || *p == 'E')) {
		digits = p + 1;
		digits += digits < r->end && (*digits == '+' || *digits == '-');
		p = skip_digits(r, digits);
		if (p == digits)
			return -ERR_NUMBER;
	}
	memcpy(r->strings, start, (size_t) (p - start));
	j->type = JSON_STRING;
	j->u.string = r->strings;
	r->strings += p - start;
	*r->strings++ = '\0';
	r->at = p;
	return 0;
}

static int read_literal(struct reader *r, struct json *j)
{
	static const struct {
		const char *word;
		enum json_type type;
		bool boolean;
	} literals[] = { { "true", JSON_BOOL, true },
			 { "false", JSON_BOOL, false },
			 { "null", JSON_NULL, false } };

	for (size_t i = 0; i < ARRAY_LEN(literals); i++) {
		size_t len = strlen(literals[i].word);

		if ((size_t) (r->end - r->at) < len || memcmp(r->at, literals[i].word, len) != 0)
			continue;
		r->at += len;
		j->type = (uint8_t) literals[i].type;
		j->boolean = literals[i].boolean;
		return 0;
	}
	return -ERR_SYNTAX;
}

static int compare_names(const void *a, const void *b, void *items)
{
	const struct json *list = items;

	return strcmp(list[*(const uint32_t *) a].name, list[*(const uint32_t *) b].name);
}

/* Fill the table behind the members; a name that stands twice is an error. */
static int sort_members(struct json *object)
{
	uint32_t *order = order_of(object);
	struct json *items = object->u.items;
	bool sorted = true;

	for (uint32_t i = 0; i < object->count; i++) {
		order[i] = i;
		if (i > 0 && strcmp(items[i - 1].name, items[i].name) >= 0)
			sorted = false;
	}
	if (sorted) /* our own documents are, and then no name is doubled */
		return 0;
	qsort_r(order, object->count, sizeof(*order), compare_names, items);
	for (uint32_t i = 1; i < object->count; i++)
		if (strcmp(items[order[i - 1]].name, items[order[i]].name) == 0)
			return -ERR_DUPLICATE_NAME;
	return 0;
}

/* Cut the items of a container to size, with room for an object's table. */
static int fit_items(struct json *j)
{
	size_t size = j->count * (sizeof(struct json) + (j->type == JSON_OBJECT ? sizeof(uint32_t) : 0));
	struct json *items;

	if (j->count == 0) {
		free(j->u.items);
		j->u.items = NULL;
		return 0;
	}
	items = realloc(j->u.items, size);
	if (!items)
		return -ENOMEM;
	j->u.items = items;
	return 0;
}

static int read_value(struct reader *r, struct json *j);

static int read_item(struct reader *r, struct json *container, size_t *capacity)
{
	struct json item = { .type = JSON_NULL };
	int e;

	skip_space(r);
	if (container->type == JSON_OBJECT) {
		if (r->at == r->end || *r->at != '"')
			return -ERR_SYNTAX;
		e = read_string(r, &item.name);
		if (e < 0)
			return e;
		if (!take(r, ':'))
			return -ERR_SYNTAX;
	}
	if (container->count == *capacity) {
		size_t more = *capacity ? *capacity * 2 : 4;
		struct json *items = realloc(container->u.items, more * sizeof(*items));

		if (!items)
			return -ENOMEM;
		container->u.items = items;
		*capacity = more;
	}
	e = read_value(r, &item);
	/* Taken in even when it failed half-way: what it holds is released with the container. */
	container->u.items[container->count++] = item;
	return e;
}

/* The opening bracket is the next byte. */
static int read_container(struct reader *r, struct json *j)
{
	char close = *r->at == '{' ? '}' : ']';
	size_t capacity = 0;
	int e;

	if (r->depth_left == 0)
		return -ERR_TOO_DEEP;
	j->type = *r->at == '{' ? JSON_OBJECT : JSON_ARRAY;
	r->at++;
	if (take(r, close))
		return 0;
	r->depth_left--;
	do {
		e = read_item(r, j, &capacity);
		if (e < 0)
			return e;
	} while (take(r, ','));
	r->depth_left++;
	if (!take(r, close))
		return -ERR_SYNTAX;
	e = fit_items(j);
	if (e < 0)
		return e;
	return j->type == JSON_OBJECT ? sort_members(j) : 0;
}

/* On failure `j` may hold items, which the caller frees. */
static int read_value(struct reader *r, struct json *j)
{
	skip_space(r);
	if (r->at == r->end)
		return -ERR_SYNTAX;
	if (r->values_left == 0)
		return -ERR_TOO_LARGE;
	r->values_left--;
	switch (*r->at) {
	case '{':
	case '[':
		return read_container(r, j);
	case '"':
		j->type = JSON_STRING;
		return read_string(r, &j->u.string);
	case '-':
	case '0':
	case '1':
	case '2':
	case '3':
	case '4':
	case '5':
	case '6':
	case '7':
	case '8':
	case '9':
		j->type = JSON_INTEGER;
		return r->foreign ? read_foreign_number(r, j) : read_integer(r, &j->u.integer);
	default:
		return read_literal(r, j);
	}
}

static int parse(const void *text, size_t len, const struct json_limits *limits, bool foreign, struct json **ret)
{
	CLEANUP(json_freep)
	struct json *root = NULL;
	struct document *doc;
	struct reader r;
	int e;

	if (!limits)
		limits = &json_limits_default;
	if (len > limits->max_bytes || len > UINT32_MAX) /* so counts fit their type, too */
		return -ERR_TOO_LARGE;
	if (len == 0)
		return -ERR_SYNTAX;
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		return -ERR_ENCODING;
	doc = malloc(sizeof(*doc) + len + 1); /* a foreign number may be all there is */
	if (!doc)
		return -ENOMEM;
	root = &doc->root;
	*root = (struct json){ .type = JSON_NULL };
	r = (struct reader){
		.at = text,
		.end = (const char *) text + len,
		.strings = doc->strings,
		.values_left = limits->max_values,
		.depth_left = limits->max_depth < DEPTH_CAP ? limits->max_depth : DEPTH_CAP,
		.foreign = foreign,
	};
	e = read_value(&r, root);
	if (e < 0)
		return e;
	skip_space(&r);
	if (r.at != r.end)
		return -ERR_TRAILING;
	*ret = root;
	root = NULL;
	return 0;
}

int json_parse(const void *text, size_t len, const struct json_limits *limits, struct json **ret)
{
	return parse(text, len, limits, false, ret);
}

int json_parse_foreign(const void *text, size_t len, const struct json_limits *limits, struct json **ret)
{
	return parse(text, len, limits, true, ret);
}

void json_free(struct json *j)
{
	if (!j)
		return;
	if (j->type == JSON_ARRAY || j->type == JSON_OBJECT)
		free_items(j->u.items, j->count);
	free(j); /* the document: its root is its first member */
}

enum json_type json_type(const struct json *j)
{
	return j ? (enum json_type) j->type : JSON_NULL;
}

bool json_is(const struct json *j, enum json_type type)
{
	return j && j->type == type;
}

const struct json *json_get(const struct json *object, const char *name)
{
	const uint32_t *order;
	size_t low = 0, high;

	if (!json_is(object, JSON_OBJECT) || !name || object->count == 0)
		return NULL;
	order = order_of(object);
	high = object->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct json *item = &object->u.items[order[middle]];
		int c = strcmp(name, item->name);

		if (c == 0)
			return item;
		if (c < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

size_t json_count(const struct json *container)
{
	return json_is(container, JSON_OBJECT) || json_is(container, JSON_ARRAY) ? container->count : 0;
}

const struct json *json_at(const struct json *container, size_t index)
{
	return index < json_count(container) ? &container->u.items[index] : NULL;
}

const char *json_name_at(const struct json *object, size_t index)
{
	return json_is(object, JSON_OBJECT) && index < object->count ? object->u.items[index].name : NULL;
}

const char *json_string(const struct json *j)
{
	return json_is(j, JSON_STRING) ? j->u.string : NULL;
}

bool json_integer(const struct json *j, int64_t *ret)
{
	if (!json_is(j, JSON_INTEGER))
		return false;
	*ret = j->u.integer;
	return true;
}

bool json_bool(const struct json *j, bool otherwise)
{
	return json_is(j, JSON_BOOL) ? j->boolean : otherwise;
}

int json_need(const struct json *object, const char *name, enum json_type type, const struct json **ret)
{
	const struct json *j = json_get(object, name);

	if (!j)
		return -ERR_FIELD_MISSING;
	if (j->type != type)
		return -ERR_FIELD_TYPE;
	*ret = j;
	return 0;
}

int json_need_string(const struct json *object, const char *name, const char **ret)
{
	const struct json *j;
	int r = json_need(object, name, JSON_STRING, &j);

	if (r < 0)
		return r;
	*ret = j->u.string;
	return 0;
}

int json_need_u64(const struct json *object, const char *name, uint64_t min, uint64_t max, uint64_t *ret)
{
	const struct json *j;
	int r = json_need(object, name, JSON_INTEGER, &j);

	if (r < 0)
		return r;
	if (j->u.integer < 0 || (uint64_t) j->u.integer < min || (uint64_t) j->u.integer > max)
		return -ERR_FIELD_VALUE;
	*ret = (uint64_t) j->u.integer;
	return 0;
}

int json_optional_string(const struct json *object, const char *name, const char **ret)
{
	int r = json_need_string(object, name, ret);

	return r == -ERR_FIELD_MISSING ? 0 : r;
}

int json_optional_u64(const struct json *object, const char *name, uint64_t min, uint64_t max, uint64_t *ret)
{
	int r = json_need_u64(object, name, min, max, ret);

	return r == -ERR_FIELD_MISSING ? 0 : r;
}

int json_optional_bool(const struct json *object, const char *name, bool *ret)
{
	const struct json *j;
	int r = json_need(object, name, JSON_BOOL, &j);

	if (r < 0)
		return r == -ERR_FIELD_MISSING ? 0 : r;
	*ret = j->boolean;
	return 0;
}

static bool is_control(char c)
{
	return (unsigned char) c < 0x20;
}

/* Where the next byte stands that cannot be written as it is; only OLPC writes control bytes so. */
static size_t plain_length(const char *s, bool canonical)
{
	size_t n = 0;

	while (s[n] && s[n] != '"' && s[n] != '\\' && (canonical || !is_control(s[n])))
		n++;
	return n;
}

static int add_string(const char *s, bool canonical, struct buf *out)
{
	int r = buf_add_byte(out, '"');

	while (r == 0 && *s) {
		size_t n = plain_length(s, canonical);

		r = buf_add(out, s, n);
		s += n;
		if (r == 0 && *s) {
			r = is_control(*s) ? buf_addf(out, "\\u%04x", (unsigned) *s) : buf_addf(out, "\\%c", *s);
			s++;
		}
	}
	return r < 0 ? r : buf_add_byte(out, '"');
}

static int add_value(const struct json *j, bool canonical, struct buf *out)
{
	bool object = j->type == JSON_OBJECT;
	int r;

	switch ((enum json_type) j->type) {
	case JSON_NULL:
		return buf_add_str(out, "null");
	case JSON_BOOL:
		return buf_add_str(out, j->boolean ? "true" : "false");
	case JSON_INTEGER:
		return buf_addf(out, "%lld", (long long) j->u.integer);
	case JSON_STRING:
		return add_string(j->u.string, canonical, out);
	case JSON_ARRAY:
	case JSON_OBJECT:
		break;
	}
	r = buf_add_byte(out, object ? '{' : '[');
	for (uint32_t i = 0; r == 0 && i < j->count; i++) {
		const struct json *item = &j->u.items[object ? order_of(j)[i] : i];

		if (i > 0)
			r = buf_add_byte(out, ',');
		if (r == 0 && object) {
			r = add_string(item->name, canonical, out);
			if (r == 0)
				r = buf_add_byte(out, ':');
		}
		if (r == 0)
			r = add_value(item, canonical, out);
	}
	return r < 0 ? r : buf_add_byte(out, object ? '}' : ']');
}

static int write_value(const struct json *j, bool canonical, struct buf *out)
{
	size_t start = out->len;
	int r;

	if (!j)
		return -ERR_FIELD_MISSING;
	r = add_value(j, canonical, out);
	if (r < 0 && out->data) {
		out->len = start;
		out->data[start] = '\0';
	}
	return r;
}

int json_canonical(const struct json *j, struct buf *out)
{
	return write_value(j, true, out);
}

int json_text(const struct json *j, struct buf *out)
{
	return write_value(j, false, out);
}

/* Without its own name: of the root of a copy nobody asks it. */
static size_t strings_size(const struct json *j)
{
	size_t size = j->type == JSON_STRING ? strlen(j->u.string) + 1 : 0;

	for (size_t i = 0; i < json_count(j); i++) {
		if (j->type == JSON_OBJECT)
			size += strlen(j->u.items[i].name) + 1;
		size += strings_size(&j->u.items[i]);
	}
	return size;
}

static const char *copy_string(const char *s, char **strings)
{
	size_t size = strlen(s) + 1;
	char *copy = *strings;

	memcpy(copy, s, size);
	*strings += size;
	return copy;
}

/* On failure `ret` may hold items, which the caller frees. */
static int copy_value(const struct json *j, struct json *ret, char **strings)
{
	*ret = (struct json){ .type = j->type, .boolean = j->boolean };
	if (j->type == JSON_INTEGER)
		ret->u.integer = j->u.integer;
	else if (j->type == JSON_STRING)
		ret->u.string = copy_string(j->u.string, strings);
	if (json_count(j) == 0)
		return 0;
	ret->u.items = malloc(j->count * (sizeof(*j) + sizeof(uint32_t)));
	if (!ret->u.items)
		return -ENOMEM;
	for (uint32_t i = 0; i < j->count; i++) {
		const struct json *from = &j->u.items[i];
		struct json *item = &ret->u.items[i];
		int r = copy_value(from, item, strings);

		ret->count++;
		if (r < 0)
			return r;
		if (j->type == JSON_OBJECT)
			item->name = copy_string(from->name, strings);
	}
	if (j->type == JSON_OBJECT)
		memcpy(order_of(ret), order_of(j), j->count * sizeof(uint32_t));
	return 0;
}

int json_copy(const struct json *j, struct json **ret)
{
	CLEANUP(json_freep)
	struct json *root = NULL;
	struct document *doc;
	char *strings;
	int r;

	if (!j)
		return -ERR_FIELD_MISSING;
	doc = malloc(sizeof(*doc) + strings_size(j));
	if (!doc)
		return -ENOMEM;
	root = &doc->root;
	strings = doc->strings;
	r = copy_value(j, root, &strings);
	if (r < 0)
		return r;
	*ret = root;
	root = NULL;
	return 0;
}
