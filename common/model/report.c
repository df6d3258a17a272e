#include "model/report.h"

#include "base/err.h"
#include "json/build.h"
#include "json/json.h"
#include "model/field.h"
#include "model/write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const state_names[] = {
#define STATE_NAME_(id, name) [STATE_##id] = name,
	UPDATE_STATES(STATE_NAME_)
#undef STATE_NAME_
};
_Static_assert(ARRAY_LEN(state_names) == STATE_COUNT, "every state has a name");

const char *update_state_name(enum update_state s)
{
	return (unsigned) s < STATE_COUNT ? state_names[s] : "unknown";
}

int update_state_parse(const char *name)
{
	for (int i = 0; i < STATE_COUNT; i++)
		if (str_eq(state_names[i], name))
			return i;
	return -1;
}

/* --- the rules of these documents --- */

static const char *const known_fields[] = { "_type",	 "format",   "fleet",	   "node",	 "boot_id",
					    "agent",	 "sequence", "at",	   "generation", "trust",
					    "timestamp", "labels",   "own_labels", "components", "update",
					    "results",	 "checks",   "orders",	   "metrics",	 "nonce",
					    "means",	 "ca",	     "must",	   NULL };

/* Two ids and a number, joined by '/'. */
static bool is_update(const char *s)
{
	return guard_path(s);
}

static bool is_update_or_empty(const char *s)
{
	return s[0] == '\0' || is_update(s);
}

static bool is_boot_id(const char *s)
{
	size_t n = strspn(s, "0123456789abcdef-");

	return n > 0 && s[n] == '\0';
}

static bool is_nonce(const char *s)
{
	return strlen(s) == NONCE_HEX && strspn(s, "0123456789abcdef") == NONCE_HEX;
}

static const struct text_rule rule_update = { UPDATE_ID_MAX, is_update, "<id>/<component>/<attempt>" };
static const struct text_rule rule_update_or_empty = { UPDATE_ID_MAX, is_update_or_empty,
						       "<id>/<component>/<attempt>" };
static const struct text_rule rule_boot_id = { BOOT_ID_MAX, is_boot_id, "a boot id" };
static const struct text_rule rule_nonce = { NONCE_HEX, is_nonce, "32 lower-case hex digits" };
/* What "%.9g" writes of a number that is one. */
static bool is_number(const char *s)
{
	size_t n;

	s += *s == '-';
	n = strspn(s, "0123456789");
	if (n == 0)
		return false;
	s += n;
	if (*s == '.') {
		n = strspn(s + 1, "0123456789");
		if (n == 0)
			return false;
		s += 1 + n;
	}
	if (*s == 'e') {
		s++;
		s += *s == '-' || *s == '+';
		n = strspn(s, "0123456789");
		if (n == 0 || n > 3)
			return false;
		s += n;
	}
	return *s == '\0';
}

static const struct text_rule rule_number = { 24, is_number, "a number, as 0.05 or 1.5e+09" };
static const struct text_rule rule_detail = { REPORT_DETAIL_MAX, NULL, "text" };
static const struct text_rule rule_tail = { LOG_TAIL_MAX, NULL, "text" };

#define NUMBER_MAX (INT64_C(1) << 52)
#define HOUR_MAX 100000000 /* the year 13377 */

/* --- releasing --- */

static void component_done(struct report_component *c)
{
	free(c->component);
	free(c->version);
	free(c->previous);
	for (size_t i = 0; i < c->denied_count; i++) {
		free(c->denied[i].version);
		free(c->denied[i].cause);
	}
	free(c->denied);
	free(c->rollout);
	free(c->stage);
	free(c->why);
	free(c->why_detail);
	free(c->wants);
}

static void result_done(struct report_result *r)
{
	free(r->update);
	free(r->component);
	free(r->from);
	free(r->to);
	free(r->rollout);
	free(r->stage);
	free(r->release_sha256);
	free(r->name);
	free(r->class);
	free(r->detail);
	free(r->log_tail);
}

static void check_done(struct report_check *c)
{
	free(c->component);
	free(c->name);
	free(c->kind);
	free(c->state);
	free(c->detail);
}

static void order_done(struct report_order *o)
{
	free(o->id);
	free(o->component);
	free(o->name);
	free(o->detail);
}

