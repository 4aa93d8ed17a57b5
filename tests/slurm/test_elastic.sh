#!/usr/bin/env bash
# simile-test: timeout 240
# One run on 1, 4, 2 and 3 ranks, over two nodes and one, and started by mpirun in between:
# the bits are those of one rank from start to end.  The data set is read on the nodes.
export LAB_CPUS=4
. "$SIMILE_SOURCE/tests/slurm/common.sh"
export SIMILE_STAGE=1 SIMILE_SCRATCH=$scratch/local SIMILE_SLURM=$scripts
calm calm
segment() { # segment STEP ranks nodes: stops after that step
    submit elastic --open-mode=append --nodes="$3" --ntasks="$2" -- --stop-after "$1"
    finish FAILED "$id"
    exited 75 "$id"
    says elastic "stopped by --stop-after at step $1;"
}
segment 10 1 1
segment 22 4 2
segment 30 2 2
script=$scripts/pretrain-mpirun.sbatch segment 40 2 2
segment 50 3 2
submit elastic --open-mode=append --nodes=1 --ntasks=2 --
finish COMPLETED "$id"
for n in "1 nodes (node1), 1 ranks" "2 nodes (node[1-2]), 4 ranks" "2 nodes (node[1-2]), 3 ranks"; do
    says elastic "$n"
done
says elastic "run       elastic on node1: 3 ranks x 1 thread"
same calm elastic
# both fake nodes share the folder, so the second finds what the first copied
[ "$(grep -c "^staged " elastic.log)" = 10 ] || fail "not one line of staging a node and start"
says elastic "data      $scratch/local/simile-"
"$simile" inspect elastic | awk '$2 ~ /^[0-9]+$/ && $1 ~ /T/ { print $2 }' | xargs | grep -qx "1 4 2 2 3 2" ||
    fail "the history tells other ranks"
echo ok
