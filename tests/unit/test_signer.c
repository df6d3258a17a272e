#include "base/err.h"
#include "base/text.h"
#include "base/timestamp.h"
#include "crypto/certificate.h"
#include "crypto/digest.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "os/os.h"
#include "server-stub/repo/offline.h"
#include "server-stub/signer/signer.h"
#include "support/fault_loop.h"
#include "support/os_fault.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A signer in a folder of its own, with a clock the test sets. */
struct bench {
	char dir[256];
	struct os os;
	struct signer *signer;
	struct buf answer;
	char last_sha256[SHA256_HEX + 1];
};

static int64_t now;
static uint64_t boot_ms;

static int64_t fake_clock(const struct os *os)
{
	(void) os;
	return now;
}

static uint64_t fake_boot(const struct os *os)
{
	(void) os;
	return boot_ms;
}

static void below(const struct bench *b, const char *name, char path[512])
{
	(void) snprintf(path, 512, "%s/%s", b->dir, name);
}

static void make_folder(const struct bench *b, const char *name)
{
	char path[512];

	below(b, name, path);
	assert_int_equal(0, durable_mkdir(&b->os, AT_FDCWD, path, 0700));
}

static void make_key(const struct bench *b, const char *name)
{
	struct key_files keys = { .count = 0 };
	char path[512];

	below(b, "signer", path);
	assert_int_equal(0, key_files_create(&b->os, path, name, NULL, &keys));
	key_files_done(&keys);
}

static void write_text(const struct bench *b, const char *name, const char *text)
{
	char path[512];

	below(b, name, path);
	assert_int_equal(0, durable_write_file(&b->os, AT_FDCWD, path, text, strlen(text), 0600));
}

static void make_ca(const struct bench *b)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf public = BUF_INIT(8192), pem = BUF_INIT(8192), certificate = BUF_INIT(8192);
	struct certificate_request request = { .common_name = "test CA",
					       .is_ca = true,
					       .not_after = now + 1000000 };

	assert_int_equal(0, private_key_generate(&key));
	assert_int_equal(0, private_key_public_pem(key, &public));
	request.public_pem = buf_str(&public);
	assert_int_equal(0, certificate_issue(&request, key, NULL, &certificate));
	assert_int_equal(0, private_key_save(key, NULL, &pem));
	write_text(b, "signer/ca.key", buf_str(&pem));
	write_text(b, "signer/ca.crt", buf_str(&certificate));
}

static int open_signer(struct bench *b)
{
	const struct signer_options o = { .os = &b->os, .dir = b->dir };

	return signer_open(&o, &b->signer);
}

static void reopen(struct bench *b)
{
	signer_close(b->signer);
	b->signer = NULL;
	assert_int_equal(0, open_signer(b));
}

static int setup(void **state)
{
	static const char *const keys[] = { "rollouts-1", "support-1", "snapshot-1", "timestamp-1", "control-1" };
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	now = 1800000000;
	boot_ms = 1000000;
	b->os = *os_quick();
	b->os.clock_real = fake_clock;
	b->os.clock_boot_ms = fake_boot;
	buf_init(&b->answer, SIGNER_MAX_BYTES);
	temp_folder(b->dir, sizeof(b->dir));
	make_folder(b, "signer");
	make_folder(b, "repo");
	make_folder(b, "repo/metadata");
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		make_key(b, keys[i]);
	make_ca(b);
	assert_int_equal(0, open_signer(b));
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	signer_close(b->signer);
	buf_done(&b->answer);
	temp_folder_remove(b->dir);
	free(b);
	return 0;
}

static int ask(struct bench *b, enum signer_message type, const char *fmt, ...) PRINTF_LIKE(3, 4);

static int ask(struct bench *b, enum signer_message type, const char *fmt, ...)
{
	static char line[1024 * 1024];
	va_list ap;
	int r;

	va_start(ap, fmt);
	assert_in_range(vsnprintf(line, sizeof(line), fmt, ap), 0, sizeof(line) - 1);
	va_end(ap);
	buf_clear(&b->answer);
	r = signer_handle(b->signer, 0, (uint16_t) type, line, strlen(line), &b->answer);
	if (r >= 0 && b->answer.len > 0)
		assert_int_equal(0, sha256_hex(b->answer.data, b->answer.len, b->last_sha256));
	return r;
}

#define HASH64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define ENTRY "{\"length\":3,\"hashes\":{\"sha256\":\"" HASH64 "\"}}"
#define VERSIONED(v) "{\"version\":" #v ",\"length\":3,\"hashes\":{\"sha256\":\"" HASH64 "\"}}"

/* The member of `signed` in the last answer. */
static int64_t answered_version(struct bench *b)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	int64_t v = -1;

	assert_int_equal(0, json_parse(b->answer.data, b->answer.len, &json_limits_default, &doc));
	assert_true(json_integer(json_get(json_get(doc, "signed"), "version"), &v));
	return v;
}

static void answered_text(struct bench *b, const char *name, char ret[64])
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const char *s;

	assert_int_equal(0, json_parse(b->answer.data, b->answer.len, &json_limits_default, &doc));
	s = json_string(json_get(json_get(doc, "signed"), name));
	assert_non_null(s);
	(void) snprintf(ret, 64, "%s", s);
}

static int sign_snapshot(struct bench *b, const char *meta)
{
	return ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"snapshot\",\"body\":{\"meta\":{%s}}}", meta);
}

/* The timestamp of the snapshot that was just answered. */
static int sign_timestamp(struct bench *b)
{
	char sha256[SHA256_HEX + 1];
	long long version = answered_version(b);
	size_t length = b->answer.len;

	memcpy(sha256, b->last_sha256, sizeof(sha256));
	return ask(
		b, SIGNER_SIGN_ROLE,
		"{\"role\":\"timestamp\",\"body\":{\"meta\":{\"snapshot.json\":{\"version\":%lld,\"length\":%zu,"
		"\"hashes\":{\"sha256\":\"%s\"}}}}}",
		version, length, sha256);
}

