"""The data of `bottleneck`: pairs from the pages of LibreOffice's help, and the parts made of them."""

import subprocess
import sys

import pytest

from cutaway.errors import FileFormatError, InputMissingError
from tests.house.tree import ROOT
from tests.recipes.scripts import script

PAGES = {
    "en-US": """<p>Open the menu</p> <h1 id="hd_1">Find &amp; Replace text</h1>
    <p id="par_1">Press <span>Ctrl</span>\n+F<br>to open the <b>bar</b>.</p> <p id="par_2">Too short</p>
    <p id="par_3">The same as there</p> <p id="bm_4">Not of the text</p>
    <p id="par_1">The second of this name.</p> <p id="par_5">Only in English here.</p>""",
    "de": """<h1 id="hd_1">Suchen und Ersetzen</h1> <p id="par_1">Drücken<br/>Sie Strg+F.</p>
    <p id="par_2">Zu kurz</p> <p id="par_1">Der zweite so genannte.</p>
    <p id="par_3">The same as there</p> <p id="bm_4">Nicht vom Text</p>""",
}
PAIRS = [
    ("Find & Replace text", "Suchen und Ersetzen"),
    ("Press Ctrl +F to open the bar.", "Drücken Sie Strg+F."),
    ("The second of this name.", "Der zweite so genannte."),
]


@pytest.fixture
def pages(tmp_path):
    """Two pages of the same text, and one that German has not."""
    for language, text in PAGES.items():
        folder = tmp_path / "usr/share/libreoffice/help" / language / "text" / "shared"
        folder.mkdir(parents=True)
        for name in ("a.html", "b.html"):
            (folder / name).write_text(f"<html><script>if (1 < 2) {{}}</script>{text}</html>")
    (folder / "b.html").unlink()
    return tmp_path


def test_paragraphs_go_together_by_their_ids(pages, capsys):
    module = script("bottleneck", "extract.py")
    assert module.help_pairs(pages) == PAIRS
    module.extract(pages, pages / "out.tsv")
    assert (pages / "out.tsv").read_text() == "".join(f"{en}\t{de}\n" for en, de in PAIRS)
    assert capsys.readouterr().out == f"{pages / 'out.tsv'}: 3 paragraphs\n"
    assert script("bottleneck", "prepare.py").help_pairs(pages / "out.tsv") == PAIRS


def test_a_language_that_is_not_there_is_named(pages):
    with pytest.raises(InputMissingError, match=r"empty/.*en-US: no help there; unpack .* `dpkg -x FILE "):
        script("bottleneck", "extract.py").help_pairs(pages / "empty")


@pytest.fixture
def given(tmp_path):
    """Three captions a part, and help enough for every part."""
    for part in ("train", "val", "test_2016_flickr"):
        for language in ("en", "de"):
            (tmp_path / f"{part}.{language}").write_text(
                "".join(f"{part} {language} {n}\n" for n in range(3))
            )
    lines = [f"help in English {n}\tHilfe auf Deutsch {n}\n" for n in range(200)]
    (tmp_path / "help.tsv").write_text("".join([*lines, *lines]))
    return tmp_path


def prepare(given, help_file="help.tsv", captions="."):
    script("bottleneck", "prepare.py").prepare(given / captions, given / help_file, given / "out")


def test_the_test_part_is_there_by_kind_too(given):
    prepare(given)
    written = {path.name: path.read_text().splitlines() for path in (given / "out").iterdir()}
    assert set(written) == {
        f"{part}.{language}"
        for part in ("train", "val", "test", "test_help", "test_captions")
        for language in ("en", "de")
    }
    for language in ("en", "de"):
        assert written[f"test_captions.{language}"] == [f"test_2016_flickr {language} {n}" for n in range(3)]
        kinds = [written[f"test_{kind}.{language}"] for kind in ("captions", "help")]
        assert written[f"test.{language}"] == [*kinds[0], *kinds[1]] and len(kinds[1]) > 3
    assert sum(len(written[f"{part}.en"]) for part in ("train", "val", "test")) == 9 + 200, "each once"
    numbers = [[line.split()[-1] for line in written[f"test_help.{language}"]] for language in ("en", "de")]
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("wrong", ["a b c\n", "a\tb\tc\n", "\tb\n", "a\t\n", "\n"])
def test_a_line_that_is_no_pair_is_named(given, wrong):
    lines = (given / "help.tsv").read_text().splitlines(keepends=True)[:200]
    (given / "wrong.tsv").write_text("".join([*lines, wrong, "a\tb\n"]))
    with pytest.raises(FileFormatError, match=r"wrong\.tsv: line 201: expected English, a tab and German"):
        prepare(given, "wrong.tsv")
    assert not (given / "out").exists()


def test_what_is_missing_is_named(given):
    with pytest.raises(InputMissingError, match=r"none\.tsv: no such file; LOHELP\.tsv is what extract"):
        prepare(given, "none.tsv")
    with pytest.raises(InputMissingError, match=r"none: no such folder; MULTI30K holds train\.en"):
        prepare(given, captions="none")
    (given / "val.de").unlink()
    with pytest.raises(InputMissingError, match=r"val\.de: no such file, nor with \.gz"):
        prepare(given)


def test_an_error_is_one_line(given):
    command = [
        sys.executable,
        ROOT / "recipes/bottleneck/prepare.py",
        given,
        given / "none.tsv",
        given / "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.startswith(str(given / "none.tsv"))
    assert done.stderr.count("\n") == 1
