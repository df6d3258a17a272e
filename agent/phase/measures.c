#include "agent/phase/measures.h"

#include "agent/phase/manifest.h"
#include "agent/phase/node.h"
#include "agent/probe/hours.h"
#include "agent/probe/probe.h"
#include "agent/store/agents.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	LOOK_MS = 60 * 1000, /* checks wake the engine by themselves */
	HOUR_S = 3600,
};

#define NEVER_MS UINT64_MAX

struct measure {
	char component[STATE_ID_SIZE], version[STATE_VERSION_SIZE]; /* component "": free */
	struct release release; /* as it was read, metrics first */
	struct release metrics; /* the same, but for these alone: owns nothing */
	struct part_checks checks;
	uint64_t runs[RELEASE_CHECKS_MAX]; /* that were counted */
};

struct measures {
	struct measure list[MEASURES_MAX];
	struct hours hours;
	bool refused; /* said once */
};

static void drop(struct measure *m)
{
	if (!m->component[0])
		return;
	part_checks_done(&m->checks);
	release_done(&m->release);
	*m = (struct measure){ .component = "" };
}

static struct measure *find(struct node *n, const char *component)
{
	for (size_t i = 0; n->measures && i < MEASURES_MAX; i++)
		if (str_eq(n->measures->list[i].component, component))
			return &n->measures->list[i];
	return NULL;
}

/* Does it run, and is nobody about to stop or judge it? */
static bool is_due(const struct node *n, const struct node_component *c)
{
	enum node_update_state s = n->state->update.state;

	if (n->config->measure_every_s == 0 || !c || !c->version[0] || str_eq(c->name, AGENTS_COMPONENT))
		return false;
	return !update_concerns(n, c->name) || s == NODE_PLANNED || s == NODE_STAGING || s == NODE_STAGED ||
	       s == NODE_WAITING || s == NODE_WATCH;
}

/* Metrics come first, and each is asked at our own pace for what it is, not for what it must be. */
static void choose(const struct node *n, struct measure *m)
{
	struct release_check *list = m->release.checks;
	size_t count = 0;

	for (size_t i = 0; i < m->release.check_count; i++)
		if (list[i].kind == CHECK_METRIC) {
			struct release_check c = list[i];

			list[i] = list[count];
			list[count] = c;
			list[count].initial_delay_s = 0;
			if (list[count].period_s < n->config->measure_every_s)
				list[count].period_s = n->config->measure_every_s;
			/* Each answer for itself; of counted things those since the answer before, even none. */
			list[count].metric.min_samples = list[count].metric.of ? 0 : 1;
			count++;
		}
	m->metrics = m->release;
	m->metrics.check_count = count;
}

static int begin(struct node *n, const struct node_component *c)
{
	struct part p = { .component = c->name, .to = c->version };
	struct measure *m;
	int r;

	if (!n->measures) {
		n->measures = calloc(1, sizeof(*n->measures));
		if (!n->measures)
			return -ENOMEM;
	}
	m = find(n, "");
	if (!m)
		return -ERR_TOO_LARGE;
	r = manifest_load(n, c->name, c->version, &m->release);
	if (r < 0)
		return r;
	STATE_SET(m->component, c->name);
	STATE_SET(m->version, c->version);
	choose(n, m);
	p.release = &m->metrics;
	p.checks = &m->checks;
	/* Without metrics it keeps its place, or its manifest would be read again and again. */
	r = part_checks_begin(n, &p, PROBE_PROBATION);
	if (r < 0)
		drop(m);
	return r;
}

static void look(struct node *n, struct measure *m)
{
	int64_t hour = n->os->clock_real(n->os) / HOUR_S;

	probe_set_step(m->checks.set, node_now_ms(n));
	for (size_t i = 0; i < probe_set_count(m->checks.set); i++) {
		const struct probe_status *s = probe_set_at(m->checks.set, i);
		double value = 0, samples = 0;

		if (s->runs == m->runs[i])
			continue;
		m->runs[i] = s->runs;
		if (probe_set_measured(m->checks.set, i, &value, &samples))
			hours_add(&n->measures->hours, m->component, m->version, s->check->name, hour, value,
				  samples);
	}
}

uint64_t measures_step(struct node *n)
{
	uint64_t next = NEVER_MS;

	for (size_t i = 0; n->measures && i < MEASURES_MAX; i++) {
		struct measure *m = &n->measures->list[i];
		const struct node_component *c = state_component(n->state, m->component);

		if (m->component[0] && (!is_due(n, c) || !str_eq(c->version, m->version)))
			drop(m);
	}
	for (size_t i = 0; i < n->state->component_count; i++) {
		const struct node_component *c = n->state->components[i];
		int r;

		if (!is_due(n, c) || find(n, c->name))
			continue;
		r = begin(n, c);
		next = node_now_ms(n) + LOOK_MS;
		if (r < 0 && n->measures && !n->measures->refused) {
			n->measures->refused = true;
			log_warning("not-measured",
				    "the metrics of a component are not measured: %s  component=%s", err_text(r),
				    c->name);
		}
	}
	for (size_t i = 0; n->measures && i < MEASURES_MAX; i++)
		if (n->measures->list[i].component[0] && n->measures->list[i].metrics.check_count > 0) {
			look(n, &n->measures->list[i]);
			next = node_now_ms(n) + LOOK_MS;
		}
	return next;
}

size_t measures_prepare(const struct node *n, struct pollfd *fds, size_t max, int *timeout_ms)
{
	size_t count = 0;

	for (size_t i = 0; n->measures && i < MEASURES_MAX; i++)
		if (n->measures->list[i].checks.set)
			count += probe_set_prepare(n->measures->list[i].checks.set, fds + count, max - count,
						   node_now_ms(n), timeout_ms);
	return count;
}

static int tell(const struct hours_series *s, struct report_metric *out)
{
	out->component = strdup(s->component);
	out->version = strdup(s->version);
	out->name = strdup(s->name);
	out->hours = calloc(s->count + 1, sizeof(*out->hours));
	if (!out->component || !out->version || !out->name || !out->hours)
		return -ENOMEM;
	for (size_t i = 0; i < s->count; i++) {
		double samples = s->hours[i].samples;

		out->hours[out->hour_count++] = (struct report_metric_hour){
			.hour = s->hours[i].hour,
			.mean = s->hours[i].sum / samples,
			.samples = samples < 1	    ? 1
				   : samples < 1e15 ? (uint64_t) samples
						    : 1000000000000000,
		};
	}
	return 0;
}

int measures_report(const struct node *n, struct report *out)
{
	int r = 0;

	if (!n->measures)
		return 0;
	out->metrics = calloc(n->measures->hours.count + 1, sizeof(*out->metrics));
	if (!out->metrics)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < n->measures->hours.count; i++)
		r = tell(&n->measures->hours.series[i], &out->metrics[out->metric_count++]);
	return r;
}

void measures_free(struct node *n)
{
	for (size_t i = 0; n->measures && i < MEASURES_MAX; i++)
		drop(&n->measures->list[i]);
	free(n->measures);
	n->measures = NULL;
}
