/*
 * stage - the bytes of a release into a sealed tree beside the running one.
 *
 * A process without rights downloads, verifies and unpacks into a folder that is
 * not ours to trust; when it is gone the folder is taken from it, hashed against
 * the signed tree digest, and only then it has a name in the store.
 */
#include "agent/link/protocol.h"
#include "agent/phase/facts.h"
#include "agent/phase/manifest.h"
#include "agent/phase/held.h"
#include "agent/phase/node.h"
#include "agent/phase/outcome.h"
#include "agent/phase/phase.h"
#include "agent/store/seal.h"
#include "base/err.h"
#include "base/log.h"
#include "conf/conf.h"
#include "crypto/digest.h"
#include "fetch/bundle.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* SOURCES_MAX: selfright-stage takes no more. */
enum {
	PROGRESS_MS = 10 * 1000,
	LOOK_MS = 1000,
	ENDING_MS = 10,
	READS_MAX = 64,
	SOURCES_MAX = 12,
	REDIRECT_HOSTS_MAX = 8,
	ARGS_MAX = 33 + 2 * SOURCES_MAX + 2 * REDIRECT_HOSTS_MAX
};

static const struct release_artifact *full_artifact(const struct release *rel)
{
	for (size_t i = 0; i < rel->artifact_count; i++)
		if (!rel->artifacts[i].is_delta)
			return &rel->artifacts[i];
	return NULL;
}

/* --- over MQTT, where HTTPS does not get through --- */

static void saved_name(const struct release_artifact *a, const char *suffix, char out[static SHA256_HEX + 8])
{
	hex_encode(out, a->sha256, SHA256_BYTES);
	(void) snprintf(out + SHA256_HEX, 8, "%s", suffix); /* ".part" or ".map" */
}

