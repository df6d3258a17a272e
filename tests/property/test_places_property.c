/*
 * Never more than the limit down (DESIGN.md section 5 "Grant"): the controller's real judgement and database against
 * nodes that ask, lose answers, start late, die in the middle or outside of it, come back, and report late; a controller
 * that is killed and started again, or away. What is true is kept beside it: whenever a node begins, it and those of
 * its group that are in the middle of an update, or dead for longer than silence takes to count, are no more than the
 * limit. And nobody is stuck: once all are up and speak, a place is free again.
 */
#include "model/report.h"
#include "os/os.h"
#include "server-stub/cli/serve.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/db_places.h"
#include "server-stub/ingest/db_reports.h"
#include "server-stub/ingest/db_rollouts.h"
#include "support/folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
	WORLDS = 24,
	STEPS = 1000,
	NODES = 6,
	GROUPS = 2,
	SILENT_AFTER_S = 1800,
	START = 1800000000,
	REPORT_EVERY_S = 300
};

static uint64_t random_state;
static int64_t now;

static unsigned below(unsigned n)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (unsigned) ((z ^ z >> 31) % n);
}

static bool one_in(unsigned n)
{
	return below(n) == 0;
}

static int64_t told_time(const struct os *os)
{
	(void) os;
	return now;
}

enum truth { RUNS, WAITS /* for a place */, IN_THE_MIDDLE };

struct node {
	char id[8], group[8], update[40];
	enum truth truth;
	bool dead, linked;
	int64_t dead_since, start_until; /* start_until: by the grant it holds; 0: none */
	unsigned attempt;
	uint64_t sequence; /* of its last report */
	int64_t told_at;
	bool owes_result;
	char owed[40]; /* of this update */
};

struct world {
	unsigned long long seed;
	struct os os;
	struct serve serve;
	char path[600];
	bool up;
	uint64_t maximum;
	struct node nodes[NODES];
	unsigned grants, begun, refused, deaths, restarts;
};

/* What is committed in a batch is on the disk at its end: here a kill comes after that, many changes later. */
static void opens(struct world *w)
{
	assert_int_equal(db_open(w->path, &w->serve.db), 0);
	assert_int_equal(db_batch_begin(w->serve.db), 0);
	w->up = true;
}

static void is_killed(struct world *w)
{
	assert_int_equal(db_batch_end(w->serve.db), 0);
	db_close(w->serve.db);
	w->serve.db = NULL;
	w->up = false;
}

static void begins(struct world *w, const char *folder, uint64_t maximum)
{
	static const char *const stages[] = { "all" };
	char plan[400];

	w->os = os_posix;
	w->os.clock_real = told_time;
	w->serve.os = &w->os;
	w->maximum = maximum;
	(void) snprintf(w->path, sizeof(w->path), "%s/world-%llu.db", folder, w->seed);
	opens(w);
	(void) snprintf(
		plan, sizeof(plan),
		"{\"component\":\"web\",\"version\":\"1.1.0\",\"stages\":[{\"name\":\"all\",\"all\":true}],"
		"\"gates\":{\"silent_after\":%d},\"disruption\":{\"label\":\"pair\",\"maximum\":%u}}",
		SILENT_AFTER_S, (unsigned) w->maximum);
	const struct db_rollout r = { .id = "r1",
				      .component = "web",
				      .version = "1.1.0",
				      .kind = "regular",
				      .state = "running",
				      .seq = 1,
				      .plan = plan,
				      .release_path = "p",
				      .release_sha256 = "s" };

	assert_int_equal(db_begin(w->serve.db), 0);
	assert_int_equal(db_rollout_add(w->serve.db, &r, stages, 1), 0);
	for (size_t i = 0; i < NODES; i++) {
		struct node *n = &w->nodes[i];
		char labels[64];

		*n = (struct node){ .linked = true };
		(void) snprintf(n->id, sizeof(n->id), "n%zu", i);
		(void) snprintf(n->group, sizeof(n->group), "p%zu", i % GROUPS);
		(void) snprintf(labels, sizeof(labels), "{\"pair\":\"%s\"}", n->group);
		assert_int_equal(db_node_add(w->serve.db, n->id, n->id, n->id, labels, now), 0);
	}
	assert_int_equal(db_commit(w->serve.db), 0);
}

