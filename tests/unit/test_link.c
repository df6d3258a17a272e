/*
 * agent/link/link.h: the link process between an engine (this test) and a real broker.
 */
#include "agent/link/link.h"
#include "agent/link/protocol.h"
#include "base/err.h"
#include "mqtt/mqtt.h"
#include "os/durable.h"
#include "os/frame.h"
#include "support/broker.h"
#include "pack/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static volatile sig_atomic_t stop_link;

static void on_term(int sig)
{
	(void) sig;
	stop_link = 1;
}

struct fixture {
	char path[64];
	int dirfd, outbox;
	struct test_broker broker;
	pid_t link;
	struct frame_conn engine;
	struct mqtt *desk; /* the controller's side */
	bool desk_up;
	char topic[128];
	char payload[4096];
	bool retained;
	unsigned messages;
};

static void start_broker(struct fixture *f)
{
	test_broker_start(&f->broker, f->path, f->dirfd, "");
}

static void start_link_on(struct fixture *f, bool with_broker, const enum link_road *roads, size_t road_count)
{
	static const char *const urls[] = { "https://127.0.0.1:1/" };
	char none[80], stick[80];
	const char *const folders[] = { none, stick };
	int pair[2];

	snprintf(none, sizeof(none), "%s/none", f->path);
	snprintf(stick, sizeof(stick), "%s/stick", f->path);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	f->link = fork();
	assert_true(f->link >= 0);
	if (f->link == 0) {
		const struct link_options o = {
			.os = &os_posix,
			.engine_fd = pair[1],
			.outbox_dirfd = f->outbox,
			.fleet = "demo",
			.node = "n1",
			.boot_id = "boot",
			.urls = urls,
			.url_count = 1,
			.ca_pem = NULL,
			.roads = roads,
			.road_count = road_count,
			.folders = folders,
			.folder_count = ARRAY_LEN(folders),
			.broker_host = with_broker ? "127.0.0.1" : NULL,
			.broker_port = f->broker.port,
			.stop = &stop_link,
		};

		close(pair[0]);
		signal(SIGTERM, on_term);
		_exit(link_run(&o) == 0 ? 0 : 1);
	}
	close(pair[1]);
	frame_conn_init(&f->engine, pair[0], LINK_FRAME_MAX);
}

static void start_link(struct fixture *f, bool with_broker)
{
	static const enum link_road roads[] = { LINK_ROAD_HTTPS, LINK_ROAD_MQTT };

	start_link_on(f, with_broker, roads, ARRAY_LEN(roads));
}

/* Wait for a frame of this type, letting the desk run meanwhile; others are passed over. */
static bool await_frame(struct fixture *f, enum link_frame type, struct frame *ret, int ms)
{
	uint64_t end = os_posix.clock_boot_ms(&os_posix) + (uint64_t) ms;

	while (os_posix.clock_boot_ms(&os_posix) < end) {
		struct pollfd p[2] = { { .fd = f->engine.fd,
					 .events = (short) (POLLIN |
							    (frame_wants_write(&f->engine) ? POLLOUT : 0)) },
				       { .fd = -1 } };
		int timeout = 50;

		if (f->desk)
			mqtt_poll_prepare(f->desk, &p[1], &timeout);
		(void) poll(p, 2, timeout);
		if (f->desk)
			mqtt_poll_done(f->desk, p[1].fd >= 0 ? p[1].revents : 0);
		assert_int_equal(frame_pump(&f->engine, p[0].revents), 0);
		while (frame_next(&f->engine, ret) > 0)
			if (ret->type == type)
				return true;
	}
	return false;
}

static void desk_state(void *user, bool up, const char *reason)
{
	struct fixture *f = user;

	(void) reason;
	f->desk_up = up;
}

static void desk_message(void *user, const char *topic, const void *payload, size_t len, bool retained)
{
	struct fixture *f = user;

	f->messages++;
	f->retained = retained;
	snprintf(f->topic, sizeof(f->topic), "%s", topic);
	snprintf(f->payload, sizeof(f->payload), "%.*s", (int) len, (const char *) payload);
}

