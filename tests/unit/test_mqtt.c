/*
 * common/mqtt/mqtt.h against a real mosquitto on loopback: each bad case of MQTT.md 1.3 that
 * ends libmosquitto's own thread must be survived by the poll loop.
 */
#include "mqtt/mqtt.h"

#include "crypto/certificate.h"
#include "crypto/key.h"
#include "os/durable.h"
#include "support/broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* The clock of the client under test: real time plus what a test skips. */
static uint64_t skipped_ms;

static uint64_t skipping_clock(const struct os *os)
{
	(void) os;
	return os_posix.clock_boot_ms(&os_posix) + skipped_ms;
}

static struct os test_os(void)
{
	struct os os = os_posix;

	os.clock_boot_ms = skipping_clock;
	return os;
}

struct fixture {
	char path[64];
	int dirfd;
	struct test_broker broker;
	struct os os;
	bool up;
	unsigned ups, downs;
	char reason[128], topic[64], payload[64];
	unsigned messages;
	bool retained;
	int leaves_errno; /* what a message's callback leaves in errno */
};

static void write_file(struct fixture *f, const char *name, const char *text)
{
	assert_int_equal(durable_write_file(&os_posix, f->dirfd, name, text, strlen(text), 0644), 0);
}

static void start_broker(struct fixture *f, const char *extra)
{
	test_broker_start(&f->broker, f->path, f->dirfd, extra);
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strncpy(f->path, "/tmp/mqtt.XXXXXX", sizeof(f->path) - 1);
	assert_non_null(mkdtemp(f->path));
	assert_int_equal(chmod(f->path, 0755), 0);
	f->dirfd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->broker.port = free_port();
	f->os = test_os();
	skipped_ms = 0;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	test_broker_kill(&f->broker);
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, f->path), 0);
	close(f->dirfd);
	free(f);
	return 0;
}

static void on_state(void *user, bool connected, const char *reason)
{
	struct fixture *f = user;

	f->up = connected;
	f->ups += connected;
	f->downs += !connected;
	snprintf(f->reason, sizeof(f->reason), "%s", reason);
}

static void on_message(void *user, const char *topic, const void *payload, size_t len, bool retained)
{
	struct fixture *f = user;

	f->retained = retained;
	f->messages++;
	snprintf(f->topic, sizeof(f->topic), "%s", topic);
	snprintf(f->payload, sizeof(f->payload), "%.*s", (int) len, (const char *) payload);
	errno = f->leaves_errno;
}

static struct mqtt_options options_for(struct fixture *f)
{
	static const char *const filters[] = { "t/in" };

	return (struct mqtt_options){
		.os = &f->os,
		.host = "127.0.0.1",
		.port = f->broker.port,
		.client_id = "n1",
		.keepalive_s = 5,
		.session_expiry_s = 60,
		.subscriptions = filters,
		.subscription_count = 1,
		.retry_cap_ms = 200,
		.on_state = on_state,
		.on_message = on_message,
		.user = f,
	};
}

static struct mqtt *open_client(struct fixture *f)
{
	const struct mqtt_options options = options_for(f);
	struct mqtt *m = NULL;

	assert_int_equal(mqtt_open(&options, &m), 0);
	return m;
}

/* Run the loop for `ms` of real time, or until *flag is as wanted. */
static bool drive(struct mqtt *m, int ms, const bool *flag, bool wanted)
{
	uint64_t end = os_posix.clock_boot_ms(&os_posix) + (uint64_t) ms;

	while (os_posix.clock_boot_ms(&os_posix) < end) {
		struct pollfd p;
		int timeout = 50;

		if (flag && *flag == wanted)
			return true;
		mqtt_poll_prepare(m, &p, &timeout);
		(void) poll(&p, 1, timeout);
		mqtt_poll_done(m, p.fd >= 0 ? p.revents : 0);
	}
	return flag && *flag == wanted;
}

