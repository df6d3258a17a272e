#include "agent/phase/node.h"

#include "agent/link/protocol.h"
#include "agent/phase/manifest.h"
#include "agent/phase/outcome.h"
#include "agent/probe/probe.h"
#include "agent/store/agents.h"
#include "agent/store/collect.h"
#include "agent/store/seal.h"
#include "base/err.h"
#include "base/log.h"
#include "conf/conf.h"
#include "json/build.h"
#include "os/durable.h"
#include "os/process.h"
#include "zone/zone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EVENT_MAX = 4096, PLAN_LATEST_MS = 3600 * 1000 };

uint64_t node_now_ms(const struct node *n)
{
	return n->os->clock_boot_ms(n->os);
}

int64_t node_now(const struct node *n)
{
	return n->tuf ? tuf_client_now(n->tuf) : n->os->clock_real(n->os);
}

bool node_is_fresh(const struct node *n)
{
	struct tuf_state t = { 0 };

	if (!n->tuf)
		return false;
	tuf_client_state(n->tuf, &t);
	return t.timestamp > 0 && !t.stale;
}

void node_plan_at(struct node *n, int64_t at)
{
	int64_t now = node_now(n);

	node_plan_in(n, at > now ? (uint64_t) (at - now) * 1000 + 50 : 50);
}

void node_plan_in(struct node *n, uint64_t in_ms)
{
	if (in_ms > PLAN_LATEST_MS)
		in_ms = PLAN_LATEST_MS;
	if (node_now_ms(n) + in_ms < n->plan_ms)
		n->plan_ms = node_now_ms(n) + in_ms;
}

int node_save(struct node *n)
{
	int r = store_save(n->store, n->state);

	if (r < 0)
		log_error("state-not-saved", "the journal could not be written: %s", err_text(r));
	return r;
}

int node_nonce(struct node *n, char ret[static NONCE_HEX + 1])
{
	uint8_t bytes[NONCE_HEX / 2];
	int r = n->os->random(n->os, bytes, sizeof(bytes));

	if (r < 0)
		return r;
	hex_encode(ret, bytes, sizeof(bytes));
	return 0;
}

void node_link_send(struct node *n, unsigned type, uint32_t id, const void *data, size_t len)
{
	int r;

	if (!n->link)
		return;
	r = frame_send(n->link, (uint16_t) type, id, data, len);
	if (r < 0)
		log_warning("link-send", "a frame for the link was dropped: type=%u reason=%s", type, err_text(r));
}

char *node_current_root(const struct node *n, const char *component)
{
	char *path = NULL;

	return asprintf(&path, "%s/current/%s", n->config->root, component) < 0 ? NULL : path;
}

char *node_version_root(const struct node *n, const char *component, const char *version)
{
	char *path = NULL;

	return asprintf(&path, "%s/store/%s/%s", n->config->root, component, version) < 0 ? NULL : path;
}

bool node_has_version(const struct node *n, const char *component, const char *version)
{
	uint8_t digest[SHA256_BYTES];

	return seal_digest(n->os, n->dirs->store, component, version, digest) == 0;
}

/* --- documents --- */

void documents_done(struct documents *d)
{
	index_done(&d->index);
	for (size_t i = 0; i < d->rollout_count; i++) {
		rollout_done(&d->rollouts[i].rollout);
		free(d->rollouts[i].trouble);
	}
	free(d->rollouts);
	orders_done(&d->orders);
	for (size_t i = 0; i < d->policy_count; i++)
		policy_done(&d->policies[i].policy);
	free(d->policies);
	labels_done(&d->labels);
	zone_free(d->zone);
	*d = (struct documents){ 0 };
}

const struct known_policy *documents_policy(const struct documents *d, const char *component)
{
	for (size_t i = 0; i < d->policy_count; i++)
		if (str_eq(d->policies[i].component, component))
			return &d->policies[i];
	return NULL;
}

struct known_rollout *documents_rollout(const struct documents *d, const char *id)
{
	for (size_t i = 0; id && i < d->rollout_count; i++)
		if (str_eq(d->rollouts[i].rollout.id, id))
			return &d->rollouts[i];
	return NULL;
}

