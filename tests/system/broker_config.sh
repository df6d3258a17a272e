#!/usr/bin/env bash
# Brokers that are not ours, with the settings `selfright broker-config` writes: mosquitto, and RabbitMQ's MQTT plugin.
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/fleet_lib.bash
. "$here/fleet_lib.bash"
prefix=selfright/v1/demo
mosquitto_pid='' rabbit_pid='' epmd_pid=''
leave() {
	[ -z "$mosquitto_pid" ] || { kill "$mosquitto_pid" 2>/dev/null; wait "$mosquitto_pid" 2>/dev/null; }
	[ -z "$rabbit_pid" ] || { kill "$rabbit_pid" 2>/dev/null; wait "$rabbit_pid" 2>/dev/null; }
	[ -z "$epmd_pid" ] || { kill "$epmd_pid" 2>/dev/null; wait "$epmd_pid" 2>/dev/null; }
	finish
}
trap leave EXIT
read -r node_port controller_port amqp_port epmd_port dist_port < <(free_ports 5)
is_online() { selfright node show "$1" --json | holds .online; }
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
node_client() { # NODE sub|pub ...: with the node's own certificate
	local node=$1 what=$2
	shift 2
	timeout 100 "mosquitto_$what" -h 127.0.0.1 -p "$node_port" --cafile "$tmp/nodes/$node/etc/ca.crt" \
		--cert "$tmp/nodes/$node/etc/transport.crt" --key "$tmp/nodes/$node/etc/transport.key" "$@"
}
controller_client() { # PORT sub|pub ...
	local port=$1 what=$2
	shift 2
	stdbuf -oL timeout 100 "mosquitto_$what" -h 127.0.0.1 -p "$port" --cafile broker/ca.crt -u _controller \
		-P "$(cat broker/controller.password)" -i "selfright-test-$RANDOM" "$@"
}
serve_with() { # PORT-OF-CONTROLLER
	start_serve --broker "127.0.0.1:$1" --broker-for-nodes "127.0.0.1:$node_port" --broker-user _controller \
		--broker-password-file "$tmp/broker/controller.password"
}
# What one node says to another's topic reaches nobody; what it says on its own does.
confined() { # PORT-OF-CONTROLLER
	local got
	controller_client "$1" sub -d -t "$prefix/node/+/event" -C 1 -W 90 -F '%t %p' >heard 2>heard.err &
	local listener=$!
	within 20 grep -q SUBACK heard || { cat heard heard.err; return 1; }
	node_client n2 pub -i n2 -q 1 -t "$prefix/node/n1/event" -m '{"_type":"forged"}' 2>/dev/null
	node_client n2 pub -i n2 -q 1 -t "$prefix/node/n2/event" -m '{"_type":"own"}'
	wait $listener
	got=$(grep "^$prefix/" heard)
	[ "$got" = "$prefix/node/n2/event {\"_type\":\"own\"}" ] || { echo "heard: $got"; cat heard.err; return 1; }
}
# n1's orders are retained for n1: n2 asks for them in vain, and gets what is for all.
hears_no_other() { # NODE
	controller_client "$1" pub -r -q 1 -t "$prefix/node/n1/announce" -m secret || return 1
	[ -z "$(node_client n2 sub -i n2 -t "$prefix/node/n1/announce" -C 1 -W 2 2>/dev/null)" ] || return 1
	[ "$(node_client n1 sub -i n1 -t "$prefix/node/n1/announce" -C 1 -W 90 -F %p)" = secret ] || return 1
	[ -n "$(node_client n2 sub -i n2 -t "$prefix/timestamp" -C 1 -W 90 -F %p)" ]
}
with_agents_away() { # COMMAND...: their client ids are theirs
	local r=0
	stop_agent n1
	stop_agent n2
	"$@" || r=$?
	start_agent n1
	start_agent n2
	# One that is told to end before it is the agent would be this shell's copy, with its trap.
	within 20 agent n1 status >/dev/null && within 20 agent n2 status >/dev/null || return 1
	return $r
}
wait_gone() { within 20 not kill -0 "$1" 2>/dev/null; }

# --- the folder ---
check "a fleet" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "without a controller it says so" says 1 "selfright serve" selfright broker-config -o broker --name 127.0.0.1
check "the controller" start_serve
check "a component" eval "make_component web; selfright component add web --team web"
check "a release" publish web 1.0.0
write() { selfright broker-config -o broker --listen 127.0.0.1 --port "$node_port" --controller-port "$controller_port" "$@"; }
check "a folder is needed" says 2 "-o DIR" selfright broker-config --name x
check "no such kind" says 2 "mosquitto or rabbitmq" selfright broker-config -o broker --kind emqx
check "a certificate needs a name" says 2 "--name" write
check "the folder is written" says 0 "--broker-user _controller" write --name 127.0.0.1
check "no bridge is among it, nor in the private broker's settings" not grep -rqE '^(connection|address|topic .* (in|out|both) )' \
	broker/mosquitto.conf "$SELFRIGHT_DIR/serve/mosquitto"
check "it is up to date" says 0 "as it would be made now" write --check
check "the password is the owner's" [ "$(stat -c %a broker/controller.password)" = 600 ]
check "and not in mosquitto's file" not grep -qF "$(cat broker/controller.password)" broker/passwords
cp broker/server.crt before.crt
cp broker/controller.password before.password
check "again it changes nothing" write
check "not the certificate" cmp broker/server.crt before.crt
check "nor the password" cmp broker/controller.password before.password
stop_serve

