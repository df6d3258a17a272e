/* Each sentence of crypto/certificate.h; the openssl command is the judge where it is installed. */
#include "base/err.h"
#include "base/text.h"
#include "crypto/certificate.h"
#include "crypto/key.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PEM_MAX 16384

/* A CA and a holder. */
struct fixture {
	struct private_key *ca_key, *key;
	struct buf ca_public, public, ca_pem;
	int64_t now;
	char dir[64];
};

static struct certificate_request ca_request(const struct fixture *f)
{
	return (struct certificate_request){
		.common_name = "Selfright CA, \"demo\"", /* what a textual name would trip over */
		.public_pem = buf_str(&f->ca_public),
		.is_ca = true,
		.not_before = f->now - 60,
		.not_after = f->now + 3600,
	};
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->now = time(NULL);
	buf_init(&f->ca_public, PEM_MAX);
	buf_init(&f->public, PEM_MAX);
	buf_init(&f->ca_pem, PEM_MAX);
	assert_int_equal(private_key_generate(&f->ca_key), 0);
	assert_int_equal(private_key_generate(&f->key), 0);
	assert_int_equal(private_key_public_pem(f->ca_key, &f->ca_public), 0);
	assert_int_equal(private_key_public_pem(f->key, &f->public), 0);

	struct certificate_request request = ca_request(f);

	assert_int_equal(certificate_issue(&request, f->ca_key, NULL, &f->ca_pem), 0);
	(void) snprintf(f->dir, sizeof(f->dir), "/tmp/certificate.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	*state = f;
	return 0;
}

static void path_in(const struct fixture *f, const char *name, char out[static 128])
{
	(void) snprintf(out, 128, "%s/%s", f->dir, name);
}

static int teardown(void **state)
{
	static const char *const files[] = { "ca.crt", "leaf.crt", "out" };
	struct fixture *f = *state;
	char path[128];

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		path_in(f, files[i], path);
		(void) unlink(path); /* not every test writes all */
	}
	(void) rmdir(f->dir);
	private_key_free(f->ca_key);
	private_key_free(f->key);
	buf_done(&f->ca_public);
	buf_done(&f->public);
	buf_done(&f->ca_pem);
	free(f);
	return 0;
}

static struct certificate_request node_request(const struct fixture *f)
{
	return (struct certificate_request){
		.common_name = "n1",
		.public_pem = buf_str(&f->public),
		.client = true,
		.not_before = f->now - 60,
		.not_after = f->now + 3600,
	};
}

static void write_file(const struct fixture *f, const char *name, const struct buf *content)
{
	char path[128];
	FILE *file;

	path_in(f, name, path);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(content->data, 1, content->len, file), content->len);
	assert_int_equal(fclose(file), 0);
}

/* Run openssl in the fixture's folder with its output in the file "out"; answers its status, skips without it. */
static int openssl(const struct fixture *f, const char *const argv[])
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		int fd;

		if (chdir(f->dir) < 0 || (fd = open("out", O_WRONLY | O_CREAT | O_TRUNC, 0600)) < 0 ||
		    dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
			_exit(126);
		(void) execvp("openssl", (char *const *) (uintptr_t) argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 127)
		skip();
	return WEXITSTATUS(status);
}

static bool output_has(const struct fixture *f, const char *text)
{
	char path[128], content[PEM_MAX] = "";
	FILE *file;

	path_in(f, "out", path);
	file = fopen(path, "re");
	assert_non_null(file);
	(void) !fread(content, 1, sizeof(content) - 1, file); /* empty is an answer, too */
	(void) fclose(file);
	return strstr(content, text) != NULL;
}

