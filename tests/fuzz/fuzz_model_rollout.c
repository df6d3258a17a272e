/* Any JSON as a rollout, its index, an inventory, an approval. */
#include "model/approval.h"
#include "model/opening.h"
#include "model/rollout.h"
#include "roundtrip.h"

static int rollout_again(const struct json *doc, struct json_node *object, char **ret_error)
{
	CLEANUP(rollout_done)
	struct rollout r = { 0 };
	int result = rollout_parse(doc, &r, ret_error);

	if (result < 0)
		return result;
	for (size_t i = 0; i < r.stage_count; i++) {
		CLEANUP(buf_done)
		struct buf statement = BUF_INIT(1 << 25);

		expect(approval_statement("demo", &r, &r.stages[i], 0, &statement) == 0);
	}
	struct opening opening = { .has_window = false };
	char error[160];

	if (opening_parse(r.window, r.blackout, &opening, error, sizeof(error)) == 0)
		(void) opening_judge(&opening, NULL, 1800000000);
	expect(rollout_write(&r, object) == 0);
	return 0;
}

static int index_again(const struct json *doc, struct json_node *object, char **ret_error)
{
	CLEANUP(index_done)
	struct rollout_index i = { 0 };
	int result = index_parse(doc, &i, ret_error);

	if (result == 0)
		index_write(&i, object);
	return result;
}

static int inventory_again(const struct json *doc, struct json_node *object, char **ret_error)
{
	CLEANUP(labels_done)
	struct labels l = { 0 };
	int result = inventory_parse(doc, &l, ret_error);

	if (result == 0)
		inventory_write(&l, object);
	return result;
}

static int approval_again(const struct json *doc, struct json_node *object, char **ret_error)
{
	CLEANUP(approval_done)
	struct approval a = { 0 };
	int result = approval_parse(doc, &a, ret_error);

	if (result == 0)
		approval_write(&a, object);
	return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;

	if (json_parse(data, size, &json_limits_default, &doc) < 0)
		return 0;
	roundtrip(doc, rollout_again);
	roundtrip(doc, index_again);
	roundtrip(doc, inventory_again);
	roundtrip(doc, approval_again);
	return 0;
}