bool node_zone_is_stale(const struct node *n)
{
	int64_t month = 30 * 86400 + 10 * 3600; /* a twelfth of a year */

	/* UTC needs no tables. */
	return n->config->zone_data_months > 0 && n->docs.zone_edition[0] && !str_eq(n->docs.zone_name, "UTC") &&
	       node_now(n) - n->docs.zone_published > (int64_t) n->config->zone_data_months * month;
}

static void see_drop(struct node *n, size_t i)
{
	memmove(&n->seen[i], &n->seen[i + 1], (n->seen_count - i - 1) * sizeof(n->seen[0]));
	n->seen_count--;
}

void node_see_set(struct node *n, const char *component, const struct probe_set *set)
{
	size_t count = set ? probe_set_count(set) : 0;

	for (size_t i = n->seen_count; count > 0 && i-- > 0;)
		if (str_eq(n->seen[i].component, component))
			see_drop(n, i);
	for (size_t i = 0; i < count && i < ARRAY_LEN(n->seen); i++) {
		const struct probe_status *p = probe_set_at(set, i);
		struct seen_check *seen;

		if (n->seen_count == ARRAY_LEN(n->seen))
			see_drop(n, 0); /* the one seen longest ago */
		seen = &n->seen[n->seen_count++];
		*seen = (struct seen_check){ .runs = p->runs,
					     .failures = p->failures,
					     .at = n->os->clock_real(n->os) };
		STATE_SET(seen->component, component);
		STATE_SET(seen->name, p->check->name);
		STATE_SET(seen->kind, check_kind_name(p->check->kind));
		STATE_SET(seen->state, probe_state_name(p->state));
		STATE_SET(seen->detail, p->detail);
		outcome_clean(seen->detail);
	}
}

void node_see_checks(struct node *n)
{
	const struct node_update *u = &n->state->update;

	/* What is seen before the swap is of the old version, and is not kept. */
	if (u->state != NODE_PROBATION && u->state != NODE_WATCH)
		return;
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part part = update_part(n, i);

		node_see_set(n, part.component, part.checks->set);
	}
}

/* --- the update under way --- */

static bool is_busy_state(enum node_update_state s)
{
	return s == NODE_STOPPING || s == NODE_SWAPPING || s == NODE_REBOOTING || s == NODE_PROBATION ||
	       s == NODE_ROLLING_BACK;
}

bool node_is_busy(const struct node *n)
{
	return state_has_update(n->state) && is_busy_state(n->state->update.state);
}

bool update_is_active(const struct node *n)
{
	return state_has_update(n->state);
}

enum update_state update_state(const struct node *n)
{
	return update_is_active(n) ? (enum update_state) n->state->update.state : STATE_IDLE;
}

size_t update_part_count(const struct node *n)
{
	return update_is_active(n) ? 1 + n->state->update.with_count : 0;
}

struct part update_part(struct node *n, size_t i)
{
	struct node_update *u = &n->state->update;
	struct attempt *a = &n->attempt;
	struct node_with *w = i > 0 ? &u->with[i - 1] : NULL;
	struct attempt_with *m = i > 0 ? &a->with[i - 1] : NULL;

	return (struct part){
		.component = w ? w->component : u->component,
		.from = w ? w->from : u->from,
		.to = w ? w->to : u->to,
		.release_path = w ? w->release_path : u->release_path,
		.release_sha256 = w ? w->release_sha256 : u->release_sha256,
		.digest = w ? w->digest : u->digest,
		.release = m ? &m->release : &a->release,
		.old = m ? &m->old : &a->old,
		.has_release = m ? &m->has_release : &a->has_release,
		.has_old = m ? &m->has_old : &a->has_old,
		.checks = &a->checks[i],
	};
}

bool update_concerns(const struct node *n, const char *component)
{
	const struct node_update *u = &n->state->update;

	for (size_t i = 0; update_is_active(n) && i < u->with_count; i++)
		if (str_eq(u->with[i].component, component))
			return true;
	return update_is_active(n) && str_eq(u->component, component);
}

void update_blame(struct node *n, const char *component)
{
	STATE_SET(n->state->update.blamed, component);
}

