#!/usr/bin/python3
"""Files of other programs in the directory of a run, with names that the run uses and with content that
resembles its own, are neither changed nor lost.

simile-test: timeout 600
"""
import json
import os
import pathlib
import sys
import tempfile

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import noise, simile  # noqa: E402

JOB = """run: run
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 16
block: 8
schedule: {steps: 2}
augment: {preset: digits}
checkpoint: {every_steps: 1, keep: 3}
log: {every_steps: 1}
"""
LOG = "2026-11-24T08:45:35Z step 37/60 of another program\n2026-11-24T08:45:36Z similes are not simile\n"
METRICS = '{"epoch": 1, "step": 3, "loss": 0.5}\n'
OTHER = {"log.txt": LOG, "metrics.jsonl": METRICS, "heartbeat/rank-0": "0\n", "heartbeat/rank-1.csv": "1\n",
         "checkpoints/model.tmp.1": "weights"}

os.chdir(tempfile.mkdtemp())
noise(n=48, side=8)
pathlib.Path("job.yaml").write_text(JOB)


def contents(directory):
    return [p.read_bytes() for p in pathlib.Path(directory).rglob("*") if p.is_file() and p.name != "log.txt"] + \
        [pathlib.Path(directory, "log.txt").read_bytes()]


for run in (".", "plain"):
    for name, text in OTHER.items():
        path = pathlib.Path(run, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    simile("pretrain", "job.yaml", f"run={run}")
    found = contents(run)
    for name, text in OTHER.items():
        assert text.encode() in found, f"{run}/{name} is gone"
    assert pathlib.Path(run, "log.txt").read_text().splitlines()[0].split()[1] != "step"
    assert all(json.loads(line)["step"] < 3 for line in pathlib.Path(run, "metrics.jsonl").open())
    assert os.path.exists(f"{run}/heartbeat/rank-0.old-1") and os.path.exists(f"{run}/heartbeat/rank-1.csv")
    assert not os.path.exists(f"{run}/heartbeat/rank-0")

# ---- compare: files of the user in the directory of a run ----
plan = simile("compare", "job.yaml", "--out", "grid", "--seeds", "1", "--plan").stdout
run = pathlib.Path(next(w for w in plan.replace(",", " ").split() if w.startswith("grid/")))
run.mkdir(parents=True)
for name in ("output.txt", "failure.json"):
    (run / name).write_text("{}\nmine\n")
simile("compare", "job.yaml", "--out", "grid", "--seeds", "1")
for name in ("output.txt", "failure.json"):
    assert (run / f"{name}.old-1").read_text() == "{}\nmine\n", name
assert (run / "output.txt").read_text().startswith("$ ")

# ---- bench: a directory with the name of its temporary one is neither used nor removed ----
before = sorted(os.listdir("."))
simile("bench", "checkpoint", "--width", "0.0625")
assert sorted(os.listdir(".")) == before
print("ok")
