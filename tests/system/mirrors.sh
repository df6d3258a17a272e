#!/usr/bin/env bash
# Downloads over HTTPS from servers as they are: Debian's nginx, and one that behaves as nginx never would. The right
# bytes come in the end, the reason says which place failed and how, and nothing wrong is kept.
set -u
here=$(cd "$(dirname "$0")" && pwd)
stage=$(cd "${1:?usage: mirrors.sh BUILD_FOLDER}" && pwd)/bin/selfright-stage
tmp=$(mktemp -d)
servers=()
failed=0
count=0
unset http_proxy https_proxy all_proxy HTTPS_PROXY ALL_PROXY

finish() {
	for pid in "${servers[@]}"; do kill "$pid" 2>/dev/null; done
	for pid in "${servers[@]}"; do wait "$pid" 2>/dev/null; done
	rm -rf "$tmp"
}
trap finish EXIT

check() { # SENTENCE COMMAND...
	count=$((count + 1))
	local sentence=$1
	shift
	if "$@" >"$tmp/check.log" 2>&1; then
		echo "ok $count - $sentence"
	else
		echo "not ok $count - $sentence"
		sed 's/^/    /' "$tmp/check.log" "$tmp/progress" "$tmp/requests" 2>/dev/null
		failed=1
	fi
}

cd "$tmp" || exit 1
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out ca.crt -days 2 \
	-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1,DNS:localhost 2>/dev/null

mkdir -p src/bin repo/targets
printf '#!/bin/sh\necho hello\n' >src/bin/run
head -c 600000 /dev/urandom >src/noise
find src -type d -exec chmod 755 {} + && chmod 755 src/bin/run && chmod 644 src/noise
tar -C src -cf - . | zstd -q >repo/targets/a.tar.zst
size=$(stat -c %s repo/targets/a.tar.zst)
sha=$(sha256sum repo/targets/a.tar.zst | cut -d' ' -f1)

