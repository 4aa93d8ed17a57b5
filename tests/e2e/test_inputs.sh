#!/usr/bin/env bash
# simile-test: timeout 600
# Invalid files, jobs and command lines: one message that names the file, the key or the option,
# the documented exit code, and no hang.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
digits train 96 12
expect 0 "96 images" "$simile" prepare train-images-idx3-ubyte --out train.h5
gzip -k train-images-idx3-ubyte train-labels-idx1-ubyte
mkdir zipped && mv ./*.gz zipped/
expect 0 "96 images" "$simile" prepare zipped/train-images-idx3-ubyte.gz --out zipped.h5
cmp <("$simile" inspect train.h5 --json | grep -o '"fingerprint":"[^"]*"') \
    <("$simile" inspect zipped.h5 --json | grep -o '"fingerprint":"[^"]*"') || fail "the data set of the .gz files differs"
expect 0 "40 images" "$simile" prepare train-images-idx3-ubyte --out part.h5 --limit 40
/usr/bin/python3 - <<'PY'
import h5py, numpy as np
with h5py.File("train.h5") as f, h5py.File("part.h5") as p:
    assert f.attrs["format"] == b"simile-dataset" and f["images"].shape == (96, 12, 12, 1), dict(f.attrs)
    x = f["images"][()] / 255.0
    assert abs(x.mean() - f.attrs["mean"][0]) < 1e-12 and abs(x.std() - f.attrs["std"][0]) < 1e-9
    assert f["images"].chunks is None and f["labels"][()].tolist() == [i % 10 for i in range(96)]
    assert np.bincount(p["labels"][()]).tolist() == [4] * 10
PY
# command lines
expect_match 64 'pretrian: .* simile pretrain$' "$simile" pretrian
expect_match 64 "simile pretrain: .*job" "$simile" pretrain
expect_match 64 "simile prepare: .*--out" "$simile" prepare train-images-idx3-ubyte
expect_match 0 "\b64\b" "$simile" --help
for command in prepare plan pretrain evaluate embed loss inspect stop bench; do
    expect 0 "Usage: simile $command" "$simile" "$command" --help
done
# jobs
cat >good.yaml <<'YAML'
run: run
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.125}
batch: 32
block: 8
schedule: {steps: 2}
augment: {preset: digits}
YAML
expect 66 "absent.yaml" "$simile" pretrain absent.yaml
expect 66 "absent.h5" "$simile" pretrain good.yaml data.train=absent.h5
expect_match 78 "optimizer\.l\b.*optimizer\.lr\b" "$simile" pretrain good.yaml optimizer.l=1
expect_match 78 "optimizer\.lr: .*\"fast\"" "$simile" pretrain good.yaml optimizer.lr=fast
expect_match 78 "batch: 30 .*\b24\b.*\b32\b" "$simile" pretrain good.yaml batch=30
expect_match 78 "batch: .*\b104\b.*\b96\b" "$simile" pretrain good.yaml batch=104
expect_match 78 "batch: 8 .* 2 ranks" ranks 2 "$simile" pretrain good.yaml batch=8
expect_match 78 "batch: 16 .* 3 ranks.*block=4\b" ranks 3 "$simile" pretrain good.yaml batch=16 # not 5, which does not divide 16
expect_match 78 "part\.h5.*block=20 batch=40" "$simile" pretrain good.yaml data.train=part.h5 block=64 batch=64
expect_match 78 "batchnorm\.group: 3 .*block 8" "$simile" pretrain good.yaml batchnorm.group=3
expect_match 78 "batchnorm\.group" "$simile" pretrain good.yaml \
    batchnorm.group=1 encoder.projector.bn=true
expect_match 78 "method\.name: \"simclear\".*simclr\|infonce" "$simile" pretrain good.yaml method.name=simclear
expect_match 78 "method\.temperature: 0 .*0\.005" "$simile" pretrain good.yaml method.temperature=0
expect_match 78 "scale_min.*\b0\.9\b.*\b0\.1\b" "$simile" plan good.yaml \
    "augment.view1=[{op: crop, scale_min: 0.9, scale_max: 0.1}]"
expect_match 78 "kernels.*\bv9\b" "$simile" pretrain good.yaml kernels=v9
# plan draws the views, also where the second has other operations, and counts the optimizer
expect 0 "byol.png" "$simile" plan good.yaml augment.preset=byol --preview byol.png
[ -s byol.png ] || fail "plan --preview wrote no image"
expect_match 78 "augment\.preset: \"byoll\".*simclr-cifar\|.*\bbyol\?" "$simile" plan good.yaml augment.preset=byoll
megabytes() { "$simile" plan good.yaml "optimizer.name=$1" | awk '$1 == "optimizer" { print $2 }'; }
awk -v one="$(megabytes sgd)" -v two="$(megabytes adamw)" 'BEGIN { exit !(one > 0 && two > 1.8 * one && two < 2.2 * one) }' ||
    fail "plan does not count AdamW's two moments"
[ ! -e run ] || fail "a refused job has a run directory"
expect 0 "" ranks 2 "$simile" pretrain good.yaml
expect 0 "" ranks 2 "$simile" pretrain good.yaml
expect_match 78 "^  optimizer\.lr +0\.1 +0\.3" "$simile" pretrain good.yaml optimizer.lr=0.3
expect 73 "--resume never" "$simile" pretrain good.yaml --resume never
expect_match 66 "^simile: run: " "$simile" stop run
expect 66 "nowhere" "$simile" stop nowhere
expect 0 "\"segments\"" "$simile" inspect run --json
# --init takes the encoder's weights
expect 0 "run/checkpoints/step-000000002.h5" "$simile" pretrain good.yaml run=second --init run/checkpoints/step-000000002.h5 --stop-after 99
expect 75 "run/checkpoints/step-000000002.h5" ranks 3 "$simile" pretrain good.yaml run=newest --init run --stop-after 0
expect 75 "run/checkpoints/step-000000002.h5" "$simile" pretrain good.yaml run=named --init run/checkpoints/step-000000002.h5 --stop-after 0
same_weights named newest # --init RUN takes its newest checkpoint
mkdir empty
expect 66 "empty" ranks 3 "$simile" pretrain good.yaml run=none --init empty
[ ! -e none ] || fail "the refused run has a directory"
expect_match 65 "run/checkpoints/step-000000002\.h5.*weights/encoder/" "$simile" pretrain good.yaml run=third encoder.width=0.25 --init run/checkpoints/step-000000002.h5
# --init verifies the digest, where there is one, and the values; a refused start leaves no file
/usr/bin/python3 - <<'PY'
import h5py
whole = open("run/checkpoints/step-000000002.h5", "rb").read()
with h5py.File("run/checkpoints/step-000000002.h5") as f:
    at = f["weights/encoder/conv1.weight"].id.get_offset()
open("init-flip.h5", "wb").write(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
for name in "plain", "variance", "float", "double":
    open(f"init-{name}.h5", "wb").write(whole[:-64])
with h5py.File("init-variance.h5", "r+") as f:
    f["weights/encoder/bn1.running_var"][3] = -0.5
for name in "float", "double": # as torch's .numpy().astype("f8") makes them
    with h5py.File(f"init-{name}.h5", "r+") as f:
        for key, x in [(k, v[()]) for k, v in f["weights/encoder"].items()]:
            if name == "float" or not key.endswith("num_batches_tracked"):
                del f["weights/encoder"][key]
                f["weights/encoder"][key] = x.astype("f8")
PY
init() { "$simile" pretrain good.yaml run=runs/new --stop-after 0 --init "$@"; }
expect 75 "init-plain.h5" "$simile" pretrain good.yaml run=plain --stop-after 0 --init init-plain.h5
expect 75 "init-double.h5" "$simile" pretrain good.yaml run=double --stop-after 0 --init init-double.h5
same_weights plain double
expect_match 65 "init-flip\.h5: .*\bdigest\b" init init-flip.h5
expect_match 65 "init-variance\.h5.*/weights/encoder/bn1\.running_var" init init-variance.h5
expect_match 65 'init-float\.h5.*num_batches_tracked.*\.astype\("int64"\)' init init-float.h5
: >init-empty.h5
expect 65 "init-empty.h5" init init-empty.h5
expect 66 "absent.h5" init absent.h5
expect 66 "absent.h5" ranks 2 "$simile" pretrain good.yaml run=runs/new --init absent.h5
expect_match 65 "init-flip\.h5: .*\bdigest\b" ranks 2 "$simile" pretrain good.yaml run=runs/new --init init-flip.h5
expect_match 65 "init-flip\.h5: .*\bdigest\b" "$simile" pretrain good.yaml run=runs/new --resume init-flip.h5
expect_match 78 "^  seed +0 +9$" "$simile" pretrain good.yaml run=runs/new seed=9 --resume run/checkpoints/step-000000002.h5
[ ! -e runs/new ] || fail "a refused start left $(find runs/new)"
mkdir own && echo mine >own/log.txt
expect_match 65 "init-flip\.h5: .*\bdigest\b" "$simile" pretrain good.yaml run=own --init init-flip.h5
[ "$(ls own)" = log.txt ] && grep -q mine own/log.txt || fail "a refused start changed a directory: $(ls own)"
before=$(find run -type f ! -name log.txt -exec md5sum {} + | sort && ls run)
expect_match 78 "^  seed +0 +9$" "$simile" pretrain good.yaml seed=9
expect_match 65 "init-flip\.h5: .*\bdigest\b" "$simile" pretrain good.yaml --resume init-flip.h5
[ "$before" = "$(find run -type f ! -name log.txt -exec md5sum {} + | sort && ls run)" ] || fail "a refused start changed the run"
# a key is set once, and a warning is printed once
expect_match 78 "\b4\b.*\bseed\b.*\b3\b" "$simile" pretrain good.yaml seed=1 seed=2
expect_match 78 "method\.views\b.*\b3\b" "$simile" plan good.yaml method.name=dclw method.views=3
moco=(method.name=mocov2 method.queue_size=64 augment.preset=digits encoder.stem=imagenet batchnorm.group=8)
expect 0 "" "$simile" plan good.yaml "${moco[@]}"
expect_lines 1 "encoder\.stem"
expect_lines 1 "warning: encoder\.stem: imagenet .*\b12 x 12\b"
expect 75 "" "$simile" pretrain good.yaml run=stem "${moco[@]}" --stop-after 0
expect_lines 1 "encoder\.stem"
expect_lines 1 "warning: encoder\.stem: imagenet .*\b12 x 12\b"
# inputs are not overwritten, and an output path that cannot be written is refused first
cp train.h5 kept.h5
cp zipped.h5 kept-zipped.h5
for out in train.h5 ./train.h5 run/checkpoints/step-000000002.h5; do
    expect_match 64 "^simile: $out .*--out" "$simile" embed run --data train.h5 --out "$out"
