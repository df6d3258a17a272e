#!/usr/bin/env python3
"""Writes signatures.json: keys and signatures of every scheme, good and broken, made by another implementation.

Run it only to add cases; the file is checked in. Needs python3-cryptography.
"""

import json
import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

cases = []
MESSAGE = b'{"_type":"timestamp","expires":"2026-12-01T00:00:00Z"}'
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def case(name, expect, type_, scheme, public, signature=b"", message=MESSAGE):
    cases.append(
        {
            "name": name,
            "expect": expect,
            "type": type_,
            "scheme": scheme,
            "public": public,
            "message": message.hex(),
            "signature": signature.hex(),
        }
    )


def flipped(data, at):
    out = bytearray(data)
    out[at] ^= 1
    return bytes(out)


def broken_der(prefix, type_, scheme, public, sig):
    case(prefix + " empty", "invalid", type_, scheme, public, b"")
    case(prefix + " one byte", "invalid", type_, scheme, public, b"\x30")
    for cut in (1, 8, 32, len(sig) - 1):
        case(prefix + f" cut by {cut}", "invalid", type_, scheme, public, sig[:-cut])
    case(prefix + " byte after it", "invalid", type_, scheme, public, sig + b"\0")
    case(prefix + " first bit flipped", "invalid", type_, scheme, public, flipped(sig, 6))
    case(prefix + " last bit flipped", "invalid", type_, scheme, public, flipped(sig, -1))
    case(prefix + " other message", "invalid", type_, scheme, public, sig, MESSAGE + b" ")
    case(prefix + " zeros", "invalid", type_, scheme, public, bytes(len(sig)))


p256 = ec.generate_private_key(ec.SECP256R1())
p384 = ec.generate_private_key(ec.SECP384R1())
p521 = ec.generate_private_key(ec.SECP521R1())
k1 = ec.generate_private_key(ec.SECP256K1())
for type_ in ("ecdsa", "ecdsa-sha2-nistp256"):
    case("p256 as " + type_, "valid", type_, "ecdsa-sha2-nistp256", pem(p256), p256.sign(MESSAGE, ec.ECDSA(hashes.SHA256())))
case("p256 empty message", "valid", "ecdsa", "ecdsa-sha2-nistp256", pem(p256), p256.sign(b"", ec.ECDSA(hashes.SHA256())), b"")
# DER of 70 to 72 bytes: with and without padding of r and s.
for want in (70, 71, 72):
    while True:
        sig = p256.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))
        if len(sig) == want:
            break
    case(f"p256 of {want} bytes", "valid", "ecdsa", "ecdsa-sha2-nistp256", pem(p256), sig)
broken_der("p256", "ecdsa", "ecdsa-sha2-nistp256", pem(p256), sig)
r, s = decode_dss_signature(sig)
case("p256 r zero", "invalid", "ecdsa", "ecdsa-sha2-nistp256", pem(p256), encode_dss_signature(0, s))
case("p256 s zero", "invalid", "ecdsa", "ecdsa-sha2-nistp256", pem(p256), encode_dss_signature(r, 0))
case("p256 r plus order", "invalid", "ecdsa", "ecdsa-sha2-nistp256", pem(p256), encode_dss_signature(r + P256_ORDER, s))
case("p256 raw r and s", "invalid", "ecdsa", "ecdsa-sha2-nistp256", pem(p256), r.to_bytes(32, "big") + s.to_bytes(32, "big"))
case("p256 over sha384", "invalid", "ecdsa", "ecdsa-sha2-nistp256", pem(p256), p256.sign(MESSAGE, ec.ECDSA(hashes.SHA384())))
other = ec.generate_private_key(ec.SECP256R1())
case("p256 by another key", "invalid", "ecdsa", "ecdsa-sha2-nistp256", pem(p256), other.sign(MESSAGE, ec.ECDSA(hashes.SHA256())))

