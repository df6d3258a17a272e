/* Any JSON as the orders to this node. */
#include "model/rollout.h"
#include "roundtrip.h"

static int orders_again(const struct json *doc, struct json_node *object, char **ret_error)
{
	CLEANUP(orders_done)
	struct node_orders o = { 0 };
	int result = orders_parse(doc, "n1", &o, ret_error);

	if (result == 0)
		orders_write(&o, object);
	return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;

	if (json_parse(data, size, &json_limits_default, &doc) == 0)
		roundtrip(doc, orders_again);
	return 0;
}
