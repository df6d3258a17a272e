#include "agent/install.h"

#include "agent/phase/facts.h"
#include "agent/phase/node.h"
#include "agent/phase/phase.h"
#include "base/err.h"
#include "base/log.h"
#include "fetch/bundle.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define REPORTS_FOLDER "selfright-reports"

static int refuse(char *out, size_t size, int r, const char *fmt, ...) PRINTF_LIKE(4, 5);
static int refuse(char *out, size_t size, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(out, size, fmt, ap); /* a longer sentence is cut */
	va_end(ap);
	return r;
}

static int open_bundle(struct node *n, const char *path, char *ret_refusal, size_t size)
{
	int fd = n->os->openat(n->os, AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	int r;

	if (fd < 0)
		return refuse(ret_refusal, size, fd, "%.800s: %s", path, err_text(fd));
	r = bundle_open(n->os, fd, &n->bundle);
	if (r < 0) {
		(void) n->os->close(n->os, fd); /* only read */
		return refuse(ret_refusal, size, r, "%.800s: %s", path,
			      r == -ERR_ARCHIVE ? "neither a folder nor a whole tar" : err_text(r));
	}
	return 0;
}

/* Somebody came with a stick: that is reason enough to try now what would have been tried later. */
static void lift_waiting(struct node *n)
{
	for (size_t i = 0; i < n->state->component_count; i++)
		state_retry_clear(n->state, n->state->components[i]->name, NULL);
}

int install_begin(struct node *n, const char *path, char *ret_refusal, size_t size)
{
	struct installation *i = &n->installation;
	int r;

	if (n->bundle)
		return refuse(ret_refusal, size, -EBUSY, "the installation from %.800s is still under way",
			      i->path);
	if (strlen(path) >= sizeof(i->path))
		return refuse(ret_refusal, size, -ENAMETOOLONG, "the path of the bundle is too long");
	r = open_bundle(n, path, ret_refusal, size);
	if (r < 0)
		return r;
	*i = (struct installation){ .over = false };
	(void) snprintf(i->path, sizeof(i->path), "%s", path);
	log_notice("install-begun", "path=%s alone=%d", path, n->alone);
	tuf_client_set_grace(n->tuf, n->config->offline_grace_s);
	n->ask_bundle = true;
	r = phase_receive_bundle(n);
	/* With or without its metadata: what was trusted before still holds. */
	if (r > 0 || !n->docs.loaded)
		r = phase_verify(n);
	n->ask_bundle = false;
	if (r < 0 && i->refresh_error == 0) {
		i->refresh_error = r;
		(void) snprintf(i->refresh_text, sizeof(i->refresh_text), "%s", n->refresh_text);
	}
	lift_waiting(n);
	n->replan = true;
	return 0;
}

/* What has not stopped anything yet goes on only while somebody says that it is wanted. */
static bool needs_documents(const struct node *n)
{
	const struct node_update *u = &n->state->update;

	return !update_is_active(n) ||
	       (u->cause != NODE_CAUSE_LOCAL && (u->state == NODE_PLANNED || u->state == NODE_STAGING ||
						 u->state == NODE_STAGED || u->state == NODE_WAITING));
}

bool install_is_settled(struct node *n)
{
	struct installation *i = &n->installation;
	const struct node_update *u = &n->state->update;

	if (n->alone && !n->docs.loaded && needs_documents(n))
		return true; /* nobody else will come and say what is wanted */
	if (n->replan || n->refresh_wanted || n->push_wanted)
		return false;
	if (!update_is_active(n))
		return n->plan_ms > node_now_ms(n);
	if (u->state == NODE_STUCK)
		return !n->attempt.resumed;
	if (u->state != NODE_WATCH)
		return false;
	/* It is good already; before it is only watched, everything else the bundle may hold is looked at once. */
	if (str_eq(i->watched, u->id))
		return true;
	STATE_SET(i->watched, u->id);
	n->replan = true;
	n->attempt.wake_ms = node_now_ms(n);
	return false;
}

/* --- how it ended --- */

static void say(struct installation *i, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void say(struct installation *i, int code, const char *fmt, ...)
{
	va_list ap;

	i->code = code;
	va_start(ap, fmt);
	(void) vsnprintf(i->sentence, sizeof(i->sentence), fmt, ap); /* a longer sentence is cut */
	va_end(ap);
}

/* Why a component stays as it is, as it should. */
static bool is_settled_reason(enum reason reason, bool installed)
{
	switch (reason) {
	case REASON_UP_TO_DATE:
		return true;
	case REASON_NO_ROLLOUT:
	case REASON_LOWER:
	case REASON_SUPPORT_ROLLBACK:
	case REASON_SUPPORT_PIN:
		return installed;
	default:
		return false;
	}
}

/* Nothing has ended: is all as it should be, or does something wait? */
static void judge_waiting(struct node *n)
{
	struct installation *i = &n->installation;
	struct string_list names = { 0 };
	bool installed = false;

	if (i->refresh_error < 0) {
		say(i, INSTALL_UNCHANGED, "nothing has changed; the bundle's metadata were refused: %s",
		    i->refresh_text);
		return;
	}
	if (node_components(n, &names) < 0) {
		say(i, INSTALL_UNCHANGED, "out of memory");
		return;
	}
	for (size_t k = 0; k < names.count; k++) {
		const struct node_component *c = state_component(n->state, names.items[k]);
		struct decision d = node_decide(n, names.items[k]);
		enum reason reason = d.kind == DECIDE_TARGET ? REASON_RETRY : d.reason;
		bool here = c && c->version[0];

		installed = installed || here;
		if (d.kind != DECIDE_STAY || !is_settled_reason(d.reason, here)) {
			say(i, INSTALL_UNCHANGED, "nothing has changed: %s%s%s waits: %s (%s)", names.items[k],
			    d.version ? " " : "", d.version ? d.version : "", reason_sentence(reason),
			    reason_name(reason));
			string_list_done(&names);
			return;
		}
	}
	string_list_done(&names);
	if (installed)
		say(i, INSTALL_GOOD, "nothing to do: this node runs what the bundle opens to it");
	else
		say(i, INSTALL_UNCHANGED, "nothing has changed: no rollout of the bundle selects this node");
}

static void judge(struct node *n)
{
	struct installation *i = &n->installation;

	if (n->state->update.state == NODE_STUCK) {
		say(i, INSTALL_STUCK, "%s could not go back to %s: %s", n->state->update.component,
		    n->state->update.from[0] ? n->state->update.from : "absent", n->state->update.detail);
		return;
	}
	if (i->undone > 0)
		i->code = INSTALL_UNDONE;
	else if (i->failed > 0)
		i->code = INSTALL_UNCHANGED;
	else if (i->good > 0)
		i->code = INSTALL_GOOD;
	else
		judge_waiting(n);
}

/* The folder the bundle is, or the one it lies in. */
static int open_reports(struct node *n)
{
	char folder[sizeof(n->installation.path)];
	char *slash;
	int fd, reports, r;

	(void) snprintf(folder, sizeof(folder), "%s", n->installation.path);
	fd = n->os->openat(n->os, AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOTDIR) {
		slash = strrchr(folder, '/');
		if (!slash)
			return -ENOENT;
		slash[slash == folder] = '\0';
		fd = n->os->openat(n->os, AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
	}
	if (fd < 0)
		return fd;
	r = durable_mkdir(n->os, fd, REPORTS_FOLDER, 0755);
	reports = r < 0 ? r : dir_open(n->os, fd, REPORTS_FOLDER);
	(void) n->os->close(n->os, fd); /* only looked up in */
	return reports;
}

static void leave_report(struct node *n)
{
	int fd = open_reports(n), r = fd;

	if (fd >= 0) {
		r = phase_report_file(n, fd);
		(void) n->os->close(n->os, fd); /* what was written in it is synced */
	}
	if (r < 0)
		log_warning("report-not-left", "it travels later by itself: path=%s reason=%s",
			    n->installation.path,
			    r == -ERR_KEY ? "this node has no identity key yet" : err_text(r));
	else
		log_notice("report-left", "folder=" REPORTS_FOLDER " sequence=%llu",
			   (unsigned long long) n->state->report_sequence);
}

void install_end(struct node *n)
{
	struct installation *i = &n->installation;

	if (!n->bundle)
		return;
	judge(n);
	leave_report(n);
	i->over = true;
	bundle_close(n->bundle);
	n->bundle = NULL;
	tuf_client_set_grace(n->tuf, 0);
	n->replan = true;
	n->report_wanted = true;
	log_notice("install-ended", "code=%d detail=%s", i->code, i->sentence);
}
