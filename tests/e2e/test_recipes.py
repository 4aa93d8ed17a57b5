#!/usr/bin/python3
"""All jobs of jobs/ are valid, and those for STL-10, Tiny ImageNet, ImageNet-100 and EuroSAT train on small data of
the shapes that they name, prepared by the commands in their comments.

simile-test: timeout 900
"""
import glob
import os
import re
import shutil

import h5py
import numpy as np
from PIL import Image

from common import expect_lines, remove_scratch, run, scratch

JOBS = os.path.join(os.environ["SIMILE_SOURCE"], "jobs")
SMALL = ["encoder.width=0.0625", "batch=16", "block=8", "schedule.epochs=1", "schedule.warmup_epochs=0", "schedule.warmup_steps=0"]
random = np.random.RandomState(3)
os.chdir(scratch)


def photos(directory, n, side):
    os.makedirs(directory)
    for i in range(n):
        Image.fromarray(random.randint(0, 256, (side, side, 3)).astype("u1")).save(f"{directory}/{i}.png")


def commands(name):
    """The prepare commands in the comment of a job."""
    with open(os.path.join(JOBS, name)) as f:
        found = re.findall(r"^#   simile (prepare .*)$", f.read(), re.M)
    assert found, name
    return [c.split() for c in found]


def train(name, *words):
    directory = os.path.join(scratch, "run")
    shutil.rmtree(directory, ignore_errors=True)
    text = run(1, "pretrain", os.path.join(JOBS, name), f"run={directory}", *SMALL, *words)
    assert os.listdir(os.path.join(directory, "checkpoints"))
    return text


jobs = sorted(glob.glob(os.path.join(JOBS, "*.yaml")))
assert len(jobs) > 28
for path in jobs:
    assert run(1, "plan", path, "--value", "run").startswith("runs/"), path

# ---- STL-10: the binary version, three files of which are made here ----
for split, n in (("unlabeled", 40), ("train", 20), ("test", 20)):
    os.makedirs("stl10_binary", exist_ok=True)
    random.randint(0, 256, (n, 3, 96, 96)).astype("u1").tofile(f"stl10_binary/{split}_X.bin")
    if split != "unlabeled":
        (np.arange(n) % 10 + 1).astype("u1").tofile(f"stl10_binary/{split}_y.bin")
for words in commands("simclr_stl10.yaml"):
    run(1, *[w.replace("stl10_binary.tar.gz", "stl10_binary") for w in words])
text = train("simclr_stl10.yaml")
expect_lines(text, r"data      unlabeled.h5, labelled.h5: 60 images of 96 x 96 x 3, ")
expect_lines(text, r"labels are not used: only some of the data sets have labels$")
run(1, "evaluate", "knn", "run", "--train", "labelled.h5")

# ---- Tiny ImageNet ----
for k in range(4):
    photos(f"tiny-imagenet-200/train/n0{k}/images", 8, 64)
    photos(f"tiny-imagenet-200/val/n0{k}", 4, 64)
for words in commands("simclr_tinyimagenet.yaml"):
    run(1, *words)
text = train("simclr_tinyimagenet.yaml", "schedule.milestones=[]")
expect_lines(text, r"data      train.h5: 32 images of 64 x 64 x 3, ")
run(1, "plan", os.path.join(JOBS, "simclr_tinyimagenet.yaml"), "batch=16", "block=8", "encoder.width=0.0625")
run(1, "evaluate", "knn", "run")

# ---- ImageNet-100 ----
with open(os.path.join(JOBS, "imagenet100.txt")) as f:
    ids = [line.strip() for line in f if line.strip() and not line.startswith("#")]
assert len(ids) == len(set(ids)) == 100 and all(re.fullmatch(r"n\d{8}", i) for i in ids)
for split in ("train", "val"):
    for i in (*ids, "n01440764", "n01443537", "n15075141"):
        photos(f"imagenet/{split}/{i}", 1, 20)
os.symlink(JOBS, "jobs")
for words in commands("simclr_imagenet100.yaml"):
    run(1, *[{"256": "20"}.get(w, w) for w in words], "--force")
text = train("simclr_imagenet100.yaml", "augment.size=16")
expect_lines(text, r"classes of jobs/imagenet100.txt: 100 of 103 classes, 100 of 103 images$")
run(1, "evaluate", "knn", "run")

# ---- EuroSAT ----
for k in range(3):
    photos(f"EuroSAT/2750/Class{k}", 10, 64)
shutil.make_archive("EuroSAT", "zip", "EuroSAT")
for words in commands("simclr_eurosat.yaml"):
    run(1, *words, "--force")
text = train("simclr_eurosat.yaml")
expect_lines(text, r"data      train.h5: 24 images of 64 x 64 x 3, ")
with h5py.File("test.h5") as f:
    assert len(f["labels"]) == 6 and len(f["classes"]) == 3
remove_scratch()
print("ok")
