#include "agent/phase/outcome.h"

#include "agent/phase/node.h"
#include "base/err.h"
#include "base/log.h"
#include "base/timestamp.h"
#include "json/build.h"
#include "json/json.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTE_PREFIX "note-"

enum { HISTORY_LINE_MAX = 6000, HISTORY_WORDS_MAX = 1000, NOTES_WAITING_MAX = 8 };

/* What programs print may be anything; a report is clean UTF-8. */
static void clean_text(char *text)
{
	for (unsigned char *p = (unsigned char *) text; *p; p++)
		if ((*p < 0x20 && *p != '\n' && *p != '\t') || *p >= 0x7f)
			*p = '?';
}

/* One line, without a blank at its end. */
void outcome_clean(char *text)
{
	size_t len;

	clean_text(text);
	for (char *p = text; *p; p++)
		if (*p == '\n' || *p == '\t')
			*p = ' ';
	for (len = strlen(text); len > 0 && text[len - 1] == ' '; len--)
		text[len - 1] = '\0';
}

static int fail(struct node *n, enum result number, int r, const char *fmt, va_list ap) PRINTF_LIKE(4, 0);
static int fail(struct node *n, enum result number, int r, const char *fmt, va_list ap)
{
	struct node_update *u = &n->state->update;
	char sentence[STATE_DETAIL_SIZE], quoted[2 * STATE_DETAIL_SIZE];

	(void) vsnprintf(sentence, sizeof(sentence), fmt, ap); /* a longer one is cut */
	outcome_clean(sentence);
	/* The first failure is the reason; what goes wrong while cleaning up after it is not. */
	if (u->result == 0) {
		u->result = number;
		STATE_SET(u->detail, sentence);
	}
	log_warning("update-failed", "update=%s state=%s number=%d error=%s detail=%s", u->id,
		    node_update_state_name(u->state), number, err_name(r),
		    log_quote(quoted, sizeof(quoted), sentence));
	return r;
}

int update_fail(struct node *n, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	r = fail(n, catalogue_from_error(r), r, fmt, ap);
	va_end(ap);
	return r;
}

int update_fail_as(struct node *n, enum result number, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	r = fail(n, number, r, fmt, ap);
	va_end(ap);
	return r;
}

/*
 * An end that was interrupted before the state was saved is run again, and its lines are there
 * already: no other update was in between, so they are the newest.
 */
static bool is_in_history(struct node *n, const struct node_result *r)
{
	CLEANUP(buf_done)
	struct buf lines = BUF_INIT((ROLLOUT_WITH_MAX + 1) * (STORE_HISTORY_LINE_MAX + 1));
	char *line, *rest = NULL;

	if (store_history_read(n->store, ROLLOUT_WITH_MAX + 1, &lines) < 0 || lines.len == 0)
		return false;
	for (line = strtok_r((char *) lines.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		CLEANUP(json_freep)
		struct json *entry = NULL;

		if (json_parse(line, strlen(line), &json_limits_default, &entry) == 0 &&
		    str_eq(json_string(json_get(entry, "update")), r->update) &&
		    str_eq(json_string(json_get(entry, "component")), r->component))
			return true;
	}
	return false;
}

static bool is_by_order(const struct node *n)
{
	return n->state->update.cause == NODE_CAUSE_ORDER_ROLLBACK ||
	       n->state->update.cause == NODE_CAUSE_ORDER_PIN;
}

/* The newest whole lines of what a failed step printed, as many as the history keeps. Borrowed from `tail`. */
static const char *last_words(const char *tail)
{
	size_t len = strlen(tail);
	const char *from = tail, *line;

	if (len <= HISTORY_WORDS_MAX)
		return tail;
	from += len - HISTORY_WORDS_MAX;
	line = strchr(from, '\n');
	return line && line[1] ? line + 1 : from;
}

static void add_history(struct node *n, const struct node_result *r, const struct catalogue_row *row)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(buf_done)
	struct buf line = BUF_INIT(HISTORY_LINE_MAX);
	struct json_node *o = json_build_root(b);
	char at[TIMESTAMP_LEN + 1];
	int e;

	if (is_in_history(n, r))
		return;
	timestamp_format(at, r->at);
	node_string(o, "at", at);
	node_string(o, "component", r->component);
	node_string(o, "from", r->from[0] ? r->from : NULL);
	node_string(o, "to", r->to[0] ? r->to : NULL);
	node_string(o, "name", row ? row->name : "unknown");
	node_string(o, "class", result_class_name(r->network ? CLASS_NETWORK : row ? row->class : CLASS_NONE));
	node_string(o, "detail", r->detail);
	if (row && row->class != CLASS_NONE && r->log_tail[0])
		node_string(o, "log_tail", last_words(r->log_tail));
	node_string(o, "rollout", r->rollout[0] ? r->rollout : NULL);
	node_string(o, "stage", r->stage[0] ? r->stage : NULL);
	/* An order's update is named by it. */
	node_string(o, "order", is_by_order(n) ? n->state->update.source : NULL);
	node_string(o, "update", r->update);
	node_integer(o, "duration_ms", (int64_t) r->duration_ms);
	node_integer(o, "pause_ms", (int64_t) r->pause_ms);
	e = json_build_text(b, false, &line);
	if (e == 0)
		e = store_history_append(n->store, buf_str(&line));
	if (e < 0)
		log_warning("history-not-written", "update=%s reason=%s", r->update, err_text(e));
}

