#include "agent/local/config.h"

#include "agent/local/supervisor.h"
#include "base/err.h"
#include "conf/conf.h"
#include "os/durable.h"
#include "os/os.h"
#include "os/process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIRRORS_MAX = 4, FOLDERS_MAX = 4, REDIRECT_HOSTS_MAX = 8, HOUR = 3600, DAY = 24 * HOUR };

/* Where `make install` of this build puts them. */
#ifdef SELFRIGHT_LIBEXECDIR
#define INSTALLED_PROGRAMS SELFRIGHT_LIBEXECDIR "/selfright"
#else
#define INSTALLED_PROGRAMS CONFIG_PROGRAMS_DEFAULT
#endif

/* A complaint about a file as a whole: there is no line to name. */
static int fail_file(struct conf_error *e, const char *path, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int fail_file(struct conf_error *e, const char *path, const char *fmt, ...)
{
	char sentence[400];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(sentence, sizeof(sentence), fmt, ap); /* a longer one is cut */
	va_end(ap);
	(void) snprintf(e->text, sizeof(e->text), "%s: %s", path, sentence);
	return -ERR_CONFIG;
}

static int out_of_memory(struct conf_error *e)
{
	(void) snprintf(e->text, sizeof(e->text), "out of memory while reading the configuration");
	return -ENOMEM;
}

static int copy_text(const char *text, char **ret, struct conf_error *e)
{
	char *copy = strdup(text);

	if (!copy)
		return out_of_memory(e);
	free(*ret);
	*ret = copy;
	return 0;
}

static int take_text(const struct conf *map, const char *key, const char *otherwise, char **ret,
		     struct conf_error *e)
{
	const char *text = NULL;
	int r = conf_optional_text(map, key, otherwise, &text, e);

	if (r < 0)
		return r;
	return text ? copy_text(text, ret, e) : 0;
}

static int take_id(const struct conf *map, const char *key, char ret[static ID_MAX + 1], struct conf_error *e)
{
	const char *text = NULL;
	int r = conf_need_text(map, key, &text, e);

	if (r < 0)
		return r;
	if (!guard_id(text))
		return conf_fail(conf_get(map, key), e, "expected %s as [a-z0-9][a-z0-9-]{0,62}, found '%s'", key,
				 text);
	(void) snprintf(ret, ID_MAX + 1, "%s", text);
	return 0;
}

static int take_path(const struct conf *map, const char *key, const char *otherwise, char **ret,
		     struct conf_error *e)
{
	int r = take_text(map, key, otherwise, ret, e);

	if (r < 0)
		return r;
	if (*ret && (*ret)[0] != '/')
		return conf_fail(conf_get(map, key), e, "expected an absolute path for %s, found '%s'", key, *ret);
	return 0;
}

static int take_map(const struct conf *map, const char *key, const struct conf **ret, struct conf_error *e)
{
	const struct conf *c = conf_get(map, key);

	if (conf_kind(c) != CONF_MISSING && conf_kind(c) != CONF_MAP)
		return conf_fail(c, e, "expected %s as a map of names and values", key);
	*ret = c;
	return 0;
}

static int take_list(const struct conf *map, const char *key, struct string_list *ret, struct conf_error *e)
{
	const struct conf *list = conf_get(map, key);

	if (conf_kind(list) == CONF_MISSING)
		return 0;
	if (conf_kind(list) != CONF_LIST)
		return conf_fail(list, e, "expected %s as a list", key);
	for (size_t i = 0; i < conf_count(list); i++) {
		const char *text = conf_text(conf_at(list, i));

		if (!text || !text[0])
			return conf_fail(conf_at(list, i), e, "expected a name in the list %s", key);
		if (string_list_add(ret, text) < 0)
			return out_of_memory(e);
	}
	return 0;
}

/* Every scalar of a flat map into `ret`; later ones win. */
static int take_labels(const struct conf *map, struct labels *ret, struct conf_error *e)
{
	for (size_t i = 0; i < conf_count(map); i++) {
		const char *name = conf_key_at(map, i);
		const char *value = conf_text(conf_get(map, name));
		int r;

		if (!value)
			return conf_fail(conf_get(map, name), e, "expected a text for '%s'", name);
		r = labels_set(ret, name, value);
		if (r == -ENOMEM)
			return out_of_memory(e);
		if (r < 0)
			return conf_fail(
				conf_get(map, name), e,
				"expected a name of [a-z0-9-./] and up to 255 printable bytes, found '%s'", name);
	}
	return 0;
}

static int take_urls(const struct conf *map, const char *key, struct string_list *ret, struct conf_error *e)
{
	const struct conf *list = conf_get(map, key);
	int r = take_list(map, key, ret, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ret->count; i++) {
		size_t len = strlen(ret->items[i]);
		char *longer;

		if (!str_starts(ret->items[i], "https://") || len == strlen("https://"))
			return conf_fail(conf_at(list, i), e,
					 "expected an address that begins with https://, found '%s'",
					 ret->items[i]);
		if (ret->items[i][len - 1] == '/')
			continue;
		longer = realloc(ret->items[i], len + 2);
		if (!longer)
			return out_of_memory(e);
		longer[len] = '/';
		longer[len + 1] = '\0';
		ret->items[i] = longer;
	}
	return 0;
}

static int take_mirrors(const struct conf *map, struct config *c, struct conf_error *e)
{
	int r = take_urls(map, "mirrors", &c->mirrors, e);

	if (r == 0 && c->mirrors.count > MIRRORS_MAX)
		r = conf_fail(conf_get(map, "mirrors"), e, "expected at most %d mirrors", MIRRORS_MAX);
	return r;
}

static int take_pace(const struct conf *map, struct config_pace *ret, struct conf_error *e)
{
	const char *busy = NULL;
	int r = conf_optional_bytes(map, "rate", 0, &ret->rate, e);

	if (r == 0)
		r = conf_optional_bytes(map, "busy_rate", 0, &ret->busy_rate, e);
	if (r == 0)
		r = conf_optional_text(map, "busy", NULL, &busy, e);
	if (r < 0)
		return r;
	if (busy && windows_parse(busy, &ret->busy) < 0)
		return conf_fail(conf_get(map, "busy"), e,
				 "expected hours such as 'Mon-Fri 08:00-18:00', found '%s'", busy);
	if (!busy != !ret->busy_rate)
		return conf_fail(map, e, "expected busy and busy_rate together");
	return 0;
}

/* What goes out is bound as what comes in, unless it is said. */
static int take_upload(const struct conf *map, struct config *c, struct conf_error *e)
{
	const struct conf *upload = NULL;
	int r = take_map(map, "upload", &upload, e);

	c->upload = c->download.pace;
	if (r < 0 || !upload)
		return r;
	c->upload = (struct config_pace){ .rate = 0 };
	r = take_pace(upload, &c->upload, e);
	return r < 0 ? r : conf_reject_unknown(upload, e);
}

static int take_download(const struct conf *map, struct config *c, struct conf_error *e)
{
	const struct conf *download = NULL;
	int r = take_map(map, "download", &download, e);

	c->download.stall_s = 30;
	c->download.slow_rate = 1024;
	c->download.slow_for_s = 5 * 60;
	if (r < 0 || !download)
		return r;
	r = conf_optional_seconds(download, "stall", 30, &c->download.stall_s, e);
	if (r == 0 && (c->download.stall_s < 1 || c->download.stall_s > HOUR))
		r = conf_fail(conf_get(download, "stall"), e, "expected a time from a second to an hour");
	if (r == 0)
		r = conf_optional_bytes(download, "slow", 1024, &c->download.slow_rate, e);
	if (r == 0)
		r = conf_optional_seconds(download, "slow_for", 5 * 60, &c->download.slow_for_s, e);
	if (r == 0 && (c->download.slow_for_s < 1 || c->download.slow_for_s > HOUR))
		r = conf_fail(conf_get(download, "slow_for"), e, "expected a time from a second to an hour");
	if (r == 0)
		r = conf_optional_seconds(download, "spread", 0, &c->download.spread_s, e);
	if (r == 0 && c->download.spread_s > DAY)
		r = conf_fail(conf_get(download, "spread"), e, "expected at most a day");
	if (r < 0)
		return r;
	r = take_pace(download, &c->download.pace, e);
	if (r < 0)
		return r;
	return conf_reject_unknown(download, e);
}

static bool is_proxy(const char *url)
{
	static const char *const schemes[] = { "http://", "socks5h://" };

	for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
		if (str_starts(url, schemes[i]) && strlen(url) > strlen(schemes[i]))
			return !strpbrk(url, " \t\r\n");
	return false;
}

/* The sentences do not repeat it: it may have a password. */
static int take_proxy(const struct conf *map, struct config *c, struct conf_error *e)
{
	int r = take_text(map, "proxy", NULL, &c->proxy, e);

	if (r < 0)
		return r;
	if (c->proxy && !is_proxy(c->proxy))
		return conf_fail(conf_get(map, "proxy"), e,
				 "expected a proxy as http:// or socks5h://[user:password@]host[:port]");
	r = take_list(map, "no_proxy", &c->no_proxy, e);
	for (size_t i = 0; r == 0 && i < c->no_proxy.count; i++)
		if (strpbrk(c->no_proxy.items[i], ", \t\r\n"))
			r = conf_fail(conf_at(conf_get(map, "no_proxy"), i), e,
				      "expected one host or domain, found '%s'", c->no_proxy.items[i]);
	return r;
}

/* "host" or "host:port", as they stand in an address. */
static bool is_host(const char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.";
	size_t len = text[0] == '[' ? strcspn(text, "]") + 1 : strspn(text, plain);
	uint64_t port = 0;

	if (len == 0 || len > 255 || len > strlen(text))
		return false;
	return text[len] == '\0' ||
	       (text[len] == ':' && parse_u64(text + len + 1, &port) == 0 && port >= 1 && port <= 65535);
}

static int take_redirect_hosts(const struct conf *map, struct config *c, struct conf_error *e)
{
	const struct conf *list = conf_get(map, "redirect_hosts");
	int r = take_list(map, "redirect_hosts", &c->redirect_hosts, e);

	if (r == 0 && c->redirect_hosts.count > REDIRECT_HOSTS_MAX)
		r = conf_fail(list, e, "expected at most %d hosts", REDIRECT_HOSTS_MAX);
	for (size_t i = 0; r == 0 && i < c->redirect_hosts.count; i++)
		if (!is_host(c->redirect_hosts.items[i]))
			r = conf_fail(conf_at(list, i), e, "expected a host or host:port, found '%s'",
				      c->redirect_hosts.items[i]);
	return r;
}

static int take_folders(const struct conf *map, struct config *c, struct conf_error *e)
{
	const struct conf *list = conf_get(map, "folders");
	int r = take_list(map, "folders", &c->folders, e);

	if (r == 0 && c->folders.count > FOLDERS_MAX)
		r = conf_fail(list, e, "expected at most %d folders", FOLDERS_MAX);
	for (size_t i = 0; r == 0 && i < c->folders.count; i++)
		if (c->folders.items[i][0] != '/')
			r = conf_fail(conf_at(list, i), e, "expected an absolute path, found '%s'",
				      c->folders.items[i]);
	return r;
}

static int take_roads(const struct conf *map, struct config *c, struct conf_error *e)
{
	static const char *const known[] = { "file", "https", "mqtt" };
	const struct conf *list = conf_get(map, "roads");
	int r = take_list(map, "roads", &c->roads, e);

	for (size_t i = 0; r == 0 && i < c->roads.count; i++) {
		bool found = false;

		for (size_t k = 0; k < ARRAY_LEN(known); k++)
			found = found || str_eq(c->roads.items[i], known[k]);
		if (!found)
			r = conf_fail(conf_at(list, i), e, "expected file, https or mqtt, found '%s'",
				      c->roads.items[i]);
		for (size_t k = 0; r == 0 && k < i; k++)
			if (str_eq(c->roads.items[i], c->roads.items[k]))
				r = conf_fail(conf_at(list, i), e, "the road '%s' stands there twice",
					      c->roads.items[i]);
	}
	/* What lies at hand costs nobody's line; without folders it is no road. */
	for (size_t i = 0; r == 0 && c->roads.count < ARRAY_LEN(known) && conf_kind(list) == CONF_MISSING; i++)
		if (string_list_add(&c->roads, known[i]) < 0)
			r = out_of_memory(e);
	return r;
}

static bool is_address(const char *text)
{
	unsigned char bytes[16];

	return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static int take_retry(const struct conf *broker, struct config *c, struct conf_error *e)
{
	const struct conf *retry = NULL;
	int r = take_map(broker, "retry", &retry, e);

	if (r < 0)
		return r;
	r = conf_optional_seconds(retry, "base", 1, &c->broker.retry_base_s, e);
	if (r < 0)
		return r;
	r = conf_optional_seconds(retry, "cap", 5 * 60, &c->broker.retry_cap_s, e);
	if (r < 0)
		return r;
	r = conf_optional_seconds(retry, "refused", HOUR, &c->broker.refused_cap_s, e);
	if (r < 0)
		return r;
	r = conf_optional_seconds(retry, "spread", 30, &c->broker.after_stable_s, e);
	if (r < 0)
		return r;
	if (c->broker.retry_base_s < 1 || c->broker.retry_cap_s < c->broker.retry_base_s ||
	    c->broker.refused_cap_s < c->broker.retry_base_s || c->broker.after_stable_s < 1)
		return conf_fail(retry, e, "expected times of a second or more, and caps not below the base");
	return retry ? conf_reject_unknown(retry, e) : 0;
}

/* How the broker is reached, besides its name. */
static int take_road(const struct conf *broker, struct config *c, struct conf_error *e)
{
	const struct conf *list = conf_get(broker, "addresses");
	uint64_t keepalive = 0;
	int r = take_list(broker, "addresses", &c->broker.addresses, e);

	for (size_t i = 0; r == 0 && i < c->broker.addresses.count; i++)
		if (!is_address(c->broker.addresses.items[i]))
			r = conf_fail(conf_at(list, i), e, "expected an IPv4 or IPv6 address, found '%s'",
				      c->broker.addresses.items[i]);
	if (r < 0)
		return r;
	r = take_text(broker, "alpn", c->broker.port == 443 ? "mqtt" : NULL, &c->broker.alpn, e);
	if (r < 0)
		return r;
	if (c->broker.alpn && (!c->broker.alpn[0] || strlen(c->broker.alpn) > 64))
		return conf_fail(conf_get(broker, "alpn"), e, "expected the name of a protocol, such as mqtt");
	r = conf_optional_seconds(broker, "keepalive", 0, &keepalive, e);
	if (r < 0)
		return r;
	if (keepalive != 0 && (keepalive < 5 || keepalive > 1200))
		return conf_fail(conf_get(broker, "keepalive"), e, "expected 5 s to 20 m, or 0 for a fitting one");
	c->broker.keepalive_s = (unsigned) keepalive;
	return take_retry(broker, c, e);
}

static int take_broker(const struct conf *map, struct config *c, struct conf_error *e)
{
	const struct conf *broker = NULL;
	const char *host = NULL;
	uint64_t port = 0;
	int r = take_map(map, "broker", &broker, e);

	if (r < 0 || !broker)
		return r;
	r = conf_need_text(broker, "host", &host, e);
	if (r < 0)
		return r;
	r = conf_optional_u64(broker, "port", 1, 65535, 8883, &port, e);
	if (r < 0)
		return r;
	c->broker.port = (unsigned) port;
	r = copy_text(host, &c->broker.host, e);
	if (r < 0)
		return r;
	r = take_road(broker, c, e);
	return r < 0 ? r : conf_reject_unknown(broker, e);
}

static int take_users(const struct conf *map, struct config *c, struct conf_error *e)
{
	const struct conf *users = NULL;
	int r = take_map(map, "users", &users, e);

	if (r < 0)
		return r;
	r = take_text(users, "link", "selfright", &c->users.link, e);
	if (r < 0)
		return r;
	r = take_text(users, "stage", "selfright-stage", &c->users.stage, e);
	if (r < 0)
		return r;
	r = take_text(users, "component", "nobody", &c->users.component, e);
	if (r < 0 || !users)
		return r;
	return conf_reject_unknown(users, e);
}

static int take_poll(const struct conf *map, struct config *c, struct conf_error *e)
{
	const struct conf *poll = NULL;
	int r = take_map(map, "poll", &poll, e);

	if (r < 0)
		return r;
	r = conf_optional_seconds(poll, "with_broker", 6 * HOUR, &c->poll.with_broker_s, e);
	if (r < 0)
		return r;
	r = conf_optional_seconds(poll, "without_broker", 15 * 60, &c->poll.without_broker_s, e);
	if (r < 0)
		return r;
	if (c->poll.with_broker_s < 1 || c->poll.without_broker_s < 1)
		return conf_fail(poll, e, "expected poll intervals of a second or more");
	return poll ? conf_reject_unknown(poll, e) : 0;
}

static int take_metrics(const struct conf *map, struct config *c, struct conf_error *e)
{
	const struct conf *metrics = NULL;
	size_t len;
	int r = take_map(map, "metrics", &metrics, e);

	if (r < 0 || !metrics || conf_kind(metrics) == CONF_MISSING)
		return r;
	r = take_path(metrics, "file", NULL, &c->metrics_file, e);
	if (r < 0)
		return r;
	len = c->metrics_file ? strlen(c->metrics_file) : 0;
	if (len < 5 || strcmp(c->metrics_file + len - 5, ".prom") != 0)
		return conf_fail(metrics, e, "expected metrics with a file that ends with .prom");
	r = conf_optional_seconds(metrics, "every", 60, &c->metrics_every_s, e);
	if (r < 0)
		return r;
	if (c->metrics_every_s < 1)
		return conf_fail(metrics, e, "expected every of a second or more");
	return conf_reject_unknown(metrics, e);
}

static int take_limits(const struct conf *map, struct config *c, struct conf_error *e)
{
	uint64_t n = 0;
	int r = conf_optional_u64(map, "keep_versions", 1, 1000, 3, &n, e);

	if (r < 0)
		return r;
	c->keep_versions = (unsigned) n;
	r = conf_optional_bytes(map, "quota", 0, &c->quota_bytes, e);
	if (r < 0)
		return r;
	r = conf_optional_u64(map, "max_swaps_per_day", 1, 10000, 6, &n, e);
	if (r < 0)
		return r;
	c->max_swaps_per_day = (unsigned) n;
	r = take_list(map, "inhibitors", &c->inhibit_users, e);
	if (r < 0)
		return r;
	r = conf_optional_u64(map, "zone_data_months", 0, 1200, 24, &n, e);
	if (r < 0)
		return r;
	c->zone_data_months = (unsigned) n;
	r = take_metrics(map, c, e);
	if (r < 0)
		return r;
	r = conf_optional_seconds(map, "probation_cap", 0, &c->probation_cap_s, e);
	if (r < 0)
		return r;
	r = conf_optional_seconds(map, "link_deadline", 30 * 60, &c->link_deadline_s, e);
	if (r < 0)
		return r;
	r = conf_optional_seconds(map, "handover", 5 * 60, &c->handover_s, e);
	if (r < 0)
		return r;
	if (c->handover_s < 1 || c->handover_s > DAY)
		return conf_fail(conf_get(map, "handover"), e, "expected a time from a second to a day");
	r = conf_optional_bool(map, "demo_single_key_agent", false, &c->demo_single_key_agent, e);
	if (r < 0)
		return r;
	r = conf_optional_seconds(map, "report", 15 * 60, &c->report_s, e);
	if (r < 0)
		return r;
	r = conf_optional_seconds(map, "measure_every", 5 * 60, &c->measure_every_s, e);
	if (r < 0)
		return r;
	r = conf_optional_bool(map, "rehearse", false, &c->rehearse, e);
	if (r < 0)
		return r;
	r = conf_optional_seconds(map, "offline_grace", 0, &c->offline_grace_s, e);
	if (r < 0)
		return r;
	if (c->offline_grace_s > 366 * DAY)
		return conf_fail(conf_get(map, "offline_grace"), e, "expected at most 366d");
	return c->report_s < 1 ? conf_fail(conf_get(map, "report"), e, "expected a second or more") : 0;
}

static int take_agent(const struct conf *map, struct config *c, struct conf_error *e)
{
	const struct conf *labels = NULL;
	int r = take_id(map, "fleet", c->fleet, e);

	if (r < 0)
		return r;
	r = take_id(map, "node", c->node, e);
	if (r < 0)
		return r;
	r = take_path(map, "root", CONFIG_ROOT_DEFAULT, &c->root, e);
	if (r < 0)
		return r;
	r = take_path(map, "run", CONFIG_RUN_DEFAULT, &c->run, e);
	if (r < 0)
		return r;
	r = take_path(map, "programs", NULL, &c->programs, e);
	if (r < 0)
		return r;
	r = take_urls(map, "urls", &c->urls, e);
	if (r < 0)
		return r;
	r = take_mirrors(map, c, e);
	if (r < 0)
		return r;
	r = take_download(map, c, e);
	if (r == 0)
		r = take_upload(map, c, e);
	if (r < 0)
		return r;
	r = take_redirect_hosts(map, c, e);
	if (r < 0)
		return r;
	r = take_folders(map, c, e);
	if (r < 0)
		return r;
	r = take_roads(map, c, e);
	if (r < 0)
		return r;
	r = take_proxy(map, c, e);
	if (r < 0)
		return r;
	r = take_broker(map, c, e);
	if (r < 0)
		return r;
	r = take_map(map, "labels", &labels, e);
	if (r < 0)
		return r;
	r = take_labels(labels, &c->labels, e);
	if (r < 0)
		return r;
	r = take_users(map, c, e);
	if (r < 0)
		return r;
	r = take_poll(map, c, e);
	if (r < 0)
		return r;
	r = take_limits(map, c, e);
	if (r < 0)
		return r;
	return conf_reject_unknown(map, e);
}

static void component_done(struct config_component *c)
{
	free(c->name);
	free(c->user);
	string_list_done(&c->kinds);
	string_list_done(&c->users);
	string_list_done(&c->units);
	string_list_done(&c->data);
	*c = (struct config_component){ 0 };
}

static int take_component(const struct conf *map, const char *name, struct config_component *c,
			  struct conf_error *e)
{
	int r;

	c->name = strdup(name);
	if (!c->name)
		return out_of_memory(e);
	r = take_list(map, "kinds", &c->kinds, e);
	if (r < 0)
		return r;
	if (c->kinds.count == 0 && string_list_add(&c->kinds, "tree") < 0)
		return out_of_memory(e);
	r = take_text(map, "user", NULL, &c->user, e);
	if (r < 0)
		return r;
	r = take_list(map, "users", &c->users, e);
	if (r < 0)
		return r;
	r = take_list(map, "units", &c->units, e);
	if (r < 0)
		return r;
	r = take_list(map, "data", &c->data, e);
	if (r < 0)
		return r;
	r = conf_optional_bool(map, "restore_data", false, &c->restore_data, e);
	if (r < 0)
		return r;
	return conf_reject_unknown(map, e);
}

static bool is_pattern(const char *path)
{
	const char *slash = strrchr(path, '/');

	return path[0] == '/' && slash[1] != '\0' && guard_path(path + 1) &&
	       strcspn(path, "*?[") > (size_t) (slash - path); /* a pattern of folders could be anything */
}

static int take_set(const struct conf *map, const char *name, struct config_set *set, struct conf_error *e)
{
	const struct conf *list = conf_get(map, "files");
	int r;

	set->name = strdup(name);
	if (!set->name)
		return out_of_memory(e);
	r = take_list(map, "files", &set->files, e);
	if (r < 0)
		return r;
	if (set->files.count == 0)
		return conf_fail(map, e, "expected files, a list of absolute paths");
	for (size_t i = 0; i < set->files.count; i++)
		if (!is_pattern(set->files.items[i]))
			return conf_fail(conf_at(list, i), e,
					 "expected an absolute path with * at most in its last part, found '%s'",
					 set->files.items[i]);
	r = conf_optional_bytes(map, "max_bytes", CONFIG_SET_DEFAULT_BYTES, &set->max_bytes, e);
	if (r < 0)
		return r;
	if (set->max_bytes < 1024 || set->max_bytes > CONFIG_SET_MAX_BYTES)
		return conf_fail(conf_get(map, "max_bytes"), e, "expected 1K to 60M");
	return conf_reject_unknown(map, e);
}

static void set_done(struct config_set *set)
{
	free(set->name);
	string_list_done(&set->files);
	*set = (struct config_set){ 0 };
}

/* Whoever can write these files decides what runs as root. */
static int check_owner(const char *path, struct conf_error *e)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return fail_file(e, path, "%s", err_text(-errno));
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return fail_file(
			e, path,
			"expected root or the agent's own user as its owner; it is uid %ld's, and this is uid %ld",
			(long) st.st_uid, (long) geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return fail_file(e, path, "expected a file that only its owner can write (chmod go-w)");
	return 0;
}

static int load_file(const char *path, struct conf_file **ret, struct conf_error *e)
{
	int r = check_owner(path, e);

	return r < 0 ? r : conf_load(path, ret, e);
}

/* The *.yaml of a folder, sorted; a missing folder has none. */
static int list_yaml(const char *dir, const char *sub, char **ret_path, struct name_list *ret,
		     struct conf_error *e)
{
	char *path = NULL;
	size_t kept = 0;
	int fd, r;

	if (asprintf(&path, "%s/%s", dir, sub) < 0)
		return out_of_memory(e);
	*ret_path = path;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : fail_file(e, path, "%s", err_text(-errno));
	r = dir_list(&os_posix, fd, ".", ret);
	close(fd);
	if (r < 0)
		return fail_file(e, path, "%s", err_text(r));
	for (size_t i = 0; i < ret->count; i++) {
		size_t len = strlen(ret->names[i]);

		if (ret->names[i][0] != '.' && len > 5 && strcmp(ret->names[i] + len - 5, ".yaml") == 0)
			ret->names[kept++] = ret->names[i];
		else
			free(ret->names[i]);
	}
	ret->count = kept;
	return 0;
}

static int load_component(const char *dir, const char *file, struct config *c, struct conf_error *e)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	char path[PATH_MAX], name[NAME_MAX + 1];
	struct config_component *longer;
	int r;

	(void) snprintf(path, sizeof(path), "%s/%s", dir, file);
	(void) snprintf(name, sizeof(name), "%.*s", (int) (strlen(file) - strlen(".yaml")), file);
	if (!guard_id(name))
		return fail_file(e, path, "expected a component's name before .yaml: [a-z0-9][a-z0-9-]{0,62}");
	r = load_file(path, &f, e);
	if (r < 0)
		return r;
	longer = realloc(c->components, (c->component_count + 1) * sizeof(*longer));
	if (!longer)
		return out_of_memory(e);
	c->components = longer;
	c->components[c->component_count] = (struct config_component){ 0 };
	return take_component(conf_root(f), name, &c->components[c->component_count++], e);
}

static int load_set(const char *dir, const char *file, struct config *c, struct conf_error *e)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	char path[PATH_MAX], name[NAME_MAX + 1];
	struct config_set *longer;
	int r;

	(void) snprintf(path, sizeof(path), "%s/%s", dir, file);
	(void) snprintf(name, sizeof(name), "%.*s", (int) (strlen(file) - strlen(".yaml")), file);
	if (!guard_id(name))
		return fail_file(e, path, "expected a set's name before .yaml: [a-z0-9][a-z0-9-]{0,62}");
	r = load_file(path, &f, e);
	if (r < 0)
		return r;
	longer = realloc(c->sets, (c->set_count + 1) * sizeof(*longer));
	if (!longer)
		return out_of_memory(e);
	c->sets = longer;
	c->sets[c->set_count] = (struct config_set){ 0 };
	return take_set(conf_root(f), name, &c->sets[c->set_count++], e);
}

