#!/usr/bin/env bash
# The controller as it is: signer, broker, HTTPS, rollouts; hostile nodes; everything killed once.
set -u
here=$(cd "$(dirname "$0")" && pwd)
bin=${1:?usage: serve.sh BUILD_FOLDER}/bin
export PATH=$bin:/usr/sbin:$PATH
tmp=$(mktemp -d)
chmod 711 "$tmp"
export SELFRIGHT_DIR=$tmp/fleet
serve_pid=
failed=0
count=0
unset http_proxy https_proxy all_proxy HTTPS_PROXY ALL_PROXY

finish() {
	if [ -n "$serve_pid" ] && kill "$serve_pid" 2>/dev/null; then
		wait "$serve_pid" 2>/dev/null
	fi
	rm -rf "$tmp"
}
trap finish EXIT

check() { # SENTENCE COMMAND...
	count=$((count + 1))
	local sentence=$1
	shift
	if "$@" >"$tmp/check.log" 2>&1; then
		echo "ok $count - $sentence"
	else
		echo "not ok $count - $sentence"
		sed 's/^/    /' "$tmp/check.log"
		tail -n 2 "$tmp/serve.log" 2>/dev/null | sed 's/^/    serve: /'
		failed=1
	fi
}
not() { ! "$@"; }
# As in fleet_lib.bash: what is usual; a machine that does much else has two minutes.
within() { # SECONDS COMMAND...
	local end=$((SECONDS + ($1 > 120 ? $1 : 120)))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}

