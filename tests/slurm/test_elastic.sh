#!/usr/bin/env bash
# simile-test: timeout 240
# One run on 1, 4, 2 and 3 ranks, over two nodes and one, and started by mpirun in between:
# the bits are those of one rank from start to end.  The data set is read on the nodes.
# Then the batch grows with the nodes.
export LAB_CPUS=4
. "$SIMILE_SOURCE/tests/slurm/common.sh"
export SIMILE_STAGE=1 SIMILE_SCRATCH=$scratch/local SIMILE_SLURM=$scripts
calm calm
segment() { # segment STEP ranks nodes: stops after that step
    submit elastic --open-mode=append --nodes="$3" --ntasks="$2" -- --stop-after "$1"
    finish FAILED "$id"
    exited 75 "$id"
    says elastic "--stop-after at step $1"
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
same calm elastic
# both fake nodes share the folder, so the second finds what the first copied
[ "$(grep -c "^staged " elastic.log)" = 10 ] || fail "not one line of staging a node and start"
says elastic "$scratch/local/simile-"
"$simile" inspect elastic --json | /usr/bin/python3 -c 'import json, sys
ranks = [s["ranks"] for s in json.load(sys.stdin)["segments"]]
assert ranks == [1, 4, 2, 2, 3, 2], ranks'

# twice the nodes and twice the batch from step 20 on, as the README types it
double=(batch=48 --accept batch)
expect 75 "" "$simile" pretrain job.yaml run=double-calm --stop-after 20
expect 0 "" "$simile" pretrain job.yaml run=double-calm "${double[@]}"
submit doubled --open-mode=append --nodes=1 --ntasks=1 -- --stop-after 20
finish FAILED "$id"
exited 75 "$id"
submit doubled --open-mode=append --nodes=2 --ntasks=2 -- "${double[@]}"
finish COMPLETED "$id"
grep -q '"batch":48' <("$simile" inspect doubled --json) || says doubled "batch 24 -> 48"
same double-calm doubled
echo ok
