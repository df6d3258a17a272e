#include "base/err.h"
#include "base/log.h"
#include "base/text.h"
#include "crypto/digest.h"
#include "fetch/fetch.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "os/frame.h"
#include "os/os.h"
#include "os/unixsock.h"
#include "pack/pack.h"
#include "server-stub/repo/offline.h"
#include "server-stub/repo/repo.h"
#include "server-stub/repo/role_file.h"
#include "server-stub/signer/client.h"
#include "server-stub/signer/signer.h"
#include "support/fault_loop.h"
#include "support/os_fault.h"
#include "tuf/tuf.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define OLD_INDEX "{\"format\":1,\"rollouts\":[],\"freeze\":[]}"
#define NEW_INDEX "{\"format\":1,\"rollouts\":[],\"freeze\":[],\"note\":\"new\"}"

/* One fleet for all tests: a signer process, and a folder that each test works on a copy of. */
static struct {
	char dir[256], socket[300], keys[300];
	pid_t signer;
	struct key_files root, targets, team;
} fleet;

static int64_t now_s(void)
{
	return (int64_t) time(NULL);
}

/* --- the signer, in a process of its own --- */

enum { CONNECTIONS = 4 };

/* Answer what came; false when the peer is gone. */
static bool serve_connection(struct signer *s, struct frame_conn *c, short events)
{
	struct frame f;

	if (frame_pump(c, events) < 0)
		return false;
	while (frame_next(c, &f) > 0) {
		CLEANUP(buf_done)
		struct buf answer = BUF_INIT(SIGNER_MAX_BYTES);
		uint32_t id = f.id;
		int e = signer_handle(s, 0, f.type, f.data, f.len, &answer);

		if (e < 0) {
			buf_clear(&answer);
			(void) !buf_addf(&answer, "{\"code\":%d,\"sentence\":\"refused by the test's signer\"}",
					 -e);
		}
		(void) !frame_send(c, e < 0 ? SIGNER_ERROR : SIGNER_OK, id, answer.data, answer.len);
	}
	return frame_pump(c, POLLOUT) >= 0;
}

static _Noreturn void signer_process(int listener)
{
	const struct signer_options o = { .os = os_quick(), .dir = fleet.dir, .roles_per_minute = 1000000 };
	struct frame_conn connections[CONNECTIONS];
	bool open[CONNECTIONS] = { false };
	struct signer *s = NULL;

	(void) prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (signer_open(&o, &s) < 0)
		_exit(1);
	for (;;) {
		struct pollfd p[CONNECTIONS + 1] = { { .fd = listener, .events = POLLIN } };
		uid_t uid;
		pid_t pid;

		for (int i = 0; i < CONNECTIONS; i++)
			p[i + 1] = (struct pollfd){ .fd = open[i] ? connections[i].fd : -1, .events = POLLIN };
		(void) poll(p, CONNECTIONS + 1, -1);
		for (int i = 0; i < CONNECTIONS; i++)
			if (open[i] && p[i + 1].revents &&
			    !serve_connection(s, &connections[i], p[i + 1].revents)) {
				frame_conn_done(&connections[i]);
				open[i] = false;
			}
		for (int i = 0; i < CONNECTIONS && (p[0].revents & POLLIN); i++)
			if (!open[i]) {
				int fd = unixsock_accept(listener, &uid, &pid);

				if (fd >= 0)
					frame_conn_init(&connections[i], fd, SIGNER_MAX_BYTES);
				open[i] = fd >= 0;
				break;
			}
	}
}

/* --- making a fleet --- */

static void path_of(char *out, const char *dir, const char *name)
{
	(void) snprintf(out, 512, "%s/%s", dir, name);
}

static void write_text(const char *dir, const char *name, const char *text)
{
	char path[512];

	path_of(path, dir, name);
	assert_int_equal(0, durable_write_file(os_quick(), AT_FDCWD, path, text, strlen(text), 0644));
}

static void make_keys(const char *role, unsigned count, const char *folder, struct key_files *ret)
{
	for (unsigned i = 1; i <= count; i++) {
		char name[64];

		(void) snprintf(name, sizeof(name), "%s-%u", role, i);
		assert_int_equal(0, key_files_create(os_quick(), folder, name, NULL, ret));
	}
}

static struct signer_client *connect_signer(void)
{
	struct signer_client *c = NULL;

	assert_int_equal(0, signer_connect(fleet.socket, &c));
	return c;
}

static void sign_body(const struct json *body, const struct key_files *keys, struct buf *ret)
{
	assert_int_equal(0, offline_sign(body, keys, NULL, ret));
}