static void metric_done(struct report_metric *m)
{
	free(m->component);
	free(m->version);
	free(m->name);
	free(m->hours);
}

void report_done(struct report *r)
{
	if (!r)
		return;
	free(r->fleet);
	free(r->node);
	free(r->boot_id);
	free(r->agent);
	json_free(r->timestamp);
	labels_done(&r->labels);
	labels_done(&r->own_labels);
	string_list_done(&r->means.vars);
	free(r->means.secrets_folder);
	string_list_done(&r->means.secrets);
	free(r->means.zone_data);
	string_list_done(&r->ca.trusted);
	free(r->ca.issuer);
	for (size_t i = 0; i < r->component_count; i++)
		component_done(&r->components[i]);
	free(r->components);
	free(r->progress.update);
	free(r->progress.component);
	free(r->progress.to);
	free(r->progress.state);
	for (size_t i = 0; i < r->result_count; i++)
		result_done(&r->results[i]);
	free(r->results);
	for (size_t i = 0; i < r->check_count; i++)
		check_done(&r->checks[i]);
	free(r->checks);
	for (size_t i = 0; i < r->order_count; i++)
		order_done(&r->orders[i]);
	free(r->orders);
	for (size_t i = 0; i < r->metric_count; i++)
		metric_done(&r->metrics[i]);
	free(r->metrics);
	free(r->nonce);
	*r = (struct report){ 0 };
}

/* --- writing --- */

/* Text that programs made: NULL is left out. */
static int write_clean(struct json_node *o, const char *name, const char *text, size_t max)
{
	CLEANUP(buf_done)
	struct buf clean = BUF_INIT(max);
	int r;

	if (!text)
		return 0;
	r = printable_tail(text, strlen(text), max, &clean);
	if (r < 0)
		return r;
	node_string(o, name, buf_str(&clean));
	return 0;
}

/* "" is "absent" inside, and left out outside. */
static void write_version(struct json_node *o, const char *name, const char *version)
{
	if (version && version[0])
		node_string(o, name, version);
}

static int write_component(struct json_node *o, const struct report_component *c)
{
	struct json_node *denied;

	node_string(o, "component", c->component);
	write_version(o, "version", c->version);
	write_version(o, "previous", c->previous);
	denied = node_array(o, "denied");
	for (size_t i = 0; i < c->denied_count; i++) {
		struct json_node *d = node_object(denied, NULL);

		node_string(d, "version", c->denied[i].version);
		node_string(d, "cause", c->denied[i].cause);
		write_u64(d, "seq", c->denied[i].seq);
	}
	write_text(o, "rollout", c->rollout);
	write_text(o, "stage", c->stage);
	write_u64(o, "seq", c->seq);
	write_text(o, "why", c->why);
	write_version(o, "wants", c->wants);
	return write_clean(o, "why_detail", c->why_detail, REPORT_DETAIL_MAX);
}

static int write_result(struct json_node *o, const struct report_result *result)
{
	int r;

	node_string(o, "update", result->update);
	node_string(o, "component", result->component);
	write_version(o, "from", result->from);
	write_version(o, "to", result->to);
	write_text(o, "rollout", result->rollout);
	write_text(o, "stage", result->stage);
	write_u64(o, "seq", result->seq);
	write_text(o, "release_sha256", result->release_sha256);
	write_u64(o, "number", result->number);
	node_string(o, "name", result->name);
	node_string(o, "class", result->class);
	write_time(o, "at", result->at);
	write_u64(o, "duration_ms", result->duration_ms);
	write_u64(o, "pause_ms", result->pause_ms);
	write_u64(o, "sequence", result->sequence);
	r = write_clean(o, "detail", result->detail, REPORT_DETAIL_MAX);
	return r < 0 ? r : write_clean(o, "log_tail", result->log_tail, LOG_TAIL_MAX);
}

static int write_check(struct json_node *o, const struct report_check *c)
{
	node_string(o, "component", c->component);
	node_string(o, "name", c->name);
	node_string(o, "kind", c->kind);
	node_string(o, "state", c->state);
	return write_clean(o, "detail", c->detail, REPORT_DETAIL_MAX);
}

