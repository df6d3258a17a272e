/* agent/local/pair.h: whatever fails, and wherever the power goes, a pair that belongs together is in force. */
#include "agent/enrol.h"
#include "agent/local/pair.h"
#include "base/err.h"
#include "crypto/certificate.h"
#include "crypto/key.h"
#include "os/durable.h"
#include "support/fault_loop.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { PEM_BYTES = 8192, LIFE = 1000 };

/* Made once: what is tested is files, not keys. */
static struct private_key *ca, *key, *next_key;
static struct buf ca_pem, certificate, next_certificate;
static const struct pair_owner nobody;

static void certify(const struct private_key *holder, const char *node, struct buf *out)
{
	CLEANUP(buf_done)
	struct buf public = BUF_INIT(PEM_BYTES);
	struct certificate_request r = {
		.common_name = node, .client = true, .not_before = time(NULL), .not_after = time(NULL) + LIFE
	};

	assert_int_equal(private_key_public_pem(holder, &public), 0);
	r.public_pem = buf_str(&public);
	r.is_ca = holder == ca;
	assert_int_equal(certificate_issue(&r, ca, holder == ca ? NULL : buf_str(&ca_pem), out), 0);
}

static int make_all(void **state)
{
	(void) state;
	buf_init(&ca_pem, PEM_BYTES);
	buf_init(&certificate, PEM_BYTES);
	buf_init(&next_certificate, PEM_BYTES);
	assert_int_equal(private_key_generate(&ca), 0);
	assert_int_equal(private_key_generate(&key), 0);
	assert_int_equal(private_key_generate(&next_key), 0);
	certify(ca, "ca", &ca_pem);
	certify(key, "n1", &certificate);
	certify(next_key, "n1", &next_certificate);
	return 0;
}

static int drop_all(void **state)
{
	(void) state;
	private_key_free(ca);
	private_key_free(key);
	private_key_free(next_key);
	buf_done(&ca_pem);
	buf_done(&certificate);
	buf_done(&next_certificate);
	return 0;
}

static int put_key(const struct os *os, int dirfd, const char *name, const struct private_key *k)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PEM_BYTES);
	int r = private_key_save(k, NULL, &pem);

	return r < 0 ? r : durable_write_file(os, dirfd, name, pem.data, pem.len, 0600);
}

static int put(const struct os *os, int dirfd, const char *name, const char *text)
{
	return durable_write_file(os, dirfd, name, text, strlen(text), 0644);
}

static int prep_secret(struct fault_case *c)
{
	int r = put_key(c->os, c->dirfd, PAIR_KEY, key);

	return r < 0 ? r : put(c->os, c->dirfd, PAIR_SECRET, "0123\n");
}

static int prep_old(struct fault_case *c)
{
	int r = put_key(c->os, c->dirfd, PAIR_KEY, key);

	return r < 0 ? r : put(c->os, c->dirfd, PAIR_CERTIFICATE, buf_str(&certificate));
}

static int prep_both(struct fault_case *c)
{
	int r = prep_old(c);

	if (r == 0)
		r = put_key(c->os, c->dirfd, PAIR_NEXT_KEY, next_key);
	return r < 0 ? r : put(c->os, c->dirfd, PAIR_NEXT_CERTIFICATE, buf_str(&next_certificate));
}

/* The agent starts again. */
static struct pair_state start(const struct os *os, int dirfd)
{
	struct pair_state s;

	assert_int_equal(pair_settle(os, dirfd, &nobody), 0);
	assert_int_equal(pair_look(os, dirfd, &s), 0);
	return s;
}

static bool in_force(const struct os *os, int dirfd, const struct buf *wanted)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PEM_BYTES);

	assert_int_equal(file_read(os, dirfd, PAIR_CERTIFICATE, PEM_BYTES, &pem), 0);
	return strcmp(buf_str(&pem), buf_str(wanted)) == 0;
}

/* --- promotion --- */

static int body_promote(struct fault_case *c)
{
	return pair_promote(c->os, c->dirfd);
}

