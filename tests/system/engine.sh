#!/usr/bin/env bash
# The real agent and stage process against a signed repository in a folder, with a link that the test plays.
exec python3 "${SELFRIGHT_SOURCE:?}/tests/system/engine/story.py" "$1"
