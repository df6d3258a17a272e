#include "server-stub/rollout/hooks.h"

#include "base/err.h"
#include "base/timestamp.h"
#include "conf/conf.h"
#include "crypto/digest.h"
#include "json/build.h"
#include "json/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct hook_kind hook_kinds[] = {
	{ "rollout-started", true, "a rollout starts" },
	{ "stage", true, "a rollout opens a stage" },
	{ "rollout-done", true, "a rollout is done" },
	{ "rollout-stopped", true, "a rollout is halted, paused or replaced, by a gate or a person" },
	{ "rollout-changed", true,
	  "a person, or the plan, paused, resumed, halted, cancelled or undid a rollout" },
	{ "rollout-found", true, "a rollout that a restored backup does not know" },
	{ "gate-asks", true, "a gate asks a person" },
	{ "gate-answered", true, "a person answered a gate" },
	{ "approved", true, "an approver signed" },
	{ "skipped", true, "a rollout does not wait for a node any more, or does again" },
	{ "freeze", true, "a freeze is made or lifted" },
	{ "preflight-overridden", true, "a rollout started although a check fails" },
	{ "quarantine", true, "a node's key turned up twice" },
	{ "two-machines", true, "two machines take turns as one node" },
	{ "trusted", true, "a node is out of quarantine" },
	{ "enrolment-waits", true, "a new key asks to be a known node" },
	{ "secret-used-twice", true, "two machines came with one join file" },
	{ "backup-is-old", true, "nodes have seen what this controller has not" },
	{ "clock-set", true, "the controller's clock jumped: soaks begin again" },
	{ "order-to-confirm", true, "an order of a restored backup waits for a person" },
	{ "order", false, "an order of support to one node, or the end of it" },
	{ "published", false, "new metadata of a team" },
	{ "evidence", false, "what a command outside said of a release" },
	{ "result", false, "an update of a node that did not end well" },
	{ "good", false, "an update of a node that did" },
	{ "state", false, "a node's update goes on" },
	{ "dropped", false, "a node lost events of its own" },
	{ "enrolled", false, "a node got a certificate" },
	{ "enrolment-refused", false, "somebody asked for one in vain" },
	{ "node-added", false, "a node is added" },
	{ "node-removed", false, "a node is removed" },
	{ "place-freed", false, "a person freed the place of a node that was down" },
	{ "broker-certificate", false, "a certificate for a broker was made" },
	{ HOOK_TEST_KIND, false, "selfright notify test" },
	{ NULL, false, NULL },
};

/* --- the file --- */

void hooks_done(struct hooks *h)
{
	for (size_t i = 0; i < h->count; i++) {
		free(h->items[i].url);
		free(h->items[i].url_file);
		free(h->items[i].secret_file);
		free(h->items[i].ca_file);
		string_list_done(&h->items[i].events);
		string_list_done(&h->items[i].components);
	}
	free(h->proxy);
	*h = (struct hooks){ .count = 0 };
}

bool hook_url_is_fine(const char *url)
{
	const char *host = url && str_starts(url, "https://") ? url + strlen("https://") : NULL;

	if (!host || strlen(url) > HOOK_URL_MAX || *host == '/' || *host == '?' || !*host)
		return false;
	for (const char *c = host; *c; c++)
		if ((unsigned char) *c <= ' ' || (unsigned char) *c >= 0x7f || *c == '#' || *c == '\\')
			return false;
	/* Nobody's name and password: they would stand in logs. */
	return !memchr(host, '@', strcspn(host, "/?"));
}

