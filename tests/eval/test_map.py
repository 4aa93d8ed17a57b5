#!/usr/bin/python3
"""Maps of features against scikit-learn: scores of principal components, and the divergence that t-SNE
reaches, computed in NumPy from its definition; clusters.

simile-test: timeout 600
"""
import os
import subprocess

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "eval_tool_map")


def run(kind, x, perplexity=30, threads=1):
    x = np.ascontiguousarray(x, "f4")
    done = subprocess.run([TOOL, kind, str(len(x)), str(x.shape[1]), str(perplexity)], input=x.tobytes(),
                          capture_output=True, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    return np.array([line.split() for line in done.stdout.decode().splitlines()], "f8")


def joint(x, perplexity):
    """Joint probabilities by bisection of the entropy of each row."""
    d = ((x[:, None] - x[None]) ** 2).sum(-1)
    p = np.zeros_like(d)
    for i in range(len(x)):
        low, high = 0.0, np.inf
        beta = 1.0
        others = np.delete(np.arange(len(x)), i)
        e = d[i, others] - d[i, others].min()
        for _ in range(200):
            w = np.exp(-beta * e)
            w /= w.sum()
            entropy = -(w[w > 0] * np.log(w[w > 0])).sum()
            if entropy > np.log(perplexity):
                low, beta = beta, beta * 2 if np.isinf(high) else (beta + high) / 2
            else:
                low, high, beta = low, beta, (low + beta) / 2
        p[i, others] = w
    return (p + p.T) / (2 * len(x))


def divergence(p, y):
    q = 1 / (1 + ((y[:, None] - y[None]) ** 2).sum(-1))
    np.fill_diagonal(q, 0)
    q /= q.sum()
    used = p > 0
    return (p[used] * np.log(p[used] / q[used])).sum()


def clusters(n, dim, k, seed):
    rng = np.random.RandomState(seed)
    centres = 4 * rng.randn(k, dim)
    labels = np.arange(n) % k
    return (centres[labels] + rng.randn(n, dim)).astype("f4"), labels


def check_pca():
    for n, dim, seed in ((200, 16, 1), (50, 128, 2), (6, 3, 3), (2, 5, 4)):
        x = clusters(n, dim, 4, seed)[0] * np.linspace(1, 3, dim)
        x = x.astype("f4")
        want = PCA(2, svd_solver="full").fit_transform(x.astype("f8"))
        got = run("pca", x)
        for k in range(min(2, n - 1)):
            sign = np.sign((got[:, k] * want[:, k]).sum())
            assert np.abs(sign * got[:, k] - want[:, k]).max() <= 1e-5 * np.abs(want).max(), (n, dim, k)
    assert np.abs(run("pca", np.ones((9, 4)))).max() == 0


def check_tsne():
    for n, dim, k, perplexity in ((300, 20, 5, 30), (120, 50, 3, 10), (40, 8, 1, 30)):
        x, labels = clusters(n, dim, k, n)
        got = run("tsne", x, perplexity)
        used = min(perplexity, (n - 1) / 3)
        p = joint(x.astype("f8"), used)
        # The divergence has local minima: those that scikit-learn reaches from four starts.
        minima = [divergence(p, TSNE(2, perplexity=used, init=init, method="exact", learning_rate="auto",
                                     random_state=seed).fit_transform(x).astype("f8"))
                  for init, seed in (("pca", 0), ("random", 1), ("random", 2), ("random", 3))]
        assert divergence(p, got) <= 1.02 * max(minima), (n, divergence(p, got), minima)
        if k > 1:
            d = ((got[:, None] - got[None]) ** 2).sum(-1)
            np.fill_diagonal(d, np.inf)
            assert (labels[d.argmin(1)] == labels).mean() > 0.98
        assert (run("tsne", x, perplexity, threads=3) == got).all()
    for n in (1, 2, 4, 5, 6):
        assert np.isfinite(run("tsne", clusters(n, 3, 1, n)[0])).all(), n
    assert np.isfinite(run("tsne", np.ones((30, 4)))).all()


def check_clusters():
    """Separated clusters are found; the result is a fixed point of Lloyd's rule with small inertia."""
    for n, dim, k, seed in ((300, 20, 5, 1), (90, 6, 8, 2)):
        x, labels = clusters(n, dim, k, seed)
        got = run("clusters", x, k)[:, 0].astype(int)
        centres = np.array([x[got == c].astype("f8").mean(0) for c in range(k)])
        d = ((x[:, None].astype("f8") - centres[None]) ** 2).sum(-1)
        assert (d.argmin(1) == got).all()
        peer = KMeans(k, n_init=10, random_state=0).fit(x)
        assert d[np.arange(n), got].sum() <= 1.1 * peer.inertia_
        if dim == 20:
            assert len(set(zip(got, labels))) == k
    assert (run("clusters", np.ones((7, 3)), 4)[:, 0] == 0).all()
    assert sorted(run("clusters", np.eye(3), 8)[:, 0]) == [0, 1, 2]


check_pca()
check_tsne()
check_clusters()
