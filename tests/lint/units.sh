#!/usr/bin/env bash
# systemd takes our units, users and folders as they are written; nothing is started.
set -u
build=${1:?build folder}
source=${SELFRIGHT_SOURCE:?}
status=0
command -v systemd-analyze > /dev/null || { echo "systemd is not installed: its view of the units is not asked"; exit 0; }

work=$(mktemp -d "${TMPDIR:-/tmp}/units.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT

# The programs as they are in the build folder, since verify looks for them.
for unit in selfright selfright-agent selfright-recover selfright-signer; do
	sed -E "s|^(ExecStart=)[^ ]*/|\1$build/bin/|" "$build/systemd/$unit.service" > "$work/$unit.service" || status=1
done
words=$(systemd-analyze verify --man=no "$work"/*.service 2>&1) || status=1
if grep -F "$work" <<< "$words" || [ $status != 0 ]; then
	echo "$words"
	status=1
fi

mkdir -p "$work/root/etc" "$work/root/var/lib"
systemd-sysusers --root="$work/root" "$source"/packaging/sysusers/*.conf > "$work/words" 2>&1 ||
	{ cat "$work/words"; status=1; }
for user in selfright selfright-stage selfright-fleet; do
	grep -q "^$user:" "$work/root/etc/passwd" || { echo "sysusers made no $user"; status=1; }
done
exit $status
