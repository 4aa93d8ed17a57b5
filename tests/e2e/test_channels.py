#!/usr/bin/python3
"""Images of 5 and 12 channels and of 16 bits or floats: features against PyTorch on tensors that this
test normalizes by itself, the same bits on 1 to 4 ranks and after a stop, --init from RGB weights, exports,
pictures, and refusals of what has no meaning for such images.

simile-test: timeout 900
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import torch
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from exports import embedded, script  # noqa: E402
from program import methods, simile, small_method, traced_run  # noqa: E402

random = np.random.RandomState(3)
JOB = """run: run
data: {train: train.h5}
method: {name: simclr}
encoder: {arch: resnet18, stem: cifar, width: 0.125}
batch: 16
block: 4
schedule: {steps: 3}
augment: {preset: satellite}
"""


def data_set(name, images, *options):
    with h5py.File("raw.h5", "w") as f:
        f["images"], f["labels"] = images, np.arange(len(images)) % 3
    return simile("prepare", "raw.h5", "--out", name, "--force", *options).stderr


def bands(n, dtype, c=12):
    """Channels of very different brightness, one of them constant."""
    x = random.rand(n, 14, 18, c) * np.logspace(1, 4, c)
    x[..., 3] = 77
    return x.astype(dtype)


def check(what, got, want, bound=1e-4):
    error = np.abs(got - want).max() / np.abs(want).max()
    assert got.shape == want.shape and error <= bound, f"{what}: largest relative difference {error}"


def expected(run, images):
    """Features of an exported encoder for images that are normalized here."""
    simile("export", run, "--out", "export", "--force")
    net, transform = script("export").load_encoder("export")
    with h5py.File("train.h5") as f:
        mean, std = f.attrs["mean"], f.attrs["std"]
    x = (images.astype("f8") - mean) / np.where(std > 0, std, 1)
    with torch.no_grad():
        own = net(torch.tensor(x.transpose(0, 3, 1, 2)).float()).numpy()
        check("transform", torch.stack([transform(i) for i in images]).numpy(), x.transpose(0, 3, 1, 2), 1e-5)
    return own


def features_are_those_of_pytorch():
    for dtype in "u2", "f4":
        x, y = bands(48, dtype), bands(10, dtype)
        data_set("train.h5", x)
        data_set("test.h5", y)
        shutil.rmtree("run", ignore_errors=True)
        simile("pretrain", "job.yaml")
        check(dtype, embedded("run", "test.h5")["features"], expected("run", y))
        subprocess.run([sys.executable, "export/load_encoder.py", "export"], check=True, capture_output=True)
    with open("export/encoder.json") as f:
        p = json.load(f)["preprocessing"]
    assert p["sample_type"] == "float32" and len(p["mean"]) == len(p["scale_low"]) == 12
    simile("evaluate", "knn", "run", "--train", "train.h5", "--test", "test.h5", "--k", "3")
    about = json.loads(simile("inspect", "train.h5", "--json").stdout)
    assert about["type"] == "float32" and about["shape"] == [14, 18, 12] and len(about["range"]) == 12


def ranks_change_no_bit():
    x = bands(48, "u2", 5)
    data_set("train.h5", x)
    want = traced_run((1, None, []))
    assert traced_run((3, None, ["loader_threads=3"])) == want
    assert traced_run((2, 1, []), (1, None, ["threads=2"])) == want


def every_method_trains():
    data_set("train.h5", bands(48, "u2", 5))
    for name, keys in methods().items():
        simile("pretrain", "job.yaml", f"run=all/{name}", "schedule.steps=1", "augment.preset=multichannel", *small_method(name, keys))


def weights_of_other_channels():
    """Filters of RGB are repeated and scaled; those of gray images are the sum."""
    data_set("train.h5", random.randint(0, 256, (48, 14, 18, 3)).astype("u1"))
    shutil.rmtree("rgb", ignore_errors=True)
    simile("pretrain", "job.yaml", "run=rgb")
    newest = "rgb/checkpoints/" + open("rgb/checkpoints/latest").read().strip()
    with h5py.File(newest) as f:
        rgb = f["weights/encoder/conv1.weight"][()]
    for c in 1, 2, 5, 12:
        data_set("train.h5", bands(48, "u2", 12)[..., :c])
        shutil.rmtree("run", ignore_errors=True)
        log = simile("pretrain", "job.yaml", "--init", "rgb", "--stop-after", "0", code=75).stderr
        assert "conv1" in log and "their own mean and std" in log, log
        with h5py.File("run/checkpoints/step-000000000.h5") as f:
            got = f["weights/encoder/conv1.weight"][()]
        want = rgb.sum(1, keepdims=True) if c == 1 else rgb[:, np.arange(c) % 3] * np.float32(3 / c)
        check(f"{c} channels", got, want, 1e-6)


def pictures():
    """More than 3 channels are drawn as the first three, two as red and green."""
    for c in 1, 2, 5:
        data_set("train.h5", bands(48, "u2", 12)[..., :c])
        simile("plan", "job.yaml", "--preview", f"{c}.png")
        x = np.asarray(Image.open(f"{c}.png"))
        inside = x[(x != 255).any(2)]
        assert x.shape[2] == 3 and inside.std() > 10
        assert (c == 1) == bool((inside[:, 0] == inside[:, 2]).all())
        assert c != 2 or inside[:, 2].max() == 0


def refusals():
    data_set("train.h5", bands(48, "u2"))
    for preset, word, instead in ("simclr-cifar", "jitter", "channel_jitter"), ("byol", "jitter", "multichannel"):
        log = simile("plan", "job.yaml", f"augment.preset={preset}", code=78).stderr
        assert word in log and instead in log and "12" in log, log
    shutil.rmtree("run", ignore_errors=True)
    simile("pretrain", "job.yaml")
    data_set("other.h5", bands(48, "u2", 5))
    assert "5 channels" in simile("embed", "run", "--data", "other.h5", "--out", "e.h5", code=65).stderr
    data_set("other.h5", bands(48, "f4"))
    assert "--type uint16" in simile("embed", "run", "--data", "other.h5", "--out", "e.h5", code=65).stderr
    # hostile metadata
    for change, word in (("range", "range"), ("std", "std"), ("version", "format_version"), ("pixel", "digest")):
        shutil.copy("train.h5", "bad.h5")
        with h5py.File("bad.h5", "r+") as f:
            if change == "range":
                f.attrs["range"] = np.zeros((12, 2))
            elif change == "std":
                f.attrs["std"] = np.full(12, np.nan)
            elif change == "version":
                f.attrs["format_version"] = 2
            else:
                f["images"][0, 0, 0, 0] += 1
        assert word in simile("pretrain", "job.yaml", "run=bad", "data.train=bad.h5", code=65).stderr, change


def ranks_prepare_the_same_file():
    x = bands(90, "f4")
    data_set("one.h5", x)
    with h5py.File("raw.h5", "w") as f:
        f["images"], f["labels"] = x, np.arange(90) % 3
    simile("prepare", "raw.h5", "--out", "two.h5", "--force", ranks=3)
    assert open("one.h5", "rb").read() == open("two.h5", "rb").read()


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    with open("job.yaml", "w") as f:
        f.write(JOB)
    for part in (features_are_those_of_pytorch, ranks_change_no_bit, every_method_trains, weights_of_other_channels, pictures, refusals,
                 ranks_prepare_the_same_file):
        part()
        print(part.__name__)
