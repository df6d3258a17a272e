#include "base/err.h"
#include "base/text.h"
#include "base/version.h"
#include "json/build.h"
#include "json/json.h"
#include "model/release.h"
#include "model/rollout.h"
#include "os/os.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/component_policy.h"
#include "server-stub/cli/publisher.h"
#include "server-stub/repo/repo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a component's policy says beside what these options change stays as it is, also what we do not know. */

static const char *floor_version, *owner, *on_call, *passphrase_file, *output;
static struct cli_values approvals, revoked, unrevoked, lost_roots;
static bool no_approvals;

static int set_text(const struct cli *c, char **field, const char *text)
{
	char *copy = text ? strdup(text) : NULL;

	if (!text)
		return CLI_OK;
	if (!copy)
		return cli_fail_error(c, -ENOMEM, "the policy");
	free(*field);
	*field = copy;
	return CLI_OK;
}

/* "qa", "qa:regular,patch", "qa:regular:exempt channel=canary" */
static int add_approval(const struct cli *c, const char *text, struct policy *p)
{
	CLEANUP(buf_done)
	struct buf copy = BUF_INIT(4096);
	struct approval_rule *longer, *rule;
	char *who, *kinds, *exempt, *save = NULL;
	int r = buf_add_str(&copy, text);

	if (r < 0)
		return cli_fail_error(c, r, "--approval");
	who = (char *) copy.data;
	kinds = who ? strchr(who, ':') : NULL;
	if (kinds)
		*kinds++ = '\0';
	exempt = kinds ? strchr(kinds, ':') : NULL;
	if (exempt)
		*exempt++ = '\0';
	if (exempt && str_starts(exempt, "exempt "))
		exempt += strlen("exempt ");
	if (!guard_id(who) || (exempt && !strchr(exempt, '=')))
		return cli_fail(c, CLI_USAGE,
				"--approval takes WHO, WHO:KIND,KIND or WHO:KIND,KIND:exempt NAME=VALUE, e.g. "
				"'qa:regular,patch:exempt channel=canary'");
	longer = realloc(p->approvals, (p->approval_count + 1) * sizeof(*longer));
	if (!longer)
		return cli_fail_error(c, -ENOMEM, "the policy");
	p->approvals = longer;
	rule = &longer[p->approval_count++];
	*rule = (struct approval_rule){ .approver = strdup(who), .exempt_label = exempt ? strdup(exempt) : NULL };
	if (!rule->approver || (exempt && !rule->exempt_label))
		return cli_fail_error(c, -ENOMEM, "the policy");
	for (char *kind = strtok_r(kinds, ",", &save); kinds && kind; kind = strtok_r(NULL, ",", &save)) {
		if (rollout_kind_parse(kind) < 0)
			return cli_fail(c, CLI_USAGE, "'%s' is no kind of rollout: regular, patch, downgrade",
					kind);
		r = string_list_add(&rule->kinds, kind);
		if (r < 0)
			return cli_fail_error(c, r, "the policy");
	}
	return CLI_OK;
}

static void drop_approvals(struct policy *p)
{
	for (size_t i = 0; i < p->approval_count; i++) {
		free(p->approvals[i].approver);
		free(p->approvals[i].exempt_label);
		string_list_done(&p->approvals[i].kinds);
	}
	p->approval_count = 0;
}

static bool is_unrevoked(const char *version)
{
	for (size_t i = 0; i < unrevoked.count; i++)
		if (str_eq(unrevoked.items[i], version))
			return true;
	return false;
}

static int change_revoked(const struct cli *c, struct policy *p)
{
	struct string_list next = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->revoked.count; i++)
		if (!is_unrevoked(p->revoked.items[i]))
			r = string_list_add(&next, p->revoked.items[i]);
	for (size_t i = 0; r == 0 && i < revoked.count; i++)
		if (!string_list_has(&next, revoked.items[i]))
			r = string_list_add(&next, revoked.items[i]);
	if (r < 0) {
		string_list_done(&next);
		return cli_fail_error(c, r, "the policy");
	}
	string_list_done(&p->revoked);
	p->revoked = next;
	return CLI_OK;
}

static int check_versions(const struct cli *c)
{
	if (floor_version && *floor_version && !version_is_valid(floor_version))
		return cli_fail(c, CLI_USAGE, "'%s' is no version", floor_version);
	for (size_t i = 0; i < revoked.count; i++)
		if (!version_is_valid(revoked.items[i]))
			return cli_fail(c, CLI_USAGE, "'%s' is no version", revoked.items[i]);
	return CLI_OK;
}

