"""From the answers for the validation photos: how sure is sure?

    calibration.py WORK

Prints the temperature, the reliability table, and what each threshold decides.
"""

import pathlib
import sys

import numpy as np

THRESHOLDS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
EDGES = (0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)


def together(logits: np.ndarray) -> np.ndarray:
    """One answer from four turns: the log-softmax of each, rolled back, and their mean. The right one is the first."""
    logits = logits - logits.max(-1, keepdims=True)
    each = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return np.mean([np.roll(each[:, turn], -turn, axis=1) for turn in range(4)], axis=0)


def sureness(means: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The confidence of each answer, and whether it is right."""
    scaled = means / temperature
    shares = np.exp(scaled - scaled.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return shares.max(1), shares.argmax(1) == 0


def temperature(means: np.ndarray) -> float:
    """The temperature with the smallest loss."""
    def loss(value: float) -> float:
        scaled = means / value
        return -np.mean(scaled[:, 0] - np.log(np.exp(scaled - scaled.max(1, keepdims=True)).sum(1)) - scaled.max(1))

    return min(np.arange(0.3, 4, 0.01), key=loss)


def summary(logits: np.ndarray) -> str:
    means = together(logits)
    sure, right = sureness(means, temperature(means))
    wrong = np.cumsum(~right[np.argsort(-sure)])
    most = lambda share: 100 * np.mean(wrong <= share * len(sure))
    single = (logits.argmax(-1) == np.arange(4)).mean()
    return (
        f"validation: one turn {100 * single:.1f} %, four {100 * right.mean():.1f} %; decided with at most "
        f"0 / 0.2 / 0.5 / 1 / 2 % wrong: " + " / ".join(f"{most(share):.1f}" for share in (0, 0.002, 0.005, 0.01, 0.02))
    )


def main(work: pathlib.Path) -> None:
    means = together(np.load(work / "val-logits.npy"))
    best = temperature(means)
    sure, right = sureness(means, best)
    print(f"{len(means)} photos, temperature {best:.2f}\n")
    print("| confidence | photos | said % | right % |\n|---|---|---|---|")
    for low, high in zip(EDGES, EDGES[1:]):
        inside = (sure > low) & (sure <= high)
        if inside.any():
            row = inside.sum(), 100 * sure[inside].mean(), 100 * right[inside].mean()
            print(f"| {low} to {high} | {row[0]} | {row[1]:.1f} | {row[2]:.1f} |")
    print("\n| threshold | right % | wrong % | undecided % |\n|---|---|---|---|")
    for threshold in THRESHOLDS:
        decided = sure >= threshold
        shares = [100 * part.mean() for part in (decided & right, decided & ~right, ~decided)]
        print(f"| {threshold} | " + " | ".join(f"{share:.1f}" for share in shares) + " |")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
