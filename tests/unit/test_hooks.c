/* What server-stub/rollout/hooks.h promises: the file, who is told what, and messages that say nothing else. */
#include "server-stub/rollout/hooks.h"

#include "base/err.h"
#include "conf/conf.h"
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct hooks read_hooks(const char *text)
{
	struct hooks h;
	struct conf_error e = { "" };

	if (hooks_parse(text, strlen(text), "notify.yaml", &h, &e) < 0)
		fail_msg("%s", e.text);
	return h;
}

static void a_whole_file_is_read(void **state)
{
	struct hooks h = read_hooks("hooks:\n"
				    "  chat: {url_file: /etc/selfright/chat, text_only: true}\n"
				    "  siem:\n"
				    "    url: https://siem.example.org:8443/in?a=b\n"
				    "    secret_file: /etc/selfright/siem\n"
				    "    ca_file: /etc/ssl/own.pem\n"
				    "    events: [all]\n"
				    "    components: [web, dns]\n"
				    "  ops: {url: https://flow.example.org/x, format: teams}\n"
				    "  plain: {url: https://flow.example.org/y, format: text}\n"
				    "  same: {url: https://flow.example.org/z, text_only: false}\n"
				    "proxy: http://proxy.example.org:3128\n");

	(void) state;
	assert_int_equal(h.count, 5);
	assert_string_equal(h.items[0].name, "chat");
	assert_string_equal(h.items[0].url_file, "/etc/selfright/chat");
	assert_null(h.items[0].url);
	assert_int_equal(h.items[0].format, HOOK_TEXT);
	assert_int_equal(h.items[1].format, HOOK_EVENTS);
	assert_int_equal(h.items[2].format, HOOK_TEAMS);
	assert_int_equal(h.items[3].format, HOOK_TEXT);
	assert_int_equal(h.items[4].format, HOOK_EVENTS);
	assert_string_equal(h.items[1].url, "https://siem.example.org:8443/in?a=b");
	assert_string_equal(h.items[1].secret_file, "/etc/selfright/siem");
	assert_string_equal(h.items[1].ca_file, "/etc/ssl/own.pem");
	assert_int_equal(h.items[1].events.count, 1);
	assert_int_equal(h.items[1].components.count, 2);
	assert_string_equal(h.proxy, "http://proxy.example.org:3128");
	hooks_done(&h);
	assert_int_equal(h.count, 0);
}

static void mistakes_are_named(void **state)
{
	static const struct {
		const char *text, *complaint;
	} rows[] = {
		{ "- x\n", "expected" },
		{ "proxy: http://p\n", "expected 'hooks'" },
		{ "hooks: {}\nproxi: x\n", "proxi" },
		{ "hooks: {chat: }\n", "expected a hook" },
		{ "hooks: {Chat: {url: https://a/}}\n", "expected a hook" },
		{ "hooks: {chat: {events: [all]}}\n", "one of url and url_file" },
		{ "hooks: {chat: {url: https://a/, url_file: /b}}\n", "one of url and url_file" },
		{ "hooks: {chat: {url: http://a/}}\n", "expected a URL" },
		{ "hooks: {chat: {url: https://me:secret@a/}}\n", "expected a URL" },
		{ "hooks: {chat: {url: 'https://a/ b'}}\n", "expected a URL" },
		{ "hooks: {chat: {url: 'https:///x'}}\n", "expected a URL" },
		{ "hooks: {chat: {url: https://a/, secret: x}}\n", "secret" },
		{ "hooks: {chat: {url: https://a/, secret_file: x}}\n", "absolute path" },
		{ "hooks: {chat: {url: https://a/, events: rollout-done}}\n", "a list" },
		{ "hooks: {chat: {url: https://a/, events: []}}\n", "a list" },
		{ "hooks: {chat: {url: https://a/, events: [rollout-dun]}}\n", "found 'rollout-dun'" },
		{ "hooks: {chat: {url: https://a/, events: [rolout-*]}}\n", "found 'rolout-*'" },
		{ "hooks: {chat: {url: https://a/, components: [Web]}}\n", "found 'Web'" },
		{ "hooks: {chat: {url: https://a/, text_only: perhaps}}\n", "text_only" },
		{ "hooks: {chat: {url: https://a/, format: card}}\n", "found 'card'" },
		{ "hooks: {chat: {url: https://a/, format: [teams]}}\n", "'format' as events, text or teams" },
		{ "hooks: {chat: {url: https://a/, format: teams, text_only: true}}\n",
		  "one of format and text_only" },
		{ "hooks: {chat: {url: https://a/}}\nproxy: proxy.example.org\n", "expected a URL" },
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct hooks h = { .count = 99 };
		struct conf_error e = { "" };

		assert_int_equal(hooks_parse(rows[i].text, strlen(rows[i].text), "notify.yaml", &h, &e),
				 -ERR_CONFIG);
		if (!strstr(e.text, rows[i].complaint) || strncmp(e.text, "notify.yaml", 11) != 0)
			fail_msg("of '%s' it says: %s", rows[i].text, e.text);
		assert_int_equal(h.count, 99); /* untouched */
	}
}

