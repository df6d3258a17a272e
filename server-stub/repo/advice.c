#include "server-stub/repo/advice.h"

#include "base/err.h"
#include "base/text.h"
#include "json/json.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What agents of this version refuse before they download (agent/phase/fit.c, agent/phase/room.c, agent/probe/probe.c). */
#define REFUSED "agents of version " SELFRIGHT_VERSION " refuse this"

static int PRINTF_LIKE(2, 3) add(struct string_list *list, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof(text), fmt, ap); /* cut to fit */
	va_end(ap);
	return string_list_add(list, text);
}

static bool is_numeric(const char *host)
{
	struct in6_addr address;

	return !host || strstr(host, "${") || strcmp(host, "localhost") == 0 ||
	       inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

static int advise_check(const struct release_check *check, struct string_list *ret)
{
	if (check->kind == CHECK_TCP_SOCKET && !is_numeric(check->tcp.host))
		return add(ret, "checks: %s asks the host %s by name, not by address; " REFUSED, check->name,
			   check->tcp.host);
	/* What stands or falls with somebody else's machine is no word on this release. */
	if ((check->kind == CHECK_HTTP_GET || (check->kind == CHECK_METRIC && !check->metric.file)) &&
	    check->required && !check->http.unix_socket && !is_numeric(check->http.host))
		return add(
			ret,
			"checks: %s is required and asks another host, %s; if that is away the release is undone "
			"for it",
			check->name, check->http.host);
	return 0;
}

static int advise_proof(const struct release *r, struct string_list *ret)
{
	for (size_t i = 0; i < r->check_count; i++)
		if (r->checks[i].required && r->checks[i].kind != CHECK_LINK)
			return 0;
	return add(ret,
		   "checks: none that is required looks at the component itself%s, so every update ends as "
		   "good-unproven and no rollout opens a second stage; add an exec, httpGet, tcpSocket, unit, "
		   "metric, log or status check",
		   r->check_count ? " (link only asks the controller)" : "");
}

static int advise_data(const struct release *r, struct string_list *ret)
{
	bool restores = false;

	for (size_t i = 0; i < r->data_count; i++)
		restores = restores || r->data[i].restore_on_rollback;
	if (!r->data_compatible_back && !restores && r->hooks.preflight.argv.count == 0)
		return add(ret,
			   "data_compatible_back: false, but nothing is put back on a rollback and no preflight "
			   "looks; nodes refuse it: list the data with on_rollback restore, or add a preflight");
	if (!r->data_compatible_back)
		return add(
			ret,
			"data_compatible_back: false; a rollback after probation leaves the data as it is, which "
			"the version before cannot read, unless order and node both say that it is put back");
	return 0;
}

static int advise_agent(const struct release *r, struct string_list *ret)
{
	int e = 0;

	if (r->service_count > 0 || r->data_count > 0)
		e = add(ret, "services, data: a release of the agent has neither; " REFUSED);
	if (e == 0 && r->compatible.count == 0)
		e = add(ret,
			"compatible: the agent's programs run on one kind of machine; name a label of such nodes, "
			"e.g. {arch: amd64}");
	return e;
}

int release_advice(const struct release *r, struct string_list *ret)
{
	int e = advise_proof(r, ret);

	for (size_t i = 0; e == 0 && i < r->check_count; i++)
		e = advise_check(&r->checks[i], ret);
	if (e == 0 && strcmp(r->component, "agent") == 0)
		e = advise_agent(r, ret);
	if (e == 0 && strcmp(r->kind, "tree") != 0)
		e = add(ret, "kind: %s; " REFUSED, r->kind);
	return e < 0 ? e : advise_data(r, ret);
}

int release_advice_text(const void *document, size_t len, struct string_list *ret)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct release release = { 0 };
	int r = json_parse(document, len, &json_limits_default, &doc);

	if (r < 0)
		return r;
	r = release_parse(doc, &release, NULL);
	if (r < 0)
		return r;
	r = release_advice(&release, ret);
	release_done(&release);
	return r;
}
