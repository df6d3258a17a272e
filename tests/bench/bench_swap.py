#!/usr/bin/env python3
"""bench_swap - what an update costs a node beside the bytes it brings: the pause of its service, the way back, the
time from a crash to a healthy service, and the bytes written beyond the payload; at 10 and at 20,000 files.

Usage: tests/bench/bench_swap.py [BUILD] [FILES...]. Figures, no test: the real programs, a bundle in a folder, one node."""
import os, re, resource, shutil, signal, subprocess, sys, tempfile, time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TESTS, "system", "engine"))
from fleet import *

START = b"#!/bin/sh\ndate +%s%N >>\"$SELFRIGHT_DATA/starts\"\necho \"$SELFRIGHT_VERSION $1\" >\"$SELFRIGHT_DATA/running\"\nexec sleep 100000\n"
BAD = {"checks": [{"name": "bad", "exec": {"command": ["bin/bad"]}, "periodSeconds": 1, "timeoutSeconds": 30, "failureThreshold": 1}],
       "probation": 60}


def files_of(version, count):
    files = web_files(version)
    files["bin/start"] = (0o755, START.replace(b"#!/bin/sh\n", b"#!/bin/sh\n# %s\n" % version.encode()))  # else it is left alone
    files["bin/bad"] = (0o755, b"#!/bin/sh\nread -r v <\"$SELFRIGHT_CURRENT/web/VERSION\"\n[ \"$v\" != 1.2.0 ]\n")
    for i in range(count - len(files)):
        files[f"share/{i // 200}/{i}"] = (0o644, b"%d of %s\n" % (i, version.encode()))
    return files


def measure(build, count):
    work = tempfile.mkdtemp(prefix="selfright-bench-")
    os.chmod(work, 0o755)
    fleet, figures = Fleet(work), {"files": count}
    node = Node(fleet, build)
    try:
        shutil.copy(build + "/bin/selfright-stage", node.programs + "/selfright-stage")

        def install(code, wrapper=()):
            before, begin = resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock, time.monotonic()
            p = subprocess.run([*wrapper, build + "/bin/selfright-agent", "install", fleet.repo, "--config-dir", node.etc],
                               stdout=subprocess.PIPE, stderr=node.log, text=True)
            assert p.returncode == code, (p.returncode, p.stdout)
            return (resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock - before) * 512, time.monotonic() - begin

        def offer(version, doc):
            files = files_of(version, count)
            fleet.release("web", version, files, doc=doc)
            fleet.rollout("r-" + version.replace(".", "-"), "web", version)
            fleet.publish()
            folder = f"{fleet.repo}/targets/web/{version}"
            return sum(os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder) if n.endswith(".gz")), \
                sum((len(d) + 4095) // 4096 * 4096 for _, d in files.values())

        doc = dict(WEB, probation=0)
        offer("1.0.0", doc)
        install(0)
        archive, tree = offer("1.1.0", doc)
        written, seconds = install(0)
        last = [json.loads(line) for line in open(node.root + "/history")][-1]
        figures.update(update_s=round(seconds, 2), pause_ms=last["pause_ms"], archive_bytes=archive, tree_bytes=tree,
                       written_beyond_payload=written - archive - tree)
        # The way back: killed in probation, so that recover does it; then by the engine.
        offer("1.2.0", dict(WEB, **BAD))
        total = int(re.search(r"(\d+) calls", subprocess.run(
            [build + "/tests/at_call", "--count", "--", build + "/bin/selfright-agent", "install", fleet.repo, "--config-dir",
             node.etc], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr).group(1))
        assert node.current() == "1.1.0" and total
        lines = [int(x) for x in open(node.root + "/data/web/starts")]
        figures["new_start_to_old_start_ms"] = round((lines[-1] - lines[-2]) / 1e6)  # the check, the way back, the start
        begin = time.monotonic()
        subprocess.run([build + "/bin/selfright-recover", "--root", node.root], stdout=node.log, stderr=node.log, check=True)
        figures["recover_nothing_to_do_ms"] = round((time.monotonic() - begin) * 1000)
        # A crash: everything dies at once; recover, the agent, and its service is up.
        services = node.run + "/services"
        for f in os.listdir(services):
            if f.endswith(".json"):
                os.killpg(json.load(open(os.path.join(services, f)))["pid"], signal.SIGKILL)
        node.write(node.programs + "/selfright-link", "#!/bin/sh\nexit 1\n", 0o755)
        count_before = len(open(node.root + "/data/web/starts").readlines())
        begin = time.time_ns()
        subprocess.run([build + "/bin/selfright-recover", "--root", node.root], stdout=node.log, stderr=node.log, check=True)
        node.start()
        node.until("it serves", lambda: len(open(node.root + "/data/web/starts").readlines()) > count_before)
        figures["crash_to_service_ms"] = round((int(open(node.root + "/data/web/starts").readlines()[-1]) - begin) / 1e6)
        return figures
    finally:
        node.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    build = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(TESTS), ".build", "release"))
    for count in [int(x) for x in sys.argv[2:]] or [10, 20000]:
        print(json.dumps(measure(build, count)), flush=True)
