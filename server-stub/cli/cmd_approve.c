/*
 * Approve a stage of a rollout: the statement is built here from the published document, shown, and signed
 * with a key that never leaves this machine. Where that machine reaches no controller, a request file goes there
 * and comes back: it holds the rollout's document, so that the statement is built and shown there all the same.
 */
#include "base/err.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "model/approval.h"
#include "os/os.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/fleet.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	KEY_FILE_MAX = 16 * 1024,
	DEFAULT_LIFE_S = 30 * 86400,
	REUSED_LIFE_S = 3600,
	SIGNATURE_MAX = 256,
	REQUEST_MAX = 4 * ROLLOUT_MAX_BYTES,
};

static const char *key_file, *passphrase_file, *expires_in, *request_file, *sign_file, *import_file, *output;
static struct cli_values stages;
static bool all_stages;

static int load_key(const struct cli *c, struct private_key **ret)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(KEY_FILE_MAX), passphrase = BUF_INIT(1024);
	const char *path = passphrase_file ? passphrase_file : getenv("SELFRIGHT_PASSPHRASE_FILE");
	int r = cli_read_file(c, key_file, KEY_FILE_MAX, &pem);

	if (r != CLI_OK)
		return r;
	if (path && *path) {
		r = cli_read_file(c, path, 1024, &passphrase);
		if (r != CLI_OK)
			return r;
		passphrase.len = strcspn(buf_str(&passphrase), "\r\n");
		if (passphrase.data)
			passphrase.data[passphrase.len] = '\0';
	}
	r = private_key_load(pem.data, pem.len, passphrase.len > 0 ? buf_str(&passphrase) : NULL, ret);
	if (pem.data)
		explicit_bzero(pem.data, pem.len);
	if (passphrase.data)
		explicit_bzero(passphrase.data, passphrase.len);
	return r < 0 ? cli_fail_error(c, r, "%s", key_file) : CLI_OK;
}

/* Approvers who sign after each other must sign the same words: one that is there already sets the time. */
static int64_t choose_expiry(const struct stage *stage, int64_t now, uint64_t life_s)
{
	int64_t wanted = now + (int64_t) (life_s ? life_s : DEFAULT_LIFE_S);
	int64_t least = now + (int64_t) (life_s ? life_s / 2 : REUSED_LIFE_S), best = 0;

	for (size_t i = 0; i < json_count(stage->approvals); i++) {
		struct approval a;

		if (approval_parse(json_at(stage->approvals, i), &a, NULL) < 0)
			continue;
		if (a.expires > best && a.expires >= least && (life_s == 0 || a.expires <= wanted))
			best = a.expires;
		approval_done(&a);
	}
	return best ? best : wanted;
}

/* Whoever signs sees every node that is named, and every label. */
static void say_whom(const struct cli *c, const struct stage *s)
{
	if (s->by_nodes) {
		cli_say(c, "  for the %zu node%s named", s->nodes.count, s->nodes.count == 1 ? "" : "s");
		for (size_t i = 0; i < s->nodes.count; i++)
			cli_say(c, "    %s", s->nodes.items[i]);
		return;
	}
	if (s->share >= SHARE_ALL)
		cli_say(c, "  for all nodes%s", s->labels.count > 0 ? " with all of these labels" : "");
	else
		cli_say(c, "  for %llu.%02llu %% of all nodes%s", (unsigned long long) (s->share / 100),
			(unsigned long long) (s->share % 100),
			s->labels.count > 0 ? " with all of these labels" : "");
	for (size_t i = 0; i < s->labels.count; i++)
		cli_say(c, "    %s=%s", s->labels.items[i].name, s->labels.items[i].value);
}

