"""MoCo v1 and v2: their loss on files against PyTorch's float64, and their training.

simile-test: timeout 600
The queue after a step is compared entry by entry; whole steps with PyTorch's from the same
weights, keys shuffled and not, over batch-norm groups; hash ladders with each other.
"""
import json
import os
import re

import h5py
import numpy as np
import torch
import torch.nn.functional as F

import whole_steps as w


# ---- simile loss ----

def one_way(q, k, queue, t, decoupled):
    """Mean over queries of -log softmax, the positive first (He et al. 2020, equation 1)."""
    positive, negative = (q * k).sum(1, keepdim=True) / t, q @ queue.T / t
    return (torch.logsumexp(negative if decoupled else torch.cat([positive, negative], 1), 1) - positive[:, 0]).mean()


def pushed(queue, pointer, *batches):
    """First in, first out, one by one."""
    queue = queue.copy()
    for row in np.concatenate(batches):
        queue[pointer] = row
        pointer = (pointer + 1) % len(queue)
    return queue, pointer


def compare(rng, n, d, k, t, keys, ranks):
    symmetric, decoupled = keys.get("symmetric") == "true", keys.get("denominator") == "decoupled"
    base = rng.normal(size=(n, d))
    names = ("z1", "k2", "z2", "k1") if symmetric else ("z1", "k2")
    arrays = {name: (base + 0.8 * rng.normal(size=(n, d))).astype("f4") for name in names}
    arrays["queue"] = rng.normal(size=(k, d)).astype("f4")
    pointer = int(rng.integers(0, k))
    what = f"moco {keys} n {n} d {d} K {k} T {t}"
    got = [w.loss("mocov2", {"temperature": t, **keys}, arrays, p, pointer=pointer) for p in ranks]
    for other in got[1:]:
        w.same_bits(what, got[0], other)
    x = {name: torch.tensor(v.astype("f8"), requires_grad=name[0] == "z") for name, v in arrays.items()}
    u = {name: F.normalize(v) for name, v in x.items()}
    log_t = torch.tensor(np.log(t), requires_grad=True)
    value = one_way(u["z1"], u["k2"], u["queue"], log_t.exp(), decoupled)
    if symmetric:
        value = (value + one_way(u["z2"], u["k1"], u["queue"], log_t.exp(), decoupled)) / 2
    value.backward()
    w.near_loss(what, got[0]["loss"], value.item())
    wanted = {"d" + name: v.grad.numpy() for name, v in x.items() if name[0] == "z"}
    w.near_gradients(what, got[0], wanted, 1e-5 if t >= 0.05 else 1e-3)
    if "learn_temperature" in keys:
        error = abs(got[0]["dlog_temperature"] - log_t.grad.item())
        assert error <= 1e-5 * max(1, abs(log_t.grad.item())), f"{what}: log T off by {error}"
    new = [u[name].detach().numpy() for name in ("k1", "k2") if name in u]
    rows, after = pushed(u["queue"].detach().numpy(), pointer, *new)
    assert np.abs(got[0]["queue_after"] - rows).max() < 1e-6, f"{what}: queue after the step"
    assert got[0]["queue_after@pointer"] == after, what
    gone = {"dk1", "dk2", "dqueue", "dz2" if not symmetric else ""} & set(got[0])
    assert not gone, f"{what}: gradients of what has none: {gone}"


def losses():
    rng = np.random.default_rng(11)
    both, apart, learned = {"symmetric": "true"}, {"denominator": "decoupled"}, {"learn_temperature": "true"}
    for n, d, k, t, keys, ranks in (
            (7, 5, 3, 0.2, {}, (1, 2)), (33, 17, 101, 0.07, learned, (1, 2, 3, 4)),
            (5, 3, 1, 0.5, both, (1, 3)), (65, 31, 257, 0.2, {**both, **learned}, (1, 2, 3, 4)),
            (40, 9, 256, 1.0, apart, (1, 3)), (129, 64, 1300, 0.1, {**apart, **learned}, (1, 4)),
            (31, 128, 255, 0.2, {**both, **apart, **learned}, (1, 2)), (64, 16, 5000, 0.2, {}, (1, 3)),
            (2, 2, 600, 10, learned, (1, 4)), (50, 33, 20, 0.005, {}, (1, 2)), (48, 24, 512, 0.02, both, (1, 3))):
        compare(rng, n, d, k, t, keys, ranks)


