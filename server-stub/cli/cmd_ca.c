#include "base/err.h"
#include "base/text.h"
#include "crypto/certificate.h"
#include "json/build.h"
#include "json/json.h"
#include "os/os.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/fleet.h"
#include "server-stub/cli/publisher.h"
#include "server-stub/repo/offline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A rotation in three steps, each of which says first what it would do and refuses while nodes would be left behind:
 *
 *   rotate   another CA; targets say, signed offline, that nodes trust both        old issues
 *   switch   servers and nodes get certificates of the new one, both are trusted   new issues
 *   finish   targets say that the old one counts no more; it is put away
 *   cancel   instead of switch: targets say that the new one counts no more; it is put away
 *
 * Every step can be given again: what was interrupted goes on from where it was, by what signer and targets say.
 */

enum step { IDLE, ANNOUNCING, DISTRIBUTING, SWITCHING, RENEWING, FINISHING, CANCELLING };
static const char *const step_names[] = {
	[IDLE] = "idle",
	[ANNOUNCING] = "announcing",
	[DISTRIBUTING] = "distributing",
	[SWITCHING] = "switching",
	[RENEWING] = "renewing",
	[FINISHING] = "finishing",
	[CANCELLING] = "cancelling",
};

static const char *passphrase_file, *output, *reason;
static bool dry_run, force;

/* GET /v1/ca, and what follows from it. */
struct picture {
	const struct cli *c;
	struct json *answer;
	struct certificate_bundle have; /* of the signer, the one that issues first */
	enum step step;
	const char *coming, *going; /* SHA-256; NULL: there is none */
};

static void picture_done(struct picture *p)
{
	json_free(p->answer);
	p->answer = NULL;
	certificate_bundle_done(&p->have);
}

static bool lists(const struct json *array, const char *sha256)
{
	for (size_t i = 0; i < json_count(array); i++)
		if (str_eq(json_string(json_at(array, i)), sha256))
			return true;
	return false;
}

static void judge(struct picture *p)
{
	const struct json *announced = json_get(p->answer, "announced");
	const char *issues = p->have.items[0].sha256, *other = p->have.count > 1 ? p->have.items[1].sha256 : NULL;
	bool switched = str_eq(json_string(json_get(p->answer, "newest")), issues);

	p->coming = !other ? NULL : switched ? issues : other;
	p->going = !other ? NULL : switched ? other : issues;
	if (!other)
		p->step = IDLE;
	else if (switched && lists(json_get(p->answer, "retired"), other))
		p->step = FINISHING;
	else if (!switched && lists(json_get(p->answer, "retired"), other)) {
		p->step = CANCELLING;
		p->coming = NULL; /* nobody is to trust it any more */
		p->going = other;
	} else if (!lists(announced, issues) || !lists(announced, other))
		p->step = ANNOUNCING;
	else if (!str_eq(json_string(json_at(announced, 0)), issues))
		p->step = SWITCHING;
	else
		p->step = switched ? RENEWING : DISTRIBUTING;
}

static int look(const struct cli *c, struct picture *p)
{
	const struct json *list;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(256 * 1024);
	int r;

	picture_done(p);
	p->c = c;
	r = cli_call_json(c, "GET", "/v1/ca", NULL, &p->answer);
	if (r != CLI_OK)
		return r;
	list = json_get(p->answer, "authorities");
	for (size_t i = 0; r == 0 && i < json_count(list); i++)
		r = buf_add_str(&text, fleet_text(json_at(list, i), "pem"));
	if (r == 0)
		r = certificate_bundle_read(buf_str(&text), &p->have);
	if (r < 0 || p->have.count == 0)
		return cli_fail_error(c, r < 0 ? r : -ERR_FIELD_MISSING, "the CAs of this fleet");
	judge(p);
	return CLI_OK;
}

/* --- who would be left behind --- */

struct lacking {
	const struct json *nodes[CLI_VALUES_MAX];
	size_t count; /* all of them, whether they fit or not */
};

/* A node that never said what it trusts counts as one that lacks it: no data is not good news. */
static void find_lacking(const struct picture *p, bool certificate_too, struct lacking *ret)
{
	const struct json *nodes = json_get(p->answer, "nodes");

	*ret = (struct lacking){ .count = 0 };
	for (size_t i = 0; p->coming && i < json_count(nodes); i++) {
		const struct json *node = json_at(nodes, i);

		if (lists(json_get(node, "trusted"), p->coming) &&
		    (!certificate_too || str_eq(json_string(json_get(node, "issuer")), p->coming)))
			continue;
		if (ret->count < CLI_VALUES_MAX)
			ret->nodes[ret->count] = node;
		ret->count++;
	}
}

