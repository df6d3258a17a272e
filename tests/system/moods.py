#!/usr/bin/env python3
"""The real link process and a broker in every mood (MQTT.md 1.2, 1.3 and 5): one that a test plays, over real TLS."""
import gzip, json, os, re, select, sys, shutil, signal, socket, ssl, struct, subprocess, threading, time
from roads_lib import *

LONG = "--long" in sys.argv  # also what takes minutes: tests/nightly
TOPIC = "selfright/v1/demo/node/n1/"


def to(mimic, more=""):
    return broker("broker.test", mimic.port, AT_HOME + more)


# --- what takes a while begins first, and is looked at in the end ---

mute = socket.create_server(("127.0.0.1", 0), backlog=16)  # takes TCP, says nothing
silent = Link("silent", broker("broker.test", mute.getsockname()[1], AT_HOME))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
make_certificate("site", "ca", "localhost", "DNS:localhost")
context.load_cert_chain(path("site.crt"), path("site.key"))


class Site:
    """A controller that is reached by HTTPS: it says ACK to reports, and remembers what it was sent."""

    def __init__(self):
        posted = self.posted = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                posted.append(self.path)
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", "9")
                self.end_headers()
                self.wfile.write(b"by HTTPS!")

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"https://localhost:{server.server_address[1]}/"


class Lax(Mimic):
    """Content with a word a day, which what forgets connections on the way is not; then it falls silent."""

    properties = b"\x13\xff\xff"
    subscribed_to = 0

    def on_subscribe(self, s, version, body):
        self.subscribed_to += 1
        if self.subscribed_to <= 7 + 2:  # its topics, and two signs of life
            super().on_subscribe(s, version, body)


lax_broker = Lax()
lax = Link("lax", to(lax_broker, "keepalive: 5, "))
unheard_broker, unheard_site = Mimic(), Site()  # takes everything, and nobody is behind it
unheard = Link("unheard", to(unheard_broker), url=unheard_site.url)
unheard.comes_up()
unheard.send(REPORT, struct.pack(">Q", 7) + b"{}")
if OWN_NETWORK:
    run("ip", "link", "add", "name", "hole", "type", "veth", "peer", "name", "bottom")  # what goes there is swallowed
    run("ip", "link", "set", "hole", "arp", "off", "up")
    run("ip", "link", "set", "bottom", "up")
    run("ip", "addr", "add", "192.0.2.1/24", "dev", "hole")
    run("ip", "-6", "addr", "add", "2001:db8::1/64", "dev", "hole", "nodad")
    swallowed = Link("swallowed", broker("broker.test", 8883, "addresses: [192.0.2.7], "))
if OWN_NETWORK and LONG:
    # A broker whose address vanishes under a connection that stands.
    run("ip", "addr", "add", "198.51.100.1/32", "dev", "lo")
    away = free_port()
    start_broker(away, extra=f"listener {away} 198.51.100.1\ncafile {path('ca.crt')}\ncertfile {path('broker.crt')}\n"
                 f"keyfile {path('broker.key')}\nrequire_certificate true\n")
    vanished = Link("vanished", broker("broker.test", away, "keepalive: 240, addresses: [198.51.100.1], "))
    check("a connection to an address that is to vanish stands", vanished.comes_up(), vanished.states)
    run("ip", "addr", "del", "198.51.100.1/32", "dev", "lo")
    run("ip", "route", "add", "198.51.100.1/32", "dev", "hole")
    vanished.send(REPORT, struct.pack(">Q", 7) + b"{}")

# --- versions of the protocol ---


class Refuses5(Mimic):
    answer = b""

    def on_connect(self, s, version):
        if version == 5:
            s.sendall(self.answer)
            return False
        return self.accept(s, version)


for how, answer in (("in the words of 3.1.1", packet(0x20, b"\0\1")),
                    ("in those of MQTT 5", packet(0x20, b"\0\x84\0")),
                    ("by hanging up without a word, as RabbitMQ does", b"")):
    mimic = Refuses5()
    mimic.answer = answer
    link = Link(fresh("old"), to(mimic))
    check(f"a broker that refuses MQTT 5 {how}: 3.1.1 follows", link.comes_up() and "3.1.1" in link.words, link.states)
    first = [version for version, _ in mimic.connects]
    check("... after MQTT 5 was asked first", first[0] == 5 and first[-1] == 4, first)
    link.end()


