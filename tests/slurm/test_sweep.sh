#!/usr/bin/env bash
# simile-test: timeout 240
# The other scripts, as a user submits them: prepare, a script that plan wrote, a sweep over
# seeds and one over lines, a task of which is signalled and requeued alone, evaluate.
. "$SIMILE_SOURCE/tests/slurm/common.sh"
export SIMILE_SLURM=$scripts
few=(--nodes=1 --ntasks-per-node=1 --cpus-per-task=1 --mem=200M --time=10)

# prepare, and after it a script fitted by plan, in a folder with a space in its name
mkdir "of mine"
cp train-*ubyte "of mine"
cd "of mine" || exit
prepared=$(sbatch --parsable --output=prepare.log --cpus-per-task=1 --mem=200M "$scripts/prepare.sbatch" train-images-idx3-ubyte train.h5)
finish COMPLETED "$prepared"
grep -q "96 images\|\"images\": 96" prepare.log || { cat prepare.log; fail "prepare does not tell what it made"; }
expect 0 "sbatch job.sbatch" "$simile" plan ../job.yaml run=planned schedule.steps=40 --ranks 2 --nodes 2 --threads 1 --sbatch job.sbatch
cd "$scratch" || exit
id=$(sbatch --parsable --output=planned.log "of mine/job.sbatch")
finish COMPLETED "$id"
expect 0 "" "$simile" pretrain job.yaml run=planned-calm schedule.steps=40
same planned-calm "of mine/planned"

# seeds: one task is stopped, and only that one starts again
array=$(SLOW_MS=100 sbatch --parsable --array=1-3 "${few[@]}" --output=sweep-%a.log "$scripts/sweep.sbatch" job.yaml run=sweep schedule.steps=60)
await 30 "step 10 of task 3" reached sweep-seed3 10
scancel -s USR1 "${array}_3"
all_done() { [ "$(squeue -h -a -t all -r -j "$array" -o %T | sort | uniq -c | xargs)" = "3 COMPLETED" ]; }
await 90 "the end of the sweep" all_done
for seed in 1 2 3; do
    expect 0 "" "$simile" pretrain job.yaml run="calm-$seed" seed="$seed" schedule.steps=60
    same "calm-$seed" "sweep-seed$seed"
done
says sweep-3 "start 2, 1 nodes"
if grep -q "start 2" sweep-1.log sweep-2.log; then fail "other tasks were requeued too"; fi

# lines of settings
printf 'optimizer.lr=0.05\noptimizer.lr=0.2 method.temperature=0.5\n' >settings.txt
array=$(sbatch --parsable --array=2-3 "${few[@]}" --output=lines-%a.log "$scripts/sweep.sbatch" job.yaml --lines settings.txt run=lines schedule.steps=20)
failed_one() { [ "$(squeue -h -a -t all -r -j "$array" -o %T | sort | xargs)" = "COMPLETED FAILED" ]; }
await 60 "the end of the lines" failed_one
says lines-3 "line 3"
"$simile" inspect lines-line2 | grep "method.temperature: 0.5" >/dev/null || fail "line 2 was not read"

# what it is worth
id=$(sbatch --parsable --output=evaluate.log --dependency="afterok:$prepared" --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 --mem=200M \
    "$scripts/evaluate.sbatch" sweep-seed1 train.h5 train.h5 knn --k 5)
finish COMPLETED "$id"
"$simile" evaluate knn sweep-seed1 --train train.h5 --test train.h5 --k 5 --json >mine.json
/usr/bin/python3 -c 'import json, sys
a, b = (json.load(open(p)) for p in sys.argv[1:])
assert a["top1"] == b["top1"] and a["step"] == 60, (a, b)' "evaluate-sweep-seed1-$id.json" mine.json
echo ok
