/* Bytes from nodes: as they are, and (first byte odd) as a document signed by the node itself. */
#include "base/err.h"
#include "crypto/key.h"
#include "json/json.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_nodes.h"
#include "server-stub/ingest/ingest.h"
#include "tuf/tuf.h"

#include <stdlib.h>

enum { NOW = 1800000000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct db *db;
static struct private_key *key;

static void begin(void)
{
	struct buf pem = BUF_INIT(10000);

	if (private_key_generate(&key) < 0 || private_key_public_pem(key, &pem) < 0 ||
	    db_open(":memory:", &db) < 0 || db_node_add(db, "n1", buf_str(&pem), "T", "{}", NOW) < 0)
		abort();
	buf_done(&pem);
}

static void take(const void *bytes, size_t len)
{
	struct ingest_outcome o;
	const char *refusal = NULL;
	struct lease lease;
	int r = ingest_report(db, "demo", "n1", bytes, len, NOW, &o);

	if (ingest_lease(db, "demo", "n1", bytes, len, NOW, &lease, &refusal) < 0)
		abort();
	/* Hostile bytes are a verdict, never an error. */
	if (r < 0 || (o.acknowledge && o.verdict != INGEST_STORED && o.verdict != INGEST_DUPLICATE))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf envelope = BUF_INIT(64 * 1024 * 1024);
	const struct private_key *keys[1];
	struct json *j = NULL;

	if (!db)
		begin();
	if (size == 0)
		return 0;
	if (data[0] % 2 == 0) {
		take(data + 1, size - 1);
		if (ingest_event(db, "n1", data + 1, size - 1, NOW, NULL) < 0 ||
		    ingest_presence(db, "n1", data + 1, size - 1, NOW) < 0)
			abort();
		return 0;
	}
	if (json_parse(data + 1, size - 1, &json_limits_default, &j) == 0) {
		keys[0] = key;
		if (tuf_envelope_sign(j, keys, 1, &envelope) == 0)
			take(envelope.data, envelope.len);
	}
	json_free(j);
	buf_done(&envelope);
	return 0;
}
