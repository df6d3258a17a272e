#!/usr/bin/env bash
# A backup is restored: the signer refuses to go back, `repo recover` goes on above what nodes have seen,
# rollouts come back paused. Then the same with everything restored, where only a node knows better; and a
# lost root, replaced at a node's console.
set -u
# shellcheck source=tests/system/fleet_lib.bash
. "$(dirname "$0")/fleet_lib.bash"
published() { jq .signed.version "$SELFRIGHT_DIR/repo/metadata/timestamp.json"; }
trusted() { jq .signed.version "$tmp/nodes/$1/root/trust/timestamp.json"; }
# An order is announced to its node alone: the others are behind by that publication.
ahead() { [ "$(trusted "$1")" -gt "$seen" ]; }
caught_up() { [ "$(trusted "$1")" = "$(published)" ]; }
paused_why() { selfright rollout show "$1" --json | holds '.state == "paused" and (.reason | startswith("restored from a backup"))'; }

check "a fleet's folder" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "the controller" start_serve
make_component web
check "a component" selfright component add web --team web
make_component dns
check "another component" selfright component add dns --team dns
for v in 1.0.0 1.1.0; do check "dns $v" publish dns $v; done
check "two nodes" eval 'add_node n1 && add_node n2'
for v in 1.0.0 1.1.0 1.2.0 1.3.0 1.4.0; do check "web $v" publish web $v; done
check "a rollout of 1.0.0" selfright rollout start --id first --component web --version 1.0.0 --stage all=all
check "is on both" eval 'within 30 runs n1 web 1.0.0 && within 30 runs n2 web 1.0.0'
check "and done" within 30 rollout_is first done
check "a rollout of 1.1.0 that is still running: its first stage soaks" \
	selfright rollout start --id second --component web --version 1.1.0 --stage one=nodes:n1,soak:1h --stage rest=all
check "n1 has it" within 30 runs n1 web 1.1.0
check "an order for n2" selfright node hold n2 --for 1h --reason "trade fair"

# --- the backup, and what happens after it ---
check "the controller stops for its backup" stop_serve
mkdir backup
cp -a fleet/signer fleet/serve backup/
cp -a fleet/repo backup/repo
check "and starts again" start_serve
sleep 2 # versions are seconds
check "a rollout is started after the backup, and halted" eval "selfright rollout start --id bad --component dns --version 1.0.0 --stage one=nodes:n1 --stage rest=all >/dev/null &&
	selfright rollout halt bad --reason 'it is bad' >/dev/null"
check "another one runs, with a window and its first stage open" selfright rollout start --id late --component dns --version 1.1.0 \
	--stage one=nodes:n1,soak:2h --stage rest=all --window 00:00-24:00 --disruption site=1 --max-failures 3 --silent-after 45m
check "its plan lies beside it, for the folder's owner alone" eval "[ \"\$(stat -c %a fleet/repo/plans/late.json)\" = 640 ] &&
	api 'http://x/v1/target?path=rollouts/late.json' | holds --arg s \"\$(sha256sum <fleet/repo/plans/late.json | cut -d' ' -f1)\" '.plan_sha256 == \$s'"
check "and is handed to nobody" eval "[ \"\$(curl -s -o /dev/null -w '%{http_code}' --cacert fleet/serve/tls/ca.crt \
	https://127.0.0.1:\$(jq .https_port fleet/serve/serve.json)/plans/late.json)\" = 404 ]"
check "an order is given after the backup" selfright node hold n1 --for 2h --reason "after the backup"
check "something else is published after the backup" selfright freeze --all --reason "after the backup" --until 1h
check "the nodes have it" eval 'within 60 caught_up n1 && within 60 caught_up n2'
seen=$(trusted n1)
check "the controller is lost" stop_serve

# --- signer and serve come back from the backup, the published folder is as it was, but for what a thief did ---
check "somebody makes a plan softer" sed -i 's/"max_failures":[0-9]*/"max_failures":1000/' fleet/repo/plans/bad.json
check "and it is softer" grep -q 1000 fleet/repo/plans/bad.json
restore() { # PART...
	for part; do rm -rf "fleet/$part" && cp -a "backup/$part" fleet/ || return 1; done
	rm -f fleet/signer/signer.sock fleet/serve/control.sock
}
check "signer and serve are restored" restore signer serve
selfright serve >>serve.log 2>&1 &
serve_pid=$!
check "the signer says what to do" within 20 grep -q 'repo recover' serve.log fleet/signer/signer.log
sleep 2
check "and signs nothing: what is published is newer" eval "[ \"\$(published)\" = $seen ]"
kill $serve_pid 2>/dev/null
wait $serve_pid 2>/dev/null
serve_pid=
check "repo recover goes on above it" says 0 "Rollouts come back paused" selfright repo recover
check "the new timestamp is above the one nodes have" eval "[ \"\$(published)\" -gt $seen ]"
check "the controller starts" start_serve
check "the rollout that was running is paused" within 10 paused_why second
check "the one that was halted after the backup is halted" rollout_is bad halted
check "the one that was started after it is known again, and paused" rollout_is late paused
check "with its open stage, its window and its limit" eval "selfright rollout show late --json |
	holds '.stages[0].open and (.stages[1].open | not) and .plan.window == \"00:00-24:00\" and .plan.disruption.maximum == 1 and (.reason | test(\"rebuilt\"))'"
