#!/usr/bin/python3
"""Labels and groups beside the images: in .json and .cls files of archives, in arrays of HDF5 files, and
in data sets that are converted again; equal on any number of ranks and covered by the fingerprint.

simile-test: timeout 120 labels unit
"""
import collections
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

import h5py
import numpy as np
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from fingerprint import fingerprint  # noqa: E402
from launcher import on_ranks  # noqa: E402

SIMILE = os.environ["SIMILE"]
pixels = np.random.RandomState(8)
Set = collections.namedtuple("Set", "names labels classes groups numbers fingerprint")


def prepare(*words, code=0, said=(), unsaid=(), ranks=1, out="out.h5"):
    done = subprocess.run([*on_ranks(ranks), SIMILE, "prepare", *words, "--force", "--out", out], capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}, expected {code}\n{done.stderr}"
    for text in said:
        assert text in done.stderr, f"{words}: no \"{text}\" in\n{done.stderr}"
    for text in unsaid:
        assert text not in done.stderr, f"{words}: \"{text}\" in\n{done.stderr}"


def result(path="out.h5"):
    with h5py.File(path) as f:
        texts = {k: [n.decode() for n in f[k]] if k in f else None for k in ("name", "classes", "groups")}
        numbers = f["group"][()].tolist() if "group" in f else None
        groups = [texts["groups"][i] for i in numbers] if numbers else None
        labels = f["labels"][()].tolist() if "labels" in f else None
        return Set(texts["name"], labels, texts["classes"], groups, numbers, f.attrs["fingerprint"].decode())


def archive(path, files):
    """Files by name: bytes, or an object that becomes JSON; None is a photo."""
    with tarfile.open(path, "w") as t:
        for name, data in files.items():
            if data is None:
                out = io.BytesIO()
                Image.fromarray(pixels.randint(0, 256, (8, 8, 3)).astype("u1")).save(out, "PNG")
                data = out.getvalue()
            data = data if isinstance(data, bytes) else json.dumps(data).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))


