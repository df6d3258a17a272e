#include "server-stub/ingest/db_metrics.h"

#include "server-stub/ingest/sql.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { HOUR_BYTES = 6, DAY_HOURS = SQL_DAY_BYTES / HOUR_BYTES };

static void put_hour(uint8_t *at, float mean, uint64_t samples)
{
	uint32_t bits;
	unsigned n = samples > UINT16_MAX ? UINT16_MAX : (unsigned) samples;

	_Static_assert(sizeof(bits) == sizeof(mean), "a float has 32 bits");
	memcpy(&bits, &mean, sizeof(bits));
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t) (bits >> 8 * i);
	at[4] = (uint8_t) n;
	at[5] = (uint8_t) (n >> 8);
}

static float get_hour(const uint8_t *at, uint64_t *ret_samples)
{
	uint32_t bits = 0;
	float mean;

	for (unsigned i = 0; i < 4; i++)
		bits |= (uint32_t) at[i] << 8 * i;
	memcpy(&mean, &bits, sizeof(mean));
	*ret_samples = (uint64_t) (at[4] | at[5] << 8);
	return mean;
}

static int read_day(void *context, sqlite3_stmt *row)
{
	if (sqlite3_column_bytes(row, 0) == SQL_DAY_BYTES)
		memcpy(context, sqlite3_column_blob(row, 0), SQL_DAY_BYTES);
	return 0;
}

/* Its number; 0: the node has too many already. */
static int series_id(struct db *db, const struct db_series *s, int64_t *ret)
{
	int64_t count = 0;
	int r = sql_query(
		db, "SELECT id FROM series WHERE node = ?1 AND component = ?2 AND name = ?3 AND version = ?4",
		sql_read_number, ret, "ssss", s->node, s->component, s->name, s->version);

	if (r != 0)
		return r < 0 ? r : 0;
	r = sql_query(db, "SELECT count(*) FROM series WHERE node = ?1", sql_read_number, &count, "s", s->node);
	if (r < 0 || count >= DB_SERIES_MAX)
		return r < 0 ? r : 0;
	r = sql_change(db, "INSERT INTO series (node, component, name, version) VALUES (?1, ?2, ?3, ?4)", NULL,
		       "ssss", s->node, s->component, s->name, s->version);
	if (r == 0)
		*ret = sqlite3_last_insert_rowid(db->handle);
	return r;
}

/* When a day begins, what is too old goes, and series that have nothing left. */
static int forget_days(struct db *db, const struct db_series *s, int64_t day)
{
	int r = sql_change(
		db,
		"DELETE FROM metric_days WHERE day <= ?2 AND series IN (SELECT id FROM series WHERE node = "
		"?1)",
		NULL, "si", s->node, day - DB_METRIC_DAYS);

	if (r < 0)
		return r;
	return sql_change(db,
			  "DELETE FROM series WHERE node = ?1 AND NOT EXISTS"
			  " (SELECT 1 FROM metric_days WHERE series = series.id)",
			  NULL, "s", s->node);
}

int db_metric_store(struct db *db, const struct db_series *s, const struct db_hour *hours, size_t count)
{
	int64_t id = 0;
	int r = series_id(db, s, &id);

	if (r < 0 || id == 0)
		return r;
	for (size_t i = 0; i < count;) {
		int64_t day = hours[i].hour / DAY_HOURS;
		uint8_t bytes[SQL_DAY_BYTES] = { 0 };
		bool news = false;
		int found = sql_query(db, "SELECT hours FROM metric_days WHERE series = ?1 AND day = ?2", read_day,
				      bytes, "ii", id, day);

		if (found < 0)
			return found;
		for (; i < count && hours[i].hour / DAY_HOURS == day; i++) {
			uint8_t *at = bytes + hours[i].hour % DAY_HOURS * HOUR_BYTES;
			uint64_t had;

			(void) get_hour(at, &had);
			/* An agent that was started anew has less of the hour than it told before. */
			if (hours[i].samples <= had || !(fabs(hours[i].mean) <= (double) FLT_MAX))
				continue;
			put_hour(at, (float) hours[i].mean, hours[i].samples);
			news = true;
		}
		if (news)
			r = sql_change(db,
				       "INSERT INTO metric_days (series, day, hours) VALUES (?1, ?2, ?3)"
				       " ON CONFLICT (series, day) DO UPDATE SET hours = excluded.hours",
				       NULL, "iih", id, day, bytes);
		if (r == 0 && news && found == 0)
			r = forget_days(db, s, day);
		if (r < 0)
			return r;
	}
	return 0;
}

struct each_hour {
	int (*each)(void *user, const char *version, const struct db_hour *row);
	void *user;
	int64_t from;
};

static int give_hours(void *context, sqlite3_stmt *row)
{
	struct each_hour *e = context;
	const uint8_t *bytes = sqlite3_column_blob(row, 2);
	int r = 0;

	if (!bytes || sqlite3_column_bytes(row, 2) != SQL_DAY_BYTES)
		return 0;
	for (int64_t i = 0; r == 0 && i < DAY_HOURS; i++) {
		struct db_hour h = { .hour = sqlite3_column_int64(row, 1) * DAY_HOURS + i };

		h.mean = (double) get_hour(bytes + i * HOUR_BYTES, &h.samples);
		if (h.samples > 0 && h.hour >= e->from)
			r = e->each(e->user, sql_text(row, 0), &h);
	}
	return r;
}

int db_metrics(struct db *db, const char *node, const char *component, const char *name, int64_t from,
	       int (*each)(void *user, const char *version, const struct db_hour *row), void *user)
{
	struct each_hour e = { each, user, from };
	int r = sql_query(
		db,
		"SELECT s.version, d.day, d.hours FROM series s JOIN metric_days d ON d.series = s.id"
		" WHERE s.node = ?1 AND s.component = ?2 AND s.name = ?3 AND d.day >= ?4 ORDER BY d.day, s.id",
		give_hours, &e, "sssi", node, component, name, from / DAY_HOURS);

	return r > 0 ? 0 : r;
}
