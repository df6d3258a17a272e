/*
 * publisher - how a command reaches the repository: through the server where one
 * runs, else by the folder itself with a signer started for the while.
 *
 * All functions that answer an exit code (CLI_OK or another) have said what went wrong.
 */
#ifndef SELFRIGHT_CLI_PUBLISHER_H
#define SELFRIGHT_CLI_PUBLISHER_H

#include "base/attr.h"
#include "base/buf.h"
#include "os/process.h"
#include "server-stub/cli/cli.h"
#include "server-stub/repo/offline.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json;
struct repo;
struct signer_client;

struct publisher {
	const struct cli *cli;
	struct repo *repo; /* to read what is published */
	struct signer_client *signer; /* NULL until publisher_own */
	struct process process; /* our own signer, if none ran */
	bool server; /* one runs: publications go through it */
	struct buf passphrase; /* "" : none */
	char fleet[ID_MAX + 1];
	char keys[4096]; /* DIR/keys */
};

/*
 * Read the repository; `passphrase_file` NULL: $SELFRIGHT_PASSPHRASE_FILE, or none.
 * The publisher is closed by the caller whatever this returns.
 */
NODISCARD int publisher_open(const struct cli *c, const char *passphrase_file, struct publisher *ret);
void publisher_close(struct publisher *p);

/* A connection to the signer (started if none runs) and the folder opened for writing. */
NODISCARD int publisher_own(struct publisher *p);

/* The passphrase in a file, without its line end; NULL if it is empty. Borrowed. */
const char *publisher_passphrase(const struct publisher *p);

/* The published body (`signed`) of a role; the caller's. */
NODISCARD int publisher_body(struct publisher *p, const char *role, struct json **ret_metadata);

/* Keys of a role in DIR/keys, added. */
NODISCARD int publisher_keys(struct publisher *p, const char *role, struct key_files *ret);

/* Put bytes, or an open file, where a publication finds them. */
NODISCARD int publisher_upload(struct publisher *p, const void *data, size_t len,
			       char ret_sha256[static SHA256_HEX + 1]);
NODISCARD int publisher_upload_fd(struct publisher *p, int fd, uint64_t length, const char *sha256);

NODISCARD int publisher_publish(struct publisher *p, const char *role, const void *metadata, size_t len);

/*
 * Sign `body` for `role` with the keys at hand (and `more`, may be NULL) and publish it. If they are fewer than its delegator asks
 * for, a signing request is written to `request_path` (NULL: "<role>.request.json") and CLI_REFUSED ("not yet") returned.
 */
NODISCARD int publisher_sign_and_publish(struct publisher *p, const char *role, const struct json *body,
					 const struct key_files *more, const char *request_path);

/* The metadata text has enough signatures of what the published delegators, and for root itself, name? Says who is missing. */
NODISCARD int publisher_is_complete(struct publisher *p, const char *role, const struct json *metadata, bool *ret,
				    struct buf *ret_missing);

#endif
