#!/usr/bin/env bash
# simile-test: timeout 600
# One rank is killed or has no data, or all ranks have an invalid command line: no rank hangs, there
# is one message, and the next start ends with the weights of an undisturbed run.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
data_set train 96 16
slow_writes
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.125}
batch: 32
block: 8
schedule: {steps: 50}
augment: {preset: digits}
log: {every_steps: 1}
checkpoint: {every_steps: 3}
YAML
expect 0 "" "$simile" pretrain job.yaml run=reference

# each rank is killed during training: the others end too
cat >rank.sh <<'SH'
echo $$ >"pid-${OMPI_COMM_WORLD_RANK:-$PMI_RANK}"
SLOW_MS=300 LD_PRELOAD=$PWD/slow.so exec "$SIMILE" "$@"
SH
for victim in 0 1 2; do
    rm -f pid-*
    "${mpiexec[@]}" -np 3 bash rank.sh pretrain job.yaml "run=killed$victim" >out.txt 2>&1 &
    job=$!
    wait_until has_checkpoint "killed$victim"
    kill -KILL "$(cat pid-$victim)"
    code=0
    wait_until has_ended $job
    wait $job || code=$?
    [ $code != 0 ] || { cat out.txt; fail "rank $victim was killed, but the job exits with 0"; }
    for r in 0 1 2; do wait_until has_ended "$(cat pid-$r)"; done
    expect 0 "/checkpoints/step-" ranks 2 "$simile" pretrain job.yaml "run=killed$victim"
    same_weights reference "killed$victim"
done

# one rank has no data set, or a different one: all ranks end, with one message
cat >elsewhere.sh <<'SH'
[ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != "$DIFFERING_RANK" ] || cd elsewhere
exec "$SIMILE" "$@"
SH
mkdir elsewhere
cp job.yaml elsewhere/
for rank in 0 1 2; do
    DIFFERING_RANK=$rank expect 66 "" ranks 3 bash elsewhere.sh pretrain job.yaml run=../refused
    expect_lines 1 "train\.h5"
    expect_lines 1 "rank $rank on .*train\.h5"
done
digits elsewhere/train 64 16
"$simile" prepare elsewhere/train-images-idx3-ubyte --out elsewhere/train.h5 2>log.txt
DIFFERING_RANK=2 expect 65 "" ranks 3 bash elsewhere.sh pretrain job.yaml run=../refused
expect_lines 1 "train\.h5"
expect_lines 1 "rank 2 on .*train\.h5: .*\b[0-9a-f]{32}\b.*\b[0-9a-f]{32}\b"
[ ! -e ../refused ] && [ ! -e refused ] || fail "the refused run has a directory"

# more threads than cores
OMP_NUM_THREADS=999 expect 78 "" ranks 2 "$simile" pretrain job.yaml run=oversubscribed
expect_lines 1 "\b999\b"
[ ! -e oversubscribed ] || fail "the refused run has a directory"

# an invalid command line: one message, and every rank exits with 64.  mpirun ends the other ranks
# when the first has ended, so the output of each is checked separately
usage() { # usage TEXT [arguments]
    expect 64 "$1" ranks 3 "$simile" "${@:2}"
    [ "$(grep -cF -- "$1" out.txt)" = 1 ] || { cat out.txt; fail "more than one message: ${*:2}"; }
    for r in 1 2; do
        code=0
        OMPI_COMM_WORLD_RANK=$r OMPI_COMM_WORLD_SIZE=3 "$simile" "${@:2}" >out.txt 2>&1 || code=$?
        [ $code = 64 ] || fail "rank $r: exit $code: ${*:2}"
        [ ! -s out.txt ] || { cat out.txt; fail "rank $r prints a message too: ${*:2}"; }
    done
}
usage "'--bogus'" pretrain job.yaml --bogus
usage "simile pretrain: " pretrain
usage "key=value" pretrain job.yaml nonsense
usage "simile pretrain: --time-limit" pretrain job.yaml --time-limit soon
usage "simile evaluate: " evaluate
usage "Commands:"
usage 'simile pretrian: ' pretrian job.yaml
echo ok