static void open_desk(struct fixture *f, const char *filter)
{
	const char *filters[] = { filter };
	const struct mqtt_options options = {
		.os = &os_posix,
		.host = "127.0.0.1",
		.port = f->broker.port,
		.client_id = "desk",
		.subscriptions = filters,
		.subscription_count = 1,
		.retry_cap_ms = 100,
		.on_state = desk_state,
		.on_message = desk_message,
		.user = f,
	};

	assert_int_equal(mqtt_open(&options, &f->desk), 0);
}

static void run_desk(struct fixture *f, int ms, const unsigned *count, unsigned wanted)
{
	uint64_t end = os_posix.clock_boot_ms(&os_posix) + (uint64_t) ms;

	while (os_posix.clock_boot_ms(&os_posix) < end && !(count && *count >= wanted)) {
		struct pollfd p;
		int timeout = 20;

		mqtt_poll_prepare(f->desk, &p, &timeout);
		(void) poll(&p, 1, timeout);
		mqtt_poll_done(f->desk, p.fd >= 0 ? p.revents : 0);
	}
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strncpy(f->path, "/tmp/link.XXXXXX", sizeof(f->path) - 1);
	assert_non_null(mkdtemp(f->path));
	assert_int_equal(chmod(f->path, 0755), 0);
	f->dirfd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(f->dirfd, "outbox", 0700), 0);
	f->outbox = openat(f->dirfd, "outbox", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->broker.port = free_port();
	f->engine.fd = -1;
	*state = f;
	return 0;
}

static void end_link(struct fixture *f)
{
	int status = 0;

	if (f->link <= 0)
		return;
	frame_conn_done(&f->engine);
	assert_int_equal(waitpid(f->link, &status, 0), f->link);
	f->link = 0;
	assert_true(WIFEXITED(status) &&
		    WEXITSTATUS(status) == 0); /* the engine is gone: it leaves in good order */
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	end_link(f);
	mqtt_close(f->desk);
	test_broker_kill(&f->broker);
	assert_int_equal(tree_remove(&os_posix, AT_FDCWD, f->path), 0);
	close(f->outbox);
	close(f->dirfd);
	free(f);
	return 0;
}

static void tell(struct fixture *f, enum link_frame type, uint64_t number, const char *text)
{
	uint8_t data[1024];
	size_t len = strlen(text);

	for (int i = 0; i < 8; i++)
		data[i] = (uint8_t) (number >> (56 - 8 * i));
	memcpy(data + 8, text, len);
	assert_int_equal(frame_send(&f->engine, (uint16_t) type, 5, data, 8 + len), 0);
	assert_int_equal(frame_pump(&f->engine, POLLOUT), 0);
}

static int32_t error_of(const struct frame *f)
{
	return (int32_t) ((uint32_t) f->data[0] << 24 | (uint32_t) f->data[1] << 16 | (uint32_t) f->data[2] << 8 |
			  f->data[3]);
}

static void put_on_stick(struct fixture *f, const char *name, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "stick/metadata/%s", name);
	fd = openat(f->dirfd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(file_write_all(&os_posix, fd, text, strlen(text)), 0);
	close(fd);
}

static void fill_stick(struct fixture *f)
{
	assert_int_equal(mkdirat(f->dirfd, "stick", 0755), 0);
	assert_int_equal(mkdirat(f->dirfd, "stick/metadata", 0755), 0);
	put_on_stick(f, "timestamp.json", "old");
	put_on_stick(f, "2.root.json", "root");
	put_on_stick(f, "7.targets.json", "targets");
}

static void a_folder_brings_what_has_a_name_of_its_own(void **state)
{
	static const enum link_road roads[] = { LINK_ROAD_FILE, LINK_ROAD_HTTPS };
	static const char *const news[] = { "metadata/timestamp.json", "metadata/2.root.json",
					    "metadata/8.targets.json" };
	struct fixture *f = *state;
	struct frame frame;

	fill_stick(f);
	start_link_on(f, false, roads, ARRAY_LEN(roads));
	tell(f, LINK_FETCH, 1000, "metadata/7.targets.json");
	assert_true(await_frame(f, LINK_FETCHED, &frame, 30000));
	assert_int_equal(error_of(&frame), 0);
	assert_memory_equal(frame.data + 4, "targets", 7);
	/* What is new is asked of the origin, and so is what the folder lacks or is too large in it: here nobody answers. */
	for (size_t i = 0; i < ARRAY_LEN(news); i++) {
		tell(f, LINK_FETCH, 1000, news[i]);
		assert_true(await_frame(f, LINK_FETCHED, &frame, 30000));
		assert_int_equal(error_of(&frame), -ERR_NETWORK);
	}
	tell(f, LINK_FETCH, 3, "metadata/7.targets.json");
	assert_true(await_frame(f, LINK_FETCHED, &frame, 30000));
	assert_int_equal(error_of(&frame), -ERR_NETWORK);
}

