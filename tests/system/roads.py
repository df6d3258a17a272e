#!/usr/bin/env python3
"""The real link process, played an engine by this program, on every road there is to a real mosquitto."""
import glob, shutil, threading, socket, struct, subprocess, sys, time, os
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
check("... and squid saw a CONNECT to the broker", comes_to_stand_in("squid-basic/access.log", f"CONNECT localhost:{port}"))
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
digest_port = squid_port
link_ends_up("through squid with Digest",
             Link("digest", broker("localhost", port) + f"proxy: http://joe:secret@127.0.0.1:{squid_port}\n"))


class Chooser:
    """A proxy that offers Negotiate first, as those of Windows do, and takes a password as well."""

    def __init__(self, offers):
        self.offers, self.asked = offers, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.one, args=(client,), daemon=True).start()

    def one(self, client):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = client.recv(1)
            if not piece:
                return
            head += piece
        self.asked.append(head)
        if b"Proxy-Authorization: Basic am9lOnNlY3JldA==" in head and "Basic" in "".join(self.offers):
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            pump(client, socket.create_connection(("127.0.0.1", int(head.split()[1].rsplit(b":", 1)[1]))))
            return
        client.sendall(b"HTTP/1.1 407 Who are you\r\n" + "".join(f"Proxy-Authenticate: {o}\r\n" for o in self.offers).encode() +
                       b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        client.close()


chooser = Chooser(["Negotiate", "NTLM", 'Basic realm="x"'][::2])
link_ends_up("a password is used also where the proxy would rather have a ticket",
             Link("chooser", broker("localhost", port) + f"proxy: http://joe:secret@127.0.0.1:{chooser.port}\n"))
chooser = Chooser(["Negotiate"])
link_says("a proxy that takes tickets alone is named, with a password",
          Link("chooser-password", broker("localhost", port) + f"proxy: http://joe:secret@127.0.0.1:{chooser.port}\n"),
          "it wants a Kerberos ticket (Negotiate)")
link_says("... and without one",
          Link("chooser-none", broker("localhost", port) + f"proxy: http://127.0.0.1:{chooser.port}\n"),
          "and there is none that it takes")
link_says("what we know none of is named", Link("chooser-strange", broker("localhost", port) +
          f"proxy: http://joe:secret@127.0.0.1:{Chooser(['Bearer x']).port}\n"), "it offers nothing we know")

# --- Negotiate: with the node's own Kerberos ticket ---


def start_kdc():
    """A realm of one proxy and one node; the environment of who belongs to it."""
    kdc_port = free_port()
    write("krb5.conf", "[libdefaults]\ndefault_realm = TEST\ndns_lookup_kdc = false\ndns_lookup_realm = false\n"
          "rdns = false\ndns_canonicalize_hostname = false\n[realms]\nTEST = {\nkdc = 127.0.0.1:%d\n}\n" % kdc_port)
    write("kdc.conf", f"[kdcdefaults]\nkdc_listen = 127.0.0.1:{kdc_port}\nkdc_tcp_listen = 127.0.0.1:{kdc_port}\n[realms]\n"
          f"TEST = {{\ndatabase_name = {path('principal')}\nkey_stash_file = {path('stash')}\nacl_file = {path('acl')}\n}}\n")
    realm = {**os.environ, "KRB5_CONFIG": path("krb5.conf"), "KRB5_KDC_PROFILE": path("kdc.conf")}
    run("kdb5_util", "create", "-s", "-r", "TEST", "-P", "secret", env=realm)
    for principal, keytab in (("HTTP/localhost", "proxy.keytab"), ("n1", "node.keytab")):
        run("kadmin.local", "-r", "TEST", "addprinc", "-randkey", principal, env=realm)
        run("kadmin.local", "-r", "TEST", "ktadd", "-k", path(keytab), principal, env=realm)
        os.chmod(path(keytab), 0o644)
    start("krb5kdc", "-n", "-r", "TEST", log="kdc.log", env=realm)
    await_port(kdc_port)
    return realm


realm = start_kdc()
squid, squid_port = start_squid("squid-negotiate", "auth_param negotiate program /usr/lib/squid/negotiate_kerberos_auth -k "
                                f"{path('proxy.keytab')} -s HTTP/localhost@TEST\nauth_param negotiate children 1", env=realm)
proxy = f"proxy: http://localhost:{squid_port}\n"
link_says("a proxy that wants Kerberos, and no ticket is there: named",
          Link("ticketless", broker("localhost", port) + proxy, environment={"KRB5_CONFIG": path("krb5.conf")}),
          "it wants a Kerberos ticket (Negotiate)")
for how, environment in (
        ("a ticket that somebody fetched", {"KRB5CCNAME": "FILE:" + path("ticket")}),
        ("one that is fetched with a client keytab", {"KRB5_CLIENT_KTNAME": path("node.keytab"), "KRB5CCNAME": "MEMORY:x"})):
    if "MEMORY" not in environment["KRB5CCNAME"]:
        run("kinit", "-k", "-t", path("node.keytab"), "-c", path("ticket"), "n1", env=realm)
    link_ends_up("Negotiate with " + how,
                 Link(fresh("ticket"), broker("localhost", port) + proxy, environment={"KRB5_CONFIG": path("krb5.conf"), **environment}))
check("... and squid knew who it was", comes_to_stand_in("squid-negotiate/access.log", "n1@TEST"),
      open(path("squid-negotiate/access.log")).read())



def fetches_through(proxy, more=None):
    """A file of the repository by HTTPS through that proxy, as the engine starts the link."""
    link = Link(fresh("fetch"), "", url=f"https://localhost:{Https('site').port}/", environment={"https_proxy": proxy, **(more or {})})
    got = fetches(link)
    link.end()
    return got


make_certificate("site", "ca", "localhost", "DNS:localhost")
FILE = b"\0\0\0\0a file of the repository"
got = fetches_through(f"http://localhost:{squid_port}", {"KRB5_CONFIG": path("krb5.conf"), "KRB5CCNAME": "FILE:" + path("ticket")})
check("files come by HTTPS through it with the ticket as well", got == FILE, got)
got = fetches_through(f"http://joe:secret@127.0.0.1:{digest_port}")
check("... and through the one with Digest", got == FILE, got)
got = fetches_through(f"http://joe:wrong@127.0.0.1:{digest_port}")
check("... and not with a wrong password", got[:4] != bytes(4) and b"407" in got, got)
chooser = Chooser(["Negotiate", 'Basic realm="x"'])
got = fetches_through(f"http://joe:secret@127.0.0.1:{chooser.port}")
check("... and with a password where a ticket is preferred", got == FILE, got)
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

# --- a proxy that lets HTTPS through and nothing else ---
allowed = Https("site", files=repository())
stop(tiny)
tiny, tiny_port = start_tinyproxy([allowed.port])
proxy = f"http://joe:secret@127.0.0.1:{tiny_port}"
link = Link("only-https", broker("localhost", port) + f"proxy: {proxy}\n", url=allowed.url, environment={"https_proxy": proxy})
check("a proxy that refuses the broker's address says so with its number", link.says(
    f"the proxy 127.0.0.1:{tiny_port} answered 403 to CONNECT localhost:{port}: it must allow that address and port"), link.states)
got = fetches(link)
check("... while files come through it", got[:4] == bytes(4) and b"snapshot.json" in got, got)
link.end()
code, answer, steps = doctor("doctor-only-https", broker("localhost", port) + f"proxy: {proxy}\n", allowed.url, environment={"https_proxy": proxy})
check("... and the doctor names the proxy, its answer, and what to ask for", code == 1 and answer.get("failed") == "proxy" and
      f"answered 403 to CONNECT localhost:{port}" in steps["proxy"]["detail"] and "allow CONNECT" in steps["proxy"].get("advice", ""), answer)
check("... and that HTTPS passes", steps.get("https", {}).get("verdict") == "ok", answer)
stop(tiny)
tiny, tiny_port = start_tinyproxy([port])

socks = Socks5()
link_ends_up("through SOCKS5 with a password",
             Link("socks", broker("broker.test", port) + f"proxy: socks5h://joe:secret@127.0.0.1:{socks.port}\n"))
check("... which was given the name, not an address", ("broker.test", port) in socks.asked, socks.asked)
link_says("through it with a wrong one: named",
          Link("socks-wrong", broker("broker.test", port) + f"proxy: socks5h://joe:no@127.0.0.1:{socks.port}\n"),
          f"the proxy 127.0.0.1:{socks.port}: ")

# --- whose address is kept ---
check("what answered and was not the broker is not kept for times without a resolver",
      not os.path.exists(path("inspected-link/outbox/addresses")) and not os.path.exists(path("name/outbox/addresses")))

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
          link.until(lambda: os.path.exists(path("hangs/outbox/report"))) and
          not any("did not answer" in words for _, words in link.states), link.states)
    link_says("without one it is named", link,
              "the resolver did not answer for broker.test in 5000 ms, and no earlier address is known")
