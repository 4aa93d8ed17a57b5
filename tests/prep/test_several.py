#!/usr/bin/python3
"""Several archives, directories or HDF5 files as one data set, and --classes: the images, labels and names are those
that NumPy collects from the sources, in the order of their names; the same bytes by any pattern, on any number of
ranks and after an interruption; what cannot be joined is refused.

simile-test: timeout 600 processors 2
"""
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile

import h5py
import numpy as np
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import MPIEXEC  # noqa: E402

SIMILE = os.environ["SIMILE"]
SIDE = 8
random = np.random.RandomState(6)
os.chdir(tempfile.mkdtemp())


def prepare(*words, code=0, said=(), ranks=0, limit=None, out="out.h5"):
    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    front = [*MPIEXEC, "-np", str(ranks)] if ranks else []
    done = subprocess.run([*front, SIMILE, "prepare", *words, "--force", "--out", out, "--json"], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, preexec_fn=small_files if limit else None)
    assert done.returncode == code, f"{words}: exit {done.returncode}, expected {code}\n{done.stderr}"
    for text in [said] if isinstance(said, str) else said:
        assert text in done.stderr, f"{words}: no \"{text}\" in\n{done.stderr}"
    return None if code else json.loads(done.stdout)


def check(images, labels, classes, names):
    with h5py.File("out.h5") as f:
        assert [n.decode() for n in f["name"]] == names, ([n.decode() for n in f["name"]], names)
        assert np.array_equal(f["images"][()], np.array(images))
        assert (f["labels"][()].tolist() if "labels" in f else None) == labels
        assert ([c.decode() for c in f["classes"]] if "classes" in f else None) == classes


def digest(path="out.h5"):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def pixels():
    return random.randint(0, 256, (SIDE, SIDE, 3)).astype("u1")


def png(x):
    out = io.BytesIO()
    Image.fromarray(x).save(out, "PNG")
    return out.getvalue()


def tar(path, entries):
    with tarfile.open(path, "w") as t:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))


# ---- archives with classes as directories: one has a single class, one another order ----
shards = {"train-000.tar": ["cat/1", "cat/2", "dog/1"], "train-001.tar": ["dog/1", "dog/7"], "train-002.tar": ["eel/2", "cat/9", "ant/5"]}
content = {(s, p): pixels() for s, paths in shards.items() for p in paths}
for s, paths in shards.items():
    tar(s, [(p + ".png", png(content[s, p])) for p in paths])
ordered = [(s, p) for s in sorted(shards) for p in sorted(shards[s])]
classes = sorted({p.split("/")[0] for _, p in content})
labels = [classes.index(p.split("/")[0]) for _, p in ordered]
want = ([content[k] for k in ordered], labels, classes, [f"{s}/{p}.png" for s, p in ordered])
size = ["--size", str(SIDE)]
report = prepare("train-000.tar", "train-001.tar", "train-002.tar", *size)
assert report["images"] == 8 and report["classes"] == 4
check(*want)
same = digest()
for words in (["train-002.tar", "train-000.tar", "train-001.tar"], ["train-*.tar"], ["train-00?.tar"], ["train-{000..002}.tar"],
              ["train-{000,001}.tar", "train-002.tar"], ["train-00{0..2}.tar"], ["train-0{00..02}.tar"], ["./train-*.tar"], [os.path.abspath("train-00") + "{0,1,2}.tar"]):
    prepare(*words, *size)
    check(*want)
    assert digest() == same, words
for ranks in (1, 2, 3):
    prepare("train-*.tar", *size, ranks=ranks)
    assert digest() == same, f"{ranks} ranks"
with h5py.File("out.h5") as f:
    assert f.attrs["source"] == b"tar: train-000.tar and 2 more (all)", f.attrs["source"]

# archives that contain a directory of their own name
for s, paths in shards.items():
    tar("named-" + s, [(f"named-{s[:-4]}/{p}.png", png(content[s, p])) for p in paths])
prepare("named-train-*.tar", *size)
check(want[0], labels, classes, [f"named-{s}/named-{s[:-4]}/{p}.png" for s, p in ordered])
# one directory in all of them is the only class, as it is of a single archive
tar("flat-1.tar", [("images/1.png", png(want[0][0]))])
tar("flat-2.tar", [("images/2.png", png(want[0][1]))])
prepare("flat-*.tar", *size)
check(want[0][:2], [0, 0], ["images"], ["flat-1.tar/images/1.png", "flat-2.tar/images/2.png"])

# ---- WebDataset: the same keys in all shards ----
entries = {s: [(f"{i:03}", pixels(), int(random.randint(0, 5))) for i in range(4)] for s in ("web-0.tar", "web-1.tar")}
for s, list_of in entries.items():
    tar(s, [e for key, x, label in list_of for e in ((f"./{key}.png", png(x)), (f"./{key}.cls", str(label).encode()))])
