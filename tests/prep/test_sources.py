#!/usr/bin/python3
"""STL-10, HDF5 and tar sources against NumPy, h5py and tarfile: equal pixels, bytes, labels and
class names.  Every malformed source is refused with its defect.

simile-test: timeout 180
"""
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile

import h5py
import numpy as np
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
import pictures
from fingerprint import fingerprint  # noqa: E402

SIMILE = os.environ["SIMILE"]
random = np.random.RandomState(7)


def prepare(*words, code=0, match=()):
    done = subprocess.run([SIMILE, "prepare", *words, "--force", "--out", "out.h5", "--json"], capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}, expected {code}\n{done.stderr}"
    for text in [match] if isinstance(match, str) else match:
        assert text in done.stderr, f"{words}: no \"{text}\" in\n{done.stderr}"
    left = [n for n in os.listdir(".") if n.startswith("out.h5.")]
    assert not left, left
    if code:
        lines = [l for l in done.stderr.splitlines() if l.startswith("simile: ")]
        assert len(lines) == 1, f"{words}: more than one message\n{done.stderr}"
        return None
    return json.loads(done.stdout)


def check(images, labels=None, names=None):
    """The data set contains exactly these images, labels and class names."""
    with h5py.File("out.h5") as f:
        got = f["images"][()]
        assert got.shape == images.shape and (got == images).all(), (got.shape, images.shape)
        assert ("labels" in f) == (labels is not None), list(f)
        if labels is not None:
            assert f["labels"][()].tolist() == list(labels), f["labels"][()]
        if names is not None:
            assert f["class_names"][()].tobytes().decode() == "".join(n + "\n" for n in names)
        assert f.attrs["fingerprint"].decode() == fingerprint(f)
        x = images.reshape(-1, images.shape[-1]) / 255.0
        assert np.abs(x.mean(0) - f.attrs["mean"]).max() < 1e-12 and np.abs(x.std(0) - f.attrs["std"]).max() < 1e-9


# ---- STL-10 ----


def check_stl10():
    os.makedirs("stl/binary")
    images = {s: random.randint(0, 256, (n, 96, 96, 3)).astype("u1") for s, n in (("train", 20), ("test", 7), ("unlabeled", 9))}
    labels = {"train": np.arange(20) % 10 + 1, "test": np.array([10, 1, 2, 3, 4, 5, 6])}
    names = [f"thing{i}" for i in range(10)]
    for split, x in images.items():
        # as the set's own page reads it: reshape(-1, 3, 96, 96), then transpose(0, 3, 2, 1)
        x.transpose(0, 3, 2, 1).tofile(f"stl/binary/{split}_X.bin")
    for split, y in labels.items():
        y.astype("u1").tofile(f"stl/binary/{split}_y.bin")
    with open("stl/binary/class_names.txt", "w") as f:
        f.write("\n".join(names) + "\n")
    with tarfile.open("stl10_binary.tar.gz", "w:gz") as t:
        for name in ("test_X.bin", "test_y.bin", "train_X.bin", "train_y.bin", "unlabeled_X.bin", "class_names.txt"):
            t.add(f"stl/binary/{name}", f"stl10_binary/{name}")
    for source in ("stl/binary", "stl10_binary.tar.gz"):
        for split, x in images.items():
            result = prepare(source, "--split", split)
            assert result["format"] == "stl10" and result["images"] == len(x), result
            check(x, labels[split] - 1 if split in labels else None, names if split in labels else None)
    prepare("stl/binary/test_X.bin")
    check(images["test"], labels["test"] - 1)
    result = prepare("stl10_binary.tar.gz", "--limit", "10")
    with h5py.File("out.h5") as f:
        assert sorted(f["labels"][()].tolist()) == list(range(10))
        for i, label in enumerate(f["labels"][()]):
            assert any((f["images"][i] == x).all() for x in images["train"][labels["train"] == label + 1])
    with open("stl/binary/train_X.bin", "r+b") as f:
        f.truncate(20 * 27648 - 5)
    prepare("stl/binary", code=65, match="multiple of 27648")
    with open("stl/binary/train_X.bin", "r+b") as f:
        f.truncate(19 * 27648)
    prepare("stl/binary", code=65, match="20 labels for 19 images")
    (labels["test"] + 1).astype("u1").tofile("stl/binary/test_y.bin")
    prepare("stl/binary", "--split", "test", code=65, match="label of image 0 is 11")
    os.remove("stl/binary/test_y.bin")
    prepare("stl/binary", "--split", "test", code=66, match="test_y.bin")
    with tarfile.open("part.tar", "w") as t:
        t.add("stl/binary/test_X.bin")
    prepare("part.tar", code=66, match="no train_X.bin")
    prepare("part.tar", "--split", "test", code=66, match="no test_y.bin")


