#include "server-stub/ingest/db.h"

#include "server-stub/ingest/sql.h"

#include <string.h>

uint64_t db_generation(const struct db *db)
{
	return db->generation;
}

/* `component` NULL: any of them. */
void db_touch(struct db *db, const char *component)
{
	db->generation++;
	if (!component || db->touched_count == DB_TOUCHED_MAX) {
		db->touched_all = true;
		return;
	}
	for (size_t i = 0; i < db->touched_count; i++)
		if (strcmp(db->touched[i], component) == 0)
			return;
	if (strlen(component) > ID_MAX)
		db->touched_all = true;
	else
		memcpy(db->touched[db->touched_count++], component, strlen(component) + 1);
}

bool db_touched(const struct db *db, const char *component)
{
	for (size_t i = 0; !db->touched_all && i < db->touched_count; i++)
		if (strcmp(db->touched[i], component) == 0)
			return true;
	return db->touched_all;
}

void db_untouch(struct db *db)
{
	db->touched_all = false;
	db->touched_count = 0;
}

static int touch_row(void *context, sqlite3_stmt *row)
{
	db_touch(context, sql_text(row, 0));
	return 0;
}

void db_touch_components(struct db *db, const char *node)
{
	if (sql_query(db, "SELECT component FROM components WHERE node = ?1", touch_row, db, "s", node) < 0)
		db_touch(db, NULL);
}

void db_touch_rollout(struct db *db, const char *id)
{
	if (sql_query(db, "SELECT component FROM rollouts WHERE id = ?1", touch_row, db, "s", id) < 0)
		db_touch(db, NULL);
}

/* A hold keeps the node from every rollout of what it has. */
void db_touch_order(struct db *db, const char *node, const char *component)
{
	db->generation++;
	if (component)
		db_touch(db, component);
	else
		db_touch_components(db, node);
}
