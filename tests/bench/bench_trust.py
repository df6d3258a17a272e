"""What trust costs a node once a fleet is old: 10 teams with 100 releases each, 100 live rollouts, 1,000 live orders,
made by the real programs; the announcement that the broker retains for a node that joins, and a first and an unchanged
refresh over HTTP by the same client library that the agent uses. Usage: bench_trust.py BUILD [NODES]

bench_tuf_refresh.py measures the client alone against another implementation's repository."""
import gzip
import hashlib
import http.client
import http.server
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system", "engine"))
import fleet as f  # noqa: E402
from cryptography.hazmat.primitives import serialization  # noqa: E402

TEAMS, COMPONENTS, RELEASES = 10, 10, 10  # per team, per component
NODES = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
BIN = os.path.abspath(sys.argv[1]) + "/bin/"


class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("x", timeout=120)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(self.path)


def call(control, method, path, body=None):
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    control.request(method, path, data)
    answer = control.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise SystemExit(f"{method} {path}: {answer.status} {text[:300]}")
    return json.loads(text or b"{}")


def run(*args, **more):
    return subprocess.run([BIN + args[0], *args[1:]], check=True, capture_output=True, text=True, **more).stdout


def load_key(path):
    key = f.Key.__new__(f.Key)
    with open(path, "rb") as file:
        key.key = serialization.load_pem_private_key(file.read(), None)
    key.public = key.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    key.object = {"keytype": "ecdsa", "keyval": {"public": key.public}, "scheme": "ecdsa-sha2-nistp256"}
    key.id = hashlib.sha256(f.canonical(key.object).encode()).hexdigest()
    return key


def publish_team(control, home, team):
    """A hundred releases at once: the team's role signed here, with its key, as a build farm would."""
    key = load_key(f"{home}/keys/team-t{team}-1.pem")
    names = sorted((n for n in os.listdir(home + "/repo/metadata") if n.endswith(f".team-t{team}.json")),
                   key=lambda n: int(n.split(".")[0]))
    with open(f"{home}/repo/metadata/{names[-1]}", "rb") as file:
        signed = json.load(file)["signed"]
    signed["version"] += 1
    for c in range(COMPONENTS):
        name = f"t{team}-c{c}"
        for r in range(RELEASES):
            version = f"1.0.{r}"
            artifact = f"{name} {version}".encode()
            sha = hashlib.sha256(artifact).hexdigest()
            call(control, "PUT", f"/v1/upload/{sha}", artifact)
            release = {"format": 1, "component": name, "version": version, "kind": "tree", "compatible": {},
                       "requires": {}, "hooks": {}, "data": [], "must": [], "risk": "low", "probation": 60, "watch": 0,
                       "boot_attempts": 3, "changes": "what a release says about itself in a line or two", **{
                           k: f.WEB[k] for k in ("services", "checks")},
                       "artifacts": [{"path": f"{name}/{version}/{name}.tar.zst", "length": len(artifact), "sha256": sha,
                                      "form": "full", "media": "application/x-tar+zstd"}],
                       "tree": {"digest": sha, "installed_size": 400000, "files": 40}}
            data = json.dumps(release).encode()
            digest = hashlib.sha256(data).hexdigest()
            call(control, "PUT", f"/v1/upload/{digest}", data)
            signed["targets"][f"{name}/{version}/release.json"] = {"length": len(data), "hashes": {"sha256": digest}}
    call(control, "POST", "/v1/publish", {"role": f"team-t{team}", "metadata": f.envelope(signed, key).decode()})


def counted_server(folder, sent):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def copyfile(self, source, outputfile):
            data = source.read()
            sent[0] += len(data)
            sent[1] += 1
            outputfile.write(data)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def measure(title, args, sent):
    sent[:] = [0, 0]
    start, highest = time.monotonic(), 0
    process = subprocess.Popen(args)
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
                highest = max(highest, next((int(x.split()[1]) for x in file if x.startswith("VmHWM")), 0))
        except OSError:
            pass
        time.sleep(0.0005)
    assert process.returncode == 0, title
    print(f"{title:40} {1000 * (time.monotonic() - start):7.0f} ms {highest / 1024:6.1f} MiB peak "
          f"{sent[0]:9d} bytes in {sent[1]} files", flush=True)


def start_serve(home, log):
    path = home + "/serve/serve.json"
    if os.path.exists(path):
        os.unlink(path)
    process = subprocess.Popen([BIN + "selfright", "serve", "--dir", home], stdout=log, stderr=log)
    while not os.path.exists(path):
        assert process.poll() is None, "serve ended"
        time.sleep(0.1)
    return process


def stop(process):
    if process.poll() is None:
        process.terminate()
        process.wait(20)


