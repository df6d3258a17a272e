/*
 * resolve - names to addresses within a deadline, and the last good ones kept on disk.
 *
 * The C library's resolver cannot be told to stop, so it runs in a thread of its own
 * that is left behind when it takes too long; there is never more than one. Addresses
 * that led to a connection are kept in the file `addresses` of the folder and tried
 * when the resolver is silent or wrong: what answers there must show the right
 * certificate anyway.
 */
#ifndef SELFRIGHT_FETCH_RESOLVE_H
#define SELFRIGHT_FETCH_RESOLVE_H

#include "base/attr.h"
#include "os/os.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RESOLVE_ADDRESSES_MAX = 8, RESOLVE_ADDRESS_TEXT = 46, RESOLVE_HOSTS_MAX = 8, RESOLVE_HOST_MAX = 255 };

struct resolve_list {
	char items[RESOLVE_ADDRESSES_MAX][RESOLVE_ADDRESS_TEXT];
	size_t count;
	bool fresh; /* at least one is what the resolver said now */
	bool late; /* the resolver did not answer in time, and may still: ask again to hear it */
};

struct resolver;

struct resolver_options {
	const struct os *os;
	int dirfd; /* of the file `addresses`; borrowed; -1: nothing is kept */
	/* Fill in what the name stands for, 0 or a negative error; NULL: getaddrinfo. May block for as long as it likes. */
	int (*lookup)(const char *host, struct resolve_list *ret);
};

NODISCARD int resolver_new(const struct resolver_options *o, struct resolver **ret);
void resolver_free(struct resolver *r);
DEFINE_FREEP(struct resolver *, resolver_free)

/*
 * What to try for `host`, the resolver's addresses first, then kept ones. -ERR_DEADLINE: it took longer than
 * `deadline_ms` and none is kept; -ENOENT: the resolver knows no such name and none is kept;
 * -ERR_NETWORK: it failed otherwise. An address stands for itself.
 */
NODISCARD int resolver_find(struct resolver *r, const char *host, uint64_t deadline_ms, struct resolve_list *ret);

/* `address` led to a connection: it is kept first, with what else was in `list`. Written only when that changes something. */
void resolver_keep(struct resolver *r, const char *host, const char *address, const struct resolve_list *list);

/* --- the file, for its tests: one line per host, "host address address...", newest first --- */
struct resolve_kept {
	struct {
		char host[RESOLVE_HOST_MAX + 1];
		struct resolve_list list;
	} hosts[RESOLVE_HOSTS_MAX];
	size_t count;
};
/* Lines that are none are passed over: it is a cache. */
void resolve_kept_parse(const char *text, struct resolve_kept *ret);

#endif
