#!/usr/bin/env bash
# How a machine becomes a node where the way is not straight: through squid and tinyproxy with a password, through a proxy
# that refuses, and with a clock that stands in 1970 or runs years ahead. Certificates live for half a minute.
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/fleet_lib.bash
. "$here/fleet_lib.bash"
unset no_proxy NO_PROXY
life=25
etc() { echo "$tmp/nodes/$1/etc"; }
is_online() { selfright node show "$1" --json | holds .online; }
says_link() { agent "$1" status --json | holds --arg t "$2" '.link.enrolment // "" | contains($t)'; }
reads() { agent "$1" status | tr -s ' \n' ' '; } # however it was broken into lines
is_down_by() { agent "$1" status --json | holds --arg t "$2" '.link.reason // "" | contains($t)'; }
serial() { openssl x509 -in "$(etc "$1")/transport.crt" -noout -serial; }
renewed() { [ "$(serial "$1")" != "$2" ]; }
listens() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
join() { # NODE LINES...: joined, with more lines in agent.yaml, not started
	mkdir -p "$tmp/nodes/$1"
	selfright node add "$1" -o "$tmp/nodes/$1/join" >/dev/null &&
		selfright-agent join "$tmp/nodes/$1/join" --config-dir "$(etc "$1")" --root "$tmp/nodes/$1/root" --run "$tmp/nodes/$1/run" >/dev/null &&
		printf '%s\n' "users: {link: nobody, stage: nobody, component: nobody}" "${@:2}" >>"$(etc "$1")/agent.yaml"
}
start_squid() { # NAME PORTS...: those it lets CONNECT to; NAME becomes its port
	local port folder=$tmp/$1
	port=$(port)
	install -d -m 777 "$folder"
	echo "joe:$(openssl passwd -apr1 secret)" >squid-users
	cat >"$1.conf" <<-END
		http_port 127.0.0.1:$port
		pid_filename $folder/pid
		cache_log $folder/cache.log
		access_log stdio:$folder/access.log
		coredump_dir $folder
		cache deny all
		shutdown_lifetime 0 seconds
		auth_param basic program /usr/lib/squid/basic_ncsa_auth $tmp/squid-users
		auth_param basic realm fleet
		auth_param basic children 1
		acl known proxy_auth REQUIRED
		acl fleet port ${*:2}
		http_access deny !fleet
		http_access allow known
		http_access deny all
		dns_nameservers 127.0.0.1
		visible_hostname proxy.test
	END
	chmod 644 "$1.conf" squid-users
	# What it shares is its own too, or its name there is that of somebody else's, or of one that was killed.
	local own=(unshare --mount --propagation private sh -c 'mount -t tmpfs none /dev/shm && exec "$@"' sh)
	[ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null || own=()
	"${own[@]}" squid -N -n "$1" -f "$tmp/$1.conf" >"$1.log" 2>&1 &
	pids+=($!)
	eval "$1=$port $1_pid=$!"
	within 20 listens "$port"
}
start_tinyproxy() { # PORTS...
	tiny_port=$(port)
	{
		printf 'Port %s\nListen 127.0.0.1\nTimeout 600\nBasicAuth joe secret\nMaxClients 20\n' "$tiny_port"
		printf 'ConnectPort %s\n' "$@"
	} >tinyproxy.conf
	tinyproxy -d -c tinyproxy.conf >tinyproxy.log 2>&1 &
	pids+=($!)
	within 20 listens "$tiny_port"
}
narrow_saw() { grep -q "CONNECT 127.0.0.1:$1 joe " narrow/access.log; }

check "a fleet" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "the controller" start_serve --certificate-life ${life}s
https=$(jq .https_port "$SELFRIGHT_DIR/serve/serve.json") broker=$(jq .broker_port "$SELFRIGHT_DIR/serve/serve.json")

# Times at which nothing is due are spent with others: the first of each kind is started here.
if can_fake_time; then
	check "a machine without a clock" join y1970
	start_agent_at "@1970-01-02 00:00:00" y1970
	check "a machine whose clock is years ahead" join y2056
	start_agent_at "@2056-01-02 00:00:00" y2056
fi
check "squid, which lets one port pass" start_squid narrow "$https"
check "a machine behind it" join p1 "proxy: http://joe:secret@127.0.0.1:$narrow"
start_agent p1
check "tinyproxy, which lets both pass" start_tinyproxy "$https" "$broker"
check "a machine with a wrong password" join p2 "proxy: http://joe:wrong@127.0.0.1:$tiny_port"
start_agent p2
check "squid again, for another port" start_squid other "$broker"
check "a machine behind it" join p3 "proxy: http://joe:secret@127.0.0.1:$other"
start_agent p3
check "one whose proxy is not there" join p4 "proxy: http://joe:secret@127.0.0.1:1"
start_agent p4

# --- one port through squid with Basic: that is enough to become a node ---
check "a machine becomes a node over one port" within 30 is_enrolled p1
check "squid knows by whom" within 20 narrow_saw "$https"
check "the broker's port is refused, in words" within 30 is_down_by p1 "answered 403 to CONNECT 127.0.0.1:$broker"
check "and the doctor says what to ask for" says 1 "allow CONNECT to this address and port" agent p1 doctor
first=$(serial p1)

# --- what the installer reads where it does not go on ---
check "a wrong password is named with its proxy" within 30 says_link p2 "the proxy 127.0.0.1:$tiny_port answered 401: it wants a user and a password"
check "in what people read, too, to the last word" says 0 "those of the proxy: setting" reads p2
check "and never the password" not grep -rq "joe:wrong" "$tmp/nodes/p2/agent.log"
check "the doctor says what to do" says 1 "give the proxy's user and password" agent p2 doctor
check "a port that a proxy refuses, with the address" within 30 says_link p3 "the proxy 127.0.0.1:$other answered 403 to CONNECT 127.0.0.1:$https: it must allow that address and port"
check "a proxy that is not there by its address" within 30 says_link p4 "127.0.0.1 port 1 "
stop_agent p3
stop_agent p4
stop_agent p2
sed -i "s|joe:wrong@|joe:secret@|" "$(etc p2)/agent.yaml"
start_agent p2
check "with the right password it becomes a node: the secret was not used up" within 30 is_enrolled p2
check "and is online" within 30 is_online p2
stop_agent p2

# --- clocks ---
if can_fake_time; then
	check "in 1970" within 20 grep -q "^1970-01-02T" "$tmp/nodes/y1970/agent.log"
	check "a machine becomes a node" within 30 is_enrolled y1970
	born=$(date -d "$(openssl x509 -in "$(etc y1970)/transport.crt" -noout -startdate | cut -d= -f2)" +%s)
	check "with a certificate of today" [ "$born" -gt $(($(date +%s) - 3600)) ]
	check "and is online with it" within 30 is_online y1970
	check "it is still 1970 there" eval 'tail -n 1 "$tmp/nodes/y1970/agent.log" | grep -q "^1970-01-0[2-9]T"'
	check "in 2056 it says which dates do not fit which clock" within 30 says_link y2056 "the clock here says 2056-01-02T"
	check "and asks whether the clock is right" says 0 "is the clock right, or was the certificate not renewed?" reads y2056
	stop_agent y2056
	start_agent y2056
	check "with the clock set it becomes a node" within 30 is_enrolled y2056
	check "and is online" within 30 is_online y2056
	stop_agent y2056
	start_agent_at "@2056-01-02 00:00:00" y2056
	check "a node whose clock jumps ahead says the same" within 30 is_down_by y2056 "the clock here says 2056-01-02T"
	stop_agent y2056
	start_agent y2056
	check "and is back with the clock" within 60 is_online y2056
fi

# --- renewal ---
# A broker that is reached has to take it first; from here none is, and the CA that issued it is proof enough.
check "over its one port the first renews its certificate" within $((life + 30)) renewed p1 "$first"
check "and says why that counts" grep -q "certificate-renewed.*no broker is reached from here" "$tmp/nodes/p1/agent.log"
kill "${narrow_pid:?}"
stop_agent p1
sed -i "s|^proxy:.*|proxy: http://joe:secret@127.0.0.1:$tiny_port|" "$(etc p1)/agent.yaml"
start_agent p1
check "with it the broker takes the node, through tinyproxy" within 60 is_online p1
if can_fake_time; then
	now=$(serial y1970)
	make_component web
	check "what is signed later tells those in 1970 that time passes" selfright component add web --team web
	check "their certificates are renewed by it" within 40 renewed y1970 "$now"
	check "and they are online" within 30 is_online y1970
fi
ended