static void what_is_published_arrives(void **state)
{
	struct fixture *f = *state;
	struct mqtt *m;

	start_broker(f, "");
	m = open_client(f);
	assert_int_equal(mqtt_publish(m, "t/in", "early", 5, 1, false), -ENOTCONN);
	assert_true(drive(m, 60000, &f->up, true));
	assert_string_equal(f->reason, "MQTT 5");
	assert_int_equal(mqtt_publish(m, "t/in", "hello", 5, 1, false), 0);
	for (int i = 0; i < 3000 && f->messages == 0; i++)
		drive(m, 20, NULL, false);
	assert_int_equal(f->messages, 1);
	assert_string_equal(f->topic, "t/in");
	assert_string_equal(f->payload, "hello");
	mqtt_close(m);
}

static void a_killed_broker_is_found_again(void **state)
{
	struct fixture *f = *state;
	struct mqtt *m;

	start_broker(f, "");
	m = open_client(f);
	assert_true(drive(m, 60000, &f->up, true));
	test_broker_kill(&f->broker);
	assert_true(drive(m, 60000, &f->up, false));
	start_broker(f, "");
	assert_true(drive(m, 60000, &f->up, true));
	assert_int_equal(f->ups, 2);
	mqtt_close(m);
}

static double cpu_seconds(void)
{
	struct rusage u;

	assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
	return (double) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double) (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void a_refused_connect_is_retried_without_spinning(void **state)
{
	struct fixture *f = *state;
	struct mqtt *m = open_client(f);
	double before = cpu_seconds();

	drive(m, 1500, NULL, false);
	assert_true(f->downs >= 2);
	assert_string_equal(f->reason, "Connection refused");
	assert_true(cpu_seconds() - before < 0.5); /* libmosquitto alone burns a core here */
	mqtt_close(m);
}

static void a_peer_that_says_nothing_is_given_up(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons((uint16_t) f->broker.port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	struct mqtt *m;

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *) &a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 4), 0);
	m = open_client(f);
	drive(m, 300, NULL, false);
	assert_int_equal(f->downs, 0);
	skipped_ms += 31 * 1000;
	drive(m, 300, NULL, false);
	assert_true(f->downs >= 1);
	assert_string_equal(f->reason, "connected, but no answer: is this an MQTT broker?");
	mqtt_close(m);
	close(fd);
}

/* A CA, a server certificate for 127.0.0.1 and a client certificate, as files. */
static void make_certificates(struct fixture *f, const char *prefix)
{
	static const char *const names[] = { "IP:127.0.0.1", "DNS:localhost" };
	struct private_key *ca_key = NULL, *key = NULL;
	struct buf ca = BUF_INIT(8192), pem = BUF_INIT(8192), public_pem = BUF_INIT(8192);
	struct certificate_request request = { .common_name = "test CA",
					       .is_ca = true,
					       .not_after = time(NULL) + 86400 };
	char name[64];

	request.not_before = time(NULL) - 3600;
	assert_int_equal(private_key_generate(&ca_key), 0);
	assert_int_equal(private_key_public_pem(ca_key, &public_pem), 0);
	request.public_pem = buf_str(&public_pem);
	assert_int_equal(certificate_issue(&request, ca_key, NULL, &ca), 0);
	snprintf(name, sizeof(name), "%sca.crt", prefix);
	write_file(f, name, buf_str(&ca));
	for (int client = 0; client < 2; client++) {
		assert_int_equal(private_key_generate(&key), 0);
		buf_clear(&pem);
		buf_clear(&public_pem);
		assert_int_equal(private_key_save(key, NULL, &pem), 0);
		snprintf(name, sizeof(name), "%s%s.key", prefix, client ? "client" : "server");
		write_file(f, name, buf_str(&pem));
		assert_int_equal(private_key_public_pem(key, &public_pem), 0);
		request = (struct certificate_request){
			.common_name = client ? "n1" : "127.0.0.1",
			.public_pem = buf_str(&public_pem),
			.names = client ? NULL : names,
			.name_count = client ? 0 : 2,
			.server = !client,
			.client = client,
			.not_before = time(NULL) - 3600,
			.not_after = time(NULL) + 86400,
		};
		buf_clear(&pem);
		assert_int_equal(certificate_issue(&request, ca_key, buf_str(&ca), &pem), 0);
		snprintf(name, sizeof(name), "%s%s.crt", prefix, client ? "client" : "server");
		write_file(f, name, buf_str(&pem));
		private_key_free(key);
		key = NULL;
	}
	private_key_free(ca_key);
	buf_done(&ca);
	buf_done(&pem);
	buf_done(&public_pem);
}

