#!/usr/bin/env bash
# How a machine becomes a node and stays one: a real controller, mosquitto and nginx, certificates that live for half a minute.
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/fleet_lib.bash
. "$here/fleet_lib.bash"
life=25
etc() { echo "$tmp/nodes/$1/etc"; }
is_online() { selfright node show "$1" --json | holds .online; }
says_link() { agent "$1" status --json | holds --arg t "$2" '.link.enrolment // "" | contains($t)'; }
fingerprint() { agent "$1" status --json | jq -r .link.identity; }
serial() { openssl x509 -in "$(etc "$1")/transport.crt" -noout -serial; }
enrolment() { selfright node list --json | holds --arg n "$1" --arg s "$2" '.enrolments[] | select(.node == $n).state == $s'; }
audit_has() { api http://x/v1/audit | holds --arg a "$1" --arg n "$2" '.intact and ([.entries[] | select(.action == $a and .detail == $n)] | length > 0)'; }
event_has() { api http://x/v1/events | holds --arg k "$1" --arg n "$2" '[.events[] | select(.kind == $k and .node == $n)] | length > 0'; }
join() { # MACHINE FILE
	mkdir -p "$tmp/nodes/$1"
	selfright-agent join "$2" --config-dir "$(etc "$1")" --root "$tmp/nodes/$1/root" --run "$tmp/nodes/$1/run" >/dev/null &&
		echo "users: {link: nobody, stage: nobody, component: nobody}" >>"$(etc "$1")/agent.yaml"
}
renewed() { [ "$(serial "$1")" != "$2" ]; }

check "a fleet" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "a certificate's life has bounds" says 2 "10 seconds to 90 days" selfright serve --certificate-life 1s
check "the controller" start_serve --certificate-life ${life}s
cp -r "$(dirname "$here")/../packaging/demo/web" .
check "a component that is nginx" selfright component add web --team web
check "web 1.0.0" selfright publish web --version 1.0.0 --changes first

# --- from nothing but addresses and a secret to a node that is updated ---
port=$(port)
check "a secret" selfright node add n1 --label site=oslo --var port="$port" -o n1.join
check "no key is in the file" not grep -q "PRIVATE KEY" n1.join
check "it is listed as not enrolled yet" enrolment n1 open
check "and is no node" eval "selfright node list --json | holds '.nodes == []'"
check "the machine joins" join n1 n1.join
start_agent n1
check "it is online" within 20 is_online n1
first=$(serial n1)
check "its certificate names it" [ "$(openssl x509 -in "$(etc n1)/transport.crt" -noout -subject -nameopt multiline | sed -n 's/.*= //p')" = n1 ]
check "the secret is gone from it" [ ! -e "$(etc n1)/enrolment.secret" ]
check "it has the labels it was added with" eval "selfright node show n1 --json | holds '.labels.site == \"oslo\"'"
check "the audit trail says so" audit_has node-enrolled n1
check "web is rolled out to it" selfright rollout start --component web --version 1.0.0 --min-age 0 --stage all=nodes:n1
check "nginx runs" within 30 curl -sf "http://127.0.0.1:$port/healthz"

# Two whose turn comes at the end: the only road of one is the broker from then on, the other is away until its
# certificate has expired.
check "m1 joins" add_node m1
check "e1 joins" add_node e1
check "m1 is online" within 20 is_online m1
check "e1 is online" within 20 is_online e1
stop_agent m1
stop_agent e1
sed -i 's|https://[^"]*|https://127.0.0.1:1/|' "$(etc m1)/agent.yaml"
start_agent m1

# --- a copy of the join file ---
check "another machine joins with the same file" join copy n1.join
start_agent copy
check "it is refused, and says why" within 20 says_link copy "another key"
check "people are told" event_has secret-used-twice n1
check "and see it in the list" says 0 "secret used twice" selfright node list
check "and it takes nothing of what n1 is to run" [ ! -e "$tmp/nodes/copy/root/current" ]
stop_agent copy
check "a secret nobody made is refused" [ "$(jq -c '.secret = "0123456789abcdef0123456789abcdef01234567"' n1.join >bad.join && join bad bad.join && echo yes)" = yes ]
start_agent bad
check "with the same words as any other" within 20 says_link bad "not valid for this name"
check "the doctor says the same" says 1 "The first step that failed is 'certificate'" agent bad doctor
stop_agent bad
check "what is no request is refused" [ "$(curl -s -o said.json -w '%{http_code}' --cacert "$(etc n1)/ca.crt" -d '{"signed":{}}' "$(jq -r .urls[0] n1.join)v1/enrol")" = 400 ]
check "and what is too large" [ "$(head -c 20000 /dev/zero | curl -s -o said.json -w '%{http_code}' --cacert "$(etc n1)/ca.crt" --data-binary @- "$(jq -r .urls[0] n1.join)v1/enrol")" = 413 ]

# --- renewal by hand-over ---
nginx=$(cat "$tmp/nodes/n1/root/data/web/nginx.pid")
check "the certificate is renewed before its time" within 40 renewed n1 "$first"
check "because the broker took it" within 10 grep -q certificate-renewed "$tmp/nodes/n1/agent.log"
check "no other pair is left" [ ! -e "$(etc n1)/transport-next.key" ]
check "the node is online" within 20 is_online n1
check "support sees until when it is good" says 0 "certificate until 2" selfright node show n1
check "nginx never noticed" [ "$(cat "$tmp/nodes/n1/root/data/web/nginx.pid")" = "$nginx" ]
check "the same agent runs" kill -0 "${agent_n1:?}"

# --- a pair the broker does not take ---
stop_agent n1
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout strange.key -subj /CN=other -x509 -out strange.crt 2>/dev/null
openssl ecparam -genkey -name prime256v1 -noout -out "$(etc n1)/transport-next.key" 2>/dev/null
openssl req -new -key "$(etc n1)/transport-next.key" -subj /CN=n1 2>/dev/null |
	openssl x509 -req -CA strange.crt -CAkey strange.key -CAcreateserial -days 1 -out "$(etc n1)/transport-next.crt" 2>/dev/null
now=$(serial n1) renewals=$(grep -c certificate-renewed "$tmp/nodes/n1/agent.log")
start_agent n1
check "is given up" within 30 grep -q certificate-not-taken "$tmp/nodes/n1/agent.log"
check "and the old one is used" within 30 is_online n1
# Its time may have come meanwhile.
untouched() { [ "$(serial n1)" = "$now" ] || [ "$(grep -c certificate-renewed "$tmp/nodes/n1/agent.log")" -gt "$renewals" ]; }
check "which nobody touched but a renewal" untouched
stop_agent n1
rm "$(etc n1)"/transport-next.*

# --- an expired certificate ---
has_expired() { ! openssl x509 -in "$(etc e1)/transport.crt" -noout -checkend 0 >/dev/null; }
check "the certificate of a node that was away expires" within $((life + 10)) has_expired
check "support sees that before it calls" says 0 "its certificate ended" selfright node show e1
now=$(serial e1)
start_agent e1
check "it gets another by its identity key" within 40 renewed e1 "$now"
check "and is online" within 40 is_online e1
start_agent n1
check "n1 comes back" within 40 is_online n1

# --- a known node with a new key ---
check "a known name gets no secret by accident" says 3 "--replace" selfright node add n1 -o again.join
check "a reason is needed" says 2 "--reason" selfright node add n1 --replace -o again.join
check "it gets one with a reason" says 0 "node release" selfright node add n1 --replace --reason "mainboard died" --var port="$port" -o again.join
check "the new machine joins" join new again.join
start_agent new
check "it waits" within 20 says_link new "a person has to release"
check "and is shown as in quarantine" enrolment n1 waiting
check "with the fingerprint it shows itself" eval "selfright node list --json | holds --arg f '$(fingerprint new)' '.enrolments[0].fingerprint == \$f'"
check "the old key is in force meanwhile" within 20 is_online n1
check "the new machine runs nothing yet" not grep -q update-state "$tmp/nodes/new/agent.log"
check "a release needs a reason" says 2 "--reason" selfright node release n1
check "nobody else waits" says 3 "no new key" selfright node release n2 --reason x
stop_agent n1
for file in "$tmp"/nodes/n1/run/services/*.json; do kill -- "-$(jq .pid "$file")"; done
before_release=$(date +%s)
check "a person releases it" selfright node release n1 --reason "seen, ticket 4711"
check "it is the node now" within 30 eval '[ -e "$(etc new)/transport.crt" ] && is_online n1'
check "the audit trail says who" audit_has node-release n1
check "and why" eval "api http://x/v1/events | holds '[.events[] | select(.text | contains(\"ticket 4711\"))] | length == 1'"
check "gates count its age anew" eval "selfright node show n1 --json | holds --argjson b $before_release '(.added | fromdate) >= \$b'"
check "it is updated" within 40 curl -sf "http://127.0.0.1:$port/healthz"
start_agent n1
check "the old machine is nobody" within 20 grep -q "not-signed" "$tmp/serve.log"
stop_agent n1

# --- no road but the broker ---
check "m1 renews its certificate over MQTT" within 40 grep -q "node=m1 road=mqtt .*newer key" "$tmp/serve.log"
check "which the broker took" within 40 grep -q certificate-renewed "$tmp/nodes/m1/agent.log"

# --- a disk that was copied after it had joined ---
check "a node" add_node c1
check "is online" within 30 is_online c1
stop_agent c1
mkdir -p "$tmp/nodes/copy"
cp -a "$tmp/nodes/c1/etc" "$tmp/nodes/c1/root" "$tmp/nodes/copy"
sed -i "s|nodes/c1/|nodes/copy/|g" "$(etc copy)/agent.yaml"
for node in c1 copy; do sed -i "s|^broker:|broker:\n  retry: {base: 1s, cap: 1s, refused: 1s, spread: 1s}|" "$(etc $node)/agent.yaml"; done
start_agent c1
check "comes back" within 30 is_online c1
check "and is one machine" eval "selfright node show c1 --json | holds '.two_machines == null'"
start_agent copy
check "a copy of it is seen: they take turns" within 120 eval "selfright node show c1 --json | holds '.two_machines.returns >= 3'"
check "people read what to do" says 0 "selfright node add c1 --replace" selfright node show c1
check "the list names it" eval "selfright node list | grep -E '^c1 .*(two machines|quarantined)'"
check "the timeline says it once" eval "api http://x/v1/events?limit=1000 | holds '[.events[] | select(.kind == \"two-machines\")] | length == 1 and .[0].node == \"c1\"'"
stop_agent copy
check "a node that was never copied is one machine" eval "selfright node show m1 --json | holds '.two_machines == null'"

# --- a secret that is taken back ---
check "another secret" selfright node add n2 -o n2.join
check "is worth nothing after a refusal" selfright node release n2 --refuse --reason "sent to the wrong customer"
check "the machine joins" join n2 n2.join
start_agent n2
check "and is refused" within 20 says_link n2 "not valid for this name"

ended
