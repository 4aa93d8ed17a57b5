#!/usr/bin/python3
"""The ends of every range: each number of `simile plan --keys` at its minimum and maximum, and each choice, in
a small job.  The job runs with a finite loss, or is refused with a message that names the key; it does not
crash or hang.  The same for the options of `evaluate`.  Jobs that would need more than MEMORY are only planned.

An argument selects the cases that contain it.

simile-test: timeout 3600 processors 2 labels long
"""
import concurrent.futures
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

SIMILE = os.environ["SIMILE"]
MEMORY = "500M"
FAILED_GUARD = 70  # a loss that is not finite, of a learning rate of 10000
STOPPED = 75
JOB = """run: unset
data: {train: train.h5, test: train.h5}
method: {name: simclr}
encoder: {width: 0.0625, projector: {hidden: 16, dim: 16}}
batch: 8
block: 4
schedule: {epochs: 2}
augment: {preset: digits}
log: {every_steps: 1}
"""
# Settings that make a key take effect.
WITH = {
    "optimizer.(trust|clip_lr|dialect)": ["optimizer.name=lars"],
    "optimizer.(beta|eps)": ["optimizer.name=adamw", "optimizer.lr=1e-3"],
    "optimizer.nesterov": ["optimizer.momentum=0.9"],
    "schedule.(warmup_start_lr)": ["schedule.warmup_epochs=1"],
    "schedule.(gamma)": ["schedule.shape=steps", "schedule.milestones=[1]"],
    "schedule.min_lr": ["optimizer.lr=10000"],
    "evaluate.(k|temperature|knn_images)$": ["evaluate.knn_every_epochs=1"],
    "evaluate.linear_l2": ["evaluate.linear_every_epochs=1"],
    "evaluate.quality_images": ["evaluate.quality_every_epochs=1"],
    "checkpoint.keep_best": [f"evaluate.{e}_every_epochs=1" for e in ("knn", "linear", "quality")],
    "method.weight": ["method.weights=dclw"],
    "method.multi_view": ["method.views=3"],
    "method.momentum_final": ["method.momentum_schedule=cosine"],
}
# Settings of a method that fit the small job.
SMALL = {"queue_size": "method.queue_size=16", "predictor_hidden": "method.predictor_hidden=16"}
OF_METHOD = {"cpc": ["augment.size=32", "method.grid=3", "method.steps=1", "method.negatives=8", "optimizer.lr=1e-4"]}


def call(*words):
    """Exit code and output; the code is None if it hangs."""
    try:
        done = subprocess.run([SIMILE, *words], capture_output=True, text=True, errors="replace", timeout=240)
    except subprocess.TimeoutExpired:
        return None, "hangs"
    return done.returncode, done.stderr + done.stdout


def crashed(code, text):
    return code is None or code < 0 or code >= 128 or re.search(r"bug:|runtime error|Sanitizer", text)


def write_data():
    pixels = bytes((17 * i * i + 91 * i) % 251 for i in range(24 * 64))
    with open("t-images-idx3-ubyte", "wb") as f:
        f.write(struct.pack(">4I", 0x803, 24, 8, 8) + pixels)
    with open("t-labels-idx1-ubyte", "wb") as f:
        f.write(struct.pack(">2I", 0x801, 24) + bytes(i % 3 for i in range(24)))
    code, text = call("prepare", "t-images-idx3-ubyte", "--out", "train.h5")
    assert code == 0, text
    with open("job.yaml", "w") as f:
        f.write(JOB)


# ---- the keys ----

def table():
    """Yields (method or "", operation or "", key, values) of every number and every choice."""
    code, text = call("plan", "--keys")
    assert code == 0, text
    method = operation = ""
    for line in text.splitlines()[1:]:
        if line.startswith("with method.name: "):
            method = line.split()[2]
            continue
        words = re.match(r"( +)(\S+) +(\S+) +\[([^]]*)\] *(.*)", line)
        if line.strip().startswith("op: "):
            operation = line.split()[1]
            continue
        if not words or " defaults to " in line:
            continue
        indent, key, kind, _, rest = words.groups()
        ends = re.match(r"(?:\w+, or )?(-?[0-9.e+-]+) to (-?[0-9.e+-]+)", rest)
        values = ends.groups() if ends else kind.split("|") if "|" in kind else ()
        yield method, operation if len(indent) > 4 else "", key, values


