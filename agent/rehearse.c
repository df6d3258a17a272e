#include "agent/rehearse.h"

#include "base/err.h"
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *name;
	int error; /* 0: kill */
} faults[] = { { "kill", 0 }, { "ENOSPC", ENOSPC }, { "EIO", EIO }, { "EMFILE", EMFILE }, { "ENOMEM", ENOMEM } };

static const struct rehearsal *rehearsal_of(const struct os *os)
{
	return os->state;
}

/* Only what changes something fails: a way back that can still read shows what it would do on that disk. */
static int refusal(const struct os *os)
{
	return rehearsal_of(os)->active ? -rehearsal_of(os)->error : 0;
}

static int rehearse_openat(const struct os *os, int dirfd, const char *path, int flags, mode_t mode)
{
	int r = flags & (O_CREAT | O_TRUNC) ? refusal(os) : 0;

	return r < 0 ? r : os_posix.openat(&os_posix, dirfd, path, flags, mode);
}

static ssize_t rehearse_write(const struct os *os, int fd, const void *data, size_t len)
{
	int r = refusal(os);

	return r < 0 ? r : os_posix.write(&os_posix, fd, data, len);
}

static ssize_t rehearse_pwrite(const struct os *os, int fd, const void *data, size_t len, uint64_t offset)
{
	int r = refusal(os);

	return r < 0 ? r : os_posix.pwrite(&os_posix, fd, data, len, offset);
}

static int rehearse_fsync(const struct os *os, int fd)
{
	int r = refusal(os);

	return r < 0 ? r : os_posix.fsync(&os_posix, fd);
}

static int rehearse_syncfs(const struct os *os, int fd)
{
	int r = refusal(os);

	return r < 0 ? r : os_posix.syncfs(&os_posix, fd);
}

static int rehearse_mkdirat(const struct os *os, int dirfd, const char *path, mode_t mode)
{
	int r = refusal(os);

	return r < 0 ? r : os_posix.mkdirat(&os_posix, dirfd, path, mode);
}

static int rehearse_symlinkat(const struct os *os, const char *target, int dirfd, const char *path)
{
	int r = refusal(os);

	return r < 0 ? r : os_posix.symlinkat(&os_posix, target, dirfd, path);
}

static int rehearse_renameat(const struct os *os, int old_dirfd, const char *old_path, int new_dirfd,
			     const char *new_path)
{
	int r = refusal(os);

	return r < 0 ? r : os_posix.renameat(&os_posix, old_dirfd, old_path, new_dirfd, new_path);
}

void rehearse_init(struct rehearsal *r)
{
	*r = (struct rehearsal){ .os = os_posix };
	r->os.openat = rehearse_openat;
	r->os.write = rehearse_write;
	r->os.pwrite = rehearse_pwrite;
	r->os.fsync = rehearse_fsync;
	r->os.syncfs = rehearse_syncfs;
	r->os.mkdirat = rehearse_mkdirat;
	r->os.symlinkat = rehearse_symlinkat;
	r->os.renameat = rehearse_renameat;
	r->os.state = r;
}

int rehearse_arm(struct rehearsal *r, const char *text)
{
	const char *colon = strchr(text, ':');

	for (int s = STATE_IDLE + 1; colon && s < STATE_COUNT; s++) {
		const char *name = update_state_name((enum update_state) s);

		if (strlen(name) != (size_t) (colon - text) || strncmp(name, text, strlen(name)) != 0)
			continue;
		for (size_t i = 0; i < ARRAY_LEN(faults); i++)
			if (str_eq(faults[i].name, colon + 1)) {
				r->step = (enum update_state) s;
				r->error = faults[i].error;
				r->armed = true;
				return 0;
			}
	}
	return -ERR_NAME;
}

void rehearse_enter(struct rehearsal *r, enum update_state s)
{
	if (r->active)
		log_notice("rehearsal-over", "step=%s", update_state_name(r->step));
	r->active = false;
	if (!r->armed || s != r->step)
		return;
	r->armed = false;
	log_warning("rehearsal", "step=%s fault=%s", update_state_name(s),
		    r->error ? err_name(-r->error) : "kill");
	if (r->error == 0)
		(void) kill(getpid(), SIGKILL); /* as a power cut would, without a word to anybody */
	r->active = r->error != 0;
}
