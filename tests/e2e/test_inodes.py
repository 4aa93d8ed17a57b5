#!/usr/bin/python3
"""On a file system without free inodes every command ends with 74, and the message has the path and the
cause, which `No space left on device` alone does not name.

simile-test: timeout 300
"""
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from program import noise, simile  # noqa: E402

os.chdir(tempfile.mkdtemp())
noise(n=48, side=8)
pathlib.Path("job.yaml").write_text("""run: run
data: {train: train.h5}
method: {name: simclr}
encoder: {width: 0.0625}
batch: 16
block: 8
schedule: {steps: 2}
augment: {preset: digits}
""")
simile("pretrain", "job.yaml")
os.mkdir("disk")
if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=50m,nr_inodes=12", "none", "disk"],
                                      capture_output=True).returncode:
    print("skipped: mounting is not allowed")
    sys.exit()


def leave_free(n):
    """Fills the file system up to n inodes."""
    subprocess.run("rm -rf disk/*", shell=True, check=True)
    while os.statvfs("disk").f_ffree > n:
        pathlib.Path(f"disk/{os.statvfs('disk').f_ffree}").touch()


try:
    for words in (["prepare", "raw.h5", "--out", "disk/a.h5"], ["plan", "job.yaml", "--preview", "disk/a.png"],
                  ["plan", "job.yaml", "--sbatch", "disk/a.sbatch"], ["embed", "run", "--data", "train.h5", "--out", "disk/e.h5"],
                  ["embed", "run", "--data", "train.h5", "--out", "disk/e.npy"], ["export", "run", "--out", "disk/encoder"]):
        leave_free(0)
        error = simile(*words, code=74).stderr.splitlines()[-1]
        assert "disk/" in error and "inodes" in error and "df -i" in error, error
    for n in range(9):  # pretrain fails in another place each time
        leave_free(n)
        error = simile("pretrain", "job.yaml", "run=disk/run", code=74).stderr.splitlines()[-1]
        assert "disk/run" in error and "inodes" in error, (n, error)
        assert not os.path.exists("disk/run/run.lock")
finally:
    subprocess.run(["umount", "-l", "disk"], check=True)
print("ok")
