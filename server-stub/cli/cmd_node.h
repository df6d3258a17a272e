/*
 * cmd_node - the larger ones of `selfright node`, each in a file of its own.
 */
#ifndef SELFRIGHT_CLI_CMD_NODE_H
#define SELFRIGHT_CLI_CMD_NODE_H

int cmd_node_collect(int argc, char **argv);
int cmd_node_report(int argc, char **argv);

#endif
