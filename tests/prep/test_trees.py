#!/usr/bin/python3
"""Photos in directories and archives: splits, classes, what is excluded, names, hold-out, values with
more than 8 bits, and labels of HDF5 files of any type.  A directory and an archive of it give the
same images, classes and labels.

simile-test: timeout 240 labels unit
"""
import collections
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import MPIEXEC  # noqa: E402

SIMILE = os.environ["SIMILE"]
random = np.random.RandomState(3)
Set = collections.namedtuple("Set", "images labels classes names range")


def run(*words, code=0):
    done = subprocess.run([SIMILE, "prepare", *words, "--force", "--out", "out.h5", "--json"], capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}, expected {code}\n{done.stderr}"
    return done


def prepare(*words, code=0, said=()):
    done = run(*words, code=code)
    for text in said:
        assert text in done.stderr, f"{words}: no \"{text}\" in\n{done.stderr}"
    return None if code else json.loads(done.stdout)


def result():
    with h5py.File("out.h5") as f:
        labels = f["labels"][()].tolist() if "labels" in f else None
        classes = [c.decode() for c in f["classes"][()]] if "classes" in f else None
        if classes:
            assert f["class_names"][()].tobytes().decode() == "".join(c + "\n" for c in classes)
        limits = f.attrs["range"].tolist() if "range" in f.attrs else None
        return Set(f["images"][()], labels, classes, [n.decode() for n in f["name"][()]], limits)


def write(path, data):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def png(side=8, **options):
    out = io.BytesIO()
    Image.fromarray(random.randint(0, 256, (side, side, 3)).astype("u1")).save(out, "PNG", **options)
    return out.getvalue()


def tree(root, *paths):
    for path in paths:
        write(f"{root}/{path}", png())


def both(root, words=(), classes=None, per_class=None, said=()):
    """Converts a directory and archives of it, one of them in reverse order of the paths; all have these
    classes with that many images, and are the same data set."""
    subprocess.run(f"find {root} -type f | sort -r >{root}.list; tar cf {root}.tar -T {root}.list; tar cjf {root}.TBZ2 -C {root} .", shell=True, check=True)
    subprocess.run(["python3", "-m", "zipfile", "-c", f"{root}.zip", root], check=True)
    seen = []
    for source in (root, root + ".tar", root + ".TBZ2", root + ".zip"):
        prepare(source, "--size", "8", *words, said=said)
        got = result()
        assert got.classes == classes, (source, got.classes)
        if per_class is not None:
            counts = np.bincount(got.labels).tolist() if got.labels else len(got.images)
            assert counts == per_class, (source, counts)
        with h5py.File("out.h5") as f:
            fingerprint = f.attrs["fingerprint"]
        seen.append((fingerprint, [(i.tobytes(), l) for i, l in zip(got.images, got.labels or [0] * len(got.images))]))
        for name, image in zip(got.names, got.images):  # a row leads back to its file
            path = name if os.path.exists(name) else f"{root}/{name}"
            assert (np.asarray(Image.open(path)) == image).all(), name
    assert all(s == seen[0] for s in seen), root


def trees():
    # the classes are the first directories; deeper photos belong to them
    tree("nested", "cat/1.png", "cat/more/2.png", "cat/more/deep/3.png", "dog/1.png")
    both("nested", classes=["cat", "dog"], per_class=[3, 1])
    # Tiny ImageNet
    tree("tiny", *(f"train/{c}/images/{i}.png" for c in ("n1", "n2") for i in range(3)), "val/images/0.png", "test/images/0.png")
    both("tiny", classes=["n1", "n2"], per_class=[3, 3])
    both("tiny", ["--split", "val"], classes=["images"], per_class=[1])
    # a directory that contains all is skipped
    tree("wrapped", "images/cat/1.png", "images/dog/1.png", "images/dog/2.png")
    both("wrapped", classes=["cat", "dog"], per_class=[1, 2])
    # a class called as a split
    tree("voc", "bus/1.png", "train/1.png", "train/2.png", "tvmonitor/1.png")
    both("voc", classes=["bus", "train", "tvmonitor"], per_class=[1, 2, 1], said=["train is a class"])
    both("voc", ["--split", "train"], per_class=2, said=["2 photos outside"])
    # splits in all spellings, explicit ones only where they exist
    tree("spelled", "Training/a/1.png", "Training/b/1.png", "Validation/a/1.png", "Testing/b/1.png")
    both("spelled", classes=["a", "b"], per_class=[1, 1])
    both("spelled", ["--split", "val"], classes=["a"], per_class=[1])
    both("spelled", ["--split", "test"], classes=["b"], per_class=[1])
    for words, text in ((), "train"), (("--split", "test"), "test"), (("--holdout", "0.4"), "train, without 0.4 held out, seed 0"):
        prepare("spelled/", "--size", "8", *words)
        with h5py.File("out.h5") as f:
            assert f.attrs["source"].decode() == f"folder: spelled ({text})", f.attrs["source"]
    prepare("spelled", "--split", "unlabeled", code=66, said=["unlabeled"])
    prepare("nested", "--split", "test", code=66, said=["split test"])
    prepare("nested.tar", "--split", "test", code=66, said=["split test"])
    prepare("spelled/Testing", "--split", "test", "--size", "8")
    # photos beside class directories, and a directory beside a majority of photos
    tree("stray", "a/1.png", "a/2.png", "b/1.png", "0.png")
    both("stray", classes=["a", "b"], per_class=[2, 1], said=["1 photos beside"])
    tree("flat", *(f"{i}.png" for i in range(5)), "thumbs/1.png")
    both("flat", classes=None, per_class=5, said=["1 photos in 1 directories"])
    assert prepare("flat", "--size", "8")["excluded"] == 1


