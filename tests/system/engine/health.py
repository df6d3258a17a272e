"""Health that can be believed: checks before and after the swap, probation, watch, and whose fault a lost link is.
Usage: health.py BUILD [NAME...]

The complaints of the field (public threads about other updaters) and what shows that they are not true here; stories
without a file are below, the others in tests/system/engine/ and tests/story/:
  success reported at install time            success_is_told_only_after_the_whole_probation
  the bad version is taken again              story.py goes_back_when_a_check_fails_and_stays_off, bad-version-not-again.story
  roll back one node from the fleet side      story.py support_sends_it_back_and_it_stays
  a rollback waits for a random delay         support-rollback-is-at-once.story
  no way back after the grace period          a_late_fault_in_the_watch_is_seen, story.py the_console_sends_it_back
  going below a version that was forbidden    stolen.py nobody_goes_below_the_floor, no-prevented-downgrade.story
  a rollback without a reboot rolls forward   story.py support_ends_a_probation
  a boot counter that ticks for healthy nodes power_flicker_after_good_moves_nobody
  always shown good, or bad for ever          the_state_of_each_check_is_told
  why was it rolled back? the log is silent   a_rollback_says_why
  false rollback: a cable, a tunnel           what_failed_before_is_not_blamed, the_network_went_away
  old data cannot be read after going back    story.py (data_*), test_data
  the result cannot be sent, so it is undone  a_result_that_cannot_be_sent_undoes_nothing
"""
import random, socket

import story as stories_of_good_days
from story import *

stories = stories_of_good_days.stories = []


def story(f):
    stories.append(f)
    return f


def offer(fleet, node, version, doc, id=None, files=None, component="web"):
    fleet.release(component, version, files or web_files(version), doc=doc)
    fleet.rollout(id or f"{component}-" + version.replace(".", "-"), component, version)
    fleet.publish()
    node.push()


def result_of(node, version):
    return next((x for x in node.results().values() if x.get("to") == version), None)


def check(name, **more):
    return dict({"name": name, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 2}, **more)


def with_checks(*checks, **more):
    return dict(WEB, checks=WEB["checks"] + list(checks), **more)


def sh(script):
    return {"exec": {"command": ["sh", "-c", script]}}


def free_port():
    """From below those that the system gives to whoever asks for any, or another has it before the service starts."""
    while True:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", random.randint(10000, 30000)))
                return s.getsockname()[1]
            except OSError:
                pass


def data_file(node, name, text):
    """As the application would write it."""
    path = f"{node.root}/data/web/{name}"
    with open(path + ".new", "w") as f:
        f.write(text)
    os.chmod(path + ".new", 0o644)
    os.rename(path + ".new", path)


# --- probation ---

@story
def success_is_told_only_after_the_whole_probation(fleet, node):
    install(fleet, node)
    data_file(node, "fine", "")
    offer(fleet, node, "1.1.0", with_checks(check("fine", **sh('test -e "$SELFRIGHT_DATA/fine"')), probation=600))
    node.until("the checks pass", lambda: node.status()["state"] == "probation" and
               all(c["state"] == "passing" for c in node.status()["checks"]) and len(node.status()["checks"]) == 2)
    node.poke()
    assert result_of(node, "1.1.0") is None and node.current() == "1.1.0"
    os.unlink(f"{node.root}/data/web/fine")  # long after everything had passed
    result = node.until_result("check-failed", to="1.1.0")
    node.until("the old version", lambda: node.current() == "1.0.0" and node.running() == "1.0.0")
    assert not [x for x in node.results().values() if x["name"] == "good" and x.get("to") == "1.1.0"], result


@story
def a_rollback_says_why(fleet, node):
    install(fleet, node)
    offer(fleet, node, "1.1.0", with_checks(check("licence", **sh(
        'test "$(cat "$SELFRIGHT_CURRENT/web/VERSION")" = 1.0.0 && exit 0; echo looking; '
        'echo no licence for 3 cores >&2; exit 7'))))
    node.until_result("check-failed", to="1.1.0")
    result = result_of(node, "1.1.0")
    assert result["class"] == "release" and "licence" in result["detail"], result
    assert "exited 7" in result["log_tail"] and "no licence for 3 cores" in result["log_tail"], result


