#!/usr/bin/env bash
# Who outside is told what happens: messages over real TLS, signed, filtered, again after a server was away or the
# controller was killed, and servers that answer badly.
set -u
# shellcheck source=tests/system/fleet_lib.bash
. "$(dirname "$0")/fleet_lib.bash"
here=$(cd "$SELFRIGHT_SOURCE/tests/system" && pwd)

start_hook() { # NAME
	mkdir -p "$1"
	python3 "$here/hook_server.py" "$tmp/$1" cert.pem key.pem "$(port)" >"$1/port" 2>"$1/log" &
	eval "hook_$1=$!"
	pids+=($!)
	within 20 test -s "$1/port"
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
	-addext subjectAltName=DNS:localhost,IP:127.0.0.1 >/dev/null 2>&1
got() { jq -s "${@:2}" "$1/got"; }
got_holds() { local name=$1; shift; [ -f "$name/got" ] && got "$name" "$@" | holds 'if type == "array" then length > 0 else . end'; }
# Every event that the hook's server took, in order.
told() { jq -s '[.[] | select(.status == 200 and .path != "/ops") | .body | fromjson | .events[]]' "$1/got"; }
told_holds() { told "$1" | holds "${@:2}"; }
hook_is() { selfright notify list --json | holds --arg n "$1" ".hooks[] | select(.name == \$n) | $2"; }

check "a fleet" selfright repo init "$SELFRIGHT_DIR" --fleet demo
check "the controller" start_serve
check "nobody is told anything at first" says 0 "selfright-notify.yaml" selfright notify list
check "so there is nothing to test" says 3 "no hook 'chat'" selfright notify test chat
make_component web
check "a component" selfright component add web --team web
check "a server" start_hook chat
check "another one" start_hook siem
printf 'a secret of the two of us\n' >secret
chmod 600 secret
printf 'https://localhost:%s/hooks/T0PSECRET?x=1\n' "$(cat chat/port)" >address
cat >fleet/notify.yaml <<YAML
hooks:
  chat: {url_file: $tmp/address, ca_file: $tmp/cert.pem, text_only: true}
  siem: {url: "https://localhost:$(cat siem/port)/in", ca_file: $tmp/cert.pem, secret_file: $tmp/secret, events: [all]}
YAML
check "the file is read while the controller runs" within 20 hook_is siem true
check "what was before is not told" hook_is siem '.sent == 0 and .failures == 0'

# --- a message ---
check "a test gets there" says 0 "chat took it" selfright notify test chat
check "by its secret address, as JSON" got_holds chat '.[-1] | .path == "/hooks/T0PSECRET?x=1" and .headers["content-type"] == "application/json"'
check "as a text alone" got_holds chat '.[-1].body | fromjson | keys == ["text"] and (.text | startswith("fleet demo:\na test of the hook chat, by "))'
check "unsigned, as there is no secret" got_holds chat '.[-1].headers["selfright-signature"] == null'
check "the other one does not hear it" not told_holds siem '[.[] | select(.kind == "notify-test")] | length > 0'
check "a test of that" says 0 "siem took it" selfright notify test siem
is_signed() {
	python3 - siem/got <<'PY'
import hashlib, hmac, json, sys, time
for line in open(sys.argv[1]):
    m = json.loads(line)
    t, v = (part.split("=")[1] for part in m["headers"]["selfright-signature"].split(","))
    want = hmac.new(b"a secret of the two of us", f"{t}.{m['body']}".encode(), hashlib.sha256).hexdigest()
    assert hmac.compare_digest(v, want), (v, want)
    assert abs(time.time() - int(t)) < 3600
PY
}
check "is signed with the secret" is_signed
check "the address is in no log, nor in what the controller says" eval '! grep -q T0PSECRET serve.log && ! selfright notify list --json | grep -q T0PSECRET'

# --- what happens ---
check "two nodes" eval 'add_node n1 && add_node n2'
check "a release" selfright publish web --version 1.0.0 --changes first
check "a rollout" selfright rollout start --id first --component web --version 1.0.0 --stage all=all
check "is done" within 60 rollout_is first done
check "the chat hears that it starts and ends" within 20 eval 'got_holds chat "[.[].body | fromjson | .text] | join(\"\n\") | contains(\"rollout first of web 1.0.0 starts\") and contains(\"rollout first is done\")"'
check "and nothing of single nodes" got_holds chat '[.[].body | fromjson | .text] | join("\n") | contains("is good (was") | not'
caught_up() { hook_is "$1" ".event == $(api http://x/v1/status | jq .last_event)"; }
check "the other hears everything" within 20 caught_up siem
same_events() { [ "$(told siem | jq -c '[.[].id]')" = "$(api 'http://x/v1/events?after=0&limit=1000' | jq -c --argjson f "$(told siem | jq '.[0].id')" '[.events[] | select(.id >= $f) | select(.kind != "notify-test" or .component == "siem") | .id]')" ]; }
check "in order, each once" within 30 same_events
check "what was written stays words" selfright freeze --all --until 1h --reason '<!channel> @all [x](https://evil.example)'
check "in the chat" within 20 got_holds chat '.[-1].body | fromjson | .text | contains("&lt;!channel&gt; @\u200ball (x)(https")'

# --- a server that is away, and a controller that is ---
kill "$hook_siem"
check "the server is away" eval 'selfright freeze lift --all --reason over'
check "it is tried again, and says why it fails" within 20 hook_is siem '.failures > 0 and (.error | contains("localhost"))'
check "the metrics count it" eval "api http://x/metrics | grep -qx 'selfright_hooks_failing 1'"
check "a test says it too" says 3 "did not take it" selfright notify test siem
check "the chat does not wait for it" says 0 "chat took it" selfright notify test chat
kill -9 "$serve_pid"
wait "$serve_pid" 2>/dev/null
before=$(told siem | jq length)
python3 "$here/hook_server.py" "$tmp/siem" cert.pem key.pem "$(cat siem/port)" >siem/port.again 2>>siem/log &
pids+=($!)
check "the controller was killed, and starts" start_serve
check "the server is there again: what it missed comes" within 30 caught_up siem
check "in order, each once" within 30 same_events
check "it was something" eval "[ \"\$(told siem | jq length)\" -gt $before ]"
check "it works again" hook_is siem '.failures == 0 and .error == null and .sent > 0'

# --- one that asks to be left alone, one that hangs, and one behind a proxy ---
tries() { grep -c . siem/got; }
echo hang >chat/answer
selfright notify test chat >hanging 2>&1 &
hanging=$!
check "a server that hangs has a message" within 30 got_holds chat '.[-1].status == 0'
echo "429 600" >siem/answer
check "another does not wait for it, and has enough" says 3 "asks to be left alone for 600 s" selfright notify test siem
had=$(tries)
sleep 7
check "it is left alone, longer than after any other first failure" [ "$(tries)" = "$had" ]
echo "429 100000000" >siem/answer
check "a test asks all the same; nobody is heard who asks for days" says 3 "asks to be left alone for 3600 s" selfright notify test siem
rm siem/answer
check "it goes on when asked" within 60 eval 'says 0 "siem took it" selfright notify test siem'
check "the desk hears at last who hangs" eval '! wait $hanging && grep -q "did not take it" hanging'
rm chat/answer
check "which goes on too" within 60 eval 'says 0 "chat took it" selfright notify test chat'
start_proxy() {
	proxy=$(port)
	install -d -m 777 squid
	cat >squid.conf <<-END
		http_port 127.0.0.1:$proxy
		pid_filename $tmp/squid/pid
		cache_log $tmp/squid/cache.log
		access_log stdio:$tmp/squid/access.log
		coredump_dir $tmp/squid
		cache deny all
		shutdown_lifetime 0 seconds
		acl siem port $(cat siem/port)
		http_access allow siem
		http_access deny all
		dns_nameservers 127.0.0.1
		visible_hostname proxy.test
	END
	chmod 644 squid.conf
	squid -N -n notify -f "$tmp/squid.conf" >squid.log 2>&1 &
	pids+=($!)
	within 20 eval '(: <"/dev/tcp/127.0.0.1/$proxy") 2>/dev/null'
}
check "a proxy that lets one of them pass" start_proxy
cp fleet/notify.yaml direct.yaml
{
	echo "proxy: http://127.0.0.1:$proxy"
	cat direct.yaml
	echo "  ops: {url: "https://localhost:$(cat siem/port)/ops", ca_file: $tmp/cert.pem, secret_file: $tmp/secret, format: teams}"
} >fleet/notify.yaml
check "the way through it" within 30 eval 'says 0 "ops took it" selfright notify test ops && grep -q "CONNECT localhost:$(cat siem/port) " squid/access.log'
check "as a card for Teams" got_holds siem '.[-1].body | fromjson | .type == "message" and (.attachments[0].content.body[-1].text | startswith("a test of the hook ops, by "))'
check "signed like any other" is_signed
check "where the proxy says no, that is what people read" says 3 "403" selfright notify test chat
mv direct.yaml fleet/notify.yaml
check "and without it" within 30 eval 'says 0 "chat took it" selfright notify test chat'

# --- servers that answer badly ---
for answer in 500 404 moved huge drop; do
	echo $answer >siem/answer
	check "an answer that is none: $answer" says 3 "did not take it" selfright notify test siem
done
check "what a stranger said is shown as words" eval 'echo 503 >siem/answer && selfright notify test siem; ! selfright notify list | grep -q "$(printf "\033")"'
rm siem/answer
check "and it goes on" within 60 eval 'says 0 "siem took it" selfright notify test siem'
check "nothing was lost" within 60 same_events
check "with another CA it is not spoken to" eval "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -out other.pem -days 2 -subj /CN=localhost >/dev/null 2>&1 &&
	sed -i 's#ca_file: $tmp/cert.pem, secret#ca_file: $tmp/other.pem, secret#' fleet/notify.yaml && within 30 says 3 'did not take it' selfright notify test siem"

# --- mistakes ---
echo 'hooks: {chat: {url: http://localhost/}}' >fleet/notify.yaml
check "a mistake is named" within 20 says 1 "notify.yaml:1: expected a URL like https" selfright notify list
check "it is counted" eval "api http://x/metrics | grep -qx 'selfright_hooks_failing 1'"
rm fleet/notify.yaml
check "without the file nobody is told anything" within 20 says 0 "nobody outside" selfright notify list
check "the controller is well" serve_is_ready
ended
