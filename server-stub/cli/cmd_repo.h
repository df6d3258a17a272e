/*
 * cmd_repo - the larger ones of `selfright repo`, each in a file of its own.
 */
#ifndef SELFRIGHT_CLI_CMD_REPO_H
#define SELFRIGHT_CLI_CMD_REPO_H

int cmd_repo_init(int argc, char **argv);
int cmd_repo_rotate(int argc, char **argv);
int cmd_repo_approvers(int argc, char **argv);
int cmd_repo_recover(int argc, char **argv);

#endif
