"""Shared by the tests of methods: runs of the program on small data, comparisons of losses and hash
traces, and the same training steps in PyTorch's float64 from the weights of a checkpoint."""
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import torch
import torchvision

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import on_ranks  # noqa: E402

SIMILE = os.environ["SIMILE"]
scratch = tempfile.mkdtemp()


def run(ranks, *args, expect=0):
    front = on_ranks(ranks)
    r = subprocess.run([*front, SIMILE, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert r.returncode == expect, f"{args}: exit {r.returncode}, expected {expect}\n{r.stderr}"
    return r.stderr + r.stdout


def expect_lines(text, pattern, n=1):
    """Checks that exactly n lines of a text match a regular expression."""
    found = [line for line in text.splitlines() if re.search(pattern, line)]
    assert len(found) == n, f"{len(found)} lines match {pattern!r}, expected {n}:\n{text}"


def remove_scratch():
    shutil.rmtree(scratch)


# ---- simile loss ----

def loss(method, keys, arrays, ranks, expect=0, pointer=None):
    """Runs `simile loss` on arrays.  Returns its output arrays, with attributes as name@attribute, or
    its messages if an error is expected."""
    z, g, job = (os.path.join(scratch, n) for n in ("z.h5", "g.h5", "loss.yaml"))
    with h5py.File(z, "w") as f:
        for name, value in arrays.items():
            f[name] = value
        if pointer is not None:
            f["queue"].attrs["pointer"] = np.int64(pointer)
    with open(job, "w") as f:
        f.write("method: {name: %s}\n" % ", ".join([method] + [f"{k}: {v}" for k, v in keys.items()]))
    output = run(ranks, "loss", job, "--in", z, "--out", g, expect=expect)
    if expect:
        return output
    with h5py.File(g) as f:
        out = {name: f[name][()] for name in f}
        out.update({f"{name}@{a}": f[name].attrs[a] for name in f for a in f[name].attrs})
    return out


def check_loss(what, got, want):
    assert abs(got - want) <= 1e-6 * max(1, abs(want)), f"{what}: loss {got}, expected {want}"


def check_gradients(what, got, want, bound=1e-5, floor=0):
    """Checks errors relative to the largest entry of all arrays, or to `floor` if that is larger."""
    most = max(floor, max(np.abs(w).max() for w in want.values()))
    for name, w in want.items():
        error = np.abs(got[name] - w).max() / most
        assert error <= bound, f"{what}: {name} off by {error:.1e} of the largest entry"


def same_bits(what, one, other):
    assert one.keys() == other.keys(), what
    for name in one:
        assert np.array_equal(one[name], other[name]), f"{what}: {name} has other bits"


# ---- pretrain ----

def write_idx(path, array):
    with open(path, "wb") as f:
        f.write(struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape))
        f.write(array.astype("u1").tobytes())


def prepare(name, n, side, seed, classes=5):
    """Writes a data set of n random images; returns its path."""
    rng, directory = np.random.default_rng(seed), os.path.join(scratch, name)
    os.mkdir(directory)
    write_idx(os.path.join(directory, "train-images-idx3-ubyte"), rng.integers(0, 256, (n, side, side)))
    write_idx(os.path.join(directory, "train-labels-idx1-ubyte"), rng.integers(0, classes, n))
    run(1, "prepare", directory, "--out", directory + ".h5")
    return directory + ".h5"


def job(data, method, **keys):
    """Writes a job with small networks; returns its file and its run directory."""
    path, directory = os.path.join(scratch, "train.yaml"), os.path.join(scratch, "run")
    shutil.rmtree(directory, ignore_errors=True)
    text = {"run": directory, "data": "{train: %s}" % data, "method": "{name: %s}" % ", ".join(method),
            "encoder": "{arch: resnet18, width: 0.0625, projector: {dim: 16}}", "batch": "48", "block": "8",
            "schedule": "{steps: 4}", "augment": "{preset: digits}"}
    text.update(keys)
    with open(path, "w") as f:
        f.writelines(f"{k}: {v}\n" for k, v in text.items())
    return path, directory


def hash_trace(path, directory, segments):
    """Returns the hash trace of a run in segments, each (ranks, step to stop after or None)."""
    shutil.rmtree(directory, ignore_errors=True)
    for ranks, stop in segments:
        limit = [] if stop is None else ["--stop-after", str(stop)]
        run(ranks, "pretrain", path, "--trace-hash", *limit, expect=75 if limit else 0)
    with open(os.path.join(directory, "trace-hash.txt")) as f:
        return f.read()


def same_traces_of(what, path, directory):
    """Checks that the hash traces of a run of four steps are equal on 1 to 4 ranks, also when it is
    stopped and resumed on another number of ranks.  Returns the trace."""
    want = hash_trace(path, directory, [(1, None)])
    assert want.count(" weights ") == 4 and len(set(want.split("\n"))) == len(want.split("\n")), want
    for segments in ([(2, None)], [(3, 1), (4, None)], [(4, 3), (3, None)]):
        assert hash_trace(path, directory, segments) == want, f"{what}: {segments} differ from 1 rank"
    return want


def same_traces(data, method, **keys):
    return same_traces_of(method, *job(data, method, **keys))


# ---- the same steps in PyTorch ----

def checkpoint(directory, step):
    with h5py.File(os.path.join(directory, "checkpoints", f"step-{step:09d}.h5")) as f:
        out = {}
        f.visititems(lambda n, o: out.update({n: o[()]}) if isinstance(o, h5py.Dataset) else None)
    return out


def backbone(channels):
    """torchvision's ResNet-18 with the CIFAR stem, silu, and 8, 8, 16, 32 channels."""
    block = torchvision.models.resnet.BasicBlock
    model = torchvision.models.ResNet(block, [2, 2, 2, 2])
    model.inplanes = 8
    model.conv1 = torch.nn.Conv2d(channels, 8, 3, 1, 1, bias=False)
    model.bn1 = torch.nn.BatchNorm2d(8)
    for i, c in enumerate((8, 8, 16, 32)):
        setattr(model, f"layer{i + 1}", model._make_layer(block, c, 2, stride=2 if i else 1))
    model.maxpool, model.fc = torch.nn.Identity(), torch.nn.Identity()
    for m in model.modules():
        if hasattr(m, "relu"):
            m.relu = torch.nn.SiLU()
    return model


def head(weights, group):
    """A Sequential of the layers whose indices are in the names of the checkpoint."""
    names = {n.split("/")[-1]: v for n, v in weights.items() if n.startswith(f"weights/{group}/")}
    numbers = sorted({int(n.split(".")[0]) for n in names})
    parts = []
    for i in range(numbers[-1] + 1):
        if i not in numbers:
            parts.append(torch.nn.SiLU())
        elif f"{i}.running_mean" in names:
            parts.append(torch.nn.BatchNorm1d(len(names[f"{i}.running_mean"]), affine=f"{i}.weight" in names))
        else:
            out, into = names[f"{i}.weight"].shape
            parts.append(torch.nn.Linear(into, out, bias=f"{i}.bias" in names))
    return torch.nn.Sequential(*parts)


class Nets(torch.nn.Module):
    """Every network of a checkpoint, and the trained scalars of its method, in float64."""

    def __init__(self, weights, channels=1):
        super().__init__()
        groups = {n.split("/")[1] for n in weights if n.startswith("weights/")}
        self.encoder = backbone(channels)
        for group in groups - {"encoder", "method"}:
            self.add_module(group, head(weights, group))
        self.double()
        for group in groups - {"method"}:
            own = {n.split("/", 2)[2]: torch.tensor(v) for n, v in weights.items()
                   if n.startswith(f"weights/{group}/")}
            getattr(self, group).load_state_dict(own)
        self.method = torch.nn.ParameterDict({
            n.split("/")[2]: torch.nn.Parameter(torch.tensor(v.astype("f8")))
            for n, v in weights.items() if n.startswith("weights/method/")})

    def named(self):
        return {n.replace(".", "/", 1): p for n, p in self.named_parameters()}


def views(data):
    """The two views of every image by `view1: [], view2: [{op: flip, p: 1}]`."""
    with h5py.File(data) as f:
        x = f["images"][()] / 255.0
        x = (x - f.attrs["mean"]) / f.attrs["std"]
    x = torch.tensor(x.transpose(0, 3, 1, 2))
    return x, x.flip(3)


SMALL = "{arch: resnet18, width: 0.0625, activation: silu, projector: {dim: 16, bn: true}}"


def same_steps(what, data, method, define, encoder=SMALL, draw=views,
               augment="{view1: [], view2: [{op: flip, p: 1}]}", **keys):
    """Compares three training steps with PyTorch's, from the same initial weights.  Every batch is
    the whole data set, and `draw` computes its views.  Returns the last checkpoint."""
    n = len(draw(data)[0])
    path, directory = job(data, method, batch=str(n), block="8", schedule="{steps: 3, shape: constant}",
                       augment=augment, checkpoint="{every_steps: 1, keep: 5}",
                       encoder=encoder,
                       optimizer="{name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 1e-3}", **keys)
    run(2, "pretrain", path)
    start, end = checkpoint(directory, 0), checkpoint(directory, 3)
    nets = Nets(start)
    named = nets.named()
    optimizer = torch.optim.SGD([{"params": [p for p in named.values() if p.dim() > 1]},
                                 {"params": [p for p in named.values() if p.dim() == 1], "weight_decay": 0}],
                                lr=0.05, momentum=0.9, weight_decay=1e-3)
    memory = {}
    for _ in range(3):
        optimizer.zero_grad()
        define(nets, draw(data), start, memory).backward()
        optimizer.step()
    got, first = ({n: c["weights/" + n].astype("f8") for n in named} for c in (end, start))
    errors = {n: np.linalg.norm(got[n] - p.detach().numpy()) for n, p in named.items()}
    moves = {n: np.linalg.norm(got[n] - first[n]) for n in named}
    error, moved = (np.sqrt(sum(v ** 2 for v in d.values())) for d in (errors, moves))
    error /= moved
    assert error <= 1e-3, f"{what}: parameters off by {error:.1e} of how far they moved"
    for n in named:  # some do not move, such as a bias before a batch norm
        assert errors[n] <= 2e-2 * moves[n] + 1e-5 * moved, f"{what}: {n} off by {errors[n]}, it moved {moves[n]}"
    print(f"{what}: parameters off by {error:.1e} of how far they moved", flush=True)
    return end
