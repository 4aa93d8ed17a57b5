#!/usr/bin/python3
"""Every format of `simile embed` has exactly the arrays of the HDF5 file, on 1 and 2 ranks; it replaces only
files of earlier embeddings, and a full disk leaves the old ones.

simile-test: timeout 300
"""
import csv
import json
import os
import re
import subprocess
import sys
import tempfile

import h5py
import numpy as np
from PIL import Image

SOURCE = os.environ["SIMILE_SOURCE"]
sys.path.append(os.path.join(SOURCE, "tests", "lib"))
from program import simile  # noqa: E402

random = np.random.RandomState(11)
CLASSES = ["plain", "with, comma", 'with "quotes"', "-=+"]
JOB = """run: run
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.0625, projector: {dim: 5}}
batch: 16
block: 8
schedule: {steps: 2}
augment: {preset: digits, size: 16}
"""


def photos():
    """Images with names and classes that need quotes."""
    for i in range(67):
        directory = f"photos/{CLASSES[i % len(CLASSES)]}"
        os.makedirs(directory, exist_ok=True)
        Image.fromarray(random.randint(0, 256, (16, 16, 3)).astype("u1")).save(f"{directory}/{i}, \"{i}\".png")
    simile("prepare", "photos", "--out", "train.h5")
    with h5py.File("raw.h5", "w") as f:
        f["images"] = random.randint(0, 256, (20, 16, 16, 3)).astype("u1")
    simile("prepare", "raw.h5", "--out", "bare.h5")  # without names and labels


def of_hdf5(path):
    out = {}
    with h5py.File(path) as f:
        for n in ("features", "projections", "labels", "id"):
            out[n] = f[n][()] if n in f else None
        for n in ("name", "classes"):
            out[n] = list(f[n].asstr()[()]) if n in f else None
    return out


def columns(header, letter):
    return [i for i, c in enumerate(header) if re.fullmatch(letter + r"\d+", c)]


def of_csv(path, want):
    with open(path, newline="", encoding="utf-8") as f:
        table = list(csv.reader(f, strict=True))
    header, table = table[0], table[1:]
    assert header[:5] == ["id", "name", "label", "class", "f0"]
    assert [int(r[0]) for r in table] == list(want["id"])
    assert [r[1] for r in table] == (want["name"] or [""] * len(table))
    labels = want["labels"]
    assert [r[2] for r in table] == [""] * len(table) if labels is None else [int(r[2]) for r in table] == list(labels)
    assert [r[3] for r in table] == ([want["classes"][k] for k in labels] if want["classes"] else [""] * len(table))
    for letter, name in (("f", "features"), ("p", "projections")):
        got = np.array([[r[i] for i in columns(header, letter)] for r in table]).astype("f4")
        assert (want[name] is None and got.size == 0) or np.array_equal(got, want[name]), name


def of_npy(path, want):
    base = path.removesuffix(".npy")
    got = np.load(path, allow_pickle=False)
    assert got.dtype == np.float32 and got.flags.c_contiguous and np.array_equal(got, want["features"])
    for part, key in (("projections", "projections"), ("labels", "labels"), ("names", "name")):
        file = f"{base}.{part}.npy"
        assert os.path.exists(file) == (want[key] is not None), file
        if want[key] is not None:
            a = np.load(file, allow_pickle=False)
            a = [n.decode() for n in a] if part == "names" else a
            assert np.array_equal(a, want[key]), part
    about = json.load(open(base + ".json"))
    assert about["format"] == "simile-embeddings" and about.get("classes") == want["classes"]
    assert about["checkpoint"].startswith("run") and re.fullmatch("[0-9a-f]{32}", about["fingerprint"])