sig = p384.sign(MESSAGE, ec.ECDSA(hashes.SHA384()))
case("p384", "valid", "ecdsa", "ecdsa-sha2-nistp384", pem(p384), sig)
broken_der("p384", "ecdsa", "ecdsa-sha2-nistp384", pem(p384), sig)
case("p384 over sha256", "invalid", "ecdsa", "ecdsa-sha2-nistp384", pem(p384), p384.sign(MESSAGE, ec.ECDSA(hashes.SHA256())))

PSS = lambda salt, mgf=hashes.SHA256(): padding.PSS(mgf=padding.MGF1(mgf), salt_length=salt)
rsa_keys = {}
for bits in (1024, 2048, 3072, 4096):
    rsa_keys[bits] = rsa.generate_private_key(65537, bits)
for bits in (2048, 3072, 4096):
    key = rsa_keys[bits]
    case(f"rsa {bits}", "valid", "rsa", "rsassa-pss-sha256", pem(key), key.sign(MESSAGE, PSS(32), hashes.SHA256()))
key = rsa_keys[2048]
sig = key.sign(MESSAGE, PSS(32), hashes.SHA256())
for salt in (0, 20, 31, 33, 64):
    case(f"rsa salt {salt}", "invalid", "rsa", "rsassa-pss-sha256", pem(key), key.sign(MESSAGE, PSS(salt), hashes.SHA256()))
case("rsa sha512", "invalid", "rsa", "rsassa-pss-sha256", pem(key), key.sign(MESSAGE, PSS(32), hashes.SHA512()))
case("rsa mgf sha1", "invalid", "rsa", "rsassa-pss-sha256", pem(key), key.sign(MESSAGE, PSS(32, hashes.SHA1()), hashes.SHA256()))
case("rsa pkcs1v15", "invalid", "rsa", "rsassa-pss-sha256", pem(key), key.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA256()))
case("rsa empty", "invalid", "rsa", "rsassa-pss-sha256", pem(key), b"")
case("rsa cut", "invalid", "rsa", "rsassa-pss-sha256", pem(key), sig[:-1])
case("rsa byte after it", "invalid", "rsa", "rsassa-pss-sha256", pem(key), sig + b"\0")
case("rsa zero before it", "invalid", "rsa", "rsassa-pss-sha256", pem(key), b"\0" + sig)
case("rsa bit flipped", "invalid", "rsa", "rsassa-pss-sha256", pem(key), flipped(sig, 100))
case("rsa all ones", "invalid", "rsa", "rsassa-pss-sha256", pem(key), b"\xff" * 256)
case("rsa zeros", "invalid", "rsa", "rsassa-pss-sha256", pem(key), bytes(256))
case("rsa other message", "invalid", "rsa", "rsassa-pss-sha256", pem(key), sig, b"")
case("rsa of the other length", "invalid", "rsa", "rsassa-pss-sha256", pem(rsa_keys[4096]), sig)

ed = ed25519.Ed25519PrivateKey.generate()
ed_hex = ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
sig = ed.sign(MESSAGE)
case("ed25519", "valid", "ed25519", "ed25519", ed_hex, sig)
case("ed25519 upper case key", "valid", "ed25519", "ed25519", ed_hex.upper(), sig)
case("ed25519 empty message", "valid", "ed25519", "ed25519", ed_hex, ed.sign(b""), b"")
# RFC 8032, section 7.1, tests 2 and 3.
case("ed25519 rfc 8032 test 2", "valid", "ed25519", "ed25519",
     "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
     bytes.fromhex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                   "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"), b"\x72")
