#!/usr/bin/python3
"""What a person finds in the morning: the segments of a run as a table, killed ones too; the
header, the limits and the reason of every stop; metrics and log without gaps or doubles.

simile-test: timeout 200
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

import numpy as np

simile = os.environ["SIMILE"]
os.chdir(tempfile.mkdtemp())
JOB = """run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.0625}
batch: 16
block: 4
schedule: {steps: 400}
augment: {preset: digits}
log: {every_steps: 1}
checkpoint: {every_minutes: 0, keep: 100}
"""


def fail(text):
    sys.exit("FAILED: " + text)


def check(condition, text):
    if not condition:
        fail(text)


def call(code, *words, env=None, ranks=0):
    words = [simile, *words]
    if ranks:
        words = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), *words]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **(env or {})})
    check(done.returncode == code, f"exit {done.returncode}, expected {code}: {words}\n{done.stderr}")
    return done.stderr + done.stdout


def train(code, run, *words, env=None, ranks=0):
    return call(code, "pretrain", "job.yaml", f"run={run}", *words, env=env, ranks=ranks)


def metrics(run):
    with open(f"{run}/metrics.jsonl") as f:
        return [json.loads(line)["step"] for line in f.read().splitlines()]


def rates(run):
    with open(f"{run}/metrics.jsonl") as f:
        return [json.loads(line)["images_per_s"] for line in f.read().splitlines()]


def segments(path):
    return json.loads(call(0, "inspect", path, "--json"))["segments"]


def until(run, step, *words):
    """Starts a run in the background; returns it when this step stands in its metrics."""
    process = subprocess.Popen([simile, "pretrain", "job.yaml", f"run={run}", *words],
                               stderr=subprocess.DEVNULL)
    for _ in range(3000):
        if os.path.exists(f"{run}/metrics.jsonl"):
            with open(f"{run}/metrics.jsonl") as f:
                if f'{{"step":{step},' in f.read():
                    return process
        check(process.poll() is None, f"{run} ended before step {step}")
        time.sleep(0.01)
    fail(f"{run} does not reach step {step}")


def make_data():
    r = np.random.RandomState(5)
    images = r.randint(0, 255, (96, 12, 12), dtype=np.uint8)
    with open("a-images-idx3-ubyte", "wb") as f:
        f.write(np.array([0x803, 96, 12, 12], ">i4").tobytes() + images.tobytes())
    with open("a-labels-idx1-ubyte", "wb") as f:
        f.write(np.array([0x801, 96], ">i4").tobytes() + bytes(96))
    call(0, "prepare", "a-images-idx3-ubyte", "--out", "train.h5")
    with open("job.yaml", "w") as f:
        f.write(JOB)


def table_of(run):
    text = call(0, "inspect", run)
    return text[text.index("\nsegments\n"):].splitlines()[3:]


def killed_before_any_checkpoint():
    check("start     fresh" in train(75, "lost", "--stop-after", "3"), "a fresh start says so")
    process = until("lost", 20)
    running = segments("lost")[-1]
    check(running["ended"] == "running", "a run under way is called running")
    check(running["images_per_s"] in rates("lost"), f"its rate is the log's: {running}")
    check(re.search(r" [1-9]\d*  running after", table_of("lost")[1]), "the table has its rate")
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.05)
    done = metrics("lost")[-1]
    check(done >= 20, "metrics are written as they come")
    s = segments("lost")
    check([(x["from_step"], x["to_step"], x["ended"]) for x in s] ==
          [(0, 3, "--stop-after"), (3, 3, "killed or lost")], f"history after the kill: {s}")
    check(s[1]["last_step"] == done, f"last step {s[1]['last_step']}, metrics have {done}")
    row = table_of("lost")[1]
    check(re.search(r"^ +2 .* 1 x 1 +16 +3 -> 3 +[1-9]\d*  killed or lost after step %d$" % done, row), row)

    # Killed again before a checkpoint, then well: all are there, also in the checkpoint itself.
    process = until("lost", done + 5) # beyond what stood there before
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = metrics("lost")[-1]
    text = train(75, "lost", "--stop-after", "40", ranks=2)
    check(f"steps 4 to {again} " in text, text)
    s = segments("lost/checkpoints/step-000000040.h5")
    check([(x["from_step"], x["to_step"], x["ended"]) for x in s] ==
          [(0, 3, "--stop-after"), (3, 3, "killed or lost"), (3, 3, "killed or lost"),
           (3, 40, "--stop-after")], f"history: {s}")
    check(s[1]["last_step"] == done and s[2]["last_step"] == again, f"last steps: {s}")
    check([x["ranks"] for x in s] == [1, 1, 1, 2] and s[3]["hosts"], f"where: {s}")
    check(metrics("lost") == list(range(1, 41)), f"metrics: {metrics('lost')}")
    with open("lost/log.txt") as f:
        log = f.read()
    steps = [int(x) for x in re.findall(r"^\S+Z step (\d+)/", log, re.M)]
    check(steps == list(range(1, 41)), f"log: {steps}")
    check(f"(lost) step {again}/400" in log, "the lost steps stay for whoever looks for the cause")


def killed_between_metrics_and_checkpoint():
    """As if killed after the line of step 13 and before its checkpoint, in mid-line."""
    train(75, "torn", "checkpoint.every_steps=10", "--stop-after", "13")
    os.remove("torn/checkpoints/step-000000013.h5")
    with open("torn/metrics.jsonl", "a") as f:
        f.write('{"step":14,"ep')
    s = segments("torn")
    check((s[0]["to_step"], s[0]["last_step"], s[0]["ended"]) == (10, 13, "--stop-after"), f"{s}")
    train(75, "torn", "checkpoint.every_steps=10", "--stop-after", "25")
    train(75, "calm", "--stop-after", "25")
    check(metrics("torn") == list(range(1, 26)), f"{metrics('torn')}")
    hashes = [json.loads(call(0, "inspect", run, "--json"))["weights_hash"] for run in ("torn", "calm")]
    check(hashes[0] == hashes[1], "the weights differ")
    with open("torn/metrics.jsonl") as a, open("calm/metrics.jsonl") as b:
        for one, two in zip(a, b):
            one, two = json.loads(one), json.loads(two)
            check(all(one[k] == two[k] for k in ("step", "loss", "lr", "gradient_norm")), f"{one} {two}")


def a_damaged_list_is_no_obstacle():
    shutil.copytree("torn", "odd")
    with open("odd/segments.json", "w") as f:
        f.write("[{")
    check("left out of the history" in call(0, "inspect", "odd"), "the damage is told")
    train(75, "odd", "checkpoint.every_steps=10", "--stop-after", "26")
    check([x["to_step"] for x in segments("odd")] == [10, 25, 26], "the checkpoint's history stays")


def slurm_is_told():
    env = {"SLURM_JOB_ID": "4711", "SLURM_RESTART_COUNT": "2"}
    end = {"SLURM_JOB_END_TIME": str(int(time.time()) + 7200)}
    text = train(75, "slurm", "--stop-after", "2", env={**env, **end})
    for words in ("run       slurm, Slurm job 4711, restart 2", "ranks     1 x 1 thread + 1 loading, on 1 node",
                  "binding   ", "memory    ", "30 negatives per anchor", "limit     Slurm ends the job in ",
                  "limit in ", "fingerprint "):
        check(words in text, f"no {words!r} in\n{text}")
    with open("slurm/log.txt") as f:
        check("stopped by --stop-after after step 2" in f.read().splitlines()[-1], "the log ends with why")
    longer = ("schedule.steps=1000000000", "--accept", "schedule.steps")
    text = train(75, "slurm", "--stop-after", "3", *longer, env={**env, **end})
    check(re.search(r"eta \d+\w+, but the limit in [12]h\d+m, at about step \d+$", text, re.M), text)
    end = {"SLURM_JOB_END_TIME": str(int(time.time()) + 6)}
    text = train(75, "slurm", "--time-limit", "auto", *longer, env={**env, **end})
    for words in ("limit     stops with a checkpoint within ", "stopped by time limit after step"):
        check(words in text, f"no {words!r} in\n{text}")
    s = segments("slurm")
    check([(x["job"], x["restart"], x["ended"]) for x in s] ==
          [("4711", 2, "--stop-after")] * 2 + [("4711", 2, "time limit")], f"{s}")
    check("(job 4711.2)" in table_of("slurm")[0], "the table names the job")
    check("completed: step 4 of 4" in train(0, "free", "schedule.steps=4", "--time-limit", "auto"), "no limit known")


def binding_is_told():
    cores = sorted(os.sched_getaffinity(0))
    words = [simile, "pretrain", "job.yaml", "run=bound", "--stop-after", "1"]
    done = subprocess.run(["taskset", "-c", str(cores[-1]), *words], capture_output=True, text=True)
    if os.cpu_count() > 1:
        check(f"binding   rank 0 to cores {cores[-1]} of {os.cpu_count()}; every rank to 1" in done.stderr, done.stderr)
    if len(cores) == os.cpu_count():
        check("binding   none: rank 0 may run on all" in train(75, "unbound", "--stop-after", "1"), "unbound")


def crowding_is_told():
    """Two ranks with a core each are no crowd; two on one core are."""
    cores = sorted(os.sched_getaffinity(0))
    crowd = "2 ranks x 1 thread on 1 core of"
    for name, told, prefix in (("apart", False, ["mpirun", "--bind-to", "core"]),
                               ("crowd", True, ["taskset", "-c", str(cores[0]), "mpirun", "--bind-to", "none", "--oversubscribe"])):
        if not told and len(cores) < 2:
            continue
        words = [*prefix, "-np", "2", simile, "pretrain", "job.yaml", f"run={name}", "--stop-after", "1"]
        done = subprocess.run(words, capture_output=True, text=True)
        check(done.returncode == 75 and (crowd in done.stderr) == told, done.stderr)


def a_failure_is_told():
    text = train(70, "mad", "optimizer.lr=1e4", "schedule.shape=constant", "optimizer.weight_decay=10",
                 "guard.bad_steps=0", "checkpoint.every_steps=2")
    check(re.search(r"failed after step \d+ of 400; the last good checkpoint is mad/checkpoints/step-0", text), text)
    s = segments("mad")
    check(s[-1]["ended"].startswith("failed: step "), f"{s}")
    with open("mad/log.txt") as f:
        check("simile: step " in f.read().splitlines()[-1], "the log ends with why")


make_data()
killed_before_any_checkpoint()
killed_between_metrics_and_checkpoint()
a_damaged_list_is_no_obstacle()
slurm_is_told()
binding_is_told()
crowding_is_told()
a_failure_is_told()
shutil.rmtree(os.getcwd())
print("ok")