static void publish_answer(struct bench *b, const char *file)
{
	char path[512];

	below(b, file, path);
	assert_int_equal(0, durable_write_file(&b->os, AT_FDCWD, path, b->answer.data, b->answer.len, 0644));
}

/* Snapshot of `meta` and its timestamp, published. */
static void publish_snapshot(struct bench *b, const char *meta)
{
	char file[128];

	assert_int_equal(0, sign_snapshot(b, meta));
	(void) snprintf(file, sizeof(file), "repo/metadata/%lld.snapshot.json", (long long) answered_version(b));
	publish_answer(b, file);
	assert_int_equal(0, sign_timestamp(b));
	publish_answer(b, "repo/metadata/timestamp.json");
}

static void the_signer_adds_what_every_role_has(void **state)
{
	struct bench *b = *state;
	char text[64];

	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE,
				"{\"role\":\"rollouts\",\"body\":{\"targets\":{\"rollouts/index.json\":" ENTRY
				"}}}"));
	assert_int_equal(now, answered_version(b)); /* raised to seconds since 1970 */
	answered_text(b, "_type", text);
	assert_string_equal("targets", text);
	answered_text(b, "spec_version", text);
	assert_string_equal("1.0.34", text);
	answered_text(b, "x-issued", text);
	assert_string_equal("2027-01-15T08:00:00Z", text);
	answered_text(b, "expires", text);
	assert_string_equal("2027-01-29T08:00:00Z", text); /* 14 days */
	publish_snapshot(b, "\"targets.json\":" VERSIONED(1));
	answered_text(b, "expires", text);
	assert_string_equal("2027-01-18T08:00:00Z", text); /* 72 hours */
}

static void a_signature_verifies_with_the_roles_key(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(8192);
	CLEANUP(tuf_keyring_freep)
	struct tuf_keyring *ring = NULL;
	CLEANUP(json_freep)
	struct json *doc = NULL;
	char path[512];

	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	below(b, "signer/support-1.pub", path);
	assert_int_equal(0, file_read(&b->os, AT_FDCWD, path, 8192, &pem));
	assert_int_equal(0, tuf_keyring_single(buf_str(&pem), &ring));
	assert_int_equal(0, tuf_envelope_open(b->answer.data, b->answer.len, ring, &doc));
}

static void each_role_says_only_what_is_its_own(void **state)
{
	static const char *const refused[] = {
		"{\"role\":\"rollouts\",\"body\":{\"targets\":{\"nodes/n1.json\":" ENTRY "}}}",
		"{\"role\":\"rollouts\",\"body\":{\"targets\":{\"web/1.0.0/release.json\":" ENTRY "}}}",
		"{\"role\":\"rollouts\",\"body\":{\"targets\":{\"rollouts/../x.json\":" ENTRY "}}}",
		"{\"role\":\"rollouts\",\"body\":{\"targets\":{\"rollouts/a/b.json\":" ENTRY "}}}",
		"{\"role\":\"rollouts\",\"body\":{\"targets\":{\"rollouts/.json\":" ENTRY "}}}",
		"{\"role\":\"rollouts\",\"body\":{\"targets\":{\"rollouts/A.json\":" ENTRY "}}}",
		"{\"role\":\"rollouts\",\"body\":{\"targets\":{},\"delegations\":{}}}",
		"{\"role\":\"rollouts\",\"body\":{\"targets\":{},\"version\":9}}",
		"{\"role\":\"rollouts\",\"body\":{}}",
		"{\"role\":\"rollouts\",\"body\":{\"targets\":{\"rollouts/"
		"a.json\":{\"length\":3,\"hashes\":{\"sha256\":\"" HASH64 "\"},\"custom\":{}}}}}",
		"{\"role\":\"support\",\"body\":{\"targets\":{\"rollouts/index.json\":" ENTRY "}}}",
		"{\"role\":\"inventory\",\"body\":{\"targets\":{}}}", /* no key of it here */
		"{\"role\":\"targets\",\"body\":{\"targets\":{}}}",
		"{\"role\":\"root\",\"body\":{}}",
		"{\"role\":\"team-web\",\"body\":{\"targets\":{}}}",
		"{\"role\":\"control\",\"body\":{\"targets\":{}}}",
		"{\"role\":\"snapshot\",\"body\":{\"meta\":{}}}",
		"{\"role\":\"snapshot\",\"body\":{\"meta\":{\"targets.json\":" VERSIONED(1) "},\"more\":1}}",
		"{\"role\":\"snapshot\",\"body\":{\"meta\":{\"targets.json\":" VERSIONED(
			1) ",\"root.json\":" VERSIONED(1) "}}}",
		"{\"role\":\"snapshot\",\"body\":{\"meta\":{\"targets.json\":" VERSIONED(
			1) ",\"rollouts.json\":" VERSIONED(7) "}}}",
		"{\"role\":\"timestamp\",\"body\":{\"meta\":{\"snapshot.json\":" VERSIONED(1) "}}}",
		"{\"role\":\"timestamp\",\"body\":{\"meta\":{\"targets.json\":" VERSIONED(1) "}}}",
		"{}",
	};
	struct bench *b = *state;

	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		int r = ask(b, SIGNER_SIGN_ROLE, "%s", refused[i]);

		if (r != -ERR_REFUSED)
			print_error("%s\n", refused[i]);
		assert_int_equal(-ERR_REFUSED, r);
		assert_int_equal(0, b->answer.len);
		assert_true(strlen(signer_reason(b->signer)) > 10);
	}
	/* An entry without a good hash is malformed. */
	assert_true(ask(b, SIGNER_SIGN_ROLE,
			"{\"role\":\"rollouts\",\"body\":{\"targets\":{\"rollouts/"
			"a.json\":{\"length\":3,\"hashes\":{\"sha256\":\"xy\"}}}}}") < 0);
	assert_true(ask(b, SIGNER_SIGN_ROLE, "not JSON") < 0);
	assert_true(ask(b, SIGNER_SIGN_ROLE, "[]") < 0);
	assert_int_equal(-ERR_PROTOCOL, ask(b, (enum signer_message) 77, "{}"));
}

