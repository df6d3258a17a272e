/*
 * protocol - the frames between engine and link (os/frame.h), over a socketpair.
 *
 * The link is not trusted: all it brings are bytes that the engine verifies. All
 * integers are big-endian.
 */
#ifndef SELFRIGHT_AGENT_LINK_PROTOCOL_H
#define SELFRIGHT_AGENT_LINK_PROTOCOL_H

enum { LINK_FRAME_MAX = 12 * 1024 * 1024, LINK_FD = 3 };

enum link_frame {
	/* engine -> link */
	LINK_FETCH = 1, /* u64 max, then the repository file name; answered by LINK_FETCHED with the same id */
	LINK_REPORT = 2, /* u64 sequence, then the signed report: kept in outbox/report until LINK_ACKED */
	LINK_EVENT = 3, /* an event's JSON: queued with a cap */
	LINK_LEASE = 4, /* a signed lease request: sent now or not at all */
	LINK_ACKED = 5, /* u64 sequence: the controller's ack up to here is verified; delete */
	LINK_SAVE =
		13, /* u64 length, then the name: over MQTT into blobs/<sha256>.part of the outbox; LINK_SAVED */
	LINK_STOP_SAVING = 14, /* empty: nobody wants it any more; what is there stays */
	LINK_PUT =
		9, /* u64 length, SHA-256 in hex, the order's id with its 0 byte, the signed statement: a collection to send */
	LINK_PUT_BLOCK = 10, /* u64 index, then the block that LINK_PUT_WANT of the same id asked for */
	LINK_PUT_STOP = 11, /* empty: nobody wants it any more, or the receipt is verified */
	LINK_RATE = 15, /* u64 bytes per second, 0: none: the ceiling of LINK_SAVE from now on */
	LINK_PUT_RATE = 26, /* the same of LINK_PUT, what goes out */
	LINK_FLOOR = 12, /* u64 seconds since 1970: it is not earlier than that (certificates are judged by it) */
	LINK_ENROL =
		8, /* a signed request for a certificate: sent now or not at all; LINK_ENROLLED with the same id */
	LINK_TRY =
		29, /* the name of an artifact, or empty: try the connection to the broker (link/trial.h); LINK_TRIED */
	LINK_DOUBT =
		30, /* empty: what was fetched last led nowhere; its road is asked after the others for a while */
	LINK_RETRY = 6, /* empty: connect now instead of waiting */
	LINK_LEAVE = 7, /* empty: another agent follows at once; say so, and leave without will */
	/* link -> engine */
	LINK_FETCHED = 16, /* i32 error (0 or negative, of err.h), then the bytes, or the reason in words */
	LINK_ANNOUNCE = 17, /* the announcement's JSON, already expanded (at most 1 MiB) */
	LINK_TIMESTAMP = 18, /* bytes of a timestamp.json */
	LINK_ACK = 19, /* a signed ack */
	LINK_GRANT = 20, /* a signed grant */
	LINK_SAVED = 22, /* u8 over, i32 error (0 or negative), u64 bytes that are here; the id of LINK_SAVE */
	LINK_ENROLLED = 23, /* u16 HTTP status (0: no answer), then the answer, or the reason in words */
	LINK_PUT_WANT = 24, /* u64 index of a block; the id of LINK_PUT */
	LINK_RECEIPT = 25, /* a signed receipt of a collection */
	LINK_MISSED = 27, /* empty: more was announced than this process could hand over; ask what is new */
	LINK_TRIED = 28, /* JSON: how the connection is, and what became of each file; the id of LINK_TRY */
	/* u8 0 not connected, 1 connected, 2 our own certificate was refused; then the reason in words: display, and the start
	 * of a reconciliation */
	LINK_STATE = 21,
};

#endif
