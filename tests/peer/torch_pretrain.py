"""The recipe of jobs/simclr_cifar10.yaml in PyTorch: torch_pretrain.py TRAIN.h5 TEST.h5 SEED EPOCHS

Prints the kNN accuracy (k 200, T 0.1, backbone features) before and after training, in percent.
torchvision augments PIL images and initializes the weights.
"""
import math
import sys

import h5py
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torchvision import transforms as T

WIDTH, BATCH, TEMPERATURE, LR, MOMENTUM, DECAY, WARMUP = 0.25, 128, 0.2, 0.15, 0.9, 1e-4, 0.5


def network():
    block = torchvision.models.resnet.BasicBlock
    model = torchvision.models.ResNet(block, [2, 2, 2, 2])
    wide = [int(WIDTH * c) for c in (64, 128, 256, 512)]
    model.inplanes = wide[0]
    model.conv1 = torch.nn.Conv2d(3, wide[0], 3, 1, 1, bias=False)
    model.bn1 = torch.nn.BatchNorm2d(wide[0])
    model.maxpool = torch.nn.Identity()
    for i, c in enumerate(wide):
        setattr(model, f"layer{i + 1}", model._make_layer(block, c, 2, stride=1 if i == 0 else 2))
    for m in model.modules():
        if isinstance(m, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
    model.fc = torch.nn.Identity()
    d = wide[3]
    head = torch.nn.Sequential(torch.nn.Linear(d, d, bias=False), torch.nn.BatchNorm1d(d), torch.nn.ReLU(),
                               torch.nn.Linear(d, 128))
    return model, head


def nt_xent(a, b):
    n = len(a)
    z = F.normalize(torch.cat([a, b]))
    s = (z @ z.T / TEMPERATURE).masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    return F.cross_entropy(s, torch.arange(2 * n).roll(n))


def features(model, images, normalize):
    model.eval()
    with torch.no_grad():
        x = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
        out = torch.cat([model(normalize(part)) for part in x.split(500)])
    model.train()
    return F.normalize(out)


def knn(model, train, test, normalize):
    bank, labels = features(model, train[0], normalize), torch.tensor(train[1]).long()
    right = 0
    for q, y in zip(features(model, test[0], normalize).split(500), torch.tensor(test[1]).long().split(500)):
        s, i = (q @ bank.T).topk(200)
        votes = torch.zeros(len(q), int(labels.max()) + 1).scatter_add_(1, labels[i], (s / 0.1).exp())
        right += (votes.argmax(1) == y).sum().item()
    return 100 * right / len(test[1])


def rate(step, total, warmup):
    if step < warmup:
        return LR * (step + 1) / warmup
    return LR * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2


def main(train_file, test_file, seed, epochs):
    torch.manual_seed(seed)
    np.random.seed(seed)
    with h5py.File(train_file) as f:
        train, mean, std = (f["images"][()], f["labels"][()]), f.attrs["mean"], f.attrs["std"]
    with h5py.File(test_file) as f:
        test = (f["images"][()], f["labels"][()])
    normalize = T.Normalize(mean, std)
    view = T.Compose([T.RandomResizedCrop(32, (0.2, 1), interpolation=T.InterpolationMode.BICUBIC),
                      T.RandomHorizontalFlip(), T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
                      T.RandomGrayscale(0.2), T.ToTensor(), normalize])
    photos = [Image.fromarray(i) for i in train[0]]
    model, head = network()
    named = [*model.named_parameters(), *head.named_parameters()]
    optimizer = torch.optim.SGD([{"params": [p for _, p in named if p.ndim > 1], "weight_decay": DECAY},
                                 {"params": [p for _, p in named if p.ndim == 1], "weight_decay": 0}],
                                LR, momentum=MOMENTUM)
    per_epoch = len(photos) // BATCH
    before = knn(model, train, test, normalize)
    for step in range(epochs * per_epoch):
        if step % per_epoch == 0:
            order = torch.randperm(len(photos))
        slots = order[step % per_epoch * BATCH:][:BATCH]
        a, b = (torch.stack([view(photos[i]) for i in slots]) for _ in range(2))
        for group in optimizer.param_groups:
            group["lr"] = rate(step, epochs * per_epoch, WARMUP * per_epoch)
        loss = nt_xent(head(model(a)), head(model(b)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{before:.2f} {knn(model, train, test, normalize):.2f}")


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