/* What the checks see, and who they are. */
static int begin_context(struct node *n, const struct part *p)
{
	struct part_checks *k = p->checks;
	struct command_context c = { .config = n->config, .component = p->component, .version = p->to };
	struct conf_error error = { "" };
	int r;

	k->root = node_version_root(n, p->component, p->to);
	if (!k->root)
		return -ENOMEM;
	if (asprintf(&k->data, "%s/data/%s", n->config->root, p->component) < 0) {
		k->data = NULL;
		return -ENOMEM;
	}
	r = config_program(n->config, "selfright-probe", &k->helper, &error);
	if (r < 0) {
		log_warning("no-helper", "checks that need it will fail: %s", error.text);
		k->helper = NULL;
	}
	c.root = k->root;
	r = command_environment(&c, &k->environment);
	if (r < 0)
		return r;
	k->context = (struct probe_context){
		.variables = { .vars = &n->config->vars, .node_id = n->config->node, .root = k->root },
		.root = k->root,
		.env = (const char *const *) k->environment.env,
		.user = n->as_root ? config_component_user(n->config, p->component) : NULL,
		.helper = k->helper,
		.data = k->data,
		.since_at = n->state->update.swapped_at,
		.late = n->os->clock_real(n->os) - n->state->update.swapped_at > 60,
	};
	return 0;
}

int part_checks_begin(struct node *n, const struct part *p, enum probe_mode mode)
{
	const struct node_update *u = &n->state->update;
	int r;

	part_checks_done(p->checks);
	r = begin_context(n, p);
	if (r == 0)
		r = probe_set_new(p->release, &p->checks->context, mode, node_now_ms(n), &p->checks->set);
	if (r < 0 || mode == PROBE_BASELINE)
		return r;
	for (size_t i = 0; i < u->baseline_count; i++) {
		const struct node_baseline *b = &u->baseline[i];

		if (!str_eq(b->component, p->component))
			continue;
		if (!b->passed)
			probe_set_was_failing(p->checks->set, b->check);
		probe_set_before(p->checks->set, b->check, b->value);
	}
	for (size_t i = 0; !u->link_before && i < p->release->check_count; i++)
		if (p->release->checks[i].kind == CHECK_LINK)
			probe_set_was_failing(p->checks->set, p->release->checks[i].name);
	return 0;
}

void part_checks_done(struct part_checks *c)
{
	probe_set_free(c->set);
	command_line_done(&c->environment);
	free(c->root);
	free(c->data);
	free(c->helper);
	*c = (struct part_checks){ .set = NULL };
}

static bool overlaps(const struct data_set *set, const struct data_item *item)
{
	size_t len = strlen(item->path);

	for (size_t i = 0; i < set->item_count; i++) {
		const char *other = set->items[i].path;
		size_t n = strlen(other) < len ? strlen(other) : len;

		if (str_eq(set->items[i].component, item->component) && strncmp(other, item->path, n) == 0 &&
		    (other[n] == '\0' || other[n] == '/') && (item->path[n] == '\0' || item->path[n] == '/'))
			return true;
	}
	return false;
}

bool update_data(struct node *n, struct data_set *ret, char name[static DATA_NAME_SIZE])
{
	const struct node_update *u = &n->state->update;

	*ret = (struct data_set){ .at = node_now(n) };
	/* What is put back with the swap must come again if that fails, whatever it was declared as. */
	if (u->data_from[0]) {
		free(n->attempt.data_text);
		n->attempt.data_text = NULL;
		if (data_items_of(n->os, n->dirs, u->data_from, ret, &n->attempt.data_text) < 0)
			ret->item_count = 0; /* the swap will not find it either, and says so */
		for (size_t i = 0; i < ret->item_count; i++)
			ret->items[i].restore = true;
	}
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (!*p.has_release || (p.release->data_count == 0 && !(i == 0 && u->data_from[0])))
			continue;
		for (size_t k = 0; k < p.release->data_count && ret->item_count < DATA_ITEMS_MAX; k++) {
			const struct data_item item = { .component = p.component,
							.path = p.release->data[k].path,
							.restore = p.release->data[k].restore_on_rollback };

			if (!overlaps(ret, &item))
				ret->items[ret->item_count++] = item;
		}
		ret->moves[ret->move_count].component = p.component;
		ret->moves[ret->move_count].from = p.from;
		ret->moves[ret->move_count++].to = p.to;
	}
	(void) snprintf(name, DATA_NAME_SIZE, "%s-%llu", u->component, (unsigned long long) u->attempt);
	return ret->item_count > 0;
}

