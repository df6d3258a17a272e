#!/bin/bash
# The repository's life with the real programs: made, published into, rotated, signed elsewhere, restored.
# Every step's folder is checked by a verifier that shares nothing with us, and by `selfright tuf`.
set -eu
build=${1:?the build folder}
here=$(cd "$(dirname "$0")" && pwd)
selfright=$build/bin/selfright
work=$(mktemp -d "${TMPDIR:-/tmp}/selfright-repo.XXXXXX")
web=
finish() {
	status=$?
	[ -z "$web" ] || kill "$web" 2>/dev/null || true
	rm -rf "$work"
	[ $status -eq 0 ] || echo "FAILED at: ${step:-start}" >&2
	exit $status
}
trap finish EXIT
cd "$work"
unset SELFRIGHT_DIR SELFRIGHT_PASSPHRASE_FILE

step() { step=$*; echo "== $*"; }
verify() { python3 "$here/verify_repository.py" fleet/repo "$@" >versions.json; }
version() { jq -r ".\"$1\"" versions.json; }
fails() { # CODE TEXT COMMAND...: it must exit with CODE and say TEXT
	local code=$1 text=$2 got=0
	shift 2
	"$@" >out.txt 2>&1 || got=$?
	[ "$got" -eq "$code" ] || { echo "exit $got, not $code: $*"; cat out.txt; return 1; }
	grep -qF -- "$text" out.txt || { echo "no '$text' from: $*"; cat out.txt; return 1; }
}

step "help and usage"
"$selfright" --help >out.txt
grep -q publish out.txt
for words in "repo" "repo init" "repo status" "repo rotate" "repo sign" "repo merge" "repo recover" "key create" \
	"component init" "component add" "pack" "release" "publish"; do
	# shellcheck disable=SC2086
	"$selfright" $words --help >out.txt
	[ "$words" = repo ] || grep -q '^Example: selfright ' out.txt
done
fails 2 "there is no command" "$selfright" nonsense
fails 2 "there is no option" "$selfright" repo status --nonsense
fails 2 "which fleet?" "$selfright" repo status
fails 2 "needs a name" "$selfright" repo init fleet
fails 1 "no fleet's folder" "$selfright" repo status --dir "$work"

step "init"
"$selfright" repo init fleet --fleet demo
export SELFRIGHT_DIR=$work/fleet
fails 3 "holds a fleet already" "$selfright" repo init fleet --fleet demo
verify rollouts/index.json
[ "$(stat -c %a fleet/keys/root-1.pem)" = 600 ]
[ "$(stat -c %a fleet/signer)" = 700 ]
[ "$(stat -c %a fleet/repo/metadata/timestamp.json)" = 644 ]
"$selfright" repo status --json | jq -e '.fleet == "demo" and .roles.root.threshold == 2 and .roles.root.state == "ok"' >out.txt
"$selfright" key show fleet/keys/root-1.pub --json | jq -e '.keyid | length == 64' >out.txt

step "a component and two versions"
"$selfright" component init web --team web
mkdir -p web/tree/bin
printf '#!/bin/sh\necho hello\n' >web/tree/bin/start
chmod 755 web/tree/bin/start
fails 3 "selfright component add web" "$selfright" publish web --version 1.0.0
"$selfright" component add web --team web --on-call 555
fails 3 "belongs to a team already" "$selfright" component add web --team other
fails 2 "reserved" "$selfright" component add nodes --team other
"$selfright" publish web --check
"$selfright" publish web --version 1.0.0 --dry-run
[ ! -e fleet/repo/targets/web/1.0.0 ]
"$selfright" publish web --version 1.0.0 --changes "first" --json | jq -e '.state == "published"' >out.txt
verify web/policy.json web/1.0.0/release.json
"$selfright" publish web --version 1.0.0 --changes "first" >out.txt
grep -q "published already" out.txt
echo changed >web/tree/file
fails 3 "never changes" "$selfright" publish web --version 1.0.0 --changes "first"
verify web/1.0.0/release.json
"$selfright" publish web --version 1.1.0
verify web/1.0.0/release.json web/1.1.0/release.json
"$selfright" pack web -o web.tar.zst --json | jq -e '.files == 2' >out.txt
tar --zstd -tf web.tar.zst | grep -q bin/start
"$selfright" release web --version 2.0.0 -o release.json
jq -e '.version == "2.0.0" and .artifacts[0].path == "web/2.0.0/web.tar.zst"' release.json >out.txt
fails 1 "component.yaml:" bash -c "sed -i 's/^probation:.*/probation: never/' web/component.yaml; '$selfright' publish web --version 1.2.0"
sed -i 's/^probation:.*/probation: 5s/' web/component.yaml

step "a client of the protocol agrees"
python3 -m http.server --bind 127.0.0.1 --directory fleet/repo 0 >http.txt 2>&1 &
web=$!
for _ in $(seq 1200); do
	port=$(grep -oE 'port [0-9]+' http.txt | cut -d' ' -f2 || true)
	[ -n "${port:-}" ] && break
	sleep 0.05
