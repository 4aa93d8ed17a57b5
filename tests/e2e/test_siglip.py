"""SigLIP: its loss on files against PyTorch's float64, and its training.

simile-test: timeout 600
Scale and bias are trained, so their gradients are compared too.  Training steps are compared with
PyTorch's from the same weights.  Hash traces are equal on any number of ranks.
"""
import json
import os
import re

import numpy as np
import torch
import torch.nn.functional as F

import common


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
            got = [common.loss("siglip", keys, z, ranks) for ranks in ((1, 2, 3, 4) if n == 129 else (1, 3))]
            for other in got[1:]:
                common.same_bits(what, got[0], other)
            x = {k: torch.tensor(v.astype("f8"), requires_grad=True) for k, v in z.items()}
            s, b = (torch.tensor(float(v), dtype=torch.float64, requires_grad=True) for v in (scale, bias))
            value = defined(x["z1"], x["z2"], s, b)
            value.backward()
            common.check_loss(what, got[0]["loss"], value.item())
            bound = 1e-5 if scale <= 20 else 1e-3  # the rounding error of s is multiplied by scale
            common.check_gradients(what, got[0], {"d" + k: v.grad.numpy() for k, v in x.items()}, bound, 1e-4 * scale / n)
            for name, v in (("dscale", s), ("dbias", b)):
                error = abs(got[0][name] - v.grad.item())
                assert error <= bound * max(1, abs(v.grad.item())), f"{what}: {name} {got[0][name]}, expected {v.grad}"


def refusals():
    z = {k: np.ones((5, 4), "f4") for k in ("z1", "z2")}
    equal = common.loss("siglip", {}, z, 2)  # all rows are equal
    assert all(np.isfinite(v).all() for v in equal.values())

    def refused(pattern, code, arrays, ranks, **keys):
        common.expect_lines(common.loss("siglip", keys, arrays, ranks, expect=code), pattern)

    refused(r"z\.h5\b.*/z2\b", 65, {"z1": z["z1"]}, 2)
    refused(r"/z2 .*\b4 x 4\b.*/z1 .*\b5 x 4\b", 65, {**z, "z2": z["z2"][:4]}, 3)
    refused(r"/z1 .*\b1 x 4\b", 65, {k: v[:1] for k, v in z.items()}, 1)
    z["z1"][3, 1] = np.nan
    refused(r"\brow 3\b.*/z1\b.*\bfinite\b", 65, z, 3)
    refused(r"method\.scale: 0 ", 78, z, 2, scale=0)
    refused(r"method\.temperature\b", 78, z, 1, temperature=0.1)


def define(nets, views, start, memory):
    z = [nets.projector(nets.encoder(x)) for x in views]
    return defined(*z, nets.method["log_scale"].exp(), nets.method["bias"])


def numbers(data):
    """Log and metrics report scale and bias as in the checkpoint of the step."""
    path, directory = common.job(data, ["siglip", "scale: 4"], log="{every_steps: 1}", optimizer="{name: adamw, lr: 0.01}")
    output = common.run(2, "pretrain", path)
    end = common.checkpoint(directory, 4)
    scale, bias = np.exp(float(end["weights/method/log_scale"].item())), end["weights/method/bias"].item()
    with open(os.path.join(directory, "metrics.jsonl")) as f:
        last = [json.loads(line) for line in f][-1]
    assert last["step"] == 4 and abs(last["scale"] / scale - 1) < 1e-12 and last["bias"] == bias, (last, scale, bias)
    shown = re.findall(r"step 4/4 .* scale (\S+) bias (\S+)$", output, re.M)
    assert [tuple(map(float, p)) for p in shown] == [(float(f"{scale:.4g}"), float(f"{bias:.4g}"))], output


def advice(data):
    """SGD and LARS do not train scale and bias well, which causes a warning (measured: the loss does
    not fall below that of constant embeddings)."""
    path, _ = common.job(data, ["siglip"])

    def warnings(n, *keys):
        common.expect_lines(common.run(1, "plan", path, *keys), r"^warning: optimizer\.name: ", n)

    for name, n in (("sgd", 1), ("lars", 1), ("adamw", 0)):
        warnings(n, f"optimizer.name={name}")
    warnings(0, "optimizer.lr=0.0005")
    path, _ = common.job(data, ["nnclr", "queue_size: 8", "learn_temperature: true"])
    warnings(0)
    warnings(1, "optimizer.name=lars", "optimizer.lr=2")
    warnings(0, "optimizer.name=lars", "optimizer.lr=2", "method.learn_temperature=false")
    warnings(1, "method.temperature=0.01")  # gradients grow with 1/T
    path, _ = common.job(data, ["cpc", "grid: 3", "steps: 2", "learn_temperature: true"])
    warnings(1)  # the norm of predictions is unbounded
    warnings(0, "method.temperature=10")


def bounds(data):
    """With a very high learning rate, trained scalars stay in the range of their keys and the loss is
    finite."""
    settings = {"log": "{every_steps: 1}", "optimizer": "{name: adamw, lr: 3000}", "schedule": "{steps: 6, shape: constant}"}
    for method, ranges in ((["siglip"], {"scale": (0.001, 1000), "bias": (-1000, 1000)}),
                           (["simclr", "learn_temperature: true"], {"temperature": (0.005, 10)}),
                           (["mocov2", "queue_size: 15", "learn_temperature: true"], {"temperature": (0.005, 10)})):
        path, directory = common.job(data, method, **settings)
        common.run(2, "pretrain", path)
        with open(os.path.join(directory, "metrics.jsonl")) as f:
            lines = [json.loads(line) for line in f]
        assert len(lines) == 6 and all(np.isfinite(line["loss"]) and line["skipped"] == 0 for line in lines), lines
        for name, bound in ranges.items():
            seen = [line[name] for line in lines]
            near = [min(abs(v / b - 1) for b in bound) < 1e-6 for v in seen]
            assert any(near), f"{method}: {name} never reached a bound: {seen}"
            assert all(n or bound[0] < v < bound[1] for n, v in zip(near, seen)), f"{method}: {name} {seen}"


try:
    losses()
    refusals()
    end = common.same_steps("siglip", common.prepare("few", 24, 12, 3), ["siglip", "scale: 4", "bias: -2"], define)
    assert end["weights/method/bias"] != -2 and end["weights/method/log_scale"] != np.float32(np.log(4))
    more = common.prepare("more", 120, 12, 4)
    common.same_traces(more, ["siglip"])
    numbers(more)
    advice(more)
    bounds(more)
finally:
    common.remove_scratch()
