/*
 * selfright node list, show and why: what is known of nodes.
 */
#include "base/timestamp.h"
#include "json/json.h"
#include "model/decide.h"
#include "model/labels.h"
#include "os/os.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/cmd_node.h"
#include "server-stub/cli/fleet.h"

#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 256 };

static void labels_text(const struct json *labels, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; i < json_count(labels) && n < size; i++)
		n += (size_t) snprintf(out + n, size - n, "%s%s=%s", n ? " " : "", json_name_at(labels, i),
				       json_string(json_at(labels, i)) ? json_string(json_at(labels, i)) : "");
}

static void components_text(const struct json *components, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; i < json_count(components) && n < size; i++) {
		const struct json *o = json_at(components, i);

		n += (size_t) snprintf(out + n, size - n, "%s%s %s", n ? ", " : "", fleet_text(o, "component"),
				       *fleet_text(o, "version") ? fleet_text(o, "version") : "absent");
	}
}

static void orders_text(const struct json *orders, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; i < json_count(orders) && n < size; i++) {
		const struct json *o = json_at(orders, i);

		n += (size_t) snprintf(out + n, size - n, "%s%s%s%s%s%s", n ? ", " : "", fleet_text(o, "kind"),
				       *fleet_text(o, "component") ? " of " : "", fleet_text(o, "component"),
				       *fleet_text(o, "to") ? " to " : "", fleet_text(o, "to"));
	}
}

/* Of a node that is not online: nobody heard of it since the controller started, or never. */
static const char *presence_of(const struct json *node)
{
	if (*fleet_text(node, "presence_at"))
		return "offline";
	return *fleet_text(node, "reported") ? "unknown" : "not joined";
}

/* Names that are no nodes yet, and keys that a person has to look at. */
static void say_enrolments(const struct cli *c, const struct json *list)
{
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i);
		const char *node = fleet_text(o, "node"), *state = fleet_text(o, "state");
		int64_t refused = 0;

		if (strcmp(state, "waiting") == 0)
			cli_say(c,
				"%squarantined%s: a new key %.16s asks to be %s; selfright node release %s "
				"--reason TEXT",
				cli_colour(c, CLI_RED), cli_colour(c, CLI_PLAIN), fleet_text(o, "fingerprint"),
				node, node);
		else if (strcmp(state, "open") == 0)
			cli_say(c, "%snot enrolled yet%s: %s (its secret is valid until %s)",
				cli_colour(c, CLI_YELLOW), cli_colour(c, CLI_PLAIN), node,
				fleet_text(o, "expires"));
		else if (strcmp(state, "expired") == 0)
			cli_say(c,
				"%snot enrolled%s: %s (its secret has expired; selfright node add %s makes "
				"another)",
				cli_colour(c, CLI_YELLOW), cli_colour(c, CLI_PLAIN), node, node);
		if (json_integer(json_get(o, "refused"), &refused) && refused > 0)
			cli_say(c, "%ssecret used twice%s: another key came with the secret of %s, %lld times",
				cli_colour(c, CLI_RED), cli_colour(c, CLI_PLAIN), node, (long long) refused);
	}
}

/* Who is left behind, by whom, and until when. */
static int list_held(const struct cli *c)
{
	static const char *const headings[] = { "node", "component", "runs", "waits for", "why", "until", "by" };
	CLEANUP(json_freep)
	struct json *answer = NULL;
	const struct json *list;
	struct cli_table *t;
	int r = fleet_send(c, "GET", "/v1/held", NULL, &answer);

	if (r != CLI_OK || c->json)
		return r;
	list = json_get(answer, "held");
	if (json_count(list) == 0) {
		cli_say(c, "no node is left behind");
		return CLI_OK;
	}
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i), *order = json_get(o, "order");

		cli_table_cell(t, CLI_BOLD, "%s", fleet_text(o, "node"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "component"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "version"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "wants"));
		cli_table_cell(t, CLI_YELLOW, "%s: %s", fleet_text(o, "why"),
			       order ? fleet_text(order, "reason") : fleet_text(o, "detail"));
		cli_table_cell(t, CLI_PLAIN, "%s", order ? fleet_text(order, "until") : "");
		cli_table_cell(t, CLI_DIM, "%s", order ? fleet_text(order, "by") : "");
	}
	cli_table_print(c, t);
	return CLI_OK;
}