static void a_folder_alone_brings_everything(void **state)
{
	static const enum link_road roads[] = { LINK_ROAD_FILE };
	struct fixture *f = *state;
	struct frame frame;

	start_link_on(f, false, roads, ARRAY_LEN(roads));
	tell(f, LINK_FETCH, 1000, "metadata/timestamp.json");
	assert_true(await_frame(f, LINK_FETCHED, &frame, 30000));
	assert_int_equal(error_of(&frame), -ENOENT);
	fill_stick(f); /* somebody plugs it in */
	tell(f, LINK_FETCH, 1000, "metadata/timestamp.json");
	assert_true(await_frame(f, LINK_FETCHED, &frame, 30000));
	assert_int_equal(error_of(&frame), 0);
	assert_memory_equal(frame.data + 4, "old", 3);
	tell(f, LINK_FETCH, 1000, "metadata/3.root.json");
	assert_true(await_frame(f, LINK_FETCHED, &frame, 30000));
	assert_int_equal(error_of(&frame), -ENOENT); /* there is no next root */
}

static void it_says_when_it_is_connected(void **state)
{
	struct fixture *f = *state;
	struct frame frame;

	start_broker(f);
	start_link(f, true);
	for (bool up = false; !up; up = frame.data[0] == 1)
		assert_true(await_frame(f, LINK_STATE, &frame, 30000));
	assert_memory_equal(frame.data + 1, "MQTT 5", 6);
}

/* Another agent follows at once: presence says so, and the link goes by itself. */
static void it_leaves_for_another_agent(void **state)
{
	struct fixture *f = *state;
	struct frame frame;
	int status = 0;

	start_broker(f);
	start_link(f, true);
	for (bool up = false; !up; up = frame.data[0] == 1)
		assert_true(await_frame(f, LINK_STATE, &frame, 30000));
	open_desk(f, "selfright/v1/demo/node/n1/presence");
	run_desk(f, 60000, &f->messages, 1);
	assert_non_null(strstr(f->payload, "\"online\":true"));
	assert_null(strstr(f->payload, "handing-over"));
	assert_int_equal(frame_send(&f->engine, LINK_LEAVE, 0, NULL, 0), 0);
	assert_int_equal(frame_pump(&f->engine, POLLOUT), 0);
	/* It leaves by itself: our end of the socket is still open. */
	assert_int_equal(waitpid(f->link, &status, 0), f->link);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	f->link = 0;
	frame_conn_done(&f->engine);
	run_desk(f, 60000, &f->messages, 2);
	if (!strstr(f->payload, "\"state\":\"handing-over\""))
		fail_msg("%u messages, the last: %s", f->messages, f->payload);
	assert_non_null(strstr(f->payload, "\"online\":false"));
}

/* The engine is gone, or the machine goes down: with a DISCONNECT there is no will, so it says so itself. */
static void who_leaves_in_good_order_is_not_online(void **state)
{
	struct fixture *f = *state;
	struct frame frame;

	start_broker(f);
	start_link(f, true);
	for (bool up = false; !up; up = frame.data[0] == 1)
		assert_true(await_frame(f, LINK_STATE, &frame, 30000));
	end_link(f);
	open_desk(f, "selfright/v1/demo/node/n1/presence");
	run_desk(f, 30000, &f->messages, 1);
	assert_true(f->retained);
	if (!strstr(f->payload, "\"online\":false") || !strstr(f->payload, "\"state\":\"stopped\""))
		fail_msg("%s", f->payload);
}

static void without_a_broker_it_says_so(void **state)
{
	struct fixture *f = *state;
	struct frame frame;

	start_link(f, false);
	assert_true(await_frame(f, LINK_STATE, &frame, 30000));
	assert_int_equal(frame.data[0], 0);
}

