/*
 * hooks - who outside is told what happens in the fleet: DIR/notify.yaml, and the messages.
 *
 *   hooks:
 *     chat: {url_file: /etc/selfright/chat-hook, text_only: true}
 *     siem: {url: https://siem.example.org/in, secret_file: /etc/selfright/siem-secret, events: [all]}
 *     web-team: {url: https://chat.example.org/hooks/4711, events: [rollout-*, gate-asks], components: [web]}
 *     ops: {url_file: /etc/selfright/teams-workflow, format: teams}
 *   proxy: http://proxy.example.org:3128
 *
 * A message is a JSON object with `text`, which incoming webhooks of Slack, Mattermost and the like show, and
 * the events themselves for programs; or, for the Workflows of Teams, which take nothing else, an Adaptive Card. What nodes
 * and people wrote is shown, and never becomes a link, a mention or a line of its own there.
 */
#ifndef SELFRIGHT_ROLLOUT_HOOKS_H
#define SELFRIGHT_ROLLOUT_HOOKS_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"
#include "model/release.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf;
struct conf_error;

enum {
	HOOKS_MAX = 16,
	HOOK_EVENTS_MAX = 20, /* in one message */
	HOOK_MESSAGE_MAX = 64 * 1024,
	HOOK_TEXT_MAX = 3500, /* of `text`: what every chat takes; the events are whole */
	HOOK_URL_MAX = 2000,
	HOOK_SECRET_MIN = 16,
	HOOK_SECRET_MAX = 4096,
};

/* The event that `selfright notify test` makes; its component member names the hook, which takes it whatever it filters. */
#define HOOK_TEST_KIND "notify-test"

enum hook_format {
	HOOK_EVENTS, /* text and events */
	HOOK_TEXT, /* nothing but `text`: for servers that refuse what they do not know */
	HOOK_TEAMS, /* a message with an Adaptive Card */
	HOOK_FORMAT_COUNT
};

struct hook {
	char name[ID_MAX + 1];
	char *url, *url_file; /* one of them */
	char *secret_file, *ca_file; /* NULL: not signed; the system's CAs */
	struct string_list events,
		components; /* kinds, perhaps with a last '*'; none: those that are told by default, of every component */
	enum hook_format format;
};

struct hooks {
	struct hook items[HOOKS_MAX];
	size_t count;
	char *proxy; /* NULL: none */
};

/* `ret` is the caller's (hooks_done) only after 0. -ERR_CONFIG, -ENOMEM. */
NODISCARD int hooks_read(const struct conf *root, struct hooks *ret, struct conf_error *e);
NODISCARD int hooks_parse(const void *text, size_t len, const char *file, struct hooks *ret, struct conf_error *e);
void hooks_done(struct hooks *h);

/* https, printable, without a fragment or anybody's password. */
bool hook_url_is_fine(const char *url);

/* Kinds of events there are; NULL behind the last. */
extern const struct hook_kind {
	const char *name;
	bool by_default; /* somebody may want to do something, or to know that it is done */
	const char *help;
} hook_kinds[];

struct hook_event {
	int64_t id, at;
	const char *kind, *node, *component, *text; /* node, component: may be NULL */
};

/* Is the hook told of it? */
bool hook_wants(const struct hook *h, const struct hook_event *e);

/* The message for at most HOOK_EVENTS_MAX events, appended; `left_out`: older ones that nobody waits for any more. */
NODISCARD int hook_message(const struct hook *h, const char *fleet, const struct hook_event *events, size_t count,
			   uint64_t left_out, struct buf *out);

/*
 * The value of the header Selfright-Signature, appended: "t=<seconds>,v1=<hex>", HMAC-SHA-256 with the secret over
 * "<seconds>.<body>". Whoever gets it compares in constant time, and refuses a `t` that is minutes away.
 */
NODISCARD int hook_sign(const void *secret, size_t secret_len, int64_t at, const void *body, size_t len,
			struct buf *out);

#endif