static void show_statement(const struct cli *c, const char *fleet, const struct rollout *r, const struct stage *s,
			   int64_t expires)
{
	char hex[SHA256_HEX + 1], stamp[TIMESTAMP_LEN + 1];

	hex_encode(hex, r->release.sha256, SHA256_BYTES);
	timestamp_format(stamp, expires);
	cli_say(c, "fleet %s, rollout %s (%s), stage %s", fleet, r->id, rollout_kind_name(r->kind), s->name);
	cli_say(c, "  release %s\n  sha256  %s", r->release.path, hex);
	for (size_t i = 0; i < r->with_count; i++)
		cli_say(c, "  with    %s", r->with[i].path);
	say_whom(c, s);
	for (size_t i = 0; i < r->overrides.count; i++)
		cli_say(c, "  overrides %s", r->overrides.items[i]);
	cli_say(c, "  this approval ends %s", stamp);
}

/* Into the array `list`. */
static int add_signature(const struct buf *statement, const struct private_key *key, struct json_node *list)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(KEY_FILE_MAX), described = BUF_INIT(KEY_FILE_MAX), sig = BUF_INIT(SIGNATURE_MAX);
	char keyid[SHA256_HEX + 1], hex[2 * SIGNATURE_MAX + 1];
	struct json_node *s;
	int r = private_key_public_pem(key, &pem);

	if (r == 0)
		r = tuf_key_describe(buf_str(&pem), &described, keyid);
	if (r == 0)
		r = private_key_sign(key, statement->data, statement->len, &sig);
	if (r < 0)
		return r;
	hex_encode(hex, sig.data, sig.len);
	s = node_object(list, NULL);
	node_string(s, "keyid", keyid);
	node_string(s, "sig", hex);
	return 0;
}

static void show_missing(const struct cli *c, const struct json *answer)
{
	const struct json *list = json_get(answer, "approvals");

	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i);
		int64_t valid = 0, threshold = 0;

		(void) json_integer(json_get(o, "valid"), &valid); /* only shown */
		(void) json_integer(json_get(o, "threshold"), &threshold); /* the same */
		cli_say(c, "  stage %s: %lld of %lld signatures of %s%s", fleet_text(o, "stage"),
			(long long) valid, (long long) threshold, fleet_text(o, "approver"),
			json_bool(json_get(o, "met"), false) ? ": approved" : "");
	}
}

/* `b` holds the signatures already. */
static int send_signatures(const struct cli *c, const char *rollout, const char *stage, const char *expires,
			   struct json_build *b, struct json **ret_answer)
{
	char path[ID_MAX + 64];

	node_string(json_build_root(b), "stage", stage);
	node_string(json_build_root(b), "expires", expires);
	(void) snprintf(path, sizeof(path), "/v1/rollouts/%s/approvals", rollout);
	return fleet_send(c, "POST", path, b, ret_answer);
}

static int approve_stage(const struct cli *c, const char *fleet, const struct rollout *rollout,
			 const struct stage *stage, const struct private_key *key, uint64_t life_s)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf statement = BUF_INIT(APPROVAL_STATEMENT_MAX);
	CLEANUP(json_freep)
	struct json *answer = NULL;
	int64_t expires = choose_expiry(stage, os_posix.clock_real(&os_posix), life_s);
	char stamp[TIMESTAMP_LEN + 1];
	int r;

	show_statement(c, fleet, rollout, stage, expires);
	r = approval_statement(fleet, rollout, stage, expires, &statement);
	if (r == 0)
		r = add_signature(&statement, key, node_array(json_build_root(b), "signatures"));
	if (r < 0)
		return cli_fail_error(c, r, "stage %s", stage->name);
	timestamp_format(stamp, expires);
	r = send_signatures(c, rollout->id, stage->name, stamp, b, &answer);
	if (r != CLI_OK)
		return r;
	cli_say(c, "signed with %s and sent:", key_file);
	show_missing(c, answer);
	fleet_say_published(c, answer);
	return CLI_OK;
}

static bool is_chosen(const char *name)
{
	for (size_t i = 0; i < stages.count; i++)
		if (str_eq(stages.items[i], name))
			return true;
	return all_stages;
}

/* --- a request that travels to the key and back --- */

