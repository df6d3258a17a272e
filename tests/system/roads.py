#!/usr/bin/env python3
"""The real link process, played an engine by this program, on every road there is to a real mosquitto."""
import atexit, glob, http.server, json, os, select, shutil, signal, socket, ssl, struct, subprocess, sys, tempfile, threading, time

BUILD = os.path.abspath(sys.argv[1])
OWN_NETWORK = "--own-network" in sys.argv
LINK = os.path.join(BUILD, "bin/selfright-link")
FETCH, REPORT, RETRY, FETCHED, ACK, STATE = 1, 2, 6, 16, 19, 21
TMP = tempfile.mkdtemp(prefix="selfright-roads.")
os.chmod(TMP, 0o755)
count, failed, children = 0, 0, []


def clean():
    for child in children:
        if child.poll() is None:
            child.kill()
            child.wait()
    if not os.environ.get("KEEP"):
        shutil.rmtree(TMP, ignore_errors=True)


atexit.register(clean)


def check(sentence, fine, detail=""):
    global count, failed
    count += 1
    print(f"{'ok' if fine else 'not ok'} {count} - {sentence}", flush=True)
    if not fine:
        failed += 1
        print("    " + str(detail).replace("\n", "\n    "), flush=True)


def path(name):
    return os.path.join(TMP, name)


def write(name, text, mode=0o644):
    with open(path(name), "w") as f:
        f.write(text)
    os.chmod(path(name), mode)
    return path(name)


def run(*argv, **more):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more).stdout


def start(*argv, log, **more):
    child = subprocess.Popen(argv, stdout=open(path(log), "ab"), stderr=subprocess.STDOUT, **more)
    children.append(child)
    return child


def stop(child, sig=signal.SIGKILL):
    if child.poll() is None:
        child.send_signal(sig)
    child.wait()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def await_port(port, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


# --- certificates ---

def make_ca(name, subject):
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
        "-subj", f"/CN={subject}", "-keyout", path(name + ".key"), "-out", path(name + ".crt"))


def make_certificate(name, ca, subject, alt=None, dates=None):
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={subject}",
        "-keyout", path(name + ".key"), "-out", path(name + ".csr"))
    write("ext", f"subjectAltName={alt}\n" if alt else "basicConstraints=CA:FALSE\n")
    write("ca.conf", f"[ca]\ndefault_ca=c\n[c]\ndatabase={path('index')}\nnew_certs_dir={TMP}\nserial={path('serial')}\n"
          "default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n")
    write("index", "")
    write("serial", "%04x\n" % (int(time.monotonic() * 1000) & 0xffff | 0x1000))
    start_date, end_date = dates or (time.time() - 86400, time.time() + 20 * 86400)
    stamp = lambda t: time.strftime("%Y%m%d%H%M%SZ", time.gmtime(t))
    run("openssl", "ca", "-batch", "-config", path("ca.conf"), "-cert", path(ca + ".crt"), "-keyfile",
        path(ca + ".key"), "-in", path(name + ".csr"), "-out", path(name + ".crt"), "-extfile", path("ext"),
        "-startdate", stamp(start_date), "-enddate", stamp(end_date), "-notext")
    os.chmod(path(name + ".key"), 0o644)


# --- the other ends ---

def start_broker(port, certificate="broker", extra=""):
    write(f"mosquitto-{port}.conf",
          f"listener {port} 127.0.0.1\ncafile {path('ca.crt')}\ncertfile {path(certificate + '.crt')}\n"
          f"keyfile {path(certificate + '.key')}\nrequire_certificate true\nuse_identity_as_username true\n"
          f"use_username_as_clientid true\nallow_anonymous true\nlog_type all\n"
          f"{'user root' if os.getuid() == 0 else ''}\n{extra}\n")
    broker = start("mosquitto", "-c", path(f"mosquitto-{port}.conf"), log=f"mosquitto-{port}.log")
    await_port(port)
    return broker


