#!/usr/bin/env bash
# Every kind of event that the controller makes stands in the table by which hooks filter, and on the page about them; and
# nothing stands there that nobody makes.
set -u
cd "${SELFRIGHT_SOURCE:?}" || exit 1
table=$(sed -n '/hook_kinds\[\] = {/,/NULL, false/p' server-stub/rollout/hooks.c | grep -oE '^\s*\{ "[a-z-]+"' | grep -oE '[a-z-]+' | sort -u)
status=0
for kind in $table; do
	grep -qrE "\"$kind\"" server-stub/cli/serve_*.c server-stub/ingest/*.c || { echo "nobody makes events of the kind $kind"; status=1; }
	grep -qE "^\.It Cm $kind( |\$)" packaging/man/selfright-notify.yaml.5 || { echo "selfright-notify.yaml.5 does not name $kind"; status=1; }
done
[ "$(wc -w <<<"$table")" -ge 25 ] || { echo "the table is too short to be read right"; status=1; }
for kind in $(cat server-stub/cli/serve_*.c | tr -s '\n\t ' ' ' | grep -oE 'serve_record\([a-z]+, "[a-z-]+"' | grep -oE '"[a-z-]+"' | tr -d '"' | sort -u); do
	grep -qx "$kind" <<<"$table" || { echo "the kind $kind is not in hook_kinds (rollout/hooks.c)"; status=1; }
done
exit $status
