#!/usr/bin/env bash
# Approvals with the real programs: a team asks for them, approvers sign, the controller collects and
# publishes, the node counts for itself. What the controller says of them changes nothing at the node.
set -u
# shellcheck source=tests/system/fleet_lib.bash
. "$(dirname "$0")/fleet_lib.bash"

check "a fleet's folder" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "the controller" start_serve
make_component web
check "a component" selfright component add web --team web
check "two nodes, one of them a canary by its own label" eval 'add_node n1 --label site=oslo && add_node n2 --label channel=canary'
for v in 1.0.0 1.1.0 1.2.0; do check "web $v" publish web $v; done

# --- the policy ---
check "an approver must be named before a policy asks for it" \
	says 3 "no approver is named qa" selfright component policy web --approval qa:regular
mkdir -p keys
selfright key create qa-1 --keys keys >/dev/null
selfright key create qa-2 --keys keys >/dev/null
selfright key create stranger --keys keys >/dev/null
check "no threshold beyond the keys" says 2 "nobody could approve" \
	selfright repo approvers add qa --key keys/qa-1.pub --threshold 2
check "'team' is no approver's name" says 2 "not 'team'" selfright repo approvers add team --key keys/qa-1.pub
check "two keys approve as qa, both are needed" \
	says 0 "2 of 2 keys" selfright repo approvers add qa --key keys/qa-1.pub --key keys/qa-2.pub --threshold 2
check "and are listed" says 0 "qa: 2 of 2 keys" selfright repo approvers list
check "a rule must be one" says 2 "no kind of rollout" selfright component policy web --approval qa:sometimes
check "a floor must be a version" says 2 "is no version" selfright component policy web --floor abc
check "the team asks for qa, except on canaries" says 0 '"approver"' \
	selfright component policy web --approval 'qa:regular:exempt channel=canary' --floor 1.0.0 --on-call 555
