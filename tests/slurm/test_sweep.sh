#!/usr/bin/env bash
# simile-test: timeout 600
# The other scripts: prepare, a script written by plan, sweeps over seeds and over lines of settings,
# one task of which is requeued alone, and evaluate.
. "$SIMILE_SOURCE/tests/slurm/common.sh"
export SIMILE_SLURM=$scripts
few=(--nodes=1 --ntasks-per-node=1 --cpus-per-task=1 --mem=200M --time=10)

# prepare, then a script written by plan, in a directory with a space in its name
mkdir "a b"
cp train-*ubyte "a b"
cd "a b" || exit
prepared=$(sbatch --parsable --output=prepare.log --cpus-per-task=1 --mem=200M "$scripts/prepare.sbatch" train-images-idx3-ubyte train.h5)
expect_state COMPLETED "$prepared"
expect_lines 1+ "\b96 images" prepare.log
expect 0 "sbatch job.sbatch" "$simile" plan ../job.yaml run=planned schedule.steps=40 --ranks 2 --nodes 2 --threads 1 --sbatch job.sbatch
cd "$scratch" || exit
id=$(sbatch --parsable --output=planned.log "a b/job.sbatch")
expect_state COMPLETED "$id"
expect 0 "" "$simile" pretrain job.yaml run=planned-reference schedule.steps=40
same_run planned-reference "a b/planned"

# seeds: one task is stopped, and only that task is requeued
array=$(SLOW_MS=1000 SLOW_UNTIL=$scratch/go sbatch --parsable --array=1-3 "${few[@]}" --output=sweep-%a.log "$scripts/sweep.sbatch" job.yaml run=sweep schedule.steps=60)
wait_until reached sweep-seed3 10
scancel -s USR1 "${array}_3"
wait_until grep -q "stopped by USR1" sweep-3.log
touch go # the others continue
all_done() { [ "$(squeue -h -a -t all -r -j "$array" -o %T | sort | uniq -c | xargs)" = "3 COMPLETED" ]; }
wait_until all_done
for seed in 1 2 3; do
    expect 0 "" "$simile" pretrain job.yaml run="reference-$seed" seed="$seed" schedule.steps=60
    same_run "reference-$seed" "sweep-seed$seed"
done
log_has sweep-3 "start 2, 1 nodes"
expect_lines 0 "start 2" sweep-1.log
expect_lines 0 "start 2" sweep-2.log

# lines of settings
printf 'optimizer.lr=0.05\noptimizer.lr=0.2 method.temperature=0.5\n' >settings.txt
array=$(sbatch --parsable --array=2-3 "${few[@]}" --output=lines-%a.log "$scripts/sweep.sbatch" job.yaml --lines settings.txt run=lines schedule.steps=20)
failed_one() { [ "$(squeue -h -a -t all -r -j "$array" -o %T | sort | xargs)" = "COMPLETED FAILED" ]; }
wait_until failed_one
expect_lines 1 "settings\.txt .*\b3$" lines-3.log
expect 0 "method.temperature: 0.5" "$simile" inspect lines-line2

# evaluate
id=$(sbatch --parsable --output=evaluate.log --dependency="afterok:$prepared" --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 --mem=200M \
    "$scripts/evaluate.sbatch" sweep-seed1 train.h5 train.h5 knn --k 5)
expect_state COMPLETED "$id"
"$simile" evaluate knn sweep-seed1 --train train.h5 --test train.h5 --k 5 --json >direct.json
/usr/bin/python3 -c 'import json, sys
a, b = (json.load(open(p)) for p in sys.argv[1:])
assert a["top1"] == b["top1"] and a["step"] == 60, (a, b)' "evaluate-sweep-seed1-$id.json" direct.json
echo ok
