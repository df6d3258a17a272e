#include "base/err.h"
#include "base/log.h"
#include "crypto/key.h"
#include "json/build.h"
#include "json/json.h"
#include "os/durable.h"
#include "server-stub/cli/cli.h"
#include "server-stub/cli/serve.h"
#include "server-stub/ingest/db.h"
#include "server-stub/ingest/db_orders.h"
#include "server-stub/repo/repo.h"
#include "server-stub/signer/client.h"
#include "server-stub/signer/signer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PEM_MAX = 64 * 1024, SIGNER_GRACE_MS = 3000, REFILL_SLICE_MS = 50, CERTIFICATE_AGAIN_MS = 10 * 1000 };

/* Half of what SIGNER_SERVER_CERTIFICATE_LIFE gives it: a controller runs longer than its certificate lives. */
static const uint64_t CERTIFICATE_RENEW_MS = UINT64_C(1000) * SIGNER_SERVER_CERTIFICATE_LIFE / 2;

static void disconnect(struct serve *s)
{
	repo_close(s->repo);
	s->repo = NULL;
	signer_disconnect(s->signer);
	s->signer = NULL;
}

int trust_start(struct serve *s)
{
	char socket_path[PATH_MAX];
	int r;

	r = s->options.no_signer ? 0 : cli_start_signer(s->options.dir, &s->signer_process);
	if (r < 0)
		return r;
	if (snprintf(socket_path, sizeof(socket_path), "%s/signer/signer.sock", s->options.dir) >=
	    (int) sizeof(socket_path))
		return -ENAMETOOLONG;
	r = signer_connect(socket_path, &s->signer);
	if (r == 0)
		r = repo_open(s->os, s->options.dir, s->signer, &s->repo);
	if (r < 0) {
		disconnect(s);
		if (s->signer_process.pid > 0)
			process_end(&s->signer_process, SIGNER_GRACE_MS);
		return r;
	}
	return 0;
}

void trust_stop(struct serve *s)
{
	disconnect(s);
	if (s->signer_process.pid > 0)
		process_end(&s->signer_process, SIGNER_GRACE_MS);
}

static void supervise(struct serve *s)
{
	uint64_t now = serve_now_ms(s), jitter = 0;
	char text[64];
	int status, r;

	if (s->options.no_signer && s->signer) {
		if (signer_is_there(s->signer))
			return;
		log_error("signer-ended", "the signer is gone; it is looked for again");
		disconnect(s);
		s->signer_retry_ms = now;
	}
	if (s->signer_process.pid > 0) {
		if (process_poll(&s->signer_process, &status) == 0)
			return;
		log_error("signer-ended", "the signer %s; it is started again",
			  process_status_text(status, text, sizeof(text)));
		s->signer_process = (struct process){ 0 };
		disconnect(s);
		(void) s->os->random(s->os, &jitter, sizeof(jitter)); /* without it all wait equally long */
		s->signer_retry_ms = now + backoff_next_ms(&s->signer_backoff, jitter);
	}
	if (now < s->signer_retry_ms)
		return;
	r = trust_start(s);
	if (r == 0) {
		log_notice("signer-started", "the signer runs again");
		s->publish_due = true;
		return;
	}
	log_error("signer-failed", "the signer %s: %s", s->options.no_signer ? "is not there" : "does not start",
		  err_text(r));
	s->signer_process = (struct process){ 0 };
	(void) s->os->random(s->os, &jitter, sizeof(jitter)); /* as above */
	s->signer_retry_ms = now + backoff_next_ms(&s->signer_backoff, jitter);
}

void trust_tick(struct serve *s)
{
	bool published = false;
	int r;

	supervise(s);
	if (!s->repo || !broker_is_compared(s))
		return;
	r = repo_tick(s->repo, serve_now(s), &published);
	if (r < 0 && serve_now_ms(s) >= s->publish_retry_ms) {
		log_error("sign-failed", "the metadata was not signed anew: %s", repo_error(s->repo));
		s->publish_retry_ms = serve_now_ms(s) + 10000;
	}
	if (published)
		trust_announce_timestamp(s);
}

/* The key stays; a certificate costs nothing and follows the names of this start. */
int trust_server_certificate(struct serve *s, struct buf *ret_key, struct buf *ret_cert)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf public_pem = BUF_INIT(PEM_MAX), ca = BUF_INIT(PEM_MAX);
	char names[SERVE_NAMES_MAX + 4][300];
	const char *list[SERVE_NAMES_MAX + 4];
	size_t count = 0;
	int dirfd, r;

	r = durable_mkdir(s->os, s->serve_dirfd, "tls", 0700);
	if (r < 0)
		return r;
	dirfd = dir_open(s->os, s->serve_dirfd, "tls");
	if (dirfd < 0)
		return dirfd;
	r = file_read(s->os, dirfd, "server.key", PEM_MAX, ret_key);
	if (r == -ENOENT) {
		r = private_key_generate(&key);
		if (r == 0)
			r = private_key_save(key, NULL, ret_key);
		if (r == 0)
			r = durable_write_file(s->os, dirfd, "server.key", ret_key->data, ret_key->len, 0600);
	} else if (r == 0) {
		r = private_key_load(ret_key->data, ret_key->len, NULL, &key);
	}
	if (r == 0)
		r = private_key_public_pem(key, &public_pem);
	snprintf(names[count++], sizeof(names[0]), "DNS:localhost");
	snprintf(names[count++], sizeof(names[0]), "IP:127.0.0.1");
	snprintf(names[count++], sizeof(names[0]), "IP:::1");
	if (strcmp(s->options.listen, "127.0.0.1") != 0 && strcmp(s->options.listen, "::1") != 0 &&
	    strcmp(s->options.listen, "0.0.0.0") != 0 && strcmp(s->options.listen, "::") != 0)
		snprintf(names[count++], sizeof(names[0]), "IP:%s", s->options.listen);
	for (size_t i = 0; i < s->options.name_count; i++) {
		const char *n = s->options.names[i];
		bool address = strchr(n, ':') || strspn(n, "0123456789.") == strlen(n);

		snprintf(names[count++], sizeof(names[0]), "%s:%.250s", address ? "IP" : "DNS", n);
	}
	for (size_t i = 0; i < count; i++)
		list[i] = names[i];
	if (r == 0)
		r = signer_certify_server(s->signer, buf_str(&public_pem), list, count, ret_cert);
	if (r == 0)
		r = durable_write_file(s->os, dirfd, "server.crt", ret_cert->data, ret_cert->len, 0644);
	if (r == 0)
		r = repo_ca_pem(s->repo, &ca);
	if (r == 0)
		r = durable_write_file(s->os, dirfd, "ca.crt", ca.data, ca.len, 0644);
	(void) s->os->close(s->os, dirfd);
	return r;
}