int update_measure_data(struct node *n, struct data_size *ret)
{
	struct data_set set;
	char name[DATA_NAME_SIZE];
	int r;

	*ret = (struct data_size){ 0 };
	if (!update_data(n, &set, name))
		return 0;
	r = data_measure(n->os, n->dirs, &set, ret);
	if (r == -EXDEV)
		return update_fail_as(
			n, RESULT_NOT_ALLOWED, r,
			"data[] reaches into another file system, from which it could not be put back");
	if (r < 0)
		return update_fail(n, r, "the data of %s that is to be copied could not be looked at: %s",
				   set.items[0].component, err_text(r));
	/* What the version before cannot read is rewritten: then the copy shares nothing for long. */
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		if (*p.has_release && !p.release->data_compatible_back)
			return 0;
	}
	if (data_can_share(n->os, n->dirs))
		ret->bytes = 0;
	return 0;
}

void node_collect_data(struct node *n)
{
	const char *claimed[] = { n->state->update.data_saved, n->state->update.data_from };
	size_t removed = 0;
	int r = data_collect(n->os, n->dirs, node_now(n), claimed, ARRAY_LEN(claimed), &removed);

	if (r < 0)
		log_warning("collect-failed", "old copies of data stay until the next time: %s", err_text(r));
	else if (removed > 0)
		log_info("collected", "copies_of_data=%zu", removed);
}

/* Does what was downloaded still serve somebody: an update that is not unpacked yet, or one that is tried again? */
static bool spool_is_wanted(const struct node *n)
{
	const struct node_update *u = &n->state->update;

	return n->state->retry_count > 0 || u->state == NODE_PLANNED || u->state == NODE_STAGING;
}

void node_collect_spool(struct node *n)
{
	struct name_list names = { 0 };
	int r;

	if (spool_is_wanted(n))
		return;
	r = dir_list(n->os, n->dirs->spool, ".", &names);
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = tree_remove(n->os, n->dirs->spool, names.names[i]);
	name_list_done(&names);
	if (r < 0)
		log_warning("spool-not-cleaned", "old downloads take up space until the next time: %s",
			    err_text(r));
}

void node_collect(struct node *n, uint64_t generation)
{
	struct collect_options o = {
		.keep_versions = n->config->keep_versions,
		.generations = &generation,
		.generation_count = generation ? 1 : 0,
	};
	struct generation_entry running = { .component = AGENTS_COMPONENT };
	struct collect_result done = { 0 };
	int r;

	/* We may have been started from a version that nothing else keeps. */
	STATE_SET(running.version, n->supervisor.running);
	o.claimed = &running;
	o.claimed_count = running.version[0] ? 1 : 0;
	r = collect(n->store, &o, &done);
	if (r < 0)
		log_warning("collect-failed", "old versions stay until the next time: %s", err_text(r));
	else if (done.versions + done.generations > 0)
		log_info("collected", "versions=%zu generations=%zu", done.versions, done.generations);
	manifest_collect(n);
	node_collect_data(n);
	node_collect_spool(n);
}

static int load_part(struct node *n, const struct part *p)
{
	int r;

	if (!*p->has_release && p->to[0]) {
		r = manifest_load(n, p->component, p->to, p->release);
		if (r < 0)
			return r;
		*p->has_release = true;
	}
	if (!*p->has_old && p->from[0]) {
		r = manifest_load(n, p->component, p->from, p->old);
		if (r < 0)
			return r;
		*p->has_old = true;
	}
	return 0;
}

int attempt_load(struct node *n)
{
	int failed = 0;

	/* One that is missing does not keep the others from being read. */
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		int r = load_part(n, &p);

		if (r < 0 && failed == 0)
			failed = r;
	}
	return failed;
}

