"""Runs the program on small data."""
import os
import re
import shutil
import subprocess

import h5py
import numpy as np

from launcher import on_ranks

SIMILE = os.environ["SIMILE"]


def simile(*words, ranks=1, code=0):
    """Returns the completed process, with stdout and stderr; checks its exit code."""
    launcher = on_ranks(ranks)
    done = subprocess.run([*launcher, SIMILE, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == code, f"{words}: exit {done.returncode}, expected {code}\n{done.stderr}"
    return done


SMALL = {"method.queue_size": 64, "method.predictor_hidden": 16, "method.grid": 3, "method.steps": 1}


def methods():
    """Names of all methods with their keys: {"simclr": {"method.views", ...}, ...}."""
    found, name = {}, None
    for line in simile("plan", "--keys").stdout.splitlines():
        head = re.match(r"with method\.name: (\w+)", line)
        if head:
            name = head.group(1)
            found[name] = set()
        elif name and line.startswith("  method."):
            found[name].add(line.split()[0])
    assert len(found) >= 11, found
    return found


def small_method(name, keys):
    """Words of a command line: a method of methods() with reduced widths and queues."""
    return [f"method.name={name}"] + [f"{k}={v}" for k, v in SMALL.items() if k in keys]


def noise(name="train.h5", n=96, side=12):
    """A data set of gray noise without labels."""
    with h5py.File("raw.h5", "w") as f:
        f["images"] = np.random.RandomState(1).randint(0, 256, (n, side, side, 1)).astype("u1")
    simile("prepare", "raw.h5", "--force", "--out", name)


def labelled_noise(name="train.h5", n=96, side=12, classes=5):
    """A data set of gray noise in classes of equal size."""
    rng = np.random.default_rng(7)
    with h5py.File("raw.h5", "w") as f:
        f["images"] = rng.integers(0, 256, (n, side, side, 1)).astype("u1")
        f["labels"] = np.arange(n).astype("i4") % classes
    simile("prepare", "raw.h5", "--force", "--out", name)


def traced_run(*segments):
    """Hash trace and metrics without times of job.yaml in segments, each (ranks, stop or None, words)."""
    shutil.rmtree("run", ignore_errors=True)
    for ranks, stop, words in segments:
        limit = [] if stop is None else ["--stop-after", str(stop)]
        simile("pretrain", "job.yaml", "run=run", "--trace-hash", *limit, *words, ranks=ranks,
               code=0 if stop is None else 75)
    with open("run/trace-hash.txt") as f:
        trace = f.read()
    with open("run/metrics.jsonl") as f:
        metrics = [re.sub('"data_percent".*', "", line) for line in f if '"loss"' in line]
    return trace, metrics


def preload(source):
    """Compiles a file of tests/ for LD_PRELOAD, and returns the path of the library."""
    name = os.path.abspath(os.path.basename(source).replace(".c", ".so"))
    path = os.path.join(os.environ["SIMILE_SOURCE"], "tests", source)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", name, path, "-ldl"], check=True)
    return name
