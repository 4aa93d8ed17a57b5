"""A queue of a million keys is split into equal parts over four ranks, also while it is saved, and
over two ranks that resume the run.

simile-test: timeout 1200 labels long
The memory of a rank (results/pretrain.json) is compared with that of the same run with a queue of
256 keys.
"""
import glob
import json
import os

import h5py
import numpy as np

import common

K, D = 1_000_000, 128


def held(directory):
    with open(os.path.join(directory, "results", "pretrain.json")) as f:
        return np.array([m["held_bytes"] for m in json.load(f)["memory"]])


try:
    data = common.prepare("few", 32, 8, 5)
    path, directory = common.job(data, ["mocov2", "queue_size: 256"], batch="16", block="4",
                         encoder="{arch: resnet18, width: 0.0625, projector: {dim: 128}}")
    small = {}
    for ranks in (4, 2):
        common.run(ranks, "pretrain", path, f"run={directory}-{ranks}", "--stop-after", "2", expect=75)
        small[ranks] = held(f"{directory}-{ranks}")
    keys = f"method.queue_size={K}"
    common.run(4, "pretrain", path, keys, "--stop-after", "2", "--trace-hash", expect=75)
    for ranks in (4, 2):
        if ranks == 2:
            common.run(2, "pretrain", path, keys, "--trace-hash")
        share, slack = K * D * 4 / ranks, 256 * D * 4 + 4e6
        for rank, extra in enumerate(held(directory) - small[ranks]):
            print(f"{ranks} ranks: rank {rank} holds {extra / 1e6:.1f} MB of the queue")
            assert abs(extra - share) <= slack, f"rank {rank} of {ranks}: {extra} bytes, expected {share}"
    with open(os.path.join(directory, "trace-hash.txt")) as f:
        want = f.read()
    end = common.checkpoint(directory, 4)
    rows = []  # queues above 256 MiB are stored in part files
    for part in sorted(glob.glob(os.path.join(directory, "checkpoints", "step-000000004.part-*.h5"))):
        with h5py.File(part) as f:
            rows.append(f["queue/rows"][()])
    rows = np.concatenate(rows)
    assert rows.shape == (K, D) and end["queue/pointer"] == 64 and end["queue/filled"] == 64
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
    common.run(3, "pretrain", path, keys, f"run={directory}-whole", "--trace-hash")
    with open(os.path.join(f"{directory}-whole", "trace-hash.txt")) as f:
        assert f.read() == want, "the hash trace on 3 ranks differs from that on 4 and then 2 ranks"
finally:
    common.remove_scratch()
