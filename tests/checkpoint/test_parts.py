"""Part files: h5py reads them, any number of ranks writes the same files, `simile inspect` counts
them, and `simile bench checkpoint` removes its files.

simile-test: timeout 300 processors 2
"""
import glob
import json
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import MPIEXEC  # noqa: E402

ROWS = 730
tool = os.environ["SIMILE_TOOLS"] + "/checkpoint_tool_parts"
simile = os.environ["SIMILE"]


def mpirun(ranks, *command):
    done = subprocess.run([*MPIEXEC, "-np", str(ranks), *command],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(run):
    return {os.path.basename(p): open(p, "rb").read() for p in sorted(glob.glob(run + "/checkpoints/*"))}


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    for ranks in (1, 3):
        mpirun(ranks, tool, f"run{ranks}", str(ROWS))
    assert contents("run1") == contents("run3"), "the files depend on the number of ranks"
    main = "run3/checkpoints/step-000000012.h5"
    parts = sorted(glob.glob(main[:-3] + ".part-*.h5"))
    assert len(parts) == 8, parts
    rows = np.concatenate([h5py.File(p)["queue/rows"][()] for p in parts])
    want = np.arange(ROWS)[:, None] + np.arange(4)[None, :] / 8
    assert rows.dtype == np.float32 and np.array_equal(rows, want)
    with h5py.File(main) as f:
        assert "rows" not in f.get("queue", {})
        table = json.loads(f["parts"][()].tobytes())["tensors"]
    assert [t["tensor"] for t in table] == ["queue/rows"] and table[0]["dims"] == [ROWS, 4]
    assert [f["name"] for f in table[0]["files"]] == [os.path.basename(p) for p in parts]
    firsts = [int(h5py.File(p).attrs["first_row"]) for p in parts]
    assert firsts == list(range(0, ROWS, 100)) and table[0]["rows_per_part"] == 100
    described = json.loads(subprocess.check_output([simile, "inspect", "run3", "--json"]))
    assert [(t["name"], t["dims"], t["parts"]) for t in described["tensors"]] == [("queue/rows", [ROWS, 4], 8)]
    os.remove(parts[3])
    missing = subprocess.run([simile, "inspect", main], capture_output=True, text=True)
    assert missing.returncode == 65 and "part-0003" in missing.stderr, missing.stderr

    out = json.loads(mpirun(2, simile, "bench", "checkpoint", "--json", "--width", "0.0625", "--queue", "600",
                            "--dim", "16", "--momentum-copy", "--steps", "2"))
    for key in ("save_s", "save_s_median", "save_mb_per_s", "load_s", "load_mb_per_s", "stall_percent", "mb",
                "save_extra_mb_rank0", "save_extra_mb_most", "load_extra_mb_rank0"):
        assert key in out, key
    # weights, momentum and momentum encoder (51,624 floats each without the heads), and the queue
    assert out["ranks"] == 2 and out["mb"] > 3 * 4 * 40000 / 1e6 + 600 * 16 * 4 / 1e6
    assert not glob.glob("simile-bench*"), "the bench left its run directory"
    busy = subprocess.run([simile, "bench", "checkpoint", "--dir", "/proc/nowhere"], capture_output=True, text=True)
    assert busy.returncode == 73, busy
print("ok")
sys.exit(0)
