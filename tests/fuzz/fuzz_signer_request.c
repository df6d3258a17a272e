/* Any bytes as a request: an answer, or a refusal with its sentence; nothing is ever signed that no rule permits. */
#include "base/err.h"
#include "base/text.h"
#include "json/json.h"
#include "os/durable.h"
#include "os/os.h"
#include "server-stub/repo/offline.h"
#include "server-stub/signer/signer.h"

#include "base/log.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

static int nothing(const struct os *os, int fd)
{
	(void) os;
	(void) fd;
	return 0;
}

static void ignore(void *user, enum log_level level, const char *event, const char *text)
{
	(void) user;
	(void) level;
	(void) event;
	(void) text;
}

static char folder[] = "/tmp/selfright-fuzz-XXXXXX";

static void clean_up(void)
{
	(void) !tree_remove(&os_posix, AT_FDCWD, folder); /* a folder of this run */
}

static struct signer *start(void)
{
	static const char *const keys[] = { "rollouts-1", "support-1", "snapshot-1", "timestamp-1", "control-1" };
	static struct os os;
	struct signer_options o = {
		.os = &os, .dir = folder, .roles_per_minute = 1000000, .control_per_minute = 1000000
	};
	struct key_files made = { .count = 0 };
	struct signer *s = NULL;
	char path[128];

	log_set(ignore, NULL, LOG_LEVEL_ERROR);
	os = os_posix;
	os.fsync = nothing;
	expect(mkdtemp(folder) != NULL);
	expect(atexit(clean_up) == 0);
	(void) snprintf(path, sizeof(path), "%s/signer", folder);
	expect(durable_mkdir(&os, AT_FDCWD, path, 0700) == 0);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		expect(key_files_create(&os, path, keys[i], NULL, &made) == 0);
	key_files_done(&made);
	expect(signer_open(&o, &s) == 0);
	return s;
}

/* What was signed for a role lists nothing but that role's own files. */
static void check_signed(const struct buf *answer)
{
	CLEANUP(json_freep)
	struct json *doc = NULL;
	const struct json *targets;

	expect(json_parse(answer->data, answer->len, &json_limits_default, &doc) == 0);
	targets = json_get(json_get(doc, "signed"), "targets");
	for (size_t i = 0; i < json_count(targets); i++)
		expect(str_starts(json_name_at(targets, i), "rollouts/") ||
		       str_starts(json_name_at(targets, i), "nodes/"));
	expect(json_get(json_get(doc, "signed"), "delegations") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct signer *signer;
	CLEANUP(buf_done)
	struct buf answer = BUF_INIT(SIGNER_MAX_BYTES);
	uint16_t type;
	int r;

	if (!signer)
		signer = start();
	if (size == 0)
		return 0;
	type = (uint16_t) (data[0] % 10);
	if (type == SIGNER_RECOVER) /* raises versions for ever: tested by itself */
		return 0;
	r = signer_handle(signer, 0, type, data + 1, size - 1, &answer);
	expect(r >= 0 || (answer.len == 0 && strlen(signer_reason(signer)) > 0));
	if (r >= 0 && type == SIGNER_SIGN_ROLE)
		check_signed(&answer);
	return 0;
}
