#!/usr/bin/python3
"""A conversion has the same bytes for any number of threads and ranks and after any kill.  A full
disk, a second process and a changed source are reported, and no file is half-written.

simile-test: timeout 600
"""
import fcntl
import hashlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

import h5py
import numpy as np
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
from launcher import MPIEXEC  # noqa: E402

SIMILE = os.environ["SIMILE"]
KILLS = 8
draw = random.Random(11)


def command(*words, out="out.h5", ranks=0):
    front = [*MPIEXEC, "-np", str(ranks)] if ranks else []
    return [*front, SIMILE, "prepare", *words, "--force", "--out", out]


def prepare(*words, out="out.h5", code=0, match=(), ranks=0, limit=None):
    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(command(*words, "--json", out=out, ranks=ranks), capture_output=True, text=True,
                          preexec_fn=small_files if limit else None)
    assert done.returncode == code, f"{words}: exit {done.returncode}, expected {code}\n{done.stderr}"
    for pattern in [match] if isinstance(match, str) else match:
        assert re.search(pattern, done.stderr, re.M), f"{words}: no line matches {pattern!r}:\n{done.stderr}"
    if code == 0:
        assert temporary_files(out) == [], temporary_files(out)
        return json.loads(done.stdout), done.stderr
    return None, done.stderr


def temporary_files(out):
    return sorted(n for n in os.listdir(".") if n.startswith(out + "."))


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


LIST = [(f"{'abc'[i % 3]}/{i // 3:04d}.jpg", "abc"[i % 3], f"g{i * 7 % 311}") for i in range(1800)]


def make_photos():
    """1,800 photos of noise, three of them invalid."""
    r = np.random.RandomState(3)
    n = 0
    with tarfile.open("photos.tar", "w") as t:
        for c in ("a", "b", "c"):
            os.makedirs(f"photos/{c}")
            for i in range(600):
                path = f"photos/{c}/{i:04d}.jpg"
                Image.fromarray(r.randint(0, 256, (40, 40 + n % 7, 3)).astype("u1")).save(path)
                if i == 77:
                    with open(path, "wb") as f:
                        f.write(b"no photo")
                t.add(path)
                n += 1
    with h5py.File("foreign.h5", "w") as f:
        f.create_dataset("images", data=r.randint(0, 256, (3000, 40, 40, 3)).astype("u1"), chunks=(100, 40, 40, 3))
        f["labels"] = np.arange(3000) % 3
        f["plate"] = np.arange(3000) // 7 * 11
    with open("list.csv", "w") as f:
        f.write("path,label,group\n" + "".join(f"{path},{label},{group}\n" for path, label, group in LIST))


def check_groups():
    """Every image of the list has its group; bad ones leave no gap."""
    with h5py.File("out.h5") as f:
        groups = [f["groups"][g].decode() for g in f["group"]]
        names = [n.decode() for n in f["name"]]
    want = {path: group for path, _, group in LIST}
    assert len(names) == 1797 and groups == [want[n] for n in names]


def check_workers():
    for name, words in SOURCES.items():
        want = None
        for threads in ("1", "2", "4"):
            result, _ = prepare(*words, "--threads", threads)
            want = want or digest("out.h5")
            assert digest("out.h5") == want, f"{name}: the bytes differ with {threads} threads"
        WANT[name] = want, result
        if name == "list":
            check_groups()
    for name, ranks in (("square", 2), ("square", 3), ("tar", 2), ("limit", 3), ("hdf5", 2), ("encoded", 2), ("list", 3)):
        result, _ = prepare(*SOURCES[name], ranks=ranks)
        assert digest("out.h5") == WANT[name][0], f"{name}: the bytes differ on {ranks} ranks"
        assert result == WANT[name][1], result
    os.remove("out.h5")


def size_of(path):
    try:
        return os.path.getsize(path)
    except FileNotFoundError:  # not written yet, or removed at the end
        return 0


def kill_soon(words, ranks=0):
    """Starts a conversion and kills all its processes soon after a commit."""
    p = subprocess.Popen(command(*words, ranks=ranks), stderr=subprocess.DEVNULL, start_new_session=True)
    until = draw.choice([0, 20000, 40000, 70000]), draw.random() * 0.05
    while p.poll() is None:
        if size_of("out.h5.journal") > until[0]:
            time.sleep(until[1])
            break
        time.sleep(0.002)
    try:
        os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    p.wait()


def check_kills():
    n_resumed = k = 0
    while k < KILLS or n_resumed == 0:  # until at least one kill has interrupted a conversion
        name = list(SOURCES)[k % len(SOURCES)]
        for _ in range(3):
            kill_soon(SOURCES[name])
            assert not os.path.exists("out.h5") or digest("out.h5") == WANT[name][0], f"{name}: half-written"
        result, text = prepare(*SOURCES[name], "--threads", str(1 + k % 3))
        n_resumed += bool(re.search(RESUMED, text, re.M))
        assert digest("out.h5") == WANT[name][0], f"{name}, kill {k}: the bytes differ"
        assert result == WANT[name][1], (result, WANT[name][1])
        os.remove("out.h5")
        k += 1


def cut_short(words=()):
    """Interrupts a conversion by a limit on the size of files."""
    _, text = prepare(*SOURCES["square"], *words, code=74, limit=3000000, match=r"File too large.*\b[1-9][0-9]* images")
    assert temporary_files("out.h5") == ["out.h5.journal", "out.h5.part"] and not os.path.exists("out.h5")
    return text


