#!/usr/bin/env bash
# Health that can be believed: the complaints of the field about checks, probation and rollbacks, and real payloads.
exec python3 "${SELFRIGHT_SOURCE:?}/tests/system/engine/health.py" "$1"
