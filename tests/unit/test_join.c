/* join.h: everything is checked before the first file is written; an identity is not replaced by accident. */
#include "agent/local/config.h"
#include "agent/local/join.h"
#include "base/err.h"
#include "conf/conf.h"
#include "crypto/digest.h"
#include "json/build.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the four above */
#include <cmocka.h>

static char dir[64], etc[80];
static const char root[] = "{\"signed\":{\"_type\":\"root\"},\"signatures\":[]}";
static const char pem[] = "-----BEGIN SOMETHING-----\nabc\n-----END SOMETHING-----\n";

static const char ca_pem[] = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";

struct change {
	const char *name, *value; /* value NULL: left out */
};

/* A join file, but for one text member. */
static void make(struct buf *out, const struct change *change)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b);
	char hex[SHA256_HEX + 1];
	const struct change members[] = {
		{ "fleet", "demo" }, { "node", "n1" },	      { "root", root },		{ "root_sha256", hex },
		{ "ca", ca_pem },    { "identity_key", pem }, { "transport_key", pem }, { "transport_crt", pem },
	};

	assert_int_equal(sha256_hex(root, strlen(root), hex), 0);
	node_integer(o, "format", change && strcmp(change->name, "format") == 0 ? 3 : 1);
	for (size_t i = 0; i < ARRAY_LEN(members); i++) {
		const struct change *c =
			change && strcmp(change->name, members[i].name) == 0 ? change : &members[i];

		if (c->value)
			node_string(o, c->name, c->value);
	}
	node_string(node_array(o, "urls"), NULL,
		    change && strcmp(change->name, "url") == 0 ? change->value : "https://h:8443/");
	node_string(node_object(o, "broker"), "host", "10.0.0.1");
	node_integer(node_object(o, "broker2"), "ignored", 1);
	node_string(node_object(o, "labels"), "site",
		    change && strcmp(change->name, "site") == 0 ? change->value : "os\"lo");
	node_string(node_object(o, "vars"), "port", "8080");
	assert_int_equal(json_build_text(b, false, out), 0);
}

static int setup(void **state)
{
	(void) state;
	snprintf(dir, sizeof(dir), "/tmp/selfright-join-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(etc, sizeof(etc), "%s/etc", dir);
	return 0;
}

static int teardown(void **state)
{
	(void) state;
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, dir), 0);
	return 0;
}

static int apply(const void *file, size_t len, bool force, struct join_error *e)
{
	struct join_options o = {
		.os = &os_posix, .config_dir = etc, .root = "/srv/r", .run = "/srv/run", .force = force
	};

	return join_apply(&o, file, len, e);
}

static mode_t mode_of(const char *name)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", etc, name);
	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

static void test_makes_a_node(void **state)
{
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(64 * 1024);
	struct join_error e = { "" };
	struct conf_error ce = { "" };
	struct config c = { 0 };

	(void) state;
	/* with the broker's port, which `make` leaves out */
	make(&file, NULL);
	assert_int_equal(apply(file.data, file.len, false, &e), -ERR_FIELD_MISSING);
	assert_non_null(strstr(e.text, "broker"));
	{
		char *at = strstr((char *) file.data, "\"10.0.0.1\"");
		CLEANUP(buf_done)
		struct buf whole = BUF_INIT(64 * 1024);

		assert_non_null(at);
		at += strlen("\"10.0.0.1\"");
		assert_int_equal(buf_add(&whole, file.data, (size_t) (at - (char *) file.data)), 0);
		assert_int_equal(buf_add_str(&whole, ",\"port\":8884"), 0);
		assert_int_equal(buf_add_str(&whole, at), 0);
		if (apply(whole.data, whole.len, false, &e) < 0)
			fail_msg("%s", e.text);
		/* a second time only by force */
		assert_int_equal(apply(whole.data, whole.len, false, &e), -EEXIST);
		assert_non_null(strstr(e.text, "--force"));
		assert_int_equal(apply(whole.data, whole.len, true, &e), 0);
	}
	assert_int_equal(mode_of("identity.key"), 0600);
	assert_int_equal(mode_of("transport.key"), 0600);
	assert_int_equal(mode_of("agent.yaml"), 0644);
	assert_int_equal(mode_of("ca.crt"), 0644);
	if (config_load(etc, &c, &ce) < 0)
		fail_msg("%s", ce.text);
	assert_string_equal(c.node, "n1");
	assert_string_equal(c.root, "/srv/r");
	assert_string_equal(c.run, "/srv/run");
	assert_string_equal(c.urls.items[0], "https://h:8443/");
	assert_int_equal(c.broker.port, 8884);
	assert_string_equal(labels_get(&c.labels, "site"), "os\"lo");
	assert_string_equal(labels_get(&c.vars, "port"), "8080");
	config_done(&c);
}