def check_space():
    """A conversion that needs more than the free disk space is refused before it writes."""
    os.mkdir("huge")
    with open("huge/unlabeled_X.bin", "wb") as f:
        try:
            f.truncate(27648 * 300_000_000)  # a hole
        except OSError as e:
            print("skipped: no file of 8 TB here:", e)
            return
    prepare("huge", "--split", "unlabeled", code=74, match="out.h5 needs 8302801.0 MB")


# ---- HDF5 ----


def h5(name, **sets):
    with h5py.File(name, "w") as f:
        for key, value in sets.items():
            options = {}
            if isinstance(value, tuple):
                value, options = value
            f.create_dataset(key, data=value, **options)


def check_hdf5():
    x = random.randint(0, 256, (37, 9, 11, 3)).astype("u1")
    y = random.randint(0, 5, 37)
    packed = dict(chunks=(5, 4, 11, 3), compression="gzip", shuffle=True)
    wide = dict(chunks=(37, 3, 3, 1), compression="gzip")
    # the names of Galaxy10; all kinds of storage, orders of dimensions, types and shapes of labels
    for options in ({}, packed, wide, dict(chunks=(1, 9, 11, 3)), dict(chunks=(7, 9, 11, 3), fletcher32=True)):
        h5("g.h5", images=(x, options), ans=y.astype("u1"))
        assert prepare("g.h5")["format"] == "hdf5"
        check(x, y)
    h5("planes.hdf5", images=(x.transpose(0, 3, 1, 2), dict(chunks=(4, 3, 9, 11), compression="gzip")), labels=y)
    prepare("planes.hdf5")
    check(x, y)
    h5("gray.h5", data=x[..., 0])
    prepare("gray.h5", match="no labels found")
    check(x[..., :1])
    h5("gray1.h5", data=x[:, None, :, :, 0])
    prepare("gray1.h5")
    check(x[..., :1])
    for kind in ("i1", "u1", "<i2", ">u2", "<i4", ">i4", "<u4", "<i8", "<u8", ">i8"):
        for shape in ((37,), (37, 1), (37, 1, 1, 1)):
            h5("l.h5", images=x, labels=y.astype(kind).reshape(shape))
            prepare("l.h5")
            check(x, y)
    # explicit keys, in groups; the two files of PCAM
    with h5py.File("keys.h5", "w") as f:
        f["raw/deep/rgb"], f["raw/kind"], f["note"] = x, y, "a text"
    prepare("keys.h5", "--images-key", "raw/deep/rgb", "--labels-key", "/raw/kind")
    check(x, y)
    prepare("keys.h5")  # the only ones of such shapes
    check(x, y)
    prepare("keys.h5", "--images-key", "raw/rgb", code=65, match="no data set raw/rgb")
    prepare("keys.h5", "--images-key", "raw/deep/rgb", "--labels-key", "kind", code=65, match="with --labels-key")
    prepare("keys.h5", "--images-key", "raw", code=65, match="raw")
    h5("pcam_split_test_x.h5", x=(x, packed))
    h5("pcam_split_test_y.h5", y=y.astype("u1").reshape(37, 1, 1, 1))
    prepare("pcam_split_test_x.h5", "--split", "test")
    check(x, y)
    os.remove("pcam_split_test_y.h5")
    prepare("pcam_split_test_x.h5")
    check(x)
    # floats
    h5("one.h5", images=(x / np.float32(255)).astype("f4"), labels=y)
    prepare("one.h5", "--type", "uint8")
    check(x, y)
    h5("double.h5", images=(x.astype("f8"), packed))
    prepare("double.h5", "--type", "uint8")
    check(x)
    h5("half.h5", images=x.astype("f2"))
    prepare("half.h5", "--type", "uint8")
    check(x)
    # one group per class: arrays, single images, and a class that is one array
    with h5py.File("classes.h5", "w") as f:
        f["train/cat/a"], f["train/cat/b"] = x[:5], x[5]
        f.create_dataset("train/dog", data=x[6:30], **packed)
        f["train/eel/images"], f["test/cat/a"] = x[30:], x[:3]
    prepare("classes.h5", "--path", "train")
    check(x, [0] * 6 + [1] * 24 + [2] * 7, ["cat", "dog", "eel"])
    prepare("classes.h5", "--path", "/test/")
    check(x[:3], [0] * 3, ["cat"])
    prepare("classes.h5", "--path", "train", "--limit", "6")
    with h5py.File("out.h5") as f:
        assert np.bincount(f["labels"][()]).tolist() == [2, 2, 2]
    prepare("classes.h5", code=65, match=["test/cat/a, train/cat/a", "a group of classes with --path"])
    prepare("classes.h5", "--path", "valid", code=65, match="no group /valid")
    refuse_hdf5(x, y)


