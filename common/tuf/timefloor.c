#include "tuf/timefloor.h"

#include "tuf/keyring.h"
#include "tuf/metadata.h"

#include "base/err.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "json/build.h"
#include "json/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { KEYIDS_BYTES_MAX = 80 * KEYRING_KEYS_MAX };

void time_floor_init(struct time_floor *t)
{
	*t = (struct time_floor){ .keyids = BUF_INIT(KEYIDS_BYTES_MAX) };
}

void time_floor_done(struct time_floor *t)
{
	buf_done(&t->keyids);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* The timestamp key ids of a root in one text, whatever their order there. */
static int keyids_of(const struct metadata *root, struct buf *ret)
{
	const struct json *ids =
		json_get(json_get(json_get(root->body, "roles"), role_type_name(ROLE_TIMESTAMP)), "keyids");
	size_t count = json_count(ids);
	const char **names = calloc(count ? count : 1, sizeof(*names));
	int r = 0;

	if (!names)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		names[i] = json_string(json_at(ids, i));
	qsort(names, count, sizeof(*names), compare_names);
	for (size_t i = 0; i < count && r >= 0; i++)
		r = buf_addf(ret, "%s\n", names[i]);
	free(names);
	return r;
}

void time_floor_load(struct time_floor *t, const struct buf *bytes)
{
	CLEANUP(json_freep)
	struct json *document = NULL;
	const char *issued, *keyids;
	int64_t seconds;

	if (json_parse(bytes->data, bytes->len, &json_limits_default, &document) < 0 ||
	    json_need_string(document, "issued", &issued) < 0 ||
	    json_need_string(document, "timestamp_keyids", &keyids) < 0 || timestamp_parse(issued, &seconds) < 0)
		return; /* no floor: the next timestamp sets one */
	buf_clear(&t->keyids);
	if (buf_add_str(&t->keyids, keyids) < 0)
		return;
	t->issued = seconds;
}

int time_floor_save(const struct time_floor *t, struct buf *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);
	char issued[TIMESTAMP_LEN + 1];

	timestamp_format(issued, t->issued);
	node_integer(o, "format", 1);
	node_string(o, "issued", issued);
	node_string(o, "timestamp_keyids", buf_str(&t->keyids));
	return json_build_text(b, false, ret);
}

int time_floor_raise(struct time_floor *t, const struct metadata *root, int64_t issued)
{
	CLEANUP(buf_done)
	struct buf keyids = BUF_INIT(KEYIDS_BYTES_MAX);
	bool same;
	int r;

	r = keyids_of(root, &keyids);
	if (r < 0)
		return r;
	same = str_eq(buf_str(&keyids), buf_str(&t->keyids));
	if (same && issued <= t->issued)
		return 0;
	buf_done(&t->keyids);
	t->keyids = keyids;
	keyids = (struct buf) BUF_INIT(0);
	t->issued = issued;
	return 1;
}

bool time_floor_is_of(const struct time_floor *t, const struct metadata *root)
{
	CLEANUP(buf_done)
	struct buf keyids = BUF_INIT(KEYIDS_BYTES_MAX);

	/* Out of memory keeps the floor: refusing too much is the safe side. */
	return keyids_of(root, &keyids) < 0 || str_eq(buf_str(&keyids), buf_str(&t->keyids));
}

int64_t time_floor_value(const struct time_floor *t, const struct metadata *root, int64_t build_time)
{
	if (root && !time_floor_is_of(t, root))
		return build_time;
	return t->issued > build_time ? t->issued : build_time;
}

int64_t time_floor_now(const struct time_floor *t, int64_t floor, int64_t clock, uint64_t boot_ms)
{
	int64_t other = clock;

	if (t->clock_ahead)
		other = t->ahead_base + (int64_t) ((boot_ms - t->ahead_ms) / 1000);
	return other > floor ? other : floor;
}
