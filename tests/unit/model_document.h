/*
 * model_document - what the tests of the documents share: a good text, and the same
 * text with one thing wrong.
 */
#ifndef SELFRIGHT_TESTS_MODEL_DOCUMENT_H
#define SELFRIGHT_TESTS_MODEL_DOCUMENT_H

#include "base/buf.h"
#include "base/err.h"
#include "json/build.h"
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* One thing wrong: the first `from` of the good text becomes `to`. */
struct wrong {
	const char *from, *to;
	int error; /* negative; 0: it must be accepted */
	const char *names; /* how the sentence begins */
};

#define Z64 "0000000000000000000000000000000000000000000000000000000000000000"
#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static inline struct json *json_of(const char *text)
{
	struct json *j = NULL;
	int r = json_parse(text, strlen(text), &json_limits_default, &j);

	if (r < 0)
		fail_msg("no JSON (%s): %.200s", err_text(r), text);
	return j;
}

/* With every ' as ", so that texts can be read. */
static inline char *unquote(const char *text)
{
	char *s = strdup(text);

	assert_non_null(s);
	for (char *p = s; *p; p++)
		if (*p == '\'')
			*p = '"';
	return s;
}

static inline struct json *json_replaced(const char *good, const char *from, const char *to)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(8 * 1024 * 1024);
	const char *at = strstr(good, from);
	char *s;
	struct json *j;

	if (!at)
		fail_msg("the good text does not hold %s", from);
	assert_int_equal(buf_add(&text, good, (size_t) (at - good)), 0);
	assert_int_equal(buf_add_str(&text, to), 0);
	assert_int_equal(buf_add_str(&text, at + strlen(from)), 0);
	s = unquote(buf_str(&text));
	j = json_of(s);
	free(s);
	return j;
}

/* `error` by address: the call that sets it may stand beside it. */
static inline void expect_error(const struct wrong *w, int r, char *const *error)
{
	const char *sentence = *error;

	if (r != w->error)
		fail_msg("%s: %s instead of %s (%s)", w->to, err_name(r), err_name(w->error), sentence);
	if (r == 0 && sentence)
		fail_msg("%s: accepted, but with the error %s", w->to, sentence);
	if (r < 0 && (!sentence || strncmp(sentence, w->names, strlen(w->names)) != 0))
		fail_msg("%s: \"%s\" does not begin with \"%s\"", w->to, sentence ? sentence : "", w->names);
}

/* `count` times `element`, with commas; %zu in it is the number. The caller frees it. */
static inline char *many(const char *element, size_t count)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(4 * 1024 * 1024);
	const char *at = strstr(element, "%zu");

	for (size_t i = 0; i < count; i++) {
		assert_int_equal(buf_add_str(&out, i > 0 ? "," : ""), 0);
		if (!at) {
			assert_int_equal(buf_add_str(&out, element), 0);
			continue;
		}
		assert_int_equal(buf_add(&out, element, (size_t) (at - element)), 0);
		assert_int_equal(buf_addf(&out, "%zu%s", i, at + 3), 0);
	}
	return out.data ? buf_take(&out) : strdup("");
}

#endif