/* What the link saved: the link's file, so nothing of it is believed; stage copies it and looks at every byte. */
static int open_saved(struct node *n, const struct release_artifact *a, int *ret_fd)
{
	char name[SHA256_HEX + 8];
	int dirfd = dir_open(n->os, n->dirs->outbox, "blobs"), fd;

	if (dirfd < 0)
		return dirfd;
	saved_name(a, ".part", name);
	fd = n->os->openat(n->os, dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	(void) n->os->close(n->os, dirfd); /* only looked up in */
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

/* Staged, or not what was signed: either way nobody needs it again. */
static void forget_saved(struct node *n, const struct release_artifact *a)
{
	char name[SHA256_HEX + 8];
	int dirfd = dir_open(n->os, n->dirs->outbox, "blobs");

	n->attempt.saved = false;
	if (dirfd < 0)
		return;
	saved_name(a, ".part", name);
	(void) n->os->unlinkat(n->os, dirfd, name, 0); /* the link removes it with the next one */
	saved_name(a, ".map", name);
	(void) n->os->unlinkat(n->os, dirfd, name, 0);
	(void) n->os->close(n->os, dirfd); /* only looked up in */
}

/* "targets/<folder>/<sha256>.<name>". */
static int artifact_name(const struct release_artifact *a, struct buf *out)
{
	const char *slash = strrchr(a->path, '/');
	char hex[SHA256_HEX + 1];

	hex_encode(hex, a->sha256, SHA256_BYTES);
	if (!slash)
		return buf_addf(out, "targets/%s.%s", hex, a->path);
	return buf_addf(out, "targets/%.*s/%s.%s", (int) (slash - a->path), a->path, hex, slash + 1);
}

int stage_artifact_name(const struct release *release, struct buf *out)
{
	const struct release_artifact *a = full_artifact(release);

	return a ? artifact_name(a, out) : -ENOENT;
}

/* The artifact on the stick, if there is one and it holds it: opened here, for the stage user may not look there. */
static int find_in_bundle(struct node *n, const char *name, uint64_t length, int *ret_fd, uint64_t *ret_offset)
{
	uint64_t size = 0;
	int r = n->bundle ? bundle_find(n->bundle, name, ret_fd, ret_offset, &size) : -ENOENT;

	if (r < 0 || size == length)
		return r;
	(void) n->os->close(n->os, *ret_fd); /* only looked at */
	*ret_fd = -1;
	if (n->alone)
		return update_fail(n, -ERR_LENGTH,
				   "the bundle's %s has %" PRIu64 " bytes, %" PRIu64 " were signed", name, size,
				   length);
	log_warning("bundle-file-refused", "it has not the signed length: name=%s", name);
	return -ENOENT;
}

/* --- the configured roads, in order --- */

static const char *road_at(const struct node *n, size_t i)
{
	return i < n->config->roads.count ? n->config->roads.items[i] : "";
}

static bool is_mqtt(const struct node *n, size_t i)
{
	return str_eq(road_at(n, i), "mqtt");
}

/* Does somebody wait for it (an order, the console, a patch), or is it one of a whole fleet's? */
static bool is_urgent(const struct node *n)
{
	const struct node_update *u = &n->state->update;

	if (u->cause != NODE_CAUSE_ROLLOUT || n->bundle)
		return true;
	for (size_t i = 0; i < n->docs.rollout_count; i++)
		if (str_eq(n->docs.rollouts[i].rollout.id, u->rollout))
			return n->docs.rollouts[i].rollout.kind == ROLLOUT_PATCH;
	return true;
}

static uint64_t held_max_s(const struct node *n)
{
	return is_urgent(n) ? HELD_URGENT_MAX_S : HELD_MAX_S;
}

/* How long all addresses asked to be left alone; 0: one may be asked. */
static uint64_t https_held_ms(const struct node *n)
{
	return held_all_ms(&n->held, n->config, held_max_s(n), node_now_ms(n));
}

static bool is_usable(const struct node *n, size_t i)
{
	if (n->alone || !config_road_is_open(n->config, road_at(n, i)))
		return false;
	return is_mqtt(n, i)			? n->link && n->link_connected
	       : str_eq(road_at(n, i), "https") ? https_held_ms(n) == 0
						: true;
}

/* Would another attempt now come by any road but one that wants to be left alone? */
static bool only_https_is_open(const struct node *n)
{
	bool https = false, other = false;

	for (size_t i = 0; i < n->config->roads.count; i++) {
		if (!config_road_is_open(n->config, road_at(n, i)))
			continue;
		if (str_eq(road_at(n, i), "https"))
			https = true;
		else
			other = other || is_usable(n, i);
	}
	return https && !other;
}

/* The next ones to try: MQTT, which is the link's, or all others up to it in one start of selfright-stage. */
static bool next_roads(struct node *n)
{
	struct attempt *t = &n->attempt;
	const size_t count = n->config->roads.count;

	for (t->road = t->road_end; t->road < count && !is_usable(n, t->road); t->road++)
		;
	t->road_end = t->road;
	if (t->road == count)
		return false;
	do
		t->road_end++;
	while (!is_mqtt(n, t->road) && t->road_end < count && !is_mqtt(n, t->road_end));
	return true;
}

static void add_source(const char **argv, size_t *argc, size_t *sources, const char *option, const char *value)
{
	if (*sources >= SOURCES_MAX)
		return;
	argv[(*argc)++] = option;
	argv[(*argc)++] = value;
	(*sources)++;
}

static void add_urls(const struct node *n, const char **argv, size_t *argc, size_t *sources,
		     const struct string_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		if (held_ms(&n->held, n->config, list->items[i], held_max_s(n), node_now_ms(n)) == 0)
			add_source(argv, argc, sources, "--url", list->items[i]);
}

static void add_sources(const struct node *n, const char **argv, size_t *argc)
{
	size_t sources = 0;

	for (size_t i = n->attempt.road; i < n->attempt.road_end; i++) {
		if (str_eq(road_at(n, i), "file") && is_usable(n, i))
			for (size_t k = 0; k < n->config->folders.count; k++)
				add_source(argv, argc, &sources, "--dir", n->config->folders.items[k]);
		if (str_eq(road_at(n, i), "https") && is_usable(n, i)) {
			add_urls(n, argv, argc, &sources, &n->config->mirrors);
			add_urls(n, argv, argc, &sources, &n->config->urls);
		}
	}
	for (size_t i = 0; i < n->config->redirect_hosts.count && i < REDIRECT_HOSTS_MAX; i++) {
		argv[(*argc)++] = "--redirect-host";
		argv[(*argc)++] = n->config->redirect_hosts.items[i];
	}
}

/* May another road than those of this start bring it, if they are slow? Once: then what is slow goes on. */
static bool another_follows(const struct node *n)
{
	const struct attempt *t = &n->attempt;

	for (size_t i = t->road_end; !t->patient && i < n->config->roads.count; i++)
		if (is_usable(n, i))
			return true;
	return false;
}

/* Much too slow is less than that; a ceiling of ours is nobody's fault. */
static uint64_t slow_rate(const struct node *n)
{
	uint64_t slow = n->config->download.slow_rate, half = n->attempt.stage_rate / 2;

	return n->attempt.stage_rate > 0 && half < slow ? half : slow;
}

static int spawn(struct node *n, const struct release *rel, const struct release_artifact *a, int partial_fd,
		 int progress_fd)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(2048), ca = BUF_INIT(4096);
	char length[24], max_bytes[24], max_files[24], offset_text[24], floor[24], rate[24], stall[24], slow[24],
		slow_for[24], hex[SHA256_HEX + 1];
	const char *argv[ARGS_MAX + 1];
	uint64_t offset = 0;
	int source = -1;
	struct road_environment environment = { .count = 0 };
	struct conf_error error = { "" };
	char *program = NULL;
	size_t argc = 0;
	int r = artifact_name(a, &name);

	if (r == 0)
		r = find_in_bundle(n, buf_str(&name), a->length, &source, &offset);
	if (r == -ENOENT && n->attempt.saved)
		r = open_saved(n, a, &source);
	if (r == -ENOENT && n->alone)
		return update_fail_as(n, RESULT_DOWNLOAD_FAILED, r, "the bundle does not hold %s", buf_str(&name));
	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		r = buf_addf(&ca, "%s/ca.crt", n->config->dir);
	if (r == 0)
		r = config_program(n->config, "selfright-stage", &program, &error);
	if (r == 0)
		r = config_road_environment(n->config, &environment);
	if (r < 0) {
		free(program);
		if (source >= 0)
			(void) n->os->close(n->os, source); /* only read */
		return error.text[0] ? update_fail(n, r, "%s", error.text) : r;
	}
	hex_encode(hex, a->sha256, SHA256_BYTES);
	(void) snprintf(floor, sizeof(floor), "%" PRId64, tuf_client_floor(n->tuf));
	(void) snprintf(length, sizeof(length), "%" PRIu64, a->length);
	(void) snprintf(max_bytes, sizeof(max_bytes), "%" PRIu64, rel->installed_size);
	(void) snprintf(max_files, sizeof(max_files), "%" PRIu64, rel->files);
	argv[argc++] = program;
	(void) snprintf(offset_text, sizeof(offset_text), "%" PRIu64, offset);
	if (source >= 0) {
		argv[argc++] = "--offset";
		argv[argc++] = offset_text;
	}
	if (source < 0)
		add_sources(n, argv, &argc);
	(void) snprintf(stall, sizeof(stall), "%" PRIu64, n->config->download.stall_s);
	argv[argc++] = "--stall";
	argv[argc++] = stall;
	(void) snprintf(slow, sizeof(slow), "%" PRIu64, slow_rate(n));
	(void) snprintf(slow_for, sizeof(slow_for), "%" PRIu64, n->config->download.slow_for_s);
	argv[argc++] = "--slow";
	argv[argc++] = slow;
	argv[argc++] = "--slow-for";
	argv[argc++] = slow_for;
	if (another_follows(n))
		argv[argc++] = "--yield";
	(void) snprintf(rate, sizeof(rate), "%" PRIu64, n->attempt.stage_rate);
	if (n->attempt.stage_rate > 0) {
		argv[argc++] = "--rate";
		argv[argc++] = rate;
	}
	argv[argc++] = "--ca";
	argv[argc++] = buf_str(&ca);
	argv[argc++] = "--time-floor";
	argv[argc++] = floor;
	argv[argc++] = "--name";
	argv[argc++] = buf_str(&name);
	argv[argc++] = "--length";
	argv[argc++] = length;
	argv[argc++] = "--sha256";
	argv[argc++] = hex;
	argv[argc++] = "--media";
	argv[argc++] = a->media;
	argv[argc++] = "--max-bytes";
	argv[argc++] = max_bytes;
	argv[argc++] = "--max-files";
	argv[argc++] = max_files;
	argv[argc] = NULL;
	r = process_start(
		&(struct process_options){
			.argv = argv,
			.env = (const char *const *) environment.items,
			.user = n->as_root ? n->config->users.stage : NULL,
			.die_with_parent = true,
			.stdin_fd = -1,
			.stdout_fd = -1,
			.stderr_fd = STDERR_FILENO,
			.fds = { { n->dirs->spool, 3 }, { partial_fd, 4 }, { progress_fd, 5 }, { source, 6 } },
			.fd_count = source >= 0 ? 4 : 3,
			.no_new_privs = true,
		},
		&n->attempt.stage);
	if (source >= 0)
		(void) n->os->close(n->os, source); /* the stage process holds its own */
	road_environment_done(&environment);
	free(program);
	return r;
}

/* What is left of downloads that nobody wants any more; one that is interrupted goes on. */
static bool is_ours(struct node *n, const char *name)
{
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);
		const struct release_artifact *a = *p.has_release ? full_artifact(p.release) : NULL;
		char hex[SHA256_HEX + 1];

		if (!a)
			continue;
		hex_encode(hex, a->sha256, SHA256_BYTES);
		if (strncmp(name, hex, SHA256_HEX) == 0)
			return true;
	}
	return false;
}

