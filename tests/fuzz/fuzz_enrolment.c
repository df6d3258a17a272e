/* Any bytes as a request for a certificate, as the answer to one, and as PKCS#10: a verdict, never more. */
#include "crypto/csr.h"
#include "model/enrolment.h"
#include "roundtrip.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/enrol.h"

static int request_again(const struct json *doc, struct json_node *object, char **ret_error)
{
	struct enrolment e;
	int r = enrolment_parse(doc, &e, ret_error);

	if (r == 0) {
		enrolment_write(&e, object);
		enrolment_done(&e);
	}
	return r;
}

static int answer_again(const struct json *doc, struct json_node *object, char **ret_error)
{
	struct enrolment_answer a;
	int r = enrolment_answer_parse(doc, &a, ret_error);

	if (r == 0) {
		enrolment_answer_write(&a, object);
		enrolment_answer_done(&a);
	}
	return r;
}

/* Nobody without a secret or a known key gets one, whatever the bytes. */
static void judge(const uint8_t *data, size_t size)
{
	static struct db *db;
	static int64_t now = 1800000000;
	struct enrol_judgement j;

	if (!db)
		expect(db_open(":memory:", &db) == 0);
	now += 60; /* another minute: no budget is ever used up */
	expect(enrol_judge(db, "demo", data, size, now, &j) == 0);
	expect(j.verdict == ENROL_REFUSED || j.verdict == ENROL_MALFORMED);
	enrol_judgement_done(&j);
}

static void read_request(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct csr_info info;

	expect(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	if (csr_read(text, &info) == 0)
		expect(guard_id(info.common_name) && strlen(info.public_pem) > 100);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;

	judge(data, size);
	read_request(data, size);
	if (json_parse(data, size, &json_limits_default, &doc) < 0)
		return 0;
	roundtrip(json_get(doc, "signed") ? json_get(doc, "signed") : doc, request_again);
	roundtrip(doc, answer_again);
	return 0;
}
