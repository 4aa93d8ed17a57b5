#!/usr/bin/python3
"""`simile export --format onnx`: the checker of ONNX accepts the graphs, and they compute the features of `simile
embed` in an evaluator of their operators by PyTorch: every network and stem, batch norms as nodes and folded, any
number of images and a fixed one, with the projector, the momentum encoder, and means over patches.

simile-test: timeout 900
"""
import json
import os
import sys
import tempfile

import h5py
import numpy as np
import onnx
import torch

SOURCE = os.environ["SIMILE_SOURCE"]
sys.path.append(os.path.join(SOURCE, "tests", "lib"))
sys.dont_write_bytecode = True
import onnx_session  # noqa: E402
from exports import embedded, script  # noqa: E402
from program import simile  # noqa: E402

onnx_session.install()
random = np.random.RandomState(9)
largest = 0.0
JOB = """run: run
data: {train: rgb.h5}
method: {name: simclr}
encoder: {arch: resnet18, stem: cifar, width: 0.25, projector: {dim: 8}}
batch: 16
block: 8
schedule: {steps: 3}
augment: {preset: digits, size: 32}
"""
RUNS = {
    "cifar-18": [], "imagenet-18": ["encoder.stem=imagenet", "encoder.width=0.5", "augment.size=48"],
    "cifar-50": ["encoder.arch=resnet50", "encoder.projector.bn=true", "encoder.projector.layers=3", "encoder.activation=silu"],
    "gray": ["data.train=gray.h5", "encoder.arch=resnet34", "encoder.stem=imagenet", "encoder.projector.last_bn=true"],
    "mocov3": ["method.name=mocov3", "method.predictor_hidden=16", "encoder.projector.layers=3"],
    "cpc": ["method.name=cpc", "method.grid=3", "method.steps=1", "method.target=projector"],
}


def prepare(name, shape):
    with h5py.File("raw.h5", "w") as f:
        f["images"] = random.randint(0, 256, shape).astype("u1")
    simile("prepare", "raw.h5", "--out", name)
    with h5py.File("raw.h5") as f:
        return f["images"][()].reshape(*shape[:3], -1)


def check_outputs(what, directory, want, images):
    """Through load_encoder.py, whose transform is that of `embed`."""
    global largest
    module = script(directory)
    for name in want:
        net, transform = module.load_encoder(directory, projector=name == "projections")
        got = net(torch.stack([transform(x) for x in images])).numpy()
        error = np.abs(got - want[name]).max() / np.abs(want[name]).max()
        largest = max(largest, error)
        assert got.shape == want[name].shape and error <= 1e-5, f"{what}, {name}: {error}"
    assert max(module.check_sample(directory).values()) <= 1e-5


def check_graph(directory, folded, batch, metadata):
    model = onnx.load(f"{directory}/encoder.onnx")
    assert model.ir_version == 7 and [(o.domain, o.version) for o in model.opset_import] == [("", 13)]
    assert {p.key: json.loads(p.value) for p in model.metadata_props} == {"simile": metadata}
    assert metadata["batchnorm_folded"] == folded and metadata["batch"] == batch
    p, session = metadata["preprocessing"], onnx_session.InferenceSession(f"{directory}/encoder.onnx")
    first = "batch" if batch == "free" else batch
    (images,) = session.graph.input
    assert images.name == "images" and session.dims(images) == [first, p["channels"], p["height"], p["width"]]
    outputs = {o.name: session.dims(o) for o in session.graph.output}
    assert outputs == {n: [first, metadata[n]] for n in ("features", "projections")}
    assert any(n.op_type == "BatchNormalization" for n in session.graph.node) != folded
    return session.graph


