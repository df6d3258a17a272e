#!/usr/bin/env bash
# selfright-probe as a program: TLS that is verified or not, Unix sockets, files, and what it refuses to do.
set -u
probe=$(realpath "${1:?usage: probe.sh BUILD_FOLDER}")/bin/selfright-probe
[ -x "$probe" ] || { echo "no $probe"; exit 1; }
work=$(mktemp -d) || exit 1
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
failed=0

# expect WORDS STATUS PATTERN COMMAND...: how it ends, and what it prints
expect() {
	local words=$1 status=$2 pattern=$3 out got
	shift 3
	"$@" >said 2>&1 </dev/null
	got=$?
	out=$(tr -d '\0\r' <said)
	if [ "$got" = "$status" ] && grep -qE -- "$pattern" <<<"$out"; then
		echo "ok    $words"
	else
		echo "FAIL  $words: exit $got, not $status; $out"
		failed=1
	fi
}

cat >"$work/server.py" <<'PY'
import http.server, os, socketserver, ssl, sys, threading

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"x" * 300000 if self.path == "/large" else ("%s %s" % (self.headers.get("X-Check"), self.headers.get("Host"))).encode()
        self.send_response(503 if self.path == "/sick" else 302 if self.path == "/moved" else 200)
        self.send_header("Location", "/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass

class Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    def get_request(self):
        client, _ = super().get_request()
        return client, ("local", 0)

tls = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1] + "/server.pem")
tls.socket = context.wrap_socket(tls.socket, server_side=True, do_handshake_on_connect=False)
unix = Unix(sys.argv[1] + "/sock", Handler)
threading.Thread(target=unix.serve_forever, daemon=True).start()
with open(sys.argv[1] + "/port.new", "w") as f:
    f.write(str(tls.server_address[1]))
os.rename(sys.argv[1] + "/port.new", sys.argv[1] + "/port")
tls.serve_forever()
PY
cd "$work" || exit 1
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=ca 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=app.internal 2>/dev/null
printf 'subjectAltName=DNS:app.internal\n' >ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt 2>/dev/null
cat server.crt server.key >server.pem
python3 server.py "$work" 2>server.log &
server=$!
for _ in $(seq 600); do [ -s port ] && break; sleep 0.1; done
[ -s port ] || { echo "FAIL  the server did not start"; exit 1; }
url=https://127.0.0.1:$(cat port)

expect "a CA of one's own and the name of the certificate" 0 '^HTTP/1.1 200' "$probe" http "$url/" --ca ca.pem --server-name app.internal
expect "the Host is the name" 0 'None app.internal' "$probe" http "$url/" --ca ca.pem --server-name app.internal
expect "another name is refused" 1 'app.example|certificate' "$probe" http "$url/" --ca ca.pem --server-name app.example
expect "the address is no name of it" 1 . "$probe" http "$url/" --ca ca.pem
expect "the system knows no such CA" 1 'certificate' "$probe" http "$url/" --server-name app.internal
expect "nothing is verified when asked so" 0 '^HTTP/1.1 200' "$probe" http "$url/" --insecure
expect "a CA that is not there" 1 'none.pem' "$probe" http "$url/" --ca none.pem
expect "a status is an answer" 0 '^HTTP/1.1 503' "$probe" http "$url/sick" --insecure
expect "a redirection is not followed" 0 '^HTTP/1.1 302' "$probe" http "$url/moved" --insecure
expect "nobody listens" 1 '127.0.0.1' "$probe" http https://127.0.0.1:1/ --insecure
expect "a Unix socket" 0 '^HTTP/1.1 200' "$probe" http http://localhost/ --unix-socket "$work/sock"
expect "a Unix socket that is none" 1 . "$probe" http http://localhost/ --unix-socket "$work/port"
expect "no file of the machine by URL" 1 . "$probe" http file:///etc/passwd
[ "$(printf 'X-Check: 17\n' | "$probe" http "$url/" --insecure | tail -n 1 | cut -c 1-2)" = 17 ] && echo "ok    a header" ||
	{ echo "FAIL  a header"; failed=1; }
size=$("$probe" http "$url/large" --insecure --max-bytes 1000 </dev/null | wc -c)
[ "$size" -ge 1000 ] && [ "$size" -lt 1100 ] && echo "ok    a large body is cut" ||
	{ echo "FAIL  a large body is cut: $size"; failed=1; }
https_proxy=http://127.0.0.1:1 expect "no proxy is asked" 0 '^HTTP/1.1 200' "$probe" http "$url/" --insecure

printf 'one\ntwo\nthree\n' >log
inode=$(stat -c %i log)
expect "a file" 0 "^$inode 14 [0-9]+ 0" "$probe" read log
expect "its end" 0 "^$inode 14 [0-9]+ 6" "$probe" read log --tail 6
expect "from a place on" 0 two "$probe" read log --inode "$inode" --offset 4
expect "with what stood before" 0 " 4\$" "$probe" read log --inode "$inode" --offset 4 --tail 100
mv log log.1
printf 'four\n' >log
expect "what was renamed to .1 comes first" 0 three "$probe" read log --inode "$inode" --offset 8
expect "then the new one" 0 four "$probe" read log --inode "$inode" --offset 8
mkfifo fifo
expect "a file that is not there" 3 'none is not there' "$probe" read none
expect "a pipe is no file, and nobody waits for it" 1 fifo timeout 20 "$probe" read fifo
expect "a folder is no file" 1 . "$probe" read .
expect "no command" 2 help "$probe"
expect "another command" 2 help "$probe" write x
expect "a number that is none" 2 'from 1 to' "$probe" read log --max-bytes many
expect "who answers" 0 'origin yes' "$probe" network --name localhost --tcp "origin=127.0.0.1:$(cat port)" --tcp broker=127.0.0.1:1
expect "who does not" 0 'broker no' "$probe" network --tcp broker=127.0.0.1:1 --timeout 5
expect "a name nobody knows" 0 'resolver no' "$probe" network --name no.such.host.invalid --timeout 5
exit $failed
