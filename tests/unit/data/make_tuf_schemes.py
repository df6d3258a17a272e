"""A root signed by a key of each scheme, made with python-cryptography: make_tuf_schemes.py tuf_schemes_root.json"""
import hashlib
import json
import sys

from cryptography.hazmat.primitives.asymmetric import ec,rsa,ed25519,padding
from cryptography.hazmat.primitives import hashes,serialization
def canon(o):
    if isinstance(o,dict): return "{"+",".join(canon(k)+":"+canon(o[k]) for k in sorted(o))+"}"
    if isinstance(o,list): return "["+",".join(map(canon,o))+"]"
    if isinstance(o,bool): return "true" if o else "false"
    if o is None: return "null"
    if isinstance(o,str): return '"'+o.replace("\\","\\\\").replace('"','\\"')+'"'
    return str(o)
def pem(k): return k.public_key().public_bytes(serialization.Encoding.PEM,serialization.PublicFormat.SubjectPublicKeyInfo).decode()
p256=ec.generate_private_key(ec.SECP256R1()); p384=ec.generate_private_key(ec.SECP384R1())
r=rsa.generate_private_key(65537,3072); ed=ed25519.Ed25519PrivateKey.generate()
keys=[({"keytype":"ecdsa","scheme":"ecdsa-sha2-nistp256","keyval":{"public":pem(p256)}},lambda m:p256.sign(m,ec.ECDSA(hashes.SHA256()))),
({"keytype":"ecdsa","scheme":"ecdsa-sha2-nistp384","keyval":{"public":pem(p384)}},lambda m:p384.sign(m,ec.ECDSA(hashes.SHA384()))),
({"keytype":"rsa","scheme":"rsassa-pss-sha256","keyval":{"public":pem(r)}},lambda m:r.sign(m,padding.PSS(padding.MGF1(hashes.SHA256()),32),hashes.SHA256())),
({"keytype":"ed25519","scheme":"ed25519","keyval":{"public":ed.public_key().public_bytes(serialization.Encoding.Raw,serialization.PublicFormat.Raw).hex()}},lambda m:ed.sign(m))]
ids=[hashlib.sha256(canon(k).encode()).hexdigest() for k,_ in keys]
signed={"_type":"root","spec_version":"1.0.34","version":1,"expires":"2040-01-01T00:00:00Z","consistent_snapshot":True,"x-text":"quote \" backslash \\ newline \n umlaut \u00e4",
"keys":{i:k for i,(k,_) in zip(ids,keys)},"roles":{n:{"keyids":ids,"threshold":4} for n in ("root","timestamp","snapshot","targets")}}
m=canon(signed).encode()
doc={"signatures":[{"keyid":i,"sig":s(m).hex()} for i,(_,s) in zip(ids,keys)],"signed":signed}
open(sys.argv[1],"w").write(json.dumps(doc,indent=1)+"\n")
