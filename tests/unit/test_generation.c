/* Each sentence of agent/store/generation.h, with faults and power cuts over the moment of change. */
#include "agent/store/generation.h"
#include "base/err.h"
#include "os/durable.h"
#include "support/fault_loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const struct os *os; /* os_quick() */

struct folder {
	char path[256];
	int fd, generations;
};

static int setup(void **state)
{
	struct folder *f = calloc(1, sizeof(*f));

	temp_folder(f->path, sizeof(f->path));
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (durable_mkdir(os, f->fd, "generations", 0755) < 0)
		return 1;
	f->generations = dir_open(os, f->fd, "generations");
	*state = f;
	return f->generations < 0;
}

static int teardown(void **state)
{
	struct folder *f = *state;

	(void) close(f->generations);
	(void) close(f->fd);
	temp_folder_remove(f->path);
	free(f);
	return 0;
}

static const struct generation one = { { { "waf", "2.0.0" }, { "web", "1.0.0" } }, 2 };
static const struct generation two = { { { "waf", "2.0.0" }, { "web", "1.1.0" } }, 2 };

static void test_compose(void **state)
{
	const struct generation_entry up[] = { { "web", "1.1.0" } }, gone[] = { { "waf", "" } },
				      both[] = { { "web", "" }, { "dns", "0.1.0" } },
				      twice[] = { { "web", "1.0.0" }, { "web", "1.1.0" } };
	struct generation g = { .count = 0 };

	(void) state;
	assert_int_equal(generation_compose(NULL, NULL, 0, &g), 0);
	assert_int_equal(g.count, 0);
	assert_int_equal(generation_compose(&one, up, 1, &g), 0);
	assert_true(generation_equals(&g, &two));
	assert_false(generation_equals(&g, &one));
	assert_int_equal(generation_compose(&g, gone, 1, &g), 0);
	assert_int_equal(g.count, 1);
	assert_string_equal(generation_version(&g, "waf"), "");
	assert_string_equal(generation_version(&g, "web"), "1.1.0");
	assert_int_equal(generation_compose(&one, both, 2, &g), 0);
	assert_string_equal(g.entries[0].component, "dns");
	assert_string_equal(g.entries[1].component, "waf");
	assert_int_equal(generation_compose(&one, twice, 2, &g), -ERR_DUPLICATE_NAME);
	assert_int_equal(generation_compose(NULL, gone, 1, &g), 0);
	assert_int_equal(g.count, 0);
}

static void test_compose_refuses_what_is_no_name(void **state)
{
	const struct generation_entry bad[] = {
		{ "..", "1.0.0" }, { "Web", "1.0.0" }, { "web", "1.0" }, { "", "1.0.0" }, { "web", "../../etc" }
	};
	struct generation g = one, full = { .count = 0 };
	struct generation_entry e = { "", "1.0.0" };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(generation_compose(NULL, &bad[i], 1, &g), -ERR_NAME);
	assert_true(generation_equals(&g, &one));
	for (int i = 0; i < GENERATION_COMPONENTS_MAX; i++) {
		(void) snprintf(e.component, sizeof(e.component), "c%d", i);
		assert_int_equal(generation_compose(&full, &e, 1, &full), 0);
	}
	(void) snprintf(e.component, sizeof(e.component), "one-more");
	assert_int_equal(generation_compose(&full, &e, 1, &full), -ERR_TOO_LARGE);
}

static void test_what_is_created_is_read(void **state)
{
	const struct folder *f = *state;
	struct generation g;
	char target[200] = "";

	assert_int_equal(generation_read(os, f->generations, 1, &g), -ENOENT);
	assert_int_equal(generation_create(os, f->generations, 1, &one), 0);
	assert_int_equal(generation_read(os, f->generations, 1, &g), 0);
	assert_true(generation_equals(&g, &one));
	assert_true(readlinkat(f->fd, "generations/1/web", target, sizeof(target) - 1) > 0);
	assert_string_equal(target, "../../store/web/1.0.0");
	assert_int_equal(generation_create(os, f->generations, 1, &one), 0);
	assert_int_equal(generation_create(os, f->generations, 1, &two), -EEXIST);
	assert_int_equal(generation_create(os, f->generations, 0, &one), -EINVAL);
	assert_int_equal(generation_create(os, f->generations, 2, &(struct generation){ .count = 0 }), 0);
	assert_int_equal(generation_read(os, f->generations, 2, &g), 0);
	assert_int_equal(g.count, 0);
}