static int copy_text(const char *text, char **ret)
{
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int read_path(const struct conf *map, const char *name, char **ret, struct conf_error *e)
{
	const struct conf *item = conf_get(map, name);

	if (!item)
		return 0;
	if (!conf_text(item) || conf_text(item)[0] != '/')
		return conf_fail(item, e, "expected '%s' as an absolute path, found '%s'", name,
				 conf_text(item) ? conf_text(item) : "");
	return copy_text(conf_text(item), ret);
}

/* "rollout-*" stands for every kind that begins so. */
static bool matches(const char *pattern, const char *kind)
{
	size_t len = strlen(pattern);

	if (len > 0 && pattern[len - 1] == '*')
		return strncmp(pattern, kind, len - 1) == 0;
	return strcmp(pattern, "all") == 0 || strcmp(pattern, kind) == 0;
}

static bool names_a_kind(const char *pattern)
{
	for (const struct hook_kind *k = hook_kinds; k->name; k++)
		if (matches(pattern, k->name))
			return true;
	return false;
}

static bool is_kind(const char *text)
{
	return text && names_a_kind(text);
}

static bool is_id(const char *text)
{
	return text && guard_id(text);
}

static int read_list(const struct conf *map, const char *name, bool (*is_fine)(const char *text), const char *what,
		     struct string_list *ret, struct conf_error *e)
{
	const struct conf *list = conf_get(map, name);
	int r = 0;

	if (!list)
		return 0;
	if (conf_kind(list) != CONF_LIST || conf_count(list) == 0)
		return conf_fail(list, e, "expected '%s' as a list of %s", name, what);
	for (size_t i = 0; r == 0 && i < conf_count(list); i++) {
		const char *text = conf_text(conf_at(list, i));

		if (!is_fine(text))
			return conf_fail(conf_at(list, i), e, "expected %s, found '%s'", what, text ? text : "");
		r = string_list_add(ret, text);
	}
	return r;
}

static const char *const format_names[HOOK_FORMAT_COUNT] = { "events", "text", "teams" };

/* `text_only: true` says `format: text` in files that are older than the others. */
static int read_format(const struct conf *map, enum hook_format *ret, struct conf_error *e)
{
	const struct conf *item = conf_get(map, "format");
	bool text_only = false;
	int r = conf_optional_bool(map, "text_only", false, &text_only, e);

	*ret = text_only ? HOOK_TEXT : HOOK_EVENTS;
	if (r < 0 || !item)
		return r;
	if (conf_get(map, "text_only"))
		return conf_fail(item, e, "expected one of format and text_only");
	for (int i = 0; i < HOOK_FORMAT_COUNT; i++)
		if (str_eq(conf_text(item), format_names[i])) {
			*ret = (enum hook_format) i;
			return 0;
		}
	return conf_fail(item, e, "expected 'format' as events, text or teams, found '%s'",
			 conf_text(item) ? conf_text(item) : "");
}

static int read_hook(const struct conf *map, const char *name, struct hook *h, struct conf_error *e)
{
	const struct conf *url;
	int r;

	if (conf_kind(map) != CONF_MAP || !guard_id(name))
		return conf_fail(map, e, "expected a hook, e.g. chat: {url: https://chat.example.org/hooks/4711}");
	snprintf(h->name, sizeof(h->name), "%s", name);
	url = conf_get(map, "url");
	r = read_path(map, "url_file", &h->url_file, e);
	if (r < 0)
		return r;
	if (!url == !h->url_file)
		return conf_fail(map, e, "expected one of url and url_file");
	if (url && !hook_url_is_fine(conf_text(url)))
		return conf_fail(url, e, "expected a URL like https://chat.example.org/hooks/4711, found '%s'",
				 conf_text(url) ? conf_text(url) : "");
	r = url ? copy_text(conf_text(url), &h->url) : 0;
	if (r == 0)
		r = read_path(map, "secret_file", &h->secret_file, e);
	if (r == 0)
		r = read_path(map, "ca_file", &h->ca_file, e);
	if (r == 0)
		r = read_list(map, "events", is_kind, "kinds of events (man selfright-notify.yaml)", &h->events,
			      e);
	if (r == 0)
		r = read_list(map, "components", is_id, "components' names", &h->components, e);
	if (r == 0)
		r = read_format(map, &h->format, e);
	return r < 0 ? r : conf_reject_unknown(map, e);
}

static bool is_proxy(const char *text)
{
	const char *host = !text			  ? NULL
			   : str_starts(text, "https://") ? text + strlen("https://")
			   : str_starts(text, "http://")  ? text + strlen("http://")
							  : NULL;

	return host && *host && *host != '/' && !strpbrk(text, " ?#@\\");
}

static int read_hooks(const struct conf *root, struct hooks *h, struct conf_error *e)
{
	const struct conf *map, *proxy;
	int r = 0;

	if (conf_kind(root) != CONF_MAP)
		return conf_fail(
			root, e,
			"expected hooks, e.g. {hooks: {chat: {url: https://chat.example.org/hooks/4711}}}");
	map = conf_get(root, "hooks");
	if (conf_kind(map) != CONF_MAP || conf_count(map) > HOOKS_MAX)
		return conf_fail(map ? map : root, e, "expected 'hooks', at most %d of them by name", HOOKS_MAX);
	proxy = conf_get(root, "proxy");
	if (proxy && !is_proxy(conf_text(proxy)))
		return conf_fail(proxy, e, "expected a URL like http://proxy.example.org:3128");
	if (proxy)
		r = copy_text(conf_text(proxy), &h->proxy);
	for (size_t i = 0; r == 0 && i < conf_count(map); i++) {
		const char *name = conf_key_at(map, i);

		r = read_hook(conf_get(map, name), name, &h->items[h->count++], e);
	}
	return r < 0 ? r : conf_reject_unknown(root, e);
}

int hooks_read(const struct conf *root, struct hooks *ret, struct conf_error *e)
{
	struct hooks h = { .count = 0 };
	int r = read_hooks(root, &h, e);

	if (r < 0) {
		hooks_done(&h);
		return r;
	}
	*ret = h;
	return 0;
}

int hooks_parse(const void *text, size_t len, const char *file, struct hooks *ret, struct conf_error *e)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	int r = conf_parse(text, len, file, &f, e);

	return r < 0 ? r : hooks_read(conf_root(f), ret, e);
}

