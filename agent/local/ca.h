/*
 * ca - the CAs this node trusts for TLS: ca.crt in the folder of agent.yaml, and how it follows what is signed.
 *
 * The join file brings the first one. From then on top-level targets say (tuf_ca_load) whom else to trust and whom no
 * longer, signed by the same keys as everything a node obeys: the old CA alone can bring nobody in, and an old CA
 * that has expired keeps nobody out who hears of the new one by another road, such as a stick. What an administrator
 * has put into ca.crt beside them stays.
 *
 *   ca_compose   what ca.crt is to hold
 *   ca_grow      more of them: at once, nothing is lost by it
 *   ca_offer -> (the link is started with ca-next.crt, and gets through) -> ca_promote      fewer of them
 *
 * ca.crt is whole after a power cut at any moment, the old or the new one; ca-before.crt is what it held before the
 * last change, for a person. A predecessor of this agent reads ca.crt the same way. Everything is durable on return.
 */
#ifndef SELFRIGHT_LOCAL_CA_H
#define SELFRIGHT_LOCAL_CA_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"
#include "os/os.h"

#include <stdbool.h>

#define CA_FILE "ca.crt"
#define CA_NEXT_FILE "ca-next.crt"
#define CA_BEFORE_FILE "ca-before.crt"

enum { CA_FILE_MAX = 64 * 1024 };

struct tuf_ca;

/* What follows for a ca.crt that holds `present` from what is signed; both appended, equal where nothing goes. */
struct ca_change {
	bool grows; /* some are new */
	bool drops; /* some are to go */
	struct buf grown; /* with the new, and still with those that are to go */
	struct buf final;
};
NODISCARD int ca_compose(const char *present, const struct tuf_ca *said, struct ca_change *ret);
void ca_change_done(struct ca_change *c);

/* The text of ca.crt, appended. */
NODISCARD int ca_read(const struct os *os, int dirfd, struct buf *ret);

/* Which of the CAs in ca.crt issued the certificate in this file; -ERR_SIGNATURE: none of them; -ENOENT: there is no such file. */
NODISCARD int ca_issuer_of(const struct os *os, int dirfd, const char *certificate,
			   char ret_sha256[static SHA256_HEX + 1]);

/* ca.crt is `text` from now on. */
NODISCARD int ca_grow(const struct os *os, int dirfd, const struct buf *text);

/* ca-next.crt is `text`: to be tried. */
NODISCARD int ca_offer(const struct os *os, int dirfd, const struct buf *text);
/* It has proved itself: ca.crt is what ca-next.crt holds. That stays, a link may be reading it, until ca_withdraw(). */
NODISCARD int ca_promote(const struct os *os, int dirfd);
/* Nothing is to be tried (any more). */
NODISCARD int ca_withdraw(const struct os *os, int dirfd);

#endif
