/* Each sentence of agent/store/state.h. */
#include "agent/store/state.h"
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct node_state s, back;

static int setup(void **state)
{
	(void) state;
	state_init(&s);
	state_init(&back);
	return 0;
}

static int teardown(void **state)
{
	(void) state;
	state_done(&s);
	state_done(&back);
	return 0;
}

static struct node_component *component(const char *name)
{
	struct node_component *c = NULL;

	assert_int_equal(state_component_add(&s, name, &c), 0);
	return c;
}

static int decode(const char *text)
{
	/* A copy of exactly this size, so that a read beyond it is seen. */
	size_t len = strlen(text);
	char *exact = malloc(len ? len : 1);
	int r;

	memcpy(exact, text, len);
	r = state_decode(exact, len, &back);
	free(exact);
	return r;
}

static void assert_round_trip(void)
{
	CLEANUP(buf_done)
	struct buf one = BUF_INIT(STATE_BYTES_MAX), two = BUF_INIT(STATE_BYTES_MAX);

	assert_int_equal(state_encode(&s, &one), 0);
	state_done(&back);
	assert_int_equal(state_decode(one.data, one.len, &back), 0);
	assert_int_equal(state_encode(&back, &two), 0);
	assert_int_equal(one.len, two.len);
	assert_memory_equal(one.data, two.data, one.len);
	/* Not only the text: the values. */
	assert_memory_equal(&s.update, &back.update, sizeof(s.update));
	assert_memory_equal(s.orders, back.orders, sizeof(s.orders));
	assert_memory_equal(s.retries, back.retries, sizeof(s.retries));
	assert_memory_equal(s.deferrals, back.deferrals, sizeof(s.deferrals));
	assert_int_equal(s.noticed_count, back.noticed_count);
	assert_memory_equal(s.noticed, back.noticed, sizeof(s.noticed));
	assert_int_equal(s.component_count, back.component_count);
	for (size_t i = 0; i < s.component_count; i++)
		assert_memory_equal(s.components[i], back.components[i], sizeof(*s.components[i]));
	assert_int_equal(s.result_count, back.result_count);
	for (size_t i = 0; i < s.result_count; i++)
		assert_memory_equal(s.results[i], back.results[i], sizeof(*s.results[i]));
	assert_int_equal(s.report_sequence, back.report_sequence);
	assert_int_equal(s.hold_until, back.hold_until);
	assert_int_equal(s.hold_s, back.hold_s);
	assert_string_equal(s.hold_reason, back.hold_reason);
}

static void test_an_empty_state(void **state)
{
	(void) state;
	assert_round_trip();
	assert_int_equal(decode("format 1\n"), 0);
	assert_int_equal(back.component_count, 0);
	assert_false(state_has_update(&back));
}

/* A small generator: the same seed gives the same state. */
static uint64_t seed;

static unsigned choose(unsigned n)
{
	seed = seed * 6364136223846793005U + 1442695040888963407U;
	return (unsigned) (seed >> 33) % n;
}

static void any_text(char *field, size_t size)
{
	size_t len = choose(3) == 0 ? 0 : choose((unsigned) size);

	memset(field, 0, size);
	if (choose(20) == 0)
		len = size - 1;
	for (size_t i = 0; i < len; i++)
		field[i] = (char) (choose(4) == 0 ? 1 + choose(255) : ' ' + choose(95));
	if (choose(30) == 0)
		state_set(field, size, "-");
}

static void any_version(char *field, size_t size, bool here)
{
	memset(field, 0, size);
	if (here || choose(4) > 0)
		(void) snprintf(field, size, "%s%u.%u.%u%s", choose(5) == 0 ? "2~" : "", choose(100), choose(100),
				choose(100), choose(4) == 0 ? "-rc.1" : "");
}

static void any_id(char *field, size_t size, bool here)
{
	memset(field, 0, size);
	if (here || choose(4) > 0)
		(void) snprintf(field, size, "id-%u", choose(1000000));
	if (choose(10) == 0)
		memset(field, 'z', size - 1);
}

static void any_hex(char *field)
{
	memset(field, 0, STATE_HEX_SIZE);
	if (choose(2))
		memset(field, "0123456789abcdef"[choose(16)], SHA256_HEX);
}

static uint64_t any_number(void)
{
	return choose(5) == 0 ? UINT64_MAX : choose(4) == 0 ? 0 : choose(1000000);
}

