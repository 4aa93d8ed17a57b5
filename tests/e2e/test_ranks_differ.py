#!/usr/bin/python3
"""Ranks that see another job, command, data set or file are refused before the first step: the message names the
rank and what differs.  Paths and resources may differ.

simile-test: timeout 900 processors 2
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import MPIEXEC  # noqa: E402
from program import simile  # noqa: E402

random = np.random.RandomState(3)
JOB = """run: run
data: {train: train.h5, test: test.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 16
block: 8
schedule: {steps: 3}
augment: {preset: digits}
checkpoint: {every_steps: 1}
evaluate: {knn_every_epochs: 1}
log: {every_steps: 1}
"""
EACH = """#!/bin/bash
cd r${OMPI_COMM_WORLD_RANK:-$PMI_RANK} && exec "$SIMILE" "$@"
"""


def data_set(name, n, seed):
    """Images of 12 x 12 and labels of 4 classes."""
    r = np.random.RandomState(seed)
    with h5py.File("raw.h5", "w") as f:
        f["images"] = r.randint(0, 256, (n, 12, 12, 1)).astype("u1")
        f["labels"] = (np.arange(n) % 4).astype("i4")
    simile("prepare", "raw.h5", "--force", "--out", name)


def ranks(*words, own=()):
    """Runs a command on two ranks, each in its directory; `own`: further words of rank 1."""
    start = [*MPIEXEC, "-np"]
    each = [os.path.abspath("each"), *words]
    command = [*start, "1", *each, ":", "-np", "1", *each, *own] if own else [*start, "2", *each]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def refused(code, *patterns, words=("pretrain", "job.yaml"), own=(), rank=1):
    done = ranks(*words, own=own)
    assert done.returncode == code, (done.returncode, code, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.startswith("simile:")]
    assert len(lines) == 1 and all(re.search(p, lines[0]) for p in (rf"rank {rank} on ", *patterns)), (patterns, done.stderr)
    assert not os.path.exists("r0/run") and not os.path.exists("r1/run"), "a refused run has a directory"


def accepted(words, own=()):
    done = ranks(*words, own=own)
    assert done.returncode == 0, done.stderr


def job(rank, change=lambda text: text):
    with open(f"r{rank}/job.yaml", "w") as f:
        f.write(change(JOB))


def check_jobs():
    """Keys of every kind: method, options of the method, augmentation, optimizer, seed, shape, length, free keys."""
    for old, new, key in (("name: simclr", "name: infonce", "method"), ("name: simclr", "name: simclr, temperature: 0.1", "method.temperature"),
                          ("preset: digits", "preset: none", "augment"), ("block: 8", "block: 8\nseed: 5", "seed"),
                          ("block: 8", "block: 8\noptimizer: {lr: 0.2}", "optimizer.lr"), ("batch: 16", "batch: 32", "batch"),
                          ("steps: 3", "steps: 2", "schedule.steps"), ("every_steps: 1}\nevaluate", "every_steps: 2}\nevaluate", "checkpoint.every_steps"),
                          ("knn_every_epochs: 1", "knn_every_epochs: 2", "evaluate.knn_every_epochs"), ("run: run", "run: other", "run")):
        job(1, lambda text: text.replace(old, new, 1))
        refused(78, rf'job\.yaml: "{re.escape(key)}.*on this rank')
    job(1)
    refused(64, "command line", "seed=1", own=["seed=1"])
    refused(64, "command line", "--stop-after", own=["--stop-after", "1"])
    job(1, lambda text: text.replace("train: train.h5", "train: ./train.h5") + "threads: 1\nloader_threads: 2\n")
    accepted(["pretrain", "job.yaml", f"run={os.getcwd()}/same"])
    job(1)


def check_data():
    """Another training set or test set, and other normalization of the same images."""
    for name in ("train.h5", "test.h5"):
        shutil.copy("other.h5", f"r1/{name}")
        refused(65, re.escape(name), "fingerprint", words=("pretrain", "job.yaml", "run=run2"))
        refused(65, re.escape(name), "fingerprint", words=("evaluate", "knn", "../model", "--train", "train.h5", "--test", "test.h5"))
        shutil.copy(name, f"r1/{name}")
    shutil.copy("other.h5", "r1/test.h5")
    refused(65, r"test\.h5", "fingerprint", words=("embed", "../model", "--data", "test.h5", "--out", "../e.h5"))
    shutil.copy("test.h5", "r1/test.h5")
    assert not os.path.exists("e.h5")


def check_files():
    """Files that every rank reads: features, embeddings for `simile loss`, weights of --init."""
    for rank in (0, 1):
        with h5py.File(f"r{rank}/features.h5", "w") as f:
            f["features"] = np.random.RandomState(rank).normal(size=(32, 8)).astype("f4")
            f["labels"] = (np.arange(32) % 4).astype("i4")
        with h5py.File(f"r{rank}/z.h5", "w") as f:
            for z in ("z1", "z2"):
                f[z] = np.random.RandomState(5).normal(size=(16, 8)).astype("f4")
            f["z2"][15, 7] += rank
        with h5py.File(f"r{rank}/init.h5", "w") as f, h5py.File("model/checkpoints/step-000000003.h5") as k:
            k.copy("weights", f)
            f["weights/encoder/conv1.weight"][0, 0, 0, 0] += rank
    refused(65, r"features\.h5", words=("evaluate", "knn", "--features", "features.h5", "features.h5"))
    refused(65, r"z\.h5", words=("loss", "job.yaml", "--in", "z.h5", "--out", "../g.h5"))
    assert not os.path.exists("g.h5")
    done = ranks("pretrain", "job.yaml", "run=../init", "--init", "init.h5")
    assert done.returncode == 65 and re.search(r"rank 1 on .*init\.h5", done.stderr), done.stderr


def check_prepare():
    """Another list of photos, another file of the same size, other options, and parts in another directory."""
    from PIL import Image
    os.makedirs("r0/photos/a")
    for i in range(9):
        Image.fromarray(random.randint(0, 256, (8, 8, 3)).astype("u1")).save(f"r0/photos/a/{i}.png")
    shutil.copytree("r0/photos", "r1/photos")  # with times
    prepare = ["prepare", "photos", "--size", "8", "--out"]
    accepted([*prepare, "../both.h5"])
    simile("prepare", "r0/photos", "--size", "8", "--out", "alone.h5")
    with h5py.File("both.h5") as f, h5py.File("alone.h5") as g:
        assert f.attrs["fingerprint"] == g.attrs["fingerprint"] and f.attrs["num_images"] == 9
    refused(65, r"rank-1-of-2", words=[*prepare, "own.h5"], rank=0)
    refused(64, "command line", "--limit", words=[*prepare, "../new.h5"], own=["--limit", "4"])
    shutil.copy("r0/photos/a/1.png", "r1/photos/a/0.png")
    refused(65, "photos", "sizes and times", words=[*prepare, "../new.h5"])
    shutil.copy("r0/photos/a/1.png", "r1/photos/a/9.png")
    refused(65, "photos", "9 images.*10 images|10 images.*9 images", words=[*prepare, "../new.h5"])
    assert not os.path.exists("new.h5") and not [n for n in os.listdir(".") if n.startswith("new")]
    assert not os.path.exists("r0/own.h5")


def check_corruption():
    """One flipped bit of mean, of std or of the shape, on any number of ranks."""
    with h5py.File("train.h5") as f:
        mean = f.attrs["mean"][0]
    with open("train.h5", "rb") as f:
        content = bytearray(f.read())
    content[content.find(mean.tobytes()) + 3] ^= 1
    with open("flipped.h5", "wb") as f:
        f.write(content)
    shutil.copy("flipped.h5", "r1/train.h5")
    refused(65, r"train\.h5", "fingerprint", words=("pretrain", "job.yaml", "run=run2"))
    shutil.copy("train.h5", "r1/train.h5")
    done = simile("pretrain", "job.yaml", "data.train=flipped.h5", "run=flipped", code=65)
    assert re.search(r"flipped\.h5.*fingerprint", done.stderr), done.stderr
    with h5py.File("train.h5") as f, h5py.File("raw.h5", "w") as g:
        g["images"] = f["images"][()].reshape(-1, 16, 9, 1)
        g["labels"] = f["labels"][()]
    simile("prepare", "raw.h5", "--out", "tall.h5")
    with h5py.File("raw.h5", "r+") as f:
        wide = f["images"][()].reshape(-1, 9, 16, 1)
        del f["images"]
        f["images"] = wide
    simile("prepare", "raw.h5", "--out", "wide.h5")
    with h5py.File("tall.h5") as f, h5py.File("wide.h5") as g:
        assert f["images"][()].tobytes() == g["images"][()].tobytes()
        assert f.attrs["fingerprint"] != g.attrs["fingerprint"]


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    data_set("train.h5", 48, 1)
    data_set("test.h5", 16, 2)
    data_set("other.h5", 48, 3)
    with open("each", "w") as f:
        f.write(EACH)
    os.chmod("each", 0o755)
    with open("job.yaml", "w") as f:
        f.write(JOB)
    simile("pretrain", "job.yaml", "run=model")
    for rank in (0, 1):
        os.mkdir(f"r{rank}")
        job(rank)
        for name in ("train.h5", "test.h5"):
            shutil.copy(name, f"r{rank}/{name}")
    check_jobs()
    for rank in (0, 1):
        shutil.rmtree(f"r{rank}/run", ignore_errors=True)
    check_data()
    check_files()
    check_prepare()
    check_corruption()
print("ok")