def check_full():
    cut_short()
    prepare(*SOURCES["square"], match=RESUMED)
    assert digest("out.h5") == WANT["square"][0]
    # an old file stays whole while a new one does not fit
    old = digest("out.h5")
    prepare(*SOURCES["encoded"], code=74, limit=1000000, match=r"out\.h5\.part\b")
    assert digest("out.h5") == old
    os.remove("out.h5")
    # the limit suffices for the images, but not for the HDF5 metadata
    size = 4096 + 1797 * 32 * 32 * 3
    prepare(*SOURCES["square"], code=74, limit=size + 100, match="ulimit -f")
    prepare(*SOURCES["square"], match=r"^resuming .*\b1800 of 1800 images")
    assert digest("out.h5") == WANT["square"][0]
    os.remove("out.h5")
    os.mkdir("closed")
    prepare(*SOURCES["square"], out="closed/no/out.h5", code=73, match="closed/no")


def flip_bit(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))


def check_corruption():
    """After a power failure, either temporary file may be truncated or corrupted."""
    def part(n):
        os.truncate("out.h5.part", n)

    def journal(n):
        os.truncate("out.h5.journal", n)

    for what in (lambda: flip_bit("out.h5.part", 1500000), lambda: flip_bit("out.h5.part", 5000), lambda: part(2000000), lambda: part(0),
                 lambda: flip_bit("out.h5.journal", 12000), lambda: journal(9000), lambda: journal(20), lambda: os.remove("out.h5.part"),
                 lambda: os.remove("out.h5.journal"), lambda: open("out.h5.part", "ab").write(b"x" * 4000000)):
        cut_short()
        what()
        result, _ = prepare(*SOURCES["square"])
        assert digest("out.h5") == WANT["square"][0] and result == WANT["square"][1], result
        os.remove("out.h5")
    # another conversion to the same place; a source that changed
    cut_short()
    prepare(*SOURCES["encoded"], match=RESTARTED)
    assert digest("out.h5") == WANT["encoded"][0]
    os.remove("out.h5")
    cut_short()
    os.rename("photos/b/0001.jpg", "photos/b/0001x.jpg")
    prepare(*SOURCES["square"], match=RESTARTED)
    os.rename("photos/b/0001x.jpg", "photos/b/0001.jpg")
    os.remove("out.h5")
    cut_short()
    now = os.stat("photos/a/0000.jpg")
    os.utime("photos/a/0000.jpg", ns=(now.st_atime_ns, now.st_mtime_ns + 1))  # as if it had been written again
    prepare(*SOURCES["square"], match=RESTARTED)
    os.remove("out.h5")
    # a bad photo under --on-bad fail leaves nothing
    prepare(*SOURCES["square"], "--on-bad", "fail", code=65, match=r"photos/a/0077\.jpg\b")
    assert temporary_files("out.h5") == []
    prepare(*SOURCES["square"], "--on-bad", "fail", code=65, ranks=2, match=r"\b0077\.jpg\b")
    assert temporary_files("out.h5") == [], temporary_files("out.h5")
    prepare("absent", code=66, ranks=2, match=r"^simile: .*\babsent\b")


def check_hold():
    with open("out.h5.journal", "wb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        prepare(*SOURCES["square"], code=73, match=r"^simile: out\.h5\.journal\b")
    assert temporary_files("out.h5") == ["out.h5.journal"]
    os.remove("out.h5.journal")


def wait_for_ranks():
    """Ranks that mpirun started end by themselves after it was killed; the journal is locked until then."""
    while True:
        try:
            with open("out.h5.journal", "rb") as f:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
        except FileNotFoundError:
            return
        except BlockingIOError:
            time.sleep(0.02)


def check_killed_ranks():
    for _ in range(2):
        kill_soon(SOURCES["square"], ranks=2)
        wait_for_ranks()
    prepare(*SOURCES["square"], ranks=2)
    assert digest("out.h5") == WANT["square"][0]


def check_old_parts():
    """A conversion removes the parts that killed ones on other numbers of ranks left, and no file of the user."""
    for part in ("out.h5.rank-0-of-3", "out.h5.rank-2-of-3", "out.h5.rank-1-of-12"):
        prepare(*SOURCES["square"], out=part, code=74, limit=3000000)
        assert temporary_files(part), part
    with open("out.h5.rank-0-of-4.journal", "w") as f:
        f.write("of the user")
    with open("out.h5.rank-1-of-12.journal", "rb") as in_use:
        fcntl.flock(in_use, fcntl.LOCK_EX)
        subprocess.run(command(*SOURCES["square"]), check=True, capture_output=True)
    kept = ["out.h5.rank-0-of-4.journal", "out.h5.rank-1-of-12.journal", "out.h5.rank-1-of-12.part"]
    assert temporary_files("out.h5") == kept, temporary_files("out.h5")
    os.remove("out.h5.rank-0-of-4.journal")
    prepare(*SOURCES["square"], ranks=2)  # leaves no temporary file
    assert digest("out.h5") == WANT["square"][0]


SOURCES = {"square": ["photos", "--size", "32"], "encoded": ["photos", "--size", "24", "--crop", "none"], "tar": ["photos.tar", "--size", "32"],
           "hdf5": ["foreign.h5", "--groups-key", "plate"], "list": ["photos", "--list", "list.csv", "--size", "32"], "limit": ["photos.tar", "--limit", "700"], "whole": ["photos"]}
WANT = {}
RESUMED = r"^resuming .*\b[1-9][0-9]* of [0-9]+ images"  # an interrupted conversion
RESTARTED = r"^out\.h5\.part .*\bconversion\b"  # the temporary file of another conversion is discarded
with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
    make_photos()
    check_workers()
    assert WANT["square"][1]["images"] == 1797 and WANT["square"][1]["bad"] == 3
    check_kills()
    check_full()
    check_corruption()
    check_hold()
    check_killed_ranks()
    check_old_parts()
print("ok")
sys.exit(0)