static void versions_only_rise(void **state)
{
	struct bench *b = *state;
	int64_t first, second;

	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	first = answered_version(b);
	now -= 1000; /* a clock that went back */
	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	second = answered_version(b);
	assert_int_equal(first + 1, second);
	reopen(b);
	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	assert_int_equal(first + 2, answered_version(b));
	now += 100000;
	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	assert_int_equal(now, answered_version(b));
}

static void a_snapshot_never_lowers_or_drops_what_was_published(void **state)
{
	struct bench *b = *state;

	publish_snapshot(b, "\"targets.json\":" VERSIONED(4) ",\"team-web.json\":" VERSIONED(3));
	assert_int_equal(-ERR_REFUSED, sign_snapshot(b, "\"targets.json\":" VERSIONED(4)));
	assert_non_null(strstr(signer_reason(b->signer), "drop team-web.json"));
	assert_int_equal(-ERR_REFUSED,
			 sign_snapshot(b, "\"targets.json\":" VERSIONED(3) ",\"team-web.json\":" VERSIONED(3)));
	assert_non_null(strstr(signer_reason(b->signer), "lower targets.json"));
	reopen(b);
	assert_int_equal(-ERR_REFUSED,
			 sign_snapshot(b, "\"targets.json\":" VERSIONED(4) ",\"team-web.json\":" VERSIONED(2)));
	assert_int_equal(0, sign_snapshot(b, "\"targets.json\":" VERSIONED(4) ",\"team-web.json\":" VERSIONED(3)));
}

/* What a captured controller could ask for, and no later snapshot could take back. */
static void a_snapshot_uses_up_neither_versions_nor_its_own_size(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf many = BUF_INIT(SIGNER_MAX_BYTES);

	publish_snapshot(b, "\"targets.json\":" VERSIONED(4) ",\"team-web.json\":" VERSIONED(3));
	assert_int_equal(-ERR_REFUSED,
			 sign_snapshot(b, "\"targets.json\":" VERSIONED(4) ",\"team-web.json\":" VERSIONED(
						  9007199254740991)));
	assert_non_null(strstr(signer_reason(b->signer), "team-web.json would jump"));
	assert_int_equal(-ERR_REFUSED,
			 sign_snapshot(b, "\"targets.json\":" VERSIONED(4) ",\"team-web.json\":" VERSIONED(
						  3) ",\"Any Thing.json\":" VERSIONED(1)));
	assert_int_equal(0,
			 buf_add_str(&many, "\"targets.json\":" VERSIONED(4) ",\"team-web.json\":" VERSIONED(3)));
	for (int i = 0; i < 3000; i++)
		assert_int_equal(0, buf_addf(&many, ",\"team-%d.json\":" VERSIONED(1), i));
	assert_int_equal(-ERR_REFUSED, sign_snapshot(b, buf_str(&many)));
	assert_non_null(strstr(signer_reason(b->signer), "at most"));
	assert_int_equal(0, sign_snapshot(b, "\"targets.json\":" VERSIONED(5) ",\"team-web.json\":" VERSIONED(4)));
	/* Also where this host's clock is years behind the team's. */
	assert_int_equal(0, sign_snapshot(b, "\"targets.json\":" VERSIONED(5) ",\"team-web.json\":" VERSIONED(
						     90000000)));
}

static void an_unpublished_snapshot_binds_nobody(void **state)
{
	struct bench *b = *state;

	publish_snapshot(b, "\"targets.json\":" VERSIONED(4));
	assert_int_equal(0, sign_snapshot(b, "\"targets.json\":" VERSIONED(9)));
	assert_int_equal(0, sign_timestamp(b));
	/* The power went before the timestamp was renamed into place: the publication without it must go on. */
	reopen(b);
	assert_int_equal(0, sign_snapshot(b, "\"targets.json\":" VERSIONED(4)));
}

static void a_timestamp_is_of_the_newest_snapshot_only(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf first = BUF_INIT(SIGNER_MAX_BYTES);
	char sha256[SHA256_HEX + 1];
	long long version;

	assert_int_equal(0, sign_snapshot(b, "\"targets.json\":" VERSIONED(1)));
	assert_int_equal(0, buf_add(&first, b->answer.data, b->answer.len));
	version = answered_version(b);
	assert_int_equal(0, sha256_hex(first.data, first.len, sha256));
	assert_int_equal(0, sign_snapshot(b, "\"targets.json\":" VERSIONED(1)));
	assert_int_equal(-ERR_REFUSED, ask(b, SIGNER_SIGN_ROLE,
					   "{\"role\":\"timestamp\",\"body\":{\"meta\":{\"snapshot.json\":{"
					   "\"version\":%lld,\"length\":%zu,"
					   "\"hashes\":{\"sha256\":\"%s\"}}}}}",
					   version, first.len, sha256));
}

static void copy_file(struct bench *b, const char *from, const char *to)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(SIGNER_MAX_BYTES);
	char path[512];

	below(b, from, path);
	assert_int_equal(0, file_read(&b->os, AT_FDCWD, path, SIGNER_MAX_BYTES, &bytes));
	below(b, to, path);
	assert_int_equal(0, durable_write_file(&b->os, AT_FDCWD, path, bytes.data, bytes.len, 0600));
}

