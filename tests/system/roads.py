#!/usr/bin/env python3
"""The real link process, played an engine by this program, on every road there is to a real mosquitto."""
import glob, shutil, socket, struct, subprocess, sys, time, os
from roads_lib import *

port = free_port()
real = start_broker(port)

# --- straight ---
link = Link("straight", broker("broker.test", port, AT_HOME))
link_ends_up("straight, with the name checked against the broker's certificate", link)
make_certificate("desk", "ca", "desk")
run("mosquitto_pub", "-h", "localhost", "-p", str(port), "--cafile", path("ca.crt"), "--cert", path("desk.crt"), "--key",
    path("desk.key"), "-V", "5", "-q", "1", "-t", "selfright/v1/demo/node/n1/ack", "-m", "while you were away")
link = Link("straight", broker("broker.test", port, AT_HOME), keep=True)
check("the session was kept by an MQTT 5 property: what came meanwhile arrives",
      link.until(lambda: (ACK, b"while you were away") in link.frames), link.frames)
link.end()
link_says("a certificate for another name is refused and named",
          Link("name", broker("elsewhere.test", port, AT_HOME)), "shows a certificate for other names")

# --- what opens TLS on the way, and dates ---
inspected = free_port()
start_broker(inspected, "inspected")
link_says("what opens TLS on the way is named with its issuer",
          Link("inspected-link", broker("broker.test", inspected, AT_HOME)),
          "issued by 'CN = Acme Firewall Inspection', which is not our CA")
ended = free_port()
start_broker(ended, "ended")
link_says("an expired certificate is named with its dates and the clock's",
          Link("ended-link", broker("broker.test", ended, AT_HOME)), "and the clock here says")
young = free_port()
start_broker(young, "young")
make_certificate("young-site", "ca", "localhost", "DNS:localhost", (time.time() + 5 * 86400, time.time() + 20 * 86400))
make_certificate("ended-site", "ca", "localhost", "DNS:localhost", (time.time() - 9 * 86400, time.time() - 86400))
faketime = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
# A sanitizer's runtime must be loaded first, which a preloaded library prevents.
if faketime and not SANITIZED:
    old_clock = {"LD_PRELOAD": faketime, "FAKETIME": "@1970-01-02 00:00:00", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                 "TZ": "UTC"}
    link_ends_up("a clock in 1970 with the floor of a fresh agent connects",
                 Link("old", broker("broker.test", port, AT_HOME), floor=1767225600, environment=old_clock))
    link_ends_up("... also to a certificate that begins after the floor, which proves nothing",
                 Link("old-young", broker("broker.test", young, AT_HOME), floor=1767225600, environment=old_clock))
    for name, end in (("young-site", b"\0\0\0\0a file of the repository"), ("ended-site", None)):
        link = Link(name, "", floor=1767225600 if end else int(time.time()), environment=old_clock,
                    url=f"https://localhost:{Https(name).port}/")
        got = fetches(link)
        check(f"HTTPS is judged the same way: {name}", got == end if end else b"and the clock here says" in got, got)
        link.end()
    link_says("... but not to one that ended before the floor",
              Link("old-ended", broker("broker.test", ended, AT_HOME), floor=int(time.time()), environment=old_clock),
              "and the clock here says 1970-01-0")
else:
    print("# no libfaketime (or a sanitizer): the clock in 1970 is left to test_tls", flush=True)

# --- proxies ---
write("basic-users", run("openssl", "passwd", "-apr1", "secret").decode().join(["joe:", ""]))
write("digest-users", "joe:secret\n")
basic = "auth_param basic program /usr/lib/squid/basic_ncsa_auth " + path("basic-users") + \
    "\nauth_param basic realm fleet\nauth_param basic children 1"
digest = "auth_param digest program /usr/lib/squid/digest_file_auth " + path("digest-users") + \
    "\nauth_param digest realm fleet\nauth_param digest children 1"
squid, squid_port = start_squid("squid-basic", basic)
link_ends_up("through squid with Basic",
             Link("basic", broker("localhost", port) + f"proxy: http://joe:secret@127.0.0.1:{squid_port}\n"))
check("... and squid saw a CONNECT to the broker",
      f"CONNECT localhost:{port}" in open(path("squid-basic/access.log")).read())
link_says("a wrong password is the proxy's 407, in words",
          Link("basic-wrong", broker("localhost", port) + f"proxy: http://joe:wrong@127.0.0.1:{squid_port}\n"),
          f"the proxy 127.0.0.1:{squid_port} answered 407: it wants a user and a password")
