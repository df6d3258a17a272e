#!/usr/bin/env bash
# What somebody new runs into on the first day, with a real node: the fleet side says what is wrong and what to do.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/fleet_lib.bash"
make() { python3 "$here/fake_node.py" "$@"; }
unset SELFRIGHT_DIR

# --- words ---
check "help of a command" says 0 "Usage: selfright node rollback" selfright help node rollback
check "help within one" says 0 "Usage: selfright node pin" selfright node help pin
check "help of nothing there is" says 2 "no command nonsense" selfright help nonsense
check "the version, as the agent says it" says 0 "selfright 0." selfright version
check "a command mistyped" says 2 "did you mean \`selfright rollout" selfright rolout list
check "a word within one" says 2 "did you mean \`selfright node show" selfright node shwo
check "an option" says 2 "did you mean --version" selfright publish web --verson 1.0.0
check "the agent's help of a command" says 0 "Usage: selfright-agent history" selfright-agent help history
check "its command mistyped" says 2 "did you mean 'status'" selfright-agent statsu
check "its option" says 2 "did you mean --limit" selfright-agent history --limt 3
check "an option of one letter" says 2 "no option -x" selfright-agent status -x
check "an option without its value" says 2 "--for needs a value" selfright-agent hold --for
check "what it does not take" says 2 "no argument" selfright-agent status everything
check "a machine that has joined nothing says what comes first" says 1 "selfright-agent join FILE" selfright-agent status --config-dir "$tmp/nowhere"

check "a fleet in a relative folder" selfright repo init fleet --fleet demo
check "says what comes next, in order" sh -c 'selfright repo init other --fleet demo | tr "\n" " " | grep -q "component init .*component add .*publish .*serve"'
check "a component of files" selfright component init web
check "is proved by a check of its own" grep -q "exec:" web/component.yaml
sed -i 's/60s/1s/' web/component.yaml
echo hello >web/tree/index.html
selfright-signer --quiet --dir fleet &
held=$!
within 5 test -S fleet/signer/signer.sock
selfright serve --dir fleet >>serve.log 2>&1 &
serve_pid=$!
check "the controller waits while another signer holds the folder, and says so" within 5 grep -q "signer-waits" serve.log
check "it has not given up" kill -0 "$serve_pid"
kill "$held"
wait "$held" 2>/dev/null
check "belongs to a team while the controller starts" selfright component add web --team web --dir fleet
export SELFRIGHT_DIR=$tmp/fleet
check "which starts in the relative folder" within 20 serve_is_ready
check "an empty fleet is no failure" says 0 "selfright node add" selfright node list
check "nor with other lists" says 0 "no rollouts yet" selfright rollout list
check "nothing complains of memory" not grep -q memory said
check "recovering a healthy fleet frightens nobody" not grep -q "inventory" <(selfright repo recover 2>&1)
check "the metadata is read with the server's own CA" sh -c 'selfright tuf --metadata-dir trust init fleet/repo/metadata/1.root.json &&
	selfright tuf --metadata-dir trust --ca fleet/serve/tls/ca.crt --metadata-url "https://127.0.0.1:$(jq .https_port fleet/serve/serve.json)/metadata" refresh'
check "and not without" not sh -c 'selfright tuf --metadata-dir trust --metadata-url "https://127.0.0.1:$(jq .https_port fleet/serve/serve.json)/metadata" refresh'

# --- slips that have a line and an answer ---
slip() { sed "$1" web/component.yaml >slip/component.yaml; }
mkdir -p slip/tree && touch slip/tree/file
slip 's/risk: low/risk: lo/'
check "a word of a release that is none has its line" says 1 "slip/component.yaml:$(grep -n risk: slip/component.yaml | cut -d: -f1): risk: must be" selfright publish slip --version 1.0.0 --check
slip 's/kind: tree/kind: image/'
check "so does a kind that nodes would refuse" says 1 "slip/component.yaml:$(grep -n kind: slip/component.yaml | cut -d: -f1): a component's kind is tree" selfright publish slip --version 1.0.0 --check
slip 's/^team: web/team: net/'
check "another team than the component's is named" says 3 "belongs to team-web, but its component.yaml says team: net" selfright publish slip --version 1.0.0
slip 's/^component: web/component: slip/; s/^team: web/team: net/'
check "no team at all too" says 3 "selfright component add slip --team net" selfright publish slip --version 1.0.0
check "a second team is told of the first" says 3 "team already: team-web" selfright component add web --team net

