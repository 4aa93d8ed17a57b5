"""CPC: the loss on files and training steps against PyTorch's float64, the same bits on any number of
ranks, features of patches, and refused input.

simile-test: timeout 600
"""
import glob
import json
import os
import re
import shutil

import h5py
import numpy as np
import torch
import torch.nn.functional as F
import torchvision

import common


def path(name):
    return os.path.join(common.scratch, name)


# ---- simile loss ----

def loss(keys, arrays, ranks, expect=0):
    out = common.loss("cpc", keys, arrays, ranks, expect)
    if not expect:
        with h5py.File(path("g.h5")) as f:
            assert f.attrs["method"] == b"cpc"
    return out


def defined(c, z, w, skip, log_t, negatives=None, decoupled=False):
    """Mean over k of the mean over positions that have a target k + skip rows below."""
    n, grid, _, d = c.shape
    t = log_t.exp()
    steps = []
    for k in range(1, len(w) + 1):
        rows = grid - k - skip
        a = (c[:, :rows] @ w[k - 1]).reshape(-1, d) / t
        b = z[:, k + skip:].reshape(-1, d)
        own = (a * b).sum(1)
        if negatives is not None:
            drawn = z.reshape(-1, d)[negatives[k - 1][:, :rows].reshape(len(a), -1)]
            others = torch.einsum("nd,nmd->nm", a, drawn)
            inside = others if decoupled else torch.cat([own[:, None], others], 1)
            steps.append((torch.logsumexp(inside, 1) - own).mean())
            continue
        s = a @ b.T
        if decoupled:
            s = s.masked_fill(torch.eye(len(a), dtype=torch.bool), -torch.inf)
        steps.append((torch.logsumexp(s, 1) - own).mean())
    return torch.stack(steps).mean()


def compare(rng, n, grid, steps, d, keys, m=0, all_ranks=(1, 3)):
    skip, temperature = keys.get("skip", 0), keys.get("temperature", 1.0)
    base = rng.normal(size=(n, 1, 1, d))
    c, z = (base + rng.normal(size=(n, grid, grid, d)) for _ in range(2))
    w = rng.normal(size=(steps, d, d)) * d ** -0.5
    arrays = {"context": c.astype("f4"), "target": z.astype("f4"), "predictor": w.astype("f4")}
    drawn = None
    if m:  # entries of positions without a target may be invalid
        arrays["negatives"] = rng.integers(0, n * grid * grid, (steps, n, grid, grid, m)).astype("i4")
        drawn = torch.tensor(arrays["negatives"].astype("i8"))
        for k in range(steps):
            arrays["negatives"][k, :, grid - k - 1 - skip:] = -7
    got = [loss(keys, arrays, ranks) for ranks in all_ranks]
    what = f"n {n} grid {grid} steps {steps} d {d} m {m} {keys}"
    for other in got[1:]:
        assert all(np.array_equal(got[0][k], other[k]) for k in got[0] if k != "ranks"), f"{what}: ranks differ"
    x = [torch.tensor(arrays[k].astype("f8"), requires_grad=True) for k in ("context", "target", "predictor")]
    log_t = torch.tensor(np.log(temperature), dtype=torch.float64, requires_grad=True)
    value = defined(*x, skip, log_t, drawn, keys.get("denominator") == "decoupled")
    value.backward()
    assert abs(got[0]["loss"] - float(value)) <= 1e-6 * max(1, abs(float(value))), f"{what}: {got[0]['loss']} {value}"
    for name, v in zip(("dcontext", "dtarget", "dpredictor"), x):
        g = v.grad.numpy()
        error = np.abs(got[0][name] - g).max() / np.abs(g).max()
        assert got[0][name].shape == g.shape and error <= 1e-5, f"{what}: {name} off by {error:.1e}"
    if "learn_temperature" in keys:
        ours, theirs = float(got[0]["dlog_temperature"]), float(log_t.grad)
        assert abs(ours - theirs) <= 1e-5 * max(1, abs(theirs)), f"{what}: {ours} {theirs}"


def losses():
    rng = np.random.default_rng(1)
    learned = {"learn_temperature": "true"}
    compare(rng, 5, 3, 2, 7, learned, all_ranks=(1, 2, 3, 4))
    compare(rng, 7, 5, 3, 9, {"skip": 1, "temperature": 3.0})
    compare(rng, 13, 7, 5, 33, {"temperature": 2.0})
    compare(rng, 2, 2, 1, 3, {"denominator": "decoupled"})
    compare(rng, 5, 3, 2, 7, learned, m=4, all_ranks=(1, 2, 4))
    compare(rng, 9, 6, 3, 17, {"skip": 2, "temperature": 0.7}, m=11)
    compare(rng, 6, 4, 2, 9, {"denominator": "decoupled", "temperature": 0.7, **learned}, m=5)


