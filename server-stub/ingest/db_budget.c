#include "server-stub/ingest/db_budget.h"

#include "server-stub/ingest/sql.h"

#include <string.h>

bool db_budget(struct db *db, enum db_budget kind, const char *name, int64_t now)
{
	static const uint16_t per_minute[DB_BUDGET_COUNT] = {
		[DB_BUDGET_STRANGERS] = 300, /* each is a write to the disk that anybody can cause */
		[DB_BUDGET_EVENTS] = 240, /* an update has about ten */
		[DB_BUDGET_REPORTS] = 600, /* agents leave 100 ms between two */
		[DB_BUDGET_AGAIN] = 60, /* the same report: its acknowledgement was lost */
		[DB_BUDGET_LEASES] = 60, /* agents wait for seconds between two */
		[DB_BUDGET_FILES] = 6000, /* windows of a megabyte at most */
		[DB_BUDGET_ENROLMENTS] = 60, /* a node that waits asks every few seconds at most */
		[DB_BUDGET_CERTIFICATES] =
			6, /* for other keys of one node, which renews in weeks, at worst each hour */
		[DB_BUDGET_ENROLMENTS_OF_ALL] = 3000, /* those without a claim; the others count by name */
		[DB_BUDGET_PUTS] = 6000, /* blocks of a collection, 64 KiB each */
	};
	uint32_t hash = 2166136261u; /* FNV-1a */
	uint16_t *spent;

	if (now / 60 != db->budget_minute) {
		db->budget_minute = now / 60;
		memset(db->spent, 0, sizeof(db->spent));
	}
	for (const char *p = name; *p; p++)
		hash = (hash ^ (uint8_t) *p) * 16777619u;
	spent = &db->spent[kind][hash % DB_BUDGET_PLACES];
	if (*spent >= per_minute[kind])
		return false;
	(*spent)++;
	return true;
}
