"""micro_batch changes no bit: hash traces and metrics of every method with and without it, on 1, 2 and 3
ranks and in resumed runs; what cannot be divided is refused; `plan` proposes the largest that fits.

simile-test: timeout 900
"""
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import labelled_noise, methods, simile, small_method, traced_run  # noqa: E402

JOB = """
run: unset
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.125, projector: {bn: true, dim: 16}}
batch: 48
block: 8
batchnorm: {group: 8}
optimizer: {name: lars, lr: 0.3}
schedule: {steps: 2, warmup_steps: 1}
augment: {preset: digits}
log: {every_steps: 1, tensorboard: false}
"""


def train(*segments):
    trace, metrics = traced_run(*segments)
    assert trace.count(" weights ") >= 2 and trace.count(" bn ") >= 2 and len(metrics) >= 2, (trace, metrics)
    return trace, metrics


def same(what, got, want):
    for one, other in zip(got[0].splitlines(), want[0].splitlines()):
        assert one == other, f"{what}: {one!r}, without micro_batch {other!r}"
    assert got == want, f"{what}: {got[1]}, without micro_batch {want[1]}"


def every_method_has_the_same_bits():
    for name, keys in methods().items():
        words = small_method(name, keys)
        want = train((1, None, words))
        for ranks, size in ((1, 16), (2, 16), (3, 8)):
            same(f"{name}, {ranks} ranks", train((ranks, None, [*words, f"micro_batch={size}"])), want)
        print("ok", name)


def every_division_has_the_same_bits():
    """Groups smaller and larger than a block, views together, momentum encoders, frozen encoders."""
    shuffled = small_method("mocov2", methods()["mocov2"]) + ["method.symmetric=true", "method.bn_buffers=ema"]
    for bn, runs in ((["batchnorm.group=4"], ((1, 40), (2, 8), (3, 8))),
                     (["batchnorm.group=4", "batchnorm.views=joint"], ((1, 24), (2, 16))),
                     (["batchnorm.group=16"], ((1, 16), (1, 32), (3, 16))),
                     (["batchnorm.group=24"], ((1, 24), (2, 24), (3, 48))),
                     (["block=4", "batchnorm.group=4"], ((4, 4), (3, 12)))):
        for method in ([], shuffled):
            want = train((1, None, [*bn, *method]))
            for ranks, size in runs:
                same(f"{bn}, {method}, {ranks} ranks, micro_batch {size}",
                     train((ranks, None, [*bn, *method, f"micro_batch={size}"])), want)


def resumed_runs_have_the_same_bits():
    words = ["schedule.steps=6"]
    want = train((1, None, words))
    same("resumed", train((1, 1, words + ["micro_batch=16"]), (2, 2, words), (3, 4, words + ["micro_batch=8"]),
                          (2, None, words + ["micro_batch=16", "threads=2"])), want)


def frozen_encoders_have_the_same_bits():
    simile("pretrain", "job.yaml", "run=trained")
    words = ["method.name=supervised", "encoder.freeze=true", "--init", "trained"]
    same("frozen", train((2, None, words + ["micro_batch=8"])), train((1, None, words)))


def refused(words, *patterns, ranks=1):
    for command in (["pretrain", "job.yaml", "run=refused"], ["plan", "job.yaml", "--ranks", str(ranks)]):
        text = simile(*command, *words, ranks=ranks if command[0] == "pretrain" else 1, code=78).stderr
        assert text.count("micro_batch: ") == 1, text
        for pattern in patterns:
            assert re.search(pattern, text), f"{words}: no {pattern!r} in {text}"


def what_cannot_be_divided_is_refused():
    refused(["batchnorm.group=0", "micro_batch=8"], r"batchnorm\.group=8\b", r"micro_batch=0\b")
    refused(["micro_batch=12"], r"block 8", r"\b8 or 16\b")
    refused(["batchnorm.group=4", "micro_batch=4"], r"block 8", r"nearest: 8\b")
    refused(["batchnorm.group=16", "micro_batch=24"], r"batchnorm\.group 16", r"\b16 or 32\b")
    refused(["batchnorm.group=16", "micro_batch=16"], r"2 ranks.*group 16", r"start 1 rank\b", ranks=2)
    with open("job.yaml") as f:
        text = f.read()
    with open("negative.yaml", "w") as f:
        f.write(text + "micro_batch: -8\n")
    message = simile("plan", "negative.yaml", code=78).stderr
    assert re.search(r"negative\.yaml:\d+.*micro_batch: -8", message), message


def planned(*words):
    """Bytes of an item of a plan, and of the total."""
    text = simile("plan", "job.yaml", *words).stdout
    of = dict(re.findall(r"^  (\S.*?) +([0-9.]+) MB", text, re.M))
    return float(of["activations"]) * 1e6, float(of["at most"]) * 1e6


def plan_proposes_the_largest_that_fits():
    words = ["batch=96"]
    whole = planned(*words)
    halved, sixth = planned(*words, "micro_batch=48"), planned(*words, "micro_batch=16")
    for part, size in ((2, halved), (6, sixth)):  # printed with 0.1 MB
        assert abs(size[0] - whole[0] / part) < 0.11e6, (whole, halved, sixth)
    for bn, expected in ((["batchnorm.group=8"], r"; micro_batch=(\d+)"),
                         (["batchnorm.group=0"], r"; batchnorm\.group=8 micro_batch=(\d+)"),
                         (["batchnorm.group=16"], r"; micro_batch=(\d+)")):
        limit = int((halved[1] + sixth[1]) / 2)
        message = simile("plan", "job.yaml", *words, *bn, "--memory", str(limit), code=78).stderr
        size = int(re.search(expected, message).group(1))
        proposed = bn if bn != ["batchnorm.group=0"] else ["batchnorm.group=8"]
        unit = max(8, int(proposed[0].split("=")[1]))
        assert 0 < size < 96 and size % unit == 0, message
        simile("plan", "job.yaml", *words, *proposed, f"micro_batch={size}", "--memory", str(limit))
        simile("plan", "job.yaml", *words, *proposed, f"micro_batch={size + unit}", "--memory", str(limit), code=78)
    message = simile("plan", "job.yaml", *words, "--memory", "1M", code=78).stderr
    assert "micro_batch" not in message and "--memory" in message, message


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    labelled_noise()
    with open("job.yaml", "w") as f:
        f.write(JOB)
    what_cannot_be_divided_is_refused()
    plan_proposes_the_largest_that_fits()
    every_division_has_the_same_bits()
    resumed_runs_have_the_same_bits()
    frozen_encoders_have_the_same_bits()
    every_method_has_the_same_bits()
print("ok")