def strays():
    """A photo beside the only directory hides neither the splits nor the classes below it."""
    splits = [f"train/{c}/{i}.png" for c in ("a", "b") for i in range(2)] + ["val/a/0.png"]
    classes = ["a/0.png", "a/1.png", "b/0.png"]
    for name, above in (("one", "data/"), ("two", "data/images/"), ("none", "")):
        root = "splits_" + name
        tree(root, "cover.jpg", *(above + s for s in splits))
        for text in ("README.txt", "LICENSE", ".DS_Store", "__MACOSX/._cover.jpg", "__MACOSX/data/._train"):
            write(f"{root}/{text}", b"text")
        both(root, classes=["a", "b"], per_class=[2, 2], said=["1 photos outside"])
        both(root, ["--split", "val"], classes=["a"], per_class=[1], said=["1 photos outside"])
        assert prepare(root, "--size", "8", "--split", "val")["excluded"] == 1
        prepare(root, "--size", "8", "--split", "test", code=66, said=["split test", "train, val"])
        root = "classes_" + name
        tree(root, "cover.jpg", *(above + c for c in classes))
        both(root, classes=["a", "b"], per_class=[2, 1], said=["1 photos beside"])
        assert prepare(root, "--size", "8")["excluded"] == 1
    # a stray in each of two wrappers and within the split
    tree("deep", "0.png", "data/1.png", *("data/images/" + s for s in splits), "data/images/train/2.png")
    both("deep", classes=["a", "b"], per_class=[2, 2], said=["2 photos outside", "1 photos beside"])
    assert prepare("deep", "--size", "8")["excluded"] == 3
    tree("inner", "train/0.png", *("train/images/" + c for c in classes), "val/x/1.png")
    both("inner", classes=["a", "b"], per_class=[2, 1], said=["1 photos beside"])
    # a wrapper of one split; without a stray too
    tree("single", *("data/" + s for s in splits[:4]))
    both("single", classes=["a", "b"], per_class=[2, 2])
    both("single", ["--split", "train"], classes=["a", "b"], per_class=[2, 2])
    # a majority of photos beside the directory: only an explicit split is below it
    tree("many", *(f"{i}.png" for i in range(9)), *("data/" + s for s in splits))
    both("many", classes=None, per_class=9, said=["5 photos in 1 directories"])
    both("many", ["--split", "train"], classes=["a", "b"], per_class=[2, 2], said=["9 photos outside"])
    # one class, with and without a stray
    tree("class", "cover.png", "cat/1.png", "cat/2.png", "cat/more/3.png")
    both("class", classes=["cat"], per_class=[3], said=["1 photos beside"])


def probable_splits():
    """Directories that are probably splits, but not by the rules, are converted with a warning."""
    def warned(root, text, *words):
        return any("warning" in l and text in l for l in run(root, "--size", "8", *words).stderr.splitlines())

    for names in ("seg_train", "seg_test"), ("training_set", "test_set"), ("Train Images", "val-images", "other"):
        tree(names[0], *(f"{n}/{c}/1.png" for n in names for c in "ab"))
        assert warned(names[0], "named as splits"), names
        assert result().classes == sorted(names)
    tree("things", "train_station/1.png", "test_tube/1.png", "cat/1.png", "dog/1.png", "eel/1.png", "trainer/1.png")
    assert not warned("things", "splits")
    tree("below", *(f"{c}/{s}/1.png" for c in ("cat", "dog") for s in ("train", "val")))
    assert warned("below", "below the classes")
    assert result().classes == ["cat", "dog"]
    tree("within", *(f"{s}/{s}/{c}/1.png" for c in ("cat", "dog") for s in ("train", "test")))
    both("within", classes=["cat", "dog"], per_class=[1, 1])
    both("within", ["--split", "test"], classes=["cat", "dog"], per_class=[1, 1])
    assert not warned("within", "class")