static void test_openssl_accepts_what_we_issue(void **state)
{
	static const char *const names[] = { "DNS:localhost", "DNS:fleet.example.org", "IP:127.0.0.1", "IP:::1" };
	static const char *const server[] = { "openssl",  "verify",    "-x509_strict",	   "-CAfile",	"ca.crt",
					      "-purpose", "sslserver", "-verify_hostname", "localhost", "leaf.crt",
					      NULL };
	static const char *const address[] = { "openssl",  "verify",	"-x509_strict", "-CAfile", "ca.crt",
					       "-purpose", "sslclient", "-verify_ip",	"::1",	   "leaf.crt",
					       NULL };
	static const char *const wrong_host[] = { "openssl",	      "verify",	     "-CAfile",	 "ca.crt",
						  "-verify_hostname", "example.org", "leaf.crt", NULL };
	static const char *const text[] = { "openssl", "x509", "-noout", "-text", "-in", "leaf.crt", NULL };
	static const char *const ca_text[] = { "openssl", "x509", "-noout", "-text", "-in", "ca.crt", NULL };
	CLEANUP(buf_done)
	struct buf leaf = BUF_INIT(PEM_MAX);
	struct fixture *f = *state;
	struct certificate_request request = node_request(f);

	request.names = names;
	request.name_count = ARRAY_LEN(names);
	request.server = true;
	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &leaf), 0);
	write_file(f, "ca.crt", &f->ca_pem);
	write_file(f, "leaf.crt", &leaf);
	assert_int_equal(openssl(f, server), 0);
	assert_int_equal(openssl(f, address), 0);
	assert_int_not_equal(openssl(f, wrong_host), 0);
	assert_int_equal(openssl(f, text), 0);
	assert_true(output_has(f, "DNS:localhost, DNS:fleet.example.org, IP Address:127.0.0.1, "
				  "IP Address:0:0:0:0:0:0:0:1"));
	assert_true(output_has(f, "CA:FALSE"));
	assert_true(output_has(f, "Digital Signature\n"));
	assert_true(output_has(f, "TLS Web Server Authentication, TLS Web Client Authentication"));
	assert_true(output_has(f, "Subject Key Identifier"));
	assert_true(output_has(f, "Authority Key Identifier"));
	assert_int_equal(openssl(f, ca_text), 0);
	assert_true(output_has(f, "Basic Constraints: critical\n                CA:TRUE, pathlen:0"));
	assert_true(output_has(f, "Certificate Sign, CRL Sign"));
}

static void test_usage_is_what_was_asked(void **state)
{
	static const char *const as_server[] = { "openssl",  "verify",	  "-CAfile",  "ca.crt",
						 "-purpose", "sslserver", "leaf.crt", NULL };
	static const char *const as_client[] = { "openssl",  "verify",	  "-CAfile",  "ca.crt",
						 "-purpose", "sslclient", "leaf.crt", NULL };
	struct fixture *f = *state;

	write_file(f, "ca.crt", &f->ca_pem);
	for (int server = 0; server <= 1; server++) {
		CLEANUP(buf_done)
		struct buf leaf = BUF_INIT(PEM_MAX);
		struct certificate_request request = node_request(f);

		request.server = server == 1;
		request.client = server == 0;
		assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &leaf), 0);
		write_file(f, "leaf.crt", &leaf);
		assert_int_equal(openssl(f, as_server) == 0, server == 1);
		assert_int_equal(openssl(f, as_client) == 0, server == 0);
	}
}

/* Neither its holder nor we ourselves can make a chain through a node's certificate. */
static void test_a_node_is_no_ca(void **state)
{
	static const char *const verify[] = { "openssl",    "verify",	"-CAfile",  "ca.crt",
					      "-untrusted", "node.crt", "leaf.crt", NULL };
	CLEANUP(buf_done)
	struct buf node = BUF_INIT(PEM_MAX), leaf = BUF_INIT(PEM_MAX);
	CLEANUP(private_key_freep)
	struct private_key *third = NULL;
	CLEANUP(buf_done)
	struct buf third_public = BUF_INIT(PEM_MAX);
	struct fixture *f = *state;
	struct certificate_request request = node_request(f);
	char path[128];
	int status;

	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &node), 0);
	assert_int_equal(private_key_generate(&third), 0);
	assert_int_equal(private_key_public_pem(third, &third_public), 0);
	request.common_name = "n2";
	request.public_pem = buf_str(&third_public);
	assert_int_equal(certificate_issue(&request, f->key, buf_str(&node), &leaf), 0);
	write_file(f, "ca.crt", &f->ca_pem);
	write_file(f, "node.crt", &node);
	write_file(f, "leaf.crt", &leaf);
	status = openssl(f, verify);
	path_in(f, "node.crt", path);
	assert_int_equal(unlink(path), 0);
	assert_int_not_equal(status, 0);
}

