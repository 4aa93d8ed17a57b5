#!/usr/bin/python3
"""Event files of TensorBoard: their values are those of metrics.jsonl, every step occurs once however the
run was stopped, killed, branched or its files damaged, and no problem with them ends a run.

simile-test: timeout 600
"""
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
import events  # noqa: E402
from program import SIMILE, noise, preload, simile  # noqa: E402

JOB = """run: run
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 32
block: 8
schedule: {steps: 20}
augment: {preset: digits}
log: {every_steps: 1}
checkpoint: {every_steps: 5, keep: 10}
evaluate: {quality_every_epochs: 2, neighbours_every_epochs: 3}
"""
BINS = np.linspace(-1, 1, 41)


def metrics(run="run"):
    with open(f"{run}/metrics.jsonl") as f:
        return [json.loads(line) for line in f]


def all_events(run="run"):
    return [e for path in events.files(f"{run}/tensorboard") for e in events.read(path)[0]]


def check_histogram(got, counts, mean, std=None):
    """A histogram of the event file against the counts in 40 bins of [-1, 1]."""
    want = {round(BINS[b + 1], 9): n for b, n in enumerate(counts)}
    seen = {round(limit, 9): n for limit, n in zip(got["limits"], got["counts"])}
    assert {k: v for k, v in want.items() if v} == {k: v for k, v in seen.items() if v}, (got, counts)
    assert got["counts"][0] and got["counts"][-1] and got["num"] == sum(counts)
    assert np.isclose(got["max"], got["limits"][-1]) and got["min"] < got["limits"][0]
    assert np.isclose(got["sum"] / got["num"], mean, atol=1e-6)
    assert got["sum_squares"] * got["num"] >= got["sum"] ** 2 * (1 - 1e-9)


def check_values(run="run"):
    """Every value of metrics.jsonl is in the event files, once and with its step, and nothing else."""
    seen = {}
    for step, tag, value in all_events(run):
        assert (step, tag) not in seen or tag in ("views", "neighbours"), f"step {step} of {tag} occurs twice"
        seen[step, tag] = value
    for line in metrics(run):
        group = line.get("protocol", "train")
        for key, value in line.items():
            got = seen.pop((line["step"], f"{group}/{key}"), None)
            if key.endswith("_histogram"):
                check_histogram(got, value, line[key.replace("histogram", "similarity")])
            elif key != "step" and isinstance(value, (int, float)):
                assert got is not None, f"step {line['step']}: no {group}/{key}"
                assert np.float32(value) == np.float32(got) or np.isclose(value, got, rtol=1e-6), (line, key, got)
            else:
                assert got is None, (key, got)
    for step, tag in list(seen):
        assert tag == "views" or (tag == "neighbours" and step % 9 == 0), (step, tag)
    return {tag: v for (_, tag), v in seen.items()}


def check_new_run():
    log = simile("pretrain", "job.yaml").stderr
    assert "warning" not in log, log
    (path,) = events.files("run/tensorboard")
    assert events.read(path)[1] == 1
    picture = check_values()["views"]
    image = Image.open(io.BytesIO(picture["png"]))
    assert image.size == (picture["w"], picture["h"]) and picture["channels"] == 3
    check_neighbours()
    simile("plan", "job.yaml", "--preview", "views.png")
    assert np.array_equal(np.array(image), np.array(Image.open("views.png")))


