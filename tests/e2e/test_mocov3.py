"""MoCo v3 (its part on ResNets): its loss on files against PyTorch's float64, and its training.

simile-test: timeout 300
"""
import os
import re

import numpy as np
import torch
import torch.nn.functional as F

import whole_steps as w

M = 0.9


def one_way(q, k, t, decoupled):
    """2 T CE over the keys of the batch, the positive on the diagonal."""
    s = q @ k.T / t
    others = s.masked_fill(torch.eye(len(s), dtype=torch.bool), -torch.inf) if decoupled else s
    return 2 * t * (torch.logsumexp(others, 1) - s.diag()).mean()


def losses():
    rng = np.random.default_rng(31)
    apart, learned = {"denominator": "decoupled"}, {"learn_temperature": "true"}
    for n, d, t, keys, ranks in ((2, 2, 1.0, {}, (1, 3)), (7, 5, 1.0, learned, (1, 2)), (33, 17, 0.2, apart, (1, 3)),
                                 (129, 31, 0.1, learned, (1, 2, 3, 4)), (515, 24, 0.2, {**apart, **learned}, (1, 4)),
                                 (40, 128, 10, learned, (1, 2)), (65, 16, 0.01, {}, (1, 2))):
        base = rng.normal(size=(n, d))
        arrays = {name: (base + 0.7 * rng.normal(size=(n, d))).astype("f4") for name in ("p1", "p2", "k1", "k2")}
        what = f"mocov3 {keys} n {n} d {d} T {t}"
        got = [w.loss("mocov3", {"temperature": t, **keys}, arrays, p) for p in ranks]
        for other in got[1:]:
            w.same_bits(what, got[0], other)
        x = {name: torch.tensor(v.astype("f8"), requires_grad=True) for name, v in arrays.items()}
        u = {name: F.normalize(v) for name, v in x.items()}
        log_t = torch.tensor(np.log(t), requires_grad=True)
        value = sum(one_way(u[a], u[b].detach(), log_t.exp(), "denominator" in keys)
                    for a, b in (("p1", "k2"), ("p2", "k1")))
        value.backward()
        w.near_loss(what, got[0]["loss"], value.item())
        w.near_gradients(what, got[0], {"d" + p: x[p].grad.numpy() for p in ("p1", "p2")}, 1e-5 if t >= 0.05 else 1e-3)
        assert not {"dk1", "dk2", "queue_after"} & set(got[0]), what
        if "learn_temperature" in keys:
            error = abs(got[0]["dlog_temperature"] - log_t.grad.item())
            assert error <= 1e-5 * max(1, abs(log_t.grad.item())), f"{what}: log T off by {error}"


def refusals():
    a = {name: np.eye(6, 4, dtype="f4") + 1 for name in ("p1", "p2", "k1", "k2")}
    for gone in a:
        assert f"no /{gone}" in w.loss("mocov3", {}, {n: v for n, v in a.items() if n != gone}, 2, expect=65)
    said = w.loss("mocov3", {}, {**a, "k1": a["k1"][:5], "k2": a["k2"][:5]}, 3, expect=65)
    assert said.count("/k1 is 5 x 4, but /p1 is 6 x 4") == 1, said
    bad = a["k2"].copy()
    bad[4] = 0
    assert "row 4 of /k2" in w.loss("mocov3", {}, {**a, "k2": bad}, 2, expect=65)
    assert "method.temperature" in w.loss("mocov3", {"temperature": 0}, a, 2, expect=78)
    assert "queue_size" in w.loss("mocov3", {"queue_size": 9}, a, 1, expect=78)


class MocoV3:
    """The step of moco-v3's builder.py; batch norm over the whole batch, momentum rising to 1."""

    copy, step = None, 0

    def __call__(self, nets, views, start, memory):
        if not self.copy:
            self.copy = w.Nets(start).requires_grad_(False)
        queries = [F.normalize(nets.predictor(nets.projector(nets.encoder(x)))) for x in views]
        m = 1 - (1 - M) * (1 + np.cos(np.pi * self.step / 3)) / 2
        self.step += 1
        with torch.no_grad():
            for net in ("encoder", "projector"):
                for a, b in zip(getattr(self.copy, net).parameters(), getattr(nets, net).parameters()):
                    a.copy_(m * a + (1 - m) * b)
            keys = [F.normalize(self.copy.projector(self.copy.encoder(x))) for x in views]
        return one_way(queries[0], keys[1], 0.5, False) + one_way(queries[1], keys[0], 0.5, False)


def steps():
    encoder = "{arch: resnet18, width: 0.0625, activation: silu, projector: {hidden: 40, dim: 16}}"
    moco = MocoV3()
    end = w.same_steps("mocov3", w.prepare("few", 24, 12, 3),
                       ["mocov3", "temperature: 0.5", f"momentum: {M}", "predictor_hidden: 24"], moco, encoder)
    start = w.checkpoint(os.path.join(w.scratch, "run"), 0)
    assert not [n for n in end if n.startswith("momentum/predictor")]
    state = {n.replace(".", "/", 1): v.numpy() for n, v in moco.copy.state_dict().items()
             if not n.startswith("predictor") and "num_batches" not in n}
    for kind in ("running", ""):  # statistics, then weights
        names = [n for n in state if ("running" in n) == bool(kind)]
        error = sum(np.square(end["momentum/" + n] - state[n]).sum() for n in names)
        moved = sum(np.square(end["momentum/" + n].astype("f8") - start["momentum/" + n]).sum() for n in names)
        assert 0 < moved and error <= 1e-6 * moved, f"the copy's {kind or 'weights'} off by {np.sqrt(error / moved):.1e}"
    heads = {n.split("/")[1] + "/" + n.split("/")[2] for n in end if re.match("weights/(projector|predictor)", n)}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    want = {f"{h}/{i}.{s}" for h, i in (("projector", 1), ("projector", 4), ("predictor", 1)) for s in statistics}
    want |= {f"{h}/{i}.weight" for h in ("projector", "predictor") for i in (0, 1, 3)}
    assert heads == want | {"projector/1.bias", "predictor/1.bias"}, heads


def ladders():
    data = w.prepare("more", 120, 12, 4)
    encoder = "{arch: resnet18, width: 0.0625, projector: {hidden: 24, dim: 16}}"
    method = ["mocov3", "predictor_hidden: 24"]
    assert " queue " not in w.same_ladders(data, method, encoder=encoder)
    w.same_ladders(data, method + ["learn_temperature: true", "bn_buffers: ema", "denominator: decoupled"],
                   encoder=encoder, batchnorm="{group: 16}")


def defaults():
    path, folder = w.job(os.path.join(w.scratch, "more.h5"), ["mocov3"], augment="{size: 12}", encoder="{width: 0.0625}",
                         schedule="{steps: 1}")
    w.run(1, "pretrain", path)
    with open(os.path.join(folder, "config.yaml")) as f:
        said = re.sub(r"\s+", " ", f.read())
    for text in ("preset: byol", "bn: true dim: 256 hidden: 4096 last_bn: true layers: 2", "predictor_hidden: 4096",
                 "momentum: 0.99 momentum_schedule: cosine", "temperature: 1"):
        assert text in said, (text, said)


try:
    losses()
    refusals()
    steps()
    ladders()
    defaults()
finally:
    w.close()
