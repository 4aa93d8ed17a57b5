#!/usr/bin/env bash
# simile-test: timeout 240
# A rank that stands still, in mid-run or before MPI has started: the job ends by itself, the
# script starts it again, and the run ends with the bits of an undisturbed one.
. "$SIMILE_SOURCE/tests/slurm/common.sh"
calm calm
cat >standing.sh <<SH
#!/usr/bin/env bash
[ "\$1 \${SLURM_PROCID:-0} \${SLURM_STEP_ID:-0}" != "pretrain 1 1" ] || kill -STOP \$\$
exec "$simile" "\$@"
SH
chmod +x standing.sh
SIMILE_START_SECONDS=4 SIMILE=$scratch/standing.sh submit start --nodes=2 --ntasks-per-node=1 --
start=$id
SLOW_MS=100 submit hangs --nodes=2 --ntasks-per-node=1 -- guard.hang_seconds=5
await 30 "step 10 of hangs" reached hangs 10
kill -STOP "$(pgrep -f "^$simile pretrain .*run=hangs( |\$)" | head -1)"
finish COMPLETED "$id" 120
says hangs "guard.hang_seconds"
says hangs "start 2, 2 nodes"
same calm hangs
finish COMPLETED "$start"
says start "node1"
says start "MPI_Init"
same calm start
echo ok
