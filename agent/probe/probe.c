#include "agent/probe/probe.h"

#include "agent/probe/run.h"
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PID_TICK_MS = 20 /* between looks at a process where there are no pid descriptors */ };

struct probe {
	struct probe_status status;
	char **argv; /* expanded, NULL-terminated; exec and unit */
	char *request, *expect_body; /* expanded; httpGet */
	struct run_address addresses[RUN_ADDRESSES_MAX];
	size_t address_count;

	bool was_failing; /* in the baseline */
	bool running;
	uint64_t next_ms, started_ms; /* when the next run is due; when the one under way began */
	uint64_t passed_in_a_row;
	struct run_program program;
	struct run_talk talk;
	struct buf detail;
};

struct probe_set {
	const struct probe_context *context;
	enum probe_mode mode;
	uint64_t started_ms;
	struct probe *probes;
	size_t count;
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

/* --- what this agent can do --- */

static bool host_is_numeric(const char *host, const char **ret_why)
{
	struct run_address addresses[RUN_ADDRESSES_MAX];

	if (strstr(host, "${") || run_resolve(host, 1, addresses) > 0)
		return true;
	*ret_why = "checks reach numeric addresses and localhost only, no names";
	return false;
}

bool probe_supported(const struct release_check *check, const char **ret_why)
{
	switch (check->kind) {
	case CHECK_EXEC:
	case CHECK_UNIT:
	case CHECK_LINK:
		return true;
	case CHECK_HTTP_GET:
		if (strcmp(check->http.scheme, "http") == 0)
			return host_is_numeric(check->http.host, ret_why);
		*ret_why = "httpGet with scheme https is not supported by this agent";
		return false;
	case CHECK_TCP_SOCKET:
		return host_is_numeric(check->tcp.host, ret_why);
	case CHECK_METRIC:
		*ret_why = "checks of kind metric are not supported by this agent";
		return false;
	case CHECK_LOG:
		*ret_why = "checks of kind log are not supported by this agent";
		return false;
	case CHECK_KIND_COUNT:
		break;
	}
	*ret_why = "this kind of check is not known to this agent";
	return false;
}

/* --- making a set --- */

static int expand(const struct probe_context *c, const char *text, char **ret)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(16 * 1024);
	int r = variables_expand(&c->variables, text, &out);

	if (r < 0)
		return r;
	*ret = out.data ? buf_take(&out) : strdup("");
	return *ret ? 0 : -ENOMEM;
}

/* With a '/' inside but not before it: below the release's own tree. */
static int expand_program(const struct probe_context *c, const char *text, char **ret)
{
	char *name = NULL;
	int r = expand(c, text, &name);

	if (r < 0)
		return r;
	if (name[0] != '/' && strchr(name, '/')) {
		r = asprintf(ret, "%s/%s", c->root, name) < 0 ? -ENOMEM : 0;
		free(name);
		return r;
	}
	*ret = name;
	return 0;
}

static int prepare_exec(const struct probe_context *c, struct probe *p)
{
	const struct string_list *argv = &p->status.check->exec.argv;
	int r;

	p->argv = calloc(argv->count + 1, sizeof(*p->argv));
	if (!p->argv)
		return -ENOMEM;
	r = expand_program(c, argv->items[0], &p->argv[0]);
	for (size_t i = 1; i < argv->count && r == 0; i++)
		r = expand(c, argv->items[i], &p->argv[i]);
	return r;
}

static int prepare_unit(const struct probe_context *c, struct probe *p)
{
	const char *words[] = { c->systemctl ? c->systemctl : "systemctl", "is-active", p->status.check->unit };

	p->argv = calloc(ARRAY_LEN(words) + 1, sizeof(*p->argv));
	for (size_t i = 0; p->argv && i < ARRAY_LEN(words); i++) {
		p->argv[i] = strdup(words[i]);
		if (!p->argv[i])
			return -ENOMEM;
	}
	return p->argv ? 0 : -ENOMEM;
}

static int prepare_address(const struct probe_context *c, const char *host_text, const char *port_text,
			   struct probe *p)
{
	char *host = NULL, *port = NULL;
	uint64_t number;
	int r = expand(c, host_text, &host);

	if (r == 0)
		r = expand(c, port_text, &port);
	if (r == 0 && (parse_u64(port, &number) < 0 || number < 1 || number > 65535))
		r = -ERR_FIELD_VALUE;
	if (r == 0) {
		p->address_count = run_resolve(host, (uint16_t) number, p->addresses);
		if (p->address_count == 0)
			r = -ERR_FIELD_VALUE;
	}
	free(host);
	free(port);
	return r;
}