void attempt_init(struct attempt *a)
{
	*a = (struct attempt){
		.stage_fd = -1,
		.stage_line = BUF_INIT(4096),
		.command = COMMAND_INIT,
		.witness = COMMAND_INIT,
		.log_tail = BUF_INIT(STATE_LOG_TAIL_SIZE - 1),
		.wake_ms = UINT64_MAX,
	};
}

void attempt_done(struct attempt *a)
{
	if (a->has_release)
		release_done(&a->release);
	if (a->has_old)
		release_done(&a->old);
	if (a->stage.pid)
		process_end(&a->stage, 0);
	if (a->stage_fd >= 0)
		close(a->stage_fd);
	buf_done(&a->stage_line);
	command_done(&a->command);
	data_save_free(a->data);
	free(a->data_text);
	for (size_t i = 0; i < ARRAY_LEN(a->with); i++) {
		if (a->with[i].has_release)
			release_done(&a->with[i].release);
		if (a->with[i].has_old)
			release_done(&a->with[i].old);
	}
	for (size_t i = 0; i < ARRAY_LEN(a->checks); i++)
		part_checks_done(&a->checks[i]);
	command_done(&a->witness);
	buf_done(&a->log_tail);
	attempt_init(a);
}

void update_event(struct node *n)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(EVENT_MAX);
	const struct node_update *u = &n->state->update;
	struct event e = { .at = n->os->clock_real(n->os) };

	(void) snprintf(e.node, sizeof(e.node), "%s", n->config->node);
	(void) snprintf(e.update, sizeof(e.update), "%s", u->id);
	(void) snprintf(e.component, sizeof(e.component), "%s", u->component);
	(void) snprintf(e.state, sizeof(e.state), "%s", node_update_state_name(u->state));
	(void) snprintf(e.version, sizeof(e.version), "%s", u->to);
	(void) snprintf(e.detail, sizeof(e.detail), "%.*s", (int) sizeof(e.detail) - 1, u->detail);
	e.bytes_done = n->attempt.bytes_done;
	e.bytes_total = n->attempt.bytes_total;
	event_write(&e, json_build_root(b));
	if (json_build_text(b, false, &text) == 0)
		node_link_send(n, LINK_EVENT, 0, text.data, text.len);
}

static bool is_empty(struct node *n, const char *component)
{
	struct name_list names = { 0 };
	bool empty = dir_list(n->os, n->dirs->data, component, &names) == 0 && names.count == 0;

	name_list_done(&names);
	return empty;
}

static int make_data_dir(struct node *n, const char *component)
{
	const char *user = config_component_user(n->config, component);
	struct stat st;
	uid_t uid;
	gid_t gid;
	int r = n->os->fstatat(n->os, n->dirs->data, component, &st);

	if (r < 0 && r != -ENOENT)
		return r;
	/* What a component keeps there is its own, whatever the owner became; an empty one of ours was not given away. */
	if (r == 0 && (!n->as_root || !S_ISDIR(st.st_mode) || st.st_uid != 0 || !is_empty(n, component)))
		return 0;
	if (r < 0)
		r = durable_mkdir(n->os, n->dirs->data, component, 0750);
	if (r < 0 || !n->as_root)
		return r;
	r = process_find_user(user, &uid, &gid);
	if (r < 0)
		return r == -ENOENT ? -ERR_CONFIG : r;
	return n->os->fchownat(n->os, n->dirs->data, component, uid, gid);
}

int node_prepare_component(struct node *n, const char *component)
{
	return make_data_dir(n, component);
}

int hook_begin(struct node *n, const struct release *release, const struct release_command *hook, const char *root)
{
	struct command_context c = {
		.config = n->config,
		.component = release->component,
		.version = release->version,
		.root = root,
	};
	struct command_line line = { 0 };
	int r = make_data_dir(n, release->component);

	if (r < 0)
		return r;
	r = command_expand(&c, hook, &line);
	if (r < 0)
		return r;
	command_done(&n->attempt.command);
	r = command_start(&line, hook->timeout_s, node_now_ms(n), &n->attempt.command);
	command_line_done(&line);
	return r;
}
