/*
 * selfright-notify - tell one server outside what happened in the fleet.
 *
 * The controller talks to no stranger and waits for none: `selfright serve` starts this program for each message, with
 * the message on standard input, and reads one line of JSON. What the server answers is read here, confined, with
 * limits and a deadline.
 */
#include "base/err.h"
#include "base/text.h"
#include "fetch/fetch.h"
#include "json/build.h"
#include "json/json.h"
#include "model/report.h"
#include "os/confine.h"
#include "os/durable.h"
#include "os/os.h"
#include "server-stub/rollout/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	STATUS_USAGE = 2,
	INPUT_MAX = 4 * HOOK_MESSAGE_MAX,
	CA_MAX = 1024 * 1024,
	ANSWER_MAX = 4096, /* of what the server says; the beginning is shown */
	SHOWN = 200,
	REASON_MAX = 512,
	DESCRIPTORS_MAX = 64,
	MEMORY_MAX = 512 * 1024 * 1024, /* address space */
	TIMEOUT_MS = 15000,
};

static const char usage[] =
	"Usage: selfright-notify <message\n"
	"\n"
	"Tell one server outside what happened in the fleet. Started by `selfright serve`; the message is JSON "
	"on\n"
	"standard input, the answer a line of JSON.\n"
	"\n"
	"  --help, --version\n"
	"\n"
	"Exit codes: 0 there is an answer, also if it is that nobody took it; 1 failed; 2 wrong usage.\n"
	"\n"
	"Example: what a webhook would get\n"
	"  echo '{\"url\": \"https://chat.example.org/hooks/4711\", \"body\": \"{\\\"text\\\":\\\"hello\\\"}\"}' "
	"|\n"
	"    selfright-notify\n";

struct message {
	const char *url, *url_file, *secret_file, *ca_file, *proxy; /* NULL: none */
	const char *body;
};

/* What it needs of the system, read before it is confined. */
struct ready {
	struct buf url, secret, ca, signature;
};

static void ready_done(struct ready *w)
{
	if (w->secret.data)
		explicit_bzero(w->secret.data, w->secret.len);
	buf_done(&w->url);
	buf_done(&w->secret);
	buf_done(&w->ca);
	buf_done(&w->signature);
}

/* A file of one line, whose last newline and spaces are none of it. */
static int read_line(const char *path, size_t max, struct buf *ret)
{
	int r = file_read(&os_posix, AT_FDCWD, path, max, ret);

	while (r == 0 && ret->len > 0 && strchr("\r\n \t", ret->data[ret->len - 1]))
		ret->len--;
	if (ret->data)
		ret->data[ret->len] = '\0';
	return r;
}

static int make_ready(const struct message *m, struct ready *w, char why[static REASON_MAX])
{
	int r = m->url_file ? read_line(m->url_file, HOOK_URL_MAX + 2, &w->url) : buf_add_str(&w->url, m->url);

	if (r < 0) {
		snprintf(why, REASON_MAX, "the file with its address, %s: %s", m->url_file ? m->url_file : "",
			 err_text(r));
		return r;
	}
	if (!hook_url_is_fine(buf_str(&w->url))) {
		/* Not shown: who has the address of a chat can write there. */
		snprintf(why, REASON_MAX, "its address is no URL that begins with https://");
		return -ERR_CONFIG;
	}
	if (m->ca_file) {
		r = file_read(&os_posix, AT_FDCWD, m->ca_file, CA_MAX, &w->ca);
		if (r < 0) {
			snprintf(why, REASON_MAX, "%s: %s", m->ca_file, err_text(r));
			return r;
		}
	}
	if (!m->secret_file)
		return 0;
	r = read_line(m->secret_file, HOOK_SECRET_MAX, &w->secret);
	if (r == 0 && w->secret.len < HOOK_SECRET_MIN) {
		snprintf(why, REASON_MAX, "%s: a secret has at least %d bytes", m->secret_file, HOOK_SECRET_MIN);
		return -ERR_CONFIG;
	}
	if (r == 0)
		r = buf_add_str(&w->signature, "Selfright-Signature: ");
	if (r == 0)
		r = hook_sign(w->secret.data, w->secret.len, os_posix.clock_real(&os_posix), m->body,
			      strlen(m->body), &w->signature);
	if (r < 0)
		snprintf(why, REASON_MAX, "the file with its secret, %s: %s", m->secret_file, err_text(r));
	return r;
}

/* Read what a client reads, and nothing else; no program starts, nothing is written. */
static int confine(void)
{
	int r = confine_limits(MEMORY_MAX, DESCRIPTORS_MAX);

	if (r == 0)
		r = confine_client(NULL, 0, NULL, 0);
	return r < 0 ? r : 0;
}

/* What the server said is a stranger's; its beginning may help whoever set the hook up. */
static void show_answer(long status, uint64_t retry_after, const struct buf *answer, char why[static REASON_MAX])
{
	char asks[80] = "";

	CLEANUP(buf_done)
	struct buf clean = BUF_INIT(ANSWER_MAX);
	size_t len = answer->len < SHOWN ? answer->len : SHOWN;

	if (len == 0 || printable_tail(buf_str(answer), len, SHOWN, &clean) < 0)
		buf_clear(&clean);
	for (size_t i = 0; i < clean.len; i++)
		if (clean.data[i] == '\n')
			clean.data[i] = ' ';
	if (retry_after > 0)
		snprintf(asks, sizeof(asks), ", and asks to be left alone for %" PRIu64 " s", retry_after);
	snprintf(why, REASON_MAX, "the server answered %ld%s%s%s%s", status, asks, clean.len ? ": " : "",
		 buf_str(&clean), status / 100 == 3 ? " (redirections are not followed)" : "");
}