done
[ -n "${port:-}" ] || port=$(ss -ltnp 2>/dev/null | grep "pid=$web," | grep -oE '127.0.0.1:[0-9]+' | head -1 | cut -d: -f2)
client() { "$selfright" tuf --metadata-dir trust --metadata-url "http://127.0.0.1:$port/metadata" "$@"; }
mkdir trust
"$selfright" tuf --metadata-dir trust init fleet/repo/metadata/1.root.json
client --target-name web/1.1.0/release.json --target-name rollouts/index.json --target-dir files \
	--target-base-url "http://127.0.0.1:$port/targets" download

step "keys of every role change, and nobody notices"
for role in timestamp snapshot rollouts support control targets team-web inventory root; do
	"$selfright" repo rotate $role >out.txt
	verify web/1.1.0/release.json rollouts/index.json
	client refresh
done
[ "$(version root)" -ge 5 ]
[ ! -e fleet/keys/root-1.pem ]
[ -e fleet/keys/retired-root-1.pem ]
"$selfright" publish web --version 1.2.0
verify web/1.2.0/release.json

step "a key is revoked, a threshold kept"
fails 3 "could verify nothing" "$selfright" repo rotate team-web --no-new
root=$("$selfright" key show fleet/keys/root-4.pub --json | jq -r .keyid)
"$selfright" repo rotate root --key "${root:0:12}" --no-new
"$selfright" repo status --json | jq -e '.roles.root.keys == 2' >out.txt
verify
fails 3 "a threshold of 2" "$selfright" repo rotate root --key root-5 --no-new

step "signatures made elsewhere"
mkdir anna ben
mv fleet/keys/root-5.pem anna/
mv fleet/keys/root-6.pem ben/
fails 3 "0 of 2 signatures" "$selfright" repo renew root -o root.request.json
before=$(version root)
verify
[ "$(version root)" = "$before" ]
(unset SELFRIGHT_DIR
"$selfright" repo sign root.request.json --keys anna -o anna.json >out.txt
grep -q 'role root' out.txt
"$selfright" repo sign root.request.json --keys ben -o ben.json >out.txt)
fails 3 "1 of 2 signatures" "$selfright" repo merge anna.json -o half.json
sed 's/"fleet":.*"demo"/"fleet":	"other"/' anna.json >foreign.json
fails 3 "another fleet" "$selfright" repo merge foreign.json ben.json
jq -c '.signed.version += 1' ben.json >other.json
fails 3 "another change" "$selfright" repo merge anna.json other.json
"$selfright" repo merge anna.json ben.json >out.txt
grep -q "is published" out.txt
verify
[ "$(version root)" -eq $((before + 1)) ]
client refresh
"$selfright" repo sign-request targets -o targets.request.json
"$selfright" repo sign targets.request.json >out.txt
"$selfright" repo merge targets.request.json >out.txt
verify

step "a key with a passphrase"
printf 'correct horse\n' >phrase
printf 'wrong horse\n' >wrong
"$selfright" component init api --team api
"$selfright" component add api --team api --keys 2 --threshold 2 --passphrase-file phrase
grep -q ENCRYPTED fleet/keys/team-api-1.pem
echo data >api/tree/data
fails 1 "is encrypted" "$selfright" publish api --version 1.0.0
fails 1 "is encrypted" "$selfright" publish api --version 1.0.0 --passphrase-file wrong
SELFRIGHT_PASSPHRASE_FILE=phrase "$selfright" publish api --version 1.0.0
verify api/1.0.0/release.json

step "a restored backup"
cp -a fleet/signer backup
sleep 1.1 # versions are seconds
"$selfright" publish web --version 1.3.0
verify
newest=$(version timestamp)
rm -rf fleet/signer
cp -a backup fleet/signer
fails 3 "selfright repo recover" "$selfright" publish web --version 1.4.0
verify
[ "$(version timestamp)" = "$newest" ]
"$selfright" repo recover >out.txt
grep -q "timestamp: version" out.txt
[ -e fleet/serve/recovered ]
verify web/1.3.0/release.json
[ "$(version timestamp)" -gt "$newest" ]
client refresh
"$selfright" publish web --version 1.4.0
verify web/1.4.0/release.json

step "what a node holds lifts the versions"
cp -a trust exported
rm -rf fleet/signer fleet/repo.old
cp -a backup fleet/signer
"$selfright" repo recover --from exported --at-least "support=1999999999" --json | jq -e '.adopted.support.to == 1999999999' >out.txt
verify
[ "$(version support)" -eq 2000000000 ]
client refresh

step "the log has every signature"
jq -es 'length > 20 and all(.[]; .time and .role and (.sha256 | length == 64))' fleet/signer/signer.log >out.txt

step "nobody is left behind"
if pgrep -f "selfright-signer.*$work" >out.txt; then false; fi
echo "all steps passed"
