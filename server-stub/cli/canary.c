#include "server-stub/cli/canary.h"

static uint64_t period(const struct canary *c)
{
	return c->period_ms ? c->period_ms : CANARY_EVERY_MS;
}

void canary_start(struct canary *c, uint64_t now)
{
	if (c->every_ms == 0)
		c->every_ms = period(c);
	c->at_ms = now + c->every_ms;
	c->asked = false;
}

void canary_stop(struct canary *c)
{
	*c = (struct canary){ .period_ms = c->period_ms };
}

void canary_heard(struct canary *c, uint64_t now)
{
	if (c->at_ms == 0 || !c->asked)
		return;
	c->every_ms = period(c);
	canary_start(c, now);
}

enum canary_step canary_step(struct canary *c, uint64_t now)
{
	if (c->at_ms == 0 || now < c->at_ms)
		return CANARY_NOTHING;
	if (!c->asked) {
		c->asked = true;
		c->at_ms = now + (period(c) < CANARY_ANSWER_MS ? period(c) : CANARY_ANSWER_MS);
		return CANARY_ASK;
	}
	c->at_ms = 0;
	c->every_ms = c->every_ms > CANARY_SELDOM_MS / 2 ? CANARY_SELDOM_MS : 2 * c->every_ms;
	return CANARY_LOST;
}
