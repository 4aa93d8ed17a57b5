#!/usr/bin/python3
"""A disk or a pipe that stops responding: guard.hang_seconds ends the job with exit code 70 although no
write returns, and a second TERM ends it at once.

simile-test: timeout 600 processors 2
"""
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import MPIEXEC  # noqa: E402
from program import SIMILE, noise, preload, simile  # noqa: E402

DEADLINE_S = 200  # ends a test that hangs; a busy machine stays far below
JOB = """run: run
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 32
block: 8
schedule: {steps: 100000}
augment: {preset: digits}
log: {every_steps: 1}
checkpoint: {every_steps: 1000000}
"""


def wait_until(condition, job):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert job.poll() is None, f"exit {job.returncode}"
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def end_of(job):
    """Exit code of a job that must end by itself."""
    try:
        return job.wait(DEADLINE_S)
    except subprocess.TimeoutExpired:
        job.kill()
        raise


def has_metrics(run):
    path = os.path.join(run, "metrics.jsonl")
    return os.path.exists(path) and os.path.getsize(path) > 0


def check_disk(phase, *words):
    """The file system of the run hangs: the ranks end, and the message names rank, step and directory."""
    run = os.path.abspath("frozen-" + phase)
    environment = {**os.environ, "LD_PRELOAD": os.path.abspath("frozen.so"), "FROZEN": os.path.abspath("now-" + phase),
                   "FROZEN_BELOW": run}
    command = [*MPIEXEC, "-np", "2", SIMILE, "pretrain", "job.yaml",
               "run=" + run, "guard.hang_seconds=4", *words]
    with open("out.txt", "w") as out:
        job = subprocess.Popen(command, env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        wait_until(lambda: has_metrics(run), job)
        open("now-" + phase, "w").close()
        code = end_of(job)
    text = open("out.txt").read()
    assert code == 70, f"exit {code}\n{text}"
    found = [line for line in text.splitlines() if "simile: " in line and "guard.hang_seconds" in line]
    assert found and "rank 0 on" in found[0] and run + "/heartbeat" in found[0], text


def is_blocked_in_stderr(pid):
    """The main thread is in a write to descriptor 2."""
    with open(f"/proc/{pid}/syscall") as f:
        return f.read().startswith("1 0x2 ")


def start_with_full_pipe(run, *words):
    """A job that is blocked by its stderr, a pipe that nobody reads."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    job = subprocess.Popen([SIMILE, "pretrain", "job.yaml", "run=" + run, *words], stderr=writer, stdin=subprocess.DEVNULL)
    os.close(writer)
    n_seen = 0

    def is_blocked():
        nonlocal n_seen
        n_seen = n_seen + 1 if is_blocked_in_stderr(job.pid) else 0
        return n_seen > 5
    wait_until(is_blocked, job)
    return job, reader


def check_pipe():
    job, reader = start_with_full_pipe("pipe", "guard.hang_seconds=4")
    code = end_of(job)
    os.close(reader)
    assert code == 70, code
    with open("pipe/log.txt") as f:
        assert [line for line in f if "simile: " in line and "guard.hang_seconds" in line], "not in the log"


def check_second_term():
    job, reader = start_with_full_pipe("term", "guard.hang_seconds=100000")
    job.send_signal(signal.SIGTERM)
    time.sleep(7)  # no progress in between
    assert job.poll() is None
    job.send_signal(signal.SIGTERM)
    code = end_of(job)
    os.close(reader)
    assert code == -signal.SIGTERM, code


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    preload("lib/frozen.c")
    noise()
    open("job.yaml", "w").write(JOB)
    check_disk("steps")
    check_disk("checkpoints", "checkpoint.every_steps=1")
    if os.access("/proc/self/syscall", os.R_OK):
        check_pipe()
        check_second_term()
    else:
        print("skipped: /proc/PID/syscall cannot be read, so a blocked write is not recognized")
print("ok")