static void first_publication(void)
{
	static const char *const online[] = { "rollouts", "support", "snapshot", "timestamp", "control" };
	static const char *const folders[] = { "rollouts/*", "nodes/*" };
	struct key_files keys[5] = { { .count = 0 } };
	struct offline_role top[4], delegated[2];
	CLEANUP(json_freep)
	struct json *root = NULL;
	CLEANUP(json_freep)
	struct json *targets = NULL;
	CLEANUP(json_freep)
	struct json *with_team = NULL;
	CLEANUP(json_freep)
	struct json *team = NULL;
	struct buf texts[3] = { BUF_INIT(ROLE_FILE_MAX), BUF_INIT(ROLE_FILE_MAX), BUF_INIT(ROLE_FILE_MAX) };
	static const char *const paths[] = { "web/policy.json", "web/*/release.json" };
	const struct offline_role team_role = { "team-web", &fleet.team, 1, paths, 2 };
	const struct repo_document index = { "rollouts/index.json", OLD_INDEX, strlen(OLD_INDEX) };
	char folder[512];
	struct signer_client *signer;
	struct repo *repo;
	int listener;

	path_of(folder, fleet.dir, "signer");
	for (size_t i = 0; i < ARRAY_LEN(online); i++)
		make_keys(online[i], 1, folder, &keys[i]);
	listener = unixsock_listen(fleet.socket, 0600);
	assert_true(listener >= 0);
	fleet.signer = fork();
	assert_true(fleet.signer >= 0);
	if (fleet.signer == 0)
		signer_process(listener);
	assert_int_equal(0, close(listener));

	top[0] = (struct offline_role){ "root", &fleet.root, 2, NULL, 0 };
	top[1] = (struct offline_role){ "targets", &fleet.targets, 1, NULL, 0 };
	top[2] = (struct offline_role){ "snapshot", &keys[2], 1, NULL, 0 };
	top[3] = (struct offline_role){ "timestamp", &keys[3], 1, NULL, 0 };
	delegated[0] = (struct offline_role){ "rollouts", &keys[0], 1, &folders[0], 1 };
	delegated[1] = (struct offline_role){ "support", &keys[1], 1, &folders[1], 1 };
	assert_int_equal(0, offline_first_root(top, now_s(), &root));
	assert_int_equal(0, offline_first_targets(delegated, 2, &keys[4], now_s(), &targets));
	assert_int_equal(0, offline_delegate(targets, &team_role, now_s(), &with_team));
	assert_int_equal(0, offline_first_listing(now_s(), &team));
	sign_body(root, &fleet.root, &texts[0]);
	sign_body(with_team, &fleet.targets, &texts[1]);
	sign_body(team, &fleet.team, &texts[2]);

	signer = connect_signer();
	assert_int_equal(0, repo_open(os_quick(), fleet.dir, signer, &repo));
	{
		const struct repo_role roles[] = { { "root", texts[0].data, texts[0].len },
						   { "targets", texts[1].data, texts[1].len },
						   { "team-web", texts[2].data, texts[2].len } };

		if (repo_publish_roles(repo, roles, 3) < 0)
			fail_msg("%s", repo_error(repo));
	}
	assert_int_equal(0, repo_update_online(repo, "rollouts", &index, 1, NULL, 0));
	assert_int_equal(0, repo_update_online(repo, "support", NULL, 0, NULL, 0));
	repo_close(repo);
	signer_disconnect(signer);
	for (size_t i = 0; i < 5; i++)
		key_files_done(&keys[i]);
	for (size_t i = 0; i < 3; i++)
		buf_done(&texts[i]);
}

static void silent(void *user, enum log_level level, const char *event, const char *text)
{
	(void) user;
	(void) level;
	(void) event;
	(void) text;
}

static int group_setup(void **state)
{
	static const char *const folders[] = { "signer", "keys", "repo", "serve" };
	char path[512];

	(void) state;
	log_set(silent, NULL, LOG_LEVEL_ERROR);
	temp_folder(fleet.dir, sizeof(fleet.dir));
	(void) snprintf(fleet.socket, sizeof(fleet.socket), "%s/signer.sock", fleet.dir);
	(void) snprintf(fleet.keys, sizeof(fleet.keys), "%s/keys", fleet.dir);
	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		path_of(path, fleet.dir, folders[i]);
		assert_int_equal(0, mkdir(path, 0700));
	}
	write_text(fleet.dir, "fleet.json", "{\"format\":1,\"fleet\":\"demo\"}");
	make_keys("root", 3, fleet.keys, &fleet.root);
	make_keys("targets", 1, fleet.keys, &fleet.targets);
	make_keys("team-web", 1, fleet.keys, &fleet.team);
	first_publication();
	return 0;
}

static int group_teardown(void **state)
{
	(void) state;
	(void) kill(fleet.signer, SIGKILL);
	(void) waitpid(fleet.signer, NULL, 0);
	key_files_done(&fleet.root);
	key_files_done(&fleet.targets);
	key_files_done(&fleet.team);
	temp_folder_remove(fleet.dir);
	return 0;
}

/* --- a copy of the fleet's folder, for one test --- */

static void copy_file(const char *from, const char *to)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(ROLE_FILE_MAX);

	assert_int_equal(0, file_read(os_quick(), AT_FDCWD, from, ROLE_FILE_MAX, &bytes));
	assert_int_equal(0, durable_write_file(os_quick(), AT_FDCWD, to, buf_str(&bytes), bytes.len, 0644));
}

static void copy_tree(const char *from, const char *to)
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };

	assert_true(mkdir(to, 0755) == 0 || errno == EEXIST);
	assert_int_equal(0, dir_list(os_quick(), AT_FDCWD, from, &names));
	for (size_t i = 0; i < names.count; i++) {
		char a[512], b[512];
		struct stat st;

		path_of(a, from, names.names[i]);
		path_of(b, to, names.names[i]);
		assert_int_equal(0, lstat(a, &st));
		if (S_ISDIR(st.st_mode))
			copy_tree(a, b);
		else
			copy_file(a, b);
	}
}

static void copy_fleet(const char *to)
{
	char a[512], b[512];

	path_of(a, fleet.dir, "repo");
	path_of(b, to, "repo");
	copy_tree(a, b);
	path_of(a, fleet.dir, "fleet.json");
	path_of(b, to, "fleet.json");
	copy_file(a, b);
}

