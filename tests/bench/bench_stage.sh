#!/usr/bin/env bash
# How long selfright-stage takes for what `zstd -d | tar x && sync` does, as a ratio of the same round.
#
#   tests/bench/bench_stage.sh BUILD_FOLDER [ROUNDS]
#
# The stage reads from a folder (--dir), copies, verifies, unpacks and syncs; the pipe only unpacks and
# syncs. Two trees are made on the spot. Prints one line per tree: medians and the ratio. Build the
# release preset first: a debug build says nothing.
set -eu
stage=$(realpath "${1:?usage: bench_stage.sh BUILD_FOLDER [ROUNDS]}")/bin/selfright-stage
rounds=${2:-2}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/selfright-bench-XXXXXX")
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"

make_tree() { # NAME FILES BYTES: half text that packs, half noise that does not
	python3 - "$@" <<'PY'
import os, random, sys
name, files, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(1)
words = [("%x" % random.getrandbits(40)).encode() for _ in range(2000)]
for i in range(files):
    folder = f"{name}/d{i % 97:02d}"
    os.makedirs(folder, exist_ok=True)
    text = b" ".join(random.choices(words, k=size // 24))
    with open(f"{folder}/f{i}", "wb") as f:
        f.write(text + random.randbytes(max(0, size - len(text))))
PY
	tar -C "$1" --owner=0 --group=0 --mtime=@0 -cf - . | zstd -q -3 -o "$1.tar.zst"
}

seconds() { # COMMAND...: wall seconds, CPU seconds
	local wall user system cpu
	TIMEFORMAT='%R %U %S'
	{ time "$@" >/dev/null 2>time.err; } 2>time.out || { cat time.err >&2; exit 1; }
	read -r wall user system <time.out
	cpu=$(python3 -c "print($user + $system)")
	echo "$wall $cpu"
}

pipe() {
	zstd -q -dc "$1.tar.zst" | tar -x -C out
	sync -f out
}
our_stage() {
	"$stage" --dir . --name "$1.tar.zst" --length "$(stat -c %s "$1.tar.zst")" --sha256 "$sha" \
		--media application/x-tar+zstd --max-bytes 10000000000 --max-files 100000 3<spool 4<out 5>progress
}
fresh() {
	rm -rf out spool
	mkdir out spool
	sync -f .
}

measure() { # NAME
	sha=$(sha256sum "$1.tar.zst" | cut -d' ' -f1)
	: >pipe.s
	: >ours.s
	for _ in $(seq "$rounds"); do
		fresh
		seconds pipe "$1" >>pipe.s
		fresh
		seconds our_stage "$1" >>ours.s
	done
	python3 - "$1" <<'PY'
import statistics, sys
def medians(path):
    rows = [tuple(map(float, line.split())) for line in open(path)]
    return [statistics.median(column) for column in zip(*rows)]
(pipe_wall, pipe_cpu), (wall, cpu) = medians("pipe.s"), medians("ours.s")
print(f"{sys.argv[1]:6}  pipe {pipe_wall:.2f} s wall {pipe_cpu:.2f} s CPU   stage {wall:.2f} s wall {cpu:.2f} s CPU"
      f"   ratio {wall / pipe_wall:.2f} wall {cpu / pipe_cpu:.2f} CPU")
PY
}

make_tree large 2000 100000
make_tree small 5000 1500
measure large
measure small
