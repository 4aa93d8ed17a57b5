#!/usr/bin/python3
"""metrics.jsonl of a run that is stopped and resumed: every interval and evaluation once, with kind and
time; the elapsed time continues.  A completed run prints one line and changes no file.  `evaluate` takes
what is not given from the run's job, and stores its result in the run.

simile-test: timeout 600
"""
import datetime
import json
import os
import re
import sys
import tempfile
import time

import h5py
import numpy as np

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import simile  # noqa: E402

JOB = """run: run
data: {train: train.h5, test: test.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 32
block: 8
schedule: {epochs: 4}
log: {every_steps: 2}
evaluate: {knn_every_epochs: 2, k: 5}
"""


def pretrain(*words, code=0):
    return simile("pretrain", "job.yaml", *words, code=code).stderr


def data_set(name, n, seed):
    with h5py.File("raw.h5", "w") as f:
        f["images"] = np.random.RandomState(seed).randint(0, 256, (n, 8, 8, 3)).astype("u1")
        f["labels"] = np.arange(n) % 3
    simile("prepare", "raw.h5", "--out", name + ".h5")


def lines():
    with open("run/metrics.jsonl") as f:
        return [json.loads(line) for line in f]


def files():
    """Content of every file of the run, without the log."""
    found = {}
    for directory, _, names in os.walk("run"):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as f:
                found[path] = f.read()
    found.pop("run/log.txt")
    return found


def check_evaluate():
    knn = ["evaluate", "knn", "run", "--json"]
    full = json.loads(simile(*knn, "--train", "train.h5", "--test", "test.h5", "--k", "5", "--temperature", "0.1").stdout)
    path = f"run/results/knn-step-{full['step']:09d}.json"
    os.remove(path)
    assert json.loads(simile(*knn).stdout) == full
    with open(path) as f:
        assert json.load(f) == full
    with h5py.File("test.h5") as f:
        assert full["test"] == {"path": "test.h5", "fingerprint": f.attrs["fingerprint"].decode()}
    last = [r for r in lines() if r["kind"] == "evaluation"][-1]
    assert last["test"] == full["test"]["fingerprint"]
    assert last["step"] != full["step"] or last["knn_top1"] == full["top1"]
    checkpoint = os.path.join("run/checkpoints", open("run/checkpoints/latest").read().strip())
    # other inputs: another file each, and the result of the job's inputs stays
    data_set("other", 24, 5)
    with h5py.File("other.h5") as f:
        other = f.attrs["fingerprint"].decode()[:8]
    os.symlink("test.h5", "link.h5")
    before = set(os.listdir("run/results"))
    cases = {"-k-3": ["--k", "3"], "-temperature-0.07": ["--temperature", "0.07"], f"-test-{other}": ["--test", "other.h5"],
             f"-train-{other}-k-7": ["--train", "other.h5", "--k", "7"], "": ["--test", "link.h5", "--k", "5"]}
    for variant, words in cases.items():
        result = json.loads(simile(*knn[:2], checkpoint, *words, "--json").stdout)
        assert result["k"] == int(dict(zip(words, words[1:])).get("--k", 5)), result
        with open(path.replace(".json", variant + ".json")) as f:
            assert json.load(f) == result, variant
    assert set(os.listdir("run/results")) == before | {os.path.basename(path).replace(".json", v + ".json") for v in cases}
    with open(path) as f:
        assert json.load(f)["top1"] == full["top1"]
    # data.test has other images now: the earlier result is kept
    os.rename("test.h5", "kept.h5")
    os.rename("other.h5", "test.h5")
    assert path + ".old-1" in simile(*knn).stderr
    with open(path + ".old-1") as f, open(path) as g:
        assert json.load(f)["top1"] == full["top1"] and json.load(g)["test"]["fingerprint"].startswith(other)
    os.remove(path)
    os.rename("kept.h5", "test.h5")
    os.rename("run/results", "run/kept")  # it cannot be stored: the result is printed all the same
    os.symlink("/proc/self", "run/results")
    done = simile(*knn)
    assert json.loads(done.stdout) == full and "warning" in done.stderr and path in done.stderr
    os.remove("run/results")
    os.rename("run/kept", "run/results")
    for mine in ("notes", '{"accuracy": 1}'):  # not a result: it is kept
        open(path, "w").write(mine)
        assert path + ".old-" in simile(*knn).stderr
        assert mine in [open(os.path.join("run/results", name)).read() for name in os.listdir("run/results")]
        with open(path) as f:
            assert json.load(f) == full
    os.rename("test.h5", "elsewhere.h5")
    assert "data.test" in simile(*knn, code=66).stderr
    assert json.loads(simile(*knn, "--test", "elsewhere.h5").stdout)["top1"] == full["top1"]
    open("job.yaml", "w").write(JOB.replace(", test: test.h5", ""))
    pretrain("run=other", "evaluate.knn_every_epochs=0", "schedule.epochs=1")
    assert "data.test" in simile("evaluate", "knn", "other", code=78).stderr
    identity = json.loads(simile("inspect", "run", "--json").stdout)["identity"]
    assert identity["batch"] == 32 and identity["encoder.width"] == 0.0625 and identity["method.name"] == "simclr"
    assert identity["encoder.projector.bn"] is True and isinstance(identity["fingerprint"], str)


