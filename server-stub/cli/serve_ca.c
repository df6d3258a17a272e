#include "base/err.h"
#include "base/log.h"
#include "crypto/certificate.h"
#include "json/build.h"
#include "json/json.h"
#include "model/report.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/repo/repo.h"
#include "server-stub/signer/client.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { METADATA_MAX = 8 * 1024 * 1024, SENTENCE = 1200 };

/* --- who has what --- */

/* What one CA means to the fleet: by the newest report of each node, which its identity key signed. */
struct standing {
	const struct certificate_bundle *have; /* of the signer, the one that issues first */
	uint64_t nodes, silent; /* silent: never said what it trusts (an older agent, or no report yet) */
	uint64_t trusted[CERTIFICATE_BUNDLE_MAX], issued[CERTIFICATE_BUNDLE_MAX];
	struct json_node *list; /* rows, one for each node; NULL: none are wanted */
};

static void count_ca(struct standing *t, const struct report_ca *ca)
{
	for (size_t i = 0; i < t->have->count; i++) {
		t->trusted[i] += string_list_has(&ca->trusted, t->have->items[i].sha256);
		t->issued[i] += ca->issuer && str_eq(ca->issuer, t->have->items[i].sha256);
	}
}

static void write_row(struct standing *t, const char *node, const struct report_ca *ca)
{
	struct json_node *o, *list;

	if (!t->list)
		return;
	o = node_object(t->list, NULL);
	node_string(o, "node", node);
	node_bool(o, "told", ca && ca->told);
	list = node_array(o, "trusted");
	for (size_t i = 0; ca && i < ca->trusted.count; i++)
		node_string(list, NULL, ca->trusted.items[i]);
	if (ca && ca->issuer)
		node_string(o, "issuer", ca->issuer);
}

static int look_at_node(void *user, const struct db_node *row)
{
	struct standing *t = user;
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(report_done)
	struct report report = { .sequence = 0 };
	int r = row->report ? json_parse(row->report, strlen(row->report), &json_limits_default, &doc) : -ENOENT;

	t->nodes++;
	if (r == 0)
		r = report_parse(doc, &report, NULL);
	if (r == -ENOMEM)
		return r;
	/* What cannot be read was stored by another version of us: as good as not said. */
	if (r < 0 || !report.ca.told)
		t->silent++;
	else
		count_ca(t, &report.ca);
	write_row(t, row->node, r < 0 ? NULL : &report.ca);
	return 0;
}

static int load(struct serve *s, struct json **ret_status, struct certificate_bundle *ret_have)
{
	const char *pem;
	int r = signer_status(s->signer, ret_status);

	if (r < 0)
		return r;
	pem = json_string(json_get(*ret_status, "ca"));
	return pem ? certificate_bundle_read(pem, ret_have) : -ENOENT;
}

/* What targets say by now: `ca` of x-selfright, as nodes read it. */
static int published(struct serve *s, struct json **ret)
{
	CLEANUP(buf_done)
	struct buf targets = BUF_INIT(METADATA_MAX);
	int r = repo_read_role(s->repo, "targets", &targets);

	return r < 0 ? r : json_parse(targets.data, targets.len, &json_limits_default, ret);
}

static void write_authority(struct json_node *list, const struct standing *t, const struct tuf_ca *said, size_t i)
{
	const struct bundled_certificate *c = &t->have->items[i];
	struct certificate_info info = { .common_name = "" };
	struct json_node *o = node_object(list, NULL);

	node_string(o, "sha256", c->sha256);
	node_string(o, "pem", c->pem);
	if (certificate_read(c->pem, &info) == 0) { /* ours can be read; without it there are dates missing */
		node_string(o, "name", info.common_name);
		node_time(o, "expires", info.not_after);
	}
	node_bool(o, "issues", i == 0);
	node_bool(o, "announced", certificate_bundle_find(&said->trusted, c->sha256) != NULL);
	node_integer(o, "trusted_by", (int64_t) t->trusted[i]);
	node_integer(o, "issued_to", (int64_t) t->issued[i]);
}

