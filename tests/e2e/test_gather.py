"""gather: stream changes no bit: hash traces of every method that can stream, on 1 to 3 ranks and in resumed
runs, and gradients of `simile loss`; the others refuse it. Its memory falls with the number of ranks. A rank that
dies in a stream ends the job.

simile-test: timeout 900
"""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np

sys.path.insert(0, os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import on_ranks  # noqa: E402
from program import SIMILE, labelled_noise, methods, simile, small_method, traced_run  # noqa: E402

JOB = """
run: unset
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.0625, projector: {bn: true, dim: 16}}
batch: 40
block: 4
optimizer: {name: lars, lr: 0.3}
schedule: {steps: 3, warmup_steps: 1}
augment: {preset: digits}
log: {every_steps: 1, tensorboard: false}
"""
HELD = {"mocov1", "mocov2", "nnclr", "supervised"}  # every rank holds the rows of the batch
DEADLINE_S = 200


def train(*segments):
    trace, metrics = traced_run(*segments)
    assert trace.count(" weights ") == 3 and len(metrics) >= 3, (trace, metrics)
    return trace, metrics


def refuse(words, name):
    for command in (["pretrain", "job.yaml", "run=refused", *words], ["plan", "job.yaml", *words]):
        text = simile(*command, code=78).stderr
        assert re.search(rf"gather: stream .*method {name}\b.*auto or all", text), text


def every_method_streams_or_refuses():
    for name, keys in methods().items():
        words = small_method(name, keys)
        if name in HELD:
            refuse([*words, "gather=stream"], name)
            continue
        want = train((1, None, words))
        for ranks in (2, 3):  # of 3 ranks one has more blocks; leaves of 32 slots are shared
            got = train((ranks, None, [*words, "gather=stream"]))
            assert got == want, f"{name}, {ranks} ranks: {got}, expected {want}"
        print("ok", name)
    refuse(["method.name=cpc", "method.grid=3", "method.steps=1", "method.negatives=4", "gather=stream"], "cpc")


def gather_is_free_in_a_resumed_run():
    want = train((1, None, []))
    assert train((2, 1, ["gather=stream"]), (3, 2, ["gather=all"]), (2, None, ["gather=stream", "threads=2"])) == want


def gradients(name, rows, gather, ranks):
    with open("loss.yaml", "w") as f:
        f.write("method: {name: %s}\n" % name)
    simile("loss", "loss.yaml", "--in", rows, "--out", "g.h5", "--force", "--gather", gather, ranks=ranks)
    with h5py.File("g.h5") as f:
        return {key: f[key][()].tobytes() for key in f}


def loss_has_the_same_bits():
    rng = np.random.default_rng(3)
    with h5py.File("z.h5", "w") as f:
        for key in ("z1", "z2", "p1", "p2", "k1", "k2"):
            f[key] = rng.standard_normal((70, 24), dtype=np.float32)
        f["labels"] = (np.arange(70) % 6).astype("i4")
        f["queue"] = rng.standard_normal((50, 24), dtype=np.float32)
    for name in ("infonce", "dclw", "supcon", "siglip", "mocov3"):
        want = gradients(name, "z.h5", "all", 1)
        for ranks in (2, 3, 4):
            assert gradients(name, "z.h5", "stream", ranks) == want, (name, ranks)
    text = simile("loss", "loss.yaml", "method.name=nnclr", "--in", "z.h5", "--out", "n.h5", "--gather", "stream",
                  code=78).stderr
    assert re.search(r"--gather: stream .*method nnclr\b", text), text
    text = simile("loss", "loss.yaml", "--in", "z.h5", "--out", "n.h5", "--gather", "some", code=64).stderr
    assert '--gather: "some"' in text and not os.path.exists("n.h5"), text


def planned(ranks, gather, dim=1100):
    """Bytes of the loss of the rank that needs most."""
    text = simile("plan", "job.yaml", "data.train=large.h5", "batch=32768", "block=32",
                  f"encoder.projector.dim={dim}", f"gather={gather}", "--ranks", str(ranks)).stdout
    return float(re.search(r"^  loss +([0-9.]+) MB", text, re.M).group(1)) * 1e6


def the_plan_has_the_smaller_buffers():
    gathered = 2 * 32768 * 1100 * 4  # above 256 MiB
    for ranks in (2, 16):
        whole, streamed, chosen = (planned(ranks, mode) for mode in ("all", "stream", "auto"))
        assert whole > gathered and streamed < gathered / 3 and chosen == streamed, (ranks, whole, streamed, chosen)
    assert planned(16, "stream") <= planned(2, "stream")
    assert planned(2, "auto", 16) == planned(2, "all", 16)


def bench(ranks, *words):
    return json.loads(simile("bench", "loss", "--dim", "32", "--steps", "1", "--threads", "1", *words, ranks=ranks).stdout)


def allocated_memory_falls_with_the_ranks():
    words = ["--batch", "262144", "--rows", "131072:131080"]
    whole, two, four = bench(4, *words, "--gather", "all"), bench(2, *words, "--gather", "stream"), bench(
        4, *words, "--gather", "stream")
    gathered, own = 2 * 262144 * 32 * 4 / 1e6, 2 * 2 * 262144 * 32 * 4 / 1e6  # MB: of all rows; rows and gradients
    assert whole["buffers_mb"] > gathered + own / 4, whole
    assert four["buffers_mb"] < whole["buffers_mb"] - gathered / 4, (four, whole)
    assert four["buffers_mb"] < two["buffers_mb"] - own / 8, (four, two)
    assert (four["first_row"], four["end_row"]) == (131072, 131080), four
    # of 65,536 pairs of a rank, 8 are compared
    assert abs(four["loss_s_extrapolated"] / four["loss_s"] - 65536 / 8) < 1, four
    for wrong in ("5", "5:5", "6:5", "-1:5", "1:5x", "0:262145"):
        assert "--rows" in simile("bench", "loss", "--batch", "262144", "--rows", wrong, code=64).stderr, wrong


def children(pid):
    return [int(p) for p in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()]


def seconds_of(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def a_rank_that_dies_in_a_stream_ends_the_job():
    """The loss takes minutes; after 3 s of CPU time every rank is in a stream."""
    command = [*on_ranks(3), SIMILE, "bench", "loss", "--batch", "131072", "--gather", "stream", "--threads", "1"]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + DEADLINE_S
    ranks = []
    while len(ranks) < 3 or min(map(seconds_of, ranks)) < 3:
        assert job.poll() is None and time.monotonic() < end, (job.returncode, ranks)
        time.sleep(0.1)
        ranks = children(job.pid)
    os.kill(ranks[1], signal.SIGKILL)
    assert job.wait(DEADLINE_S) != 0
    while any(map(alive, ranks)):
        assert time.monotonic() < end, "a rank remains"
        time.sleep(0.1)


with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    labelled_noise("train.h5", 120)
    labelled_noise("large.h5", 32768, 8)
    with open("job.yaml", "w") as f:
        f.write(JOB)
    loss_has_the_same_bits()
    the_plan_has_the_smaller_buffers()
    allocated_memory_falls_with_the_ranks()
    a_rank_that_dies_in_a_stream_ends_the_job()
    gather_is_free_in_a_resumed_run()
    every_method_streams_or_refuses()
print("ok")
