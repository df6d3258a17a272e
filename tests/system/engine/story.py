"""What the agent does from the announcement to the report, looked at from outside: links, the service's
own word, and reports verified with the node's key. Usage: story.py BUILD [NAME...]"""
import glob, hashlib, json, multiprocessing, os, re, shutil, signal, subprocess, sys, tarfile, tempfile, time, traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import road
from fleet import *

stories = []


def story(f):
    stories.append(f)
    return f


def install(fleet, node, version="1.0.0", id="r1"):
    fleet.release("web", version, web_files(version))
    fleet.rollout(id, "web", version)
    fleet.publish()
    node.start()
    node.until_result("good", to=version)
    assert node.current() == version, node.current()
    assert node.running() == version, node.running()


@story
def installs_and_updates(fleet, node):
    install(fleet, node)
    result = node.until_result("good")
    assert result["rollout"] == "r1" and result["stage"] == "all" and result["class"] == "none", result
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    result = node.until_result("good", to="1.1.0")
    assert result["from"] == "1.0.0" and result["rollout"] == "r2", result
    assert node.current() == "1.1.0" and node.running() == "1.1.0"
    node.until("what is acknowledged is not said again", node.acknowledged)
    code, history = node.cli("history")
    assert code == 0 and [h["to"] for h in history["history"]] == ["1.0.0", "1.1.0"], history
    assert node.why()["reason"] == "up-to-date", node.why()
    left = os.listdir(node.root + "/spool")
    assert left == [], left