class Turns(Mimic):
    """Knows 3.1.1 only at first, then is updated."""

    updated = False

    def on_connect(self, s, version):
        self.connection = s
        if version == 5 and not self.updated:
            return False
        return self.accept(s, version)


mimic = Turns()
link = Link("updated", to(mimic))
check("a broker that knows 3.1.1 only", link.comes_up() and "3.1.1" in link.words, link.states)
mimic.updated = True
mimic.connection.shutdown(socket.SHUT_RDWR)
check("is updated: the next connection is MQTT 5", link.until(lambda: (True, "MQTT 5") in link.states), link.states)
link.end()

# --- what is said in the CONNECT ---


def parse_connect(body):
    """The fields of an MQTT 5 CONNECT that tests look at."""
    flags, keepalive = body[7], struct.unpack(">H", body[8:10])[0]

    def properties(at):
        end, out = at + 1 + body[at], {}
        at += 1
        while at < end:
            size = {0x11: 4, 0x27: 4, 0x21: 2, 0x18: 4, 0x22: 2, 0x01: 1, 0x02: 4}[body[at]]
            out[body[at]] = int.from_bytes(body[at + 1:at + 1 + size], "big")
            at += 1 + size
        return out, end

    def string(at):
        n = struct.unpack(">H", body[at:at + 2])[0]
        return body[at + 2:at + 2 + n], at + 2 + n

    own, at = properties(10)
    ident, at = string(at)
    will, at = properties(at)
    topic, at = string(at)
    payload, at = string(at)
    return {"flags": flags, "keepalive": keepalive, "own": own, "id": ident, "will": will, "topic": topic.decode(),
            "payload": json.loads(payload)}


mimic = Mimic()
link = Link("connect", to(mimic))
link.comes_up()
link.until(lambda: any(topic == TOPIC + "presence" for topic, _ in mimic.published))
said = parse_connect(mimic.connects[-1][1])
check("the session is kept for an hour and not begun anew, and packets have a limit",
      said["own"].get(0x11) == 3600 and said["own"].get(0x27) == 262144 and not said["flags"] & 2, said)
check("the keepalive is 60 s where none is given", said["keepalive"] == 60, said)
check("the will is retained, QoS 1, waits 90 s and says offline", said["flags"] & 0x3c == 0x2c and
      said["will"].get(0x18) == 90 and said["topic"] == TOPIC + "presence" and said["payload"]["online"] is False, said)
birth = json.loads(next(p for t, p in mimic.published if t == TOPIC + "presence")[3:])
check("the birth has the will's number", birth["online"] is True and birth["counter"] == said["payload"]["counter"], birth)
check("the broker saw its own name, not the relay's socket", mimic.names and set(mimic.names) == {"broker.test"}, mimic.names)
link.child.send_signal(signal.SIGTERM)
link.child.wait(20)
end = time.monotonic() + 20  # the other side reads when it comes to it
while mimic.seen[-1] != 0xe0 and time.monotonic() < end:
    time.sleep(0.02)
last = json.loads(mimic.published[-1][1][3:])
check("a link that leaves says so: presence is offline, with the same number",
      mimic.published[-1][0] == TOPIC + "presence" and last["online"] is False and
      last["counter"] == said["payload"]["counter"] and mimic.seen[-1] == 0xe0, (last, mimic.seen))

# --- refusals, in words ---


class Refuses(Mimic):
    code, words = 0, b""

    def on_connect(self, s, version):
        if version == 5:
            s.sendall(packet(0x20, bytes([0, self.code]) + variable(len(self.words)) + self.words))
        else:
            s.sendall(packet(0x20, bytes([0, self.code])))
        return False


