/*
 * page - the files of the desk's page, as they stand in web/page, within the program.
 */
#ifndef SELFRIGHT_WEB_PAGE_H
#define SELFRIGHT_WEB_PAGE_H

#include <stddef.h>

struct page_file {
	const char *path; /* as a browser asks for it */
	const char *media;
	const unsigned char *data;
	size_t len;
};

/* Ended by a row without path. */
extern const struct page_file page_files[];

#endif
