#!/usr/bin/env python3
"""A server that takes webhooks over TLS: hook_server.py FOLDER CERTIFICATE KEY [PORT]: prints its port.

FOLDER/got has a line of JSON for each message that was taken or refused: path, headers, body, the status it got.
FOLDER/answer says what it answers: a status (200 without the file), with "429 SECONDS" a Retry-After, "hang", "drop", "huge"
or "moved".
"""
import http.server
import json
import os
import socketserver
import ssl
import sys
import time

folder = sys.argv[1]


def answer():
    try:
        with open(os.path.join(folder, "answer")) as f:
            return f.read().strip()
    except FileNotFoundError:
        return "200"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        how, _, seconds = answer().partition(" ")
        status = {"moved": 302, "huge": 500, "hang": 0, "drop": 0}.get(how) if not how.isdigit() else int(how)
        line = json.dumps({"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()},
                           "body": body, "status": status}) + "\n"
        with open(os.path.join(folder, "got"), "ab", buffering=0) as f:
            f.write(line.encode())  # at once: it is read all the time
        if how == "drop":
            self.close_connection = True
            return
        if how == "hang":
            time.sleep(300)
        text = b"\x1b[31mno_service <!channel>" + (b"x" * (32 << 20) if how == "huge" else b"")
        self.send_response(status)
        if how == "moved":
            self.send_header("Location", "https://localhost:1/elsewhere")
        if seconds:
            self.send_header("Retry-After", seconds)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        try:
            self.wfile.write(text)
        except OSError:
            pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True


server = Server(("127.0.0.1", int(sys.argv[4]) if len(sys.argv) > 4 else 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