def refused_arrays():
    rng = np.random.default_rng(2)
    good = {"context": rng.normal(size=(4, 4, 4, 5)), "target": rng.normal(size=(4, 4, 4, 5)),
            "predictor": rng.normal(size=(2, 5, 5))}
    good = {k: v.astype("f4") for k, v in good.items()}
    negatives = np.zeros((2, 4, 4, 4, 3), "i4")
    good["negatives"] = negatives

    def refused(pattern, expect=65, keys=None, ranks=1, **changes):
        arrays = {k: v for k, v in {**good, **changes}.items() if v is not None}
        common.expect_lines(loss(keys or {}, arrays, ranks, expect=expect), pattern)

    refused(r"z\.h5\b.*/target\b", target=None)
    refused(r"/context .*\b1 x 4 x 4 x 5\b", context=good["context"][:1])
    refused(r"/context .*\b4 x 4 x 3 x 5\b", context=good["context"][:, :, :3])
    refused(r"/target .*\b4 x 3 x 4 x 5\b.*/context .*\b4 x 4 x 4 x 5\b", target=good["target"][:, :3])
    refused(r"/predictor .*\b2 x 5 x 4\b", predictor=good["predictor"][:, :, :4])
    refused(r"/predictor\b.*\b2 .*\b2 .*\b4 .*\b1\b", keys={"skip": 2})  # steps, skip, grid, at most
    refused(r"/negatives .*\b1 x 4 x 4 x 4 x 3\b", negatives=negatives[:1])
    refused(r"/negatives .*\b4 dimensions\b.*\b5\b", negatives=negatives[..., 0])
    refused(r'/negatives\b.*x\.astype\("int32"\)', negatives=negatives.astype("f4"))
    for value in (-1, 64):
        invalid = negatives.copy()
        invalid[1, 3, 1, 2, 0] = value
        refused(rf"/negatives .* {value} .*\bstep 1, image 3, row 1, column 2\b.*/target .*\b0 to 63\b", ranks=3,
                negatives=invalid)
    nan = good["target"].copy()
    nan[2, 1, 3, 0] = np.nan
    refused(r"\brow 39\b.*/target\b.*\bfinite\b", ranks=2, target=nan)
    refused(r"method\.temperature: 0 ", expect=78, keys={"temperature": 0})


# ---- training ----

SIDE, GRID, STEPS, BATCH, COUNT = 17, 3, 2, 24, 60  # patches of 8 x 8 pixels, 4 pixels apart


def prepare():
    rng = np.random.default_rng(3)
    base = rng.integers(0, 256, (5, SIDE, SIDE))
    for split, n in (("train", COUNT), ("few", BATCH), ("test", 20)):
        labels = np.arange(n) % 5
        common.write_idx(path(f"{split}-images-idx3-ubyte"), np.clip(base[labels] + rng.integers(-90, 90, (n, SIDE, SIDE)), 0, 255))
        common.write_idx(path(f"{split}-labels-idx1-ubyte"), labels)
        common.run(1, "prepare", path(f"{split}-images-idx3-ubyte"), "--out", path(split + ".h5"))


def job(name, data, method, more):
    with open(path("job.yaml"), "w") as f:
        f.write(f"run: {path(name)}\ndata: {{train: {path(data)}.h5, test: {path('test')}.h5}}\n"
                f"method: {{name: cpc, grid: {GRID}, steps: {STEPS}{method}}}\n"
                f"batch: {BATCH}\nblock: 4\n{more}")
    return path("job.yaml")


def traces():
    """Runs of four steps, two per epoch."""
    small = "encoder: {width: 0.0625, projector: {dim: 12}}\nschedule: {steps: 4}\naugment: {preset: digits}\n"
    for method, more in (
            ("", "batchnorm: {group: 2}\n"),
            (", target: projector, learn_temperature: true", "optimizer: {name: lars}\n"),
            (", negatives: 5", "")):
        common.same_traces_of(f"cpc {method}", job("trace", "train", method, small + more), path("trace"))


# ---- training steps against PyTorch ----

def newest(name):
    return sorted(glob.glob(path(name) + "/checkpoints/*.h5"))[-1]


