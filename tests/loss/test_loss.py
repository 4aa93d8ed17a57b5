#!/usr/bin/python3
# simile-test: timeout 600 processors 2
"""NT-Xent, DCL, DCLW, SupCon and positives inside the logarithm, against PyTorch in float64.

The reference follows the definitions, anchor by anchor with masks, and is differentiated by autograd, also with
respect to the temperature. Tolerances: loss 1e-6 max(1, |loss|), times 0.05/T below T = 0.05; gradient 1e-5 of the
largest entry for T from 0.05 to 1 with noise between views, otherwise 1e-3. All cases are in one file; it is run on
1 to 4 ranks with 1 and 2 threads, with gathered and streamed rows, and all runs must yield the same bits.
"""
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import torch

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import on_ranks  # noqa: E402

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "loss_tool_loss")
FIELDS = ("loss", "accuracy", "positive", "negative", "embedding_std", "log_temperature", "anchors_without_positive", "value")
NO = float("-inf")


class Case:
    def __init__(self, views, n, d, temperature, noise=0.7, classes=0, seed=0, factor=1, **options):
        generator = torch.Generator().manual_seed(1000 * seed + 7)
        base = torch.randn(1, n, d, generator=generator)
        z = base + noise * torch.randn(views, n, d, generator=generator)
        self.z = torch.nn.functional.normalize(z, dim=-1).float()
        self.labels = torch.randint(classes, (n,), generator=generator) - 1 if classes else None
        self.temperature, self.factor, self.noise, self.options = temperature, factor, noise, options
        self.what = f"views {views} n {n} d {d} T {temperature} noise {noise} classes {classes} seed {seed} factor {factor} {options}"

    def row(self):
        o = self.options
        return [self.temperature, self.factor, o.get("decoupled", 0), o.get("inside", 0), "flow" in o, o.get("flow", 0),
                o.get("sigma", 0.5), self.labels is not None, o.get("mean", 0), o.get("group", 0)]


def weights(z, sigma, flow, group=0):
    """DCLW: 2 - e^{s/sigma} / (its mean over the pairs of the batch, or of their group), for both anchors of a pair.
    A group is what a process of a program that does not gather sees."""
    similarity = (z[0] * z[1]).sum(1)
    e = torch.cat([torch.softmax(s / sigma, 0) * len(s) for s in similarity.split(group or len(similarity))])
    w = 2 - torch.cat([e, e])
    return w if flow else w.detach()


def reference(case, z, log_t):
    """The definition: losses of the anchors by masks, and the statistics of the report."""
    o, (views, n, d) = case.options, z.shape
    rows = views * n
    flat = z.reshape(rows, d)
    similarity = flat @ flat.T
    s = similarity / log_t.exp()
    own = torch.eye(rows, dtype=torch.bool)
    group = torch.arange(n) if case.labels is None else case.labels
    group = group.repeat(views)
    positive = (group[:, None] == group[None, :]) & ~own
    denominator = ~own & ~positive if o.get("decoupled") else ~own
    alive = positive.any(1) & denominator.any(1)
    losses = []
    w = weights(z, o.get("sigma", 0.5), o["flow"], o.get("group", 0)) if "flow" in o else torch.ones(rows, dtype=torch.float64)
    for i in range(rows):
        if alive[i]:
            positives = s[i][positive[i]]
            positive_term = torch.logsumexp(positives, 0) if o.get("inside") else w[i] * positives.mean()
            if o.get("mean"):  # L_in of SupCon: the mean of exponentials
                positive_term = positive_term - np.log(len(positives))
            losses.append(torch.logsumexp(s[i][denominator[i]], 0) - positive_term)
    other = ~own & ~positive
    hit = similarity.masked_fill(~positive, -NO).min(1).values > similarity.masked_fill(~other, NO).max(1).values
    statistics = {"accuracy": (hit & alive).double().mean(),
            "positive": similarity[positive].mean() if positive.any() else torch.zeros(()),
            "negative": similarity[other].mean() if other.any() else torch.zeros(()),
            "embedding_std": flat.std(0, unbiased=False).mean(), "anchors_without_positive": (~alive).sum()}
    loss = sum(losses, (0 * flat).sum() + 0 * log_t) / rows * case.factor
    return loss, {k: v.item() for k, v in statistics.items()}


