"""Writes the parallel text of the recipe: Multi30k and LibreOffice's help, in one folder.

python prepare.py MULTI30K LOHELP.tsv OUT    (MULTI30K: the folder of the captions; LOHELP.tsv: what
extract.py wrote)

The test part stands there three times: as `test`, and its captions and its help alone, since captions are all
about as long and BLEU by length would be BLEU by the kind of text.
"""

import hashlib
import sys
from pathlib import Path

from cutaway.data.parallel import read_parallel
from cutaway.data.text import decode_text, read_bytes
from cutaway.errors import CutawayError, FileFormatError, InputMissingError
from cutaway.spec import Parallel
from cutaway.store import write_file

PARTS = {"train": "train", "val": "val", "test": "test_2016_flickr"}
KINDS = ("captions", "help")
TEST_SHARE, VALIDATION_SHARE = 20, 40  # one in so many
Pair = tuple[str, str]


def part_of(english: str) -> str:
    """Where a help paragraph belongs, by a hash of its English."""
    number = int.from_bytes(hashlib.sha256(english.encode()).digest()[:8], "little")
    if number % TEST_SHARE == 0:
        return "test"
    return "val" if number // TEST_SHARE % VALIDATION_SHARE == 0 else "train"


def help_pairs(file: Path) -> list[Pair]:
    """English and German of each paragraph, those that occur twice once.

    Raises FileFormatError, with its number, for a line that is not two texts with a tab between.
    """
    pairs: dict[Pair, None] = {}
    lines = decode_text(read_bytes(file), file).removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        match line.split("\t"):
            case [english, german] if english and german:
                pairs[english, german] = None
            case _:
                raise FileFormatError(
                    file, f"line {number}: expected English, a tab and German; write the file by extract.py"
                )
    return list(pairs)


def caption_pairs(folder: Path, name: str) -> list[Pair]:
    """English and German of each caption of a part."""
    found = read_parallel(Parallel(str(folder), "en", "de"), name)
    return list(zip(found.source, found.target, strict=True))


def prepare(captions: Path, help_file: Path, out: Path) -> None:
    """Writes {train,val,test,test_captions,test_help}.{en,de} into a folder.

    Raises InputMissingError for what is not there, FileFormatError for a file that is none of pairs.
    """
    if not captions.is_dir():
        raise InputMissingError(
            f"{captions}: no such folder; MULTI30K holds train.en, train.de, val.* and test_2016_flickr.*, "
            "also as .gz"
        )
    if not help_file.is_file():
        raise InputMissingError(f"{help_file}: no such file; LOHELP.tsv is what extract.py writes")
    pairs: dict[str, dict[str, list[Pair]]] = {
        part: {"captions": caption_pairs(captions, name), "help": []} for part, name in PARTS.items()
    }
    for pair in help_pairs(help_file):
        pairs[part_of(pair[0])]["help"].append(pair)
    for part, kinds in pairs.items():
        write_pairs(out, part, [pair for kind in KINDS for pair in kinds[kind]])
    for kind in KINDS:
        write_pairs(out, f"test_{kind}", pairs["test"][kind])


def write_pairs(out: Path, part: str, pairs: list[Pair]) -> None:
    """Writes one file a language."""
    for place, language in enumerate(("en", "de")):
        write_file(out / f"{part}.{language}", "".join(f"{pair[place]}\n" for pair in pairs).encode())
    print(f"{part}: {len(pairs):,} pairs")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: prepare.py MULTI30K LOHELP.tsv OUT")
    try:
        prepare(*map(Path, sys.argv[1:]))
    except CutawayError as problem:
        sys.exit(str(problem))
