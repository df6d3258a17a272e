/*
 * selfright-probe - one look at an application, as the component's own user.
 *
 * The engine runs as root, opens no file and no socket that a release names, and links
 * no TLS. What a check needs of those it has from here: an answer over https, to a
 * name or over a Unix socket; the end of a log; a file with a status or with metrics.
 * This program judges nothing: what it prints the engine reads as any other answer.
 */
#include "base/err.h"
#include "base/text.h"
#include "fetch/fetch.h"
#include "os/confine.h"
#include "os/durable.h"
#include "os/os.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
	STATUS_MISSING = 3, /* PROBE_HELPER_MISSING of agent/probe/probe.h */
	INPUT_MAX = 64 * 1024,
	HEADERS_MAX = 64,
	CA_MAX = 1024 * 1024,
	BODY_MAX = 16 * 1024 * 1024,
	DESCRIPTORS_MAX = 32,
	MEMORY_MAX = 256 * 1024 * 1024, /* address space */
	TIMEOUT_MAX_S = 3600,
	TCP_MAX = 4,
	ROUTES_MAX = 64 * 1024,
	LOOK_MS = 20,
};

struct look {
	const char *name, *tcp[TCP_MAX];
	size_t tcp_count;
	const char *url, *unix_socket, *ca_path, *server_name, *file;
	bool insecure;
	uint64_t timeout_s, max_bytes, tail, offset, inode;
	bool has_inode;
};

static void usage(FILE *to)
{
	fputs("Usage: selfright-probe http URL [options] <headers\n"
	      "       selfright-probe read FILE [options]\n"
	      "       selfright-probe network [options]\n"
	      "\n"
	      "Look at an application once. Started by selfright-agent for a check, as the component's user.\n"
	      "\n"
	      "http: ask, and print the status line and the body. Headers are read from standard input,\n"
	      "one \"Name: value\" a line.\n"
	      "  --unix-socket PATH    connect there instead\n"
	      "  --ca FILE             trust only the certificates in FILE, not the system's\n"
	      "  --server-name NAME    the name the certificate must be for; the URL's host by default\n"
	      "  --insecure            verify no certificate\n"
	      "  --timeout SECONDS     give up after so long (10)\n"
	      "  --max-bytes N         of the body (65536)\n"
	      "\n"
	      "read: print a line \"INODE END MTIME BEFORE\", then bytes of the file.\n"
	      "  --inode N --offset N  from there on; of a file that was renamed to FILE.1 meanwhile the rest "
	      "first\n"
	      "  --tail N              N bytes from before that place as well; without one, the last N\n"
	      "  --max-bytes N         at most (65536)\n"
	      "\n"
	      "network: print for each whether it answers, as \"gateway yes\".\n"
	      "  --name HOST           resolver: does it know HOST?\n"
	      "  --tcp WHO=HOST:PORT   WHO: does it take a connection? at most four times\n"
	      "  --timeout SECONDS     wait so long (10)\n"
	      "\n"
	      "  --help, --version\n"
	      "\n"
	      "Example: what a check of nginx' own page would see\n"
	      "  selfright-probe http https://127.0.0.1:8443/healthz --insecure </dev/null\n",
	      to);
}

static int complain(int status, const char *fmt, ...) PRINTF_LIKE(2, 3);
static int complain(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void) vfprintf(stdout, fmt, ap); /* whoever asked reads this; there is nobody else to tell */
	va_end(ap);
	(void) putchar('\n');
	return status;
}

/* Read what we name, and nothing else; no program starts, nothing is written. */
static int confine(const char *path)
{
	int readable[2], r = confine_limits(MEMORY_MAX, DESCRIPTORS_MAX);
	const char *const paths[] = { "/proc", path };
	size_t n = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(paths); i++) {
		int fd = paths[i] ? open(paths[i], O_PATH | O_CLOEXEC) : -1;

		if (fd >= 0)
			readable[n++] = fd;
	}
	if (r == 0)
		r = confine_client(NULL, 0, readable, n);
	for (size_t i = 0; i < n; i++)
		(void) close(readable[i]); /* only named a rule */
	return r < 0 ? r : 0;
}

