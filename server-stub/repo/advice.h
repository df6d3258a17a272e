/*
 * advice - what a release that is valid will still not achieve, for the people who publish it.
 *
 * Warnings, no errors: an agent of another version may do what this version's refuses.
 */
#ifndef SELFRIGHT_REPO_ADVICE_H
#define SELFRIGHT_REPO_ADVICE_H

#include "base/attr.h"
#include "model/release.h"

#include <stddef.h>

/* One sentence each, naming the field, added to `ret`. 0 or -ENOMEM. */
NODISCARD int release_advice(const struct release *r, struct string_list *ret);
/* The same of the document's bytes; what is no release gives its error. */
NODISCARD int release_advice_text(const void *document, size_t len, struct string_list *ret);

#endif
