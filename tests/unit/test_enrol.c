/* Requests for certificates: crypto/csr.h, model/enrolment.h and ingest/enrol.h, from honest and hostile nodes. */
#include "base/err.h"
#include "crypto/certificate.h"
#include "crypto/csr.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "model/enrolment.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_enrolments.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/db_reports.h"
#include "server-stub/ingest/enrol.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NOW = 1800000000, DAY = 86400, PEM_BYTES = 8192, LIFE = 90 * DAY };

static const char secret[] = "0123456789abcdef0123456789abcdef01234567";
static const char other_secret[] = "ffffffffffffffffffffffffffffffffffffffff";

struct bench {
	struct db *db;
	struct private_key *ca, *keys[4]; /* identity and transport of one machine, and of another */
	struct buf ca_pem;
};

static void public_of(const struct private_key *key, struct buf *pem)
{
	assert_int_equal(private_key_public_pem(key, pem), 0);
}

static void certify(const struct bench *b, const char *node, const char *public_pem, int64_t from, struct buf *out)
{
	const struct certificate_request request = {
		.common_name = node,
		.public_pem = public_pem,
		.client = true,
		.not_before = from,
		.not_after = from + LIFE,
	};

	assert_int_equal(certificate_issue(&request, b->ca, buf_str(&b->ca_pem), out), 0);
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	CLEANUP(buf_done)
	struct buf ca_public = BUF_INIT(PEM_BYTES);
	struct certificate_request ca = {
		.common_name = "CA", .is_ca = true, .not_before = NOW - 400 * DAY, .not_after = NOW + 4000LL * DAY
	};

	assert_non_null(b);
	assert_int_equal(db_open(":memory:", &b->db), 0);
	assert_int_equal(private_key_generate(&b->ca), 0);
	for (size_t i = 0; i < ARRAY_LEN(b->keys); i++)
		assert_int_equal(private_key_generate(&b->keys[i]), 0);
	public_of(b->ca, &ca_public);
	ca.public_pem = buf_str(&ca_public);
	buf_init(&b->ca_pem, PEM_BYTES);
	assert_int_equal(certificate_issue(&ca, b->ca, NULL, &b->ca_pem), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	db_close(b->db);
	private_key_free(b->ca);
	for (size_t i = 0; i < ARRAY_LEN(b->keys); i++)
		private_key_free(b->keys[i]);
	buf_done(&b->ca_pem);
	free(b);
	return 0;
}

static void put_secret(struct bench *b, const char *node, const char *text)
{
	char digest[SHA256_HEX + 1];
	struct db_enrolment e = { .node = node,
				  .secret_sha256 = digest,
				  .labels = "{\"site\":\"oslo\"}",
				  .issued_at = NOW,
				  .expires_at = NOW + DAY };

	assert_int_equal(enrol_secret_digest(text, digest), 0);
	assert_int_equal(db_enrolment_put(b->db, &e), 0);
}

/* What can be put otherwise in a request; all NULL: an honest one. */
struct change {
	const char *fleet, *node, *csr_name, *secret;
	const struct private_key *identity, *transport; /* whose requests it is */
	const struct private_key *signs[2]; /* instead of these two */
	const char *request; /* instead of one that is made */
	uint64_t sequence;
};

static void make(const struct bench *b, const struct change *c, struct buf *out)
{
	const struct private_key *identity = c->identity ? c->identity : b->keys[0];
	const struct private_key *transport = c->transport ? c->transport : b->keys[1];
	const struct private_key *keys[] = { c->signs[0] ? c->signs[0] : identity,
					     c->signs[1] ? c->signs[1] : transport };
	CLEANUP(json_build_freep)
	struct json_build *build = json_build_new();
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PEM_BYTES), csr = BUF_INIT(PEM_BYTES), text = BUF_INIT(ENROLMENT_MAX_BYTES);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct enrolment e = { .fleet = "" };

	public_of(identity, &pem);
	assert_int_equal(csr_make(transport, c->csr_name ? c->csr_name : "n1", &csr), 0);
	snprintf(e.fleet, sizeof(e.fleet), "%s", c->fleet ? c->fleet : "demo");
	snprintf(e.node, sizeof(e.node), "%s", c->node ? c->node : "n1");
	snprintf(e.secret, sizeof(e.secret), "%s", c->secret ? c->secret : secret);
	e.sequence = c->sequence;
	e.identity = (char *) (uintptr_t) buf_str(&pem);
	e.request = (char *) (uintptr_t) (c->request ? c->request : buf_str(&csr));
	enrolment_write(&e, json_build_root(build));
	assert_int_equal(json_build_text(build, false, &text), 0);
	assert_int_equal(json_parse(text.data, text.len, &json_limits_default, &doc), 0);
	assert_int_equal(tuf_envelope_sign(doc, keys, 2, out), 0);
}

