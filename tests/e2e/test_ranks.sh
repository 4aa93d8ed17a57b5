#!/usr/bin/env bash
# simile-test: timeout 120
# One rank alone: killed, without its data, or one of many that see a wrong command line.
# Nobody hangs, one message tells, and the next start goes on to the same bits.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
data_set train 96 16
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.125}
batch: 32
block: 8
schedule: {steps: 50}
augment: {preset: digits}
checkpoint: {every_steps: 3}
YAML
count() { grep -cF -- "$1" out.txt || true; }
# is there such a process, and is it more than a dead one that nobody has reaped?
runs() { grep -qsv "^State:.Z" <(grep -s "^State:" "/proc/$1/status"); }
expect 0 "" "$simile" pretrain job.yaml run=calm

# each rank in turn is killed in mid-training: the others end within seconds
for victim in 0 1 2; do
    cat >noting.sh <<'SH'
echo $$ >"pid-$OMPI_COMM_WORLD_RANK"
exec "$SIMILE" "$@"
SH
    rm -f pid-*
    mpirun --oversubscribe --bind-to none -np 3 bash noting.sh pretrain job.yaml "run=killed$victim" >out.txt 2>&1 &
    job=$!
    for _ in $(seq 400); do
        grep -qsE "step-0*[1-9]" "killed$victim/checkpoints/latest" && break
        sleep 0.02
    done
    kill -KILL "$(cat pid-$victim)"
    killed=$SECONDS code=0
    wait $job || code=$?
    [ $code != 0 ] || { cat out.txt; fail "rank $victim was killed, but the job says 0"; }
    [ $((SECONDS - killed)) -le 8 ] || fail "the others took $((SECONDS - killed)) s to end"
    for r in 0 1 2; do
        for _ in $(seq 100); do
            runs "$(cat pid-$r)" || break
            sleep 0.05
        done
        if runs "$(cat pid-$r)"; then fail "rank $r still runs"; fi
    done
    expect 0 "/checkpoints/step-" ranks 2 "$simile" pretrain job.yaml "run=killed$victim"
    [ "$(weights calm)" = "$(weights "killed$victim")" ] || fail "killing rank $victim changed the weights"
done

# one rank finds no data set, or another one: all leave with one message
cat >apart.sh <<'SH'
[ "$OMPI_COMM_WORLD_RANK" != "$ODD" ] || cd elsewhere
exec "$SIMILE" "$@"
SH
mkdir elsewhere
cp job.yaml elsewhere/
for odd in 0 1 2; do
    began=$SECONDS
    ODD=$odd expect 66 "rank $odd on" ranks 3 bash apart.sh pretrain job.yaml run=../lone
    [ $((SECONDS - began)) -le 10 ] || fail "leaving took $((SECONDS - began)) s"
    [ "$(count "train.h5")" = 1 ] || { cat out.txt; fail "the message came $(count "train.h5") times"; }
done
digits elsewhere/train 64 16
"$simile" prepare elsewhere/train-images-idx3-ubyte --out elsewhere/train.h5 2>log.txt
ODD=2 expect 65 "train.h5" ranks 3 bash apart.sh pretrain job.yaml run=../lone
[ "$(grep -c "train.h5" out.txt)" = 1 ] || { cat out.txt; fail "the message came more than once"; }
[ ! -e ../lone ] && [ ! -e lone ] || fail "a run directory without a run"

# a wrong command line is told once, and every rank leaves with 64 (mpirun ends the others
# as soon as the first is gone, so what each would say is asked one by one)
usage() { # usage TEXT words...
    expect 64 "$1" ranks 3 "$simile" "${@:2}"
    [ "$(count "$1")" = 1 ] || { cat out.txt; fail "told $(count "$1") times: ${*:2}"; }
    for r in 1 2; do
        code=0
        OMPI_COMM_WORLD_RANK=$r OMPI_COMM_WORLD_SIZE=3 "$simile" "${@:2}" >out.txt 2>&1 || code=$?
        [ $code = 64 ] || fail "rank $r leaves with $code: ${*:2}"
        [ ! -s out.txt ] || { cat out.txt; fail "rank $r speaks too: ${*:2}"; }
    done
}
# more threads than the rank may run on
OMP_NUM_THREADS=999 expect 78 "999" ranks 2 "$simile" pretrain job.yaml run=crowd
[ "$(count "999")" = 1 ] && [ ! -e crowd ] || { cat out.txt; fail "a crowd of threads"; }
usage "'--bogus'" pretrain job.yaml --bogus
usage "simile pretrain: " pretrain
usage "key=value" pretrain job.yaml nonsense
usage "simile pretrain: --time-limit" pretrain job.yaml --time-limit soon
usage "simile evaluate: " evaluate
usage "Commands:"
usage '"pretrian"' pretrian job.yaml
echo ok