/* --- http --- */

/* Its lines, in place. */
static size_t split_lines(char *text, const char **ret, size_t max)
{
	size_t n = 0;

	for (char *line = strtok(text, "\n"); line && n < max; line = strtok(NULL, "\n"))
		ret[n++] = line;
	return n;
}

/* "https://host:port" and "/path"; with a server name, that instead of the host and the host to connect to. */
static int split_url(const struct look *l, struct buf *base, struct buf *connect_to, const char **ret_path)
{
	const char *authority = strstr(l->url, "://"), *path, *port;
	size_t len;
	int r;

	if (!authority)
		return -ERR_CONFIG;
	authority += 3;
	path = authority + strcspn(authority, "/");
	len = (size_t) (path - authority);
	*ret_path = *path ? path : "/";
	if (!l->server_name)
		return buf_add(base, l->url, (size_t) (path - l->url));
	port = memrchr(authority, ':', len);
	if (port && memchr(port, ']', (size_t) (path - port)))
		port = NULL;
	r = buf_addf(base, "%.*s%s%.*s", (int) (authority - l->url), l->url, l->server_name,
		     port ? (int) (path - port) : 0, port ? port : "");
	if (r == 0)
		r = buf_addf(connect_to, "%.*s%s", (int) len, authority, port ? "" : ":443");
	return r;
}

static int ask(const struct look *l)
{
	CLEANUP(buf_done)
	struct buf input = BUF_INIT(INPUT_MAX), ca = BUF_INIT(CA_MAX), body = BUF_INIT((size_t) l->max_bytes),
		   base = BUF_INIT(8192), connect_to = BUF_INIT(600);
	CLEANUP(http_closep)
	struct http *http = NULL;
	struct http_response response;
	const char *headers[HEADERS_MAX], *path = "/";
	struct http_options o = {
		.unix_socket = l->unix_socket,
		.proxy = "", /* what is checked is here */
		.allow_plain_http = true,
		.connect_timeout_ms = (unsigned) (l->timeout_s * 1000),
		.insecure = l->insecure,
		.cut_body = true,
		.headers = headers,
	};
	int r = buf_read(&input, STDIN_FILENO);

	if (r < 0)
		return complain(STATUS_FAILED, "the headers cannot be read: %s", err_text(r));
	if (l->ca_path) {
		r = file_read(&os_posix, AT_FDCWD, l->ca_path, CA_MAX, &ca);
		if (r < 0)
			return complain(STATUS_FAILED, "%s: %s", l->ca_path, err_text(r));
		o.ca_pem = buf_str(&ca);
	}
	r = confine(l->unix_socket);
	if (r < 0)
		return complain(STATUS_FAILED, "the process cannot be confined: %s", err_text(r));
	r = split_url(l, &base, &connect_to, &path);
	o.base_url = buf_str(&base);
	o.connect_to = connect_to.len > 0 ? buf_str(&connect_to) : NULL;
	o.header_count = input.len > 0 ? split_lines((char *) input.data, headers, HEADERS_MAX) : 0;
	if (r == 0)
		r = http_open(&o, &http);
	if (r < 0)
		return complain(STATUS_FAILED, "%s cannot be asked: %s", l->url, err_text(r));
	r = http_request(http, "GET", path, NULL, NULL, 0, l->timeout_s * 1000, &response, &body);
	if (r < 0)
		return complain(STATUS_FAILED, "%s", http_error(http));
	(void) printf("HTTP/1.1 %ld \r\n\r\n", response.status);
	(void) fwrite(buf_str(&body), 1, body.len, stdout);
	return fflush(stdout) == 0 ? 0 : STATUS_FAILED;
}

/* --- read --- */