else:
    print("# not root: the hanging resolver is left to test_relay", flush=True)

# --- the doctor ---
make_certificate("inspected-site", "other", "localhost", "DNS:localhost")
published = repository()
site = f"https://localhost:{Https('site', files=published).port}/"
artifact_name = next(n for n in published if n.endswith(".zst"))
desk = Desk(port, published)
code, answer, steps = doctor("doctor-fine", broker("localhost", port), site)
check("the doctor finds nothing on a good road",
      code == 0 and answer["ok"] and all(steps[s]["verdict"] == "ok" for s in
                                         ("resolver", "tcp", "tls", "connack", "suback", "https", "artifacts", "mqtt")) and
      "issued by 'CN = fleet CA'" in steps["tls"]["detail"], answer)
check("... having tried a piece of an artifact, and its rest", artifact_name in steps["artifacts"]["detail"] and
      "go on where they were" in steps["artifacts"]["detail"], answer)
check("... and one over the broker", artifact_name in steps["mqtt"]["detail"] and
      answer["order"].index("artifacts") < answer["order"].index("mqtt"), answer)
check("... but notes that nothing is retained", steps.get("metadata", {}).get("verdict") == "note", answer)
run("mosquitto_pub", "-h", "localhost", "-p", str(port), "--cafile", path("ca.crt"), "--cert", path("desk.crt"), "--key",
    path("desk.key"), "-r", "-q", "1", "-t", "selfright/v1/demo/timestamp", "-m", "{}")
