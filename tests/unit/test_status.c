/* screen.h and metrics.h: a status on one screen and as metrics, whatever stands in it. */
#include "agent/metrics.h"
#include "agent/screen.h"
#include "base/attr.h"
#include "base/buf.h"
#include "json/json.h"
#include "os/durable.h"
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the four above */
#include <cmocka.h>

static struct json *parsed(const char *text)
{
	struct json_limits limits = json_limits_default;
	struct json *j = NULL;
	char *quoted = strdup(text);

	assert_non_null(quoted);
	for (char *p = quoted; *p; p++)
		if (*p == '\'')
			*p = '"';
	limits.max_values = 100000;
	limits.max_bytes = 1024 * 1024;
	assert_int_equal(json_parse(quoted, strlen(quoted), &limits, &j), 0);
	free(quoted);
	return j;
}

static char *shown(const char *status, unsigned columns, unsigned rows, bool colours)
{
	CLEANUP(json_freep)
	struct json *j = parsed(status);
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	struct screen s = { .out = f, .columns = columns, .rows = rows, .colours = colours };

	assert_non_null(f);
	screen_status(&s, j);
	assert_int_equal(fclose(f), 0);
	return text;
}

static const char fine[] =
	"{'fleet':'demo','node':'n1','agent':'0.1.0','generation':12,'state':'idle','stuck':false,"
	"'link':{'connected':true,'report':7,'acknowledged':7},"
	"'metadata':{'fresh':true,'expires':'2026-12-01T00:00:00Z','refreshed':'2026-11-28T00:00:00Z'},"
	"'zone':{'name':'Europe/Oslo','edition':'2025b','stale':false},"
	"'next_window':{'component':'web','opens':'2026-11-28T21:00:00Z','local':'2026-11-28 22:00 CET'},"
	"'components':[{'component':'web','version':'1.1.0','wants':'1.2.0','why':'window',"
	"'why_detail':'outside the window 22:00-04:00 in the zone "
	"Europe/Oslo','denied':[{'version':'1.0.5','cause':'unfit'}],"
	"'services':[{'name':'app','state':'running','pid':7,'restarts':2}],"
	"'last_result':{'at':'2026-11-27T00:00:00Z','name':'good','class':'none','duration_ms':12300,'pause_ms':"
	"250}}],"
	"'checks':[{'component':'web','name':'answers','state':'passing','runs':9,'failures':1},"
	"{'component':'web','name':'quick','state':'failing','detail':'took 3 s','runs':9,'failures':4}],"
	"'last_result':{'at':'2026-11-27T00:00:00Z','component':'web','from':'1.0.0','to':'1.1.0','name':'good',"
	"'class':'none','duration_ms':12300}}";

static void test_what_a_person_wants_to_know_is_there(void **state)
{
	static const char *const wanted[] = {
		"n1 of fleet demo",
		"idle",
		"connected",
		"fresh until 2026-12-01T00:00:00Z",
		"opens 2026-11-28 22:00 CET",
		"web            1.1.0        wants 1.2.0: outside the window",
		"running: app",
		"passing: answers",
		"check quick: failing, took 3 s",
		"denied:  1.0.5 (unfit)",
		"web 1.0.0 -> 1.1.0: good in 12.3 s",
	};
	char *text = shown(fine, 80, 24, false);

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		if (!strstr(text, wanted[i]))
			fail_msg("«%s» is not in:\n%s", wanted[i], text);
	assert_null(strchr(text, '\033'));
	free(text);
	text = shown(fine, 80, 24, true);
	assert_non_null(strstr(text, "\033[32m"));
	assert_non_null(strstr(text, "\033[0m"));
	free(text);
}

static void expect_fits(const char *text, unsigned columns, unsigned rows)
{
	unsigned lines = 0, column = 0;

	for (const char *p = text; *p; p++) {
		if (*p == '\n') {
			lines++;
			column = 0;
		} else if (((unsigned char) *p & 0xc0) != 0x80 && ++column > columns) {
			fail_msg("wider than %u:\n%s", columns, text);
		}
	}
	if (lines >= rows)
		fail_msg("%u lines on %u rows:\n%s", lines, rows, text);
}

