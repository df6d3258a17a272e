/*
 * enrol - this node's certificate: the first one, and those that follow it (agent/README.md).
 *
 * Asked for by HTTPS through the link, signed by the identity key and by the key it is for. The first comes for
 * the secret of the join file. At two thirds of its life, spread by the node's name, the next pair is made
 * and asked for; the link is started again with it, and it takes the old one's place only when the broker has taken
 * it. An expired certificate is renewed in the same way, for HTTPS asks none of us. Where there is no broker, or none that
 * this node reaches though HTTPS gets through, nobody can prove it: it counts when a CA that this node trusts issued it.
 */
#ifndef SELFRIGHT_AGENT_ENROL_H
#define SELFRIGHT_AGENT_ENROL_H

#include "agent/local/pair.h"
#include "base/attr.h"
#include "base/backoff.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct node;

struct enrol {
	struct node *node;
	int dirfd; /* the folder of agent.yaml; -1: closed */
	struct pair_owner owner;
	struct pair_state pair;
	bool asked_next; /* the request under way is for the next pair */
	uint32_t asked_id; /* 0: none is under way */
	uint32_t last_id;
	uint64_t asked_ms, ask_at_ms;
	uint64_t other_issuer_ms; /* then one of the CA that issues by now is asked for; 0: ours is of it */
	struct backoff waits, refusals;
	bool trying; /* the link is to use the next pair */
	bool tried; /* and does: a connection proves it */
	bool refused; /* the broker said no to it */
	bool old_refused; /* and to the one in force: waiting for it to connect would be for ever */
	uint64_t cut_since_ms; /* the broker has not been reached since; 0: it is */
	unsigned trials;
	uint64_t trial_ends_ms, try_at_ms;
	struct backoff trial_backoff;
	int said; /* the last failure that was logged */
};

/* Settle what a power cut interrupted, and look. Before the link is started. */
NODISCARD int enrol_open(struct enrol *e, struct node *n, const struct pair_owner *owner);
void enrol_close(struct enrol *e);

/* When the certificate is renewed: two thirds of its life, a twelfth more at most by the node's name. */
int64_t enrol_due(const char *node, int64_t not_before, int64_t not_after);

/* It has a secret and no certificate: nobody knows yet that this machine is the node. */
bool enrol_waits(const struct enrol *e);

/* Is the link to use the next pair? It is being started with it, or without. */
bool enrol_tries_next(struct enrol *e);

/* The broker refused the certificate that the link came with. */
void enrol_refused(struct enrol *e);

/* A LINK_ENROLLED frame. */
void enrol_take(struct enrol *e, uint32_t id, const uint8_t *data, size_t len);

/* Do what is due; returns when to come again. Never during a phase of an update. */
uint64_t enrol_step(struct enrol *e);

#endif
