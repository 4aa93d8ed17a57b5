#!/usr/bin/env bash
# simile-test: timeout 600
# The Slurm scripts: checked by ShellCheck, and written for a job by `simile plan --sbatch`.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
scripts=$SIMILE_SOURCE/slurm
if command -v shellcheck >/dev/null; then
    shellcheck "$scripts"/*.sbatch "$SIMILE_SOURCE/tests/slurm/lab"
    # SC2154, SC2034: variables that common.sh sets or reads
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
has_line() { grep -qxF -- "$1" fit.sbatch || { grep -n SBATCH fit.sbatch; fail "the script has no line $1"; }; }

# nodes, ranks, threads, time, memory, and the arguments of plan
expect 0 "sbatch fit.sbatch" plan --nodes 2 --ranks 6 --threads 1 --sbatch fit.sbatch "method.temperature=0.5"
has_line "#SBATCH --nodes=2"
has_line "#SBATCH --ntasks-per-node=3"
has_line "#SBATCH --cpus-per-task=1"
has_line "#SBATCH --job-name=simclr-it-s-mine"
has_line "#SBATCH --chdir=\"$scratch\""
has_line "[ \$# -gt 0 ] || set -- 'job.yaml' 'method.temperature=0.5'"
grep -qF "SIMILE=\${SIMILE:-'$simile'}" fit.sbatch || fail "the script does not run $simile"
# memory of three ranks: that of the plan, plus 15 % and 100 MB per rank
awk '/at most/ { most = $3 } /^#SBATCH --mem=/ { sub(/.*=/, ""); mem = $1 * 1.048576 }
    END { want = 3 * (1.15 * most + 100); print "memory " mem " MB, expected " want; exit !(mem >= want && mem < want + 4) }' out.txt fit.sbatch ||
    fail "the memory differs from the plan's"
# time limit: at least 10 minutes; the run itself takes seconds
expect_lines 1 '^#SBATCH --time=0-00:1[0-9]:00$' fit.sbatch
expect_lines 1 '^#SBATCH --signal=USR1@61$' fit.sbatch
# only the settings differ from slurm/pretrain.sbatch
[ "$(diff "$scripts/pretrain.sbatch" fit.sbatch | grep -c '^>')" = 10 ] || fail "not ten lines differ: $(diff "$scripts/pretrain.sbatch" fit.sbatch)"
bash -n fit.sbatch
# --time limits the time that is requested; the lead of the signal is a quarter of it
expect 0 "" plan --time 00:02:00 --sbatch short.sbatch
expect_lines 1 "^#SBATCH --time=0-00:02:00$" short.sbatch
expect_lines 1 "^#SBATCH --signal=USR1@31$" short.sbatch

# a quote in an argument is preserved
expect 0 "sbatch quoted.sbatch" plan --sbatch quoted.sbatch "run=it's"
[ "$(bash -c "$(grep -F 'set -- ' quoted.sbatch); printf '%s|' \"\$@\"")" = "job.yaml|run=it's|" ] || fail "$(grep -F 'set -- ' quoted.sbatch)"

# refused: ranks that do not divide among the nodes, a directory name that Slurm does not accept, a
# missing directory
expect_match 78 "--ranks 5 .*--ranks 4\b" plan --ranks 5 --nodes 2 --sbatch no.sbatch
expect_match 78 "--ranks 1 .*--ranks 2\b" plan --nodes 2 --sbatch no.sbatch
expect 64 "--nodes" plan --nodes 0
expect 73 "nowhere/no.sbatch" plan --sbatch nowhere/no.sbatch
mkdir 'a"b'
cp job.yaml train.h5 'a"b'
(cd 'a"b' && expect 78 "simile: --sbatch: " "$simile" plan job.yaml --sbatch no.sbatch)
[ ! -e no.sbatch ] && [ ! -e 'a"b/no.sbatch' ] || fail "a refused command wrote a script"

# values of keys, which the scripts read
[ "$(plan --value run)" = "runs/it's mine" ] || fail "run: $(plan --value run)"
[ "$(plan data.train=b.h5 --value data.train)" = b.h5 ] || fail "data.train: $(plan data.train=b.h5 --value data.train)"
[ -z "$(plan --value data.test)" ] || fail "data.test: $(plan --value data.test)"
expect 78 '"data.tset"' plan --value data.tset

# ranks other than 0 print no usage messages, but they print other errors
SLURM_PROCID=1 expect 66 "missing.yaml" "$simile" plan missing.yaml
echo ok