static void start_tls_broker(struct fixture *f)
{
	char extra[512];

	snprintf(extra, sizeof(extra),
		 "cafile %s/ca.crt\ncertfile %s/server.crt\nkeyfile %s/server.key\nrequire_certificate true\n"
		 "use_identity_as_username true\nuse_username_as_clientid true\n",
		 f->path, f->path, f->path);
	start_broker(f, extra);
}

struct tls_files {
	char ca[96], cert[96], key[96];
};

static struct mqtt *open_tls_client(struct fixture *f, const char *ca_prefix, bool with_certificate,
				    struct tls_files *files)
{
	struct mqtt_options options = options_for(f);
	struct mqtt *m = NULL;

	snprintf(files->ca, sizeof(files->ca), "%s/%sca.crt", f->path, ca_prefix);
	snprintf(files->cert, sizeof(files->cert), "%s/client.crt", f->path);
	snprintf(files->key, sizeof(files->key), "%s/client.key", f->path);
	options.ca_file = files->ca;
	options.cert_file = with_certificate ? files->cert : NULL;
	options.key_file = with_certificate ? files->key : NULL;
	assert_int_equal(mqtt_open(&options, &m), 0);
	return m;
}

static void tls_with_both_certificates_connects_and_survives_a_killed_broker(void **state)
{
	struct fixture *f = *state;
	struct tls_files files;
	struct mqtt *m;

	make_certificates(f, "");
	start_tls_broker(f);
	m = open_tls_client(f, "", true, &files);
	assert_true(drive(m, 60000, &f->up, true));
	test_broker_kill(&f->broker); /* the abrupt end that kills the library's own thread, 6 of 6 times */
	assert_true(drive(m, 60000, &f->up, false));
	start_tls_broker(f);
	assert_true(drive(m, 60000, &f->up, true));
	mqtt_close(m);
}

static void a_broker_of_another_ca_is_refused_and_retried(void **state)
{
	struct fixture *f = *state;
	struct tls_files files;
	struct mqtt *m;

	make_certificates(f, "");
	make_certificates(f, "other-");
	start_tls_broker(f);
	m = open_tls_client(f, "other-", true, &files);
	drive(m, 1500, NULL, false);
	assert_int_equal(f->ups, 0);
	assert_true(f->downs >= 2);
	assert_non_null(strstr(f->reason, "TLS"));
	mqtt_close(m);
}

static void without_our_certificate_we_are_refused_and_retry(void **state)
{
	struct fixture *f = *state;
	struct tls_files files;
	struct mqtt *m;

	make_certificates(f, "");
	start_tls_broker(f);
	m = open_tls_client(f, "", false, &files);
	drive(m, 1500, NULL, false);
	assert_int_equal(f->ups, 0);
	assert_true(f->downs >= 2);
	mqtt_close(m);
}

/*
 * A TLS server that sends what it is given, in one record, to whoever comes: many packets leave the
 * socket together, and no poll shows those that wait inside TLS.
 */
static void start_record_server(struct fixture *f, struct process *ret, int *ret_pipe)
{
	char port[8], cert[96], key[96];
	const char *argv[] = {
		"/usr/bin/openssl", "s_server", "-quiet", "-accept", port, "-cert", cert, "-key", key, NULL
	};
	struct process_options o = { .argv = argv, .stdout_fd = -1, .stderr_fd = -1, .die_with_parent = true };
	int pipe_fds[2];

	snprintf(port, sizeof(port), "%u", f->broker.port);
	snprintf(cert, sizeof(cert), "%s/server.crt", f->path);
	snprintf(key, sizeof(key), "%s/server.key", f->path);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	o.stdin_fd = pipe_fds[0];
	assert_int_equal(process_start(&o, ret), 0);
	close(pipe_fds[0]);
	*ret_pipe = pipe_fds[1];
}

