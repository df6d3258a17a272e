#!/usr/bin/env bash
# What the roads cost and how fast they are, with a real controller, broker and link: idle memory, wake-ups and bytes,
# the way back after the broker is restarted, a report to its signed acknowledgement, an artifact over MQTT and over HTTPS.
#
#   tests/bench/bench_roads.sh BUILD_FOLDER [IDLE_SECONDS]      (Release, and nothing else on the machine)
set -u
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/system/fleet_lib.bash
. "$here/../system/fleet_lib.bash"

selfright repo init "$SELFRIGHT_DIR" --fleet demo >/dev/null && start_serve || exit 1
make_component web
head -c 64000000 /dev/urandom >web/tree/noise
selfright component add web --team web >/dev/null && publish web 1.0.0 >/dev/null && add_node n1 || exit 1
within 60 selfright node show n1 >/dev/null || exit 1 # enrolled
within 20 eval "agent n1 status >/dev/null 2>\&1"
stop_agent n1
python3 "$here/bench_roads.py" "$bin" "$tmp/nodes/n1/etc" "$SELFRIGHT_DIR" "${2:-130}"
