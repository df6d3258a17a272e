#include "tests/fleet-sim/live.h"
#include "tests/fleet-sim/taking.h"
#include "tests/fleet-sim/year.h"

#include "base/err.h"
#include "base/text.h"
#include "json/build.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
	"usage: fleet-sim year [--seed N] [--seeds N] [--nodes N] [--weeks N] [--window TEXT] [--json]\n"
	"       fleet-sim ingest [--nodes N] [--reports N] [--dir FOLDER] [--json]\n"
	"       fleet-sim live --dir FLEET --fleet NAME --broker-port N [--nodes N] [--connections N] [--json]\n"
	"\n"
	"Virtual nodes in one process, with the real decide().\n"
	"\n"
	"year   weekly rollouts over simulated time, one in six of them bad (crashing, leaking within 6 to\n"
	"       40 hours, bad on one site, bad at night), with noise: disks, networks, checks that fail for\n"
	"       no reason, nodes that are silent for weeks. Once with stages, soak and gates, as the real\n"
	"       scheduler runs them, once the same without the metric gate, and once by a plain percentage\n"
	"       (1, 10, 50, 100 % a day apart, halted when more than 10 % of the nodes of the open groups\n"
	"       failed), with the same releases and the same luck. What leaks doubles the memory in use\n"
	"       until it breaks the node; the metric gate compares memory at the same hour.\n"
	"\n"
	"ingest signed reports of many nodes through the controller's ingest into a database in FOLDER:\n"
	"       how many a second, and how much of that is verifying signatures.\n"
	"\n"
	"live   against a real controller and broker on this machine; tests/bench/scale starts them. Reports a\n"
	"       second, a stage from its opening to the last acknowledgement, a halt, processor and memory.\n"
	"       It says `enrolled`, and goes on when it reads a line: by then the controller has to run.\n"
	"\n"
	"  --seed N       the first seed (1); the same seed gives the same year on every machine\n"
	"  --seeds N      so many years, from that seed on (1)\n"
	"  --nodes N      (1000)\n"
	"  --weeks N      (52)\n"
	"  --window TEXT  the plans' window, each node's own time (none)\n"
	"  --reports N    of each node (3)\n"
	"  --batch N      so many reports share one wait for the disk (0: each has its own)\n"
	"  --dir FOLDER   where the database is made and removed again (.)\n"
	"  --fleet NAME --component NAME --selfright PROGRAM --broker-port N --user NAME --password TEXT\n"
	"  --broker-pid N --connections N (16) --rest SECONDS (15) --deadline SECONDS (300)   of live\n"
	"  --json         one JSON object instead of a table\n"
	"  --quiet        no progress\n"
	"\n"
	"example: fleet-sim year --nodes 1000 --seeds 5 --window 'Mon-Fri 08:00-18:00'\n";

struct settings {
	const char *mode;
	uint64_t seed, seeds, nodes, weeks, reports, batch;
	const char *window, *dir, *fleet, *component, *selfright, *user, *password;
	uint64_t connections, broker_port, broker_pid, rest, deadline;
	bool json, quiet;
};

static bool number(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	return parse_u64(text, ret) == 0 && *ret >= min && *ret <= max;
}

/* -1, or the exit code. */
static int read_options(int argc, char **argv, struct settings *s)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "seeds", required_argument, NULL, 'S' },
		{ "nodes", required_argument, NULL, 'n' },
		{ "weeks", required_argument, NULL, 'w' },
		{ "window", required_argument, NULL, 'W' },
		{ "json", no_argument, NULL, 'j' },
		{ "batch", required_argument, NULL, 'k' },
		{ "fleet", required_argument, NULL, 'F' },
		{ "component", required_argument, NULL, 'C' },
		{ "selfright", required_argument, NULL, 'P' },
		{ "user", required_argument, NULL, 'U' },
		{ "password", required_argument, NULL, 'p' },
		{ "connections", required_argument, NULL, 'c' },
		{ "broker-port", required_argument, NULL, 'b' },
		{ "broker-pid", required_argument, NULL, 'B' },
		{ "rest", required_argument, NULL, 'R' },
		{ "deadline", required_argument, NULL, 'D' },
		{ "reports", required_argument, NULL, 'r' },
		{ "dir", required_argument, NULL, 'd' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool fine = true;
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 's':
			fine = fine && number(optarg, 0, UINT64_MAX, &s->seed);
			break;
		case 'S':
			fine = fine && number(optarg, 1, 1000, &s->seeds);
			break;
		case 'n':
			fine = fine && number(optarg, 10, 100000, &s->nodes);
			break;
		case 'w':
			fine = fine && number(optarg, 1, 100, &s->weeks);
			break;
		case 'r':
			fine = fine && number(optarg, 1, 1000, &s->reports);
			break;
		case 'W':
			s->window = optarg;
			break;
		case 'd':
			s->dir = optarg;
			break;
		case 'k':
			fine = fine && number(optarg, 0, 100000, &s->batch);
			break;
		case 'F':
			s->fleet = optarg;
			break;
		case 'C':
			s->component = optarg;
			break;
		case 'P':
			s->selfright = optarg;
			break;
		case 'U':
			s->user = optarg;
			break;
		case 'p':
			s->password = optarg;
			break;
		case 'c':
			fine = fine && number(optarg, 1, 512, &s->connections);
			break;
		case 'b':
			fine = fine && number(optarg, 1, 65535, &s->broker_port);
			break;
		case 'B':
			fine = fine && number(optarg, 1, INT32_MAX, &s->broker_pid);
			break;
		case 'R':
			fine = fine && number(optarg, 1, 3600, &s->rest);
			break;
		case 'D':
			fine = fine && number(optarg, 1, 3600, &s->deadline);
			break;
		case 'j':
			s->json = true;
			break;
		case 'q':
			s->quiet = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	if (!fine || optind + 1 != argc) {
		fputs(usage, stderr);
		return 2;
	}
	s->mode = argv[optind];
	return -1;
}

