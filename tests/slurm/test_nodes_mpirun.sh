#!/usr/bin/env bash
# simile-test: timeout 240 labels long
# More losses of a node, each with the bits of an undisturbed run after the requeue on others:
# under mpirun in mid-step and in mid-save, under srun that of rank 1 while rank 0 saves.
nodes=6
export LAB_NODE_TIMEOUT=6 LAB_MESSAGE_TIMEOUT=5 LAB_KILL_WAIT=2 LAB_CPUS=1
. "$SIMILE_SOURCE/tests/slurm/common.sh"
export SIMILE_SLURM=$scripts
pair=(--nodes=2 --ntasks-per-node=1)
calm calm
ranks_of() { pgrep -f "^$simile pretrain .*run=$1( |\$)"; }
gone() { ! ranks_of "$1" >/dev/null; }
saving() { compgen -G "$1/checkpoints/*.tmp.*"; }
last_node() { scontrol show hostnames "$(squeue -h -n "$1" -o %N)" | tail -1; }
mpirun=$scripts/pretrain-mpirun.sbatch
SLOW_MS=200 script=$mpirun submit mpi-step "${pair[@]}" --
ids=("$id")
export SLOW_MS=400 SLOW_PATH=/checkpoints/
script=$mpirun submit mpi-save "${pair[@]}" -- checkpoint.every_steps=2
ids+=("$id")
submit save "${pair[@]}" -- checkpoint.every_steps=2
ids+=("$id")
unset SLOW_MS SLOW_PATH
for run in mpi-step mpi-save save; do
    await 40 "step 6 of $run" reached "$run" 6
    [ "$(ranks_of $run | wc -l)" = 2 ] || fail "$run has not two ranks"
    [[ $run != *save ]] || await 30 "a save of $run" saving $run
    "$lab" fail "$(last_node $run)"
    died=$SECONDS
    [ $run = save ] || await 10 "the other rank of $run" gone $run # mpirun does not wait for Slurm
done
await 30 "the other rank of save" gone save
echo "under srun the other rank ended $((SECONDS - died)) s after the node"
for ((i = 1; i <= nodes; i++)); do
    "$lab" heal "node$i" 2>/dev/null || true # those that are dead
done
for id in "${ids[@]}"; do finish COMPLETED "$id" 90; done
for run in mpi-step mpi-save save; do
    says $run "start 2, 2 nodes"
    same calm $run
done
says mpi-step "mpirun lost a node; requeued"
says mpi-save "mpirun lost a node; requeued"
grep -q "Name=save JobState=NODE_FAIL" "$LAB_DIR/log/jobcomp" || fail "save: no NODE_FAIL"
echo ok
