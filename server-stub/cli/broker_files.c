#include "server-stub/cli/broker_files.h"

#include "base/err.h"
#include "base/text.h"
#include "crypto/digest.h"
#include "json/build.h"

#include <stdio.h>
#include <string.h>

enum { RULE_MAX = 1024, SALT_BYTES = 4 };

/* The topics of DESIGN.md section 7. */
static const char *const to_all[] = { "announce", "timestamp" };
static const char *const to_one[] = { "announce", "ack", "grant", "blob", "certificate" };
static const char *const from_one[] = { "report", "event", "presence", "get", "put", "lease", "enrol" };

/* --- mosquitto --- */

int broker_mosquitto_settings(const struct broker_plan *p, struct buf *out)
{
	const char *d = p->folder;
	int r = buf_addf(out,
			 "per_listener_settings false\nallow_anonymous false\n"
			 "acl_file %s/acl\npassword_file %s/passwords\n",
			 d, d);

	if (r == 0 && p->user)
		r = buf_addf(out, "user %s\n", p->user);
	if (r == 0)
		r = buf_addf(out,
			     "persistence true\npersistence_location %s/data/\nautosave_interval 60\n"
			     "persistent_client_expiration 14d\n"
			     "max_queued_messages 100000\nmax_queued_bytes 268435456\nmax_inflight_messages 100\n"
			     "message_size_limit 262144\nmax_packet_size 262144\nmax_keepalive 1200\n"
			     "set_tcp_nodelay true\nsys_interval 10\n"
			     "log_dest stderr\nlog_type error\nlog_type warning\nlog_type notice\n\n",
			     d);
	/* The controller has a listener of its own, so that it never waits behind a storm of logins. */
	if (r == 0)
		r = buf_addf(out, "listener %u %s\n", p->controller_port, p->controller_listen);
	if (r == 0 && p->controller_tls)
		r = buf_addf(out, "certfile %s/server.crt\nkeyfile %s/server.key\ntls_version tlsv1.2\n", d, d);
	if (r == 0)
		r = buf_addf(out,
			     "\nlistener %u %s\ncafile %s/ca.crt\ncertfile %s/server.crt\n"
			     "keyfile %s/server.key\nrequire_certificate true\nuse_identity_as_username "
			     "true\n"
			     "use_username_as_clientid true\ntls_version tlsv1.2\n",
			     p->port, p->listen, d, d, d);
	return r;
}

int broker_mosquitto_access(const struct broker_plan *p, struct buf *out)
{
	const char *fleet = p->fleet;
	int r = buf_addf(out,
			 "user " BROKER_CONTROLLER "\ntopic readwrite selfright/v1/%s/#\ntopic read $SYS/#\n\n",
			 fleet);

	/* A certificate outlives its node. What is denied to a user is looked at before the patterns for all. */
	for (size_t i = 0; r == 0 && i < p->removed->count; i++)
		r = buf_addf(out, "user %s\ntopic deny #\n\n", p->removed->items[i]);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(to_all); i++)
		r = buf_addf(out, "pattern read selfright/v1/%s/%s\n", fleet, to_all[i]);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(to_one); i++)
		r = buf_addf(out, "pattern read selfright/v1/%s/node/%%u/%s\n", fleet, to_one[i]);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(from_one); i++)
		r = buf_addf(out, "pattern write selfright/v1/%s/node/%%u/%s\n", fleet, from_one[i]);
	return r;
}

/* --- RabbitMQ --- */

int broker_rabbitmq_settings(const struct broker_plan *p, struct buf *out)
{
	const char *d = p->folder;

	/*
	 * The controller has no certificate: none is asked for by force, and who has none needs a password, which no node's
	 * record has. Sessions end after an hour, as the nodes ask for.
	 */
	return buf_addf(out,
			"listeners.tcp = none\nmqtt.listeners.tcp = none\nmqtt.listeners.ssl.1 = %s:%u\n"
			"mqtt.allow_anonymous = false\nmqtt.vhost = /\nmqtt.exchange = amq.topic\n"
			"mqtt.ssl_cert_login = true\nssl_cert_login_from = common_name\n"
			"mqtt.subscription_ttl = 3600000\nmqtt.prefetch = 100\n"
			"ssl_options.cacertfile = %s/ca.crt\nssl_options.certfile = %s/server.crt\n"
			"ssl_options.keyfile = %s/server.key\nssl_options.verify = verify_peer\n"
			"ssl_options.fail_if_no_peer_cert = false\nssl_options.versions.1 = tlsv1.3\n"
			"ssl_options.versions.2 = tlsv1.2\nload_definitions = %s/definitions.json\n",
			p->listen, p->port, d, d, d, d);
}

