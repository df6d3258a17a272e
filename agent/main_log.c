/*
 * selfright-log - moves what a service prints from a pipe into a file with a cap.
 *
 * Usage: selfright-log BYTES, with the pipe as standard input and the file, open for reading
 * and writing, as descriptor 3. Started by the agent for each service and as small as can
 * be: it stays when the agent goes, and ends with the last one that holds the pipe.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_FD = 3, CHUNK = 16 * 1024, CAP_MIN = 4 * CHUNK };

static const char help[] =
	"Usage: selfright-log BYTES\n"
	"Moves standard input into the file open as descriptor 3 and keeps it below BYTES, at least 65536.\n"
	"selfright-agent starts one for each service; there is no need to do it by hand.\n"
	"Example: selfright-log 1048576 3<>app.log <app.pipe\n"
	"Exit codes: 0 the input ended, 1 it could not be read, 2 wrong usage.\n";

static bool write_at(const char *data, size_t len, off_t at)
{
	while (len > 0) {
		ssize_t n = pwrite(FILE_FD, data, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		data += n;
		at += n;
		len -= (size_t) n;
	}
	return true;
}

/* Move the newest `keep` bytes, from the beginning of a line on, to the front. Returns the new size. */
static off_t cut(off_t size, off_t keep)
{
	char chunk[CHUNK];
	off_t from = size > keep ? size - keep : 0, to = 0;
	bool first = from > 0;

	while (from < size) {
		ssize_t n = pread(FILE_FD, chunk, sizeof(chunk), from);
		const char *begin = chunk;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		from += n;
		if (first) {
			const char *line = memchr(chunk, '\n', (size_t) n);

			begin = line ? line + 1 : chunk;
			n -= begin - chunk;
		}
		first = false;
		if (!write_at(begin, (size_t) n, to))
			break;
		to += n;
	}
	/* What could not be kept is lost; that the file stays below its cap is not. */
	return ftruncate(FILE_FD, to) == 0 ? to : 0;
}

/* A full disk or a lost file costs the lines, never the service: it goes on being read. */
static void append(const char *data, size_t len, off_t max)
{
	struct stat st;
	off_t size;

	if (fstat(FILE_FD, &st) < 0)
		return;
	size = st.st_size;
	if (size + (off_t) len > max)
		size = cut(size, max / 2);
	if (size + (off_t) len <= max)
		(void) !write_at(data, len, size);
}

int main(int argc, char **argv)
{
	char chunk[CHUNK], *end = NULL;
	struct stat st;
	long long max;

	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return fputs(help, stdout) < 0;
	max = argc == 2 ? strtoll(argv[1], &end, 10) : 0;
	if (max < CAP_MIN || !end || *end || fstat(FILE_FD, &st) < 0) {
		fputs(help, stderr);
		return 2;
	}
	/* Whoever ends the agent's session, or a terminal, does not mean the log. */
	(void) signal(SIGHUP, SIG_IGN);
	(void) signal(SIGINT, SIG_IGN);
	for (;;) {
		ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0;
		append(chunk, (size_t) n, max);
	}
}