/* Who installs a machine has nothing but these sentences: they are there to the last word, however narrow. */
static void test_why_it_is_not_enrolled_is_there_whole(void **state)
{
	static const char status[] =
		"{'fleet':'demo','node':'n1','agent':'0.1.0','generation':0,'state':'idle',"
		"'link':{'connected':false,'reason':'not enrolled yet: there is no certificate','identity':"
		"'0123456789abcdef','enrolment':'not enrolled yet: nobody answered: updates.example.org:8443: the "
		"proxy 192.0.2.1:3128 answered 407: it wants a user and a password, or others than those of the "
		"proxy: setting'},'metadata':{'fresh':false}}";
	static const unsigned widths[] = { 21, 40, 80, 500 };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
		char *text = shown(status, widths[i], 0, false), *out = text;

		expect_fits(text, widths[i], 1000);
		/* Without the breaks and indents it is the sentence again. */
		for (const char *p = text; *p; p++)
			if (*p != '\n' && (*p != ' ' || (out > text && out[-1] != ' ')))
				*out++ = *p;
			else if (*p == '\n' && out > text && out[-1] != ' ')
				*out++ = ' ';
		*out = '\0';
		if (widths[i] >= 40 &&
		    !strstr(text,
			    "key 0123456789abcdef not enrolled yet: nobody answered: "
			    "updates.example.org:8443: the proxy 192.0.2.1:3128 answered 407: it wants a user and "
			    "a password, or others than those of the proxy: setting"))
			fail_msg("not whole in:\n%s", text);
		free(text);
	}
}

static void test_a_failure_has_its_last_words(void **state)
{
	char *text = shown(
		"{'last_result':{'component':'web','name':'service-failed','class':'release','detail':'it did not "
		"start','log_tail':'first\\nno such table\\u001b[2J\\n \\n'}}",
		80, 0, false);

	(void) state;
	assert_non_null(strstr(text, "it did not start\n          it said: no such table?[2J\n"));
	assert_null(strstr(text, "first"));
	free(text);
	/* Nothing but empty lines is nothing said; and what went well needs no words. */
	text = shown("{'last_result':{'name':'service-failed','class':'release','log_tail':'\\n \\n'}}", 80, 0,
		     false);
	assert_null(strstr(text, "it said"));
	free(text);
	text = shown("{'last_result':{'name':'good','class':'none','log_tail':'hello'}}", 80, 0, false);
	assert_null(strstr(text, "hello"));
	free(text);
}

static void test_short_words_say_whose_they_are(void **state)
{
	char *text =
		shown("{'components':[{'component':'web','version':'1.0.0','wants':'1.1.0','why':'frozen','why_"
		      "detail':'x'},"
		      "{'component':'waf','version':'2.0.0','why':'inhibited','why_detail':'backup (pid 7)'}]}",
		      80, 0, false);

	(void) state;
	assert_non_null(strstr(text, "wants 1.1.0: frozen: x\n"));
	assert_non_null(strstr(text, "inhibited: backup (pid 7)\n"));
	free(text);
}

/* A node with `count` components, each with services, checks and denials. */
static char *large(unsigned count, bool trouble)
{
	CLEANUP(buf_done)
	struct buf b = BUF_INIT(1024 * 1024);
	char *text;

	assert_int_equal(
		buf_add_str(&b,
			    "{'fleet':'demo','node':'n1','state':'idle','link':{},'metadata':{},'components':["),
		0);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(
			buf_addf(&b,
				 "%s{'component':'c%u','version':'1.0.0','why':'up-to-date','why_detail':'a long "
				 "explanation, longer than any screen is wide, that goes on and on and on and on',"
				 "'services':[{'name':'app','state':'%s'},{'name':'b','state':'running'}],"
				 "'denied':[{'version':'0.9.0','cause':'forced'}]}",
				 i ? "," : "", i, trouble ? "failing" : "running"),
			0);
	assert_int_equal(buf_add_str(&b, "],'checks':["), 0);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(buf_addf(&b, "%s{'component':'c%u','name':'answers','state':'passing'}",
					  i ? "," : "", i),
				 0);
	assert_int_equal(buf_add_str(&b, "]}"), 0);
	text = strdup(buf_str(&b));
	assert_non_null(text);
	return text;
}