static int64_t any_time(void)
{
	return choose(5) == 0 ? INT64_MAX : (int64_t) choose(2000000000);
}

#define ANY_TEXT(f) any_text((f), sizeof(f))
#define ANY_VERSION(f) any_version((f), sizeof(f), false)
#define ANY_ID(f) any_id((f), sizeof(f), false)

static void any_component(struct node_component *c)
{
	ANY_VERSION(c->version);
	ANY_VERSION(c->previous);
	ANY_ID(c->rollout);
	ANY_ID(c->stage);
	ANY_TEXT(c->release_path);
	ANY_TEXT(c->watch_update);
	any_hex(c->release_sha256);
	c->seq = any_number();
	c->attempts = any_number();
	c->swap_day = any_number();
	c->swap_count = any_number();
	c->watch_until = any_time();
	c->good_count = choose(STATE_GOOD_MAX + 1);
	for (size_t i = 0; i < c->good_count; i++)
		any_version(c->good[i], sizeof(c->good[i]), true);
	c->denial_count = choose(STATE_DENIALS_MAX + 1);
	for (size_t i = 0; i < c->denial_count; i++) {
		any_version(c->denials[i].version, sizeof(c->denials[i].version), true);
		c->denials[i].cause = (enum node_denial_cause) choose(NODE_DENIED_COUNT);
		c->denials[i].seq = any_number();
	}
	c->taken_count = choose(STATE_TAKEN_MAX + 1);
	for (size_t i = 0; i < c->taken_count; i++) {
		any_id(c->taken[i].rollout, sizeof(c->taken[i].rollout), true);
		ANY_ID(c->taken[i].stage);
		ANY_VERSION(c->taken[i].version);
		ANY_VERSION(c->taken[i].previous);
		c->taken[i].seq = any_number();
	}
	c->joined_count = choose(STATE_JOINED_MAX + 1);
	for (size_t i = 0; i < c->joined_count; i++)
		any_id(c->joined[i], sizeof(c->joined[i]), true);
}

static void any_update(struct node_update *u)
{
	ANY_TEXT(u->id);
	if (!u->id[0])
		return;
	ANY_ID(u->source);
	ANY_ID(u->component);
	u->attempt = any_number();
	u->state = (enum node_update_state) choose(NODE_UPDATE_STATE_COUNT);
	u->cause = (enum node_cause) choose(NODE_CAUSE_COUNT);
	ANY_VERSION(u->from);
	ANY_VERSION(u->to);
	ANY_ID(u->rollout);
	ANY_ID(u->stage);
	ANY_TEXT(u->release_path);
	any_hex(u->release_sha256);
	any_hex(u->digest);
	u->seq = any_number();
	u->target_generation = any_number();
	u->fallback_generation = any_number();
	u->started_at = any_time();
	u->deadline = any_time();
	u->swapped_at = any_time();
	u->swapped_boot_ms = any_number();
	u->probation_ms = any_number();
	u->watch_ms = any_number();
	u->probation_done_ms = any_number();
	u->pause_ms = any_number();
	u->boots = any_number();
	u->boot_attempts = any_number();
	ANY_TEXT(u->recover_boot_id);
	u->recovered = choose(2);
	u->services_stopped = choose(2);
	u->link_before = choose(2);
	u->deny_from = choose(2);
	ANY_TEXT(u->data_saved);
	u->result = any_number();
	ANY_TEXT(u->detail);
	ANY_TEXT(u->waiting_for);
	ANY_TEXT(u->data_from);
	any_id(u->blamed, sizeof(u->blamed), false);
	u->with_count = choose(STATE_WITH_MAX + 1);
	for (size_t i = 0; i < u->with_count; i++) {
		any_id(u->with[i].component, sizeof(u->with[i].component), true);
		ANY_VERSION(u->with[i].from);
		ANY_VERSION(u->with[i].to);
		ANY_TEXT(u->with[i].release_path);
		any_hex(u->with[i].release_sha256);
		any_hex(u->with[i].digest);
	}
	u->baseline_count = choose(STATE_BASELINE_MAX + 1);
	for (size_t i = 0; i < u->baseline_count; i++) {
		ANY_ID(u->baseline[i].component);
		ANY_TEXT(u->baseline[i].check);
		ANY_TEXT(u->baseline[i].value);
		u->baseline[i].passed = choose(2);
	}
}

