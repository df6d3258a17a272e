/*
 * doctor - walk the roads of this node step by step and name the first that fails, with what to do.
 *
 * The same relay, TLS and MQTT as the link uses, under the same user: what the doctor sees
 * is what the link sees. Nothing is changed, and nothing it gets is believed.
 */
#ifndef SELFRIGHT_AGENT_LINK_DOCTOR_H
#define SELFRIGHT_AGENT_LINK_DOCTOR_H

#include "agent/link/link.h"
#include "base/attr.h"

#include <stdbool.h>
#include <stdio.h>

struct json;

struct doctor_options {
	const struct link_options *link; /* without the descriptors */
	const char *url_proxy; /* in force for the urls, for people; NULL: none */
	bool connected; /* the agent's own link holds a connection: a second one would take its session over */
	const struct json *tried; /* what that link found when it tried it (trial.h); NULL: it was not asked */
	bool json;
	FILE *out;
};

/* 0: every step is fine; 1: at least one failed, which was said. */
NODISCARD int doctor_run(const struct doctor_options *o);

#endif