/* The controller has stored this report of it. */
static void report(struct bench *b, const char *node, uint64_t sequence)
{
	const struct db_report r = { .node = node,
				     .boot_id = "6f9c1f8e-0000-4000-8000-000000000001",
				     .sequence = sequence,
				     .labels = "{}",
				     .body = "{}",
				     .now = NOW };

	assert_int_equal(db_report_store(b->db, &r, "00"), 0);
}

static enum enrol_verdict judge_at(struct bench *b, const struct change *c, int64_t now, struct enrol_judgement *j)
{
	CLEANUP(buf_done)
	struct buf envelope = BUF_INIT(2 * ENROLMENT_MAX_BYTES);

	make(b, c, &envelope);
	assert_int_equal(enrol_judge(b->db, "demo", envelope.data, envelope.len, now, j), 0);
	return j->verdict;
}

static enum enrol_verdict ask(struct bench *b, const struct change *c)
{
	struct enrol_judgement j;
	enum enrol_verdict v = judge_at(b, c, NOW, &j);

	if (v == ENROL_REFUSED || v == ENROL_MALFORMED || v == ENROL_WAITING)
		assert_true(j.text[0] != '\0');
	enrol_judgement_done(&j);
	return v;
}

/* As serve does it: judged, and if one is due, made and kept. */
static enum enrol_verdict enrol_at(struct bench *b, const struct change *c, int64_t now, struct buf *certificate)
{
	struct enrol_judgement j;
	enum enrol_verdict v = judge_at(b, c, now, &j);

	if (v == ENROL_ISSUE) {
		certify(b, j.node, j.transport_public, now, certificate);
		assert_int_equal(enrol_issued(b->db, &j, buf_str(certificate), now), 0);
	} else if (v == ENROL_SAME) {
		assert_int_equal(buf_add_str(certificate, buf_str(&j.certificate)), 0);
	}
	enrol_judgement_done(&j);
	return v;
}

static const struct change honest = { .fleet = NULL }, without_secret = { .secret = "" };

static int see_node(void *user, const struct db_node *row)
{
	assert_string_equal(row->labels, "{\"site\":\"oslo\"}");
	*(int64_t *) user = row->added_at;
	return 0;
}

/* --- csr.h --- */

static void test_request_is_read_back(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf csr = BUF_INIT(PEM_BYTES), pem = BUF_INIT(PEM_BYTES);
	struct csr_info info;

	assert_int_equal(csr_make(b->keys[0], "n-1", &csr), 0);
	public_of(b->keys[0], &pem);
	assert_int_equal(csr_read(buf_str(&csr), &info), 0);
	assert_string_equal(info.common_name, "n-1");
	assert_string_equal(info.public_pem, buf_str(&pem));
	assert_int_equal(csr_make(b->keys[0], "n1, O=evil", &csr), -ERR_NAME);
}