static void check_promote(struct fault_case *c, int r)
{
	struct pair_state s = start(os_quick(), c->dirfd);
	bool new = in_force(os_quick(), c->dirfd, &next_certificate);

	assert_true(s.enrolled); /* certificate and key belong together, whichever they are */
	if (r == 0)
		assert_true(new);
	if (!new) { /* then the next pair still waits, whole */
		assert_true(in_force(os_quick(), c->dirfd, &certificate));
		assert_true(s.next);
		assert_int_equal(pair_promote(os_quick(), c->dirfd), 0);
		assert_true(in_force(os_quick(), c->dirfd, &next_certificate));
	}
	assert_true(start(os_quick(), c->dirfd).enrolled);
	assert_int_equal(faccessat(c->dirfd, PAIR_NEXT_KEY, F_OK, 0), -1);
}

FAULT_TEST(promotion){ .name = "promotion", .prep = prep_both, .body = body_promote, .check = check_promote };

static void test_promotion(void **state)
{
	(void) state;
	fault_test_run(&promotion);
	crash_test_run(&promotion, 8);
}

/* The settling itself is interrupted as well. */
static int prep_between(struct fault_case *c)
{
	int r = prep_both(c);

	return r < 0 ? r : c->os->renameat(c->os, c->dirfd, PAIR_NEXT_CERTIFICATE, c->dirfd, PAIR_CERTIFICATE);
}

static int body_settle(struct fault_case *c)
{
	return pair_settle(c->os, c->dirfd, &nobody);
}

static void check_settled(struct fault_case *c, int r)
{
	(void) r;
	assert_true(start(os_quick(), c->dirfd).enrolled);
	assert_true(in_force(os_quick(), c->dirfd, &next_certificate));
}

FAULT_TEST(settling){ .name = "settling", .prep = prep_between, .body = body_settle, .check = check_settled };

static void test_settling(void **state)
{
	(void) state;
	fault_test_run(&settling);
	crash_test_run(&settling, 8);
}

/* --- the first certificate --- */

static int body_first(struct fault_case *c)
{
	return pair_put_first(c->os, c->dirfd, "n1", buf_str(&certificate));
}

/* Without the certificate the secret is still there to ask with. */
static void check_first(struct fault_case *c, int r)
{
	struct pair_state s = start(os_quick(), c->dirfd);

	assert_true(s.enrolled || s.secret);
	if (r == 0)
		assert_true(s.enrolled && !s.secret);
}

FAULT_TEST(first){ .name = "first certificate", .prep = prep_secret, .body = body_first, .check = check_first };

static void test_first(void **state)
{
	(void) state;
	fault_test_run(&first);
	crash_test_run(&first, 8);
}

/* --- the next pair --- */

static int body_next(struct fault_case *c)
{
	CLEANUP(private_key_freep)
	struct private_key *made = NULL;
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PEM_BYTES);
	int r = pair_next_key(c->os, c->dirfd, &nobody, &made);

	if (r < 0)
		return r;
	certify(made, "n1", &pem);
	return pair_put_next(c->os, c->dirfd, "n1", buf_str(&pem));
}

static void check_next(struct fault_case *c, int r)
{
	struct pair_state s = start(os_quick(), c->dirfd);

	assert_true(s.enrolled);
	assert_true(in_force(os_quick(), c->dirfd, &certificate)); /* untouched */
	if (r == 0)
		assert_true(s.next);
}

FAULT_TEST(next){ .name = "next pair", .prep = prep_old, .body = body_next, .check = check_next };

static void test_next(void **state)
{
	(void) state;
	fault_test_run(&next);
	crash_test_run(&next, 8);
}

/* --- what does not belong --- */

struct folder {
	char path[128];
	struct fault_case c;
};

static int open_folder(void **state)
{
	struct folder *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	temp_folder(f->path, sizeof(f->path));
	f->c.os = os_quick();
	f->c.dirfd = os_quick()->openat(os_quick(), AT_FDCWD, f->path, O_RDONLY | O_DIRECTORY, 0);
	assert_true(f->c.dirfd >= 0);
	*state = f;
	return 0;
}

