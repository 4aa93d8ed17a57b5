"""Small views (multi-crop): losses on files and training steps against PyTorch's float64, the same bits
however a batch is divided, refusals, and what `plan` prints and draws.

simile-test: timeout 900
The losses of simclr, dcl and supcon over more than two views are compared in test_methods.py.
"""
import json
import os
import re

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import common


def pairs(targets, views):
    """(view, target): a view is compared with every target but itself, or with the only one."""
    return [(v, u) for v in range(views) for u in range(targets) if targets == 1 or v != u]


# ---- simile loss ----

def mask_positives(s, keys):
    return s.masked_fill(torch.eye(len(s), dtype=torch.bool), -torch.inf) if "denominator" in keys else s


def moco(q, k, keys, t, queue):
    positive = (q * k).sum(1, keepdim=True) / t
    logits = q @ queue.T / t
    return (torch.logsumexp(logits if "denominator" in keys else torch.cat([positive, logits], 1), 1) - positive[:, 0]).mean()


def mocov3(q, k, keys, t, queue):
    s = q @ k.T / t
    return 2 * 2 * t * (torch.logsumexp(mask_positives(s, keys), 1) - s.diag()).mean()


def nnclr(p, nn, keys, t, queue):
    s = nn @ p.T / t
    seen = mask_positives(s, keys)
    terms = [torch.logsumexp(seen, 1) - s.diag()]
    if "columns" in keys:
        terms.append(torch.logsumexp(seen, 0) - s.diag())
    return torch.stack(terms).mean()


def compare(rng, method, term, keys, n, d, n_small, t, ranks):
    """The mean of a term over the pairs of views and targets."""
    targets = 1 if method == "mocov2" and "symmetric" not in keys else 2
    views = "z" if method == "mocov2" else "p"
    names = [f"{views}{i + 1}" for i in range(targets)] + [f"{views}_small{i + 1}" for i in range(n_small)]
    others = {"mocov2": ["k2"] if targets == 1 else ["k1", "k2"], "mocov3": ["k1", "k2"], "nnclr": ["z1", "z2"]}[method]
    base = rng.normal(size=(n, d))
    arrays = {a: (base + 0.7 * rng.normal(size=(n, d))).astype("f4") for a in names + others}
    if method != "mocov3":
        arrays["queue"] = rng.normal(size=(90, d)).astype("f4")
    what = f"{method} {keys} n {n} d {d}, {n_small} small views, T {t}"
    got = [common.loss(method, {"temperature": t, **keys}, arrays, r) for r in ranks]
    for other in got[1:]:
        common.same_bits(what, got[0], other)
    x = {a: torch.tensor(v.astype("f8"), requires_grad=a in names) for a, v in arrays.items()}
    u = {a: F.normalize(v) for a, v in x.items()}
    target = [u[a] for a in others]
    if method == "nnclr":
        target = [u["queue"][(v @ u["queue"].T).argmax(1)] for v in target]
    log_t = torch.tensor(np.log(t), requires_grad=True)
    each = [term(u[names[v]], target[k], keys, log_t.exp(), u.get("queue")) for v, k in pairs(targets, len(names))]
    value = sum(each) / len(each)
    value.backward()
    common.check_loss(what, got[0]["loss"], value.item())
    common.check_gradients(what, got[0], {"d" + a: x[a].grad.numpy() for a in names})
    assert {a for a in got[0] if a[0] == "d"} - {"dlog_temperature"} == {"d" + a for a in names}, got[0].keys()
    if "learn_temperature" in keys:
        error = abs(got[0]["dlog_temperature"] - log_t.grad.item())
        assert error <= 1e-5 * max(1, abs(log_t.grad.item())), f"{what}: log T off by {error}"


def losses():
    rng = np.random.default_rng(41)
    learned, decoupled = {"learn_temperature": "true"}, {"denominator": "decoupled"}
    for method, term, keys, n, d, n_small, t, ranks in (
            ("mocov2", moco, learned, 33, 17, 3, 0.2, (1, 3)),
            ("mocov2", moco, {"symmetric": "true", **learned}, 70, 9, 6, 0.1, (1, 2, 3, 4)),
            ("mocov2", moco, {"symmetric": "true", **decoupled}, 7, 5, 1, 0.5, (1, 2)),
            ("mocov3", mocov3, learned, 40, 24, 6, 0.2, (1, 3)),
            ("mocov3", mocov3, {**decoupled, **learned}, 101, 6, 2, 1.0, (1, 2, 3, 4)),
            ("nnclr", nnclr, learned, 33, 17, 4, 0.1, (1, 3)),
            ("nnclr", nnclr, {"columns": "true", **decoupled, **learned}, 65, 9, 1, 0.3, (1, 2, 3, 4))):
        compare(rng, method, term, keys, n, d, n_small, t, ranks)