done
expect 64 "" ranks 2 "$simile" embed run --data train.h5 --out train.h5
expect_lines 1 "^simile: .*\btrain\.h5 .*--out"
expect_match 64 "^simile: zipped\.h5 .*--out" "$simile" prepare zipped.h5 --out zipped.h5
cmp train.h5 kept.h5 || fail "the data set was overwritten"
cmp zipped.h5 kept-zipped.h5 || fail "the data set was overwritten"
expect 73 "zipped" "$simile" embed run --data train.h5 --out zipped
expect 73 "nowhere/e.h5" "$simile" embed run --data train.h5 --out nowhere/e.h5
/usr/bin/python3 - <<'PY'
import h5py, numpy as np
with h5py.File("z.h5", "w") as f:
    f["z1"] = f["z2"] = np.eye(8, dtype="f4")
with h5py.File("same.h5", "w") as f:
    f["z1"] = f["z2"] = np.ones((9, 4), "f4")
with h5py.File("nearly.h5", "w") as f: # one row differs, on the last rank
    f["z1"], f["z2"] = np.ones((99, 4), "f4"), np.vstack([np.ones((98, 4), "f4"), np.eye(4, dtype="f4")[:1]])
with h5py.File("vast.h5", "w") as f: # nothing is stored; four views have 2^64 values
    for i in range(4):
        f.create_dataset(f"z{i + 1}", (4, 2**60), "f4", chunks=(1, 1024))