struct progress {
	const struct settings *settings;
	const char *what;
	uint64_t seed;
};

static void show_progress(void *user, unsigned week, unsigned weeks)
{
	const struct progress *p = user;

	if (!p->settings->quiet && isatty(STDERR_FILENO))
		fprintf(stderr, "\rseed %llu, %s: week %u of %u%s", (unsigned long long) p->seed, p->what, week,
			weeks, week == weeks ? "\r\033[K" : "");
}

static void add_kind(struct year_kind *sum, const struct year_kind *k)
{
	if (k->releases == 0)
		return;
	if (sum->releases == 0 || k->reached_min < sum->reached_min)
		sum->reached_min = k->reached_min;
	if (k->reached_max > sum->reached_max)
		sum->reached_max = k->reached_max;
	sum->releases += k->releases;
	sum->halted += k->halted;
	sum->held += k->held;
	sum->reached += k->reached;
	sum->hit += k->hit;
	sum->broken_h += k->broken_h;
}

static void add(struct year_result *sum, const struct year_result *y, uint64_t years)
{
	for (size_t i = 0; i < SIM_FAULT_COUNT; i++)
		add_kind(&sum->kinds[i], &y->kinds[i]);
	sum->finished += y->finished;
	sum->overtaken += y->overtaken;
	sum->false_halts += y->false_halts;
	sum->skips += y->skips;
	sum->undos += y->undos;
	sum->decisions += y->decisions;
	sum->publications += y->publications;
	sum->done_h += y->done_h / (double) years;
}

enum way { STAGED, WITHOUT_METRICS, PERCENTAGE, WAYS };
static const char *const way_names[] = { "staged", "without metrics", "percentage" };

static int run(const struct settings *s, enum way way, struct year_result *sum)
{
	*sum = (struct year_result){ 0 };
	for (uint64_t i = 0; i < s->seeds; i++) {
		struct progress p = { s, way_names[way], s->seed + i };
		const struct year_options o = { .seed = p.seed,
						.nodes = s->nodes,
						.weeks = (unsigned) s->weeks,
						.percentage = way == PERCENTAGE,
						.no_metrics = way == WITHOUT_METRICS,
						.window = s->window,
						.progress = show_progress,
						.user = &p };
		struct year_result y;
		int r = year_run(&o, &y);

		if (r < 0)
			return r;
		add(sum, &y, s->seeds);
	}
	return 0;
}

static double per(double a, double b)
{
	return b > 0 ? a / b : 0;
}

static void table(const struct year_result *y, const char *title)
{
	unsigned bad = 0, halted = 0, held = 0;

	printf("%s\n  release      count  halted  held  nodes reached: mean  min   max    broken  node-hours "
	       "broken\n",
	       title);
	for (int k = SIM_CRASHING; k < SIM_FAULT_COUNT; k++) {
		const struct year_kind *i = &y->kinds[k];

		if (i->releases == 0)
			continue;
		bad += i->releases;
		halted += i->halted;
		held += i->held;
		printf("  %-11s %6u  %6u  %4u  %19.1f %4zu %5zu  %8.1f  %12.1f\n",
		       sim_fault_name((enum sim_fault) k), i->releases, i->halted, i->held,
		       per((double) i->reached, i->releases), i->reached_min, i->reached_max,
		       per((double) i->hit, i->releases), per(i->broken_h, i->releases));
	}
	printf("  fine: %u rollouts, %u halted falsely (%.3f per rollout), %.1f h from start to done\n",
	       y->kinds[SIM_FINE].releases, y->false_halts, per(y->false_halts, y->kinds[SIM_FINE].releases),
	       y->done_h);
	printf("  bad: %u halted and %u held of %u; overtaken by the next week: %u; people skipped %u silent "
	       "nodes, undid "
	       "%u\n",
	       halted, held, bad, y->overtaken, y->skips, y->undos);
}

