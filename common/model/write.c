#include "model/write.h"

#include "base/timestamp.h"
#include "json/build.h"

void write_text(struct json_node *o, const char *name, const char *value)
{
	if (value)
		node_string(o, name, value);
}

void write_u64(struct json_node *o, const char *name, uint64_t value)
{
	/* What does not fit must fail in the builder, not turn negative here. */
	node_integer(o, name, value > INT64_MAX ? INT64_MAX : (int64_t) value);
}

void write_time(struct json_node *o, const char *name, int64_t seconds)
{
	char text[TIMESTAMP_LEN + 1];

	timestamp_format(text, seconds);
	node_string(o, name, text);
}

void write_digest(struct json_node *o, const char *name, const uint8_t digest[static SHA256_BYTES])
{
	char hex[SHA256_HEX + 1];

	hex_encode(hex, digest, SHA256_BYTES);
	node_string(o, name, hex);
}

void write_list(struct json_node *o, const char *name, const struct string_list *l)
{
	struct json_node *a = node_array(o, name);

	for (size_t i = 0; i < l->count; i++)
		node_string(a, NULL, l->items[i]);
}
