#!/usr/bin/env python3
"""Writes canonical.json: generated values as JSON text and in the canonical form of another encoder.

The encoder is securesystemslib's, in a few lines. Run it only to add cases; the file is checked in.
"""

import json
import os
import random

random.seed(20261121)


def canonical(v):
    if v is True:
        return "true"
    if v is False:
        return "false"
    if v is None:
        return "null"
    if isinstance(v, int):
        return str(v)
    if isinstance(v, str):
        return '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(v, list):
        return "[" + ",".join(canonical(x) for x in v) + "]"
    return "{" + ",".join(canonical(k) + ":" + canonical(v[k]) for k in sorted(v)) + "}"


ALPHABET = ['"', "\\", "/", "\n", "\t", "\x01", "\x7f", "a", "b", "A", "0", " ", "é", "€", "\uffff", "😀", "\U0010ffff"]


def text():
    return "".join(random.choice(ALPHABET) for _ in range(random.choice((0, 1, 2, 3, 8, 20))))


def value(depth):
    kind = random.randrange(8 if depth < 5 else 5)
    if kind == 0:
        return random.choice((True, False, None))
    if kind in (1, 2):
        return random.choice((0, 1, -1, 2**31, 2**31 - 1, 2**53 - 1, -(2**53) + 1, 10**15, random.randrange(-(10**9), 10**9)))
    if kind in (3, 4):
        return text()
    if kind == 5:
        return [value(depth + 1) for _ in range(random.randrange(5))]
    return {text(): value(depth + 1) for _ in range(random.randrange(7))}


KEY = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"
values = [
    {"keyid_hash_algorithms": ["sha256"], "keytype": "ecdsa", "keyval": {"public": KEY}, "scheme": "ecdsa-sha2-nistp256"},
    {"b": 1, "a": 2, "ab": 3, "B": 4, "": 5, "a ": 6, "a\n": 7, "é": 8, "\uffff": 9, "\U00010000": 10},
]
values += [value(0) for _ in range(300)]
cases = []
for i, v in enumerate(values):
    plain = json.dumps(v, ensure_ascii=i % 2 == 0, indent=(None, 1, 4)[i % 3])
    cases.append({"text": plain, "canonical": canonical(v).encode().hex()})
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "canonical.json"), "w") as f:
    json.dump(cases, f, indent=0)
    f.write("\n")
