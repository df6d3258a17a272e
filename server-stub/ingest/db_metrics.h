/*
 * db_metrics - hourly means that nodes report of what runs there, for the metric gate. Read db.h first.
 */
#ifndef SELFRIGHT_INGEST_DB_METRICS_H
#define SELFRIGHT_INGEST_DB_METRICS_H

#include "base/attr.h"

#include <stddef.h>
#include <stdint.h>

struct db;

enum { DB_METRIC_DAYS = 21, DB_SERIES_MAX = 256 /* of one node */ };
struct db_series {
	const char *node, *component, *name, *version;
};
struct db_hour {
	int64_t hour; /* since 1970 */
	double mean;
	uint64_t samples; /* beyond 65535 that many */
};
/*
 * Rising hours of one series. Of an hour that is known the one with more samples stays. Days that are DB_METRIC_DAYS
 * older than a node's newest go when that begins; series beyond DB_SERIES_MAX are left out. Within a transaction.
 */
NODISCARD int db_metric_store(struct db *db, const struct db_series *s, const struct db_hour *hours, size_t count);
/* From this hour on, of every version, rising but for hours that two versions share. */
NODISCARD int db_metrics(struct db *db, const char *node, const char *component, const char *name, int64_t from,
			 int (*each)(void *user, const char *version, const struct db_hour *row), void *user);

#endif
