#include "tests/fleet-sim/internal.h"

#include "base/err.h"
#include "os/os.h"
#include "zone/zone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Five continents; sites are spread over them in turn. */
static const char *const zone_names[SIM_ZONES] = { "Europe/Oslo",	"America/New_York", "America/Los_Angeles",
						   "America/Sao_Paulo", "Asia/Tokyo",	    "Australia/Sydney" };

static const char *const fault_names[SIM_FAULT_COUNT] = { [SIM_FINE] = "fine",
							  [SIM_CRASHING] = "crashing",
							  [SIM_LEAKING] = "leaking",
							  [SIM_ONE_SITE] = "one-site",
							  [SIM_AT_NIGHT] = "at-night" };

const char *sim_fault_name(enum sim_fault f)
{
	return fault_names[f];
}

/* FNV-1a of the words, then splitmix64: enough to look like chance, and the same on every machine. */
double sim_luck(const struct sim *s, const char *what, const char *a, const char *b)
{
	const char *words[] = { what, a, b };
	uint64_t h = 0xcbf29ce484222325u ^ s->options.seed;

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		for (const char *p = words[i] ? words[i] : "";; p++) {
			h = (h ^ (unsigned char) *p) * 0x100000001b3u;
			if (!*p)
				break;
		}
	h += 0x9e3779b97f4a7c15u;
	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
	h = (h ^ h >> 27) * 0x94d049bb133111ebu;
	return (double) ((h ^ h >> 31) >> 11) / 9007199254740992.0;
}

const char *sim_zone_name(size_t i)
{
	return zone_names[i];
}

const struct zone *sim_zone(const struct sim *s, const char *name)
{
	for (size_t i = 0; i < SIM_ZONES; i++)
		if (strcmp(zone_names[i], name) == 0)
			return s->zones[i];
	return NULL;
}

/* --- events: a binary heap; an event whose serial is not the node's newest is over --- */

static bool earlier(const struct sim_event *a, const struct sim_event *b)
{
	return a->at != b->at ? a->at < b->at : a->serial < b->serial;
}

int sim_wake_at(struct sim *s, size_t node, int64_t at)
{
	struct sim_node *n = s->nodes[node];
	size_t i;

	if (s->heap_count == s->heap_capacity) {
		size_t capacity = s->heap_capacity ? 2 * s->heap_capacity : 1024;
		struct sim_event *heap = realloc(s->heap, capacity * sizeof(*heap));

		if (!heap)
			return -ENOMEM;
		s->heap = heap;
		s->heap_capacity = capacity;
	}
	n->wakes_at = at;
	n->wake_serial = ++s->serial;
	i = s->heap_count++;
	for (const struct sim_event e = { at, s->serial, node };; i = (i - 1) / 2) {
		if (i == 0 || !earlier(&e, &s->heap[(i - 1) / 2])) {
			s->heap[i] = e;
			return 0;
		}
		s->heap[i] = s->heap[(i - 1) / 2];
	}
}

static void drop_first(struct sim *s)
{
	const struct sim_event last = s->heap[--s->heap_count];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= s->heap_count)
			break;
		if (child + 1 < s->heap_count && earlier(&s->heap[child + 1], &s->heap[child]))
			child++;
		if (!earlier(&s->heap[child], &last))
			break;
		s->heap[i] = s->heap[child];
		i = child;
	}
	s->heap[i] = last;
}

int sim_run(struct sim *s, int64_t until)
{
	for (;;) {
		int64_t control = sim_control_due(s);
		int r;

		while (s->heap_count && s->heap[0].serial != s->nodes[s->heap[0].node]->wake_serial)
			drop_first(s);
		if (control <= until && (s->heap_count == 0 || control <= s->heap[0].at)) {
			s->now = control > s->now ? control : s->now;
			r = sim_control(s);
		} else if (s->heap_count && s->heap[0].at <= until) {
			size_t node = s->heap[0].node;

			s->now = s->heap[0].at > s->now ? s->heap[0].at : s->now;
			drop_first(s);
			r = sim_node_wake(s, node);
		} else {
			break;
		}
		if (r < 0)
			return r;
	}
	s->now = until > s->now ? until : s->now;
	return 0;
}

/* --- the fleet --- */

int64_t sim_now(const struct sim *s)
{
	return s->now;
}

size_t sim_node_count(const struct sim *s)
{
	return s->node_count;
}

struct sim_node *sim_node(struct sim *s, size_t i)
{
	return s->nodes[i];
}

size_t sim_index(const struct sim *s, const struct sim_node *n)
{
	size_t i = 0;

	while (s->nodes[i] != n)
		i++;
	return i;
}

uint64_t sim_decisions(const struct sim *s)
{
	return s->decisions;
}

uint64_t sim_publications(const struct sim *s)
{
	return s->publication_count;
}

/* Every rollout knows every node. */
static int grow_members(struct sim *s)
{
	for (size_t i = 0; i < s->rollout_count; i++) {
		struct sim_rollout *r = s->rollouts[i];
		struct sim_member *members = reallocarray(r->members, s->node_count, sizeof(*members));
		int e;

		if (!members)
			return -ENOMEM;
		r->members = members;
		members[s->node_count - 1] = (struct sim_member){ 0 };
		e = plan_share(r->id, s->nodes[s->node_count - 1]->id, &members[s->node_count - 1].share);
		if (e < 0)
			return e;
	}
	return 0;
}

