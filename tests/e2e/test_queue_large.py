"""A queue of a million keys is a quarter on each of four ranks, through a save, and a half on
each of two that go on from it.

simile-test: timeout 1200 labels long
What a rank holds is told by its ledger (results/pretrain.json), against the same run with a
queue of 256 keys.
"""
import glob
import json
import os

import h5py
import numpy as np

import whole_steps as w

K, D = 1_000_000, 128


def held(folder):
    with open(os.path.join(folder, "results", "pretrain.json")) as f:
        return np.array([m["held_bytes"] for m in json.load(f)["memory"]])


try:
    data = w.prepare("few", 32, 8, 5)
    path, folder = w.job(data, ["mocov2", "queue_size: 256"], batch="16", block="4",
                         encoder="{arch: resnet18, width: 0.0625, projector: {dim: 128}}")
    small = {}
    for ranks in (4, 2):
        w.run(ranks, "pretrain", path, f"run={folder}-{ranks}", "--stop-after", "2", expect=75)
        small[ranks] = held(f"{folder}-{ranks}")
    keys = f"method.queue_size={K}"
    w.run(4, "pretrain", path, keys, "--stop-after", "2", "--trace-hash", expect=75)
    for ranks in (4, 2):
        if ranks == 2:
            w.run(2, "pretrain", path, keys, "--trace-hash")
        share, room = K * D * 4 / ranks, 256 * D * 4 + 4e6
        for rank, extra in enumerate(held(folder) - small[ranks]):
            print(f"{ranks} ranks: rank {rank} holds {extra / 1e6:.1f} MB of the queue")
            assert abs(extra - share) <= room, f"rank {rank} of {ranks}: {extra} bytes, expected {share}"
    with open(os.path.join(folder, "trace-hash.txt")) as f:
        want = f.read()
    end = w.checkpoint(folder, 4)
    rows = []  # more than 256 MiB stand in part files
    for part in sorted(glob.glob(os.path.join(folder, "checkpoints", "step-000000004.part-*.h5"))):
        with h5py.File(part) as f:
            rows.append(f["queue/rows"][()])
    rows = np.concatenate(rows)
    assert rows.shape == (K, D) and end["queue/pointer"] == 64 and end["queue/filled"] == 64
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
    w.run(3, "pretrain", path, keys, f"run={folder}-whole", "--trace-hash")
    with open(os.path.join(f"{folder}-whole", "trace-hash.txt")) as f:
        assert f.read() == want, "stopped on 4 and ended on 2 ranks, not as on 3 from the start"
finally:
    w.close()