struct answered {
	long status; /* 0: nothing */
	uint64_t retry_after; /* seconds that the server asks for, within bounds; 0: none */
};

static int post(const struct message *m, struct ready *w, struct answered *ret, char why[static REASON_MAX])
{
	CLEANUP(buf_done)
	struct buf base = BUF_INIT(HOOK_URL_MAX + 1), path = BUF_INIT(HOOK_URL_MAX + 2),
		   answer = BUF_INIT(ANSWER_MAX);
	CLEANUP(http_closep)
	struct http *http = NULL;
	struct http_response response = { 0 };
	const char *url = buf_str(&w->url), *header = buf_str(&w->signature);
	size_t end = strlen("https://") + strcspn(url + strlen("https://"), "/?");
	struct http_options o = {
		.proxy = m->proxy ? m->proxy : "",
		.ca_pem = m->ca_file ? buf_str(&w->ca) : NULL,
		.user_agent = "selfright/" SELFRIGHT_VERSION,
		.connect_timeout_ms = TIMEOUT_MS,
		.cut_body = true,
		.headers = &header,
		.header_count = w->signature.len > 0,
	};
	int r = buf_add(&base, url, end);

	if (r == 0 && url[end] != '/')
		r = buf_add_str(&path, "/");
	if (r == 0)
		r = buf_add_str(&path, url + end);
	if (r == 0)
		r = confine();
	o.base_url = buf_str(&base);
	if (r == 0)
		r = http_open(&o, &http);
	if (r < 0) {
		snprintf(why, REASON_MAX, "it cannot be asked: %s", err_text(r));
		return r;
	}
	r = http_request(http, "POST", buf_str(&path), "application/json", m->body, strlen(m->body), TIMEOUT_MS,
			 &response, &answer);
	if (r < 0) {
		snprintf(why, REASON_MAX, "%s", http_error(http));
		return r;
	}
	*ret = (struct answered){ response.status, http_retry_after_s(http) };
	if (response.status / 100 == 2)
		return 0;
	show_answer(response.status, ret->retry_after, &answer, why);
	return -ERR_HTTP_STATUS;
}

static int read_message(const struct json *doc, struct message *m)
{
	m->url = json_string(json_get(doc, "url"));
	m->url_file = json_string(json_get(doc, "url_file"));
	m->secret_file = json_string(json_get(doc, "secret_file"));
	m->ca_file = json_string(json_get(doc, "ca_file"));
	m->proxy = json_string(json_get(doc, "proxy"));
	m->body = json_string(json_get(doc, "body"));
	return m->body && !m->url != !m->url_file ? 0 : -ERR_FIELD_MISSING;
}

static int say(bool taken, const struct answered *a, const char *why)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4 * REASON_MAX), words = BUF_INIT(REASON_MAX);
	int r = printable_tail(why, strlen(why), REASON_MAX - 1, &words);

	node_bool(json_build_root(b), "taken", taken);
	node_integer(json_build_root(b), "status", a->status);
	if (a->retry_after > 0)
		node_integer(json_build_root(b), "retry_after", (int64_t) a->retry_after);
	node_string(json_build_root(b), "text", buf_str(&words));
	if (r == 0)
		r = json_build_text(b, false, &text);
	if (r < 0) {
		fprintf(stderr, "selfright-notify: %s\n", err_text(r));
		return EXIT_FAILURE;
	}
	return printf("%s\n", buf_str(&text)) > 0 && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	CLEANUP(buf_done)
	struct buf input = BUF_INIT(INPUT_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(ready_done)
	struct ready w = { .url = BUF_INIT(HOOK_URL_MAX + 2),
			   .secret = BUF_INIT(HOOK_SECRET_MAX),
			   .ca = BUF_INIT(CA_MAX),
			   .signature = BUF_INIT(256) };
	struct message m = { .url = NULL };
	char why[REASON_MAX] = "";
	struct answered answered = { .status = 0 };
	int r;

	if (argc > 1) {
		bool help = strcmp(argv[1], "--help") == 0;

		if (strcmp(argv[1], "--version") == 0) {
			puts("selfright-notify " SELFRIGHT_VERSION);
			return EXIT_SUCCESS;
		}
		fputs(usage, help ? stdout : stderr);
		return help ? EXIT_SUCCESS : STATUS_USAGE;
	}
	r = buf_read(&input, STDIN_FILENO);
	if (r == 0)
		r = json_parse(input.data, input.len, &json_limits_default, &doc);
	if (r == 0)
		r = read_message(doc, &m);
	if (r < 0) {
		fprintf(stderr, "selfright-notify: it needs a body, and one of url and url_file: %s\n",
			err_text(r));
		return STATUS_USAGE;
	}
	r = make_ready(&m, &w, why);
	if (r == 0)
		r = post(&m, &w, &answered, why);
	return say(r == 0, &answered, why);
}
