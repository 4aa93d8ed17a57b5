#!/usr/bin/env bash
# simile-test: timeout 600 labels long
# A node fails under mpirun during a step and during a save, and under srun the node of rank 1 while
# rank 0 saves.  After the requeue on other nodes the run has the bits of an undisturbed run.
nodes=6
export LAB_NODE_TIMEOUT=6 LAB_MESSAGE_TIMEOUT=5 LAB_KILL_WAIT=2 LAB_CPUS=1
. "$SIMILE_SOURCE/tests/slurm/common.sh"
export SIMILE_SLURM=$scripts
pair=(--nodes=2 --ntasks-per-node=1)
train reference
last_node() { scontrol show hostnames "$(squeue -h -n "$1" -o %N)" | tail -1; }
mpirun=$scripts/pretrain-mpirun.sbatch
SLOW_MS=2000 script=$mpirun submit mpi-step "${pair[@]}" --
ids=("$id")
export SLOW_MS=400 SLOW_AFTER=0 SLOW_PATH='*/checkpoints/*'
script=$mpirun submit mpi-save "${pair[@]}" -- checkpoint.every_steps=2
ids+=("$id")
submit save "${pair[@]}" -- checkpoint.every_steps=2
ids+=("$id")
unset SLOW_MS SLOW_PATH SLOW_AFTER
for run in mpi-step mpi-save save; do
    wait_until reached "$run" 6
    [ "$(pids_of $run | wc -l)" = 2 ] || fail "$run does not have two ranks"
    [[ $run != *save ]] || wait_until saving $run
    "$lab" fail "$(last_node $run)"
    failed=$SECONDS
    [ $run = save ] || wait_until gone $run # mpirun does not wait for Slurm
done
wait_until gone save
echo "under srun the other rank ended $((SECONDS - failed)) s after the node failed"
for ((i = 1; i <= nodes; i++)); do
    "$lab" heal "node$i" 2>/dev/null || true # fails for nodes that run
done
for id in "${ids[@]}"; do expect_state COMPLETED "$id"; done
for run in mpi-step mpi-save save; do
    log_has $run "start 2, 2 nodes"
    same_run reference $run
done
log_has mpi-step "mpirun lost a node; requeued"
log_has mpi-save "mpirun lost a node; requeued"
grep -q "Name=save JobState=NODE_FAIL" "$LAB_DIR/log/jobcomp" || fail "save: no NODE_FAIL"
echo ok
