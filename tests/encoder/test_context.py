#!/usr/bin/python3
"""CPC's context net against PyTorch float64 with the same weights, and its causality.

simile-test: timeout 120
Forward and every gradient within 1e-5 of the largest entry.  A changed row leaves
the context of the rows above as it is, to the last bit.
"""
import os
import subprocess
import tempfile

import h5py
import numpy as np
import torch
import torch.nn.functional as F

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "encoder_tool_context")
SILU = 1


def draw(rng, dim, layers):
    """Named as torch's Sequential would."""
    weights = {}
    for i in range(layers):
        weights[f"{i}.weight"] = rng.normal(size=(dim, dim, 3, 3)) * (9 * dim) ** -0.5
        weights[f"{i}.bias"] = 0.3 * rng.normal(size=dim)
    weights[f"{layers}.weight"] = rng.normal(size=(dim, dim, 1, 1)) * dim ** -0.5
    return {k: v.astype("f4") for k, v in weights.items()}


def tool(x, dy, weights, grid, dim, layers, blocks, directory):
    source, target = os.path.join(directory, "in.h5"), os.path.join(directory, "out.h5")
    with h5py.File(source, "w") as f:
        f["x"], f["dy"] = x, dy
        for name, value in weights.items():
            f["weights/context/" + name] = value
    subprocess.run([TOOL, source, target] + [str(a) for a in (grid, dim, layers, SILU, blocks, len(x) // blocks)],
                   check=True)
    with h5py.File(target) as f:
        return f["y"][()].reshape(x.shape), f["dx"][()].reshape(x.shape), {n: f["grads/" + n][()] for n in weights}


def defined(x, dy, weights, layers):
    """A row of a convolution depends on itself and the two above; the grid's last row, whose context
    predicts nothing, enters through the residual only."""
    w = {k: torch.tensor(v.astype("f8"), requires_grad=True) for k, v in weights.items()}
    x = torch.tensor(x.astype("f8"), requires_grad=True)
    at = x.permute(0, 3, 1, 2)
    for i in range(layers):
        at = at + F.silu(F.conv2d(F.pad(at[:, :, :-1], (1, 1, 2, 1)), w[f"{i}.weight"], w[f"{i}.bias"]))
    y = F.conv2d(at, w[f"{layers}.weight"]).permute(0, 2, 3, 1)
    (y * torch.tensor(dy.astype("f8"))).sum().backward()
    return y.detach().numpy(), x.grad.numpy(), {k: v.grad.numpy() for k, v in w.items()}


def near(what, got, want):
    error = np.abs(got - want).max() / np.abs(want).max()
    assert error <= 1e-5, f"{what}: off by {error:.1e}"
    return error


def compare(rng, grid, dim, layers, blocks, slots, directory):
    x, dy = (rng.normal(size=(blocks * slots, grid, grid, dim)).astype("f4") for _ in range(2))
    weights = draw(rng, dim, layers)
    y, dx, grads = tool(x, dy, weights, grid, dim, layers, blocks, directory)
    want_y, want_dx, want = defined(x, dy, weights, layers)
    what = f"grid {grid} dim {dim} layers {layers}"
    worst = max([near(what + " y", y, want_y), near(what + " dx", dx, want_dx)] +
                [near(f"{what} {k}", grads[k], want[k]) for k in want])
    print(f"{what}: {worst:.1e}")


def causal(rng, directory):
    grid, dim, layers = 6, 16, 2
    x, dy = (rng.normal(size=(4, grid, grid, dim)).astype("f4") for _ in range(2))
    weights = draw(rng, dim, layers)
    y, _, _ = tool(x, dy, weights, grid, dim, layers, 2, directory)
    for row in range(grid):
        other = x.copy()
        other[:, row, 3] += 1
        seen, _, _ = tool(other, dy, weights, grid, dim, layers, 2, directory)
        assert np.array_equal(seen[:, :row], y[:, :row]), f"row {row} affects rows above"
        assert not np.array_equal(seen[:, row], y[:, row]), f"row {row} does not depend on itself"
        only = np.zeros_like(dy)
        only[:, row] = dy[:, row]
        _, dx, _ = tool(x, only, weights, grid, dim, layers, 2, directory)
        assert not dx[:, row + 1:].any() and dx[:, row].any(), f"row {row} has a gradient from rows below"
        assert row == 0 or dx[:, row - 1].any(), f"row {row} does not depend on the row above"


with tempfile.TemporaryDirectory() as scratch:
    torch.set_num_threads(1)
    numbers = np.random.default_rng(3)
    for case in ((7, 16, 4, 2, 3), (3, 40, 1, 3, 1), (5, 8, 2, 1, 5), (2, 24, 3, 2, 2)):
        compare(numbers, *case, scratch)
    causal(numbers, scratch)
print("ok")
