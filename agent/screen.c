#include "agent/screen.h"

#include "base/buf.h"
#include "base/text.h"
#include "json/json.h"
#include "model/decide.h"

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LINES_MAX = 1024, LINE_SIZE = 1024, NAME_WIDTH = 14, VERSION_WIDTH = 12, INDENT = 10 };

enum colour { PLAIN, GOOD, WAITING, BAD };

/* What may go when there is no room, the last first. */
enum weight { NEEDED, COMPONENT, TROUBLE, DETAIL };

struct line {
	char text[LINE_SIZE];
	enum colour colour;
	enum weight weight;
};

struct page {
	struct line *lines;
	size_t count;
	unsigned columns;
};

static const char *text_of(const struct json *object, const char *name, const char *otherwise)
{
	const char *s = json_string(json_get(object, name));

	return s && s[0] ? s : otherwise;
}

static int64_t number_of(const struct json *object, const char *name)
{
	int64_t n = 0;

	return json_integer(json_get(object, name), &n) ? n : 0;
}

static bool is_true(const struct json *object, const char *name)
{
	return json_bool(json_get(object, name), false);
}

static void add(struct page *p, enum weight weight, enum colour colour, const char *fmt, ...) PRINTF_LIKE(4, 5);
static void add(struct page *p, enum weight weight, enum colour colour, const char *fmt, ...)
{
	struct line *l;
	va_list ap;

	if (p->count >= LINES_MAX)
		return; /* the end says that there is more */
	l = &p->lines[p->count++];
	va_start(ap, fmt);
	(void) vsnprintf(l->text, sizeof(l->text), fmt, ap); /* cut to the width anyway */
	va_end(ap);
	text_tame(l->text, "");
	l->weight = weight;
	l->colour = colour;
}

/*
 * A sentence that says what to do is of no use without its end: broken between words, as far as that goes, and
 * indented like what it belongs to. A terminal too narrow for that has it cut like any other.
 */
static void add_whole(struct page *p, enum colour colour, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void add_whole(struct page *p, enum colour colour, const char *fmt, ...)
{
	const size_t width = p->columns > 2 * INDENT ? p->columns : SIZE_MAX;
	char text[LINE_SIZE], *rest = text;
	bool first = true;
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof(text), fmt, ap); /* longer than any sentence of ours */
	va_end(ap);
	while (*rest) {
		size_t room = width - (first ? 0 : INDENT), n = strlen(rest);
		char *end = rest + n;

		if (n > room) {
			for (end = rest + room; end > rest && *end != ' '; end--)
				;
			/* No blank after the indent: a word longer than a line is cut. */
			if (end <= rest + (first ? INDENT : 0))
				end = rest + strcspn(rest + (first ? INDENT : 0), " ") + (first ? INDENT : 0);
		}
		add(p, NEEDED, colour, "%*s%.*s", first ? 0 : INDENT, "", (int) (end - rest), rest);
		rest = end + strspn(end, " ");
		first = false;
	}
}

/* --- the node --- */

static void add_state(struct page *p, const struct json *s)
{
	const struct json *u = json_get(s, "update");
	int64_t done = number_of(u, "bytes_done"), total = number_of(u, "bytes_total");
	char progress[64] = "";

	if (is_true(s, "stuck")) {
		add(p, NEEDED, BAD,
		    "state     STUCK: a rollback failed here (verify --repair, or an order from support)");
		return;
	}
	if (!u) {
		add(p, NEEDED, GOOD, "state     %s", text_of(s, "state", "?"));
		return;
	}
	if (total > 0)
		(void) snprintf(progress, sizeof(progress), ", %lld of %lld bytes", (long long) done,
				(long long) total);
	add(p, NEEDED, WAITING, "state     %s: %s %s -> %s%s", text_of(u, "state", "?"),
	    text_of(u, "component", "?"), text_of(u, "from", "absent"), text_of(u, "to", "absent"), progress);
}

