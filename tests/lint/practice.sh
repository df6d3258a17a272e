#!/usr/bin/env bash
# Every test that tests/story/PRACTICE.md names is there: the file, and behind a colon the text in it.
set -u
cd "${SELFRIGHT_SOURCE:?}/tests" || exit 1
status=0 rows=0

while IFS= read -r line; do
	rows=$((rows + 1))
	names=$(grep -oE '`[^`]+`' <<<"${line#|*|}" | tr -d '`')
	[ -n "$names" ] || { echo "shown by nothing: $line"; status=1; }
	while IFS= read -r name; do
		file=${name%%: *} text=
		[ "$file" = "$name" ] || text=${name#*: }
		if [ ! -s "$file" ]; then
			echo "there is no $file"
			status=1
		elif [ -n "$text" ] && ! grep -qF -- "$text" "$file"; then
			echo "$file holds no '$text'"
			status=1
		fi
	done <<<"$names"
done < <(grep -E '^\| ' story/PRACTICE.md | grep -vE '^\| practice ')
[ $rows -ge 48 ] || { echo "only $rows practices are left"; status=1; }
exit $status
