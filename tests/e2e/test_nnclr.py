"""NNCLR: its loss on files against PyTorch's float64, and its training.

simile-test: timeout 600
The neighbours that `simile loss` chooses are the nearest within rounding, and the queue after the
push is that of the definition.  Hash traces are equal on 1 to 4 ranks, also when stopped.  A step
that is skipped does not change the support set.
"""
import json
import os

import numpy as np
import torch
import torch.nn.functional as F

import common


def direction(nn, p, keys, t):
    """Mean over anchors of -s_ii / T + log sum_j exp(s_ij / T); with `columns` also over sums of i."""
    s = nn @ p.T / t
    itself = torch.eye(len(s), dtype=torch.bool)
    seen = s.masked_fill(itself, -torch.inf) if keys.get("denominator") == "decoupled" else s
    terms = [torch.logsumexp(seen, 1) - s.diagonal()]
    if keys.get("columns") == "true":
        terms.append(torch.logsumexp(seen, 0) - s.diagonal())
    return torch.stack(terms).mean()


def defined(z, p, queue, keys, log_t, slots=None):
    """Loss and the slots of the neighbours, which are searched for unless given."""
    z, p = [F.normalize(v) for v in z], [F.normalize(v) for v in p]
    slots = slots or [(v @ queue.T).argmax(1) for v in z]
    nn = [queue[s] for s in slots]
    t = log_t.exp()
    return (direction(nn[0], p[1], keys, t) + direction(nn[1], p[0], keys, t)) / 2, slots


# ---- simile loss ----

def draw(rng, n, d, k):
    """Projections and predictions of two views, and a queue with some rows that are close to them."""
    base = rng.normal(size=(n, d))
    arrays = {name: (base + 0.5 * rng.normal(size=(n, d))).astype("f4") for name in ("z1", "z2", "p1", "p2")}
    arrays["queue"] = 3 * rng.normal(size=(k, d)).astype("f4")
    some = min(n, k) // 2
    arrays["queue"][rng.permutation(k)[:some]] = (base + 0.4 * rng.normal(size=(n, d)))[:some]
    return arrays


def check_neighbours(what, arrays, got):
    """Checks that the chosen slots have the highest similarity, within rounding."""
    queue = F.normalize(torch.tensor(arrays["queue"].astype("f8"))).numpy()
    for name, z in (("nn1", "z1"), ("nn2", "z2")):
        s = F.normalize(torch.tensor(arrays[z].astype("f8"))).numpy() @ queue.T
        chosen = s[np.arange(len(s)), got[name]]
        assert (s.max(1) - chosen).max() <= 1e-6, f"{what}: {name} is not the nearest"
        assert got[name].dtype == np.int64


def check_queue(what, arrays, pointer, got):
    """Checks that z1 was pushed from the pointer on, modulo the size of the queue."""
    queue, z = (F.normalize(torch.tensor(arrays[a].astype("f8"))).numpy() for a in ("queue", "z1"))
    for i in range(len(z)):
        queue[(pointer + i) % len(queue)] = z[i]
    error = np.abs(got["queue_after"] - queue).max()
    assert error < 1e-6, f"{what}: queue_after off by {error}"
    assert got["queue_after@pointer"] == (pointer + len(z)) % len(queue), what