int cmd_node_list(int argc, char **argv)
{
	static bool held_only;
	static const struct cli_option options[] = {
		{ .name = "held",
		  .help = "only those that a hold, an order, a deferral or a denial leaves behind, and whose it "
			  "is",
		  .flag = &held_only },
		{ 0 },
	};
	static const char *const headings[] = { "node", "link", "reported", "components", "labels", "orders" };
	static const struct cli_command command = {
		.usage = "node list [--held]",
		.summary = "all nodes: connected or not, what they run, what support ordered",
		.example = "selfright node list",
		.options = options,
	};
	CLEANUP(json_freep)
	struct json *answer = NULL;
	const struct json *list;
	struct cli_table *t;
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (held_only)
		return list_held(&c);
	r = fleet_send(&c, "GET", "/v1/nodes", NULL, &answer);
	if (r != CLI_OK || c.json)
		return r;
	list = json_get(answer, "nodes");
	t = cli_table_new(headings, json_count(list) ? ARRAY_LEN(headings) : 0);
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i);
		bool online = json_bool(json_get(o, "online"), false),
		     held = json_bool(json_get(o, "quarantined"), false),
		     two = json_get(o, "two_machines") != NULL;
		char labels[300], components[400], orders[300], ago[60];

		labels_text(json_get(o, "labels"), labels, sizeof(labels));
		components_text(json_get(o, "components"), components, sizeof(components));
		orders_text(json_get(o, "orders"), orders, sizeof(orders));
		cli_table_cell(t, CLI_BOLD, "%s", fleet_text(o, "node"));
		cli_table_cell(t,
			       held || two ? CLI_RED
			       : online	   ? CLI_GREEN
					   : CLI_YELLOW,
			       "%s",
			       held					    ? "quarantined"
			       : two					    ? "two machines"
			       : json_bool(json_get(o, "held_back"), false) ? "held back"
			       : online					    ? "online"
									    : presence_of(o));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_ago(o, "reported", ago, sizeof(ago)));
		cli_table_cell(t, CLI_PLAIN, "%s", components);
		cli_table_cell(t, CLI_DIM, "%s", labels);
		cli_table_cell(t, CLI_YELLOW, "%s", orders);
	}
	cli_table_print(&c, t);
	if (json_count(list) == 0)
		cli_say(&c, "no nodes yet; selfright node add NAME makes the file that joins one");
	say_enrolments(&c, json_get(answer, "enrolments"));
	list = json_get(answer, "strangers");
	for (size_t i = 0; i < json_count(list); i++)
		cli_say(&c, "%snot counted%s: %s: %s", cli_colour(&c, CLI_YELLOW), cli_colour(&c, CLI_PLAIN),
			fleet_text(json_at(list, i), "name"), fleet_text(json_at(list, i), "reason"));
	return CLI_OK;
}

static int get_node(const struct cli *c, const char *node, struct json **ret)
{
	char path[PATH_BYTES];
	int r = fleet_check_id(c, "node", node);

	if (r >= 0)
		return r;
	snprintf(path, sizeof(path), "/v1/nodes/%s", node);
	return fleet_send(c, "GET", path, NULL, ret);
}

/* What the node said became of an order; NULL: nothing yet. */
static const struct json *outcome_of(const struct json *node, const char *id)
{
	const struct json *list = json_get(node, "order_results");

	for (size_t i = 0; i < json_count(list); i++)
		if (strcmp(fleet_text(json_at(list, i), "id"), id) == 0)
			return json_at(list, i);
	return NULL;
}

static void say_orders(const struct cli *c, const struct json *node)
{
	const struct json *orders = json_get(node, "orders"), *outcome;

	for (size_t i = 0; i < json_count(orders); i++) {
		const struct json *o = json_at(orders, i);

		cli_say(c, "  order%s: %s%s%s%s%s%s%s%s%s (%s, by %s)",
			json_bool(json_get(o, "unconfirmed"), false) ? ", not confirmed" : "",
			fleet_text(o, "kind"), *fleet_text(o, "component") ? " " : "", fleet_text(o, "component"),
			*fleet_text(o, "from") ? " from " : "", fleet_text(o, "from"),
			*fleet_text(o, "to") ? " to " : "", fleet_text(o, "to"),
			*fleet_text(o, "until") ? " until " : "", fleet_text(o, "until"),
			*fleet_text(o, "reason") ? fleet_text(o, "reason") : "no reason given",
			fleet_text(o, "by"));
		outcome = outcome_of(node, fleet_text(o, "id"));
		if (outcome)
			cli_say(c, "    the node: %s: %s", fleet_text(outcome, "name"),
				fleet_text(outcome, "detail"));
	}
}

