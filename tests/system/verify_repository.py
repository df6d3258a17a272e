#!/usr/bin/env python3
"""Check a published folder as TUF asks, with nothing of ours: python's json and cryptography alone.

usage: verify_repository.py REPO [TARGET ...]     prints the version of each role
"""
import hashlib
import json
import pathlib
import sys
from datetime import datetime, timezone

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def canonical(value):
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if value is True or value is False or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ",".join(canonical(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(canonical(k) + ":" + canonical(value[k]) for k in sorted(value)) + "}"
    raise TypeError(type(value))


def count(document, keys, keyids):
    message = canonical(document["signed"]).encode()
    good = set()
    for signature in document["signatures"]:
        keyid = signature["keyid"]
        if keyid not in keyids:
            continue
        key = keys[keyid]
        assert hashlib.sha256(canonical(key).encode()).hexdigest() == keyid, "key id is not the key's hash"
        public = serialization.load_pem_public_key(key["keyval"]["public"].encode())
        try:
            public.verify(bytes.fromhex(signature["sig"]), message, ec.ECDSA(hashes.SHA256()))
            good.add(key["keyval"]["public"])
        except InvalidSignature:
            pass
    return len(good)


def check(document, keys, role, what):
    assert role["threshold"] >= 1
    n = count(document, keys, role["keyids"])
    assert n >= role["threshold"], f"{what}: {n} of {role['threshold']} signatures"
    expires = datetime.strptime(document["signed"]["expires"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    assert expires > datetime.now(timezone.utc), f"{what} has expired"


def load(path, entry=None):
    data = path.read_bytes()
    if entry:
        assert len(data) == entry["length"], f"{path}: length"
        assert hashlib.sha256(data).hexdigest() == entry["hashes"]["sha256"], f"{path}: hash"
    return json.loads(data)


def main():
    repo = pathlib.Path(sys.argv[1])
    metadata = repo / "metadata"
    wanted = set(sys.argv[2:])
    root, n = load(metadata / "1.root.json"), 1
    check(root, root["signed"]["keys"], root["signed"]["roles"]["root"], "root 1")
    while (metadata / f"{n + 1}.root.json").exists():
        n += 1
        newer = load(metadata / f"{n}.root.json")
        assert newer["signed"]["version"] == n
        for by in (root, newer):
            check(newer, by["signed"]["keys"], by["signed"]["roles"]["root"], f"root {n}")
        root = newer
    keys, roles = root["signed"]["keys"], root["signed"]["roles"]
    versions = {"root": n}

    def take(name, path, entry, keys, role):
        document = load(path, entry)
        check(document, keys, role, name)
        if entry:
            assert document["signed"]["version"] == entry["version"], name
        versions[name] = document["signed"]["version"]
        return document["signed"]

    timestamp = take("timestamp", metadata / "timestamp.json", None, keys, roles["timestamp"])
    entry = timestamp["meta"]["snapshot.json"]
    snapshot = take("snapshot", metadata / f"{entry['version']}.snapshot.json", entry, keys, roles["snapshot"])
    meta = snapshot["meta"]
    entry = meta["targets.json"]
    targets = take("targets", metadata / f"{entry['version']}.targets.json", entry, keys, roles["targets"])
    assert targets["x-selfright"]["control"]["keys"], "no control key"
    for role in targets["delegations"]["roles"]:
        name = role["name"]
        assert role["terminating"]
        entry = meta[name + ".json"]
        listed = take(name, metadata / f"{entry['version']}.{name}.json", entry, targets["delegations"]["keys"], role)
        for path, target in listed["targets"].items():
            folder, _, file = path.rpartition("/")
            load(repo / "targets" / folder / f"{target['hashes']['sha256']}.{file}", target)
            wanted.discard(path)
            if path.endswith("/release.json"):
                release = load(repo / "targets" / folder / f"{target['hashes']['sha256']}.{file}")
                for artifact in release["artifacts"]:
                    place, _, name_of = artifact["path"].rpartition("/")
                    data = (repo / "targets" / place / f"{artifact['sha256']}.{name_of}").read_bytes()
                    assert len(data) == artifact["length"]
                    assert hashlib.sha256(data).hexdigest() == artifact["sha256"]
    assert not wanted, f"not listed: {wanted}"
    print(json.dumps(versions))


main()
