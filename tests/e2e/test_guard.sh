#!/usr/bin/env bash
# simile-test: timeout 240
# A run goes wrong in the middle: one rank is stopped, or slow, or its data set is cut off or
# changed.  Nobody waits for ever, the message names who and what, and the next start goes on
# to the same bits.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
data_set train 96 16
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.0625}
batch: 32
block: 8
schedule: {steps: 60}
augment: {preset: digits}
checkpoint: {every_steps: 3}
YAML
cat >noting.sh <<'SH'
echo $$ >"$PIDS/pid-$OMPI_COMM_WORLD_RANK"
[ "$OMPI_COMM_WORLD_RANK" != "${ODD:-}" ] || cd elsewhere
exec "$SIMILE" "$@"
SH
export PIDS=$PWD
begin() { # begin RUN words...: three ranks in the background, up to the first checkpoint
    rm -f pid-*
    mpirun --oversubscribe --bind-to none -np 3 bash noting.sh pretrain job.yaml "run=$1" "${@:2}" >out.txt 2>&1 &
    job=$!
    for _ in $(seq 1000); do
        grep -qsE "step-0*[1-9]" "$1/checkpoints/latest" && return
        sleep 0.02
    done
    fail "$1 did not get to a checkpoint"
}
ends() { # ends CODE SECONDS TEXT...: the job that began
    local code=0 began=$SECONDS
    wait "$job" || code=$?
    [ $code = "$1" ] || { cat out.txt >&2; fail "exit $code, expected $1"; }
    [ $((SECONDS - began)) -le "$2" ] || fail "took $((SECONDS - began)) s to end, expected $2 at most"
    for text in "${@:3}"; do
        grep -qF -- "$text" out.txt || { cat out.txt >&2; fail "no \"$text\""; }
    done
}
goes_on() { # goes_on RUN: to the end, with the weights of the calm run
    expect 0 "/checkpoints/step-" ranks 2 "$simile" pretrain job.yaml "run=$1"
    [ "$(weights calm)" = "$(weights "$1")" ] || fail "$1: other weights than without the fault"
}
expect 0 "" "$simile" pretrain job.yaml run=calm
[ -z "$(ls calm/heartbeat)" ] || fail "records are left behind"

# a stopped rank: the others name it and end, the stopped one too
for victim in 0 2; do
    begin "stopped$victim" guard.hang_seconds=4
    pid=$(cat pid-$victim)
    kill -STOP "$pid"
    ends 70 20 "rank $victim on " "pid $pid" " 4 s" "guard.hang_seconds" "warning:"
    grep "pid $pid" "stopped$victim/log.txt" | grep -v "warning:" | grep -qF "guard.hang_seconds" || fail "the log does not tell"
    for _ in $(seq 100); do
        grep -qs "^State:.[^Z]" "/proc/$pid/status" || break
        sleep 0.05
    done
    if grep -qs "^State:.[^Z]" "/proc/$pid/status"; then fail "rank $victim is still there"; fi
    goes_on "stopped$victim"
done

# one that stands still before MPI has started: the others do not wait for ever
cat >standing.sh <<'SH'
[ "$OMPI_COMM_WORLD_RANK" != 1 ] || kill -STOP $$
exec "$SIMILE" "$@"
SH
SIMILE_START_SECONDS=2 expect 70 "MPI_Init" \
    ranks 3 bash standing.sh pretrain job.yaml run=early
[ ! -e early ] || fail "a run directory without a run"

# a slow rank, that gets little done at a time for longer than the limit, is waited for
begin slow guard.hang_seconds=5
for _ in 1 2 3 4 5 6 7; do
    kill -STOP "$(cat pid-1)" 2>/dev/null || break
    sleep 0.7
    kill -CONT "$(cat pid-1)" 2>/dev/null || break
    sleep 0.3
done
ends 0 60
[ "$(weights calm)" = "$(weights slow)" ] || fail "slowness changed the weights"

# one rank's data set is cut off, or changed, in mid-run: all leave with one message
mkdir elsewhere
cp job.yaml elsewhere/
spoilt() { # spoilt RANK CODE TEXT command...: it gets a copy of its own, and the command spoils it
    local run=$scratch/data$2
    export ODD=$1
    cp train.h5 elsewhere/
    begin "$run"
    "${@:4}"
    ends "$2" 10 "rank $1 on " "$3"
    [ "$(grep -cF "$3" out.txt)" = 1 ] || { cat out.txt >&2; fail "not told once"; }
    goes_on "$run"
}
spoilt 2 74 "ends at byte" truncate -s 4096 elsewhere/train.h5
spoilt 0 65 "digest" \
    dd if=/dev/zero of=elsewhere/train.h5 bs=1024 seek=2 count=40 conv=notrunc status=none
unset ODD

# processes of a launcher that this MPI does not know: one of them says what to type
single() { env -u OMPI_COMM_WORLD_SIZE "$@" "$simile" pretrain job.yaml run=single; }
expect 64 "mpirun -np 4 simile pretrain ..." single PMI_RANK=0 PMI_SIZE=4
expect 64 "srun --mpi=pmix -n 4 simile pretrain ..." single SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0
code=0
single PMI_RANK=1 PMI_SIZE=4 >out.txt 2>&1 || code=$?
[ $code = 64 ] || fail "rank 1 of 4 leaves with $code"
[ ! -s out.txt ] || { cat out.txt >&2; fail "rank 1 speaks too"; }
[ ! -e single ] || fail "a run directory without a run"

# keys out of range
expect 78 "guard.hang_seconds" "$simile" pretrain job.yaml run=keys guard.hang_seconds=-1
expect 78 "guard.check_steps" "$simile" pretrain job.yaml run=keys guard.check_steps=-1
echo ok
