#!/usr/bin/env bash
# What hostile or broken neighbours can do to a node: the same agent, repository and link as engine.sh.
exec python3 "${SELFRIGHT_SOURCE:?}/tests/system/engine/attack.py" "$1"
