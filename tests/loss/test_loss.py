#!/usr/bin/python3
"""NT-Xent and DCL against PyTorch float64 written from the definitions.

Tolerances are DESIGN.md section 7's: loss 1e-6 max(1, |loss|), below T = 0.05 times 0.05/T;
gradient 1e-5 of the largest entry for T in 0.05 to 1 with noise between views, else 1e-3.
"""
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import torch

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "loss_tool_loss")


def reference(z, temperature, decoupled, both):
    """z [views, n, d] float64 -> loss: mean over anchors, positives outside the logarithm."""
    views, n, d = z.shape
    flat = z.reshape(views * n, d)
    s = flat @ flat.T / temperature
    index = torch.arange(views * n)
    own = index[:, None] == index[None, :]
    positive = (index[:, None] % n == index[None, :] % n) & ~own
    out = own | positive if decoupled else own
    lse = torch.logsumexp(s.masked_fill(out, float("-inf")), dim=1)
    loss = lse - s.masked_fill(~positive, 0).sum(1) / (views - 1)
    hits = s.masked_fill(~positive, float("inf")).min(1).values > s.masked_fill(own | positive, float("-inf")).max(1).values
    negative = (s * temperature).masked_fill(own | positive, 0).sum() / (~(own | positive)).sum()
    return loss.mean() * (2 if both else 1), hits.double().mean(), negative


def check(views, n, d, temperature, decoupled, both, noise, folder, seed):
    torch.manual_seed(seed)
    base = torch.randn(1, n, d)
    z = torch.nn.functional.normalize(base + noise * torch.randn(views, n, d), dim=-1).float()
    source, target = os.path.join(folder, "in.h5"), os.path.join(folder, "out.h5")
    with h5py.File(source, "w") as f:
        f["z"] = z.numpy()
    subprocess.run([TOOL, source, target, repr(temperature), str(int(decoupled)), str(int(both))], check=True)
    with h5py.File(target) as f:
        loss, dz = f["loss"][()], f["dz"][()]
        accuracy, negative, spread = f["accuracy"][()], f["negative"][()], f["spread"][()]
    exact = z.double().requires_grad_()
    want, hits, mean_negative = reference(exact, temperature, decoupled, both)
    want.backward()
    grad = exact.grad.numpy()
    what = f"views {views} n {n} d {d} T {temperature} dcl {decoupled} seed {seed}"
    bound = 1e-6 * max(1, abs(want.item())) * max(1, 0.05 / temperature) * (2 if both else 1)
    assert abs(loss - want.item()) <= bound, f"{what}: loss {loss} wanted {want.item()}"
    error = np.abs(dz - grad).max() / np.abs(grad).max()
    good = 0.05 <= temperature <= 1 and noise > 0
    assert np.isfinite(dz).all() and error <= (1e-5 if good else 1e-3), f"{what}: gradient {error:.2e}"
    assert abs(accuracy - hits.item()) <= 1 / (views * n), what
    assert abs(negative - mean_negative.item()) < 1e-6, what
    std = z.double().reshape(views * n, d).std(0, unbiased=False).mean().item()
    assert abs(spread - std) < 1e-6, what
    return error


with tempfile.TemporaryDirectory() as folder:
    worst = 0
    for seed, (views, n, d) in enumerate([(2, 2, 3), (2, 7, 5), (2, 33, 17), (2, 128, 64), (2, 513, 128), (2, 700, 31), (3, 65, 16), (4, 40, 24)]):
        for temperature in (0.05, 0.1, 0.5, 1.0):
            for decoupled in (False, True):
                worst = max(worst, check(views, n, d, temperature, decoupled, seed % 2 == 1, 0.7, folder, seed))
    for temperature in (0.005, 0.02, 0.024, 0.026, 10.0):
        for decoupled in (False, True):
            check(2, 150, 32, temperature, decoupled, False, 0.7, folder, 99)
    check(2, 50, 16, 0.5, False, False, 0.0, folder, 100)
print(f"worst gradient error {worst:.1e}")
sys.exit(0)
