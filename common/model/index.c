#include "json/build.h"
#include "model/field.h"
#include "model/rollout.h"
#include "model/write.h"

#include <stdlib.h>
#include <string.h>

/* What must[] may name. */
static const char *const known_fields[] = { "format", "rollouts", "freeze", "must", NULL };
static const char *const known_inventory_fields[] = { "format", "labels", "must", NULL };

static void parse_entries(struct fields *f, struct rollout_index *out)
{
	size_t n = fields_count(f, "rollouts", 0, INDEX_ENTRIES_MAX);

	out->entries = field_alloc(f, n, sizeof(*out->entries));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields e = field_element(f, "rollouts", i);
		struct index_entry *entry = &out->entries[out->entry_count++];

		entry->id = field_text(&e, "id", &rule_id, true);
		entry->path = field_text(&e, "path", &rule_path, true);
		entry->seq = field_need_u64(&e, "seq", 1, INT64_C(1) << 52);
		field_text_list(&e, "components", &rule_id, 1, ROLLOUT_WITH_MAX + 1, &entry->components);
	}
}

static void parse_freezes(struct fields *f, struct rollout_index *out)
{
	size_t n = fields_count(f, "freeze", 0, INDEX_FREEZES_MAX);

	out->freezes = field_alloc(f, n, sizeof(*out->freezes));
	for (size_t i = 0; i < n && field_ok(f); i++) {
		struct fields e = field_element(f, "freeze", i);
		struct freeze *freeze = &out->freezes[out->freeze_count++];

		field_labels(&e, "labels", &freeze->labels);
		field_text_list(&e, "components", &rule_id, 0, ROLLOUT_NODES_MAX, &freeze->components);
		field_text_list(&e, "nodes", &rule_id, 0, ROLLOUT_NODES_MAX, &freeze->nodes);
		freeze->until = field_time(&e, "until", false);
		freeze->reason = field_text(&e, "reason", &rule_text, true);
	}
}

int index_parse(const struct json *doc, struct rollout_index *ret, char **ret_error)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(doc, &error);
	struct rollout_index out = { 0 };

	field_format(&f, INDEX_FORMAT, known_fields);
	parse_entries(&f, &out);
	parse_freezes(&f, &out);
	if (error.r < 0) {
		index_done(&out);
		return field_error_take(&error, ret_error);
	}
	*ret = out;
	return 0;
}

void index_done(struct rollout_index *i)
{
	if (!i)
		return;
	for (size_t k = 0; k < i->entry_count; k++) {
		free(i->entries[k].id);
		free(i->entries[k].path);
		string_list_done(&i->entries[k].components);
	}
	free(i->entries);
	for (size_t k = 0; k < i->freeze_count; k++) {
		labels_done(&i->freezes[k].labels);
		string_list_done(&i->freezes[k].components);
		string_list_done(&i->freezes[k].nodes);
		free(i->freezes[k].reason);
	}
	free(i->freezes);
	*i = (struct rollout_index){ 0 };
}

void index_write(const struct rollout_index *i, struct json_node *object)
{
	struct json_node *list;

	node_integer(object, "format", INDEX_FORMAT);
	list = node_array(object, "rollouts");
	for (size_t k = 0; k < i->entry_count; k++) {
		struct json_node *e = node_object(list, NULL);

		node_string(e, "id", i->entries[k].id);
		node_string(e, "path", i->entries[k].path);
		write_u64(e, "seq", i->entries[k].seq);
		write_list(e, "components", &i->entries[k].components);
	}
	list = node_array(object, "freeze");
	for (size_t k = 0; k < i->freeze_count; k++) {
		struct json_node *e = node_object(list, NULL);

		labels_write(&i->freezes[k].labels, e, "labels");
		write_list(e, "components", &i->freezes[k].components);
		write_list(e, "nodes", &i->freezes[k].nodes);
		if (i->freezes[k].until != 0)
			write_time(e, "until", i->freezes[k].until);
		node_string(e, "reason", i->freezes[k].reason);
	}
}

int inventory_parse(const struct json *doc, struct labels *ret, char **ret_error)
{
	struct field_error error = { 0 };
	struct fields f = fields_of(doc, &error);
	struct labels out = { 0 };

	field_format(&f, INVENTORY_FORMAT, known_inventory_fields);
	field_labels(&f, "labels", &out);
	if (error.r < 0) {
		labels_done(&out);
		return field_error_take(&error, ret_error);
	}
	*ret = out;
	return 0;
}

void inventory_write(const struct labels *labels, struct json_node *object)
{
	node_integer(object, "format", INVENTORY_FORMAT);
	labels_write(labels, object, "labels");
}
