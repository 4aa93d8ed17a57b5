#!/usr/bin/env bash
# simile-test: timeout 600
# A run on 1, 4, 2 and 3 ranks, on one and two nodes, started by srun and mpirun, has the bits of an
# undisturbed run on one rank.  The data set is staged on the nodes.  Then the batch is doubled with
# the number of nodes.
export LAB_CPUS=4
. "$SIMILE_SOURCE/tests/slurm/common.sh"
export SIMILE_STAGE=1 SIMILE_SCRATCH=$scratch/local SIMILE_SLURM=$scripts
train reference
segment() { # segment STEP RANKS NODES: a job that stops after STEP
    submit elastic --open-mode=append --nodes="$3" --ntasks="$2" -- --stop-after "$1"
    expect_state FAILED "$id"
    expect_exit 75 "$id"
    log_has elastic "--stop-after at step $1"
}
segment 10 1 1
segment 22 4 2
segment 30 2 2
script=$scripts/pretrain-mpirun.sbatch segment 40 2 2
segment 50 3 2
submit elastic --open-mode=append --nodes=1 --ntasks=2 --
expect_state COMPLETED "$id"
for n in "1 nodes (node1), 1 ranks" "2 nodes (node[1-2]), 4 ranks" "2 nodes (node[1-2]), 3 ranks"; do
    log_has elastic "$n"
done
same_run reference elastic
# one line per node and start; the two nodes share the directory, so one of them copies nothing
expect_lines 10 "^staged " elastic.log
log_has elastic "$scratch/local/simile-"
"$simile" inspect elastic --json | /usr/bin/python3 -c 'import json, sys
ranks = [s["ranks"] for s in json.load(sys.stdin)["segments"]]
assert ranks == [1, 4, 2, 2, 3, 2], ranks'

# twice the nodes and twice the batch from step 20 on, as in slurm/README.md
double=(batch=48 --accept batch)
expect 75 "" "$simile" pretrain job.yaml run=double-reference --stop-after 20
train double-reference "${double[@]}"
submit doubled --open-mode=append --nodes=1 --ntasks=1 -- --stop-after 20
expect_state FAILED "$id"
expect_exit 75 "$id"
submit doubled --open-mode=append --nodes=2 --ntasks=2 -- "${double[@]}"
expect_state COMPLETED "$id"
log_has doubled "batch 24 -> 48"
same_run double-reference doubled
echo ok