struct bench {
	char dir[256];
	struct signer_client *signer;
	struct repo *repo;
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	temp_folder(b->dir, sizeof(b->dir));
	copy_fleet(b->dir);
	b->signer = connect_signer();
	assert_int_equal(0, repo_open(os_quick(), b->dir, b->signer, &b->repo));
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	repo_close(b->repo);
	signer_disconnect(b->signer);
	temp_folder_remove(b->dir);
	free(b);
	return 0;
}

static uint64_t version_of(struct repo *r, const char *role)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(role_file_freep)
	struct role_file *f = NULL;

	assert_int_equal(0, repo_read_role(r, role, &bytes));
	assert_int_equal(0, role_file_parse(role, bytes.data, bytes.len, &f));
	return f->version;
}

/* A client that knows only the first root must reach this target, or not (-ERR_NOT_LISTED and the like). */
static int client_read(const char *dir, const char *target, struct buf *ret)
{
	CLEANUP(tuf_client_closep)
	struct tuf_client *client = NULL;
	CLEANUP(buf_done)
	struct buf root = BUF_INIT(ROLE_FILE_MAX);
	struct tuf_options o = { .os = os_quick(),
				 .prefix = "metadata/",
				 .targets_prefix = "targets/",
				 .limits = tuf_limits_default,
				 .hold_time_floor = true,
				 .clock_synchronised = true };
	struct folder_fetcher fetcher;
	char store[256], path[512];
	int r, dirfd, repofd;

	temp_folder(store, sizeof(store));
	dirfd = dir_open(os_quick(), AT_FDCWD, store);
	path_of(path, dir, "repo");
	repofd = dir_open(os_quick(), AT_FDCWD, path);
	assert_true(dirfd >= 0 && repofd >= 0);
	folder_fetcher_init(&fetcher, repofd);
	assert_int_equal(0, file_read(os_quick(), repofd, "metadata/1.root.json", ROLE_FILE_MAX, &root));
	o.dirfd = dirfd;
	assert_int_equal(0, tuf_client_open(&o, &client));
	assert_int_equal(0, tuf_client_init(client, root.data, root.len));
	r = tuf_client_refresh(client, &fetcher.fetcher, NULL);
	if (r >= 0)
		r = tuf_client_read(client, &fetcher.fetcher, target, ROLE_FILE_MAX, ret, NULL);
	tuf_client_close(client);
	client = NULL;
	assert_int_equal(0, close(dirfd));
	assert_int_equal(0, close(repofd));
	temp_folder_remove(store);
	return r;
}

static void client_reads(const char *dir, const char *target, const char *expected)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(ROLE_FILE_MAX);

	assert_int_equal(0, client_read(dir, target, &text));
	assert_string_equal(expected, buf_str(&text));
}

/* --- releases --- */

static void upload(struct bench *b, const char *text, char sha256[static SHA256_HEX + 1])
{
	char path[1024];

	assert_int_equal(0, sha256_hex(text, strlen(text), sha256));
	(void) snprintf(path, sizeof(path), "%s/%s", repo_upload_dir(b->repo), sha256);
	assert_int_equal(0, durable_write_file(os_quick(), AT_FDCWD, path, text, strlen(text), 0600));
}

struct made {
	const char *component, *version; /* in the document */
	const char *artifact_path;
	uint64_t artifact_length;
	const char *artifact_sha256;
};

static void release_text(const struct made *m, struct buf *ret)
{
	assert_int_equal(0, buf_addf(ret,
				     "{\"format\":1,\"component\":\"%s\",\"version\":\"%s\",\"kind\":\"tree\","
				     "\"artifacts\":[{\"path\":"
				     "\"%s\",\"length\":%llu,\"sha256\":\"%s\",\"form\":\"full\",\"media\":"
				     "\"application/x-tar+zstd\"}],"
				     "\"tree\":{\"digest\":\"%064d\",\"installed_size\":1,\"files\":1}}",
				     m->component, m->version, m->artifact_path,
				     (unsigned long long) m->artifact_length, m->artifact_sha256, 0));
}

/* The team's metadata that lists one more file, signed. */
static void list_file(struct bench *b, const char *path, size_t length, const char *sha256,
		      const struct key_files *keys, int64_t when, struct buf *ret)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(json_freep)
	struct json *body = NULL;

	assert_int_equal(0, repo_read_role(b->repo, "team-web", &bytes));
	assert_int_equal(0, json_parse(bytes.data, bytes.len, &json_limits_default, &doc));
	assert_int_equal(0, offline_list(json_get(doc, "signed"), path, length, sha256, when, &body));
	sign_body(body, keys, ret);
}

static int publish_release(struct bench *b, const char *version, const char *content)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(65536), metadata = BUF_INIT(ROLE_FILE_MAX);
	char artifact[SHA256_HEX + 1], release[SHA256_HEX + 1], artifact_path[128], path[128];
	struct made m = { "web", version, artifact_path, strlen(content), artifact };

	(void) snprintf(artifact_path, sizeof(artifact_path), "web/%s/web.tar.zst", version);
	(void) snprintf(path, sizeof(path), "web/%s/release.json", version);
	upload(b, content, artifact);
	release_text(&m, &text);
	upload(b, buf_str(&text), release);
	list_file(b, path, text.len, release, &fleet.team, now_s(), &metadata);
	return repo_publish_role(b->repo, "team-web", metadata.data, metadata.len);
}

