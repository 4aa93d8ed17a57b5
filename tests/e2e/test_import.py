#!/usr/bin/python3
"""`embed`, `evaluate` and `pretrain --init` read safetensors files: torchvision's ResNets, whose features
equal those of PyTorch, and encoders of `simile export`, on 1 and 2 ranks. Other files are refused.

simile-test: timeout 1200
"""
import json
import os
import re
import sys
import tempfile

import h5py
import numpy as np
import torch
import torchvision
import torchvision.transforms.functional as F

SOURCE = os.environ["SIMILE_SOURCE"]
sys.path.append(os.path.join(SOURCE, "tests", "lib"))
from program import simile  # noqa: E402

random = np.random.RandomState(3)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NAMES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "BOOL": "?"}
JOB = """run: run
data: {train: rgb.h5}
method: {name: simclr}
encoder: {arch: resnet18, stem: cifar, width: 0.0625, projector: {dim: 8}}
batch: 16
block: 8
schedule: {steps: 2}
augment: {preset: digits, size: 16}
"""


def write(path, tensors, metadata=None, header=None):
    """tensors: name -> (dtype of the format, array). `header` changes the header before it is written."""
    head, at = {"__metadata__": metadata} if metadata else {}, 0
    for name, (dtype, a) in tensors.items():
        head[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    if header:
        header(head)
    text = json.dumps(head).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + b"".join(a.tobytes() for _, a in tensors.values()))


def read(path):
    data = open(path, "rb").read()
    n = int.from_bytes(data[:8], "little")
    head = json.loads(data[8:8 + n])
    metadata, tensors = head.pop("__metadata__", None), {}
    for name, t in head.items():
        begin, end = (8 + n + o for o in t["data_offsets"])
        tensors[name] = t["dtype"], np.frombuffer(data[begin:end], NAMES[t["dtype"]]).reshape(t["shape"]).copy()
    return tensors, metadata


def of_state(net):
    return {n: ("I64" if a.dtype == torch.int64 else "F32", a.numpy()) for n, a in net.state_dict().items()}


def features(model, data="rgb.h5", ranks=1):
    done = simile("embed", model, "--data", data, "--out", "e.h5", "--force", ranks=ranks)
    with h5py.File("e.h5") as f:
        return {n: f[n][()] for n in ("features", "projections") if n in f}, done.stderr


def prepare(name, shape):
    x = random.randint(0, 256, shape).astype("u1")
    with h5py.File("raw.h5", "w") as f:
        f["images"], f["labels"] = x, np.arange(len(x)) % 2
    simile("prepare", "raw.h5", "--out", name)
    return x


def check_torchvision(rgb):
    """Features of the full networks, with the preprocessing of torchvision's ImageNet weights."""
    x = torch.tensor(rgb).permute(0, 3, 1, 2).float() / 255
    x = F.normalize(F.center_crop(F.resize(x, 256, antialias=True), 224), MEAN, STD)
    for arch in ("resnet18", "resnet50"):
        torch.manual_seed(5)
        net = getattr(torchvision.models, arch)()
        with torch.no_grad():
            net.train()(x)  # running statistics of these images
        write(f"{arch}.safetensors", of_state(net))
        net.fc = torch.nn.Identity()
        with torch.no_grad():
            want = net.eval()(x).numpy()
        for ranks in (1, 2):
            got, log = features(f"{arch}.safetensors", ranks=ranks)
            error = np.abs(got["features"] - want).max() / np.abs(want).max()
            print(f"{arch}, {ranks} ranks: largest relative difference {error:.1e}")
            assert error <= 1e-5 and "projections" not in got, f"{arch}: {error}"
            for word in (arch, "imagenet stem", "width 1", "2 tensors are not used: fc.weight, fc.bias", "256", "0.485"):
                assert log.count(word) >= 1, f"{word} is not in\n{log}"
            assert log.count("not used") == 1


def check_evaluations():
    """The same results as from the embedded features."""
    simile("embed", "resnet18.safetensors", "--data", "rgb.h5", "--out", "f.h5")
    of_model = json.loads(simile("evaluate", "knn", "resnet18.safetensors", "--train", "rgb.h5", "--test", "rgb.h5",
                                 "--json", ranks=2).stdout)
    of_file = json.loads(simile("evaluate", "knn", "--features", "f.h5", "f.h5", "--k", str(of_model["k"]), "--temperature",
                                str(of_model["temperature"]), "--json").stdout)
    assert of_model["top1"] == of_file["top1"] and of_model["dim"] == 512
    done = simile("evaluate", "knn", "resnet18.safetensors", code=78)
    assert "--train" in done.stderr
    simile("evaluate", "quality", "resnet18.safetensors", "--test", "rgb.h5")