def other_files():
    tree("ends", "a/1.png", "a/2.png", "b/3.png")
    for name in ("a/x.heic", "a/y.heic", "b/z.DNG", "b/w.ppm"):
        write("ends/" + name, b"no photo")
    write("ends/a/notes.txt", b"text")
    write("ends/a/._1.png", b"a resource fork")
    write("ends/b/unnamed", png())  # a photo by its content
    both("ends", classes=["a", "b"], per_class=[2, 2], said=["4 images are excluded", "1 .dng, 2 .heic, 1 .ppm", "1 .txt"])
    assert prepare("ends", "--size", "8")["excluded"] == 4
    # a link in a circle, a link to nothing, a directory in place of a file: only these are lost
    tree("links", "a/1.png", "b/1.png")
    os.symlink("..", "links/a/up")
    os.symlink("missing", "links/a/2.png")
    os.symlink("loop.png", "links/b/loop.png")
    os.mkdir("links/b/folder.png")
    done = prepare("links", "--size", "8", said=["1 links to a directory", "a/2.png", "b/loop.png", "b/folder.png"])
    assert (done["images"], done["bad"]) == (2, 2), done
    # a directory with the name of a photo is a class
    tree("named", "ant.png/1.png", "ant.png/2.png", "bee/1.png")
    both("named", classes=["ant.png", "bee"], per_class=[2, 1])
    # hidden directories are excluded, also in an archive
    tree("hidden", "a/1.png", "a/2.png", "b/1.png", ".thumbs/1.png", "a/.cache/3.png", ".git/x/1.png")
    both("hidden", classes=["a", "b"], per_class=[2, 1], said=["hidden files"])
    # a path of more than 1024 bytes
    deep = "/".join(["d" * 200] * 8)
    tree("deep", f"{deep}/a/{'f' * 200}.png", f"{deep}/b/{'f' * 200}.png", f"{deep}/b/{'g' * 200}.png")
    both("deep", classes=["a", "b"], per_class=[1, 2])
    # links in an archive have no data, and are counted
    tree("linked", "a/1.png", "a/2.png", "b/0.png")
    for i in (1, 2):
        os.symlink(f"../a/{i}.png", f"linked/b/{i}.png")
    prepare("linked", "--size", "8")
    assert np.bincount(result().labels).tolist() == [2, 3]
    subprocess.run("tar cf linked.tar linked; zip -qry linked.zip linked || true", shell=True, check=True)
    for source in ("linked.tar", "linked.zip"):
        if os.path.exists(source):
            prepare(source, "--size", "8", said=["2 photos are links"])
            assert np.bincount(result().labels).tolist() == [2, 1]


def webdataset():
    for i in range(5):
        write(f"web/{i:03}.png", png())
        if i < 4:
            write(f"web/{i:03}.cls", b"%d\n" % (i % 3))
    subprocess.run("tar cf web.tar -C web .; tar cf flat.tar -C web $(ls web)", shell=True, check=True)
    for source in ("web.tar", "flat.tar"):
        prepare(source, "--size", "8", said=["1 photos without a .cls"])
        got = result()
        assert {n.lstrip("./")[:3]: l for n, l in zip(got.names, got.labels)} == {"000": 0, "001": 1, "002": 2, "003": 0}
    # shards in directories; a part without labels
    for i in range(6):
        write(f"shards/shard-{i % 2}/{i:03}.png", png())
        write(f"shards/shard-{i % 2}/{i:03}.cls", b"%d" % (i % 3))
    subprocess.run("tar cf shards.tar -C shards .", shell=True, check=True)
    prepare("shards.tar", "--size", "8", said=["not the directories"])
    got = result()
    assert got.classes is None and {n[-7:-4]: l for n, l in zip(got.names, got.labels)} == {f"{i:03}": i % 3 for i in range(6)}
    os.remove("shards/shard-0/000.cls")
    subprocess.run("tar cf shards.tar -C shards .", shell=True, check=True)
    prepare("shards.tar", "--size", "8", said=[".json files of 5 of 6 photos are not used"])
    assert result().classes == ["shard-0", "shard-1"]
    tree("split", "train/1.png", "val/1.png")
    write("split/train/1.cls", b"0")
    subprocess.run("tar cf split.tar -C split .", shell=True, check=True)
    prepare("split.tar", "--size", "8", "--split", "val", said=["no selected photo has a .cls"])
    assert result().labels is None
    write("web/004.cls", b"dog")
    subprocess.run("tar cf bad.tar -C web .", shell=True, check=True)
    prepare("bad.tar", "--size", "8", said=["names", "dog"])  # a name among numbers
    assert result().classes == ["0", "1", "2", "dog"] and result().labels == [0, 1, 2, 0, 3]
    write("web/004.cls", b"")
    subprocess.run("tar cf bad.tar -C web .", shell=True, check=True)
    prepare("bad.tar", "--size", "8", code=65, said=["004.cls", "no label"])


