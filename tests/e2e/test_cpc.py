"""CPC: the loss on files and whole training steps against PyTorch float64, the same bits on
any number of ranks, features of patches, and what is refused.

simile-test: timeout 300
"""
import glob
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile

import h5py
import numpy as np
import torch
import torch.nn.functional as F
import torchvision

SIMILE = os.environ["SIMILE"]
scratch = tempfile.mkdtemp()


def path(name):
    return os.path.join(scratch, name)


def run(ranks, *args, expect=0):
    r = subprocess.run(["mpirun", "-np", str(ranks), SIMILE, *args], capture_output=True, text=True,
                       stdin=subprocess.DEVNULL)
    assert r.returncode == expect, f"{args}: exit {r.returncode}, expected {expect}\n{r.stderr}"
    return r.stderr + r.stdout


# ---- simile loss ----

def loss(keys, arrays, ranks, expect=0):
    with h5py.File(path("z.h5"), "w") as f:
        for name, value in arrays.items():
            f[name] = value
    with open(path("loss.yaml"), "w") as f:
        f.write("method: {name: %s}\n" % ", ".join(["cpc"] + [f"{k}: {v}" for k, v in keys.items()]))
    said = run(ranks, "loss", path("loss.yaml"), "--in", path("z.h5"), "--out", path("g.h5"), expect=expect)
    if expect:
        return said
    with h5py.File(path("g.h5")) as f:
        assert f.attrs["method"] == b"cpc"
        return {name: f[name][()] for name in f}


def defined(c, z, w, skip, log_t, negatives=None, decoupled=False):
    """Mean over k of the mean over positions with a target k + skip below, in torch."""
    n, grid, _, d = c.shape
    t = log_t.exp()
    steps = []
    for k in range(1, len(w) + 1):
        rows = grid - k - skip
        a = (c[:, :rows] @ w[k - 1]).reshape(-1, d) / t
        b = z[:, k + skip:].reshape(-1, d)
        own = (a * b).sum(1)
        if negatives is not None:
            drawn = z.reshape(-1, d)[negatives[k - 1][:, :rows].reshape(len(a), -1)]
            others = torch.einsum("nd,nmd->nm", a, drawn)
            steps.append((torch.logsumexp(torch.cat([own[:, None], others], 1), 1) - own).mean())
            continue
        s = a @ b.T
        if decoupled:
            s = s.masked_fill(torch.eye(len(a), dtype=torch.bool), -torch.inf)
        steps.append((torch.logsumexp(s, 1) - own).mean())
    return torch.stack(steps).mean()


def compare(rng, n, grid, steps, d, keys, m=0):
    skip, temperature = keys.get("skip", 0), keys.get("temperature", 1.0)
    base = rng.normal(size=(n, 1, 1, d))
    c, z = (base + rng.normal(size=(n, grid, grid, d)) for _ in range(2))
    w = rng.normal(size=(steps, d, d)) * d ** -0.5
    arrays = {"context": c.astype("f4"), "target": z.astype("f4"), "predictor": w.astype("f4")}
    drawn = None
    if m:  # a place without a target may hold anything
        arrays["negatives"] = rng.integers(0, n * grid * grid, (steps, n, grid, grid, m)).astype("i4")
        drawn = torch.tensor(arrays["negatives"].astype("i8"))
        for k in range(steps):
            arrays["negatives"][k, :, grid - k - 1 - skip:] = -7
    got = [loss(keys, arrays, ranks) for ranks in (1, 2, 3, 4)]
    what = f"n {n} grid {grid} steps {steps} d {d} m {m} {keys}"
    for other in got[1:]:
        assert all(np.array_equal(got[0][k], other[k]) for k in got[0] if k != "ranks"), f"{what}: ranks differ"
    x = [torch.tensor(arrays[k].astype("f8"), requires_grad=True) for k in ("context", "target", "predictor")]
    log_t = torch.tensor(np.log(temperature), dtype=torch.float64, requires_grad=True)
    value = defined(*x, skip, log_t, drawn, keys.get("denominator") == "decoupled")
    value.backward()
    assert abs(got[0]["loss"] - float(value)) <= 1e-6 * max(1, abs(float(value))), f"{what}: {got[0]['loss']} {value}"
    for name, v in zip(("dcontext", "dtarget", "dpredictor"), x):
        g = v.grad.numpy()
        error = np.abs(got[0][name] - g).max() / np.abs(g).max()
        assert got[0][name].shape == g.shape and error <= 1e-5, f"{what}: {name} off by {error:.1e}"
    if "learn_temperature" in keys:
        ours, theirs = float(got[0]["dlog_temperature"]), float(log_t.grad)
        assert abs(ours - theirs) <= 1e-5 * max(1, abs(theirs)), f"{what}: {ours} {theirs}"


def losses():
    rng = np.random.default_rng(1)
    learned = {"learn_temperature": "true"}
    compare(rng, 5, 3, 2, 7, learned)
    compare(rng, 7, 5, 3, 9, {"skip": 1, "temperature": 3.0})
    compare(rng, 13, 7, 5, 33, {"temperature": 2.0})
    compare(rng, 2, 2, 1, 3, {"denominator": "decoupled"})
    compare(rng, 5, 3, 2, 7, learned, m=4)
    compare(rng, 9, 6, 3, 17, {"skip": 2, "temperature": 0.7}, m=11)


def refused_files():
    rng = np.random.default_rng(2)
    good = {"context": rng.normal(size=(4, 4, 4, 5)), "target": rng.normal(size=(4, 4, 4, 5)),
            "predictor": rng.normal(size=(2, 5, 5))}
    good = {k: v.astype("f4") for k, v in good.items()}
    negatives = np.zeros((2, 4, 4, 4, 3), "i4")
    good["negatives"] = negatives

    def bad(text, expect=65, keys=None, **changes):
        arrays = {k: v for k, v in {**good, **changes}.items() if v is not None}
        said = loss(keys or {}, arrays, 3, expect=expect)
        assert said.count(text) == 1, (text, said)

    bad("has no /target", target=None)
    bad("/context is 1 x 4 x 4 x 5, expected", context=good["context"][:1])
    bad("/context is 4 x 4 x 3 x 5, expected", context=good["context"][:, :, :3])
    bad("/target is 4 x 3 x 4 x 5, but /context is", target=good["target"][:, :3])
    bad("/predictor is 2 x 5 x 4, expected", predictor=good["predictor"][:, :, :4])
    bad("2 steps, but below 2 skipped rows a grid of 4 has targets for 1", keys={"skip": 2})
    bad("/negatives is 1 x 4 x 4 x 4 x 3, expected", negatives=negatives[:1])
    bad("not a float32 or int32 array of 5 dimensions", negatives=negatives[..., 0])
    bad("/negatives is not int32", negatives=negatives.astype("f4"))
    for value in (-1, 64):
        far = negatives.copy()
        far[1, 3, 1, 2, 0] = value
        bad(f"/negatives holds {value} at step 1, image 3, row 1, column 2; /target has rows 0 to 63", negatives=far)
    nan = good["target"].copy()
    nan[2, 1, 3, 0] = np.nan
    bad("row 39 of /target is not finite", target=nan)
    bad("decoupled goes with negatives all", expect=78, keys={"denominator": "decoupled"})
    bad("temperature: 0 is out of range", expect=78, keys={"temperature": 0})


try:
    losses()
    refused_files()
    print("ok")
finally:
    shutil.rmtree(scratch)