static int load_vars(const char *dir, const char *file, struct config *c, struct conf_error *e)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	char path[PATH_MAX];
	int r;

	(void) snprintf(path, sizeof(path), "%s/%s", dir, file);
	r = load_file(path, &f, e);
	if (r < 0)
		return r;
	return take_labels(conf_root(f), &c->vars, e);
}

static int load_folder(struct config *c, const char *sub,
		       int (*load)(const char *dir, const char *file, struct config *c, struct conf_error *e),
		       struct conf_error *e)
{
	struct name_list names = { 0 };
	char *path = NULL;
	int r = list_yaml(c->dir, sub, &path, &names, e);

	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = load(path, names.names[i], c, e);
	name_list_done(&names);
	free(path);
	return r;
}

static int load_all(const char *dir, struct config *c, struct conf_error *e)
{
	CLEANUP(conf_file_freep)
	struct conf_file *f = NULL;
	char path[PATH_MAX];
	int r = copy_text(dir, &c->dir, e);

	if (r < 0)
		return r;
	if (string_list_add(&c->otherwise.kinds, "tree") < 0)
		return out_of_memory(e);
	(void) snprintf(path, sizeof(path), "%s/agent.yaml", dir);
	if (access(path, F_OK) < 0)
		return fail_file(
			e, path, "%s",
			errno == ENOENT ? "not there: this machine has joined no fleet (selfright-agent join FILE "
					  "comes first), or its configuration is elsewhere (--config-dir DIR)"
			: errno == EACCES ? "only root may read the configuration here"
					  : err_text(-errno));
	r = load_file(path, &f, e);
	if (r < 0)
		return r;
	r = take_agent(conf_root(f), c, e);
	if (r < 0)
		return r;
	r = load_folder(c, "components.d", load_component, e);
	if (r < 0)
		return r;
	r = load_folder(c, "collect.d", load_set, e);
	if (r < 0)
		return r;
	return load_folder(c, "vars.d", load_vars, e);
}