static void say_components(const struct cli *c, const struct json *node)
{
	static const char *const headings[] = { "component", "runs", "before", "denies", "why" };
	const struct json *list = json_get(node, "components");
	struct cli_table *t;

	if (json_count(list) == 0)
		return;
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i), *denied = json_get(o, "denied");
		char denies[200] = "";
		size_t n = 0;

		for (size_t k = 0; k < json_count(denied) && n < sizeof(denies); k++)
			n += (size_t) snprintf(denies + n, sizeof(denies) - n, "%s%s (%s)", n ? ", " : "",
					       fleet_text(json_at(denied, k), "version"),
					       fleet_text(json_at(denied, k), "cause"));
		cli_table_cell(t, CLI_BOLD, "  %s", fleet_text(o, "component"));
		cli_table_cell(t, CLI_PLAIN, "%s",
			       *fleet_text(o, "version") ? fleet_text(o, "version") : "absent");
		cli_table_cell(t, CLI_PLAIN, "%s", *fleet_text(o, "previous") ? fleet_text(o, "previous") : "-");
		cli_table_cell(t, CLI_YELLOW, "%s", *denies ? denies : "-");
		cli_table_cell(t, CLI_DIM, "%s%s", reason_lead(fleet_text(o, "why")),
			       *fleet_text(o, "why_detail") ? fleet_text(o, "why_detail") : fleet_text(o, "why"));
	}
	cli_table_print(c, t);
}

static void say_results(const struct cli *c, const struct json *node)
{
	static const char *const headings[] = { "when", "component", "from", "to", "result", "detail" };
	const struct json *list = json_get(node, "results");
	size_t count = json_count(list), first = count > 10 ? count - 10 : 0;
	struct cli_table *t;

	if (count == 0)
		return;
	cli_say(c, "%snewest results%s", cli_colour(c, CLI_BOLD), cli_colour(c, CLI_PLAIN));
	t = cli_table_new(headings, ARRAY_LEN(headings));
	for (size_t i = first; i < count; i++) {
		const struct json *o = json_at(list, i);
		bool good = strcmp(fleet_text(o, "name"), "good") == 0,
		     none = strcmp(fleet_text(o, "class"), "none") == 0;

		cli_table_cell(t, CLI_PLAIN, "  %s", fleet_text(o, "at"));
		cli_table_cell(t, CLI_PLAIN, "%s", fleet_text(o, "component"));
		cli_table_cell(t, CLI_PLAIN, "%s", *fleet_text(o, "from") ? fleet_text(o, "from") : "-");
		cli_table_cell(t, CLI_PLAIN, "%s", *fleet_text(o, "to") ? fleet_text(o, "to") : "-");
		cli_table_cell(t, good ? CLI_GREEN : none ? CLI_PLAIN : CLI_RED, "%s", fleet_text(o, "name"));
		cli_table_cell(t, CLI_DIM, "%s", fleet_text(o, "detail"));
	}
	cli_table_print(c, t);
}

/* What the newest update that failed printed last; others' with --json. */
static void say_last_words(const struct cli *c, const struct json *node)
{
	const struct json *list = json_get(node, "results"), *newest = NULL;
	struct cli_table *t;
	char heading[200];
	const char *words;
	size_t len;

	for (size_t i = 0; i < json_count(list); i++)
		if (*fleet_text(json_at(list, i), "log_tail") &&
		    strcmp(fleet_text(json_at(list, i), "class"), "none") != 0)
			newest = json_at(list, i);
	if (!newest)
		return;
	(void) snprintf(heading, sizeof(heading), "what %s %s said last, %s", fleet_text(newest, "component"),
			*fleet_text(newest, "to") ? fleet_text(newest, "to") : "absent", fleet_text(newest, "at"));
	t = cli_table_new((const char *const[]){ heading }, 1);
	for (words = fleet_text(newest, "log_tail"); *words; words += len + (words[len] == '\n')) {
		len = strcspn(words, "\n");
		if (len > 0)
			cli_table_cell(t, CLI_PLAIN, "  | %.*s", (int) len, words);
	}
	cli_table_print(c, t);
}

/* It is what the broker asks for; HTTPS asks for none, so one that has ended is renewed as soon as the node comes by. */
static void say_certificate(const struct cli *c, const struct json *node)
{
	const char *until = fleet_text(node, "certificate_until");
	int64_t end;

	if (timestamp_parse(until, &end) < 0)
		return; /* none was made here */
	if (end > os_posix.clock_real(&os_posix))
		cli_say(c, "  certificate until %s", until);
	else
		cli_say(c,
			"  %sits certificate ended%s %s: no broker takes it. It asks for another by itself where "
			"HTTPS gets through; selfright-agent status and doctor, there, say what is in the way",
			cli_colour(c, CLI_YELLOW), cli_colour(c, CLI_PLAIN), until);
}

