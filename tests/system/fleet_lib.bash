# Sourced by system tests that need a real fleet: a controller with its signer and broker, and agents.
# Everything lives in $tmp, on loopback, on free ports; only what was started here is ended.
bin=$(cd "${1:?usage: $0 BUILD_FOLDER}" && pwd)/bin || exit 1
export PATH=$bin:/usr/sbin:$PATH
unset http_proxy https_proxy all_proxy HTTPS_PROXY ALL_PROXY SELFRIGHT_PASSPHRASE_FILE
tmp=$(mktemp -d "${TMPDIR:-/tmp}/selfright-fleet.XXXXXX") || exit 1
chmod 711 "$tmp"
export SELFRIGHT_DIR=$tmp/fleet
serve_pid='' pids=() failed=0 count=0

finish() {
	local pid file user
	# A child of ours that is ended before it is the program it is to become runs this too.
	[ "$BASHPID" = "$$" ] || return
	for pid in "${pids[@]}" $serve_pid; do kill "$pid" 2>/dev/null; done
	for pid in "${pids[@]}" $serve_pid; do wait "$pid" 2>/dev/null; done
	# Services outlive their agents on purpose; their records say which they are.
	for file in "$tmp"/nodes/*/run/services/*.json; do
		[ -f "$file" ] && kill -- "-$(jq .pid "$file")" 2>/dev/null
	done
	[ -n "${KEEP:-}" ] && echo "kept: $tmp" || rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 1' INT TERM

cd "$tmp" || exit 1

check() { # SENTENCE COMMAND...
	count=$((count + 1))
	local sentence=$1
	shift
	if "$@" >"$tmp/check.log" 2>&1; then
		echo "ok $count - $sentence"
	else
		echo "not ok $count - $sentence"
		sed 's/^/    /' "$tmp/check.log"
		for log in "$tmp"/serve.log "$tmp"/nodes/*/agent.log; do
			[ -f "$log" ] && tail -n 4 "$log" | sed "s/^/    $(basename "$(dirname "$log")"): /"
		done
		failed=1
	fi
}
ended() {
	echo "$count checks, $([ $failed = 0 ] && echo all passed || echo SOME FAILED)"
	exit $failed
}
not() { ! "$@"; }
says() { # CODE TEXT COMMAND...: it exits with CODE and says TEXT
	local code=$1 text=$2 got=0
	shift 2
	"$@" >"$tmp/said" 2>&1 || got=$?
	cat "$tmp/said"
	[ "$got" -eq "$code" ] || { echo "exit $got, not $code: $*"; return 1; }
	grep -qF -- "$text" "$tmp/said" || { echo "no '$text' from: $*"; return 1; }
}
# What is usual, for whoever reads; a machine that does much else has two minutes. It only ends what would hang.
within() { # SECONDS COMMAND...
	local end=$((SECONDS + ($1 > 120 ? $1 : 120)))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}
