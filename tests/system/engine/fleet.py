"""A fleet side for tests of the agent: a signed repository in a folder, made from scratch here
(another implementation than the product's, so that both must agree on the bytes), and one node."""
import fcntl, glob, gzip, hashlib, io, json, os, re, shutil, signal, stat, subprocess, sys, tarfile, tempfile, time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HERE = os.path.dirname(os.path.abspath(__file__))


def runs_from(pid, folders):
    """Is it a program of a node that lives there: by what it executes, was given as its place, or was told to look at?"""
    def there(path):
        return any(path.startswith(f.encode() + b"/") for f in folders)

    def read(name):
        try:
            return open(f"/proc/{pid}/{name}", "rb").read().split(b"\0")
        except OSError:
            return []  # it has ended, or is none of ours to look at
    try:
        exe = os.fsencode(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return False
    words = read("cmdline")
    return there(exe) or any(there(v.partition(b"=")[2]) for v in read("environ") if v.startswith(b"SELFRIGHT_")) or \
        os.path.basename(exe).startswith(b"selfright-") and any(map(there, words)) or \
        re.match(rb".*/(ba|da|)sh$|.*/python[0-9.]*$", exe) is not None and any(map(there, words[:2]))


def processes_of(*folders):
    """Somebody who only reads a log there is none."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
            if pid != os.getpid() and runs_from(pid, folders)]


def end_processes_of(*folders):
    """By process id, and until there is none left: one that was looked at while it forked has a child by then."""
    end = time.monotonic() + 60
    while True:
        handles = []
        for pid in processes_of(*folders):
            try:
                handles.append((pid, os.pidfd_open(pid)))
            except ProcessLookupError:
                pass
        if not handles:
            return
        for pid, handle in handles:
            try:
                if runs_from(pid, folders):  # behind the handle: the number was another's by then, or is its
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.close(handle)
        assert time.monotonic() < end, f"these do not end: {[pid for pid, _ in handles]}"
        time.sleep(0.02)


def remove_left(folder):
    """What somebody who was killed left behind: programs, mounts and loop devices, and the folder."""
    end_processes_of(folder)
    for mount in reversed([line.split()[4] for line in open("/proc/self/mountinfo")]):
        if mount.startswith(folder + "/"):
            subprocess.run(["umount", "-l", mount], stderr=subprocess.DEVNULL)
    for loop in glob.glob("/sys/block/loop*/loop/backing_file"):
        if open(loop).read().startswith(folder + "/"):
            subprocess.run(["losetup", "-d", "/dev/" + loop.split("/")[3]], stderr=subprocess.DEVNULL)
    shutil.rmtree(folder, ignore_errors=True)


def own_folder(kind, where=None):
    """A folder for what this program does, which it holds as long as it lives. Of its kind those that nobody holds
    belonged to one that was killed: they are removed, with the processes that were left in them."""
    where = where or os.environ.get("TMPDIR") or "/tmp"
    path = tempfile.mkdtemp(prefix=f"selfright-new-{kind}-", dir=where)
    os.chmod(path, 0o755)
    fcntl.flock(os.open(path, os.O_RDONLY | os.O_DIRECTORY), fcntl.LOCK_EX)  # the descriptor ends with us
    name = path.replace("selfright-new-", "selfright-")
    os.rename(path, name)  # nobody takes it for one that is left before it is held
    for other in glob.glob(f"{where}/selfright-{kind}-*"):
        try:
            held = os.open(other, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # also our own: it was opened again
        else:
            remove_left(other)
        finally:
            os.close(held)
    return name


def canonical(v):
    """OLPC canonical JSON."""
    if isinstance(v, bool) or v is None:
        return {True: "true", False: "false", None: "null"}[v]
    if isinstance(v, int):
        return str(v)
    if isinstance(v, str):
        return '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(v, list):
        return "[" + ",".join(canonical(x) for x in v) + "]"
    return "{" + ",".join(canonical(k) + ":" + canonical(v[k]) for k in sorted(v)) + "}"


def stamp(t):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t))


class Key:
    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.public = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
        self.object = {"keytype": "ecdsa", "keyval": {"public": self.public}, "scheme": "ecdsa-sha2-nistp256"}
        self.id = hashlib.sha256(canonical(self.object).encode()).hexdigest()

    def sign(self, data):
        return self.key.sign(data, ec.ECDSA(hashes.SHA256())).hex()

    def pem(self):
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption()).decode()


def envelope(signed, *keys):
    data = canonical(signed).encode()
    return json.dumps({"signed": signed, "signatures": [{"keyid": k.id, "sig": k.sign(data)} for k in keys]}).encode()


def tree_of(files):
    """files: {path: (mode, bytes)}; the listing's digest, bytes and count, as DESIGN.md section 12 has it."""
    entries = {}
    for path, (mode, data) in files.items():
        parts = path.split("/")
        for i in range(1, len(parts)):
            entries["/".join(parts[:i])] = b"d 0755 0 - "
        entries[path] = b"f %04o %d %s " % (mode, len(data), hashlib.sha256(data).hexdigest().encode())
    listing = b"".join(entries[p] + p.encode() + b"\0\0" for p in sorted(entries, key=lambda s: s.encode()))
    return hashlib.sha256(listing).hexdigest(), sum(len(d) for _, d in files.values()), len(entries)


def pack(files, extra=None):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        folders = sorted({"/".join(p.split("/")[:i]) for p in files for i in range(1, len(p.split("/")))})
        for f in folders:
            info = tarfile.TarInfo(f)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for path, (mode, data) in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), mode
            tar.addfile(info, io.BytesIO(data))
        if extra:
            extra(tar)
    return gzip.compress(raw.getvalue(), mtime=0)


