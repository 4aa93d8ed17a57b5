#!/usr/bin/python3
"""Image files of all formats as sources: mixed directories, samples of TIFF files with more than 8 bits or
several pages, and image files in HDF5.

simile-test: timeout 120 labels unit
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
import tifffile
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
import pictures

SIMILE = os.environ["SIMILE"]
random = np.random.RandomState(17)
result = log = None


def run(*words, code=0, said=(), ranks=()):
    global result, log
    done = subprocess.run([*ranks, SIMILE, "prepare", *words, "--force", "--out", "out.h5", "--json"], capture_output=True, text=True)
    log = done.stderr
    assert done.returncode == code, f"{words}: exit {done.returncode}, expected {code}\n{log}"
    for text in said:
        assert text in log, f"{words}: no \"{text}\" in\n{log}"
    result = json.loads(done.stdout) if code == 0 else None


def check(images, labels=None, classes=None):
    """The data set has exactly these images, labels and class names."""
    with h5py.File("out.h5") as f:
        got = f["images"][()]
        assert got.dtype == images.dtype and got.shape == images.shape, (got.dtype, got.shape, images.shape)
        assert (got == images).all(), f"{(got != images).sum()} of {got.size} samples differ"
        assert (f["labels"][()].tolist() if "labels" in f else None) == (None if labels is None else list(labels))
        assert ([c.decode() for c in f["classes"][()]] if "classes" in f else None) == classes


def check_files(files, labels, classes):
    with h5py.File("out.h5") as f:
        at = f["offset"][()]
        got = [f["bytes"][lo:hi].tobytes() for lo, hi in zip(at, at[1:])]
        assert got == files and f["labels"][()].tolist() == labels
        assert [c.decode() for c in f["classes"][()]] == classes


def integers(shape, dtype="u1"):
    i = np.iinfo(dtype)
    return random.randint(i.min, i.max, shape, dtype=dtype)


def tiff(*pages, **options):
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as t:
        for page in pages:
            t.write(page, contiguous=False, metadata=None, **options)
    return out.getvalue()


def npy(x):
    out = io.BytesIO()
    np.save(out, x)
    return out.getvalue()


def write_all(directory, files):
    for name, data in files.items():
        pictures.write(os.path.join(directory, name), data)


def mixed():
    """All formats in one directory, by extension in any case and by content."""
    gray = integers((12, 12))
    rgb = {n: integers((12, 12, 3)) for n in ("png", "TIF", "tiff", "webp", "bmp", "npy", "none")}
    images = {n: Image.fromarray(x) for n, x in rgb.items()}
    files = {"a/1.png": (pictures.encode(images["png"], "PNG"), rgb["png"]),
             "a/2.TIF": (tiff(rgb["TIF"]), rgb["TIF"]),
             "a/3.tiff": (pictures.encode(images["tiff"], "TIFF", compression="tiff_lzw"), rgb["tiff"]),
             "a/4.webp": (pictures.encode(images["webp"], "WEBP", lossless=True), rgb["webp"]),
             "b/5.gif": (pictures.encode(Image.fromarray(gray), "GIF"), np.repeat(gray[..., None], 3, -1)),
             "b/6.bmp": (pictures.encode(images["bmp"], "BMP"), rgb["bmp"]),
             "b/7.npy": (npy(rgb["npy"]), rgb["npy"]),
             "b/8": (tiff(rgb["none"]), rgb["none"]),
             "b/9": (npy(gray), np.repeat(gray[..., None], 3, -1))}
    write_all("mixed", {n: f[0] for n, f in files.items()})
    pictures.write("mixed/b/photo.heic", b"not read")
    pictures.write("mixed/b/raw.NEF", tiff(rgb["TIF"]))  # a TIFF file whose pages may be previews
    with tarfile.open("mixed.tar", "w") as t:
        t.add("mixed")
    labels, classes = [0] * 4 + [1] * 5, ["a", "b"]
    prints = set()
    for source in "mixed", "mixed.tar":
        run(source, "--size", "12", said=["2 images are excluded, because only JPEG, PNG, TIFF, WebP, GIF, BMP, NumPy are read", ".heic", ".nef"])
        check(np.stack([f[1] for f in files.values()]), labels, classes)
        prints.add(result["fingerprint"])
        run(source)
        check_files([f[0] for f in files.values()], labels, classes)
        prints.add(result["fingerprint"])
        run(source, "--size", "6", "--crop", "none")
        assert result["images"] == 9 and result["bad"] == 0
    assert len(prints) == 2, prints
    pictures.write("mixed/a/0.tif", files["a/2.TIF"][0][:200])
    run("mixed", "--size", "12", said=["skipped", "a/0.tif"])
    assert result["bad"] == 1 and result["images"] == 9
    run("mixed", "--size", "12", "--on-bad", "fail", code=65, said=["a/0.tif"])
    os.mkdir("none")
    pictures.write("none/a.txt", b"text")
    run("none", code=66, said=["contains no image files (JPEG, PNG, TIFF"])
    pictures.write("./single.tif", files["a/2.TIF"][0])
    run("single.tif", code=65, said=["single image", "directory"])


def deep():
    """Types and channels of TIFF files."""
    for name, x in {"u16": integers((4, 9, 9, 5), "u2"), "f32": random.randn(4, 9, 9, 2).astype("f4"), "gray": integers((4, 9, 9, 1), "u2"),
                    "u8": integers((4, 9, 9, 6))}.items():
        write_all(name, {f"{'xy'[i // 2]}/{i}.tif": tiff(x[i].squeeze(), photometric="minisblack", **({} if x.shape[-1] == 1 else {"planarconfig": "contig"}))
                         for i in range(4)})
        run(name, "--size", "9")
        check(x, [0, 0, 1, 1], ["x", "y"])
        if x.shape[-1] > 2:
            run(name, "--size", "9", "--channels", "3,0")
            check(x[..., [3, 0]], [0, 0, 1, 1], ["x", "y"])
            run(name, code=65, said=["channels", "--size"])
    # 8 and 16 bits together become 8 bits
    x8, x16 = integers((9, 9, 3)), integers((9, 9, 3), "u2")
    write_all("both", {"0.tif": tiff(x8), "1.tif": tiff(x16)})
    run("both", "--size", "9", "--range", "0:65535")
    check(np.stack([x8, np.floor(x16 / 257 + 0.5).astype("u1")]))


def pages():
    x = integers((3, 5, 9, 9), "u2")  # 3 files of 5 pages
    write_all("stack", {f"{i}.tif": tiff(*x[i]) for i in range(3)})
    run("stack", "--size", "9", said=["3 images are the first page or frame", "--pages channels"])
    check(x[:, 0, ..., None])
    run("stack", "--size", "9", "--pages", "first", said=["3 images are the first page or frame"])
    alone = result["fingerprint"]
    if "SIMILE_MPIEXEC" in os.environ:
        run("stack", "--size", "9", said=["3 images are the first page or frame"], ranks=[*os.environ["SIMILE_MPIEXEC"].split(), "-np", "2"])
        assert result["fingerprint"] == alone
    run("stack", "--size", "9", "--pages", "channels")
    assert "first page" not in log
    check(x.transpose(0, 2, 3, 1))
    run("stack", "--size", "9", "--pages", "channels", "--channels", "4,1")
    check(x.transpose(0, 2, 3, 1)[..., [4, 1]])
    run("stack", "--pages", "channels", code=64, said=["--pages channels", "--size"])
    run("stack", "--size", "9", "--pages", "all", code=64, said=["--pages"])
    with tarfile.open("stack.tar", "w") as t:
        t.add("stack")
    run("stack.tar", "--size", "9", "--pages", "channels")
    check(x.transpose(0, 2, 3, 1))
    with h5py.File("pages.h5", "w") as f:
        f["images"] = x[:, 0]
    run("pages.h5", "--pages", "channels", code=64, said=["--pages", "hdf5"])
    write_all("stack", {"3.tif": tiff(x[0, 0], x[0, 1, :4])})
    run("stack", "--size", "9", "--pages", "channels", said=["skipped", "stack/3.tif", "page 2 has 9 x 4"])
    assert result["bad"] == 1
    frames = [Image.fromarray(pictures.draw(30 + k, 12, 12)) for k in range(3)]
    write_all("animated", {"0.gif": pictures.encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
                           "1.webp": pictures.encode(frames[1], "WEBP", save_all=True, append_images=frames[:1], lossless=True),
                           "2.png": pictures.encode(frames[2], "PNG")})
    run("animated", said=["2 images are the first page or frame"])


def in_hdf5():
    x = integers((6, 9, 9, 3))
    files = [pictures.encode(Image.fromarray(v), "PNG") for v in x]
    labels = [0, 0, 0, 1, 1, 1]
    # solo-learn: a group for each class, a data set for each file
    with h5py.File("groups.h5", "w") as f:
        for i, data in enumerate(files):
            f[f"n0{labels[i]}/{i}.JPEG"] = np.frombuffer(data, "u1")
    run("groups.h5", "--size", "9")
    assert result["format"] == "hdf5_photos"
    check(x, labels, ["n00", "n01"])
    with h5py.File("out.h5") as f:
        assert f["name"][4] == b"n01/4.JPEG"
    run("groups.h5")
    check_files(files, labels, ["n00", "n01"])
    run("groups.h5", "--limit", "4", "--size", "9")
    assert result["images"] == 4 and result["least_per_class"] == result["most_per_class"] == 2
    run("groups.h5", "--images-key", "n00", code=64, said=["--images-key", "--path"])
    run("groups.h5", "--path", "absent", code=65, said=["no group /absent"])
    # splits, and a group
    with h5py.File("splits.h5", "w") as f:
        for s in "train", "val":
            for i, data in enumerate(files):
                f[f"data/{s}/c{labels[i]}/{i}"] = np.frombuffer(data, "u1") if s == "train" else np.void(data)
        f["data/val/c0/readme"] = np.arange(5)
        f["data/val/c0/labels"] = np.arange(50).astype("u1")
    run("splits.h5", "--size", "9", said=["other files: 2"])
    check(x, labels, ["c0", "c1"])
    run("splits.h5", "--split", "val", "--size", "9")
    check(x, labels, ["c0", "c1"])
    run("splits.h5", "--split", "test", code=66, said=["test"])
    run("splits.h5", "--path", "/data/train/c1/", "--size", "9")
    check(x[3:])
    # one array of files
    longest = max(map(len, files))
    vlen = h5py.vlen_dtype(np.uint8)
    with h5py.File("list.h5", "w") as f:
        d = f.create_dataset("images", 6, dtype=vlen)
        for i, data in enumerate(files):
            d[i] = np.frombuffer(data, "u1")
        f["labels"] = [b"cat"] * 3 + [b"dog"] * 3
    run("list.h5", "--size", "9")
    check(x, labels, ["cat", "dog"])
    run("list.h5", "--labels-key", "none", "--size", "9")
    check(x)
    with h5py.File("list.h5", "w") as f:
        for s, some in ("train", slice(0, 4)), ("test", slice(4, 6)):
            d = f.create_dataset(f"x_{s}", len(files[some]), dtype=vlen, chunks=(2,))
            for i, data in enumerate(files[some]):
                d[i] = np.frombuffer(data, "u1")
            f[f"y_{s}"] = [1, 0] * (len(files[some]) // 2)
    run("list.h5", "--split", "test", "--size", "9")
    check(x[4:], [1, 0])
    with h5py.File("opaque.h5", "w") as f:
        f["images"] = np.array([np.void(d.ljust(longest, b"\0")) for d in files])
        f["labels"] = labels
    run("opaque.h5", "--size", "9")
    check(x, labels)
    # samples of 16 bits, and damaged files
    deep = integers((4, 9, 9), "u2")
    with h5py.File("deep.h5", "w") as f:
        for i in range(4):
            f[f"{'ab'[i // 2]}/{i}"] = np.frombuffer(tiff(deep[i]), "u1")
    run("deep.h5", "--size", "9")
    check(deep[..., None], [0, 0, 1, 1], ["a", "b"])
    with h5py.File("bad.h5", "w") as f:
        d = f.create_dataset("images", 4, dtype=vlen)
        for i, data in enumerate((b"", files[0], files[1][:60], b"text")):
            d[i] = np.frombuffer(data, "u1")
    run("bad.h5", "--size", "9", said=["bad.h5[0] is empty", "bad.h5[2]", "bad.h5[3]"])
    assert result["bad"] == 3 and result["images"] == 1
    # numbers that are no files stay arrays
    with h5py.File("numbers.h5", "w") as f:
        f["images"], f["labels"] = x, np.array(labels, "u1")
    run("numbers.h5")
    assert result["format"] == "hdf5"
    check(x, labels)
    # an encoded data set of simile is none of these
    run("groups.h5")
    os.rename("out.h5", "encoded.h5")
    run("encoded.h5", code=66, said=["encoded photos"])


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    for test in (mixed, deep, pages, in_hdf5):
        test()
        print(test.__name__)
