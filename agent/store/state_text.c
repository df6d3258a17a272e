/*
 * The text form of the state: one table per struct says which line a field is,
 * so that writing and reading cannot disagree.
 *
 * A line is a key, a blank and the value. A list item is one line with several
 * words ("denied 1.1.0 unfit 12"); empty words are written "-", and a word that is
 * "-" itself "%2D".
 */
#include "agent/store/state.h"

#include "base/err.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind {
	KIND_TEXT, /* anything that fits */
	KIND_ID, /* guard_id() or empty */
	KIND_VERSION, /* version_is_valid() or empty */
	KIND_HEX, /* 64 lower-case digits or empty */
	KIND_U64,
	KIND_I64,
	KIND_BOOL,
	KIND_STATE,
	KIND_CAUSE,
	KIND_DENIAL,
};

struct field {
	const char *key; /* in lists only for people */
	enum kind kind;
	size_t offset;
	size_t size; /* of a text's array */
	bool required; /* not empty */
};

#define TEXT(type, key, member)                                                                                   \
	{                                                                                                         \
		key, KIND_TEXT, offsetof(type, member), sizeof(((type *) 0)->member), false                       \
	}
#define ID(type, key, member)                                                                                     \
	{                                                                                                         \
		key, KIND_ID, offsetof(type, member), sizeof(((type *) 0)->member), false                         \
	}
#define ID_HERE(type, key, member)                                                                                \
	{                                                                                                         \
		key, KIND_ID, offsetof(type, member), sizeof(((type *) 0)->member), true                          \
	}
#define VERSION(type, key, member)                                                                                \
	{                                                                                                         \
		key, KIND_VERSION, offsetof(type, member), sizeof(((type *) 0)->member), false                    \
	}
#define VERSION_HERE(type, key, member)                                                                           \
	{                                                                                                         \
		key, KIND_VERSION, offsetof(type, member), sizeof(((type *) 0)->member), true                     \
	}
#define HEX(type, key, member)                                                                                    \
	{                                                                                                         \
		key, KIND_HEX, offsetof(type, member), sizeof(((type *) 0)->member), false                        \
	}
#define OTHER(type, key, kind, member)                                                                            \
	{                                                                                                         \
		key, kind, offsetof(type, member), 0, false                                                       \
	}

/* A list within a struct: items in a row, counted by a size_t. */
struct list {
	const char *key;
	size_t offset, count_offset, item_size, max;
	const struct field *fields;
	size_t field_count;
};
#define LIST(type, key, member, count, max, fields)                                                               \
	{                                                                                                         \
		key, offsetof(type, member), offsetof(type, count), sizeof(((type *) 0)->member[0]), max, fields, \
			ARRAY_LEN(fields)                                                                         \
	}

/* What a block, or the top, holds. */
struct block {
	const char *key; /* NULL: the top */
	const struct field *fields;
	size_t field_count;
	const struct list *lists;
	size_t list_count;
};