/* Everything a reader can see, in one digest. */
static void fingerprint(const char *path, struct sha256 *h)
{
	CLEANUP(name_list_done)
	struct name_list names = { 0 };

	assert_int_equal(0, dir_list(os_quick(), AT_FDCWD, path, &names));
	for (size_t i = 0; i < names.count; i++) {
		CLEANUP(buf_done)
		struct buf bytes = BUF_INIT(ROLE_FILE_MAX);
		char below[512];
		struct stat st;

		path_of(below, path, names.names[i]);
		assert_int_equal(0, sha256_add(h, names.names[i], strlen(names.names[i]) + 1));
		assert_int_equal(0, lstat(below, &st));
		if (S_ISDIR(st.st_mode)) {
			fingerprint(below, h);
			continue;
		}
		assert_int_equal(0, file_read(os_quick(), AT_FDCWD, below, ROLE_FILE_MAX, &bytes));
		assert_int_equal(0, sha256_add(h, buf_str(&bytes), bytes.len));
	}
}

static void published_digest(struct bench *b, uint8_t ret[static SHA256_BYTES])
{
	CLEANUP(sha256_freep)
	struct sha256 *h = NULL;
	char path[512];

	assert_int_equal(0, sha256_new(&h));
	path_of(path, b->dir, "repo");
	fingerprint(path, h);
	assert_int_equal(0, sha256_end(h, ret));
}

/* --- tests --- */

static void what_is_published_can_be_read(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(65536);
	uint8_t digest[SHA256_BYTES];
	uint64_t length;

	assert_string_equal("demo", repo_fleet(b->repo));
	assert_int_equal(0, repo_read_target(b->repo, "rollouts/index.json", &text));
	assert_string_equal(OLD_INDEX, buf_str(&text));
	assert_int_equal(0, repo_target_info(b->repo, "rollouts/index.json", &length, digest));
	assert_int_equal(strlen(OLD_INDEX), length);
	assert_int_equal(-ENOENT, repo_read_target(b->repo, "rollouts/none.json", &text));
	assert_int_equal(-ENOENT, repo_read_role(b->repo, "team-none", &text));
	assert_int_equal(1, version_of(b->repo, "root"));
	client_reads(b->dir, "rollouts/index.json", OLD_INDEX);
}

static void an_online_role_lists_what_it_is_told(void **state)
{
	struct bench *b = *state;
	const struct repo_document two[] = { { "rollouts/index.json", NEW_INDEX, strlen(NEW_INDEX) },
					     { "rollouts/a.json", "{}", 2 } };
	const char *const removed[] = { "rollouts/a.json" };
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(65536);
	uint64_t before = version_of(b->repo, "timestamp");

	assert_int_equal(0, repo_update_online(b->repo, "rollouts", two, 2, NULL, 0));
	assert_true(version_of(b->repo, "timestamp") > before);
	client_reads(b->dir, "rollouts/a.json", "{}");
	client_reads(b->dir, "rollouts/index.json", NEW_INDEX);
	assert_int_equal(0, repo_update_online(b->repo, "rollouts", NULL, 0, removed, 1));
	assert_int_equal(-ERR_NOT_LISTED, client_read(b->dir, "rollouts/a.json", &text));
	client_reads(b->dir, "rollouts/index.json", NEW_INDEX);
}

static void an_online_role_keeps_to_its_folder(void **state)
{
	struct bench *b = *state;
	const struct repo_document wrong[] = { { "nodes/n1.json", "{}", 2 },
					       { "../up.json", "{}", 2 },
					       { "web/policy.json", "{}", 2 } };
	uint8_t before[SHA256_BYTES], after[SHA256_BYTES];

	published_digest(b, before);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		assert_true(repo_update_online(b->repo, "rollouts", &wrong[i], 1, NULL, 0) < 0);
	assert_int_equal(-ERR_REFUSED, repo_update_online(b->repo, "timestamp", NULL, 0, NULL, 0));
	assert_int_equal(-ERR_REFUSED, repo_update_online(b->repo, "team-web", NULL, 0, NULL, 0));
	assert_true(repo_update_online(b->repo, "inventory", NULL, 0, NULL, 0) < 0); /* its key is not online */
	published_digest(b, after);
	assert_memory_equal(before, after, SHA256_BYTES);
}

static void a_release_is_published_with_its_artifact(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(65536);
	char path[1024], sha256[SHA256_HEX + 1];

	if (publish_release(b, "1.0.0", "artifact one") < 0)
		fail_msg("%s", repo_error(b->repo));
	assert_int_equal(0, client_read(b->dir, "web/1.0.0/release.json", &text));
	assert_int_equal(0, sha256_hex("artifact one", 12, sha256));
	(void) snprintf(path, sizeof(path), "%s/repo/targets/web/1.0.0/%s.web.tar.zst", b->dir, sha256);
	assert_int_equal(0, access(path, R_OK));
	(void) snprintf(path, sizeof(path), "%s/%s", repo_upload_dir(b->repo), sha256);
	assert_int_equal(-1, access(path, F_OK)); /* nothing waits any more */
	assert_int_equal(0, publish_release(b, "1.1.0", "artifact two"));
	buf_clear(&text);
	assert_int_equal(0, client_read(b->dir, "web/1.0.0/release.json", &text));
}

static void a_published_version_never_changes(void **state)
{
	struct bench *b = *state;

	assert_int_equal(0, publish_release(b, "1.0.0", "artifact one"));
	assert_int_equal(-EEXIST, publish_release(b, "1.0.0", "another artifact"));
	assert_non_null(strstr(repo_error(b->repo), "never changes"));
}