/* A regular file, without waiting for anybody and without becoming a terminal's. */
static int open_file(const char *path, struct stat *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), r;

	if (fd < 0)
		return -errno;
	r = fstat(fd, ret) < 0 ? -errno : !S_ISREG(ret->st_mode) ? -EINVAL : 0;
	if (r < 0)
		(void) close(fd); /* read only */
	return r < 0 ? r : fd;
}

/* Up to `max` bytes from `from` on. */
static int take_bytes(int fd, uint64_t from, uint64_t max, struct buf *ret)
{
	char chunk[64 * 1024];
	int r = 0;

	while (r == 0 && max > 0) {
		ssize_t n = pread(fd, chunk, max < sizeof(chunk) ? (size_t) max : sizeof(chunk), (off_t) from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		r = buf_add(ret, chunk, (size_t) n);
		from += (uint64_t) n;
		max -= (uint64_t) n;
	}
	return r;
}

/* The rest of the file as it was before it was renamed; without it nothing is lost but those lines. */
static void take_rotated(const struct look *l, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf path = BUF_INIT(4096);
	struct stat st;
	int fd = buf_addf(&path, "%s.1", l->file) < 0 ? -1 : open_file(buf_str(&path), &st);

	if (fd < 0)
		return;
	if ((uint64_t) st.st_ino == l->inode && (uint64_t) st.st_size > l->offset)
		(void) !take_bytes(fd, l->offset, l->max_bytes, ret);
	(void) close(fd); /* read only */
}

static int look_at_file(const struct look *l, int fd, const struct stat *st, struct buf *ret, uint64_t *ret_end,
			uint64_t *ret_before)
{
	uint64_t size = (uint64_t) st->st_size, from = 0, place = 0;
	size_t rotated;
	int r;

	if (!l->has_inode)
		place = size; /* everything that stands there is "before" */
	else if ((uint64_t) st->st_ino == l->inode && size >= l->offset)
		place = l->offset;
	else if ((uint64_t) st->st_ino != l->inode)
		take_rotated(l, ret);
	from = place > l->tail ? place - l->tail : 0;
	if (!l->has_inode && l->tail == 0)
		from = 0, place = 0; /* not a log: the file */
	*ret_before = place - from;
	rotated = ret->len;
	r = take_bytes(fd, from, l->max_bytes + *ret_before, ret);
	*ret_end = from + (ret->len - rotated);
	return r;
}

static int look(const struct look *l)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT((size_t) (2 * l->max_bytes + l->tail));
	uint64_t end = 0, before = 0;
	struct stat st;
	int fd = open_file(l->file, &st), r;

	if (fd == -ENOENT || fd == -ENOTDIR)
		return complain(STATUS_MISSING, "%s is not there", l->file);
	if (fd < 0)
		return complain(STATUS_FAILED, "%s: %s", l->file, err_text(fd));
	r = look_at_file(l, fd, &st, &bytes, &end, &before);
	(void) close(fd); /* read only */
	if (r < 0)
		return complain(STATUS_FAILED, "%s: %s", l->file, err_text(r));
	(void) printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", (uint64_t) st.st_ino, end,
		      (uint64_t) st.st_mtime, before);
	(void) fwrite(buf_str(&bytes), 1, bytes.len, stdout);
	return fflush(stdout) == 0 ? 0 : STATUS_FAILED;
}

/* --- network --- */

/* Each subject has a process of its own: a resolver that hangs must not hold up the others' answers. */
static pid_t in_a_child(bool (*answers)(const struct look *, size_t), const struct look *l, size_t index,
			const char *who, int who_len)
{
	pid_t pid;

	(void) fflush(stdout); /* else the child would print it again */
	pid = fork();
	if (pid != 0)
		return pid;
	(void) printf("%.*s %s\n", who_len, who, answers(l, index) ? "yes" : "no");
	(void) fflush(stdout);
	_exit(0);
}

static bool resolver_answers(const struct look *l, size_t index)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
	bool answers;

	(void) index;
	answers = getaddrinfo(l->name, NULL, &hints, &found) == 0;
	if (found)
		freeaddrinfo(found);
	return answers;
}

