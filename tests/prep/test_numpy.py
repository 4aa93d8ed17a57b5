#!/usr/bin/python3
"""Files of NumPy as sources: images and labels equal the arrays; splits and names as in HDF5 files; what
cannot be read is refused by name.

simile-test: timeout 120 labels unit
"""
import json
import os
import struct
import subprocess
import tempfile
import zipfile

import h5py
import numpy as np

SIMILE = os.environ["SIMILE"]
random = np.random.RandomState(11)


def run(*words, code=0, said=()):
    done = subprocess.run([SIMILE, "prepare", *words, "--force", "--out", "out.h5", "--json"], capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}, expected {code}\n{done.stderr}"
    for text in said:
        assert text in done.stderr, f"{words}: no \"{text}\" in\n{done.stderr}"
    return json.loads(done.stdout) if code == 0 else None


def check(images, labels=None, classes=None):
    """The data set has exactly these images, labels and class names."""
    with h5py.File("out.h5") as f:
        got = f["images"][()]
        assert got.dtype == images.dtype and got.shape == images.shape and (got == images).all(), (got.dtype, got.shape, images.shape)
        assert (f["labels"][()].tolist() if "labels" in f else None) == (None if labels is None else list(labels))
        assert ([c.decode() for c in f["classes"][()]] if "classes" in f else None) == classes


def integers(shape, dtype="u1"):
    i = np.iinfo(dtype)
    return random.randint(i.min, i.max, shape, dtype=dtype)


def archives():
    """The files of Keras and of MedMNIST."""
    x, y = {s: integers((n, 9, 8)) for s, n in (("train", 21), ("val", 8), ("test", 7))}, {}
    y = {s: np.arange(len(x[s])) % 3 for s in x}
    for save in np.savez, np.savez_compressed:
        save("mnist.npz", x_train=x["train"], y_train=y["train"], x_test=x["test"], y_test=y["test"])
        for words, s in ((), "train"), (("--split", "train"), "train"), (("--split", "test"), "test"):
            assert run("mnist.npz", *words)["format"] == "numpy"
            check(x[s][..., None], y[s])
        run("mnist.npz", "--split", "val", code=66, said=["no split val", "train, test"])
        rgb = {s: integers((len(x[s]), 9, 8, 3)) for s in x}
        # labels before and behind the images: the archive is read in any order
        save("med.npz", **{f"{s}_labels": y[s][:, None].astype("u1") for s in x}, **{f"{s}_images": rgb[s] for s in x})
        for s in x:
            run("med.npz", "--split", s)
            check(rgb[s], y[s])
        save("a.npz", images=x["val"], labels=y["val"])
        run("a.npz")
        check(x["val"][..., None], y["val"])
        save("b.npz", pictures=rgb["val"], kind=y["val"], other=np.zeros((8, 4, 4)))
        run("b.npz", code=65, said=["pictures", "kind", "other", "--images-key"])
        run("b.npz", "--images-key", "pictures", "--labels-key", "kind")
        check(rgb["val"], y["val"])
        run("b.npz", "--images-key", "pictures", "--labels-key", "nothing", code=65, said=["nothing", "pictures"])
        run("b.npz", "--images-key", "pictures", "--labels-key", "none")
        check(rgb["val"])
    run("b.npz", "--path", "pictures", code=64, said=["--path", "numpy"])
    os.rename("mnist.npz", "no_name")  # a zip file without the name of an archive of arrays
    run("no_name", "--format", "numpy")
    check(x["train"][..., None], y["train"])


def labels():
    x = integers((6, 5, 4, 3))
    names = ["cat", "dog", "flügel", "日本", "cat", "dog"]
    order = sorted(set(names), key=lambda s: s.encode())
    numbers = [order.index(n) for n in names]
    for y in (np.array(names), np.array(names, ">U9"), np.array([n.encode() for n in names])):
        np.savez("t.npz", images=x, labels=y)
        run("t.npz")
        check(x, numbers, order)
    np.savez("t.npz", images=x, labels=np.array([True, False, True, True, False, False]))
    run("t.npz")
    check(x, [1, 0, 1, 1, 0, 0], ["FALSE", "TRUE"])
    for y in (np.eye(6)[[0, 2, 4, 1, 1, 0]], np.array([0, 2, 4, 1, 1, 0], ">i8"), np.array([0, 2, 4, 1, 1, 0], "f8")):
        np.savez("t.npz", images=x, labels=y)
        run("t.npz")
        check(x, [0, 2, 4, 1, 1, 0])
    np.savez("t.npz", images=x, labels=np.arange(6) % 2, class_names=np.array(["a", "b"]))
    run("t.npz")
    check(x, np.arange(6) % 2, ["a", "b"])
    np.savez("t.npz", images=x, labels=np.arange(5))
    run("t.npz", "--labels-key", "labels", code=65, said=["5 labels for 6 images"])
    np.savez("t.npz", images=x, labels=np.array([1, None] * 3, object))
    run("t.npz", "--labels-key", "labels", code=65, said=["pickle"])


