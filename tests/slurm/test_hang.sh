#!/usr/bin/env bash
# simile-test: timeout 240
# A rank that stands still: the watchdog ends the job, the script has it requeued, and the run
# ends with the bits of an undisturbed one.
. "$SIMILE_SOURCE/tests/slurm/common.sh"
calm calm
SLOW_MS=100 submit hangs --nodes=2 --ntasks-per-node=1 -- guard.hang_seconds=5
await 30 "step 10 of hangs" reached hangs 10
kill -STOP "$(pgrep -f "^$simile pretrain .*run=hangs( |\$)" | head -1)"
finish COMPLETED "$id" 120
says hangs "hung after step"
says hangs "start 2, 2 nodes"
same calm hangs