static void any_state(void)
{
	unsigned n = choose(6);

	s.report_sequence = any_number();
	s.generation = any_number();
	ANY_TEXT(s.boot_id);
	s.stuck = choose(2);
	s.hold_until = any_time();
	s.hold_s = any_time();
	ANY_TEXT(s.hold_reason);
	ANY_TEXT(s.hold_by);
	for (unsigned i = 0; i < n; i++) {
		char name[STATE_ID_SIZE];

		any_id(name, sizeof(name), true);
		if (!state_component(&s, name))
			any_component(component(name));
	}
	any_update(&s.update);
	s.order_count = choose(STATE_ORDERS_MAX + 1);
	for (size_t i = 0; i < s.order_count; i++) {
		any_id(s.orders[i].id, sizeof(s.orders[i].id), true);
		ANY_ID(s.orders[i].component);
		s.orders[i].result = any_number();
		s.orders[i].at = any_time();
		ANY_TEXT(s.orders[i].detail);
	}
	s.retry_count = choose(STATE_RETRIES_MAX + 1);
	for (size_t i = 0; i < s.retry_count; i++) {
		any_id(s.retries[i].component, sizeof(s.retries[i].component), true);
		any_version(s.retries[i].version, sizeof(s.retries[i].version), true);
		s.retries[i].failures = any_number();
		s.retries[i].not_before = any_time();
		s.retries[i].wait_s = any_time();
	}
	s.noticed_count = choose(STATE_NOTICED_MAX + 1);
	for (size_t i = 0; i < s.noticed_count; i++) {
		any_id(s.noticed[i].rollout, sizeof(s.noticed[i].rollout), true);
		ANY_TEXT(s.noticed[i].boot_id);
		s.noticed[i].since_ms = any_time();
		s.noticed[i].at = any_time();
		s.noticed[i].told = choose(2);
	}
	s.deferral_count = choose(STATE_DEFERRALS_MAX + 1);
	for (size_t i = 0; i < s.deferral_count; i++) {
		ANY_ID(s.deferrals[i].component);
		s.deferrals[i].until = any_time();
		ANY_TEXT(s.deferrals[i].by);
		ANY_TEXT(s.deferrals[i].reason);
	}
	for (unsigned i = choose(STATE_RESULTS_MAX + 1); i > 0; i--) {
		struct node_result *r = calloc(1, sizeof(*r));

		(void) snprintf(r->update, sizeof(r->update), "r%u/web/1", i);
		ANY_ID(r->component);
		ANY_VERSION(r->from);
		ANY_VERSION(r->to);
		ANY_ID(r->rollout);
		ANY_ID(r->stage);
		any_hex(r->release_sha256);
		ANY_TEXT(r->detail);
		ANY_TEXT(r->log_tail);
		r->seq = any_number();
		r->number = any_number();
		r->at = any_time();
		r->duration_ms = any_number();
		r->pause_ms = any_number();
		r->sequence = any_number();
		assert_int_equal(state_result_add(&s, r), 0);
		free(r);
	}
}

static void test_any_state_comes_back(void **state)
{
	(void) state;
	for (unsigned i = 0; i < 60; i++) {
		seed = i;
		any_state();
		assert_round_trip();
		state_done(&s);
	}
}

static void test_the_largest_state_fits(void **state)
{
	char name[STATE_ID_SIZE], version[STATE_VERSION_SIZE];

	(void) state;
	(void) snprintf(version, sizeof(version), "1.0.0-%058d", 1);
	version[6] = 'a';
	for (unsigned i = 0; i < STATE_COMPONENTS_MAX; i++) {
		struct node_component *c;

		(void) snprintf(name, sizeof(name), "c%062u", i);
		c = component(name);
		memset(c->release_path, '%', sizeof(c->release_path) - 1);
		for (size_t k = 0; k < STATE_GOOD_MAX; k++)
			STATE_SET(c->good[k], version);
		for (size_t k = 0; k < STATE_DENIALS_MAX; k++)
			c->denials[k].seq = UINT64_MAX, STATE_SET(c->denials[k].version, version);
		for (size_t k = 0; k < STATE_TAKEN_MAX; k++) {
			STATE_SET(c->taken[k].rollout, name);
			STATE_SET(c->taken[k].stage, name);
			STATE_SET(c->taken[k].version, version);
			STATE_SET(c->taken[k].previous, version);
		}
		for (size_t k = 0; k < STATE_JOINED_MAX; k++)
			STATE_SET(c->joined[k], name);
		c->good_count = STATE_GOOD_MAX;
		c->denial_count = STATE_DENIALS_MAX;
		c->taken_count = STATE_TAKEN_MAX;
		c->joined_count = STATE_JOINED_MAX;
	}
	for (unsigned i = 0; i < STATE_RESULTS_MAX; i++) {
		struct node_result *r = calloc(1, sizeof(*r));

		STATE_SET(r->update, "x");
		memset(r->log_tail, '\n', sizeof(r->log_tail) - 1);
		memset(r->detail, '%', sizeof(r->detail) - 1);
		assert_int_equal(state_result_add(&s, r), 0);
		free(r);
	}
	assert_round_trip();
}