/* HOST:PORT, with brackets around a host with colons. */
static bool tcp_answers(const struct look *l, size_t index)
{
	const char *address = strchr(l->tcp[index], '=') + 1, *port = strrchr(address, ':');
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
	char host[256];
	size_t len;
	bool answers = false;

	if (!port)
		return false;
	len = (size_t) (port - address);
	if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
		address++;
		len -= 2;
	}
	if (len >= sizeof(host))
		return false;
	memcpy(host, address, len);
	host[len] = '\0';
	if (getaddrinfo(host, port + 1, &hints, &found) != 0)
		return false;
	for (struct addrinfo *a = found; a && !answers; a = a->ai_next) {
		int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		answers = fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0;
		if (fd >= 0)
			(void) close(fd); /* that it was there is all */
	}
	freeaddrinfo(found);
	return answers;
}

/* The default route's gateway as the kernel writes it (proc_net_route(5)); 0: a route without one; false: no route. */
static bool default_gateway(uint32_t *ret_address)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROUTES_MAX);
	unsigned destination, gateway, flags;

	if (file_read(&os_posix, AT_FDCWD, "/proc/net/route", ROUTES_MAX, &text) < 0)
		return false;
	for (const char *line = buf_str(&text); (line = strchr(line, '\n'));) {
		line++;
		if (sscanf(line, "%*31s %x %x %x", &destination, &gateway, &flags) == 3 && destination == 0) {
			*ret_address = gateway;
			return true;
		}
	}
	return false;
}

/* Does the neighbour table have a hardware address for it? -1: it does not name it. */
static int is_neighbour(uint32_t address)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROUTES_MAX);
	char wanted[INET_ADDRSTRLEN], ip[64];
	unsigned flags;

	if (!inet_ntop(AF_INET, &address, wanted, sizeof(wanted)) ||
	    file_read(&os_posix, AT_FDCWD, "/proc/net/arp", ROUTES_MAX, &text) < 0)
		return -1;
	for (const char *line = buf_str(&text); (line = strchr(line, '\n'));) {
		line++;
		if (sscanf(line, "%63s %*s %x", ip, &flags) == 2 && strcmp(ip, wanted) == 0)
			return flags & 2 /* ATF_COM */ ? 1 : 0;
	}
	return -1;
}

/*
 * Whoever wants to send to the gateway makes the kernel look for it. On links without
 * neighbours (tunnels, modems) the route is all there is to see.
 */
static bool gateway_answers(const struct look *l, size_t index)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9 /* discard */) };
	uint32_t gateway = 0;
	int fd, seen = -1;

	(void) index;
	if (!default_gateway(&gateway))
		return false;
	if (gateway == 0)
		return true;
	to.sin_addr.s_addr = gateway;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	(void) !sendto(fd, "", 0, 0, (const struct sockaddr *) &to, sizeof(to)); /* only to make it look */
	for (uint64_t waited = 0; waited < l->timeout_s * 1000; waited += LOOK_MS) {
		seen = is_neighbour(gateway);
		if (seen == 1 || (seen < 0 && waited >= 10 * LOOK_MS))
			break;
		(void) usleep(LOOK_MS * 1000);
	}
	(void) close(fd); /* nothing was asked of it */
	return seen != 0;
}

static int look_at_network(const struct look *l)
{
	pid_t children[TCP_MAX + 2];
	size_t count = 0;
	int r = confine(NULL);

	if (r < 0)
		return complain(STATUS_FAILED, "the process cannot be confined: %s", err_text(r));
	children[count++] = in_a_child(gateway_answers, l, 0, "gateway", 7);
	if (l->name)
		children[count++] = in_a_child(resolver_answers, l, 0, "resolver", 8);
	for (size_t i = 0; i < l->tcp_count; i++)
		children[count++] =
			in_a_child(tcp_answers, l, i, l->tcp[i], (int) (strchr(l->tcp[i], '=') - l->tcp[i]));
	for (uint64_t waited = 0; waited < l->timeout_s * 1000; waited += LOOK_MS) {
		size_t left = 0;

		for (size_t i = 0; i < count; i++) {
			if (children[i] > 0 && waitpid(children[i], NULL, WNOHANG) != 0)
				children[i] = 0;
			left += children[i] > 0;
		}
		if (left == 0)
			break;
		(void) usleep(LOOK_MS * 1000);
	}
	for (size_t i = 0; i < count; i++)
		if (children[i] > 0)
			(void) kill(children[i], SIGKILL); /* who has said nothing by now does not answer */
	return 0;
}

