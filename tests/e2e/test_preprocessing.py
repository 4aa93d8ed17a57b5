#!/usr/bin/python3
"""A model normalizes every data set by the mean and std of its training set, whatever file it is
given, and resizes images to the size of its training.  Features are compared with those of torchvision
on tensors that this test preprocesses by itself.

simile-test: timeout 600
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
import torchvision
import torchvision.transforms.functional as F
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import simile  # noqa: E402

GOLDEN = os.path.join(os.environ["SIMILE_SOURCE"], "tests/golden/0.2.0-alpha")
random = np.random.RandomState(5)
JOB = """run: run
data: {train: train.h5, test: dark.h5}
method: {name: simclr}
encoder: {arch: resnet18, stem: cifar}
batch: 16
block: 8
schedule: {epochs: 1}
evaluate: {knn_every_epochs: 1, k: 5}
"""


def output(*words, ranks=1, code=0):
    done = simile(*words, ranks=ranks, code=code)
    return done.stdout + done.stderr


def data_set(name, images, labels=True, *options):
    with h5py.File("raw.h5", "w") as f:
        f["images"] = images
        if labels:
            f["labels"] = np.arange(len(images)) % 3
    simile("prepare", "raw.h5", "--out", name + ".h5", *options)


def statistics(path):
    with h5py.File(path) as f:
        return f.attrs["mean"], f.attrs["std"]


def features(data, run="run", *options, ranks=1):
    simile("embed", run, "--data", data, "--out", "e.h5", *options, ranks=ranks)
    with h5py.File("e.h5") as f:
        return f["features"][()]


def model(checkpoint):
    net = torchvision.models.resnet18()
    net.conv1, net.maxpool, net.fc = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), torch.nn.Identity(), torch.nn.Identity()
    with h5py.File(checkpoint) as f:
        net.load_state_dict({n: torch.tensor(np.array(f["weights/encoder/" + n])) for n in net.state_dict()})
    return net.eval()


def expected(net, images):
    mean, std = statistics("train.h5")
    x = (images.astype("f4") / 255 - mean) / std
    with torch.no_grad():
        return net(torch.tensor(x.transpose(0, 3, 1, 2)).float()).numpy()


def resized(images):
    """The shorter side resized to 16, then the centre, as the evaluation of torchvision."""
    x = torch.tensor(images.transpose(0, 3, 1, 2)).float()
    x = F.center_crop(F.resize(x, 16, antialias=True), 16)
    return x.numpy().transpose(0, 2, 3, 1)


def check(what, got, want, bound=1e-4):
    error = np.abs(got - want).max() / np.abs(want).max()
    assert got.shape == want.shape and error <= bound, f"{what}: largest relative difference {error}"


def newest(run):
    return os.path.join(run, "checkpoints", open(f"{run}/checkpoints/latest").read().strip())


def check_new_checkpoints():
    """The checkpoint holds the preprocessing; the data set's own statistics do not matter."""
    x = random.randint(0, 256, (48, 16, 16, 3)).astype("u1")
    dark, large = x[:24] // 3, random.randint(0, 256, (10, 24, 32, 3)).astype("u1")
    data_set("train", x)
    data_set("dark", dark)
    data_set("large", large, False)
    data_set("gray", x[..., 0])
    open("job.yaml", "w").write(JOB)
    log = output("pretrain", "job.yaml")
    net = model(newest("run"))
    check("dark images", features("dark.h5"), expected(net, dark))
    os.rename("train.h5", "kept.h5")  # nothing but the checkpoint is needed
    without_training_set = features("dark.h5", ranks=2)
    os.rename("kept.h5", "train.h5")
    check("two ranks, no training set", without_training_set, expected(net, dark))
    check("larger images", features("large.h5"), expected(net, resized(large)))
    assert "gray.h5" in output("embed", "run", "--data", "gray.h5", "--out", "e.h5", code=65)
    # Accuracy during training is that of the command, and that of neighbours found here.
    got = json.loads([line for line in output("evaluate", "knn", "run", "--train", "train.h5", "--test", "dark.h5", "--k", "5",
                                              "--json").splitlines() if line.startswith("{")][-1])
    assert f"kNN top-1 {100 * got['top1']:.2f} %" in log, (got, log)
    bank, queries = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (expected(net, x), expected(net, dark)))
    similarity = queries @ bank.T
    right = 0
    for i, row in enumerate(similarity):
        best = np.argsort(-row)[:5]
        right += np.bincount(best % 3, np.exp(row[best] / 0.1), 3).argmax() == i % 3
    assert abs(got["top1"] - right / 24) <= 1.5 / 24, (got, right)
    stored = json.loads(output("inspect", "run", "--json"))["preprocessing"]
    mean, std = statistics("train.h5")
    assert (stored["height"], stored["width"], stored["channels"]) == (16, 16, 3)
    assert stored["mean"] == mean.tolist() and stored["std"] == std.tolist()
    assert f"16 x 16 x 3, mean {mean[0]:.4f}" in output("inspect", "run")


