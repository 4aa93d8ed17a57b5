#!/usr/bin/python3
"""The linear evaluation against scikit-learn on the same features, its choice of the penalty, its counts
per class, and bad inputs.  Every evaluation of the table on 1 to 4 ranks.

simile-test: timeout 900
"""
import json
import os
import re
import sys
import tempfile
import warnings

import h5py
import numpy as np
from sklearn.linear_model import LogisticRegression

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import simile  # noqa: E402

warnings.filterwarnings("ignore")
random = np.random.RandomState(3)
CLASSES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]
prototypes = random.randint(40, 216, (len(CLASSES), 8, 8, 3))
JOB = """run: run
data: {train: train.h5, test: test.h5}
method: {name: simclr}
encoder: {arch: resnet18, width: 0.125}
batch: 32
block: 8
schedule: {steps: 4}
augment: {preset: digits}
"""


def data_set(name, numbers, classes=CLASSES, noise=60):
    """Images of the given classes: a prototype of the class with noise."""
    images = prototypes[[CLASSES.index(classes[k]) for k in numbers]] + random.normal(0, noise, (len(numbers), 8, 8, 3))
    with h5py.File("raw.h5", "w") as f:
        f["images"] = np.clip(images, 0, 255).astype("u1")
        f["labels"] = np.array([classes[k] for k in numbers], dtype="S8")
    simile("prepare", "raw.h5", "--force", "--out", name)


def embedded(name):
    simile("embed", "run", "--data", name, "--out", "e.h5", "--force")
    with h5py.File("e.h5") as f:
        return f["features"][()].astype("f8"), f["classes"].asstr()[()][f["labels"][()]]


def linear(*words, ranks=1, data=()):
    out = simile("evaluate", "linear", "run", *data, "--json", *words, ranks=ranks).stdout
    return json.loads(out.splitlines()[-1])


def sklearn(x, y, l2):
    return LogisticRegression(C=1 / (len(y) * l2), multi_class="multinomial", tol=1e-6, max_iter=20000).fit(x, y)


def objective(model, x, y, l2):
    """Mean cross-entropy and penalty of a fitted model."""
    log_p = np.log(model.predict_proba(x))
    truth = np.searchsorted(model.classes_, y)
    return -log_p[np.arange(len(y)), truth].mean() + l2 / 2 * (model.coef_ ** 2).sum()


def top5(model, x, y):
    order = np.argsort(-model.decision_function(x), axis=1)[:, :5]
    return (model.classes_[order] == y[:, None]).any(1).mean()


def held_out(y):
    """The second image of each class and every fifth after it."""
    seen, out = {}, []
    for name in y:
        out.append(seen.get(name, 0) % 5 == 1)
        seen[name] = seen.get(name, 0) + 1
    return np.array(out)


def check_given_l2(x, y, test_x, test_y):
    for l2 in (0.3, 1e-2, 1e-4):
        got, model = linear("--l2", str(l2)), sklearn(x, y, l2)
        want = objective(model, x, y, l2)
        assert abs(got["loss"] - want) <= 2e-5 * want, (l2, got["loss"], want)
        found = model.predict(test_x)
        assert abs(got["top1"] - (found == test_y).mean()) <= 2.5 / len(test_y), (l2, got)
        assert abs(got["top5"] - top5(model, test_x, test_y)) <= 2.5 / len(test_y), (l2, got)
        assert got["l2"] == l2 and "held_out_top1" not in got
        for k, row in enumerate(got["per_class"]):
            mine = test_y == row["class"]
            assert row["n_test"] == mine.sum() and abs(row["n_correct"] - (found[mine] == row["class"]).sum()) <= 2
            assert sum(got["confusion"][k]) == row["n_test"] and got["confusion"][k][k] == row["n_correct"]
        assert sum(row["n_correct"] for row in got["per_class"]) == round(got["top1"] * len(test_y))


def check_choice(x, y):
    """The chosen penalty is one of the grid, and none is better on the held-out images."""
    got, out = linear(), held_out(y)
    scale = x.var(axis=0).mean()
    power = np.log10(got["l2"] / scale)
    assert abs(power - round(power)) < 1e-4 and -7 <= round(power) <= 0, got["l2"]
    accuracy = {}
    for p in range(0, -6, -1):
        accuracy[p] = (sklearn(x[~out], y[~out], scale * 10.0 ** p).predict(x[out]) == y[out]).mean()
    print("held-out accuracy by power of ten:", accuracy, "chosen:", round(power), got["held_out_top1"])
    assert abs(got["held_out_top1"] - max(accuracy.values())) <= 3.5 / out.sum(), (got["held_out_top1"], accuracy)
    return got