static void name_them(const struct lacking *l, struct buf *out)
{
	enum { NAMED_MAX = 8 };

	/* Cut to fit: it is a sentence. */
	for (size_t i = 0; i < l->count && i < NAMED_MAX; i++)
		(void) !buf_addf(out, "%s%s", i ? ", " : "", fleet_text(l->nodes[i], "node"));
	if (l->count > NAMED_MAX)
		(void) !buf_addf(out, " and %zu more", l->count - NAMED_MAX);
}

static int may_go_on(const struct picture *p, bool certificate_too)
{
	CLEANUP(buf_done)
	struct buf names = BUF_INIT(2048);
	struct lacking l;

	find_lacking(p, certificate_too, &l);
	if (l.count == 0)
		return CLI_OK;
	name_them(&l, &names);
	if (!force)
		return cli_fail(
			p->c, CLI_REFUSED,
			"%zu of %zu nodes %s (%s). They follow by themselves when they come by; with --force "
			"--reason TEXT they are left to find back by a stick (selfright bundle) or "
			"selfright node add --replace",
			l.count, json_count(json_get(p->answer, "nodes")),
			certificate_too ? "have no certificate of the new CA yet, or do not trust it"
					: "do not trust the new CA yet",
			buf_str(&names));
	cli_say(p->c, "left behind: %s", buf_str(&names));
	return CLI_OK;
}

/* --- showing --- */

static const char *next_of(enum step s)
{
	static const char *const words[] = {
		[IDLE] = "nothing is under way: selfright ca rotate begins",
		[ANNOUNCING] = "the new CA is not announced yet: selfright ca rotate goes on",
		[DISTRIBUTING] = "nodes learn of the new CA; when all have: selfright ca switch",
		[SWITCHING] = "the new CA issues and targets do not say so yet: selfright ca switch goes on",
		[RENEWING] = "nodes get certificates of the new CA; when all have: selfright ca finish",
		[FINISHING] = "the old CA is to be put away still: selfright ca finish goes on",
		[CANCELLING] = "the new CA is withdrawn and to be put away still: selfright ca cancel goes on",
	};

	return words[s];
}

static int print_json(const struct picture *p)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CLI_ANSWER_MAX);
	struct json_node *o = json_build_root(b), *list;
	struct lacking l;
	int r;

	node_string(o, "step", step_names[p->step]);
	node_string(o, "next", next_of(p->step));
	node_bool(o, "dry_run", dry_run);
	for (size_t i = 0; i < json_count(p->answer); i++)
		node_copy(o, json_name_at(p->answer, i), json_at(p->answer, i));
	find_lacking(p, p->step >= SWITCHING, &l);
	node_integer(o, "lacking_count", (int64_t) l.count);
	list = node_array(o, "lacking");
	for (size_t i = 0; i < l.count && i < CLI_VALUES_MAX; i++)
		node_string(list, NULL, fleet_text(l.nodes[i], "node"));
	r = json_build_text(b, false, &text);
	if (r < 0)
		return cli_fail_error(p->c, r, "the answer");
	cli_print_json(buf_str(&text));
	return CLI_OK;
}