PY
expect_match 64 "^simile: z\.h5 .*--out" "$simile" loss good.yaml --in z.h5 --out z.h5
expect 0 "loss" "$simile" loss good.yaml --in z.h5 --out g.h5
expect_lines 0 "warning:"
expect 0 "loss" ranks 3 "$simile" loss good.yaml --in same.h5 --out g.h5
expect_lines 1 "warning:" # not once per rank
expect_lines 1 "warning: same\.h5: .*\brows\b"
expect 0 "loss" ranks 3 "$simile" loss good.yaml --in nearly.h5 --out g.h5
expect_lines 0 "warning:"
expect_match 65 "vast\.h5: .*\b281474976710656\b" "$simile" loss good.yaml --in vast.h5 --out g.h5
expect_match 65 "train\.h5\b.*/z1\b" "$simile" loss good.yaml --in train.h5 --out g.h5
expect_match 65 "train\.h5\b.*/z1\b" ranks 2 "$simile" loss good.yaml --in train.h5 --out g.h5
# options that the format does not support
for option in "--size 8" "--crop none" "--labels coarse" "--images-key a" "--labels-key a" "--path a" \
    "--split unlabeled"; do
    read -ra words <<<"$option"
    expect_match 64 "${words[0]} .*\bidx\b" "$simile" prepare train-images-idx3-ubyte --out no.h5 "${words[@]}"
