#include "agent/local/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* As curl reads them: the small name first. */
static const char *from_environment(const char *small, const char *large)
{
	const char *value = getenv(small);

	if (!value || !value[0])
		value = getenv(large);
	return value && value[0] ? value : NULL;
}

static const char *proxy_of(const struct config *c)
{
	return c->proxy ? c->proxy : from_environment("https_proxy", "HTTPS_PROXY");
}

/* curl's default port for a proxy whose URL has none is 1080. */
bool config_proxy_address(const struct config *c, char *out, size_t size)
{
	const char *proxy = proxy_of(c), *start, *at, *colon;
	size_t len;

	if (!proxy)
		return false;
	start = strstr(proxy, "://");
	start = start ? start + 3 : proxy;
	len = strcspn(start, "/");
	at = memrchr(start, '@', len);
	if (at) {
		len -= (size_t) (at + 1 - start);
		start = at + 1;
	}
	colon = memrchr(start, ':', len);
	if (colon && memchr(colon, ']', len - (size_t) (colon - start)))
		colon = NULL;
	return len > 0 && snprintf(out, size, "%.*s%s", (int) len, start, colon ? "" : ":1080") < (int) size;
}

static int add(struct road_environment *e, const char *name, const char *value)
{
	if (e->count + 1 >= ARRAY_LEN(e->items))
		return -E2BIG;
	if (asprintf(&e->items[e->count], "%s=%s", name, value) < 0) {
		e->items[e->count] = NULL;
		return -ENOMEM;
	}
	e->count++;
	return 0;
}

static int add_exceptions(const struct config *c, struct road_environment *e)
{
	const char *inherited = from_environment("no_proxy", "NO_PROXY");
	char *all = NULL;
	int r = 0;

	if (c->no_proxy.count == 0)
		return inherited ? add(e, "no_proxy", inherited) : 0;
	for (size_t i = 0; r == 0 && i < c->no_proxy.count; i++) {
		char *longer = NULL;

		if (asprintf(&longer, "%s%s%s", all ? all : "", all ? "," : "", c->no_proxy.items[i]) < 0) {
			longer = NULL;
			r = -ENOMEM;
		}
		free(all);
		all = longer;
	}
	if (r == 0)
		r = add(e, "no_proxy", all);
	free(all);
	return r;
}

int config_road_environment(const struct config *c, struct road_environment *ret)
{
	struct road_environment e = { .count = 0 };
	const char *path = getenv("PATH"), *zone = getenv("TZ"), *proxy = proxy_of(c);
	int r = add(&e, "PATH", path && path[0] ? path : PATH_DEFAULT);

	if (r == 0)
		r = add(&e, "LANG", "C");
	if (r == 0 && zone)
		r = add(&e, "TZ", zone);
	if (r == 0 && proxy)
		r = add(&e, "https_proxy", proxy);
	if (r == 0)
		r = add_exceptions(c, &e);
	if (r < 0) {
		road_environment_done(&e);
		return r;
	}
	*ret = e;
	return 0;
}

void road_environment_done(struct road_environment *e)
{
	for (size_t i = 0; i < e->count; i++) {
		explicit_bzero(e->items[i], strlen(e->items[i])); /* a proxy may have a password */
		free(e->items[i]);
	}
	*e = (struct road_environment){ .count = 0 };
}

const char *config_proxy(const struct config *c, const char *host)
{
	return config_uses_proxy(c, host) ? proxy_of(c) : NULL;
}

bool config_road_is_open(const struct config *c, const char *road)
{
	if (!string_list_has(&c->roads, road))
		return false;
	return str_eq(road, "mqtt") ? c->broker.host != NULL
				    : (str_eq(road, "file") ? c->folders.count : c->urls.count) > 0;
}

uint64_t config_pace_at(const struct config_pace *p, const struct zone *zone, int64_t now)
{
	if (p->busy.count == 0)
		return p->rate;
	if (!zone)
		return p->rate == 0 || p->busy_rate < p->rate ? p->busy_rate : p->rate;
	return windows_contain(&p->busy, zone, now) ? p->busy_rate : p->rate;
}

/* "*", the host itself, or a domain it belongs to, with or without the dot. */
static bool covers(const char *exception, size_t len, const char *host)
{
	size_t have = strlen(host);

	if (len == 1 && exception[0] == '*')
		return true;
	if (len > 0 && exception[0] == '.') {
		exception++;
		len--;
	}
	if (len == 0 || len > have || strncasecmp(host + have - len, exception, len) != 0)
		return false;
	return len == have || host[have - len - 1] == '.';
}

bool config_uses_proxy(const struct config *c, const char *host)
{
	const char *inherited = from_environment("no_proxy", "NO_PROXY");

	if (!proxy_of(c))
		return false;
	for (size_t i = 0; i < c->no_proxy.count; i++)
		if (covers(c->no_proxy.items[i], strlen(c->no_proxy.items[i]), host))
			return false;
	if (c->no_proxy.count > 0 || !inherited)
		return true;
	for (const char *p = inherited; *p;) {
		size_t len = strcspn(p, ", ");

		if (covers(p, len, host))
			return false;
		p += len;
		p += strspn(p, ", ");
	}
	return true;
}
