"""The link's part of the engine's protocol (agent/link/protocol.h) over a repository folder: fetches
are files, reports are kept and acknowledged with the control key, a file named `push` is news."""
import json, os, random, select, socket, struct, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
repo, mail, control_pem, node = sys.argv[1:5]

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
import hashlib

FETCH, REPORT, EVENT, LEASE, ACKED, LEAVE, SAVE, RATE = 1, 2, 3, 4, 5, 7, 13, 15
FETCHED, ANNOUNCE, TIMESTAMP, ACK, GRANT, STATE, SAVED = 16, 17, 18, 19, 20, 21, 22
ERR_NETWORK = -1051


def canonical(v):
    if isinstance(v, bool) or v is None:
        return {True: "true", False: "false", None: "null"}[v]
    if isinstance(v, int):
        return str(v)
    if isinstance(v, str):
        return '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(v, list):
        return "[" + ",".join(canonical(x) for x in v) + "]"
    return "{" + ",".join(canonical(k) + ":" + canonical(v[k]) for k in sorted(v)) + "}"


key = serialization.load_pem_private_key(open(control_pem, "rb").read(), None)
public = key.public_key().public_bytes(serialization.Encoding.PEM,
                                       serialization.PublicFormat.SubjectPublicKeyInfo).decode()
keyid = hashlib.sha256(canonical({"keytype": "ecdsa", "keyval": {"public": public},
                                  "scheme": "ecdsa-sha2-nistp256"}).encode()).hexdigest()
sock = socket.socket(fileno=3)


said = []
saving = 0  # the artifact that is on its way over MQTT, as long as the flag `saving` is there; then it fails

def send(kind, ident, data):
    """With the flag `echo` everything is heard twice, and what was heard before again, in any order."""
    frame = struct.pack(">IHI", 6 + len(data), kind, ident) + data
    sock.sendall(frame)
    if not flag("echo"):
        return
    said.append(frame)
    again = [frame] + random.sample(said, min(len(said), 4))
    random.shuffle(again)
    for frame in again:
        sock.sendall(frame)


def flag(name):
    return os.path.exists(os.path.join(mail, name))


def sign(signed):
    sig = key.sign(canonical(signed).encode(), ec.ECDSA(hashes.SHA256())).hex()
    return json.dumps({"signed": signed, "signatures": [{"keyid": keyid, "sig": sig}]}).encode()


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def handle(kind, ident, data):
    global saving
    if kind == FETCH:
        limit, name = struct.unpack(">Q", data[:8])[0], data[8:].decode()
        with open(os.path.join(mail, "fetched"), "a") as f:
            f.write(name + "\n")
        if flag("offline"):
            return send(FETCHED, ident, struct.pack(">i", ERR_NETWORK) + b"no road")
        try:
            content = open(os.path.join(repo, name), "rb").read(limit + 1)
        except FileNotFoundError:
            return send(FETCHED, ident, struct.pack(">i", -2) + b"not there")
        send(FETCHED, ident, struct.pack(">i", 0) + content)
    elif kind == REPORT:
        sequence, envelope = struct.unpack(">Q", data[:8])[0], data[8:]
        path = os.path.join(mail, f"report.{sequence:08d}")
        with open(path + ".new", "wb") as f:
            f.write(envelope)
        os.rename(path + ".new", os.path.join(mail, f"report.{sequence:08d}"))
        report = json.loads(envelope)["signed"]
        if flag("silent"):
            return
        ack = {"_type": "selfright-ack", "fleet": report["fleet"], "node": report["node"],
               "boot_id": report["boot_id"], "sequence": sequence, "at": now()}
        if report.get("nonce"):
            ack["nonce"] = report["nonce"]
        if flag("forged"):
            ack["node"] = "n2"
        send(ACK, 0, sign(ack))
    elif kind == EVENT:
        with open(os.path.join(mail, "events"), "ab") as f:
            f.write(data + b"\n")
    elif kind == LEAVE:
        open(os.path.join(mail, "left"), "a").write("left\n")
        sys.exit(0)
    elif kind == RATE:
        with open(os.path.join(mail, "rates"), "a") as f:
            f.write(f"{struct.unpack('>Q', data)[0]}\n")
    elif kind == SAVE:
        saving = ident
        send(SAVED, ident, struct.pack(">BiQ", 0, 0, 1))
    elif kind == LEASE:
        asked = json.loads(data)["signed"]
        send(GRANT, 0, sign({"_type": "selfright-grant", "fleet": asked["fleet"], "node": asked["node"],
                             "nonce": asked["nonce"], "update": asked["update"], "granted": not flag("no-lease"),
                             "start_within": 60, "reason": "two of the group are down" if flag("no-lease") else ""}))


send(STATE, 0, b"\x01a test")
pending = b""
while True:
    if select.select([sock], [], [], 0.02)[0]:
        chunk = sock.recv(1 << 20)
        if not chunk:
            sys.exit(0)
        pending += chunk
    while len(pending) >= 10 and len(pending) >= 4 + struct.unpack(">I", pending[:4])[0]:
        length, kind, ident = struct.unpack(">IHI", pending[:10])
        data, pending = pending[10:4 + length], pending[4 + length:]
        handle(kind, ident, data)
    if saving and not flag("saving"):
        send(SAVED, saving, struct.pack(">BiQ", 1, ERR_NETWORK, 1))
        saving = 0
    if flag("push"):
        os.unlink(os.path.join(mail, "push"))
        timestamp = open(os.path.join(repo, "metadata/timestamp.json")).read()
        version = json.loads(timestamp)["signed"]["version"]
        files = {"metadata/timestamp.json": timestamp}
        for name in os.listdir(os.path.join(repo, "metadata")):
            if name.startswith(f"{version}."):
                files["metadata/" + name] = open(os.path.join(repo, "metadata", name)).read()
        send(ANNOUNCE, 0, json.dumps({"format": 1, "files": files}).encode())
