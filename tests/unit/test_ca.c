/* agent/local/ca.h and what it follows (tuf_ca_load): whatever fails, and wherever the power goes, ca.crt is whole: the old one or the new one. */
#include "agent/local/ca.h"
#include "base/err.h"
#include "crypto/certificate.h"
#include "crypto/key.h"
#include "json/json.h"
#include "os/durable.h"
#include "support/fault_loop.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { PEM_BYTES = 8192, OLD = 0, NEW, SITE, COUNT };

/* Made once: what is tested is files, not certificates. */
static struct certificate_bundle all;
static char *leaf_pem; /* issued by the old one, expired: that is others' business */

static int make_all(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(COUNT * PEM_BYTES);

	(void) state;
	for (int i = 0; i < COUNT; i++) {
		CLEANUP(private_key_freep)
		struct private_key *key = NULL;
		CLEANUP(buf_done)
		struct buf public = BUF_INIT(PEM_BYTES);
		struct certificate_request r = { .common_name = "a CA",
						 .is_ca = true,
						 .not_before = time(NULL),
						 .not_after = time(NULL) + 1000 };

		assert_int_equal(private_key_generate(&key), 0);
		assert_int_equal(private_key_public_pem(key, &public), 0);
		r.public_pem = buf_str(&public);
		assert_int_equal(certificate_issue(&r, key, NULL, &text), 0);
		if (i == OLD) {
			CLEANUP(buf_done)
			struct buf leaf = BUF_INIT(PEM_BYTES);

			r.is_ca = false;
			r.common_name = "n1";
			r.client = true;
			r.not_before = 1000;
			r.not_after = 2000;
			assert_int_equal(certificate_issue(&r, key, buf_str(&text), &leaf), 0);
			leaf_pem = buf_take(&leaf);
		}
	}
	assert_int_equal(certificate_bundle_read(buf_str(&text), &all), 0);
	assert_int_equal(all.count, COUNT);
	return 0;
}

static int drop_all(void **state)
{
	(void) state;
	certificate_bundle_done(&all);
	free(leaf_pem);
	return 0;
}

/* The text of these, as letters: "os" is the old one and the site's own. */
static void write_bundle(const char *which, struct buf *out)
{
	static const char letters[] = "ons";

	for (; *which; which++)
		assert_int_equal(buf_add_str(out, all.items[strchr(letters, *which) - letters].pem), 0);
}

static void read_bundle(const char *text, char ret[static COUNT + 1])
{
	CLEANUP(certificate_bundle_done)
	struct certificate_bundle b = { .count = 0 };
	size_t n = 0;

	assert_int_equal(certificate_bundle_read(text, &b), 0);
	for (int i = 0; i < COUNT; i++)
		if (certificate_bundle_find(&b, all.items[i].sha256))
			ret[n++] = "ons"[i];
	ret[n] = '\0';
	assert_int_equal(b.count, n);
}

/* What is said, borrowed from `all`. */
static struct tuf_ca said(const char *trusted, const char *retired)
{
	struct tuf_ca ca = { .retired_count = 0 };
	static const char letters[] = "ons";

	for (; *trusted; trusted++)
		ca.trusted.items[ca.trusted.count++] = all.items[strchr(letters, *trusted) - letters];
	for (; *retired; retired++)
		memcpy(ca.retired[ca.retired_count++], all.items[strchr(letters, *retired) - letters].sha256,
		       SHA256_HEX + 1);
	return ca;
}

/* --- what follows --- */

static void test_what_follows_from_what_is_said(void **state)
{
	static const struct {
		const char *present, *trusted, *retired, *grown, *final;
	} rows[] = {
		{ "o", "o", "", "o", "o" },
		{ "o", "on", "", "on", "on" },
		{ "on", "on", "", "on", "on" },
		{ "on", "no", "", "on", "on" },
		{ "on", "n", "o", "on", "n" },
		{ "o", "n", "o", "on", "n" }, /* it was off while both were trusted */
		{ "n", "n", "o", "n", "n" },
		{ "os", "n", "o", "ons", "ns" }, /* what an administrator added stays */
		{ "s", "o", "", "os", "os" },
		{ "os", "o", "", "os", "os" }, /* who is not named does not go: only who is retired */
		{ "", "o", "n", "o", "o" },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP(buf_done)
		struct buf present = BUF_INIT(CA_FILE_MAX);
		CLEANUP(ca_change_done)
		struct ca_change c = { .grows = false };
		struct tuf_ca ca = said(rows[i].trusted, rows[i].retired);
		char grown[COUNT + 1], final[COUNT + 1];

		write_bundle(rows[i].present, &present);
		assert_int_equal(ca_compose(buf_str(&present), &ca, &c), 0);
		read_bundle(buf_str(&c.grown), grown);
		read_bundle(buf_str(&c.final), final);
		assert_string_equal(grown, rows[i].grown);
		assert_string_equal(final, rows[i].final);
		assert_true(c.grows == (strcmp(grown, rows[i].present) != 0));
		assert_true(c.drops == (strcmp(grown, final) != 0));
	}
}

