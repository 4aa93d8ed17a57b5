#!/usr/bin/env bash
# simile-test: timeout 120
# The scripts for Slurm: clean under ShellCheck, and fitted to a job by `simile plan --sbatch`.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
scripts=$SIMILE_SOURCE/slurm
if command -v shellcheck >/dev/null; then
    shellcheck "$scripts"/*.sbatch "$SIMILE_SOURCE/tests/slurm/lab"
    # names that tests/*/common.sh sets for those that source it, or reads from them
    shellcheck -e SC1091,SC2154,SC2034 "$SIMILE_SOURCE"/tests/slurm/*.sh
fi
data_set train 96 8
cat >job.yaml <<'YAML'
run: runs/it's mine
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.0625}
batch: 24
block: 4
schedule: {steps: 20}
augment: {preset: digits}
YAML
plan() { "$simile" plan job.yaml "$@"; }
head_says() { grep -qxF -- "$1" fit.sbatch || { grep -n SBATCH fit.sbatch; fail "the script has no line $1"; }; }

# a script of nodes, ranks, threads, time, memory, and the plan's own words
expect 0 "sbatch fit.sbatch" plan --nodes 2 --ranks 6 --threads 1 --sbatch fit.sbatch "method.temperature=0.5"
head_says "#SBATCH --nodes=2"
head_says "#SBATCH --ntasks-per-node=3"
head_says "#SBATCH --cpus-per-task=1"
head_says "#SBATCH --job-name=it-s-mine"
head_says "#SBATCH --chdir=\"$scratch\""
head_says "[ \$# -gt 0 ] || set -- 'job.yaml' 'method.temperature=0.5'"
grep -qF "SIMILE=\${SIMILE:-'$simile'}" fit.sbatch || fail "the script does not name this program"
# memory of three ranks: what the plan says, 15 % and 100 MB more
awk '/at most/ { most = $3 } /^#SBATCH --mem=/ { sub(/.*=/, ""); mem = $1 * 1.048576 }
    END { want = 3 * (1.15 * most + 100); print "memory " mem " MB, from the plan " want; exit !(mem >= want && mem < want + 4) }' out.txt fit.sbatch ||
    fail "the memory does not follow the plan"
# ten minutes more than this short run takes
grep -qE '^#SBATCH --time=0-00:1[0-9]:00$' fit.sbatch || fail "the time of a run of seconds: $(grep time= fit.sbatch)"
[ "$(grep -oE 'USR1@[0-9]+' fit.sbatch)" = USR1@61 ] || fail "the signal's lead: $(grep USR1 fit.sbatch)"
# only the head differs from the script of slurm/
[ "$(diff "$scripts/pretrain.sbatch" fit.sbatch | grep -c '^>')" = 10 ] || fail "not ten lines differ: $(diff "$scripts/pretrain.sbatch" fit.sbatch)"
bash -n fit.sbatch
# the time that was allowed is the most that is asked for, the lead a quarter of it
expect 0 "" plan --time 00:02:00 --sbatch short.sbatch
grep -qx "#SBATCH --time=0-00:02:00" short.sbatch || fail "$(grep time= short.sbatch)"
grep -qx "#SBATCH --signal=USR1@31" short.sbatch || fail "$(grep signal= short.sbatch)"

# a quote in a word survives the shell
expect 0 "sbatch quoted.sbatch" plan --sbatch quoted.sbatch "run=it's"
[ "$(bash -c "$(grep -F 'set -- ' quoted.sbatch); printf '%s|' \"\$@\"")" = "job.yaml|run=it's|" ] || fail "$(grep -F 'set -- ' quoted.sbatch)"

# refused: uneven nodes, a folder that Slurm cannot be told, a place that is not there
expect 78 "--ranks 4" plan --ranks 5 --nodes 2 --sbatch no.sbatch
expect 78 "--ranks 2" plan --nodes 2 --sbatch no.sbatch
expect 64 "--nodes" plan --nodes 0
expect 73 "nowhere" plan --sbatch nowhere/no.sbatch
mkdir 'a"b'
cp job.yaml train.h5 'a"b'
(cd 'a"b' && expect 78 "simile: --sbatch: " "$simile" plan job.yaml --sbatch no.sbatch)
[ ! -e no.sbatch ] || fail "a script was written all the same"
[ ! -e 'a"b/no.sbatch' ] || fail "a script was written into a folder that Slurm cannot be told"

# what a script asks of a job
[ "$(plan --value run)" = "runs/it's mine" ] || fail "run: $(plan --value run)"
[ "$(plan data.train=b.h5 --value data.train)" = b.h5 ] || fail "data.train is not what the command line says"
[ -z "$(plan --value data.test)" ] || fail "data.test: $(plan --value data.test)"
expect 78 'data.tset' plan --value data.tset

# what only some ranks know is heard from them, too (they are silent while words are parsed)
SLURM_PROCID=1 expect 66 "missing.yaml" "$simile" plan missing.yaml
echo ok
