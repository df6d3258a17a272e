/*
 * selfright-stage - download, verify, unpack; nothing else, and with no rights to do more.
 *
 * The places it may come from are tried in order. One that brings other bytes than the
 * signed ones is left for the next like one that brings none. So is one that is much too slow, as long as there is
 * another: what it brought stays, and where nobody is better the fastest of them goes on.
 *
 * The engine starts it with descriptors: 3 the spool folder, 4 the empty folder to
 * unpack into, 5 a pipe for progress. Bytes from outside are parsed only here, after
 * their length and digest were found to be the signed ones; the engine hashes the
 * tree again before it believes any of it.
 */
#include "base/err.h"
#include "base/log.h"
#include "base/program.h"
#include "base/text.h"
#include "crypto/digest.h"
#include "fetch/bundle.h"
#include "fetch/fetch.h"
#include "fetch/tls.h"
#include "os/confine.h"
#include "os/durable.h"
#include "os/os.h"
#include "pack/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

enum {
	SPOOL_FD = 3,
	TREE_FD = 4,
	PROGRESS_FD = 5,
	SOURCE_FD = 6,
	SOURCES_MAX = 12,
	REDIRECT_HOSTS_MAX = 8,
	ATTEMPTS_PER_URL = 3, /* as long as each brings something */
	CHUNK_BYTES = 256 * 1024,
	PROGRESS_EVERY_MS = 250,
	PATIENCE = 12, /* times --slow-for, until the others are asked again */
	DESCRIPTORS_MAX = 64,
	MEMORY_MAX = 256 * 1024 * 1024, /* address space; xz may use 64 MiB for its dictionary */
	CA_MAX = 1024 * 1024,
};

/* Where the artifact may be. */
struct source {
	const char *url; /* NULL: at hand */
	const char *dir; /* a folder with the repository's tree, or a tar of one */
	struct bundle *bundle;
	int dirfd; /* of the folder, for confine(); -1: none */
	int error; /* why it cannot be opened */
	bool slow; /* it was left for that, */
	uint64_t rate; /* at so many bytes per second */
};

/* How fast what comes comes, looked at once in a while. */
struct pace {
	uint64_t every_ms; /* 0: nobody looks */
	uint64_t since_ms, from; /* when the last look was, and what was here then */
	uint64_t rate; /* between the last two looks, bytes per second */
	bool slow;
};

struct stage {
	const struct os *os;
	/* as asked for */
	struct source sources[SOURCES_MAX];
	size_t source_count;
	const char *redirect_hosts[REDIRECT_HOSTS_MAX];
	size_t redirect_host_count;
	const char *ca_path, *name, *proxy;
	uint64_t length, max_bytes_per_second, offset, time_floor, stall_s;
	uint64_t slow_rate, slow_for_s; /* what is much too slow, and how long it is looked at; 0: nothing is */
	bool yields; /* another road follows: who is slow leaves it to that */
	bool from_descriptor; /* SOURCE_FD holds the artifact, from `offset` on */
	uint8_t sha256[SHA256_BYTES];
	enum pack_media media;
	struct pack_limits limits;
	/* as it goes */
	struct buf ca, reasons;
	struct tls_clock clock;
	int part_fd;
	char part_name[SHA256_HEX + 8], etag_name[SHA256_HEX + 8];
	/* begun elsewhere, where it goes by another tag; nothing of it is dropped before somebody else is faster */
	char kept_name[SHA256_HEX + 8], kept_etag_name[SHA256_HEX + 8];
	struct pace pace;
	char etag[128], saved_etag[128];
	uint64_t told_at_ms;
	bool resumed;
	struct buf detail; /* of the failure, for the last line */
};