static int apply(const struct cli *c, struct policy *p)
{
	int r = check_versions(c);

	if (r == CLI_OK && floor_version && !*floor_version) {
		free(p->security_floor);
		p->security_floor = NULL;
	} else if (r == CLI_OK) {
		r = set_text(c, &p->security_floor, floor_version);
	}
	if (r == CLI_OK)
		r = set_text(c, &p->owner, owner);
	if (r == CLI_OK)
		r = set_text(c, &p->on_call, on_call);
	if (r == CLI_OK)
		r = change_revoked(c, p);
	if (r == CLI_OK && (no_approvals || approvals.count > 0))
		drop_approvals(p);
	for (size_t i = 0; r == CLI_OK && i < approvals.count; i++)
		r = add_approval(c, approvals.items[i], p);
	for (size_t i = 0; r == CLI_OK && i < lost_roots.count; i++)
		if (!string_list_has(&p->lost_roots, lost_roots.items[i]) &&
		    string_list_add(&p->lost_roots, lost_roots.items[i]) < 0)
			r = cli_fail_error(c, -ENOMEM, "the policy");
	return r;
}

/* A rule that nobody can ever meet stops every rollout: better said now than found out on the nodes. */
static int check_approvers(struct publisher *p, const struct policy *policy)
{
	CLEANUP(json_freep)
	struct json *targets = NULL;
	const struct json *approvers;
	int r = publisher_body(p, "targets", &targets);

	if (r != CLI_OK)
		return r;
	approvers = json_get(json_get(json_get(targets, "signed"), "x-selfright"), "approvers");
	for (size_t i = 0; i < policy->approval_count; i++)
		if (!str_eq(policy->approvals[i].approver, "team") &&
		    !json_get(approvers, policy->approvals[i].approver))
			return cli_fail(p->cli, CLI_REFUSED,
					"no approver is named %s; name it first: selfright repo approvers add %s",
					policy->approvals[i].approver, policy->approvals[i].approver);
	return CLI_OK;
}

/* What the new text holds, and of the old what nobody here understands. */
static int write_policy(const struct cli *c, const struct policy *policy, const struct json *before,
			struct buf *ret)
{
	static const char *const ours[] = { "format",  "owner",	    "on_call",	 "security_floor",
					    "revoked", "approvals", "lost_roots" };
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *again = NULL;
	struct policy read;
	char *error = NULL;
	int r;

	policy_write(policy, json_build_root(b));
	for (size_t i = 0; i < json_count(before); i++) {
		bool known = false;

		for (size_t k = 0; k < ARRAY_LEN(ours); k++)
			known = known || str_eq(json_name_at(before, i), ours[k]);
		if (!known)
			node_copy(json_build_root(b), json_name_at(before, i), json_at(before, i));
	}
	r = json_build_text(b, true, ret);
	/* As a node will read it. */
	if (r >= 0)
		r = json_parse(ret->data, ret->len, &json_limits_default, &again);
	if (r >= 0)
		r = policy_parse(again, &read, &error);
	if (r >= 0) {
		policy_done(&read);
		return CLI_OK;
	}
	r = cli_fail(c, CLI_USAGE, "this is no policy nodes could follow: %s", error ? error : err_text(r));
	free(error);
	return r;
}

/* The role that lists the component's policy now. */
static int find_role(struct publisher *p, const char *path, char ret[static ID_MAX + 1])
{
	CLEANUP(json_freep)
	struct json *targets = NULL;
	const struct json *roles;
	int r = publisher_body(p, "targets", &targets);

	if (r != CLI_OK)
		return r;
	roles = json_get(json_get(json_get(targets, "signed"), "delegations"), "roles");
	for (size_t i = 0; i < json_count(roles); i++) {
		const struct json *paths = json_get(json_at(roles, i), "paths");

		for (size_t k = 0; k < json_count(paths); k++)
			if (str_eq(json_string(json_at(paths, k)), path)) {
				(void) snprintf(ret, ID_MAX + 1, "%s",
						json_string(json_get(json_at(roles, i), "name")));
				return CLI_OK;
			}
	}
	return cli_fail(p->cli, CLI_REFUSED, "no team owns it; give it to one: selfright component add");
}

static int publish(struct publisher *p, const char *path, const struct buf *text)
{
	CLEANUP(json_freep)
	struct json *metadata = NULL, *body = NULL;
	char role[ID_MAX + 1], sha256[SHA256_HEX + 1];
	int r = find_role(p, path, role);

	if (r == CLI_OK)
		r = publisher_upload(p, text->data, text->len, sha256);
	if (r == CLI_OK)
		r = publisher_body(p, role, &metadata);
	if (r != CLI_OK)
		return r;
	r = offline_list(json_get(metadata, "signed"), path, text->len, sha256, os_posix.clock_real(&os_posix),
			 &body);
	return r < 0 ? cli_fail_error(p->cli, r, "role %s", role)
		     : publisher_sign_and_publish(p, role, body, NULL, output);
}