# --- releases that prove nothing, or that agents refuse ---
mkdir -p blind/tree
echo x >blind/tree/file
printf 'component: blind\nteam: blind\nkind: tree\ntree: tree\nprobation: 1s\nchecks:\n  - {name: link, link: {}}\n' >blind/component.yaml
check "a team" selfright component add blind --team blind
check "a release that proves nothing is published with a warning" says 0 "good-unproven" selfright publish blind --version 1.0.0
check "also for programs" holds '.warnings[0] | contains("good-unproven")' <(cd blind && sed -i 's/1s/2s/' component.yaml && selfright publish . --version 1.1.0 --json)
check "a rollout to nobody" says 3 "none has joined" selfright rollout start --component blind --version 1.0.0 --profile weekly
check "a node that has not joined" selfright node add later -o later.join
check "is no unknown one" says 3 "'later' has not joined yet" selfright node show later
check "nor in a rollout" says 3 "'later', which has not joined yet" selfright rollout start --component blind --version 1.0.0 --stage all=nodes:later
printf '  - {name: db, tcpSocket: {host: db.example, port: 5432}}\n' >>blind/component.yaml
check "what agents refuse is named" says 0 "db asks the host" selfright publish blind --version 1.2.0
check "a good one has none" holds '.warnings == []' <(selfright publish web --version 1.0.0 --json)

# --- a real node ---
check "a node joins" add_node n1
online() { selfright node list | grep "$1" | grep -q "$2"; }
check "and is online" within 15 online n1 online
check "a rollout of the blind one says so" says 0 "good-unproven" selfright rollout start --component blind --version 1.0.0 --stage all=all --dry-run
printf 'component: web\nversion: 1.0.0\nstages:\n  - {name: all, all: true}\nmin_age: 24h\n' >plan.yaml
check "young nodes are named" says 0 "counts from" selfright rollout start plan.yaml --dry-run
check "and warned of" holds '.warnings[0] | contains("min_age")' <(selfright rollout start plan.yaml --dry-run --json)
check "a rollout" selfright rollout start --component web --version 1.0.0 --stage canary=nodes:n1,soak:1h --stage rest=all --id first
check "a dry run of another is answered, and names the first" says 0 "'first' of web is not finished" selfright rollout start --component web --version 1.0.0 --stage all=all --dry-run
proved() { selfright rollout show first --json | holds '.stages[0].nodes[0].state == "good"'; }
check "the node proves it with the check of the template" within 30 proved
check "an undo that leaves nodes bare is refused" says 3 "without it: n1" selfright rollout undo first --reason look
check "unless it is meant" says 0 "rollout first is undone" selfright rollout undo first --reason look --yes
bare() { [ ! -e nodes/n1/root/current/web ]; }
check "and done then" within 20 bare

# --- what a failed version said is not lost ---
sed -i 's/^\( *\)command:.*/&/; s/exec: .*/exec: [sh, -c, "echo no such table: customers >\&2; exit 1"]/' web/component.yaml
check "a version whose check says why" selfright publish web --version 1.1.0 --changes "a new table"
check "goes out" selfright rollout start --component web --version 1.1.0 --stage all=all --id said
halted() { selfright rollout show said --json | holds '.state == "halted"'; }
check "and fails" within 40 halted
check "support reads what it said" says 0 "no such table: customers" selfright node show n1
check "so does whoever stands before it" says 0 "no such table: customers" agent n1 status
check "and whoever comes later" says 0 "| no such table: customers" agent n1 history web --limit 1
check "which is one line of one component" holds '.history | length == 1 and .[0].component == "web"' <(agent n1 history web --limit 1 --json)

# --- somebody else's fleet, and a folder that cannot be ---
if [ "$(id -u)" = 0 ]; then
	someone() { setpriv --reuid=65534 --regid=65534 --clear-groups "$(command -v selfright)" "$@"; }
	check "whoever may not command it is not told that nothing runs" says 1 "may not command the fleet" someone node list --dir "$tmp/fleet"
	check "nor to make another" says 1 "belongs to another user" someone serve --dir "$tmp/fleet"
	mode=$(stat -c %a fleet)
	chmod 700 fleet
	check "nor that there is none" says 1 "belongs to another user" someone node list --dir "$tmp/fleet"
	chmod "$mode" fleet
fi
check "a fleet where no folder can be is not unfinished" not grep -q unfinished <(selfright repo init "$tmp/none/fleet" --fleet x 2>&1)
check "a freeze" says 0 "--reason TEXT" selfright freeze --site oslo --reason x
check "is lifted as it said" sh -c 'selfright freeze lift $(selfright freeze list --json | jq -r ".freezes[0].id // .freeze[0].id") --reason over'

# --- presence is learned anew ---
check "a hold has an end" says 3 "90 days" selfright node hold n1 --for 91d --reason long
check "it is online" within 10 online n1 online
kill -9 "$serve_pid"
wait "$serve_pid" 2>/dev/null
check "the broker keeps what the node says meanwhile" agent n1 hold --for 1h --reason "a trade fair"
sleep 1 # the hold's report waits for the controller there
stop_agent n1
check "the controller starts again" start_serve
sleep 0.5
check "and does not believe a node that left meanwhile to be online" not online n1 online
start_agent n1
check "until it is back" within 15 online n1 online
ended