static void clean_spool(struct node *n)
{
	struct name_list names = { 0 };
	int r;

	r = dir_list(n->os, n->dirs->spool, ".", &names);
	for (size_t i = 0; r == 0 && i < names.count; i++)
		if (!is_ours(n, names.names[i]))
			r = tree_remove(n->os, n->dirs->spool, names.names[i]);
	name_list_done(&names);
	if (r < 0)
		log_warning("spool-not-cleaned", "old downloads take up space: %s", err_text(r));
}

static uint64_t rate_now(const struct node *n)
{
	return config_pace_at(&n->config->download.pace, n->docs.zone, node_now(n));
}

static int begin(struct node *n, const struct part *p)
{
	struct attempt *t = &n->attempt;
	const struct release_artifact *a = *p->has_release ? full_artifact(p->release) : NULL;
	int partial, pipefd[2], r;

	if (!a)
		return update_fail(n, -ERR_AGENT_TOO_OLD,
				   "it offers only deltas, which this agent cannot apply yet");
	clean_spool(n);
	partial = seal_begin(n->os, n->dirs->store, p->component, p->to, n->stage_uid, n->stage_gid);
	if (partial < 0)
		return update_fail(n, partial, "no folder to unpack into: %s", err_text(partial));
	if (pipe2(pipefd, O_CLOEXEC) < 0) {
		r = -errno;
		(void) n->os->close(n->os, partial); /* empty */
		return update_fail(n, r, "no pipe for the progress: %s", err_text(r));
	}
	(void) fcntl(pipefd[0], F_SETFL, O_NONBLOCK); /* cannot fail on a pipe of ours */
	t->stage_rate = rate_now(n);
	r = spawn(n, p->release, a, partial, pipefd[1]);
	close(pipefd[1]);
	(void) n->os->close(n->os, partial); /* the stage process holds its own */
	if (r < 0) {
		close(pipefd[0]);
		if (n->state->update.result)
			return r; /* said already */
		return update_fail(n, r, "selfright-stage could not be started: %s", err_text(r));
	}
	t->stage_fd = pipefd[0];
	buf_clear(&t->stage_line); /* half a line of one that was ended */
	t->stage_done = false;
	t->stage_error = 0;
	t->bytes_done = 0;
	t->bytes_total = a->length;
	t->progress_told_ms = node_now_ms(n);
	return 0;
}