static void add_link(struct page *p, const struct json *s)
{
	const struct json *link = json_get(s, "link"), *m = json_get(s, "metadata");
	bool connected = is_true(link, "connected"), fresh = is_true(m, "fresh");

	add_whole(p, connected ? GOOD : WAITING, "link      %s%s%s", connected ? "connected" : "not connected",
		  text_of(link, "reason", "")[0] ? ": " : "", text_of(link, "reason", ""));
	if (text_of(link, "enrolment", "")[0])
		add_whole(p, WAITING, "          key %.16s %s", text_of(link, "identity", ""),
			  text_of(link, "enrolment", ""));
	if (text_of(link, "ca_note", "")[0])
		add_whole(p, WAITING, "          %s", text_of(link, "ca_note", ""));
	if (text_of(link, "note", "")[0])
		add(p, DETAIL, PLAIN, "          %s", text_of(link, "note", ""));
	add_whole(p, fresh ? GOOD : BAD, "trust     %s until %s, refreshed %s%s%s", fresh ? "fresh" : "STALE",
		  text_of(m, "expires", "never"), text_of(m, "refreshed", "never"),
		  text_of(m, "error", "")[0] ? ": " : "", text_of(m, "error", ""));
}

static void add_stoppers(struct page *p, const struct json *s)
{
	const struct json *hold = json_get(s, "hold"), *inhibitors = json_get(s, "inhibitors"),
			  *deferrals = json_get(s, "deferrals");

	if (hold)
		add(p, NEEDED, WAITING, "hold      until %s, by %s: %s", text_of(hold, "until", "released"),
		    text_of(hold, "by", "somebody"), text_of(hold, "reason", ""));
	for (size_t i = 0; i < json_count(inhibitors); i++) {
		const struct json *h = json_at(inhibitors, i);

		add(p, i == 0 ? NEEDED : DETAIL, WAITING, "inhibited %s (%s, since %s)",
		    text_of(h, "why", "no reason given"), text_of(h, "who", "?"), text_of(h, "since", "?"));
	}
	for (size_t i = 0; i < json_count(deferrals); i++) {
		const struct json *d = json_at(deferrals, i);

		add(p, i == 0 ? NEEDED : DETAIL, WAITING, "deferred  %s until %s%s%s",
		    text_of(d, "component", "everything"), text_of(d, "until", "?"),
		    text_of(d, "reason", "")[0] ? ": " : "", text_of(d, "reason", ""));
	}
}

static void add_window(struct page *p, const struct json *s)
{
	const struct json *zone = json_get(s, "zone"), *next = json_get(s, "next_window");

	if (next)
		add(p, NEEDED, WAITING, "window    opens %s (%s) for %s", text_of(next, "local", "?"),
		    text_of(next, "opens", "?"), text_of(next, "component", "?"));
	if (text_of(zone, "error", "")[0])
		add(p, NEEDED, BAD, "zone      %s: %s", text_of(zone, "name", "?"), text_of(zone, "error", ""));
	else if (is_true(zone, "stale"))
		add(p, NEEDED, BAD, "zone      %s by the tables of %s, which are old: update tzdata",
		    text_of(zone, "name", "?"), text_of(zone, "edition", "?"));
}

/* The last line that says something; `selfright-agent history` shows the others. */
static const char *newest_line(const char *text, int *ret_len)
{
	const char *newest = text;

	*ret_len = 0;
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");

		if (strspn(line, " \t") < len) {
			newest = line;
			*ret_len = (int) len;
		}
		line += len + (line[len] == '\n');
	}
	return newest;
}

static void add_last(struct page *p, const struct json *s)
{
	const struct json *last = json_get(s, "last_result");
	const char *class = text_of(last, "class", "none"), *words;
	int len;

	if (!last) {
		add(p, NEEDED, PLAIN, "last      nothing has happened here yet");
		return;
	}
	add(p, NEEDED, str_eq(class, "none") ? GOOD : BAD, "last      %s %s %s -> %s: %s in %.1f s",
	    text_of(last, "at", ""), text_of(last, "component", "?"), text_of(last, "from", "absent"),
	    text_of(last, "to", "absent"), text_of(last, "name", "?"),
	    (double) number_of(last, "duration_ms") / 1000);
	if (str_eq(class, "none"))
		return;
	add(p, TROUBLE, PLAIN, "          %s", text_of(last, "detail", ""));
	words = newest_line(text_of(last, "log_tail", ""), &len);
	if (len > 0)
		add(p, TROUBLE, PLAIN, "          it said: %.*s", len, words);
}

