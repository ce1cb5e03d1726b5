"""The documents are true: their Python runs, and the commands they show exist with the options they show.

```python blocks of a document run in order in one namespace, in an empty folder where `runs/demo` is a small
run if the document speaks of it. Of ```console blocks the lines after `$ ` are checked: a make target must be
in the Makefile, a `cutaway` command must answer --help and know every option and the recipe shown, a script
that `python` runs must be there. A block that cannot run in a test has `<!-- not run: the reason -->` above
it. Fragments that are no programs are ```text. The README of a recipe shows commands alone, and the
files it names are in its folder.
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cutaway.spec.recipes import shipped_groups, shipped_recipes
from tests.house.tree import ROOT, named

RECIPES = sorted((ROOT / "recipes").glob("*/README.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")), *RECIPES]
# Programs whose lines we show but do not own.
OTHERS = {"git", "cd", "pip", "python3", "export", "ls", "cat", "unzip", "apt-get", "dpkg"}
_FENCE = re.compile(r"^```(\w*)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][\w.-]*")  # whole: --step is not --steps
_FILE = re.compile(r"`((?:results/)?[\w-]+\.(?:py|json|svg|md))`")
_NOT_RUN = re.compile(r"<!-- not run: \S.*-->\s*$")


@dataclass(frozen=True)
class CodeBlock:
    language: str
    text: str
    line: int
    runs: bool


def blocks(text: str, language: str) -> list[CodeBlock]:
    return [
        CodeBlock(
            found[1],
            found[2],
            text.count("\n", 0, found.start(2)),
            not _NOT_RUN.search(text[: found.start()]),
        )
        for found in _FENCE.finditer(text)
        if found[1] == language
    ]


def run_python(text: str, name: str) -> dict[str, Any]:
    """Runs a document's programs in order in one namespace; a traceback shows the document's own lines."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(text, "python"):
        if block.runs:
            exec(compile("\n" * block.line + block.text, name, "exec"), namespace)
    return namespace


