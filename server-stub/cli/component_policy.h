/*
 * component_policy - `selfright component policy`, in a file of its own.
 */
#ifndef SELFRIGHT_CLI_COMPONENT_POLICY_H
#define SELFRIGHT_CLI_COMPONENT_POLICY_H

int component_policy(int argc, char **argv);

#endif