static void test_a_field_that_cannot_be_read_back_is_not_written(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(STATE_BYTES_MAX);
	struct node_component *c = component("web");

	(void) state;
	STATE_SET(c->version, "1.0");
	assert_int_equal(state_encode(&s, &out), -ERR_FIELD_VALUE);
	STATE_SET(c->version, "");
	STATE_SET(c->rollout, "A b");
	assert_int_equal(state_encode(&s, &out), -ERR_FIELD_VALUE);
	STATE_SET(c->rollout, "");
	memset(c->release_sha256, 'X', sizeof(c->release_sha256) - 1);
	assert_int_equal(state_encode(&s, &out), -ERR_FIELD_VALUE);
	memset(c->release_sha256, 'a', sizeof(c->release_sha256)); /* no NUL */
	assert_int_equal(state_encode(&s, &out), -ERR_FIELD_VALUE);
	STATE_SET(c->release_sha256, "");
	c->watch_until = -1;
	assert_int_equal(state_encode(&s, &out), -ERR_FIELD_VALUE);
	c->watch_until = 0;
	STATE_SET(s.update.id, "r/web/1");
	s.update.state = NODE_UPDATE_STATE_COUNT;
	assert_int_equal(state_encode(&s, &out), -ERR_FIELD_VALUE);
	s.update.state = NODE_STUCK;
	c->good_count = STATE_GOOD_MAX + 1;
	assert_int_equal(state_encode(&s, &out), -ERR_TOO_LARGE);
	c->good_count = 0;
	assert_int_equal(state_encode(&s, &out), 0);
}

struct row {
	const char *text;
	int result;
};