/* A signed report arrived: stored as ingest.c does it. */
static void tells(struct world *w, struct node *n)
{
	char labels[64], digest[32];

	if (n->dead || !n->linked || !w->up)
		return;
	(void) snprintf(labels, sizeof(labels), "{\"pair\":\"%s\"}", n->group);
	(void) snprintf(digest, sizeof(digest), "%llu", (unsigned long long) ++n->sequence);
	n->told_at = now;
	struct db_report r = {
		.node = n->id, .boot_id = "b", .labels = labels, .body = "{}", .sequence = n->sequence, .now = now
	};

	if (n->truth != RUNS) {
		r.under_way = "web";
		r.under_way_to = "1.1.0";
		r.under_way_state = n->truth == WAITS ? "waiting" : one_in(2) ? "stopping" : "probation";
		r.under_way_update = n->update;
	}
	assert_int_equal(db_begin(w->serve.db), 0);
	assert_int_equal(db_report_store(w->serve.db, &r, digest), 0);
	if (n->owes_result)
		assert_true(db_result_add(w->serve.db, &(struct db_result){ .node = n->id,
									    .update = n->owed,
									    .component = "web",
									    .to = "1.1.0",
									    .rollout = "r1",
									    .number = 1,
									    .at = now,
									    .received_at = now }) >= 0);
	assert_int_equal(db_commit(w->serve.db), 0);
	n->owes_result = false;
}

static void asks(struct world *w, struct node *n)
{
	struct lease asked = { .sequence = n->sequence };
	struct grant grant = { .granted = false };
	bool ended = false;

	if (n->dead || n->truth == IN_THE_MIDDLE)
		return;
	if (n->truth == RUNS) {
		(void) snprintf(n->update, sizeof(n->update), "r1/web/%u", ++n->attempt);
		n->truth = WAITS;
		n->start_until = 0;
	}
	if (!n->linked || !w->up)
		return;
	(void) snprintf(asked.node, sizeof(asked.node), "%s", n->id);
	(void) snprintf(asked.update, sizeof(asked.update), "%s", n->update);
	(void) snprintf(asked.rollout, sizeof(asked.rollout), "r1");
	assert_int_equal(db_update_ended(w->serve.db, n->id, n->update, n->sequence, &ended), 0);
	assert_false(ended);
	assert_int_equal(db_begin(w->serve.db), 0);
	assert_int_equal(lease_judge(&w->serve, &asked, &grant), 0);
	assert_int_equal(db_commit(w->serve.db), 0);
	w->grants += grant.granted;
	w->refused += !grant.granted;
	/* The answer may be lost. */
	if (grant.granted && !one_in(5))
		n->start_until = now + (int64_t) grant.start_within_s;
}

/* It may start, and does: how many are down with it, in truth? */
static void starts(struct world *w, struct node *n)
{
	uint64_t down = 1;

	if (n->dead || n->truth != WAITS || now >= n->start_until)
		return;
	for (size_t i = 0; i < NODES; i++) {
		const struct node *o = &w->nodes[i];

		if (o == n || strcmp(o->group, n->group) != 0)
			continue;
		/* A death after the grant is nobody's doing, nor one so short before it that it is not silence yet. */
		down += o->truth == IN_THE_MIDDLE ||
			(o->dead && o->dead_since < n->start_until - 15 * 60 - SILENT_AFTER_S);
	}
	if (down > w->maximum)
		fail_msg("world %llu: %s begins, and %u of at most %u of %s are down", w->seed, n->id,
			 (unsigned) down, (unsigned) w->maximum, n->group);
	n->truth = IN_THE_MIDDLE;
	n->start_until = 0;
	w->begun++;
}

static void ends(struct node *n)
{
	if (n->dead || n->truth != IN_THE_MIDDLE)
		return;
	n->truth = RUNS;
	n->owes_result = true;
	memcpy(n->owed, n->update, sizeof(n->owed));
}

static void dies_or_returns(struct world *w, struct node *n)
{
	if (!n->dead && one_in(12)) {
		n->dead = true;
		n->dead_since = now;
		w->deaths++;
	} else if (n->dead && one_in(2)) {
		n->dead = false;
		/* It starts with what it had, or goes on where it was. */
		if (one_in(2))
			ends(n);
	}
}

static void something_happens(struct world *w)
{
	struct node *n = &w->nodes[below(NODES)];

	now += below(240);
	switch (below(10)) {
	case 0:
	case 1:
	case 2:
		asks(w, n);
		break;
	case 3:
	case 4:
		starts(w, n);
		break;
	case 5:
	case 6:
		ends(n);
		tells(w, n);
		break;
	case 7:
		if (one_in(3))
			dies_or_returns(w, n);
		else
			n->linked = one_in(3) ? !n->linked : true;
		break;
	case 8:
		if (w->up && one_in(4)) {
			is_killed(w);
			w->restarts++;
		} else if (!w->up) {
			opens(w);
		}
		break;
	default:
		break;
	}
	for (size_t i = 0; i < NODES; i++)
		if (now - w->nodes[i].told_at >= REPORT_EVERY_S)
			tells(w, &w->nodes[i]);
}