static void test_what_was_issued_reads_back(void **state)
{
	CLEANUP(buf_done)
	struct buf leaf = BUF_INIT(PEM_MAX);
	struct fixture *f = *state;
	struct certificate_request request = node_request(f);
	struct certificate_info info;

	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &leaf), 0);
	assert_int_equal(strlen(buf_str(&leaf)), leaf.len);
	assert_int_equal(certificate_read(buf_str(&leaf), &info), 0);
	assert_string_equal(info.common_name, "n1");
	assert_int_equal(info.not_before, f->now - 60);
	assert_int_equal(info.not_after, f->now + 3600);
	assert_int_equal(certificate_read(buf_str(&f->ca_pem), &info), 0);
	assert_string_equal(info.common_name, "Selfright CA, \"demo\"");
}

/* Beyond 2049 X.509 writes another kind of time. */
static void test_times_of_every_century(void **state)
{
	static const int64_t times[] = { 0, 1, 946684800, 2524607999, 2524608000, 4102444800, 253402300799 };
	struct fixture *f = *state;

	for (size_t i = 0; i + 1 < ARRAY_LEN(times); i++) {
		CLEANUP(buf_done)
		struct buf leaf = BUF_INIT(PEM_MAX);
		struct certificate_request request = node_request(f);
		struct certificate_info info;

		request.not_before = times[i];
		request.not_after = times[i + 1];
		assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &leaf), 0);
		assert_int_equal(certificate_read(buf_str(&leaf), &info), 0);
		assert_int_equal(info.not_before, times[i]);
		assert_int_equal(info.not_after, times[i + 1]);
	}
}

static void test_serials_differ(void **state)
{
	CLEANUP(buf_done)
	struct buf first = BUF_INIT(PEM_MAX), second = BUF_INIT(PEM_MAX);
	struct fixture *f = *state;
	struct certificate_request request = node_request(f);

	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &first), 0);
	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &second), 0);
	assert_string_not_equal(buf_str(&first), buf_str(&second));
}

static void test_bad_requests_are_refused(void **state)
{
	static const char *const bad_names[] = {
		"localhost",	"DNS:",		"DNS:a b",    "DNS:a,IP:1.2.3.4", "IP:",	  "IP:1.2.3",
		"IP:1.2.3.4.5", "IP:1.2.3.256", "IP:gggg::1", "IP:127.0.0.1/8",	  "URI:http://x", "DNS:\xc3\xa9",
	};
	char long_name[80], long_host[300];
	struct fixture *f = *state;
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(PEM_MAX), small = BUF_INIT(100);
	struct certificate_request request;
	const char *many[40];

	for (size_t i = 0; i < ARRAY_LEN(bad_names); i++) {
		request = node_request(f);
		request.names = &bad_names[i];
		request.name_count = 1;
		assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &out), -ERR_NAME);
	}
	memset(long_host, 'a', sizeof(long_host));
	memcpy(long_host, "DNS:", 4);
	long_host[4 + 254] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i] = long_host;
	request = node_request(f);
	request.names = many;
	request.name_count = 1;
	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &out), -ERR_NAME);
	request.name_count = 40;
	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &out), -ERR_TOO_LARGE);

	memset(long_name, 'n', 65);
	long_name[65] = '\0';
	request = node_request(f);
	request.common_name = long_name;
	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &out), -ERR_NAME);
	request.common_name = "";
	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &out), -ERR_NAME);
	request.common_name = "a\nb";
	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &out), -ERR_NAME);

	request = node_request(f);
	request.not_after = request.not_before;
	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &out), -ERR_FIELD_VALUE);
	request.not_after = INT64_MAX;
	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &out), -ERR_FIELD_VALUE);
	request.not_before = -1;
	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &out), -ERR_FIELD_VALUE);

	request = node_request(f);
	request.public_pem = "no key";
	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &out), -ERR_KEY);
	request = node_request(f);
	assert_int_equal(certificate_issue(&request, f->key, buf_str(&f->ca_pem), &out),
			 -ERR_KEY); /* not its key */
	assert_int_equal(certificate_issue(&request, f->ca_key, NULL, &out), -ERR_KEY); /* not self-signed */
	assert_int_equal(certificate_issue(&request, f->ca_key, "no certificate", &out), -ERR_SYNTAX);
	assert_int_equal(out.len, 0);
	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &small), -ERR_TOO_LARGE);
	assert_int_equal(small.len, 0);
}