def commands(text: str) -> list[str]:
    """The command lines of a document's console blocks, continuations joined."""
    lines: list[str] = []
    for block in blocks(text, "console"):
        joined = block.text.replace("\\\n", " ")
        lines += [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
    return lines


def missing(line: str) -> str | None:
    """What keeps a command line from being one the reader can type, or None."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if words[:3] == ["python", "-m", "cutaway"]:
        words = words[2:]
    program = Path(words[0]).name if words else ""
    if program == "make":
        targets = [word for word in words[1:] if "=" not in word]
        return next((f"no target {target}" for target in targets if target not in make_targets()), None)
    if program == "cutaway":
        first = next((i for i, word in enumerate(words) if re.match(r"--?[a-zA-Z]", word)), len(words))
        code, help_text = answer(*words[1:first])
        options = [word.partition("=")[0] for word in words[first:] if re.match(r"--?[a-zA-Z]", word)]
        if code:
            return f"--help ends with {code}: {help_text[-300:]}"
        if why := missing_recipe(words[1:first]):
            return why
        known = set(_OPTION.findall(help_text))
        return next((f"no option {option}" for option in options if option not in known), None)
    if program == "python":
        script = words[1] if words[1:] else ""
        return None if (ROOT / script).is_file() else f"no script {script!r}"
    return None if program in OTHERS else f"unknown program {program!r}"


def missing_recipe(words: list[str]) -> str | None:
    """Whether `recipes` is told a recipe that is not shipped; `train` says so itself when asked for help."""
    match words:
        case ["recipes", "run" | "verify" as task, name]:
            known = {*shipped_recipes(), *(shipped_groups() if task == "run" else ())}
            return None if name in known else f"no recipe {name}"
    return None


@cache
def make_targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@cache
def answer(*words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "cutaway", *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def with_blocks(language: str) -> list[Any]:
    return [pytest.param(path, id=named(path)) for path in DOCUMENTS if blocks(path.read_text(), language)]


@pytest.mark.slow
@pytest.mark.parametrize("path", with_blocks("python"))
def test_python_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = path.read_text()
    if any("runs/demo" in block.text for block in blocks(text, "python") if block.runs):
        command = [sys.executable, "-m", "cutaway", "train", "stdlib", "--out", "runs/demo", "--steps", "4"]
        subprocess.run(command, check=True, timeout=300)
    run_python(text, named(path))


@pytest.mark.parametrize("path", with_blocks("console"))
def test_commands_exist(path):
    assert {line: why for line in commands(path.read_text()) if (why := missing(line))} == {}


def links(path: Path) -> list[str]:
    """The relative links of a document that lead nowhere."""
    text = _FENCE.sub("", path.read_text())
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [t for t in targets if "://" not in t and not (path.parent / t.partition("#")[0]).exists()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_somewhere(path):
    assert links(path) == []


def test_a_broken_link_would_be_found(tmp_path):
    (tmp_path / "a.md").write_text("[b](b.md) [c](a.md#top) [d](https://example.org)")
    assert links(tmp_path / "a.md") == ["b.md"]


def lost(readme: Path) -> list[str]:
    """Files a recipe's README names that are not in its folder; K is any seed, and before there are results
    nothing is said of them.
    """
    folder = readme.parent
    names = _FILE.findall(_FENCE.sub("", readme.read_text()))
    named_here = [n for n in names if not n.startswith("results/") or (folder / "results").is_dir()]
    return [name for name in named_here if not list(folder.glob(name.replace("-K.", "-*.")))]


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_a_recipe_has_commands_and_the_files_it_names(path):
    assert {fence[1] for fence in _FENCE.finditer(path.read_text())} == {"console"}
    assert lost(path) == []


def test_a_file_that_is_not_there_would_be_found(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("`figure.py` draws `results/a-seed-K.json` and `results/a.svg`, not `runs/x.json`")
    assert lost(readme) == ["figure.py"]
    (tmp_path / "figure.py").touch()
    (tmp_path / "results").mkdir()
    assert lost(readme) == ["results/a-seed-K.json", "results/a.svg"]
    (tmp_path / "results" / "a-seed-2.json").touch()
    assert lost(readme) == ["results/a.svg"]


DOCUMENT = """
```python
first = 1
```
text
```python
second = first + 1
```
<!-- not run: it would need a GPU -->
```python
third = undefined
```
```console
$ make demo
output
$ make \\
    test
```
"""


def test_blocks_share_a_namespace_and_reasons_are_kept():
    space = run_python(DOCUMENT, "planted")
    assert space["second"] == 2 and "third" not in space
    assert [shlex.split(line) for line in commands(DOCUMENT)] == [["make", "demo"], ["make", "test"]]


def test_a_wrong_program_fails_with_the_document_s_line():
    with pytest.raises(NameError) as failure:
        run_python(DOCUMENT.replace("<!-- not run: it would need a GPU -->", ""), "planted")
    line = DOCUMENT.splitlines().index("third = undefined") + 1
    assert failure.traceback[-1].lineno + 1 == line


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("make dmeo", "no target dmeo"),
        ("make test bnch ONLY=x", "no target bnch"),
        ("kutaway train", "unknown program"),
        ("python recipes/alignment/figur.py RUN", "no script 'recipes/alignment/figur.py'"),
    ],
)
def test_a_command_that_does_not_exist_would_be_found(line, why):
    assert why in (missing(line) or "")


@pytest.mark.parametrize(
    "line",
    [
        "make bench ONLY=decode",
        "NANOGPT=../nanoGPT make bench",
        "git clone x  # all of it",
        "python recipes/alignment/figure.py RUN DATA",
        "cutaway recipes run bert-small --seed 1",
    ],
)
def test_a_command_that_exists_passes(line):
    assert missing(line) is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("cutaway trian", "--help ends with"),
        ("cutaway train stdlib --stepps 3", "no option --stepps"),
        ("cutaway recipes run revers --seed 1", "no recipe revers"),
        ("cutaway recipes verify bert-small --seed 1", "no recipe bert-small"),
        ("cutaway train stdlib --step 3", "no option --step"),
        ("cutaway train stdlib --ou x", "no option --ou"),
    ],
)
def test_a_cutaway_command_that_does_not_exist_would_be_found(line, why):
    assert why in (missing(line) or "")
