/*
 * agent/link/sample.h: from the timestamp to an artifact, and what is said when a file on the way is wrong.
 */
#include "agent/link/sample.h"

#include "base/err.h"
#include "crypto/digest.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct file {
	char name[300], text[2000];
};

struct shelf {
	struct fetcher fetcher; /* first */
	struct file files[8];
	size_t count;
	int error; /* of every file; 0: none */
};

static int get(struct fetcher *f, const char *name, uint64_t max, struct buf *ret)
{
	struct shelf *s = (struct shelf *) f;

	if (s->error < 0)
		return s->error;
	for (size_t i = 0; i < s->count; i++)
		if (strcmp(s->files[i].name, name) == 0)
			return strlen(s->files[i].text) > max ? -ERR_TOO_LARGE
							      : buf_add_str(ret, s->files[i].text);
	return -ENOENT;
}

/* `name` with %s for its hash, which is returned. */
static const char *put(struct shelf *s, const char *name, const char *text)
{
	static char hex[SHA256_HEX + 1];
	struct file *f = &s->files[s->count++];
	const char *at = strstr(name, "HASH");

	assert_int_equal(sha256_hex(text, strlen(text), hex), 0);
	if (at)
		snprintf(f->name, sizeof(f->name), "%.*s%s%s", (int) (at - name), name, hex, at + 4);
	else
		snprintf(f->name, sizeof(f->name), "%s", name);
	snprintf(f->text, sizeof(f->text), "%s", text);
	return hex;
}

#define ARTIFACT "00000000000000000000000000000000000000000000000000000000000000aa"

static void fill(struct shelf *s, const char *release, char timestamp[static 1000])
{
	char text[2000];

	*s = (struct shelf){ .fetcher = { .get = get } };
	snprintf(text, sizeof(text),
		 "{\"signed\":{\"targets\":{\"web/policy.json\":{},\"web/1.0.0/"
		 "release.json\":{\"hashes\":{\"sha256\":"
		 "\"%s\"}}}}}",
		 put(s, "targets/web/1.0.0/HASH.release.json", release));
	snprintf(text, sizeof(text),
		 "{\"signed\":{\"meta\":{\"rollouts.json\":{\"version\":9},\"team-web.json\":{\"version\":2,"
		 "\"hashes\":"
		 "{\"sha256\":\"%s\"}}}}}",
		 put(s, "metadata/2.team-web.json", text));
	snprintf(timestamp, 1000,
		 "{\"signed\":{\"meta\":{\"snapshot.json\":{\"version\":7,\"hashes\":{\"sha256\":\"%s\"}}}}}",
		 put(s, "metadata/7.snapshot.json", text));
}

static const char release[] =
	"{\"artifacts\":[{\"path\":\"web/1.0.0/web.tar.zst\",\"length\":77,\"sha256\":\"" ARTIFACT "\"}]}";

static void an_artifact_is_found_by_names_alone(void **state)
{
	struct shelf s;
	struct sample found = { .length = 0 };
	char timestamp[1000];

	(void) state;
	fill(&s, release, timestamp);
	assert_int_equal(sample_find(&s.fetcher, timestamp, strlen(timestamp), &found), 0);
	assert_string_equal(found.name, "targets/web/1.0.0/" ARTIFACT ".web.tar.zst");
	assert_int_equal(found.length, 77);
}

static void a_file_that_was_changed_is_named(void **state)
{
	(void) state;
	for (size_t i = 0; i < 3; i++) {
		struct shelf s;
		struct sample found;
		char timestamp[1000];

		fill(&s, release, timestamp);
		strcat(s.files[i].text, " ");
		assert_int_equal(sample_find(&s.fetcher, timestamp, strlen(timestamp), &found), -ERR_DIGEST);
		assert_string_equal(found.name, s.files[i].name);
		s.files[i].name[0] = 'x'; /* and one that is not there */
		assert_int_equal(sample_find(&s.fetcher, timestamp, strlen(timestamp), &found), -ENOENT);
		assert_string_equal(found.name + 1, s.files[i].name + 1);
		s.error = -ERR_TLS;
		assert_int_equal(sample_find(&s.fetcher, timestamp, strlen(timestamp), &found), -ERR_TLS);
	}
}

static void where_nothing_is_published_there_is_none(void **state)
{
	static const char *const releases[] = { "{}", "{\"artifacts\":[]}", "{\"artifacts\":3}" };
	struct shelf s;
	struct sample found;
	char timestamp[1000];

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(releases); i++) {
		fill(&s, releases[i], timestamp);
		assert_int_equal(sample_find(&s.fetcher, timestamp, strlen(timestamp), &found), -ENODATA);
	}
}

static void documents_that_are_none_are_told(void **state)
{
	static const char *const stamps[] = { "",
					      "<html>",
					      "[]",
					      "{}",
					      "{\"signed\":3}",
					      "{\"signed\":{\"meta\":{\"snapshot.json\":{\"version\":\"7\"}}}}",
					      "{\"signed\":{\"meta\":{\"snapshot.json\":{\"version\":-1}}}}" };
	static const char *const releases[] = {
		"[", "{\"artifacts\":[{}]}", "{\"artifacts\":[{\"path\":\"x\",\"length\":1}]}",
		"{\"artifacts\":[{\"path\":\"w/x\",\"length\":-1,\"sha256\":\"" ARTIFACT "\"}]}",
		"{\"artifacts\":[{\"path\":\"w/x\",\"length\":1,\"sha256\":\"aa\"}]}"
	};
	struct shelf s;
	struct sample found;
	char timestamp[1000];

	(void) state;
	fill(&s, release, timestamp);
	for (size_t i = 0; i < ARRAY_LEN(stamps); i++)
		assert_int_equal(sample_find(&s.fetcher, stamps[i], strlen(stamps[i]), &found), -ERR_SYNTAX);
	for (size_t i = 0; i < ARRAY_LEN(releases); i++) {
		fill(&s, releases[i], timestamp);
		assert_int_equal(sample_find(&s.fetcher, timestamp, strlen(timestamp), &found), -ERR_SYNTAX);
	}
}

/* What stands in metadata nobody verified never leads out of the repository. */
static void names_stay_inside(void **state)
{
	struct shelf s;
	struct sample found;
	char timestamp[1000];

	(void) state;
	fill(&s, release, timestamp);
	snprintf(s.files[2].text, sizeof(s.files[2].text),
		 "{\"signed\":{\"meta\":{\"../../x.json\":{\"version\":1}}}}");
	snprintf(timestamp, sizeof(timestamp), "{\"signed\":{\"meta\":{\"snapshot.json\":{\"version\":7}}}}");
	assert_int_equal(sample_find(&s.fetcher, timestamp, strlen(timestamp), &found), -ERR_NAME);
	fill(&s, "{\"artifacts\":[{\"path\":\"../../etc/x\",\"length\":1,\"sha256\":\"" ARTIFACT "\"}]}",
	     timestamp);
	assert_int_equal(sample_find(&s.fetcher, timestamp, strlen(timestamp), &found), -ERR_NAME);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_artifact_is_found_by_names_alone),
		cmocka_unit_test(a_file_that_was_changed_is_named),
		cmocka_unit_test(where_nothing_is_published_there_is_none),
		cmocka_unit_test(documents_that_are_none_are_told),
		cmocka_unit_test(names_stay_inside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
