#!/usr/bin/env bash
# simile-test: timeout 600 processors 2
# A run that is stopped by signals, `simile stop` or time limits, or killed at random times, ends
# with the weights, metrics and log of an undisturbed run.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
data_set train 128 16
slow_writes
slow() { SLOW_MS=1000 LD_PRELOAD=$scratch/slow.so exec "$@"; } # lasts until the test stops it
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.125}
batch: 32
block: 8
schedule: {steps: 60}
augment: {preset: digits}
log: {every_steps: 4}
checkpoint: {every_steps: 2, keep: 4}
YAML
# expect_stop RUN WHY FILE: the message in FILE has the reason, and the step and path of the newest
# checkpoint
expect_stop() {
    local path step
    path=$(grep -oE "$1/checkpoints/step-[0-9]{9}\.h5" "$3" | tail -1)
    [ -n "$path" ] || { cat "$3"; fail "$1: the message names no checkpoint"; }
    step=$((10#${path: -12:9}))
    expect_step "$1" "$step"
    expect_lines 1 "\b$2 .*\b$step of 60\b.*$path.*\b75\b" "$3"
}
ended() { grep -qE "\"ended\": *\"$2\"" "$1/results/pretrain.json" || fail "$1: ended: $(grep ended "$1/results/pretrain.json"), expected $2"; }
expect 0 "" "$simile" pretrain job.yaml run=reference
for signal in USR1 TERM INT; do
    slow "$simile" pretrain job.yaml run="by-$signal" >log.txt 2>&1 &
    pid=$!
    wait_until has_checkpoint "by-$signal"
    kill -"$signal" $pid
    wait_for_exit 75 $pid
    expect_stop "by-$signal" $signal log.txt
    ended "by-$signal" $signal
    expect 0 "" "$simile" pretrain job.yaml run="by-$signal"
    same_run reference "by-$signal"
done
# USR1 during MPI_Init: a checkpoint of step 0 and exit code 75
cat >init.c <<'C'
#include <mpi.h>
#include <signal.h>
int MPI_Init_thread(int *argc, char ***argv, int required, int *provided)
{
    (void)raise(SIGUSR1);
    return PMPI_Init_thread(argc, argv, required, provided);
}
C
mpicc -shared -fPIC -o init.so init.c
code=0
LD_PRELOAD=$scratch/init.so "$simile" pretrain job.yaml run=early >log.txt 2>&1 || code=$?
[ $code = 75 ] || { cat log.txt >&2; fail "exit $code, expected 75"; }
expect_stop early USR1 log.txt
expect_step early 0
expect 0 "" "$simile" pretrain job.yaml run=early
same_run reference early
# `simile stop` stops all ranks under mpirun
slow "${mpiexec[@]}" -np 2 "$simile" pretrain job.yaml run=two >log.txt 2>&1 &
pid=$!
wait_until has_checkpoint two
expect_match 73 "two/run\.lock.*\bpid [0-9]+" "$simile" pretrain job.yaml run=two
expect 0 "" "$simile" stop two
wait_for_exit 75 $pid
ended two "simile stop"
expect_stop two "simile stop" log.txt
expect 0 "" ranks 3 "$simile" pretrain job.yaml run=two
same_run reference two
# a time limit
SLOW_AFTER=3 slow "$simile" pretrain job.yaml run=timed --time-limit 6s >log.txt 2>&1 &
wait_for_exit 75 $!
ended timed "time limit"
expect 0 "" "$simile" pretrain job.yaml run=timed
same_run reference timed
# a limit has the forms of Slurm, and the log has what was understood; it ends with the Slurm job
expect_match 75 "^limit .* within 1h30m \(--time-limit 90\)" "$simile" pretrain job.yaml run=form --time-limit 90 --stop-after 1
expect_match 75 "^limit .* within 1d12h \(" "$simile" pretrain job.yaml run=form --time-limit 1-12 --stop-after 1
expect_match 75 "^warning: --time-limit 90 .*\b[45]m[0-5][0-9]s" \
    env SLURM_JOB_END_TIME=$(($(date +%s) + 300)) "$simile" pretrain job.yaml run=form --time-limit 90 --stop-after 1
expect_lines 1 "^limit .* within [45]m"
expect 0 "2" "$simile" plan job.yaml --value checkpoint.every_minutes checkpoint.every_minutes=120s
expect 0 "5400" "$simile" plan job.yaml --value guard.hang_seconds guard.hang_seconds=1.5h
expect 0 "20" "$simile" plan job.yaml --value guard.hang_seconds guard.hang_seconds=20
expect 78 "guard.hang_seconds" "$simile" plan job.yaml guard.hang_seconds=20x
# a time limit is kept where a save takes seconds and none was made since the start
export SLOW_MS=1000 SLOW_PATH='*/checkpoints/step-*'
late() { LD_PRELOAD=$scratch/slow.so "$simile" pretrain job.yaml run=late checkpoint.every_steps=0 schedule.steps=1000000 "$@"; }
expect_match 75 " --stop-after .*\b1 of 1000000\b" late --stop-after 1
expect 75 "" late --time-limit 8s
unset SLOW_MS SLOW_PATH
ended late "time limit"
/usr/bin/python3 -c 'import json
result = json.load(open("late/results/pretrain.json"))
assert result["time_s"]["checkpoints"]["rank_0"] > 1.9, "a save must be slow in this test"
elapsed, save = result["elapsed_s"], result["time_s"]["checkpoints"]["rank_0"]
# the decision to stop leaves enough time for a save of 1.9 s, by the clock of the program
assert elapsed - save <= 8 - 1.9, f"{elapsed} s, of which the save took {save} s, of 8 s"'
# killed at 25 random times, on changing numbers of ranks
RANDOM=7
for i in $(seq 25); do
    setsid "${mpiexec[@]}" -np $((i % 3 + 1)) "$simile" pretrain job.yaml run=killed >log.txt 2>&1 &
    pid=$!
    sleep "0.$((RANDOM % 80 + 10))"
    kill -KILL -- -$pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    for p in $(rank_pids); do kill -KILL "$p" 2>/dev/null || true; done
    while [ -n "$(rank_pids)" ]; do sleep 0.05; done
done
expect 0 "" ranks 2 "$simile" pretrain job.yaml run=killed
same_run reference killed
# a run that diverges ends; the message lists the images, and the last checkpoint is valid
expect 70 "" ranks 2 "$simile" pretrain job.yaml run=diverged optimizer.lr=1e4 schedule.shape=constant optimizer.weight_decay=10 guard.bad_steps=1
expect_lines 1 "warning: step [0-9]+ .*\b1 in a row, 1 allowed"
expect_lines 2 "warning: samples:( [0-9]+){16} "
expect_lines 1 "^simile: .*step [0-9]+: .* 2 .*optimizer\.lr"
expect 0 "step" "$simile" inspect diverged
echo ok