python3 "$here/range_server.py" "$tmp/repo" ca.crt key.pem "$tmp/requests" 0 >port &
servers+=($!)
# From below those that the system gives to whoever asks for any: it is nginx's a moment later only.
read -r nginx_port plain_port < <(python3 -c 'import random, socket
def port():
    while True:
        s = socket.socket()
        try:
            s.bind(("127.0.0.1", random.randint(10000, 30000)))
            return s
        except OSError:
            pass
print(*[s.getsockname()[1] for s in (port(), port())])')
cat >nginx.conf <<END
worker_processes 1; daemon off; pid $tmp/nginx.pid; error_log $tmp/nginx.error;
$([ "$(id -u)" = 0 ] && echo "user root;")
events {}
http {
  access_log $tmp/nginx.access; client_body_temp_path $tmp/n1; proxy_temp_path $tmp/n2; fastcgi_temp_path $tmp/n3;
  uwsgi_temp_path $tmp/n4; scgi_temp_path $tmp/n5;
  server {
    listen 127.0.0.1:$nginx_port ssl; ssl_certificate $tmp/ca.crt; ssl_certificate_key $tmp/key.pem; root $tmp/repo;
    location /moved/ { return 301 https://127.0.0.1:$nginx_port/; }
    location /slow/ { rewrite ^/slow/(.*)$ /\$1 break; limit_rate 60k; }
    location /here/ { rewrite ^/here/(.*)$ /\$1 redirect; }
    location /elsewhere/ { rewrite ^/elsewhere/(.*)$ https://localhost:$nginx_port/\$1 redirect; }
    location /unsafe/ { rewrite ^/unsafe/(.*)$ http://127.0.0.1:$plain_port/\$1 redirect; }
    location /circle/ { return 302 https://127.0.0.1:$nginx_port\$request_uri; }
    location /busy/ { return 503; }
  }
  server { listen 127.0.0.1:$plain_port; root $tmp/repo; access_log $tmp/plain.access; }
}
END
nginx -e "$tmp/nginx.error" -c "$tmp/nginx.conf" &
servers+=($!)
answers() { [ -s port ] && curl -s -o /dev/null --cacert ca.crt "https://127.0.0.1:$nginx_port/targets/a.tar.zst"; }
for _ in $(seq 600); do
	answers && break
	sleep 0.1
done
check "the servers are there" answers
bad=https://127.0.0.1:$(cat port)
nginx=https://127.0.0.1:$nginx_port

fresh() {
	rm -rf spool tree
	mkdir spool tree
	: >requests
}
stall=60
run() { # arguments...: what the engine would start
	"$stage" --name targets/a.tar.zst --length "$size" --sha256 "$sha" --media application/x-tar+zstd \
		--max-bytes 4000000 --max-files 3 --ca ca.crt --stall $stall "$@" 3<spool 4<tree 5>progress
}
is_good() { diff -r src tree && [ "$(tail -n 1 progress)" = done ] && [ -z "$(ls -A spool)" ]; }
good() { fresh && run "$@" && is_good; }
asked() { grep -c "^/$1" requests; }
bad_with() { # ERROR WORDS arguments...
	local error=$1 words=$2
	shift 2
	fresh
	! run "$@" && [ -z "$(ls -A tree)" ] && grep -q "^error $error .*$words" progress
}

not_ranged() { [ "$(tail -n 1 nginx.access | grep -c ' 200 ')" = 1 ]; }
begun_well() { # the first half from nginx, with its tag, the rest from one that spoils it
	fresh
	head -c $((size / 2 + 10)) repo/targets/a.tar.zst >"spool/$sha.part"
	python3 -c 'import os,sys; s=os.stat(sys.argv[1]); sys.stdout.write(f"\"{s.st_size}-{s.st_mtime_ns}\"")' \
		repo/targets/a.tar.zst >"spool/$sha.etag"
	printf 'spoilt' | dd of="spool/$sha.part" bs=1 seek=5 conv=notrunc status=none
	run --url "$bad/~corrupt" --url "$nginx" && is_good
}

check "nginx" good --url "$nginx"

# --- bad manners ---
gone_on() { grep -q '^/~reset.*range=bytes=' requests; }
check "what a server that resets in the middle never brings to an end, the next place does" good \
	--url "$bad/~reset" --url "$nginx"
check "it was gone on from, by a range, as long as each connection brought something" gone_on
stall=2 # a busy machine does not bring bytes every second, which these alone are to be blamed for
check "a server that accepts and says nothing is left" bad_with DEADLINE "127.0.0.1" --url "$bad/~silent"
check "for the next one" good --url "$bad/~silent" --url "$nginx"
check "one that only drips as well" bad_with DEADLINE "127.0.0.1" --url "$bad/~drip"
check "for the next one" good --url "$bad/~drip" --url "$nginx"
stall=60
check "a wrong byte is found, and its place named" bad_with DIGEST "~corrupt: what came has SHA-256" --url "$bad/~corrupt"
check "nothing of it is kept" test -z "$(ls -A spool)"
check "that mirror is left, and the next one brings it" good --url "$bad/~corrupt" --url "$nginx"
check "without its bytes being gone on from" not_ranged
check "also when a good server began it" begun_well
check "no ranges: it comes whole" eval 'fresh; head -c 1000 repo/targets/a.tar.zst >spool/$sha.part; run --url "$bad/~no-ranges" && is_good'
check "after a reset elsewhere too" good --url "$bad/~reset" --url "$bad/~no-ranges"
check "a file longer than signed" bad_with TOO_LARGE "" --url "$bad/~longer"
check "one that is shorter" bad_with LENGTH "~shorter: .* bytes came" --url "$bad/~shorter"
check "one that ends before it says" good --url "$bad/~cut" --url "$nginx"
check "a file that changes between two resumes is never put together of both" good --url "$bad/~moves" --url "$nginx"
check "a server that is busy, one that lacks it, one that is not there" good --url "$nginx/busy" --url "$nginx/none" \
	--url https://127.0.0.1:1 --url "$nginx"
check "each says why" bad_with ENOENT "answered 503; .*; 127.0.0.1:$nginx_port: answered 404" --url "$nginx/busy" \
	--url https://127.0.0.1:1 --url "$nginx/none"

# --- much too slow ---
left() { grep -c '^slow [0-9]* https://' progress; }
by_tag() { grep -c "range=bytes=[1-9][0-9]*- if-range=$1" requests; }
floor="--slow 10000000 --slow-for 1"
slow=$bad/~slow:60000 faster=$bad/~slow:240000
# shellcheck disable=SC2086
check "a place that is much too slow is left for a better one" good $floor --url "$slow" --url "$nginx/here"
check "which is said, with its pace" eval '[ "$(left)" -ge 1 ] && grep -q "^slow [1-9][0-9]* $slow" progress'
# shellcheck disable=SC2086
check "the only one is not" good $floor --url "$faster"
check "nor told of" [ "$(left)" = 0 ]
# shellcheck disable=SC2086
check "where all are, it comes all the same" good $floor --url "$slow" --url "$faster"
check "all were tried" [ "$(left)" -ge 2 ]
check "each went on where the one before was" [ "$(by_tag '"')" -ge 2 ]
check "the fastest to the end" eval 'tail -n 1 requests | grep -q "^/~slow:240000"'
both() { # the same bytes under another tag in each place
	fresh
	# shellcheck disable=SC2086
	run $floor --url "$faster" --url "$nginx/slow" && is_good
}
check "also where each has a tag of its own" both
check "that one was tried" grep -q "^slow [0-9]* $nginx/slow" progress
check "and what was begun at the other was kept" eval 'tail -n 1 requests | grep -q "range=bytes=[1-9][0-9]*- if-range=\"$size-"'
# shellcheck disable=SC2086
check "where another road follows it is left, with what it brought" eval '! good $floor --yield --url "$slow" && grep -q "^error DEADLINE .*bytes per second for" progress && [ -s "spool/$sha.part" ]'
printf 'begun elsewhere' >"spool/$sha.kept"
printf '"none"' >"spool/$sha.ktag"
# shellcheck disable=SC2086
check "and gone on from the next time, and nothing stays" eval 'run $floor --url "$nginx" --url "$slow" && is_good'
check "--slow-for takes a time" eval '! run --slow-for 0 --url "$nginx"'

# --- being asked to be left alone ---
waits() { # the "wait" lines: how long, and whose wish it is
	[ "$(grep -c '^wait ' progress)" = "$(($# / 2))" ] || return 1
	while [ $# -gt 0 ]; do
		grep -q "^wait $1 $2\$" progress || return 1
		shift 2
	done
}
check "a busy server that names no time" bad_with HTTP_STATUS "answered 503" --url "$bad/~busy:"
check "asks for none" waits
check "one that names a time" bad_with HTTP_STATUS "answered 503" --url "$bad/~busy:120"
check "is heard" waits 120 "$bad/~busy:120"
check "the next place is asked at once" good --url "$bad/~busy:120" --url "$nginx"
check "and what the first one wished is told" waits 120 "$bad/~busy:120"
check "each of them is told" eval 'bad_with HTTP_STATUS "" --url "$bad/~busy:5" --url "$bad/~busy:7" && waits 5 "$bad/~busy:5" 7 "$bad/~busy:7"'
check "a century is an hour" eval 'bad_with HTTP_STATUS "" --url "$bad/~busy:3153600000" && waits 3600 "$bad/~busy:3153600000"'
check "as is a number without end" eval 'bad_with HTTP_STATUS "" --url "$bad/~busy:99999999999999999999999" && waits 3600 ".*"'
check "a date far away is one as well" eval 'bad_with HTTP_STATUS "" --url "$bad/~busy:Fri,+31+Dec+9999+23:59:59+GMT" && waits 3600 ".*"'
for words in -5 0 soon 1e9 0x10 "Sun,+06+Nov+1994+08:49:37+GMT" "Sun,+99+Nov+2094+08:49:37+GMT" "$(printf '%0500d' 1)"; do
	check "'${words:0:30}' asks for nothing" eval 'bad_with HTTP_STATUS "" --url "$bad/~busy:$words" && waits'
done
check "of one that sends on it is not heard" eval 'good --url "$bad/~sends-busy:120" && waits'

# --- being sent on ---
check "a redirect on the same host is followed" good --url "$nginx/here"
check "one to another host is not, and says where to" bad_with HTTP_STATUS \
	"sends on to localhost:$nginx_port, which redirect_hosts does not list" --url "$nginx/elsewhere"
check "unless it is listed" good --url "$nginx/elsewhere" --redirect-host "localhost:$nginx_port"
check "from https to http never" bad_with HTTP_STATUS "which is not https" --url "$nginx/unsafe" \
	--redirect-host "127.0.0.1:$plain_port"
check "nobody was asked there" test ! -s plain.access
check "a circle ends" bad_with HTTP_STATUS "more than 5 times" --url "$nginx/circle"
check "a redirect that leads to a reset is gone on from" eval 'good --url "$bad/~to:+~reset" --url "$nginx"'

# --- a folder and a tar of one, before or behind the network ---
mkdir empty
(cd repo && tar -cf ../fleet.tar targets)
check "a folder is a place like others" good --dir repo
check "and so is a tar of one" good --dir fleet.tar
check "one that is not there, or lacks it, is passed over" good --dir "$tmp/no-stick" --dir empty --url "$nginx"
check "the network was asked then" eval '[ "$(tail -n 1 nginx.access | grep -c a.tar.zst)" = 1 ]'
spoilt() { mkdir -p spoilt/targets && sed 's/a/b/' repo/targets/a.tar.zst >spoilt/targets/a.tar.zst && truncate -s "$size" spoilt/targets/a.tar.zst; }
check "a spoilt copy" spoilt
check "is found and passed over" good --dir spoilt --url "$nginx"
check "behind the network" good --url "$bad/~corrupt" --dir spoilt --dir fleet.tar
check "what is no tar is said" bad_with ARCHIVE "ca.crt: " --dir ca.crt
echo "1..$count"
exit $failed
