#!/usr/bin/env python3
"""browser.py URL SCRIPT [--screenshot FILE] - open the page in a real Chromium and run SCRIPT's lines in it.

Each line of SCRIPT (a file, or - for standard input) is one of
  until EXPRESSION      wait, at most 20 s, until the expression is true in the page
  do EXPRESSION         evaluate it
  show EXPRESSION       print its value
and what the page could not load or threw is printed, and is a failure. The browser is told over a pipe
(--remote-debugging-pipe), so that it opens no port, and is ended with this program.
"""
import base64, json, os, shutil, subprocess, sys, tempfile, time


class Browser:
    def __init__(self):
        self.home = tempfile.mkdtemp(prefix="selfright-browser.")
        to, self.write_fd = os.pipe()
        self.read_fd, back = os.pipe()

        def place():
            a, b = os.dup(to), os.dup(back)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--no-proxy-server", "--disable-background-networking", "--disable-component-update",
             "--user-data-dir=" + self.home, "--remote-debugging-pipe", "--window-size=1200,900", "about:blank"],
            preexec_fn=place, pass_fds=(3, 4, to, back), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(to)
        os.close(back)
        self.rest, self.number, self.trouble, self.session = b"", 0, [], None
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def message(self):
        while b"\0" not in self.rest:
            more = os.read(self.read_fd, 65536)
            if not more:
                raise SystemExit("the browser ended")
            self.rest += more
        line, self.rest = self.rest.split(b"\0", 1)
        return json.loads(line)

    def note(self, m):
        p = m.get("params", {})
        if m["method"] == "Runtime.exceptionThrown":
            self.trouble.append("exception: " + p["exceptionDetails"].get("exception", {}).get("description", "?"))
        elif m["method"] == "Log.entryAdded" and p["entry"]["level"] == "error":
            self.trouble.append(p["entry"].get("url", "") + ": " + p["entry"]["text"])

    def call(self, method, **params):
        self.number += 1
        doc = {"id": self.number, "method": method, "params": params}
        if self.session:
            doc["sessionId"] = self.session
        os.write(self.write_fd, json.dumps(doc).encode() + b"\0")
        while True:
            m = self.message()
            if m.get("id") == self.number:
                if "error" in m:
                    raise SystemExit(f"{method}: {m['error']}")
                return m["result"]
            if "method" in m:
                self.note(m)

    def value(self, expression):
        r = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in r:
            return None
        return r["result"].get("value")

    def until(self, expression):
        end = time.monotonic() + 120
        while not self.value("Boolean(" + expression + ")"):
            if time.monotonic() > end:
                raise SystemExit(f"never true: {expression}\nthe page says: {self.value('document.body.innerText')}")
            time.sleep(0.1)

    def end(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def main():
    url, script = sys.argv[1], sys.argv[2]
    with (sys.stdin if script == "-" else open(script)) as f:
        lines = [l.strip() for l in f if l.strip()]
    browser = Browser()
    try:
        browser.call("Page.navigate", url=url)
        for line in lines:
            word, expression = line.split(" ", 1)
            if word == "until":
                browser.until(expression)
            elif word == "do":
                browser.call("Runtime.evaluate", expression=expression)
            elif word == "show":
                print(browser.value(expression))
            else:
                raise SystemExit(f"no such word: {word}")
        if "--screenshot" in sys.argv:
            shot = browser.call("Page.captureScreenshot", format="png")
            with open(sys.argv[sys.argv.index("--screenshot") + 1], "wb") as f:
                f.write(base64.b64decode(shot["data"]))
        for t in browser.trouble:
            print(t, file=sys.stderr)
        sys.exit(1 if browser.trouble else 0)
    finally:
        browser.end()


main()
