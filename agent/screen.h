/*
 * screen - the agent's status for the person at the console, in one screenful.
 */
#ifndef SELFRIGHT_AGENT_SCREEN_H
#define SELFRIGHT_AGENT_SCREEN_H

#include <stdbool.h>
#include <stdio.h>

struct json;

struct screen {
	FILE *out;
	unsigned columns, rows; /* rows 0: as many as it takes */
	bool colours;
};

/* Of standard output: its size where it is a terminal, else no limits, and no colours. */
struct screen screen_of_stdout(void);

/*
 * Print the answer to "status". Lines are cut to the width; where it would not fit, components
 * in good order lose their details first, then the last ones their lines, and the end says so.
 */
void screen_status(const struct screen *s, const struct json *status);

#endif