def compare(rng, n, d, k, keys, ranks):
    arrays, pointer = draw(rng, n, d, k), int(rng.integers(k))
    what = f"nnclr n {n} d {d} k {k} pointer {pointer} {keys}"
    got = [common.loss("nnclr", keys, arrays, r, pointer=pointer) for r in ranks]
    for other in got[1:]:
        common.same_bits(what, got[0], other)
    check_neighbours(what, arrays, got[0])
    check_queue(what, arrays, pointer, got[0])
    z, p, queue, log_t = leaves(arrays, keys)
    value, _ = defined(z, p, F.normalize(queue), keys, log_t, [torch.tensor(got[0][s]) for s in ("nn1", "nn2")])
    value.backward()
    common.check_loss(what, got[0]["loss"], value.item())
    common.check_gradients(what, got[0], {f"dp{i + 1}": v.grad.numpy() for i, v in enumerate(p)})
    expected = {"loss", "dp1", "dp2", "nn1", "nn2", "queue_after", "queue_after@pointer"}
    if "learn_temperature" in keys:
        expected.add("dlog_temperature")
        error = abs(got[0]["dlog_temperature"] - log_t.grad.item())
        assert error <= 1e-5 * max(1, abs(log_t.grad.item())), f"{what}: dlog_temperature off by {error}"
    assert got[0].keys() == expected, f"{what}: {got[0].keys()}"


def leaves(arrays, keys):
    tensors = {a: torch.tensor(v.astype("f8"), requires_grad=a[0] == "p") for a, v in arrays.items()}
    log_t = torch.tensor(float(np.log(keys["temperature"])), dtype=torch.float64, requires_grad=True)
    return [tensors["z1"], tensors["z2"]], [tensors["p1"], tensors["p2"]], tensors["queue"], log_t


def losses():
    rng = np.random.default_rng(31)
    columns, decoupled, learned = ({"columns": "true"}, {"denominator": "decoupled"}, {"learn_temperature": "true"})
    for n, d, k, keys, ranks in (
            (2, 3, 1, {"temperature": 0.1}, (1, 4)),
            (7, 5, 3, {"temperature": 0.2, **columns}, (1, 3)),
            (33, 17, 255, {"temperature": 0.05, **decoupled, **learned}, (1, 3)),
            (33, 17, 256, {"temperature": 0.5, **columns, **learned}, (1, 2)),
            (65, 9, 257, {"temperature": 1.0, **columns, **decoupled, **learned}, (1, 2, 3, 4)),
            (101, 33, 1031, {"temperature": 0.1, **learned}, (1, 2, 3, 4)),
            (600, 12, 513, {"temperature": 0.07, **columns, **decoupled}, (1, 3)),
            (45, 2, 40, {"temperature": 0.3}, (1, 2))):
        compare(rng, n, d, k, keys, ranks)


def refusals():
    arrays = draw(np.random.default_rng(32), 9, 4, 300)

    def refused(pattern, code, keys={}, ranks=2, pointer=None, **changes):
        changed = {a: v for a, v in {**arrays, **changes}.items() if v is not None}
        output = common.loss("nnclr", keys, changed, ranks, expect=code, pointer=pointer)
        common.expect_lines(output, pattern)

    refused(r"z\.h5\b.*/queue\b", 65, queue=None)
    refused(r"z\.h5\b.*/p2\b", 65, p2=None)
    refused(r"/p1 .*\b9 x 3\b.*/z1 .*\b9 x 4\b", 65, p1=arrays["p1"][:, :3], p2=arrays["p2"][:, :3])
    refused(r"/queue .*\b300 x 3\b", 65, queue=arrays["queue"][:, :3])
    refused(r"/queue .*\b0 x 4\b", 65, queue=arrays["queue"][:0])
    refused(r"/queue\b.*pointer .* 300\b.*\b0 to 299\b", 65, pointer=300)
    refused(r"/queue\b.*pointer .* -1\b.*\b0 to 299\b", 65, pointer=-1, ranks=1)
    for name, row, value, word in (("queue", 299, 0, "zero"), ("queue", 2, np.inf, "finite"),
                                   ("p2", 8, 0, "zero"), ("z1", 0, np.nan, "finite")):
        invalid = arrays[name].copy()
        invalid[row] = value
        refused(rf"\brow {row}\b.*/{name}\b.*\b{word}\b", 65, ranks=3, **{name: invalid})
    refused(r"method\.temperature: 0 ", 78, {"temperature": 0})
    refused(r"method\.queue_size: 0 ", 78, {"queue_size": 0}, ranks=1)
    refused(r'method\.denominator: "half".*full\|decoupled', 78, {"denominator": "half"}, ranks=1)