/* Whatever happened: all are back and speak, and then somebody may begin in each group. */
static void nobody_is_stuck(struct world *w)
{
	unsigned begun[GROUPS] = { 0 };

	if (!w->up)
		opens(w);
	for (size_t i = 0; i < NODES; i++) {
		struct node *n = &w->nodes[i];

		n->dead = false;
		n->linked = true;
		ends(n);
		/* What only waited is put aside, as for a withdrawn rollout. */
		n->truth = RUNS;
		tells(w, n);
	}
	for (size_t i = 0; i < NODES; i++) {
		struct node *n = &w->nodes[i];

		for (int k = 0; k < 40 && n->truth != IN_THE_MIDDLE; k++) {
			asks(w, n);
			starts(w, n);
		}
		begun[i % GROUPS] += n->truth == IN_THE_MIDDLE;
		ends(n);
		tells(w, n);
	}
	for (size_t g = 0; g < GROUPS; g++)
		if (begun[g] != NODES / GROUPS)
			fail_msg("world %llu: only %u nodes of group %zu could begin", w->seed, begun[g], g);
}

static void never_more_than_the_limit_are_down(void **state)
{
	const char *folder = ((struct folder *) *state)->path;
	unsigned begun = 0, refused = 0, deaths = 0, restarts = 0;

	for (unsigned long long seed = 1; seed <= WORLDS; seed++) {
		struct world w = { .seed = seed };

		random_state = seed;
		now = START;
		begins(&w, folder, 1 + below(2));
		for (unsigned i = 0; i < STEPS; i++)
			something_happens(&w);
		nobody_is_stuck(&w);
		is_killed(&w);
		begun += w.begun;
		refused += w.refused;
		deaths += w.deaths;
		restarts += w.restarts;
	}
	/* Worlds in which little happens would prove little. */
	print_message("%u began, %u refused, %u deaths, %u restarts\n", begun, refused, deaths, restarts);
	assert_true(begun > 10 * WORLDS);
	assert_true(refused > 10 * WORLDS);
	assert_true(deaths > 2 * WORLDS);
	assert_true(restarts > 2 * WORLDS);
}

static bool gets_a_place(struct world *w, struct node *n)
{
	for (int k = 0; k < 30 && n->start_until <= now; k++)
		asks(w, n);
	return n->start_until > now;
}

static void a_place_is_held_until_the_node_says_so(void **state)
{
	struct world w = { .seed = WORLDS + 1 };
	struct node *a = &w.nodes[0], *b = &w.nodes[2], *other = &w.nodes[1];

	random_state = 1;
	now = START;
	begins(&w, ((struct folder *) *state)->path, 1);
	for (size_t i = 0; i < NODES; i++)
		tells(&w, &w.nodes[i]);
	/* Without the controller nobody enters. */
	is_killed(&w);
	assert_false(gets_a_place(&w, a));
	opens(&w);
	assert_true(gets_a_place(&w, a));
	/* It is killed and started again, and knows. */
	is_killed(&w);
	starts(&w, a);
	assert_int_equal(a->truth, IN_THE_MIDDLE);
	opens(&w);
	assert_false(gets_a_place(&w, b));
	assert_true(gets_a_place(&w, other)); /* another group */
	ends(a);
	assert_false(gets_a_place(&w, b)); /* nobody told */
	tells(&w, a);
	assert_true(gets_a_place(&w, b));
	is_killed(&w);
}

static void a_dead_twin_counts_as_down(void **state)
{
	struct world w = { .seed = WORLDS + 2 };
	struct node *a = &w.nodes[0], *b = &w.nodes[2];

	random_state = 2;
	now = START;
	begins(&w, ((struct folder *) *state)->path, 1);
	assert_false(gets_a_place(&w, a)); /* nobody has reported yet: all of them may be down */
	for (size_t i = 0; i < NODES; i++)
		tells(&w, &w.nodes[i]);
	assert_true(gets_a_place(&w, a));
	/* It has its place and not begun; meanwhile the other one dies. */
	b->dead = true;
	b->dead_since = now;
	now += SILENT_AFTER_S + 1;
	for (size_t i = 0; i < NODES; i++)
		tells(&w, &w.nodes[i]);
	assert_false(gets_a_place(&w, a));
	b->dead = false;
	tells(&w, b);
	assert_true(gets_a_place(&w, a));
	is_killed(&w);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(never_more_than_the_limit_are_down, folder_setup, folder_teardown),
		cmocka_unit_test_setup_teardown(a_place_is_held_until_the_node_says_so, folder_setup,
						folder_teardown),
		cmocka_unit_test_setup_teardown(a_dead_twin_counts_as_down, folder_setup, folder_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
