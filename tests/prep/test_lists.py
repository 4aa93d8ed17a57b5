#!/usr/bin/python3
"""Lists of files: columns, labels, splits and groups equal those of the table that Python's csv module
writes; every line that is not used is named with its number and counted; broken tables are refused.

simile-test: timeout 120 labels unit
"""
import csv
import io
import json
import os
import random
import subprocess
import tempfile

import h5py
import numpy as np
from PIL import Image

SIMILE = os.environ["SIMILE"]
SIDE = 6
draw = random.Random(4)
pixels = np.random.RandomState(4)
PHOTOS = {}


def photo(path, mode="RGB"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    PHOTOS[os.path.relpath(path, "photos")] = x = pixels.randint(0, 256, (SIDE, SIDE, 3)).astype("u1")
    Image.fromarray(x).save(path, "PNG")


def prepare(*words, code=0, said=(), unsaid=()):
    done = subprocess.run([SIMILE, "prepare", *words, "--size", str(SIDE), "--force", "--out", "out.h5", "--json"],
                          capture_output=True, text=True)
    assert done.returncode == code, f"{words}: exit {done.returncode}, expected {code}\n{done.stderr}"
    for text in said:
        assert text in done.stderr, f"{words}: no \"{text}\" in\n{done.stderr}"
    for text in unsaid:
        assert text not in done.stderr, f"{words}: \"{text}\" in\n{done.stderr}"
    return None if code else json.loads(done.stdout)


def table(rows, name="photos/files.csv", columns=("path", "label", "group", "split"), **dialect):
    with open(name, "w", newline="", encoding=dialect.pop("encoding", "utf-8")) as f:
        w = csv.writer(f, **dialect)
        w.writerow(columns)
        w.writerows(rows)


def raw(text, name="photos/files.csv"):
    with open(name, "wb") as f:
        f.write(text)


def check(paths, labels=None, classes=None, groups=None):
    """The data set has exactly these images in this order; groups are compared by name."""
    with h5py.File("out.h5") as f:
        assert [n.decode() for n in f["name"]] == paths, f["name"][()]
        assert (f["images"][()] == np.stack([PHOTOS[p] for p in paths])).all()
        assert ("labels" in f) == (labels is not None)
        if labels is not None:
            assert f["labels"][()].tolist() == list(labels), f["labels"][()]
        assert ("classes" in f) == (classes is not None)
        if classes is not None:
            assert [c.decode() for c in f["classes"]] == classes, f["classes"][()]
        assert ("group" in f) == ("groups" in f) == (groups is not None)
        if groups is None:
            return
        ids, names = f["group"][()], [n.decode() for n in f["groups"]]
        assert ids.dtype == "i4" and sorted(set(ids)) == list(range(len(names))), ids
        assert [names[i] for i in ids] == list(groups), (ids, names)
        first = [list(ids).index(i) for i in range(len(names))]
        assert first == sorted(first), f"groups are not in the order of their first images: {ids}"


def dialects():
    """The same table in every dialect gives the same data set."""
    names = sorted(PHOTOS)
    draw.shuffle(names)
    labels = [draw.choice(["cat", "a, \"b\"", "línea\nnueva"]) for _ in names]
    groups = [f"plate {draw.randrange(5)}" for _ in names]
    rows = [(n, l, g, "train") for n, l, g in zip(names, labels, groups)]
    classes = sorted(set(labels), key=lambda c: c.encode())
    want = [classes.index(l) for l in labels]
    for name, dialect in (("photos/files.csv", {}), ("photos/files.tsv", {"delimiter": "\t"}),
                          ("photos/files.CSV", {"delimiter": ";", "lineterminator": "\n"}),
                          ("photos/files.csv", {"encoding": "utf-8-sig", "quoting": csv.QUOTE_ALL})):
        table(rows, name, **dialect)
        result = prepare(name)
        assert result["format"] == "list" and result["bad"] == 0 and result["groups"] == len(set(groups)), result
        check(names, want, classes, groups)
    # --list with any name; an absolute path below the source; ./ and ..
    os.rename("photos/files.tsv", "elsewhere")
    prepare("photos/", "--list", "elsewhere")
    check(names, want, classes, groups)
    odd = [("./" * (i % 3) + n if i % 2 else os.path.abspath("photos/" + n)) for i, n in enumerate(names)]
    odd[0] = "x//../" + names[0]
    table([(p, *r[1:]) for p, r in zip(odd, rows)], "elsewhere")
    prepare("photos", "--list", "elsewhere")
    check(names, want, classes, groups)
    table(rows, "elsewhere")
    prepare("/", "--list", "elsewhere", code=65, said=[f"line 2: /{names[0]}: No such file"])
    table([(os.path.abspath("photos/" + n), *r[1:]) for n, r in zip(names, rows)], "elsewhere")
    prepare("/", "--list", "elsewhere")
    with h5py.File("out.h5") as f:
        assert [os.path.relpath("/" + n.decode(), os.path.abspath("photos")) for n in f["name"]] == names


def columns():
    names = sorted(PHOTOS)[:6]
    age, site, plate = [3, 1, 2, 3, 1, 2], list("abcabc"), [7, 7, 8, 8, 9, 9]
    table(zip(names, age, site, plate), columns=("file", "age", "site", "plate"))
    prepare("photos/files.csv", code=65, said=['no column "path"', "file, age, site, plate", "--images-key"])
    key = ("photos/files.csv", "--images-key", "file")
    prepare(*key, said=["ignored columns: age, site, plate"])
    check(names)
    prepare(*key, "--labels-key", "age", "--groups-key", "plate", said=["1 to 3 become 3 classes", "ignored columns: site"])
    check(names, [2, 0, 1, 2, 0, 1], ["1", "2", "3"], list("778899"))
    prepare(*key, "--labels-key", "site", "--groups-key", "site")  # one column for both
    check(names, [0, 1, 2, 0, 1, 2], ["a", "b", "c"], site)
    prepare(*key, "--labels-key", "none", unsaid=["become"])
    check(names)
    prepare(*key, "--labels-key", "colour", code=65, said=['no column "colour"', "--labels-key"])
    prepare(*key, "--groups-key", "colour", code=65, said=['no column "colour"', "--groups-key"])
    table(zip(names, [0, 1, 0, 1, 1, 0]), columns=("path", "label"))
    prepare("photos/files.csv")
    check(names, [0, 1, 0, 1, 1, 0])
    table(zip(names, [0, 1, "x", 1, 1, 0]), columns=("path", "label"))
    prepare("photos/files.csv", said=['"x" is not a whole number'])
    check(names, [0, 1, 2, 1, 1, 0], ["0", "1", "x"])
    # images without a group are groups of their own
    table(zip(names, ["p", "", "q", "", "p", "q"]), columns=("path", "group"))
    assert prepare("photos/files.csv", said=["2 images without a group"])["groups"] == 4
    with h5py.File("out.h5") as f:
        assert f["group"][()].tolist() == [0, 1, 2, 3, 0, 2] and f["groups"][()].tolist() == [b"p", b"", b"q", b""]
    # a selection leaves no gaps
    table(zip(names, [0, 0, 0, 1, 1, 1], "uvwxyz"), columns=("path", "label", "group"))
    assert prepare("photos/files.csv", "--limit", "3")["groups"] == 3
    with h5py.File("out.h5") as f:
        kept = [names.index(n.decode()) for n in f["name"]]
        assert f["group"][()].tolist() == [0, 1, 2] and [g.decode() for g in f["groups"]] == ["uvwxyz"[i] for i in kept]


def splits():
    names = sorted(PHOTOS)[:6]
    table(zip(names, ["train", "Test", "validation", "training", "test", ""]), columns=("path", "split"))
    for words, want in ((), (0, 3)), (("--split", "train"), (0, 3)), (("--split", "test"), (1, 4)), (("--split", "val"), (2,)):
        prepare("photos/files.csv", *words, said=["line 7", 'the split is ""'])
        check([names[i] for i in want])
    prepare("photos/files.csv", "--split", "unlabeled", code=66, said=["no line of split unlabeled", "train 2, val 1, test 2"])
    table(zip(names), columns=("path",))
    prepare("photos/files.csv", "--split", "test", code=66, said=["--split test"])
    os.rename("photos/files.csv", "photos/test.csv")
    prepare("photos/test.csv", "--split", "test")
    check(names)
    # an image is not in two splits
    table([(names[0], "train"), (names[1], "train"), (names[0], "test"), (names[2], "test")], columns=("path", "split"))
    prepare("photos/files.csv", "--split", "test", said=["line 4", "is in line 2 already"])
    check(names[2:3])
    os.symlink(os.path.abspath(f"photos/{names[0]}"), "photos/link.png")
    table([(names[0], "train"), ("link.png", "test"), (names[2], "test")], columns=("path", "split"))
    prepare("photos/files.csv", "--split", "test", said=["link.png is in line 2 already"])
    check(names[2:3])
    os.remove("photos/link.png")


def holdout():
    """No group is in both parts, which are together complete and about as large as requested."""
    names = sorted(n for n in PHOTOS if "," not in n)
    for seed in range(4):
        groups = [str(draw.randrange(5)) for _ in names]
        table(zip(names, groups), columns=("path", "group"))
        parts = []
        for split in "train", "test":
            prepare("photos/files.csv", "--holdout", "0.3", "--seed", str(seed), "--split", split, said=["no group is in both"])
            with h5py.File("out.h5") as f:
                parts.append([n.decode() for n in f["name"]])
        train, test = parts
        assert sorted(train + test) == names and train and test
        assert not {groups[names.index(n)] for n in train} & {groups[names.index(n)] for n in test}, (seed, parts)
        sizes = [groups.count(g) for g in set(groups)]
        assert abs(len(test) - round(0.3 * len(names))) <= max(max(sizes) / 2, min(sizes)), (seed, len(test), sizes)
    table(zip(names, ["one"] * len(names)), columns=("path", "group"))
    prepare("photos/files.csv", "--holdout", "0.3", code=65, said=["--holdout", "one group"])
    table(zip(names, ["most"] * (len(names) - 1) + ["a"]), columns=("path", "group"))
    for split in "train", "test":
        assert 1 <= prepare("photos/files.csv", "--holdout", "0.5", "--split", split)["images"] < len(names)


BAD = b"""path,label,group
%(a)s,cat,1

%(b)s,dog
%(b)s,dog,1,2
"%(b)s"x,dog,1
,dog,1
../outside.png,dog,1
/etc/passwd,dog,1
"two
lines.png",dog,1
%(b)s,,1
./%(a)s,cat,1
missing.png,cat,1
c,cat,1
broken.png,cat,1
%(b)s,dog,2
"""


def bad_lines():
    a, b = b"a/0.png", b"b/1.png"
    raw(b"no photo", "photos/broken.png")
    raw(BAD % {b"a": a, b"b": b})
    lines = {4: "fewer fields", 5: "more fields", 6: "closing quote", 7: "path is empty", 8: "not below", 9: "not below",
             10: "No such file", 12: "label is empty", 13: "in line 2 already", 14: "No such file", 15: "not a regular file"}
    result = prepare("photos/files.csv", said=[f"files.csv, line {n}: " for n in lines] + list(lines.values()) + ["broken.png"])
    assert result["bad"] == len(lines) + 1 and result["images"] == 2, result
    check([a.decode(), b.decode()], [0, 1], ["cat", "dog"], ["1", "2"])
    prepare("photos/files.csv", "--on-bad", "fail", code=65, said=["files.csv, line 4: "])
    raw(b"path\n" + b"".join(b"none-%d\n" % i for i in range(50)) + a)
    result = prepare("photos/files.csv", said=["line 21: ", "others are not listed"], unsaid=["line 22: "])
    assert result["bad"] == 50, result
    raw(b"path,label\n%s,cat\0s\n%s,dog\n" % (a, b))
    assert prepare("photos/files.csv", said=["line 2: a field contains a zero byte"])["bad"] == 1


def refused():
    a = b"a/0.png"
    for text, word in ((b"", "is empty"), (b"\n\n", "is empty"), (b"path,path\n", 'two columns are named "path"'),
                       ("path\nx.png\n".encode("utf-16"), "UTF-16"), (b'path,label\n%s,cat\n"a.png,dog\n' % a, "line 3"),
                       (b'"path\n', "line 1"), (b"path\nnone.png\n", "no line names an image"), (b"path\n", "no line names an image"),
                       (b"path,\"a\"b\n%s,1\n" % a, "line 1: text follows")):
        raw(text)
        prepare("photos/files.csv", code=65, said=["files.csv", word])
    prepare("photos/absent.csv", code=66, said=["absent.csv does not exist"])
    prepare("photos", "--list", "absent.csv", code=66, said=["absent.csv"])
    raw(b"path\n" + a)
    prepare("photos/files.csv", "--list", "photos/files.csv", code=66, said=["--list", "not a directory"])
    prepare("photos", "--format", "list", code=66, said=["--list FILE.csv"])
    prepare("photos", "--format", "folder", "--list", "photos/files.csv", code=64, said=["--list"])
    prepare("photos/files.csv", "--path", "x", code=64, said=["--path"])
    # the output is neither the list nor an image of it
    for out in "photos/files.csv", "photos/" + a.decode():
        done = subprocess.run([SIMILE, "prepare", "photos", "--list", "photos/files.csv", "--force", "--out", out], capture_output=True, text=True)
        assert done.returncode == 64 and out in done.stderr, done.stderr


def hostile():
    """Any text is read or refused with one message."""
    parts = [b"path", b"label", b",", b";", b"\t", b'"', b'""', b"\r", b"\n", b"\r\n", b" ", b"\0", b"\xff", b"\xef\xbb\xbf",
             b"..", b"/", b".", b"a/0.png", b"group", b"split", b"train"]
    for seed in range(150):
        r = random.Random(seed)
        raw(b"path,label\n" * (seed % 2) + b"".join(r.choice(parts) for _ in range(r.randrange(60))))
        done = subprocess.run([SIMILE, "prepare", "photos/files.csv", "--size", "6", "--force", "--out", "out.h5"], capture_output=True, text=True)
        assert done.returncode in (0, 65, 66), f"seed {seed}: exit {done.returncode}\n{done.stderr}"
        assert done.returncode == 0 or sum(l.startswith("simile: ") for l in done.stderr.splitlines()) == 1, f"seed {seed}: {done.stderr}"


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    for i in range(12):
        photo(f"photos/{'ab'[i % 2]}/{i}.png")
    photo("photos/a, \"b\"/ñ.png")
    os.mkdir("photos/c")
    dialects()
    columns()
    splits()
    holdout()
    bad_lines()
    refused()
    hostile()
print("ok")