def refuse_hdf5(x, y):
    def refuse(match, **sets):
        h5("bad.h5", **sets)
        prepare("bad.h5", code=65, match=match)

    refuse("36 labels for 37 images", images=x, labels=y[1:])
    refuse("expected 1", images=x, labels=np.array([["a", "b"]] * 37, "S1"))
    refuse("1 to 64 channels", images=np.zeros((5, 8, 8, 65), "u1"))
    refuse("ambiguous", images=np.zeros((5, 3, 8, 3), "u1"))
    refuse("2 dimensions", images=np.zeros((5, 64), "u1"))
    refuse("1 dimensions", images=np.zeros(64, "u1"))
    refuse("5 dimensions", images=np.zeros((5, 2, 8, 8, 3), "u1"))
    refuse("has 0 images", images=np.zeros((0, 8, 8, 3), "u1"))
    refuse("none of its 3 images is valid", images=np.full((3, 8, 8, 3), np.nan))
    with h5py.File("bad.h5", "w") as f:  # a large shape without stored data
        f.create_dataset("images", (1 << 40, 512, 512, 3), "u1", chunks=(1, 512, 512, 3))
    prepare("bad.h5", code=65, match="images of 512 x 512")
    with h5py.File("bad.h5", "w") as f:
        f.create_dataset("images", (100000, 64, 64, 3), "u1", chunks=(10, 64, 64, 3))[:10] = 1
    prepare("bad.h5", code=65, match="bytes are stored")
    with h5py.File("bad.h5", "w") as f:  # HDF5 decompresses a chunk as a whole
        f.create_dataset("images", (1 << 19, 64, 64, 3), "u1", chunks=(1 << 18, 64, 64, 1), compression="gzip")
        f["images"].id.write_direct_chunk((0, 0, 0, 0), bytes(40 << 20))
    prepare("bad.h5", code=65, match="larger than 1073741824 bytes")
    h5("other.h5", images=x)
    with h5py.File("bad.h5", "w") as f:
        f["images"] = h5py.ExternalLink("other.h5", "/images")
    prepare("bad.h5", "--images-key", "images", code=65, match="no data set images")
    with h5py.File("bad.h5", "w") as f:
        f["c/cat/a"], f["c/dog/a"] = x[:5], x[:5, :4]
    prepare("bad.h5", "--path", "c", code=65, match="/c/dog/a: images of 4 x 11 x 3")
    prepare("other.h5", "--split", "test", code=66, match="--split test")
    prepare("other.h5", "--split", "unlabeled", code=64, match="not supported by the format hdf5")
    prepare("absent.h5", code=66, match="absent.h5 does not exist")
    pictures.write_bad_hdf5("malformed")
    shared = os.path.join(os.environ["SIMILE_SHARED"], "data", "bad", "hdf5")
    for directory in ["malformed"] + [shared] * os.path.isdir(shared):
        for name in sorted(os.listdir(directory)):
            prepare(os.path.join(directory, name), code=65, match=name)
    if not os.path.isdir(shared):
        print(f"skipped: the files of {shared}, which does not exist; written ones were used")