/* --- components --- */

static void add_services(struct page *p, const struct json *c)
{
	const struct json *services = json_get(c, "services");
	char fine[LINE_SIZE] = "";
	size_t n = 0;

	for (size_t i = 0; i < json_count(services); i++) {
		const struct json *v = json_at(services, i);
		const char *state = text_of(v, "state", "?");

		if (str_eq(state, "running") || str_eq(state, "unit")) {
			int more = snprintf(fine + n, sizeof(fine) - n, "%s%s", n > 0 ? ", " : "",
					    text_of(v, "name", "?"));

			n = more > 0 && n + (size_t) more < sizeof(fine) ? n + (size_t) more : n;
			continue;
		}
		add(p, TROUBLE, str_eq(state, "failing") ? BAD : WAITING, "  service %s: %s, %lld restarts",
		    text_of(v, "name", "?"), state, (long long) number_of(v, "restarts"));
	}
	if (fine[0])
		add(p, DETAIL, PLAIN, "  running: %s", fine);
}

static void add_checks(struct page *p, const struct json *s, const char *component)
{
	const struct json *checks = json_get(s, "checks");
	char fine[LINE_SIZE] = "";
	size_t n = 0;

	for (size_t i = 0; i < json_count(checks); i++) {
		const struct json *c = json_at(checks, i);
		const char *state = text_of(c, "state", "?");

		if (!str_eq(text_of(c, "component", ""), component))
			continue;
		if (str_eq(state, "passing")) {
			int more = snprintf(fine + n, sizeof(fine) - n, "%s%s", n > 0 ? ", " : "",
					    text_of(c, "name", "?"));

			n = more > 0 && n + (size_t) more < sizeof(fine) ? n + (size_t) more : n;
			continue;
		}
		add(p, TROUBLE, str_eq(state, "failing") ? BAD : WAITING, "  check %s: %s%s%s",
		    text_of(c, "name", "?"), state, text_of(c, "detail", "")[0] ? ", " : "",
		    text_of(c, "detail", ""));
	}
	if (fine[0])
		add(p, DETAIL, PLAIN, "  passing: %s", fine);
}

static void add_denied(struct page *p, const struct json *c)
{
	const struct json *denied = json_get(c, "denied");
	char list[LINE_SIZE] = "";
	size_t n = 0;

	for (size_t i = 0; i < json_count(denied); i++) {
		const struct json *d = json_at(denied, i);
		int more = snprintf(list + n, sizeof(list) - n, "%s%s (%s)", n > 0 ? ", " : "",
				    text_of(d, "version", "?"), text_of(d, "cause", "?"));

		n = more > 0 && n + (size_t) more < sizeof(list) ? n + (size_t) more : n;
	}
	if (list[0])
		add(p, DETAIL, PLAIN, "  denied:  %s", list);
}

static void add_component(struct page *p, const struct json *s, const struct json *c)
{
	const char *component = text_of(c, "component", "?"), *wants = text_of(c, "wants", ""),
		   *why = text_of(c, "why", "");
	enum colour colour = wants[0] ? WAITING : str_eq(why, "up-to-date") ? GOOD : PLAIN;

	add(p, COMPONENT, colour, "%-*s %-*s %s%s%s%s%s", NAME_WIDTH, component, VERSION_WIDTH,
	    text_of(c, "version", "absent"), wants[0] ? "wants " : "", wants, wants[0] ? ": " : "",
	    reason_lead(why), text_of(c, "why_detail", why));
	if (!json_bool(json_get(c, "data_compatible_back"), true))
		add(p, TROUBLE, PLAIN, "  data: the version before cannot read it; a rollback leaves it as it is");
	add_services(p, c);
	add_checks(p, s, component);
	add_denied(p, c);
}

