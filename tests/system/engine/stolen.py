"""What a stolen key can and cannot make a node do: the rows of the table in common/tuf/README.md that only a whole
agent can show. Every document here is signed by the real key of its role. Usage: stolen.py BUILD [NAME...]"""
import story as stories_of_good_days
from story import *

stories = stories_of_good_days.stories = []


def story(f):
    stories.append(f)
    return f


class TrustFleet(Fleet):
    """With an inventory and an approver."""

    def __init__(self, work):
        super().__init__(work)
        self.keys["inventory"], self.keys["qa"] = Key(), Key()
        self.roles["inventory"] = ["inventory/*"]
        self.listed["inventory"], self.role_version["inventory"] = {}, 0
        self.approvers = {"qa": {"keys": {self.keys["qa"].id: self.keys["qa"].object}, "threshold": 1}}

    def policy(self, **members):
        self.listed["team-web"]["web/policy.json"] = json.dumps(
            dict({"format": 1, "owner": "web", "revoked": [], "approvals": []}, **members)).encode()

    def label(self, node, **labels):
        self.listed["inventory"][f"inventory/{node}.json"] = json.dumps({"format": 1, "labels": labels}).encode()

    def approve(self, id, *keys, life=3600, **change):
        """Signatures over what the rollout says, or over what `change` makes of it."""
        r = self.rollouts[id]
        stage = r["stages"][0]
        expires = stamp(time.time() + life)
        statement = dict({"_type": "selfright-approval", "fleet": "demo", "rollout": id, "kind": r["kind"],
                          "releases": [r["release"]], "overrides": r["overrides"], "expires": expires,
                          "stage": {k: v for k, v in stage.items() if k not in ("open", "approvals")}}, **change)
        data = canonical(statement).encode()
        stage["approvals"].append({"expires": statement["expires"], "signatures": [
            {"keyid": self.keys[k].id, "sig": self.keys[k].sign(data)} for k in keys]})


stories_of_good_days.Fleet = TrustFleet


def tell(fleet, node, **how):
    fleet.publish(**how)
    node.push()


def waits(node, reason, seconds=20):
    node.until(f"waiting: {reason}", lambda: node.why()["reason"] == reason, seconds)


def stays(fleet, node, version="1.0.0", seconds=2):
    """The whole publication was read, and nothing moved."""
    node.until("it was read", lambda: node.status()["metadata"]["timestamp"] == fleet.version)
    time.sleep(seconds)
    assert node.current() == version, node.current()


def offer(fleet, id, version, **more):
    fleet.release("web", version, web_files(version))
    fleet.rollout(id, "web", version, **more)


@story
def rollouts_key_cannot_go_without_the_approval(fleet, node):
    install(fleet, node)
    fleet.policy(approvals=[{"approver": "qa", "kinds": ["regular"]}])
    offer(fleet, "r2", "1.1.0")
    tell(fleet, node)
    waits(node, "not-approved")
    # signed by every key the fleet side holds online, and by none that counts
    fleet.approve("r2", "rollouts", "support", "control", "stranger", "inventory", "timestamp", "snapshot", "team-web")
    tell(fleet, node)
    stays(fleet, node)
    assert node.why()["reason"] == "not-approved"
    fleet.approve("r2", "qa")
    tell(fleet, node)
    node.until_result("good", to="1.1.0")


@story
def rollouts_key_cannot_call_it_a_downgrade(fleet, node):
    """A way back in a hurry needs no approval here; called one, what goes up or comes first needs it all the same."""
    fleet.policy(approvals=[{"approver": "qa", "kinds": ["regular", "patch"]}])
    offer(fleet, "r1", "1.0.0", kind="downgrade")
    fleet.publish()
    node.start()
    waits(node, "not-approved")
    fleet.approve("r1", "qa")
    tell(fleet, node)
    node.until_result("good", to="1.0.0")
    offer(fleet, "r2", "1.1.0", kind="downgrade")
    tell(fleet, node)
    waits(node, "not-approved")
    stays(fleet, node)
    fleet.approve("r2", "qa")
    tell(fleet, node)
    node.until_result("good", to="1.1.0")
    # And down it goes without.
    fleet.rollout("r3", "web", "1.0.0", kind="downgrade")
    tell(fleet, node)
    node.until("it goes back without", lambda: node.current() == "1.0.0")


