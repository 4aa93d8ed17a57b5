#!/usr/bin/python3
"""Control characters in names of files, classes, keys, values and attributes reach neither the terminal
nor the log; text in UTF-8 stays as it is, and scripts read exact values.

simile-test: timeout 300
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import h5py
import numpy as np
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
SIMILE = os.environ["SIMILE"]
EVIL = "é\x1b[31m\x07\x7f\u009b2J\u202e"  # colour, bell, delete, C1, direction
LINE = "\n2026-11-24T08:45:35Z step 99 forged"
FORBIDDEN = set(range(32)) - {10} | set(range(0x7f, 0xa0)) | {0x202e}

os.chdir(tempfile.mkdtemp())
os.environ["LC_ALL"] = "C.UTF-8"


def check(text, where):
    bad = {hex(ord(c)) for c in text if ord(c) in FORBIDDEN}
    assert not bad, f"{where}: {bad} in {text!r}"
    assert "\n2026-11-24T08:45:35Z step 99" not in text, where


def simile(*words, code=0):
    done = subprocess.run([SIMILE, *words], capture_output=True)
    assert done.returncode == code, (words, done.returncode, done.stderr)
    out, err = done.stdout.decode(), done.stderr.decode()
    check(out, words)
    check(err, words)
    return out, err


# ---- names of classes and photos ----
random = np.random.RandomState(1)
for name in ("plain", EVIL, "b" + LINE):
    os.makedirs(f"photos/{name}")
    for i in range(8):
        Image.fromarray(random.randint(0, 256, (12, 12, 3)).astype("u1")).save(f"photos/{name}/{i}{EVIL}.png")
pathlib.Path(f"photos/{EVIL}/bad{EVIL}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
_, err = simile("prepare", "photos", "--size", "8", "--out", "train.h5")
assert "é" in err and "\\x1b[31m" in err, err
_, err = simile("prepare", f"none{EVIL}", "--out", "x.h5", code=66)
assert "\\u009b2J\\u202e" in err and "\\x07\\x7f" in err, err
simile("prepare", b"none\xff\xfe", "--out", "x.h5", code=66)
# ---- attributes ----
with h5py.File("train.h5", "r+") as f:
    source = f.attrs["source"]
    f.attrs["source"] = np.bytes_(source[:4] + b"\x1b]0;title\x07" if isinstance(source, bytes) else (source[:4] + "\x1b]0;title\x07").encode())
for words in ([], ["--json"]):
    out, _ = simile("inspect", "train.h5", *words)
    assert json.loads(out)["source"].endswith("\x1b]0;title\x07")
# ---- jobs: path, key, value, run ----
JOB = """run: run
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 8
block: 4
schedule: {steps: 2}
augment: {preset: digits}
log: {every_steps: 1}
"""
job = f"job{EVIL}.yaml"
pathlib.Path(job).write_text(JOB)
for words in ([f"bat{EVIL}ch=3"], [f"method.name={EVIL}"], [f"data.train={EVIL}.h5"], [f"batch={EVIL}"]):
    done = subprocess.run([SIMILE, "plan", job, *words], capture_output=True)
    assert done.returncode in (64, 66, 78), done
    check(done.stderr.decode(), words)
for words in ([f"{EVIL}"], [f"--{EVIL}"], ["plan", f"--{EVIL}"], ["plan", job, EVIL], ["prepare", "--size", EVIL],
              ["pretrain", job, "--accept", EVIL], ["runs", "--sort", EVIL], ["export", "x", "--out", "y", "--format", EVIL]):
    out, err = simile(*words, code=64)
    assert "\\x1b[31m" in err, (words, err)
value = subprocess.run([SIMILE, "plan", job, "--value", "data.train"], capture_output=True).stdout
assert value == b"train.h5\n", value
# ---- the directory of a run: log, tables, JSON ----
directory = "d" + EVIL + LINE
os.mkdir(directory)
os.rename("train.h5", f"{directory}/train.h5")
os.chdir(directory)
pathlib.Path("job.yaml").write_text(JOB)
simile("pretrain", "job.yaml")
simile("pretrain", os.path.join(os.getcwd(), "job.yaml"), "schedule.steps=3", "--accept", "schedule.steps")
check(pathlib.Path("run/log.txt").read_text(), "log.txt")
os.chdir("..")
for words in (["runs", directory], ["runs", directory, "--json"], ["inspect", f"{directory}/run"], ["inspect", f"{directory}/run", "--json"],
              ["evaluate", "knn", f"{directory}/run", "--train", f"{directory}/train.h5", "--test", f"{directory}/train.h5", "--k", "3", "--json"]):
    out, _ = simile(*words)
    if "--json" in words:
        assert json.dumps(directory)[1:-1] in json.dumps(json.loads(out)), out
print("ok")
