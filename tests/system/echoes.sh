#!/usr/bin/env bash
# A node that hears everything twice and out of order, and is heard so, ends as one that heard it once.
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/fleet_lib.bash
. "$here/fleet_lib.bash"

known() { selfright node show n1 >/dev/null && selfright node show n2 >/dev/null; }
both_run() { runs n1 web "$1" && runs n2 web "$1"; }
undone() { agent "$1" history --json | holds '[.history[] | select(.to == "1.2.0" and .name == "check-failed")] | length == 1'; }
obeyed() { local n; for n in n1 n2; do [ "$(selfright node show $n --json | jq '.order_results | length')" = "$1" ] || return 1; done; }
# What is left of it all, without what is a node's own: times, numbers, its name.
ends_as() {
	agent "$1" history --json | jq -c '[.history[] | [.component, .from, .to, .name, .class]]'
	agent "$1" status --json | jq -c '[.components[] | [.component, .version, .previous, .denied]]' | sed 's/"[0-9-]*T[0-9:]*Z"//g'
	basename "$(readlink "$tmp/nodes/$1/root/current/web")"
	selfright node show "$1" --json | jq -c '[.components[] | [.component, .version]]'
	api "http://x/v1/events?after=0" | jq -r --arg n "$1" '.events[] | select(.node == $n and .kind == "state") | .text' | sort | uniq -c
}

check "a fleet's folder" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "a controller with a broker of its own, for a moment" start_serve
stop_serve
check "its certificate is lent to" make_broker
check "a broker on which everybody may speak" start_broker
python3 "$here/echoes.py" "$plain" demo n1 "$tmp/echoes" 2>>"$tmp/broker/log" &
pids+=($!)
check "a controller there" start_serve --broker "localhost:$secure"
check "a node with an echo" add_node n1 --var "root=$tmp/nodes/n1/root"
check "a node without" add_node n2 --var "root=$tmp/nodes/n2/root"
check "both enrol" within 60 known
make_component web
sed -i 's|\[/bin/true\]|[/usr/bin/grep, -qv, 1.2.0, "${vars.root}/current/web/file"]|' web/component.yaml
echo "requires: {vars: [root]}" >>web/component.yaml
check "a component" selfright component add web --team web
for v in 1.0.0 1.1.0 1.2.0; do check "web $v" publish web $v; done
for v in 1.0.0 1.1.0; do
	check "a rollout of $v" selfright rollout start --component web --version $v --stage all=all --id "to-${v//./-}"
	check "arrives at both" within 180 both_run $v
	check "and is done" within 180 rollout_is "to-${v//./-}" done
done
# One after the other: the first failure halts it, and might keep the other from even trying.
for n in n1 n2; do
	check "one that fails its checks, to $n" selfright rollout start --component web --version 1.2.0 --stage "all=nodes:$n" --id "bad-$n"
	check "is undone there" within 180 undone $n
	check "and halted" within 180 rollout_is "bad-$n" halted
	check "and done with" selfright rollout cancel "bad-$n" --reason "it is bad"
done
check "both run what they had" within 30 both_run 1.1.0
for n in n1 n2; do check "support sends $n back" selfright node rollback $n web --from 1.1.0 --to 1.0.0 --reason look; done
# News may be passed over among what is repeated: then it is asked for, within a minute.
check "both obey" within 180 both_run 1.0.0
check "and say so" within 180 obeyed 1
for n in n1 n2; do check "withdrawn for $n" selfright node rollback $n web --withdraw; done
check "and heard" within 180 obeyed 0
check "the echo was busy" eval '[ "$(cat "$tmp/echoes")" -gt 50 ]'
check "both have a history to compare" eval '[ "$(ends_as n1 | wc -l)" -gt 8 ]'
same() { diff <(ends_as n1) <(ends_as n2); }
check "the one with the echo ended as the other, and its news are no more" within 180 same
ended