static int write_order(struct json_node *o, const struct report_order *order)
{
	node_string(o, "id", order->id);
	write_text(o, "component", order->component);
	write_u64(o, "number", order->number);
	node_string(o, "name", order->name);
	write_time(o, "at", order->at);
	return write_clean(o, "detail", order->detail, REPORT_DETAIL_MAX);
}

static void write_metric(struct json_node *o, const struct report_metric *m)
{
	struct json_node *hours, *h;

	node_string(o, "component", m->component);
	node_string(o, "version", m->version);
	node_string(o, "name", m->name);
	hours = node_array(o, "hours");
	for (size_t i = 0; i < m->hour_count; i++) {
		h = node_object(hours, NULL);
		node_integer(h, "hour", m->hours[i].hour);
		/* As text: what is signed knows whole numbers only. */
		node_stringf(h, "mean", "%.9g", m->hours[i].mean);
		write_u64(h, "samples", m->hours[i].samples);
	}
}

static void write_trust(struct json_node *object, const struct report *r)
{
	struct json_node *trust = node_object(object, "trust");

	write_u64(trust, "root", r->root_version);
	write_u64(trust, "timestamp", r->timestamp_version);
	write_u64(trust, "snapshot", r->snapshot_version);
	write_u64(trust, "targets", r->targets_version);
	if (r->timestamp)
		node_copy(object, "timestamp", r->timestamp);
}

static void write_progress(struct json_node *object, const struct report *r)
{
	struct json_node *update;

	if (!r->progress.update)
		return;
	update = node_object(object, "update");
	node_string(update, "id", r->progress.update);
	node_string(update, "component", r->progress.component);
	write_version(update, "to", r->progress.to);
	node_string(update, "state", r->progress.state);
	write_u64(update, "bytes_done", r->progress.bytes_done);
	write_u64(update, "bytes_total", r->progress.bytes_total);
}

static void write_names(struct json_node *object, const char *name, const struct string_list *list)
{
	struct json_node *array = node_array(object, name);

	for (size_t i = 0; i < list->count; i++)
		node_string(array, NULL, list->items[i]);
}

static void write_means(struct json_node *object, const struct report_means *m)
{
	struct json_node *means, *secrets;

	if (!m->told)
		return;
	means = node_object(object, "means");
	write_names(means, "vars", &m->vars);
	if (m->secrets_folder) {
		secrets = node_object(means, "secrets");
		node_string(secrets, "folder", m->secrets_folder);
		write_names(secrets, "names", &m->secrets);
	}
	write_text(means, "zone_data", m->zone_data);
	write_u64(means, "free_bytes", m->free_bytes);
}

static int write_lists(struct json_node *object, const struct report *report)
{
	struct json_node *list = node_array(object, "components");
	int r = 0;

	for (size_t i = 0; i < report->component_count && r == 0; i++)
		r = write_component(node_object(list, NULL), &report->components[i]);
	list = node_array(object, "results");
	for (size_t i = 0; i < report->result_count && r == 0; i++)
		r = write_result(node_object(list, NULL), &report->results[i]);
	list = node_array(object, "checks");
	for (size_t i = 0; i < report->check_count && r == 0; i++)
		r = write_check(node_object(list, NULL), &report->checks[i]);
	/* What agents before it do not write, an empty list does not change. */
	list = report->order_count > 0 ? node_array(object, "orders") : NULL;
	for (size_t i = 0; i < report->order_count && r == 0; i++)
		r = write_order(node_object(list, NULL), &report->orders[i]);
	/* One without hours tells nothing, and is not written; nor is a list of such. */
	list = NULL;
	for (size_t i = 0; i < report->metric_count; i++) {
		if (report->metrics[i].hour_count == 0)
			continue;
		list = list ? list : node_array(object, "metrics");
		write_metric(node_object(list, NULL), &report->metrics[i]);
	}
	return r;
}

static bool counts_fit(const struct report *r)
{
	for (size_t i = 0; i < r->component_count; i++)
		if (r->components[i].denied_count > REPORT_DENIED_MAX)
			return false;
	for (size_t i = 0; i < r->metric_count; i++)
		if (r->metrics[i].hour_count > REPORT_METRIC_HOURS_MAX)
			return false;
	return r->component_count <= REPORT_COMPONENTS_MAX && r->result_count <= REPORT_RESULTS_MAX &&
	       r->check_count <= REPORT_CHECKS_MAX && r->means.vars.count <= LABELS_MAX &&
	       r->means.secrets.count <= REPORT_SECRETS_MAX && r->ca.trusted.count <= REPORT_CA_MAX &&
	       r->order_count <= REPORT_ORDERS_MAX && r->metric_count <= REPORT_METRICS_MAX;
}

