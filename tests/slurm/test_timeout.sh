#!/usr/bin/env bash
# simile-test: timeout 600 labels long
# At the time limit, without an earlier signal, Slurm sends TERM and waits for KillWait seconds, in
# which a checkpoint is written.  The job ends with TIMEOUT; a new job resumes the run.
. "$SIMILE_SOURCE/tests/slurm/common.sh"
pair=(--nodes=2 --ntasks-per-node=1)
train reference
first=()
for launch in pretrain pretrain-mpirun; do
    export script=$scripts/$launch.sbatch SIMILE_SLURM=$scripts
    SIMILE_MARGIN=100000 SLOW_MS=5000 submit "$launch" "${pair[@]}" --time=1 --signal=USR1@0 --open-mode=append -- checkpoint.every_steps=1
    first+=("$id")
done
expect_state TIMEOUT "${first[0]}"
expect_state TIMEOUT "${first[1]}"
log_has pretrain "DUE TO TIME LIMIT"
for launch in pretrain pretrain-mpirun; do
    script=$scripts/$launch.sbatch
    submit "$launch" "${pair[@]}" --open-mode=append -- checkpoint.every_steps=1
    expect_state COMPLETED "$id"
    log_has "$launch" "resumed from $launch/checkpoints/step-0000000"
    same_run reference "$launch"
done
echo ok