def refusals():
    rng = np.random.default_rng(12)
    a = {name: rng.normal(size=(9, 4)).astype("f4") for name in ("z1", "k2", "queue")}

    def refused(code, text, arrays, keys=None, ranks=2, **more):
        said = w.loss("mocov2", keys or {}, arrays, ranks, expect=code, **more)
        assert said.count(text) == 1, f"no single \"{text}\" in\n{said}"

    refused(65, "has no /queue", {"z1": a["z1"], "k2": a["k2"]})
    refused(65, "has no /z2", a, {"symmetric": "true"})
    refused(65, "has no /k1", {**a, "z2": a["z1"]}, {"symmetric": "true"}, 3)
    refused(65, "/z1 is 9 x 4, but /k2 is 8 x 4", {**a, "k2": a["k2"][:8]})
    refused(65, "/queue is 9 x 3", {**a, "queue": a["queue"][:, :3].copy()})
    refused(65, "pointer is 9,", a, pointer=9)
    refused(65, "pointer is -1,", a, pointer=-1)
    refused(65, "/queue is 0 x 4", {**a, "queue": a["queue"][:0]})
    bad = a["queue"].copy()
    bad[7] = 0
    refused(65, "row 7 of /queue", {**a, "queue": bad}, ranks=4)
    bad = a["k2"].copy()
    bad[3, 1] = np.nan
    refused(65, "row 3 of /k2 is not finite", {**a, "k2": bad})
    for key, value in (("temperature", 0), ("queue_size", 0), ("momentum", 1.5), ("queue", "{warm: cold}")):
        refused(78, f"method.{key}", a, {key: value})


# ---- whole steps ----

N, K, M = 24, 40, 0.9


