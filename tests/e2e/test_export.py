#!/usr/bin/python3
"""`simile export` writes encoders that PyTorch loads strictly and that compute the features of `simile
embed`: every network, stem, activation and number of channels, every kind of method, every format, with
torchvision's ResNet and without.

simile-test: timeout 900
"""
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np
import torch
import torchvision
import torchvision.transforms.functional as F
from PIL import Image

SOURCE = os.environ["SIMILE_SOURCE"]
sys.path.append(os.path.join(SOURCE, "tests", "lib"))
import onnx_session  # noqa: E402
from exports import embedded, script  # noqa: E402
from program import simile  # noqa: E402

onnx_session.install()

random = np.random.RandomState(7)
PHOTOS = [(16, 16), (40, 24), (24, 41), (16, 63), (11, 13), (50, 17), (23, 22), (16, 17)]  # width, height
JOB = """run: run
data: {train: rgb.h5}
method: {name: simclr}
encoder: {arch: resnet18, stem: cifar, width: 0.0625, projector: {dim: 8}}
batch: 16
block: 8
schedule: {steps: 2}
augment: {preset: digits, size: 16}
"""


def images(channels):
    """16 images of 20 x 26, and photos of many sizes."""
    name = "rgb" if channels == 3 else "gray"
    x = random.randint(0, 256, (16, 20, 26, 3)).astype("u1")
    with h5py.File("raw.h5", "w") as f:
        f["images"] = x if channels == 3 else x[..., 0]
    simile("prepare", "raw.h5", "--out", name + ".h5")
    return x if channels == 3 else x[..., :1]