def check_names(graph, run):
    """Constants of a graph with batch norms have the names and the values of encoder.safetensors."""
    simile("export", run, "--out", "names", "--projector", "--force")
    arrays, _ = script("names").read_safetensors("names/encoder.safetensors")
    for t in graph.initializer:
        if t.name in arrays:
            assert np.array_equal(onnx.numpy_helper.to_array(t), arrays.pop(t.name)), t.name
        else:
            assert t.name.endswith((".ones", ".zeros", ".starts", ".ends", ".axes", ".shape")), t.name
    assert all(n.endswith("num_batches_tracked") for n in arrays), arrays.keys()


def check_runs(sets):
    for i, (run, words) in enumerate(RUNS.items()):
        data = "gray.h5" if run == "gray" else "rgb.h5"
        simile("pretrain", "job.yaml", f"run={run}", *words)
        want = embedded(run, data)
        assert want.keys() == {"features", "projections"}
        for folded in (False, True):
            batch = "free" if folded == (i % 2 == 0) else 5  # 16 images are no multiple of 5
            out = f"x-{run}-{folded}"
            simile("export", run, "--format", "onnx", "--projector", "--out", out, "--batch", str(batch),
                   *(["--fold-batchnorm"] if folded else []))
            graph = check_graph(out, folded, batch, json.load(open(f"{out}/encoder.json")))
            check_outputs(f"{run}, folded {folded}, batch {batch}", out, want, sets[data])
            if not folded:
                check_names(graph, run)


def check_momentum():
    words = ["method.name=mocov2", "method.queue_size=64", "batchnorm.group=8", "method.momentum=0.5"]
    simile("pretrain", "job.yaml", "run=moco", *words)
    features = []
    for option in ([], ["--momentum"]):
        simile("export", "moco", "--format", "onnx", "--out", "x-moco", *option)
        module = script("x-moco")
        assert module.check_sample("x-moco")["features"] <= 1e-5
        features.append(module.read_export("x-moco")[3]["features"])
        try:
            module.load_encoder("x-moco", projector=True)
            raise AssertionError("the graph has no projector")
        except ValueError as e:
            assert "--projector" in str(e)
    assert not np.allclose(*features)


def check_changed_graph():
    """check_sample notices another weight, and the graph of another export."""
    simile("export", "cifar-18", "--format", "onnx", "--out", "changed")
    module = script("changed")
    model = onnx.load("changed/encoder.onnx")
    (t,) = [t for t in model.graph.initializer if t.name == "layer4.1.bn2.bias"]
    t.raw_data = (onnx.numpy_helper.to_array(t) + 1).astype("f4").tobytes()
    onnx.save(model, "changed/encoder.onnx")
    assert module.check_sample("changed")["features"] > 1e-2
    simile("export", "cifar-50", "--format", "onnx", "--out", "changed")
    onnx.save(model, "changed/encoder.onnx")
    try:
        module.check_sample("changed")
        raise AssertionError("the graph is of another export")
    except ValueError as e:
        assert "different exports" in str(e)


def check_options():
    for words in (["--batch", "4"], ["--fold-batchnorm"], ["--format", "hdf5", "--fold-batchnorm"],
                  *(["--format", "onnx", "--batch", n] for n in ("0", "-1", "4x", "1.5", "", "99999999999999999999"))):
        simile("export", "cifar-18", "--out", "none", *words, code=64)
    assert not os.path.exists("none")
    os.makedirs("mine")
    open("mine/encoder.onnx", "w").write("mine")
    done = simile("export", "cifar-18", "--format", "onnx", "--out", "mine", code=73)
    assert "mine/encoder.onnx" in done.stderr and os.listdir("mine") == ["encoder.onnx"]


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    torch.set_num_threads(1)
    sets = {"rgb.h5": prepare("rgb.h5", (16, 70, 66, 3)), "gray.h5": prepare("gray.h5", (16, 32, 40))}
    open("job.yaml", "w").write(JOB)
    check_runs(sets)
    check_momentum()
    check_changed_graph()
    check_options()
print(f"largest relative difference {largest:.1e}")
print("ok")