def check_documented_line():
    """The lines of jobs/README.md that write a file without the package safetensors."""
    text = open(os.path.join(SOURCE, "jobs/README.md"), encoding="utf-8").read()
    lines = re.search(r"```python\n(import json, torchvision\n.*?)```", text, re.S).group(1)
    torch.manual_seed(5)
    exec(lines.replace('weights="DEFAULT"', "weights=None"), {})
    torch.manual_seed(5)
    of_lines, of_writer = read("resnet50.safetensors")[0], of_state(torchvision.models.resnet50())
    assert of_lines.keys() == of_writer.keys()
    assert all(np.array_equal(of_lines[n][1], of_writer[n][1]) for n in of_lines)
    assert features("resnet50.safetensors")[0]["features"].shape[1] == 2048


def drawn(tensors):
    """Other values of the same shapes; variances are positive."""
    out = {}
    for name, (_, a) in tensors.items():
        x = random.randn(*a.shape) * 0.1
        out[name] = x * x + 0.5 if name.endswith(("running_var", "bn1.weight", "bn2.weight", "downsample.1.weight")) else x
    return out


def stored(checkpoint, group="encoder"):
    with h5py.File(checkpoint) as f:
        return {n: a[()] for n, a in f["weights/" + group].items()}


def check_dtypes(small):
    """A run starts with the values as NumPy converts them to float32."""
    values = drawn({n: t for n, t in small.items() if not n.endswith("tracked")})
    values["conv1.weight"].flat[:4] = [2.0**-24, -3 * 2.0**-24, 65504, -0.0]  # the limits of F16
    for i, dtype in enumerate(("F64", "F32", "F16", "BF16")):
        if dtype == "BF16":
            given = {n: (a.astype("<f4").view("<u4") >> 16).astype("<u2") for n, a in values.items()}
            want = {n: (a.astype("<u4") << 16).view("<f4") for n, a in given.items()}
        else:
            given = {n: a.astype(NAMES[dtype]) for n, a in values.items()}
            want = {n: a.astype("<f4") for n, a in given.items()}
        write("small.safetensors", {n: (dtype, a) for n, a in given.items()})
        done = simile("pretrain", "job.yaml", f"run=of-{dtype}", "--init", "small.safetensors", ranks=1 + i % 2)
        got = stored(f"of-{dtype}/checkpoints/step-000000000.h5")
        for n in want:
            assert got[n].tobytes() == want[n].tobytes(), f"{dtype}: {n}"
        assert "mean and std" in done.stderr  # the file does not specify them


def check_normalization():
    """A run from ImageNet weights is normalized by their mean and std, and has views of their size."""
    words = ["encoder.arch=resnet18", "encoder.stem=imagenet", "encoder.width=1", "--init", "resnet18.safetensors"]
    assert "augment.size=224" in simile("pretrain", "job.yaml", "run=size", "augment.size=0", *words, code=78).stderr
    simile("pretrain", "job.yaml", "run=tuned", "augment.size=32", "schedule.steps=1", *words)
    with h5py.File("tuned/checkpoints/step-000000001.h5") as f:
        p = json.loads(bytes(f["preprocessing"][()]))
    assert p["mean"] == MEAN and p["std"] == STD and p["height"] == 32 and "256" not in p["resize"]
    want = read("resnet18.safetensors")[0]
    for n, a in stored("tuned/checkpoints/step-000000000.h5").items():
        assert n.endswith("tracked") or np.array_equal(a, want[n][1]), n


def check_exports():
    """An export gives the features of its run in the same bits, whatever the method."""
    for name, words in {"run": [], "run-mocov3": ["method.name=mocov3", "method.predictor_hidden=16", "augment.size=0"],
                        "run-cpc": ["method.name=cpc", "method.grid=3", "method.steps=1", "method.target=projector"],
                        "run-thin": ["encoder.width=0.1", "encoder.activation=silu", "encoder.projector.bn=true",
                                     "augment.view1=[{op: crop, scale_min: 0.3}, flip]"]}.items():
        simile("pretrain", "job.yaml", f"run={name}", *words)
        simile("export", name, "--out", "x-" + name, "--projector")
        want, _ = features(name)
        for ranks in (1, 2):
            got, _ = features(f"x-{name}/encoder.safetensors", ranks=ranks)
            assert got.keys() == want.keys() == {"features", "projections"}
            assert all(np.array_equal(got[n], want[n]) for n in want), name
        of_run, of_file = (json.loads(simile("evaluate", "quality", m, "--test", "rgb.h5", "--json").stdout)
                           for m in (name, f"x-{name}/encoder.safetensors"))
        assert all(of_run[k] == of_file[k] for k in ("rankme", "alignment", "step")), name
        inspected = json.loads(simile("inspect", f"x-{name}/encoder.safetensors", "--json").stdout)
        assert inspected["step"] == of_run["step"] and inspected["preprocessing"]["channels"] == 3, inspected
    simile("pretrain", "job.yaml", "run=from-export", "--init", "x-run/encoder.safetensors", ranks=2)
    for group in ("encoder", "projector"):
        want, got = (stored(f"{r}/checkpoints/step-00000000{s}.h5", group) for r, s in (("run", 2), ("from-export", 0)))
        assert all(np.array_equal(got[n], want[n]) for n in want if not n.endswith("tracked")), group


