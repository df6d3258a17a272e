"""`selfright tuf` as other TUF clients are tested: by what it asks for, what it trusts, what it stores, and its exit status.

Usage: tuf_tool.py PROGRAM [WORD...]; the repository below shares no code with the client.
"""
import copy
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from datetime import datetime, timedelta, timezone
from urllib import parse

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

COMMAND = sys.argv[1:]
TOP = ("root", "timestamp", "snapshot", "targets")


def canonical(o):
    if isinstance(o, dict):
        return "{" + ",".join(canonical(k) + ":" + canonical(o[k]) for k in sorted(o)) + "}"
    if isinstance(o, list):
        return "[" + ",".join(map(canonical, o)) + "]"
    if isinstance(o, str):
        return '"' + o.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return {True: "true", False: "false", None: "null"}[o] if o is None or isinstance(o, bool) else str(o)


class Key:
    def __init__(self, scheme="ed25519"):
        if scheme == "ed25519":
            self.key, keytype = ed25519.Ed25519PrivateKey.generate(), "ed25519"
            public = self.key.public_key().public_bytes(serialization.Encoding.Raw,
                                                        serialization.PublicFormat.Raw).hex()
            self.sign = lambda m: self.key.sign(m)
        else:
            if scheme == "rsassa-pss-sha256":
                self.key, keytype = rsa.generate_private_key(65537, 2048), "rsa"
                pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
                self.sign = lambda m: self.key.sign(m, pss, hashes.SHA256())
            elif scheme == "ecdsa-sha2-nistp384":
                self.key, keytype = ec.generate_private_key(ec.SECP384R1()), "ecdsa"
                self.sign = lambda m: self.key.sign(m, ec.ECDSA(hashes.SHA384()))
            else:
                self.key, keytype = ec.generate_private_key(ec.SECP256R1()), "ecdsa"
                self.sign = lambda m: self.key.sign(m, ec.ECDSA(hashes.SHA256()))
            public = self.key.public_key().public_bytes(serialization.Encoding.PEM,
                                                        serialization.PublicFormat.SubjectPublicKeyInfo).decode()
        self.json = {"keytype": keytype, "scheme": scheme, "keyval": {"public": public}}
        self.id = hashlib.sha256(canonical(self.json).encode()).hexdigest()


