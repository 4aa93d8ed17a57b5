"""Exports and embeddings of a run, for the tests of the export formats."""
import importlib.util
import os

import h5py
from program import simile


def script(directory):
    """The module load_encoder.py of a directory."""
    spec = importlib.util.spec_from_file_location("load_encoder", os.path.join(directory, "load_encoder.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def embedded(run, data):
    simile("embed", run, "--data", data, "--out", "e.h5", "--force")
    with h5py.File("e.h5") as f:
        return {n: f[n][()] for n in ("features", "projections") if n in f}
