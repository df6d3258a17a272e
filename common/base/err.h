/*
 * err - one number line for everything that can go wrong.
 *
 * Functions return 0 or a negative error. Up to 1023 it is errno, from 1024 up
 * one of ours. Each of ours is listed once, in ERR_TABLE, with the class that
 * tells a caller what may help and the sentence a person reads.
 */
#ifndef SELFRIGHT_BASE_ERR_H
#define SELFRIGHT_BASE_ERR_H

#include <stdbool.h>

/* What may help against an error. */
enum err_class {
	ERR_CLASS_RETRY, /* the same again later may work: network, space, a busy resource */
	ERR_CLASS_PERMANENT, /* the same again fails again: a wrong signature, a malformed file */
	ERR_CLASS_OPERATOR, /* somebody must change something here: configuration, permissions */
};

/* X(name, class, sentence) */
#define ERR_TABLE(X)                                                                                              \
	X(SYNTAX, PERMANENT, "malformed input")                                                                   \
	X(DUPLICATE_NAME, PERMANENT, "a name stands twice in one object")                                         \
	X(NUMBER, PERMANENT, "a number that is no integer within 2^53")                                           \
	X(ENCODING, PERMANENT, "text that is not clean UTF-8")                                                    \
	X(TOO_LARGE, PERMANENT, "larger than the limit")                                                          \
	X(TOO_DEEP, PERMANENT, "nested deeper than the limit")                                                    \
	X(TRAILING, PERMANENT, "bytes after the end of the document")                                             \
	X(FIELD_MISSING, PERMANENT, "a required field is missing")                                                \
	X(FIELD_TYPE, PERMANENT, "a field has the wrong type")                                                    \
	X(FIELD_VALUE, PERMANENT, "a field has a value out of range")                                             \
	X(NAME, PERMANENT, "a name that is not allowed here")                                                     \
	X(KEY, PERMANENT, "a key that cannot be used")                                                            \
	X(KEYID, PERMANENT, "a key id that is not the hash of its key")                                           \
	X(PASSPHRASE, OPERATOR, "the passphrase does not open this key")                                          \
	X(SIGNATURE, PERMANENT, "the signature does not verify")                                                  \
	X(THRESHOLD, PERMANENT, "fewer valid signatures than the threshold")                                      \
	X(VERSION, PERMANENT, "not the version that was announced")                                               \
	X(ROLLBACK, PERMANENT, "older than what was already trusted")                                             \
	X(EXPIRED, RETRY, "expired")                                                                              \
	X(CLOCK_AHEAD, OPERATOR, "the clock here runs ahead of the signed time")                                  \
	X(SPEC_VERSION, PERMANENT, "a specification version this program does not speak")                         \
	X(LENGTH, PERMANENT, "not the length that was signed")                                                    \
	X(DIGEST, PERMANENT, "not the digest that was signed")                                                    \
	X(NOT_LISTED, PERMANENT, "no trusted role lists this file")                                               \
	X(UNTRUSTED, OPERATOR, "no trusted root here")                                                            \
	X(DISAGREE, PERMANENT, "path, component or version disagree")                                             \
	X(AGENT_TOO_OLD, OPERATOR, "needs a newer agent")                                                         \
	X(NETWORK, RETRY, "the network did not bring it")                                                         \
	X(HTTP_STATUS, RETRY, "the server answered with an error")                                                \
	X(TLS, OPERATOR, "the TLS connection could not be verified")                                              \
	X(DEADLINE, RETRY, "took longer than allowed")                                                            \
	X(PEER_GONE, RETRY, "the other process is gone")                                                          \
	X(PROTOCOL, PERMANENT, "the other process broke the protocol")                                            \
	X(REFUSED, PERMANENT, "refused")                                                                          \
	X(ARCHIVE, PERMANENT, "the archive is damaged")                                                           \
	X(ARCHIVE_ENTRY, PERMANENT, "the archive holds an entry that is not allowed")                             \
	X(TREE, PERMANENT, "the tree is not the one that was signed")                                             \
	X(JOURNAL, OPERATOR, "the journal is damaged")                                                            \
	X(CONFIG, OPERATOR, "the configuration is wrong")                                                         \
	X(CHILD, RETRY, "a helper program failed")                                                                \
	X(UNIT, OPERATOR, "the service manager refused")                                                          \
	X(DATABASE, RETRY, "the database refused")                                                                \
	X(STALE_STATE, OPERATOR, "the state here is older than what was published")                               \
	X(RATE, RETRY, "more often than allowed")

enum err {
	ERR_BASE_ = 1023,
#define ERR_ENUM_(name, class, sentence) ERR_##name,
	ERR_TABLE(ERR_ENUM_)
#undef ERR_ENUM_
		ERR_END_,
};

/* The sentence for a negative (or positive) error; never NULL. Thread-safe, static storage. */
const char *err_text(int r);

/* A stable word for scripts and reports, e.g. "digest"; errno gives "ENOSPC" and the like. */
const char *err_name(int r);

enum err_class err_class(int r);

#endif
