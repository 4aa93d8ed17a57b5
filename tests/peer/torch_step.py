"""A SimCLR step in PyTorch, without augmentation and without exchange of gradients between processes.

    torch_step.py ARCH STEM SIZE WIDTH BATCH THREADS FORMAT TYPE STEPS

FORMAT is contiguous or channels_last, TYPE float32 or bfloat16 (autocast; the loss is in float32).  Prints
images/s (two views count as one image) of the best step after the first, and the peak memory in MB.
"""
import resource
import sys
import time

import torch
import torchvision

arch, stem = sys.argv[1:3]
size, width, batch, threads = int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6])
layout = getattr(torch, {"contiguous": "contiguous_format"}.get(sys.argv[7], sys.argv[7]))
half, steps = sys.argv[8] == "bfloat16", int(sys.argv[9])
torch.set_num_threads(threads)


def encoder():
    """torchvision's ResNet with the stem and width; the fully connected layer is the projector."""
    resnet = torchvision.models.resnet
    block, blocks = {"resnet18": (resnet.BasicBlock, [2, 2, 2, 2]), "resnet50": (resnet.Bottleneck, [3, 4, 6, 3])}[arch]
    model = resnet.ResNet(block, blocks)
    planes = [int(width * c) for c in (64, 128, 256, 512)]
    model.inplanes = planes[0]
    if stem == "cifar":
        model.conv1, model.maxpool = torch.nn.Conv2d(3, planes[0], 3, 1, 1, bias=False), torch.nn.Identity()
    else:
        model.conv1 = torch.nn.Conv2d(3, planes[0], 7, 2, 3, bias=False)
    model.bn1 = torch.nn.BatchNorm2d(planes[0])
    for i, (c, n) in enumerate(zip(planes, blocks)):
        setattr(model, f"layer{i + 1}", model._make_layer(block, c, n, stride=1 if i == 0 else 2))
    d = planes[3] * block.expansion
    model.fc = torch.nn.Sequential(torch.nn.Linear(d, d), torch.nn.ReLU(), torch.nn.Linear(d, 128))
    return model


model = encoder().to(memory_format=layout)
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
x = torch.randn(2 * batch, 3, size, size).to(memory_format=layout)
target = torch.arange(2 * batch).roll(batch)
best = float("inf")
for step in range(steps + 1):
    start = time.time()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        out = [model(x[:batch]), model(x[batch:])]
    z = torch.nn.functional.normalize(torch.cat(out).float())
    s = (z @ z.T / 0.5).masked_fill(torch.eye(2 * batch, dtype=torch.bool), float("-inf"))
    loss = torch.nn.functional.cross_entropy(s, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step:
        best = min(best, time.time() - start)
print(batch / best, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
