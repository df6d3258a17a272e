#include "agent/local/supervisor.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

bool supervisor_version_of(const char *program, const char *root, char *ret, size_t size)
{
	char prefix[PATH_MAX];
	const char *version, *end;
	int n = snprintf(prefix, sizeof(prefix), "%s/store/agent/", root);

	if (n < 0 || (size_t) n >= sizeof(prefix) || !str_starts(program, prefix))
		return false;
	version = program + n;
	end = strchr(version, '/');
	if (!end || !str_starts(end, "/bin/") || (size_t) (end - version) >= size)
		return false;
	memcpy(ret, version, (size_t) (end - version));
	ret[end - version] = '\0';
	if (version_is_valid(ret))
		return true;
	ret[0] = '\0';
	return false;
}

static void take(const char *name, char *out, size_t size)
{
	const char *value = getenv(name);

	(void) snprintf(out, size, "%s", value ? value : ""); /* a longer one is cut */
	(void) unsetenv(name); /* cannot fail: it is a name */
}

void supervisor_open(struct supervisor *s, const char *root)
{
	char self[PATH_MAX], real[PATH_MAX], fd[16];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	uint64_t number = 0;
	struct stat st;

	*s = (struct supervisor){ .fd = -1 };
	self[n > 0 ? n : 0] = '\0';
	if (realpath(root, real))
		(void) supervisor_version_of(self, real, s->running,
					     sizeof(s->running)); /* else the packaged one */
	take("SELFRIGHT_SUPERVISOR_FD", fd, sizeof(fd));
	take("SELFRIGHT_PACKAGED_AGENT", s->packaged, sizeof(s->packaged));
	take("SELFRIGHT_FAILED_UPDATE", s->failed_update, sizeof(s->failed_update));
	take("SELFRIGHT_FAILED_HOW", s->failed_how, sizeof(s->failed_how));
	if (parse_u64(fd, &number) < 0 || number < 3 || number > 1000 || fstat((int) number, &st) < 0 ||
	    !S_ISSOCK(st.st_mode))
		return;
	s->fd = (int) number;
	(void) fcntl(s->fd, F_SETFD, FD_CLOEXEC); /* it was open a moment ago */
	(void) fcntl(s->fd, F_SETFL, O_NONBLOCK); /* likewise */
}

void supervisor_close(struct supervisor *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

bool supervisor_is_there(const struct supervisor *s)
{
	return s->fd >= 0;
}

/* A dozen bytes on a socket that carries nothing else: they fit, or the other end is gone. */
static int say(struct supervisor *s, const char *word)
{
	ssize_t n = s->fd < 0 ? -1 : send(s->fd, word, strlen(word), MSG_NOSIGNAL | MSG_DONTWAIT);

	return n == (ssize_t) strlen(word) ? 0 : -ERR_PEER_GONE;
}

void supervisor_ready(struct supervisor *s)
{
	(void) !say(s, "ready\n"); /* without it we are started less patiently, that is all */
}

int supervisor_confirm(struct supervisor *s)
{
	ssize_t n;
	int r;

	if (s->confirmed)
		return 1;
	if (!s->asked) {
		r = say(s, "confirm\n");
		if (r < 0)
			return r;
		s->asked = true;
	}
	n = recv(s->fd, s->heard + s->heard_len, sizeof(s->heard) - 1 - s->heard_len, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		return -ERR_PEER_GONE;
	if (n > 0)
		s->heard_len += (size_t) n;
	s->heard[s->heard_len] = '\0';
	s->confirmed = str_eq(s->heard, "confirmed\n");
	return s->confirmed ? 1 : s->heard_len + 1 < sizeof(s->heard) ? 0 : -ERR_PROTOCOL;
}
