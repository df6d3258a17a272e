/* Who answers on the network, seen through the real helper; and what is kept of it. */
#include "agent/local/config.h"
#include "agent/local/witness.h"
#include "os/os.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int bound(uint16_t *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) &a, &len), 0);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

static unsigned look(const struct config *c)
{
	struct command command = COMMAND_INIT;
	unsigned who;
	int r;

	assert_int_equal(witness_start(c, false, os_posix.clock_boot_ms(&os_posix), &command), 0);
	while ((r = command_step(&command, 0)) == 0)
		(void) usleep(2000);
	assert_int_equal(r, 1);
	who = witness_read(&command);
	command_done(&command);
	return who & ~(unsigned) WITNESS_GATEWAY; /* whether there is one here is not ours to say */
}

static void test_who_answers(void **state)
{
	static char programs[] = BIN_DIR, host[] = "127.0.0.1";
	char url[64], *urls[] = { url };
	struct config c = { .programs = programs, .urls = { urls, 1 } };
	uint16_t origin_port, broker_port;
	int origin = bound(&origin_port), broker = bound(&broker_port);

	(void) state;
	(void) unsetenv("https_proxy");
	(void) unsetenv("HTTPS_PROXY");
	(void) snprintf(url, sizeof(url), "https://127.0.0.1:%u/", origin_port);
	c.broker.host = host;
	c.broker.port = broker_port;
	assert_int_equal(look(&c), WITNESS_RESOLVER); /* a number needs none, and is known all the same */
	assert_int_equal(listen(origin, 1), 0);
	assert_int_equal(look(&c), WITNESS_RESOLVER | WITNESS_ORIGIN);
	assert_int_equal(listen(broker, 1), 0);
	assert_int_equal(look(&c), WITNESS_RESOLVER | WITNESS_ORIGIN | WITNESS_BROKER);
	(void) snprintf(url, sizeof(url), "https://no.such.host.invalid/");
	assert_int_equal(look(&c), WITNESS_BROKER);
	(void) close(origin);
	(void) close(broker);
}

static void test_through_a_proxy_only_the_proxy_is_looked_at(void **state)
{
	static char programs[] = BIN_DIR, host[] = "127.0.0.1";
	char proxy[64], url[] = "https://127.0.0.1:1/", *urls[] = { url };
	struct config c = { .programs = programs, .urls = { urls, 1 }, .proxy = proxy };
	char address[64];
	uint16_t port;
	int fd = bound(&port);

	(void) state;
	c.broker.host = host;
	c.broker.port = 1;
	(void) snprintf(proxy, sizeof(proxy), "http://user:geheim@127.0.0.1:%u", port);
	assert_true(config_proxy_address(&c, address, sizeof(address)));
	assert_null(strstr(address, "geheim"));
	assert_int_equal(look(&c), WITNESS_RESOLVER);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(look(&c), WITNESS_RESOLVER | WITNESS_PROXY);
	(void) close(fd);
	(void) snprintf(proxy, sizeof(proxy), "http://[::1]");
	assert_true(config_proxy_address(&c, address, sizeof(address)));
	assert_string_equal(address, "[::1]:1080");
}

static void test_what_is_kept(void **state)
{
	char code[WITNESS_CODE_MAX], text[WITNESS_TEXT_MAX];

	(void) state;
	for (unsigned who = 0; who < 32; who++) {
		witness_encode(who, code);
		assert_int_equal(witness_decode(code), who);
	}
	assert_int_equal(witness_decode("xgz"), WITNESS_GATEWAY); /* what a successor adds is passed over */
	assert_string_equal(witness_text(0, text), "nobody");
	assert_string_equal(witness_text(WITNESS_BROKER | WITNESS_RESOLVER, text), "resolver, broker");
	assert_string_equal(witness_text(31, text), "resolver, gateway, proxy, broker, origin");
}

static void test_words_that_are_none(void **state)
{
	struct command command = COMMAND_INIT;

	(void) state;
	tail_add(&command.output, "gateway yes\nbroker no\nnot broker yes\norigin yes", 46);
	assert_int_equal(witness_read(&command), WITNESS_GATEWAY); /* a line that was cut is none */
	command_done(&command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_answers),
		cmocka_unit_test(test_through_a_proxy_only_the_proxy_is_looked_at),
		cmocka_unit_test(test_what_is_kept),
		cmocka_unit_test(test_words_that_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