static void packets_of_one_record_are_all_read(void **state)
{
	enum { MANY = 50 };
	static const uint8_t hello[] = { 0x20, 3, 0, 0, 0, 0x90, 4, 0, 1, 0, 1 },
			     publish[] = { 0x30, 8, 0, 4, 't', '/', 'i', 'n', 0, 'x' };
	struct fixture *f = *state;
	struct buf bytes = BUF_INIT(4096);
	struct process server = { 0 };
	struct tls_files files;
	struct mqtt *m;
	int to_server;

	make_certificates(f, "");
	start_record_server(f, &server, &to_server);
	assert_int_equal(buf_add(&bytes, hello, sizeof(hello)), 0);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(buf_add(&bytes, publish, sizeof(publish)), 0);
	assert_int_equal(write(to_server, bytes.data, bytes.len), (ssize_t) bytes.len);
	f->leaves_errno = EAGAIN; /* at this the library stops reading */
	m = open_tls_client(f, "", true, &files);
	for (int i = 0; i < 600 && f->messages < MANY; i++)
		drive(m, 50, NULL, false);
	assert_int_equal(f->messages, MANY);
	assert_int_equal(f->ups, 1);
	mqtt_close(m);
	close(to_server);
	process_end(&server, 0);
	buf_done(&bytes);
}

static void what_is_retained_is_sent_again_when_asked_for(void **state)
{
	struct fixture *f = *state;
	struct mqtt *m;

	start_broker(f, "");
	m = open_client(f);
	assert_int_equal(mqtt_ask_retained(m, "t/in"), -ENOTCONN);
	assert_true(drive(m, 30000, &f->up, true));
	assert_int_equal(mqtt_publish(m, "t/in", "kept", 4, 1, true), 0);
	for (unsigned wanted = 1; wanted <= 3; wanted++) {
		for (int i = 0; i < 6000 && f->messages < wanted; i++)
			drive(m, 5, NULL, false);
		assert_int_equal(f->messages, wanted);
		assert_string_equal(f->payload, "kept");
		assert_int_equal(f->retained, wanted > 1);
		assert_int_equal(mqtt_ask_retained(m, "t/in"), 0);
	}
	assert_int_equal(f->ups, 1); /* the SUBACK of an asking is no connection */
	mqtt_close(m);
}

/* --- the keepalive --- */

/* `minutes` of a connection that is in use, a minute at a time. */
static void use_for(struct fixture *f, struct mqtt *m, unsigned minutes)
{
	for (unsigned i = 0; i < minutes; i++) {
		unsigned before = f->messages;

		skipped_ms += 60 * 1000;
		assert_int_equal(mqtt_publish(m, "t/in", "use", 3, 1, false), 0);
		for (int tries = 0; tries < 6000 && f->messages == before; tries++)
			drive(m, 5, NULL, false);
		assert_int_equal(f->messages, before + 1);
	}
}

static unsigned keepalive_of(struct mqtt *m)
{
	struct mqtt_stats stats;

	mqtt_stats(m, &stats);
	return stats.keepalive_s;
}

/* End the connection from the outside, right after it was heard. */
static void lose(struct fixture *f, struct mqtt *m)
{
	test_broker_kill(&f->broker);
	assert_true(drive(m, 30000, &f->up, false));
	start_broker(f, "");
	mqtt_retry_now(m);
	assert_true(drive(m, 30000, &f->up, true));
}

static void lose_in_silence(struct fixture *f, struct mqtt *m)
{
	skipped_ms += (uint64_t) keepalive_of(m) * 2000 + 6000;
	assert_true(drive(m, 30000, &f->up, false));
	assert_string_equal(f->reason, "nothing was heard from the broker: a firewall that forgets connections?");
	mqtt_retry_now(m);
	assert_true(drive(m, 30000, &f->up, true));
}

