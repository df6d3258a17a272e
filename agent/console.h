/*
 * console - what the agent answers on its local socket.
 */
#ifndef SELFRIGHT_AGENT_CONSOLE_H
#define SELFRIGHT_AGENT_CONSOLE_H

#include <stdbool.h>

struct buf;
struct control_peer;
struct json;

/* Does the command change something? An unknown one does: it is refused all the same. */
bool console_changes(const char *command);

/* A control_handler; `user` is the struct node. */
void console_answer(void *user, const struct control_peer *peer, const struct json *request, struct buf *answer);

#endif
