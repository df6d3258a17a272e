#include "server-stub/repo/plans.h"

#include "base/err.h"
#include "base/text.h"
#include "os/durable.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static const char folder[] = "plans", ending[] = ".json";

static int path_of(const char *id, char out[static ID_MAX + 32])
{
	if (!guard_id(id))
		return -ERR_NAME;
	snprintf(out, ID_MAX + 32, "%s/%s%s", folder, id, ending);
	return 0;
}

int plans_keep(const struct os *os, int repofd, const char *id, const void *plan, size_t len,
	       char ret_sha256[static SHA256_HEX + 1])
{
	CLEANUP(buf_done)
	struct buf before = BUF_INIT(PLAN_FILE_MAX);
	char path[ID_MAX + 32], sha256[SHA256_HEX + 1];
	int r = path_of(id, path);

	if (r == 0 && len > PLAN_FILE_MAX)
		r = -ERR_TOO_LARGE;
	if (r == 0)
		r = sha256_hex(plan, len, sha256);
	if (r < 0)
		return r;
	r = file_read(os, repofd, path, PLAN_FILE_MAX, &before);
	if (r == -ENOMEM)
		return r;
	if (r < 0 || before.len != len || (len && memcmp(before.data, plan, len) != 0)) {
		r = durable_mkdir(os, repofd, folder, 0750);
		if (r == 0)
			r = durable_write_file(os, repofd, path, plan, len, 0640);
	}
	if (r == 0)
		memcpy(ret_sha256, sha256, sizeof(sha256));
	return r;
}

int plans_read(const struct os *os, int repofd, const char *id, const char *sha256, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(PLAN_FILE_MAX);
	char path[ID_MAX + 32], found[SHA256_HEX + 1];
	int r = path_of(id, path);

	if (r == 0)
		r = file_read(os, repofd, path, PLAN_FILE_MAX, &text);
	if (r == 0)
		r = sha256_hex(text.data, text.len, found);
	if (r == 0 && !str_eq(found, sha256))
		r = -ERR_DIGEST;
	return r < 0 ? r : buf_add(ret, text.data, text.len);
}

/* "late.json" -> "late"; false: it is no plan. */
static bool id_of(const char *name, char out[static ID_MAX + 1])
{
	size_t len = strlen(name), end = strlen(ending);

	if (len <= end || len - end > ID_MAX || strcmp(name + len - end, ending) != 0)
		return false;
	snprintf(out, ID_MAX + 1, "%.*s", (int) (len - end), name);
	return guard_id(out);
}

/* What a crash left of durable_write_file(). */
static bool is_pending(const char *name)
{
	static const char pending[] = ".pending";
	size_t len = strlen(name);

	return name[0] == '.' && len > sizeof(pending) && strcmp(name + len - strlen(pending), pending) == 0;
}

int plans_sweep(const struct os *os, int repofd, bool (*is_wanted)(const void *user, const char *id),
		const void *user)
{
	struct name_list names = { 0 };
	char path[NAME_MAX + sizeof(folder) + 1], id[ID_MAX + 1];
	int r = dir_list(os, repofd, folder, &names);

	for (size_t i = 0; r == 0 && i < names.count; i++) {
		if (id_of(names.names[i], id) ? is_wanted(user, id) : !is_pending(names.names[i]))
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, names.names[i]);
		r = os->unlinkat(os, repofd, path, 0);
	}
	name_list_done(&names);
	return r == -ENOENT ? 0 : r;
}
