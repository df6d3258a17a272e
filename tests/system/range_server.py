"""An https server for tests: ranges, strong tags, a speed limit, a log of what was asked, and bad manners on demand.

usage: range_server.py FOLDER CERT KEY LOG BYTES_PER_SECOND    (0: no limit; prints its port)

Below /~MANNER/ it serves the same files as the worst servers do: ~reset (half of it, then the connection is reset),
~silent (accepts and says nothing), ~corrupt (one byte is another one), ~no-ranges (no tag, and the whole file
whatever was asked), ~drip (a byte now and then), ~slow:N (N bytes per second, and it lives on), ~longer (a byte more), ~shorter (a byte less, and says so), ~cut (a byte
less than it says), ~moves (another tag each time), ~to:LOCATION (sends on; + stands for a slash), ~busy:WORDS (503 with WORDS as its
Retry-After; + stands for a blank, an empty one for none), ~sends-busy:SECONDS (301 to the file, with one).
"""
import http.server
import os
import re
import socket
import ssl
import struct
import sys
import time

folder, cert, key, log, rate = sys.argv[1:5] + [int(sys.argv[5])]
asked = 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def reset(self):
        """RST instead of FIN; it throws away what the other side has not read yet, so that has a moment for it."""
        self.wfile.flush()
        self.close_connection = True  # no TLS any more: its descriptor is the next connection's a moment later
        time.sleep(0.5)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())

    def do_GET(self):
        global asked
        asked += 1
        wanted = self.headers.get("Range", "")
        with open(log, "a") as f:
            f.write(f"{self.path} range={wanted} if-range={self.headers.get('If-Range', '')}\n")
        manner, name = "", self.path.lstrip("/")
        if name.startswith("~"):
            manner, _, name = name[1:].partition("/")
        path = os.path.join(folder, name)
        if manner.startswith("to:"):
            self.send_response(302)
            self.send_header("Location", manner[3:].replace("+", "/") + "/" + name)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if manner.startswith("busy:") or manner.startswith("sends-busy:"):
            kind, _, words = manner.partition(":")
            self.send_response(503 if kind == "busy" else 301)
            if kind != "busy":
                self.send_header("Location", "/" + name)
            if words:
                self.send_header("Retry-After", words.replace("+", " "))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if not os.path.isfile(path):
            self.send_error(404)
            return
        if manner == "silent":
            time.sleep(600)
        with open(path, "rb") as f:
            data = f.read()
        tag = f'"{len(data)}-{os.stat(path).st_mtime_ns}{asked if manner == "moves" else ""}"'
        if manner == "corrupt":
            data = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
        elif manner == "longer":
            data += b"x"
        elif manner == "shorter":
            data = data[:-1]
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", wanted)
        if match and manner != "no-ranges" and self.headers.get("If-Range") == tag and int(match[1]) < len(data):
            start = int(match[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        if manner != "no-ranges":
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        step = rate // 20 if rate else len(data) + 1
        end = len(data)
        if manner in ("reset", "moves"):
            end = start + max((len(data) - start) // 2, 1)
            step = min(step, end - start)
        elif manner == "drip":
            step = 1
        elif manner.startswith("slow:"):
            step = max(int(manner[5:]) // 20, 1)
        elif manner == "cut":
            end -= 1
        for at in range(start, end, step):
            self.wfile.write(data[at : min(at + step, end)])
            if manner == "drip":
                time.sleep(0.2)
            elif rate or manner.startswith("slow:"):
                time.sleep(0.05)
        if manner in ("reset", "moves"):
            self.reset()
        elif manner == "cut":
            self.close_connection = True


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.handle_error = lambda *arguments: None
print(server.server_address[1], flush=True)
server.serve_forever()