static int write_request(const struct cli *c, const char *fleet, const struct rollout *rollout,
			 const struct json *document, uint64_t life_s)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(REQUEST_MAX);
	struct json_node *o = json_build_root(b), *list;
	char stamp[TIMESTAMP_LEN + 1];
	int r;

	node_string(o, "_type", "selfright-approval-request");
	node_string(o, "fleet", fleet);
	node_copy(o, "document", document);
	list = node_array(o, "stages");
	for (size_t i = 0; i < rollout->stage_count; i++) {
		const struct stage *stage = &rollout->stages[i];
		struct json_node *s;

		if (!is_chosen(stage->name))
			continue;
		s = node_object(list, NULL);
		timestamp_format(stamp, choose_expiry(stage, os_posix.clock_real(&os_posix), life_s));
		node_string(s, "name", stage->name);
		node_string(s, "expires", stamp);
		node_array(s, "signatures");
	}
	r = json_build_text(b, true, &text);
	if (r < 0)
		return cli_fail_error(c, r, "the request");
	r = cli_write_file(c, request_file, text.data, text.len, 0644);
	if (r == CLI_OK)
		cli_say(c, "the request is in %s; where the key is: selfright approve --sign %s --key FILE",
			request_file, request_file);
	return r;
}

struct request {
	struct json *doc;
	struct rollout rollout;
	const char *fleet;
};

static void request_done(struct request *q)
{
	rollout_done(&q->rollout);
	json_free(q->doc);
}

/* The file may come from anywhere: what it says is checked by what is shown, and by the controller and the nodes. */
static int read_request(const struct cli *c, const char *path, struct request *ret)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(REQUEST_MAX);
	char *error = NULL;
	int r = cli_read_file(c, path, REQUEST_MAX, &text);

	if (r != CLI_OK)
		return r;
	r = json_parse(text.data, text.len, &json_limits_default, &ret->doc);
	if (r < 0)
		return cli_fail_error(c, r, "%s", path);
	ret->fleet = json_string(json_get(ret->doc, "fleet"));
	if (!str_eq(json_string(json_get(ret->doc, "_type")), "selfright-approval-request") ||
	    !guard_id(ret->fleet) || json_count(json_get(ret->doc, "stages")) == 0)
		return cli_fail(c, CLI_USAGE, "%s is no request for an approval", path);
	r = rollout_parse(json_get(ret->doc, "document"), &ret->rollout, &error);
	if (r < 0) {
		r = cli_fail(c, CLI_USAGE, "%s: the rollout in it: %s", path, error ? error : err_text(r));
		free(error);
		return r;
	}
	return CLI_OK;
}

/* The stage a request's entry names, and until when its approval is meant to hold. */
static const struct stage *stage_of(const struct request *q, const struct json *entry, int64_t *ret_expires)
{
	const char *name = json_string(json_get(entry, "name")),
		   *expires = json_string(json_get(entry, "expires"));

	if (!expires || timestamp_parse(expires, ret_expires) < 0 ||
	    json_count(json_get(entry, "signatures")) > APPROVAL_SIGNATURES_MAX)
		return NULL;
	for (size_t i = 0; i < q->rollout.stage_count; i++)
		if (str_eq(q->rollout.stages[i].name, name))
			return &q->rollout.stages[i];
	return NULL;
}

/* One entry as it was, with one more signature. */
static int sign_entry(const struct cli *c, const struct request *q, const struct json *entry,
		      const struct private_key *key, struct json_node *list)
{
	CLEANUP(buf_done)
	struct buf statement = BUF_INIT(APPROVAL_STATEMENT_MAX);
	const struct json *before = json_get(entry, "signatures");
	struct json_node *o = node_object(list, NULL), *signatures;
	int64_t expires = 0;
	const struct stage *stage = stage_of(q, entry, &expires);
	int r;

	if (!stage)
		return cli_fail(c, CLI_USAGE, "the request names a stage or a time that is none");
	show_statement(c, q->fleet, &q->rollout, stage, expires);
	node_string(o, "name", stage->name);
	node_string(o, "expires", json_string(json_get(entry, "expires")));
	signatures = node_array(o, "signatures");
	for (size_t i = 0; i < json_count(before); i++)
		node_copy(signatures, NULL, json_at(before, i));
	r = approval_statement(q->fleet, &q->rollout, stage, expires, &statement);
	if (r == 0)
		r = add_signature(&statement, key, signatures);
	return r < 0 ? cli_fail_error(c, r, "stage %s", stage->name) : CLI_OK;
}

