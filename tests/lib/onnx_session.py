"""The part of onnxruntime that load_encoder.py uses, computed by PyTorch: an evaluator of ONNX graphs that
knows nothing of simile. `install` makes it importable as onnxruntime."""
import sys
import types

import numpy as np
import onnx
import onnx.checker
import onnx.numpy_helper
import torch
import torch.nn.functional as F


def conv(x, w, b=None, *, kernel_shape, strides, pads):
    assert list(w.shape[2:]) == kernel_shape and pads[:2] == pads[2:]
    return F.conv2d(x, w, b, strides, pads[:2])


def slice_(x, starts, ends, axes):
    for start, end, axis in zip(starts.tolist(), ends.tolist(), axes.tolist()):
        assert 0 <= start < end <= x.shape[axis]  # the operator would clip
        x = x.narrow(axis, start, end - start)
    return x


def max_pool(x, *, kernel_shape, strides, pads):
    assert pads[:2] == pads[2:]
    return F.max_pool2d(x, kernel_shape, strides, pads[:2])


OPERATORS = {
    "Conv": conv,
    "Gemm": lambda x, w, b=None, *, transB: F.linear(x, w if transB else w.T, b),
    "BatchNormalization": lambda x, w, b, mean, var, *, epsilon: F.batch_norm(x, mean, var, w, b, eps=epsilon),
    "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Mul": torch.mul, "Add": torch.add, "Identity": lambda x: x,
    "MaxPool": max_pool,
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
    "Flatten": lambda x, *, axis: x.flatten(axis) if axis == 1 else None,
    "Slice": slice_,
    "Concat": lambda *x, axis: torch.cat(x, axis),
    "Reshape": lambda x, shape: x.reshape(shape.tolist()),
    "ReduceMean": lambda x, *, axes, keepdims: x.mean(axes, keepdim=bool(keepdims)),
}


def exact(array):
    """Floats become doubles, so that the evaluator adds no error of its own."""
    x = torch.from_numpy(array.copy())
    return x.double() if x.dtype == torch.float32 else x


class InferenceSession:
    def __init__(self, path, providers=None):
        self.model = onnx.load(path)
        onnx.checker.check_model(self.model, full_check=True)
        self.graph = self.model.graph

    def get_modelmeta(self):
        return types.SimpleNamespace(custom_metadata_map={p.key: p.value for p in self.model.metadata_props})

    def get_outputs(self):
        return self.graph.output

    def dims(self, value):
        return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]

    def run(self, names, feeds):
        values = {t.name: exact(onnx.numpy_helper.to_array(t)) for t in self.graph.initializer}
        for i in self.graph.input:
            x = feeds[i.name]
            assert x.dtype == np.float32 and all(isinstance(d, str) or d == n for d, n in zip(self.dims(i), x.shape))
            values[i.name] = exact(x)
        for node in self.graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            (output,) = node.output
            assert output not in values, f"{output} is computed twice"
            with torch.no_grad():
                values[output] = OPERATORS[node.op_type](*(values[i] for i in node.input), **attributes)
        for o in self.graph.output:
            assert all(isinstance(d, str) or d == n for d, n in zip(self.dims(o), values[o.name].shape))
        return [values[n].float().numpy() for n in names]


def install():
    sys.modules["onnxruntime"] = types.SimpleNamespace(InferenceSession=InferenceSession)
