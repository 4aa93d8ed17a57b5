"""Warnings before training about data that do not suit a job: labels of supcon, images in both sets,
photos that are smaller than the views.

simile-test: timeout 600
"""
import os
import re

import h5py
import numpy as np
from PIL import Image

from common import remove_scratch, run, scratch

os.chdir(scratch)
rng = np.random.default_rng(7)
N, BATCH = 96, 16


def data_set(name, labels):
    with h5py.File("raw.h5", "w") as f:
        f["images"] = rng.integers(0, 256, (len(labels), 12, 12, 3)).astype("u1")
        f["labels"] = np.asarray(labels)
    run(1, "prepare", "raw.h5", "--out", name)


def warnings(command, *keys):
    text = run(1, command, "job.yaml", *keys)
    return [line for line in text.splitlines() if re.search(r"^warning: (method.name|augment|\d+ of)", line)]


def anchors_without(labels, positive):
    """Simulates batches: the fraction of anchors without another image of their class, or without an
    image of another class."""
    labels, alone = np.asarray(labels), []
    for _ in range(3000):
        batch = labels[rng.permutation(len(labels))[:BATCH]]
        same = (batch[:, None] == batch).sum(1)
        alone.append(np.mean(same == 1 if positive else same == BATCH))
    return np.mean(alone)


with open("job.yaml", "w") as f:
    f.write("run: run\ndata: {train: train.h5}\nmethod: {name: supcon}\nencoder: {width: 0.0625}\n"
            f"batch: {BATCH}\nblock: 8\nschedule: {{steps: 1}}\n")

# ---- labels ----

data_set("one.h5", np.zeros(N, int))
data_set("own.h5", np.arange(N))
data_set("four.h5", np.arange(N) % 4)
uneven, pairs = np.arange(N) >= 90, np.arange(N) // 2
data_set("uneven.h5", uneven.astype(int))
data_set("pairs.h5", pairs)
for command, extra in ("plan", []), ("pretrain", ["method.denominator=decoupled"]):
    found = warnings(command, "run=one", "data.train=one.h5", *extra)
    assert len(found) == 1 and "class" in found[0] and "96" in found[0] and "one.h5" in found[0], found
found = warnings("plan", "data.train=own.h5")
assert len(found) == 1 and "simclr" in found[0], found
for name, labels, positive in ("uneven", uneven, False), ("pairs", pairs, True):
    found = warnings("plan", f"data.train={name}.h5")
    assert len(found) == 1, found
    percent, expected = float(re.search(r"(\d+) % of the anchors", found[0])[1]), 100 * anchors_without(labels, positive)
    assert abs(percent - expected) < 3, f"{name}: {percent} %, simulated {expected} %"
assert not warnings("plan", "data.train=four.h5")
for method in "simclr", "nnclr":  # do not use labels
    assert not warnings("plan", "data.train=one.h5", f"method.name={method}"), method
with h5py.File("raw.h5", "w") as f:
    f["images"] = rng.integers(0, 256, (N, 12, 12, 3)).astype("u1")
run(1, "prepare", "raw.h5", "--out", "none.h5")
assert "labels" in run(1, "plan", "job.yaml", "data.train=none.h5", expect=65)

# ---- views ----

for keys, n in (["augment.view1=[]", "augment.view2=[]"], 1), (["augment.view1=[]", "augment.view2=[flip]"], 0):
    assert len(warnings("plan", "data.train=four.h5", *keys)) == n, keys

# ---- images in both sets ----

test = ["method.name=simclr", "data.train=four.h5", "data.test=four.h5", "evaluate.knn_every_epochs=1"]
for command in "plan", "pretrain":
    found = warnings(command, "run=both", *test)
    assert len(found) == 1 and "96 of the 96 images" in found[0], found

# ---- photos ----

for i in range(20):
    os.makedirs(f"photos/{i % 2}", exist_ok=True)
    side = 300 if i == 3 else 20
    Image.fromarray(rng.integers(0, 256, (side + 5, side, 3)).astype("u1")).save(f"photos/{i % 2}/{i}.png")
run(1, "prepare", "photos", "--out", "photos.h5")
keys = ["method.name=simclr", "data.train=photos.h5", "batch=8", "block=4", "encoder.stem=imagenet"]
found = warnings("plan", *keys)
assert len(found) == 1 and "224 x 224" in found[0] and "augment.size=20" in found[0], found
assert not warnings("plan", *keys, "augment.size=20")
remove_scratch()
