#include "server-stub/rollout/limits.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "conf/conf.h"
#include "json/build.h"
#include "json/json.h"
#include "model/opening.h"
#include "zone/window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MAX_S = 90 * 86400, DISRUPTION_MAX = 1000 * 1000 };

/* What decide() lets a patch pass. */
static const char *const override_words[] = { "spread", "deferral", "notice", "window", "blackout" };

static bool window_is_fine(const char *text)
{
	struct windows w;

	return text && windows_parse(text, &w) == 0 && w.count > 0;
}

static int copy_text(const char *text, char **ret)
{
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int read_window(const struct conf *plan, struct plan_limits *l, struct conf_error *e)
{
	const struct conf *item = conf_get(plan, "window");

	if (!item)
		return 0;
	if (!window_is_fine(conf_text(item)))
		return conf_fail(item, e,
				 "expected a window like Mon-Fri 22:00-04:00 (several with ';'), found '%s'",
				 conf_text(item) ? conf_text(item) : "");
	return copy_text(conf_text(item), &l->window);
}

static int read_moment(const struct conf *map, const char *name, int64_t *ret, struct conf_error *e)
{
	const struct conf *item = conf_get(map, name);
	const char *text = conf_text(item);

	if (!text || timestamp_parse(text, ret) < 0 || *ret <= 0)
		return conf_fail(item ? item : map, e, "expected '%s' as a time like 2026-12-24T00:00:00Z%s%s%s",
				 name, text ? ", found '" : "", text ? text : "", text ? "'" : "");
	return 0;
}

static int read_blackout(const struct conf *item, struct plan_blackout *b, struct conf_error *e)
{
	int r;

	if (conf_kind(item) == CONF_SCALAR) {
		if (!window_is_fine(conf_text(item)))
			return conf_fail(item, e, "expected a blackout like Fri 12:00-24:00, found '%s'",
					 conf_text(item));
		return copy_text(conf_text(item), &b->weekly);
	}
	if (conf_kind(item) != CONF_MAP)
		return conf_fail(item, e, "expected a blackout: a window's text, or {from: TIME, until: TIME}");
	r = read_moment(item, "from", &b->from, e);
	if (r == 0)
		r = read_moment(item, "until", &b->until, e);
	if (r < 0)
		return r;
	if (b->until <= b->from)
		return conf_fail(conf_get(item, "until"), e, "expected a blackout that ends after it begins");
	return conf_reject_unknown(item, e);
}

static int read_blackouts(const struct conf *plan, struct plan_limits *l, struct conf_error *e)
{
	const struct conf *list = conf_get(plan, "blackout");
	int r = 0;

	if (!list)
		return 0;
	if (conf_kind(list) != CONF_LIST || conf_count(list) > BLACKOUTS_MAX)
		return conf_fail(list, e,
				 "expected a list of at most %d blackouts, e.g. blackout: [Fri 12:00-24:00]",
				 BLACKOUTS_MAX);
	l->blackouts = calloc(conf_count(list) + 1, sizeof(*l->blackouts));
	if (!l->blackouts)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < conf_count(list); i++)
		r = read_blackout(conf_at(list, i), &l->blackouts[l->blackout_count++], e);
	return r;
}

static int read_disruption(const struct conf *plan, struct plan_limits *l, struct conf_error *e)
{
	const struct conf *map = conf_get(plan, "disruption");
	struct labels probe = { 0 };
	const char *label;
	int r;

	if (!map)
		return 0;
	if (conf_kind(map) != CONF_MAP)
		return conf_fail(map, e,
				 "expected the limit of nodes down, e.g. disruption: {label: site, maximum: 1}");
	r = conf_need_text(map, "label", &label, e);
	if (r < 0)
		return r;
	r = labels_set(&probe, label, "x");
	labels_done(&probe);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return conf_fail(conf_get(map, "label"), e, "expected a label's name ([a-z0-9-./]), found '%s'",
				 label);
	if (!conf_get(map, "maximum"))
		return conf_fail(map, e, "expected 'maximum': how many nodes of one %s may be down", label);
	r = conf_optional_u64(map, "maximum", 1, DISRUPTION_MAX, 1, &l->disruption_maximum, e);
	if (r == 0)
		r = copy_text(label, &l->disruption_label);
	return r < 0 ? r : conf_reject_unknown(map, e);
}

static int read_overrides(const struct conf *plan, enum rollout_kind kind, struct plan_limits *l,
			  struct conf_error *e)
{
	const struct conf *list = conf_get(plan, "overrides");