def names_after_skips():
    tree("holes", *(f"a/{i}.png" for i in range(6)))
    write("holes/a/2.png", b"")
    prepare("holes", "--size", "8", said=["skipped: holes/a/2.png"])
    assert result().names == [f"a/{i}.png" for i in (0, 1, 3, 4, 5)]


def holdout():
    tree("many", *(f"{c}/{i}.png" for c, n in (("a", 20), ("b", 10), ("c", 2), ("d", 1)) for i in range(n)))
    parts = []
    for seed in ("0", "7"):
        prepare("many", "--size", "8", "--holdout", "0.1", "--seed", seed)
        rest = result()
        prepare("many", "--size", "8", "--holdout", "0.1", "--seed", seed, "--split", "test")
        held = result()
        assert np.bincount(held.labels, minlength=4).tolist()[:3] == [2, 1, 1]
        assert sorted(rest.names + held.names) == sorted(f"{c}/{i}.png" for c, n in (("a", 20), ("b", 10), ("c", 2), ("d", 1)) for i in range(n))
        parts.append(held.names)
    assert parts[0] != parts[1]
    prepare("many", "--size", "8", "--holdout", "0.1", "--split", "test")
    assert result().names == parts[0]
    for bad in ("0", "1", "x"):
        prepare("many", "--holdout", bad, code=64, said=["--holdout"])


def orientation():
    x = random.randint(0, 256, (6, 8, 3)).astype("u1")
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    Image.fromarray(x).save(out, "PNG", exif=exif)
    write("turned/a/1.png", out.getvalue())
    prepare("turned", "--size", "6")
    upright = np.rot90(x, -1)
    assert (result().images[0] == upright[1:7]).all()


def ranges():
    def deep(bits, folder):
        values = []
        for i in range(4):
            v = (random.rand(8, 8) * ((1 << bits) - 1)).astype("u2")
            v[0, 0] = (1 << bits) - 1 if i == 2 else 0
            values.append(v)
            os.makedirs(f"{folder}/a", exist_ok=True)
            Image.fromarray(v).save(f"{folder}/a/{i}.png")
        return np.array(values, "f8")

    for bits in (8, 10, 12, 14, 16):
        values, white = deep(bits, f"deep{bits}"), (1 << bits) - 1
        subprocess.run(f"tar cf deep{bits}.tar deep{bits}", shell=True, check=True)
        for source in (f"deep{bits}", f"deep{bits}.tar"):
            done = run(source, "--size", "8", "--type", "uint8")
            assert any("warning" in l and "--range" in l for l in done.stderr.splitlines()) == (bits in (10, 12, 14)), done.stderr
            got = result()
            order = [int(n[-5]) for n in got.names]
            want = np.floor(values[order] * 255 / white + 0.5)
            assert np.abs(got.images[..., 0] - want).max() <= (0 if bits in (8, 16) else 1), (bits, source)
            assert got.images.max() == 255 and got.range == [0, white]
            prepare(source, "--size", "8")
            got = result()
            assert got.images.dtype == "u2" and (got.images == values[order][..., None]).all()
    # files of 8 bits and of more together become RGB of 8 bits
    os.makedirs("mixed/a")
    shutil.copy("deep16/a/1.png", "mixed/a/1.png")
    Image.fromarray(random.randint(0, 256, (8, 8)).astype("u1")).save("mixed/a/0.png")
    prepare("mixed", "--size", "8")
    assert result().images.dtype == "u1" and result().images.shape == (2, 8, 8, 3)
    prepare("mixed", "--size", "8", "--type", "uint16", "--channels", "0")
    assert result().images.dtype == "u2" and result().images.shape == (2, 8, 8, 1)
    prepare("mixed", "--type", "uint16", code=64, said=["--size"])
    prepare("mixed", "--channels", "0", code=64, said=["--size"])
    prepare("deep12", "--size", "8", "--type", "uint8", "--range", "0:2000", said=["warning", "0:2000"])
    assert result().range == [0, 2000]
    prepare("deep12", "--range", "5:5", code=64, said=["--range"])
    # the content decides, not the name
    values = deep(12, "named12")
    for i, end in enumerate((".jpg", "", ".JPG", ".jpeg")):
        os.rename(f"named12/a/{i}.png", f"named12/a/{i}{end}")
    subprocess.run("tar cf named12.tar named12", shell=True, check=True)
    for source in ("named12", "named12.tar"):
        prepare(source, "--size", "8", "--type", "uint8")
        got = result()
        assert [n.split("/")[-1][0] for n in got.names] == list("0123") and got.range == [0, 4095]
        assert np.abs(got.images[..., 0] - values * 255 / 4095).max() <= 1, source
    # photos stored as files are decoded with the same range
    prepare("deep12")
    with h5py.File("out.h5") as f:
        assert f.attrs["range"].tolist() == [0, 4095] and f.attrs["mean"].max() > 0.3