for code, words, more in (
        (0x80, "Unspecified error", b""), (0x81, "Malformed packet", b""), (0x82, "Protocol error", b""),
        (0x83, "Implementation specific error", b""), (0x85, "Client identifier not valid", b""),
        (0x86, "Bad User Name or Password", b""), (0x87, "Not authorized", b""), (0x88, "Server unavailable", b""),
        (0x89, "Server busy", b""), (0x8a, "Banned", b""), (0x8c, "Bad authentication method", b""),
        (0x95, "Packet too large", b""), (0x97, "Quota exceeded", b""),
        (0x9c, "Use another server (b2.test:8883)", b"\x1c" + text("b2.test:8883")),
        (0x9d, "Server moved (elsewhere.test)", b"\x1c" + text("elsewhere.test")),
        (0x9f, "Connection rate exceeded", b""), (0x87, "(this node is suspended)", b"\x1f" + text("this node is suspended"))):
    mimic = Refuses()
    mimic.code, mimic.words = code, more
    link = Link(fresh("refused"), to(mimic))
    check(f"refused with {code:#x}: '{words}'", link.says("the broker refused: ") and
          any(words.lower() in w.lower() for _, w in link.states), link.states)
    link.end()


class Ends(Mimic):
    code = 0

    def on_publish(self, s, kind, body):
        super().on_publish(s, kind, body)
        s.sendall(packet(0xe0, bytes([self.code, 0])))


for code, words in ((0x8e, "another client took over this id: is this node's image cloned?"),
                    (0x8b, "the broker ended the connection: Server shutting down"),
                    (0x98, "the broker ended the connection: Administrative action"),
                    (0x93, "the broker ended the connection: Receive maximum exceeded")):
    mimic = Ends()
    mimic.code = code
    link = Link(fresh("ended"), to(mimic))
    check(f"ended with {code:#x}: '{words}'", link.until(lambda: any(words.lower() in w.lower() for _, w in link.states)), link.states)
    link.end()



class Leaves(Mimic):
    """Is stopped in good order, once: says so, and closes."""

    left = False

    def on_publish(self, s, kind, body):
        super().on_publish(s, kind, body)
        if not self.left:
            self.left = True
            s.sendall(packet(0xe0, b"\x8b\0"))
            raise EOFError


mimic = Leaves()
link = Link("leaves", to(mimic))
check("a broker that says it is shutting down and closes is quoted, and found again", link.until(
    lambda: mimic.left and link.up and len(mimic.connects) > 1) and any("Server shutting down" in w for _, w in link.states), link.states)
link.end()
mimic = Mimic()
mimic.granted = 0x87
link = Link("not-granted", to(mimic))
link_says("a subscription that is refused is named", link, "a subscription was refused: Not authorized")


class Denies(Mimic):
    def on_publish(self, s, kind, body):
        length = struct.unpack(">H", body[:2])[0]
        s.sendall(packet(0x40, body[2 + length:4 + length] + b"\x87\0"))


mimic = Denies()
link = Link("denied", to(mimic))
link.comes_up()
link.send(REPORT, struct.pack(">Q", 7) + b"{}")
check("a report that the broker refuses is told", link.until(
    lambda: f"the broker refused a message: topic={TOPIC}report reason='Not authorized" in open(path(link.log)).read()),
      open(path(link.log)).read())
check("... and the report is kept", link.until(lambda: os.path.exists(path("denied/outbox/report"))))
link.end()

# --- much at once ---


class Record(Mimic):
    """Everything behind the last SUBACK in one TLS record: as much of each topic as is handed over at once."""

    def subscribed(self, s, version, body):
        if b"/certificate" in body:
            s.sendall(b"".join(publication(topic, payload % i) for i in range(20) for topic, payload in (
                (TOPIC + "ack", b"ack %d"), (TOPIC + "grant", b"grant %d"), ("selfright/v1/demo/timestamp", b"timestamp %d"))) +
                b"".join(publication(topic, gzip.compress(b"%d" % i)) for i in range(20) for topic in (
                    TOPIC + "announce", "selfright/v1/demo/announce")))


