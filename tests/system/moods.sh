#!/usr/bin/env bash
# The link and a broker in every mood: one that knows no MQTT 5, refuses for every reason there is, is silent, sends
# too much, packs much into one TLS record, takes the session away; and roads that swallow what is sent.
set -u
export PATH=$PATH:/usr/sbin
unset http_proxy https_proxy all_proxy no_proxy HTTPS_PROXY ALL_PROXY NO_PROXY
script=${SELFRIGHT_SOURCE:?}/tests/system/moods.py
if [ "$(id -u)" = 0 ] && unshare --net --mount true 2>/dev/null; then
	exec unshare --net --mount --propagation private python3 "$script" "$@" --own-network
fi
exec python3 "$script" "$@"
