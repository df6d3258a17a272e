#!/usr/bin/env bash
# An agent updates itself in a real fleet: controller, signer, broker, link, two keys that sign it. A good one,
# then ones that exit at once, or hang; the supervisor killed in the middle. The service of another
# component runs on through all of it, with the process id it had.
set -u
# shellcheck source=tests/system/fleet_lib.bash
. "$(dirname "$0")/fleet_lib.bash"
source_dir=${SELFRIGHT_SOURCE:?}
later=${1%/}/later

# --- how this test starts its node ---
start_agent() {
	selfright-recover --start --root "$tmp/nodes/$1/root" --agent "$bin/selfright-agent" \
		--config-dir "$tmp/nodes/$1/etc" >>"$tmp/nodes/$1/agent.log" 2>&1 &
	eval "agent_$1=$!"
	pids+=($!)
}
agent_pid() { cat "/proc/$agent_n1/task/$agent_n1/children" 2>/dev/null | tr -d ' '; }
is_version() { agent n1 status --json | holds --arg v "$1" '.agent == $v'; }
fleet_sees() { selfright node show n1 --json | holds --arg v "$1" '.agent == $v and .online'; }
service_pid() { jq .pid nodes/n1/run/services/web.app.json; }
untouched() { [ "$(service_pid)" = "$web_pid" ] && kill -0 "$web_pid"; }
# The end of the agent's update to VERSION, as the controller has it.
outcome() { selfright rollout show "$1" --json | holds --arg s "$2" '[.stages[].nodes[] | select(.node == "n1")][0].result == $s'; }
said_once() { # VERSION NAME: one end in the node's history
	agent n1 history --json | holds --arg v "$1" --arg n "$2" '[.history[] | select(.component == "agent" and .to == $v)] | length == 1 and .[0].name == $n'
}
denies() { agent n1 status --json | holds --arg v "$1" '[.components[] | select(.component == "agent").denied[].version] | index($v)'; }

# A service that only waits: what matters is that it goes on waiting.
mkdir -p web/tree/bin
printf '#!/bin/sh\nexec sleep 100000\n' >web/tree/bin/start
chmod 755 web/tree/bin/start
cat >web/component.yaml <<'YAML'
component: web
team: web
kind: tree
tree: tree
services:
  - {name: app, start: [bin/start]}
checks:
  - {name: there, exec: {command: [/bin/true]}, periodSeconds: 1}
probation: 1s
YAML

check "a fleet" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "its controller" start_serve
check "a component beside the agent" selfright component add web --team web
check "the agent for one key is refused" says 3 "2 keys" selfright component add agent --team agent
check "the agent, for two keys" selfright component add agent --team agent --keys 2 --threshold 2
check "a release of a build" says 0 "next: selfright publish" "$source_dir/packaging/agent-release" agent "$later"
arch=$(sed -n 's/^compatible: {arch: \(.*\)}/\1/p' agent/component.yaml)
sed -i 's/probation: 30s/probation: 1s/; s/watch: 1h/watch: 0/; s/periodSeconds: 5/periodSeconds: 1/' agent/component.yaml
check "a node" add_node n1 --label "arch=$arch"
check "is up" within 20 is_version 0.1.0
echo "handover: 60s" >>nodes/n1/etc/agent.yaml
stop_agent n1
start_agent n1
check "runs the packaged agent" within 20 is_version 0.1.0
check "web 1.0.0" selfright publish web --version 1.0.0
check "is rolled out" selfright rollout start --id web-1 --component web --version 1.0.0 --stage all=all
check "and runs" within 40 runs n1 web 1.0.0
web_pid=$(service_pid)

# --- a good one ---
check "agent 0.2.0 is published" selfright publish agent --version 0.2.0 --changes "a later one"
check "by two keys" holds '.signatures | length == 2' <(cat "$(ls -t fleet/repo/metadata/*.team-agent.json | head -n 1)")
check "and rolled out" selfright rollout start --id agent-2 --component agent --version 0.2.0 --stage all=all
check "the node runs it" within 60 is_version 0.2.0
check "from its store" within 20 runs n1 agent 0.2.0
check "the controller hears of it, from it" within 30 fleet_sees 0.2.0
check "it is good" within 30 outcome agent-2 good
check "said once" within 20 said_once 0.2.0 good
check "the service did not notice" untouched
check "the link left without its will, and the new one is there" grep -q "another agent follows" nodes/n1/agent.log

# --- bad ones ---
wrapped() { # VERSION SCRIPT: programs of 0.2.0, whose agent (agent-real) is another script for everything but its version
	"$source_dir/packaging/agent-release" agent "$later" >/dev/null || return 1
	mv agent/tree/bin/selfright-agent agent/tree/bin/agent-real
	printf '#!/bin/sh\n[ "$1" = --version ] && { echo selfright-agent %s; exit 0; }\n%s\n' "$1" "$2" >agent/tree/bin/selfright-agent
	chmod 755 agent/tree/bin/selfright-agent
}
publish_agent() { selfright publish agent --version "$1" --changes "$2"; }
goes_back() { # WHAT VERSION ID RESULT
	check "one that $1 is published" publish_agent "$2" "it $1"
	selfright rollout start --id "$3" --component agent --version "$2" --stage all=all >/dev/null
	check "it ends as $4" within 90 outcome "$3" "$4"
	check "the old agent runs" within 20 is_version 0.2.0
	check "and is current" runs n1 agent 0.2.0
	check "the bad one is denied" within 20 denies "$2"
	check "it was said once" within 20 said_once "$2" "$4"
	check "the service did not notice" untouched
}
wrapped 0.3.0 'exit 9'
goes_back "exits at once" 0.3.0 agent-3 agent-failed
gives() { # TIME: what a new agent has to confirm that it works
	stop_agent n1
	sed -i "s/^handover: .*/handover: $1/" nodes/n1/etc/agent.yaml
	start_agent n1
	within 20 is_version 0.2.0
}
check "a new agent has less time" gives 4s
wrapped 0.4.0 "trap '' TERM; while :; do sleep 1; done"
goes_back "hangs" 0.4.0 agent-4 agent-failed
check "and more again" gives 60s

# --- killed in the middle ---
wrapped 0.6.0 'exec "$(dirname "$0")/agent-real" "$@"'
sed -i 's/probation: 1s/probation: 3s/' agent/component.yaml
check "a good one again" publish_agent 0.6.0 good
selfright rollout start --id agent-6 --component agent --version 0.6.0 --stage all=all >/dev/null
on_trial() { grep -q "on trial for update=agent-6/" nodes/n1/agent.log; }
check "it is on trial" within 60 on_trial
kill -9 "$agent_n1"
wait "$agent_n1" 2>/dev/null
start_agent n1
check "the supervisor is killed, and started again" within 30 eval '[ -n "$(agent_pid)" ]'
sleep 0.5
kill -9 "$(agent_pid)" 2>/dev/null
check "the agent is killed too; it is good in the end" within 60 outcome agent-6 good
check "said once" within 30 said_once 0.6.0 good
check "the service did not notice" untouched
ended
