#!/usr/bin/env bash
# simile-test: timeout 600
# Preemption and scancel with a grace time of 30 s, one that is too short and none: saved checkpoints
# remain valid, and the run has the bits of an undisturbed run.
export LAB_CPUS=1 LAB_KILL_WAIT=30 # one job takes both nodes; 30 s are the default of Slurm
. "$SIMILE_SOURCE/tests/slurm/common.sh"
pair=(--nodes=2 --ntasks-per-node=1)
train reference

# preemption: Slurm sends TERM, requeues the job, and starts the urgent job at once
SLOW_MS=1000 submit preempted "${pair[@]}" --
wait_until reached preempted 10
urgent=$(sbatch --parsable --partition=urgent "${pair[@]}" --output=urgent.log --wrap "sleep 1")
expect_state COMPLETED "$urgent"
expect_state COMPLETED "$id"
log_has preempted "DUE TO PREEMPTION"
log_has preempted "start 2, 2 nodes"
expect_lines 1+ "stopped by (USR1|TERM) .*preempted/checkpoints/step-0000000" preempted.log
same_run reference preempted

# scancel: a checkpoint within KillWait seconds, and no requeue
SLOW_MS=1000 submit cancelled "${pair[@]}" --
wait_until reached cancelled 10
scancel "$id"
expect_state CANCELLED "$id"
expect_lines 1+ "stopped by TERM .*cancelled/checkpoints/step-0000000" cancelled.log
submit cancelled "${pair[@]}" --
expect_state COMPLETED "$id"
log_has cancelled "cancelled/checkpoints/step-0000000"
same_run reference cancelled

# one second between TERM and KILL, during a step of minutes: no checkpoint is written
sed -i 's/^KillWait=.*/KillWait=1/' "$SLURM_CONF"
scontrol reconfigure
SLOW_MS=600000 SLOW_AFTER=1 submit cut "${pair[@]}" -- checkpoint.every_steps=1
wait_until reached cut 1
scancel "$id"
expect_state CANCELLED "$id"
expect_lines 0 "stopped by TERM" cut.log
submit cut "${pair[@]}" -- checkpoint.every_steps=1
expect_state COMPLETED "$id"
log_has cut "cut/checkpoints/step-00000000"
same_run reference cut

# no grace time
SLOW_MS=1000 submit killed "${pair[@]}" --
wait_until reached killed 10
scancel --full --signal=KILL "$id"
wait_until ended "$id"
submit killed "${pair[@]}" --
expect_state COMPLETED "$id"
same_run reference killed
echo ok
