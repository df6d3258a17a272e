#!/usr/bin/env bash
# The controller was away for two hours in the middle of a rollout: what nobody listened to is neither silence nor soak.
set -u
# shellcheck source=tests/system/fleet_lib.bash
. "$(dirname "$0")/fleet_lib.bash"

# It does not run, and everything it knows is two hours older when it runs again.
was_away() {
	stop_serve
	python3 - "$SELFRIGHT_DIR/serve/selfright.db" <<'END' || return 1
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
for table, column in (("nodes", "reported_at"), ("nodes", "added_at"), ("results", "received_at"), ("rollouts", "state_at"),
                      ("stages", "opened_at")):
    db.execute(f"UPDATE {table} SET {column} = {column} - 7200 WHERE {column} > 7200")
db.commit()
END
	start_serve
}
says_why() { selfright rollout show "$1" --json | holds --arg t "$2" '.why | contains($t)'; }
is_open() { selfright rollout show "$1" --json | holds --arg s "$2" '.stages[] | select(.name == $s) | .open'; }
member_is() { selfright rollout show second --json | holds --arg n "$1" --arg s "$2" '.stages[].nodes[] | select(.node == $n).state == $s'; }
node_is() { selfright node show n1 --json | holds --arg s "$1" '.under_way.state == $s'; }

check "a fleet's folder" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "the controller" start_serve
make_component web
check "a component" selfright component add web --team web
check "web 1.0.0" publish web 1.0.0
sed -i "s|^probation:.*|probation: 10s|" web/component.yaml
check "web 1.1.0, with a probation to stop in" publish web 1.1.0
check "two nodes" eval "add_node n1 && add_node n2"
check "web 1.0.0 is everywhere" selfright rollout start --id first --component web --version 1.0.0 --stage all=all
check "and good" within 60 rollout_is first done

# --- in the middle of an update ---
check "n1 takes 1.1.0" selfright rollout start --id second --component web --version 1.1.0 --stage canary=nodes:n1,soak:1h --stage rest=all
check "and is in probation" within 60 node_is probation
# Its connection is cut as well, so that nothing it says can hide what is asked here.
kill -STOP "$agent_n1"
check "the controller comes back" was_away
check "it did not halt for a node that nobody could hear" rollout_is second running
check "which is under way as it was" member_is n1 under-way
kill -CONT "$agent_n1"
check "it goes on, and is good" within 60 member_is n1 good
check "no stage opens before its soak" not is_open second rest

# --- in the middle of a soak ---
check "the controller comes back when the soak would be over" was_away
check "hours in which nobody listened are no soak" says_why second "listens again"
check "so the next stage stays closed" not is_open second rest
check "and the rollout runs" rollout_is second running
ended
