#!/usr/bin/env bash
# The simulator as a command: its help, its figures, and that it says what is wrong with its options.
set -u
sim=$1/tests/fleet-sim
fail() { echo "FAILED: $*"; exit 1; }

"$sim" --help | grep -q '^usage: fleet-sim year' || fail "--help"
"$sim" year --nodes 12 >/dev/null 2>&1 && fail "twelve nodes are too few for the plans, and it took them"
"$sim" fortnight >/dev/null 2>&1 && fail "an unknown mode"
figures=$("$sim" year --nodes 60 --weeks 4 --seeds 2 --json --quiet) || fail "a short run"
jq -e '.staged.crashing.releases == 2 and .percentage.crashing.releases == 2 and .staged.fine_releases == 6
	and .staged.decisions > 1000' <<<"$figures" >/dev/null || fail "figures: $figures"

# Against a real controller and broker, small: everything is acknowledged, and opening a stage costs one small
# publication whatever the number of nodes (the figures of many: tests/bench/README.md).
live=$(REST=1 "$(dirname "$0")/../bench/scale" "$1" 60 6 --json) || fail "a live run"
jq -e '.nodes == 60 and .reports_per_s > 0 and .stage_ms > 0 and .halt_ms > 0 and .controller.rest_kb > 0
	and .document_bytes > 100 and .document_bytes < 1000 and .announcement_bytes < 4096' <<<"$live" >/dev/null ||
	fail "live figures: $live"
echo ok