static const struct field top_fields[] = {
	OTHER(struct node_state, "report-sequence", KIND_U64, report_sequence),
	OTHER(struct node_state, "generation", KIND_U64, generation),
	TEXT(struct node_state, "boot-id", boot_id),
	OTHER(struct node_state, "stuck", KIND_BOOL, stuck),
	OTHER(struct node_state, "hold-until", KIND_I64, hold_until),
	OTHER(struct node_state, "hold-for", KIND_I64, hold_s),
	TEXT(struct node_state, "hold-reason", hold_reason),
	TEXT(struct node_state, "hold-by", hold_by),
};
static const struct field order_fields[] = {
	ID_HERE(struct node_order, "id", id),
	ID(struct node_order, "component", component),
	OTHER(struct node_order, "result", KIND_U64, result),
	OTHER(struct node_order, "at", KIND_I64, at),
	TEXT(struct node_order, "detail", detail),
};
static const struct field retry_fields[] = {
	ID_HERE(struct node_retry, "component", component),
	VERSION(struct node_retry, "version", version), /* "": absent, the way back to which may fail too */
	OTHER(struct node_retry, "failures", KIND_U64, failures),
	OTHER(struct node_retry, "not-before", KIND_I64, not_before),
	OTHER(struct node_retry, "wait", KIND_I64, wait_s),
};
static const struct field deferral_fields[] = {
	ID(struct node_deferral, "component", component),
	OTHER(struct node_deferral, "until", KIND_I64, until),
	TEXT(struct node_deferral, "by", by),
	TEXT(struct node_deferral, "reason", reason),
};
static const struct field noticed_fields[] = {
	ID_HERE(struct node_noticed, "rollout", rollout),	    TEXT(struct node_noticed, "boot-id", boot_id),
	OTHER(struct node_noticed, "since-ms", KIND_I64, since_ms), OTHER(struct node_noticed, "at", KIND_I64, at),
	OTHER(struct node_noticed, "told", KIND_BOOL, told),
};
static const struct list top_lists[] = {
	LIST(struct node_state, "order", orders, order_count, STATE_ORDERS_MAX, order_fields),
	LIST(struct node_state, "retry", retries, retry_count, STATE_RETRIES_MAX, retry_fields),
	LIST(struct node_state, "deferral", deferrals, deferral_count, STATE_DEFERRALS_MAX, deferral_fields),
	LIST(struct node_state, "noticed", noticed, noticed_count, STATE_NOTICED_MAX, noticed_fields),
};

static const struct field component_fields[] = {
	VERSION(struct node_component, "version", version),
	VERSION(struct node_component, "previous", previous),
	ID(struct node_component, "rollout", rollout),
	ID(struct node_component, "stage", stage),
	OTHER(struct node_component, "seq", KIND_U64, seq),
	TEXT(struct node_component, "release-path", release_path),
	HEX(struct node_component, "release-sha256", release_sha256),
	OTHER(struct node_component, "attempts", KIND_U64, attempts),
	OTHER(struct node_component, "swap-day", KIND_U64, swap_day),
	OTHER(struct node_component, "swap-count", KIND_U64, swap_count),
	OTHER(struct node_component, "watch-until", KIND_I64, watch_until),
	TEXT(struct node_component, "watch-update", watch_update),
};
static const struct field good_fields[] = { { "version", KIND_VERSION, 0, STATE_VERSION_SIZE, true } };
static const struct field joined_fields[] = { { "rollout", KIND_ID, 0, STATE_ID_SIZE, true } };
static const struct field denial_fields[] = {
	VERSION_HERE(struct node_denial, "version", version),
	OTHER(struct node_denial, "cause", KIND_DENIAL, cause),
	OTHER(struct node_denial, "seq", KIND_U64, seq),
};
static const struct field taken_fields[] = {
	ID_HERE(struct node_taken, "rollout", rollout),	  ID(struct node_taken, "stage", stage),
	OTHER(struct node_taken, "seq", KIND_U64, seq),	  VERSION(struct node_taken, "version", version),
	VERSION(struct node_taken, "previous", previous),
};
static const struct list component_lists[] = {
	LIST(struct node_component, "good", good, good_count, STATE_GOOD_MAX, good_fields),
	LIST(struct node_component, "denied", denials, denial_count, STATE_DENIALS_MAX, denial_fields),
	LIST(struct node_component, "taken", taken, taken_count, STATE_TAKEN_MAX, taken_fields),
	LIST(struct node_component, "joined", joined, joined_count, STATE_JOINED_MAX, joined_fields),
};

