/*
 * cmd_node - the commands of `selfright node`, by file.
 */
#ifndef SELFRIGHT_CLI_CMD_NODE_H
#define SELFRIGHT_CLI_CMD_NODE_H

/* --- node_add.c --- */
int cmd_node_add(int argc, char **argv);

/* --- node_show.c --- */
int cmd_node_list(int argc, char **argv);
int cmd_node_show(int argc, char **argv);
int cmd_node_why(int argc, char **argv);

/* --- node_orders.c --- */
int cmd_node_rollback(int argc, char **argv);
int cmd_node_pin(int argc, char **argv);
int cmd_node_hold(int argc, char **argv);
int cmd_node_retry(int argc, char **argv);
int cmd_node_confirm(int argc, char **argv);

/* --- node_collect.c, node_report.c --- */
int cmd_node_collect(int argc, char **argv);
int cmd_node_report(int argc, char **argv);

#endif
