#include "base/err.h"
#include "base/text.h"
#include "crypto/certificate.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "os/os.h"
#include "os/process.h"
#include "server-stub/cli/broker_files.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/fleet.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	TEXT_MAX = 64 * 1024 * 1024, /* a fleet of ten thousand has about 10 MB of definitions */
	PEM_MAX = 64 * 1024,
	PASSWORD_BYTES = 16,
	RENEW_BEFORE_S = 30 * 86400,
	NODE_PORT = 8883,
	CONTROLLER_PORT = 8884,
	NAMES_MAX = 16,
};

#define PASSWORD_FILE "controller.password"

/* One text that is the same for the same fleet. */
struct generated {
	const char *name;
	mode_t mode;
	struct buf text;
};

struct broker_config {
	const struct cli *c;
	const char *folder; /* to write to */
	int dirfd; /* -1: not there */
	char path[PATH_MAX]; /* where the broker finds it */
	bool rabbitmq;
	struct broker_plan plan;
	char fleet[ID_MAX + 1];
	struct string_list nodes, removed;
	const char *names[NAMES_MAX];
	size_t name_count;
	char password[2 * PASSWORD_BYTES + 1];
	bool new_password;
	struct generated files[3];
	struct certificate_bundle cas; /* the one that issues first */
};

static void config_free(struct broker_config *b)
{
	certificate_bundle_done(&b->cas);
	string_list_done(&b->nodes);
	string_list_done(&b->removed);
	for (size_t i = 0; i < ARRAY_LEN(b->files); i++)
		buf_done(&b->files[i].text);
	if (b->dirfd >= 0)
		close(b->dirfd);
	explicit_bzero(b->password, sizeof(b->password));
}

/* --- what serve knows --- */

static int take_names(const struct json *list, struct string_list *ret)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_count(list); i++) {
		const char *name = json_string(json_at(list, i));

		r = guard_id(name) ? string_list_add(ret, name) : -ERR_NAME;
	}
	return r;
}

/* Of nodes whose certificate is of any of these the broker is to take it. */
static int take_cas(struct broker_config *b, const char *pem)
{
	struct generated *file = &b->files[2];
	int r = pem ? certificate_bundle_read(pem, &b->cas) : -ERR_FIELD_MISSING;

	buf_init(&file->text, TEXT_MAX);
	file->name = "ca.crt";
	file->mode = 0644;
	if (r == 0 && b->cas.count == 0)
		r = -ERR_FIELD_VALUE;
	return r < 0 ? r : buf_add_str(&file->text, pem);
}

static int ask_serve(struct broker_config *b)
{
	CLEANUP(json_freep)
	struct json *answer = NULL;
	int r = cli_call_json(b->c, "GET", "/v1/broker", NULL, &answer);

	if (r != CLI_OK)
		return r;
	(void) snprintf(b->fleet, sizeof(b->fleet), "%s", fleet_text(answer, "fleet"));
	b->plan.fleet = b->fleet;
	r = take_cas(b, json_string(json_get(answer, "ca")));
	if (r == 0)
		r = take_names(json_get(answer, "nodes"), &b->nodes);
	if (r == 0)
		r = take_names(json_get(answer, "removed"), &b->removed);
	b->plan.nodes = &b->nodes;
	b->plan.removed = &b->removed;
	return r < 0 ? cli_fail_error(b->c, r, "the answer of serve") : -1;
}

/* --- the two texts --- */

static int read_password(struct broker_config *b)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(256);
	uint8_t bytes[PASSWORD_BYTES];
	int r = b->dirfd < 0 ? -ENOENT : file_read(&os_posix, b->dirfd, PASSWORD_FILE, 256, &text);

	if (r == 0 && text.len > 2 * PASSWORD_BYTES && text.data[2 * PASSWORD_BYTES] == '\n')
		text.data[2 * PASSWORD_BYTES] = '\0';
	if (r == 0 && hex_decode(bytes, sizeof(bytes), buf_str(&text), false) < 0)
		return cli_fail(b->c, CLI_FAILED,
				"%s/" PASSWORD_FILE " is not ours; remove it, and a new one is made", b->folder);
	if (r == -ENOENT) {
		r = os_posix.random(&os_posix, bytes, sizeof(bytes));
		b->new_password = true;
	}
	if (r < 0)
		return cli_fail_error(b->c, r, "%s/" PASSWORD_FILE, b->folder);
	hex_encode(b->password, bytes, sizeof(bytes));
	explicit_bzero(bytes, sizeof(bytes));
	return -1;
}

