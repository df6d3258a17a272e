#include "base/err.h"
#include "json/build.h"
#include "model/field.h"
#include "model/rollout.h"
#include "model/write.h"

#include <stdlib.h>
#include <string.h>

/* What must[] may name. */
static const char *const known_fields[] = { "format", "node",	 "rollback", "pin", "hold",
					    "retry",  "collect", "must",     NULL };

static const char *const data_moves[] = { "keep", "restore" };

static void parse_rollbacks(struct fields *f, struct node_orders *out)
{
	size_t n = fields_count(f, "rollback", 0, ORDERS_MAX);

	out->rollbacks = field_alloc(f, n, sizeof(*out->rollbacks));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields e = field_element(f, "rollback", i);
		struct order_rollback *o = &out->rollbacks[out->rollback_count++];

		o->id = field_text(&e, "id", &rule_id, true);
		o->component = field_text(&e, "component", &rule_id, true);
		o->from = field_text(&e, "from", &rule_version, true);
		o->to = field_text(&e, "to", &rule_version, true);
		o->reason = field_text(&e, "reason", &rule_text, true);
		o->by = field_text(&e, "by", &rule_line, true);
		o->issued = field_time(&e, "issued", false);
		o->restore_data = field_choice(&e, "data", data_moves, ARRAY_LEN(data_moves), 0) == 1;
		if (field_ok(f) && strcmp(o->from, o->to) == 0)
			field_fail(&e, -ERR_FIELD_VALUE, "to", "must differ from \"from\"");
		for (size_t k = 0; k < i && field_ok(f); k++)
			if (strcmp(out->rollbacks[k].component, o->component) == 0)
				field_fail(&e, -ERR_FIELD_VALUE, "component", "has two rollbacks");
	}
}

static void parse_pins(struct fields *f, struct node_orders *out)
{
	size_t n = fields_count(f, "pin", 0, ORDERS_MAX);

	out->pins = field_alloc(f, n, sizeof(*out->pins));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields e = field_element(f, "pin", i);
		struct order_pin *o = &out->pins[out->pin_count++];

		o->id = field_text(&e, "id", &rule_id, true);
		o->component = field_text(&e, "component", &rule_id, true);
		o->version = field_text(&e, "version", &rule_version, true);
		o->reason = field_text(&e, "reason", &rule_text, true);
		o->by = field_text(&e, "by", &rule_line, true);
		for (size_t k = 0; k < i && field_ok(f); k++)
			if (strcmp(out->pins[k].component, o->component) == 0)
				field_fail(&e, -ERR_FIELD_VALUE, "component", "has two pins");
	}
}

/* `about` is the member that says what: a retry names a component, a collection a set. */
static void parse_once(struct fields *f, const char *name, const char *about, struct order_once **ret,
		       size_t *ret_count)
{
	size_t n = fields_count(f, name, 0, ORDERS_MAX);

	*ret = field_alloc(f, n, sizeof(**ret));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields e = field_element(f, name, i);
		struct order_once *o = &(*ret)[(*ret_count)++];
		char *what = field_text(&e, about, &rule_id, true);

		if (strcmp(about, "set") == 0)
			o->set = what;
		else
			o->component = what;
		o->id = field_text(&e, "id", &rule_id, true);
		o->issued = field_time(&e, "issued", true);
		o->expires = field_time(&e, "expires", true);
	}
}

static void parse_hold(struct fields *f, struct node_orders *out)
{
	struct fields h = field_object(f, "hold", false);

	if (!field_has(f, "hold"))
		return;
	out->hold.until = field_time(&h, "until", true);
	out->hold.reason = field_text(&h, "reason", &rule_text, true);
	out->hold.by = field_text(&h, "by", &rule_line, true);
}