static int sign_request(const struct cli *c)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(REQUEST_MAX);
	struct json_node *o = json_build_root(b), *list;
	struct request q = { 0 };
	const struct json *entries;
	int r = read_request(c, sign_file, &q);

	if (r == CLI_OK)
		r = load_key(c, &key);
	if (r == CLI_OK) {
		node_string(o, "_type", "selfright-approval-request");
		node_string(o, "fleet", q.fleet);
		node_copy(o, "document", json_get(q.doc, "document"));
		list = node_array(o, "stages");
		entries = json_get(q.doc, "stages");
		for (size_t i = 0; r == CLI_OK && i < json_count(entries); i++)
			r = sign_entry(c, &q, json_at(entries, i), key, list);
	}
	if (r == CLI_OK && json_build_text(b, true, &text) < 0)
		r = cli_fail_error(c, -ENOMEM, "the request");
	if (r == CLI_OK)
		r = cli_write_file(c, output ? output : sign_file, text.data, text.len, 0644);
	if (r == CLI_OK)
		cli_say(c, "signed with %s; bring it back: selfright approve --import %s", key_file,
			output ? output : sign_file);
	request_done(&q);
	return r;
}

static int import_request(const struct cli *c)
{
	CLEANUP(buf_done)
	struct buf fleet = BUF_INIT(ID_MAX + 1);
	struct request q = { 0 };
	const struct json *entries;
	size_t sent = 0;
	int r = read_request(c, import_file, &q);

	if (r == CLI_OK) {
		r = cli_fleet_name(c, &fleet);
		r = r < 0 ? CLI_OK : r;
	}
	if (r == CLI_OK && !str_eq(q.fleet, buf_str(&fleet)))
		r = cli_fail(c, CLI_REFUSED, "%s is for the fleet %s, not %s", import_file, q.fleet,
			     buf_str(&fleet));
	entries = json_get(q.doc, "stages");
	for (size_t i = 0; r == CLI_OK && i < json_count(entries); i++) {
		CLEANUP(json_build_freep)
		struct json_build *b = json_build_new();
		CLEANUP(json_freep)
		struct json *answer = NULL;
		const struct json *entry = json_at(entries, i);
		int64_t expires = 0;

		if (!stage_of(&q, entry, &expires))
			r = cli_fail(c, CLI_USAGE, "the request names a stage or a time that is none");
		if (r != CLI_OK || json_count(json_get(entry, "signatures")) == 0)
			continue;
		node_copy(json_build_root(b), "signatures", json_get(entry, "signatures"));
		r = send_signatures(c, q.rollout.id, json_string(json_get(entry, "name")),
				    json_string(json_get(entry, "expires")), b, &answer);
		if (r == CLI_OK) {
			sent++;
			show_missing(c, answer);
			fleet_say_published(c, answer);
		}
	}
	if (r == CLI_OK && sent == 0)
		r = cli_fail(c, CLI_REFUSED, "%s carries no signature yet: selfright approve --sign", import_file);
	request_done(&q);
	return r;
}

