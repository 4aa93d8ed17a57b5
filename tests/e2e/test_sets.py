#!/usr/bin/python3
"""Jobs on several data sets: training and evaluation on the union equal those on one file of the same images, the
bits are those of any number of ranks and any stops, with and without data.proportions; how lists are written; and
what is refused.  data.classes restricts training and test set.

simile-test: timeout 1200 processors 2
"""
import json
import os
import re
import shutil
import subprocess

import h5py
import numpy as np

from common import SIMILE, checkpoint, expect_lines, hash_trace, job, remove_scratch, run, same_traces_of, scratch
from launcher import MPIEXEC

os.chdir(scratch)
random = np.random.RandomState(5)


def data_set(name, labels, classes=None, side=12):
    """Gray images whose brightness depends on the name of the class."""
    labels = np.asarray(labels)
    level = np.array([40 + 25 * "abcdefg".index(c[0]) if classes else 40 for c in (classes or "a")])
    with h5py.File("raw.h5", "w") as f:
        x = random.normal((level[labels] if classes else level[labels * 0])[:, None, None], 30, (len(labels), side, side))
        f["images"] = np.clip(x, 0, 255).astype("u1")[..., None]
        f["labels"] = labels.astype("i4")
        if classes:
            f["classes"] = classes
    run(1, "prepare", "raw.h5", "--force", "--out", name)
    return name


def merged(name, *files, only=None):
    """One file of the images of all, or of those of some classes, with the classes of all, sorted."""
    images, labels = [], []
    for path in files:
        with h5py.File(path) as f:
            of = np.array([f["classes"][k].decode() for k in f["labels"][()]])
            kept = np.isin(of, only or of)
            images.append(f["images"][()][kept])
            labels += of[kept].tolist()
    classes = sorted(set(labels))
    with h5py.File("raw.h5", "w") as f:
        f["images"], f["classes"] = np.concatenate(images), classes
        f["labels"] = np.array([classes.index(k) for k in labels], "i4")
    run(1, "prepare", "raw.h5", "--force", "--out", name)


def fingerprint_in(text):
    return re.search(r"fingerprint ([0-9a-f]{32})", text)[1]


def newest(directory):
    names = sorted(os.listdir(os.path.join(directory, "checkpoints")))
    return os.path.join(directory, "checkpoints", names[-1])


A = data_set("a.h5", np.arange(60) % 3, ["cat", "ant", "dog"])
B = data_set("b,1.h5", np.arange(40) % 2, ["bee", "ant"])
TEST = data_set("test.h5", np.arange(48) % 4, ["ant", "bee", "cat", "dog"])
BARE = data_set("bare.h5", np.zeros(30, int))
merged("all.h5", A, B)
LIST = f"{{train: [{A}, '{B}'], test: {TEST}}}"


def union_job(method="simclr", data=LIST, **keys):
    path, directory = job("unused", method.split(), **keys)
    with open(path) as f:
        text = f.read().replace("data: {train: unused}", "data: " + data)
    with open(path, "w") as f:
        f.write(text)
    return path, directory


# ---- a union trains as one file of the same images ----
path, directory = union_job(schedule="{steps: 3}", optimizer="{lr: 0.001}")
text = run(2, "pretrain", path)
for line in (r"data      a.h5, b,1.h5: 100 images of 12 x 12 x 1, fingerprint [0-9a-f]{32}$", r"          a.h5: 60 images$",
             r"          b,1.h5: 40 images$", r"          4 classes, matched by name$"):
    expect_lines(text, line)
union = fingerprint_in(text)
plan = run(1, "plan", path)
assert fingerprint_in(plan) == union
expect_lines(plan, r"^          b,1.h5: 40 images$")
expect_lines(plan, r"^steps     3, 2 per epoch, 4 images dropped per epoch")
assert union in run(1, "inspect", newest(directory))
end = checkpoint(directory, 3)
accuracies = {}
for words in ([], ["--train", "all.h5"]):
    result = json.loads(run(2, "evaluate", "knn", directory, "--json", *words).splitlines()[-1])
    accuracies[tuple(words)] = result["top1"], result["per_class"] if "per_class" in result else None
    assert result["train"]["fingerprint"] == (union if not words else h5py.File("all.h5").attrs["fingerprint"].decode())
assert len(set(map(str, accuracies.values()))) == 1 and 0.3 < accuracies[()][0] < 1, accuracies
run(1, "report", directory, "--force")
with open(os.path.join(directory, "report.html")) as f:
    assert "a.h5, b,1.h5" in f.read()
expect_lines(run(1, "runs", directory), r"a\.h5, b,1\.h5")
path, directory = union_job(data=f"{{train: all.h5, test: {TEST}}}", schedule="{steps: 3}", optimizer="{lr: 0.001}")
run(1, "pretrain", path)
for name, value in checkpoint(directory, 3).items():
    if name.startswith("weights/"):
        assert np.allclose(end[name], value, rtol=0, atol=1e-6), name