# ---- training steps ----

N, SIDE, SMALL_SIDE, N_SMALL = 24, 16, 9, 2
AUGMENT = "{view1: [], view2: [{op: flip, p: 1}], small_views: %d, small: []}" % N_SMALL


def draw(data):
    """The two views, and small ones: a resize to 9/16 of the side."""
    large = common.views(data)
    small = F.interpolate(large[0], (SMALL_SIDE, SMALL_SIDE), mode="bilinear", antialias=True)
    return [*large, *[small] * N_SMALL]


def ntxent(z, t):
    """NT-Xent over all views; the positives of an anchor are the other views of its image."""
    z = F.normalize(torch.cat(z))
    image = torch.arange(len(z)) % N
    itself = torch.eye(len(z), dtype=torch.bool)
    positive = (image[:, None] == image[None]) & ~itself
    s = (z @ z.T / t).masked_fill(itself, -torch.inf)
    return (torch.logsumexp(s, 1) - (s.masked_fill(~positive, 0)).sum(1) / positive.sum(1)).mean()


class Steps:
    """A method's step on views of two sizes; keeps its networks."""

    def __init__(self, step):
        self.step, self.n, self.encoder = step, 0, None

    def __call__(self, nets, views, start, memory):
        self.nets = nets
        if not self.encoder and "momentum/encoder/conv1.weight" in start:
            self.encoder = common.Nets(start).requires_grad_(False)
        if "queue/rows" in start:
            memory.setdefault("queue", torch.tensor(start["queue/rows"].astype("f8")))
        value = self.step(self, nets, views, memory)
        self.n += 1
        return value

    def keys(self, nets, views):
        """The momentum encoder, which is updated first, sees the first two views only."""
        with torch.no_grad():
            for net in ("encoder", "projector"):
                for a, b in zip(getattr(self.encoder, net).parameters(), getattr(nets, net).parameters()):
                    a.copy_(0.9 * a + 0.1 * b)
            return [F.normalize(self.encoder.projector(self.encoder.encoder(x))) for x in views[:2]]

    def push(self, memory, *batches):
        rows = torch.cat(batches)  # every step has its own slots, so that their order has no effect
        memory["queue"] = memory["queue"].clone()
        memory["queue"][self.n * len(rows):(self.n + 1) * len(rows)] = rows


def step_simclr(self, nets, views, memory):
    return ntxent([nets.projector(nets.encoder(x)) for x in views], 0.5)


def mean_over_pairs(term, q, k, t, queue):
    each = [term(q[v], k[u], {}, t, queue) for v, u in pairs(2, len(q))]
    return sum(each) / len(each)


def step_moco(self, nets, views, memory):
    q, k = [F.normalize(nets.projector(nets.encoder(x))) for x in views], self.keys(nets, views)
    value = mean_over_pairs(moco, q, k, torch.tensor(0.2), memory["queue"])
    self.push(memory, *k)
    return value


def step_mocov3(self, nets, views, memory):
    q = [F.normalize(nets.predictor(nets.projector(nets.encoder(x)))) for x in views]
    return mean_over_pairs(mocov3, q, self.keys(nets, views), torch.tensor(0.5), None)


def step_nnclr(self, nets, views, memory):
    z = [nets.projector(nets.encoder(x)) for x in views]
    p = [F.normalize(nets.predictor(v)) for v in z]
    z = [F.normalize(v.detach()) for v in z[:2]]
    nn = [memory["queue"][(v @ memory["queue"].T).argmax(1)] for v in z]
    value = mean_over_pairs(nnclr, p, nn, torch.tensor(0.2), None)
    self.push(memory, z[0])
    return value


def steps():
    data = common.prepare("few", N, SIDE, 3)
    for step, method in (
            (step_simclr, ["simclr"]),
            (step_moco, ["mocov2", f"queue_size: {6 * N}", "momentum: 0.9", "symmetric: true", "shuffle: false"]),
            (step_mocov3, ["mocov3", "temperature: 0.5", "momentum: 0.9", "momentum_schedule: constant", "predictor_hidden: 40"]),
            (step_nnclr, ["nnclr", f"queue_size: {4 * N}", "temperature: 0.2", "predictor_hidden: 40"])):
        of = Steps(step)
        end = common.same_steps(f"{method[0]} with small views", data, method, of, draw=draw, augment=AUGMENT)
        for name, b in of.nets.named_buffers():  # of views of both sizes, one after the other
            got = end["weights/" + name.replace(".", "/", 1)]
            assert np.allclose(got, b.numpy(), rtol=1e-3, atol=1e-3), f"{method[0]}: {name} {got} {b.numpy()}"


# ---- the same bits ----

