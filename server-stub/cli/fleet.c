#include "server-stub/cli/fleet.h"

#include "base/err.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "json/build.h"
#include "json/json.h"
#include "model/labels.h"
#include "os/os.h"
#include "server-stub/rollout/plan.h"

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BODY_MAX = 1024 * 1024, PATH_BYTES = 256 };

const char *fleet_by(void)
{
	const char *name = getenv("SUDO_USER");
	const struct passwd *p;

	if (name && *name && strlen(name) <= 64)
		return name;
	p = getpwuid(getuid());
	return p ? p->pw_name : "unknown";
}

int fleet_labels(const struct cli *c, const char *option, const struct cli_values *values, struct labels *ret)
{
	for (size_t i = 0; i < values->count; i++) {
		char name[ID_MAX + 1];
		const char *text = values->items[i], *equals = strchr(text, '=');
		size_t len = equals ? (size_t) (equals - text) : 0;
		int r;

		if (len == 0 || len > ID_MAX)
			return cli_fail(c, CLI_USAGE, "--%s takes NAME=VALUE, e.g. --%s site=oslo", option,
					option);
		memcpy(name, text, len);
		name[len] = '\0';
		r = labels_set(ret, name, equals + 1);
		if (r < 0)
			return cli_fail_error(c, r, "--%s %s", option, text);
	}
	return -1;
}

int fleet_check_id(const struct cli *c, const char *what, const char *id)
{
	if (guard_id(id))
		return -1;
	return cli_fail(c, CLI_USAGE, "'%s' is no %s's name: lower-case letters, digits and '-', at most 63", id,
			what);
}

int fleet_need_reason(const struct cli *c, const char *reason)
{
	if (reason && *reason)
		return -1;
	return cli_fail(c, CLI_USAGE, "say why with --reason TEXT: it is what others read later");
}

int fleet_open(const struct cli_command *command, int argc, char **argv, const char *first, const char *second,
	       struct cli *ret)
{
	int r = cli_open(command, argc, argv, ret);

	if (r < 0)
		r = fleet_check_id(ret, first, ret->args[0]);
	if (r < 0 && second)
		r = fleet_check_id(ret, second, ret->args[1]);
	return r;
}

int fleet_send(const struct cli *c, const char *method, const char *path, struct json_build *body,
	       struct json **ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(BODY_MAX), answer = BUF_INIT(CLI_ANSWER_MAX);
	CLEANUP(json_freep)
	struct json *parsed = NULL;
	int r;

	if (body) {
		node_string(json_build_root(body), "by", fleet_by());
		r = json_build_text(body, false, &text);
		if (r < 0)
			return cli_fail_error(c, r, "the request");
	}
	r = cli_call(c, method, path, body ? buf_str(&text) : NULL, &answer);
	if (r != CLI_OK)
		return r;
	if (c->json)
		cli_print_json(buf_str(&answer));
	if (!ret)
		return CLI_OK;
	r = json_parse(answer.data, answer.len, &cli_answer_limits, &parsed);
	if (r < 0)
		return cli_fail_error(c, r, "the server's answer");
	*ret = parsed;
	parsed = NULL;
	return CLI_OK;
}

int change_open(const struct cli_command *command, int argc, char **argv, const char *first, const char *second,
		struct change *ret)
{
	int r = first ? fleet_open(command, argc, argv, first, second, &ret->c)
		      : cli_open(command, argc, argv, &ret->c);

	if (r >= 0)
		return r;
	ret->build = json_build_new();
	ret->request = json_build_root(ret->build);
	return ret->build ? -1 : cli_fail_error(&ret->c, -ENOMEM, "the request");
}

int change_need_reason(struct change *x, const char *reason)
{
	int r = fleet_need_reason(&x->c, reason);

	if (r < 0)
		node_string(x->request, "reason", reason);
	return r;
}

int change_send(struct change *x, const char *method, const char *path, ...)
{
	char text[PATH_BYTES];
	va_list ap;

	va_start(ap, path);
	(void) vsnprintf(text, sizeof(text), path, ap); /* ids are short */
	va_end(ap);
	return fleet_send(&x->c, method, text, x->build, &x->answer);
}

void change_done(struct change *x)
{
	json_build_free(x->build);
	json_free(x->answer);
}

void fleet_plan_lines(const struct plan *plan, const char *path, struct json_node *request)
{
	const char *slash = strrchr(path, '/');
	struct json_node *lines = node_array(request, "plan_lines");

	node_string(request, "plan_file", slash ? slash + 1 : path);
	for (size_t i = 0; i < plan->stage_count; i++)
		node_integer(lines, NULL, plan->stages[i].line);
	node_integer(lines, NULL, plan->stages_line);
}

void fleet_say_published(const struct cli *c, const struct json *answer)
{
	if (!json_bool(json_get(answer, "published"), true))
		cli_say(c, "%snot published yet%s: %s; the server tries again by itself",
			cli_colour(c, CLI_YELLOW), cli_colour(c, CLI_PLAIN), fleet_text(answer, "publish_error"));
}

const char *fleet_text(const struct json *object, const char *name)
{
	const char *text = json_string(json_get(object, name));

	return text ? text : "";
}

const char *fleet_ago(const struct json *object, const char *name, char *out, size_t size)
{
	const char *text = json_string(json_get(object, name));
	char span[40];
	int64_t at;

	if (!text || timestamp_parse(text, &at) < 0)
		snprintf(out, size, "never");
	else
		snprintf(out, size, "%s ago", cli_span(span, sizeof(span), os_posix.clock_real(&os_posix) - at));
	return out;
}

void fleet_after(uint64_t seconds, char out[static 21])
{
	timestamp_format(out, os_posix.clock_real(&os_posix) + (int64_t) seconds);
}