static bool wants(const char *settings, const char *kind, const char *component)
{
	char text[400];
	struct hooks h;
	bool wanted;

	snprintf(text, sizeof(text), "hooks: {chat: {url: https://a/%s%s}}\n", *settings ? ", " : "", settings);
	h = read_hooks(text);
	wanted = hook_wants(&h.items[0], &(struct hook_event){ .kind = kind, .component = component, .text = "" });
	hooks_done(&h);
	return wanted;
}

static void who_is_told_what(void **state)
{
	(void) state;
	/* By default what a person may want to act on. */
	assert_true(wants("", "rollout-stopped", "web"));
	assert_true(wants("", "gate-asks", "web"));
	assert_true(wants("", "quarantine", NULL));
	assert_false(wants("", "state", "web"));
	assert_false(wants("", "good", "web"));
	assert_false(wants("", "a-kind-of-tomorrow", "web"));
	/* By kind, by beginning, or everything. */
	assert_true(wants("events: [result]", "result", "web"));
	assert_false(wants("events: [result]", "rollout-stopped", "web"));
	assert_true(wants("events: ['rollout-*']", "rollout-done", "web"));
	assert_false(wants("events: ['rollout-*']", "stage", "web"));
	assert_true(wants("events: [all]", "a-kind-of-tomorrow", NULL));
	/* By component; what is of none is everybody's. */
	assert_true(wants("components: [web]", "rollout-done", "web"));
	assert_false(wants("components: [web]", "rollout-done", "dns"));
	assert_true(wants("components: [web]", "freeze", NULL));
	/* A test is for the hook it names, whatever that filters. */
	assert_true(wants("events: [result], components: [web]", HOOK_TEST_KIND, "chat"));
	assert_false(wants("events: [all]", HOOK_TEST_KIND, "siem"));
}

static void kinds_are_told_apart(void **state)
{
	(void) state;
	for (const struct hook_kind *k = hook_kinds; k->name; k++) {
		assert_true(*k->help != '\0');
		for (const struct hook_kind *other = k + 1; other->name; other++)
			assert_string_not_equal(k->name, other->name);
	}
}

/* The message as whoever gets it reads it. */
static struct json *message(enum hook_format format, const struct hook_event *events, size_t count,
			    uint64_t left_out)
{
	const struct hook h = { .name = "chat", .format = format };
	struct buf out = BUF_INIT(HOOK_MESSAGE_MAX);
	struct json *doc = NULL;

	assert_int_equal(hook_message(&h, "demo", events, count, left_out, &out), 0);
	assert_int_equal(json_parse(out.data, out.len, &json_limits_default, &doc), 0);
	buf_done(&out);
	return doc;
}