def start_squid(name, auth):
    port = free_port()
    folder = path(name)
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    write(f"{name}.conf",
          f"http_port 127.0.0.1:{port}\npid_filename {folder}/pid\ncache_log {folder}/cache.log\n"
          f"access_log stdio:{folder}/access.log\ncoredump_dir {folder}\ncache deny all\nshutdown_lifetime 0 seconds\n"
          f"{auth}\nacl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n"
          f"dns_nameservers 127.0.0.1\nvisible_hostname proxy.test\n")
    child = start("squid", "-N", "-f", path(f"{name}.conf"), log=f"{name}.log")
    await_port(port)
    return child, port


def start_tinyproxy(ports):
    port = free_port()
    write("tinyproxy.conf", f"Port {port}\nListen 127.0.0.1\nTimeout 600\nBasicAuth joe secret\nMaxClients 20\n" +
          "".join(f"ConnectPort {p}\n" for p in ports))
    child = start("tinyproxy", "-d", "-c", path("tinyproxy.conf"), log="tinyproxy.log")
    await_port(port)
    return child, port


def pump(a, b, cut=None):
    """Bytes both ways until an end, or until `cut` is set."""
    try:
        while True:
            ready, _, _ = select.select([a, b], [], [], 0.05)
            if cut and cut.is_set():
                break
            for s in ready:
                data = s.recv(65536)
                if not data:
                    return
                (b if s is a else a).sendall(data)
    except OSError:
        pass
    finally:
        a.close()
        b.close()


class Socks5:
    """One that wants a user, resolves names itself and remembers what it was asked for."""

    def __init__(self):
        self.asked = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.one, args=(client,), daemon=True).start()

    def one(self, client):
        need = lambda n: client.recv(n, socket.MSG_WAITALL)
        need(need(2)[1])
        client.sendall(b"\x05\x02")
        need(1)
        user = need(need(1)[0])
        password = need(need(1)[0])
        client.sendall(b"\x01" + (b"\x00" if (user, password) == (b"joe", b"secret") else b"\x01"))
        head = need(4)
        if len(head) < 4 or head[3] != 3:
            client.close()
            return
        host = need(need(1)[0]).decode()
        port = struct.unpack(">H", need(2))[0]
        self.asked.append((host, port))
        client.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        pump(client, socket.create_connection(("127.0.0.1", port)))


