#!/usr/bin/env python3
"""What gates look at: pages good and hostile, and the APIs of Prometheus and Alertmanager as the real ones answer.

gate_server.py FOLDER [CERTIFICATE KEY]: prints its port.  Files in FOLDER say what it answers:
  page      the status and body of /page                     "200 ok"
  value     of every sample of a range query; empty: no series; "error": the query is refused
  watching  since how many seconds there are samples of count(up); empty: none
  alerts    lines "NAME BEGAN": seconds ago at which each alert began that fires now
  token     if it is there, what /api asks for
"""
import http.server
import json
import os
import socketserver
import ssl
import sys
import time
import urllib.parse

folder = sys.argv[1]


def read(name):
    try:
        with open(os.path.join(folder, name)) as f:
            return f.read().strip()
    except FileNotFoundError:
        return ""


def series(metric, query, first, value):
    start, end, step = (float(query[n][0]) for n in ("start", "end", "step"))
    # Prometheus evaluates at start + n * step, and writes seconds with a fraction only where they have one.
    count = int((end - start) // step) + 1
    points = [start + i * step + 0.5 for i in range(count)]
    values = [[t, value] for t in points if t >= first and t <= end]
    return [{"metric": metric, "values": values}] if values else []


def query_range(query):
    now, text = time.time(), query["query"][0]
    if text == "count(up)":
        watching = read("watching")
        return series({}, query, now - float(watching), "3") if watching else []
    if text.startswith("ALERTS{alertstate=\"firing\""):
        found = []
        for line in read("alerts").splitlines():
            name, began = line.split()
            found += series({"__name__": "ALERTS", "alertname": name, "alertstate": "firing"}, query, now - float(began), "1")
        return found
    return series({"job": "web"}, query, 0, read("value")) if read("value") else []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, status, body, kind="text/plain", headers=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def api(self, path, query):
        if read("token") and self.headers.get("Authorization") != "Bearer " + read("token"):
            return self.say(401, b"Unauthorized")
        if path == "/api/v1/query_range":
            if read("value") == "error":
                return self.say(400, json.dumps({"status": "error", "errorType": "bad_data", "error": "parse error"}).encode(),
                                "application/json")
            answer = {"status": "success", "data": {"resultType": "matrix", "result": query_range(query)}}
            return self.say(200, json.dumps(answer).encode(), "application/json")
        found = []
        for line in read("alerts").splitlines():
            name, began = line.split()
            at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - float(began))) + ".123Z"
            found.append({"labels": {"alertname": name, "severity": "page"}, "startsAt": at, "status": {"state": "active"}})
        self.say(200, json.dumps(found).encode(), "application/json")

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path.startswith("/api/"):
            self.api(url.path, urllib.parse.parse_qs(url.query))
        elif url.path == "/page":
            status, _, body = read("page").partition(" ")
            self.say(int(status), body.encode())
        elif url.path == "/moved":
            self.say(302, b"", headers=[("Location", "/page")])
        elif url.path == "/slow":
            time.sleep(1.5)
            self.say(200, b"ok")
        elif url.path.startswith("/huge"):
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                pass
        elif url.path.startswith("/drip"):
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"{")
                    self.wfile.flush()
                    time.sleep(0.2)
            except OSError:
                pass
        elif url.path.startswith("/wrong"):
            self.say(200, b'{"status":"success","data":{"resultType":"vector","result":[]}}')
        elif url.path.startswith("/text"):
            self.say(200, b"<html>login</html>")
        else:
            self.say(404, b"no")
        self.close_connection = True


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", 0), Handler)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
