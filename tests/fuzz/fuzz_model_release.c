/* Any JSON as a release or a policy; and any text with variables in it. */
#include "model/release.h"
#include "roundtrip.h"

static int release_again(const struct json *doc, struct json_node *object, char **ret_error)
{
	CLEANUP(release_done)
	struct release r = { 0 };
	CLEANUP(string_list_done)
	struct string_list variables = { 0 };
	int result = release_parse(doc, &r, ret_error);

	if (result < 0)
		return result;
	expect(release_variables(&r, &variables) == 0); /* the parser has looked at every ${ */
	release_write(&r, object);
	return 0;
}

static int policy_again(const struct json *doc, struct json_node *object, char **ret_error)
{
	CLEANUP(policy_done)
	struct policy p = { 0 };
	int result = policy_parse(doc, &p, ret_error);

	if (result < 0)
		return result;
	(void) policy_permits(&p, "1.0.0");
	policy_write(&p, object);
	return 0;
}

static void expand(const uint8_t *data, size_t size)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
	struct labels none = { 0 };
	struct variables v = { .vars = &none, .node_id = "n1", .root = "/r" };

	if (buf_add(&text, data, size) == 0 && variables_expand(&v, buf_str(&text), &out) < 0)
		expect(out.len == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;

	expand(data, size);
	if (json_parse(data, size, &json_limits_default, &doc) < 0)
		return 0;
	roundtrip(doc, release_again);
	roundtrip(doc, policy_again);
	return 0;
}
