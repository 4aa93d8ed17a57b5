#!/usr/bin/env python3
"""Loads an encoder that `simile export` wrote. It needs torch 1.11 or newer and NumPy, h5py for
encoder.h5, onnxruntime for encoder.onnx, and uses torchvision's ResNet if torchvision is installed.

    from load_encoder import load_encoder
    encoder, transform = load_encoder("DIRECTORY")
    features = encoder(transform(image).unsqueeze(0))

`encoder` is torchvision's ResNet in evaluation mode with fc = Identity. If features are means over
patches of the image (CPC), it is a module that cuts the patches, and encoder.net is the ResNet. With
load_encoder("DIRECTORY", projector=True) it computes projections. Of encoder.onnx, it is a module that calls
ONNX Runtime. `transform` takes a PIL image, or an array [height][width][channels] of the type of the training set
(uint8, uint16, float32), and returns the normalized float tensor [channels][height][width].

    python3 load_encoder.py DIRECTORY

computes the features of the sample in the directory and prints their largest difference from those that
simile computed, relative to the largest feature. It exits with 1 if that is above 1e-4.
"""
import json
import os
import sys

import numpy as np
import torch
from torch import nn

try:
    import torchvision
except ImportError:
    torchvision = None

BOUND = 1e-4
DTYPES = {"F32": "<f4", "I64": "<i8", "U8": "u1", "U16": "<u2"}


# ---- files ----

