/*
 * Stories about what one component of one node does: every *.story file of this folder.
 *
 * A file is one story; lines are words, '#' begins a comment, times are seconds of the
 * story's own clock, which starts at 0. `given` and `when` say the same things, before
 * and during the story; `expect` asks decide() and compares.
 *
 *   story   TITLE
 *   given|when
 *     node NAME [LABEL=VALUE]...
 *     installed VERSION | absent                what runs, with no rollout's doing
 *     good VERSION...                           was good in this node's history
 *     denied VERSION unfit|forced|undone [SEQ]
 *     retried VERSION                           a signed retry lifts its denial
 *     policy floor VERSION | revokes VERSION | asks APPROVER [KIND]
 *     rollout ID seq N VERSION [KIND] [STATE] [overrides WORD,...] [deadline TIME]
 *     stage ID NAME open|closed all | nodes A,B | share PERCENT | labels LABEL=VALUE
 *     open ID STAGE | approved ID STAGE | unapproved ID STAGE
 *     state ID STATE [undo STAGE,...]
 *     window|blackout|spread|notice|deferral|lease ID stops|passes
 *     moved VERSION by ID STAGE                 the update ended good
 *     failed VERSION by ID STAGE                it fell back by itself, and denies it
 *     returned VERSION                          an order or undo was done
 *     order rollback FROM TO | pin VERSION | hold TIME
 *     withdrawn rollback | pin | hold
 *     freeze [TIME] | unfrozen
 *     backoff VERSION TIME
 *     swaps N
 *     stale|fresh|stuck|repaired|held|released|inhibited|free|busy COMPONENT|idle
 *     time SECONDS
 *   expect
 *     target VERSION|absent rollout ID | undo | rollback | pin
 *     wait REASON [VERSION] [staging]           staging: may be downloaded meanwhile
 *     stay REASON
 *     denies VERSION | refused
 */
#include "decide_world.h"

#include "base/attr.h"
#include "base/version.h"

#include <dirent.h>

enum { WORDS_MAX = 24, LINE_MAX_BYTES = 512, STORIES_MIN = 15 };

struct line {
	const char *file;
	unsigned number;
	char *words[WORDS_MAX + 1]; /* NULL behind the last */
	int count;
};

static const char *story_title;