static void a_report_is_retained_and_kept_until_it_is_acknowledged(void **state)
{
	struct fixture *f = *state;
	struct frame frame;
	struct stat st;

	start_broker(f);
	start_link(f, true);
	tell(f, LINK_REPORT, 41, "{\"signed\":{}}");
	for (bool up = false; !up; up = frame.data[0] == 1)
		assert_true(await_frame(f, LINK_STATE, &frame, 30000));
	/* What comes first may still be on its way; who asks after it gets what the broker keeps. */
	open_desk(f, "selfright/v1/demo/node/n1/report");
	run_desk(f, 60000, &f->messages, 1);
	assert_int_equal(f->messages, 1);
	mqtt_close(f->desk);
	f->messages = 0;
	open_desk(f, "selfright/v1/demo/node/n1/report");
	run_desk(f, 60000, &f->messages, 1);
	assert_int_equal(f->messages, 1);
	assert_true(f->retained);
	assert_string_equal(f->payload, "{\"signed\":{}}");
	/* A PUBACK deletes nothing; the verified ack does. */
	assert_int_equal(fstatat(f->outbox, "report", &st, 0), 0);
	assert_int_equal(mqtt_publish(f->desk, "selfright/v1/demo/node/n1/ack", "signed ack", 10, 1, false), 0);
	assert_true(await_frame(f, LINK_ACK, &frame, 30000));
	assert_int_equal(frame.len, 10);
	assert_int_equal(fstatat(f->outbox, "report", &st, 0), 0);
	tell(f, LINK_ACKED, 41, "");
	for (int i = 0; i < 6000 && fstatat(f->outbox, "report", &st, 0) == 0; i++)
		usleep(20 * 1000);
	assert_int_equal(fstatat(f->outbox, "report", &st, 0), -1);
}

static void an_unacknowledged_report_is_sent_again_by_the_next_process(void **state)
{
	struct fixture *f = *state;
	struct frame frame;

	start_link(f, true); /* nobody listens yet */
	tell(f, LINK_REPORT, 7, "again");
	assert_true(await_frame(f, LINK_STATE, &frame, 30000));
	for (struct stat st; fstatat(f->outbox, "report", &st, 0) != 0;)
		usleep(10 * 1000);
	kill(f->link, SIGKILL);
	assert_int_equal(waitpid(f->link, NULL, 0), f->link);
	frame_conn_done(&f->engine);
	start_broker(f);
	start_link(f, true);
	open_desk(f, "selfright/v1/demo/node/n1/report");
	run_desk(f, 60000, &f->messages, 1);
	assert_string_equal(f->payload, "again");
}

static void announcements_are_expanded_and_bombs_dropped(void **state)
{
	struct fixture *f = *state;
	struct buf bomb = BUF_INIT(1 << 20), small = BUF_INIT(1 << 20);
	char *zeros = calloc(1, 3 << 20);
	struct frame frame;

	start_broker(f);
	start_link(f, true);
	open_desk(f, "selfright/v1/demo/node/n1/event");
	for (bool up = false; !up; up = frame.data[0] == 1)
		assert_true(await_frame(f, LINK_STATE, &frame, 30000));
	run_desk(f, 300, NULL, 0);
	assert_int_equal(gzip_compress(zeros, 3 << 20, &bomb), 0);
	assert_int_equal(gzip_compress("{\"format\":1}", 12, &small), 0);
	assert_int_equal(mqtt_publish(f->desk, "selfright/v1/demo/announce", bomb.data, bomb.len, 1, false), 0);
	assert_int_equal(mqtt_publish(f->desk, "selfright/v1/demo/announce", "no gzip", 7, 1, false), 0);
	assert_int_equal(mqtt_publish(f->desk, "selfright/v1/demo/node/n1/announce", small.data, small.len, 1,
				      false),
			 0);
	assert_true(await_frame(f, LINK_ANNOUNCE, &frame, 30000));
	assert_int_equal(frame.len, 12);
	assert_memory_equal(frame.data, "{\"format\":1}", 12);
	buf_done(&bomb);
	buf_done(&small);
	free(zeros);
}

