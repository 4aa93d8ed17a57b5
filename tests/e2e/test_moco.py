"""MoCo v1 and v2: their loss on files against PyTorch's float64, and their training.

simile-test: timeout 600
The queue after a step is compared entry by entry.  Training steps are compared with PyTorch's from
the same weights, with and without shuffling and batch-norm groups.  Hash traces are equal on any
number of ranks.
"""
import json
import os
import re

import h5py
import numpy as np
import torch
import torch.nn.functional as F

import common


# ---- simile loss ----

def direction_loss(q, k, queue, t, decoupled):
    """Mean over queries of -log softmax, the positive first (He et al. 2020, equation 1)."""
    positive, negative = (q * k).sum(1, keepdim=True) / t, q @ queue.T / t
    return (torch.logsumexp(negative if decoupled else torch.cat([positive, negative], 1), 1) - positive[:, 0]).mean()


def pushed(queue, pointer, *batches):
    """The queue (first in, first out) and its pointer after the rows were pushed one by one."""
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
    got = [common.loss("mocov2", {"temperature": t, **keys}, arrays, p, pointer=pointer) for p in ranks]
    for other in got[1:]:
        common.same_bits(what, got[0], other)
    x = {name: torch.tensor(v.astype("f8"), requires_grad=name[0] == "z") for name, v in arrays.items()}
    u = {name: F.normalize(v) for name, v in x.items()}
    log_t = torch.tensor(np.log(t), requires_grad=True)
    value = direction_loss(u["z1"], u["k2"], u["queue"], log_t.exp(), decoupled)
    if symmetric:
        value = (value + direction_loss(u["z2"], u["k1"], u["queue"], log_t.exp(), decoupled)) / 2
    value.backward()
    common.check_loss(what, got[0]["loss"], value.item())
    wanted = {"d" + name: v.grad.numpy() for name, v in x.items() if name[0] == "z"}
    common.check_gradients(what, got[0], wanted, 1e-5 if t >= 0.05 else 1e-3)
    if "learn_temperature" in keys:
        error = abs(got[0]["dlog_temperature"] - log_t.grad.item())
        assert error <= 1e-5 * max(1, abs(log_t.grad.item())), f"{what}: log T off by {error}"
    new = [u[name].detach().numpy() for name in ("k1", "k2") if name in u]
    rows, after = pushed(u["queue"].detach().numpy(), pointer, *new)
    assert np.abs(got[0]["queue_after"] - rows).max() < 1e-6, f"{what}: queue after the step"
    assert got[0]["queue_after@pointer"] == after, what
    constant = {"dk1", "dk2", "dqueue", "dz2" if not symmetric else ""} & set(got[0])
    assert not constant, f"{what}: gradients of constants: {constant}"


def losses():
    rng = np.random.default_rng(11)
    both, decoupled, learned = {"symmetric": "true"}, {"denominator": "decoupled"}, {"learn_temperature": "true"}
    for n, d, k, t, keys, ranks in (
            (7, 5, 3, 0.2, {}, (1, 2)), (33, 17, 101, 0.07, learned, (1, 2, 3, 4)),
            (5, 3, 1, 0.5, both, (1, 3)), (65, 31, 257, 0.2, {**both, **learned}, (1, 2, 3, 4)),
            (40, 9, 256, 1.0, decoupled, (1, 3)), (129, 64, 1300, 0.1, {**decoupled, **learned}, (1, 4)),
            (31, 128, 255, 0.2, {**both, **decoupled, **learned}, (1, 2)), (64, 16, 5000, 0.2, {}, (1, 3)),
            (2, 2, 600, 10, learned, (1, 4)), (50, 33, 20, 0.005, {}, (1, 2)), (48, 24, 512, 0.02, both, (1, 3))):
        compare(rng, n, d, k, t, keys, ranks)


