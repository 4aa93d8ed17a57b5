#!/usr/bin/env bash
# simile-test: timeout 600
# A run that is stopped by its time limit, by USR1, by its own clock or by a chain of jobs has the
# bits of an undisturbed run.  A run that `simile stop` ends is not requeued.
. "$SIMILE_SOURCE/tests/slurm/common.sh"
pair=(--nodes=2 --ntasks-per-node=1)
train reference

# Slurm checks time limits twice a minute: this job receives USR1 in about 30 s
SLOW_MS=2000 submit limit "${pair[@]}" --time=1 --signal=USR1@30 --
limit=$id

# USR1: checkpoint, exit code 75, requeued, completed
SLOW_MS=1000 submit usr1 "${pair[@]}" --
wait_until reached usr1 10
scancel -s USR1 "$id"
expect_state COMPLETED "$id"
log_has usr1 "USR1"
log_has usr1 "start 2, 2 nodes"
log_has usr1 "usr1/checkpoints/step-0000000"
expect_lines 1 "pretrain\.sbatch: completed" usr1.log
[ ! -e usr1/slurm-starts ] || fail "a completed run has slurm-starts"
same_run reference usr1

# simile stop: not requeued; a new job resumes
SLOW_MS=1000 submit stopped "${pair[@]}" --
wait_until reached stopped 10
expect 0 "" "$simile" stop stopped
expect_state FAILED "$id"
expect_exit 75 "$id"
log_has stopped "simile stop at step"
submit stopped "${pair[@]}" --
expect_state COMPLETED "$id"
same_run reference stopped

# where requeueing is disabled: a chain of jobs with the same name
SIMILE_REQUEUE=0 SLOW_MS=1000 submit chain "${pair[@]}" --no-requeue --dependency=singleton --open-mode=append --
first=$id
SIMILE_REQUEUE=0 submit chain "${pair[@]}" --no-requeue --dependency=singleton --open-mode=append --
wait_until reached chain 10
[ "$(state "$id")" = PENDING ] || fail "the second job of the chain does not wait"
scancel -s USR1 "$first"
expect_state FAILED "$first"
expect_lines 1 "pretrain\.sbatch: stopped by USR1 at step [0-9]+.*\bchain\b" chain.log
expect_state COMPLETED "$id"
same_run reference chain

# the program's own clock, without the signal: 60 s minus SIMILE_MARGIN
SIMILE_MARGIN=48 SLOW_MS=1000 submit clock "${pair[@]}" --time=1 --signal=USR1@1 --
expect_state COMPLETED "$id"
log_has clock "time limit"
same_run reference clock

expect_state COMPLETED "$limit"
log_has limit "USR1"
log_has limit "start 2, 2 nodes"
same_run reference limit
echo ok
