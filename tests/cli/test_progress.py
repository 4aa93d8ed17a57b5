#!/usr/bin/python3
"""Progress and `simile watch`: on a terminal one line that is rewritten and erased, elsewhere plain lines,
nothing with --quiet; watch on terminals of several widths, while a run is training and after it.

simile-test: timeout 300
"""
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios

import h5py
import numpy as np

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import SIMILE, noise, simile  # noqa: E402

JOB = """run: run
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 32
block: 8
schedule: {epochs: 9}
augment: {preset: digits}
log: {every_steps: 1}
evaluate: {quality_every_epochs: 3}
"""


def on_terminal(columns, *words, env=()):
    """What a command writes to a terminal of this width, and its exit code."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    run = subprocess.Popen([SIMILE, *words], stdin=slave, stdout=slave, stderr=slave,
                           env={**os.environ, "TERM": "xterm", **dict(env)})
    os.close(slave)
    text = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        text += part
    os.close(master)
    return text.decode(), run.wait()


def shown(text):
    """The lines that stay on the terminal."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[\d*[AKJ]|\r|\n|[^\x1b\r\n]+", text):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r":
            pass
        elif part.endswith("A"):
            row -= int(part[2:-1])
        elif part.endswith("J"):
            del lines[row + 1:]
            lines[row] = ""
        elif part.endswith("K"):
            lines[row] = ""
        else:
            lines[row] += part
    return [line for line in lines if line]


def check_progress():
    with h5py.File("many.h5", "w") as f:
        f["images"] = np.random.RandomState(1).randint(0, 256, (6000, 12, 12, 1)).astype("u1")
    simile("prepare", "many.h5", "--out", "set.h5")
    words = ("embed", "run", "--data", "set.h5", "--out", "e.h5", "--force")
    text, code = on_terminal(70, *words)
    assert code == 0 and shown(text)[-1].startswith("e.h5 (hdf5): features 6000"), shown(text)
    assert all("embedding" not in line for line in shown(text)), shown(text)
    assert all(len(re.sub(r"\x1b\[K", "", part)) < 70 for part in re.split(r"[\r\n]", text) if "embedding" in part)
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        text, _ = on_terminal(70, *words, env=env.items())
        assert "\x1b" not in text and "embedding" not in text, text
    done = simile(*words)
    assert "embedding" not in done.stderr and "\x1b" not in done.stderr
    text, code = on_terminal(70, "evaluate", "quality", "run", "--test", "set.h5", "--json")
    (result,) = [line for line in shown(text) if line.startswith("{")]
    assert json.loads(result)["n_images"] == 6000, text


def check_quiet():
    for words in (("embed", "run", "--data", "train.h5", "--out", "q.h5"),
                  ("pretrain", "job.yaml", "run=quiet"), ("report", "run", "--out", "q.html"),
                  ("prepare", "many.h5", "--out", "q2.h5")):
        done = simile(*words, "--quiet")
        assert done.stderr == done.stdout == "", (words, done.stderr)
    text, code = on_terminal(70, "embed", "run", "--data", "set.h5", "--out", "q3.h5", "--quiet")
    assert (text, code) == ("", 0), text
    with open("quiet/log.txt") as f:
        assert "completed" in f.read()
    done = simile("evaluate", "quality", "run", "--json", "--quiet")
    assert done.stderr == "" and json.loads(done.stdout)["n_images"] == 96
    assert "simile: " in simile("embed", "run", "--data", "no.h5", "--out", "x.h5", "--quiet", code=66).stderr


def check_watch():
    for columns in (20, 40, 80, 200):
        text, code = on_terminal(columns, "watch", "run")
        lines = shown(text)
        assert code == 0 and all(len(line) <= columns for line in lines), lines
        assert lines[0].startswith("run: simclr, complet") and lines[1].startswith("9/9 epochs, step 27"[:columns])
        assert any(line.startswith("loss") for line in lines)
        blocks = [line for line in lines if line.startswith("loss")][0]
        assert (columns < 30) == (re.search("[▁▂▃▄▅▆▇█]", blocks) is None), blocks
    assert simile("watch", "run").stdout.splitlines()[0] == "run: simclr, completed"
    assert "\x1b" not in simile("watch", "run").stdout
    run = subprocess.Popen([SIMILE, "pretrain", "job.yaml", "run=live", "schedule.epochs=60"], stderr=subprocess.DEVNULL)
    while run.poll() is None and not os.path.exists("live/metrics.jsonl"):
        pass
    text, code = on_terminal(60, "watch", "live", "--every=1")
    assert code == 0 and shown(text)[0] == "live: simclr, completed", shown(text)
    run.wait()
    shutil.rmtree("live/results")
    os.remove("live/metrics.jsonl")
    assert simile("watch", "live").stdout.startswith("live: simclr, completed")
    for words, code in ((["nowhere"], 66), ([], 64), (["run", "--every=0"], 64), (["run", "live"], 64)):
        simile("watch", *words, code=code)


os.chdir(tempfile.mkdtemp())
noise()
with open("job.yaml", "w") as f:
    f.write(JOB)
simile("pretrain", "job.yaml")
check_progress()
check_quiet()
check_watch()
shutil.rmtree(os.getcwd())
