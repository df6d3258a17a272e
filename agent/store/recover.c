#include "agent/store/recover.h"

#include "agent/store/data.h"
#include "agent/store/generation.h"
#include "agent/store/seal.h"
#include "agent/store/state.h"
#include "agent/store/store.h"
#include "base/err.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

struct recovery {
	const struct os *os;
	const struct recover_options *o;
	struct recover_result *ret;
	const struct store_dirs *dirs;
	struct store *store; /* NULL: without a journal */
	struct node_state *state; /* NULL: the journal cannot be read */
};

static void PRINTF_LIKE(2, 3) say(struct recovery *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(r->ret->sentence, sizeof(r->ret->sentence), fmt, ap); /* a longer one is cut */
	va_end(ap);
}

int recover_boot_id(const struct os *os, char ret[static 37])
{
	/* /proc says size 0: file_read goes by what it reads. */
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64);
	int r = file_read(os, AT_FDCWD, BOOT_ID_FILE, 64, &text);

	if (r < 0)
		return r;
	if (text.len < 36)
		return -ERR_SYNTAX;
	state_set(ret, 37, buf_str(&text));
	return 0;
}

/* Is every tree the generation names there and sealed, each file of it if `intact`? -ENOENT, -ERR_TREE. */
static int check_trees(const struct recovery *r, uint64_t n, bool intact)
{
	struct generation g;
	int e;

	e = generation_read(r->os, r->dirs->generations, n, &g);
	for (size_t i = 0; i < g.count && e == 0; i++)
		e = intact ? seal_is_intact(r->os, r->dirs->store, g.entries[i].component, g.entries[i].version)
			   : seal_is_sound(r->os, r->dirs->store, g.entries[i].component, g.entries[i].version);
	return e;
}

/* The quick look: asked at every boot. */
static int check_generation(const struct recovery *r, uint64_t n)
{
	return check_trees(r, n, false);
}

/* Says nothing about the disk. */
static bool is_shortage(int e)
{
	return e == -ENOMEM || e == -EMFILE || e == -ENFILE;
}

static int switch_to(struct recovery *r, uint64_t n)
{
	int e = r->o->dry_run ? 0 : generation_switch(r->os, r->dirs->root, n);

	if (e == 0)
		r->ret->outcome = RECOVER_FELL_BACK;
	return e;
}

/* Save what was found, best effort: getting back to safety does not wait for a full disk. */
static int save(struct recovery *r)
{
	return r->o->dry_run || !r->store ? 0 : store_save(r->store, r->state);
}

/* As far as the journal says: was anything ever made current? */
static bool is_empty_node(const struct recovery *r)
{
	for (size_t i = 0; r->state && i < r->state->component_count; i++)
		if (r->state->components[i]->version[0])
			return false;
	return r->state != NULL;
}

/* The current generation if it is complete, else the newest complete one that was ever meant to be current. */
static int ensure_current(struct recovery *r, const char *found)
{
	uint64_t *numbers = NULL, current = 0;
	uint64_t never =
		r->state ? r->state->update.target_generation : 0; /* its swap was not decided, or failed */
	size_t count = 0;
	int e, first;

	first = generation_current(r->os, r->dirs->root, &current);
	if (first == 0)
		first = check_generation(r, current);
	if (first == 0) {
		say(r, "%s; generation %" PRIu64 " is current and complete", found, current);
		return 0;
	}
	e = generation_list(r->os, r->dirs->generations, &numbers, &count);
	if (e < 0)
		return e;
	if (first == -ENOENT && current == 0 && (count == 0 || is_empty_node(r))) {
		say(r, "%s; nothing is installed yet", found);
		free(numbers);
		return 0;
	}
	e = -ERR_TREE;
	for (size_t i = count; i-- > 0 && e < 0;) {
		if (numbers[i] == current || numbers[i] == never || check_generation(r, numbers[i]) < 0)
			continue;
		e = switch_to(r, numbers[i]);
		if (e < 0)
			break;
		say(r, "%s and the current generation is not complete; generation %" PRIu64 " is current now",
		    found, numbers[i]);
	}
	if (e < 0)
		say(r, "%s and no complete generation was found: %s", found, err_text(e));
	free(numbers);
	return e;
}

