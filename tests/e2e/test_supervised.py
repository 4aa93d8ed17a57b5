#!/usr/bin/python3
"""Method supervised: the loss against PyTorch, a classifier on a frozen encoder against the same steps in
PyTorch, fine-tuning, subsets of the labels, accuracy during and after training, and bad inputs.

simile-test: timeout 900
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import torch

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import simile  # noqa: E402

random = np.random.RandomState(8)
CLASSES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]
prototypes = random.randint(40, 216, (len(CLASSES), 8, 8, 3))
JOB = """run: run
data: {train: train.h5, test: test.h5}
method: {name: supervised}
encoder: {width: 0.125}
batch: 16
block: 4
schedule: {epochs: 3}
augment: {preset: none}
"""


def data_set(name, numbers, classes=CLASSES, noise=40, labels=True):
    """Images of the given classes: the prototype of the class with noise."""
    images = prototypes[[CLASSES.index(classes[k]) for k in numbers]] + random.normal(0, noise, (len(numbers), 8, 8, 3))
    with h5py.File("raw.h5", "w") as f:
        f["images"] = np.clip(images, 0, 255).astype("u1")
        if labels:
            f["labels"] = np.array([classes[k] for k in numbers], dtype="S8")
    simile("prepare", "raw.h5", "--force", "--out", name)


def checkpoint(run, step=None):
    """The tensors of a checkpoint, by name."""
    name = f"step-{step:09d}.h5" if step is not None else open(f"{run}/checkpoints/latest").read().strip()
    out = {}
    with h5py.File(f"{run}/checkpoints/{name}") as f:
        f["weights"].visititems(lambda n, d: out.update({n: d[()]}) if isinstance(d, h5py.Dataset) else None)
    return out


def records(run, protocol):
    with open(f"{run}/metrics.jsonl") as f:
        return [r for r in map(json.loads, f) if r.get("protocol") == protocol]


def evaluate(name, *words, run="run", ranks=1):
    done = simile("evaluate", name, run, "--json", *words, ranks=ranks)
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def embedded(data, run="run"):
    simile("embed", run, "--data", data, "--out", "e.h5", "--force")
    with h5py.File("e.h5") as f:
        return f["features"][()].astype("f8"), f["classes"].asstr()[()][f["labels"][()]]


def refused(code, *patterns, words=("pretrain", "job.yaml"), keys=(), ranks=1):
    said = simile(*words, *keys, code=code, ranks=ranks).stderr
    for p in patterns:
        assert re.search(p, said), (p, said)


def check_loss():
    for n, k, smoothing in ((5, 3, 0), (70, 11, 0.1), (64, 2, 1), (33, 257, 0.25)):
        logits = random.normal(0, 3, (n, k)).astype("f4")
        logits[0] *= 100  # probabilities of 0 and 1
        labels = random.randint(0, k, n)
        x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
        want = torch.nn.functional.cross_entropy(x, torch.tensor(labels), label_smoothing=smoothing)
        want.backward()
        with h5py.File("l.h5", "w") as f:
            f["logits"], f["labels"] = logits, labels.astype("i4")
        with open("loss.yaml", "w") as f:
            f.write("method: {name: supervised, label_smoothing: %g}\n" % smoothing)
        bits = set()
        for ranks in 1, 2, 3:
            simile("loss", "loss.yaml", "--in", "l.h5", "--out", "g.h5", "--force", ranks=ranks)
            with h5py.File("g.h5") as f:
                loss, gradient = float(f["loss"][()]), f["dlogits"][()]
            assert abs(loss - want.item()) < 1e-6 * max(1, want.item()), (n, k, loss, want.item())
            assert np.abs(gradient - x.grad.numpy()).max() < 1e-6 * np.abs(x.grad.numpy()).max()
            bits.add((loss, gradient.tobytes()))
        assert len(bits) == 1
    for bad in (-1, 257):
        with h5py.File("l.h5", "r+") as f:
            f["labels"][5] = bad
        refused(65, r"\blabel of row 5 is %d\b" % bad, words=("loss", "loss.yaml", "--in", "l.h5", "--out", "g.h5", "--force"), ranks=2)


def check_initial_weights():
    """A step at learning rate 0 keeps the initial weights."""
    weights = {}
    for init in ("uniform", "normal", "zero"):
        run = f"initial-{init}"
        simile("pretrain", "job.yaml", f"run={run}", "optimizer.lr=0", f"method.init={init}", "schedule.steps=1", 'data.test=""')
        weights[init] = checkpoint(run)["classifier/0.weight"], checkpoint(run)["classifier/0.bias"]
    n = weights["normal"][0].size
    assert abs(weights["normal"][0].std() - 0.01) < 0.01 * 4 / np.sqrt(2 * n), weights["normal"][0].std()
    assert abs(weights["normal"][0].mean()) < 0.01 * 4 / np.sqrt(n)
    assert not weights["normal"][1].any() and not weights["zero"][0].any() and not weights["zero"][1].any()
    bound = 1 / np.sqrt(weights["uniform"][0].shape[1])
    assert 0.97 * bound < abs(weights["uniform"][0]).max() <= bound and 0 < abs(weights["uniform"][1]).max() <= bound


def check_training():
    """Accuracy, its record and its evaluation; the same bits on any ranks and over stops."""
    simile("pretrain", "job.yaml")
    last = checkpoint("run")
    x, names = embedded("test.h5")
    classes = sorted(CLASSES)  # as `prepare` orders names
    logits = x @ last["classifier/0.weight"].T.astype("f8") + last["classifier/0.bias"]
    order = np.argsort(-logits, axis=1)
    right = [names[i] == classes[order[i, 0]] for i in range(len(x))]
    top5 = np.mean([names[i] in [classes[k] for k in order[i, :5]] for i in range(len(x))])
    assert 0.5 < np.mean(right), right
    recorded = records("run", "classifier")
    assert [r["epoch"] for r in recorded] == [1, 2, 3]
    assert abs(recorded[-1]["classifier_top1"] - np.mean(right)) < 1e-12 and abs(recorded[-1]["classifier_top5"] - top5) < 1e-12
    results = [evaluate("classifier", ranks=ranks)[0] for ranks in (1, 2, 3)]
    for r in results:
        assert r["top1"] == np.mean(right) and r["top5"] == top5 and r["classes"] == len(CLASSES), r
        assert sum(sum(row) for row in r["confusion"]) == len(x) == r["n_test"]
        for c in r["per_class"]:
            assert c["n_correct"] == sum(np.array(right)[names == c["class"]]), c
    with open("run/metrics.jsonl") as f:
        steps = [r for r in map(json.loads, f) if r["kind"] == "train"]
    assert steps[-1]["accuracy"] > 0.5 and steps[-1]["embedding_std"] is None, steps
    with open("run/log.txt") as f:
        assert "emb_std" not in f.read()
    for ranks in 2, 4:
        simile("pretrain", "job.yaml", f"run=r{ranks}", ranks=ranks)
        for name, value in checkpoint(f"r{ranks}").items():
            assert np.array_equal(value, last[name]), (ranks, name)
        assert [r["classifier_top1"] for r in records(f"r{ranks}", "classifier")] == [r["classifier_top1"] for r in recorded]
    simile("pretrain", "job.yaml", "run=stopped", "--stop-after", "7", code=75)
    simile("pretrain", "job.yaml", "run=stopped", ranks=2)
    for name, value in checkpoint("stopped").items():
        assert np.array_equal(value, last[name]), name


def check_other_evaluations():
    """During training: linear and measures without labels equal `simile evaluate`; kNN of a part of the bank."""
    keys = ["evaluate.linear_every_epochs=3", "evaluate.quality_every_epochs=1", "evaluate.quality_images=20", "evaluate.knn_every_epochs=3",
            "evaluate.k=5", "evaluate.classifier_every_epochs=0", "evaluate.linear_l2=0.01"]
    simile("pretrain", "job.yaml", "run=online", *keys, ranks=2)
    for name, value in checkpoint("online").items():
        assert np.array_equal(value, checkpoint("run")[name]), name
    linear, quality, knn = (evaluate(n, run="online")[0] for n in ("linear", "quality", "knn"))
    assert records("online", "classifier") == [] and len(records("online", "quality")) == 3
    r = records("online", "linear")
    assert len(r) == 1 and r[0]["linear_top1"] == linear["top1"] and r[0]["linear_l2"] == linear["l2"] == 0.01
    r = records("online", "quality")[-1]
    assert quality["n_images"] == 20
    assert (r["rankme"], r["uniformity"], r["alignment"]) == (quality["rankme"], quality["uniformity"], quality["alignment"]), (r, quality)
    assert records("online", "knn")[-1]["knn_top1"] == knn["top1"]
    # a bank of every seventh image: images 0, 7, ... of 70
    simile("pretrain", "job.yaml", "run=bank", "evaluate.knn_every_epochs=3", "evaluate.k=1", "evaluate.knn_images=10")
    bank, labels = embedded("train.h5", "bank")
    x, names = embedded("test.h5", "bank")
    bank, labels = bank[::7], labels[::7]
    bank, x = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (bank, x))
    want = np.mean(labels[np.argmax(x @ bank.T, axis=1)] == names)
    assert abs(records("bank", "knn")[-1]["knn_top1"] - want) < 1e-12
    # without a test set: the training images, and no classifier
    simile("pretrain", "job.yaml", "run=alone", 'data.test=""', "evaluate.quality_every_epochs=3", "evaluate.quality_images=70")
    assert records("alone", "classifier") == [] and records("alone", "quality")[0]["rankme"] > 1


def check_frozen():
    """The linear protocol: full-batch gradient descent on the features that `simile embed` computes."""
    keys = ["batch=70", "block=10", "schedule.steps=5", "optimizer.lr=0.5", "optimizer.weight_decay=0.01", "schedule.shape=constant",
            "encoder.freeze=true", "method.label_smoothing=0.2"]
    before = checkpoint("run")
    x, names = embedded("train.h5")
    y = torch.tensor([sorted(CLASSES).index(n) for n in names])
    for ranks in 1, 2:
        simile("pretrain", "job.yaml", f"run=frozen{ranks}", "--init", "run", *keys, ranks=ranks)
    first, last = checkpoint("frozen1", 0), checkpoint("frozen1", 5)
    for name, value in last.items():
        assert np.array_equal(value, checkpoint("frozen2", 5)[name]), name
        if name.startswith("encoder/"):
            assert np.array_equal(value, before[name]), f"{name} is not frozen"
    assert np.array_equal(first["classifier/0.weight"], before["classifier/0.weight"])
    w, b = (torch.tensor(first["classifier/0." + n], dtype=torch.float64, requires_grad=True) for n in ("weight", "bias"))
    optimizer = torch.optim.SGD([{"params": [w], "weight_decay": 0.01}, {"params": [b], "weight_decay": 0}], lr=0.5, momentum=0.9)
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(torch.tensor(x) @ w.T + b, y, label_smoothing=0.2).backward()
        optimizer.step()
    for got, want in ((last["classifier/0.weight"], w), (last["classifier/0.bias"], b)):
        want = want.detach().numpy()
        assert np.abs(got - want).max() < 2e-5 * np.abs(want).max(), np.abs(got - want).max()
    with h5py.File("frozen1/checkpoints/step-000000005.h5") as f:
        assert list(f["optimizer/momentum"]) == ["classifier"], list(f["optimizer/momentum"])
    plan = simile("plan", "job.yaml", *keys).stdout
    assert "frozen" in plan, plan


def check_fine_tuning():
    """Separate rates of encoder and classifier; weights of a contrastive run."""
    simile("pretrain", "job.yaml", "run=contrastive", "method.name=simclr", "schedule.epochs=1")
    start = checkpoint("contrastive")
    keys = ["optimizer.encoder_lr_factor=0", "schedule.epochs=1", "method.classes=9"]
    done = simile("pretrain", "job.yaml", "run=heads", "--init", "contrastive", *keys)
    assert "2 tensors" in done.stderr, done.stderr
    last = checkpoint("heads")
    assert last["classifier/0.bias"].shape == (9,)
    assert np.array_equal(last["encoder/conv1.weight"], start["encoder/conv1.weight"])
    assert not np.array_equal(last["encoder/bn1.running_mean"], start["encoder/bn1.running_mean"])
    simile("pretrain", "job.yaml", "run=both", "--init", "contrastive", "schedule.epochs=1", "optimizer.encoder_lr_factor=0.1")
    assert not np.array_equal(checkpoint("both")["encoder/conv1.weight"], start["encoder/conv1.weight"])
    # outputs beyond the classes of the data are never predicted
    result, _ = evaluate("classifier", run="heads")
    assert result["classes"] == len(CLASSES), result
    shutil.copytree("heads", "changed")
    path = "changed/checkpoints/" + open("heads/checkpoints/latest").read().strip()
    with open(path, "rb") as f:
        content = f.read()
    with open(path, "wb") as f:
        f.write(content[:-64])  # without the trailer
    with h5py.File(path, "r+") as f:
        f["weights/classifier/0.bias"][len(CLASSES):] = 1000
    subprocess.run([os.path.join(os.environ["SIMILE_TOOLS"], "checkpoint_tool_seal"), path], check=True, capture_output=True)
    changed, _ = evaluate("classifier", run="changed")
    assert (changed["top1"], changed["top5"], changed["confusion"]) == (result["top1"], result["top5"], result["confusion"]), changed


def check_fraction():
    """0.3 of each class: rounded to the nearest number, at least one; evaluation uses the same images."""
    numbers = [0] * 20 + [1] * 10 + [2] * 2 + [3] * 1 + [4] * 9
    data_set("uneven.h5", numbers)
    keys = ["data.train=uneven.h5", "data.fraction=0.3", "batch=4", "block=2", "schedule.epochs=1"]
    plan = simile("plan", "job.yaml", *keys).stdout
    assert re.search(r"^data +14 images", plan, re.M), plan  # 6 + 3 + 1 + 1 + 3
    done = simile("pretrain", "job.yaml", "run=part", *keys, "evaluate.knn_every_epochs=1", "evaluate.k=3")
    assert "14 images" in done.stderr and "30 %" in done.stderr, done.stderr
    result, _ = evaluate("knn", run="part")
    assert result["n_train"] == 14 and result["top1"] == records("part", "knn")[-1]["knn_top1"], result
    whole, _ = evaluate("knn", "--train", "uneven.h5", run="part")
    assert whole["n_train"] == 42
    assert len([n for n in os.listdir("part/results") if n.startswith("knn")]) == 2, os.listdir("part/results")
    refused(78, r"data\.fraction", keys=["run=part", *keys, "data.fraction=0.5"])
    # without labels, of all images
    data_set("plain.h5", numbers, labels=False)
    plan = simile("plan", "job.yaml", "data.train=plain.h5", 'data.test=""', "method.name=simclr", "data.fraction=0.5", "batch=8", "block=4").stdout
    assert re.search(r"^data +21 images", plan, re.M), plan


def kept(run):
    return sorted(int(n[5:14]) for n in os.listdir(f"{run}/checkpoints") if n.startswith("step-"))


def check_best():
    """The checkpoint with the largest accuracy is written and kept, over stops too.  The learning rate rises
    until the classifier gets worse."""
    keys = ["schedule.epochs=8", "schedule.warmup_epochs=8", "optimizer.lr=0.6", "checkpoint.keep=1", "checkpoint.keep_best=classifier"]
    simile("pretrain", "job.yaml", "run=best", *keys, ranks=2)
    scores = {r["step"]: r["classifier_top1"] for r in records("best", "classifier")}
    best = max(scores, key=lambda step: (scores[step], -step))
    print("accuracy by step:", scores)
    assert best < 32 and kept("best") == [0, best, 32], (best, kept("best"))
    with open("best/checkpoints/best") as f:
        assert f.read() == f"step-{best:09d}.h5\n"
    assert evaluate("classifier", run=f"best/checkpoints/step-{best:09d}.h5")[0]["top1"] == scores[best]
    for stop in best + 2, best + 9:
        simile("pretrain", "job.yaml", "run=parts", *keys, "--stop-after", str(stop), code=75)
    assert best in kept("parts"), kept("parts")
    simile("pretrain", "job.yaml", "run=parts", *keys)
    assert kept("parts") == [0, best, 32]
    # continued from before the best one: that is set aside, and found again
    shutil.copytree("best", "branch")
    simile("pretrain", "job.yaml", "run=branch", *keys, "--resume", "branch/checkpoints/step-000000000.h5")
    assert kept("branch") == [0, best, 32]
    with open("branch/checkpoints/best") as f:
        assert f.read() == f"step-{best:09d}.h5\n"
    # a new run that continues from the best one of another run has no best one yet
    simile("pretrain", "job.yaml", "run=other", *keys, "--resume", f"best/checkpoints/step-{best:09d}.h5")
    after = {step: score for step, score in scores.items() if step > best}
    assert kept("other") == sorted({max(after, key=lambda step: (after[step], -step)), 32}), kept("other")
    refused(78, r"checkpoint\.keep_best", r"evaluate\.knn_every_epochs", keys=["run=x", "checkpoint.keep_best=knn"])
    refused(78, r"checkpoint\.keep_best", "supervised", keys=["run=x", "checkpoint.keep_best=classifier", "method.name=simclr"])


def check_classes():
    """A test set with fewer classes, in another order."""
    data_set("other.h5", [0, 1, 2] * 8, ["gnu", "fox", "bee"])
    x, names = embedded("other.h5")
    last = checkpoint("run")
    best = np.argmax(x @ last["classifier/0.weight"].T.astype("f8") + last["classifier/0.bias"], axis=1)
    result, _ = evaluate("classifier", "--test", "other.h5")
    assert result["top1"] == np.mean(np.array(sorted(CLASSES))[best] == names), result


def check_refused():
    data_set("plain.h5", [0, 1] * 40, labels=False)
    data_set("one.h5", [0] * 40)
    data_set("again.h5", list(range(7)) * 10)
    freeze = "encoder.freeze=true"
    refused(78, "encoder.freeze", "--init", keys=["run=x", freeze])
    refused(78, "encoder.freeze", "supervised", keys=["run=x", freeze, "method.name=simclr", "--init", "run"])
    refused(78, "method.classes", "7 classes", keys=["run=x", "method.classes=3"])
    refused(65, "no labels", keys=["run=x", "data.train=plain.h5", 'data.test=""'])
    refused(78, r"evaluate\.classifier_every_epochs", r"plain\.h5", keys=["run=x", "data.test=plain.h5"])
    refused(78, r"evaluate\.linear_every_epochs", r"data\.test", keys=["run=x", "evaluate.linear_every_epochs=1", 'data.test=""'])
    refused(78, "at least 2", keys=["run=x", "data.train=one.h5", 'data.test=""'])
    refused(78, r"data\.fraction", keys=["run=x", "data.fraction=0"])
    refused(78, "no classifier", "simclr", words=("evaluate", "classifier", "contrastive"))
    refused(65, r"again\.h5 is not the training set", words=("evaluate", "classifier", "run", "--train", "again.h5"), ranks=2)
    refused(64, "classifier", words=("evaluate", "classifier", "--features", "e.h5", "e.h5"))
    refused(64, "classifier", words=("evaluate", "classifier", "run", "--projector"))


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    data_set("train.h5", list(range(7)) * 10)
    data_set("test.h5", list(range(7)) * 6)
    with open("job.yaml", "w") as f:
        f.write(JOB)
    check_loss()
    check_initial_weights()
    check_training()
    check_other_evaluations()
    check_frozen()
    check_fine_tuning()
    check_fraction()
    check_best()
    check_classes()
    check_refused()
print("ok")