void ca_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(certificate_bundle_done)
	struct certificate_bundle have = { .count = 0 };
	CLEANUP(json_freep)
	struct json *targets = NULL;
	CLEANUP(json_freep)
	struct json *status = NULL;
	CLEANUP(tuf_ca_done)
	struct tuf_ca said = { .retired_count = 0 };
	struct standing t = { .have = &have };
	struct serve *s = user;
	struct json_node *o = json_build_root(b), *list;
	int r;

	if (!trust_is_there(s, rq))
		return;
	r = load(s, &status, &have);
	if (r == 0)
		r = published(s, &targets);
	if (r < 0) {
		web_fail(rq, 503, "the CAs of this fleet cannot be read: %s", err_text(r));
		return;
	}
	r = tuf_ca_load(json_get(json_get(targets, "signed"), "x-selfright"), &said);
	if (r < 0 && r != -ERR_NOT_LISTED) {
		web_fail(rq, 500, "what targets say of CAs makes no sense: %s", err_text(r));
		return;
	}
	t.list = node_array(o, "nodes");
	r = db_nodes(s->db, NULL, look_at_node, &t);
	if (r < 0 && r != -ENOENT) {
		fail_database(s, rq, r);
		return;
	}
	list = node_array(o, "authorities");
	for (size_t i = 0; i < have.count; i++)
		write_authority(list, &t, &said, i);
	list = node_array(o, "announced");
	for (size_t i = 0; i < said.trusted.count; i++)
		node_string(list, NULL, said.trusted.items[i].sha256);
	list = node_array(o, "retired");
	for (size_t i = 0; i < said.retired_count; i++)
		node_string(list, NULL, said.retired[i]);
	node_string(o, "newest", json_string(json_get(status, "ca_newest")));
	node_integer(o, "node_count", (int64_t) t.nodes);
	node_integer(o, "silent", (int64_t) t.silent);
	node_bool(o, "own_broker", s->options.broker_host == NULL);
	answer(rq, 200, b);
}

/* --- change --- */

/* POST /v1/ca {"do":"begin"|"switch"|"retire","sha256","by","reason"} */
void ca_post(void *user, struct web_request *rq)
{
	static const struct {
		const char *what, *action, *sentence;
	} rows[] = {
		{ "begin", "ca-begin", "another CA is here; it issues nothing yet" },
		{ "switch", "ca-switch", "another CA issues certificates from now on" },
		{ "retire", "ca-retire", "an old CA is put away" },
	};
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	struct serve *s = user;
	const char *what = doc ? text_field(rq, doc, "do") : NULL, *sha256, *reason;
	char text[SENTENCE];
	size_t i;
	int r;

	if (!what || !trust_is_there(s, rq))
		return;
	sha256 = json_string(json_get(doc, "sha256"));
	reason = json_string(json_get(doc, "reason"));
	for (i = 0; i < ARRAY_LEN(rows) && !str_eq(rows[i].what, what); i++)
		;
	if (i == ARRAY_LEN(rows) || (i > 0 && !sha256)) {
		web_fail(rq, 400, "'do' is begin, switch or retire, with the 'sha256' of the CA");
		return;
	}
	r = signer_change_ca(s->signer, what, i == 0 ? NULL : sha256);
	if (r < 0) {
		web_fail(rq, 422, "%s", signer_error(s->signer));
		return;
	}
	/* What the broker takes, and what the servers show. */
	s->certificate_due = true;
	snprintf(text, sizeof(text), "%s%s%.64s%s%.1000s", rows[i].sentence, i > 0 ? ": " : "",
		 i > 0 ? sha256 : "", reason ? ": " : "", reason ? reason : "");
	r = db_begin(s->db);
	if (r == 0)
		r = serve_record(s, rows[i].action, NULL, NULL, text, by_of(doc), rows[i].action,
				 i > 0 ? sha256 : "");
	if (r == 0)
		r = db_commit(s->db);
	db_abort(s->db);
	if (r < 0) {
		fail_database(s, rq, r);
		return;
	}
	log_notice("ca-changed", "%s", text);
	node_string(json_build_root(b), "done", what);
	answer(rq, 200, b);
}
