#!/usr/bin/env bash
# The link's roads to a real broker: straight, through squid and tinyproxy with passwords, SOCKS5, a
# resolver that hangs, something that opens TLS, a clock in 1970; in a network of its own as root.
set -u
export PATH=$PATH:/usr/sbin
unset http_proxy https_proxy all_proxy no_proxy HTTPS_PROXY ALL_PROXY NO_PROXY
script=${SELFRIGHT_SOURCE:?}/tests/system/roads.py
if [ "$(id -u)" = 0 ] && unshare --net --mount true 2>/dev/null; then
	exec unshare --net --mount --propagation private python3 "$script" "$1" --own-network
fi
exec python3 "$script" "$1"
