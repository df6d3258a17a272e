/* Prints selfright-results(7) from the tables the programs use, so that page and programs cannot disagree. */
#include "model/catalogue.h"
#include "model/decide.h"

#include <stdio.h>

/* Text as roff takes it literally: a backslash, a hyphen, and what would begin a request. */
static void print_text(const char *s)
{
	if (*s == '.' || *s == '\'')
		(void) fputs("\\&", stdout);
	for (; *s; s++) {
		if (*s == '\\')
			(void) fputs("\\e", stdout);
		else if (*s == '-')
			(void) fputs("\\-", stdout);
		else
			(void) putchar(*s);
	}
}

static void print_line(const char *before, const char *s, const char *after)
{
	(void) fputs(before, stdout);
	print_text(s);
	(void) puts(after);
}

static void print_head(void)
{
	(void) puts(".TH SELFRIGHT\\-RESULTS 7 \"2026-11-21\" \"Selfright " SELFRIGHT_VERSION "\" \"Selfright\"");
	(void) puts(".SH NAME\nselfright\\-results \\- how an update ends, and what it waits for");
	(void) puts(".SH DESCRIPTION");
	(void) puts(
		"Every report of a node carries for each finished update one number of this list.\n"
		"A number never changes its meaning.\n"
		"The class says who can help: the makers of the\n.IR release ,\nwhoever looks after the\n.I node\n"
		"or the\n.IR network ;\n.I rejected\nmeans that something signed was not accepted,\n"
		"and\n.I none\nthat nothing failed.");
}

static void print_results(void)
{
	(void) puts(".SH RESULTS");
	for (size_t i = 0; catalogue_at(i); i++) {
		const struct catalogue_row *row = catalogue_at(i);

		(void) printf(".TP\n.B %d ", row->number);
		print_line("", row->name, "");
		print_line("", row->sentence, ".");
		print_line("Class: ", result_class_name(row->class), ".");
		print_line("What to do: ", row->advice, ".");
	}
}

static void print_reasons(void)
{
	(void) puts(".SH REASONS TO WAIT\nWhat\n.B selfright\\-agent why\nand\n.B selfright node why\n"
		    "answer, and what would change it.");
	for (int r = REASON_NONE + 1; r < REASON_COUNT; r++) {
		print_line(".TP\n.B ", reason_name((enum reason) r), "");
		print_line("", reason_sentence((enum reason) r), ".");
		print_line("What would change it: ", reason_change((enum reason) r), ".");
	}
}

int main(void)
{
	print_head();
	print_results();
	print_reasons();
	(void) puts(".SH SEE ALSO\n.BR selfright (1),\n.BR selfright\\-agent (8)");
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
