"""Losses of the methods without a queue against PyTorch's float64, and training on any number of
ranks.

simile-test: timeout 600
`simile loss` is compared with autograd on the definition of the paper, with equal bits on 1 and 3
ranks.  `pretrain` has equal hash traces on 1 to 4 ranks, also when stopped.  `plan` accepts every job
of jobs/.
"""
import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import common
from common import loss, run, scratch

METHODS = ("simclr", "dcl", "dclw", "supcon", "siglip", "mocov1", "mocov2", "mocov3", "nnclr", "cpc")


def defined_across_views(keys, x, t):
    """CLIP, figure 3: the cross-entropy of the rows and of the columns, each with labels 0 to n - 1."""
    logits = F.normalize(x[0]) @ F.normalize(x[1]).T / t
    labels = torch.arange(len(logits))
    if keys.get("denominator") == "decoupled":
        negatives = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool), -torch.inf)
        return sum(torch.logsumexp(negatives, k).mean() for k in (0, 1)) / 2 - logits.diagonal().mean()
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def defined(method, keys, z, labels):
    """Loss, gradients, and gradient of log T by autograd."""
    x = [torch.tensor(v.astype("f8"), requires_grad=True) for v in z]
    log_t = torch.tensor(np.log(float(keys["temperature"])), requires_grad=True)
    t = log_t.exp()
    value = defined_across_views(keys, x, t) if keys.get("negatives") == "cross" else defined_ntxent(method, keys, x, t, labels)
    if keys.get("reduction") == "sum_directions":
        value = 2 * value
    if "base_temperature" in keys:
        value = value * t / float(keys["base_temperature"])
    value.backward()
    return float(value), [v.grad.numpy() for v in x], float(log_t.grad)


def defined_ntxent(method, keys, x, t, labels):
    n, views = len(x[0]), len(x)
    unit = F.normalize(torch.cat(x))
    s = unit @ unit.T / t
    group = torch.tensor(np.tile(labels if method == "supcon" else np.arange(n), views))
    itself = torch.eye(len(unit), dtype=torch.bool)
    positive = (group[:, None] == group[None]) & ~itself
    decoupled = keys.get("denominator", "decoupled" if method in ("dcl", "dclw") else "full") == "decoupled"
    inside = ~itself & ~positive if decoupled else ~itself
    lse = torch.logsumexp(s.masked_fill(~inside, -torch.inf), 1)
    weight = 1
    if method == "dclw":
        e = ((unit[:n] * unit[n:]).sum(1) / 0.5).exp().split(keys.get("weight_batch", n))
        weight = torch.cat(2 * [2 - part / part.mean() for part in e])
        weight = weight if keys.get("weight_grad") == "flow" else weight.detach()
    count = positive.sum(1)
    each = -weight * (s * positive).sum(1) / count.clamp(min=1) + lse
    if keys.get("positives") == "in":  # Khosla et al. 2020, equation 3
        each = -torch.log((unit @ unit.T / t).exp().masked_fill(~positive, 0).sum(1) / count / lse.exp())
    if keys.get("multi_view") == "in":
        each = lse - torch.logsumexp(s.masked_fill(~positive, -torch.inf), 1)
    return torch.where(count > 0, each, torch.zeros_like(each)).mean()


