#!/usr/bin/python3
"""Whole ResNets, forward and backward, against PyTorch float64 with the same weights.

simile-test: timeout 300
Tolerances: forward 1e-4 of the largest output (ResNet-50: 3e-4);
gradients with silu, every tensor, the same; with ReLU the whole gradient within 10 times
PyTorch fp32's own error or 5e-2, cosine above 0.998.
"""
import copy
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import torch
import torchvision

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "encoder_tool_net")
ARCHS = ["resnet18", "resnet34", "resnet50"]


def build(arch, stem, width, silu, channels):
    """torchvision's model at another width, stem and activation."""
    layers = {"resnet18": [2, 2, 2, 2], "resnet34": [3, 4, 6, 3], "resnet50": [3, 4, 6, 3]}[arch]
    block = torchvision.models.resnet.Bottleneck if arch == "resnet50" else torchvision.models.resnet.BasicBlock
    model = torchvision.models.ResNet(block, layers)
    wide = [int(width * c / 8 + 0.5) * 8 for c in (64, 128, 256, 512)]
    model.inplanes = wide[0]
    model.conv1 = torch.nn.Conv2d(channels, wide[0], 3 if stem == 0 else 7, 1 if stem == 0 else 2,
                                  1 if stem == 0 else 3, bias=False)
    model.bn1 = torch.nn.BatchNorm2d(wide[0])
    for i, c in enumerate(wide):
        setattr(model, f"layer{i + 1}", model._make_layer(block, c, layers[i], stride=1 if i == 0 else 2))
    if stem == 0:
        model.maxpool = torch.nn.Identity()
    model.fc = torch.nn.Identity()
    if silu:
        for m in model.modules():
            if hasattr(m, "relu"):
                m.relu = torch.nn.SiLU()
    return model


def torch_pass(model, x, dy, views, group, slots, joint):
    """x [block][view][slot] -> y in the same order; groups and views as in src/encoder/norm.c."""
    blocks = len(x) // (views * slots)
    order = np.arange(len(x)).reshape(blocks, views, slots)
    group = group or blocks * slots
    y = [None] * len(x)
    parts = []
    if joint:
        flat = order.transpose(0, 2, 1).reshape(blocks * slots, views)
        parts = [flat[g:g + group].reshape(-1) for g in range(0, blocks * slots, group)]
    else:
        for v in range(views):
            flat = order[:, v].reshape(-1)
            parts += [flat[g:g + group] for g in range(0, blocks * slots, group)]
    out = torch.zeros(dy.shape, dtype=x.dtype)
    pieces = []
    for index in parts:
        pieces.append((index, model(x[index])))
    loss = sum((out_ * dy[index]).sum() for index, out_ in pieces)
    for index, out_ in pieces:
        out[index] = out_.detach()
    loss.backward()
    return out.numpy(), {n: p.grad.numpy().copy() for n, p in model.named_parameters()}


def run_tool(model, x, dy, args, directory):
    source, target = os.path.join(directory, "in.h5"), os.path.join(directory, "out.h5")
    for f in (source, target):
        if os.path.exists(f):
            os.remove(f)
    with h5py.File(source, "w") as f:
        f["x"] = x.permute(0, 2, 3, 1).numpy().astype("f4")
        f["dy"] = dy.numpy().astype("f4")
        for name, value in model.state_dict().items():
            kind = "i8" if name.endswith("num_batches_tracked") else "f4"
            f["weights/encoder/" + name] = value.numpy().astype(kind)
    subprocess.run([TOOL, source, target] + [str(a) for a in args], check=True)
    with h5py.File(target) as f:
        names = []
        f["weights/encoder"].visititems(lambda n, o: names.append(n) if isinstance(o, h5py.Dataset) else None)
        grads = {n: f["grads/" + n][()] for n, _ in model.named_parameters()}
        state = {n: f["weights/encoder/" + n][()] for n in names}
        return f["y"][()], grads, state


def vector(grads):
    return np.concatenate([grads[n].astype("f8").reshape(-1) for n in sorted(grads)])


def check(arch, stem, width, silu, channels, h, w, blocks, slots, views, group, joint, directory):
    torch.manual_seed(1)
    what = f"{arch} stem {stem} width {width} silu {silu} {channels}x{h}x{w} group {group} joint {joint}"
    model = build(arch, stem, width, silu, channels)
    for p in model.parameters():
        p.data = p.data.float() + (0.1 * torch.randn_like(p) if p.dim() == 1 else 0)
    model = model.double()
    for p in model.parameters():  # the same numbers on both sides
        p.data = p.data.float().double()
    images = blocks * slots * views
    x = torch.randn(images, channels, h, w).float().double()
    dim = model(x[:1].expand(2, -1, -1, -1)).shape[1]
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.reset_running_stats()
    dy = torch.randn(images, dim).float().double()
    before = copy.deepcopy(model)
    y, grads, state = run_tool(model, x, dy, [ARCHS.index(arch), stem, width, int(silu), blocks, slots, views,
                                              group, int(joint), h, w, channels], directory)
    want_y, want = torch_pass(model, x, dy, views, group, slots, joint)
    bound = 3e-4 if arch == "resnet50" else 1e-4
    error = np.abs(y - want_y).max() / np.abs(want_y).max()
    assert error <= bound, f"{what}: forward {error:.2e}"
    if silu:
        for n in want:
            e = np.abs(grads[n] - want[n]).max() / np.abs(want[n]).max()
            assert e <= bound, f"{what}: gradient of {n} {e:.2e}"
    else:
        single = copy.deepcopy(before).float()
        _, rough = torch_pass(single, x.float(), dy.float(), views, group, slots, joint)
        a, b, c = vector(grads), vector(want), vector(rough)
        ours, theirs = (np.linalg.norm(v - b) / np.linalg.norm(b) for v in (a, c))
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert ours <= max(10 * theirs, 5e-2) and cosine > 0.998, f"{what}: L2 {ours:.2e} (torch fp32 {theirs:.2e})"
    reference = model.state_dict()
    assert set(state) == set(reference), set(state) ^ set(reference)
    if group == 0:
        for n, v in reference.items():
            if "running" in n:
                e = np.abs(state[n] - v.numpy()).max() / max(1e-3, np.abs(v.numpy()).max())
                assert e <= 1e-4, f"{what}: {n} {e:.2e}"
    print(f"{what}: forward {error:.1e}", flush=True)


with tempfile.TemporaryDirectory() as directory:
    torch.set_num_threads(2)
    for silu in (True, False):
        check("resnet18", 0, 0.25, silu, 3, 32, 32, 2, 4, 2, 0, False, directory)
    check("resnet18", 0, 0.125, True, 1, 28, 28, 2, 4, 2, 0, True, directory)
    check("resnet18", 0, 0.25, True, 3, 33, 29, 2, 4, 2, 2, False, directory)
    check("resnet18", 0, 0.25, True, 3, 17, 20, 4, 2, 2, 4, False, directory)
    check("resnet18", 0, 0.25, True, 3, 17, 20, 2, 4, 2, 2, True, directory)
    check("resnet18", 1, 0.25, True, 3, 65, 71, 1, 4, 2, 0, False, directory)
    check("resnet34", 0, 0.25, True, 3, 16, 16, 2, 4, 2, 0, False, directory)
    check("resnet50", 0, 0.25, True, 3, 32, 32, 2, 4, 2, 0, False, directory)
    check("resnet50", 1, 0.125, True, 3, 97, 80, 2, 4, 2, 0, False, directory)
print("ok")
sys.exit(0)
