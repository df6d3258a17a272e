#include "agent/probe/internal.h"
#include "base/err.h"
#include "model/catalogue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PID_TICK_MS = 20, /* between looks at a process where there are no pid descriptors */
	WATCH_SLOWER = 6,
	WATCH_PERIOD_MAX_MS = 5 * 60 * 1000, /* unless the check itself is slower */
	FLAP_RUNS_MIN = 16, /* below them a few failures say nothing */
	FLAP_RUNS_MAX = 64,
	BASELINE_AGAIN_MS = 2000, /* what failed before the swap is asked again then, or after its period */
	BASELINE_STARTS = 3, /* of a check that the node cannot start, until it is given up */
};

static const char *const state_names[] = { [PROBE_PENDING] = "pending",
					   [PROBE_PASSING] = "passing",
					   [PROBE_FAILING] = "failing",
					   [PROBE_NOT_BLAMED] = "not-blamed" };
_Static_assert(ARRAY_LEN(state_names) == PROBE_STATE_COUNT, "every state has a name");

const char *probe_state_name(enum probe_state state)
{
	return (unsigned) state < PROBE_STATE_COUNT ? state_names[state] : "unknown";
}

/* --- making a set --- */

static void probe_init(struct probe *p, const struct release_check *check, enum probe_mode mode, uint64_t now_ms)
{
	p->status = (struct probe_status){
		.check = check, .state = PROBE_PENDING, .detail = "", .changed_ms = (int64_t) now_ms
	};
	p->next_ms = now_ms + (mode == PROBE_BASELINE ? 0 : check->initial_delay_s * 1000);
	run_program_init(&p->program);
	run_talk_init(&p->talk);
	buf_init(&p->detail, PROBE_DETAIL_MAX);
	buf_init(&p->input, RUN_INPUT_MAX);
}

int probe_set_new(const struct release *release, const struct probe_context *context, enum probe_mode mode,
		  uint64_t now_ms, struct probe_set **ret)
{
	CLEANUP(probe_set_freep)
	struct probe_set *set = calloc(1, sizeof(*set));
	int r;

	if (!set)
		return -ENOMEM;
	set->context = context;
	set->mode = mode;
	set->started_ms = now_ms;
	set->probes = calloc(release->check_count + 1, sizeof(*set->probes));
	if (!set->probes)
		return -ENOMEM;
	for (size_t i = 0; i < release->check_count; i++) {
		struct probe *p = &set->probes[set->count++];

		probe_init(p, &release->checks[i], mode, now_ms);
		r = probe_prepare(context, p);
		if (r < 0)
			return r;
	}
	*ret = set;
	set = NULL;
	return 0;
}

void probe_set_free(struct probe_set *set)
{
	if (!set)
		return;
	for (size_t i = 0; i < set->count; i++)
		probe_release(&set->probes[i]);
	free(set->probes);
	free(set);
}

static struct probe *find(const struct probe_set *set, const char *check)
{
	for (size_t i = 0; i < set->count; i++)
		if (strcmp(set->probes[i].status.check->name, check) == 0)
			return &set->probes[i];
	return NULL;
}

void probe_set_was_failing(struct probe_set *set, const char *check)
{
	struct probe *p = find(set, check);

	if (p)
		p->was_failing = true;
}

void probe_set_before(struct probe_set *set, const char *check, const char *value)
{
	struct probe *p = find(set, check);

	if (p && value[0])
		probe_take_value(p, value);
}

const char *probe_set_value(const struct probe_set *set, size_t index)
{
	return index < set->count ? set->probes[index].value : "";
}

bool probe_set_measured(const struct probe_set *set, size_t index, double *ret_value, double *ret_samples)
{
	if (index >= set->count || !set->probes[index].measured)
		return false;
	*ret_value = set->probes[index].measured_value;
	*ret_samples = set->probes[index].measured_samples;
	return true;
}

uint64_t probe_set_baseline_ms(const struct probe_set *set)
{
	uint64_t longest = 0;

	for (size_t i = 0; i < set->count; i++) {
		const struct release_check *c = set->probes[i].status.check;
		uint64_t own = c->timeout_s * c->failure_threshold +
			       BASELINE_AGAIN_MS / 1000 * (c->failure_threshold - 1);

		if (c->kind == CHECK_METRIC)
			own += c->metric.before_s;
		else if (c->kind == CHECK_LOG)
			own += c->period_s + c->timeout_s;
		longest = own > longest ? own : longest;
	}
	/* Those that come after others wait for them. */
	return longest * 1000 * 2;
}