/* Publish metadata that must be refused, with what the sentence must say. */
static void refused(struct bench *b, const char *role, const struct buf *metadata, int error, const char *says)
{
	uint8_t before[SHA256_BYTES], after[SHA256_BYTES];
	int r;

	published_digest(b, before);
	r = repo_publish_role(b->repo, role, metadata->data, metadata->len);
	if (r != error || !strstr(repo_error(b->repo), says))
		fail_msg("%d (%s) instead of %d (%s)", r, repo_error(b->repo), error, says);
	published_digest(b, after);
	assert_memory_equal(before, after, SHA256_BYTES);
}

static void refused_release(struct bench *b, const char *path, const struct made *m, int error, const char *says)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(65536), metadata = BUF_INIT(ROLE_FILE_MAX);
	char sha256[SHA256_HEX + 1];

	release_text(m, &text);
	upload(b, buf_str(&text), sha256);
	list_file(b, path, text.len, sha256, &fleet.team, now_s(), &metadata);
	refused(b, "team-web", &metadata, error, says);
}

static void a_bad_release_is_refused_and_leaves_everything_untouched(void **state)
{
	static const char missing[] = "00000000000000000000000000000000000000000000000000000000000000aa";
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf metadata = BUF_INIT(ROLE_FILE_MAX), other = BUF_INIT(ROLE_FILE_MAX);
	char artifact[SHA256_HEX + 1], junk[SHA256_HEX + 1];
	struct made good = { "web", "1.0.0", "web/1.0.0/web.tar.zst", 8, artifact }, m;

	upload(b, "artifact", artifact);
	m = good;
	m.version = "1.0.1";
	refused_release(b, "web/1.0.0/release.json", &m, -ERR_DISAGREE, "disagree");
	m = good;
	m.component = "api";
	refused_release(b, "web/1.0.0/release.json", &m, -ERR_DISAGREE, "disagree");
	m = good;
	m.artifact_path = "web/2.0.0/web.tar.zst";
	refused_release(b, "web/1.0.0/release.json", &m, -ERR_DISAGREE, "disagree");
	m = good;
	m.artifact_sha256 = missing;
	refused_release(b, "web/1.0.0/release.json", &m, -ENOENT, "not uploaded");
	m = good;
	m.artifact_length = 9;
	refused_release(b, "web/1.0.0/release.json", &m, -ERR_LENGTH, "length");
	refused_release(b, "web/one/release.json", &good, -ERR_NAME, "neither");
	refused_release(b, "web/extra.json", &good, -ERR_NAME, "neither");
	m = good;
	m.component = "api";
	m.artifact_path = "api/1.0.0/web.tar.zst";
	refused_release(b, "api/1.0.0/release.json", &m, -ERR_NOT_LISTED, "may not list");

	upload(b, "{\"format\":1}", junk);
	list_file(b, "web/1.0.0/release.json", 12, junk, &fleet.team, now_s(), &metadata);
	refused(b, "team-web", &metadata, -ERR_FIELD_MISSING, "component");
	buf_clear(&metadata);
	upload(b, "no policy", junk);
	list_file(b, "web/policy.json", 9, junk, &fleet.team, now_s(), &metadata);
	refused(b, "team-web", &metadata, -ERR_SYNTAX, "policy.json");
	buf_clear(&metadata);
	list_file(b, "web/policy.json", 9, missing, &fleet.team, now_s(), &metadata);
	refused(b, "team-web", &metadata, -ENOENT, "not uploaded");

	/* Whatever was refused, the next good one goes through: the signer was never asked about the bad. */
	if (publish_release(b, "1.0.0", "artifact") < 0)
		fail_msg("%s", repo_error(b->repo));
	assert_int_equal(0, client_read(b->dir, "web/1.0.0/release.json", &other));
}

static void metadata_a_client_would_refuse_is_refused(void **state)
{
	struct bench *b = *state;
	CLEANUP(buf_done)
	struct buf metadata = BUF_INIT(ROLE_FILE_MAX), bytes = BUF_INIT(ROLE_FILE_MAX);
	char artifact[SHA256_HEX + 1];

	upload(b, "{\"format\":1,\"owner\":\"web\"}", artifact);
	list_file(b, "web/policy.json", 26, artifact, &fleet.targets, now_s(), &metadata);
	refused(b, "team-web", &metadata, -ERR_THRESHOLD, "team-web");
	buf_clear(&metadata);
	list_file(b, "web/policy.json", 26, artifact, &fleet.team, now_s() - 400 * 86400, &metadata);
	refused(b, "team-web", &metadata, -ERR_EXPIRED, "expired");
	assert_int_equal(0, repo_read_role(b->repo, "team-web", &bytes));
	refused(b, "team-web", &bytes, -ERR_ROLLBACK, "is published");
	buf_clear(&bytes);
	assert_int_equal(0, buf_add_str(&bytes, "{\"signed\":{}}"));
	refused(b, "team-web", &bytes, -ERR_FIELD_MISSING, "team-web");
	buf_clear(&bytes);
	assert_int_equal(0, buf_add_str(&bytes, "junk"));
	refused(b, "team-web", &bytes, -ERR_SYNTAX, "team-web");
	buf_clear(&metadata);
	list_file(b, "web/policy.json", 26, artifact, &fleet.team, now_s(), &metadata);
	refused(b, "team-other", &metadata, -ERR_NOT_LISTED, "team-other");
	/* The first publication that is right goes in. */
	assert_int_equal(0, repo_publish_role(b->repo, "team-web", metadata.data, metadata.len));
	client_reads(b->dir, "web/policy.json", "{\"format\":1,\"owner\":\"web\"}");
}