static void test_what_is_refused(void **state)
{
	static const struct row rows[] = {
		{ "", -ERR_SYNTAX },
		{ "\n", -ERR_SYNTAX },
		{ "format 1", -ERR_SYNTAX },
		{ "format one\n", -ERR_SYNTAX },
		{ "format 2\n", -ERR_AGENT_TOO_OLD },
		{ "format 0\n", -ERR_AGENT_TOO_OLD },
		{ "stuck yes\n", -ERR_SYNTAX },
		{ "format 1\nformat 1\n", 0 }, /* an unknown key by then */
		{ "format 1\nstuck maybe\n", -ERR_FIELD_VALUE },
		{ "format 1\nstuck yes\nstuck yes\n", -ERR_DUPLICATE_NAME },
		{ "format 1\ngeneration -1\n", -ERR_FIELD_VALUE },
		{ "format 1\ngeneration 18446744073709551616\n", -ERR_FIELD_VALUE },
		{ "format 1\nhold-until 9223372036854775808\n", -ERR_FIELD_VALUE },
		{ "format 1\nboot-id 0123456789012345678901234567890123456\n", -ERR_FIELD_VALUE },
		{ "format 1\nhold-by a%\n", -ERR_SYNTAX },
		{ "format 1\nhold-by a%4\n", -ERR_SYNTAX },
		{ "format 1\nhold-by a%zz\n", -ERR_SYNTAX },
		{ "format 1\nhold-by a%00b\n", -ERR_SYNTAX },
		{ "format 1\ngeneration\n", -ERR_SYNTAX },
		{ "format 1\n\n", -ERR_SYNTAX },
		{ "format 1\nGeneration 1\n", -ERR_SYNTAX },
		{ "format 1\n version 1.0.0\n", -ERR_SYNTAX },
		{ "format 1\nstuck yes\n version 1.0.0\nend\n", -ERR_SYNTAX },
		{ "format 1\nend\n", -ERR_SYNTAX },
		{ "format 1\ncomponent web\n", -ERR_SYNTAX },
		{ "format 1\ncomponent web\nend", -ERR_SYNTAX },
		{ "format 1\ncomponent web\nend\n", 0 },
		{ "format 1\ncomponent \nend\n", -ERR_FIELD_MISSING },
		{ "format 1\ncomponent ../etc\nend\n", -ERR_FIELD_VALUE },
		{ "format 1\ncomponent web\nend\ncomponent web\nend\n", -ERR_DUPLICATE_NAME },
		{ "format 1\ncomponent web\ncomponent waf\nend\n", -ERR_SYNTAX },
		{ "format 1\ncomponent web\nversion 1.0.0\nend\n", -ERR_SYNTAX },
		{ "format 1\ncomponent web\n version 1.0\nend\n", -ERR_FIELD_VALUE },
		{ "format 1\ncomponent web\n version 1.0.0\n version 1.0.0\nend\n", -ERR_DUPLICATE_NAME },
		{ "format 1\ncomponent web\n good -\nend\n", -ERR_FIELD_VALUE },
		{ "format 1\ncomponent web\n denied 1.0.0 unfit\nend\n", -ERR_FIELD_MISSING },
		{ "format 1\ncomponent web\n denied 1.0.0 bad 1\nend\n", -ERR_FIELD_VALUE },
		{ "format 1\ncomponent web\n denied 1.0.0 unfit 1\nend\n", 0 },
		{ "format 1\nupdate r/web/1\nend\nupdate r/web/2\nend\n", -ERR_DUPLICATE_NAME },
		{ "format 1\nupdate r/web/1\n state dancing\nend\n", -ERR_FIELD_VALUE },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int r = decode(rows[i].text);

		if (r != rows[i].result)
			fail_msg("row %zu, %s: %s, not %s", i, rows[i].text, err_name(r),
				 err_name(rows[i].result));
		if (r == 0)
			state_done(&back);
	}
	assert_int_equal(state_decode("format 1\nhold-by a\0b\n", 21, &back), -ERR_SYNTAX);
}

static void test_failure_leaves_the_result_alone(void **state)
{
	(void) state;
	back.generation = 77;
	assert_int_equal(decode("format 1\ngeneration 5\ncomponent web\n version x\nend\n"), -ERR_FIELD_VALUE);
	assert_int_equal(back.generation, 77);
}

static void test_lists_are_bounded(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(STATE_BYTES_MAX);

	(void) state;
	assert_int_equal(buf_add_str(&text, "format 1\ncomponent web\n"), 0);
	for (int i = 0; i < STATE_GOOD_MAX + 1; i++)
		assert_int_equal(buf_addf(&text, " good 1.0.%d\n", i), 0);
	assert_int_equal(buf_add_str(&text, "end\n"), 0);
	assert_int_equal(decode(buf_str(&text)), -ERR_TOO_LARGE);
	buf_clear(&text);
	assert_int_equal(buf_add_str(&text, "format 1\n"), 0);
	for (int i = 0; i < STATE_COMPONENTS_MAX + 1; i++)
		assert_int_equal(buf_addf(&text, "component c%d\nend\n", i), 0);
	assert_int_equal(decode(buf_str(&text)), -ERR_TOO_LARGE);
	buf_clear(&text);
	assert_int_equal(buf_add_str(&text, "format 1\n"), 0);
	for (int i = 0; i < STATE_RESULTS_MAX + 1; i++)
		assert_int_equal(buf_addf(&text, "result r/c/%d\nend\n", i), 0);
	assert_int_equal(decode(buf_str(&text)), -ERR_TOO_LARGE);
}

static void test_what_a_successor_added_is_skipped(void **state)
{
	(void) state;
	assert_int_equal(decode("format 1\nmoon full\ncomponent web\n version 1.0.0\n colour dark blue\n"
				" denied 1.1.0 unfit 7 because\nend\nplanet mars\n moons 2\n version x\nend\n"
				"void x\nend\ngeneration 4\n"),
			 0);
	assert_int_equal(back.generation, 4);
	assert_string_equal(state_component(&back, "web")->version, "1.0.0");
	assert_int_equal(state_component(&back, "web")->denials[0].seq, 7);
}

