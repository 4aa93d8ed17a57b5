#!/usr/bin/python3
"""Unions of data sets and restrictions to classes against NumPy on the files: images, labels, names, mean,
std, fingerprint, and the images of an epoch, whose order is recomputed with Philox4x32-10.

simile-test: timeout 300
"""
import collections
import io
import json
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import xxhash
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import simile  # noqa: E402

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "data_tool_union")
ORDER, SETS = 1, 9
random = np.random.RandomState(2)
os.chdir(tempfile.mkdtemp())


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def permutation(n, seed, epoch, purpose=ORDER, stream=0):
    def key(i):
        w = philox((i, epoch, stream, 0), (seed, purpose))
        return w[1] << 32 | w[0], i
    return sorted(range(n), key=key)


def tool(*files, shares="-", classes="-", fraction="1", seed=7, epoch=0, code=0):
    done = subprocess.run([TOOL, shares, classes, fraction, str(seed), str(epoch), *files], capture_output=True, text=True)
    assert done.returncode == code, (done.returncode, done.stderr)
    return json.loads(done.stdout) if code == 0 else done.stderr


def data_set(name, n, labels=None, classes=None, side=4, channels=3):
    with h5py.File("raw.h5", "w") as f:
        f["images"] = random.randint(0, 256, (n, side, side, channels)).astype("u1")
        if labels is not None:
            f["labels"] = np.asarray(labels, "i4")
        if classes is not None:
            f["classes"] = classes
    simile("prepare", "raw.h5", "--force", "--out", name)
    return name


def content(*files):
    """Images as texts, labels by name, and names, in the order of the files."""
    images, labels, names, moments = [], [], [], []
    for name in files:
        with h5py.File(name) as f:
            x = f["images"][()]
            images += [i.tobytes().hex() for i in x]
            if "labels" in f:
                classes = [c.decode() for c in f["classes"]] if "classes" in f else None
                labels += [classes[k] if classes else int(k) for k in f["labels"][()]]
            names += [n.decode() for n in f["name"][()]]
            moments.append((len(x), f.attrs["mean"], f.attrs["std"], f.attrs["fingerprint"].decode()))
    return images, labels, names, moments


def union_fingerprint(moments, shares=None):
    h = xxhash.xxh3_128()
    h.update(np.array([1, len(moments), shares is not None], "<u8").tobytes())
    for m in moments:
        h.update(m[3].encode())
    if shares is not None:
        h.update(np.array(shares, "<f8").tobytes())
    return h.hexdigest()


def restricted(fingerprint, names):
    h = xxhash.xxh3_128(fingerprint.encode())
    for name in names:
        h.update(name.encode() + b"\0")
    return h.hexdigest()


def pooled(moments, weights):
    mean = sum(w * m[1] for w, m in zip(weights, moments))
    square = sum(w * (m[2] ** 2 + m[1] ** 2) for w, m in zip(weights, moments))
    return mean, np.sqrt(square - mean ** 2)


def near(a, b):
    return np.abs(np.asarray(a) - np.asarray(b)).max() < 1e-12


