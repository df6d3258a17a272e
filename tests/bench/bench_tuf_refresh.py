"""Time, peak memory and bytes of a refresh: 10 teams, 1,000 releases, cold and unchanged, one document of each team read.

Usage: bench_tuf_refresh.py PROGRAM tuf
"""
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import tuf_tool as t  # noqa: E402

TEAMS, RELEASES = 10, 100


def peak(pid):
    """VmHWM in MiB; what wait4 reports begins with the memory of this interpreter, before the exec."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            return next((int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM")), 0)
    except OSError:
        return 0


def main():
    t.SERVER.repos, t.SERVER.daemon_threads = {}, True
    threading.Thread(target=t.SERVER.serve_forever, daemon=True).start()
    repo = t.Repo("ecdsa-sha2-nistp256")
    repo.hashes = True
    sent = [0]
    plain_get = repo.get

    def counted(path):
        data = plain_get(path)
        sent[0] += len(data or b"")
        return data

    repo.get = counted
    names = []
    for team in range(TEAMS):
        role = f"team-c{team}"
        t.Key.__init__.__defaults__ = ("ecdsa-sha2-nistp256",)
        repo.delegate("targets", role, [f"c{team}/policy.json", f"c{team}/*/release.json"], True)
        for release in range(RELEASES):
            repo.artifact(role, f"c{team}/1.0.{release}/release.json", b"{}" + str(release).encode())
        names.append(f"c{team}/1.0.{RELEASES - 1}/release.json")
        repo.publish(role)
    repo.update("targets")
    client = t.Client(repo)
    assert client.init() == 0
    args = [*t.COMMAND, "--metadata-dir", client.metadata, "--metadata-url", client.metadata_url]
    wanted = [a for n in names for a in ("--target-name", n)]
    wanted += ["--target-dir", client.targets, "--target-base-url", client.targets_url]
    for title, words in (("cold refresh", ["refresh"]), ("cold, one document of each team", [*wanted, "download"]),
                         ("unchanged refresh", ["refresh"]), ("unchanged, the same documents", [*wanted, "download"])):
        sent[0] = 0
        start = time.monotonic()
        process = subprocess.Popen([*args, *words])
        highest, done = 0, 0
        while done == 0:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            with open(f"/proc/{process.pid}/comm", encoding="utf-8") if done == 0 else open(os.devnull) as f:
                if f.read().strip() in os.path.basename(args[0]):
                    highest = max(highest, peak(process.pid))
            time.sleep(0.0005)
        assert status == 0
        print(f"{title:34} {1000 * (time.monotonic() - start):7.1f} ms  {highest:6.1f} MiB peak"
              f"  {usage.ru_utime * 1000:6.1f} ms user  {sent[0]:8} bytes")
    client.close()
    t.SERVER.shutdown()


if __name__ == "__main__":
    main()
