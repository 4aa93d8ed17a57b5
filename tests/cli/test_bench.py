#!/usr/bin/python3
"""simile bench loader, step, kernel, loss, checkpoint and scaling: the keys of their output, on generated images and on
photos, and no files that remain, also of killed benches; the multiply-adds of a step; the arithmetic of the
predictions of scaling.

Times are not compared with anything: machines differ.
"""
import glob
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import on_ranks  # noqa: E402

SIMILE, SOURCE = os.environ["SIMILE"], os.environ["SIMILE_SOURCE"]
RATES = ("views_per_s", "views_per_s_median", "views_per_s_spread", "cpu_us_per_view")


def bench(*options, ranks=1, what="loader"):
    front = on_ranks(ranks)
    r = subprocess.run([*front, SIMILE, "bench", what, *options], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    assert os.listdir("work") == [], "a temporary file remains"
    return json.loads(r.stdout)


def check(out, **expected):
    assert out["bench"] == "loader" and all(isinstance(out[key], float) for key in RATES), out
    assert out["views_per_s"] >= out["views_per_s_median"] > 0 and out["cpu_us_per_view"] > 0, out
    assert 0 <= out["views_per_s_spread"] < out["views_per_s"], out
    assert out["kernels"] in ("portable", "v3", "v4", "neon"), out
    for key, value in expected.items():
        assert out[key] == value, (key, out[key], value)


def refuse(code, text, *options, what="loader"):
    r = subprocess.run([SIMILE, "bench", what, *options], capture_output=True, text=True)
    assert r.returncode == code and text in r.stderr and r.stdout == "", r


def check_step(out, **expected):
    count = resnet18_multiply_adds(0.125, 32)
    assert out["multiply_adds_per_view"] == count, (out, count)
    rate = 3 * 2 * count * out["batch"] / out["step_s"]  # two views; forward, and twice as much backward
    assert math.isclose(out["multiply_adds_per_s"], rate, rel_tol=1e-9), (out, rate)
    peak = out["environment"]["multiply_add_gflops"] * 1e9 / 2 * out["ranks"]
    assert math.isclose(out["share_of_peak"], rate / peak, rel_tol=1e-9), (out, rate / peak)
    for key, value in expected.items():
        assert out[key] == value, (key, out[key], value)


def resnet18_multiply_adds(width, side):
    """A 3 x 3 stem of stride 1, four stages of two blocks of two 3 x 3 convolutions, and a projector."""
    last = int(64 * width)
    count = 9 * 3 * last * side**2
    for stage in range(4):
        k, pixels = int(64 * width * 2**stage), (side >> stage) ** 2
        shortcut = last * k if stage else 0
        count += (9 * (last * k + 3 * k * k) + shortcut) * pixels
        last = k
    return count + last * last + last * 128


def predict(a, n, images, latency_us, gbits):
    """Seconds of a step of `images` on n nodes by part, from the printed assumptions (src/DESIGN.md)."""
    rounds, share, bytes_per_s = math.log2(n), images / n / a["batch_per_node"], gbits * 1e9 / 8
    sent = sum(a["gradient_bytes"] / 2**k for k in range(1, int(rounds) + 1))  # of the reduce-scatter
    received = (n - 1) * (share * a["gathered_bytes"] + a["reduced_bytes"])
    return {
        "encoder_s": share * a["encoder_s"],
        "loss_s": share * images / a["batch_per_node"] * a["loss_s"],
        "gather_s": (a["gathers"] + a["reductions"]) * rounds * latency_us * 1e-6 + received / bytes_per_s,
        "gradient_sum_s": 2 * (rounds * latency_us * 1e-6 + sent / bytes_per_s)
        + sent / a["gradient_bytes"] * a["addition_s"],
        "update_s": a["update_s"],
    }


def check_prediction(row, a, n, kind, batch, latency_us, gbits):
    images = batch * n if kind == "weak" else batch
    parts = predict(a, n, images, latency_us, gbits)
    step_s, alone_s = sum(parts.values()), sum(predict(a, 1, batch, latency_us, gbits).values())
    expected = dict(parts, step_s=step_s, images_per_s=images / step_s,
                    efficiency=alone_s / step_s / (n if kind == "strong" else 1),
                    gradient_sum_percent=100 * parts["gradient_sum_s"] / step_s)
    for key, value in expected.items():
        assert math.isclose(row[key], value, rel_tol=0.01, abs_tol=1e-12), (n, kind, key, row[key], value)


def check_scaling(out, ranks, latency_us=None, gbits=None):
    a, batch = out["assumptions"], out["batch"]
    assert (out["bench"], out["ranks"], a["batch_per_node"]) == ("scaling", ranks, batch), out
    assert "vector-halving" in a["algorithm"] and a["gathers"] > 0 and a["reductions"] > 0, a
    missing = "measured" if ranks > 1 else "default"
    assert a["source"] == {"latency_us": "given" if latency_us else missing,
                           "bandwidth_gbits": "given" if gbits else missing}, a
    here = a.get("between_ranks", {"latency_us": 0, "bandwidth_gbits": math.inf})
    assert ("between_ranks" in a) == (ranks > 1) and here["bandwidth_gbits"] > 0, a
    fallback = here if ranks > 1 else {"latency_us": 2, "bandwidth_gbits": 100}
    assert a["latency_us"] == (latency_us or fallback["latency_us"]), a
    assert a["bandwidth_gbits"] == (gbits or fallback["bandwidth_gbits"]), a

    kinds = [(kind, 2**k) for k in range(ranks.bit_length()) for kind in ("weak", "strong")]
    assert [(m["scaling"], m["ranks"]) for m in out["measured"]] == kinds, out["measured"]
    for m in out["measured"]:
        assert m["batch"] == (batch * m["ranks"] if m["scaling"] == "weak" else batch), m
        assert math.isclose(m["images_per_s"] * m["step_s"], m["batch"]) and m["efficiency"] > 0, m
        check_prediction(m["predicted"], a, m["ranks"], m["scaling"], batch, here["latency_us"], here["bandwidth_gbits"])
    one = out["measured"][0]
    assert all(math.isclose(one[key], a[key]) for key in ("encoder_s", "loss_s", "update_s")), (one, a)
    assert one["efficiency"] == 1 and one["gather_s"] == 0, one

    rows = [(p["scaling"], p["nodes"]) for p in out["predicted"]]
    assert rows == [("weak", 2**k) for k in range(11)] + \
        [("strong", 2**k) for k in range(11) if 2**k <= out["global_batch"]], rows
    for p in out["predicted"]:
        weak = p["scaling"] == "weak"
        assert p["batch"] == (batch * p["nodes"] if weak else out["global_batch"]), p
        check_prediction(p, a, p["nodes"], p["scaling"], batch if weak else out["global_batch"],
                         a["latency_us"], a["bandwidth_gbits"])


scratch = tempfile.mkdtemp()
os.chdir(scratch)
os.mkdir("work")
quick = ("--batch", "8", "--steps", "3", "--dir", "work")
check(bench(*quick), ranks=1, threads=1, steps=3, batch=8, size=32, data="generated", encoded=False)
check(bench(*quick, "--threads", "2", "--size", "40", ranks=2), ranks=2, threads=2, size=40)
plain = bench(*quick, "--augment", "none", "--json")
check(plain, augment="none")
assert "jitter" in bench(*quick, "--augment", "simclr")["augment"]

subprocess.run(["/usr/bin/python3", f"{SOURCE}/tests/lib/pictures.py", "photos", "photos"], check=True)
subprocess.run([SIMILE, "prepare", "photos/train", "--out", "photos.h5"], check=True, capture_output=True)
check(bench(*quick, "--data", "photos.h5"), data="photos.h5", encoded=True, size=224)
check(bench(*quick, "--data", "photos.h5", "--batch", "100"), batch=100)  # more than its images

step = bench("--batch", "8", "--width", "0.125", "--steps", "3", "--threads", "1", what="step")
assert step["images_per_s"] >= step["images_per_s_median"] > 0 <= step["images_per_s_spread"] < step["images_per_s"], step
for out in (plain, step):
    machine = out["environment"]
    assert machine["multiply_add_gflops"] > 0 and machine["kernels"] == out["kernels"] and machine["blas"], machine
    assert machine["processor"] and machine["cores_present"] == os.cpu_count(), machine
check_step(step, batch=8, block=8, micro_batch=0)
tiny = ("--width", "0.125", "--steps", "1", "--threads", "1")
check_step(bench("--batch", "64", "--micro-batch", "32", *tiny, what="step"), batch=64, block=32, micro_batch=32)
check_step(bench("--batch", "32", *tiny, ranks=2, what="step"), ranks=2, block=16)  # a block for each rank
kernel = bench("--threads", "1", what="kernel")
assert kernel["bench"] == "kernel" and kernel["exp_per_s_per_thread"] > 0, kernel
assert all(c[p] > 0 for c in kernel["convolutions"] for p in ("forward", "backward_data", "backward_weights")), kernel
loss = bench("--batch", "100", "--dim", "24", "--steps", "3", ranks=2, what="loss")
assert (loss["bench"], loss["batch"], loss["dim"], loss["ranks"]) == ("loss", 100, 24, 2), loss
assert 0 < loss["loss_s"] <= loss["loss_s_median"] <= loss["loss_s_max"] and loss["products_s"] > 0, loss



def left_by_killed_bench(*options):
    """Kills a bench checkpoint when its run directory has a checkpoint; returns the path of the directory."""
    job = subprocess.Popen([SIMILE, "bench", "checkpoint", "--width", "0.125", "--dir", "work", *options],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 200
    while not glob.glob("work/simile-bench*/checkpoints/step-*.h5"):
        assert job.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    job.kill()
    job.wait()
    return glob.glob("work/simile-bench*")[0]


# what killed benches left is removed by the next one; what a running one has is not
left = left_by_killed_bench("--steps", "10000")
assert bench("--width", "0.125", "--steps", "1", "--dir", "work", what="checkpoint")["save_s"] > 0
for name in (left, f"work/simile-bench.tmp.elsewhere.{os.getpid()}"):
    open(name, "w").close()
os.utime(name, (0, 0))
bench(*quick)
kept = {"simile-bench.tmp.x", "simile-bench-2.tmp.elsewhere.7", "other.tmp.elsewhere.7"}
for name in kept:
    open(f"work/{name}", "w").close()
    os.utime(f"work/{name}", (0, 0))
os.mkdir("precious")
open("precious/a", "w").close()
os.symlink("../precious", left)
kept.add(os.path.basename(left))
r = subprocess.run([SIMILE, "bench", "loader", *quick], capture_output=True, text=True)
assert r.returncode == 0 and set(os.listdir("work")) == kept and os.listdir("precious") == ["a"], (r, os.listdir("work"))
for name in kept:
    os.remove(f"work/{name}")
running = re.sub(r"\d+$", str(os.getpid()), left)
os.mkdir(running)
r = subprocess.run([SIMILE, "bench", "loader", *quick], capture_output=True, text=True)
assert r.returncode == 0 and os.listdir("work") == [os.path.basename(running)], (r, os.listdir("work"))
os.rmdir(running)

small = ("--width", "0.25", "--size", "16", "--batch", "8", "--steps", "1")
check_scaling(bench(*small, what="scaling"), 1)
check_scaling(bench(*small, "--global-batch", "100", "--bandwidth-gbits", "12.5", "--latency-us", "3", what="scaling"),
              1, latency_us=3, gbits=12.5)
check_scaling(bench(*small, what="scaling", ranks=2), 2)
check_scaling(bench(*small, "--bandwidth-gbits", "1", what="scaling", ranks=2), 2, gbits=1)

refuse(78, "micro_batch: 20 is not a multiple of block 32", "--batch", "64", "--micro-batch", "20", what="step")
refuse(64, "\"0\" is not a number from 1", "--micro-batch", "0", what="step")
refuse(64, "--bandwidth-gbits", "--bandwidth-gbits", "0", what="scaling")
refuse(64, "--latency-us", "--latency-us", "2us", what="scaling")
refuse(78, "augment.preset", "--augment", "simclear")
refuse(66, "absent.h5", "--data", "absent.h5")
refuse(73, "absent/", "--dir", "absent")
os.chdir("/")
shutil.rmtree(scratch)
sys.exit(0)
