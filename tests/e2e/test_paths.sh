#!/usr/bin/env bash
# simile-test: timeout 600
# Paths of a job expand ~ and variables; a result whose path is a link is written to its target; a
# setting that costs much time is reported.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
data_set train 64 16
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.0625}
batch: 32
block: 8
schedule: {steps: 1}
augment: {preset: digits}
YAML
mkdir home && cp train.h5 home/
export HOME=$PWD/home SCRATCH=$PWD/scratch
for path in '~/one' '$HOME/two' '${SCRATCH}/three' '$SCRATCH/a-${USERTAG}b'; do
    USERTAG=x expect 0 "" "$simile" pretrain job.yaml "run=$path" 'data.train=~/train.h5'
done
for run in home/one home/two scratch/three scratch/a-xb; do
    [ -s "$run/checkpoints/step-000000001.h5" ] || fail "no checkpoint in $run"
done
[ ! -e '~' ] && [ ! -e '$HOME' ] || fail "a variable was taken as the name of a directory"
grep -qF '$HOME/two' home/two/config.yaml || fail "config.yaml: $(grep run home/two/config.yaml)"
expect 78 "NOT_SET" "$simile" pretrain job.yaml 'run=$NOT_SET/x'
expect 78 "run: " "$simile" pretrain job.yaml 'run=~other/x'
expect 78 "run: " "$simile" pretrain job.yaml 'run=${HOME/x'
expect 78 "run: " "$simile" pretrain job.yaml 'run=a$'
expect 66 "home/absent.h5" "$simile" pretrain job.yaml run=x 'data.train=~/absent.h5'

# links, also relative and to a file that does not exist yet
mkdir target && ln -s target/out.h5 link.h5 && ln -s link.h5 second.h5 && ln -s loop.h5 loop.h5
expect 0 "" "$simile" prepare train-images-idx3-ubyte --out second.h5
[ -L link.h5 ] && [ -L second.h5 ] && [ -s target/out.h5 ] || fail "links: $(ls -l link.h5 second.h5 target)"
same_content=$(cmp train.h5 target/out.h5 2>&1) || fail "$same_content"
expect 73 "loop.h5" "$simile" prepare train-images-idx3-ubyte --out loop.h5

# large images with the stem of small ones; views that are larger than the images
/usr/bin/python3 -c "
import h5py, numpy as np
with h5py.File('large.h5', 'w') as f: f['images'] = np.random.RandomState(1).randint(0, 256, (64, 96, 96, 3)).astype('u1')"
expect 0 "" "$simile" prepare large.h5 --out photos.h5
expect 0 "encoder.stem=imagenet" "$simile" plan job.yaml data.train=photos.h5 run=x
expect 0 "augment.size" "$simile" plan job.yaml augment.size=32 run=x
echo ok
