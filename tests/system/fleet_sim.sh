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
echo ok
