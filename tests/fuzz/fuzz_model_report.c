/* Any JSON as a report, an acknowledgement, a grant, an event; any bytes as a program's output. */
#include "model/report.h"
#include "roundtrip.h"

static int report_again(const struct json *doc, struct json_node *object, char **ret_error)
{
	CLEANUP(report_done)
	struct report r = { 0 };
	int result = report_parse(doc, &r, ret_error);

	if (result == 0)
		expect(report_write(&r, object) == 0);
	return result;
}

/* These give no sentence; the fuzzer's own does. */
static int with_sentence(int result, char **ret_error)
{
	if (result < 0)
		*ret_error = strdup("refused");
	return result;
}

static int ack_again(const struct json *doc, struct json_node *object, char **ret_error)
{
	struct ack a;
	int result = ack_parse(doc, &a);

	if (result == 0)
		ack_write(&a, object);
	return with_sentence(result, ret_error);
}

static int grant_again(const struct json *doc, struct json_node *object, char **ret_error)
{
	struct grant g;
	int result = grant_parse(doc, &g);

	if (result == 0)
		grant_write(&g, object);
	return with_sentence(result, ret_error);
}

static int event_again(const struct json *doc, struct json_node *object, char **ret_error)
{
	struct event e;
	int result = event_parse(doc, &e);

	if (result == 0)
		event_write(&e, object);
	return with_sentence(result, ret_error);
}

/* Whatever a program said fits into a document that our own reader takes. */
static void print(const uint8_t *data, size_t size)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf clean = BUF_INIT(LOG_TAIL_MAX), text = BUF_INIT(1 << 20);
	CLEANUP(json_freep)
	struct json *doc = NULL;

	expect(printable_tail((const char *) data, size, LOG_TAIL_MAX, &clean) == 0);
	node_string(json_build_root(b), "t", buf_str(&clean));
	expect(json_build_text(b, false, &text) == 0);
	expect(json_parse(text.data, text.len, &json_limits_default, &doc) == 0);
	expect(strcmp(json_string(json_get(doc, "t")), buf_str(&clean)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;

	print(data, size);
	if (json_parse(data, size, &json_limits_default, &doc) < 0)
		return 0;
	roundtrip(doc, report_again);
	roundtrip(doc, ack_again);
	roundtrip(doc, grant_again);
	roundtrip(doc, event_again);
	return 0;
}
