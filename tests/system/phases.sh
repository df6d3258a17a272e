#!/usr/bin/env bash
# The broker is killed in each phase from stopping on, and stays away until the phase has ended: the node, which reaches
# nothing else, gets to the end it would have had, and its news arrives once when the broker is back. Before and in
# staging, and in probation: carriers.sh.
set -u
# shellcheck source=tests/system/fleet_lib.bash
. "$(dirname "$0")/fleet_lib.bash"

gates=$tmp/gates # what the service and its check wait for; the test opens and closes them, so that nothing is timed
state_is() { agent n1 status --json | holds --arg s "$1" '.state == $s'; }
ends() { # VERSION NAME: one such end in the node's history
	agent n1 history --json | holds --arg v "$1" --arg n "$2" '[.history[] | select(.to == $v and .name == $n)] | length == 1'
}
told() { # VERSION NAME: the controller has heard of it
	api "http://x/v1/events?after=0&limit=1000" | holds --arg v "$1" --arg n "$2" \
		'[.events[] | select(.kind == "good" or .kind == "result") | .detail | select(.to == $v and .name == $n)] | length >= 1'
}
# Of each update each state and each end is news once.
once() {
	[ -z "$(api "http://x/v1/events?after=0&limit=1000" | jq -r '.events[] | select(.kind == "state" or .kind == "good" or .kind == "result") |
		"\(.kind) \(.component) \(.text) \(.detail.update? // "")"' | sort | uniq -d)" ]
}
online() { agent n1 status --json | holds .link.connected; }
offline() { agent n1 status --json | holds '.link.connected | not'; }

make_service() {
	mkdir -p web/tree/bin
	# It ends when the test lets it.
	cat >web/tree/bin/start <<-EOF
		#!/bin/sh
		trap 'while [ ! -e $gates/may-stop ]; do sleep 0.05; done; exit 0' TERM
		while :; do sleep 0.05; done
	EOF
	# And its probation, once its version is current.
	cat >web/tree/bin/well <<-EOF
		#!/bin/sh
		while [ -e "$gates/hold-\$(cat "\$SELFRIGHT_CURRENT/web/file")" ]; do sleep 0.05; done
		test -e $gates/well
	EOF
	chmod 755 web/tree/bin/start web/tree/bin/well
	cat >web/component.yaml <<-EOF
		component: web
		team: web
		kind: tree
		tree: tree
		services:
		  - {name: app, start: [bin/start], stop_before_swap: true, stop_timeout: 600}
		checks:
		  - {name: well, exec: {command: [bin/well]}, periodSeconds: 1, timeoutSeconds: 600, failureThreshold: 2}
		probation: ${2:-2s}
		watch: ${1:-0s}
	EOF
}
release() { # VERSION WATCH [PROBATION]
	make_service "$2" "${3:-}" && echo "$1" >web/tree/file && selfright publish web --version "$1" --changes "$1"
}

check "a fleet's folder" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "a controller, for its certificate" start_serve
stop_serve
check "a broker of its own life" make_broker
check "which starts" start_broker
check "a controller with that one" start_serve --broker "localhost:$secure"
mkdir -m 755 "$gates" && touch "$gates/well" "$gates/may-stop"
make_service
check "a component" selfright component add web --team web
check "a node" add_node n1
stop_agent n1
# Nobody listens at the repository's address, and tries do not wait for long.
sed -i -E "s|https://[^],\"' ]*|https://127.0.0.1:1/|g; s|^( *)port: $secure\$|&\n\1retry: {base: 1, cap: 2, spread: 1}|" "$tmp/nodes/n1/etc/agent.yaml"
start_agent n1
check "reaches the broker alone" within 60 online
check "web 1.0.0" release 1.0.0 0s
check "a rollout" selfright rollout start --id first --component web --version 1.0.0 --stage all=all
check "is on the node" within 60 ends 1.0.0 good
check "and done" within 60 rollout_is first done

# --- in stopping; then on watch, which ends well ---
check "web 1.1.0, to be watched for a while" release 1.1.0 10s
rm "$gates/may-stop"
touch "$gates/hold-1.1.0"
check "a rollout" selfright rollout start --id second --component web --version 1.1.0 --stage all=all
check "stops the old version" within 60 state_is stopping
kill_broker
check "the broker is killed: the node knows" within 60 offline
check "and is still stopping" state_is stopping
touch "$gates/may-stop"
check "the swap goes on without it" within 60 runs n1 web 1.1.0
check "and is on probation" within 60 state_is probation
check "the broker is back" start_broker
check "to which the node finds" within 90 online
rm "$gates/hold-1.1.0"
check "it ends well" within 90 ends 1.1.0 good
check "and is watched" within 30 grep -q 'update-state: .*state=watch' "$tmp/nodes/n1/agent.log"
kill_broker
check "the broker is killed again" within 60 offline
check "the watch ends all the same" within 60 state_is idle
check "with the new version" runs n1 web 1.1.0
check "the broker is back once more" start_broker
check "the controller knows" within 90 told 1.1.0 good
check "and done" within 60 rollout_is second done
check "no state and no end is news twice" once

# --- in rolling-back ---
check "web 1.2.0, long on probation" release 1.2.0 0s 10m
check "a rollout" selfright rollout start --id third --component web --version 1.2.0 --stage all=all
check "is on probation" within 60 state_is probation
rm "$gates/may-stop" "$gates/well"
check "fails, and goes back slowly" within 60 state_is rolling-back
kill_broker
check "the broker is killed: the node knows" within 60 offline
check "and is still going back" state_is rolling-back
touch "$gates/may-stop" "$gates/well"
check "it gets there without it" within 60 ends 1.2.0 check-failed
check "to the version before" runs n1 web 1.1.0
check "and is idle" within 60 state_is idle
check "of which nobody knows yet" not told 1.2.0 check-failed
check "the broker is back" start_broker
check "and the news with it" within 60 told 1.2.0 check-failed
check "which halts the rollout" within 60 rollout_is third halted
check "no state and no end is news twice" once

# --- on watch, which finds something ---
check "web 1.3.0, to be watched for long" release 1.3.0 1h
check "a rollout" selfright rollout start --id fourth --component web --version 1.3.0 --stage all=all
check "is good" within 60 told 1.3.0 good
check "and watched" within 60 state_is watch
kill_broker
check "the broker is killed: the node knows" within 60 offline
check "and is still watching" state_is watch
rm "$gates/well"
check "a late fault sends it back without it" within 60 ends 1.3.0 regressed
check "to the version before" runs n1 web 1.1.0
touch "$gates/well"
check "the broker is back" start_broker
check "and the news with it" within 60 told 1.3.0 regressed
check "the controller believes what runs" within 60 believes n1 web 1.1.0
check "no state and no end is news twice" once
ended
