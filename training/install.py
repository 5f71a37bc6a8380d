"""Puts a network into the directory of models, and its SHA-256 into scripts/models.sha256.

    install.py FILE MODELS
"""

import hashlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAME = "upright.onnx"
sys.path.insert(0, str(ROOT / "scripts"))


def main(file: pathlib.Path, models: pathlib.Path) -> None:
    import prepare_models

    content = prepare_models.prepare(file.read_bytes(), ["turns", 3, 224, 224])
    (models / NAME).write_bytes(content)
    pins = ROOT / "scripts/models.sha256"
    lines = [line for line in pins.read_text().splitlines() if not line.endswith(f"  {NAME}")]
    lines.append(f"{hashlib.sha256(content).hexdigest()}  {NAME}")
    pins.write_text("".join(f"{line}\n" for line in sorted(lines, key=lambda line: line.split()[1])))


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:3]))