static void test_a_leftover_does_not_disturb(void **state)
{
	const struct folder *f = *state;
	struct generation g;

	assert_int_equal(dir_make_path(os, f->generations, "1.partial/web", 0755), 0);
	assert_int_equal(generation_read(os, f->generations, 1, &g), -ENOENT);
	assert_int_equal(generation_create(os, f->generations, 1, &one), 0);
	assert_int_equal(generation_read(os, f->generations, 1, &g), 0);
}

static void test_foreign_content_is_refused(void **state)
{
	static const char *const targets[] = { "/etc",
					       "../../store/waf/1.0.0",
					       "../../store/web/1.0",
					       "../../store/web/../../x",
					       "../../store/web",
					       "../store/web/1.0.0",
					       "../../store/web/1.0.0/" };
	const struct folder *f = *state;
	struct generation g;

	assert_int_equal(mkdirat(f->generations, "1", 0755), 0);
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		assert_int_equal(symlinkat(targets[i], f->generations, "1/web"), 0);
		assert_int_equal(generation_read(os, f->generations, 1, &g), -ERR_TREE);
		assert_int_equal(unlinkat(f->generations, "1/web", 0), 0);
	}
	assert_int_equal(durable_write_file(os, f->generations, "1/web", "x", 1, 0644), 0);
	assert_int_equal(generation_read(os, f->generations, 1, &g), -ERR_TREE);
	assert_int_equal(generation_create(os, f->generations, 1, &one), -EEXIST);
	assert_int_equal(symlinkat("1", f->generations, "2"), 0);
	assert_int_equal(generation_read(os, f->generations, 2, &g), -ERR_TREE);
}

