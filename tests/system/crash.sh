#!/usr/bin/env bash
# A sample of tests/crash-sweep: killed, refused and cut short at some calls of each scenario; all of them are in tests/nightly.
exec "${SELFRIGHT_SOURCE:?}/tests/crash-sweep" --build "$1" --kind kill,recover,fail,short --sample "${CRASH_SAMPLE:-3}" --seed "${CRASH_SEED:-1}"
