#include "agent/store/agents.h"

#include "agent/store/generation.h"
#include "agent/store/seal.h"
#include "base/err.h"
#include "os/durable.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_NAME "agents"
#define PACKAGED_WORD "packaged"

enum { FORMAT = 1 };

/* --- the file --- */

static const char *word_of(const char *version)
{
	return version[0] ? version : PACKAGED_WORD;
}

/* "known VERSION proven|unproven STARTS" */
static int read_known(char *rest, struct agents *a)
{
	char *save = NULL, *version = strtok_r(rest, " ", &save), *proven = strtok_r(NULL, " ", &save),
	     *starts = strtok_r(NULL, " ", &save);
	struct agents_known *k = &a->known[a->known_count];

	if (a->known_count >= AGENTS_KNOWN_MAX || !version || !proven || !starts)
		return -ERR_SYNTAX;
	if (!str_eq(version, PACKAGED_WORD) && !version_is_valid(version))
		return -ERR_FIELD_VALUE;
	*k = (struct agents_known){ .proven = str_eq(proven, "proven") };
	if (parse_u64(starts, &k->starts) < 0)
		return -ERR_FIELD_VALUE;
	STATE_SET(k->version, str_eq(version, PACKAGED_WORD) ? "" : version);
	a->known_count++;
	return 0;
}

static int read_line(char *line, bool *has_format, struct agents *a)
{
	char *rest = strchr(line, ' ');
	uint64_t format = 0;

	if (!rest)
		return -ERR_SYNTAX;
	*rest++ = '\0';
	if (str_eq(line, "format")) {
		*has_format = parse_u64(rest, &format) == 0 && format == FORMAT;
		return *has_format ? 0 : -ERR_AGENT_TOO_OLD;
	}
	if (str_eq(line, "known"))
		return read_known(rest, a);
	if (str_eq(line, "trial")) {
		STATE_SET(a->trial, rest);
		return 0;
	}
	if (str_eq(line, "trial-starts"))
		return parse_u64(rest, &a->trial_starts);
	if (str_eq(line, "trial-failed")) {
		a->trial_failed = str_eq(rest, "yes");
		return 0;
	}
	if (str_eq(line, "trial-how")) {
		STATE_SET(a->trial_how, rest);
		return 0;
	}
	return 0; /* a successor's */
}

int agents_parse(const void *data, size_t len, struct agents *ret)
{
	struct agents a = { .known_count = 0 };
	char text[AGENTS_FILE_MAX + 1];
	bool has_format = false;
	char *save = NULL;
	int r = 0;

	if (len > AGENTS_FILE_MAX || memchr(data ? data : "", 0, len))
		return len > AGENTS_FILE_MAX ? -ERR_TOO_LARGE : -ERR_SYNTAX;
	if (len > 0)
		memcpy(text, data, len);
	text[len] = '\0';
	for (char *line = strtok_r(text, "\n", &save); line && r == 0; line = strtok_r(NULL, "\n", &save))
		r = read_line(line, &has_format, &a);
	if (r == 0 && !has_format)
		r = -ERR_FIELD_MISSING;
	if (r == 0)
		*ret = a;
	return r;
}

int agents_load(const struct os *os, int root_fd, struct agents *ret)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(AGENTS_FILE_MAX);
	int r;

	*ret = (struct agents){ .known_count = 0 };
	r = file_read(os, root_fd, FILE_NAME, AGENTS_FILE_MAX, &bytes);
	if (r == -ENOENT)
		return 0;
	if (r == -ERR_TOO_LARGE || r == -EISDIR || r == -EINVAL || r == -ELOOP)
		return 1;
	return r < 0 ? r : agents_parse(bytes.data, bytes.len, ret) < 0;
}

/* What programs and kernels say may hold anything; a line of ours ends once. */
static void one_line(char *text)
{
	for (char *p = text; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
}

int agents_write(const struct agents *a, struct buf *out)
{
	char how[AGENTS_HOW_SIZE], trial[STATE_UPDATE_SIZE];
	int r = buf_addf(out, "format %d\n", FORMAT);

	for (size_t i = 0; r == 0 && i < a->known_count; i++)
		r = buf_addf(out, "known %s %s %" PRIu64 "\n", word_of(a->known[i].version),
			     a->known[i].proven ? "proven" : "unproven", a->known[i].starts);
	STATE_SET(trial, a->trial);
	one_line(trial);
	if (r == 0 && trial[0])
		r = buf_addf(out, "trial %s\ntrial-starts %" PRIu64 "\ntrial-failed %s\n", trial, a->trial_starts,
			     a->trial_failed ? "yes" : "no");
	STATE_SET(how, a->trial_how);
	one_line(how);
	if (r == 0 && how[0])
		r = buf_addf(out, "trial-how %s\n", how);
	return r;
}

int agents_save(const struct os *os, int root_fd, const struct agents *a)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(AGENTS_FILE_MAX);
	int r = agents_write(a, &text);

	/* Its fsyncs, of the file and of the folder, make the promise: counted before the start. */
	return r < 0 ? r : durable_write_file(os, root_fd, FILE_NAME, text.data, text.len, 0644);
}