/* err_name() backwards. An unknown word is a failure of the helper. */
static int error_of(const char *word)
{
	for (int e = 1; e < ERR_END_; e++)
		if (e != ERR_BASE_ && str_eq(err_name(-e), word))
			return -e;
	return -ERR_CHILD;
}

static void take_line(struct node *n, char *line)
{
	struct attempt *t = &n->attempt;
	char *word = line, *rest = strchr(line, ' ');

	if (rest)
		*rest++ = '\0';
	if (str_eq(word, "bytes") && rest) {
		char *total = strchr(rest, ' ');

		if (total)
			*total++ = '\0';
		if (parse_u64(rest, &t->bytes_done) < 0 || (total && parse_u64(total, &t->bytes_total) < 0))
			log_debug("stage-line", "a progress line that is none");
	} else if (str_eq(word, "wait") && rest) {
		char *url = strchr(rest, ' ');
		uint64_t seconds = 0;

		if (url)
			*url++ = '\0';
		if (url && parse_u64(rest, &seconds) == 0)
			held_note(&n->held, n->config, url, seconds, node_now_ms(n));
	} else if (str_eq(word, "slow") && rest) {
		t->slow = true;
		log_notice("download-slow", "it is left for another, if there is one: bytes_per_second=%s", rest);
	} else if (str_eq(word, "done")) {
		t->stage_done = true;
	} else if (str_eq(word, "error") && rest) {
		char *detail = strchr(rest, ' ');
		size_t len = strlen(t->stage_detail); /* of the roads before */

		if (detail)
			*detail++ = '\0';
		t->stage_error = error_of(rest);
		(void) snprintf(t->stage_detail + len, sizeof(t->stage_detail) - len, "%s%s", len > 0 ? "; " : "",
				detail ? detail : err_text(t->stage_error)); /* cut */
	}
}

static void close_progress(struct attempt *t)
{
	if (t->stage_fd >= 0)
		close(t->stage_fd);
	t->stage_fd = -1;
}