static void wrong(const struct line *l, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void wrong(const struct line *l, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	fail_msg("%s:%u: %s (story: %s)", l->file, l->number, what, story_title ? story_title : "untitled");
}

static const char *word(const struct line *l, int i)
{
	if (i >= l->count)
		wrong(l, "word %d is missing", i + 1);
	return l->words[i];
}

static bool is(const struct line *l, int i, const char *text)
{
	return i < l->count && strcmp(l->words[i], text) == 0;
}

static int64_t number(const struct line *l, int i)
{
	char *end;
	long long v = strtoll(word(l, i), &end, 10);

	if (*end)
		wrong(l, "\"%s\" is no number", l->words[i]);
	return v;
}

static const char *version(const struct line *l, int i)
{
	if (!version_is_valid(word(l, i)))
		wrong(l, "\"%s\" is no version", l->words[i]);
	return l->words[i];
}

static int64_t time_of(const struct line *l, int i)
{
	return 1800000000 + number(l, i);
}

static struct rollout_facts *rollout_of(struct world *w, const struct line *l, int i)
{
	struct rollout_facts *f = world_rollout_named(w, word(l, i));

	if (!f)
		wrong(l, "there is no rollout %s", l->words[i]);
	return f;
}

static size_t stage_index(const struct rollout_facts *f, const struct line *l, int i)
{
	for (size_t k = 0; k < f->rollout->stage_count; k++)
		if (strcmp(f->rollout->stages[k].name, word(l, i)) == 0)
			return k;
	wrong(l, "there is no stage %s", l->words[i]);
	return 0;
}

/* --- what is given, and what happens --- */

static void do_node(struct world *w, const struct line *l)
{
	w->local.node = world_keep(w, word(l, 2));
	for (int i = 3; i < l->count; i++) {
		char *equals = strchr(l->words[i], '=');

		if (!equals)
			wrong(l, "\"%s\" is no LABEL=VALUE", l->words[i]);
		*equals = '\0';
		world_label(w, l->words[i], equals + 1);
	}
}

static void do_installed(struct world *w, const struct line *l)
{
	world_installed(w, version(l, 2));
}

static void do_absent(struct world *w, const struct line *l)
{
	(void) l;
	world_installed(w, NULL);
}

static void do_good(struct world *w, const struct line *l)
{
	for (int i = 2; i < l->count; i++)
		world_good(w, version(l, i));
}

static void do_denied(struct world *w, const struct line *l)
{
	enum denial_cause cause = is(l, 3, "unfit")    ? DENIED_UNFIT
				  : is(l, 3, "forced") ? DENIED_FORCED
						       : DENIED_UNDONE;

	if (cause == DENIED_UNDONE && !is(l, 3, "undone"))
		wrong(l, "\"%s\" is no cause", word(l, 3));
	world_denied(w, version(l, 2), cause, cause == DENIED_UNDONE ? (uint64_t) number(l, 4) : 0);
}

static void do_retried(struct world *w, const struct line *l)
{
	size_t kept = 0;

	for (size_t i = 0; i < w->component.denial_count; i++)
		if (strcmp(w->denials[i].version, version(l, 2)) != 0)
			w->denials[kept++] = w->denials[i];
	if (kept == w->component.denial_count)
		wrong(l, "%s was not denied", l->words[2]);
	w->component.denial_count = kept;
}

static void do_policy(struct world *w, const struct line *l)
{
	if (is(l, 2, "floor")) {
		world_floor(w, version(l, 3));
	} else if (is(l, 2, "revokes")) {
		world_revoke(w, version(l, 3));
	} else if (is(l, 2, "asks")) {
		struct approval_rule *rule = world_approval(w, word(l, 3));

		if (l->count > 4)
			assert_int_equal(string_list_add(&rule->kinds, l->words[4]), 0);
	} else {
		wrong(l, "what about the policy?");
	}
}

static void add_words(const struct line *l, int i, struct string_list *ret)
{
	char *save = NULL;

	for (char *p = strtok_r(l->words[i], ",", &save); p; p = strtok_r(NULL, ",", &save))
		assert_int_equal(string_list_add(ret, p), 0);
}

static void do_rollout(struct world *w, const struct line *l)
{
	struct rollout *r;

	if (!is(l, 3, "seq"))
		wrong(l, "rollout ID seq N VERSION");
	r = world_document(world_rollout_bare(w, word(l, 2), (uint64_t) number(l, 4), version(l, 5),
					      ROLLOUT_REGULAR, ROLLOUT_RUNNING));
	for (int i = 6; i < l->count; i++) {
		if (rollout_kind_parse(l->words[i]) >= 0)
			r->kind = (enum rollout_kind) rollout_kind_parse(l->words[i]);
		else if (rollout_state_parse(l->words[i]) >= 0)
			r->state = (enum rollout_state) rollout_state_parse(l->words[i]);
		else if (is(l, i, "overrides") && i + 1 < l->count)
			add_words(l, ++i, &r->overrides);
		else if (is(l, i, "deadline"))
			r->deadline = time_of(l, ++i);
		else
			wrong(l, "\"%s\"?", l->words[i]);
	}
}

static void do_stage(struct world *w, const struct line *l)
{
	struct rollout_facts *f = rollout_of(w, l, 2);
	struct stage *s = world_stage(f, word(l, 3), is(l, 4, "open"));
	char *equals;

	if (!is(l, 4, "open") && !is(l, 4, "closed"))
		wrong(l, "open or closed?");
	if (is(l, 5, "nodes")) {
		s->by_nodes = true;
		(void) word(l, 6);
		add_words(l, 6, &s->nodes);
	} else if (is(l, 5, "share")) {
		s->share = (uint64_t) number(l, 6) * (SHARE_ALL / 100);
		f->share = 5000; /* this node is just in the middle */
	} else if (is(l, 5, "labels")) {
		equals = strchr(word(l, 6), '=');
		if (!equals)
			wrong(l, "\"%s\" is no LABEL=VALUE", l->words[6]);
		*equals = '\0';
		assert_int_equal(labels_set(&s->labels, l->words[6], equals + 1), 0);
	} else if (!is(l, 5, "all")) {
		wrong(l, "whom does it select?");
	}
}

static void do_open(struct world *w, const struct line *l)
{
	struct rollout_facts *f = rollout_of(w, l, 2);

	world_document(f)->stages[stage_index(f, l, 3)].open = true;
}

static void do_approved(struct world *w, const struct line *l)
{
	struct rollout_facts *f = rollout_of(w, l, 2);

	f->approved[stage_index(f, l, 3)] = is(l, 1, "approved");
}

static void do_state(struct world *w, const struct line *l)
{
	struct rollout *r = world_document(rollout_of(w, l, 2));
	int state = rollout_state_parse(word(l, 3));

	if (state < 0)
		wrong(l, "\"%s\" is no state", l->words[3]);
	r->state = (enum rollout_state) state;
	if (is(l, 4, "undo")) {
		(void) word(l, 5);
		add_words(l, 5, &r->undo);
	}
}

static void do_stopper(struct world *w, const struct line *l)
{
	struct rollout_facts *f = rollout_of(w, l, 2);
	bool stops = is(l, 3, "stops");

	if (!stops && !is(l, 3, "passes"))
		wrong(l, "stops or passes?");
	if (is(l, 1, "window"))
		f->in_window = !stops;
	else if (is(l, 1, "blackout"))
		f->in_blackout = stops;
	else if (is(l, 1, "spread"))
		f->spread_passed = !stops;
	else if (is(l, 1, "notice"))
		f->notice_passed = !stops;
	else if (is(l, 1, "deferral"))
		f->deferred = stops;
	else
		f->lease_missing = stops;
}

static void do_moved(struct world *w, const struct line *l)
{
	struct rollout_facts *f = rollout_of(w, l, 4);

	(void) stage_index(f, l, 5);
	world_took(w, l->words[4], l->words[5], f->rollout->seq, version(l, 2));
	world_good(w, l->words[2]);
	w->component.swaps_today++;
}

static void do_failed(struct world *w, const struct line *l)
{
	struct rollout_facts *f = rollout_of(w, l, 4);
	const char *before = w->component.version;

	(void) stage_index(f, l, 5);
	world_took(w, l->words[4], l->words[5], f->rollout->seq, version(l, 2));
	w->component.version = before;
	world_denied(w, l->words[2], DENIED_UNFIT, 0);
	w->component.swaps_today++;
}

static void do_order(struct world *w, const struct line *l)
{
	if (is(l, 2, "rollback"))
		world_order_rollback(w, version(l, 3), version(l, 4));
	else if (is(l, 2, "pin"))
		world_order_pin(w, version(l, 3));
	else if (is(l, 2, "hold"))
		w->orders.hold.until = time_of(l, 3);
	else
		wrong(l, "what is ordered?");
}

static void do_withdrawn(struct world *w, const struct line *l)
{
	struct node_orders keep = w->orders;

	if (is(l, 2, "rollback")) {
		w->orders.pins = NULL;
		w->orders.pin_count = 0;
		keep.rollbacks = NULL;
		keep.rollback_count = 0;
	} else if (is(l, 2, "pin")) {
		w->orders.rollbacks = NULL;
		w->orders.rollback_count = 0;
		keep.pins = NULL;
		keep.pin_count = 0;
	} else if (is(l, 2, "hold")) {
		w->orders.hold.until = 0;
		return;
	} else {
		wrong(l, "what is withdrawn?");
	}
	orders_done(&w->orders);
	w->orders = keep;
}

static void do_freeze(struct world *w, const struct line *l)
{
	struct freeze *f = world_freeze(w);

	if (l->count > 2)
		f->until = time_of(l, 2);
}

static void do_unfrozen(struct world *w, const struct line *l)
{
	(void) l;
	index_done(&w->index);
}

static void do_backoff(struct world *w, const struct line *l)
{
	w->component.retry_version = world_keep(w, version(l, 2));
	w->component.retry_at = time_of(l, 3);
}

static void do_swaps(struct world *w, const struct line *l)
{
	w->component.swaps_today = (unsigned) number(l, 2);
}

static void do_local(struct world *w, const struct line *l)
{
	if (is(l, 1, "stale") || is(l, 1, "fresh"))
		w->local.fresh = is(l, 1, "fresh");
	else if (is(l, 1, "stuck") || is(l, 1, "repaired"))
		w->local.stuck = is(l, 1, "stuck");
	else if (is(l, 1, "held") || is(l, 1, "released"))
		w->local.held = is(l, 1, "held");
	else if (is(l, 1, "inhibited") || is(l, 1, "free"))
		w->local.inhibited = is(l, 1, "inhibited");
	else
		w->local.busy = is(l, 1, "busy") ? world_keep(w, word(l, 2)) : NULL;
}

/* As the agent does: what was asked for, cut to what the rollout's deadline allows. */
static void do_defer(struct world *w, const struct line *l)
{
	struct rollout_facts *f = rollout_of(w, l, 2);

	f->deferred_until = deferral_end(f->rollout, time_of(l, 3));
	f->deferred = f->deferred_until > w->local.now;
}

static void do_time(struct world *w, const struct line *l)
{
	w->local.now = time_of(l, 2);
	for (size_t i = 0; i < w->rollout_count; i++)
		if (w->facts[i].deferred_until != 0)
			w->facts[i].deferred = w->facts[i].deferred_until > w->local.now;
}

static const struct verb {
	const char *name;
	void (*run)(struct world *w, const struct line *l);
} verbs[] = {
	{ "node", do_node },	       { "installed", do_installed }, { "returned", do_installed },
	{ "absent", do_absent },       { "good", do_good },	      { "denied", do_denied },
	{ "retried", do_retried },     { "policy", do_policy },	      { "rollout", do_rollout },
	{ "stage", do_stage },	       { "open", do_open },	      { "approved", do_approved },
	{ "unapproved", do_approved }, { "state", do_state },	      { "window", do_stopper },
	{ "blackout", do_stopper },    { "spread", do_stopper },      { "notice", do_stopper },
	{ "deferral", do_stopper },    { "lease", do_stopper },	      { "moved", do_moved },
	{ "failed", do_failed },       { "order", do_order },	      { "withdrawn", do_withdrawn },
	{ "freeze", do_freeze },       { "unfrozen", do_unfrozen },   { "backoff", do_backoff },
	{ "swaps", do_swaps },	       { "stale", do_local },	      { "fresh", do_local },
	{ "stuck", do_local },	       { "repaired", do_local },      { "held", do_local },
	{ "released", do_local },      { "inhibited", do_local },     { "free", do_local },
	{ "busy", do_local },	       { "idle", do_local },	      { "time", do_time },
	{ "defer", do_defer },
};

static void run_verb(struct world *w, const struct line *l)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (is(l, 1, verbs[i].name)) {
			verbs[i].run(w, l);
			return;
		}
	wrong(l, "nothing is known of \"%s\"", word(l, 1));
}