int sim_add_node(struct sim *s, const struct sim_release *runs, struct sim_node **ret)
{
	struct sim_node *n = calloc(1, sizeof(*n));
	size_t i = s->node_count;
	char text[ID_MAX + 1];
	int r;

	if (!n)
		return -ENOMEM;
	if (s->node_count == s->node_capacity) {
		size_t capacity = s->node_capacity ? 2 * s->node_capacity : 256;
		struct sim_node **nodes = reallocarray(s->nodes, capacity, sizeof(*nodes));

		if (!nodes) {
			free(n);
			return -ENOMEM;
		}
		s->nodes = nodes;
		s->node_capacity = capacity;
	}
	s->nodes[s->node_count++] = n;
	n->site = (unsigned) (i % SIM_SITES);
	n->zone = n->site % SIM_ZONES;
	n->added_at = s->now;
	n->runs = runs;
	n->connected = true;
	if (runs)
		n->good[n->good_count++] = runs->version;
	snprintf(n->id, sizeof(n->id), "n%05zu", i);
	snprintf(text, sizeof(text), "s%02u", n->site);
	r = labels_set(&n->labels, "site", text);
	if (r == 0)
		r = labels_set(&n->labels, "zone", zone_names[n->zone]);
	/* The first site has little traffic; some of the first nodes of the others go early. */
	if (r == 0)
		r = labels_set(&n->labels, "traffic", n->site == 0 ? "low" : "normal");
	if (r == 0 && i >= 1 && i <= 8)
		r = labels_set(&n->labels, "ring", "early");
	/* Two and two of a site stand by for each other. */
	snprintf(text, sizeof(text), "pair-%u-%zu", n->site, i / (2 * SIM_SITES));
	if (r == 0)
		r = labels_set(&n->labels, "pair", text);
	if (r == 0)
		r = grow_members(s);
	if (r < 0)
		return r;
	/* It has run that for long: before the clock of the first look at its past. */
	n->lives[n->life_count++] = (struct sim_life){ runs, 0 };
	n->dead = sim_luck(s, "dead", n->id, NULL) < s->options.dead;
	sim_node_start(s, i);
	if (ret)
		*ret = n;
	return sim_wake_at(s, i, s->now + (int64_t) (sim_luck(s, "first", n->id, NULL) * 60));
}

int sim_label(struct sim *s, struct sim_node *n, const char *name, const char *value)
{
	int r = labels_set(&n->labels, name, value);

	s->dirty = true;
	return r < 0 ? r : sim_wake_at(s, sim_index(s, n), s->now);
}

int sim_connect(struct sim *s, struct sim_node *n, bool connected)
{
	n->connected = connected;
	n->heard.at = connected ? s->now - 86400 : n->heard.at; /* it tells at once */
	return sim_wake_at(s, sim_index(s, n), s->now);
}

int sim_release(struct sim *s, enum sim_fault fault, unsigned site, struct sim_release **ret)
{
	struct sim_release **list = reallocarray(s->releases, s->release_count + 1, sizeof(*list));
	struct sim_release *r;

	if (!list)
		return -ENOMEM;
	s->releases = list;
	if (s->release_count == SIM_ROLLOUTS_MAX)
		return -ERR_TOO_LARGE;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	s->releases[s->release_count] = r;
	snprintf(r->version, sizeof(r->version), "1.%zu.0", s->release_count++);
	r->fault = fault;
	r->site = site;
	r->probation_s = 10 * 60;
	r->watch_s = 24 * 3600;
	*ret = r;
	return 0;
}

int sim_open(const struct sim_options *o, struct sim **ret)
{
	struct sim *s = calloc(1, sizeof(*s));
	struct sim_release *first;
	int r = 0;

	if (!s)
		return -ENOMEM;
	s->options = *o;
	s->now = o->start;
	s->up = true;
	for (size_t i = 0; r == 0 && i < SIM_ZONES; i++)
		r = zone_load(&os_posix, zone_names[i], &s->zones[i]);
	if (r == 0)
		r = sim_policy(s, NULL, NULL);
	if (r == 0)
		r = sim_release(s, SIM_FINE, 0, &first);
	for (size_t i = 0; r == 0 && i < o->nodes; i++)
		r = sim_add_node(s, first, NULL);
	if (r < 0) {
		sim_close(s);
		return r;
	}
	/* They have been there for long. */
	for (size_t i = 0; i < s->node_count; i++)
		s->nodes[i]->added_at -= 90 * 86400;
	*ret = s;
	return 0;
}

void sim_close(struct sim *s)
{
	if (!s)
		return;
	sim_control_done(s);
	for (size_t i = 0; i < s->node_count; i++) {
		labels_done(&s->nodes[i]->labels);
		free(s->nodes[i]);
	}
	for (size_t i = 0; i < s->release_count; i++)
		free(s->releases[i]);
	for (size_t i = 0; i < SIM_ZONES; i++)
		zone_free(s->zones[i]);
	free(s->nodes);
	free(s->releases);
	free(s->heap);
	free(s);
}