static void read_progress(struct node *n)
{
	struct attempt *t = &n->attempt;
	char chunk[1024], *newline;
	ssize_t len = 1;

	/* It is not ours to trust: neither endless talk nor a closed pipe keeps the engine busy. */
	for (int i = 0; i < READS_MAX && t->stage_fd >= 0; i++) {
		len = read(t->stage_fd, chunk, sizeof(chunk));
		if (len <= 0)
			break;
		if (t->stage_line.len + (size_t) len > t->stage_line.max)
			buf_clear(&t->stage_line); /* no line of ours is that long */
		(void) !buf_add(&t->stage_line, chunk, (size_t) len); /* a lost line is lost progress */
		while (t->stage_line.len > 0 && (newline = memchr(t->stage_line.data, '\n', t->stage_line.len))) {
			*newline = '\0';
			take_line(n, (char *) t->stage_line.data);
			buf_consume(&t->stage_line, (size_t) (newline + 1 - (char *) t->stage_line.data));
		}
	}
	if (len == 0)
		close_progress(t);
}

static void tell_progress(struct node *n)
{
	uint64_t now = node_now_ms(n);

	if (now - n->attempt.progress_told_ms < PROGRESS_MS)
		return;
	n->attempt.progress_told_ms = now;
	update_event(n);
}

static int fail_download(struct node *n, const struct part *p, int r)
{
	const char *detail = n->attempt.stage_detail;

	switch (r) {
	case -ENOENT:
	case -ERR_HTTP_STATUS:
		return update_fail_as(n, RESULT_DOWNLOAD_FAILED, r, "the artifact of %s %s: %s", p->component,
				      p->to, detail);
	case -ERR_TOO_LARGE:
		return update_fail_as(n, RESULT_ARCHIVE_REFUSED, r,
				      "the archive of %s %s holds more than was signed: %s", p->component, p->to,
				      detail);
	case -ERR_NAME:
		return update_fail_as(n, RESULT_ARCHIVE_REFUSED, r, "the archive of %s %s: %s", p->component,
				      p->to, detail);
	default:
		return update_fail(n, r, "the artifact of %s %s: %s", p->component, p->to, detail);
	}
}

static int seal(struct node *n, const struct part *p)
{
	char *offender = NULL;
	int r = seal_commit(n->os, n->dirs->store, p->component, p->to, p->release->tree_digest, &offender);

	if (r == -ERR_TREE)
		r = update_fail(n, r, "the unpacked tree of %s %s is not the one that was signed", p->component,
				p->to);
	else if (r == -ERR_ARCHIVE_ENTRY)
		r = update_fail(n, r, "the tree of %s %s holds what no tree may: %s", p->component, p->to,
				offender ? offender : "?");
	else if (r < 0)
		r = update_fail(n, r, "sealing %s %s: %s", p->component, p->to, err_text(r));
	free(offender);
	return r;
}

/* The process is gone: what did it say? */
static int finish(struct node *n, const struct part *p, int status)
{
	struct attempt *t = &n->attempt;
	char text[64];

	read_progress(n);
	close_progress(t);
	t->stage = (struct process){ 0 };
	if (t->stage_error < 0)
		return fail_download(n, p, t->stage_error);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !t->stage_done)
		return update_fail(n, -ERR_CHILD, "selfright-stage %s",
				   process_status_text(status, text, sizeof(text)));
	t->bytes_done = t->bytes_total;
	return 0;
}

/* While it downloads, the fleet may change its mind. */
static int still_wanted(struct node *n)
{
	const struct node_update *u = &n->state->update;
	struct decision d;

	if (u->cause == NODE_CAUSE_LOCAL)
		return 0;
	d = node_decide(n, u->component);
	if (d.kind == DECIDE_STAY || !str_eq(d.version, u->to))
		return update_fail_as(n,
				      d.kind == DECIDE_TARGET	 ? RESULT_SUPERSEDED
				      : d.reason == REASON_FLOOR ? RESULT_REVOKED
								 : RESULT_WITHDRAWN,
				      -ECANCELED, "it is not wanted any more: %s", reason_sentence(d.reason));
	return 0;
}

static bool is_sealed(struct node *n, const struct part *p)
{
	uint8_t digest[SHA256_BYTES];
	int r = seal_digest(n->os, n->dirs->store, p->component, p->to, digest);

	if (r < 0 || memcmp(digest, p->release->tree_digest, sizeof(digest)) != 0)
		return false;
	r = seal_is_sound(n->os, n->dirs->store, p->component, p->to);
	if (r == 0)
		return true;
	log_warning("tree-damaged", "it is fetched again: component=%s version=%s reason=%s", p->component, p->to,
		    err_text(r));
	return seal_remove(n->os, n->dirs->store, p->component, p->to) < 0;
}