static void test_request_that_is_not_whole(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf csr = BUF_INIT(PEM_BYTES);
	struct csr_info info;
	unsigned refused = 0, taken = 0;

	assert_int_equal(csr_read("", &info), -ERR_SYNTAX);
	assert_int_equal(csr_read("-----BEGIN CERTIFICATE REQUEST-----\n", &info), -ERR_SYNTAX);
	assert_int_equal(csr_make(b->keys[0], "n1", &csr), 0);
	/* Another character anywhere in it: no request, another's name, or not what was signed. */
	for (size_t i = strlen("-----BEGIN CERTIFICATE REQUEST-----\n"); i < csr.len - 40; i++) {
		uint8_t was = csr.data[i];

		if (was == '\n')
			continue;
		csr.data[i] = was == 'A' ? 'B' : 'A';
		if (csr_read(buf_str(&csr), &info) < 0)
			refused++;
		else
			taken++;
		csr.data[i] = was;
	}
	assert_true(refused > 200);
	assert_true(taken <= 2); /* the unused bits of the last digit */
	while (csr.len <= CSR_PEM_MAX)
		assert_int_equal(buf_add_str(&csr, "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n"), 0);
	assert_int_equal(csr_read(buf_str(&csr), &info), -ERR_TOO_LARGE);
}

/* openssl: RSA, P-384, SHA-1, no name and two names, which mbedTLS alone would take. */
static void test_request_of_another_kind(void **state)
{
	static const struct {
		const char *command;
		int r;
	} cases[] = {
		{ "openssl req -new -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=n1", -ERR_KEY },
		{ "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -nodes -keyout /dev/null "
		  "-subj /CN=n1",
		  -ERR_KEY },
		{ "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null "
		  "-subj /O=n1",
		  -ERR_NAME },
		{ "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null "
		  "-subj "
		  "/CN=n1/CN=n2",
		  -ERR_NAME },
		{ "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null "
		  "-subj "
		  "/CN=N1",
		  -ERR_NAME },
		{ "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -sha384 -nodes -keyout "
		  "/dev/null "
		  "-subj /CN=n1",
		  -ERR_SIGNATURE },
		{ "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null "
		  "-subj /CN=n1",
		  0 },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char command[512], pem[8192];
		struct csr_info info;
		size_t len;
		FILE *f;

		snprintf(command, sizeof(command), "%s 2>/dev/null", cases[i].command);
		f = popen(command, "r");
		assert_non_null(f);
		len = fread(pem, 1, sizeof(pem) - 1, f);
		pem[len] = '\0';
		assert_int_equal(pclose(f), 0);
		if (csr_read(pem, &info) != cases[i].r)
			fail_msg("%s", cases[i].command);
	}
}

/* --- the secret --- */

static void test_secret_is_used_up_by_one_key(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf first = BUF_INIT(PEM_BYTES), again = BUF_INIT(PEM_BYTES);
	const struct change other = { .identity = b->keys[2], .transport = b->keys[3] };
	struct enrol_judgement j;
	int64_t added = 0;

	put_secret(b, "n1", secret);
	assert_int_equal(db_nodes(b->db, "n1", see_node, &added), -ENOENT);
	assert_int_equal(enrol_at(b, &honest, NOW, &first), ENROL_ISSUE);
	assert_int_equal(db_nodes(b->db, "n1", see_node, &added), 0);
	assert_int_equal(added, NOW);
	/* the answer was lost: the same certificate, days later and after the secret's own time too */
	assert_int_equal(enrol_at(b, &honest, NOW + 5 * DAY, &again), ENROL_SAME);
	assert_string_equal(buf_str(&first), buf_str(&again));
	/* a copy of the join file */
	assert_int_equal(judge_at(b, &other, NOW, &j), ENROL_REFUSED);
	assert_true(j.news);
	assert_non_null(strstr(j.text, "another key"));
	enrol_judgement_done(&j);
	assert_int_equal(enrol_at(b, &honest, NOW + 6 * DAY, &again), ENROL_SAME);
}

static int see_refusals(void *user, const struct db_enrolment *row)
{
	*(uint64_t *) user = row->refused;
	return 0;
}

static void test_second_key_is_counted(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PEM_BYTES);
	const struct change other = { .identity = b->keys[2], .transport = b->keys[3] };
	uint64_t refused = 0;

	put_secret(b, "n1", secret);
	assert_int_equal(enrol_at(b, &honest, NOW, &pem), ENROL_ISSUE);
	assert_int_equal(ask(b, &other), ENROL_REFUSED);
	assert_int_equal(ask(b, &other), ENROL_REFUSED);
	assert_int_equal(db_enrolments(b->db, "n1", see_refusals, &refused), 0);
	assert_int_equal(refused, 2);
}