int report_write(const struct report *r, struct json_node *object)
{
	struct json_node *ca;

	if (!r->fleet || !r->node || !r->boot_id || !r->agent)
		return -ERR_FIELD_MISSING;
	if (!counts_fit(r))
		return -ERR_TOO_LARGE;
	node_string(object, "_type", "selfright-report");
	node_integer(object, "format", REPORT_FORMAT);
	node_string(object, "fleet", r->fleet);
	node_string(object, "node", r->node);
	node_string(object, "boot_id", r->boot_id);
	node_string(object, "agent", r->agent);
	write_u64(object, "sequence", r->sequence);
	write_time(object, "at", r->at);
	write_u64(object, "generation", r->generation);
	write_trust(object, r);
	labels_write(&r->labels, object, "labels");
	labels_write(&r->own_labels, object, "own_labels");
	write_progress(object, r);
	write_means(object, &r->means);
	if (r->ca.told) {
		ca = node_object(object, "ca");
		write_names(ca, "trusted", &r->ca.trusted);
		write_text(ca, "issuer", r->ca.issuer);
	}
	write_text(object, "nonce", r->nonce);
	return write_lists(object, r);
}

/* --- parsing --- */

static void parse_component(struct fields *f, struct report_component *ret)
{
	size_t n;

	ret->component = field_text(f, "component", &rule_id, true);
	ret->version = field_text(f, "version", &rule_version, false);
	ret->previous = field_text(f, "previous", &rule_version, false);
	n = fields_count(f, "denied", 0, REPORT_DENIED_MAX);
	ret->denied = field_alloc(f, n, sizeof(*ret->denied));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields d = field_element(f, "denied", i);
		struct report_denial *denial = &ret->denied[ret->denied_count++];

		denial->version = field_text(&d, "version", &rule_version, true);
		denial->cause = field_text(&d, "cause", &rule_id, true);
		denial->seq = field_u64(&d, "seq", 0, NUMBER_MAX, 0);
	}
	ret->rollout = field_text(f, "rollout", &rule_id, false);
	ret->stage = field_text(f, "stage", &rule_id, false);
	ret->seq = field_u64(f, "seq", 0, NUMBER_MAX, 0);
	ret->why = field_text(f, "why", &rule_id, false);
	ret->why_detail = field_text(f, "why_detail", &rule_detail, false);
	ret->wants = field_text(f, "wants", &rule_version, false);
}

static void parse_result(struct fields *f, struct report_result *ret)
{
	ret->update = field_text(f, "update", &rule_update, true);
	ret->component = field_text(f, "component", &rule_id, true);
	ret->from = field_text(f, "from", &rule_version, false);
	ret->to = field_text(f, "to", &rule_version, false);
	ret->rollout = field_text(f, "rollout", &rule_id, false);
	ret->stage = field_text(f, "stage", &rule_id, false);
	ret->seq = field_u64(f, "seq", 0, NUMBER_MAX, 0);
	ret->release_sha256 = field_text(f, "release_sha256", &rule_sha256, false);
	ret->number = field_need_u64(f, "number", 1, 9999);
	ret->name = field_text(f, "name", &rule_id, true);
	ret->class = field_text(f, "class", &rule_id, true);
	ret->detail = field_text(f, "detail", &rule_detail, false);
	ret->log_tail = field_text(f, "log_tail", &rule_tail, false);
	ret->at = field_time(f, "at", true);
	ret->duration_ms = field_u64(f, "duration_ms", 0, NUMBER_MAX, 0);
	ret->pause_ms = field_u64(f, "pause_ms", 0, NUMBER_MAX, 0);
	ret->sequence = field_u64(f, "sequence", 0, NUMBER_MAX, 0);
}

static void parse_check(struct fields *f, struct report_check *ret)
{
	ret->component = field_text(f, "component", &rule_id, true);
	ret->name = field_text(f, "name", &rule_id, true);
	ret->kind = field_text(f, "kind", &rule_word, true);
	ret->state = field_text(f, "state", &rule_id, true);
	ret->detail = field_text(f, "detail", &rule_detail, false);
}