/* --- one run --- */

static bool is_blamed(const struct probe *p)
{
	return !p->was_failing || p->status.check->must_fix;
}

static bool is_link(const struct probe *p)
{
	return p->status.check->kind == CHECK_LINK;
}

/* For how long a baseline tries to learn more than one run tells. */
static uint64_t learning_ms(const struct probe *p)
{
	const struct release_check *c = p->status.check;

	if (c->kind == CHECK_METRIC)
		return c->metric.before_s * 1000;
	/* A second look, a period after the first. */
	return c->kind == CHECK_LOG ? (c->period_s + c->timeout_s) * 1000 : 0;
}

/* What a check waits for, NULL: nothing. */
static const struct probe *waits_for(const struct probe_set *set, const struct probe *p)
{
	const struct string_list *after = &p->status.check->after;

	for (size_t i = 0; i < after->count; i++) {
		const struct probe *other = find(set, after->items[i]);

		if (other && other->status.state != PROBE_PASSING)
			return other;
	}
	return NULL;
}

static bool is_due(const struct probe_set *set, const struct probe *p, uint64_t now_ms)
{
	return !is_link(p) && !p->running && !p->settled && run_program_is_idle(&p->program) &&
	       now_ms >= p->next_ms && !waits_for(set, p);
}

static void enter(struct probe *p, enum probe_state state, uint64_t now_ms)
{
	if (p->status.state == state)
		return;
	p->status.state = state;
	p->status.changed_ms = (int64_t) now_ms;
}

static void remember(struct probe *p, bool failed)
{
	if (p->history_count == 0 && failed)
		return; /* a service that is still starting does not flap */
	p->history = p->history << 1 | (failed ? 1 : 0);
	if (p->history_count < FLAP_RUNS_MAX)
		p->history_count++;
}

/* Two of five runs failed, again and again: it never fails often enough in a row, and never holds either. */
static unsigned flaps(const struct probe *p)
{
	uint64_t mask = p->history_count < 64 ? (UINT64_C(1) << p->history_count) - 1 : UINT64_MAX;
	unsigned failed = (unsigned) __builtin_popcountll(p->history & mask);

	return p->history_count >= FLAP_RUNS_MIN && failed * 5 >= p->history_count * 2 ? failed : 0;
}

static void fail(struct probe *p, uint64_t now_ms)
{
	enter(p, is_blamed(p) ? PROBE_FAILING : PROBE_NOT_BLAMED, now_ms);
}

static void count_failure(struct probe *p, uint64_t now_ms)
{
	p->status.failures++;
	p->status.failed_in_a_row++;
	p->passed_in_a_row = 0;
	remember(p, true);
	if (p->status.failed_in_a_row >= p->status.check->failure_threshold) {
		fail(p, now_ms);
	} else if (flaps(p)) {
		char last[256];

		(void) snprintf(last, sizeof(last), "%s", buf_str(&p->detail)); /* its words follow ours */
		run_say(&p->detail, "it flaps: %u of the last %u runs failed, the last with: %s", flaps(p),
			p->history_count, last);
		fail(p, now_ms);
	}
}

static void count_run(const struct probe_set *set, struct probe *p, enum run_end end, uint64_t now_ms)
{
	const struct release_check *check = p->status.check;
	bool baseline = set->mode == PROBE_BASELINE;

	p->status.runs++;
	p->inconclusive = end == RUN_INCONCLUSIVE;
	if (baseline)
		p->settled =
			end == RUN_HELD || (end == RUN_INCONCLUSIVE && now_ms >= set->started_ms + learning_ms(p));
	if (end == RUN_INCONCLUSIVE)
		return;
	if (end != RUN_HELD) {
		count_failure(p, now_ms);
		/* One failure of a busy moment must not excuse the release: it failed before only if it keeps failing. */
		if (baseline)
			p->settled = p->status.failed_in_a_row >= check->failure_threshold;
		return;
	}
	p->status.failed_in_a_row = 0;
	p->passed_in_a_row++;
	remember(p, false);
	if (baseline || p->passed_in_a_row >= check->success_threshold)
		enter(p, PROBE_PASSING, now_ms);
}

static uint64_t baseline_again_ms(const struct probe *p)
{
	uint64_t own = p->status.check->period_s * 1000;

	return own < BASELINE_AGAIN_MS ? own : BASELINE_AGAIN_MS;
}

