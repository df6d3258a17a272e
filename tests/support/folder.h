/*
 * folder - the fixture most tests of files need: an empty folder and its descriptor.
 *
 * cmocka_unit_test_setup_teardown(test, folder_setup, folder_teardown), then
 * folder_fd(state) in the test.
 */
#ifndef SELFRIGHT_TESTS_FOLDER_H
#define SELFRIGHT_TESTS_FOLDER_H

struct folder {
	char path[256];
	int fd;
};

int folder_setup(void **state);
int folder_teardown(void **state);
int folder_fd(void **state);

#endif