static int print(const struct picture *p)
{
	static const char *const headings[] = { "CA",	     "NAME",	   "EXPIRES",  "ISSUES",
						"ANNOUNCED", "TRUSTED BY", "ISSUED TO" };
	const struct json *list = json_get(p->answer, "authorities");
	CLEANUP(buf_done)
	struct buf names = BUF_INIT(2048);
	struct cli_table *t;
	struct lacking l;
	int64_t nodes = 0, silent = 0;

	if (p->c->json)
		return print_json(p);
	(void) json_integer(json_get(p->answer, "node_count"), &nodes); /* only shown */
	(void) json_integer(json_get(p->answer, "silent"), &silent); /* as above */
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *a = json_at(list, i);
		int64_t trusted = 0, issued = 0;
		bool issues = json_bool(json_get(a, "issues"), false),
		     announced = json_bool(json_get(a, "announced"), false);

		(void) json_integer(json_get(a, "trusted_by"), &trusted); /* only shown */
		(void) json_integer(json_get(a, "issued_to"), &issued); /* as above */
		cli_table_cell(t, CLI_PLAIN, "%.16s", fleet_text(a, "sha256"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(a, "name"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(a, "expires"));
		cli_table_cell(t, issues ? CLI_GREEN : CLI_PLAIN, "%s", issues ? "yes" : "no");
		cli_table_cell(t, CLI_PLAIN, "%s", announced ? "yes" : "no");
		cli_table_cell(t, trusted == nodes ? CLI_GREEN : CLI_YELLOW, "%lld of %lld", (long long) trusted,
			       (long long) nodes);
		cli_table_cell(t, CLI_PLAIN, "%lld of %lld", (long long) issued, (long long) nodes);
	}
	cli_table_print(p->c, t);
	if (silent > 0)
		cli_say(p->c, "%lld of the nodes never said what they trust: no report yet, or an older agent",
			(long long) silent);
	find_lacking(p, p->step >= SWITCHING, &l);
	name_them(&l, &names);
	if (l.count > 0)
		cli_say(p->c, "still lacking: %s", buf_str(&names));
	cli_say(p->c, "%s", next_of(p->step));
	return CLI_OK;
}

/* --- the steps --- */

static int tell_serve(const struct picture *p, const char *what, const char *sha256)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024);
	int r;

	node_string(json_build_root(b), "do", what);
	if (sha256)
		node_string(json_build_root(b), "sha256", sha256);
	node_string(json_build_root(b), "by", fleet_by());
	if (reason)
		node_string(json_build_root(b), "reason", reason);
	r = json_build_text(b, false, &text);
	return r < 0 ? cli_fail_error(p->c, r, "the request")
		     : cli_call(p->c, "POST", "/v1/ca", buf_str(&text), NULL);
}

/* Targets say it: signed by the keys that are offline, as whoever holds the controller must not be able to. */
static int announce(const struct picture *p, const struct certificate_bundle *trusted, const char *retired)
{
	CLEANUP(json_freep)
	struct json *metadata = NULL;
	CLEANUP(json_freep)
	struct json *body = NULL;
	struct publisher publisher;
	int r = publisher_open(p->c, passphrase_file, &publisher);

	if (r == CLI_OK)
		r = publisher_body(&publisher, "targets", &metadata);
	if (r == CLI_OK) {
		r = offline_set_ca(json_get(metadata, "signed"), trusted, retired, os_posix.clock_real(&os_posix),
				   &body);
		r = r < 0 ? cli_fail_error(p->c, r, "targets with these CAs") : CLI_OK;
	}
	if (r == CLI_OK)
		r = publisher_sign_and_publish(&publisher, "targets", body, NULL, output);
	publisher_close(&publisher);
	return r;
}

static int rotate(struct picture *p)
{
	int r;

	if (p->step > ANNOUNCING)
		return cli_fail(p->c, CLI_REFUSED, "a rotation is under way: %s", next_of(p->step));
	if (dry_run) {
		cli_say(p->c, "would %s and have targets say that nodes trust both; the old one goes on issuing",
			p->step == IDLE ? "make another CA" : "take the CA that was made");
		return CLI_OK;
	}
	r = p->step == IDLE ? tell_serve(p, "begin", NULL) : CLI_OK;
	if (r == CLI_OK)
		r = look(p->c, p);
	if (r == CLI_OK && !json_bool(json_get(p->answer, "own_broker"), true))
		cli_say(p->c, "your own broker is to take nodes of both: selfright broker-config -o DIR, then "
			      "start it again");
	if (r == CLI_OK && p->step == ANNOUNCING)
		r = announce(p, &p->have, NULL);
	return r;
}

static int switch_over(struct picture *p)
{
	int r;

	if (p->step != DISTRIBUTING && p->step != SWITCHING)
		return cli_fail(p->c, CLI_REFUSED, "there is nothing to switch to: %s", next_of(p->step));
	r = may_go_on(p, false);
	if (r != CLI_OK)
		return r;
	if (dry_run) {
		cli_say(p->c,
			"would let %.16s issue from now on: servers show its certificates, nodes renew theirs",
			p->coming);
		return CLI_OK;
	}
	r = p->step == DISTRIBUTING ? tell_serve(p, "switch", p->coming) : CLI_OK;
	if (r == CLI_OK)
		r = look(p->c, p);
	if (r == CLI_OK && p->step == SWITCHING)
		r = announce(p, &p->have, NULL);
	if (r == CLI_OK && !json_bool(json_get(p->answer, "own_broker"), true))
		cli_say(p->c, "your own broker needs another certificate: selfright broker-config -o DIR --name "
			      "NAME, then start it again");
	return r;
}

