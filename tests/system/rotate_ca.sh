#!/usr/bin/env bash
# The fleet's CA is exchanged for another while nodes go on: a real controller, mosquitto, nodes that reach it by HTTPS and
# MQTT, by MQTT alone, by HTTPS alone (one knows no broker, one does not reach it), and one that was off all the time.
# A first attempt is withdrawn before.
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/fleet_lib.bash
. "$here/fleet_lib.bash"
etc() { echo "$tmp/nodes/$1/etc"; }
is_online() { selfright node show "$1" --json | holds .online; }
cas_of() { openssl crl2pkcs7 -nocrl -certfile "$(etc "$1")/${2:-ca.crt}" | openssl pkcs7 -print_certs -noout | sed -n 's/^subject=.*CN *= *//p' | sort | paste -sd,; }
trusts() { [ "$(cas_of "$1")" = "$2" ]; }
issuer_is() { openssl x509 -in "$1" -noout -issuer | grep -q "CN *= *$2\$"; }
has_certificate_of() { issuer_is "$(etc "$1")/transport.crt" "$2"; }
step_is() { selfright ca show --json | holds --arg s "$1" '.step == $s'; }
lacking_are() { [ "$(selfright ca show --json | jq -r '.lacking | sort | join(",")')" = "$1" ]; }
event_has() { api http://x/v1/events | holds --arg k "$1" --arg t "$2" '[.events[] | select(.kind == $k and (.text | contains($t)))] | length > 0'; }
https() { jq .https_port "$SELFRIGHT_DIR/serve/serve.json"; }
serves_one_of() { openssl s_client -connect "127.0.0.1:$(https)" </dev/null 2>/dev/null | openssl x509 -noout -issuer | grep -q "CN *= *$1\$"; }
broker_takes() { # FILES: transport.crt and .key in this folder
	mosquitto_pub -h 127.0.0.1 -p "$(jq .broker_port "$SELFRIGHT_DIR/serve/serve.json")" --cafile "$SELFRIGHT_DIR/serve/tls/ca.crt" \
		--cert "$1/transport.crt" --key "$1/transport.key" -i n1 -t selfright/v1/demo/node/n1/event -m '{}'
}
old="demo selfright CA" withdrawn="demo selfright CA 2" new="demo selfright CA 3"
by_https_alone() { # NODE BROKER: what agent.yaml says of one
	python3 -c 'import re, sys
text, found = re.subn(r"(?m)^broker:\n(  .*\n)+", sys.argv[2], open(sys.argv[1]).read())
assert found == 1
open(sys.argv[1], "w").write(text + "poll: {without_broker: 2s}\n")' "$(etc "$1")/agent.yaml" "$2"
}

check "a fleet" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "the controller" start_serve --certificate-life 60s
for node in n1 m1 off p w; do check "$node joins" add_node $node; done
for node in n1 m1 off; do check "$node is online" within 30 is_online $node; done
stop_agent m1
sed -i 's|https://[^"]*|https://127.0.0.1:1/|' "$(etc m1)/agent.yaml"
stop_agent n1
stop_agent p
stop_agent w
check "p knows no broker" by_https_alone p ""
check "w does not reach it" by_https_alone w $'broker:\n  host: 127.0.0.1\n  port: 1\n'
start_agent p
start_agent w
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout site.key -subj "/CN=the site" -out site.crt 2>/dev/null
(echo "# the firewall here"; cat site.crt) >>"$(etc n1)/ca.crt"
# One of the old CA that does not end meanwhile, however long this takes.
mkdir before && openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout before/transport.key -subj /CN=n1 -out before/csr 2>/dev/null &&
	openssl x509 -req -in before/csr -CA "$SELFRIGHT_DIR/signer/ca.crt" -CAkey "$SELFRIGHT_DIR/signer/ca.key" -set_serial 4711 -days 1 \
		-extfile <(echo extendedKeyUsage=clientAuth) -out before/transport.crt 2>/dev/null || exit 1
start_agent m1
start_agent n1

# --- before anything ---
check "one CA, nothing under way" step_is idle
check "there is nothing to switch to" says 3 "nothing to switch to" selfright ca switch
check "nor to finish" says 3 "nothing to finish" selfright ca finish
check "a dry run says what it would do" says 0 "would make another CA" selfright ca rotate --dry-run
check "and does nothing" [ ! -e "$SELFRIGHT_DIR/signer/ca-2.crt" ]
check "the nodes say what they trust" within 30 eval "selfright ca show --json | holds '.authorities[0].trusted_by == 5 and .authorities[0].issued_to == 5'"
stop_agent off

# --- one is announced, and withdrawn ---
check "there is nothing to cancel" says 3 "nothing to cancel" selfright ca cancel
check "another CA" selfright ca rotate --reason "ticket 4710"
check "n1 trusts both, and still its site's" within 60 trusts n1 "$old,$withdrawn,the site"
check "so does p, without a broker" within 60 trusts p "$old,$withdrawn"
check "a dry run of the way back" says 0 "would have targets say" selfright ca cancel --dry-run
check "changes nothing" step_is distributing
check "the way back, as JSON" eval 'selfright ca cancel --reason "for the wrong fleet, ticket 4711" --json >cancelled'
check "says that nothing is under way" eval 'holds ".step == \"idle\" and (.authorities | length) == 1 and (.retired | length) == 1" <cancelled'
check "people read why" event_has ca-retire "wrong fleet, ticket 4711"
check "the signer has put the new one away" [ -e "$SELFRIGHT_DIR/signer/retired-ca-2.key" ]
check "and has no other" [ ! -e "$SELFRIGHT_DIR/signer/ca-2.crt" ]
check "n1 got through without it and drops it, and keeps its site's" within 90 trusts n1 "$old,the site"
check "so does m1" within 90 trusts m1 "$old"
check "and p, without a broker" within 90 trusts p "$old"
check "n1 is online" within 60 is_online n1
check "m1 is online" within 60 is_online m1
check "nothing is left to cancel" says 3 "nothing to cancel" selfright ca cancel

# --- another CA is announced ---
check "another CA" selfright ca rotate --reason "the old one is seven years old"
check "it is announced and issues nothing" step_is distributing
check "by HTTPS or MQTT: n1 trusts both, and still its site's" within 60 trusts n1 "$old,$new,the site"
check "by MQTT alone: m1 trusts both" within 60 trusts m1 "$old,$new"
check "by HTTPS alone: p trusts both" within 60 trusts p "$old,$new"
check "and w" within 60 eval 'cas_of w | grep -q "$new"'
check "n1 is online" within 30 is_online n1
check "m1 is online" within 30 is_online m1
check "its certificate is of the old one" has_certificate_of n1 "$old"
check "what was before is kept" eval '[ "$(cas_of n1 ca-before.crt)" = "$old,the site" ]'
check "one is lacking" within 30 lacking_are off
check "people see which" says 0 "still lacking: off" selfright ca show
check "so it is not switched" says 3 "1 of 5 nodes do not trust the new CA yet (off)" selfright ca switch
check "force needs a reason" says 2 "--reason" selfright ca switch --force
check "a second rotation waits for this one" says 3 "under way" selfright ca rotate

# --- it issues ---
check "a dry run of the switch" says 0 "would let" selfright ca switch --force --reason x --dry-run
check "changes nothing" step_is distributing
check "the switch" selfright ca switch --force --reason "off is in a lorry, ticket 4711"
check "people read why" event_has ca-switch "ticket 4711"
check "it is under way" step_is renewing
check "the servers show the new one's certificate" within 30 serves_one_of "$new"
check "n1 gets a certificate of it" within 60 has_certificate_of n1 "$new"
check "and m1, over MQTT" within 60 has_certificate_of m1 "$new"
check "and p, which knows no broker" within 90 has_certificate_of p "$new"
check "and w, which reaches none" within 90 has_certificate_of w "$new"
check "what issues is not cancelled" says 3 "issues already" selfright ca cancel
check "n1 is online" within 30 is_online n1
check "m1 is online" within 30 is_online m1
check "the broker still takes one of the old" within 20 broker_takes before
check "a controller that starts again" stop_serve
check "goes on with the new" start_serve --certificate-life 60s
check "n1 comes back" within 60 is_online n1
check "a new machine joins meanwhile" add_node n3
check "and trusts both" trusts n3 "$old,$new"

# --- the old one goes ---
check "only the one that is off is lacking" within 60 lacking_are off
check "it is not finished" says 3 "1 of 6 nodes have no certificate of the new CA" selfright ca finish
check "finished with a reason" selfright ca finish --force --reason "off is in a lorry, ticket 4711"
check "nothing is under way" step_is idle
check "the signer has put the old one away" [ -e "$SELFRIGHT_DIR/signer/retired-ca.key" ]
check "n1 got through without it and drops it, and keeps its site's" within 60 trusts n1 "$new,the site"
check "so does m1" within 60 trusts m1 "$new"
check "and n3" within 60 trusts n3 "$new"
check "and p" within 60 trusts p "$new"
check "they are online: n1" within 30 is_online n1
check "m1" within 30 is_online m1
check "n3" within 30 is_online n3
check "the broker takes no certificate of the old" within 20 eval '! broker_takes before'
check "the agents never ended" eval 'kill -0 $agent_n1 && kill -0 $agent_m1'

# --- the one that was off ---
start_agent off
check "the one that was off says whose certificate it does not know" within 60 eval "agent off status --json | holds '.link.reason | contains(\"not our CA\")'"
check "a stick" selfright bundle -o stick.tar
check "brings it no version" says 1 "nothing has changed" selfright-agent install stick.tar --config-dir "$(etc off)"
check "but the new CA, signed" within 60 eval 'cas_of off | grep -q "$new"'
check "gets a certificate of it by its identity" within 60 has_certificate_of off "$new"
check "is online" within 60 is_online off
check "and drops the old one too" within 60 trusts off "$new"
check "all nodes are where they should be" within 60 lacking_are ""
check "as the list says" eval "selfright ca show --json | holds '.authorities | length == 1 and .[0].trusted_by == 6 and .[0].issued_to == 6'"
ended