/* --- what is expected --- */

static void describe(const struct decision *d, char *out, size_t size)
{
	static const char *const kinds[] = { "stay", "target", "wait" };

	(void) snprintf(out, size, "%s %s%s%s%s", kinds[d->kind], d->version ? d->version : "",
			d->version ? " " : "", reason_name(d->reason), d->may_stage ? " staging" : "");
}

static void expect_target(const struct decision *d, const struct line *l)
{
	static const char *const causes[] = { [CAUSE_NONE] = "nothing",
					      [CAUSE_ROLLOUT] = "rollout",
					      [CAUSE_ORDER_ROLLBACK] = "rollback",
					      [CAUSE_ORDER_PIN] = "pin",
					      [CAUSE_UNDO] = "undo" };
	const char *want = is(l, 2, "absent") ? "" : version(l, 2);
	char have[256];

	describe(d, have, sizeof(have));
	if (d->kind != DECIDE_TARGET || strcmp(d->version, want) != 0)
		wrong(l, "it is: %s", have);
	if (strcmp(causes[d->cause], word(l, 3)) != 0)
		wrong(l, "by %s, not %s", causes[d->cause], l->words[3]);
	if (d->cause == CAUSE_ROLLOUT && strcmp(d->rollout->id, word(l, 4)) != 0)
		wrong(l, "by rollout %s", d->rollout->id);
}

