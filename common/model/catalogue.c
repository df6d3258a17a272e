#include "model/catalogue.h"

#include "base/attr.h"
#include "base/err.h"

#include <errno.h>

static const char *const class_names[] = { [CLASS_NONE] = "none",
					   [CLASS_RELEASE] = "release",
					   [CLASS_NODE] = "node",
					   [CLASS_NETWORK] = "network",
					   [CLASS_REJECTED] = "rejected" };

static const struct catalogue_row rows[] = {
#define CATALOGUE_ROW_(number, id, name, class, sentence, advice)                                                 \
	{ number, name, CLASS_##class, sentence, advice },
	CATALOGUE(CATALOGUE_ROW_)
#undef CATALOGUE_ROW_
};

const char *result_class_name(enum result_class c)
{
	return (unsigned) c < ARRAY_LEN(class_names) ? class_names[c] : "unknown";
}

const struct catalogue_row *catalogue_at(size_t index)
{
	return index < ARRAY_LEN(rows) ? &rows[index] : NULL;
}

const struct catalogue_row *catalogue_find(int number)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].number == number)
			return &rows[i];
	return NULL;
}

/* What each of our own errors means for an update when the phase knows nothing better. */
static const enum result of_error[ERR_END_ - ERR_BASE_ - 1] = {
#define ERROR_(name) [ERR_##name - ERR_BASE_ - 1]
	ERROR_(SYNTAX) = RESULT_MALFORMED,
	ERROR_(DUPLICATE_NAME) = RESULT_MALFORMED,
	ERROR_(NUMBER) = RESULT_MALFORMED,
	ERROR_(ENCODING) = RESULT_MALFORMED,
	ERROR_(TOO_LARGE) = RESULT_MALFORMED,
	ERROR_(TOO_DEEP) = RESULT_MALFORMED,
	ERROR_(TRAILING) = RESULT_MALFORMED,
	ERROR_(FIELD_MISSING) = RESULT_MALFORMED,
	ERROR_(FIELD_TYPE) = RESULT_MALFORMED,
	ERROR_(FIELD_VALUE) = RESULT_MALFORMED,
	ERROR_(NAME) = RESULT_MALFORMED,
	ERROR_(KEY) = RESULT_SIGNATURE_INVALID,
	ERROR_(KEYID) = RESULT_SIGNATURE_INVALID,
	ERROR_(PASSPHRASE) = RESULT_INTERNAL,
	ERROR_(SIGNATURE) = RESULT_SIGNATURE_INVALID,
	ERROR_(THRESHOLD) = RESULT_SIGNATURE_INVALID,
	ERROR_(VERSION) = RESULT_METADATA_REJECTED,
	ERROR_(ROLLBACK) = RESULT_METADATA_REJECTED,
	ERROR_(EXPIRED) = RESULT_METADATA_STALE,
	ERROR_(CLOCK_AHEAD) = RESULT_CLOCK_AHEAD,
	ERROR_(SPEC_VERSION) = RESULT_AGENT_TOO_OLD,
	ERROR_(LENGTH) = RESULT_ARTIFACT_LENGTH,
	ERROR_(DIGEST) = RESULT_ARTIFACT_DIGEST,
	ERROR_(NOT_LISTED) = RESULT_METADATA_REJECTED,
	ERROR_(UNTRUSTED) = RESULT_SIGNATURE_INVALID,
	ERROR_(DISAGREE) = RESULT_DISAGREEMENT,
	ERROR_(AGENT_TOO_OLD) = RESULT_AGENT_TOO_OLD,
	ERROR_(NETWORK) = RESULT_DOWNLOAD_FAILED,
	ERROR_(HTTP_STATUS) = RESULT_DOWNLOAD_FAILED,
	ERROR_(TLS) = RESULT_DOWNLOAD_FAILED,
	ERROR_(DEADLINE) = RESULT_DOWNLOAD_FAILED,
	ERROR_(PEER_GONE) = RESULT_OUT_OF_RESOURCES,
	ERROR_(PROTOCOL) = RESULT_INTERNAL,
	ERROR_(REFUSED) = RESULT_NOT_ALLOWED,
	ERROR_(ARCHIVE) = RESULT_ARCHIVE_REFUSED,
	ERROR_(ARCHIVE_ENTRY) = RESULT_ARCHIVE_REFUSED,
	ERROR_(TREE) = RESULT_TREE_MISMATCH,
	ERROR_(JOURNAL) = RESULT_IO_ERROR,
	ERROR_(CONFIG) = RESULT_NOT_ALLOWED,
	ERROR_(CHILD) = RESULT_OUT_OF_RESOURCES,
	ERROR_(UNIT) = RESULT_SERVICE_MANAGER,
	ERROR_(DATABASE) = RESULT_IO_ERROR,
	ERROR_(STALE_STATE) = RESULT_METADATA_STALE,
	ERROR_(RATE) = RESULT_DOWNLOAD_FAILED,
#undef ERROR_
};

static enum result of_errno(int e)
{
	switch (e) {
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return RESULT_NO_SPACE;
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case EAGAIN:
	case EINTR:
	case ENOBUFS:
		return RESULT_OUT_OF_RESOURCES;
	case ECONNREFUSED:
	case ECONNRESET:
	case ECONNABORTED:
	case ENETUNREACH:
	case ENETDOWN:
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ETIMEDOUT:
		return RESULT_DOWNLOAD_FAILED;
	case EIO:
	case EROFS:
	case EACCES:
	case EPERM:
	case ENOENT:
	case ENOTDIR:
	case EISDIR:
	case EEXIST:
	case ENOTEMPTY:
	case EXDEV:
	case ELOOP:
	case ENAMETOOLONG:
	case EMLINK:
	case ENODEV:
	case ENXIO:
	case EBUSY:
	case ETXTBSY:
	case ESTALE:
	case EUCLEAN:
		return RESULT_IO_ERROR;
	default:
		return RESULT_INTERNAL;
	}
}

enum result catalogue_from_error(int r)
{
	int e = r < 0 ? -r : r;

	if (e > ERR_BASE_ && e < ERR_END_)
		return of_error[e - ERR_BASE_ - 1] != 0 ? of_error[e - ERR_BASE_ - 1] : RESULT_INTERNAL;
	return of_errno(e);
}

enum result catalogue_blame(enum result number, int r)
{
	switch (r < 0 ? -r : r) {
	case ENOSPC:
	case EDQUOT:
	case EIO:
	case EROFS:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case EAGAIN:
	case EINTR:
		return catalogue_from_error(r);
	default:
		return number;
	}
}