static const struct field update_fields[] = {
	ID(struct node_update, "source", source),
	ID(struct node_update, "component", component),
	OTHER(struct node_update, "attempt", KIND_U64, attempt),
	OTHER(struct node_update, "state", KIND_STATE, state),
	OTHER(struct node_update, "cause", KIND_CAUSE, cause),
	VERSION(struct node_update, "from", from),
	VERSION(struct node_update, "to", to),
	ID(struct node_update, "rollout", rollout),
	ID(struct node_update, "stage", stage),
	OTHER(struct node_update, "seq", KIND_U64, seq),
	TEXT(struct node_update, "release-path", release_path),
	HEX(struct node_update, "release-sha256", release_sha256),
	HEX(struct node_update, "digest", digest),
	OTHER(struct node_update, "target-generation", KIND_U64, target_generation),
	OTHER(struct node_update, "fallback-generation", KIND_U64, fallback_generation),
	OTHER(struct node_update, "started-at", KIND_I64, started_at),
	OTHER(struct node_update, "deadline", KIND_I64, deadline),
	OTHER(struct node_update, "swapped-at", KIND_I64, swapped_at),
	OTHER(struct node_update, "swapped-boot-ms", KIND_U64, swapped_boot_ms),
	OTHER(struct node_update, "probation-ms", KIND_U64, probation_ms),
	OTHER(struct node_update, "watch-ms", KIND_U64, watch_ms),
	OTHER(struct node_update, "probation-done-ms", KIND_U64, probation_done_ms),
	OTHER(struct node_update, "pause-ms", KIND_U64, pause_ms),
	OTHER(struct node_update, "handover-ms", KIND_U64, handover_ms),
	OTHER(struct node_update, "boots", KIND_U64, boots),
	OTHER(struct node_update, "boot-attempts", KIND_U64, boot_attempts),
	TEXT(struct node_update, "recover-boot-id", recover_boot_id),
	OTHER(struct node_update, "recovered", KIND_BOOL, recovered),
	OTHER(struct node_update, "services-stopped", KIND_BOOL, services_stopped),
	OTHER(struct node_update, "link-before", KIND_BOOL, link_before),
	OTHER(struct node_update, "network", KIND_BOOL, network),
	OTHER(struct node_update, "deny-from", KIND_BOOL, deny_from),
	TEXT(struct node_update, "data-saved", data_saved),
	TEXT(struct node_update, "data-from", data_from),
	OTHER(struct node_update, "result", KIND_U64, result),
	TEXT(struct node_update, "detail", detail),
	TEXT(struct node_update, "waiting-for", waiting_for),
	ID(struct node_update, "blamed", blamed),
};
static const struct field with_fields[] = {
	ID_HERE(struct node_with, "component", component),
	VERSION(struct node_with, "from", from),
	VERSION(struct node_with, "to", to),
	TEXT(struct node_with, "release-path", release_path),
	HEX(struct node_with, "release-sha256", release_sha256),
	HEX(struct node_with, "digest", digest),
};
static const struct field baseline_fields[] = {
	ID(struct node_baseline, "component", component),
	TEXT(struct node_baseline, "check", check),
	OTHER(struct node_baseline, "passed", KIND_BOOL, passed),
	TEXT(struct node_baseline, "value", value),
};
static const struct list update_lists[] = {
	LIST(struct node_update, "with", with, with_count, STATE_WITH_MAX, with_fields),
	LIST(struct node_update, "baseline", baseline, baseline_count, STATE_BASELINE_MAX, baseline_fields),
};

static const struct field result_fields[] = {
	ID(struct node_result, "component", component),
	VERSION(struct node_result, "from", from),
	VERSION(struct node_result, "to", to),
	ID(struct node_result, "rollout", rollout),
	ID(struct node_result, "stage", stage),
	OTHER(struct node_result, "seq", KIND_U64, seq),
	HEX(struct node_result, "release-sha256", release_sha256),
	OTHER(struct node_result, "number", KIND_U64, number),
	TEXT(struct node_result, "detail", detail),
	TEXT(struct node_result, "log-tail", log_tail),
	OTHER(struct node_result, "at", KIND_I64, at),
	OTHER(struct node_result, "duration-ms", KIND_U64, duration_ms),
	OTHER(struct node_result, "pause-ms", KIND_U64, pause_ms),
	OTHER(struct node_result, "network", KIND_BOOL, network),
	OTHER(struct node_result, "sequence", KIND_U64, sequence),
};

#define BLOCK(key, fields, lists)                                                                                 \
	{                                                                                                         \
		key, fields, ARRAY_LEN(fields), lists, ARRAY_LEN(lists)                                           \
	}
