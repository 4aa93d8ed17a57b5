# shellcheck shell=bash disable=SC2154,SC2034,SC1091 # variables of e2e/common.sh and of the tests
# Sourced by the Slurm tests: starts a lab of $nodes nodes, prepares a small job, and defines
# functions that wait for states of Slurm jobs.  With SLOW_MS, the first start of a job delays every
# step after the first SLOW_AFTER steps: the run lasts until the test interrupts it.
nodes=${nodes:-2}
. "$SIMILE_SOURCE/tests/e2e/common.sh"
chmod 755 "$scratch" # munge clients must reach the socket
lab=$SIMILE_SOURCE/tests/slurm/lab scripts=$SIMILE_SOURCE/slurm
export LAB_DIR=$scratch/lab
export SIMILE_BIND=none # ranks share this host's cores
clean_up() { # prints the logs if the test failed, and stops the lab
    local code=$?
    set +e # a missing log must not keep the lab running
    if [ $code != 0 ] && [ $code != 77 ]; then
        tail -n 40 "$scratch"/*.log >&2
        timeout 5 squeue -a -t all -o '%i %j %T %r' >&2
        cat "$LAB_DIR/log/jobcomp" >&2
        tail -n 15 "$LAB_DIR"/log/slurm*.log >&2
    fi
    "$lab" down
    cd / && rm -rf "$scratch"
    exit $code
}
trap clean_up EXIT
"$lab" up "$nodes" || exit $?
eval "$("$lab" env)"
srun --mpi=list 2>&1 | grep pmix >/dev/null || { echo "skipped: Slurm has no PMIx" && exit 77; }

slow_writes
cat >simile.sh <<SH
#!/usr/bin/env bash
[ "\$1 \${SLURM_RESTART_COUNT:-0}" != "pretrain 0" ] || export LD_PRELOAD=$scratch/slow.so
exec "$simile" "\$@"
SH
chmod +x simile.sh
export SIMILE=$scratch/simile.sh SLOW_AFTER=10
data_set train 96 8
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.0625}
batch: 24
block: 4
schedule: {steps: 60}
augment: {preset: digits}
log: {every_steps: 1}
checkpoint: {every_steps: 5}
YAML
train() { # train RUN [key=value ...]: an undisturbed run, without Slurm
    expect 0 "" "$simile" pretrain job.yaml run="$1" "${@:2}"
}
# submit NAME [sbatch options] -- [key=value ...]: sets $id; the log is NAME.log, the run NAME or $RUN
submit() {
    local name=$1 options=()
    shift
    while [ "$1" != -- ]; do options+=("$1") && shift; done
    id=$(sbatch --parsable --job-name="$name" --output="%x.log" --mem=200M --cpus-per-task=1 --time=10 \
        "${options[@]}" "${script:-$scripts/pretrain.sbatch}" job.yaml run="${RUN:-$name}" "${@:2}")
}
state() { squeue -h -a -t all -j "$1" -o %T; }
ended() { [[ $(state "$1") =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL)$ ]]; }
settled() { # settled STATE ID: in STATE, or in another final state for $polls polls
    [ "$(state "$2")" != "$1" ] || return 0
    if ended "$2"; then polls=$((polls - 1)); fi
    [ "$polls" -le 0 ]
}
expect_state() { # expect_state STATE ID: waits for the end of the job
    local polls=200 # a job that is being requeued passes through FAILED
    wait_until settled "$@"
    [ "$(state "$2")" = "$1" ] || fail "job $2 is $(state "$2"), expected $1"
}
reached() { # reached RUN STEP: the run has a checkpoint of that step or a later one
    local names=("$1"/checkpoints/step-*.h5)
    [ "${names[-1]##*/}" \> "$(printf 'step-%09d' "$2")" ]
}
expect_exit() { # expect_exit CODE ID
    scontrol show job "$2" | grep "ExitCode=$1:0" >/dev/null || fail "job $2: $(scontrol show job "$2" | grep ExitCode), expected $1"
}
log_has() { grep -qF -- "$2" "$1.log" || fail "$1.log has no \"$2\""; } # NAME TEXT
pids_of() { pgrep -f "^$simile pretrain .*run=$1( |\$)"; }              # RUN: process ids of its ranks
gone() { ! pids_of "$1" >/dev/null; }                                   # RUN: it has no process
saving() { compgen -G "$1/checkpoints/*.tmp.*"; }                       # RUN: a checkpoint is being written
