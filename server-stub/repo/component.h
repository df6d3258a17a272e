/*
 * component - component.yaml beside a component's tree, and the release document made of both.
 *
 *   component_load -> component_pack (tree -> artifact) -> component_release (-> release.json)
 *
 * The same folder gives the same bytes every time, so that publishing twice changes nothing.
 */
#ifndef SELFRIGHT_REPO_COMPONENT_H
#define SELFRIGHT_REPO_COMPONENT_H

#include "base/attr.h"
#include "base/buf.h"
#include "base/text.h"
#include "conf/conf.h"
#include "os/os.h"

#include <stddef.h>
#include <stdint.h>

struct component;

/* Read FOLDER/component.yaml, every field checked. -ERR_CONFIG (or -ENOENT ...) with the sentence in *e. */
NODISCARD int component_load(const char *folder, struct component **ret, struct conf_error *e);
void component_free(struct component *c);
DEFINE_FREEP(struct component *, component_free)

/* Borrowed until component_free. */
const char *component_name(const struct component *c);
const char *component_team(const struct component *c);

struct artifact {
	uint64_t length;
	uint8_t sha256[SHA256_BYTES];
	uint8_t tree_digest[SHA256_BYTES];
	uint64_t installed_size, files;
};

/* Write the component's tree as an artifact to `out_fd`. A file it may not hold is named in *e. */
NODISCARD int component_pack(const struct os *os, const struct component *c, int level, int out_fd,
			     struct artifact *ret, struct conf_error *e);

/* "<component>/<version>/<component>.tar.zst" and "<component>/<version>/release.json": appended. */
NODISCARD int component_artifact_path(const struct component *c, const char *version, struct buf *ret);
NODISCARD int component_release_path(const struct component *c, const char *version, struct buf *ret);

struct release_words {
	const char *changes, *risk; /* NULL: as in component.yaml */
};

/* The release document, verified by the reader that nodes use; appended. */
NODISCARD int component_release(const struct component *c, const char *version, const struct artifact *a,
				const struct release_words *words, struct buf *ret, struct conf_error *e);

/* A first component.yaml: for a service of the service manager (`unit`), or for nothing yet. Appended. */
NODISCARD int component_template(const char *name, const char *team, const char *unit, struct buf *ret);

#endif
