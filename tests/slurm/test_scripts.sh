#!/usr/bin/env bash
# simile-test: timeout 600
# The other scripts: prepare, a script written by plan, compare as an array of which one task is requeued
# alone, and evaluate.
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

# compare: the tasks of an array share a directory; one is stopped, and only that one is requeued
cat >compare.sh <<SH
#!/usr/bin/env bash
[ "\$1 \${SLURM_RESTART_COUNT:-0}" != "compare 0" ] || export LD_PRELOAD=$scratch/slow.so
exec "$simile" "\$@"
SH
chmod +x compare.sh
array=$(SIMILE=$scratch/compare.sh SLOW_MS=1000 SLOW_UNTIL=$scratch/go sbatch --parsable --array=1-2 "${few[@]}" --output=compare-%a.log \
    "$scripts/compare.sbatch" job.yaml --out runs --seeds 4 schedule.steps=60)
wait_until reached runs/job_seed-0 10
wait_until reached runs/job_seed-1 10 # of the second task
scancel --batch -s USR1 "${array}_2"
wait_until grep -q "; requeued" compare-2.log
touch go # the other continues
all_done() { [ "$(squeue -h -a -t all -r -j "$array" -o %T | sort | uniq -c | xargs)" = "2 COMPLETED" ]; }
wait_until all_done
for seed in 0 1 2 3; do
    expect 0 "" "$simile" pretrain job.yaml run="reference-$seed" seed="$seed" schedule.steps=60
    same_run "reference-$seed" "runs/job_seed-$seed"
done
log_has compare-2 "start 2, 1 nodes"
expect_lines 0 "start 2" compare-1.log
expect_lines 1 '"n_complete": 4' runs/compare.json
# the next submission repeats nothing
id=$(sbatch --parsable "${few[@]}" --output=again.log "$scripts/compare.sbatch" job.yaml --out runs --seeds 4 schedule.steps=60)
expect_state COMPLETED "$id"
expect_lines 0 "simile pretrain" again.log

# evaluate
id=$(sbatch --parsable --output=evaluate.log --dependency="afterok:$prepared" --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 --mem=200M \
    "$scripts/evaluate.sbatch" runs/job_seed-1 train.h5 train.h5 knn --k 5)
expect_state COMPLETED "$id"
"$simile" evaluate knn runs/job_seed-1 --train train.h5 --test train.h5 --k 5 --json >direct.json
/usr/bin/python3 -c 'import json, sys
a, b = (json.load(open(p)) for p in sys.argv[1:])
assert a["top1"] == b["top1"] and a["step"] == 60, (a, b)' "evaluate-job_seed-1-$id.json" direct.json
echo ok