static void a_restored_backup_signs_nothing_until_recovered(void **state)
{
	struct bench *b = *state;
	int64_t published;

	publish_snapshot(b, "\"targets.json\":" VERSIONED(1));
	copy_file(b, "signer/state", "state.backup");
	now += 10;
	publish_snapshot(b, "\"targets.json\":" VERSIONED(2));
	published = answered_version(b);
	copy_file(b, "state.backup", "signer/state");
	reopen(b);
	assert_int_equal(-ERR_STALE_STATE,
			 ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"rollouts\",\"body\":{\"targets\":{}}}"));
	assert_non_null(strstr(signer_reason(b->signer), "selfright repo recover"));
	assert_int_equal(-ERR_STALE_STATE, sign_snapshot(b, "\"targets.json\":" VERSIONED(2)));
	/* Acknowledgements carry no version: nodes still hear from us. */
	assert_int_equal(0, ask(b, SIGNER_SIGN_CONTROL, "{\"document\":{\"_type\":\"selfright-ack\"}}"));
	assert_int_equal(0, ask(b, SIGNER_STATUS, "{}"));
	assert_non_null(strstr(buf_str(&b->answer), "\"stale\""));

	assert_int_equal(0, ask(b, SIGNER_RECOVER, "{}"));
	assert_non_null(strstr(buf_str(&b->answer), "\"timestamp\""));
	now -= 1000;
	assert_int_equal(-ERR_REFUSED, sign_snapshot(b, "\"targets.json\":" VERSIONED(1)));
	publish_snapshot(b, "\"targets.json\":" VERSIONED(2));
	assert_true(answered_version(b) > published);
	reopen(b);
	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"rollouts\",\"body\":{\"targets\":{}}}"));
}

static void a_lost_or_damaged_state_signs_nothing(void **state)
{
	struct bench *b = *state;
	char path[512];

	publish_snapshot(b, "\"targets.json\":" VERSIONED(1));
	write_text(b, "signer/state", "{\"format\":1,");
	reopen(b);
	assert_int_equal(-ERR_STALE_STATE, sign_snapshot(b, "\"targets.json\":" VERSIONED(1)));
	below(b, "signer/state", path);
	assert_int_equal(0, unlink(path));
	reopen(b);
	assert_int_equal(-ERR_STALE_STATE, sign_snapshot(b, "\"targets.json\":" VERSIONED(1)));
	assert_int_equal(0, ask(b, SIGNER_RECOVER, "{}"));
	assert_int_equal(0, sign_snapshot(b, "\"targets.json\":" VERSIONED(1)));
}

static void a_signer_that_was_away_too_long_asks_first(void **state)
{
	struct bench *b = *state;

	publish_snapshot(b, "\"targets.json\":" VERSIONED(1));
	now += SIGNER_TIMESTAMP_LIFE;
	reopen(b);
	assert_int_equal(-ERR_STALE_STATE, sign_snapshot(b, "\"targets.json\":" VERSIONED(1)));
	assert_int_equal(0, ask(b, SIGNER_RECOVER, "{}"));
	assert_int_equal(0, sign_snapshot(b, "\"targets.json\":" VERSIONED(1)));
}

static void metadata_of_a_node_proves_a_newer_past(void **state)
{
	struct bench *b = *state;
	CLEANUP(json_build_freep)
	struct json_build *request = json_build_new();
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(SIGNER_MAX_BYTES), ignored = BUF_INIT(SIGNER_MAX_BYTES);

	copy_file(b, "signer/state", "state.backup");
	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	node_string(json_build_root(request), "role", "support");
	node_string(json_build_root(request), "metadata", buf_str(&b->answer));
	assert_int_equal(0, json_build_text(request, false, &text));
	/* What we signed ourselves is no news. */
	assert_int_equal(0, signer_handle(b->signer, 0, SIGNER_PROVE, text.data, text.len, &ignored));
	copy_file(b, "state.backup", "signer/state");
	reopen(b);
	assert_int_equal(-ERR_STALE_STATE,
			 signer_handle(b->signer, 0, SIGNER_PROVE, text.data, text.len, &ignored));
	assert_int_equal(-ERR_STALE_STATE,
			 ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	/* A bare claim without our signature changes nothing. */
	assert_int_equal(0, ask(b, SIGNER_RECOVER, "{\"at_least\":{\"support\":1900000000}}"));
	assert_int_equal(0, ask(b, SIGNER_PROVE,
				"{\"role\":\"support\",\"metadata\":\"{\\\"signatures\\\":[],\\\"signed\\\":{\\\"_"
				"type\\\":\\\"targets\\\",\\\"version\\\":1999999999}}\"}"));
	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	assert_int_equal(1900000001, answered_version(b));
}

static void only_one_signer_holds_a_folder(void **state)
{
	struct bench *b = *state;
	const struct signer_options o = { .os = &b->os, .dir = b->dir };
	struct signer *second = NULL;

	assert_int_equal(-EBUSY, signer_open(&o, &second));
	assert_null(second);
}

static void a_signer_stops_when_another_took_the_repository_over(void **state)
{
	struct bench *b = *state;

	assert_int_equal(0, sign_snapshot(b, "\"targets.json\":" VERSIONED(1)));
	write_text(b, "repo/signer.lock", "{\"format\":1,\"counter\":1000}");
	assert_int_equal(-ERR_STALE_STATE, sign_snapshot(b, "\"targets.json\":" VERSIONED(1)));
	assert_non_null(strstr(signer_reason(b->signer), "took over"));
}

static int64_t answered_life(struct bench *b)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const char *expires, *issued;
	int64_t from = 0, to = 0;

	assert_int_equal(0, json_parse(b->answer.data, b->answer.len, &json_limits_default, &doc));
	expires = json_string(json_get(json_get(doc, "signed"), "expires"));
	issued = json_string(json_get(json_get(doc, "signed"), "x-issued"));
	assert_int_equal(0, timestamp_parse(expires, &to));
	assert_int_equal(0, timestamp_parse(issued, &from));
	return to - from;
}

static int ask_for_bundle(struct bench *b, const char *life)
{
	return ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}},\"life\":%s}", life);
}

