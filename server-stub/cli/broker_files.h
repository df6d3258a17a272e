/*
 * broker_files - settings and access list of a broker, ours or one that exists already.
 *
 * Nodes come by TLS with a certificate of the fleet's CA whose CN is their id, and may read what is for all and for
 * them, and write what is from them; the controller comes by password and may do everything below the fleet. The
 * same text for the same fleet, so that two can be compared.
 */
#ifndef SELFRIGHT_CLI_BROKER_FILES_H
#define SELFRIGHT_CLI_BROKER_FILES_H

#include "base/attr.h"
#include "base/buf.h"
#include "model/release.h"

#include <stdbool.h>

/* No node can have this name, so no node's certificate can claim it. */
#define BROKER_CONTROLLER "_controller"

struct broker_plan {
	const char *fleet;
	const char *folder; /* where the broker finds its files; absolute */
	const char *listen; /* address for nodes */
	unsigned port;
	const char *controller_listen;
	unsigned controller_port;
	bool controller_tls; /* it comes over a network */
	const char *user; /* mosquitto: whom it becomes when root starts it; NULL: its own default */
	const struct string_list *nodes; /* RabbitMQ has a record for each */
	const struct string_list *removed; /* whose certificates are still out there: denied by name */
};

/* mosquitto.conf: the settings of MQTT.md section 6; beside it acl, passwords, ca.crt, server.crt, server.key, data/. */
NODISCARD int broker_mosquitto_settings(const struct broker_plan *p, struct buf *out);
NODISCARD int broker_mosquitto_access(const struct broker_plan *p, struct buf *out);

/* rabbitmq.conf for the MQTT plugin, and definitions.json beside it: users, permissions, topic permissions. */
NODISCARD int broker_rabbitmq_settings(const struct broker_plan *p, struct buf *out);
NODISCARD int broker_rabbitmq_definitions(const struct broker_plan *p, const char *controller_password,
					  struct buf *out);

#endif