static void test_it_fits_on_a_screen(void **state)
{
	(void) state;
	for (unsigned count = 0; count < 40; count++) {
		for (int trouble = 0; trouble < 2; trouble++) {
			char *status = large(count, trouble), *text = shown(status, 80, 24, false);

			expect_fits(text, 80, 24);
			/* As long as there is a row for each, every component has its own. */
			if (count > 0 && count <= 10) {
				char name[16];

				snprintf(name, sizeof(name), "\nc%u ", count - 1);
				assert_non_null(strstr(text, name));
			}
			if (count > 20)
				assert_non_null(strstr(text, "more lines"));
			free(text);
			/* Into a file or a pipe everything goes. */
			text = shown(status, 80, 0, false);
			assert_null(strstr(text, "more lines"));
			free(text);
			free(status);
		}
	}
	for (unsigned rows = 1; rows < 30; rows++)
		for (unsigned columns = 0; columns < 100; columns += 9)
			free(shown(fine, columns, rows, true));
}

static void test_it_is_text_whatever_is_in_it(void **state)
{
	char *text = shown(
		"{'fleet':'\\u001b[2J','node':'n\\u0007','state':'a\\nb','metadata':{'error':'\\u009b31m x'},"
		"'components':[{'component':'\\u001b]0;x','why_detail':'\\r\\u007f'}],"
		"'last_result':{'name':'\\u001b','class':'node','detail':'\\t'}}",
		80, 0, false);

	(void) state;
	for (const unsigned char *p = (const unsigned char *) text; *p; p++) {
		assert_true(*p == '\n' || (*p >= 0x20 && *p != 0x7f));
		assert_false(*p == 0xc2 && p[1] < 0xa0);
	}
	free(text);
	/* An answer without anything in it is shown too. */
	text = shown("{}", 80, 24, false);
	assert_non_null(strstr(text, "nothing has happened here yet"));
	free(text);
	/* Cut between characters, never within one. */
	text = shown("{'node':'\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9'}",
		     15, 0, false);
	expect_fits(text, 15, 99);
	free(text);
}

/* --- metrics --- */

static void metrics(const char *status, struct buf *out)
{
	CLEANUP(json_freep)
	struct json *j = parsed(status);

	assert_int_equal(metrics_of_status(j, out), 0);
}

static void test_metrics_say_the_same(void **state)
{
	static const char *const wanted[] = {
		"selfright_agent_info{fleet=\"demo\",node=\"n1\",version=\"0.1.0\"} 1\n",
		"selfright_agent_state{state=\"idle\"} 1\n",
		"selfright_agent_state{state=\"probation\"} 0\n",
		"selfright_generation 12\n",
		"selfright_stuck 0\n",
		"selfright_link_connected 1\n",
		"selfright_reports_unacknowledged 0\n",
		"selfright_metadata_fresh 1\n",
		"selfright_metadata_expires_timestamp_seconds 1796083200\n",
		"selfright_next_window_timestamp_seconds 1795899600\n",
		"selfright_zone_data_stale 0\n",
		"selfright_component_info{component=\"web\",version=\"1.1.0\",wants=\"1.2.0\"} 1\n",
		"selfright_component_reason{component=\"web\",reason=\"window\"} 1\n",
		"selfright_component_denied_versions{component=\"web\"} 1\n",
		"selfright_last_result_duration_seconds{component=\"web\",result=\"good\",class=\"none\"} 12.3\n",
		"selfright_last_result_pause_seconds{component=\"web\",result=\"good\",class=\"none\"} 0.25\n",
		"selfright_service_up{component=\"web\",service=\"app\"} 1\n",
		"selfright_service_restarts_total{component=\"web\",service=\"app\"} 2\n",
		"selfright_check_up{component=\"web\",check=\"answers\"} 1\n",
		"selfright_check_up{component=\"web\",check=\"quick\"} 0\n",
		"selfright_check_failures_total{component=\"web\",check=\"quick\"} 4\n",
	};
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(METRICS_MAX_BYTES);

	(void) state;
	metrics(fine, &out);
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		if (!strstr(buf_str(&out), wanted[i]))
			fail_msg("«%s» is not in:\n%s", wanted[i], buf_str(&out));
}

