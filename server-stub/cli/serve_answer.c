#include "server-stub/cli/serve_answer.h"

#include "base/err.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/serve.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_enrolments.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/repo/repo.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { TEXT_FIELD_MAX = 1000 };

void answer(struct web_request *rq, unsigned status, struct json_build *b)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CLI_ANSWER_MAX); /* what the desk takes */
	int r = json_build_text(b, false, &text);

	if (r < 0)
		web_fail(rq, 500, "the answer cannot be written: %s", err_text(r));
	else
		web_reply(rq, status, "application/json", text.data, text.len);
}

void fail_database(struct serve *s, struct web_request *rq, int r)
{
	log_error("database-failed", "%s: %s", err_text(r), db_error(s->db));
	web_fail(rq, 500, "the database refused: %s", err_text(r));
}

struct json *body_of(struct web_request *rq)
{
	struct json *doc = NULL;
	size_t len;
	const void *text = web_body(rq, &len);
	int r = json_parse(text, len, &json_limits_default, &doc);

	if (r < 0) {
		web_fail(rq, 400, "the body is no JSON document: %s", err_text(r));
		return NULL;
	}
	if (!json_is(doc, JSON_OBJECT)) {
		json_free(doc);
		web_fail(rq, 400, "the body is no JSON object");
		return NULL;
	}
	return doc;
}

const char *text_field(struct web_request *rq, const struct json *doc, const char *name)
{
	const char *text = json_string(json_get(doc, name));

	if (!text || !*text || strlen(text) > TEXT_FIELD_MAX) {
		web_fail(rq, 400, "'%s' is needed, a text of at most %d bytes", name, TEXT_FIELD_MAX);
		return NULL;
	}
	for (const char *p = text; *p; p++)
		if ((unsigned char) *p < 0x20 || *p == 0x7f) {
			web_fail(rq, 400, "'%s' holds control characters", name);
			return NULL;
		}
	return text;
}

const char *by_of(const struct json *doc)
{
	const char *by = json_string(json_get(doc, "by"));

	return by && *by && strlen(by) <= 100 ? by : "unknown";
}

const char *id_arg(struct web_request *rq, size_t index, const char *what)
{
	const char *id = web_arg(rq, index);

	if (guard_id(id))
		return id;
	web_fail(rq, 400, "this is no %s's name: lower-case letters, digits and '-', at most 63", what);
	return NULL;
}

void node_time(struct json_node *o, const char *name, int64_t at)
{
	char stamp[TIMESTAMP_LEN + 1];

	if (at == 0) {
		node_null(o, name);
		return;
	}
	timestamp_format(stamp, at);
	node_string(o, name, stamp);
}

int node_json(struct json_node *o, const char *name, const char *text)
{
	CLEANUP(json_freep)
	struct json *j = NULL;
	int r = json_parse(text, strlen(text), &json_limits_default, &j);

	if (r == 0)
		node_copy(o, name, j);
	return r;
}

static void say_published(struct serve *s, struct web_request *rq, unsigned status, struct json_build *b, int r)
{
	node_bool(json_build_root(b), "published", r == 0);
	if (r < 0)
		node_string(json_build_root(b), "publish_error",
			    !s->repo		     ? "the signer is away"
			    : !broker_is_compared(s) ? "what the broker keeps is not compared yet"
						     : repo_error(s->repo));
	answer(rq, status, b);
}

void publish_and_answer(struct serve *s, struct web_request *rq, unsigned status, struct json_build *b)
{
	say_published(s, rq, status, b, control_publish_now(s));
}

void publish_orders_and_answer(struct serve *s, struct web_request *rq, unsigned status, struct json_build *b,
			       const char *node)
{
	say_published(s, rq, status, b, control_publish_orders(s, node));
}

bool trust_is_there(struct serve *s, struct web_request *rq)
{
	if (s->repo && s->signer && broker_is_compared(s))
		return true;
	if (s->repo && s->signer) {
		web_fail(rq, 503,
			 "nothing is signed before what the broker keeps was compared; try again in a moment");
		return false;
	}
	web_fail(rq, 503, "the signer is away; it is being started again");
	return false;
}

static int nothing(void *user, const struct db_node *row)
{
	(void) user;
	(void) row;
	return 0;
}

int node_exists(struct serve *s, const char *node)
{
	return db_nodes(s->db, node, nothing, NULL);
}

static int is_there(void *user, const struct db_enrolment *row)
{
	(void) row;
	*(bool *) user = true;
	return 0;
}

const char *node_absence(struct serve *s, const char *node)
{
	bool added = false;

	return db_enrolments(s->db, node, is_there, &added) == 0 && added
		       ? "has not joined yet: its agent has to start once with its join file, and reach this fleet"
		       : NULL;
}

void node_fail_absent(struct serve *s, struct web_request *rq, const char *node)
{
	const char *absence = node_absence(s, node);

	if (absence)
		web_fail(rq, 404, "the node '%s' %s", node, absence);
	else
		web_fail(rq, 404, "there is no node '%s'; selfright node list shows all, node add makes one",
			 node);
}

bool node_is_known(struct serve *s, struct web_request *rq, const char *node)
{
	int r = node ? node_exists(s, node) : 0;

	if (!node)
		return false;
	if (r == 0)
		return true;
	if (r == -ENOENT)
		node_fail_absent(s, rq, node);
	else
		fail_database(s, rq, r);
	return false;
}

int64_t until_field(struct serve *s, struct web_request *rq, const struct json *doc, int64_t max_s)
{
	const char *text = json_string(json_get(doc, "until"));
	int64_t until;

	if (!text || timestamp_parse(text, &until) < 0) {
		web_fail(rq, 400, "'until' is a time like 2026-11-21T18:00:00Z");
		return 0;
	}
	if (until <= serve_now(s) || until > serve_now(s) + max_s) {
		web_fail(rq, 400, "'until' lies in the future, at most %" PRId64 " days away", max_s / 86400);
		return 0;
	}
	return until;
}