static void test_it_is_text_a_person_can_read(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(STATE_BYTES_MAX);
	struct node_component *c = component("web");

	(void) state;
	STATE_SET(c->version, "1.1.0");
	component_deny(c, "1.2.0", NODE_DENIED_UNFIT, 12);
	component_taken_add(c, &(struct node_taken){
				       .rollout = "r1", .stage = "canary", .seq = 9, .version = "1.1.0" });
	STATE_SET(s.hold_reason, "50% done\nthen more");
	assert_int_equal(state_encode(&s, &out), 0);
	assert_string_equal(buf_str(&out),
			    "format 1\nhold-reason 50%25 done%0Athen more\ncomponent web\n"
			    " version 1.1.0\n denied 1.2.0 unfit 12\n taken r1 canary 9 1.1.0 -\nend\n");
}

static void test_components_are_sorted_and_stay_where_they_are(void **state)
{
	struct node_component *b = component("b"), *a = component("a"), *c;

	(void) state;
	assert_ptr_equal(state_component(&s, "b"), b);
	assert_ptr_equal(s.components[0], a);
	assert_null(state_component(&s, "c"));
	assert_null(state_component(&s, NULL));
	assert_int_equal(state_component_add(&s, "b", &c), 0);
	assert_ptr_equal(c, b);
	assert_int_equal(state_component_add(&s, "B", &c), -ERR_NAME);
	STATE_SET(a->version, "1.0.0");
	state_component_remove(&s, "a");
	state_component_remove(&s, "b");
	state_component_remove(&s, "none");
	assert_int_equal(s.component_count, 1);
	assert_ptr_equal(state_component(&s, "a"), a);
	for (int i = 1; i < STATE_COMPONENTS_MAX; i++) {
		char name[16];

		(void) snprintf(name, sizeof(name), "x%d", i);
		(void) component(name);
	}
	assert_int_equal(state_component_add(&s, "one-more", &c), -ERR_TOO_LARGE);
}

static void test_good_versions(void **state)
{
	struct node_component *c = component("web");
	char version[32];

	(void) state;
	for (int i = 0; i < STATE_GOOD_MAX + 2; i++) {
		(void) snprintf(version, sizeof(version), "1.0.%d", i);
		component_good_add(c, version);
	}
	assert_int_equal(c->good_count, STATE_GOOD_MAX);
	assert_false(component_was_good(c, "1.0.1"));
	assert_true(component_was_good(c, "1.0.2"));
	component_good_add(c, "1.0.2");
	assert_int_equal(c->good_count, STATE_GOOD_MAX);
	assert_string_equal(c->good[STATE_GOOD_MAX - 1], "1.0.2");
}

static void test_denials(void **state)
{
	struct node_component *c = component("web");
	char version[32];

	(void) state;
	component_deny(c, "0.0.1", NODE_DENIED_FORCED, 0);
	component_deny(c, "0.0.2", NODE_DENIED_UNDONE, 5);
	for (int i = 2; i < STATE_DENIALS_MAX; i++) {
		(void) snprintf(version, sizeof(version), "1.0.%d", i);
		component_deny(c, version, NODE_DENIED_UNFIT, 1);
	}
	component_deny(c, "2.0.0", NODE_DENIED_UNFIT, 3);
	assert_int_equal(c->denial_count, STATE_DENIALS_MAX);
	assert_null(component_denial(c, "0.0.2")); /* the undone one made room */
	assert_non_null(component_denial(c, "0.0.1"));
	component_deny(c, "2.0.0", NODE_DENIED_FORCED, 4);
	assert_int_equal(component_denial(c, "2.0.0")->cause, NODE_DENIED_FORCED);
	assert_int_equal(c->denial_count, STATE_DENIALS_MAX);
	component_deny(c, "3.0.0", NODE_DENIED_UNFIT, 4);
	assert_null(component_denial(c, "0.0.1"));
	component_undeny(c, "2.0.0");
	assert_null(component_denial(c, "2.0.0"));
	component_undeny(c, NULL);
	assert_int_equal(c->denial_count, 0);
}

