#!/usr/bin/env bash
# simile-test: timeout 600
# A rank hangs during training or before MPI_Init: the job ends by itself, the script requeues it,
# and the run has the bits of an undisturbed run.
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
