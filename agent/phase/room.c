#include "agent/phase/room.h"

#include "agent/phase/node.h"
#include "agent/store/space.h"
#include "base/err.h"

#include <errno.h>
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

/* Of the whole folder, data and copies included; unlike the free space it needs no margin. */
static int check_quota(struct node *n, uint64_t need)
{
	struct space used;
	int r;

	if (n->config->quota_bytes == 0)
		return 0;
	r = space_used(n->os, n->dirs->root, &used);
	if (r < 0)
		return update_fail(n, r, "what %s takes could not be counted: %s", n->config->root, err_text(r));
	if (add_up(used.bytes, need) > n->config->quota_bytes)
		return update_fail_as(
			n, RESULT_NO_SPACE, -ENOSPC,
			"it needs %llu bytes; the folder takes %llu of the %llu that its quota allows",
			(unsigned long long) need, (unsigned long long) used.bytes,
			(unsigned long long) n->config->quota_bytes);
	return 0;
}

int room_check(struct node *n)
{
	struct data_size data;
	struct statvfs v;
	uint64_t have, need = 0, files = 0, asked = 0;
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
		need = add_up(need, add_up(p.release->installed_size, a->length));
		files = add_up(files, p.release->files);
		asked = add_up(asked, p.release->requires_free_bytes);
	}
	need = add_up(need, data.bytes);
	files = add_up(files, data.files);
	if (need == 0 && files == 0)
		return 0;
	r = check_quota(n, need);
	if (r < 0)
		return r;
	r = n->os->fstatvfs(n->os, n->dirs->store, &v);
	if (r < 0)
		return update_fail(n, r, "the free space could not be read: %s", err_text(r));
	have = (uint64_t) v.f_bavail * v.f_frsize;
	if (add_up(need, SPACE_MARGIN_BYTES) > have || asked > have)
		return update_fail_as(n, RESULT_NO_SPACE, -ENOSPC,
				      "it needs %llu bytes and a margin; %llu are free",
				      (unsigned long long) (need > asked ? need : asked),
				      (unsigned long long) have);
	/* Some file systems have no fixed number of files: they say 0 of 0. */
	if (v.f_files > 0 && v.f_favail < add_up(files, FILES_MARGIN))
		return update_fail_as(n, RESULT_NO_SPACE, -ENOSPC,
				      "it needs %llu files; the file system has room for %llu",
				      (unsigned long long) files, (unsigned long long) v.f_favail);
	return 0;
}
