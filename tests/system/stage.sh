#!/usr/bin/env bash
# selfright-stage as a program: from https and from a folder, good and bad, killed and resumed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
stage=${1:?usage: stage.sh BUILD_FOLDER}/bin/selfright-stage
tmp=$(mktemp -d)
servers=()
failed=0
count=0
unset http_proxy https_proxy all_proxy HTTPS_PROXY ALL_PROXY

finish() {
	for pid in "${servers[@]}"; do
		kill "$pid" 2>/dev/null
	done
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
		sed 's/^/    /' "$tmp/check.log" "$tmp/progress" 2>/dev/null
		failed=1
	fi
}

cd "$tmp" || exit 1
certificate() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.crt" \
		-days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 2>/dev/null
}
certificate good
certificate other

serve() { # RATE -> $port
	python3 "$here/range_server.py" "$tmp/repo" good.crt good.key "$tmp/requests" "$1" >port.$1 &
	servers+=($!)
	for _ in $(seq 600); do
		[ -s port.$1 ] && break
		sleep 0.1
	done
	port=$(cat port.$1)
}

# A tree with everything a tree may hold, and its artifact in each media type.
mkdir -p src/bin src/empty repo/targets
printf '#!/bin/sh\necho hello\n' >src/bin/run
chmod 755 src/bin/run
head -c 3000000 /dev/urandom >src/noise
ln -s bin/run src/link
find src -type d -exec chmod 755 {} +
tar -C src -cf repo/targets/a.tar .
gzip -k repo/targets/a.tar
xz -0 -k repo/targets/a.tar
zstd -q -k repo/targets/a.tar
(cd src && zip -q -y -r ../repo/targets/a.zip .)
serve 0
fast=$port
serve 500000
slow=$port

sha() { sha256sum "repo/targets/$1" | cut -d' ' -f1; }

fresh() {
	rm -rf spool tree
	mkdir spool tree
}

run() { # FILE MEDIA arguments...: what the engine would start; progress in ./progress
	local file=$1 media=$2
	shift 2
	"$stage" --name "targets/$file" --length "$(stat -c %s "repo/targets/$file")" --sha256 "$(sha "$file")" \
		--media "$media" --max-bytes 4000000 --max-files 3 "$@" 3<spool 4<tree 5>progress
}

last_is() { [[ $(tail -n 1 progress) == "$1"* ]]; }
is_good() { # the tree is there, the spool is clean, the last line says so
	diff -r --no-dereference src tree && last_is done && [ -z "$(ls -A spool)" ] &&
		[ "$(stat -c %a tree/bin/run)" = 755 ] && [ "$(stat -c %a tree/noise)" = 644 ]
}
fails_with() { # ERROR COMMAND...
	local error=$1
	shift
	! "$@" && last_is "error $error " && [ -z "$(ls -A tree)" ]
}
good_run() { fresh && run "$@" && is_good; }

zst=application/x-tar+zstd
check "https" good_run a.tar.zst $zst --url "https://127.0.0.1:$fast/" --ca good.crt
check "progress says the phases in order" test \
	"$(grep phase progress | tr '\n' ' ')" = "phase download phase verify phase unpack "
check "progress counts to the length" grep -qx "bytes $(stat -c %s repo/targets/a.tar.zst) $(stat -c %s repo/targets/a.tar.zst)" progress
check "a folder" good_run a.tar.zst $zst --dir repo
check "gzip" good_run a.tar.gz application/x-tar+gzip --dir repo
check "xz" good_run a.tar.xz application/x-tar+xz --dir repo
check "plain tar" good_run a.tar application/x-tar --dir repo
check "zip" good_run a.zip application/zip --dir repo

fresh
check "the wrong CA is no way in" fails_with TLS run a.tar.zst $zst --url "https://127.0.0.1:$fast/" --ca other.crt
check "plain http is not spoken" fails_with CONFIG run a.tar.zst $zst --url "http://127.0.0.1:$fast/" --ca good.crt
check "URLs are tried in order" good_run a.tar.zst $zst --url https://127.0.0.1:1/ \
	--url "https://127.0.0.1:$fast/nowhere/" --url "https://127.0.0.1:$fast" --ca good.crt
fresh
two_reasons() {
	fails_with ENOENT run a.tar.zst $zst --url https://127.0.0.1:1/ --url "https://127.0.0.1:$fast/nowhere" --ca good.crt &&
		grep -q '^error ENOENT 127.0.0.1:1: .*; 127.0.0.1:[0-9]*: answered 404' progress
}
check "all reasons are reported" two_reasons

# Killed with SIGKILL in the middle, then started again.
fresh
: >requests
run a.tar.zst $zst --url "https://127.0.0.1:$slow/" --ca good.crt &
wrapper=$!
part=spool/$(sha a.tar.zst).part
for _ in $(seq 6000); do
	[ "$(stat -c %s "$part" 2>/dev/null || echo 0)" -gt 500000 ] && break
	sleep 0.02
