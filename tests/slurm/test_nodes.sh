#!/usr/bin/env bash
# simile-test: timeout 240
# A node dies in mid-step, or in mid-save with rank 0 and the script on it: the other rank
# ends within 30 s, Slurm requeues the job, and it goes on with the nodes that are left.
# Meanwhile: a run directory takes one job, and a lock of a dead one is taken over.
nodes=4
export LAB_NODE_TIMEOUT=6 LAB_MESSAGE_TIMEOUT=5 LAB_KILL_WAIT=2 LAB_CPUS=4
. "$SIMILE_SOURCE/tests/slurm/common.sh"
pair=(--nodes=2 --ntasks-per-node=1)
calm calm
ranks_of() { pgrep -f "^$simile pretrain .*run=$1( |\$)"; }
gone() { ! ranks_of "$1" >/dev/null; }
saving() { compgen -G "$1/checkpoints/*.tmp.*"; }

SLOW_MS=300 submit step "${pair[@]}" --exclusive --
step=$id
SLOW_MS=400 SLOW_PATH=/checkpoints/ submit save "${pair[@]}" -- checkpoint.every_steps=2
save=$id
await 30 "step 10 of step" reached step 10
await 30 "step 10 of save" reached save 10
await 30 "a save" saving save
[ "$(ranks_of step | wc -l) $(ranks_of save | wc -l)" = "2 2" ] || fail "not two ranks each"
squeue -h -o "%j %N" | sort | xargs | grep -x "save node\[3-4\] step node\[1-2\]" >/dev/null || fail "other nodes than expected: $(squeue)"
"$lab" fail node2
"$lab" fail node3
died=$SECONDS
(until gone step && gone save; do sleep 0.1; done; echo $((SECONDS - died)) >took.txt) &

# on a node that is left
SLOW_MS=100 submit busy --nodelist=node4 --ntasks-per-node=1 --
busy=$id
await 30 "step 10 of busy" reached busy 10
# shellcheck disable=SC2046 # one word per process
kill -STOP $(ranks_of busy) # it holds the run however long the other one takes to start
RUN=busy submit second --nodelist=node4 --ntasks-per-node=1 --
finish FAILED "$id"
exited 73 "$id"
says second "busy"
# shellcheck disable=SC2046
kill -CONT $(ranks_of busy)
finish COMPLETED "$busy"
same calm busy

await 60 "the end of the other ranks" [ -s took.txt ]
echo "the other ranks ended $(cat took.txt) s after the nodes"
[ "$(cat took.txt)" -le 30 ] || fail "they took more than 30 s"
finish COMPLETED "$step" 90
finish COMPLETED "$save" 90
for run in step save; do
    grep -q "Name=$run JobState=NODE_FAIL" "$LAB_DIR/log/jobcomp" || fail "$run: no NODE_FAIL"
    says "$run" "start 2, 2 nodes (node[1,4])"
    says "$run" "resumed from $run/checkpoints"
    same calm "$run"
done
says save "lock"

# a node that is back takes jobs again
"$lab" heal node2
await 30 "node2" timeout 20 srun --nodelist=node2 --input=none true
echo ok
