"""Adds the models and ONNX Runtime to the list of crates, and checks it. Called by scripts/sbom.

    sbom.py CRATES OUTPUT
"""

import json
import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def main(crates: pathlib.Path, output: pathlib.Path) -> None:
    # cargo-cyclonedx names our own crates by their place on this machine.
    sbom = json.loads(crates.read_text().replace(f"path+file://{pathlib.Path.cwd()}", "photogate:"))
    models = [component(file, sha256) for file, sha256 in pinned()]
    sbom["components"] += models
    program = sbom["metadata"]["component"]["bom-ref"]
    [needs] = [entry for entry in sbom["dependencies"] if entry["ref"] == program]
    needs["dependsOn"] += [model["bom-ref"] for model in models]
    text = json.dumps(sbom, indent=2)
    if error := JsonStrictValidator(SchemaVersion.V1_5).validate_str(text):
        sys.exit(f"this is no CycloneDX 1.5: {error}")
    output.write_text(text + "\n")
    print(f"{output}: {len(sbom['components']) - len(models)} crates, {len(models)} models and libraries")


def pinned() -> list[list[str]]:
    """The files that the program loads, each with the SHA-256 that it compares before."""
    return [line.split()[::-1] for line in pathlib.Path("scripts/models.sha256").read_text().splitlines()]


def component(file: str, sha256: str) -> dict:
    """The table of models/README.md has the rest; a test compares it with `photogate models licences`."""
    table = pathlib.Path("models/README.md").read_text().splitlines()
    [row] = [line for line in table if line.startswith(f"| {file} |")]
    _, what, package, licence, source = (cell.strip() for cell in row.strip("|").split("|"))
    name, version = package.split()
    return {
        "type": "machine-learning-model" if file.endswith(".onnx") else "library",
        "bom-ref": f"models/{file}",
        "name": file,
        "version": version,
        "publisher": source,
        "description": f"{what}; from the Python package {package}",
        "hashes": [{"alg": "SHA-256", "content": sha256}],
        "licenses": [{"license": {"id": licence}}],
        "purl": f"pkg:pypi/{name}@{version}",
    }


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