def check_neighbours():
    """The last picture of neighbours against the features of its checkpoint; the same on 2 ranks."""
    (value,) = [v for step, tag, v in all_events() if tag == "neighbours" and step == 18]
    picture = np.array(Image.open(io.BytesIO(value["png"])).convert("RGB"))
    simile("pretrain", "job.yaml", "run=other", "--stop-after", "18", ranks=2, code=75)
    (other,) = [v for step, tag, v in all_events("other") if tag == "neighbours" and step == 18]
    assert other == value
    simile("embed", "other/checkpoints/step-000000018.h5", "--data", "train.h5", "--out", "e.h5", "--force")
    with h5py.File("e.h5") as f:
        x = f["features"][()].astype("f8")
    with h5py.File("train.h5") as f:
        images = f["images"][()]
    z = x / np.linalg.norm(x, axis=1, keepdims=True)
    for row in range(12):
        query = row * 96 // 12
        cosines = z @ z[query]
        cosines[query] = -2
        for k, i in enumerate([query, None, *np.argsort(-cosines, kind="stable")[:8]]):
            y, left = 4 + row * 28, 4 + k * 28
            cell = picture[y:y + 24:2, left:left + 24:2, 0].astype(int)
            same = [] if i is None else [j for j in range(96) if j == i or abs(cosines[j] - cosines[i]) < 1e-6]
            assert (cell == 255).all() if i is None else min(np.abs(cell - images[j, :, :, 0]).max() for j in same) <= 1
    shutil.rmtree("other")


def restart():
    shutil.rmtree("run", ignore_errors=True)


def check_stop_and_branch():
    restart()
    simile("pretrain", "job.yaml", "--stop-after", "12", ranks=2, code=75)
    simile("pretrain", "job.yaml", "--stop-after", "17", code=75)
    assert [events.read(p)[1] for p in events.files("run/tensorboard")] == [1, 13]
    check_values()
    simile("pretrain", "job.yaml", "--resume", "run/checkpoints/step-000000010.h5", "--stop-after", "13", code=75)
    check_values()
    simile("pretrain", "job.yaml", ranks=3)
    assert len(events.files("run/tensorboard")) == 4
    check_values()


def check_kills():
    restart()
    for after in (3, 8, 14):
        run = subprocess.Popen([SIMILE, "pretrain", "job.yaml"], stderr=subprocess.DEVNULL)
        while run.poll() is None and not (os.path.exists("run/metrics.jsonl") and len(metrics_lines()) >= after):
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
        run.wait()
    # Some of these may have completed the 20 steps before they were killed.
    simile("pretrain", "job.yaml", "schedule.steps=26", "--accept", "schedule.steps")
    check_values_after_kill()


def metrics_lines():
    with open("run/metrics.jsonl", "rb") as f:
        return f.read().splitlines()


def check_values_after_kill():
    """A kill may lose the last events before a checkpoint, but no step is there twice."""
    steps = [(s, t) for s, t, _ in all_events() if t not in ("views", "neighbours")]
    assert len(steps) == len(set(steps))
    assert {s for s, t in steps if t == "train/loss"} >= set(range(21, 27))
    assert all(t != "train/loss" or s <= 26 for s, t in steps)


def check_damage():
    """A record that is cut or damaged and all after it are removed, and readers find intact files."""
    for damage in (lambda d: d[:-3], lambda d: d + b"\0" * 100, lambda d: d[:40] + b"x" + d[41:],
                   lambda d: d + b"\xff" * 30, lambda d: b"", lambda d: d[:7], lambda d: b"text\n" * 20):
        restart()
        simile("pretrain", "job.yaml", "--stop-after", "10", code=75)
        (path,) = events.files("run/tensorboard")
        with open(path, "rb") as f:
            data = f.read()
        with open(path, "wb") as f:
            f.write(damage(data))
        simile("pretrain", "job.yaml", "--stop-after", "12", code=75)
        found = [events.read(p) for p in events.files("run/tensorboard") if os.path.getsize(p)]
        assert [e for e in found[-1][0] if e[1] == "train/loss"][0][0] == 11


def make_file():
    os.mkdir("run")
    with open("run/tensorboard", "w") as f:
        f.write("mine")


def make_link():
    os.makedirs("run")
    os.makedirs("elsewhere", exist_ok=True)
    os.symlink("../elsewhere", "run/tensorboard")