/* Is this the road's fault, or of what it brought, so that another one may bring the file? */
static bool is_of_the_road(int r)
{
	return r == -ENOENT || r == -ERR_NETWORK || r == -ERR_HTTP_STATUS || r == -ERR_TLS || r == -ERR_DEADLINE ||
	       r == -ERR_PEER_GONE || r == -ENOTCONN || r == -ERR_DIGEST || r == -ERR_LENGTH || r == -EACCES;
}

static void send_rate(struct node *n, uint64_t rate)
{
	uint8_t text[8];

	for (int i = 0; i < 8; i++)
		text[i] = (uint8_t) (rate >> (56 - 8 * i));
	n->attempt.stage_rate = rate;
	node_link_send(n, LINK_RATE, 0, text, sizeof(text));
}

/* Have the link bring it over MQTT; LINK_SAVED tells how it goes. */
static int begin_saving(struct node *n, const struct part *p)
{
	struct attempt *t = &n->attempt;
	const struct release_artifact *a = *p->has_release ? full_artifact(p->release) : NULL;
	CLEANUP(buf_done)
	struct buf request = BUF_INIT(2048);
	int r = 0;

	if (!a)
		return -ENOENT;
	for (int i = 0; r == 0 && i < 8; i++)
		r = buf_add_byte(&request, (uint8_t) (a->length >> (56 - 8 * i)));
	if (r == 0)
		r = artifact_name(a, &request);
	if (r < 0)
		return r;
	send_rate(n, rate_now(n));
	t->save_id = ++n->fetch_id;
	t->save_over = t->saved = false;
	t->save_error = 0;
	t->bytes_done = 0;
	t->bytes_total = a->length;
	t->progress_told_ms = node_now_ms(n);
	log_notice("download-by-mqtt", "component=%s version=%s reason=%s", p->component, p->to,
		   t->stage_detail[0] ? t->stage_detail : "it is the first road");
	node_link_send(n, LINK_SAVE, t->save_id, request.data, request.len);
	return 0;
}

/* PHASE_AGAIN while it comes, PHASE_DONE when it is here; -ECANCELED is said, other errors are the caller's. */
static int step_saving(struct node *n)
{
	struct attempt *t = &n->attempt;
	size_t len = strlen(t->stage_detail);
	int r = t->save_error;

	if (!t->save_over && n->link) {
		uint64_t rate = rate_now(n);

		if (rate != t->stage_rate)
			send_rate(n, rate);
		tell_progress(n);
		r = still_wanted(n);
		if (r < 0) {
			node_link_send(n, LINK_STOP_SAVING, 0, NULL, 0);
			t->save_id = 0;
			return r;
		}
		t->wake_ms = node_now_ms(n) + LOOK_MS;
		return PHASE_AGAIN;
	}
	t->save_id = 0;
	if (!t->save_over)
		r = -ERR_PEER_GONE;
	if (r == 0) {
		t->saved = true;
		return PHASE_DONE;
	}
	(void) snprintf(t->stage_detail + len, sizeof(t->stage_detail) - len, "%sover MQTT: %s",
			len > 0 ? "; " : "", err_text(r)); /* cut */
	return r;
}

/* A stick in use needs no road; what it lacks does. */
static bool lies_in_bundle(struct node *n, const struct part *p)
{
	const struct release_artifact *a = *p->has_release ? full_artifact(p->release) : NULL;
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(2048);
	uint64_t offset = 0;
	int fd = -1;

	if (n->alone)
		return true; /* and where it does not hold it, that is what is said */
	if (!n->bundle || !a || artifact_name(a, &name) < 0 ||
	    find_in_bundle(n, buf_str(&name), a->length, &fd, &offset) < 0)
		return false;
	(void) n->os->close(n->os, fd); /* only looked at */
	return true;
}

/* The next attempt comes no sooner than those who have it asked for (commit.c). */
static void note_wishes(struct node *n)
{
	struct attempt *t = &n->attempt;
	size_t len = strlen(t->stage_detail);

	t->leave_ms = only_https_is_open(n) ? https_held_ms(n) : 0;
	if (t->leave_ms > 0)
		(void) snprintf(t->stage_detail + len, sizeof(t->stage_detail) - len,
				"%sasked to be left alone for %" PRIu64 " s (Retry-After)", len > 0 ? "; " : "",
				(t->leave_ms + 999) / 1000); /* cut */
}

/* Down the list: `r` is why the one before failed. */
static int take_roads(struct node *n, const struct part *p, int r)
{
	struct attempt *t = &n->attempt;

	n->attempt.saved = false;
	if (!next_roads(n) && t->slow && !t->patient) {
		/* Nothing else brought it: slow is better than not at all. */
		t->patient = true;
		t->stage_detail[0] = '\0';
		t->road = t->road_end = 0;
		(void) next_roads(n);
	}
	if (t->road < n->config->roads.count)
		return is_mqtt(n, t->road) ? begin_saving(n, p) : begin(n, p);
	note_wishes(n);
	if (n->attempt.stage_detail[0])
		return fail_download(n, p, r);
	return update_fail(n, r, "the artifact of %s %s: no road to it is open", p->component, p->to);
}