def refusals():
    rng = np.random.default_rng(12)
    a = {name: rng.normal(size=(9, 4)).astype("f4") for name in ("z1", "k2", "queue")}

    def refused(code, pattern, arrays, keys=None, ranks=2, **more):
        output = common.loss("mocov2", keys or {}, arrays, ranks, expect=code, **more)
        common.expect_lines(output, pattern)

    refused(65, r"z\.h5\b.*/queue\b", {"z1": a["z1"], "k2": a["k2"]})
    refused(65, r"z\.h5\b.*/z2\b", a, {"symmetric": "true"})
    refused(65, r"z\.h5\b.*/k1\b", {**a, "z2": a["z1"]}, {"symmetric": "true"}, 3)
    refused(65, r"/z1 .*\b9 x 4\b.*/k2 .*\b8 x 4\b", {**a, "k2": a["k2"][:8]})
    refused(65, r"/queue .*\b9 x 3\b", {**a, "queue": a["queue"][:, :3].copy()})
    refused(65, r"/queue\b.*pointer .* 9\b.*\b0 to 8\b", a, pointer=9)
    refused(65, r"/queue\b.*pointer .* -1\b.*\b0 to 8\b", a, pointer=-1)
    refused(65, r"/queue .*\b0 x 4\b", {**a, "queue": a["queue"][:0]})
    bad = a["queue"].copy()
    bad[7] = 0
    refused(65, r"\brow 7\b.*/queue\b.*\bzero\b", {**a, "queue": bad}, ranks=4)
    bad = a["k2"].copy()
    bad[3, 1] = np.nan
    refused(65, r"\brow 3\b.*/k2\b.*\bfinite\b", {**a, "k2": bad})
    for key, value in (("temperature", 0), ("queue_size", 0), ("momentum", 1.5)):
        refused(78, rf"method\.{key}: {value} ", a, {key: value})
    refused(78, r'method\.queue\.warm: "cold".*random\|wait\|prefill', a, {"queue": "{warm: cold}"})


# ---- training steps ----

N, K, M = 24, 40, 0.9


