#!/usr/bin/env bash
# simile-test: timeout 600
# A run directory that is full, read-only or missing: older checkpoints remain valid, and the
# exit code is the documented one.  Once the disk works, the run ends with the weights and
# metrics of an undisturbed run.
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
expect_no_temporary() { ! compgen -G "$1/checkpoints/*.tmp.*" || fail "$1: a temporary file is left"; }
expect_same() { # expect_same RUN: the reference's weights, metrics and log, and no temporary file
    same_run reference "$1"
    expect_no_temporary "$1"
}
# expect_failures FIRST RUN FILE: with checkpoint.max_failures=2, from step FIRST on the first and
# the second failed checkpoint are warnings, and the third ends the run
expect_failures() {
    expect_lines 1 "warning: step $1: .*$2/checkpoints/step-0*$1\.h5.* 1 .*\b2 allowed" "$3"
    expect_lines 1 "warning: step $(($1 + 4)): .*$2/checkpoints/step-0*$(($1 + 4))\.h5.* 2 .*\b2 allowed" "$3"
    expect_lines 0 "warning: step $(($1 + 8)):" "$3"
    expect_lines 1+ "step $(($1 + 8)): 3 .*$2/checkpoints/step-0*$(($1 + 8))\.h5" "$3"
}
slow() { # slow N command...: delays all lines of the metrics but the first N until the file go exists
    rm -f go
    SLOW_MS=1000 SLOW_AFTER=$1 SLOW_UNTIL=$scratch/go LD_PRELOAD=$scratch/slow.so exec "${@:2}"
}
slow_writes
expect 0 "" "$simile" pretrain job.yaml run=reference
file=$(stat -c %s reference/checkpoints/step-000000004.h5)

# moved away during the run: two failed checkpoints are tolerated, the third exits with 73; the
# next start takes over the lock
slow 1 "$simile" pretrain job.yaml run=lost checkpoint.max_failures=2 >log.txt 2>&1 &
pid=$!
wait_until grep -qF '"step":4' lost/metrics.jsonl
mv lost away
touch go
wait_for_exit 73 $pid
first=$(sed -nE '/warning: step [0-9]+:.* 1 in a row/s/.*warning: step ([0-9]+):.*/\1/p' log.txt)
expect_failures "$first" lost log.txt
expect_lines 3+ "lost/checkpoints/step-0.*No such file" log.txt
mv away lost
expect 0 "" "$simile" pretrain job.yaml run=lost
expect_lines 1 "lock .*\b$pid\b"
expect_same lost

# a checkpoint of another run in the run directory is refused
expect 75 "" "$simile" pretrain job.yaml run=mixed --stop-after 8
expect 75 "" "$simile" pretrain job.yaml run=other seed=1 --stop-after 12
cp other/checkpoints/step-000000012.h5 mixed/checkpoints
expect 78 "step-000000012.h5" "$simile" pretrain job.yaml run=mixed
expect_lines 1 "^  seed +1 +0$"
rm mixed/checkpoints/step-000000012.h5
expect 0 "" "$simile" pretrain job.yaml run=mixed
expect_same mixed

if [ "$(id -u)" != 0 ] || ! mkdir disk || ! mount -t tmpfs -o size=$((7 * file / 2 / 4096 + 8))k,nr_inodes=100k none disk 2>log.txt; then
    echo "skipped: full and read-only disks, because mounting is not allowed"
    exit 0
fi
trap 'umount -l "$scratch/disk"; rm -rf "$scratch"' EXIT
resize() { mount -o remount,"$1" disk; }
# full: capacity for three and a half checkpoints
resize size=$((7 * file / 2 + 65536))
expect 74 "No space left on device" ranks 2 "$simile" pretrain job.yaml run=disk/full checkpoint.max_failures=2
expect_failures 12 disk/full out.txt
expect 0 '"step":8,' "$simile" inspect disk/full --json
expect_no_temporary disk/full
expect 74 "No space left on device" "$simile" pretrain job.yaml run=disk/full checkpoint.max_failures=1000
expect_step disk/full 8
resize size=64m
expect 0 "" ranks 2 "$simile" pretrain job.yaml run=disk/full
expect_same disk/full
# space is freed during the run: nothing is lost
resize size=$((7 * file / 2 + 65536 + $(du -sb disk | cut -f1)))
slow 3 "$simile" pretrain job.yaml run=disk/freed checkpoint.max_failures=1000 >log.txt 2>&1 &
pid=$!
wait_until grep -qF "No space left on device" log.txt
resize size=64m
touch go
wait_for_exit 0 $pid
expect_same disk/freed
# read-only from the start; no permission
resize ro
expect 77 "Read-only file system" ranks 2 "$simile" pretrain job.yaml run=disk/full
expect 77 "Read-only file system" "$simile" pretrain job.yaml run=disk/new
expect 0 '"step":120,' "$simile" inspect disk/full --json
chmod 755 "$scratch"
mkdir shut
expect 77 "Permission denied" setpriv --reuid=65534 --clear-groups "$simile" pretrain job.yaml run=shut
expect 77 "Permission denied" setpriv --reuid=65534 --clear-groups "$simile" pretrain job.yaml run=shut/deep
echo ok