static void parse_order(struct fields *f, struct report_order *ret)
{
	ret->id = field_text(f, "id", &rule_id, true);
	ret->component = field_text(f, "component", &rule_id, false);
	ret->number = field_need_u64(f, "number", 1, 9999);
	ret->name = field_text(f, "name", &rule_id, true);
	ret->detail = field_text(f, "detail", &rule_detail, false);
	ret->at = field_time(f, "at", true);
}

static void parse_metric(struct fields *f, struct report_metric *ret)
{
	size_t n;

	ret->component = field_text(f, "component", &rule_id, true);
	ret->version = field_text(f, "version", &rule_version, true);
	ret->name = field_text(f, "name", &rule_id, true);
	n = fields_count(f, "hours", 0, REPORT_METRIC_HOURS_MAX);
	ret->hours = field_alloc(f, n, sizeof(*ret->hours));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields h = field_element(f, "hours", i);
		struct report_metric_hour *hour = &ret->hours[ret->hour_count++];
		char text[32];

		hour->hour = (int64_t) field_need_u64(&h, "hour", 1, HOUR_MAX);
		field_text_into(&h, "mean", &rule_number, true, text, sizeof(text));
		hour->mean = strtod(text, NULL);
		hour->samples = field_need_u64(&h, "samples", 1, NUMBER_MAX);
		if (!isfinite(hour->mean))
			field_fail(&h, -ERR_FIELD_VALUE, "mean", "out of range");
		else if (i > 0 && field_ok(&h) && hour->hour <= hour[-1].hour)
			field_fail(&h, -ERR_FIELD_VALUE, "hour", "must be later than the one before");
	}
}

static void parse_trust(struct fields *f, struct report *out)
{
	struct fields trust = field_object(f, "trust", false);

	out->root_version = field_u64(&trust, "root", 0, NUMBER_MAX, 0);
	out->timestamp_version = field_u64(&trust, "timestamp", 0, NUMBER_MAX, 0);
	out->snapshot_version = field_u64(&trust, "snapshot", 0, NUMBER_MAX, 0);
	out->targets_version = field_u64(&trust, "targets", 0, NUMBER_MAX, 0);
	out->timestamp = field_copy(f, "timestamp", JSON_OBJECT);
}

static void parse_progress(struct fields *f, struct report *out)
{
	struct fields update = field_object(f, "update", false);

	if (!field_has(f, "update"))
		return;
	out->progress.update = field_text(&update, "id", &rule_update, true);
	out->progress.component = field_text(&update, "component", &rule_id, true);
	out->progress.to = field_text(&update, "to", &rule_version, false);
	out->progress.state = field_text(&update, "state", &rule_id, true);
	out->progress.bytes_done = field_u64(&update, "bytes_done", 0, NUMBER_MAX, 0);
	out->progress.bytes_total = field_u64(&update, "bytes_total", 0, NUMBER_MAX, 0);
}

static void parse_means(struct fields *f, struct report_means *out)
{
	struct fields means = field_object(f, "means", false), secrets = field_object(&means, "secrets", false);

	if (!field_has(f, "means"))
		return;
	out->told = true;
	field_text_list(&means, "vars", &rule_word, 0, LABELS_MAX, &out->vars);
	if (field_has(&means, "secrets")) {
		out->secrets_folder = field_text(&secrets, "folder", &rule_line, true);
		field_text_list(&secrets, "names", &rule_word, 0, REPORT_SECRETS_MAX, &out->secrets);
	}
	out->zone_data = field_text(&means, "zone_data", &rule_word, false);
	out->free_bytes = field_u64(&means, "free_bytes", 0, NUMBER_MAX, 0);
}

static void parse_ca(struct fields *f, struct report_ca *out)
{
	struct fields ca = field_object(f, "ca", false);

	if (!field_has(f, "ca"))
		return;
	out->told = true;
	field_text_list(&ca, "trusted", &rule_sha256, 0, REPORT_CA_MAX, &out->trusted);
	out->issuer = field_text(&ca, "issuer", &rule_sha256, false);
}

