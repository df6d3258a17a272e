/*
 * db_orders - orders to one node, and freezes of many. Read db.h first.
 */
#ifndef SELFRIGHT_INGEST_DB_ORDERS_H
#define SELFRIGHT_INGEST_DB_ORDERS_H

#include "base/attr.h"

#include <stdbool.h>
#include <stdint.h>

struct db;

struct db_order {
	const char *id, *node, *kind; /* rollback, pin, hold, retry, collect */
	const char *component, *from, *to, *reason, *by; /* may be NULL */
	int64_t issued, until; /* until 0: no end */
	int64_t withdrawn_at; /* 0: live, unless `until` has passed */
	bool restore_data; /* rollback: the copy from before comes back with the version */
	bool unconfirmed; /* of a restored backup: in force only once a person confirms it */
};
NODISCARD int db_order_add(struct db *db, const struct db_order *o);
/* Orders of one node, or with NULL of all; only those live at `now`, or with now 0 all. By node, then oldest first. */
NODISCARD int db_orders(struct db *db, const char *node, int64_t now,
			int (*each)(void *user, const struct db_order *row), void *user);
/* Withdraw every live order of that kind (and component, if not NULL); *ret_count: how many. */
NODISCARD int db_order_withdraw(struct db *db, const char *node, const char *kind, const char *component,
				const char *by, int64_t now, unsigned *ret_count);

/* After a restored backup nobody knows what was withdrawn since: every live order waits for a person. */
NODISCARD int db_orders_unconfirm(struct db *db, int64_t now);
/* *ret_count: whether there was such an order, live and not confirmed. */
NODISCARD int db_order_confirm(struct db *db, const char *id, int64_t now, unsigned *ret_count);
/* One order, whatever its kind. */
NODISCARD int db_order_withdraw_one(struct db *db, const char *id, const char *by, int64_t now,
				    unsigned *ret_count);

struct db_freeze {
	const char *id, *labels, *components; /* JSON */
	const char *reason, *by;
	int64_t at, until, lifted_at;
};
NODISCARD int db_freeze_add(struct db *db, const struct db_freeze *f);
NODISCARD int db_freezes(struct db *db, int64_t now, int (*each)(void *user, const struct db_freeze *row),
			 void *user);
/* When the first live order or freeze ends after `after`; 0: none does. */
NODISCARD int db_next_end(struct db *db, int64_t after, int64_t *ret);
/* One by id, or with NULL all that are live; *ret_count: how many. */
NODISCARD int db_freeze_lift(struct db *db, const char *id, int64_t now, unsigned *ret_count);

#endif