done
mkdir cifar && head -c 6146 /dev/zero >cifar/data_batch_1.bin && printf 'a\nb\n' >cifar/batches.meta.txt
expect_match 65 "cifar\b.* 2 .* 10$" "$simile" prepare cifar --out no.h5
rm cifar/batches.meta.txt
expect_match 64 "--labels coarse: cifar\b" "$simile" prepare cifar --out no.h5 --labels coarse
[ ! -e no.h5 ] || fail "a refused conversion left a file"
# images with three channels for an encoder of one channel
/usr/bin/python3 -c "import h5py, numpy as np; h5py.File('rgb-source.h5', 'w')['images'] = np.zeros((4, 12, 12, 3), 'u1')"
expect 0 "4 images" "$simile" prepare rgb-source.h5 --out rgb.h5
expect_match 65 "rgb\.h5: .*\b3 channels.* of 1\b" "$simile" embed run --data rgb.h5 --out e.h5
# corrupted data sets and checkpoints
head -c 5000 train.h5 >cut.h5
expect 65 "cut.h5" "$simile" pretrain good.yaml run=cut data.train=cut.h5
cp train.h5 flipped.h5
/usr/bin/python3 - <<'PY'
import h5py
with h5py.File("flipped.h5") as f:
    at = f["images"].id.get_offset()
with open("flipped.h5", "r+b") as f:
    f.seek(at + 700); b = f.read(1); f.seek(at + 700); f.write(bytes([b[0] ^ 4]))
PY
/usr/bin/python3 - <<'PY'
import h5py, numpy, shutil, xxhash
for path, name, value in ("newer.h5", "format_version", 4), ("zero.h5", "format_version", 0), ("num_images.h5", "num_images", 97):
    shutil.copy("train.h5", path)
    with h5py.File(path, "r+") as f:
        f.attrs[name] = value
