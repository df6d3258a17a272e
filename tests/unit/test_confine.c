/* What common/os/confine.h promises, each in a child that gives up its rights. */
#include "os/confine.h"

#include "os/durable.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#if !defined(__has_feature)
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

enum { NOT_HERE = 77 };

/* Run `body` in a child; it returns 0, or the number of the line that was wrong. */
static void in_child(int (*body)(int dirfd))
{
	char path[] = "/tmp/selfright-confine-XXXXXX";
	int dirfd, status = -1;
	pid_t pid;

	assert_non_null(mkdtemp(path));
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int line = body(dirfd);

		if (line != 0 && line != NOT_HERE)
			fprintf(stderr, "line %d\n", line);
		_exit(line == 0 ? 0 : line == NOT_HERE ? NOT_HERE : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(dirfd);
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, path), 0);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == NOT_HERE)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define MUST(condition)                                                                                           \
	do {                                                                                                      \
		if (!(condition))                                                                                 \
			return __LINE__;                                                                          \
	} while (0)

static int limits_hold(int dirfd)
{
	struct rlimit limits;

	(void) dirfd;
	MUST(confine_limits(0, 20) == 0);
	MUST(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	MUST(getrlimit(RLIMIT_CORE, &limits) == 0 && limits.rlim_max == 0);
	MUST(getrlimit(RLIMIT_NOFILE, &limits) == 0 && limits.rlim_max == 20 && limits.rlim_cur == 20);
	MUST(confine_limits(0, 4000) == 0); /* stricter stays */
	MUST(getrlimit(RLIMIT_NOFILE, &limits) == 0 && limits.rlim_max == 20);
	for (int i = 0; i < 20; i++)
		if (dup(0) < 0 && errno == EMFILE)
			return 0;
	return __LINE__;
}

static int memory_is_bounded(int dirfd)
{
	struct rlimit limits;

	(void) dirfd;
	if (SANITIZED)
		return NOT_HERE; /* a sanitizer's own memory is beyond any bound */
	MUST(confine_limits(UINT64_C(64) << 20, 20) == 0);
	MUST(getrlimit(RLIMIT_AS, &limits) == 0 && limits.rlim_max == (rlim_t) 64 << 20);
	MUST(malloc((size_t) 200 << 20) == NULL);
	return 0;
}

static int descriptors_are_closed(int dirfd)
{
	int other = dup2(dirfd, 40);

	MUST(other == 40 && close(0) == 0);
	MUST(confine_descriptors((unsigned) dirfd + 1) == 0);
	MUST(fcntl(40, F_GETFD) < 0 && errno == EBADF);
	MUST(fcntl(dirfd, F_GETFD) >= 0);
	MUST(fcntl(0, F_GETFD) >= 0); /* /dev/null now */
	return 0;
}

static int only_the_given_folders(int dirfd)
{
	int readable = open("/usr/share/zoneinfo", O_PATH | O_CLOEXEC), file, r;
	char name[] = "true";
	char *const argv[] = { name, NULL };

	MUST(confine_limits(0, 64) == 0);
	r = confine_files(&dirfd, 1, &readable, 1);
	if (r == 0)
		return NOT_HERE;
	MUST(r == 1);
	/* everything a download and an archive need, below the folder */
	file = openat(dirfd, "file", O_RDWR | O_CREAT | O_EXCL, 0644);
	MUST(file >= 0 && write(file, "x", 1) == 1 && ftruncate(file, 0) == 0 && fchmod(file, 0755) == 0);
	MUST(mkdirat(dirfd, "d", 0755) == 0 && symlinkat("file", dirfd, "l") == 0);
	MUST(unlinkat(dirfd, "l", 0) == 0 && unlinkat(dirfd, "d", AT_REMOVEDIR) == 0 && syncfs(dirfd) == 0);
	/* reading where reading is allowed */
	MUST(readable < 0 || open("/usr/share/zoneinfo", O_RDONLY | O_DIRECTORY) >= 0);
	/* and nothing else, root or not */
	MUST(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES);
	MUST(open("/usr/share/zoneinfo/new", O_WRONLY | O_CREAT, 0644) < 0);
	MUST(mkdir("/tmp/selfright-confine-outside", 0755) < 0 && errno == EACCES);
	MUST(mkfifoat(dirfd, "fifo", 0644) < 0 && errno == EACCES);
	MUST(linkat(AT_FDCWD, "/etc/passwd", dirfd, "stolen", 0) < 0);
	MUST(execv("/bin/true", argv) < 0 && errno == EACCES);
	return 0;
}

/* What names and certificates need, what is given, and nothing else. */
static int a_client_reads_the_system(int dirfd)
{
	int given = open("/proc/sys/kernel", O_PATH | O_CLOEXEC), r;

	MUST(given >= 0 && confine_limits(0, 64) == 0);
	r = confine_client(&dirfd, 1, &given, 1);
	if (r == 0)
		return NOT_HERE;
	MUST(r == 1);
	MUST(fcntl(given, F_GETFD) >= 0);
	MUST(open("/etc/hosts", O_RDONLY) >= 0 || errno == ENOENT);
	MUST(open("/etc/ssl", O_RDONLY | O_DIRECTORY) >= 0 || errno == ENOENT);
	MUST(open("/proc/self/status", O_RDONLY) >= 0);
	MUST(open("/proc/sys/kernel/ostype", O_RDONLY) >= 0);
	MUST(openat(dirfd, "file", O_RDWR | O_CREAT | O_EXCL, 0644) >= 0);
	MUST(open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES);
	MUST(open("/etc/hosts", O_WRONLY) < 0 && (errno == EACCES || errno == ENOENT));
	return 0;
}

static int no_listening_no_signals(int dirfd)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	MUST(confine_limits(0, 64) == 0);
	r = confine_files(&dirfd, 1, NULL, 0);
	if (r == 0)
		return NOT_HERE;
	if (bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0)
		return NOT_HERE; /* a kernel before 6.7 */
	MUST(errno == EACCES);
	if (kill(getppid(), 0) == 0)
		return NOT_HERE; /* a kernel before 6.12 */
	MUST(errno == EPERM);
	return 0;
}

static void limits(void **state)
{
	(void) state;
	in_child(limits_hold);
	in_child(descriptors_are_closed);
}

static void memory(void **state)
{
	(void) state;
	in_child(memory_is_bounded);
}

static void files(void **state)
{
	(void) state;
	in_child(only_the_given_folders);
}

static void client(void **state)
{
	(void) state;
	in_child(a_client_reads_the_system);
}

static void network_and_signals(void **state)
{
	(void) state;
	in_child(no_listening_no_signals);
}

/* A container's filter answers EPERM where a kernel without Landlock answers ENOSYS: neither strands a node. */
static int filtered_child(int dirfd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return NOT_HERE;
	return confine_files(&dirfd, 1, NULL, 0) == 0 ? 0 : __LINE__;
}

static void forbidden_by_a_container(void **state)
{
	(void) state;
	in_child(filtered_child);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits),
		cmocka_unit_test(memory),
		cmocka_unit_test(files),
		cmocka_unit_test(client),
		cmocka_unit_test(network_and_signals),
		cmocka_unit_test(forbidden_by_a_container),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
