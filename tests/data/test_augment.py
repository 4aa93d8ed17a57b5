#!/usr/bin/python3
"""Augmentations against torchvision with the same random parameters.

The parameters are recomputed here with Philox4x32-10 as include/simile/random.h specifies; the
pixels come from torchvision.transforms.functional on float tensors.
"""
import math
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torchvision.transforms.functional as F
from torchvision.transforms import InterpolationMode

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "data_tool_augment")
AUGMENT = 2


def philox(counter, key):
    c, k = [int(x) for x in counter], [int(x) for x in key]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


class Draw:
    def __init__(self, seed, sample, view, op):
        self.key, self.base, self.n = (seed, AUGMENT), (sample, 0, view << 16 | op), 0

    def words(self):
        self.n += 1
        return philox((*self.base, self.n - 1), self.key)

    def unit(self):
        return np.float32(self.words()[0] >> 8) * np.float32(2.0 ** -24)

    def between(self, lo, hi):
        lo, hi = np.float32(lo), np.float32(hi)
        return lo + (hi - lo) * self.unit()

    def normals(self, *shape):
        """By the polar method of Marsaglia, up to four of a block."""
        out = []
        while len(out) < math.prod(shape):
            w = [(w + 0.5) / 2 ** 31 - 1 for w in self.words()]
            for u, v in (w[:2], w[2:]):
                if 0 < (q := u * u + v * v) < 1:
                    scale = math.sqrt(-2 * math.log(q) / q)
                    out += [u * scale, v * scale]
        return torch.tensor(out[:math.prod(shape)]).reshape(shape)

    def below(self, n):
        limit = 0xFFFFFFFF - (0xFFFFFFFF % n + 1) % n
        while True:
            w = self.words()[0]
            if w <= limit:
                return w % n


def crop(x, d, size, scale, ratio, bicubic):
    d.unit()
    h, w = x.shape[1:]
    for _ in range(10):
        area = h * w * float(d.between(*scale))
        r = np.exp(float(d.between(np.log(ratio[0]), np.log(ratio[1]))))
        cw, ch = int(np.sqrt(area * r) + 0.5), int(np.sqrt(area / r) + 0.5)
        if 0 < cw <= w and 0 < ch <= h:
            y, left = d.below(h - ch + 1), d.below(w - cw + 1)
            break
    else:
        raise AssertionError("this test expects no fallback to the centre")
    mode = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
    out = F.resized_crop(x, y, left, ch, cw, [size, size], mode, antialias=True)
    return out.clamp(0, 1), (ch * cw / (h * w), cw / ch)


def jitter(x, d, b, c, s, hue):
    d.unit()
    order = [0, 1, 2, 3]
    for i in (3, 2, 1):
        j = d.below(i + 1)
        order[i], order[j] = order[j], order[i]
    fb, fc, fs = (float(d.between(max(0, 1 - v), 1 + v)) for v in (b, c, s))
    fh = float(d.between(-hue, hue))
    colour = x.shape[0] == 3
    for k in order:
        if k == 0:
            x = F.adjust_brightness(x, fb)
        elif k == 1:
            x = F.adjust_contrast(x, fc)
        elif k == 2 and colour:
            x = F.adjust_saturation(x, fs)
        elif k == 3 and colour:
            x = F.adjust_hue(x, fh)
    return x