static const struct block top_block = BLOCK(NULL, top_fields, top_lists);
static const struct block component_block = BLOCK("component", component_fields, component_lists);
static const struct block update_block = BLOCK("update", update_fields, update_lists);
static const struct block result_block = { "result", result_fields, ARRAY_LEN(result_fields), NULL, 0 };

enum { FIELDS_MAX = 64, LINE_TEXT_MAX = STATE_LOG_TAIL_SIZE };
_Static_assert(ARRAY_LEN(update_fields) <= FIELDS_MAX, "one bit per field in `seen`");

/* --- one value ------------------------------------------------------------------------------------ */

static bool text_fits(const struct field *f, const char *text)
{
	uint8_t digest[SHA256_BYTES];

	if (strlen(text) >= f->size)
		return false;
	if (!*text)
		return !f->required;
	switch (f->kind) {
	case KIND_ID:
		return guard_id(text);
	case KIND_VERSION:
		return version_is_valid(text);
	case KIND_HEX:
		return hex_decode(digest, sizeof(digest), text, false) == 0;
	default:
		return true;
	}
}

/* Escaped so that neither a line nor, within `word`, a blank breaks it. */
static int add_escaped(struct buf *out, const char *text, bool word)
{
	int r = 0;

	if (word && !*text)
		return buf_add_byte(out, '-');
	if (word && strcmp(text, "-") == 0)
		return buf_add_str(out, "%2D");
	for (const char *p = text; *p && r == 0; p++) {
		unsigned char c = (unsigned char) *p;

		if (c < 0x20 || c == 0x7f || c == '%' || (word && c == ' '))
			r = buf_addf(out, "%%%02X", c);
		else
			r = buf_add_byte(out, c);
	}
	return r;
}

static const char *enum_name(enum kind kind, int value)
{
	const char *name = kind == KIND_STATE	? node_update_state_name((enum node_update_state) value)
			   : kind == KIND_CAUSE ? node_cause_name((enum node_cause) value)
						: node_denial_cause_name((enum node_denial_cause) value);

	return strcmp(name, "unknown") == 0 ? NULL : name;
}

/* Our enums are never negative: read and written as the int they are stored as. */
_Static_assert(sizeof(enum node_update_state) == sizeof(int) && sizeof(enum node_cause) == sizeof(int) &&
		       sizeof(enum node_denial_cause) == sizeof(int),
	       "enums are ints");

static int add_value(struct buf *out, const struct field *f, const char *item, bool word)
{
	const char *at = item + f->offset, *name;
	uint64_t u;
	int64_t i;
	int e;

	switch (f->kind) {
	case KIND_U64:
		memcpy(&u, at, sizeof(u));
		return buf_addf(out, "%" PRIu64, u);
	case KIND_I64:
		memcpy(&i, at, sizeof(i));
		return i < 0 ? -ERR_FIELD_VALUE : buf_addf(out, "%" PRId64, i);
	case KIND_BOOL:
		return buf_add_str(out, *(const bool *) at ? "yes" : "no");
	case KIND_STATE:
	case KIND_CAUSE:
	case KIND_DENIAL:
		memcpy(&e, at, sizeof(e));
		name = enum_name(f->kind, e);
		return name ? buf_add_str(out, name) : -ERR_FIELD_VALUE;
	default:
		if (strnlen(at, f->size) == f->size || !text_fits(f, at))
			return -ERR_FIELD_VALUE;
		return add_escaped(out, at, word);
	}
}

static int unescape(char *text, bool word)
{
	char *out = text;

	if (word && strcmp(text, "-") == 0) {
		*text = '\0';
		return 0;
	}
	for (const char *p = text; *p; p++) {
		uint8_t byte;
		char hex[3];

		if (*p != '%') {
			*out++ = *p;
			continue;
		}
		hex[0] = p[1];
		hex[1] = p[1] ? p[2] : '\0';
		hex[2] = '\0';
		if (hex_decode(&byte, 1, hex, true) < 0 || byte == 0)
			return -ERR_SYNTAX;
		*out++ = (char) byte;
		p += 2;
	}
	*out = '\0';
	return 0;
}

