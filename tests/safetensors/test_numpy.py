#!/usr/bin/python3
"""Files that NumPy writes are read, and files that the program writes are read by NumPy."""
import json
import os
import subprocess
import tempfile

import numpy as np

TOOL = os.path.join(os.environ["SIMILE_TOOLS"], "safetensors_tool_copy")
DTYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "U16": "<u2", "F16": "<f2", "I32": "<i4", "U32": "<u4",
          "F32": "<f4", "I64": "<i8", "U64": "<u8", "F64": "<f8"}
WRITTEN = {"U8", "U16", "I32", "F32", "I64", "U64", "F64"}


def write(path, arrays, metadata, sort):
    """`sort`: by element size, as safetensors does; otherwise as given, without padding."""
    order = sorted(arrays, key=lambda n: (-arrays[n][1].itemsize, n)) if sort else list(arrays)
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    for name in order:
        dtype, a = arrays[name]
        header[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header, ensure_ascii=sort).encode()
    text += b" " * (-len(text) % 8 if sort else 0)
    with open(path, "wb") as f:
        f.write(np.uint64(len(text)).tobytes() + text + b"".join(arrays[n][1].tobytes() for n in order))
    return order


def read(path):
    with open(path, "rb") as f:
        data = f.read()
    n = int(np.frombuffer(data, "<u8", 1)[0])
    header = json.loads(data[8:8 + n])
    metadata, out = header.pop("__metadata__", {}), {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        assert begin % np.dtype(DTYPES[t["dtype"]]).itemsize == 0 and n % 8 == 0, name
        out[name] = (t["dtype"], np.frombuffer(data[8 + n + begin:8 + n + end], DTYPES[t["dtype"]]).reshape(t["shape"]))
    return out, metadata


random = np.random.default_rng(3)
with tempfile.TemporaryDirectory() as directory:
    source, target = os.path.join(directory, "in.safetensors"), os.path.join(directory, "out.safetensors")
    for case in range(40):
        arrays = {}
        for i in range(random.integers(0, 13)):
            dtype = str(random.choice(list(DTYPES)))
            shape = tuple(int(d) for d in random.integers(0 if random.random() < 0.1 else 1, 4, random.integers(0, 6)))
            values = random.integers(0, 2 if dtype == "BOOL" else 100, shape)
            arrays[f"täg.{i}"] = (dtype, np.asarray(values, DTYPES[dtype]))
        metadata = {"key": "a\n\"text\" \u2713", "other": ""} if case % 2 else {}
        order = write(source, arrays, metadata, case % 3 == 0)
        done = subprocess.run([TOOL, source, target], capture_output=True, text=True)
        assert done.returncode == 0, f"case {case}: {done.stderr}"
        want = {f"{n} {arrays[n][0]} [{','.join(map(str, arrays[n][1].shape))}] {arrays[n][1].tobytes().hex()}" for n in order}
        assert set(done.stdout.splitlines()) == want, f"case {case}: {done.stdout}"
        got, texts = read(target)
        assert texts == ({"key": metadata["key"]} if metadata else {}), texts
        assert set(got) == {n for n in arrays if arrays[n][0] in WRITTEN}
        for name, (dtype, a) in got.items():
            assert dtype == arrays[name][0] and np.array_equal(a, arrays[name][1]), f"case {case}: {name}"
print("ok")