def read_safetensors(path):
    """Returns the arrays of a file by name, and the metadata of the export."""
    size = os.path.getsize(path)
    with open(path, "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        if n > size - 8:
            raise ValueError(f"{path} is truncated")
        header = json.loads(f.read(n))
    metadata, arrays = json.loads(header.pop("__metadata__")["simile"]), {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        if not 0 <= begin <= end <= size - 8 - n:
            raise ValueError(f"{path} is truncated: {name}")
        dtype = np.dtype(DTYPES[t["dtype"]])
        flat = np.fromfile(path, dtype, (end - begin) // dtype.itemsize, offset=8 + n + begin)
        arrays[name] = flat.reshape(t["shape"])
    return arrays, metadata


def split(arrays):
    """Separates the projector's arrays, whose names begin with "projector."."""
    projector = {n[len("projector."):]: a for n, a in arrays.items() if n.startswith("projector.")}
    return {n: a for n, a in arrays.items() if not n.startswith("projector.")}, projector


def read_export(directory):
    """Returns the metadata, the arrays of encoder and projector, and the sample."""
    with open(os.path.join(directory, "encoder.json"), encoding="utf-8") as f:
        metadata = json.load(f)
    if metadata.get("format") != "simile-encoder" or metadata["format_version"] != 1:
        raise ValueError(f"{directory}/encoder.json needs the load_encoder.py of a newer simile")
    path = os.path.join(directory, metadata["file"])
    if path.endswith(".h5"):
        import h5py
        with h5py.File(path, "r") as f:
            stored = [json.loads(bytes(f["metadata"][()]).decode())]
            encoder, projector, sample = ({n: np.asarray(a[()]) for n, a in f[group].items()} if group in f else {}
                                          for group in ("weights/encoder", "weights/projector", "sample"))
    else:
        sample, of_sample = read_safetensors(os.path.join(directory, "sample.safetensors"))
        encoder, projector, stored = {}, {}, [of_sample]
        if not path.endswith(".onnx"):
            arrays, own = read_safetensors(path)
            (encoder, projector), stored = split(arrays), [own, of_sample]
    if any(m != metadata for m in stored):
        raise ValueError(f"the files in {directory} are of different exports; run simile export again")
    return metadata, encoder, projector, sample


# ---- networks; names are those of torchvision.models.resnet ----

class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inplanes, planes, stride=1, downsample=None):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inplanes, planes, stride=1, downsample=None):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Replaces torchvision.models.ResNet if torchvision is not installed."""

    def __init__(self, block, layers):
        super().__init__()
        self.inplanes = 64
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for i, n in enumerate(layers):
            setattr(self, f"layer{i + 1}", self._make_layer(block, 64 << i, n, stride=2 if i else 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, 1000)

    def _make_layer(self, block, planes, blocks, stride=1):
        downsample, out = None, planes * block.expansion
        if stride != 1 or self.inplanes != out:
            downsample = nn.Sequential(nn.Conv2d(self.inplanes, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        parts = [block(self.inplanes, planes, stride, downsample)]
        self.inplanes = out
        return nn.Sequential(*parts, *(block(out, planes) for _ in range(blocks - 1)))

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


BLOCKS = {"resnet18": ("BasicBlock", [2, 2, 2, 2]), "resnet34": ("BasicBlock", [3, 4, 6, 3]),
          "resnet50": ("Bottleneck", [3, 4, 6, 3])}
ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU}


def build_encoder(metadata):
    """A ResNet with the stem, channels and activation of the metadata, without weights."""
    if metadata["architecture"] not in BLOCKS:
        raise ValueError(f"architecture {metadata['architecture']} needs the load_encoder.py of a newer simile")
    name, layers = BLOCKS[metadata["architecture"]]
    classes = vars(torchvision.models.resnet) if torchvision else globals()
    block, channels = classes[name], metadata["stage_channels"]
    net = classes["ResNet"](block, layers)
    net.inplanes = channels[0]
    kernel, stride, padding = {"cifar": (3, 1, 1), "imagenet": (7, 2, 3)}[metadata["stem"]]
    net.conv1 = nn.Conv2d(metadata["preprocessing"]["channels"], channels[0], kernel, stride, padding, bias=False)
    net.bn1 = nn.BatchNorm2d(channels[0])
    if metadata["stem"] == "cifar":
        net.maxpool = nn.Identity()
    for i, c in enumerate(channels):
        setattr(net, f"layer{i + 1}", net._make_layer(block, c, layers[i], stride=2 if i else 1))
    net.fc = nn.Identity()
    for module in net.modules():
        if hasattr(module, "relu"):
            module.relu = ACTIVATIONS[metadata["activation"]]()
    return net


def build_projector(metadata, arrays):
    """A Sequential of the layers whose numbers are in the names; the others are activations."""
    numbers, parts = {int(n.split(".")[0]) for n in arrays}, []
    for i in range(max(numbers) + 1):
        weight = arrays.get(f"{i}.weight")
        if i not in numbers:
            parts.append(ACTIVATIONS[metadata["activation"]]())
        elif f"{i}.running_mean" in arrays:
            parts.append(nn.BatchNorm1d(len(arrays[f"{i}.running_mean"]), affine=weight is not None))
        else:
            parts.append(nn.Linear(weight.shape[1], weight.shape[0], bias=f"{i}.bias" in arrays))
    return nn.Sequential(*parts)


class MeanOverPatches(nn.Module):
    """Cuts images into grid x grid patches; the output is the mean of those of the patches."""

    def __init__(self, net, patches):
        super().__init__()
        self.net, self.patches = net, patches

    def forward(self, x):
        p = self.patches
        tops, lefts = ([p[start] + i * p[step] for i in range(p["grid"])]
                       for start, step in (("top", "step_y"), ("left", "step_x")))
        parts = [x[:, :, t:t + p["height"], s:s + p["width"]] for t in tops for s in lefts]
        return self.net(torch.cat(parts)).view(len(parts), len(x), -1).mean(0)


class OnnxEncoder(nn.Module):
    """encoder.onnx in ONNX Runtime; float32 [images][channels][height][width] -> an output of the graph."""

    def __init__(self, path, output, metadata):
        super().__init__()
        import onnxruntime
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        if json.loads(self.session.get_modelmeta().custom_metadata_map["simile"]) != metadata:
            raise ValueError(f"{path} and encoder.json are of different exports; run simile export again")
        if output not in [o.name for o in self.session.get_outputs()]:
            raise ValueError(f"{path} was exported without --projector")
        self.output, self.batch = output, metadata["batch"]

    def run(self, x):
        return torch.from_numpy(self.session.run([self.output], {"images": x.numpy()})[0])

    def forward(self, x):
        if self.batch == "free":
            return self.run(x)
        n = self.batch
        missing = x.new_zeros(-len(x) % n, *x.shape[1:])
        return torch.cat([self.run(part) for part in torch.cat([x, missing]).split(n)])[:len(x)]


def load_weights(net, arrays):
    net.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in arrays.items()}, strict=True)
    return net


# ---- preprocessing ----

class Transform:
    """Resizes the shorter side (bilinear, antialiased), crops the centre, scales to 0 to 1, normalizes."""

    def __init__(self, preprocessing):
        if (preprocessing["resize"], preprocessing["crop"]) != ("shorter side, bilinear, antialiased", "centre"):
            raise ValueError(f"resize \"{preprocessing['resize']}\" and crop \"{preprocessing['crop']}\" need the "
                             "load_encoder.py of a newer simile")
        self.channels = preprocessing["channels"]
        self.size = preprocessing["height"], preprocessing["width"]
        self.type = np.dtype(preprocessing.get("sample_type", "uint8"))
        column = lambda values: torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)
        self.low, high = (column(preprocessing[k]) if self.type != np.uint8 else column([d]) for k, d in (("scale_low", 0), ("scale_high", 255)))
        self.length = high - self.low
        mean, std = column(preprocessing["mean"]), column(preprocessing["std"])
        if self.type != np.uint8:  # in units of the samples
            mean, std = (mean - self.low) / self.length, std / self.length
        # Constant channels are not scaled.
        self.mean, self.std = mean.float(), torch.where(std > 1e-6, std, 1.0).float()

    def pixels(self, image):
        """Returns an array [height][width][channels]."""
        if hasattr(image, "convert") and self.type == np.uint8 and self.channels in (1, 3):
            from PIL import ImageOps
            if image.mode[0] in "IF":
                raise ValueError(f"the image has mode {image.mode}; scale its values to 0 to 255 (value_range in "
                                 "encoder.json, if it is there, became 0 to 255) and pass a uint8 array")
            image = ImageOps.exif_transpose(image).convert("L" if self.channels == 1 else "RGB")
        pixels = np.asarray(image)
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        if pixels.ndim != 3 or pixels.shape[2] != self.channels or pixels.dtype != self.type:
            raise ValueError(f"expected {self.type} [height][width][{self.channels}], got {pixels.dtype} {list(pixels.shape)}")
        return pixels

    def resize(self, x):
        """[channels][height][width] -> the size of the model."""
        (h, w), (height, width) = x.shape[1:], self.size
        if h * width <= w * height:
            covering = height, int(height * w / h)
        else:
            covering = int(width * h / w), width
        x = nn.functional.interpolate(x[None], covering, mode="bilinear", align_corners=False, antialias=True)[0]
        top, left = round((covering[0] - height) / 2), round((covering[1] - width) / 2)
        return x[:, top:top + height, left:left + width]

    def __call__(self, image):
        x = torch.from_numpy(self.pixels(image).astype(np.float32)).permute(2, 0, 1)
        x = (x - self.low.float()) / self.length.float()
        if tuple(x.shape[1:]) != self.size:
            x = self.resize(x)
        return (x - self.mean) / self.std


# ---- the whole ----

def load_encoder(directory, projector=False):
    """Returns (encoder, transform); projector=True: the encoder's output is the projection."""
    metadata, encoder_arrays, projector_arrays, _ = read_export(directory)
    if metadata["file"].endswith(".onnx"):
        net = OnnxEncoder(os.path.join(directory, metadata["file"]), "projections" if projector else "features", metadata)
        return net, Transform(metadata["preprocessing"])
    net = load_weights(build_encoder(metadata), encoder_arrays)
    if projector:
        if not projector_arrays:
            raise ValueError(f"{directory} was exported without --projector")
        net = nn.Sequential(net, load_weights(build_projector(metadata, projector_arrays), projector_arrays))
    if "mean_over_patches" in metadata:
        net = MeanOverPatches(net, metadata["mean_over_patches"])
    return net.eval(), Transform(metadata["preprocessing"])


def check_sample(directory):
    """Returns the largest relative difference of each array of the sample."""
    sample = read_export(directory)[3]
    differences = {}
    for name in ("features", "projections"):
        if name not in sample:
            continue
        net, transform = load_encoder(directory, projector=name == "projections")
        images = torch.stack([transform(sample[f"image{i}"]) for i in range(len(sample[name]))])
        with torch.no_grad():
            got = net(images).numpy()
        differences[name] = float(np.abs(got - sample[name]).max() / np.abs(sample[name]).max())
    return differences


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY")
    differences = check_sample(sys.argv[1])
    library = f"torchvision {torchvision.__version__}" if torchvision else "without torchvision"
    for name, difference in differences.items():
        print(f"{name}: largest relative difference {difference:.1e} (bound {BOUND:.0e}; {library})")
    sys.exit(not all(d <= BOUND for d in differences.values()))  # NaN is above the bound


if __name__ == "__main__":
    main()
