#!/usr/bin/env python3
"""What tests of the real link process share: they play the engine to it, and the other ends of its roads."""
import atexit, glob, hashlib, http.server, json, os, random, re, resource, select, shutil, signal, socket, ssl, struct, subprocess, sys, tempfile, threading, time

BUILD = os.path.abspath(sys.argv[1])
OWN_NETWORK = "--own-network" in sys.argv
LINK = os.path.join(BUILD, "bin/selfright-link")
FETCH, REPORT, LEASE, ACKED, RETRY, FETCHED, ANNOUNCE, TIMESTAMP, ACK, GRANT, STATE, MISSED = 1, 2, 4, 5, 6, 16, 17, 18, 19, 20, 21, 27
TRIED, TRY, DOUBT = 28, 29, 30
SANITIZED = b"__asan_init" in open(LINK, "rb").read()
TMP = tempfile.mkdtemp(prefix="selfright-roads.")
os.chmod(TMP, 0o755)
count, failed, children, names = 0, 0, [], []


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


def fresh(prefix):
    """A name for another link."""
    names.append(prefix)
    return f"{prefix}-{len(names)}"


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
    # From below those that the system gives to whoever asks for any, or another test has it before its server starts.
    while True:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", random.randint(10000, 30000)))
                return s.getsockname()[1]
            except OSError:
                pass


def comes_to_stand_in(name, text):
    """In a log: a proxy writes of a connection when that has ended, which it learns a while after its ends."""
    end = time.monotonic() + 120
    while text not in open(path(name)).read():
        if time.monotonic() >= end:
            return False
        time.sleep(0.05)
    return True


def await_port(port, seconds=120):
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


def start_squid(name, auth, **more):
    port = free_port()
    folder = path(name)
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    write(f"{name}.conf",
          f"http_port 127.0.0.1:{port}\npid_filename {folder}/pid\ncache_log {folder}/cache.log\n"
          f"access_log stdio:{folder}/access.log\ncoredump_dir {folder}\ncache deny all\nshutdown_lifetime 0 seconds\n"
          f"{auth}\nacl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n"
          f"dns_nameservers 127.0.0.1\nvisible_hostname proxy.test\n")
    child = start("squid", "-N", "-f", path(f"{name}.conf"), log=f"{name}.log", **more)
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
    def __init__(self, name, config, floor=None, environment=None, keep=False, url="https://127.0.0.1:1/", memory=0):
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
            if memory:
                resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

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
        """`seconds` is what is usual, for whoever reads; a machine that does much else has two minutes."""
        end = time.monotonic() + max(seconds, 120)
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
            return self.child.wait(60)
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


AT_HOME = "addresses: [127.0.0.1], "

if OWN_NETWORK:
    run("ip", "link", "set", "lo", "up")
    run("mount", "-t", "tmpfs", "none", "/dev/shm")  # squid and libfaketime leave things there, by names that come again
make_ca("ca", "fleet CA")
make_ca("other", "Acme Firewall Inspection")
make_certificate("broker", "ca", "broker.test", "DNS:broker.test,DNS:localhost")
make_certificate("inspected", "other", "broker.test", "DNS:broker.test,DNS:localhost")
make_certificate("ended", "ca", "broker.test", "DNS:broker.test", (time.time() - 9 * 86400, time.time() - 86400))
make_certificate("young", "ca", "broker.test", "DNS:broker.test",
                 (time.time() + 5 * 86400, time.time() + 20 * 86400))
make_certificate("node", "ca", "n1")


class Https:
    """A repository of one file behind a certificate; it remembers what it was asked for."""

    def __init__(self, certificate, missing=False, files=None, etag='"1"', busy=None):
        asked = self.asked = []
        self.busy = busy  # the Retry-After of a 503 to everything
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                if site.busy is not None:
                    self.send_response(503)
                    self.send_header("Retry-After", site.busy)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = b"a file of the repository" if files is None else files.get(self.path.lstrip("/"))
                gone, body = missing or body is None, body or b""
                wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                self.send_response(404 if gone else 206 if wanted and etag else 200)
                if wanted and etag:
                    first, whole = int(wanted[1]), len(body)
                    self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
                    body = body[first:]
                if etag:
                    self.send_header("ETag", etag)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    if self.command == "GET":
                        self.wfile.write(body)
                except OSError:
                    pass

            do_HEAD = do_GET

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

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


def repository():
    """Files that name each other as those of a repository do; nobody here looks at signatures."""
    files = {}

    def put(name, text):
        digest = hashlib.sha256(text).hexdigest()
        files[name.replace("HASH", digest)] = text
        return digest

    document = lambda d: json.dumps(d).encode()
    artifact = os.urandom(400000)
    release = document({"artifacts": [{"path": "web/1.0.0/web.tar.zst", "length": len(artifact),
                                       "sha256": put("targets/web/1.0.0/HASH.web.tar.zst", artifact)}]})
    team = document({"signed": {"targets": {"web/policy.json": {}, "web/1.0.0/release.json": {
        "length": len(release), "hashes": {"sha256": put("targets/web/1.0.0/HASH.release.json", release)}}}}})
    meta = {"team-web.json": {"version": 3, "hashes": {"sha256": put("metadata/3.team-web.json", team)}}, "targets.json": {"version": 1}}
    snapshot = document({"signed": {"meta": meta}})
    put("metadata/timestamp.json", document({"signed": {"meta": {"snapshot.json": {
        "version": 5, "hashes": {"sha256": put("metadata/5.snapshot.json", snapshot)}}}}}))
    return files


