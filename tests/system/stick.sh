#!/usr/bin/env bash
# Nodes without a network: what `selfright bundle` writes is what `selfright-agent install` takes.
set -u
here=$(cd "$(dirname "$0")" && pwd)
python3 "$here/engine/stick.py" "$1" || exit 1
. "$here/fleet_lib.bash"

check "a fleet" selfright repo init fleet --fleet demo
check "without a name for the file it asks for one" says 2 "-o FILE" selfright bundle
make_component web
check "a team" selfright component add web --team web
check "a release" publish web 1.0.0
check "and another" publish web 1.1.0
check "a controller" start_serve
check "a node" add_node n1
check "that the controller knows" within 60 eval 'api http://x/v1/nodes/n1 | holds .online'
stop_agent n1
check "a rollout for it" selfright rollout start --component web --version 1.0.0 --stage all=all --id first
check "a folder for it" mkdir stick
check "the bundle holds what the rollout names" holds '.releases == [{"component":"web","version":"1.0.0"}] and .files > 8' \
	<(selfright bundle -o stick/demo.tar --json)
check "every tar reads it" tar tf stick/demo.tar metadata/timestamp.json
check "other versions are named" says 0 "web 1.1.0" selfright bundle -o stick/other.tar --component web --version 1.1.0 --node n1
check "what is not published is refused" says 1 "web/9.9.9/release.json" selfright bundle -o stick/none.tar --component web --version 9.9.9
check "and leaves nothing" test ! -e stick/none.tar -a ! -e stick/none.tar.pending
stop_serve
check "the node takes it" says 0 "good" agent n1 install stick/demo.tar
check "and runs it" runs n1 web 1.0.0
check "its signed report lies beside it" holds '.signed.results[0].name == "good"' stick/selfright-reports/n1.json
# --- back at the desk ---
check "the controller again" start_serve
told() { # how many results of n1 the controller counts
	python3 -c 'import sqlite3, sys; print(sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True).execute("SELECT count(*) FROM results WHERE node = \"n1\"").fetchone()[0])' \
		"$SELFRIGHT_DIR/serve/selfright.db"
}
check "the stick's report is taken in" says 0 "n1" selfright node report --import stick
check "the controller knows what runs there" within 20 believes n1 web 1.0.0
check "the rollout as well" within 30 rollout_is first done
results=$(told)
check "the same again is known already" eval 'selfright node report --import stick --json | holds ".taken == 1 and .refused == 0 and .reports[0].verdict == \"duplicate\""'
cp -r stick/selfright-reports forged
sed -i 's/"sequence":[0-9]*/"sequence":99999/' forged/n1.json
check "one that was changed on the way is refused" says 3 "n1" selfright node report --import forged/n1.json
echo '{"signed":{"node":"../../x"}}' >forged/x.json
head -c 300000 /dev/zero >forged/zeros.json
ln -s /etc/passwd forged/link.json
check "and what is none" eval '! selfright node report --import forged --json >answer && holds ".taken == 0 and .refused == 4" <answer'
check "a folder without reports is said" says 3 "no report in it" selfright node report --import web
start_agent n1
check "when the node comes by itself later" within 30 eval 'api http://x/v1/nodes/n1 | holds .online'
check "and what the stick told is no news again" eval '[ "$results" = 1 ] && [ "$(told)" = 1 ]'

# --- a factory image: no network, no machine yet, nobody who knows how it is done ---
stop_agent n1
mkdir -p image/etc image/usr/bin image/var/lib
into() { selfright-agent install stick/demo.tar --root "$1"; }
check "an image that has joined no fleet says what comes first" says 1 "selfright-agent join FILE --config-dir $tmp/image/etc/selfright comes first" \
	into image