def photos():
    os.makedirs("photos/0")
    for i, size in enumerate(PHOTOS):
        small = random.randint(0, 256, (size[1] // 3 + 1, size[0] // 3 + 1, 3)).astype("u1")
        Image.fromarray(small).resize(size).save(f"photos/0/{i}.png")
    simile("prepare", "photos", "--out", "photos.h5")
    names = h5py.File("photos.h5")["name"].asstr()[()]
    return [Image.open(os.path.join("photos", n)) for n in names]


def close(what, got, want):
    error = np.abs(got - want).max() / np.abs(want).max()
    assert got.shape == want.shape and error <= 1e-4, f"{what}: largest relative difference {error}"


def outputs(net, transform, inputs):
    with torch.no_grad():
        return net(torch.stack([transform(x) for x in inputs])).numpy()


def check_features(what, directory, want, inputs):
    """Both ResNet classes give `want`, a dictionary of features and projections."""
    module = script(directory)
    for library in (torchvision, None):
        module.torchvision = library
        for name in want:
            net, transform = module.load_encoder(directory, projector=name == "projections")
            if not hasattr(net, "session"):
                resnet = next(m for m in net.modules() if hasattr(m, "layer4"))
                assert isinstance(resnet, torchvision.models.ResNet) == (library is not None)
            close(f"{what}, {name}, {library and 'torchvision'}", outputs(net, transform, inputs), want[name])
        differences = module.check_sample(directory)
        assert max(differences.values()) <= 1e-4, f"{what}: {differences}"


def rows(path):
    with open(os.path.join(SOURCE, path)) as f:
        return re.findall(r"^SIM_\w+\((\w+)\)", f.read(), re.M)


FORMATS = rows("src/export/exports.def")


def check_networks(gray, of_photos):
    """Each network with both stems; over these, both activations and numbers of channels alternate."""
    for i, arch in enumerate(rows("src/encoder/nets.def")):
        for j, stem in enumerate(("cifar", "imagenet")):
            is_gray, silu = (i + j) % 2, i % 2 == j
            data, inputs = ("gray.h5", gray) if is_gray else ("photos.h5", of_photos)
            words = [f"run=net-{arch}-{stem}", f"encoder.arch={arch}", f"encoder.stem={stem}",
                     f"encoder.activation={'silu' if silu else 'relu'}", f"encoder.width={0.0625 * (2 + i)}",
                     f"data.train={'gray.h5' if is_gray else 'rgb.h5'}", "encoder.projector.bn=true"]
            simile("pretrain", "job.yaml", *words)
            run, fmt = words[0][4:], FORMATS[i % len(FORMATS)]
            simile("export", run, "--out", "x-" + run, "--projector", "--format", fmt)
            check_features(run, "x-" + run, embedded(run, data), inputs)


def check_methods(of_photos):
    """Heads of every kind, the momentum encoder, and means over patches."""
    for name, words in {"mocov1": ["batchnorm.group=8"], "mocov3": ["encoder.projector.layers=3"],
                        "mocov2": ["encoder.projector.last_bn=true", "batchnorm.group=8"],
                        "cpc": ["method.grid=3", "method.steps=1", "method.target=projector"]}.items():
        queue = ["method.queue_size=64"] if name in ("mocov1", "mocov2") else []
        small = ["method.predictor_hidden=16"] if name == "mocov3" else []
        run = "run-" + name
        simile("pretrain", "job.yaml", f"run={run}", f"method.name={name}", *words, *queue, *small)
        simile("export", run, "--out", "x-" + run, "--projector")
        check_features(name, "x-" + run, embedded(run, "photos.h5"), of_photos)
        assert ("mean_over_patches" in json.load(open(f"x-{run}/encoder.json"))) == (name == "cpc")
    # The momentum encoder: the same networks with the weights in /momentum.
    for fmt in ("safetensors", "hdf5"):  # test_onnx.py: that of a graph
        simile("export", "run-mocov2", "--out", "m-" + fmt, "--projector", "--momentum", "--format", fmt)
        metadata, encoder, projector, _ = script("m-" + fmt).read_export("m-" + fmt)
        assert metadata["weights"] == "momentum encoder" and metadata["step"] == 2
        with h5py.File(newest("run-mocov2")) as f:
            for group, arrays in (("encoder", encoder), ("projector", projector)):
                stored = f["momentum/" + group]
                assert set(arrays) == set(stored)
                assert all(np.array_equal(a, stored[n][()]) for n, a in arrays.items())
            assert not np.array_equal(encoder["conv1.weight"], f["weights/encoder/conv1.weight"][()])
        differences = script("m-" + fmt).check_sample("m-" + fmt)
        assert set(differences) == {"features", "projections"} and max(differences.values()) <= 1e-4, differences


def newest(run):
    return os.path.join(run, "checkpoints", open(f"{run}/checkpoints/latest").read().strip())


def check_plain_torchvision(of_photos):
    """Weights and transform without load_encoder.py: the file as the format defines it, torchvision's class and
    torchvision's preprocessing."""
    simile("pretrain", "job.yaml", "run=wide", "encoder.width=1", "encoder.stem=imagenet", "schedule.steps=1")
    simile("export", "wide", "--out", "x-wide")
    data = open("x-wide/encoder.safetensors", "rb").read()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + n])
    texts = header.pop("__metadata__")
    assert texts["format"] == "pt" and json.loads(texts["simile"]) == json.load(open("x-wide/encoder.json"))
    state = {}
    for name, t in header.items():
        begin, end = (8 + n + o for o in t["data_offsets"])
        state[name] = torch.tensor(np.frombuffer(data[begin:end], {"F32": "<f4", "I64": "<i8"}[t["dtype"]])).reshape(t["shape"])
    net = torchvision.models.resnet18()
    net.fc = torch.nn.Identity()
    net.load_state_dict(state, strict=True)
    p = json.loads(texts["simile"])["preprocessing"]
    inputs = [torch.tensor(np.asarray(x)).permute(2, 0, 1).float() / 255 for x in of_photos]
    inputs = [F.normalize(F.center_crop(F.resize(x, 16, antialias=True), 16), p["mean"], p["std"]) for x in inputs]
    with torch.no_grad():
        close("plain torchvision", net.eval()(torch.stack(inputs)).numpy(), embedded("wide", "photos.h5")["features"])
    _, transform = script("x-wide").load_encoder("x-wide")
    for x, photo in zip(inputs, of_photos):
        for given in (photo, np.asarray(photo), photo.convert("RGBA")):
            assert torch.allclose(transform(given), x, atol=2e-6), photo.size
    flipped = Image.fromarray(np.asarray(of_photos[1])[:, ::-1])  # EXIF: mirrored
    exif = flipped.getexif()
    exif[0x0112] = 2
    flipped.save("mirrored.png", exif=exif)
    assert torch.allclose(transform(Image.open("mirrored.png")), inputs[1], atol=2e-6)
    for bad in (np.zeros((20, 20, 4), "u1"), np.zeros((20, 20), "u1"), np.zeros((20, 20, 3), "f4"), Image.new("I", (20, 20))):
        with contextlib.suppress(ValueError):
            transform(bad)
            raise AssertionError("the image is not refused")


def sums(directory):
    return {n: hashlib.sha256(open(os.path.join(directory, n), "rb").read()).hexdigest() for n in os.listdir(directory)}


def check_bits():
    """The files depend neither on time nor on ranks nor on the path of the run, and replace older ones."""
    for fmt in FORMATS:
        simile("export", "run", "--out", f"a-{fmt}", "--projector", "--format", fmt)
        before = sums(f"a-{fmt}")
        time.sleep(1.1)
        simile("export", "run", "--out", f"a-{fmt}", "--projector", "--format", fmt)
        assert sums(f"a-{fmt}") == before, fmt
        shutil.copytree("run", f"copy-{fmt}")
        simile("export", newest(f"copy-{fmt}"), "--out", f"b-{fmt}/deep", "--projector", "--format", fmt, ranks=2)
        assert sums(f"b-{fmt}/deep") == before, fmt
        # Another export in the same directory.
        simile("export", "run", "--out", f"a-{fmt}", "--format", fmt)
        assert sums(f"a-{fmt}") != before and "projections" not in script(f"a-{fmt}").check_sample(f"a-{fmt}")


