#!/usr/bin/env bash
# simile-test: timeout 600
# A file that the user names as an output is replaced only by the same result, unless --force is given:
# a data set with other content is renamed, any other file is an error.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
sources() { # sources SEED: raw.h5, 48 images of 4 classes
    /usr/bin/python3 - "$1" <<'PY'
import sys, h5py, numpy as np
with h5py.File("raw.h5", "w") as f:
    f["images"] = np.random.RandomState(int(sys.argv[1])).randint(0, 256, (48, 8, 8, 3)).astype("u1")
    f["labels"], f["other"] = np.arange(48) % 4, np.arange(48) % 3
PY
}
refused() { # refused FILE command...: exit 73 that names FILE and --force, and FILE is unchanged
    local before
    before=$(sha256sum "$1")
    expect_match 73 "$1 .*--force" "${@:2}"
    [ "$(sha256sum "$1")" = "$before" ] || fail "$1 was changed by: ${*:2}"
}
replaced() { # replaced FILE command...: --force replaces FILE
    expect 0 "" "${@:2}" --force
}
sources 1
expect 0 "48 images" "$simile" prepare raw.h5 --out x.h5
cp x.h5 first.h5
# the same source and options, on any number of ranks
expect 0 "48 images" "$simile" prepare raw.h5 --out x.h5
expect 0 "48 images" ranks 2 "$simile" prepare ./raw.h5 --out x.h5
cmp x.h5 first.h5
! compgen -G 'x.h5.*' || fail "a temporary file is left"
# other options, or another source of the same name and shape: the old data set is kept
kept() { # kept FILE command...: FILE becomes FILE.old-1, which is named, and FILE is new
    local before
    before=$(sha256sum <"$1")
    expect_match 0 "^warning: $1 .*$1\.old-1 .*--force" "${@:2}"
    [ "$(sha256sum <"$1.old-1")" = "$before" ] || fail "$1 was changed by: ${*:2}"
    [ "$(sha256sum <"$1")" != "$before" ] || fail "$1 is not new after: ${*:2}"
    mv "$1.old-1" "$1"
    ! compgen -G "$1.*" || fail "a temporary file is left"
}
for words in "--limit 8" "--limit 40" "--holdout 0.25" "--labels-key none" "--labels-key other"; do
    # shellcheck disable=SC2086
    kept x.h5 "$simile" prepare raw.h5 $words --out x.h5
    cmp x.h5 first.h5
done
kept x.h5 ranks 2 "$simile" prepare raw.h5 --labels-key other --out x.h5
sources 2
kept x.h5 "$simile" prepare raw.h5 --out x.h5
replaced x.h5 "$simile" prepare raw.h5 --out x.h5
cmp -s x.h5 first.h5 && fail "--force did not replace x.h5"
! compgen -G 'x.h5.*' || fail "a temporary file is left"
ln -s x.h5 link.h5
kept x.h5 "$simile" prepare raw.h5 --limit 8 --out link.h5
[ -L link.h5 ] || fail "the link was replaced"
# files that are no data set; an empty file, as mktemp makes it, is one that nobody misses
for file in notes.txt raw2.h5; do
    [ $file = notes.txt ] && echo "my notes" >notes.txt || cp raw.h5 raw2.h5
    refused $file "$simile" prepare raw.h5 --out $file
    replaced $file "$simile" prepare raw.h5 --out $file
    cmp x.h5 $file
done
: >empty.h5
expect 0 "48 images" "$simile" prepare raw.h5 --out empty.h5
mkfifo fifo.h5
expect 73 "fifo.h5" "$simile" prepare raw.h5 --force --out fifo.h5

cat >job.yaml <<'YAML'
run: run
data: {train: x.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 16
block: 8
schedule: {steps: 1}
augment: {preset: digits}
YAML
expect 0 "" "$simile" pretrain job.yaml
# embed
expect 0 "features" "$simile" embed run --data x.h5 --out e.h5
expect 0 "features" "$simile" embed run --data first.h5 --out e.h5
for file in first.h5 notes.txt raw.h5 job.yaml; do
    refused $file "$simile" embed run --data x.h5 --out $file
done
refused first.h5 ranks 2 "$simile" embed run --data x.h5 --out first.h5
replaced notes.txt "$simile" embed run --data x.h5 --out notes.txt
ln -s e.h5 elink.h5
expect 0 "features" "$simile" embed run --data x.h5 --out elink.h5
[ -L elink.h5 ] || fail "the link was replaced"
# prepare and loss onto embeddings
refused e.h5 "$simile" prepare raw.h5 --out e.h5
/usr/bin/python3 -c "
import h5py, numpy as np
with h5py.File('z.h5', 'w') as f: f['z1'], f['z2'] = np.random.RandomState(3).randn(2, 16, 8).astype('f4')"
expect 0 "loss" "$simile" loss job.yaml --in z.h5 --out g.h5
expect 0 "loss" ranks 2 "$simile" loss job.yaml --in z.h5 --out g.h5
refused e.h5 "$simile" loss job.yaml --in z.h5 --out e.h5
replaced notes.txt "$simile" loss job.yaml --in z.h5 --out notes.txt
# plan: a script may have been edited
expect 0 "" "$simile" plan job.yaml --sbatch job.sbatch
expect 0 "" "$simile" plan job.yaml --sbatch job.sbatch
echo "# edited" >>job.sbatch
refused job.sbatch "$simile" plan job.yaml --sbatch job.sbatch
replaced job.sbatch "$simile" plan job.yaml --sbatch job.sbatch
expect_lines 0 "# edited" job.sbatch
expect 0 "" "$simile" plan job.yaml --preview views.png
refused first.h5 "$simile" plan job.yaml --preview first.h5
refused views.png "$simile" plan job.yaml --preview views.png
replaced views.png "$simile" plan job.yaml --preview views.png
# a log whose reader has ended stops nothing; a result that nobody reads ends the program as others do
/usr/bin/python3 - "$simile" <<'PY' || fail "the end of a reader"
import os, signal, subprocess, sys
simile = sys.argv[1]
def run(stream, *words):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([simile, *words], **{stream: writer})
    os.close(writer)
    return done.returncode
assert run("stderr", "prepare", "raw.h5", "--out", "unread.h5") == 0
assert run("stderr", "pretrain", "job.yaml", "run=unread", "schedule.steps=3") == 0
assert os.path.exists("unread.h5") and os.path.exists("unread/checkpoints/step-000000003.h5")
assert run("stdout", "inspect", "unread") == -signal.SIGPIPE
PY
echo ok