# --- mosquitto ---
chmod 755 "$tmp" broker
chmod 644 broker/server.key broker/passwords
[ "$(id -u)" != 0 ] || chown mosquitto broker/data
mosquitto -c broker/mosquitto.conf >mosquitto.log 2>&1 &
mosquitto_pid=$!
check "mosquitto starts with it" within 20 listens "$node_port"
check "the controller uses it" serve_with "$controller_port"
check "n1 joins" add_node n1
check "n2 joins" add_node n2
check "its join file names the port for nodes" [ "$(jq .broker.port nodes/n1/join)" = "$node_port" ]
check "n1 is online" within 30 is_online n1
check "n2 is online" within 30 is_online n2
check "a rollout" selfright rollout start --component web --version 1.0.0 --min-age 0 --stage all=all
check "reaches n1" within 30 runs n1 web 1.0.0
check "a node speaks for itself alone" with_agents_away confined "$controller_port"
check "and hears what is for it alone" with_agents_away hears_no_other "$controller_port"
check "n2 is removed" selfright node remove n2 --reason "sold"
stop_agent n2
check "the folder is not up to date" says 3 "is not what it would be now" write --check
check "in these lines" says 3 "+ user n2" write --diff
check "is written again" write
kill -HUP "$mosquitto_pid"
stop_agent n1
check "n2's certificate opens nothing any more" within 10 eval '[ -z "$(node_client n2 sub -i n2 -t $prefix/timestamp -C 1 -W 2 2>/dev/null)" ]'
start_agent n1
check "n1 is as before" within 30 is_online n1
stop_agent n1
kill "$mosquitto_pid"
wait "$mosquitto_pid" 2>/dev/null
mosquitto_pid=
stop_serve

# --- RabbitMQ ---
rabbit=$(ls -d /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server 2>/dev/null | head -n 1)
if [ -z "$rabbit" ]; then
	echo "ok $((count + 1)) - RabbitMQ # SKIP the package rabbitmq-server is not installed (packaging/dependencies test)"
	count=$((count + 1))
	ended
fi
check "the controller" start_serve
check "n2 comes back" selfright node add n2 --with-keys -o n2.join
selfright-agent join n2.join --config-dir nodes/n2/etc --root "$tmp/nodes/n2/root" --run "$tmp/nodes/n2/run" --force >/dev/null
echo "users: {link: nobody, stage: nobody, component: nobody}" >>nodes/n2/etc/agent.yaml
# --with-keys: the join file of a controller that runs its own broker names that one.
sed -i "s/^  port: .*/  port: $node_port/" nodes/n2/etc/agent.yaml
check "the folder for RabbitMQ" selfright broker-config -o broker --kind rabbitmq --listen 127.0.0.1 --port "$node_port"
check "knows both nodes" holds '[.users[].name] - ["_controller", "n1", "n2"] == [] and (.users | length == 3)' broker/definitions.json
stop_serve
echo "listeners.tcp.1 = 127.0.0.1:$amqp_port" >/dev/null # none of AMQP's own is opened
mkdir -p rabbit
chmod 644 broker/*
echo '[rabbitmq_mqtt,rabbitmq_auth_mechanism_ssl].' >rabbit/enabled
export ERL_EPMD_PORT=$epmd_port ERL_EPMD_ADDRESS=127.0.0.1 HOME=$tmp/rabbit
epmd >epmd.log 2>&1 &
epmd_pid=$!
RABBITMQ_CONFIG_FILE=$tmp/broker/rabbitmq.conf RABBITMQ_MNESIA_BASE=$tmp/rabbit/mnesia RABBITMQ_LOG_BASE=$tmp/rabbit/log \
	RABBITMQ_NODENAME=selfright@localhost RABBITMQ_ENABLED_PLUGINS_FILE=$tmp/rabbit/enabled RABBITMQ_DIST_PORT=$dist_port \
	RABBITMQ_PID_FILE=$tmp/rabbit/pid setsid "$rabbit" >rabbit.log 2>&1 &
rabbit_pid=$!
check "RabbitMQ starts with it" within 180 listens "$node_port"
check "the controller uses it" serve_with "$node_port"
start_agent n1
start_agent n2
check "n1 is online" within 60 is_online n1
check "n2 is online" within 60 is_online n2
check "by MQTT 3.1.1, which is what it speaks" eval "agent n1 status --json | holds '.link.connected and (.link.reason | contains(\"3.1.1\"))'"
check "web 1.1.0" publish web 1.1.0
check "is rolled out" selfright rollout start --component web --version 1.1.0 --min-age 0 --stage all=all --replace
check "reaches n1" within 60 runs n1 web 1.1.0
check "reaches n2" within 60 runs n2 web 1.1.0
check "and its reports come back" within 60 believes n2 web 1.1.0
check "a node speaks for itself alone" with_agents_away confined "$node_port"
check "and hears what is for it alone" with_agents_away hears_no_other "$node_port"

# --- another CA of the fleet ---
certificate_is_of() { openssl x509 -in other/server.crt -noout -issuer | grep -q "CN *= *$1\$"; }
check "a folder of its own" selfright broker-config -o other --name localhost
check "is as it would be" selfright broker-config -o other --check
check "another CA is announced" selfright ca rotate
check "nodes of both are to be taken" says 3 "other/ca.crt is not what it would be now" selfright broker-config -o other --check
check "the folder is written again" selfright broker-config -o other
check "with both" [ "$(grep -c BEGIN other/ca.crt)" = 2 ]
check "and the certificate it had" certificate_is_of "demo selfright CA"
check "the new one issues" says 0 "broker-config -o DIR --name NAME" selfright ca switch --force --reason "a test"
check "the certificate is of one that is going" says 3 "is of a CA that is going" selfright broker-config -o other --check
check "its names are asked for" says 2 "--name" selfright broker-config -o other
check "it is made anew" selfright broker-config -o other --name localhost
check "of the new one" certificate_is_of "demo selfright CA 2"
check "and all is as it would be" selfright broker-config -o other --check

ended
