#!/usr/bin/python3
"""The history of a run: a table of its segments, including killed ones; the header, the time limit and
the reason of every stop in the log; metrics and log without gaps or duplicates.

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

import numpy as np

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import MPIEXEC  # noqa: E402

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
        words = [*MPIEXEC, "-np", str(ranks), *words]
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


def until(run, step, n_steps):
    """Starts a run in the background, which pauses after n_steps steps.  Returns it once its metrics
    contain the step."""
    slow = {"LD_PRELOAD": os.path.abspath("slow.so"), "SLOW_MS": "600000", "SLOW_AFTER": str(n_steps)}
    process = subprocess.Popen([simile, "pretrain", "job.yaml", f"run={run}"],
                               stderr=subprocess.DEVNULL, env={**os.environ, **slow})
    while True:
        if os.path.exists(f"{run}/metrics.jsonl"):
            with open(f"{run}/metrics.jsonl") as f:
                if f'"step":{step},' in f.read():
                    return process
        check(process.poll() is None, f"{run} ended before step {step}")
        time.sleep(0.01)


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
    slow = os.path.join(os.environ["SIMILE_SOURCE"], "tests", "slurm", "slow.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", "slow.so", slow, "-ldl"], check=True)


def table_of(run):
    text = call(0, "inspect", run)
    return text[text.index("\nsegments\n"):].splitlines()[3:]


def killed_before_any_checkpoint():
    text = train(75, "killed", "--stop-after", "3")
    check(re.search(r"^start +fresh\b", text, re.M), text)
    process = until("killed", 20, 17)
    running = segments("killed")[-1]
    check(running["ended"] == "running", f"a segment in progress: {running}")
    check(running["images_per_s"] in rates("killed"), f"its speed is not that of the metrics: {running}")
    check(re.search(r" [1-9]\d*  running\b", table_of("killed")[1]), f"no speed: {table_of('killed')[1]}")
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = metrics("killed")[-1]
    check(done == 20, f"the last step in the metrics is {done}")
    s = segments("killed")
    check([(x["from_step"], x["to_step"], x["ended"]) for x in s] ==
          [(0, 3, "--stop-after"), (3, 3, "killed or lost")], f"history after the kill: {s}")
    check(s[1]["last_step"] == done, f"last step {s[1]['last_step']}, metrics have {done}")
    row = table_of("killed")[1]
    check(re.search(r"^ +2 .* 1 x 1 +16 +3 -> 3 +[1-9]\d*  killed or lost after step %d$" % done, row), row)

    # Killed again before a checkpoint, then stopped: the checkpoint contains all segments.
    process = until("killed", done + 5, 22)  # more steps than the previous segment
    process.send_signal(signal.SIGKILL)
    process.wait()
    second = metrics("killed")[-1]
    text = train(75, "killed", "--stop-after", "40", ranks=2)
    check(re.search(rf"\b4 to {second}\b", text), text)
    s = segments("killed/checkpoints/step-000000040.h5")
    check([(x["from_step"], x["to_step"], x["ended"]) for x in s] ==
          [(0, 3, "--stop-after"), (3, 3, "killed or lost"), (3, 3, "killed or lost"),
           (3, 40, "--stop-after")], f"history: {s}")
    check(s[1]["last_step"] == done and s[2]["last_step"] == second, f"last steps: {s}")
    check([x["ranks"] for x in s] == [1, 1, 1, 2] and s[3]["hosts"], f"ranks and hosts: {s}")
    check(metrics("killed") == list(range(1, 41)), f"metrics: {metrics('killed')}")
    with open("killed/log.txt") as f:
        log = f.read()
    steps = [int(x) for x in re.findall(r"^\S+Z step (\d+)/", log, re.M)]
    check(steps == list(range(1, 41)), f"log: {steps}")
    check(f"(lost) step {second}/400" in log, "the log does not mark the lost steps")


def killed_between_metrics_and_checkpoint():
    """A run that was killed after step 13, before its checkpoint, while it wrote a line."""
    train(75, "truncated", "checkpoint.every_steps=10", "--stop-after", "13")
    os.remove("truncated/checkpoints/step-000000013.h5")
    with open("truncated/metrics.jsonl", "a") as f:
        f.write('{"step":14,"ep')
    s = segments("truncated")
    check((s[0]["to_step"], s[0]["last_step"], s[0]["ended"]) == (10, 13, "--stop-after"), f"{s}")
    train(75, "truncated", "checkpoint.every_steps=10", "--stop-after", "25")
    train(75, "reference", "--stop-after", "25")
    check(metrics("truncated") == list(range(1, 26)), f"{metrics('truncated')}")
    hashes = [json.loads(call(0, "inspect", run, "--json"))["weights_hash"] for run in ("truncated", "reference")]
    check(hashes[0] == hashes[1], "the weights differ")
    with open("truncated/metrics.jsonl") as a, open("reference/metrics.jsonl") as b:
        for one, two in zip(a, b):
            one, two = json.loads(one), json.loads(two)
            check(all(one[k] == two[k] for k in ("step", "loss", "lr", "gradient_norm")), f"{one} {two}")


def corrupted_segments_file():
    shutil.copytree("truncated", "corrupted")
    with open("corrupted/segments.json", "w") as f:
        f.write("[{")
    text = call(0, "inspect", "corrupted")
    check(re.search(r"^warning: .*corrupted/segments\.json\b", text, re.M), text)
    train(75, "corrupted", "checkpoint.every_steps=10", "--stop-after", "26")
    check([x["to_step"] for x in segments("corrupted")] == [10, 25, 26], "the history in the checkpoint was not used")


def slurm_job():
    env = {"SLURM_JOB_ID": "4711", "SLURM_RESTART_COUNT": "2"}
    end = {"SLURM_JOB_END_TIME": str(int(time.time()) + 7200)}
    text = train(75, "slurm", "--stop-after", "2", env={**env, **end})
    for pattern in (r"^run +slurm\b.*\b4711\b.*\brestart 2\b", r"^ranks +1 x 1 thread\b.*\b1 node\b", r"^binding +\S",
                    r"^memory +[0-9.]+ MB", r"^method .*\b30 negatives\b", r"^limit +Slurm\b.*\b[12]h\d+m\b",
                    r"^step .*\blimit in [12]h\d+m\b", r"^data .*\b[0-9a-f]{32}\b"):
        check(re.search(pattern, text, re.M), f"no line matches {pattern!r}:\n{text}")
    with open("slurm/log.txt") as f:
        last = f.read().splitlines()[-1]
        check(re.search(r" --stop-after .*\b2 of 400\b.*slurm/checkpoints/step-000000002\.h5", last), last)
    longer = ("schedule.steps=1000000000", "--accept", "schedule.steps")
    text = train(75, "slurm", "--stop-after", "3", *longer, env={**env, **end})
    check(re.search(r"\beta \d+\w+,.*\blimit in [12]h\d+m\b.*\bstep \d+\b", text, re.M), text)
    end = {"SLURM_JOB_END_TIME": str(int(time.time()) + 6)}
    text = train(75, "slurm", "--time-limit", "auto", *longer, env={**env, **end})
    for pattern in (r"^limit +.*\bcheckpoint\b", r"stopped by time limit .*slurm/checkpoints/step-"):
        check(re.search(pattern, text, re.M), f"no line matches {pattern!r}:\n{text}")
    s = segments("slurm")
    check([(x["job"], x["restart"], x["ended"]) for x in s] ==
          [("4711", 2, "--stop-after")] * 2 + [("4711", 2, "time limit")], f"{s}")
    check("(job 4711.2)" in table_of("slurm")[0], f"no job in {table_of('slurm')[0]}")
    text = train(0, "free", "schedule.steps=4", "--time-limit", "auto")  # without a known limit
    check(re.search(r"\b4 of 4\b.*free/checkpoints/step-000000004\.h5", text), text)


def binding():
    cores = sorted(os.sched_getaffinity(0))
    words = [simile, "pretrain", "job.yaml", "run=bound", "--stop-after", "1"]
    done = subprocess.run(["taskset", "-c", str(cores[-1]), *words], capture_output=True, text=True)
    if os.cpu_count() > 1:
        check(re.search(rf"^binding +rank 0 .*\b{cores[-1]} of {os.cpu_count()}\b", done.stderr, re.M), done.stderr)
    if len(cores) == os.cpu_count():
        text = train(75, "unbound", "--stop-after", "1")
        check(re.search(rf"^binding +none\b.*\b{os.cpu_count()} cores\b", text, re.M), text)


def oversubscription():
    """Two ranks on one core cause a warning; two ranks on two cores do not."""
    cores = sorted(os.sched_getaffinity(0))
    warning = r"^warning: 2 ranks x 1 thread on 1 core\b"
    for name, expected, prefix in (
            ("bound", False, ["mpirun", "--bind-to", "core"]),
            ("oversubscribed", True, ["taskset", "-c", str(cores[0]), "mpirun", "--bind-to", "none", "--oversubscribe"])):
        if not expected and len(cores) < 2:
            continue
        words = [*prefix, "-np", "2", simile, "pretrain", "job.yaml", f"run={name}", "--stop-after", "1"]
        done = subprocess.run(words, capture_output=True, text=True)
        check(done.returncode == 75 and bool(re.search(warning, done.stderr, re.M)) == expected, done.stderr)


def idle_cores():
    """mpirun that binds one rank to one of several cores causes a warning, unless that is intended."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return
    core, one = str(cores[0]), ["mpirun", "-np", "1", "--bind-to", "core"]
    free = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "OMPI_MCA_hwloc_base_binding_policy")}
    wrapper = ["bash", "-c", '"$@"; exit $?', "wrapper"]
    for name, expected, prefix, extra, env in (
            ("default", True, one, [], {}), ("script", True, [*one, *wrapper], [], {}),
            ("unbound", False, ["mpirun", "-np", "1", "--bind-to", "none"], [], {}),
            ("chosen", False, one, [], {"OMP_NUM_THREADS": "1"}), ("key", False, one, ["threads=1"], {}),
            ("few", False, ["taskset", "-c", core, *one], [], {}), ("alone", False, ["taskset", "-c", core], [], {}),
            ("slurm", False, one, [], {"SLURM_CPUS_ON_NODE": "1"})):
        words = [*prefix, simile, "pretrain", "job.yaml", f"run=cores-{name}", "--stop-after", "1", *extra]
        done = subprocess.run(words, capture_output=True, text=True, env={**free, **env})
        warned = re.search(rf"^warning: 1 of the {len(cores)} cores\b.*--bind-to none", done.stderr, re.M)
        check(done.returncode == 75 and bool(warned) == expected, f"{name}: {done.stderr}")


def failure():
    text = train(70, "diverged", "optimizer.lr=1e4", "schedule.shape=constant", "optimizer.weight_decay=10",
                 "guard.bad_steps=0", "checkpoint.every_steps=2")
    check(re.search(r"\bstep \d+ of 400\b.*diverged/checkpoints/step-0", text), text)
    s = segments("diverged")
    check(s[-1]["ended"].startswith("failed: step "), f"{s}")
    with open("diverged/log.txt") as f:
        last = f.read().splitlines()[-1]
        check(re.search(r"simile: step \d+: .*optimizer\.lr", last), last)


make_data()
killed_before_any_checkpoint()
killed_between_metrics_and_checkpoint()
corrupted_segments_file()
slurm_job()
binding()
oversubscription()
idle_cores()
failure()
shutil.rmtree(os.getcwd())
print("ok")
