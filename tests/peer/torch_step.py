"""Images/s of a SimCLR step in PyTorch: torch_step.py WIDTH BATCH THREADS contiguous|channels_last"""
import sys
import time

import torch
import torchvision

width, batch, threads = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
layout = torch.channels_last if sys.argv[4] == "channels_last" else torch.contiguous_format
torch.set_num_threads(threads)
block = torchvision.models.resnet.BasicBlock
model = torchvision.models.ResNet(block, [2, 2, 2, 2])
wide = [int(width * c) for c in (64, 128, 256, 512)]
model.inplanes = wide[0]
model.conv1 = torch.nn.Conv2d(3, wide[0], 3, 1, 1, bias=False)
model.bn1 = torch.nn.BatchNorm2d(wide[0])
model.maxpool = torch.nn.Identity()
for i, c in enumerate(wide):
    setattr(model, f"layer{i + 1}", model._make_layer(block, c, 2, stride=1 if i == 0 else 2))
d = wide[3]
model.fc = torch.nn.Sequential(torch.nn.Linear(d, d), torch.nn.ReLU(), torch.nn.Linear(d, 128))
model = model.to(memory_format=layout)
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
x = torch.randn(2 * batch, 3, 32, 32).to(memory_format=layout)
target = torch.arange(2 * batch).roll(batch)
best = 1e9
for step in range(6):
    start = time.time()
    z = torch.nn.functional.normalize(torch.cat([model(x[:batch]), model(x[batch:])]))
    s = z @ z.T / 0.5
    s = s.masked_fill(torch.eye(2 * batch, dtype=torch.bool), float("-inf"))
    loss = torch.nn.functional.cross_entropy(s, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step:
        best = min(best, time.time() - start)
print(batch / best)
