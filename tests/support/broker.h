/*
 * broker - a real mosquitto on a free loopback port, for one test.
 */
#ifndef SELFRIGHT_TESTS_BROKER_H
#define SELFRIGHT_TESTS_BROKER_H

#include "os/process.h"

struct test_broker {
	unsigned port; /* free_port() by broker_init */
	struct process process;
};

/* A port nobody listens on at this moment. */
unsigned free_port(void);

/*
 * Start it with its configuration in the folder (world-readable: as root it changes
 * its user); `extra` is more configuration. Returns when the port answers.
 */
void test_broker_start(struct test_broker *b, const char *folder, int dirfd, const char *extra);

/* SIGKILL and reap; nothing if it does not run. */
void test_broker_kill(struct test_broker *b);

#endif
