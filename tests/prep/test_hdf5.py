#!/usr/bin/python3
"""HDF5 files of others against NumPy: channels, splits within a file, arrays of any name, and the
numbers and names of classes.

simile-test: timeout 120 labels unit
"""
import io
import os
import subprocess
import tarfile
import tempfile

import h5py
import numpy as np
from PIL import Image

SIMILE = os.environ["SIMILE"]
random = np.random.RandomState(11)


def run(*words, code=0, said=()):
    done = subprocess.run([SIMILE, "prepare", *words, "--force", "--out", "out.h5", "--json"], capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}, expected {code}\n{done.stderr}"
    for text in said:
        assert text in done.stderr, f"{words}: no \"{text}\" in\n{done.stderr}"
    return done.stderr


def h5(name, **sets):
    with h5py.File(name, "w") as f:
        for key, value in sets.items():
            f[key] = value


def check(images, labels=None, classes=None):
    """The data set has exactly these images, labels and class names."""
    with h5py.File("out.h5") as f:
        got = f["images"][()]
        assert got.shape == images.shape and (got == images).all(), (got.shape, images.shape)
        assert (f["labels"][()].tolist() if "labels" in f else None) == (None if labels is None else list(labels))
        assert ([c.decode() for c in f["classes"][()]] if "classes" in f else None) == classes


def channels():
    """Alpha of bytes is dropped as PIL drops it; what may be read in two ways is refused."""
    rgba = random.randint(0, 256, (6, 9, 11, 4)).astype("u1")
    rgb = np.stack([np.asarray(Image.fromarray(x, "RGBA").convert("RGB")) for x in rgba])
    for name, x in ("last", rgba), ("first", rgba.transpose(0, 3, 1, 2)):
        h5("a.h5", images=x)
        assert "alpha" in run("a.h5"), name
        check(rgb)
    # the range of the values is that of the colours
    deep = rgba.astype("f4") / 255
    deep[..., 3] = 7
    deep[0, 0, 0] = 0, 0, 1, np.nan
    want = rgb.copy()
    want[0, 0, 0] = 0, 0, 255
    for x in deep, deep.transpose(0, 3, 1, 2):
        h5("a.h5", images=x)
        run("a.h5", "--type", "uint8", "--channels", "0-2", said=["0 becomes black and 1 white"])
        check(want)
        run("a.h5", "--channels", "0-2")
        check(deep[..., :3])
        assert "skipped" in run("a.h5"), "alpha of floats is a channel, and NaN in it"
        check(deep[1:])
        run("a.h5", "--on-bad", "fail", code=65, said=["a.h5[0]", "pixel 0, 0, channel 3 is nan"])
    h5("a.h5", images=rgba)
    run("a.h5", "--channels", "0-3")
    check(rgba)
    run("a.h5", "--channels", "3,0")
    check(rgba[..., [3, 0]])
    run("a.h5", "--channels", "4", code=64, said=["no channel 4", "0 to 3"])
    h5("a.h5", images=rgba[0])
    run("a.h5")
    check(rgb[:1])
    h5("a.h5", **{"c/cat/0": rgba[0], "c/dog": rgba[1:]})
    run("a.h5", "--path", "c")
    check(rgb, [0] + [1] * 5, ["cat", "dog"])
    os.mkdir("png")
    for i, x in enumerate(rgba[:, :9, :9]):
        Image.fromarray(x, "RGBA").save(f"png/{i}.png")
    run("png", "--size", "9")
    check(rgb[:, :9, :9])
    # of 3 and 4, 3 are the channels
    h5("a.h5", images=rgba[:, :3])
    run("a.h5")
    check(rgba[:, :3].transpose(0, 2, 3, 1))
    for x in rgb[..., :1], rgb[..., 0], rgb[:, None, :, :, 0]:  # gray
        h5("a.h5", images=x)
        assert "alpha" not in run("a.h5")
        check(rgb[..., :1])
    h5("a.h5", images=rgba[:, :4])
    run("a.h5", code=65, said=["4 x 11 x 4", "ambiguous", "--layout"])
    run("a.h5", "--layout", "chw")
    check(rgba[:, :3].transpose(0, 2, 3, 1))
    h5("a.h5", images=rgb[..., 0, :1])
    run("a.h5", code=65, said=["ambiguous", "N x H x W", "1 x H x W x 1"])
    for n in 3, 4:
        h5("a.h5", **{"c/cat/0": rgb[:n, ..., 0], "c/dog/0": rgb[:n, ..., 1]})
        run("a.h5", "--path", "c", code=65, said=["ambiguous", f"H x W x {n}", "N x H x W x 1"])
    h5("a.h5", **{"c/cat": rgb[:3, ..., :1].squeeze(), "c/dog": rgb[3:5, ..., 0]})
    run("a.h5", "--path", "c")
    check(rgb[:5, ..., :1], [0, 0, 0, 1, 1], ["cat", "dog"])


