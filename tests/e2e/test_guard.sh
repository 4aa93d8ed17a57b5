#!/usr/bin/env bash
# simile-test: timeout 600 processors 2
# One rank is stopped or slow, or its data set is truncated or changed during the run.  No rank
# waits forever, the message names the rank and the cause, and the next start ends with the
# weights of an undisturbed run.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
data_set train 96 16
slow_writes
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.0625}
batch: 32
block: 8
schedule: {steps: 60}
augment: {preset: digits}
log: {every_steps: 1}
checkpoint: {every_steps: 3}
YAML
# writes the process id of each rank, and delays each step, so that the run lasts until the test
# interrupts it; DIFFERING_RANK runs in another directory
cat >rank.sh <<'SH'
rank=${OMPI_COMM_WORLD_RANK:-$PMI_RANK} # of Open MPI, of MPICH
echo $$ >"$PIDS/pid-$rank"
[ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != "${DIFFERING_RANK:-}" ] || cd elsewhere
LD_PRELOAD=$PIDS/slow.so exec "$SIMILE" "$@"
SH
export PIDS=$PWD SLOW_MS=300
start() { # start RUN [arguments]: three ranks in the background; returns after a checkpoint
    rm -f pid-*
    "${mpiexec[@]}" -np 3 bash rank.sh pretrain job.yaml "run=$1" "${@:2}" >out.txt 2>&1 &
    job=$!
    wait_until has_checkpoint "$1"
}
expect_resumed() { # expect_resumed RUN: ends with the weights of the reference run
    expect 0 "/checkpoints/step-" ranks 2 "$simile" pretrain job.yaml "run=$1"
    same_weights reference "$1"
}
expect 0 "" "$simile" pretrain job.yaml run=reference
[ -z "$(ls reference/heartbeat)" ] || fail "heartbeat records are left"

# a rank is stopped: the others name it, and all ranks end
for victim in 0 2; do
    start "stopped$victim" guard.hang_seconds=4
    pid=$(cat pid-$victim)
    kill -STOP "$pid"
    wait_for_exit 70 "$job" out.txt
    expect_lines 1 "warning:.*rank $victim on .*pid $pid\b.* 4 s.*guard\.hang_seconds"
    expect_lines 1+ "simile: .*rank $victim on .*pid $pid\b.*stopped$victim/checkpoints.*guard\.hang_seconds" "stopped$victim/log.txt"
    wait_until has_ended "$pid"
    expect_resumed "stopped$victim"
done

# a rank is stopped before MPI_Init: the others do not wait forever
cat >stopped.sh <<'SH'
[ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 ] || kill -STOP $$
exec "$SIMILE" "$@"
SH
SIMILE_START_SECONDS=2 expect 70 "MPI_Init" \
    ranks 3 bash stopped.sh pretrain job.yaml run=early
[ ! -e early ] || fail "the run that did not start has a directory"

# a rank that makes slow progress for longer than the limit does not end the run
SLOW_MS=150 start slow guard.hang_seconds=5
for _ in 1 2 3 4 5 6 7; do
    kill -STOP "$(cat pid-1)" 2>/dev/null || break
    sleep 0.7
    kill -CONT "$(cat pid-1)" 2>/dev/null || break
    sleep 0.3
done
wait_for_exit 0 "$job" out.txt
same_weights reference slow

# one rank's data set is truncated or changed during the run: all ranks end, with one message
mkdir elsewhere
cp job.yaml elsewhere/
# expect_corruption RANK CODE REGEX command...: RANK has its own copy, which the command corrupts
expect_corruption() {
    local run=$scratch/data$2
    export DIFFERING_RANK=$1
    cp train.h5 elsewhere/
    start "$run"
    "${@:4}"
    wait_for_exit "$2" "$job" out.txt
    expect_lines 1 "$3"
    expect_lines 1 "rank $1 on .*$3"
    expect_resumed "$run"
}
expect_corruption 2 74 "train\.h5 .*\bbyte [0-9]+\b.*\b[0-9]+ .*bytes" truncate -s 4096 elsewhere/train.h5
expect_corruption 0 65 "train\.h5: image [0-9]+ .*\bdigest" \
    dd if=/dev/zero of=elsewhere/train.h5 bs=1024 seek=2 count=40 conv=notrunc status=none
unset DIFFERING_RANK

# a launcher that this MPI does not support: one process prints the command to use
single() { env -u OMPI_COMM_WORLD_SIZE "$@" "$simile" pretrain job.yaml run=single; }
expect 64 "mpirun -np 4 simile pretrain ..." single PMI_RANK=0 PMI_SIZE=4
expect 64 "srun --mpi=pmix -n 4 simile pretrain ..." single SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0
code=0
single PMI_RANK=1 PMI_SIZE=4 >out.txt 2>&1 || code=$?
[ $code = 64 ] || fail "rank 1 of 4: exit $code"
[ ! -s out.txt ] || { cat out.txt >&2; fail "rank 1 prints a message too"; }
[ ! -e single ] || fail "the refused run has a directory"

# keys out of range
expect 78 "guard.hang_seconds: -1 " "$simile" pretrain job.yaml run=keys guard.hang_seconds=-1
expect 78 "guard.check_steps: -1 " "$simile" pretrain job.yaml run=keys guard.check_steps=-1
echo ok
