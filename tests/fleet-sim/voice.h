/*
 * voice - a virtual node that speaks as a real one does: reports of common/model, signed with an
 * identity key of its own.
 */
#ifndef SELFRIGHT_TESTS_FLEET_SIM_VOICE_H
#define SELFRIGHT_TESTS_FLEET_SIM_VOICE_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"
#include "model/report.h"

#include <stdint.h>

struct private_key;

struct voice {
	char node[ID_MAX + 1], boot_id[BOOT_ID_MAX + 1];
	struct private_key *key;
	uint64_t sequence; /* of the last report */
	char site[16];
};

/* What a report says; texts are borrowed and may be NULL. */
struct voice_words {
	const char *version, *previous, *rollout, *stage, *why;
	uint64_t seq;
	const char *update, *to, *state; /* under way */
	int result; /* of the catalogue; 0: none */
	const char *from;
	int64_t at;
};

/* Node number `i` with a new key. */
NODISCARD int voice_make(size_t i, struct voice *ret);
void voice_done(struct voice *v);
NODISCARD int voice_public(const struct voice *v, struct buf *ret_pem);
/* The next report, signed; appended. */
NODISCARD int voice_report(struct voice *v, const char *fleet, const struct voice_words *words, struct buf *ret);

#endif