def check_obstacles():
    """A file or link of this name is kept, and the run completes without event files."""
    for obstacle, expected in ((make_file, "tensorboard"), (make_link, "symbolic link")):
        restart()
        obstacle()
        log = simile("pretrain", "job.yaml").stderr
        (warning,) = [line for line in log.splitlines() if "event files" in line or "kept as" in line]
        assert expected in warning, warning
    assert os.listdir("elsewhere") == [] and os.path.islink("run/tensorboard")


def check_files_of_others():
    """A run without checkpoints starts from step 0: earlier event files are kept under another name."""
    restart()
    simile("pretrain", "job.yaml", "--stop-after", "6", code=75)
    before = events.files("run/tensorboard")
    shutil.rmtree("run/checkpoints")
    log = simile("pretrain", "job.yaml").stderr
    assert "run/tensorboard.old-1" in log, log
    assert len(events.files("run/tensorboard.old-1")) == len(before) == 1
    check_values()


def check_off():
    restart()
    simile("pretrain", "job.yaml", "log.tensorboard=false")
    assert not os.path.exists("run/tensorboard")
    simile("pretrain", "job.yaml", "schedule.steps=22", "--accept", "schedule.steps")
    assert {s for s, t, _ in all_events() if t == "train/loss"} == {21, 22}


def environment(library, **values):
    os.environ.update(LD_PRELOAD=os.path.abspath(library), **values)


def restore_environment():
    for name in ("LD_PRELOAD", "FAILING_BELOW", "FAILING_CALL", "FAILING_ERROR", "FROZEN_BELOW", "FROZEN"):
        os.environ.pop(name, None)


def check_failing_writes():
    """Each call that changes the directory fails once with ENOSPC: a warning, and the run completes."""
    library = preload("lib/failing.c")
    for call in range(1, 9):
        restart()
        environment(library, FAILING_BELOW=os.path.abspath("run/tensorboard"), FAILING_CALL=str(call),
                    FAILING_ERROR="28")
        try:
            log = simile("pretrain", "job.yaml").stderr
        finally:
            restore_environment()
        warnings = [line for line in log.splitlines() if line.startswith("warning")]
        assert len(warnings) <= 1 and all("No space left" in w for w in warnings), warnings
        if os.path.exists("run/tensorboard") and not any("without event files" in w or "are lost" in w for w in warnings):
            check_values()  # what could not be written was written later


def freeze(library):
    """Trains 300 steps and freezes the directory after about 30; returns the log, or None if the run was
    too far by then."""
    restart()
    simile("pretrain", "job.yaml", "--stop-after", "5", code=75)
    if os.path.exists("later"):
        os.remove("later")
    environment(library, FROZEN_BELOW=os.path.abspath("run/tensorboard/events.out.tfevents."),
                FROZEN=os.path.abspath("later"))
    try:
        run = subprocess.Popen([SIMILE, "pretrain", "job.yaml", "schedule.steps=300", "--accept", "schedule.steps"],
                               stderr=subprocess.PIPE, text=True)
        while len(metrics_lines()) < 30 and run.poll() is None:
            time.sleep(0.01)
        open("later", "w").close()
        in_time = len(metrics_lines()) < 280
        log = run.communicate()[1]
    finally:
        restore_environment()
    assert run.returncode == 0 and metrics()[-1]["step"] == 300, log
    return log if in_time else None


def check_frozen_disk():
    """The directory stops responding: the run is not delayed by it, and says what is lost."""
    library = preload("lib/frozen.c")
    for _ in range(5):
        log = freeze(library)
        if log:
            assert "events for TensorBoard are lost" in log, log
            return
    print("skipped: a frozen disk, the machine is too busy")


def main():
    os.chdir(tempfile.mkdtemp())
    noise()
    with open("job.yaml", "w") as f:
        f.write(JOB)
    check_new_run()
    check_stop_and_branch()
    check_kills()
    check_damage()
    check_obstacles()
    check_files_of_others()
    check_off()
    check_failing_writes()
    check_frozen_disk()
    shutil.rmtree(os.getcwd())


main()
