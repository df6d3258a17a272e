#include "server-stub/web/file.h"

#include "base/err.h"
#include "base/text.h"
#include "os/durable.h"
#include "server-stub/web/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool all_digits(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return len > 0;
}

static bool named_by_hash(const char *name)
{
	if (strlen(name) <= SHA256_HEX || name[SHA256_HEX] != '.')
		return false;
	for (size_t i = 0; i < SHA256_HEX; i++)
		if (!strchr("0123456789abcdef", name[i]))
			return false;
	return true;
}

bool file_name_is_immutable(const char *name)
{
	const char *dot = strchr(name, '.');

	return named_by_hash(name) || (dot && all_digits(name, (size_t) (dot - name)) && strchr(dot + 1, '.'));
}

/* A decimal that fits, up to `end`. */
static bool parse_part(const char *s, const char *end, uint64_t *ret)
{
	char digits[24];
	size_t len = (size_t) (end - s);

	if (len == 0 || len >= sizeof(digits))
		return false;
	memcpy(digits, s, len);
	digits[len] = '\0';
	return parse_u64(digits, ret) == 0;
}

enum range_verdict range_parse(const char *text, uint64_t size, uint64_t *ret_first, uint64_t *ret_length)
{
	const char *spec, *dash;
	uint64_t first, last;

	if (!text || !str_starts(text, "bytes=") || strchr(text, ','))
		return RANGE_WHOLE;
	spec = text + strlen("bytes=");
	dash = strchr(spec, '-');
	if (!dash)
		return RANGE_WHOLE;
	if (dash == spec) {
		if (!parse_part(dash + 1, dash + strlen(dash), &last))
			return RANGE_WHOLE;
		if (last == 0 || size == 0)
			return RANGE_OUTSIDE;
		*ret_first = last < size ? size - last : 0;
		*ret_length = size - *ret_first;
		return RANGE_PART;
	}
	if (!parse_part(spec, dash, &first))
		return RANGE_WHOLE;
	last = size;
	if (dash[1] && (!parse_part(dash + 1, dash + strlen(dash), &last) || last < first))
		return RANGE_WHOLE;
	if (first >= size)
		return RANGE_OUTSIDE;
	if (last >= size)
		last = size - 1;
	*ret_first = first;
	*ret_length = last - first + 1;
	return RANGE_PART;
}

static const char *content_type(const char *name)
{
	size_t len = strlen(name);

	return len > 5 && strcmp(name + len - 5, ".json") == 0 ? "application/json" : "application/octet-stream";
}

/* Opens it without following a link anywhere on the way. A descriptor or a negative error. */
static int open_file(const struct os *os, int dirfd, const char *path, struct stat *ret)
{
	const char *slash = strrchr(path, '/');
	int dir = dirfd, fd, r;

	if (slash) {
		char parent[1025];
		size_t len = (size_t) (slash - path);

		if (len >= sizeof(parent))
			return -ENOENT;
		memcpy(parent, path, len);
		parent[len] = '\0';
		dir = dir_open(os, dirfd, parent);
		if (dir < 0)
			return dir;
	}
	fd = os->openat(os, dir, slash ? slash + 1 : path, O_RDONLY | O_NONBLOCK, 0);
	if (slash)
		(void) os->close(os, dir);
	if (fd < 0)
		return fd;
	r = os->fstat(os, fd, ret);
	if (r == 0 && !S_ISREG(ret->st_mode))
		r = -ENOENT;
	if (r < 0) {
		(void) os->close(os, fd);
		return r;
	}
	return fd;
}

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
	if (response)
		(void) MHD_add_response_header(response, name, value); /* without it the client only asks again */
}

void file_answer(struct web_request *rq, const struct os *os, int dirfd, const char *path)
{
	const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path, *asked, *if_range;
	struct MHD_Response *response;
	enum range_verdict range = RANGE_WHOLE;
	uint64_t size, first = 0, length;
	unsigned status = MHD_HTTP_OK;
	char etag[SHA256_HEX + 3], text[96];
	struct stat st;
	int fd;

	fd = guard_path(path) ? open_file(os, dirfd, path, &st) : -ENOENT;
	if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -EIO) {
		web_fail(rq, MHD_HTTP_SERVICE_UNAVAILABLE, "the file cannot be read now: %s", err_text(fd));
		return;
	}
	if (fd < 0) {
		web_fail(rq, MHD_HTTP_NOT_FOUND, "there is no such file");
		return;
	}
	size = length = (uint64_t) st.st_size;
	if (named_by_hash(name))
		snprintf(etag, sizeof(etag), "\"%.64s\"", name);
	else
		snprintf(etag, sizeof(etag), "\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 ".%" PRIx64 "\"",
			 (uint64_t) st.st_ino, size, (uint64_t) st.st_mtim.tv_sec, (uint64_t) st.st_mtim.tv_nsec);

	asked = MHD_lookup_connection_value(rq->mhd, MHD_HEADER_KIND, "If-None-Match");
	if (asked && (strcmp(asked, "*") == 0 || strstr(asked, etag))) {
		(void) os->close(os, fd);
		response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
		add_header(response, "ETag", etag);
		web_send(rq, MHD_HTTP_NOT_MODIFIED, response);
		return;
	}
	if_range = MHD_lookup_connection_value(rq->mhd, MHD_HEADER_KIND, "If-Range");
	if (!if_range || strcmp(if_range, etag) == 0)
		range = range_parse(MHD_lookup_connection_value(rq->mhd, MHD_HEADER_KIND, "Range"), size, &first,
				    &length);
	if (range == RANGE_OUTSIDE) {
		(void) os->close(os, fd);
		response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
		snprintf(text, sizeof(text), "bytes */%" PRIu64, size);
		add_header(response, "Content-Range", text);
		web_send(rq, MHD_HTTP_RANGE_NOT_SATISFIABLE, response);
		return;
	}
	response = MHD_create_response_from_fd_at_offset64(length, fd, first);
	if (!response) {
		(void) os->close(os, fd);
		web_send(rq, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL);
		return;
	}
	if (range == RANGE_PART) {
		status = MHD_HTTP_PARTIAL_CONTENT;
		snprintf(text, sizeof(text), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, first, first + length - 1,
			 size);
		add_header(response, "Content-Range", text);
	}
	add_header(response, "Accept-Ranges", "bytes");
	add_header(response, "ETag", etag);
	add_header(response, "Content-Type", content_type(name));
	add_header(response, "Cache-Control",
		   file_name_is_immutable(name) ? "public, max-age=31536000, immutable" : "no-cache");
	web_send(rq, status, response);
}