static void test_secret_that_does_not_fit(void **state)
{
	struct bench *b = *state;
	const struct change cases[] = {
		{ .secret = other_secret },
		{ .node = "n2", .csr_name = "n2" },
		{ .secret = "" },
		{ .fleet = "other" },
	};
	struct enrol_judgement known, unknown;

	put_secret(b, "n1", secret);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(ask(b, &cases[i]), ENROL_REFUSED);
	/* which names exist cannot be learnt from what is said */
	(void) judge_at(b, &cases[0], NOW, &known);
	(void) judge_at(b, &cases[1], NOW, &unknown);
	assert_string_equal(known.text, unknown.text);
	enrol_judgement_done(&known);
	enrol_judgement_done(&unknown);
}

static void test_a_node_needs_no_secret(void **state)
{
	struct bench *b = *state;
	const struct change renewal = { .secret = secret, .transport = b->keys[2] };
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(64 * 1024);

	put_secret(b, "n1", secret);
	assert_int_equal(enrol_at(b, &honest, NOW, &pem), ENROL_ISSUE);
	/* Somebody made another since, and the power went before its first one was removed: it is the same node. */
	put_secret(b, "n1", other_secret);
	buf_clear(&pem);
	assert_int_equal(enrol_at(b, &renewal, NOW, &pem), ENROL_ISSUE);
	buf_clear(&pem);
	assert_int_equal(enrol_at(b, &renewal, NOW, &pem), ENROL_SAME);
}

static void test_secret_expires(void **state)
{
	struct bench *b = *state;
	struct enrol_judgement j;

	put_secret(b, "n1", secret);
	assert_int_equal(judge_at(b, &honest, NOW + DAY, &j), ENROL_REFUSED);
	assert_non_null(strstr(j.text, "expired"));
	enrol_judgement_done(&j);
	put_secret(b, "n1", other_secret); /* voids the one before */
	assert_int_equal(ask(b, &honest), ENROL_REFUSED);
}

/* --- hostile requests --- */

static void test_both_keys_sign(void **state)
{
	struct bench *b = *state;
	const struct change cases[] = {
		{ .signs = { b->keys[2], NULL } }, /* the identity is somebody else's */
		{ .signs = { NULL, b->keys[2] } }, /* a request taken from another machine */
		{ .signs = { b->keys[2], b->keys[3] } },
		{ .csr_name = "n2" },
		{ .transport = b->keys[0] }, /* one key for both */
		{ .request = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n" },
	};

	put_secret(b, "n1", secret);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (ask(b, &cases[i]) != ENROL_MALFORMED)
			fail_msg("case %zu was not seen", i);
	assert_int_equal(ask(b, &honest), ENROL_ISSUE); /* and the secret is still good */
}

static void test_what_is_no_request(void **state)
{
	static const char *const texts[] = {
		"",
		"{",
		"[]",
		"{\"signed\":1}",
		"{\"signed\":{\"_type\":\"selfright-report\"},\"signatures\":[]}",
		"{\"signed\":{\"_type\":\"selfright-enrolment\",\"format\":2},\"signatures\":[]}",
		"{\"signed\":{\"_type\":\"selfright-enrolment\",\"format\":1,\"fleet\":\"demo\",\"node\":\"../"
		"n1\"}}",
		"{\"signed\":{\"_type\":\"selfright-enrolment\",\"format\":1,\"fleet\":\"demo\",\"node\":\"n1\","
		"\"secret\":\"12\"}}",
		"{\"signed\":{\"_type\":\"selfright-enrolment\",\"format\":1,\"fleet\":\"demo\",\"node\":\"n1\","
		"\"identity\":\"x\","
		"\"request\":\"y\"},\"signatures\":[]}",
		"\xff",
	};
	struct bench *b = *state;
	struct enrol_judgement j;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_int_equal(enrol_judge(b->db, "demo", texts[i], strlen(texts[i]), NOW, &j), 0);
		if (j.verdict != ENROL_MALFORMED)
			fail_msg("taken: %s", texts[i]);
		assert_true(j.text[0] != '\0');
		enrol_judgement_done(&j);
	}
}