static void test_a_file_of_a_person_is_read(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CA_FILE_MAX);
	CLEANUP(ca_change_done)
	struct ca_change c = { .grows = false };
	struct tuf_ca ca = said("n", "o");
	char final[COUNT + 1];

	(void) state;
	assert_int_equal(buf_add_str(&text, "# the site's firewall, ticket 4711\r\n"), 0);
	write_bundle("s", &text);
	assert_int_equal(buf_add_str(&text, "\nCertificate:\n    Data: ...\n"), 0);
	write_bundle("oo", &text);
	assert_int_equal(ca_compose(buf_str(&text), &ca, &c), 0);
	read_bundle(buf_str(&c.final), final);
	assert_string_equal(final, "ns");
}

static void test_what_does_not_fit_is_an_error(void **state)
{
	struct ca_change c = { .grows = true };
	struct tuf_ca ca = said("n", "o");

	(void) state;
	assert_int_equal(ca_compose("-----BEGIN CERTIFICATE-----\nMIIB", &ca, &c), -ERR_SYNTAX);
	assert_true(c.grows); /* untouched */
}

/* --- what is signed (tuf_ca_load) --- */

/* x-selfright with these PEMs and digests; `row` says what is odd about it. */
static int load(const char *text, struct tuf_ca *ret)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct json_limits limits = json_limits_default;

	limits.max_bytes = 1024 * 1024;
	assert_int_equal(json_parse(text, strlen(text), &limits, &doc), 0);
	return tuf_ca_load(doc, ret);
}

/* `%` in `form` stands for a PEM: o, n, s, or l for a certificate that is no CA; `#` for its SHA-256. */
static char *filled(const char *form)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(1024 * 1024);

	for (const char *p = form; *p; p++) {
		const char *text = NULL;

		if (*p == '%')
			text = p[1] == 'l' ? leaf_pem : all.items[strchr("ons", p[1]) - "ons"].pem;
		else if (*p == '#')
			text = all.items[strchr("ons", p[1]) - "ons"].sha256;
		if (!text) {
			assert_int_equal(buf_add_byte(&out, (uint8_t) (*p == '\'' ? '"' : *p)), 0);
			continue;
		}
		p++;
		for (; *text; text++)
			assert_int_equal(*text == '\n' ? buf_add_str(&out, "\\n")
						       : buf_add_byte(&out, (uint8_t) *text),
					 0);
	}
	return buf_take(&out);
}