cd "$tmp" || exit 1
control=$SELFRIGHT_DIR/serve/control.sock
api() { curl -s --max-time 60 --unix-socket "$control" "$@"; }
# jq 1.6 is content with no input at all; we are not.
holds() { local out; out=$(jq -e "$@") && [ -n "$out" ]; }
is_ready() { api http://x/v1/status | holds '.broker_connected and .signer_connected'; }
start_serve() {
	selfright serve "$@" >>"$tmp/serve.log" 2>&1 &
	serve_pid=$!
	within 20 is_ready
}
read_ports() {
	https_port=$(jq .https_port "$SELFRIGHT_DIR/serve/serve.json")
	broker_port=$(jq .broker_port "$SELFRIGHT_DIR/serve/serve.json")
}
web() { # PATH CURL_OPTIONS...
	local path=$1
	shift
	curl -s --max-time 60 --path-as-is --cacert "$SELFRIGHT_DIR/serve/tls/ca.crt" "$@" "https://127.0.0.1:$https_port$path"
}
status_of() { web "$1" -o /dev/null -w '%{http_code}' "${@:2}"; }
status_is() { [ "$(status_of "$2" "${@:3}")" = "$1" ] || { status_of "$2" "${@:3}"; return 1; }; }

check "a fleet is made" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "the controller starts" start_serve
read_ports
check "it says where it listens" grep -q "^ready: fleet demo, https://127.0.0.1:$https_port/, mqtt 127.0.0.1:$broker_port" serve.log
lowest=$(cut -f 1 /proc/sys/net/ipv4/ip_local_port_range)
check "on ports that no outgoing connection gets while it is away" [ "$https_port" -lt "$lowest" -a "$broker_port" -lt "$lowest" ]
check "a second one on the same folder is refused" not selfright serve
check "help has an example" grep -q Example: <(selfright serve --help)

# --- nodes ---
for node in n1 n2; do
	check "$node is added" selfright node add --with-keys $node --label site=oslo --var port=8080 -o $node.join
	jq -r .transport_key $node.join >$node.key
	jq -r .transport_crt $node.join >$node.crt
	jq -r .ca $node.join >ca.crt
done
check "the join file is for its owner only" [ "$(stat -c %a n1.join)" = 600 ]
check "the join file is complete" holds '.format == 1 and .fleet == "demo" and .node == "n1" and .urls[0] and .broker.port and
	.identity_key and (.root | fromjson | .signed._type == "root") and .labels.site == "oslo" and .vars.port == "8080"' n1.join
check "its root has the digest it says" [ "$(jq -rj .root n1.join | sha256sum | cut -c1-64)" = "$(jq -r .root_sha256 n1.join)" ]
check "a join file is not overwritten" not selfright node add --with-keys n1 -o n1.join
check "a node is enrolled once" not selfright node add --with-keys n1 -o again.join
check "and leaves no file then" [ ! -e again.join ]
check "a name that is none is refused" not selfright node add --with-keys 'N 1' -o x.join
check "the control socket is for its owner only" [ "$(stat -c %a "$control")" = 600 ]

# --- HTTPS ---
mkdir -p c/tree
echo "content 1.0.0" >c/tree/index.txt
printf 'component: content\nteam: content\nkind: tree\ntree: tree\nprobation: 1s\n' >c/component.yaml
check "a component belongs to a team" selfright component add content --team content
check "a release is published" selfright publish c --version 1.0.0 --changes first
artifact=$(cd "$SELFRIGHT_DIR/repo" && find targets/content/1.0.0 -name '*.tar.zst' | head -n 1)
size=$(stat -c %s "$SELFRIGHT_DIR/repo/$artifact")
web "/$artifact" -o whole
web "/$artifact" -r 0-9 -o part1
web "/$artifact" -r 10- -o part2
check "the artifact is served as it is" cmp whole "$SELFRIGHT_DIR/repo/$artifact"
check "and in parts" cmp <(cat part1 part2) whole
check "a part says so" status_is 206 "/$artifact" -r 0-9
check "behind the end there is nothing" status_is 416 "/$artifact" -r "$size-"
etag=$(web "/$artifact" -I | tr -d '\r' | sed -n 's/^[Ee][Tt]ag: //p')
check "what is known is not sent again" status_is 304 "/$artifact" -H "If-None-Match: $etag"
check "metadata is served" grep -q '"timestamp"' <(web /metadata/timestamp.json)
check "only to those who trust our CA" not curl -s "https://127.0.0.1:$https_port/metadata/timestamp.json"
for path in /metadata/../../keys/root-1.pem /metadata/%2e%2e/%2e%2e/keys/root-1.pem /targets/..%2f..%2fkeys/root-1.pem /metadata/ \
	/metadata//etc/passwd /keys/root-1.pem; do
	check "no way out: $path" [ "$(status_of "$path" | cut -c1)" = 4 ]
done
for path in /v1/nodes /v1/status /v1/rollouts /v1/events /metrics; do
	check "not for nodes: $path" status_is 404 $path
done
check "nodes upload nothing" status_is 404 "/v1/upload/$(sha256sum <c/component.yaml | cut -c1-64)" -T c/component.yaml
head -c 200000 /dev/zero >large
check "a body has a limit" status_is 413 /v1/node/n1/report --data-binary @large

# --- the broker's access list ---
prefix=selfright/v1/demo
client() { # pub|sub NODE ARGUMENTS...
	local tool=mosquitto_$1 node=$2
	shift 2
	stdbuf -oL timeout 100 $tool -V 5 -h 127.0.0.1 -p "$broker_port" --cafile ca.crt --cert "$node.crt" --key "$node.key" -q 1 "$@"
}
gets_nothing() { # NODE TOPIC; while it listens n2 says something, and so does the controller
	[ -z "$(client sub "$1" -t "$2" -W 1 2>/dev/null)" ]
}
check "n2 writes its report" client pub n2 -r -t $prefix/node/n2/report -m secret-of-n2
check "n1 reads what is for all" client sub n1 -t $prefix/timestamp -C 1 -W 60
check "n1 cannot read n2's report" gets_nothing n1 "$prefix/node/n2/report"
check "nor by a wildcard" not grep -q secret <(client sub n1 -t "$prefix/#" -W 1 2>/dev/null)
check "nor everything" not grep -q secret <(client sub n1 -t '#' -W 1 2>/dev/null)
says_unauthorised() { grep -qi "not authori" <("$@" 2>&1); }
check "n1 cannot write n2's report" says_unauthorised client pub n1 -d -r -t $prefix/node/n2/report -m forged
check "n1 cannot announce" says_unauthorised client pub n1 -d -r -t $prefix/announce -m forged
check "n1 cannot write its own announcement" says_unauthorised client pub n1 -d -t $prefix/node/n1/announce -m forged
check "n1 cannot write its own ack" says_unauthorised client pub n1 -d -t $prefix/node/n1/ack -m forged
client sub n2 -d -t $prefix/node/n2/ack -C 1 -W 90 >n2.heard 2>&1 &
listener=$!
check "n2 listens" within 20 grep -q SUBACK n2.heard
check "n1 with the client id of n2 does not become n2" client pub n1 -i n2 -t $prefix/node/n1/event -m x
check "and n2 is still connected" kill -0 $listener
check "but is n1 as ever" grep -q "as n1 (.*u'n1'" "$SELFRIGHT_DIR/serve/mosquitto/mosquitto.log"
kill $listener
wait $listener 2>/dev/null
check "nobody without a certificate" not timeout 5 mosquitto_pub -h 127.0.0.1 -p "$broker_port" --cafile ca.crt -t x -m x
check "nobody with another CA's" not sh -c "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout o.key \
	-out o.crt -days 2 -subj /CN=n1 && timeout 5 mosquitto_pub -h 127.0.0.1 -p $broker_port --cafile ca.crt --cert o.crt --key o.key -t x -m x"
control_port=$(sed -n 's/^listener \([0-9]*\) 127.0.0.1$/\1/p' "$SELFRIGHT_DIR/serve/mosquitto/mosquitto.conf" | head -n 1)
check "nobody by the controller's listener" not timeout 5 mosquitto_pub -h 127.0.0.1 -p "$control_port" -t x -m x
check "the controller's password is on no disk" not grep -rq "_controller:[0-9a-f]\{32\}" "$SELFRIGHT_DIR/serve"

# --- reports ---
boot=aaaaaaaa-0000-4000-8000-000000000001
targets=$(find "$SELFRIGHT_DIR/repo/metadata" -name '*.targets.json' | sort -V | tail -n 1)
make() { python3 "$here/fake_node.py" "$@"; }
post() { # NODE < envelope
	curl -s --max-time 60 --cacert "$SELFRIGHT_DIR/serve/tls/ca.crt" --data-binary @- "https://127.0.0.1:$https_port/v1/node/$1/report"
}
nonce=00112233445566778899aabbccddeeff
make n1.join 1 $boot --nonce $nonce | post n1 >ack
check "a report is answered" holds .signed ack
check "by the key that targets names" make --check "$targets" ack
check "about this node, boot, number and nonce" holds ".signed | ._type == \"selfright-ack\" and .node == \"n1\" and
	.boot_id == \"$boot\" and .sequence == 1 and .nonce == \"$nonce\"" ack
check "again when it comes again" holds '.signed.sequence == 1' <(make n1.join 1 $boot | post n1)
check "a forged one is refused" holds '.error | contains("not signed")' <(make n1.join 2 $boot --key n2.join | post n1)
check "one of another node too" holds '.error' <(make n2.join 2 $boot | post n1)
check "nobody's is refused" holds '.error | contains("no such node")' <(make n1.join 2 $boot | post n9)
make n1.join 2 $boot --version other=1.0.0 --why 'it waits\u001b[8m\u009b2J\u202e.' >report1
many=0123456
for ((i = 0; i < ${#many}; i++)); do post n1 <report1 >"many$i" & pids[i]=$!; done
wait "${pids[@]}"
all_answered() { for ((i = 0; i < ${#many}; i++)); do holds '.signed.sequence == 2' "many$i" || return 1; done; }
check "many that come at once are all answered" all_answered
steers() { LC_ALL=C grep -q $'\x1b\|\xc2\x9b\|\xe2\x80\xae' "$@"; } # escape, what terminals take for it, a line turned around
for command in "node why n1" "node show n1"; do
	# shellcheck disable=SC2086
	selfright $command >shown
	check "'$command' says what the node said" grep -q "it waits" shown
	check "and nothing of it steers the terminal" not steers shown
done
make n2.join 1 $boot >report2
answered() { # one connection, as a node has: its certificate's name is its client id
	timeout 100 mosquitto_rr -V 5 -h 127.0.0.1 -p "$broker_port" --cafile ca.crt --cert n2.crt --key n2.key -q 1 -W 60 \
		-t $prefix/node/n2/report -e $prefix/node/n2/ack -m "$(cat report2)" >ack2
}
check "n2 reports over MQTT" answered
check "and is answered there" holds '.signed.node == "n2" and .signed.sequence == 1' ack2
client pub n2 -r -t $prefix/node/n2/presence -m '{"online":true,"boot":"x","counter":1}'
n2_online() { selfright node list --json | holds '.nodes[] | select(.node == "n2") | .online'; }
check "its presence is shown" within 3 n2_online

# --- rollouts ---
state_is() { [ "$(selfright rollout show "$1" --json | jq -r .state)" = "$2" ]; }
stage_is_open() { [ "$(selfright rollout show "$1" --json | jq -r ".stages[$2].open")" = "$3" ]; }
check "what is not published is not rolled out" not selfright rollout start --component content --version 9.9.9 --stage all=all
printf 'component: content\nversion: 1.0.0\nstages:\n  - name: a\n    nods: [n1]\n' >bad.yaml
check "a broken plan: file and line" grep -q 'bad.yaml:[45]:' <(selfright rollout start bad.yaml 2>&1)
check "a node that is not there" not selfright rollout start --component content --version 1.0.0 --stage a=nodes:n7
cat >plan.yaml <<'END'
component: content
version: 1.0.0
stages:
  - name: canary
    nodes: [n1]
    soak: 1s
  - name: rest
    all: true
min_age: 0s
END
check "a dry run starts nothing" selfright rollout start plan.yaml --dry-run
check "really nothing" [ "$(selfright rollout list --json | jq '.rollouts | length')" = 0 ]
check "a rollout starts" selfright rollout start plan.yaml
check "with its first stage" stage_is_open content-1-0-0 0 true
check "and no other" stage_is_open content-1-0-0 1 false
check "a second one of the component has to say so" not selfright rollout start plan.yaml
check "no data is no success" sh -c 'selfright rollout show content-1-0-0 | grep -q "waits for 1 of 1 nodes: n1"'
make n1.join 3 $boot --version content=1.0.0 --result content-1-0-0/content=101=good-unproven=none=1.0.0 | post n1 >/dev/null
says_unproven() { selfright rollout show content-1-0-0 | grep -q "no check proved it"; }
check "unproven is no success either" within 5 says_unproven
check "a rollout is paused" selfright rollout pause content-1-0-0 --reason look
check "and resumed" selfright rollout resume content-1-0-0 --reason fine
check "a reason is needed" not selfright rollout pause content-1-0-0
check "and replaced" selfright rollout start plan.yaml --replace
check "the old one is cancelled" state_is content-1-0-0 cancelled
make n1.join 4 $boot --version content=1.0.0 --result content-1-0-0-2/content=100=good=none=1.0.0 | post n1 >/dev/null
check "a good canary opens the rest after the soak" within 5 stage_is_open content-1-0-0-2 1 true
make n2.join 2 $boot --version content=1.0.0 --result content-1-0-0-2/content=100=good=none=1.0.0 | post n2 >/dev/null
check "all good is done" within 5 state_is content-1-0-0-2 done
echo "content 1.1.0" >c/tree/index.txt
check "another release" selfright publish c --version 1.1.0 --changes second
check "and its rollout" selfright rollout start --component content --version 1.1.0 --stage canary=nodes:n1 --stage rest=all
make n1.join 5 $boot --version content=1.0.0 --result content-1-1-0/content=200=check-failed=release=1.1.0 | post n1 >/dev/null
check "a failure halts it" within 3 state_is content-1-1-0 halted
check "before the next stage" stage_is_open content-1-1-0 1 false
index() { selfright rollout list --json >/dev/null; api "http://x/v1/target?path=rollouts/$1.json"; }
check "and nodes can read that" holds '.state == "halted"' <(index content-1-1-0)
check "halted stays" not selfright rollout resume content-1-1-0 --reason x
check "its stages can be undone" selfright rollout undo content-1-1-0 --reason bad

# --- orders and freezes ---
rollback_is_refused() {
	local said
	said=$(selfright node rollback n1 content --to 0.9.0 --reason "ticket 4711" 2>&1)
	[ $? = 3 ] && grep -q "never good on 'n1'" <<<"$said"
}
check "a version that was never good there is refused" rollback_is_refused
check "support sends a node back all the same" selfright node rollback n1 content --to 0.9.0 --reason "ticket 4711" --force
check "the order is published" holds '.rollback[0].to == "0.9.0" and .rollback[0].from == "1.0.0"' <(api "http://x/v1/target?path=nodes/n1.json")
client sub n1 -N -t $prefix/node/n1/announce -C 1 -W 60 >orders.gz
check "and announced to the node" holds '.files | keys | map(select(startswith("targets/nodes/"))) | length == 1' <(gzip -dc orders.gz)
check "not to others" gets_nothing n2 "$prefix/node/n1/announce"
check "a pin beside it is refused" sh -c '! selfright node pin n1 content --reason audit 2>said && grep -q "goes before a pin" said'
check "a hold" selfright node hold n1 --for 2d --reason acceptance
check "both are shown" sh -c 'selfright node show n1 | grep -q "order: rollback content" && selfright node show n1 | grep -q "order: hold"'
check "the order is withdrawn" selfright node rollback n1 content --withdraw
check "once" not selfright node rollback n1 content --withdraw
check "a pin to what it runs" selfright node pin n1 content --reason "audit until May"
check "is published" holds '.pin[0].version == "1.0.0" and .pin[0].component == "content"' <(api "http://x/v1/target?path=nodes/n1.json")
check "and shown" sh -c 'selfright node show n1 | grep -q "order: pin content to 1.0.0"'
check "a pin to what was never good there is refused" not selfright node pin n1 content --version 0.9.0 --reason audit
check "a rollback takes its place" sh -c 'selfright node rollback n1 content --to 0.9.0 --reason "ticket 4712" --force | grep -q "pin of it is withdrawn"'
check "alone" holds '(.pin // [] | length) == 0 and .rollback[0].to == "0.9.0"' <(api "http://x/v1/target?path=nodes/n1.json")
check "which is withdrawn too" selfright node rollback n1 content --withdraw
check "and the hold" selfright node hold n1 --withdraw
check "nothing is listed then" [ "$(api -o /dev/null -w '%{http_code}' 'http://x/v1/target?path=nodes/n1.json')" = 404 ]
check "a freeze" selfright freeze --site oslo --reason moving --until 1h
check "is in the index" holds '.freeze[0].labels.site == "oslo"' <(index index)
check "a thaw has a reason" not selfright freeze lift --all
check "and is lifted" selfright freeze lift --all --reason over
check "for good" holds '.freeze == []' <(index index)

# --- the timeline ---
check "it is told line by line" grep -q "n1 .*content .*a required check failed" <(selfright watch --once)
check "and as JSON" holds '.kind' <(selfright watch --once --json | head -n 1)
last=$(api http://x/v1/status | jq .last_event)
( sleep 1; selfright freeze --all --reason late >/dev/null; selfright freeze lift --all --reason over >/dev/null ) &
begin=$SECONDS
api "http://x/v1/events?after=$last&wait=50" >late
check "who waits hears when it happens, not when the wait is over" [ $((SECONDS - begin)) -lt 45 ]
wait $!
check "what happened" holds '.events[0].text | contains("late")' late
check "the audit trail is whole" holds .intact <(api http://x/v1/audit)

# --- everything is killed once ---
broker_pid() { cut -d' ' -f1 "$SELFRIGHT_DIR/serve/mosquitto.pid"; }
client sub n1 -N -t $prefix/announce -C 1 -W 60 >announce.before
old=$(broker_pid)
kill -9 "$old"
new_broker() { [ "$(broker_pid)" != "$old" ] && is_ready; }
check "a killed broker comes back" within 10 new_broker
check "with what was retained" within 5 client sub n1 -t $prefix/announce -C 1 -W 2
client sub n1 -N -t $prefix/announce -C 1 -W 60 >announce.after
check "the same as before" cmp announce.before announce.after
signer_of() { pgrep -P "$serve_pid" -f selfright-signer; }
old_signer=$(signer_of)
kill -9 "$old_signer"
new_signer() { [ -n "$(signer_of)" ] && [ "$(signer_of)" != "$old_signer" ] && is_ready; }
check "a killed signer comes back" within 10 new_signer
check "and signs" selfright freeze --all --reason "after the signer" --until 1h
seq_before=$(selfright rollout show content-1-1-0 --json | jq .seq)
old=$(broker_pid)
kill -9 "$serve_pid"
wait "$serve_pid" 2>/dev/null
check "a killed controller starts again" start_serve
old_https=$https_port old_broker=$broker_port
read_ports
check "on the same ports" [ "$https_port $broker_port" = "$old_https $old_broker" ]
check "without the old broker" [ "$(broker_pid)" != "$old" ]
check "it knows what it knew" state_is content-1-0-0-2 done
check "also what halted" state_is content-1-1-0 halted
check "and the freeze" holds '.freeze[0].reason == "after the signer"' <(index index)
check "the answer is not forgotten" holds '.signed.sequence == 5' <(make n1.join 5 $boot --version content=1.0.0 --result content-1-1-0/content=200=check-failed=release=1.1.0 | post n1)
check "the next rollout" selfright rollout start --component content --version 1.1.0 --id again --stage all=nodes:n2
check "has a higher seq" [ "$(selfright rollout show again --json | jq .seq)" -gt "$seq_before" ]

# --- a copy of a node ---
make n1.join 2 cccccccc-0000-4000-8000-000000000003 | post n1 >/dev/null
check "a copied node is in quarantine" holds .quarantined <(selfright node show n1 --json)
check "and not answered" holds '.error | contains("quarantine")' <(make n1.join 9 $boot | post n1)
check "until somebody trusts it" selfright node trust n1 --reason "restored from backup"
check "then it counts again" holds '.signed.sequence == 2' <(make n1.join 2 cccccccc-0000-4000-8000-000000000003 | post n1)

# --- a node that is not wanted any more ---
hears() { client sub n1 -t $prefix/timestamp -C 1 -W 2; }
check "n1 hears" hears
check "a lost join file is replaced" selfright node add --with-keys n1 --replace --reason "file lost" -o n1-new.join
check "a reason is needed" not selfright node add --with-keys n1 --replace -o n1-none.join
check "the old key signs nothing any more" holds .error <(make n1.join 9 cccccccc-0000-4000-8000-000000000003 | post n1)
check "the new one does, from its first report on" holds '.signed.sequence == 1' <(make n1-new.join 1 dddddddd-0000-4000-8000-000000000004 | post n1)
check "a hold" selfright node hold n1 --for 2d --reason x
check "the node is removed" selfright node remove n1 --reason "added by mistake"
check "once" not selfright node remove n1 --reason "added by mistake"
check "it is not listed" not sh -c 'selfright node list | grep -q "^n1 "'
check "its orders are withdrawn" [ "$(api -o /dev/null -w '%{http_code}' 'http://x/v1/target?path=nodes/n1.json')" = 404 ]
check "its reports are a stranger's" holds '.error | contains("no such node")' <(make n1-new.join 2 dddddddd-0000-4000-8000-000000000004 | post n1)
check "its certificate opens nothing" within 3 not hears
check "others hear as before" client sub n2 -t $prefix/timestamp -C 1 -W 60
check "the audit trail says who" holds '[.entries[].action] | index("node-remove")' <(api http://x/v1/audit)
check "it may come back" selfright node add --with-keys n1 -o n1-back.join
jq -r .transport_key n1-back.join >n1.key
jq -r .transport_crt n1-back.join >n1.crt
check "and hears again" within 3 hears

# --- the end ---
signer=$(signer_of)
broker=$(broker_pid)
kill "$serve_pid"
wait "$serve_pid"
check "it ends well" [ $? = 0 ]
serve_pid=
gone() { ! kill -0 "$1" 2>/dev/null; }
check "with its signer" within 3 gone "$signer"
check "and its broker" within 3 gone "$broker"
check "and its socket" [ ! -e "$control" ]
check "commands then say what to do" grep -q "selfright serve" <(selfright node list 2>&1)

echo "1..$count"
exit $failed