def traces():
    data = common.prepare("more", 120, 12, 4)
    augment = {"augment": "{preset: digits, small_views: 3, small_size: 8}"}
    grouped = {"batchnorm": "{group: 8}", **augment}
    for method, keys in ((["simclr", "views: 3", "learn_temperature: true"], augment), (["dcl"], augment),
                         (["supcon", "positives: in"], augment),
                         (["mocov2", "queue_size: 300", "symmetric: true"], grouped),
                         (["mocov1", "queue_size: 70", "learn_temperature: true"], augment),
                         (["mocov3", "predictor_hidden: 24"], augment),
                         (["nnclr", "queue_size: 301", "predictor_hidden: 24", "columns: true"], augment)):
        common.same_traces(data, method, **keys)
    path, directory = common.job(data, ["simclr"], **grouped)
    want = common.hash_trace(path, directory, [(1, None)])
    for more in ({"micro_batch": "8"}, {"threads": "2", "loader_threads": "3"}, {"gather": "stream"}, {"kernels": "v3"}):
        path, directory = common.job(data, ["simclr"], **grouped, **more)
        assert common.hash_trace(path, directory, [(2, None)]) == want, more
    joint = {"batchnorm": "{group: 8, views: joint}", **augment}
    path, directory = common.job(data, ["simclr"], **joint)
    assert common.hash_trace(path, directory, [(1, None)]) != want
    return data


# ---- refusals, and what is printed ----

def refusals(data):
    def refused(pattern, method, augment, code=78):
        path, _ = common.job(data, method, augment=augment)
        for command in ("plan", "pretrain"):
            common.expect_lines(common.run(1, command, path, expect=code), pattern)

    four = "{small_views: 4}"
    for method in (["cpc", "grid: 3", "steps: 1"], ["siglip"], ["supervised"]):
        refused(rf"augment\.small_views: .*\b{method[0]}\b.*\bsimclr, infonce, dcl, dclw, supcon, mocov1, mocov2, mocov3, nnclr\b",
                method, four)
    refused(r"method\.weights: dclw .*small_views", ["dclw"], four)
    refused(r"method\.negatives: cross .*small_views", ["infonce", "negatives: cross"], four)
    refused(r"augment\.small_size: 13 .*\b12 x 12\b", ["simclr"], "{small_views: 1, small_size: 13}")
    refused(r"augment\.small_views: 17 .*\b0 to 16\b", ["simclr"], "{small_views: 17}")
    refused(r"augment\.small\.0: crop: scale_min\b", ["simclr"], "{small_views: 1, small: [{op: crop, scale_min: 0.9, scale_max: 0.5}]}")
    path, _ = common.job(data, ["simclr"], augment="{small_size: 8}")
    common.expect_lines(common.run(1, "plan", path), r"^warning: augment\.small_size\b.*small_views")
    path, _ = common.job(data, ["dclw", "weights: none"], augment=four)
    common.run(1, "plan", path)


def reports(data):
    path, directory = common.job(data, ["simclr"], augment="{preset: simclr-cifar, small_views: 3}", log="{every_steps: 1}")
    picture = os.path.join(common.scratch, "views.png")
    output = common.run(1, "plan", path, "--preview", picture)
    common.expect_lines(output, r"^views +2 per image, 12 x 12 x 1$")
    common.expect_lines(output, r"^small +3 views per image, 7 x 7 x 1$")
    common.expect_lines(output, r"views\.png: .*\bsmall views\b")
    gap, zoom = 4, 3
    with Image.open(picture) as image:
        cells = np.asarray(image.convert("L"))
    side = 12 * zoom + gap
    assert cells.shape[1] == 8 * side + gap, cells.shape  # the original, four views, three small ones
    small = cells[gap:gap + 12 * zoom, gap + 5 * side:5 * side + gap + 12 * zoom]
    assert (small[:, :2 * zoom] == 255).all() and len(np.unique(small)) > 8, "a small view in a white cell"
    output = common.run(1, "pretrain", path)
    common.expect_lines(output, r"^view 1 +crop 0\.75-1\b")
    common.expect_lines(output, r"^small +3 views of 7 x 7 x 1: crop 0\.3-0\.75 of the area\b")
    common.expect_lines(output, r"^method +simclr\b.*\b235 negatives per anchor\b")  # 5 views of 48 images, less 5
    with open(os.path.join(directory, "metrics.jsonl")) as f:
        metrics = [json.loads(line) for line in f]
    assert len(metrics) == 4 and all(np.isfinite(m["loss"]) for m in metrics), metrics
    with open(os.path.join(directory, "config.yaml")) as f:
        assert re.search(r"small_views: 3\b", f.read())


try:
    losses()
    refusals(common.prepare("labelled", 120, 12, 5))
    reports(common.prepare("shown", 120, 12, 6))
    steps()
    traces()
finally:
    common.remove_scratch()