mimic = Record()
link = Link("record", to(mimic))
came = lambda: [p for k, p in link.frames if k in (ACK, GRANT, TIMESTAMP, ANNOUNCE)]
link.until(lambda: len(came()) >= 100, 50)
check("100 messages in one TLS record all arrive long before the next ping", len(came()) == 100 and
      0xc0 not in mimic.seen, f"{len(came())} {mimic.seen[-4:]}")
link.end()


class Big(Mimic):
    """As much as MQTT can say in one packet, whatever was asked for."""

    sent = 0

    def subscribed(self, s, version, body):
        if b"/certificate" in body:
            s.sendall(b"\x30" + variable(268435455) + text(TOPIC + "announce") + b"\0")
            piece = bytes(1 << 20)
            for _ in range(255):
                s.sendall(piece)
                self.sent += len(piece)


peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{link.child.pid}/status").read())[1]) / 1024
for what, limit, words in (("", 0, "larger than was asked for"), (", also under the limit that the agent sets", 512 << 20, "larger than was asked for")):
    if limit and SANITIZED:
        continue
    mimic = Big()
    link = Link(fresh("big"), to(mimic), memory=limit)
    check("a packet of 256 MB ends the connection and nothing else" + what, link.says(words), f"{link.states}")
    check("... is not taken into memory", peak() < 100, f"{peak()} MiB")
    check("... and the link tries again", link.until(lambda: len(mimic.connects) > 1), link.states)
    link.end()


class Twice(Mimic):
    """Messages of QoS 2, which nobody asked for, and never the word that they are complete: a client keeps them."""

    sent, answered = 0, 0

    def subscribed(self, s, version, body):
        if b"/certificate" in body:
            for i in range(1, 65536):
                s.sendall(packet(0x34, text(TOPIC + "announce") + struct.pack(">H", i) + b"\0" + bytes(10000)))
                self.sent += 10000


mimic = Twice()
link = Link("twice", to(mimic))
check("messages that are never complete end the connection", link.says("protocol error"), link.states)
check("... before much of them is in memory", peak() < 100, f"{peak()} MiB")
link.end()


class Noise(Mimic):
    """Announcements as many as it can: none that is one, then some that could be."""

    def subscribed(self, s, version, body):
        if b"/certificate" in body:
            for _ in range(3000):
                s.sendall(publication(TOPIC + "announce", b"no gzip"))
            for i in range(3000):
                s.sendall(publication("selfright/v1/demo/announce", gzip.compress(b'{"number":%d}' % i)))
            s.sendall(publication(TOPIC + "ack", b"at last"))


mimic = Noise()
link = Link("noise", to(mimic))
link.until(lambda: (ACK, b"at last") in link.frames)
lines = open(path(link.log)).read().count("link-announcement")
check("a broker that sends rubbish does not fill the log", (ACK, b"at last") in link.frames and 0 < lines < 300, lines)
announced = lambda: [p for k, p in link.frames if k == ANNOUNCE]
check("... nor keep the engine busy, which gets the newest", link.until(lambda: announced()[-1:] == [b'{"number":2999}']) and
      20 <= len(announced()) < 1000, (len(announced()), announced()[-3:]))
missed = lambda: sum(k == MISSED for k, p in link.frames)
check("... and hears that there was more", link.until(lambda: missed() > 0) and missed() < 1000, missed())
link.end()


class Repeats(Mimic):
    """News among what was said before, as a bridge that goes round or a session that is taken up again has it."""

    many = 0

    def subscribed(self, s, version, body):
        if b"/certificate" in body:
            old = b"".join(publication(TOPIC + "announce", gzip.compress(b'{"number":%d}' % i)) for i in range(self.many))
            s.sendall(old + publication(TOPIC + "announce", gzip.compress(b"news")) + old + publication(TOPIC + "ack", b"at last"))