static void test_the_longest_allowed_request_fits(void **state)
{
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(65536);
	struct fixture *f = *state;
	struct certificate_request request = node_request(f);
	char host[300], name[65];
	const char *many[32];

	memset(host, 'a', sizeof(host));
	memcpy(host, "DNS:", 4);
	host[4 + 253] = '\0';
	memset(name, 'n', 64);
	name[64] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i] = host;
	request.common_name = name;
	request.names = many;
	request.name_count = ARRAY_LEN(many);
	assert_int_equal(certificate_issue(&request, f->ca_key, buf_str(&f->ca_pem), &out), 0);
}

static void test_broken_certificates_are_refused(void **state)
{
	struct fixture *f = *state;
	struct certificate_info info = { .not_before = 7 };
	const char *pem = buf_str(&f->ca_pem);

	assert_int_equal(certificate_read("", &info), -ERR_SYNTAX);
	assert_int_equal(certificate_read("hello", &info), -ERR_SYNTAX);
	assert_int_equal(certificate_read("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &info),
			 -ERR_SYNTAX);
	for (size_t cut = 2; cut < f->ca_pem.len; cut += 17) {
		CLEANUP(buf_done)
		struct buf part = BUF_INIT(PEM_MAX);

		assert_int_equal(buf_add(&part, pem, f->ca_pem.len - cut), 0);
		assert_int_equal(certificate_read(buf_str(&part), &info), -ERR_SYNTAX);
	}
	assert_int_equal(info.not_before, 7);
}

/* Certificates of an openssl CA: its name in another string type, with several parts. */
static const char foreign_key[] = "-----BEGIN EC PRIVATE KEY-----\n"
				  "MHcCAQEEIJdkOe56NFW++V/5rRbM7p2vIaED2UtkPqAAhSZe6Qp+oAoGCCqGSM49\n"
				  "AwEHoUQDQgAE9kGrQFHFLPhiQ7WirdN+6bc6OapI/DkXrpLAWbJspTMlrx0emC8Z\n"
				  "tHMqIJ9+O3xtgClWoPjxHxYoLAIrjcTVgw==\n"
				  "-----END EC PRIVATE KEY-----\n";
static const char foreign_ca[] = "-----BEGIN CERTIFICATE-----\n"
				 "MIIB2DCCAX+gAwIBAgIUGWyXdTg592bGPZYHyaOrbLxUCcowCgYIKoZIzj0EAwIw\n"
				 "OjELMAkGA1UEBhMCTk8xGTAXBgNVBAoMEEZsZWV0ICYgU8ODwrZobmUxEDAOBgNV\n"
				 "BAMMB1Jvb3QgQ0EwHhcNMjYxMTIxMTAwNTQ0WhcNNDYxMTE2MTAwNTQ0WjA6MQsw\n"
				 "CQYDVQQGEwJOTzEZMBcGA1UECgwQRmxlZXQgJiBTw4PCtmhuZTEQMA4GA1UEAwwH\n"
				 "Um9vdCBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPZBq0BRxSz4YkO1oq3T\n"
				 "fum3OjmqSPw5F66SwFmybKUzJa8dHpgvGbRzKiCffjt8bYApVqD48R8WKCwCK43E\n"
				 "1YOjYzBhMB0GA1UdDgQWBBTiSyNEmHNfu0FoYn/ezGBBgngqlzAfBgNVHSMEGDAW\n"
				 "gBTiSyNEmHNfu0FoYn/ezGBBgngqlzAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB\n"
				 "/wQEAwICBDAKBggqhkjOPQQDAgNHADBEAiA86gNrdAbAHakVF9u3JExumQ2vCBVT\n"
				 "2xEEjla1dmVJ6AIgbb85seqkV1ZeBVITXRyNxAzYoYqvPEK5pBBDnFTLh60=\n"
				 "-----END CERTIFICATE-----\n";
static const char twice_named_ca[] = "-----BEGIN CERTIFICATE-----\n"
				     "MIIB7TCCAZOgAwIBAgIUfbOdwaa3u4TlnTom7aSWJ8aY4jowCgYIKoZIzj0EAwIw\n"
				     "RDEOMAwGA1UECgwFRmxlZXQxCjAIBgNVBAsMAWExCjAIBgNVBAsMAWIxDDAKBgNV\n"
				     "BAMMA29uZTEMMAoGA1UEAwwDdHdvMB4XDTI2MTEyMTEwMDU0NFoXDTQ2MTExNjEw\n"
				     "MDU0NFowRDEOMAwGA1UECgwFRmxlZXQxCjAIBgNVBAsMAWExCjAIBgNVBAsMAWIx\n"
				     "DDAKBgNVBAMMA29uZTEMMAoGA1UEAwwDdHdvMFkwEwYHKoZIzj0CAQYIKoZIzj0D\n"
				     "AQcDQgAE9kGrQFHFLPhiQ7WirdN+6bc6OapI/DkXrpLAWbJspTMlrx0emC8ZtHMq\n"
				     "IJ9+O3xtgClWoPjxHxYoLAIrjcTVg6NjMGEwHQYDVR0OBBYEFOJLI0SYc1+7QWhi\n"
				     "f97MYEGCeCqXMB8GA1UdIwQYMBaAFOJLI0SYc1+7QWhif97MYEGCeCqXMA8GA1Ud\n"
				     "EwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgIEMAoGCCqGSM49BAMCA0gAMEUCIQDO\n"
				     "4LlS7UKPFM5ulfxHnbw0wfNv3YUfO02LLfzZbJXUQQIgda3nGAxZXIe9yPDoRum9\n"
				     "QT/HIBcwtNM5rbIITSiDWX8=\n"
				     "-----END CERTIFICATE-----\n";

static void test_a_foreign_ca_can_issue(void **state)
{
	static const char *const verify[] = { "openssl",	"verify",   "-CAfile", "ca.crt",
					      "-no_check_time", "leaf.crt", NULL };
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf leaf = BUF_INIT(PEM_MAX), ca = BUF_INIT(PEM_MAX);
	struct fixture *f = *state;
	struct certificate_request request = node_request(f);

	assert_int_equal(private_key_load(foreign_key, strlen(foreign_key), NULL, &key), 0);
	assert_int_equal(certificate_issue(&request, key, foreign_ca, &leaf), 0);
	assert_int_equal(buf_add_str(&ca, foreign_ca), 0);
	write_file(f, "ca.crt", &ca);
	write_file(f, "leaf.crt", &leaf);
	assert_int_equal(openssl(f, verify), 0);
}

static void test_an_issuer_name_we_cannot_copy_is_refused(void **state)
{
	CLEANUP(private_key_freep)
	struct private_key *key = NULL;
	CLEANUP(buf_done)
	struct buf out = BUF_INIT(PEM_MAX);
	struct fixture *f = *state;
	struct certificate_request request = node_request(f);
	struct certificate_info info;

	assert_int_equal(private_key_load(foreign_key, strlen(foreign_key), NULL, &key), 0);
	assert_int_equal(certificate_issue(&request, key, twice_named_ca, &out), -ERR_NAME);
	assert_int_equal(out.len, 0);
	assert_int_equal(certificate_read(twice_named_ca, &info), -ERR_NAME); /* whose certificate is it? */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_openssl_accepts_what_we_issue),
		cmocka_unit_test(test_usage_is_what_was_asked),
		cmocka_unit_test(test_a_node_is_no_ca),
		cmocka_unit_test(test_what_was_issued_reads_back),
		cmocka_unit_test(test_times_of_every_century),
		cmocka_unit_test(test_serials_differ),
		cmocka_unit_test(test_bad_requests_are_refused),
		cmocka_unit_test(test_the_longest_allowed_request_fits),
		cmocka_unit_test(test_broken_certificates_are_refused),
		cmocka_unit_test(test_a_foreign_ca_can_issue),
		cmocka_unit_test(test_an_issuer_name_we_cannot_copy_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