static void test_what_is_signed_is_read(void **state)
{
	static const struct {
		const char *form;
		int r;
	} rows[] = {
		{ "{'ca':{'trusted':['%o']}}", 0 },
		{ "{'ca':{'trusted':['%o','%n'],'retired':['#s'],'later':1},'control':{}}", 0 },
		{ "{}", -ERR_NOT_LISTED },
		{ "{'ca':{}}", -ERR_FIELD_MISSING },
		{ "{'ca':[]}", -ERR_FIELD_MISSING },
		{ "{'ca':{'trusted':'%o'}}", -ERR_FIELD_TYPE },
		{ "{'ca':{'trusted':[]}}", -ERR_FIELD_VALUE }, /* nobody at all would cut the whole fleet off */
		{ "{'ca':{'trusted':[1]}}", -ERR_FIELD_TYPE },
		{ "{'ca':{'trusted':['']}}", -ERR_FIELD_VALUE },
		{ "{'ca':{'trusted':['no PEM']}}", -ERR_FIELD_VALUE },
		{ "{'ca':{'trusted':['%o%n']}}", -ERR_FIELD_VALUE },
		{ "{'ca':{'trusted':['%o','%o']}}", -ERR_FIELD_VALUE },
		{ "{'ca':{'trusted':['%o','%l']}}", -ERR_FIELD_VALUE }, /* a server's own certificate */
		{ "{'ca':{'trusted':['-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----']}}",
		  -ERR_SYNTAX },
		{ "{'ca':{'trusted':['-----BEGIN CERTIFICATE-----\\nMIIB']}}", -ERR_SYNTAX },
		{ "{'ca':{'trusted':['%o'],'retired':['#o']}}", -ERR_FIELD_VALUE }, /* trusted and not */
		{ "{'ca':{'trusted':['%o'],'retired':[1]}}", -ERR_FIELD_TYPE },
		{ "{'ca':{'trusted':['%o'],'retired':['12']}}", -ERR_SYNTAX },
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct tuf_ca ca = { .retired_count = 77 };
		char *text = filled(rows[i].form);
		int r = load(text, &ca);

		if (rows[i].r == -ERR_SYNTAX ? r >= 0 : r != rows[i].r)
			fail_msg("%s: %d, not %d", rows[i].form, r, rows[i].r);
		if (r == 0) {
			assert_string_equal(ca.trusted.items[0].sha256, all.items[OLD].sha256);
			assert_true(tuf_ca_is_retired(&ca, all.items[SITE].sha256) == (ca.retired_count == 1));
			assert_false(tuf_ca_is_retired(&ca, all.items[OLD].sha256));
			tuf_ca_done(&ca);
		} else {
			assert_int_equal(ca.retired_count, 77); /* untouched */
		}
		free(text);
	}
	assert_int_equal(tuf_ca_load(NULL, &(struct tuf_ca){ .retired_count = 0 }), -ERR_NOT_LISTED);
}

static void test_too_many_are_refused(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(1024 * 1024), bundle = BUF_INIT(1024 * 1024);
	struct certificate_bundle b = { .count = 99 };
	struct tuf_ca ca;

	(void) state;
	assert_int_equal(buf_add_str(&text, "{'ca':{'trusted':['%o'],'retired':["), 0);
	for (int i = 0; i <= TUF_CA_RETIRED_MAX; i++)
		assert_int_equal(buf_addf(&text, "%s'%064d'", i ? "," : "", i), 0);
	assert_int_equal(buf_add_str(&text, "]}}"), 0);
	{
		char *whole = filled(buf_str(&text));

		assert_int_equal(load(whole, &ca), -ERR_FIELD_VALUE);
		free(whole);
	}
	for (int i = 0; i <= CERTIFICATE_BUNDLE_MAX; i++)
		assert_int_equal(buf_addf(&bundle,
					  "-----BEGIN CERTIFICATE-----\n%04d\n-----END CERTIFICATE-----\n", i),
				 0);
	assert_int_equal(certificate_bundle_read(buf_str(&bundle), &b), -ERR_TOO_LARGE);
	assert_int_equal(b.count, 99); /* untouched */
}

static void test_who_issued_it(void **state)
{
	(void) state;
	assert_int_equal(certificate_is_of(leaf_pem, all.items[OLD].pem), 0);
	assert_int_equal(certificate_is_of(leaf_pem, all.items[NEW].pem), -ERR_SIGNATURE); /* of the same name */
	assert_int_equal(certificate_is_of("nothing", all.items[OLD].pem), -ERR_SYNTAX);
	assert_int_equal(certificate_is_of(leaf_pem, "nothing"), -ERR_SYNTAX);
	assert_int_equal(certificate_is_of(leaf_pem, leaf_pem), -ERR_SIGNATURE);
}

/* --- files --- */

static int put(const struct os *os, int dirfd, const char *name, const char *which)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CA_FILE_MAX);

	write_bundle(which, &text);
	return durable_write_file(os, dirfd, name, text.data, text.len, 0644);
}

static void expect(const struct os *os, int dirfd, const char *name, const char *first, const char *second)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CA_FILE_MAX);
	char found[COUNT + 1];

	assert_int_equal(file_read(os, dirfd, name, CA_FILE_MAX, &text), 0);
	read_bundle(buf_str(&text), found);
	if (strcmp(found, first) != 0 && (!second || strcmp(found, second) != 0))
		fail_msg("%s holds %s, not %s", name, found, first);
}