check "the policy is what was asked for" eval "selfright component policy web --json | holds '
	.approvals == [{approver:\"qa\",kinds:[\"regular\"],exempt_label:\"channel=canary\"}] and .security_floor == \"1.0.0\" and .on_call == \"555\"'"
check "a second change keeps the first" eval "selfright component policy web --owner 'web people' >/dev/null &&
	selfright component policy web --json | holds '.owner == \"web people\" and .approvals[0].approver == \"qa\"'"

# --- a rollout without approval ---
check "a rollout of 1.0.0 starts" selfright rollout start --id first --component web --version 1.0.0 --stage all=all
check "the exempt node takes it" within 30 runs n2 web 1.0.0
check "the other one waits for the approval, and says so" within 20 waits_for n1 not-approved
check "rollout show names whose approval is missing" says 0 "needs the approval of qa (not on nodes labelled channel=canary), 0 of 2" \
	selfright rollout show first
check "a stranger's signature is refused" says 3 "no approver" \
	selfright approve first --stage all --key keys/stranger.pem
check "the team's own key is not qa's" says 3 "no approver" \
	selfright approve first --stage all --key "$SELFRIGHT_DIR/keys/team-web-1.pem"
check "a stage that is not there" says 2 "no such stage" selfright approve first --stage none --key keys/qa-1.pem
check "no rollout of that name" says 3 "" selfright approve none --stage all --key keys/qa-1.pem
check "one of two" says 0 "1 of 2 signatures of qa" selfright approve first --stage all --key keys/qa-1.pem
check "the same key again is still one" says 0 "1 of 2 signatures of qa" selfright approve first --stage all --key keys/qa-1.pem
sleep 2
check "is not enough for the node" not runs n1 web 1.0.0
check "the second joins the first" says 0 "approved" selfright approve first --stage all --key keys/qa-2.pem
check "and the node goes" within 30 runs n1 web 1.0.0
check "rollout show says so" says 0 "has the approval of qa" selfright rollout show first
check "the rollout ends" within 30 rollout_is first done
check "the audit trail has both" eval "api http://x/v1/audit | holds '[.entries[] | select(.action == \"approve\")] | length == 2 and true'"

# --- an approval is for what it was given for ---
check "a rollout in two stages" selfright rollout start --id second --component web --version 1.1.0 \
	--stage some=nodes:n2 --stage rest=all
for k in 1 2; do
	check "qa approves only the stage 'some' ($k), and sees for whom" says 0 "for the 1 node named" \
		selfright approve second --stage some --key keys/qa-$k.pem
done
check "by name" grep -qx "    n2" "$tmp/said"
check "the first stage is done" within 30 runs n2 web 1.1.0
check "the approval of one stage is none for the next" within 30 waits_for n1 not-approved
# An approval of another rollout, put into this one by whoever holds the controller's database.
sqlite3 "$SELFRIGHT_DIR/serve/selfright.db" "INSERT INTO approvals SELECT 'second', 1, expires, keyid, sig, at, by
	FROM approvals WHERE rollout = 'first'" 2>"$tmp/sqlite.log"
check "another rollout's signatures, published here by a bad controller" \
	eval 'selfright rollout pause second --reason x >/dev/null && selfright rollout resume second --reason x >/dev/null &&
		api "http://x/v1/target?path=rollouts/second.json" | holds ".stages[1].approvals[0].signatures | length == 2"'
read_it() { [ "$(jq .signed.version "$tmp/nodes/n1/root/trust/timestamp.json")" -ge "$published" ]; }
published=$(jq .signed.version "$SELFRIGHT_DIR/repo/metadata/timestamp.json")
check "reach the node" within 30 read_it
check "and move none" within 30 waits_for n1 not-approved
sleep 2
check "at all" not runs n1 web 1.1.0
# --- the key is on a machine without a network ---
check "a request for the stage 'rest'" says 0 "approve --sign" selfright approve second --stage rest --request rest.json --expires 1h
check "carries no signature yet" says 3 "no signature yet" selfright approve --import rest.json
offline() { env -u SELFRIGHT_DIR unshare -n -- "$(command -v selfright)" "$@"; }
unshare -n true 2>/dev/null || offline() { env -u SELFRIGHT_DIR selfright "$@"; }
check "is shown and signed where neither fleet nor network are" says 0 "release web/1.1.0/release.json" offline approve --sign rest.json --key keys/stranger.pem -o strange.json
check "a stranger's signature is refused when it comes back" says 3 "no approver" selfright approve --import strange.json
check "qa signs it" says 0 "bring it back" offline approve --sign rest.json --key keys/qa-1.pem
check "a file that is none" says 2 "no request" offline approve --sign "$SELFRIGHT_DIR/fleet.json" --key keys/qa-1.pem
jq '.document.stages[1].select = {nodes: ["n9"]}' rest.json >changed.json
offline approve --sign changed.json --key keys/qa-2.pem >/dev/null
check "a request that was changed on the way approves nothing here" says 3 "signed something else" selfright approve --import changed.json
jq '.fleet = "other"' rest.json >other.json
check "nor one of another fleet" says 3 "for the fleet other" selfright approve --import other.json
check "back on the network it counts" says 0 "1 of 2 signatures of qa" selfright approve --import rest.json
check "rollout show does not count them either" says 0 "stage rest: needs the approval of qa (not on nodes labelled channel=canary), 1 of 2" \
	selfright rollout show second
for k in 1 2; do
	check "qa approves the rest ($k)" selfright approve second --stage rest --key keys/qa-$k.pem --expires 1h
done
check "and it goes" within 30 runs n1 web 1.1.0
check "until all have it" within 30 rollout_is second done

# --- two components in one rename: the policy of each ---
make_component dns
check "another component of another team" eval 'selfright component add dns --team dns && publish dns 1.0.0 && publish web 1.3.0'
check "whose policy asks for qa, where web's asks for nobody" eval '
	selfright component policy dns --approval qa:regular >/dev/null && selfright component policy web --no-approvals >/dev/null'
check "what is not published cannot go with it" says 3 "dns 9.0.0 is not published" \
	selfright rollout start --component web --version 1.3.0 --with dns=9.0.0 --stage all=all
check "nor the agent" says 2 "it is updated alone" \
	selfright rollout start --component web --version 1.3.0 --with agent=1.0.0 --stage all=all
check "a rollout of both" selfright rollout start --id both --component web --version 1.3.0 --with dns=1.0.0 --stage all=all
check "rollout show names them" says 0 "with dns 1.0.0" selfright rollout show both
check "and whose approval is missing" says 0 "needs the approval of qa for dns" selfright rollout show both
check "one of dns alone waits for its end" says 3 "is not finished" \
	selfright rollout start --component dns --version 1.0.0 --stage all=all
check "neither goes" within 20 waits_for n1 not-approved
check "n1 stays" eval 'runs n1 web 1.1.0 && not runs n1 dns 1.0.0'
for k in 1 2; do
	check "qa approves both at once ($k)" says 0 "dns/1.0.0/release.json" selfright approve both --stage all --key keys/qa-$k.pem
done
check "both go" within 30 eval 'runs n1 web 1.3.0 && runs n1 dns 1.0.0'
check "by one rename" eval '[ "$(grep -h "notice swapped: .* to=1.3.0 " "$tmp/nodes/n1/agent.log" | grep -o "generation=.*")" = \
	"$(grep -h "notice swapped: .*component=dns .* to=1.0.0 " "$tmp/nodes/n1/agent.log" | grep -o "generation=.*")" ]'
check "until all have it" within 30 rollout_is both done

# --- the team changes its mind ---
check "a version is revoked" selfright component policy web --revoke 1.2.0 --no-approvals
check "a rollout of it does not start" says 3 "below the floor or revoked" selfright rollout start --id third --component web --version 1.2.0 --stage all=all
check "unless somebody answers for it" selfright rollout start --id third --component web --version 1.2.0 --stage all=all \
	--override signatures --override version --reason "a test of the nodes"
check "no node takes it: the team's policy binds the controller" within 20 waits_for n1 floor
sleep 1
check "n1 stays" runs n1 web 1.3.0
check "n2 stays, canary or not" runs n2 web 1.3.0
check "it is cancelled" selfright rollout cancel third --reason "revoked" 
check "an approval nobody asks for is refused" says 3 "" selfright approve third --stage all --key keys/qa-1.pem
check "the approver can be taken away" says 0 "approves nothing" selfright repo approvers remove qa
check "only once" says 3 "no approver is named qa" selfright repo approvers remove qa
ended