link_says("no password likewise",
          Link("basic-none", broker("localhost", port) + f"proxy: http://127.0.0.1:{squid_port}\n"), "answered 407")
stop(squid)
link_says("a proxy that is gone is named",
          Link("gone", broker("localhost", port) + f"proxy: http://joe:secret@127.0.0.1:{squid_port}\n"),
          f"the proxy 127.0.0.1:{squid_port}: ")
link_ends_up("no_proxy leads past it",
             Link("past", broker("localhost", port, AT_HOME) +
                  f"proxy: http://joe:secret@127.0.0.1:{squid_port}\nno_proxy: [localhost]\n"))
squid, squid_port = start_squid("squid-digest", digest)
link_ends_up("through squid with Digest",
             Link("digest", broker("localhost", port) + f"proxy: http://joe:secret@127.0.0.1:{squid_port}\n"))
tiny, tiny_port = start_tinyproxy([port])
through = Link("tiny", broker("localhost", port) + f"proxy: http://joe:secret@127.0.0.1:{tiny_port}\n")
check("through tinyproxy with Basic", through.comes_up(), through.states)
stop(tiny)
check("the proxy dies: the link notices", through.until(lambda: not through.up), through.states)
tiny = start("tinyproxy", "-d", "-c", path("tinyproxy.conf"), log="tinyproxy.log")
link_ends_up("... and is back with it", through)
link_says("a port the proxy does not allow is its 403, in words",
          Link("tiny-port", broker("localhost", ended) + f"proxy: http://joe:secret@127.0.0.1:{tiny_port}\n"),
          f"answered 403 to CONNECT localhost:{ended}: it must allow that address and port")
socks = Socks5()
link_ends_up("through SOCKS5 with a password",
             Link("socks", broker("broker.test", port) + f"proxy: socks5h://joe:secret@127.0.0.1:{socks.port}\n"))
check("... which was given the name, not an address", ("broker.test", port) in socks.asked, socks.asked)
link_says("through it with a wrong one: named",
          Link("socks-wrong", broker("broker.test", port) + f"proxy: socks5h://joe:no@127.0.0.1:{socks.port}\n"),
          f"the proxy 127.0.0.1:{socks.port}: ")

# --- a resolver that hangs ---
if OWN_NETWORK:
    mute = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    mute.bind(("127.0.0.1", 53))
    run("mount", "--bind", write("resolv.conf", "nameserver 127.0.0.1\n"), "/etc/resolv.conf")
    run("mount", "--bind", write("hosts", "127.0.0.1 localhost broker.test\n"), "/etc/hosts")
    link = Link("resolver", broker("broker.test", port))
    check("the resolver answers: up", link.comes_up(), link.states)
    link.end()
    kept = open(path("resolver/outbox/addresses")).read()
    check("the address that worked is kept", kept == "broker.test 127.0.0.1\n", kept)
    write("hosts", "127.0.0.1 localhost\n")
    link = Link("resolver", broker("broker.test", port), keep=True)
    link_ends_up("the resolver hangs: the last good address leads there", link)
    link = Link("hangs", broker("broker.test", port))
    link.send(REPORT, struct.pack(">Q", 7) + b"{}")
    check("a report is on disk while the resolver hangs: the link is not held up",
          link.until(lambda: os.path.exists(path("hangs/outbox/report")), 4))
    link_says("without one it is named", link,
              "the resolver did not answer for broker.test in 5000 ms, and no earlier address is known")
else:
    print("# not root: the hanging resolver is left to test_relay", flush=True)

# --- the doctor ---
make_certificate("site", "ca", "localhost", "DNS:localhost")
make_certificate("inspected-site", "other", "localhost", "DNS:localhost")
site = f"https://localhost:{Https('site').port}/"
code, answer, steps = doctor("doctor-fine", broker("localhost", port), site)
check("the doctor finds nothing on a good road",
      code == 0 and answer["ok"] and all(steps[s]["verdict"] == "ok" for s in
                                         ("resolver", "tcp", "tls", "connack", "suback", "https", "artifacts")) and
      "issued by 'CN = fleet CA'" in steps["tls"]["detail"], answer)