/*
 * When the download may begin: each node at its own moment, the same one whenever it is asked for. Not where
 * somebody waits for it (orders, the console, patches), nor where a download goes on that has begun.
 */
static uint64_t begins_in_ms(const struct node *n, const struct part *p)
{
	const struct node_update *u = &n->state->update;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(512);
	uint8_t digest[SHA256_BYTES];
	uint64_t place = 0, spread_ms = n->config->download.spread_s * 1000;
	char name[SHA256_HEX + 8];
	struct stat st;

	if (spread_ms == 0 || is_urgent(n) || !*p->has_release || !full_artifact(p->release))
		return 0;
	saved_name(full_artifact(p->release), ".part", name);
	if (n->os->fstatat(n->os, n->dirs->spool, name, &st) == 0)
		return 0;
	/* Not the share, which a stage has chosen its nodes by. */
	if (buf_addf(&text, "download/%s/%s", u->rollout, n->config->node) < 0 ||
	    sha256_of(text.data, text.len, digest) < 0)
		return 0;
	for (int i = 0; i < 8; i++)
		place = place << 8 | digest[i];
	return place % spread_ms;
}

/* PHASE_AGAIN until its moment has come. */
static int wait_for_spread(struct node *n, const struct part *p)
{
	struct attempt *t = &n->attempt;
	int r;

	if (t->spread_until_ms == 0) {
		uint64_t wait = begins_in_ms(n, p);

		t->spread_until_ms = node_now_ms(n) + wait;
		if (wait > 0)
			log_notice("download-spread", "component=%s version=%s begins_in=%" PRIu64 "s",
				   p->component, p->to, wait / 1000);
	}
	if (node_now_ms(n) >= t->spread_until_ms)
		return PHASE_DONE;
	r = still_wanted(n);
	if (r < 0)
		return r;
	t->wake_ms = t->spread_until_ms;
	return PHASE_AGAIN;
}

static int begin_part(struct node *n, const struct part *p)
{
	struct attempt *t = &n->attempt;
	int r;

	t->stage_detail[0] = '\0';
	t->road = t->road_end = 0;
	t->slow = t->patient = false;
	if (lies_in_bundle(n, p))
		return begin(n, p);
	r = wait_for_spread(n, p);
	return r == PHASE_DONE ? take_roads(n, p, -ERR_NETWORK) : r;
}

/* The ceiling of this hour is another one: it goes on where it is, under that. */
static bool must_change_pace(struct node *n)
{
	struct attempt *t = &n->attempt;

	return !t->saved && !n->bundle && t->stage_error == 0 && t->bytes_done < t->bytes_total &&
	       rate_now(n) != t->stage_rate;
}

static int stage_part(struct node *n, const struct part *p)
{
	struct attempt *t = &n->attempt;
	int status = 0, r;

	if (p->to[0] == '\0')
		return PHASE_DONE;
	if (t->stage.pid == 0 && t->save_id == 0) {
		if (is_sealed(n, p))
			return PHASE_DONE;
		r = begin_part(n, p);
		if (r < 0 || (t->stage.pid == 0 && t->save_id == 0))
			return r;
	}
	if (t->save_id != 0) {
		r = step_saving(n);
		if (r == PHASE_AGAIN || r == -ECANCELED)
			return r;
		if (r < 0 && !is_of_the_road(r))
			return fail_download(n, p, r);
		r = r < 0 ? take_roads(n, p, r) : begin(n, p);
		if (r < 0)
			return r;
	}
	read_progress(n);
	r = process_poll(&t->stage, &status);
	if (r == 0) {
		tell_progress(n);
		r = still_wanted(n);
		if (r < 0) {
			process_end(&t->stage, 0);
			return r;
		}
		if (must_change_pace(n)) {
			process_end(&t->stage, 0);
			close_progress(t);
			r = begin(n, p);
			if (r < 0)
				return r;
		}
		/* It closes its pipe a moment before it is gone: nothing else would tell of its end. */
		t->wake_ms = node_now_ms(n) + (t->stage_fd < 0 ? ENDING_MS : LOOK_MS);
		return PHASE_AGAIN;
	}
	if (r < 0)
		return update_fail(n, r, "selfright-stage was lost: %s", err_text(r));
	read_progress(n);
	if (t->saved)
		forget_saved(n, full_artifact(p->release));
	if (is_of_the_road(t->stage_error) && !n->alone) {
		close_progress(t);
		t->stage = (struct process){ 0 };
		r = take_roads(n, p, t->stage_error);
		t->wake_ms = node_now_ms(n) + LOOK_MS;
		return r < 0 ? r : PHASE_AGAIN;
	}
	r = finish(n, p, status);
	if (r == 0)
		r = seal(n, p);
	return r < 0 ? r : PHASE_DONE;
}

