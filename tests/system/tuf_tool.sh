#!/bin/bash
# `selfright tuf` against repositories made and served by an implementation of its own, in Python.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec python3 "$here/tuf_tool.py" "$1/bin/selfright" tuf
