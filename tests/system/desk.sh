#!/usr/bin/env bash
# The desk's page, in a real Chromium, on a real fleet: who may see it, what it shows, what it may order.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/fleet_lib.bash"

selfright repo init "$SELFRIGHT_DIR" --fleet demo >/dev/null
start_serve || { echo "not ok - no controller"; exit 1; }
make_component web
selfright component add web --team web >/dev/null
publish web 1.0.0 >/dev/null
add_node oslo1 --label site=oslo
add_node rome1 --label site=rome
selfright rollout start --component web --version 1.0.0 --stage first=nodes:oslo1,soak:1h --stage rest=all --id first >/dev/null
check "a node takes the first stage" within 30 believes oslo1 web 1.0.0

selfright desk --port 0 --json >desk.json 2>desk.log &
desk=$!
pids+=($desk)
within 10 test -s desk.json
url=$(jq -r .url desk.json) port=$(jq .port desk.json)
key=${url##*=}
get() { curl -s --noproxy '*' --max-time 10 "$@"; }
status_is() { local want=$1; shift; [ "$(get -o said -w '%{http_code}' "$@")" = "$want" ] || { cat said; return 1; }; }

# --- who may ---
check "it listens on this machine only" not grep -qE ":$(printf '%04X' "$port") " <(awk '$2 !~ /^0100007F:/ { print $2 " " }' /proc/net/tcp)
check "the page itself is there for everybody" status_is 200 "http://127.0.0.1:$port/"
check "it forbids frames and other people's scripts" grep -qi "content-security-policy: default-src 'none'; script-src 'self'" <(get -D - -o /dev/null "http://127.0.0.1:$port/")
check "nothing is told without the key" status_is 401 "http://127.0.0.1:$port/api/nodes"
check "nor with another" status_is 401 -H "Authorization: Bearer 00112233445566778899aabbccddeeff" "http://127.0.0.1:$port/api/nodes"
check "nor half of it" status_is 401 -H "Authorization: Bearer ${key:0:16}" "http://127.0.0.1:$port/api/nodes"
check "nor under a name that leads here" status_is 403 -H "Host: evil.example" -H "Authorization: Bearer $key" "http://127.0.0.1:$port/api/nodes"
check "with it, all is" status_is 200 -H "Authorization: Bearer $key" "http://127.0.0.1:$port/api/nodes"
authorised=(-H "Authorization: Bearer $key")
check "nothing that changes more than a rollout is passed on" status_is 405 "${authorised[@]}" -X DELETE "http://127.0.0.1:$port/api/nodes/oslo1"
check "nor an undo" status_is 400 "${authorised[@]}" -d '{"reason":"x"}' "http://127.0.0.1:$port/api/rollouts/first/undo"
check "nor an order without a reason" status_is 400 "${authorised[@]}" -d '{}' "http://127.0.0.1:$port/api/rollouts/first/halt"
check "nor what is no list" status_is 404 "${authorised[@]}" "http://127.0.0.1:$port/api/orders"
check "nor a query of one's own" status_is 400 "${authorised[@]}" "http://127.0.0.1:$port/api/events?after=1%26wait=100"
check "nor a path that leaves" status_is 400 "${authorised[@]}" "http://127.0.0.1:$port/api/nodes/..%2faudit"
check "a large body is refused" status_is 413 "${authorised[@]}" --data-binary @<(head -c 20000 /dev/zero) "http://127.0.0.1:$port/api/rollouts/first/halt"

# --- what it shows, and a halt ---
selfright node hold rome1 --for 1h --reason '<img src=x onerror=alert(1)>' >/dev/null
cat >page.txt <<'P'
until document.getElementById("fleet").textContent === "demo"
until document.querySelector("#rollout-first")
until document.querySelector("#rollout-first").innerText.includes("1 good")
show document.querySelector("#rollout-first .why").innerText
do location.hash = "nodes"
until document.querySelectorAll("tbody tr").length === 2
do document.getElementById("filter").value = "site=rome"; document.getElementById("filter").dispatchEvent(new Event("input"))
until document.querySelectorAll("tbody tr").length === 1 && document.querySelector("tbody").innerText.includes("hold")
do location.hash = "node/rome1"
until document.body.innerText.includes("<img src=x onerror=alert(1)>")
do location.hash = "timeline"
until document.body.innerText.includes("oslo1") && document.querySelectorAll("tbody tr").length > 3
do location.hash = "audit"
until document.body.innerText.includes("chain of hashes holds")
do location.hash = "rollout/first"
until document.body.innerText.includes("Plan") && document.querySelector("button.halt")
until document.body.innerText.includes("Gates of first") && document.querySelector("td .wait, td .good")
do document.querySelector("button.halt").click()
until document.querySelector("dialog[open] input")
do document.querySelector("dialog input").value = "errors since noon"; document.querySelector("dialog button.halt").click()
until document.querySelector(".badge").innerText === "halted"
show location.href.includes("key=")
P
shows() { # EXIT STATUS of the browser, and what it said
	timeout 500 python3 "$here/browser.py" "$url" page.txt >page.out 2>page.err || { cat page.out page.err; return 1; }
}
check "the page shows rollouts, nodes, one node, the timeline and the audit log, and halts" shows
check "it says why the next stage is not open" grep -q "soak\|since\|until" page.out
check "the key does not stay in the address" grep -qx False page.out
check "the rollout is halted" rollout_is first halted
check "by whom and why is recorded" sh -c "selfright rollout show first --json | grep -q 'errors since noon'"
stop_serve
check "without a controller it says so" status_is 502 "${authorised[@]}" "http://127.0.0.1:$port/api/status"
check "and how to start it" grep -q "selfright serve --dir" said

# --- a large fleet ---
copy_node rome1 600
start_serve
cat >page.txt <<'P'
until document.getElementById("fleet").textContent === "demo"
do location.hash = "nodes"
until document.getElementById("count") && document.getElementById("count").innerText.includes("602 of 602 nodes, the first 500")
until document.querySelectorAll("tbody tr").length === 500
do location.hash = "rollout/first"
until document.body.innerText.includes("500 of 601 nodes shown, the worst first") && document.querySelectorAll("tbody tr").length < 600
P
check "of many nodes the page shows some, and says so" shows
kill "$desk"
check "it ends when it is told to" within 10 not kill -0 "$desk"
ended
