/*
 * frame - bounded messages over a stream socket between our own processes.
 *
 * On the wire: u32 length of all that follows, big-endian; u16 type; u32 id;
 * payload. Neither side trusts the other: a length over the limit ends the
 * connection. Non-blocking; drive it from a poll loop:
 *
 *   frame_conn_init(&c, fd, 8 * 1024 * 1024);
 *   events = POLLIN | (frame_wants_write(&c) ? POLLOUT : 0)
 *   r = frame_pump(&c, revents);            (-ERR_PEER_GONE, -ERR_PROTOCOL: close it)
 *   while ((r = frame_next(&c, &f)) > 0) handle(&f);
 */
#ifndef SELFRIGHT_OS_FRAME_H
#define SELFRIGHT_OS_FRAME_H

#include "base/attr.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct frame {
	uint16_t type;
	uint32_t id;
	const uint8_t *data; /* borrowed until the next frame_next or frame_pump */
	size_t len;
};

struct frame_conn {
	int fd;
	size_t max; /* largest payload either way */
	struct buf in; /* received, not yet taken */
	struct buf out; /* to be written */
	size_t taken; /* bytes of `in` that the last frame_next handed out */
};

/* Takes `fd`, sets it non-blocking. */
void frame_conn_init(struct frame_conn *c, int fd, size_t max_payload);
void frame_conn_done(struct frame_conn *c); /* closes fd */

/* Queue one frame; -ERR_TOO_LARGE over the limit, -ENOBUFS when 4 times the limit waits already. */
NODISCARD int frame_send(struct frame_conn *c, uint16_t type, uint32_t id, const void *data, size_t len);
bool frame_wants_write(const struct frame_conn *c);

/* Read and write what the socket takes now. 0, -ERR_PEER_GONE at its end, -ERR_PROTOCOL. */
NODISCARD int frame_pump(struct frame_conn *c, short revents);

/* 1 and the next whole frame, 0 if there is none, -ERR_PROTOCOL. */
NODISCARD int frame_next(struct frame_conn *c, struct frame *ret);

/* For simple clients: send what is queued and wait for one frame, blocking, `deadline_ms`. 0 or negative. */
NODISCARD int frame_exchange(struct frame_conn *c, uint64_t deadline_ms, struct frame *ret);

#endif