case("ed25519 empty", "invalid", "ed25519", "ed25519", ed_hex, b"")
case("ed25519 cut", "invalid", "ed25519", "ed25519", ed_hex, sig[:-1])
case("ed25519 byte after it", "invalid", "ed25519", "ed25519", ed_hex, sig + b"\0")
case("ed25519 bit flipped", "invalid", "ed25519", "ed25519", ed_hex, flipped(sig, 3))
case("ed25519 other message", "invalid", "ed25519", "ed25519", ed_hex, sig, b"x")
case("ed25519 zeros", "invalid", "ed25519", "ed25519", ed_hex, bytes(64))
ORDER = 2**252 + 27742317777372353535851937790883648493
malleable = sig[:32] + (int.from_bytes(sig[32:], "little") + ORDER).to_bytes(32, "little")
case("ed25519 s plus order", "invalid", "ed25519", "ed25519", ed_hex, malleable)

# Keys that must not load.
good = pem(p256)
case("p384 claimed as p256", "key", "ecdsa", "ecdsa-sha2-nistp256", pem(p384))
case("p256 claimed as p384", "key", "ecdsa", "ecdsa-sha2-nistp384", good)
case("p521", "key", "ecdsa", "ecdsa-sha2-nistp256", pem(p521))
case("secp256k1", "key", "ecdsa", "ecdsa-sha2-nistp256", pem(k1))
case("rsa claimed as p256", "key", "ecdsa", "ecdsa-sha2-nistp256", pem(key))
case("p256 claimed as rsa", "key", "rsa", "rsassa-pss-sha256", good)
case("rsa of 1024 bits", "key", "rsa", "rsassa-pss-sha256", pem(rsa_keys[1024]))
case("bare rsa key", "key", "rsa", "rsassa-pss-sha256", key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode())
case("pem as ed25519", "key", "ed25519", "ed25519", pem(ed))
case("ed25519 pem claimed as p256", "key", "ecdsa", "ecdsa-sha2-nistp256", pem(ed))
case("ed25519 short", "key", "ed25519", "ed25519", ed_hex[:-2])
case("ed25519 odd", "key", "ed25519", "ed25519", ed_hex[:-1])
case("ed25519 long", "key", "ed25519", "ed25519", ed_hex + "00")
case("ed25519 no hex", "key", "ed25519", "ed25519", "g" * 64)
case("unknown scheme", "key", "ecdsa", "ecdsa-sha2-nistp521", pem(p521))
case("rsa pkcs1v15 scheme", "key", "rsa", "rsa-pkcs1v15-sha256", pem(key))
case("type and scheme disagree", "key", "ed25519", "ecdsa-sha2-nistp256", good)
case("old type with p384", "key", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", pem(p384))
case("empty key", "key", "ecdsa", "ecdsa-sha2-nistp256", "")
case("no pem", "key", "ecdsa", "ecdsa-sha2-nistp256", "hello")
case("cut pem", "key", "ecdsa", "ecdsa-sha2-nistp256", good[:-40])
case("broken base64", "key", "ecdsa", "ecdsa-sha2-nistp256", good.replace("M", "!", 1))
case("private key", "key", "ecdsa", "ecdsa-sha2-nistp256", good.replace("PUBLIC", "PRIVATE"))
case("certificate label", "key", "ecdsa", "ecdsa-sha2-nistp256", good.replace("PUBLIC KEY", "CERTIFICATE"))
case("very long", "key", "ecdsa", "ecdsa-sha2-nistp256", good + "\n" * 20000)
# A point that is not on the curve, and the point at infinity.
der = p256.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
import base64


def wrap(der):
    text = base64.b64encode(der).decode()
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "-----BEGIN PUBLIC KEY-----\n" + "\n".join(lines) + "\n-----END PUBLIC KEY-----\n"


assert wrap(der) == good
case("point off the curve", "key", "ecdsa", "ecdsa-sha2-nistp256", wrap(flipped(der, -1)))
for cut in (1, 20, 60):
    case(f"der cut by {cut}", "key", "ecdsa", "ecdsa-sha2-nistp256", wrap(der[:-cut]))

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "signatures.json"), "w") as f:
    json.dump(cases, f, indent=1)
    f.write("\n")
