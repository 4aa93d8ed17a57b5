# shellcheck shell=bash disable=SC2154,SC2034,SC1091 # names that e2e/common.sh sets or tests read
# Sourced by the tests under Slurm: a lab of $nodes nodes, a tiny job that can be slowed
# down, and ways to wait for what Slurm does.
nodes=${nodes:-2}
. "$SIMILE_SOURCE/tests/e2e/common.sh"
chmod 755 "$scratch" # munge wants to be reached
lab=$SIMILE_SOURCE/tests/slurm/lab scripts=$SIMILE_SOURCE/slurm
export LAB_DIR=$scratch/lab
export SIMILE_BIND=none # ranks share this host's cores
give_up() { # shows what happened when the test failed, and takes the lab down
    local code=$?
    set +e # whatever there is no log of, the lab goes down
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
trap give_up EXIT
"$lab" up "$nodes" || exit $?
eval "$("$lab" env)"
srun --mpi=list 2>&1 | grep pmix >/dev/null || { echo "Slurm has no PMIx here" && exit 77; }

cc -O1 -shared -fPIC -o slow.so "$SIMILE_SOURCE/tests/slurm/slow.c" -ldl
cat >simile.sh <<SH
#!/usr/bin/env bash
[ "\$1" != pretrain ] || export LD_PRELOAD=$scratch/slow.so
exec "$simile" "\$@"
SH
chmod +x simile.sh
export SIMILE=$scratch/simile.sh
digits train 96 8
"$simile" prepare train-images-idx3-ubyte --out train.h5 2>prepare.txt
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
calm() { # calm NAME key=value...: the undisturbed run
    expect 0 "" "$simile" pretrain job.yaml run="$1" "${@:2}"
}
same() { # same CALM RUN
    [ "$(weights_hash "$1")" = "$(weights_hash "$2")" ] || fail "$2: the weights differ from those of $1"
    /usr/bin/python3 - "$1" "$2" <<'PY'
import json, sys
steps = [[r["step"] for r in map(json.loads, open(p + "/metrics.jsonl")) if "loss" in r] for p in sys.argv[1:]]
assert steps[0] == steps[1], f"metrics.jsonl has gaps or doubles: {steps[1]}"
PY
}
# submit NAME [sbatch options] -- key=value...: sets $id; the log is NAME.log, the run NAME or $RUN
submit() {
    local name=$1 options=()
    shift
    while [ "$1" != -- ]; do options+=("$1") && shift; done
    id=$(sbatch --parsable --job-name="$name" --output="%x.log" --mem=200M --cpus-per-task=1 --time=10 \
        "${options[@]}" "${script:-$scripts/pretrain.sbatch}" job.yaml run="${RUN:-$name}" "${@:2}")
}
state() { squeue -h -a -t all -j "$1" -o %T; }
await() { # await SECONDS WHAT command...
    local end=$((SECONDS + $1))
    until "${@:3}" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "waited $1 s for: $2"
        sleep 0.1
    done
}
ended() { [[ $(state "$1") =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL)$ ]]; }
finish() { # finish STATE ID [SECONDS]
    await "${3:-60}" "the end of job $2" ended "$2"
    [ "$(state "$2")" = "$1" ] || fail "job $2 is $(state "$2"), expected $1"
}
reached() { # reached RUN STEP: there is a checkpoint of that step or a later one
    local names=("$1"/checkpoints/step-*.h5)
    [ "${names[-1]##*/}" \> "$(printf 'step-%09d' "$2")" ]
}
exited() { # exited CODE ID
    scontrol show job "$2" | grep "ExitCode=$1:0" >/dev/null || fail "job $2: $(scontrol show job "$2" | grep ExitCode), expected $1"
}
says() { grep -qF -- "$2" "$1.log" || fail "$1.log has no \"$2\""; }