static int generate(struct broker_config *b)
{
	struct generated *settings = &b->files[0], *access = &b->files[1];
	int r;

	buf_init(&settings->text, TEXT_MAX);
	buf_init(&access->text, TEXT_MAX);
	settings->mode = 0644;
	if (b->rabbitmq) {
		settings->name = "rabbitmq.conf";
		access->name = "definitions.json"; /* with the hash of a password */
		access->mode = 0640;
		r = broker_rabbitmq_settings(&b->plan, &settings->text);
		if (r == 0)
			r = broker_rabbitmq_definitions(&b->plan, b->password, &access->text);
	} else {
		settings->name = "mosquitto.conf";
		access->name = "acl";
		access->mode = 0644;
		r = broker_mosquitto_settings(&b->plan, &settings->text);
		if (r == 0)
			r = broker_mosquitto_access(&b->plan, &access->text);
	}
	return r < 0 ? cli_fail_error(b->c, r, "the settings") : -1;
}

/* --- comparing --- */

/* Is this line among those of `text`? */
static bool has_line(const struct buf *text, const char *line, size_t len)
{
	for (const char *p = buf_str(text); *p;) {
		size_t n = strcspn(p, "\n");

		if (n == len && memcmp(p, line, len) == 0)
			return true;
		p += n + (p[n] == '\n');
	}
	return false;
}

static unsigned print_missing(const struct broker_config *b, const struct buf *from, const struct buf *in,
			      char sign)
{
	unsigned count = 0;

	for (const char *p = buf_str(from); *p;) {
		size_t n = strcspn(p, "\n");

		if (n > 0 && !has_line(in, p, n)) {
			count++;
			cli_say(b->c, "  %c %.*s", sign, (int) n, p);
		}
		p += n + (p[n] == '\n');
	}
	return count;
}

static bool is_of_another_ca(const struct broker_config *b)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PEM_MAX);

	return file_read(&os_posix, b->dirfd, "server.crt", PEM_MAX, &pem) == 0 &&
	       certificate_is_of(buf_str(&pem), b->cas.items[0].pem) < 0;
}

/* CLI_OK: nothing differs. */
static int compare(const struct broker_config *b, bool lines)
{
	int result = CLI_OK;

	if (b->dirfd < 0)
		return cli_fail(b->c, CLI_REFUSED, "%s is not there; without --check it is made", b->folder);
	for (size_t i = 0; i < ARRAY_LEN(b->files); i++) {
		const struct generated *f = &b->files[i];
		CLEANUP(buf_done)
		struct buf have = BUF_INIT(TEXT_MAX);
		int r = file_read(&os_posix, b->dirfd, f->name, TEXT_MAX, &have);

		if (r < 0 && r != -ENOENT)
			return cli_fail_error(b->c, r, "%s/%s", b->folder, f->name);
		if (r == 0 && have.len == f->text.len && memcmp(buf_str(&have), buf_str(&f->text), have.len) == 0)
			continue;
		result = CLI_REFUSED;
		cli_say(b->c, "%s/%s %s", b->folder, f->name,
			r < 0 ? "is missing" : "is not what it would be now");
		if (lines) {
			(void) print_missing(b, &have, &f->text, '-');
			(void) print_missing(b, &f->text, &have, '+');
		}
	}
	if (is_of_another_ca(b)) {
		result = CLI_REFUSED;
		cli_say(b->c, "%s/server.crt is of a CA that is going: it is made anew with --name", b->folder);
	}
	if (result == CLI_OK)
		cli_say(b->c, "%s is as it would be made now", b->folder);
	return result;
}

/* --- writing --- */

static int put(struct broker_config *b, const char *name, const void *data, size_t len, mode_t mode)
{
	int r = durable_write_file(&os_posix, b->dirfd, name, data, len, mode);

	return r < 0 ? cli_fail_error(b->c, r, "%s/%s", b->folder, name) : -1;
}

