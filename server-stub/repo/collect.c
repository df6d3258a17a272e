#include "base/err.h"
#include "json/json.h"
#include "os/durable.h"
#include "server-stub/repo/folder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { KEEP_S = 21 * 86400, UPLOAD_KEEP_S = 2 * 86400 }; /* the longest snapshot life and 7 days */

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && str_eq(s + n - m, end);
}

static int64_t file_time(struct repo *r, int dirfd, const char *name, int64_t otherwise)
{
	struct stat st;

	return r->os->fstatat(r->os, dirfd, name, &st) < 0 ? otherwise : (int64_t) st.st_mtime;
}

/* "12.rollouts.json" -> 12 and "rollouts"; false for anything else. */
static bool split(const char *file, uint64_t *ret_version, char role[static ID_MAX + 1])
{
	size_t digits = strspn(file, "0123456789"), len;
	char number[24];

	if (digits == 0 || digits >= sizeof(number) || file[digits] != '.' || !ends_with(file, ".json"))
		return false;
	memcpy(number, file, digits);
	number[digits] = '\0';
	len = strlen(file + digits + 1);
	if (parse_u64(number, ret_version) < 0 || len <= 5 || len - 5 > ID_MAX)
		return false;
	memcpy(role, file + digits + 1, len - 5);
	role[len - 5] = '\0';
	return true;
}

/* When the version after `version` of a role was written; `now` if there is none. */
static int64_t superseded_at(struct repo *r, int fd, const struct name_list *names, const char *role,
			     uint64_t version, int64_t now)
{
	uint64_t next = UINT64_MAX, v;
	int64_t at = now;
	char name[ID_MAX + 1];

	for (size_t i = 0; i < names->count; i++)
		if (split(names->names[i], &v, name) && str_eq(name, role) && v > version && v < next) {
			next = v;
			at = file_time(r, fd, names->names[i], now);
		}
	return at;
}

/* Add the hashes a metadata file lists to the text `ret`, one a line. */
static int note_listed(struct repo *r, int fd, const char *file, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct json *targets;
	int e = file_read(r->os, fd, file, ROLE_FILE_MAX, &bytes);

	if (e >= 0)
		e = json_parse(bytes.data, bytes.len, &json_limits_default, &doc);
	targets = json_get(json_get(doc, "signed"), "targets");
	for (size_t i = 0; e >= 0 && i < json_count(targets); i++) {
		const char *sha256 = json_string(json_get(json_get(json_at(targets, i), "hashes"), "sha256"));

		e = sha256 ? buf_addf(ret, "%s\n", sha256) : 0;
	}
	return e;
}

static bool is_kept(const struct repo *r, const char *role, uint64_t version)
{
	const struct role_file *f = role_set_get(&r->roles, role);

	return str_eq(role, "root") || !f || version >= f->version;
}

static int collect_metadata(struct repo *r, int fd, int64_t now, struct buf *ret_listed)
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };
	int e = dir_list(r->os, fd, ".", &names);

	for (size_t i = 0; e >= 0 && i < names.count; i++) {
		const char *file = names.names[i];
		char role[ID_MAX + 1];
		uint64_t version;

		if (ends_with(file, ".pending")) {
			if (now - file_time(r, fd, file, now) > UPLOAD_KEEP_S)
				e = r->os->unlinkat(r->os, fd, file, 0);
			continue;
		}
		if (!split(file, &version, role))
			continue;
		if (!is_kept(r, role, version) && now - superseded_at(r, fd, &names, role, version, now) > KEEP_S)
			e = r->os->unlinkat(r->os, fd, file, 0);
		else if (str_eq(role, "rollouts") || str_eq(role, "support") || str_eq(role, "inventory"))
			e = note_listed(r, fd, file, ret_listed);
	}
	return e;
}

static int collect_documents(struct repo *r, const char *folder, const struct buf *listed, int64_t now)
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };
	int e, fd = dir_open(r->os, r->repofd, folder);

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	e = dir_list(r->os, fd, ".", &names);
	for (size_t i = 0; e >= 0 && i < names.count; i++) {
		char sha256[SHA256_HEX + 2];

		if (strcspn(names.names[i], ".") != SHA256_HEX)
			continue;
		memcpy(sha256, names.names[i], SHA256_HEX);
		sha256[SHA256_HEX] = '\n';
		sha256[SHA256_HEX + 1] = '\0';
		if (!strstr(buf_str(listed), sha256) && now - file_time(r, fd, names.names[i], now) > KEEP_S)
			e = r->os->unlinkat(r->os, fd, names.names[i], 0);
	}
	(void) r->os->close(r->os, fd); /* a folder */
	return e;
}

/* Uploads nobody published, and rehearsals a crash left behind. */
static int collect_leftovers(struct repo *r, int64_t now)
{
	static const char *const folders[] = { "serve/uploads", "serve" };
	int e = 0;

	for (size_t k = 0; e >= 0 && k < ARRAY_LEN(folders); k++) {
		CLEANUP(name_list_done)
		struct name_list names = { 0 };
		int fd = dir_open(r->os, r->dirfd, folders[k]);

		if (fd < 0)
			return fd == -ENOENT ? 0 : fd;
		e = dir_list(r->os, fd, ".", &names);
		for (size_t i = 0; e >= 0 && i < names.count; i++)
			if ((k == 0 || str_starts(names.names[i], "rehearsal-")) &&
			    now - file_time(r, fd, names.names[i], now) > UPLOAD_KEEP_S)
				e = tree_remove(r->os, fd, names.names[i]);
		(void) r->os->close(r->os, fd); /* a folder */
	}
	return e;
}

int repo_collect(struct repo *r, int64_t now)
{
	static const char *const folders[] = { "targets/rollouts", "targets/nodes", "targets/inventory" };
	CLEANUP(buf_done)
	struct buf listed = BUF_INIT(256 * 1024 * 1024);
	int e, fd = dir_open(r->os, r->repofd, "metadata");

	if (fd < 0)
		return repo_fail(r, fd, "metadata/: %s", err_text(fd));
	e = collect_metadata(r, fd, now, &listed);
	(void) r->os->close(r->os, fd); /* a folder */
	for (size_t i = 0; e >= 0 && i < ARRAY_LEN(folders); i++)
		e = collect_documents(r, folders[i], &listed, now);
	if (e >= 0)
		e = collect_leftovers(r, now);
	return e < 0 ? repo_fail(r, e, "superseded files cannot be removed: %s", err_text(e)) : 0;
}
