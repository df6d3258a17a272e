/*
 * reader_0_1_0 JOURNAL - what the first agent finds in a journal, with its own readers.
 *
 * agent/store here is that of 0.1.0 and is never changed: what a newer agent writes before it
 * is good must mean to this one what it means to the newer one (DESIGN.md section 8).
 * Prints "update ID COMPONENT STATE" or "idle", and "component NAME VERSION" for each. Exit
 * 0; 1: it would not start with it.
 */
#include "agent/store/journal.h"
#include "agent/store/state.h"
#include "base/err.h"
#include "os/durable.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	CLEANUP(buf_done)
	struct buf bytes = BUF_INIT(JOURNAL_FILE_MAX);
	struct node_state *s = calloc(1, sizeof(*s));
	struct journal_scan scan;
	int r = argc == 2 && s ? file_read(&os_posix, AT_FDCWD, argv[1], JOURNAL_FILE_MAX, &bytes) : -1;

	if (r < 0) {
		free(s);
		return fprintf(stderr, "reader_0_1_0: the journal cannot be read: %d\n", r) < 0 ? 2 : 1;
	}
	journal_scan(bytes.data, bytes.len, &scan);
	r = scan.last ? state_decode(scan.last, scan.last_len, s) : -ERR_JOURNAL;
	if (r < 0) {
		free(s);
		return fprintf(stderr, "reader_0_1_0: %s\n", err_text(r)) < 0 ? 2 : 1;
	}
	if (state_has_update(s))
		printf("update %s %s %s\n", s->update.id, s->update.component,
		       node_update_state_name(s->update.state));
	else
		printf("idle\n");
	for (size_t i = 0; i < s->component_count; i++)
		printf("component %s %s\n", s->components[i]->name,
		       s->components[i]->version[0] ? s->components[i]->version : "absent");
	state_done(s);
	free(s);
	return 0;
}
