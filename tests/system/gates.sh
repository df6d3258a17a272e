#!/usr/bin/env bash
# Gates with the real programs: what they see of pages, Prometheus and commands, also of hostile ones, and what a
# rollout does by it. Prometheus and Alertmanager are stood in for by gate_server.py; the real one: tests/nightly.
set -u
# shellcheck source=tests/system/fleet_lib.bash
. "$(dirname "$0")/fleet_lib.bash"
here=$(cd "$SELFRIGHT_SOURCE/tests/system" && pwd)

start_server() { # FOLDER NAME [CERTIFICATE KEY]
	local folder=$1 name=$2
	shift 2
	mkdir -p "$folder"
	python3 "$here/gate_server.py" "$folder" "$@" >"$tmp/$name.port" 2>"$tmp/$name.log" &
	pids+=($!)
	within 20 test -s "$tmp/$name.port" && eval "$name=$(cat "$tmp/$name.port")"
}
# --- one look at a time ---
look() { echo "$1" | selfright-gate; }
sees() { # QUESTION SAID TEXT
	local out
	out=$(look "$1") && echo "$out" && echo "$out" | holds --arg s "$2" --arg t "$3" '.said == $s and (.text | contains($t))'
}
page() { echo "{\"gate\": {\"http\": {\"url\": \"http://127.0.0.1:$plain/$1\"${2:+, $2}}}}"; }
metric() { # PATH [TIMEOUT]
	echo "{\"gate\": {\"prometheus\": {\"server\": \"main\", \"query\": \"up\", \"max\": 1, \"timeout\": \"${2:-30s}\", \"over\": \"10m\"}}, \"now\": $(date +%s),
		\"server\": {\"kind\": \"prometheus\", \"url\": \"http://127.0.0.1:$plain$1\"}}"
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
	-addext subjectAltName=DNS:localhost,IP:127.0.0.1 >/dev/null 2>&1
check "a server" start_server "$tmp/answers" plain
check "one with TLS" start_server "$tmp/secret" secure cert.pem key.pem
a=$tmp/answers
echo "200 all is ok" >"$a/page"
check "a page" sees "$(page page)" pass "status 200"
check "with its text" sees "$(page page '"body": "is ok"')" pass "status 200"
check "without it" sees "$(page page '"body": "is well"')" fail "without the text"
check "another status" sees "$(page nothing)" fail "status 404"
check "redirections are not followed" sees "$(page moved)" fail "not followed"
check "too late" sees "$(page slow '"within": "200ms"')" fail "too late"
check "a page without an end: its beginning is looked at" sees "$(page huge)" pass "status 200"
check "one that drips" sees "$(page drip '"timeout": "1s"')" fail "127.0.0.1"
check "nobody there" sees '{"gate": {"http": {"url": "http://127.0.0.1:1/"}}}' fail "127.0.0.1"
check "a name that is not known is no word on the page" sees '{"gate": {"http": {"url": "http://no-such-name.invalid/"}}}' inconclusive ""
check "a certificate of nobody known" sees "{\"gate\": {\"http\": {\"url\": \"https://localhost:$secure/page\"}}}" fail "certificate"
echo "200 ok" >"$tmp/secret/page"
check "with its CA" sees "{\"gate\": {\"http\": {\"url\": \"https://localhost:$secure/page\", \"ca_file\": \"$tmp/cert.pem\"}}}" pass "status 200"

echo 0.25 >"$a/value"
check "a range of values" eval "look \"\$(metric '')\" | holds '.low == \"0.25\" and .high == \"0.25\" and .samples >= 9 and .data.series[0].labels == \"job=web\"'"
echo NaN >"$a/value"
check "NaN is no value" eval "look \"\$(metric '')\" | holds '.samples == 0 and .said == \"inconclusive\"'"
: >"$a/value"
check "no series" eval "look \"\$(metric '')\" | holds '.samples == 0'"
echo error >"$a/value"
check "a query that is refused says why" sees "$(metric '')" inconclusive "parse error"
for path in huge drip wrong text none; do
	check "an answer that is none: /$path" sees "$(metric "/$path" 2s)" inconclusive ""
done
check "nobody there is no data" sees "$(metric ':1')" inconclusive ""

# --- the real Prometheus, for tests/nightly: its package is too large for every run ---
real_prometheus() {
	local port
	port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	mkdir -p real
	printf 'global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yml]\nscrape_configs:\n  - {job_name: self, static_configs: [{targets: ["127.0.0.1:%s"]}]}\n' \
		"$port" >real/prometheus.yml
	printf 'groups:\n  - name: test\n    rules:\n      - {alert: Loud, expr: "vector(1) > 0", labels: {severity: loud}}\n      - {alert: Never, expr: "vector(0) > 0", labels: {severity: page}}\n' >real/rules.yml
	prometheus --config.file=real/prometheus.yml --storage.tsdb.path=real/data --web.listen-address="127.0.0.1:$port" >real/log 2>&1 &
	pids+=($!)
	real=http://127.0.0.1:$port
	within 60 eval "curl -s '$real/api/v1/query?query=count(ALERTS)' | holds '.data.result[0].value[1] == \"1\"'"
}
asks_real() { # KIND SETTINGS OPENED_AGO
	echo "{\"gate\": {\"$1\": {\"server\": \"main\", $2}}, \"opened_at\": $(($(date +%s) - $3)), \"server\": {\"kind\": \"prometheus\", \"url\": \"$real\"}}"
}
if [ "${2:-}" = --prometheus ]; then
	command -v prometheus >/dev/null || { echo "no prometheus here; it is in Debian's package of that name"; exit 1; }
	check "the real Prometheus" real_prometheus
	sleep 20 # of samples
	check "a range of values" eval "look \"\$(asks_real prometheus '\"query\": \"up\", \"max\": 1, \"step\": \"1s\", \"over\": \"10s\"' 600)\" |
		holds '.low == \"1\" and .high == \"1\" and .samples >= 5'"
	check "with the worst of several series" eval "look \"\$(asks_real prometheus '\"query\": \"prometheus_http_requests_total or up\", \"max\": 1, \"step\": \"1s\", \"over\": \"10s\"' 600)\" |
		holds '.data.series_count > 1 and (.high | tonumber) >= (.low | tonumber)'"
	check "what is no number" eval "look \"\$(asks_real prometheus '\"query\": \"up / 0 - up / 0\", \"max\": 1, \"step\": \"1s\", \"over\": \"10s\"' 600)\" | holds '.samples == 0'"
	check "no series" eval "look \"\$(asks_real prometheus '\"query\": \"no_such\", \"max\": 1, \"over\": \"10m\"' 600)\" | holds '.samples == 0'"
	check "a query that is none" sees "$(asks_real prometheus '"query": "up{", "max": 1' 600)" inconclusive "refused the query"
	check "quiet" sees "$(asks_real alerts '"labels": {"severity": "page"}, "for": "1m"' 600)" pass "no alert"
	check "an alert that began since" sees "$(asks_real alerts '"labels": {"severity": "loud"}, "for": "1m"' 86400)" fail "began since the stage opened: Loud"
	check "one from before" sees "$(asks_real alerts '"labels": {"severity": "loud"}, "for": "1m"' 1)" fail "1 alert is firing: Loud"
	ended
fi

# --- a fleet ---
mkdir -p checks
cat >checks/smoke <<'SH'
#!/bin/sh
echo "$SELFRIGHT_COMPONENT $SELFRIGHT_VERSION by $(id -un)"
exit "$(cat "$1" 2>/dev/null || echo 3)"
SH
chmod 755 checks checks/smoke
check "a fleet's folder" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "the controller" start_serve
make_component web
check "a component" selfright component add web --team web
check "two nodes" eval 'add_node n1 && add_node n2'
for v in 1.0.0 1.1.0 1.2.0 1.3.0; do check "web $v" publish web $v; done
check "1.0.0 everywhere" selfright rollout start --id first --component web --version 1.0.0 --stage all=all
check "it is done" within 60 rollout_is first done

plan() { # VERSION GATES
	printf 'component: web\nversion: %s\nmin_age: 0s\nstages:\n  - {name: one, nodes: [n1]}\n  - {name: all, all: true}\ngates:\n  silent_after: 1h\n  require:\n%s\n' "$1" "$2" >"plan-$1.yaml"
}
start() { selfright rollout start "plan-$1.yaml" --id "$2"; }
explains() { # ID JQ
	selfright rollout explain "$1" --json | holds "$2"
}
verdict() { explains "$1" ".gates[] | select(.name == \"$2\").verdict == \"$3\""; }

plan 1.1.0 "    - {name: rate, prometheus: {server: main, query: rate, max: 0.5, samples: 1, over: 10m, step: 1s}, every: 1s}
    - {name: door, http: {url: 'http://127.0.0.1:$plain/page', body: is ok, successes: 2, failures: 60}, every: 1s}
    - {name: smoke, command: {argv: [$tmp/checks/smoke, $tmp/exit]}, every: 1s}
    - {name: board, ask: does the board agree?}"
check "a plan whose server nobody has named" says 3 "which gates.yaml does not name" start 1.1.0 second
printf 'servers:\n  main: {prometheus: "https://localhost:%s", ca_file: %s, token_file: %s}\n' "$secure" "$tmp/cert.pem" "$tmp/token" >"$SELFRIGHT_DIR/gates.yaml"
check "and a program that nobody allowed" says 3 "in no folder that gates.yaml allows" start 1.1.0 second
printf 'commands: {user: nobody, folders: [%s]}\n' "$tmp/checks" >>"$SELFRIGHT_DIR/gates.yaml"
[ "$(id -u)" = 0 ] || sed -i 's/user: nobody, //' "$SELFRIGHT_DIR/gates.yaml"
check "a bad gate is named with its line" says 2 "plan-bad.yaml:5:" eval "printf 'component: web\nversion: 1.1.0\nstages: [{name: a, all: true}]\ngates:\n  require: [{http: {url: x}}]\n' >plan-bad.yaml; start bad x"
check "what it would ask is shown before it starts" says 0 "board" selfright rollout plan plan-1.1.0.yaml
check "1.1.0" start 1.1.0 second
check "n1 has it" within 60 runs n1 web 1.1.0
check "nobody there who knows the token: no data" within 30 verdict second rate inconclusive
check "so it waits, and says for what" within 30 says 0 "the gate 'rate' cannot tell" selfright rollout show second
echo sesame >"$tmp/token"
echo sesame >"$tmp/secret/token"
echo 0.25 >"$tmp/secret/value"
check "with the token" within 30 verdict second rate pass
check "what it judged is kept" explains second '.gates[] | select(.name == "rate") | .looks[-1].high == "0.25"'
echo "500 broken" >"$a/page"
check "the page is bad" within 30 says 0 "the gate 'door' cannot tell: bad" selfright rollout show second
echo "200 all is ok" >"$a/page"
check "it is good twice" within 30 verdict second door pass
check "the command cannot tell" within 30 explains second '.gates[] | select(.name == "smoke").text | contains("exited 3: web 1.1.0 by")'
echo 0 >exit
chmod 644 exit
check "then it can" within 30 verdict second smoke pass
check "a person is asked, last" within 30 says 0 "does the board agree?; a person is asked" selfright rollout show second
asked_once() { api "http://x/v1/events?after=0&limit=1000" | holds "[.events[] | select(.kind == \"gate-asks\")] | length == 1"; }
check "once" within 30 asked_once
check "an answer has a reason" says 2 "say why" selfright rollout answer second --gate board --pass
check "and a gate" says 3 "has no gate 'nobody'" selfright rollout answer second --gate nobody --pass --reason x
check "what every stage has is not argued away" says 3 "and nothing else" selfright rollout answer second --gate soak --waive --reason x
check "nothing has opened meanwhile" explains second '.action == "wait"'
before=$(date -u +%Y-%m-%dT%H:%M:%SZ)
sleep 1.1 # what is decided from here on is not of that second any more
stop_serve
check "the controller starts again" start_serve
check "and has asked already" explains second '.action == "wait"'
check "the board agrees" selfright rollout answer second --gate board --pass --reason 'minutes of the 28th'
check "n2 has it" within 60 runs n2 web 1.1.0
check "the last stage asks as well" within 60 says 0 "does the board agree?" selfright rollout show second
check "it does" selfright rollout answer second --gate board --pass --reason 'same minutes'
check "it is done" within 60 rollout_is second done
check "who said so stands in the audit trail" eval "api 'http://x/v1/audit' | holds '[.entries[] | select(.action == \"answer\" and (.detail | test(\"minutes of the 28th\")))] | length == 1'"
check "the past is made again: then it waited for the board" eval "selfright rollout explain second --at $before --json |
	holds '.action == \"wait\" and (.why | contains(\"does the board agree?\")) and ([.gates[] | select(.kind != \"built-in\")] | length == 4)'"
check "and every answer is kept with what it judged" explains second '[.answers[] | select(.gate == "rate" and .stage == "one").verdict] == ["inconclusive","pass"]
	and ([.answers[] | select(.gate == "rate" and .verdict == "pass").data.looks[-1].high] | unique == ["0.25"])'
check "nodes read nothing of it" eval "api 'http://x/v1/target?path=rollouts/second.json' | holds '(.stages | length) == 2 and has(\"gates\") == false' &&
	! api 'http://x/v1/target?path=rollouts/second.json' | grep -q board"

# --- a gate that fails halts ---
plan 1.2.0 "    - {name: rate, prometheus: {server: main, query: rate, max: 0.5, samples: 1, step: 1s}, every: 1s}
    - {ask: go on?}"
check "1.2.0" start 1.2.0 third
check "n1 has it" within 60 runs n1 web 1.2.0
echo 0.75 >"$tmp/secret/value"
check "a value out of bounds halts it" within 60 rollout_is third halted
check "with the reason" says 0 "the gate 'rate' fails: 0.75 is above 0.5" selfright rollout show third
check "n2 has not got it" runs n2 web 1.1.0

# --- alerts, staffed hours ---
rm "$tmp/secret/token"
printf '  pager: {alertmanager: "http://127.0.0.1:%s"}\n' "$plain" >pager
sed -i "/^  main/r pager" "$SELFRIGHT_DIR/gates.yaml"
printf 'zone: Europe/Oslo\nhours: Mon-Sun 00:00-24:00\nholidays: [%s]\n' "$(TZ=Europe/Oslo date -d "now" +%F)" >"$SELFRIGHT_DIR/calendar.yaml"
echo "DiskFull 86400" >"$a/alerts"
plan 1.3.0 "    - {name: quiet, alerts: {server: pager, labels: {severity: page}, for: 1m}, every: 1s, on_inconclusive: pass, deadline: 1s}
    - {name: duty, staffed: true}"
check "1.3.0" start 1.3.0 fourth
check "an old alert is not quiet, and no word on the release" within 60 verdict fourth quiet inconclusive
check "after its deadline it goes on without, but nobody is on duty today" within 60 says 0 "the gate 'duty' cannot tell" selfright rollout show fourth
sed -i '/holidays/d' "$SELFRIGHT_DIR/calendar.yaml"
check "they come back: the stage opens" within 90 runs n2 web 1.3.0
echo "DiskFull 0" >"$a/alerts"
check "a new alert halts it, or it was done before" within 60 eval 'rollout_is fourth halted || rollout_is fourth done'
ended
