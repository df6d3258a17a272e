#include "os/unixsock.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int make_address(const char *path, struct sockaddr_un *ret)
{
	size_t len = strlen(path);

	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	if (len == 0 || len >= sizeof(ret->sun_path))
		return len == 0 ? -EINVAL : -ENAMETOOLONG;
	memcpy(ret->sun_path, path, len + 1);
	return 0;
}

int unixsock_connect(const char *path)
{
	struct sockaddr_un address;
	int fd, r;

	r = make_address(path, &address);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	do
		r = connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0 ? -errno : 0;
	while (r == -EINTR);
	if (r < 0) {
		(void) close(fd); /* never connected */
		return r;
	}
	return fd;
}

/* Remove a socket nobody listens on; whatever else stands there stays. */
static int remove_stale(const char *path)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = unixsock_connect(path);
	if (fd >= 0) {
		(void) close(fd); /* it was only to see whether somebody is there */
		return -EADDRINUSE;
	}
	if (fd != -ECONNREFUSED)
		return fd == -ENOENT ? 0 : fd;
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int unixsock_listen(const char *path, mode_t mode)
{
	struct sockaddr_un address;
	int fd, r;

	r = make_address(path, &address);
	if (r == 0)
		r = remove_stale(path);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *) &address, sizeof(address)) < 0) {
		r = -errno;
		(void) close(fd); /* never bound */
		return r;
	}
	/* Between bind and listen nobody can connect, so the mode is there in time. */
	if (chmod(path, mode) < 0 || listen(fd, 64) < 0) {
		r = -errno;
		(void) unlink(path);
		(void) close(fd); /* never listened */
		return r;
	}
	return fd;
}

int unixsock_accept(int fd, uid_t *ret_uid, pid_t *ret_pid)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int conn, r;

	do
		conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	while (conn < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (conn < 0)
		return -errno;
	if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
		r = -errno;
		(void) close(conn); /* nobody we know */
		return r;
	}
	if (ret_uid)
		*ret_uid = peer.uid;
	if (ret_pid)
		*ret_pid = peer.pid;
	return conn;
}
