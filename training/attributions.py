"""Lists the photos that the network was trained on, as their licences ask.

    attributions.py PHOTOS

PHOTOS has a MANIFEST.tsv with `repository@commit`, `path`, `licence` and `split`. Writes ATTRIBUTIONS.tsv beside this
script, and prints the tables of DATA.md.
"""

import collections
import csv
import pathlib
import sys

import photos


def main(directory: pathlib.Path) -> None:
    used = {name for name, _ in photos.listed(directory)}
    with (directory / "MANIFEST.tsv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if row["file"] in used]
    listed = sorted((row["repository@commit"], row["path"], row["licence"], row["split"]) for row in rows)
    with (pathlib.Path(__file__).parent / "ATTRIBUTIONS.tsv").open("w", newline="") as file:
        write = csv.writer(file, delimiter="\t", lineterminator="\n")
        write.writerow(["repository@commit", "path", "licence", "split"])
        write.writerows(listed)
    counts = collections.Counter((source, licence, split) for source, _, licence, split in listed)
    print("| repository@commit | licence | train | val |\n|---|---|---|---|")
    for source, licence in sorted({(source, licence) for source, licence, _ in counts}):
        print(f"| {source} | {licence} | {counts[source, licence, 'train']} | {counts[source, licence, 'val']} |")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
