/*
 * cmd_rollout - the commands of `selfright rollout`, by file.
 */
#ifndef SELFRIGHT_CLI_CMD_ROLLOUT_H
#define SELFRIGHT_CLI_CMD_ROLLOUT_H

struct cli;
struct json;

/* --- rollout_start.c --- */
int cmd_rollout_plan(int argc, char **argv);
int cmd_rollout_start(int argc, char **argv);

/* --- rollout_show.c --- */
int cmd_rollout_show(int argc, char **argv);
int cmd_rollout_list(int argc, char **argv);
int cmd_rollout_explain(int argc, char **argv);
/* The stages of an answer about one rollout, each with its nodes. */
void rollout_say_stages(const struct cli *c, const struct json *answer);

#endif
