"""How long a bad release stays, and what looking after a good one costs.
Usage: bench_health.py BUILD [ROUNDS [SECONDS]]

From the fault to the start of the rollback, and to the old version answering, in probation and in the watch; the share
that is the check's own patience (period and failureThreshold) is printed beside it. Then the processor time and the
wake-ups of the agent, with its checks' programs, over SECONDS without and with a watch, scaled to an hour."""
import os, statistics, sys, tempfile, shutil, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../system/engine"))
from fleet import *

PERIOD, THRESHOLD = 1, 2
TICKS = os.sysconf("SC_CLK_TCK")


def world(build, work):
    os.chmod(work, 0o755)
    fleet = Fleet(work)
    return fleet, Node(fleet, build)


def give(fleet, node, version, doc):
    fleet.release("web", version, web_files(version), doc=doc)
    fleet.rollout("r-" + version.replace(".", "-"), "web", version)
    fleet.publish()
    node.push()


def check(**more):
    return dict({"name": "fine", "periodSeconds": PERIOD, "timeoutSeconds": 5, "failureThreshold": THRESHOLD,
                 "exec": {"command": ["sh", "-c", 'test -e "$SELFRIGHT_DATA/fine"']}}, **more)


def seen(node, word):
    try:
        return word in open(node.mail + "/events").read()
    except FileNotFoundError:
        return False


def runs(node, version):
    try:
        return node.running() == version and node.current() == version
    except IndexError:  # it is just writing that down
        return False


def wait(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.002)
    return time.monotonic()


def fault(build, phase):
    """(until the rollback begins, until the old version runs), in seconds after the fault."""
    work = tempfile.mkdtemp(prefix="selfright-bench-")
    fleet, node = world(build, work)
    try:
        give(fleet, node, "1.0.0", WEB)
        node.start()
        node.until_result("good", to="1.0.0")
        open(node.root + "/data/web/fine", "w").close()
        doc = dict(WEB, checks=WEB["checks"] + [check()], probation=600 if phase == "probation" else 1, watch=3600)
        give(fleet, node, "1.1.0", doc)
        node.until(phase, lambda: node.status()["state"] == phase and
                   all(c["state"] == "passing" for c in node.status()["checks"]), 60)
        time.sleep(2.5)  # anywhere within a period
        os.unlink(node.root + "/data/web/fine")
        begin = time.monotonic()
        back = wait(lambda: seen(node, '"rolling-back"'))
        old = wait(lambda: runs(node, "1.0.0"))
        node.until_result("check-failed" if phase == "probation" else "regressed", to="1.1.0")
        return back - begin, old - begin
    finally:
        node.stop()
        shutil.rmtree(work, ignore_errors=True)


def cost(pid):
    """Of the agent: its own time, that of programs it waited for, how often it slept and woke."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    status = open(f"/proc/{pid}/status").read()
    switches = int(status.split("voluntary_ctxt_switches:")[1].split()[0])
    return sum(int(x) for x in fields[11:13]) / TICKS, sum(int(x) for x in fields[13:15]) / TICKS, switches


def watch(build, seconds, doc):
    """Seconds of processor time an hour (agent, its checks' programs) and wake-ups an hour."""
    work = tempfile.mkdtemp(prefix="selfright-bench-")
    fleet, node = world(build, work)
    try:
        give(fleet, node, "1.0.0", WEB)
        node.start()
        node.until_result("good", to="1.0.0")
        for name, text in (("fine", ""), ("errors.prom", "errors 0\n"), ("log", "")):
            open(f"{node.root}/data/web/{name}", "w").write(text)
        give(fleet, node, "1.1.0", dict(WEB, **doc))
        node.until_result("good", to="1.1.0")
        time.sleep(15)  # the first looks are at the check's own pace
        before, begin = cost(node.process.pid), time.monotonic()
        time.sleep(seconds)
        after, scale = cost(node.process.pid), 3600 / (time.monotonic() - begin)
        return [(b - a) * scale for a, b in zip(before, after)]
    finally:
        node.stop()
        shutil.rmtree(work, ignore_errors=True)


def patience(phase):
    slow = 6 if phase == "watch" else 1
    return f"0 to {PERIOD * slow} s until the next look, {PERIOD * (THRESHOLD - 1)} s for {THRESHOLD} failures in a row"


if __name__ == "__main__":
    build = os.path.abspath(sys.argv[1])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 60
    print("seconds after the fault            rollback begins   old version runs   of it the check's patience")
    for phase in ("probation", "watch"):
        times = [fault(build, phase) for _ in range(rounds)]
        print(f"  {phase:<32} {statistics.median(t[0] for t in times):>15.2f} {statistics.median(t[1] for t in times):>18.2f}   "
              f"{patience(phase)}")
        print(f"  from the rollback's begin, the worst of {rounds}: {max(t[1] - t[0] for t in times):.2f}")
    four = [check(periodSeconds=10), dict(check(periodSeconds=10), name="word", status={"command": ["echo", "ready"]}),
            dict(check(periodSeconds=10), name="errors", metric={"file": "errors.prom", "select": "errors", "max": "5"}),
            dict(check(periodSeconds=10), name="log", log={"file": "log"})]
    for c in four[1:]:
        del c["exec"]
    print(f"an hour, from {seconds} s                    agent, s   checks, s   wake-ups")
    for name, doc in (("idle, nothing watched", {}), ("watch, 1 exec every 10 s", {"watch": 36000, "checks": four[:1]}),
                      ("watch, 4 checks every 10 s", {"watch": 36000, "checks": four})):
        agent, programs, wakes = watch(build, seconds, doc)
        print(f"  {name:<32} {agent:>12.2f} {programs:>11.2f} {wakes:>10.0f}")
