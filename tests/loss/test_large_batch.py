#!/usr/bin/python3
# simile-test: timeout 1200 labels long
"""NT-Xent of a batch of 131,072 pairs at d = 128 in less than 1 GiB in one process: a part of the rows against all
columns; random rows of the part, their losses and gradients, against NumPy in double precision.

By hand, for the million and a thousand rows: test_large_batch.py 1048576 512 3 1000 (pairs, pairs of the part, GiB,
rows to check). It prints the time of the part and what all rows would take in proportion.
"""
import os
import resource
import subprocess
import sys
import tempfile

import numpy as np

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "loss_tool_rows")
D, TEMPERATURE, BLOCK = 128, 0.1, 8192


def write_rows(path, n, seed=3):
    """float32 [2][n][d] unit rows; the views of a pair are similar. Returns a map of them."""
    z = np.memmap(path, np.float32, "w+", shape=(2, n, D))
    for lo in range(0, n, BLOCK):
        random = np.random.default_rng([seed, lo])
        base = random.standard_normal((min(BLOCK, n - lo), D), np.float32)
        for view in range(2):
            rows = base + random.standard_normal(base.shape, np.float32)
            z[view, lo:lo + BLOCK] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    z.flush()
    return z


def blocks(z):
    flat = z.reshape(-1, D)
    for lo in range(0, len(flat), BLOCK):
        yield lo, flat[lo:lo + BLOCK].astype(np.float64)


def log_sum_exps(z, anchors):
    """Of the rows with these numbers in [2 n], over all rows but themselves."""
    a = z.reshape(-1, D)[anchors].astype(np.float64) / TEMPERATURE
    shift, total = 1 / TEMPERATURE, np.zeros(len(a))
    for lo, columns in blocks(z):
        e = np.exp(a @ columns.T - shift)
        own = (anchors >= lo) & (anchors < lo + len(columns))
        e[own, anchors[own] - lo] = 0
        total += e.sum(1)
    return shift + np.log(total)


def gradients(z, rows, lse_of):
    """Of the sum of the anchors' losses / (2 n), with respect to the given anchors: sum over j of
    (P_ij + P_ji - a_ij - a_ji) z_j / (T 2 n), where only anchors have P_ji and a_ji. lse_of: [2 n], inf for others."""
    n, flat = z.shape[1], z.reshape(-1, D)
    a = flat[rows].astype(np.float64) / TEMPERATURE
    out = np.zeros((len(rows), D))
    for lo, columns in blocks(z):
        s = a @ columns.T
        weight = np.exp(s - lse_of[rows][:, None]) + np.exp(s - lse_of[None, lo:lo + len(columns)])
        own = (rows >= lo) & (rows < lo + len(columns))
        weight[own, rows[own] - lo] = 0
        out += weight @ columns
    positives = (rows + n) % (2 * n)  # of a pair both rows are anchors
    out -= 2 * flat[positives].astype(np.float64)
    return out / (TEMPERATURE * 2 * n)


def run_tool(path, n, part, limit, threads):
    target = path + ".out"
    command = [TOOL, path, str(n), str(D), str(part[0]), str(part[1]), str(TEMPERATURE), target]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ, OMP_NUM_THREADS=str(threads)))
    text = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = status
    assert status == 0, f"tool_rows ended with {status}"
    peak = usage.ru_maxrss * 1024
    assert peak < limit, f"peak {peak / 2**20:.0f} MiB, expected less than {limit / 2**20:.0f} MiB"
    count = part[1] - part[0]
    losses = np.fromfile(target, np.float64, 2 * count)
    dz = np.fromfile(target, np.float32, offset=16 * count).reshape(2 * count, D)
    return losses, dz, float(text), peak


def main(n, n_part, limit_gib, n_checked, threads=1):
    lo = n // 3
    part = (lo, lo + n_part)
    anchors = np.concatenate([np.arange(*part), n + np.arange(*part)])
    with tempfile.TemporaryDirectory(dir=os.environ.get("LARGE_BATCH_DIR")) as scratch:
        path = os.path.join(scratch, "z.raw")
        z = write_rows(path, n)
        losses, dz, seconds, peak = run_tool(path, n, part, limit_gib * 2**30, threads)
        lse_of = np.full(2 * n, np.inf)
        lse_of[anchors] = log_sum_exps(z, anchors)
        chosen = np.sort(np.random.default_rng(1).choice(len(anchors), min(n_checked, len(anchors)), replace=False))
        rows = anchors[chosen]
        flat = z.reshape(-1, D)
        positive = np.einsum("ij,ij->i", flat[rows].astype(np.float64), flat[(rows + n) % (2 * n)].astype(np.float64))
        expected_losses = lse_of[rows] - positive / TEMPERATURE
        expected = gradients(z, rows, lse_of)
        del z, flat
    loss_error = np.abs(losses[chosen] - expected_losses).max()
    error = np.abs(dz[chosen] - expected).max() / np.abs(expected).max()
    print(f"{n} pairs, {2 * n_part} rows against {2 * n} columns in {seconds:.1f} s on {threads} thread(s), all rows in "
          f"proportion {seconds * n / n_part / 3600:.2f} h; peak {peak / 2**20:.0f} MiB; of {len(rows)} rows the largest "
          f"error of a loss is {loss_error:.1e} of {expected_losses.mean():.2f}, of a gradient {error:.1e} of the largest")
    assert loss_error < 1e-6 * np.abs(expected_losses).max()
    assert error < 1e-5


main(*(int(x) for x in sys.argv[1:])) if len(sys.argv) > 1 else main(131072, 256, 1, 200)