# ---- the same bits on any number of ranks and with any stops ----
traces = [same_traces_of("union", *union_job(data=LIST)), same_traces_of("union of supcon", *union_job("supcon", data=LIST))]
PARTS = LIST.replace("}", ", proportions: [1, 3]}")
path, directory = union_job(data=PARTS, schedule="{epochs: 2}")  # 25 and 75 images per epoch: b,1.h5 almost twice
text = run(1, "plan", path)
expect_lines(text, r"^data      100 images, 100 per epoch, fingerprint")
expect_lines(text, r"^          b,1.h5: 40 images, 75 per epoch$")
expect_lines(text, r"^steps     4, 2 per epoch, 4 images dropped per epoch")
assert fingerprint_in(text) != union
traces += [same_traces_of("proportions", path, directory)]
assert len(set(traces)) == 3
path, directory = union_job(data=PARTS.replace("[1, 3]", "[1, 1.2]"), schedule="{epochs: 1}")
expect_lines(run(1, "plan", path), r"^data      100 images, 100 per epoch")  # 45 + 55

# ---- other proportions are other data ----
path, directory = union_job(data=PARTS, schedule="{epochs: 2}")
run(1, "pretrain", path, "--stop-after", "1", expect=75)
text = run(1, "pretrain", path, "data.proportions=1,1", expect=65)
assert all(w in text for w in ("--accept data", "data.proportions", "a.h5, b,1.h5")), text
run(2, "pretrain", path, "data.proportions=1,1", "--accept", "data")
path, directory = union_job(data=PARTS)
text = run(1, "compare", path, "--out", "grid", "--vary", "seed=1,2", "schedule.steps=2", "--evaluate", "knn")
assert "2 complete" in text or "2 complete" in open("grid.txt").read(), text

with open("two.txt", "w") as f:
    f.write("# the classes\ndog\ncat\n")
with open("both.txt", "w") as f:
    f.write("ant\ncat\n")
for first, second in (("[1, 3]", "[1, 2]"), ("[1, 3], classes: both.txt", "[1, 3]"), ("[1, 3]", "[1, 3], classes: both.txt")):
    for name, parts in (("one.yaml", first), ("other.yaml", second)):
        shutil.copy(union_job(data=PARTS.replace("[1, 3]", parts), batch="16")[0], name)
    text = run(1, "compare", "one.yaml", "other.yaml", "--out", "grid2", "schedule.steps=2", expect=65)
    assert "data.train: a.h5, b,1.h5" in text and "data.proportions and data.classes" in text, text

# ---- how a list is written ----
for words in (["data.train=[a.h5,'b,1.h5']"], ["data.train=[ a.h5, 'b,1.h5' ]"], ['data.train=["a.h5","b,1.h5"]']):
    assert run(1, "plan", path, *words, "--value", "data.train") == "a.h5\nb,1.h5\n"
os.symlink("b,1.h5", "b.h5")
for word in ("data.train=a.h5,b.h5", "data.train=a.h5, b.h5", "data.train=[a.h5,b.h5]"):
    assert run(1, "plan", path, word, "--value", "data.train") == "a.h5\nb.h5\n"
    assert fingerprint_in(run(1, "plan", path, word)) == fingerprint_in(run(1, "plan", path))
for word in ("data.train='b,1.h5'", "data.train=['b,1.h5']"):  # one file, although its name has a comma
    text = run(1, "plan", union_job(data=f"{{{word.replace('data.train=', 'train: ')}}}", batch="16")[0])
    assert fingerprint_in(text) == h5py.File(B).attrs["fingerprint"].decode()
path, directory = union_job(data=LIST, schedule="{steps: 2}")
run(1, "pretrain", path)
with open(os.path.join(directory, "config.yaml")) as f:
    assert "  train: ['a.h5', 'b,1.h5']\n" in f.read()
path, directory = union_job(data="{train: a.h5}", schedule="{steps: 2}")
run(1, "pretrain", path)
with open(os.path.join(directory, "config.yaml")) as f:
    assert "  train: 'a.h5'\n" in f.read()

# ---- sizes ----
data_set("big.h5", np.arange(30) % 2, ["ant", "cat"], side=16)
sized = "{train: [a.h5, big.h5]}"
text = run(1, "pretrain", union_job(data=sized)[0], expect=78)
assert all(t in text for t in ("augment.size", "a.h5 (12 x 12)", "big.h5 (16 x 16)")), text
same_traces_of("sizes", *union_job(data=sized, augment="{preset: digits, size: 12}"))
expect_lines(run(1, "pretrain", union_job(data=sized, augment="{preset: digits, size: 12}")[0]), r"90 images of up to 16 x 16 x 1, ")

# ---- labels ----
mixed = "{train: [a.h5, bare.h5]}"
for method in ("supcon", "supervised"):
    text = run(1, "pretrain", union_job(method, data=mixed)[0], expect=65)
    assert method in text and "only some of the data sets have class names" in text, text
