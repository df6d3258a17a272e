#include "base/err.h"
#include "json/build.h"
#include "json/json.h"
#include "server-stub/cli/serve.h"
#include "server-stub/cli/serve_answer.h"
#include "server-stub/cli/serve_handlers.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/repo/repo.h"
#include "server-stub/signer/client.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum { PEM_MAX = 64 * 1024, NAMES_MAX = 16, NAME_BYTES = 300 };

static int write_name(void *user, const struct db_node *row)
{
	node_string(user, NULL, row->node);
	return 0;
}

static int write_removed(void *user, const char *node)
{
	node_string(user, NULL, node);
	return 0;
}

void broker_get(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf ca = BUF_INIT(PEM_MAX);
	struct serve *s = user;
	int r;

	if (!trust_is_there(s, rq))
		return;
	r = repo_ca_pem(s->repo, &ca);
	if (r < 0) {
		web_fail(rq, 503, "the CAs of this fleet cannot be read: %s", repo_error(s->repo));
		return;
	}
	node_string(json_build_root(b), "ca", buf_str(&ca));
	node_string(json_build_root(b), "fleet", s->fleet);
	r = db_nodes(s->db, NULL, write_name, node_array(json_build_root(b), "nodes"));
	if (r == 0)
		r = db_removed(s->db, write_removed, node_array(json_build_root(b), "removed"));
	if (r < 0)
		fail_database(s, rq, r);
	else
		answer(rq, 200, b);
}

/* "IP:1.2.3.4" or "DNS:name", as the signer takes them. */
static void kind_of_name(const char *name, char out[static NAME_BYTES])
{
	uint8_t address[16];
	bool ip = inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;

	(void) snprintf(out, NAME_BYTES, "%s%s",
			ip ? "IP:" : "DNS:", name); /* one that is cut is refused by its length */
}

void broker_post(void *user, struct web_request *rq)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *doc = body_of(rq);
	CLEANUP(buf_done)
	struct buf certificate = BUF_INIT(PEM_MAX), ca = BUF_INIT(PEM_MAX);
	struct serve *s = user;
	const struct json *names;
	const char *list[NAMES_MAX], *public_pem;
	char texts[NAMES_MAX][NAME_BYTES];
	size_t count;
	int r;

	if (!doc || !trust_is_there(s, rq))
		return;
	names = json_get(doc, "names");
	public_pem = json_string(json_get(doc, "public"));
	count = json_count(names);
	if (!public_pem || count == 0 || count > NAMES_MAX) {
		web_fail(rq, 400, "'public' is the broker's public key in PEM, 'names' a list of 1 to %d names",
			 NAMES_MAX);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		const char *name = json_string(json_at(names, i));

		kind_of_name(name ? name : "", texts[i]);
		list[i] = texts[i];
	}
	r = signer_certify_server(s->signer, public_pem, list, count, &certificate);
	if (r == 0)
		r = repo_ca_pem(s->repo, &ca);
	if (r == 0)
		r = serve_record(s, "broker-certificate", NULL, NULL, "a broker got a certificate", by_of(doc),
				 "broker-certificate", texts[0]);
	if (r < 0) {
		web_fail(rq, 422, "no certificate for the broker: %s (%s)", err_text(r), signer_error(s->signer));
		return;
	}
	node_string(json_build_root(b), "certificate", buf_str(&certificate));
	node_string(json_build_root(b), "ca", buf_str(&ca));
	answer(rq, 201, b);
}
