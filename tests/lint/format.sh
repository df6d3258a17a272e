#!/usr/bin/env bash
# Layout is clang-format's (.clang-format).
set -u
cd "${SELFRIGHT_SOURCE:?}" || exit 1
find common agent server-stub tests packaging -name '*.[ch]' -print0 | xargs -0 clang-format --dry-run --Werror
