#include "model/field.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "base/version.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No control bytes: fits on one line of a log or a table. */
static bool is_line(const char *s)
{
	for (; *s; s++)
		if ((unsigned char) *s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

static bool is_word(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if ((unsigned char) *s <= 0x20 || (unsigned char) *s >= 0x7f)
			return false;
	return true;
}

static bool is_hex(const char *s)
{
	size_t digits = strspn(s, "0123456789abcdef");

	return digits > 0 && digits % 2 == 0 && s[digits] == '\0';
}

static bool is_sha256(const char *s)
{
	return is_hex(s) && strlen(s) == SHA256_HEX;
}

const struct text_rule rule_id = { ID_MAX, guard_id, "an id" };
const struct text_rule rule_version = { VERSION_MAX, version_is_valid, "a version" };
const struct text_rule rule_range = { 256, version_range_is_valid, "a range of versions" };
const struct text_rule rule_path = { 1024, guard_path, "a relative path that stays inside" };
const struct text_rule rule_line = { 1024, is_line, "one line of text" };
const struct text_rule rule_word = { 255, is_word, "a word without blanks" };
const struct text_rule rule_text = { 16 * 1024, NULL, "text" };
const struct text_rule rule_hex = { 2048, is_hex, "lower-case hex digits" };
const struct text_rule rule_sha256 = { SHA256_HEX, is_sha256, "a SHA-256 in lower-case hex" };

struct fields fields_of(const struct json *document, struct field_error *error)
{
	struct fields f = { .object = document, .error = error };

	if (!json_is(document, JSON_OBJECT)) {
		f.object = NULL;
		field_fail(&f, -ERR_FIELD_TYPE, NULL, "must be an object");
	}
	return f;
}

bool field_ok(const struct fields *f)
{
	return f->error->r == 0;
}

void field_fail(struct fields *f, int r, const char *name, const char *fmt, ...)
{
	char what[256], *sentence = NULL;
	const char *where = f->where;
	int where_len = (int) strlen(where);
	va_list ap;

	if (f->error->r < 0)
		return;
	va_start(ap, fmt);
	(void) vsnprintf(what, sizeof(what), fmt, ap); /* a cut sentence is still a sentence */
	va_end(ap);
	if (!name && where_len > 0)
		where_len--; /* without the dot */
	if (!name && where_len == 0)
		name = "the document";
	if (asprintf(&sentence, "%.*s%s: %s", where_len, where, name ? name : "", what) < 0)
		sentence = NULL;
	f->error->r = r;
	f->error->sentence = sentence;
}

int field_error_take(struct field_error *error, char **ret_error)
{
	if (error->r < 0 && ret_error)
		*ret_error = error->sentence;
	else
		free(error->sentence);
	error->sentence = NULL;
	return error->r;
}

/* The member, or NULL: missing (recorded if required), or an earlier error. */
static const struct json *member(struct fields *f, const char *name, bool required)
{
	const struct json *j;

	if (!field_ok(f))
		return NULL;
	j = json_get(f->object, name);
	if (!j && required)
		field_fail(f, -ERR_FIELD_MISSING, name, "is missing");
	return j;
}

static bool member_is(struct fields *f, const char *name, const struct json *j, enum json_type type,
		      const char *what)
{
	if (!j)
		return false;
	if (json_is(j, type))
		return true;
	field_fail(f, -ERR_FIELD_TYPE, name, "must be %s", what);
	return false;
}

static bool text_fits(struct fields *f, const char *name, const char *s, const struct text_rule *rule)
{
	if (strlen(s) > rule->max)
		field_fail(f, -ERR_FIELD_VALUE, name, "must be at most %zu bytes", rule->max);
	else if (rule->guard && !rule->guard(s))
		field_fail(f, -ERR_FIELD_VALUE, name, "must be %s", rule->what);
	return field_ok(f);
}

static const char *text_member(struct fields *f, const char *name, const struct text_rule *rule, bool required)
{
	const struct json *j = member(f, name, required);
	const char *s;

	if (!member_is(f, name, j, JSON_STRING, "a string"))
		return NULL;
	s = json_string(j);
	return text_fits(f, name, s, rule) ? s : NULL;
}

static void *or_no_memory(struct fields *f, void *p)
{
	if (!p)
		field_fail(f, -ENOMEM, NULL, "out of memory");
	return p;
}

void *field_alloc(struct fields *f, size_t count, size_t size)
{
	if (count == 0 || !field_ok(f))
		return NULL;
	return or_no_memory(f, calloc(count, size));
}

void field_format(struct fields *f, uint64_t format, const char *const *known)
{
	CLEANUP(string_list_done)
	struct string_list must = { 0 };
	uint64_t have = field_need_u64(f, "format", 1, UINT32_MAX);

	if (field_ok(f) && have != format)
		field_fail(f, -ERR_AGENT_TOO_OLD, "format", "is %llu; this agent reads %llu",
			   (unsigned long long) have, (unsigned long long) format);
	field_text_list(f, "must", &rule_line, 0, 64, &must);
	for (size_t i = 0; i < must.count; i++) {
		const char *const *k = known;

		while (*k && strcmp(*k, must.items[i]) != 0)
			k++;
		if (!*k)
			field_fail(f, -ERR_AGENT_TOO_OLD, "must",
				   "names \"%.64s\", which this agent does not know", must.items[i]);
	}
}

void field_type(struct fields *f, const char *type)
{
	const char *have = text_member(f, "_type", &rule_line, true);

	if (have && strcmp(have, type) != 0)
		field_fail(f, -ERR_FIELD_VALUE, "_type", "must be \"%s\"", type);
}

bool field_has(const struct fields *f, const char *name)
{
	return json_get(f->object, name) != NULL;
}

char *field_text(struct fields *f, const char *name, const struct text_rule *rule, bool required)
{
	const char *s = text_member(f, name, rule, required);

	return s ? or_no_memory(f, strdup(s)) : NULL;
}

char *field_strdup(struct fields *f, const char *s)
{
	return field_ok(f) ? or_no_memory(f, strdup(s)) : NULL;
}

char *field_text_or(struct fields *f, const char *name, const struct text_rule *rule, const char *otherwise)
{
	char *s = field_text(f, name, rule, false);

	return s ? s : field_strdup(f, otherwise);
}

void field_text_into(struct fields *f, const char *name, const struct text_rule *rule, bool required, char *out,
		     size_t size)
{
	const char *s = text_member(f, name, rule, required);

	out[0] = '\0';
	if (s && strlen(s) >= size)
		field_fail(f, -ERR_FIELD_VALUE, name, "must be at most %zu bytes", size - 1);
	else if (s)
		memcpy(out, s, strlen(s) + 1);
}

static uint64_t number_member(struct fields *f, const char *name, const struct json *j, uint64_t min, uint64_t max,
			      uint64_t otherwise)
{
	int64_t v;

	if (!member_is(f, name, j, JSON_INTEGER, "an integer") || !json_integer(j, &v))
		return otherwise;
	if (v < 0 || (uint64_t) v < min || (uint64_t) v > max) {
		field_fail(f, -ERR_FIELD_VALUE, name, "must be from %llu to %llu", (unsigned long long) min,
			   (unsigned long long) max);
		return otherwise;
	}
	return (uint64_t) v;
}

uint64_t field_u64(struct fields *f, const char *name, uint64_t min, uint64_t max, uint64_t otherwise)
{
	return number_member(f, name, member(f, name, false), min, max, otherwise);
}

uint64_t field_need_u64(struct fields *f, const char *name, uint64_t min, uint64_t max)
{
	return number_member(f, name, member(f, name, true), min, max, min);
}

bool field_bool(struct fields *f, const char *name, bool otherwise)
{
	const struct json *j = member(f, name, false);

	return member_is(f, name, j, JSON_BOOL, "true or false") ? json_bool(j, otherwise) : otherwise;
}

int64_t field_time(struct fields *f, const char *name, bool required)
{
	const char *s = text_member(f, name, &rule_line, required);
	int64_t t;

	if (!s)
		return 0;
	if (timestamp_parse(s, &t) < 0) {
		field_fail(f, -ERR_FIELD_VALUE, name, "must be a time like 2026-11-21T09:30:00Z");
		return 0;
	}
	return t;
}

void field_digest(struct fields *f, const char *name, uint8_t out[static SHA256_BYTES])
{
	const char *s = text_member(f, name, &rule_sha256, true);

	if (s && hex_decode(out, SHA256_BYTES, s, false) < 0)
		field_fail(f, -ERR_FIELD_VALUE, name, "must be %s", rule_sha256.what);
}

int field_choice(struct fields *f, const char *name, const char *const *words, size_t count, int otherwise)
{
	const char *s = text_member(f, name, &rule_line, otherwise < 0);
	CLEANUP(buf_done)
	struct buf all = BUF_INIT(200);

	if (!s)
		return otherwise < 0 ? 0 : otherwise;
	for (size_t i = 0; i < count; i++)
		if (strcmp(words[i], s) == 0)
			return (int) i;
	for (size_t i = 0; i < count; i++)
		if (buf_addf(&all, "%s%s", i > 0 ? ", " : "", words[i]) < 0)
			break; /* the sentence names fewer of them */
	field_fail(f, -ERR_FIELD_VALUE, name, "must be one of %s", buf_str(&all));
	return 0;
}

/* The array under `name` with a count within the limits, or NULL. */
static const struct json *array_member(struct fields *f, const char *name, size_t min, size_t max)
{
	const struct json *j = member(f, name, min > 0);

	if (!member_is(f, name, j, JSON_ARRAY, "an array"))
		return NULL;
	if (json_count(j) < min || json_count(j) > max) {
		field_fail(f, -ERR_FIELD_VALUE, name, "must have from %zu to %zu elements", min, max);
		return NULL;
	}
	return j;
}

void field_text_list(struct fields *f, const char *name, const struct text_rule *rule, size_t min, size_t max,
		     struct string_list *ret)
{
	const struct json *array = array_member(f, name, min, max);

	for (size_t i = 0; i < json_count(array) && field_ok(f); i++) {
		const struct json *j = json_at(array, i);
		char element[FIELD_WHERE_MAX];

		(void) snprintf(element, sizeof(element), "%s[%zu]", name, i); /* ours, short */
		if (!member_is(f, element, j, JSON_STRING, "a string") ||
		    !text_fits(f, element, json_string(j), rule))
			return;
		if (string_list_add(ret, json_string(j)) < 0)
			field_fail(f, -ENOMEM, NULL, "out of memory");
	}
}

void field_labels(struct fields *f, const char *name, struct labels *ret)
{
	const struct json *j = member(f, name, false);
	int r;

	if (!member_is(f, name, j, JSON_OBJECT, "an object of names and texts"))
		return;
	r = labels_parse(j, ret);
	if (r == -ENOMEM)
		field_fail(f, r, NULL, "out of memory");
	else if (r < 0)
		field_fail(f, r, name, "must be an object of label names and texts up to %d bytes",
			   LABEL_VALUE_MAX);
}

struct json *field_copy(struct fields *f, const char *name, enum json_type type)
{
	const struct json *j = member(f, name, false);
	struct json *copy;

	if (!member_is(f, name, j, type,
		       type == JSON_ARRAY    ? "an array"
		       : type == JSON_STRING ? "a text"
					     : "an object"))
		return NULL;
	if (json_copy(j, &copy) < 0) {
		field_fail(f, -ENOMEM, NULL, "out of memory");
		return NULL;
	}
	return copy;
}

static struct fields below(struct fields *f, const struct json *object, const char *fmt, ...) PRINTF_LIKE(3, 4);
static struct fields below(struct fields *f, const struct json *object, const char *fmt, ...)
{
	struct fields sub = { .object = object, .error = f->error };
	size_t n = strlen(f->where);
	va_list ap;

	memcpy(sub.where, f->where, n + 1);
	va_start(ap, fmt);
	(void) vsnprintf(sub.where + n, sizeof(sub.where) - n, fmt, ap); /* names are ours; depth is small */
	va_end(ap);
	return sub;
}

struct fields field_object(struct fields *f, const char *name, bool required)
{
	const struct json *j = member(f, name, required);

	if (!member_is(f, name, j, JSON_OBJECT, "an object"))
		j = NULL;
	return below(f, j, "%s.", name);
}

size_t fields_count(struct fields *f, const char *name, size_t min, size_t max)
{
	return json_count(array_member(f, name, min, max));
}

struct fields field_element(struct fields *f, const char *name, size_t index)
{
	const struct json *j = field_ok(f) ? json_at(json_get(f->object, name), index) : NULL;
	struct fields sub = below(f, j, "%s[%zu].", name, index);

	if (j && !json_is(j, JSON_OBJECT)) {
		sub.object = NULL;
		field_fail(&sub, -ERR_FIELD_TYPE, NULL, "must be an object");
	}
	return sub;
}