static void test_taken_and_joined(void **state)
{
	struct node_component *c = component("web");
	char id[16];

	(void) state;
	component_taken_add(c, &(struct node_taken){ .rollout = "r1", .seq = 1, .version = "1.0.0" });
	component_taken_add(c, &(struct node_taken){ .rollout = "r2", .seq = 2, .version = "1.1.0" });
	component_taken_add(c, &(struct node_taken){ .rollout = "r1", .seq = 3, .version = "1.2.0" });
	assert_int_equal(c->taken_count, 2);
	assert_int_equal(component_taken(c, "r1")->seq, 3);
	assert_string_equal(c->taken[1].rollout, "r1");
	assert_null(component_taken(c, "r3"));
	/* An entry of the list itself may be added again. */
	component_taken_add(c, &c->taken[0]);
	assert_string_equal(c->taken[1].rollout, "r2");
	for (int i = 0; i < STATE_JOINED_MAX + 1; i++) {
		(void) snprintf(id, sizeof(id), "j%d", i);
		component_joined_add(c, id);
		component_joined_add(c, id);
	}
	assert_int_equal(c->joined_count, STATE_JOINED_MAX);
	assert_false(component_has_joined(c, "j0"));
	assert_true(component_has_joined(c, "j1"));
}

static void test_swaps_are_counted_by_day(void **state)
{
	struct node_component *c = component("web");
	const int64_t noon = 1000 * 86400 + 43200;

	(void) state;
	component_swap_count(c, noon);
	component_swap_count(c, noon + 100);
	assert_int_equal(component_swaps_today(c, noon + 200), 2);
	assert_int_equal(component_swaps_today(c, noon + 86400), 0);
	component_swap_count(c, noon + 86400);
	assert_int_equal(component_swaps_today(c, noon + 86400), 1);
	assert_int_equal(component_swaps_today(c, -5), 0);
}

static void test_orders_results_retries(void **state)
{
	struct node_result result = { .update = "r/web/1" };
	char id[16];

	(void) state;
	for (int i = 0; i < STATE_ORDERS_MAX + 1; i++) {
		struct node_order o = { .result = 110 };

		(void) snprintf(id, sizeof(id), "o%d", i);
		STATE_SET(o.id, id);
		state_order_add(&s, &o);
	}
	assert_null(state_order(&s, "o0"));
	assert_int_equal(state_order(&s, "o1")->result, 110);
	state_order_add(&s, &(struct node_order){ .id = "o1", .result = 516 });
	assert_int_equal(state_order(&s, "o1")->result, 516);
	assert_int_equal(s.order_count, STATE_ORDERS_MAX);

	for (unsigned i = 0; i < STATE_RESULTS_MAX; i++) {
		result.sequence = i; /* the first was never sent */
		assert_int_equal(state_result_add(&s, &result), 0);
	}
	assert_int_equal(state_results_acknowledge(&s, 5), 5);
	assert_int_equal(s.result_count, STATE_RESULTS_MAX - 5);
	assert_int_equal(s.results[0]->sequence, 0);
	assert_int_equal(s.results[1]->sequence, 6);
	for (int i = 0; i < 5; i++)
		assert_int_equal(state_result_add(&s, &result), 0);
	assert_int_equal(state_result_add(&s, &result), 1);
	assert_int_equal(s.results[0]->sequence, 6);

	assert_null(state_retry(&s, "web", "1.0.0"));
	state_retry_add(&s, "web", "1.0.0")->failures = 3;
	assert_int_equal(state_retry_add(&s, "web", "1.0.0")->failures, 3);
	(void) state_retry_add(&s, "web", "1.1.0");
	(void) state_retry_add(&s, "waf", "1.1.0");
	state_retry_add(&s, "web", NULL)->failures = 2; /* back to absent */
	assert_int_equal(state_retry(&s, "web", "")->failures, 2);
	assert_non_null(state_retry(&s, "web", NULL));
	state_retry_clear(&s, "web", "");
	assert_null(state_retry(&s, "web", NULL));
	state_retry_clear(&s, "web", "1.1.0");
	assert_non_null(state_retry(&s, "web", "1.0.0"));
	state_retry_clear(&s, "web", NULL);
	assert_int_equal(s.retry_count, 1);
	for (int i = 0; i < STATE_RETRIES_MAX; i++) {
		(void) snprintf(id, sizeof(id), "1.0.%d", i);
		state_retry_add(&s, "x", id)->not_before = 100 + i;
	}
	assert_int_equal(s.retry_count, STATE_RETRIES_MAX);
	assert_null(state_retry(&s, "waf", "1.1.0"));
}

static void test_text_is_cut_at_a_character(void **state)
{
	char field[6];

	(void) state;
	STATE_SET(field, "abcd\xc3\xa4");
	assert_string_equal(field, "abcd");
	STATE_SET(field, "abc\xc3\xa4");
	assert_string_equal(field, "abc\xc3\xa4");
	STATE_SET(field, NULL);
	assert_string_equal(field, "");
}

