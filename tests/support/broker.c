#include "support/broker.h"

#include "os/durable.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

unsigned free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) &a, &len), 0);
	close(fd);
	return ntohs(a.sin_port);
}

static bool port_answers(unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons((uint16_t) port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool answers = connect(fd, (struct sockaddr *) &a, sizeof(a)) == 0;

	close(fd);
	return answers;
}

void test_broker_start(struct test_broker *b, const char *folder, int dirfd, const char *extra)
{
	char config[1024], path[512];
	const char *argv[] = { "/usr/sbin/mosquitto", "-c", path, NULL };
	const struct process_options options = {
		.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .die_with_parent = true
	};

	snprintf(config, sizeof(config), "listener %u 127.0.0.1\nallow_anonymous true\nuser root\n%s", b->port,
		 extra);
	assert_int_equal(durable_write_file(&os_posix, dirfd, "broker.conf", config, strlen(config), 0644), 0);
	snprintf(path, sizeof(path), "%s/broker.conf", folder);
	assert_int_equal(process_start(&options, &b->process), 0);
	for (int i = 0; i < 6000 && !port_answers(b->port); i++)
		usleep(20 * 1000);
	assert_true(port_answers(b->port));
}

void test_broker_kill(struct test_broker *b)
{
	int status;

	if (b->process.pid == 0)
		return;
	process_kill(&b->process, SIGKILL);
	while (process_poll(&b->process, &status) == 0)
		usleep(1000);
	memset(&b->process, 0, sizeof(b->process));
}
