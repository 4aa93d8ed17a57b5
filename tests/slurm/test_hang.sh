#!/usr/bin/env bash
# simile-test: timeout 600
# A rank hangs during training or before MPI_Init, or the disk of the run does not respond: the job ends by itself,
# the script requeues it, and the run has the bits of an undisturbed run.
. "$SIMILE_SOURCE/tests/slurm/common.sh"
train reference
cat >stopped.sh <<SH
#!/usr/bin/env bash
[ "\$1 \${SLURM_PROCID:-0} \${SLURM_STEP_ID:-0}" != "pretrain 1 1" ] || kill -STOP \$\$
exec "$simile" "\$@"
SH
chmod +x stopped.sh
SIMILE_START_SECONDS=10 SIMILE=$scratch/stopped.sh submit start --nodes=2 --ntasks-per-node=1 --
start=$id
cc -O1 -shared -fPIC -o frozen.so "$SIMILE_SOURCE/tests/lib/frozen.c" -ldl
cat >disk.sh <<SH
#!/usr/bin/env bash
[ "\$1 \${SLURM_RESTART_COUNT:-0}" != "pretrain 0" ] || export LD_PRELOAD=$scratch/slow.so:$scratch/frozen.so
exec "$simile" "\$@"
SH
chmod +x disk.sh
SLOW_MS=1000 FROZEN=$scratch/frozen FROZEN_BELOW=$scratch/disk SIMILE=$scratch/disk.sh \
    submit disk --nodes=1 --ntasks-per-node=2 -- guard.hang_seconds=5
disk=$id
wait_until reached disk 10
touch frozen
expect_state COMPLETED "$disk"
log_has disk "disk/heartbeat has not responded"
log_has disk "hung after step"
same_run reference disk
SLOW_MS=1000 submit hangs --nodes=2 --ntasks-per-node=1 -- guard.hang_seconds=5
wait_until reached hangs 10
kill -STOP "$(pids_of hangs | head -1)"
expect_state COMPLETED "$id"
log_has hangs "guard.hang_seconds"
log_has hangs "start 2, 2 nodes"
same_run reference hangs
expect_state COMPLETED "$start"
log_has start "node1"
log_has start "MPI_Init"
same_run reference start
echo ok
