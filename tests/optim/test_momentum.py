#!/usr/bin/python3
"""The exponential moving average against m average + (1 - m) online in NumPy float64, within half a unit in
the last place of the larger operand per step; its factor against NumPy's cosine, within 1e-12."""
import os
import subprocess
import sys
import tempfile

import numpy as np

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "optim_tool_momentum")


def update(online, average, m, directory):
    steps, n = online.shape
    paths = [os.path.join(directory, p) for p in ("online", "average", "out")]
    online.tofile(paths[0])
    average.tofile(paths[1])
    subprocess.run([TOOL, "update", *paths, str(n), str(steps), repr(m)], check=True)
    return np.fromfile(paths[2], "f4")


def factors(first, last, progress):
    args = [TOOL, "factor", repr(first), repr(last), *map(repr, progress)]
    return np.array(subprocess.run(args, check=True, capture_output=True, text=True).stdout.split(), "f8")


r = np.random.RandomState(11)
with tempfile.TemporaryDirectory() as directory:
    for n, steps in [(1, 1), (4096, 1), (4097, 1), (10001, 20)]:
        for m in (0.0, 0.5, 0.99, 0.999, 0.9996, 1.0):
            online = (r.randn(steps, n) * 10.0 ** r.randint(-4, 2, n)).astype("f4")
            average = (r.randn(n) * 10.0 ** r.randint(-4, 2, n)).astype("f4")
            expected, bound = average.astype("f8"), np.zeros(n)
            for x in online.astype("f8"):
                bound += np.spacing(np.maximum(abs(expected), abs(x)).astype("f4")) / 2
                expected = m * expected + (1 - m) * x
            result = update(online, average, m, directory)
            error = (abs(result - expected) / (1.01 * bound)).max()
            assert error <= 1, (n, steps, m, error)
            assert m != 1.0 or (result == average).all()
    same = r.randn(1, 5000).astype("f4")
    assert (update(same, same[0], 0.99, directory) == same[0]).all(), "equal weights must stay equal"

t = np.linspace(0, 1, 101).tolist()
for m0 in (0.0, 0.99, 0.996, 0.999):
    for m1 in (1.0, 0.9999, 0.9):
        expected = m1 - (m1 - m0) * (1 + np.cos(np.pi * np.array(t))) / 2  # solo-learn's final_tau
        error = abs(factors(m0, m1, t) - expected).max()
        assert error <= 1e-12, (m0, m1, error)
        assert abs(factors(m0, m1, [-0.5, 1.5]) - [m0, m1]).max() <= 1e-15, (m0, m1)
print("ok")
sys.exit(0)
