#include "base/err.h"

#include <errno.h>
#include <string.h>

struct row {
	const char *name;
	enum err_class class;
	const char *sentence;
};

static const struct row rows[] = {
#define ERR_ROW_(name, class, sentence) { #name, ERR_CLASS_##class, sentence },
	ERR_TABLE(ERR_ROW_)
#undef ERR_ROW_
};

static const struct row *row_of(int r)
{
	int e = r < 0 ? -r : r;

	return e > ERR_BASE_ && e < ERR_END_ ? &rows[e - ERR_BASE_ - 1] : NULL;
}

const char *err_text(int r)
{
	const struct row *row = row_of(r);

	if (row)
		return row->sentence;
	/* glibc 2.32+: reads no locale and shares no buffer, unlike strerror. */
	const char *text = strerrordesc_np(r < 0 ? -r : r);

	return text ? text : "unknown error";
}

const char *err_name(int r)
{
	const struct row *row = row_of(r);

	if (row)
		return row->name;
	const char *name = strerrorname_np(r < 0 ? -r : r);

	return name ? name : "UNKNOWN";
}

enum err_class err_class(int r)
{
	const struct row *row = row_of(r);

	if (row)
		return row->class;
	switch (r < 0 ? -r : r) {
	case ENOSPC:
	case EDQUOT:
	case EAGAIN:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case EINTR:
	case EBUSY:
	case ETIMEDOUT:
	case ECONNREFUSED:
	case ECONNRESET:
	case ENETUNREACH:
	case EHOSTUNREACH:
	case EPIPE:
		return ERR_CLASS_RETRY;
	case EACCES:
	case EPERM:
	case EROFS:
	case EIO:
		return ERR_CLASS_OPERATOR;
	default:
		return ERR_CLASS_PERMANENT;
	}
}