static void test_current_and_switch(void **state)
{
	const struct folder *f = *state;
	uint64_t n = 0;

	assert_int_equal(generation_current(os, f->fd, &n), -ENOENT);
	assert_int_equal(generation_switch(os, f->fd, 1), -ENOENT);
	assert_int_equal(generation_create(os, f->generations, 1, &one), 0);
	assert_int_equal(generation_create(os, f->generations, 2, &two), 0);
	assert_int_equal(generation_switch(os, f->fd, 1), 0);
	assert_int_equal(generation_current(os, f->fd, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(generation_switch(os, f->fd, 2), 0);
	assert_int_equal(generation_switch(os, f->fd, 2), 0);
	assert_int_equal(generation_current(os, f->fd, &n), 0);
	assert_int_equal(n, 2);
}

static void test_a_current_that_is_not_ours(void **state)
{
	static const char *const targets[] = { "/",
					       "generations",
					       "generations/",
					       "generations/x",
					       "generations/0",
					       "generations/01",
					       "generations/1/web",
					       "generations/99999999999999999999" };
	const struct folder *f = *state;
	uint64_t n = 7;

	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		assert_int_equal(symlinkat(targets[i], f->fd, "current"), 0);
		assert_int_equal(generation_current(os, f->fd, &n), -ERR_TREE);
		assert_int_equal(unlinkat(f->fd, "current", 0), 0);
	}
	assert_int_equal(mkdirat(f->fd, "current", 0755), 0);
	assert_int_equal(generation_current(os, f->fd, &n), -ERR_TREE);
	assert_int_equal(n, 7);
}

static void test_list_and_remove(void **state)
{
	const struct folder *f = *state;
	const uint64_t numbers[] = { 10, 2, 9 };
	uint64_t *list = NULL;
	size_t count = 0;

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		assert_int_equal(generation_create(os, f->generations, numbers[i], &one), 0);
	assert_int_equal(mkdirat(f->generations, "3.partial", 0755), 0);
	assert_int_equal(mkdirat(f->generations, "007", 0755), 0);
	assert_int_equal(generation_list(os, f->generations, &list, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(list[0], 2);
	assert_int_equal(list[1], 9);
	assert_int_equal(list[2], 10);
	free(list);
	assert_int_equal(generation_remove(os, f->generations, 9), 0);
	assert_int_equal(generation_remove(os, f->generations, 9), 0);
	assert_int_equal(generation_remove(os, f->generations, 3), 0);
	assert_int_equal(generation_list(os, f->generations, &list, &count), 0);
	assert_int_equal(count, 2);
	free(list);
}

/* --- faults and power cuts ----------------------------------------------------------------------------- */

static int open_generations(const struct fault_case *c)
{
	return openat(c->dirfd, "generations", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int prep_first(struct fault_case *c)
{
	int fd, r = durable_mkdir(c->os, c->dirfd, "generations", 0755);

	if (r < 0)
		return r;
	fd = open_generations(c);
	r = generation_create(c->os, fd, 1, &one);
	(void) close(fd);
	return r < 0 ? r : generation_switch(c->os, c->dirfd, 1);
}

static int create_and_switch(struct fault_case *c)
{
	int fd = open_generations(c), r;

	r = generation_create(c->os, fd, 2, &two);
	(void) close(fd);
	return r < 0 ? r : generation_switch(c->os, c->dirfd, 2);
}

static void a_whole_one_is_current(struct fault_case *c, int r)
{
	int fd = open_generations(c);
	struct generation g;
	uint64_t n = 0;

	assert_int_equal(generation_current(os, c->dirfd, &n), 0);
	assert_int_equal(generation_read(os, fd, n, &g), 0);
	assert_true(generation_equals(&g, n == 1 ? &one : &two));
	if (r == 0)
		assert_int_equal(n, 2);
	else
		assert_true(c->injected);
	(void) close(fd);
	/* And the same again succeeds. */
	assert_int_equal(create_and_switch(c), 0);
	assert_int_equal(generation_current(os, c->dirfd, &n), 0);
	assert_int_equal(n, 2);
}

FAULT_TEST(the_moment_of_change){
	.name = "the_moment_of_change",
	.prep = prep_first,
	.body = create_and_switch,
	.check = a_whole_one_is_current,
};

static int prep_second(struct fault_case *c)
{
	int r = prep_first(c);

	return r < 0 ? r : create_and_switch(c);
}

static int remove_first(struct fault_case *c)
{
	int fd = open_generations(c), r = generation_remove(c->os, fd, 1);

	(void) close(fd);
	return r;
}

static void whole_or_gone(struct fault_case *c, int r)
{
	int fd = open_generations(c), e;
	struct generation g;

	e = generation_read(os, fd, 1, &g);
	assert_true(e == 0 || e == -ENOENT);
	if (e == 0)
		assert_true(generation_equals(&g, &one));
	if (r == 0)
		assert_int_equal(e, -ENOENT);
	(void) close(fd);
}

FAULT_TEST(a_generation_is_whole_or_gone){
	.name = "a_generation_is_whole_or_gone",
	.prep = prep_second,
	.body = remove_first,
	.check = whole_or_gone,
};

static void test_faults(void **state)
{
	(void) state;
	fault_test_run(&the_moment_of_change);
	fault_test_run(&a_generation_is_whole_or_gone);
}

static void test_crashes(void **state)
{
	(void) state;
	crash_test_run(&the_moment_of_change, 16);
	crash_test_run(&a_generation_is_whole_or_gone, 16);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_compose),
		T(test_compose_refuses_what_is_no_name),
		T(test_what_is_created_is_read),
		T(test_a_leftover_does_not_disturb),
		T(test_foreign_content_is_refused),
		T(test_current_and_switch),
		T(test_a_current_that_is_not_ours),
		T(test_list_and_remove),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_crashes),
	};

	os = os_quick();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