/* In a watch what holds is looked at less often; the first failure brings the old pace back. */
static uint64_t period_ms(const struct probe_set *set, const struct probe *p)
{
	uint64_t own = p->status.check->period_s * 1000, slow = own * WATCH_SLOWER;

	if (set->mode == PROBE_BASELINE && p->status.failed_in_a_row > 0)
		return baseline_again_ms(p);
	if (set->mode != PROBE_WATCH || p->status.state != PROBE_PASSING || p->status.failed_in_a_row > 0)
		return own;
	if (slow > WATCH_PERIOD_MAX_MS)
		slow = own > WATCH_PERIOD_MAX_MS ? own : WATCH_PERIOD_MAX_MS;
	return slow;
}

static void end_run(const struct probe_set *set, struct probe *p, enum run_end end, uint64_t now_ms)
{
	p->running = false;
	count_run(set, p, end, now_ms);
	p->next_ms = p->started_ms + period_ms(set, p);
	p->status.detail = buf_str(&p->detail);
	if (p->settled)
		probe_note_value(p);
}

static bool systemd_runs(void)
{
	return access("/run/systemd/system", F_OK) == 0; /* sd_booted(3) */
}

static bool runs_as_the_component(const struct probe *p)
{
	return p->road == ROAD_HELPER || p->status.check->kind == CHECK_EXEC ||
	       p->status.check->kind == CHECK_STATUS;
}

/* Before the swap that says nothing of how things were: asked again, and in the end left to the caller by the error. */
static void not_started(const struct probe_set *set, struct probe *p, int r, uint64_t now_ms)
{
	p->status.error = r;
	run_say(&p->detail, "cannot start %s: %s", p->argv ? p->argv[0] : "a program", err_text(r));
	if (set->mode != PROBE_BASELINE || catalogue_blame(RESULT_CHECK_FAILED, r) == RESULT_CHECK_FAILED) {
		end_run(set, p, RUN_FAILED, now_ms);
		return;
	}
	p->running = false;
	p->status.detail = buf_str(&p->detail);
	p->settled = ++p->starts_in_vain >= BASELINE_STARTS;
	p->next_ms = p->started_ms + baseline_again_ms(p);
}

static void start_program(const struct probe_set *set, struct probe *p, uint64_t now_ms)
{
	const struct probe_context *c = set->context;
	const struct release_check *check = p->status.check;
	struct process_options o = { .argv = (const char *const *) p->argv, .no_new_privs = true };
	int r = 0;

	if (check->kind == CHECK_LOG)
		r = probe_prepare_log(c, p);
	o.argv = (const char *const *) p->argv;
	if (runs_as_the_component(p)) {
		if (p->road == ROAD_PROGRAM) {
			o.env = c->env;
			o.directory = c->root;
		}
		if (geteuid() == 0)
			o.user = check->exec.user ? check->exec.user : c->user;
	} else if (!(check->kind == CHECK_UNIT ? c->systemctl : c->journalctl) && !systemd_runs()) {
		run_say(&p->detail, "systemd does not run here");
		end_run(set, p, RUN_FAILED, now_ms);
		return;
	}
	if (r == 0)
		r = run_program_start(&p->program, &o, p->road == ROAD_HELPER ? &p->input : NULL);
	if (r < 0)
		not_started(set, p, r, now_ms);
}

static void start_run(const struct probe_set *set, struct probe *p, uint64_t now_ms)
{
	p->running = true;
	p->started_ms = now_ms;
	p->status.error = 0;
	p->measured = false;
	if (p->road != ROAD_TALK)
		start_program(set, p, now_ms);
	else
		run_talk_start(&p->talk, p->addresses, p->address_count, p->request, &p->expect);
}

static uint64_t run_deadline(const struct probe *p)
{
	return p->started_ms + p->status.check->timeout_s * 1000;
}

static void forget_talk(struct probe *p)
{
	run_talk_done(&p->talk);
	run_talk_init(&p->talk);
}

static void time_out(const struct probe_set *set, struct probe *p, uint64_t now_ms)
{
	run_say(&p->detail, "no answer within %llu s", (unsigned long long) p->status.check->timeout_s);
	if (p->road != ROAD_TALK) {
		run_program_tell(&p->program, &p->detail);
		run_program_kill(&p->program);
	} else {
		forget_talk(p);
	}
	end_run(set, p, RUN_FAILED, now_ms);
}

/* The helper says why in words of its own, and by its status whether there was anything to read. */
static enum run_end judge_helper(struct probe *p, enum run_end end)
{
	int status = p->program.status;