def arrays():
    x = integers((5, 6, 7, 3))
    np.save("x.npy", x)
    run("x.npy", said=["no labels"])
    check(x)
    np.save("y.npy", np.arange(5) % 2)
    run("x.npy", "--labels-key", "y.npy")
    check(x, np.arange(5) % 2)
    run("x.npy", "--labels-key", "absent.npy", code=66, said=["absent.npy"])
    run("x.npy", "--labels-key", "none")
    check(x)
    np.save("X_test.npy", x)
    run("X_test.npy")
    run("X_test.npy", "--split", "test")
    run("X_test.npy", "--split", "train", code=66, said=["train", "X_test.npy"])
    np.save("x.npy", np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    run("x.npy")
    check(x)
    np.save("x.npy", integers((5, 6, 6, 6)))
    run("x.npy", code=65, said=["ambiguous", "--layout"])
    run("x.npy", "--layout", "chw")
    check(np.load("x.npy").transpose(0, 2, 3, 1))
    # types
    for dtype, want in {"u2": "u2", ">u2": "u2", "i2": "f4", "f2": "f4", "f4": "f4", ">f8": "f4", "u4": "f4"}.items():
        x = (random.rand(5, 6, 7, 3) * 200 - (100 if dtype in ("i2", "f2", "f4", ">f8") else 0)).astype(dtype)
        if dtype == "u4":
            x[0, 0, 0, 0] = 70000
        np.save("x.npy", x)
        run("x.npy")
        check(x.astype(want))
    x = random.rand(5, 6, 7) > 0.5
    np.save("x.npy", x)
    run("x.npy")
    check(x[..., None].astype("u1") * 255)
    large = integers((3000, 40, 41, 3))  # several pieces
    np.savez_compressed("large.npz", images=large // 64, labels=np.arange(3000) % 10)
    run("large.npz")
    check(large // 64, np.arange(3000) % 10)
    # several files
    parts = [integers((n, 6, 7, 3)) for n in (3, 4)]
    for k, x in enumerate(parts):
        np.save(f"part{k}.npy", x)
        np.savez(f"part{k}.npz", images=x, labels=np.arange(len(x)) % 2)
    run("part0.npy", "part1.npy")
    check(np.concatenate(parts))
    run("part*.npz")
    check(np.concatenate(parts), [0, 1, 0, 0, 1, 0, 1])
    run("part0.npy", "part1.npy", "--labels-key", "y.npy", code=64, said=["y.npy", ".npz"])
    for words, code, text, x in (((), 65, "dimensions", integers((5, 6))), ((), 65, "Fortran", np.asfortranarray(integers((5, 6, 7)))),
                                 ((), 65, "c16", np.zeros((5, 6, 7), complex)), ((), 65, "pickle", np.full((5, 6, 7), None))):
        np.save("bad.npy", x)
        run("bad.npy", *words, code=code, said=["bad.npy", text])


def damaged():
    """A cut file is refused at every length, and so is one that states more than it has."""
    np.save("x.npy", integers((3, 4, 5)))
    np.savez("x.npz", images=integers((3, 4, 5)), labels=np.arange(3))
    for name in "x.npy", "x.npz":
        with open(name, "rb") as f:
            data = f.read()
        for n in range(0, len(data), 11):
            with open("cut" + name[1:], "wb") as f:
                f.write(data[:n])
            done = subprocess.run([SIMILE, "prepare", "cut" + name[1:], "--force", "--out", "cut.h5"], capture_output=True, text=True)
            assert done.returncode == 65 and "cut" + name[1:] in done.stderr, (name, n, done.returncode, done.stderr)
            assert not os.path.exists("cut.h5")

    def header(shape, dtype="|u1"):
        text = (f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}" + "\n").encode()
        return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text

    for shape in ("(1000000000, 1000, 1000)", "(4294967296, 4294967296, 4)", "(0, 4, 4)", "(4, 0, 4)", "(4, 16385, 4)", "(9, 4, 5)", "(4, 5, 6, 0)"):
        with open("h.npy", "wb") as f:
            f.write(header(shape) + bytes(160))
        run("h.npy", code=65, said=["h.npy"])
        with zipfile.ZipFile("h.npz", "w") as z:
            z.writestr("images.npy", header(shape) + bytes(160))
            z.writestr("labels.npy", header("(9,)") + bytes(9))
        run("h.npz", code=65, said=["h.npz"])
    with zipfile.ZipFile("h.npz", "w") as z:  # more texts than are stored
        z.writestr("images.npy", header("(9, 4, 4)") + bytes(144))
        z.writestr("labels.npy", header("(9,)", "<U65535") + bytes(9))
    run("h.npz", "--labels-key", "labels", code=65, said=["h.npz"])
    with zipfile.ZipFile("h.npz", "w") as z:
        z.writestr("images.npy", b"no array")
        z.writestr("x.npy", header("(9, 4, 4)") + bytes(144))
    run("h.npz", "--images-key", "images", code=65, said=["images"])
    run("h.npz", "--images-key", "x")
    with zipfile.ZipFile("h.npz", "w") as z:
        for i in range(3):
            z.writestr(f"cat/{i}.txt", "text")
    run("h.npz", "--format", "numpy", code=65, said=["h.npz"])


def photos():
    """Arrays in class directories, and in a zip file of them, are images."""
    x = integers((6, 8, 8, 5), "u2")
    for i in range(6):
        os.makedirs(f"photos/{'ab'[i // 3]}", exist_ok=True)
        np.save(f"photos/{'ab'[i // 3]}/{i}.npy", x[i])
    with zipfile.ZipFile("photos.zip", "w") as z:
        for i in range(6):
            z.write(f"photos/{'ab'[i // 3]}/{i}.npy", f"{'ab'[i // 3]}/{i}.npy")
    for source, name in ("photos", "folder"), ("photos.zip", "tar"):
        assert run(source, "--size", "8")["format"] == name
        check(x, [0, 0, 0, 1, 1, 1], ["a", "b"])
        run(source, code=65, said=["5 channels", "--size"])


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    for test in (archives, labels, arrays, damaged, photos):
        test()
        print(test.__name__)
