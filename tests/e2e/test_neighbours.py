#!/usr/bin/python3
"""`simile neighbours` against NumPy: neighbours and pairs of features that `embed` writes and of other HDF5
files, queries by number, data set and photo, pictures, the same result on 1 to 4 ranks, bad input.

simile-test: timeout 600
"""
import csv
import os
import shutil
import sys
import tempfile

import h5py
import numpy as np
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import simile  # noqa: E402

JOB = """run: run
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.0625, projector: {dim: 16}}
batch: 32
block: 8
schedule: {steps: 4}
augment: {preset: simclr-cifar}
"""
random = np.random.RandomState(5)
N, M = 150, 70


def write_data(name, images, labels):
    with h5py.File("raw.h5", "w") as f:
        f["images"], f["labels"] = images, labels.astype("i4")
        f["class_names"] = np.array([b"one", b"two, three", b"four"])
    simile("prepare", "raw.h5", "--force", "--out", name)


def features(data, key="features"):
    simile("embed", "run", "--data", data, "--out", "e.h5", "--force")
    with h5py.File("e.h5") as f:
        x = f[key][()].astype("f8")
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def neighbours(*words, ranks=1):
    """The list as {query: [(index, similarity), ...]}, and its rows."""
    simile("neighbours", *words, "--out", "list.csv", "--force", ranks=ranks)
    with open("list.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    out = {}
    for row in rows:
        found = out.setdefault(row["query"], [])
        assert int(row["rank"]) == len(found) + 1
        found.append((int(row["index"]), float(row["similarity"])))
    return out, rows


def check_nearest(found, cosines, k, leave_out=None):
    """The k largest cosines, in their order but for rounding."""
    cosines = cosines.copy()
    if leave_out is not None:
        cosines[leave_out] = -2
    want = np.sort(cosines)[::-1][:k]
    assert len(found) == min(k, np.sum(cosines > -2)), (len(found), k)
    assert np.allclose([s for _, s in found], want[:len(found)], atol=2e-6)
    assert len({i for i, _ in found}) == len(found)
    for i, s in found:
        assert i != leave_out and abs(cosines[i] - s) < 2e-6, (i, s, cosines[i])


def check_sets():
    x, y = features("train.h5"), features("test.h5")
    found, rows = neighbours("run", "--data", "train.h5", "--query", "test.h5", "--k", "7")
    assert len(found) == M and {row["class"] for row in rows} == {"one", "two, three", "four"}
    for q in range(M):
        check_nearest(found[str(q)], x @ y[q], 7)
    found, _ = neighbours("run", "--data", "train.h5", "--k", "5")
    assert [int(q) for q in found] == [i * N // 12 for i in range(12)]
    for q in found:
        check_nearest(found[q], x @ x[int(q)], 5, int(q))
    found, _ = neighbours("run", "--data", "train.h5", "--query", "149, 3,70", "--k", "1000")
    assert list(found) == ["149", "3", "70"]
    for q in found:
        check_nearest(found[q], x @ x[int(q)], 1000, int(q))
    p = features("train.h5", "projections")
    found, _ = neighbours("run", "--data", "train.h5", "--query", "8", "--projector")
    check_nearest(found["8"], p @ p[8], 10, 8)


def check_features():
    """Any HDF5 file with /features, also with a row of zeros and rows that are equal."""
    x = random.randn(2100, 9).astype("f4")
    x[4] = 0
    x[2050] = 3 * x[7]
    x[1500] = x[7]
    with h5py.File("x.h5", "w") as f:
        f["features"] = x
    unit = x.astype("f8") / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)
    found, rows = neighbours("x.h5", "--query", "7,4,2099", "--k", "12")
    assert [i for i, _ in found["7"][:2]] == [1500, 2050] and rows[0]["name"] == rows[0]["class"] == ""
    for q in ("7", "2099"):
        check_nearest(found[q], unit @ unit[int(q)], 12, int(q))
    assert [s for _, s in found["4"]] == [0] * 12 and [i for i, _ in found["4"]] == [0, 1, 2, 3] + list(range(5, 13))
    text = simile("neighbours", "x.h5", "--query", "7", "--k", "2").stdout
    assert "1500" in text and "1.0000" in text


def pairs(*words, ranks=1):
    simile("neighbours", *words, "--out", "pairs.csv", "--force", ranks=ranks)
    with open("pairs.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    return [(int(r["first"]), int(r["second"]), float(r["similarity"])) for r in rows], rows


def check_pairs_of(got, cosines, threshold):
    want = {(i, j) for i, j in zip(*np.nonzero(cosines >= threshold))}
    near = {(i, j) for i, j in zip(*np.nonzero(np.abs(cosines - threshold) < 2e-6))}
    seen = {(i, j) for i, j, _ in got}
    assert seen - near == want - near and len(seen) == len(got), (len(seen), len(want))
    assert all(abs(cosines[i, j] - s) < 2e-6 for i, j, s in got)
    assert [s for _, _, s in got] == sorted((s for _, _, s in got), reverse=True)


def check_duplicates():
    """Pairs within a set and between two, with planted copies of images."""
    x, y = features("train.h5"), features("test.h5")
    threshold = float(np.quantile(np.triu(x @ x.T, 1)[np.triu_indices(N, 1)], 0.98))
    got, _ = pairs("run", "--data", "train.h5", "--duplicates", f"{threshold:.6f}")
    check_pairs_of(got, np.triu(x @ x.T, 1) - 2 * np.tril(np.ones((N, N))), float(f"{threshold:.6f}"))
    assert {(2, 90), (2, 91), (90, 91)} <= {(i, j) for i, j, s in got if s > 0.99999}
    got, rows = pairs("run", "--data", "train.h5", "--query", "test.h5", "--duplicates", "0.99999")
    check_pairs_of(got, y @ x.T, 0.99999)
    assert (33, 120) in {(i, j) for i, j, _ in got} and rows[0]["second_class"]
    got, _ = pairs("run", "--data", "train.h5", "--query", "90,5", "--duplicates", "0.99999")
    assert {(i, j) for i, j, _ in got} == {(90, 2), (90, 91)}
    log = simile("neighbours", "run", "--data", "train.h5", "--duplicates", "0.01", "--most", "5", code=65).stderr
    assert "more than 5 pairs" in log, log
    assert "0 pairs" in simile("neighbours", "run", "--data", "test.h5", "--duplicates", "1").stderr


def check_ranks():
    words = ("run", "--data", "train.h5", "--query", "test.h5", "--k", "9")
    want, near = neighbours(*words), pairs(*words[:5], "--duplicates", "0.9")
    some = neighbours("run", "--data", "train.h5", "--query", "149,0,66")
    for ranks in (2, 3, 4):
        assert neighbours(*words, ranks=ranks) == want
        assert pairs(*words[:5], "--duplicates", "0.9", ranks=ranks) == near
        assert neighbours("run", "--data", "train.h5", "--query", "149,0,66", ranks=ranks) == some
    x = pairs("x.h5", "--duplicates", "0.8")
    assert x[0] and pairs("x.h5", "--duplicates", "0.8", ranks=3) == x


def cell(picture, row, column, side=12, zoom=2, gap=4):
    y, x = (gap + at * (side * zoom + gap) for at in (row, column))
    return np.array(picture)[y:y + side * zoom:zoom, x:x + side * zoom:zoom]


def check_pictures(images):
    found, _ = neighbours("run", "--data", "train.h5", "--query", "3,99", "--k", "4")
    simile("neighbours", "run", "--data", "train.h5", "--query", "3,99", "--k", "4", "--out", "grid.png")
    picture = Image.open("grid.png").convert("RGB")
    for row, q in enumerate(("3", "99")):
        assert np.abs(cell(picture, row, 0).astype(int) - images[int(q)]).max() <= 1
        assert (cell(picture, row, 1) == 255).all()
        for k, (i, _) in enumerate(found[q]):
            assert np.abs(cell(picture, row, 2 + k).astype(int) - images[i]).max() <= 1, (q, i)
    simile("neighbours", "run", "--data", "train.h5", "--duplicates", "0.99999", "--out", "grid.png")
    shown = Image.open("grid.png").convert("RGB")
    first = {tuple(cell(shown, 0, c).ravel()[:30]) for c in (0, 1, 3, 4)}
    assert len(first) <= 2
    Image.fromarray(images[44]).save("photo.png")
    found, rows = neighbours("run", "--data", "train.h5", "--query", "photo.png", "--k", "3")
    assert found[""][0][0] == 44 and found[""][0][1] > 0.99999 and rows[0]["query_name"] == "photo.png"
    simile("neighbours", "run", "--data", "train.h5", "--query", "photo.png", "--out", "grid.png", ranks=2)
    assert np.abs(cell(Image.open("grid.png").convert("RGB"), 0, 2).astype(int) - images[44]).max() <= 1


def check_refusals():
    with h5py.File("one.h5", "w") as f:
        f["features"] = np.ones((1, 3), "f4")
    with h5py.File("nan.h5", "w") as f:
        f["features"] = np.array([[1, 2, np.nan], [1, 2, 3]], "f4")
    with h5py.File("other.h5", "w") as f:
        f["features"] = np.ones((4, 3), "f4")
    for words, code, expected in (
            ([], 64, "MODEL"), (["run"], 64, "--data"), (["run", "--data", "nowhere.h5"], 66, "nowhere.h5"),
            (["nowhere", "--data", "train.h5"], 66, "nowhere"), (["run", "--data", "train.h5", "--query", "150"], 65, "150"),
            (["run", "--data", "train.h5", "--query", "photo.txt"], 66, "photo.txt"),
            (["run", "--data", "train.h5", "--k", "0"], 64, "--k"), (["run", "--data", "train.h5", "--duplicates", "1.5"], 64, "--duplicates"),
            (["run", "--data", "train.h5", "--out", "x.txt"], 64, ".png or .csv"),
            (["run", "--data", "train.h5", "--out", "job.yaml.csv/x.csv"], 73, "x.csv"),
            (["run", "--data", "train.h5", "--out", "mine.csv"], 73, "mine.csv"),
            (["one.h5"], 65, "no neighbours"), (["nan.h5"], 65, "not finite"), (["x.h5", "--query", "one.h5"], 65, "dimensions"),
            (["x.h5", "--query", "photo.png"], 64, "photo.png"), (["x.h5", "--out", "x.png"], 64, "--data"),
            (["x.h5", "--data", "train.h5"], 65, "2100"), (["train.h5"], 64, "--data"),
            (["run", "--data", "train.h5", "--query", "gray.h5"], 65, "channel")):
        log = simile("neighbours", *words, code=code).stderr
        assert expected in log, (words, log)


def main():
    os.chdir(tempfile.mkdtemp())
    images = random.randint(0, 256, (N, 12, 12, 3)).astype("u1")
    images[90] = images[91] = images[2]
    tests = random.randint(0, 256, (M, 12, 12, 3)).astype("u1")
    tests[33] = images[120]
    write_data("train.h5", images, np.arange(N) % 3)
    write_data("test.h5", tests, np.arange(M) % 3)
    write_data("gray.h5", tests[:, :, :, :1], np.arange(M) % 3)
    with open("job.yaml", "w") as f:
        f.write(JOB)
    with open("mine.csv", "w") as f:
        f.write("mine\n")
    simile("pretrain", "job.yaml")
    check_sets()
    check_features()
    check_duplicates()
    check_ranks()
    check_pictures(images)
    check_refusals()
    shutil.rmtree(os.getcwd())


main()