@story
def what_failed_before_is_not_blamed(fleet, node):
    """A cable that is not plugged in, a tunnel that was down."""
    install(fleet, node)
    cable = check("cable", **sh('test -e "$SELFRIGHT_DATA/cable"'))
    offer(fleet, node, "1.1.0", with_checks(cable))
    node.until_result("good", to="1.1.0")
    # Who wants it mended says so.
    offer(fleet, node, "1.2.0", with_checks(dict(cable, must_fix=True)))
    node.until_result("check-failed", to="1.2.0")
    node.until("back", lambda: node.current() == "1.1.0")
    # And who breaks it is blamed.
    data_file(node, "cable", "")
    offer(fleet, node, "1.3.0", with_checks(dict(cable, **sh('test -e "$SELFRIGHT_DATA/cable" && '
                                                             '[ "$(readlink "$SELFRIGHT_CURRENT" | wc -c)" -gt 0 ] && '
                                                             'test "$(cat "$SELFRIGHT_CURRENT/web/VERSION")" != 1.3.0'))))
    node.until_result("check-failed", to="1.3.0")


@story
def a_check_whose_program_was_forgotten_is_no_excuse(fleet, node):
    """It fails before the swap as well as after it; the release is refused before anything stops."""
    install(fleet, node)
    offer(fleet, node, "1.1.0", with_checks(check("looks", exec={"command": ["bin/looks"]})))
    result = node.until_result("requirement-missing", to="1.1.0")
    assert "the check looks runs bin/looks" in result["detail"] and result["class"] == "rejected", result
    assert node.current() == "1.0.0" and node.running() == "1.0.0"
    # Of one that only advises it is told, no more.
    offer(fleet, node, "1.2.0", with_checks(check("looks", required=False, exec={"command": ["bin/looks"]})))
    node.until_result("good", to="1.2.0")


@story
def the_state_of_each_check_is_told(fleet, node):
    install(fleet, node)
    offer(fleet, node, "1.1.0", with_checks(check("advice", required=False, **sh("exit 1")),
                                            check("later", after=["advice"], **sh("exit 0")), probation=600))
    def states():
        return {c["name"]: c["state"] for c in node.status()["checks"]}
    node.until("each has a state", lambda: states() == {"answers": "passing", "advice": "not-blamed", "later": "pending"})
    node.poke()
    node.until("the report has it", lambda: {c["name"]: c["state"] for c in node.reports()[-1]["checks"]} == states())


@story
def nothing_proven_is_no_success(fleet, node):
    """Too few samples, no samples at all: waited for, and then said."""
    install(fleet, node)
    doc = with_checks({"name": "traffic", "periodSeconds": 1, "timeoutSeconds": 5, "deadlineSeconds": 2,
                       "metric": {"file": "metrics.prom", "select": "errors_total", "of": "requests_total", "max": "0.1",
                                  "minSamples": 100, "beforeSeconds": 1}})
    offer(fleet, node, "1.1.0", doc)
    node.until_result("good-unproven", to="1.1.0", seconds=60)
    result = result_of(node, "1.1.0")
    assert "traffic" in result["detail"] and "not there" in result["detail"], result
    assert node.current() == "1.1.0"


@story
def the_applications_own_word(fleet, node):
    install(fleet, node)
    data_file(node, "status.json", '{"status":"ready","uptime":1.5}')
    # The new version writes "degraded" when it starts, and is sent back for it.
    def files(version, word):
        f = web_files(version)
        f["bin/start"] = (0o755, ("#!/bin/sh\necho \"$SELFRIGHT_VERSION $1\" >\"$SELFRIGHT_DATA/running\"\n"
                                  f"echo '{{\"status\":\"{word}\",\"message\":\"no disk\"}}' >\"$SELFRIGHT_DATA/status.json.new\"\n"
                                  "mv -f \"$SELFRIGHT_DATA/status.json.new\" \"$SELFRIGHT_DATA/status.json\"\n"
                                  "exec sleep 100000\n").encode())
        return f
    doc = with_checks(check("word", status={"file": "status.json"}))
    offer(fleet, node, "1.1.0", doc, files=files("1.1.0", "degraded"))
    node.until_result("check-failed", to="1.1.0")
    assert "degraded: no disk" in result_of(node, "1.1.0")["detail"], result_of(node, "1.1.0")
    node.until("back", lambda: node.status()["state"] == "idle")
    data_file(node, "status.json", '{"status":"ready"}')
    offer(fleet, node, "1.2.0", doc, files=files("1.2.0", "ready"))
    node.until_result("good", to="1.2.0")


@story
def the_log_of_a_unit_needs_leave(fleet, node):
    install(fleet, node)
    offer(fleet, node, "1.1.0", with_checks(check("lines", log={"unit": "ssh.service"})))
    node.until_result("not-allowed", to="1.1.0")
    assert "ssh.service" in result_of(node, "1.1.0")["detail"], result_of(node, "1.1.0")
    assert node.current() == "1.0.0"