/* Who has no claim keeps nobody from asking, not under this name nor under another. */
static void test_strangers_keep_nobody_out(void **state)
{
	struct bench *b = *state;
	const struct change wrong = { .secret = other_secret };
	const struct change neighbour = { .node = "n2", .csr_name = "n2", .secret = other_secret };
	unsigned i = 0;

	put_secret(b, "n1", secret);
	put_secret(b, "n2", other_secret);
	while (ask(b, &wrong) == ENROL_REFUSED)
		assert_true(i++ < 10000);
	assert_int_equal(ask(b, &wrong), ENROL_TOO_OFTEN);
	assert_int_equal(ask(b, &honest), ENROL_ISSUE);
	assert_int_equal(ask(b, &neighbour), ENROL_ISSUE);
}

static void test_asks_too_often(void **state)
{
	struct bench *b = *state;
	const struct change neighbour = { .node = "n2", .csr_name = "n2", .secret = other_secret };
	struct enrol_judgement j;
	unsigned i = 0;

	put_secret(b, "n1", secret);
	put_secret(b, "n2", other_secret);
	while (ask(b, &honest) == ENROL_ISSUE)
		assert_true(i++ < 100);
	assert_int_equal(ask(b, &honest), ENROL_TOO_OFTEN);
	assert_int_equal(ask(b, &neighbour), ENROL_ISSUE); /* another name does not pay for it */
	assert_int_equal(judge_at(b, &honest, NOW + 60, &j), ENROL_ISSUE);
	enrol_judgement_done(&j);
}

/* Certificates cost a signature each: who has one node, and so its identity, has no claim to the signer's whole rate. */
static void test_keys_in_a_row(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(64 * PEM_BYTES);
	struct change newer = { .secret = "", .transport = b->keys[2] };
	unsigned i = 0;

	put_secret(b, "n1", secret);
	assert_int_equal(enrol_at(b, &honest, NOW, &pem), ENROL_ISSUE);
	while (enrol_at(b, &newer, NOW, &pem) == ENROL_ISSUE) {
		assert_true(++i < 20);
		newer.transport = b->keys[2 + i % 2];
	}
	assert_true(i >= 3);
	assert_int_equal(enrol_at(b, &newer, NOW + 60, &pem), ENROL_ISSUE);
}

/* Somebody kept a request, and has the transport key of that time: it gets no new life. */
static void test_a_request_that_is_repeated(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(64 * PEM_BYTES);
	const struct change old = { .secret = "", .transport = b->keys[2], .sequence = 7 };
	const struct change newer = { .secret = "", .transport = b->keys[3], .sequence = 40 };
	const struct change close = { .secret = "", .transport = b->keys[2], .sequence = 39 };
	const struct change silent = { .secret = "", .transport = b->keys[2] };
	struct enrol_judgement j;

	put_secret(b, "n1", secret);
	assert_int_equal(enrol_at(b, &honest, NOW, &pem), ENROL_ISSUE);
	assert_int_equal(enrol_at(b, &old, NOW, &pem), ENROL_ISSUE);
	assert_int_equal(enrol_at(b, &newer, NOW, &pem), ENROL_ISSUE);
	report(b, "n1", 40);
	assert_int_equal(judge_at(b, &old, NOW + DAY, &j), ENROL_REFUSED);
	assert_non_null(strstr(j.text, "older than"));
	enrol_judgement_done(&j);
	assert_int_equal(enrol_at(b, &newer, NOW + DAY, &pem), ENROL_SAME);
	assert_int_equal(enrol_at(b, &close, NOW + DAY, &pem), ENROL_ISSUE); /* a report overtook it */
	assert_int_equal(enrol_at(b, &silent, NOW + 2 * DAY, &pem), ENROL_SAME); /* an older agent */
}

/* --- a known node with a new key --- */