static void allow_bundles(struct bench *b, const char *text)
{
	char path[400];
	FILE *f;

	snprintf(path, sizeof(path), "%s/signer/bundle-life", b->dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(0, fclose(f));
}

static void a_longer_life_is_the_administrators(void **state)
{
	static const char *const bad[] = { "", "d", "-1d", "367d", "90 days", "18446744073709551615d", "0" };
	struct bench *b = *state;
	int64_t before;

	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	assert_int_equal(SIGNER_ROLE_LIFE, answered_life(b));
	assert_int_equal(-ERR_REFUSED, ask_for_bundle(b, "7776000"));
	assert_non_null(strstr(signer_reason(b->signer), "bundle-life"));
	allow_bundles(b, "90d\n");
	assert_int_equal(0, ask_for_bundle(b, "7776000"));
	assert_int_equal(90 * 86400, answered_life(b));
	before = answered_version(b);
	assert_int_equal(-ERR_REFUSED, ask_for_bundle(b, "7776001"));
	assert_true(ask_for_bundle(b, "0") < 0);
	assert_true(ask_for_bundle(b, "\"90d\"") < 0);
	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	assert_int_equal(SIGNER_ROLE_LIFE, answered_life(b)); /* nobody gets it who did not ask */
	assert_true(answered_version(b) > before);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		allow_bundles(b, bad[i]);
		assert_int_equal(-ERR_CONFIG, ask_for_bundle(b, "3600"));
	}
	allow_bundles(b, "3600");
	assert_int_equal(0, ask_for_bundle(b, "3600"));
}

static void control_signs_answers_only(void **state)
{
	struct bench *b = *state;

	assert_int_equal(0, ask(b, SIGNER_SIGN_CONTROL,
				"{\"document\":{\"_type\":\"selfright-ack\",\"node\":\"n1\"}}"));
	assert_int_equal(0, ask(b, SIGNER_SIGN_CONTROL,
				"{\"document\":{\"_type\":\"selfright-grant\",\"node\":\"n1\"}}"));
	assert_int_equal(0, ask(b, SIGNER_SIGN_CONTROL,
				"{\"document\":{\"_type\":\"selfright-receipt\",\"node\":\"n1\"}}"));
	assert_int_equal(-ERR_REFUSED, ask(b, SIGNER_SIGN_CONTROL, "{\"document\":{\"_type\":\"targets\"}}"));
	assert_int_equal(-ERR_REFUSED,
			 ask(b, SIGNER_SIGN_CONTROL, "{\"document\":{\"_type\":\"selfright-report\"}}"));
	assert_int_equal(-ERR_REFUSED, ask(b, SIGNER_SIGN_CONTROL, "{\"document\":{}}"));
	assert_int_equal(-ERR_REFUSED, ask(b, SIGNER_SIGN_CONTROL, "{}"));
}

static void certificates_name_nodes_and_servers(void **state)
{
	struct bench *b = *state;
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf public = BUF_INIT(8192), text = BUF_INIT(16384);
	struct certificate_info info;

	assert_int_equal(0, private_key_generate(&key));
	assert_int_equal(0, private_key_public_pem(key, &public));
	for (const char *p = buf_str(&public); *p; p++)
		assert_int_equal(0, *p == '\n' ? buf_add_str(&text, "\\n") : buf_add_byte(&text, (uint8_t) *p));
	assert_int_equal(0, ask(b, SIGNER_CERTIFY_NODE, "{\"node\":\"n1\",\"public\":\"%s\"}", buf_str(&text)));
	assert_int_equal(0, certificate_read(buf_str(&b->answer), &info));
	assert_string_equal("n1", info.common_name);
	assert_int_equal(now - 86400, info.not_before);
	assert_int_equal(now + 90 * 86400, info.not_after);
	assert_int_equal(0, ask(b, SIGNER_CERTIFY_SERVER,
				"{\"names\":[\"DNS:localhost\",\"IP:127.0.0.1\"],\"public\":\"%s\"}",
				buf_str(&text)));
	assert_int_equal(0, certificate_read(buf_str(&b->answer), &info));
	assert_false(guard_id(info.common_name)); /* never a node's */
	assert_int_equal(-ERR_NAME,
			 ask(b, SIGNER_CERTIFY_NODE, "{\"node\":\"N 1\",\"public\":\"%s\"}", buf_str(&text)));
	assert_int_equal(-ERR_NAME, ask(b, SIGNER_CERTIFY_NODE, "{\"public\":\"%s\"}", buf_str(&text)));
	assert_int_equal(-ERR_FIELD_MISSING, ask(b, SIGNER_CERTIFY_NODE, "{\"node\":\"n1\"}"));
	assert_true(ask(b, SIGNER_CERTIFY_NODE, "{\"node\":\"n1\",\"public\":\"junk\"}") < 0);
	/* Not longer than the longest, not so short that it ends before it arrives. */
	assert_int_equal(-ERR_REFUSED,
			 ask(b, SIGNER_CERTIFY_NODE, "{\"node\":\"n1\",\"life\":7776001,\"public\":\"%s\"}",
			     buf_str(&text)));
	assert_int_equal(-ERR_REFUSED, ask(b, SIGNER_CERTIFY_NODE,
					   "{\"node\":\"n1\",\"life\":9,\"public\":\"%s\"}", buf_str(&text)));
	assert_int_equal(-ERR_REFUSED,
			 ask(b, SIGNER_CERTIFY_SERVER, "{\"names\":[],\"public\":\"%s\"}", buf_str(&text)));
	assert_int_equal(-ERR_NAME, ask(b, SIGNER_CERTIFY_SERVER, "{\"names\":[\"email:a@b\"],\"public\":\"%s\"}",
					buf_str(&text)));
}

static int certify_n1(struct bench *b, const char *escaped_public)
{
	return ask(b, SIGNER_CERTIFY_NODE, "{\"node\":\"n1\",\"public\":\"%s\"}", escaped_public);
}

/* A public key as JSON holds it. */
static void make_public(struct buf *escaped)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf public = BUF_INIT(8192);

	assert_int_equal(0, private_key_generate(&key));
	assert_int_equal(0, private_key_public_pem(key, &public));
	for (const char *p = buf_str(&public); *p; p++)
		assert_int_equal(0,
				 *p == '\n' ? buf_add_str(escaped, "\\n") : buf_add_byte(escaped, (uint8_t) *p));
}