def check_given_preprocessing(small):
    """The text "preprocessing" in the metadata of a file of another program."""
    p = json.load(open("x-run/encoder.json"))["preprocessing"]
    short = {k: p[k] for k in ("height", "width", "mean", "std")}
    encoder = {n: t for n, t in small.items() if not n.startswith("projector.")}
    write("given.safetensors", encoder, {"format": "pt", "preprocessing": json.dumps(short)})
    assert np.array_equal(features("given.safetensors")[0]["features"], features("run")[0]["features"])
    for bad in ("{", "[]", "{}", json.dumps({**short, "height": 0}), json.dumps({**short, "mean": [1]}),
                json.dumps({**short, "channels": 1, "mean": [0], "std": [1]})):
        write("given.safetensors", encoder, {"preprocessing": bad})
        refused(65, "preprocessing", path="given.safetensors")
    write("given.safetensors", encoder, {"preprocessing": json.dumps({**short, "resize": "nearest"})})
    refused(69, "nearest", path="given.safetensors")


def refused(code, *words, path="bad.safetensors", init=True, ranks=1):
    """In turn by embed and by pretrain --init."""
    refused.calls += 1
    if init and refused.calls % 2:
        done = simile("pretrain", "job.yaml", "run=none", "--init", path, code=code, ranks=ranks)
    else:
        done = simile("embed", path, "--data", "rgb.h5", "--out", "none.h5", code=code, ranks=ranks)
    for w in (path, *words):
        assert w in done.stderr, f"{w} is not in\n{done.stderr}"
    assert not os.path.exists("none.h5")


refused.calls = 0


def changed(small, **changes):
    """Replaces tensors; None removes one. Dots in names are written as two underscores."""
    out = dict(small)
    for name, t in changes.items():
        name = name.replace("__", ".")
        if t is None:
            del out[name]
        else:
            out[name] = t
    return out