static int prep_old(struct fault_case *c)
{
	return put(c->os, c->dirfd, CA_FILE, "o");
}

static int body_grow(struct fault_case *c)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CA_FILE_MAX);

	write_bundle("on", &text);
	return ca_grow(c->os, c->dirfd, &text);
}

static void check_grow(struct fault_case *c, int r)
{
	expect(os_quick(), c->dirfd, CA_FILE, "on", r == 0 ? NULL : "o");
}

FAULT_TEST(grow){ .name = "another CA", .prep = prep_old, .body = body_grow, .check = check_grow };

static int prep_both(struct fault_case *c)
{
	return put(c->os, c->dirfd, CA_FILE, "on");
}

static int body_drop(struct fault_case *c)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(CA_FILE_MAX);
	int r;

	write_bundle("n", &text);
	r = ca_offer(c->os, c->dirfd, &text);
	if (r == 0)
		r = ca_promote(c->os, c->dirfd);
	return r < 0 ? r : ca_withdraw(c->os, c->dirfd);
}

static void check_drop(struct fault_case *c, int r)
{
	struct stat st;

	expect(os_quick(), c->dirfd, CA_FILE, "n", r == 0 ? NULL : "on");
	if (r == 0) {
		expect(os_quick(), c->dirfd, CA_BEFORE_FILE, "on", NULL);
		assert_int_equal(os_quick()->fstatat(os_quick(), c->dirfd, CA_NEXT_FILE, &st), -ENOENT);
	}
	/* A start withdraws what was offered, whatever is left of it. */
	assert_int_equal(ca_withdraw(os_quick(), c->dirfd), 0);
	assert_int_equal(os_quick()->fstatat(os_quick(), c->dirfd, CA_NEXT_FILE, &st), -ENOENT);
}

FAULT_TEST(drop){ .name = "fewer CAs", .prep = prep_both, .body = body_drop, .check = check_drop };

static void test_the_issuer_is_one_of_those_in_the_file(void **state)
{
	const struct os *os = os_quick();
	char dir[] = "/tmp/selfright-ca.XXXXXX", sha256[SHA256_HEX + 1] = "untouched";
	int dirfd;

	(void) state;
	assert_non_null(mkdtemp(dir));
	dirfd = open(dir, O_RDONLY | O_DIRECTORY);
	assert_true(dirfd >= 0);
	assert_int_equal(ca_issuer_of(os, dirfd, "leaf", sha256), -ENOENT);
	assert_int_equal(durable_write_file(os, dirfd, "leaf", leaf_pem, strlen(leaf_pem), 0644), 0);
	assert_int_equal(ca_issuer_of(os, dirfd, "leaf", sha256), -ENOENT);
	assert_int_equal(put(os, dirfd, CA_FILE, "ns"), 0);
	assert_int_equal(ca_issuer_of(os, dirfd, "leaf", sha256), -ERR_SIGNATURE);
	assert_int_equal(durable_write_file(os, dirfd, "odd", "no PEM", 6, 0644), 0);
	assert_true(ca_issuer_of(os, dirfd, "odd", sha256) < 0);
	assert_string_equal(sha256, "untouched");
	assert_int_equal(put(os, dirfd, CA_FILE, "nso"), 0);
	assert_int_equal(ca_issuer_of(os, dirfd, "leaf", sha256), 0);
	assert_string_equal(sha256, all.items[OLD].sha256);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(unlinkat(dirfd, (const char *const[]){ "leaf", "odd", CA_FILE }[i], 0), 0);
	assert_int_equal(close(dirfd), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void test_files(void **state)
{
	(void) state;
	fault_test_run(&grow);
	crash_test_run(&grow, 8);
	fault_test_run(&drop);
	crash_test_run(&drop, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_follows_from_what_is_said),
		cmocka_unit_test(test_a_file_of_a_person_is_read),
		cmocka_unit_test(test_what_does_not_fit_is_an_error),
		cmocka_unit_test(test_what_is_signed_is_read),
		cmocka_unit_test(test_too_many_are_refused),
		cmocka_unit_test(test_who_issued_it),
		cmocka_unit_test(test_the_issuer_is_one_of_those_in_the_file),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, make_all, drop_all);
}
