#!/usr/bin/env bash
# What a rollout would be, before it starts: stages by count, share and preference, profiles, times, approvals.
set -u
# shellcheck source=tests/system/fleet_lib.bash
. "$(dirname "$0")/fleet_lib.bash"
stage_nodes() { jq -c --arg s "$1" '[.stages[] | select(.name == $s).nodes[].node]'; }

check "a fleet's folder" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "the controller" start_serve
make_component web
check "a component" selfright component add web --team web
check "web 1.0.0" publish web 1.0.0
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
	selfright node add --with-keys "n$i" --label traffic="$([ $((i % 4)) = 0 ] && echo low || echo high)" \
		--label env="$([ $i -le 2 ] && echo staging || echo production)" -o "n$i.join" >/dev/null
done
check "twelve nodes" eval "selfright node list --json | holds '.nodes | length == 12'"

plan() { selfright rollout plan --component web --version 1.0.0 "$@"; }
check "two of those with little traffic" eval "plan --stage first=count:2,prefer:traffic=low --stage rest=all --json >first.json &&
	holds '[.stages[0].nodes[].node] - [\"n4\",\"n8\",\"n12\"] == [] and (.stages[0].nodes | length) == 2' first.json"
check "the same again" eval "plan --stage first=count:2,prefer:traffic=low --stage rest=all --json >again.json &&
	[ \"\$(stage_nodes first <first.json)\" = \"\$(stage_nodes first <again.json)\" ]"
check "nothing has started" eval "selfright rollout list --json | holds '.rollouts == []'"
check "the rest are all the others" holds '.stages[1].nodes | length == 10' first.json
check "when at the earliest, with soak and age" eval "plan --stage first=count:2,soak:2h --stage rest=all --min-age 1h --json |
	holds '((.earliest[1].opens | fromdate) - (.earliest[0].opens | fromdate)) as \$d | \$d > 2*3600 and \$d < 4*3600'"
check "a share with a preference, with those before it part of it" eval "plan --stage first=count:2,prefer:traffic=low \
	--stage half=share:50%,prefer:traffic=low --stage rest=all --json | holds '[.stages[].nodes | length] == [2,4,6]'"
check "a count of those with labels" eval "plan --stage s=labels:env=staging,count:1 --stage rest=all --json |
	holds '.stages[0].nodes | length == 1 and (.[0].node == \"n1\" or .[0].node == \"n2\")'"
check "a choice of nobody is refused" says 3 "finds no node" plan --stage s=labels:env=moon,count:1 --stage rest=all
check "so is a preference without a number" says 2 "which of them all comes first" plan --stage s=labels:env=staging,prefer:traffic=low
check "a profile brings its stages" eval "plan --profile weekly --json | holds '[.stages[].name] == [\"first\",\"few\",\"third\",\"two-thirds\",\"all\"]
	and (.stages[0].nodes | length) == 2 and (.stages[1].nodes | length) == 8 and .stages[1].soak == 86400'"
check "a patch is through in hours" eval "plan --profile patch --min-age 0 --json |
	holds '((.earliest[4].opens | fromdate) - (.earliest[0].opens | fromdate)) < 5*3600'"
check "what the plan says itself stands" eval "plan --profile weekly --stage all=all --json | holds '[.stages[].name] == [\"all\"]'"
check "no such profile" says 2 "weekly, train, patch or downgrade" plan --profile fast
check "nobody is asked" says 0 "nobody's approval" plan --stage all=all
mkdir -p keys
selfright key create qa-1 --keys keys >/dev/null
selfright repo approvers add qa --key keys/qa-1.pub --threshold 1 >/dev/null
selfright component policy web --approval 'qa:regular' >/dev/null
check "then somebody is" says 0 "the policy of web asks for the approval of qa" plan --stage all=all
check "but not of a patch" says 0 "nobody's approval" plan --profile patch
check "a stage that selects nobody is said" says 0 "selects no node" plan --stage moon=labels:env=moon --stage rest=all
check "the real one takes the nodes that were shown" eval "selfright rollout start --component web --version 1.0.0 \
	--stage first=count:2,prefer:traffic=low --stage rest=all --json >real.json && [ \"\$(stage_nodes first <first.json)\" = \"\$(stage_nodes first <real.json)\" ]"
check "and nodes read them by name" eval "api 'http://x/v1/target?path=rollouts/web-1-0-0.json' | holds '.stages[0].select.nodes | length == 2'"
check "why the second stage is not open" says 0 "waits for 2 of 2 nodes" selfright rollout explain web-1-0-0
check "a person does not wait for one of them, and says why" says 2 "say why" selfright rollout skip web-1-0-0 n4
one=$(stage_nodes first <real.json | jq -r '.[0]')
check "so that is recorded" eval "selfright rollout skip web-1-0-0 \$one --reason 'switched off' --json | holds '.now == \"skipped\"'"
check "with who and why" eval "api 'http://x/v1/audit' | holds '[.entries[] | select(.action == \"skip\" and (.by | length) > 0 and (.detail | test(\"switched off\")))] | length == 1'"
check "then one is waited for" says 0 "waits for 1 of 2 nodes" selfright rollout show web-1-0-0
check "and shown with the reason" eval "selfright rollout show web-1-0-0 --json | holds '[.stages[0].nodes[] | select(.state == \"skipped\") | .detail] == [\"switched off\"]'"
check "until it is taken back" selfright rollout skip web-1-0-0 "$one" --reason 'it is back' --withdraw
check "once" says 3 "does not skip" selfright rollout skip web-1-0-0 "$one" --reason 'it is back' --withdraw
check "both are waited for again" says 0 "waits for 2 of 2 nodes" selfright rollout show web-1-0-0
check "nobody who is not there" says 3 "no node" selfright rollout skip web-1-0-0 n99 --reason x
check "a node may try again, with a reason" says 2 "say why" selfright node retry n1 web
check "that others read" eval "selfright node retry n1 web --reason 'the disk was full' >/dev/null && selfright node show n1 --json | holds '[.orders[] | select(.kind == \"retry\").reason] == [\"the disk was full\"]'"
check "what it did is made again from what was kept" eval "selfright rollout explain web-1-0-0 --json | holds '.action == \"wait\" and .why == .recorded_why and (.nodes | length) == 2'"
check "before it began nothing was decided" says 3 "nothing was decided" selfright rollout explain web-1-0-0 --at 2020-01-01T00:00:00Z
check "a time is a time" says 2 "2026-11-21T18:00:00Z" selfright rollout explain web-1-0-0 --at noon
check "no such rollout" says 3 "no rollout" selfright rollout explain none
cat >plan.yaml <<'PLAN'
component: web
version: 1.0.0
profile: train
window: Mon-Fri 22:00-04:00
PLAN
check "a file with a profile" says 0 "stage staging opens" selfright rollout plan plan.yaml
ended