/* For whoever waits for an installation from a bundle. */
static void count_ending(struct node *n, const struct node_result *result, const struct catalogue_row *row)
{
	struct installation *i = &n->installation;
	size_t len = strlen(i->sentence);

	if (!n->bundle)
		return;
	switch (n->state->update.state) {
	case NODE_GOOD:
		i->good++;
		break;
	case NODE_ROLLED_BACK:
		i->undone++;
		break;
	default:
		i->failed++;
		break;
	}
	(void) snprintf(i->sentence + len, sizeof(i->sentence) - len, "%s%s %s -> %s: %s (%s)", len ? "; " : "",
			result->component, result->from[0] ? result->from : "absent",
			result->to[0] ? result->to : "absent", row ? row->name : "unknown",
			result->detail); /* what does not fit is in the history */
}

static bool has_result(const struct node *n, const char *update)
{
	for (size_t i = 0; i < n->state->result_count; i++)
		if (str_eq(n->state->results[i]->update, update))
			return true;
	return false;
}

/* One component's; run again after a failure it adds nothing twice. */
static int end_part(struct node *n, const struct part *p, const char *update, enum result number,
		    const char *detail)
{
	const struct catalogue_row *row = catalogue_find(number);
	struct node_update *u = &n->state->update;
	struct node_result *result = calloc(1, sizeof(*result));
	char quoted[1200];
	uint64_t now_ms = node_now_ms(n);
	int r;

	if (!result)
		return -ENOMEM;
	STATE_SET(result->update, update);
	STATE_SET(result->component, p->component);
	STATE_SET(result->from, p->from);
	STATE_SET(result->to, p->to);
	STATE_SET(result->rollout, u->rollout);
	STATE_SET(result->stage, u->stage);
	result->seq = u->seq;
	STATE_SET(result->release_sha256, p->release_sha256);
	result->number = number;
	STATE_SET(result->detail, detail && detail[0] ? detail : row ? row->sentence : "");
	STATE_SET(result->log_tail, buf_str(&n->attempt.log_tail));
	outcome_clean(result->detail);
	clean_text(result->log_tail);
	result->at = n->os->clock_real(n->os);
	result->duration_ms = now_ms > n->attempt.started_ms ? now_ms - n->attempt.started_ms : 0;
	result->pause_ms = u->pause_ms;
	result->network = u->network && number == RESULT_GOOD_UNPROVEN;
	r = state_result_add(n->state, result);
	if (r > 0)
		log_warning("result-dropped",
			    "more results wait for the controller than are kept; the oldest is gone");
	if (r >= 0) {
		add_history(n, result, row);
		log_notice("update-ended",
			   "update=%s component=%s from=%s to=%s result=%s class=%s ms=%llu detail=%s", update,
			   p->component, p->from[0] ? p->from : "absent", p->to[0] ? p->to : "absent",
			   row ? row->name : "unknown", result_class_name(row ? row->class : CLASS_NONE),
			   (unsigned long long) result->duration_ms,
			   log_quote(quoted, sizeof(quoted), result->detail));
	}
	if (r >= 0)
		count_ending(n, result, row);
	free(result);
	return r < 0 ? r : 0;
}

