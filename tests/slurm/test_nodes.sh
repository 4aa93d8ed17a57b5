#!/usr/bin/env bash
# simile-test: timeout 600
# A node fails during a step, or during a save with rank 0 and the script on it: the other rank ends,
# Slurm requeues the job, and the run resumes on the remaining nodes.  A run directory admits one job, and the lock of a job that has ended is taken over.
nodes=4
export LAB_NODE_TIMEOUT=6 LAB_MESSAGE_TIMEOUT=5 LAB_KILL_WAIT=2 LAB_CPUS=4
. "$SIMILE_SOURCE/tests/slurm/common.sh"
pair=(--nodes=2 --ntasks-per-node=1)
train reference

SLOW_MS=2000 submit step "${pair[@]}" --exclusive --
step=$id
wait_until reached step 10 # the second job is shorter
SLOW_MS=400 SLOW_AFTER=0 SLOW_PATH='*/checkpoints/*' submit save "${pair[@]}" -- checkpoint.every_steps=2
save=$id
wait_until reached save 10
wait_until saving save
[ "$(pids_of step | wc -l) $(pids_of save | wc -l)" = "2 2" ] || fail "a job does not have two ranks"
squeue -h -o "%j %N" | sort | xargs | grep -x "save node\[3-4\] step node\[1-2\]" >/dev/null || fail "other nodes than expected: $(squeue)"
"$lab" fail node2
"$lab" fail node3
died=$SECONDS
(until gone step && gone save; do sleep 0.1; done; echo $((SECONDS - died)) >took.txt) &

# a second job on the same run directory, on a remaining node
SLOW_MS=600000 SLOW_UNTIL=$scratch/go submit busy --nodelist=node4 --ntasks-per-node=1 --
busy=$id
wait_until reached busy 10
RUN=busy submit second --nodelist=node4 --ntasks-per-node=1 --
expect_state FAILED "$id"
expect_exit 73 "$id"
expect_lines 1+ "busy/run\.lock: .*\bjob $busy\b" second.log
touch go # the first job continues
expect_state COMPLETED "$busy"
same_run reference busy

wait_until [ -s took.txt ]
echo "the other ranks ended $(cat took.txt) s after the nodes failed"
expect_state COMPLETED "$step"
expect_state COMPLETED "$save"
for run in step save; do
    grep -q "Name=$run JobState=NODE_FAIL" "$LAB_DIR/log/jobcomp" || fail "$run: no NODE_FAIL"
    log_has "$run" "start 2, 2 nodes (node[1,4])"
    log_has "$run" "resumed from $run/checkpoints"
    same_run reference "$run"
done
expect_lines 1 "\block of pid [0-9]+ on .*\bjob $save\b" save.log

# a node that has returned runs jobs
"$lab" heal node2
wait_until timeout 20 srun --nodelist=node2 --input=none true
echo ok
