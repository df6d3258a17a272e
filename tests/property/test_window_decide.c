/*
 * Windows through decide() at the moments where clocks jump, with real zone data and
 * simulated time: a rollout moves exactly while its window is open by the node's own
 * clock, is downloaded ahead while it is not, and says when that ends. What "open" is
 * is found here by walking the clock minute by minute, not by the code under test.
 */
#include "../story/decide_world.h"

#include "base/attr.h"
#include "base/timestamp.h"
#include "json/json.h"
#include "model/opening.h"
#include "os/os.h"
#include "zone/zone.h"

enum { STEP_S = 300, DAYS = 4, STEPS = DAYS * 86400 / STEP_S, BEFORE_DAYS = 3, WINDOWS = 40 };

static uint64_t random_state = 7;

static unsigned below(unsigned n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned) (random_state >> 33) % n;
}

/* Two moments at which the clocks of a place jump, and one at which they do not. */
static const struct {
	const char *zone;
	const char *around[3];
} places[] = {
	{ "Europe/Berlin", { "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-07-01T00:00:00Z" } },
	{ "America/New_York", { "2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z", "2026-07-01T00:00:00Z" } },
	{ "Australia/Lord_Howe", { "2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z", "2026-07-01T00:00:00Z" } },
	{ "Pacific/Apia", { "2011-12-30T10:00:00Z", "2012-03-31T14:00:00Z", "2026-07-01T00:00:00Z" } },
	{ "Antarctica/Troll", { "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-07-01T00:00:00Z" } },
	{ "America/Santiago", { "2026-04-05T03:00:00Z", "2026-09-06T04:00:00Z", "2026-07-01T00:00:00Z" } },
	{ "Africa/Casablanca", { "2026-02-15T02:00:00Z", "2026-03-22T02:00:00Z", "2026-07-01T00:00:00Z" } },
	{ "Asia/Kathmandu", { "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-07-01T00:00:00Z" } },
};

/* Days since 1 January of year 0, by counting. */
static int64_t day_number(int year, int month, int day)
{
	static const int before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	int y = year - 1;

	return 366 + (int64_t) y * 365 + y / 4 - y / 100 + y / 400 + before[month - 1] + (leap && month > 2) +
	       day - 1;
}

/* What the clock reads, as one number that grows with it. */
static int64_t reading(const struct zone *z, int64_t utc, int64_t *ret_day, int *ret_weekday)
{
	struct zone_time t;

	assert_int_equal(zone_local(z, utc, &t), 0);
	*ret_day = day_number(t.year, t.month, t.day);
	*ret_weekday = t.weekday;
	return *ret_day * 1440 + t.hour * 60 + t.minute;
}

struct naive {
	int days; /* bits */
	int from, to; /* minutes; to above from, perhaps on the next day */
};

/*
 * A window of day D is open from the first moment at which the clock reads D and `from` or
 * later until the first at which it reads `to` or later.
 */
static void walk(const struct zone *z, int64_t begin, const struct naive *w, bool *open)
{
	int64_t days[STEPS], readings[STEPS];
	int weekdays[STEPS];

	for (size_t i = 0; i < STEPS; i++) {
		readings[i] = reading(z, begin + (int64_t) i * STEP_S, &days[i], &weekdays[i]);
		open[i] = false;
	}
	/* Every date, those the clock skips (Apia's 30 December 2011) too: their window begins with the jump. */
	for (int64_t day = days[0]; day <= days[STEPS - 1]; day++) {
		int weekday = (int) ((weekdays[0] + day - days[0]) % 7);
		size_t k;

		if (!(w->days & 1 << weekday))
			continue;
		for (k = 0; k < STEPS && readings[k] < day * 1440 + w->from; k++)
			;
		/* Once closed it stays so: a repeated hour opens nothing again. */
		for (; k < STEPS && readings[k] < day * 1440 + w->to; k++)
			open[k] = true;
	}
}

static void window_text(const struct naive *w, char *out, size_t size)
{
	static const char *const names[] = { "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun" };
	size_t n = 0;

	for (int i = 0; i < 7; i++)
		if (w->days & 1 << i)
			n += (size_t) snprintf(out + n, size - n, "%s%s", n > 0 ? "," : "", names[i]);
	(void) snprintf(out + n, size - n, " %02d:%02d-%02d:%02d", w->from / 60, w->from % 60, w->to % 1440 / 60,
			w->to % 60);
}