int cmd_node_show(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "node show NAME",
		.summary = "everything known about one node: components, orders, checks, newest results",
		.example = "selfright node show oslo-1",
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(json_freep)
	struct json *n = NULL;
	char labels[300], ago[60];
	const struct json *way;
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = get_node(&c, c.args[0], &n);
	if (r != CLI_OK || c.json)
		return r;
	labels_text(json_get(n, "labels"), labels, sizeof(labels));
	cli_say(&c, "node %s%s%s: %s, reported %s, agent %s", cli_colour(&c, CLI_BOLD), c.args[0],
		cli_colour(&c, CLI_PLAIN), json_bool(json_get(n, "online"), false) ? "online" : presence_of(n),
		fleet_ago(n, "reported", ago, sizeof(ago)),
		*fleet_text(n, "agent") ? fleet_text(n, "agent") : "unknown");
	cli_say(&c, "  labels: %s", *labels ? labels : "none");
	say_certificate(&c, n);
	if (json_bool(json_get(n, "held_back"), false))
		cli_say(&c,
			"  %sheld back%s: it reports, but has had no new metadata for hours; something between "
			"here and "
			"it keeps old files, or its metadata does not verify (selfright-agent status says why)",
			cli_colour(&c, CLI_YELLOW), cli_colour(&c, CLI_PLAIN));
	if (json_bool(json_get(n, "quarantined"), false))
		cli_say(&c, "  %squarantined%s: %s; after looking into it: selfright node trust %s --reason TEXT",
			cli_colour(&c, CLI_RED), cli_colour(&c, CLI_PLAIN), fleet_text(n, "quarantine_reason"),
			c.args[0]);
	if (json_get(n, "two_machines") || json_bool(json_get(n, "quarantined"), false))
		cli_say(&c,
			"  %stwo machines%s%s%s: was a disk or an image copied after it had joined? Stop the "
			"copy; let it join as "
			"itself with a file of its own (selfright node add OTHER; on it: empty its --root and "
			"--config-dir, "
			"then selfright-agent join). The keys here exist twice by now: selfright node add %s "
			"--replace "
			"--reason TEXT gives the right one new ones",
			cli_colour(&c, CLI_RED), cli_colour(&c, CLI_PLAIN),
			json_get(n, "two_machines") ? " took turns as this node, last " : "",
			json_get(n, "two_machines")
				? fleet_ago(json_get(n, "two_machines"), "last", ago, sizeof(ago))
				: "",
			c.args[0]);
	say_orders(&c, n);
	if (json_get(n, "place"))
		cli_say(&c, "  may be down by leave since %s, for %s (%s %s)",
			fleet_text(json_get(n, "place"), "granted"), fleet_text(json_get(n, "place"), "rollout"),
			fleet_text(json_get(n, "place"), "label"), fleet_text(json_get(n, "place"), "value"));
	way = json_get(n, "under_way");
	if (way && *fleet_text(way, "state"))
		cli_say(&c, "  now: %s to %s, %s", fleet_text(way, "component"), fleet_text(way, "to"),
			fleet_text(way, "state"));
	say_components(&c, n);
	say_results(&c, n);
	say_last_words(&c, n);
	return CLI_OK;
}

/* What would change it, from the catalogue of reasons. */
static const char *change_for(const char *why)
{
	for (int i = 0; i < REASON_COUNT; i++)
		if (strcmp(reason_name((enum reason) i), why) == 0)
			return reason_change((enum reason) i);
	return "";
}

int cmd_node_why(int argc, char **argv)
{
	static const struct cli_command command = {
		.usage = "node why NAME",
		.summary = "why a node does not update, component by component, in its own words",
		.example = "selfright node why oslo-1",
		.min_args = 1,
		.max_args = 1,
	};
	CLEANUP(json_freep)
	struct json *n = NULL;
	const struct json *list;
	char ago[60];
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	r = get_node(&c, c.args[0], &n);
	if (r != CLI_OK || c.json)
		return r;
	cli_say(&c, "%s, as it said %s:", c.args[0], fleet_ago(n, "reported", ago, sizeof(ago)));
	if (!json_bool(json_get(n, "online"), false))
		cli_say(&c, "  it is not connected now: what was decided since reaches it with its next poll");
	list = json_get(n, "components");
	for (size_t i = 0; i < json_count(list); i++) {
		const struct json *o = json_at(list, i);
		const char *why = fleet_text(o, "why"), *change = change_for(why);

		cli_say(&c, "  %s %s%s%s: %s%s%s%s", fleet_text(o, "component"),
			*fleet_text(o, "version") ? fleet_text(o, "version") : "absent",
			*fleet_text(o, "wants") ? ", wants " : "", fleet_text(o, "wants"), reason_lead(why),
			*fleet_text(o, "why_detail") ? fleet_text(o, "why_detail")
			: *why			     ? why
						     : "says nothing",
			*change ? "; what changes it: " : "", change);
	}
	if (json_count(list) == 0)
		cli_say(&c, "  it has not reported any component yet");
	say_orders(&c, n);
	return CLI_OK;
}
