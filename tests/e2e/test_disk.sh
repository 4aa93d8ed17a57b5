#!/usr/bin/env bash
# simile-test: timeout 300
# A run directory that is full, read only or gone: older checkpoints stand, the message says
# what to do, the code is the documented one, and once the disk is well again the run ends
# with the weights and metrics of an undisturbed one.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
data_set train 64 8
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.0625}
batch: 16
block: 8
schedule: {steps: 120}
augment: {preset: digits}
log: {every_steps: 4}
checkpoint: {every_steps: 4, keep: 1000}
YAML
same() {
    [ "$(weights calm)" = "$(weights "$1")" ] || fail "$1: the weights differ"
    [ "$(steps calm)" = "$(steps "$1")" ] || { steps "$1"; fail "$1: metrics have gaps or doubles"; }
    ! compgen -G "$1/checkpoints/*.tmp.*" || fail "$1: a temporary is left"
}
await() { # await TEXT FILE
    for _ in $(seq 1000); do grep -qF "$1" "$2" 2>/dev/null && return; sleep 0.01; done
    fail "no \"$1\" in $2"
}
expect 0 completed "$simile" pretrain job.yaml run=calm
file=$(stat -c %s calm/checkpoints/step-000000004.h5)

# gone in mid-run: a few failed checkpoints are let pass, then 73; the next start takes over
"$simile" pretrain job.yaml run=lost checkpoint.max_failures=2 >log.txt 2>&1 &
pid=$!
await '"step":4' lost/metrics.jsonl
mv lost away
code=0
wait $pid || code=$?
[ "$code" = 73 ] || { cat log.txt; fail "gone: exit $code"; }
[ "$(grep -c "training continues" log.txt)" = 2 ] || { cat log.txt; fail "gone: two failures were to pass"; }
grep -q ": 3 consecutive checkpoints failed" log.txt || { cat log.txt; fail "gone: no reason"; }
mv away lost
expect 0 completed "$simile" pretrain job.yaml run=lost
grep -q "taking over the lock" out.txt || fail "the dead run's lock was not told"
same lost

# a checkpoint of another run copied in: never a silent load
expect 75 "stopped by --stop-after" "$simile" pretrain job.yaml run=mixed --stop-after 8
expect 75 "stopped by --stop-after" "$simile" pretrain job.yaml run=other seed=1 --stop-after 12
cp other/checkpoints/step-000000012.h5 mixed/checkpoints
expect 78 "is of another run" "$simile" pretrain job.yaml run=mixed
rm mixed/checkpoints/step-000000012.h5
expect 0 completed "$simile" pretrain job.yaml run=mixed
same mixed

if [ "$(id -u)" != 0 ] || ! mkdir disk || ! mount -t tmpfs -o size=$((7 * file / 2 / 4096 + 8))k,nr_inodes=100k none disk 2>log.txt; then
    echo "ok (no mounting here: a full disk was not tried)"
    exit 0
fi
trap 'umount -l "$scratch/disk"; rm -rf "$scratch"' EXIT
size() { mount -o remount,"$1" disk; }
# full: room for three checkpoints and a half; quota and full disk are one to the program
size size=$((7 * file / 2 + 65536))
expect 74 "No space left on device" ranks 2 "$simile" pretrain job.yaml run=disk/full checkpoint.max_failures=2
grep -q ": 3 consecutive checkpoints failed" out.txt || { cat out.txt; fail "full: no reason"; }
expect 0 '"step":8,' "$simile" inspect disk/full --json
! compgen -G "disk/full/checkpoints/*.tmp.*" || fail "full: a temporary is left"
expect 74 "No space left on device" "$simile" pretrain job.yaml run=disk/full checkpoint.max_failures=1000
grep -q "the last checkpoint failed" out.txt || { cat out.txt; fail "full: no word of the last"; }
size size=64m
expect 0 completed ranks 2 "$simile" pretrain job.yaml run=disk/full
same disk/full
# room again in mid-run: nothing was lost
size size=$((7 * file / 2 + 65536 + $(du -sb disk | cut -f1)))
"$simile" pretrain job.yaml run=disk/again checkpoint.max_failures=1000 schedule.steps=120 >log.txt 2>&1 &
pid=$!
await "training continues" log.txt
size size=64m
code=0
wait $pid || code=$?
[ "$code" = 0 ] || { cat log.txt; fail "room again: exit $code"; }
same disk/again
# read only from the start, and nobody's permission
size ro
expect 77 "Read-only file system" ranks 2 "$simile" pretrain job.yaml run=disk/full
expect 77 "Read-only file system" "$simile" pretrain job.yaml run=disk/new
expect 0 '"step":120,' "$simile" inspect disk/full --json
chmod 755 "$scratch"
mkdir shut
expect 77 "Permission denied" setpriv --reuid=65534 --clear-groups "$simile" pretrain job.yaml run=shut
expect 77 "Permission denied" setpriv --reuid=65534 --clear-groups "$simile" pretrain job.yaml run=shut/deep
echo ok