/* Figures with one digit behind the point, as JSON has no other place for them. */
static void milli(struct json_node *o, const char *name, double value)
{
	node_integer(o, name, (int64_t) (value * 1000 + 0.5));
}

static void json(struct json_node *o, const struct year_result *y)
{
	for (int k = SIM_CRASHING; k < SIM_FAULT_COUNT; k++) {
		const struct year_kind *i = &y->kinds[k];
		struct json_node *kind = node_object(o, sim_fault_name((enum sim_fault) k));

		node_integer(kind, "releases", i->releases);
		node_integer(kind, "halted", i->halted);
		node_integer(kind, "held", i->held);
		milli(kind, "reached_mean_milli", per((double) i->reached, i->releases));
		node_integer(kind, "reached_min", (int64_t) i->reached_min);
		node_integer(kind, "reached_max", (int64_t) i->reached_max);
		milli(kind, "broken_nodes_mean_milli", per((double) i->hit, i->releases));
		milli(kind, "broken_hours_mean_milli", per(i->broken_h, i->releases));
	}
	node_integer(o, "fine_releases", y->kinds[SIM_FINE].releases);
	node_integer(o, "false_halts", y->false_halts);
	milli(o, "false_halts_per_rollout_milli", per(y->false_halts, y->kinds[SIM_FINE].releases));
	milli(o, "done_hours_mean_milli", y->done_h);
	node_integer(o, "finished", y->finished);
	node_integer(o, "overtaken", y->overtaken);
	node_integer(o, "skipped_nodes", y->skips);
	node_integer(o, "undone", y->undos);
	node_integer(o, "decisions", (int64_t) y->decisions);
	node_integer(o, "publications", (int64_t) y->publications);
}

static int print_json(const struct settings *s, const struct year_result y[WAYS], double seconds)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	struct json_node *o = json_build_root(b);
	int r;

	node_integer(o, "seed", (int64_t) s->seed);
	node_integer(o, "seeds", (int64_t) s->seeds);
	node_integer(o, "nodes", (int64_t) s->nodes);
	node_integer(o, "weeks", (int64_t) s->weeks);
	node_integer(o, "wall_ms", (int64_t) (seconds * 1000));
	json(node_object(o, "staged"), &y[STAGED]);
	json(node_object(o, "without_metrics"), &y[WITHOUT_METRICS]);
	json(node_object(o, "percentage"), &y[PERCENTAGE]);
	r = json_build_text(b, true, &text);
	if (r == 0)
		printf("%s\n", buf_str(&text));
	return r;
}

static double seconds(void)
{
	struct timespec t;

	(void) clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static int mode_year(const struct settings *s)
{
	struct year_result y[WAYS];
	double from = seconds(), took;
	int r = 0;

	if (s->nodes < 50) { /* the plans name some of them */
		fprintf(stderr, "fleet-sim: a year wants at least 50 nodes\n");
		return -ERR_CONFIG;
	}
	for (int way = 0; r == 0 && way < WAYS; way++)
		r = run(s, (enum way) way, &y[way]);
	took = seconds() - from;
	if (r < 0 || s->json)
		return r < 0 ? r : print_json(s, y, took);
	printf("%llu nodes, %llu weeks, seeds %llu to %llu; %.1f s\n", (unsigned long long) s->nodes,
	       (unsigned long long) s->weeks, (unsigned long long) s->seed,
	       (unsigned long long) (s->seed + s->seeds - 1), took);
	table(&y[STAGED], "stages, soak and gates");
	table(&y[WITHOUT_METRICS], "the same without the metric gate");
	table(&y[PERCENTAGE], "plain percentage");
	return 0;
}

static int mode_ingest(const struct settings *s)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	struct json_node *o = json_build_root(b);
	struct taking_result t;
	int r = taking_run(s->nodes, s->reports, s->batch, s->dir, &t);

	if (r < 0)
		return r;
	if (!s->json) {
		printf("%zu reports of %llu nodes, %zu bytes each: %.0f a second; on the processor %.2f ms each, "
		       "of which %.2f ms for the signature\n",
		       t.reports, (unsigned long long) s->nodes, t.bytes / t.reports,
		       per((double) t.reports, t.take_s), 1000 * per(t.take_cpu_s, (double) t.reports),
		       1000 * per(t.verify_cpu_s, (double) t.reports));
		return 0;
	}
	node_integer(o, "nodes", (int64_t) s->nodes);
	node_integer(o, "reports", (int64_t) t.reports);
	node_integer(o, "bytes_each", (int64_t) (t.bytes / t.reports));
	milli(o, "make_ms", t.make_s);
	milli(o, "verify_ms", t.verify_s);
	milli(o, "take_ms", t.take_s);
	milli(o, "verify_cpu_ms", t.verify_cpu_s);
	milli(o, "take_cpu_ms", t.take_cpu_s);
	r = json_build_text(b, true, &text);
	if (r == 0)
		printf("%s\n", buf_str(&text));
	return r;
}

