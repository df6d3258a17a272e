#!/usr/bin/env bash
# What a broker retains is a cache: somebody else's broker, which is swept, and which restarts without a memory, is
# filled again by the controller; a fresh fleet behind it works.
set -u
# shellcheck source=tests/system/fleet_lib.bash
. "$(dirname "$0")/fleet_lib.bash"

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
start_broker() {
	mosquitto -c "$tmp/broker/conf" >>"$tmp/broker/log" 2>&1 &
	broker=$!
	pids+=($!)
	within 20 mosquitto_pub -p "$plain" -t started -m yes
}
kept() { [ -n "$(mosquitto_sub -p "$plain" -t "selfright/v1/demo/$1" --retained-only -C 1 -W 1 2>/dev/null)" ]; }
announced() { mosquitto_sub -p "$plain" -t selfright/v1/demo/node/n1/announce --retained-only -C 1 -W 1 | gunzip | grep -q 'nodes/.*n1'; }

check "a fleet's folder" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "a controller with a broker of its own, for a moment" start_serve
log=$SELFRIGHT_DIR/serve/mosquitto/mosquitto.log
size_is() { [ "$(stat -c %s "$1")" "$2" "$3" ]; }
head -c 1200000 /dev/zero | tr '\0' 'x' >>"$log"
check "its log is cut when it is large" within 60 size_is "$log" -lt 100000
check "and the one before it is kept" size_is "$log.1" -gt 1000000
kill -9 "$(cut -d' ' -f1 "$SELFRIGHT_DIR/serve/mosquitto.pid")"
check "and the broker still writes there" within 60 size_is "$log" -gt 0
head -c 1200000 /dev/zero | tr '\0' 'y' >>"$log"
check "again" within 60 grep -q yyyy "$log.1"
check "and no more than those two" eval '[ "$(ls "$SELFRIGHT_DIR"/serve/mosquitto | grep -c log)" = 2 ]'
stop_serve
mkdir "$tmp/broker"
cp "$SELFRIGHT_DIR"/serve/tls/{server.crt,server.key,ca.crt} "$tmp/broker"
chmod 755 "$tmp/broker" && chmod 644 "$tmp/broker"/*
plain=$(port) secure=$(port)
printf 'listener %s 127.0.0.1\nlistener %s 127.0.0.1\ncafile %s/ca.crt\ncertfile %s/server.crt\nkeyfile %s/server.key\nallow_anonymous true\n' \
	"$plain" "$secure" "$tmp/broker" "$tmp/broker" "$tmp/broker" >"$tmp/broker/conf"
check "somebody else's broker, which remembers nothing" start_broker
check "a controller with that one" start_serve --broker "localhost:$secure"
check "which publishes there" within 20 kept timestamp
known() { selfright node show n1 >/dev/null; }
check "a node" add_node n1
check "which enrols" within 60 known
check "an order to it" selfright node hold n1 --for 1h --reason "a trade fair"
check "is announced" within 20 announced

check "somebody sweeps the node's announcement" mosquitto_pub -p "$plain" -r -n -q 1 -t selfright/v1/demo/node/n1/announce
check "and the timestamp" mosquitto_pub -p "$plain" -r -n -q 1 -t selfright/v1/demo/timestamp
check "the timestamp is there again" within 30 kept timestamp
check "and all else" within 30 announced
check "said so" grep -q "broker-forgot" "$tmp/serve.log"

kill -9 "$broker"
wait "$broker" 2>/dev/null
check "the broker starts again, without a memory" start_broker
check "the timestamp is there again" within 90 kept timestamp
check "and the node's order" within 30 announced

# --- nodes ask by themselves: nothing is announced to anybody here ---
make_component web
check "a component" selfright component add web --team web
for v in 1.0.0 1.1.0; do check "web $v" publish web $v; done
printf 'topic readwrite #\ntopic deny selfright/v1/demo/announce\ntopic deny selfright/v1/demo/timestamp\ntopic deny selfright/v1/demo/node/n1/announce\n' >"$tmp/broker/acl"
chmod 644 "$tmp/broker/acl"
echo "acl_file $tmp/broker/acl" >>"$tmp/broker/conf"
forget() {
	kill -9 "$broker"
	wait "$broker" 2>/dev/null
	start_broker
}
asks() { # WITH_BROKER WITHOUT: how often n1 asks
	stop_agent n1
	sed -i '/^poll:/d' "$tmp/nodes/n1/etc/agent.yaml"
	echo "poll: {with_broker: $1, without_broker: $2}" >>"$tmp/nodes/n1/etc/agent.yaml"
	start_agent n1
	within 60 online
}
online() { agent n1 status --json | holds .link.connected; }
check "a broker that announces nothing" forget
check "a node that asks every three seconds" asks 3s 3s
check "the hold ends" selfright node hold n1 --withdraw
check "a rollout" selfright rollout start --component web --version 1.0.0 --stage all=all --id first
check "is found by asking" within 60 runs n1 web 1.0.0
check "and done" within 60 rollout_is first done
check "a node that asks once an hour, and every two seconds without a broker" asks 1h 2s
check "another rollout" selfright rollout start --component web --version 1.1.0 --stage all=all --id second
kill -9 "$broker"
wait "$broker" 2>/dev/null
check "is found when the broker is gone" within 60 runs n1 web 1.1.0
ended