check "and with its soak and what it bears, which nodes are not told" eval "selfright rollout show late --json |
	holds '.stages[0].soak == 7200 and .plan.gates.max_failures == 3 and .plan.gates.silent_after == 2700 and (.reason | test(\"with its plan\"))'"
check "a plan that somebody changed meanwhile is not taken" eval "selfright rollout show bad --json |
	holds '.plan.gates.max_failures < 1000 and (.stages | length) == 2 and (.reason | test(\"not known\"))' && grep -q 'plan-not-found.*rollout=bad' serve.log"
check "and that is in the timeline" eval "api 'http://x/v1/events?after=0' | holds '[.events[] | select(.kind == \"rollout-found\") | .text] | length == 2'"
check "nodes still read it by its own number" eval "api 'http://x/v1/target?path=rollouts/late.json' | holds '.state == \"paused\" and .stages[0].open and .opened.one'"
check "the order is to be confirmed" eval "api 'http://x/v1/events?after=0' | holds '[.events[] | select(.kind == \"order-to-confirm\")] | length == 2'"
check "repo status lists it" says 0 "order to confirm: hold-" selfright repo status
check "and is not in force meanwhile" within 30 not api -f -o /dev/null 'http://x/v1/target?path=nodes/n2.json'
check "the one that was given after the backup was found published, and waits too" \
	eval "selfright node confirm --json | holds '[.unconfirmed[] | .node] | sort == [\"n1\",\"n2\"]'"
order_of() { selfright node confirm --json | jq -r --arg n "$1" '.unconfirmed[] | select(.node == $n).id'; }
n2_order=$(order_of n2)
check "an order that is not there" says 3 "no order" selfright node confirm hold-0
check "a person confirms one" says 0 "in force" selfright node confirm "$n2_order"
check "then it is published" api -f -o /dev/null 'http://x/v1/target?path=nodes/n2.json'
check "and withdraws the other" says 0 "withdrawn" selfright node confirm "$(order_of n1)" --withdraw
check "none waits any more" says 0 "no order waits" selfright node confirm
check "each is in the audit trail" eval "api http://x/v1/audit | holds '[.entries[].action | select(. == \"order-confirm\" or . == \"order-withdraw\")] | length == 2'"
check "it happens once" not test -e fleet/serve/recovered
check "what is over leaves no plan behind" eval "selfright rollout cancel bad --reason 'it is over' >/dev/null && within 10 not test -e fleet/repo/plans/bad.json && test -e fleet/repo/plans/late.json"
check "the nodes take the new metadata" eval 'within 60 ahead n1 && within 60 ahead n2'
check "n2 has not moved" runs n2 web 1.0.0
check "a new rollout gets a seq far above" eval "selfright rollout cancel second --reason 'look again' >/dev/null &&
	selfright rollout start --id third --component web --version 1.2.0 --stage all=all --json | holds '.seq > 1000'"
is_held() { selfright node list --held --json | holds '[.held[] | [.node, .component, .wants, .why, .order.reason]] == [["n2","web","1.2.0","support-hold","trade fair"]]'; }
check "who is held is left behind, and the desk lists it" within 60 is_held
check "for people too" says 0 "support-hold: trade fair" selfright node list --held
check "until the hold is withdrawn" selfright node hold n2 --withdraw
check "and reaches the nodes" eval 'within 60 runs n1 web 1.2.0 && within 60 runs n2 web 1.2.0'

check "nobody is left behind any more" within 30 says 0 "no node is left behind" selfright node list --held

# --- a patch goes before a rollout that is not finished ---
check "the one before is done" within 60 rollout_is third done
check "a rollout that soaks" selfright rollout start --id fourth --component web --version 1.3.0 --stage one=nodes:n1,soak:2h --stage rest=all
check "another regular one may not start beside it" says 3 "not finished" selfright rollout start --id fifth --component web --version 1.4.0 --stage all=all
check "a patch may" says 0 "the patch goes before it" selfright rollout start --id hurry --component web --version 1.4.0 --kind patch \
	--override window --override spread --stage all=all
check "that one is paused, and says why" eval "selfright rollout show fourth --json | holds '.state == \"paused\" and .reason == \"the patch hurry goes before it, and overrides window, spread\"'"
check "who did it is in the audit trail" eval "api http://x/v1/audit | holds '[.entries[] | select(.action == \"pre-empt\" and (.by | length) > 0)] | length == 1'"
check "both nodes take the patch" eval 'within 60 runs n1 web 1.4.0 && within 60 runs n2 web 1.4.0'
check "it is done" within 30 rollout_is hurry done
check "nodes would not follow the older one any more" says 3 "newer rollout 'hurry'" selfright rollout resume fourth --reason 'go on'