for many, what in ((9, "what was handed over whole is no loss"), (30, "news that were passed over are asked for")):
    mimic = Repeats()
    mimic.many = many
    link = Link(f"repeats-{many}", to(mimic))
    link.until(lambda: (ACK, b"at last") in link.frames and len(announced()) >= 19)
    if many > 9:
        link.until(missed)
    else:
        for _ in range(20):  # what would come comes with what is handed over next, half a second apart
            link.step(0.1)
    check(f"{what}: {many} old ones on both sides", bool(missed()) == (many > 9) and
          ((ANNOUNCE, b"news") in link.frames) == (many <= 9), (missed(), len(announced())))
    link.end()


class Garbage(Mimic):
    what = b""

    def subscribed(self, s, version, body):
        if b"/certificate" in body:
            s.sendall(self.what)


for what, bytes_ in (("no packet of MQTT", b"HTTP/1.1 400 Bad Request\r\n\r\n"), ("a length without end", b"\x30\xff\xff\xff\xff\xff"),
                     ("a topic longer than its packet", b"\x30\x04\xff\xff\0\0"), ("an empty topic", b"\x30\x03\0\0\0"),
                     ("an acknowledgement of nothing", packet(0x40, b"\x12\x34")),
                     ("a topic nobody asked for", publication("x/y", b"z"))):
    mimic = Garbage()
    mimic.what = bytes_
    link = Link(fresh("garbage"), to(mimic))
    link.comes_up()
    link.send(REPORT, struct.pack(">Q", 7) + b"{}")
    check(f"{what}: survived, and the report goes out", link.until(
        lambda: any(t == TOPIC + "report" for t, _ in mimic.published)), link.states)
    check("... and it ends in good order", link.end() == 0)


class Keepalive(Mimic):
    properties = b"\x13\0\2"  # server keep alive: 2 s


mimic = Keepalive()
link = Link("keepalive", to(mimic))
check("a broker that wants to hear us more often does", link.until(lambda: mimic.seen.count(0xc0) >= 2, 50), mimic.seen)
link.end()


class OneByOne(Mimic):
    """Takes one message at a time, and none over 2 KiB."""

    properties = b"\x21\0\1" + b"\x27" + struct.pack(">I", 2048)
    waiting, most, lock = 0, 0, threading.Lock()

    def on_publish(self, s, kind, body):
        length = struct.unpack(">H", body[:2])[0]
        self.published.append((body[2:2 + length].decode(), body[2 + length:]))
        if not kind & 6:
            return
        with self.lock:
            self.waiting += 1
            self.most = max(self.most, self.waiting)

        def answer():
            with self.lock:
                self.waiting -= 1
            try:
                s.sendall(packet(0x40, body[2 + length:4 + length]))
            except OSError:
                pass

        threading.Timer(0.1, answer).start()


EVENT = 3
mimic = OneByOne()
link = Link("one", to(mimic))
link.comes_up()
for i in range(8):
    link.send(EVENT, b'{"component":"web","update":"u","state":"s%d"}' % i)
events = lambda: [p for t, p in mimic.published if t == TOPIC + "event"]
check("a broker that takes one message at a time gets all of them so", link.until(lambda: len(events()) >= 8) and
      mimic.most == 1, f"{len(events())} {mimic.most}")
link.end()
large_site = Site()
link = Link("large", to(mimic), url=large_site.url)
link.comes_up()
link.send(REPORT, struct.pack(">Q", 7) + b'{"x":"' + b"y" * 4096 + b'"}')
check("a report that is too large for this broker goes by HTTPS", link.until(
    lambda: "/v1/node/n1/report" in large_site.posted), large_site.posted)
link.end()

# --- port 443 ---


class Alpn(Mimic):
    alpn = ["mqtt"]


if OWN_NETWORK:
    Alpn.own_port = 443
mimic = Alpn()
link = Link("alpn", broker("broker.test", mimic.port, AT_HOME + ("" if OWN_NETWORK else "alpn: mqtt, ")))
check("on port 443 the protocol is agreed on by ALPN", link.comes_up() and mimic.protocols == ["mqtt"], mimic.protocols)
link.end()


class OtherAlpn(Mimic):
    alpn = ["x-amzn-mqtt-ca"]