def check_photos():
    """Photos that are resized by the program have the features of those that `prepare --size` resized."""
    for i, (w, h) in enumerate(((40, 24), (24, 41), (16, 63), (20, 20))):
        os.makedirs(f"photos/{i % 2}", exist_ok=True)
        Image.fromarray(random.randint(0, 256, (h // 4, w // 4, 3)).astype("u1")).resize((w, h)).save(f"photos/{i % 2}/{i}.png")
    simile("prepare", "photos", "--out", "photos.h5")
    simile("prepare", "photos", "--size", "16", "--out", "small.h5")
    names = h5py.File("photos.h5")["name"].asstr()[()]
    photos = [np.asarray(Image.open(os.path.join("photos", n))) for n in names]
    x = np.concatenate([resized(p[None]) for p in photos])
    net = model(newest("run"))
    check("photos", features("photos.h5"), expected(net, x))
    # A few pixels are half-way between two integers, of which either is right.
    check("photos that prepare resized", features("small.h5"), expected(net, np.rint(x)), 4e-3)


def check_training_on():
    """A model keeps its normalization when it is trained on other data."""
    mean, std = statistics("train.h5")
    for words in (["run=tuned", "data.train=dark.h5", "data.test=train.h5", "--init", "run"],
                  ["run=run", "data.train=dark.h5", "data.test=train.h5", "schedule.epochs=2", "--accept", "data,schedule.epochs"]):
        said = output("pretrain", "job.yaml", *words)
        assert "dark.h5" in said and "is ignored" not in said, said
        run = words[0][4:]
        stored = json.loads(output("inspect", run, "--json"))["preprocessing"]
        assert stored["mean"] == mean.tolist() and stored["std"] == std.tolist(), run
    # A run that has checkpoints does not start from --init, which is reported.
    said = output("pretrain", "job.yaml", "run=tuned", "data.train=dark.h5", "data.test=train.h5", "schedule.epochs=2",
                  "--accept", "schedule.epochs", "--init", "run")
    assert "--init run is ignored" in said and "another run directory" in said, said
    # Images of another size: the views keep the size of the model, or have the size that the job names.
    large = ["data.train=large.h5", "batch=8", "evaluate.knn_every_epochs=0", "--init", "run"]
    said = output("pretrain", "job.yaml", "run=large", *large, code=78)
    assert "augment.size=16" in said and "24 x 32" in said and "large.h5" in said and not os.path.exists("large"), said
    for size in (16, 20):
        said = output("pretrain", "job.yaml", f"run=sized-{size}", f"augment.size={size}", *large)
        assert ("warning: augment.size" in said) == (size != 16), said
        stored = json.loads(output("inspect", f"sized-{size}", "--json"))["preprocessing"]
        assert [stored["height"], stored["width"]] == [size, size], stored
    before = sorted(os.listdir("run/checkpoints"))
    words = ["data.train=large.h5", "evaluate.knn_every_epochs=0", "schedule.epochs=3", "--accept", "data,schedule.epochs"]
    said = output("pretrain", "job.yaml", "batch=8", *words, "--accept", "batch,data,schedule.epochs", code=65)
    assert "large.h5" in said and "16 x 16" in said and "24 x 32" in said and "augment.size" in said, said
    assert sorted(os.listdir("run/checkpoints")) == before
    # A run whose job names the size keeps it with any data.
    words[-1] += ",batch"
    shutil.copytree("sized-16", "other-data")
    output("pretrain", "job.yaml", "run=other-data", "augment.size=16", "batch=8", *words[1:], "data.train=train.h5")
    stored = json.loads(output("inspect", "other-data", "--json"))["preprocessing"]
    assert [stored["height"], stored["width"]] == [16, 16], stored
    check("a tuned model", features("dark.h5", "tuned"), expected(model(newest("tuned")), h5py.File("dark.h5")["images"][()]))


def check_value_range():
    """A set of 16-bit images whose range differs from that of the training set is warned of."""
    deep = random.randint(0, 4096, (20, 16, 16, 3)).astype("u2")
    data_set("deep", deep, True, "--type", "uint8", "--range", "0:4095")
    data_set("narrow", deep, True, "--type", "uint8", "--range", "0:2000")
    simile("pretrain", "job.yaml", "run=deep", "data.train=deep.h5", "evaluate.knn_every_epochs=0")
    assert "warning" not in output("embed", "deep", "--data", "deep.h5", "--out", "e.h5")
    assert "--range 0:4095" in output("embed", "deep", "--data", "narrow.h5", "--out", "e.h5")


def check_old_checkpoints():
    """A checkpoint without preprocessing needs its training set, at its path or as --train."""
    shutil.copytree(GOLDEN, "old")
    os.chdir("old")
    subprocess.run(["xz", "-d", *(f"run/checkpoints/{f}" for f in os.listdir("run/checkpoints") if f.endswith(".xz"))], check=True)
    want = features("test.h5")
    os.rename("train.h5", "moved.h5")
    for options in ([], ["--train", "test.h5"]):
        assert "--train" in output("embed", "run", "--data", "test.h5", "--out", "e.h5", *options, code=65)
    assert np.array_equal(features("test.h5", "run", "--train", "moved.h5"), want)
    assert features("moved.h5").shape == (96, want.shape[1])  # it is the training set itself
    shutil.copy("test.h5", "train.h5")  # another file at its path
    assert "--train" in output("embed", "run", "--data", "test.h5", "--out", "e.h5", code=65)
    simile("evaluate", "knn", "run", "--train", "moved.h5", "--test", "test.h5")
    simile("evaluate", "knn", "run", "--train", "test.h5", "--test", "test.h5", code=65)
    os.chdir("..")


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    check_new_checkpoints()
    check_photos()
    check_training_on()
    check_value_range()
    check_old_checkpoints()
print("ok")
