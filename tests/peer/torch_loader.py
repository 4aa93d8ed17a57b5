"""CPU time per view of torchvision's transforms, as SimCLR uses them, on one thread:
torch_loader.py FILE.h5 simclr|simclr-cifar SIZE IMAGES

FILE.h5 is a data set of `simile prepare`.  Two views share one decode by PIL; the bytes are in memory.
The transforms are applied to PIL images and the blur is PIL's, as in MoCo's code: on tensors, and with
torchvision's blur, a view takes five times as long."""
import io
import random
import sys
import time

import h5py
import numpy as np
import torch
from PIL import Image, ImageFilter
from torchvision import transforms as T

path, preset, size, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)


def blur(image):
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


strength = {"simclr": 1.0, "simclr-cifar": 0.5}[preset]
blurs = [T.RandomApply([T.Lambda(blur)], 0.5)] if preset == "simclr" else []
augment = T.Compose([
    T.RandomResizedCrop(size, interpolation=T.InterpolationMode.BICUBIC), T.RandomHorizontalFlip(),
    T.RandomApply([T.ColorJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)], 0.8),
    T.RandomGrayscale(0.2), *blurs, T.ToTensor(), T.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))])

with h5py.File(path) as f:
    if "offset" in f:
        data, offset = f["bytes"][()], f["offset"][()]
        chosen = np.arange(n) * max(1, (len(offset) - 1) // n) % (len(offset) - 1)
        files = [data[offset[i]:offset[i + 1]].tobytes() for i in chosen]
        images = [lambda b=b: Image.open(io.BytesIO(b)).convert("RGB") for b in files]
    else:
        data = f["images"]
        images = [lambda x=x: Image.fromarray(x) for x in data[:n]]

best = 1e9
for step in range(3):
    start = time.process_time()
    for decode in images:
        image = decode()
        augment(image), augment(image)
    if step:
        best = min(best, time.process_time() - start)
print(1e6 * best / (2 * len(images)))
