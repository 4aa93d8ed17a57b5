#!/usr/bin/env bash
# simile-test: timeout 600
# File systems without locks: everything is read and written as elsewhere, two jobs never share a run
# directory or an output, and a stale lock is taken over by one start only.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
# Every flock and every lock by fcntl fails with the error LOCK_ERRNO.
cat >nolock.c <<'C'
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static int refuse(void) { errno = atoi(getenv("LOCK_ERRNO")); return -1; }
int flock(int fd, int operation) { (void)fd; (void)operation; return refuse(); }
int lockf(int fd, int command, off_t n) { (void)fd; (void)command; (void)n; return refuse(); }
int fcntl(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    long value = va_arg(args, long);
    va_end(args);
    switch (command) {
    case F_GETLK: case F_SETLK: case F_SETLKW: case F_OFD_GETLK: case F_OFD_SETLK: case F_OFD_SETLKW:
        return refuse();
    }
    return (int)syscall(SYS_fcntl, fd, command, value);
}
int fcntl64(int fd, int command, ...) __attribute__((alias("fcntl")));
C
cc -O1 -shared -fPIC -o nolock.so nolock.c
without_locks() { # without_locks ERRNO command...
    LOCK_ERRNO=$1 LD_PRELOAD=$scratch/nolock.so "${@:2}"
}
data_set train 64 8
/usr/bin/python3 -c "
import h5py, numpy as np
with h5py.File('raw.h5', 'w') as f:
    f['images'] = np.random.RandomState(1).randint(0, 256, (64, 8, 8, 1)).astype('u1'); f['labels'] = np.arange(64) % 4"
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 16
block: 8
schedule: {steps: 4}
augment: {preset: digits}
checkpoint: {every_steps: 2}
YAML
expect 0 "" "$simile" pretrain job.yaml run=reference
expect 0 "" "$simile" prepare raw.h5 --out reference.h5
# ENOLCK, EOPNOTSUPP, ENOSYS, EINVAL, EIO: every command, and a resumed run
for error in 37 95 38 22 5; do
    expect 75 "" without_locks $error "$simile" pretrain job.yaml run="run$error" --stop-after 2
    expect 0 "resumed" without_locks $error "$simile" pretrain job.yaml run="run$error"
    same_run reference "run$error"
done
expect 0 "" ranks 2 env LOCK_ERRNO=37 LD_PRELOAD="$scratch/nolock.so" "$simile" pretrain job.yaml run=two
same_run reference two
expect 0 "64 images" without_locks 37 "$simile" prepare raw.h5 --out raw-37.h5
cmp reference.h5 raw-37.h5
expect 0 "64 images" ranks 2 env LOCK_ERRNO=37 LD_PRELOAD="$scratch/nolock.so" "$simile" prepare raw.h5 --out raw-two.h5
cmp reference.h5 raw-two.h5
! compgen -G '*.lock*' || fail "a lock file is left"
expect 0 "features" without_locks 37 "$simile" embed reference --data train.h5 --out e.h5
expect 0 "" without_locks 37 "$simile" evaluate knn reference --train train.h5 --test train.h5 --k 5
expect 0 "" without_locks 37 "$simile" inspect train.h5
expect 0 "" without_locks 37 "$simile" inspect reference
expect 0 "" without_locks 37 "$simile" plan job.yaml run=reference

# a file that another program is writing is refused as such, not as bad data
cat >locked.py <<'PY'
import fcntl, subprocess, sys
with open("train.h5", "r+b") as f:
    fcntl.flock(f, fcntl.LOCK_EX)
    sys.exit(subprocess.call(sys.argv[1:]))
PY
expect 74 "train.h5" /usr/bin/python3 locked.py "$simile" inspect train.h5
expect 74 "train.h5" /usr/bin/python3 locked.py "$simile" pretrain job.yaml run=locked
expect_lines 1 "train\.h5.*HDF5_USE_FILE_LOCKING"

# two jobs on one run directory, without locks: the second is refused, with the holder's pid
slow_writes
SLOW_MS=300 LOCK_ERRNO=37 LD_PRELOAD="$scratch/slow.so:$scratch/nolock.so" "$simile" pretrain job.yaml run=shared schedule.steps=200 >log.txt 2>&1 &
pid=$!
wait_until grep -qsF '"step":2' shared/metrics.jsonl
expect_match 73 "shared/run\.lock.*\bpid $pid\b" without_locks 37 "$simile" pretrain job.yaml run=shared schedule.steps=200
kill -9 $pid
wait $pid || true
# killed: a takeover that another start holds, or left, is refused with the file to delete
printf 'host elsewhere\npid 1\n' >shared/run.lock.takeover
expect_match 73 "shared/run\.lock\.takeover" without_locks 37 "$simile" pretrain job.yaml run=shared schedule.steps=200
rm shared/run.lock.takeover
expect_match 75 "lock .*\b$pid\b" without_locks 37 "$simile" pretrain job.yaml run=shared schedule.steps=200 --stop-after 8
[ ! -e shared/run.lock ] && [ ! -e shared/run.lock.takeover ] || fail "a lock file is left in the run"

# the same for two conversions to one output
SLOW_MS=4000 SLOW_PATH='*big.h5*' LOCK_ERRNO=37 LD_PRELOAD="$scratch/slow.so:$scratch/nolock.so" "$simile" prepare raw.h5 --out big.h5 >log.txt 2>&1 &
pid=$!
wait_until test -e big.h5.lock
expect_match 73 "big\.h5\.lock.*\bpid $pid\b" without_locks 37 "$simile" prepare raw.h5 --out big.h5
kill -9 $pid
wait $pid || true
expect 0 "64 images" without_locks 37 "$simile" prepare raw.h5 --out big.h5
cmp reference.h5 big.h5
! compgen -G 'big.h5.*' || fail "a temporary file is left"
# a lock of another host is never taken over without Slurm's word
printf 'host elsewhere\npid 1\nstart 1\nspace -\njob -\nrestart 0\nsince -\n' >far.h5.lock
expect_match 73 "far\.h5\.lock.*pid 1 on elsewhere" without_locks 37 "$simile" prepare raw.h5 --out far.h5
echo "ok"
