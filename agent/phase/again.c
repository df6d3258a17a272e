#include "agent/phase/again.h"

#include "agent/phase/node.h"

enum {
	MS = 1000,
	LONGEST_S = 6 * 3600, /* for what an agent noted that did not say how long: its longest pause */
};

uint64_t again_rest_s(int64_t at, int64_t now, uint64_t whole_s)
{
	uint64_t rest = at > now ? (uint64_t) at - (uint64_t) now : 0;

	return rest < whole_s ? rest : whole_s;
}

void again_note(const struct node *n, struct node_retry *retry, uint64_t wait_ms)
{
	retry->wait_s = (int64_t) (wait_ms / MS) + 1;
	retry->not_before = node_now(n) + retry->wait_s;
	retry->due_ms = node_now_ms(n) + (uint64_t) retry->wait_s * MS;
}

/* The first look of this process. */
static void take_up(const struct node *n, struct node_retry *retry)
{
	bool known = retry->wait_s > 0 && retry->wait_s < LONGEST_S;
	uint64_t rest = again_rest_s(retry->not_before, node_now(n), known ? (uint64_t) retry->wait_s : LONGEST_S);

	retry->not_before = node_now(n) + (int64_t) rest; /* with the next save: many restarts shall not add up */
	retry->due_ms = node_now_ms(n) + rest * MS + 1; /* never 0, which is "not looked at" */
}

uint64_t again_in_ms(const struct node *n, struct node_retry *retry)
{
	uint64_t now_ms = node_now_ms(n);

	if (!retry)
		return 0;
	if (retry->due_ms == 0)
		take_up(n, retry);
	return retry->due_ms > now_ms ? retry->due_ms - now_ms : 0;
}

bool again_is_held(const struct node *n)
{
	struct node_state *s = n->state;
	int64_t now = node_now(n);

	/* An older agent's does not say how long; somebody here sees its end, and can release it. */
	if (s->hold_s > 0)
		s->hold_until = s->hold_until > now
					? now + (int64_t) again_rest_s(s->hold_until, now, (uint64_t) s->hold_s)
					: s->hold_until;
	return s->hold_until > now;
}