static void the_keepalive_grows_where_connections_hold_and_shrinks_where_they_die(void **state)
{
	struct fixture *f = *state;
	struct mqtt_options options = options_for(f);
	struct mqtt *m = NULL;

	start_broker(f, "");
	options.keepalive_s = 0;
	assert_int_equal(mqtt_open(&options, &m), 0);
	assert_true(drive(m, 30000, &f->up, true));
	assert_int_equal(keepalive_of(m), 60);
	use_for(f, m, 3); /* proves nothing yet */
	lose(f, m);
	assert_int_equal(keepalive_of(m), 60);
	use_for(f, m, 11);
	lose(f, m);
	assert_int_equal(keepalive_of(m), 120);
	use_for(f, m, 21);
	lose(f, m);
	assert_int_equal(keepalive_of(m), 240);
	use_for(f, m, 41);
	lose(f, m);
	assert_int_equal(keepalive_of(m), 240); /* never more */
	lose_in_silence(f, m);
	assert_int_equal(keepalive_of(m), 240); /* once may be anything */
	lose_in_silence(f, m);
	assert_int_equal(keepalive_of(m), 120);
	for (int i = 0; i < 6; i++)
		lose_in_silence(f, m);
	assert_int_equal(keepalive_of(m), 30); /* never less */
	use_for(f, m, 20);
	lose(f, m);
	assert_int_equal(keepalive_of(m), 30); /* what was too long is not tried again the same day */
	skipped_ms += 24ULL * 3600 * 1000;
	assert_true(drive(m, 30000, &f->up, false));
	mqtt_retry_now(m);
	assert_true(drive(m, 30000, &f->up, true));
	use_for(f, m, 6);
	lose(f, m);
	assert_int_equal(keepalive_of(m), 60);
	mqtt_close(m);
}

/* select() could not; poll can (MQTT.md 1.2). */
static void a_descriptor_beyond_select_is_as_good(void **state)
{
	enum { FDS = 1100 };
	struct fixture *f = *state;
	struct rlimit old, more;
	static int fds[FDS];
	struct mqtt *m;
	int count = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	more = old;
	if (old.rlim_cur < FDS + 100)
		more.rlim_cur = old.rlim_max < FDS + 100 ? old.rlim_max : FDS + 100;
	if (more.rlim_cur < FDS + 100)
		skip();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &more), 0);
	start_broker(f, "");
	for (; count < FDS; count++)
		assert_true((fds[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);
	m = open_client(f);
	assert_true(drive(m, 30000, &f->up, true));
	assert_int_equal(mqtt_publish(m, "t/in", "high", 4, 1, false), 0);
	for (int i = 0; i < 600 && f->messages == 0; i++)
		drive(m, 50, NULL, false);
	assert_string_equal(f->payload, "high");
	mqtt_close(m);
	while (count > 0)
		close(fds[--count]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

static void refused_credentials_are_named(void **state)
{
	struct fixture *f = *state;
	struct mqtt *m;

	start_broker(f, "");
	test_broker_kill(&f->broker);
	write_file(f, "passwords", "");
	{
		char extra[160];

		snprintf(extra, sizeof(extra), "password_file %s/passwords\nallow_anonymous false\n", f->path);
		f->broker.port = free_port();
		start_broker(f, extra);
	}
	m = open_client(f);
	drive(m, 1000, NULL, false);
	assert_int_equal(f->ups, 0);
	assert_true(f->downs >= 1);
	assert_non_null(strstr(f->reason, "the broker refused"));
	mqtt_close(m);
}

static int open_descriptors(void)
{
	struct name_list list = { 0 };
	int count, fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(dir_list(&os_posix, fd, ".", &list), 0);
	count = (int) list.count;
	name_list_done(&list);
	close(fd);
	return count;
}

static void thirty_reconnects_leak_no_descriptor(void **state)
{
	struct fixture *f = *state;
	struct mqtt *m = open_client(f);
	int before;

	drive(m, 300, NULL, false);
	before = open_descriptors();
	for (int i = 0; i < 30; i++) {
		skipped_ms += 1000;
		drive(m, 20, NULL, false);
	}
	assert_true(f->downs >= 30);
	assert_int_equal(open_descriptors(), before);
	mqtt_close(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_published_arrives, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_killed_broker_is_found_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_refused_connect_is_retried_without_spinning, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_peer_that_says_nothing_is_given_up, set_up, tear_down),
		cmocka_unit_test_setup_teardown(tls_with_both_certificates_connects_and_survives_a_killed_broker,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_broker_of_another_ca_is_refused_and_retried, set_up, tear_down),
		cmocka_unit_test_setup_teardown(without_our_certificate_we_are_refused_and_retry, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(what_is_retained_is_sent_again_when_asked_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown(packets_of_one_record_are_all_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			the_keepalive_grows_where_connections_hold_and_shrinks_where_they_die, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_descriptor_beyond_select_is_as_good, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refused_credentials_are_named, set_up, tear_down),
		cmocka_unit_test_setup_teardown(thirty_reconnects_leak_no_descriptor, set_up, tear_down),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
