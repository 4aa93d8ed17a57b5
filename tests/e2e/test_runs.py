#!/usr/bin/python3
"""`simile runs` reports what metrics.jsonl and results/ of each run hold, which this test reads by itself:
nested sweeps, running, stopped, completed and crashed runs, damaged and foreign directories.

simile-test: timeout 600
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import SIMILE, simile  # noqa: E402

JOB = """run: unset
data: {train: train.h5, test: test.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 16
block: 8
schedule: {epochs: 4}
augment: {preset: digits}
log: {every_steps: 2}
checkpoint: {every_steps: 3, keep: 100}
evaluate: {k: 5}
"""


def make_data():
    rng = np.random.default_rng(3)
    for name, n in (("train", 64), ("test", 24)):
        with h5py.File("raw.h5", "w") as f:
            f["images"], f["labels"] = rng.integers(0, 256, (n, 8, 8)).astype("u1"), np.arange(n) % 4
        simile("prepare", "raw.h5", "--out", name + ".h5")
    with open("job.yaml", "w") as f:
        f.write(JOB)


def pretrain(run, *words, code=0):
    simile("pretrain", "job.yaml", f"run={run}", *words, code=code)


def rows(*words):
    done = simile("runs", "--json", *words)
    return {r["run"]: r for r in json.loads(done.stdout)}, done.stderr


def lines_of(run):
    with open(f"{run}/metrics.jsonl") as f:
        return [json.loads(line) for line in f]


def expect(run, row, state, step, epoch, evaluations=()):
    """Compares a row with the files of the run; evaluations: (top1, protocol, step), best first."""
    with open(f"{run}/config.yaml") as f:
        assert f"name: {row['method']}\n" in f.read()
    rate = [m["images_per_s"] for m in lines_of(run) if m["kind"] == "train"][-1]
    got = (row["state"], row["step"], row["data"], row["images"], row["batch"], row["images_per_s"], row["damaged"])
    assert got == (state, step, "train.h5", 64, 16, rate, False), (run, got)
    assert abs(row["epoch"] - epoch) < 1e-12, row
    best = evaluations[0] if evaluations else (None, None, None)
    assert (row["best_top1"], row["best_protocol"], row["best_step"]) == best, (row, evaluations)


def evaluations_of(run):
    """Best first; of equal accuracies the earliest."""
    found = [(m["knn_top1"], m["protocol"], m["step"]) for m in lines_of(run) if m["kind"] == "evaluation"]
    for name in os.listdir(f"{run}/results"):
        if name not in ("pretrain.json", "zz.json"):  # that has no valid accuracy
            with open(f"{run}/results/{name}") as f:
                r = json.load(f)
            found.append((r["top1"], r["protocol"], r["step"]))
    return sorted(found, key=lambda e: (-e[0], e[2]))


def check_states():
    """4 epochs of 4 steps."""
    pretrain("sweep/lr/9", "evaluate.knn_every_epochs=1")
    simile("evaluate", "linear", "sweep/lr/9")
    # The best comes first, then later and earlier ones, whose accuracy is lower or equal.
    for name, top1, step in (("a", 0.96, 9), ("b", 0.9, 1), ("c", 0.96, 12), ("z", 0.001, 2), ("zz", 1.5, 3)):
        with open(f"sweep/lr/9/results/{name}.json", "w") as f:
            json.dump({"protocol": "linear", "top1": top1, "step": step}, f)
    pretrain("sweep/lr/10", "--stop-after", "7", code=75)
    simile("evaluate", "knn", "sweep/lr/10", "--k", "3")
    pretrain("sweep/steps", "schedule.steps=9", "--stop-after", "6", code=75)
    pretrain("sweep/deep/er/moco", "method={name: mocov2, queue_size: 32}", "--stop-after", "4", code=75)
    found, warnings = rows("sweep")
    assert not warnings, warnings
    assert list(found) == ["sweep/deep/er/moco", "sweep/lr/9", "sweep/lr/10", "sweep/steps"], list(found)
    done, stopped, steps = (found[f"sweep/{n}"] for n in ("lr/9", "lr/10", "steps"))
    assert evaluations_of("sweep/lr/9")[0] == (0.96, "linear", 9)
    assert {e[1] for e in evaluations_of("sweep/lr/9")} == {"knn", "linear"}
    expect("sweep/lr/9", done, "completed", 16, 4, evaluations_of("sweep/lr/9"))
    expect("sweep/lr/10", stopped, "stopped", 7, 1.75, evaluations_of("sweep/lr/10"))
    expect("sweep/steps", steps, "stopped", 6, 1.5)
    assert (done["epochs"], done["steps"], steps["epochs"], steps["steps"]) == (4, None, None, 9)
    assert stopped["ended"] == "--stop-after" and found["sweep/deep/er/moco"]["method"] == "mocov2"
    # The table, its order, and a run as argument.
    text = simile("runs", "sweep").stdout.splitlines()
    assert len(text) == 5 and re.search(r"^sweep/lr/10 .*train\.h5 \(64\) .*1\.75/4 epochs .*stopped", text[3]), text
    assert re.search(r" 6/9 steps ", text[4]) and f"{100 * done['best_top1']:.2f} %" in text[2], text
    best = max((r for r in found.values() if r["best_top1"] is not None), key=lambda r: r["best_top1"])
    assert list(rows("--sort", "best", "sweep")[0])[0] == best["run"]
    speeds = [r["images_per_s"] for r in rows("sweep", "--sort", "speed")[0].values()]
    assert speeds == sorted(speeds, reverse=True)
    assert rows("sweep/lr/9/")[0] == {"sweep/lr/9": done}
    assert rows("sweep", "sweep/lr", "sweep")[0] == found  # each once
    assert simile("runs", "sweep", "--sort", "beste", code=64).stderr.count(" best?") == 1


def check_running():
    """A job that holds the lock and is stopped by a signal, so that it cannot write; then killed."""
    process = subprocess.Popen([SIMILE, "pretrain", "job.yaml", "run=live", "schedule.epochs=100000", "log.every_steps=1",
                                "checkpoint.every_steps=100000000"], stderr=subprocess.DEVNULL)
    while not (os.path.exists("live/metrics.jsonl") and len(open("live/metrics.jsonl").readlines()) > 5):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGSTOP)
    while open(f"/proc/{process.pid}/stat").read().split(")")[1].split()[0] != "T":
        time.sleep(0.01)
    with open("live/metrics.jsonl") as f:
        last = [json.loads(line) for line in f if line.endswith("\n")][-1]
    before = {n: os.stat(f"live/{n}").st_mtime_ns for n in os.listdir("live")}
    found, warnings = rows("live")
    assert not warnings and {n: os.stat(f"live/{n}").st_mtime_ns for n in os.listdir("live")} == before
    expect("live", found["live"], "running", last["step"], last["epoch"])
    with open("live/metrics.jsonl", "a") as f:
        f.write('{"kind":"train","step":99')  # a line that is being written
    found, warnings = rows("live")
    assert not warnings and found["live"]["step"] == last["step"], warnings
    process.kill()
    process.wait()
    row = rows("live")[0]["live"]
    assert (row["state"], row["step"], row["ended"]) == ("crashed", 0, "killed or lost"), row


def check_damaged():
    """Each damage costs the values of that file, and a warning; the other runs are unchanged."""
    with open("sweep/lr/9/metrics.jsonl", "rb") as f:
        metrics = f.read()
    cases = {"config.yaml": (b"# Resolved job, written by simile (hash 0)\n{", []), "segments.json": (b"[{", []),
             "metrics.jsonl": (b"\0\xff\n" + metrics[:-9], []), "run.lock": (b"", ["state"]),
             "results/linear-step-000000016.json": (b"{", [])}
    whole = rows("sweep")[0]["sweep/lr/9"]
    for name, (content, unknown) in cases.items():
        shutil.copytree("sweep/lr/9", "sweep/hurt")
        with open(f"sweep/hurt/{name}", "wb") as f:
            f.write(content)
        found, warnings = rows("sweep")
        assert f"sweep/hurt/{name}" in warnings and len(found) == 5, (name, warnings)
        assert found["sweep/lr/9"] == whole
        hurt = found["sweep/hurt"]
        assert [hurt[k] for k in unknown] == [None] * len(unknown), (name, hurt)
        assert (hurt["method"], hurt["step"], hurt["state"] in ("completed", None)) == ("simclr", 16, True), (name, hurt)
        shutil.rmtree("sweep/hurt")
    # No metrics, no results, no segments; then nothing but a checkpoint that is no HDF5 file.
    shutil.copytree("sweep/lr/9", "bare")
    for name in ("metrics.jsonl", "segments.json", "config.yaml", "results/pretrain.json"):
        os.remove(f"bare/{name}")
    shutil.rmtree("bare/results")
    found, warnings = rows("bare")
    row = found["bare"]
    assert not warnings and (row["method"], row["data"], row["step"]) == ("simclr", "train.h5", 16), (row, warnings)
    assert row["state"] is row["best_top1"] is row["images_per_s"] is None, row
    with open("bare/checkpoints/step-000000016.h5", "wb") as f:
        f.write(bytes(100))
    found, warnings = rows("bare")
    assert "step-000000016.h5" in warnings and found["bare"]["method"] is None
    assert simile("runs", "bare").stdout.splitlines()[1].split()[:3] == ["bare", "?", "?"]


def check_foreign():
    """Directories and files of other programs, links, loops, unreadable directories."""
    os.makedirs("other/wandb/checkpoints")
    os.makedirs("other/project")
    os.makedirs("other/a\nb/checkpoints")
    for path, text in (("other/project/config.yaml", "model: {layers: 3}\n"), ("other/wandb/metrics.jsonl", "step,loss\n1,2\n"),
                       ("other/wandb/checkpoints/last.ckpt", "x"), ("other/wandb/segments.json", "7"),
                       ("other/notes", "x")):
        with open(path, "w") as f:
            f.write(text)
    os.makedirs("other/wandb/results/knn.json")
    for name in ("metrics.jsonl", "config.yaml", "run.lock", "results"):
        os.mkfifo(f"other/a\nb/{name}")  # nobody writes: reading would wait
    os.symlink("..", "other/project/loop")
    os.symlink("../sweep", "other/sweep")
    os.mkdir("other/closed", 0)
    found, warnings = rows("other")
    assert set(found) == {"other/wandb", "other/a\nb"}, found
    for name in ("metrics.jsonl", "segments.json", "knn.json"):
        assert f"other/wandb/{name}" in warnings or f"other/wandb/results/{name}" in warnings, warnings
    assert {v for k, v in found["other/wandb"].items() if k not in ("run", "damaged")} == {None}, found
    text = simile("runs", "other").stdout
    assert len(text.splitlines()) == 3 and "other/a\\nb" in text, text
    os.chmod("other/closed", 0o700)


def check_many():
    """500 runs in one call; none; a path that is no directory."""
    for i in range(500):
        shutil.copytree("sweep/lr/9", f"many/{i // 50}/run-{i}", copy_function=os.link)
    found, warnings = rows("many")
    assert len(found) == 500 and not warnings and {r["state"] for r in found.values()} == {"completed"}
    assert list(found)[48:52] == [f"many/{i // 50}/run-{i}" for i in range(48, 52)]
    os.mkdir("empty")
    assert len(simile("runs", "empty").stdout.splitlines()) == 1 and rows("empty")[0] == {}
    assert "job.yaml" in simile("runs", "job.yaml", code=66).stderr
    assert "missing" in simile("runs", "empty", "missing", code=66).stderr


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    make_data()
    check_states()
    check_running()
    check_damaged()
    check_foreign()
    check_many()
print("ok")