def check_rates():
    """The learning rates that an accepted change of the data prints are those of the steps."""
    open("job.yaml", "w").write(JOB.replace("every_steps: 2", "every_steps: 1"))
    keys = ["run=rates", "evaluate.knn_every_epochs=0", "schedule.warmup_epochs=1", "batch=16", "block=4"]
    pretrain(*keys, "--stop-after", "10", code=75)  # 6 steps per epoch
    data_set("small", 48, 3)  # 3 steps per epoch
    log = pretrain(*keys, "data.train=small.h5", "--accept", "data")
    with open("rates/metrics.jsonl") as f:
        rates = {r["step"]: r["lr"] for r in map(json.loads, f)}
    printed = re.search(r"^accepted .*learning rate (\S+) at step 10, (\S+) at step 11;", log, re.M)
    assert printed, log
    for text, step in zip(printed.groups(), (10, 11)):
        assert abs(float(text) - rates[step]) <= 0.005 * rates[step], (log, rates)


def check_schedule():
    """A list of milestones in a job: the rate of each step, also of a run that was stopped."""
    open("job.yaml", "w").write(JOB.replace("every_steps: 2", "every_steps: 1"))
    keys = ["run=steps", "evaluate.knn_every_epochs=0", "optimizer.lr=0.2", "schedule={epochs: 5, warmup_steps: 3, "
            "warmup_start_lr: 0.1, shape: steps, milestones: [2, 3, 4], gamma: 0.25, min_lr: 0.01}"]
    pretrain(*keys, "--stop-after", "7", code=75)  # 3 steps per epoch
    pretrain(*keys)
    with open("steps/metrics.jsonl") as f:
        rates = [r["lr"] for r in map(json.loads, f)]
    want = [0.1, 0.15] + 4 * [0.2] + 3 * [0.05] + 3 * [0.0125] + 3 * [0.01]
    assert len(rates) == 15 and all(abs(a - b) < 1e-7 for a, b in zip(rates, want)), rates
    other = pretrain(*keys[:-1], "schedule={epochs: 5, shape: steps}", code=78)
    assert re.search(r"^ *schedule\.milestones +\[2,3,4\] +\[\]$", other, re.M), other
    for bad, key in (("milestones: [2]", "schedule.milestones"), ("shape: steps, milestones: [3, 2]", "schedule.milestones"),
                     ("min_lr: 0.3", "schedule.min_lr"), ("warmup_start_lr: 0.3", "schedule.warmup_start_lr")):
        assert key in pretrain("run=refused", *keys[1:-1], "schedule={%s}" % bad, code=78), bad


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    data_set("train", 96, 1)
    data_set("test", 24, 2)
    open("job.yaml", "w").write(JOB)
    pretrain("--stop-after", "5", code=75)  # 3 steps per epoch; the last line is that of step 4
    stopped = lines()
    time.sleep(1.1)  # the time between the segments is not part of the run's
    began = time.time()
    pretrain()
    took = time.time() - began
    got = lines()
    assert got[:len(stopped)] == stopped
    assert [(r["kind"], r["step"]) for r in got] == [
        ("train", 2), ("train", 4), ("train", 6), ("evaluation", 6), ("train", 8), ("train", 10), ("train", 12), ("evaluation", 12)]
    assert [r.get("protocol") for r in got if r["kind"] == "evaluation"] == ["knn", "knn"]
    assert not any("protocol" in r or "knn_top1" in r for r in got if r["kind"] == "train")
    elapsed = [r["elapsed_s"] for r in got]
    assert elapsed == sorted(elapsed) and elapsed[0] > 0, elapsed
    with open("run/segments.json") as f:
        first, second = json.load(f)
    # Step 6 comes after the whole of the first segment; the pause does not count.
    assert elapsed[2] > first["elapsed_s"] and elapsed[-1] <= first["elapsed_s"] + took, (elapsed, first, took)
    for r in got:
        at = datetime.datetime.strptime(r["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
        assert abs(at.timestamp() - began) < 3600, r
    before = files()
    log = pretrain()
    assert len(log.splitlines()) == 1, log
    assert "step 12 of 12" in log and "schedule.epochs" in log, log
    assert files() == before
    pretrain("schedule.epochs=5", "--accept", "schedule.epochs")
    assert lines()[-1]["step"] == 15 and lines()[:len(got)] == got
    check_evaluate()
    check_rates()
    check_schedule()
print("ok")