shutil.copy("train.h5", "unversioned.h5")
with h5py.File("unversioned.h5", "r+") as f:
    del f.attrs["format_version"] # version 1: the fingerprint covers digests and labels
    covered = f["digest"][()].tobytes() + f["labels"][()].tobytes()
    f.attrs["fingerprint"] = numpy.bytes_(xxhash.xxh3_128(covered).hexdigest())
shutil.copy("unversioned.h5", "labels.h5")
with h5py.File("labels.h5", "r+") as f:
    f["labels"][3] += 1
PY
# a data set of a newer format: the exit code and the advice are those of a newer checkpoint
expect_match 69 "newer\.h5.*format_version 4.*up to 3" "$simile" inspect newer.h5
expect_match 69 "newer\.h5.*format_version 4" ranks 2 "$simile" pretrain good.yaml run=newer data.train=newer.h5
expect_match 69 "newer\.h5.*format_version 4" "$simile" evaluate knn run --train newer.h5 --test train.h5
expect_match 65 "zero\.h5: format_version is 0" "$simile" inspect zero.h5
expect_match 0 "unversioned\.h5.*format_version 1" "$simile" inspect unversioned.h5
expect 0 "" ranks 2 "$simile" pretrain good.yaml run=unversioned data.train=unversioned.h5
expect_match 65 "labels\.h5.*fingerprint" "$simile" inspect labels.h5
expect_match 65 "num_images\.h5.*\b97\b" "$simile" inspect num_images.h5
expect_match 65 "run/checkpoints/step-000000002\.h5.*is a checkpoint\b.*\bdata set\b" "$simile" pretrain good.yaml run=wrong \
    data.train=run/checkpoints/step-000000002.h5
expect_match 65 "flipped\.h5: image 4 .*\bdigest\b" ranks 2 "$simile" pretrain good.yaml run=flipped data.train=flipped.h5
cp run/checkpoints/step-000000002.h5 broken.h5
printf 'x' | dd of=broken.h5 bs=1 seek=3000 conv=notrunc status=none
expect_match 65 "broken\.h5: .*\bdigest\b" "$simile" inspect broken.h5
# malformed files of every format
check_bad() { # check_bad DIRECTORY
    local bad=$1 f
    for f in "$bad"/hdf5/*.h5; do
        expect 65 "$(basename "$f")" "$simile" pretrain good.yaml run=bad data.train="$f"
    done
    for f in wrong-magic little-endian count-too-large count-overflow zero-dim trailing-bytes short-header; do
        expect 65 "$f" "$simile" prepare "$bad/idx/$f-images-idx3-ubyte" --out bad.h5
    done
    expect 65 "empty.bin" "$simile" prepare "$bad/cifar/empty.bin" --out bad.h5
    expect 65 "truncated.bin" "$simile" prepare "$bad/cifar/truncated.bin" --out bad.h5
    rm -f bad.h5
    expect 0 "bad_label.bin" "$simile" prepare "$bad/cifar/bad_label.bin" --out bad.h5
    expect_match 65 "bad_label\.bin.* 4\b.* 10\b" "$simile" prepare "$bad/cifar/bad_label.bin" --out bad.h5 --on-bad fail
    mkdir -p photos && cp "$bad"/*.jpg "$bad"/*.png photos/
    expect 0 "images" "$simile" prepare photos --out photos.h5 --size 32 --force
    for f in truncated_half.jpg text.jpg huge_dims.jpg bomb_60000x60000.png truncated.png zero_byte.jpg; do
        expect_lines 1+ "$f"
    done
}
/usr/bin/python3 "$SIMILE_SOURCE/tests/lib/pictures.py" bad malformed
check_bad malformed
shared=$SIMILE_SHARED/data/bad
if [ -d "$shared" ]; then
    check_bad "$shared"
else
    echo "skipped: the files of $shared, which does not exist; written ones were used"
fi
[ ! -e bad.h5.part ] && [ ! -e bad.h5.frame ] || fail "a temporary file is left"
echo ok