/* One after the other: each has the whole bandwidth and the whole of the deadline. */
int phase_stage(struct node *n)
{
	struct attempt *t = &n->attempt;

	for (; t->part < update_part_count(n); t->part++, t->spread_until_ms = 0) {
		const struct part p = update_part(n, t->part);
		int r = stage_part(n, &p);

		if (r != PHASE_DONE)
			return r;
	}
	return PHASE_DONE;
}

/* --- a sealed tree that was damaged --- */

static int fail_repair(char *words, size_t size, int r, const char *fmt, ...) PRINTF_LIKE(4, 5);
static int fail_repair(char *words, size_t size, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(words, size, fmt, ap); /* a longer sentence is cut */
	va_end(ap);
	return r;
}

/* Its manifest is kept here; else the team still signs it. */
static int find_manifest(struct node *n, const char *component, const char *version, struct release *ret)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(RELEASE_MAX_BYTES);
	char path[ID_MAX + VERSION_MAX + 32];
	int r = manifest_load(n, component, version, ret);

	if (r == 0)
		return 0;
	(void) snprintf(path, sizeof(path), "%s/%s/release.json", component, version);
	r = tuf_client_read(n->tuf, &n->fetcher, path, RELEASE_MAX_BYTES, &bytes, NULL);
	if (r == 0)
		r = manifest_keep(n, component, version, bytes.data, bytes.len);
	return r < 0 ? r : manifest_load(n, component, version, ret);
}

/* Until it has ended; the console's readers and the services are served meanwhile. */
static int wait_for_stage(struct node *n)
{
	struct attempt *t = &n->attempt;
	int status = 0, r;

	while ((r = process_poll(&t->stage, &status)) == 0) {
		n->pump(n, t->stage_fd < 0 ? ENDING_MS : LOOK_MS);
		read_progress(n);
		if (n->stopping) {
			process_end(&t->stage, 0);
			return -ECANCELED;
		}
	}
	read_progress(n);
	close_progress(t);
	t->stage = (struct process){ 0 };
	if (r < 0)
		return r;
	if (t->stage_error < 0)
		return t->stage_error;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 && t->stage_done ? 0 : -ERR_CHILD;
}

int stage_repair(struct node *n, const char *component, const char *version, char *words, size_t size)
{
	struct release release = { 0 };
	bool has_release = true;
	const struct part p = {
		.component = component, .to = version, .release = &release, .has_release = &has_release
	};
	struct attempt *t = &n->attempt;
	char *offender = NULL;
	int r;

	if (t->stage.pid)
		return fail_repair(words, size, -EBUSY, "a download is under way");
	r = find_manifest(n, component, version, &release);
	if (r < 0)
		return fail_repair(words, size, r, "the manifest of %s %s is not to be had: %s", component,
				   version, err_text(r));
	t->stage_detail[0] = '\0';
	t->road = t->road_end = 0;
	t->patient = true; /* MQTT is not for this */
	n->held = (struct held){ 0 }; /* somebody waits: they are asked, whatever they wished */
	while ((r = next_roads(n) ? 0 : -ERR_NETWORK) == 0 && is_mqtt(n, t->road))
		; /* the link's, which tells only an update */
	if (r < 0 && !n->bundle)
		(void) snprintf(t->stage_detail, sizeof(t->stage_detail),
				"no road to it is open but MQTT, which is for updates"); /* always fits */
	r = n->bundle || r == 0 ? begin(n, &p) : r;
	if (r == 0)
		r = wait_for_stage(n);
	if (r == 0)
		r = seal_replace(n->os, n->dirs->store, component, version, release.tree_digest, &offender);
	if (r < 0) {
		(void) fail_repair(words, size, r, "%s %s: %s%s%s", component, version,
				   t->stage_detail[0] ? t->stage_detail : err_text(r), offender ? ": " : "",
				   offender ? offender : "");
		(void) !seal_abort(n->os, n->dirs->store, component, version); /* else the next start removes it */
	} else {
		log_notice("tree-repaired", "component=%s version=%s", component, version);
		n->report_wanted = true;
	}
	free(offender);
	release_done(&release);
	if (!update_is_active(n)) {
		n->state->update.result = 0; /* it was no update's */
		n->state->update.detail[0] = '\0';
	}
	return r;
}
