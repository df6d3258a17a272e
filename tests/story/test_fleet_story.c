/*
 * Stories about what a whole fleet does: every *.story file of the folder fleet/. The real scheduler, documents
 * and decide() on a fleet in memory (tests/fleet-sim/sim.h) whose links never fail by themselves.
 *
 * A file is one story; lines are words, '#' begins a comment. Nodes n00000, n00001 ... run 1.0.0; the site of node i
 * is s<i modulo 12>, and its zone follows the site: Europe/Oslo, America/New_York, America/Los_Angeles,
 * America/Sao_Paulo, Asia/Tokyo, Australia/Sydney, and again. n00001 to n00008 are labelled ring=early,
 * those of s0 traffic=low. The clock starts on Monday, 2028-01-03 00:00 UTC.
 *
 *   story   TITLE
 *   given|when
 *     fleet N                                     first of all
 *     release VERSION fine|crashing|leaking|at-night|one-site SITE     in order: 1.1.0, 1.2.0 ...
 *     plan LINE                                   of the plan of the next rollout (YAML)
 *     rollout VERSION                             started; it is called r1, r2 ... in order
 *     minutes|hours|days N                        go by
 *     time YYYY-MM-DDTHH:MM:SSZ                   comes
 *     controller away|back
 *     controller backed-up|restored
 *     paused|resumed|cancelled|undone ID          by a person
 *     skipped|unskipped NODE
 *     label NODE NAME VALUE
 *     node absent|VERSION                         a new one appears
 *     disconnected|connected NODE
 *     floor VERSION | revoked VERSION
 *   expect
 *     state ID STATE
 *     open ID STAGE[,STAGE...]|none
 *     why ID TEXT...
 *     runs NODE VERSION|absent
 *     count VERSION N                             so many nodes run it
 *     reached VERSION N                           so many nodes ever ran it
 */
#include "base/attr.h"
#include "base/timestamp.h"
#include "tests/fleet-sim/sim.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WORDS_MAX = 32, LINE_MAX_BYTES = 512, STORIES_MIN = 12, HOUR = 3600, START = 1830470400 };

struct story {
	const char *file;
	unsigned line;
	char *words[WORDS_MAX + 1];
	int count;
	char *rest; /* of the line, behind the second word */
	struct sim *sim;
	struct sim_release *releases[16];
	size_t release_count;
	char plan[4096];
	bool expected; /* something was */
};

