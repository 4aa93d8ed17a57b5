#!/usr/bin/python3
"""The newest checkpoint is found by exact names; links in a run directory to directories that have no
lock are refused; a directory `stop` is no request to stop.

simile-test: timeout 300
"""
import json
import os
import pathlib
import shutil
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
schedule: {steps: 6}
augment: {preset: digits}
checkpoint: {every_steps: 1, keep: 2}
"""
os.chdir(tempfile.mkdtemp())
noise(n=48, side=8)
pathlib.Path("job.yaml").write_text(JOB)
simile("pretrain", "job.yaml", "--stop-after", "2", code=75)
directory = pathlib.Path("run/checkpoints")
names = ["step-30.h5", "step-0000000030.h5", "Step-000000030.h5", "step-000000030.H5", "step-000000030-copy.h5",
         "step-99999999999999999999.h5", "step-+00000030.h5"]
for name in names:
    shutil.copy(directory / "step-000000002.h5", directory / name)
for command in (["inspect", "run", "--json"], ["pretrain", "job.yaml", "--stop-after", "4"]):
    done = simile(*command, code=75 if command[0] == "pretrain" else 0)
    for name in names:
        warnings = [line for line in done.stderr.splitlines() if f"/{name} " in line]
        assert len(warnings) == 1 and warnings[0].startswith("warning: "), (name, done.stderr)
    assert done.stderr.count("warning: ") == len(names), done.stderr
assert json.loads(simile("inspect", "run", "--json").stdout)["step"] == 4
runs = json.loads(simile("runs", "run", "--json").stdout)
assert runs[0]["step"] == 4, runs
assert all((directory / name).exists() for name in names)
for name in names:
    (directory / name).unlink()

# ---- stop ----
os.mkdir("run/stop")
simile("stop", "run", code=66)  # no job is running
simile("pretrain", "job.yaml")
assert os.path.isdir("run/stop")
assert json.loads(simile("inspect", "run", "--json").stdout)["step"] == 6
os.rmdir("run/stop")

# ---- links ----
before = {p: p.read_bytes() for p in directory.iterdir()}
os.mkdir("empty")
for name in ("checkpoints", "results", "heartbeat"):
    for target in (f"run/{name}", "empty", "nowhere"):
        shutil.rmtree("other", ignore_errors=True)
        os.mkdir("other")
        os.symlink(os.path.abspath(target), f"other/{name}")
        error = simile("pretrain", "job.yaml", "run=other", code=73).stderr
        assert f"other/{name}" in error and "link" in error, error
        assert os.listdir("other") == [name] or name == "heartbeat", os.listdir("other")
        assert not os.path.exists("other/run.lock")
        assert not os.listdir("empty")
assert before == {p: p.read_bytes() for p in directory.iterdir()}
os.symlink(os.path.abspath("empty"), "through")  # the run directory itself may be one
simile("pretrain", "job.yaml", "run=through", "--stop-after", "1", code=75)
assert os.path.islink("through") and os.path.exists("empty/checkpoints/step-000000001.h5")
for name in ("checkpoints", "run"):  # a file
    shutil.rmtree("other", ignore_errors=True)
    os.mkdir("other")
    pathlib.Path("other", name).write_text("a file\n")
    error = simile("pretrain", "job.yaml", "run=other/run" if name == "run" else "run=other", code=73).stderr
    assert f"other/{name}" in error and "not a directory" in error, error
print("ok")