def refused(code, *words, word):
    done = simile("export", *words, code=code)
    assert word in done.stderr, f"{words}: {word} is not in\n{done.stderr}"


def check_refusals():
    refused(66, "absent", "--out", "none", word="absent")
    refused(64, "run", "--out", "none", "--format", "tflite", word="safetensors")
    refused(64, "run", "--out", "none", "--momentum", word="simclr")
    simile("pretrain", "job.yaml", "run=bare", "method.name=cpc", "method.grid=3", "method.steps=1")
    refused(64, "bare", "--out", "none", "--projector", word="cpc")
    assert not os.path.exists("none")
    open("file", "w").write("text")
    refused(73, "run", "--out", "file", word="file")
    refused(73, "run", "--out", "file/below", word="file")
    names = {"safetensors": ["encoder.safetensors", "sample.safetensors"], "hdf5": ["encoder.h5"],
             "onnx": ["encoder.onnx", "sample.safetensors"]}
    for fmt in FORMATS:
        for name in names[fmt] + ["load_encoder.py", "encoder.json"]:
            os.makedirs("mine", exist_ok=True)
            open(f"mine/{name}", "w").write("{}\n")
            refused(73, "run", "--out", "mine", "--format", fmt, word=f"mine/{name}")
            assert os.listdir("mine") == [name] and open(f"mine/{name}").read() == "{}\n"
            simile("export", "run", "--out", "mine", "--format", fmt, "--force")
            assert sums("mine").keys() == sums(f"a-{fmt}").keys()
            shutil.rmtree("mine")
    # A script that the user has changed is kept; files of other names never matter.
    simile("export", "run", "--out", "mine")
    open("mine/notes.txt", "w").write("notes")
    open("mine/load_encoder.py", "a").write("# mine\n")
    refused(73, "run", "--out", "mine", word="mine/load_encoder.py")
    simile("export", "run", "--out", "mine", "--force")
    assert open("mine/notes.txt").read() == "notes" and "# mine" not in open("mine/load_encoder.py").read()


def load(directory):
    return subprocess.run(["/usr/bin/python3", f"{directory}/load_encoder.py", directory], capture_output=True, text=True)


def check_script():
    """The script as a program: 0, and 1 if a weight or a file is not that of the export."""
    simile("export", "run", "--out", "good", "--projector")
    done = load("good")
    assert done.returncode == 0 and re.search(r"features: .* 1e-04; torchvision", done.stdout), done
    assert "projections: " in done.stdout
    shutil.copytree("good", "bad")
    with open("bad/encoder.safetensors", "r+b") as f:
        f.seek(-4, os.SEEK_END)
        f.write(np.float32(1e3).tobytes())
    done = load("bad")
    assert done.returncode == 1 and "projections: " in done.stdout, done
    shutil.copy("x-wide/sample.safetensors", "bad/sample.safetensors")  # as if interrupted
    done = load("bad")
    assert done.returncode == 1 and "different exports" in done.stderr, done
    shutil.copy("good/sample.safetensors", "bad/sample.safetensors")
    os.truncate("bad/encoder.safetensors", os.path.getsize("bad/encoder.safetensors") - 4)
    done = load("bad")
    assert done.returncode == 1 and "truncated" in done.stderr, done


def check_init():
    """`pretrain --init` starts from encoder.h5."""
    simile("export", "run", "--out", "h5", "--format", "hdf5", "--projector")
    simile("pretrain", "job.yaml", "run=tuned", "--init", "h5/encoder.h5")
    with h5py.File("tuned/checkpoints/step-000000000.h5") as f, h5py.File("h5/encoder.h5") as g:
        for group in ("encoder", "projector"):
            for name in g["weights/" + group]:
                assert np.array_equal(f[f"weights/{group}/{name}"][()], g[f"weights/{group}/{name}"][()]), name
        assert bytes(f["preprocessing"][()]) == bytes(g["preprocessing"][()])


def check_old_checkpoints():
    """A checkpoint without preprocessing needs its training set."""
    shutil.copytree(os.path.join(SOURCE, "tests/golden/0.2.0-alpha"), "old")
    run = "old/run/checkpoints"
    subprocess.run(["xz", "-d", *(f"{run}/{f}" for f in os.listdir(run) if f.endswith(".xz"))], check=True)
    refused(65, "old/run", "--out", "x-old", word="--train")
    simile("export", "old/run", "--out", "x-old", "--train", "old/train.h5")
    assert max(script("x-old").check_sample("x-old").values()) <= 1e-4


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    sys.dont_write_bytecode = True
    images(3)
    gray, of_photos = images(1), photos()
    open("job.yaml", "w").write(JOB)
    simile("pretrain", "job.yaml")
    check_networks(gray, of_photos)
    check_methods(of_photos)
    check_plain_torchvision(of_photos)
    check_bits()
    check_refusals()
    check_script()
    check_init()
    check_old_checkpoints()
print("ok")