/* What an order came to is kept beside it: it is said as long as the order is listed. */
static void end_order(struct node *n, enum result number, const char *detail)
{
	const struct node_update *u = &n->state->update;
	const struct catalogue_row *row = catalogue_find(number);
	struct node_order done = { .result = number, .at = n->os->clock_real(n->os) };

	if (!is_by_order(n))
		return;
	STATE_SET(done.id, u->source);
	STATE_SET(done.component, u->component);
	STATE_SET(done.detail, detail && detail[0] ? detail : row ? row->sentence : "");
	outcome_clean(done.detail);
	state_order_add(n->state, &done);
}

int update_end(struct node *n, enum result number, const char *detail)
{
	const struct node_update *u = &n->state->update;
	int r = 0;

	n->report_wanted = true;
	for (size_t i = 0; r == 0 && i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		const struct node_component *c = state_component(n->state, p.component);
		char id[STATE_UPDATE_SIZE];

		if (i == 0)
			(void) snprintf(id, sizeof(id), "%s", u->id);
		else
			(void) snprintf(id, sizeof(id), "%s/%s/%llu", u->source, p.component,
					(unsigned long long) (c ? c->attempts : u->attempt));
		if (!has_result(n, id))
			r = end_part(n, &p, id, number, detail);
	}
	if (r == 0)
		end_order(n, number, detail);
	return r;
}

/* FNV-1a: only to tell sentences apart that were told already. */
static uint32_t hash_text(uint32_t hash, const char *text)
{
	for (const char *p = text ? text : ""; *p; p++)
		hash = (hash ^ (uint8_t) *p) * 16777619u;
	return (hash ^ 0xff) * 16777619u;
}

static size_t waiting_notes(const struct node *n)
{
	size_t count = 0;

	for (size_t i = 0; i < n->state->result_count; i++)
		count += str_starts(n->state->results[i]->update, NOTE_PREFIX);
	return count;
}

int update_note(struct node *n, enum result number, const char *component, const char *rollout, const char *detail)
{
	const char *about = component && guard_id(component) ? component : "agent";
	uint32_t hash = hash_text(hash_text(hash_text(2166136261u, about), rollout), detail);
	struct node_result *result;
	int r;

	for (size_t i = 0; i < NOTED_MAX; i++)
		if (n->noted[i] == hash)
			return 0;
	/* What any carrier can cause must not push out what happened here and is not acknowledged yet. */
	if (!component && waiting_notes(n) >= NOTES_WAITING_MAX)
		return 0;
	result = calloc(1, sizeof(*result));
	if (!result)
		return -ENOMEM;
	/* Not the rollout's own id: an update of it may get this very number. */
	(void) snprintf(result->update, sizeof(result->update), NOTE_PREFIX "%08x/%s/%llu", hash, about,
			(unsigned long long) n->state->report_sequence + 1);
	STATE_SET(result->component, about);
	STATE_SET(result->rollout, rollout);
	STATE_SET(result->detail, detail);
	outcome_clean(result->detail);
	result->number = number;
	result->at = n->os->clock_real(n->os);
	r = state_result_add(n->state, result);
	free(result);
	if (r < 0)
		return r;
	memmove(n->noted, n->noted + 1, sizeof(n->noted) - sizeof(n->noted[0]));
	n->noted[NOTED_MAX - 1] = hash;
	n->report_wanted = true;
	return 0;
}
