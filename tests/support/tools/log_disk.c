/*
 * log_disk - a disk in one file that remembers every write and every flush, for cutting the power afterwards.
 *
 *   log_disk FOLDER MEGABYTES IMAGE LOG
 *
 * Mounts a file system of one file, FOLDER/disk, of that size (FUSE, spoken here without a library; needs root), to be
 * used by a loop device. Bytes go to IMAGE at once; LOG gets a record per event: 8 bytes offset, 4 bytes length, 4 bytes
 * kind (0 write, its bytes follow; 1 flush), native byte order. Says "ready" on standard output. Ends when the folder is
 * unmounted, which it does itself on SIGTERM.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BUFFER = 1024 * 1024 + 65536, MAX_WRITE = 1024 * 1024, FILE_NODE = 2 };

static const char *folder;
static int fuse, image, log_file;
static uint64_t size;

static void on_signal(int sig)
{
	(void) sig;
	(void) umount2(folder, MNT_DETACH); /* the loop below ends with ENODEV */
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void reply(uint64_t unique, int error, const void *data, size_t len)
{
	struct fuse_out_header out = { .len = (uint32_t) (sizeof(out) + len), .error = -error, .unique = unique };
	struct iovec v[2] = { { &out, sizeof(out) }, { (void *) (uintptr_t) data, len } };

	(void) !writev(fuse, v, len ? 2 : 1); /* an interrupted request is nobody's any more */
}

static void fill_attributes(uint64_t node, struct fuse_attr *a)
{
	*a = (struct fuse_attr){
		.ino = node,
		.size = node == FILE_NODE ? size : 0,
		.blocks = node == FILE_NODE ? size / 512 : 0,
		.mode = node == FILE_NODE ? S_IFREG | 0600 : S_IFDIR | 0700,
		.nlink = node == FILE_NODE ? 1 : 2,
		.blksize = 4096,
	};
}

static void note(uint32_t kind, uint64_t offset, const void *data, uint32_t len)
{
	struct {
		uint64_t offset;
		uint32_t len, kind;
	} head = { offset, len, kind };
	struct iovec v[2] = { { &head, sizeof(head) }, { (void *) (uintptr_t) data, len } };

	if (writev(log_file, v, len ? 2 : 1) != (ssize_t) (sizeof(head) + len))
		die("log");
}

static void do_write(const struct fuse_in_header *in, const uint8_t *body)
{
	const struct fuse_write_in *w = (const void *) body;
	struct fuse_write_out out = { .size = w->size };
	const uint8_t *data = body + sizeof(*w);

	if (w->offset + w->size > size) {
		reply(in->unique, EFBIG, NULL, 0);
		return;
	}
	note(0, w->offset, data, w->size);
	if (pwrite(image, data, w->size, (off_t) w->offset) != (ssize_t) w->size)
		die("image");
	reply(in->unique, 0, &out, sizeof(out));
}

static void do_read(const struct fuse_in_header *in, const uint8_t *body)
{
	static uint8_t data[MAX_WRITE];
	const struct fuse_read_in *r = (const void *) body;
	ssize_t n = pread(image, data, r->size > MAX_WRITE ? MAX_WRITE : r->size, (off_t) r->offset);

	if (n < 0)
		reply(in->unique, errno, NULL, 0);
	else
		reply(in->unique, 0, data, (size_t) n);
}

static void do_init(const struct fuse_in_header *in, const uint8_t *body)
{
	const struct fuse_init_in *i = (const void *) body;
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = i->max_readahead,
		.flags = FUSE_BIG_WRITES | FUSE_MAX_PAGES,
		.max_background = 16,
		.congestion_threshold = 12,
		.max_write = MAX_WRITE,
		.max_pages = MAX_WRITE / 4096,
	};

	reply(in->unique, 0, &out, sizeof(out));
}

static void do_lookup(const struct fuse_in_header *in, const char *name)
{
	struct fuse_entry_out out = { .nodeid = FILE_NODE, .attr_valid = 3600, .entry_valid = 3600 };

	if (in->nodeid != FUSE_ROOT_ID || strcmp(name, "disk") != 0) {
		reply(in->unique, ENOENT, NULL, 0);
		return;
	}
	fill_attributes(FILE_NODE, &out.attr);
	reply(in->unique, 0, &out, sizeof(out));
}

static void do_attributes(const struct fuse_in_header *in)
{
	struct fuse_attr_out out = { .attr_valid = 3600 };

	fill_attributes(in->nodeid, &out.attr);
	reply(in->unique, 0, &out, sizeof(out));
}

static void serve(const struct fuse_in_header *in, const uint8_t *body)
{
	struct fuse_open_out opened = { .open_flags = FOPEN_DIRECT_IO };
	struct fuse_statfs_out stats = { .st = { .bsize = 4096, .frsize = 4096, .namelen = 255 } };

	switch (in->opcode) {
	case FUSE_INIT:
		do_init(in, body);
		break;
	case FUSE_LOOKUP:
		do_lookup(in, (const char *) body);
		break;
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		do_attributes(in);
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		reply(in->unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_READ:
		do_read(in, body);
		break;
	case FUSE_WRITE:
		do_write(in, body);
		break;
	case FUSE_FSYNC:
		note(1, 0, NULL, 0);
		reply(in->unique, 0, NULL, 0);
		break;
	case FUSE_STATFS:
		reply(in->unique, 0, &stats, sizeof(stats));
		break;
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_ACCESS:
	case FUSE_READDIR:
	case FUSE_DESTROY:
		reply(in->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break; /* nobody waits for an answer */
	default:
		reply(in->unique, ENOSYS, NULL, 0); /* the kernel does without */
		break;
	}
}

int main(int argc, char **argv)
{
	static uint8_t buffer[BUFFER] __attribute__((aligned(8)));
	char options[128];
	ssize_t n;

	if (argc != 5) {
		fprintf(stderr,
			"usage: log_disk FOLDER MEGABYTES IMAGE LOG\nexample: log_disk /tmp/d 64 /tmp/i /tmp/l\n");
		return 2;
	}
	folder = argv[1];
	size = strtoull(argv[2], NULL, 10) * 1024 * 1024;
	image = open(argv[3], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	log_file = open(argv[4], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (image < 0 || log_file < 0 || fuse < 0 || ftruncate(image, (off_t) size) < 0)
		die("log_disk");
	(void) snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fuse);
	if (mount("log_disk", folder, "fuse", MS_NOSUID | MS_NODEV, options) < 0)
		die("mount");
	(void) signal(SIGTERM, on_signal); /* cannot fail */
	(void) signal(SIGINT, on_signal); /* cannot fail */
	puts("ready");
	(void) fflush(stdout); /* whoever started us would wait for ever: it sees the pipe's end */
	while ((n = read(fuse, buffer, sizeof(buffer))) >= 0 || errno == EINTR || errno == ENOENT) {
		if (n < (ssize_t) sizeof(struct fuse_in_header))
			continue;
		serve((const struct fuse_in_header *) (const void *) buffer,
		      buffer + sizeof(struct fuse_in_header));
	}
	return errno == ENODEV ? 0 : 1;
}