check("... but notes that nothing is retained", steps.get("metadata", {}).get("verdict") == "note", answer)
code, answer, steps = doctor("doctor-connected", broker("localhost", port), site, connected=True)
check("... and takes no session over", code == 0 and "stands" in steps["broker"]["detail"] and "tls" not in steps, answer)
for what, config, url, at, word in (
        ("the proxy's 407", broker("localhost", port) + f"proxy: http://joe:no@127.0.0.1:{tiny_port}\n", site, "proxy", "PASSWORD"),
        ("a port that is closed", broker("localhost", 9), site, "tcp", "opened outwards"),
        ("what opens TLS", broker("localhost", inspected), site, "tls", "exception from TLS inspection"),
        ("an expired certificate", broker("broker.test", ended, AT_HOME), site, "tls", "set this node's clock"),
        ("a wrong name", broker("elsewhere.test", port, AT_HOME), site, "tls", "compare host:"),
        ("what opens HTTPS", broker("localhost", port), f"https://localhost:{Https('inspected-site').port}/", "https", "ca.crt"),
        ("no server", broker("localhost", port), "https://127.0.0.1:1/", "https", "opened outwards")):
    code, answer, steps = doctor("doctor-" + what.replace(" ", "-"), config, url)
    check(f"the doctor names {what}", code == 1 and answer.get("failed") == at and
          word in steps.get(at, {}).get("advice", ""), answer)
for subject, files in (("n1", "stranger"),):
    make_certificate(files, "other", subject)
    shutil.copy(path("node.crt"), path("node.crt.kept")), shutil.copy(path("node.key"), path("node.key.kept"))
    shutil.copy(path(files + ".crt"), path("node.crt")), shutil.copy(path(files + ".key"), path("node.key"))
    code, answer, steps = doctor("doctor-stranger", broker("localhost", port), site)
    check("the doctor names a certificate the broker refuses", code == 1 and answer.get("failed") in ("tls", "connack") and
          "refused this node's certificate" in steps[answer["failed"]]["detail"], answer)
    shutil.copy(path("node.crt.kept"), path("node.crt")), shutil.copy(path("node.key.kept"), path("node.key"))
if OWN_NETWORK:
    code, answer, steps = doctor("doctor-resolver", broker("broker.test", port), site)
    check("the doctor names a resolver that hangs", code == 1 and answer.get("failed") == "resolver" and
          "/etc/resolv.conf" in steps["resolver"].get("advice", ""), answer)

# --- a cache on the site ---
BY_HASH = "targets/web/" + 64 * "a" + ".release.json"
origin, cache, empty = Https("site"), Https("site"), Https("site", missing=True)
link = Link("mirrors", f"mirrors: ['{empty.url}', '{cache.url}']\n", url=origin.url)
check("a file with its hash in its name comes from the cache", fetches(link, BY_HASH)[:4] == bytes(4) and
      len(cache.asked) == 1 and not origin.asked and len(empty.asked) == 1, (empty.asked, cache.asked, origin.asked))
check("the timestamp and the next root are asked at the origin",
      fetches(link)[:4] == bytes(4) and fetches(link, "metadata/2.root.json")[:4] == bytes(4) and
      len(origin.asked) == 2 and len(cache.asked) == 1, (cache.asked, origin.asked))
link.end()
link = Link("mirror-empty", f"mirrors: ['{empty.url}']\n", url=origin.url)
check("what the cache has not is asked at the origin", fetches(link, BY_HASH)[:4] == bytes(4) and len(origin.asked) == 3,
      origin.asked)
link.end()

# --- a hundred reconnects ---
front = Front(port)
link = Link("again", broker("broker.test", front.port, AT_HOME))
fds, resident, times = 0, 0, []
for i in range(100):
    began = time.monotonic()
    if not link.comes_up():
        break
    times.append(time.monotonic() - began)
    if i == 20:
        fds, resident = link.descriptors(), link.resident()
    front.cut.set()
    if not link.until(lambda: not link.up):
        break
    link.send(RETRY)
link.comes_up()
check("a hundred cut connections, and up again each time", front.connections >= 100 and link.up,
      f"{front.connections} {link.states[-4:]}")
check("... without one descriptor more", link.descriptors() <= fds, f"{fds} -> {link.descriptors()}")
check("... and no growth of memory (2 MiB of slack)", link.resident() < resident + 2048,
      f"{resident} -> {link.resident()} KiB")
print(f"# reconnect after a cut: median {sorted(times)[len(times) // 2] * 1000:.0f} ms; resident {link.resident()} KiB",
      flush=True)
stop(real)
check("the broker is killed: noticed", link.until(lambda: not link.up), link.states[-3:])
real = start_broker(port)
link_ends_up("... and found again without being told", link)

finish()