static void a_message_is_for_people_and_programs(void **state)
{
	const struct hook_event events[] = {
		{ .id = 7,
		  .at = 1790000000,
		  .kind = "rollout-stopped",
		  .component = "web",
		  .text = "rollout web-1-1-0 is halted: 2 nodes failed" },
		{ .id = 9,
		  .at = 1790000001,
		  .kind = "quarantine",
		  .node = "oslo-1",
		  .text = "its key came twice" },
	};
	struct json *doc = message(HOOK_EVENTS, events, 2, 3);
	const struct json *list = json_get(doc, "events");
	int64_t id;

	(void) state;
	assert_string_equal(
		json_string(json_get(doc, "text")),
		"fleet demo:\nweb: rollout web-1-1-0 is halted: 2 nodes failed\n"
		"oslo-1: its key came twice\n3 older ones are left out: they could not be told in time");
	assert_string_equal(json_string(json_get(doc, "fleet")), "demo");
	assert_int_equal(json_count(list), 2);
	assert_true(json_integer(json_get(json_at(list, 1), "id"), &id) && id == 9);
	assert_string_equal(json_string(json_get(json_at(list, 0), "at")), "2026-09-21T14:13:20Z");
	assert_string_equal(json_string(json_get(json_at(list, 0), "kind")), "rollout-stopped");
	assert_string_equal(json_string(json_get(json_at(list, 1), "node")), "oslo-1");
	json_free(doc);
	doc = message(HOOK_TEXT, events, 2, 0);
	assert_int_equal(json_count(doc), 1);
	assert_non_null(json_get(doc, "text"));
	json_free(doc);
}

static void what_others_wrote_stays_words(void **state)
{
	const struct hook_event hostile = {
		.id = 1,
		.kind = "result",
		.node = "n1",
		.text = "<!channel> @all [click](https://evil.example/) `x` & \n# news\r\t\x1b[31m"
			"\xe2\x82\xac \xf0\x9f\x98\x80 cut \xe2\x82"
	};
	struct json *doc = message(HOOK_EVENTS, &hostile, 1, 0);

	(void) state;
	assert_string_equal(
		json_string(json_get(doc, "text")),
		"fleet demo:\nn1: &lt;!channel&gt; @\xe2\x80\x8b"
		"all (click)(https://evil.example/) 'x' &amp;  # news   (31m\xe2\x82\xac \xf0\x9f\x98\x80 cut ");
	/* Programs get it as it was, but for the half of a character. */
	assert_non_null(
		strstr(json_string(json_get(json_at(json_get(doc, "events"), 0), "text")), "<!channel> @all ["));
	json_free(doc);
}

/* The n-th line of the card, whose form is what Workflows of Teams take. */
static const char *card_line(const struct json *doc, size_t n)
{
	const struct json *attachment = json_at(json_get(doc, "attachments"), 0),
			  *card = json_get(attachment, "content"), *block = json_at(json_get(card, "body"), n);

	assert_int_equal(json_count(doc), 2);
	assert_string_equal(json_string(json_get(doc, "type")), "message");
	assert_int_equal(json_count(json_get(doc, "attachments")), 1);
	assert_string_equal(json_string(json_get(attachment, "contentType")),
			    "application/vnd.microsoft.card.adaptive");
	assert_string_equal(json_string(json_get(card, "type")), "AdaptiveCard");
	assert_string_equal(json_string(json_get(card, "version")), "1.2");
	if (!block)
		return NULL;
	assert_string_equal(json_string(json_get(block, "type")), "TextBlock");
	assert_true(json_bool(json_get(block, "wrap"), false));
	return json_string(json_get(block, "text"));
}

