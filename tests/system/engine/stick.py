"""A node without network: bundles from a stick, by the agent that runs and without one. The tar is made here by
another program than the product's own. Usage: stick.py BUILD [NAME...]"""
import story as stories_of_good_days
from story import *

stories = stories_of_good_days.stories = []


def story(f):
    stories.append(f)
    return f


def tar_of(fleet, name="bundle.tar", leave_out=(), change=None, mode=tarfile.GNU_FORMAT):
    path = os.path.join(fleet.work, name)
    with tarfile.open(path, "w", format=mode) as tar:
        for folder, _, names in os.walk(fleet.repo):
            for n in sorted(names):
                whole = os.path.join(folder, n)
                inner = os.path.relpath(whole, fleet.repo)
                if any(x in inner for x in leave_out):
                    continue
                data = open(whole, "rb").read()
                if change:
                    data = change(inner, data)
                info = tarfile.TarInfo(inner)
                info.size = len(data)
                tar.addfile(info, __import__("io").BytesIO(data))
    return path


def stick_node(node):
    """The product's own stage process: nothing but the stick."""
    shutil.copy(node.build + "/bin/selfright-stage", node.programs + "/selfright-stage")
    return node


def install_from(node, bundle, *more):
    p = subprocess.run([node.build + "/bin/selfright-agent", "install", bundle, "--config-dir", node.etc, "--json", *more],
                       stdout=subprocess.PIPE, stderr=node.log, text=True, timeout=120)
    answer = json.loads(p.stdout)
    return p.returncode, answer.get("detail") or answer["error"]


def left_report(node, where):
    """What the node left on the stick, checked against its identity key."""
    doc = json.load(open(os.path.join(where, "selfright-reports", node.name + ".json")))
    node.identity.key.public_key().verify(bytes.fromhex(doc["signatures"][0]["sig"]), canonical(doc["signed"]).encode(),
                                          ec.ECDSA(hashes.SHA256()))
    return doc["signed"]


def nothing_partial(node):
    left = [f for top in ("store/web", "generations", "spool", ".") for f in os.listdir(os.path.join(node.root, top))
            if f.endswith((".partial", ".pending", ".part"))]
    assert left == [], left


def offer(fleet, version, id, **more):
    fleet.release("web", version, web_files(version, **more))
    fleet.rollout(id, "web", version)
    fleet.publish()


@story
def good_undone_and_nothing_to_do(fleet, node):
    stick_node(node)
    offer(fleet, "1.0.0", "r1")
    code, detail = install_from(node, fleet.repo)
    assert code == 0 and "1.0.0: good" in detail, (code, detail)
    node.serves("1.0.0")
    report = left_report(node, fleet.repo)
    assert [r["name"] for r in report["results"]] == ["good"], report["results"]
    for mode in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT):
        code, detail = install_from(node, tar_of(fleet, mode=mode))
        assert code == 0 and "nothing to do" in detail, (code, detail)
    offer(fleet, "1.1.0", "r2", broken=True)
    bundle = tar_of(fleet)
    code, detail = install_from(node, bundle)
    assert code == 3 and "check-failed" in detail, (code, detail)
    node.serves("1.0.0")
    report = left_report(node, fleet.work)
    assert [r["name"] for r in report["results"]] == ["good", "check-failed"], report["results"]
    code, detail = install_from(node, bundle)
    assert code == 1 and "denied" in detail, (code, detail)
    nothing_partial(node)
    # What happened without the network is told when there is one.
    node.start()
    node.until_result("check-failed")
    node.until("all is acknowledged", node.acknowledged)