static int finish(struct picture *p)
{
	struct certificate_bundle left = { .count = 1 };
	char going[SHA256_HEX + 1] = "";
	int r;

	if (p->step != RENEWING && p->step != FINISHING)
		return cli_fail(p->c, CLI_REFUSED, "there is nothing to finish: %s", next_of(p->step));
	r = may_go_on(p, true);
	if (r != CLI_OK)
		return r;
	if (dry_run) {
		cli_say(p->c, "would have targets say that %.16s counts no more, and put it away", p->going);
		return CLI_OK;
	}
	(void) snprintf(going, sizeof(going), "%s", p->going);
	left.items[0] = p->have.items[0]; /* borrowed */
	/* First the nodes are told, then the broker refuses it: who still shows it is not cut off before it could know. */
	r = p->step == RENEWING ? announce(p, &left, going) : CLI_OK;
	if (r == CLI_OK)
		r = tell_serve(p, "retire", going);
	if (r == CLI_OK && !json_bool(json_get(p->answer, "own_broker"), true))
		cli_say(p->c, "your own broker still takes the old one: selfright broker-config -o DIR, then "
			      "start it again");
	return r;
}

/* Who has a certificate of this one? By what nodes reported, and the signer gives none before the switch. */
static int64_t issued_to(const struct picture *p, const char *sha256)
{
	const struct json *list = json_get(p->answer, "authorities");
	int64_t count = 0;

	for (size_t i = 0; i < json_count(list); i++)
		if (str_eq(json_string(json_get(json_at(list, i), "sha256")), sha256))
			(void) json_integer(json_get(json_at(list, i), "issued_to"), &count); /* 0 as it was */
	return count;
}

/*
 * Nobody uses it yet, so nodes lose nothing by dropping it. Targets say so even if they never named it: a signing
 * request of `rotate` that somebody still carries is outdated by that, and cannot bring it back.
 */
static int cancel(struct picture *p)
{
	struct certificate_bundle left = { .count = 1 };
	char coming[SHA256_HEX + 1] = "";
	int r;

	if (p->step == IDLE)
		return cli_fail(p->c, CLI_REFUSED, "there is nothing to cancel: %s", next_of(p->step));
	if (p->step != ANNOUNCING && p->step != DISTRIBUTING && p->step != CANCELLING)
		return cli_fail(
			p->c, CLI_REFUSED,
			"the new CA issues already, nodes and servers use it: %s; selfright ca rotate makes "
			"another one afterwards",
			next_of(p->step));
	(void) snprintf(coming, sizeof(coming), "%s", p->step == CANCELLING ? p->going : p->coming);
	if (issued_to(p, coming) > 0)
		return cli_fail(
			p->c, CLI_REFUSED,
			"%lld nodes report certificates of the new CA: they would lose them (selfright ca show)",
			(long long) issued_to(p, coming));
	if (dry_run) {
		cli_say(p->c,
			"would have targets say that %.16s counts no more, and put it away; the old one goes on "
			"issuing",
			coming);
		return CLI_OK;
	}
	left.items[0] = p->have.items[0]; /* borrowed */
	r = p->step != CANCELLING ? announce(p, &left, coming) : CLI_OK;
	if (r == CLI_OK)
		r = tell_serve(p, "retire", coming);
	if (r == CLI_OK && !json_bool(json_get(p->answer, "own_broker"), true))
		cli_say(p->c,
			"your own broker still takes the withdrawn one: selfright broker-config -o DIR, then "
			"start it again");
	return r;
}

static int show(struct picture *p)
{
	(void) p;
	return CLI_OK;
}

/* --- options --- */

