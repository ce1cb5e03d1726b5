"""Public texts: taken from the cache, never taken on trust, and a remedy where there is no network."""

import hashlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from urllib.error import URLError

import pytest

from cutaway import spec
from cutaway.data import download
from cutaway.data.parallel import read_parallel
from cutaway.errors import FileFormatError, InputMissingError

TEXT = b"First Citizen:\n"
NAME = "tinyshakespeare:"
MULTI30K = Path(__file__).parents[2] / "../shared/data/multi30k/raw"


@pytest.fixture(autouse=True)
def public(monkeypatch, tmp_path):
    """A short text in place of the real one, an empty cache, and no network."""
    digest = hashlib.sha256(TEXT).hexdigest()
    text = download.Public("https://nowhere.invalid/input.txt", len(TEXT), digest, "public domain")
    monkeypatch.setitem(download.PUBLIC, NAME, text)
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path))
    answers(monkeypatch, URLError("no network here"))


def answers(monkeypatch, answer):
    calls = []

    def urlopen(url, timeout):
        calls.append(url)
        if isinstance(answer, Exception):
            raise answer
        return BytesIO(answer)

    monkeypatch.setattr(download, "urlopen", urlopen)
    return calls


def test_a_text_is_fetched_once(monkeypatch):
    calls = answers(monkeypatch, TEXT)
    found = download.local_sources((NAME, "stdlib:", "a.txt"))
    assert found[1:] == ("stdlib:", "a.txt") and Path(found[0]).read_bytes() == TEXT
    assert download.local_sources((NAME,)) == found[:1] and len(calls) == 1


def test_a_damaged_copy_is_fetched_again(monkeypatch):
    calls = answers(monkeypatch, TEXT)
    path = download.fetch(NAME)
    Path(path).write_bytes(TEXT[:-1])
    assert download.fetch(NAME) == path and len(calls) == 2
    assert Path(path).read_bytes() == TEXT


@pytest.mark.parametrize("wrong", [TEXT + b"more", TEXT[:-1], b"<html>not found</html>"])
def test_another_text_is_refused_and_not_kept(monkeypatch, tmp_path, wrong):
    answers(monkeypatch, wrong)
    with pytest.raises(FileFormatError, match="not the text that was meant"):
        download.fetch(NAME)
    assert not list(tmp_path.rglob("*.txt"))


@pytest.mark.parametrize(
    "problem", [URLError("no route"), TimeoutError("timed out"), ConnectionResetError("reset")]
)
def test_without_a_network_the_remedy_is_named(monkeypatch, problem):
    answers(monkeypatch, problem)
    with pytest.raises(
        InputMissingError, match=r"could not be downloaded .* yourself, name the file by --data"
    ):
        download.fetch(NAME)


FILES = {"train.de.gz": b"eins", "train.en.gz": b"one"}
FOLDER = "multi30k:"


@pytest.fixture
def folder(monkeypatch):
    """Two short files in place of the real ones."""
    files = tuple(
        download.Public(f"https://nowhere.invalid/{name}", len(data), hashlib.sha256(data).hexdigest(), "")
        for name, data in FILES.items()
    )
    monkeypatch.setitem(download.FOLDERS, FOLDER, files)


def by_name(monkeypatch, files: dict[str, bytes]) -> list[str]:
    calls = []

    def urlopen(url, timeout):
        calls.append(url)
        return BytesIO(files[url.rpartition("/")[2]])

    monkeypatch.setattr(download, "urlopen", urlopen)
    return calls


def test_a_folder_is_fetched_once_file_by_file(monkeypatch, folder):
    calls = by_name(monkeypatch, FILES)
    recipe = spec.Recipe("r", spec.quick_pair(), spec.Parallel(FOLDER))
    found = download.with_local_data(recipe)
    assert found == replace(recipe, data=spec.Parallel(download.fetch_folder(FOLDER)))
    assert {path.name: path.read_bytes() for path in Path(found.data.folder).iterdir()} == FILES
    assert len(calls) == 2
    (Path(found.data.folder) / "train.en.gz").write_bytes(b"two")
    assert download.with_local_data(recipe) == found and len(calls) == 3
    local = replace(recipe, data=spec.Parallel("some/folder"))
    assert download.with_local_data(local) == local and len(calls) == 3


def test_another_file_in_a_folder_is_refused(monkeypatch, folder):
    by_name(monkeypatch, FILES | {"train.en.gz": b"two"})
    with pytest.raises(FileFormatError, match=r"train\.en\.gz: not the text that was meant"):
        download.fetch_folder(FOLDER)


def test_without_a_network_the_folder_is_asked_for(folder):
    with pytest.raises(InputMissingError, match=r"train\.de\.gz yourself, name the folder by --data"):
        download.fetch_folder(FOLDER)


def test_a_copied_folder_is_kept_where_every_file_is_meant(tmp_path, folder):
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    assert download.keep_copy(FOLDER, tmp_path)
    assert {path.name for path in Path(download.fetch_folder(FOLDER)).iterdir()} == set(FILES)
    (tmp_path / "train.en.gz").write_bytes(b"two")
    assert not download.keep_copy(FOLDER, tmp_path) and not download.keep_copy("other:", tmp_path)


@pytest.mark.skipif(not MULTI30K.exists(), reason="needs ../shared/data/multi30k, which is absent")
def test_the_sums_are_those_of_multi30k():
    assert download.keep_copy(FOLDER, MULTI30K)
    plan = spec.Parallel(download.fetch_folder(FOLDER))
    assert len(read_parallel(plan, "test_2016_flickr").target) == 1_000
