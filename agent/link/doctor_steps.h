/*
 * doctor_steps - what the doctor's parts share: the steps it says, and the connection it made itself.
 */
#ifndef SELFRIGHT_AGENT_LINK_DOCTOR_STEPS_H
#define SELFRIGHT_AGENT_LINK_DOCTOR_STEPS_H

#include "agent/link/doctor.h"
#include "agent/link/sample.h"
#include "fetch/tls.h"

struct blobs;
struct mqtt;
struct relay;
struct relay_state;

enum {
	DOCTOR_DETAIL_MAX = 400,
	DOCTOR_LIST_MAX = 8, /* of urls, mirrors, folders that are looked at */
	DOCTOR_STEPS_MAX = 12 + (3 + DOCTOR_LIST_MAX) * DOCTOR_LIST_MAX,
	DOCTOR_TOPIC_MAX = 256,
};

enum verdict { NOT_REACHED, FINE, NOTE, FAILED };

struct step {
	const char *name;
	enum verdict verdict;
	char detail[DOCTOR_DETAIL_MAX];
	const char *advice; /* NULL: none needed */
};

struct doctor {
	const struct doctor_options *o;
	const struct os *os;
	struct step steps[DOCTOR_STEPS_MAX];
	size_t count;
	struct tls_clock clock;

	/* the broker: our own connection, while `up` */
	struct tls *tls;
	struct relay *relay;
	struct mqtt *mqtt;
	struct blobs *blobs; /* files over it; NULL: not yet */
	char folder[64]; /* of our own; "": none */
	int dirfd;
	char blob_topic[DOCTOR_TOPIC_MAX];
	bool up, over, metadata;
	char reason[256];

	/* an artifact to try other places with, once one of them told of it */
	struct sample sample;
	bool has_sample;
};

void doctor_say(struct doctor *d, const char *name, enum verdict verdict, const char *advice, const char *fmt, ...)
	PRINTF_LIKE(5, 6);

/* Serve our own connection until `until`, its end, or so long. */
void doctor_drive(struct doctor *d, uint64_t for_ms, const bool *until);

/* What to do where a proxy refused, or nobody answered. */
const char *doctor_advise_dial(const struct relay_state *road);

/* doctor_roads.c: every configured road to files, in order. */
void doctor_roads(struct doctor *d);

#endif
