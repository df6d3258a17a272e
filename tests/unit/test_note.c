/* outcome.h, update_note: news without an update is told beside the updates' results, never instead of one. */
#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the three above */
#include <cmocka.h>

static struct node *node;

static int setup(void **state)
{
	(void) state;
	node = calloc(1, sizeof(*node));
	assert_non_null(node);
	node->os = &os_posix;
	node->state = calloc(1, sizeof(*node->state));
	assert_non_null(node->state);
	state_init(node->state);
	return 0;
}

static int teardown(void **state)
{
	(void) state;
	state_done(node->state);
	free(node->state);
	free(node);
	return 0;
}

static const struct node_result *newest(void)
{
	return node->state->results[node->state->result_count - 1];
}

static void test_told_once(void **state)
{
	(void) state;
	assert_int_equal(update_note(node, RESULT_MALFORMED, "web", "r1", "no JSON"), 0);
	assert_int_equal(update_note(node, RESULT_MALFORMED, "web", "r1", "no JSON"), 0);
	assert_int_equal(node->state->result_count, 1);
	assert_true(node->report_wanted);
	assert_string_equal(newest()->rollout, "r1");
	assert_string_equal(newest()->component, "web");
	assert_string_equal(newest()->detail, "no JSON");
}

/* The controller keeps one result per update id: a note must never have one that an update has or gets. */
static void test_ids_are_their_own(void **state)
{
	char first[sizeof(newest()->update)];

	(void) state;
	node->state->report_sequence = 2;
	assert_int_equal(update_note(node, RESULT_STUCK, "web", "r1", "the link could not be swapped back"), 0);
	assert_string_not_equal(newest()->update, "r1/web/3");
	snprintf(first, sizeof(first), "%s", newest()->update);
	assert_int_equal(update_note(node, RESULT_MALFORMED, "web", "r1", "another, before the next report"), 0);
	assert_string_not_equal(newest()->update, first);
}

/* A carrier can make up reasons without end; what happened here waits for its acknowledgement all the same. */
static void test_carriers_push_nothing_out(void **state)
{
	struct node_result good = { .number = RESULT_GOOD };
	char text[32];

	(void) state;
	STATE_SET(good.update, "r1/web/1");
	assert_int_equal(state_result_add(node->state, &good), 0);
	for (int i = 0; i < 4 * STATE_RESULTS_MAX; i++) {
		snprintf(text, sizeof(text), "nonsense %d", i);
		assert_int_equal(update_note(node, RESULT_SIGNATURE_INVALID, NULL, NULL, text), 0);
	}
	assert_string_equal(node->state->results[0]->update, "r1/web/1");
	assert_true(node->state->result_count > 1);
	/* And news that only a trusted document or this node itself can cause is told still. */
	assert_int_equal(update_note(node, RESULT_STUCK, "web", NULL, "stuck"), 0);
	assert_int_equal(newest()->number, RESULT_STUCK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_told_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ids_are_their_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_carriers_push_nothing_out, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
