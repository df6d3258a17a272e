/*
 * difference - what changes when one release takes the place of another: files, sizes, checks, and what is fetched.
 *
 * Lists are bounded, counts are whole.
 */
#ifndef SELFRIGHT_REPO_DIFFERENCE_H
#define SELFRIGHT_REPO_DIFFERENCE_H

#include "base/attr.h"
#include "model/release.h"
#include "tree/tree.h"

#include <stddef.h>
#include <stdint.h>

struct json_node;
struct os;

enum { DIFFERENCE_SHOWN_MAX = 100 /* of each list */ };

struct difference_side {
	const struct release *release;
	const struct tree *tree; /* sorted */
};

/*
 * Into `object`: "files" {added, removed, changed, same: counts; list [{path, change, before, after}]}, "bytes" {before, after,
 * written}, "checks" {added, removed, changed: names}, "download" {full, delta}.
 */
NODISCARD int difference_write(const struct difference_side *before, const struct difference_side *after,
			       struct json_node *object);

/* The listing of a release's full artifact below the published folder at dirfd; it must have the tree digest that was signed (-ERR_DIGEST). -ENOENT. */
NODISCARD int difference_list(const struct os *os, int dirfd, const struct release *r, struct tree *ret);

#endif