static void usage(FILE *out)
{
	fputs("usage: selfright-stage (--url URL... | --dir DIR | --offset N) --name NAME --length N\n"
	      "                       --sha256 HEX --media TYPE --max-bytes N --max-files N [--ca FILE]\n"
	      "\n"
	      "Download one artifact, verify it, unpack it. Started by selfright-agent.\n"
	      "\n"
	      "  --url URL        repository to download from, https only\n"
	      "  --dir DIR        folder with its tree, or a tar of one; several of both are tried in order\n"
	      "  --offset N       descriptor 6 holds the artifact instead, from byte N on (a bundle)\n"
	      "  --ca FILE        trust only the certificates in FILE (PEM), not the system's\n"
	      "  --proxy URL      proxy to use (default: https_proxy and no_proxy of the environment)\n"
	      "  --rate N         at most N bytes per second\n"
	      "  --stall N        leave a server that brings next to nothing for N seconds (default 30)\n"
	      "  --slow N         leave one that brings less than N bytes per second for another, if there is "
	      "one\n"
	      "  --slow-for N     if it does for N seconds (default 300)\n"
	      "  --yield          also where no place here is better: another road follows\n"
	      "  --redirect-host HOST[:PORT]\n"
	      "                   where a server may send on to besides itself; may be given again\n"
	      "  --time-floor N   it is not earlier than that, in seconds since 1970: for certificates\n"
	      "  --name NAME      the file below the repository, e.g. targets/web/1.1.0/SHA256.web.tar.zst\n"
	      "  --length N       its signed length\n"
	      "  --sha256 HEX     its signed SHA-256\n"
	      "  --media TYPE     application/x-tar+zstd, x-tar+gzip, x-tar+xz, x-tar or application/zip\n"
	      "  --max-bytes N    most bytes of all unpacked files\n"
	      "  --max-files N    most unpacked files\n"
	      "  --help, --version\n"
	      "\n"
	      "Descriptors: 3 the spool folder (SHA256.part stays there until it is unpacked, so that a\n"
	      "later start goes on where this one ended), 4 the empty folder to unpack into, 6 with --offset\n"
	      "the file that holds the artifact, 5 progress:\n"
	      "lines \"phase download|verify|unpack\", \"bytes DONE TOTAL\", \"wait SECONDS URL\" (it asked to\n"
	      "be left alone), \"slow BYTES_PER_SECOND PLACE\" (it was left), and last \"done\" or \"error NAME "
	      "detail\". Exit status: 0 done, 1 failed,\n"
	      "2 wrong arguments.\n",
	      out);
}