int orders_parse(const struct json *doc, const char *node, struct node_orders *ret, char **ret_error)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(doc, &error);
	struct node_orders out = { 0 };

	field_format(&f, ORDER_FORMAT, known_fields);
	out.node = field_text(&f, "node", &rule_id, true);
	if (field_ok(&f) && strcmp(out.node, node) != 0)
		field_fail(&f, -ERR_DISAGREE, "node", "is \"%s\", not this node", out.node);
	parse_rollbacks(&f, &out);
	parse_pins(&f, &out);
	parse_hold(&f, &out);
	parse_once(&f, "retry", "component", &out.retries, &out.retry_count);
	parse_once(&f, "collect", "set", &out.collects, &out.collect_count);
	if (error.r < 0) {
		orders_done(&out);
		return field_error_take(&error, ret_error);
	}
	*ret = out;
	return 0;
}

static void once_done(struct order_once *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(list[i].id);
		free(list[i].component);
		free(list[i].set);
	}
	free(list);
}

void orders_done(struct node_orders *o)
{
	if (!o)
		return;
	free(o->node);
	for (size_t i = 0; i < o->rollback_count; i++) {
		free(o->rollbacks[i].id);
		free(o->rollbacks[i].component);
		free(o->rollbacks[i].from);
		free(o->rollbacks[i].to);
		free(o->rollbacks[i].reason);
		free(o->rollbacks[i].by);
	}
	free(o->rollbacks);
	for (size_t i = 0; i < o->pin_count; i++) {
		free(o->pins[i].id);
		free(o->pins[i].component);
		free(o->pins[i].version);
		free(o->pins[i].reason);
		free(o->pins[i].by);
	}
	free(o->pins);
	free(o->hold.reason);
	free(o->hold.by);
	once_done(o->retries, o->retry_count);
	once_done(o->collects, o->collect_count);
	*o = (struct node_orders){ 0 };
}

static void write_once(struct json_node *object, const char *name, const struct order_once *list, size_t count)
{
	struct json_node *array = node_array(object, name);

	for (size_t i = 0; i < count; i++) {
		struct json_node *e = node_object(array, NULL);

		node_string(e, "id", list[i].id);
		write_text(e, "component", list[i].component);
		write_text(e, "set", list[i].set);
		write_time(e, "issued", list[i].issued);
		write_time(e, "expires", list[i].expires);
	}
}

static void write_rollbacks(struct json_node *array, const struct node_orders *o)
{
	for (size_t i = 0; i < o->rollback_count; i++) {
		struct json_node *e = node_object(array, NULL);

		node_string(e, "id", o->rollbacks[i].id);
		node_string(e, "component", o->rollbacks[i].component);
		node_string(e, "from", o->rollbacks[i].from);
		node_string(e, "to", o->rollbacks[i].to);
		node_string(e, "reason", o->rollbacks[i].reason);
		node_string(e, "by", o->rollbacks[i].by);
		if (o->rollbacks[i].issued != 0)
			write_time(e, "issued", o->rollbacks[i].issued);
		if (o->rollbacks[i].restore_data)
			node_string(e, "data", "restore");
	}
}

static void write_pins(struct json_node *array, const struct node_orders *o)
{
	for (size_t i = 0; i < o->pin_count; i++) {
		struct json_node *e = node_object(array, NULL);

		node_string(e, "id", o->pins[i].id);
		node_string(e, "component", o->pins[i].component);
		node_string(e, "version", o->pins[i].version);
		node_string(e, "reason", o->pins[i].reason);
		node_string(e, "by", o->pins[i].by);
	}
}

void orders_write(const struct node_orders *o, struct json_node *object)
{
	struct json_node *hold;

	node_integer(object, "format", ORDER_FORMAT);
	node_string(object, "node", o->node);
	write_rollbacks(node_array(object, "rollback"), o);
	write_pins(node_array(object, "pin"), o);
	if (o->hold.until != 0) {
		hold = node_object(object, "hold");
		write_time(hold, "until", o->hold.until);
		node_string(hold, "reason", o->hold.reason);
		node_string(hold, "by", o->hold.by);
	}
	write_once(object, "retry", o->retries, o->retry_count);
	write_once(object, "collect", o->collects, o->collect_count);
}