static int close_folder(void **state)
{
	struct folder *f = *state;

	close(f->c.dirfd);
	temp_folder_remove(f->path);
	free(f);
	return 0;
}

static void test_refuses_what_does_not_fit(void **state)
{
	struct folder *f = *state;
	CLEANUP(buf_done)
	struct buf other_name = BUF_INIT(PEM_BYTES);

	certify(key, "n2", &other_name);
	assert_int_equal(prep_secret(&f->c), 0);
	assert_int_equal(pair_put_first(f->c.os, f->c.dirfd, "n1", buf_str(&next_certificate)), -ERR_KEY);
	assert_int_equal(pair_put_first(f->c.os, f->c.dirfd, "n1", buf_str(&other_name)), -ERR_KEY);
	assert_int_equal(pair_put_first(f->c.os, f->c.dirfd, "n1", "no certificate"), -ERR_SYNTAX);
	assert_false(start(f->c.os, f->c.dirfd).enrolled);
	assert_true(start(f->c.os, f->c.dirfd).secret);
	assert_int_equal(pair_promote(f->c.os, f->c.dirfd), -ENOENT); /* nothing is next */
}

static void test_rubbish_is_no_pair(void **state)
{
	struct folder *f = *state;
	CLEANUP(private_key_freep)
	struct private_key *made = NULL, *again = NULL;
	CLEANUP(buf_done)
	struct buf a = BUF_INIT(PEM_BYTES), b = BUF_INIT(PEM_BYTES);

	assert_int_equal(prep_both(&f->c), 0);
	assert_int_equal(put(f->c.os, f->c.dirfd, PAIR_NEXT_CERTIFICATE, "torn"), 0);
	assert_false(start(f->c.os, f->c.dirfd).next);
	assert_int_equal(put(f->c.os, f->c.dirfd, PAIR_NEXT_KEY, "torn"), 0);
	assert_int_equal(pair_next_key(f->c.os, f->c.dirfd, &nobody, &made), 0); /* another */
	assert_int_equal(pair_next_key(f->c.os, f->c.dirfd, &nobody, &again), 0); /* the same again */
	assert_int_equal(private_key_public_pem(made, &a), 0);
	assert_int_equal(private_key_public_pem(again, &b), 0);
	assert_string_equal(buf_str(&a), buf_str(&b));
	assert_int_equal(pair_drop_next(f->c.os, f->c.dirfd), 0);
	assert_int_equal(pair_drop_next(f->c.os, f->c.dirfd), 0);
	assert_true(start(f->c.os, f->c.dirfd).enrolled);
	assert_int_equal(put(f->c.os, f->c.dirfd, PAIR_CERTIFICATE, "torn"), 0);
	assert_false(start(f->c.os, f->c.dirfd).enrolled);
}

/* --- when --- */

static void test_when_it_is_due(void **state)
{
	int64_t earliest = INT64_MAX, latest = 0;

	(void) state;
	for (int i = 0; i < 1000; i++) {
		char node[16];
		int64_t at;

		snprintf(node, sizeof(node), "n%d", i);
		at = enrol_due(node, 9000000, 18000000);
		assert_int_equal(at, enrol_due(node, 9000000, 18000000));
		assert_true(at >= 15000000 && at < 15750000);
		earliest = at < earliest ? at : earliest;
		latest = at > latest ? at : latest;
	}
	assert_true(latest - earliest > 700000); /* a fleet that enrolled in one hour does not renew in one */
	assert_int_equal(enrol_due("n1", 5, 5), 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_promotion),
		cmocka_unit_test(test_settling),
		cmocka_unit_test(test_first),
		cmocka_unit_test(test_next),
		cmocka_unit_test_setup_teardown(test_refuses_what_does_not_fit, open_folder, close_folder),
		cmocka_unit_test_setup_teardown(test_rubbish_is_no_pair, open_folder, close_folder),
		cmocka_unit_test(test_when_it_is_due),
	};

	return cmocka_run_group_tests(tests, make_all, drop_all);
}
