"""MoCo v3 with ResNets: its loss on files against PyTorch's float64, and its training.

simile-test: timeout 600
"""
import os
import re

import numpy as np
import torch
import torch.nn.functional as F

import common

M = 0.9


def direction_loss(q, k, t, decoupled):
    """2 T cross-entropy over the keys of the batch; the positives are the diagonal."""
    s = q @ k.T / t
    others = s.masked_fill(torch.eye(len(s), dtype=torch.bool), -torch.inf) if decoupled else s
    return 2 * t * (torch.logsumexp(others, 1) - s.diag()).mean()


def losses():
    rng = np.random.default_rng(31)
    decoupled_loss, learned = {"denominator": "decoupled"}, {"learn_temperature": "true"}
    for n, d, t, keys, ranks in ((2, 2, 1.0, {}, (1, 3)), (7, 5, 1.0, learned, (1, 2)), (33, 17, 0.2, decoupled_loss, (1, 3)),
                                 (129, 31, 0.1, learned, (1, 2, 3, 4)), (515, 24, 0.2, {**decoupled_loss, **learned}, (1, 4)),
                                 (40, 128, 10, learned, (1, 2)), (65, 16, 0.01, {}, (1, 2))):
        base = rng.normal(size=(n, d))
        arrays = {name: (base + 0.7 * rng.normal(size=(n, d))).astype("f4") for name in ("p1", "p2", "k1", "k2")}
        what = f"mocov3 {keys} n {n} d {d} T {t}"
        got = [common.loss("mocov3", {"temperature": t, **keys}, arrays, p) for p in ranks]
        for other in got[1:]:
            common.same_bits(what, got[0], other)
        x = {name: torch.tensor(v.astype("f8"), requires_grad=True) for name, v in arrays.items()}
        u = {name: F.normalize(v) for name, v in x.items()}
        log_t = torch.tensor(np.log(t), requires_grad=True)
        value = sum(direction_loss(u[a], u[b].detach(), log_t.exp(), "denominator" in keys)
                    for a, b in (("p1", "k2"), ("p2", "k1")))
        value.backward()
        common.check_loss(what, got[0]["loss"], value.item())
        common.check_gradients(what, got[0], {"d" + p: x[p].grad.numpy() for p in ("p1", "p2")}, 1e-5 if t >= 0.05 else 1e-3)
        assert not {"dk1", "dk2", "queue_after"} & set(got[0]), what
        if "learn_temperature" in keys:
            error = abs(got[0]["dlog_temperature"] - log_t.grad.item())
            assert error <= 1e-5 * max(1, abs(log_t.grad.item())), f"{what}: log T off by {error}"


def refusals():
    a = {name: np.eye(6, 4, dtype="f4") + 1 for name in ("p1", "p2", "k1", "k2")}

    def refused(pattern, code, arrays, ranks, **keys):
        common.expect_lines(common.loss("mocov3", keys, arrays, ranks, expect=code), pattern)

    for missing in a:
        refused(rf"z\.h5\b.*/{missing}\b", 65, {n: v for n, v in a.items() if n != missing}, 2)
    refused(r"/k1 .*\b5 x 4\b.*/p1 .*\b6 x 4\b", 65, {**a, "k1": a["k1"][:5], "k2": a["k2"][:5]}, 3)
    bad = a["k2"].copy()
    bad[4] = 0
    refused(r"\brow 4\b.*/k2\b.*\bzero\b", 65, {**a, "k2": bad}, 2)
    refused(r"method\.temperature: 0 ", 78, a, 2, temperature=0)
    refused(r"method\.queue_size\b", 78, a, 1, queue_size=9)


class MocoV3:
    """The step of builder.py in moco-v3, with batch norm over the global batch and rising momentum."""

    momentum_encoder, step = None, 0

    def __call__(self, nets, views, start, memory):
        if not self.momentum_encoder:
            self.momentum_encoder = common.Nets(start).requires_grad_(False)
        queries = [F.normalize(nets.predictor(nets.projector(nets.encoder(x)))) for x in views]
        m = 1 - (1 - M) * (1 + np.cos(np.pi * self.step / 3)) / 2
        self.step += 1
        with torch.no_grad():
            for net in ("encoder", "projector"):
                for a, b in zip(getattr(self.momentum_encoder, net).parameters(), getattr(nets, net).parameters()):
                    a.copy_(m * a + (1 - m) * b)
            keys = [F.normalize(self.momentum_encoder.projector(self.momentum_encoder.encoder(x))) for x in views]
        return direction_loss(queries[0], keys[1], 0.5, False) + direction_loss(queries[1], keys[0], 0.5, False)


def steps():
    encoder = "{arch: resnet18, width: 0.0625, activation: silu, projector: {hidden: 40, dim: 16}}"
    moco = MocoV3()
    end = common.same_steps("mocov3", common.prepare("few", 24, 12, 3),
                       ["mocov3", "temperature: 0.5", f"momentum: {M}", "predictor_hidden: 24"], moco, encoder)
    start = common.checkpoint(os.path.join(common.scratch, "run"), 0)
    assert not [n for n in end if n.startswith("momentum/predictor")]
    state = {n.replace(".", "/", 1): v.numpy() for n, v in moco.momentum_encoder.state_dict().items()
             if not n.startswith("predictor") and "num_batches" not in n}
    for kind in ("running", ""):  # statistics, then weights
        names = [n for n in state if ("running" in n) == bool(kind)]
        error = sum(np.square(end["momentum/" + n] - state[n]).sum() for n in names)
        moved = sum(np.square(end["momentum/" + n].astype("f8") - start["momentum/" + n]).sum() for n in names)
        assert 0 < moved and error <= 1e-6 * moved, \
            f"momentum encoder: {kind or 'weights'} off by {np.sqrt(error / moved):.1e}"
    heads = {n.split("/")[1] + "/" + n.split("/")[2] for n in end if re.match("weights/(projector|predictor)", n)}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    want = {f"{h}/{i}.{s}" for h, i in (("projector", 1), ("projector", 4), ("predictor", 1)) for s in statistics}
    want |= {f"{h}/{i}.weight" for h in ("projector", "predictor") for i in (0, 1, 3)}
    assert heads == want | {"projector/1.bias", "predictor/1.bias"}, heads


def traces():
    data = common.prepare("more", 120, 12, 4)
    encoder = "{arch: resnet18, width: 0.0625, projector: {hidden: 24, dim: 16}}"
    method = ["mocov3", "predictor_hidden: 24"]
    assert " queue " not in common.same_traces(data, method, encoder=encoder)
    common.same_traces(data, method + ["learn_temperature: true", "bn_buffers: ema", "denominator: decoupled"],
                   encoder=encoder, batchnorm="{group: 16}")


def defaults():
    path, directory = common.job(os.path.join(common.scratch, "more.h5"), ["mocov3"], augment="{size: 12}", encoder="{width: 0.0625}",
                         schedule="{steps: 1}")
    common.run(1, "pretrain", path)
    with open(os.path.join(directory, "config.yaml")) as f:
        resolved = re.sub(r"\s+", " ", f.read())
    for text in ("preset: byol", "bn: true dim: 256 hidden: 4096 last_bn: true layers: 2", "predictor_hidden: 4096",
                 "momentum: 0.99 momentum_final: 1 momentum_schedule: cosine", "temperature: 1"):
        assert text in resolved, (text, resolved)


try:
    losses()
    refusals()
    steps()
    traces()
    defaults()
finally:
    common.remove_scratch()
