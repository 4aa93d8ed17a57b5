#!/usr/bin/python3
"""SGD and AdamW against torch.optim, LARS against the definitions of its dialects, in float64, over 20
steps with equal gradients. Tolerance: 1e-6 of the largest weight (LARS 1e-5); moments 1e-6 of the largest."""
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "optim_tool_optim")
N, STEPS = 9001, 20
DIALECTS = ["simclr", "mocov3", "bolts", "larc", "lightly"]


def run(w, g, name, lr, momentum, decay, nesterov, dialect, trust, bn, directory, clip=False):
    return state(w, g, name, lr, momentum, decay, nesterov, dialect, trust, bn, directory, (0.9, 0.999), 1e-8, clip)[1][0]


def state(w, g, name, lr, momentum, decay, nesterov, dialect, trust, bn, directory, betas, eps, clip=False):
    paths = [os.path.join(directory, p) for p in ("w", "g", "o")]
    w.astype("f4").tofile(paths[0])
    g.astype("f4").tofile(paths[1])
    names = subprocess.run([TOOL, *paths, str(N), str(STEPS), str(name), repr(lr), repr(momentum), repr(decay),
                            str(int(nesterov)), str(dialect), repr(trust), str(int(bn)), *map(repr, betas), repr(eps), str(int(clip))],
                           check=True, capture_output=True, text=True).stdout.split()
    return names, np.fromfile(paths[2], "f4").reshape(-1, 2, N)


def sgd(w, g, lr, momentum, decay, nesterov, bn):
    tensors = [torch.tensor(v, requires_grad=True) for v in w]
    groups = [{"params": [tensors[0]], "weight_decay": decay},
              {"params": [tensors[1]], "weight_decay": 0 if bn else decay}]
    opt = torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
    for s in range(STEPS):
        for group in opt.param_groups:
            group["lr"] = lr * (1 - 0.02 * s)
        for t, x in zip(tensors, g[s]):
            t.grad = torch.tensor(x)
        opt.step()
    return np.stack([t.detach().numpy() for t in tensors])


def adamw(w, g, lr, betas, eps, decay, bn):
    """Weights, means and mean squares."""
    tensors = [torch.tensor(v, requires_grad=True) for v in w]
    groups = [{"params": [tensors[0]], "weight_decay": decay},
              {"params": [tensors[1]], "weight_decay": 0 if bn else decay}]
    opt = torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps)
    for s in range(STEPS):
        for group in opt.param_groups:
            group["lr"] = lr * (1 - 0.02 * s)
        for t, x in zip(tensors, g[s]):
            t.grad = torch.tensor(x)
        opt.step()
    moments = [[opt.state[t][k].numpy() for t in tensors] for k in ("exp_avg", "exp_avg_sq")]
    return np.array([[t.detach().numpy() for t in tensors], *moments])


def lars(w, g, lr0, mu, decay, dialect, eta, bn, clip):
    """The dialects of src/optim/opt_lars.c, from their publications; clip as in LARC and solo-learn."""
    w = w.copy()
    v = np.zeros_like(w)
    for s in range(STEPS):
        lr = lr0 * (1 - 0.02 * s)
        for i in range(2):
            excluded = i == 1 and bn and dialect != "larc" or dialect == "lightly" and decay == 0
            wd, trust = (0.0, 1.0) if excluded else (decay, 1.0)
            adapted = False
            nw, ng = np.linalg.norm(w[i]), np.linalg.norm(g[s, i])
            if not excluded:
                if dialect in ("simclr", "mocov3"):
                    n = np.linalg.norm(g[s, i] + wd * w[i])
                    adapted = nw > 0 and n > 0
                    trust = eta * nw / n if adapted else 1.0
                elif nw > 0 and ng > 0:
                    adapted = True
                    trust = eta * nw / (ng + wd * nw + 1e-8)
                else:
                    wd = 0.0
            if clip and adapted:
                trust = min(trust / lr, 1)
            step = trust * (g[s, i] + wd * w[i])
            if dialect == "simclr":
                v[i] = mu * v[i] + lr * step
                w[i] -= v[i]
            else:
                v[i] = mu * v[i] + step
                w[i] -= lr * v[i]
    return w


r = np.random.RandomState(3)
w = r.randn(2, N).astype("f4").astype("f8")
g = r.randn(STEPS, 2, N).astype("f4").astype("f8")
with tempfile.TemporaryDirectory() as directory:
    for momentum, decay, nesterov, bn in [(0, 0, False, False), (0.9, 1e-4, False, True), (0.9, 1e-2, True, True)]:
        result = run(w, g, 0, 0.1, momentum, decay, nesterov, 0, 0.001, bn, directory)
        expected = sgd(w, g, 0.1, momentum, decay, nesterov, bn)
        error = np.abs(result - expected).max() / np.abs(expected).max()
        assert error <= 1e-6, (momentum, decay, nesterov, error)
    for k, dialect in enumerate(DIALECTS):
        # trust ratios are about eta: with eta 1.9 and rates from 2 to 1.2, some are clipped to 1
        for clip, decay, eta in ((False, 1e-3, 0.02), (False, 0, 0.02), (True, 1e-3, 0.02), (True, 1e-3, 1.9)):
            for bn in (False, True):
                for start in (w, np.stack([w[0], 0 * w[1]])):
                    result = run(start, g, 1, 2.0, 0.9, decay, False, k, eta, bn, directory, clip)
                    expected = lars(start, g, 2.0, 0.9, decay, dialect, eta, bn, clip)
                    error = np.abs(result - expected).max() / np.abs(expected).max()
                    assert error <= 1e-5, (dialect, clip, decay, eta, bn, error)
    adam = [(0.01, (0.9, 0.999), 1e-8, 0.05, True), (0.001, (0.8, 0.95), 1e-3, 0.5, False),
            (0.05, (0.0, 0.99), 1e-8, 0.0, False)]
    for lr, betas, eps, decay, bn in adam:
        for size in (1.0, 1e-4):
            names, result = state(w, g * np.float32(size), 2, lr, 0.9, decay, False, 0, 0.001, bn, directory, betas, eps)
            expected = adamw(w, (g * np.float32(size)).astype("f4").astype("f8"), lr, betas, eps, decay, bn)
            assert names == [f"optimizer/{k}/encoder/{t}" for k in ("momentum", "second") for t in "wb"], names
            for a, b in zip(result, expected):
                error = np.abs(a - b).max() / np.abs(b).max()
                assert error <= 1e-6, (lr, betas, eps, decay, bn, size, error)
print("ok")
sys.exit(0)
