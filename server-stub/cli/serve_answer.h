/*
 * serve_answer - what every handler of serve says and asks: JSON answers, fields of a request, complaints.
 *
 * A function that returns NULL, false or 0 for "not there" has sent the complaint already.
 */
#ifndef SELFRIGHT_CLI_SERVE_ANSWER_H
#define SELFRIGHT_CLI_SERVE_ANSWER_H

#include "base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct serve;
struct web_request;
struct json;
struct json_node;
struct json_build;

void answer(struct web_request *rq, unsigned status, struct json_build *b);
/* Everything decided is published before the answer goes out; if it cannot be, the answer says so. */
void publish_and_answer(struct serve *s, struct web_request *rq, unsigned status, struct json_build *b);
/* The same where only the orders of one node were changed. */
void publish_orders_and_answer(struct serve *s, struct web_request *rq, unsigned status, struct json_build *b,
			       const char *node);
void fail_database(struct serve *s, struct web_request *rq, int r);

/* The body as a JSON object, the caller's. */
struct json *body_of(struct web_request *rq);
/* A text for people: there, not empty, not endless, without control bytes. */
const char *text_field(struct web_request *rq, const struct json *doc, const char *name);
/* RFC 3339, in the future, at most `max_s` away. */
int64_t until_field(struct serve *s, struct web_request *rq, const struct json *doc, int64_t max_s);
const char *by_of(const struct json *doc); /* never NULL */
const char *id_arg(struct web_request *rq, size_t index, const char *what);

bool trust_is_there(struct serve *s, struct web_request *rq);
bool node_is_known(struct serve *s, struct web_request *rq,
		   const char *node); /* `node` NULL: complained of already */
/* 0, -ENOENT or a failure of the database; says nothing. */
NODISCARD int node_exists(struct serve *s, const char *node);
/* Why it does not: "has not joined yet ...", for names that `node add` made a secret for, or NULL. A whole half sentence. */
const char *node_absence(struct serve *s, const char *node);
/* 404 with the sentence for it. */
void node_fail_absent(struct serve *s, struct web_request *rq, const char *node);

/* Members: a time, null for 0; JSON text that is stored. */
void node_time(struct json_node *o, const char *name, int64_t at);
NODISCARD int node_json(struct json_node *o, const char *name, const char *text);

#endif
