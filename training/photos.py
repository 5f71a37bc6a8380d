"""Reads upright photos for training, and cuts and spoils them as the network must bear it."""

import csv
import hashlib
import io
import pathlib

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

# Side, in pixels, of the square that the network sees.
SIDE = 224
# The longest shape of what the network sees. Of a longer picture, it sees the middle.
SHAPE_MAX = 4 / 3
ENDINGS = {".jpg", ".jpeg", ".png", ".webp"}
# Photos under a licence that asks to share alike are left out: it might reach the network that learns from them.
SHARE_ALIKE = "-SA"
# Share of the photos that are held back for calibration, if there is no manifest.
VAL_SHARE = 0.15


def listed(directory: pathlib.Path) -> list[tuple[str, str]]:
    """Returns the name and the split ("train" or "val") of each photo.

    MANIFEST.tsv is used if it is there: its columns `file`, `split` and `licence`. Without it, the hash of a name
    decides, so that a photo stays on its side when others are added.
    """
    manifest = directory / "MANIFEST.tsv"
    if manifest.exists():
        with manifest.open(newline="") as lines:
            rows = csv.DictReader(lines, delimiter="\t")
            return sorted((row["file"], row["split"]) for row in rows if SHARE_ALIKE not in row.get("licence", ""))
    names = sorted(
        str(path.relative_to(directory)) for path in directory.rglob("*") if path.suffix.lower() in ENDINGS
    )
    return [(name, "val" if seed(name) % 1000 < 1000 * VAL_SHARE else "train") for name in names]


def seed(text: str) -> int:
    """A number that depends on the text only."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def opened(path: pathlib.Path) -> Image.Image:
    """Opens a photo, upright as EXIF says, and cuts it to at most 4:3."""
    image = Image.open(path)
    # A JPEG is decoded at a fraction of its size. Twice the side is enough for every cut below.
    image.draft("RGB", (2 * SIDE, 2 * SIDE))
    image = ImageOps.exif_transpose(image).convert("RGB")
    width, height = image.size
    return middle(image, min(width, height * SHAPE_MAX), min(height, width * SHAPE_MAX))


def middle(image: Image.Image, width: float, height: float) -> Image.Image:
    left, top = (image.width - width) / 2, (image.height - height) / 2
    return image.crop((round(left), round(top), round(left + width), round(top + height)))


def plain(image: Image.Image) -> np.ndarray:
    """The photo as photogate shows it to the network: squeezed to a square."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0))


def varied(image: Image.Image, random: np.random.Generator) -> np.ndarray:
    """A part of the photo, at times mirrored, tilted, blurred, dark, grey or badly compressed."""
    if random.random() < 0.3:
        image = tilted(image, random.uniform(-6, 6))
    image = part(image, random)
    if random.random() < 0.5:
        image = ImageOps.mirror(image)
    if random.random() < 0.3:
        image = ImageEnhance.Brightness(image).enhance(random.uniform(0.25, 1.3))
    if random.random() < 0.2:
        image = ImageEnhance.Contrast(image).enhance(random.uniform(0.5, 1.4))
    if random.random() < 0.1:
        image = ImageOps.grayscale(image).convert("RGB")
    if random.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 2.0)))
    if random.random() < 0.3:
        image = compressed(image, int(random.integers(25, 90)))
    return np.asarray(image)


def part(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A random part of 55 to 100 % of the area, in a shape between 3:4 and 4:3, squeezed to a square."""
    width, height = image.size
    shape = np.exp(random.uniform(np.log(1 / SHAPE_MAX), np.log(SHAPE_MAX)))
    scale = random.uniform(0.55, 1) ** 0.5
    across, down = scale * min(width, height * shape), scale * min(height, width / shape)
    left, top = random.uniform(0, width - across), random.uniform(0, height - down)
    box = (left, top, left + across, top + down)
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box)


def tilted(image: Image.Image, degrees: float) -> Image.Image:
    """A slightly tilted photo, without the corners that have no pixels."""
    sine = abs(np.sin(np.radians(degrees)))
    width, height = image.width - image.height * sine, image.height - image.width * sine
    return middle(image.rotate(degrees, Image.Resampling.BILINEAR), width, height)


def compressed(image: Image.Image, quality: int) -> Image.Image:
    memory = io.BytesIO()
    image.save(memory, "JPEG", quality=quality)
    return Image.open(memory).convert("RGB")


def turned(square: np.ndarray, quarters: int) -> np.ndarray:
    """The square turned clockwise."""
    return np.rot90(square, -quarters)


def tensor(squares: list[np.ndarray]) -> np.ndarray:
    """The squares as the network takes them: planes of (value - 127) / 128."""
    values = (np.stack(squares).astype(np.float32) - 127) / 128
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
