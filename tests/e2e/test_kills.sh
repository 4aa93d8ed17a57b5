#!/usr/bin/env bash
# simile-test: timeout 3000 labels long
# 200 kills at random times of a run that saves after every step, on changing numbers of ranks.
# After each kill, the newest valid checkpoint is the last that was reported or the next one; at
# the end, weights and metrics are those of an undisturbed run.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
kills=${SIMILE_KILLS:-200}
data_set train 64 8
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.0625}
batch: 24
block: 8
schedule: {steps: 1000000}
augment: {preset: digits}
log: {every_steps: 1}
checkpoint: {every_steps: 1, keep: 3}
YAML
newest() { "$simile" inspect killed --json 2>refused.txt | grep -o '"step":[0-9]*' | sed -n 1p | cut -d: -f2; }
reported() { sed -E 's/[^0-9]*0*([0-9]+).*/\1/' killed/checkpoints/latest; }
lost=0 refused=0 in_save=0
RANDOM=${SIMILE_SEED:-11}
expect 75 "" "$simile" pretrain job.yaml run=killed --stop-after 1
for i in $(seq "$kills"); do
    before=$(newest) hint=$(reported)
    launch=()
    [ $((i % 3)) = 0 ] || launch=("${mpiexec[@]}" -np $((i % 3 + 1)))
    setsid "${launch[@]}" "$simile" pretrain job.yaml run=killed >log.txt 2>&1 &
    pid=$!
    # wait for the first checkpoint of this start, then for a random time
    for _ in $(seq 2000); do
        [ "$(reported)" = "$hint" ] && kill -0 $pid 2>/dev/null || break
        sleep 0.01
    done
    sleep "0.$(printf %03d $((RANDOM % 250)))"
    # kill the ranks before mpirun: without it they would end themselves, but not during a save
    for p in $(rank_pids) "-$pid"; do kill -KILL -- "$p" 2>/dev/null || true; done
    wait $pid 2>/dev/null || true
    while [ -n "$(rank_pids)" ]; do sleep 0.02; done
    compgen -G "killed/checkpoints/*.tmp.*" >ls.txt && in_save=$((in_save + 1))
    now=$(newest) || fail "kill $i: no valid checkpoint"
    hint=$(reported)
    [ "$now" -ge "$hint" ] && [ "$now" -le $((hint + 1)) ] || fail "kill $i: the checkpoint is of step $now, but $hint was reported"
    [ "$now" -ge "$before" ] || { lost=$((lost + 1)); echo "kill $i: step $now after $before"; }
    refused=$((refused + $(grep -c "step-0" refused.txt || true)))
done
last=$(($(newest) + 2))
expect 75 "" ranks 2 "$simile" pretrain job.yaml run=killed --stop-after $last
expect 75 "" "$simile" pretrain job.yaml run=reference checkpoint.every_steps=0 --stop-after $last
same_weights reference killed
[ "$(metric_steps reference)" = "$(metric_steps killed)" ] || fail "metrics.jsonl has gaps or duplicates"
# a start that is killed before its first save tests nothing
[ "$last" -ge "$kills" ] || fail "only $last steps in $kills starts"
echo "kills: $kills, during a write: $in_save; steps: $last; checkpoints refused: $refused; checkpoints lost: $lost"
[ "$lost" = 0 ]