prepare("web-{0..1}.tar", *size)
flat = [(s, *e) for s in sorted(entries) for e in entries[s]]
values = [e[3] for e in flat]
check([e[2] for e in flat], values if 0 in values else [sorted(set(values)).index(v) for v in values],
      None if 0 in values else [str(v) for v in sorted(set(values))], [f"{e[0]}/{e[1]}.png" for e in flat])
tar("web-1.tar", [("000.cls", b" "), ("000.png", png(pixels()))])
prepare("web-*.tar", *size, code=65, said=("web-1.tar", "000.cls"))

# ---- directories, with equal last components ----
for site in ("a", "b"):
    for c in ("one", "two") if site == "a" else ("two", "zero"):
        os.makedirs(f"data/{site}/train/{c}")
        for i in range(3):
            content[site, c, i] = pixels()
            with open(f"data/{site}/train/{c}/{i}.png", "wb") as f:
                f.write(png(content[site, c, i]))
keys = sorted(k for k in content if len(k) == 3)
classes = ["one", "two", "zero"]
for words in (["data/a/train", "data/b/train/"], ["data/{b,a}/train"]):
    prepare(*words, *size)
    check([content[k] for k in keys], [classes.index(c) for _, c, _ in keys], classes, [f"{s}:train/{c}/{i}.png" for s, c, i in keys])
prepare("data/a", "data/b", *size, said="split train")
check([content[k] for k in keys], [classes.index(c) for _, c, _ in keys], classes, [f"{s}/train/{c}/{i}.png" for s, c, i in keys])
prepare("data/a", "data/b", *size, ranks=2)
with open("data/b/train/two/1.png", "wb") as f:
    f.write(b"\x89PNG damaged")
prepare("data/a", "data/b", *size, said="b/train/two/1.png")
os.symlink(os.path.abspath("out.h5"), "data/a/train/one/9.png")
prepare("data/a", "data/b", *size, code=64, said="is read by this command")
os.remove("data/a/train/one/9.png")


# ---- HDF5 files ----
def hdf5(path, x, y=None, names=None):
    with h5py.File(path, "w") as f:
        f["images"] = x
        if y is not None:
            f["labels"] = np.array(y)
        if names:
            f["classes"] = names
    return x


a, b, c = (random.randint(0, 256, (n, SIDE, SIDE, 3)).astype("u1") for n in (5, 3, 4))
hdf5("n-1.h5", a, [2, 1, 2, 1, 1])  # alone they would be classes "1" and "2"
hdf5("n-2.h5", b, [0, 3, 0])
prepare("n-*.h5")
check(np.concatenate([a, b]), [2, 1, 2, 1, 1, 0, 3, 0], None, [f"n-1.h5[{i}]" for i in range(5)] + [f"n-2.h5[{i}]" for i in range(3)])
for ranks in (2, 3):
    same = digest()
    prepare("n-{1..2}.h5", ranks=ranks)
    assert digest() == same
hdf5("t-1.h5", a, [0, 1, 0, 1, 1], ["dog", "ant"])
hdf5("t-2.h5", c, [1, 0, 1, 1], ["ant", "bee"])
prepare("t-2.h5", "t-1.h5")
check(np.concatenate([a, c]), [2, 0, 2, 0, 0, 1, 0, 1, 1], ["ant", "bee", "dog"], [f"t-1.h5[{i}]" for i in range(5)] + [f"t-2.h5[{i}]" for i in range(4)])
prepare("t-1.h5", "--out", "p-1.h5", out="p-1.h5")
prepare("t-2.h5", "--out", "p-2.h5", out="p-2.h5")
prepare("p-1.h5", "p-2.h5")
with h5py.File("out.h5") as f:
    assert f["name"][5].decode() == "p-2.h5/t-2.h5[0]"
hdf5("u-1.h5", np.full((2, SIDE, SIDE), 200, "u2"))
hdf5("u-2.h5", np.full((1, SIDE, SIDE), 4000, "u2"))
prepare("u-*.h5")
with h5py.File("out.h5") as f:
    assert f["images"][:, 0, 0, 0].tolist() == [200, 200, 4000] and f.attrs["range"].tolist() == [[200, 4000]]
prepare("u-*.h5", "--type", "uint8")  # one range, of 12 bits, for both
with h5py.File("out.h5") as f:
    assert f.attrs["range"].tolist() == [0, 4095]
    assert f["images"][:, 0, 0, 0].tolist() == [round(200 / 4095 * 255)] * 2 + [round(4000 / 4095 * 255)]
hdf5("v.h5", a)
hdf5("s.h5", a[:, :4])
for words, said in ((["n-1.h5", "t-1.h5"], ("n-1.h5", "t-1.h5", "numbers", "names")), (["n-1.h5", "v.h5"], ("n-1.h5", "v.h5", "no labels")),
                    (["v.h5", "s.h5"], ("s.h5", "v.h5", "of one size")), (["u-1.h5", "v.h5"], ("u-1.h5", "v.h5")),
                    (["n-1.h5", "train-000.tar"], ("format hdf5", "of tar", "one format"))):
    prepare(*words, code=65, said=said)

