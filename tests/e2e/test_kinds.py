"""A path or a name of the wrong kind: the message names what it is, and what to type instead.

simile-test: timeout 600
"""
import gzip
import os
import pickle
import tarfile
import zipfile

import numpy as np
import h5py

from common import remove_scratch, run, scratch, write_idx

os.chdir(scratch)
rng = np.random.default_rng(3)
JOB = ("run: run\ndata: {train: train.h5}\nmethod: {name: simclr}\nencoder: {width: 0.0625}\nbatch: 16\n"
       "block: 8\nschedule: {steps: 1}\n")


def message(expect, *args):
    """The one message of a refused command."""
    text = run(1, *args, expect=expect)
    assert "did you mean" not in text, text
    return text


def make_inputs():
    write_idx("images-idx3-ubyte", rng.integers(0, 256, (32, 12, 12)))
    run(1, "prepare", "images-idx3-ubyte", "--out", "train.h5")
    with open("job.yaml", "w") as f:
        f.write(JOB)
    run(1, "pretrain", "job.yaml")
    run(1, "embed", "run", "--data", "train.h5", "--out", "e.h5")
    os.mkdir("my photos")
    with open("my photos/note", "w") as f:
        f.write("none\n")
    with tarfile.open("a.tar", "w") as f:
        f.add("images-idx3-ubyte")
    with tarfile.open("a.tar.gz", "w:gz") as f:
        f.add("images-idx3-ubyte")
    with zipfile.ZipFile("a.zip", "w") as f:
        f.write("images-idx3-ubyte")
    with gzip.open("images.gz", "wb") as f:
        f.write(b"0" * 100)
    np.save("x.npy", np.zeros(3))
    np.savez("x.npz", x=np.zeros(3))
    with open("batch_1", "wb") as f:
        pickle.dump({"data": [1, 2, 3]}, f)
    with h5py.File("raw.h5", "w") as f:
        f["images"] = rng.integers(0, 256, (8, 12, 12, 3)).astype("u1")
    with open("binary", "wb") as f:
        f.write(bytes(rng.integers(128, 256, 3073).astype("u1")))


make_inputs()
checkpoint = "run/checkpoints/step-000000001.h5"

# ---- instead of a data set ----

SOURCES = {"my photos": "directory", "a.tar": "archive", "a.tar.gz": "archive", "a.zip": "archive",
           "images.gz": "compressed", "x.npy": "NumPy", "x.npz": "NumPy", "images-idx3-ubyte": "idx",
           "raw.h5": "HDF5", "binary": "unknown"}
for path, word in SOURCES.items():
    quoted = f"'{path}'" if " " in path else path
    text = message(65 if path != "my photos" else 66, "pretrain", "job.yaml", "run=other", f"data.train={path}")
    assert word in text and f"simile prepare {quoted} --out " in text, f"{path}: {text}"
text = message(65, "plan", "job.yaml", "data.train=batch_1")
assert "simile prepare" in text and "h5py" in text and "prepare batch_1" not in text, text
for words in (("pretrain", "job.yaml", "run=other", "evaluate.knn_every_epochs=1", "data.test=a.tar"),
              ("plan", "job.yaml", "data.train=a.tar"), ("embed", "run", "--data", "a.tar", "--out", "o.h5"),
              ("evaluate", "knn", "run", "--train", "a.tar", "--test", "train.h5")):
    assert "simile prepare a.tar --out " in message(65, *words), words
for path, word in {"e.h5": "simile inspect e.h5", checkpoint: "embed, evaluate knn", "job.yaml": "pretrain, plan"}.items():
    text = message(65, "plan", "job.yaml", f"data.train={path}")
    assert word in text and "prepare " + path not in text, f"{path}: {text}"
text = message(66, "plan", "job.yaml", "data.train=run")
assert "run directory" in text and "prepare run" not in text, text
text = message(66, "plan", "job.yaml", "data.train=missing.h5")
assert "missing.h5" in text and "simile prepare" not in text, text
assert not os.path.exists("other"), "a refused job left a run directory"

# ---- instead of a checkpoint, a run, a job, arrays ----

for words in (("embed", "e.h5", "--data", "train.h5", "--out", "o.h5"),
              ("evaluate", "knn", "e.h5", "--train", "train.h5", "--test", "train.h5"),
              ("pretrain", "job.yaml", "run=other", "--init", "e.h5"),
              ("pretrain", "job.yaml", "run=other", "--resume", "e.h5"),
              ("plan", "e.h5")):
    text = message(78 if words[0] == "plan" else 65, *words)
    assert "embeddings" in text and "trailer" not in text, text
for words in (("embed", "train.h5", "--data", "train.h5", "--out", "o.h5"),
              ("pretrain", "job.yaml", "run=other", "--init", "train.h5"), ("loss", "job.yaml", "--in", "train.h5", "--out", "o.h5")):
    text = message(65, *words)
    assert "is a data set" in text and "data.train" in text, text
assert "embeddings" in message(65, "loss", "job.yaml", "--in", "e.h5", "--out", "o.h5")
assert "job file" in message(66, "pretrain", "run")
assert "job file" in message(78, "pretrain", checkpoint)
assert "job file" in message(66, "pretrain", "my photos")
assert "directory" in message(66, "stop", "my photos") and "run directory" in message(66, "stop", "train.h5")
assert "directory" in message(66, "embed", "my photos", "--data", "train.h5", "--out", "o.h5")
assert "checkpoint" in message(65, "prepare", checkpoint, "--out", "o.h5")
assert "1 dimensions" in message(65, "prepare", "x.npy", "--out", "o.h5")
assert "h5py" in message(65, "prepare", "batch_1", "--out", "o.h5")
assert "run directory" in message(66, "inspect", "my photos")

text = run(1, "inspect", "e.h5")
for word in "/features", "32", "/projections", "step-000000001.h5":
    assert word in text, text

# ---- names ----

for word, meant in {"train": "simile pretrain\n", "eval": "simile evaluate\n", "pretrian": "simile pretrain\n",
                    "convert": "simile prepare\n", "frobnicate": "prepare, plan, pretrain"}.items():
    assert meant in run(1, word, expect=64), word
for key in "method.name=byol", "optimizer.name=rmsprop", "augment.preset=imagenette9", "augment.view1=[blah]", "encoder.arch=vit":
    text = message(78, "plan", "job.yaml", key)
    assert "|" in text, text  # the list of the choices
assert "did you mean simclr?" in run(1, "plan", "job.yaml", "method.name=simcrl", expect=78)
assert "did you mean" not in run(1, "pretrain", "job.yaml", "--accept", "everything", expect=64)
remove_scratch()
