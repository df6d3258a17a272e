/* Each sentence of cli/broker_files.h: what is confined, and how, as mosquitto and RabbitMQ read it. */
#include "base/text.h"
#include "json/json.h"
#include "server-stub/cli/broker_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char n1[] = "n1", n2[] = "n2", old_node[] = "old";
static char *names[] = { n1, n2 }, *gone[] = { old_node };
static const struct string_list nodes = { .items = names, .count = 2 }, removed = { .items = gone, .count = 1 },
				none;

static const struct broker_plan plan = {
	.fleet = "demo",
	.folder = "/etc/broker",
	.listen = "0.0.0.0",
	.port = 8883,
	.controller_listen = "127.0.0.1",
	.controller_port = 8884,
	.controller_tls = true,
	.nodes = &nodes,
	.removed = &removed,
};

static bool has(const struct buf *text, const char *what)
{
	return strstr(buf_str(text), what) != NULL;
}

static void test_mosquitto_settings(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024), ours = BUF_INIT(64 * 1024);
	struct broker_plan private = plan;

	(void) state;
	assert_int_equal(broker_mosquitto_settings(&plan, &text), 0);
	assert_true(has(&text, "allow_anonymous false\n"));
	assert_true(has(&text, "acl_file /etc/broker/acl\n"));
	assert_true(has(&text, "listener 8884 127.0.0.1\ncertfile /etc/broker/server.crt\n"));
	assert_true(has(&text, "listener 8883 0.0.0.0\ncafile /etc/broker/ca.crt\n"));
	/* who a node is says its certificate, and nothing else */
	assert_true(
		has(&text,
		    "require_certificate true\nuse_identity_as_username true\nuse_username_as_clientid true\n"));
	assert_false(has(&text, "user "));
	private.controller_tls = false;
	private.user = "mosquitto";
	assert_int_equal(broker_mosquitto_settings(&private, &ours), 0);
	assert_true(has(&ours, "listener 8884 127.0.0.1\n\nlistener"));
	assert_true(has(&ours, "user mosquitto\n"));
}

static void test_mosquitto_access(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024), again = BUF_INIT(64 * 1024);
	const char *deny, *pattern;

	(void) state;
	assert_int_equal(broker_mosquitto_access(&plan, &text), 0);
	assert_int_equal(broker_mosquitto_access(&plan, &again), 0);
	assert_string_equal(buf_str(&text), buf_str(&again));
	assert_true(str_starts(buf_str(&text), "user _controller\ntopic readwrite selfright/v1/demo/#\n"));
	/* no pattern gives a node more than what is for all, for it, or from it */
	for (const char *p = buf_str(&text); (p = strstr(p, "pattern ")); p++) {
		bool write = str_starts(p, "pattern write selfright/v1/demo/node/%u/");
		bool one = str_starts(p, "pattern read selfright/v1/demo/node/%u/");
		bool all = str_starts(p, "pattern read selfright/v1/demo/announce\n") ||
			   str_starts(p, "pattern read selfright/v1/demo/timestamp\n");

		assert_true(write || one || all);
		assert_null(memchr(p, '#', strcspn(p, "\n")));
		assert_null(memchr(p, '+', strcspn(p, "\n")));
	}
	/* mosquitto looks at users before patterns */
	deny = strstr(buf_str(&text), "user old\ntopic deny #\n");
	pattern = strstr(buf_str(&text), "pattern ");
	assert_true(deny && pattern && deny < pattern);
	assert_false(has(&text, "user n1"));
}

static const struct json *of_user(const struct json *list, const char *member, const char *name)
{
	for (size_t i = 0; i < json_count(list); i++)
		if (str_eq(json_string(json_get(json_at(list, i), member)), name))
			return json_at(list, i);
	return NULL;
}

static void test_rabbitmq(void **state)
{
	CLEANUP(buf_done)
	struct buf settings = BUF_INIT(64 * 1024), text = BUF_INIT(64 * 1024), again = BUF_INIT(64 * 1024);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct json *user, *topics, *old;

	(void) state;
	assert_int_equal(broker_rabbitmq_settings(&plan, &settings), 0);
	assert_true(has(&settings, "mqtt.allow_anonymous = false\n"));
	assert_true(has(&settings, "mqtt.ssl_cert_login = true\nssl_cert_login_from = common_name\n"));
	assert_true(has(&settings, "mqtt.listeners.ssl.1 = 0.0.0.0:8883\n"));
	assert_true(has(&settings, "listeners.tcp = none\nmqtt.listeners.tcp = none\n")); /* nothing without TLS */
	assert_int_equal(broker_rabbitmq_definitions(&plan, "secret", &text), 0);
	assert_int_equal(broker_rabbitmq_definitions(&plan, "secret", &again), 0);
	assert_string_equal(buf_str(&text), buf_str(&again));
	assert_false(has(&text, "\"secret\""));
	assert_int_equal(json_parse(text.data, text.len, &json_limits_default, &doc), 0);
	assert_int_equal(json_count(json_get(doc, "users")), 4);
	/* no password opens a node's record */
	user = of_user(json_get(doc, "users"), "name", "n1");
	assert_string_equal(json_string(json_get(user, "password_hash")), "");
	user = of_user(json_get(doc, "permissions"), "user", "n1");
	assert_string_equal(json_string(json_get(user, "configure")), "^mqtt-subscription-n1qos[01]$");
	topics = of_user(json_get(doc, "topic_permissions"), "user", "n1");
	assert_string_equal(
		json_string(json_get(topics, "write")),
		"^selfright\\.v1\\.demo\\.node\\.{username}\\.(report|event|presence|get|put|lease|enrol)$");
	assert_string_equal(json_string(json_get(topics, "read")),
			    "^selfright\\.v1\\.demo\\.((announce|timestamp)|node\\.{username}\\.(announce|ack|"
			    "grant|blob|certificate))$");
	old = of_user(json_get(doc, "permissions"), "user", "old");
	assert_string_equal(json_string(json_get(old, "read")), "^$");
	assert_string_equal(json_string(json_get(old, "write")), "^$");
	old = of_user(json_get(doc, "topic_permissions"), "user", "old");
	assert_string_equal(json_string(json_get(old, "write")), "^$");
}

static void test_an_empty_fleet(void **state)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(64 * 1024), access = BUF_INIT(64 * 1024);
	struct broker_plan empty = plan;

	(void) state;
	empty.nodes = empty.removed = &none;
	assert_int_equal(broker_rabbitmq_definitions(&empty, "secret", &text), 0);
	assert_true(has(&text, "_controller"));
	assert_int_equal(broker_mosquitto_access(&empty, &access), 0);
	assert_false(has(&access, "deny"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mosquitto_settings),
		cmocka_unit_test(test_mosquitto_access),
		cmocka_unit_test(test_rabbitmq),
		cmocka_unit_test(test_an_empty_fleet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