mimic = OtherAlpn()
link = Link("alpn-other", to(mimic, "alpn: x-amzn-mqtt-ca, "))
check("... or by the name that is configured", link.comes_up() and mimic.protocols == ["x-amzn-mqtt-ca"], mimic.protocols)
link.end()
mimic = Mimic()
link = Link("alpn-none", to(mimic))
check("... and is not offered elsewhere", link.comes_up() and mimic.protocols == [None], mimic.protocols)
link.end()

# --- IPv6 that leads nowhere, and IPv4 that does ---
if OWN_NETWORK:
    real = free_port()
    start_broker(real, extra=f"listener {real} ::1\ncafile {path('ca.crt')}\ncertfile {path('broker.crt')}\n"
                 f"keyfile {path('broker.key')}\nrequire_certificate true\nuse_identity_as_username true\n")
    syns = lambda: int(open("/sys/class/net/hole/statistics/tx_packets").read())
    for what, addresses in (("IPv6 is swallowed", "'2001:db8::7', 127.0.0.1"), ("IPv4 is swallowed", "192.0.2.8, '::1'"),
                            ("the first of two is swallowed", "192.0.2.8, 127.0.0.1")):
        link = Link(fresh("race"), broker("broker.test", real, f"addresses: [{addresses}], "))
        check(f"{what}: the other one is taken", link.comes_up() and link.states[-1] == (True, "MQTT 5") and
              not any("firewall" in w for _, w in link.states), link.states)
        link.end()
    run("mount", "--bind", write("hosts", "127.0.0.1 localhost\n2001:db8::7 broker.test\n127.0.0.1 broker.test\n"), "/etc/hosts")
    link = Link("race-named", broker("broker.test", real))
    link_ends_up("... also where a resolver names both", link)
    kept = open(path("race-named/outbox/addresses")).read()
    check("... and what answered is kept first", kept.startswith("broker.test 127.0.0.1"), kept)
    run("umount", "/etc/hosts")

# --- nobody there: the link does not spin ---
closed = Link("closed", broker("broker.test", free_port(), AT_HOME))
closed.until(lambda: len(closed.states) >= 4)
ticks = sum(int(n) for n in open(f"/proc/{closed.child.pid}/stat").read().rsplit(")", 1)[1].split()[11:13])
check("a port that is closed costs no processor", ticks < 100, f"{ticks} hundredths of a second, {closed.states}")
closed.end()

# --- what took a while ---
check("a peer that takes TCP and never says a word is given up and named", silent.says("no answer", 60), silent.states)
silent.end()
check("a broker that is content with less is asked for a sign of life all the same, and given up when it gives none",
      lax.until(lambda: any("nothing was heard" in w for _, w in lax.states), 60) and lax.states[0][0] and
      lax_broker.subscribed_to > 7 + 2, (lax_broker.subscribed_to, lax.states))
lax.end()
check("what a broker takes and nobody acknowledges goes by HTTPS as well", unheard.until(
    lambda: (ACK, b"by HTTPS!") in unheard.frames, 90), (unheard_site.posted, unheard.states))
before = len(unheard_site.posted)
unheard.send(ACKED, struct.pack(">Q", 7))
unheard.send(REPORT, struct.pack(">Q", 8) + b"{}")
check("... the next one at once, by both", unheard.until(lambda: len(unheard_site.posted) > before) and unheard.until(
    lambda: [t for t, _ in unheard_broker.published].count(TOPIC + "report") >= 3), (unheard_site.posted, unheard_broker.published))
unheard.send(LEASE, b"{}")
check("... and a request for a lease", unheard.until(lambda: "/v1/node/n1/lease" in unheard_site.posted), unheard_site.posted)
unheard.end()
if OWN_NETWORK:
    check("a firewall that swallows is given up and named", swallowed.says("in 10000 ms: a firewall?", 60), swallowed.states)
    swallowed.end()
if OWN_NETWORK and LONG:
    check("a road that died in silence is noticed by what is not acknowledged", vanished.until(lambda: not vanished.up, 150),
          vanished.states)
    check("... and named", vanished.says("nothing was acknowledged for 90 s: the road is dead", 1), vanished.states)
    vanished.end()
finish()