code, answer, steps = doctor("doctor-kept", broker("localhost", port), site)
check("... and sees it when it is", code == 0 and steps["metadata"]["verdict"] == "ok", answer)
code, answer, steps = doctor("doctor-connected", broker("localhost", port), site, connected=True)
check("... and takes no session over", code == 0 and "stands" in steps["broker"]["detail"] and "tls" not in steps and
      "not tried" in steps["mqtt"]["detail"] and "stop selfright-agent" in steps["mqtt"]["advice"], answer)

# --- the doctor where the agent's own connection stands: its link tries it ---
def tries(link, artifact=artifact_name):
    link.frames.clear()
    link.send(TRY, artifact.encode(), 9)
    link.until(lambda: any(kind == TRIED for kind, _ in link.frames))
    return json.loads(next((payload for kind, payload in link.frames if kind == TRIED), b"{}") or b"{}")


own = Link("own", broker("localhost", port))
check("a link is up", own.comes_up(), own.words)
told = tries(own)
check("... and tries its own connection", told.get("connected") and [f["name"] for f in told["files"]] ==
      ["metadata/timestamp.json", artifact_name] and all(f["error"] == 0 for f in told["files"]), told)
check("... having seen what is retained", told.get("retained") is True, told)
code, answer, steps = doctor("doctor-own", broker("localhost", port), site, connected=True, tried=told)
check("... which the doctor tells, step by step", code == 0 and answer["ok"] and all(steps[s]["verdict"] == "ok" for s in (
    "broker", "connack", "suback", "metadata", "mqtt")) and artifact_name in steps["mqtt"]["detail"] and
    "own connection" in steps["mqtt"]["detail"] and "MQTT 5" in steps["connack"]["detail"], answer)
