"""What may be in the tree: short modules with telling names, nothing large, nothing of one machine."""

import re

import pytest

from tests.house.tree import PACKAGE, modules, named, tracked

MOST_LINES = 300
LONGER_BECAUSE: dict[str, str] = {}  # path: the reason why it may be longer
MOST_BYTES = 1_000_000
VAGUE = {"utils", "util", "common", "helpers", "helper", "misc", "base"}

# Joined, so that this file does not hold what it forbids.
_PATHS = re.compile(r"(?<![\w.])/(?:" + "|".join(("root", "farm", "work", "home", "Users", "opt")) + r")/\w")
_REGISTRIES = re.compile(
    "|".join(
        ("pypi" + r"\.org", "pythonhosted" + r"\.org", "download" + r"\.pytorch", "npmjs" + r"\.(?:com|org)")
    )
    + r"|--(?:extra-)?index-"
    + r"url|https?://\S+/(?:simple|packages)/|https?://registry\."
)


def texts():
    for path in tracked():
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def found(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{named(path)}:{number}: {line.strip()[:80]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_modules_are_short():
    lengths = {named(path): len(path.read_text().splitlines()) for path in modules()}
    long = {path: lines for path, lines in lengths.items() if lines > MOST_LINES}
    assert set(long) <= set(LONGER_BECAUSE), f"over {MOST_LINES} lines: {long}"
    assert set(LONGER_BECAUSE) <= set(long), "an exception that is no longer needed"


def test_modules_have_telling_names():
    parts = {path: path.relative_to(PACKAGE).with_suffix("").parts for path in modules()}
    assert [named(path) for path, names in parts.items() if VAGUE & set(names)] == []


def test_nothing_large_is_tracked():
    assert [named(path) for path in tracked() if path.stat().st_size > MOST_BYTES] == []


def test_no_weights_no_build_products_no_runs_are_tracked():
    endings = {".safetensors", ".pt", ".pth", ".bin", ".gguf", ".npz", ".pyc", ".whl", ".lock"}
    assert [named(path) for path in tracked() if path.suffix in endings] == []


@pytest.mark.parametrize("pattern", [_PATHS, _REGISTRIES], ids=["paths", "registries"])
def test_nothing_of_one_machine_is_tracked(pattern):
    assert found(pattern) == []


@pytest.mark.parametrize("line", ["cd /" + "work/main", "see '/" + "home/ann/data'", 'open("/' + 'root/x")'])
def test_a_path_of_one_machine_would_be_found(line):
    assert _PATHS.search(line)


@pytest.mark.parametrize("line", ["tests/work/x", "../root/a", "the /workload/x", "a/home/b"])
def test_a_path_inside_the_tree_is_not_taken_for_one(line):
    assert not _PATHS.search(line)


@pytest.mark.parametrize(
    "line", ["https://download" + ".pytorch.org/whl/cpu", "-" + "-index-url x", "http://x/simple" + "/torch"]
)
def test_a_registry_would_be_found(line):
    assert _REGISTRIES.search(line)
