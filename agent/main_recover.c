/*
 * selfright-recover - at boot, before the managed services: a complete version is current.
 *
 * Small, package-owned, never updated by itself; needs neither network nor agent.
 */
#include "agent/store/recover.h"
#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_FELL_BACK = 3 };

static const char help[] =
	"usage: selfright-recover [--root DIR] [--boot-id ID] [--dry-run] [--if-present]\n"
	"\n"
	"Run at boot before the services whose versions Selfright manages. Finishes an\n"
	"interrupted rollback, counts the boots within a probation and falls back when\n"
	"there were too many, and makes sure that a complete generation is current.\n"
	"\n"
	"  --root DIR     the node's folder (default /var/lib/selfright)\n"
	"  --boot-id ID   the name of this boot (default: the kernel's); one is counted once\n"
	"  --dry-run      say what would be done, change nothing\n"
	"  --if-present   a folder that does not exist is a node before its first start, no error\n"
	"  --help         this text\n"
	"  --version      the version\n"
	"\n"
	"exit status: 0 nothing to do, 3 fell back, 1 error, 2 usage\n"
	"\n"
	"example:\n"
	"  selfright-recover --root /var/lib/selfright --dry-run\n";

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' },
		{ "boot-id", required_argument, NULL, 'b' },
		{ "dry-run", no_argument, NULL, 'n' },
		{ "if-present", no_argument, NULL, 'i' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	struct recover_options o = { .root = "/var/lib/selfright" };
	struct recover_result result;
	bool if_present = false;
	char boot_id[37];
	int c, r;

	log_set_program("selfright-recover");
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'r':
			o.root = optarg;
			break;
		case 'b':
			o.boot_id = optarg;
			break;
		case 'n':
			o.dry_run = true;
			break;
		case 'i':
			if_present = true;
			break;
		case 'h':
			return fputs(help, stdout) < 0 ? 1 : 0;
		case 'v':
			return puts("selfright-recover " SELFRIGHT_VERSION) < 0 ? 1 : 0;
		default:
			(void) fputs("try: selfright-recover --help\n", stderr);
			return 2;
		}
	}
	if (optind != argc || (o.boot_id && (!*o.boot_id || strlen(o.boot_id) >= sizeof(boot_id)))) {
		(void) fputs(help, stderr);
		return 2;
	}
	if (access(o.root, F_OK) < 0 && errno == ENOENT) {
		if (if_present)
			return printf("nothing to do: %s does not exist yet\n", o.root) < 0 ? 1 : 0;
		log_error("recover-failed", "%s does not exist (--root names another folder)", o.root);
		return 1;
	}
	if (!o.boot_id) {
		r = recover_boot_id(&os_posix, boot_id);
		if (r < 0) {
			log_error("recover-failed", "the kernel's boot id cannot be read: %s", err_text(r));
			return 1;
		}
		o.boot_id = boot_id;
	}
	r = recover_run(&os_posix, &o, &result);
	if (r < 0) {
		log_error("recover-failed", "%s", result.sentence);
		return 1;
	}
	(void) printf("%s%s\n", o.dry_run ? "would be done: " : "", result.sentence);
	if (result.outcome == RECOVER_FELL_BACK)
		log_notice("recover-fell-back", "%s", result.sentence);
	return result.outcome == RECOVER_FELL_BACK ? EXIT_FELL_BACK : 0;
}