static const char *const process_names[LIVE_PROCESSES] = { "controller", "signer", "broker" };

static int live_json(const struct live_result *l)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	struct json_node *o = json_build_root(b);
	int r;

	node_integer(o, "nodes", (int64_t) l->nodes);
	node_integer(o, "connections", (int64_t) l->connections);
	node_integer(o, "reports_per_s", (int64_t) l->reports_per_s);
	milli(o, "first_reports_ms", l->first_reports_s);
	milli(o, "start_ms", l->start_s);
	milli(o, "stage_ms", l->stage_s);
	milli(o, "halt_ms", l->halt_s);
	for (size_t i = 0; i < LIVE_PROCESSES; i++) {
		struct json_node *p = node_object(o, process_names[i]);

		milli(p, "rest_cpu_permille", l->rest_cpu[i]);
		node_integer(p, "rest_kb", (int64_t) l->rest_kb[i]);
		milli(p, "rollout_cpu_permille", l->rollout_cpu[i]);
		node_integer(p, "rollout_kb", (int64_t) l->rollout_kb[i]);
	}
	node_integer(o, "announcement_bytes", (int64_t) l->announcement_bytes);
	node_integer(o, "document_bytes", (int64_t) l->document_bytes);
	node_integer(o, "index_bytes", (int64_t) l->index_bytes);
	node_integer(o, "snapshot_bytes", (int64_t) l->snapshot_bytes);
	r = json_build_text(b, true, &text);
	if (r == 0)
		printf("%s\n", buf_str(&text));
	return r;
}

static int mode_live(const struct settings *s)
{
	const struct live_options o = { .dir = s->dir,
					.fleet = s->fleet,
					.component = s->component,
					.selfright = s->selfright,
					.nodes = s->nodes,
					.connections = s->connections,
					.broker_port = (unsigned) s->broker_port,
					.user = s->user,
					.password = s->password,
					.broker_pid = (int) s->broker_pid,
					.rest_s = (unsigned) s->rest,
					.deadline_s = (unsigned) s->deadline,
					.quiet = s->quiet };
	struct live_result l;
	int r;

	if (!o.fleet || !o.selfright || o.broker_port == 0) {
		fputs(usage, stderr);
		return -ERR_CONFIG;
	}
	r = live_run(&o, &l);
	if (r < 0 || s->json)
		return r < 0 ? r : live_json(&l);
	printf("%zu nodes over %zu connections\n"
	       "first reports, all acknowledged: %.1f s, %.0f a second\n"
	       "from `rollout start` to its announcement: %.2f s\n"
	       "from the open stage to the last node's acknowledged `good`: %.1f s (1.0 to 1.5 s of it are the "
	       "nodes')\n"
	       "from `rollout halt` to the last connection that heard it: %.2f s\n"
	       "announcement %zu bytes, document %zu, index %zu, snapshot %zu\n",
	       l.nodes, l.connections, l.first_reports_s, l.reports_per_s, l.start_s, l.stage_s, l.halt_s,
	       l.announcement_bytes, l.document_bytes, l.index_bytes, l.snapshot_bytes);
	for (size_t i = 0; i < LIVE_PROCESSES; i++)
		printf("%-10s at rest %5.1f %% of a processor, %llu MiB; during the rollout %5.1f %%, %llu MiB\n",
		       process_names[i], 100 * l.rest_cpu[i], (unsigned long long) l.rest_kb[i] / 1024,
		       100 * l.rollout_cpu[i], (unsigned long long) l.rollout_kb[i] / 1024);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(const struct settings *s);
} modes[] = { { "year", mode_year }, { "ingest", mode_ingest }, { "live", mode_live } };

int main(int argc, char **argv)
{
	struct settings s = { .seed = 1,
			      .seeds = 1,
			      .nodes = 1000,
			      .weeks = 52,
			      .reports = 3,
			      .dir = ".",
			      .component = "web",
			      .connections = 16,
			      .rest = 15,
			      .deadline = 300 };
	int r = read_options(argc, argv, &s);

	if (r >= 0)
		return r;
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		if (strcmp(modes[i].name, s.mode) != 0)
			continue;
		r = modes[i].run(&s);
		if (r < 0)
			fprintf(stderr, "fleet-sim: %s\n", err_text(r));
		return r < 0 ? 1 : 0;
	}
	fputs(usage, stderr);
	return 2;
}
