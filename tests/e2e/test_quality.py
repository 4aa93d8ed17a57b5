#!/usr/bin/python3
"""Measures without labels against NumPy: effective rank, uniformity and similarities of the features
that `embed` writes, alignment of views whose operations are known.

simile-test: timeout 600
"""
import json
import os
import sys
import tempfile

import h5py
import numpy as np

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import simile  # noqa: E402

N = 333
random = np.random.RandomState(2)
JOB = """run: run
data: {train: train.h5}
method: {name: simclr}
encoder: {arch: resnet18, width: 0.125}
batch: 32
block: 8
schedule: {steps: 3}
augment: {view1: [], view2: [{op: flip, p: 1}]}
"""


def quality(*words, ranks=1):
    return json.loads(simile("evaluate", "quality", *words, "--json", ranks=ranks).stdout.splitlines()[-1])


def embedded(name, key="features"):
    simile("embed", "run", "--data", name, "--out", "e.h5", "--force")
    with h5py.File("e.h5") as f:
        return f[key][()].astype("f8")


def close(got, want, bound=2e-4):
    assert abs(got - want) <= bound * max(1, abs(want)), (got, want)


def check_pairs(got, s):
    assert got["n"] == len(s)
    close(got["mean"], s.mean())
    close(got["std"], s.std())
    want = np.histogram(np.clip(s, -1, 1), 40, (-1, 1))[0]  # products of unit rows exceed 1 by a rounding
    assert sum(got["histogram"]) == len(s) and np.abs(want - got["histogram"]).sum() <= 2 + len(s) // 1000


def check_set(got, x):
    values = np.linalg.svd(x, compute_uv=False)
    p = values / values.sum() + 1e-7
    close(got["rankme"], np.exp(-(p * np.log(p)).sum()), 1e-6)
    z = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = np.triu_indices(len(z), 1)
    distance = ((z[pairs[0]] - z[pairs[1]]) ** 2).sum(1)
    close(got["uniformity"], np.log(np.exp(-2 * distance).mean()))
    check_pairs(got["negatives"], (z @ z.T)[pairs])
    assert got["n_images"] == len(x) and got["dim"] == x.shape[1]


def check_views(got, x, flipped):
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, flipped))
    close(got["alignment"], ((a - b) ** 2).sum(1).mean())
    check_pairs(got["positives"], (a * b).sum(1))


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    images = np.repeat(np.repeat(random.randint(0, 256, (N, 4, 4, 3)), 2, 1), 2, 2).astype("u1")
    for name, pixels in (("train", images), ("flipped", images[:, :, ::-1])):
        with h5py.File("raw.h5", "w") as f:
            f["images"] = pixels
        simile("prepare", "raw.h5", "--out", name + ".h5")
    open("job.yaml", "w").write(JOB)
    simile("pretrain", "job.yaml")
    results = [quality("run", ranks=p) for p in (1, 2, 3, 4)]
    assert all(r == results[0] for r in results), results
    assert results[0]["test"]["path"] == "train.h5" and "alignment" in results[0]  # no data.test: data.train
    x = embedded("train.h5")
    check_set(results[0], x)
    check_views(results[0], x, embedded("flipped.h5"))
    projected = quality("run", "--projector")
    check_set(projected, embedded("train.h5", "projections"))
    check_views(projected, embedded("train.h5", "projections"), embedded("flipped.h5", "projections"))
    check_set(quality("run", "--images", "50", ranks=3), x[[i * N // 50 for i in range(50)]])
    assert os.path.exists("run/results/quality-step-000000003-images-50.json")
    # Files of features: no labels, no views; more rows than a tile; a collapsed and an orthogonal embedding.
    for rows in (random.normal(size=(1500, 20)), np.tile(random.normal(size=20), (40, 1)), np.eye(24) * 3):
        with h5py.File("f.h5", "w") as f:
            f["features"] = rows.astype("f4")
        result = quality("--features", "f.h5", ranks=2)
        assert "alignment" not in result and "positives" not in result
        check_set(result, rows.astype("f4").astype("f8"))
    for images_option in ("1", "0", "x", "1000000"):
        simile("evaluate", "quality", "run", "--images", images_option, code=64)
    with h5py.File("f.h5", "w") as f:
        f["features"] = np.full((5, 4), np.inf, "f4")
    assert "row 0" in simile("evaluate", "quality", "--features", "f.h5", code=65).stderr
print("ok")