def h5(name, **sets):
    with h5py.File(name, "w") as f:
        for key, value in sets.items():
            f[key] = value


def float_ranges():
    x = random.randint(0, 256, (6, 9, 9, 3)).astype("f8")
    x[0, 0, 0, 0], x[0, 0, 0, 1] = 0, 255
    over, under = (x / 255).astype("f4"), (x / 255).astype("f4")
    over[1, 2, 3, 0], under[1, 2, 3, 0] = np.nextafter(np.float32(1), np.float32(2)), -1e-7
    signed = x - 128
    for name, images, limits in (("over", over, (0, 1)), ("under", under, (0, 1)), ("wide", x.astype("i8"), (0, 255)),
                                 ("u2", (x * 16).astype("u2"), (0, 4095)), ("signed", signed.astype("i1"), (-128, 127)),
                                 ("real", x * 7.3 - 20.5, (-20.5, 255 * 7.3 - 20.5))):
        h5("r.h5", images=images)
        prepare("r.h5", "--type", "uint8")
        got = result()
        lo, hi = limits
        want = np.clip(np.round((images.astype("f8") - lo) * 255 / (hi - lo)), 0, 255)
        assert np.abs(got.images - want).max() <= 1 and np.allclose(got.range, limits), (name, got.range)
    prepare("r.h5", "--type", "uint8", "--range", "0:100", said=["clipped"])
    # one image without the dimension N
    h5("one.h5", images=random.randint(0, 256, (12, 10, 3)).astype("u1"))
    prepare("one.h5")
    assert result().images.shape == (1, 12, 10, 3)


def small_values():
    """Bool images are 0 and 255.  Bytes that are all below 16 are kept with a warning, and --range spreads
    them, for every kind of source."""
    masks = random.randint(0, 2, (20, 8, 8)).astype("u1")
    with h5py.File("bits.h5", "w") as f:  # as PyTables writes bool
        kind = h5py.h5t.NATIVE_B8
        h5py.h5d.create(f.id, b"images", kind, h5py.h5s.create_simple(masks.shape)).write(h5py.h5s.ALL, h5py.h5s.ALL, masks, kind)
    h5("bool.h5", images=masks > 0)
    h5("planes.h5", images=np.repeat((masks > 0)[:, None], 3, 1))
    with h5py.File("group.h5", "w") as f:
        f["c/a/1"], f["c/b"] = masks[0] > 0, masks[1:] > 0
    for source, *words in (("bits.h5",), ("bool.h5",), ("planes.h5",), ("group.h5", "--path", "c")):
        done = run(source, *words)
        assert "0 becomes black and 1 white" in done.stderr and "warning" not in done.stderr, done.stderr
        got = result()
        assert (got.images == masks[..., None] * 255).all() and got.range == [0, 1], source
    h5("both.h5", **{"c/a": masks > 0, "c/b": masks})
    prepare("both.h5", "--path", "c", code=65, said=["/c/b"])
    for top in (1, 3, 15, 16):
        values = random.randint(0, top + 1, (20, 8, 8)).astype("u1")
        values[7, 3, 4] = top
        h5("low.h5", images=values)
        head = (0x803).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in values.shape)
        write("train-images-idx3-ubyte", head + values.tobytes())
        os.makedirs("low", exist_ok=True)
        for i, v in enumerate(values):
            Image.fromarray(v).save(f"low/{i:02}.png")
        subprocess.run("tar cf low.tar low", shell=True, check=True)
        for source, *words in (("low.h5",), ("train-images-idx3-ubyte",), ("low", "--size", "8"), ("low.tar", "--size", "8")):
            done = run(source, *words)
            assert (f"--range 0:{top}" in done.stderr) == (top < 16), (source, done.stderr)
            assert ("0 and 1 of 255" in done.stderr) == (top == 1), done.stderr
            got = result()
            assert (got.images == values[..., None]).all() and got.range is None
            done = run(source, *words, "--range", f"0:{top}")
            assert "warning" not in done.stderr, done.stderr
            got = result()
            assert (got.images == np.floor(values[..., None] * (255 / top) + 0.5)).all() and got.range == [0, top], source
        prepare("low.h5", "--range", f"0:{top / 2}", said=["warning", "clipped"])
        prepare("low", said=["--size"] if top < 16 else [])
        prepare("low", "--range", f"0:{top}", said=["--size"])
    # the largest value is that of all images, also of those before an interruption and of all ranks
    ranks = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    for top in (15, 200):
        values[:], values[0, 0, 0] = 3, top
        h5("first.h5", images=values)
        done = subprocess.run([*MPIEXEC, "-n", "2", SIMILE, "prepare", "first.h5", "--force", "--out", "out.h5"],
                              capture_output=True, text=True, env=ranks)
        assert done.returncode == 0 and ("--range 0:15" in done.stderr) == (top == 15), done.stderr


