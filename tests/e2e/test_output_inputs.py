#!/usr/bin/python3
"""No command writes over a file that it reads, by any spelling of its path and also with --force, nor,
without --force, over a file of a run or one of another format.

simile-test: timeout 600
"""
import hashlib
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import h5py
import numpy as np

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import simile  # noqa: E402

JOB = """run: run
data: {train: train.h5, test: test.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 16
block: 8
schedule: {steps: 2}
augment: {preset: digits}
checkpoint: {every_steps: 1, keep: 3}
"""
USAGE, CREATE = 64, 73


def hashes():
    """Of all files below the working directory but logs that every evaluation may extend."""
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in pathlib.Path(".").rglob("*") if p.is_file()}


def refused(code, name, *words, ranks=1):
    """The command fails with the code, names the file, and changes no file."""
    before = hashes()
    done = simile(*words, ranks=ranks, code=code)
    assert os.path.basename(name) in done.stderr, (name, done.stderr)
    assert hashes() == before, f"{words} changed {set(hashes().items()) ^ set(before.items())}"
    return done.stderr


def spellings(path):
    """The path, another spelling of it, a symbolic link and a hard link."""
    for link in ("soft.x", "hard.x"):
        if os.path.lexists(link):
            os.remove(link)
    os.symlink(os.path.abspath(path), "soft.x")
    os.link(path, "hard.x")
    return [path, os.path.join("run", "..", path), "soft.x", "hard.x"]


def idx(name, images, labels):
    pathlib.Path(f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, *images.shape) + images.tobytes())
    pathlib.Path(f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, len(labels)) + labels.tobytes())


def test_inputs(commands):
    for command, option, inputs in commands:
        for path in inputs:
            for spelling in spellings(path):
                for force in ([], ["--force"]):
                    refused(USAGE, spelling, *command, option, spelling, *force)
    os.remove("soft.x")
    os.remove("hard.x")


os.chdir(tempfile.mkdtemp())
random = np.random.RandomState(1)
labels = (np.arange(48) % 4).astype("u1")
idx("train", random.randint(0, 256, (48, 8, 8)).astype("u1"), labels)
idx("t10k", random.randint(0, 256, (48, 8, 8)).astype("u1"), labels)
simile("prepare", "train-images-idx3-ubyte", "--out", "train.h5")
simile("prepare", "t10k-images-idx3-ubyte", "--out", "test.h5")
pathlib.Path("job.yaml").write_text(JOB)
pathlib.Path("notes").write_text("my notes\n")
with h5py.File("z.h5", "w") as f:
    f["z1"], f["z2"] = random.randn(2, 16, 8).astype("f4")
simile("pretrain", "job.yaml")
first, last = "run/checkpoints/step-000000000.h5", "run/checkpoints/step-000000002.h5"
embed = ["embed", "run", "--data", "train.h5", "--train", "test.h5"]

# ---- inputs ----
test_inputs([
    (["plan", "job.yaml"], "--preview", ["job.yaml", "train.h5", "test.h5"]),
    (["plan", "job.yaml"], "--sbatch", ["job.yaml", "train.h5", "test.h5"]),
    (embed, "--out", ["train.h5", "test.h5", last]),
    ([*embed, "--format", "csv"], "--out", ["train.h5"]),
    (["embed", first, "--data", "test.h5"], "--out", [first]),
    (["loss", "job.yaml", "--in", "z.h5"], "--out", ["job.yaml", "z.h5"]),
    (["prepare", "train-images-idx3-ubyte"], "--out", ["train-images-idx3-ubyte"]),
])
for path in spellings("train-labels-idx1-ubyte"):
    refused(USAGE, path, "prepare", "train-images-idx3-ubyte", "--out", path, "--force")
# older checkpoints of a run that is read, its log and its results
simile("evaluate", "knn", "run", "--train", "train.h5", "--test", "test.h5", "--k", "3")
result = str(next(pathlib.Path("run/results").glob("knn*")))
for path in (first, "run/config.yaml", "run/log.txt", "run/metrics.jsonl", result):
    refused(USAGE, path, *embed, "--out", path, "--force")
# outputs of one call
refused(USAGE, "both", "plan", "job.yaml", "--preview", "both", "--sbatch", "both", "--force")
# a photo of the directory that is converted, and one that a link in it leads to
os.mkdir("photos")
for i in range(8):
    from PIL import Image
    Image.fromarray(random.randint(0, 256, (12, 12, 3)).astype("u1")).save(f"photos/{i}.png")
os.rename("photos/7.png", "elsewhere.png")
os.symlink("../elsewhere.png", "photos/7.png")
for path in ("photos/0.png", "elsewhere.png"):
    refused(USAGE, path, "prepare", "photos", "--size", "8", "--out", path, "--force")