def blur(x, d, lo, hi):
    d.unit()
    sigma = float(d.between(lo, hi))
    taps = max(3, 2 * (min(x.shape[1:]) // 10 // 2) + 1)
    return F.gaussian_blur(x, [taps, taps], [sigma, sigma])


def pad_crop(x, d, size, padding):
    d.unit()
    h, w = size or x.shape[1], size or x.shape[2]
    x = F.pad(x, [padding] * 4)
    top = d.below(x.shape[1] - h + 1)
    return F.crop(x, top, d.below(x.shape[2] - w + 1), h, w)


def turn(x, d):
    d.unit()
    return torch.rot90(x, d.below(4) if x.shape[1] == x.shape[2] else 2 * d.below(2), (1, 2))


def erase(x, d, scale, ratio, mean, deviation, noise):
    """RandomErasing of torchvision with these draws, on a normalized view."""
    d.unit()
    c, h, w = x.shape
    x = F.normalize(x, [mean] * c, [deviation] * c)
    for _ in range(10):
        area = h * w * float(d.between(*scale))
        r = np.exp(float(d.between(np.log(ratio[0]), np.log(ratio[1]))))
        eh, ew = int(round(math.sqrt(area * r))), int(round(math.sqrt(area / r)))
        if eh < h and ew < w:
            y, left = d.below(h - eh + 1), d.below(w - ew + 1)
            v = d.normals(c, eh, ew).clamp(-mean / deviation, (1 - mean) / deviation) if noise else torch.zeros(c, 1, 1)
            return F.erase(x, y, left, eh, ew, v), (eh * ew / (h * w), eh / ew)
    return x, None


def noise(x, d, lo, hi):
    """v2.GaussianNoise of torchvision 0.20."""
    d.unit()
    sigma = float(d.between(lo, hi))
    return (x + sigma * d.normals(*x.shape)).clamp(0, 1), sigma


def rotate(x, d, lo, hi):
    """In double: the positions of torchvision have the precision of the image."""
    d.unit()
    degrees = float(d.between(lo, hi))
    return F.rotate(x.double(), degrees, InterpolationMode.BILINEAR).float(), degrees


def channel_drop(x, d, p):
    drops = [bool(d.unit() < p) for _ in x]
    if all(drops):
        drops[d.below(len(x))] = False
    return x * ~torch.tensor(drops)[:, None, None], tuple(drops)


def channel_jitter(x, d, brightness, contrast):
    """ColorJitter of every channel as an image of its own."""
    d.unit()
    out, first = [], []
    for plane in x:
        first.append(d.below(2))
        fb, fc = (float(d.between(max(0, 1 - v), 1 + v)) for v in (brightness, contrast))
        steps = [lambda y: F.adjust_brightness(y, fb), lambda y: F.adjust_contrast(y, fc)]
        for step in steps[::-1] if first[-1] else steps:
            plane = step(plane.reshape(1, *x.shape[1:]))
        out.append(plane)
    return torch.cat(out), tuple(first)


def tool(image, size, seed, sample, view, items, directory):
    return many(image, size, seed, sample, 1, view, items, directory)[0]


def many(image, size, seed, sample, count, view, items, directory):
    h, w, c = image.shape
    source, target = os.path.join(directory, "in"), os.path.join(directory, "out")
    image.tofile(source)
    numbers = [str(v) for v in (h, w, c, size, seed, sample, count, view)]
    subprocess.run([TOOL, source, target, *numbers, *items], check=True)
    out = np.fromfile(target, "f4")
    return torch.from_numpy(out.reshape(count, size or h, size or w, c)).permute(0, 3, 1, 2)


SPACE = {"crop": 1, "flip": 2, "jitter": 3, "gray": 4, "blur": 5, "solarize": 6, "pad_crop": 7,
         "vflip": 8, "turn": 9, "erase": 10, "noise": 11, "rotate": 12, "posterize": 13, "equalize": 14,
         "channel_drop": 15, "channel_jitter": 16}


def pipeline(x, args, size, ops):
    """Operations (name, p, options) as in the code of the papers, with the same draws."""
    for name, p, *numbers in ops:
        if Draw(*args, SPACE[name]).unit() >= p:
            continue
        d = Draw(*args, SPACE[name])
        if name == "crop":
            x = crop(x, d, size, (numbers[0], 1), (3 / 4, 4 / 3), numbers[1])[0]
        elif name == "jitter":
            x = jitter(x, d, *numbers)
        elif name == "blur":
            x = blur(x, d, 0.1, 2)
        else:
            x = {"flip": F.hflip, "gray": lambda x: F.rgb_to_grayscale(x, 3),
                 "solarize": lambda x: F.solarize(x, 128 / 255)}[name](x)
    return x


# moco's main_moco.py and CIFAR demonstration, moco-v3's main_moco.py with the paper's bicubic crop,
# solo-learn's asymmetric.yaml for CIFAR.
FLIP, GRAY, BICUBIC = ("flip", 0.5), ("gray", 0.2), True
BYOL = [("crop", 1, 0.08, BICUBIC), ("jitter", 0.8, 0.4, 0.4, 0.2, 0.1), GRAY]
MOCO = [("crop", 1, 0.2, False), ("jitter", 0.8, 0.4, 0.4, 0.4, 0.1), GRAY, ("blur", 0.5), FLIP]
PRESETS = {
    "mocov1": [[("crop", 1, 0.2, False), GRAY, ("jitter", 1, 0.4, 0.4, 0.4, 0.4), FLIP]] * 2,
    "mocov2": [MOCO] * 2,
    "byol": [[*BYOL, ("blur", 1), FLIP], [*BYOL, ("blur", 0.1), ("solarize", 0.2), FLIP]],
    "mocov2-cifar": [[("crop", 1, 0.08, False), FLIP, *MOCO[1:3]]] * 2,
    "byol-cifar": [[*BYOL, FLIP], [*BYOL, ("solarize", 0.2), FLIP]],
    "simclr-cifar": [[("crop", 1, 0.08, BICUBIC), FLIP, ("jitter", 0.8, 0.4, 0.4, 0.4, 0.1), GRAY]] * 2,
    "simclr": [[("crop", 1, 0.08, BICUBIC), FLIP, ("jitter", 0.8, 0.8, 0.8, 0.8, 0.2), GRAY, ("blur", 0.5)]] * 2,
    "none": [[]] * 2,
}


def close(got, want, bound, what):
    error = (got - want).abs().max().item()
    assert error <= bound, f"{what}: {error}"


def photo(r, h, w, c):
    smooth = r.rand(h // 4 + 2, w // 4 + 2, c).repeat(4, 0).repeat(4, 1)[:h, :w]
    return np.clip(255 * (0.7 * smooth + 0.3 * r.rand(h, w, c)), 0, 255).astype("u1")


def check_others(image, x, args, directory):
    """Operations of no preset."""
    def view(*items):
        return tool(image, 0, *args, items, directory)

    def drawn(name, *numbers):
        want, parameter = globals()[name](x, Draw(*args, SPACE[name]), *numbers)
        parameters.setdefault(name, []).append(parameter)
        return want

    pixels = torch.from_numpy(image).permute(2, 0, 1)
    close(view("vflip=1"), F.vflip(x), 1e-6, "vflip")
    close(view("turn=1"), turn(x, Draw(*args, 9)), 1e-6, "turn")
    for index, value in enumerate(("mean", "noise")):
        want = drawn("erase", (0.02, 0.33), (0.3, 3.3), 0.45, 0.22, value == "noise")
        close(view("stats=0.45=0.22", f"erase=1=0.02=0.33=0.3=3.3={index}"), want, 5e-6, f"erase {value}")
    close(view("erase=1=1=1=1=1=0"), x, 1e-6, "erase without a box that fits")
    h, w = x.shape[1:]
    for ratio in (2 * h / w, h / (2 * w)):  # half of the area in a box as high or wide as the view
        close(view(f"erase=1=0.5=0.5={ratio}={ratio}=0"), x, 1e-6, "erase with a side of the view")
    if image.size < 20000:
        close(view("noise=1=0.05=0.4"), drawn("noise", 0.05, 0.4), 1e-6, "noise")
    for lo, hi in (-180, 180), (90, 90), (-180, -180), (0, 0), (30, 30):
        close(view(f"rotate=1={lo}={hi}"), drawn("rotate", lo, hi), 2e-6, f"rotate {lo} to {hi}")
    for bits in range(1, 9):
        close(view(f"posterize=1={bits}"), F.posterize(pixels, bits) / 255, 1e-6, f"posterize {bits}")
    close(view("equalize=1"), F.equalize(pixels) / 255, 1e-6, "equalize")
    for strength in (0.4, 1, 3):
        close(view(f"channel_jitter=1={strength}={strength}"), drawn("channel_jitter", strength, strength), 2e-5,
              f"channel_jitter {strength}")
    for p in (0.5, 1):
        close(view(f"channel_drop={p}"), drawn("channel_drop", p), 1e-6, f"channel_drop {p}")


r = np.random.RandomState(0)
parameters = {}
areas, ratios = [], []
with tempfile.TemporaryDirectory() as directory:
    shapes = [(40, 60, 3, 32), (97, 64, 3, 48), (28, 28, 1, 28), (224, 300, 3, 64)]
    for sample, (h, w, c, size) in enumerate(shapes * 2):
        image = photo(r, h, w, c)
        x = torch.from_numpy(image.astype("f4") / 255).permute(2, 0, 1)
        for view in (0, 1):
            args = (7, sample, view)
            for bicubic in (True, False):
                want, drawn = crop(x, Draw(*args, 1), size, (0.2, 1), (0.75, 4 / 3), bicubic)
                got = tool(image, size, *args, [f"crop=1=0.2=1=0.75={4 / 3!r}={0 if bicubic else 1}"], directory)
                close(got, want, 2e-4, f"crop {h}x{w} bicubic {bicubic}")
                areas.append(drawn[0])
                ratios.append(drawn[1])
            want = jitter(x, Draw(*args, 3), 0.8, 0.8, 0.8, 0.2)
            close(tool(image, 0, *args, ["jitter=1=0.8=0.8=0.8=0.2"], directory), want, 2e-4, "jitter")
            want = blur(x, Draw(*args, 5), 0.1, 2)
            close(tool(image, 0, *args, ["blur=1=0.1=2"], directory), want, 1e-5, "blur")
            close(tool(image, 0, *args, ["flip=1"], directory), F.hflip(x), 1e-6, "flip")
            gray = F.rgb_to_grayscale(x, 3) if c == 3 else x
            close(tool(image, 0, *args, ["gray=1"], directory), gray, 1e-5, "gray")
            for threshold in (128, 1, 255):
                want = F.solarize(torch.from_numpy(image).permute(2, 0, 1), threshold) / 255
                got = tool(image, 0, *args, [f"solarize=1={threshold}"], directory)
                close(got, want, 1e-6, f"solarize {threshold}")
            for out, padding in ((0, 4), (24, 4), (0, 90), (24, 0)):
                want = pad_crop(x, Draw(*args, 7), out, padding)
                close(tool(image, out, *args, [f"pad_crop=1={padding}"], directory), want, 1e-6, f"pad {padding}, crop")
            check_others(image, x, args, directory)
            flipped = Draw(*args, 2).unit() < 0.5
            close(tool(image, 0, *args, ["flip=0.5"], directory), F.hflip(x) if flipped else x, 1e-6, "flip by chance")
    # A second crop may receive a view that is larger than the image.  The difference is large
    # enough that a buffer of the size of the image would be overrun into unmapped memory.
    image, size = photo(r, 12, 20, 3), 600
    x = torch.from_numpy(image.astype("f4") / 255).permute(2, 0, 1)
    first = crop(x, Draw(7, 1, 0, 1), size, (0.2, 1), (0.75, 4 / 3), True)[0]
    want = crop(first, Draw(7, 1, 0, 65), size, (0.9, 1), (0.75, 4 / 3), True)[0]
    items = [f"crop=1={scale}=1=0.75={4 / 3!r}=0" for scale in (0.2, 0.9)]
    close(tool(image, size, 7, 1, 0, items, directory), want, 2e-4, "two crops")

    # An operation is applied if and only if its first draw is below p, with frequency p.
    n, image = 3000, photo(r, 9, 8, 3)
    plain = torch.from_numpy(image.astype("f4") / 255).permute(2, 0, 1)
    chances = {"flip": "", "gray": "", "jitter": "=0.4=0.4=0.4=0.1", "blur": "=1=2", "solarize": "=128",
               "pad_crop": "=4",
               "vflip": "", "erase": "=0.1=0.33=0.3=3.3=0", "noise": "=0.1=0.1", "rotate": "=20=30", "posterize": "=2",
               "channel_jitter": "=0.4=0.4"}
    for name, numbers in chances.items():
        for p in (0.2, 0.8):
            views = many(image, 0, 3, 0, n, 1, [f"{name}={p}{numbers}"], directory)
            changed = ((views - plain).abs().amax((1, 2, 3)) > 1e-4).numpy()
            drawn = np.array([Draw(3, i, 1, SPACE[name]).unit() < p for i in range(n)])
            assert not (changed & ~drawn).any(), f"{name}: applied although its draw is not below p"
            assert (drawn & ~changed).mean() < 0.02 * (name == "pad_crop") + 1e-3, f"{name}: not applied"  # a pad_crop at the centre changes nothing
            assert abs(changed.mean() - p) < 4 * np.sqrt(p * (1 - p) / n) + 0.02 * (name == "pad_crop"), name

    # All turns are equally frequent; a channel is dropped with probability p, and the last one never.
    for h, w, turns in ((8, 8, (0, 1, 2, 3)), (9, 8, (0, 2))):
        image = photo(r, h, w, 3)
        x = torch.from_numpy(image.astype("f4") / 255).permute(2, 0, 1)
        views = many(image, 0, 3, 0, n, 1, ["turn=1"], directory)
        for k in turns:
            share = ((views - torch.rot90(x, k, (1, 2))).abs().amax((1, 2, 3)) < 1e-6).float().mean().item()
            assert abs(share - 1 / len(turns)) < 4 * np.sqrt(0.25 / n), f"turn {h}x{w} by {k} quarters: {share}"
    views = many(image + (image == 0), 0, 3, 0, n, 1, ["channel_drop=0.3"], directory)
    dropped = (views.amax((2, 3)) == 0).numpy()
    assert not dropped.all(1).any(), "channel_drop: all channels"
    expected = 0.3 - 0.3 ** 3 / 3
    assert (abs(dropped.mean(0) - expected) < 4 * np.sqrt(0.21 / n)).all(), f"channel_drop: {dropped.mean(0)}"

    image = photo(r, 40, 60, 3)
    x = torch.from_numpy(image.astype("f4") / 255).permute(2, 0, 1)
    for name, both in PRESETS.items():
        for view in (0, 1, 2, 3):
            size = 0 if name == "none" else 32
            got = list(enumerate(many(image, size, 5, 0, 24, view, [f"preset={name}"], directory)))
            # Include a sample to which all operations are applied, to check their order.
            last = next(i for i in range(24, 99999)
                        if all(Draw(5, i, view, SPACE[o[0]]).unit() < o[1] for o in both[view % 2]))
            got.append((last, tool(image, size, 5, last, view, [f"preset={name}"], directory)))
            for i, v in got:
                error = (v - pipeline(x, (5, i, view), size, both[view % 2])).abs()
                # Rounding may move a value across the threshold of solarize.
                off = (error > 5e-4).float().mean().item()
                assert off <= 0.001, f"{name}, view {view}, sample {i}: {off:.4f} of the values differ"
assert min(areas) > 0.15 and max(areas) < 1.05 and min(ratios) > 0.7 and max(ratios) < 1.4
boxes = np.array([p for p in parameters["erase"] if p])
assert len(boxes) > 24 and (0.015 < boxes[:, 0]).all() and (boxes[:, 0] < 0.35).all(), boxes
assert boxes[:, 1].min() < 0.8 and boxes[:, 1].max() > 1.25 and np.ptp(boxes[:, 0]) > 0.2, boxes
assert all(0.05 <= s < 0.4 for s in parameters["noise"]) and np.ptp(parameters["noise"]) > 0.1, parameters["noise"]
free = [p for p in parameters["rotate"] if p not in (90, -180, 0, 30)]
assert min(free) < -90 and max(free) > 90, free
assert len(set(parameters["channel_drop"])) >= 7, parameters["channel_drop"]
assert len(set(parameters["channel_jitter"])) >= 7, parameters["channel_jitter"]
print("ok")
sys.exit(0)
