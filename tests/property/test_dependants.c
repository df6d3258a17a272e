/*
 * Random sequences of updates, regressions and rollbacks of two and three components that need each
 * other: whatever is undone, what comes of it is composed of the current generation, nobody who has no part in it moves,
 * and nothing that held is broken. Generations are composed by the store's own code.
 */
#include "agent/store/generation.h"
#include "base/version.h"
#include "model/dependants.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COMPONENTS = 3, VERSIONS = 4, SEQUENCES = 4000, STEPS = 30 };

static uint64_t random_state = 11;

static unsigned below(unsigned n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned) (random_state >> 33) % n;
}

static const char *const names[COMPONENTS] = { "dns", "waf", "web" };
static const char *const versions[VERSIONS] = { "1.0.0", "1.1.0", "2.0.0", "2.1.0" };
static const char *const ranges[] = { ">=1.0.0", ">=1.1.0", ">=2.0.0", "<2.0.0", ">=1.1.0 <2.1.0" };

/* What each version of each component needs of the others: part of the release, so it never changes within a sequence. */
static struct release_requirement needs[COMPONENTS][VERSIONS][COMPONENTS];
static size_t need_count[COMPONENTS][VERSIONS];

struct node {
	size_t count; /* of components in play */
	int at[COMPONENTS], before[COMPONENTS]; /* index of the version; -1: absent */
	struct generation current;
};

static void invent_releases(size_t count)
{
	for (size_t c = 0; c < count; c++)
		for (size_t v = 0; v < VERSIONS; v++) {
			need_count[c][v] = 0;
			for (size_t o = 0; o < count; o++)
				if (o != c && below(3) == 0)
					needs[c][v][need_count[c][v]++] = (struct release_requirement){
						(char *) (uintptr_t) names[o],
						(char *) (uintptr_t)
							ranges[below(sizeof(ranges) / sizeof(ranges[0]))]
					};
		}
}

static const char *text_of(int version)
{
	return version < 0 ? "" : versions[version];
}

static size_t installed_of(const struct node *n, struct installed *list)
{
	size_t count = 0;

	for (size_t c = 0; c < n->count; c++)
		if (n->at[c] >= 0)
			list[count++] = (struct installed){ .component = names[c],
							    .version = versions[n->at[c]],
							    .previous = text_of(n->before[c]),
							    .requires = needs[c][n->at[c]],
							    .requires_count = need_count[c][n->at[c]] };
	return count;
}

static size_t index_of(const char *component)
{
	for (size_t c = 0; c < COMPONENTS; c++)
		if (strcmp(names[c], component) == 0)
			return c;
	fail_msg("no component %s", component);
	return 0;
}

/* Does everything hold that version `v` of `c` needs, with `with` there too? */
static bool may_run(const struct node *n, size_t c, int v)
{
	for (size_t i = 0; i < need_count[c][v]; i++) {
		int other = n->at[index_of(needs[c][v][i].component)];

		if (other < 0 || !version_in_range(versions[other], needs[c][v][i].range))
			return false;
	}
	return true;
}

static unsigned broken(const struct node *n)
{
	unsigned count = 0;

	for (size_t c = 0; c < n->count; c++)
		count += n->at[c] >= 0 && !may_run(n, c, n->at[c]);
	return count;
}

/* One rename: all the moves. */
static void swap(struct node *n, const struct component_move *moves, size_t count)
{
	struct generation_entry changes[COMPONENTS];
	struct generation next;

	for (size_t i = 0; i < count; i++) {
		(void) snprintf(changes[i].component, sizeof(changes[i].component), "%s", moves[i].component);
		(void) snprintf(changes[i].version, sizeof(changes[i].version), "%s", moves[i].to);
	}
	assert_int_equal(generation_compose(&n->current, changes, count, &next), 0);
	for (size_t c = 0; c < n->count; c++) {
		const struct component_move *m = NULL;

		for (size_t i = 0; i < count; i++)
			if (strcmp(moves[i].component, names[c]) == 0)
				m = &moves[i];
		/* Equal to the current one but for those that move. */
		assert_string_equal(generation_version(&next, names[c]),
				    m ? m->to : generation_version(&n->current, names[c]));
		if (m) {
			int old = n->at[c];

			n->at[c] = -1;
			for (int v = 0; v < VERSIONS; v++)
				if (strcmp(versions[v], m->to) == 0)
					n->at[c] = v;
			n->before[c] = old;
		}
	}
	n->current = next;
}