def philox(counter, key):
    """Philox4x32-10 (Salmon et al. 2011)."""
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [b >> 32 ^ counter[1] ^ key[0], b & 0xFFFFFFFF, a >> 32 ^ counter[3] ^ key[1], a & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


def order(purpose, epoch):
    """A permutation of 0 .. N-1, sorted by the random words of (i, epoch) with seed 0."""
    words = [philox([i, epoch, 0, 0], [0, purpose]) for i in range(N)]
    return np.array(sorted(range(N), key=lambda i: (words[i][1] << 32 | words[i][0], i)))


class Moco:
    """Steps of He et al. 2020, algorithm 1, with batch norm over groups of slots; shuffled keys have
    another order than the queries.  A step is an epoch."""

    def __init__(self, group, symmetric=False, shuffle=False, final=M, ema=False):
        self.group, self.symmetric, self.shuffle, self.final, self.ema = group, symmetric, shuffle, final, ema
        self.momentum_encoder, self.step = None, 0

    def begin(self, start):
        self.momentum_encoder, self.pointer = common.Nets(start).requires_grad_(False), 0
        self.queue = start["queue/rows"].astype("f8")
        for name, p in self.momentum_encoder.named().items():
            assert np.array_equal(start["momentum/" + name], p.numpy().astype("f4")), f"{name} differs at the start"

    def encode(self, nets, x, places):
        out = [None] * N
        for lo in range(0, N, self.group):
            index = places[lo:lo + self.group]
            for i, y in zip(index, F.normalize(nets.projector(nets.encoder(x[index])))):
                out[i] = y
        return torch.stack(out)

    def update_momentum_encoder(self, nets):
        m = self.final - (self.final - M) * (1 + np.cos(np.pi * self.step / 3)) / 2
        pairs = list(zip(self.momentum_encoder.parameters(), nets.parameters()))
        if self.ema:
            pairs += [(a, b) for a, b in zip(self.momentum_encoder.buffers(), nets.buffers()) if a.is_floating_point()]
        for a, b in pairs:
            a.copy_(m * a + (1 - m) * b)

    def keys(self, views, places):
        before = [b.clone() for b in self.momentum_encoder.buffers()]
        out = [self.encode(self.momentum_encoder, x, places) for x in (views if self.symmetric else views[1:])]
        for a, b in zip(self.momentum_encoder.buffers(), before):
            if self.ema:
                a.copy_(b)
        return out

    def __call__(self, nets, views, start, memory):
        if not self.momentum_encoder:
            self.begin(start)
        views = [x[order(1, self.step)] for x in views]
        queries = [self.encode(nets, x, np.arange(N)) for x in (views if self.symmetric else views[:1])]
        with torch.no_grad():
            self.update_momentum_encoder(nets)
            keys = self.keys(views, order(5, self.step) if self.shuffle else np.arange(N))
        directions = list(zip(queries, reversed(keys)))
        value = sum(direction_loss(q, k, torch.tensor(self.queue), 0.2, False) for q, k in directions) / len(directions)
        self.queue, self.pointer = pushed(self.queue, self.pointer, *[k.numpy() for k in keys])
        self.step += 1
        return value


def check_moved(what, pairs):
    """Checks tuples of (value of simile, value of PyTorch, value at the start)."""
    error = sum(np.square(a.astype("f8") - b).sum() for a, b, _ in pairs)
    moved = sum(np.square(a.astype("f8") - c).sum() for a, _, c in pairs)
    assert error <= 1e-6 * moved, f"{what} off by {np.sqrt(error / moved):.1e} of the distance they moved"


def check_steps(data, method, batchnorm=0, **how):
    moco = Moco(batchnorm or N, **how)
    keys = ["mocov2", f"queue_size: {K}", f"momentum: {M}", *method]
    what = ", ".join(keys) + f", group {batchnorm}"
    end = common.same_steps(what, data, keys, moco, batchnorm="{group: %d}" % batchnorm)
    start = common.checkpoint(os.path.join(common.scratch, "run"), 0)
    check_moved(what + ": weights of the momentum encoder", [(end["momentum/" + n], p.numpy(), start["momentum/" + n])
                                               for n, p in moco.momentum_encoder.named().items()])
    assert np.abs(end["queue/rows"] - moco.queue).max() <= 1e-3, f"{what}: queue"
    assert end["queue/pointer"] == moco.pointer and end["queue/filled"] == K, what
    if batchnorm:
        return
    buffers = {n.replace(".", "/", 1): b.numpy() for n, b in moco.momentum_encoder.named_buffers()}
    check_moved(what + ": statistics of the momentum encoder", [(end["momentum/" + n], b, start["momentum/" + n])
                                                  for n, b in buffers.items() if "running" in n])


def steps():
    data = common.prepare("few", N, 12, 3)
    check_steps(data, ["shuffle: true"], 8, shuffle=True)
    check_steps(data, ["shuffle: true", "symmetric: true"], 4, shuffle=True, symmetric=True)
    check_steps(data, ["shuffle: false"], 8)
    check_steps(data, ["shuffle: false", "bn_buffers: ema", "momentum_schedule: cosine"], ema=True, final=1)
    check_steps(data, ["shuffle: false", "momentum_schedule: cosine", "momentum_final: 0.5"], final=0.5)
    check_steps(data, ["shuffle: false", "symmetric: true"], symmetric=True)


# ---- number of ranks, warm-up of the queue, log ----

def traces():
    data = common.prepare("more", 120, 12, 4)
    group = {"batchnorm": "{group: 4}"}
    want = common.same_traces(data, ["mocov2", "queue_size: 300"], **group)
    assert want.count(" queue ") == 4
    common.same_traces(data, ["mocov1", "queue_size: 70", "symmetric: true", "bn_buffers: ema", "learn_temperature: true",
                          "queue: {warm: wait}", "denominator: decoupled", "momentum_schedule: cosine"], **group)
    return data


def trained(data, *method, ranks=2, **keys):
    path, directory = common.job(data, method, checkpoint="{every_steps: 1, keep: 9}", log="{every_steps: 1}", **keys)
    return common.run(ranks, "pretrain", path), [common.checkpoint(directory, i) for i in range(5)]


def same(a, b, group):
    return all(np.array_equal(a[n], b[n]) for n in a if n.startswith(group))


def warming(data):
    """A queue of 120 keys is full after three steps of 48."""
    output, at = trained(data, "mocov2", "queue_size: 120", "queue: {warm: prefill}")
    for i, filled in enumerate((0, 48, 96, 120, 120)):
        assert at[i]["queue/filled"] == filled, f"step {i}: {at[i]['queue/filled']} filled"
        assert i == 0 or same(at[i], at[i - 1], "weights/") == (i < 4), f"prefill, step {i}"
    for step, filled in ((1, 48), (2, 96)):
        common.expect_lines(output, rf"^step {step}/4 .*\bqueue {filled}/120\b")
        common.expect_lines(output, rf"^step {step}/4 .*\bloss\b", 0)
    common.expect_lines(output, r"^step 4/4 .*\bloss [0-9]")
    with open(os.path.join(common.scratch, "run", "metrics.jsonl")) as f:  # a step without a loss: null, not 0
        metrics = [json.loads(line) for line in f]
    assert [m["loss"] is None and m["embedding_std"] is None for m in metrics] == [True, True, True, False], metrics
    common.expect_lines(output, r"queue 120/120", 0)
    common.expect_lines(output, r"^queue +0 of 120\b")
    _, at = trained(data, "mocov2", "queue_size: 120", "queue: {warm: wait}")
    assert same(at[0], at[1], "weights/") and not same(at[1], at[2], "weights/")
    _, at = trained(data, "mocov2", "queue_size: 120")
    assert not same(at[0], at[1], "weights/") and same(at[0], at[0], "momentum/")
    # --init reads weights only: the momentum encoder starts as a copy of them
    path, directory = common.job(data, ["mocov2"])
    source = os.path.join(common.scratch, "init.h5")
    with h5py.File(source, "w") as f:
        for n, v in at[3].items():
            if n.startswith("weights/encoder/"):
                f[n] = v
    common.run(1, "pretrain", path, "--init", source)
    start = common.checkpoint(directory, 0)
    for n in at[3]:
        if n.startswith("weights/encoder/"):
            assert np.array_equal(start[n], at[3][n]) and np.array_equal(start["momentum" + n[7:]], start[n]), n


def advice(data):
    path, _ = common.job(data, ["mocov2", "queue_size: 15"])
    output = common.run(1, "plan", path, "--ranks", "2")
    common.expect_lines(output, r"queue_size", 0)
    common.expect_lines(output, r"^warning: method\.shuffle\b.*batchnorm\.group")
    output = common.run(1, "plan", path, "batchnorm.group=4", "method.queue_size=3")
    common.expect_lines(output, r"warning", 0)
    output, _ = trained(data, "mocov1", "queue_size: 17", "shuffle: false")
    common.expect_lines(output, r"^warning: method\.queue_size: 17\b")
    common.expect_lines(output, r"method\.shuffle", 0)
    common.expect_lines(output, r"^method +mocov1\b.*\bqueue of 17 keys\b.*\b17 negatives\b")


def defaults(data):
    """The method sets the paper's head, views and schedule, unless the job sets them."""

    def resolved(name, *more):
        path, directory = common.job(data, [name, "queue_size: 8"], augment="{size: 12}", schedule="{steps: 1}")
        common.run(1, "pretrain", path, *more)
        with open(os.path.join(directory, "config.yaml")) as f:
            return re.sub(r"\s+", " ", f.read())

    v1, v2 = resolved("mocov1"), resolved("mocov2")
    for text in ("preset: mocov1", "layers: 1", "shape: steps"):
        assert text in v1, (text, v1)
    for text in ("preset: mocov2", "layers: 2", "shape: cosine"):
        assert text in v2, (text, v2)
    own = resolved("mocov1", "schedule.shape=constant", "encoder.projector.layers=3", "augment.preset=none")
    assert "shape: constant" in own and "layers: 3" in own and "preset: none" in own


def leak(data):
    """Batch norm over pairs leaks which key belongs to a query, unless keys are shuffled."""
    accuracy = {}
    for shuffle in ("true", "false"):
        path, directory = common.job(data, ["mocov2", "queue_size: 240", f"shuffle: {shuffle}", "temperature: 0.2", "momentum: 0.9"],
                             batchnorm="{group: 2}", batch="24", schedule="{steps: 60, shape: constant}",
                             augment="{view1: [{op: crop, scale_min: 0.2}], view2: [{op: crop, scale_min: 0.2}]}",
                             encoder="{arch: resnet18, width: 0.0625, projector: {dim: 16, bn: true}}",
                             optimizer="{name: sgd, lr: 0.2}", log="{every_steps: 30}")
        common.run(2, "pretrain", path)
        with open(os.path.join(directory, "metrics.jsonl")) as f:
            accuracy[shuffle] = float(re.search(r'"accuracy": ?([0-9.e-]+)', f.readlines()[-1]).group(1))
    print(f"pretext accuracy {accuracy['true']:.3f} shuffled, {accuracy['false']:.3f} not", flush=True)
    assert accuracy["false"] > 1.3 * accuracy["true"], accuracy


try:
    losses()
    refusals()
    steps()
    more = traces()
    warming(more)
    advice(more)
    defaults(more)
    leak(more)
finally:
    common.remove_scratch()
