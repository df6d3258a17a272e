#!/usr/bin/env bash
# The layer table of DESIGN.md section 11, checked on every #include: who may include whom, and
# that each outside library has one door.
set -u
cd "${SELFRIGHT_SOURCE:?}" || exit 1

python3 - <<'PY'
import os, re, sys

BASE = {"base"}
MAY = {
    "common/base": set(),
    "common/os": {"base"},
    "common/json": {"base", "os"},
    "common/conf": {"base", "os"},
    "common/crypto": {"base", "os"},
    "common/zone": {"base", "os", "crypto"},
    "common/tree": {"base", "os", "crypto"},
    "common/pack": {"base", "os", "crypto", "tree"},
    "common/tuf": {"base", "os", "json", "crypto"},
    "common/model": {"base", "json", "zone"},
    "common/fetch": {"base", "os"},
    "common/mqtt": {"base", "os"},
}
COMMON = {"base", "os", "json", "conf", "crypto", "zone", "tree", "pack", "tuf", "model", "fetch", "mqtt"}
# Mechanisms of the agent never call each other; phases compose them; nobody includes a phase but the table.
AGENT = {
    "agent/link": {"agent/link"},
    "agent/local": {"agent/local"},
    "agent/store": {"agent/store"},
    "agent/module": {"agent/module"},
    "agent/probe": {"agent/probe"},
    "agent/phase": {"agent/phase", "agent/link", "agent/local", "agent/store", "agent/module", "agent/probe", "agent"},
    "agent": {"agent", "agent/phase", "agent/link", "agent/local", "agent/store", "agent/module", "agent/probe"},
}
SERVER = {f"server-stub/{n}" for n in ("repo", "signer", "rollout", "ingest", "web", "cli")}
DOORS = {
    r"cJSON\.h|cjson/cJSON\.h": {"common/json"},
    r"yaml\.h": {"common/conf"},
    r"mbedtls/.*": {"common/crypto"},
    r"openssl/.*": {"common/crypto", "common/fetch", "common/mqtt"},  # libssl: fetch and mqtt only
    r"archive(_entry)?\.h|zstd.*\.h|zlib\.h": {"common/pack"},
    r"curl/.*": {"common/fetch"},
    r"mosquitto\.h|mqtt_protocol\.h": {"common/mqtt"},
    r"sqlite3\.h": {"server-stub/ingest"},
    r"microhttpd\.h": {"server-stub/web"},
}
STORE_MAY = {"base", "os", "crypto", "tree"}
bad = []

for top in ("common", "agent", "server-stub"):
    for folder, _, names in os.walk(top):
        for name in names:
            if not name.endswith((".c", ".h")):
                continue
            path = os.path.join(folder, name)
            if folder not in MAY and folder not in AGENT and folder not in SERVER and folder != "server-stub":
                bad.append(f"{path}: a folder the layer table does not know")
                continue
            for number, line in enumerate(open(path), 1):
                m = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
                if not m:
                    continue
                what = m.group(2)
                where = f"{path}:{number}"
                for pattern, doors in DOORS.items():
                    if re.fullmatch(pattern, what) and folder not in doors:
                        bad.append(f"{where}: <{what}> has its door in {', '.join(sorted(doors))}")
                if m.group(1) == "<":
                    continue
                layer = os.path.dirname(what)
                if folder in MAY:
                    own = folder.split("/")[1]
                    if layer != own and layer not in MAY[folder]:
                        bad.append(f"{where}: {folder} may not include \"{what}\"")
                elif name == "main_recover.c":
                    if layer not in STORE_MAY | {"agent/store"}:
                        bad.append(f"{where}: recover may include base, os, crypto, tree and store only")
                elif folder == "agent/store":
                    if layer not in STORE_MAY | {"agent/store"}:
                        bad.append(f"{where}: {folder} may not include \"{what}\"")
                elif folder in AGENT:
                    if layer not in COMMON and layer not in AGENT[folder]:
                        bad.append(f"{where}: {folder} may not include \"{what}\"")
                elif layer not in COMMON and not layer.startswith("server-stub"):
                    bad.append(f"{where}: the fleet side may include common and itself, not \"{what}\"")

# A phase does not call another phase: its header declares the phases, so look at the calls.
phases = {n[:-2] for n in os.listdir("agent/phase") if n.endswith(".c")} if os.path.isdir("agent/phase") else set()
for phase in phases:
    text = open(f"agent/phase/{phase}.c").read()
    for other in phases - {phase}:
        if re.search(rf"\bphase_{other}\s*\(", text):
            bad.append(f"agent/phase/{phase}.c: calls phase_{other}()")

print("\n".join(bad))
sys.exit(1 if bad else 0)
PY
