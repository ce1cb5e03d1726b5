"""Writes the parallel text of the recipe: Multi30k and LibreOffice's help, in one folder.

python prepare.py MULTI30K LOHELP.tsv OUT
"""

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from cutaway.data.parallel import read_parallel
from cutaway.spec import Parallel
from cutaway.store import write_file

PARTS = {"train": "train", "val": "val", "test": "test_2016_flickr"}
TEST_SHARE, VALIDATION_SHARE = 20, 40  # one in so many


def part_of(english: str) -> str:
    """Where a help paragraph belongs, by a hash of its English."""
    number = int.from_bytes(hashlib.sha256(english.encode()).digest()[:8], "little")
    if number % TEST_SHARE == 0:
        return "test"
    return "val" if number // TEST_SHARE % VALIDATION_SHARE == 0 else "train"


def help_pairs(file: Path) -> Iterable[tuple[str, str]]:
    """English and German of each paragraph, those that occur twice once."""
    pairs = (line.split("\t") for line in file.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
    return dict.fromkeys((columns[-2], columns[-1]) for columns in pairs)


def prepare(captions: Path, help_file: Path, out: Path) -> None:
    """Writes {train,val,test}.{en,de} into a folder."""
    plan = Parallel(str(captions), "en", "de")
    pairs = {}
    for part, name in PARTS.items():
        found = read_parallel(plan, name)
        pairs[part] = list(zip(found.source, found.target, strict=True))
    for pair in help_pairs(help_file):
        pairs[part_of(pair[0])].append(pair)
    for part, rows in pairs.items():
        for language, side in zip(("en", "de"), zip(*rows, strict=True), strict=True):
            write_file(out / f"{part}.{language}", ("\n".join(side) + "\n").encode())
        print(f"{part}: {len(rows):,} pairs")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: prepare.py MULTI30K LOHELP.tsv OUT")
    prepare(*map(Path, sys.argv[1:]))