def days(n):
    return (datetime.now(timezone.utc) + timedelta(days=n)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Repo:
    def __init__(self, scheme="ed25519"):
        self.keys = {role: [Key(scheme)] for role in TOP}
        self.signed, self.files, self.artifacts, self.log = {}, {}, {}, []
        self.hashes = False
        self.special = {}
        for role in TOP:
            self.signed[role] = {"_type": role, "spec_version": "1.0.31", "version": 0, "expires": days(30)}
        self.signed["root"].update(consistent_snapshot=True, keys={}, roles={})
        for role in TOP:
            self.signed["root"]["roles"][role] = {"keyids": [], "threshold": 1}
            self.name_key(role, self.keys[role][0])
        self.signed["timestamp"]["meta"], self.signed["snapshot"]["meta"] = {}, {}
        self.signed["targets"]["targets"] = {}
        self.publish(*TOP[3:0:-1])
        self.publish("root")

    def name_key(self, role, key):
        self.signed["root"]["keys"][key.id] = key.json
        self.signed["root"]["roles"][role]["keyids"].append(key.id)

    def publish(self, *roles):
        for role in roles:
            s = self.signed[role]
            s["version"] += 1
            if role == "timestamp":
                s["meta"] = {"snapshot.json": self.meta("snapshot")}
            if role == "snapshot":
                s["meta"] = {r + ".json": self.meta(r) for r in self.signed if r not in TOP[:3]}
            self.store(role)

    def update(self, *roles):
        self.publish(*roles, "snapshot", "timestamp")

    def meta(self, role):
        m = {"version": self.signed[role]["version"]}
        if self.hashes:
            data = self.files[role, m["version"]]
            m.update(length=len(data), hashes={"sha256": hashlib.sha256(data).hexdigest()})
        return m

    def store(self, role):
        s = self.signed[role]
        message = canonical(s).encode()
        doc = {"signatures": [{"keyid": k.id, "sig": k.sign(message).hex()} for k in self.keys[role]],
               "signed": copy.deepcopy(s)}
        self.files[role, s["version"]] = self.files[role, None] = json.dumps(doc, indent=1).encode()

    def delegate(self, parent, role, paths, terminating=False, expires=30):
        d = self.signed[parent].setdefault("delegations", {"keys": {}, "roles": []})
        if role not in self.signed:
            self.keys[role] = [Key()]
            self.signed[role] = {"_type": "targets", "spec_version": "1.0.31", "version": 0,
                                 "expires": days(expires), "targets": {}}
            self.publish(role)
        key = self.keys[role][0]
        d["keys"][key.id] = key.json
        d["roles"].append({"name": role, "keyids": [key.id], "threshold": 1, "terminating": terminating,
                           "paths": paths})

    def artifact(self, role, path, data):
        digest = hashlib.sha256(data).hexdigest()
        self.signed[role]["targets"][path] = {"length": len(data), "hashes": {"sha256": digest}}
        folder, _, name = path.rpartition("/")
        self.artifacts[f"{folder}/{digest}.{name}" if folder else f"{digest}.{name}"] = data
        self.artifacts[path] = data

    def get(self, path):
        """The bytes of a request path below the repository, None for 404."""
        if path.startswith("metadata/"):
            name = path[len("metadata/"):]
            m = re.fullmatch(r"(?:(\d+)\.)?(.*)\.json", name)
            consistent = self.signed["root"]["consistent_snapshot"]
            if not m:
                return None
            version, role = (int(m[1]) if m[1] else None), m[2]
            self.log.append((role, version))
            role = parse.unquote(role)
            if role != "timestamp" and role != "root" and consistent != (version is not None):
                return None
            return self.files.get((role, version))
        self.log.append(("GET", path[len("targets/"):]))
        return self.artifacts.get(parse.unquote(path[len("targets/"):]))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        _, name, path = self.path.split("/", 2)
        repo = self.server.repos[name]
        kind = repo.special.get(path)
        data = repo.get(path)
        if kind == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b" " * 65536)
            except OSError:
                return
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/{name}/other/{path}")
            self.end_headers()
            return
        if kind == "short":
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:-1])
            return
        if isinstance(kind, int) or data is None:
            self.send_error(kind if isinstance(kind, int) else 404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


class Client:
    def __init__(self, repo, slash="/"):
        self.repo = repo
        self.dir = tempfile.mkdtemp(prefix="tuf-tool-")
        self.metadata, self.targets = self.dir + "/metadata", self.dir + "/targets"
        os.mkdir(self.metadata)
        os.mkdir(self.targets)
        name = f"r{len(SERVER.repos)}"
        SERVER.repos[name] = repo
        base = f"http://127.0.0.1:{SERVER.server_address[1]}/{name}/"
        self.metadata_url, self.targets_url = base + "metadata" + slash, base + "targets" + slash

    def run(self, *args):
        p = subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=60, check=False)
        self.error = p.stderr
        assert p.returncode in (0, 1), (p.returncode, p.stderr)
        assert p.returncode == 0 or p.stderr.strip(), "failed without a word"
        return p.returncode

    def init(self, root=None):
        path = self.dir + "/initial.json"
        with open(path, "wb") as f:
            f.write(root if root is not None else self.repo.files["root", 1])
        return self.run("--metadata-dir", self.metadata, "init", path)

    def refresh(self):
        self.repo.log.clear()
        return self.run("--metadata-url", self.metadata_url, "--metadata-dir", self.metadata, "refresh")

    def download(self, *names):
        self.repo.log.clear()
        args = [a for n in names for a in ("--target-name", n)]
        return self.run("--metadata-url", self.metadata_url, "--metadata-dir", self.metadata, *args,
                        "--target-dir", self.targets, "--target-base-url", self.targets_url, "download")

    def version(self, role):
        with open(f"{self.metadata}/{role}.json", "rb") as f:
            return json.load(f)["signed"]["version"]

    def trusted(self):
        return sorted(f for f in os.listdir(self.metadata) if f.endswith(".json"))

    def artifacts(self):
        found = {}
        for folder, _, names in os.walk(self.targets):
            for n in names:
                with open(os.path.join(folder, n), "rb") as f:
                    found[os.path.relpath(os.path.join(folder, n), self.targets)] = f.read()
        return found

    def close(self):
        shutil.rmtree(self.dir)