/* A variable must not smuggle a second line into the request. */
static bool is_one_word(const char *s)
{
	for (; *s; s++)
		if ((unsigned char) *s <= 0x20 || *s == 0x7f)
			return false;
	return true;
}

static int prepare_http(const struct probe_context *c, struct probe *p)
{
	const struct release_check *check = p->status.check;
	char *path = NULL, *host = NULL, *port = NULL;
	int r = prepare_address(c, check->http.host, check->http.port, p);

	if (r == 0 && check->http.expect_body)
		r = expand(c, check->http.expect_body, &p->expect_body);
	if (r == 0)
		r = expand(c, check->http.host, &host);
	if (r == 0)
		r = expand(c, check->http.port, &port);
	if (r == 0)
		r = expand(c, check->http.path, &path);
	if (r == 0 && (path[0] != '/' || !is_one_word(path)))
		r = -ERR_FIELD_VALUE;
	if (r == 0 && asprintf(&p->request,
			       "GET %s HTTP/1.1\r\nHost: %s:%s\r\nUser-Agent: selfright/" SELFRIGHT_VERSION
			       "\r\nAccept: */*\r\nConnection: close\r\n\r\n",
			       path, host, port) < 0) {
		p->request = NULL;
		r = -ENOMEM;
	}
	free(path);
	free(host);
	free(port);
	return r;
}

static int prepare_probe(const struct probe_context *c, struct probe *p)
{
	const struct release_check *check = p->status.check;
	const char *why;

	if (!probe_supported(check, &why))
		return -ERR_AGENT_TOO_OLD;
	switch (check->kind) {
	case CHECK_EXEC:
		return prepare_exec(c, p);
	case CHECK_UNIT:
		return prepare_unit(c, p);
	case CHECK_HTTP_GET:
		return prepare_http(c, p);
	case CHECK_TCP_SOCKET:
		return prepare_address(c, check->tcp.host, check->tcp.port, p);
	case CHECK_LINK:
	case CHECK_METRIC:
	case CHECK_LOG:
	case CHECK_KIND_COUNT:
		break;
	}
	return 0;
}

static void probe_init(struct probe *p, const struct release_check *check, enum probe_mode mode, uint64_t now_ms)
{
	p->status = (struct probe_status){
		.check = check, .state = PROBE_PENDING, .detail = "", .changed_ms = (int64_t) now_ms
	};
	p->next_ms = now_ms + (mode == PROBE_BASELINE ? 0 : check->initial_delay_s * 1000);
	run_program_init(&p->program);
	run_talk_init(&p->talk);
	buf_init(&p->detail, PROBE_DETAIL_MAX);
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
		r = prepare_probe(context, p);
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
	for (size_t i = 0; i < set->count; i++) {
		struct probe *p = &set->probes[i];

		run_program_done(&p->program);
		run_talk_done(&p->talk);
		for (size_t k = 0; p->argv && p->argv[k]; k++)
			free(p->argv[k]);
		free(p->argv);
		free(p->request);
		free(p->expect_body);
		buf_done(&p->detail);
	}
	free(set->probes);
	free(set);
}

