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
within 30 rollout_is second done
stop_agent n1
stop_serve
check "the same again is nothing to do" says 0 "nothing to do" agent n1 install stick/demo.tar
check "a version that no rollout opens is not taken" says 0 "nothing to do" agent n1 install stick/other.tar
ended