static struct decision decision_at(struct world *w, const struct opening *o, const struct zone *z, int64_t now)
{
	struct opening_state s = opening_judge(o, z, now);

	w->local.now = now;
	w->facts[0].in_window = s.in_window;
	w->facts[0].in_blackout = s.in_blackout;
	w->facts[0].window_opens = s.opens;
	return world_decide(w);
}

static void check(struct world *w, const struct zone *z, const char *place, int64_t begin, const struct naive *n)
{
	CLEANUP(json_freep)
	struct json *json = NULL;
	bool open[STEPS];
	char text[96], quoted[100], error[200];
	struct opening o;

	window_text(n, text, sizeof(text));
	(void) snprintf(quoted, sizeof(quoted), "\"%s\"", text);
	assert_int_equal(json_parse(quoted, strlen(quoted), &json_limits_default, &json), 0);
	assert_int_equal(opening_parse(json, NULL, &o, error, sizeof(error)), 0);
	walk(z, begin, n, open);
	/* The first two days may lie in a window that began before the walk did. */
	for (size_t i = STEPS / 2; i < STEPS; i++) {
		int64_t now = begin + (int64_t) i * STEP_S;
		struct decision d = decision_at(w, &o, z, now);
		size_t next;

		if ((d.kind == DECIDE_TARGET) != open[i])
			fail_msg("%s, %s at %lld (step %zu): %s", place, text, (long long) now, i,
				 reason_name(d.reason));
		if (open[i])
			continue;
		assert_int_equal(d.kind, DECIDE_WAIT);
		assert_int_equal(d.reason, REASON_WINDOW);
		assert_true(d.may_stage);
		for (next = i; next < STEPS && !open[next]; next++)
			;
		if (next < STEPS && d.until != begin + (int64_t) next * STEP_S)
			fail_msg("%s, %s at %lld: it opens at %lld, not %lld", place, text, (long long) now,
				 (long long) (begin + (int64_t) next * STEP_S), (long long) d.until);
	}
}

static void test_a_rollout_moves_while_its_window_is_open_by_the_nodes_clock(void **state)
{
	(void) state;
	for (size_t p = 0; p < ARRAY_LEN(places); p++) {
		struct zone *z = NULL;

		assert_int_equal(zone_load_from(&os_posix, TESTS_DIR "/unit/data/zoneinfo/fat", places[p].zone,
						&z),
				 0);
		for (size_t m = 0; m < ARRAY_LEN(places[p].around); m++) {
			int64_t moment = 0;

			assert_int_equal(timestamp_parse(places[p].around[m], &moment), 0);
			for (int i = 0; i < WINDOWS; i++) {
				struct naive n = { .days = 1 + (int) below(127), .from = (int) below(288) * 5 };
				struct world w;

				/* Half of them near midnight and the small hours, where clocks jump. */
				if (i % 2)
					n.from = (int) below(48) * 5;
				n.to = n.from + 5 * (1 + (int) below(200));
				world_init(&w);
				world_installed(&w, "1.0.0");
				(void) world_rollout(&w, "r1", 1, "1.1.0", ROLLOUT_REGULAR, ROLLOUT_RUNNING);
				check(&w, z, places[p].zone, moment - BEFORE_DAYS * 86400, &n);
				world_done(&w);
			}
		}
		zone_free(z);
	}
}

/* Without the zone nothing that needs one opens; a patch that overrides the window needs none. */
static void test_without_the_zone_only_an_override_moves(void **state)
{
	CLEANUP(json_freep)
	struct json *json = NULL;
	char error[200];
	struct opening o;
	struct world w;

	(void) state;
	assert_int_equal(json_parse("\"00:00-24:00\"", 13, &json_limits_default, &json), 0);
	assert_int_equal(opening_parse(json, NULL, &o, error, sizeof(error)), 0);
	world_init(&w);
	world_installed(&w, "1.0.0");
	(void) world_rollout(&w, "p1", 1, "1.1.0", ROLLOUT_PATCH, ROLLOUT_RUNNING);
	for (int64_t now = 1767225600; now < 1767225600 + 86400; now += 3600)
		assert_int_equal(decision_at(&w, &o, NULL, now).reason, REASON_WINDOW);
	world_override(&w.facts[0], "window");
	assert_int_equal(decision_at(&w, &o, NULL, 1767225600).kind, DECIDE_TARGET);
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_rollout_moves_while_its_window_is_open_by_the_nodes_clock),
		cmocka_unit_test(test_without_the_zone_only_an_override_moves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