def ready(repo=None, **kw):
    c = Client(repo or Repo(), **kw)
    assert c.init() == 0, c.error
    assert c.repo.log == []
    return c, c.repo


FIRST = [("root", 2), ("timestamp", None), ("snapshot", 1), ("targets", 1)]


# --- the workflow ---

def test_basic_refresh_and_its_requests():
    for slash in ("/", ""):
        c, r = ready(slash=slash)
        assert c.refresh() == 0, c.error
        assert r.log == FIRST
        assert c.trusted() == ["root.json", "snapshot.json", "targets.json", "timestamp.json"]
        for role in TOP:
            with open(f"{c.metadata}/{role}.json", "rb") as f:
                assert f.read() == r.files[role, 1]
        assert c.refresh() == 0
        assert r.log == FIRST[:2]
        c.close()


def test_options_before_and_after_the_word():
    c, r = ready()
    md, url = ["--metadata-dir", c.metadata], ["--metadata-url", c.metadata_url]
    assert c.run("refresh", *md, *url) == 0
    assert c.run(*md, "refresh", *url) == 0
    assert c.run("--metadata-dir=" + c.metadata, "refresh", "--metadata-url=" + c.metadata_url) == 0
    assert c.run("init", c.dir + "/initial.json", *md) == 0
    assert c.run("--help") == 0
    for wrong in ([], ["refresh"], [*md], [*md, "refresh"], [*md, *url, "refresh", "more"], [*md, "init"],
                  [*md, *url, "upgrade"], [*md, *url, "--unknown", "refresh"], [*md, *url, "download"],
                  [*md, "--metadata-url", "ftp://127.0.0.1/", "refresh"], [*md, "init", "/does/not/exist"],
                  ["--metadata-dir", "/does/not/exist/either", *url, "refresh"]):
        assert c.run(*wrong) == 1, wrong
    c.close()


def test_first_root_is_checked_before_any_request():
    for spoil in (lambda d: d["signed"].pop("version"), lambda d: d["signatures"].clear(),
                  lambda d: d["signatures"][0].update(sig="00" * 64),
                  lambda d: d["signed"]["roles"].pop("snapshot")):
        c = Client(Repo())
        doc = json.loads(c.repo.files["root", 1])
        spoil(doc)
        c.init(json.dumps(doc).encode())
        assert c.refresh() == 1
        assert c.repo.log == []
        c.close()
    c = Client(Repo())
    assert c.refresh() == 1 and c.repo.log == []  # never initialised
    c.close()