def labels():
    x = random.randint(0, 256, (12, 8, 8, 3)).astype("u1")
    y = np.arange(12) % 3
    kinds = {"float": (y * 1.0, [0, 1, 2], None), "onehot": (np.eye(3)[y], [0, 1, 2], None),
             "onehot_int": (np.eye(3, dtype="i8")[y], [0, 1, 2], None), "bool": (y == 1, [0, 1, 0], ["FALSE", "TRUE"]),
             "onehot_bool": (np.eye(3)[y] > 0, [0, 1, 2], None),
             "text": (np.array([b"dog", b"ant", b"cat"])[y], [2, 0, 1], ["ant", "cat", "dog"]),
             "minus": (y - 1, [0, 1, 2], ["-1", "0", "1"]), "large": (y * 10**9, [0, 1, 2], ["0", "1000000000", "2000000000"])}
    for kind in ("utf-8", "ascii"):  # strings of variable length
        text = np.array([b"dog", b"ant", b"cat"], object)[y].astype(h5py.string_dtype(kind))
        kinds[f"variable_{kind}"] = text, [2, 0, 1], ["ant", "cat", "dog"]
    for name, (values, want, classes) in kinds.items():
        for extra in [()] if name.startswith("onehot") else [(), (1,), (1, 1)]:  # N, N x 1, N x 1 x 1
            h5("l.h5", images=x, labels=values.reshape(values.shape + extra))
            prepare("l.h5")
            got = result()
            assert got.labels == want * 4 and got.classes == classes, (name, extra, got.labels, got.classes)
    none = {"bool_masks": x[..., 0] > 9, "masks": (x[..., 0] > 9).astype("u1"), "several": np.zeros((12, 3), "i4"), "measured": np.arange(12) / 7,
            "own": np.arange(12) * 10**9}
    for name, values in none.items():
        h5("l.h5", images=x, labels=values)
        prepare("l.h5", said=["warning", "not used as labels"])
        assert result().labels is None, name
        prepare("l.h5", "--labels-key", "labels", code=65, said=["/labels", "--labels-key none"])
        prepare("l.h5", "--labels-key", "none")
        assert result().labels is None
    h5("l.h5", images=x, labels=y[:7])
    prepare("l.h5", code=65, said=["7 labels for 12", "--labels-key none"])


def members():
    x = random.randint(0, 256, (5, 8, 8, 3)).astype("u1")
    with h5py.File("m.h5", "w") as f:
        f["raw"], f["images"] = x, h5py.SoftLink("/raw")
    prepare("m.h5")
    assert (result().images == x).all()
    with h5py.File("m.h5", "w") as f:
        f.create_dataset("packed", data=x, compression="lzf")
        f["note"], f["more/img"], f["away"] = [b"a", b"b"], x, h5py.ExternalLink("other.h5", "/x")
    prepare("m.h5", code=65, said=["away (a link)", "more/img", "note", "packed (", "32000"])
    os.rename("m.h5", "unnamed")  # HDF5 by its content
    prepare("unnamed", code=65, said=["more/img"])
    with h5py.File("block", "w", userblock_size=512) as f:
        f["images"] = x
    prepare("block")
    assert (result().images == x).all()
    with h5py.File("m.h5", "w") as f:
        f.create_dataset("images", data=x, compression="lzf")
        f["data"] = x  # a readable set of another known name
    prepare("m.h5")
    assert (result().images == x).all()


