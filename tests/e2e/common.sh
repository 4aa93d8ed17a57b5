# shellcheck shell=bash
# Sourced by the end-to-end tests: MPI settings, small data sets, checks, a scratch directory.
set -euo pipefail
simile=$SIMILE
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
fail() { echo "FAILED: $*" >&2; exit 1; }
# The command that starts ranks, before -np N: tests/CMakeLists.txt sets it for the MPI of the build.
read -ra mpiexec <<<"${SIMILE_MPIEXEC:-mpirun --oversubscribe --bind-to none}"
ranks() { # ranks N command...: runs the command on N ranks
    local n=$1
    shift
    "${mpiexec[@]}" -np "$n" "$@"
}
rank_pids() { # process ids of this test's ranks, which run in its directory
    local p
    for p in $(pgrep -x "$(basename "$simile")"); do
        [ "$(readlink "/proc/$p/cwd")" != "$PWD" ] || echo "$p"
    done
}
expect() { # expect CODE TEXT command...: checks the exit code and that the output has TEXT
    local code=$1 text=$2 got=0
    shift 2
    "$@" >out.txt 2>&1 </dev/null || got=$?
    [ "$got" = "$code" ] || { cat out.txt >&2; fail "exit $got, expected $code: $*"; }
    grep -qF -- "$text" out.txt || { cat out.txt >&2; fail "no \"$text\" in the output of: $*"; }
}
expect_lines() { # expect_lines N REGEX [FILE]: N lines match (N+: at least N); FILE: output of `expect`
    local file=${3:-out.txt} n
    n=$(grep -cE -- "$2" "$file" || true)
    if [[ $1 == *+ ]]; then [ "$n" -ge "${1%+}" ]; else [ "$n" = "$1" ]; fi && return
    cat "$file" >&2
    fail "$n lines of $file match \"$2\", expected $1"
}
expect_match() { # expect_match CODE REGEX command...: checks the exit code and a line of the output
    expect "$1" "" "${@:3}"
    expect_lines 1+ "$2"
}
runs() { grep -qs "^State:.[^Z]" "/proc/$1/status"; } # PID: the process exists and is no zombie
has_ended() { ! runs "$1"; }
wait_for_exit() { # wait_for_exit CODE PID [FILE]: waits for a background job; FILE: its output
    local got=0
    wait_until has_ended "$2"
    wait "$2" || got=$?
    [ "$got" = "$1" ] || { cat "${3:-log.txt}" >&2; fail "exit $got, expected $1"; }
}
deadline_s=200 # ends a test that hangs; a busy machine stays far below
wait_until() { # wait_until command...: polls until the command succeeds
    local end=$((SECONDS + deadline_s))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -le $end ] || fail "waited $deadline_s s for: $*"
        sleep 0.02
    done
}
has_checkpoint() { grep -qsE "step-0*[1-9]" "$1/checkpoints/latest"; } # RUN, after step 0
weights_hash() { "$simile" inspect "$1" --json | grep -o '"weights_hash":"[^"]*"'; } # of a run or checkpoint
metric_steps() { grep -o '"step":[0-9]*' "$1/metrics.jsonl" | cut -d: -f2; }         # of a run
log_steps() { sed -nE 's/^[^ ]+Z step ([0-9]+)\/.*/\1/p' "$1/log.txt"; }             # of a run
expect_step() { # expect_step RUN STEP: the newest checkpoint of RUN is that of STEP
    "$simile" inspect "$1" --json | /usr/bin/python3 -c 'import json, sys
sys.exit(json.load(sys.stdin)["step"] != int(sys.argv[1]))' "$2" || fail "$1: the newest checkpoint is not of step $2"
}
same_weights() { # same_weights RUN RUN: both end with the same weights
    [ "$(weights_hash "$1")" = "$(weights_hash "$2")" ] || fail "$2: the weights differ from those of $1"
}
same_run() { # same_run RUN RUN: same weights, and each step once in metrics and log
    same_weights "$1" "$2"
    [ "$(metric_steps "$1")" = "$(metric_steps "$2")" ] || { metric_steps "$2"; fail "$2: metrics.jsonl has gaps or duplicates"; }
    [ "$(log_steps "$1")" = "$(log_steps "$2")" ] || { log_steps "$2"; fail "$2: log.txt has gaps or duplicates"; }
}
# digits NAME N SIDE: a pair of idx files of N noisy digits with labels; the same at every call
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
data_set() { # data_set NAME N SIDE: writes NAME.h5 from these digits
    digits "$@"
    "$simile" prepare "$1-images-idx3-ubyte" --out "$1.h5" 2>log.txt
}
# slow_writes: builds slow.so, which delays writes to files (slow.c)
slow_writes() { cc -O1 -shared -fPIC -o "$scratch/slow.so" "$SIMILE_SOURCE/tests/slurm/slow.c" -ldl; }
