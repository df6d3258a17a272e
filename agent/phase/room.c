#include "agent/phase/room.h"

#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "agent/store/data.h"
#include "agent/store/space.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <sys/statvfs.h>

enum { FILES_MARGIN = 64 };

static const struct release_artifact *full_artifact(const struct release *rel)
{
	for (size_t i = 0; i < rel->artifact_count; i++)
		if (!rel->artifacts[i].is_delta)
			return &rel->artifacts[i];
	return NULL;
}

static uint64_t add_up(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* What an update takes; `asked` must be free whatever it takes. */
struct need {
	uint64_t bytes, files, asked;
};

/* What is missing, and the sentence that says so; nothing is missing while `why` is empty. */
struct lack {
	uint64_t bytes;
	char why[160];
};

/* Of the whole folder, data and copies included; unlike the free space it needs no margin. */
static int look_at_quota(struct node *n, const struct need *need, struct lack *ret)
{
	uint64_t limit = n->config->quota_bytes;
	struct space used;
	int r;

	if (limit == 0)
		return 0;
	r = space_used(n->os, n->dirs->root, &used);
	if (r < 0)
		return update_fail(n, r, "what %s takes could not be counted: %s", n->config->root, err_text(r));
	if (add_up(used.bytes, need->bytes) <= limit)
		return 0;
	ret->bytes = add_up(used.bytes, need->bytes) - limit;
	(void) snprintf(ret->why, sizeof(ret->why),
			"it needs %llu bytes; the folder takes %llu of the %llu that its quota allows",
			(unsigned long long) need->bytes, (unsigned long long) used.bytes,
			(unsigned long long) limit);
	return 0;
}

static int look_at_disk(struct node *n, int folder, const struct need *need, struct lack *ret)
{
	uint64_t have, want = add_up(need->bytes, SPACE_MARGIN_BYTES);
	struct statvfs v;
	int r = n->os->fstatvfs(n->os, folder, &v);

	if (r < 0)
		return update_fail(n, r, "the free space could not be read: %s", err_text(r));
	have = (uint64_t) v.f_bavail * v.f_frsize;
	if (want < need->asked)
		want = need->asked;
	if (want > have) {
		ret->bytes = want - have;
		(void) snprintf(ret->why, sizeof(ret->why), "it needs %llu bytes and a margin; %llu are free",
				(unsigned long long) (need->bytes > need->asked ? need->bytes : need->asked),
				(unsigned long long) have);
	} else if (v.f_files > 0 && v.f_favail < add_up(need->files, FILES_MARGIN)) {
		/* Some file systems have no fixed number of files: they say 0 of 0. */
		(void) snprintf(ret->why, sizeof(ret->why),
				"it needs %llu files; the file system has room for %llu",
				(unsigned long long) need->files, (unsigned long long) v.f_favail);
	}
	return 0;
}

/* 1: an old copy of data made room for what is more urgent; 0: none would. */
static int give_up_a_copy(struct node *n, uint64_t missing)
{
	const char *claimed[] = { n->state->update.data_saved, n->state->update.data_from };
	char name[DATA_NAME_SIZE];
	struct space copies;
	int r = space_used(n->os, n->dirs->saved, &copies);

	/* Where all of them would not do, none is given up for nothing. */
	if (r == 0 && copies.bytes < missing)
		return 0;
	if (r == 0)
		r = data_give_up(n->os, n->dirs, claimed, ARRAY_LEN(claimed), name);
	if (r < 0)
		log_warning("copy-not-given-up", "an old copy of data could not be removed: %s", err_text(r));
	if (r > 0)
		log_notice("copy-given-up", "update=%s needs the room of the copy of data %s", n->state->update.id,
			   name);
	return r > 0;
}

/* `folder`: on the disk where it is wanted. */
static int make_room(struct node *n, int folder, const struct need *need)
{
	int r;

	for (;;) {
		struct lack lack = { .why = "" };

		r = look_at_quota(n, need, &lack);
		if (r == 0 && !lack.why[0])
			r = look_at_disk(n, folder, need, &lack);
		if (r < 0 || !lack.why[0])
			return r;
		if (!give_up_a_copy(n, lack.bytes))
			return update_fail_as(n, RESULT_NO_SPACE, -ENOSPC, "%s", lack.why);
	}
}

int room_check(struct node *n)
{
	struct need need = { .bytes = 0 };
	struct data_size data;
	int r;

	r = update_measure_data(n, &data);
	if (r < 0)
		return r;
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		const struct release_artifact *a = *p.has_release ? full_artifact(p.release) : NULL;

		if (!*p.has_release || node_has_version(n, p.component, p.to))
			continue;
		if (!a)
			return update_fail(n, -ERR_AGENT_TOO_OLD,
					   "it offers only deltas, which this agent cannot apply yet");
		need.bytes = add_up(need.bytes, add_up(p.release->installed_size, a->length));
		need.files = add_up(need.files, p.release->files);
		need.asked = add_up(need.asked, p.release->requires_free_bytes);
	}
	need.bytes = add_up(need.bytes, data.bytes);
	need.files = add_up(need.files, data.files);
	return need.bytes == 0 && need.files == 0 ? 0 : make_room(n, n->dirs->store, &need);
}

int room_check_copy(struct node *n)
{
	struct need need = { .bytes = 0 };
	struct data_size data;
	int r = update_measure_data(n, &data);

	if (r < 0 || data.bytes == 0)
		return r;
	need.bytes = data.bytes;
	return make_room(n, n->dirs->saved, &need);
}