static void parse_lists(struct fields *f, struct report *out)
{
	size_t n = fields_count(f, "components", 0, REPORT_COMPONENTS_MAX);

	out->components = field_alloc(f, n, sizeof(*out->components));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields c = field_element(f, "components", i);

		parse_component(&c, &out->components[out->component_count++]);
	}
	n = fields_count(f, "results", 0, REPORT_RESULTS_MAX);
	out->results = field_alloc(f, n, sizeof(*out->results));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields r = field_element(f, "results", i);

		parse_result(&r, &out->results[out->result_count++]);
	}
	n = fields_count(f, "checks", 0, REPORT_CHECKS_MAX);
	out->checks = field_alloc(f, n, sizeof(*out->checks));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields c = field_element(f, "checks", i);

		parse_check(&c, &out->checks[out->check_count++]);
	}
	n = fields_count(f, "orders", 0, REPORT_ORDERS_MAX);
	out->orders = field_alloc(f, n, sizeof(*out->orders));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields o = field_element(f, "orders", i);

		parse_order(&o, &out->orders[out->order_count++]);
	}
	n = fields_count(f, "metrics", 0, REPORT_METRICS_MAX);
	out->metrics = field_alloc(f, n, sizeof(*out->metrics));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields m = field_element(f, "metrics", i);

		parse_metric(&m, &out->metrics[out->metric_count++]);
	}
}

int report_parse(const struct json *object, struct report *ret, char **ret_error)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(object, &error);
	struct report out = { 0 };

	field_type(&f, "selfright-report");
	field_format(&f, REPORT_FORMAT, known_fields);
	out.fleet = field_text(&f, "fleet", &rule_id, true);
	out.node = field_text(&f, "node", &rule_id, true);
	out.boot_id = field_text(&f, "boot_id", &rule_boot_id, true);
	out.agent = field_text(&f, "agent", &rule_version, true);
	out.sequence = field_need_u64(&f, "sequence", 0, NUMBER_MAX);
	out.at = field_time(&f, "at", true);
	out.generation = field_u64(&f, "generation", 0, NUMBER_MAX, 0);
	parse_trust(&f, &out);
	field_labels(&f, "labels", &out.labels);
	field_labels(&f, "own_labels", &out.own_labels);
	parse_lists(&f, &out);
	parse_progress(&f, &out);
	parse_means(&f, &out.means);
	parse_ca(&f, &out.ca);
	out.nonce = field_text(&f, "nonce", &rule_nonce, false);
	if (error.r < 0) {
		report_done(&out);
		return field_error_take(&error, ret_error);
	}
	*ret = out;
	return 0;
}

/* --- answers and news --- */

void ack_write(const struct ack *a, struct json_node *object)
{
	node_string(object, "_type", "selfright-ack");
	node_string(object, "fleet", a->fleet);
	node_string(object, "node", a->node);
	node_string(object, "boot_id", a->boot_id);
	if (a->nonce[0])
		node_string(object, "nonce", a->nonce);
	write_u64(object, "sequence", a->sequence);
	write_time(object, "at", a->at);
}

int ack_parse(const struct json *object, struct ack *ret)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(object, &error);
	struct ack out = { .sequence = 0 };

	field_type(&f, "selfright-ack");
	field_text_into(&f, "fleet", &rule_id, true, out.fleet, sizeof(out.fleet));
	field_text_into(&f, "node", &rule_id, true, out.node, sizeof(out.node));
	field_text_into(&f, "boot_id", &rule_boot_id, true, out.boot_id, sizeof(out.boot_id));
	field_text_into(&f, "nonce", &rule_nonce, false, out.nonce, sizeof(out.nonce));
	out.sequence = field_need_u64(&f, "sequence", 0, NUMBER_MAX);
	out.at = field_time(&f, "at", true);
	if (error.r == 0)
		*ret = out;
	return field_error_take(&error, NULL);
}

void lease_write(const struct lease *l, struct json_node *object)
{
	node_string(object, "_type", "selfright-lease");
	node_string(object, "fleet", l->fleet);
	node_string(object, "node", l->node);
	node_string(object, "nonce", l->nonce);
	node_string(object, "update", l->update);
	node_string(object, "rollout", l->rollout);
	write_u64(object, "sequence", l->sequence);
}