told = tries(own, "")
code, answer, steps = doctor("doctor-own-bare", broker("localhost", port), site, connected=True, tried=told)
check("... without an artifact the metadata", code == 0 and steps["mqtt"]["verdict"] == "note" and
      "metadata come" in steps["mqtt"]["detail"], answer)
told = tries(own, "targets/web/0.9.0/" + "0" * 64 + ".web.tar.zst")
code, answer, steps = doctor("doctor-own-old", broker("localhost", port), site, connected=True, tried=told)
check("... and notes an artifact that is kept no longer", code == 0 and steps["mqtt"]["verdict"] == "note" and
      "no longer" in steps["mqtt"]["detail"], answer)
desk.files = {**published, "metadata/timestamp.json": None}
code, answer, steps = doctor("doctor-own-wrong", broker("localhost", port), site, connected=True, tried=tries(own))
check("... names a controller without metadata", code == 1 and answer["failed"] == "mqtt" and
      "right controller" in steps["mqtt"]["advice"], answer)
desk.files = published
desk.silent = True
code, answer, steps = doctor("doctor-own-silent", broker("localhost", port), site, connected=True, tried=tries(own))
check("... and one that is away from the broker, which has answered itself", code == 1 and answer["failed"] == "mqtt" and
      "nobody answered" in steps["mqtt"]["detail"] and "access list" in steps["mqtt"]["advice"], answer)
desk.silent = False
told = {"connected": True, "words": "MQTT 5", "retained": True, "for_s": 500, "heard_s": 60,
        "files": [{"name": "metadata/timestamp.json", "error": 1054, "ms": 12000}]}  # ERR_DEADLINE
code, answer, steps = doctor("doctor-own-dead", broker("localhost", port), site, connected=True, tried=told)
check("... tells it from a broker that says nothing at all", code == 1 and answer["failed"] == "mqtt" and
      "the broker has said nothing for 60 s" in steps["mqtt"]["detail"] and "firewall" in steps["mqtt"]["advice"], answer)
for what, strange in (("no JSON", "{"), ("another type", "[]"), ("files that are none", {**told, "files": [1]}),
                      ("numbers that are words", {**told, "files": [{**told["files"][0], "error": "1"}]})):
    code, answer, steps = doctor(fresh("doctor-own-odd"), broker("localhost", port), site, connected=True, tried=strange)
    check(f"... and believes no {what}", code == 0 and steps["mqtt"]["verdict"] == "note" and
          "not tried" in steps["mqtt"]["detail"], answer)
own.child.kill()
own.child.wait()
code, answer, steps = doctor("doctor-order", broker("localhost", port) + "roads: [mqtt, https]\n", site)
check("... and goes the roads in their order", code == 0 and steps["mqtt"]["verdict"] == "ok" and
      answer["order"].index("mqtt") < answer["order"].index("https"), answer)
code, answer, steps = doctor("doctor-no-broker", broker("localhost", 9), site)
check("... and says what it could not try", code == 1 and answer["failed"] == "tcp" and steps["mqtt"]["verdict"] == "-", answer)

# --- the doctor on files over the broker ---
desk.silent = True
code, answer, steps = doctor("doctor-mqtt-silent", broker("localhost", port), site)
check("the doctor names a controller that is away from the broker", code == 1 and answer["failed"] == "mqtt" and
      "nobody answered" in steps["mqtt"]["detail"] and "access list" in steps["mqtt"]["advice"], answer)
desk.silent = False
for what, change, at, word in (
        ("a controller without metadata", {"metadata/timestamp.json": None}, "metadata/timestamp.json", "right controller"),
        ("one without the artifact", {artifact_name: None}, artifact_name, "right controller"),
        ("a file changed on the way to the broker", {"metadata/5.snapshot.json": b"{}"}, "metadata/5.snapshot.json", "not whole")):
    desk.files = {**published, **change}
    code, answer, steps = doctor(fresh("doctor-mqtt"), broker("localhost", port), site)
    check(f"the doctor names {what}", code == 1 and answer["failed"] == "mqtt" and at in steps["mqtt"]["detail"] and
          word in steps["mqtt"]["advice"], answer)
desk.files = published