static void online_roles_come_from_the_signer_only(void **state)
{
	static const char *const roles[] = { "rollouts", "support", "snapshot", "timestamp" };
	struct bench *b = *state;

	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		CLEANUP(buf_done)
		struct buf bytes = BUF_INIT(ROLE_FILE_MAX);

		assert_int_equal(0, repo_read_role(b->repo, roles[i], &bytes));
		refused(b, roles[i], &bytes, -ERR_REFUSED, "signer only");
	}
}

/* The body of a published role, changed to jump far ahead. */
static void a_version_does_not_run_away(void **state)
{
	struct bench *b = *state;
	CLEANUP(json_build_freep)
	struct json_build *build = json_build_new();
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(ROLE_FILE_MAX), text = BUF_INIT(ROLE_FILE_MAX),
		   metadata = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(json_freep)
	struct json *body = NULL;
	const struct json *was;

	assert_int_equal(0, repo_read_role(b->repo, "team-web", &bytes));
	assert_int_equal(0, json_parse(bytes.data, bytes.len, &json_limits_default, &doc));
	was = json_get(doc, "signed");
	for (size_t i = 0; i < json_count(was); i++)
		node_copy(json_build_root(build), json_name_at(was, i), json_at(was, i));
	node_integer(json_build_root(build), "version", (INT64_C(1) << 53) - 1);
	assert_int_equal(0, json_build_text(build, false, &text));
	assert_int_equal(0, json_parse(text.data, text.len, &json_limits_default, &body));
	sign_body(body, &fleet.team, &metadata);
	refused(b, "team-web", &metadata, -ERR_VERSION, "jumps");
}

static void root_follows_root(void **state)
{
	struct bench *b = *state;
	CLEANUP(key_files_done)
	struct key_files fresh = { .count = 0 };
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(ROLE_FILE_MAX), one = BUF_INIT(ROLE_FILE_MAX), both = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(json_freep)
	struct json *body = NULL;
	CLEANUP(json_freep)
	struct json *later = NULL;
	CLEANUP(json_freep)
	struct json *first = NULL;

	make_keys("root", 2, b->dir, &fresh);
	assert_int_equal(0, repo_read_role(b->repo, "root", &bytes));
	refused(b, "root", &bytes, -ERR_VERSION, "the next one is 2");
	assert_int_equal(0, json_parse(bytes.data, bytes.len, &json_limits_default, &doc));
	assert_int_equal(0, offline_set_keys(json_get(doc, "signed"), "root", &fresh, 2, now_s(), &body));
	sign_body(body, &fresh, &one);
	refused(b, "root", &one, -ERR_THRESHOLD, "root 1");
	buf_clear(&one);
	sign_body(body, &fleet.root, &one);
	refused(b, "root", &one, -ERR_THRESHOLD, "its own keys");
	assert_int_equal(0, json_parse(one.data, one.len, &json_limits_default, &first));
	assert_int_equal(0, offline_sign(body, &fresh, json_get(first, "signatures"), &both));
	assert_int_equal(0, repo_publish_role(b->repo, "root", both.data, both.len));
	assert_int_equal(2, version_of(b->repo, "root"));
	client_reads(b->dir, "rollouts/index.json", OLD_INDEX); /* by way of root 1 */
	/* Version 4 after 2 is no successor. */
	assert_int_equal(0, offline_renew(body, now_s(), &later));
	json_free(body);
	body = NULL;
	assert_int_equal(0, offline_renew(later, now_s(), &body));
	buf_clear(&one);
	sign_body(body, &fresh, &one);
	refused(b, "root", &one, -ERR_VERSION, "the next one is 3");
}

static void new_team_keys_need_the_team_first(void **state)
{
	struct bench *b = *state;
	CLEANUP(key_files_done)
	struct key_files fresh = { .count = 0 };
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(ROLE_FILE_MAX), metadata = BUF_INIT(ROLE_FILE_MAX);
	CLEANUP(json_freep)
	struct json *doc = NULL;
	CLEANUP(json_freep)
	struct json *body = NULL;

	make_keys("team-web", 1, b->dir, &fresh);
	assert_int_equal(0, repo_read_role(b->repo, "targets", &bytes));
	assert_int_equal(0, json_parse(bytes.data, bytes.len, &json_limits_default, &doc));
	assert_int_equal(0, offline_set_keys(json_get(doc, "signed"), "team-web", &fresh, 1, now_s(), &body));
	sign_body(body, &fleet.targets, &metadata);
	/* Nodes could read nothing of the team any more. */
	refused(b, "targets", &metadata, -ERR_THRESHOLD, "sign it again");
}