simile("prepare", "photos", "--size", "8", "--out", "photos/set.h5")
simile("prepare", "photos", "--size", "8", "--out", "photos/set.h5")  # replaces its own output
# exports: files of the directory that are links to inputs
os.mkdir("encoder")
for name, to in (("encoder.safetensors", last), ("encoder.json", "train.h5"), ("load_encoder.py", first)):
    os.symlink(os.path.abspath(to), f"encoder/{name}")
    refused(USAGE, os.path.basename(to), "export", "run", "--train", "train.h5", "--out", "encoder", "--force")
    os.remove(f"encoder/{name}")
# embeddings as arrays: each of the files
shutil.copy("train.h5", "e.labels.npy")
refused(USAGE, "e.labels.npy", "embed", "run", "--data", "e.labels.npy", "--out", "e.npy", "--force")
os.remove("e.labels.npy")
# comparisons: the job file and the data in the directory of the tables
os.mkdir("grid")
shutil.copy("job.yaml", "grid/compare.txt")
shutil.copy("train.h5", "grid/compare.csv")
refused(USAGE, "compare.txt", "compare", "grid/compare.txt", "--out", "grid", "--evaluate", "knn", "--force")
refused(USAGE, "compare.csv", "compare", "job.yaml", "data.train=grid/compare.csv", "--out", "grid", "--force")

# ---- files of a run that is not read, and names that it uses ----
os.mkdir("other")
shutil.move("run", "other/run")
for path in (first, "run/log.txt", "run/stop", "run/run.lock", "run/checkpoints/step-000000009.h5", "run/checkpoints/e.h5"):
    for command in (["prepare", "train-images-idx3-ubyte", "--out"], ["loss", "job.yaml", "--in", "z.h5", "--out"],
                    ["plan", "job.yaml", "--preview"], ["plan", "job.yaml", "--sbatch"]):
        assert "--force" in refused(CREATE, path, *command, f"other/{path}")
simile("loss", "job.yaml", "--in", "z.h5", "--out", "other/run/loss.h5")  # another name in a run
simile("loss", "job.yaml", "--in", "z.h5", "--out", "other/run/loss.h5")

# ---- files of other formats ----
for command in (["embed", "other/run", "--data", "train.h5", "--out"], ["loss", "job.yaml", "--in", "z.h5", "--out"],
                ["prepare", "train-images-idx3-ubyte", "--out"], ["plan", "job.yaml", "--preview"]):
    refused(CREATE, "notes", *command, "notes")
refused(CREATE, "notes", "embed", "other/run", "--data", "train.h5", "--out", "notes", ranks=2)
# an array of the user beside a description of embeddings
simile("embed", "other/run", "--data", "train.h5", "--out", "e.npy")
simile("embed", "other/run", "--data", "train.h5", "--out", "e.npy")
pathlib.Path("e.labels.npy").write_text("not an array\n")
refused(CREATE, "e.labels.npy", "embed", "other/run", "--data", "train.h5", "--out", "e.npy")
# --force replaces a name: the other names of the same file keep their content
os.link("notes", "views.png")
simile("plan", "job.yaml", "--preview", "views.png", "--force")
assert pathlib.Path("notes").read_text() == "my notes\n"
assert pathlib.Path("views.png").read_bytes()[:4] == b"\x89PNG"

# ---- temporary files of killed processes ----
dead = subprocess.Popen(["true"])
dead.wait()
host = os.uname().nodename
temporary = [f"g.h5.tmp.{host}.{dead.pid}", f"e.npy.tmp.{host}.{dead.pid}", f"views.png.tmp.{host}.{dead.pid}",
             f"train2.h5.tmp.{host}.{dead.pid}", f"encoder/encoder.json.tmp.{host}.{dead.pid}",
             f"other/run/checkpoints/step-000000003.h5.tmp.{host}.{dead.pid}",
             f"other/run/results/x.json.tmp.{host}.{dead.pid}", "g.h5.tmp.elsewhere.1"]
kept = [f"g.h5.tmp.{host}.{os.getpid()}", "g.h5.tmp.elsewhere.2", f"notes.tmp.{host}.{dead.pid}", "g.h5.tmp.text",
        "other/run/checkpoints/model.tmp.h5"]
for path in temporary + kept:
    pathlib.Path(path).write_text("half")
os.utime("g.h5.tmp.elsewhere.1", (0, 0))
simile("loss", "job.yaml", "--in", "z.h5", "--out", "g.h5")
pathlib.Path("e.labels.npy").unlink()
simile("embed", "other/run", "--data", "train.h5", "--out", "e.npy")
simile("plan", "job.yaml", "--preview", "views.png", "--force")
simile("prepare", "train-images-idx3-ubyte", "--out", "train2.h5")
simile("export", "other/run", "--out", "encoder")
simile("pretrain", "job.yaml", "run=other/run", "schedule.steps=3", "--accept", "schedule.steps")
for path in temporary:
    assert not os.path.exists(path), path
for path in kept:
    assert os.path.exists(path), path
print("ok")
