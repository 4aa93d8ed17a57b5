#!/usr/bin/python3
"""Learning rates against torch.optim.lr_scheduler: LinearLR, CosineAnnealingLR with eta_min, MultiStepLR,
and solo-learn's linear warm-up from a given rate. Tolerance: 1e-12 of the base rate; PyTorch's recursions
accumulate rounding."""
import os
import subprocess
import sys
import warnings

import numpy as np
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, MultiStepLR

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "optim_tool_schedule")
SHAPES = {"cosine": 0, "constant": 1, "steps": 2}
warnings.simplefilter("ignore")  # there are no steps of the optimizer


def rates(shape, epochs, per_epoch, base, warmup=0, start=0.0, min_lr=0.0, gamma=0.1, milestones=()):
    arguments = [SHAPES[shape], start, min_lr, gamma, base, warmup, epochs, per_epoch, *milestones]
    r = subprocess.run([TOOL, *map(str, arguments)], check=True, capture_output=True, text=True)
    return np.array(r.stdout.split(), "f8")


def torch_rates(base, n, make):
    """The first n rates of a scheduler of PyTorch."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=base)
    scheduler, out = make(optimizer), []
    for _ in range(n):
        out.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    return out


def expect(got, want, base, what):
    error = np.abs(got - want).max() / base
    assert len(got) == len(want) and error <= 1e-12, (what, error)
    return error


errors = []
for base in (0.3, 4.8):
    for warmup in (0, 2, 7, 30):
        for start in (0.0, 3e-5, 0.1) if warmup else (0.0,):
            for min_lr in (0.0, 0.002):
                first = start if start else base / warmup if warmup else base
                rising = torch_rates(base, warmup, lambda o: LinearLR(o, first / base, 1, max(1, warmup - 1)))
                falling = torch_rates(base, 100 - warmup, lambda o: CosineAnnealingLR(o, 100 - warmup, min_lr))
                got = rates("cosine", 100, 0, base, warmup, start, min_lr)
                errors.append(expect(got, rising + falling, base, ("cosine", warmup, start, min_lr)))
                got = rates("constant", 100, 0, base, warmup, start, min_lr)
                errors.append(expect(got, rising + [base] * (100 - warmup), base, ("constant", warmup, start)))
    for gamma in (0.1, 0.2, 0.5):
        for milestones in ((120, 160), (60,), (1, 2, 3, 199), (30, 60, 90, 400)):
            got = rates("steps", 200, 0, base, gamma=gamma, milestones=milestones)
            want = torch_rates(base, 200, lambda o: MultiStepLR(o, list(milestones), gamma))
            errors.append(expect(got, want, base, ("steps", gamma, milestones)))
            got = rates("steps", 200, 13, base, gamma=gamma, milestones=milestones)  # the same in epochs
            errors.append(expect(got, np.repeat(want, 13), base, ("steps by epoch", gamma, milestones)))
            got = rates("steps", 200, 0, base, gamma=gamma, milestones=milestones, min_lr=0.01)
            errors.append(expect(got, np.maximum(want, 0.01), base, ("steps, min_lr", gamma, milestones)))
# Without milestones: 60 % and 80 % of the run; fractions of an epoch are allowed.
assert (rates("steps", 20, 5, 0.3) == rates("steps", 20, 5, 0.3, milestones=(12, 16))).all()
assert np.flatnonzero(np.diff(rates("steps", 20, 4, 0.3, milestones=(2.5, 3.75)))).tolist() == [9, 14]
print(f"worst error {max(errors):.1e}")
sys.exit(0)