def samples():
    """Samples of all types keep their values; mean, deviation and range of each channel are NumPy's."""
    deep = random.randint(0, 60000, (40, 24, 20, 12)) // np.arange(1, 13)
    for dtype, kept, x in (("u2", "u2", deep), (">u2", "u2", deep), ("f4", "f4", deep / 7), ("f8", "f4", deep / 7), ("f2", "f4", deep / 60000),
                           ("i4", "u2", deep), ("i4", "f4", deep - 9), ("i8", "f4", deep * 2), ("i2", "u2", deep // 2)):
        x = x.astype(dtype)
        for name, array in ("hwc", x), ("chw", x.transpose(0, 3, 1, 2)):
            h5("t.h5", images=array)
            run("t.h5")
            with h5py.File("out.h5") as f:
                images, mean, std, span = f["images"][()], f.attrs["mean"], f.attrs["std"], f.attrs["range"]
            assert images.dtype == kept and (images == x.astype(kept)).all(), (dtype, name, images.dtype)
            over = images.astype("f8").reshape(-1, 12)
            assert np.allclose(mean, over.mean(0), rtol=1e-12) and np.allclose(std, over.std(0), rtol=1e-10), (dtype, mean, over.mean(0))
            assert (span == np.stack([over.min(0), over.max(0)], 1)).all()
    run("t.h5", "--range", "0:100")
    with h5py.File("out.h5") as f:
        assert f.attrs["range"].tolist() == [[0, 100]] * 12
    h5("t.h5", images=deep.astype("f4") / 60000)
    run("t.h5", "--type", "uint16", code=64, said=["not integers"])
    run("t.h5", "--type", "uint8", said=["becomes black"])
    with h5py.File("out.h5") as f:
        assert f["images"].dtype == "u1" and "range" in f.attrs
    for c, code in (64, 0), (65, 65):
        h5("t.h5", images=np.zeros((2, 200, 200, c), "u1"))
        run("t.h5", code=code, said=["64"] if code else ())
    h5("t.h5", images=np.zeros((2, 16, 30, 16), "u1"))
    run("t.h5", code=65, said=["ambiguous", "--layout hwc"])
    run("t.h5", "--layout", "hwc")
    for shape, words in ((2, 8, 9, 0), []), ((2, 8, 9, 0), ["--layout", "hwc"]), ((2, 0, 9, 3), []):
        h5("t.h5", images=np.zeros(shape, "u1"))
        run("t.h5", *words, code=65)
    with h5py.File("t.h5", "w") as f:  # 2^31 pixels
        f.create_dataset("images", (1, 1 << 16, 1 << 15, 3), "u1", chunks=(1, 1, 1 << 15, 3))
    run("t.h5", code=65, said=["65536 x 32768", "67108864 pixels"])
    # values that float32 cannot scale; constant channels of any size
    lost = deep[:6].astype("f4")
    lost[2, 0, 0, 0], lost[3, 1, 1, 1], lost[..., 5], lost[..., 6] = -3.4028235e38, 2e30, 9e29, 1.6e18
    h5("t.h5", images=lost)
    run("t.h5", said=["channel 0 is -3.40282e+38", "channel 1 is 2e+30", "1e+30"])
    check(lost[[0, 1, 4, 5]])
    subprocess.run([SIMILE, "inspect", "out.h5"], check=True, capture_output=True)
    for n in ((1 << 63) - 1, 7):
        h5("t.h5", images=np.full((3, 9, 8, 2), n))
        run("t.h5")
        subprocess.run([SIMILE, "inspect", "out.h5"], check=True, capture_output=True)
    h5("t.h5", images=deep.astype("f4"))
    for limits in "0:1e39", "0:1e-300", "-3e38:1":
        run("t.h5", f"--range={limits}", code=64, said=["--range", "1e+30"])
    run("t.h5", "--range=-1e29:1e29", code=65, said=["too wide for channel 0", "--range"])
    bad = deep[:6].astype("f4")
    bad[1, 2, 3, 4], bad[4, 0, 0, 0] = np.nan, np.inf
    h5("t.h5", images=bad, labels=np.arange(6) % 2)
    log = run("t.h5", said=["pixel 3, 2, channel 4 is nan", "pixel 0, 0, channel 0 is inf"])
    assert log.count("skipped") >= 2, log
    check(bad[[0, 2, 3, 5]], [0, 0, 1, 1])


def splits():
    """Arrays of splits in one file are selected as directories of splits are."""
    x = {"train": random.randint(0, 256, (20, 8, 9, 3)).astype("u1"), "test": random.randint(0, 256, (7, 8, 9, 3)).astype("u1")}
    y = {"train": np.arange(20) % 3, "test": np.arange(7) % 3}
    names = {"keras": ("x_{}", "y_{}"), "upper": ("X_{}", "Y_{}"), "coursera": ("{}_set_x", "{}_set_y"), "after": ("images_{}", "labels_{}"),
             "groups": ("data/{}/images", "data/{}/labels"), "any": ("{}/pictures", "{}/kind"), "mixed": ("{}-img", "{}-target")}
    for name, (image, label) in names.items():
        with h5py.File("s.h5", "w") as f:
            for s in x:
                f[image.format(s)], f[label.format(s)] = x[s], y[s]
            f["list_classes"] = [b"a", b"b", b"c"]
            f["mean_image"] = x["train"][0]
        for words, s in ((), "train"), (("--split", "train"), "train"), (("--split", "test"), "test"):
            log = run("s.h5", *words)
            assert "splits: train, test" in log and f"split {s}" in log, (name, log)
            check(x[s], y[s], ["a", "b", "c"])
            with h5py.File("out.h5") as f:
                assert f.attrs["source"].decode() == f"hdf5: s.h5 ({s})"
        run("s.h5", "--split", "val", code=66, said=["no split val", "train, test"])
    h5("s.h5", X_test=x["test"], y_test=y["test"], y_train=y["train"])
    run("s.h5", code=66, said=["no split train", "its splits are test", "--split"])
    h5("s.h5", X_train=x["train"], X_val=x["test"], y_train=y["train"], meta_train=np.arange(20) / 7)
    run("s.h5")
    check(x["train"], y["train"])
    run("s.h5", "--split", "val")
    check(x["test"])
    # names that the user gives, and known names, come first
    run("s.h5", "--images-key", "X_val", "--split", "val")
    check(x["test"])
    run("s.h5", "--images-key", "X_train", "--labels-key", "none", "--split", "train")
    check(x["train"])
    run("s.h5", "--images-key", "X_train", "--split", "val", code=66, said=["--split val"])
    h5("s.h5", images=x["train"], labels=y["train"], images_test=x["test"], labels_test=y["test"])
    run("s.h5")
    check(x["train"], y["train"])
    run("s.h5", "--split", "test")
    check(x["test"], y["test"])


def found():
    """Without known names, the only array of images and the only labels are found; otherwise nothing is guessed."""
    x, y = random.randint(0, 256, (20, 8, 9, 3)).astype("u1"), np.arange(20) % 3
    text = np.array([b"ant", b"bee", b"cow"])[y]
    for labels, classes in (y, None), (y[:, None], None), (text, ["ant", "bee", "cow"]), (text[:, None], ["ant", "bee", "cow"]), (np.eye(3)[y], None):
        h5("f.h5", pictures=x, **{"about/kind": labels, "about/sizes": np.zeros(5), "about/table": np.zeros((4, 7))})
        run("f.h5", said=["/about/kind"])
        check(x, y, classes)
    h5("f.h5", pictures=x, kind=y, number=y + 1)  # two labels
    run("f.h5", said=["--labels-key"])
    check(x)
    h5("f.h5", pictures=x, label_kind=y, number=y + 1)
    run("f.h5")
    check(x, y)
    h5("f.h5", image_raw=x, masks=x[..., 0], kind=y)
    run("f.h5")
    check(x, y)
    for sets in {"left": x, "right": x}, {"cat/a": x, "dog/images": x}, {"flat": x.reshape(20, -1), "kind": y}, {"kind": y}:
        h5("f.h5", **sets)
        run("f.h5", code=65, said=["--images-key", "--path", *sets])
    with h5py.File("f.h5", "w") as f:
        f.create_dataset("packed", data=x, compression="lzf")
        f["thumbs/small"] = x
    run("f.h5", code=65, said=["packed", "thumbs/small"])


def numbers():
    """Numbers from 0 on are classes as they are; of others, the values that occur are the classes."""
    x = random.randint(0, 256, (18, 8, 8, 1)).astype("u1")
    cases = {"from_0": (np.arange(18) % 3, None), "hole": (np.arange(18) % 3 * 2, None), "from_1": (np.arange(18) % 3 + 1, ["1", "2", "3"]),
             "hole_1": (np.arange(18) % 3 * 2 + 1, ["1", "3", "5"]), "ten": (np.arange(18) % 2 * 8 + 2, ["2", "10"]),
             "minus": (np.arange(18) % 2 * 2 - 1, ["-1", "1"])}
    for name, (y, classes) in cases.items():
        want = y if classes is None else np.unique(y, return_inverse=True)[1]
        sources = {"float": y * 1.0, "column": y[:, None].astype("i8")}
        for kind, values in sources.items():
            h5(f"{name}.h5", images=x, labels=values)
            run(f"{name}.h5")
            check(x, want, classes)
        if name == "minus":
            continue
        os.mkdir(name)
        for stem, a in ("images", x[..., 0]), ("labels", y):
            with open(f"{name}/train-{stem}-idx{a.ndim}-ubyte", "wb") as f:
                f.write(np.array([0x800 + a.ndim, *a.shape], ">u4").tobytes() + a.astype("u1").tobytes())
        run(name)
        check(x, want, classes)
        with tarfile.open(f"{name}.tar", "w") as t:
            for i in range(18):
                png = io.BytesIO()
                Image.fromarray(x[i, ..., 0]).save(png, "PNG")
                for end, data in (".png", png.getvalue()), (".cls", b"%d" % y[i]):
                    info = tarfile.TarInfo(f"{i:02}{end}")
                    info.size = len(data)
                    t.addfile(info, io.BytesIO(data))
        run(f"{name}.tar", "--size", "8")
        check(np.repeat(x, 3, 3), want, classes)
    # a list of names: labels are its indices, also if 0 does not occur
    names = ["none", "ant", "bee", "cow"]
    for y, classes in (cases["from_1"][0], names), (cases["hole_1"][0], ["1", "3", "5"]):
        h5("named.h5", images=x, labels=y, classes=names)
        log = run("named.h5")
        assert ("names are not used" in log) == (classes != names), log
        check(x, y if classes == names else y // 2, classes)


def evaluation():
    """A training set and a test set are matched by class, whichever classes they have."""
    gray = np.array([20, 100, 180, 250])
    y = {"train": np.arange(32) % 4, "test": np.array([1, 3, 2, 3] * 3), "both": np.arange(12) % 4}
    for split, labels in y.items():
        for first in 0, 1:
            h5("s.h5", images=(gray[labels][:, None, None, None] + random.randint(-9, 5, (len(labels), 16, 16, 1))).astype("u1"), labels=labels + first)
            run("s.h5")
            os.rename("out.h5", f"{split}{first}.h5")
    with open("job.yaml", "w") as f:
        f.write("run: run\ndata: {train: train0.h5}\nmethod: {name: simclr}\nencoder: {width: 0.0625}\nbatch: 16\nblock: 8\n"
                "schedule: {steps: 1}\naugment: {preset: none}\n")
    subprocess.run([SIMILE, "pretrain", "job.yaml"], check=True, capture_output=True)
    for first in 0, 1:
        for split in "test", "both":
            done = subprocess.run([SIMILE, "evaluate", "knn", "run", "--train", f"train{first}.h5", "--test", f"{split}{first}.h5", "--k", "3"],
                                  capture_output=True, text=True)
            assert "top-1 100.00 %" in done.stdout, (split, first, done.stdout, done.stderr)


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    for part in (channels, samples, splits, found, numbers, evaluation):
        os.mkdir(part.__name__)
        os.chdir(part.__name__)
        part()
        os.chdir("..")
        print(part.__name__)