static int run(const struct cli_command *command, int argc, char **argv, int (*step)(struct picture *p))
{
	struct picture p = { .answer = NULL };
	struct cli c;
	int r = cli_open(command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (force && (!reason || !reason[0]))
		return cli_fail(&c, CLI_USAGE, "--force needs --reason TEXT, for the people who read it later");
	r = look(&c, &p);
	if (r == CLI_OK)
		r = step(&p);
	/* What it has come to; after a refusal the reason is enough. */
	if (r == CLI_OK)
		r = look(&c, &p);
	if (r == CLI_OK)
		r = print(&p);
	picture_done(&p);
	return r;
}

#define OFFLINE_OPTIONS                                                                                           \
	{ .name = "passphrase-file", .value = "FILE", .help = "opens key files", .text = &passphrase_file },      \
		{ .name = "output",                                                                               \
		  .value = "FILE",                                                                                \
		  .help = "where a signing request goes if keys of targets are missing (-o)",                     \
		  .text = &output },                                                                              \
		{ .name = "reason",                                                                               \
		  .value = "TEXT",                                                                                \
		  .help = "why, for the people who read it later",                                                \
		  .text = &reason },                                                                              \
	{                                                                                                         \
		.name = "dry-run", .help = "change nothing: say what would be done", .flag = &dry_run             \
	}

static int cmd_show(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "ca show",
		.summary = "the CAs, which nodes trust and use them, and what comes next",
		.example = "selfright ca show --dir fleet",
	};

	return run(&command, argc, argv, show);
}

static int cmd_rotate(int argc, char **argv)
{
	static const struct cli_option options[] = { OFFLINE_OPTIONS, { 0 } };
	static const struct cli_command command = {
		.usage = "ca rotate [--dry-run]",
		.summary = "make another CA and have every node trust both",
		.details = "The first step of three (rotate, switch, finish). The new CA issues nothing until `ca "
			   "switch`. "
			   "Targets name it, signed\nby keys that are offline, so nodes learn of it by every road "
			   "there is.",
		.example = "selfright ca rotate --reason 'the old one expires next year'",
		.options = options,
	};

	return run(&command, argc, argv, rotate);
}

static int cmd_switch(int argc, char **argv)
{
	static const struct cli_option options[] = {
		OFFLINE_OPTIONS,
		{ .name = "force", .help = "although nodes do not trust it yet; needs --reason", .flag = &force },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "ca switch [--dry-run] [--force --reason TEXT]",
		.summary = "let the new CA issue: servers and nodes get certificates of it",
		.details = "Refused while nodes do not trust it. Both go on being trusted; nodes renew theirs "
			   "within an hour.",
		.example = "selfright ca switch",
		.options = options,
	};

	return run(&command, argc, argv, switch_over);
}

static int cmd_finish(int argc, char **argv)
{
	static const struct cli_option options[] = {
		OFFLINE_OPTIONS,
		{ .name = "force",
		  .help = "although nodes still have certificates of the old one; needs --reason",
		  .flag = &force },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "ca finish [--dry-run] [--force --reason TEXT]",
		.summary = "the old CA counts no more: nodes drop it, it is put away",
		.details = "Refused while nodes have certificates of the old one. Each node tries first whether "
			   "it gets through "
			   "without it. Join\nfiles that were not used yet have to be made again.",
		.example = "selfright ca finish",
		.options = options,
	};

	return run(&command, argc, argv, finish);
}

static int cmd_cancel(int argc, char **argv)
{
	static const struct cli_option options[] = {
		OFFLINE_OPTIONS,
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "ca cancel [--dry-run] [--reason TEXT]",
		.summary = "withdraw the new CA before it issues",
		.details =
			"The way back from ca rotate, until ca switch. Targets say that the new CA counts no "
			"more; nodes "
			"drop it after\ntrying whether they get through without it. The old one goes on issuing.",
		.example = "selfright ca cancel --reason 'made for the wrong fleet'",
		.options = options,
	};

	return run(&command, argc, argv, cancel);
}

int cmd_ca(int argc, char **argv)
{
	static const struct cli_sub subs[] = {
		{ "show", "the CAs, and how far a rotation is", cmd_show },
		{ "rotate", "make another CA and have every node trust both", cmd_rotate },
		{ "switch", "let it issue: servers and nodes get certificates of it", cmd_switch },
		{ "finish", "the old one counts no more", cmd_finish },
		{ "cancel", "withdraw the new one before it issues", cmd_cancel },
		{ 0 },
	};

	return cli_dispatch("ca", "The CA that certifies servers and nodes, and how it is exchanged for another.",
			    subs, argc, argv);
}