	if (!list)
		return 0;
	if (conf_kind(list) != CONF_LIST)
		return conf_fail(list, e, "expected a list, e.g. overrides: [window, notice]");
	/* A regular rollout that lists some would look as if it passed them: nodes grant it to patches alone. */
	if (kind != ROLLOUT_PATCH && conf_count(list) > 0)
		return conf_fail(list, e, "expected overrides in a patch only (kind: patch)");
	for (size_t i = 0; i < conf_count(list); i++) {
		const char *word = conf_text(conf_at(list, i));
		bool known = false;
		int r;

		for (size_t k = 0; word && k < ARRAY_LEN(override_words); k++)
			known = known || strcmp(word, override_words[k]) == 0;
		if (!known)
			return conf_fail(conf_at(list, i), e,
					 "expected one of spread, deferral, notice, window, blackout, found '%s'",
					 word ? word : "");
		if (string_list_has(&l->overrides, word))
			return conf_fail(conf_at(list, i), e, "'%s' stands twice", word);
		r = string_list_add(&l->overrides, word);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_seconds(const struct conf *plan, const char *name, uint64_t *ret, struct conf_error *e)
{
	int r = conf_optional_seconds(plan, name, 0, ret, e);

	if (r == 0 && *ret > WAIT_MAX_S)
		return conf_fail(conf_get(plan, name), e, "expected a time of at most 90d");
	return r;
}

int limits_read(const struct conf *plan, enum rollout_kind kind, struct plan_limits *ret, struct conf_error *e)
{
	int r = read_window(plan, ret, e);

	if (r == 0)
		r = read_blackouts(plan, ret, e);
	if (r == 0)
		r = read_seconds(plan, "notice", &ret->notice_s, e);
	if (r == 0)
		r = read_seconds(plan, "spread", &ret->spread_s, e);
	if (r == 0)
		r = read_disruption(plan, ret, e);
	if (r == 0)
		r = read_overrides(plan, kind, ret, e);
	if (r == 0 && conf_get(plan, "deadline"))
		r = read_moment(plan, "deadline", &ret->deadline, e);
	return r;
}

void limits_done(struct plan_limits *l)
{
	free(l->window);
	for (size_t i = 0; i < l->blackout_count; i++)
		free(l->blackouts[i].weekly);
	free(l->blackouts);
	free(l->disruption_label);
	string_list_done(&l->overrides);
	*l = (struct plan_limits){ 0 };
}

static void write_moment(struct json_node *o, const char *name, int64_t at)
{
	char stamp[TIMESTAMP_LEN + 1];

	timestamp_format(stamp, at);
	node_string(o, name, stamp);
}

static void write_blackouts(const struct plan_limits *l, struct json_node *parent)
{
	struct json_node *list;

	if (l->blackout_count == 0)
		return;
	list = node_array(parent, "blackout");
	for (size_t i = 0; i < l->blackout_count; i++) {
		const struct plan_blackout *b = &l->blackouts[i];
		struct json_node *o;

		if (b->weekly) {
			node_string(list, NULL, b->weekly);
			continue;
		}
		o = node_object(list, NULL);
		write_moment(o, "from", b->from);
		write_moment(o, "until", b->until);
	}
}

void limits_write(const struct plan_limits *l, struct json_node *plan)
{
	struct json_node *o;

	if (l->window)
		node_string(plan, "window", l->window);
	write_blackouts(l, plan);
	if (l->notice_s)
		node_integer(plan, "notice", (int64_t) l->notice_s);
	if (l->spread_s)
		node_integer(plan, "spread", (int64_t) l->spread_s);
	if (l->disruption_label) {
		o = node_object(plan, "disruption");
		node_string(o, "label", l->disruption_label);
		node_integer(o, "maximum", (int64_t) l->disruption_maximum);
	}
	if (l->overrides.count) {
		o = node_array(plan, "overrides");
		for (size_t i = 0; i < l->overrides.count; i++)
			node_string(o, NULL, l->overrides.items[i]);
	}
	if (l->deadline)
		write_moment(plan, "deadline", l->deadline);
}

int limits_document(const struct plan_limits *l, struct rollout *document)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *whole = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLLOUT_MAX_BYTES);
	int r;

	if (l->window)
		node_string(json_build_root(b), "window", l->window);
	write_blackouts(l, json_build_root(b));
	r = json_build_text(b, false, &text);
	if (r == 0)
		r = json_parse(text.data, text.len, &json_limits_default, &whole);
	if (r == 0 && l->window)
		r = json_copy(json_get(whole, "window"), &document->window);
	if (r == 0 && l->blackout_count)
		r = json_copy(json_get(whole, "blackout"), &document->blackout);
	if (r < 0)
		return r;
	document->notice_s = l->notice_s;
	document->spread_s = l->spread_s;
	if (l->disruption_label) {
		document->disruption.label = strdup(l->disruption_label);
		if (!document->disruption.label)
			return -ENOMEM;
		document->disruption.maximum = l->disruption_maximum;
	}
	document->deadline = l->deadline;
	for (size_t i = 0; r == 0 && i < l->overrides.count; i++)
		r = string_list_add(&document->overrides, l->overrides.items[i]);
	return r;
}
