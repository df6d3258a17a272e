#!/usr/bin/env bash
# selfright check: is a release ready to go? With a real repository, signer and controller, and an agent that reports.
set -u
# shellcheck source=tests/system/fleet_lib.bash
. "$(dirname "$0")/fleet_lib.bash"

check "a fleet's folder" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "the controller" start_serve
make_component web
check "a component" selfright component add web --team web
echo one >web/tree/gone
check "web 1.0.0" publish web 1.0.0
rm web/tree/gone
echo two >web/tree/new
sed -i 's/name: there/name: still-there/' web/component.yaml
check "web 1.1.0, of high risk" eval 'echo 1.1.0 >web/tree/file && selfright publish web --version 1.1.0 --changes more --risk high'
check "a node" add_node n1
mkdir -p nodes/n1/etc/secrets.d && echo secret >nodes/n1/etc/secrets.d/api.token

# --- without rules ---
check "nothing asked, nothing wrong" says 0 "web 1.0.0: pass" selfright check web 1.0.0
check "one JSON document" eval "selfright check web 1.0.0 --json | holds '.verdict == \"pass\" and (.releases[0].items | length) == 7'"
check "what is not published fails" says 1 "web 9.0.0 is not published" selfright check web 9.0.0
check "also as JSON" eval "selfright check web 9.0.0 --json | holds '.verdict == \"fail\" and .releases[0].items[0].item == \"signatures\"'"
check "no version is wrong usage" says 2 "is no version" selfright check web new
check "nor a plan and a rollout" says 2 "one of" selfright check web 1.0.0 --plan p --rollout r
check "no such rollout" says 3 "no rollout" selfright check web 1.0.0 --rollout none
check "1.0.0 starts" selfright rollout start --id first --component web --version 1.0.0 --stage all=all
check "and is there" within 30 rollout_is first done

# --- the difference to what runs ---
selfright check web 1.1.0 --json >out.json
check "the difference is counted" holds '.difference | .from == "1.0.0" and .files.added == 1 and .files.removed == 1 and .files.changed == 1' out.json
check "by name" holds '[.difference.files.list[] | [.path, .change]] == [["file","changed"],["gone","removed"],["new","added"]]' out.json
check "with checks and download" holds '.difference | .checks == {added:["still-there"],removed:["there"],changed:[]} and .download.full > 0 and .bytes.written == 10' out.json
check "people see it" says 0 "1 files added, 1 removed, 1 changed" selfright check web 1.1.0

# --- rules ---
cat >outside <<'SH'
#!/bin/sh
case $1 in
good) echo "ticket $2 of $3 is closed, token ${TOKEN:-none}, secret ${SECRET:-none}" ;;
bad) printf 'first\033[2J\nsecond\377\n'; exit 3 ;;
huge) yes 'a long line' | head -c 3000000 ;;
hang) trap '' TERM; sleep 300 & echo waiting; wait; sleep 300 ;;
esac
SH
chmod 755 outside
rules() { cat >"$SELFRIGHT_DIR/preflight.yaml"; }
rules <<'YAML'
require: [changes, rsk]
YAML
check "a mistake in the rules is named" says 1 "preflight.yaml:1: expected changes, risk" selfright check web 1.1.0
check "and stops a rollout" says 3 "preflight.yaml:1: expected changes, risk" selfright rollout start --component web --version 1.1.0 --stage all=all
rules <<YAML
require: [changes, risk, owner, on_call]
expected_duration: 30m
risk: {high: {stages: 3, soak: 1h, approvals: 1}}
commands:
  - {name: ticket, run: [$tmp/outside, good, "\${component}", "\${version}; touch pwned"], environment: [TOKEN]}
  - {name: huge, run: [$tmp/outside, huge], required: false}
  - {name: scan, run: [$tmp/outside, bad], required: false}
  - {name: tests, run: [$tmp/outside, hang], timeout: 1s}
  - {name: none, run: [$tmp/missing]}
YAML
cat >plan.yaml <<'YAML'
component: web
version: 1.1.0
min_age: 0s
stages:
  - {name: canary, nodes: [n1], soak: 30m}
  - {name: rest, all: true}
