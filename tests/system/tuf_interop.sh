#!/bin/bash
# A repository made by `selfright` is read by another implementation's client (tuf-js, which npm and sigstore use), by
# `selfright tuf`, and the two see the same. Without node, npm or its registry only the second is checked, and said so.
set -eu
program=$1/bin/selfright
dir=$(mktemp -d "${TMPDIR:-/tmp}/tuf-interop-XXXXXX")
server=
finish() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	rm -rf "$dir"
}
trap finish EXIT

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

cd "$dir"
"$program" repo init fleet --fleet interop >/dev/null
"$program" component init web >/dev/null
echo hello >web/tree/index.html
"$program" component add web --team web --dir fleet >/dev/null
"$program" publish web --version 1.0.0 --dir fleet >/dev/null

cat >serve.py <<'PY'
import functools, http.server, sys
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=sys.argv[1]))
print(s.server_address[1], flush=True)
s.serve_forever()
PY
python3 serve.py fleet/repo >port &
server=$!
for _ in $(seq 600); do
	[ -s port ] && break
	sleep 0.1
done
url=http://127.0.0.1:$(cat port)

targets="rollouts/index.json web/policy.json web/1.0.0/release.json"
options=()
for t in $targets; do options+=(--target-name "$t"); done
"$program" tuf --metadata-dir ours init fleet/repo/metadata/1.root.json
"$program" tuf --metadata-dir ours --metadata-url "$url/metadata" "${options[@]}" --target-dir got \
	--target-base-url "$url/targets" download || fail "selfright tuf could not read it"
grep -qE '"version":[[:space:]]*"1.0.0"' got/web%2F1.0.0%2Frelease.json || fail "this is not the release"
"$program" tuf --metadata-dir ours --metadata-url "$url/metadata" --target-name web/2.0.0/release.json --target-dir got \
	--target-base-url "$url/targets" download 2>/dev/null && fail "a release nobody signed was found"
echo "ok   selfright tuf reads the repository"

if ! command -v node >/dev/null || ! command -v npm >/dev/null ||
	! timeout 240 npm install --fetch-retries=1 --fetch-timeout=60000 --prefix js --no-audit --no-fund --silent tuf-js@3 >npm.log 2>&1; then
	echo "note tuf-js could not be had here; the repository was read by our own client only"
	exit 0
fi
cat >js/read.js <<'JS'
const fs = require('fs');
const { Updater } = require('tuf-js');
const [, , root, url, dir, ...paths] = process.argv;
(async () => {
  fs.mkdirSync(dir + '/metadata', { recursive: true });
  fs.mkdirSync(dir + '/targets', { recursive: true });
  fs.copyFileSync(root, dir + '/metadata/root.json');
  const updater = new Updater({ metadataDir: dir + '/metadata', metadataBaseUrl: url + '/metadata',
    targetDir: dir + '/targets', targetBaseUrl: url + '/targets' });
  await updater.refresh();
  for (const path of paths) {
    const target = await updater.getTargetInfo(path);
    if (!target) throw new Error(path + ' was not found');
    await updater.downloadTarget(target);
  }
  if (await updater.getTargetInfo('web/2.0.0/release.json')) throw new Error('found what nobody signed');
})().catch((e) => { console.error(e); process.exit(1); });
JS
# shellcheck disable=SC2086 # one word per target
node js/read.js fleet/repo/metadata/1.root.json "$url" theirs $targets || fail "tuf-js could not read it"
for f in got/*; do
	cmp "$f" "theirs/targets/$(basename "$f")" || fail "the clients differ about $f"
done
for f in root timestamp snapshot targets rollouts team-web; do
	cmp "ours/$f.json" "theirs/metadata/$f.json" || fail "the clients trust different $f"
done
echo "ok   tuf-js $(node -p "require('$dir/js/node_modules/tuf-js/package.json').version") reads the same"