static int approve(const struct cli *c, const struct rollout *rollout, const struct json *document)
{
	CLEANUP(buf_done)
	struct buf fleet = BUF_INIT(ID_MAX + 1);
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	uint64_t life_s = 0;
	size_t known = 0;
	int r;

	for (size_t i = 0; i < rollout->stage_count; i++)
		for (size_t k = 0; k < stages.count; k++)
			known += str_eq(stages.items[k], rollout->stages[i].name);
	if (known < stages.count)
		return cli_fail(c, CLI_USAGE, "rollout %s has no such stage (selfright rollout show %s)",
				rollout->id, rollout->id);
	if (expires_in && (cli_parse_seconds(expires_in, &life_s) < 0 || life_s == 0))
		return cli_fail(c, CLI_USAGE, "--expires takes a time such as 12h or 7d");
	r = cli_fleet_name(c, &fleet);
	if (r >= 0)
		return r;
	if (request_file)
		return write_request(c, buf_str(&fleet), rollout, document, life_s);
	r = load_key(c, &key);
	for (size_t i = 0; r == CLI_OK && i < rollout->stage_count; i++)
		if (is_chosen(rollout->stages[i].name))
			r = approve_stage(c, buf_str(&fleet), rollout, &rollout->stages[i], key, life_s);
	return r;
}

int cmd_approve(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "stage", .value = "NAME", .help = "which stage; may be repeated", .values = &stages },
		{ .name = "all-stages", .help = "every stage of the rollout", .flag = &all_stages },
		{ .name = "key", .value = "FILE", .help = "the approver's key file", .text = &key_file },
		{ .name = "passphrase-file",
		  .value = "FILE",
		  .help = "opens the key file",
		  .text = &passphrase_file },
		{ .name = "expires",
		  .value = "TIME",
		  .help = "how long it holds (as one that is there already, else 30d)",
		  .text = &expires_in },
		{ .name = "request",
		  .value = "FILE",
		  .help = "write a request that is signed elsewhere, instead of signing here",
		  .text = &request_file },
		{ .name = "sign",
		  .value = "FILE",
		  .help = "show such a request and add a signature; needs no fleet and no network",
		  .text = &sign_file },
		{ .name = "import",
		  .value = "FILE",
		  .help = "send what a request was signed with",
		  .text = &import_file },
		{ .name = "output",
		  .value = "FILE",
		  .help = "where the signed request goes (-o; in place)",
		  .text = &output },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "approve ROLLOUT --stage NAME --key FILE | --request FILE; approve --sign FILE | "
			 "--import FILE",
		.summary = "sign that a stage of a rollout may go on, as its component's policy asks",
		.details = "What is signed is shown first: fleet, rollout, kind, releases with their hashes, the "
			   "stage "
			   "and its nodes.\n"
			   "Each node counts the signatures itself; a rollout that changes any of it needs a new "
			   "approval. For a key on a machine without a network: --request there, --sign on it, "
			   "--import "
			   "back.",
		.example = "selfright approve web-1-1-0 --stage rest --key qa-1.pem --dir fleet",
		.options = options,
		.max_args = 1,
	};
	CLEANUP(json_freep)
	struct json *document = NULL;
	struct rollout rollout;
	char path[ID_MAX + 64];
	char *error = NULL;
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if ((c.arg_count != 0) + (sign_file != NULL) + (import_file != NULL) != 1)
		return cli_fail(&c, CLI_USAGE, "give a ROLLOUT, or --sign FILE, or --import FILE");
	if ((c.arg_count || sign_file) && !key_file && !request_file)
		return cli_fail(&c, CLI_USAGE,
				"say with which key (--key FILE), or where a request goes (--request FILE)");
	if (sign_file)
		return sign_request(&c);
	r = cli_need_dir(&c);
	if (r >= 0)
		return r;
	if (import_file)
		return import_request(&c);
	r = fleet_check_id(&c, "rollout", c.args[0]);
	if (r >= 0)
		return r;
	if (stages.count == 0 && !all_stages)
		return cli_fail(&c, CLI_USAGE, "say which stage (--stage NAME)");
	(void) snprintf(path, sizeof(path), "/v1/target?path=rollouts/%s.json", c.args[0]);
	r = cli_call_json(&c, "GET", path, NULL, &document);
	if (r != CLI_OK)
		return r;
	r = rollout_parse(document, &rollout, &error);
	if (r < 0) {
		r = cli_fail(&c, CLI_FAILED, "rollout %s: %s", c.args[0], error ? error : err_text(r));
		free(error);
		return r;
	}
	r = approve(&c, &rollout, document);
	rollout_done(&rollout);
	return r;
}
