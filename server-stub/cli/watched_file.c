#include "server-stub/cli/watched_file.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

bool watched_file_changed(struct watched_file *w, const char *dir, const char *name)
{
	char path[PATH_MAX];
	struct stat st;
	struct watched_file now = { .there = snprintf(path, sizeof(path), "%s/%s", dir, name) < PATH_MAX &&
					     stat(path, &st) == 0 };

	if (now.there) {
		now.size = (int64_t) st.st_size;
		now.changed_s = (int64_t) st.st_mtim.tv_sec;
		now.changed_ns = (int64_t) st.st_mtim.tv_nsec;
		now.inode = (uint64_t) st.st_ino;
	}
	if (now.there == w->there && now.size == w->size && now.changed_s == w->changed_s &&
	    now.changed_ns == w->changed_ns && now.inode == w->inode)
		return false;
	*w = now;
	return true;
}
