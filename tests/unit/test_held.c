/*
 * agent/phase/held.h: whoever asks to be left alone is, within bounds.
 */
#include "agent/phase/held.h"

#include "agent/local/config.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static const char mirror[] = "https://cache.site/", one[] = "https://one.test/", two[] = "https://two.test/";

static int set_up(void **state)
{
	static struct config config;

	config = (struct config){ 0 };
	*state = &config;
	return string_list_add(&config.mirrors, mirror) < 0 || string_list_add(&config.urls, one) < 0 ||
	       string_list_add(&config.urls, two) < 0;
}

static int tear_down(void **state)
{
	struct config *config = *state;

	string_list_done(&config->mirrors);
	string_list_done(&config->urls);
	return 0;
}

static void each_address_is_left_alone_for_as_long_as_it_asked(void **state)
{
	struct held h = { 0 };

	assert_int_equal(held_ms(&h, *state, one, HELD_MAX_S, 5000), 0);
	held_note(&h, *state, one, 30, 5000);
	assert_int_equal(held_ms(&h, *state, one, HELD_MAX_S, 5000), 30000);
	assert_int_equal(held_ms(&h, *state, one, HELD_MAX_S, 34999), 1);
	assert_int_equal(held_ms(&h, *state, one, HELD_MAX_S, 35000), 0);
	assert_int_equal(held_ms(&h, *state, two, HELD_MAX_S, 5000), 0);
	assert_int_equal(held_ms(&h, *state, mirror, HELD_MAX_S, 5000), 0);
	/* It may ask again. */
	held_note(&h, *state, one, 10, 40000);
	assert_int_equal(held_ms(&h, *state, one, HELD_MAX_S, 41000), 9000);
}

static void all_are_left_alone_until_the_first_may_be_asked(void **state)
{
	struct held h = { 0 };

	held_note(&h, *state, mirror, 100, 1000);
	held_note(&h, *state, one, 20, 1000);
	assert_int_equal(held_all_ms(&h, *state, HELD_MAX_S, 1000), 0); /* there is two */
	held_note(&h, *state, two, 50, 1000);
	assert_int_equal(held_all_ms(&h, *state, HELD_MAX_S, 1000), 20000);
	assert_int_equal(held_all_ms(&h, *state, HELD_MAX_S, 21000), 0);
}

static void nobody_is_left_alone_for_longer_than_an_hour(void **state)
{
	static const uint64_t hostile[] = { 3601, 86400, UINT64_MAX / 1000, UINT64_MAX };

	for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
		struct held h = { 0 };

		held_note(&h, *state, one, hostile[i], 1000);
		assert_int_equal(held_ms(&h, *state, one, HELD_MAX_S, 1000), HELD_MAX_S * 1000);
		assert_int_equal(held_ms(&h, *state, one, HELD_MAX_S, 1000 + HELD_MAX_S * 1000), 0);
		/* And where somebody waits for it, a minute. */
		assert_int_equal(held_ms(&h, *state, one, HELD_URGENT_MAX_S, 1000), HELD_URGENT_MAX_S * 1000);
		assert_int_equal(held_ms(&h, *state, one, HELD_URGENT_MAX_S, 1000 + HELD_URGENT_MAX_S * 1000), 0);
	}
}

static void strangers_change_nothing(void **state)
{
	static const char *const strangers[] = { "", "https://other.test/", "https://one.test",
						 "https://one.test/ " };
	const struct held none = { 0 };
	struct config empty = { 0 };
	struct held h = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(strangers); i++)
		held_note(&h, *state, strangers[i], 30, 1000);
	assert_memory_equal(&h, &none, sizeof(h));
	assert_int_equal(held_ms(&h, *state, strangers[1], HELD_MAX_S, 1000), 0);
	assert_int_equal(held_all_ms(&h, &empty, HELD_MAX_S, 1000), 0);
}

static void what_is_beyond_the_table_is_never_held(void **state)
{
	struct config *config = *state;
	struct held h = { 0 };
	char url[40];

	for (int i = 0; i < HELD_ADDRESSES_MAX + 3; i++) {
		(void) snprintf(url, sizeof(url), "https://n%d.test/", i);
		assert_int_equal(string_list_add(&config->urls, url), 0);
	}
	for (size_t i = 0; i < config->urls.count; i++)
		held_note(&h, config, config->urls.items[i], 30, 1000);
	assert_int_equal(held_ms(&h, config, url, HELD_MAX_S, 1000), 0);
	assert_int_equal(held_ms(&h, config, "https://n0.test/", HELD_MAX_S, 1000), 30000);
}

#define WITH_CONFIG(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_CONFIG(each_address_is_left_alone_for_as_long_as_it_asked),
		WITH_CONFIG(all_are_left_alone_until_the_first_may_be_asked),
		WITH_CONFIG(nobody_is_left_alone_for_longer_than_an_hour),
		WITH_CONFIG(strangers_change_nothing),
		WITH_CONFIG(what_is_beyond_the_table_is_never_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