@story
def goes_back_when_a_check_fails_and_stays_off(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0", broken=True))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    result = node.until_result("check-failed")
    assert result["class"] == "release" and result["to"] == "1.1.0", result
    assert "answers" in result["detail"] and "checking" in result["log_tail"], result
    assert node.current() == "1.0.0"
    node.until("the old version serves", lambda: node.running() == "1.0.0")
    assert [d["version"] for d in node.component()["denied"]] == ["1.1.0"]
    fleet.publish()  # the same offer again
    node.push()
    time.sleep(1)
    assert node.current() == "1.0.0" and len([x for x in node.results().values() if x["to"] == "1.1.0"]) == 1
    fleet.release("web", "1.2.0", web_files("1.2.0"))
    fleet.rollout("r3", "web", "1.2.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.2.0")


@story
def goes_back_when_the_service_does_not_start(fleet, node):
    install(fleet, node)
    files = web_files("1.1.0")
    files["bin/start"] = (0o755, b"#!/bin/sh\necho this directive is unknown >&2\nexit 1\n")
    fleet.release("web", "1.1.0", files)
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    result = node.until_result("service-failed")
    assert "unknown" in result["log_tail"], result
    assert node.current() == "1.0.0"
    node.until("the old version serves", lambda: node.running() == "1.0.0")


@story
def a_first_install_falls_back_to_absent(fleet, node):
    fleet.release("web", "1.0.0", web_files("1.0.0", broken=True))
    fleet.rollout("r1", "web", "1.0.0")
    fleet.publish()
    node.start()
    node.until_result("check-failed")
    assert node.current() is None
    node.until("nothing runs", lambda: node.component()["version"] is None and not node.component()["services"])


def refused(fleet, node, name, cls="rejected", change=None, **release):
    """1.1.0 made wrong by `release` is refused with `name`; 1.0.0 runs, nothing is left behind."""
    install(fleet, node)
    files = release.pop("files", None) or web_files("1.1.0")
    path = fleet.release("web", "1.1.0", files, **release)
    fleet.rollout("r2", "web", "1.1.0", path=path)
    if change:
        change()
    fleet.publish()
    node.push()
    result = node.until_result(name)
    assert result["class"] == cls, result
    node.serves("1.0.0")
    assert node.component()["denied"] == [], "only what failed after a swap is denied"
    left = [f for f in os.listdir(node.root + "/store/web") if not f.startswith("1.0.0")]
    assert left == [], left
    return result


@story
def refuses_a_wrong_digest(fleet, node):
    good = pack(web_files("1.1.0"))
    refused(fleet, node, "artifact-digest", artifact=good[:-1] + bytes([good[-1] ^ 1]),
            signed_digest=hashlib.sha256(good).hexdigest())


@story
def refuses_a_short_artifact(fleet, node):
    good = pack(web_files("1.1.0"))
    refused(fleet, node, "artifact-length", artifact=good[:-10], signed_digest=hashlib.sha256(good).hexdigest(),
            length=len(good))


@story
def refuses_another_tree(fleet, node):
    signed = tree_of(web_files("1.1.0"))
    refused(fleet, node, "tree-mismatch", files=web_files("1.1.1"), tree=signed)


@story
def refuses_an_archive_that_leaves_the_tree(fleet, node):
    def evil(tar):
        info = tarfile.TarInfo("../../outside")
        info.size = 4
        tar.addfile(info, __import__("io").BytesIO(b"evil"))
    result = refused(fleet, node, "archive-refused", artifact=pack(web_files("1.1.0"), evil))
    assert "outside" in result["detail"], result


@story
def refuses_an_archive_with_a_device(fleet, node):
    def evil(tar):
        info = tarfile.TarInfo("null")
        info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 3
        tar.addfile(info)
    refused(fleet, node, "archive-refused", artifact=pack(web_files("1.1.0"), evil))


@story
def refuses_a_damaged_archive(fleet, node):
    refused(fleet, node, "archive-refused", artifact=pack(web_files("1.1.0"))[:200])


@story
def refuses_a_manifest_that_disagrees(fleet, node):
    refused(fleet, node, "disagreement", doc=dict(WEB, version="9.9.9"))


@story
def refuses_a_rollout_that_names_another_release(fleet, node):
    refused(fleet, node, "disagreement",
            change=lambda: fleet.rollouts["r2"]["release"].update(sha256="00" * 32))


@story
def refuses_what_only_a_newer_agent_understands(fleet, node):
    refused(fleet, node, "agent-too-old", doc=dict(WEB, must=["quantum"]))


@story
def refuses_a_missing_variable(fleet, node):
    refused(fleet, node, "variable-missing",
            doc=dict(WEB, services=[{"name": "app", "start": {"command": ["bin/start", "${vars.nowhere}"]}}]))


@story
def refuses_a_user_that_is_not_allowed(fleet, node):
    result = refused(fleet, node, "not-allowed",
                     doc=dict(WEB, services=[{"name": "app", "start": {"command": ["bin/start", "1"], "user": "root"}}]))
    assert "root" in result["detail"], result


@story
def refuses_other_labels(fleet, node):
    refused(fleet, node, "incompatible", doc=dict(WEB, compatible={"site": "lima"}))


@story
def refuses_more_than_there_is_space(fleet, node):
    digest, _, count = tree_of(web_files("1.1.0"))
    refused(fleet, node, "no-space", cls="node", tree=(digest, (1 << 42) - 1, count))


@story
def refuses_a_preflight(fleet, node):
    files = web_files("1.1.0")
    files["bin/preflight"] = (0o755, b"#!/bin/sh\necho no room for me; exit 3\n")
    install(fleet, node)
    fleet.release("web", "1.1.0", files, doc=dict(WEB, hooks={"preflight": {"command": ["bin/preflight"]}}))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    result = node.until_result("preflight-failed")
    assert "no room" in result["log_tail"], result
    node.serves("1.0.0")


@story
def refuses_metadata_by_the_wrong_key(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    for role in ("timestamp", "snapshot", "targets", "rollouts"):
        fleet.bad = {role: "stranger"}
        fleet.publish()
        node.push()
        node.until(f"{role} by a stranger is told", lambda: any(
            x["name"] == "signature-invalid" and role in x["detail"] for x in node.results().values()))
        assert node.current() == "1.0.0"
    fleet.bad = {}
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")


@story
def refuses_a_release_by_the_wrong_team_key(fleet, node):
    def change():
        fleet.bad = {"team-web": "stranger"}
    refused(fleet, node, "signature-invalid", change=change)


@story
def support_sends_it_back_and_it_stays(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    fleet.order_rollback("n1", "web", "1.1.0", "1.0.0")
    fleet.publish()
    begin = time.monotonic()
    node.push()
    node.until("it is back", lambda: node.current() == "1.0.0")
    print(f"    back after {time.monotonic() - begin:.2f} s")
    result = node.until_result("rolled-back")
    assert result["update"].startswith("order-1/web/") and result["from"] == "1.1.0", result
    last = node.cli("history", "web")[1]["history"][-1]
    assert last["order"] == "order-1" and last["rollout"] is None and last["duration_ms"] > 0, last
    assert node.running() == "1.0.0"
    fleet.release("web", "1.2.0", web_files("1.2.0"))
    fleet.rollout("r3", "web", "1.2.0")
    fleet.publish()
    node.push()
    node.until("why", lambda: node.why()["reason"] == "support-rollback")
    time.sleep(1)
    assert node.current() == "1.0.0"
    fleet.orders = {}
    fleet.publish()
    node.push()
    node.until_result("good", to="1.2.0")
    assert [d["cause"] for d in node.component()["denied"]] == ["forced"]


@story
def who_hears_everything_twice_ends_as_who_heard_it_once(fleet, node):
    open(os.path.join(node.mail, "echo"), "w").close()
    install(fleet, node)
    for version in ("1.1.0", "1.2.0"):
        fleet.release("web", version, web_files(version))
        fleet.rollout("r-" + version.replace(".", "-"), "web", version)
        fleet.publish()
        node.push()
        node.until_result("good", to=version)
    fleet.order_rollback("n1", "web", "1.2.0", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("rolled-back")
    node.until("what was said long ago changes nothing", lambda: node.acknowledged() and node.why()["reason"] == "support-rollback")
    time.sleep(2)
    assert node.current() == "1.1.0" and node.running() == "1.1.0"
    ends = [(h["from"] or "", h["to"], h["name"]) for h in node.cli("history")[1]["history"]]
    assert sorted(ends) == sorted([("", "1.0.0", "good"), ("1.0.0", "1.1.0", "good"), ("1.1.0", "1.2.0", "good"),
                                   ("1.2.0", "1.1.0", "rolled-back")]), ends


@story
def support_ends_a_probation(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"), doc=dict(WEB, probation=60))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until("probation", lambda: node.status()["state"] == "probation")
    fleet.order_rollback("n1", "web", "1.1.0", "1.0.0")
    fleet.publish()
    node.push()
    result = node.until_result("rolled-back")
    assert result["update"].startswith("r2/web/"), result
    node.serves("1.0.0")
    assert [(d["version"], d["cause"]) for d in node.component()["denied"]] == [("1.1.0", "forced")]


@story
def undo_returns_the_nodes_of_a_stage(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    fleet.rollouts["r2"].update(state="halted", undo=["all"])
    fleet.publish()
    node.push()
    result = node.until_result("rolled-back")
    assert result["rollout"] == "r2" and node.current() == "1.0.0", result
    assert [(d["version"], d["cause"]) for d in node.component()["denied"]] == [("1.1.0", "undone")]
    fleet.rollout("r3", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until("a later rollout lifts it", lambda: node.current() == "1.1.0")


@story
def the_console_sends_it_back(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    code, answer = node.cli("rollback", "web", "--to", "7.0.0", "--reason", "no")
    assert code == 4 and "never good" in answer["error"], answer
    code, answer = node.cli("rollback", "web", "--reason", "errors since noon")
    assert code == 0 and answer["to"] == "1.0.0", answer
    result = node.until_result("rolled-back")
    assert "errors since noon" in result["detail"] and node.current() == "1.0.0", result
    fleet.publish()
    node.push()
    time.sleep(1)
    node.until("it says why", lambda: node.why()["reason"] == "denied")
    assert node.current() == "1.0.0"
    assert "selfright-agent rollback" in node.why()["change"], node.why()
    code, answer = node.cli("rollback", "web", "--to", "1.1.0", "--reason", "it was the disk")
    assert code == 0 and answer["to"] == "1.1.0", answer
    node.until("what somebody here asked for by name is denied no longer",
               lambda: node.current() == "1.1.0" and node.why()["reason"] == "up-to-date")
    assert [d["version"] for d in node.component()["denied"]] == ["1.0.0"], node.component()


@story
def a_hold_holds(fleet, node):
    install(fleet, node)
    code, answer = node.cli("hold", "--for", "1h", "--reason", "trade fair")
    assert code == 0, answer
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until("held", lambda: node.why()["reason"] == "local-hold")
    assert node.why()["detail"] == "held at the console: trade fair" and node.current() == "1.0.0"
    node.until("the desk hears why", lambda: node.reports()[-1]["components"][0]["why_detail"] == "held at the console: trade fair", 5)
    assert node.cli("hold", "--release")[0] == 0
    node.until_result("good", to="1.1.0")


@story
def a_hold_ends_by_itself(fleet, node):
    install(fleet, node)
    assert node.cli("hold", "--for", "4s", "--reason", "trade fair")[0] == 0
    assert node.status()["hold"]["by"] == "root" or os.geteuid() != 0, node.status()["hold"]
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until("held", lambda: node.why()["reason"] == "local-hold")
    node.until_result("good", to="1.1.0")


def inhibit(node, why, *command):
    return subprocess.Popen([node.build + "/bin/selfright-agent", "inhibit", "--config-dir", node.etc, "--why", why,
                             "--", *command], stdin=subprocess.PIPE)


@story
def a_workload_holds_updates_off(fleet, node):
    install(fleet, node)
    backup = inhibit(node, "nightly backup", "cat")
    node.until("it is held", lambda: node.status()["inhibitors"])
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0", kind="patch", overrides=["window", "blackout", "spread", "notice", "deferral"])
    fleet.publish()
    node.push()
    node.until("it waits, downloaded ahead", lambda: node.why()["reason"] == "inhibited" and staged(node, "1.1.0"))
    assert "nightly backup" in node.why()["detail"] and f"pid {backup.pid}" in node.why()["detail"], node.why()
    node.until("the desk knows", lambda: "nightly backup" in node.reports()[-1]["components"][0]["why_detail"], 5)
    # A restarted agent knows the lock again.
    node.kill()
    node.start()
    node.until("it is held still", lambda: node.why()["reason"] == "inhibited")
    assert node.current() == "1.0.0"
    open(node.run + "/inhibit/export", "w").write("the month's export\n")
    backup.stdin.close()
    assert backup.wait(120) == 0
    node.until("the file holds", lambda: "the month's export" in node.why()["detail"])
    assert node.current() == "1.0.0"
    os.unlink(node.run + "/inhibit/export")
    node.until_result("good", to="1.1.0")


@story
def an_inhibitor_stops_neither_fallback_nor_strangers_take_one(fleet, node):
    text = open(node.etc + "/agent.yaml").read()
    node.write(node.etc + "/agent.yaml", text + "inhibitors: [daemon]\n")
    install(fleet, node)
    files = web_files("1.1.0")
    files["bin/check"] = (0o755, b"#!/bin/sh\n[ ! -e \"$SELFRIGHT_DATA/fail\" ]\n")
    fleet.release("web", "1.1.0", files, doc=dict(WEB, probation=60))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until("probation", lambda: node.status()["state"] == "probation")
    # What is under way goes on; the command waits for its end.
    waits = inhibit(node, "backup", "touch", node.home + "/ran")
    open(node.root + "/data/web/fail", "w").close()
    node.until_result("check-failed", to="1.1.0")
    node.until("it went back", lambda: node.current() == "1.0.0")
    assert waits.wait(120) == 0 and os.path.exists(node.home + "/ran")
    if os.geteuid() != 0:
        return

    def taken_by(user):
        p = subprocess.run([node.build + "/bin/selfright-agent", "inhibit", "--config-dir", node.etc, "--why", "x", "--json",
                            "--", "true"], user=user, capture_output=True, text=True)
        return p.returncode, p.stdout
    os.chmod(node.etc, 0o755)
    for f in ("agent.yaml", "vars.d", "components.d", "vars.d/ports.yaml"):
        os.chmod(f"{node.etc}/{f}", 0o755)
    code, said = taken_by("nobody")
    assert code == 4 and "inhibitors" in said, (code, said)
    code, said = taken_by("daemon")
    assert code == 0, (code, said)
    assert inhibit(node, "x", "/no/such/program").wait(120) == 127


@story
def the_customer_defers_up_to_the_deadline(fleet, node):
    install(fleet, node)
    code, answer = node.cli("defer", "web", "--for", "7d", "--reason", "month-end closing")
    assert code == 0, answer
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    end = time.time() + 24 * 3600 + 600  # a day before it nothing is deferred any more
    fleet.rollout("r2", "web", "1.1.0", deadline=stamp(end))
    fleet.publish()
    node.push()
    node.until("it is deferred, downloaded ahead", lambda: node.why()["reason"] == "deferred" and staged(node, "1.1.0"))
    assert "month-end closing" in node.why()["detail"] and node.why()["until"] == stamp(end - 24 * 3600), node.why()
    code, answer = node.cli("defer", "web", "--for", "7d", "--reason", "month-end closing")
    assert code == 0 and answer["sooner"][0]["rollout"] == "r2", answer
    node.kill()
    node.start()
    node.until("it is deferred still", lambda: node.why()["reason"] == "deferred")
    fleet.rollouts["r2"]["deadline"] = stamp(time.time() + 24 * 3600 + 3)
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    fleet.release("web", "1.2.0", web_files("1.2.0"))
    fleet.rollout("r3", "web", "1.2.0")
    fleet.publish()
    node.push()
    node.until("so is the next one", lambda: node.why()["reason"] == "deferred" and node.why()["wants"] == "1.2.0")
    assert node.cli("defer", "waf", "--release")[0] == 1
    assert node.cli("defer", "web", "--release")[0] == 0
    node.until_result("good", to="1.2.0")


@story
def a_lease_is_asked_for(fleet, node):
    install(fleet, node)
    open(node.mail + "/no-lease", "w").close()
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0", disruption={"label": "site", "maximum": 1})
    fleet.publish()
    node.push()
    node.until("refused", lambda: b"reason=lease" in open(node.home + "/agent.log", "rb").read())
    assert node.current() == "1.0.0"
    node.kill(signal.SIGTERM)
    os.unlink(node.mail + "/no-lease")
    node.start()
    node.until_result("good", to="1.1.0")


LINKED = dict(WEB, checks=WEB["checks"] + [{"name": "controller", "link": {}, "periodSeconds": 1}])


@story
def good_means_the_controller_answered_again(fleet, node):
    fleet.release("web", "1.0.0", web_files("1.0.0"), doc=LINKED)
    fleet.rollout("r1", "web", "1.0.0")
    fleet.publish()
    node.start()
    node.until_result("good", to="1.0.0")
    node.kill(signal.SIGTERM)
    node.give_the_link("3s")
    node.start()
    node.until("it is connected", lambda: node.status()["link"]["connected"])
    fleet.release("web", "1.1.0", web_files("1.1.0"), doc=LINKED)
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until("probation", lambda: node.status()["state"] == "probation")
    open(node.mail + "/silent", "w").close()
    fleet.release("web", "1.2.0", web_files("1.2.0"), doc=LINKED)
    node.until("its end", lambda: node.status()["state"] == "idle")


@story
def silence_after_the_swap_is_no_success(fleet, node):
    node.give_the_link("3s")
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"), doc=dict(LINKED, probation=3))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until("swapped", lambda: node.current() == "1.1.0")
    open(node.mail + "/forged", "w").close()  # answers, but about another node
    node.until("it ends", lambda: node.status()["state"] == "idle", 30)
    os.unlink(node.mail + "/forged")
    names = [h["name"] for h in node.cli("history")[1]["history"]]
    assert names in (["good", "good-unproven"], ["good", "good"]), names


@story
def forged_answers_acknowledge_nothing(fleet, node):
    open(node.mail + "/forged", "w").close()
    install(fleet, node)
    time.sleep(1)
    assert len(node.reports()[-1]["results"]) == 1
    os.unlink(node.mail + "/forged")
    fleet.publish()
    node.until("acknowledged", node.acknowledged)


@story
def two_components_and_an_untouched_service(fleet, node):
    install(fleet, node)
    pid = node.component()["services"][0]["pid"]
    for version in ("1.0.0", "1.1.0"):
        fleet.release("content", version, {"index.txt": (0o644, version.encode())}, doc={})
        fleet.rollout("c" + version.replace(".", "-"), "content", version)
        fleet.publish()
        node.push()
        node.until_result("good-unproven", component="content", to=version)
        assert node.current("content") == version and node.current("web") == "1.0.0"
        result = [x for x in node.results().values() if x["component"] == "content" and x["to"] == version][-1]
        assert result["pause_ms"] == 0, "no service was away"
    assert node.component()["services"][0]["pid"] == pid, "the service of another component was touched"


HOOKS = {h: {"command": ["bin/hook", h]} for h in ("preflight", "before_swap", "after_swap", "after_rollback")}


def hooked(version, **more):
    """web files whose hooks note their name, user and folder, and fail where a file says so."""
    files = web_files(version, **more)
    files["bin/hook"] = (0o755, b"#!/bin/sh\necho \"$1 $SELFRIGHT_VERSION $(id -un) $(basename \"$PWD\")\" "
                                b">>\"$SELFRIGHT_DATA/hooks\"\necho about to end\n[ ! -e \"$SELFRIGHT_DATA/fail-$1\" ]\n")
    return files


@story
def hooks_run_in_turn_and_never_as_root(fleet, node):
    install(fleet, node)
    pid = node.component()["services"][0]["pid"]
    data = node.root + "/data/web"
    user = "nobody" if os.geteuid() == 0 else __import__("getpass").getuser()

    def ran(version):
        """Not what an earlier version ran that is tried again meanwhile."""
        lines = open(data + "/hooks").read().split("\n")[:-1]
        os.unlink(data + "/hooks")
        return [line for line in lines if line.split()[1] == version]

    def offer(version, rollout, fail=None):
        if fail:
            open(f"{data}/fail-{fail}", "w").close()
        fleet.release("web", version, hooked(version), doc=dict(WEB, hooks=HOOKS))
        fleet.rollout(rollout, "web", version)
        fleet.publish()
        node.push()
    # Before the swap a failing hook changes nothing, and the service is not touched.
    offer("1.1.0", "r2", fail="before_swap")
    result = node.until_result("hook-failed", to="1.1.0")
    assert "before_swap" in result["detail"] and "about to end" in result["log_tail"], result
    assert ran("1.1.0") == [f"preflight 1.1.0 {user} 1.1.0", f"before_swap 1.1.0 {user} 1.1.0"]
    assert node.component()["services"][0]["pid"] == pid and node.current() == "1.0.0"
    assert node.component()["denied"] == []
    os.unlink(data + "/fail-before_swap")
    # After it, it brings the old version back, and the new one's after_rollback cleans up behind itself.
    offer("1.2.0", "r3", fail="after_swap")
    result = node.until_result("hook-failed", to="1.2.0")
    assert "after_swap" in result["detail"] and result["class"] == "release", result
    node.until("the old one serves", lambda: node.current() == "1.0.0" and node.running() == "1.0.0")
    node.until("it has cleaned up", lambda: "after_rollback" in open(data + "/hooks").read())
    assert [line.split()[0] for line in ran("1.2.0")] == ["preflight", "before_swap", "after_swap", "after_rollback"]
    os.unlink(data + "/fail-after_swap")
    offer("1.3.0", "r4")
    result = node.until_result("good", to="1.3.0")
    assert [line.split()[0] for line in ran("1.3.0")] == ["preflight", "before_swap", "after_swap"]
    assert result["pause_ms"] > 0, "the service was away until its check passed"
    assert result["pause_ms"] < result["duration_ms"], result
    if os.geteuid() == 0:
        pid = node.component()["services"][0]["pid"]
        assert os.stat(f"/proc/{pid}").st_uid == __import__("pwd").getpwnam("nobody").pw_uid


@story
def a_service_whose_files_are_the_same_is_left_alone(fleet, node):
    def offer(version, rollout, config=b"same", broken=False, **service):
        files = web_files(version, broken=broken)
        files["bin/check"] = (0o755, b"#!/bin/sh\n[ ! -e \"$SELFRIGHT_CURRENT/web/broken\" ]\n")
        files["etc/app.conf"] = (0o644, config)
        app = dict(WEB["services"][0], files=["bin/start", "etc"], stop_before_swap=True, **service)
        other = {"name": "other", "start": {"command": ["bin/start", "other"]}}
        fleet.release("web", version, files, doc=dict(WEB, services=[app, other]))
        fleet.rollout(rollout, "web", version)
        fleet.publish()
        node.push()

    def pids():
        return {v["name"]: v["pid"] for v in node.component()["services"]}
    offer("1.0.0", "r1")
    node.start()
    node.until_result("good", to="1.0.0")
    before = pids()
    offer("1.1.0", "r2")
    node.until_result("good", to="1.1.0")
    after = pids()
    assert after["app"] == before["app"] and after["other"] != before["other"], (before, after)
    # Nor does the way back touch it, nor an agent that comes anew.
    offer("1.2.0", "r3", broken=True)
    node.until_result("check-failed", to="1.2.0")
    node.kill()
    node.start()
    node.until("it is known", lambda: pids()["app"] == before["app"])
    offer("1.3.0", "r4", config=b"another")
    node.until_result("good", to="1.3.0")
    assert pids()["app"] != before["app"], "its configuration changed and it was not restarted"
    before = pids()
    offer("1.4.0", "r5", config=b"another", stop_signal="SIGINT")
    node.until_result("good", to="1.4.0")
    assert pids()["app"] != before["app"], "its declaration changed and it was not restarted"


@story
def a_service_that_dies_is_started_again(fleet, node):
    install(fleet, node)
    pid = node.component()["services"][0]["pid"]
    time.sleep(1.1)
    os.kill(pid, signal.SIGKILL)
    node.until("a new process", lambda: node.component()["services"][0]["pid"] not in (0, pid))


@story
def services_outlive_the_agent(fleet, node):
    install(fleet, node)
    pid = node.component()["services"][0]["pid"]
    node.kill()
    os.kill(pid, 0)
    node.start()
    node.until("known again", lambda: node.component()["services"][0]["pid"] == pid)
    node.kill(signal.SIGTERM)
    os.kill(pid, 0)
    node.start()
    node.until("known again", lambda: node.component()["services"][0]["pid"] == pid)


@story
def old_versions_are_collected(fleet, node):
    install(fleet, node)
    for i in range(1, 6):
        version = f"1.{i}.0"
        fleet.release("web", version, web_files(version))
        fleet.rollout(f"r1-{i}", "web", version)
        fleet.publish()
        node.push()
        node.until_result("good", to=version)
        if i == 4:
            break
    node.until("few are left", lambda: len([v for v in os.listdir(node.root + "/store/web") if "." in v and
                                            not v.endswith(".seal")]) <= 3)
    assert node.current() == "1.4.0"


@story
def no_road_is_no_end(fleet, node):
    open(node.mail + "/offline", "w").close()
    node.start()
    node.until("it says so", lambda: node.status()["metadata"]["error"] is not None)
    fleet.release("web", "1.0.0", web_files("1.0.0"))
    fleet.rollout("r1", "web", "1.0.0")
    fleet.publish()
    os.unlink(node.mail + "/offline")
    node.until_result("good", to="1.0.0", seconds=40)


@story
def without_a_link_it_waits_quietly(fleet, node):
    node.write(node.programs + "/gone", open(node.programs + "/selfright-link").read(), 0o755)
    node.write(node.programs + "/selfright-link", "#!/bin/sh\nexit 1\n", 0o755)
    node.start()
    node.until("it says so", lambda: node.status()["link"]["running"] is False)

    def cpu_ticks():
        return sum(int(x) for x in open(f"/proc/{node.process.pid}/stat").read().rsplit(")", 1)[1].split()[11:13])
    before = cpu_ticks()
    time.sleep(2)
    assert cpu_ticks() - before < 20, "it spins"
    os.rename(node.programs + "/gone", node.programs + "/selfright-link")
    node.until("it reports", lambda: node.reports(), 60)


@story
def a_missing_program_is_said_once_at_the_start(fleet, node):
    os.unlink(node.programs + "/selfright-stage")
    node.start()
    assert node.process.wait(120) == 1
    log = open(node.home + "/agent.log").read()
    assert log.count("start-failed") + log.count(node.programs + "/selfright-stage") >= 1, log
    assert log.count(node.programs + "/selfright-stage") == 1 and "tried" in log, log
    # Without `programs` every place is named.
    text = open(node.etc + "/agent.yaml").read().replace(f"programs: {node.programs}\n", "")
    node.write(node.etc + "/agent.yaml", text)
    os.mkdir(node.home + "/bin")
    agent = shutil.copy(node.build + "/bin/selfright-agent", node.home + "/bin/selfright-agent")
    p = subprocess.run([agent, "run", "--config-dir", node.etc], capture_output=True, text=True, timeout=10)
    for place in (node.home + "/bin", node.home + "/libexec/selfright", "/usr/libexec/selfright"):
        assert place + "/selfright-link" in p.stderr, (place, p.stderr)
    assert p.returncode == 1
    # ../libexec/selfright beside an unpacked tarball's bin.
    os.makedirs(node.home + "/libexec")
    node.write(node.programs + "/selfright-stage", "#!/bin/sh\nexit 1\n", 0o755)
    shutil.copytree(node.programs, node.home + "/libexec/selfright")
    node.process = subprocess.Popen([agent, "run", "--config-dir", node.etc], stdout=node.log, stderr=node.log)
    node.until("its link runs", lambda: node.status()["link"]["running"])


def behind_a_proxy(fleet, node, password="geheim"):
    """The product's own link and stage; the controller's name is known to the proxy alone."""
    controller = road.Controller(fleet.repo, node.home)
    proxy = road.Proxy(controller.port, "node:geheim")
    text = open(node.etc + "/agent.yaml").read()
    text = text.replace(f"programs: {node.programs}\n", f"programs: {node.build}/bin\n")
    text = text.replace("https://127.0.0.1:1/", f"https://{road.HOST}:{controller.port}/")
    text += f"proxy: http://node:{password}@127.0.0.1:{proxy.port}\nbroker: {{host: broker.invalid}}\n"
    node.write(node.etc + "/agent.yaml", text)
    node.write(node.etc + "/ca.crt", controller.ca)
    for name in ("transport.key", "transport.crt"):
        node.write(f"{node.etc}/{name}", open(node.home + "/server.pem").read(), 0o600)
    return controller, proxy


@story
def behind_a_proxy_with_a_password(fleet, node):
    controller, proxy = behind_a_proxy(fleet, node)
    fleet.release("web", "1.0.0", web_files("1.0.0"))
    fleet.rollout("r1", "web", "1.0.0")
    fleet.publish()
    arguments = set()

    def installed():
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                arguments.add(open(f"/proc/{pid}/cmdline").read())
            except OSError:
                pass
        return node.running() == "1.0.0"
    node.start()
    node.until("it is installed", installed)
    mine = [a for a in arguments if node.etc in a]
    assert mine and not [a for a in mine if "geheim" in a], "a password stands in the arguments"
    assert any("selfright/" in t for t in proxy.tunnels) and len(proxy.tunnels) >= 2, vars(proxy)
    # Each first asks which way of proving itself the proxy wants, and then has the right one.
    assert not proxy.wrong, vars(proxy)
    assert proxy.elsewhere and all("broker.invalid:8883" in c for c in proxy.elsewhere), "MQTT goes the same way"
    node.until("reports go the same way", lambda: controller.posted)
    note = node.status()["link"]["note"]
    assert "proxy" in note and "polled by HTTPS" in note, note
    assert "geheim" not in open(node.home + "/agent.log").read()


@story
def a_download_is_no_faster_than_it_may_be(fleet, node):
    behind_a_proxy(fleet, node)
    with open(node.etc + "/agent.yaml", "a") as f:
        f.write("download: {rate: 3M, busy: '00:00-24:00', busy_rate: 2M}\nmirrors: ['https://127.0.0.1:1']\n")
    fleet.release("web", "1.0.0", web_files("1.0.0"))
    fleet.rollout("r1", "web", "1.0.0")
    fleet.publish()
    arguments = set()

    def installed():
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                arguments.add(open(f"/proc/{pid}/cmdline").read())
            except OSError:
                pass
        return node.running() == "1.0.0"
    node.start()
    node.until("it is installed", installed)
    mine = [a for a in arguments if node.etc in a and "--sha256" in a]
    assert mine and all("--rate\x00%d\x00" % (2 << 20) in a for a in mine), mine
    assert all(a.index("127.0.0.1:1/") < a.index("updates.invalid") for a in mine), "the cache comes first"


@story
def the_pace_changes_with_the_hour_in_the_middle_of_a_download(fleet, node):
    faketime = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
    if not faketime or b"__asan_init" in open(node.build + "/bin/selfright-agent", "rb").read():
        return  # a sanitizer's runtime must be loaded first, which a preloaded library prevents
    hour = time.gmtime().tm_hour
    with open(node.etc + "/agent.yaml", "a") as f:
        f.write("broker: {host: broker.invalid}\nroads: [mqtt, https]\n"
                "download: {rate: 256K, busy: '%02d:00-%02d:00', busy_rate: 64K}\n" % ((hour + 2) % 24, (hour + 4) % 24))
    node.write(node.programs + "/selfright-stage", '#!/bin/bash\nargs=()\necho "$*" >>' + node.mail + "/stages\n"
               f"while [ -e {node.mail}/slow ]; do sleep 0.1; done\n"
               'while [ $# -gt 0 ]; do case $1 in --url|--ca) shift 2;; *) args+=("$1"); shift;; esac; done\n'
               f'exec {node.programs}/stage-real --dir {fleet.repo} "${{args[@]}}"\n', 0o755)
    fleet.release("web", "1.0.0", web_files("1.0.0"))
    fleet.rollout("r1", "web", "1.0.0")
    fleet.publish()
    for name in ("saving", "slow"):
        node.write(f"{node.mail}/{name}", "")

    def clock(offset):
        node.write(node.home + "/clock.new", offset)
        os.rename(node.home + "/clock.new", node.home + "/clock")

    def last(name, words):
        lines = open(f"{node.mail}/{name}").read().splitlines() if os.path.exists(f"{node.mail}/{name}") else []
        return bool(lines) and words in " %s " % lines[-1]
    clock("+0h")
    node.start(LD_PRELOAD=faketime, FAKETIME_TIMESTAMP_FILE=node.home + "/clock", FAKETIME_NO_CACHE="1",
               FAKETIME_DONT_FAKE_MONOTONIC="1")
    node.until("it begins over MQTT, at this hour's pace", lambda: last("rates", " 262144 "))
    clock("+3h")
    node.until("the busy hours begin: it goes on at theirs", lambda: last("rates", " 65536 "))
    clock("+0h")
    node.until("and as fast as before when they are over", lambda: last("rates", " 262144 "))
    os.unlink(node.mail + "/saving")
    node.until("by HTTPS as well", lambda: last("stages", " --rate 262144 "))
    clock("+3h")
    node.until("it is started again at the pace of the busy hours", lambda: last("stages", " --rate 65536 "))
    os.unlink(node.mail + "/slow")
    node.until("it is installed", lambda: node.running() == "1.0.0")
    assert len(open(node.mail + "/stages").read().splitlines()) == 2, "as often as the pace changed"


@story
def a_server_that_asks_to_be_left_alone_is(fleet, node):
    controller, _ = behind_a_proxy(fleet, node)
    controller.busy[".tar.gz"] = [1, "8"]
    fleet.release("web", "1.0.0", web_files("1.0.0"))
    fleet.rollout("r1", "web", "1.0.0")
    fleet.publish()
    node.start()
    node.until("what it asked for is said", lambda: "answered 503; asked to be left alone for 8 s" in node.said())
    node.until("it is installed all the same", lambda: node.running() == "1.0.0")
    first, second = [at for at, path in controller.asked if path.endswith(".tar.gz")]
    assert second - first >= 8, "it was asked again before that"


@story
def a_patch_is_not_kept_waiting_for_an_hour(fleet, node):
    controller, _ = behind_a_proxy(fleet, node)
    controller.busy[".tar.gz"] = [1000, "Fri, 31 Dec 9999 23:59:59 GMT"]
    fleet.release("web", "1.0.0", web_files("1.0.0"))
    fleet.rollout("r1", "web", "1.0.0", kind="patch")
    fleet.publish()
    node.start()
    node.until("it waits for a minute at most", lambda: "answered 503; asked to be left alone for 60 s" in node.said())
    node.until("a report's answer is said as it is", lambda: "updates.invalid:%d: answered 503" % controller.port in
               "".join(line for line in node.said().splitlines() if "link-post" in line))


@story
def a_proxy_that_refuses_is_named(fleet, node):
    _, proxy = behind_a_proxy(fleet, node, password="wrong")
    fleet.publish()
    node.start()
    node.until("it says so", lambda: "407" in node.status()["metadata"]["error"])
    assert proxy.refused and "wrong" not in json.dumps(node.status())


@story
def what_is_not_known_is_not_explained(fleet, node):
    install(fleet, node)
    code, answer = node.cli("why", "nosuch")
    assert code == 1 and answer["error"] == "no component nosuch here; there are: web", (code, answer)
    assert node.cli("why", "web")[0] == 0


@story
def probation_says_how_long(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"), doc=dict(WEB, probation=12))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until("it is on probation", lambda: re.fullmatch(r"probation, ([1-9]|1[0-2]) s of 12 s left",
                                                          node.component()["why_detail"]))
    node.until_result("good", to="1.1.0")


@story
def a_changed_reason_is_reported(fleet, node):
    install(fleet, node)

    def told(reason):
        return node.reports()[-1]["components"][0]["why"] == reason
    node.until("up to date", lambda: told("up-to-date"))
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0", state="paused")
    fleet.publish()
    node.push()
    node.until("the pause is told", lambda: told("paused") and node.reports()[-1]["components"][0]["wants"] == "1.1.0", 5)
    fleet.rollouts["r2"]["state"] = "halted"
    fleet.publish()
    node.push()
    node.until("the halt is told", lambda: not told("paused"), 5)

    def quiet():
        before = len(node.reports())
        time.sleep(4.5)
        return len(node.reports()) == before
    node.until("nothing changes any more and it reports nothing", quiet)


def staged(node, version):
    return os.path.isdir(f"{node.root}/store/web/{version}")


@story
def a_blackout_is_waited_out_with_the_bytes_here(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    end = time.time() + 600
    fleet.rollout("r2", "web", "1.1.0", blackout=[{"from": stamp(time.time() - 60), "until": stamp(end)}])
    fleet.publish()
    node.push()
    node.until("it is fetched ahead", lambda: staged(node, "1.1.0"), 5)
    node.until("it says why", lambda: node.why()["reason"] == "window" and "blackout" in node.why()["detail"]
               and stamp(end) in node.why()["detail"])
    assert node.current() == "1.0.0" and node.why()["until"] == stamp(end), node.why()
    node.until("it reports why", lambda: "blackout" in node.reports()[-1]["components"][0]["why_detail"], 5)
    end = time.time() + 5
    fleet.rollouts["r2"]["blackout"][0]["until"] = stamp(end)
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    assert time.time() >= int(end), "it swapped within the blackout"


@story
def a_window_is_read_in_the_zone_of_the_node(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    hour = (time.gmtime().tm_hour + 12) % 24
    window = f"{hour:02}:00-{hour:02}:30"
    fleet.rollout("r2", "web", "1.1.0", window=window)
    fleet.publish()
    node.push()
    node.until("it says why", lambda: window in node.why()["detail"] and "zone UTC" in node.why()["detail"])
    node.until("it is fetched ahead", lambda: staged(node, "1.1.0"), 5)
    assert node.why()["until"].endswith(f"T{hour:02}:00:00Z"), node.why()
    # The same hours twelve hours further east are now.
    node.kill(signal.SIGTERM)
    text = open(node.etc + "/agent.yaml").read()
    node.write(node.etc + "/agent.yaml", text.replace("{site: oslo}", "{site: oslo, zone: Etc/GMT-12}"))
    fleet.rollouts["r2"]["window"] = f"{hour:02}:00-{(hour + 2) % 24:02}:00"
    fleet.publish()
    node.start()
    node.until_result("good", to="1.1.0")


@story
def old_zone_data_is_told(fleet, node):
    if not os.path.exists("/usr/share/zoneinfo/tzdata.zi"):
        return  # nobody can say how old it is
    text = open(node.etc + "/agent.yaml").read()
    node.write(node.etc + "/agent.yaml", text.replace("{site: oslo}", "{site: oslo, zone: Asia/Kathmandu}") +
               "zone_data_months: 1\n")
    install(fleet, node)
    zone = node.status()["zone"]
    assert zone["name"] == "Asia/Kathmandu" and re.fullmatch("20[0-9]{2}[a-z]", zone["edition"]), zone
    assert zone["stale"], zone
    assert "zone-data-old" in open(node.home + "/agent.log").read()
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    there = time.gmtime(time.time() + 5.75 * 3600).tm_hour
    fleet.rollout("r2", "web", "1.1.0", window=f"{(there + 8) % 24:02}:00-{(there + 9) % 24:02}:00")
    fleet.publish()
    node.push()
    node.until("it says so", lambda: f"by old zone data, {zone['edition']}" in node.why()["detail"])
    status = node.status()
    assert status["next_window"]["component"] == "web" and "+0545" in status["next_window"]["local"], status
    # What a release itself expects is asked before a byte is fetched.
    fleet.release("web", "1.2.0", web_files("1.2.0"), doc=dict(WEB, requires={"zone_data": "2199a"}))
    fleet.rollout("r3", "web", "1.2.0")
    fleet.publish()
    node.push()
    result = node.until_result("requirement-missing", to="1.2.0")
    assert "2199a" in result["detail"] and zone["edition"] in result["detail"], result


@story
def a_person_at_the_console_sees_it_on_one_screen(fleet, node):
    metrics = node.home + "/selfright.prom"
    text = open(node.etc + "/agent.yaml").read()
    node.write(node.etc + "/agent.yaml", text + f"metrics: {{file: {metrics}, every: 1s}}\n")
    install(fleet, node)
    agent = [node.build + "/bin/selfright-agent", "status", "--config-dir", node.etc]
    out = subprocess.run(agent, capture_output=True, text=True, check=True).stdout
    assert "\x1b" not in out and "..." not in out and out.count("\n") < 24, out
    for words in ("n1 of fleet demo", "idle", "web            1.0.0", "running: app", "passing: answers", "good in"):
        assert words in out, (words, out)
    # On a terminal of 24 lines and 80 columns.
    import fcntl, pty, struct, termios
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    subprocess.run(agent, stdout=slave, env=dict(os.environ, TERM="xterm", NO_COLOR=""), check=True)
    out = os.read(master, 65536).decode()
    assert "\x1b[32m" in out and out.count("\n") < 24, out
    os.close(slave)
    os.close(master)
    out = subprocess.run(agent + ["--prometheus"], capture_output=True, text=True, check=True).stdout
    assert 'selfright_component_info{component="web",version="1.0.0",wants=""} 1\n' in out, out
    assert 'selfright_check_up{component="web",check="answers"} 1\n' in out, out
    node.until("the agent writes it itself", lambda: 'version="1.0.0"' in open(metrics).read())
    assert subprocess.run(agent + ["--prometheus", "-o", node.home + "/other.prom"]).returncode == 0
    assert "selfright_generation" in open(node.home + "/other.prom").read()
    assert subprocess.run(agent + ["--prometheus", "-o", "/no/such/x.prom"], stderr=subprocess.DEVNULL).returncode == 1
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    fleet.release("content", "1.0.0", content_files("1.0.0"), doc=CONTENT)
    fleet.rollout("c1", "content", "1.0.0")
    fleet.publish()
    node.push()
    node.until_result("good", component="content", to="1.0.0")
    node.until("the checks of both are shown", lambda: {(c["component"], c["state"]) for c in node.status()["checks"]} >=
               {("web", "passing"), ("content", "passing")})
    node.until("it is kept up to date", lambda: 'version="1.1.0"' in open(metrics).read()
               and 'result="good"' in open(metrics).read())


@story
def an_unknown_zone_keeps_windows_closed_and_says_so(fleet, node):
    text = open(node.etc + "/agent.yaml").read()
    node.write(node.etc + "/agent.yaml", text.replace("{site: oslo}", "{site: oslo, zone: Mars/Base}"))
    install(fleet, node)  # a rollout without a window needs no zone
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0", window="00:00-24:00")
    fleet.publish()
    node.push()
    node.until("it says why", lambda: node.why()["reason"] == "window" and "Mars/Base" in node.why()["detail"])
    node.until("it reports why", lambda: "Mars/Base" in node.reports()[-1]["components"][0]["why_detail"], 5)
    assert node.current() == "1.0.0"


@story
def a_window_that_is_none_is_refused(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0", window="at night")
    fleet.publish()
    node.push()
    node.until("it is refused", lambda: [x for x in node.results().values() if "window: must be" in x["detail"]])
    assert node.current() == "1.0.0"


@story
def people_are_told_when_the_notice_period_begins(fleet, node):
    install(fleet, node)
    hook = b"#!/bin/sh\necho \"$SELFRIGHT_VERSION\" >>\"$SELFRIGHT_DATA/notified\"\nexit 3\n"
    for version in ("1.1.0", "1.2.0"):
        files = dict(web_files(version), **{"bin/notify": (0o755, hook)})
        fleet.release("web", version, files, doc=dict(WEB, hooks={"notify": {"command": ["bin/notify"]}}))
    fleet.rollout("r2", "web", "1.1.0", notice=15)
    fleet.publish()
    node.push()

    def told():
        try:
            return open(node.root + "/data/web/notified").read().split()
        except FileNotFoundError:
            return []
    node.until("they are told", lambda: told() == ["1.1.0"], 10)
    assert node.current() == "1.0.0" and node.why()["reason"] == "notice", node.why()
    fleet.publish()
    node.push()  # a refresh is no new beginning
    node.until_result("good", to="1.1.0", seconds=15)
    assert told() == ["1.1.0"], told()
    fleet.rollout("r3", "web", "1.2.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.2.0")
    assert told() == ["1.1.0"], "without a notice period there is nothing to tell"


@story
def a_notice_period_goes_on_after_a_restart_of_the_agent(fleet, node):
    install(fleet, node)
    hook = b"#!/bin/sh\necho \"$SELFRIGHT_VERSION\" >>\"$SELFRIGHT_DATA/notified\"\n"
    files = dict(web_files("1.1.0"), **{"bin/notify": (0o755, hook)})
    fleet.release("web", "1.1.0", files, doc=dict(WEB, hooks={"notify": {"command": ["bin/notify"]}}))
    fleet.rollout("r2", "web", "1.1.0", notice=4000)
    fleet.publish()
    node.push()

    def told():
        try:
            return open(node.root + "/data/web/notified").read().split()
        except FileNotFoundError:
            return []

    def began():
        """Of the newest record of the journal, which is text."""
        folder = node.root + "/journal"
        files = [os.path.join(folder, f) for f in os.listdir(folder)] if os.path.isdir(folder) else [folder]
        newest = max(files, key=os.path.getmtime)
        found = re.findall(rb"noticed r2 \S+ (-?\d+)", open(newest, "rb").read())
        return found[-1] if found else None
    node.until("they are told", lambda: "notice notified:" in open(node.home + "/agent.log").read())
    node.until("and the period runs", lambda: node.why()["reason"] == "notice")
    before = began()
    assert before, "it is kept"
    node.kill()
    node.start()
    node.until("it waits on", lambda: node.why()["reason"] == "notice")
    fleet.publish()
    node.push()
    node.until("after a refresh too", lambda: node.why()["reason"] == "notice")
    assert told() == ["1.1.0"] and began() == before, (told(), began(), before)
    fleet.rollouts["r2"]["notice"] = 0
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    assert told() == ["1.1.0"], told()


@story
def a_later_stage_is_spread_from_its_own_opening(fleet, node):
    install(fleet, node)
    for version in ("1.1.0", "1.2.0"):
        fleet.release("web", version, web_files(version))
    # A node that was away for the whole spread does not wait for it again.
    fleet.rollout("r2", "web", "1.1.0", spread=3600, opened={"all": stamp(time.time() - 2 * 3600)})
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    share = lambda id: int.from_bytes(hashlib.sha256(f"{id}\0n1".encode()).digest()[:8], "big") % 10000
    late = next(f"late-{i}" for i in range(100) if share(f"late-{i}") > 5000)
    fleet.rollout(late, "web", "1.2.0", spread=86400)
    fleet.rollouts[late]["stages"][0]["open"] = False
    fleet.publish()
    node.push()
    node.until("the stage is closed", lambda: node.why()["reason"] == "stage-closed")
    fleet.rollouts[late]["stages"][0]["open"] = True
    fleet.rollouts[late]["opened"] = {"all": stamp(time.time())}
    fleet.publish()
    node.push()
    node.until("its turn comes later", lambda: node.why()["reason"] == "spread")
    node.kill()
    node.start()
    node.until("also after a restart", lambda: node.why()["reason"] == "spread")
    # Opened a day ago: that is over.
    fleet.rollouts[late]["opened"] = {"all": stamp(time.time() - 2 * 86400)}
    fleet.publish()
    node.kill()
    node.start()
    node.push()
    node.until_result("good", to="1.2.0")


DATA_START = (b"#!/bin/sh\necho \"$SELFRIGHT_VERSION $1\" >\"$SELFRIGHT_DATA/running\"\n"
              b"mkdir -p \"$SELFRIGHT_DATA/db\"; echo \"$SELFRIGHT_VERSION\" >\"$SELFRIGHT_DATA/db/format\"\n"
              b"echo \"$SELFRIGHT_VERSION\" >>\"$SELFRIGHT_DATA/db/rows\"; [ $SELFRIGHT_VERSION = 1.0.0 ] ||"
              b" touch \"$SELFRIGHT_DATA/lock\"\nexec sleep 100000\n")
DATA = dict(WEB, data=[{"path": "db", "on_rollback": "restore"}, {"path": "lock", "on_rollback": "restore"}])


def data_files(version, broken=False):
    return dict(web_files(version, broken=broken), **{"bin/start": (0o755, DATA_START)})


def rows(node):
    return open(node.root + "/data/web/db/rows").read().split()


def install_with_data(fleet, node):
    fleet.release("web", "1.0.0", data_files("1.0.0"), doc=DATA)
    fleet.rollout("r1", "web", "1.0.0")
    fleet.publish()
    node.start()
    node.until_result("good", to="1.0.0")
    assert rows(node) == ["1.0.0"]


@story
def data_comes_back_when_probation_fails(fleet, node):
    install_with_data(fleet, node)
    fleet.release("web", "1.1.0", data_files("1.1.0", broken=True), doc=DATA)
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("check-failed", to="1.1.0")
    node.until("the old version serves", lambda: node.running() == "1.0.0")
    # What 1.1.0 wrote is away; what 1.0.0 writes on its own start is added to what it had.
    assert rows(node) == ["1.0.0", "1.0.0"], rows(node)
    assert not os.path.exists(node.root + "/data/web/lock"), "what the new version made has gone with it"
    saves = os.listdir(node.root + "/saved")
    assert len(saves) == 2, saves
    kept = [s for s in saves if os.path.exists(f"{node.root}/saved/{s}/displaced-0/rows")]
    assert len(kept) == 1, saves
    assert open(f"{node.root}/saved/{kept[0]}/displaced-0/rows").read().split() == ["1.0.0", "1.1.0"]


@story
def data_stays_when_a_later_rollback_comes(fleet, node):
    install_with_data(fleet, node)
    fleet.release("web", "1.1.0", data_files("1.1.0"), doc=DATA)
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    fleet.order_rollback("n1", "web", "1.1.0", "1.0.0")
    fleet.publish()
    node.push()
    node.until_result("rolled-back")
    node.until("the old version serves", lambda: node.running() == "1.0.0")
    assert rows(node) == ["1.0.0", "1.1.0", "1.0.0"], rows(node)


def ordered_back_with_data(fleet, node):
    install_with_data(fleet, node)
    fleet.release("web", "1.1.0", data_files("1.1.0"), doc=DATA)
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    fleet.order_rollback("n1", "web", "1.1.0", "1.0.0")
    fleet.orders["n1"]["rollback"][0]["data"] = "restore"
    fleet.publish()
    node.push()
    result = node.until_result("rolled-back")
    node.until("the old version serves", lambda: node.running() == "1.0.0")
    return result


@story
def data_comes_back_where_order_and_node_both_say_so(fleet, node):
    node.write(node.etc + "/components.d/web.yaml", "restore_data: true\n")
    ordered_back_with_data(fleet, node)
    assert rows(node) == ["1.0.0", "1.0.0"], rows(node)
    displaced = [s for s in os.listdir(node.root + "/saved")
                 if os.path.exists(f"{node.root}/saved/{s}/displaced-0/rows")]
    assert len(displaced) == 1, os.listdir(node.root + "/saved")


@story
def data_stays_where_only_the_order_says_so(fleet, node):
    result = ordered_back_with_data(fleet, node)
    assert rows(node) == ["1.0.0", "1.1.0", "1.0.0"], rows(node)
    assert "components.d" in result["detail"], result


@story
def data_comes_back_from_recover_too(fleet, node):
    install_with_data(fleet, node)
    fleet.release("web", "1.1.0", data_files("1.1.0"), doc=dict(DATA, probation=120))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until("probation", lambda: node.status()["state"] == "probation" and rows(node) == ["1.0.0", "1.1.0"])
    node.kill()
    for boot in range(5):
        p = subprocess.run([node.build + "/bin/selfright-recover", "--root", node.root, "--boot-id", f"boot-{boot}"],
                           capture_output=True, text=True)
        assert p.returncode in (0, 3), p
    assert node.current() == "1.0.0" and rows(node) == ["1.0.0"], (node.current(), rows(node))
    node.start()
    result = node.until_result("interrupted", to="1.1.0")
    assert result["class"] == "node", result
    node.until("the old version serves", lambda: node.running() == "1.0.0")
    assert rows(node) == ["1.0.0", "1.0.0"] and node.component()["denied"] == [], rows(node)


@story
def data_that_cannot_go_back_asks_for_more(fleet, node):
    result = refused(fleet, node, "requirement-missing", doc=dict(WEB, data_compatible_back=False))
    assert "cannot read its data" in result["detail"], result


@story
def data_that_cannot_go_back_is_shown(fleet, node):
    install_with_data(fleet, node)
    assert node.why()["data_compatible_back"] is True
    fleet.release("web", "1.1.0", data_files("1.1.0"), doc=dict(DATA, data_compatible_back=False))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    assert node.why()["data_compatible_back"] is False and node.component()["data_compatible_back"] is False
    text = subprocess.run([node.build + "/bin/selfright-agent", "why", "--config-dir", node.etc],
                          capture_output=True, text=True, timeout=60).stdout
    assert "cannot read it" in text, text
    text = subprocess.run([node.build + "/bin/selfright-agent", "status", "--config-dir", node.etc],
                          capture_output=True, text=True, timeout=60).stdout
    assert "the version before cannot read it" in text, text


@story
def the_console_sends_it_back_with_its_data(fleet, node):
    install_with_data(fleet, node)
    code, answer = node.cli("rollback", "web", "--to", "1.0.0", "--restore-data", "--reason", "no")
    assert code == 4 and "runs 1.0.0 already" in answer["error"], (code, answer)
    fleet.release("web", "1.1.0", data_files("1.1.0"), doc=DATA)
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    code, answer = node.cli("rollback", "web", "--restore-data", "--reason", "it eats rows")
    assert code == 0 and answer["to"] == "1.0.0" and answer["restores_data"] is True, (code, answer)
    node.until_result("rolled-back")
    node.until("the old version serves", lambda: node.running() == "1.0.0")
    assert rows(node) == ["1.0.0", "1.0.0"], rows(node)


@story
def the_console_is_told_when_there_is_no_copy_of_the_data(fleet, node):
    install(fleet, node)
    update_to(fleet, node, "1.1.0", "r2")
    code, answer = node.cli("rollback", "web", "--restore-data", "--reason", "errors")
    assert code == 4 and "no copy of the data" in answer["error"], (code, answer)
    assert node.current() == "1.1.0" and node.status()["state"] == "idle", node.status()


@story
def data_that_is_not_allowed_is_refused(fleet, node):
    node.write(node.etc + "/components.d/web.yaml", "data: [cache/]\n")
    result = refused(fleet, node, "not-allowed", doc=DATA)
    assert "db" in result["detail"], result


@story
def data_through_a_link_is_refused(fleet, node):
    install(fleet, node)
    os.symlink("/etc", node.root + "/data/web/db")
    fleet.release("web", "1.1.0", web_files("1.1.0"),
                  doc=dict(WEB, data=[{"path": "db/passwd", "on_rollback": "restore"}]))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until("it is refused", lambda: [x for x in node.results().values() if x.get("to") == "1.1.0"
                                         and "data" in x["detail"]])
    node.serves("1.0.0")


def killed_with_data(fleet, node, mark, broken):
    """Kill the agent once its log says `mark`; whatever the end is, the data is that of the version that runs."""
    install_with_data(fleet, node)
    fleet.release("web", "1.1.0", data_files("1.1.0", broken=broken), doc=dict(DATA, probation=2))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until(mark, lambda: mark.encode() in open(node.home + "/agent.log", "rb").read())
    node.kill()
    node.start()
    node.until_result("check-failed" if broken else "good", to="1.1.0", seconds=40)
    expected = "1.0.0" if broken else "1.1.0"
    node.until("it serves", lambda: node.running() == expected and node.current() == expected)
    assert rows(node)[0] == "1.0.0" and (("1.1.0" in rows(node)) != broken), rows(node)


@story
def killed_with_data_saved(fleet, node):
    killed_with_data(fleet, node, "data-saved", broken=False)


@story
def killed_with_data_restored(fleet, node):
    killed_with_data(fleet, node, "data-restored", broken=True)


def content_files(version, broken=False):
    files = {"index.txt": (0o644, version.encode()),
             "bin/check": (0o755, b"#!/bin/sh\n[ ! -e \"$SELFRIGHT_CURRENT/content/broken\" ]\n")}
    if broken:
        files["broken"] = (0o644, b"")
    return files


CONTENT = {"checks": [{"name": "whole", "exec": {"command": ["bin/check"]}, "periodSeconds": 1, "failureThreshold": 1}],
           "probation": 1}


def install_both(fleet, node):
    fleet.release("web", "1.0.0", web_files("1.0.0"))
    fleet.release("content", "1.0.0", content_files("1.0.0"), doc=CONTENT)
    fleet.rollout("r1", "web", "1.0.0")
    fleet.together("r1", ("content", "1.0.0"))
    fleet.publish()
    node.start()
    node.until_result("good", to="1.0.0")
    node.until_result("good", component="content", to="1.0.0")
    assert both(node) == ("1.0.0", "1.0.0")


def both(node):
    return node.current("web"), node.current("content")


def offer_both(fleet, node, broken=False, kill=None, doc=WEB, **release):
    fleet.release("web", "1.1.0", web_files("1.1.0"), doc=dict(doc, requires={"components": {"content": ">=1.1.0"}}))
    fleet.release("content", "1.1.0", content_files("1.1.0", broken), doc=release.pop("content", CONTENT), **release)
    fleet.rollout("r2", "web", "1.1.0")
    fleet.together("r2", ("content", "1.1.0"))
    fleet.publish()
    node.push()


@story
def several_are_swapped_in_one_rename(fleet, node):
    install_both(fleet, node)
    offer_both(fleet, node)
    node.until_result("good", to="1.1.0")
    result = node.until_result("good", component="content", to="1.1.0")
    assert result["rollout"] == "r2" and result["from"] == "1.0.0", result
    assert both(node) == ("1.1.0", "1.1.0") and node.running() == "1.1.0"
    generations = {frozenset((os.path.basename(os.path.dirname(os.readlink(f"{node.root}/generations/{g}/{c}"))),
                              os.path.basename(os.readlink(f"{node.root}/generations/{g}/{c}")))
                             for c in os.listdir(f"{node.root}/generations/{g}"))
                   for g in os.listdir(node.root + "/generations")}
    mixed = [g for g in generations if {v for _, v in g} == {"1.0.0", "1.1.0"}]
    assert not mixed, mixed
    ids = {x["update"] for x in node.results().values()}
    assert len(ids) == 4 and "r2/content/2" in ids and "r2/web/2" in ids, ids


@story
def several_go_back_together_and_one_is_blamed(fleet, node):
    install_both(fleet, node)
    offer_both(fleet, node, broken=True)
    result = node.until_result("check-failed", to="1.1.0")
    assert "whole" in result["detail"], result
    node.until_result("check-failed", component="content", to="1.1.0")
    assert both(node) == ("1.0.0", "1.0.0")
    node.until("the old version serves", lambda: node.running() == "1.0.0")
    assert [d["version"] for d in node.component("content")["denied"]] == ["1.1.0"]
    assert node.component("web")["denied"] == [], "the one that did not fail is not denied"
    node.until("the other waits with it", lambda: node.why("web")["reason"] == "together")
    # A repaired content brings both.
    fleet.release("content", "1.1.1", content_files("1.1.1"), doc=CONTENT)
    fleet.rollout("r3", "web", "1.1.0")
    fleet.together("r3", ("content", "1.1.1"))
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    assert both(node) == ("1.1.0", "1.1.1")


@story
def several_or_none_before_the_swap(fleet, node):
    install_both(fleet, node)
    good = pack(content_files("1.1.0"))
    offer_both(fleet, node, artifact=good[:-1] + bytes([good[-1] ^ 1]), signed_digest=hashlib.sha256(good).hexdigest())
    node.until_result("artifact-digest", to="1.1.0")
    node.until_result("artifact-digest", component="content", to="1.1.0")
    assert both(node) == ("1.0.0", "1.0.0") and node.running() == "1.0.0"
    # It is tried again after a while, not in a circle, whichever of them is looked at.
    assert node.why("web")["reason"] == node.why("content")["reason"] == "retry", (node.why("web"), node.why("content"))
    ids = {x["update"] for x in node.results().values()}
    assert ids == {"r1/web/1", "r1/content/1", "r2/web/2", "r2/content/2"}, ids


@story
def several_wait_for_the_one_that_is_held(fleet, node):
    install_both(fleet, node)
    fleet.orders["n1"] = {"format": 1, "node": "n1", "pin": [{"id": "pin-1", "component": "content", "version": "1.0.0",
                                                             "reason": "ticket", "by": "support"}]}
    offer_both(fleet, node)
    node.until("it waits", lambda: node.why("web")["reason"] == "together" and
               node.why("content")["reason"] == "support-pin")
    assert both(node) == ("1.0.0", "1.0.0")
    fleet.orders = {}
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    assert both(node) == ("1.1.0", "1.1.0")


@story
def several_are_undone_together(fleet, node):
    install_both(fleet, node)
    offer_both(fleet, node)
    node.until_result("good", to="1.1.0")
    before = len(os.listdir(node.root + "/generations"))
    fleet.rollouts["r2"].update(state="halted", undo=["all"])
    fleet.publish()
    node.push()
    node.until_result("rolled-back", component="content")
    node.until_result("rolled-back")
    assert both(node) == ("1.0.0", "1.0.0") and before
    for c in ("web", "content"):
        assert [(d["version"], d["cause"]) for d in node.component(c)["denied"]] == [("1.1.0", "undone")]


@story
def several_need_the_approval_of_each_policy(fleet, node):
    install_both(fleet, node)
    fleet.listed["team-content"]["content/policy.json"] = json.dumps(
        {"format": 1, "owner": "content", "approvals": [{"approver": "team"}]}).encode()
    offer_both(fleet, node)
    node.until("it waits", lambda: node.why("web")["reason"] == "not-approved")
    assert both(node) == ("1.0.0", "1.0.0")
    rollout = fleet.rollouts["r2"]
    stage = {k: v for k, v in rollout["stages"][0].items() if k not in ("open", "approvals")}
    expires = stamp(time.time() + 3600)
    statement = {"_type": "selfright-approval", "fleet": "demo", "rollout": "r2", "kind": "regular",
                 "releases": [rollout["release"]] + rollout["with"], "stage": stage, "overrides": [],
                 "expires": expires}
    key = fleet.keys["team-web"]  # the other team's word is not enough
    for key in (fleet.keys["team-web"], fleet.keys["team-content"]):
        rollout["stages"][0]["approvals"] = [{"expires": expires, "signatures": [
            {"keyid": key.id, "sig": key.sign(canonical(statement).encode())}]}]
        fleet.publish()
        node.push()
        if key is fleet.keys["team-web"]:
            time.sleep(1)
            assert node.why("web")["reason"] == "not-approved" and both(node) == ("1.0.0", "1.0.0")
    node.until_result("good", to="1.1.0")
    assert both(node) == ("1.1.0", "1.1.0")


def killed_with_several(fleet, node, state, broken):
    install_both(fleet, node)
    doc = dict(WEB, services=[dict(WEB["services"][0], stop_before_swap=True)], probation=2)
    offer_both(fleet, node, broken=broken, doc=doc)
    wanted = f"to=1.1.0 state={state}".encode()
    node.until(state, lambda: wanted in open(node.home + "/agent.log", "rb").read())
    node.kill()
    assert both(node) in (("1.0.0", "1.0.0"), ("1.1.0", "1.1.0")), both(node)
    node.start()
    node.until_result("check-failed" if broken else "good", to="1.1.0", seconds=40)
    expected = "1.0.0" if broken else "1.1.0"
    assert both(node) == (expected, expected)
    node.until("it serves", lambda: node.running() == expected)


for _state in ("staging", "swapping", "probation", "rolling-back"):
    def _several(fleet, node, state=_state):
        killed_with_several(fleet, node, state, broken=state == "rolling-back")
    _several.__name__ = "several_killed_in_" + _state.replace("-", "_")
    story(_several)


def break_later(node, component, name="late"):
    open(f"{node.root}/data/{component}/{name}", "w").close()


def watched_content(version):
    files = content_files(version)
    files["bin/check"] = (0o755, b"#!/bin/sh\n[ ! -e \"$SELFRIGHT_DATA/late\" ] || [ \"$SELFRIGHT_VERSION\" = 1.0.0 ]\n")
    return files


def content_on_watch(fleet, node, needs=None):
    """content 1.1.0 is good and watched, then web 1.1.0 comes (needing it, if asked)."""
    install_both(fleet, node)
    fleet.release("content", "1.1.0", watched_content("1.1.0"), doc=dict(CONTENT, watch=120))
    fleet.rollout("r2", "content", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", component="content", to="1.1.0")
    doc = dict(WEB, requires={"components": {"content": needs}}) if needs else WEB
    fleet.release("web", "1.1.0", web_files("1.1.0"), doc=doc)
    fleet.rollout("r3", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    assert both(node) == ("1.1.0", "1.1.0")


@story
def watched_beside_another_it_is_undone_alone(fleet, node):
    content_on_watch(fleet, node)
    break_later(node, "content")
    result = node.until_result("regressed", component="content", to="1.1.0")
    assert result["rollout"] == "r2" and "whole" in result["detail"] and result["class"] == "release", result
    assert both(node) == ("1.1.0", "1.0.0"), both(node)
    assert node.running() == "1.1.0"
    assert [(d["version"], d["cause"]) for d in node.component("content")["denied"]] == [("1.1.0", "unfit")]
    assert node.component("web")["denied"] == []
    time.sleep(1)
    assert both(node) == ("1.1.0", "1.0.0")


@story
def watched_after_a_restart_too(fleet, node):
    content_on_watch(fleet, node)
    node.kill()
    node.start()
    node.until("it is watched again", lambda: open(node.home + "/agent.log").read().count("watch-goes-on") >= 2)
    time.sleep(2.5)  # it has passed since
    break_later(node, "content")
    node.until_result("regressed", component="content", to="1.1.0")
    assert both(node) == ("1.1.0", "1.0.0")


@story
def who_needs_it_goes_along(fleet, node):
    content_on_watch(fleet, node, needs=">=1.1.0")
    break_later(node, "content")
    node.until_result("regressed", component="content", to="1.1.0")
    node.until_result("regressed", component="web", to="1.1.0")
    assert both(node) == ("1.0.0", "1.0.0"), both(node)
    node.until("the old version serves", lambda: node.running() == "1.0.0")
    assert [d["version"] for d in node.component("content")["denied"]] == ["1.1.0"]
    assert node.component("web")["denied"] == [], "who only goes along has done nothing wrong"
    node.until("and says what is missing", lambda: any(
        x["name"] == "requirement-missing" and "content" in x["detail"] for x in node.results().values()))


@story
def support_sends_one_back_and_who_needs_it_goes_along(fleet, node):
    content_on_watch(fleet, node, needs=">=1.1.0")
    fleet.order_rollback("n1", "content", "1.1.0", "1.0.0")
    fleet.publish()
    node.push()
    node.until_result("rolled-back", component="content")
    node.until_result("rolled-back", component="web")
    assert both(node) == ("1.0.0", "1.0.0"), both(node)
    assert [(d["version"], d["cause"]) for d in node.component("content")["denied"]] == [("1.1.0", "forced")]
    assert node.component("web")["denied"] == []


@story
def what_would_break_what_runs_is_refused_before_a_byte_is_fetched(fleet, node):
    fleet.release("web", "1.0.0", web_files("1.0.0"), doc=dict(WEB, requires={"components": {"content": "<2.0.0"}}))
    fleet.release("content", "1.0.0", content_files("1.0.0"), doc=CONTENT)
    fleet.rollout("r1", "web", "1.0.0")
    fleet.together("r1", ("content", "1.0.0"))
    fleet.publish()
    node.start()
    node.until_result("good", to="1.0.0")
    fleet.release("content", "2.0.0", content_files("2.0.0"), doc=CONTENT)
    fleet.rollout("r2", "content", "2.0.0")
    fleet.publish()
    node.push()
    result = node.until_result("requirement-missing", component="content")
    assert "web 1.0.0, which runs here, needs content <2.0.0" in result["detail"], result
    assert both(node) == ("1.0.0", "1.0.0")
    assert not [line for line in open(node.home + "/agent.log") if "to=2.0.0" in line and "state=staging" in line]
    assert not os.path.exists(node.root + "/store/content/2.0.0")


@story
def it_steps_through_a_version_between(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.5.0", web_files("1.5.0"))
    fleet.release("web", "2.0.0", web_files("2.0.0"), doc=dict(WEB, requires={"from": "1.5.0"}))
    fleet.rollout("r2", "web", "1.5.0", state="done")
    fleet.rollout("r3", "web", "2.0.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="2.0.0", seconds=40)
    names = [(h["to"], h["name"]) for h in node.cli("history")[1]["history"]]
    assert names == [("1.0.0", "good"), ("1.5.0", "good"), ("2.0.0", "good")], names


@story
def without_a_step_it_says_so(fleet, node):
    install(fleet, node)
    fleet.release("web", "2.0.0", web_files("2.0.0"), doc=dict(WEB, requires={"from": "1.5.0"}))
    fleet.rollout("r3", "web", "2.0.0")
    fleet.publish()
    node.push()
    result = node.until_result("requirement-missing", to="2.0.0")
    assert "1.5.0 or newer; here is 1.0.0" in result["detail"] and "no rollout" in result["detail"], result
    assert node.current() == "1.0.0" and not os.path.exists(node.root + "/store/web/2.0.0")


# --- every way an update can end ---

def web_1_1(fleet, node, doc=None, broken=False, **rollout):
    fleet.release("web", "1.1.0", web_files("1.1.0", broken=broken), doc=doc)
    fleet.rollout("r2", "web", "1.1.0", **rollout)
    fleet.publish()
    node.push()


def floor(fleet, version, revoked=()):
    fleet.listed["team-web"]["web/policy.json"] = json.dumps(
        {"format": 1, "owner": "web", "security_floor": version, "revoked": list(revoked), "approvals": []}).encode()


@story
def falls_back_below_the_floor_and_says_so(fleet, node):
    install(fleet, node)
    floor(fleet, "1.1.0")
    web_1_1(fleet, node, broken=True)
    result = node.until_result("check-failed", to="1.1.0")
    assert "security floor" in result["detail"], result
    result = node.until_result("below-floor")
    assert result["class"] == "none" and "1.0.0" in result["detail"], result
    assert node.current() == "1.0.0"


@story
def what_is_revoked_while_it_waits_is_dropped(fleet, node):
    install(fleet, node)
    open(node.mail + "/slow", "w").close()
    web_1_1(fleet, node)
    node.until("it is fetched", lambda: node.status()["state"] == "staging")
    floor(fleet, "1.0.0", revoked=["1.1.0"])
    fleet.publish()
    node.push()
    result = node.until_result("revoked", to="1.1.0")
    assert result["class"] == "rejected" and node.current() == "1.0.0", result


@story
def a_newer_decision_takes_its_place(fleet, node):
    install(fleet, node)
    open(node.mail + "/slow", "w").close()
    web_1_1(fleet, node)
    node.until("it is fetched", lambda: node.status()["state"] == "staging")
    os.unlink(node.mail + "/slow")
    fleet.release("web", "1.2.0", web_files("1.2.0"))
    fleet.rollout("r3", "web", "1.2.0")
    fleet.publish()
    node.push()
    result = node.until_result("superseded", to="1.1.0")
    assert result["class"] == "none", result
    node.until_result("good", to="1.2.0")


@story
def halted_while_it_is_fetched(fleet, node):
    install(fleet, node)
    open(node.mail + "/slow", "w").close()
    web_1_1(fleet, node)
    node.until("it is fetched", lambda: node.status()["state"] == "staging")
    fleet.rollouts["r2"]["state"] = "halted"
    fleet.publish()
    node.push()
    result = node.until_result("withdrawn", to="1.1.0")
    assert result["class"] == "none" and node.current() == "1.0.0", result


@story
def an_approval_that_is_gone_before_the_swap(fleet, node):
    install(fleet, node)
    open(node.mail + "/slow", "w").close()
    web_1_1(fleet, node)
    node.until("it is fetched", lambda: node.status()["state"] == "staging")
    fleet.listed["team-web"]["web/policy.json"] = json.dumps(
        {"format": 1, "owner": "web", "revoked": [], "approvals": [{"approver": "team", "kinds": []}]}).encode()
    fleet.publish()
    node.push()
    result = node.until_result("not-approved", to="1.1.0")
    assert result["class"] == "rejected" and node.current() == "1.0.0", result
    assert node.why()["reason"] == "not-approved", node.why()


@story
def an_order_that_cannot_be_followed_is_refused_aloud(fleet, node):
    install(fleet, node)
    fleet.order_rollback("n1", "web", "1.0.0", "0.9.0")
    fleet.publish()
    node.push()
    result = node.until_result("order-refused")
    assert result["class"] == "rejected" and "never good here" in result["detail"] and "order-1" in result["detail"], result
    assert node.current() == "1.0.0"
    assert [(d["version"], d["cause"]) for d in node.component()["denied"]] == [("1.0.0", "forced")]
    node.kill()
    node.start()
    fleet.publish()
    node.push()
    node.until("it is read again", lambda: node.status()["metadata"]["timestamp"] == fleet.version)
    assert len([x for x in node.results().values() if x["name"] == "order-refused"]) == 1


def update_to(fleet, node, version, id):
    fleet.release("web", version, web_files(version))
    fleet.rollout(id, "web", version)
    fleet.publish()
    node.push()
    return node.until_result("good", to=version)


@story
def a_pin_keeps_it_where_it_is_and_denies_nothing(fleet, node):
    install(fleet, node)
    fleet.order_pin("n1", "web", "1.0.0")
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0", kind="patch")
    fleet.publish()
    node.push()
    node.until("why", lambda: node.why()["reason"] == "support-pin")
    assert "audit" in node.why()["detail"] and node.current() == "1.0.0", node.why()
    node.kill()
    node.start()
    node.until("it is read again", lambda: node.why()["reason"] == "support-pin")
    assert node.current() == "1.0.0" and node.component()["denied"] == []
    fleet.orders = {}
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")


@story
def a_pin_goes_back_to_a_version_that_was_good_and_waits_there(fleet, node):
    install(fleet, node)
    update_to(fleet, node, "1.1.0", "r2")
    fleet.order_pin("n1", "web", "1.0.0")
    fleet.publish()
    node.push()
    node.until("it is there", lambda: node.current() == "1.0.0" and node.running() == "1.0.0")
    node.until("why", lambda: node.why()["reason"] == "support-pin")
    node.until("it says so", lambda: [(o["id"], o["name"]) for o in node.reports()[-1].get("orders", [])] == [("pin-1", "good")])
    said = node.reports()[-1]["orders"]
    assert node.component()["denied"] == [], node.component()
    moves = len(node.cli("history", "web")[1]["history"])
    for _ in range(2):  # the same again, under a newer number, and after a restart
        fleet.publish()
        node.push()
        node.until("it is read", lambda: node.status()["metadata"]["timestamp"] == fleet.version)
        node.kill()
        node.start()
        node.until("it is back", lambda: node.why()["reason"] == "support-pin")
        count = len(node.reports())
        node.poke()
        node.until("it answers", lambda: len(node.reports()) > count and node.reports()[-1].get("orders") == said)
    assert len(node.cli("history", "web")[1]["history"]) == moves and node.current() == "1.0.0"
    fleet.orders = {}
    fleet.publish()
    node.push()
    node.until("it follows the rollout again", lambda: node.current() == "1.1.0")
    node.until("nothing is said of what is no order any more", lambda: "orders" not in node.reports()[-1])


@story
def a_pin_to_what_was_never_good_here_is_refused_aloud(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.order_pin("n1", "web", "1.1.0")
    fleet.publish()
    node.push()
    result = node.until_result("order-refused")
    assert "never good here" in result["detail"] and "pin-1" in result["detail"], result
    assert node.why()["reason"] == "order-refused" and node.current() == "1.0.0", node.why()
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")  # as if no order were there; and now it was good here
    node.until("it is kept now", lambda: node.why()["reason"] == "support-pin")


@story
def a_rollback_goes_before_a_pin(fleet, node):
    install(fleet, node)
    update_to(fleet, node, "1.1.0", "r2")
    fleet.order_rollback("n1", "web", "1.1.0", "1.0.0")
    fleet.orders["n1"]["pin"] = [{"id": "pin-1", "component": "web", "version": "1.1.0", "reason": "audit", "by": "support"}]
    fleet.publish()
    node.push()
    node.until("it is back", lambda: node.current() == "1.0.0")
    node.until("and stays", lambda: node.why()["reason"] == "support-rollback")
    fleet.order_pin("n1", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("order-refused")  # what support sent away stays denied
    assert node.current() == "1.0.0"
    assert [(d["version"], d["cause"]) for d in node.component()["denied"]] == [("1.1.0", "forced")]


@story
def what_the_repository_does_not_hold(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    folder = fleet.repo + "/targets/web/1.1.0/"
    files = {f: open(folder + f, "rb").read() for f in os.listdir(folder)}
    manifest = next(f for f in files if f.endswith("release.json"))
    artifact = next(f for f in files if f.endswith(".tar.gz"))
    os.unlink(folder + manifest)
    os.unlink(folder + artifact)
    node.push()
    result = node.until_result("metadata-unreachable", to="1.1.0")
    assert result["class"] == "network", result
    open(folder + manifest, "wb").write(files[manifest])
    result = node.until_result("download-failed", to="1.1.0", seconds=60)
    assert result["class"] == "network" and node.current() == "1.0.0", result
    open(folder + artifact, "wb").write(files[artifact])
    node.until_result("good", to="1.1.0", seconds=90)  # it tries again by itself


@story
def a_stage_process_that_dies(fleet, node):
    install(fleet, node)
    node.write(node.programs + "/selfright-stage", "#!/bin/sh\nkill -9 $$\n", 0o755)
    web_1_1(fleet, node)
    result = node.until_result("out-of-resources", to="1.1.0")
    assert result["class"] == "node" and node.current() == "1.0.0", result


@story
def a_store_that_refuses(fleet, node):
    os.makedirs(node.root + "/store")
    open(node.root + "/store/web", "w").close()  # no folder can be made there
    fleet.release("web", "1.0.0", web_files("1.0.0"))
    fleet.rollout("r1", "web", "1.0.0")
    fleet.publish()
    node.start()
    result = node.until_result("io-error", to="1.0.0")
    assert result["class"] == "node", result


@story
def no_update_without_a_way_back(fleet, node):
    install(fleet, node)
    os.unlink(node.root + "/manifests/web/1.0.0.json")
    del fleet.listed["team-web"]["web/1.0.0/release.json"]
    web_1_1(fleet, node)
    result = node.until_result("fallback-damaged", to="1.1.0")
    assert result["class"] == "node" and node.current() == "1.0.0", result


@story
def a_way_back_that_is_gone_leaves_the_node_stuck(fleet, node):
    install(fleet, node)
    web_1_1(fleet, node, broken=True, doc=dict(WEB, probation=30, checks=[dict(WEB["checks"][0], initialDelaySeconds=3)]))
    node.until("probation", lambda: node.status()["state"] == "probation")
    for a in glob.glob(f"{fleet.repo}/targets/web/1.0.0/*.tar.gz"):
        os.unlink(a)
    shutil.rmtree(node.root + "/store/web/1.0.0")
    result = node.until_result("stuck")
    assert result["class"] == "node", result
    status = node.status()
    assert status["stuck"] and status["state"] == "stuck", status
    out = subprocess.run([node.build + "/bin/selfright-agent", "status", "--config-dir", node.etc], capture_output=True,
                         text=True).stdout
    assert "STUCK" in out, out


@story
def a_way_back_that_is_gone_is_fetched_where_there_is_a_road(fleet, node):
    install(fleet, node)
    web_1_1(fleet, node, broken=True, doc=dict(WEB, probation=30, checks=[dict(WEB["checks"][0], initialDelaySeconds=3)]))
    node.until("probation", lambda: node.status()["state"] == "probation")
    shutil.rmtree(node.root + "/store/web/1.0.0")
    assert node.until_result("fallback-damaged")["class"] == "node"
    node.until("back", lambda: node.current() == "1.0.0" and node.running() == "1.0.0" and not node.status()["stuck"])


@story
def a_unit_where_nobody_starts_units(fleet, node):
    if os.path.exists("/run/systemd/system"):
        return
    node.write(node.etc + "/components.d/web.yaml", "units: [app.service]\n")
    os.mkdir(node.home + "/bin")
    node.write(node.home + "/bin/systemctl", "#!/bin/sh\necho cannot connect to the bus >&2\nexit 1\n", 0o755)
    fleet.release("web", "1.0.0", web_files("1.0.0"), doc=dict(WEB, services=[{"name": "app", "unit": "app.service"}]))
    fleet.rollout("r1", "web", "1.0.0")
    fleet.publish()
    node.start(PATH=node.home + "/bin:" + os.environ["PATH"])
    result = node.until_result("service-manager", to="1.0.0")
    assert result["class"] == "node" and node.component()["denied"] == [], result


@story
def metadata_that_breaks_the_rules_or_has_expired(fleet, node):
    install(fleet, node)
    fleet.publish()
    fleet.put(f"metadata/{fleet.version}.snapshot.json", envelope(fleet.signed(
        "snapshot", fleet.version - 1, 10**6, meta={"targets.json": {"version": fleet.version}}), fleet.keys["snapshot"]))
    node.push()
    assert node.until_result("metadata-rejected", component="agent")["class"] == "rejected"
    fleet.publish(life=10, age=20)
    node.push()
    assert node.until_result("metadata-stale", component="agent")["class"] == "network"
    fleet.publish()
    node.push()
    node.until("it goes on", lambda: node.status()["metadata"]["timestamp"] == fleet.version)


@story
def a_clock_that_runs_ahead(fleet, node):
    """The signed time is two hours behind this node's clock, which nobody synchronises."""
    import ctypes
    if ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256)) != 5:
        return
    fleet.release("web", "1.0.0", web_files("1.0.0"))
    fleet.rollout("r1", "web", "1.0.0")
    fleet.publish(life=7200, age=9000)
    node.start()
    assert node.until_result("clock-ahead", component="agent")["class"] == "node"
    node.until_result("good", to="1.0.0")  # the signed time and the time since decide
def big_files(version, size):
    return dict(web_files(version), **{"blob": (0o644, os.urandom(size))})


def on_a_small_disk(node, size):
    """The node's folder on a file system of its own; False where we may not mount."""
    os.mkdir(node.root)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", node.root],
                      capture_output=True).returncode != 0:
        print("    not run: mounting is not allowed here")
        return False
    node.mounted = True
    return True


@story
def a_disk_that_fills_up_in_the_middle(fleet, node):
    if not on_a_small_disk(node, "40m"):
        return
    install(fleet, node)
    open(node.mail + "/slow", "w").close()
    fleet.release("web", "1.1.0", big_files("1.1.0", 4 << 20))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until("it is being fetched", lambda: node.status()["state"] == "staging")
    with open(node.root + "/somebody-else", "wb") as f:  # to the last byte
        try:
            while True:
                f.write(bytes(65536))
                f.flush()
        except OSError:
            pass
    os.unlink(node.mail + "/slow")
    node.until("it has failed", lambda: "state=failed" in open(node.home + "/agent.log").read())
    node.until("the agent answers", lambda: node.status()["state"] == "idle")
    node.serves("1.0.0")
    assert node.why()["reason"] in ("retry", "none"), node.why()
    os.unlink(node.root + "/somebody-else")
    result = node.until_result("no-space", to="1.1.0")
    assert result["class"] == "node", result
    node.until_result("good", to="1.1.0", seconds=60)
    assert node.current() == "1.1.0" and node.running() == "1.1.0" and node.component()["denied"] == []


@story
def too_few_inodes_are_seen_before(fleet, node):
    os.mkdir(node.root)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=220,mode=755", "tmpfs", node.root],
                      capture_output=True).returncode != 0:
        print("    not run: mounting is not allowed here")
        return
    node.mounted = True
    install(fleet, node)
    files = dict(web_files("1.1.0"), **{f"f/{i}": (0o644, b"") for i in range(150)})
    fleet.release("web", "1.1.0", files)
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    result = node.until_result("no-space", to="1.1.0")
    assert "files" in result["detail"], result
    assert node.current() == "1.0.0" and not os.listdir(node.root + "/spool")


@story
def a_quota_holds_for_the_whole_folder(fleet, node):
    with open(node.etc + "/agent.yaml", "a") as f:
        f.write("quota: 6M\n")
    install(fleet, node)
    fleet.release("web", "1.1.0", big_files("1.1.0", 2 << 20))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    with open(node.root + "/data/web/kept", "wb") as f:
        f.write(os.urandom(1 << 20))
    fleet.release("web", "1.2.0", big_files("1.2.0", 2 << 20))
    fleet.rollout("r3", "web", "1.2.0")
    fleet.publish()
    node.push()
    result = node.until_result("no-space", to="1.2.0")
    assert "quota" in result["detail"] and result["class"] == "node", result
    assert node.current() == "1.1.0" and not os.path.exists(node.root + "/store/web/1.2.0")


@story
def for_an_update_old_copies_of_data_are_given_up(fleet, node):
    """Each copy is kept for seven days; a node that updates often must not be too full for the next."""
    with open(node.etc + "/agent.yaml", "a") as f:
        f.write("quota: 4M\n")
    doc = dict(DATA, data_compatible_back=False)  # a copy that could share its blocks would take no room
    install_with_data(fleet, node)
    with open(node.root + "/data/web/db/blob", "wb") as f:
        f.write(os.urandom(1 << 20))
    def copies():
        records = [open(f"{node.root}/saved/{s}/record").read() for s in os.listdir(node.root + "/saved")]
        return sorted(re.search(r"^move web (\S+) ", r, re.M).group(1) for r in records)
    def update(version, rollout, result):
        fleet.release("web", version, data_files(version), doc=doc)
        fleet.rollout(rollout, "web", version)
        fleet.publish()
        node.push()
        return node.until_result(result, to=version)
    update("1.1.0", "r2", "good")
    update("1.2.0", "r3", "good")
    assert copies() == ["-", "1.0.0", "1.1.0"], copies()
    update("1.3.0", "r4", "good")
    assert copies() == ["1.1.0", "1.2.0"], copies()
    assert "copy-given-up" in open(node.home + "/agent.log").read()
    # The last one stays, and none goes for what would find no room even so.
    with open(node.root + "/data/web/db/blob", "wb") as f:
        f.write(os.urandom(5 << 19))
    result = update("1.4.0", "r5", "no-space")
    assert "quota" in result["detail"] and result["class"] == "node", result
    assert node.current() == "1.3.0" and "1.2.0" in copies(), copies()


def failures_of(node, version):
    return [x for x in node.results().values() if x.get("to") == version and x["name"] == "check-failed"]


@story
def a_retry_is_done_once_however_often_it_is_listed(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0", broken=True))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("check-failed", to="1.1.0")
    fleet.orders["n1"] = {"format": 1, "node": "n1", "retry": [
        {"id": "retry-1", "component": "web", "issued": stamp(time.time()), "expires": stamp(time.time() + 3600)}]}
    fleet.publish()
    node.push()
    node.until("it is tried again", lambda: len(failures_of(node, "1.1.0")) == 2)
    assert [d["cause"] for d in node.component()["denied"]] == ["unfit"]
    for _ in range(2):  # the same document again, and after a restart
        fleet.publish()
        node.push()
        time.sleep(1)
        node.kill()
        node.start()
        node.until("it is back", lambda: node.why()["reason"] == "denied")
    assert len(failures_of(node, "1.1.0")) == 2 and node.current() == "1.0.0"
    assert open(node.home + "/agent.log").read().count("order-retry") == 1


@story
def swaps_by_rollouts_are_limited_by_the_day_and_orders_are_not(fleet, node):
    with open(node.etc + "/agent.yaml", "a") as f:
        f.write("max_swaps_per_day: 2\n")
    install(fleet, node)
    for version, id in (("1.1.0", "r2"), ("1.2.0", "r3")):
        fleet.release("web", version, web_files(version))
        fleet.rollout(id, "web", version)
        fleet.publish()
        node.push()
        if version == "1.1.0":
            node.until_result("good", to=version)
    node.until("tomorrow", lambda: node.why()["reason"] == "daily-limit")
    node.until("it is fetched ahead", lambda: staged(node, "1.2.0"))
    assert node.current() == "1.1.0"
    fleet.order_rollback("n1", "web", "1.1.0", "1.0.0")
    fleet.publish()
    node.push()
    node.until_result("rolled-back")
    assert node.current() == "1.0.0"


KILL_STATES = ["planned", "staging", "staged", "waiting", "stopping", "swapping", "probation", "rolling-back"]


def kill_at(fleet, node, state, broken):
    """Kill the agent as soon as its log names the state; the restarted one ends as if nothing had happened."""
    install(fleet, node)
    doc = dict(WEB, services=[dict(WEB["services"][0], stop_before_swap=True)], probation=2)
    if state == "staging":
        open(node.mail + "/slow", "w").close()
    fleet.release("web", "1.1.0", web_files("1.1.0", broken=broken), doc=doc)
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    wanted = f"to=1.1.0 state={state}".encode()
    node.until(state, lambda: wanted in open(node.home + "/agent.log", "rb").read())
    node.kill()
    if os.path.exists(node.mail + "/slow"):
        os.unlink(node.mail + "/slow")
    node.start()
    result = node.until_result("check-failed" if broken else "good", to="1.1.0", seconds=40)
    expected = "1.0.0" if broken else "1.1.0"
    assert node.current() == expected, node.current()
    node.until("it serves", lambda: node.running() == expected)
    assert len([x for x in node.results().values() if x.get("to") == "1.1.0"]) == 1, node.results()
    left = [f for f in os.listdir(node.root + "/store/web") if f.endswith((".partial", ".pending"))]
    assert left == [], left


for _state in KILL_STATES:
    def _one(fleet, node, state=_state):
        kill_at(fleet, node, state, broken=state in ("rolling-back",))
    _one.__name__ = "killed_in_" + _state.replace("-", "_")
    story(_one)


@story
def killed_again_and_again(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    for i in range(12):
        time.sleep(0.07 * i)
        node.kill()
        node.start()
    node.until_result("good", to="1.1.0", seconds=40)
    assert node.current() == "1.1.0" and node.running() == "1.1.0"
    sequences = [r["sequence"] for r in node.reports()]
    assert sequences == sorted(set(sequences))


@story
def what_could_happen_is_rehearsed(fleet, node):
    install(fleet, node)
    code, answer = node.cli("rehearse", "swapping:kill")
    assert code == 4 and "rehearse: true" in answer["error"], answer
    node.kill()
    with open(node.etc + "/agent.yaml", "a") as f:
        f.write("rehearse: true\n")
    node.start()
    node.until("it runs", lambda: node.cli("status")[0] == 0)
    for wrong in ("swapping", "swapping:fire", "dancing:kill", ":"):
        assert node.cli("rehearse", wrong)[0] == 2, wrong
    assert node.cli("rehearse", "swapping:kill")[0] == 0
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    assert node.process.wait(120) == -signal.SIGKILL
    node.start()
    node.until_result("good", to="1.1.0")
    # A disk that is full from the first byte on: nothing changes, the reason is named, and it is tried again.
    assert node.cli("rehearse", "staging:ENOSPC")[0] == 0
    fleet.release("web", "1.2.0", web_files("1.2.0"))
    fleet.rollout("r3", "web", "1.2.0")
    fleet.publish()
    node.push()
    result = node.until_result("no-space", to="1.2.0")
    assert result["class"] == "node" and node.running() == "1.1.0", result
    node.until_result("good", to="1.2.0", seconds=40)


def stuck(fleet, node):
    """1.1.0 fails in probation, and 1.0.0, to which it must go back, has lost a file and cannot be fetched."""
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"), doc=dict(WEB, probation=60))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    artifacts = glob.glob(f"{fleet.repo}/targets/web/1.0.0/*.tar.gz")
    for a in artifacts:
        os.rename(a, a + ".away")
    node.push()
    node.until("probation", lambda: node.status()["state"] == "probation")
    # Its folder is another one now, as after a restored backup: then every byte is looked at before it is trusted.
    os.rename(node.root + "/store/web/1.0.0", node.root + "/store/web/old")
    shutil.copytree(node.root + "/store/web/old", node.root + "/store/web/1.0.0")
    shutil.rmtree(node.root + "/store/web/old")
    os.unlink(node.root + "/store/web/1.0.0/bin/start")
    node.write(node.root + "/data/web/running", "broken")
    node.until("stuck", lambda: node.status()["stuck"] and node.status()["state"] == "stuck")
    assert node.current() == "1.1.0"
    node.until("it tried to fetch it anew", lambda: "fallback-not-repaired" in open(node.home + "/agent.log").read())
    return artifacts


def order_retry(fleet, node):
    fleet.orders["n1"] = {"format": 1, "node": "n1", "retry": [
        {"id": "retry-1", "component": "web", "by": "support", "reason": "ticket 4711",
         "issued": stamp(time.time()), "expires": stamp(time.time() + 3600)}]}
    fleet.publish()
    node.push()


@story
def stuck_is_left_by_a_retry_from_the_desk(fleet, node):
    artifacts = stuck(fleet, node)
    node.until("it is told", lambda: any(r["name"] == "stuck" for r in node.results().values()))
    for a in artifacts:
        os.rename(a + ".away", a)
    order_retry(fleet, node)
    node.until_result("fallback-damaged")
    node.until("back", lambda: node.current() == "1.0.0" and node.running() == "1.0.0")
    assert node.status()["stuck"] is False
    assert os.path.exists(node.root + "/store/web/1.0.0/bin/start")


@story
def stuck_is_left_by_an_order_from_the_desk(fleet, node):
    fleet.release("web", "0.9.0", web_files("0.9.0"))
    fleet.rollout("r0", "web", "0.9.0")
    fleet.publish()
    node.start()
    node.until_result("good", to="0.9.0")
    node.kill()
    stuck(fleet, node)
    fleet.order_rollback("n1", "web", "1.1.0", "0.9.0")
    fleet.publish()
    node.push()
    node.until_result("rolled-back", to="0.9.0")
    assert node.current() == "0.9.0" and node.running() == "0.9.0"
    node.until("it is not stuck any more", lambda: node.status()["stuck"] is False)


@story
def stuck_is_left_after_verify_repair(fleet, node):
    artifacts = stuck(fleet, node)
    for a in artifacts:
        os.rename(a + ".away", a)
    code, answer = node.cli("verify", "web", "1.0.0", "--repair")
    assert code == 0 and answer["trees"][0]["state"] == "repaired", answer
    order_retry(fleet, node)
    node.until("back", lambda: node.current() == "1.0.0" and node.running() == "1.0.0" and not node.status()["stuck"])


def run(f, build, make_fleet=None, make_node=None):
    work = own_folder("stories")
    node = None
    begin = time.monotonic()
    try:
        # looked up now: other files of stories put their own in their place
        fleet = (make_fleet or Fleet)(work)
        node = (make_node or Node)(fleet, build)
        f(fleet, node)
        node.stop()
        if os.environ.get("SELFRIGHT_SEEN"):
            with open(os.environ["SELFRIGHT_SEEN"], "a") as seen:
                seen.write("".join(x["name"] + "\n" for x in node.results().values()))
        print(f"ok    {f.__name__} ({time.monotonic() - begin:.1f} s)", flush=True)
        return True
    except BaseException:
        traceback.print_exc()
        print(f"FAIL  {f.__name__} ({time.monotonic() - begin:.1f} s)", flush=True)
        if node:
            try:
                print(json.dumps(list(node.results().values()), indent=1)[-3000:])
            except Exception:
                pass
            try:
                print(open(node.home + "/agent.log", errors="replace").read()[-6000:])
                node.stop()
            except BaseException as e:
                print("stopping:", e)
        return False
    finally:
        if not os.environ.get("KEEP"):
            remove_left(work)


# Ends that need more than this file's one node and fake link: where they are reached instead, and the words that show it.
ELSEWHERE = {
    "regressed": ("system/engine/attack.py", 'until_result("regressed"'),
    "version-changed": ("system/engine/attack.py", 'until_result("version-changed")'),
    "link-lost": ("system/engine/agent.py", '"link-lost"'),
    "agent-failed": ("system/engine/agent.py", '"agent-failed"'),
    "internal": ("unit/test_catalogue.c", "RESULT_INTERNAL"),
    "clock-ahead": ("unit/test_tuf_time.c", "clock_ahead"),  # reached here wherever nobody synchronises the clock
    "service-manager": ("unit/test_catalogue.c", "RESULT_SERVICE_MANAGER"),  # reached here wherever there is no systemd
}


def every_way_an_update_can_end(seen):
    """Each row of the catalogue was reported by a node in one of the stories, or is reached elsewhere."""
    tests = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    catalogue = open(os.path.join(tests, "..", "common/model/catalogue.h")).read()
    names = re.findall(r'X\(\d+, [A-Z_]+, "([a-z-]+)"', catalogue)
    assert len(names) > 40, "the catalogue is not read right"
    missing = [n for n in names if n not in seen and n not in ELSEWHERE]
    for name, (path, words) in ELSEWHERE.items():
        if name not in names or words not in open(os.path.join(tests, path)).read():
            missing.append(f"{name} in {path}")
    return missing


def run_by_name(name, build):
    return run(next(s for s in stories if s.__name__ == name), build)


if __name__ == "__main__":
    chosen = [s for s in stories if not sys.argv[2:] or s.__name__ in sys.argv[2:]]
    build = os.path.abspath(sys.argv[1])
    seen = tempfile.NamedTemporaryFile("r", prefix="selfright-seen-")
    os.environ["SELFRIGHT_SEEN"] = seen.name
    # They mostly wait; each has a folder, processes and keys of its own.
    with multiprocessing.Pool(4) as pool:
        ended = pool.starmap(run_by_name, [(s.__name__, build) for s in chosen], chunksize=1)
    failed = [s.__name__ for s, ok in zip(chosen, ended) if not ok]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} stories")
    if failed:
        print("failed:", " ".join(failed))
    missing = []
    if not failed and len(chosen) == len(stories) and os.path.basename(__file__) == "story.py":
        missing = every_way_an_update_can_end(set(seen.read().split()))
        if missing:
            print("no story ends like this:", ", ".join(missing))
    sys.exit(1 if failed or missing else 0)