def test_every_scheme():
    for scheme in ("ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "rsassa-pss-sha256"):
        c, r = ready(Repo(scheme))
        assert c.refresh() == 0, (scheme, c.error)
        r.update("targets")
        assert c.refresh() == 0
        assert c.version("targets") == 2
        c.close()


def test_unknown_members():
    c, r = ready()
    root = r.signed["root"]
    root["x-custom"] = {"b": ["ü", None, True, -1], "a": "\n\"\\"}
    key = root["roles"]["root"]["keyids"][0]
    root["keys"][key] = {**root["keys"][key], "extra": {"a": 1, "b": 2}}  # under the id it had
    root["roles"]["root"]["another"] = "value"
    r.publish("root")
    assert c.refresh() == 0, c.error
    assert c.version("root") == 2


def test_key_under_a_wrong_id():
    c, r = ready()
    root, key = r.signed["root"], Key()
    root["keys"]["00" * 32] = key.json
    r.publish("root")
    assert c.refresh() == 1
    assert c.version("root") == 1
    c.close()


def test_rollbacks():
    c, r = ready()
    r.update("targets")
    r.update("targets")
    assert c.refresh() == 0
    saved = copy.deepcopy(r.signed)
    for role, asked in (("timestamp", 2), ("snapshot", 2), ("targets", 3)):
        r.signed[role]["version"] -= 1
        if role == "timestamp":
            r.signed[role]["version"] -= 1
            r.publish("timestamp")
        elif role == "snapshot":
            r.publish("timestamp")
        else:
            r.publish("snapshot", "timestamp")
        assert c.refresh() == 1
        assert len(r.log) == asked, r.log
        assert c.version(role) == saved[role]["version"]
        now = r.signed["timestamp"]["version"], r.signed["snapshot"]["version"]
        r.signed = copy.deepcopy(saved)
        for i, other in enumerate(("timestamp", "snapshot")):  # those numbers are used up
            r.signed[other]["version"] = max(now[i], saved[other]["version"])
        r.update("targets")
        assert c.refresh() == 0, c.error
        saved = copy.deepcopy(r.signed)
    c.close()


def test_fast_forward_recovery():
    for roles in (["timestamp"], ["timestamp", "snapshot"], ["snapshot"]):
        c, r = ready()
        hurt = "targets" if roles == ["snapshot"] else roles[-1]
        r.signed[hurt]["version"] = 99999
        r.publish(hurt)
        r.publish(*[x for x in ("snapshot", "timestamp") if x != hurt or hurt == "targets"])
        assert c.refresh() == 0, c.error
        assert c.version(hurt) == 100000
        for role in roles:
            r.keys[role] = [Key()]
            r.signed["root"]["roles"][role]["keyids"].clear()
            r.name_key(role, r.keys[role][0])
        r.publish("root")
        r.signed[hurt]["version"] = 0
        r.publish(*(x for x in ("targets", "snapshot", "timestamp")))
        assert c.refresh() == 0, c.error
        assert c.version(hurt) == 1
        c.close()


def test_equal_timestamp_keeps_the_first():
    c, r = ready()
    assert c.refresh() == 0
    r.signed["timestamp"]["meta"]["snapshot.json"]["version"] = 100
    r.store("timestamp")
    assert c.refresh() == 0
    with open(c.metadata + "/timestamp.json", "rb") as f:
        assert json.load(f)["signed"]["meta"]["snapshot.json"]["version"] == 1
    c.close()


def test_expired():
    for role in TOP:
        c, r = ready()
        assert c.refresh() == 0
        r.signed[role]["expires"] = days(-1)
        r.update("targets") if role != "root" else r.publish("root")
        assert c.refresh() == 1
        assert c.version(role) == (2 if role == "root" else 1)
        c.close()


def test_stale_cached_timestamp_is_an_error():
    c, r = ready()
    r.signed["timestamp"]["expires"] = days(10 / 86400)  # a busy machine must have read it by then
    r.publish("timestamp")
    assert c.refresh() == 0
    time.sleep(11)
    assert c.refresh() == 1  # the same file again
    r.signed["timestamp"]["expires"] = days(1)
    r.publish("timestamp")
    assert c.refresh() == 0
    c.close()


def test_mix_and_match():
    for with_hashes in (False, True):
        c, r = ready()
        r.hashes = with_hashes
        r.update("targets")
        assert c.refresh() == 0
        r.publish("targets")
        r.files["targets", r.signed["targets"]["version"]] = r.files["targets", 1 if not with_hashes else 2]
        r.publish("snapshot", "timestamp")
        if with_hashes:
            r.files["targets", 3] = r.files["targets", 3].replace(b'"targets"', b'"tArgets"', 1)
        assert c.refresh() == 1
        assert c.version("targets") == 2 and c.version("snapshot") == 3
        c.close()


def test_root_rotation():
    k = [Key() for _ in range(10)]
    cases = [  # keys, threshold, signers; True if the last one is good
        ([([1], 1, [1]), ([2], 1, [2, 1]), ([2], 1, [2])], True),
        ([([1], 1, [3, 1, 4]), ([2], 1, [3, 2, 1, 4]), ([2], 1, [3, 2, 4])], True),
        ([([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 3, 4, 5], 3, [0, 4, 1])], True),
        ([([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([5, 6, 7, 8, 9], 3, [0, 2, 4, 5, 6, 7]), ([5, 6, 7, 8, 9], 3, [5, 6, 7])],
         True),
        ([([1, 2, 3], 1, [1]), ([1, 2, 3], 2, [1, 2])], True),
        ([([1, 2, 3], 2, [1, 2]), ([1, 2, 3], 1, [1, 2]), ([1, 2, 3], 1, [1])], True),
        ([([1], 1, [1]), ([2], 1, [2, 3, 4])], False),
        ([([1], 1, [1]), ([2], 1, [1, 3, 4])], False),
        ([([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 3, 4, 5], 3, [0, 2, 4])], False),
        ([([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 3, 4, 5], 3, [0, 4, 5])], False),
        ([([1, 2, 3], 1, [1]), ([1, 2, 3], 2, [2])], False),
        ([([1, 2, 3], 2, [1, 2]), ([1, 2, 3], 1, [1])], False),
    ]
    for steps, good in cases:
        r = Repo()
        r.signed["root"]["version"] = 0
        for keys, threshold, signers in steps:
            role = r.signed["root"]["roles"]["root"]
            role["keyids"], role["threshold"] = [], threshold
            for i in keys:
                r.name_key("root", k[i])
            r.keys["root"] = [k[i] for i in signers]
            r.publish("root")
        c, _ = ready(r)
        assert c.refresh() == (0 if good else 1), (steps, c.error)
        assert c.version("root") == len(steps) - (0 if good else 1)
        c.close()


def test_thresholds_of_snapshot():
    c, r = ready()
    assert c.refresh() == 0
    more = [Key() for _ in range(3)]
    r.signed["root"]["roles"]["snapshot"]["threshold"] = 4
    r.publish("root")
    r.update("targets")
    assert c.refresh() == 1 and c.version("snapshot") == 1
    for key in more:
        r.name_key("snapshot", key)
    r.keys["snapshot"] += more
    r.publish("root")
    r.update("targets")
    assert c.refresh() == 0, c.error
    # one id many times is one key
    c2, r2 = ready()
    r2.signed["root"]["roles"]["snapshot"]["keyids"] *= 9
    r2.signed["root"]["roles"]["snapshot"]["threshold"] = 6
    r2.publish("root")
    assert c2.refresh() == 1
    # one key under many ids is one key too
    c3, r3 = ready()
    key = r3.keys["snapshot"][0]
    r3.keys["snapshot"] = []
    for i in range(3):
        twin = copy.copy(key)
        twin.json = {**key.json, "x": i}
        twin.id = hashlib.sha256(canonical(twin.json).encode()).hexdigest()
        r3.keys["snapshot"].append(twin)
        r3.name_key("snapshot", twin)
    r3.signed["root"]["roles"]["snapshot"]["threshold"] = 2
    r3.publish("root")
    r3.update("targets")
    assert c3.refresh() == 1
    for x in (c, c2, c3):
        x.close()


# --- delegations ---

def test_delegations_are_visited_in_order():
    graphs = [
        ([("targets", "A"), ("targets", "B"), ("B", "C")], "ABC"),
        ([("targets", "A"), ("targets", "B"), ("A", "C"), ("A", "D")], "ACDB"),
        ([("targets", "A"), ("targets", "B"), ("A", "C", True), ("A", "D")], "AC"),
        ([("targets", "A"), ("targets", "B"), ("B", "C"), ("C", "D"), ("D", "B")], "ABCD"),
        ([("targets", "A", False, "*.py"), ("targets", "B"), ("A", "C")], "B"),
    ]
    for edges, order in graphs:
        c, r = ready()
        for parent, role, *rest in edges:
            r.delegate(parent, role, [rest[1] if len(rest) > 1 else "*"], bool(rest and rest[0]))
        for role in {e[0] for e in edges} - {"targets"}:
            r.publish(role)
        r.update("targets")
        versions = {role: r.signed[role]["version"] for role in order}
        assert c.download("missing") == 1
        assert r.log[4:] == [(role, versions[role]) for role in order], r.log
        assert c.download("missing") == 1
        assert r.log == [("root", 2), ("timestamp", None)]
        c.close()


def test_role_names_are_quoted():
    for role in ("?", "#", "/delegatedrole", "../delegatedrole", "%41", "a b", "ü"):
        c, r = ready()
        r.delegate("targets", role, ["*"])
        r.artifact(role, "file", b"x")
        r.publish(role)
        r.update("targets")
        assert c.download("nonexistent target") == 1
        assert (parse.quote(role, ""), 2) in r.log, r.log
        assert c.trusted() == sorted([x + ".json" for x in TOP] + [parse.quote(role, "") + ".json"])
        assert c.download("file") == 0, c.error
        c.close()


def test_expired_delegated_role():
    c, r = ready()
    r.delegate("targets", "team", ["team/*"], expires=-1)
    r.artifact("team", "team/file", b"x")
    r.publish("team")
    r.update("targets")
    assert c.refresh() == 0
    assert c.download("team/file") == 1
    assert c.artifacts() == {} and len(c.trusted()) == 4
    c.close()


# --- targets ---

def test_downloads():
    c, r = ready()
    r.artifact("targets", "path/to/file.txt", b"content")
    r.artifact("targets", "file.txt", b"other")
    r.artifact("targets", "empty", b"")
    r.update("targets")
    assert c.refresh() == 0 and c.artifacts() == {}
    assert c.download("path/to/file.txt") == 0, c.error
    assert sorted(c.artifacts().values()) == [b"content"]
    assert [x for x in r.log if x[0] == "GET"] == [
        ("GET", "path/to/" + hashlib.sha256(b"content").hexdigest() + ".file.txt")]
    # a good copy is left alone and not asked for
    [name] = c.artifacts()
    os.utime(f"{c.targets}/{name}", (1000000000, 1000000000))
    before = os.stat(f"{c.targets}/{name}")
    assert c.download("path/to/file.txt", "file.txt", "empty") == 0, c.error
    after = os.stat(f"{c.targets}/{name}")
    assert (before.st_mtime, before.st_ino) == (after.st_mtime, after.st_ino)
    assert len([x for x in r.log if x[0] == "GET"]) == 2
    assert sorted(c.artifacts().values()) == [b"", b"content", b"other"]
    # a new content comes under the same name
    r.artifact("targets", "path/to/file.txt", b"CONTENT")
    r.update("targets")
    assert c.download("path/to/file.txt") == 0
    assert c.artifacts()[name] == b"CONTENT" and len(c.artifacts()) == 3
    c.close()


def test_a_spoilt_copy_is_replaced():
    c, r = ready()
    r.artifact("targets", "file", b"content")
    r.update("targets")
    assert c.download("file") == 0
    with open(c.targets + "/file", "wb") as f:
        f.write(b"contenT")
    assert c.download("file") == 0
    assert c.artifacts() == {"file": b"content"}
    c.close()


def test_rejected_downloads_leave_nothing():
    c, r = ready()
    r.artifact("targets", "one", b"content one")
    r.artifact("targets", "two", b"content two")
    r.artifact("targets", "three", b"content three")
    r.update("targets")
    bad = hashlib.sha256(b"content two").hexdigest() + ".two"
    for spoilt in (b"CONTENT two", b"content", b"content two and more", b""):
        r.artifacts[bad] = spoilt
        assert c.download("one", "two", "three") == 1
        assert c.artifacts() == {"one": b"content one"}  # stops at the first that fails
    for kind in (404, 500, 403, "endless", "redirect", "short"):
        r.artifacts[bad] = b"content two"
        r.special = {"targets/" + bad: kind}
        assert c.download("two") == 1, kind
        assert c.artifacts() == {"one": b"content one"}, kind
    r.special = {}
    assert c.download("three", "two") == 0
    assert c.download("one", "missing", "two") == 1
    c.close()


def test_names_do_not_collide():
    c, r = ready()
    names = {"a/b": b"1", "a%2Fb": b"2", "a b": b"3", "ü?#&+": b"4", ".hidden": b"5", "a.b": b"6", "-x": b"7"}
    for name, data in names.items():
        r.artifact("targets", name, data)
    r.update("targets")
    assert c.download(*names) == 0, c.error
    assert sorted(c.artifacts().values()) == sorted(names.values())
    assert all("/" not in name for name in c.artifacts())
    c.close()


def test_targets_that_would_leave_the_folder():
    c, r = ready()
    for name in ("../outside", "/etc/outside", "..", "a/../../outside"):
        r.artifact("targets", name, b"x")
    r.update("targets")
    for name in ("../outside", "/etc/outside", "..", "a/../../outside"):
        c.download(name)  # refused, or stored under a quoted name
        assert os.listdir(c.dir) == ["initial.json", "metadata", "targets"] or sorted(os.listdir(c.dir)) == [
            "initial.json", "metadata", "targets"]
    c.close()


def test_without_consistent_snapshots():
    c, r = ready()
    r.signed["root"]["consistent_snapshot"] = False
    r.artifact("targets", "dir/file", b"content")
    r.publish("root")
    r.update("targets")
    assert c.download("dir/file") == 0, c.error
    assert r.log == [("root", 2), ("root", 3), ("timestamp", None), ("snapshot", None), ("targets", None),
                     ("GET", "dir/file")]
    c.close()


# --- carriers ---

def test_endless_data():
    for path in ("metadata/2.root.json", "metadata/timestamp.json", "metadata/1.snapshot.json",
                 "metadata/1.targets.json"):
        c, r = ready()
        r.special = {path: "endless"}
        assert c.refresh() == 1, path
        r.special = {}
        assert c.refresh() == 0
        c.close()


def test_failing_carriers():
    c, r = ready()
    for kind in (404, 500, "redirect", "short"):
        for path in ("metadata/timestamp.json", "metadata/1.snapshot.json"):
            r.special = {path: kind}
            assert c.refresh() == 1, (kind, path)
    r.special = {"metadata/2.root.json": 403}  # how some storage services say that there is none
    assert c.refresh() == 0, c.error
    r.special = {"metadata/2.root.json": 500}
    assert c.refresh() == 1
    c.close()
    c.metadata_url = "http://127.0.0.1:1/"
    assert c.run("--metadata-url", c.metadata_url, "--metadata-dir", "/nonexistent", "refresh") == 1


SERVER = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def main():
    SERVER.repos = {}
    SERVER.daemon_threads = True
    threading.Thread(target=SERVER.serve_forever, daemon=True).start()
    failed = 0
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_")]
    for name, test in tests:
        try:
            test()
            print("ok  ", name, flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print("FAIL", name, flush=True)
            traceback.print_exc()
    print(f"{len(tests)} tests, {failed} failed")
    SERVER.shutdown()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