static void test_new_key_waits_for_a_person(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PEM_BYTES), identity = BUF_INIT(PEM_BYTES), now_identity = BUF_INIT(PEM_BYTES);
	const struct change other = { .identity = b->keys[2], .transport = b->keys[3], .secret = other_secret };
	const struct change third = { .identity = b->keys[3], .transport = b->keys[2], .secret = other_secret };
	struct enrol_judgement j;
	struct csr_info transport;
	int64_t added = 0;

	put_secret(b, "n1", secret);
	assert_int_equal(enrol_at(b, &honest, NOW, &pem), ENROL_ISSUE);
	put_secret(b, "n1", other_secret);
	assert_int_equal(judge_at(b, &other, NOW, &j), ENROL_WAITING);
	assert_true(j.news);
	enrol_judgement_done(&j);
	assert_int_equal(judge_at(b, &other, NOW, &j), ENROL_WAITING);
	assert_false(j.news); /* told once */
	enrol_judgement_done(&j);
	assert_int_equal(ask(b, &third), ENROL_REFUSED); /* the secret is used up by the one that waits */
	assert_int_equal(ask(b, &without_secret), ENROL_SAME); /* the old key is in force meanwhile */
	/* released */
	public_of(b->keys[2], &identity);
	{
		CLEANUP(buf_done)
		struct buf csr = BUF_INIT(PEM_BYTES);

		assert_int_equal(csr_make(b->keys[3], "n1", &csr), 0);
		assert_int_equal(csr_read(buf_str(&csr), &transport), 0);
	}
	assert_int_equal(db_node_rekey(b->db, "n1", buf_str(&identity), transport.public_pem, NOW + DAY / 2), 0);
	assert_int_equal(db_enrolment_release(b->db, "n1"), 0);
	assert_int_equal(db_enrolment_release(b->db, "n1"), -ENOENT);
	buf_clear(&pem);
	assert_int_equal(enrol_at(b, &other, NOW + DAY, &pem), ENROL_ISSUE);
	assert_int_equal(enrol_at(b, &other, NOW + DAY, &pem), ENROL_SAME);
	assert_int_equal(db_node_identity(b->db, "n1", &now_identity), 0);
	assert_string_equal(buf_str(&now_identity), buf_str(&identity));
	assert_int_equal(db_nodes(b->db, "n1", see_node, &added), 0);
	assert_int_equal(added, NOW + DAY / 2); /* gates count its age anew */
	assert_int_equal(ask(b, &without_secret), ENROL_REFUSED); /* the old key is nobody */
}

static void test_refused_key_stays_out(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PEM_BYTES);
	const struct change other = { .identity = b->keys[2], .transport = b->keys[3], .secret = other_secret };

	put_secret(b, "n1", secret);
	assert_int_equal(enrol_at(b, &honest, NOW, &pem), ENROL_ISSUE);
	put_secret(b, "n1", other_secret);
	assert_int_equal(ask(b, &other), ENROL_WAITING);
	assert_int_equal(db_enrolment_drop(b->db, "n1"), 0);
	assert_int_equal(ask(b, &other), ENROL_REFUSED);
	assert_int_equal(ask(b, &without_secret), ENROL_SAME);
}

static void test_node_that_is_removed(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PEM_BYTES);

	put_secret(b, "n1", secret);
	assert_int_equal(enrol_at(b, &honest, NOW, &pem), ENROL_ISSUE);
	assert_int_equal(db_begin(b->db), 0);
	assert_int_equal(db_node_remove(b->db, "n1", NOW), 0);
	assert_int_equal(db_commit(b->db), 0);
	assert_int_equal(ask(b, &honest), ENROL_REFUSED);
	assert_int_equal(ask(b, &without_secret), ENROL_REFUSED);
}

/* --- renewal --- */

static void test_renewal_by_proof_of_the_key(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf first = BUF_INIT(PEM_BYTES), second = BUF_INIT(PEM_BYTES), third = BUF_INIT(PEM_BYTES);
	const struct change new_key = { .transport = b->keys[3], .secret = "" };
	const struct change thief = { .identity = b->keys[2], .transport = b->keys[3], .secret = "" };

	put_secret(b, "n1", secret);
	assert_int_equal(enrol_at(b, &honest, NOW, &first), ENROL_ISSUE);
	assert_int_equal(ask(b, &thief), ENROL_REFUSED);
	/* another transport key: a certificate of its own, the same when asked again */
	assert_int_equal(enrol_at(b, &new_key, NOW + 60 * DAY, &second), ENROL_ISSUE);
	assert_string_not_equal(buf_str(&first), buf_str(&second));
	assert_int_equal(enrol_at(b, &new_key, NOW + 61 * DAY, &third), ENROL_SAME);
	assert_string_equal(buf_str(&second), buf_str(&third));
	/* long expired, and still the same key */
	buf_clear(&third);
	assert_int_equal(enrol_at(b, &new_key, NOW + 1000LL * DAY, &third), ENROL_ISSUE);
	assert_string_not_equal(buf_str(&second), buf_str(&third));
}