def give_orders(home):
    """As if support had worked for months: one by one the signer's rate limit would make it a quarter of an hour."""
    db = sqlite3.connect(home + "/serve/selfright.db")
    now = int(time.time())
    for n in range(1, NODES + 1):
        db.execute("INSERT INTO nodes (node, identity_public, transport_public, labels, added_at) VALUES (?,?,?,'{}',?)",
                   (f"n{n}", "k", "k", now))
        db.execute("INSERT INTO orders (id, node, kind, component, from_version, to_version, reason, by, issued, until)"
                   " VALUES (?,?,'rollback','t0-c0','1.0.9','1.0.8','ticket 4711','bench',?,0)", (f"order-{n}", f"n{n}", now))
    db.commit()
    db.close()


def listed_orders(home):
    versions = [int(n.split(".")[0]) for n in os.listdir(home + "/repo/metadata") if n.endswith(".support.json")]
    with open(f"{home}/repo/metadata/{max(versions)}.support.json", "rb") as file:
        return len(json.load(file)["signed"]["targets"])


def main():
    work = tempfile.mkdtemp(prefix="selfright-bench-")
    home = work + "/fleet"
    os.chmod(work, 0o711)
    serve = None
    try:
        run("selfright", "repo", "init", home, "--fleet", "demo")
        for team in range(TEAMS):
            for c in range(COMPONENTS):
                run("selfright", "component", "add", f"t{team}-c{c}", "--team", f"t{team}", "--dir", home)
        log = open(work + "/serve.log", "wb")
        serve = start_serve(home, log)
        control = Unix(home + "/serve/control.sock")
        start = time.monotonic()
        for team in range(TEAMS):
            publish_team(control, home, team)
        print(f"{TEAMS * COMPONENTS * RELEASES} releases published in {time.monotonic() - start:.1f} s", flush=True)
        start = time.monotonic()
        for team in range(TEAMS):
            for c in range(COMPONENTS):
                plan = {"component": f"t{team}-c{c}", "version": f"1.0.{RELEASES - 1}", "stages": [
                    {"name": "canary", "labels": {"ring": "canary"}, "soak": "1d"}, {"name": "rest", "all": True}]}
                call(control, "POST", "/v1/rollouts", {"plan": plan, "by": "bench"})
        print(f"{TEAMS * COMPONENTS} rollouts started in {time.monotonic() - start:.1f} s", flush=True)
        run("selfright", "node", "add", "n0", "--dir", home, "-o", work + "/n0.join")
        run("selfright-agent", "join", work + "/n0.join", "--config-dir", work + "/etc", "--root", work + "/root",
            "--run", work + "/run")
        stop(serve)
        give_orders(home)
        start = time.monotonic()
        serve = start_serve(home, log)
        control = Unix(home + "/serve/control.sock")
        while listed_orders(home) < NODES:
            time.sleep(0.2)
        print(f"{NODES} orders published at once in {time.monotonic() - start:.1f} s", flush=True)
        until = f.stamp(time.time() + 86400)
        for title in ("an order while the broker is filled again", "one more order"):
            start = time.monotonic()
            call(control, "POST", "/v1/nodes/n0/hold", {"until": until, "reason": title, "by": "bench"})
            print(f"{title}: published in {1000 * (time.monotonic() - start):.0f} ms", flush=True)
        with open(home + "/serve/serve.json", encoding="ascii") as file:
            port = json.load(file)["broker_port"]
        for topic in ("announce", "timestamp"):
            p = subprocess.run(["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "--cafile", work + "/etc/ca.crt",
                                "--cert", work + "/etc/transport.crt", "--key", work + "/etc/transport.key", "-i", "n0",
                                "-t", f"selfright/v1/demo/{topic}", "-C", "1", "-W", "10", "-N"], capture_output=True)
            text = gzip.decompress(p.stdout) if topic == "announce" else p.stdout
            print(f"retained {topic}: {len(p.stdout)} bytes ({len(text)} inflated)", flush=True)
        sent = [0, 0]
        url = counted_server(home + "/repo", sent)
        base = [BIN + "selfright", "tuf", "--metadata-dir", work + "/tuf", "--metadata-url", url + "/metadata/"]
        os.mkdir(work + "/tuf")
        os.mkdir(work + "/targets")
        run("selfright", "tuf", "--metadata-dir", work + "/tuf", "init", home + "/repo/metadata/1.root.json")
        wanted = ["--target-name", "rollouts/index.json", "--target-name", "nodes/n1.json",
                  *[x for t in range(TEAMS) for x in ("--target-name", f"t{t}-c0/1.0.9/release.json")],
                  "--target-dir", work + "/targets", "--target-base-url", url + "/targets/", "download"]
        measure("cold refresh", [*base, "refresh"], sent)
        measure("its order, the index, 10 teams, cold", [*base, *wanted], sent)
        measure("unchanged refresh", [*base, "refresh"], sent)
        measure("unchanged, the same documents", [*base, *wanted], sent)
    finally:
        if serve:
            stop(serve)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