def misnamed():
    """The content of a file decides before its name."""
    tree("set", "a/1.png", "a/2.png", "b/1.png")
    subprocess.run("tar cf set.tar set; tar czf set.tgz set", shell=True, check=True)
    subprocess.run(["python3", "-m", "zipfile", "-c", "set.zip", "set"], check=True)
    x = random.randint(0, 256, (5, 8, 8, 3)).astype("u1")
    h5("set.raw", images=x)
    with h5py.File("block.raw", "w", userblock_size=4096) as f:
        f["images"] = x
    os.mkdir("names")
    for name in ("x.h5", "x.hdf5", "x.tar", "x.zip", "x.png", "x.bin", "x", "train-images-idx3-ubyte", "train_X.bin", "data_batch_1.bin"):
        for source, form in (("set.tar", "tar"), ("set.tgz", "tar"), ("set.zip", "tar"), ("set.raw", "hdf5"), ("block.raw", "hdf5")):
            write("names/" + name, open(source, "rb").read())
            done = prepare("names/" + name, *(["--size", "8"] if form == "tar" else []))
            assert done["format"] == form, (name, source, done)
            assert (result().images == x).all() if form == "hdf5" else result().labels == [0, 0, 1]
        os.remove("names/" + name)
    # the original archives under the name of a file in them
    write("c/data_batch_1.bin", b"".join(bytes([k]) + random.bytes(3072) for k in range(4)))
    write("s/train_X.bin", random.bytes(4 * 27648))
    write("s/train_y.bin", bytes([1, 2, 3, 4]))
    subprocess.run("tar czf names/data_batch_1.bin c; tar czf names/train_X.bin s; cp names/train_X.bin names/x.bin", shell=True, check=True)
    for name, form in (("data_batch_1.bin", "cifar"), ("train_X.bin", "stl10"), ("x.bin", "stl10")):
        done = prepare("names/" + name)
        assert done["format"] == form and done["images"] == 4, done
    # a tar whose first file is HDF5, with its signature where that of an HDF5 file may be
    subprocess.run("cp set.raw set/0.h5; tar cf first.tar set/0.h5 set/a set/b", shell=True, check=True)
    assert prepare("first.tar", "--size", "8")["images"] == 3
    write("set.raw.gz", gzip.compress(open("set.raw", "rb").read()))
    prepare("set.raw.gz", code=65, said=["decompress"])
    for name, head in (("set.raw.lz4", b"\x04\x22\x4d\x18"), ("set.raw.Z", b"\x1f\x9d\x90")):
        write(name, head + random.bytes(100))
        prepare(name, code=65, said=["is compressed", "decompress"])
    for bytes_before, text in (512, b""), (1024, b"MATLAB 7.3 MAT-file"), (8192, b"a text " * 1000):
        with h5py.File("kind", "w", userblock_size=bytes_before) as f:
            f["images"] = x
        with open("kind", "r+b") as f:
            f.write(text)
        done = subprocess.run([SIMILE, "inspect", "kind"], capture_output=True, text=True)
        assert done.returncode == 65 and "kind is an HDF5 file" in done.stderr, done.stderr


def one_class():
    """Labels of a single class are kept, with a warning."""
    tree("one", "cat/1.png", "cat/2.png")
    both("one", classes=["cat"], per_class=[2])
    # an archive of the contents equals the directory, and an archive of the class that class
    subprocess.run("tar cf contents.tar -C one cat; (cd one; zip -qr ../contents.zip cat || python3 -m zipfile -c ../contents.zip cat); "
                   "cp -r one/cat cat; tar czf cat.tar.gz cat", shell=True, check=True)
    for source, classes in (("one", ["cat"]), ("contents.tar", ["cat"]), ("contents.zip", ["cat"]), ("cat", None), ("cat.tar.gz", None)):
        prepare(source, "--size", "8")
        got = result()
        assert got.classes == classes and got.labels == (classes and [0, 0]), (source, got.classes)
    tree("two", "cat/1.png", "dog/2.png")
    x = random.randint(0, 256, (6, 8, 8, 3)).astype("u1")
    h5("one.h5", images=x, labels=np.full(6, 3))
    h5("two.h5", images=x, labels=np.arange(6) % 2)
    h5("none.h5", images=x)
    for source, warned in (("one", True), ("one.h5", True), ("two", False), ("two.h5", False), ("none.h5", False)):
        done = run(source, *([] if source.endswith("5") else ["--size", "8"]))
        lines = [l for l in done.stderr.splitlines() if "one class" in l]
        assert len(lines) == warned and all("warning" in l and "knn" in l and "supcon" in l for l in lines), (source, done.stderr)
        assert (result().labels is None) == (source == "none.h5")