static void test_quarantined_node_is_not_renewed(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PEM_BYTES);

	put_secret(b, "n1", secret);
	assert_int_equal(enrol_at(b, &honest, NOW, &pem), ENROL_ISSUE);
	assert_int_equal(db_node_quarantine(b->db, "n1", "two machines"), 0);
	assert_int_equal(ask(b, &without_secret), ENROL_WAITING);
	assert_int_equal(db_node_trust(b->db, "n1"), 0);
	assert_int_equal(ask(b, &without_secret), ENROL_SAME);
}

/* Enrolled before certificates were kept, or by a join file with keys. */
static void test_node_of_a_file_with_keys(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf identity = BUF_INIT(PEM_BYTES), transport = BUF_INIT(PEM_BYTES), pem = BUF_INIT(PEM_BYTES);

	public_of(b->keys[0], &identity);
	public_of(b->keys[1], &transport);
	assert_int_equal(db_node_add(b->db, "n1", buf_str(&identity), buf_str(&transport), "{}", NOW), 0);
	assert_int_equal(enrol_at(b, &without_secret, NOW, &pem), ENROL_ISSUE);
	assert_int_equal(enrol_at(b, &without_secret, NOW, &pem), ENROL_SAME);
}

/* --- the answer --- */

static void test_answer_is_read_back(void **state)
{
	static const char *const bad[] = {
		"{}",
		"{\"format\":1,\"state\":\"issued\"}",
		"{\"format\":1,\"state\":\"waiting\",\"certificate\":\"-----BEGIN CERTIFICATE-----\"}",
		"{\"format\":1,\"state\":\"later\"}",
		"{\"format\":2,\"state\":\"waiting\"}",
	};
	CLEANUP(json_build_freep)
	struct json_build *build = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct enrolment_answer a = { .state = ENROLMENT_WAITING, .reason = "a person has to" }, back;

	(void) state;
	enrolment_answer_write(&a, json_build_root(build));
	assert_int_equal(json_build_text(build, false, &text), 0);
	assert_int_equal(json_parse(text.data, text.len, &json_limits_default, &doc), 0);
	assert_int_equal(enrolment_answer_parse(doc, &back, NULL), 0);
	assert_int_equal(back.state, ENROLMENT_WAITING);
	assert_string_equal(back.reason, "a person has to");
	enrolment_answer_done(&back);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct json *d = NULL;

		assert_int_equal(json_parse(bad[i], strlen(bad[i]), &json_limits_default, &d), 0);
		assert_true(enrolment_answer_parse(d, &back, NULL) < 0);
		json_free(d);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_request_is_read_back),
		TEST(test_request_that_is_not_whole),
		TEST(test_request_of_another_kind),
		TEST(test_secret_is_used_up_by_one_key),
		TEST(test_second_key_is_counted),
		TEST(test_secret_that_does_not_fit),
		TEST(test_a_node_needs_no_secret),
		TEST(test_secret_expires),
		TEST(test_both_keys_sign),
		TEST(test_what_is_no_request),
		TEST(test_asks_too_often),
		TEST(test_strangers_keep_nobody_out),
		TEST(test_keys_in_a_row),
		TEST(test_a_request_that_is_repeated),
		TEST(test_new_key_waits_for_a_person),
		TEST(test_refused_key_stays_out),
		TEST(test_node_that_is_removed),
		TEST(test_renewal_by_proof_of_the_key),
		TEST(test_quarantined_node_is_not_renewed),
		TEST(test_node_of_a_file_with_keys),
		TEST(test_answer_is_read_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
