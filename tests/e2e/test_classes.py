#!/usr/bin/python3
"""kNN between data sets with different class lists: classes are matched by name, images that are in
both sets are counted, rows of embeddings lead back to files.  The accuracy equals that of NumPy on
the embeddings.

simile-test: timeout 600
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import simile  # noqa: E402

random = np.random.RandomState(4)
JOB = """run: run
data: {train: train.h5, test: test.h5}
method: {name: simclr}
encoder: {width: 0.125}
batch: 32
block: 8
schedule: {epochs: 1}
evaluate: {knn_every_epochs: 1, k: 5}
"""


def photos(root, classes, n):
    """Photos whose brightness depends on the class, so that kNN is neither 0 nor 1."""
    for name in classes:
        os.makedirs(f"{root}/{name}")
        for i in range(n):
            x = random.normal(40 + 25 * "abcdef".index(name[0]), 30, (16, 16, 3))
            Image.fromarray(np.clip(x, 0, 255).astype("u1")).save(f"{root}/{name}/{i}.png")
    simile("prepare", root, "--size", "16", "--force", "--out", root + ".h5")


def embedded(data):
    simile("embed", "run", "--data", data, "--out", "e.h5")
    with h5py.File("e.h5") as f, h5py.File(data) as d:
        assert (f["id"][()] == np.arange(len(f["features"]))).all()
        assert (f["name"][()] == d["name"][()]).all() and (f["labels"][()] == d["labels"][()]).all()
        names = f["classes"][()]
        z = f["features"][()].astype("f8")
        return z / np.linalg.norm(z, axis=1, keepdims=True), names[f["labels"][()]]


def accuracy(k=5, temperature=0.1):
    """Weighted vote of the nearest training images, by class name."""
    bank, bank_names = embedded("train.h5")
    queries, names = embedded("test.h5")
    right = 0
    for q, name in zip(queries, names):
        s = bank @ q
        best = np.argsort(-s, kind="stable")[:k]
        votes = {}
        for i in best:
            votes[bank_names[i]] = votes.get(bank_names[i], 0) + np.exp(s[i] / temperature)
        right += max(votes, key=votes.get) == name
    return right / len(names)


def knn(*words, ranks=1):
    done = simile("evaluate", "knn", "run", "--train", "train.h5", "--test", "test.h5", "--k", "5", "--json", *words, ranks=ranks)
    return json.loads(done.stdout), done.stderr


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    photos("train", ["a", "b", "c", "e"], 24)
    photos("test", ["b", "d", "e"], 10)  # b and e have other numbers here; d is not in the training set
    with open("job.yaml", "w") as f:
        f.write(JOB)
    done = simile("pretrain", "job.yaml")
    assert "warning" in done.stderr and "1 of 3 classes of test.h5" in done.stderr, done.stderr
    for ranks in (1, 2):
        result, said = knn(ranks=ranks)
        assert abs(result["top1"] - accuracy()) < 1e-9, (result, accuracy())
        assert 0.2 < result["top1"] < 0.67 and "1 of 3 classes" in said and ": d" in said, (result, said)
    with open("run/metrics.jsonl") as f:
        online = [json.loads(line) for line in f if "knn_top1" in line]
    assert abs(online[-1]["knn_top1"] - result["top1"]) < 1e-4, online
    # images that are in both sets
    simile("prepare", "train", "--size", "16", "--limit", "8", "--force", "--out", "test.h5")
    assert "8 of the 8 images" in knn()[1]
    # a model that diverged
    assert "not finite" not in said
    shutil.copytree("run", "diverged")
    path = "diverged/checkpoints/" + open("run/checkpoints/latest").read().strip()
    content = open(path, "rb").read()
    open(path, "wb").write(content[:-64])  # without the trailer
    with h5py.File(path, "r+") as f:
        f["weights/encoder/bn1.weight"][0] = 3e38
        f["weights/encoder/bn1.bias"][0] = 3e38
    subprocess.run([os.path.join(os.environ["SIMILE_TOOLS"], "checkpoint_tool_seal"), path], check=True, capture_output=True)
    for ranks in 1, 2:
        said = simile("evaluate", "knn", "diverged", ranks=ranks).stderr
        assert re.search(r"warning: the features of \d+ of 96 images of train\.h5 are not finite", said), said
    # the training set itself, as a link or a copy, also during training
    os.symlink("train.h5", "link.h5")
    shutil.copy("train.h5", "copy.h5")
    for name in "train.h5", "link.h5", "copy.h5":
        for words in ["evaluate", "knn", "run", "--test", name], ["pretrain", "job.yaml", "run=same-" + name, "data.test=" + name]:
            said = simile(*words).stderr
            assert f"warning: 96 of the 96 images of {name} are also in train.h5" in said, (words, said)
    # the images of a set are of one class, or only one class is common: reported, also during training
    shutil.rmtree("test")
    for name, classes in ("one", "b"), ("common", "bd"), ("two", "ab"):
        photos(name, classes, 4)
    for train, test, named in (("train.h5", "one.h5", "4 images of one.h5"), ("one.h5", "two.h5", "4 images of one.h5"),
                               ("train.h5", "common.h5", "train.h5 and common.h5")):
        done = simile("evaluate", "knn", "run", "--train", train, "--test", test)
        words = [line for line in done.stderr.splitlines() if "one class" in line]
        assert len(words) == 1 and "warning" in words[0] and named in words[0], (test, done.stderr)
    done = simile("pretrain", "job.yaml", "run=online", "data.test=one.h5")
    assert any("warning" in line and "one class" in line and "one.h5" in line for line in done.stderr.splitlines())
    assert "one class" not in knn()[1]
    # no class in common; without names the numbers are compared, and a difference is reported
    photos("test", ["f"], 4)
    done = simile("evaluate", "knn", "run", "--train", "train.h5", "--test", "test.h5", code=65)
    assert "no class in common" in done.stderr, done.stderr
    with h5py.File("plain.h5", "w") as f:
        f["images"], f["labels"] = random.randint(0, 256, (6, 16, 16, 3)).astype("u1"), np.arange(6) % 3
    simile("prepare", "plain.h5", "--force", "--out", "test.h5")
    result, said = knn()
    assert "4 classes" in said and "compared as numbers" in said and result["classes"] == 4, said
    # equal numbers of classes, names in one set only: reported, unless the names are numbers
    x = random.randint(0, 256, (9, 16, 16, 3)).astype("u1")
    numbers = np.arange(9) % 3
    for name, labels in ("plain", numbers), ("text", np.array([b"zebra", b"ant", b"cow"])[numbers]), ("shifted", numbers - 1):
        with h5py.File("raw.h5", "w") as f:
            f["images"], f["labels"] = x ^ (name != "plain"), labels
        simile("prepare", "raw.h5", "--force", "--out", name + ".h5")

    def nearest(train, test):
        done = simile("evaluate", "knn", "run", "--train", train, "--test", test, "--k", "1", "--json")
        return json.loads(done.stdout)["top1"], done.stderr

    for pair in ("plain.h5", "text.h5"), ("text.h5", "plain.h5"):
        assert "with names" in nearest(*pair)[1], pair
    # labels -1, 0, 1 and 0, 1, 2 are compared by value: the nearest image has another label
    right, said = nearest("plain.h5", "shifted.h5")
    assert "1 of 3 classes" in said and ": -1" in said and right < 0.5, (right, said)
    with h5py.File("raw.h5", "w") as f:
        f["images"], f["labels"] = np.concatenate([x ^ 2, x[:1] ^ 128]), np.append(numbers, -1)
    simile("prepare", "raw.h5", "--force", "--out", "more.h5")
    assert nearest("more.h5", "plain.h5")[0] == 1
print("ok")
