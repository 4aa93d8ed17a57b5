#!/usr/bin/env bash
# simile-test: timeout 240
# Preemption and scancel, with a grace of seconds, with one of a second, and with none: what
# was saved stands, and the run ends with the bits of an undisturbed one.
export LAB_CPUS=1 # two nodes are one job's
. "$SIMILE_SOURCE/tests/slurm/common.sh"
pair=(--nodes=2 --ntasks-per-node=1)
calm calm

# preemption: Slurm sends TERM, requeues by itself, and starts the urgent job at once
SLOW_MS=100 submit yields "${pair[@]}" --
await 30 "step 10 of yields" reached yields 10
urgent=$(sbatch --parsable --partition=urgent "${pair[@]}" --output=urgent.log --wrap "sleep 1")
finish COMPLETED "$urgent"
finish COMPLETED "$id"
says yields "DUE TO PREEMPTION"
says yields "start 2, 2 nodes"
grep -qE "USR1|TERM" yields.log || fail "yields: no checkpoint in the grace of 5 s"
same calm yields

# scancel gives KillWait seconds: a checkpoint, and no requeue
SLOW_MS=100 submit cancelled "${pair[@]}" --
await 30 "step 10 of cancelled" reached cancelled 10
scancel "$id"
finish CANCELLED "$id"
says cancelled "TERM"
submit cancelled "${pair[@]}" --
finish COMPLETED "$id"
says cancelled "cancelled/checkpoints/step-0000000"
same calm cancelled

# a second between TERM and KILL, in a step that takes three: the last checkpoint stands
sed -i 's/^KillWait=.*/KillWait=1/' "$SLURM_CONF"
scontrol reconfigure
SLOW_MS=3000 submit cut "${pair[@]}" -- checkpoint.every_steps=1
await 30 "step 1 of cut" reached cut 1
scancel "$id"
finish CANCELLED "$id"
if grep -q "TERM after step" cut.log; then fail "cut: a checkpoint after KILL"; fi
submit cut "${pair[@]}" -- checkpoint.every_steps=1
finish COMPLETED "$id"
says cut "cut/checkpoints/step-00000000"
same calm cut

# no grace at all
SLOW_MS=100 submit killed "${pair[@]}" --
await 30 "step 10 of killed" reached killed 10
scancel --full --signal=KILL "$id"
await 30 "the end of killed" ended "$id"
submit killed "${pair[@]}" --
finish COMPLETED "$id"
same calm killed
echo ok