@story
def the_agent_that_runs_does_it(fleet, node):
    stick_node(node)
    node.write(node.programs + "/selfright-link", "#!/bin/sh\nexit 1\n", 0o755)  # no road at all
    offer(fleet, "1.0.0", "r1")
    node.start()
    node.until("it runs", lambda: node.cli("status")[0] == 0)
    code, detail = install_from(node, tar_of(fleet))
    # It asks the network once more before a swap; where nothing answers it goes by what it has.
    assert code == 0 and "1.0.0: good" in detail, (code, detail)
    node.serves("1.0.0")
    assert left_report(node, fleet.work)["results"][0]["name"] == "good"
    code, detail = install_from(node, os.path.join(fleet.work, "n1"))
    assert code == 0 and "nothing to do" not in detail or code == 1, (code, detail)


@story
def a_stick_that_is_older_only_brings_files(fleet, node):
    stick_node(node)
    offer(fleet, "1.0.0", "r1")
    offer(fleet, "1.1.0", "r2")
    old = tar_of(fleet, "old.tar")
    fleet.publish()
    code, detail = install_from(node, tar_of(fleet, "new.tar", leave_out=[".tar.gz"]))
    assert code == 1 and "download-failed" in detail and "does not hold" in detail, (code, detail)
    assert node.current() is None
    known = json.load(open(node.root + "/trust/timestamp.json"))["signed"]["version"]
    code, detail = install_from(node, old)
    assert code == 0 and "1.1.0: good" in detail, (code, detail)
    assert json.load(open(node.root + "/trust/timestamp.json"))["signed"]["version"] == known


@story
def expired_online_metadata_count_as_long_as_the_node_says(fleet, node):
    stick_node(node)
    fleet.release("web", "1.0.0", web_files("1.0.0"))
    fleet.rollout("r1", "web", "1.0.0")
    fleet.publish(life=0)
    bundle = tar_of(fleet)
    code, detail = install_from(node, bundle)
    assert code == 1 and "expired" in detail, (code, detail)
    with open(node.etc + "/agent.yaml", "a") as f:
        f.write("offline_grace: 1h\n")
    code, detail = install_from(node, bundle)
    assert code == 0 and "1.0.0: good" in detail, (code, detail)
    # Without the stick they are as expired as they are.
    node.start()
    node.until("stale again", lambda: node.status()["metadata"]["fresh"] is False)


@story
def a_stolen_stick_can_do_nothing(fleet, node):
    stick_node(node)
    offer(fleet, "1.0.0", "r1")
    assert install_from(node, fleet.repo)[0] == 0
    fleet.release("web", "1.1.0", web_files("1.1.0"))
    fleet.rollout("r2", "web", "1.1.0")
    for role in ("timestamp", "snapshot", "targets"):
        fleet.bad[role] = "stranger"
        fleet.publish()
        code, detail = install_from(node, tar_of(fleet))
        assert code == 1 and "threshold" in detail, (role, code, detail)
        del fleet.bad[role]
    fleet.publish()

    def another_artifact(name, data):
        return data[:-1] + bytes([data[-1] ^ 1]) if name.endswith(".tar.gz") else data

    def longer_artifact(name, data):
        return data + b"more" if name.endswith(".tar.gz") else data

    def another_document(name, data):
        return data.replace(b"1.1.0", b"6.6.6") if name.endswith("r2.json") else data
    for change, word in ((another_document, "metadata were refused"), (another_artifact, "artifact-digest"),
                         (longer_artifact, "artifact-length")):
        code, detail = install_from(node, tar_of(fleet, change=change))
        assert code == 1 and word in detail, (code, detail)
        node.serves("1.0.0")
        nothing_partial(node)
    for wrong in (fleet.work + "/n1/agent.log", fleet.work + "/nothing", "/dev/null"):
        code, detail = install_from(node, wrong)
        assert code == 1, (wrong, code, detail)
    fleet.publish()
    assert install_from(node, tar_of(fleet))[0] == 0
    assert node.current() == "1.1.0"