static void expect_reason(const struct decision *d, const struct line *l)
{
	enum decision_kind kind = is(l, 1, "wait") ? DECIDE_WAIT : DECIDE_STAY;
	bool staging = is(l, l->count - 1, "staging");
	char have[256];

	describe(d, have, sizeof(have));
	if (d->kind != kind || strcmp(reason_name(d->reason), word(l, 2)) != 0)
		wrong(l, "it is: %s", have);
	if (kind == DECIDE_WAIT && d->may_stage != staging)
		wrong(l, "it is: %s", have);
	if (l->count > 3 + staging && strcmp(d->version ? d->version : "", l->words[3]) != 0)
		wrong(l, "it is: %s", have);
}

static void run_expect(struct world *w, const struct line *l)
{
	struct decision d = world_decide(w);

	if (is(l, 1, "target"))
		expect_target(&d, l);
	else if (is(l, 1, "wait") || is(l, 1, "stay"))
		expect_reason(&d, l);
	else if (is(l, 1, "denies") && (!d.deny_from || strcmp(d.order->from, version(l, 2)) != 0))
		wrong(l, "it does not deny it");
	else if (is(l, 1, "refused") && !d.order_refused)
		wrong(l, "the order is not refused");
	else if (!is(l, 1, "denies") && !is(l, 1, "refused"))
		wrong(l, "what is expected?");
}

