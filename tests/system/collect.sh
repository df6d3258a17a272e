#!/usr/bin/env bash
# Files that support asks a node for: over HTTPS and over MQTT, through a controller that is killed and a broker that is,
# never anything but the sets of the node's own configuration, and nothing taken from anybody who was not asked.
set -u
# shellcheck source=tests/system/fleet_lib.bash
. "$(dirname "$0")/fleet_lib.bash"

mkdir -p "$tmp/logs" && chmod 755 "$tmp/logs"
seq 200000 >"$tmp/logs/app.log"
echo "quiet" >"$tmp/logs/other.log"
ln -s /etc/shadow "$tmp/logs/link.log"
echo "a password" >"$tmp/secret"
chmod 644 "$tmp"/logs/app.log "$tmp"/logs/other.log

with_sets() { # NODE: two sets of files, and the agent started anew
	within 60 is_enrolled "$1" || return 1
	within 20 agent "$1" status >/dev/null
	stop_agent "$1"
	mkdir -p "$tmp/nodes/$1/etc/collect.d"
	echo "files: [$tmp/logs/*.log]" >"$tmp/nodes/$1/etc/collect.d/logs.yaml"
	printf 'files: [%s]\nmax_bytes: 20M\n' "$tmp/big" >"$tmp/nodes/$1/etc/collect.d/big.yaml"
	start_agent "$1"
}
is_here() { selfright node collect "$1" --json | holds --arg s "$2" '[.collections[] | select(.set == $s and .state == "here")] | length > 0'; }
order_of() { selfright node collect "$1" --json | jq -r --arg s "$2" '[.collections[] | select(.set == $s)] | last.order'; }
arrives() { selfright node collect "$1" --json | holds --arg s "$2" '[.collections[] | select(.set == $s and (.arrived // 0) > 0)] | length > 0'; }
outcome() { selfright node show "$1" --json | holds --arg n "$3" --arg o "$(order_of "$1" "$2")" '[.order_results[] | select(.id == $o and .name == $n)] | length == 1'; }
same() { tar xOf "$1" "${tmp#/}/logs/app.log" | cmp - "$tmp/logs/app.log"; }

check "a fleet's folder" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "the controller" start_serve
check "a node" add_node n1
check "with sets of files" with_sets n1
check "asking for one and waiting for it" timeout 90 selfright node collect n1 logs --reason "ticket 1" -o n1.tar
check "brings the file whole" same n1.tar
check "says what is in it" eval 'tar xOf n1.tar manifest.txt | grep -q "^6 6 .*other.log$"'
check "and no link" not eval 'tar tf n1.tar | grep -q link'
check "the node says that it is done" within 30 outcome n1 logs good
check "and keeps nothing" within 10 test ! -e "$tmp/nodes/n1/root/collected"
check "the list has it" says 0 "here" selfright node collect n1
check "it can be taken again" eval 'selfright node collect n1 --get "$(order_of n1 logs)" -o again.tar && cmp n1.tar again.tar'
check "the timeline has it" eval 'api "http://x/v1/events?after=0" | holds ".events[] | select(.kind == \"collected\" and .node == \"n1\")"'
check "a set that the node does not define is refused, in words" says 3 "this node defines no set of files 'secret' (collect.d); its sets: big, logs" \
	timeout 90 selfright node collect n1 secret --reason "why not" --wait
check "a path is no set" says 2 "is no set's name" selfright node collect n1 ../../secret --reason "why not"
check "without a reason nothing is asked" says 2 "reason" selfright node collect n1 logs
check "a set without a file here" says 3 "no file of the set 'big' is here" timeout 90 selfright node collect n1 big --reason "ticket 2" --wait

# --- over MQTT alone, with a broker and a controller that are killed in the middle ---
check "a node that reaches the broker alone" add_node n2 --with-keys
check "with the same sets" with_sets n2
only_mqtt() {
	within 20 agent n2 status >/dev/null # a child that is not yet the program it is to become is not to be killed
	stop_agent n2
	printf 'roads: [mqtt]\nupload: {rate: 4M}\n' >>"$tmp/nodes/n2/etc/agent.yaml"
	start_agent n2
}
check "and MQTT as its only road, with a ceiling" only_mqtt
head -c 12000000 /dev/urandom >"$tmp/big" && chmod 644 "$tmp/big"
asked_at=$SECONDS
check "it is asked for 12 MB" selfright node collect n2 big --reason "ticket 3"
check "they begin to arrive" within 60 eval 'arrives n2 big || is_here n2 big'
kill -9 "$(cut -d' ' -f1 "$SELFRIGHT_DIR/serve/mosquitto.pid")" 2>/dev/null
check "with a broker that was killed" within 30 serve_is_ready
kill -9 "$serve_pid" 2>/dev/null
wait "$serve_pid" 2>/dev/null
check "and a controller that was, too" start_serve
kill -9 "$(cat "/proc/$agent_n2/task/$agent_n2/children" | tr ' ' '\n' | head -n 1)" 2>/dev/null # its link
check "they are here in the end" within 120 is_here n2 big
# 12 MB of noise at 4 MiB a second: what is promised is that it is not faster.
check "no faster than the ceiling" test $((SECONDS - asked_at)) -ge 2
check "whole" eval 'selfright node collect n2 --get "$(order_of n2 big)" -o n2.tar && tar xOf n2.tar "${tmp#/}/big" | cmp - "$tmp/big"'
check "and the node knows" within 60 outcome n2 big good

