/*
 * year - a simulated year of weekly rollouts, some of them bad: by the shipped kind of plan and
 * scheduler, and by a plain percentage, with the same releases and the same luck.
 */
#ifndef SELFRIGHT_TESTS_FLEET_SIM_YEAR_H
#define SELFRIGHT_TESTS_FLEET_SIM_YEAR_H

#include "base/attr.h"
#include "tests/fleet-sim/sim.h"

struct year_options {
	uint64_t seed;
	size_t nodes;
	unsigned weeks; /* at most 100 */
	bool percentage;
	bool no_metrics; /* the staged plan without its metric gate */
	const char *window; /* NULL: none */
	void (*progress)(void *user, unsigned week, unsigned weeks);
	void *user;
};

struct year_kind { /* of releases with one fault */
	unsigned releases, halted;
	unsigned held; /* not halted, but its last stage never opened */
	size_t reached_min, reached_max, reached, hit;
	double broken_h;
};

struct year_result {
	struct year_kind kinds[SIM_FAULT_COUNT];
	unsigned finished; /* rollouts that ended done */
	unsigned overtaken; /* still under way when the next week's release came */
	unsigned false_halts; /* of fine releases */
	unsigned skips, undos; /* what people had to do */
	uint64_t decisions, publications;
	double done_h; /* a fine release from its start to done, the mean */
};

NODISCARD int year_run(const struct year_options *o, struct year_result *ret);

#endif