def weights_of(file):
    weights = {}
    with h5py.File(file) as f:
        f["weights"].visititems(lambda n, o: weights.update({n: o[()]}) if isinstance(o, h5py.Dataset) else None)
    return weights


def backbone(silu):
    model = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2])
    wide = [8, 8, 16, 32]
    model.inplanes = wide[0]
    model.conv1 = torch.nn.Conv2d(1, wide[0], 3, 1, 1, bias=False)
    model.bn1 = torch.nn.BatchNorm2d(wide[0])
    for i, c in enumerate(wide):
        setattr(model, f"layer{i + 1}",
                model._make_layer(torchvision.models.resnet.BasicBlock, c, 2, stride=1 if i == 0 else 2))
    model.maxpool = model.fc = torch.nn.Identity()
    for m in model.modules():
        if silu and hasattr(m, "relu"):
            m.relu = torch.nn.SiLU()
    return model


class Cpc(torch.nn.Module):
    """Its parameters have the names of a checkpoint's weights."""

    def __init__(self, projector):
        super().__init__()
        self.encoder = backbone(silu=True)
        d = 12 if projector else 32
        if projector:
            self.projector = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.SiLU(), torch.nn.Linear(32, d))
        self.context = torch.nn.ModuleList([torch.nn.Conv2d(d, d, 3) for _ in range(4)] +
                                           [torch.nn.Conv2d(d, d, 1, bias=False)])
        self.predictor = torch.nn.ModuleList([torch.nn.Linear(d, d, bias=False) for _ in range(STEPS)])

    def forward(self, x, temperature):
        z = self.encoder(patches(x))
        if hasattr(self, "projector"):
            z = self.projector(z)
        z = z.reshape(len(x), GRID, GRID, -1)
        c = z.permute(0, 3, 1, 2)
        for layer in self.context[:-1]:
            c = c + F.silu(layer(F.pad(c[:, :, :-1], (1, 1, 2, 1))))
        c = self.context[-1](c).permute(0, 2, 3, 1)
        w = [p.weight.T for p in self.predictor]
        return defined(c, z, w, 0, torch.tensor(np.log(temperature)))


def patches(x):
    """[n][h][w] -> [n * patches][1][8][8], from the 16 x 16 pixels in use."""
    out = [x[:, 4 * i:4 * i + 8, 4 * j:4 * j + 8] for i in range(GRID) for j in range(GRID)]
    return torch.stack(out, 1).reshape(-1, 1, 8, 8)


def images_of(file, training_set):
    """Images, normalized by mean and std of the training set."""
    with h5py.File(file) as f, h5py.File(training_set) as training:
        x = f["images"][()].astype("f8").reshape(-1, SIDE, SIDE) / 255
        return torch.tensor((x - training.attrs["mean"][0]) / training.attrs["std"][0])


def steps():
    """Every batch has all images, so their order does not matter."""
    for i, (target, temperature) in enumerate((("features", 1.0), ("projector", 0.5))):
        file = job(f"torch{i}", "few", f", target: {target}, temperature: {temperature}",
                   "encoder: {width: 0.0625, activation: silu, projector: {dim: 12}}\n"
                   "optimizer: {name: sgd, lr: 0.002, momentum: 0.9, weight_decay: 0.01, decay_bn_bias: true}\n"
                   "schedule: {steps: 3, shape: constant}\naugment: {preset: none}\n"
                   "checkpoint: {every_steps: 1, keep: 9}\n")
        common.run(2, "pretrain", file)
        start, end = (weights_of(path(f"torch{i}/checkpoints/step-00000000{s}.h5")) for s in (0, 3))
        model = Cpc(target == "projector").double()
        names = {n.replace("/", "."): n for n in start}
        assert set(names) == set(model.state_dict()), set(names) ^ set(model.state_dict())
        model.load_state_dict({n: torch.tensor(start[p]) for n, p in names.items()})
        optimizer = torch.optim.SGD(model.parameters(), lr=0.002, momentum=0.9, weight_decay=0.01)
        x = images_of(path("few.h5"), path("few.h5"))
        for _ in range(3):
            optimizer.zero_grad()
            value = model(x, temperature)
            value.backward()
            optimizer.step()
        off = moved = 0.0
        for n, v in model.state_dict().items():
            want, got, was = v.numpy(), end[names[n]], start[names[n]]
            if "running" in n:
                assert np.abs(got - want).max() <= 1e-3 * np.abs(want).max(), f"{target}: {n}"
            elif v.dtype == torch.float64:
                off += ((got - want) ** 2).sum()
                moved += ((want - was.astype("f8")) ** 2).sum()
        ratio = (off / moved) ** 0.5
        print(f"cpc, {target}: parameters off by {ratio:.1e} of the distance they moved, loss {float(value):.4f}")
        assert ratio <= 1e-3, f"{target}: off by {ratio}"


