"""SigLIP: its loss on files against PyTorch's float64, and its training.

simile-test: timeout 300
The numbers that are trained (scale, bias) come with their gradients; whole steps are compared
with PyTorch's from the same weights, and hash ladders with each other.
"""
import json
import os
import re

import numpy as np
import torch
import torch.nn.functional as F

import whole_steps as w


def defined(x1, x2, scale, bias):
    logits = scale * F.normalize(x1) @ F.normalize(x2).T + bias
    sign = 2 * torch.eye(len(x1), dtype=torch.float64) - 1
    return -F.logsigmoid(sign * logits).sum() / len(x1)


def losses():
    rng = np.random.default_rng(21)
    shapes = ((2, 3), (33, 5), (129, 31))
    for scale, bias in ((10, -10), (1, 0), (100, -60), (1000, 500), (0.5, 30)):
        for n, d in shapes:
            base = rng.normal(size=(n, d))
            z = {k: (base + 0.5 * rng.normal(size=(n, d))).astype("f4") for k in ("z1", "z2")}
            keys, what = {"scale": scale, "bias": bias}, f"siglip scale {scale} bias {bias} n {n} d {d}"
            got = [w.loss("siglip", keys, z, ranks) for ranks in ((1, 2, 3, 4) if n == 129 else (1, 3))]
            for other in got[1:]:
                w.same_bits(what, got[0], other)
            x = {k: torch.tensor(v.astype("f8"), requires_grad=True) for k, v in z.items()}
            s, b = (torch.tensor(float(v), dtype=torch.float64, requires_grad=True) for v in (scale, bias))
            value = defined(x["z1"], x["z2"], s, b)
            value.backward()
            w.near_loss(what, got[0]["loss"], value.item())
            bound = 1e-5 if scale <= 20 else 1e-3  # a temperature below 0.05: rounding of s counts scale times
            w.near_gradients(what, got[0], {"d" + k: v.grad.numpy() for k, v in x.items()}, bound, 1e-4 * scale / n)
            for name, v in (("dscale", s), ("dbias", b)):
                error = abs(got[0][name] - v.grad.item())
                assert error <= bound * max(1, abs(v.grad.item())), f"{what}: {name} {got[0][name]}, expected {v.grad}"


def refusals():
    z = {k: np.ones((5, 4), "f4") for k in ("z1", "z2")}
    same = w.loss("siglip", {}, z, 2)  # all rows equal
    assert all(np.isfinite(v).all() for v in same.values())
    assert "no /z2" in w.loss("siglip", {}, {"z1": z["z1"]}, 2, expect=65)
    assert "/z2 is 4 x 4, but /z1 is 5 x 4" in w.loss("siglip", {}, {**z, "z2": z["z2"][:4]}, 3, expect=65)
    assert "two rows" in w.loss("siglip", {}, {k: v[:1] for k, v in z.items()}, 1, expect=65)
    z["z1"][3, 1] = np.nan
    assert "row 3 of /z1 is not finite" in w.loss("siglip", {}, z, 3, expect=65)
    assert "method.scale" in w.loss("siglip", {"scale": 0}, z, 2, expect=78)
    assert "temperature" in w.loss("siglip", {"temperature": 0.1}, z, 1, expect=78)


def define(nets, views, start, memory):
    z = [nets.projector(nets.encoder(x)) for x in views]
    return defined(*z, nets.method["log_scale"].exp(), nets.method["bias"])


def numbers(data):
    """Log and metrics tell scale and bias as they stand in the checkpoint of that step."""
    path, folder = w.job(data, ["siglip", "scale: 4"], log="{every_steps: 1}", optimizer="{name: adamw, lr: 0.01}")
    said = w.run(2, "pretrain", path)
    end = w.checkpoint(folder, 4)
    scale, bias = np.exp(float(end["weights/method/log_scale"].item())), end["weights/method/bias"].item()
    with open(os.path.join(folder, "metrics.jsonl")) as f:
        last = [json.loads(line) for line in f][-1]
    assert last["step"] == 4 and abs(last["scale"] / scale - 1) < 1e-12 and last["bias"] == bias, (last, scale, bias)
    shown = re.findall(r"step 4/4 .* scale (\S+) bias (\S+)$", said, re.M)
    assert [tuple(map(float, p)) for p in shown] == [(float(f"{scale:.4g}"), float(f"{bias:.4g}"))], said


def advice(data):
    """Plain steps throw scale and bias away (measured: the loss stays at that of a constant)."""
    path, _ = w.job(data, ["siglip"])
    warned = {name: "optimizer.name: " in w.run(1, "plan", path, f"optimizer.name={name}") for name in ("sgd", "lars", "adamw")}
    assert warned == {"sgd": True, "lars": True, "adamw": False}, warned
    assert "optimizer.name: " not in w.run(1, "plan", path, "optimizer.lr=0.0005")
    path, _ = w.job(data, ["nnclr", "queue_size: 8", "learn_temperature: true"])
    assert "optimizer.name: " not in w.run(1, "plan", path)
    assert "optimizer.name: " in w.run(1, "plan", path, "optimizer.name=lars", "optimizer.lr=2")
    assert "optimizer.name: " not in w.run(1, "plan", path, "optimizer.name=lars", "optimizer.lr=2", "method.learn_temperature=false")
    assert "optimizer.name: " in w.run(1, "plan", path, "method.temperature=0.01")  # gradients grow with 1/T
    path, _ = w.job(data, ["cpc", "grid: 3", "steps: 2", "learn_temperature: true"])
    assert "optimizer.name: " in w.run(1, "plan", path)  # predictions are of any length
    assert "optimizer.name: " not in w.run(1, "plan", path, "method.temperature=10")


def bounds(data):
    """Trained numbers that are thrown far stay in the range of their keys, and the loss finite."""
    far = {"log": "{every_steps: 1}", "optimizer": "{name: adamw, lr: 3000}", "schedule": "{steps: 6, shape: constant}"}
    for method, ranges in ((["siglip"], {"scale": (0.001, 1000), "bias": (-1000, 1000)}),
                           (["simclr", "learn_temperature: true"], {"temperature": (0.005, 10)}),
                           (["mocov2", "queue_size: 15", "learn_temperature: true"], {"temperature": (0.005, 10)})):
        path, folder = w.job(data, method, **far)
        w.run(2, "pretrain", path)
        with open(os.path.join(folder, "metrics.jsonl")) as f:
            lines = [json.loads(line) for line in f]
        assert len(lines) == 6 and all(np.isfinite(line["loss"]) and line["skipped"] == 0 for line in lines), lines
        for name, bound in ranges.items():
            seen = [line[name] for line in lines]
            near = [min(abs(v / b - 1) for b in bound) < 1e-6 for v in seen]
            assert any(near), f"{method}: {name} never came to a bound: {seen}"
            assert all(n or bound[0] < v < bound[1] for n, v in zip(near, seen)), f"{method}: {name} {seen}"


try:
    losses()
    refusals()
    end = w.same_steps("siglip", w.prepare("few", 24, 12, 3), ["siglip", "scale: 4", "bias: -2"], define)
    assert end["weights/method/bias"] != -2 and end["weights/method/log_scale"] != np.float32(np.log(4))
    more = w.prepare("more", 120, 12, 4)
    w.same_ladders(more, ["siglip"])
    numbers(more)
    advice(more)
    bounds(more)
finally:
    w.close()
