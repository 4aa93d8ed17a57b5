#!/usr/bin/python3
"""The digest in `simile --version` is that of the sources: computed here, and different after a change."""
import glob
import hashlib
import os
import re
import shutil
import subprocess
import tempfile

SOURCE = os.environ["SIMILE_SOURCE"]
BUILD = os.path.dirname(os.environ["SIMILE"])


def files():
    names = [os.path.relpath(p, SOURCE) for top in ("src", "include", "data-prep")
             for p in glob.glob(f"{SOURCE}/{top}/**/*", recursive=True) if re.search(r"\.(c|h|def|proto|py)$", p)]
    names += [os.path.relpath(p, SOURCE) for p in glob.glob(f"{SOURCE}/cmake/*.cmake")]
    return sorted(names + ["CMakeLists.txt", "slurm/pretrain.sbatch"])


def digest(flags):
    text = ""
    for name in files():
        with open(os.path.join(SOURCE, name), "rb") as f:
            text += f"{hashlib.sha256(f.read()).hexdigest()}  {name}\n"
    return hashlib.sha256((text + flags + "\n").encode()).hexdigest()[:12]


def flags_of_build():
    with open(os.path.join(BUILD, "CMakeCache.txt")) as f:
        cache = dict(re.findall(r"^(\w+):\w+=(.*)$", f.read(), re.M))
    return f"{cache['CMAKE_BUILD_TYPE'] or 'Release'} {cache['CMAKE_C_FLAGS']}".rstrip()


def build_id(source, out):
    """The digest that the build computes for a tree."""
    subprocess.run(["cmake", f"-DSOURCE={source}", f"-DOUT={out}", "-DFLAGS=Release", "-P",
                    f"{SOURCE}/src/cli/build_id.cmake"], check=True)
    with open(out) as f:
        return re.search('SIM_SOURCES "(.*)"', f.read()).group(1)


version = subprocess.run([os.environ["SIMILE"], "--version"], check=True, capture_output=True, text=True).stdout
stated = re.search(r"^sources +(\w+)$", version, re.M).group(1)
assert stated == digest(flags_of_build()), (version, digest(flags_of_build()))

with tempfile.TemporaryDirectory() as scratch:
    tree, out = os.path.join(scratch, "tree"), os.path.join(scratch, "build_id.h")
    for name in files():
        os.makedirs(os.path.dirname(os.path.join(tree, name)), exist_ok=True)
        shutil.copy(os.path.join(SOURCE, name), os.path.join(tree, name))
    first, before = build_id(tree, out), os.stat(out).st_mtime_ns
    assert first == digest("Release"), first
    assert build_id(tree, out) == first and os.stat(out).st_mtime_ns == before, "written without a change"
    with open(os.path.join(tree, "src/core/tree.c"), "a") as f:
        f.write("/* changed */\n")
    changed = build_id(tree, out)
    os.remove(os.path.join(tree, "src/core/tree.c"))
    assert len({first, changed, build_id(tree, out)}) == 3
print("ok")
