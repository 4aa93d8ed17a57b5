#!/usr/bin/python3
"""The described layers of a backbone, run by PyTorch, compute torchvision's network.

simile-test: timeout 300
Each line of tool_layers becomes one torch operation on torchvision's weights, in float64;
the output equals that of torchvision's model.  Names and dims of all tensors are torchvision's.
"""
import os
import subprocess

import torch
import torch.nn.functional as F
import torchvision

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "encoder_tool_layers")
ARCHS = ["resnet18", "resnet34", "resnet50"]
ACTIVATIONS = [lambda x: x, torch.relu, F.silu]


def apply(kind, name, x, residual, kernel, stride, padding, act, eps, state):
    if kind == "conv":
        assert kernel == state[name + ".weight"].shape[2]
        return F.conv2d(x, state[name + ".weight"], None, stride, padding)
    if kind == "batchnorm":
        y = F.batch_norm(x, *(state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")), eps=eps)
        return act(y if residual is None else y + residual)
    if kind == "max_pool":
        return F.max_pool2d(x, kernel, stride, padding)
    assert kind == "mean_pool", kind
    return x.mean((2, 3), keepdim=True)


def check(arch, h, w):
    torch.manual_seed(2)
    model = getattr(torchvision.models, arch)().double().eval()
    model.fc = torch.nn.Identity()
    state = {n: v if v.dim() == 0 else v + 0.1 * torch.rand_like(v) for n, v in model.state_dict().items()}
    model.load_state_dict(state)
    lines = subprocess.run([TOOL, str(ARCHS.index(arch)), "1", "1.0", "0", str(h), str(w), "3"],
                           stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    image = torch.randn(2, 3, h, w, dtype=torch.float64)
    values, tensors = [], []
    for line in lines:
        kind, name, *rest = line.split()
        at, residual, oh, ow, oc, kernel, stride, padding, act = map(int, rest[:9])
        value = apply(kind, name, image if at == -1 else values[at], None if residual == -2 else values[residual],
                      kernel, stride, padding, ACTIVATIONS[act], float(rest[9]), state)
        assert value.shape == (2, oc, oh, ow), (line, value.shape)
        values.append(value)
        tensors += [(t.split("=")[0], tuple(map(int, t.split("=")[1].split(",")))) for t in rest[10:]]
    assert sorted(tensors) == sorted((n, tuple(p.shape)) for n, p in model.named_parameters())
    with torch.no_grad():
        want = model(image)
    error = (values[-1].flatten(1) - want).abs().max() / want.abs().max()
    assert error <= 1e-12, f"{arch}: off by {error:.1e}"
    print(f"{arch} {h}x{w}: {len(lines)} layers, {error:.1e}")


torch.set_num_threads(1)
for row in ARCHS:
    check(row, 64, 71)
print("ok")
