/* Any bytes as a journal file: a scan ends, stays inside, and finds what was appended behind them. */
#include "agent/store/journal.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t record[] = { 'S', 'R', 'J', '1', 0, 0, 0, 1, 0, 0, 0, 0, 'x' };
	struct journal_scan scan, again;
	uint8_t *more;
	uint32_t crc;

	journal_scan(data, size, &scan);
	expect(scan.end <= size);
	expect((scan.last == NULL) == (scan.last_len == 0));
	if (scan.last) {
		expect(scan.last >= data + 12 && scan.last + scan.last_len == data + scan.end);
		/* Cut behind its last record it says the same. */
		journal_scan(data, scan.end, &again);
		expect(again.last == scan.last && again.last_len == scan.last_len && again.end == scan.end);
	}
	/* Behind damage nothing is ever appended: the journal starts a new file then. */
	if (scan.damaged)
		return 0;
	/* A whole record behind any whole record is found. */
	more = malloc(scan.end + sizeof(record));
	if (!more)
		return 0;
	if (scan.end > 0)
		memcpy(more, data, scan.end);
	memcpy(more + scan.end, record, sizeof(record));
	crc = journal_crc(journal_crc(0, record + 4, 4), "x", 1);
	for (int i = 0; i < 4; i++)
		more[scan.end + 8 + (size_t) i] = (uint8_t) (crc >> (24 - 8 * i));
	journal_scan(more, scan.end + sizeof(record), &again);
	expect(again.last_len == 1 && *again.last == 'x' && again.end == scan.end + sizeof(record));
	free(more);
	return 0;
}