# --- a broker that comes first, in the wrong hands ---
def brought(link, name="metadata/timestamp.json"):
    """Error and bytes of a fetch."""
    payload = fetches(link, name)
    return (struct.unpack(">i", payload[:4])[0], payload[4:]) if len(payload) >= 4 else (None, payload)


ENOENT = -2
origin = Https("site", files={"metadata/timestamp.json": b"of the origin", "metadata/2.root.json": b"the next root"})
first = Link("broker-first", broker("localhost", port) + "roads: [mqtt, https]\n", url=origin.url)
check("a link asks the broker first", first.comes_up() and
      desk.files.update({"metadata/7.snapshot.json": b"of the broker"}) is None and
      brought(first, "metadata/7.snapshot.json") == (0, b"of the broker") and not origin.asked, origin.asked)
desk.files = {}
check("... whose 'not there' is no answer for the others", brought(first) == (0, b"of the origin"), origin.asked)
check("... not for the next root either", brought(first, "metadata/2.root.json") == (0, b"the next root"), origin.asked)
check("... and what nobody has is not there", brought(first, "metadata/3.root.json")[0] == ENOENT and
      brought(first, "metadata/8.snapshot.json")[0] == ENOENT, origin.asked)
desk.files = {"metadata/timestamp.json": b"x" * 2000}
check("... nor its 'too large'", brought(first) == (0, b"of the origin"), origin.asked)
desk.files = {"metadata/timestamp.json": b"rubbish"}
check("rubbish is the engine's to find", brought(first) == (0, b"rubbish"), origin.asked)
first.send(DOUBT)
check("... and the next time another road comes first", brought(first) == (0, b"of the origin"), origin.asked)
desk.files = {"metadata/9.snapshot.json": b"of the broker"}
check("... which leaves the one in doubt for what it lacks", brought(first, "metadata/9.snapshot.json") == (0, b"of the broker"),
      origin.asked)
first.child.kill()
first.child.wait()
alone = Link("broker-first-alone", broker("localhost", port) + "roads: [mqtt, https]\n")
check("where HTTPS reaches nobody, no next root is none", alone.comes_up() and
      brought(alone, "metadata/2.root.json")[0] == ENOENT and brought(alone, "metadata/2.root.json")[0] == ENOENT)
check("... and any other file is still to come", brought(alone)[0] not in (0, ENOENT))
alone.child.kill()
alone.child.wait()
origin = Https("site", files={})
last = Link("broker-last", broker("localhost", port), url=origin.url)
desk.files = {"metadata/2.root.json": b"of the broker", "metadata/7.snapshot.json": b"of the broker"}
check("an origin that has no next root is not doubted for the broker's sake", last.comes_up() and
      brought(last, "metadata/2.root.json")[0] == ENOENT)
check("... what it lacks of the rest comes over the broker", brought(last, "metadata/7.snapshot.json") == (0, b"of the broker"))
last.child.kill()
last.child.wait()
desk.files = published

# --- the doctor on sticks ---
for name, data in published.items():
    for folder in ("stick", "spoilt"):
        os.makedirs(os.path.dirname(path(f"{folder}/{name}")), exist_ok=True)
        with open(path(f"{folder}/{name}"), "wb") as f:
            f.write(data if folder == "stick" or name != artifact_name else data[:-1] + b"x")
shutil.copytree(path("stick/targets"), path("part/targets"))
os.makedirs(path("old/metadata"))
run("tar", "-C", path("stick"), "-cf", path("stick.tar"), "metadata", "targets")
with open(path("stick.tar"), "rb") as whole, open(path("half.tar"), "wb") as half:
    half.write(whole.read(300000))
