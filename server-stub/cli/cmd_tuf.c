#include "server-stub/cli/cli.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "fetch/fetch.h"
#include "os/durable.h"
#include "os/os.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { URL_MAX = 16 * 1024, NAMES_MAX = 4096, CA_MAX = 1024 * 1024 };

struct arguments {
	const char *word, *operand;
	const char *metadata_dir, *metadata_url, *target_dir, *target_base_url, *ca;
	const char *names[NAMES_MAX];
	size_t name_count;
};

static const char usage_text[] =
	"usage: selfright tuf --metadata-dir DIR init ROOTFILE\n"
	"       selfright tuf --metadata-dir DIR --metadata-url URL refresh\n"
	"       selfright tuf --metadata-dir DIR --metadata-url URL --target-name NAME [--target-name NAME ...]\n"
	"                     --target-dir DIR --target-base-url URL download\n"
	"\n"
	"A client for any TUF repository (specification 1.0.34): init takes ROOTFILE as trusted\n"
	"root, refresh updates the trusted metadata in DIR, download refreshes and then fetches\n"
	"the targets in order, each verified before it gets its name. Options may stand before\n"
	"or after the word. --ca FILE trusts that CA (PEM) alone for https, for a server with a\n"
	"certificate of its own. The exit status is 0, or 1 for any failure.\n"
	"\n"
	"example: selfright tuf --metadata-dir trust init root.json\n"
	"         selfright tuf --metadata-dir trust --metadata-url https://example.org/metadata refresh\n";

static int fail(const char *what, int r)
{
	(void) fprintf(stderr, "selfright tuf: %s: %s\n", what, err_text(r)); /* nowhere else to say it */
	return 1;
}

static int fail_client(const struct tuf_client *c, int r)
{
	const char *reason = tuf_client_error(c);

	(void) fprintf(stderr, "selfright tuf: %s\n", *reason ? reason : err_text(r)); /* as above */
	return 1;
}

static int usage(const char *problem)
{
	(void) fprintf(stderr, "selfright tuf: %s\n\n%s", problem, usage_text); /* as above */
	return 1;
}

/* --- arguments --- */

enum option_id {
	OPT_METADATA_DIR = 256,
	OPT_METADATA_URL,
	OPT_TARGET_NAME,
	OPT_TARGET_DIR,
	OPT_TARGET_BASE_URL,
	OPT_CA,
	OPT_HELP
};

static const struct option options[] = {
	{ "metadata-dir", required_argument, NULL, OPT_METADATA_DIR },
	{ "metadata-url", required_argument, NULL, OPT_METADATA_URL },
	{ "target-name", required_argument, NULL, OPT_TARGET_NAME },
	{ "target-dir", required_argument, NULL, OPT_TARGET_DIR },
	{ "target-base-url", required_argument, NULL, OPT_TARGET_BASE_URL },
	{ "ca", required_argument, NULL, OPT_CA },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static int take_word(struct arguments *a, const char *text)
{
	if (!a->word)
		a->word = text;
	else if (!a->operand)
		a->operand = text;
	else
		return -EINVAL;
	return 0;
}

/* 0, 1 for help, -EINVAL. The '-' in front makes words and options come in any order, whatever POSIXLY_CORRECT says. */
static int parse(int argc, char **argv, struct arguments *a)
{
	int opt, r = 0;

	optind = 0; /* this program may have parsed another command line before */
	opterr = 0;
	while (r >= 0 && (opt = getopt_long(argc, argv, "-h", options, NULL)) != -1) {
		switch (opt) {
		case 1:
			r = take_word(a, optarg);
			break;
		case OPT_METADATA_DIR:
			a->metadata_dir = optarg;
			break;
		case OPT_METADATA_URL:
			a->metadata_url = optarg;
			break;
		case OPT_TARGET_NAME:
			if (a->name_count == NAMES_MAX)
				return -EINVAL;
			a->names[a->name_count++] = optarg;
			break;
		case OPT_TARGET_DIR:
			a->target_dir = optarg;
			break;
		case OPT_TARGET_BASE_URL:
			a->target_base_url = optarg;
			break;
		case OPT_CA:
			a->ca = optarg;
			break;
		case OPT_HELP:
		case 'h':
			return 1;
		default:
			return -EINVAL;
		}
	}
	for (; r >= 0 && optind < argc; optind++)
		r = take_word(a, argv[optind]);
	return r;
}

/* --- the repository over HTTP --- */

/*
 * Names of metadata come percent-encoded from the client (a role may be called
 * "a/b"), so they are sent as they are; http_fetcher would encode them again.
 */
struct metadata_fetcher {
	struct fetcher fetcher;
	struct http *http;
};

static int metadata_get(struct fetcher *f, const char *name, uint64_t max, struct buf *ret)
{
	struct metadata_fetcher *m = (struct metadata_fetcher *) f;
	CLEANUP(buf_done)
	struct buf body = BUF_INIT(max < SIZE_MAX ? (size_t) max : SIZE_MAX - 1);
	struct http_response response = { 0 };
	int r;

	r = http_request(m->http, "GET", name, NULL, NULL, 0, 0, &response, &body);
	if (r < 0)
		return r;
	/* Some storage services answer 403 for what they do not have. */
	if (response.status == 404 || response.status == 403)
		return -ENOENT;
	if (response.status != 200)
		return -ERR_HTTP_STATUS;
	return buf_add(ret, body.data, body.len);
}

static int open_http(const char *url, const char *ca, struct http **ret)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(CA_MAX);
	struct http_options o = {
		.base_url = url,
		.user_agent = "selfright-tuf/" SELFRIGHT_VERSION,
		.allow_plain_http = true,
	};
	int r = ca ? file_read(&os_posix, AT_FDCWD, ca, CA_MAX, &pem) : 0;

	if (r < 0)
		return r;
	o.ca_pem = ca ? buf_str(&pem) : NULL;
	return http_open(&o, ret);
}

