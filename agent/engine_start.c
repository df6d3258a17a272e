#include "agent/engine_parts.h"

#include "agent/console.h"
#include "agent/local/inhibit.h"
#include "agent/local/service.h"
#include "agent/phase/manifest.h"
#include "agent/phase/phase.h"
#include "agent/phase/self.h"
#include "agent/store/agents.h"
#include "agent/store/collect.h"
#include "agent/store/generation.h"
#include "agent/store/recover.h"
#include "agent/update.h"
#include "base/err.h"
#include "base/log.h"
#include "conf/conf.h"
#include "crypto/key.h"
#include "os/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

enum {
	IDENTITY_MAX = 16 * 1024,
	ROOT_MAX = 512 * 1024,
};

int engine_fail_start(struct engine *e, int r, const char *what, const char *detail)
{
	log_error("start-failed", "%s: %s", what, detail ? detail : err_text(r));
	if (e)
		(void) snprintf(e->start_failure, sizeof(e->start_failure), "%s: %s", what,
				detail ? detail : err_text(r)); /* cut */
	return r;
}

static int open_below(struct node *n, const char *name)
{
	int r = durable_mkdir(n->os, n->dirs->root, name, 0755);

	return r < 0 ? r : dir_open(n->os, n->dirs->root, name);
}

static int user_ids(const char *user, uid_t *uid, gid_t *gid)
{
	int r = process_find_user(user, uid, gid);

	return r == -ENOENT ? -ERR_CONFIG : r;
}

/* As root each process owns what it writes, and nothing else. */
static int give_away(struct engine *e)
{
	struct node *n = &e->node;
	uid_t uid = 0;
	gid_t gid = 0;
	int fd, r;

	n->stage_uid = (uid_t) -1;
	n->stage_gid = (gid_t) -1;
	if (!n->as_root)
		return 0;
	r = user_ids(e->config.users.stage, &n->stage_uid, &n->stage_gid);
	if (r == 0)
		r = n->os->fchown(n->os, n->dirs->spool, n->stage_uid, n->stage_gid);
	if (n->image)
		return r; /* the ids of its users are its own: its agent gives the rest away */
	if (r == 0)
		r = user_ids(e->config.users.link, &uid, &gid);
	if (r == 0)
		r = n->os->fchown(n->os, n->dirs->outbox, uid, gid);
	if (r < 0)
		return r;
	fd = n->os->openat(n->os, AT_FDCWD, e->config.dir, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	e->pair_owner = (struct pair_owner){ true, uid, gid };
	r = n->os->fchownat(n->os, fd, "transport.key", uid, gid);
	(void) n->os->close(n->os, fd); /* read only */
	return r == -ENOENT ? 0 : r;
}

static int load_identity(struct engine *e)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(IDENTITY_MAX);
	struct node *n = &e->node;
	struct stat st;
	int fd = n->os->openat(n->os, AT_FDCWD, e->config.dir, O_RDONLY | O_DIRECTORY, 0);
	int r;

	if (fd < 0)
		return fd;
	r = n->os->fstatat(n->os, fd, "identity.key", &st);
	if (r == 0 && (st.st_mode & 077))
		r = -EACCES;
	if (r == 0)
		r = file_read(n->os, fd, "identity.key", IDENTITY_MAX, &pem);
	(void) n->os->close(n->os, fd); /* read only */
	if (r == 0)
		r = private_key_load(pem.data, pem.len, NULL, &n->identity);
	if (pem.data)
		explicit_bzero(pem.data, pem.len);
	return r;
}

/*
 * A child that an agent killed a moment ago was just starting holds its locks until it
 * is the program it is to become; a second agent holds them for good.
 */
static bool wait_for_lock(unsigned *tries)
{
	static const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };

	if (engine_is_told_to_stop() || (*tries)++ >= 40)
		return false;
	(void) nanosleep(&pause, NULL); /* cut short it is only tried sooner */
	return true;
}

