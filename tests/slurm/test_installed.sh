#!/usr/bin/env bash
# simile-test: timeout 600
# Scripts of an installed tree find its program and each other, from any directory and with spaces in
# the path; without a program in their tree or in PATH they end with 69.
nodes=1
. "$SIMILE_SOURCE/tests/slurm/common.sh"
tree="$scratch/my tree" few=(--nodes=1 --ntasks-per-node=1 --cpus-per-task=1 --mem=200M --time=10)
cmake --install "$SIMILE_BUILD" --prefix "$tree" >install.txt
installed=$tree/share/simile/slurm
unset SIMILE
mkdir elsewhere
cp job.yaml train.h5 elsewhere
cd elsewhere || exit

id=$(sbatch --parsable "${few[@]}" --output=pretrain.log "$installed/pretrain.sbatch" job.yaml run=one)
expect_state COMPLETED "$id"
id=$(sbatch --parsable "${few[@]}" --output=mpirun.log "$installed/pretrain-mpirun.sbatch" job.yaml run=two)
expect_state COMPLETED "$id"
same_run one two
id=$(sbatch --parsable "${few[@]}" --output=compare.log "$installed/compare.sbatch" job.yaml --out runs --seeds 1)
expect_state COMPLETED "$id"
expect_lines 1 '"n_complete": 1' runs/compare.json
id=$(sbatch --parsable "${few[@]}" --output=evaluate.log "$installed/evaluate.sbatch" one train.h5 train.h5 knn --k 5)
expect_state COMPLETED "$id"

# a copy outside of the tree: the program of PATH, or a message
cp "$installed/prepare.sbatch" .
id=$(sbatch --parsable "${few[@]}" --output=prepare.log prepare.sbatch train.h5 copy.h5)
expect_state FAILED "$id"
expect_lines 1 "^simile is not found: set SIMILE" prepare.log
id=$(PATH=$tree/bin:$PATH sbatch --parsable "${few[@]}" --output=prepare.log prepare.sbatch train.h5 copy.h5)
expect_state COMPLETED "$id"
echo ok
