/*
 * link - the process that talks to the outside for the engine: MQTT in its own
 * poll loop, HTTPS by a courier, the outbox.
 *
 * It is trusted with nothing: every byte it brings is verified by the engine, and
 * it may die at any moment; the engine starts it again and it goes on from the outbox.
 */
#ifndef SELFRIGHT_AGENT_LINK_LINK_H
#define SELFRIGHT_AGENT_LINK_LINK_H

#include "base/attr.h"
#include "os/os.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum link_road { LINK_ROAD_HTTPS, LINK_ROAD_MQTT, LINK_ROAD_FILE, LINK_ROAD_COUNT };

struct link_options {
	const struct os *os;
	int engine_fd; /* taken: frames of agent/link/protocol.h */
	int outbox_dirfd; /* borrowed */
	const char *fleet, *node, *boot_id;
	const char *const *urls;
	size_t url_count;
	const char *const *mirrors; /* asked first for what is named by version or hash */
	size_t mirror_count;
	const char *ca_pem; /* of all of them */
	const char *const *folders; /* with the repository's tree, or a tar of one: the road "file" */
	size_t folder_count;
	const char *const *redirect_hosts; /* where a server may send on to besides itself */
	size_t redirect_host_count;
	const enum link_road *roads; /* to files, in order */
	size_t road_count;
	const char *broker_host; /* NULL: no broker, HTTPS does everything but push */
	unsigned broker_port;
	const char *const *broker_addresses; /* instead of a resolver's */
	size_t broker_address_count;
	const char *broker_proxy; /* NULL: straight */
	const char *alpn; /* NULL: none */
	const char *ca_file, *cert_file, *key_file; /* NULL ca_file: no TLS, for tests on loopback */
	const char *next_cert_file, *next_key_file; /* used instead for as long as they are there; NULL: none */
	bool waits; /* for its first certificate: no broker is called, reports are kept */
	int64_t time_floor; /* seconds since 1970 */
	uint64_t hold_max_ms; /* no server is left alone for longer, whatever its Retry-After says */
	unsigned keepalive_s; /* 0: adaptive */
	uint64_t retry_base_ms, retry_cap_ms, refused_cap_ms, after_stable_ms; /* 0: those of mqtt.h */
	const volatile sig_atomic_t *stop; /* becomes non-zero: leave in good order */
};

/* Run until the engine is gone (0), `stop` (0) or a failure nobody can work around. */
NODISCARD int link_run(const struct link_options *o);

#endif
