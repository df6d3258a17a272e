/*
 * courier - HTTPS requests beside the poll loop, one at a time, in a thread of its own.
 *
 * libcurl blocks while it resolves, connects and waits; the loop that keeps MQTT
 * alive must not. Jobs go in, results come out in the same order; the descriptor
 * turns readable when there is one. Addresses are tried in the configured order;
 * a cache on the site first, but only for files with their hash in their name: the timestamp,
 * and whether there is a next root, are asked at the origin. One that answers with a Retry-After is passed over
 * for so long, within a bound, by requests of the same lane.
 */
#ifndef SELFRIGHT_AGENT_LINK_COURIER_H
#define SELFRIGHT_AGENT_LINK_COURIER_H

#include "base/attr.h"
#include "base/buf.h"

#include <stddef.h>
#include <stdint.h>

struct courier;
struct tls_clock;

struct courier_options {
	const char *const *urls; /* tried in order */
	size_t url_count;
	const char *const *mirrors; /* tried before them for files named by their hash */
	size_t mirror_count;
	const char *const *folders; /* courier_look(): a folder with the repository's tree, or a tar of one */
	size_t folder_count;
	const char *const *redirect_hosts; /* of http_options; borrowed */
	size_t redirect_host_count;
	const char *ca_pem;
	const struct tls_clock *clock; /* borrowed; NULL: the system's */
	const char *user_agent;
	uint64_t hold_max_ms; /* no address is left alone for longer, whatever it asks */
};

/* What an address may ask to be left alone with; a post of id N belongs to COURIER_POSTS + N modulo 4. */
enum courier_lane { COURIER_FILES, COURIER_ASKS, COURIER_POSTS, COURIER_LANES = COURIER_POSTS + 4 };

enum courier_kind { COURIER_GET, COURIER_POST, COURIER_ASK, COURIER_LOOK };

struct courier_result {
	enum courier_kind kind;
	uint32_t id;
	int error; /* 0, or of err.h */
	long status; /* ASK: what the server answered with; 0: nothing */
	struct buf body; /* GET, LOOK: the file; POST, ASK: the answer; on an error the reason in words */
};

/* Strings are copied. */
NODISCARD int courier_start(const struct courier_options *o, struct courier **ret);
/* Waits for the request under way to end (its timeouts bound that) and frees. */
void courier_stop(struct courier *c);

int courier_fd(const struct courier *c);

/* -ENOBUFS when too many wait. */
NODISCARD int courier_get(struct courier *c, uint32_t id, const char *name, uint64_t max);
/* The same in the folders: a disk may keep its reader waiting as a network does. */
NODISCARD int courier_look(struct courier *c, uint32_t id, const char *name, uint64_t max);
NODISCARD int courier_post(struct courier *c, uint32_t id, const char *path, const void *body, size_t len);
/* The same, and a refusal is an answer as well. */
NODISCARD int courier_ask(struct courier *c, uint32_t id, const char *path, const void *body, size_t len);

/* How long all addresses but the mirrors asked to be left alone with that; 0: one of them may be asked now. */
uint64_t courier_held_ms(struct courier *c, enum courier_lane lane);
/* There is a reason to ask in spite of that, once. */
void courier_ask_again(struct courier *c);

/* 1 and the next result (buf_done its body), 0 if there is none. */
int courier_next(struct courier *c, struct courier_result *ret);

#endif
