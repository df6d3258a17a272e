/*
 * db_budget - how often one name may cause work in a minute. Kept in memory: a start forgets it.
 */
#ifndef SELFRIGHT_INGEST_DB_BUDGET_H
#define SELFRIGHT_INGEST_DB_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct db;

/*
 * What one name may cost in a minute, kept in memory: false when it is used up. Names share
 * places, so one may pay for another's; nothing that counts for a gate depends on it alone.
 */
enum db_budget {
	DB_BUDGET_STRANGERS,
	DB_BUDGET_EVENTS,
	DB_BUDGET_REPORTS,
	DB_BUDGET_AGAIN,
	DB_BUDGET_LEASES,
	DB_BUDGET_FILES,
	DB_BUDGET_ENROLMENTS,
	DB_BUDGET_CERTIFICATES,
	DB_BUDGET_ENROLMENTS_OF_ALL,
	DB_BUDGET_PUTS,
	DB_BUDGET_COUNT
};
bool db_budget(struct db *db, enum db_budget kind, const char *name, int64_t now);

#endif