YAML
check "commands that have not run are no result" says 1 "'ticket' (preflight.yaml:5) has no result" selfright check web 1.1.0 --no-commands
TOKEN=seven SECRET=eight selfright check web 1.1.0 --plan plan.yaml --json >out.json
code=$?
check "something fails" [ $code = 1 ]
findings() { holds --arg i "$1" --arg t "$2" '[.releases[0].items[] | select(.item == $i).findings[].text | contains($t)] | any' out.json; }
outcome() { holds --arg n "$1" --arg o "$2" '.commands[] | select(.name == $n).outcome == $o' out.json; }
check "a field is missing" findings fields "the policy says no 'on_call' (preflight.yaml:1"
check "too few stages, by the plan's line" findings risk "plan.yaml:4: expected at least 3 stages for a release of risk high (preflight.yaml:3), found 2"
check "too short a soak, by its line" findings risk "plan.yaml:5: expected a soak of at least 3600 s in the stage 'canary'"
check "too few approvals" findings risk "needs at least 1 approvals"
check "a command that is content" outcome ticket pass
check "was given its arguments, never a shell" holds '.commands[] | select(.name == "ticket").output == "ticket web of 1.1.0; touch pwned is closed, token seven, secret none\n"' out.json
check "and did not touch" [ ! -e pwned ]
check "one that is not" outcome scan fail
check "whose control characters do nothing" holds '.commands[] | select(.name == "scan").output == "first?[2J\nsecond?\n"' out.json
check "one that says too much" eval "outcome huge pass && holds '.commands[] | select(.name == \"huge\").output | length <= 4096' out.json"
check "one that hangs is ended" eval "outcome tests error && holds '.commands[] | select(.name == \"tests\").status == \"did not end within 1 s\"' out.json"
check "with all that it started" not pgrep -f "$tmp/outside hang"
check "one that is not there" outcome none error
check "what is required fails, what is not warns" holds '[.releases[0].items[] | select(.item == "results").findings[].outcome] == ["warn","fail","fail"]' out.json
check "the record keeps them" eval "selfright release show web 1.1.0 --json | holds '[.evidence[].name] == [\"huge\",\"none\",\"scan\",\"tests\",\"ticket\"] and .owner == \"web\"'"
check "people see them" says 0 "tests: error (did not end within 1 s)" selfright release show web 1.1.0
check "who ran them is in the audit log" eval "api http://x/v1/audit | holds '[.entries[] | select(.action == \"evidence\").detail] | index(\"scan of web 1.1.0: fail\")'"
check "another release has none" eval "selfright release show web 1.0.0 --json | holds '.evidence == []'"
check "no record of what is not published" says 3 "not published" selfright release show web 9.0.0

