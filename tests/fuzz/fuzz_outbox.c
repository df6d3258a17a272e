/* Any bytes as the file of queued events: it opens, numbers rise, and what is added behind them is found again. */
#include "agent/link/outbox.h"
#include "os/durable.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char path[] = "/tmp/fuzz-outbox.XXXXXX";
	static int dirfd = -1;
	struct outbox o = { .os = NULL };
	uint64_t number;
	int fd;

	if (dirfd < 0) {
		expect(mkdtemp(path) != NULL);
		dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	fd = openat(dirfd, "events", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	expect(fd >= 0 && file_write_all(&os_posix, fd, data, size) == 0);
	close(fd);
	expect(outbox_open(&os_posix, dirfd, &o) == 0);
	expect(o.event_count <= OUTBOX_EVENTS_MAX);
	for (size_t i = 1; i < o.event_count; i++)
		expect(o.events[i].number > o.events[i - 1].number);
	if (o.last_number < UINT64_MAX / 2) {
		expect(outbox_add_event(&o, 0, "x", 1) == 0);
		number = o.last_number;
		outbox_close(&o);
		expect(outbox_open(&os_posix, dirfd, &o) == 0);
		expect(o.last_number == number && o.event_count > 0);
	}
	outbox_close(&o);
	return 0;
}