int config_load(const char *dir, struct config *ret, struct conf_error *ret_error)
{
	struct config c = { 0 };
	int r = load_all(dir, &c, ret_error);

	if (r < 0) {
		config_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}

void config_done(struct config *c)
{
	for (size_t i = 0; i < c->component_count; i++)
		component_done(&c->components[i]);
	free(c->components);
	component_done(&c->otherwise);
	for (size_t i = 0; i < c->set_count; i++)
		set_done(&c->sets[i]);
	free(c->sets);
	free(c->dir);
	free(c->root);
	free(c->run);
	free(c->programs);
	if (c->proxy)
		explicit_bzero(c->proxy, strlen(c->proxy));
	free(c->proxy);
	string_list_done(&c->no_proxy);
	string_list_done(&c->redirect_hosts);
	string_list_done(&c->folders);
	string_list_done(&c->roads);
	string_list_done(&c->inhibit_users);
	free(c->metrics_file);
	free(c->broker.host);
	free(c->broker.alpn);
	string_list_done(&c->broker.addresses);
	free(c->users.link);
	free(c->users.stage);
	free(c->users.component);
	string_list_done(&c->urls);
	string_list_done(&c->mirrors);
	labels_done(&c->labels);
	labels_done(&c->vars);
	*c = (struct config){ 0 };
}

const struct config_set *config_set(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->set_count; i++)
		if (str_eq(c->sets[i].name, name))
			return &c->sets[i];
	return NULL;
}