done
kill -KILL $(pgrep -P $wrapper)
wait $wrapper 2>/dev/null
left=$(stat -c %s "$part")
check "a kill leaves what came" test "$left" -gt 500000
check "and the next start brings only the rest" run a.tar.zst $zst --url "https://127.0.0.1:$slow/" --ca good.crt
check "the tree is whole" is_good
resumed_at() { [ "$(sed -n 's/.*range=bytes=\([0-9]*\)- .*/\1/p' requests)" = "$left" ]; }
check "by one request for the range behind it" resumed_at

resume_case() { # prepare .part and .etag as a stopped start leaves them
	fresh
	: >requests
	head -c 1000000 repo/targets/a.tar.zst >"$part"
	python3 -c 'import os,sys; s=os.stat(sys.argv[1]); sys.stdout.write(f"\"{s.st_size}-{s.st_mtime_ns}\"")' \
		repo/targets/a.tar.zst >"${part%.part}.etag"
}
damaged_part() {
	resume_case
	printf 'damage' | dd of="$part" bs=1 seek=5000 conv=notrunc status=none
	run a.tar.zst $zst --url "https://127.0.0.1:$fast/" --ca good.crt && is_good && [ "$(wc -l <requests)" = 2 ]
}
check "a damaged rest is thrown away once" damaged_part
changed_tag() {
	resume_case
	printf '"other"' >"${part%.part}.etag"
	run a.tar.zst $zst --url "https://127.0.0.1:$fast/" --ca good.crt && is_good && [ "$(wc -l <requests)" = 1 ]
}
check "a file changed on the server is brought whole" changed_tag
whole_already() {
	fresh
	: >requests
	cp repo/targets/a.tar.zst "$part"
	run a.tar.zst $zst --url "https://127.0.0.1:$fast/" --ca good.crt && is_good && [ ! -s requests ]
}
check "what is there whole is not asked for" whole_already

# The server's file is not the signed one.
wrong() { # ERROR FILE-CONTENT arguments...
	local error=$1 length=$2
	shift 2
	fresh
	! "$stage" --name targets/a.tar.zst --length "$length" --sha256 "$(printf %064d 7)" --media $zst \
		--max-bytes 4000000 --max-files 3 "$@" 3<spool 4<tree 5>progress && last_is "error $error " &&
		[ -z "$(ls -A tree)" ]
}
size=$(stat -c %s repo/targets/a.tar.zst)
check "a wrong digest" wrong DIGEST "$size" --url "https://127.0.0.1:$fast/" --ca good.crt
check "is not kept" test -z "$(ls -A spool)"
check "a wrong digest from a folder" wrong DIGEST "$size" --dir repo
check "shorter than signed" wrong LENGTH $((size + 1)) --url "https://127.0.0.1:$fast/" --ca good.crt
check "shorter than signed from a folder" wrong LENGTH $((size + 1)) --dir repo
check "longer than signed" wrong TOO_LARGE $((size - 1)) --url "https://127.0.0.1:$fast/" --ca good.crt
check "longer than signed from a folder" wrong LENGTH $((size - 1)) --dir repo
check "not there" wrong ENOENT 5 --dir "$tmp/tree"
ln -s /etc/passwd repo/targets/link.tar
through_link() {
	fresh
	! "$stage" --name targets/link.tar --length "$(stat -Lc %s /etc/passwd)" --sha256 "$(sha256sum </etc/passwd | cut -d' ' -f1)" \
		--media application/x-tar --max-bytes 4000000 --max-files 3 --dir repo 3<spool 4<tree 5>progress && last_is error
}
check "a folder's links are not followed" through_link

# The archive is the signed one, and bad.
chmod 666 src/noise
tar -C src -cf repo/targets/bad.tar .
chmod 644 src/noise
fresh
named_entry() { ! run bad.tar application/x-tar --dir repo && last_is "error ARCHIVE_ENTRY 'noise': "; }
check "an entry that is not allowed is named" named_entry
fresh
too_many() { ! run a.tar.zst $zst --dir repo --max-files 1 && last_is "error TOO_LARGE "; }
check "more files than signed" too_many
fresh
head -c 100000 /dev/urandom >repo/targets/noise.zst
check "garbage" fails_with ARCHIVE run noise.zst $zst --dir repo
fresh
touch tree/there
not_empty() { ! run a.tar.zst $zst --dir repo && last_is "error ENOTEMPTY "; }
check "a folder that is not empty" not_empty

# Started wrongly.
status_is() { # STATUS COMMAND...
	local want=$1
	shift
	"$@"
	[ $? = "$want" ]
}
fresh
check "--help" status_is 0 "$stage" --help
check "no arguments" status_is 2 "$stage"
check "no descriptors" status_is 2 "$stage" --name a --length 1 --sha256 "$(printf %064d 7)" --media $zst \
	--max-bytes 1 --max-files 1 --dir repo
bad_argument() { status_is 2 run a.tar.zst $zst --dir repo "$@"; }
fresh
check "a folder and a URL are asked in their order" status_is 0 run a.tar.zst $zst --dir repo --url https://x.invalid/
fresh
check "a length that is no number" bad_argument --length 5x
check "a short digest" bad_argument --sha256 abc
check "an unknown media type" bad_argument --media text/plain
check "a name that leaves" bad_argument --name ../x
check "an unknown option" bad_argument --frobnicate
check "an extra argument" bad_argument extra
echo "1..$count"
exit $failed
