#!/usr/bin/env bash
# Every header compiles alone, and twice.
set -u
cd "${SELFRIGHT_SOURCE:?}" || exit 1
status=0
while read -r header; do
	name=${header#common/}
	printf '#include "%s"\n#include "%s"\n' "$name" "$name" |
		${CC:-cc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Icommon -I. -Itests -fsyntax-only -xc - || {
		echo "$header does not compile alone"
		status=1
	}
done < <(find common agent server-stub tests/support -name '*.h' | sort)
exit $status