def archives():
    size = ("web.tar", "--size", "8")
    files = {}
    for i in range(6):
        files[f"{i}.png"] = None
        files[f"{i}.json"] = {"label": "dog" if i % 2 else "cat", "group": f"patient {i // 3}", "age": i % 3, "big": 2**40 + i % 2, "x": [1]}
    archive("web.tar", files)
    prepare(*size, unsaid=["other files"])
    got = result()
    assert got.labels == [0, 1] * 3 and got.classes == ["cat", "dog"] and got.groups == ["patient 0"] * 3 + ["patient 1"] * 3, got
    prepare(*size, "--labels-key", "age", "--groups-key", "big")
    got = result()
    assert got.labels == [0, 1, 2] * 2 and got.classes is None and got.groups == [str(2**40 + i % 2) for i in range(6)], got
    prepare(*size, "--labels-key", "none")
    assert result().labels is None and result().numbers == [0, 0, 0, 1, 1, 1]
    prepare(*size, "--labels-key", "colour", code=65, said=["colour", "--labels-key"])
    prepare(*size, "--groups-key", "x", code=65, said=["\"x\"", "--groups-key"])
    for key in "cls", "class":
        archive("web.tar", {n: {key: d["age"]} if isinstance(d, dict) else d for n, d in files.items()})
        prepare(*size)
        assert result().labels == [0, 1, 2] * 2 and result().groups is None
    # a .cls file before the .json file, unless its key is named; names as labels
    archive("web.tar", {**files, **{f"{i}.cls": b"ant\n" if i < 4 else b"bee" for i in range(6)}})
    prepare(*size)
    assert result().classes == ["ant", "bee"] and result().labels == [0] * 4 + [1] * 2 and result().numbers == [0, 0, 0, 1, 1, 1]
    prepare(*size, "--labels-key", "label")
    assert result().classes == ["cat", "dog"]
    # files that are not valid, or of something else; one photo without a label, one without a group
    archive("web.tar", {**files, "0.json": b"{", "1.json": b"[1]", "2.json": {"label": ""}, "3.json": {"label": "dog", "group": None},
                        "note.json": {"license": "none"}})
    prepare(*size, said=["2 .json files are not used: 0.json", "3 photos without", "1 images without a group", "other files: 4 .json"])
    got = result()
    assert [n for n in got.names] == ["3.png", "4.png", "5.png"] and got.groups == ["", "patient 1", "patient 1"], got
    prepare(*size, "--on-bad", "fail", code=65, said=["0.json"])
    archive("web.tar", {n: {"license": 1} if isinstance(d, dict) else d for n, d in files.items()})
    prepare(*size, said=["other files: 6 .json"])
    assert result().labels is None and result().groups is None
    # groups beside directories of classes, which remain the classes; ranks
    archive("web.tar", {f"{'ab'[i % 2]}/{n}": d for i in range(6) for n, d in ((f"{i}.png", None), (f"{i}.json", {"group": i // 2}))})
    prepare(*size)
    got = result()
    assert got.classes == ["a", "b"] and dict(zip(got.names, got.groups)) == {f"{'ab'[i % 2]}/{i}.png": str(i // 2) for i in range(6)}, got
    for ranks in 2, 3:
        prepare(*size, ranks=ranks, out="other.h5")
        with open("out.h5", "rb") as f, open("other.h5", "rb") as g:
            assert f.read() == g.read(), f"the bytes differ on {ranks} ranks"


def arrays():
    n = 9
    x = pixels.randint(0, 256, (n, 5, 5, 3)).astype("u1")
    numbers = np.array([7, -3, 7, 2**40, 0, 0, -3, 5, 5])
    with h5py.File("raw.h5", "w") as f:
        f["images"], f["plate"], f["text"] = x, numbers, [b"b", b"a", b"", b"b", b"", b"c", b"c", b"a", b"b"]
        f["u64"] = np.full(n, 2**64 - 1, "u8")
        f["real"], f["few"], f["table"] = np.arange(n) / 2, np.arange(4), np.zeros((n, 2), "i4")
        f["meta/site"] = (np.arange(n) % 2).astype("u1")
    key = ("raw.h5", "--labels-key", "none", "--groups-key")
    prepare(*key, "plate")
    got = result()
    assert got.labels is None and got.groups == [str(v) for v in numbers] and got.numbers == [0, 1, 0, 2, 3, 3, 1, 4, 4], got
    prepare(*key, "text", said=["2 images without a group"])
    assert result().groups == ["b", "a", "", "b", "", "c", "c", "a", "b"] and result().numbers == [0, 1, 2, 0, 3, 4, 4, 1, 0]
    prepare(*key, "/meta/site")
    assert result().numbers == [i % 2 for i in range(n)]
    prepare(*key, "u64")
    assert set(result().groups) == {str(2**64 - 1)}
    for name, word in (("real", "no groups"), ("few", "4 groups for 9"), ("table", "no groups"), ("none", "/none")):
        prepare(*key, name, code=65, said=["raw.h5", word])
    prepare("raw.h5", "--path", "/meta", "--groups-key", "plate", code=64, said=["--groups-key", "--path"])
    # the group is not taken for the label
    with h5py.File("one.h5", "w") as f:
        f["images"], f["plate"] = x, np.arange(n) % 4
    prepare("one.h5", "--groups-key", "plate", said=["no labels found"])
    assert result().labels is None and result().numbers == [i % 4 for i in range(n)]
    # a data set that is converted again keeps its groups; other files with /group do not have any
    prepare("one.h5", "--groups-key", "plate", out="first.h5")
    prepare("first.h5")
    assert result().groups == result("first.h5").groups and result().labels is None
    prepare("first.h5", "--limit", "5")
    names = result("first.h5").names
    assert result().groups == [result("first.h5").groups[names.index(i)] for i in result().names]
    with h5py.File("other.h5", "w") as f:
        f["images"], f["group"] = x, np.arange(n) % 4
    prepare("other.h5")
    assert result().groups is None and result().labels is None
    os.makedirs("flat/a")
    archive("flat/a/x.tar", {"x.png": None})
    prepare("flat", "--groups-key", "plate", code=64, said=["--groups-key", "folder"])


def refused(change, word, code=65):
    shutil.copy("first.h5", "bad.h5")
    with h5py.File("bad.h5", "r+") as f:
        change(f)
    done = subprocess.run([SIMILE, "inspect", "bad.h5"], capture_output=True, text=True)
    assert done.returncode == code and word in done.stderr and "bad.h5" in done.stderr, f"{done.returncode} {done.stderr}"


def replace(f, name, value):
    del f[name]
    f[name] = value


def fingerprints():
    """The fingerprint covers numbers and names, and equals that computed in Python."""
    with h5py.File("first.h5") as f:
        assert f.attrs["fingerprint"].decode() == fingerprint(f)
        ids, names = f["group"][()], f["groups"][()]
        n = len(ids)
    done = subprocess.run([SIMILE, "inspect", "first.h5", "--json"], capture_output=True, text=True, check=True)
    sizes = np.bincount(ids)
    about = json.loads(done.stdout)
    assert about["groups"] == len(names) and about["group_sizes"] == {
        "smallest": sizes.min(), "median": sorted(sizes)[(len(sizes) - 1) // 2], "largest": sizes.max(),
        "of_one_image": (sizes == 1).sum()}, about
    swapped = ids.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    refused(lambda f: f["group"].write_direct(swapped), "fingerprint")
    refused(lambda f: f["groups"].__setitem__(0, b"9"), "fingerprint")
    refused(lambda f: f.__delitem__("group"), "fingerprint")
    refused(lambda f: f.__delitem__("groups"), "fingerprint")
    for bad in -1, n, 2**31 - 1:
        refused(lambda f: f["group"].__setitem__(3, bad), "the group of image 3 is")
    refused(lambda f: replace(f, "groups", names[:2]), "2 names for 4 groups")
    refused(lambda f: replace(f, "group", ids[:4]), "4 group numbers for 9 images")
    # version 2 had no groups
    shutil.copy("first.h5", "old.h5")
    with h5py.File("old.h5", "r+") as f:
        f.attrs["format_version"] = np.int64(2)
    done = subprocess.run([SIMILE, "inspect", "old.h5"], capture_output=True, text=True)
    assert done.returncode == 65 and "fingerprint" in done.stderr, done.stderr


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    archives()
    arrays()
    fingerprints()
print("ok")
