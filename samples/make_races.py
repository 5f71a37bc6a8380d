"""Makes the synthetic races that the accuracy tests look at, and says in races/labels.json what is to be read on them.

    python3 -m venv venv && venv/bin/pip install scikit-image==0.25.2 pillow==13.0.0 matplotlib==3.11.2 && venv/bin/python samples/make_races.py

Runners of many sizes, one to three a photo; bibs in six faces of DejaVu and Aileron, in colours, tilted, folded, at night, half
hidden; with sponsors, years and distances that are no bib numbers.
"""

import json
import pathlib
import random

import matplotlib
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont
from skimage import data

HERE = pathlib.Path(__file__).parent / "races"
FONTS = pathlib.Path(matplotlib.get_data_path()) / "fonts/ttf"
FACES = ["DejaVuSans-Bold", "DejaVuSansMono-Bold", "DejaVuSerif-Bold", "DejaVuSans", "DejaVuSansDisplay", "DejaVuSerif"]
PAPERS = [((255, 255, 255), (15, 15, 25)), ((255, 230, 90), (20, 20, 20)), ((240, 120, 30), (255, 255, 255)),
          ((20, 60, 150), (255, 255, 255)), ((225, 240, 225), (150, 20, 30)), ((30, 30, 34), (250, 250, 250))]
NUMBERS = ["7431", "58", "A00662", "219", "59A", "1207", "36420", "884", "F123", "4096", "615", "10358"]


def placard(random, number, paper, ink):
    bib = Image.new("RGBA", (330, 240), (*paper, 255))
    draw = ImageDraw.Draw(bib)
    small = ImageFont.truetype(FONTS / "DejaVuSans-Bold.ttf", 24)
    draw.rectangle((0, 0, 329, 40), fill=random.choice([(180, 30, 45), (20, 110, 60), (40, 40, 90)]))
    draw.text((165, 20), random.choice(["CITY RUN", "Marathon 2026", "HARBOUR 10K", "TRAIL 5 K"]), fill="white", font=small, anchor="mm")
    face = random.choice(FACES)
    size = 120
    font = ImageFont.load_default(size) if face == "DejaVuSansDisplay" else ImageFont.truetype(FONTS / f"{face}.ttf", size)
    while font.getlength(number) > 290:
        size -= 4
        font = ImageFont.load_default(size) if face == "DejaVuSansDisplay" else ImageFont.truetype(FONTS / f"{face}.ttf", size)
    draw.text((165, 130), number, fill=(*ink, 255), font=font, anchor="mm", stroke_width=2, stroke_fill=(*ink, 255))
    draw.text((165, 218), random.choice(["Acme Bank", "www.sports.example", "2026", "Start 09:30"]), fill=(*ink, 255), font=small, anchor="mm")
    return bib


def folded(random, bib):
    """Bent by the wind: the right side is further away."""
    width, height = bib.size
    near = random.uniform(0.02, 0.12) * height
    return bib.transform(bib.size, Image.Transform.QUAD, (0, 0, 0, height, width, height + near, width, -near), Image.Resampling.BICUBIC)


def runner(random, number, hidden=False):
    person = Image.fromarray(data.astronaut()).resize((720, 720), Image.Resampling.LANCZOS).convert("RGBA")
    if random.random() < 0.5:
        person = person.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    person = person.crop((60, 0, 660, 720))
    if number:
        bib = folded(random, placard(random, number, *random.choice(PAPERS)))
        bib = bib.resize((random.randrange(200, 280), random.randrange(145, 190)), Image.Resampling.LANCZOS)
        bib = bib.rotate(random.uniform(-14, 14), expand=True, resample=Image.Resampling.BICUBIC)
        at = (300 - bib.width // 2, 520 - (20 if bib.height > 190 else 0))
        person.paste(bib, at, bib)
        if hidden:
            ImageDraw.Draw(person).rounded_rectangle((at[0] + bib.width * 0.45, at[1] - 30, at[0] + bib.width * 0.75, 720), 30, fill=(170, 120, 95, 255))
    return person


def road(random, width, height):
    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    for y in range(height):
        draw.line((0, y, width, y), fill=(120 - 40 * y // height, 150 - 50 * y // height, 190 - 100 * y // height))
    for x in range(-40, width, 50):
        y = height // 2 - random.randrange(height // 5)
        draw.ellipse((x - 50, y, x + 60, height * 3 // 4), fill=(30, 60 + random.randrange(50), 40))
    return picture.filter(ImageFilter.GaussianBlur(3))


def main():
    HERE.mkdir(exist_ok=True)
    labels = {}
    for number in range(24):
        r = random.Random(number)
        people = 1 + number % 3
        width, height = r.choice([(1200, 800), (800, 1200), (1500, 1000)])
        picture = road(r, width, height)
        worn, partial = r.sample(NUMBERS, people), []
        for place, bib in enumerate(worn):
            hidden = number % 8 == 5 and place == 0
            one = runner(r, bib, hidden)
            share = width / people
            scale = min(share / one.width * r.uniform(0.7, 1.0), height / one.height * r.uniform(0.45, 0.9))
            one = one.resize((int(one.width * scale), int(one.height * scale)), Image.Resampling.LANCZOS)
            left = int(place * share + (share - one.width) / 2)
            picture.paste(one, (left, height - one.height - r.randrange(height // 12)), one)
            if hidden:
                partial.append(bib)
        if number % 6 == 4:
            picture = ImageEnhance.Brightness(picture).enhance(0.45)
            noise = Image.effect_noise(picture.size, 24).convert("RGB")
            picture = ImageChops.add(picture, noise, 1, -128).filter(ImageFilter.GaussianBlur(0.7))
        name = f"race-{number:02}.jpg"
        picture.save(HERE / name, quality=74)
        labels[name] = {"bibs": [bib for bib in worn if bib not in partial], "partial": partial, "people": people}
    (HERE / "labels.json").write_text(json.dumps(labels, indent=1) + "\n")


if __name__ == "__main__":
    main()
