#!/usr/bin/env bash
# simile-test: timeout 400
# Stops of every kind lose nothing: signals, `simile stop`, time limits, SIGKILL at random
# moments; the final bits are those of an undisturbed run.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
data_set train 128 16
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.125}
batch: 32
block: 8
schedule: {steps: 60}
augment: {preset: digits}
log: {every_steps: 4}
checkpoint: {every_steps: 2, keep: 4}
YAML
same() {
    [ "$(weights calm)" = "$(weights "$1")" ] || fail "$1: the weights differ"
    [ "$(steps calm)" = "$(steps "$1")" ] || { steps "$1"; fail "$1: metrics have gaps or doubles"; }
}
expect 0 completed "$simile" pretrain job.yaml run=calm
# waits for the n-th step of a run that goes on in the background
await() { for _ in $(seq 400); do [ -e "$1/checkpoints/latest" ] && [ "$(ls "$1/checkpoints")" != "" ] && grep -qE "step-0*[1-9]" "$1/checkpoints/latest" && return; sleep 0.02; done; fail "$1 does not get on"; }
for signal in USR1 TERM INT; do
    "$simile" pretrain job.yaml run="by-$signal" >log.txt 2>&1 &
    pid=$!
    await "by-$signal"
    kill -"$signal" $pid
    code=0
    wait $pid || code=$?
    # INT is ignored by background jobs of a shell without job control: it runs to its end.
    [ "$code" = 75 ] || { [ "$signal" = INT ] && [ "$code" = 0 ]; } || { cat log.txt; fail "$signal: exit $code"; }
    expect 0 completed "$simile" pretrain job.yaml run="by-$signal"
    same "by-$signal"
done
# under mpirun: USR1 reaches all ranks; `simile stop` needs no process number
mpirun --oversubscribe --bind-to none -np 2 "$simile" pretrain job.yaml run=two >log.txt 2>&1 &
pid=$!
await two
expect 73 "is held by pid" "$simile" pretrain job.yaml run=two
expect 0 "asked" "$simile" stop two
code=0
wait $pid || code=$?
[ "$code" = 75 ] || { cat log.txt; fail "stop: exit $code"; }
grep -q "stopped by simile stop" log.txt || fail "the log does not say who stopped it"
expect 0 completed ranks 3 "$simile" pretrain job.yaml run=two
same two
# a time limit
code=75
for _ in $(seq 60); do
    [ "$code" = 75 ] || break
    code=0
    "$simile" pretrain job.yaml run=timed --time-limit 2 >log.txt 2>&1 || code=$?
done
[ "$code" = 0 ] || { cat log.txt; fail "time limit: exit $code"; }
same timed
# killed at 25 random moments, on changing numbers of ranks
RANDOM=7
for i in $(seq 25); do
    setsid mpirun --oversubscribe --bind-to none -np $((i % 3 + 1)) "$simile" pretrain job.yaml run=killed >log.txt 2>&1 &
    pid=$!
    sleep "0.$((RANDOM % 80 + 10))"
    kill -KILL -- -$pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    while pkill -KILL -f "pretrain job.yaml run=killed"; do sleep 0.05; done
done
expect 0 completed ranks 2 "$simile" pretrain job.yaml run=killed
same killed
# a run that blows up stops by itself, and its last checkpoint is good
expect 70 "not finite" ranks 2 "$simile" pretrain job.yaml run=mad optimizer.lr=1e4 schedule.shape=constant optimizer.weight_decay=10 guard.bad_steps=1
grep -q "samples:" out.txt || fail "the samples are not named"
expect 0 "step" "$simile" inspect mad
echo ok
