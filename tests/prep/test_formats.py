#!/usr/bin/python3
"""Every source format of data-prep/formats.def converts a tiny source of its kind: the images and
labels of the data set, read by h5py, equal those of the source, and the format is detected.  A
format without a case fails.

simile-test: timeout 120 labels unit
"""
import io
import json
import os
import re
import subprocess
import tarfile
import tempfile

import h5py
import numpy as np
from PIL import Image

SIMILE = os.environ["SIMILE"]
random = np.random.RandomState(5)


def formats():
    """The program's own list, from the message about an unknown format."""
    os.mkdir("empty")
    done = subprocess.run([SIMILE, "prepare", "empty", "--out", "x.h5", "--format", "?"], capture_output=True, text=True)
    assert done.returncode == 64, done.stderr
    return re.search(r"\w+(\|\w+)+", done.stderr).group().split("|")


def pixels(*shape):
    return random.randint(0, 256, shape).astype("u1")


# Each case writes a source and returns its path, the images [n][h][w][c] and the labels.


def make_idx():
    x, y = pixels(9, 5, 7), np.arange(9) % 4
    os.mkdir("idx")
    with open("idx/train-images-idx3-ubyte", "wb") as f:
        f.write(np.array([0x803, 9, 5, 7], ">u4").tobytes() + x.tobytes())
    with open("idx/train-labels-idx1-ubyte", "wb") as f:
        f.write(np.array([0x801, 9], ">u4").tobytes() + y.astype("u1").tobytes())
    return "idx", x[..., None], y


def make_stl10():
    x, y = pixels(10, 96, 96, 3), (np.arange(10) * 3) % 10
    os.mkdir("stl")
    x.transpose(0, 3, 2, 1).tofile("stl/train_X.bin")
    (y + 1).astype("u1").tofile("stl/train_y.bin")
    return "stl", x, y


def make_hdf5():
    x, y = pixels(11, 6, 8, 3), np.arange(11) % 3
    with h5py.File("foreign.h5", "w") as f:
        f.create_dataset("images", data=x, chunks=(4, 6, 8, 3), compression="gzip")
        f["labels"] = y
    return "foreign.h5", x, y


def make_numpy():
    x, y = pixels(11, 6, 8, 3), np.arange(11) % 3
    np.savez_compressed("arrays.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    return "arrays.npz", x, y


def make_hdf5_photos():
    files = sorted(photos())
    with h5py.File("photos.h5", "w") as f:
        for name, _, _, data in files:
            f[name] = np.frombuffer(data, "u1")
    return "photos.h5", np.stack([f[1] for f in files]), [f[2] for f in files]


def make_cifar():
    x, y = pixels(7, 32, 32, 3), np.arange(7) * 4 % 10
    os.mkdir("cifar")
    records = np.concatenate([y[:, None].astype("u1"), x.transpose(0, 3, 1, 2).reshape(7, -1)], 1)
    records.tofile("cifar/data_batch_1.bin")
    return "cifar", x, y


def photos():
    """Square PNG files, so that --size of their side keeps every pixel."""
    files = []
    for i in range(6):
        x = pixels(10, 10, 3)
        out = io.BytesIO()
        Image.fromarray(x).save(out, "PNG")
        files.append((f"{'ab'[i % 2]}/{i}.png", x, i % 2, out.getvalue()))
    return files


def make_tar():
    files = photos()
    with tarfile.open("photos.tar", "w") as t:
        for name, _, _, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    files = sorted(files)  # as a directory of them
    return "photos.tar", np.stack([f[1] for f in files]), [f[2] for f in files]


def make_folder():
    files = sorted(photos())
    for name, _, _, data in files:
        os.makedirs(os.path.dirname("photos/" + name), exist_ok=True)
        with open("photos/" + name, "wb") as f:
            f.write(data)
    return "photos", np.stack([f[1] for f in files]), [f[2] for f in files]


def make_list():
    files = photos()
    rows = ["path,label"]
    for name, _, label, data in files:
        os.makedirs(os.path.dirname("listed/" + name), exist_ok=True)
        with open("listed/" + name, "wb") as f:
            f.write(data)
        rows.append(f"{name},{label}")
    with open("listed/files.csv", "w") as f:
        f.write("\n".join(rows))
    return "listed/files.csv", np.stack([f[1] for f in files]), [f[2] for f in files]  # in the order of the lines


OPTIONS = {name: ["--size", "10"] for name in ("list", "tar", "folder", "hdf5_photos")}


def check_format(name):
    make = globals().get("make_" + name)
    assert make, f"the format {name} of formats.def has no case in this test"
    source, images, labels = make()
    for words in ([], ["--format", name]):
        command = [SIMILE, "prepare", source, *OPTIONS.get(name, []), *words, "--force", "--out", "out.h5", "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        result = json.loads(done.stdout)
        assert result["format"] == name and result["images"] == len(images) and result["bad"] == 0, result
        with h5py.File("out.h5") as f:
            got = f["images"][()]
            assert got.shape == images.shape, f"{name}: {got.shape}, expected {images.shape}"
            assert (got == images).all(), f"{name}: {(got != images).sum()} values differ"
            assert f["labels"][()].tolist() == list(labels), f"{name}: labels {f['labels'][()]}"


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    names = formats()
    assert len(names) >= 9, names
    for name in names:
        check_format(name)
print("ok:", " ".join(names))