# ---- tar archives ----


def photo(side, kind="JPEG"):
    out = io.BytesIO()
    Image.fromarray(random.randint(0, 256, (side, side + 3, 3)).astype("u1")).save(out, kind)
    return out.getvalue()


def add(t, name, data, **about):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in about.items():
        setattr(info, key, value)
    t.addfile(info, io.BytesIO(data))


def encoded():
    """The photos of the data set as they are stored, labels, names."""
    with h5py.File("out.h5") as f:
        at, data = f["offset"][()], f["bytes"][()].tobytes()
        names = f["class_names"][()].tobytes().decode().split("\n")[:-1] if "class_names" in f else None
        labels = f["labels"][()].tolist() if "labels" in f else None
    return [data[at[i]:at[i + 1]] for i in range(len(at) - 1)], labels, names


def check_tar():
    photos = [photo(10 + i, "PNG" if i % 5 == 0 else "JPEG") for i in range(14)]
    folders = ["set/train/dog", "set/train/cat", "set/val/cat"]
    for mode in ("tar", "tar.gz", "tar.xz", "tar.bz2"):
        with tarfile.open("a." + mode, "w:" + mode[4:]) as t:
            for i, p in enumerate(photos):
                add(t, f"{folders[i % 3]}/p{i}.{'png' if i % 5 == 0 else 'JPEG'}", p)
            add(t, "set/readme.txt", b"hello")
            add(t, "set/train/cat/._p1.jpg", b"fork of a Mac")
    subprocess.run("zstd -q -o a.tar.zst a.tar", shell=True, check=True)
    for mode in ("tar", "tar.gz", "tar.xz", "tar.bz2", "tar.zst"):
        assert prepare("a." + mode)["format"] == "tar"
        # in the order of the paths, as of a directory
        by_name = sorted(range(14), key=lambda i: f"p{i}.")
        want = [i for i in by_name if i % 3 == 1] + [i for i in by_name if i % 3 == 0]
        assert encoded() == ([photos[i] for i in want], [int(i % 3 == 0) for i in want], ["cat", "dog"])
        prepare("a." + mode, "--split", "val")
        assert encoded() == ([photos[i] for i in by_name if i % 3 == 2], [0] * 4, ["cat"])
    for split in ("unlabeled", "test"):
        prepare("a.tar.gz", "--split", split, code=66, match=[f"split {split}", "train, val"])
    # the same part of it as of the folder, since the items are the same
    prepare("a.tar.gz", "--limit", "4")
    got, labels, _ = encoded()
    assert sorted(labels) == [0, 0, 1, 1] and all(p in photos for p in got)
    prepare("a.tar", "--size", "8")
    with h5py.File("out.h5") as f:
        assert f["images"].shape == (10, 8, 8, 3)
    # names are never used as paths
    with tarfile.open("odd.tar", "w") as t:
        add(t, "../../up.jpg", photos[1])
        add(t, "/abs/one.jpg", photos[2])
        add(t, "../../etc/two.jpg", photos[3])
        add(t, "./zwei/ö é.jpg", photos[4])
        add(t, "hübsch/three.jpg", photos[6])
        add(t, "a\nb/four.jpg", photos[7])
        add(t, "link.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(t, "abs/hard.jpg", b"", type=tarfile.LNKTYPE, linkname="/abs/one.jpg")
        add(t, "dev.jpg", b"", type=tarfile.CHRTYPE)
    before = sorted(os.listdir(".")), sorted(os.listdir(".."))
    prepare("odd.tar", match=["2 photos are links", "1 photos beside"])
    assert (sorted(set(os.listdir(".")) | {"out.h5"}), sorted(os.listdir(".."))) == (sorted(set(before[0]) | {"out.h5"}), before[1])
    assert encoded() == ([photos[i] for i in (7, 2, 3, 6, 4)], [0, 1, 2, 3, 4], ["a?b", "abs", "etc", "hübsch", "zwei"])
    # ImageNet: a tar of tars; its validation set: flat
    with tarfile.open("imagenet.tar", "w") as t:
        for c, name in enumerate(("n02", "n01")):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as u:
                for i in range(4):
                    add(u, f"{name}_{i}.JPEG", photos[4 * c + i])
            add(t, name + ".tar", inner.getvalue())
    for words, n in (((), 8), (("--limit", "2"), 2), (("--threads", "3"), 8)):
        prepare("imagenet.tar", *words)
        got, labels, names = encoded()
        assert names == ["n01", "n02"] and len(got) == n
        assert n == 2 or (got, labels) == (photos[4:8] + photos[:4], [0] * 4 + [1] * 4), labels
        assert n == 8 or sorted(labels) == [0, 1]
    with tarfile.open("val.tar", "w") as t:
        for i in range(5):
            add(t, f"val_{i}.JPEG", photos[i])
    prepare("val.tar")
    assert encoded() == (photos[:5], None, None)
    refuse_tar(photos)


def starts_no_program():
    """Compressions for which libarchive would start a program from PATH are refused."""
    os.mkdir("bin")
    for name in ("lrzip", "grzip", "lzop", "gzip", "xz", "zstd", "uudecode"):
        with open(f"bin/{name}", "w") as f:
            f.write(f"#!/bin/sh\ntouch {os.getcwd()}/started\n")
        os.chmod(f"bin/{name}", 0o755)
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{os.getcwd()}/bin:{path}"
    magics = (b"LRZI\0\6", b"GRZipII\0\2\4:)", b"\x89LZO\0\r\n\x1a\n", b"begin 644 a\n")
    for magic in magics:
        for name in ("claim.tar", "claim.tar.gz", "claim.zip"):
            with open(name, "wb") as f:
                f.write(magic + bytes(600))
            prepare(name, code=65, match=name)
            prepare(name, "--format", "tar", "--size", "8", code=65, match=name)
    os.environ["PATH"] = path
    assert not os.path.exists("started")


def refuse_tar(photos):
    with tarfile.open("bad.tar", "w") as t:
        add(t, "c/one.jpg", photos[1])
        add(t, "c/two.jpg", b"no photo")
        add(t, "c/three.jpg", photos[2])
    result = prepare("bad.tar", match="skipped: bad.tar: c/two.jpg")
    assert result["bad"] == 1 and encoded()[0] == [photos[1], photos[2]]  # one, three
    prepare("bad.tar", "--on-bad", "fail", code=65, match="bad.tar: c/two.jpg")
    with tarfile.open("empty.tar", "w") as t:
        add(t, "readme.txt", b"hello")
    prepare("empty.tar", code=66, match="empty.tar contains no")
    with open("a.tar", "rb") as f:
        whole = f.read()
    for name, data in (("cut.tar", whole[:3000]), ("cut.tar.gz", open("a.tar.gz", "rb").read()[:-900]), ("text.tar", b"hello" * 500), ("zero.tar", b"")):
        with open(name, "wb") as f:
            f.write(data)
        prepare(name, code=65, match=name)
    with tarfile.open("inner.tar", "w") as t:
        add(t, "n01.tar", whole[:3000])
    prepare("inner.tar", code=65, match="n01.tar")


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    os.mkdir("here")
    os.chdir("here")
    check_stl10()
    check_space()
    check_hdf5()
    check_tar()
    starts_no_program()
print("ok")