static void tick_signs_when_it_is_due(void **state)
{
	struct bench *b = *state;
	uint64_t before = version_of(b->repo, "timestamp"), snapshot = version_of(b->repo, "snapshot");
	uint64_t rollouts = version_of(b->repo, "rollouts");
	bool published = true;

	assert_int_equal(0, repo_tick(b->repo, now_s(), &published));
	assert_false(published);
	assert_int_equal(0, repo_tick(b->repo, now_s() + 5 * 3600, &published));
	assert_false(published);
	assert_int_equal(0, repo_tick(b->repo, now_s() + 6 * 3600 + 60, &published));
	assert_true(published);
	assert_true(version_of(b->repo, "timestamp") > before);
	assert_true(version_of(b->repo, "snapshot") > snapshot);
	assert_int_equal(rollouts, version_of(b->repo, "rollouts"));
	assert_int_equal(0, repo_tick(b->repo, now_s() + 7 * 86400, &published));
	assert_true(published);
	assert_true(version_of(b->repo, "rollouts") > rollouts);
	client_reads(b->dir, "rollouts/index.json", OLD_INDEX);
}

static void what_another_process_publishes_is_seen(void **state)
{
	struct bench *b = *state;
	const struct repo_document index = { "rollouts/index.json", NEW_INDEX, strlen(NEW_INDEX) };
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(65536);
	struct signer_client *signer = connect_signer();
	struct repo *other;
	bool published = false;

	assert_int_equal(0, repo_open(os_quick(), b->dir, signer, &other));
	assert_int_equal(0, repo_update_online(other, "rollouts", &index, 1, NULL, 0));
	repo_close(other);
	signer_disconnect(signer);
	assert_int_equal(0, repo_tick(b->repo, now_s(), &published));
	assert_true(published);
	assert_int_equal(0, repo_read_target(b->repo, "rollouts/index.json", &text));
	assert_string_equal(NEW_INDEX, buf_str(&text));
}

static void reading_only_publishes_nothing(void **state)
{
	struct bench *b = *state;
	struct repo *reader;
	bool published;

	assert_int_equal(0, repo_open(os_quick(), b->dir, NULL, &reader));
	assert_int_equal(-EROFS, repo_update_online(reader, "rollouts", NULL, 0, NULL, 0));
	assert_int_equal(-EROFS, repo_tick(reader, now_s(), &published));
	repo_close(reader);
}

static void what_was_tampered_with_is_not_opened(void **state)
{
	static const char *const roles[] = { "timestamp", "snapshot", "targets", "rollouts", "root" };
	struct bench *b = *state;

	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		CLEANUP(buf_done)
		struct buf bytes = BUF_INIT(ROLE_FILE_MAX), file = BUF_INIT(512);
		char path[1024];
		struct repo *reader = NULL;
		uint8_t *at;

		assert_int_equal(0, repo_read_role(b->repo, roles[i], &bytes));
		assert_int_equal(0, role_file_path(roles[i], version_of(b->repo, roles[i]), &file));
		(void) snprintf(path, sizeof(path), "%s/repo/%s", b->dir, buf_str(&file));
		at = (uint8_t *) strstr(buf_str(&bytes), "\"expires\":\"20");
		assert_non_null(at);
		at[strlen("\"expires\":\"20")] = '9'; /* a life of decades */
		assert_int_equal(0, durable_write_file(os_quick(), AT_FDCWD, path, bytes.data, bytes.len, 0644));
		assert_true(repo_open(os_quick(), b->dir, NULL, &reader) < 0);
		at[strlen("\"expires\":\"20")] = '2';
		assert_int_equal(0, durable_write_file(os_quick(), AT_FDCWD, path, bytes.data, bytes.len, 0644));
		assert_int_equal(0, repo_open(os_quick(), b->dir, NULL, &reader));
		repo_close(reader);
	}
}

/* --- announcements --- */

static void announcement(struct bench *b, const char *node, struct json **ret)
{
	CLEANUP(buf_done)
	struct buf gzip = BUF_INIT(1024 * 1024), text = BUF_INIT(1024 * 1024);

	assert_int_equal(0, repo_announcement(b->repo, node, &gzip));
	assert_in_range(gzip.len, 1, 64 * 1024);
	assert_int_equal(0, gzip_expand(gzip.data, gzip.len, &text));
	assert_int_equal(0, json_parse(text.data, text.len, &json_limits_default, ret));
}

static bool announced(const struct json *doc, const char *part)
{
	for (size_t i = 0; i < json_count(json_get(doc, "files")); i++)
		if (strstr(json_name_at(json_get(doc, "files"), i), part))
			return true;
	return false;
}

static void an_announcement_holds_the_change_in_order(void **state)
{
	static const char *const order[] = { "timestamp.json", "snapshot.json", "rollouts.json", "index.json",
					     "a.json" };
	struct bench *b = *state;
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct repo_document two[] = { { "rollouts/a.json", "{}", 2 },
					     { "rollouts/index.json", NEW_INDEX, strlen(NEW_INDEX) } };
	const struct json *files;

	assert_int_equal(0, repo_update_online(b->repo, "rollouts", two, 2, NULL, 0));
	announcement(b, NULL, &doc);
	files = json_get(doc, "files");
	assert_int_equal(ARRAY_LEN(order), json_count(files));
	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		CLEANUP(buf_done)
		struct buf bytes = BUF_INIT(ROLE_FILE_MAX);
		char path[1024];

		assert_non_null(strstr(json_name_at(files, i), order[i]));
		/* Exactly the published bytes. */
		(void) snprintf(path, sizeof(path), "%s/repo/%s", b->dir, json_name_at(files, i));
		assert_int_equal(0, file_read(os_quick(), AT_FDCWD, path, ROLE_FILE_MAX, &bytes));
		assert_string_equal(buf_str(&bytes), json_string(json_at(files, i)));
	}
}

