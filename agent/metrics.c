#include "agent/metrics.h"

#include "base/err.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "json/json.h"
#include "model/report.h"
#include "os/durable.h"
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* What is being written; the first error stays. */
struct writer {
	struct buf *out;
	int error;
};

struct pair {
	const char *name, *value;
};

static void put(struct writer *w, const char *text)
{
	if (w->error == 0)
		w->error = buf_add_str(w->out, text);
}

/* In a label's value backslash, quote and line feed are escaped; anything else may stand there. */
static void put_value(struct writer *w, const char *value)
{
	for (const char *p = value; *p && w->error == 0; p++)
		switch (*p) {
		case '\\':
			put(w, "\\\\");
			break;
		case '"':
			put(w, "\\\"");
			break;
		case '\n':
			put(w, "\\n");
			break;
		default:
			w->error = buf_add_byte(w->out, (uint8_t) *p);
		}
}

static void family(struct writer *w, const char *name, const char *type, const char *help)
{
	if (w->error == 0)
		w->error = buf_addf(w->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void gauge(struct writer *w, const char *name, const char *help)
{
	family(w, name, "gauge", help);
}

static void sample(struct writer *w, const char *name, const struct pair *labels, size_t count, double value)
{
	char number[40];

	put(w, name);
	for (size_t i = 0; i < count; i++) {
		put(w, i == 0 ? "{" : ",");
		put(w, labels[i].name);
		put(w, "=\"");
		put_value(w, labels[i].value);
		put(w, "\"");
	}
	(void) snprintf(number, sizeof(number), "%.15g", value);
	put(w, count > 0 ? "} " : " ");
	put(w, number);
	put(w, "\n");
}

#define SAMPLE(w, name, value, ...)                                                                               \
	sample(w, name, (const struct pair[]){ __VA_ARGS__ },                                                     \
	       sizeof((const struct pair[]){ __VA_ARGS__ }) / sizeof(struct pair), value)

static const char *text_of(const struct json *object, const char *name)
{
	const char *s = json_string(json_get(object, name));

	return s ? s : "";
}

static double number_of(const struct json *object, const char *name)
{
	int64_t n = 0;

	return json_integer(json_get(object, name), &n) ? (double) n : 0;
}

static double time_of(const struct json *object, const char *name)
{
	int64_t at = 0;

	return timestamp_parse(text_of(object, name), &at) == 0 ? (double) at : 0;
}

static double is_true(const struct json *object, const char *name)
{
	return json_bool(json_get(object, name), false) ? 1 : 0;
}

static void single(struct writer *w, const char *name, const char *help, double value)
{
	gauge(w, name, help);
	sample(w, name, NULL, 0, value);
}

static void put_node(struct writer *w, const struct json *s)
{
	const struct json *link = json_get(s, "link"), *m = json_get(s, "metadata"), *zone = json_get(s, "zone");

	gauge(w, "selfright_agent_info", "Which agent of which node and fleet this is.");
	SAMPLE(w, "selfright_agent_info", 1, { "fleet", text_of(s, "fleet") }, { "node", text_of(s, "node") },
	       { "version", text_of(s, "agent") });
	gauge(w, "selfright_agent_state", "1 for the state the agent is in.");
	for (int i = 0; i < STATE_COUNT; i++) {
		const char *name = update_state_name((enum update_state) i);

		SAMPLE(w, "selfright_agent_state", str_eq(name, text_of(s, "state")) ? 1 : 0, { "state", name });
	}
	single(w, "selfright_generation", "The generation that is current.", number_of(s, "generation"));
	single(w, "selfright_stuck", "1 when a rollback failed here.", is_true(s, "stuck"));
	single(w, "selfright_link_connected", "1 when the broker can be reached.", is_true(link, "connected"));
	single(w, "selfright_reports_unacknowledged",
	       "Reports the controller has not acknowledged since the agent started.",
	       number_of(link, "acknowledged") > 0 ? number_of(link, "report") - number_of(link, "acknowledged")
						   : number_of(link, "report"));
	single(w, "selfright_metadata_fresh", "1 while the trusted metadata has not expired.",
	       is_true(m, "fresh"));
	single(w, "selfright_metadata_expires_timestamp_seconds", "When the trusted metadata expires.",
	       time_of(m, "expires"));
	single(w, "selfright_metadata_refreshed_timestamp_seconds", "When it was refreshed last; 0: never.",
	       time_of(m, "refreshed"));
	single(w, "selfright_hold_until_timestamp_seconds", "The end of the local hold; 0: none.",
	       time_of(json_get(s, "hold"), "until"));
	single(w, "selfright_inhibitors", "Inhibitors that are held.",
	       (double) json_count(json_get(s, "inhibitors")));
	single(w, "selfright_next_window_timestamp_seconds",
	       "When the window a component waits for opens; 0: none waits.",
	       time_of(json_get(s, "next_window"), "opens"));
	single(w, "selfright_zone_data_stale",
	       "1 when the time zone tables are older than the configuration accepts.", is_true(zone, "stale"));
}

static void put_components(struct writer *w, const struct json *components)
{
	gauge(w, "selfright_component_info", "Which version is installed and which one is wanted, empty if none.");
	for (size_t i = 0; i < json_count(components); i++) {
		const struct json *c = json_at(components, i);

		SAMPLE(w, "selfright_component_info", 1, { "component", text_of(c, "component") },
		       { "version", text_of(c, "version") }, { "wants", text_of(c, "wants") });
	}
	gauge(w, "selfright_component_reason",
	      "1 with the reason the component is what it is, as selfright-agent why has it.");
	for (size_t i = 0; i < json_count(components); i++) {
		const struct json *c = json_at(components, i);

		SAMPLE(w, "selfright_component_reason", 1, { "component", text_of(c, "component") },
		       { "reason", text_of(c, "why") });
	}
	gauge(w, "selfright_component_denied_versions", "Versions this node will not take again.");
	for (size_t i = 0; i < json_count(components); i++) {
		const struct json *c = json_at(components, i);

		SAMPLE(w, "selfright_component_denied_versions", (double) json_count(json_get(c, "denied")),
		       { "component", text_of(c, "component") });
	}
}

/* One number of the last result of each component that has one. */
static void put_last(struct writer *w, const struct json *components, const char *name, const char *help,
		     double (*value)(const struct json *last))
{
	gauge(w, name, help);
	for (size_t i = 0; i < json_count(components); i++) {
		const struct json *c = json_at(components, i), *last = json_get(c, "last_result");

		if (last)
			SAMPLE(w, name, value(last), { "component", text_of(c, "component") },
			       { "result", text_of(last, "name") }, { "class", text_of(last, "class") });
	}
}

static double last_at(const struct json *last)
{
	return time_of(last, "at");
}

static double last_duration(const struct json *last)
{
	return number_of(last, "duration_ms") / 1000;
}

static double last_pause(const struct json *last)
{
	return number_of(last, "pause_ms") / 1000;
}

static void put_services(struct writer *w, const struct json *components)
{
	static const char up[] = "selfright_service_up", restarts[] = "selfright_service_restarts_total";

	for (int pass = 0; pass < 2; pass++) {
		if (pass == 0)
			gauge(w, up, "1 when the service runs; of a unit the service manager knows better.");
		else
			family(w, restarts, "counter", "Unexpected ends of the service since the agent started.");
		for (size_t i = 0; i < json_count(components); i++) {
			const struct json *c = json_at(components, i), *services = json_get(c, "services");

			for (size_t k = 0; k < json_count(services); k++) {
				const struct json *v = json_at(services, k);
				const char *state = text_of(v, "state");
				bool runs = str_eq(state, "running") || str_eq(state, "unit");

				SAMPLE(w, pass == 0 ? up : restarts,
				       pass == 0 ? (runs ? 1 : 0) : number_of(v, "restarts"),
				       { "component", text_of(c, "component") },
				       { "service", text_of(v, "name") });
			}
		}
	}
}

static void put_checks(struct writer *w, const struct json *checks)
{
	static const char up[] = "selfright_check_up", failures[] = "selfright_check_failures_total";

	for (int pass = 0; pass < 2; pass++) {
		if (pass == 0)
			gauge(w, up, "1 when the check passed, as of the last probation or watch.");
		else
			family(w, failures, "counter",
			       "Runs of the check that failed, in that probation or watch.");
		for (size_t i = 0; i < json_count(checks); i++) {
			const struct json *c = json_at(checks, i);

			SAMPLE(w, pass == 0 ? up : failures,
			       pass == 0 ? (str_eq(text_of(c, "state"), "passing") ? 1 : 0)
					 : number_of(c, "failures"),
			       { "component", text_of(c, "component") }, { "check", text_of(c, "name") });
		}
	}
}

int metrics_of_status(const struct json *status, struct buf *out)
{
	const struct json *components = json_get(status, "components");
	struct writer w = { .out = out };

	put_node(&w, status);
	put_components(&w, components);
	put_last(&w, components, "selfright_last_result_timestamp_seconds",
		 "When the component's last update ended, and how.", last_at);
	put_last(&w, components, "selfright_last_result_duration_seconds", "How long that update took.",
		 last_duration);
	put_last(&w, components, "selfright_last_result_pause_seconds", "How long its services were away.",
		 last_pause);
	put_services(&w, components);
	put_checks(&w, json_get(status, "checks"));
	return w.error;
}

int metrics_write(const struct os *os, const char *path, const struct buf *text)
{
	char pending[4096];
	int n = snprintf(pending, sizeof(pending), "%s.pending", path); /* the collector reads *.prom alone */
	int fd, r;

	if (n < 0 || (size_t) n >= sizeof(pending))
		return -ENAMETOOLONG;
	(void) os->unlinkat(os, AT_FDCWD, pending,
			    0); /* of a run that was cut off; else it is in our way and said below */
	fd = os->openat(os, AT_FDCWD, pending, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
	if (fd < 0)
		return fd;
	r = file_write_all(os, fd, text->data, text->len);
	(void) os->close(os, fd); /* what did not reach the disk comes again */
	if (r == 0)
		r = os->renameat(os, AT_FDCWD, pending, AT_FDCWD, path);
	if (r < 0)
		(void) os->unlinkat(os, AT_FDCWD, pending, 0); /* the next attempt removes it */
	return r;
}
