/*
 * room - is there space for all that an update takes until it is judged.
 */
#ifndef SELFRIGHT_PHASE_ROOM_H
#define SELFRIGHT_PHASE_ROOM_H

#include "base/attr.h"

struct node;

/*
 * Downloads, trees and the copy of the data of all parts, whose releases were read, against the file system and the
 * quota; what is staged is there already. Where room is short, old copies of data make some (data_give_up). What
 * has no room is said with update_fail.
 */
NODISCARD int room_check(struct node *n);

/* The same of the copy alone, right before it is made: what was free when the update was planned may not be now. */
NODISCARD int room_check_copy(struct node *n);

#endif
