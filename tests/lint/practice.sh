#!/usr/bin/env bash
# Every test that the tables of practice name is there: the file, and behind a colon the text in it.
set -u
cd "${SELFRIGHT_SOURCE:?}/tests" || exit 1
status=0

holds() { # TABLE ROWS: at least so many
	local table=$1 least=$2 rows=0 line names name file text

	while IFS= read -r line; do
		rows=$((rows + 1))
		names=$(grep -oE '`[^`]+`' <<<"${line#|*|}" | tr -d '`')
		[ -n "$names" ] || { echo "$table: shown by nothing: $line"; status=1; }
		while IFS= read -r name; do
			file=${name%%: *} text=
			[ "$file" = "$name" ] || text=${name#*: }
			if [ ! -s "$file" ]; then
				echo "$table: there is no $file"
				status=1
			elif [ -n "$text" ] && ! grep -qF -- "$text" "$file"; then
				echo "$table: $file holds no '$text'"
				status=1
			fi
		done <<<"$names"
	done < <(grep -E '^\| ' "$table" | grep -vE '\| shown by \|$')
	[ $rows -ge "$least" ] || { echo "$table: only $rows rows are left"; status=1; }
}

holds story/PRACTICE.md 48
holds system/ROADS.md 46
exit $status