	if (end != RUN_FAILED || !WIFEXITED(status))
		return end;
	buf_clear(&p->detail);
	run_program_tell(&p->program, &p->detail);
	return WEXITSTATUS(status) == PROBE_HELPER_MISSING ? RUN_INCONCLUSIVE : RUN_FAILED;
}

static enum run_end judge_run(const struct probe_set *set, struct probe *p, enum run_end end, uint64_t now_ms)
{
	if (p->road == ROAD_HELPER)
		end = judge_helper(p, end);
	if (end != RUN_HELD || (p->road == ROAD_TALK && p->status.check->kind != CHECK_METRIC))
		return end;
	if (p->road == ROAD_TALK)
		return probe_judge(set, p, &p->talk.answer, now_ms);
	return p->program.head_max ? probe_judge(set, p, &p->program.output, now_ms) : end;
}

static void continue_run(const struct probe_set *set, struct probe *p, uint64_t now_ms)
{
	enum run_end end = p->road != ROAD_TALK ? run_program_step(&p->program, &p->detail)
						: run_talk_step(&p->talk, &p->detail);

	if (end == RUN_UNDER_WAY && now_ms >= run_deadline(p)) {
		time_out(set, p, now_ms);
		return;
	}
	if (end == RUN_UNDER_WAY)
		return;
	end = judge_run(set, p, end, now_ms);
	/* An answer may be large, and the next is a period away. */
	if (p->road == ROAD_TALK)
		forget_talk(p);
	buf_done(&p->program.output);
	end_run(set, p, end, now_ms);
}

static void reap(struct probe *p)
{
	CLEANUP(buf_done)
	struct buf nobody = BUF_INIT(PROBE_DETAIL_MAX);

	(void) run_program_step(&p->program, &nobody); /* its verdict was its timeout */
}

/* Before the swap: what cannot run, because what it comes after does not hold, does not hold either. */
static void settle(const struct probe_set *set, struct probe *p, uint64_t now_ms)
{
	const struct probe *other = waits_for(set, p);

	if (other && other->settled) {
		run_say(&p->detail, "not run: %s does not hold", other->status.check->name);
		p->started_ms = now_ms;
		end_run(set, p, other->status.state == PROBE_PENDING ? RUN_INCONCLUSIVE : RUN_FAILED, now_ms);
		if (other->status.state != PROBE_PENDING)
			fail(p, now_ms);
		p->settled = true;
		return;
	}
	if (!is_link(p) || now_ms < set->started_ms + p->status.check->timeout_s * 1000)
		return;
	run_say(&p->detail, "no answer of the controller before the swap");
	p->started_ms = now_ms;
	end_run(set, p, RUN_FAILED, now_ms);
	fail(p, now_ms);
	p->settled = true;
}

void probe_set_step(struct probe_set *set, uint64_t now_ms)
{
	for (size_t i = 0; i < set->count; i++) {
		struct probe *p = &set->probes[i];

		if (!p->running && !run_program_is_idle(&p->program))
			reap(p);
		if (is_due(set, p, now_ms))
			start_run(set, p, now_ms);
		if (p->running)
			continue_run(set, p, now_ms);
		if (set->mode == PROBE_BASELINE && !p->settled && !p->running)
			settle(set, p, now_ms);
	}
}

/* --- waiting --- */

static void wait_until(uint64_t at_ms, uint64_t now_ms, int *timeout_ms)
{
	uint64_t left = at_ms > now_ms ? at_ms - now_ms : 0;

	if (*timeout_ms < 0 || left < (uint64_t) *timeout_ms)
		*timeout_ms = left > INT32_MAX ? INT32_MAX : (int) left;
}

static size_t wait_for(struct pollfd *fds, size_t n, size_t max, int fd, short events)
{
	if (fd < 0 || n >= max)
		return n;
	fds[n] = (struct pollfd){ .fd = fd, .events = events };
	return n + 1;
}

static size_t prepare_running(const struct probe *p, struct pollfd *fds, size_t n, size_t max, uint64_t now_ms,
			      int *timeout_ms)
{
	if (!run_program_is_idle(&p->program)) {
		n = wait_for(fds, n, max, p->program.output_fd, POLLIN);
		n = wait_for(fds, n, max, p->program.pid_fd, POLLIN);
		if (p->program.pid_fd < 0)
			wait_until(now_ms + PID_TICK_MS, now_ms, timeout_ms);
	}
	if (p->talk.fd >= 0)
		n = wait_for(fds, n, max, p->talk.fd,
			     !p->talk.connected || (p->request && p->talk.sent < strlen(p->request)) ? POLLOUT
												     : POLLIN);
	return n;
}