def check(case, report, dz):
    z = case.z.double().requires_grad_()
    log_t = torch.tensor(float(np.log(case.temperature)), dtype=torch.float64, requires_grad=True)
    expected, statistics = reference(case, z, log_t)
    expected.backward()
    got = dict(zip(FIELDS, report))
    t, low = case.temperature, max(1, 0.05 / case.temperature)
    bound = 1e-6 * max(1, abs(expected.item()) / case.factor) * low * case.factor
    assert abs(got["loss"] - expected.item()) <= bound, f"{case.what}: loss {got['loss']} expected {expected.item()}"
    assert got["value"] == got["loss"], f"{case.what}: the loss without gradients differs"
    good = 0.05 <= t <= 1 and case.noise > 0
    rows = case.z.shape[0] * case.z.shape[1]
    largest, weight = z.grad.abs().max().item(), case.factor / (t * rows)
    error = np.abs(dz - z.grad.numpy()).max()
    log_t_error = abs(got["log_temperature"] - log_t.grad.item())
    wrong = f"{case.what}: log T {got['log_temperature']} expected {log_t.grad.item()}"
    if largest > 1e-9 * weight:
        error /= largest
        assert error <= (1e-5 if good else 1e-3), f"{case.what}: gradient {error:.2e} of {largest:.1e}"
        # the derivative with respect to log T is a sum of z . dz over all rows, which determines its scale
        log_t_error /= max(expected.abs().item(), z.grad.norm(dim=-1).sum().item(), 0.1 * case.factor)
        assert log_t_error <= (1e-5 if good else 1e-3), wrong
    else:  # the gradient vanishes: only rounding errors of both implementations remain
        assert error <= 3e-6 * low * weight, f"{case.what}: gradient {error / weight:.2e} of a weight, expected 0"
        assert log_t_error <= 3e-6 * low * case.factor / t, wrong
        error = log_t_error = 0
    assert np.isfinite(dz).all(), case.what
    assert got["anchors_without_positive"] == statistics["anchors_without_positive"], f"{case.what}: {got} expected {statistics}"
    if case.noise > 0:  # between equal rows rounding decides
        assert abs(got["accuracy"] - statistics["accuracy"]) <= 1.5 / rows, f"{case.what}: accuracy {got['accuracy']} expected {statistics['accuracy']}"
    for name in ("positive", "negative", "embedding_std"):
        assert abs(got[name] - statistics[name]) < 1e-6, f"{case.what}: {name} {got[name]} expected {statistics[name]}"
    return error if good else 0, log_t_error if good else 0


def variants(views):
    """Every variant of the loss for this number of views."""
    for decoupled in (0, 1):
        yield {"decoupled": decoupled}
        yield {"decoupled": decoupled, "inside": 1}
        for classes in (1, 3, 40):
            yield {"decoupled": decoupled, "classes": classes}
            yield {"decoupled": decoupled, "classes": classes, "inside": 1}
            yield {"decoupled": decoupled, "classes": classes, "inside": 1, "mean": 1}
        if views == 2:
            for flow in (0, 1):
                yield {"decoupled": decoupled, "flow": flow, "sigma": 0.5}
                yield {"decoupled": decoupled, "flow": flow, "sigma": 0.05}