/* --- what is told --- */

bool hook_wants(const struct hook *h, const struct hook_event *e)
{
	bool wanted = false;

	if (strcmp(e->kind, HOOK_TEST_KIND) == 0)
		return str_eq(e->component, h->name);
	for (size_t i = 0; i < h->events.count; i++)
		wanted = wanted || matches(h->events.items[i], e->kind);
	for (const struct hook_kind *k = hook_kinds; h->events.count == 0 && k->name; k++)
		wanted = wanted || (k->by_default && strcmp(k->name, e->kind) == 0);
	/* What is of no component, such as a freeze, is everybody's. */
	if (!wanted || h->components.count == 0 || !e->component)
		return wanted;
	return string_list_has(&h->components, e->component);
}

/* --- the message --- */

/*
 * What a character of a line is written as; NULL: as it is. Slack's markup needs these three as entities, and takes <!channel>
 * and <https://...> for what they are otherwise; an '@' calls people in Mattermost and Teams, so something invisible stands
 * behind it; a backquote or a bracket would be markup there. A card's Markdown shows an entity as it is written, so the
 * three become others that look like them, and further characters are markup in it. Control bytes, and with them further
 * lines, become spaces.
 */
static const char *written_as(char c, enum hook_format format)
{
	const bool card = format == HOOK_TEAMS;

	switch (c) {
	case '&':
		return card ? "+" : "&amp;";
	case '<':
		return card ? "(" : "&lt;";
	case '>':
		return card ? ")" : "&gt;";
	case '@':
		return "@\xe2\x80\x8b";
	case '[':
		return "(";
	case ']':
		return ")";
	case '`':
		return "'";
	case '*':
		return card ? "\xe2\x88\x97" : NULL;
	case '_':
		return card ? "\\_" : NULL;
	case '\\':
		return card ? "/" : NULL;
	case '{': /* {{DATE(...)}} is a function there */
		return card ? "(" : NULL;
	case '}':
		return card ? ")" : NULL;
	default:
		return (unsigned char) c < 0x20 || c == 0x7f ? " " : NULL;
	}
}

static int add_line(struct buf *out, const char *text, enum hook_format format)
{
	const char *as;
	int r = 0;

	for (const char *c = text; r == 0 && *c; c++) {
		size_t len = utf8_length(c, strlen(c));

		if (len != 1) { /* 0: the rest of a character that was cut */
			r = buf_add(out, c, len);
			c += len > 0 ? len - 1 : 0;
			continue;
		}
		as = written_as(*c, format);
		r = as ? buf_add_str(out, as) : buf_add(out, c, 1);
	}
	return r;
}

/* A sentence was cut to fit a place, and with it perhaps a character: without that it is no JSON. */
static int add_whole(struct buf *out, const char *text)
{
	int r = 0;

	while (r == 0 && *text) {
		size_t len = utf8_length(text, strlen(text));

		r = buf_add(out, text, len);
		text += len > 0 ? len : 1;
	}
	return r;
}

static int add_event_line(struct buf *out, const struct hook_event *e, enum hook_format format)
{
	int r = 0;

	if (e->node) {
		r = add_line(out, e->node, format);
		if (r == 0)
			r = buf_add_str(out, ": ");
	}
	if (r == 0 && e->component && strcmp(e->kind, HOOK_TEST_KIND) != 0) {
		r = add_line(out, e->component, format);
		if (r == 0)
			r = buf_add_str(out, ": ");
	}
	return r < 0 ? r : add_line(out, e->text ? e->text : e->kind, format);
}

