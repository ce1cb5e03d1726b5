"""Public texts: taken from the cache, never taken on trust, and a remedy where there is no network."""

import hashlib
from io import BytesIO
from pathlib import Path
from urllib.error import URLError

import pytest

from cutaway.data import download
from cutaway.errors import FileFormatError, InputMissingError

TEXT = b"First Citizen:\n"
NAME = "tinyshakespeare:"


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