void probe_set_was_failing(struct probe_set *set, const char *check)
{
	for (size_t i = 0; i < set->count; i++)
		if (strcmp(set->probes[i].status.check->name, check) == 0)
			set->probes[i].was_failing = true;
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

/* In a baseline there is one run, and then no more. */
static bool is_due(const struct probe_set *set, const struct probe *p, uint64_t now_ms)
{
	return !is_link(p) && !p->running && run_program_is_idle(&p->program) && now_ms >= p->next_ms &&
	       !(set->mode == PROBE_BASELINE && p->status.runs > 0);
}

static void enter(struct probe *p, enum probe_state state, uint64_t now_ms)
{
	if (p->status.state == state)
		return;
	p->status.state = state;
	p->status.changed_ms = (int64_t) now_ms;
}

static void count_run(const struct probe_set *set, struct probe *p, bool held, uint64_t now_ms)
{
	const struct release_check *check = p->status.check;
	bool baseline = set->mode == PROBE_BASELINE;

	p->status.runs++;
	if (held) {
		p->status.failed_in_a_row = 0;
		p->passed_in_a_row++;
		if (baseline || p->passed_in_a_row >= check->success_threshold)
			enter(p, PROBE_PASSING, now_ms);
		return;
	}
	p->status.failures++;
	p->status.failed_in_a_row++;
	p->passed_in_a_row = 0;
	if (baseline || p->status.failed_in_a_row >= check->failure_threshold)
		enter(p, is_blamed(p) ? PROBE_FAILING : PROBE_NOT_BLAMED, now_ms);
}

static void end_run(const struct probe_set *set, struct probe *p, bool held, uint64_t now_ms)
{
	p->running = false;
	p->status.detail = buf_str(&p->detail);
	count_run(set, p, held, now_ms);
}

static bool systemd_runs(void)
{
	return access("/run/systemd/system", F_OK) == 0; /* sd_booted(3) */
}

static void start_program(const struct probe_set *set, struct probe *p, uint64_t now_ms)
{
	const struct probe_context *c = set->context;
	const struct release_check *check = p->status.check;
	struct process_options o = { .argv = (const char *const *) p->argv, .env = c->env, .no_new_privs = true };
	int r;

	if (check->kind == CHECK_EXEC) {
		o.directory = c->root;
		if (geteuid() == 0)
			o.user = check->exec.user ? check->exec.user : c->user;
	} else if (!c->systemctl && !systemd_runs()) {
		run_say(&p->detail, "systemd does not run here");
		end_run(set, p, false, now_ms);
		return;
	}
	r = run_program_start(&p->program, &o);
	if (r < 0) {
		run_say(&p->detail, "cannot start %s: %s", p->argv[0], err_text(r));
		end_run(set, p, false, now_ms);
	}
}

static void start_run(const struct probe_set *set, struct probe *p, uint64_t now_ms)
{
	p->running = true;
	p->started_ms = now_ms;
	p->next_ms = now_ms + p->status.check->period_s * 1000;
	if (p->argv)
		start_program(set, p, now_ms);
	else
		run_talk_start(&p->talk, p->addresses, p->address_count, p->request, p->expect_body);
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
	if (p->argv) {
		run_program_tell(&p->program, &p->detail);
		run_program_kill(&p->program);
	} else {
		forget_talk(p);
	}
	end_run(set, p, false, now_ms);
}

static void continue_run(const struct probe_set *set, struct probe *p, uint64_t now_ms)
{
	enum run_end end =
		p->argv ? run_program_step(&p->program, &p->detail) : run_talk_step(&p->talk, &p->detail);

	if (end == RUN_UNDER_WAY && now_ms >= run_deadline(p)) {
		time_out(set, p, now_ms);
		return;
	}
	if (end == RUN_UNDER_WAY)
		return;
	if (!p->argv)
		forget_talk(p);
	end_run(set, p, end == RUN_HELD, now_ms);
}

static void reap(struct probe *p)
{
	CLEANUP(buf_done)
	struct buf nobody = BUF_INIT(PROBE_DETAIL_MAX);

	(void) run_program_step(&p->program, &nobody); /* its verdict was its timeout */
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
		if (is_link(p) && set->mode == PROBE_BASELINE && p->status.state == PROBE_PENDING &&
		    now_ms >= set->started_ms + p->status.check->timeout_s * 1000) {
			run_say(&p->detail, "no answer of the controller before the swap");
			end_run(set, p, false, now_ms);
		}
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
		else if (!is_link(p) && run_program_is_idle(&p->program) &&
			 !(set->mode == PROBE_BASELINE && p->status.runs > 0))
			wait_until(p->next_ms, now_ms, timeout_ms);
		else if (is_link(p) && set->mode == PROBE_BASELINE && p->status.state == PROBE_PENDING)
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
		if (set->probes[i].status.runs == 0 || set->probes[i].running)
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
	return p->status.state == PROBE_PASSING && p->status.failed_in_a_row == 0;
}

enum probe_verdict probe_set_verdict(const struct probe_set *set, uint64_t now_ms, uint64_t probation_ms,
				     const struct probe_status **ret_why)
{
	const struct probe_status *waits = NULL, *link = NULL;
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
		else if (is_blamed(p))
			waits = &p->status;
	}
	*ret_why = waits ? waits : link;
	if (now_ms < set->started_ms + probation_ms || waits)
		return PROBE_IN_PROGRESS;
	if (link)
		return PROBE_ONLY_LINK;
	return proven ? PROBE_PASSED : PROBE_UNPROVEN;
}
