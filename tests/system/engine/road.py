"""A controller's HTTPS side and an HTTP proxy with a password, both on loopback: what a node behind a customer's
firewall sees. Only the proxy knows where updates.invalid is."""
import base64, datetime, http.server, os, select, socket, ssl, threading, time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "updates.invalid"


def certificate(folder):
    """A CA and a server certificate of it: (ca.pem, server.pem with its key)."""
    now = datetime.datetime.utcnow()

    def make(name, key, issuer, signer, ca):
        b = (x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
             .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])).public_key(key.public_key())
             .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
             .not_valid_after(now + datetime.timedelta(days=1))
             .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True))
        if not ca:
            b = b.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        return b.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = make("test ca", ca_key, "test ca", ca_key, True)
    server = make(HOST, key, "test ca", ca_key, False) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = os.path.join(folder, "server.pem")
    with open(path, "wb") as f:
        f.write(server)
    return ca.decode(), path


class Controller:
    """The repository's folder by HTTPS; what nodes post is kept. `busy` answers of what it names ask to be left alone."""

    def __init__(self, repo, folder):
        self.ca, pem = certificate(folder)
        self.posted = posted = []
        self.busy = busy = {}  # the end of a path: [times, Retry-After]
        self.asked = asked = []  # (when, path)

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __init__(self, *args):
                super().__init__(*args, directory=repo)

            def do_GET(self):
                asked.append((time.monotonic(), self.path))
                for end, left in busy.items():
                    if self.path.endswith(end) and left[0] > 0:
                        left[0] -= 1
                        self.send_response(503)
                        self.send_header("Retry-After", left[1])
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                super().do_GET()

            def do_POST(self):
                posted.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Proxy:
    """CONNECT to updates.invalid only, for whoever knows the password."""

    def __init__(self, port, user):
        self.to, self.want = port, "Basic " + base64.b64encode(user.encode()).decode()
        self.tunnels, self.refused, self.elsewhere = [], [], []
        self.wrong = []  # came with a proof, and not with ours
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.tunnel, args=(client,), daemon=True).start()

    def tunnel(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(4096)
            if not data or len(head) > 16384:
                client.close()
                return
            head += data
        lines = head.decode("latin-1").split("\r\n")
        headers = dict(l.split(": ", 1) for l in lines[1:] if ": " in l)
        method, target = lines[0].split()[:2]
        if method == "CONNECT" and headers.get("Proxy-Authorization") == self.want and not target.startswith(HOST):
            self.elsewhere.append(lines[0])
            client.sendall(b"HTTP/1.1 403 Not there\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            client.close()
            return
        if method != "CONNECT" or headers.get("Proxy-Authorization") != self.want:
            self.refused.append(lines[0])
            if "Proxy-Authorization" in headers:
                self.wrong.append(lines[0])
            client.sendall(b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=\"x\"\r\n"
                           b"Content-Length: 0\r\nConnection: close\r\n\r\n")
            client.close()
            return
        self.tunnels.append(headers.get("User-Agent", "?"))
        server = socket.create_connection(("127.0.0.1", self.to))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            while True:
                for s in select.select([client, server], [], [])[0]:
                    data = s.recv(65536)
                    if not data:
                        return
                    (server if s is client else client).sendall(data)
        except OSError:
            pass
        finally:
            client.close()
            server.close()