check "and is not filled by this machine's configuration" eval '[ -z "$(find image -type f)" ]'
check "a node for images" selfright node add factory -o factory.join
check "joins it" says 0 "joined" selfright-agent join factory.join --config-dir image/etc/selfright
cp -r image bare && rm bare/etc/selfright/root.json
check "without the root key nothing is trusted, and it says where that comes from" says 1 "bare/etc/selfright/root.json: it is missing" into bare
check "also for programs" eval '! selfright-agent install stick/demo.tar --root bare --json >answer 2>/dev/null && holds ".error // .detail | test(\"root.json.*join FILE\")" answer'
head -c 300 image/etc/selfright/root.json >bare/etc/selfright/root.json
check "half of it is none" says 1 "bare/etc/selfright/root.json: it is no root that its own keys signed" into bare
check "nothing was installed there" test ! -e bare/var/lib/selfright/current
check "another fleet" selfright repo init other --fleet demo
cp other/repo/metadata/1.root.json bare/etc/selfright/root.json
check "another fleet's root takes no bundle of this one" says 1 "metadata were refused" into bare
check "nothing was installed there either" test ! -e bare/var/lib/selfright/current
check "a stick that was pulled out half written is said" eval 'head -c 9000 stick/demo.tar >stick/half.tar; says 1 "half.tar: neither a folder nor a whole tar" selfright-agent install stick/half.tar --root image'
check "the image takes the bundle" says 0 "good-unproven" into image
check "the version lies there" test -f image/var/lib/selfright/current/web/file
check "the same again is nothing to do" says 0 "nothing to do" into image
# What makes it this one machine does not go into what is copied a thousand times.
rm -r image/etc/selfright
check "a machine made of it joins as itself" mkdir -p nodes/n7
boots() {
	cp -r image/var/lib/selfright nodes/n7/root
	selfright node add n7 -o nodes/n7/join &&
		selfright-agent join nodes/n7/join --config-dir nodes/n7/etc --root "$tmp/nodes/n7/root" --run "$tmp/nodes/n7/run" || return 1
	echo "users: {link: nobody, stage: nobody, component: nobody}" >>nodes/n7/etc/agent.yaml
	# As a new user says it: where one stands, and not with the whole path.
	selfright-agent run --config-dir nodes/n7/etc >>nodes/n7/agent.log 2>&1 &
	agent_n7=$!
	pids+=($!)
}
check "when it boots" boots
check "it reports what it came with" within 60 believes n7 web 1.0.0
check "as what has not been proved" eval 'selfright node show n7 --json | holds ".results[0].name == \"good-unproven\""'
stop_agent n7
start_agent n1

# --- a bundle for longer than usual, for a node that is away ---
stop_agent n1
check "the signer does not allow it by itself" says 3 "bundle-life" selfright bundle -o stick/long.tar --valid 90d
echo 90d >"$SELFRIGHT_DIR/signer/bundle-life"
check "a longer time than the administrator's neither" says 3 "hours at most" selfright bundle -o stick/long.tar --valid 91d
check "with leave it is signed for 90 days" eval 'selfright bundle -o stick/long.tar --valid 90d --json | holds ".expires > \"$(date -u -d "+89 days" +%Y-%m-%dT%H:%M:%SZ)\""'
check "what is published keeps its usual life" eval 'holds ".signed.expires < \"$(date -u -d "+4 days" +%Y-%m-%dT%H:%M:%SZ)\"" <"$SELFRIGHT_DIR/repo/metadata/timestamp.json"'
version_in() { tar xOf "$1" metadata/timestamp.json | jq .signed.version; }
check "and goes on above it" eval '[ "$(jq .signed.version "$SELFRIGHT_DIR/repo/metadata/timestamp.json")" -gt "$(version_in stick/long.tar)" ]'
check "the node takes it" says 0 "nothing to do" agent n1 install stick/long.tar
start_agent n1
check "and what is published afterwards" selfright rollout start --component web --version 1.1.0 --stage all=all --id second
check "it follows" within 60 runs n1 web 1.1.0
proved() { agent n1 history --json | holds '[.history[] | select(.to == "1.1.0" and .name == "good")] | length == 1'; }
check "and proves it" within 60 proved
stop_agent n1
stop_serve
check "the same again is nothing to do" says 0 "nothing to do" agent n1 install stick/demo.tar
check "a version that no rollout opens is not taken" says 0 "nothing to do" agent n1 install stick/other.tar
ended