@story
def a_restart_keeps_what_was_before(fleet, node):
    """The agent dies in probation: its successor still knows what the metric was before the swap."""
    install(fleet, node)
    data_file(node, "load.prom", "load 5\n")
    offer(fleet, node, "1.1.0", with_checks(check("load", initialDelaySeconds=4, metric={
        "file": "load.prom", "select": "load", "maxOfBefore": "2"}), probation=600))
    node.until("probation", lambda: node.status()["state"] == "probation")
    node.kill()
    data_file(node, "load.prom", "load 11\n")
    node.start()
    node.until_result("check-failed", to="1.1.0", seconds=60)
    assert "before the swap it was 5" in result_of(node, "1.1.0")["detail"], result_of(node, "1.1.0")


# --- the watch ---

@story
def a_late_fault_in_the_watch_is_seen(fleet, node):
    install(fleet, node)
    data_file(node, "errors.prom", "errors 0\n")
    doc = with_checks(check("errors", metric={"file": "errors.prom", "select": "errors", "max": "5"}), watch=600)
    offer(fleet, node, "1.1.0", doc)
    node.until_result("good", to="1.1.0")
    node.until("the watch", lambda: node.status()["state"] == "watch")
    data_file(node, "errors.prom", "errors 99\n")
    node.until_result("regressed", to="1.1.0", seconds=60)
    late = next(x for x in node.results().values() if x["name"] == "regressed")
    assert late["class"] == "release" and "errors is 99" in late["detail"], late
    node.until("back", lambda: node.current() == "1.0.0" and node.running() == "1.0.0")


@story
def metrics_are_told_by_the_hour(fleet, node):
    """What the controller's metric gate compares: of what runs, under an update or not, and each version for itself."""
    text = open(node.etc + "/agent.yaml").read()
    node.write(node.etc + "/agent.yaml", text + "measure_every: 1s\n")
    install(fleet, node)
    def told():
        node.poke()
        return {m["version"]: m for m in node.reports()[-1].get("metrics", [])}
    assert not told()  # a release that declares none
    doc = with_checks(check("load", metric={"file": "load.prom", "select": "load", "max": "6"}))
    data_file(node, "load.prom", "load 5\n")
    offer(fleet, node, "1.1.0", doc)
    node.until_result("good", to="1.1.0")
    node.until("its metric is told", lambda: "1.1.0" in told())
    load = told()["1.1.0"]
    assert (load["component"], load["name"]) == ("web", "load"), load
    assert all(h["mean"] == "5" and h["samples"] >= 1 and abs(h["hour"] - time.time() / 3600) < 2 for h in load["hours"]), load
    # Not judged here: above its own bound it is told all the same.
    data_file(node, "load.prom", "load 50\n")
    node.until("the mean rises", lambda: float(told()["1.1.0"]["hours"][-1]["mean"]) > 10)
    data_file(node, "load.prom", "load 2\n")
    offer(fleet, node, "1.2.0", doc)
    node.until_result("good", to="1.2.0")
    node.until("the new version's too", lambda: "1.2.0" in told())
    assert all(h["mean"] == "2" for h in told()["1.2.0"]["hours"]), told()
    assert float(told()["1.1.0"]["hours"][-1]["mean"]) > 2, told()


# --- the node and its network ---

@story
def power_flicker_after_good_moves_nobody(fleet, node):
    """Ends and starts count within probation only."""
    install(fleet, node)
    offer(fleet, node, "1.1.0", WEB)
    node.until_result("good", to="1.1.0")
    node.until("idle", lambda: node.status()["state"] == "idle")
    for _ in range(6):
        node.kill()
        p = subprocess.run([node.build + "/bin/selfright-recover", "--root", node.root], capture_output=True, text=True)
        assert p.returncode == 0, p
        node.start()
        node.until("it answers", lambda: node.status()["state"] == "idle")
        assert node.current() == "1.1.0"
    assert [x["name"] for x in node.results().values() if x.get("to") == "1.1.0"] == ["good"]


@story
def a_result_that_cannot_be_sent_undoes_nothing(fleet, node):
    install(fleet, node)
    offer(fleet, node, "1.1.0", dict(WEB, probation=1))
    node.until("swapped", lambda: node.current() == "1.1.0")
    open(node.mail + "/silent", "w").close()
    open(node.mail + "/offline", "w").close()
    node.until("its end", lambda: node.status()["state"] == "idle", 30)
    assert node.cli("history")[1]["history"][-1]["name"] == "good" and node.current() == "1.1.0"
    node.kill()
    node.start()  # the result is on the disk, not in a process
    node.until("it answers", lambda: node.status()["state"] == "idle")
    os.unlink(node.mail + "/silent")
    os.unlink(node.mail + "/offline")
    node.until_result("good", to="1.1.0")
    assert node.current() == "1.1.0"


