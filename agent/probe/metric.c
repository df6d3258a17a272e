#include "agent/probe/metric.h"

#include "base/err.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One line taken apart; everything points into `text`. */
struct line {
	char text[METRIC_LINE_MAX];
	const char *name;
	struct {
		const char *name, *value;
	} labels[METRIC_LABELS_MAX];
	size_t count;
	double value;
};

static const char *label_of(const void *user, const char *label)
{
	const struct line *l = user;

	for (size_t i = 0; i < l->count; i++)
		if (strcmp(l->labels[i].name, label) == 0)
			return l->labels[i].value;
	return NULL;
}

static bool is_name_byte(char b)
{
	return (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') || b == '_' || b == ':';
}

static char *skip_blanks(char *p)
{
	return p + strspn(p, " \t");
}

/* The word at `p`; *ret_end stands behind it, where its terminator goes later. */
static bool take_word(char *p, char **ret_end)
{
	char *end = p;

	if (*p >= '0' && *p <= '9')
		return false;
	while (is_name_byte(*end))
		end++;
	*ret_end = end;
	return end > p;
}

/* A quoted value, undone in place. NULL: it has no end. */
static char *take_value(char *p, char **ret_end)
{
	char *out, *start;

	if (*p != '"')
		return NULL;
	start = out = ++p;
	for (; *p != '"'; p++) {
		if (*p == '\0')
			return NULL;
		if (*p == '\\' && p[1] != '\0') {
			p++;
			*out++ = *p == 'n' ? '\n' : *p;
			continue;
		}
		*out++ = *p;
	}
	*ret_end = p + 1;
	*out = '\0'; /* at the latest over the closing quote */
	return start;
}

/* {a="b",c="d"}; `p` behind the brace. NULL: malformed or more than we look at. */
static char *take_labels(struct line *l, char *p)
{
	for (;;) {
		char *end, *value;

		p = skip_blanks(p);
		if (*p == '}')
			return p + 1;
		if (l->count == METRIC_LABELS_MAX || !take_word(p, &end))
			return NULL;
		l->labels[l->count].name = p;
		p = skip_blanks(end);
		if (*p != '=')
			return NULL;
		*end = '\0'; /* over a blank or the '=' */
		p = skip_blanks(p + 1);
		value = take_value(p, &p);
		if (!value)
			return NULL;
		l->labels[l->count++].value = value;
		p = skip_blanks(p);
		if (*p == ',')
			p++;
		else if (*p != '}')
			return NULL;
	}
}

/* strtod takes "nan", "inf" and hexadecimal as well; Go's parser, which wrote the format, does too. */
static bool take_number(const char *p, double *ret)
{
	char *end;

	*ret = strtod(p, &end);
	return end > p && (*end == '\0' || *end == ' ' || *end == '\t' || *end == '\r');
}

/* 1: a sample; 0: nothing of interest; -ERR_SYNTAX. */
static int take_line(struct line *l, const char *text, size_t len)
{
	char *p, *end;

	if (len >= sizeof(l->text))
		return -ERR_TOO_LARGE;
	memcpy(l->text, text, len);
	l->text[len] = '\0';
	if (strlen(l->text) != len)
		return -ERR_SYNTAX;
	l->count = 0;
	p = skip_blanks(l->text);
	if (*p == '#' || *p == '\0' || *p == '\r')
		return 0;
	if (!take_word(p, &end))
		return -ERR_SYNTAX;
	l->name = p;
	p = skip_blanks(end);
	if (*p == '{') {
		p = take_labels(l, p + 1);
		if (!p)
			return -ERR_SYNTAX;
	} else if (p == end) {
		return -ERR_SYNTAX;
	}
	*end = '\0'; /* over a blank or the brace */
	/* A time, or an example, may follow; neither is looked at. */
	return take_number(skip_blanks(p), &l->value) ? 1 : -ERR_SYNTAX;
}

static void add(const struct selector *s, const struct line *l, double *sum, uint64_t *series)
{
	if (!s || isnan(l->value) || !selector_matches(s, l->name, label_of, l))
		return;
	*sum += l->value;
	(*series)++;
}

int metric_read(const char *text, size_t len, const struct selector *select, const struct selector *of,
		struct metric_sample *ret, size_t *ret_line)
{
	struct metric_sample sample = { 0 };
	struct line l = { .count = 0 };
	size_t number = 0;
	int r;

	if (len > METRIC_TEXT_MAX)
		return -ERR_TOO_LARGE;
	while (len > 0) {
		const char *newline = memchr(text, '\n', len);
		size_t n = newline ? (size_t) (newline - text) : len;

		number++;
		r = take_line(&l, text, n);
		if (r < 0) {
			if (ret_line)
				*ret_line = number;
			return r;
		}
		if (r > 0) {
			add(select, &l, &sample.select, &sample.select_series);
			add(of, &l, &sample.of, &sample.of_series);
		}
		n += newline ? 1 : 0;
		text += n;
		len -= n;
	}
	*ret = sample;
	return 0;
}

/* --- over time --- */

static double increase(double before, double now)
{
	return now >= before ? now - before : now; /* it started again */
}

/* Every second one goes: the same span with half the points. The first and the newest stay. */
static void thin(struct metric_window *w)
{
	size_t kept = 0;

	for (size_t i = 0; i < w->count; i++)
		if (i % 2 == 0 || i + 1 == w->count)
			w->points[kept++] = w->points[i];
	w->count = kept;
}

void metric_window_add(struct metric_window *w, uint64_t at_ms, const struct metric_sample *sample)
{
	struct metric_point p = { .at_ms = at_ms, .value = sample->select };

	if (w->has_last && w->count > 0) {
		p.select = w->points[w->count - 1].select + increase(w->last.select, sample->select);
		p.of = w->points[w->count - 1].of + increase(w->last.of, sample->of);
	}
	if (w->count == METRIC_POINTS_MAX)
		thin(w);
	w->points[w->count++] = p;
	w->last = *sample;
	w->has_last = true;
}

/* The mean of the newest `min_samples` answers. */
static struct metric_value gauge(const struct metric_window *w, uint64_t min_samples)
{
	struct metric_value v = { .value = 0 };
	size_t n = min_samples < w->count ? (size_t) min_samples : w->count;

	for (size_t i = 0; i < n; i++)
		v.value += w->points[w->count - 1 - i].value;
	if (n > 0)
		v.value /= (double) n;
	v.samples = (double) n;
	/* More than are kept cannot be asked for; then all that are kept have to do. */
	v.enough = n > 0 && (n >= min_samples || w->count >= METRIC_POINTS_MAX / 2);
	return v;
}

static struct metric_value change(const struct metric_window *w, const struct release_metric *m)
{
	struct metric_value v = { .value = 0 };
	const struct metric_point *now;

	if (w->count < 2)
		return v;
	now = &w->points[w->count - 1];
	for (size_t i = w->count - 1; i-- > 0 && !v.enough;) {
		const struct metric_point *then = &w->points[i];
		double seconds = (double) (now->at_ms - then->at_ms) / 1000;

		v.samples = m->of ? now->of - then->of : (double) (w->count - 1 - i);
		v.enough = v.samples >= (double) m->min_samples && seconds > 0;
		if (m->of)
			v.value = v.samples > 0 ? (now->select - then->select) / v.samples : 0;
		else
			v.value = seconds > 0 ? (now->select - then->select) / seconds : 0;
	}
	return v;
}

struct metric_value metric_window_value(const struct metric_window *w, const struct release_metric *m)
{
	return m->of || m->rate ? change(w, m) : gauge(w, m->min_samples);
}

/* --- judging --- */

static bool breaks(const char *bound, double factor, bool upper, double value)
{
	double limit;

	if (!bound)
		return false;
	limit = strtod(bound, NULL) * factor;
	/* What was written with nine digits before the swap and comes back the same keeps its bound. */
	return upper ? value > limit + fabs(limit) * 1e-8 : value < limit - fabs(limit) * 1e-8;
}

enum run_end metric_judge(const struct release_metric *m, const struct metric_value *v, const char *before,
			  struct buf *detail)
{
	bool relative = m->min_of_before || m->max_of_before, known = before && before[0];
	double was = known ? strtod(before, NULL) : 0;

	if (!v->enough) {
		run_say(detail, "%.0f samples so far; %llu are needed to tell", v->samples,
			(unsigned long long) m->min_samples);
		return RUN_INCONCLUSIVE;
	}
	if (breaks(m->max, 1, true, v->value) || breaks(m->min, 1, false, v->value)) {
		run_say(detail, "%s is %.6g, and must be %s %s (%.0f samples)", m->select, v->value,
			breaks(m->max, 1, true, v->value) ? "at most" : "at least",
			breaks(m->max, 1, true, v->value) ? m->max : m->min, v->samples);
		return RUN_FAILED;
	}
	if (known &&
	    (breaks(m->max_of_before, was, true, v->value) || breaks(m->min_of_before, was, false, v->value))) {
		run_say(detail,
			"%s is %.6g; before the swap it was %.6g, and must be %s %s times that (%.0f samples)",
			m->select, v->value, was,
			breaks(m->max_of_before, was, true, v->value) ? "at most" : "at least",
			breaks(m->max_of_before, was, true, v->value) ? m->max_of_before : m->min_of_before,
			v->samples);
		return RUN_FAILED;
	}
	if (relative && !known && !m->min && !m->max) {
		run_say(detail, "%s is %.6g; what it was before the swap is not known", m->select, v->value);
		return RUN_INCONCLUSIVE;
	}
	if (known)
		run_say(detail, "%s is %.6g, before the swap %.6g (%.0f samples)", m->select, v->value, was,
			v->samples);
	else
		run_say(detail, "%s is %.6g (%.0f samples)", m->select, v->value, v->samples);
	return RUN_HELD;
}
