#include "agent/phase/watches.h"

#include "agent/local/service.h"
#include "agent/phase/again.h"
#include "agent/phase/manifest.h"
#include "agent/phase/node.h"
#include "agent/probe/probe.h"
#include "agent/store/agents.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_MS = 60 * 1000 }; /* checks and services wake the engine by themselves */

#define FOR_EVER_MS (UINT64_C(1) << 50)

struct watch {
	char component[STATE_ID_SIZE], version[STATE_VERSION_SIZE]; /* component "": free */
	struct release release;
	struct part_checks checks;
	uint64_t end_ms; /* by the boot clock: a time of day that is put back makes no watch of years */
	bool failed;
	char why[STATE_DETAIL_SIZE];
};

struct watches {
	struct watch list[WATCHES_MAX];
};

static void drop(struct watch *w)
{
	if (!w->component[0])
		return;
	part_checks_done(&w->checks);
	release_done(&w->release);
	*w = (struct watch){ .component = "" };
}

static struct watch *find(struct node *n, const char *component)
{
	for (size_t i = 0; n->watches && i < WATCHES_MAX; i++)
		if (str_eq(n->watches->list[i].component, component))
			return &n->watches->list[i];
	return NULL;
}

/* Is it to be watched here: good, and not in anybody else's hands? */
static bool is_ours(const struct node *n, const struct node_component *c)
{
	return c && c->version[0] && c->watch_until > 0 && !str_eq(c->name, AGENTS_COMPONENT) &&
	       !update_concerns(n, c->name);
}

/* And not for long? */
static bool is_due(const struct node *n, const struct node_component *c)
{
	return is_ours(n, c) && c->watch_until > n->os->clock_real(n->os);
}

static int begin(struct node *n, const struct node_component *c, struct watch **ret)
{
	struct watch *w;
	struct part p = { .component = c->name, .to = c->version };
	int r;

	if (!n->watches) {
		n->watches = calloc(1, sizeof(*n->watches));
		if (!n->watches)
			return -ENOMEM;
	}
	w = find(n, "");
	if (!w)
		return -ERR_TOO_LARGE; /* more than anybody watches at once: the others are good already */
	r = manifest_load(n, c->name, c->version, &w->release);
	if (r < 0)
		return r;
	STATE_SET(w->component, c->name);
	STATE_SET(w->version, c->version);
	w->end_ms =
		node_now_ms(n) + again_rest_s(c->watch_until, n->os->clock_real(n->os), w->release.watch_s) * 1000;
	p.release = &w->release;
	p.checks = &w->checks;
	r = part_checks_begin(n, &p, PROBE_WATCH);
	if (r < 0) {
		drop(w);
		return r;
	}
	/* Nobody connects anew for it: the link proved itself in the probation. */
	for (size_t i = 0; i < w->release.check_count; i++)
		if (w->release.checks[i].kind == CHECK_LINK)
			probe_set_link_result(w->checks.set, true, NULL);
	log_info("watch-goes-on", "component=%s version=%s", c->name, c->version);
	if (ret)
		*ret = w;
	return 0;
}

void watches_take(struct node *n, const struct part *p)
{
	const struct node_component *c = state_component(n->state, p->component);
	struct watch *w = NULL;

	if (!c || !str_eq(c->version, p->to) || c->watch_until <= n->os->clock_real(n->os) ||
	    str_eq(p->component, AGENTS_COMPONENT) || find(n, p->component) || begin(n, c, &w) < 0)
		return; /* it is good already; it only goes unwatched */
	for (size_t i = 0; p->checks->set && i < probe_set_count(p->checks->set); i++) {
		const struct probe_status *s = probe_set_at(p->checks->set, i);

		if (s->state == PROBE_NOT_BLAMED)
			probe_set_was_failing(w->checks.set, s->check->name);
	}
}

static void look(struct node *n, struct watch *w, uint64_t now)
{
	const struct probe_status *why = NULL;
	const char *name = "";

	if (w->failed)
		return;
	if (services_settled(n->services, w->component, &name) < 0) {
		w->failed = true;
		(void) snprintf(w->why, sizeof(w->why), "the service %s did not stay up", name);
		return;
	}
	probe_set_step(w->checks.set, now);
	if (probe_set_verdict(w->checks.set, now, FOR_EVER_MS, &why) != PROBE_FAILED)
		return;
	/* Begun anew after a restart nobody knows what failed before: what never passed since is not blamed. */
	if (why && why->runs == why->failures) {
		probe_set_was_failing(w->checks.set, why->check->name);
		return;
	}
	w->failed = true;
	(void) snprintf(w->why, sizeof(w->why), "the check %s failed: %.300s", why ? why->check->name : "?",
			why ? why->detail : "");
}

uint64_t watches_step(struct node *n)
{
	uint64_t now = node_now_ms(n), next = UINT64_MAX;

	for (size_t i = 0; n->watches && i < WATCHES_MAX; i++) {
		struct watch *w = &n->watches->list[i];
		struct node_component *c = state_component(n->state, w->component);
		bool over = now >= w->end_ms;

		if (w->component[0] && (over || !is_ours(n, c) || !str_eq(c->version, w->version))) {
			node_see_set(n, w->component, w->checks.set);
			if (over && c && str_eq(c->version, w->version))
				c->watch_until = 0; /* not begun anew by the time of day */
			drop(w);
		}
	}
	for (size_t i = 0; i < n->state->component_count; i++) {
		struct node_component *c = n->state->components[i];

		if (!is_due(n, c) || find(n, c->name))
			continue;
		if (begin(n, c, NULL) < 0)
			c->watch_until = 0; /* not tried in a circle */
	}
	for (size_t i = 0; n->watches && i < WATCHES_MAX; i++)
		if (n->watches->list[i].component[0]) {
			look(n, &n->watches->list[i], now);
			next = now + LOOK_MS;
		}
	return next;
}

size_t watches_prepare(const struct node *n, struct pollfd *fds, size_t max, int *timeout_ms)
{
	size_t count = 0;

	for (size_t i = 0; n->watches && i < WATCHES_MAX; i++)
		if (n->watches->list[i].checks.set)
			count += probe_set_prepare(n->watches->list[i].checks.set, fds + count, max - count,
						   node_now_ms(n), timeout_ms);
	return count;
}

const char *watches_failed(const struct node *n, char *sentence, size_t size)
{
	for (size_t i = 0; n->watches && i < WATCHES_MAX; i++)
		if (n->watches->list[i].failed) {
			(void) snprintf(sentence, size, "%s", n->watches->list[i].why);
			return n->watches->list[i].component;
		}
	return NULL;
}

void watches_see(struct node *n)
{
	for (size_t i = 0; n->watches && i < WATCHES_MAX; i++)
		if (n->watches->list[i].component[0])
			node_see_set(n, n->watches->list[i].component, n->watches->list[i].checks.set);
}

void watches_free(struct node *n)
{
	for (size_t i = 0; n->watches && i < WATCHES_MAX; i++)
		drop(&n->watches->list[i]);
	free(n->watches);
	n->watches = NULL;
}