# jq 1.6 is content with no input at all; we are not.
holds() { local out; out=$(jq -e "$@") && [ -n "$out" ]; }
api() { curl -s --max-time 60 --unix-socket "$SELFRIGHT_DIR/serve/control.sock" "$@"; }
serve_is_ready() { api http://x/v1/status | holds '.broker_connected and .signer_connected'; }
start_serve() {
	selfright serve "$@" >>"$tmp/serve.log" 2>&1 &
	serve_pid=$!
	within 20 serve_is_ready
}
stop_serve() {
	kill "$serve_pid"
	wait "$serve_pid" 2>/dev/null
	serve_pid=
}
start_agent() {
	selfright-agent run --config-dir "$tmp/nodes/$1/etc" >>"$tmp/nodes/$1/agent.log" 2>&1 &
	eval "agent_$1=$!"
	pids+=($!)
}
# A clock that nobody set. Programs get a clean environment, so it is faked by files in an /etc of this node's own.
faketime=$(ls /usr/lib/*/faketime/libfaketimeMT.so.1 2>/dev/null)
# A sanitizer's runtime must be loaded first, which a preloaded library prevents.
can_fake_time() { [ "$(id -u)" = 0 ] && [ -n "$faketime" ] && unshare --mount true 2>/dev/null && ! grep -q __asan_init "$bin/selfright-agent"; }
start_agent_at() { # TIME NODE: the time as libfaketime reads it
	# Of its own too: what libfaketime shares there is named after the process, and one that was killed leaves it behind
	# for the next process with its number, which then does not start.
	local program='mount -t tmpfs none /dev/shm && mount -t tmpfs none "$1" && mkdir "$1/upper" "$1/work" &&
		mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc || exit 1
		echo "$4" >/etc/faketimerc
		echo "$2" >/etc/ld.so.preload
		exec selfright-agent run --config-dir "$3"'
	mkdir -p "$tmp/etc-of-$2"
	unshare --mount --propagation private bash -c "$program" fake "$tmp/etc-of-$2" "$faketime" \
		"$tmp/nodes/$2/etc" "$1" >>"$tmp/nodes/$2/agent.log" 2>&1 &
	eval "agent_$2=$!"
	pids+=($!)
}
# A child of ours that is not yet the program it is to become has our traps, and loses what it caught when it becomes it.
is_itself() { [ "$(readlink "/proc/$1/exe")" != "$(readlink /proc/$$/exe)" ]; }
stop_agent() {
	local -n pid=agent_$1
	within 60 is_itself "$pid"
	kill "$pid"
	wait "$pid" 2>/dev/null
	return 0
}
add_node() { # NAME [--label ...]
	local node=$1
	shift
	mkdir -p "$tmp/nodes/$node"
	selfright node add "$node" --var port=1 "$@" -o "$tmp/nodes/$node/join" >/dev/null &&
		selfright-agent join "$tmp/nodes/$node/join" --config-dir "$tmp/nodes/$node/etc" --root "$tmp/nodes/$node/root" \
			--run "$tmp/nodes/$node/run" >/dev/null || return 1
	# Started as root it gives its processes away; to a user that is there everywhere.
	echo "users: {link: nobody, stage: nobody, component: nobody}" >>"$tmp/nodes/$node/etc/agent.yaml"
	start_agent "$node"
	# The controller knows it from then on. A test that cuts it off from the beginning brings keys (--with-keys).
	within 30 is_enrolled "$node"
}
# It makes its keys itself and has them certified when it comes up; until then the controller has never heard of it.
is_enrolled() { [ -s "$tmp/nodes/$1/etc/transport.crt" ]; }
agent() { # NODE COMMAND...
	local node=$1
	shift
	selfright-agent "$@" --config-dir "$tmp/nodes/$node/etc"
}
runs() { [ "$(basename "$(readlink "$tmp/nodes/$1/root/current/$2")")" = "$3" ]; }
waits_for() { agent "$1" why --json | holds --arg r "$2" '[.components[].reason] | index($r)'; }
rollout_is() { selfright rollout show "$1" --json | holds --arg s "$2" '.state == $s'; }
believes() { selfright node show "$1" --json | holds --arg c "$2" --arg v "$3" '.components[] | select(.component == $c).version == $v'; }

# A large fleet: copies of a node in the database of a controller that does not run, report and all, on 200 sites.
copy_node() { # NODE COUNT
	python3 - "$SELFRIGHT_DIR/serve/selfright.db" "$1" "$2" <<'END'
import sqlite3, sys
path, node, count = sys.argv[1:]
db = sqlite3.connect(path)
for table in ("nodes", "components"):
    names = [c[1] for c in db.execute(f"PRAGMA table_info({table})")]
    texts = [i for i, n in enumerate(names) if n in ("labels", "report")] if table == "nodes" else []
    for row in db.execute(f"SELECT * FROM {table} WHERE node = ?", (node,)).fetchall():
        def copy(k):
            new = list(row)
            new[names.index("node")] = f"{node}-{k:05}"
            for i in texts:
                new[i] = new[i].replace(f'"{node}"', f'"{node}-{k:05}"').replace('"oslo"', f'"site-{k % 200}"')
            return new
        marks = ",".join("?" * len(names))
        db.executemany(f"INSERT INTO {table} VALUES ({marks})", (copy(k) for k in range(int(count))))
db.commit()
END
}

# For a server that is started, or started again, a while later: from below those that the system gives to whoever asks
# for any, or another test has it by then.
free_ports() { # COUNT
	python3 - "$1" <<-'PY'
		import random, socket, sys
		taken = []
		while len(taken) < int(sys.argv[1]):
		    s = socket.socket()
		    try:
		        s.bind(("127.0.0.1", random.randint(10000, 30000)))
		    except OSError:
		        continue
		    taken.append(s)
		print(*[s.getsockname()[1] for s in taken])
	PY
}
port() { free_ports 1; }

# Somebody else's broker, which remembers nothing: the controller is given it with --broker "localhost:$secure", and what
# looks into it uses $plain. Its certificate is that of a controller that was started once before.
make_broker() {
	mkdir "$tmp/broker" && cp "$SELFRIGHT_DIR"/serve/tls/{server.crt,server.key,ca.crt} "$tmp/broker" &&
		chmod 755 "$tmp/broker" && chmod 644 "$tmp/broker"/* || return 1
	plain=$(port) secure=$(port)
	printf 'listener %s 127.0.0.1\nlistener %s 127.0.0.1\ncafile %s/ca.crt\ncertfile %s/server.crt\nkeyfile %s/server.key\nallow_anonymous true\n' \
		"$plain" "$secure" "$tmp/broker" "$tmp/broker" "$tmp/broker" >"$tmp/broker/conf"
}
start_broker() {
	mosquitto -c "$tmp/broker/conf" >>"$tmp/broker/log" 2>&1 &
	broker=$!
	pids+=($!)
	within 20 mosquitto_pub -p "$plain" -t started -m yes
}
kill_broker() {
	kill -9 "$broker"
	wait "$broker" 2>/dev/null
	return 0
}

# A component of files only, that is good after a second.
make_component() { # NAME
	mkdir -p "$1/tree"
	echo "first" >"$1/tree/file"
	printf 'component: %s\nteam: %s\nkind: tree\ntree: tree\nprobation: 1s\nchecks:\n  - {name: there, exec: {command: [/bin/true]}, periodSeconds: 1}\n' \
		"$1" "$1" >"$1/component.yaml"
}
# Its probation lasts as long as the test says, however slow the machine is: a version that is current is proved only
# when there is no file hold-VERSION in the component's data.
make_proof_wait() { # COMPONENT
	mkdir -p "$1/tree/bin"
	printf '#!/bin/sh\nwhile [ -e "$SELFRIGHT_DATA/hold-$(cat "$SELFRIGHT_CURRENT/%s/file")" ]; do sleep 0.05; done\n' "$1" >"$1/tree/bin/there"
	chmod 755 "$1/tree/bin/there"
	sed -i 's|exec: {command: .*}, |exec: {command: [bin/there]}, timeoutSeconds: 600, |' "$1/component.yaml"
}
hold_proof() { touch "$tmp/nodes/$1/root/data/$2/hold-$3"; } # NODE COMPONENT VERSION
give_proof() { rm "$tmp/nodes/$1/root/data/$2/hold-$3"; }
publish() { # COMPONENT VERSION
	echo "$2" >"$1/tree/file"
	selfright publish "$1" --version "$2" --changes "$2"
}
