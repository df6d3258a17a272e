#!/usr/bin/env bash
# The agent updates itself: real agent, supervisor and stage process, a repository in a folder, a link the test plays.
exec python3 "${SELFRIGHT_SOURCE:?}/tests/system/engine/agent.py" "$1"