@story
def an_approval_holds_only_for_what_it_says(fleet, node):
    install(fleet, node)
    fleet.policy(approvals=[{"approver": "qa", "kinds": []}])
    offer(fleet, "r2", "1.1.0")
    release = dict(fleet.rollouts["r2"]["release"])
    wrong = [{"rollout": "r1"}, {"fleet": "other"}, {"kind": "patch"}, {"releases": [dict(release, sha256="0" * 64)]},
             {"releases": [release, release]}, {"stage": {"name": "all", "select": {"labels": {}, "share": 1}}},
             {"overrides": ["window"]}, {"_type": "selfright-ack"}]
    for w in wrong:
        fleet.approve("r2", "qa", **w)
    fleet.approve("r2", "qa", life=-1)  # it was one
    fleet.rollouts["r2"]["stages"][0]["approvals"] += [{"expires": "soon"}, {"signatures": []}, {}]
    tell(fleet, node)
    stays(fleet, node)
    assert node.why()["reason"] == "not-approved"


@story
def inventory_key_gives_no_exemption(fleet, node):
    install(fleet, node)
    fleet.policy(approvals=[{"approver": "qa", "exempt_label": "channel=canary"}])
    fleet.label("n1", channel="canary", site="lima")
    offer(fleet, "r2", "1.1.0")
    tell(fleet, node)
    waits(node, "not-approved")
    stays(fleet, node)
    # what it can do: say to which stage a node belongs
    fleet.policy()
    fleet.rollouts["r2"]["stages"][0]["select"] = {"labels": {"site": "lima"}, "share": 10000}
    tell(fleet, node)
    node.until_result("good", to="1.1.0")


@story
def nobody_goes_below_the_floor(fleet, node):
    fleet.release("web", "0.9.0", web_files("0.9.0"))
    install(fleet, node, "0.9.0", "r0")
    fleet.release("web", "1.0.0", web_files("1.0.0"))
    fleet.rollout("r1", "web", "1.0.0")
    tell(fleet, node)
    node.until_result("good", to="1.0.0")
    fleet.policy(security_floor="1.0.0")
    # the rollouts key: a downgrade to a version that was good here
    fleet.rollout("r2", "web", "0.9.0", kind="downgrade")
    tell(fleet, node)
    stays(fleet, node)
    # the support key: an order to it
    fleet.order_rollback("n1", "web", "1.0.0", "0.9.0")
    tell(fleet, node)
    stays(fleet, node)
    assert node.running() == "1.0.0"
    # what both keys would need, a lower floor, their roles cannot say
    fleet.listed["rollouts"]["web/policy.json"] = b'{"format":1,"owner":"web","revoked":[],"approvals":[]}'
    tell(fleet, node)
    stays(fleet, node)


@story
def the_floor_holds_while_its_team_is_withheld(fleet, node):
    """The support key and a carrier together, and a restart, by which a node forgets what it has only in memory."""
    fleet.release("web", "0.9.0", web_files("0.9.0"))
    install(fleet, node, "0.9.0", "r0")
    fleet.release("web", "1.0.0", web_files("1.0.0"))
    fleet.rollout("r1", "web", "1.0.0")
    tell(fleet, node)
    node.until_result("good", to="1.0.0")
    fleet.policy(security_floor="1.0.0")
    tell(fleet, node)
    stays(fleet, node)
    fleet.policy(security_floor="1.0.0", on_call="somebody else")
    fleet.order_rollback("n1", "web", "1.0.0", "0.9.0")
    fleet.publish()
    withheld = f"{fleet.repo}/metadata/{fleet.version}.team-web.json"
    os.rename(withheld, withheld + ".away")
    node.kill(signal.SIGTERM)
    node.start()
    node.until("the order is known and refused", lambda: any(
        o["id"] == "order-1" and o["name"] == "order-refused" for o in node.reports()[-1].get("orders", [])))
    stays(fleet, node)
    assert node.running() == "1.0.0"
    os.rename(withheld + ".away", withheld)
    tell(fleet, node)
    stays(fleet, node)


@story
def support_key_names_no_version_that_was_never_good_here(fleet, node):
    install(fleet, node)
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.order_rollback("n1", "web", "1.0.0", "1.1.0")
    tell(fleet, node)
    stays(fleet, node)
    assert "1.1.0" not in os.listdir(node.root + "/store/web")
    node.until("it is denied and reported", lambda: node.component()["denied"][0]["version"] == "1.0.0")


