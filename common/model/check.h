/*
 * check - the checks of a release document: reading, writing, releasing one. For
 * release.c; what a check means is agent/probe's.
 */
#ifndef SELFRIGHT_MODEL_CHECK_H
#define SELFRIGHT_MODEL_CHECK_H

#include "model/field.h"
#include "model/release.h"

struct json_node;

void check_parse(struct fields *f, struct release_check *ret);
void check_done(struct release_check *c);
void check_write(const struct release_check *c, struct json_node *o);

/* --- of release.c, for commands and units inside of checks --- */
extern const struct text_rule rule_unit;
void command_fields_parse(struct fields *c, bool required, struct release_command *ret);
void command_fields_write(struct json_node *o, const struct release_command *c);
void release_command_done(struct release_command *c);

#endif
