/*
 * Whose turn it is, by notice and by spread; both are counted on the clock since boot, which nobody sets.
 *
 * The notice period begins when this node sees its stage open: people at the node hear of it then. It is kept
 * in the state, so that an agent that starts again goes on where it was. Over a reboot the time of day is asked how
 * long that was ago; a clock that was set back lets the period begin again.
 *
 * The spread counts from the opening of the node's stage: as this node saw it, or, for one that it did not see (it
 * was off, it is new, the agent started again), as the document says by the time of day.
 */
#include "agent/phase/turn.h"

#include "agent/phase/node.h"
#include "os/os.h"

enum { MS = 1000 };

static struct node_noticed *noticed(const struct node *n, const char *rollout)
{
	for (size_t i = 0; i < n->state->noticed_count; i++)
		if (str_eq(n->state->noticed[i].rollout, rollout))
			return &n->state->noticed[i];
	return NULL;
}

/* So long ago by the time of day, but never in the future. */
static int64_t ago(const struct node *n, int64_t at)
{
	int64_t now = node_now(n), now_ms = (int64_t) node_now_ms(n);

	return at > 0 && at < now ? now_ms - (now - at) * MS : now_ms;
}

void turn_notice(const struct node *n, struct known_rollout *k)
{
	const struct node_noticed *known = noticed(n, k->rollout.id);

	k->notice_ms = (int64_t) node_now_ms(n);
	if (!known)
		return;
	k->notice_ms = str_eq(known->boot_id, n->boot_id) ? known->since_ms : ago(n, known->at);
	k->notified = known->told;
}

void turn_spread(const struct node *n, const struct labels *labels, struct known_rollout *k)
{
	size_t stage = 0;

	for (size_t i = 0; stage == 0 && i < k->rollout.stage_count; i++)
		if (k->rollout.stages[i].open &&
		    stage_selects(&k->rollout.stages[i], n->config->node, labels, k->share))
			stage = i + 1;
	if (stage != 0 && stage != k->spread_stage)
		k->spread_ms = ago(n, k->rollout.stages[stage - 1].opened_at);
	if (stage != 0 && k->spread_stage == 0 && !noticed(n, k->rollout.id))
		k->notice_ms = (int64_t) node_now_ms(n);
	k->spread_stage = stage;
}

static uint64_t after(int64_t since_ms, uint64_t ms)
{
	int64_t at = since_ms + (int64_t) ms;

	return at > 0 ? (uint64_t) at : 0;
}

uint64_t turn_notice_ends(const struct known_rollout *k)
{
	return after(k->notice_ms, k->rollout.notice_s * MS);
}

uint64_t turn_spread_ends(const struct known_rollout *k)
{
	return after(k->spread_ms, k->rollout.spread_s * MS * k->share / SHARE_ALL);
}

/* Room for one more: what no rollout in force needs goes, else the oldest. */
static struct node_noticed *room(struct node *n)
{
	struct node_state *s = n->state;
	size_t kept = 0;

	for (size_t i = 0; i < s->noticed_count; i++)
		if (documents_rollout(&n->docs, s->noticed[i].rollout))
			s->noticed[kept++] = s->noticed[i];
	if (kept == STATE_NOTICED_MAX) {
		for (size_t i = 1; i < kept; i++)
			s->noticed[i - 1] = s->noticed[i];
		kept--;
	}
	s->noticed_count = kept + 1;
	return &s->noticed[kept];
}

int turn_remember(struct node *n, const struct known_rollout *k)
{
	struct node_noticed *known = noticed(n, k->rollout.id);
	int64_t now_ms = (int64_t) node_now_ms(n);

	if (known && known->told == k->notified)
		return 0;
	if (!known) {
		known = room(n);
		*known = (struct node_noticed){ .since_ms = k->notice_ms,
						.at = node_now(n) - (now_ms - k->notice_ms) / MS };
		STATE_SET(known->rollout, k->rollout.id);
		STATE_SET(known->boot_id, n->boot_id);
	}
	known->told = k->notified;
	return node_save(n); /* with the journal: on the disk before anybody is told a second time */
}
