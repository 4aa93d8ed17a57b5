#!/usr/bin/python3
"""The partner that a view shows: the image that plain Philox4x32-10 selects, another image of the same
group as read by h5py, every one of them equally often; the same of a fraction of a data set.

simile-test: timeout 60 labels unit
"""
import os
import subprocess
import tempfile

import h5py
import numpy as np

SIMILE, TOOL = os.environ["SIMILE"], os.path.join(os.environ["SIMILE_TOOLS"], "data_tool_partners")
PARTNER = 10  # SIM_RANDOM_PARTNER; part of the bits of every run
WORD = 2**32


def philox(key, counter):
    """Salmon et al. 2011, with 10 rounds; the first word."""
    k, c = list(key), list(counter)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b // WORD ^ c[1] ^ k[0], b % WORD, a // WORD ^ c[3] ^ k[1], a % WORD]
        k = [(k[0] + 0x9E3779B9) % WORD, (k[1] + 0xBB67AE85) % WORD]
    return c[0]


def below(seed, image, epoch, view, n):
    """Uniform below n: words above the largest multiple of n are rejected."""
    for draw in range(1000):
        word = philox((seed, PARTNER), (image, epoch, view << 16, draw))
        if word < WORD // n * n:
            return word % n


def partners(fraction, seed, epochs, views):
    done = subprocess.run([TOOL, "set.h5", str(fraction), str(seed), str(epochs), str(views)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    numbers = [int(name[name.index("[") + 1:-1]) for name in lines[0].split()]
    return numbers, np.array([[int(p) for p in line.split()] for line in lines[1:]]).reshape(epochs, views, len(numbers))


def check(fraction, seed, epochs, views):
    numbers, got = partners(fraction, seed, epochs, views)
    with h5py.File("set.h5") as f:
        groups = f["group"][()][numbers]
    assert len(numbers) == int(fraction * len(GROUPS) + 0.5)
    assert (got[:, 0] == np.arange(len(groups))).all(), "view 0 is the image itself"
    alone = np.bincount(groups)[groups] == 1
    assert alone.any() and not alone.all()
    assert (groups[got] == groups).all(), "a partner is of another group"
    assert ((got[:, 1:] == np.arange(len(groups))) == alone).all(), "an image is its own partner if and only if it is alone"
    for e in range(min(epochs, 2)):
        for v in range(1, views):
            for i, group in enumerate(groups):
                others = [j for j in np.flatnonzero(groups == group) if j != i]
                want = others[below(seed, i, e, v, len(others))] if others else i
                assert got[e, v, i] == want, f"seed {seed} epoch {e} view {v} image {i}: {got[e, v, i]}, expected {want}"
    return groups, got


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    r = np.random.RandomState(2)
    GROUPS = np.concatenate([np.repeat(np.arange(12), np.arange(12)), [100, 200, 200]])  # of 1 to 11 images, alone, a pair
    r.shuffle(GROUPS)
    with h5py.File("raw.h5", "w") as f:
        f["images"], f["place"] = r.randint(0, 256, (len(GROUPS), 4, 4, 3)).astype("u1"), GROUPS
    subprocess.run([SIMILE, "prepare", "raw.h5", "--groups-key", "place", "--out", "set.h5"], check=True, capture_output=True)
    for seed in 0, 7, WORD - 1:
        check(1, seed, 3, 4)
    check(0.5, 3, 2, 3)
    # uniform: chi-square with 10 degrees of freedom is below 35 but for 1 in 10,000; 11 images of a group
    groups, got = check(1, 1, 2000, 2)
    for i in np.flatnonzero(np.bincount(groups)[groups] == 11)[:4]:
        count = np.bincount(got[:, 1, i], minlength=len(groups))
        count = count[(groups == groups[i]) & (np.arange(len(groups)) != i)]
        assert len(count) == 10 and ((count - 200.0) ** 2 / 200).sum() < 35, count
print("ok")
