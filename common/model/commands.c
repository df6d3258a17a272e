#include "model/release.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

struct asking {
	release_command_fn *f;
	void *context;
};

static int ask(const struct asking *a, const struct release_command *c, const char *kind, const char *name)
{
	char what[ID_MAX + 32];

	if (c->argv.count == 0)
		return 0;
	(void) snprintf(what, sizeof(what), "the %s %s", kind, name); /* names are ids */
	return a->f(a->context, c, what);
}

int release_commands(const struct release *r, release_command_fn *f, void *context)
{
	const struct {
		const struct release_command *command;
		const char *name;
	} hooks[] = {
		{ &r->hooks.preflight, "preflight" },	{ &r->hooks.before_swap, "before_swap" },
		{ &r->hooks.after_swap, "after_swap" }, { &r->hooks.after_rollback, "after_rollback" },
		{ &r->hooks.notify, "notify" },
	};
	const struct asking a = { f, context };
	int e = 0;

	for (size_t i = 0; e >= 0 && i < ARRAY_LEN(hooks); i++)
		e = ask(&a, hooks[i].command, "hook", hooks[i].name);
	for (size_t i = 0; e >= 0 && i < r->service_count; i++) {
		e = ask(&a, &r->services[i].start, "service", r->services[i].name);
		if (e >= 0)
			e = ask(&a, &r->services[i].reload, "service", r->services[i].name);
	}
	for (size_t i = 0; e >= 0 && i < r->check_count; i++)
		e = ask(&a, &r->checks[i].exec, "check", r->checks[i].name);
	return e < 0 ? e : 0;
}

const char *release_command_file(const struct release_command *command)
{
	static const char root[] = "${root}/";
	const char *program = command->argv.count > 0 ? command->argv.items[0] : "";

	if (str_starts(program, root))
		program += sizeof(root) - 1;
	else if (program[0] == '/' || !strchr(program, '/'))
		return NULL;
	return strstr(program, "${") ? NULL : program;
}