def check_refusals(small):
    encoder = {n: t for n, t in small.items() if not n.startswith("projector.")}
    x = {n: a for n, (_, a) in encoder.items()}

    def given(code, *words, tensors=encoder, metadata=None, header=None, **how):
        write("bad.safetensors", tensors, metadata, header)
        refused(code, *words, **how)

    # A file of another network, names, shapes and types.
    given(65, "preprocessing", init=False)  # the CIFAR stem has no preprocessing that could be assumed
    given(65, "1 missing: layer1.0.bn1.bias", "resnet18", tensors=changed(encoder, layer1__0__bn1__bias=None), ranks=2)
    given(65, "2 unknown: conv9.weight, module.bn1.bias", tensors={**encoder, "conv9.weight": encoder["bn1.bias"],
                                                                   "module.bn1.bias": encoder["bn1.bias"]})
    many = {**encoder, **{f"extra{i}": encoder["bn1.bias"] for i in range(30)}}
    given(65, "30 unknown: extra0, extra1, extra2, extra3, extra4, extra5, extra6, extra7, extra8, extra9 ...", tensors=many)
    given(65, "layer2.0.conv1.weight (8 x 8 x 3 x 1, expected 8 x 8 x 3 x 3)",
          tensors=changed(encoder, layer2__0__conv1__weight=("F32", x["layer2.0.conv1.weight"][..., :1].copy())))
    given(65, "conv1.weight has the shape 8 x 3 x 5 x 5", tensors=changed(encoder, conv1__weight=("F32", np.zeros((8, 3, 5, 5), "f4"))))
    given(65, "no tensor conv1.weight", tensors={"bert.embeddings.weight": ("F32", np.zeros((4, 4), "f4"))})
    given(65, "no tensor conv1.weight", tensors={"module." + n: t for n, t in encoder.items()})
    given(65, "no tensor conv1.weight", tensors={})
    given(65, "layer4.0.conv1.weight", tensors=changed(encoder, layer4__0__conv1__weight=("F32", np.zeros((0, 16, 3, 3), "f4"))))
    for dtype in ("I32", "I64", "BOOL"):
        given(65, f"conv1.weight has dtype {dtype}", "F32, F16, BF16 or F64",
              tensors=changed(encoder, conv1__weight=(dtype, x["conv1.weight"].astype(NAMES[dtype]))))
    # Values; the statistics of embed and --init come through the same checks.
    bad = x["bn1.running_var"].copy()
    bad[3] = -1
    p = json.dumps({"height": 16, "width": 16, "mean": MEAN, "std": STD})
    given(65, "bn1.running_var", "-1", tensors=changed(encoder, bn1__running_var=("F32", bad)), metadata={"preprocessing": p})
    bad = x["conv1.weight"].astype("<f8")
    bad[0, 0, 0, 0] = 1e300
    given(65, "conv1.weight", "finite", tensors=changed(encoder, conv1__weight=("F64", bad)), metadata={"preprocessing": p})
    # Metadata of exports.
    own = read("x-run/encoder.safetensors")[1]["simile"]
    for bad in ("{", "{}", json.dumps({"format": "other", "format_version": 1})):
        given(65, "metadata", metadata={"simile": bad})
    m = json.loads(own)
    for key, value in (("width", 1e300), ("width", "wide"), ("identity", None), ("identity", []), ("preprocessing", 3),
                       ("identity", {**m["identity"], "method.name": "simclr\nrun: x"}),
                       ("identity", {**m["identity"], "k" * 500: 1})):
        given(65, key if key != "identity" else "metadata", tensors=small, metadata={"simile": json.dumps({**m, key: value})})
    given(69, "version 2", metadata={"simile": json.dumps({**m, "format_version": 2})})
    given(78, "encoder.width", tensors=small, init=False, metadata={"simile": json.dumps({**m, "identity": {**m["identity"], "encoder.width": 99}})})
    given(65, "is not a tensor of a projector", tensors={**small, "projector./a": small["projector.0.weight"]}, metadata={"simile": own})
    given(65, "8 x 3 x 3 x 3", tensors=small, init=False, metadata={"simile": json.dumps({**m, "identity": {**m["identity"], "encoder.width": 1}})})
    # The format.
    write("good.safetensors", encoder)
    data = open("good.safetensors", "rb").read()
    for i, cut in enumerate((0, 7, 8, 100, len(data) // 2, len(data) - 1)):
        open("bad.safetensors", "wb").write(data[:cut])
        refused(65, ranks=1 + i % 2)
    open("bad.safetensors", "wb").write((1 << 63).to_bytes(8, "little") + data[8:])
    refused(65, "header")
    given(65, "data_offsets", header=lambda h: h["conv1.weight"].update(data_offsets=[0, 1 << 62]))
    given(65, "address space", header=lambda h: h["conv1.weight"].update(shape=[1 << 40, 1 << 40]))
    open("bad.safetensors", "wb").write(open("rgb.h5", "rb").read())
    refused(65, "not a safetensors file")
    # Files of other kinds.
    torch.save({"a": torch.zeros(3)}, "net.pth")
    refused(65, "PyTorch", "safetensors.torch.save_file", path="net.pth")
    refused(66, path="absent.safetensors")
    os.makedirs("directory.safetensors")
    refused(66, path="directory.safetensors", init=False)
    # Another network than the job's, other images, and commands for checkpoints.
    done = simile("pretrain", "job.yaml", "run=none", "--init", "resnet18.safetensors", code=65, ranks=2)
    assert "64 x 3 x 7 x 7, expected 8 x 3 x 3 x 3" in done.stderr
    done = simile("embed", "resnet18.safetensors", "--data", "gray.h5", "--out", "none.h5", code=65)
    assert "gray.h5" in done.stderr
    done = simile("embed", "resnet18.safetensors", "--data", "rgb.h5", "--out", "resnet18.safetensors", code=64)
    for words in (["export", "resnet18.safetensors", "--out", "none"],
                  ["embed", "run", "--data", "resnet18.safetensors", "--out", "none.h5"],
                  ["pretrain", "job.yaml", "run=none", "--resume", "resnet18.safetensors"]):
        assert "safetensors file" in simile(*words, code=65).stderr, words
    assert json.loads(simile("inspect", "resnet18.safetensors", "--json").stdout)["preprocessing"]["height"] == 224
    assert not os.path.exists("none")


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    rgb = prepare("rgb.h5", (16, 40, 52, 3))
    prepare("gray.h5", (4, 20, 20))
    open("job.yaml", "w").write(JOB)
    check_torchvision(rgb)
    check_evaluations()
    check_normalization()
    check_exports()
    small, _ = read("x-run/encoder.safetensors")
    check_dtypes({n: t for n, t in small.items() if not n.startswith("projector.")})
    check_given_preprocessing(small)
    check_refusals(small)
    check_documented_line()
print("ok")
