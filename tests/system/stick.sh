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
check "that runs" within 20 agent n1 status
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
check "the same again is nothing to do" says 0 "nothing to do" agent n1 install stick/demo.tar
check "a version that no rollout opens is not taken" says 0 "nothing to do" agent n1 install stick/other.tar
ended