# --- a rollout is judged the same ---
check "it does not start" says 3 "web 1.1.0 is not ready: fields: the policy says no 'on_call'" selfright rollout start plan.yaml
check "nor does it exist" says 3 "no rollout" selfright rollout show web-1-1-0
check "a plan says so" says 0 "fail: risk of web: plan.yaml:4: expected at least 3 stages" selfright rollout plan plan.yaml
check "an override says why" says 2 "--reason" selfright rollout start plan.yaml --override fields
check "of something that is judged" says 2 "is nothing that preflight judges" selfright rollout start plan.yaml --override window --reason x
check "all that fails is needed" says 3 "not ready: risk: " selfright rollout start plan.yaml --override fields --override results --reason 'ticket 4711'
check "then it starts" selfright rollout start plan.yaml --override fields --override risk --override results --reason 'ticket 4711'
check "and the audit log has each" eval "api http://x/v1/audit | holds '[.entries[] | select(.action == \"override\").detail] ==
	[\"web-1-1-0: fields: ticket 4711\",\"web-1-1-0: risk: ticket 4711\",\"web-1-1-0: results: ticket 4711\"]'"
check "the node takes it" within 30 believes n1 web 1.1.0
check "the record names its rollout" eval "selfright release show web 1.1.0 --json | holds '[.rollouts[].rollout] == [\"web-1-1-0\"]'"
check "a chat hook reads each step as a line of JSON" holds -s '[.[].kind] | index("rollout-started") and index("preflight-overridden")' <(selfright watch --once --json)
selfright rollout cancel web-1-1-0 --reason over >/dev/null
rm "$SELFRIGHT_DIR/preflight.yaml"

# --- no rollback by accident ---
check "a lower version fails" says 1 "1 of 1 nodes run a higher version, most of them 1.1.0" selfright check web 1.0.0
check "unless it is meant" says 0 "web 1.0.0: pass" selfright check web 1.0.0 --downgrade
check "a rollout of it does not start" says 3 "not ready: version: " selfright rollout start --component web --version 1.0.0 --stage all=all
check "a downgrade does" selfright rollout start --id down --component web --version 1.0.0 --profile downgrade
check "and the node goes back" within 30 rollout_is down done
check "the same again is a warning" says 0 "every node that has web runs 1.0.0 already" selfright check web 1.0.0
check "which fails if it is to" says 1 "every node that has web runs" selfright check web 1.0.0 --strict

# --- requirements, against the node's last report ---
cat >>web/component.yaml <<'YAML'
compatible: {arch: mips}
requires: {agent: ">=9.0.0", components: {dns: ">=1.0.0"}}
YAML
check "web 1.2.0 asks for much" publish web 1.2.0
check "the node lacks it" says 1 "n1 lacks the label arch=mips, an agent >=9.0.0, dns >=1.0.0" selfright check web 1.2.0
check "counted" eval "selfright check web 1.2.0 --json | holds '.releases[0].nodes.missing_something == 1 and (.releases[0].nodes.missing | length) == 3'"

sed -i '$d' web/component.yaml && sed -i '$d' web/component.yaml
cat >>web/component.yaml <<YAML
requires: {vars: [port, colour], files: [$tmp/nodes/n1/etc/secrets.d/api.token, $tmp/nodes/n1/etc/secrets.d/tls.key, /nowhere]}
YAML
check "web 1.3.0 needs variables and secrets" publish web 1.3.0
selfright check web 1.3.0 --json >out.json
check "a secret that is not there" findings requirements "1 node does not have the file $tmp/nodes/n1/etc/secrets.d/tls.key"
check "a variable that is not" findings requirements "1 node does not have the variable 'colour'"
check "what lies elsewhere nobody knows" findings requirements "nobody knows whether 1 node has the file /nowhere"
check "and what is there is not missed" holds '[.releases[0].nodes.missing[].what | select(test("api.token|port"))] == []' out.json
check "names leave the node, values do not" eval "selfright node show n1 --json | holds '.means.vars == [\"port\"] and .means.secrets.names == [\"api.token\"]'"

# --- who has not signed ---
mkdir -p keys
selfright key create qa-1 --keys keys >/dev/null
selfright repo approvers add qa --key keys/qa-1.pub --threshold 1 >/dev/null
selfright component policy web --approval qa:regular >/dev/null
check "whose approval is asked" eval "selfright check web 1.1.0 --json | holds '.releases[0].asks == [{approver: \"qa\", threshold: 1}]'"
check "a rollout that waits for it" selfright rollout start --id waits --component web --version 1.1.0 --stage all=all
check "lacks it" says 1 "stage all has 0 of 1 signatures of qa" selfright check web 1.1.0 --rollout waits
selfright approve waits --stage all --key keys/qa-1.pem >/dev/null
check "until qa signs" says 0 "signatures    pass" selfright check web 1.1.0 --rollout waits
make_component dns
check "a team of two keys" selfright component add dns --team dns --keys 2 --threshold 2
mv "$SELFRIGHT_DIR"/keys/team-dns-2.pem keys/
check "one of them signs" says 3 "nothing is published yet" selfright publish dns --version 1.0.0 --changes first --request dns.request.json
check "the other is missing" says 1 "team-dns has 1 of 2 signatures" selfright check dns 1.0.0 --request dns.request.json
check "by its key" eval "selfright check dns 1.0.0 --request dns.request.json --json | holds '(.keys_that_did_not_sign | length) == 1 and .complete == false and .lists_release'"
check "it is no request for another version" says 1 "does not list dns/2.0.0/release.json" selfright check dns 2.0.0 --request dns.request.json
check "no request at all" says 1 "is no signing request" selfright check dns 1.0.0 --request "$SELFRIGHT_DIR/fleet.json"

# --- from hostile hands ---
post() { api -o said -w '%{http_code}' -X POST "http://x/v1/releases/web/1.1.0/evidence" -d "$1"; }
sha=$(selfright release show web 1.1.0 --json | jq -r .release_sha256)
check "results of another release are refused" [ "$(post '{"release_sha256":"00","evidence":[{"name":"a","outcome":"pass","command":[]}]}')" = 409 ]
check "a name that is none" [ "$(post "{\"release_sha256\":\"$sha\",\"evidence\":[{\"name\":\"../a\",\"outcome\":\"pass\",\"command\":[]}]}")" = 400 ]
check "an outcome that is none" [ "$(post "{\"release_sha256\":\"$sha\",\"evidence\":[{\"name\":\"a\",\"outcome\":\"fine\",\"command\":[]}]}")" = 400 ]
printf '{"release_sha256":"%s","evidence":[{"name":"a","outcome":"pass","command":["%s"]}]}' "$sha" "$(head -c 300000 /dev/zero | tr '\0' x)" >long.json
check "a command that is too long" [ "$(post @long.json)" = 400 ]
make_component odd
selfright component add odd --team odd >/dev/null
check "a release with a cursor in its words" selfright publish odd --version 1.0.0 --changes $'faster\033[2Jslower'
check "moves none" says 0 "changes: faster?[2Jslower" selfright release show odd 1.0.0
check "one bad among good ones stores none" eval "[ \$(post '{\"release_sha256\":\"$sha\",\"evidence\":[{\"name\":\"b\",\"outcome\":\"pass\",\"command\":[]},{\"name\":\"c\"}]}') = 400 ] &&
	selfright release show web 1.1.0 --json | holds '[.evidence[].name] | index(\"b\") | not'"

# --- a large fleet ---
stop_serve
check "the node has 3,000 copies" copy_node n1 3000
# Thirty components more for each: a list of more than 8 MiB.
check "with many components" python3 - "$SELFRIGHT_DIR/serve/selfright.db" <<'END'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("""WITH RECURSIVE more(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM more WHERE i < 30)
    INSERT INTO components (node, component, version, previous, rollout, stage, why, why_detail, wants, denies)
    SELECT node, component || '-' || i, version, previous, rollout, stage, 'window', 'the window opens at 22:00', wants, denies
    FROM components JOIN more WHERE component = 'web'""")
db.commit()
END
check "the controller of 3,001 nodes" start_serve
# It is looked at in slices; each attempt counts who is answered between the question and its answer.
others_are_answered() {
	python3 - "$SELFRIGHT_DIR/serve/control.sock" <<'END'
import select, socket, sys
def send(text):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    s.sendall(text.encode())
    return s
def post(body):
    return send(f"POST /v1/check HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}")
def read(s):
    parts = []
    while part := s.recv(65536):
        parts.append(part)
    return b"".join(parts)
body = '{"component":"web","version":"1.1.0"}'
for attempt in range(20):
    post(body).close() # whoever asks and goes leaves nothing behind
    check, between = post(body), 0
    while not select.select([check], [], [], 0)[0]:
        assert b"200 OK" in read(send("GET /v1/freeze HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
        between += 1
    assert b"200 OK" in read(check)
    print("attempt", attempt, "answered between:", between)
    if between >= 4:
        sys.exit(0)
sys.exit(1)
END
}
check "others are answered while a release is checked against all of them" others_are_answered
selfright node list --json >list.json
check "their list is larger than a document may be" test "$(stat -c %s list.json)" -gt 8388608
check "and shown whole" eval '[ "$(selfright node list | grep -c "^n1-")" = 3000 ]'
check "each of them was looked at, once" eval "selfright check web 1.1.0 --json | holds '.releases[0].nodes.judged == 3001'"
check "a start is checked and answered as ever" selfright rollout start --id large --component web --version 1.1.0 --stage few=nodes:n1-00007 --stage all=all --replace --override signatures --override risk --reason test
ended
