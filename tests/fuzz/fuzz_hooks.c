/* notify.yaml from anybody, and events of any text: what is read is within its limits, and a message is JSON that calls nobody. */
#include "base/err.h"
#include "conf/conf.h"
#include "json/json.h"
#include "server-stub/rollout/hooks.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_no_markup(const char *shown, const char *forbidden)
{
	if (!shown || strpbrk(shown, forbidden) || strlen(shown) > HOOK_TEXT_MAX + 200)
		abort();
	for (const char *at = strchr(shown, '@'); at; at = strchr(at + 1, '@'))
		if (strncmp(at + 1, "\xe2\x80\x8b", 3) != 0)
			abort();
}

static void look_at_card(const struct json *doc)
{
	const struct json *body = json_get(json_get(json_at(json_get(doc, "attachments"), 0), "content"), "body");

	if (json_count(body) < 2)
		abort();
	for (size_t i = 0; i < json_count(body); i++)
		expect_no_markup(json_string(json_get(json_at(body, i), "text")), "<>[]`*{}\n");
}

static void write_message(const char *text, enum hook_format format)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(HOOK_MESSAGE_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct hook h = { .name = "chat", .format = format };
	const struct hook_event e = { .id = 1, .kind = "result", .node = "n1", .component = "web", .text = text };
	int r = hook_message(&h, "demo", &e, 1, 0, &out);

	if (r == -ERR_TOO_LARGE)
		return;
	if (r < 0 || json_parse(out.data, out.len, &json_limits_default, &doc) < 0)
		abort();
	if (format == HOOK_TEAMS)
		look_at_card(doc);
	else
		expect_no_markup(json_string(json_get(doc, "text")), "<>[]`");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf_error e = { "" };
	struct hooks h;
	char *text = malloc(size + 1);
	int r = hooks_parse(data, size, "notify", &h, &e);

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	for (int i = 0; i < HOOK_FORMAT_COUNT; i++)
		write_message(text, (enum hook_format) i);
	free(text);
	if (r == -ERR_CONFIG && !e.text[0])
		abort();
	if (r < 0)
		return 0;
	if (h.count > HOOKS_MAX)
		abort();
	for (size_t i = 0; i < h.count; i++) {
		const struct hook *k = &h.items[i];

		if (!guard_id(k->name) || !k->url == !k->url_file || (k->url && !hook_url_is_fine(k->url)) ||
		    (k->url_file && k->url_file[0] != '/') || (k->secret_file && k->secret_file[0] != '/'))
			abort();
	}
	hooks_done(&h);
	return 0;
}