static void orders_are_announced_to_their_node_only(void **state)
{
	struct bench *b = *state;
	const struct repo_document orders[] = { { "nodes/n1.json", "{\"n\":1}", 7 },
						{ "nodes/n2.json", "{\"n\":2}", 7 } };
	CLEANUP(json_freep)
	struct json *all = NULL;
	CLEANUP(json_freep)
	struct json *one = NULL;
	CLEANUP(buf_done)
	struct buf gzip = BUF_INIT(65536);

	assert_int_equal(0, repo_update_online(b->repo, "support", orders, 2, NULL, 0));
	announcement(b, NULL, &all);
	assert_true(announced(all, "timestamp.json"));
	assert_false(announced(all, "n1.json"));
	announcement(b, "n1", &one);
	assert_true(announced(one, "support.json"));
	assert_true(announced(one, ".n1.json"));
	assert_false(announced(one, ".n2.json"));
	assert_int_equal(-ERR_NAME, repo_announcement(b->repo, "../n1", &gzip));
}

static void an_announcement_is_bounded(void **state)
{
	enum { EACH = 300 * 1024 };
	struct bench *b = *state;
	CLEANUP(json_freep)
	struct json *doc = NULL;
	struct repo_document many[6];
	char names[6][32], *data = malloc(EACH);
	uint32_t x = 1;

	assert_non_null(data);
	for (size_t i = 0; i < EACH; i++) { /* text that does not compress */
		x = x * 1664525 + 1013904223;
		data[i] = (char) ('a' + (x >> 24) % 26);
	}
	for (size_t i = 0; i < 6; i++) {
		(void) snprintf(names[i], sizeof(names[i]), "rollouts/r%zu.json", i);
		many[i] = (struct repo_document){ names[i], data, EACH };
	}
	assert_int_equal(0, repo_update_online(b->repo, "rollouts", many, 6, NULL, 0));
	announcement(b, NULL, &doc); /* checks the sizes */
	assert_true(announced(doc, "timestamp.json"));
	assert_true(announced(doc, "snapshot.json"));
	free(data);
}

/* --- power and disks --- */

static int update_index(struct fault_case *c)
{
	const struct repo_document index = { "rollouts/index.json", NEW_INDEX, strlen(NEW_INDEX) };
	struct signer_client *signer = NULL;
	struct repo *repo = NULL;
	int r = signer_connect(fleet.socket, &signer);

	if (r >= 0)
		r = repo_open(c->os, c->path, signer, &repo);
	if (r >= 0)
		r = repo_update_online(repo, "rollouts", &index, 1, NULL, 0);
	repo_close(repo);
	signer_disconnect(signer);
	return r;
}

static int prepare(struct fault_case *c)
{
	copy_fleet(c->path);
	return 0;
}

static void old_or_new(struct fault_case *c, int r)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(65536), seen = BUF_INIT(65536);
	struct repo *repo = NULL;
	int e = repo_open(os_quick(), c->path, NULL, &repo);

	assert_int_equal(0, e);
	assert_int_equal(0, repo_read_target(repo, "rollouts/index.json", &text));
	repo_close(repo);
	assert_true(str_eq(buf_str(&text), OLD_INDEX) || str_eq(buf_str(&text), NEW_INDEX));
	if (r == 0) {
		assert_string_equal(NEW_INDEX, buf_str(&text));
		assert_int_equal(0, client_read(c->path, "rollouts/index.json", &seen));
		assert_string_equal(NEW_INDEX, buf_str(&seen));
	}
}

FAULT_TEST(publication){ .name = "publication", .prep = prepare, .body = update_index, .check = old_or_new };

static void a_power_cut_leaves_old_or_new(void **state)
{
	(void) state;
	crash_test_run(&publication, 2);
}

static void a_failing_disk_leaves_old_or_new(void **state)
{
	bool fired = true;

	(void) state;
	for (unsigned at = 1; fired; at += 3) {
		struct fault_case c = { .os = os_quick() };
		struct os_fault f;
		int r;

		temp_folder(c.path, sizeof(c.path));
		copy_fleet(c.path);
		os_fault_init(&f, os_quick());
		os_fault_arm(&f, at, ENOSPC, false);
		c.os = &f.os;
		r = update_index(&c);
		fired = f.fired > 0;
		old_or_new(&c, r);
		if (r < 0 && at % 8 == 1) { /* the same again goes through */
			c.os = os_quick();
			assert_int_equal(0, update_index(&c));
			old_or_new(&c, 0);
		}
		temp_folder_remove(c.path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(what_is_published_can_be_read),
		T(an_online_role_lists_what_it_is_told),
		T(an_online_role_keeps_to_its_folder),
		T(a_release_is_published_with_its_artifact),
		T(a_published_version_never_changes),
		T(a_bad_release_is_refused_and_leaves_everything_untouched),
		T(metadata_a_client_would_refuse_is_refused),
		T(online_roles_come_from_the_signer_only),
		T(a_version_does_not_run_away),
		T(root_follows_root),
		T(new_team_keys_need_the_team_first),
		T(tick_signs_when_it_is_due),
		T(what_another_process_publishes_is_seen),
		T(reading_only_publishes_nothing),
		T(what_was_tampered_with_is_not_opened),
		T(an_announcement_holds_the_change_in_order),
		T(orders_are_announced_to_their_node_only),
		T(an_announcement_is_bounded),
		cmocka_unit_test(a_power_cut_leaves_old_or_new),
		cmocka_unit_test(a_failing_disk_leaves_old_or_new),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
