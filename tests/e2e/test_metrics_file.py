#!/usr/bin/python3
"""metrics.jsonl that is damaged, cut, missing, or no regular file: the good lines stay, and the next start
reports what is wrong.  It is synced before each checkpoint.

simile-test: timeout 300
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import noise, preload, simile  # noqa: E402

JOB = """run: run
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 32
block: 8
schedule: {steps: 20}
augment: {preset: digits}
log: {every_steps: 1}
checkpoint: {every_steps: 5}
"""
PATH = "damaged/metrics.jsonl"


def resume(*words, stop=12):
    """Resumes the damaged run.  Returns its warnings of the metrics."""
    text = simile("pretrain", "job.yaml", "run=damaged", "--stop-after", str(stop), *words, code=75).stderr
    return [line for line in text.splitlines() if line.startswith("warning: ") and PATH in line]


def copy_run():
    """A run that was stopped after step 10; returns the lines of its metrics."""
    shutil.rmtree("damaged", ignore_errors=True)
    shutil.copytree("stopped", "damaged")
    with open(PATH, "rb") as f:
        return f.read().splitlines(keepends=True)


def write(lines):
    with open(PATH, "wb") as f:
        f.write(b"".join(lines))


def steps():
    with open(PATH) as f:
        return [json.loads(line)["step"] for line in f]


def check_bad_lines():
    for bad in ([3], [3, 7, 10], list(range(1, 11))[:9]):
        for byte in (b"\xff", b"\0", b"x"):
            lines = copy_run()
            for n in bad:
                at = lines[n - 1].index(b',"loss"')
                lines[n - 1] = lines[n - 1][:at] + byte + lines[n - 1][at + 1:]
            write(lines)
            warnings = [w for w in resume() if "old-1" in w]
            assert len(warnings) == 1, warnings
            numbers = [int(n) for n in re.search(r"lines? ([0-9, ]+)", warnings[0]).group(1).split(",")]
            assert numbers == bad[:8], warnings
            assert len(bad) <= 8 or "1 more" in warnings[0], warnings
            assert steps() == [s for s in range(1, 13) if s not in bad], steps()
            with open(PATH + ".old-1", "rb") as f:
                assert f.read() == b"".join(lines)


def check_zeros():
    """A power cut may leave zeros in the middle of a file."""
    for n_bytes in (100, (1 << 20) - 1, 1 << 20, 3 << 20):
        lines = copy_run()
        lines[2:4] = [b"\0" * n_bytes, b"\n"]
        write(lines)
        warnings = [w for w in resume() if "old-1" in w]
        assert len(warnings) == 1 and "line 3 is" in warnings[0], warnings
        assert steps() == [1, 2] + list(range(5, 13)), (n_bytes, steps())


def check_gaps():
    """The checkpoint knows how far the metrics reached, whatever log.every_steps is now."""
    for every in (1, 3, 100):
        lines = copy_run()
        write(lines[:6])
        warnings = resume(f"log.every_steps={every}")
        assert len(warnings) == 1 and "steps 7 to 10 " in warnings[0], (every, warnings)
        copy_run()
        os.remove(PATH)
        warnings = resume(f"log.every_steps={every}")
        assert len(warnings) == 1 and "steps 1 to 10 " in warnings[0], (every, warnings)
        copy_run()
        assert resume(f"log.every_steps={every}") == [], every
    shutil.rmtree("damaged")  # a checkpoint that is continued elsewhere: nothing is missing there
    os.rename("stopped/checkpoints/step-000000010.h5", "elsewhere.h5")
    assert resume("--resume", "elsewhere.h5") == []
    os.rename("elsewhere.h5", "stopped/checkpoints/step-000000010.h5")


def check_other_kinds():
    """A named pipe that nobody reads, a device: kept under another name; the run does not wait for it."""
    for name in ("metrics.jsonl", "log.txt"):
        for make in (os.mkfifo, lambda path: os.symlink("/dev/null", path)):
            copy_run()
            path = "damaged/" + name
            os.remove(path)
            make(path)
            text = simile("pretrain", "job.yaml", "run=damaged", "--stop-after", "12", code=75).stderr
            assert path + ".old-1" in text, text
            assert os.path.isfile(path) and not os.path.islink(path), path
            assert os.path.lexists(path + ".old-1")
    copy_run()
    os.mkfifo("damaged/trace-hash.txt")
    text = subprocess.run([os.environ["SIMILE"], "pretrain", "job.yaml", "run=damaged", "--trace-hash"], capture_output=True,
                          text=True, timeout=200).stderr
    assert "damaged/trace-hash.txt" in text, text


def check_syncs():
    preload("lib/syncs.c")
    for fails in (False, True):
        shutil.rmtree("run", ignore_errors=True)
        if os.path.exists("syncs.txt"):
            os.remove("syncs.txt")
        os.environ.update(LD_PRELOAD=os.path.abspath("syncs.so"), SYNCS=os.path.abspath("syncs.txt"))
        if fails:
            os.environ["SYNC_FAILS"] = "1"
        text = simile("pretrain", "job.yaml").stderr
        for name in ("LD_PRELOAD", "SYNCS", "SYNC_FAILS"):
            os.environ.pop(name, None)
        events = open("syncs.txt").read().split()
        assert events.count("write") == 20 and events.count("checkpoint") == 5, events
        last = None
        for event in events:
            assert event != "checkpoint" or last != "write", events
            last = event if event != "checkpoint" else last
        n = len([line for line in text.splitlines() if line.startswith("warning: ") and "run/metrics.jsonl" in line])
        assert n == (1 if fails else 0), text


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    noise()
    open("job.yaml", "w").write(JOB)
    simile("pretrain", "job.yaml", "run=stopped", "--stop-after", "10", code=75)
    check_bad_lines()
    check_zeros()
    check_gaps()
    check_other_kinds()
    check_syncs()
print("ok")
