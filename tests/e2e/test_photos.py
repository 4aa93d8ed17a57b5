#!/usr/bin/python3
"""Photos end to end: resized as by Pillow, stored encoded, used for training and evaluation.
Every bad photo is reported with the right exit code, and no file is half-written.  The photos are
drawn; those of SIMILE_SHARED are used too if they exist.

simile-test: timeout 600
"""
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np
from PIL import Image, ImageOps

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import MPIEXEC
import pictures

SHARED = os.path.join(os.environ["SIMILE_SHARED"], "data")
SIMILE = os.environ["SIMILE"]
SIDE, PART = 48, 6


def run(*words, code=0, ranks=0, match=()):
    front = [*MPIEXEC, "-np", str(ranks)] if ranks else []
    done = subprocess.run([*front, SIMILE, *words], capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}, expected {code}\n{done.stderr}"
    for pattern in match:
        assert re.search(pattern, done.stderr, re.M), f"{words}: no line matches {pattern!r}:\n{done.stderr}"
    return done.stdout


def gather(photos, split, target):
    """Copies some of the photos, including all unusual ones; returns (path, label) in the order
    of the data set."""
    items = []
    for label, name in enumerate(sorted(os.listdir(os.path.join(photos, split)))):
        os.makedirs(os.path.join(target, split, name))
        # sorted by bytes, as in the program; all special photos and some plain ones
        files = sorted(os.listdir(os.path.join(photos, split, name)), key=os.fsencode)
        special = [f for f in files if not f.endswith(".jpg")]
        for f in sorted(set(files[:: max(1, len(files) // PART)]) | set(special), key=os.fsencode):
            path = os.path.join(target, split, name, f)
            shutil.copyfile(os.path.join(photos, split, name, f), path)
            items.append((path, label))
    return items


def upright(path):
    return ImageOps.exif_transpose(Image.open(path))


def resized(path, side):
    """A photo after torchvision's Resize(side) and CenterCrop(side), by Pillow alone."""
    image = upright(path)
    rgb = image.convert("RGB")
    w, h = rgb.size
    size = (side, int(side * h / w)) if w <= h else (int(side * w / h), side)
    small = np.asarray(rgb.resize(size, Image.BILINEAR))
    y, x = round((size[1] - side) / 2.0), round((size[0] - side) / 2.0)
    return small[y : y + side, x : x + side], image.mode


def check_square(items):
    run("prepare", "part", "--size", str(SIDE), "--out", "square.h5", match=[rf"\b{len(items)} images, 10 classes\b"])
    with h5py.File("square.h5") as f:
        assert f["images"].shape == (len(items), SIDE, SIDE, 3) and f["images"].dtype == "u1"
        assert f["labels"][()].tolist() == [label for _, label in items]
        for (path, _), got in zip(items, f["images"][()]):
            want, mode = resized(path, SIDE)
            error = np.abs(got.astype(int) - want)
            most, mean = (8, 3) if mode == "CMYK" else (3, 0.8)
            assert error.max() <= most and error.mean() <= mean, f"{path}: {error.max()} {error.mean()}"


def check_encoded(items):
    run("prepare", "part", "--out", "whole.h5")
    run("prepare", "part", "--size", str(SIDE), "--crop", "none", "--out", "train.h5")
    run("prepare", "part", "--split", "val", "--size", str(SIDE), "--crop", "none", "--out", "test.h5")
    with h5py.File("whole.h5") as f:
        at, data = f["offset"][()], f["bytes"][()].tobytes()
        for i, (path, _) in enumerate(items):
            with open(path, "rb") as photo:
                assert data[at[i] : at[i + 1]] == photo.read(), f"{path} was changed"
    sums = []
    with h5py.File("train.h5") as f:
        at, data = f["offset"][()], f["bytes"][()].tobytes()
        assert f["labels"].shape == (len(items),) and at[0] == 0 and at[-1] == len(data)
        for i, (path, _) in enumerate(items):
            image = Image.open(io.BytesIO(data[at[i] : at[i + 1]]))
            w, h = upright(path).size
            want = (SIDE, int(SIDE * h / w)) if w <= h else (int(SIDE * w / h), SIDE)
            assert image.size == want and image.format == "JPEG", f"{path}: {image.size}"
            sums.append(resized(path, SIDE)[0] / 255.0)
        sums = np.concatenate([s.reshape(-1, 3) for s in sums])
        assert np.abs(sums.mean(0) - f.attrs["mean"]).max() < 2e-3, (sums.mean(0), f.attrs["mean"])
        assert np.abs(sums.std(0) - f.attrs["std"]).max() < 2e-3, (sums.std(0), f.attrs["std"])


JOB = """
data: {train: train.h5, test: test.h5}
method: {name: simclr}
encoder: {width: 0.125}
batch: 16
block: 4
schedule: {steps: 2}
augment: {size: 32}
"""


def check_training():
    with open("job.yaml", "w") as f:
        f.write(JOB)
    traces = []
    for ranks in (1, 2):
        run("pretrain", "job.yaml", f"run=run{ranks}", "--trace-hash", ranks=ranks)
        with open(f"run{ranks}/trace-hash.txt", "rb") as f:
            traces.append(f.read())
    assert traces[0] == traces[1] and traces[0].count(b"\n") > 6, "the hash traces differ"
    result = json.loads(run("evaluate", "knn", "run1", "--train", "train.h5", "--test", "test.h5", "--json"))
    with h5py.File("train.h5") as a, h5py.File("test.h5") as b:
        assert result["n_train"] == len(a["labels"]) and result["n_test"] == len(b["labels"])
    assert result["classes"] == 10 and 0 <= result["top1"] <= result["top5"] <= 1


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def leftovers(stem):
    return [n for n in os.listdir(".") if n.startswith(stem)]


def check_bad(good, directory):
    """Every bad photo on its own, then all of them together with a good one."""
    bad = sorted(n for n in os.listdir(directory) if n.endswith(("jpg", "png")))
    kept = {"no_eoi.jpg", "gif_renamed.jpg", "jpeg_named.png", "png_named.jpg"}
    warned = {"no_eoi.jpg"}
    for name in bad:
        os.makedirs("one/c")
        shutil.copyfile(os.path.join(directory, name), f"one/c/{name}")
        code = 0 if name in kept else 65
        run("prepare", "one", "--size", "16", "--force", "--out", "one.h5", "--on-bad", "fail", code=code, match=[re.escape(name)] if code else [])
        run("prepare", "one", "--size", "16", "--force", "--out", "one.h5", code=code, match=[re.escape(name)] if code else [])
        assert leftovers("one.h5") == (["one.h5"] if code == 0 else []), f"{name}: {leftovers('one.h5')}"
        shutil.rmtree("one")
        if code == 0:
            os.remove("one.h5")
    os.makedirs("mixed/c")
    for name in bad:
        shutil.copyfile(os.path.join(directory, name), f"mixed/c/{name}")
    shutil.copyfile(good, "mixed/c/good.jpg")
    Image.new("L", (1, 400000)).save("mixed/c/thin.png")
    bad.append("thin.png")
    for words in (["--size", "16"], [], ["--size", "16", "--crop", "none"]):
        result = json.loads(run("prepare", "mixed", *words, "--force", "--out", "mixed.h5", "--json",
                                match=[rf"skipped: mixed/c/{re.escape(n)}\b" for n in bad if n not in kept | {"thin.png"}] +
                                     [r"mixed/c/thin\.png\b"] + [rf"mixed/c/{re.escape(n)}:" for n in warned]))
        assert result["images"] == 1 + len(kept) and result["warned"] == len(warned), result
        assert result["bad"] == len(bad) - len(kept), result
    before = digest("mixed.h5")
    run("prepare", "mixed", "--force", "--out", "mixed.h5", "--on-bad", "fail", code=65, match=["mixed/c/"])
    assert digest("mixed.h5") == before and leftovers("mixed.h5") == ["mixed.h5"], "a refusal touched the old file"


def check_directories(directory):
    run("prepare", os.path.join(directory, "empty_class"), "--size", "16", "--force", "--out", "f.h5",
        match=[r"^warning: .*/dog\b", r"\b1 images, 1 classes\b"])
    result = run("prepare", os.path.join(directory, "stray_files"), "--size", "16", "--force", "--out", "f.h5", "--json",
                 match=[r"\b1 images, 1 classes\b", r"1 \.db, 1 \.txt"])
    assert json.loads(result)["bad"] == 0
    run("prepare", "nowhere", "--out", "g.h5", code=66, match=[r"^simile: nowhere\b"])
    os.makedirs("empty/train/a")
    run("prepare", "empty", "--out", "g.h5", code=66, match=[r"^simile: empty\b.*\bJPEG\b"])
    assert leftovers("g.h5") == []


def check_all(photos, bad):
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        items = gather(photos, "train", "part")
        gather(photos, "val", "part")
        check_square(items)
        check_encoded(items)
        check_training()
        check_bad(items[0][0], bad)
        check_directories(os.path.join(bad, "folder"))
        os.chdir("/")


with tempfile.TemporaryDirectory() as drawn:
    photos, bad = os.path.join(drawn, "photos"), os.path.join(drawn, "bad")
    pictures.write_photos(photos)
    pictures.write_bad(bad)
    check_all(photos, bad)
if os.path.isdir(SHARED):
    check_all(os.path.join(SHARED, "photos"), os.path.join(SHARED, "bad"))
else:
    print(f"skipped: the photographs of {SHARED}, which does not exist; drawn ones were used")
print("ok")
sys.exit(0)