# --- how much is kept ---
stop_serve
check "a controller that is to keep no more than it has" start_serve --collections-max 12
check "a node is asked for more" selfright node collect n1 logs --reason "ticket 6"
full() { grep -q "collection-refused: node=n1 .*keeps 1[0-9] MiB of files of nodes and takes no more than 12 (serve --collections-max)" "$tmp/serve.log"; }
check "it is refused, and the log says why" within 60 full
check "and the node's as well" within 30 grep -q "collection-refused.*takes no more than 12" "$tmp/nodes/n1/agent.log"
check "nothing of it is on the disk" eval '[ -z "$(find "$SELFRIGHT_DIR/serve/collections/n1" -name "*.part" -o -name "*.open")" ]'
check "the order is taken back" selfright node collect n1 logs --withdraw
stop_serve
check "a controller with room" start_serve
full_quota() {
	stop_agent n1
	echo "quota: 20M" >>"$tmp/nodes/n1/etc/agent.yaml"
	start_agent n1
}
mkdir -p "$tmp/nodes/n1/root/data" && head -c 13000000 /dev/urandom >"$tmp/nodes/n1/root/data/filler"
check "a node whose folder has a quota" full_quota
check "gathers nothing that may be too much for it" says 3 "more than the quota of this node's folder leaves" \
	timeout 90 selfright node collect n1 logs --reason "ticket 7" --wait
check "and keeps nothing" test ! -e "$tmp/nodes/n1/root/collected"

# --- an order that is withdrawn, and one that waits for a node that is away ---
stop_agent n2
check "a node that is away is asked" selfright node collect n2 logs --reason "ticket 4"
check "the order is taken back" selfright node collect n2 logs --withdraw
check "which the list says" eval 'selfright node collect n2 --json | holds "[.collections[] | select(.set == \"logs\")] | last.state == \"withdrawn\""'

# --- what strangers send ---
port=$(api http://x/v1/status | jq .https_port)
ca="$tmp/nodes/n1/etc/ca.crt"
sha=$(printf x | sha256sum | cut -d' ' -f1)
post() { # NODE FILE: the status and the answer
	curl -s --max-time 20 --cacert "$ca" -o answer -w '%{http_code}' --data-binary "@$2" \
		-H 'Content-Type: application/octet-stream' "https://127.0.0.1:$port/v1/node/$1/put"
}
answers() { # STATUS TEXT NODE FILE
	local got
	got=$(post "$3" "$4")
	echo "$got: $(head -c 300 answer)"
	[ "$got" = "$1" ] && grep -q -- "$2" answer
}
statement() { # what n1 would say, unsigned
	printf '{"signed":{"_type":"selfright-collection","format":1,"fleet":"demo","node":"n1","order":"%s","set":"logs","length":1,"files":1,"sha256":"%s","at":"2026-11-21T00:00:00Z"},"signatures":[]}' "$1" "$sha"
}
check "another order for n1 that it cannot follow" selfright node collect n1 nothing --reason "ticket 5"
order=$(order_of n1 nothing)
head -c 60000 /dev/urandom >noise
check "noise is no collection" answers 400 "no part of a collection" n1 noise
check "nor is an empty body" eval ': >empty; answers 400 "" n1 empty'
{ printf '{"format":1,"order":"%s","sha256":"%s"}\n' "$order" "$sha" && statement "$order"; } >unsigned
check "a statement that n1 did not sign is refused" answers 200 '"refused".*not signed by a node' n1 unsigned
check "for a node nobody knows as well" answers 200 '"refused".*not signed by a node' nobody unsigned
{ printf '{"format":1,"order":"%s","sha256":"%s","index":0}\n' "$order" "$sha" && printf x | gzip; } >block
check "a block that no statement came before is not kept" answers 409 "statement" n1 block
{ printf '{"format":1,"order":"../../x","sha256":"%s","index":0}\n' "$sha" && printf x | gzip; } >block
check "an order that is a path" answers 400 "" n1 block
head -c 200000 /dev/zero >large
check "too much for one message" answers 413 "" n1 large
left() { find "$SELFRIGHT_DIR/serve/collections" -type f | grep -vE '/(n1|n2)/collect-[0-9a-f]+\.(tar|json)$'; }
check "nothing of all that is on the disk" not left
check "the controller is well" serve_is_ready

# --- the end of a node ---
check "a node that leaves the fleet" selfright node remove n2 --reason "scrapped"
check "leaves none of its files here" test ! -e "$SELFRIGHT_DIR/serve/collections/n2"
ended