/* RabbitMQ's own form: salt and SHA-256 over salt and password. The password is random, so its own digest salts it. */
static int hash_password(const char *password, struct buf *out)
{
	uint8_t digest[SALT_BYTES + SHA256_BYTES], seed[SHA256_BYTES];
	CLEANUP(buf_done)
	struct buf salted = BUF_INIT(1024);
	int r = sha256_of(password, strlen(password), seed);

	if (r == 0)
		r = buf_add(&salted, seed, SALT_BYTES);
	if (r == 0)
		r = buf_add_str(&salted, password);
	if (r < 0)
		return r;
	memcpy(digest, seed, SALT_BYTES);
	r = sha256_of(salted.data, salted.len, digest + SALT_BYTES);
	explicit_bzero(salted.data, salted.len);
	return r < 0 ? r : base64_encode(out, digest, sizeof(digest));
}

static void add_user(struct json_node *users, const char *name, const char *password_hash)
{
	struct json_node *o = node_object(users, NULL);

	node_string(o, "name", name);
	node_string(o, "password_hash", password_hash);
	node_string(o, "hashing_algorithm", "rabbit_password_hashing_sha256");
	node_array(o, "tags");
}

static void add_permission(struct json_node *list, const char *name, const char *configure, const char *access)
{
	struct json_node *o = node_object(list, NULL);

	node_string(o, "user", name);
	node_string(o, "vhost", "/");
	node_string(o, "configure", configure);
	node_string(o, "write", access);
	node_string(o, "read", access);
}

static void add_topics(struct json_node *list, const char *name, const char *write, const char *read)
{
	struct json_node *o = node_object(list, NULL);

	node_string(o, "user", name);
	node_string(o, "vhost", "/");
	node_string(o, "exchange", "amq.topic");
	node_string(o, "write", write);
	node_string(o, "read", read);
}

static int join_words(const char *const *words, size_t count, struct buf *out)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++)
		r = buf_addf(out, "%s%s", i > 0 ? "|" : "", words[i]);
	return r;
}

/* The plugin turns '/' of a topic into '.'; ids have no character that means anything in a pattern. */
static int node_topics(const char *fleet, struct buf *write, struct buf *read)
{
	CLEANUP(buf_done)
	struct buf from = BUF_INIT(RULE_MAX), all = BUF_INIT(RULE_MAX), one = BUF_INIT(RULE_MAX);
	int r = join_words(from_one, ARRAY_LEN(from_one), &from);

	if (r == 0)
		r = join_words(to_all, ARRAY_LEN(to_all), &all);
	if (r == 0)
		r = join_words(to_one, ARRAY_LEN(to_one), &one);
	if (r == 0)
		r = buf_addf(write, "^selfright\\.v1\\.%s\\.node\\.{username}\\.(%s)$", fleet, buf_str(&from));
	if (r == 0)
		r = buf_addf(read, "^selfright\\.v1\\.%s\\.((%s)|node\\.{username}\\.(%s))$", fleet, buf_str(&all),
			     buf_str(&one));
	return r;
}

int broker_rabbitmq_definitions(const struct broker_plan *p, const char *controller_password, struct buf *out)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	struct json_node *root = json_build_root(b), *users, *permissions, *topics;
	CLEANUP(buf_done)
	struct buf write = BUF_INIT(RULE_MAX), read = BUF_INIT(RULE_MAX), hash = BUF_INIT(RULE_MAX);
	char queue[RULE_MAX], access[RULE_MAX], everything[RULE_MAX];
	int r = node_topics(p->fleet, &write, &read);

	if (r == 0)
		r = hash_password(controller_password, &hash);
	if (r < 0)
		return r;
	node_string(node_object(node_array(root, "vhosts"), NULL), "name", "/");
	users = node_array(root, "users");
	permissions = node_array(root, "permissions");
	topics = node_array(root, "topic_permissions");
	add_user(users, BROKER_CONTROLLER, buf_str(&hash));
	add_permission(permissions, BROKER_CONTROLLER, "^mqtt-subscription-selfright-.*$",
		       "^(mqtt-subscription-selfright-.*|amq\\.topic)$");
	(void) snprintf(everything, sizeof(everything), "^selfright\\.v1\\.%s\\..*$",
			p->fleet); /* an id always fits */
	add_topics(topics, BROKER_CONTROLLER, everything, everything);
	for (size_t i = 0; i < p->nodes->count; i++) {
		const char *node = p->nodes->items[i];

		(void) snprintf(queue, sizeof(queue), "^mqtt-subscription-%sqos[01]$", node); /* ids fit */
		(void) snprintf(access, sizeof(access), "^(mqtt-subscription-%sqos[01]|amq\\.topic)$", node);
		add_user(users, node, ""); /* nobody logs in by a password that has no hash */
		add_permission(permissions, node, queue, access);
		add_topics(topics, node, buf_str(&write), buf_str(&read));
	}
	/* Loading definitions takes nobody away, so who was removed may do nothing. */
	for (size_t i = 0; i < p->removed->count; i++) {
		add_user(users, p->removed->items[i], "");
		add_permission(permissions, p->removed->items[i], "^$", "^$");
		add_topics(topics, p->removed->items[i], "^$", "^$");
	}
	return json_build_text(b, true, out);
}
