"""Makes the sample photos of the demo, and says in labels.json what is to be seen on them.

    python3 -m venv venv && venv/bin/pip install scikit-image==0.25.2 pillow==11.3.0 && venv/bin/python samples/make.py

The pictures are scikit-image's own samples; where they come from and under which licence stands in README.md.
"""

import json
import pathlib
import random

from PIL import Image, ImageDraw, ImageFilter, ImageFont
from skimage import data

HERE = pathlib.Path(__file__).parent
LABELS = {}


def runner(number: str | None, *, mirrored: bool = False, colour=(255, 255, 255), tilt: float = 0.0) -> Image.Image:
    """The astronaut, with a bib number pinned on where a runner wears it."""
    picture = Image.fromarray(data.astronaut()).resize((900, 900), Image.Resampling.LANCZOS)
    if mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if number:
        bib = placard(number, colour).rotate(tilt, expand=True, resample=Image.Resampling.BICUBIC)
        picture.paste(bib, (450 - bib.width // 2, 640), bib)
    return picture


def placard(number: str, colour) -> Image.Image:
    bib = Image.new("RGBA", (300, 210), (*colour, 255))
    draw = ImageDraw.Draw(bib)
    draw.rectangle((0, 0, 299, 32), fill=(180, 30, 45, 255))
    font = ImageFont.load_default(110 if len(number) < 4 else 96)
    draw.text((150, 120), number, fill=(15, 15, 25, 255), font=font, anchor="mm", stroke_width=3, stroke_fill=(15, 15, 25, 255))
    for x, y in ((14, 46), (286, 46), (14, 196), (286, 196)):
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=(90, 90, 90, 255))
    return bib


def pair(left: str, right: str) -> Image.Image:
    picture = Image.new("RGB", (1500, 900))
    picture.paste(runner(left).crop((100, 0, 850, 900)), (0, 0))
    picture.paste(runner(right, mirrored=True, colour=(255, 230, 90)).crop((50, 0, 800, 900)), (750, 0))
    return picture


def empty_road() -> Image.Image:
    """Nobody: a road at dusk, drawn."""
    random.seed(7)
    picture = Image.new("RGB", (1200, 800))
    draw = ImageDraw.Draw(picture)
    for y in range(800):
        draw.line((0, y, 1200, y), fill=(40 + y // 8, 60 + y // 9, 120 - y // 14))
    draw.polygon([(0, 800), (1200, 800), (640, 420), (560, 420)], fill=(70, 70, 74))
    for x in range(0, 1200, 60):
        draw.ellipse((x - 50, 340 + random.randrange(60), x + 70, 520), fill=(30, 70 + random.randrange(30), 40))
    return picture.filter(ImageFilter.GaussianBlur(2))


def save(name: str, picture: Image.Image, *, bibs=(), faces: int | None, turn: int | None = 0, **options) -> None:
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    picture.convert("RGB").save(path, **({"quality": 84} | options))
    LABELS[name] = {"bibs": bibs if bibs is None else sorted(bibs), "faces": faces, "turn": turn}


def spoil(name: str, content: bytes, reason: str) -> None:
    (HERE / name).write_bytes(content)
    LABELS[name] = {"error": reason}


def main() -> None:
    turned = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
    save("marathon/IMG_0001.jpg", runner("1482"), bibs=["1482"], faces=1)
    save("marathon/IMG_0002.jpg", runner("A207", mirrored=True, tilt=6), bibs=["A207"], faces=1)
    save("marathon/IMG_0003.jpg", pair("338", "871"), bibs=["338", "871"], faces=2)
    # Sideways pixels, and nothing that says so.
    save("marathon/IMG_0004.jpg", runner("2750").transpose(turned[90]), bibs=["2750"], faces=1, turn=270)
    save("marathon/IMG_0005.jpg", runner("615").transpose(turned[180]), bibs=["615"], faces=1, turn=180)
    # Sideways pixels, and a tag that says so: upright for every viewer that reads it.
    tag = Image.Exif()
    tag[0x0112] = 6
    save("marathon/IMG_0006.jpg", runner("4093", mirrored=True).transpose(turned[270]), bibs=["4093"], faces=1, exif=tag)
    save("marathon/IMG_0007.jpg", empty_road(), faces=0, turn=None)
    whole = (HERE / "marathon/IMG_0001.jpg").read_bytes()
    spoil("marathon/IMG_0008.jpg", whole[: len(whole) // 3], "truncated")
    save("gala/DSC_0001.jpg", runner(None), faces=1)
    save("gala/DSC_0002.png", runner(None, mirrored=True).resize((450, 450)).transpose(turned[270]), faces=1, turn=90, optimize=True)
    spoil("gala/DSC_0003.jpg", b"This is a shopping list, not a photo: milk, bread, apples.\n", "unsupported_format")
    (HERE / "labels.json").write_text(json.dumps(LABELS, indent=1) + "\n")


if __name__ == "__main__":
    main()