/* --- files --- */

static void split(char *text, struct line *l)
{
	char *save = NULL, *comment = strchr(text, '#');

	if (comment)
		*comment = '\0';
	l->count = 0;
	for (char *p = strtok_r(text, " \t\n", &save); p && l->count < WORDS_MAX;
	     p = strtok_r(NULL, " \t\n", &save))
		l->words[l->count++] = p;
	l->words[l->count] = NULL;
}

static void run_line(struct world *w, const struct line *l, unsigned *expects)
{
	if (is(l, 0, "given") || is(l, 0, "when")) {
		run_verb(w, l);
	} else if (is(l, 0, "expect")) {
		run_expect(w, l);
		(*expects)++;
	} else {
		wrong(l, "a line begins with story, given, when or expect");
	}
}

static void run_story(const char *folder, const char *name)
{
	char path[512], text[LINE_MAX_BYTES], title[LINE_MAX_BYTES] = "";
	struct line l = { .file = name };
	struct world w;
	unsigned expects = 0;
	FILE *file;

	(void) snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "re");
	assert_non_null(file);
	world_init(&w);
	story_title = NULL;
	while (fgets(text, sizeof(text), file)) {
		l.number++;
		if (strncmp(text, "story", 5) == 0 && !story_title) {
			(void) snprintf(title, sizeof(title), "%s", text + 5 + strspn(text + 5, " \t"));
			title[strcspn(title, "\n")] = '\0';
			story_title = title;
			continue;
		}
		split(text, &l);
		if (l.count > 0)
			run_line(&w, &l, &expects);
	}
	(void) fclose(file);
	if (!story_title || expects == 0)
		wrong(&l, "a story has a title and expects something");
	world_done(&w);
}

static int is_story(const struct dirent *d)
{
	const char *dot = strrchr(d->d_name, '.');

	return dot && strcmp(dot, ".story") == 0;
}

static void test_all_stories(void **state)
{
	struct dirent **names = NULL;
	int n = scandir(TESTS_DIR "/story", &names, is_story, alphasort);

	(void) state;
	assert_true(n >= STORIES_MIN); /* a wrong folder must not look like success */
	for (int i = 0; i < n; i++) {
		run_story(TESTS_DIR "/story", names[i]->d_name);
		free(names[i]);
	}
	free(names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_stories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