/* --- the target folder --- */

/* Does this descriptor hold exactly the target? Mapped, because targets may be large. */
static int check_file(int fd, const struct tuf_target *t)
{
	struct stat st;
	void *map;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t) st.st_size != t->length)
		return -ERR_LENGTH;
	if (t->length == 0)
		return tuf_target_check(t, "", 0);
	map = mmap(NULL, (size_t) t->length, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	r = tuf_target_check(t, map, (size_t) t->length);
	(void) munmap(map, (size_t) t->length); /* a mapping of ours */
	return r;
}

static bool is_there(int dirfd, const char *name, const struct tuf_target *t)
{
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bool there;

	if (fd < 0)
		return false;
	there = check_file(fd, t) == 0;
	(void) close(fd); /* only read from */
	return there;
}

/* Into a name of its own first; no target's file name has a '%' before a 'p'. */
static int fetch_target(struct http *http, int dirfd, const char *name, const struct tuf_target *t,
			bool consistent)
{
	CLEANUP(buf_done)
	struct buf remote = BUF_INIT(URL_MAX);
	char pending[32], etag[128] = "";
	int fd, r;

	r = tuf_target_file(t, "", consistent, &remote);
	if (r < 0)
		return r;
	(void) snprintf(pending, sizeof(pending), "%%pending-%ld", (long) getpid()); /* always fits */
	fd = openat(dirfd, pending, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	r = http_save(http, buf_str(&remote), t->length, fd, 0, etag, NULL, NULL);
	if (r >= 0)
		r = check_file(fd, t);
	if (r >= 0 && fsync(fd) < 0)
		r = -errno;
	(void) close(fd); /* synced, or thrown away */
	if (r >= 0 && renameat(dirfd, pending, dirfd, name) < 0)
		r = -errno;
	if (r >= 0 && fsync(dirfd) < 0)
		r = -errno;
	if (r < 0)
		(void) unlinkat(dirfd, pending, 0); /* nothing more to do about it */
	return r;
}

static int download_one(struct tuf_client *c, struct fetcher *metadata, struct http *targets, int dirfd,
			const char *path)
{
	CLEANUP(buf_done)
	struct buf name = BUF_INIT(NAME_MAX);
	struct tuf_target t;
	char quoted[256];
	int r;

	r = tuf_client_find(c, metadata, path, &t);
	if (r < 0)
		return fail_client(c, r);
	r = tuf_file_name(path, "", &name);
	if (r < 0)
		return fail(log_quote(quoted, sizeof(quoted), path), r);
	if (is_there(dirfd, buf_str(&name), &t))
		return 0;
	r = fetch_target(targets, dirfd, buf_str(&name), &t, tuf_client_is_consistent(c));
	return r < 0 ? fail(log_quote(quoted, sizeof(quoted), path), r) : 0;
}

/* --- the words --- */

static int init(struct tuf_client *c, const struct arguments *a)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT((size_t) tuf_limits_default.root);
	uint8_t chunk[4096];
	ssize_t n = 0;
	int fd, r = 0;

	fd = open(a->operand, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fail(a->operand, -errno);
	while (r >= 0 && (n = read(fd, chunk, sizeof(chunk))) > 0)
		r = buf_add(&bytes, chunk, (size_t) n);
	if (n < 0)
		r = -errno;
	(void) close(fd); /* only read from */
	if (r < 0)
		return fail(a->operand, r);
	r = tuf_client_init(c, bytes.data, bytes.len);
	return r < 0 ? fail_client(c, r) : 0;
}

static int refresh(struct tuf_client *c, const struct arguments *a, struct metadata_fetcher *ret_fetcher)
{
	int r;

	if (!tuf_client_has_root(c))
		return fail_client(c, -ERR_UNTRUSTED);
	r = open_http(a->metadata_url, a->ca, &ret_fetcher->http);
	if (r < 0)
		return fail(a->metadata_url, r);
	ret_fetcher->fetcher.get = metadata_get;
	r = tuf_client_refresh(c, &ret_fetcher->fetcher, NULL);
	return r < 0 ? fail_client(c, r) : 0;
}

static int download(struct tuf_client *c, const struct arguments *a, struct metadata_fetcher *metadata)
{
	CLEANUP(http_closep)
	struct http *targets = NULL;
	int dirfd, r, status;

	status = refresh(c, a, metadata);
	if (status != 0)
		return status;
	r = open_http(a->target_base_url, a->ca, &targets);
	if (r < 0)
		return fail(a->target_base_url, r);
	if (mkdir(a->target_dir, 0755) < 0 && errno != EEXIST)
		return fail(a->target_dir, -errno);
	dirfd = open(a->target_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return fail(a->target_dir, -errno);
	for (size_t i = 0; i < a->name_count && status == 0; i++)
		status = download_one(c, &metadata->fetcher, targets, dirfd, a->names[i]);
	(void) close(dirfd); /* a folder */
	return status;
}

static const char *check(const struct arguments *a)
{
	if (!a->word)
		return "one of init, refresh and download is missing";
	if (!a->metadata_dir)
		return "--metadata-dir is missing";
	if (strcmp(a->word, "init") == 0)
		return a->operand ? NULL : "init needs a root file";
	if (a->operand)
		return "too many words";
	if (strcmp(a->word, "refresh") != 0 && strcmp(a->word, "download") != 0)
		return "not one of init, refresh and download";
	if (!a->metadata_url)
		return "--metadata-url is missing";
	if (strcmp(a->word, "refresh") == 0)
		return NULL;
	if (a->name_count == 0)
		return "--target-name is missing";
	if (!a->target_dir)
		return "--target-dir is missing";
	return a->target_base_url ? NULL : "--target-base-url is missing";
}

static int run(struct tuf_client *c, const struct arguments *a)
{
	struct metadata_fetcher metadata = { .http = NULL };
	int status;

	if (strcmp(a->word, "init") == 0)
		return init(c, a);
	status = strcmp(a->word, "refresh") == 0 ? refresh(c, a, &metadata) : download(c, a, &metadata);
	http_close(metadata.http);
	return status;
}

int cmd_tuf(int argc, char **argv)
{
	struct arguments a = { .name_count = 0 };
	struct tuf_options o = {
		.os = &os_posix,
		.prefix = "",
		.targets_prefix = "",
		.limits = tuf_limits_default,
		.foreign_keyids = true,
	};
	struct tuf_client *c = NULL;
	const char *problem;
	int r, status;

	r = parse(argc, argv, &a);
	if (r > 0)
		return fputs(usage_text, stdout) < 0;
	problem = r < 0 ? "cannot understand these arguments" : check(&a);
	if (problem)
		return usage(problem);

	if (strcmp(a.word, "init") == 0 && mkdir(a.metadata_dir, 0755) < 0 && errno != EEXIST)
		return fail(a.metadata_dir, -errno);
	o.dirfd = open(a.metadata_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (o.dirfd < 0)
		return fail(a.metadata_dir, -errno);
	r = tuf_client_open(&o, &c);
	status = r < 0 ? fail(a.metadata_dir, r) : run(c, &a);
	tuf_client_close(c);
	(void) close(o.dirfd); /* a folder */
	return status;
}