/* --- the page --- */

struct screen screen_of_stdout(void)
{
	struct screen s = { .out = stdout, .columns = UINT_MAX };
	const char *term = getenv("TERM"), *no = getenv("NO_COLOR");
	struct winsize w = { 0 };

	if (!isatty(STDOUT_FILENO))
		return s;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0) {
		s.columns = w.ws_col;
		s.rows = w.ws_row;
	}
	s.colours = (!no || !no[0]) && term && !str_eq(term, "dumb");
	return s;
}

/* At a whole character; what a terminal shows as wide counts as one, and is rare in names. */
static void cut(char *text, unsigned columns)
{
	unsigned n = 0;
	char *p = text, *dots = text;

	while (*p && n < columns) {
		if (n + 3 <= columns)
			dots = p; /* three columns are left from here */
		p++;
		while (((unsigned char) *p & 0xc0) == 0x80)
			p++;
		n++;
	}
	if (*p && columns >= 3)
		memcpy(dots, "...", 4); /* there are three bytes at least: the three columns' */
	else
		*p = '\0';
}

static size_t count_up_to(const struct page *p, enum weight weight)
{
	size_t n = 0;

	for (size_t i = 0; i < p->count; i++)
		n += p->lines[i].weight <= weight;
	return n;
}

static void print_line(const struct screen *s, struct line *l)
{
	static const char *const codes[] = {
		[PLAIN] = "", [GOOD] = "\033[32m", [WAITING] = "\033[33m", [BAD] = "\033[31m"
	};

	cut(l->text, s->columns);
	if (s->colours && l->colour != PLAIN)
		fprintf(s->out, "%s%s\033[0m\n", codes[l->colour], l->text);
	else
		fprintf(s->out, "%s\n", l->text);
}

/* One row is the prompt's. */
static void print(const struct screen *s, struct page *p)
{
	size_t room = s->rows > 4 ? s->rows - 1 : SIZE_MAX, printed = 0, wanted;
	enum weight weight = DETAIL;

	while (weight > COMPONENT && count_up_to(p, weight) > room)
		weight--;
	wanted = count_up_to(p, weight);
	for (size_t i = 0; i < p->count; i++) {
		if (p->lines[i].weight > weight)
			continue;
		/* The last row there is says that there is more. */
		if (wanted > room && printed == room - 1)
			break;
		print_line(s, &p->lines[i]);
		printed++;
	}
	if (printed < wanted)
		fprintf(s->out, "... and %zu more lines: selfright-agent status | less\n", wanted - printed);
}

void screen_status(const struct screen *s, const struct json *status)
{
	const struct json *components = json_get(status, "components");
	struct page p = { .lines = calloc(LINES_MAX, sizeof(*p.lines)), .columns = s->columns };

	if (!p.lines) {
		fprintf(s->out, "out of memory\n");
		return;
	}
	add(&p, NEEDED, PLAIN, "node      %s of fleet %s, agent %s, generation %lld", text_of(status, "node", "?"),
	    text_of(status, "fleet", "?"), text_of(status, "agent", "?"),
	    (long long) number_of(status, "generation"));
	add_state(&p, status);
	add_link(&p, status);
	add_stoppers(&p, status);
	add_window(&p, status);
	add_last(&p, status);
	add(&p, NEEDED, PLAIN, "%s", "");
	if (json_count(components) == 0)
		add(&p, NEEDED, PLAIN,
		    "no component is known here: nothing is installed and no rollout selects this node");
	else
		add(&p, NEEDED, PLAIN, "%-*s %-*s %s", NAME_WIDTH, "COMPONENT", VERSION_WIDTH, "VERSION", "STATE");
	for (size_t i = 0; i < json_count(components); i++)
		add_component(&p, status, json_at(components, i));
	print(s, &p);
	free(p.lines);
}
