#include "agent/link/trial.h"

#include "base/err.h"
#include "json/build.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The next file that can be asked for; false: there is none. */
static bool look(struct trial *t, struct blobs *b)
{
	for (; t->at < t->count; t->at++) {
		int r = blobs_look(b, t->id, t->files[t->at].name);

		if (r == 0)
			return true;
		t->files[t->at].error = r;
	}
	return false;
}

int trial_begin(struct trial *t, struct blobs *b, uint32_t id, const char *artifact)
{
	*t = (struct trial){ .id = id, .count = artifact[0] ? 2 : 1 };
	if (strlen(artifact) > BLOB_NAME_MAX)
		return -ERR_NAME;
	(void) snprintf(t->files[0].name, sizeof(t->files[0].name), "metadata/timestamp.json");
	(void) snprintf(t->files[1].name, sizeof(t->files[1].name), "%s", artifact); /* fits */
	return look(t, b) ? 0 : t->files[0].error;
}

bool trial_go_on(struct trial *t, struct blobs *b, int error, uint64_t ms)
{
	t->files[t->at].error = error;
	t->files[t->at].ms = ms;
	t->at++;
	/* Where the one is not answered the other costs a second patience and tells nothing new. */
	if (error != 0)
		t->count = t->at;
	return !look(t, b);
}

int trial_text(const struct trial *t, const struct trial_link *link, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *root = json_build_root(b), *list;

	node_bool(root, "connected", link->connected);
	node_string(root, "words", link->words);
	node_bool(root, "retained", link->retained);
	node_integer(root, "for_s", (int64_t) (link->for_ms / 1000));
	node_integer(root, "heard_s", (int64_t) (link->heard_ms / 1000));
	list = node_array(root, "files");
	for (size_t i = 0; i < t->count; i++) {
		struct json_node *file = node_object(list, NULL);

		node_string(file, "name", t->files[i].name);
		node_integer(file, "error", -(int64_t) t->files[i].error);
		node_integer(file, "ms", (int64_t) t->files[i].ms);
	}
	return json_build_text(b, false, out);
}
