#!/usr/bin/python3
"""The tables of keys in jobs/README.md are those of `simile plan --keys`, as jobs/keys writes them."""
import os
import shutil
import subprocess
import tempfile

source = os.path.join(os.environ["SIMILE_SOURCE"], "jobs")
with tempfile.TemporaryDirectory() as scratch:
    jobs = os.path.join(scratch, "jobs")
    os.mkdir(jobs)
    for name in ("README.md", "keys"):
        shutil.copy(os.path.join(source, name), jobs)
    subprocess.run(["/usr/bin/python3", os.path.join(jobs, "keys"), os.environ["SIMILE"]], check=True)
    with open(os.path.join(source, "README.md")) as want, open(os.path.join(jobs, "README.md")) as found:
        assert want.read() == found.read(), "run jobs/keys"
keys = subprocess.run([os.environ["SIMILE"], "plan", "--keys"], check=True, capture_output=True, text=True).stdout
with open(os.path.join(source, "README.md")) as f:
    text = f.read()
lines = [line.split() for line in keys.splitlines() if line.startswith("  ")]
for words in lines:  # every key and every default of a method has a row
    assert f"`{words[0]}`" in text or words[0] == "op:", words
assert text.count("default with this method") == keys.count(" defaults to ["), "defaults of methods are missing"
print("ok")
