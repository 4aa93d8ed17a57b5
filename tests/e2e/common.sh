# Sourced by the end-to-end tests: the program, MPI's settings, small data, a scratch folder.
set -euo pipefail
simile=$SIMILE
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
ranks() { # ranks N command...
    local n=$1
    shift
    mpirun --oversubscribe --bind-to none -np "$n" "$@"
}
fail() { echo "FAILED: $*" >&2; exit 1; }
ours() { # the numbers of this test's ranks, by the folder they work in
    local p
    for p in $(pgrep -x "$(basename "$simile")"); do
        [ "$(readlink "/proc/$p/cwd")" != "$PWD" ] || echo "$p"
    done
}
expect() { # expect CODE text command...: the exit code, and the text in the output
    local code=$1 text=$2 got=0
    shift 2
    "$@" >out.txt 2>&1 </dev/null || got=$?
    [ "$got" = "$code" ] || { cat out.txt >&2; fail "exit $got, expected $code: $*"; }
    grep -qF -- "$text" out.txt || { cat out.txt >&2; fail "no \"$text\" from: $*"; }
}
weights() { "$simile" inspect "$1" --json | grep -o '"weights_hash":"[^"]*"'; } # of a run or checkpoint
at() { # at RUN STEP: the newest checkpoint of RUN is that of STEP
    "$simile" inspect "$1" --json | /usr/bin/python3 -c 'import json, sys
sys.exit(json.load(sys.stdin)["step"] != int(sys.argv[1]))' "$2" || fail "$1: the newest checkpoint is not of step $2"
}
steps() { grep -o '"step":[0-9]*' "$1/metrics.jsonl"; }
# digits FILE N SIDE: an idx pair of random patterns with labels, the same every time
digits() {
    /usr/bin/python3 - "$1" "$2" "$3" <<'PY'
import struct, sys
import numpy as np
path, n, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
r = np.random.RandomState(5)
base = r.randint(0, 255, (10, side, side))
labels = np.arange(n) % 10
images = np.clip(base[labels] + r.randint(-60, 60, (n, side, side)), 0, 255).astype("u1")
open(path + "-images-idx3-ubyte", "wb").write(struct.pack(">4I", 0x803, n, side, side) + images.tobytes())
open(path + "-labels-idx1-ubyte", "wb").write(struct.pack(">2I", 0x801, n) + labels.astype("u1").tobytes())
PY
}
# data_set NAME N SIDE: the same, converted to NAME.h5
data_set() {
    digits "$@"
    "$simile" prepare "$1-images-idx3-ubyte" --out "$1.h5" 2>log.txt
}