static int load_or_make_key(struct broker_config *b, struct private_key **ret)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PEM_MAX);
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	int r = file_read(&os_posix, b->dirfd, "server.key", PEM_MAX, &pem);

	if (r == 0)
		r = private_key_load(pem.data, pem.len, NULL, &key);
	else if (r == -ENOENT) {
		r = private_key_generate(&key);
		if (r == 0)
			r = private_key_save(key, NULL, &pem);
		if (r == 0)
			r = durable_write_file(&os_posix, b->dirfd, "server.key", pem.data, pem.len, 0640);
	}
	if (pem.data)
		explicit_bzero(pem.data, pem.len);
	if (r < 0)
		return cli_fail_error(b->c, r, "%s/server.key", b->folder);
	*ret = key;
	key = NULL;
	return -1;
}

/* One that is good for a while is kept: the broker need not be told each time. One of a CA that is going is not good. */
static bool certificate_is_good(struct broker_config *b, const struct private_key *key)
{
	CLEANUP(buf_done)
	struct buf pem = BUF_INIT(PEM_MAX);
	struct certificate_info info;

	return b->name_count == 0 && file_read(&os_posix, b->dirfd, "server.crt", PEM_MAX, &pem) == 0 &&
	       certificate_is_of(buf_str(&pem), b->cas.items[0].pem) == 0 &&
	       certificate_fits(buf_str(&pem), key) == 0 && certificate_read(buf_str(&pem), &info) == 0 &&
	       info.not_after - os_posix.clock_real(&os_posix) > RENEW_BEFORE_S;
}

static int certify(struct broker_config *b)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf public_pem = BUF_INIT(PEM_MAX), text = BUF_INIT(PEM_MAX);
	CLEANUP(json_build_freep)
	struct json_build *request = json_build_new();
	CLEANUP(json_freep)
	struct json *answer = NULL;
	struct json_node *names;
	int r = load_or_make_key(b, &key);

	if (r >= 0 || certificate_is_good(b, key))
		return r;
	if (b->name_count == 0)
		return cli_fail(b->c, CLI_USAGE,
				"the broker needs a certificate: say how nodes reach it, with --name NAME");
	r = private_key_public_pem(key, &public_pem);
	node_string(json_build_root(request), "public", buf_str(&public_pem));
	names = node_array(json_build_root(request), "names");
	for (size_t i = 0; i < b->name_count; i++)
		node_string(names, NULL, b->names[i]);
	node_string(json_build_root(request), "by", fleet_by());
	if (r == 0)
		r = json_build_text(request, false, &text);
	if (r < 0)
		return cli_fail_error(b->c, r, "the request");
	r = cli_call_json(b->c, "POST", "/v1/broker", buf_str(&text), &answer);
	if (r != CLI_OK)
		return r;
	return put(b, "server.crt", fleet_text(answer, "certificate"), strlen(fleet_text(answer, "certificate")),
		   0644);
}

static bool is_hashed(struct broker_config *b)
{
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(4096);

	return file_read(&os_posix, b->dirfd, "passwords", 4096, &text) == 0 &&
	       !strstr(buf_str(&text), b->password);
}

/* mosquitto's own file of passwords, hashed by its own tool where that is here. */
static int write_passwords(struct broker_config *b)
{
	static const char *const tools[] = { "/usr/bin/mosquitto_passwd", "/usr/local/bin/mosquitto_passwd" };
	CLEANUP(buf_done)
	struct buf line = BUF_INIT(256), output = BUF_INIT(4096);
	const char *tool = access(tools[0], X_OK) == 0 ? tools[0] : access(tools[1], X_OK) == 0 ? tools[1] : NULL;
	char folder[PATH_MAX];
	const char *argv[] = { tool, "-U", "passwords", NULL };
	const struct process_options o = {
		.argv = argv, .directory = folder, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1
	};
	int status = 0, r;

	if (b->rabbitmq || (!b->new_password && is_hashed(b)))
		return -1;
	if (!realpath(b->folder, folder))
		return cli_fail_error(b->c, -errno, "%s", b->folder);
	r = buf_addf(&line, BROKER_CONTROLLER ":%s\n", b->password);
	if (r < 0)
		return cli_fail_error(b->c, r, "the password");
	r = put(b, "passwords", line.data, line.len, 0640);
	explicit_bzero(line.data, line.len);
	if (r >= 0)
		return r;
	if (!tool) {
		cli_say(b->c,
			"mosquitto_passwd is not here: run it on the broker before the start: mosquitto_passwd -U "
			"%s/passwords",
			b->path);
		return -1;
	}
	r = process_run(&o, 30000, &status, &output);
	if (r == 0 && (status != 0 || !is_hashed(b)))
		r = -ERR_CHILD;
	/* It may have made the file anew with another mode. */
	if (r == 0 && fchmodat(b->dirfd, "passwords", 0640, 0) < 0)
		r = -errno;
	return r < 0 ? cli_fail_error(b->c, r, "mosquitto_passwd -U %s/passwords", folder) : -1;
}

