/*
 * keyring - inside common/tuf: rings made from the keys and roles of trusted metadata.
 */
#ifndef SELFRIGHT_TUF_KEYRING_H
#define SELFRIGHT_TUF_KEYRING_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>

struct json;
struct tuf_keyring;

enum { KEYRING_KEYS_MAX = 1024, KEYRING_SIGNATURES_MAX = 1024 };

/*
 * Every key of an object {id: key} has the form of a key and the id that is its
 * hash. `foreign`: also an id over the members that carry meaning alone (keytype,
 * keyval.public, scheme), as other implementations make it. -ERR_KEYID, _FIELD_*.
 */
NODISCARD int keyring_check_keys(const struct json *keys, bool foreign);

/* The form of {"keyids", "threshold"}: ids unique, threshold at least 1. */
NODISCARD int keyring_check_role(const struct json *role);

/*
 * The ring of a role; both were checked. An id without a key, or whose key is of a
 * scheme we do not take, is no error: nothing will verify with it.
 */
NODISCARD int keyring_of_role(const struct json *keys, const struct json *role, struct tuf_keyring **ret);

/* Signatures over `signed` in its canonical form reach the threshold: 0, -ERR_THRESHOLD, -ERR_SYNTAX. */
NODISCARD int keyring_verify(const struct tuf_keyring *k, const struct json *document);

#endif
