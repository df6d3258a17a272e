"""The agent updates itself: the real agent, its supervisor and its stage process against a signed repository
in a folder. Usage: agent.py BUILD [NAME...]"""
import multiprocessing, os, random, signal, subprocess, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import story as base
from fleet import *

stories = []


def story(f):
    stories.append(f)
    return f


class AgentFleet(Fleet):
    """With a team that signs the agent, as DESIGN.md section 4 wants it: two keys, both needed."""

    def __init__(self, work):
        super().__init__(work)
        self.keys["team-agent"] = Key()
        self.more["team-agent"] = [Key()]
        self.roles["team-agent"] = ["agent/policy.json", "agent/*/release.json"]
        self.listed["team-agent"], self.role_version["team-agent"] = {}, 0


class SupervisedNode(Node):
    def __init__(self, fleet, build):
        super().__init__(fleet, build)
        with open(self.etc + "/agent.yaml", "a") as f:
            f.write("handover: 60s\n")

    def hurry(self, seconds):
        """Before it starts: for a new agent that will not confirm however long it is waited for."""
        text = open(self.etc + "/agent.yaml").read()
        self.write(self.etc + "/agent.yaml", text.replace("handover: 60s\n", f"handover: {seconds}s\n"))

    def start(self):
        self.process = subprocess.Popen(
            [self.build + "/bin/selfright-recover", "--start", "--root", self.root, "--agent",
             self.build + "/bin/selfright-agent", "--config-dir", self.etc], stdout=self.log, stderr=self.log)

    def children(self):
        """The agent: what the supervisor is the parent of."""
        try:
            return [int(p) for p in
                    open(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read().split()]
        except FileNotFoundError:
            return []

    def service_pid(self):
        return json.load(open(self.run + "/services/web.app.json"))["pid"]

    def program(self):
        """Which agent runs: the version in the store, or "packaged"; None between two of them."""
        try:
            path = os.readlink(f"/proc/{self.children()[0]}/exe")
        except (IndexError, FileNotFoundError):
            return None
        return path.split("/store/agent/")[1].split("/")[0] if "/store/agent/" in path else "packaged"

    def of_agent(self, to=None):
        """Results of the agent's own updates, each counted once (results() checks that none is told as news twice)."""
        return [x for x in self.results().values()
                if x["component"] == "agent" and not x["update"].startswith("note-") and (to is None or x.get("to") == to)]


def agent_files(node, main=None, link=None, **more):
    """A release of the agent; `main` and `link` are scripts that stand in for its programs."""
    def program(path):
        with open(path, "rb") as f:
            return f.read()
    files = {"bin/selfright-agent": (0o755, main or program(node.build + "/later/selfright-agent"))}
    for name in os.listdir(node.programs):
        if name.startswith("selfright-"):
            files["libexec/selfright/" + name] = (0o755, program(f"{node.programs}/{name}"))
    if link:
        files["libexec/selfright/selfright-link"] = (0o755, link)
    files.update({k: (0o644, v) for k, v in more.items()})
    return files


def says(version, then):
    """A program that knows its version, and when it is to be the agent does `then`."""
    return (f'#!/bin/sh\n[ "$1" = --version ] && {{ echo "selfright-agent {version}"; exit 0; }}\n'
            f'[ "$1" = run ] || exec sleep 1000\n{then}\n').encode()


PLAIN = {"probation": 0}


def offer(fleet, node, version, files, id=None, doc=PLAIN, **more):
    fleet.release("agent", version, files, doc=doc)
    fleet.rollout(id or "a-" + version.replace(".", "-"), "agent", version, **more)
    fleet.publish()
    node.push()


def settled(fleet, node):
    """A web service that runs, and its pid."""
    base.install(fleet, node)
    return node.service_pid()


def is_untouched(node, pid, version="1.0.0"):
    assert node.service_pid() == pid and os.path.exists(f"/proc/{pid}"), (node.service_pid(), pid)
    assert node.running() == version and node.current() == version
    node.until("it answers", lambda: "components" in node.status())
    assert node.component()["services"][0]["state"] == "running", node.component()


def goes_back(fleet, node, name, version, files, seconds=60, doc=PLAIN):
    """The agent's release fails after its swap, with result `name`: the packaged agent is back, all else as it was."""
    pid = settled(fleet, node)
    offer(fleet, node, version, files, doc=doc)
    result = node.until_result(name, "agent", version, seconds)
    assert node.current("agent") is None and node.program() == "packaged"
    is_untouched(node, pid)
    assert [d["version"] for d in node.component("agent")["denied"]] == [version], node.component("agent")
    fleet.publish()  # the same offer again
    node.push()
    node.until("what is acknowledged is not said again", node.acknowledged)
    assert len(node.of_agent()) == 1, node.of_agent()
    assert node.status()["agent"] == "0.1.0"
    return result


@story
def updates_itself(fleet, node):
    pid = settled(fleet, node)
    assert node.program() == "packaged" and node.status()["agent"] == "0.1.0"
    before = node.children()[0]
    offer(fleet, node, "0.2.0", agent_files(node))
    result = node.until_result("good", "agent", "0.2.0")
    assert result["rollout"] == "a-0-2-0" and result["class"] == "none", result
    assert node.current("agent") == "0.2.0" and node.program() == "0.2.0" and node.children()[0] != before
    status = node.status()
    assert status["agent"] == "0.2.0" and status["link"]["connected"], status
    assert node.reports()[-1]["agent"] == "0.2.0"
    is_untouched(node, pid)
    assert open(node.mail + "/left").read() == "left\n", "the link was told to leave without its will"
    node.until("what is acknowledged is not said again", node.acknowledged)
    assert len(node.of_agent()) == 1 and node.why("agent")["reason"] == "up-to-date"
    sequences = [r["sequence"] for r in node.reports()]
    assert sequences == sorted(set(sequences)), "one counter over both agents"
    assert "known 0.2.0 proven 0" in open(node.root + "/agents").read()
    # It works as its predecessor did.
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    # And is started again after a stop, and after a crash of everything.
    for sig in (signal.SIGTERM, signal.SIGKILL):
        node.kill(sig)
        node.start()
        node.until("the new agent is back", lambda: node.status()["agent"] == "0.2.0")
        assert node.program() == "0.2.0" and node.running() == "1.1.0"


@story
def returns_from_one_that_exits(fleet, node):
    result = goes_back(fleet, node, "agent-failed", "0.2.0", agent_files(node, says("0.2.0", "exit 7")))
    assert result["class"] == "release" and "exited 7" in result["detail"], result
    # It is an agent like any other still.
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")


@story
def returns_from_one_that_hangs(fleet, node):
    node.hurry(4)
    # Deaf to whatever it is told politely.
    result = goes_back(fleet, node, "agent-failed", "0.2.0",
                       agent_files(node, says("0.2.0", "trap '' TERM INT HUP\nwhile :; do sleep 1; done")))
    assert "confirm" in result["detail"], result


@story
def returns_from_one_that_cannot_connect(fleet, node):
    """Its link answers that there is no road, and the controller does not hear it; its predecessor's does both."""
    node.hurry(10)
    deaf = node.home + "/deaf"
    os.mkdir(deaf)
    for flag in ("offline", "silent"):
        open(f"{deaf}/{flag}", "w").close()
    link = f"#!/bin/sh\nexec {sys.executable} {node.programs}/link.py {fleet.repo} {deaf} {node.programs}/control.pem n1\n"
    result = goes_back(fleet, node, "link-lost", "0.2.0", agent_files(node, link=link.encode()))
    assert result["class"] == "release" and "controller" in result["detail"], result


@story
def returns_from_one_whose_link_is_mute(fleet, node):
    node.hurry(10)
    goes_back(fleet, node, "agent-failed", "0.2.0", agent_files(node, link=b"#!/bin/sh\nexec sleep 1000\n"))


@story
def a_cut_cable_denies_nothing(fleet, node):
    """Neither the new agent nor the old one has an answer: that is the network's fault, and it is tried again."""
    node.hurry(10)
    pid = settled(fleet, node)
    silent = node.mail + "/silent"
    cut = f"touch {silent}\nexec $(dirname $0)/agent-real \"$@\"".encode()
    files = agent_files(node)
    files["bin/agent-real"] = files["bin/selfright-agent"]
    files["bin/selfright-agent"] = (0o755, says("0.2.0", cut.decode()))
    offer(fleet, node, "0.2.0", files)
    node.until("the cable is cut", lambda: os.path.exists(silent), 30)
    result = node.until_result("metadata-unreachable", "agent", "0.2.0", 60)
    assert result["class"] == "network" and node.component("agent")["denied"] == [], result
    assert node.program() == "packaged" and node.current("agent") is None
    is_untouched(node, pid)
    assert len(node.of_agent()) == 1


@story
def returns_from_one_that_cannot_be_started(fleet, node):
    """What its interpreter is was there when it was asked for its version, and is gone behind the swap."""
    shell = node.home + "/shell"
    shutil.copy("/bin/sh", shell)
    os.chmod(node.home, 0o777)
    files = agent_files(node, b"#!" + shell.encode() + b"\necho selfright-agent 0.2.0\n")
    files["bin/prepare"] = (0o755, f"#!/bin/sh\nrm {shell}\n".encode())
    result = goes_back(fleet, node, "agent-failed", "0.2.0", files,
                       doc=dict(PLAIN, hooks={"before_swap": {"command": ["bin/prepare"]}}))
    assert "cannot be started" in result["detail"], result


@story
def refuses_a_program_of_another_machine(fleet, node):
    pid = settled(fleet, node)
    # An ELF header of a machine that is not this one.
    alien = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x28\x00" + bytes(108)
    for version, main in (("0.2.0", alien), ("0.2.1", says("9.9.9", "exit 1"))):
        offer(fleet, node, version, agent_files(node, main))
        node.until_result("preflight-failed", "agent", version)
    assert node.program() == "packaged" and node.current("agent") is None and not os.path.exists(node.mail + "/left")
    is_untouched(node, pid)


@story
def refuses_what_one_key_signs(fleet, node):
    fleet.more = {}
    settled(fleet, node)
    offer(fleet, node, "0.2.0", agent_files(node))
    result = node.until_result("not-allowed", "agent", "0.2.0")
    assert "one key" in result["detail"], result
    node.kill(signal.SIGTERM)
    with open(node.etc + "/agent.yaml", "a") as f:
        f.write("demo_single_key_agent: yes\n")
    node.start()
    fleet.release("agent", "0.2.0", agent_files(node), doc=PLAIN)
    fleet.rollout("again", "agent", "0.2.0")
    fleet.orders["n1"] = {"format": 1, "node": "n1", "retry": [
        {"id": "once", "component": "agent", "issued": stamp(time.time()), "expires": stamp(time.time() + 600)}]}
    fleet.publish()
    node.until("it is there", lambda: node.status()["link"]["connected"])
    node.push()
    node.until_result("good", "agent", "0.2.0")


@story
def refuses_without_a_supervisor(fleet, node):
    Node.start(node)  # `selfright-agent run`, as a person may start it
    offer(fleet, node, "0.2.0", agent_files(node))
    result = node.until_result("requirement-missing", "agent", "0.2.0")
    assert "selfright-recover --start" in result["detail"], result


@story
def an_older_release_than_the_package_is_refused(fleet, node):
    settled(fleet, node)
    offer(fleet, node, "0.0.9", agent_files(node, says("0.0.9", "exit 1")))
    result = node.until_result("requirement-missing", "agent", "0.0.9")
    assert "packaged" in result["detail"], result


@story
def the_agent_goes_alone(fleet, node):
    """Together with another component in one rename: refused, with either as the first."""
    pid = settled(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.release("agent", "0.2.0", agent_files(node), doc=PLAIN)

    def ref(component, version):
        path = f"{component}/{version}/release.json"
        return {"component": component, "path": path,
                "sha256": hashlib.sha256(fleet.listed["team-" + component][path]).hexdigest()}
    for first, version, other in (("web", "1.1.0", ref("agent", "0.2.0")), ("agent", "0.2.0", ref("web", "1.1.0"))):
        fleet.rollout("both-" + first, first, version, **{"with": [other]})
        fleet.publish()
        node.push()
        result = node.until_result("not-allowed", first)
        assert "together" in result["detail"], result
        del fleet.rollouts["both-" + first]
    is_untouched(node, pid)
    assert node.program() == "packaged" and node.current("agent") is None


@story
def returns_to_one_from_the_store(fleet, node):
    pid = settled(fleet, node)
    offer(fleet, node, "0.2.0", agent_files(node))
    node.until_result("good", "agent", "0.2.0")
    offer(fleet, node, "0.3.0", agent_files(node, says("0.3.0", "kill -SEGV $$")))
    result = node.until_result("agent-failed", "agent", "0.3.0", 60)
    assert "SIGSEGV" in result["detail"], result
    assert node.current("agent") == "0.2.0" and node.program() == "0.2.0"
    is_untouched(node, pid)
    assert len(node.of_agent()) == 2


@story
def a_check_of_its_own_sends_it_back(fleet, node):
    files = agent_files(node, note=b"")
    files["bin/check"] = (0o755, b"#!/bin/sh\necho I see no light; exit 1\n")
    result = goes_back(fleet, node, "check-failed", "0.2.0", files, doc={"probation": 1, "checks": [
        {"name": "light", "exec": {"command": ["bin/check"]}, "periodSeconds": 1, "failureThreshold": 1}]})
    assert "light" in result["detail"], result


@story
def support_sends_the_agent_back(fleet, node):
    pid = settled(fleet, node)
    second = agent_files(node)
    offer(fleet, node, "0.2.0", second)
    node.until_result("good", "agent", "0.2.0")
    # The same programs, wrapped so that they say another version.
    wrapped = dict(second)
    wrapped["bin/agent-real"] = second["bin/selfright-agent"]
    wrapped["bin/selfright-agent"] = (0o755, b'#!/bin/sh\n[ "$1" = --version ] && { echo selfright-agent 0.3.0; exit; }\n'
                                             b'exec "$(dirname "$0")/agent-real" "$@"\n')
    offer(fleet, node, "0.3.0", wrapped)
    node.until_result("good", "agent", "0.3.0")
    fleet.order_rollback("n1", "agent", "0.3.0", "0.2.0")
    fleet.publish()
    node.push()
    node.until_result("rolled-back", "agent", "0.2.0")
    assert node.current("agent") == "0.2.0" and node.program() == "0.2.0"
    is_untouched(node, pid)
    node.until("what is acknowledged is not said again", node.acknowledged)
    assert [(x["name"], x["to"]) for x in node.of_agent()] == \
        [("good", "0.2.0"), ("good", "0.3.0"), ("rolled-back", "0.2.0")], node.of_agent()


@story
def one_that_does_not_start_any_more_is_named(fleet, node):
    """Good once, unusable later: another one that works runs, and the node says so."""
    settled(fleet, node)
    offer(fleet, node, "0.2.0", agent_files(node))
    node.until_result("good", "agent", "0.2.0", 40)
    os.chmod(node.root + "/store/agent/0.2.0/bin/selfright-agent", 0o644)
    node.kill(signal.SIGTERM)
    node.start()
    node.until("the packaged one runs", lambda: node.status()["agent"] == "0.1.0", 40)
    assert node.program() == "packaged" and node.running() == "1.0.0"
    node.until("it says why", lambda: any(
        x["name"] == "agent-failed" and "0.2.0 does not start here" in x["detail"] for x in node.results().values()))


@story
def killed_again_and_again(fleet, node):
    """The supervisor, the agent, or both, at any moment of the update: it ends as it would have, once."""
    pid = settled(fleet, node)
    rng = random.Random(os.environ.get("SEED", "1"))
    fleet.release("agent", "0.2.0", agent_files(node), doc=PLAIN)
    fleet.rollout("a-0-2-0", "agent", "0.2.0")
    fleet.publish()
    node.push()
    for i in range(8):
        time.sleep(rng.random() * 0.9)
        if rng.random() < 0.5:
            node.kill(signal.SIGKILL)
            node.start()
        else:
            for child in node.children():
                try:
                    os.kill(child, signal.SIGKILL)
                except ProcessLookupError:
                    pass
    def ended():
        return [x for x in node.of_agent("0.2.0") if x["name"] in ("good", "interrupted", "agent-failed")]
    node.until("it has ended", ended, 90)
    node.until("one of the two is current and runs", lambda: node.program() == (node.current("agent") or "packaged"))
    is_untouched(node, pid)
    last = ended()[-1]["name"]
    assert (last == "good") == (node.current("agent") == "0.2.0"), (last, node.current("agent"))
    node.until("what is acknowledged is not said again", node.acknowledged)
    sequences = [r["sequence"] for r in node.reports()]
    assert sequences == sorted(set(sequences))


@story
def what_a_first_agent_needs_stays_readable(fleet, node):
    """Documents of a later fleet: members nobody knew, a must[], a format. What this agent cannot understand it
    says so; what it needs to get away from itself it reads."""
    settled(fleet, node)
    fleet.unknown = {"future": {"list": [1, {"deep": None}], "text": "\u00e4"}}
    fleet.release("web", "1.1.0", web_files("1.1.0"), doc=dict(WEB, must=["quantum"]))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.release("content", "1.0.0", {"a": (0o644, b"")}, doc={"format": 2})
    fleet.rollout("r3", "content", "1.0.0")
    fleet.rollout("r4", "web", "1.1.0", must=["teleport"])
    fleet.release("agent", "0.2.0", agent_files(node), doc=dict(PLAIN, **fleet.unknown, checks=[
        {"name": "up", "exec": {"command": ["/bin/true"]}, "periodSeconds": 1, **fleet.unknown}]))
    fleet.rollout("a-0-2-0", "agent", "0.2.0", future_window="always")
    fleet.publish()
    node.push()
    node.until_result("good", "agent", "0.2.0", 40)
    assert node.status()["agent"] == "0.2.0"
    for component in ("web", "content"):
        result = node.until_result("agent-too-old", component)
        assert result["class"] == "rejected", result
    assert any(x["rollout"] == "r4" and x["name"] == "agent-too-old" for x in node.results().values())
    assert node.current() == "1.0.0" and node.running() == "1.0.0" and node.current("content") is None


@story
def on_trial_it_writes_what_its_predecessor_reads(fleet, node):
    """The reader of 0.1.0, as it was, over the journal while a newer agent waits for its proof."""
    settled(fleet, node)
    files = agent_files(node)
    files["bin/check"] = (0o755, b"#!/bin/sh\nexit 0\n")
    offer(fleet, node, "0.2.0", files, doc={"probation": 4, "checks": [
        {"name": "up", "exec": {"command": ["bin/check"]}, "periodSeconds": 1}]})
    node.until("it is on trial", lambda: node.status()["agent"] == "0.2.0", 30)
    said = subprocess.run([node.build + "/tests/reader_0_1_0", node.root + "/journal"], capture_output=True, text=True)
    assert said.returncode == 0 and "update a-0-2-0/agent/1 agent probation" in said.stdout, said
    assert "component web 1.0.0" in said.stdout and "component agent 0.2.0" in said.stdout, said
    node.until_result("good", "agent", "0.2.0", 40)


def root_of(node):
    return hashlib.sha256(open(node.root + "/trust/root.json", "rb").read()).hexdigest()


def lost_root_world(fleet, node):
    """An agent whose release carries the root of a second line of keys; returns (old, new) hashes."""
    old_keys = dict(fleet.keys)
    for role in ("root", "timestamp", "snapshot", "targets"):
        fleet.keys[role] = Key()
    second, second_keys = envelope(fleet.root_signed(life=2 * 10**7), fleet.keys["root"]), dict(fleet.keys)
    fleet.keys = old_keys
    pid = settled(fleet, node)
    offer(fleet, node, "0.2.0", agent_files(node, **{"root.json": second}))
    node.until_result("good", "agent", "0.2.0", 40)
    assert root_of(node) == hashlib.sha256(fleet.root).hexdigest(), "carried is not trusted"

    def second_line():
        fleet.keys = second_keys
        fleet.put("metadata/1.root.json", second)
        fleet.release("web", "1.1.0", web_files("1.1.0"))
        fleet.rollout("r2", "web", "1.1.0")
        fleet.publish()
        node.push()
    return pid, hashlib.sha256(fleet.root).hexdigest(), hashlib.sha256(second).hexdigest(), second_line


def goes_on_from(node, new):
    node.until("the carried root is trusted", lambda: root_of(node) == new, 30)
    node.until_result("good", to="1.1.0", seconds=40)
    assert node.running() == "1.1.0" and node.program() == "0.2.0"


@story
def a_lost_root_is_left_for_the_one_the_agent_carries(fleet, node):
    pid, old, new, second_line = lost_root_world(fleet, node)
    fleet.publish()  # nothing has happened to it: the carried one stays what it is
    node.push()
    time.sleep(1)
    assert root_of(node) == old
    fleet.listed["team-agent"]["agent/policy.json"] = json.dumps(
        {"format": 1, "owner": "agent team", "approvals": [], "lost_roots": [old]}).encode()
    fleet.publish()
    node.push()
    node.until("the carried root is trusted", lambda: root_of(node) == new, 30)
    is_untouched(node, pid)
    second_line()
    goes_on_from(node, new)


@story
def an_expired_root_is_left_for_the_one_the_agent_carries(fleet, node):
    pid, old, new, second_line = lost_root_world(fleet, node)
    # The line goes on with a root that nobody renews: trusted, and soon expired.
    fleet.put("metadata/2.root.json", envelope(fleet.root_signed(2, life=3), fleet.keys["root"]))

    def replaced():
        fleet.publish()
        node.push()
        time.sleep(0.5)
        return root_of(node) == new
    node.until("the carried root is trusted", replaced, 60)
    os.unlink(fleet.repo + "/metadata/2.root.json")
    is_untouched(node, pid)
    second_line()
    goes_on_from(node, new)


@story
def a_lost_root_is_not_left_for_an_older_one(fleet, node):
    """The release carries a root that expires before the trusted one: one of the same line, left behind long ago."""
    stranger = Key()
    fleet_root, fleet.keys["root"] = fleet.keys["root"], stranger
    older = envelope(fleet.root_signed(life=10**6), stranger)
    fleet.keys["root"] = fleet_root
    settled(fleet, node)
    offer(fleet, node, "0.2.0", agent_files(node, **{"root.json": older}))
    node.until_result("good", "agent", "0.2.0", 40)
    old = root_of(node)
    fleet.listed["team-agent"]["agent/policy.json"] = json.dumps(
        {"format": 1, "owner": "agent team", "approvals": [], "lost_roots": [old]}).encode()
    fleet.publish()
    node.push()
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    fleet.publish()
    node.push()
    node.until_result("good", to="1.1.0")
    assert root_of(node) == old


def run_by_name(name, build):
    f = next(s for s in stories if s.__name__ == name)
    return base.run(f, build, AgentFleet, SupervisedNode)


if __name__ == "__main__":
    chosen = [s for s in stories if not sys.argv[2:] or s.__name__ in sys.argv[2:]]
    build = os.path.abspath(sys.argv[1])
    with multiprocessing.Pool(6) as pool:
        ended = pool.starmap(run_by_name, [(s.__name__, build) for s in chosen], chunksize=1)
    failed = [s.__name__ for s, ok in zip(chosen, ended) if not ok]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} stories")
    if failed:
        print("failed:", " ".join(failed))
    sys.exit(1 if failed else 0)