static int open_trust(struct engine *e)
{
	CLEANUP(buf_done)
	struct buf root = BUF_INIT(ROOT_MAX);
	struct node *n = &e->node;
	struct timex t = { .modes = 0 };
	struct tuf_options o = {
		.os = n->os,
		.dirfd = n->dirs->trust,
		.prefix = "metadata/",
		.targets_prefix = "targets/",
		.limits = tuf_limits_default,
		.hold_time_floor = true,
		.build_time = ENGINE_BUILD_TIME,
		.clock_synchronised = adjtimex(&t) != TIME_ERROR,
	};
	unsigned tries = 0;
	int fd, r;

	do
		r = tuf_client_open(&o, &n->tuf);
	while (r == -EBUSY && wait_for_lock(&tries));
	if (r < 0 || tuf_client_has_root(n->tuf))
		return r;
	fd = n->os->openat(n->os, AT_FDCWD, e->config.dir, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	r = file_read(n->os, fd, "root.json", ROOT_MAX, &root);
	(void) n->os->close(n->os, fd); /* read only */
	return r < 0 ? r : tuf_client_init(n->tuf, root.data, root.len);
}

/* Without it nothing from outside can be believed: where it comes from is said, not only that it is not there. */
static int fail_trust(struct engine *e, int r)
{
	char path[PATH_MAX];

	(void) snprintf(path, sizeof(path), "%s/root.json", e->config.dir); /* for people: may be cut */
	if (!e->node.tuf)
		return engine_fail_start(e, r, "the trusted metadata", NULL);
	if (r == -ENOENT)
		return engine_fail_start(
			e, r, path,
			"it is missing, and with it what this node trusts; `selfright-agent join FILE` writes "
			"it from the "
			"fleet's join file");
	if (r <= -ERR_BASE_)
		return engine_fail_start(
			e, r, path,
			"it is no root that its own keys signed; compare it with the fleet's (its SHA-256 "
			"stands in the "
			"join file)");
	return engine_fail_start(e, r, path, NULL);
}

/* The link says what runs; the journal may be a step behind (recover, or a crash between the two). */
static void reconcile(struct node *n)
{
	struct generation g = { .count = 0 };
	uint64_t number = 0;

	if (update_is_active(n) && node_update_is_swapped(&n->state->update))
		return; /* its phase looks for itself */
	if (generation_current(n->os, n->dirs->root, &number) < 0 ||
	    generation_read(n->os, n->dirs->generations, number, &g) < 0)
		return;
	for (size_t i = 0; i < n->state->component_count; i++) {
		struct node_component *c = n->state->components[i];
		const char *version = generation_version(&g, c->name);

		if (str_eq(version, c->version))
			continue;
		log_warning("version-reconciled", "component=%s journal=%s link=%s", c->name,
			    c->version[0] ? c->version : "absent", version[0] ? version : "absent");
		STATE_SET(c->version, version);
	}
}

static void collect_leftovers(struct node *n)
{
	const struct node_update *u = &n->state->update;
	uint64_t kept[] = { u->target_generation, u->fallback_generation };
	struct generation_entry claimed[2 * PARTS_MAX + 1];
	struct collect_options o = { .keep_versions = n->config->keep_versions };
	int r;

	if (update_is_active(n)) {
		o.generations = kept;
		o.generation_count = ARRAY_LEN(kept);
	}
	o.claimed = claimed;
	for (size_t i = 0; i < update_part_count(n); i++) {
		const struct part p = update_part(n, i);

		(void) snprintf(claimed[2 * i].component, sizeof(claimed[0].component), "%s", p.component);
		(void) snprintf(claimed[2 * i].version, sizeof(claimed[0].version), "%s", p.to);
		(void) snprintf(claimed[2 * i + 1].component, sizeof(claimed[0].component), "%s", p.component);
		(void) snprintf(claimed[2 * i + 1].version, sizeof(claimed[0].version), "%s", p.from);
		o.claimed_count += 2;
	}
	if (n->supervisor.running[0]) {
		struct generation_entry *own = &claimed[o.claimed_count++];

		(void) snprintf(own->component, sizeof(own->component), "%s", AGENTS_COMPONENT);
		(void) snprintf(own->version, sizeof(own->version), "%s", n->supervisor.running);
	}
	r = collect(n->store, &o, NULL);
	if (r < 0)
		log_warning("collect-failed", "leftovers stay until the next time: %s", err_text(r));
	manifest_collect(n);
	node_collect_spool(n);
}

/* Bring up what is installed. What an update is in the middle of is that update's. */
static void start_services(struct node *n)
{
	const struct node_update *u = &n->state->update;

	for (size_t i = 0; i < n->state->component_count; i++) {
		const struct node_component *c = n->state->components[i];
		struct command_context context = { .config = n->config,
						   .component = c->name,
						   .version = c->version };
		struct release release = { 0 };
		char *root;
		int r;

		if (update_concerns(n, c->name) &&
		    (u->state == NODE_SWAPPING || u->state == NODE_ROLLING_BACK || u->state == NODE_STOPPING))
			continue;
		if (c->version[0] == '\0') {
			services_stop(n->services, c->name, false);
			continue;
		}
		/* Also here: a factory image came without the folders that belong to this system's users. */
		r = node_prepare_component(n, c->name);
		if (r < 0)
			log_error("data-folder", "component=%s reason=%s", c->name, err_text(r));
		r = manifest_load(n, c->name, c->version, &release);
		root = node_current_root(n, c->name);
		context.root = root;
		if (r == 0)
			r = root ? services_apply(n->services, &context, &release) : -ENOMEM;
		if (r < 0)
			log_error("services-not-started", "component=%s version=%s reason=%s", c->name, c->version,
				  err_text(r));
		release_done(&release);
		free(root);
	}
}

static int open_state(struct engine *e)
{
	struct node *n = &e->node;
	unsigned tries = 0;
	int r;

	do
		r = store_open(n->os, e->config.root, &n->store);
	while (r == -EBUSY && wait_for_lock(&tries));
	if (r == -EBUSY)
		return engine_fail_start(e, r, e->config.root, "another agent runs on this folder");
	if (r < 0)
		return engine_fail_start(e, r, e->config.root,
					 r == -ERR_JOURNAL
						 ? "the journal is damaged (selfright-recover sets it aside)"
						 : NULL);
	n->dirs = store_dirs(n->store);
	e->state = calloc(1, sizeof(*e->state));
	if (!e->state)
		return engine_fail_start(e, -ENOMEM, e->config.root, NULL);
	state_init(e->state);
	n->state = e->state;
	r = store_load(n->store, e->state);
	if (r < 0)
		return engine_fail_start(e, r, e->config.root, "the saved state cannot be read");
	n->documents_fd = open_below(n, "documents");
	n->manifests_fd = open_below(n, "manifests");
	if (n->documents_fd < 0 || n->manifests_fd < 0)
		return engine_fail_start(e, n->documents_fd < 0 ? n->documents_fd : n->manifests_fd,
					 e->config.root, NULL);
	r = recover_boot_id(n->os, n->boot_id);
	return r < 0 ? engine_fail_start(e, r, "the kernel's boot id", NULL) : 0;
}

static int open_run(struct engine *e)
{
	struct node *n = &e->node;
	char *path;
	int r;

	if (mkdir(e->config.run, 0755) < 0 && errno != EEXIST) {
		r = -errno;
		return engine_fail_start(e, r, e->config.run, NULL);
	}
	r = services_open(n->os, e->config.run, n->boot_id, &n->services);
	if (r < 0)
		return engine_fail_start(e, r, e->config.run, NULL);
	r = inhibitors_open(n->os, e->config.run, n->boot_id, &n->inhibitors);
	if (r < 0)
		return engine_fail_start(e, r, e->config.run, NULL);
	path = config_socket_path(&e->config);
	r = path ? control_open(path, console_changes, console_answer, n, &e->control) : -ENOMEM;
	if (r < 0)
		r = engine_fail_start(e, r, path ? path : e->config.run, NULL);
	free(path);
	return r;
}

/* Without them nothing would ever work here: said once, and not tried for ever. */
static int check_programs(const struct config *c, bool alone, struct conf_error *ret_error)
{
	static const char *const names[] = { "selfright-link", "selfright-stage", "selfright-log",
					     "selfright-probe" };
	int r = 0;

	for (size_t i = alone ? 1 : 0; r == 0 && i < ARRAY_LEN(names); i++) {
		char *path = NULL;

		r = config_program(c, names[i], &path, ret_error);
		free(path);
	}
	return r;
}

static int replace_text(char **text, const char *with)
{
	char *copy = strdup(with);

	if (!copy)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

/* Another root than the configuration's, or the whole system below another folder. */
static int move_root(struct engine *e)
{
	const struct engine_install *o = e->install;
	char *path = NULL;
	int r = 0;

	if (!o || !o->root)
		return 0;
	if (asprintf(&path, "%s%s", o->root, o->image ? e->config.root : "") < 0)
		return -ENOMEM;
	r = replace_text(&e->config.root, path);
	free(path);
	if (r == 0 && o->run)
		r = replace_text(&e->config.run, o->run);
	if (!o->image || r < 0)
		return r;
	/* Its programs are not for this machine, and its users are not this machine's. */
	free(e->config.programs);
	e->config.programs = NULL;
	return process_user_exists(e->config.users.stage) ? 0 : replace_text(&e->config.users.stage, "nobody");
}

int engine_start(struct engine *e, const char *config_dir)
{
	struct node *n = &e->node;
	struct conf_error error = { "" };
	int r = config_load(config_dir, &e->config, &error);

	if (r < 0)
		return engine_fail_start(e, r, "configuration", error.text);
	n->config = &e->config;
	supervisor_open(&n->supervisor, e->config.root);
	n->as_root = geteuid() == 0;
	r = move_root(e);
	if (r < 0)
		return engine_fail_start(e, r, "configuration", NULL);
	r = n->as_root && !n->image ? config_check_users(&e->config, &error) : 0;
	if (r < 0)
		return engine_fail_start(e, r, "configuration", error.text);
	r = check_programs(&e->config, n->alone, &error);
	if (r < 0)
		return engine_fail_start(e, r, "programs", error.text);
	r = open_state(e);
	if (r < 0)
		return r;
	r = give_away(e);
	if (r < 0)
		return engine_fail_start(e, r, "giving the processes' folders to their users", NULL);
	r = load_identity(e);
	if (r == -ENOENT && n->alone)
		r = 0; /* a factory image gets its identity later; what happens now is reported then */
	if (r < 0)
		return engine_fail_start(e, r, "identity.key",
					 r == -EACCES ? "others may read it (chmod 600)" : NULL);
	r = open_trust(e);
	if (r < 0)
		return fail_trust(e, r);
	r = enrol_open(&e->enrol, n, &e->pair_owner);
	if (r < 0)
		return engine_fail_start(e, r, "the transport key and its certificate", NULL);
	anchors_open(&e->anchors, n);
	r = open_run(e);
	if (r < 0)
		return r;
	reconcile(n);
	collect_leftovers(n);
	r = update_resume(n);
	if (r < 0)
		return engine_fail_start(e, r, e->config.root, "the journal could not be written");
	if (!n->image)
		start_services(n);
	STATE_SET(n->state->boot_id, n->boot_id);
	self_tell_difference(n);
	r = node_save(n);
	if (r == 0)
		supervisor_ready(&n->supervisor);
	return r;
}