/* As the agent takes one: what it needs holds, and nobody's need breaks. */
static void update(struct node *n)
{
	size_t c = below((unsigned) n->count), count;
	int v = (int) below(VERSIONS);
	struct installed list[COMPONENTS];
	struct component_move m = { names[c], versions[v] };

	if (v <= n->at[c] || !may_run(n, c, v))
		return;
	count = installed_of(n, list);
	for (size_t i = 0; i < count; i++)
		if (strcmp(list[i].component, names[c]) != 0 && requirement_broken(list, count, &list[i], &m, 1))
			return;
	swap(n, &m, 1);
	assert_int_equal(broken(n), 0);
}

/* A component on watch regresses, or is ordered back. */
static void go_back(struct node *n)
{
	size_t c = below((unsigned) n->count), count, moves = 1;
	struct installed list[COMPONENTS];
	struct component_move m[COMPONENTS];
	struct node before = *n;

	if (n->at[c] < 0 || n->before[c] == n->at[c])
		return;
	count = installed_of(n, list);
	m[0] = (struct component_move){ names[c], text_of(n->before[c]) };
	moves = dependants_add(list, count, m, 1, COMPONENTS);
	assert_true(moves >= 1 && moves <= n->count);
	assert_string_equal(m[0].component, names[c]);
	for (size_t i = 1; i < moves; i++) {
		size_t d = index_of(m[i].component);
		bool needed = false;

		/* It went along for a reason: something it needs moves out of its range. */
		assert_string_equal(m[i].to, text_of(before.before[d]));
		for (size_t k = 0; k < i; k++)
			for (size_t q = 0; q < need_count[d][before.at[d]]; q++) {
				const struct release_requirement *r = &needs[d][before.at[d]][q];

				needed = needed || (strcmp(r->component, m[k].component) == 0 &&
						    !(m[k].to[0] && version_in_range(m[k].to, r->range)));
			}
		assert_true(needed);
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(m[i].component, m[k].component);
	}
	swap(n, m, moves);
	/* Who stayed is not broken by who went. */
	for (size_t d = 0; d < n->count; d++) {
		bool moved = false;

		for (size_t i = 0; i < moves; i++)
			moved = moved || strcmp(m[i].component, names[d]) == 0;
		if (!moved && before.at[d] >= 0 && may_run(&before, d, before.at[d]))
			assert_true(may_run(n, d, n->at[d]));
	}
}

/* Somebody has it in order again: what cannot run with the others is gone. */
static void settle(struct node *n)
{
	for (size_t c = 0; c < n->count; c++)
		if (n->at[c] >= 0 && !may_run(n, c, n->at[c])) {
			struct component_move m = { names[c], "" };

			swap(n, &m, 1);
			c = (size_t) -1; /* from the beginning: others may need it */
		}
}

static void sequences_of(size_t count)
{
	for (int s = 0; s < SEQUENCES; s++) {
		struct node n = { .count = count, .at = { -1, -1, -1 }, .before = { -1, -1, -1 } };

		invent_releases(count);
		for (int i = 0; i < STEPS; i++) {
			if (below(3) > 0)
				update(&n);
			else
				go_back(&n);
			settle(&n);
		}
	}
}

static void two_components(void **state)
{
	(void) state;
	sequences_of(2);
}

static void three_components(void **state)
{
	(void) state;
	sequences_of(3);
}

static void a_chain_goes_back_together(void **state)
{
	struct release_requirement web = { (char[]){ "waf" }, (char[]){ ">=2.0.0" } };
	struct release_requirement waf = { (char[]){ "dns" }, (char[]){ ">=2.0.0" } };
	const struct installed list[] = {
		{ "dns", "2.0.0", "1.0.0", NULL, 0 },
		{ "mail", "1.0.0", "", NULL, 0 },
		{ "waf", "2.0.0", "1.0.0", &waf, 1 },
		{ "web", "2.0.0", "", &web, 1 },
	};
	struct component_move m[4] = { { "dns", "1.0.0" } };

	(void) state;
	assert_int_equal(dependants_add(list, 4, m, 1, 4), 3);
	assert_string_equal(m[1].component, "waf");
	assert_string_equal(m[1].to, "1.0.0");
	assert_string_equal(m[2].component, "web");
	assert_string_equal(m[2].to, "");
	/* No room: what does not fit is left out. */
	assert_int_equal(dependants_add(list, 4, m, 1, 2), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chain_goes_back_together),
		cmocka_unit_test(two_components),
		cmocka_unit_test(three_components),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