static int edit(struct publisher *p, const char *component, struct buf *text)
{
	CLEANUP(buf_done)
	struct buf before_text = BUF_INIT(POLICY_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *before = NULL;
	struct policy policy;
	char path[ID_MAX + 32];
	char *error = NULL;
	int r;

	(void) snprintf(path, sizeof(path), "%s/policy.json", component);
	r = repo_read_target(p->repo, path, &before_text);
	if (r == -ENOENT)
		return cli_fail(p->cli, CLI_REFUSED, "%s has no policy; selfright component add %s makes it",
				component, component);
	if (r >= 0)
		r = json_parse(before_text.data, before_text.len, &json_limits_default, &before);
	if (r >= 0)
		r = policy_parse(before, &policy, &error);
	if (r < 0) {
		r = cli_fail(p->cli, CLI_FAILED, "%s: %s", path, error ? error : err_text(r));
		free(error);
		return r;
	}
	r = apply(p->cli, &policy);
	if (r == CLI_OK)
		r = check_approvers(p, &policy);
	if (r == CLI_OK)
		r = write_policy(p->cli, &policy, before, text);
	policy_done(&policy);
	if (r != CLI_OK)
		return r;
	/* Without an option it only shows. */
	if (!floor_version && !owner && !on_call && approvals.count + revoked.count + unrevoked.count == 0 &&
	    lost_roots.count == 0 && !no_approvals)
		return CLI_OK;
	r = publish(p, path, text);
	if (r == CLI_OK)
		cli_say(p->cli, "The policy of %s is published:", component);
	return r;
}

int component_policy(int argc, char **argv)
{
	static const struct cli_option options[] = {
		{ .name = "approval",
		  .value = "RULE",
		  .help = "WHO[:KINDS[:exempt NAME=VALUE]], e.g. 'qa:regular,patch:exempt channel=canary'; WHO is "
			  "'team' or an approver; repeated; the rules replace those before",
		  .values = &approvals },
		{ .name = "no-approvals", .help = "ask for none any more", .flag = &no_approvals },
		{ .name = "floor",
		  .value = "VERSION",
		  .help = "no rollout, undo or order below it ('' lifts it)",
		  .text = &floor_version },
		{ .name = "revoke",
		  .value = "VERSION",
		  .help = "never again; may be repeated",
		  .values = &revoked },
		{ .name = "unrevoke", .value = "VERSION", .help = "take that back", .values = &unrevoked },
		{ .name = "owner", .value = "TEXT", .help = "who owns it", .text = &owner },
		{ .name = "on-call", .value = "TEXT", .help = "whom to call", .text = &on_call },
		{ .name = "lost-root",
		  .value = "SHA256",
		  .help = "(component agent) a root whose keys are lost; may be repeated",
		  .values = &lost_roots },
		{ .name = "passphrase-file",
		  .value = "FILE",
		  .help = "opens the team's key files",
		  .text = &passphrase_file },
		{ .name = "output",
		  .value = "FILE",
		  .help = "where a signing request goes if keys are missing (-o)",
		  .text = &output },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "component policy NAME [--approval RULE]... [--floor VERSION] [--revoke VERSION]...",
		.summary = "show or change what a component's team asks of rollouts, signed by the team",
		.details = "Nodes hold rollouts, undo and orders against it; neither the controller nor its keys "
			   "can go around it.\n"
			   "KINDS are regular, patch, downgrade (none: all). The exempting label is of the node's "
			   "own configuration.",
		.example = "selfright component policy web --approval qa:regular --floor 1.2.0 --dir fleet",
		.options = options,
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(POLICY_MAX_BYTES);
	struct publisher p;
	struct cli c;
	int r = cli_parse(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (!guard_id(c.args[0]))
		return cli_fail(&c, CLI_USAGE, "'%s' is no component's name: [a-z0-9][a-z0-9-]*, at most %d",
				c.args[0], ID_MAX);
	r = publisher_open(&c, passphrase_file, &p);
	if (r == CLI_OK)
		r = edit(&p, c.args[0], &text);
	publisher_close(&p);
	if (r != CLI_OK)
		return r;
	if (c.json)
		cli_print_json(buf_str(&text));
	cli_say(&c, "%s", buf_str(&text));
	return CLI_OK;
}
