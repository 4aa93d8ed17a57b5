#!/usr/bin/python3
"""Embeddings against torchvision with the checkpoint's weights, and kNN against plain NumPy, on 1 to 4
ranks.

simile-test: timeout 600
"""
import glob
import json
import os
import struct
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import torch
import torchvision

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import MPIEXEC  # noqa: E402

SIMILE = os.environ["SIMILE"]
N, M, SIDE = 330, 101, 16


def write_idx(stem, n, r, base):
    labels = np.arange(n) % 10
    images = np.clip(base[labels] + r.randint(-110, 110, (n, SIDE, SIDE)), 0, 255).astype("u1")
    open(stem + "-images-idx3-ubyte", "wb").write(struct.pack(">4I", 0x803, n, SIDE, SIDE) + images.tobytes())
    open(stem + "-labels-idx1-ubyte", "wb").write(struct.pack(">2I", 0x801, n) + labels.astype("u1").tobytes())


def run(*words, ranks=0):
    front = [*MPIEXEC, "-np", str(ranks)] if ranks else []
    done = subprocess.run([*front, SIMILE, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def torch_model():
    block = torchvision.models.resnet.BasicBlock
    model = torchvision.models.ResNet(block, [2, 2, 2, 2])
    wide = [16, 32, 64, 128]
    model.inplanes = wide[0]
    model.conv1 = torch.nn.Conv2d(1, wide[0], 3, 1, 1, bias=False)
    model.bn1 = torch.nn.BatchNorm2d(wide[0])
    for i, c in enumerate(wide):
        setattr(model, f"layer{i + 1}", model._make_layer(block, c, 2, stride=1 if i == 0 else 2))
    model.maxpool = torch.nn.Identity()
    model.fc = torch.nn.Identity()
    return model


def knn(bank, queries, bank_labels, k, temperature):
    """Classes in the order of their votes, each neighbour with weight exp(similarity / temperature), by
    plain loops in double precision; ties go to the smaller index."""
    bank = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    out = []
    for q in queries:
        s = bank @ q
        order = np.lexsort((np.arange(len(s)), -s))[:k]
        weight = np.zeros(10)
        for j in order:
            weight[bank_labels[j]] += np.exp(s[j] / temperature)
        out.append(np.lexsort((np.arange(10), -weight)))
    return np.array(out)


os.environ["OMP_NUM_THREADS"] = "1"
with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    r = np.random.RandomState(1)
    base = r.randint(0, 255, (10, SIDE, SIDE))
    for stem, n in (("train", N), ("t10k", M)):
        write_idx(stem, n, r, base)
    run("prepare", ".", "--format", "idx", "--out", "a.h5")
    run("prepare", ".", "--format", "idx", "--split", "test", "--out", "b.h5")
    open("job.yaml", "w").write("""
run: run
data: {train: a.h5}
method: {name: simclr}
encoder: {width: 0.25}
batch: 64
schedule: {steps: 6}
augment: {preset: digits}
""")
    run("pretrain", "job.yaml")
    run("embed", "run", "--data", "a.h5", "--out", "ea.h5", ranks=1)
    run("embed", "run", "--data", "b.h5", "--out", "eb.h5", ranks=3)
    run("embed", "run", "--data", "b.h5", "--out", "eb1.h5", ranks=1)
    with h5py.File("ea.h5") as f, h5py.File("eb.h5") as g, h5py.File("eb1.h5") as h:
        bank, queries, labels, truth = f["features"][()], g["features"][()], f["labels"][()], g["labels"][()]
        assert np.array_equal(queries, h["features"][()]) and np.array_equal(g["projections"][()], h["projections"][()])
    checkpoint = sorted(glob.glob("run/checkpoints/*.h5"))[-1]
    model = torch_model()
    with h5py.File(checkpoint) as f:
        names = model.state_dict()
        model.load_state_dict({n: torch.tensor(np.array(f["weights/encoder/" + n])) for n in names}, strict=True)
        assert f.attrs["format"] == b"simile-checkpoint" and f["step"][()] == 6
    model.eval()
    with h5py.File("b.h5") as f, h5py.File("a.h5") as bank_file, torch.no_grad():
        x = f["images"][()].astype("f4") / 255
        x = (x - bank_file.attrs["mean"]) / bank_file.attrs["std"]  # of the training set
        want = model(torch.tensor(x.transpose(0, 3, 1, 2)).float()).numpy()
    error = np.abs(want - queries).max() / np.abs(want).max()
    assert error < 1e-4, error
    for k in (200, 7, 1000):
        results = [json.loads(run("evaluate", "knn", "run", "--train", "a.h5", "--test", "b.h5", "--k", str(k), "--json",
                                  ranks=p)) for p in (1, 2, 3, 4)]
        assert all(v == results[0] for v in results), results
        got = results[0]
        order = knn(bank.astype("f8"), queries.astype("f8"), labels, min(k, N), 0.1)
        top1, top5 = (order[:, 0] == truth).mean(), (order[:, :5] == truth[:, None]).any(1).mean()
        assert abs(got["top1"] - top1) <= 1.5 / M and abs(got["top5"] - top5) <= 1.5 / M, (got, top1, top5)
        assert got["k"] == min(k, N) and got["n_train"] == N and got["dim"] == 128 and got["classes"] == 10
    # Several k and temperatures in one search are those of single searches; /features of a file are those of the run.
    grid = json.loads(run("evaluate", "knn", "--features", "ea.h5", "eb.h5", "--k", "1,7,200", "--temperature", "0.07,0.1",
                          "--json", ranks=2))
    assert [(r["k"], r["temperature"]) for r in grid["results"]] == [(k, t) for k in (1, 7, 200) for t in (0.07, 0.1)]
    assert grid["features"] == "file" and grid["train"] == {"path": "ea.h5"} and "checkpoint" not in grid
    for r in grid["results"]:
        order = knn(bank.astype("f8"), queries.astype("f8"), labels, r["k"], r["temperature"])
        assert abs(r["top1"] - (order[:, 0] == truth).mean()) <= 1.5 / M, r
    # The outputs of the projector, from the run and from a file of another program: float64, float16, labels of 1 byte.
    words = ["--train", "a.h5", "--test", "b.h5", "--k", "7", "--json"]
    projected = json.loads(run("evaluate", "knn", "run", "--projector", *words, ranks=3))
    with h5py.File("ea.h5") as f, h5py.File("eb.h5") as g:
        order = knn(f["projections"][()].astype("f8"), g["projections"][()].astype("f8"), labels, 7, 0.1)
        assert abs(projected["top1"] - (order[:, 0] == truth).mean()) <= 1.5 / M and projected["dim"] == 128
        assert projected["features"] == "projector"
        for name, source, kind in (("pa.h5", f, "f8"), ("pb.h5", g, "f4")):
            with h5py.File(name, "w") as out:
                out["features"], out["labels"] = source["projections"][()].astype(kind), source["labels"][()].astype("u1")
    other = json.loads(run("evaluate", "knn", "--features", "pa.h5", "pb.h5", "--k", "7", "--json"))
    assert other["top1"] == projected["top1"], (other, projected)

    def refused(code, text, features, labels, other="pb.h5"):
        with h5py.File("bad.h5", "w") as out:
            for key, value in (("features", features), ("labels", labels)):
                if value is not None:
                    out[key] = value
        done = subprocess.run([SIMILE, "evaluate", "knn", "--features", "bad.h5", other], capture_output=True, text=True)
        assert done.returncode == code and text in done.stderr and "bad.h5" in done.stderr, (done, text)

    x, y = np.ones((6, 128), "f4"), np.arange(6) % 2
    refused(65, "/features", None, y)
    refused(65, "no labels", x, None)
    refused(65, "/labels", x, y[:5])
    refused(65, "-1", x, y - 1)
    refused(65, "/features", x[0], y)
    refused(65, "/features", x.astype("i4")[:, :, None], y)
    refused(65, "64", x[:, :64], y)
    x[3, 5] = np.nan
    refused(65, "row 3", x, y)
print("ok")
sys.exit(0)
