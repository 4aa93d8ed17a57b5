# simile-test: timeout 600
"""The memory that `simile plan` predicts: the allocated bytes of every rank within 2 %, also the peak
during kNN, and the peak resident memory of the process within 15 % + 100 MB."""
import json
import os
import re
import subprocess
import sys
import tempfile

import h5py
import numpy as np

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import on_ranks  # noqa: E402

SIMILE = os.environ["SIMILE"]
JOB = """
run: unset
data: {train: train.h5, test: test.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.25}
batch: 24
block: 4
schedule: {steps: 2}
augment: {preset: digits}
"""


def prepare(name, n, side):
    rng = np.random.RandomState(3)
    with open(name + "-images-idx3-ubyte", "wb") as f:
        f.write(np.array([0x803, n, side, side], ">u4").tobytes())
        f.write(rng.randint(0, 255, (n, side, side), "u1").tobytes())
    with open(name + "-labels-idx1-ubyte", "wb") as f:
        f.write(np.array([0x801, n], ">u4").tobytes() + bytes(i % 10 for i in range(n)))
    subprocess.run([SIMILE, "prepare", name + "-images-idx3-ubyte", "--out", name + ".h5"],
                   check=True, stderr=subprocess.DEVNULL)


def prepare_pairs(name, n, side):
    with h5py.File("raw.h5", "w") as f:
        f["images"], f["pair"] = np.zeros((n, side, side, 1), "u1"), np.arange(n) // 2
        f["images"][::3] = 200
    subprocess.run([SIMILE, "prepare", "raw.h5", "--groups-key", "pair", "--out", name + ".h5"], check=True, stderr=subprocess.DEVNULL)


def close_to(what, planned, measured, share, slack=0):
    print(f"{what}: planned {planned / 1e6:.2f} MB, measured {measured / 1e6:.2f}")
    assert abs(planned - measured) <= share * measured + slack, what


def check(name, ranks, keys, searches=False, words=()):
    run = on_ranks(ranks)
    done = subprocess.run(run + [SIMILE, "pretrain", "job.yaml", "run=" + name, *words] + keys,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    with open(name + "/results/pretrain.json") as f:
        memory = json.load(f)["memory"]
    assert [m["rank"] for m in memory] == list(range(ranks)), memory
    for m in memory:
        what = f"{name}, rank {m['rank']} of {ranks}"
        planned, transient = m["planned_bytes"], m["planned_transient_bytes"]
        close_to(what + ", held", planned, m["held_bytes"], 0.02)
        close_to(what + ", process", planned + transient, m["process_bytes"], 0.15, 100e6)
        if searches and m["rank"] > 0:  # the peak of rank 0 is HDF5's buffer for a checkpoint
            close_to(what + ", with evaluations", planned + transient, m["ledger_peak_bytes"], 0.02)
    text = subprocess.run([SIMILE, "plan", "job.yaml", "--ranks", str(ranks)] + keys, text=True,
                          check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout
    largest = max(m["planned_bytes"] + m["planned_transient_bytes"] for m in memory)
    printed = float(re.search(r"at most +([0-9.]+) MB", text).group(1)) * 1e6
    close_to(name + ", printed by plan", printed, largest + 60e6, 0, 0.1e6)


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    prepare("train", 1000, 24)
    prepare("few", 96, 24)
    prepare("test", 6000, 24)
    with open("job.yaml", "w") as f:
        f.write(JOB)
    check("narrow", 1, [])
    check("wide", 1, ["encoder.width=0.5", "batch=8"])
    check("three", 3, [])
    check("groups", 3, ["batchnorm.group=2", "encoder.projector.bn=true", "loader_threads=2"])
    check("deep-three", 3, ["encoder.arch=resnet50", "batch=12", "batchnorm.group=4"])
    check("photo-stem", 1, ["encoder.stem=imagenet", "threads=2"])
    groups = ["batchnorm.group=4", "encoder.projector.bn=true"]
    check("micro-batches", 1, groups + ["micro_batch=8", "encoder.width=0.5"])
    check("micro-batches-three", 3, groups + ["micro_batch=4"])
    check("micro-batches-deep", 2, ["encoder.arch=resnet50", "batchnorm.group=2", "micro_batch=4"])
    moco = "method={name: mocov2, queue_size: 9000, symmetric: true, bn_buffers: ema}"
    check("queue", 3, [moco, "batchnorm.group=2"])
    check("keys", 2, ["method={name: mocov3, predictor_hidden: 100}", "encoder.projector.hidden=300"])
    check("micro-batches-queue", 2, [moco, "batchnorm.group=2", "micro_batch=4"])
    check("micro-batches-keys", 3, ["method={name: mocov3, predictor_hidden: 100}", "batchnorm.group=4", "micro_batch=4"])
    check("micro-batches-patches", 2, ["method={name: cpc, grid: 3, steps: 1}", "batchnorm.group=4", "micro_batch=8"])
    check("support-set", 3, ["method.name=nnclr", "method.queue_size=50000", "method.predictor_hidden=300"])
    multi_crop = ["augment={preset: digits, size: 24, small_views: 4}"]
    check("small-views", 3, multi_crop)
    check("small-views-groups", 2, multi_crop + groups + ["micro_batch=4", "encoder.width=0.5"])
    check("small-views-queue", 3, multi_crop + [moco, "batchnorm.group=2"])
    check("small-views-deep", 1, multi_crop + ["method={name: nnclr, queue_size: 9000, predictor_hidden: 300}", "encoder.arch=resnet50", "batch=12"])
    check("part", 1, ["data.fraction=0.5"])
    prepare_pairs("pairs", 100000, 12)
    check("pairs", 2, ["data.train=pairs.h5", "data.views_from=group"])
    check("pairs-part", 1, ["data.train=pairs.h5", "data.views_from=group", "data.fraction=0.5"])
    check("classifier", 3, ["method={name: supervised}", "data.test=test.h5", "schedule.steps=45"], searches=True)
    subprocess.run([SIMILE, "pretrain", "job.yaml", "run=trained"], check=True, stderr=subprocess.DEVNULL)
    check("frozen", 3, ["method={name: supervised}", "encoder.freeze=true", "encoder.width=0.25"], words=["--init", "trained"])
    check("knn", 3, ["data.train=few.h5", "data.test=test.h5", "schedule.steps=5", "encoder.width=0.125",
                     "evaluate.knn_every_epochs=1"], searches=True)
print("ok")