# ---- an interrupted conversion resumes; a source that changes starts again ----
photo = [[(f"{c}/{i:03}.png", png(random.randint(0, 256, (48, 48, 3)).astype("u1"))) for c in "ab" for i in range(150)] for _ in range(2)]
for k, entries in enumerate(photo):
    tar(f"big-{k}.tar", entries)
prepare("big-*.tar", "--size", "48", out="whole.h5")
prepare("big-*.tar", "--size", "48", out="part.h5", code=74, limit=3000000, said="resumes after")
assert any(n.startswith("part.h5.") for n in os.listdir("."))
prepare("big-{0,1}.tar", "--size", "48", out="part.h5", said="resuming after")
assert digest("part.h5") == digest("whole.h5")
prepare("big-*.tar", "--size", "48", out="part.h5", ranks=2)
assert digest("part.h5") == digest("whole.h5")

# ---- refused sources ----
shutil.copy("train-000.tar", "copy.tar")
for words, code, said in ((["none-*.tar"], 66, "no file matches none-*.tar"), (["none-{0..1}.tar"], 66, "none-0.tar does not exist"),
                          (["train-{2..0}.tar"], 64, "train-{2..0}.tar"), (["train-000.tar", "./train-000.tar"], 64, "the same source"),
                          (["train-{0..999999}.tar"], 64, "100000"), (["no/*/train.tar"], 64, "last part"),
                          ([".", "data/a"], 64, "by its name"), (["data/a", "none"], 66, "none does not exist")):
    prepare(*words, *size, code=code, said=said)
os.makedirs("mnist")
for name, x in (("train-images-idx3-ubyte", b"\0\0\x08\3" + b"\0\0\0\2\0\0\0\4\0\0\0\4" + bytes(32)), ("train-labels-idx1-ubyte", b"\0\0\x08\1" + b"\0\0\0\2" + bytes(2))):
    with open(f"mnist/{name}", "wb") as f:
        f.write(x)
shutil.copytree("mnist", "mnist2")
prepare("mnist", "mnist2", code=64, said=("format idx takes one source", "data.train"))
prepare("train-000.tar", "train-001.tar", *size, out="train-001.tar", code=64, said="train-001.tar")
with open("out.h5", "rb") as f:
    assert f.read(4) == b"\x89HDF"

# ---- --classes ----
with open("list.txt", "w") as f:
    f.write("# kept\neel\ncat\n")
kept = [i for i, (_, p) in enumerate(ordered) if p.split("/")[0] in ("eel", "cat")]
names = [want[3][i] for i in kept]
new = [["eel", "cat"].index(ordered[i][1].split("/")[0]) for i in kept]
prepare("train-*.tar", "--classes", "list.txt", *size, said="classes of list.txt: 2 of 4 classes, 4 of 8 images")
check([want[0][i] for i in kept], new, ["eel", "cat"], names)
with h5py.File("out.h5") as f:
    assert f.attrs["source"] == b"tar: train-000.tar and 2 more (all, classes list.txt)"
same = digest()
prepare("train-*.tar", "--classes", "list.txt", *size, ranks=3)
assert digest() == same
prepare("train-*.tar", "--classes", "list.txt", *size, "--limit", "2")
with h5py.File("out.h5") as f:
    assert sorted(f["labels"][()].tolist()) == [0, 1]
prepare("train-*.tar", *size, "--limit", "1")
same = digest()
prepare("train-*.tar", *size, "--limit", "1", ranks=3)  # two ranks have no image
assert digest() == same
parts = []
for split in ("train", "test"):
    prepare("train-*.tar", "--classes", "list.txt", *size, "--holdout", "0.5", "--split", split)
    with h5py.File("out.h5") as f:
        parts += [n.decode() for n in f["name"]]
assert sorted(parts) == sorted(names)
with open("numbers.txt", "w") as f:
    f.write("3\n0\n")
prepare("n-*.h5", "--classes", "numbers.txt")
check(b, [1, 0, 1], ["3", "0"], [f"n-2.h5[{i}]" for i in range(3)])
with open("odd.txt", "w") as f:
    f.write("cat\nbat\n")
for words, code, said in ((["train-*.tar", "--classes", "odd.txt", *size], 65, ("odd.txt", "1 of the 2 classes", "bat (nearest: cat")),
                          (["v.h5", "--classes", "odd.txt"], 65, ("--classes", "v.h5 has no labels")),
                          (["train-*.tar", "--classes", "none.txt", *size], 66, "none.txt")):
    prepare(*words, code=code, said=said)
prepare("train-*.tar", "--classes", "list.txt", *size, out="list.txt", code=64, said="is read by this command")
print("ok")
