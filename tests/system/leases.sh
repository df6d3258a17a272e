#!/usr/bin/env bash
# Disruption limits with the real programs: who is down by leave, who waits for it and says so, and what frees a place.
set -u
# shellcheck source=tests/system/fleet_lib.bash
. "$(dirname "$0")/fleet_lib.bash"

place_of() { selfright node show "$1" --json | holds --arg r "$2" '.place.rollout == $r'; }
no_place() { selfright node show "$1" --json | holds '.place == null'; }
in_state() { selfright node show "$1" --json | holds --arg s "$2" '.under_way.state == $s'; }
says_why() { agent "$1" why --json | holds --arg t "$2" '[.components[] | (.detail // .why_detail // "") | select(contains($t))] | length > 0'; }
# The events, in the order in which they came.
granted_in_turn() {
	api 'http://x/v1/events?after=0&limit=1000' | holds '[.events[] | select(.node != "n3" and (.kind == "granted" or .kind == "good" and .text != "1.0.0 is good (was nothing)"))
		| .kind + " " + .node] | (.[0:4] == ["granted n1","good n1","granted n2","good n2"] or .[0:4] == ["granted n2","good n2","granted n1","good n1"])'
}

check "a fleet's folder" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "the controller" start_serve
make_component web
check "a component" selfright component add web --team web
check "an HA pair and a third" eval 'add_node n1 --label pair=a && add_node n2 --label pair=a && add_node n3 --label pair=b'
for v in 1.0.0 1.1.0; do check "web $v" publish web $v; done
check "1.0.0 everywhere, without a limit" selfright rollout start --id first --component web --version 1.0.0 --stage all=all
check "it is done" within 30 rollout_is first done

check "1.1.0, one of a pair at a time" selfright rollout start --id second --component web --version 1.1.0 --stage all=all \
	--disruption pair=1
check "everybody gets there" within 60 rollout_is second done
check "the pair one after the other, the second only when the first was good" granted_in_turn
check "no place is left" eval 'no_place n1 && no_place n2 && no_place n3'

# --- a node that dies in the middle ---
make_proof_wait web
check "web 1.3.0 is proved when the test says so" publish web 1.3.0
hold_proof n1 web 1.3.0
check "n2 is away" stop_agent n2
check "1.3.0 to n1 first, one of a pair at a time" selfright rollout start --id third --component web --version 1.3.0 \
	--stage one=nodes:n1 --stage rest=all --disruption pair=1 --silent-after 1h
check "n2 was heard of lately: n1 may go" within 30 in_state n1 probation
check "it is down by leave" place_of n1 third
signed_state() { [ "$(sqlite3 "$SELFRIGHT_DIR/serve/selfright.db" "SELECT signed_state FROM nodes WHERE node = '$1'")" = "$2" ]; }
check "and its own report says so before it dies" within 3 signed_state n1 probation
eval "kill -KILL \$agent_n1"
stop_serve
check "the controller starts again" start_serve
check "and knows it" place_of n1 third
check "it is said on the node's page" says 0 "may be down by leave since" selfright node show n1
check "the next stage is opened by hand for the test: support says so on both" eval '
	selfright rollout cancel third --reason x >/dev/null &&
	selfright rollout start --id fourth --component web --version 1.3.0 --stage all=nodes:n2,n3 --disruption pair=1 >/dev/null'
start_agent n2
check "n2 waits for a place" within 30 waits_for n2 lease
check "and says for whom" within 10 says_why n2 "n1 is being updated"
check "n3, of another group, does not" within 30 runs n3 web 1.3.0
check "and is good" within 30 no_place n3
check "nobody frees what is not held" says 3 "holds no place" selfright node release-lease n3 --reason x
check "a place is not freed without a reason" says 2 "reason" selfright node release-lease n1
check "a person who has seen n1 frees its place" selfright node release-lease n1 --reason "it is up, ticket 4711"
check "which is in the audit trail" eval "api http://x/v1/audit | holds '[.entries[] | select(.action == \"release-lease\")] | length == 1'"
check "n1 is in the middle as its last report says: n2 still waits" within 30 says_why n2 "n1 is in the middle"
give_proof n1 web 1.3.0
start_agent n1
check "n1 is back and says how it ended" within 30 no_place n1
check "then n2 goes" within 60 rollout_is fourth done

# --- by HTTPS, without a broker ---
check "web 1.4.0" publish web 1.4.0
# Its agent speaks HTTPS only where its configuration names no broker.
without_broker() {
	stop_agent n3
	python3 - "$tmp/nodes/n3/etc/agent.yaml" <<'PY'
import sys
lines, out, skip = open(sys.argv[1]).read().split("\n"), [], False
for line in lines:
	skip = line.startswith("broker:") or (skip and line.startswith((" ", "\t")))
	if not skip:
		out.append(line)
open(sys.argv[1], "w").write("\n".join(out))
PY
	! grep -q broker "$tmp/nodes/n3/etc/agent.yaml" && echo "poll: {without_broker: 1s}" >>"$tmp/nodes/n3/etc/agent.yaml" && start_agent n3
}
check "n3 without a broker" without_broker
check "a limit for it" selfright rollout start --id fifth --component web --version 1.4.0 --stage all=nodes:n3 --disruption pair=1
check "it asks and is answered by HTTPS" within 60 runs n3 web 1.4.0
check "and gives its place back" within 30 no_place n3
ended