def compare(method, keys, rng, n, d, views, noise=1.0):
    base = rng.normal(size=(n, d))
    z = [(base + noise * rng.normal(size=(n, d))).astype("f4") for _ in range(views)]
    arrays = {f"z{i + 1}": v for i, v in enumerate(z)}
    labels = rng.integers(0, max(2, n // 3), n).astype("i4")
    if method == "supcon":
        arrays["group" if keys.get("positives_by") == "group" else "labels"] = labels
    one, three = (loss(method, keys, arrays, ranks) for ranks in (1, 3))
    assert all(np.array_equal(one[k], three[k]) for k in one), f"{method} {keys}: ranks differ"
    value, gradients, d_log_t = defined(method, keys, z, labels)
    what = f"{method} {keys} n {n} d {d} views {views}"
    assert abs(one["loss"] - value) <= 1e-6 * max(1, abs(value)), f"{what}: {one['loss']} {value}"
    most = max(np.abs(g).max() for g in gradients)
    for i, g in enumerate(gradients):
        error = np.abs(one[f"dz{i + 1}"] - g).max() / most
        assert error <= 1e-5, f"{what}: gradient {i + 1} off by {error}"
    if "learn_temperature" in keys:
        got = one["dlog_temperature"]
        assert abs(got - d_log_t) <= 1e-5 * max(1, abs(d_log_t)), f"{what}: {got} {d_log_t}"


def losses():
    rng = np.random.default_rng(5)
    learned = {"learn_temperature": "true"}
    for method, keys, views in (
            ("simclr", {"temperature": 0.2}, 2), ("simclr", {"temperature": 0.5, **learned}, 3),
            ("infonce", {"temperature": 1.0, "reduction": "sum_directions", **learned}, 2),
            ("simclr", {"temperature": 0.3, "multi_view": "in"}, 3),
            ("infonce", {"temperature": 0.07, "negatives": "cross", **learned}, 2),
            ("infonce", {"temperature": 0.5, "negatives": "cross", "reduction": "sum_directions"}, 2),
            ("infonce", {"temperature": 0.2, "negatives": "cross", "denominator": "decoupled", **learned}, 2),
            ("dcl", {"temperature": 0.1, **learned}, 2), ("dcl", {"temperature": 0.07}, 4),
            ("dclw", {"temperature": 0.1}, 2),
            ("dclw", {"temperature": 0.2, "weight_grad": "flow", **learned}, 2),
            ("dclw", {"temperature": 0.2, "weight_batch": 1}, 2),
            ("dclw", {"temperature": 0.2, "denominator": "full", "weight_grad": "flow", **learned}, 2),
            ("supcon", {"temperature": 0.1, **learned}, 2),
            ("supcon", {"temperature": 0.1, "base_temperature": 0.07, **learned}, 2),
            ("supcon", {"temperature": 0.5, "denominator": "decoupled"}, 3),
            ("supcon", {"temperature": 0.2, "positives": "in", **learned}, 2),
            ("supcon", {"temperature": 0.2, "positives": "in", "base_temperature": 0.07, **learned}, 3),
            ("supcon", {"temperature": 0.5, "positives": "in", "denominator": "decoupled"}, 2),
            ("supcon", {"temperature": 0.1, "positives_by": "group", **learned}, 2)):
        for n, d in ((7, 5), (101, 33)):
            compare(method, keys, rng, n, d, views)
    for group in (8, 24):
        compare("dclw", {"temperature": 0.1, "weight_batch": group, "weight_grad": "flow", **learned}, rng, 48, 20, 2)
    # Nearly equal views: the positive gradient is a small difference of large numbers.
    for method, keys, views in (
            ("simclr", {"temperature": 0.07, "reduction": "sum_directions"}, 6),
            ("simclr", {"temperature": 0.07, "multi_view": "in"}, 3), ("dcl", {"temperature": 0.2}, 2),
            ("supcon", {"temperature": 1.0, "denominator": "decoupled"}, 4)):
        compare(method, keys, rng, 257, 200, views, noise=0.1)


def refusals():
    rng = np.random.default_rng(6)
    z = {k: rng.normal(size=(9, 4)).astype("f4") for k in ("z1", "z2")}

    def refused(pattern, method, arrays, ranks, keys={}):
        common.expect_lines(loss(method, keys, arrays, ranks, expect=65), pattern)

    refused(r"z\.h5\b.*/labels\b", "supcon", z, 2)
    refused(r"z\.h5\b.*/group\b", "supcon", {**z, "labels": np.zeros(9, "i4")}, 2, {"positives_by": "group"})
    refused(r"method\.weights\b", "dclw", {**z, "z3": z["z1"]}, 2)
    refused(r"method\.weight_batch\b", "dclw", z, 2, {"weight_batch": 4})
    refused(r"method\.negatives\b", "infonce", {**z, "z3": z["z1"]}, 2, {"negatives": "cross"})
    # the message contains the conversion in Python
    refused(r'/z1\b.*x\.astype\("float32"\)', "dcl", {**z, "z1": z["z1"].astype("f8")}, 2)
    refused(r'/labels\b.*x\.astype\("int32"\)', "supcon", {**z, "labels": np.arange(9)}, 2)
    refused(r"rank 0 on .*/z1 .*\b1 x 4\b", "dcl", {k: v[:1] for k, v in z.items()}, 3)
    z["z2"][3] = 0
    refused(r"\brow 3\b.*/z2\b.*\bzero\b", "dcl", z, 3)


def training():
    data = common.prepare("train", 120, 12, 7)
    for method in (["dcl"], ["infonce", "negatives: cross"], ["dclw", "weight_grad: flow"],
                   ["dclw", "weight_batch: 24"], ["supcon"], ["supcon", "positives: in"],
                   ["simclr", "views: 3", "learn_temperature: true"]):
        common.same_traces(data, method)


def photos(n):
    """A data set of n equal photos of two classes, 16 pixels wide."""
    directory, one = os.path.join(scratch, "photos"), os.path.join(scratch, "one.jpg")
    Image.fromarray(np.random.default_rng(9).integers(0, 256, (16, 16, 3), "u1")).save(one)
    for i in range(n):
        os.makedirs(os.path.join(directory, str(i % 2)), exist_ok=True)
        os.link(one, os.path.join(directory, str(i % 2), f"{i}.jpg"))
    run(1, "prepare", directory, "--out", directory + ".h5")
    return directory + ".h5"


def without_positive():
    """Anchors without a positive are counted.  Without denominator terms, here all: there is one class."""
    path, directory = common.job(common.prepare("one", 120, 12, 7, classes=1), ["supcon", "denominator: decoupled"])
    common.run(2, "pretrain", path)
    with open(os.path.join(directory, "metrics.jsonl")) as f:
        last = json.loads(f.readlines()[-1])
    assert last["anchors_without_positive"] == 4 * 2 * 48 and last["loss"] == 0, last
    with open(os.path.join(directory, "log.txt")) as f:
        common.expect_lines(f.read(), r"\bstep 4/4\b.*\b384 anchors\b")


def jobs():
    """`plan` accepts every job of jobs/ with suitable data.  All but those for CIFAR-10 have a narrow encoder
    and small views here, because plan measures a step."""
    rng = np.random.default_rng(8)
    large = photos(6200)
    small = ["encoder.width=0.0625", "augment.size=32", "block=16"]
    directory = os.path.join(scratch, "cifar")
    os.mkdir(directory)
    records = np.concatenate([rng.integers(0, 10, (60, 1)), rng.integers(0, 256, (60, 3072))], 1)
    for i in range(1, 6):
        records.astype("u1").tofile(os.path.join(directory, f"data_batch_{i}.bin"))
    data = os.path.join(scratch, "cifar.h5")
    run(1, "prepare", directory, "--out", data)
    source = os.path.join(os.environ["SIMILE_SOURCE"], "jobs")
    names = sorted(n for n in os.listdir(source) if n.endswith(".yaml"))
    for method in METHODS:  # infonce is an alias of simclr
        assert {f"{method}_cifar10.yaml", f"{method}_imagenet.yaml"} <= set(names), f"a job for {method} is missing"
    for name in names:
        of, more = (data, []) if name.endswith("_cifar10.yaml") else (large, small)
        if "imagenet100" in name:  # test_recipes.py has its classes
            continue
        run(1, "plan", os.path.join(source, name), f"data.train={of}", f"data.test={of}", "data.fraction=1", *more)


try:
    jobs()
    losses()
    refusals()
    training()
    without_positive()
finally:
    common.remove_scratch()