def web_files(version, broken=False, **more):
    files = {
        "bin/start": (0o755, b"#!/bin/sh\necho \"$SELFRIGHT_VERSION $1\" >\"$SELFRIGHT_DATA/running\"\n"
                             b"exec sleep 100000\n"),
        "bin/check": (0o755, b"#!/bin/sh\necho \"checking\"\n[ ! -e \"$SELFRIGHT_CURRENT/web/broken\" ] && "
                             b"[ \"$(cat \"$SELFRIGHT_DATA/running\")\" = \"$(cat \"$SELFRIGHT_CURRENT/web/VERSION\") 8080\" ]\n"),
        "VERSION": (0o644, version.encode()),
    }
    if broken:
        files["broken"] = (0o644, b"")
    files.update({k: (0o644, v) for k, v in more.items()})
    return files


WEB = {
    "services": [{"name": "app", "start": {"command": ["bin/start", "${vars.port}"]}, "stop_timeout": 5}],
    "checks": [{"name": "answers", "exec": {"command": ["bin/check"]}, "periodSeconds": 1, "timeoutSeconds": 5,
                "failureThreshold": 2}],
    "probation": 1,
}


class Fleet:
    def __init__(self, work):
        self.work, self.repo = work, os.path.join(work, "repo")
        os.makedirs(self.repo + "/metadata")
        names = ["root", "timestamp", "snapshot", "targets", "team-web", "team-content", "rollouts", "support",
                 "control", "stranger"]
        self.keys = {n: Key() for n in names}
        self.version = int(time.time()) - 100000
        self.roles = {"rollouts": ["rollouts/*"], "support": ["nodes/*"],
                      "team-web": ["web/policy.json", "web/*/release.json"],
                      "team-content": ["content/policy.json", "content/*/release.json"]}
        self.listed = {r: {} for r in self.roles}  # path -> bytes
        self.role_version = {r: 0 for r in list(self.roles) + ["targets"]}
        self.rollouts, self.orders, self.freeze = {}, {}, []
        self.seq = 0
        self.approvers = {}  # name -> {"keys", "threshold"}
        self.bad = {}  # role -> key that signs instead
        self.ahead = 0  # seconds by which the timestamp says that it was made later
        self.unknown = {}  # members that every document gets beside those this agent knows
        self.more = {}  # role -> further keys, all of which must sign with its own
        self.root = envelope(self.root_signed(), self.keys["root"])
        self.put("metadata/1.root.json", self.root)

    def new_root(self, version):
        """The next root, with the keys that the fleet has now; its own key stays."""
        self.put(f"metadata/{version}.root.json", envelope(self.root_signed(version), self.keys["root"]))

    def root_signed(self, version=1, life=10**7):
        top = ["root", "timestamp", "snapshot", "targets"]
        return {"_type": "root", "spec_version": "1.0.31", "version": version, "expires": stamp(time.time() + life),
                "consistent_snapshot": True, "keys": {self.keys[t].id: self.keys[t].object for t in top},
                "roles": {t: {"keyids": [self.keys[t].id], "threshold": 1} for t in top}}

    def put(self, name, data):
        path = os.path.join(self.repo, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "wb") as f:
            f.write(data)
        os.rename(path + ".new", path)

    def signed(self, kind, version, life, **body):
        now = time.time()
        return dict({"_type": kind, "spec_version": "1.0.31", "version": version, "expires": stamp(now + life),
                     "x-issued": stamp(now)}, **body, **self.unknown)

    def publish(self, life=259200, age=0):
        """Everything as it stands, the timestamp last, signed `age` seconds ago."""
        entries = [{"id": i, "seq": r["seq"], "components": [r["component"]] + [w["component"] for w in r["with"]],
                    "path": f"rollouts/{i}.json", **self.unknown}
                   for i, r in self.rollouts.items()]
        self.listed["rollouts"] = {f"rollouts/{i}.json": json.dumps(dict(r, **self.unknown)).encode() for i, r in self.rollouts.items()}
        self.listed["rollouts"]["rollouts/index.json"] = json.dumps(
            {"format": 1, "rollouts": entries, "freeze": self.freeze, **self.unknown}).encode()
        self.listed["support"] = {f"nodes/{n}.json": json.dumps(o).encode() for n, o in self.orders.items()}
        self.version += 1
        meta = {}
        for role, listed in self.listed.items():
            targets = {}
            for path, data in listed.items():
                digest = hashlib.sha256(data).hexdigest()
                targets[path] = {"length": len(data), "hashes": {"sha256": digest}}
                folder, name = os.path.split(path)
                self.put(f"targets/{folder}/{digest}.{name}", data)
            self.role_version[role] = self.version
            self.put(f"metadata/{self.version}.{role}.json",
                     envelope(self.signed("targets", self.version, 10**6, targets=targets),
                              self.keys[self.bad.get(role, role)], *self.more.get(role, [])))
            meta[role + ".json"] = {"version": self.version}
        keys = {r: [self.keys[r], *self.more.get(r, [])] for r in self.roles}
        delegations = {"keys": {k.id: k.object for r in keys for k in keys[r]},
                       "roles": [{"name": r, "keyids": [k.id for k in keys[r]], "threshold": len(keys[r]),
                                  "terminating": True, "paths": p} for r, p in self.roles.items()]}
        control = self.keys["control"]
        self.put(f"metadata/{self.version}.targets.json", envelope(self.signed(
            "targets", self.version, 10**6, targets={}, delegations=delegations,
            **{"x-selfright": {"control": {"keys": {control.id: control.object}, "threshold": 1}, "approvers": self.approvers}}),
            self.keys[self.bad.get("targets", "targets")]))
        meta["targets.json"] = {"version": self.version}
        self.put(f"metadata/{self.version}.snapshot.json", envelope(
            self.signed("snapshot", self.version, 10**6, meta=meta), self.keys[self.bad.get("snapshot", "snapshot")]))
        self.put("metadata/timestamp.json", envelope(
            self.signed("timestamp", self.version, life - age, meta={"snapshot.json": {"version": self.version}},
                        **({"x-issued": stamp(time.time() + self.ahead - age)} if self.ahead or age else {})),
            self.keys[self.bad.get("timestamp", "timestamp")]))

    def release(self, component, version, files, doc=None, artifact=None, path=None, tree=None, signed_digest=None,
                length=None):
        digest, size, count = tree or tree_of(files)
        data = artifact if artifact is not None else pack(files)
        sha = signed_digest or hashlib.sha256(data).hexdigest()
        self.put(f"targets/{component}/{version}/{sha}.{component}.tar.gz", data)
        release = {"format": 1, "component": component, "version": version, "kind": "tree", "compatible": {},
                   "requires": {}, "services": [], "hooks": {}, "checks": [], "probation": 1, "watch": 0,
                   "boot_attempts": 3, "data": [], "must": [], "risk": "low",
                   "artifacts": [{"path": f"{component}/{version}/{component}.tar.gz",
                                  "length": length or len(data), "sha256": sha, "form": "full",
                                  "media": "application/x-tar+gzip"}],
                   "tree": {"digest": digest, "installed_size": size, "files": count}}
        release.update(WEB if doc is None else doc)
        where = path or f"{component}/{version}/release.json"
        self.listed["team-" + component][where] = json.dumps(release).encode()
        return where

    def rollout(self, id, component, version, kind="regular", path=None, **more):
        self.seq += 1
        path = path or f"{component}/{version}/release.json"
        data = self.listed["team-" + component].get(path, b"")
        self.rollouts[id] = dict({
            "format": 1, "id": id, "seq": self.seq, "component": component,
            "release": {"component": component, "path": path, "sha256": hashlib.sha256(data).hexdigest()},
            "with": [], "kind": kind, "state": "running", "undo": [],
            "stages": [{"name": "all", "select": {"labels": {}, "share": 10000}, "open": True, "approvals": []}],
            "overrides": []}, **more)

    def together(self, id, *others):
        """Let the rollout swap these too: (component, version)."""
        for component, version in others:
            path = f"{component}/{version}/release.json"
            data = self.listed["team-" + component][path]
            self.rollouts[id]["with"].append({"component": component, "path": path,
                                              "sha256": hashlib.sha256(data).hexdigest()})

    def order_rollback(self, node, component, version_from, to, id="order-1"):
        self.orders[node] = {"format": 1, "node": node, "rollback": [
            {"id": id, "component": component, "from": version_from, "to": to, "reason": "ticket 4711",
             "by": "support", "issued": stamp(time.time())}]}


    def order_pin(self, node, component, version, id="pin-1"):
        self.orders[node] = {"format": 1, "node": node, "pin": [
            {"id": id, "component": component, "version": version, "reason": "audit", "by": "support"}]}


