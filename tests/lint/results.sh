#!/bin/bash
# selfright-results(7) names every row of the catalogue and every reason, and roff has nothing to say about it.
set -euo pipefail

build=${1:?build folder}
page=$build/man/selfright-results.7
[ -s "$page" ] || { echo "no $page; was the build complete?"; exit 1; }

failed=0
expect() {
	if ! grep -qF -- "$1" "$page"; then
		echo "not on the page: $1"
		failed=1
	fi
}

while read -r number name; do
	expect ".B $number ${name//-/\\-}"
done < <(sed -nE 's/^[[:space:]]*X\(([0-9]+), [A-Z_]+, "([a-z-]+)".*/\1 \2/p' "$SELFRIGHT_SOURCE/common/model/catalogue.h")
while read -r name; do
	[ "$name" = none ] || expect ".B ${name//-/\\-}"
done < <(sed -nE 's/^[[:space:]]*X\([A-Z_]+, "([a-z-]+)", .*/\1/p' "$SELFRIGHT_SOURCE/common/model/decide.h")

for tool in mandoc groff; do
	command -v "$tool" > /dev/null || continue
	if [ "$tool" = mandoc ]; then
		words=$(mandoc -T lint -W warning "$page" || true)
	else
		words=$(groff -man -ww -z "$page" 2>&1)
	fi
	[ -z "$words" ] || { echo "$words"; failed=1; }
done
exit $failed
