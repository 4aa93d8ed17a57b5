#!/usr/bin/python3
"""A run is renamed, or its lock deleted, while a job writes to it, and another job starts in its place: the
first job ends with exit code 73 and changes nothing of the other's.  A lock of another machine or cluster
is not taken over.

simile-test: timeout 600 processors 2
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import on_ranks  # noqa: E402
from program import SIMILE, noise, preload, simile  # noqa: E402

DEADLINE_S = 200  # ends a test that hangs; a busy machine stays far below
JOB = """run: run
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 32
block: 8
schedule: {steps: 60}
augment: {preset: digits}
log: {every_steps: 1}
checkpoint: {every_steps: 7, keep: 2}
"""


def start(ranks, *words, n_lines=8):
    """A job that pauses before its ninth line of metrics, when the file has n_lines, until the file `go`
    exists."""
    if os.path.exists("go"):
        os.remove("go")
    slow = {"LD_PRELOAD": os.path.abspath("slow.so"), "SLOW_MS": "600000", "SLOW_AFTER": "8", "SLOW_UNTIL": os.path.abspath("go")}
    launcher = on_ranks(ranks)
    job = subprocess.Popen([*launcher, SIMILE, "pretrain", "job.yaml", *words], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                           text=True, env={**os.environ, **slow})
    end = time.monotonic() + DEADLINE_S
    while not os.path.exists("run/metrics.jsonl") or open("run/metrics.jsonl").read().count("\n") < n_lines:
        assert job.poll() is None, job.stderr.read()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
    return job


def finish(job):
    open("go", "w").close()
    text = job.communicate(timeout=DEADLINE_S)[1]
    assert job.returncode == 73, f"exit {job.returncode}\n{text}"
    assert "run/run.lock" in text, text
    return text


def files(directory):
    """Content of every file, without the lock and the heartbeats."""
    found = {}
    for parent, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(parent, name)
            if "/heartbeat/" not in path and name != "run.lock":
                with open(path, "rb") as f:
                    found[os.path.relpath(path, directory)] = f.read()
    return found


def check_renamed(ranks):
    """The other job stops at step 4; without the check the first one would delete its checkpoints."""
    job = start(ranks, "seed=1")
    os.rename("run", "run.old")
    simile("pretrain", "job.yaml", "seed=2", "--stop-after", "4", code=75)
    before = files("run")
    finish(job)
    assert files("run") == before
    simile("pretrain", "job.yaml", "seed=2")
    for name in os.listdir("run/checkpoints"):
        if name.startswith("step-"):
            inspected = json.loads(simile("inspect", "run/checkpoints/" + name, "--json").stdout)
            assert inspected["identity"]["seed"] == 2, name
    # the renamed run continues where it was left
    simile("pretrain", "job.yaml", "seed=1", "run=run.old")
    steps = [json.loads(line)["step"] for line in open("run.old/metrics.jsonl")]
    assert steps == list(range(1, 61)), steps
    for run in ("run", "run.old"):
        shutil.rmtree(run)


def check_deleted_lock():
    """The other job still runs, and is not disturbed."""
    job = start(1)
    os.remove("run/run.lock")
    finish(job)
    assert not os.path.exists("run/run.lock")
    before = files("run")
    job = start(1, n_lines=7 + 8)  # resumed from step 7
    os.remove("run/run.lock")
    with open("run/run.lock", "w") as f:  # of another job
        f.write("host elsewhere\npid 1\njob -\nsince -\ntoken 0123\n")
    text = finish(job)
    assert "pid 1 on elsewhere" in text, text
    assert open("run/run.lock").read().startswith("host elsewhere")
    names = {n for n in before if n.startswith("checkpoints/step")}
    assert names <= set(files("run")), "checkpoints were deleted"
    shutil.rmtree("run")


def check_deleted_run():
    job = start(1)
    shutil.rmtree("run")
    os.mkdir("run")
    finish(job)
    assert not os.listdir("run"), os.listdir("run")


def refused(text):
    os.makedirs("run", exist_ok=True)
    with open("run/run.lock", "w") as f:
        f.write(text)
    message = simile("pretrain", "job.yaml", "--stop-after", "1", code=73).stderr
    assert "run/run.lock" in message and "rm " not in message, message
    with open("run/run.lock") as f:
        assert f.read() == text
    return message


def script(name, text):
    os.makedirs("bin", exist_ok=True)
    with open("bin/" + name, "w") as f:
        f.write("#!/bin/sh\n" + text)
    os.chmod("bin/" + name, 0o755)


def check_clusters():
    script("squeue", 'echo "slurm_load_jobs error: Invalid job id specified" >&2\nexit 1\n')
    script("scontrol", 'printf "Configuration data\\nClusterName             = here\\nx = y\\n"\n')
    before = os.environ["PATH"]
    os.environ["PATH"] = os.path.abspath("bin") + ":" + before
    lock = "host %s\npid 999999999\nstart 1\nspace pid:[1]\nboot elsewhere\nmachine elsewhere\njob 123\nrestart 0\ncluster %s\nsince now\ntoken 1\n"
    host = os.uname().nodename
    assert "job 123 of cluster there" in refused(lock % ("other", "there"))
    refused(lock % (host, "there"))  # a node of the same name
    refused(lock % ("other", "-"))
    refused("host other\npid 999999999\nstart 1\njob 123\nrestart 0\nsince now\n")  # of an early version
    with open("run/run.lock", "w") as f:
        f.write(lock % ("other", "here"))
    simile("pretrain", "job.yaml", "--stop-after", "1", code=75)
    os.environ.update(SLURM_JOB_ID="123", SLURM_RESTART_COUNT="1", SLURM_CLUSTER_NAME="there")
    refused(lock % ("other", "here-too"))
    with open("run/run.lock", "w") as f:  # an earlier start of this job
        f.write(lock % ("other", "there"))
    simile("pretrain", "job.yaml", "--stop-after", "2", code=75)
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_CLUSTER_NAME"):
        del os.environ[name]
    os.environ["PATH"] = before
    assert not os.path.exists("run/run.lock")
    shutil.rmtree("run")


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    preload("slurm/slow.c")
    noise()
    open("job.yaml", "w").write(JOB)
    check_clusters()
    check_renamed(1)
    check_renamed(2)
    check_deleted_lock()
    check_deleted_run()
print("ok")
