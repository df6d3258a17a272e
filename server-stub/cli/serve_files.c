/*
 * serve_files - files over MQTT for nodes that reach nothing but the broker (model/blob.h).
 *
 * Stateless: a request names a file of the published folder and at most a window of blocks, and
 * each is sent once, at QoS 0. What is lost is asked for again. The budget per node keeps one
 * of them from filling the broker, and the order of the day is kept by the window.
 */
#include "base/err.h"
#include "base/log.h"
#include "model/blob.h"
#include "os/durable.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/serve.h"
#include "server-stub/ingest/db_budget.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void answer(struct serve *s, const char *node, const struct blob_block *block)
{
	CLEANUP(buf_done)
	struct buf message = BUF_INIT(BLOB_MESSAGE_MAX);
	char topic[ID_MAX + 32];

	if (blob_block_write(block, &message) < 0)
		return; /* out of memory: the node asks again */
	(void) snprintf(topic, sizeof(topic), "node/%s/blob", node); /* ids are short */
	broker_publish_data(s, topic, message.data, message.len);
}

/* A regular file below the published folder, no part of the way a link. */
static int open_published(struct serve *s, const char *name, uint64_t *ret_size)
{
	CLEANUP(buf_done)
	struct buf folder = BUF_INIT(BLOB_NAME_MAX);
	const char *slash = strrchr(name, '/');
	struct stat st;
	int dirfd, fd, r;

	r = buf_add(&folder, name, (size_t) (slash - name)); /* names begin with metadata/ or targets/ */
	if (r < 0)
		return r;
	dirfd = dir_open(s->os, s->repo_dirfd, buf_str(&folder));
	if (dirfd < 0)
		return dirfd;
	fd = s->os->openat(s->os, dirfd, slash + 1, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	(void) s->os->close(s->os, dirfd); /* only looked up in */
	if (fd < 0)
		return fd;
	r = s->os->fstat(s->os, fd, &st);
	if (r == 0 && !S_ISREG(st.st_mode))
		r = -ERR_NAME;
	if (r < 0) {
		(void) s->os->close(s->os, fd); /* only looked at */
		return r;
	}
	*ret_size = (uint64_t) st.st_size;
	return fd;
}

static void send_block(struct serve *s, const char *node, struct blob_block *block, int fd, uint8_t *data)
{
	uint64_t offset = block->index * BLOB_BLOCK_BYTES;
	uint64_t left = offset < block->length ? block->length - offset : 0;
	ssize_t n;

	block->data = data;
	block->len = left < BLOB_BLOCK_BYTES ? (size_t) left : BLOB_BLOCK_BYTES;
	if (block->len == 0 && (block->length > 0 || block->index > 0))
		return; /* behind the end: nobody needs it */
	for (size_t got = 0; got < block->len; got += (size_t) n) {
		n = s->os->pread(s->os, fd, data + got, block->len - got, offset + got);
		if (n <= 0)
			return; /* the node asks again */
	}
	answer(s, node, block);
}

void files_answer(struct serve *s, const char *node, const void *data, size_t len)
{
	struct blob_block block = { .status = BLOB_OK };
	struct blob_request q;
	uint8_t *bytes;
	int fd;

	if (blob_request_parse(data, len, &q) < 0)
		return;
	memcpy(block.id, q.id, sizeof(block.id));
	if (!db_budget(s->db, DB_BUDGET_FILES, node, serve_now(s))) {
		block.status = BLOB_BUSY;
		answer(s, node, &block);
		return;
	}
	fd = open_published(s, q.name, &block.length);
	if (fd < 0) {
		block.status = BLOB_NOT_FOUND;
		answer(s, node, &block);
		return;
	}
	bytes = malloc(BLOB_BLOCK_BYTES);
	for (unsigned i = 0; bytes && i < BLOB_WINDOW; i++) {
		block.index = q.first + i;
		if (q.wanted & 1u << i)
			send_block(s, node, &block, fd, bytes);
	}
	free(bytes);
	(void) s->os->close(s->os, fd); /* only read */
}