size_t probe_set_prepare(const struct probe_set *set, struct pollfd *fds, size_t max, uint64_t now_ms,
			 int *timeout_ms)
{
	size_t n = 0;

	for (size_t i = 0; i < set->count; i++) {
		const struct probe *p = &set->probes[i];

		n = prepare_running(p, fds, n, max, now_ms, timeout_ms);
		if (p->running)
			wait_until(run_deadline(p), now_ms, timeout_ms);
		else if (!is_link(p) && run_program_is_idle(&p->program) && !p->settled && !waits_for(set, p))
			wait_until(p->next_ms, now_ms, timeout_ms);
		else if (is_link(p) && set->mode == PROBE_BASELINE && !p->settled)
			wait_until(set->started_ms + p->status.check->timeout_s * 1000, now_ms, timeout_ms);
	}
	return n;
}

/* --- the link, and what it all means --- */

void probe_set_link_result(struct probe_set *set, bool holds, const char *detail)
{
	for (size_t i = 0; i < set->count; i++) {
		struct probe *p = &set->probes[i];

		if (!is_link(p))
			continue;
		run_say(&p->detail, "%s", detail ? detail : "");
		p->status.detail = buf_str(&p->detail);
		p->status.runs++;
		p->settled = set->mode == PROBE_BASELINE;
		if (!holds)
			p->status.failures++;
		p->status.failed_in_a_row = holds ? 0 : p->status.failed_in_a_row + 1;
		if (holds)
			p->status.state = PROBE_PASSING;
		else if (set->mode == PROBE_BASELINE)
			p->status.state = PROBE_FAILING;
		else
			p->status.state =
				is_blamed(p) ? PROBE_PENDING : PROBE_NOT_BLAMED; /* the caller's deadline judges */
	}
}

bool probe_set_wants_link(const struct probe_set *set)
{
	for (size_t i = 0; i < set->count; i++) {
		const struct probe *p = &set->probes[i];

		if (is_link(p) && p->status.check->required && is_blamed(p) && p->status.state != PROBE_PASSING)
			return true;
	}
	return false;
}

bool probe_set_done(const struct probe_set *set)
{
	for (size_t i = 0; i < set->count; i++)
		if (!set->probes[i].settled || set->probes[i].running)
			return false;
	return true;
}

size_t probe_set_count(const struct probe_set *set)
{
	return set->count;
}

const struct probe_status *probe_set_at(const struct probe_set *set, size_t index)
{
	return index < set->count ? &set->probes[index].status : NULL;
}

static bool holds(const struct probe *p)
{
	return p->status.state == PROBE_PASSING && p->status.failed_in_a_row == 0 && !p->inconclusive;
}

/* Until when an answer is waited for. */
static uint64_t deadline_of(const struct probe_set *set, const struct probe *p, uint64_t probation_ms)
{
	const struct release_check *c = p->status.check;
	uint64_t own = (c->initial_delay_s + c->deadline_s) * 1000;

	return set->started_ms + (own > probation_ms ? own : probation_ms);
}

enum probe_verdict probe_set_verdict(const struct probe_set *set, uint64_t now_ms, uint64_t probation_ms,
				     const struct probe_status **ret_why)
{
	const struct probe_status *waits = NULL, *link = NULL, *unproven = NULL;
	bool proven = false;

	*ret_why = NULL;
	for (size_t i = 0; i < set->count; i++) {
		const struct probe *p = &set->probes[i];

		if (!p->status.check->required)
			continue;
		if (p->status.state == PROBE_FAILING) {
			*ret_why = &p->status;
			return PROBE_FAILED;
		}
		if (holds(p))
			proven = proven || !is_link(p);
		else if (is_blamed(p) && is_link(p))
			link = &p->status;
		else if (is_blamed(p) && (p->inconclusive || p->status.runs == 0) && !p->running &&
			 now_ms >= deadline_of(set, p, probation_ms))
			unproven = &p->status;
		else if (is_blamed(p))
			waits = &p->status;
	}
	*ret_why = waits ? waits : link ? link : unproven;
	if (now_ms < set->started_ms + probation_ms || waits)
		return PROBE_IN_PROGRESS;
	if (link)
		return PROBE_ONLY_LINK;
	return proven && !unproven ? PROBE_PASSED : PROBE_UNPROVEN;
}