static void drop(struct agents *a, size_t i)
{
	memmove(&a->known[i], &a->known[i + 1], (a->known_count - i - 1) * sizeof(a->known[0]));
	a->known_count--;
}

static void make_room(struct agents *a)
{
	for (size_t i = 0; i < a->known_count; i++)
		if (!a->known[i].proven && a->known[i].version[0]) {
			drop(a, i);
			return;
		}
	drop(a, 0);
}

struct agents_known *agents_known(struct agents *a, const char *version)
{
	for (size_t i = 0; i < a->known_count; i++)
		if (str_eq(a->known[i].version, version))
			return &a->known[i];
	if (a->known_count == AGENTS_KNOWN_MAX)
		make_room(a);
	a->known[a->known_count] = (struct agents_known){ .starts = 0 };
	STATE_SET(a->known[a->known_count].version, version);
	return &a->known[a->known_count++];
}

/* --- what there is --- */

/*
 * Shortages of this moment are errors: by them no tree is incomplete, and no agent unknown. So is EIO the first time: a
 * disk that answers it once more (`twice`) has lost what is there.
 */
static int not_a_verdict(int r, bool twice)
{
	return r < 0 && (err_class(r) == ERR_CLASS_RETRY || (r == -EIO && !twice)) ? r : 0;
}

static int look_at_store(const struct os *os, int store_fd, bool twice, struct agents_facts *f)
{
	struct name_list names = { 0 };
	int r = dir_list(os, store_fd, AGENTS_COMPONENT, &names);

	if (r < 0)
		return not_a_verdict(r, twice); /* else none was ever installed, most likely */
	for (size_t i = 0; r == 0 && i < names.count && f->sound_count < AGENTS_CANDIDATES_MAX; i++) {
		if (!version_is_valid(names.names[i]))
			continue;
		r = seal_is_sound(os, store_fd, AGENTS_COMPONENT, names.names[i]);
		if (r == 0)
			STATE_SET(f->sound[f->sound_count++], names.names[i]);
		r = not_a_verdict(r, twice);
	}
	name_list_done(&names);
	return r;
}

static int look_at_current(const struct os *os, int root_fd, int generations, bool twice, struct agents_facts *f)
{
	struct generation *g = malloc(sizeof(*g));
	int r = g ? generation_current(os, root_fd, &f->generation) : -ENOMEM;

	if (r == 0)
		r = generation_read(os, generations, f->generation, g);
	if (r == 0)
		STATE_SET(f->current, generation_version(g, AGENTS_COMPONENT));
	free(g);
	return not_a_verdict(r, twice);
}

static int look(const struct os *os, int root_fd, bool twice, struct agents_facts *ret)
{
	int generations = dir_open(os, root_fd, "generations"), store = dir_open(os, root_fd, "store");
	int r = not_a_verdict(generations, twice);

	if (r == 0)
		r = not_a_verdict(store, twice);
	ret->generation = 0;
	ret->current[0] = '\0';
	ret->sound_count = 0;
	if (r == 0 && generations >= 0)
		r = look_at_current(os, root_fd, generations, twice, ret);
	if (r == 0 && store >= 0)
		r = look_at_store(os, store, twice, ret);
	if (generations >= 0)
		(void) os->close(os, generations); /* a folder */
	if (store >= 0)
		(void) os->close(os, store); /* a folder */
	return r;
}

int agents_look(const struct os *os, int root_fd, struct agents_facts *ret)
{
	int r = look(os, root_fd, false, ret);

	return r == -EIO ? look(os, root_fd, true, ret) : r;
}

/* --- choosing --- */

struct candidates {
	const char *versions[AGENTS_CANDIDATES_MAX + 4];
	size_t count;
};

static bool is_there(const struct agents_facts *f, const char *version)
{
	if (!version[0])
		return f->packaged != NULL;
	for (size_t i = 0; i < f->sound_count; i++)
		if (str_eq(f->sound[i], version))
			return true;
	return false;
}

static void add(struct candidates *c, const struct agents_facts *f, const char *version)
{
	for (size_t i = 0; i < c->count; i++)
		if (str_eq(c->versions[i], version))
			return;
	if (is_there(f, version) && c->count < ARRAY_LEN(c->versions))
		c->versions[c->count++] = version;
}

/* The newer of the two first; of the same version the signed release's. */
static void add_current_and_packaged(struct candidates *c, const struct agents_facts *f)
{
	if (f->packaged && f->current[0] && version_compare(f->packaged, f->current) > 0)
		add(c, f, "");
	if (f->current[0])
		add(c, f, f->current);
	add(c, f, "");
}

static bool is_proven(const struct agents *a, const char *version)
{
	for (size_t i = 0; i < a->known_count; i++)
		if (str_eq(a->known[i].version, version))
			return a->known[i].proven;
	return false;
}

