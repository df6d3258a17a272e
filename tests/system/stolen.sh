#!/usr/bin/env bash
# What stolen keys can make a real agent do, and what not; freshness.
exec python3 "${SELFRIGHT_SOURCE:?}/tests/system/engine/stolen.py" "$1"
