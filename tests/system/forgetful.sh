#!/usr/bin/env bash
# What a broker retains is a cache: somebody else's broker, which is swept, and which restarts without a memory, is
# filled again by the controller; a fresh fleet behind it works.
set -u
# shellcheck source=tests/system/fleet_lib.bash
. "$(dirname "$0")/fleet_lib.bash"

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
check "its certificate is lent to" make_broker
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

# --- in silence, behind a connection that stands: the canary ---
# What replaces the timestamp expires a second later, and nobody is told; the next re-signing is hours away.
stop_serve
check "a controller that asks every two seconds whether all is kept" start_serve --broker "localhost:$secure" --broker-check 2s
lost() { grep -c "broker-forgot: the broker lost what it retained" "$tmp/serve.log"; }
check "what is kept is found there" within 20 kept timestamp
before=$(lost) breaks=$(grep -c broker-lost "$tmp/serve.log")
check "the timestamp is replaced by one that expires" mosquitto_pub -p "$plain" -V 5 -r -q 1 -t selfright/v1/demo/timestamp -m "{}" \
	-D publish message-expiry-interval 1
missed() { [ "$(lost)" -gt "$before" ]; }
check "the canary misses it" within 60 missed
check "and it is there again" within 60 kept timestamp
check "as it was signed" eval 'mosquitto_sub -p "$plain" -t selfright/v1/demo/timestamp --retained-only -C 1 -W 1 | holds .signed'
check "on the connection that there was" eval '[ "$(grep -c broker-lost "$tmp/serve.log")" = "$breaks" ]'

kill_broker
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
	kill_broker
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
kill_broker
check "is found when the broker is gone" within 60 runs n1 web 1.1.0

# --- who was not connected for a while asks once it is: nothing was announced, and the next question is an hour away ---
check "web 1.2.0" publish web 1.2.0
check "a broker again" start_broker
check "to which the node finds" within 60 online
check "and the controller" within 60 serve_is_ready
refreshed() { agent n1 status --json | jq -r .metadata.refreshed; }
at_rest() { local before; before=$(refreshed) && sleep 4 && [ "$(refreshed)" = "$before" ]; }
check "what it asks once it is connected is behind it" within 60 at_rest
check "a third rollout" selfright rollout start --component web --version 1.2.0 --stage all=all --id third
sleep 3 # and long enough ago to be asked again
check "of which it has not heard" not runs n1 web 1.2.0
link_of() { pgrep -P "$agent_n1" selfright-link; }
kill -9 "$(link_of)"
check "is found by a link that was killed and is back" within 60 runs n1 web 1.2.0
check "and done" within 60 rollout_is third done
check "over the broker, which was there" online
check "a fourth" eval 'publish web 1.3.0 && selfright rollout start --component web --version 1.3.0 --stage all=all --id fourth'
kill_broker
kill -9 "$(link_of)"
check "is found by a link that was killed and finds no broker any more" within 60 runs n1 web 1.3.0

# --- a proxy that lets HTTPS through and refuses the broker ---
proxy=$(port)
printf 'Port %s\nListen 127.0.0.1\nConnectPort %s\n' "$proxy" "$(jq .https_port "$SELFRIGHT_DIR/serve/serve.json")" >"$tmp/tinyproxy.conf"
tinyproxy -d -c "$tmp/tinyproxy.conf" >"$tmp/tinyproxy.log" 2>&1 &
pids+=($!)
check "the broker is there again" start_broker
check "and the controller at it" within 60 serve_is_ready
stop_agent n1
echo "proxy: http://127.0.0.1:$proxy" >>"$tmp/nodes/n1/etc/agent.yaml"
start_agent n1
refused="the proxy 127.0.0.1:$proxy answered 403 to CONNECT localhost:$secure"
says_refused() { agent n1 status --json | holds --arg r "$refused" '(.link.connected | not) and (.link.reason | contains($r))'; }
check "a proxy that refuses the broker's address is named, with its number" within 60 says_refused
check "a fifth rollout" eval 'publish web 1.4.0 && selfright rollout start --replace --component web --version 1.4.0 --stage all=all --id fifth'
check "comes through it by asking" within 60 runs n1 web 1.4.0
check "and is told through it" within 60 rollout_is fifth done
check "the doctor names it too" says 1 "$refused" agent n1 doctor
check "with what to ask for" grep -q "allow CONNECT to this address and port" said
check "and says that HTTPS passes" eval "agent n1 doctor --json | holds '.failed == \"proxy\" and ([.steps[] | select(.step == \"https\" and .verdict == \"ok\")] | length == 1)'"

# --- a name that a resolver does not answer for holds up nothing ---
if [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
	stop_serve
	python3 -c 'import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.77", 53)); time.sleep(600)' &
	pids+=($!)
	echo "nameserver 127.0.0.77" >"$tmp/resolv.conf"
	unshare --mount --propagation private sh -c 'mount --bind "$1" /etc/resolv.conf && exec selfright serve --broker "broker.test:$2"' sh \
		"$tmp/resolv.conf" "$secure" >>"$tmp/serve.log" 2>&1 &
	serve_pid=$!
	check "a controller whose broker's name leads nowhere says so" within 60 grep -q "the resolver did not answer for broker.test" "$tmp/serve.log"
	check "and answers" within 20 api http://x/v1/status
fi
ended