static void a_card_for_teams(void **state)
{
	const struct hook_event events[] = {
		{ .kind = "rollout-done", .component = "web", .text = "rollout web_1 is done" },
		{ .kind = "result",
		  .node = "n1",
		  .text = "<at>all</at> @all [click](https://evil.example/) **x** `y` \\* {{DATE(1)}} &\n# news" },
	};
	struct json *doc = message(HOOK_TEAMS, events, 2, 3);

	(void) state;
	assert_string_equal(card_line(doc, 0), "fleet demo:");
	assert_string_equal(card_line(doc, 1), "web: rollout web\\_1 is done");
	/* Nothing of it is markup, a mention, a function or a second line. */
	assert_string_equal(
		card_line(doc, 2),
		"n1: (at)all(/at) @\xe2\x80\x8b"
		"all (click)(https://evil.example/) \xe2\x88\x97\xe2\x88\x97x\xe2\x88\x97\xe2\x88\x97 'y' "
		"/\xe2\x88\x97 ((DATE(1))) + # news");
	assert_string_equal(card_line(doc, 3), "3 older ones are left out: they could not be told in time");
	assert_null(card_line(doc, 4));
	json_free(doc);
}

/* Teams takes 28 KB. */
static void the_largest_card_fits(void **state)
{
	struct hook_event events[HOOK_EVENTS_MAX];
	const struct hook h = { .name = "ops", .format = HOOK_TEAMS };
	struct buf out = BUF_INIT(HOOK_MESSAGE_MAX);
	char line[170];

	(void) state;
	memset(line, '"', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	for (size_t i = 0; i < HOOK_EVENTS_MAX; i++)
		events[i] = (struct hook_event){ .id = (int64_t) i, .kind = "result", .text = line };
	assert_int_equal(hook_message(&h, "demo", events, HOOK_EVENTS_MAX, 7, &out), 0);
	assert_in_range(out.len, 2 * 20 * 169, 28 * 1024);
	buf_done(&out);
}

static void much_is_cut_for_people(void **state)
{
	struct hook_event events[HOOK_EVENTS_MAX];
	char *line = calloc(1, 1001);
	const char *text;
	struct json *doc;

	(void) state;
	assert_non_null(line);
	memset(line, 'x', 1000);
	for (size_t i = 0; i < HOOK_EVENTS_MAX; i++)
		events[i] = (struct hook_event){ .id = (int64_t) i, .kind = "result", .text = line };
	doc = message(HOOK_EVENTS, events, HOOK_EVENTS_MAX, 0);
	text = json_string(json_get(doc, "text"));
	assert_true(strlen(text) < HOOK_TEXT_MAX + 100);
	assert_non_null(strstr(text, "\nand 17 more"));
	assert_int_equal(json_count(json_get(doc, "events")), HOOK_EVENTS_MAX);
	json_free(doc);
	free(line);
}

static void too_much_is_said_to_be(void **state)
{
	const struct hook h = { .name = "chat" };
	struct buf out = BUF_INIT(1000);
	char line[1200];
	const struct hook_event e = { .id = 1, .kind = "result", .text = line };

	(void) state;
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	assert_int_equal(hook_message(&h, "demo", &e, 1, 0, &out), -ERR_TOO_LARGE);
	assert_int_equal(out.len, 0);
	buf_done(&out);
}

static void it_is_signed(void **state)
{
	struct buf out = BUF_INIT(256);

	(void) state;
	/* printf '1790000000.{"text":"x"}' | openssl dgst -sha256 -hmac 0123456789abcdef */
	assert_int_equal(hook_sign("0123456789abcdef", 16, 1790000000, "{\"text\":\"x\"}", 12, &out), 0);
	assert_string_equal(buf_str(&out),
			    "t=1790000000,v1=c95e547ace5e47458c5688467d7bcecd7c7ea7cba31a872b8081cf309a116495");
	buf_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_file_is_read),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(who_is_told_what),
		cmocka_unit_test(kinds_are_told_apart),
		cmocka_unit_test(a_message_is_for_people_and_programs),
		cmocka_unit_test(what_others_wrote_stays_words),
		cmocka_unit_test(a_card_for_teams),
		cmocka_unit_test(the_largest_card_fits),
		cmocka_unit_test(much_is_cut_for_people),
		cmocka_unit_test(too_much_is_said_to_be),
		cmocka_unit_test(it_is_signed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