def epoch_of(sizes, shares, seed, epoch):
    """The definition of src/DESIGN.md, by whole lists."""
    total = sum(sizes)
    drawn = [int(np.floor(s * total + 0.5)) for s in shares]
    lists = []
    for k, (n, m) in enumerate(zip(sizes, drawn)):
        images = []
        for p in range(-(-m // n)):
            images += permutation(n, seed, epoch, SETS, p * len(sizes) + k)
        lists.append([sum(sizes[:k]) + i for i in images[:m]])
    owner = [k for k, m in enumerate(drawn) for _ in range(m)]
    return [lists[owner[i]].pop(0) for i in permutation(sum(drawn), seed, epoch)], drawn


# ---- every image once: names of classes, pooled moments ----
a = data_set("a.h5", 23, np.arange(23) % 3, ["dog", "ant", "cat"])
b = data_set("b.h5", 12, np.arange(12) % 2, ["bee", "cat"])
images, labels, names, moments = content(a, b)
u = tool(a, b)
assert u["n"] == 35 and u["images"] == images and u["names"] == names
assert u["classes"] == ["ant", "bee", "cat", "dog"] and [u["classes"][k] for k in u["labels"]] == labels
mean, std = pooled(moments, [23 / 35, 12 / 35])
assert near(u["mean"], mean) and near(u["std"], std)
pixels = np.array([list(bytes.fromhex(i)) for i in images]).reshape(-1, 3) / 255
assert near(u["mean"], pixels.mean(0)) and near(u["std"], pixels.std(0)), "pooled moments of equal sizes are those of all pixels"
assert u["fingerprint"] == union_fingerprint(moments) != tool(b, a)["fingerprint"]
assert u["order"] == permutation(35, 7, 0) != tool(a, b, epoch=1)["order"]
assert u["explain"].startswith("a.h5: 23 images|b.h5: 12 images|4 classes, matched by name"), u["explain"]
assert tool(a)["order"] == permutation(23, 7, 0) and tool(a)["explain"] == ""

# ---- proportions: exact lists, passes, shares ----
for shares, sizes in (("2,1", (23, 12)), ("1,9", (23, 12)), ("0.05,1", (23, 12)), ("1,1,5", (23, 12, 5))):
    files = [a, b, data_set("small.h5", 5, [0, 1, 2, 1, 0], ["ant", "bee", "cat"])][:len(sizes)]
    values = [float(s) for s in shares.split(",")]
    weights = [v / sum(values) for v in values]
    own = content(*files)[3]
    for seed, epoch in ((7, 0), (7, 1), (8, 0)):
        w = tool(*files, shares=shares, seed=seed, epoch=epoch)
        want, drawn = epoch_of(sizes, weights, seed, epoch)
        assert w["order"] == want, (shares, seed, epoch)
        starts = np.cumsum((0, *sizes))
        for k, n in enumerate(sizes):
            of_set = [i for i in w["order"] if starts[k] <= i < starts[k + 1]]
            assert len(of_set) == drawn[k]
            times = collections.Counter(of_set)
            assert set(times.values()) <= {drawn[k] // n, drawn[k] // n + 1} and (drawn[k] < n or len(times) == n)
            assert len(set(of_set[:n])) == min(n, drawn[k]), "an image twice before all others"
    assert near(w["mean"], pooled(own, weights)[0]) and near(w["std"], pooled(own, weights)[1])
    assert w["fingerprint"] == union_fingerprint(own, weights)
assert tool(a, b, shares="4,2")["fingerprint"] == tool(a, b, shares="2,1")["fingerprint"]
assert tool(a, b, shares="2,1")["explain"].startswith("a.h5: 23 images, 23 per epoch|b.h5: 12 images, 12 per epoch|")

# ---- labels: numbers, some, a mixture of names and numbers ----
n1, n2 = data_set("n1.h5", 6, [0, 1, 2, 0, 1, 2]), data_set("n2.h5", 4, [0, 4, 4, 0])
u = tool(n1, n2)
assert u["labels"] == [0, 1, 2, 0, 1, 2, 0, 4, 4, 0] and u["n_classes"] == 5 and not u["classes"]
assert "5 classes, matched by number" in u["explain"]
bare = data_set("bare.h5", 7)
for files, reason in (((a, bare), "have labels"), ((a, n1), "have class names"), ((n1, bare), "have labels")):
    u = tool(*files)
    assert not u["labels"] and f"labels are not used: only some of the data sets {reason}" in u["explain"]
assert "not used" not in tool(bare, data_set("bare2.h5", 3))["explain"]

# ---- sizes, photos, channels, the same twice ----
big = data_set("big.h5", 3, [0, 1, 0], ["ant", "cat"], side=6)
u = tool(a, big)
assert (u["h"], u["w"], u["varied"]) == (6, 6, 1) and u["images"] == content(a, big)[0]
os.makedirs("photos/bee")
for i in range(3):
    Image.fromarray(random.randint(0, 256, (5 + i, 6, 3)).astype("u1")).save(f"photos/bee/{i}.png")
simile("prepare", "photos", "--out", "p.h5")
u = tool(a, "p.h5")
assert u["encoded"] and u["varied"] and u["h"] == 0 and len(u["images"][-1]) == 2 * 7 * 6 * 3
with h5py.File("p.h5") as f:
    lo, hi = f["offset"][2:4]
    png = np.asarray(Image.open(io.BytesIO(f["bytes"][lo:hi].tobytes())))
assert u["images"][-1] == png.tobytes().hex()
gray = data_set("gray.h5", 3, channels=1)
assert all(t in tool(a, gray, code=65) for t in ("a.h5", "gray.h5", "channel"))
simile("prepare", "a.h5", "--out", "copy.h5")
assert all(t in tool(a, "copy.h5", code=65) for t in ("a.h5", "copy.h5", "the same data set"))
assert "absent.h5" in tool(a, "absent.h5", code=66)

# ---- a corrupted image is reported with its own file and number ----
with h5py.File("b.h5", "r+") as f:
    f["images"][5] ^= 1
assert "b.h5: image 5 does not match its digest" in tool(a, b, code=65)
with h5py.File("b.h5", "r+") as f:
    f["images"][5] ^= 1

# ---- classes: one file, a union, with a fraction, with proportions ----
with open("list.txt", "w") as f:
    f.write("# two\n\n  dog  \r\ncat\n")
for files in ((a,), (a, b)):
    images, labels, names, moments = content(*files)
    kept = [i for i, l in enumerate(labels) if l in ("dog", "cat")]
    u = tool(*files, classes="list.txt")
    assert u["images"] == [images[i] for i in kept] and u["names"] == [names[i] for i in kept]
    assert u["classes"] == ["dog", "cat"] and [u["classes"][k] for k in u["labels"]] == [labels[i] for i in kept]
    assert u["fingerprint"] == restricted(tool(*files)["fingerprint"], ["dog", "cat"])
    assert near(u["mean"], tool(*files)["mean"])
    whole = len(tool(*files)["classes"])
    assert f"classes of list.txt: 2 of {whole} classes, {len(kept)} of {len(labels)} images" in u["explain"]
    assert u["order"] == permutation(len(kept), 7, 0)
u = tool(a, b, classes="list.txt", shares="1,3", fraction="0.5")
kept = [i for i, l in enumerate(content(a, b)[1]) if l in ("dog", "cat")]
sizes = [sum(i in content(a)[0] for i in u["images"]), sum(i in content(b)[0] for i in u["images"])]
assert sum(sizes) == u["n"] == 4 + 7 and u["order"] == epoch_of(sizes, [0.25, 0.75], 7, 0)[0]  # 7 dogs, 14 cats
with open("numbers.txt", "w") as f:
    f.write("4\n0\n")
u = tool(n1, n2, classes="numbers.txt")
assert u["labels"] == [1, 1, 1, 0, 0, 1] and u["classes"] == ["4", "0"]

# ---- lists that are refused ----
for text, code, want in (("dog\ncow\nbea\n", 65, ("2 of the 3 classes", "cow (nearest: ", "bea (nearest: bee", "the 4 of the data")),
                         ("dog\ncat\ndog\n", 65, (":3", "dog occurs twice")), ("# none\n", 65, ("no class",)), ("a\0b\n", 65, ("not a text",))):
    with open("bad.txt", "w") as f:
        f.write(text)
    message = tool(a, b, classes="bad.txt", code=code)
    assert all(w in message for w in ("bad.txt", *want)), message
assert "absent.txt" in tool(a, b, classes="absent.txt", code=66)
assert all(w in tool(a, bare, classes="list.txt", code=65) for w in ("no labels", "only some of the data sets have labels"))
print("ok")
