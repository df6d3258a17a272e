#include "os/frame.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 10, AFTER_LENGTH = 6, READ_CHUNK = 65536 };

static uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

static void put_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t) (v >> 24);
	p[1] = (uint8_t) (v >> 16);
	p[2] = (uint8_t) (v >> 8);
	p[3] = (uint8_t) v;
}

void frame_conn_init(struct frame_conn *c, int fd, size_t max_payload)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags >= 0)
		(void) fcntl(fd, F_SETFL,
			     flags | O_NONBLOCK); /* a descriptor that is none shows at the first pump */
	*c = (struct frame_conn){ .fd = fd, .max = max_payload, .taken = 0 };
	buf_init(&c->in, max_payload + HEADER + READ_CHUNK);
	buf_init(&c->out, 4 * (max_payload + HEADER) + max_payload + HEADER);
}

void frame_conn_done(struct frame_conn *c)
{
	if (!c)
		return;
	if (c->fd >= 0)
		(void) close(c->fd); /* a socket: nothing to lose */
	c->fd = -1;
	buf_done(&c->in);
	buf_done(&c->out);
	c->taken = 0;
}

int frame_send(struct frame_conn *c, uint16_t type, uint32_t id, const void *data, size_t len)
{
	uint8_t header[HEADER];
	int r;

	if (len > c->max || len > UINT32_MAX - AFTER_LENGTH)
		return -ERR_TOO_LARGE;
	if (c->out.len >= 4 * (c->max + HEADER))
		return -ENOBUFS;
	put_u32(header, (uint32_t) len + AFTER_LENGTH);
	header[4] = (uint8_t) (type >> 8);
	header[5] = (uint8_t) type;
	put_u32(header + 6, id);
	r = buf_reserve(&c->out, HEADER + len); /* all of it or nothing */
	if (r == 0)
		r = buf_add(&c->out, header, HEADER);
	if (r == 0)
		r = buf_add(&c->out, data, len);
	return r;
}

bool frame_wants_write(const struct frame_conn *c)
{
	return c->out.len > 0;
}

static void drop_taken(struct frame_conn *c)
{
	if (c->taken > 0)
		buf_consume(&c->in, c->taken);
	c->taken = 0;
}

/* The whole length of the first frame in `in`; 0: not known yet. */
static int first_frame(const struct frame_conn *c, size_t *ret)
{
	uint32_t length;

	*ret = 0;
	if (c->in.len < 4)
		return 0;
	length = get_u32(c->in.data);
	if (length < AFTER_LENGTH || length - AFTER_LENGTH > c->max)
		return -ERR_PROTOCOL;
	*ret = (size_t) length + 4;
	return 0;
}

/* Bytes read, 0 if none was there, -ERR_PEER_GONE at the end. */
static ssize_t receive(struct frame_conn *c)
{
	size_t before = c->in.len;

	/* One whole frame waiting is enough: the rest stays in the socket and slows the other side down. */
	while (c->in.len < c->max + HEADER) {
		ssize_t n;
		int r = buf_reserve(&c->in, READ_CHUNK);

		if (r < 0)
			return r;
		n = recv(c->fd, c->in.data + c->in.len, READ_CHUNK, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			/* Whole frames before its end are still to be taken; the end is seen again. */
			if (c->in.len > before)
				break;
			return n < 0 && errno != ECONNRESET && errno != EPIPE ? -errno : -ERR_PEER_GONE;
		}
		c->in.len += (size_t) n;
		c->in.data[c->in.len] = '\0';
	}
	return (ssize_t) (c->in.len - before);
}

static int transmit(struct frame_conn *c)
{
	size_t done = 0;
	int r = 0;

	while (done < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + done, c->out.len - done, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			r = errno == EPIPE || errno == ECONNRESET ? -ERR_PEER_GONE : -errno;
			break;
		}
		done += (size_t) n;
	}
	buf_consume(&c->out, done);
	return r;
}

int frame_pump(struct frame_conn *c, short revents)
{
	ssize_t got = 0;
	size_t length;
	int r;

	drop_taken(c);
	if (revents & POLLNVAL)
		return -EBADF;
	if (revents & (POLLIN | POLLHUP | POLLERR)) {
		got = receive(c);
		if (got < 0)
			return (int) got;
		r = first_frame(c, &length);
		if (r < 0)
			return r;
	}
	r = transmit(c);
	/* What came before the end is taken first; the end is found again by the next call. */
	return r == -ERR_PEER_GONE && got > 0 ? 0 : r;
}

int frame_next(struct frame_conn *c, struct frame *ret)
{
	size_t length;
	int r;

	drop_taken(c);
	r = first_frame(c, &length);
	if (r < 0)
		return r;
	if (length == 0 || c->in.len < length)
		return 0;
	*ret = (struct frame){
		.type = (uint16_t) (c->in.data[4] << 8 | c->in.data[5]),
		.id = get_u32(c->in.data + 6),
		.data = c->in.data + HEADER,
		.len = length - HEADER,
	};
	c->taken = length;
	return 1;
}

static uint64_t now_ms(void)
{
	struct timespec t = { 0, 0 };

	(void) clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail for this clock */
	return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

int frame_exchange(struct frame_conn *c, uint64_t deadline_ms, struct frame *ret)
{
	uint64_t start = now_ms();
	int r;

	for (;;) {
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		uint64_t passed = now_ms() - start;

		/* Before the socket: a frame of an earlier read may be there whole. */
		if (!frame_wants_write(c)) {
			r = frame_next(c, ret);
			if (r != 0)
				return r < 0 ? r : 0;
		} else {
			p.events |= POLLOUT;
		}
		if (passed >= deadline_ms)
			return -ERR_DEADLINE;
		r = poll(&p, 1, deadline_ms - passed > 60000 ? 60000 : (int) (deadline_ms - passed));
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r > 0) {
			r = frame_pump(c, p.revents);
			if (r < 0)
				return r;
		}
	}
}