static void rates_are_kept(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf escaped = BUF_INIT(8192);
	unsigned done = 0;

	while (done < 1000 && ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}") == 0)
		done++;
	assert_int_equal(600, done);
	assert_int_equal(-ERR_RATE, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	/* Certificates have a rate of their own: nodes that ask for them keep no role from being signed, nor the other way. */
	make_public(&escaped);
	assert_int_equal(0, certify_n1(b, buf_str(&escaped)));
	/* So have answers to nodes. */
	assert_int_equal(0, ask(b, SIGNER_SIGN_CONTROL, "{\"document\":{\"_type\":\"selfright-ack\"}}"));
	boot_ms += 1000;
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	assert_int_equal(-ERR_RATE, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
}

static void every_signature_is_logged(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf log = BUF_INIT(1024 * 1024);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	char path[512];
	const char *line;

	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	assert_int_equal(-ERR_REFUSED, ask(b, SIGNER_SIGN_CONTROL, "{\"document\":{\"_type\":\"x\"}}"));
	assert_int_equal(0, ask(b, SIGNER_SIGN_CONTROL, "{\"document\":{\"_type\":\"selfright-ack\"}}"));
	below(b, "signer/signer.log", path);
	assert_int_equal(0, file_read(&b->os, AT_FDCWD, path, 1024 * 1024, &log));
	line = strchr(buf_str(&log), '\n');
	assert_non_null(line);
	assert_int_equal(0, json_parse(log.data, (size_t) (line - buf_str(&log)), &json_limits_default, &doc));
	assert_string_equal("support", json_string(json_get(doc, "role")));
	assert_string_equal("2027-01-15T08:00:00Z", json_string(json_get(doc, "time")));
	assert_int_equal(SHA256_HEX, strlen(json_string(json_get(doc, "sha256"))));
	assert_non_null(strstr(line + 1, "selfright-ack"));
	assert_null(strstr(line + 1, "\"x\""));
	/* After a rotation of the file the next line goes to the new one. */
	assert_int_equal(0, unlink(path));
	assert_int_equal(0, signer_reopen_log(b->signer));
	assert_int_equal(0, ask(b, SIGNER_SIGN_CONTROL, "{\"document\":{\"_type\":\"selfright-ack\"}}"));
	assert_int_equal(0, access(path, F_OK));
}

static void all_keys_of_a_role_sign_during_a_rotation(void **state)
{
	struct bench *b = *state;
	CLEANUP(json_freep)
	struct json *doc = NULL;

	make_key(b, "support-2");
	assert_int_equal(0, ask(b, SIGNER_RELOAD, "{}"));
	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}"));
	assert_int_equal(0, json_parse(b->answer.data, b->answer.len, &json_limits_default, &doc));
	assert_int_equal(2, json_count(json_get(doc, "signatures")));
}

static void a_key_that_cannot_be_read_is_named(void **state)
{
	struct bench *b = *state;

	write_text(b, "signer/rollouts-2.pem", "no key");
	assert_true(ask(b, SIGNER_RELOAD, "{}") < 0);
	assert_non_null(strstr(signer_reason(b->signer), "rollouts-2.pem"));
	/* The keys it had still sign. */
	assert_int_equal(0, ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"rollouts\",\"body\":{\"targets\":{}}}"));
}

/* With any call failing: no signature leaves whose version could be given out again. */
static void no_version_twice_whatever_fails(void **state)
{
	struct bench *b = *state;
	int64_t most = 0;

	now = 5; /* so that the clock does not lift versions */
	for (unsigned at = 1; at < 60; at++) {
		struct os_fault f;
		struct os good = b->os;

		os_fault_init(&f, &good);
		f.os.clock_real = fake_clock;
		f.os.clock_boot_ms = fake_boot;
		signer_close(b->signer);
		b->signer = NULL;
		os_fault_arm(&f, at, EIO, false);
		b->os = f.os;
		b->os.state = f.os.state;
		{
			const struct signer_options o = { .os = &f.os, .dir = b->dir };

			if (signer_open(&o, &b->signer) < 0)
				b->signer = NULL;
		}
		for (int i = 0; b->signer && i < 2; i++)
			if (ask(b, SIGNER_SIGN_ROLE, "{\"role\":\"support\",\"body\":{\"targets\":{}}}") == 0) {
				assert_true(answered_version(b) > most);
				most = answered_version(b);
			}
		signer_close(b->signer);
		b->signer = NULL;
		b->os = good;
	}
	assert_true(most > 20);
	assert_int_equal(0, open_signer(b));
}

/* --- another CA --- */

/* The CAs that status tells of, the one that issues first. */
static void look_at_cas(struct bench *b, struct certificate_bundle *ret, char newest[static SHA256_HEX + 1])
{
	CLEANUP(json_freep)
	struct json *doc = NULL;

	assert_int_equal(0, ask(b, SIGNER_STATUS, "{}"));
	assert_int_equal(0, json_parse(b->answer.data, b->answer.len, &json_limits_default, &doc));
	certificate_bundle_done(ret);
	assert_int_equal(0, certificate_bundle_read(json_string(json_get(doc, "ca")), ret));
	snprintf(newest, SHA256_HEX + 1, "%s", json_string(json_get(doc, "ca_newest")));
}