static void test_refuses(void **state)
{
	static const struct change changes[] = {
		{ "format", "" },
		{ "fleet", NULL },
		{ "fleet", "De mo" },
		{ "node", "../n1" },
		{ "root", "{\"signed\":{}}" }, /* not the one root_sha256 is of */
		{ "root_sha256", "00" },
		{ "ca", NULL },
		{ "ca", "not a pem" },
		{ "ca", "-----BEGIN SOMETHING-----\nYWJj\n-----END SOMETHING-----\n" },
		{ "ca", "-----BEGIN CERTIFICATE-----\nYWJj\n" },
		{ "ca", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n" },
		{ "identity_key", NULL },
		{ "transport_key", "" },
		{ "transport_crt", NULL },
		{ "url", "http://plain/" },
		{ "url", "file:///etc/shadow" },
		{ "site", "a\nroot: /" }, /* a line of its own in agent.yaml */
	};

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		CLEANUP(buf_done)
		struct buf file = BUF_INIT(64 * 1024);
		struct join_error e = { "" };

		make(&file, &changes[i]);
		if (apply(file.data, file.len, false, &e) >= 0)
			fail_msg("taken with another %s", changes[i].name);
		assert_true(e.text[0] != '\0');
		assert_int_equal(access(etc, F_OK), -1); /* nothing was written */
	}
}

static const char secret[] = "0123456789abcdef0123456789abcdef01234567";

/* With a secret: no keys in it. */
static void make_with_secret(struct buf *out, const char *text, const char *url)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *o = json_build_root(b), *urls;
	char hex[SHA256_HEX + 1];

	assert_int_equal(sha256_hex(root, strlen(root), hex), 0);
	node_integer(o, "format", 2);
	node_string(o, "fleet", "demo");
	node_string(o, "node", "n1");
	node_string(o, "root", root);
	node_string(o, "root_sha256", hex);
	node_string(o, "ca", ca_pem);
	urls = node_array(o, "urls");
	if (url)
		node_string(urls, NULL, url);
	if (text)
		node_string(o, "secret", text);
	assert_int_equal(json_build_text(b, false, out), 0);
}

static void test_makes_its_keys_for_a_secret(void **state)
{
	CLEANUP(buf_done)
	struct buf file = BUF_INIT(64 * 1024), first = BUF_INIT(4096), second = BUF_INIT(4096),
		   kept = BUF_INIT(256);
	struct join_error e = { "" };
	int fd;

	(void) state;
	make_with_secret(&file, secret, "https://h:8443/");
	if (apply(file.data, file.len, false, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(mode_of("identity.key"), 0600);
	assert_int_equal(mode_of("transport.key"), 0600);
	assert_int_equal(mode_of("enrolment.secret"), 0600);
	fd = open(etc, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(faccessat(fd, "transport.crt", F_OK, 0), -1);
	assert_int_equal(file_read(&os_posix, fd, "enrolment.secret", 256, &kept), 0);
	assert_memory_equal(kept.data, secret, strlen(secret));
	assert_int_equal(file_read(&os_posix, fd, "identity.key", 4096, &first), 0);
	assert_int_equal(file_read(&os_posix, fd, "transport.key", 4096, &second), 0);
	assert_string_not_equal(buf_str(&first), buf_str(&second));
	/* again only by force, and then with other keys */
	assert_int_equal(apply(file.data, file.len, false, &e), -EEXIST);
	assert_int_equal(apply(file.data, file.len, true, &e), 0);
	buf_clear(&second);
	assert_int_equal(file_read(&os_posix, fd, "identity.key", 4096, &second), 0);
	assert_string_not_equal(buf_str(&first), buf_str(&second));
	close(fd);
}

static void test_refuses_a_secret_that_is_none(void **state)
{
	static const char *const texts[] = { NULL, "", "12", "0123456789ABCDEF0123456789abcdef01234567",
					     "0123456789abcdef0123456789abcdef0123456\n" };
	CLEANUP(buf_done)
	struct buf without_url = BUF_INIT(64 * 1024);
	struct join_error e = { "" };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		CLEANUP(buf_done)
		struct buf file = BUF_INIT(64 * 1024);

		make_with_secret(&file, texts[i], "https://h:8443/");
		assert_true(apply(file.data, file.len, false, &e) < 0);
		assert_non_null(strstr(e.text, "secret"));
	}
	make_with_secret(&without_url, secret, NULL);
	assert_true(apply(without_url.data, without_url.len, false, &e) < 0);
	assert_non_null(strstr(e.text, "address"));
	assert_int_equal(access(etc, F_OK), -1);
}

static void test_refuses_what_is_no_document(void **state)
{
	static const char *const texts[] = {
		"", "{", "[]", "{\"format\":1}", "{\"format\":1,\"format\":1}", "\xff"
	};
	struct join_error e = { "" };

	(void) state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		assert_true(apply(texts[i], strlen(texts[i]), false, &e) < 0);
	assert_int_equal(access(etc, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_makes_a_node, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refuses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_makes_its_keys_for_a_secret, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refuses_a_secret_that_is_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refuses_what_is_no_document, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