def philox(counter, key):
    """Philox4x32-10 (Salmon et al. 2011)."""
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [b >> 32 ^ counter[1] ^ key[0], b & 0xFFFFFFFF, a >> 32 ^ counter[3] ^ key[1], a & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


def order(purpose, epoch):
    """A permutation of 0 .. N-1 by the words of (i, epoch), of a run of seed 0."""
    words = [philox([i, epoch, 0, 0], [0, purpose]) for i in range(N)]
    return np.array(sorted(range(N), key=lambda i: (words[i][1] << 32 | words[i][0], i)))


class Moco:
    """Steps of He et al. 2020, algorithm 1; batch norm over groups of slots, keys in another
    order than queries where they are shuffled.  A step is an epoch."""

    def __init__(self, group, symmetric=False, shuffle=False, cosine=False, ema=False):
        self.group, self.symmetric, self.shuffle, self.cosine, self.ema = group, symmetric, shuffle, cosine, ema
        self.copy, self.step = None, 0

    def begin(self, start):
        self.copy, self.pointer = w.Nets(start).requires_grad_(False), 0
        self.queue = start["queue/rows"].astype("f8")
        for name, p in self.copy.named().items():
            assert np.array_equal(start["momentum/" + name], p.numpy().astype("f4")), f"{name} starts elsewhere"

    def encode(self, nets, x, places):
        out = [None] * N
        for lo in range(0, N, self.group):
            index = places[lo:lo + self.group]
            for i, y in zip(index, F.normalize(nets.projector(nets.encoder(x[index])))):
                out[i] = y
        return torch.stack(out)

    def follow(self, nets):
        m = 1 - (1 - M) * (1 + np.cos(np.pi * self.step / 3)) / 2 if self.cosine else M
        pairs = list(zip(self.copy.parameters(), nets.parameters()))
        if self.ema:
            pairs += [(a, b) for a, b in zip(self.copy.buffers(), nets.buffers()) if a.is_floating_point()]
        for a, b in pairs:
            a.copy_(m * a + (1 - m) * b)

    def keys(self, views, places):
        before = [b.clone() for b in self.copy.buffers()]
        out = [self.encode(self.copy, x, places) for x in (views if self.symmetric else views[1:])]
        for a, b in zip(self.copy.buffers(), before):
            if self.ema:
                a.copy_(b)
        return out

    def __call__(self, nets, views, start, memory):
        if not self.copy:
            self.begin(start)
        views = [x[order(1, self.step)] for x in views]
        queries = [self.encode(nets, x, np.arange(N)) for x in (views if self.symmetric else views[:1])]
        with torch.no_grad():
            self.follow(nets)
            keys = self.keys(views, order(5, self.step) if self.shuffle else np.arange(N))
        ways = list(zip(queries, reversed(keys)))
        value = sum(one_way(q, k, torch.tensor(self.queue), 0.2, False) for q, k in ways) / len(ways)
        self.queue, self.pointer = pushed(self.queue, self.pointer, *[k.numpy() for k in keys])
        self.step += 1
        return value


def near_moved(what, pairs):
    """Pairs of (ours, PyTorch's, at the start)."""
    error = sum(np.square(a.astype("f8") - b).sum() for a, b, _ in pairs)
    moved = sum(np.square(a.astype("f8") - c).sum() for a, _, c in pairs)
    assert error <= 1e-6 * moved, f"{what} off by {np.sqrt(error / moved):.1e} of how far they moved"


def check_steps(data, method, batchnorm=0, **how):
    moco = Moco(batchnorm or N, **how)
    keys = ["mocov2", f"queue_size: {K}", f"momentum: {M}", *method]
    what = ", ".join(keys) + f", group {batchnorm}"
    end = w.same_steps(what, data, keys, moco, batchnorm="{group: %d}" % batchnorm)
    start = w.checkpoint(os.path.join(w.scratch, "run"), 0)
    near_moved(what + ": the copy's weights", [(end["momentum/" + n], p.numpy(), start["momentum/" + n])
                                               for n, p in moco.copy.named().items()])
    assert np.abs(end["queue/rows"] - moco.queue).max() <= 1e-3, f"{what}: queue"
    assert end["queue/pointer"] == moco.pointer and end["queue/filled"] == K, what
    if batchnorm:
        return
    buffers = {n.replace(".", "/", 1): b.numpy() for n, b in moco.copy.named_buffers()}
    near_moved(what + ": the copy's statistics", [(end["momentum/" + n], b, start["momentum/" + n])
                                                  for n, b in buffers.items() if "running" in n])


def steps():
    data = w.prepare("few", N, 12, 3)
    check_steps(data, ["shuffle: true"], 8, shuffle=True)
    check_steps(data, ["shuffle: true", "symmetric: true"], 4, shuffle=True, symmetric=True)
    check_steps(data, ["shuffle: false"], 8)
    check_steps(data, ["shuffle: false", "bn_buffers: ema", "momentum_schedule: cosine"], ema=True, cosine=True)
    check_steps(data, ["shuffle: false", "symmetric: true"], symmetric=True)


# ---- any ranks, the warm-up of the queue, what the log says ----

def ladders():
    data = w.prepare("more", 120, 12, 4)
    group = {"batchnorm": "{group: 4}"}
    want = w.same_ladders(data, ["mocov2", "queue_size: 300"], **group)
    assert want.count(" queue ") == 4
    w.same_ladders(data, ["mocov1", "queue_size: 70", "symmetric: true", "bn_buffers: ema", "learn_temperature: true",
                          "queue: {warm: wait}", "denominator: decoupled", "momentum_schedule: cosine"], **group)
    return data


def trained(data, *method, ranks=2, **keys):
    path, folder = w.job(data, method, checkpoint="{every_steps: 1, keep: 9}", log="{every_steps: 1}", **keys)
    return w.run(ranks, "pretrain", path), [w.checkpoint(folder, i) for i in range(5)]


def same(a, b, group):
    return all(np.array_equal(a[n], b[n]) for n in a if n.startswith(group))


def warming(data):
    """120 keys of 48 a step: two steps leave it unfilled."""
    said, at = trained(data, "mocov2", "queue_size: 120", "queue: {warm: prefill}")
    for i, filled in enumerate((0, 48, 96, 120, 120)):
        assert at[i]["queue/filled"] == filled, f"step {i}: {at[i]['queue/filled']} filled"
        assert i == 0 or same(at[i], at[i - 1], "weights/") == (i < 4), f"prefill, step {i}"
    for filled in (48, 96):
        assert re.search(rf"step {filled // 48}/4 .* no update .* queue {filled}/120", said), said
    with open(os.path.join(w.scratch, "run", "metrics.jsonl")) as f:  # no loss is not a loss of 0
        told = [json.loads(line) for line in f]
    assert [m["loss"] is None and m["embedding_std"] is None for m in told] == [True, True, True, False], told
    assert "queue 120/120" not in said and "queue     0 of 120 slots filled" in said, said
    _, at = trained(data, "mocov2", "queue_size: 120", "queue: {warm: wait}")
    assert same(at[0], at[1], "weights/") and not same(at[1], at[2], "weights/")
    _, at = trained(data, "mocov2", "queue_size: 120")
    assert not same(at[0], at[1], "weights/") and same(at[0], at[0], "momentum/")
    # --init gives weights alone: the copy starts as they are
    path, folder = w.job(data, ["mocov2"])
    source = os.path.join(w.scratch, "init.h5")
    with h5py.File(source, "w") as f:
        for n, v in at[3].items():
            if n.startswith("weights/encoder/"):
                f[n] = v
    w.run(1, "pretrain", path, "--init", source)
    start = w.checkpoint(folder, 0)
    for n in at[3]:
        if n.startswith("weights/encoder/"):
            assert np.array_equal(start[n], at[3][n]) and np.array_equal(start["momentum" + n[7:]], start[n]), n


def advice(data):
    path, _ = w.job(data, ["mocov2", "queue_size: 15"])
    said = w.run(1, "plan", path, "--ranks", "2")
    assert "queue_size" not in said and said.count("warning: method.shuffle") == 1, said
    said = w.run(1, "plan", path, "batchnorm.group=4", "method.queue_size=3")
    assert "warning" not in said, said
    said, _ = trained(data, "mocov1", "queue_size: 17", "shuffle: false")
    assert said.count("warning: method.queue_size: 17") == 1 and "method.shuffle" not in said, said
    assert "17 negatives per anchor" in said and "queue of 17 keys" in said, said


def defaults(data):
    """The method's name alone brings the paper's head, views and schedule; the job wins."""

    def resolved(name, *more):
        path, folder = w.job(data, [name, "queue_size: 8"], augment="{size: 12}", schedule="{steps: 1}")
        w.run(1, "pretrain", path, *more)
        with open(os.path.join(folder, "config.yaml")) as f:
            return re.sub(r"\s+", " ", f.read())

    v1, v2 = resolved("mocov1"), resolved("mocov2")
    for text in ("preset: mocov1", "layers: 1", "shape: steps"):
        assert text in v1, (text, v1)
    for text in ("preset: mocov2", "layers: 2", "shape: cosine"):
        assert text in v2, (text, v2)
    mine = resolved("mocov1", "schedule.shape=constant", "encoder.projector.layers=3", "augment.preset=none")
    assert "shape: constant" in mine and "layers: 3" in mine and "preset: none" in mine


def leak(data):
    """Batch norm over pairs tells a query which key is its own, unless keys are shuffled."""
    seen = {}
    for shuffle in ("true", "false"):
        path, folder = w.job(data, ["mocov2", "queue_size: 240", f"shuffle: {shuffle}", "temperature: 0.2", "momentum: 0.9"],
                             batchnorm="{group: 2}", batch="24", schedule="{steps: 60, shape: constant}",
                             augment="{view1: [{op: crop, scale_min: 0.2}], view2: [{op: crop, scale_min: 0.2}]}",
                             encoder="{arch: resnet18, width: 0.0625, projector: {dim: 16, bn: true}}",
                             optimizer="{name: sgd, lr: 0.2}", log="{every_steps: 30}")
        w.run(2, "pretrain", path)
        with open(os.path.join(folder, "metrics.jsonl")) as f:
            seen[shuffle] = float(re.search(r'"accuracy": ?([0-9.e-]+)', f.readlines()[-1]).group(1))
    print(f"pretext accuracy {seen['true']:.3f} shuffled, {seen['false']:.3f} not", flush=True)
    assert seen["false"] > 1.3 * seen["true"], seen


try:
    losses()
    refusals()
    steps()
    more = ladders()
    warming(more)
    advice(more)
    defaults(more)
    leak(more)
finally:
    w.close()
