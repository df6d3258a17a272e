#!/usr/bin/env python3
"""
An echo on a broker: whatever is said to one node, and whatever it says, is said again at once, and with every new
message some of the old ones, in any order.

  echoes.py PORT FLEET NODE LOG
"""
import gzip, json, random, signal, subprocess, sys

port, fleet, node, log = sys.argv[1:5]
base = f"selfright/v1/{fleet}/"
own = f"{base}node/{node}/"
chance = random.Random(7)
listener = subprocess.Popen(["mosquitto_sub", "-p", port, "-q", "1", "-F", "%t %x", "-t", base + "announce", "-t", base + "timestamp", "-t",
                             own + "#"], stdout=subprocess.PIPE, text=True)
signal.signal(signal.SIGTERM, lambda *_: (listener.terminate(), sys.exit(0)))
said, history, count = {}, [], 0


def say(topic, payload):
    global count
    said[topic, payload] = said.get((topic, payload), 0) + 1
    count += 1
    subprocess.run(["mosquitto_pub", "-p", port, "-q", "1", "-t", topic, "-s"], input=payload, check=True)


for line in listener.stdout:
    topic, _, payload = line.rstrip("\n").partition(" ")
    payload = bytes.fromhex(payload)
    if said.get((topic, payload), 0) > 0:  # our own
        said[topic, payload] -= 1
        continue
    if topic == base + "timestamp":  # for this node alone
        payload = gzip.compress(json.dumps({"format": 1, "files": {"timestamp.json": payload.decode()}}).encode(), mtime=0)
    if topic in (base + "announce", base + "timestamp"):
        topic = own + "announce"
    if not payload or topic.endswith(("/presence", "/get", "/blob")):
        continue
    say(topic, payload)
    for old in chance.sample(history, min(3, len(history))):
        say(*old)
    history.append((topic, payload))
    with open(log, "w") as f:
        f.write(f"{count}\n")