int lease_parse(const struct json *object, struct lease *ret)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(object, &error);
	struct lease out = { .sequence = 0 };

	field_type(&f, "selfright-lease");
	field_text_into(&f, "fleet", &rule_id, true, out.fleet, sizeof(out.fleet));
	field_text_into(&f, "node", &rule_id, true, out.node, sizeof(out.node));
	field_text_into(&f, "nonce", &rule_nonce, true, out.nonce, sizeof(out.nonce));
	field_text_into(&f, "update", &rule_update, true, out.update, sizeof(out.update));
	field_text_into(&f, "rollout", &rule_id, true, out.rollout, sizeof(out.rollout));
	out.sequence = field_u64(&f, "sequence", 0, INT64_C(1) << 52, 0);
	if (error.r == 0)
		*ret = out;
	return field_error_take(&error, NULL);
}

void grant_write(const struct grant *g, struct json_node *object)
{
	node_string(object, "_type", "selfright-grant");
	node_string(object, "fleet", g->fleet);
	node_string(object, "node", g->node);
	node_string(object, "nonce", g->nonce);
	node_string(object, "update", g->update);
	node_bool(object, "granted", g->granted);
	write_u64(object, "start_within", g->start_within_s);
	node_string(object, "reason", g->reason);
}

int grant_parse(const struct json *object, struct grant *ret)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(object, &error);
	struct grant out = { .granted = false };

	field_type(&f, "selfright-grant");
	field_text_into(&f, "fleet", &rule_id, true, out.fleet, sizeof(out.fleet));
	field_text_into(&f, "node", &rule_id, true, out.node, sizeof(out.node));
	field_text_into(&f, "nonce", &rule_nonce, true, out.nonce, sizeof(out.nonce));
	field_text_into(&f, "update", &rule_update, true, out.update, sizeof(out.update));
	out.granted = field_bool(&f, "granted", false);
	out.start_within_s = field_u64(&f, "start_within", 0, FIELD_SECONDS_MAX, 0);
	field_text_into(&f, "reason", &rule_line, false, out.reason, sizeof(out.reason));
	if (error.r == 0)
		*ret = out;
	return field_error_take(&error, NULL);
}

void event_write(const struct event *e, struct json_node *object)
{
	node_string(object, "_type", "selfright-event");
	node_string(object, "node", e->node);
	node_string(object, "update", e->update);
	node_string(object, "component", e->component);
	node_string(object, "state", e->state);
	node_string(object, "version", e->version);
	/* Out of memory leaves the detail out: it is news for the desk. */
	(void) write_clean(object, "detail", e->detail, sizeof(e->detail) - 1);
	write_time(object, "at", e->at);
	write_u64(object, "bytes_done", e->bytes_done);
	write_u64(object, "bytes_total", e->bytes_total);
	if (e->queue[0]) {
		node_string(object, "queue", e->queue);
		write_u64(object, "number", e->number);
		write_u64(object, "dropped", e->dropped);
	}
}

int event_parse(const struct json *object, struct event *ret)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(object, &error);
	struct event out = { .at = 0 };

	field_type(&f, "selfright-event");
	field_text_into(&f, "node", &rule_id, true, out.node, sizeof(out.node));
	field_text_into(&f, "update", &rule_update_or_empty, false, out.update, sizeof(out.update));
	field_text_into(&f, "component", &rule_line, false, out.component, sizeof(out.component));
	field_text_into(&f, "state", &rule_line, true, out.state, sizeof(out.state));
	field_text_into(&f, "version", &rule_line, false, out.version, sizeof(out.version));
	field_text_into(&f, "detail", &rule_detail, false, out.detail, sizeof(out.detail));
	out.at = field_time(&f, "at", true);
	out.bytes_done = field_u64(&f, "bytes_done", 0, NUMBER_MAX, 0);
	out.bytes_total = field_u64(&f, "bytes_total", 0, NUMBER_MAX, 0);
	field_text_into(&f, "queue", &rule_id, false, out.queue, sizeof(out.queue));
	out.number = field_u64(&f, "number", 0, NUMBER_MAX, 0);
	out.dropped = field_u64(&f, "dropped", 0, NUMBER_MAX, 0);
	if (error.r == 0)
		*ret = out;
	return field_error_take(&error, NULL);
}
