/*
 * internal - one request, shared by the files of this folder only.
 */
#ifndef SELFRIGHT_WEB_INTERNAL_H
#define SELFRIGHT_WEB_INTERNAL_H

#include "base/buf.h"
#include "server-stub/web/upload.h"
#include "server-stub/web/web.h"

struct MHD_Connection;
struct MHD_Response;

struct web_request {
	struct web *web;
	struct MHD_Connection *mhd;
	enum web_origin origin;
	const struct web_route *route;
	char *args[WEB_ARGS_MAX];
	size_t arg_count;
	struct buf body;
	struct upload upload;
	uint64_t received;
	int failed; /* negative: the body cannot be taken */
	bool head, body_done, replied, refused, suspend;
	uint64_t wait_until_ms;
	void *note;
	void (*note_done)(void *note);
	struct web_request *next_waiting;
};

/* Queue the response and release it; NULL (out of memory) cuts the connection. */
void web_send(struct web_request *rq, unsigned status, struct MHD_Response *response);

#endif
