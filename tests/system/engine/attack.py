"""What hostile or broken neighbours can do to a node: local users, a link that is gone, a team that publishes
nonsense, programs that misbehave. Usage: attack.py BUILD [NAME...]"""
import socket

import story as stories_of_good_days
from story import *

stories = stories_of_good_days.stories = []


def story(f):
    stories.append(f)
    return f


def busy(node, seconds=1.5):
    """The share of one processor that the agent uses."""
    def ticks():
        fields = open(f"/proc/{node.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])
    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds


@story
def a_link_that_is_gone_costs_no_processor(fleet, node):
    install(fleet, node)
    os.unlink(node.programs + "/selfright-link")
    for line in subprocess.check_output(["ps", "-o", "pid=", "--ppid", str(node.process.pid)], text=True).split():
        if "link.py" in open(f"/proc/{line}/cmdline").read():
            os.kill(int(line), signal.SIGKILL)
    node.until("the link is missed", lambda: not node.status()["link"]["running"])
    node.poke()
    share = busy(node)
    assert share < 0.2, share


@story
def a_program_that_closes_its_output_costs_no_processor(fleet, node):
    install(fleet, node)
    files = web_files("1.1.0")
    files["bin/mute"] = (0o755, b"#!/bin/sh\nexec >/dev/null 2>&1\nwhile [ ! -e \"$SELFRIGHT_DATA/go\" ]; do sleep 0.2; done\n")
    fleet.release("web", "1.1.0", files, doc=dict(WEB, hooks={"preflight": {"command": ["bin/mute"], "timeout": 600}}))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until("it waits for the hook", lambda: node.status()["state"] == "waiting")
    time.sleep(0.5)
    assert node.status()["state"] == "waiting"
    share = busy(node)
    assert share < 0.2, share
    open(node.root + "/data/web/go", "w").close()
    node.until_result("good", to="1.1.0")


def sit_in(path, count):
    """Another user's process that connects and says nothing: its id, once it is in."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            crowd = []
            for _ in range(count):
                s = socket.socket(socket.AF_UNIX)
                s.connect(path)
                crowd.append(s)
            os.write(tell, b"in")
            time.sleep(600)  # longer than anybody at the console waits
        finally:
            os._exit(1)
    os.close(tell)
    said = os.read(ready, 2)
    os.close(ready)
    assert said == b"in", said
    return pid


@story
def idle_neighbours_do_not_lock_the_console(fleet, node):
    if os.geteuid() != 0:
        return  # there is no other user to be
    install(fleet, node)
    pid = sit_in(node.run + "/agent.sock", 48)
    try:
        assert node.cli("hold", "--release")[0] == 0
        assert node.cli("status")[0] == 0
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@story
def a_refused_manifest_replaces_none(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    before = open(node.root + "/manifests/web/1.0.0.json").read()
    # The team signs another 1.0.0 with the same number and sends the fleet there.
    fleet.release("web", "1.0.0", web_files("1.0.0", extra=b"more"))
    fleet.rollout("r3", "web", "1.0.0", kind="downgrade")
    fleet.publish()
    node.push()
    node.until_result("version-changed")
    assert open(node.root + "/manifests/web/1.0.0.json").read() == before
    fleet.order_rollback("n1", "web", "1.1.0", "1.0.0")
    fleet.publish()
    node.push()
    node.until_result("rolled-back", to="1.0.0")
    assert node.current() == "1.0.0"


@story
def one_teams_nonsense_does_not_silence_support(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.release("content", "1.0.0", {"a": (0o644, b"a")}, doc={})
    fleet.rollout("c1", "content", "1.0.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    node.until("content is there", lambda: node.current("content") == "1.0.0")
    node.until("and judged", lambda: node.status()["state"] == "idle")
    fleet.listed["team-content"]["content/policy.json"] = b"{ no JSON"
    fleet.order_rollback("n1", "web", "1.1.0", "1.0.0")
    fleet.publish()
    node.push()
    node.until_result("rolled-back", to="1.0.0")
    assert node.current() == "1.0.0"


@story
def one_teams_file_that_is_withheld_holds_up_nobody_else(fleet, node):
    install(fleet, node)
    fleet.release("content", "1.0.0", {"a": (0o644, b"a")}, doc={})
    fleet.rollout("c1", "content", "1.0.0")
    fleet.publish()
    node.push()
    node.until("content is there", lambda: node.current("content") == "1.0.0")
    # a carrier brings everything but what this team signed
    fleet.release("content", "1.1.0", {"a": (0o644, b"b")}, doc={})
    fleet.rollout("c2", "content", "1.1.0")
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    withheld = f"{fleet.repo}/metadata/{fleet.version}.team-content.json"
    os.rename(withheld, withheld + ".away")
    node.push()
    node.until_result("good", to="1.1.0")
    node.until("the other says why it waits", lambda: node.why("content")["reason"] == "not-approved"
               and "cannot be fetched" in node.why("content")["detail"])
    assert node.current("content") == "1.0.0"
    node.until("and so does its report", lambda: any(
        c["component"] == "content" and "cannot be fetched" in c.get("why_detail", "") for c in node.reports()[-1]["components"]))
    # orders come through
    fleet.order_rollback("n1", "web", "1.1.0", "1.0.0")
    fleet.publish()
    withheld_now = f"{fleet.repo}/metadata/{fleet.version}.team-content.json"
    os.rename(withheld_now, withheld_now + ".away")
    node.push()
    node.until_result("rolled-back", to="1.0.0")
    assert node.current("content") == "1.0.0"
    # once it is there, the node has asked for it by itself
    os.rename(withheld_now + ".away", withheld_now)
    node.until("the other team's turn", lambda: node.current("content") == "1.1.0", 40)


@story
def an_abandoned_download_is_not_kept(fleet, node):
    install(fleet, node)
    for i in range(3):
        open(f"{node.root}/spool/{i:064x}.part", "wb").write(b"x" * 1000)
        open(f"{node.root}/spool/{i:064x}.etag", "wb").write(b'"x"')
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    assert os.listdir(node.root + "/spool") == [], os.listdir(node.root + "/spool")


@story
def a_late_regression_is_news_of_its_own(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"), doc=dict(WEB, watch=60))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    good = node.until_result("good", to="1.1.0")
    open(node.root + "/data/web/running", "w").write("something else")
    late = node.until_result("regressed", to="1.1.0", seconds=30)
    # The controller keeps one result per id.
    assert late["update"] != good["update"] and late["rollout"] == "r2", (good, late)
    assert late["class"] == "release" and "answers" in late["detail"], late
    assert node.current() == "1.0.0"
    assert [d["version"] for d in node.component()["denied"]] == ["1.1.0"]


@story
def a_refused_release_leaves_nothing_running(fleet, node):
    install(fleet, node)
    files = web_files("1.1.0")
    files["bin/pre"] = (0o755, b"#!/bin/sh\nsleep 3000 >/dev/null 2>&1 &\necho $! >\"$SELFRIGHT_DATA/left\"\nexit 1\n")
    fleet.release("web", "1.1.0", files, doc=dict(WEB, hooks={"preflight": {"command": ["bin/pre"]}}))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("preflight-failed")
    pid = int(open(node.root + "/data/web/left").read())

    def gone():
        try:
            return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True
    try:
        node.until("it is gone", gone, 3)
    finally:
        if not gone():
            os.kill(pid, signal.SIGKILL)


@story
def a_data_folder_is_given_away_however_often_it_takes(fleet, node):
    """As if the power had gone between making it and giving it to the component's user."""
    os.makedirs(node.root + "/data/web", 0o750)
    os.chmod(node.root + "/data/web", 0o750)
    install(fleet, node)


@story
def data_behind_a_link_does_not_keep_the_node_from_going_back(fleet, node):
    """The new version moves its data elsewhere and leaves a link where a folder was; then it fails."""
    start = (b"#!/bin/sh\ncd \"$SELFRIGHT_DATA\" || exit 1\nmkdir -p var/db\n"
             b"[ $SELFRIGHT_VERSION = 1.0.0 ] || { mv var moved; ln -s moved var; }\n"
             b"echo \"$SELFRIGHT_VERSION\" >>var/db/rows\necho \"$SELFRIGHT_VERSION $1\" >running\nexec sleep 100000\n")
    doc = dict(WEB, data=[{"path": "var/db", "on_rollback": "restore"}])
    fleet.release("web", "1.0.0", dict(web_files("1.0.0"), **{"bin/start": (0o755, start)}), doc=doc)
    fleet.rollout("r1", "web", "1.0.0")
    fleet.publish()
    node.start()
    node.until_result("good", to="1.0.0")
    fleet.release("web", "1.1.0", dict(web_files("1.1.0", broken=True), **{"bin/start": (0o755, start)}), doc=doc)
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("check-failed", to="1.1.0")
    node.until("the old version serves", lambda: node.running() == "1.0.0")
    assert node.current() == "1.0.0" and not node.status()["stuck"]
    data = node.root + "/data/web"
    assert not os.path.islink(data + "/var")
    assert open(data + "/var/db/rows").read().split() == ["1.0.0", "1.0.0"]
    assert open(data + "/moved/db/rows").read().split() == ["1.0.0", "1.1.0"]


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