class Origin:
    """Takes connections where the node's configuration says the controller is."""

    def __init__(self, port=0):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen(16)
        self.port = self.socket.getsockname()[1]

    def close(self):
        self.socket.close()


def with_origin(node):
    origin = Origin()
    text = open(node.etc + "/agent.yaml").read().replace("https://127.0.0.1:1/", f"https://127.0.0.1:{origin.port}/")
    node.write(node.etc + "/agent.yaml", text)
    return origin


def loses_its_link(fleet, node, then):
    node.give_the_link("3s")
    install(fleet, node)
    # The release takes the link away as it starts: nothing is answered after the swap.
    doc = dict(LINKED, hooks={"after_swap": {"command": ["sh", "-c", f"touch {node.mail}/silent {node.mail}/offline"]}})
    os.chmod(node.mail, 0o777)
    offer(fleet, node, "1.1.0", doc)
    node.until("swapped", lambda: node.current() == "1.1.0")
    then()
    node.until("its end", lambda: node.status()["state"] == "idle", 60)
    for f in ("silent", "offline"):
        os.unlink(f"{node.mail}/{f}")


@story
def the_release_cut_the_link(fleet, node):
    """The origin takes connections as before, ours fail: class release, and undone."""
    origin = with_origin(node)
    loses_its_link(fleet, node, lambda: None)
    node.until_result("link-lost", to="1.1.0")
    result = result_of(node, "1.1.0")
    assert result["class"] == "release" and "origin" in result["detail"] and node.current() == "1.0.0", result
    origin.close()


@story
def the_network_went_away(fleet, node):
    """Nobody is there any more: a good release is not undone for a cut cable."""
    origin = with_origin(node)
    loses_its_link(fleet, node, origin.close)
    node.until_result("good-unproven", to="1.1.0")
    result = result_of(node, "1.1.0")
    assert result["class"] == "network" and "origin" in result["detail"] and node.current() == "1.1.0", result


@story
def the_controller_is_silent(fleet, node):
    """The road is fine and metadata comes; only answers do not: that is no release's doing."""
    origin = with_origin(node)
    node.give_the_link("3s")
    install(fleet, node)
    doc = dict(LINKED, hooks={"after_swap": {"command": ["touch", node.mail + "/silent"]}})
    offer(fleet, node, "1.1.0", doc)
    node.until("its end", lambda: node.current() == "1.1.0" and node.status()["state"] == "idle", 60)
    os.unlink(node.mail + "/silent")
    node.until_result("good-unproven", to="1.1.0")
    result = result_of(node, "1.1.0")
    assert result["class"] == "network" and "silent" in result["detail"] and node.current() == "1.1.0", result
    origin.close()


# --- real payloads of Debian ---

NGINX_START = b"""#!/bin/sh
mkdir -p "$SELFRIGHT_DATA/tmp"
exec /usr/sbin/nginx -e "$SELFRIGHT_DATA/error.log" -p "$SELFRIGHT_CURRENT/web/" -c conf/nginx.conf \\
    -g "daemon off; pid $SELFRIGHT_DATA/nginx.pid; error_log $SELFRIGHT_DATA/error.log;"
"""


def nginx_files(version, port, ca, pem, data, missing=False, status=200):
    conf = f"""worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {data}/tmp/b; proxy_temp_path {data}/tmp/p; fastcgi_temp_path {data}/tmp/f;
    uwsgi_temp_path {data}/tmp/u; scgi_temp_path {data}/tmp/s;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate server.pem; ssl_certificate_key server.pem;
        location /healthz {{ return {status} "{version}\\n"; }}
        location / {{ root {"/nowhere/at/all" if missing else "html"}; }}
    }}
}}
"""
    return {"bin/start": (0o755, NGINX_START), "conf/nginx.conf": (0o644, conf.encode()),
            "conf/server.pem": (0o644, open(pem, "rb").read()), "conf/ca.pem": (0o644, ca.encode()),
            "html/index.html": (0o644, version.encode())}


