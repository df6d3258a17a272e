/* The catalogue: numbers that never collide, words for everything, and an entry for every error. */
#include "base/attr.h"
#include "base/err.h"
#include "model/catalogue.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_numbers_are_unique_and_sorted(void **state)
{
	int last = 0;

	(void) state;
	for (size_t i = 0; catalogue_at(i); i++) {
		assert_true(catalogue_at(i)->number > last);
		last = catalogue_at(i)->number;
		assert_ptr_equal(catalogue_find(last), catalogue_at(i));
	}
	assert_true(last > 0);
}

static void test_names_are_unique_ids(void **state)
{
	(void) state;
	for (size_t i = 0; catalogue_at(i); i++) {
		const char *name = catalogue_at(i)->name;

		assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz-"), strlen(name));
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(name, catalogue_at(k)->name);
	}
}

static void test_every_row_has_its_words(void **state)
{
	(void) state;
	for (size_t i = 0; catalogue_at(i); i++) {
		assert_true(strlen(catalogue_at(i)->sentence) > 10);
		assert_true(strlen(catalogue_at(i)->advice) > 0);
		assert_string_not_equal(result_class_name(catalogue_at(i)->class), "unknown");
	}
}

/* The hundreds say the class: people and dashboards rely on it. */
static void test_hundreds_are_classes(void **state)
{
	static const struct {
		int from, to;
		enum result_class class;
	} ranges[] = {
		{ 200, 299, CLASS_RELEASE },  { 300, 399, CLASS_NODE }, { 400, 499, CLASS_NETWORK },
		{ 500, 599, CLASS_REJECTED }, { 600, 699, CLASS_NONE },
	};

	(void) state;
	for (size_t i = 0; catalogue_at(i); i++)
		for (size_t k = 0; k < ARRAY_LEN(ranges); k++)
			if (catalogue_at(i)->number >= ranges[k].from && catalogue_at(i)->number <= ranges[k].to)
				assert_int_equal(catalogue_at(i)->class, ranges[k].class);
}

/* What reports and dashboards out there already say must not change its meaning. */
static void test_numbers_that_are_in_use_stay(void **state)
{
	(void) state;
	assert_string_equal(catalogue_find(100)->name, "good");
	assert_string_equal(catalogue_find(101)->name, "good-unproven");
	assert_string_equal(catalogue_find(102)->name, "regressed");
	assert_string_equal(catalogue_find(110)->name, "rolled-back");
	assert_string_equal(catalogue_find(200)->name, "check-failed");
	assert_string_equal(catalogue_find(300)->name, "no-space");
	assert_string_equal(catalogue_find(400)->name, "download-failed");
	assert_string_equal(catalogue_find(502)->name, "artifact-digest");
	assert_string_equal(catalogue_find(516)->name, "order-refused");
	assert_string_equal(catalogue_find(700)->name, "internal");
}

static void test_every_error_of_ours_stands_for_something(void **state)
{
	(void) state;
	for (int e = ERR_BASE_ + 1; e < ERR_END_; e++) {
		enum result result = catalogue_from_error(-e);

		if (!catalogue_find(result))
			fail_msg("%s stands for no result", err_name(-e));
		/* These two are errors of programs, not of updates. */
		if (result == RESULT_INTERNAL && e != ERR_PASSPHRASE && e != ERR_PROTOCOL)
			fail_msg("%s has no row of its own", err_name(-e));
		assert_int_equal(catalogue_from_error(e), result);
	}
}

static void test_errors_of_the_system(void **state)
{
	(void) state;
	assert_int_equal(catalogue_from_error(-ENOSPC), RESULT_NO_SPACE);
	assert_int_equal(catalogue_from_error(-EDQUOT), RESULT_NO_SPACE);
	assert_int_equal(catalogue_from_error(-EIO), RESULT_IO_ERROR);
	assert_int_equal(catalogue_from_error(-EROFS), RESULT_IO_ERROR);
	assert_int_equal(catalogue_from_error(-ENOMEM), RESULT_OUT_OF_RESOURCES);
	assert_int_equal(catalogue_from_error(-EMFILE), RESULT_OUT_OF_RESOURCES);
	assert_int_equal(catalogue_from_error(-ECONNREFUSED), RESULT_DOWNLOAD_FAILED);
	assert_int_equal(catalogue_from_error(-EINVAL), RESULT_INTERNAL);
	assert_int_equal(catalogue_from_error(-ERR_UNIT), RESULT_SERVICE_MANAGER);
	assert_int_equal(catalogue_from_error(-100000), RESULT_INTERNAL);
	for (int e = 1; e < 200; e++)
		assert_non_null(catalogue_find(catalogue_from_error(-e)));
}

static void test_what_is_not_there(void **state)
{
	(void) state;
	assert_null(catalogue_find(0));
	assert_null(catalogue_find(-100));
	assert_null(catalogue_find(999));
	assert_null(catalogue_at(SIZE_MAX));
	assert_string_equal(result_class_name(CLASS_NONE), "none");
	assert_string_equal(result_class_name(CLASS_REJECTED), "rejected");
	assert_string_equal(result_class_name((enum result_class) 99), "unknown");
}

static void test_the_nodes_own_shortage_is_not_the_release(void **state)
{
	static const int shortages[] = { ENOSPC, EIO, EROFS, ENOMEM, EMFILE, ENFILE, EAGAIN };

	(void) state;
	for (size_t i = 0; i < sizeof(shortages) / sizeof(shortages[0]); i++) {
		const struct catalogue_row *row =
			catalogue_find(catalogue_blame(RESULT_SERVICE_FAILED, -shortages[i]));

		assert_non_null(row);
		assert_int_equal(row->class, CLASS_NODE);
	}
	assert_int_equal(catalogue_blame(RESULT_SERVICE_FAILED, -ENOENT), RESULT_SERVICE_FAILED);
	assert_int_equal(catalogue_blame(RESULT_CHECK_FAILED, -ERR_CHILD), RESULT_CHECK_FAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers_are_unique_and_sorted),
		cmocka_unit_test(test_names_are_unique_ids),
		cmocka_unit_test(test_every_row_has_its_words),
		cmocka_unit_test(test_hundreds_are_classes),
		cmocka_unit_test(test_numbers_that_are_in_use_stay),
		cmocka_unit_test(test_every_error_of_ours_stands_for_something),
		cmocka_unit_test(test_errors_of_the_system),
		cmocka_unit_test(test_what_is_not_there),
		cmocka_unit_test(test_the_nodes_own_shortage_is_not_the_release),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
