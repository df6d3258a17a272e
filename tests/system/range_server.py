"""An https server for tests: ranges, strong tags, a speed limit, and a log of what was asked.

usage: range_server.py FOLDER CERT KEY LOG BYTES_PER_SECOND    (0: no limit; prints its port)
"""
import http.server
import os
import re
import ssl
import sys
import time

folder, cert, key, log, rate = sys.argv[1:5] + [int(sys.argv[5])]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        wanted = self.headers.get("Range", "")
        with open(log, "a") as f:
            f.write(f"{self.path} range={wanted} if-range={self.headers.get('If-Range', '')}\n")
        path = os.path.join(folder, self.path.lstrip("/"))
        if not os.path.isfile(path):
            self.send_error(404)
            return
        with open(path, "rb") as f:
            data = f.read()
        tag = f'"{len(data)}-{os.stat(path).st_mtime_ns}"'
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", wanted)
        if match and self.headers.get("If-Range") == tag and int(match[1]) < len(data):
            start = int(match[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        step = rate // 20 if rate else len(data) + 1
        for at in range(start, len(data), step):
            self.wfile.write(data[at : at + step])
            if rate:
                time.sleep(0.05)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.handle_error = lambda *arguments: None
print(server.server_address[1], flush=True)
server.serve_forever()