const struct config_component *config_component(const struct config *c, const char *component)
{
	for (size_t i = 0; i < c->component_count; i++)
		if (str_eq(c->components[i].name, component))
			return &c->components[i];
	return &c->otherwise;
}

const char *config_component_user(const struct config *c, const char *component)
{
	const struct config_component *k = config_component(c, component);

	return k->user ? k->user : c->users.component;
}

bool config_allows_user(const struct config *c, const char *component, const char *user)
{
	return !user || str_eq(user, config_component_user(c, component)) ||
	       string_list_has(&config_component(c, component)->users, user);
}

static int check_user(const struct config *c, const char *user, const char *what, struct conf_error *e)
{
	if (process_user_exists(user))
		return 0;
	(void) snprintf(
		e->text, sizeof(e->text),
		"%s/agent.yaml: the user '%s' for %s does not exist here (useradd --system %s, or set users:)",
		c->dir, user, what, user);
	return -ERR_CONFIG;
}

int config_check_users(const struct config *c, struct conf_error *ret_error)
{
	int r = check_user(c, c->users.link, "the link", ret_error);

	if (r < 0)
		return r;
	r = check_user(c, c->users.stage, "downloads", ret_error);
	if (r < 0)
		return r;
	r = check_user(c, c->users.component, "components", ret_error);
	if (r < 0)
		return r;
	for (size_t i = 0; i < c->component_count; i++) {
		if (c->components[i].user && !process_user_exists(c->components[i].user))
			return fail_file(ret_error, c->components[i].name,
					 "components.d: the user '%s' does not exist here", c->components[i].user);
	}
	return 0;
}

