#!/usr/bin/python3
"""A rank that is frozen for ever outside of the steps of a run: during the start, in every command, and at the
end.  The other ranks end the job with exit code 70 and a message.

simile-test: timeout 900
"""
import os
import shutil
import subprocess
import sys
import tempfile

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
schedule: {steps: 2}
augment: {preset: digits}
guard: {hang_seconds: 4}
"""


def frozen(call, start_s, *words):
    """Exit code and messages of a job of two ranks, one of which stops itself in a call of MPI."""
    environment = {**os.environ, "LD_PRELOAD": os.path.abspath("stopped.so"), "STOPPED_RANK": "1",
                   "STOPPED_CALL": str(call), "STOPPED_COUNT": "calls.txt", "SIMILE_START_SECONDS": start_s}
    with open("out.txt", "w") as out:
        job = subprocess.Popen([*on_ranks(2), SIMILE, *words],
                               env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            code = job.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            job.terminate()  # it ends its ranks
            job.wait()
            raise AssertionError(f"rank 1 is frozen in call {call} of {words}: the job does not end")
    return code, open("out.txt").read()


def check(call, words, text):
    code, output = frozen(call, "20", *words)  # long enough for what precedes the call, also on a busy machine
    assert code == 70, f"call {call} of {words}: exit {code}\n{output}"
    found = [line for line in output.splitlines() if line.startswith("simile: ") and text in line]
    assert found and "the job ends" in found[0], f"call {call} of {words}: no message\n{output}"


def check_every(step, words):
    """A rank that is frozen in any call after the first ones."""
    code, output = frozen("count", "600", *words)
    assert code == 0, output
    n_calls = int(open("calls.txt").read())
    assert n_calls > 50, n_calls
    for call in range(9, n_calls, step):
        shutil.rmtree("run", ignore_errors=True)
        code, output = frozen(call, "2", *words)
        assert code == 70 and "the job ends" in output, f"call {call} of {words}: exit {code}\n{output}"


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    preload("lib/stopped.c")
    noise()
    open("job.yaml", "w").write(JOB)
    simile("pretrain", "job.yaml", "run=model")
    train = ["pretrain", "job.yaml"]
    commands = {"evaluate": ["evaluate", "quality", "model"], "embed": ["embed", "model", "--data", "train.h5", "--out", "z.h5"],
                "prepare": ["prepare", "raw.h5", "--out", "again.h5"]}

    # before and after the exchange of addresses in MPI_Init; the first calls compare the commands
    check("MPI_Init_thread", train, "MPI_Init")
    for words in [train, *commands.values()]:
        check(2, words, "compared their commands")
    assert not [name for name in ("run", "z.h5", "again.h5") if os.path.exists(name)]

    # anywhere in the start, the steps and the end of a run
    check_every(12, train)
    shutil.rmtree("run")

    # all ranks end with a usage error
    check("MPI_Init", ["pretrain", "job.yaml", "--stop-after=x"], "MPI_Init")

    # the result is complete
    check("MPI_Finalize", train, "MPI_Finalize")
    done = simile(*train)
    assert "already completed" in done.stderr, done.stderr
print("ok")