# --- everything is restored: only the nodes know better ---
check "the controller is lost again" stop_serve
seen=$(trusted n1)
check "signer, serve and the published folder are restored" restore signer serve repo
selfright serve >>serve.log 2>&1 &
serve_pid=$!
was_told() { grep -q backup-is-old serve.log; }
check "a node's report proves that the backup is old" within 60 was_told
rests() { old=$(published) && sleep 3 && [ "$(published)" = "$old" ]; }
check "nothing is signed any more" within 20 rests
check "and nothing as new as what was" [ "$(published)" -lt "$seen" ]
check "the nodes stay with what they have" eval "[ \"\$(trusted n1)\" -ge $seen ]"
check "repo status says why" says 0 "recover" selfright repo status
kill $serve_pid 2>/dev/null
wait $serve_pid 2>/dev/null
serve_pid=
check "a node's trust is copied" says 0 "timestamp.json" agent n1 trust export "$tmp/exported"
check "with its bytes" cmp "$tmp/nodes/n1/root/trust/timestamp.json" "$tmp/exported/timestamp.json"
check "recover with it" selfright repo recover --from "$tmp/exported"
check "is above all that was seen" eval "[ \"\$(published)\" -gt $seen ]"
check "the controller starts" start_serve
check "the nodes take it" eval 'within 60 ahead n1 && within 60 ahead n2'

# --- everything is restored and no node speaks: only the broker knows better ---
stop_agent n1
stop_agent n2
check "the controller is lost once more" stop_serve
seen=$(published)
cp -a fleet/serve/mosquitto/data broker-data
check "signer, serve and the published folder are restored, the broker is as it was" eval \
	'restore signer serve repo && rm -rf fleet/serve/mosquitto/data && cp -a broker-data fleet/serve/mosquitto/data'
: >serve.log
selfright serve >>serve.log 2>&1 &
serve_pid=$!
check "what the broker keeps proves that the backup is old" within 60 was_told
check "nothing was signed before that" eval "[ \"\$(published)\" -lt $seen ]"
check "nothing can be published either" says 0 "not published yet" selfright freeze --all --reason x --until 1h
check "still nothing is signed" eval "[ \"\$(published)\" -lt $seen ]"
kill $serve_pid 2>/dev/null
wait $serve_pid 2>/dev/null
serve_pid=
# Orders are announced to their node alone, so the broker's word may be older by those; versions follow the clock, and
# here they ran ahead of it, as a publication a second was more than there is in a day.
check "the clock has come up with what was published" within 30 eval "[ \"\$(date +%s)\" -gt $seen ]"
check "recover with the bytes of the broker" selfright repo recover --from fleet/serve/seen
check "is above all that was seen" eval "[ \"\$(published)\" -gt $seen ]"
check "the controller starts" start_serve
start_agent n1
start_agent n2
check "the nodes take it" eval 'within 60 ahead n1 && within 60 ahead n2'

# --- the root is lost ---
check "another repository is made with keys that are still there" \
	env -u SELFRIGHT_DIR selfright repo init "$tmp/other" --fleet demo
other=$tmp/other/repo/metadata/1.root.json
sum=$(sha256sum "$other" | cut -d' ' -f1)
check "without its hash from elsewhere it is not taken" says 2 "--sha256" agent n1 trust replace "$other"
check "with another hash neither" says 4 "not the one you gave" agent n1 trust replace "$other" --sha256 "${sum/[0-9]/f}"
sed 's/"sig":"30/"sig":"31/g' "$other" >broken.json
check "nor one whose signatures do not hold" \
	says 4 "" agent n1 trust replace broken.json --sha256 "$(sha256sum broken.json | cut -d' ' -f1)"
check "the old one is trusted until then" eval "[ \"\$(jq -c .signed.roles.root nodes/n1/root/trust/root.json)\" != \"\$(jq -c .signed.roles.root $other)\" ]"
check "with it the running agent starts from the new root" says 0 "starts from" agent n1 trust replace "$other" --sha256 "$sum"
check "its bytes are stored" cmp "$other" nodes/n1/root/trust/root.json
check "trust show has it" says 0 "$sum" agent n1 trust show
refuses() { agent n1 status --json | holds '.metadata.error | length > 0'; }
check "what the old keys sign is refused from now on" within 30 refuses
check "what runs, runs on" runs n1 web 1.4.0
check "back again, by the same road" agent n1 trust replace fleet/repo/metadata/1.root.json --sha256 \
	"$(sha256sum fleet/repo/metadata/1.root.json | cut -d' ' -f1)"
check "and the fleet's metadata is good again" within 30 not refuses
ended
