#!/usr/bin/env bash
# bench_desk - how long a desk waits for a controller of NODES nodes, and how long everybody else waits meanwhile.
#
#   tests/bench/bench_desk.sh BUILD_FOLDER [NODES]      (10000)
#
# One node is real; the others are copies of it in the controller's database, report and all. For each request: how
# long it took, and the longest that a small one sent every 5 ms beside it had to wait for its answer.
# Figures of this machine and this moment: compare runs, not machines.
set -u
[ -d "${1:-}" ] || { sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "$0"; exit 2; }
build=$(cd "$1" && pwd)
nodes=${2:-10000}
source "$(cd "$(dirname "$0")" && pwd)/../system/fleet_lib.bash" "$build"
die() { echo "bench_desk: $*" >&2; tail -n 5 "$tmp"/*.log >&2; exit 1; }

selfright repo init "$SELFRIGHT_DIR" --fleet desk >/dev/null || die "repo init"
start_serve || die "no controller"
make_component web
selfright component add web --team web >/dev/null || die "component add"
for version in 1.0.0 1.1.0; do publish web $version >>"$tmp/publish.log" 2>&1 || die "publish $version"; done
add_node real --label site=oslo --label zone=Europe/Oslo || die "no node"
selfright rollout start --component web --version 1.0.0 --stage rest=all --id first >/dev/null || die "first rollout"
within 60 rollout_is first done || die "the node does not take it"
within 60 believes real web 1.0.0 || die "the node does not say so"
stop_agent real
stop_serve
copy_node real $((nodes - 1)) || die "no copies"
start_serve || die "the controller does not come up again"

cat >plan.yaml <<'END'
component: web
version: 1.1.0
stages:
  - {name: canary, count: 2, soak: 12h}
  - {name: early, count: 8, soak: 24h}
  - {name: all, all: true}
END
python3 - "$SELFRIGHT_DIR/serve/control.sock" "$tmp" <<'END'
import http.client, json, socket, subprocess, sys, threading, time
path, tmp = sys.argv[1:]
def ask(target):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    c = http.client.HTTPConnection("x")
    c.sock = s
    c.request("GET", target)
    r = c.getresponse()
    r.read()
    c.close()
    return r.status
worst, stop = 0.0, False
def beside():
    global worst
    while not stop:
        begin = time.monotonic()
        assert ask("/v1/freeze") == 200
        worst = max(worst, time.monotonic() - begin)
        time.sleep(0.005)
threading.Thread(target=beside, daemon=True).start()
def measure(name, what):
    global worst
    time.sleep(0.3)
    worst = 0.0
    begin = time.monotonic()
    what()
    took = time.monotonic() - begin
    time.sleep(0.3)
    print(f"{name:34} {took * 1000:7.0f} ms, others waited up to {worst * 1000:6.0f} ms", flush=True)
def command(*words, fine=(0,)):
    def run():
        p = subprocess.run(["selfright", *words], cwd=tmp, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert p.returncode in fine, (words, p.returncode, p.stderr)
    return run
measure("nothing", lambda: time.sleep(1))
measure("GET /v1/status", lambda: ask("/v1/status"))
measure("GET /metrics", lambda: ask("/metrics"))
measure("check web 1.1.0", command("check", "web", "1.1.0"))
measure("check web 1.1.0 --plan", command("check", "web", "1.1.0", "--plan", "plan.yaml"))
measure("rollout plan", command("rollout", "plan", "plan.yaml"))
measure("rollout start", command("rollout", "start", "plan.yaml", "--id", "second"))
measure("rollout show", command("rollout", "show", "second"))
measure("node list", command("node", "list"))
measure("node list --held", command("node", "list", "--held"))
measure("node show", command("node", "show", "real-00017"))
END