for what, folder, more, verdict, word, advice in (
        ("a folder that is whole", "stick", "", "ok", artifact_name, ""),
        ("a tar of one", "stick.tar", "", "ok", artifact_name, ""),
        ("a folder of files alone, by what the server names", "part", "", "ok", artifact_name, ""),
        ("one that lacks the newest", "old", "", "note", "lacks " + artifact_name, "newer bundle"),
        ("a stick that is not there", "no-such-stick", "", "note", "is not there", "comes and goes"),
        ("a stick that is not there, and nothing else is", "no-such-stick", "roads: [file]\n", "failed", "is not there", "mount it"),
        ("a tar of which the half is there", "half.tar", "", "failed", "nor a whole tar", "unmount it"),
        ("a file that is spoilt", "spoilt", "", "failed", "is not what its name says", "another medium"),
        ("what is no repository at all", "ca.crt", "", "failed", "nor a whole tar", "selfright bundle")):
    code, answer, steps = doctor(fresh("doctor-stick"), f"folders: [{path(folder)}]\n{more}", site)
    check(f"the doctor looks at {what}", steps["file"]["verdict"] == verdict and word in steps["file"]["detail"] and
          advice in steps["file"].get("advice", "") and (answer.get("failed") == "file") == (verdict == "failed") and
          code == (verdict == "failed"), answer)
    check("... in its turn", answer["order"].index("file") < answer["order"].index("https"), answer)
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
          # Its alert may be lost behind the reset of a connection on which our CONNECT was never read.
          ("refused this node's certificate" in steps[answer["failed"]]["detail"] or
           "whether its certificate is the one that joined" in steps[answer["failed"]]["advice"]), answer)
    shutil.copy(path("node.crt.kept"), path("node.crt")), shutil.copy(path("node.key.kept"), path("node.key"))
if OWN_NETWORK:
    code, answer, steps = doctor("doctor-resolver", broker("broker.test", port), site)
    check("the doctor names a resolver that hangs", code == 1 and answer.get("failed") == "resolver" and
          "/etc/resolv.conf" in steps["resolver"].get("advice", ""), answer)

for what, change, at, word in (
        ("a snapshot that something changed", {"metadata/5.snapshot.json": published["metadata/5.snapshot.json"] + b" "}, "metadata/5.snapshot.json", "changes files"),
        ("a role that is not there", {"metadata/3.team-web.json": None}, "metadata/3.team-web.json", "copied whole"),
        ("a timestamp that is a web page", {"metadata/timestamp.json": b"<html>log in first</html>"}, "metadata/timestamp.json", "copied whole"),
        ("an artifact that is filtered out", {artifact_name: None}, artifact_name, "filter of types")):
    code, answer, steps = doctor(fresh("doctor-files"), broker("localhost", port),
                                 f"https://localhost:{Https('site', files={**published, **change}).port}/")
    check(f"the doctor names {what}", code == 1 and answer.get("failed") == "artifacts" and at in steps["artifacts"]["detail"] and
          word in steps["artifacts"]["advice"], answer)
code, answer, steps = doctor("doctor-etag", broker("localhost", port), f"https://localhost:{Https('site', files=published, etag=None).port}/")
check("the doctor notes a server without ETags", code == 0 and steps["artifacts"]["verdict"] == "note" and
      "start over" in steps["artifacts"]["detail"], answer)
code, answer, steps = doctor("doctor-empty", broker("localhost", port), "https://localhost:%d/" % Https("site", files={
    "metadata/timestamp.json": b'{"signed":{"meta":{"snapshot.json":{"version":1}}}}', "metadata/1.snapshot.json": b'{"signed":{"meta":{}}}'}).port)
check("the doctor has nothing to try where nothing is published", code == 0 and steps["artifacts"]["verdict"] == "note" and
      "no artifact is published" in steps["artifacts"]["detail"], answer)
code, answer, steps = doctor("doctor-mirror", broker("localhost", port) + "mirrors: ['https://127.0.0.1:1/']\n", site)
check("the doctor notes a mirror that is away", code == 0 and steps["mirror"]["verdict"] == "note" and
      "127.0.0.1" in steps["mirror"]["detail"], answer)
code, answer, steps = doctor("doctor-url", broker("localhost", port), site + "elsewhere/")
check("the doctor names an address where nothing is published", code == 1 and answer.get("failed") == "https" and
      "compare urls:" in steps["https"]["advice"], answer)


class Mute5(Mimic):
    """Takes the connection and answers no CONNECT; or refuses the node; or its subscriptions."""

    mood = "refuses"

    def on_connect(self, s, version):
        if self.mood == "refuses":
            s.sendall(packet(0x20, b"\0\x87\0" if version == 5 else b"\0\5"))
            return False
        return self.accept(s, version)