/* One line after the other, without a newline; `add` gets each. */
static int write_lines(const struct hook *h, const char *fleet, const struct hook_event *events, size_t count,
		       uint64_t left_out, int (*add)(void *user, const char *line, bool first), void *user)
{
	CLEANUP(buf_done)
	struct buf line = BUF_INIT(HOOK_MESSAGE_MAX);
	size_t length;
	int r = buf_addf(&line, "fleet %s:", fleet);

	if (r == 0)
		r = add(user, buf_str(&line), true);
	length = line.len;
	for (size_t i = 0; r == 0 && i < count; i++) {
		buf_clear(&line);
		r = add_event_line(&line, &events[i], h->format);
		length += line.len + 1;
		if (r == 0 && length > HOOK_TEXT_MAX) {
			buf_clear(&line);
			r = buf_addf(&line, "and %zu more", count - i);
			if (r == 0)
				r = add(user, buf_str(&line), false);
			break;
		}
		if (r == 0)
			r = add(user, buf_str(&line), false);
	}
	buf_clear(&line);
	if (r == 0 && left_out > 0)
		r = buf_addf(&line, "%" PRIu64 " older ones are left out: they could not be told in time",
			     left_out);
	return r == 0 && line.len > 0 ? add(user, buf_str(&line), false) : r;
}

static int add_to_text(void *user, const char *line, bool first)
{
	struct buf *text = user;
	int r = first ? 0 : buf_add_str(text, "\n");

	return r < 0 ? r : buf_add_str(text, line);
}

static int add_to_card(void *user, const char *line, bool first)
{
	struct json_node *block = node_object(user, NULL);

	node_string(block, "type", "TextBlock");
	node_string(block, "text", line);
	node_bool(block, "wrap", true);
	if (first)
		node_string(block, "weight", "Bolder");
	else
		node_string(block, "spacing", "Small");
	return 0;
}

/* What a flow "when a Teams webhook request is received" takes: a message whose attachments are Adaptive Cards. */
static int write_card(const struct hook *h, const char *fleet, const struct hook_event *events, size_t count,
		      uint64_t left_out, struct json_node *o)
{
	struct json_node *attachment, *card;

	node_string(o, "type", "message");
	attachment = node_object(node_array(o, "attachments"), NULL);
	node_string(attachment, "contentType", "application/vnd.microsoft.card.adaptive");
	card = node_object(attachment, "content");
	node_string(card, "$schema", "http://adaptivecards.io/schemas/adaptive-card.json");
	node_string(card, "type", "AdaptiveCard");
	node_string(card, "version", "1.2");
	return write_lines(h, fleet, events, count, left_out, add_to_card, node_array(card, "body"));
}

int hook_message(const struct hook *h, const char *fleet, const struct hook_event *events, size_t count,
		 uint64_t left_out, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(HOOK_MESSAGE_MAX);
	struct json_node *o = json_build_root(b), *list;
	char at[TIMESTAMP_LEN + 1];
	int r = h->format == HOOK_TEAMS ? write_card(h, fleet, events, count, left_out, o)
					: write_lines(h, fleet, events, count, left_out, add_to_text, &text);

	if (r < 0)
		return r;
	if (h->format == HOOK_TEAMS)
		return json_build_text(b, false, out);
	node_string(o, "text", buf_str(&text));
	if (h->format == HOOK_TEXT)
		return json_build_text(b, false, out);
	node_string(o, "fleet", fleet);
	node_integer(o, "left_out", (int64_t) left_out);
	list = node_array(o, "events");
	for (size_t i = 0; i < count; i++) {
		CLEANUP(buf_done)
		struct buf whole = BUF_INIT(HOOK_MESSAGE_MAX);
		struct json_node *e = node_object(list, NULL);

		r = add_whole(&whole, events[i].text ? events[i].text : "");
		if (r < 0)
			return r;
		timestamp_format(at, events[i].at);
		node_integer(e, "id", events[i].id);
		node_string(e, "at", at);
		node_string(e, "kind", events[i].kind);
		node_string(e, "node", events[i].node);
		node_string(e, "component", events[i].component);
		node_string(e, "text", buf_str(&whole));
	}
	return json_build_text(b, false, out);
}

int hook_sign(const void *secret, size_t secret_len, int64_t at, const void *body, size_t len, struct buf *out)
{
	CLEANUP(buf_done)
	struct buf signed_text = BUF_INIT(HOOK_MESSAGE_MAX + 64);
	uint8_t mac[SHA256_BYTES];
	char hex[SHA256_HEX + 1];
	int r = buf_addf(&signed_text, "%" PRId64 ".", at);

	if (r == 0)
		r = buf_add(&signed_text, body, len);
	if (r == 0)
		r = hmac_sha256(secret, secret_len, signed_text.data, signed_text.len, mac);
	if (r < 0)
		return r;
	hex_encode(hex, mac, sizeof(mac));
	return buf_addf(out, "t=%" PRId64 ",v1=%s", at, hex);
}