/* One line to the engine. A pipe takes it whole; nobody to tell if the engine is gone but the next write. */
static int tell(struct stage *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

static int tell(struct stage *s, const char *fmt, ...)
{
	char line[2048];
	va_list ap;
	size_t len;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -EINVAL;
	len = (size_t) n < sizeof(line) - 2 ? (size_t) n : sizeof(line) - 2; /* a longer detail is cut */
	for (size_t i = 0; i < len; i++)
		if ((unsigned char) line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?'; /* names from outside; one event is one line */
	line[len++] = '\n';
	return file_write_all(s->os, PROGRESS_FD, line, len);
}

static int tell_bytes(struct stage *s, uint64_t done, bool always)
{
	uint64_t now = s->os->clock_boot_ms(s->os);

	if (!always && now - s->told_at_ms < PROGRESS_EVERY_MS)
		return 0;
	s->told_at_ms = now;
	return tell(s, "bytes %" PRIu64 " %" PRIu64, done, s->length);
}

/* Note what to say about failure `r`, which is returned. */
static PRINTF_LIKE(3, 4) int fail(struct stage *s, int r, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	(void) vsnprintf(text, sizeof(text), fmt, ap); /* a longer one is cut */
	va_end(ap);
	buf_clear(&s->detail);
	(void) !buf_add_str(&s->detail, text); /* the name alone must do then */
	return r;
}

/* The tag belongs to the bytes in .part; written before more of them come, so that it is there after a kill. */
static int save_etag(struct stage *s)
{
	int fd, r;

	if (strcmp(s->etag, s->saved_etag) == 0)
		return 0;
	fd = s->os->openat(s->os, SPOOL_FD, s->etag_name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return fd;
	/* Half a tag after a kill matches nothing: the download starts over, which is always right. */
	r = file_write_all(s->os, fd, s->etag, strlen(s->etag));
	(void) s->os->close(s->os, fd);
	if (r == 0)
		memcpy(s->saved_etag, s->etag, sizeof(s->etag));
	return r;
}

static void load_etag(struct stage *s)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(sizeof(s->etag) - 1);

	/* Without one the download starts over. */
	if (file_read(s->os, SPOOL_FD, s->etag_name, sizeof(s->etag) - 1, &text) == 0)
		memcpy(s->etag, buf_str(&text), strlen(buf_str(&text)) + 1);
	memcpy(s->saved_etag, s->etag, sizeof(s->etag));
}

/* Words only: what stays lies about until the artifact is here. */
static void drop_kept(struct stage *s)
{
	(void) s->os->unlinkat(s->os, SPOOL_FD, s->kept_name, 0);
	(void) s->os->unlinkat(s->os, SPOOL_FD, s->kept_etag_name, 0);
}

/* Is there another place to leave one for? */
static bool may_be_left(const struct stage *s)
{
	return s->slow_rate > 0 && (s->source_count > 1 || s->yields);
}

static void begin_pace(struct stage *s, uint64_t every_ms, uint64_t bytes)
{
	s->pace = (struct pace){ .every_ms = every_ms, .since_ms = s->os->clock_boot_ms(s->os), .from = bytes };
}

static bool is_too_slow(struct stage *s, uint64_t bytes)
{
	struct pace *p = &s->pace;
	uint64_t spent = s->os->clock_boot_ms(s->os) - p->since_ms;

	if (p->every_ms == 0)
		return false;
	if (bytes < p->from) /* begun anew */
		begin_pace(s, p->every_ms, bytes);
	else if (spent >= p->every_ms) {
		p->rate = (bytes - p->from) * 1000 / spent;
		p->slow = p->rate < s->slow_rate;
		p->since_ms += spent;
		p->from = bytes;
		if (!p->slow)
			drop_kept(s); /* this one brings it to an end */
	}
	return p->slow;
}

static int on_progress(void *user, uint64_t bytes)
{
	struct stage *s = user;

	/* Not worth failing for: the next start would begin anew. */
	(void) save_etag(s);
	return is_too_slow(s, bytes) || tell_bytes(s, bytes, false) < 0;
}

static int part_size(const struct stage *s, uint64_t *ret)
{
	struct stat st;
	int r;

	r = s->os->fstat(s->os, s->part_fd, &st);
	if (r == 0)
		*ret = (uint64_t) st.st_size;
	return r;
}

static int part_restart(struct stage *s)
{
	s->etag[0] = '\0';
	return s->os->ftruncate(s->os, s->part_fd, 0);
}

static uint64_t size_of(const struct stage *s, const char *name)
{
	struct stat st;

	return s->os->fstatat(s->os, SPOOL_FD, name, &st) == 0 ? (uint64_t) st.st_size : 0;
}

/* Under this name from now on; without its tag it cannot be gone on with, and is begun anew. */
static int move(struct stage *s, const char *name, const char *etag_name, const char *to, const char *etag_to)
{
	int r = s->os->renameat(s->os, SPOOL_FD, name, SPOOL_FD, to);

	if (r == 0 && s->os->renameat(s->os, SPOOL_FD, etag_name, SPOOL_FD, etag_to) < 0)
		(void) s->os->unlinkat(s->os, SPOOL_FD, etag_to, 0);
	return r;
}

static int reopen_part(struct stage *s)
{
	int fd = s->os->openat(s->os, SPOOL_FD, s->part_name, O_RDWR | O_CREAT, 0600);

	if (fd < 0)
		return fd;
	(void) s->os->close(s->os, s->part_fd); /* what was not written shows in the digest */
	s->part_fd = fd;
	s->etag[0] = '\0';
	load_etag(s);
	return 0;
}

/* Go on with the one that was begun elsewhere, and keep this one instead. */
static int swap_kept(struct stage *s)
{
	static const char name[] = "swap.part", etag_name[] = "swap.etag";
	int r = move(s, s->part_name, s->etag_name, name, etag_name);

	if (r == 0)
		r = move(s, s->kept_name, s->kept_etag_name, s->part_name, s->etag_name);
	if (r == 0)
		r = move(s, name, etag_name, s->kept_name, s->kept_etag_name);
	return r == 0 ? reopen_part(s) : r;
}

/* Of what was begun the larger one is kept, and one more begun. */
static int begin_another(struct stage *s)
{
	uint64_t here = 0;
	int r = part_size(s, &here);

	if (r == 0 && here >= size_of(s, s->kept_name))
		r = move(s, s->part_name, s->etag_name, s->kept_name, s->kept_etag_name);
	if (r == 0)
		r = reopen_part(s);
	return r == 0 ? part_restart(s) : r;
}

static void add_reason(struct stage *s, int r, const char *text)
{
	/* Words only: the name alone must do then. */
	(void) !buf_addf(&s->reasons, "%s%s", s->reasons.len > 0 ? "; " : "", text && *text ? text : err_text(r));
}

static int download_from(struct stage *s, const char *url)
{
	CLEANUP(http_closep)
	struct http *h = NULL;
	const struct http_options options = { .base_url = url,
					      .ca_pem = s->ca_path ? buf_str(&s->ca) : NULL,
					      .proxy = s->proxy,
					      .clock = &s->clock,
					      .user_agent = "selfright-stage/" SELFRIGHT_VERSION,
					      .low_speed_seconds = (unsigned) s->stall_s,
					      .redirect_hosts = s->redirect_hosts,
					      .redirect_host_count = s->redirect_host_count,
					      .keep_begun = may_be_left(s),
					      .max_bytes_per_second = s->max_bytes_per_second };
	uint64_t before = 0, after = 0;
	bool swapped = false;
	char text[400];
	int r;

	r = http_open(&options, &h);
	if (r < 0) {
		add_reason(s, r, "a URL that cannot be used (https only)");
		return r;
	}
	for (int attempt = 0; attempt < ATTEMPTS_PER_URL; attempt++) {
		r = part_size(s, &before);
		if (r < 0)
			return r;
		s->resumed = s->resumed || (before > 0 && s->etag[0]);
		r = http_save(h, s->name, s->length, s->part_fd, before, s->etag, on_progress, s);
		if (r == -ECANCELED && s->pace.slow) {
			(void) snprintf(text, sizeof(text),
					"%.200s: %" PRIu64 " bytes per second for %" PRIu64 " s", http_host(h),
					s->pace.rate, s->pace.every_ms / 1000);
			add_reason(s, -ERR_DEADLINE, text);
			return -ERR_DEADLINE;
		}
		if (r == 0 || r == -ECANCELED)
			return r;
		if (r == -EEXIST) { /* by another tag than here; it may be the one that is kept */
			r = !swapped && size_of(s, s->kept_name) > 0 ? swap_kept(s) : begin_another(s);
			swapped = true;
			if (r == 0)
				r = part_size(s, &before);
			if (r < 0)
				return r;
			begin_pace(s, s->pace.every_ms, before);
			attempt--; /* it was none */
			continue;
		}
		if (r == -ENOSPC && size_of(s, s->kept_name) > 0) {
			drop_kept(s);
			continue;
		}
		if (part_size(s, &after) < 0 || after <= before || err_class(r) != ERR_CLASS_RETRY)
			break;
	}
	add_reason(s, r, http_error(h));
	if (http_retry_after_s(h) > 0 && tell(s, "wait %" PRIu64 " %s", http_retry_after_s(h), url) < 0)
		return -ECANCELED; /* nobody reads the progress */
	return r;
}

static int write_at(struct stage *s, const uint8_t *data, size_t len, uint64_t offset)
{
	while (len > 0) {
		ssize_t n = s->os->pwrite(s->os, s->part_fd, data, len, offset);

		if (n <= 0)
			return n < 0 ? (int) n : -EIO;
		data += n;
		len -= (size_t) n;
		offset += (uint64_t) n;
	}
	return 0;
}

static int copy_bytes(struct stage *s, int fd, uint64_t offset, uint8_t *chunk)
{
	uint64_t done = 0;
	int r = 0;

	while (r == 0 && done < s->length) {
		uint64_t left = s->length - done;
		ssize_t n = s->os->pread(s->os, fd, chunk, left < CHUNK_BYTES ? (size_t) left : CHUNK_BYTES,
					 offset + done);

		if (n <= 0)
			return n < 0 ? (int) n : -ERR_LENGTH;
		r = write_at(s, chunk, (size_t) n, done);
		done += (uint64_t) n;
		if (r == 0)
			r = tell_bytes(s, done, false);
	}
	return r;
}

/* A copy of our own: a stick could answer otherwise when it is read the second time. */
static int copy_from(struct stage *s, int fd, uint64_t offset)
{
	uint8_t *chunk;
	struct stat st;
	int r = s->os->fstat(s->os, fd, &st);

	if (r < 0)
		return r;
	if (!S_ISREG(st.st_mode))
		return -ERR_NAME;
	r = part_restart(s);
	if (r < 0)
		return r;
	chunk = malloc(CHUNK_BYTES);
	r = chunk ? copy_bytes(s, fd, offset, chunk) : -ENOMEM;
	free(chunk);
	return r;
}

static int copy_from_folder(struct stage *s, const struct source *source)
{
	char text[1024];
	uint64_t offset = 0, size = 0;
	int fd = -1, r = source->error;

	if (r == 0)
		r = bundle_find(source->bundle, s->name, &fd, &offset, &size);
	if (r == 0) {
		r = size == s->length ? copy_from(s, fd, offset) : -ERR_LENGTH;
		(void) s->os->close(s->os, fd); /* only read */
	}
	if (r < 0) {
		(void) snprintf(text, sizeof(text), "%s: %s", source->dir, err_text(r)); /* a longer one is cut */
		add_reason(s, r, text);
	}
	return r;
}

static int hash_part(const struct stage *s, uint8_t ret[static SHA256_BYTES])
{
	CLEANUP(sha256_freep)
	struct sha256 *hash = NULL;
	uint8_t *chunk = malloc(CHUNK_BYTES);
	uint64_t offset = 0;
	int r;

	r = chunk ? sha256_new(&hash) : -ENOMEM;
	while (r == 0) {
		ssize_t n = s->os->pread(s->os, s->part_fd, chunk, CHUNK_BYTES, offset);

		if (n < 0)
			r = (int) n;
		if (n <= 0)
			break;
		r = sha256_add(hash, chunk, (size_t) n);
		offset += (uint64_t) n;
	}
	free(chunk);
	return r == 0 ? sha256_end(hash, ret) : r;
}

/* -ERR_LENGTH and -ERR_DIGEST are the only failures that say something about the bytes. */
static int verify(struct stage *s)
{
	uint8_t digest[SHA256_BYTES];
	char hex[SHA256_HEX + 1];
	uint64_t size = 0;
	int r;

	r = tell(s, "phase verify");
	if (r == 0)
		r = part_size(s, &size);
	if (r < 0)
		return fail(s, r, "the download cannot be read");
	if (size != s->length)
		return fail(s, -ERR_LENGTH, "%" PRIu64 " bytes came, %" PRIu64 " were signed", size, s->length);
	r = hash_part(s, digest);
	if (r < 0)
		return fail(s, r, "the download cannot be read");
	hex_encode(hex, digest, sizeof(digest));
	if (memcmp(digest, s->sha256, sizeof(digest)) != 0)
		return fail(s, -ERR_DIGEST, "what came has SHA-256 %s", hex);
	return 0;
}

static bool is_about_the_bytes(int r)
{
	return r == -ERR_LENGTH || r == -ERR_DIGEST;
}

/* A disk of ours, our memory: no other server mends that. */
static bool is_our_own(int r)
{
	return r != -ENOENT && r > -ERR_BASE_;
}

static int bring_from(struct stage *s, const struct source *source)
{
	int r = source->url ? download_from(s, source->url) : copy_from_folder(s, source);

	return r < 0 ? r : verify(s);
}

/* In words whose bytes were wrong, and none of them stay. */
static int leave(struct stage *s, const struct source *source, int r)
{
	char text[1400];
	const char *where = source->url ? source->url : source->dir;

	if (s->detail.len > 0) { /* copy_from_folder() and download_from() said why already */
		(void) snprintf(text, sizeof(text), "%.300s: %s", where, buf_str(&s->detail));
		add_reason(s, r, text);
	}
	return part_restart(s);
}

/* Once more without what an earlier start, or another place, left: it may have been damaged. */
static int bring_whole(struct stage *s, const struct source *source)
{
	int r = bring_from(s, source);

	if (!is_about_the_bytes(r) || !s->resumed)
		return r;
	s->resumed = false;
	buf_clear(&s->detail);
	r = part_restart(s);
	return r == 0 ? bring_from(s, source) : r;
}

/* From one place. Negative and *ret_over: no other place mends that. */
static int bring_by(struct stage *s, struct source *source, uint64_t every_ms, bool *ret_over)
{
	uint64_t here = 0;
	int r = part_size(s, &here);

	buf_clear(&s->detail);
	begin_pace(s, source->url ? every_ms : 0, here);
	if (r == 0)
		r = bring_whole(s, source);
	source->slow = r == -ERR_DEADLINE && s->pace.slow;
	source->rate = s->pace.rate;
	*ret_over = true;
	if (r == 0)
		return 0;
	if (r == -ECANCELED)
		return fail(s, r, "stopped");
	if (is_about_the_bytes(r) && leave(s, source, r) < 0) {
		add_reason(s, r, "the spool folder cannot be written");
		return r;
	}
	*ret_over = is_our_own(r);
	if (source->slow && tell(s, "slow %" PRIu64 " %s", source->rate, source->url) < 0)
		*ret_over = true; /* nobody reads the progress */
	return r;
}

static struct source *fastest(struct stage *s)
{
	struct source *best = NULL;

	for (size_t i = 0; i < s->source_count; i++)
		if (s->sources[i].slow && (!best || s->sources[i].rate > best->rate))
			best = &s->sources[i];
	return best;
}

/*
 * One after the other; then, where all that bring anything are slow, the fastest of them for longer, and all of them
 * again: one that was away may be back.
 */
static int bring_from_sources(struct stage *s)
{
	uint64_t every_ms = may_be_left(s) ? s->slow_for_s * 1000 : 0;
	struct source *source;
	bool over = false;
	int r;

	do {
		r = -ERR_NETWORK;
		buf_clear(&s->reasons);
		for (size_t i = 0; !over && i < s->source_count; i++)
			r = bring_by(s, &s->sources[i], every_ms, &over);
		while (!over && !s->yields && (source = fastest(s)) != NULL) {
			r = bring_by(s, source, every_ms * PATIENCE, &over);
			if (source->slow)
				break;
		}
	} while (!over && !s->yields && fastest(s));
	if (r == 0 || r == -ECANCELED)
		return r;
	/* That one is slow matters more than what the last place said. */
	if (!over && fastest(s))
		r = -ERR_DEADLINE;
	return fail(s, r, "%s", buf_str(&s->reasons));
}

static int bring_from_bundle(struct stage *s)
{
	int r = copy_from(s, SOURCE_FD, s->offset);

	if (r < 0)
		return fail(s, r, "the bundle: %s", err_text(r));
	return verify(s);
}

/* The verified bytes in .part, from there if they are whole already. */
static int bring_and_verify(struct stage *s)
{
	uint64_t size = 0;
	int r;

	r = part_size(s, &size);
	if (r == 0 && size == s->length && verify(s) == 0)
		return tell_bytes(s, s->length, true);
	if (r == 0 && size >= s->length)
		r = part_restart(s);
	if (r < 0)
		return fail(s, r, "the spool folder cannot be used");
	r = tell(s, "phase download");
	if (r < 0)
		return fail(s, r, "nobody reads the progress");
	r = s->from_descriptor ? bring_from_bundle(s) : bring_from_sources(s);
	if (r == 0)
		r = tell_bytes(s, s->length, true);
	return r;
}

static int unpack(struct stage *s)
{
	char *offender = NULL;
	int r;

	r = tell(s, "phase unpack");
	if (r < 0)
		return fail(s, r, "nobody reads the progress");
	r = pack_extract(s->os, s->part_fd, s->media, TREE_FD, &s->limits, &offender);
	if (r < 0 && offender)
		r = fail(s, r, "'%s': %s", offender, err_text(r));
	else if (r < 0)
		r = fail(s, r, "%s", err_text(r));
	free(offender);
	return r;
}

/* What was used up or cannot be used again is not kept. Closed too: then its bytes need not reach the disk first. */
static void forget_spool(struct stage *s)
{
	(void) s->os->close(s->os, s->part_fd); /* nothing in it is wanted */
	(void) s->os->unlinkat(s->os, SPOOL_FD, s->part_name,
			       0); /* the engine's clean-up removes what we cannot */
	(void) s->os->unlinkat(s->os, SPOOL_FD, s->etag_name, 0);
	drop_kept(s);
}

static int run(struct stage *s)
{
	int r;

	s->part_fd = s->os->openat(s->os, SPOOL_FD, s->part_name, O_RDWR | O_CREAT, 0600);
	if (s->part_fd < 0)
		return fail(s, s->part_fd, "the spool folder cannot be used");
	load_etag(s);
	r = bring_and_verify(s);
	if (r == 0)
		r = unpack(s);
	/* Before the sync, which would write the download out only for it to be removed. */
	if (r == 0 || is_about_the_bytes(r) || r == -ERR_ARCHIVE || r == -ERR_ARCHIVE_ENTRY)
		forget_spool(s);
	if (r < 0)
		return r;
	r = s->os->syncfs(s->os, TREE_FD);
	return r < 0 ? fail(s, r, "the tree could not be synced") : 0;
}

static bool take_number(const char *option, const char *text, uint64_t *ret)
{
	if (parse_u64(text, ret) == 0)
		return true;
	fprintf(stderr, "selfright-stage: --%s '%s' is no number\n", option, text);
	return false;
}

enum option_key {
	KEY_URL = 256,
	KEY_CA,
	KEY_DIR,
	KEY_PROXY,
	KEY_RATE,
	KEY_STALL,
	KEY_SLOW,
	KEY_SLOW_FOR,
	KEY_YIELD,
	KEY_REDIRECT_HOST,
	KEY_OFFSET,
	KEY_TIME_FLOOR,
	KEY_NAME,
	KEY_LENGTH,
	KEY_SHA256,
	KEY_MEDIA,
	KEY_MAX_BYTES,
	KEY_MAX_FILES,
	KEY_HELP,
	KEY_VERSION,
};

static const struct option options[] = {
	{ "url", required_argument, NULL, KEY_URL },
	{ "ca", required_argument, NULL, KEY_CA },
	{ "dir", required_argument, NULL, KEY_DIR },
	{ "proxy", required_argument, NULL, KEY_PROXY },
	{ "rate", required_argument, NULL, KEY_RATE },
	{ "stall", required_argument, NULL, KEY_STALL },
	{ "slow", required_argument, NULL, KEY_SLOW },
	{ "slow-for", required_argument, NULL, KEY_SLOW_FOR },
	{ "yield", no_argument, NULL, KEY_YIELD },
	{ "redirect-host", required_argument, NULL, KEY_REDIRECT_HOST },
	{ "offset", required_argument, NULL, KEY_OFFSET },
	{ "time-floor", required_argument, NULL, KEY_TIME_FLOOR },
	{ "name", required_argument, NULL, KEY_NAME },
	{ "length", required_argument, NULL, KEY_LENGTH },
	{ "sha256", required_argument, NULL, KEY_SHA256 },
	{ "media", required_argument, NULL, KEY_MEDIA },
	{ "max-bytes", required_argument, NULL, KEY_MAX_BYTES },
	{ "max-files", required_argument, NULL, KEY_MAX_FILES },
	{ "help", no_argument, NULL, KEY_HELP },
	{ "version", no_argument, NULL, KEY_VERSION },
	{ NULL, 0, NULL, 0 },
};

static bool take_sha256(struct stage *s, const char *hex)
{
	if (hex_decode(s->sha256, sizeof(s->sha256), hex, false) < 0) {
		fprintf(stderr, "selfright-stage: --sha256 takes 64 lower-case hex digits\n");
		return false;
	}
	(void) snprintf(s->part_name, sizeof(s->part_name), "%s.part", hex); /* both always fit */
	(void) snprintf(s->etag_name, sizeof(s->etag_name), "%s.etag", hex);
	(void) snprintf(s->kept_name, sizeof(s->kept_name), "%s.kept", hex);
	(void) snprintf(s->kept_etag_name, sizeof(s->kept_etag_name), "%s.ktag", hex);
	return true;
}

static bool take_media(struct stage *s, const char *name)
{
	int media = pack_media_parse(name);

	if (media < 0) {
		fprintf(stderr, "selfright-stage: no media type is called '%s'\n", name);
		return false;
	}
	s->media = (enum pack_media) media;
	return true;
}

static bool take_source(struct stage *s, const char *url, const char *dir)
{
	if (s->source_count == SOURCES_MAX) {
		fprintf(stderr, "selfright-stage: at most %d times --url and --dir\n", (int) SOURCES_MAX);
		return false;
	}
	s->sources[s->source_count++] = (struct source){ .url = url, .dir = dir, .dirfd = -1 };
	return true;
}

static bool take_redirect_host(struct stage *s, const char *host)
{
	if (s->redirect_host_count == REDIRECT_HOSTS_MAX) {
		fprintf(stderr, "selfright-stage: at most %d times --redirect-host\n", (int) REDIRECT_HOSTS_MAX);
		return false;
	}
	s->redirect_hosts[s->redirect_host_count++] = host;
	return true;
}

static bool take_stall(struct stage *s, const char *text)
{
	if (!take_number("stall", text, &s->stall_s))
		return false;
	if (s->stall_s >= 1 && s->stall_s <= 3600)
		return true;
	fprintf(stderr, "selfright-stage: --stall takes 1 to 3600 seconds\n");
	return false;
}

static bool take_slow_for(struct stage *s, const char *text)
{
	if (!take_number("slow-for", text, &s->slow_for_s))
		return false;
	if (s->slow_for_s >= 1 && s->slow_for_s <= 86400)
		return true;
	fprintf(stderr, "selfright-stage: --slow-for takes 1 to 86400 seconds\n");
	return false;
}

static bool take_option(struct stage *s, int key, const char *value)
{
	switch (key) {
	case KEY_URL:
		return take_source(s, value, NULL);
	case KEY_CA:
		s->ca_path = value;
		return true;
	case KEY_DIR:
		return take_source(s, NULL, value);
	case KEY_PROXY:
		s->proxy = value;
		return true;
	case KEY_RATE:
		return take_number("rate", value, &s->max_bytes_per_second);
	case KEY_STALL:
		return take_stall(s, value);
	case KEY_SLOW:
		return take_number("slow", value, &s->slow_rate);
	case KEY_SLOW_FOR:
		return take_slow_for(s, value);
	case KEY_YIELD:
		s->yields = true;
		return true;
	case KEY_REDIRECT_HOST:
		return take_redirect_host(s, value);
	case KEY_OFFSET:
		s->from_descriptor = true;
		return take_number("offset", value, &s->offset);
	case KEY_TIME_FLOOR:
		return take_number("time-floor", value, &s->time_floor);
	case KEY_NAME:
		s->name = value;
		return true;
	case KEY_LENGTH:
		return take_number("length", value, &s->length);
	case KEY_SHA256:
		return take_sha256(s, value);
	case KEY_MEDIA:
		return take_media(s, value);
	case KEY_MAX_BYTES:
		return take_number("max-bytes", value, &s->limits.max_bytes);
	case KEY_MAX_FILES:
		return take_number("max-files", value, &s->limits.max_files);
	default:
		return false; /* getopt said why */
	}
}

/* 0 to go on, else the exit status + 1. */
static int take_arguments(struct stage *s, int argc, char **argv)
{
	unsigned seen = 0;
	int key;

	while ((key = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (key == KEY_HELP) {
			usage(stdout);
			return 1;
		}
		if (key == KEY_VERSION) {
			printf("selfright-stage %s\n", program_version);
			return 1;
		}
		if (!take_option(s, key, optarg))
			return 3;
		seen |= 1u << (key - KEY_URL);
	}
	for (int needed = KEY_NAME; needed <= KEY_MAX_FILES; needed++)
		if (!(seen & 1u << (needed - KEY_URL))) {
			fprintf(stderr, "selfright-stage: --%s is missing (see --help)\n",
				options[needed - KEY_URL].name);
			return 3;
		}
	if (optind < argc || (s->source_count > 0) == s->from_descriptor) {
		fprintf(stderr,
			"selfright-stage: --url and --dir, or --offset, and no other arguments (see --help)\n");
		return 3;
	}
	if (!guard_path(s->name)) {
		fprintf(stderr, "selfright-stage: --name is no path inside a repository\n");
		return 3;
	}
	return 0;
}

static bool is_folder(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool descriptors_are_there(const struct stage *s)
{
	if (is_folder(SPOOL_FD) && is_folder(TREE_FD) && fcntl(PROGRESS_FD, F_GETFD) >= 0 &&
	    (!s->from_descriptor || fcntl(SOURCE_FD, F_GETFD) >= 0))
		return true;
	fputs("selfright-stage: descriptors 3 (spool folder), 4 (folder to unpack into), 5 (progress) and\n"
	      "with --offset 6 (the bundle) must be open; it is started by selfright-agent\n",
	      stderr);
	return false;
}

static int confine(struct stage *s)
{
	int writable[] = { SPOOL_FD, TREE_FD }, readable[SOURCES_MAX], r;
	size_t count = 0;

	_Static_assert((int) SOURCES_MAX <= (int) CONFINE_READABLE_MAX, "all sources may be folders");
	for (size_t i = 0; i < s->source_count; i++)
		if (s->sources[i].dirfd >= 0)
			readable[count++] = s->sources[i].dirfd;
	r = confine_client(writable, ARRAY_LEN(writable), readable, count);
	if (r < 0)
		return fail(s, r, "the process cannot be confined");
	return 0;
}

static int open_folder(const struct stage *s, struct source *source)
{
	int fd = dir_open(s->os, AT_FDCWD, source->dir), r;

	if (fd == -ENOTDIR) {
		/* An operator's own path may hold links: open(2) itself. */
		fd = open(source->dir, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		fd = fd < 0 ? -errno : fd;
	} else if (fd >= 0) {
		source->dirfd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (source->dirfd < 0) {
			r = -errno;
			(void) close(fd); /* only looked at */
			return r;
		}
	}
	if (fd < 0)
		return fd;
	r = bundle_open(s->os, fd, &source->bundle);
	if (r < 0)
		(void) close(fd); /* only looked at */
	return r;
}

static int prepare(struct stage *s)
{
	int r;

	r = confine_limits(MEMORY_MAX, DESCRIPTORS_MAX);
	if (r < 0)
		return fail(s, r, "the process cannot be limited");
	if (s->ca_path) {
		r = file_read(s->os, AT_FDCWD, s->ca_path, CA_MAX, &s->ca);
		if (r < 0)
			return fail(s, r, "%s: %s", s->ca_path, err_text(r));
	}
	/* A stick that is not there is one place less. */
	for (size_t i = 0; i < s->source_count; i++) {
		struct source *source = &s->sources[i];

		if (source->url)
			continue;
		source->error = open_folder(s, source);
	}
	return confine(s);
}

int main(int argc, char **argv)
{
	struct stage s = { .os = &os_posix,
			   .ca = BUF_INIT(CA_MAX),
			   .reasons = BUF_INIT(1024),
			   .detail = BUF_INIT(1024),
			   .slow_for_s = 300,
			   .part_fd = -1 };
	int r, status;

	log_set_program("selfright-stage");
	status = take_arguments(&s, argc, argv);
	if (status > 0)
		return status - 1;
	if (!descriptors_are_there(&s))
		return 2;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
	    confine_descriptors(s.from_descriptor ? SOURCE_FD + 1 : PROGRESS_FD + 1) < 0)
		return 2;
	(void) umask(022);
	tls_clock_init(&s.clock, s.os, (int64_t) (s.time_floor & INT64_MAX));
	s.clock.synchronised = adjtimex(&(struct timex){ .modes = 0 }) != TIME_ERROR;
	r = prepare(&s);
	if (r == 0)
		r = run(&s);
	if (r == 0)
		r = tell(&s, "done");
	else
		(void) tell(&s, "error %s %s", err_name(r), buf_str(&s.detail)); /* the exit status says it too */
	for (size_t i = 0; i < s.source_count; i++)
		bundle_close(s.sources[i].bundle);
	buf_done(&s.ca);
	buf_done(&s.reasons);
	buf_done(&s.detail);
	return r == 0 ? 0 : 1;
}