static int take_enum(enum kind kind, const char *text, char *at)
{
	const char *name;

	for (int i = 0; (name = enum_name(kind, i)) != NULL; i++)
		if (strcmp(name, text) == 0) {
			memcpy(at, &i, sizeof(i));
			return 0;
		}
	return -ERR_FIELD_VALUE;
}

/* `text` is changed. */
static int take_value(const struct field *f, char *text, char *item, bool word)
{
	char *at = item + f->offset;
	uint64_t u;
	int64_t i;
	int r;

	switch (f->kind) {
	case KIND_U64:
	case KIND_I64:
		r = parse_u64(text, &u);
		if (r < 0 || (f->kind == KIND_I64 && u > INT64_MAX))
			return -ERR_FIELD_VALUE;
		i = (int64_t) u;
		if (f->kind == KIND_I64)
			memcpy(at, &i, sizeof(i));
		else
			memcpy(at, &u, sizeof(u));
		return 0;
	case KIND_BOOL:
		if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
			return -ERR_FIELD_VALUE;
		*(bool *) at = text[0] == 'y';
		return 0;
	case KIND_STATE:
	case KIND_CAUSE:
	case KIND_DENIAL:
		return take_enum(f->kind, text, at);
	default:
		r = unescape(text, word);
		if (r < 0)
			return r;
		if (!text_fits(f, text))
			return -ERR_FIELD_VALUE;
		state_set(at, f->size, text);
		return 0;
	}
}

/* --- writing -------------------------------------------------------------------------------------- */

static bool is_default(const struct field *f, const char *item)
{
	static const char zero[8];
	const char *at = item + f->offset;

	switch (f->kind) {
	case KIND_U64:
	case KIND_I64:
		return memcmp(at, zero, 8) == 0;
	case KIND_BOOL:
		return !*(const bool *) at;
	case KIND_STATE:
	case KIND_CAUSE:
	case KIND_DENIAL:
		return memcmp(at, zero, sizeof(int)) == 0;
	default:
		return *at == '\0';
	}
}

static int add_list(struct buf *out, const struct list *l, const char *owner, const char *indent)
{
	size_t count;
	int r = 0;

	memcpy(&count, owner + l->count_offset, sizeof(count));
	if (count > l->max)
		return -ERR_TOO_LARGE;
	for (size_t i = 0; i < count && r == 0; i++) {
		const char *item = owner + l->offset + i * l->item_size;

		r = buf_addf(out, "%s%s", indent, l->key);
		for (size_t k = 0; k < l->field_count && r == 0; k++) {
			r = buf_add_byte(out, ' ');
			if (r == 0)
				r = add_value(out, &l->fields[k], item, true);
		}
		if (r == 0)
			r = buf_add_byte(out, '\n');
	}
	return r;
}

static int add_block(struct buf *out, const struct block *b, const char *owner, const char *name)
{
	const char *indent = b->key ? " " : "";
	int r = 0;

	if (b->key) {
		r = buf_addf(out, "%s ", b->key);
		if (r == 0)
			r = add_escaped(out, name, false);
		if (r == 0)
			r = buf_add_byte(out, '\n');
	}
	for (size_t i = 0; i < b->field_count && r == 0; i++) {
		if (is_default(&b->fields[i], owner))
			continue;
		r = buf_addf(out, "%s%s ", indent, b->fields[i].key);
		if (r == 0)
			r = add_value(out, &b->fields[i], owner, false);
		if (r == 0)
			r = buf_add_byte(out, '\n');
	}
	for (size_t i = 0; i < b->list_count && r == 0; i++)
		r = add_list(out, &b->lists[i], owner, indent);
	if (b->key && r == 0)
		r = buf_add_str(out, "end\n");
	return r;
}

/* May this name begin a block? Update ids hold ids joined by '/'. */
static bool name_is_fine(const char *name, size_t size)
{
	return *name && strnlen(name, size) < size;
}