def of_projector(path, want):
    tensors = np.loadtxt(os.path.join(path, "tensors.tsv"), delimiter="\t", dtype="f8", ndmin=2)
    assert np.array_equal(tensors.astype("f4"), want["features"])
    with open(os.path.join(path, "metadata.tsv"), encoding="utf-8") as f:
        lines = f.read().split("\n")
    assert lines[0] == "id\tname\tclass" and lines[-1] == ""
    rows, n = [line.split("\t") for line in lines[1:-1]], len(tensors)
    assert [int(r[0]) for r in rows] == list(want["id"])
    plain = [re.sub(r"[\x00-\x1f]", " ", name) for name in want["name"] or [""] * n]
    assert [r[1] for r in rows] == plain
    labels = want["labels"]
    classes = [""] * n if labels is None else [want["classes"][k] if want["classes"] else str(k) for k in labels]
    assert [r[2] for r in rows] == classes
    with open(os.path.join(path, "projector_config.pbtxt")) as f:
        config = f.read()
    cells = [int(v) for v in re.findall(r"single_image_dim: (\d+)", config)]
    assert len(cells) == 2 and cells[0] == cells[1] and 'image_path: "sprite.png"' in config
    side = int(np.ceil(np.sqrt(n)))
    assert Image.open(os.path.join(path, "sprite.png")).size == (side * cells[0], -(-n // side) * cells[0])


READERS = {"csv": of_csv, "npy": of_npy, "projector": of_projector, "hdf5": lambda path, want: compare(of_hdf5(path), want)}


def compare(got, want):
    assert all(np.array_equal(got[n], want[n]) for n in want)


def check_arrays():
    with open(os.path.join(SOURCE, "src/cli/embed_formats.def")) as f:
        formats = re.findall(r"^SIM_EMBED_FORMAT\((\w+)\)", f.read(), re.M)
    assert formats == sorted(READERS, key=formats.index)
    for run in ("run", "run-cpc"):
        for data in ("train", "bare"):
            simile("embed", run, "--data", f"{data}.h5", "--out", f"{run}-{data}.h5")
            want = of_hdf5(f"{run}-{data}.h5")
            for ranks in (1, 2):
                for fmt in formats:
                    out = f"{run}-{data}-{ranks}.{fmt}"
                    words = ["--projector", out] if fmt == "projector" else ["--out", out]  # by the ending
                    simile("embed", run, "--data", f"{data}.h5", *words, ranks=ranks)
                    READERS[fmt](out, want)
    # The option has priority; the set of another data set replaces all arrays of the first.
    simile("embed", "run", "--data", "train.h5", "--out", "same.npy")
    simile("embed", "run-cpc", "--data", "bare.h5", "--out", "same.npy")
    of_npy("same.npy", of_hdf5("run-cpc-bare.h5"))
    simile("embed", "run", "--data", "train.h5", "--out", "table", "--format", "npy")
    of_npy("table", of_hdf5("run-train.h5"))
    simile("embed", "run", "--data", "train.h5", "--out", "table.csv", "--format", "hdf5")
    compare(of_hdf5("table.csv"), of_hdf5("run-train.h5"))
    assert "csv" in simile("embed", "run", "--data", "train.h5", "--out", "x", "--format", "tsv", code=64).stderr


def check_own_files():
    for out, taken in (("mine.csv", ["mine.csv"]), ("mine.npy", ["mine.npy", "mine.json", "mine.labels.npy", "mine.names.npy"])):
        for file in taken:
            open(file, "w").write("id,name\n1,2\n")
            done = simile("embed", "run", "--data", "train.h5", "--out", out, code=73, ranks=2)
            assert file in done.stderr and open(file).read() == "id,name\n1,2\n"
            assert [f for f in os.listdir() if f.startswith("mine")] == [file]
            simile("embed", "run", "--data", "train.h5", "--out", out, "--force")
            READERS[out[-3:]](out, of_hdf5("run-train.h5"))
            simile("embed", "run", "--data", "train.h5", "--out", out)
            for f in [f for f in os.listdir() if f.startswith("mine")]:
                os.remove(f)
    os.mkdir("folder")
    open("folder/tensors.tsv", "w").write("mine")
    assert "tensors.tsv" in simile("embed", "run", "--data", "train.h5", "--projector", "folder", code=73).stderr
    assert os.listdir("folder") == ["tensors.tsv"]
    simile("embed", "run", "--data", "train.h5", "--projector", "job.yaml", code=73)
    for words in ([], ["--force"]):
        simile("embed", "run", "--data", "train.h5", "--projector", "folder", *words, code=0 if words else 73)
    simile("embed", "run", "--data", "train.h5", "--projector", "folder")
    of_projector("folder", of_hdf5("run-train.h5"))
    os.symlink("linked.csv", "link.csv")
    simile("embed", "run", "--data", "train.h5", "--out", "link.csv")
    assert os.path.islink("link.csv")
    of_csv("linked.csv", of_hdf5("run-train.h5"))
    simile("embed", "run", "--data", "train.h5", "--out", "nowhere/e.csv", code=73)


def check_full_disk():
    """Exit code 74, the old files, and no temporary file."""
    os.mkdir("disk")
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", "disk"], capture_output=True).returncode:
        print("skipped: a full disk, because mounting is not allowed")
        return
    try:
        for out in ("disk/e.csv", "disk/e.npy"):
            simile("embed", "run", "--data", "bare.h5", "--out", out)
            before = {f: open(f"disk/{f}", "rb").read() for f in os.listdir("disk")}
            with open("disk/rest", "wb") as f:  # all but a page
                f.write(bytes(os.statvfs("disk").f_bavail * os.statvfs("disk").f_frsize - 4096))
            done = simile("embed", "run", "--data", "train.h5", "--out", out, code=74, ranks=2)
            assert "No space left" in done.stderr and out[:6] in done.stderr, done.stderr
            os.remove("disk/rest")
            after = {f: open(f"disk/{f}", "rb").read() for f in os.listdir("disk")}
            assert after == before, (after.keys(), before.keys())
    finally:
        subprocess.run(["umount", "-l", "disk"], check=True)


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    photos()
    open("job.yaml", "w").write(JOB)
    simile("pretrain", "job.yaml")
    simile("pretrain", "job.yaml", "run=run-cpc", "method.name=cpc", "method.grid=3", "method.steps=1")  # no projector
    check_arrays()
    check_own_files()
    check_full_disk()
print("ok")
