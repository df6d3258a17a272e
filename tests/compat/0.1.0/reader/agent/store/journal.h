/*
 * journal - what the node has reached, kept across power loss.
 *
 * A file of records, each: magic "SRJ1", u32 length of the payload, u32
 * CRC-32C of length and payload (both big-endian), payload. The newest whole record wins; a torn
 * tail is dropped on open. Append writes and syncs before it returns; above 256
 * KiB it writes a new file with that one record and renames it over the old.
 * Bytes in the middle that are no record (a bad sector) are skipped as long as a
 * whole record follows them, and the next append writes a new file.
 * Not thread-safe. Functions return 0 or a negative error.
 */
#ifndef SELFRIGHT_STORE_JOURNAL_H
#define SELFRIGHT_STORE_JOURNAL_H

#include "base/attr.h"
#include "base/buf.h"
#include "os/os.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	JOURNAL_RECORD_MAX = 4 * 1024 * 1024,
	JOURNAL_COMPACT_AT = 256 * 1024,
	JOURNAL_FILE_MAX = 16 * 1024 * 1024,
};

struct journal;

/*
 * Open or create `name` in `dirfd`, which must stay open as long as the journal.
 * With `read_only` nothing is created or changed: -ENOENT. -ERR_JOURNAL if it is
 * no file, larger than JOURNAL_FILE_MAX, or not empty and without one whole record.
 */
NODISCARD int journal_open(const struct os *os, int dirfd, const char *name, bool read_only, struct journal **ret);

/*
 * Append `len` bytes (1 to JOURNAL_RECORD_MAX, -ERR_TOO_LARGE) and make them durable before
 * returning. After a failure journal_last is what it was; which of the two a power
 * cut would leave is not known until the next append succeeds. -EROFS.
 */
NODISCARD int journal_append(struct journal *j, const void *data, size_t len);

/* The newest record, NULL if there is none. Borrowed until the next append. */
const void *journal_last(const struct journal *j, size_t *ret_len);

/* Were bytes skipped that a torn append does not explain? */
bool journal_was_damaged(const struct journal *j);

/* Close and free. NULL is fine. */
void journal_close(struct journal *j);
DEFINE_FREEP(struct journal *, journal_close)

/* The newest whole record within bytes that were read, for open and for the fuzzer. */
struct journal_scan {
	const uint8_t *last; /* points into the bytes; NULL: none */
	size_t last_len;
	size_t end; /* behind the last whole record */
	bool damaged; /* a whole record stands behind bytes that are none */
};
void journal_scan(const uint8_t *data, size_t len, struct journal_scan *ret);

/* CRC-32C (Castagnoli) of `data`, continued from `crc` (0 at the start). */
uint32_t journal_crc(uint32_t crc, const void *data, size_t len);

#endif