@story
def an_order_is_for_the_node_it_names(fleet, node):
    fleet.release("web", "0.9.0", web_files("0.9.0"))
    install(fleet, node, "0.9.0", "r0")
    fleet.release("web", "1.0.0", web_files("1.0.0"))
    fleet.rollout("r1", "web", "1.0.0")
    tell(fleet, node)
    node.until_result("good", to="1.0.0")
    fleet.order_rollback("n2", "web", "1.0.0", "0.9.0")
    tell(fleet, node)
    stays(fleet, node)  # another's order is not read
    fleet.orders["n1"] = fleet.orders.pop("n2")
    tell(fleet, node)  # under this node's name, with the other inside
    time.sleep(2)
    assert node.current() == "1.0.0"
    fleet.orders["n1"] = dict(fleet.orders["n1"], node="n1")
    tell(fleet, node)
    node.until("its own it obeys", lambda: node.current() == "0.9.0")


@story
def control_key_signs_no_metadata(fleet, node):
    install(fleet, node)
    offer(fleet, "r2", "1.1.0")
    for role in ("timestamp", "snapshot", "targets", "rollouts", "team-web"):
        fleet.bad = {role: "control"}
        tell(fleet, node)
        time.sleep(1)
        assert node.current() == "1.0.0", role
    fleet.bad = {}
    offer(fleet, "r3", "1.2.0")
    tell(fleet, node)
    node.until_result("good", to="1.2.0")


@story
def stale_starts_nothing_new(fleet, node):
    install(fleet, node)
    assert node.cli("hold", "--for", "1h", "--reason", "until it is stale")[0] == 0
    offer(fleet, "r2", "1.1.0")
    tell(fleet, node, life=15)  # a busy node must have read it by then
    stays(fleet, node, seconds=0)
    node.until("its metadata is stale", lambda: not node.status()["metadata"]["fresh"])
    assert node.cli("hold", "--release")[0] == 0
    waits(node, "stale")
    time.sleep(2)
    node.serves("1.0.0")
    # what a carrier without the key can bring helps nobody
    fleet.bad = {"timestamp": "stranger"}
    tell(fleet, node)
    time.sleep(2)
    assert node.current() == "1.0.0" and node.why()["reason"] == "stale"
    fleet.bad = {}
    tell(fleet, node)
    node.until_result("good", to="1.1.0")


@story
def a_poisoned_time_floor_is_healed_by_a_new_root(fleet, node):
    install(fleet, node)
    # the stolen timestamp key says it is nearly a day later: what the fleet signs then has expired before it comes
    fleet.ahead = 20 * 3600
    tell(fleet, node, life=21 * 3600)
    stays(fleet, node, seconds=0)
    fleet.ahead = 0
    offer(fleet, "r2", "1.1.0")
    tell(fleet, node, life=10 * 3600)
    node.until("it is refused as expired", lambda: "expired" in (node.status()["metadata"].get("error") or ""))
    time.sleep(2)
    node.serves("1.0.0")
    # a new root takes the key away; the floor it made goes with it
    fleet.keys["timestamp"] = Key()
    fleet.new_root(2)
    tell(fleet, node, life=10 * 3600)
    node.until_result("good", to="1.1.0")


@story
def stale_does_not_hold_up_the_fallback(fleet, node):
    install(fleet, node)
    files = web_files("1.1.0")
    files["bin/check"] = (0o755, b"#!/bin/sh\n[ ! -e \"$SELFRIGHT_DATA/fail\" ]\n")
    fleet.release("web", "1.1.0", files, doc=dict(WEB, probation=60))
    fleet.rollout("r2", "web", "1.1.0")
    tell(fleet, node, life=20)
    node.until("probation", lambda: node.current() == "1.1.0")
    node.until("its metadata is stale", lambda: not node.status()["metadata"]["fresh"])
    open(node.root + "/data/web/fail", "w").close()
    node.until_result("check-failed")
    assert node.current() == "1.0.0"


@story
def stale_does_not_hold_up_the_console(fleet, node):
    install(fleet, node)
    offer(fleet, "r2", "1.1.0")
    tell(fleet, node, life=20)
    node.until_result("good", to="1.1.0")
    node.until("its metadata is stale", lambda: not node.status()["metadata"]["fresh"])
    code, answer = node.cli("rollback", "web", "--reason", "errors")
    assert code == 0, answer
    node.until("back", lambda: node.current() == "1.0.0")


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
