"""Checkpoints that h5py edited: versions, shapes and tables of part files that are refused.

A file is edited without its trailer and sealed again, so that its digest is valid.
"""
import json
import os
import shutil
import subprocess
import tempfile

import h5py
import numpy as np

TRAILER_BYTES = 64
MAIN, PART = "step-000000012.h5", "step-000000012.part-0000.h5"
tools, simile = os.environ["SIMILE_TOOLS"], os.environ["SIMILE"]
data, install = 65, 69


def edit(path, change):
    """Applies `change` to the open file and returns the digest of the result."""
    with open(path, "r+b") as f:
        f.truncate(os.path.getsize(path) - TRAILER_BYTES)
    with h5py.File(path, "r+") as f:
        change(f)
    return subprocess.check_output([tools + "/checkpoint_tool_seal", path], text=True).strip()


def edit_part(change):
    """Edits a part file, and its digest in the main file."""
    digest = edit(PART, change)

    def enter(f):
        table = json.loads(f["parts"][()].tobytes())
        table["tensors"][0]["files"][0]["digest"] = digest
        replace_text(f, "parts", json.dumps(table))
    edit(MAIN, enter)


def edit_table(change):
    def apply(f):
        table = json.loads(f["parts"][()].tobytes())
        change(table["tensors"][0])
        replace_text(f, "parts", json.dumps(table))
    edit(MAIN, apply)


def replace_text(f, name, text):
    del f[name]
    f[name] = np.frombuffer(text.encode(), "u1")


def inspect(path, *words):
    return subprocess.run([simile, "inspect", path, *words], capture_output=True, text=True)


def refused(what, code, change, *words, path=MAIN):
    """After `change`, a copy of the run is refused with this code and these words."""
    fresh()
    change()
    done = inspect(path)
    assert done.returncode == code, f"{what}: exit {done.returncode}, expected {code}\n{done.stderr}"
    for word in words:
        assert word in done.stderr, f"{what}: {word} is not in\n{done.stderr}"


def accepted(what, change):
    fresh()
    before = inspect(MAIN, "--json").stdout
    change()
    done = inspect(MAIN, "--json")
    assert done.returncode == 0 and done.stdout == before, f"{what}: {done.stderr}"


def fresh():
    os.chdir(top)
    shutil.rmtree("run", ignore_errors=True)
    shutil.copytree("good", "run")
    os.chdir("run/checkpoints")


def set_version(value):
    def change(f):
        f.attrs["format_version"] = np.int64(value)
    return change


def no_version(f):
    del f.attrs["format_version"]


def cut_rows(f):
    rows = f["queue/rows"][()]
    del f["queue/rows"]
    f["queue/rows"] = rows[:, :3]


def other_format(f):
    f.attrs["format"] = np.bytes_("simile-weights")


def set_entry(key, value):
    return lambda: edit_table(lambda entry: entry.update({key: value}))


with tempfile.TemporaryDirectory() as top:
    os.chdir(top)
    subprocess.run([tools + "/checkpoint_tool_parts", "good", "730"], check=True)
    accepted("a main file without format_version", lambda: edit(MAIN, no_version))
    accepted("a part file without format_version", lambda: edit_part(no_version))
    refused("a newer main file", install, lambda: edit(MAIN, set_version(2)), MAIN, "format_version 2", "up to 1")
    refused("a newer part file", install, lambda: edit_part(set_version(7)), PART, "format_version 7", "up to 1")
    refused("version 0", data, lambda: edit(MAIN, set_version(0)), MAIN, "format_version")
    refused("another format", data, lambda: edit(MAIN, other_format), MAIN, "simile-weights")
    refused("a part file of another format", data, lambda: edit_part(other_format), PART, "simile-weights")
    # A newer file is never skipped for an older one.
    refused("the newest of a run", install,
            lambda: (shutil.copy(MAIN, "step-000000011.h5"), edit(MAIN, set_version(2))), MAIN, path="../../run")

    refused("a part file of another shape", data, lambda: edit_part(cut_rows), PART, "queue/rows", "100 x 3",
            "100 x 4")
    for key, value in (("dims", []), ("dims", [0, 4]), ("dims", [730, -4]), ("dims", [2**40, 2**40]),
                       ("dims", [1] * 6), ("dims", "all"), ("rows_per_part", 0), ("rows_per_part", -100),
                       ("rows_per_part", 90), ("files", []), ("files", {}), ("tensor", 3)):
        refused(f"{key} {value} in /parts", data, set_entry(key, value), MAIN)
    refused("parts of other rows", data, set_entry("rows_per_part", 99), PART, "100 x 4", "99 x 4")
    for key, value in (("name", "../good/" + PART), ("name", 4), ("digest", "0" * 32)):
        refused(f"{key} {value} in /parts", data,
                lambda: edit_table(lambda entry: entry["files"][5].update({key: value})), MAIN)
print("ok")