int state_encode(const struct node_state *s, struct buf *out)
{
	int r;

	if (s->component_count > STATE_COMPONENTS_MAX || s->result_count > STATE_RESULTS_MAX)
		return -ERR_TOO_LARGE;
	r = buf_addf(out, "format %d\n", STATE_FORMAT);
	if (r == 0)
		r = add_block(out, &top_block, (const char *) s, NULL);
	for (size_t i = 0; i < s->component_count && r == 0; i++)
		r = guard_id(s->components[i]->name)
			    ? add_block(out, &component_block, (const char *) s->components[i],
					s->components[i]->name)
			    : -ERR_FIELD_VALUE;
	if (r == 0 && state_has_update(s))
		r = name_is_fine(s->update.id, sizeof(s->update.id))
			    ? add_block(out, &update_block, (const char *) &s->update, s->update.id)
			    : -ERR_FIELD_VALUE;
	for (size_t i = 0; i < s->result_count && r == 0; i++)
		r = name_is_fine(s->results[i]->update, sizeof(s->results[i]->update))
			    ? add_block(out, &result_block, (const char *) s->results[i], s->results[i]->update)
			    : -ERR_FIELD_VALUE;
	return r;
}

/* --- reading -------------------------------------------------------------------------------------- */

struct reader {
	struct node_state *state;
	const struct block *block; /* what the lines belong to; NULL: a block we do not know */
	char *owner;
	uint64_t seen, top_seen; /* one bit per scalar field of the block */
	bool in_block, has_update;
	bool unknown; /* the line before was none we know: it may begin a block */
};

static int take_item(const struct list *l, char *owner, char *text)
{
	size_t count;
	char *item;

	memcpy(&count, owner + l->count_offset, sizeof(count));
	if (count >= l->max)
		return -ERR_TOO_LARGE;
	item = owner + l->offset + count * l->item_size;
	for (size_t i = 0; i < l->field_count; i++) {
		char *end = strchr(text, ' ');
		int r;

		if (!*text)
			return -ERR_FIELD_MISSING;
		/* Words behind the last one we know are a successor's. */
		if (end)
			*end = '\0';
		r = take_value(&l->fields[i], text, item, true);
		if (r < 0)
			return r;
		text = end ? end + 1 : strchr(text, '\0');
	}
	count++;
	memcpy(owner + l->count_offset, &count, sizeof(count));
	return 0;
}

/* 0, or 1 for a key we do not know. */
static int take_line(struct reader *d, const char *key, char *value)
{
	const struct block *b = d->block;

	if (!b)
		return 0; /* of a block we do not know */
	for (size_t i = 0; i < b->field_count; i++) {
		if (strcmp(b->fields[i].key, key) != 0)
			continue;
		if (d->seen & (uint64_t) 1 << i)
			return -ERR_DUPLICATE_NAME;
		d->seen |= (uint64_t) 1 << i;
		return take_value(&b->fields[i], value, d->owner, false);
	}
	for (size_t i = 0; i < b->list_count; i++)
		if (strcmp(b->lists[i].key, key) == 0)
			return take_item(&b->lists[i], d->owner, value);
	return 1;
}

static int begin_component(struct reader *d, const char *name)
{
	struct node_component *c;
	int r;

	if (state_component(d->state, name))
		return -ERR_DUPLICATE_NAME;
	r = state_component_add(d->state, name, &c);
	if (r < 0)
		return r == -ERR_NAME ? -ERR_FIELD_VALUE : r;
	d->block = &component_block;
	d->owner = (char *) c;
	return 0;
}

static int begin_result(struct reader *d, const char *name)
{
	struct node_result *result;

	if (d->state->result_count >= STATE_RESULTS_MAX)
		return -ERR_TOO_LARGE;
	result = calloc(1, sizeof(*result));
	if (!result)
		return -ENOMEM;
	d->state->results[d->state->result_count++] = result;
	if (strlen(name) >= sizeof(result->update))
		return -ERR_FIELD_VALUE;
	STATE_SET(result->update, name);
	d->block = &result_block;
	d->owner = (char *) result;
	return 0;
}