def cases():
    shapes = [(2, 2, 3), (2, 7, 5), (2, 33, 17), (3, 2, 1), (3, 65, 16), (4, 41, 23), (2, 129, 64)]
    temperatures = (0.05, 0.1, 0.5, 1.0, 0.005, 0.0125, 0.024, 0.026, 10.0)
    seed = 0
    for views, n, d in shapes:
        for options in variants(views):
            seed += 1
            for k in range(3):
                yield Case(views, n, d, temperatures[(3 * seed + 4 * k) % 9 if k else seed % 4], seed=seed,
                           factor=(1, 2, 0.5)[seed % 3], **options)
    random = np.random.default_rng(5)
    for _ in range(40):
        views, n, d = (int(random.integers(*r)) for r in ((2, 5), (2, 150), (1, 70)))
        options = list(variants(views))
        yield Case(views, n, d, float(np.exp(random.uniform(np.log(0.005), np.log(10)))), seed=int(random.integers(1000)),
                   **options[int(random.integers(len(options)))])
    for options in ({}, {"flow": 1}, {"classes": 10}, {"classes": 10, "decoupled": 1}, {"classes": 600}, {"inside": 1}):
        yield Case(2, 523, 33, 0.1, seed=77, **options)  # more than a tile of columns
    for n, group in ((96, 32), (96, 48), (132, 44), (60, 1), (20, 20), (130, 65)):  # groups in and across leaves
        for flow in (0, 1):
            yield Case(2, n, 16, 0.1, seed=n + group, flow=flow, sigma=(0.5, 0.1)[flow], decoupled=1, group=group)
    for classes in (1, 5, 400):  # one view: with 400 classes most anchors have no positive
        for t in (0.005, 0.1):
            for decoupled in (0, 1):
                yield Case(1, 70, 12, t, classes=classes, decoupled=decoupled)
    for t in (0.005, 0.07, 10.0):  # equal views
        for options in variants(2):
            yield Case(2, 9, 4, t, noise=0, **options)
    for t in (0.005, 0.5):  # all rows equal: results must be finite
        for views in (2, 3):
            for options in variants(views):
                case = Case(views, 6, 8, t, noise=0, **options)
                case.z[:] = case.z[0, 0]
                yield case


def run(all_cases, directory, ranks, threads, gather):
    source, target = os.path.join(directory, "in.h5"), os.path.join(directory, f"out-{ranks}-{threads}-{gather}.h5")
    if not os.path.exists(source):
        with h5py.File(source, "w") as f:
            f["options"] = np.array([c.row() for c in all_cases], np.float64)
            for i, c in enumerate(all_cases):
                f[f"z{i}"] = c.z.numpy()
                if c.labels is not None:
                    f[f"labels{i}"] = c.labels.numpy().astype(np.int32)
    launcher = on_ranks(ranks)
    subprocess.run(launcher + [TOOL, source, target, str(threads), gather], check=True)
    with h5py.File(target) as f:
        return [(f[f"report{i}"][()], f[f"dz{i}"][()]) for i in range(len(all_cases))]


def same_bits(all_cases, results, directory):
    for ranks, threads, gather in ((1, 2, "auto"), (2, 1, "stream"), (3, 1, "all"), (3, 1, "stream"), (4, 1, "stream"),
                                   (2, 2, "all")):
        for case, one, other in zip(all_cases, results, run(all_cases, directory, ranks, threads, gather)):
            for a, b in zip(one, other):
                assert a.tobytes() == b.tobytes(), f"{case.what}: different bits on {ranks} ranks, {threads} threads, gather {gather}"


def inside_is_default_of_two_views(all_cases, results):
    """With a single positive, inside and outside the logarithm give the same bits."""
    n_compared = 0
    table = {(c.z.numpy().tobytes(), tuple(c.row())): r for c, r in zip(all_cases, results)}
    for case, result in zip(all_cases, results):
        if case.options.get("inside") and case.z.shape[0] == 2 and case.labels is None:
            row = case.row()
            row[3] = 0
            default = table.get((case.z.numpy().tobytes(), tuple(row)))
            if default:
                n_compared += 1
                assert all(a.tobytes() == b.tobytes() for a, b in zip(result, default)), case.what
    assert n_compared > 0


torch.set_num_threads(1)
with tempfile.TemporaryDirectory() as scratch:
    every = list(cases())
    every += [Case(2, 21, 6, t, seed=3, **o) for t in (0.005, 0.1) for o in ({}, {"inside": 1})]
    outcome = run(every, scratch, 1, 1, "all")
    errors = [check(case, *result) for case, result in zip(every, outcome)]
    same_bits(every, outcome, scratch)
    inside_is_default_of_two_views(every, outcome)
print(f"{len(every)} cases: worst gradient error {max(e[0] for e in errors):.1e}, log T {max(e[1] for e in errors):.1e}")
sys.exit(0)
