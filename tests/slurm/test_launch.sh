#!/usr/bin/env bash
# simile-test: timeout 240
# Wrong launches are refused with the command to type, a crash in MPI_Init is tried once more,
# a job that gets nowhere is not requeued for ever, and under mpirun the signal arrives too.
cores=$(env -u OMP_NUM_THREADS nproc)
export LAB_CPUS=$((2 * cores)) # nodes claim twice what there is
. "$SIMILE_SOURCE/tests/slurm/common.sh"
export SIMILE_SLURM=$scripts
pair=(--nodes=2 --ntasks-per-node=1)
calm calm

# N processes that each believe to be alone
expect 64 "srun --mpi=pmix -n 2" timeout 60 srun --mpi=none --input=none -n 2 "$simile" pretrain job.yaml run=single
[ "$(grep -c "srun --mpi=pmix -n 2" out.txt)" = 1 ] || { cat out.txt; fail "told more than once"; }
[ ! -e single ] || fail "singletons began a run"

# a crash before the first line of simile: once more, and told; a second one ends the job
cat >crash.sh <<SH
#!/usr/bin/env bash
if [ "\$1" = pretrain ] && [ "\$SLURM_STEP_ID" -le "\$LAST_CRASH" ]; then
    echo "crash in step \$SLURM_STEP_ID"
    kill -SEGV \$\$
fi
exec "$simile" "\$@"
SH
chmod +x crash.sh # step 0 looks at the cores
export LAST_CRASH=1
SIMILE=$scratch/crash.sh submit once "${pair[@]}" --
finish COMPLETED "$id"
says once "crash in step 1"
says once "MPI_Init"
same calm once
LAST_CRASH=9 SIMILE=$scratch/crash.sh submit twice "${pair[@]}" --
finish FAILED "$id"
says twice "crash in step 2"
says twice "what to do: slurm/README.md"
if grep -q "crash in step 3" twice.log; then fail "a crash was tried more than once again"; fi

# a program that always asks for another start: two without a step, then 70
cat >idle.sh <<SH
#!/usr/bin/env bash
[ "\$1" != pretrain ] || exit 75
exec "$simile" "\$@"
SH
chmod +x idle.sh
SIMILE=$scratch/idle.sh submit idle "${pair[@]}" --
idle=$id

# the cap on requeues
SIMILE_BIND=cores SIMILE_MAX_REQUEUES=0 SLOW_MS=100 submit capped "${pair[@]}" --
await 30 "step 10 of capped" reached capped 10
scancel -s USR1 "$id"
finish FAILED "$id"
exited 75 "$id"
says capped "requeued 0 times"

# more threads than cores, no room to stage, a wrong job
SIMILE_BIND=cores submit crowd --nodes=1 --ntasks=2 --cpus-per-task="$cores" --
finish FAILED "$id"
exited 78 "$id"
says crowd "$LAB_CPUS threads on $cores cores"
SIMILE_STAGE=1 SIMILE_SCRATCH=/proc/none submit unstaged "${pair[@]}" --
finish FAILED "$id"
exited 74 "$id"
says unstaged "/proc/none/simile-"
submit wrong "${pair[@]}" -- batch=0
finish FAILED "$id"
exited 78 "$id"
says wrong "batch"

# mpirun: Slurm signals the script, which hands on; a lost rank is told by the exit code
export script=$scripts/pretrain-mpirun.sbatch
SIMILE_BIND=cores SLOW_MS=100 submit mpirun "${pair[@]}" --
await 30 "step 10 of mpirun" reached mpirun 10
scancel -b -s USR1 "$id"
finish COMPLETED "$id"
says mpirun "USR1"
says mpirun "start 2, 2 nodes"
grep -qE "^binding   node2, rank:cores 1:[0-9]+$" mpirun.log || fail "mpirun bound no core: $(grep ^binding mpirun.log)"
same calm mpirun

finish FAILED "$idle"
exited 70 "$idle"
says idle "step -1"
[ "$(grep -c "requeued" idle.log)" = 2 ] || fail "idle was not requeued twice"
echo ok