static void wrong(const struct story *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void wrong(const struct story *s, const char *fmt, ...)
{
	char what[512];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	fail_msg("%s:%u: %s", s->file, s->line, what);
}

static const char *word(const struct story *s, int i)
{
	if (i >= s->count)
		wrong(s, "word %d is missing", i + 1);
	return s->words[i];
}

static int64_t number(const struct story *s, int i)
{
	uint64_t n = 0;

	if (parse_u64(word(s, i), &n) < 0)
		wrong(s, "'%s' is no number", word(s, i));
	return (int64_t) n;
}

static struct sim_node *node(const struct story *s, int i)
{
	for (size_t k = 0; k < sim_node_count(s->sim); k++)
		if (strcmp(sim_node(s->sim, k)->id, word(s, i)) == 0)
			return sim_node(s->sim, k);
	wrong(s, "there is no node '%s'", word(s, i));
	return NULL;
}

static struct sim_rollout *rollout(const struct story *s, int i)
{
	for (size_t k = 0; k < sim_rollout_count(s->sim); k++)
		if (strcmp(sim_rollout(s->sim, k)->id, word(s, i)) == 0)
			return sim_rollout(s->sim, k);
	wrong(s, "there is no rollout '%s'", word(s, i));
	return NULL;
}

static struct sim_release *release(const struct story *s, int i)
{
	for (size_t k = 0; k < s->release_count; k++)
		if (strcmp(s->releases[k]->version, word(s, i)) == 0)
			return s->releases[k];
	wrong(s, "there is no release '%s'", word(s, i));
	return NULL;
}

static void done(const struct story *s, int r)
{
	if (r < 0)
		wrong(s, "'%s' failed with %d", word(s, 1), r);
}

/* --- given and when --- */

static void do_fleet(struct story *s)
{
	const struct sim_options o = { .seed = 1, .nodes = (size_t) number(s, 2), .start = START, .steady = true };

	done(s, sim_open(&o, &s->sim));
	s->releases[s->release_count++] = (struct sim_release *) (uintptr_t) sim_node(s->sim, 0)->runs;
}

static void do_release(struct story *s)
{
	enum sim_fault fault = SIM_FAULT_COUNT;
	unsigned site = 0;

	for (int f = 0; f < SIM_FAULT_COUNT; f++)
		if (strcmp(sim_fault_name((enum sim_fault) f), word(s, 3)) == 0)
			fault = (enum sim_fault) f;
	if (fault == SIM_FAULT_COUNT)
		wrong(s, "no fault is called '%s'", word(s, 3));
	if (fault == SIM_ONE_SITE)
		site = (unsigned) number(s, 4);
	if (s->release_count == ARRAY_LEN(s->releases))
		wrong(s, "too many releases");
	done(s, sim_release(s->sim, fault, site, &s->releases[s->release_count]));
	if (strcmp(s->releases[s->release_count++]->version, word(s, 2)) != 0)
		wrong(s, "releases come in order: 1.1.0, 1.2.0 ...");
}

static void do_plan(struct story *s)
{
	size_t len = strlen(s->plan);

	(void) snprintf(s->plan + len, sizeof(s->plan) - len, "%s\n", s->rest);
}

static void do_rollout(struct story *s)
{
	done(s, sim_start(s->sim, release(s, 2), s->plan, NULL));
	s->plan[0] = '\0';
	done(s, sim_run(s->sim, sim_now(s->sim)));
}

static void pass(struct story *s, int64_t seconds)
{
	done(s, sim_run(s->sim, sim_now(s->sim) + seconds));
}

static void do_minutes(struct story *s)
{
	pass(s, 60 * number(s, 2));
}

static void do_hours(struct story *s)
{
	pass(s, HOUR * number(s, 2));
}

static void do_days(struct story *s)
{
	pass(s, 24 * HOUR * number(s, 2));
}

static void do_time(struct story *s)
{
	int64_t at = 0;

	if (timestamp_parse(word(s, 2), &at) < 0 || at < sim_now(s->sim))
		wrong(s, "'%s' is no time that is to come", word(s, 2));
	done(s, sim_run(s->sim, at));
}

static void do_controller(struct story *s)
{
	if (strcmp(word(s, 2), "backed-up") == 0)
		done(s, sim_backup(s->sim));
	else if (strcmp(word(s, 2), "restored") == 0)
		done(s, sim_restore(s->sim));
	else
		sim_controller(s->sim, strcmp(word(s, 2), "back") == 0);
}

static void do_paused(struct story *s)
{
	done(s, sim_set_state(s->sim, rollout(s, 2), ROLLOUT_PAUSED));
}

static void do_resumed(struct story *s)
{
	done(s, sim_set_state(s->sim, rollout(s, 2), ROLLOUT_RUNNING));
}

static void do_cancelled(struct story *s)
{
	done(s, sim_set_state(s->sim, rollout(s, 2), ROLLOUT_CANCELLED));
}

static void do_undone(struct story *s)
{
	done(s, sim_undo(s->sim, rollout(s, 2)));
}

static void do_skipped(struct story *s)
{
	sim_skip(s->sim, node(s, 2), true);
}

static void do_unskipped(struct story *s)
{
	sim_skip(s->sim, node(s, 2), false);
}

static void do_label(struct story *s)
{
	done(s, sim_label(s->sim, node(s, 2), word(s, 3), word(s, 4)));
}

static void do_node(struct story *s)
{
	done(s, sim_add_node(s->sim, strcmp(word(s, 2), "absent") == 0 ? NULL : release(s, 2), NULL));
}

static void do_disconnected(struct story *s)
{
	done(s, sim_connect(s->sim, node(s, 2), false));
}

static void do_connected(struct story *s)
{
	done(s, sim_connect(s->sim, node(s, 2), true));
}

static void do_floor(struct story *s)
{
	done(s, sim_policy(s->sim, word(s, 2), NULL));
}

static void do_revoked(struct story *s)
{
	done(s, sim_policy(s->sim, NULL, word(s, 2)));
}

/* --- expect --- */

static void see_state(struct story *s)
{
	const struct sim_rollout *r = rollout(s, 2);

	if (strcmp(rollout_state_name(r->state), word(s, 3)) != 0)
		wrong(s, "%s is %s: %s", r->id, rollout_state_name(r->state), r->why);
}

static void see_open(struct story *s)
{
	const struct sim_rollout *r = rollout(s, 2);
	char list[256] = "";

	for (size_t k = 0; k < r->plan.stage_count; k++)
		if (r->stages[k].open) {
			size_t len = strlen(list);

			(void) snprintf(list + len, sizeof(list) - len, "%s%s", len ? "," : "",
					r->plan.stages[k].name);
		}
	if (strcmp(list[0] ? list : "none", word(s, 3)) != 0)
		wrong(s, "open is %s (%s)", list[0] ? list : "none", r->why);
}

static void see_why(struct story *s)
{
	const struct sim_rollout *r = rollout(s, 2);
	const char *text = strstr(s->rest, word(s, 2)) + strlen(word(s, 2));

	while (*text == ' ')
		text++;
	if (!strstr(r->why, text))
		wrong(s, "%s says: %s", r->id, r->why);
}

static void see_runs(struct story *s)
{
	const struct sim_node *n = node(s, 2);
	const char *runs = n->runs ? n->runs->version : "absent";

	if (strcmp(runs, word(s, 3)) != 0)
		wrong(s, "%s runs %s (waits: %s)", n->id, runs, reason_name(n->why));
}

static void see_count(struct story *s)
{
	const struct sim_release *r = release(s, 2);
	int64_t count = 0;

	for (size_t i = 0; i < sim_node_count(s->sim); i++)
		count += sim_node(s->sim, i)->runs == r;
	if (count != number(s, 3))
		wrong(s, "%lld nodes run %s", (long long) count, r->version);
}

static void see_reached(struct story *s)
{
	if ((int64_t) release(s, 2)->reached != number(s, 3))
		wrong(s, "%zu nodes ran %s", release(s, 2)->reached, word(s, 2));
}

static const struct {
	const char *name;
	void (*run)(struct story *s);
} verbs[] = {
	{ "fleet", do_fleet },	     { "release", do_release },	    { "plan", do_plan },
	{ "rollout", do_rollout },   { "minutes", do_minutes },	    { "hours", do_hours },
	{ "days", do_days },	     { "time", do_time },	    { "controller", do_controller },
	{ "paused", do_paused },     { "resumed", do_resumed },	    { "cancelled", do_cancelled },
	{ "undone", do_undone },     { "skipped", do_skipped },	    { "unskipped", do_unskipped },
	{ "label", do_label },	     { "node", do_node },	    { "disconnected", do_disconnected },
	{ "connected", do_connected }, { "floor", do_floor },	    { "revoked", do_revoked },
}, sights[] = {
	{ "state", see_state }, { "open", see_open },   { "why", see_why },
	{ "runs", see_runs },   { "count", see_count }, { "reached", see_reached },
};

static void split(struct story *s, char *text)
{
	char *comment = strstr(text, "  #"), *save = NULL;

	if (text[0] == '#')
		text[0] = '\0';
	if (comment)
		*comment = '\0';
	s->count = 0;
	s->rest = NULL;
	for (char *p = text; *p;) {
		p += strspn(p, " ");
		if (!*p)
			break;
		if (s->count == 2)
			s->rest = strdup(p); /* before it is cut into words */
		save = p + strcspn(p, " ");
		if (s->count == WORDS_MAX)
			wrong(s, "too many words");
		s->words[s->count++] = p;
		p = *save ? save + 1 : save;
		*save = '\0';
	}
}

static void take_line(struct story *s)
{
	bool expect = strcmp(s->words[0], "expect") == 0;

	if (strcmp(s->words[0], "story") == 0)
		return;
	if (!expect && strcmp(s->words[0], "given") != 0 && strcmp(s->words[0], "when") != 0)
		wrong(s, "lines begin with story, given, when or expect, not '%s'", s->words[0]);
	if (!s->sim && strcmp(word(s, 1), "fleet") != 0)
		wrong(s, "the fleet comes first");
	s->expected = s->expected || expect;
	for (size_t i = 0; i < (expect ? ARRAY_LEN(sights) : ARRAY_LEN(verbs)); i++)
		if (strcmp(expect ? sights[i].name : verbs[i].name, word(s, 1)) == 0) {
			(expect ? sights[i].run : verbs[i].run)(s);
			return;
		}
	wrong(s, "nothing is called '%s'", word(s, 1));
}

static void tell(const char *folder, const char *name)
{
	struct story s = { .file = name };
	char path[1024], line[LINE_MAX_BYTES];
	FILE *f;

	(void) snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		s.line++;
		split(&s, line);
		if (s.count)
			take_line(&s);
		free(s.rest);
	}
	fclose(f);
	if (!s.expected)
		wrong(&s, "a story that expects nothing");
	sim_close(s.sim);
}

static int is_story(const struct dirent *d)
{
	size_t len = strlen(d->d_name);

	return len > 6 && strcmp(d->d_name + len - 6, ".story") == 0;
}

static void test_every_story(void **state)
{
	static const char folder[] = TESTS_DIR "/story/fleet";
	struct dirent **names;
	int count = scandir(folder, &names, is_story, alphasort);

	(void) state;
	assert_true(count >= STORIES_MIN);
	for (int i = 0; i < count; i++) {
		tell(folder, names[i]->d_name);
		free(names[i]);
	}
	free(names);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_story) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
