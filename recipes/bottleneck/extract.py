"""Writes LibreOffice's help in English and German side by side: a paragraph a line, a tab between.

python extract.py FOLDER OUT.tsv    (FOLDER: where `dpkg -x` put the files of the Debian packages
libreoffice-help-en-us and libreoffice-help-de)

The pages of both languages have the same names, and their paragraphs and headings the same ids. An id that
occurs twice on a page names two paragraphs: the first goes with the first, the second with the second.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path

from cutaway.data.text import decode_text, read_bytes
from cutaway.errors import CutawayError, InputMissingError
from cutaway.store import write_file

HELP = Path("usr", "share", "libreoffice", "help")
LANGUAGES = ("en-US", "de")
TAGS = {"p", "h1", "h2", "h3", "h4", "h5", "h6"}
IDS = ("par_", "hd_")  # how ids of paragraphs and headings begin
FEWEST = (3, 2)  # words of the English and of the German: what is shorter names a button or a menu
Place = tuple[str, int]


class Page(HTMLParser):
    """The pieces of text of each paragraph, by its id and how often that occurred before."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: dict[Place, list[str]] = {}
        self._open: tuple[str, list[str]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br":
            self.handle_data(" ")
        elif tag in TAGS:
            name = dict(attrs).get("id") or ""
            self._open = (tag, self._begin(name)) if name.startswith(IDS) else None

    def handle_endtag(self, tag: str) -> None:
        if self._open is not None and tag == self._open[0]:
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._open[1].append(data)

    def _begin(self, name: str) -> list[str]:
        times = 0
        while (name, times) in self.pieces:
            times += 1
        return self.pieces.setdefault((name, times), [])


def paragraphs(file: Path) -> dict[Place, str]:
    """The text of each paragraph of a page, white space made one space."""
    page = Page()
    page.feed(decode_text(read_bytes(file), file))
    page.close()
    return {place: " ".join("".join(pieces).split()) for place, pieces in page.pieces.items()}


def help_pairs(folder: Path) -> list[tuple[str, str]]:
    """English and German of each paragraph that both have, page by page; those that occur again, that are the
    same in both languages and that have fewer words than FEWEST are left out.

    Raises InputMissingError where a language is not there.
    """
    for language in LANGUAGES:
        if not (folder / HELP / language / "text").is_dir():
            raise InputMissingError(
                f"{folder / HELP / language}: no help there; unpack Debian's libreoffice-help-en-us and "
                f"libreoffice-help-de by `dpkg -x FILE {folder}`"
            )
    english, german = (folder / HELP / language for language in LANGUAGES)
    found: dict[tuple[str, str], None] = {}
    for page in sorted((english / "text").rglob("*.html")):
        other = german / page.relative_to(english)
        if other.is_file():
            theirs = paragraphs(other)
            found |= {
                (own, theirs[place]): None for place, own in paragraphs(page).items() if place in theirs
            }
    return [pair for pair in found if pair[0] != pair[1] and _is_long(pair)]


def _is_long(pair: tuple[str, str]) -> bool:
    return all(len(side.split()) >= fewest for side, fewest in zip(pair, FEWEST, strict=True))


def extract(folder: Path, out: Path) -> None:
    """Writes the pairs as lines."""
    pairs = help_pairs(folder)
    write_file(out, "".join(f"{english}\t{german}\n" for english, german in pairs).encode())
    print(f"{out}: {len(pairs):,} paragraphs")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: extract.py FOLDER OUT.tsv")
    try:
        extract(*map(Path, sys.argv[1:]))
    except CutawayError as problem:
        sys.exit(str(problem))
