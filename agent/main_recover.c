/*
 * selfright-recover - at boot, before the managed services: a complete version is current;
 * and with --start the parent of the agent, which starts the one that works.
 *
 * Small, package-owned, never updated by itself; needs neither network nor agent.
 */
#include "agent/store/recover.h"
#include "agent/store/supervise.h"
#include "base/err.h"
#include "base/log.h"
#include "base/program.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef SELFRIGHT_BINDIR
#define SELFRIGHT_BINDIR "/usr/bin"
#endif

enum { EXIT_FELL_BACK = 3, BUSY_TRIES = 50, BUSY_PAUSE_MS = 100 };

static const char help[] =
	"usage: selfright-recover [--root DIR] [--boot-id ID] [--dry-run] [--if-present]\n"
	"       selfright-recover --start [--root DIR] [--agent PROGRAM] [--config-dir DIR]\n"
	"\n"
	"Run at boot before the services whose versions Selfright manages. Finishes an\n"
	"interrupted rollback, counts the boots within a probation and falls back when\n"
	"there were too many, and makes sure that a complete generation is current.\n"
	"With --start it does the same, then runs the agent and stays its parent: the newest\n"
	"one that works, packaged or from the store, so that the agent can update itself.\n"
	"\n"
	"  --root DIR     the node's folder (default /var/lib/selfright)\n"
	"  --boot-id ID   the name of this boot (default: the kernel's); one is counted once\n"
	"  --dry-run      say what would be done, change nothing\n"
	"  --if-present   a folder that does not exist is a node before its first start, no error\n"
	"  --start        recover, then run the agent until SIGTERM\n"
	"  --agent PROGRAM   the packaged agent (default " SELFRIGHT_BINDIR "/selfright-agent)\n"
	"  --config-dir DIR  handed on to it (default /etc/selfright)\n"
	"  --help         this text\n"
	"  --version      the version\n"
	"\n"
	"exit status: 0 nothing to do, 3 fell back, 1 error, 2 usage\n"
	"\n"
	"example:\n"
	"  selfright-recover --root /var/lib/selfright --dry-run\n";

/*
 * 0: nothing was to be done, 1: it fell back; negative with the sentence logged. The agent of a
 * supervisor that was killed a moment ago dies with it, but not at once: `tries`.
 */
static int recover(const struct recover_options *o, unsigned tries)
{
	static const struct timespec pause = { .tv_nsec = BUSY_PAUSE_MS * 1000000L };
	struct recover_result result;
	int r = recover_run(&os_posix, o, &result);

	for (; r == -EBUSY && tries > 0; tries--) {
		(void) nanosleep(&pause, NULL); /* cut short it is only tried sooner */
		r = recover_run(&os_posix, o, &result);
	}
	if (r < 0) {
		log_error("recover-failed", "%s", result.sentence);
		return r;
	}
	(void) printf("%s%s\n", o->dry_run ? "would be done: " : "", result.sentence);
	(void) fflush(stdout); /* what is lost is lost: the log has what matters */
	if (result.outcome == RECOVER_FELL_BACK)
		log_notice("recover-fell-back", "%s", result.sentence);
	return result.outcome == RECOVER_FELL_BACK;
}

static int start(const struct recover_options *o, const struct supervise_options *s)
{
	if (s->root[0] != '/' || s->agent[0] != '/' || s->config_dir[0] != '/') {
		(void) fputs("selfright-recover: --start takes absolute paths\n", stderr);
		return 2;
	}
	/* Whatever it finds: an agent that runs can still be told what to do. */
	if (access(o->root, F_OK) == 0)
		(void) !recover(o, BUSY_TRIES);
	return supervise(&os_posix, s) < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' },
		{ "boot-id", required_argument, NULL, 'b' },
		{ "dry-run", no_argument, NULL, 'n' },
		{ "if-present", no_argument, NULL, 'i' },
		{ "start", no_argument, NULL, 's' },
		{ "agent", required_argument, NULL, 'a' },
		{ "config-dir", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	struct recover_options o = { .root = "/var/lib/selfright" };
	struct supervise_options s = { .agent = SELFRIGHT_BINDIR "/selfright-agent",
				       .version = program_version,
				       .config_dir = "/etc/selfright" };
	bool if_present = false, run = false;
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
		case 's':
			run = true;
			break;
		case 'a':
			s.agent = optarg;
			break;
		case 'c':
			s.config_dir = optarg;
			break;
		case 'h':
			return fputs(help, stdout) < 0 ? 1 : 0;
		case 'v':
			return printf("selfright-recover %s\n", program_version) < 0 ? 1 : 0;
		default:
			(void) fputs("try: selfright-recover --help\n", stderr);
			return 2;
		}
	}
	if (optind != argc || (o.boot_id && (!*o.boot_id || strlen(o.boot_id) >= sizeof(boot_id)))) {
		(void) fputs(help, stderr);
		return 2;
	}
	if (run && o.dry_run) {
		(void) fputs("selfright-recover: --start and --dry-run exclude each other\n", stderr);
		return 2;
	}
	if (!run && access(o.root, F_OK) < 0 && errno == ENOENT) {
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
	s.root = o.root;
	if (run)
		return start(&o, &s);
	r = recover(&o, 0);
	return r < 0 ? 1 : r > 0 ? EXIT_FELL_BACK : 0;
}
