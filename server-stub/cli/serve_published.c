/*
 * What is published: handed out to nodes as it lies in the folder, read and added to by `selfright`.
 */
#include "base/err.h"
#include "base/log.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db.h"
#include "server-stub/repo/repo.h"
#include "server-stub/signer/signer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void metadata_get(void *user, struct web_request *rq)
{
	struct serve *s = user;
	char path[1100];

	snprintf(path, sizeof(path), "metadata/%s", web_arg(rq, 0));
	web_file(rq, s->repo_dirfd, path);
}

void targets_get(void *user, struct web_request *rq)
{
	struct serve *s = user;
	char path[1100];

	snprintf(path, sizeof(path), "targets/%s", web_arg(rq, 0));
	web_file(rq, s->repo_dirfd, path);
}

static int add_file(void *user, const char *role, const void *bytes, size_t len)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(SERVE_METADATA_MAX);
	int r = buf_add(&text, bytes, len);

	if (r == 0)
		node_string(user, role, buf_str(&text));
	return r;
}

/* {"valid": seconds}: what is published, signed for that long; `selfright bundle` packs it. */
void bundle_post(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	uint64_t valid = 0;
	int r;

	if (!doc || !trust_is_there(s, rq))
		return;
	if (json_need_u64(doc, "valid", 3600, SIGNER_BUNDLE_LIFE_MAX, &valid) < 0) {
		web_fail(rq, 400, "'valid' is a number of seconds, from an hour to 366 days");
		return;
	}
	r = repo_sign_bundle(s->repo, valid, add_file, node_object(json_build_root(b), "files"));
	if (r < 0) {
		web_fail(rq, r == -ERR_REFUSED ? 403 : 503, "%s", repo_error(s->repo));
		return;
	}
	trust_announce(s, NULL);
	log_notice("bundle-signed", "seconds=%llu", (unsigned long long) valid);
	answer(rq, 200, b);
}

void upload_put(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();

	(void) user;
	node_string(json_build_root(b), "sha256", web_arg(rq, 0));
	answer(rq, 201, b);
}

void publish_post(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *role, *metadata;
	char text[300];
	int r;

	if (!doc || !trust_is_there(s, rq))
		return;
	role = json_string(json_get(doc, "role"));
	metadata = json_string(json_get(doc, "metadata"));
	if (!guard_id(role) || !metadata) {
		web_fail(rq, 400, "'role' and 'metadata' (the signed file as text) are needed");
		return;
	}
	r = repo_publish_role(s->repo, role, metadata, strlen(metadata));
	if (r < 0) {
		web_fail(rq, err_class(r) == ERR_CLASS_RETRY ? 503 : 422, "%s", repo_error(s->repo));
		return;
	}
	snprintf(text, sizeof(text), "new metadata of the role %s is published", role);
	r = serve_record(s, "published", NULL, NULL, text, by_of(doc), "publish-role", role);
	if (r < 0)
		log_error("record-failed", "a publication is not in the timeline: %s", db_error(s->db));
	trust_announce(s, NULL);
	log_notice("role-published", "role=%s", role);
	node_string(json_build_root(b), "role", role);
	answer(rq, 200, b);
}

void target_get(void *user, struct web_request *rq)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(SERVE_TEXT_MAX);
	struct serve *s = user;
	const char *path = web_query(rq, "path");
	int r;

	if (!guard_path(path)) {
		web_fail(rq, 400, "?path= names a target, e.g. web/policy.json");
		return;
	}
	if (!trust_is_there(s, rq))
		return;
	r = repo_read_target(s->repo, path, &text);
	if (r == -ENOENT)
		web_fail(rq, 404, "no trusted role lists %s", path);
	else if (r < 0)
		web_fail(rq, 500, "%s", repo_error(s->repo));
	else
		web_reply(rq, 200, "application/json", text.data, text.len);
}
