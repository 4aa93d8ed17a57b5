#!/usr/bin/python3
"""`simile compare`: the grid, resume after kill -9 and TERM, parts, failed runs, refusals, and tables whose
numbers are recomputed from the results and metrics of the runs.

simile-test: timeout 900
"""
import csv
import glob
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

import h5py
import numpy as np

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import MPIEXEC  # noqa: E402
from program import SIMILE, simile  # noqa: E402

JOB = """run: unset
data: {train: train.h5, test: test.h5}
method: {name: simclr}
encoder: {width: 0.125}
batch: 16
block: 8
schedule: {steps: 12}
augment: {preset: digits}
log: {every_steps: 1}
evaluate: {k: 5}
"""
MEASURES = {"knn_top1": ("knn", "top1"), "knn_top5": ("knn", "top5"), "linear_top1": ("linear", "top1"),
            "linear_top5": ("linear", "top5")}
METRICS = ("loss", "accuracy", "embedding_std", "images_per_s", "elapsed_s")
METHODS = ("--vary", "method.name=simclr,dcl", "--seeds", "2")


def make_data():
    rng = np.random.default_rng(3)
    patterns = rng.integers(0, 256, (4, 8, 8))
    for name, n in (("train", 64), ("test", 48), ("other", 64)):
        labels = np.arange(n) % 4
        with h5py.File("raw.h5", "w") as f:
            f["images"] = (patterns[labels] // 4 + rng.integers(0, 192, (n, 8, 8))).astype("u1")
            f["labels"] = labels
        simile("prepare", "raw.h5", "--out", name + ".h5")
    with open("job.yaml", "w") as f:
        f.write(JOB)


def compare(out, *words, code=0, job="job.yaml"):
    return simile("compare", job, "--out", out, *words, code=code)


def load(out):
    with open(f"{out}/compare.json") as f:
        return json.load(f)


def steps_of(run):
    with open(f"{run}/metrics.jsonl") as f:
        return [m["step"] for m in map(json.loads, f) if m["kind"] == "train"]


def commands(text):
    return [line for line in text.splitlines() if line.startswith("$ ")]


def stored(run, name, step):
    with open(f"{run}/results/{name}-step-{step:09d}.json") as f:
        return json.load(f)


def expect_numbers(out, text, seeds):
    """Recomputes every number of compare.json, .csv and .txt from the files of the runs."""
    table = load(out)
    with open(f"{out}/compare.csv") as f:
        rows = list(csv.DictReader(f))
    assert [r["run"] for r in rows] == [r["run"] for r in table["runs"]]
    values = {}  # (configuration, measure) -> values of the seeds
    for run, row in zip(table["runs"], rows):
        with open(f"{run['run']}/metrics.jsonl") as f:
            last = [m for m in map(json.loads, f) if m["kind"] == "train"][-1]
        expected = {m: last[m] for m in METRICS}
        untrained = next(r["run"] for r in table["runs"] if r["seed"] == run["seed"])
        for key, (name, field) in MEASURES.items():
            expected[key] = stored(run["run"], name, run["steps"])[field]
            expected["untrained_" + key] = stored(untrained, name, 0)[field]
        assert run["measures"] == expected, (run, expected)
        assert {k: float(row[k]) for k in expected} == expected
        for key, value in expected.items():
            values.setdefault((run["configuration"], key), []).append(value)
    for f in table["configurations"]:
        for key, measure in f["measures"].items():
            v = values[f["configuration"], key]
            assert measure["n"] == len(v) == seeds, measure
            assert abs(measure["mean"] - statistics.mean(v)) <= 1e-12 * abs(measure["mean"])
            deviation = statistics.stdev(v) if seeds > 1 else None
            assert measure["deviation"] == deviation or abs(measure["deviation"] - deviation) < 1e-12, measure
            if key in ("knn_top1", "untrained_linear_top1"):
                shown = f"{100 * statistics.mean(v):.2f} ± {100 * deviation:.2f}"
                line = next(t for t in text.splitlines() if t.startswith(f"{f['configuration']}  "))
                assert shown in line, (shown, line)


def count_points(path):
    root = xml.etree.ElementTree.parse(path).getroot()
    return sum("point" in e.get("class", "").split() for e in root.iter())


def expect_page(out):
    with open(f"{out}/compare.html") as f:
        page = f.read().replace('xmlns="http://www.w3.org/2000/svg"', "")
    for word in ("http:", "https:", "<script", "src=", "href=", "url(", "@import"):
        assert word not in page, word
    assert "prefers-color-scheme" in page and "<svg" in page and "width=device-width" in page


def wait_for(what, condition):
    end = time.monotonic() + 600  # ends a test that hangs; a busy machine or a sanitizer stays far below
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(f"timeout: {what}")


def start(out, *words):
    return subprocess.Popen([SIMILE, "compare", "job.yaml", "--out", out, *words], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)


def has_lines(run, n):
    return os.path.exists(f"{run}/metrics.jsonl") and len(open(f"{run}/metrics.jsonl").readlines()) >= n


def check_killed():
    """kill -9 in the second of four runs: the tables have the first; the same command completes the others and repeats
    nothing."""
    words = (*METHODS, "schedule.steps=100")
    process = start("grid", *words)
    second = "grid/job_method.name-simclr_seed-1"
    wait_for("the second run", lambda: has_lines(second, 3))
    process.kill()
    process.communicate()
    assert load("grid")["n_complete"] == 1  # the tables have the runs so far
    wait_for("the end of the child", lambda: not os.path.exists(f"{second}/run.lock"))
    with open(f"{second}/segments.json") as f:
        assert json.load(f)[-1]["ended"] == "USR1"
    results = {p: os.stat(p).st_mtime_ns for p in glob.glob("grid/*/results/*-step-*.json")}
    assert results, os.listdir("grid")
    done = compare("grid", *words)
    assert {p: os.stat(p).st_mtime_ns for p in results} == results  # no evaluation is repeated
    runs = [r["run"] for r in load("grid")["runs"]]
    assert runs == [f"grid/job_method.name-{m}_seed-{s}" for m in ("simclr", "dcl") for s in (0, 1)], runs
    for run in runs:
        assert steps_of(run) == list(range(1, 101)), run
    assert not any(" pretrain " in c and "seed-0" in c and "simclr" in c for c in commands(done.stderr))
    # The untrained encoder depends on the seed only.
    assert len(glob.glob("grid/*/results/knn-step-000000000.json")) == 2
    expect_numbers("grid", done.stdout, 2)
    expect_page("grid")
    assert count_points("grid/compare-method.name.svg") == 2 * 2  # values x panels
    with open("grid/compare.txt") as f:
        assert f.read() == done.stdout
    text = load("grid")
    again = compare("grid", *words, "--json")
    assert not commands(again.stderr) and json.loads(again.stdout) == text == load("grid")
    # A command of the table does the same by hand.
    assert simile(*text["runs"][0]["commands"][1].split()[1:]).stdout.startswith('{"protocol":"knn"')
    # A further seed and value leave the others as they are.
    done = compare("grid", "--vary", "method.name=simclr,dcl", "--seeds", "2", "--vary", "seed=1", code=64)
    done = compare("grid", "--vary", "method.name=dcl,supcon", "--vary", "seed=1,7", "schedule.steps=100", "--plan")
    assert re.search(r"dcl_seed-1, 100 steps, complete", done.stdout) and "400 steps" in done.stdout, done.stdout
    assert len(glob.glob("grid/*supcon*")) == 0


def check_signal():
    """TERM: the run stops with a checkpoint, and the exit code is 75."""
    process = start("term", "schedule.steps=4000", "--evaluate", "none")
    run = "term/job_seed-0"
    wait_for("the run", lambda: has_lines(run, 5))
    process.send_signal(signal.SIGTERM)
    _, text = process.communicate()
    assert process.returncode == 75, (process.returncode, text)
    with open(f"{run}/segments.json") as f:
        assert json.load(f)[-1]["ended"] == "TERM"
    step = steps_of(run)[-1]
    assert load("term")["n_missing"] == 1
    done = compare("term", "schedule.steps=4000", "--evaluate", "none", "--time-limit", "1s", code=75)
    assert "--time-limit 1s" in commands(done.stderr)[0]
    assert steps_of(run) == list(range(1, steps_of(run)[-1] + 1)) and steps_of(run)[-1] >= step


def check_launcher():
    """Two ranks: the same weights as one rank.  compare itself runs on one rank."""
    compare("one", "--evaluate", "knn")
    compare("two", "--evaluate", "knn", "--launcher", "mpirun --oversubscribe --bind-to 'none' -np 2")
    hashes = [json.loads(simile("inspect", f"{d}/job_seed-0/checkpoints/step-000000012.h5", "--json").stdout)["weights_hash"]
              for d in ("one", "two")]
    assert hashes[0] == hashes[1]
    with open("two/job_seed-0/segments.json") as f:
        assert json.load(f)[0]["ranks"] == 2
    done = subprocess.run([*MPIEXEC, "-np", "2", SIMILE, "compare", "job.yaml", "--out", "no"],
                          capture_output=True, text=True)
    assert done.returncode == 64 and "--launcher" in done.stderr, done
    assert not os.path.exists("no")
    # More ranks than blocks are refused as by pretrain.
    assert "4 ranks" in compare("no", "--launcher", "mpirun -np 4", code=78).stderr


def check_failure():
    """One run diverges; the other is complete; the table and the exit code report it."""
    words = ("--vary", "optimizer.lr=0.05,10000", "optimizer.weight_decay=10", "schedule.shape=constant",
             "guard.bad_steps=0", "schedule.steps=30", "--evaluate", "knn")
    done = compare("fail", *words, code=70)
    table = load("fail")
    good, bad = table["runs"]
    with open("fail/compare.csv") as f:
        assert [r["exit"] for r in csv.DictReader(f)] == ["", "70"]
    assert (good["state"], bad["state"], bad["exit"]) == ("complete", "failed", 70), table
    assert "not finite" in bad["error"] and bad["measures"]["loss"] is None
    assert (table["n_complete"], table["n_failed"], table["n_missing"]) == (1, 1, 0)
    assert "not finite" in done.stdout and "job_optimizer.lr-10000_seed-0" in done.stdout, done.stdout
    assert count_points("fail/compare-optimizer.lr.svg") == 1
    # A program that cannot be started is an error of the command line, not of a run.
    compare("fail2", "--launcher", "no-such-launcher", code=69)


def check_refused():
    """Everything is checked before the first run starts."""
    cases = ((("--vary", "batch=16,32,33"), 78, "run 3 of 3"), (("--vary", "method.name=simclr,simclrr"), 78, "simclrr"),
             (("--vary", "method.name=simclr,mocov2", "--vary", "method.queue_size=16,32"), 78, "queue_size"),
             (("--vary", "data.train=train.h5,other.h5"), 65, "other.h5"), (("--vary", "data.test=test.h5,other.h5"), 65, "test.h5"),
             (("--vary", "batch=16,16"), 64, "twice"), (("--vary", "augment.view1=[crop"), 64, "bracket"),
             (("--vary", "optimizer.lr=0.1,1e-1"), 78, "same job"), (("--vary", "run=a,b"), 64, "--out"), (("run=a",), 64, "--out"),
             (("--vary", "seed=1,2", "--seeds", "2"), 64, "--vary seed"), (("--evaluate", "svm"), 64, "svm"),
             (("data.test=''", "--evaluate", "knn"), 78, "--evaluate"), (("--part", "3/2"), 64, "--part"),
             (("job.yaml",), 64, "same job file"))
    for words, code, text in cases:
        done = compare("refused", *words, code=code)
        assert text in done.stderr, (words, done.stderr)
        assert not os.path.exists("refused"), words
    assert "no evaluations" in compare("refused/", "data.test=''", "--plan").stderr
    simile("compare", "--out", "refused", code=64)
    simile("compare", "job.yaml", code=64)
    # A stored run of another job, or of other data.
    assert "method.temperature" in compare("one", "method.temperature=0.3", code=78).stderr
    shutil.copy("train.h5", "kept.h5")
    shutil.copy("other.h5", "train.h5")
    assert "train.h5" in compare("one", code=65).stderr
    shutil.copy("kept.h5", "train.h5")
    # A file of the user.
    os.mkdir("mine")
    with open("mine/compare.csv", "w") as f:
        f.write("1,2\n")
    compare("mine", code=73)
    assert os.listdir("mine") == ["compare.csv"]


def check_jobs():
    """Two job files side by side, with keys that only one method has; values that are lists."""
    with open("moco.yaml", "w") as f:
        f.write(JOB.replace("{name: simclr}", "{name: mocov2, queue_size: 32}").replace("k: 5", "k: 7"))
    words = ("moco.yaml", "--vary", "augment.view1=[crop, flip],[{op: crop, scale_min: 0.5}]", "--evaluate", "knn")
    done = compare("jobs", *words)
    table = load("jobs")
    assert [f["job"] for f in table["configurations"]] == ["job.yaml"] * 2 + ["moco.yaml"] * 2
    assert [f["keys"]["augment.view1"] for f in table["configurations"]] == ["[crop, flip]", "[{op: crop, scale_min: 0.5}]"] * 2
    differences = {(d["key"], d["value"]): d["configurations"] for d in table["differences"]}
    assert differences["method.name", "simclr"] == "1-2" and differences["method.name", "mocov2"] == "3-4"
    assert differences["method.queue_size", "32"] == "3-4" and differences["method.queue_size", ""] == "1-2"
    assert differences["evaluate.k", "5"] == "1-2" and differences["evaluate.k", "7"] == "3-4"
    assert not any(key in ("augment.view1", "batch", "seed") for key, _ in differences), differences
    assert "method.queue_size" in done.stdout
    assert count_points("jobs/compare-augment.view1.svg") == 4
    for run in table["runs"]:
        assert re.fullmatch(r"[A-Za-z0-9._+/-]+", run["run"]), run
        with open(run["run"] + "/config.yaml") as f:
            config = f.read()
        assert ("scale_min: 0.5" in config) == (run["configuration"] in (2, 4)), run


def check_init():
    """Classifiers on the frozen encoder of a run, trained on parts of the labels."""
    start = load("jobs")["runs"][0]["run"]
    words = ("method={name: supervised}", "encoder.freeze=true", "--init", start, "--vary", "data.fraction=0.5,1", "--evaluate", "knn,classifier")
    done = compare("frozen", *words)
    assert "--init " + start in done.stderr and "initial kNN top-1 %" in done.stdout, (done.stderr, done.stdout)
    table = load("frozen")
    for run, n in zip(table["runs"], (32, 64)):
        with h5py.File(start + "/checkpoints/step-000000012.h5") as a, h5py.File(run["run"] + "/checkpoints/step-000000012.h5") as b:
            assert (a["weights/encoder/conv1.weight"][()] == b["weights/encoder/conv1.weight"][()]).all()
        for name in ("knn", "classifier"):
            with open(f"{run['run']}/results/{name}-step-000000012.json") as f:
                result = json.load(f)
            assert result["n_train"] == n and result["top1"] == run["measures"][name + "_top1"], (run, result)
        assert run["measures"]["initial_knn_top1"] == run["measures"]["knn_top1"], run  # the encoder is frozen
    assert "$ " not in compare("frozen", *words).stderr


def check_parts():
    """Two tasks of a Slurm array, and --part; the last one writes the whole table."""
    words = ("--vary", "batch=8,16,32,64", "--evaluate", "none")
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "6", "SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_STEP": "2",
                   "SLURM_ARRAY_TASK_COUNT": "2"}
    done = subprocess.run([SIMILE, "compare", "job.yaml", "--out", "parts", *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first = [r for r in load("parts")["runs"] if r["state"] == "complete"]
    # Of equal numbers of steps, a batch of 64 takes as long as those of 32, 16 and 8 together.
    assert [r["keys"]["batch"] for r in first] == ["8", "16", "32"], first
    assert load("parts")["n_missing"] == 1 and "1 missing" in done.stdout, done.stdout
    compare("parts", *words, "--part", "1/2")
    assert load("parts")["n_complete"] == 4
    assert all(steps_of(r["run"]) == list(range(1, 13)) for r in load("parts")["runs"])
    # A run that another process holds is left to it.
    process = subprocess.Popen([SIMILE, "pretrain", "job.yaml", "schedule.steps=100000000", "seed=0", "run=held/job_seed-0"],
                               stderr=subprocess.DEVNULL)
    wait_for("the holder", lambda: has_lines("held/job_seed-0", 2))
    done = compare("held", "schedule.steps=100000000", "--evaluate", "none")
    process.kill()
    process.wait()
    assert load("held")["runs"][0]["state"] == "running" and "elsewhere" in done.stderr, done.stderr
    assert load("held")["n_failed"] == 0


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    make_data()
    for check in (check_killed, check_signal, check_launcher, check_failure, check_refused, check_jobs, check_init, check_parts):
        begin = time.time()
        check()
        print(f"{check.__name__}: {time.time() - begin:.1f} s", flush=True)
print("ok")