/* Before the link, so that where the link is back the data is. Only renames: nothing of size is allocated. */
static int restore_data(struct recovery *r, const char *why)
{
	const struct node_update *u = &r->state->update;
	int e;

	if (!u->data_saved[0] || r->o->dry_run)
		return 0;
	e = data_restore(r->os, r->dirs, u->data_saved, false);
	if (e == -ENOENT)
		return 0; /* removed by somebody: the way back does not wait for what is gone */
	if (e < 0)
		say(r, "%s, but the data from before the swap could not be put back: %s", why, err_text(e));
	return e;
}

/* The update's own way back, prepared before its swap. */
static int fall_back(struct recovery *r, const char *why)
{
	struct node_update *u = &r->state->update;
	uint64_t current = 0;
	int e, saved;

	e = check_trees(r, u->fallback_generation, true);
	if (is_shortage(e))
		return e;
	if (e < 0) {
		say(r, "%s, but generation %" PRIu64 " to fall back to is damaged: %s", why,
		    u->fallback_generation, err_text(e));
		u->result = RECOVER_RESULT_FALLBACK_DAMAGED;
		STATE_SET(u->detail, r->ret->sentence);
		(void) !save(r); /* the error below says more than this one would */
		return -ERR_TREE;
	}
	u->state = NODE_ROLLING_BACK;
	u->result = RECOVER_RESULT_INTERRUPTED;
	STATE_SET(u->detail, why);
	saved = save(r);
	e = restore_data(r, why);
	if (e < 0)
		return e;
	if (generation_current(r->os, r->dirs->root, &current) < 0 || current != u->fallback_generation) {
		e = switch_to(r, u->fallback_generation);
		if (e < 0) {
			say(r, "%s, but generation %" PRIu64 " could not be made current: %s", why,
			    u->fallback_generation, err_text(e));
			return e;
		}
	}
	u->state = NODE_ROLLED_BACK;
	u->recovered = true;
	e = save(r);
	if (saved < 0 || e < 0)
		say(r, "%s; generation %" PRIu64 " is current again, but the journal could not be written: %s",
		    why, u->fallback_generation, err_text(saved < 0 ? saved : e));
	else
		say(r, "%s; generation %" PRIu64 " is current again", why, u->fallback_generation);
	return 0;
}

/* One more boot within the probation, unless this one was counted. */
static int count_boot(struct recovery *r)
{
	struct node_update *u = &r->state->update;
	uint64_t limit = u->boot_attempts > 0 ? u->boot_attempts : RECOVER_BOOT_ATTEMPTS;
	char why[256];
	int e;

	if (strcmp(u->recover_boot_id, r->o->boot_id) != 0) {
		STATE_SET(u->recover_boot_id, r->o->boot_id);
		u->boots++;
	}
	if (u->boots > limit) {
		(void) snprintf(why, sizeof(why),
				"the node was started %" PRIu64 " times during the probation of %.63s %.64s",
				u->boots, u->component, u->to[0] ? u->to : "(absent)");
		return fall_back(r, why);
	}
	e = save(r);
	if (e < 0)
		say(r, "boot %" PRIu64 " of %" PRIu64 " could not be counted: %s", u->boots, limit, err_text(e));
	else
		say(r, "update %s is in its probation: boot %" PRIu64 " of at most %" PRIu64, u->id, u->boots,
		    limit);
	return 0;
}

/* Where the fallback itself is damaged the node stays as it is: support has to bring another version. */
static int finish_stuck(struct recovery *r)
{
	const struct node_update *u = &r->state->update;
	uint64_t current = 0;
	int e = check_trees(r, u->fallback_generation, true);

	if (is_shortage(e))
		return e;
	if (e < 0)
		return ensure_current(r, "the node is stuck: the version to fall back to is damaged");
	if (generation_current(r->os, r->dirs->root, &current) == 0 && current == u->fallback_generation)
		return ensure_current(r, "the node is stuck, but the way back was taken");
	return fall_back(r, "the way back had failed");
}