static void tell_event(struct fixture *f, const char *state)
{
	char text[128];
	int n = snprintf(text, sizeof(text), "{\"component\":\"web\",\"update\":\"r/web/1\",\"state\":\"%s\"}",
			 state);

	assert_int_equal(frame_send(&f->engine, LINK_EVENT, 0, text, (size_t) n), 0);
	assert_int_equal(frame_pump(&f->engine, POLLOUT), 0);
}

static off_t events_bytes(struct fixture *f)
{
	struct stat st;

	return fstatat(f->outbox, "events", &st, 0) == 0 ? st.st_size : 0;
}

static void events_wait_for_the_connection(void **state)
{
	struct fixture *f = *state;

	start_link(f, true);
	tell_event(f, "staging");
	tell_event(f, "staging"); /* progress while nobody is there: no news later */
	for (struct stat st; fstatat(f->outbox, "events", &st, 0) != 0;)
		usleep(10 * 1000);
	/* The power goes: the next process has it. */
	kill(f->link, SIGKILL);
	assert_int_equal(waitpid(f->link, NULL, 0), f->link);
	frame_conn_done(&f->engine);
	start_link(f, true);
	/* The link stands still until the desk listens: an event is not retained. */
	assert_int_equal(kill(f->link, SIGSTOP), 0);
	start_broker(f);
	open_desk(f, "selfright/v1/demo/node/n1/event");
	for (int i = 0; i < 1200 && !f->desk_up; i++)
		run_desk(f, 50, NULL, 0);
	assert_int_equal(kill(f->link, SIGCONT), 0);
	run_desk(f, 60000, &f->messages, 1);
	assert_int_equal(f->messages, 1);
	assert_non_null(strstr(f->payload, "\"state\":\"staging\""));
	assert_non_null(strstr(f->payload, "\"queue\":\""));
	assert_non_null(strstr(f->payload, "\"number\":"));
	/* It leaves the disk with the ack of a report that went out behind it, and not before. */
	tell(f, LINK_REPORT, 41, "{}");
	run_desk(f, 300, NULL, 0);
	assert_true(events_bytes(f) > 0);
	tell(f, LINK_ACKED, 41, "");
	for (int i = 0; i < 6000 && events_bytes(f) > 0; i++)
		usleep(20 * 1000);
	assert_int_equal(events_bytes(f), 0);
}

static void a_fetch_that_fails_is_answered_with_the_reason(void **state)
{
	struct fixture *f = *state;
	struct frame frame;

	start_link(f, false);
	tell(f, LINK_FETCH, 1000, "metadata/timestamp.json");
	assert_true(await_frame(f, LINK_FETCHED, &frame, 60000));
	assert_int_equal(frame.id, 5);
	assert_true(frame.len > 4);
	assert_true((int32_t) ((uint32_t) frame.data[0] << 24 | (uint32_t) frame.data[1] << 16 |
			       (uint32_t) frame.data[2] << 8 | frame.data[3]) < 0);
}

static void a_broken_protocol_ends_the_link(void **state)
{
	struct fixture *f = *state;
	int status = 0;

	start_link(f, false);
	assert_int_equal(frame_send(&f->engine, 99, 0, "", 0), 0);
	assert_int_equal(frame_pump(&f->engine, POLLOUT), 0);
	assert_int_equal(waitpid(f->link, &status, 0), f->link);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	frame_conn_done(&f->engine);
	f->link = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_folder_brings_what_has_a_name_of_its_own, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_folder_alone_brings_everything, set_up, tear_down),
		cmocka_unit_test_setup_teardown(it_says_when_it_is_connected, set_up, tear_down),
		cmocka_unit_test_setup_teardown(it_leaves_for_another_agent, set_up, tear_down),
		cmocka_unit_test_setup_teardown(who_leaves_in_good_order_is_not_online, set_up, tear_down),
		cmocka_unit_test_setup_teardown(without_a_broker_it_says_so, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_report_is_retained_and_kept_until_it_is_acknowledged, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(an_unacknowledged_report_is_sent_again_by_the_next_process, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(announcements_are_expanded_and_bombs_dropped, set_up, tear_down),
		cmocka_unit_test_setup_teardown(events_wait_for_the_connection, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_fetch_that_fails_is_answered_with_the_reason, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_broken_protocol_ends_the_link, set_up, tear_down),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