@story
def a_factory_image_is_filled_and_starts_where_it_boots(fleet, node):
    stick_node(node)
    offer(fleet, "1.0.0", "r1")
    image = os.path.join(fleet.work, "image")
    os.makedirs(image + "/etc")
    shutil.copytree(node.etc, image + "/etc/selfright")
    os.makedirs(image + os.path.dirname(node.root))
    text = open(node.etc + "/agent.yaml").read()
    node.write(image + "/etc/selfright/agent.yaml", text)
    os.unlink(image + "/etc/selfright/identity.key")
    p = subprocess.run([node.build + "/bin/selfright-agent", "install", fleet.repo, "--root", image, "--json"],
                       stdout=subprocess.PIPE, stderr=node.log, text=True, timeout=60)
    assert p.returncode == 0 and "unproven" in p.stdout, (p.returncode, p.stdout)
    assert os.readlink(image + node.root + "/current") and not os.path.exists(node.root)
    assert not os.path.exists(image + node.root + "/data/web"), "nothing of it has run"
    shutil.copytree(image + node.root, node.root, symlinks=True)  # it boots
    p = subprocess.run([node.build + "/bin/selfright-recover", "--root", node.root], stdout=node.log, stderr=node.log)
    assert p.returncode == 0
    node.start()
    node.until("its service runs", lambda: node.running() == "1.0.0")
    node.until_result("good-unproven")


def damage(node, version, path="VERSION"):
    """A bit that flipped: same size, same name."""
    file = f"{node.root}/store/web/{version}/{path}"
    data = open(file, "rb").read()
    with open(file, "r+b") as f:
        f.write(bytes([data[0] ^ 1]) + data[1:])


def verify(node, *more):
    p = subprocess.run([node.build + "/bin/selfright-agent", "verify", *more, "--config-dir", node.etc, "--json"],
                       stdout=subprocess.PIPE, stderr=node.log, text=True, timeout=60)
    return p.returncode, {t["version"]: t for t in json.loads(p.stdout).get("trees", [])}


@story
def a_damaged_tree_is_named_and_restored(fleet, node):
    stick_node(node)
    offer(fleet, "1.0.0", "r1")
    assert install_from(node, fleet.repo)[0] == 0
    code, trees = verify(node)
    assert code == 0 and trees["1.0.0"]["state"] == "sound" and trees["1.0.0"]["against"] == "signed", trees
    assert trees["1.0.0"]["current"] is True
    damage(node, "1.0.0")
    code, trees = verify(node, "web", "1.0.0")
    assert code == 1 and "VERSION" in trees["1.0.0"]["detail"], trees
    code, trees = verify(node, "--repair")
    assert code == 1 and "no agent runs" in trees["1.0.0"]["detail"], trees
    code, trees = verify(node, "web", "--repair", "--bundle", fleet.repo)
    assert code == 0 and trees["1.0.0"]["state"] == "repaired", trees
    assert verify(node)[0] == 0 and open(node.root + "/store/web/1.0.0/VERSION").read() == "1.0.0"
    nothing_partial(node)
    # The same by the agent that runs, and its service runs from the whole tree again.
    for path in ("bin/start", None):
        if path:
            damage(node, "1.0.0", path)
        else:
            os.unlink(node.root + "/store/web/1.0.0/bin/check")
        shutil.copy(node.programs + "/stage-real", node.programs + "/selfright-stage")
        node.write(node.programs + "/selfright-stage", '#!/bin/bash\nargs=()\nwhile [ $# -gt 0 ]; do case $1 in '
                   '--url|--ca) shift 2;; *) args+=("$1"); shift;; esac; done\n'
                   f'exec {node.programs}/stage-real --dir {fleet.repo} "${{args[@]}}"\n', 0o755)
        if not node.process:
            node.start()
        node.until("it runs", lambda: node.cli("status")[0] == 0)
        before = {s["pid"] for s in node.component()["services"]}
        code, trees = verify(node, "--repair")
        assert code == 0 and trees["1.0.0"]["state"] == "repaired", trees
        node.until("its service was started again", lambda: node.component()["services"][0]["state"] == "running" and
                   not before & {s["pid"] for s in node.component()["services"]})
        assert verify(node)[0] == 0
    assert verify(node, "web", "9.9.9")[0] == 1 and verify(node, "nothing")[0] == 1


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