/* Every family is described before its samples, once; every line is one the format knows. */
static void expect_format(char *text)
{
	char seen[64][96], *rest = NULL;
	size_t count = 0;

	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		size_t name;

		if (strncmp(line, "# HELP ", 7) == 0) {
			for (size_t i = 0; i < count; i++)
				assert_string_not_equal(seen[i], line + 7);
			assert_true(count < 64);
			snprintf(seen[count++], sizeof(seen[0]), "%.*s", (int) strcspn(line + 7, " "), line + 7);
			continue;
		}
		if (strncmp(line, "# TYPE ", 7) == 0) {
			assert_int_equal(strncmp(line + 7, seen[count - 1], strlen(seen[count - 1])), 0);
			assert_true(strstr(line, " gauge") || (strstr(line, "_total counter")));
			continue;
		}
		name = strspn(line, "abcdefghijklmnopqrstuvwxyz_");
		assert_int_equal(strlen(seen[count - 1]), name);
		assert_int_equal(strncmp(line, seen[count - 1], name), 0);
		assert_true(line[name] == '{' || line[name] == ' ');
	}
	assert_true(count > 10);
}

static void test_the_format_is_prometheus(void **state)
{
	CLEANUP(buf_done)
	struct buf one = BUF_INIT(METRICS_MAX_BYTES), two = BUF_INIT(METRICS_MAX_BYTES);

	(void) state;
	metrics(fine, &one);
	expect_format((char *) one.data);
	metrics("{}", &two);
	expect_format((char *) two.data);
}

static void test_values_of_labels_are_escaped(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(METRICS_MAX_BYTES);

	(void) state;
	metrics("{'fleet':'a\\\"b\\\\c\\nd'}", &out);
	assert_non_null(strstr(buf_str(&out), "fleet=\"a\\\"b\\\\c\\nd\""));
}

static void test_the_file_is_put_in_one_step(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(100), back = BUF_INIT(100);
	char dir[] = "/tmp/selfright-metrics-XXXXXX", path[64], pending[80];
	struct stat st;

	(void) state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/selfright.prom", dir);
	snprintf(pending, sizeof(pending), "%s.pending", path);
	assert_int_equal(buf_add_str(&text, "a 1\n"), 0);
	assert_int_equal(metrics_write(&os_posix, path, &text), 0);
	/* What a run that was cut off left, or a stranger put there, is not followed. */
	assert_int_equal(symlink("/etc/passwd", pending), 0);
	assert_int_equal(metrics_write(&os_posix, path, &text), 0);
	assert_int_equal(file_read(&os_posix, AT_FDCWD, path, 100, &back), 0);
	assert_string_equal(buf_str(&back), "a 1\n");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_int_equal(access(pending, F_OK), -1);
	assert_int_equal(metrics_write(&os_posix, "/no/such/folder/x.prom", &text), -ENOENT);
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_failure_has_its_last_words),
		cmocka_unit_test(test_short_words_say_whose_they_are),
		cmocka_unit_test(test_what_a_person_wants_to_know_is_there),
		cmocka_unit_test(test_why_it_is_not_enrolled_is_there_whole),
		cmocka_unit_test(test_it_fits_on_a_screen),
		cmocka_unit_test(test_it_is_text_whatever_is_in_it),
		cmocka_unit_test(test_metrics_say_the_same),
		cmocka_unit_test(test_the_format_is_prometheus),
		cmocka_unit_test(test_values_of_labels_are_escaped),
		cmocka_unit_test(test_the_file_is_put_in_one_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