static int begin_update(struct reader *d, const char *name)
{
	if (d->has_update)
		return -ERR_DUPLICATE_NAME;
	if (strlen(name) >= sizeof(d->state->update.id))
		return -ERR_FIELD_VALUE;
	d->has_update = true;
	STATE_SET(d->state->update.id, name);
	d->block = &update_block;
	d->owner = (char *) &d->state->update;
	return 0;
}

/* The first line of a block we know. `name` is changed. */
static int begin_block(struct reader *d, const char *key, char *name)
{
	int r;

	r = unescape(name, false);
	if (r < 0)
		return r;
	if (!*name)
		return -ERR_FIELD_MISSING;
	d->top_seen = d->seen;
	d->seen = 0;
	d->in_block = true;
	if (strcmp(key, "component") == 0)
		return begin_component(d, name);
	if (strcmp(key, "result") == 0)
		return begin_result(d, name);
	return begin_update(d, name);
}

static void end_block(struct reader *d)
{
	d->block = &top_block;
	d->owner = (char *) d->state;
	d->seen = d->top_seen;
	d->in_block = false;
}

static bool key_is_fine(const char *key)
{
	size_t n = strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return n > 0 && n <= 32 && key[n] == '\0';
}

/* The lines of a block we do not know are skipped. */
static void begin_unknown(struct reader *d)
{
	d->top_seen = d->seen;
	d->in_block = true;
	d->block = NULL;
}

/* Lines of a block begin with a blank; "end" ends it. That is how unknown blocks are told from unknown keys. */
static int take_any(struct reader *d, char *line)
{
	bool inner = line[0] == ' ', unknown = d->unknown;
	char *key = inner ? line + 1 : line, *value;
	int r;

	d->unknown = false;
	if ((inner || strcmp(line, "end") == 0) && !d->in_block) {
		if (!unknown)
			return -ERR_SYNTAX;
		begin_unknown(d);
	}
	if (strcmp(line, "end") == 0) {
		end_block(d);
		return 0;
	}
	if (!inner && d->in_block)
		return -ERR_SYNTAX; /* the block before has no end */
	value = strchr(key, ' ');
	if (!value)
		return -ERR_SYNTAX;
	*value++ = '\0';
	if (!key_is_fine(key))
		return -ERR_SYNTAX;
	if (!inner && (strcmp(key, "component") == 0 || strcmp(key, "update") == 0 || strcmp(key, "result") == 0))
		return begin_block(d, key, value);
	r = take_line(d, key, value);
	d->unknown = r > 0 && !inner;
	return r < 0 ? r : 0;
}

static int take_format(const char *line)
{
	uint64_t format;
	int r;

	if (!str_starts(line, "format "))
		return -ERR_SYNTAX;
	r = parse_u64(line + strlen("format "), &format);
	if (r < 0)
		return -ERR_SYNTAX;
	return format == STATE_FORMAT ? 0 : -ERR_AGENT_TOO_OLD;
}

static int take_all(struct reader *d, char *text, size_t len)
{
	char *line = text;
	bool first = true;
	int r;

	while (line < text + len) {
		char *end = memchr(line, '\n', (size_t) (text + len - line));

		if (!end)
			return -ERR_SYNTAX; /* the last line is whole or it is not ours */
		*end = '\0';
		r = first ? take_format(line) : take_any(d, line);
		if (r < 0)
			return r;
		first = false;
		line = end + 1;
	}
	return first || d->in_block ? -ERR_SYNTAX : 0;
}

int state_decode(const void *data, size_t len, struct node_state *ret)
{
	struct reader d = { .block = &top_block };
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(STATE_BYTES_MAX);
	int r;

	if (len > STATE_BYTES_MAX)
		return -ERR_TOO_LARGE;
	if (len == 0 || memchr(data, '\0', len))
		return -ERR_SYNTAX;
	r = buf_add(&text, data, len);
	if (r < 0)
		return r;
	d.state = calloc(1, sizeof(*d.state));
	if (!d.state)
		return -ENOMEM;
	d.owner = (char *) d.state;
	r = take_all(&d, (char *) text.data, text.len);
	if (r == 0)
		*ret = *d.state; /* its lists go along */
	else
		state_done(d.state);
	free(d.state);
	return r;
}
