#!/usr/bin/env bash
# simile-test: timeout 600
# A wrong launch is refused with the command to use, a crash in MPI_Init is retried once, a job that
# makes no progress is not requeued forever, and mpirun forwards signals to the ranks.
cores=$(env -u OMP_NUM_THREADS nproc)
export LAB_CPUS=$((2 * cores)) # the nodes claim twice as many cores as the host has
. "$SIMILE_SOURCE/tests/slurm/common.sh"
export SIMILE_SLURM=$scripts
pair=(--nodes=2 --ntasks-per-node=1)
train reference

# processes that are separate MPI worlds of size 1
expect 64 "" timeout 60 srun --mpi=none --input=none -n 2 "$simile" pretrain job.yaml run=single
expect_lines 1 "srun --mpi=pmix -n 2"
[ ! -e single ] || fail "the refused run has a directory"

# a crash before the run is locked is retried once and reported; a second crash ends the job
cat >crash.sh <<SH
#!/usr/bin/env bash
if [ "\$1" = pretrain ] && [ "\$SLURM_STEP_ID" -le "\$LAST_CRASH" ]; then
    echo "crash in step \$SLURM_STEP_ID"
    kill -SEGV \$\$
fi
exec "$simile" "\$@"
SH
chmod +x crash.sh # step 0 checks the binding
export LAST_CRASH=1
SIMILE=$scratch/crash.sh submit once "${pair[@]}" --
expect_state COMPLETED "$id"
log_has once "crash in step 1"
expect_lines 1 "\bexit 1[0-9]+ in MPI_Init" once.log
same_run reference once
LAST_CRASH=9 SIMILE=$scratch/crash.sh submit twice "${pair[@]}" --
expect_state FAILED "$id"
log_has twice "crash in step 2"
expect_lines 1 "\bexit 1[0-9]+ .*slurm/README\.md" twice.log
expect_lines 0 "crash in step 3" twice.log

# a program that always exits with 75: two starts without a step, then 70. One rank: of two that do
# not end together, srun may kill the second, and the job step ends with 143.
cat >idle.sh <<SH
#!/usr/bin/env bash
[ "\$1" != pretrain ] || exit 75
exec "$simile" "\$@"
SH
chmod +x idle.sh
SIMILE=$scratch/idle.sh submit idle --nodes=1 --ntasks=1 --
idle=$id

# the limit of requeues
SIMILE_BIND=cores SIMILE_MAX_REQUEUES=0 SLOW_MS=1000 submit capped "${pair[@]}" --
wait_until reached capped 10
scancel -s USR1 "$id"
expect_state FAILED "$id"
expect_exit 75 "$id"
log_has capped "requeued 0 times"

# more threads than cores, a directory that cannot be created, an invalid job
SIMILE_BIND=cores submit oversubscribed --nodes=1 --ntasks=2 --cpus-per-task="$cores" --
expect_state FAILED "$id"
expect_exit 78 "$id"
log_has oversubscribed "$LAB_CPUS threads on $cores cores"
SIMILE_STAGE=1 SIMILE_SCRATCH=/proc/none submit unstaged "${pair[@]}" --
expect_state FAILED "$id"
expect_exit 74 "$id"
log_has unstaged "/proc/none/simile-"
submit wrong "${pair[@]}" -- batch=0
expect_state FAILED "$id"
expect_exit 78 "$id"
expect_lines 1+ "^simile: .*\bbatch: 0 " wrong.log

# mpirun: Slurm signals the script, which forwards the signal
export script=$scripts/pretrain-mpirun.sbatch
SIMILE_BIND=cores SLOW_MS=1000 submit mpirun "${pair[@]}" --
wait_until reached mpirun 10
scancel -b -s USR1 "$id"
expect_state COMPLETED "$id"
log_has mpirun "USR1"
log_has mpirun "start 2, 2 nodes"
expect_lines 1+ "^binding   node2, rank:cores 1:[0-9]+$" mpirun.log
same_run reference mpirun

wait_until grep -q "two starts" idle.log # a job that is being requeued may be FAILED for a moment
expect_state FAILED "$idle"
expect_exit 70 "$idle"
log_has idle "step -1"
expect_lines 2 "requeued" idle.log
echo ok
