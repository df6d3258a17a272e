#include "support/folder.h"

#include "support/fault_loop.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int folder_setup(void **state)
{
	struct folder *f = calloc(1, sizeof(*f));

	if (!f)
		return 1;
	temp_folder(f->path, sizeof(f->path));
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->fd < 0;
}

int folder_teardown(void **state)
{
	struct folder *f = *state;

	(void) close(f->fd);
	temp_folder_remove(f->path);
	free(f);
	return 0;
}

int folder_fd(void **state)
{
	return ((struct folder *) *state)->fd;
}