class Node:
    def __init__(self, fleet, build, name="n1"):
        self.fleet, self.name, self.build = fleet, name, build
        self.home = os.path.join(fleet.work, name)
        self.etc, self.root, self.run = (os.path.join(self.home, d) for d in ("etc", "root", "run"))
        self.programs, self.mail = os.path.join(self.home, "programs"), os.path.join(self.home, "mail")
        for d in (self.home, self.etc, self.programs, self.mail, self.etc + "/vars.d", self.etc + "/components.d"):
            os.mkdir(d)
        os.chmod(self.mail, 0o777)
        self.identity = Key()
        self.write(self.etc + "/agent.yaml", f"fleet: demo\nnode: {name}\nroot: {self.root}\nrun: {self.run}\n"
                   f"programs: {self.programs}\nurls: [https://127.0.0.1:1/]\nlink_deadline: 60s\n"
                   "labels: {site: oslo}\npoll: {without_broker: 1h}\n"
                   "users: {link: root, stage: nobody, component: nobody}\n")
        self.write(self.etc + "/vars.d/ports.yaml", "port: '8080'\n")
        self.write(self.etc + "/identity.key", self.identity.pem(), 0o600)
        self.write(self.etc + "/root.json", fleet.root.decode())
        self.write(self.etc + "/ca.crt", "")
        shutil.copy(build + "/bin/selfright-stage", self.programs + "/stage-real")
        shutil.copy(build + "/bin/selfright-log", self.programs + "/selfright-log")
        shutil.copy(build + "/bin/selfright-probe", self.programs + "/selfright-probe")
        shutil.copy(HERE + "/link.py", self.programs + "/link.py")
        self.write(self.programs + "/control.pem", fleet.keys["control"].pem(), 0o644)
        self.write(self.programs + "/selfright-link", f"#!/bin/sh\nexec {sys.executable} {self.programs}/link.py "
                   f"{fleet.repo} {self.mail} {self.programs}/control.pem {name}\n", 0o755)
        # The product's own stage process, reading the repository's folder instead of a server.
        self.write(self.programs + "/selfright-stage", '#!/bin/bash\nargs=()\nwhile [ $# -gt 0 ]; do case $1 in '
                   '--url|--ca) shift 2;; *) args+=("$1"); shift;; esac; done\n'
                   f'[ -e {self.mail}/slow ] && sleep 3\n'
                   f'exec {self.programs}/stage-real --dir {fleet.repo} "${{args[@]}}"\n', 0o755)
        self.mounted = False
        self.process, self.log = None, open(self.home + "/agent.log", "ab")

    def write(self, path, text, mode=0o644):
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)

    def give_the_link(self, time):
        """What a controller may take to answer again after a swap, before it starts: a busy machine needs more than one
        that is to be given up."""
        text = open(self.etc + "/agent.yaml").read()
        self.write(self.etc + "/agent.yaml", re.sub("(?m)^link_deadline: .*$", f"link_deadline: {time}", text))

    def start(self, **env):
        self.process = subprocess.Popen([self.build + "/bin/selfright-agent", "run", "--config-dir", self.etc],
                                        stdout=self.log, stderr=self.log, env=dict(os.environ, **env))

    def kill(self, sig=signal.SIGKILL):
        self.process.send_signal(sig)
        code = self.process.wait(60)
        return code

    def stop(self):
        if self.process and self.process.poll() is None:
            # One that was started a moment ago may not yet be the program it is to become, and just die of the signal.
            end = time.monotonic() + 60
            while time.monotonic() < end and self.process.poll() is None and self.cli("status")[0] != 0:
                time.sleep(0.05)
            code = self.kill(signal.SIGTERM)
            if code != 0:
                raise AssertionError(f"the agent ended with {code}")
        services = self.run + "/services"
        for f in os.listdir(services) if os.path.isdir(services) else []:
            if f.endswith(".json"):
                pid = json.load(open(os.path.join(services, f)))["pid"]
                try:
                    os.killpg(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        if self.mounted:
            subprocess.run(["umount", "-l", self.root], check=True)
            self.mounted = False
        self.log.close()

    def cli(self, *args):
        p = subprocess.run([self.build + "/bin/selfright-agent", *args, "--config-dir", self.etc, "--json"],
                           capture_output=True, text=True, timeout=60)
        try:
            return p.returncode, json.loads(p.stdout)
        except ValueError:
            raise AssertionError(f"{args}: exit {p.returncode}: {p.stdout!r} {p.stderr!r}")

    def push(self):
        """Tell the node that there is news, as the broker would."""
        open(self.mail + "/push", "w").close()

    def poke(self):
        """Any reason to report."""
        assert self.cli("hold", "--release")[0] == 0

    def acknowledged(self):
        self.poke()
        time.sleep(0.2)
        return self.reports()[-1].get("results", []) == []

    def current(self, component="web"):
        try:
            return os.path.basename(os.readlink(f"{self.root}/current/{component}"))
        except FileNotFoundError:
            return None

    def running(self):
        try:
            # It is made empty before it is written.
            return next(iter(open(f"{self.root}/data/web/running").read().split()), None)
        except FileNotFoundError:
            return None

    def serves(self, version):
        """It is current, and its service has said so: which it does a moment after it was started."""
        assert self.current() == version, self.current()
        self.until(f"the service of {version} runs", lambda: self.running() == version)

    def status(self):
        return self.cli("status")[1]

    def component(self, component="web"):
        return next((c for c in self.status()["components"] if c["component"] == component), None)

    def said(self):
        return open(self.home + "/agent.log", errors="replace").read()

    def why(self, component="web"):
        return next((c for c in self.cli("why")[1]["components"] if c["component"] == component), None)

    def reports(self):
        """Every report the node sent, oldest first, each checked against its identity key."""
        out = []
        for f in sorted(os.listdir(self.mail)):
            if not f.startswith("report.") or f.endswith(".new"):
                continue
            doc = json.load(open(os.path.join(self.mail, f)))
            self.identity.key.public_key().verify(bytes.fromhex(doc["signatures"][0]["sig"]),
                                                  canonical(doc["signed"]).encode(), ec.ECDSA(hashes.SHA256()))
            out.append(doc["signed"])
        return out

    def results(self):
        """Final results by update id: each reported as news by exactly one sequence."""
        seen = {}
        for r in self.reports():
            for x in r.get("results", []):
                first = seen.setdefault(x["update"], x)
                assert first["sequence"] == x["sequence"] and first["number"] == x["number"], (first, x)
        return seen

    def until(self, what, condition, seconds=20):
        """`seconds` is what is usual, for whoever reads; a machine that does much else has two minutes."""
        end = time.monotonic() + max(seconds, 120)
        while True:
            try:
                if condition():
                    return
            except (AssertionError, KeyError, TypeError, ValueError, json.JSONDecodeError):
                if time.monotonic() > end:
                    raise
            if self.process and self.process.poll() is not None:
                raise AssertionError(f"the agent ended with {self.process.returncode} while waiting for: {what}")
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {what}")
            time.sleep(0.05)

    def until_result(self, name, component="web", to=None, seconds=20):
        def there():
            return any(x["name"] == name and x["component"] == component and (to is None or x.get("to") == to)
                       for x in self.results().values())
        self.until(f"result {name}", there, seconds)
        return [x for x in self.results().values() if x["name"] == name and x["component"] == component][-1]
