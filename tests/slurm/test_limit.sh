#!/usr/bin/env bash
# simile-test: timeout 240
# A job outlives its time limit, a signal by hand, its own clock and a chain of jobs, with the
# bits of an undisturbed run; who asks it to stop is not answered by a requeue.
. "$SIMILE_SOURCE/tests/slurm/common.sh"
pair=(--nodes=2 --ntasks-per-node=1)
calm calm

# Slurm looks at limits twice a minute: this one is signalled about 30 s from now
SLOW_MS=600 submit limit "${pair[@]}" --time=1 --signal=USR1@30 --
limit=$id

# USR1 by hand: checkpoint, 75, requeued, on to the end
SLOW_MS=100 submit usr1 "${pair[@]}" --
await 30 "step 10 of usr1" reached usr1 10
scancel -s USR1 "$id"
finish COMPLETED "$id"
says usr1 "USR1"
says usr1 "start 2, 2 nodes"
says usr1 "usr1/checkpoints/step-0000000"
[ "$(grep -c 'pretrain.sbatch: completed' usr1.log)" = 1 ] || fail "usr1 did not complete once"
[ ! -e usr1/slurm-starts ] || fail "the guard's notes outlive the run"
same calm usr1

# simile stop: a person wants it to end, so it is not requeued; submitted again, it goes on
SLOW_MS=100 submit stopped "${pair[@]}" --
await 30 "step 10 of stopped" reached stopped 10
expect 0 "" "$simile" stop stopped
finish FAILED "$id"
exited 75 "$id"
says stopped "simile stop at step"
submit stopped "${pair[@]}" --
finish COMPLETED "$id"
same calm stopped

# where requeueing is forbidden, jobs of one name follow each other
SIMILE_REQUEUE=0 SLOW_MS=100 submit chain "${pair[@]}" --no-requeue --dependency=singleton --open-mode=append --
first=$id
SIMILE_REQUEUE=0 submit chain "${pair[@]}" --no-requeue --dependency=singleton --open-mode=append --
await 30 "step 10 of chain" reached chain 10
[ "$(state "$id")" = PENDING ] || fail "the second of the chain does not wait"
scancel -s USR1 "$first"
finish FAILED "$first"
says chain "chain"
finish COMPLETED "$id"
same calm chain

# the clock, should the signal be lost: 60 s less SIMILE_MARGIN, again after the requeue
SIMILE_MARGIN=51 SLOW_MS=200 submit clock "${pair[@]}" --time=1 --signal=USR1@1 --
finish COMPLETED "$id" 120
says clock "time limit"
same calm clock

finish COMPLETED "$limit" 150
says limit "USR1"
says limit "start 2, 2 nodes"
same calm limit
echo ok