static int write_all(struct broker_config *b)
{
	int r = -1;

	if (mkdir(b->folder, 0755) < 0 && errno != EEXIST)
		return cli_fail_error(b->c, -errno, "%s", b->folder);
	if (b->dirfd < 0)
		b->dirfd = open(b->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (b->dirfd < 0)
		return cli_fail_error(b->c, -errno, "%s", b->folder);
	if (!b->rabbitmq)
		r = durable_mkdir(&os_posix, b->dirfd, "data", 0750);
	if (r < -1)
		return cli_fail_error(b->c, r, "%s/data", b->folder);
	r = certify(b);
	if (r < 0 && b->new_password) {
		char line[sizeof(b->password) + 1];

		(void) snprintf(line, sizeof(line), "%s\n", b->password);
		r = put(b, PASSWORD_FILE, line, strlen(line), 0600);
		explicit_bzero(line, sizeof(line));
	}
	if (r < 0)
		r = write_passwords(b);
	/* The access list last: who reads it finds everything it speaks of. */
	for (size_t i = 0; r < 0 && i < ARRAY_LEN(b->files); i++)
		r = put(b, b->files[i].name, b->files[i].text.data, b->files[i].text.len, b->files[i].mode);
	if (r >= 0)
		return r;
	cli_say(b->c, "%s is written, for %zu nodes and %zu removed ones", b->folder, b->nodes.count,
		b->removed.count);
	if (b->rabbitmq)
		cli_say(b->c,
			"on the broker: rabbitmq-plugins enable rabbitmq_mqtt rabbitmq_auth_mechanism_ssl; start "
			"it with %s/"
			"rabbitmq.conf,\nor, when it runs: rabbitmqctl import_definitions %s/definitions.json "
			"(after each node "
			"that is added or removed)",
			b->path, b->path);
	else
		cli_say(b->c,
			"on the broker: its user must be able to read %s and to write %s/data; start: mosquitto "
			"-c "
			"%s/mosquitto.conf,\nor, when it runs, SIGHUP (after each node that is removed)",
			b->path, b->path, b->path);
	cli_say(b->c,
		"here: selfright serve --broker HOST:%u --broker-user " BROKER_CONTROLLER
		" --broker-password-file %s/" PASSWORD_FILE,
		b->rabbitmq ? b->plan.port : b->plan.controller_port, b->folder);
	return CLI_OK;
}

static int run(struct broker_config *b, bool check, bool diff)
{
	int r = ask_serve(b);

	b->dirfd = open(b->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (b->dirfd < 0 && errno != ENOENT)
		return cli_fail_error(b->c, -errno, "%s", b->folder);
	if (r < 0)
		r = read_password(b);
	if (r < 0)
		r = generate(b);
	if (r >= 0)
		return r;
	return check || diff ? compare(b, diff) : write_all(b);
}

/* Absolute, as a broker wants it; the folder itself need not be there yet. */
static int name_path(struct broker_config *b, const char *path)
{
	char here[PATH_MAX];

	if (path && path[0] != '/')
		return cli_fail(b->c, CLI_USAGE, "--path takes an absolute path, on the broker's machine");
	if (!path && b->folder[0] != '/' && !getcwd(here, sizeof(here)))
		return cli_fail_error(b->c, -errno, "the current folder");
	if (strpbrk(path ? path : b->folder, " \t\n\"") ||
	    (!path && b->folder[0] != '/' && strpbrk(here, " \t\n\"")))
		return cli_fail(b->c, CLI_USAGE,
				"a path with blanks cannot stand in a broker's settings; see --path");
	if (path || b->folder[0] == '/')
		(void) snprintf(b->path, sizeof(b->path), "%s", path ? path : b->folder);
	else if ((size_t) snprintf(b->path, sizeof(b->path), "%s/%s", here, b->folder) >= sizeof(b->path))
		return cli_fail(b->c, CLI_FAILED, "%s is too long a path", b->folder);
	b->plan.folder = b->path;
	return -1;
}

int cmd_broker_config(int argc, char **argv)
{
	static const char *output, *kind = "mosquitto", *path, *listen_on = "0.0.0.0",
				   *controller_listen = "127.0.0.1";
	static uint64_t port = NODE_PORT, controller_port = CONTROLLER_PORT;
	static struct cli_values names;
	static bool check, diff;
	static const struct cli_option options[] = {
		{ .name = "output", .value = "DIR", .help = "the folder to write (-o)", .text = &output },
		{ .name = "kind", .value = "KIND", .help = "mosquitto (default) or rabbitmq", .text = &kind },
		{ .name = "name",
		  .value = "NAME",
		  .help = "name or address nodes reach the broker by (repeat): it gets a certificate for them",
		  .values = &names },
		{ .name = "path",
		  .value = "DIR",
		  .help = "where the folder will lie on the broker's machine (default: as here)",
		  .text = &path },
		{ .name = "listen",
		  .value = "ADDRESS",
		  .help = "address for nodes (default 0.0.0.0)",
		  .text = &listen_on },
		{ .name = "port", .value = "N", .help = "port for nodes (default 8883)", .number = &port },
		{ .name = "controller-listen",
		  .value = "ADDRESS",
		  .help = "mosquitto: address for the controller (default 127.0.0.1; it uses TLS in any case)",
		  .text = &controller_listen },
		{ .name = "controller-port",
		  .value = "N",
		  .help = "mosquitto: port for the controller (default 8884)",
		  .number = &controller_port },
		{ .name = "check",
		  .help = "change nothing: exit 3 if the folder is not up to date",
		  .flag = &check },
		{ .name = "diff", .help = "the same, with the lines that differ", .flag = &diff },
		{ 0 },
	};
	static const struct cli_command command = {
		.usage = "broker-config -o DIR --name NAME [--kind mosquitto|rabbitmq] [--check | --diff]",
		.summary = "settings, access list and certificate for a broker of your own",
		.details = "The access list confines each node to its own topics by the name in its certificate. "
			   "Run it again after "
			   "\nnodes were removed (RabbitMQ: or added); certificate and password stay while they "
			   "are good.",
		.example = "selfright broker-config -o broker --name mqtt.example.org",
		.options = options,
	};
	struct broker_config b = { .dirfd = -1 };
	struct cli c;
	int r = cli_open(&command, argc, argv, &c);

	if (r >= 0)
		return r;
	if (!output)
		return cli_fail(&c, CLI_USAGE, "say which folder to write: -o DIR");
	if (strcmp(kind, "mosquitto") != 0 && strcmp(kind, "rabbitmq") != 0)
		return cli_fail(&c, CLI_USAGE,
				"--kind is mosquitto or rabbitmq; for EMQX see selfright(1), broker-config");
	if (port == 0 || port > 65535 || controller_port == 0 || controller_port > 65535)
		return cli_fail(&c, CLI_USAGE, "a port is a number from 1 to 65535");
	if (names.count > NAMES_MAX)
		return cli_fail(&c, CLI_USAGE, "at most %d names", NAMES_MAX);
	b.c = &c;
	b.folder = output;
	b.rabbitmq = strcmp(kind, "rabbitmq") == 0;
	b.plan.listen = listen_on;
	b.plan.port = (unsigned) port;
	b.plan.controller_listen = controller_listen;
	b.plan.controller_port = (unsigned) controller_port;
	b.plan.controller_tls = true;
	for (size_t i = 0; i < names.count; i++)
		b.names[i] = names.items[i];
	b.name_count = names.count;
	r = name_path(&b, path);
	if (r < 0)
		r = run(&b, check, diff);
	config_free(&b);
	return r;
}
