"""ONNX files with random weights, written byte by byte: no package is needed for a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _ints(name: str, values: Sequence[int]) -> bytes:
    return _bytes(1, name) + b"".join(_number(8, value) for value in values) + _number(20, 7)


def _node(kind: str, inputs: Sequence[str], output: str, **attributes: Sequence[int]) -> bytes:
    parts = [_bytes(1, name) for name in inputs] + [_bytes(2, output), _bytes(3, output), _bytes(4, kind)]
    return b"".join([*parts, *(_bytes(5, _ints(name, values)) for name, values in attributes.items())])


def _value(name: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, dims)))


def write_convolution(
    path: Path,
    shape: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    channels: int,
    seed: int = 0,
) -> Path:
    """Input [1, C, ...] -> convolution with random weights -> ReLU -> flat."""
    weights = np.random.default_rng(seed).normal(0, 0.1, (channels, shape[1], *kernel)).astype(np.float32)
    tensor = b"".join(_number(1, size) for size in weights.shape) + _number(2, 1) + _bytes(8, "w")
    tensor += _bytes(9, weights.tobytes())
    sizes = [(n - k) // s + 1 for n, k, s in zip(shape[2:], kernel, strides, strict=True)]
    graph = b"".join(
        [
            _bytes(1, _node("Conv", ["x", "w"], "c", kernel_shape=kernel, strides=strides)),
            _bytes(1, _node("Relu", ["c"], "r")),
            _bytes(1, _node("Flatten", ["r"], "y")),
            _bytes(2, "net"),
            _bytes(5, tensor),
            _bytes(11, _value("x", shape)),
            _bytes(12, _value("y", (1, channels * int(np.prod(sizes))))),
        ]
    )
    path.write_bytes(_number(1, 7) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _number(2, 11)))
    return path
