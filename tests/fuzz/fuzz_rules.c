/* preflight.yaml from anybody: what is read is within its limits, what is refused says why. */
#include "base/err.h"
#include "conf/conf.h"
#include "server-stub/rollout/rules.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct rule_words words = { "web", "1.0.0", "00" };
	struct conf_error e = { "" };
	struct rules r;
	int f = rules_parse(data, size, "rules", "web", &r, &e);

	if (f == -ERR_CONFIG && !e.text[0])
		abort();
	if (f < 0)
		return 0;
	if (r.command_count > RULES_COMMANDS_MAX)
		abort();
	for (size_t i = 0; i < r.command_count; i++) {
		const struct rule_command *c = &r.commands[i];

		if (c->argv.count == 0 || c->argv.count > RULES_ARGV_MAX || c->argv.items[0][0] != '/' ||
		    c->timeout_s == 0 || c->timeout_s > RULES_TIMEOUT_MAX_S ||
		    c->environment.count > RULES_ENVIRONMENT_MAX)
			abort();
		/* What was read can always be filled in. */
		for (size_t k = 0; k < c->argv.count; k++) {
			CLEANUP(buf_done)
			struct buf out = BUF_INIT(1024 * 1024);

			if (rule_argument(c->argv.items[k], &words, &out) < 0)
				abort();
		}
	}
	rules_done(&r);
	return 0;
}