@story
def nginx_over_tls(fleet, node):
    """Debian's nginx: asked over TLS by a name its certificate has, its error log read."""
    port, data = free_port(), f"{node.root}/data/web"
    ca, pem = road.certificate(node.home)
    tls = {"scheme": "https", "port": port, "ca": "conf/ca.pem", "serverName": road.HOST}
    doc = {"services": [{"name": "nginx", "start": {"command": ["bin/start"]}, "stop_signal": "SIGQUIT", "stop_timeout": 5}],
           "checks": [check("answers", httpGet=dict(tls, path="/healthz", expectStatus="200",
                                                    httpHeaders=[{"name": "Host", "value": road.HOST}])),
                      check("page", after=["answers"], httpGet=dict(tls, path="/index.html", expectStatus="200-499")),
                      check("log", log={"file": "error.log", "match": ["[error]", "[crit]", "[alert]", "[emerg]"]})],
           "probation": 3}

    def give(version, **how):
        offer(fleet, node, version, doc, files=nginx_files(version, port, ca, pem, data, **how))

    give("1.0.0")
    node.start()
    node.until_result("good", to="1.0.0")
    give("1.1.0")
    node.until_result("good", to="1.1.0")
    doc["probation"] = 60  # those that fail do so before; a busy node must have looked at them by then
    give("1.2.0", status=503)
    node.until_result("check-failed", to="1.2.0", seconds=40)
    assert "HTTP 503" in result_of(node, "1.2.0")["detail"], result_of(node, "1.2.0")
    # It answers, and fills its log with what never stood there.
    give("1.3.0", missing=True)
    node.until_result("check-failed", to="1.3.0", seconds=40)
    assert "new kind" in result_of(node, "1.3.0")["detail"] and "open()" in result_of(node, "1.3.0")["detail"], \
        result_of(node, "1.3.0")
    node.until("back", lambda: node.current() == "1.1.0")
    # A certificate for another name is no answer.
    doc["checks"][0]["httpGet"]["serverName"] = "other.invalid"
    doc["checks"][0]["must_fix"] = True
    give("1.4.0")
    node.until_result("check-failed", to="1.4.0", seconds=40)
    assert "other.invalid" in result_of(node, "1.4.0")["detail"], result_of(node, "1.4.0")


EXPORTER = b"""#!/bin/sh
exec /usr/bin/prometheus-node-exporter --web.listen-address=127.0.0.1:$1 --collector.disable-defaults \\
    --collector.textfile --collector.textfile.directory="$SELFRIGHT_CURRENT/web/metrics"
"""


@story
def a_service_with_metrics(fleet, node):
    """Debian's prometheus-node-exporter, judged by what it says about itself."""
    port = free_port()
    metrics = {"port": port, "path": "/metrics"}
    doc = {"services": [{"name": "exporter", "start": {"command": ["bin/start", str(port)]}, "stop_timeout": 5}],
           "checks": [check("scrape", metric=dict(metrics, select="node_textfile_scrape_error", max="0")),
                      check("shop", metric=dict(metrics, select='shop_orders{state=~"open|late"}', maxOfBefore="2",
                                                min="1", beforeSeconds=3)),
                      check("served", metric=dict(metrics, select='promhttp_metric_handler_requests_total{code=~"5.."}',
                                                  of="promhttp_metric_handler_requests_total", max="0.01", minSamples=2,
                                                  beforeSeconds=5))],
           "probation": 2}

    def give(version, text):
        offer(fleet, node, version, doc, files={"bin/start": (0o755, EXPORTER), "metrics/shop.prom": (0o644, text.encode())})

    orders = 'shop_orders{{state="open"}} {}\nshop_orders{{state="late"}} 1\nshop_orders{{state="done"}} 1000\n'
    give("1.0.0", orders.format(2))
    node.start()
    node.until_result("good", to="1.0.0", seconds=60)
    give("1.1.0", orders.format(4))
    node.until_result("good", to="1.1.0", seconds=60)
    give("1.2.0", orders.format(30))
    node.until_result("check-failed", to="1.2.0", seconds=60)
    assert "before the swap it was 5" in result_of(node, "1.2.0")["detail"], result_of(node, "1.2.0")
    give("1.3.0", "shop_orders{state=\n")
    node.until_result("check-failed", to="1.3.0", seconds=60)
    assert "scrape" in result_of(node, "1.3.0")["detail"], result_of(node, "1.3.0")
    node.until("back", lambda: node.current() == "1.1.0")


if __name__ == "__main__":
    chosen = [s for s in stories if not sys.argv[2:] or s.__name__ in sys.argv[2:]]
    build = os.path.abspath(sys.argv[1])
    with multiprocessing.Pool(4) as pool:
        ended = pool.starmap(run_by_name, [(s.__name__, build) for s in chosen], chunksize=1)
    failed = [s.__name__ for s, ok in zip(chosen, ended) if not ok]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} stories")
    if failed:
        print("failed:", " ".join(failed))
    sys.exit(1 if failed else 0)
