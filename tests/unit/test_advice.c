#include "server-stub/repo/advice.h"

#include "base/err.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ARTIFACT(form)                                                                                            \
	"\"artifacts\":[{\"path\":\"web/1.0.0/web.tar.zst\",\"length\":1,\"sha256\":"                             \
	"\"0000000000000000000000000000000000000000000000000000000000000000\",\"media\":"                         \
	"\"application/x-tar+zstd\"," form "}]"
#define DIGEST "0000000000000000000000000000000000000000000000000000000000000000"
#define RELEASE(artifact, more)                                                                                   \
	"{\"format\":1,\"component\":\"web\",\"version\":\"1.0.0\",\"kind\":\"tree\"," artifact                   \
	",\"tree\":{\"digest\":\"" DIGEST "\",\"installed_size\":1,\"files\":1}," more "}"
#define FULL ARTIFACT("\"form\":\"full\"")
#define PROOF "{\"name\":\"there\",\"exec\":{\"command\":[\"test\",\"-e\",\"x\"]}}"

static size_t advice(const char *text, struct string_list *list)
{
	assert_int_equal(0, release_advice_text(text, strlen(text), list));
	return list->count;
}

static void expect(const char *text, const char *word)
{
	struct string_list list = { 0 };

	assert_int_equal(1, advice(text, &list));
	if (!strstr(list.items[0], word))
		fail_msg("no '%s' in: %s", word, list.items[0]);
	string_list_done(&list);
}

static void nothing_to_say_about_a_good_release(void **state)
{
	struct string_list list = { 0 };

	(void) state;
	assert_int_equal(0, advice(RELEASE(FULL, "\"checks\":[" PROOF "]"), &list));
	string_list_done(&list);
}

static void a_release_that_can_prove_nothing(void **state)
{
	(void) state;
	expect(RELEASE(FULL, "\"checks\":[]"), "good-unproven");
	expect(RELEASE(FULL, "\"checks\":[{\"name\":\"link\",\"link\":{}}]"), "good-unproven");
	expect(RELEASE(FULL, "\"checks\":[{\"name\":\"there\",\"required\":false,\"exec\":{\"command\":"
			     "[\"true\"]}}]"),
	       "good-unproven");
}

static void what_agents_refuse_is_named(void **state)
{
	(void) state;
	expect(RELEASE(FULL, "\"checks\":[" PROOF ",{\"name\":\"far\",\"httpGet\":{\"host\":\"db.example.org\","
			     "\"port\":80}}]"),
	       "asks another host");
	expect(RELEASE(FULL, "\"checks\":[" PROOF ",{\"name\":\"far\",\"tcpSocket\":{\"host\":\"db.example.org\","
			     "\"port\":5432}}]"),
	       "db.example.org");
	expect(RELEASE(FULL, "\"checks\":[" PROOF "],\"data\":[{\"path\":\"db\",\"on_rollback\":\"keep\"}],"
			     "\"data_compatible_back\":false"),
	       "nodes refuse it");
}

static void data_that_goes_one_way_is_named(void **state)
{
	(void) state;
	expect(RELEASE(FULL, "\"checks\":[" PROOF "],\"data\":[{\"path\":\"db\",\"on_rollback\":\"restore\"}],"
			     "\"data_compatible_back\":false"),
	       "leaves the data as it is");
}

static void addresses_are_fine(void **state)
{
	struct string_list list = { 0 };

	(void) state;
	assert_int_equal(0,
			 advice(RELEASE(FULL, "\"checks\":[{\"name\":\"a\",\"tcpSocket\":{\"host\":\"::1\","
					      "\"port\":1}},{\"name\":\"b\",\"tcpSocket\":{\"host\":\"localhost\","
					      "\"port\":1}},{\"name\":\"c\",\"tcpSocket\":{\"port\":"
					      "\"${vars.port}\"}},{\"name\":\"d\",\"httpGet\":{\"scheme\":"
					      "\"https\",\"port\":443}},{\"name\":\"e\",\"log\":{\"file\":"
					      "\"error.log\"}},{\"name\":\"f\",\"metric\":{\"port\":9100,"
					      "\"select\":\"up\",\"min\":\"1\"}},{\"name\":\"g\","
					      "\"required\":false,\"httpGet\":{\"host\":\"example.org\","
					      "\"port\":80}}]"),
				&list));
	string_list_done(&list);
}

static void what_is_no_release_is_an_error(void **state)
{
	struct string_list list = { 0 };

	(void) state;
	assert_true(release_advice_text("{", 1, &list) < 0);
	assert_true(release_advice_text("{}", 2, &list) < 0);
	assert_int_equal(0, list.count);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_to_say_about_a_good_release),
		cmocka_unit_test(a_release_that_can_prove_nothing),
		cmocka_unit_test(what_agents_refuse_is_named),
		cmocka_unit_test(data_that_goes_one_way_is_named),
		cmocka_unit_test(addresses_are_fine),
		cmocka_unit_test(what_is_no_release_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
