/*
 * no_memory - a library to be preloaded: the Nth allocation of a process answers that there is no memory.
 *
 *   LD_PRELOAD=no_memory.so NO_MEMORY_AT=N PROGRAM       the Nth, once
 *   LD_PRELOAD=no_memory.so NO_MEMORY_AT=-N PROGRAM      the Nth and all after it
 *   LD_PRELOAD=no_memory.so NO_MEMORY_COUNT=FILE PROGRAM adds a line to FILE at its end: how many there were
 *
 * Met are the process that is started and agents that it starts: to everything else Selfright gives a clean
 * environment. Each counts for itself. Counted are malloc,
 * calloc and realloc (which glibc's strdup, getline and the like use as well), of the libraries too.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* glibc's own names: dlsym() would allocate. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static atomic_long count;
static long fail_at;

__attribute__((constructor)) static void begin(void)
{
	const char *at = getenv("NO_MEMORY_AT");

	atomic_store(&count, 0);
	fail_at = at ? strtol(at, NULL, 10) : 0;
}

__attribute__((destructor)) static void end(void)
{
	const char *path = getenv("NO_MEMORY_COUNT");
	long total = atomic_load(&count);
	FILE *f = path ? fopen(path, "a") : NULL;

	if (!f)
		return;
	fprintf(f, "%ld\n", total);
	fclose(f);
}

static int is_refused(void)
{
	long n = atomic_fetch_add(&count, 1) + 1;

	if (fail_at == 0 || (fail_at > 0 ? n != fail_at : n < -fail_at))
		return 0;
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t size)
{
	return is_refused() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return is_refused() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	return is_refused() ? NULL : __libc_realloc(old, size);
}
