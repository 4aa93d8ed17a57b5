#!/usr/bin/env bash
# simile-test: timeout 400 labels long
# Neither signal nor clock came before the time limit: TERM with the limit, then KillWait
# seconds for a checkpoint.  The job ends as TIMEOUT; submitted again, it goes on.
. "$SIMILE_SOURCE/tests/slurm/common.sh"
pair=(--nodes=2 --ntasks-per-node=1)
calm calm
first=()
for launch in pretrain pretrain-mpirun; do
    export script=$scripts/$launch.sbatch SIMILE_SLURM=$scripts
    SIMILE_MARGIN=100000 SLOW_MS=5000 submit "$launch" "${pair[@]}" --time=1 --signal=USR1@0 --open-mode=append -- checkpoint.every_steps=1
    first+=("$id")
done
finish TIMEOUT "${first[0]}" 200
finish TIMEOUT "${first[1]}" 60
says pretrain "DUE TO TIME LIMIT"
for launch in pretrain pretrain-mpirun; do
    script=$scripts/$launch.sbatch
    submit "$launch" "${pair[@]}" --open-mode=append -- checkpoint.every_steps=1
    finish COMPLETED "$id"
    says "$launch" "resumed from $launch/checkpoints/step-0000000"
    same calm "$launch"
done
echo ok
