#!/usr/bin/python3
"""Checkpoints with a right digest and impossible values: every scalar of a checkpoint, and every number of
its JSON and of its identity, is replaced by others.  A start from it is refused with the file and the name
of the value, or runs to its end; which of the two follows from the rules below.  Commands that only read
the checkpoint never crash.

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

import h5py
import numpy as np

SIMILE, SEAL = os.environ["SIMILE"], os.path.join(os.environ["SIMILE_TOOLS"], "checkpoint_tool_seal")
TRAILER = 64
INT64 = np.iinfo(np.int64)
N, SIDE, BATCH, STEP = 96, 8, 16, 8
top = tempfile.mkdtemp()
os.chdir(top)
failures = []

JOB = """run: unset
data: {train: train.h5}
encoder: {width: 0.0625, projector: {dim: 16}}
batch: 16
block: 8
schedule: {steps: 10}
augment: {preset: digits}
log: {every_steps: 3}
checkpoint: {every_minutes: 0}
"""
METHODS = {
    "simclr": "method: {name: simclr, learn_temperature: true}\noptimizer: {name: adamw, lr: 1e-3}\n",
    "moco": "method: {name: mocov2, queue_size: 256}\n",
    "nnclr": "method: {name: nnclr, queue_size: 64}\n",
}


def run(*words):
    done = subprocess.run([SIMILE, *words], capture_output=True, text=True, errors="replace", timeout=300)
    return done.returncode, done.stdout + done.stderr


def must(*words, code=0):
    rc, text = run(*words)
    assert rc == code, f"exit {rc}, expected {code}: {words}\n{text}"
    return text


def crashed(rc, text):
    return rc < 0 or rc >= 128 or rc == 70 or re.search(r"bug:|runtime error|Sanitizer", text)


# ---- the values ----

def others(value):
    """Values that replace a scalar."""
    if isinstance(value, (int, np.integer)):
        near = {0, -1, 1, int(INT64.max), int(INT64.min), int(value) - 1, int(value) + 1,
                int(value) * 2 + 7, 2**53 + 2}
        return sorted(v for v in near - {int(value)} if INT64.min <= v <= INT64.max)
    return [v for v in (0.0, -1.0, float(value) * 2 + 1, 1e300, -1e300, math.inf, -math.inf, math.nan)
            if v != float(value)]


def may_run(name, v, state):
    """Whether a run may start from a checkpoint in which the scalar has the value v."""
    if name in ("step", "epoch", "samples"):
        return False
    if name.startswith("weights/method/"):
        return not math.isnan(v) and math.log(0.005) <= v <= math.log(10)
    if name.endswith("num_batches_tracked"):
        return 0 <= v <= 2**53
    if name.startswith(("optimizer/momentum/", "optimizer/second/")):
        return abs(v) < 3.4e38 and (v >= 0 or "momentum" in name)
    if name == "optimizer/updates":
        return 0 <= v <= state["step"] - state["train/skipped"] and v >= state["train/metrics/steps"]
    if name == "train/skipped":
        return 0 <= v <= state["step"] - state["optimizer/updates"]
    if name == "train/bad_run":
        return v == 0
    if name == "train/collapsed":
        return v in (0, 1)
    if name in ("train/best_step", "train/healthy_step"):
        return 0 <= v <= state["step"]
    if name == "train/published":
        return -1 <= v <= state["step"]
    if name == "train/best_score":
        return math.isfinite(v)
    if name == "train/metrics/steps":
        return 0 <= v <= state["optimizer/updates"]
    if name.startswith("train/metrics/"):
        return True  # sums may be NaN; they are only printed
    size = state["queue"]
    if name == "queue/pointer":
        return 0 <= v < size and state["queue/filled"] in (v, size)
    if name == "queue/filled":
        return v == size or v == state["queue/pointer"]
    raise AssertionError(f"no rule for {name}")


def may_have(path, v, entries):
    """The same for a number of /history."""
    i, key = path
    last = i == len(entries) - 1
    if key == "from_step":
        return v == 0 if i == 0 else 0 <= v <= entries[i - 1]["to_step"]
    if key == "to_step":
        return v == STEP if last else entries[i + 1]["from_step"] <= v <= 2**53
    if key == "batch":
        return False  # without an accepted change, all segments have one batch
    if key == "images":
        return False
    if key == "nodes":
        return 0 <= v < 2**31
    if key in ("ranks", "threads"):
        return 1 <= v < 2**31
    if key in ("elapsed_s", "slowest_checkpoint_s"):
        return 0 <= v <= 1e12
    if key == "images_per_s":
        return v >= 0
    raise AssertionError(f"no rule for /history {key}")


# ---- one case ----

def replace(path, name, value):
    """Sets a scalar, or a text, of a sealed checkpoint."""
    with open(path, "r+b") as f:
        f.truncate(os.path.getsize(path) - TRAILER)
    with h5py.File(path, "r+") as f:
        if isinstance(value, str):
            del f[name]
            f[name] = np.frombuffer(value.encode(), "u1")
        else:
            f[name][...] = value
    subprocess.run([SEAL, path], check=True, capture_output=True)


def try_case(method, number, what, name, value, allowed, word):
    """allowed: None: either result is right."""
    directory = f"{method}-{number}"
    shutil.copytree(f"{method}-base", directory)
    path = f"{directory}/checkpoints/step-{STEP:09d}.h5"
    replace(path, name, value)
    problem = None
    rc, text = run("pretrain", f"{method}.yaml", f"run={directory}")
    if crashed(rc, text):
        problem = f"exit {rc}\n{text}"
    elif rc == 0:
        lines = open(f"{directory}/metrics.jsonl").read().splitlines()
        if allowed is False:
            problem = "accepted"
        elif json.loads(lines[-1])["step"] != 10:
            problem = f"ended at {lines[-1]}"
    elif allowed:
        problem = f"refused: exit {rc}\n{text}"
    elif rc != 65 or word not in text or "step-000000008.h5" not in text:
        problem = f"exit {rc}, expected 65 with the file and {word}\n{text}"
    shutil.rmtree(directory)
    return f"{method}: {what}: {problem}" if problem else None


def read_case(number, name, value, what):
    """Commands that read a value do not crash."""
    directory = f"read-{number}"
    shutil.copytree("simclr-base", directory)
    replace(f"{directory}/checkpoints/step-{STEP:09d}.h5", name, value)
    problem = None
    of_model = name in ("preprocessing", "identity")
    for words in ([["evaluate", "knn", directory, "--train", "train.h5", "--test", "train.h5"],
                   ["export", directory, "--out", f"{directory}/out"]] if of_model
                  else [["inspect", directory], ["runs", directory]]):
        rc, text = run(*words)
        if crashed(rc, text):
            problem = f"{words[0]}: exit {rc}\n{text}"
    shutil.rmtree(directory)
    return f"{what}: {problem}" if problem else None


# ---- all cases ----

def state_of(path):
    """The scalars of a checkpoint, by name, and its texts."""
    state, texts = {}, {}

    def see(name, o):
        if isinstance(o, h5py.Dataset) and o.size == 1 and o.dtype != np.uint8:
            state[name] = o[()].reshape(-1)[0] if o.ndim else o[()]
        elif isinstance(o, h5py.Dataset) and o.dtype == np.uint8:
            texts[name] = bytes(o[()]).decode()

    with h5py.File(path) as f:
        f.visititems(see)
        state["queue"] = len(f["queue/rows"]) if "queue" in f else 0
    return state, texts


def scalar_cases(method, state):
    counters = 0
    for name, value in state.items():
        if name == "queue" or (method != "simclr" and not name.startswith("queue/")):
            continue  # the others are common to all methods
        if name.endswith("num_batches_tracked"):
            counters += 1
            if counters > 1:
                continue  # one of many
        for v in others(value):
            yield method, f"/{name} = {v}", name, v, may_run(name, v, state), name.split("/")[-1]


def history_cases(method, text):
    entries = json.loads(text)
    for i, entry in enumerate(entries):
        for key, value in entry.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            for v in others(value):
                if not math.isfinite(v):
                    continue
                changed = json.loads(text)
                changed[i][key] = v
                yield (method, f"/history {i} {key} = {v}", "history", json.dumps(changed),
                       may_have((i, key), v, entries), "/history")
            changed = json.loads(text)
            del changed[i][key]
            required = key not in ("images", "elapsed_s", "slowest_checkpoint_s")
            yield (method, f"/history {i} without {key}", "history", json.dumps(changed), not required, "/history")
    for odd in ("[]", "{}", "[1]", "[{}]", "nonsense", "", "[null]", json.dumps(entries + [1])):
        yield method, f"/history {odd}", "history", odd, False, "/history"


def preprocessing_texts(text):
    """Copies of a JSON object in which one number is another."""
    for key, value in json.loads(text).items():
        for i in range(len(value)) if isinstance(value, list) else [None]:
            x = value if i is None else value[i]
            if not isinstance(x, (int, float)):
                continue
            for v in others(x):
                if not math.isfinite(v):
                    continue
                changed = json.loads(text)
                if i is None:
                    changed[key] = v
                else:
                    changed[key][i] = v
                yield f"/preprocessing {key} = {v}", json.dumps(changed)


def identity_texts(text):
    lines = text.splitlines()
    for i, line in enumerate(lines):
        key, _, value = line.partition(": ")
        if not re.fullmatch(r"[-+0-9.e]+", value) or not key.startswith(("encoder", "method", "augment.size")):
            continue
        for v in ("0", "-1", str(INT64.max), "1e308", "nan", ""):
            yield f"/identity {key}: {v}", "\n".join(lines[:i] + [f"{key}: {v}"] + lines[i + 1:]) + "\n"


def prepare():
    rng = np.random.default_rng(5)
    labels = np.arange(N) % 4
    images = np.clip(rng.integers(0, 255, (4, SIDE, SIDE))[labels] + rng.integers(-40, 40, (N, SIDE, SIDE)), 0, 255)
    for name, array in (("t-images-idx3-ubyte", images), ("t-labels-idx1-ubyte", labels)):
        with open(name, "wb") as f:
            f.write(struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape))
            f.write(array.astype("u1").tobytes())
    must("prepare", "t-images-idx3-ubyte", "--out", "train.h5")
    for method, keys in METHODS.items():
        with open(f"{method}.yaml", "w") as f:
            f.write(JOB + keys)
        must("pretrain", f"{method}.yaml", f"run={method}-base", "--stop-after", "4", code=75)
        must("pretrain", f"{method}.yaml", f"run={method}-base", "--stop-after", str(STEP), code=75)
        for name in os.listdir(f"{method}-base/checkpoints"):  # a run may not start from an older one instead
            if name.startswith("step-") and name != f"step-{STEP:09d}.h5":
                os.remove(f"{method}-base/checkpoints/{name}")


def all_cases():
    for method in METHODS:
        state, texts = state_of(f"{method}-base/checkpoints/step-{STEP:09d}.h5")
        yield from scalar_cases(method, state)
        if method == "simclr":
            yield from history_cases(method, texts["history"])
            for what, text in preprocessing_texts(texts["preprocessing"]):
                yield method, what, "preprocessing", text, None, "step-"


def readings():
    state, texts = state_of(f"simclr-base/checkpoints/step-{STEP:09d}.h5")
    for name in ("step", "epoch", "samples"):
        for v in others(state[name]):
            yield name, v, f"/{name} = {v}"
    for _, what, name, text, _, _ in history_cases("simclr", texts["history"]):
        yield name, text, what
    for what, text in preprocessing_texts(texts["preprocessing"]):
        yield "preprocessing", text, what
    for what, text in identity_texts(texts["identity"]):
        yield "identity", text, what


prepare()
only = sys.argv[1] if len(sys.argv) > 1 else ""
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    jobs = [pool.submit(try_case, c[0], i, *c[1:]) for i, c in enumerate(all_cases()) if only in c[1]]
    jobs += [pool.submit(read_case, i, *c) for i, c in enumerate(readings()) if only in c[2]]
    for j in jobs:
        if j.result():
            failures.append(j.result())
            print(failures[-1], flush=True)
os.chdir("/")
shutil.rmtree(top)
if failures:
    sys.exit(f"FAILED: {len(failures)} of {len(jobs)} cases")
print(f"{len(jobs)} cases passed")