/* --- arguments --- */

static const struct option options[] = {
	{ "unix-socket", required_argument, NULL, 'u' }, { "ca", required_argument, NULL, 'c' },
	{ "server-name", required_argument, NULL, 's' }, { "insecure", no_argument, NULL, 'k' },
	{ "timeout", required_argument, NULL, 't' },	 { "max-bytes", required_argument, NULL, 'm' },
	{ "inode", required_argument, NULL, 'i' },	 { "offset", required_argument, NULL, 'o' },
	{ "tail", required_argument, NULL, 'e' },	 { "name", required_argument, NULL, 'n' },
	{ "tcp", required_argument, NULL, 'p' },	 { "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'v' },		 { NULL, 0, NULL, 0 },
};

static bool take_number(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t n;

	if (parse_u64(text, &n) < 0 || n < min || n > max) {
		fprintf(stderr, "selfright-probe: --%s takes a number from %" PRIu64 " to %" PRIu64 "\n", name,
			min, max);
		return false;
	}
	*ret = n;
	return true;
}

static bool take_option(struct look *l, int key, const char *value)
{
	switch (key) {
	case 'u':
		l->unix_socket = value;
		return true;
	case 'c':
		l->ca_path = value;
		return true;
	case 's':
		l->server_name = value;
		return true;
	case 'k':
		l->insecure = true;
		return true;
	case 't':
		return take_number("timeout", value, 1, TIMEOUT_MAX_S, &l->timeout_s);
	case 'm':
		return take_number("max-bytes", value, 1, BODY_MAX, &l->max_bytes);
	case 'i':
		l->has_inode = true;
		return take_number("inode", value, 0, UINT64_MAX, &l->inode);
	case 'o':
		return take_number("offset", value, 0, INT64_MAX, &l->offset);
	case 'n':
		l->name = value;
		return true;
	case 'p':
		if (l->tcp_count == TCP_MAX || !strchr(value, '=')) {
			fprintf(stderr, "selfright-probe: --tcp takes WHO=HOST:PORT, at most %d times\n",
				(int) TCP_MAX);
			return false;
		}
		l->tcp[l->tcp_count++] = value;
		return true;
	case 'e':
		return take_number("tail", value, 0, BODY_MAX, &l->tail);
	default:
		return false; /* getopt said why */
	}
}

static int misused(const char *why)
{
	fprintf(stderr, "selfright-probe: %s (see --help)\n", why);
	return STATUS_USAGE;
}

int main(int argc, char **argv)
{
	struct look l = { .timeout_s = 10, .max_bytes = 64 * 1024 };
	int key;

	while ((key = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (key == 'h') {
			usage(stdout);
			return 0;
		}
		if (key == 'v') {
			puts("selfright-probe " SELFRIGHT_VERSION);
			return 0;
		}
		if (!take_option(&l, key, optarg))
			return STATUS_USAGE;
	}
	if (argc - optind < 1 || (argc - optind == 1) != (strcmp(argv[optind], "network") == 0) ||
	    argc - optind > 2)
		return misused("http URL, read FILE, or network");
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || confine_descriptors(STDERR_FILENO + 1) < 0)
		return STATUS_FAILED;
	if (strcmp(argv[optind], "network") == 0)
		return look_at_network(&l);
	if (strcmp(argv[optind], "http") == 0) {
		l.url = argv[optind + 1];
		return ask(&l);
	}
	if (strcmp(argv[optind], "read") != 0)
		return misused("http, read or network");
	l.file = argv[optind + 1];
	return look(&l);
}
