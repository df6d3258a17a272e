#!/usr/bin/env python3
"""A node's signed report, made from its join file: what the controller sees of an agent, and no agent.

fake_node.py JOIN_FILE SEQUENCE BOOT [--version C=V] [--result ROLLOUT/C=NUMBER=NAME=CLASS=TO] [--nonce HEX] [--key JOIN_FILE]
    [--why TEXT, with JSON's escapes, for all components]
prints the envelope.  fake_node.py --check ROOT_TARGETS ACK prints the ack's signed part after verifying it with `control`.
"""
import hashlib
import json
import sys

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def canonical(value):
    if isinstance(value, dict):
        return "{" + ",".join(canonical(k) + ":" + canonical(value[k]) for k in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return json.dumps(value)


def check(targets_file, ack_file):
    control = json.load(open(targets_file))["signed"]["x-selfright"]["control"]
    ack = json.load(open(ack_file))
    message = canonical(ack["signed"]).encode()
    for signature in ack["signatures"]:
        key = control["keys"][signature["keyid"]]
        public = serialization.load_pem_public_key(key["keyval"]["public"].encode())
        public.verify(bytes.fromhex(signature["sig"]), message, ec.ECDSA(hashes.SHA256()))
    assert ack["signatures"]
    print(json.dumps(ack["signed"]))


def main():
    if sys.argv[1] == "--check":
        return check(sys.argv[2], sys.argv[3])
    join = json.load(open(sys.argv[1]))
    report = {
        "_type": "selfright-report", "format": 1, "fleet": join["fleet"], "node": join["node"], "boot_id": sys.argv[3],
        "agent": "0.1.0", "sequence": int(sys.argv[2]), "at": "2026-11-21T09:30:00Z", "generation": 1,
        "labels": join["labels"], "own_labels": join["labels"], "components": [], "results": [], "checks": [],
    }
    signer = join
    rest = sys.argv[4:]
    while rest:
        option, value = rest[0], rest[1]
        rest = rest[2:]
        if option == "--version":
            component, version = value.split("=")
            report["components"].append({"component": component, "version": version})
        elif option == "--result":
            update, number, name, kind, to = value.split("=")
            rollout, component = update.split("/")
            report["results"].append({
                "update": update + "/1", "component": component, "from": "1.0.0", "to": to, "rollout": rollout,
                "stage": "canary", "seq": 1, "number": int(number), "name": name, "class": kind, "detail": "as the test says",
                "at": "2026-11-21T09:30:00Z", "duration_ms": 1, "pause_ms": 1, "sequence": int(sys.argv[2])})
        elif option == "--why":
            for component in report["components"]:
                component["why"], component["why_detail"] = "retry", json.loads('"' + value + '"')
        elif option == "--nonce":
            report["nonce"] = value
        elif option == "--key":
            signer = json.load(open(value))
    private = serialization.load_pem_private_key(signer["identity_key"].encode(), None)
    public = private.public_key().public_bytes(serialization.Encoding.PEM,
                                               serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    key = {"keytype": "ecdsa", "keyval": {"public": public}, "scheme": "ecdsa-sha2-nistp256"}
    keyid = hashlib.sha256(canonical(key).encode()).hexdigest()
    signature = private.sign(canonical(report).encode(), ec.ECDSA(hashes.SHA256()))
    print(json.dumps({"signed": report, "signatures": [{"keyid": keyid, "sig": signature.hex()}]}), end="")


main()
