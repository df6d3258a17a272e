/*
 * conf - configuration and plans written by people: YAML, read by libyaml (here only).
 *
 * A tree of maps, lists and scalars that remembers file and line, so that every
 * complaint reads "web.yaml:12: expected a number of seconds, found 'soon'".
 * Anchors, aliases, tags, several documents and duplicate keys are refused. Keys
 * nobody asked for are reported by conf_reject_unknown(): half a policy is worse
 * than none.
 */
#ifndef SELFRIGHT_CONF_CONF_H
#define SELFRIGHT_CONF_CONF_H

#include "base/attr.h"
#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conf_file;
struct conf;

struct conf_error {
	char text[512]; /* file:line: what was expected */
};

/*
 * Parse text (at most 1 MiB, depth 16, 100,000 values); `file` is the name used in
 * errors. -ERR_CONFIG (or -ENOMEM) with *ret_error filled.
 */
NODISCARD int conf_parse(const void *text, size_t len, const char *file, struct conf_file **ret,
			 struct conf_error *ret_error);
/* The same from a path on disk; also -ENOENT and the like, with *ret_error filled. */
NODISCARD int conf_load(const char *path, struct conf_file **ret, struct conf_error *ret_error);
void conf_file_free(struct conf_file *f);
DEFINE_FREEP(struct conf_file *, conf_file_free)

const struct conf *conf_root(const struct conf_file *f); /* a map, possibly empty */

enum conf_kind { CONF_MISSING, CONF_SCALAR, CONF_LIST, CONF_MAP };
enum conf_kind conf_kind(const struct conf *c); /* NULL: CONF_MISSING */
const struct conf *conf_get(const struct conf *map, const char *key); /* marks the key as known; NULL if missing */
size_t conf_count(const struct conf *c);
const struct conf *conf_at(const struct conf *c, size_t i);
const char *conf_key_at(const struct conf *map, size_t i);
const char *conf_text(const struct conf *c); /* NULL unless a scalar */
bool conf_is_quoted(const struct conf *c);
unsigned conf_line(const struct conf *c);

/*
 * Where "checks[0].httpGet.port" is written: the value itself, or the closest one around it that is there. What stands behind
 * the path, as ": must be ...", is not looked at. No key becomes known by it.
 */
const struct conf *conf_nearest(const struct conf *root, const char *path);

/*
 * Typed members of a map. Missing: `otherwise` is returned in *ret where there is
 * one, else it is an error. 0 or -ERR_CONFIG with the sentence in *e.
 */
NODISCARD int conf_need_text(const struct conf *map, const char *key, const char **ret, struct conf_error *e);
NODISCARD int conf_optional_text(const struct conf *map, const char *key, const char *otherwise, const char **ret,
				 struct conf_error *e);
NODISCARD int conf_optional_u64(const struct conf *map, const char *key, uint64_t min, uint64_t max,
				uint64_t otherwise, uint64_t *ret, struct conf_error *e);
NODISCARD int conf_optional_bool(const struct conf *map, const char *key, bool otherwise, bool *ret,
				 struct conf_error *e);
/* "90", "90s", "15m", "24h", "7d" as seconds. */
NODISCARD int conf_optional_seconds(const struct conf *map, const char *key, uint64_t otherwise, uint64_t *ret,
				    struct conf_error *e);
/* "500K", "20M", "1G" (powers of 1024) as bytes. */
NODISCARD int conf_optional_bytes(const struct conf *map, const char *key, uint64_t otherwise, uint64_t *ret,
				  struct conf_error *e);

/* -ERR_CONFIG naming the first key of `map` (not below) that nobody asked for, and the nearest known one if close. */
NODISCARD int conf_reject_unknown(const struct conf *map, struct conf_error *e);

/* Fill *e with "file:line: " and the sentence; returns -ERR_CONFIG. */
int conf_fail(const struct conf *where, struct conf_error *e, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