class Front:
    """A plain forwarder whose connections can be cut, held or reset."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.cut = threading.Event()
        self.connections = 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            self.connections += 1
            self.cut.clear()
            threading.Thread(target=pump, args=(client, socket.create_connection(("127.0.0.1", self.target)), self.cut),
                             daemon=True).start()


# --- the engine's side of the link ---

class Link:
    def __init__(self, name, config, floor=None, environment=None, keep=False, url="https://127.0.0.1:1/"):
        self.root = path(name)
        if not keep:
            os.mkdir(self.root)
            os.mkdir(os.path.join(self.root, "outbox"), 0o700)
        text = f"fleet: demo\nnode: n1\nroot: {self.root}\nrun: {self.root}\nurls: [{url}]\n{config}"
        write(f"{name}/agent.yaml", text, 0o600)
        for source, target in (("ca.crt", "ca.crt"), ("node.crt", "transport.crt"), ("node.key", "transport.key")):
            shutil.copy(path(source), os.path.join(self.root, target))
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        argv = [LINK, "--config-dir", self.root]
        if floor is not None:
            argv += ["--time-floor", str(floor)]
        env = {"PATH": os.environ["PATH"], **(environment or {})}

        def place():
            os.dup2(fd, 3, inheritable=True)

        self.log = f"{name}.log"
        self.child = subprocess.Popen(argv, preexec_fn=place, close_fds=False, env=env,
                                      stdout=open(path(self.log), "ab"), stderr=subprocess.STDOUT)
        children.append(self.child)
        theirs.close()
        self.socket = ours
        self.buffer = b""
        self.words = ""
        self.up = False
        self.states, self.frames = [], []

    def send(self, kind, payload=b"", ident=0):
        self.socket.sendall(struct.pack(">IHI", 6 + len(payload), kind, ident) + payload)

    def step(self, seconds):
        ready, _, _ = select.select([self.socket], [], [], seconds)
        if not ready:
            return
        data = self.socket.recv(65536)
        if not data:
            raise SystemExit("the link is gone: " + open(path(self.log)).read()[-2000:])
        self.buffer += data
        while len(self.buffer) >= 10:
            length, kind, _ = struct.unpack(">IHI", self.buffer[:10])
            if len(self.buffer) < 4 + length:
                break
            payload, self.buffer = self.buffer[10:4 + length], self.buffer[4 + length:]
            self.frames.append((kind, payload))
            if kind == STATE:
                self.up, self.words = payload[0] == 1, payload[1:].decode()
                self.states.append((self.up, self.words))

    def until(self, condition, seconds=40):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= end:
                return False
            self.step(0.1)
        return True

    def comes_up(self, seconds=40):
        return self.until(lambda: self.up, seconds)

    def says(self, text, seconds=40):
        return self.until(lambda: any(text in words for _, words in self.states), seconds)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))

    def resident(self):
        for line in open(f"/proc/{self.child.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        return 0

    def end(self):
        self.socket.close()
        try:
            return self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return None


def link_ends_up(sentence, link, text="MQTT 5"):
    check(sentence, link.comes_up() and text in link.words, f"{link.states}\n{open(path(link.log)).read()[-1500:]}")
    check("... and leaves in good order", link.end() == 0)


def link_says(sentence, link, text):
    check(sentence, link.says(text), f"wanted '{text}' in {link.states}")
    link.end()


RETRY_FAST = "retry: {base: 1, cap: 1, refused: 2, spread: 1}"


def broker(host, port, more=""):
    return f"broker: {{host: {host}, port: {port}, {more}{RETRY_FAST}}}\n"


if OWN_NETWORK:
    run("ip", "link", "set", "lo", "up")
make_ca("ca", "fleet CA")
make_ca("other", "Acme Firewall Inspection")
make_certificate("broker", "ca", "broker.test", "DNS:broker.test,DNS:localhost")
make_certificate("inspected", "other", "broker.test", "DNS:broker.test,DNS:localhost")
make_certificate("ended", "ca", "broker.test", "DNS:broker.test", (time.time() - 9 * 86400, time.time() - 86400))
make_certificate("young", "ca", "broker.test", "DNS:broker.test",
                 (time.time() + 5 * 86400, time.time() + 20 * 86400))
make_certificate("node", "ca", "n1")
port = free_port()
real = start_broker(port)
AT_HOME = "addresses: [127.0.0.1], "

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


class Https:
    """A repository of one file behind a certificate; it remembers what it was asked for."""

    def __init__(self, certificate, missing=False):
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                body = b"a file of the repository"
                self.send_response(404 if missing else 200)
                self.send_header("ETag", '"1"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path(certificate + ".crt"), path(certificate + ".key"))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.port = server.server_address[1]
        self.url = f"https://localhost:{self.port}/"
        threading.Thread(target=server.serve_forever, daemon=True).start()


def fetches(link, name="metadata/timestamp.json"):
    link.frames.clear()
    link.send(FETCH, struct.pack(">Q", 1000) + name.encode(), 7)
    link.until(lambda: any(kind == FETCHED for kind, _ in link.frames))
    return next((payload for kind, payload in link.frames if kind == FETCHED), b"")


make_certificate("young-site", "ca", "localhost", "DNS:localhost", (time.time() + 5 * 86400, time.time() + 20 * 86400))
make_certificate("ended-site", "ca", "localhost", "DNS:localhost", (time.time() - 9 * 86400, time.time() - 86400))
faketime = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
# A sanitizer's runtime must be loaded first, which a preloaded library prevents.
if faketime and b"__asan_init" not in open(LINK, "rb").read():
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


def doctor(name, config, url="https://127.0.0.1:1/", connected=False):
    link = Link(name, config, url=url)
    link.child.kill()
    link.child.wait()
    argv = [LINK, "--config-dir", link.root, "--doctor", "--json"] + (["--connected"] if connected else [])
    ended = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
                           env={"PATH": os.environ["PATH"]})
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        answer = {"steps": [], "said": ended.stdout}
    return ended.returncode, answer, {s["step"]: s for s in answer["steps"]}


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

print(f"{count} checks, {'all passed' if not failed else 'SOME FAILED'}")
sys.exit(1 if failed else 0)
