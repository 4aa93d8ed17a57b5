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
logged() { sed -nE 's/^[^ ]+Z step ([0-9]+)\/.*/\1/p' "$1/log.txt"; }
same() {
    [ "$(weights calm)" = "$(weights "$1")" ] || fail "$1: the weights differ"
    [ "$(steps calm)" = "$(steps "$1")" ] || { steps "$1"; fail "$1: metrics have gaps or doubles"; }
    [ "$(logged calm)" = "$(logged "$1")" ] || { logged "$1"; fail "$1: the log has gaps or doubles"; }
}
# names RUN FILE: the message of a stop names a checkpoint, which is of the step that it tells
names() {
    local told
    told=$(grep -oE "$1/checkpoints/step-[0-9]{9}\.h5" "$2" | tail -1)
    [ -n "$told" ] || { cat "$2"; fail "$1: the message of the stop names no checkpoint"; }
    at "$1" "$((10#$(sed -E 's/.*step-([0-9]+)\.h5/\1/' <<<"$told")))"
}
expect 0 "" "$simile" pretrain job.yaml run=calm
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
    [ "$code" = 0 ] || names "by-$signal" log.txt
    expect 0 "" "$simile" pretrain job.yaml run="by-$signal"
    same "by-$signal"
done
# USR1 while MPI starts, as soon as it is not the default: a checkpoint of the start, 75
"$simile" pretrain job.yaml run=early >log.txt 2>&1 &
pid=$!
hears() { # the program, no more the shell that starts it, has a handler for USR1
    [ "$(cat "/proc/$1/comm")" = "$(basename "$simile")" ] &&
        [ $((0x$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$1/status") & 0x200)) != 0 ]
}
for _ in $(seq 2000); do
    if hears $pid; then break; fi
    sleep 0.001
done
kill -USR1 $pid
code=0
wait $pid || code=$?
[ "$code" = 75 ] || { cat log.txt; fail "USR1 at once: exit $code"; }
grep -q "USR1.* 0 of 60" log.txt || { cat log.txt; fail "USR1 at once was not heard"; }
expect 0 "" "$simile" pretrain job.yaml run=early
same early
# under mpirun: USR1 reaches all ranks; `simile stop` needs no process number
mpirun --oversubscribe --bind-to none -np 2 "$simile" pretrain job.yaml run=two >log.txt 2>&1 &
pid=$!
await two
expect 73 "two" "$simile" pretrain job.yaml run=two
expect 0 "" "$simile" stop two
code=0
wait $pid || code=$?
[ "$code" = 75 ] || { cat log.txt; fail "stop: exit $code"; }
grep -q "\"ended\": *\"simile stop\"" two/results/pretrain.json || fail "the log does not say who stopped it"
names two log.txt
expect 0 "" ranks 3 "$simile" pretrain job.yaml run=two
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
# ... is kept even where a save takes seconds, and none was made since the start
cc -O1 -shared -fPIC -o slow.so "$SIMILE_SOURCE/tests/slurm/slow.c" -ldl
export SLOW_MS=1000 SLOW_PATH=/checkpoints/step-
late() { LD_PRELOAD=$scratch/slow.so "$simile" pretrain job.yaml run=late checkpoint.every_steps=0 schedule.steps=1000000 "$@"; }
expect 75 "--stop-after" late --stop-after 1
expect 75 "time limit" late --time-limit 8
unset SLOW_MS SLOW_PATH
/usr/bin/python3 -c 'import json
took = json.load(open("late/results/pretrain.json"))
assert took["time_s"]["checkpoints"]["rank_0"] > 1.9, "a save should be slow"
assert took["elapsed_s"] <= 8, took["elapsed_s"]'
# killed at 25 random moments, on changing numbers of ranks
RANDOM=7
for i in $(seq 25); do
    setsid mpirun --oversubscribe --bind-to none -np $((i % 3 + 1)) "$simile" pretrain job.yaml run=killed >log.txt 2>&1 &
    pid=$!
    sleep "0.$((RANDOM % 80 + 10))"
    kill -KILL -- -$pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    for p in $(ours); do kill -KILL "$p" 2>/dev/null || true; done
    while [ -n "$(ours)" ]; do sleep 0.05; done
done
expect 0 "" ranks 2 "$simile" pretrain job.yaml run=killed
same killed
# a run that blows up stops by itself, and its last checkpoint is good
expect 70 "samples" ranks 2 "$simile" pretrain job.yaml run=mad optimizer.lr=1e4 schedule.shape=constant optimizer.weight_decay=10 guard.bad_steps=1
grep -qE "samples.*[0-9]" out.txt || fail "the samples are not named"
expect 0 "step" "$simile" inspect mad
echo ok
