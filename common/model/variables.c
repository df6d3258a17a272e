#include "model/variables.h"

#include "base/err.h"

#include <string.h>

int variable_next(const char **text, struct variable *ret)
{
	const char *start = strstr(*text, "${"), *end;

	if (!start)
		return 0;
	end = strchr(start, '}');
	if (!end)
		return -ERR_FIELD_VALUE;
	ret->before = *text;
	ret->before_len = (size_t) (start - *text);
	ret->name = start + 2;
	ret->name_len = (size_t) (end - ret->name);
	*text = end + 1;
	if (ret->name_len == strlen("root") && strncmp(ret->name, "root", ret->name_len) == 0) {
		ret->kind = VARIABLE_ROOT;
	} else if (ret->name_len == strlen("node.id") && strncmp(ret->name, "node.id", ret->name_len) == 0) {
		ret->kind = VARIABLE_NODE_ID;
	} else if (ret->name_len > strlen("vars.") && strncmp(ret->name, "vars.", strlen("vars.")) == 0) {
		ret->kind = VARIABLE_VARS;
		ret->name += strlen("vars.");
		ret->name_len -= strlen("vars.");
		if (ret->name_len > LABEL_NAME_MAX)
			return -ERR_FIELD_VALUE;
	} else {
		return -ERR_FIELD_VALUE;
	}
	return 1;
}

bool variables_are_fine(const char *text)
{
	struct variable v;
	int r;

	while ((r = variable_next(&text, &v)) > 0)
		;
	return r == 0;
}

static const char *variable_value(const struct variables *v, const struct variable *variable)
{
	char name[LABEL_NAME_MAX + 1];

	switch (variable->kind) {
	case VARIABLE_ROOT:
		return v->root;
	case VARIABLE_NODE_ID:
		return v->node_id;
	case VARIABLE_VARS:
		memcpy(name, variable->name, variable->name_len);
		name[variable->name_len] = '\0';
		return labels_get(v->vars, name);
	}
	return NULL;
}

int variables_expand(const struct variables *v, const char *text, struct buf *out)
{
	size_t len = out->len;
	struct variable variable;
	const char *value;
	int r;

	while ((r = variable_next(&text, &variable)) > 0) {
		value = variable_value(v, &variable);
		r = value ? buf_add(out, variable.before, variable.before_len) : -ERR_FIELD_MISSING;
		if (r < 0)
			break;
		r = buf_add_str(out, value);
		if (r < 0)
			break;
	}
	if (r == 0)
		r = buf_add_str(out, text);
	if (r < 0 && out->data) {
		out->len = len;
		out->data[len] = '\0';
	}
	return r;
}

/* Adds the names used in `text` (NULL: none). */
static int names_of(const char *text, struct string_list *ret)
{
	struct variable v;
	int r;

	while (text && (r = variable_next(&text, &v)) != 0) {
		char name[LABEL_NAME_MAX + 1];

		if (r < 0)
			return r;
		if (v.kind != VARIABLE_VARS)
			continue;
		memcpy(name, v.name, v.name_len);
		name[v.name_len] = '\0';
		r = string_list_has(ret, name) ? 0 : string_list_add(ret, name);
		if (r < 0)
			return r;
	}
	return 0;
}

static int names_of_command(void *names, const struct release_command *c, const char *what)
{
	int r = 0;

	(void) what;
	for (size_t i = 0; i < c->argv.count && r == 0; i++)
		r = names_of(c->argv.items[i], names);
	return r;
}

static int names_of_check(const struct release_check *c, struct string_list *ret)
{
	const char *texts[] = { c->http.host,	     c->http.port,   c->http.path,	  c->http.expect_body,
				c->http.unix_socket, c->http.ca,     c->http.server_name, c->tcp.host,
				c->tcp.port,	     c->metric.file, c->log.file,	  c->status.file };
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(texts) && r == 0; i++)
		r = names_of(texts[i], ret);
	for (size_t i = 0; i < c->http.header_count && r == 0; i++)
		r = names_of(c->http.headers[i].value, ret);
	return r;
}

int release_variables(const struct release *release, struct string_list *ret)
{
	int r = release_commands(release, names_of_command, ret);

	for (size_t i = 0; i < release->check_count && r == 0; i++)
		r = names_of_check(&release->checks[i], ret);
	return r;
}