static void add_proven(struct candidates *c, const struct agents_facts *f, const struct agents *a)
{
	const char *last = NULL;

	/* Newest first; there are few. */
	for (size_t n = 0; n < f->sound_count; n++) {
		const char *best = NULL;

		for (size_t i = 0; i < f->sound_count; i++)
			if (is_proven(a, f->sound[i]) && (!last || version_compare(f->sound[i], last) < 0) &&
			    (!best || version_compare(f->sound[i], best) > 0))
				best = f->sound[i];
		if (!best)
			return;
		add(c, f, best);
		last = best;
	}
}

/* The update of the agent that is past its rename and not judged yet; NULL: none. */
static const struct node_update *swapped_update(const struct agents_facts *f)
{
	const struct node_update *u = f->state ? &f->state->update : NULL;

	if (!u || !state_has_update(f->state) || !str_eq(u->component, AGENTS_COMPONENT))
		return NULL;
	return u->state == NODE_STUCK || node_update_is_swapped(u) ? u : NULL;
}

static bool waits_for_proof(const struct agents_facts *f, const struct node_update *u)
{
	return u->state != NODE_STUCK && u->state != NODE_ROLLING_BACK && f->generation == u->target_generation;
}

/* 1: the new one is to be started. */
static int judge_trial(const struct agents_facts *f, struct agents *a, const struct node_update *u)
{
	if (!str_eq(a->trial, u->id)) {
		STATE_SET(a->trial, u->id);
		a->trial_starts = 0;
		a->trial_failed = false;
		a->trial_how[0] = '\0';
	}
	if (!a->trial_failed && !is_there(f, u->to)) {
		a->trial_failed = true;
		STATE_SET(a->trial_how, "its tree is not complete");
	}
	if (a->trial_starts >= AGENTS_TRIAL_STARTS)
		a->trial_failed = true;
	return !a->trial_failed;
}

static int pick(const struct candidates *c, struct agents *a, const char **ret)
{
	if (c->count == 0)
		return -ENOENT;
	for (size_t i = 0; i < c->count; i++)
		if (agents_known(a, c->versions[i])->starts < AGENTS_STARTS) {
			*ret = c->versions[i];
			return 0;
		}
	for (size_t i = 0; i < a->known_count; i++)
		a->known[i].starts = 0;
	*ret = c->versions[0];
	return 0;
}

int agents_choose(const struct agents_facts *f, struct agents *a, struct agents_choice *ret)
{
	const struct node_update *u = swapped_update(f);
	struct candidates c = { .count = 0 };
	const char *version = NULL;
	int r;

	if (u && waits_for_proof(f, u) && judge_trial(f, a, u)) {
		*ret = (struct agents_choice){
			.limit_ms = u->probation_ms + 2 * (u->handover_ms ? u->handover_ms : AGENTS_HANDOVER_MS)
		};
		STATE_SET(ret->version, u->to);
		STATE_SET(ret->update, u->id);
		return 0;
	}
	if (u)
		add(&c, f, u->from);
	add_current_and_packaged(&c, f);
	add_proven(&c, f, a);
	/* What is on its way out comes last. */
	for (size_t i = 0; u && i + 1 < c.count; i++)
		if (str_eq(c.versions[i], u->to) && !str_eq(u->to, u->from)) {
			const char *out = c.versions[i];

			memmove(&c.versions[i], &c.versions[i + 1], (c.count - i - 1) * sizeof(c.versions[0]));
			c.versions[c.count - 1] = out;
			break;
		}
	r = pick(&c, a, &version);
	if (r < 0)
		return r;
	*ret = (struct agents_choice){ .limit_ms = 0 };
	STATE_SET(ret->version, version);
	return 0;
}

/* --- how they fare --- */

static bool is_trial(const struct agents *a, const struct agents_choice *c)
{
	return c->update[0] && str_eq(a->trial, c->update);
}

void agents_started(struct agents *a, const struct agents_choice *c)
{
	if (is_trial(a, c))
		a->trial_starts++;
	else
		agents_known(a, c->version)->starts++;
}

void agents_ended(struct agents *a, const struct agents_choice *c, const char *how, bool fatal)
{
	if (is_trial(a, c)) {
		STATE_SET(a->trial_how, how);
		a->trial_failed = a->trial_failed || fatal || a->trial_starts >= AGENTS_TRIAL_STARTS;
	} else if (fatal) {
		agents_known(a, c->version)->starts = AGENTS_STARTS;
	}
}

void agents_ready(struct agents *a, const struct agents_choice *c)
{
	/* On trial that says nothing yet. */
	if (!is_trial(a, c))
		agents_known(a, c->version)->starts = 0;
}

void agents_confirmed(struct agents *a, const struct agents_choice *c)
{
	struct agents_known *k = agents_known(a, c->version);

	k->proven = true;
	k->starts = 0;
	if (is_trial(a, c)) {
		a->trial[0] = a->trial_how[0] = '\0';
		a->trial_starts = 0;
		a->trial_failed = false;
	}
}
