/*
 * attr - the few compiler attributes and macros every file may use.
 */
#ifndef SELFRIGHT_BASE_ATTR_H
#define SELFRIGHT_BASE_ATTR_H

#define NODISCARD __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* Release a local when it goes out of scope: CLEANUP(buf_done) struct buf b = BUF_INIT(max); */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Define x_freep(T **), for CLEANUP on a pointer, from x_free(T *). */
#define DEFINE_FREEP(type, fn)                                                                                    \
	static inline void fn##p(type *p)                                                                         \
	{                                                                                                         \
		fn(*p);                                                                                           \
	}

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