# ---- features ----

def features():
    """Features are the mean over patches, as in PyTorch with the checkpoint's weights; kNN uses the same
    features."""
    more = ("encoder: {width: 0.0625, activation: silu, projector: {dim: 12}}\n"
            "schedule: {epochs: 2}\naugment: {preset: digits}\nevaluate: {knn_every_epochs: 2, k: 10}\n")
    for i, target in enumerate(("features", "projector")):
        common.run(2, "pretrain", job(f"embed{i}", "train", f", target: {target}", more))
        model = Cpc(target == "projector").double().eval()
        start = weights_of(newest(f"embed{i}"))
        model.load_state_dict({n.replace("/", "."): torch.tensor(v) for n, v in start.items()})
        common.run(3, "embed", path(f"embed{i}"), "--data", path("test.h5"), "--out", path("e3.h5"))
        common.run(1, "embed", path(f"embed{i}"), "--data", path("test.h5"), "--out", path("e1.h5"))
        with torch.no_grad(), h5py.File(path("e3.h5")) as f, h5py.File(path("e1.h5")) as one:
            x = images_of(path("test.h5"), path("train.h5"))
            z = model.encoder(patches(x))
            want = {"features": z}
            if target == "projector":
                want["projections"] = model.projector(z)
            assert set(want) == {"features", "projections"} & set(f), set(f)
            for name, v in want.items():
                mean = v.reshape(len(x), GRID * GRID, -1).mean(1).numpy()
                assert np.array_equal(f[name][()], one[name][()]), f"{target}: {name} differ on 3 ranks"
                error = np.abs(f[name][()] - mean).max() / np.abs(mean).max()
                assert error <= 1e-4, f"{target}: {name} off by {error:.1e}"
        result = json.loads(re.search(r"\{.*\}", common.run(2, "evaluate", "knn", path(f"embed{i}"), "--train", path("train.h5"),
                                                  "--test", path("test.h5"), "--k", "10", "--json")).group(0))
        with open(path(f"embed{i}/metrics.jsonl")) as f:
            trained, = [m for m in map(json.loads, f) if "knn_top1" in m]
        assert result["dim"] == 32 and result["top1"] == trained["knn_top1"], (result, trained)


def memory():
    """The planned memory equals the memory held, within 2 %."""
    for method in ("", ", negatives: 7, target: projector"):
        shutil.rmtree(path("memory"), ignore_errors=True)
        common.run(3, "pretrain", job("memory", "train", method, "schedule: {steps: 3}\naugment: {preset: digits}\n"
                               "encoder: {width: 0.25}\nevaluate: {knn_every_epochs: 1}\n"))
        with open(path("memory/results/pretrain.json")) as f:
            for m in json.load(f)["memory"]:
                planned, held = m["planned_bytes"], m["held_bytes"]
                print(f"cpc{method}, rank {m['rank']}: planned {planned / 1e6:.2f} MB, held {held / 1e6:.2f}")
                assert abs(planned - held) <= 0.02 * held, method


def refused_jobs():
    file = job("bad", "train", "", "schedule: {steps: 1}\nencoder: {width: 0.0625}\n")
    for pattern, key in (
            (r"method\.grid: 8 .*\b17 x 17\b.*\b7\b", "method.grid=8"),
            (r"method\.steps: 3 .*\b3 x 3\b.*\b2\b", "method.steps=3"),
            (r"method\.skip: 2 .*\b3 .*\b1\b", "method.skip=2"),
            (r'method\.negatives: "some" .*\ball\b', "method.negatives=some"),
            (r"method\.temperature: 0 ", "method.temperature=0")):
        common.expect_lines(common.run(1, "pretrain", file, key, expect=78), pattern)
    for ranks, command in ((3, "pretrain"), (1, "plan")):
        common.expect_lines(common.run(ranks, command, file, "method.grid=8", expect=78), r"method\.grid: 8 .*\b7\b")
    assert not os.path.exists(path("bad")), "a refused job has a run directory"


try:
    torch.set_num_threads(1)
    losses()
    refused_arrays()
    prepare()
    traces()
    steps()
    features()
    memory()
    refused_jobs()
    print("ok")
finally:
    common.remove_scratch()
