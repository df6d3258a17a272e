#!/usr/bin/env bash
# A sample of tests/crash-sweep: killed, refused and cut short at some calls of each scenario, the power cut under ext4
# where loop devices are to be had, and a short life. All of it is in tests/nightly.
sweep() { "${SELFRIGHT_SOURCE:?}/tests/crash-sweep" --build "$build" --seed "${CRASH_SEED:-1}" "$@"; }
build=$1
sweep --kind kill,recover,fail,memory,short --sample "${CRASH_SAMPLE:-2}" \
	--scenario first,update,undone,served,collected,both,both-undone,data,data-undone &&
	sweep --kind kill,end,recover,fail,memory --sample 1 --scenario agent &&
	sweep --kind power --sample 5 --scenario data-undone &&
	sweep --kind long --sample 15
