#!/usr/bin/env bash
# The top level holds what DESIGN.md section 11 lists, and nothing else; no call that cannot be bounded.
set -u
cd "${SELFRIGHT_SOURCE:?}" || exit 1
status=0
for name in *; do
	case $name in
	agent | common | server-stub | tests | packaging | CMakeLists.txt | README.md | LICENSE | CMakePresets.json) ;;
	*)
		echo "the top level does not list '$name'"
		status=1
		;;
	esac
done
for folder in agent common server-stub tests packaging; do
	[ -f $folder/README.md ] || { echo "$folder/README.md is missing"; status=1; }
done
for script in packaging/quickstart tests/run .ci/run; do
	[ -x $script ] || { echo "$script is missing or cannot be run"; status=1; }
done
if grep -rnE '\b(strcpy|strcat|sprintf|vsprintf|gets|system|popen|alloca)[ ]*\(' --include='*.[ch]' common agent server-stub; then
	echo "unbounded or shell-bound calls (above)"
	status=1
fi
if grep -rnE 'mosquitto_loop_(start|forever)[ ]*\(' --include='*.[ch]' .; then
	echo "libmosquitto's own loops end silently (above)"
	status=1
fi
exit $status