def check_table():
    """Every evaluation: the same result on any number of ranks, stored beside the run, and for a person."""
    names = re.findall(r"^SIM_EVALUATION\((\w+)\)", open(os.environ["SIMILE_SOURCE"] + "/src/eval/evaluations.def").read(), re.M)
    assert "knn" in names and "linear" in names
    usage = simile("evaluate", "--help").stdout
    simile("pretrain", "job.yaml", "run=labelled", "method.name=supervised")
    for name in names:
        assert re.search(rf"^  {name} ", usage, re.M), name
        of_classifier = name == "classifier"
        run = "labelled" if of_classifier else "run"
        results = [json.loads(simile("evaluate", name, run, "--json", ranks=p).stdout.splitlines()[-1]) for p in (1, 2, 3, 4)]
        assert all(r == results[0] for r in results), results
        r = results[0]
        assert r["protocol"] == name and r["step"] == 4 and r["dim"] == 64 and r["features"] == ("classifier" if of_classifier else "backbone")
        assert r["checkpoint"].endswith("step-000000004.h5") and r["test"]["path"] == "test.h5"
        assert json.load(open(f"{run}/results/{name}-step-000000004.json")) == r
        if not of_classifier:
            projected = json.loads(simile("evaluate", name, "run", "--projector", "--json", ranks=2).stdout.splitlines()[-1])
            assert projected["dim"] == 128 and projected["features"] == "projector"
        simile("evaluate", name, run, "--test", "nothing.h5", code=66)
        simile("evaluate", name, run, "--unknown", "1", code=64)
        simile("evaluate", name, code=64)
        simile("evaluate", name, "run", "run", code=64)
        simile("evaluate", name, "run", "--features", "a.h5", "b.h5", code=64)
        if "train" not in r:  # an evaluation of one set
            simile("evaluate", name, "run", "--train", "train.h5", code=64)
            continue
        assert r["n_train"] == 640 and r["n_test"] == 233 and r["train"]["path"] == "train.h5" and r["classes"] == 6
        assert 0 <= r["top1"] <= r["top5"] <= 1
        assert f"{100 * r['top1']:.2f} %" in simile("evaluate", name, run).stdout
        if of_classifier:
            continue
        simile("embed", "run", "--data", "train.h5", "--out", "a.h5", "--force")
        simile("embed", "run", "--data", "test.h5", "--out", "b.h5", "--force")
        of_files = json.loads(simile("evaluate", name, "--features", "a.h5", "b.h5", "--json", ranks=3).stdout.splitlines()[-1])
        assert (of_files["top1"], of_files["top5"], of_files["dim"]) == (r["top1"], r["top5"], r["dim"]), of_files
        simile("evaluate", name, "--features", "a.h5", code=64)
        simile("evaluate", name, "--features", "a.h5", "b.h5", "--projector", code=64)
        simile("evaluate", name, "--features", "a.h5", "nothing.h5", code=66)
        simile("evaluate", name, "--features", "a.h5", "train.h5", code=65)
    simile("evaluate", "likelihood", "run", code=64)
    simile("evaluate", code=64)
    for value in ("-1", "x", "nan", "1e30"):
        assert "--l2" in simile("evaluate", "linear", "run", f"--l2={value}", code=64).stderr, value
    for words in (["--k", "0"], ["--k", "1.5"], ["--k", "1,,2"], ["--k", ""], ["--k", ",".join("1" * 17)], ["--temperature", "0.1,0"],
                  ["--l2", "1"]):
        simile("evaluate", "knn", "run", *words, code=64)


def check_classes(x, y):
    """A class that only the test set has is never right; one without training images is never found."""
    data_set("other.h5", [0] * 20 + [1] * 20 + [2] * 10, ["bee", "ant", "gnu"])
    got = linear("--l2", "1e-3", data=("--test", "other.h5"))
    rows = {row["class"]: row for row in got["per_class"]}
    assert got["classes"] == 7 and rows["gnu"] == {"class": "gnu", "n_test": 10, "n_correct": 0} and got["top5"] <= 0.8
    other_x, other_y = embedded("other.h5")
    found = sklearn(x, y, 1e-3).predict(other_x)
    assert abs(got["top1"] - (found == other_y).mean()) <= 2.5 / 50, got
    data_set("two.h5", [0] * 70 + [1] * 60, ["dog", "ant"])
    two = linear("--l2", "1e-3", data=("--train", "two.h5"))
    model = sklearn(*embedded("two.h5"), 1e-3)
    test_x, test_y = embedded("test.h5")
    assert abs(two["top1"] - (model.predict(test_x) == test_y).mean()) <= 2.5 / len(test_y)
    assert two["top5"] == np.isin(test_y, ["ant", "dog"]).mean()


def check_bad_inputs():
    data_set("one.h5", [0] * 40, ["bee"])
    assert "two classes" in simile("evaluate", "linear", "run", "--train", "one.h5", code=65).stderr
    with h5py.File("unlabelled.h5", "w") as f:
        f["images"] = random.randint(0, 256, (40, 8, 8, 3)).astype("u1")
    simile("prepare", "unlabelled.h5", "--out", "none.h5")
    assert "none.h5" in simile("evaluate", "linear", "run", "--test", "none.h5", code=65).stderr


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    data_set("train.h5", random.randint(0, 6, 640))
    data_set("test.h5", random.randint(0, 6, 233))
    open("job.yaml", "w").write(JOB)
    simile("pretrain", "job.yaml")
    train, test = embedded("train.h5"), embedded("test.h5")
    check_given_l2(*train, *test)
    check_choice(*train)
    check_table()
    check_classes(*train)
    check_bad_inputs()
print("ok")