/* What the newest record says was under way. */
static int look_at_update(struct recovery *r)
{
	struct node_update *u = &r->state->update;
	uint64_t current = 0;
	int e;

	/* A way back that failed while the agent ran is finished here, if it can be: perhaps with data moved already. */
	if (state_has_update(r->state) && u->state == NODE_STUCK && u->fallback_generation != 0)
		return finish_stuck(r);
	if (!state_has_update(r->state) || !node_update_is_swapped(u) || u->fallback_generation == 0)
		return ensure_current(r, state_has_update(r->state)
						 ? "the update under way has changed nothing yet"
						 : "no update is under way");
	e = generation_current(r->os, r->dirs->root, &current);
	if (u->state == NODE_SWAPPING && (e == -ENOENT || (e == 0 && current != u->target_generation)))
		return ensure_current(r, "the swap had not happened yet");
	if (u->state == NODE_ROLLING_BACK)
		return e == 0 && current == u->fallback_generation
			       ? ensure_current(r, "the way back was taken already")
			       : fall_back(r, "a rollback was interrupted");
	if (e == 0)
		e = check_generation(r, current);
	if (is_shortage(e))
		return e;
	if (e < 0)
		return fall_back(r, "the new generation is not complete");
	if (current == u->fallback_generation)
		return ensure_current(r, "the way back was taken already");
	return count_boot(r);
}

static void close_dirs(const struct os *os, struct store_dirs *d)
{
	int *const fds[] = { &d->root, &d->store, &d->generations };

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (*fds[i] >= 0)
			(void) os->close(os, *fds[i]); /* folders opened for reading */
}

/* The journal cannot help: its own folders, opened without it. */
static int without_journal(struct recovery *r, const char *found)
{
	struct store_dirs d = { -1, -1, -1, -1, -1, -1, -1, -1 };
	int e;

	d.root = dir_open(r->os, AT_FDCWD, r->o->root);
	if (d.root >= 0)
		d.store = dir_open(r->os, d.root, "store");
	if (d.root >= 0)
		d.generations = dir_open(r->os, d.root, "generations");
	e = d.root < 0 ? d.root : d.store < 0 ? d.store : d.generations < 0 ? d.generations : 0;
	r->dirs = &d;
	if (e == 0)
		e = ensure_current(r, found);
	else
		say(r, "%s and the folders are not there: %s", found, err_text(e));
	r->dirs = NULL;
	close_dirs(r->os, &d);
	return e;
}

static int with_journal(struct recovery *r)
{
	int e = store_load(r->store, r->state); /* on failure the state stays zeroed */

	r->dirs = store_dirs(r->store);
	if (e == -ERR_JOURNAL || e == -ERR_AGENT_TOO_OLD) {
		struct node_state *state = r->state;

		/* Never written over: somebody may still read it. */
		r->store = NULL;
		r->state = NULL;
		e = ensure_current(r, "the journal cannot be read");
		r->state = state;
		return e;
	}
	if (e < 0)
		return e;
	if (r->dirs->generations < 0 || r->dirs->store < 0) {
		say(r, "nothing is installed yet");
		return 0;
	}
	return e == 1 ? ensure_current(r, "the journal is empty") : look_at_update(r);
}

int recover_run(const struct os *os, const struct recover_options *o, struct recover_result *ret)
{
	struct recovery r = { .os = os, .o = o, .ret = ret };
	CLEANUP(store_freep)
	struct store *store = NULL;
	int e;

	*ret = (struct recover_result){ .outcome = RECOVER_NOTHING, .sentence = "" };
	e = o->dry_run ? store_inspect(os, o->root, &store) : store_open(os, o->root, &store);
	if (e == -ERR_JOURNAL)
		return without_journal(&r, "the journal is broken");
	if (e == -EBUSY)
		say(&r, "the agent runs already");
	else if (e < 0)
		say(&r, "%s cannot be opened: %s", o->root, err_text(e));
	if (e < 0)
		return e;
	r.store = store;
	r.state = calloc(1, sizeof(*r.state));
	if (!r.state) {
		say(&r, "out of memory");
		return -ENOMEM;
	}
	e = with_journal(&r);
	if (e < 0 && !ret->sentence[0])
		say(&r, "%s", err_text(e));
	state_done(r.state);
	free(r.state);
	return e;
}
