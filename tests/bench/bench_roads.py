"""The measuring part of bench_roads.sh: plays the engine to a real link."""
import http.client, json, os, re, select, signal, socket, statistics, struct, subprocess, sys, time

bin_dir, etc, fleet, idle_seconds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
REPORT, SAVE, SAVED, STATE = 2, 13, 22, 21


class Link:
    def __init__(self):
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        self.child = subprocess.Popen([bin_dir + "/selfright-link", "--config-dir", etc], close_fds=False,
                                      preexec_fn=lambda: os.dup2(fd, 3, inheritable=True), stderr=subprocess.DEVNULL)
        theirs.close()
        self.socket, self.buffer, self.up = ours, b"", False

    def send(self, kind, payload, ident=1):
        self.socket.sendall(struct.pack(">IHI", 6 + len(payload), kind, ident) + payload)

    def frames(self, seconds):
        if select.select([self.socket], [], [], seconds)[0]:
            self.buffer += self.socket.recv(1 << 20)
        while len(self.buffer) >= 10 and len(self.buffer) >= 4 + struct.unpack(">I", self.buffer[:4])[0]:
            length, kind, _ = struct.unpack(">IHI", self.buffer[:10])
            payload, self.buffer = self.buffer[10:4 + length], self.buffer[4 + length:]
            if kind == STATE:
                self.up = payload[0] == 1
            yield kind, payload

    def until(self, condition, seconds=120):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                sys.exit("it never came")
            for _ in self.frames(0.5):
                pass

    def memory(self):
        text = open(f"/proc/{self.child.pid}/smaps_rollup").read()
        get = lambda name: int(re.search(name + r":\s+(\d+)", text)[1]) / 1024
        return get("Rss"), get("Pss"), get("Private_Dirty") + get("Private_Clean")

    def wakeups(self):
        tasks = f"/proc/{self.child.pid}/task"
        return sum(int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", open(f"{tasks}/{t}/status").read())[1])
                   for t in os.listdir(tasks))

    def bytes(self):
        out = subprocess.run(["ss", "-tinpH"], capture_output=True, text=True).stdout.split("\n")
        for i, line in enumerate(out):
            if f"pid={self.child.pid}," in line:
                info = out[i + 1]
                return sum(int(m) for m in re.findall(r"bytes_(?:acked|received):(\d+)", info)), \
                    sum(int(m) for m in re.findall(r"segs_(?:out|in):(\d+)", info))
        return 0, 0


outbox = re.search(r"^root: ['\"]?([^'\"\n]+)", open(etc + "/agent.yaml").read(), re.M)[1] + "/outbox"
# What the agent left waits for an acknowledgement that nobody here would verify, and would be sent again and again.
for left in ("report", "events"):
    if os.path.exists(f"{outbox}/{left}"):
        os.unlink(f"{outbox}/{left}")
link = Link()
link.until(lambda: link.up)
time.sleep(2)
list(link.frames(0))
wakeups, sent, began = link.wakeups(), link.bytes(), time.monotonic()
time.sleep(idle_seconds)
took = time.monotonic() - began
payload, segments = (b - a for a, b in zip(sent, link.bytes()))
print("idle over %.0f s at the default keepalive: %.1f wake-ups per minute, %.2f MB per day with TCP/IP headers (%.2f without)" % (
    took, (link.wakeups() - wakeups) * 60 / took, (payload + 40 * segments) * 86400 / took / 1e6, payload * 86400 / took / 1e6))
print("link: %.1f MiB resident, %.1f proportional, %.1f private" % link.memory())

back = []
for _ in range(5):
    pid = lambda: int(open(fleet + "/serve/mosquitto.pid").read().split()[0])
    old = pid()  # before: the next one may be there by the time the link has noticed
    os.kill(old, signal.SIGKILL)
    link.until(lambda: not link.up)
    while pid() == old:
        time.sleep(0.01)
    began = time.monotonic()
    link.until(lambda: link.up)
    back.append(time.monotonic() - began)
print("up again after the broker was killed, from its new start: median %.2f s, worst %.2f s of %d" % (
    statistics.median(back), max(back), len(back)))

artifacts = [os.path.join(d, f) for d, _, files in os.walk(fleet + "/repo/targets") for f in files]
artifact = max(artifacts, key=os.path.getsize)
name, size = os.path.relpath(artifact, fleet + "/repo"), os.path.getsize(artifact)
port = json.load(open(fleet + "/serve/serve.json"))["https_port"]
outbox += "/blobs"
for run in range(3):
    over = []
    began = time.monotonic()
    link.send(SAVE, struct.pack(">Q", size) + name.encode())
    while not over:
        for kind, payload in link.frames(1):
            if kind == SAVED and payload[0] == 1:
                over.append(struct.unpack(">i", payload[1:5])[0])
    mqtt = time.monotonic() - began
    for f in os.listdir(outbox):
        os.unlink(os.path.join(outbox, f))
    began = time.monotonic()
    https = subprocess.run(["curl", "-s", "--cacert", etc + "/ca.crt", "-o", outbox + "/curl",
                            f"https://127.0.0.1:{port}/{name}"]).returncode
    took = time.monotonic() - began
    os.unlink(outbox + "/curl")
    print("artifact of %.0f MB: %.1f MB/s over MQTT, %.1f MB/s over HTTPS%s" % (
        size / 1e6, size / mqtt / 1e6, size / took / 1e6, "" if over == [0] and https == 0 else " FAILED"))
link.socket.close()
link.child.wait(20)


class Control(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(fleet + "/serve/control.sock")


def order(*argv):
    return json.loads(subprocess.run([bin_dir + "/selfright", "node", *argv, "--json"], capture_output=True, text=True,
                                     check=True).stdout)


# The real agent: from the command for an order to the moment the controller has stored the signed report that answers it.
agent = subprocess.Popen([bin_dir + "/selfright-agent", "run", "--config-dir", etc], stderr=subprocess.DEVNULL)
control = Control("x")


def node():
    control.request("GET", "/v1/nodes/n1")
    return json.loads(control.getresponse().read())


def await_node(condition):
    end = time.monotonic() + 120
    while not condition(node()):
        if time.monotonic() > end:
            sys.exit("the node never said so")
        time.sleep(0.002)


def order_times():
    await_node(lambda n: n["online"])
    time.sleep(3)
    took, command = [], []
    for i in range(11):
        began = time.monotonic()
        id = order("retry", "n1", "web", "--reason", f"measured {i}")["id"]
        command.append(time.monotonic() - began)
        await_node(lambda n: any(o["id"] == id for o in n.get("order_results", [])))
        took.append(time.monotonic() - began)
        time.sleep(0.5)
    return took, command


try:
    took, command = order_times()
finally:
    agent.terminate()
    agent.wait(20)
print("order to its acknowledgement, stored by the controller: median %.0f ms, worst %.0f ms of %d (of it the command %.0f ms)" % (
    statistics.median(took) * 1000, max(took) * 1000, len(took), statistics.median(command) * 1000))