def converted_again():
    """Names of images and classes stay when a data set is converted again."""
    tree("again", "cat/1.png", "cat/2.png", "dog/1.png")
    prepare("again", "--size", "8")
    first = result()
    os.rename("out.h5", "first.h5")
    prepare("first.h5")
    got = result()
    assert got.names == first.names and got.classes == ["cat", "dog"] and got.labels == first.labels
    # the range of the original values stays; another one refers to the values 0 to 255
    h5("deep.h5", images=np.arange(5 * 64).reshape(5, 8, 8) * 10.0 - 1000)
    prepare("deep.h5", "--type", "uint8", "--range", "-500:2050")
    assert result().range == [-500, 2050]
    os.rename("out.h5", "first.h5")
    prepare("first.h5")
    assert result().range == [-500, 2050]
    prepare("first.h5", "--range", "51:153")
    assert result().range == [-500 + 2550 * 0.2, -500 + 2550 * 0.6]
    with h5py.File("first.h5", "r+") as f:  # of another program
        del f.attrs["format"]
    prepare("first.h5")
    assert result().range is None
    # samples of other types
    prepare("deep.h5")
    first = result()
    os.rename("out.h5", "first.h5")
    prepare("first.h5")
    assert result().images.dtype == "f4" and (result().images == first.images).all() and result().range == first.range
    prepare("again")
    os.rename("out.h5", "photos.h5")
    prepare("photos.h5", code=66, said=["encoded photos"])
    x = random.randint(0, 256, (20, 8, 8, 3)).astype("u1")
    for names, used in (["ant", "bee", "cow"], True), (["ant", "bee"], False):
        with h5py.File("named.h5", "w") as f:
            f["images"], f["labels"], f["classes"] = x, np.arange(20) % 3, names
        prepare("named.h5", said=() if used else ["2 names for 3 classes"])
        assert result().classes == (names if used else None)
    with h5py.File("unique.h5", "w") as f:
        f["images"], f["labels"] = x, random.permutation(20)
    prepare("unique.h5", said=["unique label", "--labels-key none"])


def own_files():
    """Files of the user with the names of the temporary ones are kept."""
    tree("mine", "a/1.png", "b/1.png")
    for end in (".part", ".journal"):
        open("out.h5" + end, "w").write("precious")
        prepare("mine", "--size", "8", said=[f"out.h5{end}.old-"])
        kept = [n for n in os.listdir(".") if n.startswith(f"out.h5{end}.old-")]
        assert len(kept) == 1 and open(kept[0]).read() == "precious", kept
        assert len(result().images) == 2 and not os.path.exists("out.h5" + end)


def idx_layouts():
    def idx(a):
        head = (0x800 + a.ndim).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in a.shape)
        return head + a.astype("u1").tobytes()

    x, y = random.randint(0, 256, (20, 8, 8)), np.arange(20) % 10
    for dot in "-.":
        for end in ("", ".gz"):
            for folder in (False, True):
                root = f"idx{ord(dot)}{end}{folder}"
                for split, n in (("train", 20), ("t10k", 10)):
                    for kind, a in (("images", x), ("labels", y)):
                        name = f"{split}-{kind}{dot}idx{a.ndim}-ubyte{end}"
                        data = idx(a[:n])
                        write(f"{root}/{name}/{name}" if folder else f"{root}/{name}", gzip.compress(data) if end else data)
                for words, n in (((), 20), (("--split", "test"), 10)):
                    prepare(root, *words)
                    got = result()
                    assert (got.images[..., 0] == x[:n]).all() and got.labels == y[:n].tolist(), root
                prepare(root, "--split", "val", code=66, said=["val"])
    write("plain/train-images-idx3-ubyte.gz", idx(x))  # not compressed
    assert prepare("plain/train-images-idx3-ubyte.gz")["classes"] == 0
    prepare("plain/train-images-idx3-ubyte.gz", "--split", "test", code=66, said=["--split test"])


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    for part in (trees, strays, probable_splits, other_files, webdataset, names_after_skips, holdout, orientation, ranges, float_ranges, small_values, labels,
                 members, misnamed, one_class, converted_again, own_files, idx_layouts):
        os.mkdir(part.__name__)
        os.chdir(part.__name__)
        part()
        os.chdir("..")
        print(part.__name__)