static void test_every_word_has_its_name(void **state)
{
	(void) state;
	for (int i = 0; i < NODE_UPDATE_STATE_COUNT; i++)
		assert_string_not_equal(node_update_state_name((enum node_update_state) i), "unknown");
	for (int i = 0; i < NODE_CAUSE_COUNT; i++)
		assert_string_not_equal(node_cause_name((enum node_cause) i), "unknown");
	for (int i = 0; i < NODE_DENIED_COUNT; i++)
		assert_string_not_equal(node_denial_cause_name((enum node_denial_cause) i), "unknown");
	assert_string_equal(node_update_state_name(NODE_UPDATE_STATE_COUNT), "unknown");
}

/* Bytes of a good state, one of them changed, at every place: refused or read, never worse. */
static void test_any_byte_may_be_wrong(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(STATE_BYTES_MAX);

	(void) state;
	STATE_SET(s.update.id, "r1/web/1");
	STATE_SET(component("web")->version, "1.0.0");
	component_deny(component("web"), "1.1.0", NODE_DENIED_UNFIT, 1);
	assert_int_equal(state_encode(&s, &text), 0);
	for (size_t i = 0; i < text.len; i++)
		for (int c = 0; c < 256; c += 3) {
			uint8_t was = text.data[i];

			text.data[i] = (uint8_t) c;
			if (state_decode(text.data, text.len, &back) == 0)
				state_done(&back);
			text.data[i] = was;
		}
	for (size_t i = 0; i < text.len; i++)
		if (state_decode(text.data, i, &back) == 0)
			state_done(&back);
}

static void defer(const char *name, int64_t until, int64_t now)
{
	struct node_deferral d = { .until = until };

	STATE_SET(d.component, name);
	STATE_SET(d.by, "ops");
	state_defer(&s, &d, now);
}

static void test_deferrals(void **state)
{
	(void) state;
	assert_null(state_deferral(&s, "web", 0));
	defer("", 100, 0);
	defer("web", 50, 0);
	/* One's own goes before the one for all, and leaves it in force when it has ended. */
	assert_int_equal(state_deferral(&s, "web", 0)->until, 50);
	assert_int_equal(state_deferral(&s, "web", 50)->until, 100);
	assert_int_equal(state_deferral(&s, "waf", 99)->until, 100);
	assert_null(state_deferral(&s, "waf", 100));
	defer("web", 80, 10);
	assert_int_equal(s.deferral_count, 2);
	assert_int_equal(state_deferral(&s, "web", 50)->until, 80);
	assert_round_trip();
	assert_int_equal(state_undefer(&s, "waf"), 0);
	assert_int_equal(state_undefer(&s, "web"), 1);
	assert_int_equal(state_deferral(&s, "web", 50)->until, 100);
	assert_int_equal(state_undefer(&s, ""), 1);
	assert_null(state_deferral(&s, "web", 50));
	/* What has ended makes room, then the oldest does. */
	for (int i = 0; i < STATE_DEFERRALS_MAX + 5; i++) {
		char name[16];

		(void) snprintf(name, sizeof(name), "c%d", i);
		defer(name, i < 3 ? 10 : 1000, i < 3 ? 0 : 20);
	}
	assert_int_equal(s.deferral_count, STATE_DEFERRALS_MAX);
	assert_null(state_deferral(&s, "c4", 20));
	assert_non_null(state_deferral(&s, "c5", 20));
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_an_empty_state),
		T(test_any_state_comes_back),
		T(test_deferrals),
		T(test_the_largest_state_fits),
		T(test_a_field_that_cannot_be_read_back_is_not_written),
		T(test_what_is_refused),
		T(test_failure_leaves_the_result_alone),
		T(test_lists_are_bounded),
		T(test_what_a_successor_added_is_skipped),
		T(test_it_is_text_a_person_can_read),
		T(test_components_are_sorted_and_stay_where_they_are),
		T(test_good_versions),
		T(test_denials),
		T(test_taken_and_joined),
		T(test_swaps_are_counted_by_day),
		T(test_orders_results_retries),
		T(test_text_is_cut_at_a_character),
		T(test_every_word_has_its_name),
		T(test_any_byte_may_be_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