/* 0 and *ret, or -ENOENT and one more place in `tried`. */
static int program_in(const char *dir, const char *name, char **ret, char *tried, size_t size)
{
	size_t len = strlen(tried);
	char *path = NULL;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return -ENOMEM;
	if (access(path, X_OK) == 0) {
		*ret = path;
		return 0;
	}
	(void) snprintf(tried + len, size - len, "%s%s", len > 0 ? ", " : "", path); /* a longer list is cut */
	free(path);
	return -ENOENT;
}

int config_program(const struct config *c, const char *name, char **ret, struct conf_error *ret_error)
{
	char self[PATH_MAX], prefix[PATH_MAX + 32], root[PATH_MAX], tried[4 * 100] = "", version[VERSION_MAX + 1];
	const char *places[] = { self, prefix, INSTALLED_PROGRAMS, CONFIG_PROGRAMS_DEFAULT };
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int r = -ENOENT;
	bool released;

	self[n > 0 ? n : 0] = '\0';
	/* An agent of a release works with the programs it came with, whatever is installed beside. */
	released = realpath(c->root, root) && supervisor_version_of(self, root, version, sizeof(version));
	if (strrchr(self, '/'))
		*strrchr(self, '/') = '\0';
	(void) snprintf(prefix, sizeof(prefix), "%.*s/libexec/selfright",
			strrchr(self, '/') ? (int) (strrchr(self, '/') - self) : 0, self);
	if (released)
		r = program_in(prefix, name, ret, tried, sizeof(tried));
	else if (c->programs)
		r = program_in(c->programs, name, ret, tried, sizeof(tried));
	for (size_t i = 0; !released && !c->programs && r == -ENOENT && i < ARRAY_LEN(places); i++)
		if (i < 3 || !str_eq(places[i], places[2]))
			r = program_in(places[i], name, ret, tried, sizeof(tried));
	if (r == -ENOENT)
		(void) snprintf(ret_error->text, sizeof(ret_error->text),
				"%s is not there or cannot be run; tried %s (agent.yaml: programs)", name, tried);
	else if (r < 0)
		return out_of_memory(ret_error);
	return r;
}

char *config_socket_path(const struct config *c)
{
	char *path = NULL;

	return asprintf(&path, "%s/agent.sock", c->run) < 0 ? NULL : path;
}
