#!/usr/bin/python3
"""simile bench loader and loss: the keys of their output, on generated images and on photos, and no files that remain.

Times are not compared with anything: machines differ.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

SIMILE, SOURCE = os.environ["SIMILE"], os.environ["SIMILE_SOURCE"]
RATES = ("views_per_s", "views_per_s_median", "views_per_s_spread", "cpu_us_per_view")


def bench(*options, ranks=1, what="loader"):
    front = ["mpirun", "-np", str(ranks)] if ranks > 1 else []
    r = subprocess.run([*front, SIMILE, "bench", what, *options], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    assert os.listdir("work") == [], "a temporary file remains"
    return json.loads(r.stdout)


def check(out, **expected):
    assert out["bench"] == "loader" and all(isinstance(out[key], float) for key in RATES), out
    assert out["views_per_s"] >= out["views_per_s_median"] > 0 and out["cpu_us_per_view"] > 0, out
    assert 0 <= out["views_per_s_spread"] < out["views_per_s"], out
    assert out["kernels"] in ("portable", "v3", "v4"), out
    for key, value in expected.items():
        assert out[key] == value, (key, out[key], value)


def refuse(code, text, *options):
    r = subprocess.run([SIMILE, "bench", "loader", *options], capture_output=True, text=True)
    assert r.returncode == code and text in r.stderr and r.stdout == "", r


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

loss = bench("--batch", "100", "--dim", "24", "--steps", "3", ranks=2, what="loss")
assert (loss["bench"], loss["batch"], loss["dim"], loss["ranks"]) == ("loss", 100, 24, 2), loss
assert 0 < loss["loss_s"] <= loss["loss_s_median"] <= loss["loss_s_max"] and loss["products_s"] > 0, loss

refuse(78, "augment.preset", "--augment", "simclear")
refuse(66, "absent.h5", "--data", "absent.h5")
refuse(73, "absent/", "--dir", "absent")
os.chdir("/")
shutil.rmtree(scratch)
sys.exit(0)