mimic = Mute5()
code, answer, steps = doctor("doctor-connack", broker("broker.test", mimic.port, AT_HOME), site)
check("the doctor names a CONNACK that refuses", code == 1 and answer.get("failed") == "connack" and
      "Not authorized" in steps["connack"]["detail"] and "ask the fleet team" in steps["connack"]["advice"], answer)
mimic = Mute5()
mimic.mood, mimic.granted = "grants nothing", 0x87
code, answer, steps = doctor("doctor-suback", broker("broker.test", mimic.port, AT_HOME), site)
check("the doctor names a SUBACK that refuses", code == 1 and answer.get("failed") == "suback" and
      "access list" in steps["suback"]["advice"], answer)
code, answer, steps = doctor("doctor-ticket", broker("localhost", port) + f"proxy: http://127.0.0.1:{Chooser(['Negotiate']).port}\n", site)
check("the doctor names a proxy that wants a ticket", code == 1 and answer.get("failed") == "proxy" and
      "client keytab" in steps["proxy"]["advice"], answer)

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

# --- a server that asks to be left alone ---
REPORT = 2


def report(link, sequence):
    link.send(REPORT, struct.pack(">Q", sequence) + b"{}")


busy, other = Https("site", busy="3600"), Https("site")
link = Link("busy", "poll: {without_broker: 8s}\n", url=busy.url)
answer = fetches(link)
check("a server that is busy is", answer[:4] != bytes(4) and b"answered 503" in answer and len(busy.asked) == 1, answer)
answer = fetches(link)
check("... and is left alone, which is said", b"asked to be left alone (Retry-After)" in answer and len(busy.asked) == 1, answer)
report(link, 1)
check("... with what it asked for: a report is something else",
      link.until(lambda: busy.asked[1:] == ["/v1/node/n1/report"], 30), busy.asked)
busy.busy = None
check("... for no longer than between two polls, if it asks for an hour",
      link.until(lambda: fetches(link)[:4] == bytes(4), 30), busy.asked)
check("... and the report goes there then", link.until(lambda: busy.asked.count("/v1/node/n1/report") > 1, 60), busy.asked)
link.end()
busy = Https("site", busy="3600")
link = Link("busy-other", f"mirrors: ['{busy.url}']\n", url=other.url)
check("a mirror that is busy is passed over", all(fetches(link, BY_HASH)[:4] == bytes(4) for _ in range(3)) and
      len(busy.asked) == 1, busy.asked)
link.end()
for words in ("-1", "0", "Thu, 01 Jan 1970 00:00:00 GMT", "tomorrow", "9" * 3000):
    busy = Https("site", busy=words)
    link = Link(fresh("busy-words"), "", url=busy.url)
    fetches(link), fetches(link)
    check(f"'{words[:30]}' asks for nothing", len(busy.asked) == 2, busy.asked)
    link.end()
busy = Https("site", busy="3600")
link = Link("busy-news", broker("broker.test", port, AT_HOME) + "roads: [https]\n", url=busy.url)
link.comes_up()
fetches(link), fetches(link)
before = len(busy.asked)
run("mosquitto_pub", "-h", "localhost", "-p", str(port), "--cafile", path("ca.crt"), "--cert", path("desk.crt"), "--key",
    path("desk.key"), "-q", "1", "-t", "selfright/v1/demo/node/n1/announce", "-m", "an order")
link.until(lambda: fetches(link)[:4] and len(busy.asked) > before)
check("news for this very node is worth one try", before == 1 and len(busy.asked) == 2, busy.asked)
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
link.send(RETRY)
link.comes_up()
stop(real, signal.SIGTERM)
check("a broker that is stopped in good order is noticed", link.until(lambda: not link.up), link.states[-3:])
check("... and said so, since 2.0.11 says nothing itself", "closed" in link.words or "lost" in link.words, link.words)
real = start_broker(port)
check("... and found again without being told", link.comes_up(), link.states[-3:])
stop(real)
check("the broker is killed: noticed", link.until(lambda: not link.up), link.states[-3:])
real = start_broker(port)
link_ends_up("... and found again without being told", link)

finish()