# ---- training ----

def steps(keys):
    k, n = 96, 24

    def define(nets, views, start, memory):
        queue = memory.setdefault("rows", torch.tensor(start["queue/rows"].astype("f8")))
        z = [nets.projector(nets.encoder(x)) for x in views]
        p = [nets.predictor(v) for v in z]
        log_t = nets.method["log_temperature"] if "learn_temperature" in keys else torch.tensor(0.2).double().log()
        value, _ = defined([v.detach() for v in z], p, queue, keys, log_t)
        first = n * memory.setdefault("steps", 0)
        memory["rows"] = queue.clone()
        memory["rows"][first:first + n] = F.normalize(z[0].detach())
        memory["steps"] += 1
        memory.setdefault("embedding_std", []).append(
            sum(F.normalize(v.detach()).std(0, unbiased=False).mean() for v in z) / 2)
        last.update(memory)
        return value

    last = {}
    method = ["nnclr", "temperature: 0.2", f"queue_size: {k}", "predictor_hidden: 40"]
    end = common.same_steps(f"nnclr {keys}", few, method + [f"{a}: {b}" for a, b in keys.items()], define,
                       log="{every_steps: 1}")
    with open(os.path.join(common.scratch, "run", "metrics.jsonl")) as f:
        embedding_std = [json.loads(line)["embedding_std"] for line in f]
    assert np.allclose(embedding_std, last["embedding_std"], rtol=1e-4), \
        f"embedding_std {embedding_std}, expected that of z: {last['embedding_std']}"
    assert end["queue/pointer"] == 3 * n and end["queue/filled"] == 3 * n
    got, want = end["queue/rows"], last["rows"].numpy()
    assert np.array_equal(got[3 * n:], want[3 * n:].astype("f4")), "unused slots have changed"
    for first in range(0, 3 * n, n):  # the images of a step are in the order of the epoch
        distance = np.abs(got[first:first + n, None] - want[None, first:first + n]).max(2)
        assert sorted(distance.argmin(1)) == list(range(n)) and distance.min(1).max() < 1e-3, f"pushed at {first}"


def skipped():
    """A learning rate that is too high: every later step is skipped and pushes nothing."""
    path, directory = common.job(more, ["nnclr", "queue_size: 301", "predictor_hidden: 24"],
                         optimizer="{name: sgd, lr: 1e4, weight_decay: 1}", schedule="{steps: 40}", guard="{bad_steps: 3}",
                         augment="{preset: none}")
    output = common.run(2, "pretrain", path, "--trace-hash", expect=70)
    common.expect_lines(output, r"^warning: method\.queue_size: 301\b")
    with open(os.path.join(directory, "trace-hash.txt")) as f:
        stages = [line.split() for line in f]
    weights, queue = ([h for _, stage, h in stages if stage == s] for s in ("weights", "queue"))
    n_updates = len(set(weights))
    common.expect_lines(output, r"^warning: step [0-9]+ .*\b3 allowed", len(weights) - n_updates)
    assert len(weights) == len(queue) > n_updates > 0, output
    assert len(set(queue[:n_updates])) == n_updates and set(queue[n_updates:]) == {queue[n_updates - 1]}, \
        "a skipped step pushed embeddings"


try:
    losses()
    refusals()
    few = common.prepare("few", 24, 12, 3)
    more = common.prepare("more", 120, 12, 4)
    for keys in ({}, {"columns": "true"}, {"denominator": "decoupled", "learn_temperature": "true"}):
        steps(keys)
    for keys in ([], ["columns: true", "learn_temperature: true", "denominator: decoupled"]):
        common.same_traces(more, ["nnclr", "queue_size: 301", "predictor_hidden: 24", *keys])
    skipped()
finally:
    common.remove_scratch()