def settings(method, operation, key, value):
    if operation:
        return [f"augment.view1=[{{op: {operation}, p: 1, {key}: {value}}}]" if key != "p"
                else f"augment.view1=[{{op: {operation}, p: {value}}}]"]
    others = [s for pattern, list_ in WITH.items() if re.match(pattern, key) for s in list_]
    if method:
        others = [f"method.name={method}", *OF_METHOD.get(method, []), *others]
    return [s for s in others if not s.startswith(key + "=")] + [f"{key}={value}"]


def cases():
    rows = list(table())
    assert len(rows) > 150, f"{len(rows)} keys"
    of_method = {}
    for method, _, key, _ in rows:
        if method:
            of_method.setdefault(method, []).append(key)
    assert len(of_method) > 10, of_method
    for method, operation, key, values in rows:
        small = [SMALL[k] for k in SMALL if f"method.{k}" in of_method.get(method, []) and f"method.{k}" != key]
        for value in values:
            yield key, small + settings(method, operation, key, value)


def finite_losses(run, waits):
    """Every step has a finite loss; with `waits`, the last one has: the first steps only fill the queue."""
    with open(f"{run}/metrics.jsonl") as f:
        records = [json.loads(line) for line in f]
    losses = [r["loss"] for r in records if "loss" in r][-1 if waits else 0:]
    return losses and all(isinstance(x, (int, float)) and math.isfinite(x) for x in losses)


def too_large(words):
    code, text = call("plan", "job.yaml", *words, "--memory", MEMORY)
    return code not in (0, None) and "--memory" in text


def try_case(number, key, words):
    run = f"run-{number}"
    if too_large([*words, f"run={run}"]):
        return None
    code, text = call("pretrain", "job.yaml", *words, f"run={run}", "--stop-after", "4")
    problem = None
    named = any(w.split("=")[0].split(".")[-1] in text for w in words) or key in text
    if crashed(code, text):
        problem = f"exit {code}"
    elif code in (0, STOPPED):
        if key != "log.every_steps" and not finite_losses(run, key == "method.queue.warm"):
            problem = "a loss that is not finite"
    elif code == FAILED_GUARD:
        if "not finite" not in text:
            problem = f"exit {code}"
    elif not named:
        problem = f"exit {code}, and the message does not name the key"
    shutil.rmtree(run, ignore_errors=True)
    return f"{' '.join(words)}: {problem}\n{text}" if problem else None


# ---- evaluate ----

# option: (evaluation, key whose range it has, result that is expected to be finite)
OPTIONS = [("knn", "--k", "evaluate.k", "top1"), ("knn", "--temperature", "evaluate.temperature", "top1"),
           ("linear", "--l2", "evaluate.linear_l2", "top1"), ("quality", "--images", "evaluate.quality_images", "rankme")]


def evaluations():
    ranges = {key: values for _, _, key, values in table()}
    failures = []
    code, text = call("pretrain", "job.yaml", "run=model", "schedule.steps=1")
    assert code == 0, text
    for name, option, key, field in OPTIONS:
        for value in ranges[key]:
            train = [] if name == "quality" else ["--train", "train.h5"]
            code, text = call("evaluate", name, "model", *train, "--test", "train.h5", option, value, "--json")
            result = json.loads(text.splitlines()[-1]) if code == 0 else {}
            if crashed(code, text) or (code == 0 and not math.isfinite(result[field])) or \
                    (code and option[2:] not in text):
                failures.append(f"{name} {option} {value}: exit {code}\n{text}")
    # Every image is its own nearest neighbour, which outweighs all others at a small temperature.
    for temperature in (ranges["evaluate.temperature"][0], "0.0013", "0.0015"):
        code, text = call("evaluate", "knn", "model", "--train", "train.h5", "--test", "train.h5", "--temperature",
                          temperature, "--json")
        if code or json.loads(text.splitlines()[-1])["top1"] != 1:
            failures.append(f"knn --temperature {temperature}: exit {code}, expected top1 1\n{text}")
    return failures


scratch = tempfile.mkdtemp()
os.chdir(scratch)
write_data()
only = sys.argv[1] if len(sys.argv) > 1 else ""
failures = evaluations() if only in "evaluate" else []
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    jobs = [pool.submit(try_case, i, *c) for i, c in enumerate(cases()) if only in " ".join(c[1])]
    failures += [j.result() for j in jobs if j.result()]
os.chdir("/")
shutil.rmtree(scratch)
print(f"{len(jobs)} cases")
if failures:
    sys.exit(f"FAILED: {len(failures)} cases\n" + "\n".join(failures))
print("passed")