static void another_ca_takes_over(void **state)
{
	CLEANUP(buf_done)
	struct buf escaped = BUF_INIT(8192);
	CLEANUP(certificate_bundle_done)
	struct certificate_bundle have = { .count = 0 }, again = { .count = 0 };
	struct bench *b = *state;
	char newest[SHA256_HEX + 1], first[SHA256_HEX + 1];
	struct certificate_info info;

	make_public(&escaped);
	look_at_cas(b, &have, newest);
	assert_int_equal(have.count, 1);
	assert_string_equal(newest, have.items[0].sha256);
	snprintf(first, sizeof(first), "%s", newest);
	assert_int_equal(-ERR_REFUSED, ask(b, SIGNER_CA, "{\"do\":\"retire\",\"sha256\":\"%s\"}", first));
	assert_int_equal(-ERR_REFUSED, ask(b, SIGNER_CA, "{\"do\":\"dance\",\"sha256\":\"%s\"}", first));
	assert_int_equal(-ERR_FIELD_MISSING, ask(b, SIGNER_CA, "{\"do\":\"switch\"}"));
	assert_int_equal(-ERR_REFUSED, ask(b, SIGNER_CA, "{\"do\":\"switch\",\"sha256\":\"%064d\"}", 7));

	/* another one, once; it issues nothing */
	assert_int_equal(0, ask(b, SIGNER_CA, "{\"do\":\"begin\"}"));
	assert_int_equal(0, ask(b, SIGNER_CA, "{\"do\":\"begin\"}"));
	look_at_cas(b, &have, newest);
	assert_int_equal(have.count, 2);
	assert_string_equal(have.items[0].sha256, first);
	assert_string_equal(have.items[1].sha256, newest);
	assert_int_equal(0, certificate_read(have.items[1].pem, &info));
	assert_string_equal(info.common_name, "test CA 2");
	assert_true(info.is_ca);
	assert_int_equal(0, certify_n1(b, buf_str(&escaped)));
	assert_int_equal(0, certificate_is_of(buf_str(&b->answer), have.items[0].pem));

	/* it issues, and does after a start as well; both are there */
	assert_int_equal(0, ask(b, SIGNER_CA, "{\"do\":\"switch\",\"sha256\":\"%s\"}", newest));
	assert_int_equal(0, ask(b, SIGNER_CA, "{\"do\":\"switch\",\"sha256\":\"%s\"}", newest));
	reopen(b);
	look_at_cas(b, &again, newest);
	assert_int_equal(again.count, 2);
	assert_string_equal(again.items[0].sha256, newest);
	assert_int_equal(0, certify_n1(b, buf_str(&escaped)));
	assert_int_equal(0, certificate_is_of(buf_str(&b->answer), have.items[1].pem));
	assert_int_equal(-ERR_REFUSED, ask(b, SIGNER_CA, "{\"do\":\"retire\",\"sha256\":\"%s\"}", newest));

	/* the first goes; its number is not given again */
	assert_int_equal(0, ask(b, SIGNER_CA, "{\"do\":\"retire\",\"sha256\":\"%s\"}", first));
	reopen(b);
	look_at_cas(b, &again, newest);
	assert_int_equal(again.count, 1);
	assert_int_equal(0, certify_n1(b, buf_str(&escaped)));
	assert_int_equal(0, ask(b, SIGNER_CA, "{\"do\":\"begin\"}"));
	look_at_cas(b, &again, newest);
	assert_int_equal(0, certificate_read(again.items[1].pem, &info));
	assert_string_equal(info.common_name, "test CA 3");

	/* what ca-issuing names and is not there is no reason to take another one */
	signer_close(b->signer);
	b->signer = NULL;
	write_text(b, "signer/ca-issuing", "0000000000000000000000000000000000000000000000000000000000000000\n");
	assert_int_equal(-ERR_CONFIG, open_signer(b));
	write_text(b, "signer/ca-issuing", "torn");
	assert_int_equal(-ERR_CONFIG, open_signer(b));
}

static void one_without_its_key_does_not_issue(void **state)
{
	CLEANUP(buf_done)
	struct buf escaped = BUF_INIT(8192);
	CLEANUP(certificate_bundle_done)
	struct certificate_bundle have = { .count = 0 };
	struct bench *b = *state;
	char newest[SHA256_HEX + 1], from[512], to[512];

	make_public(&escaped);
	assert_int_equal(0, ask(b, SIGNER_CA, "{\"do\":\"begin\"}"));
	look_at_cas(b, &have, newest);
	below(b, "signer/ca-2.key", from);
	below(b, "signer/elsewhere", to);
	assert_int_equal(0, rename(from, to));
	assert_true(ask(b, SIGNER_CA, "{\"do\":\"switch\",\"sha256\":\"%s\"}", newest) < 0);
	assert_non_null(strstr(signer_reason(b->signer), "ca-2.key"));
	reopen(b);
	assert_int_equal(0, certify_n1(b, buf_str(&escaped)));
	assert_int_equal(0, certificate_is_of(buf_str(&b->answer), have.items[0].pem));
	/* It can be taken back all the same. */
	assert_int_equal(0, ask(b, SIGNER_CA, "{\"do\":\"retire\",\"sha256\":\"%s\"}", newest));
	look_at_cas(b, &have, newest);
	assert_int_equal(have.count, 1);
}

/* --- another CA: whatever fails, and wherever the power goes --- */

/* Made once: what is tested is files. The first is ca.crt, the second ca-2.crt. */
static struct {
	char *key, *certificate, sha256[SHA256_HEX + 1];
} pair_of[2];
static int make_pairs(void **state)
{
	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(pair_of); i++) {
		CLEANUP(private_key_freep)
		struct private_key *key = NULL;
		CLEANUP(buf_done)
		struct buf public = BUF_INIT(8192), pem = BUF_INIT(8192), certificate = BUF_INIT(8192);
		CLEANUP(certificate_bundle_done)
		struct certificate_bundle one = { .count = 0 };
		struct certificate_request request = { .common_name = i == 0 ? "test CA" : "test CA 2",
						       .is_ca = true,
						       .not_after = 4000000000 };

		assert_int_equal(0, private_key_generate(&key));
		assert_int_equal(0, private_key_public_pem(key, &public));
		request.public_pem = buf_str(&public);
		assert_int_equal(0, certificate_issue(&request, key, NULL, &certificate));
		assert_int_equal(0, private_key_save(key, NULL, &pem));
		assert_int_equal(0, certificate_bundle_read(buf_str(&certificate), &one));
		snprintf(pair_of[i].sha256, sizeof(pair_of[i].sha256), "%s", one.items[0].sha256);
		pair_of[i].key = buf_take(&pem);
		pair_of[i].certificate = buf_take(&certificate);
	}
	return 0;
}

static int drop_pairs(void **state)
{
	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(pair_of); i++) {
		free(pair_of[i].key);
		free(pair_of[i].certificate);
	}
	return 0;
}