class Desk:
    """What a controller answers to `get`: blocks of its files, over a broker where it has the certificates desk and desk-pub."""

    def __init__(self, port, files):
        self.port, self.files, self.silent = port, files, False
        for name in ("desk", "desk-pub"):
            make_certificate(name, "ca", name)
        argv = self.argv("mosquitto_sub", "desk") + ["-t", "selfright/v1/demo/node/+/get", "-F", "%t %x"]
        self.child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        children.append(self.child)
        threading.Thread(target=self.serve, daemon=True).start()

    def argv(self, program, name):
        return [program, "-h", "localhost", "-p", str(self.port), "--cafile", path("ca.crt"), "--cert", path(name + ".crt"),
                "--key", path(name + ".key"), "-q", "1"]

    def serve(self):
        for line in self.child.stdout:
            topic, text = line.split()
            asked = json.loads(bytes.fromhex(text))
            for bit in range(16):
                if asked["wanted"] >> bit & 1 and not self.silent:
                    self.answer(topic[:-3] + "blob", asked, asked["first"] + bit)

    def answer(self, topic, asked, index):
        data = self.files.get(asked["name"])
        head = {"format": 1, "id": asked["id"], "status": "ok" if data is not None else "not-found",
                "length": len(data or b""), "index": index if data is not None else 0}
        message = json.dumps(head).encode() + b"\n" + (data or b"")[index * 65536:(index + 1) * 65536]
        subprocess.run(self.argv("mosquitto_pub", "desk-pub") + ["-t", topic, "-s"], input=message, check=False)


def doctor(name, config, url="https://127.0.0.1:1/", connected=False, tried=None, environment=None):
    link = Link(name, config, url=url)
    link.child.kill()
    link.child.wait()
    argv = [LINK, "--config-dir", link.root, "--doctor", "--json"] + (["--connected"] if connected else []) + (
        ["--tried", tried if isinstance(tried, str) else json.dumps(tried)] if tried is not None else [])
    ended = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
                           env={"PATH": os.environ["PATH"], **(environment or {})})
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        answer = {"steps": [], "said": ended.stdout}
    answer["order"] = [s["step"] for s in answer["steps"]]
    return ended.returncode, answer, {s["step"]: s for s in answer["steps"]}


def finish():
    print(f"{count} checks, {'all passed' if not failed else 'SOME FAILED'}")
    sys.exit(1 if failed else 0)


# --- a broker that does what a test says ---

def variable(n):
    out = b""
    while True:
        n, byte = n >> 7, n & 127
        out += bytes([byte | (128 if n else 0)])
        if not n:
            return out


def packet(kind, body):
    return bytes([kind]) + variable(len(body)) + body


def text(s):
    s = s if isinstance(s, bytes) else s.encode()
    return struct.pack(">H", len(s)) + s


def publication(topic, payload, version=5):
    return packet(0x30, text(topic) + (b"\0" if version == 5 else b"") + payload)


class Mimic:
    """Speaks just enough MQTT over TLS to play a broker; each test overrides what it is about."""

    certificate, alpn, own_port = "broker", None, 0
    properties = b""  # of the CONNACK of MQTT 5
    granted = 1

    def __init__(self):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(path(self.certificate + ".crt"), path(self.certificate + ".key"))
        self.names, self.protocols = [], []
        self.context.sni_callback = lambda connection, name, _: self.names.append(name)
        if self.alpn:
            self.context.set_alpn_protocols(self.alpn)
        self.listener = socket.create_server(("127.0.0.1", self.own_port), backlog=16)
        self.port = self.listener.getsockname()[1]
        self.connects, self.published, self.seen = [], [], []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.guarded, args=(client,), daemon=True).start()

    def guarded(self, client):
        try:
            with self.context.wrap_socket(client, server_side=True) as s:
                self.protocols.append(s.selected_alpn_protocol())
                self.talk(s)
        except (OSError, EOFError, ValueError):
            pass

    def take(self, s, n):
        out = b""
        while len(out) < n:
            piece = s.recv(n - len(out))
            if not piece:
                raise EOFError
            out += piece
        return out

    def read(self, s):
        kind, length, shift = self.take(s, 1)[0], 0, 0
        while True:
            byte = self.take(s, 1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return kind, self.take(s, length)

    def talk(self, s):
        while True:
            kind, body = self.read(s)
            self.seen.append(kind & 0xf0)
            if kind & 0xf0 == 0x10:
                version = body[6]
                self.connects.append((version, body))
                if not self.on_connect(s, version):
                    return
            elif kind & 0xf0 == 0x80:
                self.on_subscribe(s, self.connects[-1][0], body)
            elif kind & 0xf0 == 0x30:
                self.on_publish(s, kind, body)
            elif kind & 0xf0 == 0xc0:
                s.sendall(packet(0xd0, b""))
            elif kind & 0xf0 == 0xe0:
                return

    def accept(self, s, version):
        s.sendall(packet(0x20, b"\0\0" + (variable(len(self.properties)) + self.properties if version == 5 else b"")))
        return True

    def on_connect(self, s, version):
        return self.accept(s, version)

    def on_subscribe(self, s, version, body):
        s.sendall(packet(0x90, body[:2] + (b"\0" if version == 5 else b"") + bytes([self.granted])))
        if b"/timestamp" in body or b"/certificate" in body:
            self.subscribed(s, version, body)

    def subscribed(self, s, version, body):
        pass

    def on_publish(self, s, kind, body):
        length = struct.unpack(">H", body[:2])[0]
        self.published.append((body[2:2 + length].decode(), body[2 + length:]))
        if kind & 6:
            s.sendall(packet(0x40, body[2 + length:4 + length]))