expect_lines(run(1, "pretrain", union_job(data=mixed, schedule="{steps: 1}")[0]),
             r"          labels are not used: only some of the data sets have class names$")
text = run(1, "pretrain", union_job(data=mixed.replace("}", ", test: test.h5}"), evaluate="{knn_every_epochs: 1}")[0], expect=78)
assert "only some of the data sets have class names" in text and "a.h5, bare.h5" in text, text

# ---- other refusals ----
for data, code, words in (("{train: a.h5, proportions: [1, 2]}", 78, ("data.proportions", "one data set", "a.h5")),
                          ("{train: [a.h5, b.h5], proportions: [1]}", 78, ("data.proportions", "1 number for the 2 data sets")),
                          ("{train: [a.h5, b.h5], proportions: [1, 1e-5]}", 78, ("data.proportions", "b.h5", "less than one image")),
                          ("{train: [a.h5, b.h5], proportions: [1, 0]}", 78, ("data.proportions", "out of range")),
                          ("{train: [a.h5, b.h5], proportions: [1, 2], classes: two.txt}", 65, ("data.proportions", "no image of b.h5", "data.classes")),
                          ("{train: [a.h5, a.h5]}", 65, ("a.h5 and a.h5", "same data set", "data.proportions")),
                          ("{train: [a.h5, none.h5]}", 66, ("none.h5",)), ("{train: []}", 78, ("data.train",)),
                          ("{train: [a.h5, [b.h5]]}", 78, ("data.train",)), ("{train: [a.h5, '']}", 78, ("data.train", "empty")),
                          ("{train: [" + ", ".join(["a.h5"] * 17) + "]}", 78, ("data.train", "more than 16")),
                          ("{train: [a.h5, $NOT_SET/b.h5]}", 78, ("data.train", "NOT_SET"))):
    text = run(1, "pretrain", union_job(data=data)[0], expect=code)
    assert all(w in text for w in words), (data, text)

# ---- classes ----
restricted = LIST.replace("}", ", classes: two.txt}")
path, directory = union_job("supcon", data=restricted, batch="16", evaluate="{knn_every_epochs: 1, k: 5}")
text = run(1, "pretrain", path, "schedule.steps=4")
expect_lines(text, r"          classes of two.txt: 2 of 4 classes, 40 of 100 images$")
trained = fingerprint_in(text)
assert trained not in (union, h5py.File(A).attrs["fingerprint"].decode())
same_traces_of("classes", *union_job("supcon", data=restricted, batch="40"))
path, directory = union_job("supcon", data=restricted, batch="16", evaluate="{knn_every_epochs: 1, k: 5}", optimizer="{lr: 0.001}")
run(1, "pretrain", path)
merged("few.h5", A, B, only=["cat", "dog"])
merged("few-test.h5", TEST, only=["cat", "dog"])
results = []
for words in ([], ["--train", "few.h5", "--test", "few-test.h5"], ["--train", "all.h5", "--test", TEST]):
    results.append(json.loads(run(1, "evaluate", "knn", directory, "--k", "5", "--json", *words).splitlines()[-1]))
assert results[0]["train"]["fingerprint"] == trained and results[0]["top1"] == results[1]["top1"] != results[2]["top1"], results
assert len([n for n in os.listdir(os.path.join(directory, "results")) if n.startswith("knn")]) == 3, "a name for each pair of data sets"
with open(os.path.join(directory, "metrics.jsonl")) as f:
    online = [json.loads(line) for line in f if "knn_top1" in line][-1]
assert abs(online["knn_top1"] - results[0]["top1"]) < 1e-9, (online, results[0])
text = run(1, "pretrain", path, "schedule.steps=4", "data.classes=none.txt", expect=66)
assert "none.txt" in text
with open("odd.txt", "w") as f:
    f.write("dog\ncart\n")
text = run(1, "pretrain", path, "data.classes=odd.txt", expect=65)
assert all(t in text for t in ("odd.txt", "1 of the 2 classes", "cart (nearest: cat")), text

# ---- ranks that read other lists of classes ----
with open("each", "w") as f:
    f.write('#!/bin/bash\ncd r$1 && shift && exec "$SIMILE" "$@"\n')
os.chmod("each", 0o755)
for r, names in ((0, "dog\ncat\n"), (1, "cat\ndog\n")):
    os.mkdir(f"r{r}")
    with open(f"r{r}/two.txt", "w") as f:
        f.write(names)
    for name in ("a.h5", "b,1.h5", "test.h5"):
        os.symlink(f"../{name}", f"r{r}/{name}")
each = [os.path.abspath("each")]
done = subprocess.run([*MPIEXEC, "-np", "1", *each, "0", "pretrain", path, ":", "-np", "1", *each, "1", "pretrain", path],
                      capture_output=True, text=True, stdin=subprocess.DEVNULL)
assert done.returncode == 65 and "rank 1" in done.stderr and "fingerprint" in done.stderr, done.stderr
remove_scratch()
print("ok")
