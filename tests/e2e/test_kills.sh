#!/usr/bin/env bash
# simile-test: timeout 3000 labels long
# 200 kills at random instants of a run that saves after every step, on changing numbers of
# ranks: each time the newest good checkpoint is at most one step behind the last that was
# told to be written, and at the end the weights and metrics are those of a calm run.
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
told() { sed -E 's/[^0-9]*0*([0-9]+).*/\1/' killed/checkpoints/latest; }
lost=0 refused=0 in_save=0
RANDOM=${SIMILE_SEED:-11}
expect 75 "" "$simile" pretrain job.yaml run=killed --stop-after 1
for i in $(seq "$kills"); do
    before=$(newest) hint=$(told)
    launch=()
    [ $((i % 3)) = 0 ] || launch=(mpirun --oversubscribe --bind-to none -np $((i % 3 + 1)))
    setsid "${launch[@]}" "$simile" pretrain job.yaml run=killed >log.txt 2>&1 &
    pid=$!
    # past the start-up: until this life has told of a checkpoint, then a random while
    for _ in $(seq 2000); do
        [ "$(told)" = "$hint" ] && kill -0 $pid 2>/dev/null || break
        sleep 0.01
    done
    sleep "0.$(printf %03d $((RANDOM % 250)))"
    # the ranks first: once mpirun is gone they end by themselves, and never within a save
    for p in $(ours) "-$pid"; do kill -KILL -- "$p" 2>/dev/null || true; done
    wait $pid 2>/dev/null || true
    while [ -n "$(ours)" ]; do sleep 0.02; done
    compgen -G "killed/checkpoints/*.tmp.*" >ls.txt && in_save=$((in_save + 1))
    now=$(newest) || fail "kill $i: no good checkpoint"
    hint=$(told)
    [ "$now" -ge "$hint" ] && [ "$now" -le $((hint + 1)) ] || fail "kill $i: step $now, but $hint was told"
    [ "$now" -ge "$before" ] || { lost=$((lost + 1)); echo "kill $i: step $now after $before"; }
    refused=$((refused + $(grep -c "step-0" refused.txt || true)))
done
last=$(($(newest) + 2))
expect 75 "" ranks 2 "$simile" pretrain job.yaml run=killed --stop-after $last
expect 75 "" "$simile" pretrain job.yaml run=calm checkpoint.every_steps=0 --stop-after $last
[ "$(weights calm)" = "$(weights killed)" ] || fail "the weights differ"
[ "$(steps calm)" = "$(steps killed)" ] || fail "metrics have gaps or doubles"
# lives that end before they save anything are no trial
[ "$last" -ge "$kills" ] || fail "only $last steps in $kills lives"
echo "kills $kills, of them in the middle of a file $in_save; steps $last; checkpoints refused $refused; silent losses $lost"
[ "$lost" = 0 ]