/* What is done to the CA, with which of the two it is about; who issues and how many there are before and after. */
struct ca_step {
	const char *what;
	size_t about, had, had_issuer, has, has_issuer;
};
static const struct ca_step step_begin = { "begin", 0, 1, 0, 2, 0 };
static const struct ca_step step_switch = { "switch", 1, 2, 0, 2, 1 };
static const struct ca_step step_retire = { "retire", 0, 2, 1, 1, 1 };
static const struct ca_step step_cancel = { "retire", 1, 2, 0, 1, 0 };
static const struct ca_step *ca_step; /* the one that is tested */

static int prep_cas(struct fault_case *c)
{
	static const char *const names[][2] = { { "signer/ca.key", "signer/ca.crt" },
						{ "signer/ca-2.key", "signer/ca-2.crt" } };
	char line[SHA256_HEX + 2];
	int r = durable_mkdir(c->os, c->dirfd, "signer", 0700);

	for (size_t i = 0; r >= 0 && i < ca_step->had; i++) {
		r = durable_write_file(c->os, c->dirfd, names[i][0], pair_of[i].key, strlen(pair_of[i].key), 0600);
		if (r >= 0)
			r = durable_write_file(c->os, c->dirfd, names[i][1], pair_of[i].certificate,
					       strlen(pair_of[i].certificate), 0644);
	}
	snprintf(line, sizeof(line), "%s\n", pair_of[ca_step->had_issuer].sha256);
	if (r >= 0 && ca_step->had_issuer > 0)
		r = durable_write_file(c->os, c->dirfd, "signer/ca-issuing", line, strlen(line), 0644);
	return r;
}

static int request_step(struct signer *s)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(SIGNER_MAX_BYTES);
	char text[200];

	snprintf(text, sizeof(text), "{\"do\":\"%s\",\"sha256\":\"%s\"}", ca_step->what,
		 pair_of[ca_step->about].sha256);
	return signer_handle(s, 0, SIGNER_CA, text, strlen(text), &out);
}

static int body_cas(struct fault_case *c)
{
	const struct signer_options o = { .os = c->os, .dir = c->path };
	struct signer *s = NULL;
	int r = signer_open(&o, &s);

	if (r < 0)
		return r;
	r = request_step(s);
	/* A person tries again, and the signer still runs. */
	if (r < 0)
		r = request_step(s);
	signer_close(s);
	return r;
}

/* How many CAs status tells of; *ret_issuer is the one that issues (its key fits: a start looked), -1: another than those two. */
static size_t count_cas(struct signer *s, int *ret_issuer)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(SIGNER_MAX_BYTES);
	CLEANUP(certificate_bundle_done)
	struct certificate_bundle have = { .count = 0 };
	CLEANUP(json_freep)
	struct json *doc = NULL;

	assert_int_equal(0, signer_handle(s, 0, SIGNER_STATUS, "{}", 2, &out));
	assert_int_equal(0, json_parse(out.data, out.len, &json_limits_default, &doc));
	assert_int_equal(0, certificate_bundle_read(json_string(json_get(doc, "ca")), &have));
	*ret_issuer = -1;
	for (size_t i = 0; i < ARRAY_LEN(pair_of); i++)
		if (strcmp(have.items[0].sha256, pair_of[i].sha256) == 0)
			*ret_issuer = (int) i;
	return have.count;
}

/* A start finds one that issues and can: as before, or as asked for. Asked again it gets there, with no third one. */
static void check_cas(struct fault_case *c, int r)
{
	const struct signer_options o = { .os = os_quick(), .dir = c->path };
	struct signer *s = NULL;
	size_t count;
	int issuer;

	assert_int_equal(0, signer_open(&o, &s));
	count = count_cas(s, &issuer);
	if (r >= 0 || count != ca_step->had || issuer != (int) ca_step->had_issuer) {
		assert_int_equal(count, ca_step->has);
		assert_int_equal(issuer, ca_step->has_issuer);
	}
	if (count != ca_step->has || issuer != (int) ca_step->has_issuer) {
		assert_int_equal(request_step(s), 0);
		assert_int_equal(count_cas(s, &issuer), ca_step->has);
		assert_int_equal(issuer, ca_step->has_issuer);
	}
	signer_close(s);
}

FAULT_TEST(cas){ .name = "the signer's CAs", .prep = prep_cas, .body = body_cas, .check = check_cas };

static void no_ca_is_lost_whatever_fails(void **state)
{
	static const struct ca_step *const steps[] = { &step_begin, &step_switch, &step_retire, &step_cancel };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		ca_step = steps[i];
		/* Which of the two goes makes no difference to what fails on the way. */
		if (ca_step != &step_retire)
			fault_test_run(&cas);
		crash_test_run(&cas, 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(the_signer_adds_what_every_role_has),
		T(a_signature_verifies_with_the_roles_key),
		T(each_role_says_only_what_is_its_own),
		T(versions_only_rise),
		T(a_snapshot_never_lowers_or_drops_what_was_published),
		T(a_snapshot_uses_up_neither_versions_nor_its_own_size),
		T(an_unpublished_snapshot_binds_nobody),
		T(a_timestamp_is_of_the_newest_snapshot_only),
		T(a_restored_backup_signs_nothing_until_recovered),
		T(a_lost_or_damaged_state_signs_nothing),
		T(a_signer_that_was_away_too_long_asks_first),
		T(metadata_of_a_node_proves_a_newer_past),
		T(only_one_signer_holds_a_folder),
		T(a_signer_stops_when_another_took_the_repository_over),
		T(a_longer_life_is_the_administrators),
		T(control_signs_answers_only),
		T(certificates_name_nodes_and_servers),
		T(another_ca_takes_over),
		T(one_without_its_key_does_not_issue),
		cmocka_unit_test_setup_teardown(no_ca_is_lost_whatever_fails, make_pairs, drop_pairs),
		T(rates_are_kept),
		T(every_signature_is_logged),
		T(all_keys_of_a_role_sign_during_a_rotation),
		T(a_key_that_cannot_be_read_is_named),
		T(no_version_twice_whatever_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