void trust_certificate_tick(struct serve *s)
{
	CLEANUP(buf_done)
	struct buf key = BUF_INIT(PEM_MAX), certificate = BUF_INIT(PEM_MAX);
	uint64_t now = serve_now_ms(s);
	int r;

	if (s->certificate_at_ms == 0)
		s->certificate_at_ms = now + CERTIFICATE_RENEW_MS; /* it was made at this start */
	if (!s->signer || !s->repo || (!s->certificate_due && now < s->certificate_at_ms))
		return;
	s->certificate_due = false;
	s->certificate_at_ms = now + CERTIFICATE_AGAIN_MS;
	r = trust_server_certificate(s, &key, &certificate);
	if (r == 0)
		r = web_renew_tls(s->web, buf_str(&key), buf_str(&certificate));
	if (r == 0)
		r = broker_certificates_changed(s);
	if (key.data)
		explicit_bzero(key.data, key.len);
	if (r < 0) {
		log_error("certificate-not-renewed",
			  "the servers keep the certificate they have; it is tried again: %s", err_text(r));
		return;
	}
	s->certificate_at_ms = now + CERTIFICATE_RENEW_MS;
	log_notice("certificate-renewed", "the servers show a new certificate; nodes connect again");
}

int trust_sign(struct serve *s, void (*write)(const void *what, struct json_node *object), const void *what,
	       struct buf *ret)
{
	CLEANUP(json_build_freep)
	struct json_build *b = json_build_new();
	CLEANUP(json_freep)
	struct json *document = NULL;
	CLEANUP(buf_done)
	struct buf text = BUF_INIT(PEM_MAX);
	int r;

	if (!s->signer)
		return -ERR_PEER_GONE;
	write(what, json_build_root(b));
	r = json_build_text(b, false, &text);
	if (r < 0)
		return r;
	r = json_parse(text.data, text.len, &json_limits_default, &document);
	if (r < 0)
		return r;
	return signer_sign_control(s->signer, document, ret);
}

void trust_announce(struct serve *s, const char *node)
{
	CLEANUP(buf_done)
	struct buf gzip = BUF_INIT(ANNOUNCEMENT_MAX);
	char topic[TOPIC_MAX];
	int r;

	if (!s->repo)
		return;
	r = repo_announcement(s->repo, node, &gzip);
	if (r < 0) {
		/* Nodes then fetch it themselves when they see the new timestamp. */
		if (r != -ENOENT)
			log_warning("announce-failed", "a publication is announced by its timestamp only: %s",
				    repo_error(s->repo));
		trust_announce_timestamp(s);
		return;
	}
	if (node)
		snprintf(topic, sizeof(topic), "node/%s/announce", node);
	else
		snprintf(topic, sizeof(topic), "announce");
	broker_publish(s, topic, gzip.data, gzip.len, true);
}

void trust_announce_timestamp(struct serve *s)
{
	CLEANUP(buf_done)
	struct buf timestamp = BUF_INIT(PEM_MAX);

	if (s->repo && repo_read_role(s->repo, "timestamp", &timestamp) == 0)
		broker_publish(s, "timestamp", timestamp.data, timestamp.len, true);
}

struct refilling {
	struct serve *serve;
	uint64_t until_ms;
	bool more;
};

static int refill_node(void *user, const struct db_order *row)
{
	struct refilling *f = user;
	struct serve *s = f->serve;

	/* By name: each once, and on from where the last slice ended. */
	if (strcmp(row->node, s->refilled) <= 0)
		return 0;
	if (serve_now_ms(s) >= f->until_ms) {
		f->more = true;
		return 1;
	}
	snprintf(s->refilled, sizeof(s->refilled), "%s", row->node);
	trust_announce(s, row->node);
	return 0;
}

void trust_refill(struct serve *s)
{
	struct refilling f = { .serve = s };
	int r;

	if (!s->refilled[0]) {
		trust_announce(s, NULL);
		trust_announce_timestamp(s);
	}
	f.until_ms = serve_now_ms(s) + REFILL_SLICE_MS;
	r = db_orders(s->db, NULL, serve_now(s), refill_node, &f);
	if (r < 0)
		log_warning("refill-failed", "orders were not announced again: %s", db_error(s->db));
	if (f.more)
		return;
	s->refilled[0] = '\0';
	s->refill = false;
}
