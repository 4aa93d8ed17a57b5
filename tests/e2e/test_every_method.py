"""Every method trains two steps, and the run can be embedded and evaluated.

simile-test: timeout 600
The methods are those that `simile plan --keys` lists, so a new method is covered without an edit.
Large default widths and queues are reduced where the method has such a key.
"""
import json
import os
import sys
import tempfile

import h5py
import numpy as np

sys.path.insert(0, os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import methods, simile, small_method  # noqa: E402

N, SIDE, PROJECTED = 64, 16, 8


def run(*args):
    return simile(*args).stdout


def data_set(name, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (N, SIDE, SIDE)).astype("u1")
    labels = (np.arange(N) % 4).astype("u1")
    header = np.array([0x803, N, SIDE, SIDE], ">u4").tobytes()
    with open(f"{name}-images-idx3-ubyte", "wb") as f:
        f.write(header + images.tobytes())
    with open(f"{name}-labels-idx1-ubyte", "wb") as f:
        f.write(np.array([0x801, N], ">u4").tobytes() + labels.tobytes())
    run("prepare", f"{name}-images-idx3-ubyte", "--out", f"{name}.h5")


def check(name, keys):
    run("pretrain", "job.yaml", f"run=run-{name}", *small_method(name, keys))
    out = f"{name}-embedded.h5"
    run("embed", f"run-{name}", "--data", "train.h5", "--out", out)
    with h5py.File(out) as f:
        assert f["features"].shape[0] == N and np.isfinite(f["features"][:]).all(), name
        if name not in ("cpc", "supervised"):  # they have no projector by default
            assert f["projections"].shape == (N, PROJECTED), name
            assert np.isfinite(f["projections"][:]).all(), name
    result = json.loads(run("evaluate", "knn", f"run-{name}", "--train", "train.h5", "--test", "test.h5",
                            "--k", "5", "--json"))
    assert 0 <= result["top1"] <= 1, (name, result)


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    data_set("train", 1)
    data_set("test", 2)
    with open("job.yaml", "w") as f:
        f.write(f"""run: unset
data: {{train: train.h5}}
method: {{name: simclr}}
encoder: {{width: 0.0625, projector: {{hidden: 16, dim: {PROJECTED}}}}}
batch: 32
block: 8
schedule: {{epochs: 1, warmup_epochs: 0}}
augment: {{preset: digits}}
""")
    for name, keys in methods().items():
        check(name, keys)
        print("ok", name)
